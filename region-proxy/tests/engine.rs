//! Both sides at once: interim and early responses, pipelines, trailers, tunnels, large bodies, crowds.

mod common;

use std::time::Duration;

use common::raw::{GET, LAST, client_of, proxy_of, read_head, rest, server};
use common::{DEADLINE, Origin, ask, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const WEBSOCKET: &str =
    "GET /chat HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn after_101_octets_pass_both_ways_until_both_sides_end() {
    let address = server(async |mut stream: TcpStream, head: String| {
        assert!(head.contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirst";
        stream.write_all(answer.as_bytes()).await.expect("sent");
        let mut bytes = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            stream.write_all(&bytes[..count]).await.expect("sent");
        }
        stream.write_all(b"bye").await.expect("sent");
    })
    .await;
    let proxy = proxy_of("", address).await;
    let mut client = client_of(&proxy, WEBSOCKET).await;
    let head = read_head(&mut client).await;
    assert!(head.starts_with("http/1.1 101") && head.contains("connection: upgrade\r\nupgrade: websocket"), "{head}");
    let mut first = [0; 5];
    client.read_exact(&mut first).await.expect("read");
    assert_eq!(&first, b"first");
    client.write_all(b"not HTTP at all").await.expect("sent");
    client.shutdown().await.expect("half closed");
    assert_eq!(rest(&mut client).await, "not HTTP at allbye");
    until("nothing in flight", async || proxy.service_status().await.connections == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_101_what_follows_an_upgrade_is_the_next_request() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of("", origin.address).await;
    let mut client = client_of(&proxy, &format!("{WEBSOCKET}{LAST}")).await;
    let answers = rest(&mut client).await;
    assert!(answers.contains("one GET /chat\n") && answers.contains("one GET /last\n"), "{answers}");
    let mut client = client_of(&proxy, &format!("{WEBSOCKET}\x01\x02 not HTTP\r\n\r\n")).await;
    let answers = rest(&mut client).await;
    assert!(answers.contains("HTTP/1.1 400 Bad Request"), "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_nobody_asked_for_is_answered_502() {
    let address = server(async |mut stream: TcpStream, _| {
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.expect("sent");
        let _ = stream.read_u8().await;
    })
    .await;
    assert_eq!(proxy_of("", address).await.get("/").await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_responses_pass_before_the_final_one_but_not_to_http_1_0() {
    let address = server(async |mut stream: TcpStream, _| {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
        stream.write_all(hints.as_bytes()).await.expect("sent");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(format!("{hints}{answer}").as_bytes()).await.expect("sent");
        let _ = stream.read_u8().await;
    })
    .await;
    let proxy = proxy_of("", address).await;
    let mut client = client_of(&proxy, LAST).await;
    let answers = rest(&mut client).await;
    assert_eq!(answers.matches("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").count(), 2, "{answers}");
    assert!(answers.contains("HTTP/1.1 200 OK\r\n") && answers.ends_with("\r\n\r\nok"), "{answers}");
    let mut client = client_of(&proxy, "GET / HTTP/1.0\r\nHost: www.gslb.test\r\n\r\n").await;
    assert!(rest(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_their_order() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of("", origin.address).await;
    let post = "POST /post HTTP/1.1\r\nHost: www.gslb.test\r\nContent-Length: 5\r\n\r\nhello";
    let chunks = "PUT /put HTTP/1.1\r\nHost: www.gslb.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    let head = "HEAD /hop HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n";
    let mut client = client_of(&proxy, &format!("{GET}{post}{chunks}{head}{LAST}")).await;
    let answers = rest(&mut client).await;
    let at = |text: &str| answers.find(text).unwrap_or_else(|| panic!("{text} in {answers}"));
    let places = [at("one GET /\n"), at("one POST /post\n"), at("one PUT /put\n"), at("one GET /last\n")];
    assert!(places.is_sorted() && answers.matches("HTTP/1.1 200 OK").count() == 5, "{answers}");
    assert!(answers.contains("body Ok(5)") && answers.contains("body Ok(2)"), "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_cut_anywhere_are_understood() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of("", origin.address).await;
    let chunks = "PUT /put HTTP/1.1\r\nHost: www.gslb.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n";
    let raw = format!("{chunks}{LAST}");
    let mut client = TcpStream::connect(proxy.listen).await.expect("connected");
    client.set_nodelay(true).expect("set");
    for byte in raw.bytes() {
        client.write_all(&[byte]).await.expect("sent");
        tokio::task::yield_now().await;
    }
    let answers = rest(&mut client).await;
    assert!(answers.contains("body Ok(5)") && answers.contains("one GET /last\n"), "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_both_ways() {
    let address = server(async |mut stream: TcpStream, _| {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(stream.read_u8().await.expect("a body"));
        }
        let came = String::from_utf8(bytes).expect("text").replace("\r\n", "|");
        let answer = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{came}\r\n0\r\nX-Sum: 2\r\n\r\n",
            came.len()
        );
        stream.write_all(answer.as_bytes()).await.expect("sent");
    })
    .await;
    let proxy = proxy_of("", address).await;
    let raw = "POST / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
               3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n";
    let answer = ask(proxy.listen, raw).await;
    assert!(answer.body.contains("3|abc|0|X-Sum: 1||") && answer.body.ends_with("0\r\nX-Sum: 2\r\n\r\n"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let address = server(async |mut stream: TcpStream, _| {
        let answer = "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!";
        stream.write_all(answer.as_bytes()).await.expect("sent");
        stream.shutdown().await.expect("half closed");
        // Reads on for a moment, so that its own kernel does not take the answer back.
        let mut bytes = vec![0; 1 << 16];
        let _ = timeout(Duration::from_millis(300), async {
            while stream.read(&mut bytes).await? > 0 {}
            std::io::Result::Ok(())
        })
        .await;
    })
    .await;
    let proxy = proxy_of("", address).await;
    let head = "POST / HTTP/1.1\r\nHost: www.gslb.test\r\nContent-Length: 100000000\r\n\r\n";
    let mut client = client_of(&proxy, head).await;
    let (mut reader, mut writer) = client.split();
    let sending = async {
        let block = vec![b'x'; 1 << 16];
        while writer.write_all(&block).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let reading = async {
        let mut bytes = vec![0; 4096];
        let count = reader.read(&mut bytes).await.expect("an answer");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    let answer = tokio::select! {
        answer = timeout(DEADLINE, reading) => answer.expect("in time"),
        () = sending => unreachable!("it sends for ever"),
    };
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("no!"), "{answer}");
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_arrive_as_they_were_sent_and_the_connection_goes_on() {
    const SIZE: usize = 20 << 20;
    let pattern = || (0..SIZE).map(|at| (at % 251) as u8).collect::<Vec<u8>>();
    let body = std::sync::Arc::new(pattern());
    let address = server(move |mut stream: TcpStream, _| {
        let body = std::sync::Arc::clone(&body);
        async move {
            loop {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.expect("sent");
                stream.write_all(&body).await.expect("sent");
                if read_head(&mut stream).await.is_empty() {
                    return;
                }
            }
        }
    })
    .await;
    let proxy = proxy_of("threads = 1", address).await;
    let mut client = client_of(&proxy, "").await;
    for _ in 0..3 {
        client.write_all(GET.as_bytes()).await.expect("sent");
        assert!(read_head(&mut client).await.contains(&format!("content-length: {SIZE}")));
        let mut received = vec![0; SIZE];
        timeout(DEADLINE, client.read_exact(&mut received)).await.expect("in time").expect("read");
        assert!(received == pattern());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_gets_a_body_of_unknown_length_until_the_close() {
    let address = server(async |mut stream: TcpStream, _| {
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.expect("sent");
        let _ = stream.read_u8().await;
    })
    .await;
    let proxy = proxy_of("", address).await;
    let raw = "GET / HTTP/1.0\r\nHost: www.gslb.test\r\nConnection: keep-alive\r\n\r\n";
    let answer = ask(proxy.listen, raw).await;
    assert!(answer.body == "abcdef" && !answer.head.contains("chunked"), "{answer:?}");
    assert!(answer.head.contains("connection: close"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn octets_that_come_on_an_idle_connection_reach_nobody() {
    let address = server(async |mut stream: TcpStream, _| {
        loop {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood").await.expect("sent");
            tokio::time::sleep(Duration::from_millis(10)).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await;
            if read_head(&mut stream).await.is_empty() {
                return;
            }
        }
    })
    .await;
    let proxy = proxy_of("threads = 1", address).await;
    for _ in 0..10 {
        assert_eq!(proxy.get("/").await.body, "good");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_whose_body_is_held_is_sent_again_when_a_kept_connection_closes() {
    let address = server(async |mut stream: TcpStream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("sent");
        let _ = read_head(&mut stream).await;
    })
    .await;
    let proxy = proxy_of("threads = 1", address).await;
    let put = "PUT / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    for _ in 0..5 {
        assert_eq!(proxy.get("/").await.status, 200);
        assert_eq!(ask(proxy.listen, put).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_gets_the_place_of_an_idle_connection_and_never_of_a_busy_one() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of("limits.connections = 8", origin.address).await;
    let mut busy = client_of(&proxy, &GET.replace("/ ", "/slow ")).await;
    until("one in flight", async || proxy.service_status().await.connections == 1).await;
    let mut idle = Vec::new();
    for start in ["", "GET / HTTP/1.1\r\nHost: www"].repeat(10) {
        idle.push(client_of(&proxy, start).await);
    }
    for _ in 0..20 {
        assert_eq!(proxy.get("/").await.status, 200);
    }
    origin.shared.release.notify_one();
    assert!(read_head(&mut busy).await.starts_with("http/1.1 200"));
}
