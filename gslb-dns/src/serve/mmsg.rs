//! Many datagrams a system call: the one file with `unsafe` in this program.
//!
//! The kernel is given pointers into [`Slot`]s, peers and controls. They lie in vectors that never grow and each is in an
//! [`UnsafeCell`], so the pointers stay good as long as the [`Batch`] lives, wherever it moves; a `Batch` never leaves
//! its thread (raw pointers are not `Send`), so nobody else touches them. The spans of answers lie in another such vector.
//! Peers lie side by side, since each is compared with the next.
//!
//! Answers to one client that follow each other leave as few messages, of which the kernel cuts each into datagrams of one
//! length: so they are put in the order of their lengths first.
#![allow(unsafe_code)]
#![allow(clippy::unnecessary_cast, reason = "lengths have other types with other C libraries")]

use std::cell::UnsafeCell;
use std::cmp::Reverse;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;

use crate::wire::UDP_PAYLOAD_MAX;
use libc::{c_int, c_void, cmsghdr, in_pktinfo, in6_pktinfo, iovec, mmsghdr, msghdr, sockaddr_in6};

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
    /// Who sent the datagram in the slot at the same position.
    peers: Vec<UnsafeCell<Peer>>,
    /// Which address of ours it was sent to.
    controls: Vec<UnsafeCell<Control>>,
    incoming: Vec<mmsghdr>,
    /// Datagrams that were not given to be answered yet.
    received: usize,
    /// Headers that the kernel has filled, and that must be armed again.
    filled: usize,
    answers: Vec<Answer>,
    /// What is to be sent: each message is one answer, or a run of answers that the kernel cuts apart.
    outgoing: Vec<mmsghdr>,
    messages: usize,
    /// The answers in the order they are sent; those of one message lie side by side.
    spans: Vec<iovec>,
    /// Whether the kernel takes runs on the way to the clients.
    takes_runs: bool,
}

/// An answer that is to be sent.
#[derive(Clone, Copy)]
struct Answer {
    /// Its slot, which also says to whom and from where.
    slot: usize,
    len: usize,
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
    query_span: UnsafeCell<iovec>,
}

/// An address of either family: that of IPv4 is shorter and has its family at the same place.
type Peer = sockaddr_in6;
const PEER_WORDS: usize = mem::size_of::<Peer>() / mem::size_of::<u32>();

/// Words, since control messages are aligned so and are so many of them long.
struct Control([u64; CONTROL_LEN / mem::size_of::<u64>()]);

impl Batch {
    /// Allocates all it ever needs.
    pub(super) fn new() -> Self {
        // SAFETY: an address is plain numbers, for which zeroes are a value.
        let peer = || UnsafeCell::new(unsafe { mem::zeroed() });
        let control = || UnsafeCell::new(Control([0; CONTROL_LEN / mem::size_of::<u64>()]));
        let mut batch = Self {
            slots: (0..BATCH_MAX).map(|_| Slot::new()).collect(),
            peers: (0..BATCH_MAX).map(|_| peer()).collect(),
            controls: (0..BATCH_MAX).map(|_| control()).collect(),
            incoming: vec![no_message(); BATCH_MAX],
            received: 0,
            filled: BATCH_MAX,
            answers: Vec::with_capacity(BATCH_MAX),
            outgoing: vec![no_message(); BATCH_MAX],
            messages: 0,
            spans: Vec::with_capacity(BATCH_MAX),
            takes_runs: true,
        };
        batch.arm();
        batch
    }

