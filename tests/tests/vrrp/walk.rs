//! Every way of speaking, with keepalived and with another proxy: who becomes active, who stays so, who makes room.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use gslb_tests::net::{Net, until};
use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use region_proxy::vrrp::packet::{Advertisement, ChecksumForm, GROUP_V4, GROUP_V6, Interval, Path, RouterId, write};
use socket2::{Domain, Protocol, Socket, Type};

use crate::peers::Peer;
use crate::way::{Family, To, Way};
use crate::{beside_others, in_each, until_held};

/// Whom a proxy shares the VIPs with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Other {
    Keepalived,
    /// It sends the other form of the checksum where there are two.
    Proxy,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Preempt {
    Yes,
    No,
}

/// A proxy's host, and that of the other.
struct Link {
    net: Net,
    way: Way,
    other: Other,
    us: &'static str,
    them: &'static str,
}

#[test]
fn in_every_way_the_better_router_holds_the_vips() {
    let Some(_turn) = beside_others() else { return };
    let ways = Way::all().into_iter();
    in_each(ways.flat_map(|way| [(way, Other::Keepalived), (way, Other::Proxy)]), |(way, other)| {
        // The higher address is ours, and theirs.
        let (us, them) = if way.to == To::Peer { ("b", "a") } else { ("a", "b") };
        let link = Link { net: Net::new(&["a", "b"]).with_ipv6(), way, other, us, them };
        link.ours_is_the_worse();
        // keepalived of Debian 12 takes no other form.
        if other == Other::Proxy || way.family == Family::V6 || way.checksum == ChecksumForm::PseudoHeader {
            link.ours_is_the_better();
            link.both_are_equal();
        }
    });
}

impl Link {
    fn ours_is_the_worse(&self) {
        let theirs = self.theirs(150, Preempt::Yes);
        self.until_held(self.them);
        let ours = self.ours(100, Preempt::Yes);
        ours.until_state(&self.net, "backup");
        self.stays(self.them);
        assert_eq!(ours.router(&self.net).expect("a status")["holder"], self.way.address(self.them));
        self.leaves(theirs, self.us);

        self.forgeries_count_for_nothing(&ours);

        let theirs = self.theirs(150, Preempt::Yes);
        self.until_held(self.them);
        ours.until_state(&self.net, "backup");
        theirs.stop();
    }

    fn ours_is_the_better(&self) {
        let theirs = self.theirs(150, Preempt::Yes);
        self.until_held(self.them);
        let ours = self.ours(200, Preempt::No);
        ours.until_state(&self.net, "backup");
        self.stays(self.them);
        ours.stop();
        let ours = self.ours(200, Preempt::Yes);
        self.until_held(self.us);
        self.stays(self.us);
        self.leaves(ours, self.them);
        theirs.stop();

        let ours = self.ours(100, Preempt::Yes);
        ours.until_state(&self.net, "active");
        let theirs = self.theirs(150, Preempt::No);
        self.stays(self.us);
        theirs.stop();
    }

    /// Cut off from each other both are active; then the higher address wins.
    fn both_are_equal(&self) {
        self.net.cut("a");
        let _theirs = self.theirs(150, Preempt::Yes);
        let _ours = self.ours(150, Preempt::Yes);
        until_held(&self.net, self.way.vip(), &["a", "b"]);
        self.net.mend("a");
        self.until_held("b");
        self.stays("b");
    }

    /// `active` alone hears what seems to come from the other host, with the highest priority.
    fn forgeries_count_for_nothing(&self, active: &Peer) {
        let refused = "region_proxy_vrrp_refused_total{router=\"web\",cause=\"hop_limit\"}";
        let heard = "region_proxy_vrrp_advertisements_received_total";
        let before = active.metric(&self.net, heard);
        self.forge(52, 255);
        self.forge(51, 254);
        until("it is refused", || active.metric(&self.net, refused) == 1);
        assert_eq!((self.holders(), active.metric(&self.net, heard)), (vec![self.us], before));
        // The same with nothing wrong is believed.
        self.forge(51, 255);
        active.until_state(&self.net, "backup");
        active.until_state(&self.net, "active");
    }

