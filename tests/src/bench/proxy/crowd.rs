//! Idle connections, and what they cost in memory.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::case::{HOST, PAGE_1K};
use super::load::Sources;
use crate::bench::Stop;

/// Connections that have had one response each and are kept.
#[derive(Debug)]
pub struct Crowd(Vec<TcpStream>);

impl Crowd {
    /// Opens `count` connections to `proxy`, one after the other, and asks once on each. Fails when one is not answered.
    pub fn gather(proxy: SocketAddrV4, count: usize, stop: &Stop) -> Result<Self, String> {
        let mut sources = Sources::default();
        let mut room = vec![0; 2 * PAGE_1K.octets];
        let mut streams = Vec::with_capacity(count);
        for at in 0..count {
            stop.check()?;
            let stream = ask_once(proxy, sources.next_address(), &mut room);
            streams.push(stream.map_err(|error| format!("idle connection {at}: {error}"))?);
        }
        Ok(Self(streams))
    }

    /// Fails when the proxy has closed one of the connections.
    pub fn check(&self) -> Result<(), String> {
        let closed = self.0.iter().filter(|stream| {
            // Nothing to read is an error here, and all is well then.
            let looked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
            matches!(looked, Ok(0))
        });
        match closed.count() {
            0 => Ok(()),
            count => Err(format!("{count} of {} idle connections were closed", self.0.len())),
        }
    }
}

fn ask_once(proxy: SocketAddrV4, source: Ipv4Addr, room: &mut [u8]) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddrV4::new(source, 0).into())?;
    socket.set_write_timeout(Some(LIMIT))?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.connect(&proxy.into())?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(format!("GET {} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", PAGE_1K.path).as_bytes())?;
    let mut len = 0;
    loop {
        match stream.read(&mut room[len..])? {
            0 => return Err(std::io::Error::other("no whole response")),
            more => len += more,
        }
        let head = room[..len].windows(4).position(|window| window == b"\r\n\r\n");
        if head.is_some_and(|end| len >= end + 4 + PAGE_1K.octets) {
            return Ok(stream);
        }
    }
}

const LIMIT: Duration = Duration::from_secs(3);
