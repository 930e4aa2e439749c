//! TLS towards servers: whom they are trusted to be, what becomes of requests, and what operators are told.

mod common;

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{Answer, DEADLINE, Proxy, ask, settings};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("Authority {}", COUNT.fetch_add(1, Ordering::SeqCst));
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { pem, key: key.serialize_pem(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for `name` that ends in June of `last_year`, and its key.
    fn sign(&self, name: &str, last_year: i32, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(last_year, 6, 1));
        params.extended_key_usages = vec![usage];
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }

    /// What a server with a certificate for `name` begins with; it asks clients for one of `clients`.
    fn server(&self, name: &str, last_year: i32, clients: Option<&Self>) -> Arc<ServerConfig> {
        let (certificate, key) = self.sign(name, last_year, ExtendedKeyUsagePurpose::ServerAuth);
        Self::server_with(&certificate, &key, clients)
    }

    /// The same with its own certificate.
    fn server_itself(&self) -> Arc<ServerConfig> {
        Self::server_with(&self.pem, &self.key, None)
    }

    fn server_with(certificate: &str, key: &str, clients: Option<&Self>) -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(clients.pem.as_bytes()).expect("PEM")).expect("a root");
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                builder.with_client_cert_verifier(verifier.expect("a verifier"))
            }
        };
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        let mut config = builder.with_single_cert(chain, key).expect("a pair");
        config.ticketer = aws_lc_rs::Ticketer::new().expect("tickets");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.into()
    }
}

/// What an origin server has seen.
#[derive(Default)]
struct Seen {
    full: AtomicU64,
    resumed: AtomicU64,
    names: Mutex<Vec<String>>,
}

/// A server over TLS that answers each head as `answer` does.
async fn origin<A, F>(config: Arc<ServerConfig>, answer: A) -> (SocketAddr, Arc<Seen>)
where
    A: Fn(TlsStream<TcpStream>, String) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = std::io::Result<TlsStream<TcpStream>>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let (address, seen) = (listener.local_addr().expect("an address"), Arc::<Seen>::default());
    let noting = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (TlsAcceptor::from(Arc::clone(&config)), answer.clone());
            let seen = Arc::clone(&noting);
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let connection = stream.get_ref().1;
                let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
                if resumed { &seen.resumed } else { &seen.full }.fetch_add(1, Ordering::SeqCst);
                assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
                seen.names.lock().expect("not poisoned").extend(connection.server_name().map(str::to_owned));
                loop {
                    let head = read_head(&mut stream).await?;
                    stream = answer(stream, head).await?;
                }
                #[allow(unreachable_code, reason = "names the type of the failure")]
                Ok::<(), std::io::Error>(())
            });
        }
    });
    (address, seen)
}

