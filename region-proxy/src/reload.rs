//! New settings in a running proxy: all of them or none.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use shared::problem::Problem;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::access;
use crate::admin;
use crate::config::{Config, Contact, LogTarget};
use crate::control;
use crate::live::Proxy;
use crate::peering;
use crate::serve::permissions;
use crate::serve::sockets::Sockets;
use crate::switching;
use crate::takeover::Takeover;
use crate::tls::{Certificates, Front};

/// The settings in `file` and in the files that it names, or every mistake in them.
pub fn read(file: &Path) -> Result<Config, Vec<Problem>> {
    Config::parse(file, &text(file)?, &named)
}

/// Where the proxy is reached that runs by `file`.
pub fn read_contact(file: &Path) -> Result<Contact, Vec<Problem>> {
    Contact::parse(file, &text(file)?, &named)
}

fn text(file: &Path) -> Result<String, Vec<Problem>> {
    std::fs::read_to_string(file).map_err(|error| {
        let (file, what) = (file.display().to_string(), error.to_string());
        vec![Problem { file, line: None, key: String::new(), what }]
    })
}

/// The text of a file that settings name.
fn named(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// How reloads went.
#[derive(Debug, Default)]
pub struct ReloadCounts {
    taken: AtomicU64,
    refused: AtomicU64,
    last: Mutex<Option<LastReload>>,
}

/// How the last one went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastReload {
    /// When it was.
    pub at: Timestamp,
    /// Why it was refused; empty: it was not.
    pub problems: Vec<String>,
}

impl ReloadCounts {
    /// Those that were taken over, and those that were refused.
    pub fn counts(&self) -> [u64; 2] {
        [self.taken.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed)]
    }

    /// The last one; `None`: there was none.
    pub fn last(&self) -> Option<LastReload> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, problems: &[Problem]) {
        let count = if problems.is_empty() { &self.taken } else { &self.refused };
        count.fetch_add(1, Ordering::Relaxed);
        let problems = problems.iter().take(SHOWN_MAX);
        let problems = problems.map(|problem| problem.to_string().chars().take(PROBLEM_MAX).collect()).collect();
        let last = Some(LastReload { at: Timestamp::now(), problems });
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }
}

/// Why settings are read again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// SIGHUP: an operator wants to know how it went.
    Asked,
    /// Something in the folder of the file changed: perhaps not the settings.
    FolderChanged,
}

/// What came of settings that were read again.
#[derive(Clone, Debug, Default)]
pub struct Reloaded {
    /// The mistakes for which they were not taken over; empty: they were.
    pub problems: Vec<Problem>,
    /// The keys of those in force that wait for a restart or an upgrade.
    pub waiting: Vec<&'static str>,
}

/// Reads the settings anew and remembers what it said of them.
#[derive(Debug)]
pub struct Reloader {
    file: PathBuf,
    proxy: Arc<Proxy>,
    started: Config,
    last_problems: Vec<Problem>,
}

impl Reloader {
    /// For `proxy`, which just started by the settings in `file`.
    pub fn new(file: PathBuf, proxy: Arc<Proxy>) -> Self {
        let started = proxy.control().file().clone();
        Self { file, proxy, started, last_problems: Vec::new() }
    }

    /// Puts the settings of the file in the place of the present ones, or leaves those when there is any mistake;
    /// `sockets` and `vips` follow.
    ///
    /// Requests in flight end by the settings that they began with. Files are read aside, so that nothing here waits.
    pub async fn reload(&mut self, cause: Cause, sockets: &mut Sockets, vips: &mut Takeover) {
        let (file, proxy) = (self.file.clone(), Arc::clone(&self.proxy));
        let Ok(found) = tokio::task::spawn_blocking(move || Found::read(cause, &file, &proxy)).await else { return };
        match (found.config, found.certificates) {
            (Ok(next), Ok(certificates)) => {
                if self.take_over(cause, next, certificates, found.warnings, sockets, vips).await {
                    let _saving = self.proxy.saving.lock().await;
                    // It has told of a failure, for which nobody waits.
                    let _ = admin::servers::save(&self.proxy).await;
                }
            }
            // A certificate that was renewed does not wait until the settings are right.
            (Err(problems), certificates) => {
                self.refuse(cause, problems);
                if let Ok(certificates) = certificates {
                    self.replace_certificates(certificates);
                }
            }
            (_, Err(problems)) => self.refuse(cause, problems),
        }
        if let Some(log) = found.log
            && log.target == target_of(&self.proxy.live.load().config)
        {
            self.proxy.access.redirect(log.file);
        }
    }

