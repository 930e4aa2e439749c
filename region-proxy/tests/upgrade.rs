//! Another program in the place of the running one, sockets that the system passes, addresses that change.

mod common;

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Origin, Proxy, TOKEN, ask, settings, unchecked, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

/// The programs that took the place of the one that the harness started; they end with this.
struct Successors(Arc<Mutex<Vec<String>>>);

impl Successors {
    fn of(proxy: &Proxy) -> Self {
        Self(Arc::clone(&proxy.log))
    }

    /// Their process ids, oldest first.
    fn pids(&self) -> Vec<i32> {
        let log = self.0.lock().expect("not poisoned");
        let started = log.iter().filter(|line| line.contains("upgrading: started"));
        started.filter_map(|line| line.split("pid=").nth(1)?.split_whitespace().next()?.parse().ok()).collect()
    }
}

impl Drop for Successors {
    fn drop(&mut self) {
        for pid in self.pids() {
            // It may have ended.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n\r\n";

fn is_alive(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_leaves_the_addresses_to_a_new_process() {
    let origin = Origin::start("one").await;
    let root = "threads = 2\nadmin_token_file = \"token\"";
    let mut proxy = Proxy::start(&settings(root, &unchecked("www.gslb.test", &[("app-1", origin.address)]))).await;
    let mut idle = TcpStream::connect(proxy.listen).await.expect("connected");
    let successors = Successors::of(&proxy);
    assert_eq!(proxy.change("/drain", Some(TOKEN)).await.status, 200);
    proxy.signal(Signal::SIGUSR2);
    proxy.logged("handed over").await;
    let old = proxy.pid();
    let pids = successors.pids();
    assert!(pids.len() == 1 && is_alive(pids[0]) && pids[0] != old);
    // The old one waits for the client that it has, and tells it to come anew.
    idle.write_all(GET.replace("Connection: close\r\n", "").as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    idle.read_to_end(&mut answer).await.expect("an answer and the end");
    assert!(String::from_utf8_lossy(&answer).to_ascii_lowercase().contains("connection: close"));
    assert!(proxy.exit().await.success());
    assert_eq!(ask(proxy.listen, GET).await.status, 200);
    assert!(proxy.status().await.is_draining, "what an operator wants is carried over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_start_changes_nothing() {
    let origin = Origin::start("one").await;
    let text = settings("", &unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let proxy = Proxy::start(&text).await;
    let successors = Successors::of(&proxy);
    proxy.rewrite(&text.replace("region = ", "religion = "));
    proxy.signal(Signal::SIGUSR2);
    proxy.logged("not upgraded").await;
    assert_eq!(proxy.get("/").await.status, 200);
    proxy.rewrite(&text);
    proxy.signal(Signal::SIGUSR2);
    proxy.logged("handed over").await;
    assert_eq!(successors.pids().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_may_be_more_or_fewer_after_an_upgrade() {
    let origin = Origin::start("one").await;
    let text = |threads: u32| {
        let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
        settings(&format!("threads = {threads}\nlimits.handover = \"1s\""), &services)
    };
    let mut proxy = Proxy::start(&text(3)).await;
    let successors = Successors::of(&proxy);
    proxy.rewrite(&text(1));
    proxy.signal(Signal::SIGUSR2);
    assert!(proxy.exit().await.success());
    // The kernel spreads connections over three sockets, of which each must be served.
    for _ in 0..30 {
        assert_eq!(ask(proxy.listen, GET).await.status, 200);
    }
    let pid = successors.pids()[0];
    proxy.rewrite(&text(4));
    kill(Pid::from_raw(pid), Signal::SIGUSR2).expect("it runs");
    until("the second one ends", async || !is_alive(pid)).await;
    for _ in 0..30 {
        assert_eq!(ask(proxy.listen, GET).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_come_and_go_with_a_reload() {
    let origin = Origin::start("one").await;
    let text = settings("", &unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let proxy = Proxy::start(&text.replace("listen = [", "listen = [\"127.0.1.10:0\", ")).await;
    let [going, staying] = proxy.listens[..] else { panic!("two addresses") };
    let mut kept = TcpStream::connect(going).await.expect("connected");
    proxy.rewrite(&text.replace("listen = [", "listen = [\"127.0.1.11:0\", "));
    let line = proxy.logged(" listening ").await;
    let coming: SocketAddr = line
        .split("address=")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .expect("an address");
    proxy.logged("settings reloaded").await;
    for address in [coming, staying] {
        assert_eq!(ask(address, GET).await.status, 200);
    }
    until("nobody is let in", async || TcpStream::connect(going).await.is_err()).await;
    kept.write_all(GET.as_bytes()).await.expect("sent");
    assert_eq!(common::read_answer(&mut kept).await.status, 200, "who is in stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_leaves_the_old_settings_in_force() {
    let origin = Origin::start("one").await;
    let text = settings("", &unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let proxy = Proxy::start(&text).await;
    proxy.rewrite(&text.replace("listen = [", &format!("listen = [\"{}\", ", origin.address)));
    proxy.signal(Signal::SIGHUP);
    assert!(proxy.logged("mistake in the settings").await.contains(&origin.address.to_string()));
    assert_eq!(proxy.get("/").await.status, 200);
}

/// A socket as `systemd` would bind it.
fn passed() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
    socket.listen(16).expect("listening");
    socket
}

/// A command whose process gets `socket` as the first file that is passed.
fn activated(socket: &Socket, folder: &TempDir) -> Command {
    let mut command = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve --config \"$1\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_region-proxy")]).arg(folder.path().join("proxy.toml"));
    command.stdin(Stdio::from(OwnedFd::from(socket.try_clone().expect("a copy"))));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_the_system_passes_is_used_by_every_thread() {
    let origin = Origin::start("one").await;
    let socket = passed();
    let address = socket.local_addr().expect("bound").as_socket().expect("an address");
    // Who connects before the proxy runs is served too.
    let mut early = TcpStream::connect(address).await.expect("connected");
    early.write_all(GET.as_bytes()).await.expect("sent");
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let text = settings("threads = 3", &services).replacen("127.0.0.1:0", &address.to_string(), 1);
    let folder = Arc::new(TempDir::new().expect("a folder"));
    let proxy = Proxy::start_by(activated(&socket, &folder), Arc::clone(&folder), &text).await;
    assert_eq!(proxy.listen, address);
    assert_eq!(common::read_answer(&mut early).await.status, 200);
    for _ in 0..10 {
        assert_eq!(ask(address, GET).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_which_process_is_the_main_one() {
    let origin = Origin::start("one").await;
    let folder = Arc::new(TempDir::new().expect("a folder"));
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let mut command = Command::new(env!("CARGO_BIN_EXE_region-proxy"));
    command.args(["serve", "--config"]).arg(folder.path().join("proxy.toml")).env("NOTIFY_SOCKET", &path);
    let text = settings("limits.handover = \"1s\"", &unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let proxy = Proxy::start_by(command, folder, &text).await;
    let successors = Successors::of(&proxy);
    let told = || {
        let mut bytes = [0; 256];
        let count = socket.recv(&mut bytes).expect("told in time");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    assert_eq!(told().trim(), "READY=1");
    proxy.signal(Signal::SIGUSR2);
    let main = told();
    assert_eq!(main.trim(), format!("MAINPID={}", successors.pids()[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_of_servers_is_carried_over_to_a_new_process() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let root = "threads = 2\nadmin_socket = \"admin.sock\"\nadmin_token_file = \"token\"";
    let services = unchecked("www.gslb.test", &[("app-1", one.address), ("app-2", two.address)]);
    let mut proxy = Proxy::start(&settings(root, &services)).await;
    let _successors = Successors::of(&proxy);
    let socket = proxy.folder.path().join("admin.sock");
    let ctl = async |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_region-proxy"));
        let output = command.args(["ctl", "--socket"]).arg(&socket).args(arguments).output().await.expect("it ran");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    ctl(&["drain", "www.gslb.test/app-1"]).await;
    proxy.signal(Signal::SIGUSR2);
    proxy.logged("handed over").await;
    assert!(proxy.exit().await.success());
    for _ in 0..6 {
        assert!(ask(proxy.listen, GET).await.body.starts_with("two "));
    }
    assert!(ctl(&["servers"]).await.contains("drain (operator)"), "the new process has the socket");
}

/// The user ids of a process: real, effective, saved.
fn users(pid: i32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:")).expect("its users");
    line.split_whitespace().take(3).map(|id| id.parse().expect("a number")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_serves_is_the_user_of_the_settings_and_can_be_upgraded() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let nobody = nix::unistd::User::from_name("nobody").expect("users").expect("there is one").uid.as_raw();
    let (origin, folder) = (Origin::start("one").await, Arc::new(TempDir::new().expect("a folder")));
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("set");
    // Where that user may start it.
    let program = folder.path().join("region-proxy");
    std::fs::copy(env!("CARGO_BIN_EXE_region-proxy"), &program).expect("copied");
    let mut command = Command::new(&program);
    command.args(["serve", "--config"]).arg(folder.path().join("proxy.toml"));
    let text = |threads: u32| {
        let root = format!("user = \"nobody\"\nthreads = {threads}");
        settings(&root, &unchecked("www.gslb.test", &[("app-1", origin.address)]))
    };
    let proxy = Proxy::start_by(command, folder, &text(1)).await;
    let successors = Successors::of(&proxy);
    assert_eq!(users(proxy.pid()), [nobody; 3]);
    // It may not bind beside a socket of root's: two threads share that one.
    proxy.rewrite(&text(2));
    proxy.signal(Signal::SIGUSR2);
    proxy.logged("handed over").await;
    assert_eq!(users(successors.pids()[0]), [nobody; 3]);
    for _ in 0..10 {
        assert_eq!(ask(proxy.listen, GET).await.status, 200);
    }
}

async fn ctl(proxy: &Proxy, order: &str) -> std::process::Output {
    let config = proxy.config_file();
    let command =
        Command::new(env!("CARGO_BIN_EXE_region-proxy")).args(["ctl", order, "--config"]).arg(config).output();
    command.await.expect("it ran")
}

/// Puts a program in the place of another, as packages do.
fn replace(program: &Path, write: impl FnOnce(&Path)) {
    let new = program.with_extension("new");
    write(&new);
    std::fs::set_permissions(&new, Permissions::from_mode(0o755)).expect("set");
    std::fs::rename(new, program).expect("renamed");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_an_upgrade_hears_what_came_of_it() {
    let (origin, folder) = (Origin::start("one").await, Arc::new(TempDir::new().expect("a folder")));
    let program = folder.path().join("region-proxy");
    let real = |path: &Path| {
        std::fs::copy(env!("CARGO_BIN_EXE_region-proxy"), path).expect("copied");
    };
    replace(&program, real);
    let mut command = Command::new(&program);
    command.args(["serve", "--config"]).arg(folder.path().join("proxy.toml"));
    let text = settings("admin_socket = \"ctl.sock\"", &unchecked("www.gslb.test", &[("app-1", origin.address)]));
    let mut proxy = Proxy::start_by(command, folder, &text).await;
    let successors = Successors::of(&proxy);

    replace(&program, |path| std::fs::write(path, "#!/bin/sh\nexit 3\n").expect("written"));
    let refused = ctl(&proxy, "upgrade").await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("exit status: 3"), "{said}");
    assert_eq!(proxy.get("/").await.status, 200);

    replace(&program, real);
    let done = ctl(&proxy, "upgrade").await;
    assert!(done.status.success(), "{done:?}");
    assert!(proxy.exit().await.success());
    assert!(is_alive(successors.pids()[1]));
    assert!(ctl(&proxy, "servers").await.status.success(), "the new one listens at the socket");
}
