//! Proxies that tell each other of clients and servers.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use common::{Origin, Proxy, TOKEN, read_answer, unchecked, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;

/// Addresses of this machine that no other test has.
struct Place(u8);

impl Place {
    fn new() -> Self {
        static TAKEN: AtomicU8 = AtomicU8::new(0);
        Self(TAKEN.fetch_add(1, Ordering::SeqCst))
    }

    /// That of the proxy of this number, from 1.
    fn peer(&self, number: u8) -> SocketAddr {
        let process = std::process::id() as u8;
        SocketAddr::from(([127, 100 + self.0, process, number], 8082))
    }

    /// Settings of the proxy of this number of `count`.
    fn settings(&self, number: u8, count: u8, rest: &str, services: &str) -> String {
        let proxies: Vec<_> = (1..=count).map(|one| format!("seoul-{one} = \"{}\"", self.peer(one))).collect();
        format!(
            "region = \"seoul\"\nproxy = \"seoul-{number}\"\nlisten = [\"127.0.0.1:0\"]\nstatus = \"127.0.0.1:0\"\n\
             admin_socket = \"admin.sock\"\nthreads = 1\n{rest}\n\
             [peers]\nproxies = {{ {} }}\nsecret_file = \"token\"\n{services}",
            proxies.join(", ")
        )
    }

    /// Two proxies of `services`.
    async fn pair(&self, services: &str) -> [Proxy; 2] {
        let first = Proxy::start(&self.settings(1, 2, "", services)).await;
        let second = Proxy::start(&self.settings(2, 2, "", services)).await;
        for proxy in [&first, &second] {
            until_linked(proxy, 1).await;
        }
        [first, second]
    }
}

/// `ctl` with these arguments; what it prints.
async fn ctl(proxy: &Proxy, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_region-proxy"));
    let socket = proxy.folder.path().join("admin.sock");
    let output =
        command.args(["ctl", "--json", "--socket"]).arg(socket).args(arguments).output().await.expect("it ran");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

async fn asked(proxy: &Proxy, arguments: &[&str]) -> Value {
    serde_json::from_str(&ctl(proxy, arguments).await).expect("JSON")
}

/// Waits until the proxy tells `count` others, and they tell it.
async fn until_linked(proxy: &Proxy, count: usize) {
    until("it tells and is told", async || {
        let peers = asked(proxy, &["peers"]).await;
        let peers = peers["peers"].as_array().expect("a list").iter();
        peers.filter(|peer| peer["told"]["is_open"] == true && peer["heard"]["is_open"] == true).count() == count
    })
    .await;
}

/// The mode and weight of a server.
async fn stands(proxy: &Proxy, server: &str) -> (String, u64) {
    let all = asked(proxy, &["servers"]).await;
    let servers = all["servers"].as_array().expect("a list").iter();
    let mut found = servers
        .filter(|one| one["server"] == server)
        .map(|one| (one["mode"].as_str().unwrap_or_default().to_owned(), one["weight"].as_u64().unwrap_or_default()));
    found.next().unwrap_or_default()
}

async fn until_it_stands(proxy: &Proxy, server: &str, mode: &str, weight: u64) {
    until(&format!("{server} has mode {mode:?} and weight {weight}"), async || {
        stands(proxy, server).await == (mode.to_owned(), weight)
    })
    .await;
}

/// The name of the server that a client at this address gets.
async fn server_of(proxy: &Proxy, client: Ipv4Addr) -> String {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((client, 0))).expect("an address of this machine");
    let mut stream = socket.connect(proxy.listen).await.expect("connected");
    let request = b"GET / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    read_answer(&mut stream).await.body.split(' ').next().unwrap_or_default().to_owned()
}

fn clients() -> impl Iterator<Item = Ipv4Addr> {
    (1..=30).map(|number| Ipv4Addr::new(127, 0, 7, number))
}

async fn until_known(proxy: &Proxy, clients: usize) {
    until(&format!("{clients} clients are known"), async || {
        asked(proxy, &["stick"]).await["tables"][0]["entries"] == clients
    })
    .await;
}

