//! Many datagrams a system call: the one file with `unsafe` in this program.
//!
//! The kernel is given pointers into [`Slot`]s. They lie in a vector that never grows and each of their parts is an
//! [`UnsafeCell`], so the pointers stay good as long as the [`Batch`] lives, wherever it moves; a `Batch` never leaves
//! its thread (raw pointers are not `Send`), so nobody else touches them. The spans of answers lie in another such vector.
#![allow(unsafe_code)]
#![allow(clippy::unnecessary_cast, reason = "lengths have other types with other C libraries")]

use std::cell::UnsafeCell;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::{ptr, slice};

use crate::wire::UDP_PAYLOAD_MAX;
use libc::{c_int, c_void, cmsghdr, in_pktinfo, in6_pktinfo, iovec, mmsghdr, msghdr, sockaddr_storage};

/// Most datagrams that one system call takes or gives.
pub(super) const BATCH_MAX: usize = 64;
/// Longer queries are cut: no honest one comes near.
pub(super) const QUERY_LEN_MAX: usize = 1536;
/// Room for an answer: what EDNS replies over UDP may fill at most.
pub(super) const ANSWER_LEN_MAX: usize = UDP_PAYLOAD_MAX as usize;
/// Room for one control message with the address asked, for IPv4 (32 octets) and IPv6 (40), and one with the length of
/// the answers in a run (24).
const CONTROL_LEN: usize = 64;
/// Octets of all answers in a run: what one datagram may hold over IPv4.
const RUN_LEN_MAX: usize = 65_507;
/// The length of an answer, as the kernel wants it.
const SEGMENT_LEN: u32 = mem::size_of::<u16>() as u32;
// SAFETY: a sum of lengths.
const SEGMENT_SPACE: usize = unsafe { libc::CMSG_SPACE(SEGMENT_LEN) } as usize;
/// What the kernel says of a run that it cannot cut apart on the way that it takes.
const REFUSALS_OF_RUNS: [c_int; 4] = [libc::EINVAL, libc::EIO, libc::EMSGSIZE, libc::EOPNOTSUPP];
const NO_SPAN: iovec = iovec { iov_base: ptr::null_mut(), iov_len: 0 };

/// Datagrams that were received, and the answers to them.
pub(super) struct Batch {
    slots: Vec<Slot>,
    incoming: Vec<mmsghdr>,
    received: usize,
    /// What is to be sent: each message is one answer, or a run of answers that the kernel cuts apart.
    outgoing: Vec<mmsghdr>,
    messages: usize,
    /// The answers in the order they are sent; those of one message lie side by side.
    spans: Vec<iovec>,
    queued: usize,
    run: Option<Run>,
    /// Whether the kernel takes runs on the way to the clients.
    takes_runs: bool,
}

/// The message that was queued last, for as long as answers may join it.
#[derive(Clone, Copy)]
struct Run {
    /// Octets of each answer in it.
    segment_len: usize,
    /// Octets of all.
    len: usize,
    /// Octets of control messages that say where it leaves from.
    source_len: usize,
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
    /// How to answer it later.
    pub(super) sender: Sender<'a>,
}

/// Where a datagram came from, as long as its batch is not received anew.
#[derive(Clone, Copy)]
pub(super) struct Sender<'a> {
    slot: &'a Slot,
    received: &'a msghdr,
}

/// Where an answer goes, and which of our addresses it leaves from: for one that is sent on its own.
pub(super) struct Address {
    name: sockaddr_storage,
    name_len: libc::socklen_t,
    control: Control,
    control_len: usize,
}

struct Slot {
    query: UnsafeCell<[u8; QUERY_LEN_MAX]>,
    answer: UnsafeCell<[u8; ANSWER_LEN_MAX]>,
    peer: UnsafeCell<sockaddr_storage>,
    control: UnsafeCell<Control>,
    query_span: UnsafeCell<iovec>,
}

/// Aligned as control messages must be.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

impl Batch {
    /// Allocates all it ever needs.
    pub(super) fn new() -> Self {
        let slots: Vec<Slot> = (0..BATCH_MAX).map(|_| Slot::new()).collect();
        let mut batch = Self {
            slots,
            incoming: vec![no_message(); BATCH_MAX],
            received: 0,
            outgoing: vec![no_message(); BATCH_MAX],
            messages: 0,
            spans: vec![NO_SPAN; BATCH_MAX],
            queued: 0,
            run: None,
            takes_runs: true,
        };
        (0..BATCH_MAX).for_each(|at| batch.arm(at));
        batch
    }

