//! `tests/bench/run`: `gslb-dns` beside other servers; `tests/bench/proxy`: `region-proxy` beside HAProxy. Each prints
//! tables, and whether the goals hold.
//!
//! Two more words are for itself: `on-core N PROGRAM …` becomes that program on that core, `reflector ADDRESS` is the
//! server without DNS.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread;

use gslb_tests::bench::Stop;
use gslb_tests::bench::plan::Options;
use gslb_tests::bench::{goal, goals, measure, proxy, reflector, report, rounds};
use nix::sys::signal::{SigSet, Signal};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["on-core", core, program, rest @ ..] => become_program(core, program, rest),
        ["reflector", address] => {
            address.parse().map_err(|_| format!("{address}: no address")).and_then(reflector::run)
        }
        ["proxy", ..] => proxy::plan::Options::parse(&arguments[1..]).and_then(|options| compare_proxies(&options)),
        _ => Options::parse(&arguments).and_then(|options| compare(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints. Fails when a server was refused; a goal that is missed is printed and no failure, for it may be
/// the machine's.
fn compare(options: &Options) -> Result<(), String> {
    let stop = Stop::default();
    stop_at_signals(&stop)?;
    let results = measure::run(options, &stop)?;
    print!("{}{}", report::tables(&results, options), goal::table(&goals::goals(&results)));
    match results.refused.len() {
        0 => Ok(()),
        count => Err(format!("{count} times a server was not measured")),
    }
}

/// The same for proxies.
fn compare_proxies(options: &proxy::plan::Options) -> Result<(), String> {
    let stop = Stop::default();
    stop_at_signals(&stop)?;
    let results = proxy::measure::run(options, &stop)?;
    let goals = proxy::goals::goals(&results, &options.cases);
    print!("{}{}", proxy::report::tables(&results, options), goal::table(&goals));
    match results.refused.len() {
        0 => Ok(()),
        count => Err(format!("{count} times a proxy was not measured")),
    }
}

/// Lets the run end in order, servers and folders included, when it is told to by a signal.
fn stop_at_signals(stop: &Stop) -> Result<(), String> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    // Blocked here, before there is another thread, they reach none but the one that waits for them.
    signals.thread_block().map_err(|error| format!("signals: {error}"))?;
    let stop = stop.clone();
    thread::spawn(move || {
        if signals.wait().is_ok() {
            stop.set();
        }
    });
    Ok(())
}

/// Fails only; else this process is that program, on that core, and takes signals again.
fn become_program(core: &str, program: &str, arguments: &[&str]) -> Result<(), String> {
    rounds::pin(core.parse().map_err(|_| format!("{core}: no core"))?)?;
    SigSet::all().thread_unblock().map_err(|error| format!("signals: {error}"))?;
    Err(format!("{program}: {}", Command::new(program).args(arguments).exec()))
}
