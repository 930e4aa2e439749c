//! The rounds: every case with every proxy in turn, each started anew, verified and then measured.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use super::case::{Ability, Ask, Case, Maker, Work};
use super::crowd::Crowd;
use super::h2load::H2load;
use super::load::{Load, Outcome};
use super::origins::Origins;
use super::peers::{Proxy, local};
use super::plan::{Less, Options};
use super::running::Running;
use super::tls::{Certificate, client};
use super::verify::{Depth, shortcomings};
use crate::bench::Stop;
use crate::bench::meter::{LOAD_CORE, Memory, Reading, Usage};
use crate::bench::rounds::{ResultsFile, in_turn, least_disturbed, pin};
use crate::harness::process::Folder;

/// One result, as it is written to the file of results.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Row {
    /// One measurement under load.
    Load(Measured),
    /// What idle connections cost.
    Idle(Idle),
}

/// One measurement of one proxy under load.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// From 0.
    pub round: u32,
    /// Name of the proxy.
    pub proxy: &'static str,
    /// Name of the case.
    pub case: &'static str,
    /// Requests a second; of downloads, MiB.
    pub per_second: f64,
    /// CPU time of the proxy for one, in microseconds.
    pub cpu_us: f64,
    /// Share of that in user mode, 0 to 1.
    pub user: f64,
    /// Share of the time in which the proxy ran, 0 to 1.
    pub busy: f64,
    /// Latency that half of the requests keep, in microseconds.
    pub p50_us: f64,
    /// Latency that 99 of 100 keep.
    pub p99_us: f64,
    /// Share of the time in which others ran on one of the two cores, 0 to 1.
    pub foreign: f64,
}

/// Memory of one proxy with a crowd of idle connections.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    /// From 0.
    pub round: u32,
    /// Name of the proxy.
    pub proxy: &'static str,
    /// What 10,000 connections take, in KiB (proportional share).
    pub kib: f64,
    /// Resident memory without them, in KiB.
    pub start_rss_kib: u64,
}

/// All results, and what could not be measured.
#[derive(Debug, Default)]
pub struct Results {
    /// In the order of the run.
    pub rows: Vec<Row>,
    /// Why a proxy was not measured with a case, in words.
    pub refused: Vec<String>,
    /// What proxies do less than the others, by name.
    pub less: BTreeMap<&'static str, BTreeSet<String>>,
}

/// What every measurement of a run shares.
struct Bench<'a> {
    options: &'a Options,
    origins: Origins,
    certificate: Certificate,
    folder: Folder,
    out: Option<ResultsFile>,
    stop: &'a Stop,
    results: Results,
    /// Proxies that have been verified in whole.
    verified: BTreeSet<&'static str>,
}

/// Runs all rounds. Fails only when nothing can be measured at all, or at a signal.
pub fn run(options: &Options, stop: &Stop) -> Result<Results, String> {
    raise_open_files()?;
    let folder = Folder::new("gslb-bench-data-")?;
    let certificate = Certificate::make(folder.path())?;
    let origins = Origins::start()?;
    pin(LOAD_CORE)?;
    let out = options.out.as_deref().map(ResultsFile::open).transpose()?;
    let (results, verified) = (Results::default(), BTreeSet::new());
    let mut bench = Bench { options, origins, certificate, folder, out, stop, results, verified };
    for round in 0..options.rounds {
        for case in &options.cases {
            for proxy in in_turn(&options.proxies, round) {
                if !proxy.can(*case) {
                    continue;
                }
                let tried = bench.measure(proxy, *case, round);
                stop.check()?;
                if let Err(why) = tried {
                    eprintln!("  REFUSED {} {}: {why}", proxy.name, case.name());
                    bench.results.refused.push(format!("{} {}: {why}", proxy.name, case.name()));
                }
            }
        }
    }
    Ok(bench.results)
}

