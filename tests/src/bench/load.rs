//! The generator: asks as fast as answers come, or at a steady rate, and judges every answer.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::Stop;
use super::answer::{is_head_right, is_right};
use super::histogram::Histogram;
use super::lane::{Inbox, Lane};
use super::pending::Asked;
use super::questions::Questions;
use super::regions::{REGIONS, Region};

/// How questions are sent.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Sockets.
    pub lanes: usize,
    /// Questions that leave together over one socket.
    pub burst: usize,
    /// When they leave.
    pub pace: Pace,
    /// Where sockets are bound.
    pub sources: Sources,
    /// Of how many answers one is checked in whole; of all others the id and the header are.
    pub check_every: u64,
}

/// When questions leave.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// A burst over a socket when the one before is answered: as fast as the server can.
    Closed,
    /// So many a second over all sockets in turn, whatever comes back.
    Open {
        /// Questions a second.
        per_second: f64,
    },
}

/// Where sockets are bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sources {
    /// All at 127.0.0.1.
    Local,
    /// Addresses in 127.1.0.0/16, 127.2.0.0/16 and 127.3.0.0/16 in turn: clients of the three regions.
    Regions,
}

/// When a drive ends.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so long.
    Passed(Duration),
    /// When so many questions, rounded up to whole bursts, were sent and are answered or lost.
    Sent(u64),
}

/// What came of a drive.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Questions sent.
    pub sent: u64,
    /// Answers received, also those that were waited for at the end.
    pub answered: u64,
    /// Questions that were not answered in time.
    pub lost: u64,
    /// Wrong answers among all.
    pub wrong: u64,
    /// Answers checked in whole.
    pub checked: u64,
    /// How long it lasted.
    pub span: Duration,
    /// Of that, how long there was nothing to do for the generator.
    pub idle: Duration,
    /// From sending to reading the answer.
    pub latency: Histogram,
}

/// Sockets to a server, and questions for it.
#[derive(Debug)]
pub struct Load<'a> {
    questions: &'a Questions,
    shape: Shape,
    lanes: Vec<Lane>,
    inbox: Inbox,
    next_question: usize,
    next_lane: usize,
    outgoing: Vec<u8>,
    clock: Instant,
    stop: Stop,
}

impl<'a> Load<'a> {
    /// Opens the sockets.
    pub fn open(server: SocketAddrV4, questions: &'a Questions, shape: Shape, stop: &Stop) -> Result<Self, String> {
        let capacity = match shape.pace {
            Pace::Closed => shape.burst,
            // More than the buffers on the way can hold.
            Pace::Open { .. } => 4096,
        };
        let lane = |at: usize| {
            let (source, region) = source(shape.sources, at);
            Lane::open(server, source, region, capacity)
        };
        Ok(Self {
            questions,
            shape,
            lanes: (0..shape.lanes).map(lane).collect::<Result<_, _>>()?,
            inbox: Inbox::default(),
            next_question: 0,
            next_lane: 0,
            outgoing: Vec::new(),
            clock: Instant::now(),
            stop: stop.clone(),
        })
    }

    /// Asks and judges until `until`. What is under way at the end is neither answered nor lost when the pace is closed
    /// and a time was given; otherwise it is waited for.
    pub fn drive(&mut self, until: Until) -> Result<Outcome, String> {
        let mut outcome = Outcome::default();
        let started = self.now();
        let mut now = started;
        let mut due = started as f64;
        while !self.is_over(until, now - started, &outcome) {
            self.stop.check()?;
            if let Pace::Open { per_second } = self.shape.pace {
                self.send_due(&mut due, per_second, until, &mut outcome)?;
            }
            now = self.sweep(Some(until), &mut outcome)?;
        }
        outcome.span = Duration::from_nanos(now - started);
        if !matches!((self.shape.pace, until), (Pace::Closed, Until::Passed(_))) {
            self.settle(&mut outcome)?;
        }
        Ok(outcome)
    }

