//! Hears what the proxies beside this one tell.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::name::ProxyName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::frame::{Clients, Frame, Frames, VERSION};
use super::key::Keys;
use super::report::Peer;
use super::{SILENCE_MAX, TALK_LIMIT, other_than, why_not};
use crate::admin;
use crate::control::{self, Heard};
use crate::ledger::Word;
use crate::live::Proxy;

/// Takes the connections of those who tell.
#[derive(Clone, Debug)]
pub(super) struct Hearer {
    pub(super) proxy: Arc<Proxy>,
    pub(super) own: ProxyName,
    pub(super) keys: Keys,
    /// Changes when what was told may mean more than before.
    pub(super) again: watch::Receiver<u64>,
}

impl Hearer {
    /// Takes the connections of `others` at `listener`; never ends.
    pub(super) async fn run(self, listener: TcpListener, others: BTreeMap<ProxyName, SocketAddr>) {
        // A crowd at one of these addresses leaves the places of the others alone.
        let mut places: BTreeMap<IpAddr, usize> = BTreeMap::new();
        others.values().for_each(|address| *places.entry(address.ip()).or_default() += CONNECTIONS_MAX);
        let places = places.into_iter().map(|(address, count)| (address, Arc::new(Semaphore::new(count))));
        let places: BTreeMap<_, _> = places.collect();
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok((stream, from)) = listener.accept().await else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let place =
                places.get(&from.ip().to_canonical()).and_then(|places| Arc::clone(places).try_acquire_owned().ok());
            let Some(place) = place else {
                self.proxy.peering.strangers.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%from, "turned away: expected a connection from the address of a peer, and not many of them");
                continue;
            };
            let hearer = self.clone();
            connections.spawn(async move {
                hearer.take(stream, from).await;
                drop(place);
            });
        }
    }

    async fn take(mut self, stream: TcpStream, from: SocketAddr) {
        let meeting = async {
            stream.set_nodelay(true)?;
            let stream = TlsAcceptor::from(Arc::clone(&self.keys.server)).accept(stream).await.map_err(why_not)?;
            let (from, mut to) = split(stream);
            let mut frames = Frames::new(from);
            let peer = self.meet(frames.next().await?)?;
            to.write_all(&Frame::Hello { version: VERSION, proxy: self.own.clone() }.encode()).await?;
            to.flush().await?;
            Ok::<_, io::Error>((peer, frames, to))
        };
        let met = timeout(TALK_LIMIT, meeting).await;
        let (peer, frames, to) = match met.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(met) => met,
            Err(error) => {
                self.proxy.peering.strangers.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%from, %error, "a connection that no peer made, or not as expected");
                return;
            }
        };
        if peer.heard.open() {
            tracing::info!(peer = %peer.name, %from, "a peer tells what it learns");
        }
        // It may just have come, and knows nothing yet.
        peer.is_there.notify_one();
        let error = self.hear(&peer, frames, to).await.err();
        let why = error.map_or_else(String::new, |error| error.to_string());
        if peer.heard.close(&why) {
            tracing::warn!(peer = %peer.name, why, "a peer tells nothing any more");
        }
    }

    /// Who it is that says `hello`.
    fn meet(&self, hello: Frame) -> io::Result<Arc<Peer>> {
        match hello {
            Frame::Hello { version: VERSION, proxy } => self.proxy.peering.peer(&proxy).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{proxy} is no peer: expected one of [peers]"))
            }),
            frame => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("expected a hello of version {VERSION}, not {frame:.100?}"),
            )),
        }
    }

    async fn hear(
        &mut self,
        peer: &Peer,
        mut frames: Frames<impl AsyncRead + Unpin>,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        self.again.mark_unchanged();
        loop {
            let answer = tokio::select! {
                frame = timeout(SILENCE_MAX, frames.next()) => self.learn(peer, frame??).await?,
                Ok(()) = self.again.changed() => Some(Frame::Again),
            };
            if let Some(answer) = answer {
                let octets = answer.encode();
                timeout(SILENCE_MAX, async {
                    to.write_all(&octets).await?;
                    to.flush().await
                })
                .await??;
            }
        }
    }

    /// Takes over what is told; what is to be answered.
    async fn learn(&self, peer: &Peer, frame: Frame) -> io::Result<Option<Frame>> {
        match frame {
            Frame::Words(words) => {
                peer.heard.words.fetch_add(words.len() as u64, Ordering::Relaxed);
                self.learn_words(peer, words).await?;
            }
            Frame::Clients(clients) => {
                peer.heard.clients.fetch_add(clients.count() as u64, Ordering::Relaxed);
                self.learn_clients(&clients);
            }
            Frame::Whole => {
                peer.first.send_replace(true);
            }
            Frame::Ping => return Ok(Some(Frame::Pong)),
            frame => return Err(other_than(&peer.name, &frame)),
        }
        Ok(None)
    }

    async fn learn_words(&self, peer: &Peer, words: Vec<Word>) -> io::Result<()> {
        let saving = loop {
            let saving = self.proxy.saving.lock().await;
            if !self.proxy.is_upgrading.load(Ordering::Relaxed) {
                break saving;
            }
            // The process that takes over hears all from its beginning.
            drop(saving);
            sleep(Duration::from_millis(50)).await;
        };
        let mut is_any_taken = false;
        for word in words {
            if !word.stamp.is_sound() {
                let what = format!(
                    "it has a word of the year 37000 or so about {}: expected a clock that is right",
                    word.server
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            match control::hear(&self.proxy, &peer.name, word) {
                Heard::Taken => is_any_taken = true,
                Heard::Known => {}
                Heard::Unfit(unfit) if unfit.is_unknown() => {
                    tracing::info!(peer = %peer.name, reason = %unfit, "a change of a server that is not in the settings here");
                }
                Heard::Unfit(unfit) => {
                    tracing::warn!(peer = %peer.name, reason = %unfit, "a change that cannot be made here");
                }
            }
        }
        if is_any_taken {
            // A third proxy may be out of reach of the one that tells.
            self.proxy.peering.tell();
            // It has told of a failure, for which nobody waits.
            let _ = admin::servers::save(&self.proxy).await;
        }
        drop(saving);
        Ok(())
    }

    fn learn_clients(&self, clients: &Clients) {
        let live = self.proxy.live.load();
        let service = live.find(&clients.service).and_then(|at| live.services().nth(at));
        if let Some(stuck) = service.and_then(|service| service.stuck.as_ref()) {
            for named in clients.named() {
                stuck.table.learn(&named, stuck.bounds);
            }
        }
    }
}

/// Connections that one proxy may have at one time: it has one, and while it is started anew or the network fails, more.
const CONNECTIONS_MAX: usize = 8;
