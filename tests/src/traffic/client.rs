//! Clients that notice every reset, every time-out, and who answered.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::{Answer, Protocol};
use crate::net::{Net, until};

/// Where clients are, and what they ask.
#[derive(Clone, Debug)]
pub struct Traffic {
    host: String,
    to: SocketAddr,
    protocol: Protocol,
    sources: Vec<IpAddr>,
}

/// What clients saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// All answers, in no order.
    pub answers: Vec<Answer>,
    /// What went wrong.
    pub failures: Vec<String>,
    /// The longest that a flow took to its answer.
    pub slowest: Duration,
}

/// Flows that are open, and ask again every 20 ms.
pub struct Flows {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// New flows one after the other until it is finished.
pub struct Stream {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Seen>>,
}

#[derive(Default)]
struct State {
    is_over: AtomicBool,
    rounds: AtomicUsize,
    flows: Mutex<Vec<Flow>>,
}

/// One flow that lasts.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// Who answered, in turn: one for a flow that stays where it is.
    pub servers: Vec<String>,
    /// Answers that did not come in time.
    pub losses: usize,
    /// What ended it.
    pub failure: Option<String>,
}

impl Traffic {
    /// From `host` to this address and port.
    pub fn new(protocol: Protocol, host: &str, to: SocketAddr) -> Self {
        Self { host: host.to_owned(), to, protocol, sources: Vec::new() }
    }

    /// From these addresses of the host in turn.
    pub fn from(self, sources: Vec<IpAddr>) -> Self {
        Self { sources, ..self }
    }

    /// What `count` new flows see, each of which asks once.
    pub fn flows(&self, net: &Net, count: usize) -> Seen {
        let left = Arc::new(AtomicUsize::new(count));
        let more = move || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        join(self.run(net, more))
    }

    /// New flows until they are told to end.
    pub fn stream(&self, net: &Net) -> Stream {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        Stream { stop, threads: self.run(net, move || !until.load(Ordering::Relaxed)) }
    }

    /// What one connection sees that sends so much and asks for its answer then.
    pub fn upload(&self, net: &Net, octets: usize) -> Seen {
        join(vec![self.start_upload(net, octets)])
    }

    /// The same, at the same time as others.
    pub fn start_upload(&self, net: &Net, octets: usize) -> JoinHandle<Seen> {
        let (to, source) = (self.to, self.source(0));
        net.within(&self.host, move || Seen::of(|| upload(source, to, octets)))
    }

    /// Opens so many flows, which last until they are told to end.
    pub fn hold(&self, net: &Net, count: usize) -> Flows {
        let state = Arc::new(State::default());
        let (this, shared) = (self.clone(), Arc::clone(&state));
        let thread = net.within(&self.host, move || this.ask_on(&shared, count));
        let flows = Flows { state, thread: Some(thread) };
        flows.until_asked_again();
        flows
    }

    fn source(&self, number: usize) -> Option<IpAddr> {
        self.sources.get(number % self.sources.len().max(1)).copied()
    }

    /// A few threads that open flows while there shall be `more`.
    fn run(&self, net: &Net, more: impl Fn() -> bool + Clone + Send + 'static) -> Vec<JoinHandle<Seen>> {
        let thread = |number: usize| {
            let (this, more) = (self.clone(), more.clone());
            net.within(&self.host, move || {
                let mut seen = Seen::default();
                for turn in (number..).step_by(THREADS).take_while(|_| more()) {
                    seen.add(Seen::of(|| this.ask_once(this.source(turn))));
                }
                seen
            })
        };
        (0..THREADS).map(thread).collect()
    }

    fn ask_once(&self, source: Option<IpAddr>) -> io::Result<Answer> {
        let mut flow = Open::new(self.protocol, source, self.to)?;
        flow.send(b"?\n")?;
        flow.answer()
    }

    /// Opens `count` flows, which ask every 20 ms.
    fn ask_on(&self, state: &State, count: usize) {
        let opened: Vec<_> = (0..count).map(|number| Open::new(self.protocol, self.source(number), self.to)).collect();
        let failed = |open: &io::Result<Open>| open.as_ref().err().map(|error| format!("not opened: {error}"));
        let flows = opened.iter().map(|open| Flow { failure: failed(open), ..Flow::default() });
        *state.flows.lock().expect("nobody panics with it") = flows.collect();
        let mut opened: Vec<_> = opened.into_iter().map(Result::ok).collect();
        while !state.is_over.load(Ordering::Relaxed) {
            let start = Instant::now();
            let sent: Vec<_> = opened.iter_mut().map(|open| open.as_mut().map(|open| open.send(b"?\n"))).collect();
            for (number, sent) in sent.into_iter().enumerate() {
                let (Some(sent), Some(open)) = (sent, &mut opened[number]) else { continue };
                let answer = sent.and_then(|()| open.answer());
                let flow = &mut state.flows.lock().expect("nobody panics with it")[number];
                match answer {
                    Ok(answer) if flow.servers.last() != Some(&answer.server) => flow.servers.push(answer.server),
                    Ok(_) => {}
                    Err(_) if self.protocol == Protocol::Udp => flow.losses += 1,
                    Err(error) => {
                        flow.failure = Some(error.to_string());
                        opened[number] = None;
                    }
                }
            }
            state.rounds.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20).saturating_sub(start.elapsed()));
        }
    }
}

