//! What the kernel is asked and told of interfaces, addresses, neighbours and routes (rtnetlink), and of connections that it
//! translates (ctnetlink).

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkLayerType, LinkMessage, MacVlanMode,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

use crate::vrrp::frame::Mac;

pub mod conntrack;
mod neighbours;
mod notes;
mod rules;
mod tunnels;

pub use notes::Listed;
pub use rules::Rule;
pub use tunnels::{Encapsulation, Route};

/// Asks and tells, one thing at a time.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// Hears that something changed.
#[derive(Debug)]
pub struct Monitor(Socket);

/// One interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// Its number, which a new one of the same name does not share.
    pub index: u32,
    /// `None` where it is not Ethernet.
    pub mac: Option<Mac>,
    /// Whether it is up and has a carrier.
    pub is_running: bool,
    /// The longest packet that it takes, in octets.
    pub mtu: u32,
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The interface of this name.
    pub fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let found = match self.ask(RouteNetlinkMessage::GetLink(message), 0) {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => return Ok(None),
            found => found?,
        };
        let link = found.into_iter().find_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        Ok(link.map(|link| {
            let is_ethernet = link.header.link_layer_type == LinkLayerType::Ether;
            let mac = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Address(octets) if is_ethernet => octets.as_slice().try_into().ok().map(Mac),
                _ => None,
            });
            let is_running = link.header.flags.contains(LinkFlags::Up | LinkFlags::Running);
            let mtu = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Mtu(mtu) => Some(*mtu),
                _ => None,
            });
            Link { index: link.header.index, mac, is_running, mtu: mtu.unwrap_or_default() }
        }))
    }

    /// The addresses of the interface numbered `index` of one family, those of all scopes; not those that are not
    /// certain to be unique yet.
    pub fn addresses(&mut self, index: u32, is_v4: bool) -> io::Result<Vec<IpAddr>> {
        let mut message = AddressMessage::default();
        message.header.family = family(is_v4);
        let found = self.ask(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)?;
        let address = |message| match message {
            RouteNetlinkMessage::NewAddress(message) if message.header.index == index => usable(&message),
            _ => None,
        };
        Ok(found.into_iter().filter_map(address).collect())
    }

    /// Puts `vip` on the interface numbered `index`; fine where it is there.
    pub fn add_address(&mut self, index: u32, vip: IpAddr) -> io::Result<()> {
        let mut message = host(index, vip);
        if vip.is_ipv6() {
            // Who held it before still answers for it: it is not looked for, and nothing is sent from it by default.
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            let mut times = CacheInfo::default();
            (times.ifa_preferred, times.ifa_valid) = (0, u32::MAX);
            message.attributes.push(AddressAttribute::CacheInfo(times));
        }
        let added = self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL);
        unless(added, nix::libc::EEXIST)
    }

    /// Takes `vip` off the interface numbered `index`; fine where it is not there.
    pub fn remove_address(&mut self, index: u32, vip: IpAddr) -> io::Result<()> {
        let removed = self.ask(RouteNetlinkMessage::DelAddress(host(index, vip)), 0);
        unless(removed, nix::libc::EADDRNOTAVAIL)
    }

    /// Fails where one of `vips` is on the interface numbered `index` after all: with another prefix length it is another
    /// address to [`Self::remove_address`].
    pub fn expect_none_of(&mut self, index: u32, vips: &[IpAddr]) -> io::Result<()> {
        let Some(first) = vips.first() else { return Ok(()) };
        let left = self.addresses(index, first.is_ipv4())?.into_iter().find(|address| vips.contains(address));
        left.map_or(Ok(()), |vip| {
            let what = "is there with another prefix length: expected nobody else to put it there";
            Err(io::Error::other(format!("{vip} {what}")))
        })
    }

    /// Makes an interface `name` with address `mac` upon that numbered `parent`; it is down.
    ///
    /// In bridge mode the parent still hears another router that sends from the same address.
    pub fn add_macvlan(&mut self, parent: u32, name: &str, mac: Mac) -> io::Result<()> {
        let mut message = LinkMessage::default();
        let mode = InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)]);
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Link(parent),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(mode)]),
        ];
        self.ask(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)?;
        let index = self.link(name)?.map(|link| link.index).ok_or(io::ErrorKind::NotFound)?;
        // The address that it would make of its own would be the same on each router.
        let mut message = LinkMessage::default();
        message.header.index = index;
        let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]));
        self.ask(RouteNetlinkMessage::SetLink(message), 0).map(drop)
    }

    /// Sets the interface numbered `index` up or down.
    pub fn set_up(&mut self, index: u32, is_up: bool) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if is_up { LinkFlags::Up } else { LinkFlags::empty() };
        self.ask(RouteNetlinkMessage::SetLink(message), 0).map(drop)
    }

    /// Takes the interface numbered `index` away.
    pub fn remove_link(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.ask(RouteNetlinkMessage::DelLink(message), 0).map(drop)
    }

    /// Sends one message and returns all that comes back for it.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        request.header.flags = NLM_F_REQUEST | if flags == NLM_F_DUMP { flags } else { flags | NLM_F_ACK };
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut octets = vec![0; request.buffer_len()];
        request.serialize(&mut octets);
        self.socket.send_to(&octets, &SocketAddr::new(0, 0), 0)?;
        let mut found = Vec::new();
        loop {
            let (octets, _) = self.socket.recv_from_full()?;
            if self.collect(&octets, &mut found)? {
                return Ok(found);
            }
        }
    }

    /// Whether the last answer was among `octets`.
    fn collect(&self, octets: &[u8], found: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
        let mut rest = octets;
        while !rest.is_empty() {
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let len = (answer.header.length as usize).next_multiple_of(4).max(16).min(rest.len());
            rest = &rest[len..];
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            match answer.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(message) => found.push(message),
                _ => {}
            }
        }
        Ok(false)
    }
}

