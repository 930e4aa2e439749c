//! TCP mode: what passes as it is, and where it goes.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{ANY_PORT, DEADLINE, Origin, Proxy, ask, hold, settings, until};
use nix::sys::signal::Signal;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A server that says `greeting` and gives back what it gets, up to its end.
async fn echo(greeting: &'static str) -> SocketAddr {
    serve(async move |mut stream| {
        stream.write_all(greeting.as_bytes()).await?;
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await?;
        write.shutdown().await
    })
    .await
}

/// A server that does `answer` on each connection.
async fn serve<A, F>(answer: A) -> SocketAddr
where
    A: Fn(TcpStream) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = std::io::Result<()>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move { answer(stream).await });
        }
    });
    address
}

/// A service for TCP of `servers`, whose checks take none of them out; `keys` are more of it.
fn pool(name: &str, servers: &[SocketAddr], keys: &str) -> String {
    let servers: Vec<String> =
        servers.iter().enumerate().map(|(at, address)| format!("s{at} = \"{address}\"")).collect();
    let servers = servers.join(", ");
    format!(
        "[services.\"{name}\"]\nmode = \"tcp\"\nservers = {{ {servers} }}\ncheck = {{ interval = \"1h\", fall = 9 }}\n{keys}\n"
    )
}

/// A proxy with one `[[tcp]]` of these keys.
async fn start(keys: &str, services: &str) -> Proxy {
    Proxy::start(&settings("threads = 1", &format!("[[tcp]]\nlisten = [\"127.0.0.1:0\"]\n{keys}\n{services}"))).await
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.tcp[0]).await.expect("connected")
}