    fn is_over(&self, until: Until, passed: u64, outcome: &Outcome) -> bool {
        match until {
            Until::Passed(span) => u128::from(passed) >= span.as_nanos(),
            Until::Sent(count) => outcome.sent >= count,
        }
    }

    /// Open pace: sends what is due, as many bursts as a server could take in a moment at most.
    fn send_due(&mut self, due: &mut f64, per_second: f64, until: Until, outcome: &mut Outcome) -> Result<(), String> {
        let gap = self.shape.burst as f64 * 1e9 / per_second;
        for _ in 0..64 {
            let now = self.now();
            if now as f64 <= *due || is_enough(until, outcome) {
                break;
            }
            let at = self.next_lane;
            self.next_lane = (at + 1) % self.lanes.len();
            self.send_burst(at, now, outcome)?;
            *due += gap;
        }
        Ok(())
    }

    /// Looks at every socket once: judges what has come, and sends the next burst at a closed pace, until `until`, when
    /// nothing is under way; `None` sends nothing. Gives the time at the end.
    fn sweep(&mut self, until: Option<Until>, outcome: &mut Outcome) -> Result<u64, String> {
        let mut before = self.now();
        for at in 0..self.lanes.len() {
            let received = self.receive(at, before, outcome)?;
            let lane = &mut self.lanes[at];
            if received == 0 && lane.pending.count() > 0 && before > lane.last_sent + PATIENCE {
                outcome.lost += lane.pending.give_up() as u64;
            }
            let is_closed = matches!(self.shape.pace, Pace::Closed);
            // Looked at before each burst, so that no question too many is sent.
            let is_asking = is_closed && until.is_some_and(|until| !is_enough(until, outcome));
            let is_sending = is_asking && lane.pending.count() == 0;
            if is_sending {
                self.send_burst(at, before, outcome)?;
            }
            let now = self.now();
            if received == 0 && !is_sending {
                outcome.idle += Duration::from_nanos(now - before);
            }
            before = now;
        }
        Ok(before)
    }

    fn send_burst(&mut self, at: usize, now: u64, outcome: &mut Outcome) -> Result<(), String> {
        let lane = &mut self.lanes[at];
        self.outgoing.clear();
        for _ in 0..self.shape.burst {
            let question = self.next_question;
            self.next_question = (question + 1) % self.questions.count();
            let (id, is_displacing) = lane.pending.open(question, now);
            outcome.lost += u64::from(is_displacing);
            self.outgoing.extend(id.to_be_bytes());
            self.outgoing.extend(&self.questions.wire(question)[2..]);
        }
        outcome.sent += self.shape.burst as u64;
        lane.last_sent = now;
        lane.send(&self.outgoing, self.questions.len_each())
    }

    fn receive(&mut self, at: usize, now: u64, outcome: &mut Outcome) -> Result<usize, String> {
        let lane = &mut self.lanes[at];
        let received = self.inbox.receive(lane)?;
        for at in 0..received {
            let answer = self.inbox.message(at);
            let id = answer.get(..2).and_then(|id| id.try_into().ok()).map(u16::from_be_bytes);
            // An answer to nothing that was asked: late, or made up. Late ones are counted as lost already.
            let Some(asked) = id.and_then(|id| lane.pending.close(id)) else { continue };
            outcome.answered += 1;
            outcome.latency.add(now.saturating_sub(asked.at));
            judge(answer, asked, self.questions, lane.region, self.shape.check_every, outcome);
        }
        Ok(received)
    }

    /// Waits for what is under way; the rest is lost.
    fn settle(&mut self, outcome: &mut Outcome) -> Result<(), String> {
        let end = self.now() + PATIENCE;
        while self.lanes.iter().any(|lane| lane.pending.count() > 0) && self.now() < end {
            self.stop.check()?;
            self.sweep(None, outcome)?;
        }
        outcome.lost += self.lanes.iter_mut().map(|lane| lane.pending.give_up() as u64).sum::<u64>();
        Ok(())
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }
}

impl Outcome {
    /// Answers a second.
    pub fn per_second(&self) -> f64 {
        self.answered as f64 / self.span.as_secs_f64()
    }

