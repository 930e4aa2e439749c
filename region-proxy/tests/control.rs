//! Servers that operators change while the proxy runs: over its socket, over HTTP, by `ctl`.

mod common;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{ANY_PORT, Answer, Origin, Proxy, QUICK, TOKEN, ask, hold, service, settings, unchecked, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::task::JoinSet;

const ROOT: &str = "admin_socket = \"admin.sock\"\nstate_file = \"state.json\"\nthreads = 2";

fn socket(proxy: &Proxy) -> PathBuf {
    proxy.folder.path().join("admin.sock")
}

/// Asks over the socket; the status and the JSON that comes back.
async fn call(proxy: &Proxy, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket(proxy)).await.expect("connected");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: s\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let answer = answer_of(&mut stream).await;
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}")))
}

async fn answer_of(stream: &mut UnixStream) -> Answer {
    let mut bytes = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(stream, &mut bytes).await.expect("an answer");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

async fn change(proxy: &Proxy, server: &str, body: &str) -> Value {
    let (status, json) = call(proxy, "POST", &format!("/servers/www.gslb.test/{server}"), body).await;
    assert_eq!(status, 200, "{json}");
    json
}

async fn ctl(proxy: &Proxy, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_region-proxy"));
    command.args(["ctl", "--socket"]).arg(socket(proxy)).args(arguments).output().await.expect("it ran")
}

async fn ctl_says(proxy: &Proxy, arguments: &[&str]) -> String {
    let output = ctl(proxy, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Which origins answer `count` requests, in the order of `origins`.
async fn shares(proxy: &Proxy, origins: &[&Origin], count: usize) -> Vec<u64> {
    let before: Vec<u64> = origins.iter().map(|origin| origin.requests()).collect();
    for _ in 0..count {
        assert_eq!(proxy.get("/").await.status, 200);
    }
    origins.iter().zip(before).map(|(origin, before)| origin.requests() - before).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_change_the_shares_at_once() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let services = unchecked("www.gslb.test", &[("app-1", one.address), ("app-2", two.address)]);
    let proxy = Proxy::start(&settings(ROOT, &services)).await;
    let report = change(&proxy, "app-1", "{\"weight\": 3}").await;
    assert_eq!((&report["weight"], &report["is_changed"]), (&Value::from(3), &Value::from(true)));
    let shares_of_three = shares(&proxy, &[&one, &two], 40).await;
    assert!((27..=33).contains(&shares_of_three[0]), "{shares_of_three:?}");
    change(&proxy, "app-1", "{\"weight\": 0}").await;
    assert_eq!(shares(&proxy, &[&one, &two], 10).await, [0, 10]);
    change(&proxy, "app-1", "{\"reset\": true}").await;
    let even = shares(&proxy, &[&one, &two], 40).await;
    assert!((18..=22).contains(&even[0]), "{even:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_server_finishes_what_it_has_and_keeps_its_clients() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let services = unchecked("www.gslb.test", &[("app-1", one.address), ("app-2", two.address)])
        + "stick = { cookie = \"SRV\", mode = \"insert\" }\n";
    let proxy = Arc::new(Proxy::start(&settings(ROOT, &services)).await);
    let mut cookie = String::new();
    until("a client of the first", async || {
        let answer = proxy.get("/").await;
        let found = answer.head.split("set-cookie: ").nth(1).and_then(|rest| rest.split([';', '\r']).next());
        cookie = found.unwrap_or_default().replace("srv=", "SRV=");
        answer.body.starts_with("one ")
    })
    .await;
    let with_cookie = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: www.gslb.test\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n")
    };
    let before = one.requests();
    let slow = tokio::spawn({
        let (listen, raw) = (proxy.listen, with_cookie("/slow"));
        async move { ask(listen, &raw).await }
    });
    until("it has one in flight", async || one.requests() == before + 1).await;
    assert!(ctl_says(&proxy, &["drain", "www.gslb.test/app-1"]).await.contains("drain (operator)"));
    assert_eq!(shares(&proxy, &[&one, &two], 10).await, [0, 10]);
    assert!(ask(proxy.listen, &with_cookie("/")).await.body.starts_with("one "), "it keeps its clients");
    let (status, refusal) = call(&proxy, "DELETE", "/servers/www.gslb.test/app-1", "").await;
    assert!(status == 409 && refusal["error"].as_str().is_some_and(|error| error.contains("has a request under way")));
    one.shared.release.notify_one();
    assert_eq!(slow.await.expect("answered").body, "slow");
    until("it has none", async || call(&proxy, "DELETE", "/servers/www.gslb.test/app-1", "").await.0 == 200).await;
    assert!(ask(proxy.listen, &with_cookie("/")).await.body.starts_with("two "), "its clients move");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_maintenance_loses_its_clients_and_is_not_checked() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let services = service("www.gslb.test", &[("app-1", one.address), ("app-2", two.address)], QUICK);
    let proxy = Proxy::start(&settings(ROOT, &services)).await;
    ctl_says(&proxy, &["maintenance", "www.gslb.test/app-1"]).await;
    assert_eq!(proxy.service_status().await.servers_up, 1);
    one.shared.health.store(503, Ordering::SeqCst);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let (_, all) = call(&proxy, "GET", "/servers/www.gslb.test/app-1", "").await;
    assert_eq!(all["servers"][0]["health"], "up", "nobody looked");
    ctl_says(&proxy, &["ready", "www.gslb.test/app-1"]).await;
    assert!(proxy.logged("server is down").await.contains("status 503, expected 200"));
    assert_eq!(shares(&proxy, &[&one, &two], 10).await, [0, 10]);
    one.shared.health.store(200, Ordering::SeqCst);
    until("both are up", async || proxy.service_status().await.servers_up == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_come_and_go_under_load_without_a_failed_request() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let services = service("www.gslb.test", &[("app-1", one.address)], QUICK);
    let proxy = Arc::new(Proxy::start(&settings(ROOT, &services)).await);
    let (is_over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (proxy, is_over, count) = (Arc::clone(&proxy), Arc::clone(&is_over), Arc::clone(&count));
        clients.spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                assert_eq!(proxy.get("/").await.status, 200);
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    for _ in 0..3 {
        let before = two.requests();
        ctl_says(&proxy, &["add", "www.gslb.test/app-2", &two.address.to_string(), "--weight", "5"]).await;
        until("it serves", async || two.requests() > before + 20).await;
        let refused = ctl(&proxy, &["remove", "www.gslb.test/app-2"]).await;
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("expected it to be drained, or force"),
            "{refused:?}"
        );
        ctl_says(&proxy, &["drain", "www.gslb.test/app-2"]).await;
        until("it is gone", async || ctl(&proxy, &["remove", "www.gslb.test/app-2"]).await.status.success()).await;
        ctl_says(&proxy, &["add", "www.gslb.test/app-3", &two.address.to_string()]).await;
        until("the other name serves", async || two.requests() > before + 40).await;
        ctl_says(&proxy, &["remove", "www.gslb.test/app-3", "--force"]).await;
    }
    is_over.store(true, Ordering::SeqCst);
    while let Some(client) = clients.join_next().await {
        client.expect("no request failed");
    }
    assert!(count.load(Ordering::SeqCst) > 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_survive_reloads_restarts_and_end_with_a_reset() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let three = Origin::start("three").await;
    let text = |more: &str| {
        settings(ROOT, &(unchecked("www.gslb.test", &[("app-1", one.address), ("app-2", two.address)]) + more))
    };
    let mut proxy = Proxy::start(&text("")).await;
    ctl_says(&proxy, &["drain", "www.gslb.test/app-1"]).await;
    ctl_says(&proxy, &["add", "www.gslb.test/app-3", &three.address.to_string()]).await;
    ctl_says(&proxy, &["remove", "www.gslb.test/app-2", "--force"]).await;
    let only_three = async |proxy: &Proxy| {
        until("checked", async || proxy.service_status().await.servers_up == 1).await;
        assert_eq!(shares(proxy, &[&one, &two, &three], 10).await, [0, 0, 10]);
    };
    only_three(&proxy).await;

    proxy.rewrite(&text("capacity = 5\n"));
    assert_eq!(ctl_says(&proxy, &["reload"]).await, "reloaded\n");
    assert!(proxy.logged("changes made at run time are kept").await.contains("servers=3"));
    only_three(&proxy).await;

    proxy.signal(Signal::SIGKILL);
    proxy.exit().await;
    let proxy = Proxy::start_in(Arc::clone(&proxy.folder), &text("")).await;
    only_three(&proxy).await;
    let table = ctl_says(&proxy, &["servers"]).await;
    assert!(table.contains("www.gslb.test/app-2 is in the settings and was removed"), "{table}");

    assert_eq!(ctl_says(&proxy, &["reset"]).await, "as in the settings\n");
    let all = shares(&proxy, &[&one, &two, &three], 10).await;
    assert!(all[0] > 3 && all[1] > 3 && all[2] == 0, "{all:?}");
    let state = std::fs::read_to_string(proxy.folder.path().join("state.json")).expect("saved");
    let state: Value = serde_json::from_str(&state).expect("JSON");
    assert!(state["is_draining"] == false && state["servers"].is_null(), "{state}");
    assert_eq!(state["ledger"]["www.gslb.test"].as_object().map(|said| said.len()), Some(3), "{state}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_drops_changes_of_what_is_gone_and_says_so() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let text = |servers: &[(&str, SocketAddr)]| settings(ROOT, &unchecked("www.gslb.test", servers));
    let proxy = Proxy::start(&text(&[("app-1", one.address), ("app-2", two.address)])).await;
    ctl_says(&proxy, &["drain", "www.gslb.test/app-2"]).await;
    proxy.rewrite(&text(&[("app-1", one.address), ("app-9", two.address)]));
    ctl_says(&proxy, &["reload"]).await;
    let line = proxy.logged("a change made at run time is dropped").await;
    assert!(line.contains("app-2 is not a server of www.gslb.test: expected one of app-1, app-9"), "{line}");
    proxy.rewrite("region = 1\n");
    let output = ctl(&proxy, &["reload"]).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && told.contains("proxy.toml:1: region:") && told.contains("the old ones stay"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_state_file_is_told_and_started_without() {
    let origin = Origin::start("one").await;
    let folder = Arc::new(tempfile::TempDir::new().expect("a folder"));
    std::fs::write(folder.path().join("state.json"), "{\"is_draining\": true, \"servers\": 7}").expect("written");
    let text = settings(ROOT, &unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let proxy = Proxy::start_in(folder, &text).await;
    let line = proxy.logged("cannot read the state").await;
    assert!(line.contains("state.json") && line.contains("expected a map"), "{line}");
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_with_what_would_be_right() {
    let origin = Origin::start("one").await;
    let proxy = Proxy::start(&settings(ROOT, &unchecked("www.gslb.test", &[("app-1", origin.address)]))).await;
    let app = "/servers/www.gslb.test/app-1";
    for (method, path, body, status, told) in [
        ("POST", app, "{\"mode\": \"asleep\"}", 400, "expected one of `ready`, `drain`, `maintenance`"),
        ("POST", app, "{\"weight\": 257}", 400, "0 to 256"),
        ("POST", app, "{}", 400, "expected \"mode\", \"weight\" or \"reset\""),
        ("POST", app, "{\"colour\": 1}", 400, "unknown field `colour`"),
        ("POST", app, "drain", 400, "expected JSON such as"),
        ("POST", "/servers/www.gslb.test/app-7", "{\"weight\": 1}", 404, "expected one of app-1"),
        ("POST", "/servers/api.gslb.test/app-1", "{\"weight\": 1}", 404, "expected one of www.gslb.test"),
        ("PUT", app, "{\"address\": \"127.0.0.1:9\"}", 409, "another name"),
        ("PUT", "/servers/www.gslb.test/app-2", "{\"address\": \"127.0.0.1\"}", 400, "invalid socket address"),
        (
            "PUT",
            "/servers/www.gslb.test/app-2",
            "{\"address\": \"127.0.0.1:9\", \"colour\": 1}",
            400,
            "unknown field `colour`",
        ),
        ("PUT", "/servers/www.gslb.test/app-2", "{\"address\": \"127.0.0.1:9\", \"mode\": \"off\"}", 400, "`drain`"),
        ("GET", "/servers/www.gslb.test/app-2", "", 404, "expected one of app-1"),
        ("DELETE", app, "", 409, "is ready to serve"),
        ("DELETE", "/servers/www.gslb.test/app-1?force=true", "", 400, "maintenance instead"),
        ("DELETE", "/servers/www.gslb.test/app-1?force=yes", "", 400, "expected ?force=true"),
        ("GET", "/servers/api.gslb.test", "", 404, "expected one of www.gslb.test"),
        ("PATCH", app, "", 405, "POST, PUT, DELETE"),
        ("GET", "/reload", "", 405, "POST"),
    ] {
        let (found, json) = call(&proxy, method, path, body).await;
        let error = json["error"].as_str().unwrap_or_default();
        assert!(found == status && error.contains(told), "{method} {path} {body}: {found} {json}");
    }
    let (status, _) = call(&proxy, "POST", app, &" ".repeat(70_000)).await;
    assert_eq!(status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_servers_are_shown_to_those_with_the_token_alone() {
    let origin = Origin::start("one").await;
    let root = "admin_token_file = \"token\"";
    let proxy = Proxy::start(&settings(root, &unchecked("www.gslb.test", &[("app-1", origin.address)]))).await;
    let request = |token: &str| format!("GET /servers HTTP/1.1\r\nHost: s\r\n{token}Connection: close\r\n\r\n");
    for wrong in ["", "Authorization: Bearer 0123456789abcdeX\r\n"] {
        let answer = ask(proxy.status, &request(wrong)).await;
        assert!(
            answer.status == 401 && answer.body.starts_with("{\"error\":") && answer.head.contains("www-authenticate"),
            "{answer:?}"
        );
    }
    let answer = ask(proxy.status, &request(&format!("Authorization: Bearer {TOKEN}\r\n"))).await;
    let json: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(json["servers"][0]["reason"], "check succeeded");
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctl_finds_the_proxy_by_its_settings_and_prints_a_table_or_json() {
    let origin = Origin::start("one").await;
    let proxy = Proxy::start(&settings(ROOT, &unchecked("www.gslb.test", &[("app-1", origin.address)]))).await;
    let file = proxy.config_file();
    let run = async |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_region-proxy"))
            .arg("ctl")
            .args(arguments)
            .arg("--config")
            .arg(&file)
            .output();
        let output = output.await.expect("it ran");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let table = run(&["servers"]).await;
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("SERVICE        SERVER  ADDRESS") && lines[0].ends_with("REASON"), "{table}");
    assert!(lines[1].starts_with("www.gslb.test  app-1") && lines[1].ends_with("check succeeded"), "{table}");
    let json: Value = serde_json::from_str(&run(&["services", "--json"]).await).expect("JSON");
    assert_eq!(json["services"][0]["servers_up"], 1);
    assert!(run(&["services"]).await.contains("www.gslb.test  1/1"));
    assert_eq!(run(&["drain-all"]).await, "{\"is_draining\":true}\n");
    assert!(proxy.status().await.is_draining);
    assert_eq!(run(&["undrain-all"]).await, "{\"is_draining\":false}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_settings_keep_nobody_from_the_proxy_that_runs_by_older_ones() {
    let origin = Origin::start("one").await;
    let text = settings(ROOT, &unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let proxy = Proxy::start(&text).await;
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_region-proxy"));
        command.args(arguments).arg("--config").arg(proxy.config_file()).output().await.expect("it ran")
    };
    proxy.rewrite(&text.replace("region = \"seoul\"", "region = 1"));
    assert!(run(&["ctl", "drain", "www.gslb.test/app-1"]).await.status.success());
    assert!(run(&["drain"]).await.status.success() && proxy.status().await.is_draining);
    let refused = run(&["ctl", "reload"]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("1 mistake in the settings") && why.contains("region: 1 is not a text"), "{why}");
    proxy.rewrite(&text.replace("threads = 2", "threads = 1"));
    let taken = String::from_utf8(run(&["ctl", "reload"]).await.stdout).expect("text");
    assert_eq!(taken, "reloaded\nthreads: takes effect only after a restart or an upgrade\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_gone_with_the_proxy() {
    let origin = Origin::start("one").await;
    let mut proxy = Proxy::start(&settings(ROOT, &unchecked("www.gslb.test", &[("app-1", origin.address)]))).await;
    assert!(socket(&proxy).exists());
    proxy.signal(Signal::SIGTERM);
    assert!(proxy.exit().await.success());
    assert!(!socket(&proxy).exists());
    let output = ctl(&proxy, &["servers"]).await;
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("admin.sock"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_socket_ctl_shows_the_token_at_the_status_address() {
    let origin = Origin::start("one").await;
    let (_held, free) = hold(ANY_PORT);
    let text = settings("admin_token_file = \"token\"", &unchecked("www.gslb.test", &[("app-1", origin.address)]))
        .replace("status = \"127.0.0.1:0\"", &format!("status = \"{free}\""));
    let proxy = Proxy::start(&text).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_region-proxy"));
    command.args(["ctl", "maintenance", "www.gslb.test/app-1", "--config"]).arg(proxy.config_file());
    let output = command.output().await.expect("it ran");
    assert!(String::from_utf8_lossy(&output.stdout).contains("maintenance (operator)"), "{output:?}");
    assert_eq!(proxy.get("/").await.status, 503);
}
