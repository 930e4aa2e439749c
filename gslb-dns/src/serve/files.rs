//! Reading the files again when they change, and signing zones again in time.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use shared::problem::Problem;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::error;

use super::systemd::{tell_reloading, tell_systemd};
use super::updates::SharedJournals;
use super::{Command, Live};
use crate::reload::{Files, Loaded, Watcher, World, load, unix_secs};

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
    /// No zone is updated between the reading of its journal and the swap, nor while it is signed again.
    pub(super) journals: SharedJournals,
}

impl FileTask {
    /// Reads the files again whenever one changes or somebody asks, until nobody can ask any more.
    pub(super) async fn run(mut self) {
        let mut watcher = Watcher::new();
        let mut signing_from = Instant::now();
        loop {
            watcher.follow(&self.files);
            tokio::select! {
                () = watcher.changed(&self.files) => {}
                request = self.requests.recv() => if request.is_none() { return },
                () = signing_due(&self.live, signing_from) => {
                    let ControlFlow::Continue(pause) = self.sign_again().await else { return };
                    signing_from = Instant::now() + pause;
                    continue;
                }
            }
            // Before the first answer, Ready would be a lie.
            let is_answering = self.is_answering.load(Ordering::Acquire);
            if is_answering {
                tell_reloading();
            }
            let mut journals = Arc::clone(&self.journals).lock_owned().await;
            let Some(last) = self.world().await else { return };
            let config = self.config.clone();
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

    /// What is in force, once all that was sent before has been taken; `None`: nobody takes anything any more.
    ///
    /// Under the turn it stays so: serials go on from what it says.
    async fn world(&self) -> Option<Arc<World>> {
        let (look, world) = oneshot::channel();
        self.commands.send(Command::World(look)).await.ok()?;
        world.await.ok()
    }

    /// Signs again what is due, from what is in memory, and tells how long to leave it be then; ends when nobody takes it any
    /// more.
    async fn sign_again(&self) -> ControlFlow<(), Duration> {
        let mut journals = Arc::clone(&self.journals).lock_owned().await;
        let Some(base) = self.world().await else { return ControlFlow::Break(()) };
        let sign = move || {
            let world = base.signed_again(unix_secs());
            let world = world.and_then(|world| journals.note_raised(&base, &world).map(|()| world));
            (world, base, journals)
        };
        let signed = spawn_blocking(sign).await;
        let Ok((world, base, _turn)) =
            signed.inspect_err(|error| error!(%error, "signing broke off: a bug, please report it"))
        else {
            return ControlFlow::Continue(FAILURE_PAUSE);
        };
        let pause = if world.is_ok() { LOOK_PAUSE } else { FAILURE_PAUSE };
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::SignedAgain(Box::new(SignedAgain { base, world, done }))).await.is_err() {
            return ControlFlow::Break(());
        }
        // Else the next look would find the world of before. Where the writer has gone, the next round finds out.
        let _ = is_done.await;
        ControlFlow::Continue(pause)
    }
}

/// Waits until something in use must be signed again, but not before `from`.
async fn signing_due(live: &ArcSwap<Live>, from: Instant) {
    sleep_until(from).await;
    // The clock of the wall may jump, as after a sleep of the whole machine, so it is looked at again and again.
    while live.load().world.signing_due().is_none_or(|due| due > unix_secs()) {
        sleep(LOOK_PAUSE).await;
    }
}

/// What was signed again.
pub(crate) struct SignedAgain {
    /// What it was made from.
    pub(super) base: Arc<World>,
    /// The same with new signatures, or why there are none.
    pub(super) world: Result<World, Vec<Problem>>,
    /// Told once it serves.
    pub(super) done: oneshot::Sender<()>,
}

/// A change of keys comes at most so much late. It is far less than the time that nodes may differ by.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// What fails is not tried in vain all the time.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);
