//! What a process costs: CPU time, memory, and whether somebody else used its core. All by `/proc` (proc(5)).

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

/// The core of the server.
pub const SERVER_CORE: usize = 0;
/// The core of the generator.
pub const LOAD_CORE: usize = 1;

/// All counters at one moment.
#[derive(Debug)]
pub struct Reading {
    at: Instant,
    /// Run time of every thread of the server that lives.
    run: Duration,
    /// Clock ticks of the server in user mode and in the kernel, threads that have ended included.
    user_ticks: u64,
    kernel_ticks: u64,
    /// Run time of this process, which is the generator, and of the children that it has waited for.
    own: Duration,
    server_core: Duration,
    load_core: Duration,
}

/// What was used between two readings.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// CPU time of the server by its threads' run time: exact, but blind for threads that have ended meanwhile.
    pub exact: Duration,
    /// CPU time of the server by clock ticks of 10 ms.
    pub ticked: Duration,
    /// Share of it in user mode, 0 to 1, by clock ticks: sampled, so good to some percent of itself.
    pub user: f64,
    /// Share of the time in which the server ran.
    pub server_busy: f64,
    /// Share of the time in which others ran on either core: the greater one.
    pub foreign: f64,
}

/// Memory of a process and its children, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident, what is shared counted in full for each.
    pub rss_kib: u64,
    /// Resident, what is shared divided among those who share it.
    pub pss_kib: u64,
}

impl Reading {
    /// Reads the counters of `process` and its children.
    pub fn take(process: u32) -> Result<Self, String> {
        let mut reading = Self {
            at: Instant::now(),
            run: Duration::ZERO,
            user_ticks: 0,
            kernel_ticks: 0,
            own: threads("self") + ended_children()?,
            server_core: busy(SERVER_CORE)?,
            load_core: busy(LOAD_CORE)?,
        };
        for process in family(process) {
            // A child may end between the two: then it costs nothing any more.
            reading.run += threads(&process.to_string());
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            // The name, in brackets, may hold anything; user and kernel time are fields 14 and 15.
            let after_name = stat.rsplit_once(')').map_or("", |(_, after)| after);
            let mut fields = after_name.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
            reading.user_ticks += fields.next().unwrap_or(0);
            reading.kernel_ticks += fields.next().unwrap_or(0);
        }
        Ok(reading)
    }

    /// What was used since `before`.
    pub fn since(&self, before: &Self) -> Usage {
        let span = self.at - before.at;
        let share = |used: Duration| used.as_secs_f64() / span.as_secs_f64().max(1e-9);
        let (user, kernel) = (self.user_ticks - before.user_ticks, self.kernel_ticks - before.kernel_ticks);
        let exact = self.run.saturating_sub(before.run);
        let ticked = TICK * (user + kernel) as u32;
        let server_busy = share(exact.max(ticked));
        let foreign_server = share(self.server_core - before.server_core) - server_busy;
        let foreign_load = share(self.load_core - before.load_core) - share(self.own.saturating_sub(before.own));
        Usage {
            exact,
            ticked,
            user: user as f64 / (user + kernel).max(1) as f64,
            server_busy,
            foreign: foreign_server.max(foreign_load).max(0.0),
        }
    }
}

impl Memory {
    /// What `process` and its children hold now.
    pub fn read(process: u32) -> Self {
        let mut memory = Self::default();
        for process in family(process) {
            let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
            let kib = |key: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
                line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0)
            };
            memory.rss_kib += kib("Rss:");
            memory.pss_kib += kib("Pss:");
        }
        memory
    }
}

/// A process, its children, and theirs.
pub fn family(process: u32) -> Vec<u32> {
    let mut all = vec![process];
    let mut at = 0;
    while let Some(process) = all.get(at) {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let children: Vec<u32> =
            children.flat_map(|text| text.split_whitespace().map(str::parse).collect::<Vec<_>>()).flatten().collect();
        all.extend(children);
        at += 1;
    }
    all
}

/// Run time of every thread of `process` that lives.
fn threads(process: &str) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| run_time(&task.path().join("schedstat")).ok()).sum()
}

/// CPU time of the children of this process that have ended and were waited for.
fn ended_children() -> Result<Duration, String> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| format!("CPU time of children: {error}"))?;
    let micros = |time: TimeVal| Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or(0));
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}

/// The first number of a `schedstat`: time on the CPU in nanoseconds.
fn run_time(path: &Path) -> Result<Duration, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| format!("{}: {text:?} is no run time", path.display()))
}

/// How long a core was not idle, stolen time included.
fn busy(core: usize) -> Result<Duration, String> {
    let text = fs::read_to_string("/proc/stat").map_err(|error| format!("/proc/stat: {error}"))?;
    let name = format!("cpu{core} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    let line = line.ok_or_else(|| format!("there is no core {core}: the benchmark needs two"))?;
    let fields: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let busy = fields.iter().enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, ticks)| ticks).sum::<u64>();
    Ok(TICK * busy as u32)
}

/// USER_HZ is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn work_of_a_process_is_seen() {
        let mut busy =
            Command::new("timeout").args(["60", "sh", "-c", "while :; do :; done"]).spawn().expect("started");
        let before = Reading::take(busy.id()).expect("a reading");
        let is_seen = || Reading::take(busy.id()).expect("a reading").since(&before).exact > Duration::from_millis(20);
        while !is_seen() && before.at.elapsed() < Duration::from_secs(50) {
            std::hint::spin_loop();
        }
        let (is_seen, memory) = (is_seen(), Memory::read(busy.id()));
        // It passes the signal on to its child.
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(busy.id() as i32), nix::sys::signal::SIGTERM).expect("sent");
        busy.wait().expect("ended");
        assert!(is_seen);
        assert!(memory.rss_kib > 100);
    }
}
