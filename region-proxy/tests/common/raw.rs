//! Connections of which every octet is written out.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{DEADLINE, Proxy, settings, unchecked};

pub const GET: &str = "GET / HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n";
pub const LAST: &str = "GET /last HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n\r\n";

/// A server that does `serve` on each connection that sends a head, with that head.
pub async fn server<F, S>(serve: S) -> SocketAddr
where
    S: Fn(TcpStream, String) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let serve = serve.clone();
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                if !head.is_empty() {
                    serve(stream, head).await;
                }
            });
        }
    });
    address
}

/// Reads up to the empty line; what is there of it at the end of the connection.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(bytes).expect("text").to_ascii_lowercase()
}

pub async fn proxy_of(root: &str, address: SocketAddr) -> Proxy {
    Proxy::start(&settings(root, &unchecked("www.gslb.test", &[("app-1", address)]))).await
}

pub async fn client_of(proxy: &Proxy, raw: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.listen).await.expect("connected");
    stream.write_all(raw.as_bytes()).await.expect("sent");
    stream
}

pub async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
    read.expect("in time").expect("read");
    String::from_utf8(bytes).expect("text")
}
