//! The real program as the balancer.

use std::process::Command;
use std::time::Duration;

use gslb_tests::harness::http::get_json;
use gslb_tests::harness::process::{Folder, Process, program};
use gslb_tests::harness::within;
use gslb_tests::net::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bed::{Bed, Mode, POOL, PORT, SERVERS};

/// A region-proxy on `lb`, which ends with this.
pub(crate) struct Proxy {
    process: Process,
    folder: Folder,
}

impl Proxy {
    /// Passes all flows on to the servers of `bed`, of which the first has twice the weight of another.
    pub(crate) fn start(bed: &Bed) -> Self {
        let folder = Folder::new("gslb-l4-").expect("a folder");
        std::fs::write(folder.path().join("proxy.toml"), settings(bed)).expect("it can be written");
        Self::start_in(folder, bed)
    }

    fn start_in(folder: Folder, bed: &Bed) -> Self {
        let file = folder.path().join("proxy.toml");
        let program = program("region-proxy").expect("it is built");
        let inside = ["netns", "exec", &bed.net.name("lb")].map(str::to_owned);
        let serve =
            [program.display().to_string(), "serve".to_owned(), "--config".to_owned(), file.display().to_string()];
        let process = Process::start("region-proxy", "ip".as_ref(), &[&inside[..], &serve].concat());
        let proxy = Self { process: process.expect("it can be started"), folder };
        proxy.until_up(bed);
        proxy
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it anew.
    pub(crate) fn again(self, bed: &Bed) -> Self {
        let Self { process, folder } = self;
        drop(process);
        Self::start_in(folder, bed)
    }

    /// Has another process take its place.
    pub(crate) fn upgrade(&self, bed: &Bed) {
        let from = self.process.log().len();
        self.process.signal(Signal::SIGUSR2).expect("it lives");
        self.process.wait_for_line("l4: rules are in force", from, LIMIT).expect("the new one goes on");
        self.until_up(bed);
    }

    /// Ends in order whatever runs in its place.
    pub(crate) fn end_all(self, bed: &Bed) {
        let pids = || {
            let found = Command::new("ip").args(["netns", "pids", &bed.net.name("lb")]).output().expect("it starts");
            let own = std::process::id().to_string();
            let text = String::from_utf8_lossy(&found.stdout).into_owned();
            text.lines().filter(|pid| *pid != own).map(str::to_owned).collect::<Vec<_>>()
        };
        for pid in pids().into_iter().filter_map(|pid| pid.parse().ok()) {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        until("all have ended", || pids().is_empty());
    }

    /// What `region-proxy l4 show` prints.
    pub(crate) fn show(&self, words: &[&str]) -> String {
        let mut command = Command::new(program("region-proxy").expect("it is built"));
        command.args(["l4", "show", "--socket"]).arg(self.folder.path().join("admin.sock"));
        let shown = command.args(words).output().expect("it starts");
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        String::from_utf8_lossy(&shown.stdout).into_owned()
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) {
        self.process.terminate(LIMIT).expect("it ends");
    }

    fn until_up(&self, bed: &Bed) {
        let servers = servers(bed).len();
        let look = || {
            let asking = bed.net.within("lb", || get_json(([127, 0, 0, 1], 8081).into(), "/status"));
            let status = asking.join().map_err(|_| "it did not end well")??;
            let up = &status["services"]["www.example.com"]["servers_up"];
            if *up == servers { Ok(()) } else { Err(format!("{up} of {servers} are up")) }
        };
        within(LIMIT, look).unwrap_or_else(|why| panic!("{why}\n{}", self.process.log_tail()));
    }

    /// Tells it something about a server, such as `["drain"]` or `["weight", "3"]`.
    pub(crate) fn tell(&self, words: &[&str], server: &str) {
        self.ctl(&[&words[..1], &[&format!("www.example.com/{server}")], &words[1..]].concat());
    }

    fn ctl(&self, words: &[&str]) {
        let mut command = Command::new(program("region-proxy").expect("it is built"));
        command.arg("ctl").arg("--socket").arg(self.folder.path().join("admin.sock"));
        let done = command.args(words).output().expect("it starts");
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Has it read settings anew, with another L4 service beside or without it.
    pub(crate) fn reload(&self, bed: &Bed, has_other: bool) {
        let ours = "[services.\"www.example.com\"]";
        let vips = bed.vips().map(|vip| format!("\"{vip}\"")).join(", ");
        let other = format!(
            "[l4.other]\n{}\nvips = [{vips}]\nports = [{}]\nprotocols = [\"udp\"]\nservice = \"www.example.com\"\n{ours}",
            mode(bed),
            PORT + 1,
        );
        let text = settings(bed);
        let text = if has_other { text.replacen(ours, &other, 1) } else { text };
        let (file, new) = (self.folder.path().join("proxy.toml"), self.folder.path().join("proxy.toml.new"));
        std::fs::write(&new, text).expect("it can be written");
        std::fs::rename(new, file).expect("it can be renamed");
        self.ctl(&["reload"]);
    }

    /// The name of the server on `host` that takes flows of this family.
    pub(crate) fn server_on(bed: &Bed, host: &str, is_v4: bool) -> String {
        format!("{host}-{}", if is_v4 || bed.mode == Mode::Tunnel { 4 } else { 6 })
    }

    /// What it says.
    pub(crate) fn log(&self) -> String {
        self.process.log_tail()
    }
}

/// Names and addresses of all servers. Tunnels go over IPv4.
fn servers(bed: &Bed) -> Vec<(String, String)> {
    let families: &[bool] = if bed.mode == Mode::Tunnel { &[true] } else { &[true, false] };
    let server = |is_v4: bool| {
        SERVERS.iter().map(move |host| {
            let address = std::net::SocketAddr::new(bed.address(host, is_v4), PORT);
            (format!("{host}-{}", if is_v4 { 4 } else { 6 }), address.to_string())
        })
    };
    families.iter().flat_map(|is_v4| server(*is_v4)).collect()
}

/// How packets come to servers, as settings have it.
fn mode(bed: &Bed) -> String {
    match bed.mode {
        Mode::Router | Mode::Bridge => "mode = \"nat\"".to_owned(),
        Mode::OneArm => format!("mode = \"one-arm\"\nsnat = {POOL:?}"),
        Mode::Dsr => "mode = \"dsr\"\ninterface = \"eth0\"".to_owned(),
        Mode::Tunnel => {
            let local = bed.address("lb", true);
            format!("mode = \"tunnel\"\ntunnel = {{ kind = \"vxlan\", id = 100, local = \"{local}\" }}")
        }
    }
}

fn settings(bed: &Bed) -> String {
    let servers = servers(bed).into_iter().map(|(name, address)| {
        let weight = if name.starts_with(SERVERS[0]) { 2 } else { 1 };
        format!("{name} = {{ address = \"{address}\", weight = {weight} }}\n")
    });
    let mode = mode(bed);
    let vips = bed.vips().map(|vip| format!("\"{vip}\"")).join(", ");
    format!(
        "region = \"seoul\"\nproxy = \"lb\"\nstatus = \"127.0.0.1:8081\"\nadmin_socket = \"admin.sock\"\nthreads = 1\n[l4.web]\n{mode}\nvips = [{vips}]\n\
         ports = [{PORT}]\nprotocols = [\"tcp\", \"udp\"]\nbalance = \"round_robin\"\nservice = \"www.example.com\"\n\
         [services.\"www.example.com\"]\nmode = \"tcp\"\ncheck = {{ interval = \"200ms\" }}\n\
         [services.\"www.example.com\".servers]\n{}",
        servers.collect::<String>()
    )
}

/// A machine with two cores runs many of these at once.
const LIMIT: Duration = Duration::from_secs(15);
