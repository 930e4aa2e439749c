//! A real `region-proxy` process, origin servers and a plain client, all on loopback.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

pub mod raw;

pub const TOKEN: &str = "0123456789abcdef";
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `is_so`, and fails with `what` when it is not so in time.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A port of loopback that the system chooses.
pub const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Holds `address`, which is given back with its port, so that no test gets it by chance: until a proxy whose settings name
/// it listens there, connections are refused.
pub fn hold(address: SocketAddr) -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("set");
    socket.bind(address).expect("an address");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

/// An origin server.
pub struct Origin {
    pub address: SocketAddr,
    pub shared: Arc<OriginState>,
    tasks: JoinSet<()>,
}

pub struct OriginState {
    pub name: &'static str,
    pub health: AtomicU16,
    /// Requests, checks apart.
    pub requests: AtomicU64,
    /// Connections that carried a request, checks apart.
    pub connections: AtomicU64,
    /// Lets `/slow` and `/drip` go on.
    pub release: Notify,
}

type OriginBody = BoxBody<Bytes, Infallible>;

impl Origin {
    pub async fn start(name: &'static str) -> Self {
        Self::start_at(name, ANY_PORT).await
    }

    pub async fn start_at(name: &'static str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("an address");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(OriginState {
            name,
            health: AtomicU16::new(200),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            release: Notify::new(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, tasks }
    }

    /// Closes its listener and all its connections.
    pub async fn kill(mut self) -> SocketAddr {
        self.tasks.shutdown().await;
        self.address
    }

    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, shared: Arc<OriginState>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let served = AtomicU64::new(0);
            let service = service_fn(|request: Request<Incoming>| {
                if request.uri().path() != "/health" {
                    shared.requests.fetch_add(1, Ordering::SeqCst);
                    if served.fetch_add(1, Ordering::SeqCst) == 0 {
                        shared.connections.fetch_add(1, Ordering::SeqCst);
                    }
                }
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(origin_answer(request, shared).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn origin_answer(request: Request<Incoming>, shared: Arc<OriginState>) -> Response<OriginBody> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/health" => {
            let status = StatusCode::from_u16(shared.health.load(Ordering::SeqCst)).expect("a status");
            Response::builder().status(status).body(full("")).expect("a response")
        }
        "/slow" => {
            shared.release.notified().await;
            Response::new(full("slow"))
        }
        "/drip" => {
            let (sender, receiver) = mpsc::channel(1);
            tokio::spawn(async move {
                let _ = sender.send(Bytes::from_static(b"first")).await;
                shared.release.notified().await;
                let _ = sender.send(Bytes::from_static(b"second")).await;
            });
            Response::new(stream(receiver))
        }
        "/flood" => {
            let (sender, receiver) = mpsc::channel(1);
            tokio::spawn(async move { while sender.send(Bytes::from(vec![0; 1 << 16])).await.is_ok() {} });
            Response::new(stream(receiver))
        }
        "/echo" => Response::new(request.into_body().map_err(|error| panic!("{error}")).boxed()),
        "/hop" => Response::builder()
            .header("connection", "x-private")
            .header("x-private", "1")
            .header("x-public", "1")
            .body(full("hop"))
            .expect("a response"),
        _ => {
            let mut text = format!("{} {} {}\n", shared.name, request.method(), request.uri());
            for (name, value) in request.headers() {
                text += &format!("{name}: {}\n", value.to_str().expect("text"));
            }
            let body = request.into_body().collect().await.map(|body| body.to_bytes().len());
            text += &format!("body {body:?}\n");
            Response::new(full(text))
        }
    }
}

fn full(text: impl Into<Bytes>) -> OriginBody {
    Full::new(text.into()).boxed()
}

fn stream(receiver: mpsc::Receiver<Bytes>) -> OriginBody {
    struct Parts(mpsc::Receiver<Bytes>);
    impl hyper::body::Body for Parts {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(cx).map(|part| part.map(|part| Ok(Frame::data(part))))
        }
    }
    Parts(receiver).boxed()
}

/// A server that answers each read with `reply`, whatever it was asked, and what it has read so far.
pub async fn scripted(reply: &'static str) -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    let seen = Arc::new(Mutex::new(String::new()));
    let noting = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let noting = Arc::clone(&noting);
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    noting.lock().expect("not poisoned").push_str(&String::from_utf8_lossy(&bytes[..count]));
                    let _ = stream.write_all(reply.as_bytes()).await;
                }
            });
        }
    });
    (address, seen)
}

/// A running `region-proxy`.
pub struct Proxy {
    pub folder: Arc<TempDir>,
    /// The first address in `listens`.
    pub listen: SocketAddr,
    pub listens: Vec<SocketAddr>,
    /// Where it speaks TLS.
    pub tls: Vec<SocketAddr>,
    /// Where it passes what comes as it is.
    pub tcp: Vec<SocketAddr>,
    pub status: SocketAddr,
    pub log: Arc<Mutex<Vec<String>>>,
    child: Child,
}

