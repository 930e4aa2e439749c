//! Those who share VIPs: region-proxy, and keepalived.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use gslb_tests::harness::process::program;
use gslb_tests::net::{Net, until};

/// A process that ends with the test.
pub(crate) struct Peer {
    child: Child,
    host: String,
    folder: TempDir,
    log: PathBuf,
}

impl Peer {
    /// A proxy on `host` with these lines in `[vrrp.web]`.
    pub(crate) fn proxy(net: &Net, host: &str, vrrp: &str) -> Self {
        Self::serving(net, host, &settings(host, vrrp))
    }

    fn serving(net: &Net, host: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("proxy.toml"), text).expect("it can be written");
        std::fs::write(folder.path().join("token"), TOKEN).expect("it can be written");
        let mut command = net.command(host, program("region-proxy").expect("it is built"));
        command.arg("serve").arg("--config").arg(folder.path().join("proxy.toml"));
        let log = folder.path().join("log");
        let file = std::fs::File::create(&log).expect("it can be written");
        let child = command.stdin(Stdio::null()).stderr(file).spawn().expect("it can be started");
        Self { child, host: host.to_owned(), folder, log }
    }

    /// Another process on the host of a proxy that runs, with the same virtual router.
    pub(crate) fn second(net: &Net, host: &str, vrrp: &str) -> Self {
        let (listen, status) = ("listen = [\"127.0.0.1:9080\"]", "127.0.0.1:9081");
        let text = settings(host, vrrp).replace("127.0.0.1:8081", status);
        let lines = text.lines().map(|line| if line.starts_with("listen") { listen } else { line });
        Self::serving(net, host, &lines.collect::<Vec<_>>().join("\n"))
    }

    /// keepalived on `host`, with these lines in its instance.
    pub(crate) fn keepalived(net: &Net, host: &str, instance: &str) -> Self {
        let text = format!(
            "global_defs {{\n vrrp_version 3\n}}\nvrrp_instance web {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n \
             {instance}\n}}\n"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("keepalived.conf"), text).expect("it can be written");
        let mut command = net.command(host, "keepalived");
        command.args(["-P", "-n", "-l", "-D"]);
        command.arg("-f").arg(at("keepalived.conf")).arg("-p").arg(at("pid")).arg("-r").arg(at("vrrp.pid"));
        let log = at("log");
        let file = std::fs::File::create(&log).expect("it can be written");
        let errors = file.try_clone().expect("another handle");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn().expect("it can be started");
        Self { child, host: host.to_owned(), folder, log }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
    }

    /// The time of the processor that it has taken.
    pub(crate) fn busy(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |field: usize| fields[field].parse::<u64>().expect("a number");
        // utime and stime, in hundredths of a second.
        Duration::from_millis(10 * (ticks(11) + ticks(12)))
    }

    /// The processes that it has started.
    pub(crate) fn children(&self) -> Vec<Pid> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs").flatten();
        let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let children: String = children.collect();
        children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().expect("a number"))).collect()
    }

    /// Gives a proxy other lines in `[vrrp.web]`, and upgrades it at once.
    pub(crate) fn upgrade_to(&self, vrrp: &str) {
        std::fs::write(self.folder.path().join("proxy.toml"), settings(&self.host, vrrp)).expect("it can be written");
        self.signal(Signal::SIGUSR2);
    }

    /// Gives a proxy other lines in `[vrrp.web]` and after it, and waits until it has read them; says whether it took them.
    pub(crate) fn reload_to(&self, vrrp: &str) -> bool {
        self.reload(&settings(&self.host, vrrp))
    }

    /// Takes all virtual routers away from a proxy, and waits until it has read that.
    pub(crate) fn reload_to_none(&self) -> bool {
        let text = settings(&self.host, "");
        self.reload(&text[..text.find("[vrrp").expect("they are there")])
    }

    fn reload(&self, text: &str) -> bool {
        // A new file in the place of the old one, as editors do, so that none is read half.
        let new = self.folder.path().join("new");
        std::fs::write(&new, text).expect("it can be written");
        std::fs::rename(new, self.folder.path().join("proxy.toml")).expect("it can be renamed");
        let [taken, refused] = ["settings reloaded", "settings not reloaded"];
        let count = |what| self.log().matches(what).count();
        let before = [count(taken), count(refused)];
        self.signal(Signal::SIGHUP);
        until("the settings are read", || [count(taken), count(refused)] != before);
        count(taken) > before[0]
    }

    /// Ends it in order, and waits for its end.
    pub(crate) fn stop(self) {
        self.end(Signal::SIGTERM);
    }

    /// Ends it with this signal, and waits for its end.
    pub(crate) fn end(mut self, signal: Signal) {
        self.signal(signal);
        self.child.wait().expect("it ends");
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What a proxy answers to this, as JSON where it is.
    pub(crate) fn ask(&self, net: &Net, request: &'static str) -> Option<String> {
        let asking = net.within(&self.host, move || {
            let address = SocketAddr::from(([127, 0, 0, 1], 8081));
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
            let head =
                format!("{request} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
        });
        asking.join().expect("it ends well")
    }

    /// What a proxy says of its virtual router.
    pub(crate) fn router(&self, net: &Net) -> Option<Value> {
        self.routers(net)?.first().cloned()
    }

    /// What a proxy says of all its virtual routers.
    pub(crate) fn routers(&self, net: &Net) -> Option<Vec<Value>> {
        let status: Value = serde_json::from_str(&self.ask(net, "GET /status")?).ok()?;
        Some(status["virtual_routers"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until a proxy says that it is in this state.
    pub(crate) fn until_state(&self, net: &Net, state: &str) {
        until(&format!("{} is {state}", self.host), || self.router(net).is_some_and(|router| router["state"] == state));
    }

    /// The value of a metric of a proxy.
    pub(crate) fn metric(&self, net: &Net, name: &str) -> u64 {
        let text = self.ask(net, "GET /metrics").unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{name} is not in\n{text}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.host, self.log());
        }
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// The settings of a proxy on `host`, with these lines in `[vrrp.web]`.
fn settings(host: &str, vrrp: &str) -> String {
    format!(
        "region = \"seoul\"\nproxy = \"{host}\"\nlisten = [\"{LISTEN}:80\", \"127.0.0.1:8080\"]\nthreads = 1\n\
         status = \"127.0.0.1:8081\"\nadmin_token_file = \"token\"\n[limits]\nstop = \"1s\"\n\
         [services.\"www.example.com\".servers]\na = \"127.0.0.1:9\"\n[vrrp.web]\ninterface = \"eth0\"\nid = 51\n{vrrp}",
        LISTEN = if vrrp.contains("fe80::10") { "[2001:db8::10]" } else { "192.0.2.10" },
    )
}

const TOKEN: &str = "0123456789abcdef";
