//! The rules of DSR in a kernel: where flows go when the rules change, the map is full or lost, and what errors about them do.
//!
//! Needs root, iproute2 and nftables; says so where it is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::process::Stdio;
use std::time::Duration;

use gslb_tests::net::{self, Net};
use region_proxy::l4::listing::Listing;
use region_proxy::l4::{
    Backend, Balance, Fate, Flows, Interface, Mac, Name, Plan, Ports, Protocol, Service, Way, removal, rules,
};
use shared::name::ServerName;
use socket2::{Domain, Socket, Type};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// Where servers answer with their name: [`Net::echo`].
const PORT: u16 = 7;

const SERVERS: [&str; 3] = ["s1", "s2", "s3"];

/// A balancer, its servers and a client on one link.
struct Bed(Net);

/// Flows from the client, each with a socket of its own.
struct Clients(Vec<UdpSocket>);

impl Bed {
    /// `None` where it cannot be.
    fn new() -> Option<Self> {
        if net::left_out("rules in a kernel", &["nft"]).is_some() {
            return None;
        }
        let net = Net::new(&["lb", "s1", "s2", "s3", "client"]);
        net.ip("lb", "link set eth0 address 02:00:00:00:00:02");
        net.ip("lb", &format!("addr add {VIP} dev eth0"));
        for (number, server) in (3..).zip(SERVERS) {
            net.ip(server, &format!("link set eth0 address 02:00:00:00:00:0{number}"));
            for setting in ["arp_ignore=1", "arp_announce=2", "rp_filter=0"] {
                let setting = format!("net.ipv4.conf.all.{setting}");
                let done = net.command(server, "sysctl").args(["-qw", &setting]).status().expect("it can be started");
                assert!(done.success(), "{setting}");
            }
            net.ip(server, &format!("addr add {VIP} dev lo"));
            net.echo(server);
        }
        Some(Self(net))
    }

    /// Has the kernel take `text`.
    fn apply(&self, text: &str) {
        let mut command = self.0.command("lb", "nft");
        let mut child = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("it can be started");
        child.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("it reads");
        assert!(child.wait().expect("it ends").success(), "{text}");
    }

    fn listing(&self) -> Listing {
        let output = self.0.command("lb", "nft").args(["-j", Listing::REQUEST]).output().expect("it can be started");
        Listing::parse(&String::from_utf8_lossy(&output.stdout)).expect("a listing")
    }

    /// Packets that went to each server, in the order of [`SERVERS`].
    fn packets(&self, service: &Service) -> Vec<u64> {
        let listing = self.listing();
        let packets = |backend: &Backend| listing.backend(&service.name, &backend.name).expect("it is there").packets;
        service.backends.iter().map(packets).collect()
    }

    fn clients(&self, count: usize) -> Clients {
        let open = move || {
            let socket = || {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
                socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a time limit");
                socket
            };
            Clients((0..count).map(|_| socket()).collect())
        };
        self.0.within("client", open).join().expect("it ends well")
    }
}

impl Clients {
    /// Who answers each of them a datagram of so many octets; empty: nobody.
    fn ask(&self, octets: usize) -> Vec<String> {
        let mut answer = [0; 64];
        let mut ask = |socket: &UdpSocket| {
            socket.send_to(&vec![b'.'; octets], (VIP, PORT)).expect("it can be sent");
            let len = socket.recv_from(&mut answer).map_or(0, |(len, _)| len);
            String::from_utf8_lossy(&answer[len.min(8)..len]).into_owned()
        };
        self.0.iter().map(&mut ask).collect()
    }
}

/// A service of which these servers get this.
fn service(balance: Balance, fates: [Fate; 3], most: u32) -> Service {
    let backend = |(number, fate): (u8, Fate)| Backend {
        name: ServerName::parse(SERVERS[usize::from(number) - 3]).expect("a name"),
        address: SocketAddr::from(([192, 0, 2, number], PORT)),
        number: NonZeroU32::new(u32::from(number)).expect("not 0"),
        weight: 1,
        fate,
        mac: Some(Mac([2, 0, 0, 0, 0, number])),
    };
    let flows = Flows { most, idle: Duration::from_secs(60) };
    let interface = Interface::parse("eth0").expect("a name");
    Service {
        name: Name::parse("web").expect("a name"),
        way: Way::Dsr { interface, mac: Mac([2, 0, 0, 0, 0, 2]), flows },
        vips: vec![IpAddr::V4(VIP)],
        ports: vec![Ports { first: PORT, last: PORT }],
        protocols: vec![Protocol::Tcp, Protocol::Udp],
        balance,
        backends: (3..).zip(fates).map(backend).collect(),
    }
}

fn text(service: Service) -> String {
    rules(&Plan { services: vec![service], present: BTreeSet::new() })
}

const OPEN: [Fate; 3] = [Fate::Open; 3];

