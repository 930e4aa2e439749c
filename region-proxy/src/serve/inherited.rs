//! Listening sockets that this process was given: by systemd, or by the process whose place it takes.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::sockopt;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::Socket;

use super::sockets::local;
use crate::listen;

/// Sockets and the addresses that they are for.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Given>);

#[derive(Debug)]
struct Given {
    /// As the settings have it.
    asked: SocketAddr,
    address: SocketAddr,
    socket: Socket,
}

impl Inherited {
    /// Those that systemd passed (`sd_listen_fds`), by the addresses that they are bound to; others than TCP are left
    /// alone.
    pub fn from_system() -> io::Result<Self> {
        let mut inherited = Self::default();
        for number in sd_notify::listen_fds()? {
            // A copy of its own, since nothing else says who owns the number.
            let own = pidfd_open(getpid(), PidfdFlags::empty())?;
            let fd = pidfd_getfd(&own, number, PidfdGetfdFlags::empty())?;
            if !sockopt::socket_acceptconn(&fd).unwrap_or(false) || inherited.add(None, fd).is_err() {
                tracing::warn!(number, "a file from the system manager is left alone: expected listening TCP sockets");
            }
        }
        Ok(inherited)
    }

    /// Adds a listening socket for the address `asked`, or for the one that it is bound to.
    pub fn add(&mut self, asked: Option<SocketAddr>, fd: OwnedFd) -> io::Result<()> {
        let socket = Socket::from(fd);
        let address = local(&socket)?;
        listen::set_up(&socket)?;
        self.0.push(Given { asked: asked.unwrap_or(address), address, socket });
        Ok(())
    }

    /// All that are for `asked`, with one queue of clients each.
    ///
    /// Where several addresses in the settings leave the port to the system, they are told apart by the ports they got.
    pub fn take(&mut self, asked: SocketAddr) -> Vec<Socket> {
        let Some(address) = self.0.iter().find(|given| given.asked == asked).map(|given| given.address) else {
            return Vec::new();
        };
        let is_it = |given: &mut Given| given.asked == asked && given.address == address;
        self.0.extract_if(.., is_it).map(|given| given.socket).collect()
    }

    /// The addresses of those that nobody took.
    pub fn left(&self) -> Vec<SocketAddr> {
        let mut left: Vec<_> = self.0.iter().map(|given| given.asked).collect();
        left.dedup();
        left
    }
}