    /// Takes what is queued at `socket`, [`BATCH_MAX`] datagrams at most; gives their number, 0 when the wait was in vain.
    pub(super) fn receive(&mut self, socket: &UdpSocket, wait: Wait) -> io::Result<usize> {
        self.received = 0;
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
            let sender = Sender { slot, received: &self.incoming[at].msg_hdr };
            let written = peer.and_then(|peer| answer(Datagram { peer, query, is_cut, answer: &mut room[..], sender }));
            if let Some(len) = written {
                self.queue(at, len.min(ANSWER_LEN_MAX));
            }
            self.arm(at);
        }
    }

    /// Sends what is queued; gives how many answers the kernel refused.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> usize {
        let messages = mem::take(&mut self.messages);
        self.queued = 0;
        self.run = None;
        let (mut done, mut refused) = (0, 0);
        while done < messages {
            match self.hand_over(socket, done..messages) {
                Ok(taken) => done += taken,
                // The first of the rest cannot be sent (no route, say); those behind it may.
                Err(error) => {
                    refused += self.send_apart(socket, done, &error);
                    done += 1;
                }
            }
        }
        refused
    }

    /// Gives `messages` to the kernel; how many it took from the front, none when a signal came
    /// between. Fails when the first is refused.
    fn hand_over(&mut self, socket: &UdpSocket, messages: Range<usize>) -> io::Result<usize> {
        let messages = &mut self.outgoing[messages];
        // SAFETY: the headers point to names and control messages in slots of this batch and to spans of it, all with
        // their true lengths; the kernel only reads them, and no reference into a slot is alive.
        let taken = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as u32, 0) };
        match usize::try_from(taken) {
            Ok(taken) if taken > 0 => Ok(taken),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
        }
    }

    /// Sends the answers of the message at `at`, which was refused with `error`, one by one; gives how many are refused
    /// still.
    ///
    /// When the kernel takes them so, and the error is one for runs that it cannot cut there (a device without checksums,
    /// say), no more runs are made.
    fn send_apart(&mut self, socket: &UdpSocket, at: usize, error: &io::Error) -> usize {
        let run = self.outgoing[at].msg_hdr;
        if run.msg_iovlen < 2 {
            return 1;
        }
        let is_for_runs = error.raw_os_error().is_some_and(|code| REFUSALS_OF_RUNS.contains(&code));
        let mut refused = 0;
        for answer in 0..run.msg_iovlen {
            let header = &mut self.outgoing[at].msg_hdr;
            header.msg_iov = run.msg_iov.wrapping_add(answer as usize);
            header.msg_iovlen = 1;
            header.msg_controllen = (run.msg_controllen as usize - SEGMENT_SPACE) as _;
            loop {
                match self.hand_over(socket, at..at + 1) {
                    Ok(0) => continue,
                    Ok(_) => self.takes_runs &= !is_for_runs,
                    Err(_) => refused += 1,
                }
                break;
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
        self.spans[self.queued] = iovec { iov_base: self.slots[at].answer.get().cast(), iov_len: len };
        let received = &mut self.incoming[at].msg_hdr;
        if !keep_source_only(received) {
            received.msg_controllen = 0;
        }
        match self.run.filter(|run| self.takes_runs && self.is_next_of(run, at, len)) {
            Some(run) => self.join(run, len),
            None => self.start(at, len),
        }
        self.queued += 1;
    }

    /// Starts a message with the answer queued last.
    fn start(&mut self, at: usize, len: usize) {
        let received = self.incoming[at].msg_hdr;
        let header = &mut self.outgoing[self.messages].msg_hdr;
        header.msg_name = received.msg_name;
        header.msg_namelen = received.msg_namelen;
        header.msg_iov = self.spans.as_mut_ptr().wrapping_add(self.queued);
        header.msg_iovlen = 1;
        header.msg_control = received.msg_control;
        header.msg_controllen = received.msg_controllen;
        self.messages += 1;
        self.run = Some(Run { segment_len: len, len, source_len: received.msg_controllen as usize });
    }

    /// Adds the answer queued last to `run`, the last message.
    fn join(&mut self, run: Run, len: usize) {
        let header = &mut self.outgoing[self.messages - 1].msg_hdr;
        if header.msg_iovlen == 1 {
            add_segment_len(header, run.segment_len);
        }
        header.msg_iovlen += 1;
        // Only the last one may be shorter.
        self.run = (len == run.segment_len).then_some(Run { len: run.len + len, ..run });
    }

    /// Whether the answer of `len` octets in the slot at `at` may join `run`: it goes to the same client from the same
    /// address, and fits.
    fn is_next_of(&self, run: &Run, at: usize, len: usize) -> bool {
        let has_room = run.source_len + SEGMENT_SPACE <= CONTROL_LEN && run.len + len <= RUN_LEN_MAX;
        if len == 0 || len > run.segment_len || !has_room {
            return false;
        }
        let (first, next) = (&self.outgoing[self.messages - 1].msg_hdr, &self.incoming[at].msg_hdr);
        if first.msg_namelen != next.msg_namelen || run.source_len != next.msg_controllen as usize {
            return false;
        }
        // SAFETY: both headers point to names and control messages in slots of this batch, of which the kernel has filled
        // so many octets, or to nothing where there are none; nobody writes to them while these references live.
        unsafe {
            octets(first.msg_name, first.msg_namelen as usize) == octets(next.msg_name, next.msg_namelen as usize)
                && octets(first.msg_control, run.source_len) == octets(next.msg_control, run.source_len)
        }
    }
}

impl Sender<'_> {
    /// The same for any time later.
    #[cold]
    pub(super) fn address(&self) -> Address {
        let has_source = keep_source_only(self.received);
        // SAFETY: the kernel is done with the slot until the next receive, and nobody refers to its control messages or
        // writes to its name while they are copied; every value of both is valid.
        let (name, control) = unsafe { (*self.slot.peer.get(), *self.slot.control.get()) };
        let control_len = if has_source { self.received.msg_controllen as usize } else { 0 };
        Address { name, name_len: self.received.msg_namelen, control, control_len }
    }
}

