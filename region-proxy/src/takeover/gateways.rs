//! The gateways that a virtual router tracks, at the socket: asks them, and hears their answers.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use shared::moment::Moment;
use socket2::Socket;

use super::wire::{self, Wire};
use crate::vrrp::frame::Mac;
use crate::vrrp::gateway::Gateway;
use crate::vrrp::neighbour::{answer, question};

/// Those of one router, on one interface.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    known: BTreeMap<IpAddr, Gateway>,
    /// Hears answers on the interface of this number; `None`: nobody is asked.
    ear: Option<(u32, Socket)>,
}

impl Gateways {
    /// Tracks `wanted`; those that are new begin as `new`.
    pub(super) fn follow<'a>(&mut self, wanted: impl Iterator<Item = &'a IpAddr>, new: Gateway) {
        let known = std::mem::take(&mut self.known);
        self.known = wanted.map(|address| (*address, known.get(address).copied().unwrap_or(new))).collect();
        if self.known.is_empty() {
            self.ear = None;
        }
    }

    /// Whether this one can be reached, as far as it is known.
    pub(super) fn is_reached(&self, address: IpAddr) -> bool {
        self.known.get(&address).is_some_and(Gateway::is_reached)
    }

    /// Whether all can be reached, as far as it is known.
    pub(super) fn are_reached(&self) -> bool {
        self.known.values().all(Gateway::is_reached)
    }

    /// Listens on `interface`, which is numbered `index`; `None`: there is none.
    pub(super) fn look(&mut self, interface: &str, index: Option<u32>) -> io::Result<()> {
        let index = index.filter(|_| !self.known.is_empty());
        if self.ear.as_ref().map(|(index, _)| *index) != index {
            let is_v4 = self.known.keys().all(IpAddr::is_ipv4);
            self.ear = None;
            if let Some(index) = index {
                self.ear = Some((index, wire::neighbours(interface, is_v4)?));
            }
        }
        Ok(())
    }

    /// Takes what waits to be heard into account.
    pub(super) fn receive(&mut self) {
        let Some((_, ear)) = &self.ear else { return };
        // Bounded, so that a flood cannot keep the thread from all else. What cannot be received is no answer.
        for octets in std::iter::from_fn(|| wire::receive_frame(ear)).take(RECEIVED_MAX) {
            if let Some(gateway) = answer(&octets).and_then(|from| self.known.get_mut(&from)) {
                gateway.hear();
            }
        }
    }

    /// Asks those whose turn it is, from `source` at `mac`; without these nobody can be asked.
    pub(super) fn ask(&mut self, now: Moment, wire: Option<&Wire>, source: Option<(IpAddr, Mac)>) {
        for (address, gateway) in self.known.iter_mut().filter(|(_, gateway)| gateway.due() <= now) {
            let frame = source.and_then(|(source, mac)| question(*address, source, mac));
            match frame.zip(wire).filter(|_| self.ear.is_some()) {
                // What the link does not take has no answer.
                Some((frame, wire)) => {
                    let _ = wire.send_frame(&frame);
                    gateway.ask(now);
                }
                None => gateway.skip(now),
            }
        }
    }

    /// When the next is to be asked.
    pub(super) fn due(&self) -> Option<Moment> {
        self.known.values().map(Gateway::due).min()
    }

    /// What becomes readable with an answer.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.ear.as_ref().map(|(_, socket)| socket.as_fd())
    }
}

/// Answers heard in a row.
const RECEIVED_MAX: usize = 64;
