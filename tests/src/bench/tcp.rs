//! The generator for TCP: connections on which several questions are under way at once (RFC 7766, section 6.2.1.1).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use super::Stop;
use super::answer::is_right;
use super::load::Outcome;
use super::pending::Pending;
use super::questions::Questions;
use super::regions::REGIONS;

/// Connections to a server, and questions for it.
#[derive(Debug)]
pub struct TcpLoad<'a> {
    questions: &'a Questions,
    connections: Vec<Connection>,
    next_question: usize,
    clock: Instant,
    stop: Stop,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    pending: Pending,
    /// What has come and is not read as messages yet.
    incoming: Vec<u8>,
    last_sent: Instant,
}

impl<'a> TcpLoad<'a> {
    /// Opens [`CONNECTIONS`] connections.
    pub fn open(server: SocketAddrV4, questions: &'a Questions, stop: &Stop) -> Result<Self, String> {
        let open = |_| {
            let stream = TcpStream::connect_timeout(&server.into(), PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let pending = Pending::new(PIPELINED);
            Ok(Connection { stream, pending, incoming: Vec::new(), last_sent: Instant::now() })
        };
        let connections = (0..CONNECTIONS).map(open).collect::<Result<_, _>>();
        let connections = connections.map_err(|error: std::io::Error| format!("TCP to {server}: {error}"))?;
        Ok(Self { questions, connections, next_question: 0, clock: Instant::now(), stop: stop.clone() })
    }

    /// Asks for `span`: each answer makes room for the next question, so that [`PIPELINED`] are under way on every
    /// connection. Every answer is checked in whole.
    pub fn drive(&mut self, span: Duration) -> Result<Outcome, String> {
        let mut outcome = Outcome::default();
        let started = Instant::now();
        while started.elapsed() < span {
            self.stop.check()?;
            for connection in &mut self.connections {
                let before = Instant::now();
                let answered = outcome.answered;
                connection.receive(self.questions, self.clock, &mut outcome)?;
                let room = PIPELINED - connection.pending.count();
                if room > 0 {
                    connection.send(room, self.questions, &mut self.next_question, self.clock)?;
                    outcome.sent += room as u64;
                } else if answered == outcome.answered {
                    outcome.idle += before.elapsed();
                    if connection.last_sent.elapsed() > PATIENCE {
                        return Err(format!("no answer by TCP within {PATIENCE:?}"));
                    }
                }
            }
        }
        outcome.span = started.elapsed();
        Ok(outcome)
    }
}

impl Connection {
    fn send(&mut self, count: usize, questions: &Questions, next: &mut usize, clock: Instant) -> Result<(), String> {
        let len = u16::try_from(questions.len_each()).map_err(|error| error.to_string())?.to_be_bytes();
        let now = clock.elapsed().as_nanos() as u64;
        let mut burst = Vec::with_capacity(count * (questions.len_each() + 2));
        for _ in 0..count {
            let (id, _) = self.pending.open(*next, now);
            burst.extend(len);
            burst.extend(id.to_be_bytes());
            burst.extend(&questions.wire(*next)[2..]);
            *next = (*next + 1) % questions.count();
        }
        self.last_sent = Instant::now();
        // So little is under way that the buffer of the socket takes all of it.
        self.stream.write_all(&burst).map_err(|error| format!("sending by TCP: {error}"))
    }

    fn receive(&mut self, questions: &Questions, clock: Instant, outcome: &mut Outcome) -> Result<(), String> {
        let mut chunk = [0; 16_384];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Err("the server has closed a TCP connection in use".to_owned()),
            Ok(len) => self.incoming.extend(&chunk[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(format!("receiving by TCP: {error}")),
        }
        let now = clock.elapsed().as_nanos() as u64;
        let mut rest = self.incoming.as_slice();
        while let Some((len, after)) = rest.split_first_chunk() {
            let Some((answer, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*len))) else { break };
            rest = after;
            let id = answer.first_chunk().map(|id| u16::from_be_bytes(*id));
            let asked = id.and_then(|id| self.pending.close(id)).ok_or("an answer by TCP to nothing that was asked")?;
            outcome.answered += 1;
            outcome.checked += 1;
            outcome.latency.add(now.saturating_sub(asked.at));
            let (query, expected) = (questions.wire(asked.question), questions.expected(asked.question));
            outcome.wrong += u64::from(!is_right(answer, query, expected, &REGIONS[0]));
        }
        let left = rest.len();
        self.incoming.drain(..self.incoming.len() - left);
        Ok(())
    }
}

/// Connections.
pub const CONNECTIONS: usize = 20;
/// Questions under way on each.
pub const PIPELINED: usize = 10;
const PATIENCE: Duration = Duration::from_secs(2);
