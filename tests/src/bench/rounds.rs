//! What every benchmark's rounds have in common: cores, turns, tries, the file of results, medians.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

use super::meter::SERVER_CORE;
use crate::harness::process::Process;

/// The file that gets every result as a line of JSON.
#[derive(Debug)]
pub struct ResultsFile(File);

impl ResultsFile {
    /// Opens it for adding.
    pub fn open(path: &Path) -> Result<Self, String> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.map(Self).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Adds a line.
    pub fn add(&mut self, row: &impl Serialize) -> Result<(), String> {
        let line = serde_json::to_string(row).map_err(|error| error.to_string())?;
        writeln!(self.0, "{line}").map_err(|error| format!("the file of results: {error}"))
    }
}

/// Who is measured when: each round begins with the next one.
pub fn in_turn<T: Copy>(all: &[T], round: u32) -> Vec<T> {
    let mut order = all.to_vec();
    order.rotate_left(round as usize % all.len().max(1));
    order
}

/// Measures until the share of foreign work is below [`FOREIGN_MAX`], at most three times; the least disturbed
/// measurement counts. Fails as soon as a measurement does.
pub fn least_disturbed<M>(
    foreign: impl Fn(&M) -> f64,
    mut measure: impl FnMut() -> Result<M, String>,
) -> Result<M, String> {
    let mut best = measure()?;
    for _ in 1..TRIES {
        if foreign(&best) < FOREIGN_MAX {
            break;
        }
        let next = measure()?;
        if foreign(&next) < foreign(&best) {
            best = next;
        }
    }
    Ok(best)
}

/// Lets the calling thread run on one core only.
pub fn pin(core: usize) -> Result<(), String> {
    let mut cores = CpuSet::new();
    let pinned = cores.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores));
    pinned.map_err(|error| format!("core {core}: {error}: the benchmark needs two cores"))
}

/// Starts `program` on the core of the server, by the word `on-core` of this program.
pub fn start_on_server_core(name: &str, program: &Path, arguments: &[String]) -> Result<Process, String> {
    let own = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
    let mut words = vec!["on-core".to_owned(), SERVER_CORE.to_string(), program.display().to_string()];
    words.extend_from_slice(arguments);
    Process::start(name, &own, &words).map_err(|error| format!("{name}: {error}"))
}

/// The median; values that are no number are left out. `None` when there are none.
pub fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

/// A figure for a table, in whole numbers.
pub fn show(value: Option<f64>) -> String {
    match value {
        Some(value) if value < 1000.0 => format!("{value:.0}"),
        Some(value) => format!("{},{:03}", value as u64 / 1000, value as u64 % 1000),
        None => "–".to_owned(),
    }
}

/// KiB in MiB.
pub fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// How often a disturbed measurement is tried.
const TRIES: usize = 3;
/// Above this share of foreign work a measurement is disturbed.
pub const FOREIGN_MAX: f64 = 0.06;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disturbed_measurement_is_repeated_and_the_least_disturbed_counts() {
        let mut tries = [0.5, 0.2, 0.3, 0.0].into_iter();
        let found = least_disturbed(|foreign: &f64| *foreign, || tries.next().ok_or_else(String::new));
        assert_eq!(found, Ok(0.2));
        assert_eq!(tries.len(), 1, "three tries");
    }

    #[test]
    fn each_round_begins_with_the_next_one() {
        assert_eq!((in_turn(&[1, 2, 3], 1), in_turn(&[1, 2, 3], 3)), (vec![2, 3, 1], vec![1, 2, 3]));
        assert!(in_turn::<u8>(&[], 1).is_empty());
    }
}