    fn ours(&self, priority: u8, preempt: Preempt) -> Peer {
        Peer::proxy(&self.net, self.us, &proxy(self.way, self.us, priority, preempt))
    }

    fn theirs(&self, priority: u8, preempt: Preempt) -> Peer {
        match self.other {
            Other::Proxy => {
                let checksum = match self.way.checksum {
                    ChecksumForm::Message => ChecksumForm::PseudoHeader,
                    ChecksumForm::PseudoHeader => ChecksumForm::Message,
                };
                let way = Way { checksum, ..self.way };
                Peer::proxy(&self.net, self.them, &proxy(way, self.them, priority, preempt))
            }
            Other::Keepalived => {
                let more = if preempt == Preempt::No { " nopreempt\n" } else { "" };
                let told = self.way.keepalived(self.them, priority);
                Peer::keepalived(&self.net, self.them, &format!("{told}{more}"))
            }
        }
    }

    /// The active one stops, and the other does not wait for its silence.
    fn leaves(&self, active: Peer, next: &str) {
        let start = Instant::now();
        active.signal(Signal::SIGTERM);
        self.until_held(next);
        assert!(start.elapsed() < Duration::from_millis(600), "{:?}", start.elapsed());
        active.stop();
    }

    fn holders(&self) -> Vec<&str> {
        self.net.holders(&self.way.vip().to_string())
    }

    fn until_held(&self, host: &str) {
        until_held(&self.net, self.way.vip(), &[host]);
    }

    /// Nothing changes for longer than the loss of three adverts would take.
    fn stays(&self, host: &str) {
        std::thread::sleep(Duration::from_millis(800));
        assert_eq!(self.holders(), [host]);
    }

    /// Sends an advertisement of the highest priority from the other's host, as if it were the other.
    fn forge(&self, router: u8, hop_limit: u32) {
        let [source, peer] = [self.them, self.us].map(|host| self.way.address(host));
        let source: IpAddr = source.parse().expect("an address");
        let target: IpAddr = match (self.way.to, self.way.family) {
            (To::Peer, _) => peer.parse().expect("an address"),
            (To::Group, Family::V4) => GROUP_V4.into(),
            (To::Group, Family::V6) => GROUP_V6.into(),
        };
        let sent = Advertisement {
            router: RouterId::from_number(router).expect("it is not 0"),
            priority: 255,
            interval: Interval::from_centis(20).expect("it is in range"),
            addresses: self.way.vips().iter().map(|vip| vip.parse().expect("an address")).collect(),
        };
        let path = match (source, target) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Path::V4 { source, destination },
            (IpAddr::V6(source), IpAddr::V6(destination)) => Path::V6 { source, destination },
            _ => unreachable!("they are of one family"),
        };
        let message = write(&sent, path, self.way.checksum);
        let forging = self.net.within(self.them, move || {
            let socket = Socket::new(Domain::for_address((source, 0).into()), Type::RAW, Some(Protocol::from(112)));
            let socket = socket.expect("root may");
            let index = if_nametoindex("eth0").expect("it is there");
            if source.is_ipv4() {
                socket
                    .set_ttl_v4(hop_limit)
                    .and_then(|()| socket.set_multicast_ttl_v4(hop_limit))
                    .expect("it is a TTL");
            } else {
                socket.set_unicast_hops_v6(hop_limit).expect("it is a hop limit");
                socket.set_multicast_hops_v6(hop_limit).expect("it is a hop limit");
            }
            socket.bind(&on_link(source, index).into()).expect("it is its own");
            socket.send_to(&message, &on_link(target, index).into()).expect("it is sent");
        });
        forging.join().expect("it ends well");
    }
}

fn on_link(address: IpAddr, index: u32) -> SocketAddr {
    match address {
        IpAddr::V4(_) => (address, 0).into(),
        IpAddr::V6(address) => SocketAddrV6::new(address, 0, 0, index).into(),
    }
}

fn proxy(way: Way, host: &str, priority: u8, preempt: Preempt) -> String {
    let more = if preempt == Preempt::No { "preempt = false\n" } else { "" };
    format!("{}{more}", way.proxy(host, priority, "200ms"))
}
