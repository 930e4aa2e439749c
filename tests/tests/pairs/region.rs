//! A region: two proxies that hold a VIP in turn, and a machine with the servers behind them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gslb_tests::harness::http::{Request, get_json};
use gslb_tests::harness::process::{Folder, Process, program};
use gslb_tests::harness::within;
use gslb_tests::net::Net;
use nix::sys::signal::Signal;
use serde_json::Value;

/// Service whose sessions are kept by a cookie of the proxy.
pub(crate) const WWW: &str = "www.gslb.test";
/// Service whose sessions are kept by a prefix of its own cookie.
pub(crate) const JAVA: &str = "java.gslb.test";
/// Service whose clients keep their servers by their addresses.
pub(crate) const PLAIN: &str = "plain.gslb.test";

/// The programs of a region; all end when this is dropped.
pub(crate) struct Region<'n> {
    net: &'n Net,
    pub(crate) name: &'static str,
    pub(crate) vip: IpAddr,
    folder: Folder,
    proxies: [Option<Process>; 2],
    _servers: Vec<Process>,
}

/// The hosts of a region, to be put on a [`Net`].
pub(crate) fn hosts(name: &str) -> [String; 3] {
    ["1", "2", "app"].map(|host| format!("{name}-{host}"))
}

impl<'n> Region<'n> {
    /// A region on its hosts in `net`, whose first proxy holds `vip`; `id` is the number of the virtual router.
    pub(crate) fn start(net: &'n Net, name: &'static str, vip: IpAddr, id: u8) -> Self {
        let folder = Folder::new("gslb-pair-").expect("a folder");
        std::fs::write(folder.path().join("token"), TOKEN).expect("it can be written");
        let app = format!("{name}-app");
        let servers = (1..=SERVERS).map(|n| {
            let (server, address) = (format!("{app}-{n}"), SocketAddr::new(net.address(&app), 9000 + n));
            let arguments = [server.clone(), address.to_string()];
            let process = start_in(net, &app, &server, "servlet", &arguments);
            process.wait_for_line("listening on", 0, LIMIT).expect("it listens");
            process
        });
        let mut region = Self { net, name, vip, _servers: servers.collect(), folder, proxies: [None, None] };
        for at in 0..2 {
            std::fs::write(region.file(at), region.settings(at, id)).expect("it can be written");
            region.start_proxy(at);
        }
        region.until_holder(0);
        region
    }

    /// Starts the proxy at `at`, and waits until it has found its servers and a part in the pair.
    pub(crate) fn start_proxy(&mut self, at: usize) {
        let arguments = ["serve".to_owned(), "--config".to_owned(), self.file(at)];
        self.proxies[at] = Some(start_in(self.net, &self.host(at), &self.host(at), "region-proxy", &arguments));
        let is_ready = || {
            let status = self.status(at)?;
            // Those that no law drains a server of.
            let up = [WWW, JAVA].map(|service| status["services"][service]["servers_up"].as_u64());
            match &status["virtual_routers"][0]["state"] {
                Value::String(state) if state != "initialize" && up == [Some(SERVERS.into()); 2] => Ok(()),
                _ => Err(status.to_string()),
            }
        };
        self.within(&format!("{} is ready", self.host(at)), is_ready);
    }

    /// Kills the proxy at `at` (SIGKILL), and nothing beside it.
    pub(crate) fn kill_proxy(&mut self, at: usize) {
        let mut proxy = self.proxies[at].take().expect("it runs");
        proxy.signal(Signal::SIGKILL).expect("it runs");
        proxy.wait(LIMIT).expect("it ends");
        // Not before its watchdog has done its work.
        self.within("the watchdog took the VIP off", || match self.holders().contains(&self.host(at)) {
            true => Err("it is there".to_owned()),
            false => Ok(()),
        });
    }

    /// Ends the proxy at `at` in order.
    pub(crate) fn stop_proxy(&mut self, at: usize) {
        self.proxies[at].take().expect("it runs").terminate(LIMIT).expect("it ends");
    }

    /// Waits until only the proxy at `at` holds the VIP, and says so.
    pub(crate) fn until_holder(&self, at: usize) {
        self.within(&format!("{} holds the VIP, alone", self.host(at)), || {
            let holders = self.holders();
            let says = &self.status(at)?["virtual_routers"][0]["holds_vips"];
            if holders == [self.host(at)] && *says == true { Ok(()) } else { Err(format!("{holders:?}")) }
        });
    }

    /// The hosts that have the VIP.
    pub(crate) fn holders(&self) -> Vec<String> {
        self.net.holders(&self.vip.to_string()).into_iter().map(str::to_owned).collect()
    }

    /// What the proxy at `at` says.
    pub(crate) fn status(&self, at: usize) -> Result<Value, String> {
        let address = SocketAddr::new(self.net.address(&self.host(at)), STATUS);
        self.net.within(&self.host(at), move || get_json(address, "/status")).join().expect("it ends well")
    }