impl Address {
    /// Sends `octets` there from `socket`, which must be the one that its query came to.
    pub(super) fn send(&mut self, socket: &UdpSocket, octets: &[u8]) -> io::Result<()> {
        let mut span = iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
        let mut header = no_message().msg_hdr;
        header.msg_name = ptr::from_mut(&mut self.name).cast();
        header.msg_namelen = self.name_len;
        header.msg_iov = &mut span;
        header.msg_iovlen = 1;
        if self.control_len > 0 {
            header.msg_control = ptr::from_mut(&mut self.control).cast();
            header.msg_controllen = self.control_len.min(CONTROL_LEN) as _;
        }
        // SAFETY: the header points to a name, control messages and octets with their true lengths, which live longer
        // than the call; the kernel only reads them.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &header, 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// The first `len` octets of a buffer.
///
/// # Safety
/// They must have been written, and stay as they are as long as the reference lives; none need be there when `len` is 0.
unsafe fn octets<'a>(start: *const c_void, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(start.cast(), len) }
}

/// Says behind the control messages of `header` that its answers are `segment_len` octets each.
fn add_segment_len(header: &mut msghdr, segment_len: usize) {
    let source_len = header.msg_controllen as usize;
    header.msg_controllen = (source_len + SEGMENT_SPACE) as _;
    // SAFETY: the control buffer of a slot has room for the longest source and this message behind it, and is aligned
    // for both: a source's length is a multiple of the alignment.
    unsafe {
        let message: *mut cmsghdr = header.msg_control.byte_add(source_len).cast();
        (*message).cmsg_level = libc::SOL_UDP;
        (*message).cmsg_type = libc::UDP_SEGMENT;
        (*message).cmsg_len = libc::CMSG_LEN(SEGMENT_LEN) as _;
        libc::CMSG_DATA(message).cast::<u16>().write_unaligned(segment_len as u16);
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            query: UnsafeCell::new([0; QUERY_LEN_MAX]),
            answer: UnsafeCell::new([0; ANSWER_LEN_MAX]),
            // SAFETY: a sockaddr_storage is plain numbers, for which zeroes are a value.
            peer: UnsafeCell::new(unsafe { mem::zeroed() }),
            control: UnsafeCell::new(Control([0; CONTROL_LEN])),
            query_span: UnsafeCell::new(NO_SPAN),
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

/// The address in `name`, of which the kernel has filled `len` octets. `None` for port 0, where nobody can be answered.
fn ip_of(name: &sockaddr_storage, len: libc::socklen_t) -> Option<IpAddr> {
    let name_ptr: *const sockaddr_storage = name;
    match c_int::from(name.ss_family) {
        libc::AF_INET if len as usize >= mem::size_of::<libc::sockaddr_in>() => {
            // SAFETY: the family says that it is one, and a sockaddr_storage is large and aligned enough for each.
            let v4 = unsafe { &*name_ptr.cast::<libc::sockaddr_in>() };
            (v4.sin_port != 0).then(|| Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 if len as usize >= mem::size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above.
            let v6 = unsafe { &*name_ptr.cast::<libc::sockaddr_in6>() };
            (v6.sin6_port != 0).then(|| Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

fn no_message() -> mmsghdr {
    // SAFETY: a header is numbers and pointers, for which zeroes (null) are a value.
    unsafe { mem::zeroed() }
}

#[cfg(test)]
mod tests;
