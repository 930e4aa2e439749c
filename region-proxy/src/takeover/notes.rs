//! The log of virtual routers: written by a thread of its own, since a log that is slow must not delay a takeover.

use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::vrrp::machine::{Note, State, Why};

/// Takes notes; those that the log is too slow for are left out.
#[derive(Clone, Debug)]
pub(super) struct Notes(SyncSender<Line>);

type Line = Box<dyn FnOnce() + Send>;

impl Notes {
    /// Starts the thread that writes them; it ends after the last of them.
    pub(super) fn start() -> io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (sender, lines): (_, Receiver<Line>) = sync_channel(LINES_MAX);
        let write = move || lines.into_iter().for_each(|line| line());
        let thread = std::thread::Builder::new().name("vrrp-log".to_owned()).spawn(write)?;
        Ok((Self(sender), thread))
    }

    /// Writes what `line` does.
    pub(super) fn tell(&self, line: impl FnOnce() + Send + 'static) {
        // A full log has lines enough.
        let _ = self.0.try_send(Box::new(line));
    }

    /// Something could not be done.
    pub(super) fn failure(&self, router: &str, what: &'static str, error: &io::Error) {
        let (router, error) = (router.to_owned(), error.to_string());
        self.tell(move || tracing::error!(router, error, "vrrp: {what}"));
    }

    /// VIPs were gone that nobody else should touch.
    pub(super) fn put_back(&self, router: &str, vips: &[IpAddr]) {
        let (router, vips) = (router.to_owned(), join(vips));
        self.tell(move || tracing::warn!(router, vips, "vrrp: VIPs were removed by another: put back"));
    }

    /// Another advertises other VIPs by the same number.
    pub(super) fn other_vips(&self, router: &str, from: IpAddr, vips: &[IpAddr]) {
        let (router, vips) = (router.to_owned(), join(vips));
        self.tell(move || tracing::warn!(router, %from, vips, "vrrp: another has the same id and other VIPs"));
    }

    /// Of what a router tracks just this fails from now on.
    pub(super) fn failing(&self, router: &str, failing: impl Iterator<Item = String>) {
        let (router, failing) = (router.to_owned(), failing.collect::<Vec<_>>().join(", "));
        self.tell(move || match failing.is_empty() {
            true => tracing::info!(router, "vrrp: nothing that it tracks fails"),
            false => tracing::warn!(router, failing, "vrrp: what it tracks fails"),
        });
    }

    /// A router has nothing to advertise from, and why; `None`: it has something again.
    pub(super) fn trouble(&self, router: &str, trouble: Option<&str>) {
        let (router, trouble) = (router.to_owned(), trouble.map(str::to_owned));
        self.tell(move || match trouble {
            Some(why) => tracing::warn!(router, why, "vrrp: cannot take part"),
            None => tracing::info!(router, "vrrp: its interface can be used"),
        });
    }

    /// New settings make another router of this one.
    pub(super) fn anew(&self, router: &str) {
        let router = router.to_owned();
        let what =
            "interface, id, family and mac cannot change in place: it lets go as the old one and starts as the new one";
        self.tell(move || tracing::warn!(router, "vrrp: {what}"));
    }

    /// What the machine says.
    pub(super) fn note(&self, router: &str, note: Note) {
        let router = router.to_owned();
        self.tell(move || match note {
            Note::Became(State::Active, why) => {
                tracing::warn!(router, why = text(why), "vrrp: active: the VIPs are here");
            }
            Note::Became(State::Backup, why) => tracing::info!(router, why = text(why), "vrrp: backup"),
            Note::Became(State::Initialize, why) => {
                tracing::warn!(router, why = text(why), "vrrp: takes no part");
            }
            Note::TwoActives(other) => tracing::error!(router, %other, "vrrp: another is active too"),
            Note::OneActive => tracing::warn!(router, "vrrp: the other active one is not heard any more"),
        });
    }
}

fn text(why: Why) -> String {
    match why {
        Why::Able => "it can hold them".to_owned(),
        Why::Unable => "interface, address or what it tracks is missing".to_owned(),
        Why::Silence => "nobody advertised in time".to_owned(),
        Why::LetGo => "who held them let go".to_owned(),
        Why::Better(from) => format!("{from} has the better right"),
        Why::Group => "another of its group fell".to_owned(),
        Why::Stop => "stopping".to_owned(),
    }
}

fn join(vips: &[IpAddr]) -> String {
    vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Lines that wait for the log.
const LINES_MAX: usize = 256;
