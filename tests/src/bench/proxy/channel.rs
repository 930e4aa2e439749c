//! A connection of the generator that never waits: over TCP, or over TLS on it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv, send, setsockopt, sockopt};
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Socket, Type};

use super::case::HOST;

/// One connection.
#[derive(Debug)]
pub struct Channel {
    wire: Wire,
    tls: Option<Box<ClientConnection>>,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Received {
    /// So many octets.
    Some(usize),
    /// None yet.
    Nothing,
    /// None any more.
    End,
}

/// The socket, read and written without waiting.
#[derive(Debug)]
struct Wire(Socket);

impl Channel {
    /// Connects to `proxy` from any port of `source`, which waits for at most three seconds; a TLS handshake is begun.
    pub fn open(proxy: SocketAddrV4, source: Ipv4Addr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // The port is chosen by connect, so that one can serve for several proxies; else they run out.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddrV4::new(source, 0).into())?;
        socket.set_tcp_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect(&proxy.into())?;
        let tls = tls.map(|config| {
            let name = HOST.try_into().map_err(io::Error::other)?;
            ClientConnection::new(Arc::clone(config), name).map(Box::new).map_err(io::Error::other)
        });
        let mut channel = Self { wire: Wire(socket), tls: tls.transpose()? };
        channel.flush()?;
        Ok(channel)
    }

    /// Sends `bytes`, or keeps them until the handshake is done. So little is under way that the socket takes all.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => {
                tls.writer().write_all(bytes)?;
                self.flush()
            }
            None => self.wire.write_all(bytes),
        }
    }

    /// Takes what has come, at most `room`; goes on with a handshake.
    pub fn receive(&mut self, room: &mut [u8]) -> io::Result<Received> {
        let Some(tls) = &mut self.tls else { return received(self.wire.read(room)) };
        loop {
            match received(tls.reader().read(room))? {
                Received::Nothing => {}
                some_or_end => return Ok(some_or_end),
            }
            match received(tls.read_tls(&mut self.wire))? {
                Received::Some(_) => {}
                nothing_or_end => return Ok(nothing_or_end),
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            while tls.wants_write() {
                tls.write_tls(&mut self.wire)?;
            }
        }
    }

    /// Drops what has come in the kernel, at most as much as `room`, whose content means nothing then.
    pub fn skip(&mut self, room: &mut [u8]) -> io::Result<Received> {
        match &self.tls {
            Some(_) => self.receive(room),
            None => received(self.wire.read_with(room, MsgFlags::MSG_TRUNC)),
        }
    }

    /// Whether octets that have come may wait in here, so that no event tells of them.
    pub fn may_hold_octets(&self) -> bool {
        self.tls.is_some()
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.wire)?;
            }
        }
        Ok(())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.0.as_fd()
    }
}

impl Wire {
    fn read_with(&self, room: &mut [u8], flags: MsgFlags) -> io::Result<usize> {
        Ok(recv(self.0.as_raw_fd(), room, flags | MsgFlags::MSG_DONTWAIT)?)
    }
}

impl Read for Wire {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.read_with(room, MsgFlags::empty())
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.0.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn received(read: io::Result<usize>) -> io::Result<Received> {
    match read {
        Ok(0) => Ok(Received::End),
        Ok(len) => Ok(Received::Some(len)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(Received::Nothing),
        Err(error) => Err(error),
    }
}

const PATIENCE: Duration = Duration::from_secs(3);