    /// Whether what operators changed is to be saved anew.
    async fn take_over(
        &mut self,
        cause: Cause,
        next: Config,
        certificates: Certificates,
        warnings: Vec<Problem>,
        sockets: &mut Sockets,
        vips: &mut Takeover,
    ) -> bool {
        if next == *self.proxy.control().file() && cause == Cause::FolderChanged {
            if !std::mem::take(&mut self.last_problems).is_empty() {
                self.proxy.reload_counts.note(&[]);
                tracing::info!(file = %self.file.display(), "settings are right again, and those in force");
            }
            self.replace_certificates(certificates);
            return false;
        }
        let file = self.file.display().to_string();
        let problem = |key: &str, what| Problem { file: file.clone(), line: None, key: key.to_owned(), what };
        let change = sockets.prepare(&next).map_err(|error| problem("listen", error.to_string()));
        let sharing = vips.prepare(&next.vrrp).map_err(|error| problem("vrrp", error.to_string()));
        let (change, sharing) = match (change, sharing) {
            (Ok(change), Ok(sharing)) => (change, sharing),
            (change, sharing) => {
                self.refuse(cause, [change.err(), sharing.err()].into_iter().flatten().collect());
                return false;
            }
        };
        self.last_problems.clear();
        let are_others = self.replace_certificates(certificates);
        for key in self.started.restart_keys(&next) {
            tracing::warn!(key, "takes effect only after a restart or an upgrade");
        }
        let had_file = self.proxy.live.load().config.state_file.clone();
        let is_other_file = next.state_file != had_file;
        let is_dropping = control::install(&self.proxy, next);
        sockets.commit(change);
        vips.commit(sharing).await;
        self.proxy.reload_counts.note(&[]);
        // What `check` says of them.
        for problem in warnings {
            tracing::warn!(%problem, "settings");
        }
        if !are_others {
            self.proxy.tls.front.load().as_deref().into_iter().for_each(log_warnings);
        }
        tracing::info!(file, "settings reloaded");
        is_dropping || is_other_file
    }

    /// What came of the settings when they were read last.
    pub fn outcome(&self) -> Reloaded {
        let waiting = self.started.restart_keys(self.proxy.control().file());
        Reloaded { problems: self.last_problems.clone(), waiting }
    }

    fn refuse(&mut self, cause: Cause, problems: Vec<Problem>) {
        if cause == Cause::Asked || problems != self.last_problems {
            self.proxy.reload_counts.note(&problems);
            for problem in &problems {
                tracing::error!(%problem, "mistake in the settings");
            }
            let file = self.file.display().to_string();
            tracing::error!(file, mistakes = problems.len(), "settings not reloaded: the old ones stay");
        }
        self.last_problems = problems;
    }

    /// The next handshake of each thread, with clients and servers, sees `certificates`; whether clients find others than
    /// before.
    fn replace_certificates(&self, certificates: Certificates) -> bool {
        let Certificates { front, back } = certificates;
        let are_others = self.replace_front(front);
        if self.proxy.tls.back.load().is_same(&back) {
            return are_others;
        }
        for problem in &back.broken {
            tracing::error!(%problem, "certificate for servers not reloaded: the old one stays");
        }
        tracing::info!(broken = back.broken.len(), "certificates for servers reloaded");
        self.proxy.live.load().equip(&back);
        self.proxy.tls.back.store(Arc::new(back));
        are_others
    }

    /// The next handshake of each thread sees `front`, whose warnings are logged; connections go on by what they began
    /// with. Whether it is another than before.
    fn replace_front(&self, front: Option<Front>) -> bool {
        let Some(front) = front else { return false };
        let before = self.proxy.tls.front.load_full();
        if before.as_deref().is_some_and(|before| before.is_same(&front)) {
            return false;
        }
        for problem in &front.broken {
            tracing::error!(%problem, "certificate not reloaded: the old one stays");
        }
        log_warnings(&front);
        tracing::info!(certificates = front.identities().len(), broken = front.broken.len(), "certificates reloaded");
        self.proxy.tls.front.store(Some(Arc::new(front)));
        true
    }
}

/// What the files say.
struct Found {
    config: Result<Config, Vec<Problem>>,
    /// By these settings; where they have mistakes, by the present ones.
    certificates: Result<Certificates, Vec<Problem>>,
    /// What is seldom meant in these settings.
    warnings: Vec<Problem>,
    /// To be written from now on if they are taken over; `None`: the access log goes on as it is.
    log: Option<OpenedLog>,
}

/// An access log that was opened, or none if none is wanted.
struct OpenedLog {
    target: Option<LogTarget>,
    file: Option<File>,
}

