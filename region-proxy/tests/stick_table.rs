//! Clients that a table keeps on their servers.

mod common;

use std::net::SocketAddr;

use common::{Answer, Origin, Proxy, QUICK, TOKEN, read_answer, service, settings, unchecked, until};
use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::process::Command;

const STICK: &str = "stick = { by = \"source\", lifetime = \"30m\", entries = 1000 }\n";

/// Asks `proxy` from 127.0.0.`client`.
async fn get_as(proxy: &Proxy, client: u8) -> Answer {
    ask_as(proxy.listen, client, "/").await
}

async fn ask_as(proxy: SocketAddr, client: u8, path: &str) -> Answer {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, client], 0))).expect("an address");
    let mut stream = socket.connect(proxy).await.expect("connected");
    let raw = format!("GET {path} HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n\r\n");
    stream.write_all(raw.as_bytes()).await.expect("sent");
    read_answer(&mut stream).await
}

/// The servers of the clients 10 to 29.
async fn servers(proxy: &Proxy) -> Vec<String> {
    let mut servers = Vec::new();
    for client in 10..30 {
        let answer = get_as(proxy, client).await;
        assert_eq!(answer.status, 200);
        servers.push(answer.body[..3].to_owned());
    }
    servers
}

async fn ctl(proxy: &Proxy, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_region-proxy"));
    let socket = proxy.folder.path().join("admin.sock");
    let output = command.args(["ctl", "--socket"]).arg(socket).args(arguments).output().await.expect("it ran");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_new_servers_nor_one_that_is_back_move_a_client() {
    let (one, two, six) = (Origin::start("one").await, Origin::start("two").await, Origin::start("six").await);
    let text = |all: &[(&str, SocketAddr)]| {
        settings("threads = 2\nadmin_socket = \"admin.sock\"", &(service("www.gslb.test", all, QUICK) + STICK))
    };
    let both = [("app-1", one.address), ("app-2", two.address)];
    let proxy = Proxy::start(&text(&both)).await;
    let before = servers(&proxy).await;
    assert!(before.contains(&"one".to_owned()) && before.contains(&"two".to_owned()), "{before:?}");
    assert_eq!(servers(&proxy).await, before, "each stays");
    proxy.rewrite(&text(&[both[0], both[1], ("app-3", six.address)]));
    until("three servers", async || proxy.service_status().await.servers_up == 3).await;
    assert_eq!(servers(&proxy).await, before, "a server more moves nobody, nor does a reload");

    let address = two.kill().await;
    let without = servers(&proxy).await;
    assert!(!without.contains(&"two".to_owned()), "{without:?}");
    let stayed = before.iter().zip(&without).filter(|(before, now)| *before == "one" && now != before).count();
    assert_eq!(stayed, 0, "only clients of the dead one move");
    let _two = Origin::start_at("two", address).await;
    until("three servers", async || proxy.service_status().await.servers_up == 3).await;
    assert_eq!(servers(&proxy).await, without, "its return moves nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_server_keeps_the_clients_in_the_table_or_lets_them_move_as_the_settings_say() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let text = |more: &str| {
        let services = unchecked("www.gslb.test", &[("app-1", one.address), ("app-2", two.address)]);
        settings("admin_socket = \"admin.sock\"", &(services + STICK + more))
    };
    let proxy = Proxy::start(&text("")).await;
    let before = servers(&proxy).await;
    ctl(&proxy, &["drain", "www.gslb.test/app-1"]).await;
    assert_eq!(servers(&proxy).await, before);
    proxy.rewrite(&text("drained = \"move\"\n"));
    proxy.signal(Signal::SIGHUP);
    until("all moved", async || servers(&proxy).await.iter().all(|server| server == "two")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_a_table_and_have_it_forget() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let services = unchecked("www.gslb.test", &[("app-1", one.address), ("app-2", two.address)]) + STICK;
    let proxy = Proxy::start(&settings("admin_socket = \"admin.sock\"\nadmin_token_file = \"token\"", &services)).await;
    servers(&proxy).await;
    let of_ten = ctl(&proxy, &["stick", "www.gslb.test"]).await;
    assert!(of_ten.contains("127.0.0.10  app-"), "{of_ten}");
    assert!(ctl(&proxy, &["stick"]).await.contains("www.gslb.test  20/1000  30m       0"));
    let metrics = common::ask(proxy.status, "GET /metrics HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").await.body;
    assert!(metrics.contains("region_proxy_stick_entries{service=\"www.gslb.test\"} 20\n"), "{metrics}");
    ctl(&proxy, &["stick-clear", "www.gslb.test", "127.0.0.10"]).await;
    let rest = ctl(&proxy, &["stick", "www.gslb.test"]).await;
    assert!(!rest.contains("127.0.0.10 ") && rest.contains("127.0.0.11 "), "{rest}");
    ctl(&proxy, &["stick-clear", "www.gslb.test"]).await;
    assert!(ctl(&proxy, &["stick"]).await.contains(" 0/1000 "));
    assert_eq!(proxy.change("/stick", None).await.status, 401);
    assert_eq!(proxy.change("/stick", Some(TOKEN)).await.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_pass_as_they_are_stay_too() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let services = unchecked("www.gslb.test", &[("app-1", one.address), ("app-2", two.address)]) + "mode = \"both\"\n";
    let tcp = "[[tcp]]\nlisten = [\"127.0.0.1:0\"]\nservice = \"www.gslb.test\"\n";
    let proxy = Proxy::start(&settings(tcp, &(services + STICK))).await;
    let mut seen = Vec::new();
    for client in [40, 41, 42, 43] {
        let server = ask_as(proxy.tcp[0], client, "/").await.body[..3].to_owned();
        for _ in 0..3 {
            assert_eq!(ask_as(proxy.tcp[0], client, "/").await.body[..3], server);
            assert_eq!(get_as(&proxy, client).await.body[..3], server, "both ways lead to the same");
        }
        seen.push(server);
    }
    assert!(seen.contains(&"one".to_owned()) && seen.contains(&"two".to_owned()), "{seen:?}");
}
