//! Many datagrams a system call: the one file with `unsafe` in this program.
//!
//! The kernel is given pointers into [`Slot`]s. They lie in a vector that never grows and each of their parts is an
//! [`UnsafeCell`], so the pointers stay good as long as the [`Batch`] lives, wherever it moves; a `Batch` never leaves
//! its thread (raw pointers are not `Send`), so nobody else touches them.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use crate::wire::UDP_PAYLOAD_MAX;
use libc::{c_int, c_void, cmsghdr, in_pktinfo, in6_pktinfo, iovec, mmsghdr, msghdr, sockaddr_storage};

/// Most datagrams that one system call takes or gives.
pub(super) const BATCH_MAX: usize = 64;
/// Longer queries are cut: no honest one comes near.
pub(super) const QUERY_LEN_MAX: usize = 1536;
/// Room for an answer: what EDNS replies over UDP may fill at most.
pub(super) const ANSWER_LEN_MAX: usize = UDP_PAYLOAD_MAX as usize;
/// Room for one control message with the address asked, for IPv4 (32 octets) and IPv6 (40).
const CONTROL_LEN: usize = 64;

/// Datagrams that were received, and the answers to them.
pub(super) struct Batch {
    slots: Vec<Slot>,
    incoming: Vec<mmsghdr>,
    outgoing: Vec<mmsghdr>,
    received: usize,
    queued: usize,
}

/// Whether to wait when nothing is queued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wait {
    /// For the first datagram, at most as long as the receive timeout of the socket.
    ForOne,
    /// Not at all.
    No,
}

/// One datagram of a batch.
pub(super) struct Datagram<'a> {
    /// Who sent it.
    pub(super) peer: IpAddr,
    /// What is in it.
    pub(super) query: &'a [u8],
    /// Whether it was longer than [`QUERY_LEN_MAX`], so that its end is missing.
    pub(super) is_cut: bool,
    /// Room for the answer.
    pub(super) answer: &'a mut [u8],
}

struct Slot {
    query: UnsafeCell<[u8; QUERY_LEN_MAX]>,
    answer: UnsafeCell<[u8; ANSWER_LEN_MAX]>,
    peer: UnsafeCell<sockaddr_storage>,
    control: UnsafeCell<Control>,
    query_span: UnsafeCell<iovec>,
    answer_span: UnsafeCell<iovec>,
}

/// Aligned as control messages must be.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

impl Batch {
    /// Allocates all it ever needs.
    pub(super) fn new() -> Self {
        let slots: Vec<Slot> = (0..BATCH_MAX).map(|_| Slot::new()).collect();
        let mut batch = Self {
            slots,
            incoming: vec![no_message(); BATCH_MAX],
            outgoing: vec![no_message(); BATCH_MAX],
            received: 0,
            queued: 0,
        };
        (0..BATCH_MAX).for_each(|at| batch.arm(at));
        batch
    }