impl Found {
    fn read(cause: Cause, file: &Path, proxy: &Proxy) -> Self {
        let present = proxy.live.load();
        let problem =
            |key: &str, what| Problem { file: file.display().to_string(), line: None, key: key.to_owned(), what };
        let config = read(file).and_then(|next| {
            if next.l4 != present.config.l4 {
                switching::preflight(&next).map_err(|error| vec![problem("l4", error.to_string())])?;
            }
            let reached = peering::preflight(&present.config, &next);
            reached.map_err(|error| vec![problem("peers", error.to_string())]).map(|()| next)
        });
        // When asked to it may have been moved away, whatever the settings are like.
        let target = target_of(config.as_ref().unwrap_or(&present.config));
        let is_opened = cause == Cause::Asked || target != target_of(&present.config);
        let log = is_opened.then(|| OpenedLog::open(target)).transpose();
        let (log, config) = match log {
            Ok(log) => (log, config),
            Err(error) => {
                let problems = config.err().unwrap_or_default();
                (None, Err([problems, vec![problem("access_log", error.to_string())]].concat()))
            }
        };
        let certificates = Certificates::read(config.as_ref().unwrap_or(&present.config), Some(&proxy.tls));
        let warnings = config.as_ref().map(|config| permissions::warnings(file, config)).unwrap_or_default();
        Self { config, certificates, warnings, log }
    }
}

impl OpenedLog {
    fn open(target: Option<LogTarget>) -> io::Result<Self> {
        let file = target.as_ref().map(access::open).transpose()?;
        Ok(Self { target, file })
    }
}

fn target_of(config: &Config) -> Option<LogTarget> {
    config.access_log.as_ref().map(|log| log.target.clone())
}

/// Logs what operators should know of certificates that are used.
pub fn log_warnings(front: &Front) {
    for problem in front.warnings(Timestamp::now()) {
        tracing::warn!(%problem, "certificate");
    }
}

/// Watches the folders of files: editors and config management replace files rather than write to them.
#[derive(Debug)]
pub struct Watch {
    watcher: notify::RecommendedWatcher,
    /// That of the settings.
    folder: PathBuf,
    /// Those of the other files.
    others: BTreeSet<PathBuf>,
    changes: mpsc::Receiver<()>,
}

impl Watch {
    /// Watches the folder of `file`.
    pub fn start(file: &Path) -> notify::Result<Self> {
        let (sender, changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| may_change(event.kind)) {
                // A full channel means that a change is waiting to be seen already.
                let _ = sender.try_send(());
            }
        })?;
        let folder = folder_of(file);
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        Ok(Self { watcher, folder, others: BTreeSet::new(), changes })
    }

    /// Watches the folders of `files` besides, and no others.
    pub fn follow<'f>(&mut self, files: impl Iterator<Item = &'f Path>) {
        let wanted: BTreeSet<PathBuf> = files.map(folder_of).filter(|folder| *folder != self.folder).collect();
        for gone in self.others.difference(&wanted) {
            // It may have been deleted, and its watch with it.
            let _ = self.watcher.unwatch(gone);
        }
        for new in wanted.difference(&self.others) {
            if let Err(error) = self.watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %new.display(), %error, "certificates are not watched: use SIGHUP");
            }
        }
        self.others = wanted;
    }

    /// Waits for a change and for the moment of quiet after it, but not for ever.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            return std::future::pending().await;
        }
        let quiet = async { while timeout(QUIET, self.changes.recv()).await.is_ok_and(|change| change.is_some()) {} };
        // Either way what the files say now is read.
        let _ = timeout(QUIET_WAIT_MAX, quiet).await;
    }
}

fn folder_of(file: &Path) -> PathBuf {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Reading the settings is an event too, which must not lead to reading them again.
fn may_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// Mistakes that are shown.
const SHOWN_MAX: usize = 20;

/// What is shown of each, in characters: settings may quote much, and `gslb-dns` reads a status whole.
const PROBLEM_MAX: usize = 500;

/// How long a file may rest between the parts of one change.
const QUIET: Duration = Duration::from_millis(50);

/// In a folder that something writes to all the time, quiet never comes.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_never_rests_holds_no_reload_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut watch = Watch::start(&folder.path().join("p.toml")).expect("watched");
        let log = folder.path().join("log");
        let writing = tokio::spawn(async move {
            for count in 0_u32.. {
                std::fs::write(&log, count.to_string()).expect("written");
                tokio::time::sleep(QUIET / 5).await;
            }
        });
        let changed = tokio::time::timeout(QUIET_WAIT_MAX * 5, watch.changed()).await;
        writing.abort();
        assert!(changed.is_ok());
    }
}
