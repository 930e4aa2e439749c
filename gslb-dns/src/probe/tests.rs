use std::sync::Arc;

use shared::topology::Proxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::*;

const LIMIT: Duration = Duration::from_millis(300);
const RIGHT: &str = r#"{"region":"seoul","proxy":"seoul-1","holds_vip":true,"is_draining":false,"services":{}}"#;

fn target(address: impl std::fmt::Display) -> Target {
    Target {
        region: RegionName::parse("seoul").expect("a name"),
        proxy: ProxyName::parse("seoul-1").expect("a name"),
        status_url: format!("http://{address}/status"),
    }
}

fn client() -> Result<Client, String> {
    Ok(base_client().tls_certs_only([]).build().expect("built"))
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// A server that reads one request for each connection and answers it with `answer`, after `delay`.
async fn server(answer: String, delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                sleep(delay).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

async fn probe_answer(answer: String) -> Result<Status, ProbeFailure> {
    probe(client(), target(server(answer, Duration::ZERO).await), LIMIT).await
}

#[tokio::test]
async fn status_of_the_proxy_asked_counts() {
    let status = probe_answer(http("200 OK", RIGHT)).await.expect("a status");
    assert!(status.holds_vip);
}

#[tokio::test]
async fn failures_say_what_was_wrong() {
    let wrong_region = RIGHT.replace(r#""region":"seoul""#, r#""region":"busan""#);
    let wrong_proxy = RIGHT.replace("seoul-1", "seoul-2");
    let region = RegionName::parse("busan").expect("a name");
    let proxy = ProxyName::parse("seoul-2").expect("a name");
    let moved = "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".to_owned();
    for (answer, expected) in [
        (http("500 Internal Server Error", RIGHT), ProbeFailure::BadStatus(500)),
        (moved, ProbeFailure::BadStatus(302)),
        (http("200 OK", "hello"), ProbeFailure::NotJson("expected value at line 1 column 1".to_owned())),
        (http("200 OK", &wrong_region), ProbeFailure::WrongRegion(region)),
        (http("200 OK", &wrong_proxy), ProbeFailure::WrongProxy(proxy)),
    ] {
        assert_eq!(probe_answer(answer).await, Err(expected));
    }
}

#[tokio::test]
async fn late_answer_is_a_failure_at_the_time_limit() {
    let address = server(http("200 OK", RIGHT), Duration::from_secs(5)).await;
    let start = Instant::now();
    assert_eq!(probe(client(), target(address), LIMIT).await, Err(ProbeFailure::Late(LIMIT)));
    assert!(start.elapsed() < LIMIT * 3);
}

#[tokio::test]
async fn endless_answer_is_cut_off_at_the_size_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b' '; 65536]).await.is_ok() {}
    });
    let outcome = probe(client(), target(address), Duration::from_secs(10)).await;
    assert_eq!(outcome, Err(ProbeFailure::TooLarge(STATUS_SIZE_MAX)));
}

#[tokio::test]
async fn unreachable_proxy_gives_a_short_reason() {
    let address = TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("bound");
    let refused = probe(client(), target(address), LIMIT).await;
    assert_eq!(refused, Err(ProbeFailure::Unreachable("connection refused".to_owned())));
    let Err(ProbeFailure::Unreachable(cut)) = probe_answer("HTTP/1.1 200 OK\r\nconte".to_owned()).await else {
        panic!("a broken answer is no status");
    };
    assert!(!cut.is_empty() && cut.len() < 80, "{cut}");
}