    /// Takes what is queued at `socket`, [`BATCH_MAX`] datagrams at most; gives their number, 0 when the wait was in vain.
    pub(super) fn receive(&mut self, socket: &UdpSocket, wait: Wait) -> io::Result<usize> {
        self.received = 0;
        self.queued = 0;
        let flags = match wait {
            Wait::ForOne => libc::MSG_WAITFORONE,
            Wait::No => libc::MSG_DONTWAIT,
        };
        // SAFETY: `incoming` has BATCH_MAX headers, each armed with pointers into its slot and the true lengths of what
        // they point to; no reference into a slot is alive while `self` is borrowed mutably here. A null timeout is allowed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.incoming.as_mut_ptr(),
                BATCH_MAX as u32,
                flags as _,
                ptr::null_mut(),
            )
        };
        match usize::try_from(count) {
            Ok(count) => self.received = count,
            Err(_) => match io::Error::last_os_error() {
                error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                error => return Err(error),
            },
        }
        Ok(self.received)
    }

    /// Gives each datagram received to `answer`, which returns the length of the answer it wrote, if any, and queues
    /// that for [`Batch::send`]. Each datagram is given once.
    pub(super) fn answer_each(&mut self, mut answer: impl FnMut(Datagram<'_>) -> Option<usize>) {
        for at in 0..mem::take(&mut self.received) {
            let header = self.incoming[at];
            let slot = &self.slots[at];
            let len = (header.msg_len as usize).min(QUERY_LEN_MAX);
            // SAFETY: the kernel has filled the slot and is done with it; these are the only references into its query,
            // answer and peer, and they end with this turn of the loop, before the next system call.
            let (query, room, peer) = unsafe { (&*slot.query.get(), &mut *slot.answer.get(), &*slot.peer.get()) };
            let query = &query[..len];
            let peer = ip_of(peer, header.msg_hdr.msg_namelen);
            let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let written = peer.and_then(|peer| answer(Datagram { peer, query, is_cut, answer: &mut room[..] }));
            if let Some(len) = written {
                self.queue(at, len.min(ANSWER_LEN_MAX));
            }
            self.arm(at);
        }
    }

    /// Sends what is queued; gives how many answers the kernel refused.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> usize {
        let queued = mem::take(&mut self.queued);
        let (mut done, mut refused) = (0, 0);
        while done < queued {
            let rest = &mut self.outgoing[done..queued];
            // SAFETY: the headers in `rest` point to names, spans and control messages in slots of this batch with their
            // true lengths; the kernel only reads them, and no reference into a slot is alive.
            let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => done += sent,
                _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                // The first of the rest cannot be sent (no route, say); those behind it may.
                _ => (done, refused) = (done + 1, refused + 1),
            }
        }
        refused
    }

    /// Makes the header at `at` ready to receive.
    fn arm(&mut self, at: usize) {
        let slot = &self.slots[at];
        let span = slot.query_span.get();
        // SAFETY: nobody else refers to the span; the kernel reads it during the next receive only.
        unsafe { *span = iovec { iov_base: slot.query.get().cast(), iov_len: QUERY_LEN_MAX } };
        let header = &mut self.incoming[at].msg_hdr;
        header.msg_name = slot.peer.get().cast();
        header.msg_namelen = mem::size_of::<sockaddr_storage>() as u32;
        header.msg_iov = span;
        header.msg_iovlen = 1;
        header.msg_control = slot.control.get().cast();
        header.msg_controllen = CONTROL_LEN as _;
        header.msg_flags = 0;
    }

    /// Queues `len` octets of the answer in the slot at `at`, to whom and from where its query came.
    fn queue(&mut self, at: usize, len: usize) {
        let slot = &self.slots[at];
        let received = self.incoming[at].msg_hdr;
        let span = slot.answer_span.get();
        // SAFETY: as in `arm`; the span is read by the next send only, which comes before the slot is used again.
        unsafe { *span = iovec { iov_base: slot.answer.get().cast(), iov_len: len } };
        let is_from_asked_address = keep_source_only(&received);
        let header = &mut self.outgoing[self.queued].msg_hdr;
        header.msg_name = received.msg_name;
        header.msg_namelen = received.msg_namelen;
        header.msg_iov = span;
        header.msg_iovlen = 1;
        header.msg_control = if is_from_asked_address { received.msg_control } else { ptr::null_mut() };
        header.msg_controllen = if is_from_asked_address { received.msg_controllen } else { 0 };
        self.queued += 1;
    }
}

impl Slot {
    fn new() -> Self {
        let no_span = || UnsafeCell::new(iovec { iov_base: ptr::null_mut(), iov_len: 0 });
        Self {
            query: UnsafeCell::new([0; QUERY_LEN_MAX]),
            answer: UnsafeCell::new([0; ANSWER_LEN_MAX]),
            // SAFETY: a sockaddr_storage is plain numbers, for which zeroes are a value.
            peer: UnsafeCell::new(unsafe { mem::zeroed() }),
            control: UnsafeCell::new(Control([0; CONTROL_LEN])),
            query_span: no_span(),
            answer_span: no_span(),
        }
    }
}

/// Asks the kernel to tell with each datagram which of our addresses it was sent to: needed where a socket is bound to
/// all of them, so that the answer leaves from the same.
pub(super) fn tell_addresses_asked(socket: &UdpSocket, is_v6: bool) -> io::Result<()> {
    match is_v6 {
        true => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
        false => set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
    }
}

/// Takes no notice of path MTU reports, which anybody can forge to make answers fragment.
pub(super) fn ignore_path_mtu(socket: &UdpSocket, is_v6: bool) -> io::Result<()> {
    match is_v6 {
        true => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_OMIT),
        false => set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT),
    }
}

fn set_option(socket: &UdpSocket, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let pointer: *const c_int = &value;
    // SAFETY: the option's value is one int, read during the call only.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, pointer.cast(), mem::size_of::<c_int>() as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the control message of a received datagram one that sends from the address asked, by whatever interface the
/// routes say. `false`: there is none, or it names no address to send from.
fn keep_source_only(received: &msghdr) -> bool {
    if received.msg_controllen < mem::size_of::<cmsghdr>() as _ || received.msg_flags & libc::MSG_CTRUNC != 0 {
        return false;
    }
    // SAFETY: `msg_control` points to a slot's control buffer, aligned for control messages, of which the kernel has
    // filled `msg_controllen` octets: at least one whole header, by the line above. The data that follow have the
    // length that the kernel gives to this kind of message, and lie in the buffer.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(received);
        if message.is_null() {
            return false;
        }
        let data: *mut c_void = libc::CMSG_DATA(message).cast();
        match ((*message).cmsg_level, (*message).cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let info: *mut in_pktinfo = data.cast();
                (*info).ipi_ifindex = 0;
                true
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let info: *mut in6_pktinfo = data.cast();
                let address = Ipv6Addr::from((*info).ipi6_addr.s6_addr);
                // A link-local address means nothing without its interface.
                if !address.is_unicast_link_local() {
                    (*info).ipi6_ifindex = 0;
                }
                !address.is_multicast()
            }
            _ => false,
        }
    }
}

