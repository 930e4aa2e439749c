//! Sockets of the generator: a burst leaves in one system call, and answers come in with one.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recv, recvmmsg, send, sendmsg};
use socket2::{Domain, Socket, Type};

use super::pending::Pending;
use super::regions::Region;

/// One client: a socket of its own, and what it waits for.
#[derive(Debug)]
pub struct Lane {
    socket: UdpSocket,
    /// Whose client it is.
    pub region: &'static Region,
    /// What it waits for.
    pub pending: Pending,
    /// When it sent last, in nanoseconds of the generator's clock.
    pub last_sent: u64,
}

/// Where answers are put; one serves all lanes.
#[derive(Debug)]
pub struct Inbox {
    headers: MultiHeaders<SockaddrIn>,
    buffer: Vec<u8>,
    lens: [usize; BATCH],
}

impl Lane {
    /// A client at `source` (any port) of `server`, with room for `capacity` questions under way.
    pub fn open(
        server: SocketAddrV4,
        source: Ipv4Addr,
        region: &'static Region,
        capacity: usize,
    ) -> Result<Self, String> {
        let open = || {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
            socket.set_recv_buffer_size(BUFFER)?;
            socket.set_send_buffer_size(BUFFER)?;
            socket.bind(&SocketAddrV4::new(source, 0).into())?;
            socket.connect(&server.into())?;
            socket.set_nonblocking(true)?;
            Ok(UdpSocket::from(socket))
        };
        let socket = open().map_err(|error: io::Error| format!("a socket from {source} to {server}: {error}"))?;
        Ok(Self { socket, region, pending: Pending::new(capacity), last_sent: 0 })
    }

    /// Sends `burst`, messages of `len` octets each, in one system call. Messages for which the kernel has no room are
    /// dropped without a word, as in any network.
    pub fn send(&self, burst: &[u8], len: usize) -> Result<(), String> {
        let descriptor = self.socket.as_raw_fd();
        let sent = if burst.len() <= len {
            send(descriptor, burst, MsgFlags::empty())
        } else {
            // One datagram that the kernel cuts into many: it goes down the stack once.
            let len = u16::try_from(len).map_err(|error| error.to_string())?;
            let cut = [ControlMessage::UdpGsoSegments(&len)];
            sendmsg::<SockaddrIn>(descriptor, &[IoSlice::new(burst)], &cut, MsgFlags::empty(), None)
        };
        match sent {
            Ok(_) | Err(Errno::EAGAIN | Errno::ENOBUFS) => Ok(()),
            Err(error) => Err(format!("sending: {error}: does the server still run?")),
        }
    }

    fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self { headers: MultiHeaders::preallocate(BATCH, None), buffer: vec![0; BATCH * ROOM], lens: [0; BATCH] }
    }
}

impl Inbox {
    /// Takes what has come for `lane`, without waiting; gives the number of messages.
    pub fn receive(&mut self, lane: &Lane) -> Result<usize, String> {
        let received = match lane.pending.count().min(BATCH) {
            0 => Ok(0),
            1 => self.receive_one(lane.descriptor()),
            most => self.receive_many(lane.descriptor(), most),
        };
        match received {
            Ok(count) => Ok(count),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(error) => Err(format!("receiving: {error}: does the server still run?")),
        }
    }

    fn receive_one(&mut self, descriptor: RawFd) -> Result<usize, Errno> {
        self.lens[0] = recv(descriptor, &mut self.buffer[..ROOM], MsgFlags::MSG_DONTWAIT)?;
        Ok(1)
    }

    fn receive_many(&mut self, descriptor: RawFd, most: usize) -> Result<usize, Errno> {
        let mut rooms = self.buffer.chunks_exact_mut(ROOM);
        let mut slices: [_; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(rooms.next().expect("the buffer has room for a batch"))]);
        let messages = slices.iter_mut().take(most);
        let received = recvmmsg(descriptor, &mut self.headers, messages, MsgFlags::MSG_DONTWAIT, None)?;
        let mut count = 0;
        for (message, len) in received.zip(&mut self.lens) {
            *len = message.bytes;
            count += 1;
        }
        Ok(count)
    }

    /// The message at a position below what [`Inbox::receive`] gave.
    pub fn message(&self, at: usize) -> &[u8] {
        &self.buffer[at * ROOM..][..self.lens[at]]
    }
}

/// Messages that one system call receives at most.
const BATCH: usize = 64;
/// Octets for one answer: no more is asked for by EDNS.
const ROOM: usize = 1232;
/// So much that the generator drops no answer.
const BUFFER: usize = 4 << 20;
