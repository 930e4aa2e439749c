//! A server that says who it is.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockRef, Socket, Type};

use super::Answer;
use crate::net::Net;

/// One that answers on a host until it is dropped, over TCP and UDP.
pub struct Server {
    is_over: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<Weak<TcpStream>>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Answers on `host` at each of `addresses`, which are its own, and this port.
    pub fn start(net: &Net, host: &str, addresses: &[IpAddr], port: u16) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let own: Vec<_> = addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        let sockets = net.within(host, move || {
            let datagrams = own.iter().map(|own| UdpSocket::bind(own).expect("an address of its own"));
            (own.iter().map(|own| listen(*own)).collect::<Vec<_>>(), datagrams.collect::<Vec<_>>())
        });
        let (listeners, datagrams) = sockets.join().expect("it ends well");
        let name: Arc<str> = host.into();
        let tcp = {
            let (name, is_over, connections) = (Arc::clone(&name), Arc::clone(&is_over), Arc::clone(&connections));
            std::thread::spawn(move || accept(&name, &listeners, &connections, &is_over))
        };
        let udp = {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || answer_datagrams(&name, &datagrams, &is_over))
        };
        Self { is_over, connections, threads: vec![tcp, udp] }
    }

    /// Dies as a process does: nobody listens any more, and each connection that is open is reset.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for connection in
            self.connections.lock().expect("nobody panics with it").drain(..).flat_map(|one| one.upgrade())
        {
            let _ = SockRef::from(&*connection).set_linger(Some(Duration::ZERO));
            // Wakes who reads from it, whose closing it resets it.
            let _ = connection.shutdown(Shutdown::Read);
        }
    }
}

fn listen(own: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::for_address(own), Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("it is a flag");
    socket.bind(&own.into()).expect("an address of its own");
    socket.listen(1024).expect("it listens");
    socket.set_nonblocking(true).expect("it is a flag");
    socket.into()
}

/// Waits until one of `sockets` has something; not for ever.
fn wait(sockets: &[impl AsFd]) {
    let mut ready: Vec<_> = sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    let _ = poll(&mut ready, PollTimeout::from(20u8));
}

fn accept(name: &Arc<str>, listeners: &[TcpListener], connections: &Mutex<Vec<Weak<TcpStream>>>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        wait(listeners);
        for listener in listeners {
            while let Ok((stream, peer)) = listener.accept() {
                stream.set_nonblocking(false).expect("it is a flag");
                let stream = Arc::new(stream);
                connections.lock().expect("nobody panics with it").push(Arc::downgrade(&stream));
                let name = Arc::clone(name);
                std::thread::spawn(move || answer_stream(&name, &stream, peer));
            }
        }
        connections.lock().expect("nobody panics with it").retain(|stream| stream.strong_count() > 0);
    }
}

/// Answers each request of one connection, until the client ends it.
fn answer_stream(name: &str, mut stream: &TcpStream, peer: SocketAddr) {
    let mut octets = vec![0; 256 * 1024];
    let mut len = 0;
    loop {
        match stream.read(&mut octets) {
            Ok(0) => return,
            Ok(read) => {
                len += read;
                if octets[read - 1] == b'\n' {
                    let answer = Answer::write(name, peer, len);
                    len = 0;
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn answer_datagrams(name: &str, sockets: &[UdpSocket], is_over: &AtomicBool) {
    let mut octets = vec![0; 64 * 1024];
    for socket in sockets {
        socket.set_nonblocking(true).expect("it is a flag");
    }
    while !is_over.load(Ordering::Relaxed) {
        wait(sockets);
        for socket in sockets {
            while let Ok((len, peer)) = socket.recv_from(&mut octets) {
                let _ = socket.send_to(Answer::write(name, peer, len).as_bytes(), peer);
            }
        }
    }
}
