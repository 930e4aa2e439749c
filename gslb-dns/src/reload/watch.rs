//! Noticing that a file in use has changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use super::Files;

/// Watches the folders of files: editors write a new file and rename it over the old one, which a watch on the file
/// itself would lose.
pub struct Watcher {
    /// `None` when the system gives no watch; then changes are found by looking now and then.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    events: mpsc::Receiver<()>,
}

impl Watcher {
    /// Watches nothing yet.
    pub fn new() -> Self {
        // One waiting event says as much as many.
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = sender.try_send(());
            }
        });
        let watcher = watcher.map_err(|error| warn!(%error, "cannot watch files: looking every few seconds instead"));
        Self { watcher: watcher.ok(), folders: BTreeSet::new(), events }
    }

    /// Watches the folders of `files`, and no others.
    pub fn follow(&mut self, files: &Files) {
        let wanted: BTreeSet<PathBuf> = files.paths().flat_map(folders_of).collect();
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.folders.difference(&wanted) {
            // It may have been deleted, and its watch with it.
            let _ = watcher.unwatch(gone);
        }
        for new in wanted.difference(&self.folders) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                warn!(folder = %new.display(), %error, "cannot watch a folder: looking every few seconds instead");
            }
        }
        self.folders = wanted;
    }

    /// Waits until one of `files` has changed and no further change has come for a moment. Safe to be dropped and
    /// asked anew.
    pub async fn changed(&mut self, files: &Files) {
        loop {
            // Looked at now and then even without an event: network file systems send none.
            let wakened = timeout_at(Instant::now() + LOOK_PAUSE, self.events.recv()).await;
            if wakened.is_ok_and(|event| event.is_none()) {
                sleep(LOOK_PAUSE).await;
            }
            if have_changed(files).await {
                break;
            }
        }
        // Whoever writes several files, or one in pieces, should be done; but for ever we do not wait.
        let end = Instant::now() + SETTLE_MAX;
        while Instant::now() < end {
            match timeout_at(Instant::now() + SETTLE, self.events.recv()).await {
                Ok(Some(())) => {}
                Ok(None) => return sleep(SETTLE).await,
                Err(_) => return,
            }
        }
    }
}

impl Default for Watcher {
    fn default() -> Self {
        Self::new()
    }
}

async fn have_changed(files: &Files) -> bool {
    let files = files.clone();
    tokio::task::spawn_blocking(move || files.have_changed()).await.unwrap_or(false)
}

/// The folder of the path, and of what it leads to where it is a link.
fn folders_of(path: &Path) -> BTreeSet<PathBuf> {
    let real = path.canonicalize().ok();
    let folder =
        |path: &Path| path.parent().map(|folder| if folder == Path::new("") { ".".into() } else { folder.into() });
    [Some(path), real.as_deref()].into_iter().flatten().filter_map(folder).collect()
}

/// Without a further event for this long, a change counts as complete.
const SETTLE: Duration = Duration::from_millis(200);
/// A folder in which something changes all the time must not put a reload off for ever.
const SETTLE_MAX: Duration = Duration::from_secs(2);
const LOOK_PAUSE: Duration = Duration::from_secs(5);
