//! The sockets of one virtual router.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::cmsg_space;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrIn6, bind, recvmsg, setsockopt,
    socket, sockopt,
};
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockFilter, Socket, Type};

use crate::config::VirtualRouter;
use crate::vrrp::packet::{GROUP_V4, GROUP_V6, HOP_LIMIT, PROTOCOL, Path, SIZE_MAX, in_ipv4};

/// Receives and sends on one interface.
#[derive(Debug)]
pub(super) struct Wire {
    /// The interface that it was made for.
    pub(super) index: u32,
    receiver: Socket,
    /// Whole frames, from any Ethernet address.
    frames: OwnedFd,
}

/// A packet of VRRP that came.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) message: Vec<u8>,
    pub(super) path: Path,
    pub(super) hop_limit: u8,
}

impl Wire {
    /// For `router`, whose interface is numbered `index`.
    pub(super) fn open(router: &VirtualRouter, index: u32) -> io::Result<Self> {
        let receiver = if router.is_v4() { receiver_v4(index)? } else { receiver_v6(index)? };
        receiver.bind_device(Some(router.interface.as_bytes()))?;
        receiver.set_nonblocking(true)?;
        Ok(Self { index, receiver, frames: frames(&router.interface)? })
    }

    /// The next packet that waits.
    pub(super) fn receive(&self) -> io::Result<Option<Packet>> {
        let received = if self.receiver.domain()? == Domain::IPV4 { self.receive_v4() } else { self.receive_v6() };
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            received => received.map(Some),
        }
    }

    fn receive_v4(&self) -> io::Result<Packet> {
        let mut octets = [0; SIZE_MAX + 60];
        loop {
            let (len, _) = rustix::net::recv(&self.receiver, &mut octets, RecvFlags::empty())?;
            if let Some((message, path, hop_limit)) = in_ipv4(&octets[..len]) {
                return Ok(Packet { message: message.to_vec(), path, hop_limit });
            }
        }
    }

    fn receive_v6(&self) -> io::Result<Packet> {
        let mut octets = [0; SIZE_MAX + 1];
        let mut control = cmsg_space!(libc::in6_pktinfo, libc::c_int);
        let mut parts = [IoSliceMut::new(&mut octets)];
        let fd = self.receiver.as_raw_fd();
        let received = recvmsg::<SockaddrIn6>(fd, &mut parts, Some(&mut control), MsgFlags::empty())?;
        let source = received.address.map_or(Ipv6Addr::UNSPECIFIED, |address| address.ip());
        let (mut destination, mut hop_limit) = (Ipv6Addr::UNSPECIFIED, 0);
        for message in received.cmsgs()? {
            match message {
                ControlMessageOwned::Ipv6PacketInfo(info) => destination = Ipv6Addr::from(info.ipi6_addr.s6_addr),
                ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = u8::try_from(limit).unwrap_or(0),
                _ => {}
            }
        }
        let len = received.bytes;
        Ok(Packet { message: octets[..len].to_vec(), path: Path::V6 { source, destination }, hop_limit })
    }

    /// Sends one Ethernet frame.
    pub(super) fn send_frame(&self, frame: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.frames, frame, SendFlags::empty())?;
        Ok(())
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

/// Sends `message` to one peer from `source`, as the kernel routes it.
pub(super) fn send_to_peer(message: &[u8], source: IpAddr, peer: IpAddr, index: u32) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(with_scope(peer, index)), Type::RAW, Some(protocol()))?;
    if peer.is_ipv4() {
        socket.set_ttl_v4(u32::from(HOP_LIMIT))?;
        socket.set_tos_v4(0xc0)?;
    } else {
        socket.set_unicast_hops_v6(u32::from(HOP_LIMIT))?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&with_scope(source, index).into())?;
    socket.send_to(message, &with_scope(peer, index).into()).map(drop)
}

fn with_scope(address: IpAddr, index: u32) -> SocketAddr {
    match address {
        IpAddr::V4(_) => SocketAddr::new(address, 0),
        IpAddr::V6(address) => SocketAddrV6::new(address, 0, 0, index).into(),
    }
}

fn receiver_v4(index: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol()))?;
    socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))?;
    Ok(socket)
}

fn receiver_v6(index: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(protocol()))?;
    socket.join_multicast_v6(&GROUP_V6, index)?;
    socket.set_recv_hoplimit_v6(true)?;
    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    Ok(socket)
}

/// Sends frames on `interface` and receives none.
fn frames(interface: &str) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    bind(fd.as_raw_fd(), &link_address(interface)?)?;
    Ok(fd)
}

fn link_address(interface: &str) -> io::Result<LinkAddr> {
    let is_it = |entry: &nix::ifaddrs::InterfaceAddress| entry.interface_name == interface;
    let mut own = getifaddrs()?.filter(is_it).filter_map(|entry| entry.address?.as_link_addr().copied());
    own.next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Hears what neighbours on `interface` say of their Ethernet addresses: ARP replies, or neighbour advertisements.
pub(super) fn neighbours(interface: &str, is_v4: bool) -> io::Result<Socket> {
    let (protocol, filter) = if is_v4 { (libc::ETH_P_ARP, ARP_REPLIES) } else { (libc::ETH_P_IPV6, ADVERTISEMENTS) };
    let protocol = i32::from((protocol as u16).to_be());
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(protocol)))?;
    let steps: Vec<_> =
        filter.iter().map(|(code, if_so, if_not, k)| SockFilter::new(*code, *if_so, *if_not, *k)).collect();
    socket.attach_filter(&steps)?;
    bind(socket.as_raw_fd(), &link_address(interface)?)?;
    socket.set_nonblocking(true)?;
    // Up to here it heard all interfaces.
    while receive_frame(&socket).is_some() {}
    Ok(socket)
}

/// The start of the next frame that waits.
pub(super) fn receive_frame(socket: &Socket) -> Option<Vec<u8>> {
    let mut octets = [0; 128];
    let (len, _) = rustix::net::recv(socket, &mut octets, RecvFlags::empty()).ok()?;
    Some(octets[..len].to_vec())
}

fn protocol() -> Protocol {
    Protocol::from(i32::from(PROTOCOL))
}

/// A step of a filter of the kernel: what it does, how many steps to jump over if it is so, and if not, and its number.
type Step = (u16, u8, u8, u32);

const LOAD_OCTET: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_TWO: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const IS_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const ALL: u32 = u32::MAX;

/// The operation at octet 20 is 2 (RFC 826).
const ARP_REPLIES: &[Step] = &[(LOAD_TWO, 0, 0, 20), (IS_EQUAL, 0, 1, 2), (RETURN, 0, 0, ALL), (RETURN, 0, 0, 0)];

/// The next header at octet 20 is ICMPv6, and its type at octet 54 that of an advertisement: the rest of what the interface
/// receives costs no more than this look.
const ADVERTISEMENTS: &[Step] = &[
    (LOAD_OCTET, 0, 0, 20),
    (IS_EQUAL, 0, 3, 58),
    (LOAD_OCTET, 0, 0, 54),
    (IS_EQUAL, 0, 1, 136),
    (RETURN, 0, 0, ALL),
    (RETURN, 0, 0, 0),
];
