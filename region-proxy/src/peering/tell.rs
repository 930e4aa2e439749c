//! Tells one proxy beside this one all that is learned here, for as long as both run.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::pki_types::ServerName;
use shared::name::ProxyName;
use tokio::io::{AsyncWriteExt, WriteHalf, split};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::frame::{Clients, Frame, Frames, VERSION};
use super::key::Keys;
use super::report::Peer;
use super::{SILENCE_MAX, TALK_LIMIT, other_than, why_not};
use crate::ledger::Ledger;
use crate::live::Proxy;
use crate::stick::table::Links;

/// One who is told, and how it is reached.
#[derive(Debug)]
pub(super) struct Teller {
    pub(super) proxy: Arc<Proxy>,
    pub(super) peer: Arc<Peer>,
    pub(super) keys: Keys,
    /// This proxy.
    pub(super) own: (ProxyName, SocketAddr),
    /// Its bit in stick tables.
    pub(super) link: Links,
}

impl Teller {
    /// Tells it, again and again; never ends.
    pub(super) async fn run(self) {
        loop {
            let ended = match timeout(TALK_LIMIT, self.connect()).await {
                Ok(Ok((frames, to))) => self.talk(frames, to).await,
                Ok(Err(error)) => self.note_absence(&error.to_string()),
                Err(_) => self.note_absence(&format!("no answer within {TALK_LIMIT:?}")),
            };
            // What it could tell would have been told first where it was there.
            let is_absent = ended == Ended::NeverThere;
            self.peer.first.send_if_modified(|is_over| is_absent && !std::mem::replace(is_over, true));
            let pause = match ended {
                Ended::NeverThere => PAUSE,
                Ended::Soon => PAUSE_AFTER_SHORT_TALK,
                Ended::Late => PAUSE_AFTER_TALK,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.peer.is_there.notified() => {}
            }
        }
    }

    fn note_absence(&self, why: &str) -> Ended {
        if self.peer.told.fail(why) {
            tracing::warn!(peer = %self.peer.name, address = %self.peer.address, why, "a peer is not told what is learned here");
        }
        Ended::NeverThere
    }

    async fn connect(
        &self,
    ) -> io::Result<(Frames<tokio::io::ReadHalf<TlsStream<TcpStream>>>, WriteHalf<TlsStream<TcpStream>>)> {
        let (own_name, own_address) = &self.own;
        let socket = if own_address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // It knows this one by its address.
        socket.bind(SocketAddr::new(own_address.ip(), 0))?;
        let stream = socket.connect(self.peer.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.peer.address.ip());
        let stream = TlsConnector::from(Arc::clone(&self.keys.client)).connect(name, stream).await.map_err(why_not)?;
        let (from, mut to) = split(stream);
        to.write_all(&Frame::Hello { version: VERSION, proxy: own_name.clone() }.encode()).await?;
        to.flush().await?;
        let mut frames = Frames::new(from);
        match frames.next().await.map_err(why_not)? {
            Frame::Hello { version: VERSION, proxy } if proxy == self.peer.name => Ok((frames, to)),
            frame => Err(other_than(&self.peer.name, &frame)),
        }
    }

    /// Tells it for as long as it hears.
    async fn talk(
        &self,
        mut frames: Frames<impl tokio::io::AsyncRead + Unpin>,
        mut to: impl tokio::io::AsyncWrite + Unpin,
    ) -> Ended {
        let began = Instant::now();
        self.peer.told.open();
        tracing::info!(peer = %self.peer.name, address = %self.peer.address, "a peer is told what is learned here");
        let mut telling = Telling::new(self);
        let error = telling.all(&mut frames, &mut to).await.err();
        let why = error.map_or_else(String::new, |error| error.to_string());
        self.peer.told.close(&why);
        tracing::warn!(peer = %self.peer.name, why, "a peer is told no more what is learned here");
        if began.elapsed() < PAUSE_AFTER_SHORT_TALK { Ended::Soon } else { Ended::Late }
    }
}

/// How telling came to an end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ended {
    /// There was nobody to tell.
    NeverThere,
    /// When it had hardly begun.
    Soon,
    /// After a while.
    Late,
}

/// What was told over one connection.
struct Telling<'t> {
    teller: &'t Teller,
    words: Ledger,
    news: watch::Receiver<u64>,
    /// Up to where it was told all words.
    up_to: Option<u64>,
}

