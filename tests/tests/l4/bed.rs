//! Where the tests are: a balancer, its servers and a client, set up as each mode asks.

use std::net::{IpAddr, SocketAddr};

use gslb_tests::net::Net;
use gslb_tests::traffic::{Protocol, Server, Traffic};

/// How packets come to servers, and where they are for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// NAT, as the router between clients and servers.
    Router,
    /// NAT, as a bridge between them.
    Bridge,
    /// With another source, beside them.
    OneArm,
    /// With another Ethernet address.
    Dsr,
    /// Inside VXLAN.
    Tunnel,
}

/// The servers' hosts: 192.0.2.3 and so on.
pub(crate) const SERVERS: [&str; 3] = ["s1", "s2", "s3"];

/// The port of the VIPs and of servers.
pub(crate) const PORT: u16 = 80;

/// Addresses that servers see in one-arm mode.
pub(crate) const POOL: [&str; 2] = ["192.0.2.200-192.0.2.203", "2001:db8::200-2001:db8::203"];

/// Whether `address` is one of [`POOL`].
pub(crate) fn is_of_pool(address: IpAddr) -> bool {
    let range = |text: &str| {
        let ends = text.split_once('-').expect("a range");
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        parse(ends.0)..=parse(ends.1)
    };
    POOL.iter().any(|text| range(text).contains(&address))
}

/// Hosts `lb`, `client` and [`SERVERS`].
pub(crate) struct Bed {
    pub(crate) net: Net,
    pub(crate) mode: Mode,
    servers: Vec<(&'static str, Server)>,
}

impl Bed {
    /// With servers that run.
    pub(crate) fn new(mode: Mode) -> Self {
        let hosts = ["lb", "s1", "s2", "s3"];
        let net = match mode {
            Mode::Router => Net::new(&hosts).with_ipv6().with_host_behind("lb", "client"),
            Mode::Bridge => Net::new(&hosts).with_ipv6().with_host_across("lb", "client"),
            Mode::OneArm | Mode::Dsr | Mode::Tunnel => Net::new(&["lb", "s1", "s2", "s3", "client"]).with_ipv6(),
        };
        let mut bed = Self { net, mode, servers: Vec::new() };
        for vip in bed.vips() {
            // Checks must not come from a VIP that servers have too.
            let option = if vip.is_ipv6() { " nodad preferred_lft 0" } else { "" };
            bed.net.ip("lb", &format!("addr add {vip} dev {}{option}", bed.device()));
        }
        if mode == Mode::OneArm {
            for number in 200..=203 {
                bed.net.ip("lb", &format!("addr add 192.0.2.{number} dev eth0"));
                bed.net.ip("lb", &format!("addr add 2001:db8::{number} dev eth0 nodad"));
            }
        }
        for server in SERVERS {
            bed.prepare(server);
            bed.serve(server);
        }
        bed
    }

    /// What a real server needs in this mode.
    fn prepare(&self, server: &str) {
        if !self.is_direct() {
            return;
        }
        for setting in ["arp_ignore=1", "arp_announce=2", "rp_filter=0"] {
            self.net.sysctl(server, &format!("net.ipv4.conf.all.{setting}"));
        }
        for vip in self.vips() {
            self.net.ip(server, &format!("addr add {vip} dev lo{}", if vip.is_ipv6() { " nodad" } else { "" }));
        }
        if self.mode == Mode::Tunnel {
            let local = self.address(server, true);
            self.net.ip(server, &format!("link add rp-vx type vxlan id 100 local {local} dstport 4789 nolearning"));
            self.net.ip(server, "link set rp-vx address 02:52:50:00:00:01 up");
            self.net.sysctl(server, "net.ipv4.conf.rp-vx.rp_filter=0");
        }
    }

    /// Starts what answers on `server`.
    pub(crate) fn serve(&mut self, server: &'static str) {
        let mut addresses = vec![self.address(server, true), self.address(server, false)];
        if self.is_direct() {
            addresses.extend(self.vips());
        }
        self.servers.push((server, Server::start(&self.net, server, &addresses, PORT)));
    }

    /// Ends what answers on `server`, as a process that dies.
    pub(crate) fn kill(&mut self, server: &str) {
        self.servers.retain(|(name, _)| *name != server);
    }

    /// Whether servers answer clients straight.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self.mode, Mode::Dsr | Mode::Tunnel)
    }

    /// The balancer's interface with the VIPs.
    pub(crate) fn device(&self) -> &'static str {
        match self.mode {
            Mode::Router => "eth1",
            Mode::Bridge => "br0",
            Mode::OneArm | Mode::Dsr | Mode::Tunnel => "eth0",
        }
    }

    /// Its VIPs, IPv4 before IPv6.
    pub(crate) fn vips(&self) -> [IpAddr; 2] {
        let texts = match self.mode {
            Mode::Router => ["198.51.100.10", "2001:db8:1::10"],
            _ => ["192.0.2.10", "2001:db8::10"],
        };
        texts.map(|text| text.parse().expect("an address"))
    }

    /// The address of a host on the servers' link.
    pub(crate) fn address(&self, host: &str, is_v4: bool) -> IpAddr {
        let number = match host {
            "lb" => 2,
            "client" => 6,
            server => 3 + SERVERS.iter().position(|name| *name == server).expect("a host"),
        };
        let text = if is_v4 { format!("192.0.2.{number}") } else { format!("2001:db8::{number}") };
        text.parse().expect("an address")
    }

    /// The client's own address.
    pub(crate) fn client(&self, is_v4: bool) -> IpAddr {
        match (self.mode, is_v4) {
            (Mode::Router, true) => [198, 51, 100, 2].into(),
            (Mode::Router, false) => "2001:db8:1::2".parse().expect("an address"),
            _ => self.address("client", is_v4),
        }
    }

    /// From the client to a VIP.
    pub(crate) fn traffic(&self, protocol: Protocol, is_v4: bool) -> Traffic {
        let vip = self.vips()[usize::from(!is_v4)];
        Traffic::new(protocol, "client", SocketAddr::new(vip, PORT))
    }
}
