//! The rounds: every server in turn, each scenario verified and then measured.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::Stop;
use super::geodb::GeoDatabase;
use super::load::{Load, Outcome, Pace, Shape, Until};
use super::meter::{LOAD_CORE, Memory, Reading, Usage};
use super::peers::{Peer, Site};
use super::plan::{Library, Options, Scenario};
use super::rounds::{ResultsFile, in_turn, least_disturbed, pin};
use super::server::Server;
use super::status::serve_status;
use super::tcp::TcpLoad;
use super::zone::{Host, Size, hosts};
use crate::harness::process::Folder;

/// One result, as it is written to the file of results.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Row {
    /// One measurement.
    Load(Measured),
    /// What a server costs beside its answers.
    Process(Cost),
}

/// One measurement of one server.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// From 0.
    pub round: u32,
    /// Name of the server.
    pub server: &'static str,
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Answers a second.
    pub per_second: f64,
    /// CPU time of the server for one answer, in microseconds.
    pub cpu_us: f64,
    /// Of that, in user mode.
    pub user_us: f64,
    /// CPU time of the generator for one answer, in microseconds, idle turns not counted.
    pub generator_us: f64,
    /// Share of the time in which the server ran, 0 to 1.
    pub server_busy: f64,
    /// Share of the questions that were lost, 0 to 1.
    pub loss: f64,
    /// Latency that half of the answers keep, in microseconds.
    pub p50_us: f64,
    /// Latency that 99 of 100 answers keep.
    pub p99_us: f64,
    /// Wrong answers.
    pub wrong: u64,
    /// Share of the time in which others ran on one of the two cores, 0 to 1.
    pub foreign: f64,
}

/// Start and memory of one server.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// From 0.
    pub round: u32,
    /// Name of the server.
    pub server: &'static str,
    /// Whether the zone is the big one.
    pub is_big: bool,
    /// From the start to the first right answer, in milliseconds.
    pub cold_start_ms: f64,
    /// Proportional share of memory after the load, in KiB.
    pub pss_kib: u64,
    /// Resident memory after the load, in KiB.
    pub rss_kib: u64,
}

/// All results, and what could not be measured.
#[derive(Debug, Default)]
pub struct Results {
    /// In the order of the run.
    pub rows: Vec<Row>,
    /// Why a server was not measured, in words.
    pub refused: Vec<String>,
}

/// What every measurement of a run shares.
struct Bench<'a> {
    options: &'a Options,
    library: Library,
    hosts: Vec<Host>,
    geo: GeoDatabase,
    status: std::net::SocketAddr,
    out: Option<ResultsFile>,
    stop: &'a Stop,
    results: Results,
}

/// Runs all rounds. Fails only when nothing can be measured at all, or at a signal.
pub fn run(options: &Options, stop: &Stop) -> Result<Results, String> {
    let folder = Folder::new("gslb-bench-data-")?;
    let geo = GeoDatabase::build(folder.path())?;
    // Started here, the endpoint may run on any core.
    let status = serve_status()?;
    pin(LOAD_CORE)?;
    let hosts = hosts();
    let library = Library::new(&geo, &hosts)?;
    let out = options.out.as_deref().map(ResultsFile::open).transpose()?;
    let mut bench = Bench { options, library, hosts, geo, status, out, stop, results: Results::default() };
    for round in 0..options.rounds {
        for peer in in_turn(&options.servers, round) {
            for size in [Size::Small, Size::Signed, Size::Big] {
                let tried = bench.measure_peer(peer, size, round);
                stop.check()?;
                if let Err(why) = tried {
                    eprintln!("  REFUSED {}: {why}", peer.name);
                    bench.results.refused.push(format!("{}: {why}", peer.name));
                }
            }
        }
    }
    Ok(bench.results)
}