    /// Tells the proxy at `at` something, such as `/drain`.
    pub(crate) fn tell(&self, at: usize, path: &'static str) {
        let address = SocketAddr::new(self.net.address(&self.host(at)), STATUS);
        let telling = self.net.within(&self.host(at), move || Request::post(path, TOKEN).send(address));
        assert_eq!(telling.join().expect("it ends well").map(|answer| answer.status), Ok(200));
    }

    /// What `region-proxy ctl` prints for the proxy at `at`.
    pub(crate) fn ctl(&self, at: usize, arguments: &[&str]) -> String {
        let program = program("region-proxy").expect("it is built");
        let mut command = self.net.command(&self.host(at), program);
        let done = command.arg("ctl").args(arguments).args(["--json", "--config"]).arg(self.file(at)).output();
        let done = done.expect("it can be started");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Waits until the proxy at `at` knows `count` clients of [`PLAIN`].
    pub(crate) fn until_known(&self, at: usize, count: usize) {
        self.within(&format!("{} knows {count} clients", self.host(at)), || {
            let tables: Value = serde_json::from_str(&self.ctl(at, &["stick"])).map_err(|error| error.to_string())?;
            if tables["tables"][0]["entries"] == count { Ok(()) } else { Err(tables.to_string()) }
        });
    }

    /// The region in the settings of a node.
    pub(crate) fn in_topology(&self) -> (&'static str, String) {
        let proxy = |at| format!("{} = \"http://{}:{STATUS}/status\"", self.host(at), self.net.address(&self.host(at)));
        (self.name, format!("vips = [\"{}\"]\nproxies = {{ {}, {} }}\n", self.vip, proxy(0), proxy(1)))
    }

    /// The file with the token of the proxies.
    pub(crate) fn token(&self) -> String {
        self.folder.path().join("token").display().to_string()
    }

    /// The host of the proxy at `at`, and its name.
    pub(crate) fn host(&self, at: usize) -> String {
        format!("{}-{}", self.name, at + 1)
    }

    /// The logs of the proxies that run.
    pub(crate) fn logs(&self) -> String {
        self.proxies.iter().flatten().map(Process::log_tail).collect::<Vec<_>>().join("\n")
    }

    fn within(&self, what: &str, look: impl FnMut() -> Result<(), String>) {
        if let Err(why) = within(LIMIT, look) {
            panic!("{what}: {why}\n{}", self.logs());
        }
    }

    fn file(&self, at: usize) -> String {
        self.folder.path().join(format!("{}.toml", self.host(at))).display().to_string()
    }

    fn settings(&self, at: usize, id: u8) -> String {
        let (name, host, vip) = (self.name, self.host(at), self.vip);
        let (own, app) = (self.net.address(&host), self.net.address(&format!("{name}-app")));
        let servers = (1..=SERVERS).map(|n| format!("app-{n} = \"{app}:{}\"", 9000 + n));
        let servers = servers.collect::<Vec<_>>().join(", ");
        let service = |name, stick| {
            format!(
                "[services.\"{name}\"]\nservers = {{ {servers} }}\n{stick}\n\
                 check = {{ path = \"/health\", interval = \"200ms\", time_limit = \"1s\" }}\n"
            )
        };
        let www = service(WWW, "stick = { cookie = \"SRV\", mode = \"insert\", indirect = true, nocache = true }");
        let java = service(JAVA, "stick = { cookie = \"JSESSIONID\", mode = \"prefix\" }");
        let plain = service(PLAIN, "stick = { by = \"source\" }");
        let peer = |at| format!("{} = \"{}:{PEERS}\"", self.host(at), self.net.address(&self.host(at)));
        format!(
            "region = \"{name}\"\nproxy = \"{host}\"\nlisten = [\"{vip}:80\"]\nstatus = \"{own}:{STATUS}\"\n\
             admin_token_file = \"token\"\ncookie_secret_file = \"token\"\nthreads = 1\nlimits = {{ stop = \"1s\" }}\n\
             [vrrp.web]\ninterface = \"eth0\"\nid = {id}\npriority = {priority}\nvips = [\"{vip}\"]\n\
             track = {{ drain = 100 }}\n[peers]\nproxies = {{ {}, {} }}\nsecret_file = \"token\"\n{www}{java}{plain}",
            peer(0),
            peer(1),
            priority = 250 - 20 * at,
        )
    }
}

/// A program of this workspace on `host`, called `name` in messages.
pub(crate) fn start_in(net: &Net, host: &str, name: &str, what: &str, arguments: &[String]) -> Process {
    let path = program(what).expect("it is built");
    let inside = ["netns".to_owned(), "exec".to_owned(), net.name(host), path.display().to_string()];
    Process::start(name, "ip".as_ref(), &[&inside, arguments].concat()).expect("it can be started")
}

/// Servers of each region.
const SERVERS: u16 = 3;
/// Where proxies tell their status.
pub(crate) const STATUS: u16 = 8081;
/// Where they tell each other.
const PEERS: u16 = 8082;
/// Of all proxies, and what keys of cookies are made of.
pub(crate) const TOKEN: &str = "a-token-for-tests-of-pairs";
/// A machine with two cores runs many of these at once.
pub(crate) const LIMIT: Duration = Duration::from_secs(15);