    /// Takes what is queued at `socket`, [`BATCH_MAX`] datagrams at most; gives their number, 0 when the wait was in vain.
    pub(super) fn receive(&mut self, socket: &UdpSocket, wait: Wait) -> io::Result<usize> {
        self.received = 0;
        self.answers.clear();
        self.arm();
        let flags = match wait {
            Wait::ForOne => libc::MSG_WAITFORONE,
            Wait::No => libc::MSG_DONTWAIT,
        };
        // SAFETY: `incoming` has BATCH_MAX headers, each armed with pointers into this batch and the true lengths of what
        // they point to; no reference into it is alive while `self` is borrowed mutably here. A null timeout is allowed.
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
            Ok(count) => (self.received, self.filled) = (count, count),
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
            let (query, room, peer) = unsafe { (&*slot.query.get(), &mut *slot.answer.get(), &*self.peers[at].get()) };
            let query = &query[..len];
            let peer = ip_of(peer, header.msg_hdr.msg_namelen);
            let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let written = peer.and_then(|peer| answer(Datagram { peer, query, is_cut, answer: &mut room[..] }));
            if let Some(len) = written {
                self.keep_source_only(at);
                self.answers.push(Answer { slot: at, len: len.min(ANSWER_LEN_MAX) });
            }
        }
    }

    /// Sends what is queued; gives how many answers the kernel refused.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> usize {
        self.compose();
        let messages = mem::take(&mut self.messages);
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
        // SAFETY: the headers point to names, control messages and spans of this batch, all with
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

    /// Makes the headers that the kernel has filled ready to receive again.
    fn arm(&mut self) {
        for at in 0..mem::take(&mut self.filled) {
            let slot = &self.slots[at];
            let span = slot.query_span.get();
            // SAFETY: nobody else refers to the span; the kernel reads it during the next receive only.
            unsafe { *span = iovec { iov_base: slot.query.get().cast(), iov_len: QUERY_LEN_MAX } };
            let header = &mut self.incoming[at].msg_hdr;
            header.msg_name = self.peers[at].get().cast();
            header.msg_namelen = mem::size_of::<Peer>() as u32;
            header.msg_iov = span;
            header.msg_iovlen = 1;
            header.msg_control = self.controls[at].get().cast();
            header.msg_controllen = CONTROL_LEN as _;
            header.msg_flags = 0;
        }
    }

    /// Makes messages of all answers.
    fn compose(&mut self) {
        let mut answers = mem::take(&mut self.answers);
        self.spans.clear();
        let mut rest = &mut answers[..];
        while let [first, others @ ..] = rest {
            let alike = 1 + others.iter().take_while(|other| self.is_same_way(first.slot, other.slot)).count();
            let (same_way, behind) = rest.split_at_mut(alike);
            self.add_messages(same_way);
            rest = behind;
        }
        answers.clear();
        self.answers = answers;
    }

    /// Adds as few messages as `answers`, which go the same way, take.
    fn add_messages(&mut self, answers: &mut [Answer]) {
        if self.takes_runs {
            // So that those of one length stand together, and a single shorter one can be the last of theirs.
            answers.sort_unstable_by_key(|answer| Reverse(answer.len));
        }
        let mut rest = &*answers;
        while let Some(run_len) = self.run_len(rest) {
            let (run, behind) = rest.split_at(run_len);
            self.add_message(run);
            rest = behind;
        }
    }

    /// Whether the answers in two slots go to the same client from the same address.
    fn is_same_way(&self, a: usize, b: usize) -> bool {
        let (first, second) = (&self.incoming[a].msg_hdr, &self.incoming[b].msg_hdr);
        let (source_len, name_len) = (first.msg_controllen as usize, first.msg_namelen);
        if name_len != second.msg_namelen || source_len != second.msg_controllen as usize {
            return false;
        }
        // SAFETY: plain numbers that are always initialised; nobody writes to them while these references live. What lies
        // behind a shorter address, and behind the control messages, was there before and says nothing.
        let (peers, controls) = unsafe {
            let peer = |at: usize| &*self.peers[at].get().cast::<[u32; PEER_WORDS]>();
            let control = |at: usize| &(*self.controls[at].get()).0;
            ([peer(a), peer(b)], [control(a), control(b)])
        };
        are_alike(peers, name_len as usize) && are_alike(controls, source_len)
    }

    /// How many of `answers`, which go the same way, make the next message; `None`: there are no more.
    ///
    /// All in a run are as long as the first; only the last may be shorter.
    fn run_len(&self, answers: &[Answer]) -> Option<usize> {
        let first = answers.first()?;
        let source_len = self.incoming[first.slot].msg_hdr.msg_controllen as usize;
        if !self.takes_runs || first.len == 0 || source_len + SEGMENT_SPACE > CONTROL_LEN {
            return Some(1);
        }
        let most = RUN_LEN_MAX / first.len;
        let alike = answers.iter().take(most).take_while(|answer| answer.len == first.len).count();
        let is_shorter = |answer: &Answer| (1..first.len).contains(&answer.len);
        let has_last = alike < most && answers.get(alike).is_some_and(is_shorter);
        Some(alike + usize::from(has_last))
    }

    /// Adds one message with the answers `run`.
    fn add_message(&mut self, run: &[Answer]) {
        let [first, ..] = run else { return };
        let received = self.incoming[first.slot].msg_hdr;
        let header = &mut self.outgoing[self.messages].msg_hdr;
        header.msg_name = received.msg_name;
        header.msg_namelen = received.msg_namelen;
        header.msg_iov = self.spans.as_mut_ptr().wrapping_add(self.spans.len());
        header.msg_iovlen = run.len() as _;
        header.msg_control = received.msg_control;
        header.msg_controllen = received.msg_controllen;
        if run.len() > 1 {
            add_segment_len(header, first.len);
        }
        let span =
            |answer: &Answer| iovec { iov_base: self.slots[answer.slot].answer.get().cast(), iov_len: answer.len };
        self.spans.extend(run.iter().map(span));
        self.messages += 1;
    }

    /// Makes the control message of the datagram received at `at` one that sends from the address asked, by whatever
    /// interface the routes say; none where it names no address to send from.
    fn keep_source_only(&mut self, at: usize) {
        let received = &mut self.incoming[at].msg_hdr;
        if !names_source(received) {
            received.msg_controllen = 0;
        }
    }
}