#[test]
fn a_flow_stays_where_it_is_until_its_server_is_gone() {
    let Some(bed) = Bed::new() else { return };
    bed.apply(&text(service(Balance::RoundRobin, OPEN, 65_536)));
    let clients = bed.clients(30);
    let first = clients.ask(8);
    assert!(SERVERS.iter().all(|server| first.iter().filter(|one| one == server).count() == 10), "{first:?}");
    for balance in [Balance::Maglev, Balance::Random, Balance::Source, Balance::RoundRobin] {
        bed.apply(&text(service(balance, OPEN, 65_536)));
        assert_eq!(clients.ask(8), first, "{balance:?}");
    }
    bed.apply(&text(service(Balance::Maglev, [Fate::Draining, Fate::Open, Fate::Open], 65_536)));
    assert_eq!(clients.ask(8), first);
    let new = bed.clients(30).ask(8);
    assert!(new.iter().all(|server| server == "s2" || server == "s3"), "{new:?}");
    bed.apply(&text(service(Balance::Maglev, [Fate::Gone, Fate::Open, Fate::Open], 65_536)));
    let moved = clients.ask(8);
    let is_right =
        |(before, now): (&String, &String)| if before == "s1" { now == "s2" || now == "s3" } else { now == before };
    assert!(first.iter().zip(&moved).all(is_right), "{first:?} {moved:?}");
    bed.apply(&text(service(Balance::Maglev, OPEN, 65_536)));
    assert_eq!(clients.ask(8), moved, "who comes back gets new flows alone");
}

#[test]
fn beyond_a_full_map_flows_stay_where_their_hash_leads() {
    let Some(bed) = Bed::new() else { return };
    for balance in [Balance::RoundRobin, Balance::Maglev] {
        bed.apply(&text(service(balance, OPEN, 8)));
        let clients = bed.clients(60);
        let first = clients.ask(8);
        assert!(first.iter().all(|server| SERVERS.contains(&server.as_str())), "{first:?}");
        bed.apply(&text(service(balance, OPEN, 8)));
        assert_eq!(clients.ask(8), first, "{balance:?}");
        let name = Name::parse("web").expect("a name");
        assert_eq!(bed.listing().flows(&name).map(|(_, count)| count).sum::<u64>(), 8);
        bed.apply(&removal());
    }
}

#[test]
fn who_takes_over_knows_no_flow_and_sends_each_where_it_was() {
    let Some(bed) = Bed::new() else { return };
    for balance in [Balance::Maglev, Balance::Source] {
        bed.apply(&text(service(balance, OPEN, 65_536)));
        let clients = bed.clients(30);
        let first = clients.ask(8);
        bed.apply(&format!("{}{}", removal(), text(service(balance, OPEN, 65_536))));
        assert_eq!(clients.ask(8), first, "{balance:?}");
        bed.apply(&removal());
    }
}

#[test]
fn the_parts_of_a_datagram_come_to_one_server() {
    let Some(bed) = Bed::new() else { return };
    bed.apply(&text(service(Balance::RoundRobin, OPEN, 65_536)));
    let answers: BTreeSet<String> = bed.clients(20).ask(5000).into_iter().collect();
    assert!(answers.len() == 1 && !answers.contains(""), "by the address of the client: {answers:?}");
}

#[test]
fn an_icmp_error_about_a_flow_comes_to_the_server_of_the_flow() {
    let Some(bed) = Bed::new() else { return };
    let service = service(Balance::RoundRobin, OPEN, 65_536);
    bed.apply(&text(service.clone()));
    let clients = bed.clients(30);
    let mut owners = BTreeMap::<String, Vec<u16>>::new();
    for (socket, server) in clients.0.iter().zip(clients.ask(8)) {
        owners.entry(server).or_default().push(socket.local_addr().expect("it is bound").port());
    }
    for (at, server) in SERVERS.into_iter().enumerate() {
        let (before, ports) = (bed.packets(&service), owners[server].clone());
        let count = ports.len() as u64;
        let send = move || ports.into_iter().for_each(send_error);
        bed.0.within("client", send).join().expect("it ends well");
        let mut expected = before.clone();
        expected[at] += count;
        let total: u64 = expected.iter().sum();
        net::until("all have come", || bed.packets(&service).iter().sum::<u64>() == total);
        assert_eq!(bed.packets(&service), expected, "{server}");
    }
}

#[test]
fn what_nobody_takes_is_refused_at_once() {
    let Some(bed) = Bed::new() else { return };
    bed.apply(&text(service(Balance::Maglev, [Fate::Gone; 3], 65_536)));
    let connect = || TcpStream::connect_timeout(&(VIP, PORT).into(), Duration::from_secs(1)).map_err(|e| e.kind());
    let connected = bed.0.within("client", connect).join().expect("it ends well");
    assert_eq!(connected.err(), Some(ErrorKind::ConnectionRefused));
}

/// Tells the VIP, as a router of the way to the client would, that a packet to `port` of the client was too big (RFC 1191).
fn send_error(port: u16) {
    let client = Ipv4Addr::new(192, 0, 2, 6);
    let mut message = vec![3, 4, 0, 0, 0, 0, 0x05, 0x00];
    message.extend([0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0]);
    message.extend(VIP.octets().into_iter().chain(client.octets()));
    message.extend(PORT.to_be_bytes().into_iter().chain(port.to_be_bytes()));
    message.extend([0, 16, 0, 0]);
    let sum: u32 = message.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !(((sum >> 16) + (sum & 0xffff)) as u16);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(socket2::Protocol::ICMPV4)).expect("root may");
    socket.send_to(&message, &SocketAddrV4::new(VIP, 0).into()).expect("it can be sent");
}
