//! What the access log and the metrics say of requests, after each way in which one can end.

mod common;

use std::net::SocketAddr;
use std::path::Path;

use common::{ANY_PORT, DEADLINE, Origin, Proxy, ask, hold, scripted, settings, unchecked, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

fn logged(format: &str, more: &str) -> String {
    format!("access_log = {{ file = \"access.log\", format = \"{format}\" {more} }}\nthreads = 1")
}

async fn lines(proxy: &Proxy, count: usize) -> Vec<String> {
    let path = proxy.folder.path().join("access.log");
    lines_of(&path, count).await
}

async fn lines_of(path: &Path, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    until("as many lines", async || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        lines = text.lines().map(ToOwned::to_owned).collect();
        lines.len() >= count && text.ends_with('\n')
    })
    .await;
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

/// What is left of a line when times, dates and ports are taken out.
fn shape(line: &str) -> String {
    let mut parts: Vec<&str> = line.split(' ').collect();
    assert!(parts[0].starts_with("127.0.0.1:") && parts[1].starts_with('[') && parts[1].ends_with(']'), "{line}");
    let times: Vec<&str> = parts[4].split('/').map(|time| if time == "-1" { "-1" } else { "t" }).collect();
    let times = times.join("/");
    (parts[0], parts[1], parts[4], parts[6]) = ("client", "date", &times, "octets");
    parts.join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_peer_the_client_is_the_one_of_whom_it_tells() {
    let origin = Origin::start("one").await;
    let root = logged("json", "") + "\nforwarded.trusted = [\"127.0.0.1\"]";
    let proxy = Proxy::start(&settings(&root, &unchecked("www.gslb.test", &[("app-1", origin.address)]))).await;
    for fields in ["X-Forwarded-For: 203.0.113.9\r\n", ""] {
        ask(proxy.listen, &format!("GET / HTTP/1.1\r\nHost: www.gslb.test\r\n{fields}Connection: close\r\n\r\n")).await;
    }
    let lines: Vec<Value> =
        lines(&proxy, 2).await.iter().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!((&lines[0]["client"], &lines[0]["peer"]), (&"203.0.113.9".into(), &"127.0.0.1".into()));
    assert_eq!((&lines[1]["client"], &lines[1]["peer"]), (&"127.0.0.1".into(), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_its_proxy_header_has_a_line_that_says_so() {
    let origin = Origin::start("one").await;
    let (_held, free) = hold(ANY_PORT);
    let root = logged("json", "") + &format!("\nproxy_protocol.listen = [\"{free}\"]");
    let text = settings(&root, &unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let proxy = Proxy::start(&text.replace("listen = [\"127.0.0.1:0\"]", &format!("listen = [\"{free}\"]"))).await;
    let mut stream = TcpStream::connect(free).await.expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n").await.expect("sent");
    // Its end, whatever that looks like.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await.expect("in time");
    let line: Value = serde_json::from_str(&lines(&proxy, 1).await[0]).expect("an object");
    assert_eq!((&line["cause"], &line["status"]), (&"refused".into(), &Value::Null));
    assert!(line["detail"].as_str().is_some_and(|detail| detail.contains("PROXY")), "{line}");
}

/// What is left of a line of a connection when times, dates and ports are taken out.
fn tcp_shape(line: &str) -> String {
    let mut parts: Vec<&str> = line.split(' ').collect();
    let times: Vec<&str> = parts[4].split('/').map(|time| if time == "-1" { "-1" } else { "t" }).collect();
    let times = times.join("/");
    (parts[0], parts[1], parts[4]) = ("client", "date", &times);
    parts.join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connection_that_passes_as_it_is_has_its_line() {
    for format in ["httplog", "json"] {
        let (origin, (_nobody, dead)) = (Origin::start("one").await, nothing_there());
        let tcp = |host: u8, service: &str| {
            format!("[[tcp]]\nlisten = [\"127.0.0.{host}:0\"]\n{service}\nhello = \"200ms\"\n")
        };
        let pool = |name: &str, address| unchecked(name, &[("s0", address)]).replace("]\n", "]\nmode = \"tcp\"\n");
        let services = [
            tcp(2, "service = \"db.test\""),
            tcp(3, "service = \"dead.test\""),
            tcp(4, "sni = { \"db.test\" = \"db.test\" }"),
            pool("db.test", origin.address),
            pool("dead.test", dead),
            unchecked("www.gslb.test", &[("app-1", dead)]),
        ];
        let proxy = Proxy::start(&settings(&logged(format, ""), &services.concat())).await;
        let body = ask(proxy.tcp[0], "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.head.len() as u64;
        for address in &proxy.tcp[1..] {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            // Its end, whatever that looks like.
            let _ = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await.expect("in time");
        }
        let lines = lines(&proxy, 3).await;
        if format == "httplog" {
            let shapes: Vec<_> = lines.iter().map(|line| tcp_shape(line)).collect();
            assert!(shapes[0].starts_with("client date seoul-1 db.test/s0 t/t/t ") && shapes[0].contains(" -- "));
            assert_eq!(shapes[1], "client date seoul-1 dead.test/s0 t/-1/t 0 SC 1/1/1/0/0 0/0");
            assert_eq!(shapes[2], "client date seoul-1 seoul-1/<NOSRV> -1/-1/t 0 cR 1/1/0/0/0 0/0");
            continue;
        }
        let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("an object")).collect();
        assert!(lines.iter().all(|line| line["protocol"] == "TCP" && line["method"].is_null()), "{lines:#?}");
        assert!(lines[0]["octets_down"].as_u64() >= Some(body) && lines[0]["cause"].is_null(), "{lines:#?}");
        let ends: Vec<_> = lines.iter().map(|line| (&line["service"], &line["cause"])).collect();
        assert_eq!(ends[1..], [(&"dead.test".into(), &"connect".into()), (&().into(), &"client_timeout".into())]);
        let metrics = ask(proxy.status, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.body;
        let failed = "region_proxy_request_failures_total{service=\"dead.test\",cause=\"connect\"} 1";
        assert!(metrics.contains(failed), "{metrics}");
    }
}

/// An address where nobody listens, and nobody else can while this lives.
fn nothing_there() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("an address");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

/// Sends one request of each kind to a proxy whose log has `format`; returns it and its lines.
async fn each_kind(format: &str) -> (Proxy, Vec<String>) {
    let origin = Origin::start("one").await;
    let (_nobody, dead) = nothing_there();
    let (garbage, _) = scripted("220 mail.example ESMTP\r\n").await;
    let (short, _) = scripted("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok\r\n").await;
    let services = [
        unchecked("www.gslb.test", &[("app-1", origin.address)]),
        unchecked("garbage.test", &[("app-1", garbage)]),
        unchecked("short.test", &[("app-1", short)]),
        unchecked("dead.test", &[("app-1", dead)]),
        common::service("down.test", &[("app-1", dead)], "{ path = \"/\", interval = \"1h\", fall = 1 }"),
        "[[routes]]\npath = \"/old\"\nredirect = \"https\"\n".to_owned(),
    ];
    let root = logged(format, "") + "\nlimits.response_head = \"200ms\"\nlimits.request_head = \"400ms\"";
    let proxy = Proxy::start(&settings(&root, &services.concat())).await;
    let get = async |host: &str, path: &str| {
        ask(proxy.listen, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await.status
    };
    assert_eq!(get("www.gslb.test", "/hello?x=1").await, 200);
    assert_eq!(get("down.test", "/").await, 503);
    assert_eq!(get("www.gslb.test", "/slow").await, 504);
    assert_eq!(get("garbage.test", "/").await, 502);
    assert_eq!(get("dead.test", "/").await, 502);
    assert_eq!(get("www.gslb.test", "/old/1").await, 308);
    assert_eq!(get("unknown.test", "/").await, 421);
    assert_eq!(ask(proxy.listen, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await.status, 400);
    assert_eq!(ask(proxy.listen, "GET / HTTP/1.1\r\nHost:").await.status, 408);
    lines(&proxy, 9).await;
    let mut client = TcpStream::connect(proxy.listen).await.expect("connected");
    client.write_all(b"GET /flood HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n").await.expect("sent");
    client.read_exact(&mut [0; 1000]).await.expect("some of it");
    drop(client);
    lines(&proxy, 10).await;
    let mut client = TcpStream::connect(proxy.listen).await.expect("connected");
    client.write_all(b"GET / HT").await.expect("sent");
    drop(client);
    let lines = lines(&proxy, 11).await;
    (proxy, lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_end_has_its_line_of_httplog() {
    let (_proxy, lines) = each_kind("httplog").await;
    let shapes: Vec<String> = lines.iter().map(|line| shape(line)).collect();
    let expected = [
        "client date seoul-1 www.gslb.test/app-1 t/t/t/t/t 200 octets - - ---- 1/1/1/1/0 0/0 \"GET /hello?x=1 HTTP/1.1\"",
        "client date seoul-1 down.test/<NOSRV> t/-1/-1/-1/t 503 octets - - SC-- 1/1/1/0/0 0/0 \"GET / HTTP/1.1\"",
        "client date seoul-1 www.gslb.test/app-1 t/t/t/-1/t 504 octets - - sH-- 1/1/1/0/0 0/0 \"GET /slow HTTP/1.1\"",
        "client date seoul-1 garbage.test/app-1 t/t/t/-1/t 502 octets - - PH-- 1/1/1/0/0 0/0 \"GET / HTTP/1.1\"",
        "client date seoul-1 dead.test/app-1 t/t/-1/-1/t 502 octets - - SC-- 1/1/1/0/0 0/0 \"GET / HTTP/1.1\"",
        "client date seoul-1 seoul-1/<NOSRV> t/-1/-1/-1/t 308 octets - - LR-- 1/1/0/0/0 0/0 \"GET /old/1 HTTP/1.1\"",
        "client date seoul-1 seoul-1/<NOSRV> t/-1/-1/-1/t 421 octets - - PR-- 1/1/0/0/0 0/0 \"GET / HTTP/1.1\"",
        "client date seoul-1 seoul-1/<NOSRV> -1/-1/-1/-1/t 400 octets - - PR-- 1/1/0/0/0 0/0 \"<BADREQ>\"",
        "client date seoul-1 seoul-1/<NOSRV> -1/-1/-1/-1/t 408 octets - - cR-- 1/1/0/0/0 0/0 \"<BADREQ>\"",
        "client date seoul-1 www.gslb.test/app-1 t/t/t/t/t 200 octets - - CD-- 1/1/1/1/0 0/0 \"GET /flood HTTP/1.1\"",
        "client date seoul-1 seoul-1/<NOSRV> -1/-1/-1/-1/t -1 octets - - CR-- 1/1/0/0/0 0/0 \"<BADREQ>\"",
    ];
    assert_eq!(shapes, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_end_has_its_object_of_json() {
    let (proxy, lines) = each_kind("json").await;
    let objects: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let ends = objects.iter().map(|line| {
        let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
        format!("{} {} {} {}", line["status"], text("termination"), text("cause"), text("server"))
    });
    let expected = [
        "200 ---- - app-1",
        "503 SC-- no_server -",
        "504 sH-- response_timeout app-1",
        "502 PH-- bad_response app-1",
        "502 SC-- connect app-1",
        "308 LR-- - -",
        "421 PR-- no_service -",
        "400 PR-- refused -",
        "408 cR-- client_timeout -",
        "200 CD-- client_gone app-1",
        "null CR-- client_gone -",
    ];
    assert_eq!(ends.collect::<Vec<_>>(), expected);
    assert_eq!((&objects[0]["target"], &objects[0]["host"]), (&"/hello?x=1".into(), &"www.gslb.test".into()));
    assert!(objects[2]["detail"].as_str().is_some_and(|detail| detail.contains("200ms")), "{}", objects[2]);
    assert!(objects[2]["total_ms"].as_u64().is_some_and(|ms| (190..2000).contains(&ms)), "{}", objects[2]);
    assert!(objects[4]["detail"].as_str().is_some_and(|detail| detail.contains("refused")), "{}", objects[4]);
    assert!(objects[7]["detail"].as_str().is_some_and(|detail| detail.contains("more than one Host")));
    drop(proxy);
}

#[tokio::test(flavor = "multi_thread")]
async fn octets_are_those_that_the_client_got() {
    let (address, _) = scripted("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    let services = unchecked("www.gslb.test", &[("app-1", address)]);
    let proxy = Proxy::start(&settings(&logged("json", ""), &services)).await;
    let answer = proxy.get("/").await;
    let line: Value = serde_json::from_str(&lines(&proxy, 1).await[0]).expect("an object");
    let got = answer.head.len() + 4 + answer.body.len();
    assert_eq!((line["octets_down"].as_u64(), answer.body.as_str()), (Some(got as u64), "hello"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_client_sends_breaks_a_line_or_looks_like_another_part() {
    let (address, _) = scripted("HTTP/1.1 200 OK\r\nServer: \"a\"|b\r\nContent-Length: 0\r\n\r\n").await;
    let services = unchecked("www.gslb.test", &[("app-1", address)]);
    let fields = ", request = [\"User-Agent\", \"Cookie\"], response = [\"Server\"]";
    for format in ["json", "httplog"] {
        let proxy = Proxy::start(&settings(&logged(format, fields), &services)).await;
        let evil =
            "GET /%22%0a HTTP/1.1\r\nHost: www.gslb.test\r\nUser-Agent: \"} {|\t\u{85}\r\nConnection: close\r\n\r\n";
        let status = ask(proxy.listen, evil).await.status;
        let line = lines(&proxy, 1).await.remove(0);
        assert!(line.bytes().all(|octet| octet >= b' ' && octet != 0x7F), "{line:?}");
        if format == "json" {
            let object: Value = serde_json::from_str(&line).expect("an object");
            if status == 200 {
                assert_eq!(object["request"]["user-agent"], "\"} {|\t\u{85}");
                assert_eq!(
                    (&object["request"]["cookie"], &object["response"]["server"]),
                    (&Value::Null, &"\"a\"|b".into())
                );
            }
        } else if status == 200 {
            let end = "{#22#7D #7B#7C#09#C2#85|} {#22a#22#7Cb} \"GET /%22%0a HTTP/1.1\"";
            assert!(line.ends_with(end), "{line}");
        }
        assert_eq!(status, 200, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_log_goes_on_in_a_new_file_after_sighup() {
    let origin = Origin::start("one").await;
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let proxy = Proxy::start(&settings(&logged("httplog", ""), &services)).await;
    proxy.get("/one").await;
    lines(&proxy, 1).await;
    let path = proxy.folder.path().join("access.log");
    std::fs::rename(&path, proxy.folder.path().join("access.log.1")).expect("moved");
    proxy.signal(Signal::SIGHUP);
    until("a new file", async || path.exists()).await;
    proxy.get("/two").await;
    assert!(lines(&proxy, 1).await[0].contains("/two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_are_written_before_the_end() {
    let origin = Origin::start("one").await;
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let mut proxy = Proxy::start(&settings(&logged("json", ""), &services)).await;
    for _ in 0..20 {
        assert_eq!(proxy.get("/").await.status, 200);
    }
    proxy.signal(Signal::SIGTERM);
    assert!(proxy.exit().await.success());
    assert_eq!(std::fs::read_to_string(proxy.folder.path().join("access.log")).expect("there").lines().count(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_when_the_proxy_stops_is_written_down() {
    let origin = Origin::start("one").await;
    let pool = unchecked("db.test", &[("db-1", origin.address)]).replace("]\n", "]\nmode = \"tcp\"\n");
    let tcp = "[[tcp]]\nlisten = [\"127.0.0.1:0\"]\nservice = \"db.test\"\n";
    let services = format!("{tcp}{pool}{}", unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let root = logged("json", "") + "\nlimits.stop = \"200ms\"";
    let mut proxy = Proxy::start(&settings(&root, &services)).await;
    for address in [proxy.listen, proxy.tcp[0]] {
        let text = "GET /slow HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n";
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(text.as_bytes()).await.expect("sent");
        tokio::spawn(async move { stream.read(&mut [0; 16]).await });
    }
    let in_flight = async || proxy.status().await.services.values().map(|service| service.connections).sum::<u64>();
    until("both are in flight", async || in_flight().await == 2).await;
    proxy.signal(Signal::SIGTERM);
    assert!(timeout(DEADLINE, proxy.exit()).await.expect("in time").success());
    let mut told: Vec<_> =
        lines(&proxy, 2).await.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    told.sort_by_key(|line: &Value| line["service"].to_string());
    for (line, service, state) in [(&told[0], "db.test", "KD--"), (&told[1], "www.gslb.test", "KH--")] {
        let expected = (&service.into(), &state.into(), &"stop".into(), &Value::Null);
        assert_eq!((&line["service"], &line["termination"], &line["cause"], &line["status"]), expected, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_delays_no_request() {
    let origin = Origin::start("one").await;
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let root = "access_log = { file = \"/dev/full\" }";
    let proxy = Proxy::start(&settings(root, &services)).await;
    for _ in 0..20 {
        assert_eq!(proxy.get("/").await.status, 200);
    }
    let line = proxy.logged("access log: lines lost").await;
    assert!(line.contains("No space left on device"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_whose_log_cannot_be_opened_are_refused_and_the_old_log_goes_on() {
    let origin = Origin::start("one").await;
    let root = logged("httplog", "") + "\nadmin_socket = \"ctl.sock\"";
    let text = settings(&root, &unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let proxy = Proxy::start(&text).await;
    let folder = proxy.folder.path();
    let reload = async || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_region-proxy"));
        command.args(["ctl", "reload", "--config"]).arg(proxy.config_file()).output().await.expect("it ran")
    };
    let is_refused = async || {
        let refused = reload().await;
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(why.contains("access_log: ") && why.contains("taken.log: Is a directory"), "{why}");
        assert_eq!(proxy.get("/").await.status, 200);
    };
    std::fs::create_dir(folder.join("taken.log")).expect("made");
    proxy.rewrite(&text.replace("access.log", "taken.log"));
    is_refused().await;
    lines_of(&folder.join("access.log"), 1).await;

    std::fs::remove_dir(folder.join("taken.log")).expect("removed");
    assert!(reload().await.status.success());
    assert_eq!(proxy.get("/").await.status, 200);
    lines_of(&folder.join("taken.log"), 1).await;

    // The same settings, but the file cannot be made anew: nobody is told that it was.
    std::fs::rename(folder.join("taken.log"), folder.join("moved.log")).expect("moved");
    std::fs::create_dir(folder.join("taken.log")).expect("made");
    is_refused().await;
    lines_of(&folder.join("moved.log"), 2).await;
}
