//! Status, drain, reload and stop of a running proxy; `check`.

mod common;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{ANY_PORT, Origin, Proxy, QUICK, TOKEN, ask, hold, service, settings, unchecked, until};
use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio::process::Command;

async fn command(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_region-proxy")).args(arguments).output().await.expect("it ran")
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_servers_requests_and_vip() {
    let origin = Origin::start("one").await;
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let services = unchecked("www.gslb.test", &[("app-1", origin.address), ("app-2", nobody)]) + "capacity = 50\n";
    let proxy = Proxy::start(&settings("vips = [\"127.0.1.10\"]", &services)).await;
    let status = proxy.status().await;
    assert_eq!((status.region.as_str(), status.proxy.as_str()), ("seoul", "seoul-1"));
    assert!(status.holds_vip && !status.is_draining);
    let www = proxy.service_status().await;
    assert_eq!((www.servers_up, www.servers_total, www.connections, www.capacity), (1, 2, 0, Some(50)));

    let proxy = Arc::new(proxy);
    let slow = tokio::spawn({
        let proxy = Arc::clone(&proxy);
        async move { proxy.get("/slow").await }
    });
    until("one in flight", async || proxy.service_status().await.connections == 1).await;
    until("a rate", async || proxy.service_status().await.requests_per_sec > 0.0).await;
    origin.shared.release.notify_one();
    assert_eq!(slow.await.expect("answered").body, "slow");
    until("none in flight", async || proxy.service_status().await.connections == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_status_address_does_not_start() {
    let origin = Origin::start("one").await;
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let proxy = Proxy::start(&settings("", &services)).await;
    let text = settings("", &services).replace("status = \"127.0.0.1:0\"", &format!("status = \"{}\"", proxy.status));
    let path = proxy.folder.path().join("second.toml");
    std::fs::write(&path, text).expect("written");
    let second = command(&["serve", "--config", path.to_str().expect("UTF-8")]).await;
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains(&proxy.status.to_string()), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vip_elsewhere_is_listened_on_and_another_address_that_is_not_here_tells_what_to_do() {
    let origin = Origin::start("one").await;
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let text = |vips: &str| settings(vips, &services).replace("listen = [", "listen = [\"198.51.100.10:0\", ");
    let proxy = Proxy::start(&text("vips = [\"198.51.100.10\"]")).await;
    assert!(proxy.listens.iter().any(|address| address.ip().to_string() == "198.51.100.10"), "{:?}", proxy.listens);
    let path = proxy.folder.path().join("other.toml");
    std::fs::write(&path, text("")).expect("written");
    let other = command(&["serve", "--config", path.to_str().expect("UTF-8")]).await;
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(
        !other.status.success() && said.contains("198.51.100.10:0") && said.contains("expected in `vips`"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vip_elsewhere_is_not_held() {
    let origin = Origin::start("one").await;
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let proxy = Proxy::start(&settings("vips = [\"127.0.1.10\", \"192.0.2.10\"]", &services)).await;
    assert!(!proxy.status().await.holds_vip);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_needs_the_token_serves_on_and_survives_a_restart() {
    let origin = Origin::start("one").await;
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let text = settings("admin_token_file = \"token\"\nstate_file = \"state.json\"", &services);
    let mut proxy = Proxy::start(&text).await;
    assert_eq!(proxy.change("/drain", None).await.status, 401);
    assert_eq!(proxy.change("/drain", Some("0123456789abcdeX")).await.status, 401);
    assert!(!proxy.status().await.is_draining);
    assert_eq!(proxy.change("/drain", Some(TOKEN)).await.status, 200);
    assert!(proxy.status().await.is_draining);
    assert_eq!(proxy.get("/").await.status, 200);

    proxy.signal(Signal::SIGKILL);
    proxy.exit().await;
    let proxy = Proxy::start_in(Arc::clone(&proxy.folder), &text).await;
    assert!(proxy.status().await.is_draining);
    assert_eq!(proxy.change("/undrain", Some(TOKEN)).await.status, 200);
    assert!(!proxy.status().await.is_draining);
    let state = std::fs::read_to_string(proxy.folder.path().join("state.json")).expect("saved");
    assert_eq!(state, "{\"is_draining\":false}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_file_drain_is_refused() {
    let origin = Origin::start("one").await;
    let proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("app-1", origin.address)]))).await;
    let answer = proxy.change("/drain", Some(TOKEN)).await;
    assert!(answer.status == 403 && answer.body.contains("admin_token_file"), "{answer:?}");
    let wrong = ask(proxy.status, "GET /drain HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").await;
    assert!(wrong.status == 405 && wrong.head.contains("allow: post"), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_command_drains_the_running_proxy() {
    let origin = Origin::start("one").await;
    let (_held, free) = hold(ANY_PORT);
    let text = settings("admin_token_file = \"token\"", &unchecked("www.gslb.test", &[("app-1", origin.address)]))
        .replace("status = \"127.0.0.1:0\"", &format!("status = \"{free}\""));
    let proxy = Proxy::start(&text).await;
    let file = proxy.config_file();
    for (order, is_draining) in [("drain", true), ("undrain", false)] {
        let output = command(&[order, "--config", file.to_str().expect("text")]).await;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{{\"is_draining\":{is_draining}}}\n"));
        assert_eq!(proxy.status().await.is_draining, is_draining);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_new_servers_and_finishes_requests_in_flight() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let text = |server: &Origin| settings("", &service("www.gslb.test", &[("app", server.address)], QUICK));
    let proxy = Arc::new(Proxy::start(&text(&one)).await);
    let slow = tokio::spawn({
        let proxy = Arc::clone(&proxy);
        async move { proxy.get("/slow").await }
    });
    until("one in flight", async || proxy.service_status().await.connections == 1).await;
    proxy.rewrite(&text(&two));
    proxy.logged("settings reloaded").await;
    assert!(proxy.get("/").await.body.starts_with("two "));
    until("the slow one alone in flight", async || proxy.service_status().await.connections == 1).await;
    one.shared.release.notify_one();
    assert_eq!(slow.await.expect("answered").body, "slow");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_with_mistakes_changes_nothing_and_logs_each() {
    let origin = Origin::start("one").await;
    let text = settings("", &unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let proxy = Proxy::start(&text).await;
    proxy.rewrite(&text.replace("\"seoul\"", "\"SEOUL\"").replace("\"1h\"", "\"1y\""));
    proxy.logged("settings not reloaded").await;
    proxy.logged("proxy.toml:1: region:").await;
    proxy.logged("check.interval:").await;
    assert_eq!(proxy.status().await.region.as_str(), "seoul");
    assert_eq!(proxy.get("/").await.status, 200);
    proxy.rewrite(
        &text.replace("\"seoul\"", "\"busan\"").replace("status = \"127.0.0.1:0\"", "status = \"127.0.0.1:1\""),
    );
    until("the new region", async || proxy.status().await.region.as_str() == "busan").await;
    assert!(proxy.logged("takes effect only after a restart").await.contains("key=\"status\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_logs_the_warnings_of_check() {
    let origin = Origin::start("one").await;
    let text = settings("", &unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let proxy = Proxy::start(&text).await;
    let token = proxy.folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef").expect("written");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).expect("changed");
    proxy.rewrite(&format!("admin_token_file = \"token\"\n{text}"));
    proxy.logged("settings reloaded").await;
    let file = proxy.config_file();
    let checked = command(&["check", "--config", file.to_str().expect("text")]).await;
    let checked = String::from_utf8_lossy(&checked.stderr).into_owned();
    let warning = checked.trim_end().strip_prefix("warning: ").expect("a warning");
    assert!(warning.contains("has mode 0644"), "{checked}");
    assert!(proxy.logged("has mode 0644").await.contains(warning));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_as_it_runs_needs_no_restart() {
    let origin = Origin::start("one").await;
    let text = settings("", &unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let proxy = Proxy::start(&text).await;
    let count = |what: &str| proxy.log.lock().expect("not poisoned").iter().filter(|line| line.contains(what)).count();
    proxy.rewrite(&text.replace("status = \"127.0.0.1:0\"", "status = \"127.0.0.1:1\""));
    until("reloaded", async || count("settings reloaded") == 1).await;
    proxy.rewrite(&text);
    until("reloaded again", async || count("settings reloaded") == 2).await;
    assert_eq!(count("takes effect only after a restart"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_survives_a_reload() {
    let origin = Origin::start("one").await;
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let check = QUICK.replace("20ms", "1s");
    let text = settings("", &service("www.gslb.test", &[("app-1", origin.address), ("app-2", nobody)], &check));
    let proxy = Proxy::start(&text).await;
    proxy.logged("server is down").await;
    proxy.rewrite(&text.replace("rise = 2", "rise = 3"));
    proxy.logged("settings reloaded").await;
    assert_eq!(proxy.service_status().await.servers_up, 1);
    let downs = proxy.log.lock().expect("not poisoned").iter().filter(|line| line.contains("server is")).count();
    assert_eq!(downs, 2, "one up and one down, once each");
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_settings_again() {
    let origin = Origin::start("one").await;
    let proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("app-1", origin.address)]))).await;
    proxy.signal(Signal::SIGHUP);
    proxy.logged("settings reloaded").await;
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_requests_in_flight_and_refuses_new_ones() {
    let origin = Origin::start("one").await;
    let mut proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("app-1", origin.address)]))).await;
    let listen = proxy.listen;
    let slow = tokio::spawn(async move { ask(listen, "GET /slow HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n").await });
    until("one in flight", async || proxy.service_status().await.connections == 1).await;
    proxy.signal(Signal::SIGTERM);
    until("nobody is let in", async || TcpStream::connect(listen).await.is_err()).await;
    origin.shared.release.notify_one();
    let answer = slow.await.expect("answered");
    assert!(answer.body == "slow" && answer.head.contains("connection: close"), "{answer:?}");
    assert!(proxy.exit().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_ends_is_cut_at_the_stop_limit() {
    let origin = Origin::start("one").await;
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let mut proxy = Proxy::start(&settings("limits.stop = \"200ms\"", &services)).await;
    let listen = proxy.listen;
    let slow = tokio::spawn(async move { ask(listen, "GET /slow HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n").await });
    until("one in flight", async || proxy.service_status().await.connections == 1).await;
    proxy.signal(Signal::SIGINT);
    let exit = tokio::time::timeout(Duration::from_secs(5), proxy.exit()).await.expect("in time");
    assert!(exit.success());
    assert_ne!(slow.await.map(|answer| answer.status).unwrap_or(0), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_accepts_the_example_and_names_every_mistake_elsewhere() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/example.toml");
    let output = command(&["check", "--config", example]).await;
    assert!(output.status.success(), "{output:?}");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "region = 1\nproxy = \"p\"\nlisten = [\"x\"]\n").expect("written");
    for order in ["check", "serve"] {
        let output = command(&[order, "--config", file.to_str().expect("text")]).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in ["bad.toml:1: region:", "status: missing", "bad.toml:3: listen[0]:", "services: no service"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_all_that_is_not_on_this_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("p.toml");
    let tls = "[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificates = [{ certificate = \"c.pem\", key = \"k.pem\" }]\n";
    let services = unchecked("www.gslb.test", &[("app-1", ([127, 0, 0, 1], 9).into())]);
    let root = "user = \"no-such-user\"\nstate_file = \"none/state.json\"";
    std::fs::write(&file, settings(root, &format!("{tls}{services}"))).expect("written");
    let output = command(&["check", "--config", file.to_str().expect("text")]).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in ["user: there is no user no-such-user", "state_file: ", "c.pem: ", "k.pem: "] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_warns_of_secrets_that_others_can_read_and_of_files_that_its_user_cannot() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let (file, token) = (folder.path().join("p.toml"), folder.path().join("token"));
    let services = unchecked("www.gslb.test", &[("app-1", ([127, 0, 0, 1], 9).into())]);
    let root = "user = \"nobody\"\nadmin_token_file = \"token\"";
    std::fs::write(&file, settings(root, &services)).expect("written");
    std::fs::write(&token, TOKEN).expect("written");
    for (of_folder, of_token, expected) in [
        (0o755, 0o644, "token: has mode 0644, so that others can get at the secret in it"),
        (0o755, 0o600, "p.toml: user: nobody may not read "),
        (0o700, 0o644, "p.toml: user: nobody may not enter "),
    ] {
        for (path, mode) in [(folder.path(), of_folder), (&token, of_token)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("changed");
        }
        let output = command(&["check", "--config", file.to_str().expect("text")]).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && text.contains("warning: ") && text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listen_address_of_either_family_serves() {
    let origin = Origin::start("one").await;
    let text = settings("", &unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let proxy = Proxy::start(&text.replace("listen = [", "listen = [\"[::1]:0\", \"127.0.1.10:0\", ")).await;
    assert_eq!(proxy.listens.len(), 3);
    for address in &proxy.listens {
        let raw = "GET / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n\r\n";
        let answer = ask(*address, raw).await;
        let client = if address.is_ipv6() { "x-forwarded-for: ::1\n" } else { "x-forwarded-for: 127.0." };
        assert!(answer.body.contains(client), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_cap_wait_for_a_place() {
    let origin = Origin::start("one").await;
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let proxy = Arc::new(Proxy::start(&settings("limits.connections = 1", &services)).await);
    let first = tokio::spawn({
        let proxy = Arc::clone(&proxy);
        async move { proxy.get("/slow").await }
    });
    until("one in flight", async || proxy.service_status().await.connections == 1).await;
    let second = tokio::spawn({
        let proxy = Arc::clone(&proxy);
        async move { proxy.get("/").await }
    });
    // The status listener is apart: it answers however many clients there are.
    until("a rate", async || proxy.service_status().await.requests_per_sec > 0.0).await;
    assert!(!second.is_finished());
    assert_eq!(origin.requests(), 1);
    origin.shared.release.notify_one();
    assert_eq!(first.await.expect("answered").status, 200);
    assert_eq!(second.await.expect("answered").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_listener_takes_no_place_from_another() {
    let origin = Origin::start("one").await;
    let text = settings("limits.connections = 1", &unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let proxy = Proxy::start(&text.replace("listen = [", "listen = [\"127.0.1.10:0\", ")).await;
    for address in [0, 0, 1, 1].map(|at| proxy.listens[at]) {
        let raw = "GET / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n\r\n";
        assert_eq!(ask(address, raw).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_lose_no_request() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let text = |server: &Origin| settings("", &service("www.gslb.test", &[("app", server.address)], QUICK));
    let proxy = Arc::new(Proxy::start(&text(&one)).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (proxy, is_over) = (Arc::clone(&proxy), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut count = 0;
                while !is_over.load(Ordering::SeqCst) {
                    assert_eq!(proxy.get("/").await.status, 200);
                    count += 1;
                }
                count
            })
        })
        .collect();
    for round in 0..20 {
        proxy.rewrite(&text(if round % 2 == 0 { &two } else { &one }));
        proxy.signal(Signal::SIGHUP);
        until("reloaded", async || {
            let log = proxy.log.lock().expect("not poisoned");
            log.iter().filter(|line| line.contains("settings reloaded")).count() > round
        })
        .await;
    }
    is_over.store(true, Ordering::SeqCst);
    for client in clients {
        assert!(client.await.expect("no request failed") > 0);
    }
    assert!(one.requests() > 0 && two.requests() > 0);
}
