//! What the proxies of a region tell each other, so that one can take another's place: which client has which server, where
//! no cookie says so, and what operators changed of servers.
//!
//! ```text
//! stick tables, ledger ─► tell ══ TLS, one connection for each direction ══► hear ─► stick tables, ledger
//!                          frame   key                                        frame
//! ```
//! Each proxy connects to each other one and tells it all that it knows, and then what is new: what operators say at once,
//! clients within 50 ms. A connection that breaks is made anew and tells all again, so nothing is ever acknowledged.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use shared::name::ProxyName;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::{Config, Peers};
use crate::listen::{self, Presence, Sharing};
use crate::live::{Live, Proxy};

pub mod frame;
mod hear;
pub mod key;
pub mod report;
mod tell;

use frame::Frame;
use hear::Hearer;
use key::Keys;
use tell::Teller;

/// The links to the proxies beside this one; they end with it.
#[derive(Debug)]
pub struct Links {
    proxy: Arc<Proxy>,
    /// By which settings they run.
    by: Option<Peers>,
    live: Arc<Live>,
    again: watch::Sender<u64>,
    tasks: JoinSet<()>,
}

impl Links {
    /// Those of the settings of `proxy`; fails where its own address cannot be listened on.
    pub fn start(proxy: &Arc<Proxy>) -> io::Result<Self> {
        let live = proxy.live.load_full();
        let tasks = JoinSet::new();
        let mut links = Self { proxy: Arc::clone(proxy), by: None, live, again: watch::Sender::new(0), tasks };
        links.follow()?;
        Ok(links)
    }

    /// Follows the present settings; fails where their address cannot be listened on, and what ran before runs on.
    pub fn follow(&mut self) -> io::Result<()> {
        let live = self.proxy.live.load_full();
        if live.config.peers != self.by {
            let next =
                live.config.peers.as_ref().map(|peers| Ok::<_, io::Error>((peers, listener(peers)?, keys(peers)?)));
            let next = next.transpose()?;
            self.stop();
            self.proxy.peering.set(&live.config.peers.as_ref().map(|peers| peers.others.clone()).unwrap_or_default());
            if let Some((peers, listener, keys)) = next {
                self.spawn(&live.config.proxy, peers, listener, &keys);
            }
            self.by.clone_from(&live.config.peers);
        } else if live.config.services != self.live.config.services {
            self.again.send_modify(|count| *count += 1);
        }
        self.live = live;
        Ok(())
    }

    fn spawn(&mut self, own: &ProxyName, peers: &Peers, listener: TcpListener, keys: &Keys) {
        let (proxy, keys) = (Arc::clone(&self.proxy), keys.clone());
        let hearer = Hearer { proxy, own: own.clone(), keys: keys.clone(), again: self.again.subscribe() };
        self.tasks.spawn(hearer.run(listener, peers.others.clone()));
        for (number, peer) in self.proxy.peering.peers().into_iter().enumerate().take(Peers::OTHERS_MAX) {
            let (proxy, own) = (Arc::clone(&self.proxy), (own.clone(), peers.own));
            self.tasks.spawn(Teller { proxy, peer, keys: keys.clone(), own, link: 1 << number }.run());
        }
    }

    /// Waits until all that the others know has been heard, from those that are there; `limit` at most.
    pub async fn heard(&self, limit: Duration) {
        let all = async {
            for peer in self.proxy.peering.peers() {
                // Never an error: the peer holds the other end.
                let _ = peer.first.subscribe().wait_for(|is_over| *is_over).await;
            }
        };
        if timeout(limit, all).await.is_err() {
            tracing::warn!(?limit, "not all peers have told what they know");
        }
    }

    /// Tells the others what they do not know yet, as far as that takes no longer than `limit`.
    pub async fn last_words(&self, limit: Duration) {
        self.proxy.peering.tell();
        let up_to = *self.proxy.peering.news().borrow();
        let all = async {
            for peer in self.proxy.peering.peers().iter().filter(|peer| peer.told.report().is_open) {
                // Never an error: the peer holds the other end.
                let _ = peer.told_up_to.subscribe().wait_for(|told| *told >= up_to).await;
            }
        };
        if timeout(limit, all).await.is_err() {
            tracing::warn!(?limit, "not all peers were told what was learned last");
        }
    }

    /// Ends them.
    pub fn stop(&mut self) {
        self.tasks = JoinSet::new();
    }
}

/// Whether `next` could be followed where `present` is now.
pub fn preflight(present: &Config, next: &Config) -> io::Result<()> {
    match &next.peers {
        Some(peers) if next.peers != present.peers => listener(peers).map(drop),
        _ => Ok(()),
    }
}

/// At the address of this proxy; a process that takes another's place has it at the same time.
fn listener(peers: &Peers) -> io::Result<TcpListener> {
    let listening = listen::bind(peers.own, Sharing::Shared, Presence::Now);
    let described = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", peers.own));
    TcpListener::from_std(listening.map_err(described)?.into())
}

fn keys(peers: &Peers) -> io::Result<Keys> {
    Keys::of(&peers.secret).map_err(io::Error::other)
}

/// `error`, with what is most likely behind it.
fn why_not(error: io::Error) -> io::Error {
    let is_of_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    match is_of_tls {
        true => io::Error::new(error.kind(), format!("{error}: expected the same secret_file there as here")),
        false => error,
    }
}

/// Something else came than what the proxy `expected` may tell.
fn other_than(expected: &ProxyName, frame: &Frame) -> io::Error {
    let what = match frame {
        Frame::Hello { version: frame::VERSION, proxy } => format!("{proxy} answers: expected {expected}"),
        Frame::Hello { version, .. } => format!("it speaks version {version}: expected {}", frame::VERSION),
        _ => "it says what does not belong there".to_owned(),
    };
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// From a connection to the first word of both.
const TALK_LIMIT: Duration = Duration::from_secs(3);

/// Who says nothing for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(5);
