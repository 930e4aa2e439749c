//! A small process beside the proxy that takes the VIPs off the machine when the proxy dies or hangs.
//!
//! It is the same program with another command. It hears of the proxy's life by a pipe: an octet every `BEAT`. The end of
//! the pipe is the end of the proxy; silence means that it hangs, and then others have taken over already.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::netlink::Netlink;
use super::sweep::{Lock, Traces};

/// The word on the command line that makes a process a watchdog.
pub const COMMAND: &str = "vrrp-watchdog";

/// The time between two signs of life.
pub(super) const BEAT: Duration = Duration::from_millis(100);

/// Silence for so long and what it takes to remove the VIPs are less than a second.
const SILENCE_MAX: Duration = Duration::from_millis(700);

/// The watchdog as the proxy sees it.
#[derive(Debug)]
pub(super) struct Watchdog {
    child: Child,
    life: Option<ChildStdin>,
    word: ChildStdout,
}

impl Watchdog {
    /// Starts it; it is ready once [`Self::is_ready`].
    pub(super) fn start(traces: &Traces) -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        // In a group of its own: what stops the proxy from a terminal does not reach it.
        command.arg(COMMAND).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let (life, word) = (child.stdin.take(), child.stdout.take());
        let (mut life, word) = (life.ok_or(io::ErrorKind::BrokenPipe)?, word.ok_or(io::ErrorKind::BrokenPipe)?);
        let mut line = serde_json::to_vec(traces)?;
        line.push(b'\n');
        life.write_all(&line)?;
        // One that hangs must not hang the proxy.
        rustix::io::ioctl_fionbio(&life, true)?;
        Ok(Self { child, life: Some(life), word })
    }

    /// Waits at most `limit` for it to say that it is; it waits itself for that of a proxy before to end.
    pub(super) fn is_ready(&mut self, limit: Duration) -> bool {
        let mut word = [0; 6];
        wait(&self.word, limit) && self.word.read(&mut word).is_ok_and(|len| len > 0)
    }

    /// Ends it without a look at what is here: another process has it now.
    pub(super) fn dismiss(mut self) {
        if let Some(life) = &mut self.life {
            // One that is gone does no harm.
            let _ = life.write(&[FAREWELL]);
        }
    }

    /// Tells it that the proxy lives; an error means that it does not itself.
    pub(super) fn beat(&mut self) -> io::Result<()> {
        let Some(life) = &mut self.life else { return Ok(()) };
        match life.write(b".") {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Watchdog {
    /// Ends it, once it has looked for leftovers.
    fn drop(&mut self) {
        self.life = None;
        let started = Instant::now();
        while started.elapsed() < SILENCE_MAX {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                _ => return,
            }
        }
        // It hangs.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Is the watchdog of the process that started this one, until that ends.
pub fn run() -> io::Result<()> {
    // It ends after the proxy, not with it. Nothing else runs in this process: what is blocked here is blocked in it.
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    signals.thread_block()?;
    let mut life = BufReader::new(io::stdin());
    let mut line = String::new();
    life.read_line(&mut line)?;
    let traces: Traces = serde_json::from_str(&line)?;
    let _lock = take_lock(&traces)?;
    let mut netlink = Netlink::open()?;
    let mut out = io::stdout();
    out.write_all(b"ready\n").and_then(|()| out.flush())?;
    let mut is_swept = false;
    loop {
        if !wait(io::stdin(), SILENCE_MAX) {
            if !std::mem::replace(&mut is_swept, true) {
                sweep(&traces, &mut netlink, "the proxy gives no sign of life");
            }
            continue;
        }
        is_swept = false;
        let heard = life.fill_buf()?;
        if heard.contains(&FAREWELL) {
            return Ok(());
        }
        let len = heard.len();
        if len == 0 {
            sweep(&traces, &mut netlink, "the proxy is gone");
            return Ok(());
        }
        life.consume(len);
    }
}

/// The watchdog of a proxy that just died may still be at work.
fn take_lock(traces: &Traces) -> io::Result<Lock> {
    let started = Instant::now();
    loop {
        match Lock::take(&traces.routers, "watchdog") {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && started.elapsed() < LOCK_LIMIT => {
                std::thread::sleep(Duration::from_millis(5));
            }
            taken => return taken,
        }
    }
}

fn sweep(traces: &Traces, netlink: &mut Netlink, why: &str) {
    let (removed, failure) = traces.sweep(netlink);
    if !removed.is_empty() {
        tracing::error!(why, removed = removed.join(", "), "watchdog: took VIPs off this machine");
    }
    if let Some(error) = failure {
        tracing::error!(%error, "watchdog: a VIP may be left on this machine");
    }
}

/// Whether there is something to read from `fd` within `limit`, be it its end.
fn wait(fd: impl AsFd, limit: Duration) -> bool {
    let Ok(limit) = Timespec::try_from(limit) else { return false };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&limit)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return ready.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Says that there is nothing to look after any more.
const FAREWELL: u8 = b'q';

/// Longer than a watchdog takes to remove what a dead proxy left.
const LOCK_LIMIT: Duration = Duration::from_secs(5);