/// The address in `name`, of which the kernel has filled `len` octets.
fn ip_of(name: &sockaddr_storage, len: libc::socklen_t) -> Option<IpAddr> {
    let name_ptr: *const sockaddr_storage = name;
    match c_int::from(name.ss_family) {
        libc::AF_INET if len as usize >= mem::size_of::<libc::sockaddr_in>() => {
            // SAFETY: the family says that it is one, and a sockaddr_storage is large and aligned enough for each.
            let v4 = unsafe { &*name_ptr.cast::<libc::sockaddr_in>() };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 if len as usize >= mem::size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above.
            let v6 = unsafe { &*name_ptr.cast::<libc::sockaddr_in6>() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

fn no_message() -> mmsghdr {
    // SAFETY: a header is numbers and pointers, for which zeroes (null) are a value.
    unsafe { mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bound(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).expect("bound");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("set");
        socket
    }

    fn echo(batch: &mut Batch, socket: &UdpSocket) -> usize {
        batch.answer_each(|datagram| {
            datagram.answer[..datagram.query.len()].copy_from_slice(datagram.query);
            Some(datagram.query.len())
        });
        batch.send(socket)
    }

    #[test]
    fn batch_answers_each_sender_with_its_own_datagram() {
        let server = bound("127.0.0.1:0");
        let clients: Vec<UdpSocket> = (0..3).map(|_| bound("127.0.0.1:0")).collect();
        let mut batch = Batch::new();
        for round in 0..3_u8 {
            for (at, client) in clients.iter().enumerate() {
                client.send_to(&[round, at as u8], server.local_addr().expect("bound")).expect("sent");
            }
            let mut received = 0;
            while received < clients.len() {
                received += batch.receive(&server, Wait::ForOne).expect("received");
                assert_eq!(echo(&mut batch, &server), 0);
            }
            for (at, client) in clients.iter().enumerate() {
                let mut buffer = [0; 8];
                let (len, from) = client.recv_from(&mut buffer).expect("answered");
                assert_eq!((&buffer[..len], from), (&[round, at as u8][..], server.local_addr().expect("bound")));
            }
        }
    }

    #[test]
    fn answer_leaves_from_the_address_asked() {
        for (wildcard, asked) in [("0.0.0.0:0", "127.0.0.77"), ("[::]:0", "::1")] {
            let Ok(server) = UdpSocket::bind(wildcard) else { continue };
            server.set_read_timeout(Some(Duration::from_millis(500))).expect("set");
            let asked: IpAddr = asked.parse().expect("an address");
            tell_addresses_asked(&server, asked.is_ipv6()).expect("set");
            ignore_path_mtu(&server, asked.is_ipv6()).expect("set");
            let to = (asked, server.local_addr().expect("bound").port());
            let client = bound(if asked.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" });
            client.send_to(b"x", to).expect("sent");
            let mut batch = Batch::new();
            assert_eq!(batch.receive(&server, Wait::ForOne).expect("received"), 1);
            assert_eq!(echo(&mut batch, &server), 0);
            let (_, from) = client.recv_from(&mut [0; 8]).expect("answered");
            assert_eq!(from.ip(), asked);
        }
    }

    #[test]
    fn too_long_datagram_is_marked_and_the_next_is_whole() {
        let server = bound("127.0.0.1:0");
        let client = bound("127.0.0.1:0");
        let to = server.local_addr().expect("bound");
        let mut batch = Batch::new();
        for (len, expected) in [(QUERY_LEN_MAX + 1, true), (QUERY_LEN_MAX, false)] {
            client.send_to(&vec![7; len], to).expect("sent");
            assert_eq!(batch.receive(&server, Wait::ForOne).expect("received"), 1);
            let mut is_cut = None;
            batch.answer_each(|datagram| {
                is_cut = Some(datagram.is_cut);
                None
            });
            assert_eq!(is_cut, Some(expected));
            assert_eq!(batch.send(&server), 0);
        }
    }

    #[test]
    fn receive_without_datagrams_gives_none() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("bound");
        server.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
        let mut batch = Batch::new();
        assert_eq!(batch.receive(&server, Wait::No).expect("no error"), 0);
        assert_eq!(batch.receive(&server, Wait::ForOne).expect("no error"), 0);
    }
}
