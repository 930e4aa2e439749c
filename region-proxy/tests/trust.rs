//! What the engine keeps to when clients leave and servers talk nonsense.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::raw::{GET, LAST, client_of, proxy_of, read_head, rest, server};
use common::{DEADLINE, Origin, Proxy, scripted, settings, unchecked, until};
use nix::sys::signal::Signal;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Ends the connection at once, as a client does whose program is killed.
fn reset(client: TcpStream) {
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("set");
}

async fn until_in_flight(proxy: &Proxy, count: u64) {
    until("so many in flight", async || proxy.service_status().await.connections == count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resets_while_its_server_thinks_is_noticed() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of("", origin.address).await;
    let client = client_of(&proxy, &GET.replace("/ ", "/slow ")).await;
    until_in_flight(&proxy, 1).await;
    reset(client);
    until_in_flight(&proxy, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resets_in_the_queue_leaves_its_place_to_another() {
    let origin = Origin::start("one").await;
    let services = format!(
        "[services.\"www.gslb.test\"]\ncheck = {{ interval = \"1h\" }}\nqueue = {{ length = 1, time_limit = \"60s\" }}\n\
         servers = {{ app-1 = {{ address = \"{}\", connections = 1 }} }}\n",
        origin.address
    );
    let proxy = Proxy::start(&settings("threads = 1", &services)).await;
    let _busy = client_of(&proxy, &GET.replace("/ ", "/slow ")).await;
    until_in_flight(&proxy, 1).await;
    let queued = client_of(&proxy, GET).await;
    until_in_flight(&proxy, 2).await;
    assert_eq!(proxy.get("/").await.status, 503);
    reset(queued);
    until_in_flight(&proxy, 1).await;
    let mut next = client_of(&proxy, LAST).await;
    until_in_flight(&proxy, 2).await;
    origin.shared.release.notify_one();
    assert!(rest(&mut next).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_only_sends_no_more_gets_its_answer() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of("", origin.address).await;
    let mut client = client_of(&proxy, &LAST.replace("/last", "/slow")).await;
    client.shutdown().await.expect("half closed");
    until_in_flight(&proxy, 1).await;
    // Longer than the proxy takes to notice one that is gone.
    sleep(Duration::from_millis(1500)).await;
    origin.shared.release.notify_one();
    assert!(rest(&mut client).await.ends_with("slow"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_row_of_newcomers_does_not_keep_the_proxy_from_stopping() {
    let origin = Origin::start("one").await;
    let mut proxy = proxy_of("threads = 1\nlimits.stop = \"1s\"", origin.address).await;
    let (is_over, listen) = (Arc::new(AtomicBool::new(false)), proxy.listen);
    let storm = |_| {
        let is_over = Arc::clone(&is_over);
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                drop(std::net::TcpStream::connect(listen));
            }
        })
    };
    let storms: Vec<_> = (0..4).map(storm).collect();
    sleep(Duration::from_millis(300)).await;
    proxy.signal(Signal::SIGTERM);
    let exited = timeout(DEADLINE / 2, proxy.exit()).await;
    is_over.store(true, Ordering::Relaxed);
    storms.into_iter().for_each(|storm| storm.join().expect("a storm"));
    assert!(exited.is_ok_and(|status| status.success()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_left_for_a_pipe_large_bodies_arrive_whole() {
    const SIZE: usize = 4 << 20;
    let address = server(async |mut stream: TcpStream, mut head: String| {
        while !head.is_empty() {
            let body = if head.starts_with("get") { vec![b'x'; SIZE] } else { Vec::new() };
            let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            stream.write_all(&[reply.into_bytes(), body].concat()).await.expect("sent");
            head = read_head(&mut stream).await;
        }
    })
    .await;
    let proxy = proxy_of("threads = 1", address).await;
    let mut client = client_of(&proxy, &GET.replace("GET", "HEAD")).await;
    let head = read_head(&mut client).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let mut client = client_of(&proxy, "").await;
    client.write_all(&GET.as_bytes()[..9]).await.expect("sent");
    sleep(Duration::from_millis(100)).await;
    // From here on no file can be opened, and the connections to the client and the server are there.
    let most = Rlimit { current: Some(0), maximum: Some(0) };
    prlimit(Pid::from_raw(proxy.pid()), Resource::Nofile, most).expect("set");
    client.write_all(&GET.as_bytes()[9..]).await.expect("sent");
    read_head(&mut client).await;
    let mut received = vec![0; SIZE];
    timeout(DEADLINE, client.read_exact(&mut received)).await.expect("in time").expect("all of it");
    assert!(received.iter().all(|octet| *octet == b'x'));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sends_behind_its_last_request_does_not_cost_it_the_answer() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of("threads = 1", origin.address).await;
    for last in [LAST.replace("/last", "/slow"), "GET /slow HTTP/1.0\r\nHost: www.gslb.test\r\n\r\n".to_owned()] {
        let mut client = client_of(&proxy, &last).await;
        until_in_flight(&proxy, 1).await;
        client.write_all(&[b'x'; 100]).await.expect("sent");
        origin.shared.release.notify_one();
        let head = read_head(&mut client).await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(rest(&mut client).await.ends_with("slow"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_stopping_the_proxys_own_answers_close_too() {
    let origin = Origin::start("one").await;
    let root = "[[routes]]\nhost = \"plain.gslb.test\"\nredirect = \"https\"\n";
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let proxy = Proxy::start(&settings(root, &services)).await;
    let _busy = client_of(&proxy, &GET.replace("/ ", "/slow ")).await;
    until_in_flight(&proxy, 1).await;
    let mut clients = Vec::new();
    for host in ["plain.gslb.test", "elsewhere.gslb.test"].repeat(20) {
        clients.push(client_of(&proxy, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n")).await);
    }
    proxy.signal(Signal::SIGTERM);
    proxy.logged("stopping").await;
    for client in &mut clients {
        let _ = client.write_all(b"\r\n").await;
    }
    let mut answered = 0;
    for mut client in clients {
        // Those that were closed before have no answer.
        let answer = read_head(&mut client).await;
        answered += usize::from(!answer.is_empty());
        assert!(answer.is_empty() || answer.contains("connection: close\r\n"), "{answer}");
    }
    assert!(answered > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_ends_its_interim_responses_is_answered_502() {
    let address = server(async |mut stream: TcpStream, _| {
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
        while stream.write_all(hint.as_bytes()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let proxy = proxy_of("", address).await;
    let answer = rest(&mut client_of(&proxy, LAST).await).await;
    assert!(answer.contains("HTTP/1.1 502 "), "{}", answer.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_whose_first_chunk_is_none_is_answered_502() {
    for chunk in ["zz\r\n", "5\r\nhello!", "5\r\nhello\r\n-1\r\n"] {
        let reply = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
        let (address, _) = scripted(String::leak(reply)).await;
        let answer = rest(&mut client_of(&proxy_of("", address).await, LAST).await).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{chunk:?}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_comes_octet_by_octet_from_a_server_is_understood() {
    let address = server(async |mut stream: TcpStream, _| {
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
        let reply = format!("{hint}{hint}HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        stream.set_nodelay(true).expect("set");
        for octet in reply.bytes() {
            stream.write_all(&[octet]).await.expect("sent");
            tokio::task::yield_now().await;
        }
        let _ = stream.read_u8().await;
    })
    .await;
    let answer = rest(&mut client_of(&proxy_of("", address).await, LAST).await).await;
    assert!(answer.matches("HTTP/1.1 103").count() == 2 && answer.contains("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("k\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_breaks_off_does_not_look_whole_to_who_reads_until_the_close() {
    let address = server(async |mut stream: TcpStream, _| {
        let reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n";
        stream.write_all(reply).await.expect("sent");
    })
    .await;
    let proxy = proxy_of("", address).await;
    let mut client = client_of(&proxy, "GET / HTTP/1.0\r\nHost: www.gslb.test\r\n\r\n").await;
    let mut bytes = Vec::new();
    let read = timeout(DEADLINE, client.read_to_end(&mut bytes)).await.expect("in time");
    assert!(read.is_err(), "{}", String::from_utf8_lossy(&bytes));
}
