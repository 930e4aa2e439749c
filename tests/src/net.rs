//! A link of its own: hosts and a bridge, each in a network namespace, which end with the test.

use std::ffi::OsStr;
use std::fs::File;
use std::net::IpAddr;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

mod eyes;

pub use eyes::{Probe, Seen, Watch, seen_by};

/// Why tests of `what`, which need `programs`, are left out here; `None`: they are not.
pub fn left_out(what: &str, programs: &[&str]) -> Option<String> {
    let is_missing = |program: &&&str| Command::new(program).arg("--version").output().is_err();
    let missing = ["ip"].iter().chain(programs).find(is_missing).map(|program| format!("they need {program}"));
    let why = if nix::unistd::geteuid().is_root() { missing? } else { "they need root".to_owned() };
    eprintln!("LEFT OUT: tests of {what}: {why}");
    Some(why)
}

/// A bridge and the hosts on it, numbered from 2: 192.0.2.N/24 and fe80::N/64 on `eth0`.
pub struct Net {
    prefix: String,
    hosts: Vec<String>,
}

static NETS: AtomicU32 = AtomicU32::new(0);

impl Net {
    /// A link with these hosts, which are up.
    pub fn new(hosts: &[&str]) -> Self {
        let prefix = format!("rp{}-{}", std::process::id(), NETS.fetch_add(1, Ordering::Relaxed));
        let net = Self { prefix, hosts: hosts.iter().map(|host| (*host).to_owned()).collect() };
        run(&["ip", "netns", "add", &net.name("switch")]);
        net.ip("switch", "link add br0 type bridge");
        net.ip("switch", "link set br0 up");
        for (number, host) in (2..).zip(hosts) {
            net.add(host);
            net.ip("switch", &format!("link add name {host} type veth peer name eth0 netns {}", net.name(host)));
            net.ip("switch", &format!("link set dev {host} master br0 up"));
            net.ip(host, &format!("addr add 192.0.2.{number}/24 dev eth0"));
            net.ip(host, &format!("addr add fe80::{number}/64 dev eth0 nodad"));
            net.ip(host, "link set eth0 up");
        }
        net
    }

    /// Gives each host 2001:db8::N/64 on `eth0` too.
    pub fn with_ipv6(self) -> Self {
        for (number, host) in (2..).zip(&self.hosts) {
            self.ip(host, &format!("addr add 2001:db8::{number}/64 dev eth0 nodad"));
        }
        self
    }

    /// A further host, on a link of its own with `router`, through which it reaches all others, and they it.
    ///
    /// It has 198.51.100.2/24 and 2001:db8:1::2/64 on `eth0`; the router's `eth1` has `.1` and `::1`.
    pub fn with_host_behind(mut self, router: &str, host: &str) -> Self {
        self.add_wired(router, host);
        for (end, device, number) in [(host, "eth0", 2), (router, "eth1", 1)] {
            self.ip(end, &format!("addr add 198.51.100.{number}/24 dev {device}"));
            self.ip(end, &format!("addr add 2001:db8:1::{number}/64 dev {device} nodad"));
            self.ip(end, &format!("addr add fe80::{number}/64 dev {device} nodad"));
        }
        for address in ["198.51.100.1", "2001:db8:1::1"] {
            self.ip(host, &format!("route add default via {address}"));
        }
        let number = 2 + self.hosts.iter().position(|other| other == router).expect("it is there");
        for other in self.hosts.iter().filter(|other| *other != router) {
            for address in [format!("192.0.2.{number}"), format!("2001:db8::{number}")] {
                self.ip(other, &format!("route add default via {address}"));
            }
        }
        self.hosts.push(host.to_owned());
        self
    }

    /// A further host on the same link, which all its packets reach through `bridge`: that one's addresses are on `br0` now.
    pub fn with_host_across(mut self, bridge: &str, host: &str) -> Self {
        self.add_wired(bridge, host);
        let number = 2 + self.hosts.iter().position(|other| other == bridge).expect("it is there");
        let own = 2 + self.hosts.len();
        self.ip(bridge, "addr flush dev eth0");
        self.ip(bridge, "link add br0 type bridge");
        for device in ["eth0", "eth1"] {
            self.ip(bridge, &format!("link set {device} master br0"));
        }
        self.ip(bridge, "link set br0 up");
        for (end, device, number) in [(bridge, "br0", number), (host, "eth0", own)] {
            self.ip(end, &format!("addr add 192.0.2.{number}/24 dev {device}"));
            for network in ["2001:db8:", "fe80:"] {
                self.ip(end, &format!("addr add {network}:{number}/64 dev {device} nodad"));
            }
        }
        self.hosts.push(host.to_owned());
        self
    }

    /// A further host, whose `eth0` is wired to `eth1` of another.
    fn add_wired(&self, other: &str, host: &str) {
        self.add(host);
        let (other_space, space) = (self.name(other), self.name(host));
        let ends =
            ["link", "add", "eth0", "netns", &space, "type", "veth", "peer", "name", "eth1", "netns", &other_space];
        run(&[&["ip"][..], &ends].concat());
        self.ip(other, "link set eth1 up");
        self.ip(host, "link set eth0 up");
    }

