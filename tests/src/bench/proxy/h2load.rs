//! HTTP/2 by h2load of nghttp2.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::case::{Ability, HOST, PAGE_1K};
use super::client::FIELDS_OF_BROWSERS;
use super::load::Outcome;
use super::peers::local;
use crate::bench::histogram::Histogram;
use crate::harness::tools::find;

/// How h2load asks.
#[derive(Clone, Copy, Debug)]
pub struct H2load<'a> {
    /// Port of the proxy.
    pub port: u16,
    /// HTTP/2 with or without TLS.
    pub ability: Ability,
    /// Connections.
    pub connections: usize,
    /// Streams under way on each.
    pub streams: usize,
    /// For its file of latencies.
    pub folder: &'a Path,
}

impl H2load<'_> {
    /// Asks for `span`; fails when a request does.
    pub fn drive(&self, span: Duration) -> Result<Outcome, String> {
        let program = find("h2load");
        let program = program.ok_or("h2load is missing: install the Debian package nghttp2-client")?;
        let scheme = if self.ability == Ability::H2Tls { "https" } else { "http" };
        let log = self.folder.join("h2load.log");
        let mut command = Command::new(program);
        command.args(["--threads=1", "--clients", &self.connections.to_string()]);
        command.args(["--max-concurrent-streams", &self.streams.to_string()]);
        command.arg(format!("--duration={}ms", span.as_millis())).arg("--log-file").arg(&log);
        for (name, value) in FIELDS_OF_BROWSERS {
            command.arg("--header").arg(format!("{name}: {value}"));
        }
        command.args(["--header", &format!(":authority: {HOST}")]);
        command.args(["--header", "cookie: session=0123456789abcdef0123456789abcdef"]);
        let output = command.arg(format!("{scheme}://{}{}", local(self.port), PAGE_1K.path)).output();
        let output = output.map_err(|error| format!("h2load: {error}"))?;
        let told = String::from_utf8_lossy(&output.stdout);
        let failed = || format!("h2load: {}\n{}", told.trim(), String::from_utf8_lossy(&output.stderr).trim());
        let mut outcome = read_summary(&told).ok_or_else(failed)?;
        let log = std::fs::read_to_string(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        outcome.latency = read_latencies(&log);
        Ok(outcome)
    }
}

/// What h2load says; `None` when a request failed, or it says something else.
fn read_summary(told: &str) -> Option<Outcome> {
    let line = |start: &str| told.lines().find_map(|line| line.strip_prefix(start));
    let number = |counts: &str, what: &str| {
        counts.split(", ").find_map(|count| count.trim().strip_suffix(what)?.trim().parse::<u64>().ok())
    };
    let requests = line("requests: ")?;
    let answered = number(requests, "succeeded")?;
    if number(requests, "failed")? > 0 || number(requests, "errored")? > 0 || answered == 0 {
        return None;
    }
    if number(line("status codes: ")?, "2xx")? < answered {
        return None;
    }
    let span = line("finished in ")?.split(',').next()?;
    // The longer unit first: "ms" ends in "s" too.
    let units = [("ms", 1e3), ("us", 1e6), ("s", 1.0)];
    let span = units.iter().find_map(|(unit, each)| Some(span.strip_suffix(unit)?.parse::<f64>().ok()? / each))?;
    Some(Outcome { answered, latency: Histogram::default(), span: Duration::try_from_secs_f64(span).ok()? })
}

/// Lines of start, status and microseconds.
fn read_latencies(log: &str) -> Histogram {
    let mut latency = Histogram::default();
    for micros in log.lines().filter_map(|line| line.split('\t').nth(2)?.parse::<u64>().ok()) {
        latency.add(micros * 1000);
    }
    latency
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(requests: &str) -> Option<Outcome> {
        read_summary(&format!(
            "finished in 600.51ms, 61022.00 req/s, 65.27MB/s\nrequests: {requests}, 0 timeout\nstatus codes: 36613 2xx, \
             0 3xx, 0 4xx, 0 5xx\n"
        ))
    }

    #[test]
    fn requests_and_time_are_read_and_failures_are_none() {
        let outcome = summary("36613 total, 36869 started, 36613 done, 36613 succeeded, 0 failed, 0 errored");
        let outcome = outcome.expect("a summary");
        assert_eq!((outcome.answered, outcome.span), (36613, Duration::from_micros(600_510)));
        assert!(summary("36613 total, 36869 started, 36613 done, 36612 succeeded, 1 failed, 0 errored").is_none());
        assert!(read_summary("").is_none());
    }

    #[test]
    fn latencies_are_those_of_the_log() {
        let latency = read_latencies("1789\t200\t250\n1790\t200\t260\nx\n");
        let most = latency.quantile(1.0).expect("two latencies");
        assert!(most >= Duration::from_micros(260) && most < Duration::from_micros(266), "{most:?}");
    }
}
