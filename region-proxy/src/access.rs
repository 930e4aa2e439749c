//! The access log: a line for each request, written by a thread that nobody waits for.
//!
//! ```text
//! request ends ─► Pen: a line into its thread's own buffer ─► bounded channel ─► writer ─► file
//!                 │ full: the line is left out and counted    a chunk a tick
//! ```

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{AccessLog, LogFormat, Only};
use crate::relay::record::Record;

mod captured;
mod date;
mod httplog;
mod json;
mod line;
mod octets;
mod writer;

pub use captured::{Captured, capture_response};
pub use line::Line;
pub use writer::open;

use date::Dates;
use writer::Writer;

/// The log as all threads see it.
#[derive(Debug)]
pub struct Access {
    sender: SyncSender<Message>,
    /// Until the writer has it.
    receiver: Mutex<Option<Receiver<Message>>>,
    shared: Arc<Shared>,
    /// Lines left out that the log of the program was told of.
    told: AtomicU64,
}

/// What threads and the writer tell each other beside lines.
#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    left_out: AtomicU64,
    failed: AtomicU64,
    /// The file to write to from now on, where that is another than before.
    next: Mutex<Option<Option<File>>>,
}

/// What the writer is sent.
#[derive(Debug)]
enum Message {
    /// So many whole lines.
    Lines { octets: Vec<u8>, count: u32 },
    /// There may be another file.
    Look,
    /// Nothing more will come: whoever listens hears that all was written.
    Finish(SyncSender<()>),
}

/// Lines by what became of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LineCounts {
    /// In the file.
    pub written: u64,
    /// Not taken, since the writer was too far behind.
    pub left_out: u64,
    /// Not taken by the file.
    pub failed: u64,
}

impl Default for Access {
    fn default() -> Self {
        let (sender, receiver) = mpsc::sync_channel(CHUNKS_MAX);
        let (receiver, shared, told) = (Mutex::new(Some(receiver)), Arc::default(), AtomicU64::new(0));
        Self { sender, receiver, shared, told }
    }
}

impl Access {
    /// Starts the writer, which writes to `file` where there is one.
    ///
    /// # Errors
    /// When no thread is to be had.
    pub fn start(&self, file: Option<File>) -> std::io::Result<()> {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(receiver) = receiver else { return Ok(()) };
        let writer = Writer::new(file, Arc::clone(&self.shared));
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run(&receiver)).map(drop)
    }

    /// Has lines written to `file` from now on; `None`: nowhere.
    pub fn redirect(&self, file: Option<File>) {
        *self.shared.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        // A full channel wakes it anyway.
        let _ = self.sender.try_send(Message::Look);
    }

    /// Has all written that was sent, for no longer than `limit`; whether it was.
    pub fn finish(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let (done, is_done) = mpsc::sync_channel(1);
        let mut message = Message::Finish(done);
        while let Err(TrySendError::Full(again)) = self.sender.try_send(message) {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
            message = again;
        }
        is_done.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok()
    }

    /// What became of lines so far.
    pub fn counts(&self) -> LineCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Shared { written, left_out, failed, .. } = &*self.shared;
        LineCounts { written: read(written), left_out: read(left_out), failed: read(failed) }
    }

    /// Says in the log of the program how many lines were left out since it last did.
    pub fn tell(&self) {
        let left_out = self.shared.left_out.load(Ordering::Relaxed);
        let lines = left_out - self.told.swap(left_out, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(lines, "access log: lines left out, its file is too slow");
        }
    }
}

/// What one thread writes lines with.
#[derive(Debug, Default)]
pub struct Pen {
    buffer: RefCell<Vec<u8>>,
    lines: Cell<u32>,
    passed_over: Cell<u32>,
    dates: Dates,
}

impl Pen {
    /// Writes the line of `record`, if one is wanted and there is room for it.
    pub fn write(&self, access: &Access, log: &AccessLog, record: &Record, line: &Line<'_>) {
        if !self.is_wanted(log, record) {
            return;
        }
        let mut buffer = self.buffer.borrow_mut();
        if buffer.len() >= PEN_OCTETS_MAX {
            access.shared.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let date = self.dates.at(line.began_unix_ms);
        match record.text.as_ref().map_or(log.format, Captured::format) {
            LogFormat::Json => json::write(&mut buffer, record, line, &date),
            LogFormat::Httplog => httplog::write(&mut buffer, log, record, line, &date),
        }
        buffer.push(b'\n');
        self.lines.set(self.lines.get() + 1);
        if buffer.len() >= CHUNK_OCTETS {
            drop(buffer);
            self.flush(access);
        }
    }

    /// Gives the writer what there is; what it does not take now stays for the next time.
    pub fn flush(&self, access: &Access) {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.is_empty() {
            return;
        }
        let count = self.lines.get();
        match access.sender.try_send(Message::Lines { octets: std::mem::take(&mut buffer), count }) {
            Ok(()) => {
                self.lines.set(0);
                buffer.reserve(CHUNK_OCTETS.min(4096));
            }
            Err(TrySendError::Full(Message::Lines { octets, .. })) => *buffer = octets,
            Err(_) => self.lines.set(0),
        }
    }

    fn is_wanted(&self, log: &AccessLog, record: &Record) -> bool {
        if !record.is_normal() {
            return true;
        }
        let passed_over = self.passed_over.get() + 1;
        let is_wanted = log.only == Only::All && passed_over >= log.sample;
        self.passed_over.set(if is_wanted || log.only == Only::Errors { 0 } else { passed_over });
        is_wanted
    }
}

/// Lines are handed over when there are so many octets of them, and at every tick.
const CHUNK_OCTETS: usize = 32 * 1024;

/// What may wait for the writer; together with what each thread holds, all that a file that takes nothing costs.
const CHUNKS_MAX: usize = 128;

/// What a thread holds at most while the writer takes nothing.
const PEN_OCTETS_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
