//! What clients see of a VIP, and who has it: the eyes of tests.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Net, has};

/// What is seen by a thread, until it is told to stop.
#[derive(Debug)]
struct Eye<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

/// Asks a VIP as clients do.
#[derive(Debug)]
pub struct Probe(Eye<Seen>);

/// Looks all the time at who has a VIP.
#[derive(Debug)]
pub struct Watch(Eye<Duration>);

/// Times at which answers came.
#[derive(Debug, Default)]
pub struct Seen {
    answers: Vec<Instant>,
    /// Who answered last.
    pub last: String,
}

impl Net {
    /// Asks `address` from `host` by UDP every 5 ms, until told to stop; hosts answer with their name.
    pub fn probe(&self, host: &str, address: IpAddr) -> Probe {
        let target = SocketAddr::new(address, ECHO);
        Probe(Eye::open(|until| self.within(host, move || datagrams(target, &until))))
    }

    /// Asks what listens on `address` from `host` by HTTP every 10 ms, each time on a connection of its own, until told to stop.
    pub fn requests(&self, host: &str, address: IpAddr) -> Probe {
        let target = SocketAddr::new(address, 80);
        Probe(Eye::open(|until| self.within(host, move || requests(target, &until))))
    }

    /// What the client sees of `address` from a moment before `event` to a moment after it.
    pub fn seen(&self, address: IpAddr, event: impl FnOnce()) -> Seen {
        let [seen] = seen_by([self.probe("client", address)], event);
        seen
    }

    /// Looks at who has `address`, until told to stop.
    pub fn watch(&self, address: IpAddr) -> Watch {
        let spaces: Vec<File> = self.hosts.iter().map(|host| self.space(host)).collect();
        Watch(Eye::open(|until| std::thread::spawn(move || doubled(&spaces, address, &until))))
    }

    /// Answers probes on `host` for as long as the process lives.
    pub fn echo(&self, host: &str) {
        let name = host.to_owned();
        self.within(host, move || {
            let socket = UdpSocket::bind(("::", ECHO)).expect("a port of its own");
            let mut octets = [0; 64];
            // The namespace may end first.
            while let Ok((len, from)) = socket.recv_from(&mut octets) {
                let answer = [&octets[..len.min(8)], name.as_bytes()].concat();
                let _ = socket.send_to(&answer, from);
            }
        });
    }

    /// An origin server at `port` of `host` itself, whose only page is the host's name, for as long as the process lives.
    pub fn origin(&self, host: &str, port: u16) {
        let name = host.to_owned();
        self.within(host, move || {
            let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port of its own");
            for stream in listener.incoming().flatten() {
                let name = name.clone();
                // Whoever left misses nothing.
                std::thread::spawn(move || answer(stream, &name).ok());
            }
        });
    }
}

impl<T> Eye<T> {
    fn open(start: impl FnOnce(Arc<AtomicBool>) -> JoinHandle<T>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = start(Arc::clone(&stop));
        Self { stop, thread }
    }

    fn close(self) -> T {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it ends well")
    }
}

impl Probe {
    /// Ends it.
    pub fn finish(self) -> Seen {
        self.0.close()
    }
}

impl Watch {
    /// Ends it; gives the longest time for which several hosts had the VIP.
    pub fn finish(self) -> Duration {
        self.0.close()
    }
}

impl Seen {
    /// The longest time without an answer.
    pub fn gap(&self) -> Duration {
        self.answers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX)
    }
}

/// What these see from a moment before `event` to a moment after it.
pub fn seen_by<const N: usize>(probes: [Probe; N], event: impl FnOnce()) -> [Seen; N] {
    std::thread::sleep(Duration::from_millis(100));
    event();
    std::thread::sleep(Duration::from_millis(200));
    probes.map(Probe::finish)
}

fn datagrams(target: SocketAddr, until: &AtomicBool) -> Seen {
    let local: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(1))).expect("a time limit");
    let mut seen = Seen::default();
    let mut next = Instant::now();
    let mut octets = [0; 64];
    while !until.load(Ordering::Relaxed) {
        if Instant::now() >= next {
            next += Duration::from_millis(5);
            // Nobody may be there to send to.
            let _ = socket.send_to(b"12345678", target);
        }
        if let Ok((len, _)) = socket.recv_from(&mut octets) {
            seen.answers.push(Instant::now());
            seen.last = String::from_utf8_lossy(&octets[8.min(len)..len]).into_owned();
        }
    }
    seen
}

/// Threads in turn, so that a request without an answer does not delay the next.
const LANES: u32 = 4;

const REQUEST_EVERY: Duration = Duration::from_millis(10);

fn requests(target: SocketAddr, until: &AtomicBool) -> Seen {
    let start = Instant::now();
    let mut answers: Vec<(Instant, String)> = std::thread::scope(|scope| {
        let lane = |number| scope.spawn(move || lane(target, start + number * REQUEST_EVERY, until));
        let lanes: Vec<_> = (0..LANES).map(lane).collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("it ends well")).collect()
    });
    answers.sort();
    let last = answers.last().map(|(_, name)| name.clone()).unwrap_or_default();
    Seen { answers: answers.into_iter().map(|(at, _)| at).collect(), last }
}

/// Every fourth request, the first at `next`, with its answers.
fn lane(target: SocketAddr, mut next: Instant, until: &AtomicBool) -> Vec<(Instant, String)> {
    let mut answers = Vec::new();
    while !until.load(Ordering::Relaxed) {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next = next.max(Instant::now()) + LANES * REQUEST_EVERY;
        if let Ok(Some(name)) = request(target, next) {
            answers.push((Instant::now(), name));
        }
    }
    answers
}

/// The page, or what else is answered by `limit`.
fn request(target: SocketAddr, limit: Instant) -> io::Result<Option<String>> {
    // No time at all is an error.
    let left = || limit.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&target, left())?;
    stream.set_read_timeout(Some(left()))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let page = answer.starts_with("HTTP/1.1 200").then(|| answer.split_once("\r\n\r\n")).flatten();
    Ok(page.map(|(_, name)| name.to_owned()))
}

fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    let head = BufReader::new(&stream).lines();
    head.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}", name.len())
}

/// The longest time for which several of `spaces` had `address`.
fn doubled(spaces: &[File], address: IpAddr, until: &AtomicBool) -> Duration {
    let (mut longest, mut since) = (Duration::ZERO, None);
    while !until.load(Ordering::Relaxed) {
        let is_doubled = spaces.iter().filter(|space| has(space, address)).count() > 1;
        let now = Instant::now();
        let start = since.unwrap_or(now);
        longest = longest.max(now - start);
        since = is_doubled.then_some(start);
        std::thread::sleep(Duration::from_millis(2));
    }
    longest
}

/// Where hosts answer probes.
const ECHO: u16 = 7;
