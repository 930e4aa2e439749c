//! The upper bound: a server that does the system calls of one and no DNS.
//!
//! Up to 64 queries a system call come in, as many answers go out. Each answer is the query with one fixed address in it,
//! as long as a real one.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

use super::zone::STATIC_ADDRESS;

/// A reflector in a thread of its own; it ends when this is dropped.
#[derive(Debug)]
pub struct Reflector {
    address: SocketAddrV4,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Reflector {
    /// Answers at `address`; port 0 means any.
    pub fn start(address: SocketAddrV4) -> Result<Self, String> {
        let socket = bind(address)?;
        let port = socket.local_addr().map_err(|error| error.to_string())?.port();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let thread = thread::spawn(move || serve(&socket, &stopped));
        Ok(Self { address: SocketAddrV4::new(*address.ip(), port), is_stopped, thread: Some(thread) })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Why it ended, if it did before, has shown in missing answers.
            let _ = thread.join();
        }
    }
}

/// Answers at `address` for ever, on this thread.
pub fn run(address: SocketAddrV4) -> Result<(), String> {
    serve(&bind(address)?, &AtomicBool::new(false))
}

/// Writes the answer to `query` and gives its length; `None` when it is no query, or does not fit.
pub fn reflect(query: &[u8], answer: &mut [u8]) -> Option<usize> {
    let mut end = 12;
    while *query.get(end)? != 0 {
        end += 1 + usize::from(query[end]);
    }
    end += 5;
    let (question, rest) = query.split_at_checked(end)?;
    let is_ipv6 = question[end - 3] == 28;
    let data: &[u8] = if is_ipv6 { &[0; 16] } else { &STATIC_ADDRESS.octets() };
    let record = [0xC0, 12, 0, question[end - 3], 0, 1, 0, 0, 0, 60, 0, data.len() as u8];
    let mut len = 0;
    for part in [question, &record, data, rest] {
        answer.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    (answer[2], answer[3], answer[7]) = (0x84, 0, 1);
    Some(len)
}

fn bind(address: SocketAddrV4) -> Result<UdpSocket, String> {
    let bind = || {
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(LOOK))?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20)?;
        Ok(socket)
    };
    bind().map_err(|error: std::io::Error| format!("{address}: {error}"))
}

fn serve(socket: &UdpSocket, is_stopped: &AtomicBool) -> Result<(), String> {
    let descriptor = socket.as_raw_fd();
    let (mut incoming, mut outgoing) =
        (MultiHeaders::preallocate(BATCH, None), MultiHeaders::<SockaddrIn>::preallocate(BATCH, None));
    let (mut queries, mut answers) = (vec![0; BATCH * ROOM], vec![0; BATCH * ROOM]);
    while !is_stopped.load(Ordering::Relaxed) {
        let mut rooms = queries.chunks_exact_mut(ROOM);
        let mut slices: [_; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(rooms.next().expect("there is room for a batch"))]);
        let flags = MsgFlags::MSG_WAITFORONE;
        let received = match recvmmsg(descriptor, &mut incoming, slices.iter_mut(), flags, None) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(error) => return Err(format!("receiving: {error}")),
        };
        let mut clients: [Option<SockaddrIn>; BATCH] = [None; BATCH];
        let mut lens = [0; BATCH];
        let mut count = 0;
        for (at, (message, answer)) in received.zip(answers.chunks_exact_mut(ROOM)).enumerate() {
            let query = message.iovs().next().unwrap_or_default();
            lens[at] = reflect(query, answer).unwrap_or(0);
            clients[at] = message.address;
            count = at + 1;
        }
        let mut sent = answers.chunks_exact(ROOM).zip(lens).map(|(answer, len)| &answer[..len]);
        let spans: [_; BATCH] = std::array::from_fn(|_| [IoSlice::new(sent.next().unwrap_or_default())]);
        // What the kernel cannot take is lost, as in any network.
        let _ = sendmmsg(descriptor, &mut outgoing, &spans[..count], clients, [], MsgFlags::empty());
    }
    Ok(())
}

/// Messages that one system call takes at most.
const BATCH: usize = 64;
/// Octets for one message.
const ROOM: usize = 1280;
/// How often the thread looks whether it shall end.
const LOOK: Duration = Duration::from_millis(50);
