//! What operators change of servers while the proxy runs.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Deserialize;
use shared::name::{OwnerName, ProxyName, ServerName};
use tokio::sync::{mpsc, oneshot};

use crate::balance::Mode;
use crate::changes::{Added, Change, Changes, Laid, Unfit};
use crate::clock::unix_ms;
use crate::config::Config;
use crate::health::{self, Checks};
use crate::ledger::{Ledger, Stamp, Word};
use crate::live::{Live, Proxy, Server, Service};
use crate::reload::Reloaded;

/// The settings as they were read, and what operators changed of them.
#[derive(Debug)]
pub struct Control {
    file: Config,
    changes: Changes,
    /// When these were said, and what was taken back.
    ledger: Ledger,
}

impl Control {
    /// Nothing was changed of `file`.
    pub fn new(file: Config) -> Self {
        Self { file, changes: Changes::default(), ledger: Ledger::default() }
    }

    /// The settings as they were read.
    pub fn file(&self) -> &Config {
        &self.file
    }

    /// What operators changed.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// What operators changed and when they said so, to be kept.
    pub fn said(&self) -> (Changes, Ledger) {
        (self.changes.clone(), self.ledger.clone())
    }

    /// Each word that `known` does not have.
    pub fn words_beside(&self, known: &Ledger) -> Vec<Word> {
        let news = self.ledger.iter().filter(|(service, server, stamp)| known.is_news(service, server, stamp));
        let words = news.map(|(service, server, stamp)| Word {
            service: service.clone(),
            server: server.clone(),
            stamp: stamp.clone(),
            change: self.changes.of(service.as_str(), server.as_str()).cloned().unwrap_or_default(),
        });
        words.collect()
    }

    /// Enters that something is said of a server now.
    fn say(&mut self, service: &OwnerName, server: &ServerName) {
        self.ledger.say(service, server, &self.file.proxy, unix_ms());
        self.prune();
    }

    fn prune(&mut self) {
        self.ledger.prune(|service, server| self.changes.of(service.as_str(), server.as_str()).is_some());
    }
}

/// What an operator wants of a server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wish {
    /// Whether it serves.
    pub mode: Option<Mode>,
    /// Its share.
    pub weight: Option<u16>,
    /// All as the settings say.
    pub reset: bool,
}

/// Why a wish is not granted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// It says nothing.
    #[error("nothing to change: expected \"mode\", \"weight\" or \"reset\"")]
    Empty,
    /// It says two things at a time.
    #[error("\"reset\" beside others: expected it alone")]
    Both,
    /// The server is there already.
    #[error("{server} is a server of {service} already: expected another name")]
    IsThere {
        /// The service.
        service: OwnerName,
        /// The server's name.
        server: ServerName,
    },
    /// The server is in use.
    #[error("{server} {what}: expected it to be drained, or force")]
    InUse {
        /// The server's name.
        server: ServerName,
        /// What it has.
        what: String,
    },
}

/// Takes `file` in the place of the settings that were read before, with what of the changes has a meaning still; whether
/// some had none.
pub fn install(proxy: &Arc<Proxy>, file: Config) -> bool {
    let mut control = proxy.control();
    let laid = control.changes.over(&file);
    for unfit in &laid.dropped {
        tracing::warn!(reason = %unfit, "a change made at run time is dropped");
    }
    if !laid.changes.is_empty() {
        tracing::info!(servers = laid.changes.count(), "changes made at run time are kept");
    }
    let is_dropping = !laid.dropped.is_empty();
    let gone = control
        .changes
        .names()
        .filter(|(service, server)| laid.changes.of(service.as_str(), server.as_str()).is_none());
    for (service, server) in gone.collect::<Vec<_>>() {
        // Others may have a use for it, and tell of it again once it has one here.
        control.ledger.forget(&service, &server);
    }
    control.file = file;
    lay(proxy, &mut control, laid);
    is_dropping
}

/// Takes over the changes that were saved before a restart, and when they were said.
pub fn restore(proxy: &Arc<Proxy>, changes: Changes, ledger: Ledger) {
    let is_changed = !changes.is_empty();
    let mut control = proxy.control();
    (control.changes, control.ledger) = (changes, ledger);
    let unstamped: Vec<_> =
        control.changes.names().filter(|(service, server)| control.ledger.of(service, server).is_none()).collect();
    for (service, server) in unstamped {
        // By a program that knew no stamps: any other word is later.
        let by = control.file.proxy.clone();
        control.ledger.enter(&service, &server, Stamp { at: 0, by });
    }
    let file = control.file.clone();
    drop(control);
    if is_changed {
        install(proxy, file);
    }
}