    /// The namespace of a further host.
    fn add(&self, host: &str) {
        run(&["ip", "netns", "add", &self.name(host)]);
        // Addresses are there at once.
        self.sysctl(host, "net.ipv6.conf.all.accept_dad=0");
        self.sysctl(host, "net.ipv6.conf.default.accept_dad=0");
        self.sysctl(host, "net.ipv6.conf.default.addr_gen_mode=1");
        self.ip(host, "link set lo up");
    }

    /// The namespace of `host`.
    pub fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// `ip` on `host`.
    pub fn ip(&self, host: &str, arguments: &str) -> String {
        let name = self.name(host);
        let mut words = vec!["ip", "-n", &name];
        words.extend(arguments.split(' '));
        String::from_utf8_lossy(&run(&words).stdout).into_owned()
    }

    /// Makes `setting`, such as `net.ipv4.ip_forward=1`, on `host`.
    pub fn sysctl(&self, host: &str, setting: &str) {
        run(&["ip", "netns", "exec", &self.name(host), "sysctl", "-qw", setting]);
    }

    /// A command that runs on `host`.
    pub fn command(&self, host: &str, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host)]).arg(program);
        command
    }

    /// Lets nothing through to and from `host`, which does not notice.
    pub fn cut(&self, host: &str) {
        run(&["bridge", "-n", &self.name("switch"), "link", "set", "dev", host, "state", "0"]);
    }

    /// Undoes [`Self::cut`].
    pub fn mend(&self, host: &str) {
        run(&["bridge", "-n", &self.name("switch"), "link", "set", "dev", host, "state", "3"]);
    }

    /// Puts `hosts` on a bridge of their own, with one link to the others: [`Self::cut`] and [`Self::mend`] take its `name` too.
    pub fn part(&self, name: &str, hosts: &[&str]) {
        self.ip("switch", &format!("link add br-{name} type bridge"));
        self.ip("switch", &format!("link set br-{name} up"));
        self.ip("switch", &format!("link add name {name} type veth peer name {name}-up"));
        self.ip("switch", &format!("link set dev {name} master br0 up"));
        self.ip("switch", &format!("link set dev {name}-up master br-{name} up"));
        for host in hosts {
            self.ip("switch", &format!("link set dev {host} master br-{name}"));
        }
    }

    /// The IPv4 address of `host`.
    pub fn address(&self, host: &str) -> IpAddr {
        let at = self.hosts.iter().position(|known| known == host).expect("it is a host of this link");
        [192, 0, 2, 2 + u8::try_from(at).expect("so many fit")].into()
    }

    /// The hosts that have `address`.
    pub fn holders(&self, address: &str) -> Vec<&str> {
        let address = address.parse().expect("an IP address");
        let spaces: Vec<File> = self.hosts.iter().map(|host| self.space(host)).collect();
        // The thread of a test must not stay in a namespace.
        let looking = std::thread::spawn(move || spaces.iter().map(|space| has(space, address)).collect::<Vec<bool>>());
        let have = looking.join().expect("it ends well");
        self.hosts.iter().zip(have).filter(|(_, has)| *has).map(|(host, _)| host.as_str()).collect()
    }

    /// Runs `work` on a thread that is on `host`.
    pub fn within<T: Send + 'static>(&self, host: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let space = self.space(host);
        std::thread::spawn(move || {
            enter(&space);
            work()
        })
    }

    /// All processes on `host` but the test itself.
    pub fn processes(&self, host: &str) -> Vec<Pid> {
        let Ok(found) = Command::new("ip").args(["netns", "pids", &self.name(host)]).output() else {
            return Vec::new();
        };
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        let pids = found.lines().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw);
        pids.filter(|pid| *pid != nix::unistd::getpid()).collect()
    }

    fn space(&self, host: &str) -> File {
        File::open(format!("/run/netns/{}", self.name(host))).expect("the namespace is there")
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in self.hosts.iter().map(String::as_str).chain(["switch"]) {
            // A proxy that was upgraded is no child of the test.
            for pid in self.processes(host) {
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            let _ = Command::new("ip").args(["netns", "del", &self.name(host)]).output();
        }
    }
}

fn enter(space: &File) {
    setns(space, CloneFlags::CLONE_NEWNET).expect("it may be entered");
}

/// Whether an interface of `space`, which this thread enters, has `address`.
fn has(space: &File, address: IpAddr) -> bool {
    enter(space);
    let is_it = |entry: InterfaceAddress| {
        let found = entry.address?;
        let v4 = found.as_sockaddr_in().map(|found| IpAddr::from(found.ip()));
        let v6 = found.as_sockaddr_in6().map(|found| IpAddr::from(found.ip()));
        Some(v4.or(v6)? == address)
    };
    getifaddrs().expect("the kernel tells").filter_map(is_it).any(|is_it| is_it)
}

/// Waits until `is_so`, and fails with `what` when it is not so in time.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(10), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

/// Runs a command, which must succeed.
pub fn run(words: &[&str]) -> Output {
    let output = Command::new(words[0]).args(&words[1..]).output().expect("it can be started");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {errors}", words.join(" "));
    output
}
