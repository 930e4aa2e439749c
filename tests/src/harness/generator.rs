//! Queries at a steady rate, every answer kept to be judged.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Queries under way from threads of their own.
#[derive(Debug)]
pub struct Generator {
    is_stopped: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sender: JoinHandle<Vec<Lane>>,
}

/// What came of the queries.
#[derive(Debug, Default)]
pub struct Report {
    /// Queries sent.
    pub sent: u64,
    /// Queries without an answer within [`PATIENCE`].
    pub lost: u64,
    /// How long sending took.
    pub took: Duration,
    /// For each query, at its position: each different answer (without its id) and how often it came.
    pub answers: Vec<HashMap<Vec<u8>, u64>>,
}

/// A socket and what is asked through it; ids tell its queries apart.
struct Lane {
    socket: UdpSocket,
    /// For each id, the query asked last and when; `None` once answered.
    asked: Vec<Option<(usize, Instant)>>,
    next_id: u16,
    report: Report,
}

impl Generator {
    /// Starts to send `queries` in turn to `server`, `rate` of them a second.
    pub fn start(server: SocketAddr, queries: Vec<Vec<u8>>, rate: u32) -> Result<Self, String> {
        let lane = Lane::new(server, queries.len())?;
        let (is_stopped, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, count) = (Arc::clone(&is_stopped), Arc::clone(&sent));
        let sender = thread::spawn(move || vec![lane.run(&queries, rate, &stop, &count)]);
        Ok(Self { is_stopped, sent, sender })
    }

    /// Queries sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops sending and waits for the last answers.
    pub fn stop(self) -> Result<Report, String> {
        self.is_stopped.store(true, Ordering::Relaxed);
        let mut lanes = self.sender.join().map_err(|_| "the generator has panicked")?;
        Ok(lanes.pop().map(|lane| lane.report).unwrap_or_default())
    }
}

impl Lane {
    fn new(server: SocketAddr, queries: usize) -> Result<Self, String> {
        let socket =
            UdpSocket::bind((if server.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).map_err(|e| e.to_string())?;
        socket.connect(server).map_err(|error| error.to_string())?;
        socket.set_nonblocking(true).map_err(|error| error.to_string())?;
        // A late look at the socket must not cost an answer.
        socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20).map_err(|error| error.to_string())?;
        let report = Report { answers: vec![HashMap::new(); queries], ..Report::default() };
        Ok(Self { socket, asked: vec![None; 1 << 16], next_id: 0, report })
    }

    fn run(mut self, queries: &[Vec<u8>], rate: u32, stop: &AtomicBool, count: &AtomicU64) -> Self {
        let start = Instant::now();
        let mut buffer = vec![0; 4096];
        while !stop.load(Ordering::Relaxed) {
            let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
            // After a pause of this thread it catches up in portions, so that no burst of its own overruns the server.
            for _ in 0..due.saturating_sub(self.report.sent).min(BURST) {
                self.send(queries);
            }
            count.store(self.report.sent, Ordering::Relaxed);
            self.collect(&mut buffer);
            thread::sleep(Duration::from_micros(500));
        }
        self.report.took = start.elapsed();
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && self.asked.iter().any(Option::is_some) {
            self.collect(&mut buffer);
            thread::sleep(Duration::from_millis(5));
        }
        self.report.lost += self.asked.iter().flatten().count() as u64;
        self
    }

    fn send(&mut self, queries: &[Vec<u8>]) {
        let at = (self.report.sent % queries.len().max(1) as u64) as usize;
        let Some(query) = queries.get(at) else { return };
        let id = self.next_id;
        let mut bytes = query.clone();
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        let slot = &mut self.asked[usize::from(id)];
        if slot.is_some_and(|(_, asked)| asked.elapsed() < PATIENCE) {
            // All ids are waiting for answers: the rate is too high for this patience.
            return;
        }
        self.report.lost += u64::from(slot.is_some());
        if self.socket.send(&bytes).is_ok() {
            *slot = Some((at, Instant::now()));
            self.next_id = id.wrapping_add(1);
            self.report.sent += 1;
        }
    }

    fn collect(&mut self, buffer: &mut [u8]) {
        while let Ok(len) = self.socket.recv(buffer) {
            let Some((id, rest)) = buffer[..len].split_first_chunk::<2>() else { continue };
            if let Some((at, asked)) = self.asked[usize::from(u16::from_be_bytes(*id))].take() {
                self.report.lost += u64::from(asked.elapsed() > PATIENCE);
                match self.report.answers[at].get_mut(rest) {
                    Some(count) => *count += 1,
                    None => drop(self.report.answers[at].insert(rest.to_vec(), 1)),
                }
            }
        }
    }
}

/// An answer that comes later counts as lost.
pub const PATIENCE: Duration = Duration::from_secs(2);
const BURST: u64 = 64;
