//! What a running proxy is told, by whichever way.

use tokio::sync::{mpsc, oneshot};

use super::handover::{Ready, Successor};
use super::signals::{Signals, Word};
use crate::live::Proxy;
use crate::reload::{Cause, Reloaded, Watch};

/// Something that a running proxy does at once.
#[derive(Debug)]
pub(super) enum Event {
    /// It was told to end.
    Stop,
    /// The settings are to be read again; who waits for the mistakes in them.
    Reload(Cause, Option<oneshot::Sender<Reloaded>>),
    /// The program is to be started anew; who waits for what comes of it.
    Upgrade(Option<Waiting>),
    /// The program that was started takes clients, or will not.
    Upgraded(Result<Ready, String>),
}

/// One who waits for the id of the process that took over.
pub(super) type Waiting = oneshot::Sender<Result<u32, String>>;

/// All that a running proxy listens to.
#[derive(Debug)]
pub(super) struct Ears<'s> {
    signals: &'s mut Signals,
    watch: Option<Watch>,
    reloads: Option<mpsc::Receiver<oneshot::Sender<Reloaded>>>,
    upgrades: Option<mpsc::Receiver<Waiting>>,
}

impl<'s> Ears<'s> {
    /// Listens for `proxy`; files are watched by `watch`.
    pub(super) fn new(signals: &'s mut Signals, watch: Option<Watch>, proxy: &Proxy) -> Self {
        Self { signals, watch, reloads: proxy.reloads.take(), upgrades: proxy.upgrades.take() }
    }

    /// Watches the files of the present settings too.
    pub(super) fn follow(&mut self, proxy: &Proxy) {
        if let Some(watch) = &mut self.watch {
            watch.follow(proxy.live.load().config.certificate_files());
        }
    }

    /// The next; `upgrade` is the one that goes on.
    pub(super) async fn next(&mut self, upgrade: Option<&mut Upgrade>) -> Event {
        tokio::select! {
            word = self.signals.next() => match word {
                Word::Stop => Event::Stop,
                Word::Reload => Event::Reload(Cause::Asked, None),
                Word::Upgrade => Event::Upgrade(None),
            },
            waiting = asked(self.reloads.as_mut()) => Event::Reload(Cause::Asked, Some(waiting)),
            waiting = asked(self.upgrades.as_mut()) => Event::Upgrade(Some(waiting)),
            () = changed(self.watch.as_mut()) => Event::Reload(Cause::FolderChanged, None),
            outcome = outcome(upgrade) => Event::Upgraded(outcome),
        }
    }
}

/// A program that was started in the place of this one, and those who wait for it.
#[derive(Debug)]
pub(super) struct Upgrade {
    successor: Successor,
    waiting: Vec<Waiting>,
}

impl Upgrade {
    pub(super) fn new(successor: Successor) -> Self {
        Self { successor, waiting: Vec::new() }
    }

    /// Has one more wait for it.
    pub(super) fn join(&mut self, waiting: Option<Waiting>) {
        self.waiting.extend(waiting);
    }

    /// It takes clients: tells who waits, and gives its process id.
    pub(super) fn succeed(self) -> u32 {
        let pid = self.successor.pid;
        self.tell(&Ok(pid));
        pid
    }

    /// It is not wanted any more, or has ended.
    pub(super) fn give_up(mut self, why: String) {
        self.successor.stop();
        self.tell(&Err(why));
    }

    fn tell(self, outcome: &Result<u32, String>) {
        for waiting in self.waiting {
            // Who asked may be gone.
            let _ = waiting.send(outcome.clone());
        }
    }
}

async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// The next who asks.
async fn asked<T>(asking: Option<&mut mpsc::Receiver<T>>) -> T {
    if let Some(asking) = asking
        && let Some(one) = asking.recv().await
    {
        return one;
    }
    std::future::pending().await
}

async fn outcome(upgrade: Option<&mut Upgrade>) -> Result<Ready, String> {
    match upgrade {
        Some(upgrade) => upgrade.successor.outcome().await,
        None => std::future::pending().await,
    }
}
