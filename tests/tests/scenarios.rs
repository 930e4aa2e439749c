//! Every folder of `scenarios/` gives its expected timeline and breaks no law on the way.

use std::path::{Path, PathBuf};

use gslb_tests::scenario;

#[test]
fn every_scenario_gives_its_expected_timeline() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = std::fs::read_dir(&folder).expect("tests/scenarios is there");
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    let check = |path: &PathBuf| scenario::check(path).err().map(|why| format!("{}: {why}", path.display()));
    let failures: Vec<String> = folders.iter().filter_map(check).collect();
    assert!(failures.is_empty(), "{} of {} scenarios:\n{}", failures.len(), folders.len(), failures.join("\n"));
    assert!(folders.len() >= SCENARIOS_MIN, "only {} scenarios", folders.len());
}

/// As many as there were; a moved folder must not go unnoticed.
const SCENARIOS_MIN: usize = 16;