/// Whether the first `len` octets of both are the same, in whole words.
///
/// Word by word, since the C library's comparison of so few octets was measured to take longer than all else that an
/// answer takes here.
fn are_alike<T: Copy + Eq, const N: usize>([a, b]: [&[T; N]; 2], len: usize) -> bool {
    a.iter().zip(b).take(len / mem::size_of::<T>()).all(|(a, b)| a == b)
}

/// Says behind the control messages of `header` that its answers are `segment_len` octets each.
fn add_segment_len(header: &mut msghdr, segment_len: usize) {
    let source_len = header.msg_controllen as usize;
    header.msg_controllen = (source_len + SEGMENT_SPACE) as _;
    // SAFETY: each control buffer has room for the longest source and this message behind it, and is aligned
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

/// Whether the control message of a received datagram names an address of ours to send from; the interface is taken out
/// of it.
fn names_source(received: &msghdr) -> bool {
    if received.msg_controllen < mem::size_of::<cmsghdr>() as _ || received.msg_flags & libc::MSG_CTRUNC != 0 {
        return false;
    }
    // SAFETY: `msg_control` points to one of the control buffers, aligned for control messages, of which the kernel has
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
fn ip_of(name: &Peer, len: libc::socklen_t) -> Option<IpAddr> {
    let name_ptr: *const Peer = name;
    match c_int::from(name.sin6_family) {
        libc::AF_INET if len as usize >= mem::size_of::<libc::sockaddr_in>() => {
            // SAFETY: the family says that it is one, which is shorter and no more strictly aligned.
            let v4 = unsafe { &*name_ptr.cast::<libc::sockaddr_in>() };
            (v4.sin_port != 0).then(|| Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 if len as usize >= mem::size_of::<Peer>() => {
            (name.sin6_port != 0).then(|| Ipv6Addr::from(name.sin6_addr.s6_addr).into())
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