/// All that comes until the end.
async fn rest(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("in time")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Sends `text`, ends, and gives all that comes back.
async fn say(proxy: &Proxy, text: &[u8]) -> String {
    let mut stream = connect(proxy).await;
    stream.write_all(text).await.expect("sent");
    stream.shutdown().await.expect("ended");
    rest(&mut stream).await.unwrap_or_else(|error| error.to_string())
}

/// The first message of a TLS client that asks for `name`.
fn hello(name: &str) -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = rustls::ClientConnection::new(config.into(), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("written");
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_speak_first_and_either_side_may_end_first() {
    let proxy = start("service = \"db\"", &pool("db", &[echo("hello ").await], "")).await;
    assert_eq!(say(&proxy, b"world").await, "hello world");
    let first = serve(async |mut stream| {
        stream.write_all(b"bye").await?;
        stream.shutdown().await?;
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await?;
        assert_eq!(heard, "still here");
        Ok(())
    })
    .await;
    let proxy = start("service = \"db\"", &pool("db", &[first], "")).await;
    let mut stream = connect(&proxy).await;
    assert_eq!(rest(&mut stream).await.expect("in order"), "bye");
    stream.write_all(b"still here").await.expect("sent");
    until("the end", async || proxy.status().await.services["db"].connections == 1).await;
    stream.shutdown().await.expect("ended");
    until("the end", async || proxy.status().await.services["db"].connections == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_streams_pass_whole_both_ways_at_once_and_small_ones_after_them() {
    let proxy = start("service = \"db\"", &pool("db", &[echo("").await], "")).await;
    let (mut read, mut write) = connect(&proxy).await.into_split();
    let pattern = |at: usize| (at % 251) as u8;
    const LEN: usize = 24 << 20;
    let sending = tokio::spawn(async move {
        let bytes: Vec<u8> = (0..LEN).map(pattern).collect();
        write.write_all(&bytes).await.expect("sent");
        write
    });
    let mut bytes = vec![0; LEN];
    timeout(DEADLINE, read.read_exact(&mut bytes)).await.expect("in time").expect("read");
    assert!(bytes.iter().enumerate().all(|(at, octet)| *octet == pattern(at)));
    let mut write = sending.await.expect("sent");
    for round in 0..100_u8 {
        write.write_all(&[round; 100]).await.expect("sent");
        let mut back = [0; 100];
        timeout(DEADLINE, read.read_exact(&mut back)).await.expect("in time").expect("read");
        assert_eq!(back, [round; 100]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_all_and_the_end_behind_it() {
    const LEN: usize = 8 << 20;
    let flood = serve(async |mut stream| {
        stream.write_all(&vec![7; LEN]).await?;
        stream.shutdown().await
    })
    .await;
    let proxy = start("service = \"db\"", &pool("db", &[flood], "")).await;
    let mut stream = connect(&proxy).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rest(&mut stream).await.expect("in order").len(), LEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_in_a_hello_chooses_the_service() {
    let servers = [echo("exact ").await, echo("wild ").await, echo("other ").await];
    let services: String =
        ["exact", "wild", "other"].iter().zip(servers).map(|(name, server)| pool(name, &[server], "")).collect();
    let sni = "sni = { \"www.example.com\" = \"exact\", \"*.example.com\" = \"wild\" }";
    let open = start(&format!("service = \"other\"\n{sni}"), &services).await;
    for (name, expected) in [("WWW.example.com", "exact"), ("api.example.com", "wild"), ("a.b.example.com", "other")] {
        let bytes = hello(name);
        let mut stream = connect(&open).await;
        // In pieces, as long ones come.
        for piece in bytes.chunks(700) {
            stream.write_all(piece).await.expect("sent");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut back = vec![0; expected.len() + 1 + bytes.len()];
        timeout(DEADLINE, stream.read_exact(&mut back)).await.expect("in time").expect("read");
        assert_eq!(back, [expected.as_bytes(), b" ", &bytes].concat(), "{name}");
    }
    assert_eq!(say(&open, b"SSH-2.0-x\r\n").await, "other SSH-2.0-x\r\n");
    let closed = start(sni, &services).await;
    for unknown in [&hello("other.test")[..], b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00\x00"] {
        let got = say(&closed, unknown).await;
        assert!(got.is_empty() || got.contains("reset"), "{got}");
    }
    assert!(say(&closed, &hello("www.example.com")).await.starts_with("exact "));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_is_tried_when_one_cannot_be_connected_to() {
    // Passes its only check.
    let dying = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = dying.local_addr().expect("an address");
    let both = start("service = \"db\"", &pool("db", &[address, echo("two ").await], "")).await;
    let alone = start("service = \"db\"", &pool("db", &[address], "")).await;
    drop(dying);
    let _held = hold(address);
    for _ in 0..4 {
        assert_eq!(say(&both, b"x").await, "two x");
    }
    both.logged("Connection refused").await;
    assert_eq!(rest(&mut connect(&alone).await).await.expect("closed"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_fail_their_checks_get_nothing_and_backups_take_their_place() {
    let ((_held, gone), backup) = (hold(ANY_PORT), echo("backup ").await);
    let services = format!(
        "[services.db]\nmode = \"tcp\"\ncheck = {{ interval = \"20ms\", rise = 1, fall = 1 }}\n\
         servers = {{ a = \"{gone}\", b = {{ address = \"{backup}\", backup = true }} }}\n"
    );
    let proxy = start("service = \"db\"", &services).await;
    assert_eq!(say(&proxy, b"x").await, "backup x");
    assert!(!proxy.log.lock().expect("not poisoned").iter().any(|line| line.contains("connection failed")));
    let status = proxy.status().await.services["db"];
    assert_eq!((status.servers_up, status.servers_total), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stays_on_the_server_of_its_address() {
    let servers = [echo("1").await, echo("2").await, echo("3").await];
    let proxy = start("service = \"db\"", &pool("db", &servers, "stick = \"source\"")).await;
    let first = say(&proxy, b"").await;
    for _ in 0..6 {
        assert_eq!(say(&proxy, b"").await, first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_makes_connections_wait_for_their_turn() {
    let server = echo("").await;
    let services = format!(
        "[services.db]\nmode = \"tcp\"\ncheck.interval = \"1h\"\nqueue.time_limit = \"200ms\"\n\
         servers.a = {{ address = \"{server}\", connections = 1 }}\n"
    );
    let proxy = start("service = \"db\"", &services).await;
    let mut first = connect(&proxy).await;
    first.write_all(b"x").await.expect("sent");
    first.read_exact(&mut [0]).await.expect("echoed");
    assert_eq!(rest(&mut connect(&proxy).await).await.expect("closed"), "");
    proxy.logged("all servers were busy for too long").await;
    let mut second = connect(&proxy).await;
    drop(first);
    second.write_all(b"y").await.expect("sent");
    timeout(DEADLINE, second.read_exact(&mut [0])).await.expect("in time").expect("echoed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_passed_on_as_one_both_ways() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let server = serve(move |mut stream: TcpStream| {
        let told = told.clone();
        async move {
            let mut octet = [0];
            stream.read_exact(&mut octet).await?;
            if octet == *b"r" {
                SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                return Ok(());
            }
            stream.write_all(b"go").await?;
            let error = stream.read(&mut octet).await.expect_err("reset");
            let _ = told.send(error.kind());
            Ok(())
        }
    })
    .await;
    let proxy = start("service = \"db\"", &pool("db", &[server], "")).await;
    let mut stream = connect(&proxy).await;
    stream.write_all(b"r").await.expect("sent");
    assert_eq!(rest(&mut stream).await.expect_err("reset").kind(), std::io::ErrorKind::ConnectionReset);
    let mut stream = connect(&proxy).await;
    stream.write_all(b"x").await.expect("sent");
    stream.read_exact(&mut [0; 2]).await.expect("read");
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set");
    drop(stream);
    let kind = timeout(DEADLINE, heard.recv()).await.expect("in time").expect("told");
    assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_time_limit_ends_its_own_wait() {
    let services = pool("db", &[echo("").await], "");
    let proxy = start("sni = { \"a.test\" = \"db\" }\nhello = \"200ms\"", &services).await;
    let start_at = Instant::now();
    assert_eq!(rest(&mut connect(&proxy).await).await.expect("closed"), "");
    assert!(start_at.elapsed() >= Duration::from_millis(190) && start_at.elapsed() < Duration::from_secs(5));

    let proxy = start("service = \"db\"\nidle = \"1s\"", &services).await;
    let mut stream = connect(&proxy).await;
    // Longer than the limit, with pauses that are far below it.
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        stream.write_all(b"x").await.expect("sent");
        stream.read_exact(&mut [0]).await.expect("echoed");
    }
    assert!(rest(&mut stream).await.is_err(), "cut, not ended");

    let silent = serve(async |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        std::future::pending().await
    })
    .await;
    let proxy = start("service = \"db\"\nhalf_closed = \"200ms\"", &pool("db", &[silent], "")).await;
    let mut stream = connect(&proxy).await;
    stream.shutdown().await.expect("ended");
    assert!(rest(&mut stream).await.is_err(), "cut, not ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_http_nor_tcp_reaches_what_is_for_the_other() {
    let (origin, server) = (Origin::start("web").await, echo("db ").await);
    let services = format!(
        "{}[services.\"www.gslb.test\"]\nservers.a = \"{address}\"\ncheck.interval = \"1h\"\n\
         [services.\"both.gslb.test\"]\nmode = \"both\"\nservers.a = \"{address}\"\ncheck.interval = \"1h\"\n",
        pool("db.gslb.test", &[server], ""),
        address = origin.address
    );
    let proxy = start("service = \"both.gslb.test\"", &services).await;
    let get = async |address, host: &str| {
        ask(address, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
    };
    assert_eq!(get(proxy.listen, "db.gslb.test").await.status, 421);
    assert_eq!(get(proxy.listen, "both.gslb.test").await.status, 200);
    assert_eq!(get(proxy.tcp[0], "anything").await.status, 200);
    let names: Vec<String> = proxy.status().await.services.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["both.gslb.test", "db.gslb.test", "www.gslb.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_proxy_protocol_pass_from_side_to_side() {
    let (_held, free) = hold(ANY_PORT);
    let services = pool("db", &[echo("").await], "send_proxy = \"v1\"");
    let text = format!(
        "region = \"seoul\"\nproxy = \"seoul-1\"\nstatus = \"127.0.0.1:0\"\nlisten = [\"127.0.0.1:0\"]\n\
         proxy_protocol.listen = [\"{free}\"]\n[[tcp]]\nlisten = [\"{free}\"]\nservice = \"db\"\n{services}"
    );
    let proxy = Proxy::start(&text).await;
    let said = "PROXY TCP4 192.0.2.1 198.51.100.1 1000 443\r\nhello";
    assert_eq!(say(&proxy, said.as_bytes()).await, said);
    let refused = say(&proxy, b"hello").await;
    assert!(refused.is_empty() || refused.contains("reset"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_moves_new_connections_and_a_stop_lets_old_ones_finish() {
    let services = [pool("one", &[echo("1").await], ""), pool("two", &[echo("2").await], "")].concat();
    let mut proxy = start("service = \"one\"", &services).await;
    let mut old = connect(&proxy).await;
    old.read_exact(&mut [0]).await.expect("greeted");
    let text = format!("[[tcp]]\nlisten = [\"127.0.0.1:0\"]\nservice = \"two\"\n{services}");
    proxy.rewrite(&settings("threads = 1", &text));
    proxy.logged("settings reloaded").await;
    assert_eq!(say(&proxy, b"").await, "2");
    proxy.signal(Signal::SIGTERM);
    proxy.logged("stopping").await;
    old.write_all(b"x").await.expect("sent");
    old.shutdown().await.expect("ended");
    assert_eq!(rest(&mut old).await.expect("in order"), "x");
    assert!(proxy.exit().await.success());
}
