//! TLS towards clients, as curl, openssl and rustls see it.

#[path = "../common/mod.rs"]
mod common;
mod site;

use std::time::Duration;

use common::{ANY_PORT, DEADLINE, Origin, Proxy, ask, hold, unchecked, until};
use site::{Authority, Site, connect, curl, openssl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LAST: &str = "GET /last HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_serve_and_servers_hear_of_https() {
    let site = Site::new(&["www.gslb.test"]);
    let origin = Origin::start("one").await;
    let proxy = site.start("", "", &origin).await;
    for version in ["--tlsv1.2 --tls-max 1.2", "--tlsv1.3"] {
        for (http, alpn, via) in [("--http1.1", "http/1.1", "1.1"), ("--http2", "h2", "2.0")] {
            let args = format!("{version} {http} --cacert www.gslb.test.pem -v");
            let (text, log) = curl(&site, &proxy, "www.gslb.test", &args).await.expect("served");
            assert!(text.starts_with("one GET /\n") && text.contains("x-forwarded-proto: https\n"), "{text}");
            assert!(text.contains(&format!("via: {via} seoul-1\n")), "{text}");
            assert!(log.contains(&format!("ALPN: server accepted {alpn}")), "{log}");
        }
    }
    assert!(proxy.get("/").await.body.contains("x-forwarded-proto: http\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_can_be_switched_off() {
    let site = Site::new(&["www.gslb.test"]);
    let origin = Origin::start("one").await;
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let proxy = site.start_with("", "", &format!("[http2]\ntls = false\n{services}")).await;
    let args = "--http2 --cacert www.gslb.test.pem -v";
    let (_, log) = curl(&site, &proxy, "www.gslb.test", args).await.expect("served");
    assert!(log.contains("ALPN: server accepted http/1.1"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_https_lets_those_pass_who_are_there() {
    let site = Site::new(&["www.gslb.test"]);
    let origin = Origin::start("one").await;
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let routes = format!("[[routes]]\nredirect = \"https\"\n{services}");
    let proxy = site.start_with("", "", &routes).await;
    let plain = proxy.get("/path?query").await;
    assert!(plain.status == 308 && plain.head.contains("location: https://www.gslb.test/path?query\r\n"), "{plain:?}");
    curl(&site, &proxy, "www.gslb.test", "--cacert www.gslb.test.pem").await.expect("served");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_gets_its_certificate_and_others_the_first() {
    let site = Site::new(&["default.test", "www.gslb.test", "*.wild.test"]);
    let origin = Origin::start("one").await;
    let proxy = site.start("", "", &origin).await;
    for (host, certificate) in [
        ("default.test", "default.test.pem"),
        ("www.gslb.test", "www.gslb.test.pem"),
        ("a.wild.test", "*.wild.test.pem"),
    ] {
        curl(&site, &proxy, host, &format!("--cacert {certificate}")).await.expect(host);
    }
    let other = curl(&site, &proxy, "other.test", "--cacert default.test.pem").await;
    assert!(other.expect_err("refused").contains("no alternative certificate subject name matches"));
    let connect = proxy.tls[0].to_string();
    let args = ["s_client", "-connect", &connect, "-noservername", "-CAfile", "default.test.pem"];
    assert!(openssl(&site, &args, "").await.contains("Verify return code: 0 (ok)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_and_suites_without_aead_are_refused() {
    let site = Site::new(&["www.gslb.test"]);
    let origin = Origin::start("one").await;
    let proxy = site.start("", "", &origin).await;
    let connect = proxy.tls[0].to_string();
    for (wrong, expected) in [
        (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..], "alert handshake failure"),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"], "alert handshake failure"),
        (&["-tls1_2", "-cipher", "AES128-GCM-SHA256"], "alert handshake failure"),
        (&["-alpn", "spdy/3.1"], "alert no application protocol"),
    ] {
        let said = openssl(&site, &[&["s_client", "-connect", &connect], wrong].concat(), "").await;
        assert!(said.contains(expected), "{wrong:?}: {said}");
    }
    let site = Site::new(&["www.gslb.test"]);
    let proxy = site.start("", "min_version = \"1.3\"", &origin).await;
    let said = openssl(&site, &["s_client", "-connect", &proxy.tls[0].to_string(), "-tls1_2"], "").await;
    assert!(said.contains("alert protocol version"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_resumed_by_tickets_on_any_thread_and_after_a_reload() {
    let site = Site::new(&["www.gslb.test"]);
    let origin = Origin::start("one").await;
    let proxy = site.start("threads = 2", "", &origin).await;
    let connect = proxy.tls[0].to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let base = ["s_client", "-connect", &connect, version, "-ign_eof", "-servername", "www.gslb.test"];
        let first = openssl(&site, &[&base[..], &["-sess_out", "session"]].concat(), LAST).await;
        assert!(first.contains("New, TLSv1") && first.contains("one GET /last"), "{first}");
        for _ in 0..4 {
            let again = openssl(&site, &[&base[..], &["-sess_in", "session"]].concat(), LAST).await;
            assert!(again.contains("Reused, TLSv1") && again.contains("one GET /last"), "{again}");
        }
        site.write_identity("www.gslb.test");
        proxy.logged("certificates reloaded").await;
        let again = openssl(&site, &[&base[..], &["-sess_in", "session"]].concat(), LAST).await;
        assert!(again.contains("Reused, TLSv1"), "{again}");
    }
    let metrics = ask(proxy.status, "GET /metrics HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").await.body;
    assert!(metrics.contains("region_proxy_tls_handshakes_total{outcome=\"resumed\"} 10\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_and_connections_go_on() {
    let site = Site::new(&["www.gslb.test"]);
    let origin = Origin::start("one").await;
    let proxy = site.start("", "", &origin).await;
    let (mut old, before) = connect(proxy.tls[0]).await;
    for round in 0..3 {
        let expected = site.write_identity("www.gslb.test");
        until("the new certificate", async || connect(proxy.tls[0]).await.1 == expected).await;
        old.write_all(b"GET /kept HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n").await.expect("sent");
        let mut answer = vec![0; 4096];
        let count = timeout(DEADLINE, old.read(&mut answer)).await.expect("in time").expect("read");
        assert!(String::from_utf8_lossy(&answer[..count]).contains("200 OK"), "{round}");
        assert_ne!(before, expected);
    }
    assert_eq!(origin.shared.requests.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_certificate_leaves_the_old_one_and_says_why() {
    let site = Site::new(&["www.gslb.test"]);
    let origin = Origin::start("one").await;
    let proxy = site.start("", "", &origin).await;
    let (_, before) = connect(proxy.tls[0]).await;
    let told = async || ask(proxy.status, "GET /status HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").await.body;
    let metrics =
        async || ask(proxy.status, "GET /metrics HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").await.body;
    assert!(metrics().await.contains("region_proxy_certificate_problems 0\n"));
    site.write("www.gslb.test.pem", "nothing");
    proxy.logged("certificate not reloaded: the old one stays").await;
    let reason = "www.gslb.test.pem: no certificate in it";
    proxy.logged(reason).await;
    until("the reason in the status", async || told().await.contains(reason)).await;
    assert!(metrics().await.contains("region_proxy_certificate_problems 1\n"));
    assert_eq!(connect(proxy.tls[0]).await.1, before);
    // gslb-dns reads the same status.
    assert_eq!(proxy.status().await.services.len(), 1);
    // Half of a renewal: the certificate is new, the key is not.
    let key = site.read("www.gslb.test.key");
    let expected = site.write_identity("www.gslb.test");
    let new_key = site.read("www.gslb.test.key");
    site.write("www.gslb.test.key", &key);
    proxy.logged("www.gslb.test.key: does not belong to the first certificate").await;
    assert_eq!(connect(proxy.tls[0]).await.1, before);
    site.write("www.gslb.test.key", &new_key);
    until("the new certificate", async || connect(proxy.tls[0]).await.1 == expected).await;
    assert!(metrics().await.contains("region_proxy_certificate_problems 0\n"));
    assert!(told().await.contains("\"problems\":[]"));
    // It is renewed even while the settings are wrong.
    proxy.rewrite("nothing");
    proxy.logged("settings not reloaded").await;
    let expected = site.write_identity("www.gslb.test");
    until("the new certificate", async || connect(proxy.tls[0]).await.1 == expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_certificates_where_they_must_and_may() {
    let site = Site::new(&["www.gslb.test"]);
    let (right, wrong) = (Authority::new(), Authority::new());
    site.write("ca.pem", &right.pem());
    for (name, authority) in [("right", &right), ("wrong", &wrong)] {
        let (certificate, key) = authority.client();
        site.write(&format!("{name}.pem"), &certificate);
        site.write(&format!("{name}.key"), &key);
    }
    let origin = Origin::start("one").await;
    let proxy = site.start("", "client_certificates = { ca = \"ca.pem\" }", &origin).await;
    let with = async |proxy: &Proxy, args: &str| {
        curl(&site, proxy, "www.gslb.test", &format!("--cacert www.gslb.test.pem {args}")).await
    };
    for version in ["--tls-max 1.2", "--tlsv1.3"] {
        with(&proxy, &format!("{version} --cert right.pem --key right.key")).await.expect("served");
        with(&proxy, version).await.expect_err("refused");
        with(&proxy, &format!("{version} --cert wrong.pem --key wrong.key")).await.expect_err("refused");
    }
    let optional = Site::new(&["www.gslb.test"]);
    for file in ["ca.pem", "www.gslb.test.pem", "www.gslb.test.key"] {
        optional.write(file, &site.read(file));
    }
    let proxy = optional.start("", "client_certificates = { ca = \"ca.pem\", required = false }", &origin).await;
    with(&proxy, "").await.expect("served");
    with(&proxy, "--cert right.pem --key right.key").await.expect("served");
    with(&proxy, "--cert wrong.pem --key wrong.key").await.expect_err("refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_unchanged_both_ways_also_to_a_slow_reader() {
    let site = Site::new(&["www.gslb.test"]);
    let origin = Origin::start("one").await;
    let proxy = site.start("", "", &origin).await;
    let sent: Vec<u8> = (0..8_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for chunked in [false, true] {
        let (stream, _) = connect(proxy.tls[0]).await;
        let (mut reading, mut writing) = tokio::io::split(stream);
        let body = sent.clone();
        let upload = tokio::spawn(async move {
            let framing = match chunked {
                true => "Transfer-Encoding: chunked".to_owned(),
                false => format!("Content-Length: {}", body.len()),
            };
            let head = format!("POST /echo HTTP/1.1\r\nHost: www.gslb.test\r\n{framing}\r\nConnection: close\r\n\r\n");
            writing.write_all(head.as_bytes()).await.expect("sent");
            if !chunked {
                writing.write_all(&body).await.expect("sent");
            } else {
                for chunk in body.chunks(100_003) {
                    writing.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.expect("sent");
                    writing.write_all(chunk).await.expect("sent");
                    writing.write_all(b"\r\n").await.expect("sent");
                }
                writing.write_all(b"0\r\n\r\n").await.expect("sent");
            }
            writing.flush().await.expect("sent");
            writing
        });
        let mut received = Vec::new();
        let mut part = vec![0; 50_000];
        loop {
            let count = timeout(DEADLINE, reading.read(&mut part)).await.expect("in time").expect("a clean end");
            if count == 0 {
                break;
            }
            received.extend_from_slice(&part[..count]);
            if received.len() < 1 << 20 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        drop(upload.await.expect("sent"));
        let at = received.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let body = match chunked {
            false => received[at..].to_vec(),
            true => site::unchunked(&received[at..]),
        };
        assert!(body == sent, "{} of {}", body.len(), sent.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_come_octet_by_octet_are_read_all_the_same() {
    let site = Site::new(&["www.gslb.test"]);
    let origin = Origin::start("one").await;
    let proxy = site.start("", "", &origin).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let (address, target) = (listener.local_addr().expect("an address"), proxy.tls[0]);
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.expect("accepted");
        let server = TcpStream::connect(target).await.expect("connected");
        server.set_nodelay(true).expect("set");
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        while let Ok(octet) = from_client.read_u8().await {
            to_server.write_u8(octet).await.expect("sent");
            tokio::task::yield_now().await;
        }
    });
    let (mut stream, _) = connect(address).await;
    for _ in 0..2 {
        stream.write_all(b"GET /kept HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n").await.expect("sent");
        let mut answer = vec![0; 4096];
        let count = timeout(DEADLINE, stream.read(&mut answer)).await.expect("in time").expect("read");
        assert!(String::from_utf8_lossy(&answer[..count]).contains("one GET /kept\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_are_cut_by_the_time_limit_and_by_newer_ones() {
    let site = Site::new(&["www.gslb.test"]);
    let origin = Origin::start("one").await;
    let proxy = site.start("threads = 1\nlimits = { handshake = \"300ms\" }", "", &origin).await;
    let ended = async |stream: &mut TcpStream| {
        timeout(DEADLINE, stream.read(&mut [0; 16])).await.expect("in time").map_or(0, |count| count)
    };
    let mut silent = TcpStream::connect(proxy.tls[0]).await.expect("connected");
    // The beginning of a record that never ends.
    silent.write_all(&[22, 3, 1, 2, 0, 1]).await.expect("sent");
    assert_eq!(ended(&mut silent).await, 0);
    let site = Site::new(&["www.gslb.test"]);
    let proxy = site.start("threads = 1\nlimits = { handshake = \"1h\", handshakes = 2 }", "", &origin).await;
    let mut crowd = Vec::new();
    for _ in 0..3 {
        crowd.push(TcpStream::connect(proxy.tls[0]).await.expect("connected"));
    }
    assert_eq!(ended(&mut crowd[0]).await, 0);
    let (mut stream, _) = connect(proxy.tls[0]).await;
    stream.write_all(LAST.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("a clean end");
    assert!(answer.contains("one GET /last"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn octets_that_are_no_tls_are_answered_by_an_alert_and_the_end() {
    let site = Site::new(&["www.gslb.test"]);
    let origin = Origin::start("one").await;
    let proxy = site.start("", "", &origin).await;
    let mut stream = TcpStream::connect(proxy.tls[0]).await.expect("connected");
    stream.write_all(LAST.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("in time");
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    let metrics = ask(proxy.status, "GET /metrics HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").await.body;
    assert!(metrics.contains("region_proxy_tls_handshakes_total{outcome=\"failed\"} 1\n"), "{metrics}");
    assert_eq!(failures(&proxy).await, [("not_tls".to_owned(), 1)]);
}

/// Handshakes that failed, by reason; none where none did.
async fn failures(proxy: &Proxy) -> Vec<(String, u64)> {
    let metrics = ask(proxy.status, "GET /metrics HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").await.body;
    let rows = metrics.lines().filter_map(|line| {
        let (reason, count) =
            line.strip_prefix("region_proxy_tls_handshake_failures_total{reason=\"")?.split_once("\"} ")?;
        Some((reason.to_owned(), count.parse().expect("a number")))
    });
    rows.filter(|(_, count)| *count > 0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_fail_are_counted_by_what_ended_them() {
    let site = Site::new(&["www.gslb.test"]);
    let origin = Origin::start("one").await;
    let proxy = site.start("threads = 1\nlimits = { handshake = \"300ms\" }", "", &origin).await;
    let connect = proxy.tls[0].to_string();
    let client = ["s_client", "-connect", &connect];
    for wrong in [&["-tls1_2", "-cipher", "AES128-GCM-SHA256"][..], &["-alpn", "spdy/3.1"], &["-verify_return_error"]] {
        openssl(&site, &[&client[..], wrong].concat(), "").await;
    }
    drop(TcpStream::connect(proxy.tls[0]).await.expect("connected"));
    let _silent = TcpStream::connect(proxy.tls[0]).await.expect("connected");
    let expected = ["timeout", "client_gone", "incompatible", "no_protocol", "client_alert"];
    let expected = expected.map(|reason| (reason.to_owned(), 1));
    until("all are counted", async || failures(&proxy).await == expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_comes_before_the_handshake() {
    let site = Site::new(&["www.gslb.test"]);
    let origin = Origin::start("one").await;
    let (_held, address) = hold(ANY_PORT);
    let services = format!("[proxy_protocol]\nlisten = [\"{address}\"]\n{}", site.tls_at(&address.to_string(), ""));
    let services = format!("{services}{}", unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let proxy = Proxy::start_in(site.folder(), &common::settings("", &services)).await;
    let mut stream = TcpStream::connect(proxy.tls[0]).await.expect("connected");
    stream.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 443\r\n").await.expect("sent");
    let (mut stream, _) = site::handshake(stream).await;
    stream.write_all(LAST.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("a clean end");
    assert!(answer.contains("x-forwarded-for: 192.0.2.7\n") && answer.contains("x-forwarded-proto: https"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_passes_octets_until_both_sides_have_ended() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                let _ = stream.read(&mut bytes).await;
                let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
                stream.write_all(head.as_bytes()).await.expect("sent");
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    stream.write_all(&bytes[..count]).await.expect("sent");
                }
                stream.write_all(b"bye").await.expect("sent");
            });
        }
    });
    let site = Site::new(&["www.gslb.test"]);
    let proxy = site.start_with("", "", &unchecked("www.gslb.test", &[("app-1", address)])).await;
    let (mut stream, _) = connect(proxy.tls[0]).await;
    let ask = "GET / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.expect("sent");
    let mut bytes = vec![0; 4096];
    let count = stream.read(&mut bytes).await.expect("read");
    assert!(bytes[..count].starts_with(b"HTTP/1.1 101 "));
    stream.write_all(b"not HTTP at all").await.expect("sent");
    stream.shutdown().await.expect("half closed");
    let mut rest = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut rest)).await.expect("in time").expect("a clean end");
    assert_eq!(rest, "not HTTP at allbye");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ocsp_response_goes_with_its_certificate() {
    let site = Site::new(&["www.gslb.test"]);
    site.write("index.txt", "");
    let (pem, key) = ("www.gslb.test.pem", "www.gslb.test.key");
    let certificate = ["ocsp", "-issuer", pem, "-cert", pem, "-index", "index.txt", "-CA", pem, "-rsigner", pem];
    let said =
        openssl(&site, &[&certificate[..], &["-rkey", key, "-respout", "www.gslb.test.ocsp"]].concat(), "").await;
    assert!(site.folder().path().join("www.gslb.test.ocsp").exists(), "{said}");
    let origin = Origin::start("one").await;
    let proxy = site.start("", "", &origin).await;
    let connect = proxy.tls[0].to_string();
    let said = openssl(&site, &["s_client", "-connect", &connect, "-servername", "www.gslb.test", "-status"], "").await;
    assert!(said.contains("OCSP Response Status: successful"), "{said}");
}

#[tokio::test]
async fn check_tells_every_mistake_in_the_files() {
    let site = Site::new(&["one.test", "two.test"]);
    site.write("one.test.key", "nothing");
    site.write("two.test.pem", "nothing");
    site.write(
        "proxy.toml",
        &common::settings("", &(site.tls("") + &unchecked("s", &[("a", ([127, 0, 0, 1], 1).into())]))),
    );
    let run = async || {
        let check = tokio::process::Command::new(env!("CARGO_BIN_EXE_region-proxy"))
            .args(["check", "--config", "proxy.toml"])
            .current_dir(site.folder().path())
            .output();
        let output = check.await.expect("run");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let (code, said) = run().await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("one.test.key: no private key in it: expected one in PKCS#8"), "{said}");
    assert!(said.contains("two.test.pem: no certificate in it: expected the certificate of this server"), "{said}");
    site.write_identity("one.test");
    site.write_identity("two.test");
    assert_eq!(run().await, (Some(0), String::new()));
    std::process::Command::new("chmod")
        .args(["644", "one.test.key"])
        .current_dir(site.folder().path())
        .status()
        .expect("run");
    let (code, said) = run().await;
    assert!(code == Some(2) && said.contains("one.test.key: has mode 0644") && said.contains("chmod 600 "), "{said}");
}