impl Bench<'_> {
    /// Measures one server with one zone.
    fn measure_peer(&mut self, peer: &'static Peer, size: Size, round: u32) -> Result<(), String> {
        let can = |scenario: &&Scenario| peer.scenarios.contains(scenario) && scenario.size() == size;
        let scenarios: Vec<Scenario> = self.options.scenarios.iter().filter(can).copied().collect();
        let Some(&first) = scenarios.first() else { return Ok(()) };
        let server = self.start(peer, size, first)?;
        for scenario in scenarios {
            let measured = self.measure(&server, peer, scenario, round)?;
            print_progress(&measured);
            self.add(Row::Load(measured))?;
        }
        let Memory { rss_kib, pss_kib } = Memory::read(server.id());
        let cold_start_ms = server.cold_start.as_secs_f64() * 1e3;
        // What a start costs is compared without signing.
        if size == Size::Signed {
            return Ok(());
        }
        let is_big = size == Size::Big;
        self.add(Row::Process(Cost { round, server: peer.name, is_big, cold_start_ms, pss_kib, rss_kib }))
    }

    fn start(&self, peer: &Peer, size: Size, first: Scenario) -> Result<Server, String> {
        let hosts = if size == Size::Big { self.hosts.as_slice() } else { &[] };
        // Folder and port are the server's own.
        let is_signed = size == Size::Signed;
        let site = Site { folder: Path::new(""), port: 0, hosts, is_signed, geo: &self.geo.path, status: self.status };
        let other = self.options.gslb_dns.as_deref().filter(|_| peer.program == "gslb-dns");
        // Any scenario of the small zone may be answered first by the fixed name.
        let asked = if first.size() == Size::Big { first } else { Scenario::Static };
        Server::start(peer, site, other, self.library.of(asked), self.stop)
    }

    /// Verifies and measures one scenario; a disturbed measurement is repeated, and the least disturbed one counts.
    fn measure(
        &self,
        server: &Server,
        peer: &'static Peer,
        scenario: Scenario,
        round: u32,
    ) -> Result<Measured, String> {
        self.verify(server, scenario)?;
        least_disturbed(
            |measured: &Measured| measured.foreign,
            || {
                let (outcome, usage) = match scenario {
                    Scenario::Tcp => self.drive_tcp(server)?,
                    Scenario::Open => self.find_highest_rate(server)?,
                    Scenario::Steady => self.drive(server, scenario, steady(STEADY_RATE, 1), self.options.span)?,
                    _ => self.drive(server, scenario, scenario.shape(), self.options.span)?,
                };
                match outcome.wrong {
                    0 => Ok(Measured::new(round, peer.name, scenario, &outcome, usage)),
                    wrong => Err(format!("{}: {wrong} wrong answers under load", scenario.name())),
                }
            },
        )
    }

    /// Asks every question of the scenario once, and checks every answer in whole.
    fn verify(&self, server: &Server, scenario: Scenario) -> Result<(), String> {
        let questions = self.library.of(scenario);
        let shape = Shape { lanes: 24, burst: 1, check_every: 1, ..scenario.shape() };
        let count = questions.count().max(1000) as u64;
        let mut load = Load::open(server.address, questions, shape, self.stop)?;
        let outcome = load.drive(Until::Sent(count))?;
        if outcome.wrong > 0 || outcome.loss() > VERIFY_LOSS_MAX {
            let (sent, wrong, lost) = (outcome.sent, outcome.wrong, outcome.lost);
            return Err(format!(
                "{}: of {sent} questions {wrong} answered wrongly, {lost} not at all",
                scenario.name()
            ));
        }
        Ok(())
    }

    fn drive(
        &self,
        server: &Server,
        scenario: Scenario,
        shape: Shape,
        span: Duration,
    ) -> Result<(Outcome, Usage), String> {
        let mut load = Load::open(server.address, self.library.of(scenario), shape, self.stop)?;
        load.drive(Until::Passed(WARM_UP))?;
        metered(server, || load.drive(Until::Passed(span)))
    }

    fn drive_tcp(&self, server: &Server) -> Result<(Outcome, Usage), String> {
        let mut load = TcpLoad::open(server.address, self.library.of(Scenario::Tcp), self.stop)?;
        load.drive(WARM_UP)?;
        metered(server, || load.drive(self.options.span))
    }

    /// Halves the interval around the highest rate with next to no loss. The rates tried depend on how fast the server
    /// is in a closed loop.
    fn find_highest_rate(&self, server: &Server) -> Result<(Outcome, Usage), String> {
        let span = self.options.span / 2;
        let (closed, usage) = self.drive(server, Scenario::Open, Scenario::Open.shape(), span)?;
        let (mut low, mut high) = (closed.per_second() * 0.4, closed.per_second() * 1.3);
        let mut best = None;
        for _ in 0..RATES {
            let rate = (low + high) / 2.0;
            let found = self.drive(server, Scenario::Open, steady(rate, 8), span)?;
            // The generator must have kept the pace as well.
            if found.0.loss() < LOSS_MAX && found.0.per_second() > rate * 0.98 {
                low = rate;
                best = Some(found);
            } else {
                high = rate;
            }
        }
        best.ok_or_else(|| format!("open: it loses more than 0.1 % at {low:.0} a second ({usage:?})"))
    }

    fn add(&mut self, row: Row) -> Result<(), String> {
        if let Some(out) = &mut self.out {
            out.add(&row)?;
        }
        self.results.rows.push(row);
        Ok(())
    }
}