/// Settings with both listeners on ephemeral ports; `rest` comes after the keys of the root.
pub fn settings(root: &str, services: &str) -> String {
    format!(
        "region = \"seoul\"\nproxy = \"seoul-1\"\nlisten = [\"127.0.0.1:0\"]\nstatus = \"127.0.0.1:0\"\n{root}\n{services}"
    )
}

/// A service of `servers` that is checked so rarely that only its first check counts.
pub fn unchecked(name: &str, servers: &[(&str, SocketAddr)]) -> String {
    service(name, servers, "{ interval = \"1h\" }")
}

pub fn service(name: &str, servers: &[(&str, SocketAddr)], check: &str) -> String {
    let servers: Vec<String> = servers.iter().map(|(name, address)| format!("{name} = \"{address}\"")).collect();
    format!("[services.\"{name}\"]\nservers = {{ {} }}\ncheck = {check}\n", servers.join(", "))
}

/// A check that takes a server out and back within some tens of milliseconds.
pub const QUICK: &str = "{ path = \"/health\", interval = \"20ms\", time_limit = \"500ms\", rise = 2, fall = 2 }";

impl Proxy {
    pub async fn start(settings: &str) -> Self {
        let folder = Arc::new(TempDir::new().expect("a folder"));
        std::fs::write(folder.path().join("token"), TOKEN).expect("written");
        Self::start_in(folder, settings).await
    }

    pub async fn start_in(folder: Arc<TempDir>, settings: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_region-proxy"));
        command.args(["serve", "--config"]).arg(folder.path().join("proxy.toml"));
        Self::start_by(command, folder, settings).await
    }

    /// Runs `command`, which leads to a proxy by `proxy.toml` in `folder`.
    pub async fn start_by(mut command: Command, folder: Arc<TempDir>, settings: &str) -> Self {
        std::fs::write(folder.path().join("proxy.toml"), settings).expect("written");
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("started");
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let writing = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("  {line}");
                writing.lock().expect("not poisoned").push(line);
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut proxy = Self {
            folder,
            listen: nowhere,
            listens: Vec::new(),
            tls: Vec::new(),
            tcp: Vec::new(),
            status: nowhere,
            log,
            child,
        };
        let ready = proxy.logged(" status=").await;
        let field = |name: &str| {
            let at = ready.find(name).expect("it names its addresses") + name.len();
            ready[at..]
                .split(|c: char| c.is_whitespace() || c == '"')
                .find(|text| !text.is_empty())
                .expect("an address")
        };
        proxy.listens = field("listen=").split(',').map(parse).collect();
        if ready.contains("tcp=") {
            proxy.tcp = field("tcp=").split(',').map(parse).collect();
        }
        if ready.contains("tls=") {
            proxy.tls = field("tls=").split(',').map(parse).collect();
        }
        (proxy.listen, proxy.status) = (proxy.listens[0], parse(field("status=")));
        proxy
    }

    /// Waits for a log line with `text`.
    pub async fn logged(&self, text: &str) -> String {
        let mut found = None;
        until(text, async || {
            found = self.log.lock().expect("not poisoned").iter().find(|line| line.contains(text)).cloned();
            found.is_some()
        })
        .await;
        found.expect("just found")
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("proxy.toml")
    }

    /// Replaces the settings as editors do.
    pub fn rewrite(&self, settings: &str) {
        let new = self.folder.path().join("proxy.toml.new");
        std::fs::write(&new, settings).expect("written");
        std::fs::rename(new, self.config_file()).expect("renamed");
    }

    pub fn pid(&self) -> i32 {
        self.child.id().expect("it runs") as i32
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("it runs");
    }

    pub async fn exit(&mut self) -> ExitStatus {
        tokio::time::timeout(DEADLINE, self.child.wait()).await.expect("in time").expect("an exit status")
    }

    pub async fn get(&self, path: &str) -> Answer {
        ask(self.listen, &format!("GET {path} HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n\r\n")).await
    }

    pub async fn status(&self) -> shared::published::Status {
        let answer = ask(self.status, "GET /status HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").await;
        assert_eq!(answer.status, 200);
        serde_json::from_str(&answer.body).expect("a status")
    }

    pub async fn service_status(&self) -> shared::published::ServiceStatus {
        self.status().await.services["www.gslb.test"]
    }

    pub async fn change(&self, path: &str, token: Option<&str>) -> Answer {
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        ask(self.status, &format!("POST {path} HTTP/1.1\r\nHost: s\r\n{token}Connection: close\r\n\r\n")).await
    }
}

fn parse(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Sends `raw` and reads to the end of the connection.
pub async fn ask(address: SocketAddr, raw: &str) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(raw.as_bytes()).await.expect("sent");
        read_answer(&mut stream).await
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("in time")
}

pub async fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("an answer");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}
