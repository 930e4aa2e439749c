//! Binding the sockets, and becoming somebody who could not have bound them.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use nix::unistd::{self, Uid, User};
use socket2::{Domain, Protocol, Socket, Type};

use super::mmsg;

/// The sockets of one listen address.
#[derive(Debug)]
pub(super) struct Bound {
    /// The address, with the port that was chosen where the settings leave it open.
    pub(super) address: SocketAddr,
    /// One for each thread; the kernel spreads clients over them.
    pub(super) udp: Vec<UdpSocket>,
    /// For TCP.
    pub(super) tcp: TcpListener,
}

/// Why privileges were not dropped.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The user's entry cannot be read.
    #[error("cannot look up user {user}: {errno}")]
    Lookup {
        /// The user in the settings.
        user: String,
        /// What the system says.
        errno: nix::Error,
    },
    /// There is none of this name.
    #[error("there is no user {user} on this machine: expected one, as made by `useradd --system {user}`")]
    UnknownUser {
        /// The user in the settings.
        user: String,
    },
    /// The system refuses.
    #[error("cannot become user {user}: {errno} (start as root or as that user, or leave server.user out)")]
    Refused {
        /// The user in the settings.
        user: String,
        /// What the system says.
        errno: nix::Error,
    },
    /// The way back is open, so nothing was gained.
    #[error("user {user} can become root again: expected a user without privileges in server.user")]
    Regained {
        /// The user in the settings.
        user: String,
    },
}

/// Binds UDP (`threads` sockets) and TCP at `address`. With port 0 both get the same free port.
pub(super) fn bind(address: SocketAddr, threads: usize) -> io::Result<Bound> {
    let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match bind_once(address, threads) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            result => return result,
        }
    }
}

fn bind_once(address: SocketAddr, threads: usize) -> io::Result<Bound> {
    // TCP first: it does not share its port, so that a second node at the same address is found out.
    let tcp = bind_tcp(address)?;
    let address = tcp.local_addr()?;
    let udp = (0..threads).map(|_| bind_udp(address)).collect::<io::Result<_>>()?;
    Ok(Bound { address, udp, tcp })
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    only_v6(&socket, address)?;
    // Best effort: the kernel gives what its limits allow, and less room only means earlier loss in a flood.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_read_timeout(Some(STOP_CHECK))?;
    socket.bind(&address.into())?;
    let socket = UdpSocket::from(socket);
    mmsg::ignore_path_mtu(&socket, address.is_ipv6())?;
    if address.ip().is_unspecified() {
        mmsg::tell_addresses_asked(&socket, address.is_ipv6())?;
    }
    Ok(socket)
}

/// An IPv6 socket must not take IPv4 clients: they have their own.
fn only_v6(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() { socket.set_only_v6(true) } else { Ok(()) }
}

/// Binds a listener for connections at `address`.
pub(super) fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Connections of the process before may linger.
    socket.set_reuse_address(true)?;
    only_v6(&socket, address)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds a socket for QUIC at `address`. One: a connection must come to who knows it, whatever address it has moved to.
pub(super) fn bind_quic(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    only_v6(&socket, address)?;
    // Best effort, as above.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Becomes `user` for good; nothing to do for who is that user already.
pub(super) fn become_user(user: &str) -> Result<(), PrivilegeError> {
    let name = || user.to_owned();
    let entry = User::from_name(user).map_err(|errno| PrivilegeError::Lookup { user: name(), errno })?;
    let entry = entry.ok_or_else(|| PrivilegeError::UnknownUser { user: name() })?;
    let is_it = unistd::getresuid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [entry.uid; 3]);
    if is_it {
        return Ok(());
    }
    // Groups first: afterwards there is no right to change them.
    unistd::setgroups(&[entry.gid])
        .and_then(|()| unistd::setresgid(entry.gid, entry.gid, entry.gid))
        .and_then(|()| unistd::setresuid(entry.uid, entry.uid, entry.uid))
        .map_err(|errno| PrivilegeError::Refused { user: name(), errno })?;
    let root = Uid::from_raw(0);
    if entry.uid != root && unistd::setresuid(root, root, root).is_ok() {
        return Err(PrivilegeError::Regained { user: name() });
    }
    Ok(())
}

/// How long a UDP thread sleeps before it looks whether to stop.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// Octets that may queue at a UDP socket: a tenth of a second at 200,000 queries/s.
const SOCKET_BUFFER: usize = 4 << 20;
/// TCP connections that may wait to be accepted; the kernel caps it at its own limit.
const BACKLOG: i32 = 1024;
/// A port that is free for TCP may be taken for UDP: then another one is tried.
const PORT_ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_zero_gives_udp_and_tcp_the_same_port() {
        let bound = bind("127.0.0.1:0".parse().expect("an address"), 2).expect("bound");
        assert_ne!(bound.address.port(), 0);
        assert_eq!(bound.tcp.local_addr().expect("bound"), bound.address);
        assert!(bound.udp.iter().all(|socket| socket.local_addr().expect("bound") == bound.address));
    }

    #[test]
    fn second_node_at_the_same_address_is_refused() {
        let first = bind("127.0.0.1:0".parse().expect("an address"), 1).expect("bound");
        let error = bind(first.address, 1).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn ipv4_and_ipv6_wildcards_share_a_port() {
        let v4 = bind("0.0.0.0:0".parse().expect("an address"), 1).expect("bound");
        let v6 = SocketAddr::new("::".parse().expect("an address"), v4.address.port());
        match bind(v6, 1) {
            Ok(_) => {}
            // A machine without IPv6.
            Err(error) => assert_ne!(error.kind(), io::ErrorKind::AddrInUse),
        }
    }

    #[test]
    fn unknown_user_is_an_error() {
        assert!(matches!(become_user("no-such-user-here"), Err(PrivilegeError::UnknownUser { .. })));
    }
}