impl<'t> Telling<'t> {
    fn new(teller: &'t Teller) -> Self {
        Self { teller, words: Ledger::default(), news: teller.proxy.peering.news(), up_to: None }
    }

    async fn all(
        &mut self,
        frames: &mut Frames<impl tokio::io::AsyncRead + Unpin>,
        to: &mut (impl tokio::io::AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let mut ticks = interval(CLIENTS_AFTER);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut is_first, mut heard, mut pinged) = (true, Instant::now(), Instant::now());
        loop {
            let (up_to, began) = (*self.news.borrow_and_update(), Instant::now());
            if self.up_to.replace(up_to) != Some(up_to) {
                self.tell_words(to).await?;
            }
            self.tell_clients(to).await?;
            // Who takes what is told is there, and is not listened to meanwhile.
            heard += began.elapsed();
            if std::mem::take(&mut is_first) {
                send(to, &Frame::Whole).await?;
            }
            if pinged.elapsed() >= PING_AFTER {
                pinged = Instant::now();
                send(to, &Frame::Ping).await?;
            }
            timeout(SILENCE_MAX, to.flush()).await??;
            self.teller.peer.told_up_to.send_replace(up_to);
            if heard.elapsed() > SILENCE_MAX {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing heard for {SILENCE_MAX:?}")));
            }
            tokio::select! {
                frame = frames.next() => {
                    heard = Instant::now();
                    match frame.map_err(why_not)? {
                        Frame::Pong => {}
                        Frame::Again => {
                            (self.words, self.up_to) = (Ledger::default(), None);
                            self.leave_tables();
                            is_first = true;
                        }
                        frame => return Err(other_than(&self.teller.peer.name, &frame)),
                    }
                }
                // Never an error: this proxy lasts as long as what it says.
                _ = self.news.changed() => {}
                _ = ticks.tick() => {}
            }
        }
    }

    /// Tells what operators said that it does not know.
    async fn tell_words(&mut self, to: &mut (impl tokio::io::AsyncWrite + Unpin)) -> io::Result<()> {
        let Teller { proxy, peer, .. } = self.teller;
        let words = proxy.control().words_beside(&self.words);
        for words in words.chunks(WORDS_AT_ONCE) {
            send(to, &Frame::Words(words.to_vec())).await?;
            peer.told.words.fetch_add(words.len() as u64, Ordering::Relaxed);
        }
        for word in words {
            self.words.enter(&word.service, &word.server, word.stamp);
        }
        Ok(())
    }

    /// Tells of the clients that it does not know, or does not know so.
    async fn tell_clients(&self, to: &mut (impl tokio::io::AsyncWrite + Unpin)) -> io::Result<()> {
        let Teller { proxy, peer, link, .. } = self.teller;
        let live = proxy.live.load_full();
        for (service, stuck) in live.services().filter_map(|service| Some((service, service.stuck.as_ref()?))) {
            stuck.table.join(*link);
            loop {
                let owed = stuck.table.take_owed(*link, CLIENTS_AT_ONCE);
                if owed.is_empty() {
                    break;
                }
                peer.told.clients.fetch_add(owed.len() as u64, Ordering::Relaxed);
                send(to, &Frame::Clients(Clients::new(service.name.clone(), owed))).await?;
            }
        }
        Ok(())
    }

    fn leave_tables(&self) {
        let live = self.teller.proxy.live.load();
        live.services()
            .filter_map(|service| service.stuck.as_ref())
            .for_each(|stuck| stuck.table.leave(self.teller.link));
    }
}

impl Drop for Telling<'_> {
    /// The next connection tells all anew.
    fn drop(&mut self) {
        self.leave_tables();
    }
}

async fn send(to: &mut (impl tokio::io::AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    timeout(SILENCE_MAX, to.write_all(&frame.encode())).await?
}

/// How long a client is known here alone, at most.
const CLIENTS_AFTER: Duration = Duration::from_millis(50);

/// A new proxy that waits for its VIP shall not wait for this.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_AFTER_TALK: Duration = Duration::from_millis(50);

/// They do not get on, and each attempt is a line in the log.
const PAUSE_AFTER_SHORT_TALK: Duration = Duration::from_secs(5);

const PING_AFTER: Duration = Duration::from_secs(1);

/// So that no piece is too long.
const WORDS_AT_ONCE: usize = 100;
const CLIENTS_AT_ONCE: usize = 1000;
