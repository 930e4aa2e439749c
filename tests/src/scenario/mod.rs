//! Failover scenarios: a topology, a script and the timeline that follows, under a virtual clock.
//!
//! The timeline has a line for everything that happens (`*`), for every verdict or share that changes, and for every
//! answer that changes; the laws of the DR rules are checked at each step.

mod proxies;
mod script;
mod simulation;

use std::fs;
use std::path::Path;

pub use script::{Action, Asker, RouterPart, Script, Target, parse_span};
pub use simulation::Simulation;

use shared::config::parse_topology;
use shared::problem::Problem;
use shared::topology::Topology;

/// Runs the scenario in `folder` and gives its timeline; fails with what is wrong in it, or with the law that it broke.
pub fn run(folder: &Path) -> Result<String, String> {
    let script = Script::parse(&read(&folder.join("script"))?).map_err(|mistakes| format!("script:\n{mistakes}"))?;
    let mut simulation = Simulation::new(load(folder, "topology.toml")?, script.askers);
    for (at, action) in script.actions {
        let topology = match &action {
            Action::Reload(file) => Some(load(folder, file)?),
            _ => None,
        };
        simulation.schedule(at, action, topology);
    }
    simulation.run_until(script.end)?;
    Ok(simulation.into_timeline())
}

/// Compares the timeline of the scenario in `folder` with the file `expected` in it, or writes that file when the
/// environment variable `UPDATE_EXPECTED` is 1. Fails with the first difference.
pub fn check(folder: &Path) -> Result<(), String> {
    let timeline = run(folder)?;
    if run(folder)? != timeline {
        return Err("the same script gave another timeline".to_owned());
    }
    let path = folder.join("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some_and(|value| value == "1") {
        return fs::write(&path, timeline).map_err(|error| format!("{}: {error}", path.display()));
    }
    let expected = read(&path)?;
    let mut lines = expected.lines().zip(timeline.lines()).enumerate();
    match lines.find(|(_, (expected, is))| expected != is) {
        Some((at, (expected, is))) => Err(format!("line {}:\n expected {expected}\n      got {is}", at + 1)),
        None if expected.lines().count() != timeline.lines().count() => {
            let (expected, is) = (expected.lines().count(), timeline.lines().count());
            Err(format!("expected {expected} lines, got {is}:\n{timeline}"))
        }
        None => Ok(()),
    }
}

fn load(folder: &Path, file: &str) -> Result<Topology, String> {
    let show = |problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n");
    parse_topology(file, &read(&folder.join(file))?).map_err(show)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