impl Measured {
    fn new(round: u32, server: &'static str, scenario: Scenario, outcome: &Outcome, usage: Usage) -> Self {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / outcome.answered.max(1) as f64;
        // Some servers answer TCP in threads that come and go.
        let cpu_us = each(if scenario == Scenario::Tcp { usage.ticked } else { usage.exact });
        let micros = |share| outcome.latency.quantile(share).map_or(0.0, |latency| latency.as_secs_f64() * 1e6);
        Self {
            round,
            server,
            scenario: scenario.name(),
            per_second: outcome.per_second(),
            cpu_us,
            user_us: cpu_us * usage.user,
            generator_us: each(outcome.span.saturating_sub(outcome.idle)),
            server_busy: usage.server_busy,
            loss: outcome.loss(),
            p50_us: micros(0.5),
            p99_us: micros(0.99),
            wrong: outcome.wrong,
            foreign: usage.foreign,
        }
    }
}

/// Runs `drive` between two readings.
fn metered(server: &Server, drive: impl FnOnce() -> Result<Outcome, String>) -> Result<(Outcome, Usage), String> {
    let before = Reading::take(server.id())?;
    let outcome = drive()?;
    Ok((outcome, Reading::take(server.id())?.since(&before)))
}

fn steady(per_second: f64, burst: usize) -> Shape {
    Shape { burst, pace: Pace::Open { per_second }, ..Scenario::Static.shape() }
}

fn print_progress(measured: &Measured) {
    let Measured { round, server, scenario, per_second, cpu_us, p99_us, foreign, .. } = measured;
    let (busy, generator_us) = (measured.server_busy * 100.0, measured.generator_us);
    eprintln!(
        "  round {} {server:16} {scenario:7} {cpu_us:6.2} µs {per_second:8.0}/s, busy {busy:.0} %, generator \
         {generator_us:.2} µs, p99 {p99_us:.0} µs, foreign {:.0} %",
        round + 1,
        foreign * 100.0
    );
}

/// Before each measurement.
const WARM_UP: Duration = Duration::from_millis(200);
/// A wrong server is refused; a datagram may be lost on the way, more so when others use the cores.
const VERIFY_LOSS_MAX: f64 = 0.02;
/// The highest rate may lose less than this.
const LOSS_MAX: f64 = 0.001;
/// Steps to find it: within 0.4 % of the rate of the closed loop.
const RATES: usize = 8;
/// Questions a second at which latency is measured.
const STEADY_RATE: f64 = 20_000.0;
