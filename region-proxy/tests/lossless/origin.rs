//! A server that notes each request while it has it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::message::{Head, read_head};

/// A server of its own.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    pub(crate) book: Arc<Book>,
    death: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
}

/// What a server has at the moment, and how much it ever had.
#[derive(Default)]
pub(crate) struct Book {
    /// Methods by the ids of their requests.
    under_way: Mutex<BTreeMap<String, String>>,
    ever: Mutex<usize>,
}

impl Book {
    fn begin(&self, head: &Head) {
        *self.ever.lock().expect("not poisoned") += 1;
        self.under_way.lock().expect("not poisoned").insert(head.id(), head.method.clone());
    }

    fn end(&self, head: &Head) {
        self.under_way.lock().expect("not poisoned").remove(&head.id());
    }

    pub(crate) fn under_way(&self) -> BTreeMap<String, String> {
        self.under_way.lock().expect("not poisoned").clone()
    }

    pub(crate) fn ever(&self) -> usize {
        *self.ever.lock().expect("not poisoned")
    }
}

impl Origin {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let (address, book) = (listener.local_addr().expect("an address"), Arc::<Book>::default());
        let death = watch::Sender::new(false);
        let serving = tokio::spawn(accept(listener, Arc::clone(&book), death.subscribe()));
        Self { address, book, death, serving }
    }

    /// Dies as by SIGKILL: all its sockets close at once. What it had at that moment, or had been sent and not read,
    /// is what it has under way for ever.
    pub(crate) async fn kill(self) -> BTreeMap<String, String> {
        self.death.send_replace(true);
        self.serving.await.expect("ended");
        self.book.under_way()
    }
}

async fn accept(listener: TcpListener, book: Arc<Book>, mut death: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            biased;
            _ = death.wait_for(|dead| *dead) => break,
            Ok((stream, _)) = listener.accept() => stream,
        };
        connections.spawn(connection(stream, Arc::clone(&book), death.clone()));
    }
    // Those that nobody has accepted may have brought a request already.
    while let Ok(stream) = rustix::net::accept(&listener) {
        note_unread(stream, &mut Vec::new(), &book);
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(mut stream: TcpStream, book: Arc<Book>, mut death: watch::Receiver<bool>) {
    let mut unread = Vec::new();
    let is_dead = tokio::select! {
        biased;
        _ = death.wait_for(|dead| *dead) => true,
        _ = serve(&mut stream, &mut unread, &book) => false,
    };
    if is_dead {
        note_unread(stream, &mut unread, &book);
    }
}

/// Closes a connection; what it has brought until now was sent to this server.
fn note_unread(stream: impl AsFd, unread: &mut Vec<u8>, book: &Book) {
    let mut bytes = [0; 4096];
    // Asks the kernel, which may know of more than the event queue has told.
    while let Ok((count @ 1.., _)) = rustix::net::recv(&stream, &mut bytes[..], RecvFlags::DONTWAIT) {
        unread.extend_from_slice(&bytes[..count]);
    }
    drop(stream);
    if let Some(head) = Head::parse(unread) {
        book.begin(&head);
    }
}

async fn serve(stream: &mut TcpStream, unread: &mut Vec<u8>, book: &Book) -> io::Result<()> {
    while let Some(head) = read_head(stream, unread).await? {
        if head.path == "/health" {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
            continue;
        }
        book.begin(&head);
        let is_tunnel = head.field("upgrade").is_some();
        if is_tunnel {
            stream.write_all(b"HTTP/1.1 101 .\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await?;
            echo(stream, unread).await?;
        } else {
            answer(stream, unread, &head).await?;
        }
        book.end(&head);
        if is_tunnel {
            return Ok(());
        }
    }
    Ok(())
}

/// Says `id`, the octets of the body that came, and as many dots as `/dots/COUNT` says, after as long as `/wait/MS` says.
async fn answer(stream: &mut TcpStream, unread: &mut Vec<u8>, head: &Head) -> io::Result<()> {
    let length = head.content_length();
    while unread.len() < length {
        if stream.read_buf(unread).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    unread.drain(..length);
    let number = |prefix| head.path.strip_prefix(prefix).and_then(|text| text.parse().ok()).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(number("/wait/"))).await;
    let body = format!("{} {length} {}", head.id(), ".".repeat(number("/dots/") as usize));
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await
}

async fn echo(stream: &mut TcpStream, unread: &mut Vec<u8>) -> io::Result<()> {
    loop {
        stream.write_all(unread).await?;
        unread.clear();
        if stream.read_buf(unread).await? == 0 {
            return Ok(());
        }
    }
}
