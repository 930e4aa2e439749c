//! The engine against the naive reference, by UDP and TCP, in random worlds: a few thousand cases in an ordinary run, as
//! many as `DIFFERENTIAL_CASES` says otherwise. `DIFFERENTIAL_SEED` repeats one world.

use std::env::VarError;
use std::fmt::Write as _;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use fastrand::Rng;
use gslb_tests::reference::queries::Query;
use gslb_tests::reference::world::World;
use gslb_tests::reference::{Agreed, compare, hex};
use hickory_proto::rr::Record;

/// Queries asked in one world: some under each of a few states of health.
const QUERIES: u64 = 64;
const VIEWS: u64 = 4;
const CASES: u64 = 8192;

/// A number that the environment gives.
fn given(variable: &str) -> Option<u64> {
    match std::env::var(variable) {
        Ok(text) => Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}: expected a number"))),
        Err(VarError::NotPresent) => None,
        Err(error) => panic!("{variable}: {error}"),
    }
}

type Claim = fn(&Agreed) -> bool;

/// Kinds of answers that random cases must reach, or they show nothing.
const KINDS: [(&str, Claim); 20] = [
    ("FORMERR", |agreed| agreed.expected.rcode == 1),
    ("NXDOMAIN", |agreed| agreed.expected.rcode == 3),
    ("NOTIMP", |agreed| agreed.expected.rcode == 4),
    ("REFUSED", |agreed| agreed.expected.rcode == 5),
    ("YXDOMAIN", |agreed| agreed.expected.rcode == 6),
    ("BADVERS", |agreed| agreed.expected.rcode == 16),
    ("NODATA", |agreed| {
        agreed.expected.rcode == 0 && agreed.expected.answers.is_empty() && has(&agreed.expected.authorities, 6)
    }),
    ("referral", |agreed| agreed.expected.flags & 0x0400 == 0 && has(&agreed.expected.authorities, 2)),
    ("referral behind an alias", |agreed| has(&agreed.expected.answers, 5) && has(&agreed.expected.authorities, 2)),
    ("alias and address", |agreed| has(&agreed.expected.answers, 5) && has(&agreed.expected.answers, 1)),
    ("two aliases and more", |agreed| agreed.expected.answers.iter().filter(|record| is(record, 5)).count() > 2),
    ("two DNAMEs", |agreed| agreed.expected.answers.iter().filter(|record| is(record, 39)).count() > 1),
    ("HTTPS with a scope", |agreed| has(&agreed.expected.answers, 65) && scope(agreed) > 0),
    ("TXT with a scope", |agreed| has(&agreed.expected.answers, 16) && scope(agreed) > 0),
    ("CNAME with a scope", |agreed| is_alias_alone(agreed) && scope(agreed) > 0),
    ("scope of a split block", |agreed| matches!(scope(agreed), 24 | 56)),
    ("version of the zone", |agreed| agreed.expected.opt.as_ref().is_some_and(|opt| opt.zone_version.is_some())),
    ("complaint of a steered name", |agreed| {
        agreed.expected.rcode == 0 && agreed.expected.opt.as_ref().is_some_and(|opt| opt.error.is_some())
    }),
    ("truncated", |agreed| agreed.is_truncated),
    ("without the addresses that nobody needs", |agreed| agreed.is_shortened && !agreed.is_truncated),
];

fn has(section: &[Record], rtype: u16) -> bool {
    section.iter().any(|record| is(record, rtype))
}

fn is_alias_alone(agreed: &Agreed) -> bool {
    agreed.expected.answers.len() == 1 && has(&agreed.expected.answers, 5)
}

fn is(record: &Record, rtype: u16) -> bool {
    u16::from(record.record_type()) == rtype
}

fn scope(agreed: &Agreed) -> u8 {
    agreed.expected.opt.as_ref().and_then(|opt| opt.subnet.as_ref()).map_or(0, |subnet| subnet[3])
}

/// How many answers of each of [`KINDS`] there were.
type Counts = [AtomicU64; KINDS.len()];

/// Asks everything in the world of `seed`; fails with all that is needed to see why.
fn run_world(seed: u64, counts: &Counts) -> Result<(), String> {
    let world = World::random(seed);
    let mut rng = Rng::with_seed(seed ^ 0x5EED);
    for _ in 0..VIEWS {
        let view = world.random_view(&mut rng);
        let snapshot = world.snapshot(view.clone());
        let reference = world.reference(&view);
        for _ in 0..QUERIES / VIEWS {
            let Query { peer, packet } = Query::random(&mut rng, &world);
            let agreed = compare(&snapshot, &reference, peer, &packet).map_err(|what| {
                let mut report = format!("DIFFERENTIAL_SEED={seed}\n{world}\n");
                for (service, standings) in view.topology.services.iter().zip(&view.services) {
                    let shown = standings.standings.iter().map(|s| (s.verdict, s.share.percent(), s.is_taken_out));
                    // Writing to a string cannot fail.
                    let _ = writeln!(report, "{} {:?}", service.name, shown.collect::<Vec<_>>());
                }
                format!("{report}\n{peer} asks {}\n{what}", hex(&packet))
            })?;
            for ((_, is_of_kind), count) in KINDS.iter().zip(counts) {
                count.fetch_add(u64::from(agreed.as_ref().is_some_and(is_of_kind)), Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

#[test]
fn engine_gives_the_answers_of_the_naive_reference() {
    let counts = Counts::default();
    if let Some(seed) = given("DIFFERENTIAL_SEED") {
        return run_world(seed, &counts).unwrap_or_else(|report| panic!("{report}"));
    }
    let worlds = given("DIFFERENTIAL_CASES").unwrap_or(CASES).div_ceil(QUERIES);
    let next = AtomicU64::new(0);
    let work = || -> Result<(), String> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= worlds {
                return Ok(());
            }
            let result = catch_unwind(AssertUnwindSafe(|| run_world(seed, &counts)));
            let result = result.unwrap_or_else(|_| Err(format!("DIFFERENTIAL_SEED={seed}: a panic, see above")));
            result.inspect_err(|_| next.store(worlds, Ordering::Relaxed))?;
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let failed = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .find_map(|worker| worker.join().unwrap_or_else(|_| Err("a worker panicked".to_owned())).err())
    });
    if let Some(report) = failed {
        panic!("{report}");
    }
    println!("{} cases, each by UDP and TCP", worlds * QUERIES);
    for ((kind, _), count) in KINDS.iter().zip(&counts) {
        println!("{:8} {kind}", count.load(Ordering::Relaxed));
    }
    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) > 0), "no case was of one of these kinds");
}