impl Seen {
    fn of(work: impl FnOnce() -> io::Result<Answer>) -> Self {
        let start = Instant::now();
        let answer = work();
        let slowest = start.elapsed();
        match answer {
            Ok(answer) => Self { answers: vec![answer], slowest, ..Self::default() },
            Err(error) => Self { failures: vec![format!("after {slowest:.0?}: {error}")], slowest, ..Self::default() },
        }
    }

    fn add(&mut self, other: Self) {
        self.answers.extend(other.answers);
        self.failures.extend(other.failures);
        self.slowest = self.slowest.max(other.slowest);
    }

    /// How many each server answered.
    pub fn servers(&self) -> BTreeMap<&str, usize> {
        let mut servers = BTreeMap::new();
        for answer in &self.answers {
            *servers.entry(answer.server.as_str()).or_default() += 1;
        }
        servers
    }

    /// Whom servers saw.
    pub fn peers(&self) -> BTreeSet<IpAddr> {
        self.answers.iter().map(|answer| answer.peer).collect()
    }

    /// What `server` answered, in percent of all answers.
    pub fn share(&self, server: &str) -> f64 {
        100.0 * self.servers().get(server).copied().unwrap_or(0) as f64 / self.answers.len().max(1) as f64
    }
}

impl Stream {
    /// Ends it.
    pub fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        join(self.threads)
    }
}

impl Flows {
    /// Each flow as it is now.
    pub fn now(&self) -> Vec<Flow> {
        self.state.flows.lock().expect("nobody panics with it").clone()
    }

    /// How many flows each server answered last, of those that live.
    pub fn servers(&self) -> BTreeMap<String, usize> {
        let mut servers = BTreeMap::new();
        for flow in self.now().iter().filter(|flow| flow.failure.is_none()) {
            if let Some(server) = flow.servers.last() {
                *servers.entry(server.clone()).or_default() += 1;
            }
        }
        servers
    }

    /// Waits until each flow has asked from now on, and has an answer or has not.
    pub fn until_asked_again(&self) {
        let before = self.state.rounds.load(Ordering::Relaxed);
        until("flows ask again", || self.state.rounds.load(Ordering::Relaxed) >= before + 2);
    }

    /// Ends them, after they asked once more.
    pub fn finish(mut self) -> Vec<Flow> {
        self.until_asked_again();
        self.end();
        self.now()
    }

    fn end(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        self.end();
    }
}

fn join(threads: Vec<JoinHandle<Seen>>) -> Seen {
    let mut seen = Seen::default();
    for thread in threads {
        seen.add(thread.join().expect("it ends well"));
    }
    seen
}

/// A flow that is open.
enum Open {
    Tcp(BufReader<TcpStream>),
    Udp(UdpSocket),
}

impl Open {
    fn new(protocol: Protocol, source: Option<IpAddr>, to: SocketAddr) -> io::Result<Self> {
        if protocol == Protocol::Tcp {
            return Ok(Self::Tcp(BufReader::with_capacity(256, connect(source, to)?)));
        }
        let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
        let socket = UdpSocket::bind((source.unwrap_or(any), 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(LOSS))?;
        Ok(Self::Udp(socket))
    }

    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.get_mut().write_all(request),
            Self::Udp(socket) => {
                // What came too late for the last request answers none of the next ones.
                socket.set_nonblocking(true)?;
                while socket.recv(&mut [0; 256]).is_ok() {}
                socket.set_nonblocking(false)?;
                socket.send(request).map(drop)
            }
        }
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let mut line = String::new();
        match self {
            Self::Tcp(stream) => drop(stream.read_line(&mut line)?),
            Self::Udp(socket) => {
                let mut octets = [0; 256];
                let len = socket.recv(&mut octets)?;
                line = String::from_utf8_lossy(&octets[..len]).into_owned();
            }
        }
        Answer::read(&line).ok_or_else(|| io::Error::other(format!("not an answer: {line:?}")))
    }
}

fn connect(source: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let stream: TcpStream = socket.into();
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn upload(source: Option<IpAddr>, to: SocketAddr, octets: usize) -> io::Result<Answer> {
    let mut stream = connect(source, to)?;
    let chunk = vec![b'u'; 256 * 1024];
    let mut left = octets.saturating_sub(1);
    while left > 0 {
        left -= stream.write(&chunk[..left.min(chunk.len())])?;
    }
    let mut open = Open::Tcp(BufReader::new(stream));
    open.send(b"\n")?;
    open.answer()
}

/// How many flows are under way at one time.
const THREADS: usize = 8;

/// What a connection may take to be opened, and to its answer: longer than two packets that are sent again.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a datagram's answer may take.
const LOSS: Duration = Duration::from_millis(500);
