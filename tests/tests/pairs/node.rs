//! A node of gslb-dns on a host of its own, and clients that come to the VIPs that it answers with.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gslb_tests::harness::dns::DnsClient;
use gslb_tests::harness::http::{Request, get_json};
use gslb_tests::harness::process::{Folder, Process, program};
use gslb_tests::harness::within;
use gslb_tests::net::{Net, until};
use serde_json::Value;

use crate::region::{LIMIT, WWW, start_in};

/// A client in Korea, whose nearest region is Seoul.
pub(crate) const KOREAN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));
/// A client in Germany, whose nearest region is Frankfurt.
pub(crate) const GERMAN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));

/// gslb-dns on the host `dns`.
pub(crate) struct Node<'n> {
    net: &'n Net,
    process: Process,
    folder: Folder,
}

impl<'n> Node<'n> {
    /// A node for `regions`, each with its proxies and VIPs, all of which serve.
    pub(crate) fn start(net: &'n Net, regions: &[(&'static str, String)]) -> Self {
        let folder = Folder::new("gslb-node-").expect("a folder");
        let own = net.address("dns");
        let mut text = format!(
            "[server]\nlisten = [\"{own}:53\"]\nadmin = \"{ADMIN}\"\nthreads = 1\n[[zones]]\nname = \"gslb.test\"\n\
             file = \"zone\"\n[geo]\noverrides = \"places.csv\"\n[services.\"{WWW}\"]\nttl = 1\nttl_degraded = 1\n\
             failback = {{ delay = \"1s\" }}\n"
        );
        for (name, lines) in regions {
            let [latitude, longitude] = if *name == "seoul" { [37.57, 126.98] } else { [50.11, 8.68] };
            text += &format!("[regions.{name}]\ncoordinates = [{latitude}, {longitude}]\n{lines}");
        }
        let zone = format!("$TTL 60\n@ SOA ns1 hostmaster 1 14400 3600 1209600 60\n@ NS ns1\nns1 A {own}\n");
        let places = "198.51.100.0/24,KR,,,,37.5,127.0\n203.0.113.0/24,DE,,,,50.1,8.7\n";
        for (file, text) in [("topology.toml", text.as_str()), ("zone", &zone), ("places.csv", places)] {
            std::fs::write(folder.path().join(file), text).expect("it can be written");
        }
        let config = folder.path().join("topology.toml").display().to_string();
        let arguments = ["serve".to_owned(), "--config".to_owned(), config];
        let node = Self { net, process: start_in(net, "dns", "gslb-dns", "gslb-dns", &arguments), folder };
        for (name, _) in regions {
            node.until_verdict(name, "serving");
        }
        node
    }

    /// Its settings file.
    pub(crate) fn config(&self) -> String {
        self.folder.path().join("topology.toml").display().to_string()
    }

    /// Its `/status`.
    pub(crate) fn status(&self) -> Result<Value, String> {
        let address: SocketAddr = ADMIN.parse().expect("an address");
        self.net.within("dns", move || get_json(address, "/status")).join().expect("it ends well")
    }

    /// What it says of `region`'s only VIP.
    pub(crate) fn vip(&self, region: &str) -> Result<Value, String> {
        let status = self.status()?;
        let regions = status["regions"].as_array().into_iter().flatten();
        let found = regions.into_iter().find(|found| found["name"] == region);
        found.map(|found| found["vip_holders"][0].clone()).ok_or_else(|| format!("no {region} in {status}"))
    }

    /// Waits until it says that `holder` holds the VIP of `region`, without an alarm.
    pub(crate) fn until_holder(&self, region: &str, holder: &str) {
        self.within(&format!("{holder} holds the VIP"), || {
            let vip = self.vip(region)?;
            if vip["holder"] == holder && vip["two_actives"].is_null() { Ok(()) } else { Err(vip.to_string()) }
        });
    }

    /// Waits until `region` has this verdict.
    pub(crate) fn until_verdict(&self, region: &str, verdict: &str) {
        self.within(&format!("{region} is {verdict}"), || {
            let status = self.status()?;
            let regions = status["services"][0]["regions"].as_array().into_iter().flatten();
            let found = regions.into_iter().find(|found| found["region"] == region);
            if found.is_some_and(|found| found["verdict"] == verdict) { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }

    /// What `gslb-dns` prints on the node's host.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let program = program("gslb-dns").expect("it is built");
        let done = self.net.command("dns", program).args(arguments).output().expect("it can be started");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Waits for a line of its log that has all of `parts`.
    pub(crate) fn until_logged(&self, parts: &[&str]) {
        let has = |line: &&String| parts.iter().all(|part| line.contains(part));
        self.within(&format!("{parts:?} is logged"), || match self.process.log().iter().find(has) {
            Some(_) => Ok(()),
            None => Err("it is not".to_owned()),
        });
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        self.process.log_tail()
    }

    /// How many lines of its log have `part`.
    pub(crate) fn count_logged(&self, part: &str) -> usize {
        self.process.log().iter().filter(|line| line.contains(part)).count()
    }

    pub(crate) fn within(&self, what: &str, look: impl FnMut() -> Result<(), String>) {
        if let Err(why) = within(LIMIT, look) {
            panic!("{what}: {why}\n{}", self.process.log_tail());
        }
    }
}

/// Clients that ask the node every few milliseconds, each time followed by a request to the VIP that is answered.
pub(crate) struct Crowd {
    is_stopped: Arc<AtomicBool>,
    /// Sights taken so far.
    count: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<Sight>>,
}

/// What one client saw.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) at: Instant,
    /// The VIP that was answered.
    pub(crate) vip: Result<IpAddr, String>,
    /// The server that answered a request to it.
    pub(crate) server: Result<String, String>,
}

impl Crowd {
    /// Clients at `from`, as the node sees it by ECS.
    pub(crate) fn start(net: &Net, from: IpAddr) -> Self {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let (stop, taken) = (Arc::clone(&is_stopped), Arc::clone(&count));
        let dns = DnsClient::new(SocketAddr::new(net.address("dns"), 53));
        let thread = net.within("client", move || {
            let mut seen = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                seen.push(Sight::take(&dns, from));
                taken.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
            seen
        });
        Self { is_stopped, count, thread }
    }

    /// Waits until they have seen so much more.
    pub(crate) fn until_seen(&self, more: usize) {
        let goal = self.count.load(Ordering::Relaxed) + more;
        until("clients see more", || self.count.load(Ordering::Relaxed) >= goal);
    }

    /// What they saw, in order.
    pub(crate) fn stop(self) -> Vec<Sight> {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.thread.join().expect("it ends well")
    }
}

impl Sight {
    fn take(dns: &DnsClient, from: IpAddr) -> Self {
        let at = Instant::now();
        let vip = dns.ask_for(WWW, from).and_then(|answer| answer.address());
        let ask = |vip: IpAddr| {
            let request = Request { host: WWW, limit: Duration::from_millis(300), ..Request::get("/") };
            let answer = request.send(SocketAddr::new(vip, 80))?;
            let seen: Value = serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
            seen["server"].as_str().map(str::to_owned).ok_or_else(|| answer.body.clone())
        };
        Self { at, server: vip.clone().and_then(ask), vip }
    }
}

/// The longest time in which no request was served.
pub(crate) fn gap(seen: &[Sight]) -> Duration {
    let served: Vec<Instant> = seen.iter().filter(|sight| sight.server.is_ok()).map(|sight| sight.at).collect();
    served.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX)
}

/// When `vip` was first answered after `since`, counted from there.
pub(crate) fn answered_after(seen: &[Sight], vip: IpAddr, since: Instant) -> Option<Duration> {
    let first = seen.iter().find(|sight| sight.at >= since && sight.vip == Ok(vip))?;
    Some(first.at - since)
}

const ADMIN: &str = "127.0.0.1:5380";
/// Where commands find it.
pub(crate) const ADMIN_URL: &str = "http://127.0.0.1:5380";
