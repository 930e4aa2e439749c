//! Clients of each kind, which count what they get and note all that goes wrong.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::message::{Head, read_head};
use super::site;
use crate::common::DEADLINE;

/// What all clients of a test have in common.
pub(crate) struct Crowd {
    listen: SocketAddr,
    tls: Option<SocketAddr>,
    is_over: AtomicBool,
    /// When each request began, by its id.
    begun: Mutex<Vec<Instant>>,
    served: Mutex<Vec<&'static str>>,
    failures: Mutex<Vec<Failure>>,
}

/// A request that came to nothing.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) began: Instant,
    #[expect(dead_code, reason = "told where the test fails")]
    pub(crate) why: String,
}

/// What came of a request.
type Outcome = Result<Head, String>;

impl Crowd {
    pub(crate) fn new(listen: SocketAddr, tls: Option<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            listen,
            tls,
            is_over: AtomicBool::new(false),
            begun: Mutex::default(),
            served: Mutex::default(),
            failures: Mutex::default(),
        })
    }

    /// Has every client end with the request that it is at.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    pub(crate) fn served(&self, kind: &str) -> usize {
        self.served.lock().expect("not poisoned").iter().filter(|served| **served == kind).count()
    }

    pub(crate) fn failures(&self) -> Vec<Failure> {
        self.failures.lock().expect("not poisoned").clone()
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::SeqCst)
    }

    fn id(&self) -> String {
        let mut begun = self.begun.lock().expect("not poisoned");
        begun.push(Instant::now());
        (begun.len() - 1).to_string()
    }

    fn note(&self, kind: &'static str, id: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.served.lock().expect("not poisoned").push(kind),
            Err(why) => {
                let began = id.parse::<usize>().map(|id| self.begun.lock().expect("not poisoned")[id]);
                let failure = Failure { kind, id: id.to_owned(), began: began.expect("an id of ours"), why };
                self.failures.lock().expect("not poisoned").push(failure);
            }
        }
    }

    /// Keeps its connection for as long as it is let, and pauses for `pause` between requests.
    pub(crate) async fn keep_alive(self: Arc<Self>, path: &'static str, pause: Duration) {
        let mut connection: Option<(TcpStream, Vec<u8>)> = None;
        while self.goes_on() {
            let id = self.id();
            let (mut stream, mut unread) = match connection.take() {
                Some(connection) => connection,
                None => match self.connect().await {
                    Ok(stream) => (stream, Vec::new()),
                    Err(error) => {
                        self.note("keep-alive", &id, Err(error));
                        continue;
                    }
                },
            };
            let asked = ask(&mut stream, &mut unread, &id, &get(path, &id, ""), 0).await;
            if asked.as_ref().is_ok_and(|head| !head.is_last()) {
                connection = Some((stream, unread));
            }
            self.note("keep-alive", &id, asked.map(drop));
            sleep(pause).await;
        }
    }

    /// Connects anew for each request.
    pub(crate) async fn new_connections(self: Arc<Self>) {
        while self.goes_on() {
            let id = self.id();
            let exchange = async {
                let mut stream = self.connect().await?;
                ask(&mut stream, &mut Vec::new(), &id, &get("/", &id, "Connection: close\r\n"), 0).await
            };
            self.note("new", &id, exchange.await.map(drop));
        }
    }

    /// Does the same with TLS.
    pub(crate) async fn secure_connections(self: Arc<Self>) {
        while self.goes_on() {
            let id = self.id();
            let exchange = async {
                let stream = connect(self.tls.expect("a TLS address")).await?;
                let (mut stream, _) = site::handshake(stream).await;
                ask(&mut stream, &mut Vec::new(), &id, &get("/", &id, "Connection: close\r\n"), 0).await
            };
            self.note("TLS", &id, exchange.await.map(drop));
        }
    }

    /// Reads large responses bit by bit.
    pub(crate) async fn slow_downloads(self: Arc<Self>) {
        while self.goes_on() {
            let id = self.id();
            let exchange = async {
                let mut stream = self.connect().await?;
                let request = get("/dots/4000000", &id, "Connection: close\r\n");
                ask_slowly(&mut stream, &id, &request).await
            };
            self.note("download", &id, exchange.await.map(drop));
        }
    }

    /// Sends bodies bit by bit.
    pub(crate) async fn uploads(self: Arc<Self>) {
        while self.goes_on() {
            let id = self.id();
            let exchange = async {
                let mut stream = self.connect().await?;
                let octets = PIECES * PIECE.len();
                let head = format!(
                    "POST / HTTP/1.1\r\nHost: www.gslb.test\r\nX-Id: {id}\r\nConnection: close\r\nContent-Length: {octets}\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await.map_err(text)?;
                for _ in 0..PIECES {
                    stream.write_all(&PIECE).await.map_err(text)?;
                    sleep(Duration::from_millis(20)).await;
                }
                ask(&mut stream, &mut Vec::new(), &id, "", octets).await
            };
            self.note("upload", &id, exchange.await.map(drop));
        }
    }

    /// Posts what a server must not get twice, each with its own connection.
    pub(crate) async fn posts(self: Arc<Self>, path: &'static str) {
        while self.goes_on() {
            let id = self.id();
            let exchange = async {
                let mut stream = self.connect().await?;
                let request = get(path, &id, "Connection: close\r\nContent-Length: 3\r\n").replacen("GET", "POST", 1);
                ask(&mut stream, &mut Vec::new(), &id, &(request + "abc"), 3).await
            };
            self.note("post", &id, exchange.await.map(drop));
        }
    }

    /// Talks over one WebSocket from first to last.
    pub(crate) async fn tunnel(self: Arc<Self>) {
        let id = self.id();
        let talk = async {
            let mut stream = self.connect().await?;
            let request = get("/", &id, "Connection: Upgrade\r\nUpgrade: websocket\r\n");
            stream.write_all(request.as_bytes()).await.map_err(text)?;
            let mut unread = Vec::new();
            let head = read_head(&mut stream, &mut unread).await.map_err(text)?.ok_or("no answer")?;
            if head.path != "101" {
                return Err(format!("status {}", head.path));
            }
            while self.goes_on() {
                let word = self.id();
                stream.write_all(word.as_bytes()).await.map_err(text)?;
                let mut echo = vec![0; word.len()];
                timeout(DEADLINE, stream.read_exact(&mut echo)).await.map_err(text)?.map_err(text)?;
                if echo != word.as_bytes() {
                    return Err("another echo".to_owned());
                }
                self.note("word", &word, Ok(()));
                sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        self.note("tunnel", &id, talk.await);
    }

    /// Keeps a connection of HTTP/2 for as long as it is let.
    pub(crate) async fn streams(self: Arc<Self>, pause: Duration) {
        let mut connection: Option<SendRequest<Empty<Bytes>>> = None;
        while self.goes_on() {
            let id = self.id();
            let exchange = async {
                let mut sender = match connection.take() {
                    Some(sender) => sender,
                    None => {
                        let stream = TokioIo::new(self.connect().await?);
                        let (sender, connection) =
                            http2::handshake(TokioExecutor::new(), stream).await.map_err(text)?;
                        tokio::spawn(connection);
                        sender
                    }
                };
                // A connection that was told to end takes no more requests, which is no failure.
                if sender.ready().await.is_err() {
                    return Ok(None);
                }
                let request = Request::get("http://www.gslb.test/").header("x-id", &id).body(Empty::new());
                match sender.try_send_request(request.map_err(text)?).await {
                    Ok(response) => {
                        let status = response.status();
                        let body = response.into_body().collect().await.map_err(text)?.to_bytes();
                        let is_right = status == 200 && body.starts_with(format!("{id} 0 ").as_bytes());
                        if is_right { Ok(Some(sender)) } else { Err(format!("status {status}")) }
                    }
                    Err(mut error) => match error.take_message() {
                        // It was never sent.
                        Some(_) => Ok(None),
                        None => Err(format!("{:?}", error.into_error())),
                    },
                }
            };
            match exchange.await {
                Ok(None) => {}
                Ok(Some(sender)) => {
                    connection = Some(sender);
                    self.note("HTTP/2", &id, Ok(()));
                }
                Err(why) => self.note("HTTP/2", &id, Err(why)),
            }
            sleep(pause).await;
        }
    }

    /// Asks for the status at `address`, as `gslb-dns` does but anew each time.
    pub(crate) async fn statuses(self: Arc<Self>, address: SocketAddr) {
        while self.goes_on() {
            let id = self.id();
            let exchange = async {
                let mut stream = connect(address).await?;
                let request = "GET /status HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n";
                stream.write_all(request.as_bytes()).await.map_err(text)?;
                let mut unread = Vec::new();
                let head = read_head(&mut stream, &mut unread).await.map_err(text)?.ok_or("no answer")?;
                if head.path == "200" { Ok(()) } else { Err(format!("status {}", head.path)) }
            };
            self.note("status", &id, exchange.await);
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// All that there are in `clients`, at work.
    pub(crate) fn all(self: &Arc<Self>) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for pause in [0, 0, 30, 70].map(Duration::from_millis) {
            clients.spawn(Arc::clone(self).keep_alive("/", pause));
            clients.spawn(Arc::clone(self).streams(pause));
        }
        for _ in 0..2 {
            clients.spawn(Arc::clone(self).new_connections());
            clients.spawn(Arc::clone(self).uploads());
            clients.spawn(Arc::clone(self).slow_downloads());
        }
        if self.tls.is_some() {
            clients.spawn(Arc::clone(self).secure_connections());
        }
        clients.spawn(Arc::clone(self).tunnel());
        clients
    }

    async fn connect(&self) -> Result<TcpStream, String> {
        connect(self.listen).await
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))
}

fn get(path: &str, id: &str, rest: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: www.gslb.test\r\nX-Id: {id}\r\n{rest}\r\n")
}

/// Sends `request` and reads its response, which must be the one to `id` and its `octets`.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    unread: &mut Vec<u8>,
    id: &str,
    request: &str,
    octets: usize,
) -> Outcome {
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let head = read_head(stream, unread).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        while unread.len() < head.content_length() {
            if stream.read_buf(unread).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let body: Vec<u8> = unread.drain(..head.content_length()).collect();
        Ok::<_, io::Error>((head, String::from_utf8_lossy(&body).into_owned()))
    };
    let (head, body) = timeout(DEADLINE, exchange).await.map_err(text)?.map_err(text)?;
    let is_right = head.path == "200" && body.starts_with(&format!("{id} {octets} "));
    if is_right { Ok(head) } else { Err(format!("status {}: {}", head.path, &body[..body.len().min(100)])) }
}

/// Does the same in small pieces with pauses.
async fn ask_slowly(stream: &mut TcpStream, id: &str, request: &str) -> Outcome {
    stream.write_all(request.as_bytes()).await.map_err(text)?;
    let mut unread = Vec::new();
    let head = read_head(stream, &mut unread).await.map_err(text)?.ok_or("no answer")?;
    let mut piece = vec![0; 100_000];
    while unread.len() < head.content_length() {
        sleep(Duration::from_millis(10)).await;
        match timeout(DEADLINE, stream.read(&mut piece)).await.map_err(text)?.map_err(text)? {
            0 => return Err(format!("broke off after {} octets", unread.len())),
            count => unread.extend_from_slice(&piece[..count]),
        }
    }
    let is_right = head.path == "200" && unread.starts_with(format!("{id} 0 .").as_bytes());
    if is_right { Ok(head) } else { Err(format!("status {}", head.path)) }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

const PIECE: [u8; 8192] = [b'u'; 8192];
const PIECES: usize = 20;