const BY_SOURCE: &str = "stick = { by = \"source\" }\n";

/// A service of servers where nobody is.
fn nobody() -> String {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    unchecked("www.gslb.test", &[("app-1", at(9)), ("app-2", at(19))])
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_keep_their_servers_at_the_other_proxy() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let services = unchecked("www.gslb.test", &[("app-1", one.address), ("app-2", two.address)]) + BY_SOURCE;
    let [first, second] = Place::new().pair(&services).await;
    let mut servers = Vec::new();
    for client in clients() {
        servers.push(server_of(&first, client).await);
    }
    assert!(servers.contains(&"one".to_owned()) && servers.contains(&"two".to_owned()), "{servers:?}");
    until_known(&second, servers.len()).await;
    for (client, server) in clients().zip(&servers) {
        assert_eq!(server_of(&second, client).await, *server, "{client}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_comes_later_hears_all_and_so_does_one_that_was_started_anew() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let services = unchecked("www.gslb.test", &[("app-1", one.address), ("app-2", two.address)]) + BY_SOURCE;
    let place = Place::new();
    let first = Proxy::start(&place.settings(1, 2, "", &services)).await;
    let mut servers = Vec::new();
    for client in clients() {
        servers.push(server_of(&first, client).await);
    }
    ctl(&first, &["weight", "www.gslb.test/app-2", "7"]).await;
    for _ in 0..2 {
        let mut second = Proxy::start(&place.settings(2, 2, "", &services)).await;
        until_known(&second, servers.len()).await;
        until_it_stands(&second, "app-2", "ready", 7).await;
        for (client, server) in clients().zip(&servers) {
            assert_eq!(server_of(&second, client).await, *server, "{client}");
        }
        second.signal(Signal::SIGKILL);
        second.exit().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_learned_last_is_told_before_a_proxy_stops() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let services = unchecked("www.gslb.test", &[("app-1", one.address), ("app-2", two.address)]) + BY_SOURCE;
    let [mut first, second] = Place::new().pair(&services).await;
    let mut servers = Vec::new();
    for client in clients() {
        servers.push(server_of(&first, client).await);
    }
    first.signal(Signal::SIGTERM);
    first.exit().await;
    until_known(&second, servers.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_says_to_one_counts_for_both_and_the_last_word_stands() {
    let [first, second] = Place::new().pair(&nobody()).await;
    ctl(&first, &["drain", "www.gslb.test/app-1"]).await;
    until_it_stands(&second, "app-1", "drain", 1).await;
    ctl(&second, &["weight", "www.gslb.test/app-1", "5"]).await;
    until_it_stands(&first, "app-1", "drain", 5).await;
    ctl(&first, &["ready", "www.gslb.test/app-1"]).await;
    until_it_stands(&second, "app-1", "ready", 5).await;
    ctl(&second, &["reset", "www.gslb.test/app-1"]).await;
    until_it_stands(&first, "app-1", "ready", 1).await;
    assert!(first.logged("as an operator told another proxy").await.contains("from=seoul-2"));

    ctl(&second, &["add", "www.gslb.test/app-3", "127.0.0.1:29", "--mode", "maintenance"]).await;
    until_it_stands(&first, "app-3", "maintenance", 1).await;
    ctl(&first, &["remove", "www.gslb.test/app-2", "--force"]).await;
    until_it_stands(&second, "app-2", "", 0).await;
    ctl(&second, &["reset"]).await;
    until_it_stands(&first, "app-2", "ready", 1).await;
    until_it_stands(&first, "app-3", "", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_back_meanwhile_stays_so_for_one_that_has_it_in_its_state() {
    let place = Place::new();
    let with_state = |number| place.settings(number, 2, "state_file = \"state.json\"", &nobody());
    let mut first = Proxy::start(&with_state(1)).await;
    let mut second = Proxy::start(&with_state(2)).await;
    ctl(&first, &["drain", "www.gslb.test/app-1"]).await;
    ctl(&first, &["drain", "www.gslb.test/app-2"]).await;
    until_it_stands(&second, "app-1", "drain", 1).await;
    until_it_stands(&second, "app-2", "drain", 1).await;
    first.signal(Signal::SIGKILL);
    first.exit().await;
    ctl(&second, &["reset", "www.gslb.test/app-1"]).await;
    // Its stamps survive as well.
    second.signal(Signal::SIGTERM);
    second.exit().await;
    let second = Proxy::start_in(Arc::clone(&second.folder), &with_state(2)).await;
    let first = Proxy::start_in(Arc::clone(&first.folder), &with_state(1)).await;
    until_it_stands(&first, "app-1", "ready", 1).await;
    until_linked(&second, 1).await;
    assert_eq!(stands(&second, "app-1").await, ("ready".to_owned(), 1));
    assert_eq!(stands(&second, "app-2").await, ("drain".to_owned(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_about_a_server_that_is_not_there_counts_once_a_reload_brings_it() {
    let place = Place::new();
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let fewer = unchecked("www.gslb.test", &[("app-1", at(9))]);
    let first = Proxy::start(&place.settings(1, 2, "", &nobody())).await;
    let second = Proxy::start(&place.settings(2, 2, "", &fewer)).await;
    ctl(&first, &["drain", "www.gslb.test/app-2"]).await;
    second.logged("a change of a server that is not in the settings here").await;
    second.rewrite(&place.settings(2, 2, "", &nobody()));
    until_it_stands(&second, "app-2", "drain", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_reach_a_proxy_that_only_a_third_can_reach() {
    let place = Place::new();
    let settings = |number| place.settings(number, 3, "", &nobody());
    // The second of three does not know the first.
    let without = settings(2).replace(&format!("seoul-1 = \"{}\", ", place.peer(1)), "");
    let first = Proxy::start(&settings(1)).await;
    let second = Proxy::start(&without).await;
    let third = Proxy::start(&settings(3)).await;
    until_linked(&third, 2).await;
    ctl(&first, &["drain", "www.gslb.test/app-1"]).await;
    until_it_stands(&second, "app-1", "drain", 1).await;
    assert!(ctl(&second, &["peers"]).await.contains("seoul-3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_loses_nothing_of_it() {
    let place = Place::new();
    let services = nobody() + BY_SOURCE;
    let [first, second] = place.pair(&services).await;
    ctl(&second, &["drain", "www.gslb.test/app-1"]).await;
    for client in clients() {
        server_of(&second, client).await;
    }
    until_known(&first, clients().count()).await;
    ctl(&second, &["upgrade"]).await;
    until_known(&second, clients().count()).await;
    until_linked(&first, 1).await;
    assert_eq!(stands(&second, "app-1").await, ("drain".to_owned(), 1));
    ctl(&second, &["reset", "www.gslb.test/app-1"]).await;
    until_it_stands(&first, "app-1", "ready", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_another_secret_learns_nothing_and_both_say_why() {
    let place = Place::new();
    let first = Proxy::start(&place.settings(1, 2, "", &nobody())).await;
    let folder = Arc::new(TempDir::new().expect("a folder"));
    std::fs::write(folder.path().join("token"), "fedcba9876543210").expect("written");
    let second = Proxy::start_in(folder, &place.settings(2, 2, "", &nobody())).await;
    ctl(&first, &["drain", "www.gslb.test/app-1"]).await;
    for proxy in [&first, &second] {
        proxy.logged("expected the same secret_file there as here").await;
    }
    assert!(ctl(&first, &["peers"]).await.contains("expected the same secret_file"));
    assert_eq!(stands(&second, "app-1").await, ("ready".to_owned(), 1));
    // A reload with the right one brings them together.
    std::fs::write(second.folder.path().join("token"), TOKEN).expect("written");
    second.signal(Signal::SIGHUP);
    until_it_stands(&second, "app-1", "drain", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_proxy_than_expected_is_named() {
    let place = Place::new();
    let first = Proxy::start(&place.settings(1, 2, "", &nobody())).await;
    let (near, far) = (place.peer(1), place.peer(2));
    let wrong = place.settings(2, 2, "", &nobody()).replace("seoul-2", "seoul-3");
    assert!(wrong.contains(&near.to_string()) && wrong.contains(&far.to_string()));
    let _second = Proxy::start(&wrong).await;
    first.logged("seoul-3 answers: expected seoul-2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_turned_away_and_silent_crowds_take_no_place_of_others() {
    let place = Place::new();
    let [first, second] = place.pair(&nobody()).await;
    let connect = async |from: IpAddr| {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(from, 0)).expect("an address of this machine");
        socket.connect(place.peer(1)).await.expect("connected")
    };
    let is_closed = async |stream: &mut TcpStream| {
        let mut octets = [0; 16];
        tokio::time::timeout(Duration::from_secs(10), stream.read(&mut octets))
            .await
            .is_ok_and(|read| !matches!(read, Ok(1..)))
    };
    let mut stranger = connect(IpAddr::from([127, 0, 0, 3])).await;
    assert!(is_closed(&mut stranger).await);
    // From an address of its own, where no proxy is waited for but in settings.
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(connect(place.peer(1).ip()).await);
    }
    for silent in &mut crowd {
        silent.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap_or_default();
        assert!(is_closed(silent).await);
    }
    let strangers = asked(&first, &["peers"]).await["strangers"].as_u64();
    assert!(strangers.is_some_and(|count| count >= 41), "{strangers:?}");
    ctl(&second, &["drain", "www.gslb.test/app-1"]).await;
    until_it_stands(&first, "app-1", "drain", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctl_and_metrics_show_how_it_goes() {
    let [first, mut second] = Place::new().pair(&nobody()).await;
    ctl(&first, &["drain", "www.gslb.test/app-1"]).await;
    until_it_stands(&second, "app-1", "drain", 1).await;
    let table = async || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_region-proxy"));
        command.args(["ctl", "peers", "--socket"]).arg(first.folder.path().join("admin.sock"));
        let output = command.stdout(Stdio::piped()).output().await.expect("it ran");
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(
        table().await.lines().any(|line| line.starts_with("seoul-2 ") && line.contains(" 1/")),
        "{}",
        table().await
    );
    let metrics =
        async || common::ask(first.status, "GET /metrics HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").await.body;
    assert!(metrics().await.contains("region_proxy_peer_connected{peer=\"seoul-2\",direction=\"told\"} 1"));
    assert!(metrics().await.contains("region_proxy_peer_changes_total{peer=\"seoul-2\",direction=\"told\"} 1"));
    let page = common::ask(first.status, "GET /stats HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").await.body;
    assert!(page.contains("<h2>Peers</h2>") && page.contains("<b>seoul-2</b>"), "{page}");
    second.signal(Signal::SIGKILL);
    second.exit().await;
    until("it says that it is gone", async || {
        metrics().await.contains("region_proxy_peer_connected{peer=\"seoul-2\",direction=\"told\"} 0")
            && table().await.contains("no: ")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_brings_peers_and_takes_them_away() {
    let place = Place::new();
    let alone = |number| {
        let whole = place.settings(number, 2, "", &nobody());
        let (before, rest) = whole.split_once("[peers]").expect("peers");
        format!("{before}{}", &rest[rest.find("[services").expect("services")..])
    };
    let first = Proxy::start(&alone(1)).await;
    let second = Proxy::start(&place.settings(2, 2, "", &nobody())).await;
    ctl(&first, &["drain", "www.gslb.test/app-1"]).await;
    first.rewrite(&place.settings(1, 2, "", &nobody()));
    until_it_stands(&second, "app-1", "drain", 1).await;
    first.rewrite(&alone(1));
    second.logged("a peer tells nothing any more").await;
    ctl(&first, &["reset", "www.gslb.test/app-1"]).await;
    assert_eq!(stands(&second, "app-1").await, ("drain".to_owned(), 1));
    // An address that is not here is a mistake, and what ran before runs on.
    second.rewrite(&place.settings(2, 2, "", &nobody()).replace(&place.peer(2).to_string(), "192.0.2.1:8082"));
    second.logged("cannot listen on 192.0.2.1:8082").await;
}
