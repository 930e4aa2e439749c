//! Reading the files again when they change.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tracing::error;

use super::systemd::{tell_reloading, tell_systemd};
use super::updates::SharedJournals;
use super::{Command, Live};
use crate::reload::{Files, Loaded, Watcher, load};

/// The files in use, and who wants to know of them.
pub(super) struct FileTask {
    /// The settings file.
    pub(super) config: PathBuf,
    /// What was read at the start.
    pub(super) files: Files,
    /// Requests to read all again.
    pub(super) requests: mpsc::Receiver<()>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) is_answering: Arc<AtomicBool>,
    /// No zone is updated between the reading of its journal and the swap.
    pub(super) journals: SharedJournals,
}

impl FileTask {
    /// Reads the files again whenever one changes or somebody asks, until nobody can ask any more.
    pub(super) async fn run(mut self) {
        let mut watcher = Watcher::new();
        loop {
            watcher.follow(&self.files);
            tokio::select! {
                () = watcher.changed(&self.files) => {}
                request = self.requests.recv() => if request.is_none() { return },
            }
            // Before the first answer, Ready would be a lie.
            let is_answering = self.is_answering.load(Ordering::Acquire);
            if is_answering {
                tell_reloading();
            }
            let mut journals = Arc::clone(&self.journals).lock_owned().await;
            let (config, last) = (self.config.clone(), Arc::clone(&self.live.load().world));
            let read = move || {
                let Loaded { world, files } = load(&config, Some(&last));
                let world = world.and_then(|world| journals.follow(&world).map(|()| world));
                // The turn goes on until the writer has it: what comes after that in its queue sees the new one.
                (Loaded { world, files }, journals)
            };
            match spawn_blocking(read).await {
                Ok((loaded, _turn)) => {
                    self.files = loaded.files;
                    if self.commands.send(Command::Reloaded(Box::new(loaded.world))).await.is_err() {
                        return;
                    }
                }
                Err(error) => error!(%error, "reading the files broke off: a bug, please report it"),
            }
            if is_answering {
                tell_systemd(&[NotifyState::Ready]);
            }
        }
    }
}
