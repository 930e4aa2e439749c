//! Reading the topology from the tables `[probe]`, `[regions]` and `[services]` of the settings.
//!
//! Every mistake is reported with its key, its line and what would be right; a topology comes out only when there is
//! none. What is checked here is the proof that the doc comments in [`crate::topology`] rely on.

mod names;
mod probe;
mod records;
mod regions;
mod services;
mod status_url;
mod steering;
#[cfg(test)]
mod tests;

pub use steering::{NetworkError, parse_network};

use crate::problem::{Problem, Problems};
use crate::settings::{Document, Table};
use crate::topology::Topology;

/// The topology in the tables `probe`, `regions` and `services` of `root`; each may be absent.
///
/// `None` when they hold a mistake; all mistakes have gone to the problems of `root`.
pub fn read_topology(root: &Table<'_>) -> Option<Topology> {
    let found_before = root.problems().len();
    let probe = probe::read_probe(root);
    let regions = regions::read_regions(root);
    let (services, steerings) = services::read_services(root, &regions);
    let is_right = root.problems().len() == found_before;
    is_right.then_some(Topology { regions, services, steerings, probe })
}

/// The topology in `text`, which holds nothing but the tables of [`read_topology`]; `file` names it in problems.
///
/// Fails with every mistake, by line.
pub fn parse_topology(file: &str, text: &str) -> Result<Topology, Vec<Problem>> {
    let problems = Problems::new(file, text);
    let document = Document::parse(text, &problems);
    if !problems.is_empty() {
        // Keys may seem to be missing that the text has.
        drop(document);
        return Err(problems.into_vec());
    }
    let topology = read_topology(&document.root(&problems));
    drop(document);
    topology.filter(|_| problems.is_empty()).ok_or_else(|| problems.into_vec())
}