/// What came of a word that a proxy beside this one passed on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Heard {
    /// It counts now.
    Taken,
    /// It is known, or what is known here was said later.
    Known,
    /// It has no meaning by the settings here.
    Unfit(Unfit),
}

/// Takes over what an operator said to another proxy, as `from` passes it on; to be called by who holds [`Proxy::saving`].
pub fn hear(proxy: &Arc<Proxy>, from: &ProxyName, word: Word) -> Heard {
    let Word { service, server, stamp, change } = word;
    let mut control = proxy.control();
    if !control.ledger.is_news(&service, &server, &stamp) {
        return Heard::Known;
    }
    let before = control.changes.of(service.as_str(), server.as_str()).cloned().unwrap_or_default();
    if before != change
        && let Err(unfit) = make(proxy, &mut control, &service, &server, change.clone())
    {
        return Heard::Unfit(unfit);
    }
    if before != change {
        let (mode, weight, said_to) = (change.mode.map(health::mode_word), change.weight, &stamp.by);
        let (is_added, is_removed, is_reset) = (change.added.is_some(), change.is_removed, change == Change::default());
        tracing::warn!(
            %service, %server, mode, weight, is_added, is_removed, is_reset, %said_to, %from,
            "server changed, as an operator told another proxy"
        );
    }
    control.ledger.enter(&service, &server, stamp);
    control.prune();
    Heard::Taken
}

/// Changes mode or weight of a server, or takes its changes back; `who` is told in the log.
pub fn change(
    proxy: &Arc<Proxy>,
    who: &str,
    service: &OwnerName,
    server: &ServerName,
    wish: &Wish,
) -> Result<(), Refused> {
    let mut control = proxy.control();
    let before = control.changes.of(service.as_str(), server.as_str()).cloned();
    if !(wish.reset && before.is_some()) {
        must_run(proxy, service, server)?;
    }
    let before = before.unwrap_or_default();
    let is_set = wish.mode.is_some() || wish.weight.is_some();
    let next = match (is_set, wish.reset) {
        (false, false) => return Err(Refused::Empty),
        (true, true) => return Err(Refused::Both),
        // A server that is not in the settings is not undone by that.
        (false, true) => Change { added: before.added, ..Change::default() },
        (true, false) => Change { mode: wish.mode.or(before.mode), weight: wish.weight.or(before.weight), ..before },
    };
    set(proxy, &mut control, service, server, next)?;
    let mode = wish.mode.map(health::mode_word);
    tracing::warn!(%service, %server, mode, weight = wish.weight, reset = wish.reset, who, "server changed");
    Ok(())
}

/// Adds a server.
pub fn add(
    proxy: &Arc<Proxy>,
    who: &str,
    service: &OwnerName,
    server: &ServerName,
    added: Added,
    mode: Option<Mode>,
) -> Result<(), Refused> {
    let mut control = proxy.control();
    if find(&proxy.live.load(), service, server).is_some() {
        return Err(Refused::IsThere { service: service.clone(), server: server.clone() });
    }
    let address = added.address;
    let next = Change { mode, added: Some(added), ..Change::default() };
    set(proxy, &mut control, service, server, next)?;
    tracing::warn!(%service, %server, %address, who, "server added");
    Ok(())
}

/// Takes a server away: one that takes no new clients and has no requests, or any when `is_forced`.
pub fn remove(
    proxy: &Arc<Proxy>,
    who: &str,
    service: &OwnerName,
    server: &ServerName,
    is_forced: bool,
) -> Result<(), Refused> {
    let mut control = proxy.control();
    must_run(proxy, service, server)?;
    let live = proxy.live.load();
    if let Some((_, running)) = find(&live, service, server)
        && !is_forced
    {
        let what = match (running.standing().mode, running.in_flight()) {
            (Mode::Ready, _) => Some("is ready to serve".to_owned()),
            (_, 0) => None,
            (_, 1) => Some("has a request under way".to_owned()),
            (_, requests) => Some(format!("has {requests} requests under way")),
        };
        if let Some(what) = what {
            return Err(Refused::InUse { server: server.clone(), what });
        }
    }
    let before = control.changes.of(service.as_str(), server.as_str());
    let is_added = before.is_some_and(|before| before.added.is_some());
    let next = Change { is_removed: !is_added, ..Change::default() };
    set(proxy, &mut control, service, server, next)?;
    tracing::warn!(%service, %server, is_forced, who, "server removed");
    Ok(())
}

