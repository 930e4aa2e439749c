//! The demo without a terminal: every step of a script must hold.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::command::Command;
use super::expect::Eyes;
use super::stage::Stage;
use super::watch::Watches;
use crate::harness::within;

/// Runs the script at `path` and prints each step; fails at the first that does not hold.
pub fn run_script(path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let steps = read(&text).map_err(|mistakes| format!("{}:\n{mistakes}", path.display()))?;
    let start = Instant::now();
    let mut stage = Stage::start(|line| println!("{line}"))?;
    let eyes = Eyes::new();
    println!("{}", eyes.describe());
    let mut watches = Watches::default();
    for (line, command) in &steps {
        let at = start.elapsed().as_secs_f64();
        match step(&mut stage, eyes, &mut watches, command) {
            Ok(seen) => println!("{at:7.2}s  ok  {line}{}{seen}", if seen.is_empty() { "" } else { "  → " }),
            Err(why) => return Err(failure(&mut stage, line, &why)),
        }
    }
    println!("{:7.2}s  all {} steps held", start.elapsed().as_secs_f64(), steps.len());
    Ok(())
}

/// The steps with their text; fails with every mistake.
fn read(text: &str) -> Result<Vec<(String, Command)>, String> {
    let mut mistakes = Vec::new();
    let mut steps = Vec::new();
    for (at, line) in text.lines().enumerate() {
        match Command::parse(line) {
            Ok(Some(command)) => steps.push((line.split('#').next().unwrap_or_default().trim().to_owned(), command)),
            Ok(None) => {}
            Err(mistake) => mistakes.push(format!("line {}: {mistake}", at + 1)),
        }
    }
    if mistakes.is_empty() { Ok(steps) } else { Err(mistakes.join("\n")) }
}

fn step(stage: &mut Stage, eyes: Eyes, watches: &mut Watches, command: &Command) -> Result<String, String> {
    match command {
        Command::Expect(expected, limit) => {
            let (seen, took) = within(*limit, || eyes.check(&stage.world, watches, expected))?;
            let took = if limit.is_zero() { String::new() } else { format!(" after {} ms", took.as_millis()) };
            Ok(format!("{seen}{took}"))
        }
        Command::Watch(name, client) => {
            watches.add(stage.world.dns(), name, *client);
            Ok(String::new())
        }
        other => stage.act(other).map(|text| text.trim().replace('\n', "\n          ")),
    }
}

fn failure(stage: &mut Stage, line: &str, why: &str) -> String {
    let log = stage.world.node().map(|node| node.log_tail()).unwrap_or_else(|why| why);
    format!("FAILED  {line}\n        {why}\n\nThe last lines of gslb-dns:\n{log}")
}