#[tokio::test]
async fn hostile_text_in_a_reason_is_short_and_one_line() {
    let body = format!(r#"{{"region":"{}","proxy":"x"}}"#, "A\\n".repeat(50_000));
    let Err(ProbeFailure::NotJson(why)) = probe_answer(http("200 OK", &body)).await else {
        panic!("not a status");
    };
    assert!(why.len() <= 4 * REASON_CHARS_MAX && !why.contains('\n'), "{}", why.len());
}

fn topology(proxies: &[(&str, &str)]) -> Topology {
    let proxy = |(name, address): &(&str, &str)| Proxy {
        name: ProxyName::parse(name).expect("a name"),
        status_url: format!("http://{address}/status"),
    };
    let region = Region {
        name: RegionName::parse("seoul").expect("a name"),
        coordinates: None,
        bias_km: 0,
        vips: vec!["192.0.2.1".parse().expect("an address")],
        min_proxies: 1,
        proxies: proxies.iter().map(proxy).collect(),
    };
    let probe = ProbeSettings {
        interval: Duration::from_millis(100),
        deciding_interval: Duration::from_millis(40),
        time_limit: LIMIT,
        ..ProbeSettings::default()
    };
    Topology { regions: vec![region], probe, ..Topology::default() }
}

#[tokio::test]
async fn proxies_that_left_the_settings_are_asked_no_more() {
    let first = server(http("200 OK", RIGHT), Duration::ZERO).await;
    let second = server(http("200 OK", &RIGHT.replace("seoul-1", "seoul-2")), Duration::ZERO).await;
    let (sender, mut outcomes) = mpsc::channel(64);
    let mut prober = Prober::new(Handle::current(), sender).expect("made");
    prober.follow(&topology(&[("seoul-1", &first)]));
    let probed = outcomes.recv().await.expect("probed");
    assert_eq!((probed.proxy.as_str(), probed.outcome.is_ok()), ("seoul-1", true));
    prober.follow(&topology(&[("seoul-2", &second)]));
    while outcomes.try_recv().is_ok() {}
    for _ in 0..3 {
        assert_eq!(outcomes.recv().await.expect("probed").proxy.as_str(), "seoul-2");
    }
    assert_eq!(prober.tasks.len(), 1);
}

#[tokio::test]
async fn hanging_probes_overlap_and_are_counted_in_order() {
    // The first request hangs for ever, the others are answered at once.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound").to_string();
    let second_came = Arc::new(Notify::new());
    let came = Arc::clone(&second_came);
    tokio::spawn(async move {
        let (_held, _) = listener.accept().await.expect("accepted");
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(http("200 OK", RIGHT).as_bytes()).await;
            came.notify_one();
        }
    });
    let (sender, mut outcomes) = mpsc::channel(64);
    let mut prober = Prober::new(Handle::current(), sender).expect("made");
    let start = Instant::now();
    prober.follow(&topology(&[("seoul-1", &address)]));
    prober.set_deciding(&RegionName::parse("seoul").expect("a name"), false);
    second_came.notified().await;
    assert!(start.elapsed() < LIMIT, "the second probe waits for the first");
    let first = outcomes.recv().await.expect("probed").outcome;
    assert_eq!(first, Err(ProbeFailure::Late(LIMIT)));
    assert!(outcomes.recv().await.expect("probed").outcome.is_ok());
}

#[tokio::test]
async fn probes_come_faster_while_something_is_being_decided() {
    let address = server(http("200 OK", RIGHT), Duration::ZERO).await;
    let (sender, mut outcomes) = mpsc::channel(64);
    let mut prober = Prober::new(Handle::current(), sender).expect("made");
    let mut slow = topology(&[("seoul-1", &address)]);
    slow.probe.interval = Duration::from_secs(60);
    prober.follow(&slow);
    let seoul = RegionName::parse("seoul").expect("a name");
    assert!(outcomes.recv().await.is_some());
    prober.set_deciding(&seoul, false);
    sleep(Duration::from_millis(100)).await;
    while outcomes.try_recv().is_ok() {}
    assert!(timeout(Duration::from_millis(200), outcomes.recv()).await.is_err(), "nothing is being decided");
    prober.set_deciding(&seoul, true);
    assert!(timeout(Duration::from_secs(2), outcomes.recv()).await.is_ok(), "something is being decided");
}

#[test]
fn certificate_that_is_refused_is_told_in_words() {
    for (message, expected) in [
        ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "it is its own authority"),
        ("invalid peer certificate: UnknownIssuer", "nobody whom this machine trusts"),
        ("invalid peer certificate: certificate expired: verification time 2", "certificate expired"),
    ] {
        let error = io::Error::other(message);
        let told = describe(&error);
        assert!(told.starts_with("the certificate is refused: ") && told.contains(expected), "{told}");
    }
}