/// Takes all changes of servers back; returns how many servers had any.
pub fn reset(proxy: &Arc<Proxy>, who: &str) -> usize {
    let mut control = proxy.control();
    let count = control.changes.count();
    let changed: Vec<_> = control.changes.names().collect();
    let laid = Changes::default().over(&control.file);
    lay(proxy, &mut control, laid);
    changed.iter().for_each(|(service, server)| control.say(service, server));
    proxy.peering.tell();
    tracing::warn!(servers = count, who, "all servers are as in the settings again");
    count
}

/// The server of these names, and its service.
pub fn find<'l>(
    live: &'l Live,
    service: &OwnerName,
    server: &ServerName,
) -> Option<(&'l Arc<Service>, &'l Arc<Server>)> {
    let service = live.services().find(|one| one.name == *service)?;
    Some((service, service.servers.iter().find(|one| one.name == *server)?))
}

/// Fails where there is no such server.
fn must_run(proxy: &Proxy, service: &OwnerName, server: &ServerName) -> Result<(), Unfit> {
    let live = proxy.live.load();
    if find(&live, service, server).is_some() {
        return Ok(());
    }
    // Who lays a change over settings says what is there instead.
    let mut changes = Changes::default();
    changes.set(service, server, Change { weight: Some(0), ..Change::default() });
    changes.over(&live.config).dropped.pop().map_or(Ok(()), Err)
}

/// Makes one change if it can be, as an operator says now.
fn set(
    proxy: &Arc<Proxy>,
    control: &mut Control,
    service: &OwnerName,
    server: &ServerName,
    change: Change,
) -> Result<(), Unfit> {
    make(proxy, control, service, server, change)?;
    control.say(service, server);
    proxy.peering.tell();
    Ok(())
}

/// Makes one change if it can be.
fn make(
    proxy: &Arc<Proxy>,
    control: &mut Control,
    service: &OwnerName,
    server: &ServerName,
    change: Change,
) -> Result<(), Unfit> {
    let mut changes = control.changes.clone();
    changes.set(service, server, change);
    let mut laid = changes.over(&control.file);
    if let Some(unfit) = laid.dropped.pop() {
        return Err(unfit);
    }
    lay(proxy, control, laid);
    Ok(())
}

/// Runs by `laid`: by new servers where there are any, else by what is changed of those that run.
fn lay(proxy: &Arc<Proxy>, control: &mut Control, laid: Laid) {
    control.changes = laid.changes;
    let before = proxy.live.load_full();
    if laid.config == before.config {
        settle(&before, &control.changes);
        proxy.note_change();
        return;
    }
    let next = before.successor(laid.config);
    settle(&next, &control.changes);
    proxy.replace(next);
    Checks::start_again(proxy);
}

/// Tells all servers of `live` what settings and operators want of them.
fn settle(live: &Live, changes: &Changes) {
    let now = Timestamp::now();
    for service in live.services() {
        for server in &service.servers {
            let Some(config) = service.config.servers.get(&server.name) else { continue };
            let order = changes.order(service.name.as_str(), server.name.as_str());
            if let Some(change) = server.want(config.wanted(), order, service.config.agent.is_some(), now) {
                health::log(service, server, &change);
            }
        }
    }
}

/// Those who want the settings read again, and wait to hear what came of it.
pub type Reloads = Asking<Reloaded>;

/// Those who want the program started anew, and wait for the id of the process that took over, or why there is none.
pub type Upgrades = Asking<Result<u32, String>>;

/// Those who want something of the thread that keeps the proxy going, and wait for its answer.
#[derive(Debug)]
pub struct Asking<A> {
    sender: mpsc::Sender<oneshot::Sender<A>>,
    receiver: Mutex<Option<mpsc::Receiver<oneshot::Sender<A>>>>,
}

impl<A> Default for Asking<A> {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(16);
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }
}

impl<A> Asking<A> {
    /// Asks, and waits for the answer; `None` where nobody answers any more.
    pub async fn ask(&self) -> Option<A> {
        let (answer, answered) = oneshot::channel();
        self.sender.try_send(answer).ok()?;
        answered.await.ok()
    }

    /// The questions, for the one who answers them.
    pub fn take(&self) -> Option<mpsc::Receiver<oneshot::Sender<A>>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