impl Bench<'_> {
    /// Starts, verifies and measures one proxy with one case.
    fn measure(&mut self, proxy: &'static Proxy, case: Case, round: u32) -> Result<(), String> {
        let other = self.options.region_proxy.as_deref().filter(|_| proxy.name == super::peers::OURS);
        let ability = case.needs();
        let running = Running::start(proxy, ability, other, &self.origins, &self.certificate, self.stop)?;
        if self.verify(proxy, &running, ability)? == Depth::Whole {
            // It may think that a server is still sick.
            drop(running);
            let running = Running::start(proxy, ability, other, &self.origins, &self.certificate, self.stop)?;
            return self.measure_running(proxy, &running, case, round);
        }
        self.measure_running(proxy, &running, case, round)
    }

    /// Fails when the proxy does less than it should; gives how much was looked at.
    fn verify(&mut self, proxy: &'static Proxy, running: &Running, ability: Ability) -> Result<Depth, String> {
        let is_new = ability != Ability::Tcp && self.verified.insert(proxy.name);
        let depth = if is_new { Depth::Whole } else { Depth::Quick };
        let found = shortcomings(&running.ports, ability, &self.origins, depth, self.stop)?;
        for (proof, why) in found {
            if !proxy.lacks.contains(&proof) && self.options.less == Less::Refused {
                self.verified.remove(proxy.name);
                return Err(format!("expected {proof}: {why}"));
            }
            self.results.less.entry(proxy.name).or_default().insert(proof.to_string());
        }
        Ok(depth)
    }

    fn measure_running(
        &mut self,
        proxy: &'static Proxy,
        running: &Running,
        case: Case,
        round: u32,
    ) -> Result<(), String> {
        let row = match case.maker() {
            Maker::Crowd(count) => {
                let idle = self.measure_crowd(running, case.needs(), count)?;
                Row::Idle(Idle { round, proxy: proxy.name, ..idle })
            }
            _ => Row::Load(least_disturbed(
                |measured: &Measured| measured.foreign,
                || {
                    let (outcome, usage) = self.drive(running, case)?;
                    Ok(Measured::new(round, proxy.name, case, &outcome, usage))
                },
            )?),
        };
        print_progress(&row);
        if let Some(out) = &mut self.out {
            out.add(&row)?;
        }
        self.results.rows.push(row);
        Ok(())
    }

    fn drive(&self, running: &Running, case: Case) -> Result<(Outcome, Usage), String> {
        let span = self.options.span;
        match case.maker() {
            Maker::H2load { connections, streams } => {
                let (ability, folder) = (case.needs(), self.folder.path());
                let load = H2load { port: running.ports.of(ability), ability, connections, streams, folder };
                load.drive(WARM_UP)?;
                metered(running, || load.drive(span))
            }
            Maker::Own(work) => {
                let mut load = self.open(running, case, work)?;
                load.drive(WARM_UP)?;
                metered(running, || load.drive(span))
            }
            Maker::Crowd(_) => Err("a crowd does nothing".to_owned()),
        }
    }

    fn open(&self, running: &Running, case: Case, work: Work) -> Result<Load, String> {
        let tls = (case.needs() == Ability::Tls).then(client).transpose()?;
        let address = match work.ask {
            Ask::Download(_) => local(running.ports.download),
            _ => running.address(case.needs()),
        };
        Load::open(address, tls, work, self.stop)
    }

    fn measure_crowd(&self, running: &Running, ability: Ability, count: usize) -> Result<Idle, String> {
        let before = Memory::read(running.id());
        let crowd = Crowd::gather(running.address(ability), count, self.stop)?;
        // Whoever gives memory back does it soon.
        std::thread::sleep(SETTLE);
        let with = Memory::read(running.id());
        crowd.check()?;
        let more = with.pss_kib.saturating_sub(before.pss_kib) as f64;
        Ok(Idle { round: 0, proxy: "", kib: more * 10_000.0 / count as f64, start_rss_kib: before.rss_kib })
    }
}

impl Measured {
    fn new(round: u32, proxy: &'static str, case: Case, outcome: &Outcome, usage: Usage) -> Self {
        let micros = |share| outcome.latency.quantile(share).map_or(0.0, |latency| latency.as_secs_f64() * 1e6);
        Self {
            round,
            proxy,
            case: case.name(),
            per_second: outcome.per_second(),
            cpu_us: usage.exact.as_secs_f64() * 1e6 / outcome.answered.max(1) as f64,
            user: usage.user,
            busy: usage.server_busy,
            p50_us: micros(0.5),
            p99_us: micros(0.99),
            foreign: usage.foreign,
        }
    }
}

/// Runs `drive` between two readings.
fn metered(running: &Running, drive: impl FnOnce() -> Result<Outcome, String>) -> Result<(Outcome, Usage), String> {
    let before = Reading::take(running.id())?;
    let outcome = drive()?;
    Ok((outcome, Reading::take(running.id())?.since(&before)))
}

/// Allows as many open files as may be, for this process and the proxies: each idle connection is one.
fn raise_open_files() -> Result<(), String> {
    let failed = |error| format!("limit of open files: {error}");
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(failed)
}

fn print_progress(row: &Row) {
    match row {
        Row::Load(Measured { round, proxy, case, per_second, cpu_us, p50_us, p99_us, busy, foreign, .. }) => eprintln!(
            "  round {} {proxy:14} {case:8} {cpu_us:7.2} µs {per_second:7.0}/s, busy {:.0} %, p50 {p50_us:.0} µs, p99 \
             {p99_us:.0} µs, foreign {:.0} %",
            round + 1,
            busy * 100.0,
            foreign * 100.0
        ),
        Row::Idle(Idle { round, proxy, kib, .. }) => {
            eprintln!("  round {} {proxy:14} idle10k  {:7.1} MiB", round + 1, kib / 1024.0);
        }
    }
}

/// Before each measurement.
const WARM_UP: Duration = Duration::from_millis(300);
/// Before the memory of a crowd is read.
const SETTLE: Duration = Duration::from_millis(500);