impl Monitor {
    /// Hears of links and addresses.
    pub fn open() -> io::Result<Self> {
        Self::of(LINKS | ADDRESSES_V4 | ADDRESSES_V6)
    }

    /// Hears of links and neighbours.
    pub fn of_neighbours() -> io::Result<Self> {
        Self::of(LINKS | NEIGHBOURS)
    }

    fn of(groups: u32) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, groups))?;
        Ok(Self(socket))
    }

    /// Forgets what was heard: that it was anything at all means to look again.
    pub fn drain(&self) {
        // Too much at a time is an error once (ENOBUFS); then all is looked at anyway.
        while !matches!(self.0.recv_from_full(), Err(error) if error.kind() == io::ErrorKind::WouldBlock) {}
    }
}

/// Hears that tables of nftables were removed, by whomever.
#[derive(Debug)]
pub struct TableMonitor(Socket);

impl TableMonitor {
    /// Hears of them in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, TABLES))?;
        Ok(Self(socket))
    }

    /// Forgets what was heard; says whether a table was removed, or so much happened at a time that it may have been.
    pub fn drain(&self) -> bool {
        let mut is_removed = false;
        loop {
            match self.0.recv_from_full() {
                Ok((octets, _)) => is_removed |= conntrack::kinds(&octets).any(|kind| kind == TABLE_REMOVED),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return is_removed,
                Err(_) => is_removed = true,
            }
        }
    }
}

impl std::os::fd::AsFd for TableMonitor {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsFd for Monitor {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn family(is_v4: bool) -> AddressFamily {
    if is_v4 { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// `vip` alone, without a network around it: what is sent elsewhere is not sent from it.
fn host(index: u32, vip: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(vip.is_ipv4());
    message.header.prefix_len = if vip.is_ipv4() { 32 } else { 128 };
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(vip), AddressAttribute::Address(vip)];
    message
}

fn usable(message: &AddressMessage) -> Option<IpAddr> {
    let is_tentative = message.attributes.iter().any(|attribute| {
        matches!(attribute, AddressAttribute::Flags(flags)
            if flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed))
    });
    // Where there is a peer the local one is apart.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    local.or(address).filter(|_| !is_tentative)
}

/// Whether `address` is of the link alone.
pub fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

fn unless<T>(done: io::Result<T>, code: i32) -> io::Result<()> {
    match done {
        Err(error) if error.raw_os_error() != Some(code) => Err(error),
        _ => Ok(()),
    }
}

const LINKS: u32 = 1;
const NEIGHBOURS: u32 = 4;

/// NFNLGRP_NFTABLES is the seventh group.
const TABLES: u32 = 1 << 6;

/// NFT_MSG_DELTABLE of NFNL_SUBSYS_NFTABLES.
const TABLE_REMOVED: u16 = 10 << 8 | 2;
const ADDRESSES_V4: u32 = 0x10;
const ADDRESSES_V6: u32 = 0x100;
