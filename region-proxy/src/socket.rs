//! A TCP connection that is tried first and waited for only when it must be.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, ipproto, sockopt};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// One non-blocking TCP socket: a connection, or a listener, which only [`Self::poll_take`] is for.
///
/// The event queue learns of it when an operation would block for the first time, so that a connection of one request
/// that is there already never costs its registration.
#[derive(Debug)]
pub struct Socket(State);

#[derive(Debug)]
enum State {
    /// Unknown to the event queue.
    Bare(OwnedFd),
    Registered(TcpStream),
    /// The event queue refused it.
    Lost,
}

impl Socket {
    /// Takes a connection that does not block.
    pub fn new(fd: OwnedFd) -> Self {
        Self(State::Bare(fd))
    }

    /// Moves the connection out; what is left has none.
    pub fn take(&mut self) -> Self {
        Self(std::mem::replace(&mut self.0, State::Lost))
    }

    /// Connects to `address`.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        match rustix::net::connect(&fd, &address) {
            Ok(()) => return Ok(Self::new(fd)),
            Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = register(fd)?;
        stream.writable().await?;
        sockopt::socket_error(&stream)??;
        Ok(Self(State::Registered(stream)))
    }

    /// Reads into `buffer`, which is not empty; 0 at the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if let State::Bare(fd) = &self.0 {
            match rustix::net::recv(fd, &mut *buffer, RecvFlags::empty()) {
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                read => return Poll::Ready(read.map(|(count, _)| count).map_err(io::Error::from)),
            }
        }
        self.poll_take(cx, |fd| {
            let (count, _) = rustix::net::recv(fd, &mut *buffer, RecvFlags::empty())?;
            // With less than was asked for the kernel has no more: an event will tell of what comes.
            Ok((count, if 0 < count && count < buffer.len() { Then::Empty } else { Then::Unknown }))
        })
    }

    /// Writes some of `parts`, of which not all are empty.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut full = parts.iter().filter(|part| !part.is_empty());
        match (full.next(), full.next()) {
            // One part alone goes the shorter way through the kernel.
            (Some(part), None) => self.poll_put(cx, |fd| rustix::net::send(fd, part, SendFlags::NOSIGNAL)),
            _ => self.poll_put(cx, |fd| rustix::io::writev(fd, parts)),
        }
    }

    /// Writes some of `bytes`, the last before [`Self::end_writing`] or the drop that must follow at once: what the kernel
    /// takes leaves in one packet with that end.
    pub fn poll_write_last(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_put(cx, |fd| rustix::net::send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::MORE))
    }

    /// Does `put`, which writes to the connection, once it does not block.
    pub fn poll_put<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut put: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Poll<io::Result<T>> {
        match put(self.fd()?) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            done => return Poll::Ready(done.map_err(io::Error::from)),
        }
        let stream = self.registered()?;
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_io(Interest::WRITABLE, || put(stream.as_fd()).map_err(io::Error::from)) {
                Err(error) if is_to_wait(&error) => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Does `take`, which reads from the connection, once there is something; it tells what is left then.
    pub fn poll_take<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<(T, Then)>,
    ) -> Poll<io::Result<T>> {
        let stream = self.registered()?;
        loop {
            ready!(stream.poll_read_ready(cx))?;
            let mut taken = None;
            let tried = stream.try_io(Interest::READABLE, || {
                let (value, then) = take(stream.as_fd())?;
                taken = Some(value);
                // The word for "would block" is what has the event queue tell of the next octets.
                if then == Then::Empty { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (taken, tried) {
                (Some(value), _) => return Poll::Ready(Ok(value)),
                (None, Err(error)) if !is_to_wait(&error) => return Poll::Ready(Err(error)),
                (None, _) => {}
            }
        }
    }

    /// Whether nothing has come since all was read: neither octets nor the end.
    ///
    /// Costs a system call only where the event queue tells of something, or does not know the connection yet.
    pub fn is_quiet(&self) -> bool {
        let peeked = match &self.0 {
            State::Bare(fd) => peek(fd.as_fd()),
            State::Registered(stream) => stream.try_io(Interest::READABLE, || peek(stream.as_fd())),
            State::Lost => return false,
        };
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same, by what the kernel knows at this moment. One system call.
    pub fn is_surely_quiet(&self) -> bool {
        self.fd().is_ok_and(|fd| peek(fd).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock))
    }

    /// Whether octets have come that nobody read. One system call, whatever the event queue knows.
    pub fn has_unread(&self) -> bool {
        self.fd().is_ok_and(|fd| matches!(peek(fd), Ok(1..)))
    }

    /// Whether the other side is gone: it has reset the connection, or the kernel gave it up. That it sends no more is not
    /// the end. One system call.
    pub fn is_gone(&self) -> bool {
        let Ok(fd) = self.fd() else { return true };
        let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
        let told = poll(&mut polled, Some(&Timespec::default()));
        told.is_ok_and(|count| count > 0) && polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
    }

    /// Acknowledges what has come now, since more is waited for that may be held back until then.
    pub fn acknowledge(&self) {
        if let Ok(fd) = self.fd() {
            // A connection that is gone already sends no more.
            let _ = sockopt::set_tcp_quickack(fd, true);
        }
    }

    /// Tells the other side that no more will come.
    pub fn end_writing(&self) {
        if let Ok(fd) = self.fd() {
            // A connection that is gone already has nobody to tell.
            let _ = rustix::net::shutdown(fd, Shutdown::Write);
        }
    }

    /// Has it end in a reset when it is dropped: what was not sent is lost.
    pub fn reset_on_close(&self) {
        if let Ok(fd) = self.fd() {
            // A connection that is gone already has nobody to tell.
            let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
        }
    }

    /// The descriptor, for options.
    pub fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.0 {
            State::Bare(fd) => Ok(fd.as_fd()),
            State::Registered(stream) => Ok(stream.as_fd()),
            State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn registered(&mut self) -> io::Result<&TcpStream> {
        if let State::Bare(_) = self.0
            && let State::Bare(fd) = std::mem::replace(&mut self.0, State::Lost)
        {
            self.0 = State::Registered(register(fd)?);
        }
        match &self.0 {
            State::Registered(stream) => Ok(stream),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// What a read has left in the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// Nothing.
    Empty,
    /// Perhaps something.
    Unknown,
}

/// Looks at the next octet and leaves it there; 0 at the end.
fn peek(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut octet = [0_u8; 1];
    Ok(rustix::net::recv(fd, &mut octet[..], RecvFlags::PEEK).map(|(count, _)| count)?)
}

fn register(fd: OwnedFd) -> io::Result<TcpStream> {
    TcpStream::from_std(fd.into())
}

fn is_to_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream as Blocking};

    use socket2::SockRef;

    use super::*;

    fn pair() -> (Socket, Blocking) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
        let ours = Blocking::connect(listener.local_addr().expect("an address")).expect("connected");
        ours.set_nonblocking(true).expect("set");
        let (theirs, _) = listener.accept().expect("accepted");
        (Socket::new(ours.into()), theirs)
    }

    #[tokio::test]
    async fn a_connection_that_the_event_queue_does_not_know_is_quiet_only_while_nothing_came() {
        let (socket, mut theirs) = pair();
        assert!(socket.is_quiet());
        theirs.write_all(b"evil").expect("sent");
        assert!(!socket.is_quiet());
    }

    #[tokio::test]
    async fn an_end_that_the_event_queue_has_not_told_of_is_known_for_sure_all_the_same() {
        let (mut socket, theirs) = pair();
        socket.registered().expect("registered");
        tokio::task::yield_now().await;
        assert!(socket.is_surely_quiet() && !socket.is_gone());
        drop(theirs);
        assert!(socket.is_quiet(), "the event queue was not asked since");
        assert!(!socket.is_surely_quiet() && !socket.has_unread());
    }

    #[test]
    fn who_sends_no_more_is_not_gone_but_who_resets_is() {
        let (socket, theirs) = pair();
        theirs.shutdown(std::net::Shutdown::Write).expect("half closed");
        assert!(!socket.is_gone());
        SockRef::from(&theirs).set_linger(Some(std::time::Duration::ZERO)).expect("set");
        drop(theirs);
        assert!(socket.is_gone());
    }
}
