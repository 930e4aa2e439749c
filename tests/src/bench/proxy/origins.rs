//! The two origin servers behind every proxy, and what answers behind TCP ports: one thread on the core of the generator.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};

use super::case::{PAGE_1K, PAGES, Page, WHO, pattern};
use crate::bench::meter::LOAD_CORE;
use crate::bench::rounds::pin;

/// Where they listen, and what they have seen.
#[derive(Clone, Debug)]
pub struct Origins {
    /// The HTTP servers s1 and s2.
    pub http: [SocketAddrV4; 2],
    /// Gives back what it gets.
    pub echo: SocketAddrV4,
    /// Reads eight octets, a number in network order, and sends as many octets; again and again.
    pub download: SocketAddrV4,
    /// Of s1 and s2.
    pub seen: Arc<[Seen; 2]>,
}

/// What one origin server has seen, and whether it is well.
#[derive(Debug, Default)]
pub struct Seen {
    /// Connections that brought a request which was no health check.
    pub connections: AtomicU64,
    /// Health checks.
    pub checks: AtomicU64,
    /// Whether it fails its health checks.
    pub is_sick: AtomicBool,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug)]
enum Service {
    /// HTTP server with this position.
    Http(usize),
    Echo,
    Download,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    service: Service,
    /// What has come and is not a whole request yet.
    inbox: Vec<u8>,
    /// What could not be sent yet, from `sent` on.
    outbox: Vec<u8>,
    sent: usize,
    /// Octets of the pattern that follow.
    body: u64,
    body_whole: u64,
    closes: bool,
    /// Whether it has brought a request which was no health check.
    is_counted: bool,
}

/// What all connections share.
struct Answers {
    seen: Arc<[Seen; 2]>,
    /// The whole response for 1 KiB, of either server.
    small: [Vec<u8>; 2],
    /// The pattern, as long as the largest page.
    body: Vec<u8>,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    GoesOn,
    Over,
}

impl Origins {
    /// Starts them; they serve until this process ends.
    pub fn start() -> Result<Self, String> {
        let failed = |error: io::Error| format!("origin servers: {error}");
        let services = [Service::Http(0), Service::Http(1), Service::Echo, Service::Download];
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for service in services {
            let (listener, address) = listen().map_err(failed)?;
            listeners.push((listener, service));
            addresses.push(address);
        }
        let seen = Arc::new([Seen::default(), Seen::default()]);
        let answers = Answers::new(Arc::clone(&seen));
        let (told, started) = mpsc::channel();
        thread::spawn(move || {
            let pinned = pin(LOAD_CORE);
            let is_pinned = pinned.is_ok();
            if told.send(pinned).is_ok() && is_pinned {
                // It ends with the process; what ends it earlier shows as failed requests.
                let ended = serve(&listeners, &answers);
                eprintln!("bench: origin servers: {ended:?}");
            }
        });
        started.recv().map_err(|error| format!("origin servers: {error}"))??;
        let [first, second, echo, download] = [0, 1, 2, 3].map(|at| addresses[at]);
        Ok(Self { http: [first, second], echo, download, seen })
    }

    /// Connections that both HTTP servers have taken requests on.
    pub fn connections(&self) -> u64 {
        self.seen.iter().map(|seen| seen.connections.load(Ordering::Relaxed)).sum()
    }
}

fn listen() -> io::Result<(TcpListener, SocketAddrV4)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into())?;
    // A proxy may open hundreds of connections at once.
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from(socket);
    let port = listener.local_addr()?.port();
    Ok((listener, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)))
}

/// Answers for ever; fails when the system does.
fn serve(listeners: &[(TcpListener, Service)], answers: &Answers) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (at, (listener, _)) in listeners.iter().enumerate() {
        epoll.add(listener.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, at as u64))?;
    }
    // A connection's event holds its position here, counted from behind the listeners. A position that is used again
    // while an event for its last owner waits costs a read that gives nothing.
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = vec![EpollEvent::empty(); EVENTS];
    let mut room = vec![0; ROOM];
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            let at = event.data() as usize;
            let Some(at) = at.checked_sub(listeners.len()) else {
                let (listener, service) = &listeners[at];
                while let Some(connection) = accept(listener, *service)? {
                    let at = free.pop().unwrap_or(connections.len());
                    let event = EpollEvent::new(interest(), (at + listeners.len()) as u64);
                    epoll.add(connection.socket.as_fd(), event)?;
                    if at == connections.len() {
                        connections.push(Some(connection));
                    } else {
                        connections[at] = Some(connection);
                    }
                }
                continue;
            };
            let Some(place) = connections.get_mut(at) else { continue };
            if place
                .as_mut()
                .is_some_and(|connection| connection.go_on(event.events(), &mut room, answers) == Life::Over)
            {
                *place = None;
                free.push(at);
            }
        }
    }
}

