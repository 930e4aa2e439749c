//! `cargo demo`: three regions and a node on this machine. `cargo demo -- --script FILE` runs a script and checks it.

use std::path::Path;
use std::process::ExitCode;

use gslb_tests::demo::{run_live, run_script};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [] => run_live(),
        ["--script", file] => run_script(Path::new(file)),
        _ => {
            eprintln!("usage: cargo demo [-- --script FILE]");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("demo: {why}");
            ExitCode::FAILURE
        }
    }
}
