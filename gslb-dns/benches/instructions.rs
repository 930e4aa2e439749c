//! How many instructions an answer takes, counted by valgrind and compared with what is stored.
//!
//! ```text
//! cargo bench -p gslb-dns --bench instructions                      fails when a kind of query takes over 10 % more
//! UPDATE_EXPECTED=1 cargo bench -p gslb-dns --bench instructions    stores the figures as they are now
//! ```
//! Unlike times, counts are nearly the same in every run; they hold for one version of the compiler on one architecture.
//! Which names meet in a table is a matter of chance, since each has a seed of its own: a count is the mean over many tables.

mod inputs;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::{env, fs, thread};

use gslb_dns::answer::Snapshot;
use inputs::{Kind, Query, World, answer_all, hosts, kinds};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == COUNTED) {
        run_counted(arguments.get(at + 1).map_or("", String::as_str));
        return ExitCode::SUCCESS;
    }
    match count_all().and_then(|counts| judge(&counts)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn all_kinds() -> Vec<Kind> {
    kinds(QUERIES).into_iter().chain([hosts(HOSTS, QUERIES)]).collect()
}

/// Answers the queries of one kind.
fn run_counted(name: &str) {
    let world = World::new(2);
    let kind = all_kinds().into_iter().find(|kind| kind.name == name).expect("the name of a kind");
    let mut out = vec![0; 65_535];
    let mut sent = 0;
    for queries in kind.queries.chunks(QUERIES / TABLES) {
        let snapshot = world.snapshot(world.zones(HOSTS));
        sent += count_these(&snapshot, queries, &mut out);
    }
    assert!(sent > 0, "{name}: nothing was sent");
}

/// What valgrind counts: everything from its call to its return.
#[inline(never)]
fn count_these(snapshot: &Snapshot, queries: &[Query], out: &mut [u8]) -> usize {
    // Not the last thing it does, else it would be no call of its own.
    black_box(answer_all(snapshot, queries, out))
}

/// Instructions a query by kind; each kind is counted by a process of its own, as many at a time as there are cores.
fn count_all() -> Result<BTreeMap<String, u64>, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let names = Mutex::new(all_kinds().into_iter().map(|kind| kind.name));
    let next = || names.lock().ok().and_then(|mut names| names.next());
    let work = || -> Vec<Result<(String, u64), String>> {
        std::iter::from_fn(next).map(|name| Ok((name.to_owned(), count(name, &folder)?))).collect()
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no worker panics")).collect()
    })
}

/// Instructions a query of the kind `name`.
fn count(name: &str, folder: &Path) -> Result<u64, String> {
    let counts = folder.join(name);
    let this = env::current_exe().map_err(|error| error.to_string())?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet", "--toggle-collect=*count_these*"]);
    valgrind.arg(format!("--callgrind-out-file={}", counts.display())).arg(this).args([COUNTED, name]);
    let output = valgrind.output().map_err(|error| format!("valgrind cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("valgrind: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(total_of(&counts)? / QUERIES as u64)
}

/// The sum that a dump of callgrind ends with.
fn total_of(dump: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(dump).map_err(|error| format!("{}: {error}", dump.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    total.and_then(|total| total.trim().parse().ok()).ok_or_else(|| format!("{}: no total in it", dump.display()))
}

/// Compares `counts` with those stored; fails with the kinds that take too many.
fn judge(counts: &BTreeMap<String, u64>) -> Result<(), String> {
    let file = stored();
    if env::var_os("UPDATE_EXPECTED").is_some() {
        let lines: String = counts.iter().map(|(kind, count)| format!("{kind} {count}\n")).collect();
        return fs::write(&file, lines).map_err(|error| format!("{}: {error}", file.display()));
    }
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let parse =
        |line: &str| line.split_once(' ').and_then(|(kind, count)| Some((kind.to_owned(), count.parse().ok()?)));
    let stored: BTreeMap<String, u64> = text.lines().filter_map(parse).collect();
    let mut is_worse = stored.keys().ne(counts.keys());
    println!("{:24} {:>8} {:>8} {:>7}", "instructions a query", "stored", "now", "");
    for (kind, &now) in counts {
        let then = stored.get(kind).copied().unwrap_or_default();
        let percent = now as f64 / then as f64 * 100.0 - 100.0;
        println!("{kind:24} {then:8} {now:8} {percent:+6.1}%");
        is_worse |= percent > LIMIT_PERCENT;
        if percent < -LIMIT_PERCENT {
            println!("{kind}: much less than stored: {HOW_TO_STORE}");
        }
    }
    let file = file.display();
    let what = format!(
        "{file}: a kind is new or gone, or takes over {LIMIT_PERCENT} % more. If that is meant: {HOW_TO_STORE}"
    );
    if is_worse && !cfg!(target_arch = "x86_64") {
        println!("not judged: what is stored was counted on x86_64");
        return Ok(());
    }
    if is_worse { Err(what) } else { Ok(()) }
}

fn stored() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/bench/instructions.txt")
}

/// The argument of the process that is counted.
const COUNTED: &str = "--counted";
const QUERIES: usize = 500;
/// Of so many, a name that meets others in one moves the mean by some thousandths.
const TABLES: usize = 20;
/// Enough that the table is no longer a small one, few enough to load under valgrind.
const HOSTS: usize = 2000;
const LIMIT_PERCENT: f64 = 10.0;
const HOW_TO_STORE: &str = "store it with UPDATE_EXPECTED=1 cargo bench -p gslb-dns --bench instructions";