fn accept(listener: &TcpListener, service: Service) -> io::Result<Option<Connection>> {
    match listener.accept() {
        Ok((socket, _)) => {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            Ok(Some(Connection {
                socket,
                service,
                inbox: Vec::new(),
                outbox: Vec::new(),
                sent: 0,
                body: 0,
                body_whole: 0,
                closes: false,
                is_counted: false,
            }))
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => Ok(None),
        Err(error) => Err(error),
    }
}

fn interest() -> EpollFlags {
    EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET
}

impl Connection {
    /// Does what can be done now.
    fn go_on(&mut self, events: EpollFlags, room: &mut [u8], answers: &Answers) -> Life {
        if self.has_more_to_send() && self.send_rest(answers) == Life::Over {
            return Life::Over;
        }
        if !events.intersects(!EpollFlags::EPOLLOUT) {
            return Life::GoesOn;
        }
        loop {
            let len = match self.socket.read(room) {
                Ok(0) => return Life::Over,
                Ok(len) => len,
                Err(error) if is_for_later(&error) => return Life::GoesOn,
                Err(_) => return Life::Over,
            };
            if self.take(&room[..len], answers) == Life::Over {
                return Life::Over;
            }
            // What comes after a short read brings an event of its own.
            if len < room.len() && !events.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP) {
                return Life::GoesOn;
            }
        }
    }

    fn take(&mut self, octets: &[u8], answers: &Answers) -> Life {
        match self.service {
            Service::Echo => self.send(octets),
            Service::Download => {
                self.inbox.extend(octets);
                while let Some((wanted, _)) = self.inbox.split_first_chunk() {
                    self.body += u64::from_be_bytes(*wanted);
                    self.inbox.drain(..8);
                }
                self.body_whole = self.body;
                self.send_rest(answers)
            }
            Service::Http(server) if self.inbox.is_empty() => {
                let left = self.answer_all(octets, server, answers);
                left.map_or(Life::Over, |left| {
                    self.inbox.extend(left);
                    Life::GoesOn
                })
            }
            Service::Http(server) => {
                let mut all = std::mem::take(&mut self.inbox);
                all.extend(octets);
                let left = self.answer_all(&all, server, answers).map(<[u8]>::to_vec);
                left.map_or(Life::Over, |left| {
                    self.inbox = left;
                    Life::GoesOn
                })
            }
        }
    }

    /// Answers whole requests and gives what is left; `None`: the connection is over. Proxies send no request before they
    /// have the whole response to the one before.
    fn answer_all<'b>(&mut self, mut octets: &'b [u8], server: usize, answers: &Answers) -> Option<&'b [u8]> {
        while !octets.is_empty() {
            let mut fields = [httparse::EMPTY_HEADER; FIELDS];
            let mut request = httparse::Request::new(&mut fields);
            let Ok(parsed) = request.parse(octets) else {
                eprintln!("bench: an origin server got what is no request: {}", octets.escape_ascii());
                return None;
            };
            let httparse::Status::Complete(len) = parsed else { break };
            let (head, rest) = octets.split_at(len);
            octets = rest;
            // Health checks may come by HTTP/1.0.
            self.closes |= request.version == Some(0) || asks_for_close(request.headers);
            if self.answer(request.path.unwrap_or_default(), head, server, answers) == Life::Over {
                return None;
            }
        }
        Some(octets)
    }

    fn answer(&mut self, path: &str, head: &[u8], server: usize, answers: &Answers) -> Life {
        let seen = &answers.seen[server];
        let sent = if path == HEALTH {
            seen.checks.fetch_add(1, Ordering::Relaxed);
            let status = if seen.is_sick.load(Ordering::Relaxed) { "503 Service Unavailable" } else { "200 OK" };
            self.send(&response(server, status, 0))
        } else {
            if !std::mem::replace(&mut self.is_counted, true) {
                seen.connections.fetch_add(1, Ordering::Relaxed);
            }
            if path == PAGE_1K.path {
                self.send(&answers.small[server])
            } else if let Some(Page { octets, .. }) = PAGES.iter().find(|page| page.path == path) {
                // With the body in one call.
                self.outbox.extend(response(server, "200 OK", *octets));
                (self.body, self.body_whole) = (*octets as u64, *octets as u64);
                Life::GoesOn
            } else {
                // The head as it came, for the proofs.
                self.send(&[response(server, "200 OK", head.len()), head.to_vec()].concat())
            }
        };
        if sent == Life::Over { sent } else { self.send_rest(answers) }
    }

    fn has_more_to_send(&self) -> bool {
        self.sent < self.outbox.len() || self.body > 0
    }

    /// Sends `octets` after what waits; keeps what does not go.
    fn send(&mut self, octets: &[u8]) -> Life {
        let mut sent = 0;
        if !self.has_more_to_send() {
            match self.socket.write(octets) {
                Ok(len) => sent = len,
                Err(error) if is_for_later(&error) => {}
                Err(_) => return Life::Over,
            }
        }
        self.outbox.extend(&octets[sent..]);
        Life::GoesOn
    }

    /// Sends what waits, as far as it goes; over when it was the last, or the client is gone.
    fn send_rest(&mut self, answers: &Answers) -> Life {
        while self.has_more_to_send() {
            let waiting = &self.outbox[self.sent..];
            let at = ((self.body_whole - self.body) % answers.body.len() as u64) as usize;
            let body = &answers.body[at..];
            let body = &body[..usize::try_from(self.body).map_or(body.len(), |most| most.min(body.len()))];
            match self.socket.write_vectored(&[IoSlice::new(waiting), IoSlice::new(body)]) {
                Ok(len) => {
                    let of_waiting = len.min(waiting.len());
                    self.sent += of_waiting;
                    self.body -= (len - of_waiting) as u64;
                }
                Err(error) if is_for_later(&error) => return Life::GoesOn,
                Err(_) => return Life::Over,
            }
        }
        self.outbox.clear();
        self.sent = 0;
        if self.closes { Life::Over } else { Life::GoesOn }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

impl Answers {
    fn new(seen: Arc<[Seen; 2]>) -> Self {
        let body: Vec<u8> = (0..PAGES.iter().map(|page| page.octets).max().unwrap_or(0)).map(pattern).collect();
        let small = [0, 1].map(|server| {
            let head = response(server, "200 OK", PAGE_1K.octets);
            [head.as_slice(), &body[..PAGE_1K.octets]].concat()
        });
        Self { seen, small, body }
    }
}

fn response(server: usize, status: &str, octets: usize) -> Vec<u8> {
    let name = SERVERS[server];
    let head = format!(
        "HTTP/1.1 {status}\r\nServer: bench\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: \
         application/octet-stream\r\n{WHO}: {name}\r\nContent-Length: {octets}\r\n\r\n"
    );
    head.into_bytes()
}

fn asks_for_close(fields: &[httparse::Header<'_>]) -> bool {
    let is_close = |field: &httparse::Header<'_>| {
        field.name.eq_ignore_ascii_case("connection") && field.value.eq_ignore_ascii_case(b"close")
    };
    fields.iter().any(is_close)
}

/// What the HTTP servers call themselves.
pub const SERVERS: [&str; 2] = ["s1", "s2"];
/// What health checks ask for.
pub const HEALTH: &str = "/health";
/// Events taken at once.
const EVENTS: usize = 512;
/// Octets read at once.
const ROOM: usize = 64 << 10;
/// Fields of a request.
const FIELDS: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn connect(address: SocketAddrV4) -> TcpStream {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        stream
    }

    #[test]
    fn pages_come_whole_over_one_connection_until_it_is_to_close() {
        let origins = Origins::start().expect("started");
        let mut stream = connect(origins.http[1]);
        let close = "Connection: close\r\n";
        for (path, octets, more) in [("/1m", 1 << 20, ""), ("/1k", 1024, ""), ("/x", 38, close)] {
            write!(stream, "GET {path} HTTP/1.1\r\n{more}\r\n").expect("sent");
            let head = response(1, "200 OK", octets);
            let mut got = vec![0; head.len() + octets];
            stream.read_exact(&mut got).expect("a whole answer");
            assert_eq!(got[..head.len()].escape_ascii().to_string(), head.escape_ascii().to_string());
            let body = &got[head.len()..];
            assert!(path == "/x" || body.iter().enumerate().all(|(at, octet)| *octet == pattern(at)));
        }
        assert_eq!(stream.read(&mut [0]).expect("an end"), 0);
        assert_eq!(origins.connections(), 1);
    }

    #[test]
    fn a_sick_server_fails_its_checks_and_they_are_no_requests() {
        let origins = Origins::start().expect("started");
        origins.seen[0].is_sick.store(true, Ordering::Relaxed);
        for (server, status) in ["503", "200"].iter().enumerate() {
            let mut stream = connect(origins.http[server]);
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").expect("sent");
            let mut got = String::new();
            stream.read_to_string(&mut got).expect("a whole answer");
            assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{got}");
        }
        assert_eq!(origins.connections(), 0);
    }

    #[test]
    fn what_is_sent_comes_back_and_what_is_ordered_comes_whole() {
        let origins = Origins::start().expect("started");
        let mut echo = connect(origins.echo);
        echo.write_all(b"any octets").expect("sent");
        let mut back = [0; 10];
        echo.read_exact(&mut back).expect("an echo");
        assert_eq!(&back, b"any octets");
        let mut download = connect(origins.download);
        download.write_all(&(3_u64 << 20).to_be_bytes()).expect("sent");
        let mut got = vec![0; 3 << 20];
        download.read_exact(&mut got).expect("all");
        assert!(got.iter().enumerate().all(|(at, octet)| *octet == pattern(at % (1 << 20))));
    }
}
