//! The thread that writes lines to their file: it alone waits for a slow or full disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::{Message, Shared};
use crate::config::LogTarget;
use crate::live::throttle::Throttle;

/// What the thread has.
#[derive(Debug)]
pub(super) struct Writer {
    file: Option<File>,
    /// Whether the last line in it has no end.
    is_torn: bool,
    failures: Throttle,
    shared: Arc<Shared>,
}

/// Opens `target` for lines at its end, and makes the file where there is none.
///
/// # Errors
/// Named by the file: when it can be neither opened nor made, or is a pipe that nobody reads.
pub fn open(target: &LogTarget) -> io::Result<File> {
    match target {
        LogTarget::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        LogTarget::File(path) => {
            let mut options = OpenOptions::new();
            // Without waiting for the reader of a pipe; whoever writes then may wait.
            options.append(true).create(true).mode(0o640).custom_flags(OFlag::O_NONBLOCK.bits());
            let named =
                |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}{}", path.display(), hint(&error)));
            let file = options.open(path).map_err(named)?;
            fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
            Ok(file)
        }
    }
}

/// What to do about the commonest ways in which a file cannot be opened.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ": expected an owner or a mode that lets the proxy's user write there",
        io::ErrorKind::NotFound => ": expected a folder that is there",
        _ => "",
    }
}

impl Writer {
    /// Writes to `file`.
    pub(super) fn new(file: Option<File>, shared: Arc<Shared>) -> Self {
        Self { file, is_torn: false, failures: Throttle::default(), shared }
    }

    /// Writes what comes until nobody can send any more.
    pub(super) fn run(mut self, receiver: &Receiver<Message>) {
        while let Ok(message) = receiver.recv() {
            self.look();
            match message {
                Message::Look => {}
                Message::Lines { octets, count } => self.write(&octets, count.into()),
                // Whoever asked may be gone.
                Message::Finish(done) => drop(done.try_send(())),
            }
        }
    }

    /// Goes on with another file, when there is one.
    fn look(&mut self) {
        let next = self.shared.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(file) = next {
            (self.file, self.is_torn) = (file, false);
        }
    }

    fn write(&mut self, octets: &[u8], lines: u64) {
        // Lines that were on their way when the log was turned off.
        let Some(file) = &mut self.file else { return };
        let end: &[u8] = if self.is_torn { b"\n" } else { b"" };
        let (sent, outcome) = match write_some(file, end) {
            (_, Ok(())) => write_some(file, octets),
            failed => (0, failed.1),
        };
        let written = memchr::memchr_iter(b'\n', &octets[..sent]).count() as u64;
        self.shared.written.fetch_add(written, Ordering::Relaxed);
        match outcome {
            Ok(()) => self.is_torn = false,
            Err(error) => {
                self.is_torn = sent > 0 && octets[sent - 1] != b'\n' || sent == 0 && self.is_torn;
                self.shared.failed.fetch_add(lines - written, Ordering::Relaxed);
                if let Some(left_out) = self.failures.pass(Instant::now()) {
                    let lines = lines - written;
                    tracing::error!(%error, lines, left_out, "access log: lines lost");
                }
            }
        }
    }
}

/// Writes as much of `octets` as can be; how much that was.
fn write_some(file: &mut File, octets: &[u8]) -> (usize, io::Result<()>) {
    let mut sent = 0;
    while sent < octets.len() {
        match file.write(&octets[sent..]) {
            Ok(0) => return (sent, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (sent, Err(error)),
        }
    }
    (sent, Ok(()))
}