    /// Which share of what was sent is lost, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.lost as f64 / self.sent.max(1) as f64
    }
}

/// Whether as many questions were sent as shall be.
fn is_enough(until: Until, outcome: &Outcome) -> bool {
    matches!(until, Until::Sent(count) if outcome.sent >= count)
}

/// Counts an answer as checked or wrong.
fn judge(answer: &[u8], asked: Asked, questions: &Questions, region: &Region, check_every: u64, outcome: &mut Outcome) {
    let expected = questions.expected(asked.question);
    let is_fine = if outcome.answered.is_multiple_of(check_every) {
        outcome.checked += 1;
        is_right(answer, questions.wire(asked.question), expected, region)
    } else {
        is_head_right(answer, expected)
    };
    outcome.wrong += u64::from(!is_fine);
}

/// Where the socket at a position is bound, and whose client it is.
fn source(sources: Sources, at: usize) -> (Ipv4Addr, &'static Region) {
    match sources {
        Sources::Local => (Ipv4Addr::LOCALHOST, &REGIONS[0]),
        Sources::Regions => {
            let region = &REGIONS[at % REGIONS.len()];
            let host = (at / REGIONS.len()) as u8;
            (Ipv4Addr::new(127, region.clients, host.wrapping_mul(7), host.wrapping_add(1)), region)
        }
    }
}

/// How long an answer is waited for.
const PATIENCE: u64 = 300_000_000;

#[cfg(test)]
mod tests {
    use super::super::questions::{Edns, Expected};
    use super::super::reflector::Reflector;
    use super::*;

    fn drive(questions: &Questions, pace: Pace, burst: usize, until: Until) -> Outcome {
        let reflector = Reflector::start(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a reflector");
        let shape = Shape { lanes: 3, burst, pace, sources: Sources::Regions, check_every: 2 };
        let mut load = Load::open(reflector.address(), questions, shape, &Stop::default()).expect("sockets");
        load.drive(until).expect("a drive")
    }

    #[test]
    fn every_right_answer_is_counted() {
        let questions = Questions::fixed().expect("questions");
        for burst in [1, 8] {
            let outcome = drive(&questions, Pace::Closed, burst, Until::Sent(2400));
            assert_eq!((outcome.sent, outcome.lost, outcome.wrong), (2400, 0, 0), "burst {burst}");
            assert!(outcome.checked >= 1000 && outcome.latency.quantile(0.5).is_some(), "{outcome:?}");
        }
    }

    #[test]
    fn wrong_answers_are_noticed() {
        let other = Expected::Address([192, 0, 2, 11].into());
        let wrong = Questions::collect([("static.gslb.test".to_owned(), Edns::Plain, other)]).expect("a question");
        let outcome = drive(&wrong, Pace::Closed, 8, Until::Sent(240));
        assert_eq!(outcome.wrong, outcome.checked);
        assert!(outcome.checked > 0);
        let absent = Questions::absent().expect("questions");
        let outcome = drive(&absent, Pace::Closed, 8, Until::Sent(240));
        assert_eq!(outcome.wrong, 240, "each has another rcode");
    }

    #[test]
    fn a_steady_rate_is_kept_and_silence_is_loss() {
        let questions = Questions::fixed().expect("questions");
        let pace = Pace::Open { per_second: 2000.0 };
        let outcome = drive(&questions, pace, 1, Until::Sent(200));
        assert_eq!((outcome.sent, outcome.lost), (200, 0));
        assert!(outcome.span >= Duration::from_millis(95), "{:?}", outcome.span);

        let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, silent.local_addr().expect("its address").port());
        let shape = Shape { lanes: 1, burst: 8, pace: Pace::Closed, sources: Sources::Local, check_every: 1 };
        let mut load = Load::open(server, &questions, shape, &Stop::default()).expect("sockets");
        let outcome = load.drive(Until::Sent(8)).expect("a drive");
        assert_eq!((outcome.sent, outcome.answered, outcome.lost), (8, 0, 8));
    }
}
