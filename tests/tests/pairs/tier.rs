//! A region that scales out: two proxies that pass packets on to two others by DSR, which do the rest.

use std::net::{IpAddr, SocketAddr};

use gslb_tests::harness::http::get_json;
use gslb_tests::harness::process::{Folder, Process};
use gslb_tests::harness::within;
use gslb_tests::net::Net;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::region::{LIMIT, STATUS, TOKEN, WWW, start_in};

/// Its hosts, in front of those of servers and clients.
pub(crate) const HOSTS: [&str; 5] = ["lb-1", "lb-2", "l7-1", "l7-2", "app"];

/// The programs of the region; all end when this is dropped.
pub(crate) struct Tier<'n> {
    net: &'n Net,
    vip: IpAddr,
    folder: Folder,
    proxies: Vec<(&'static str, Process)>,
    _servers: Vec<Process>,
}

impl<'n> Tier<'n> {
    /// All of them, with `vip` at `lb-1`.
    pub(crate) fn start(net: &'n Net, vip: IpAddr) -> Self {
        let folder = Folder::new("gslb-tier-").expect("a folder");
        std::fs::write(folder.path().join("token"), TOKEN).expect("it can be written");
        let servers = SERVERS.map(|(name, port)| {
            let arguments = [name.to_owned(), SocketAddr::new(net.address("app"), port).to_string()];
            let process = start_in(net, "app", name, "servlet", &arguments);
            process.wait_for_line("listening on", 0, LIMIT).expect("it listens");
            process
        });
        let mut tier = Self { net, vip, folder, proxies: Vec::new(), _servers: servers.into() };
        for host in ["l7-1", "l7-2"] {
            // What DSR asks of a real server.
            net.sysctl(host, "net.ipv4.conf.all.arp_ignore=1");
            net.sysctl(host, "net.ipv4.conf.all.arp_announce=2");
            net.ip(host, &format!("addr add {vip}/32 dev lo"));
        }
        for host in ["l7-1", "l7-2", "lb-1", "lb-2"] {
            tier.start_proxy(host);
        }
        tier.until_holder("lb-1");
        tier
    }

    /// Starts the proxy of `host`, and waits until all that is behind it is well.
    pub(crate) fn start_proxy(&mut self, host: &'static str) {
        let file = self.folder.path().join(format!("{host}.toml"));
        let text = if host.starts_with("lb") { self.front(host) } else { self.back(host) };
        std::fs::write(&file, text).expect("it can be written");
        let arguments = ["serve".to_owned(), "--config".to_owned(), file.display().to_string()];
        self.proxies.push((host, start_in(self.net, host, host, "region-proxy", &arguments)));
        self.until_up(host, 2);
    }

    /// Kills the proxy of `host` (SIGKILL), and nothing beside it.
    pub(crate) fn kill_proxy(&mut self, host: &str) {
        let at = self.proxies.iter().position(|(name, _)| *name == host).expect("it runs");
        let (_, mut proxy) = self.proxies.swap_remove(at);
        proxy.signal(Signal::SIGKILL).expect("it runs");
        proxy.wait(LIMIT).expect("it ends");
    }

    /// Waits until the proxy of `host` finds so many up of what is behind it.
    pub(crate) fn until_up(&self, host: &str, up: u64) {
        self.within(&format!("{up} are up behind {host}"), || {
            let status = self.status(host)?;
            let found = status["services"][WWW]["servers_up"].as_u64();
            if found == Some(up) { Ok(()) } else { Err(status.to_string()) }
        });
    }

    /// Waits until the proxy of `host` serves requests.
    pub(crate) fn until_busy(&self, host: &str) {
        self.within(&format!("{host} serves"), || {
            let status = self.status(host)?;
            let found = status["services"][WWW]["requests_per_sec"].as_f64();
            if found.is_some_and(|found| found > 0.0) { Ok(()) } else { Err(status.to_string()) }
        });
    }

    /// Waits until only `host` of those in front has the VIP.
    pub(crate) fn until_holder(&self, host: &str) {
        self.within(&format!("{host} holds the VIP"), || {
            let holders = self.net.holders(&self.vip.to_string());
            let front: Vec<&&str> = holders.iter().filter(|host| host.starts_with("lb")).collect();
            if front == [&host] { Ok(()) } else { Err(format!("{front:?}")) }
        });
    }

    /// What the proxy of `host` says.
    pub(crate) fn status(&self, host: &str) -> Result<Value, String> {
        let address = SocketAddr::new(self.net.address(host), STATUS);
        self.net.within(host, move || get_json(address, "/status")).join().expect("it ends well")
    }

    /// The region in the settings of a node, which asks those in front.
    pub(crate) fn in_topology(&self) -> String {
        let [one, two] = ["lb-1", "lb-2"].map(|host| self.net.address(host));
        let vip = self.vip;
        format!(
            "vips = [\"{vip}\"]\nproxies = {{ lb-1 = \"http://{one}:{STATUS}/status\", lb-2 = \"http://{two}:{STATUS}/status\" }}\n"
        )
    }

    fn within(&self, what: &str, look: impl FnMut() -> Result<(), String>) {
        if let Err(why) = within(LIMIT, look) {
            let logs: Vec<String> =
                self.proxies.iter().map(|(host, proxy)| format!("{host}: {}", proxy.log_tail())).collect();
            panic!("{what}: {why}\n{}", logs.join("\n"));
        }
    }

    fn front(&self, host: &str) -> String {
        let [one, two] = ["l7-1", "l7-2"].map(|host| self.net.address(host));
        let (vip, priority) = (self.vip, if host == "lb-1" { 250 } else { 230 });
        self.root(host)
            + &format!(
                "[vrrp.web]\ninterface = \"eth0\"\nid = 51\npriority = {priority}\nvips = [\"{vip}\"]\n\
                 [l4.web]\nmode = \"dsr\"\nservice = \"{WWW}\"\nvips = [\"{vip}\"]\nports = [80]\nprotocols = [\"tcp\"]\ninterface = \"eth0\"\n\
                 balance = \"maglev\"\n[services.\"{WWW}\"]\nservers = {{ l7-1 = \"{one}:80\", l7-2 = \"{two}:80\" }}\n{CHECK}"
            )
    }

    fn back(&self, host: &str) -> String {
        let (vip, own, app) = (self.vip, self.net.address(host), self.net.address("app"));
        let servers = SERVERS.map(|(name, port)| format!("{name} = \"{app}:{port}\"")).join(", ");
        let listen = format!("listen = [\"{vip}:80\", \"{own}:80\"]\ncookie_secret_file = \"token\"\n");
        let stick = "stick = { cookie = \"JSESSIONID\", mode = \"prefix\" }\n";
        listen + &self.root(host) + &format!("[services.\"{WWW}\"]\nservers = {{ {servers} }}\n{stick}{CHECK}")
    }

    fn root(&self, host: &str) -> String {
        let own = self.net.address(host);
        format!(
            "region = \"seoul\"\nproxy = \"{host}\"\nstatus = \"{own}:{STATUS}\"\nthreads = 1\nlimits = {{ stop = \"1s\" }}\n"
        )
    }
}

/// What is behind the proxies.
const SERVERS: [(&str, u16); 2] = [("app-1", 9001), ("app-2", 9002)];
/// Of those in front, through those behind them; and of these.
const CHECK: &str =
    "check = { path = \"/health\", interval = \"200ms\", time_limit = \"500ms\", rise = 2, fall = 2 }\n";