async fn read_head(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn ok(mut stream: TlsStream<TcpStream>, head: String) -> std::io::Result<TlsStream<TcpStream>> {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
    stream.write_all(text.as_bytes()).await?;
    stream.flush().await?;
    Ok(stream)
}

fn write(folder: &Path, file: &str, text: &str) {
    let (path, new) = (folder.join(file), folder.join(format!("{file}.new")));
    let mut options = std::fs::OpenOptions::new();
    let mut opened = options.write(true).create(true).truncate(true).mode(0o600).open(&new).expect("opened");
    std::io::Write::write_all(&mut opened, text.as_bytes()).expect("written");
    std::fs::rename(new, path).expect("renamed");
}

/// A proxy before `servers`, spoken to by `tls` with `ca` as ca.pem; `check` is that of the service.
async fn start_in(folder: Arc<TempDir>, ca: &Authority, tls: &str, servers: &[SocketAddr], check: &str) -> Proxy {
    write(folder.path(), "ca.pem", &ca.pem);
    let servers: Vec<String> =
        servers.iter().enumerate().map(|(at, address)| format!("s{at} = \"{address}\"")).collect();
    let service =
        format!("[services.\"www.gslb.test\"]\nservers = {{ {} }}\ncheck = {check}\ntls = {tls}\n", servers.join(", "));
    Proxy::start_in(folder, &settings("threads = 1", &service)).await
}

async fn start(ca: &Authority, tls: &str, servers: &[SocketAddr]) -> Proxy {
    let folder = Arc::new(TempDir::new().expect("a folder"));
    start_in(folder, ca, tls, servers, "{ interval = \"1h\", fall = 9 }").await
}

const CA: &str = "{ ca = \"ca.pem\" }";

async fn get(proxy: &Proxy, path: &str) -> Answer {
    proxy.get(path).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_share_connections_and_new_ones_resume_sessions() {
    let ca = Authority::new();
    let (address, seen) = origin(ca.server("www.gslb.test", 2040, None), async |stream, head: String| {
        let stream = ok(stream, head.clone()).await?;
        if head.contains("/close") { Err(std::io::ErrorKind::Other.into()) } else { Ok(stream) }
    })
    .await;
    let proxy = start(&ca, CA, &[address]).await;
    // Besides its check.
    for round in 0..5 {
        for path in ["/a", "/b", "/close"] {
            let answer = get(&proxy, path).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, path), "{round}");
        }
    }
    let (full, resumed) = (seen.full.load(Ordering::SeqCst), seen.resumed.load(Ordering::SeqCst));
    assert_eq!(full + resumed, 6, "a connection for each that was closed, and one for the check");
    assert_eq!(full, 2, "the check ends before it has a ticket; all others are resumed");
    assert!(seen.names.lock().expect("not poisoned").iter().all(|name| name == "www.gslb.test"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_who_it_should_be_gets_no_request_and_the_log_says_why() {
    let (ca, other) = (Authority::new(), Authority::new());
    for (config, tls, why) in [
        (ca.server("other.test", 2040, None), CA, "its certificate is for other.test"),
        (ca.server("www.gslb.test", 2021, None), CA, "its certificate has expired at 2021-06-01"),
        (other.server("www.gslb.test", 2040, None), CA, "unknown issuer"),
        (ca.server("www.gslb.test", 2040, None), "true", "unknown issuer"),
        (ca.server_itself(), CA, "is one that signs others (CA:TRUE)"),
        (
            ca.server("www.gslb.test", 2040, None),
            "{ ca = \"ca.pem\", name = \"another.test\" }",
            "its certificate is for www.gslb.test, not for another.test",
        ),
    ] {
        let (address, _) = origin(config, ok).await;
        let proxy = start(&ca, tls, &[address]).await;
        assert_eq!(get(&proxy, "/").await.status, 502, "{why}");
        let line = proxy.logged(why).await;
        assert!(line.contains("request failed") && line.contains("TLS: "), "{line}");
        let folder = Arc::new(TempDir::new().expect("a folder"));
        let quick = "{ path = \"/\", interval = \"20ms\", rise = 1, fall = 1 }";
        let proxy = start_in(folder, &ca, tls, &[address], quick).await;
        let line = proxy.logged("server is down").await;
        assert!(line.contains(why), "{line}");
        assert_eq!(get(&proxy, "/").await.status, 503, "{why}");
    }
    let (address, _) = origin(other.server("other.test", 2021, None), ok).await;
    let proxy = start(&ca, "{ verify = false }", &[address]).await;
    assert_eq!(get(&proxy, "/any").await.body, "/any");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_told_apart_and_another_one_is_tried() {
    let ca = Authority::new();
    let (good, _) = origin(ca.server("www.gslb.test", 2040, None), ok).await;
    // Goes through the handshake of its only check, and speaks no TLS after that.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let changing = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(ca.server("www.gslb.test", 2040, None));
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a check");
        let _ = acceptor.accept(stream).await;
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let proxy = start(&ca, CA, &[changing, good]).await;
    for _ in 0..4 {
        assert_eq!(get(&proxy, "/x").await.body, "/x");
    }
    proxy.logged("is not TLS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_to_who_asks_for_it() {
    let (ca, clients) = (Authority::new(), Authority::new());
    let (address, _) = origin(ca.server("www.gslb.test", 2040, Some(&clients)), ok).await;
    let proxy = start(&ca, CA, &[address]).await;
    assert_eq!(get(&proxy, "/").await.status, 502);
    proxy.logged("it wants a client certificate").await;
    let folder = Arc::new(TempDir::new().expect("a folder"));
    let (certificate, key) = clients.sign("proxy.test", 2040, ExtendedKeyUsagePurpose::ClientAuth);
    write(folder.path(), "client.pem", &certificate);
    write(folder.path(), "client.key", &key);
    let tls = "{ ca = \"ca.pem\", client_certificate = \"client.pem\", client_key = \"client.key\" }";
    let proxy = start_in(Arc::clone(&folder), &ca, tls, &[address], "{ interval = \"1h\", fall = 9 }").await;
    assert_eq!(get(&proxy, "/shown").await.body, "/shown");
    // A broken one changes nothing, and is told of.
    write(folder.path(), "client.pem", "");
    proxy.logged("certificate for servers not reloaded").await;
    let status = ask(proxy.status, "GET /status HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").await.body;
    assert!(status.contains("client.pem: no certificate in it"), "{status}");
    assert_eq!(get(&proxy, "/still").await.body, "/still");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ca_holds_for_new_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let (address, _) = origin(new.server("www.gslb.test", 2040, None), async |stream, head| {
        drop(ok(stream, head).await?);
        Err(std::io::ErrorKind::Other.into())
    })
    .await;
    let proxy = start(&old, CA, &[address]).await;
    assert_eq!(get(&proxy, "/").await.status, 502);
    write(proxy.folder.path(), "ca.pem", &new.pem);
    proxy.logged("certificates for servers reloaded").await;
    assert_eq!(get(&proxy, "/").await.status, 200);
    write(proxy.folder.path(), "ca.pem", "nothing");
    proxy.logged("certificate for servers not reloaded").await;
    assert_eq!(get(&proxy, "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_whole_both_ways() {
    let ca = Authority::new();
    const LEN: usize = 8 << 20;
    let (address, _) = origin(ca.server("www.gslb.test", 2040, None), async |stream, head: String| {
        if head.starts_with("GET") {
            return ok(stream, head).await;
        }
        // Reads and writes at once.
        let (mut read, mut write) = tokio::io::split(stream);
        write.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n").as_bytes()).await?;
        let mut room = vec![0; 1 << 16];
        let mut left = LEN;
        while left > 0 {
            let count = read.read(&mut room).await?;
            write.write_all(&room[..count]).await?;
            left -= count;
        }
        write.flush().await?;
        Ok(read.unsplit(write))
    })
    .await;
    let proxy = start(&ca, CA, &[address]).await;
    let (mut read, mut write) = TcpStream::connect(proxy.listen).await.expect("connected").into_split();
    let bytes: Arc<Vec<u8>> = Arc::new((0..LEN).map(|at| (at % 251) as u8).collect());
    let sent = Arc::clone(&bytes);
    let sending = tokio::spawn(async move {
        let head = format!("POST /echo HTTP/1.1\r\nHost: www.gslb.test\r\nContent-Length: {LEN}\r\n\r\n");
        write.write_all(head.as_bytes()).await.expect("sent");
        write.write_all(&sent).await.expect("sent");
        write
    });
    let mut got = Vec::new();
    let reading = async {
        while got.len() < LEN || !got.ends_with(&bytes[LEN - 100..]) {
            assert!(read.read_buf(&mut got).await.expect("read") > 0, "{}", got.len());
        }
    };
    timeout(DEADLINE, reading).await.expect("in time");
    let body = got.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    assert!(got[body..] == bytes[..]);
    drop(sending.await.expect("sent"));
    assert_eq!(get(&proxy, "/after").await.body, "/after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_length_ends_with_a_word_and_not_with_a_cut() {
    let ca = Authority::new();
    let (address, _) = origin(ca.server("www.gslb.test", 2040, None), async |mut stream, head: String| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsome").await?;
        stream.flush().await?;
        if head.contains("/whole") {
            stream.shutdown().await?;
        }
        Err(std::io::ErrorKind::Other.into())
    })
    .await;
    let proxy = start(&ca, CA, &[address]).await;
    let mut ends = Vec::new();
    for path in ["/whole", "/cut"] {
        let mut stream = TcpStream::connect(proxy.listen).await.expect("connected");
        let head = format!("GET {path} HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream.shutdown().await.expect("ended");
        let mut got = Vec::new();
        let _ = timeout(DEADLINE, stream.read_to_end(&mut got)).await.expect("in time");
        ends.push(String::from_utf8_lossy(&got).ends_with("0\r\n\r\n"));
    }
    assert_eq!(ends, [true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kept_connection_says_unasked_is_for_nobody() {
    let ca = Authority::new();
    let (address, seen) = origin(ca.server("www.gslb.test", 2040, None), async |stream, head: String| {
        let mut stream = ok(stream, head).await?;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await?;
        stream.flush().await?;
        Ok(stream)
    })
    .await;
    let proxy = start(&ca, CA, &[address]).await;
    for path in ["/1", "/2", "/3"] {
        assert_eq!(get(&proxy, path).await.body, path);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(seen.full.load(Ordering::SeqCst) + seen.resumed.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_mode_reaches_servers_over_tls_too_and_either_side_may_speak_first() {
    let ca = Authority::new();
    let mut config = ServerConfig::clone(&ca.server("db.test", 2040, None));
    config.alpn_protocols.clear();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((mut stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut header = [0; 12];
                // The check sends none.
                if stream.peek(&mut header).await? < 12 || &header[..5] != b"PROXY" {
                    return acceptor.accept(stream).await.map(drop);
                }
                while stream.read_u8().await? != b'\n' {}
                let mut stream = acceptor.accept(stream).await?;
                stream.write_all(b"hello ").await?;
                stream.flush().await?;
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).await?;
                stream.write_all(&heard).await?;
                stream.shutdown().await
            });
        }
    });
    let folder = Arc::new(TempDir::new().expect("a folder"));
    write(folder.path(), "ca.pem", &ca.pem);
    let text = format!(
        "[[tcp]]\nlisten = [\"127.0.0.1:0\"]\nservice = \"db\"\n[services.db]\nmode = \"tcp\"\nsend_proxy = \"v1\"\n\
         check.interval = \"1h\"\nservers.a = {{ address = \"{address}\", tls = {{ ca = \"ca.pem\", name = \"db.test\" }} }}\n"
    );
    let proxy = Proxy::start_in(folder, &settings("threads = 1", &text)).await;
    let mut stream = TcpStream::connect(proxy.tcp[0]).await.expect("connected");
    let mut greeting = [0; 6];
    timeout(DEADLINE, stream.read_exact(&mut greeting)).await.expect("in time").expect("read");
    assert_eq!(&greeting, b"hello ");
    stream.write_all(b"world").await.expect("sent");
    stream.shutdown().await.expect("ended");
    let mut rest = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut rest)).await.expect("in time").expect("read");
    assert_eq!(rest, "world");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_goes_over_tls_where_it_is_agreed_on_and_nowhere_else() {
    let ca = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(ca.server("www.gslb.test", 2040, None));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let response = http::Response::builder().body(()).expect("a head");
                    let mut body = respond.send_response(response, false).expect("sent");
                    body.send_data(bytes::Bytes::from_static(b"second"), true).expect("sent");
                }
            });
        }
    });
    let check = "{ interval = \"1h\", fall = 9 }\nprotocol = \"h2\"";
    let folder = || Arc::new(TempDir::new().expect("a folder"));
    let proxy = start_in(folder(), &ca, CA, &[address], check).await;
    for _ in 0..3 {
        assert!(get(&proxy, "/").await.body.contains("second"));
    }
    let mut first_only = ServerConfig::clone(&ca.server("www.gslb.test", 2040, None));
    first_only.alpn_protocols.clear();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(first_only));
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(stream).await?.read_u8().await });
        }
    });
    let proxy = start_in(folder(), &ca, CA, &[address], check).await;
    assert_eq!(get(&proxy, "/").await.status, 502);
    proxy.logged("it does not speak HTTP/2 over TLS").await;
}
