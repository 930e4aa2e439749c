//! Clients that stay with their servers, as the settings say, and what servers are told of clients.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{ANY_PORT, Origin, Proxy, QUICK, ask, hold, service, settings, unchecked, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn get(proxy: &Proxy, fields: &str) -> common::Answer {
    let raw = format!("GET / HTTP/1.1\r\nHost: www.gslb.test\r\n{fields}Connection: close\r\n\r\n");
    ask(proxy.listen, &raw).await
}

/// The value of the cookie `name` that `answer` sets.
fn cookie(answer: &common::Answer, name: &str) -> Option<String> {
    let line = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")?.strip_prefix(name));
    line.and_then(|rest| rest.strip_prefix('=')?.split(';').next().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inserted_cookie_keeps_a_client_on_its_server_until_that_dies() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let stick = "stick = { cookie = \"srv\", mode = \"insert\", indirect = true }\n";
    let services = service("www.gslb.test", &[("app-1", one.address), ("app-2", two.address)], QUICK) + stick;
    let proxy = Proxy::start(&settings("", &services)).await;
    let first = get(&proxy, "").await;
    let name = first.body[..3].to_owned();
    let key = cookie(&first, "srv").expect("a cookie");
    let field = format!("Cookie: a=b; srv={key}\r\n");
    for _ in 0..10 {
        let answer = get(&proxy, &field).await;
        assert!(answer.body.starts_with(&name) && cookie(&answer, "srv").is_none(), "{answer:?}");
        assert!(answer.body.contains("cookie: a=b\n"), "the server sees nothing of it: {answer:?}");
    }
    let (dead, _alive) = if name == "one" { (one, two) } else { (two, one) };
    dead.kill().await;
    let answer = get(&proxy, &field).await;
    assert!(answer.status == 200 && !answer.body.starts_with(&name), "{answer:?}");
    assert!(cookie(&answer, "srv").is_some_and(|other| other != key), "{answer:?}");
}

/// A server that sets JSESSIONID where it sees none, and says what it saw.
async fn java(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    let head = String::from_utf8_lossy(&bytes[..count]).to_ascii_lowercase();
                    let seen =
                        head.lines().filter(|line| line.starts_with("cookie:") || line.starts_with("x-forwarded-for:"));
                    let body = format!("{name} {}", seen.collect::<Vec<_>>().join(" "));
                    let set =
                        if head.contains("jsessionid=") { "" } else { "Set-Cookie: jsessionid=session; Path=/\r\n" };
                    let answer = format!("HTTP/1.1 200 OK\r\n{set}Content-Length: {}\r\n\r\n{body}", body.len());
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefixed_session_leads_back_to_its_server_which_sees_its_own_value() {
    let (one, two) = (java("one").await, java("two").await);
    let stick = "stick = { cookie = \"jsessionid\", mode = \"prefix\" }\n";
    let services = unchecked("www.gslb.test", &[("app-1", one), ("app-2", two)]) + stick;
    let proxy = Proxy::start(&settings("", &services)).await;
    let first = get(&proxy, "").await;
    let value = cookie(&first, "jsessionid").expect("a cookie");
    let name = &first.body[..3];
    assert!(value.ends_with("~session"), "{value}");
    for _ in 0..10 {
        let answer = get(&proxy, &format!("Cookie: jsessionid={value}\r\n")).await;
        assert_eq!(answer.body, format!("{name} cookie: jsessionid=session x-forwarded-for: 127.0.0.1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_a_server_that_has_all_it_may() {
    let origin = Origin::start("one").await;
    let server = format!(
        "[services.\"www.gslb.test\"]\nservers.app-1 = {{ address = \"{}\", connections = 1 }}\n\
         check = {{ interval = \"1h\" }}\nqueue = {{ length = 1, time_limit = \"300ms\" }}\n",
        origin.address
    );
    let proxy = std::sync::Arc::new(Proxy::start(&settings("threads = 1", &server)).await);
    let send = |path: &'static str| {
        let proxy = std::sync::Arc::clone(&proxy);
        tokio::spawn(async move { proxy.get(path).await })
    };
    let slow = send("/slow");
    until("one in flight", async || proxy.service_status().await.connections == 1).await;
    let waiting = send("/");
    until("one waits", async || proxy.service_status().await.connections == 2).await;
    let full = proxy.get("/").await;
    assert!(full.status == 503 && full.head.contains("retry-after"), "{full:?}");
    assert_eq!(origin.requests(), 1);
    origin.shared.release.notify_one();
    assert_eq!(slow.await.expect("answered").status, 200);
    assert_eq!(waiting.await.expect("answered").status, 200);

    let _slow = send("/slow");
    until("one in flight", async || origin.requests() == 3).await;
    assert_eq!(proxy.get("/").await.status, 503, "it waits no longer than it may");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_tells_of_the_client_and_a_server_is_told_in_turn() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    let (_held, free) = hold(ANY_PORT);
    let services = unchecked("www.gslb.test", &[("app-1", address)]) + "send_proxy = \"v1\"\n";
    let root = format!("proxy_protocol.listen = [\"{free}\"]");
    let text = settings(&root, &services).replace("listen = [\"127.0.0.1:0\"]", &format!("listen = [\"{free}\"]"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 4096];
            let Ok(count @ 1..) = stream.read(&mut bytes).await else { continue };
            let body = String::from_utf8_lossy(&bytes[..count]).to_ascii_lowercase();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let proxy = Proxy::start(&text).await;
    let request = "GET / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n\r\n";
    let answer = ask(proxy.listen, &format!("PROXY TCP4 192.0.2.7 198.51.100.1 1234 80\r\n{request}")).await;
    assert!(answer.body.starts_with("proxy tcp4 192.0.2.7 198.51.100.1 1234 80\r\nget / http/1.1\r\n"), "{answer:?}");
    assert!(answer.body.contains("x-forwarded-for: 192.0.2.7\r\n"), "{answer:?}");

    let mut bare = TcpStream::connect(proxy.listen).await.expect("connected");
    bare.write_all(request.as_bytes()).await.expect("sent");
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), bare.read_to_end(&mut bytes)).await;
    assert!(read.is_ok() && bytes.is_empty(), "who says nothing of the client gets no answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_lead_to_services_and_to_https() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let routes = "[[routes]]\npath = \"/secure\"\nredirect = \"https\"\n[[routes]]\npath = \"/api\"\nservice = \"api.gslb.test\"\n\
                  request = { set = { X-Pool = \"api\" } }\nresponse = { set = { X-From = \"api\" } }\n";
    let services = unchecked("www.gslb.test", &[("app-1", one.address)])
        + &unchecked("api.gslb.test", &[("app-1", two.address)])
        + routes;
    let proxy = Proxy::start(&settings("", &services)).await;
    assert!(proxy.get("/").await.body.starts_with("one "));
    let api = proxy.get("/api/x").await;
    assert!(api.body.starts_with("two ") && api.body.contains("x-pool: api\n"), "{api:?}");
    assert!(api.head.contains("x-from: api"), "{api:?}");
    let moved = proxy.get("/secure?q").await;
    assert_eq!(moved.status, 308);
    assert!(moved.head.contains("location: https://www.gslb.test/secure?q"), "{moved:?}");
}
