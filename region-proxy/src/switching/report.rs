//! What operators are told of L4 services.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::name::{OwnerName, ServerName};

use super::figures::Last;

/// All L4 services at one time.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct L4Report {
    /// In the order of their names.
    pub services: Vec<ServiceReport>,
    /// When the kernel was told to do as it does; absent: not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Timestamp>,
    /// Why the kernel does not do as the settings and the health of servers say; absent: it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// One L4 service.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ServiceReport {
    /// NAME of `[l4.NAME]`.
    pub name: String,
    /// How packets come to servers, as in the settings.
    pub mode: String,
    /// Who gets a flow, as in the settings.
    #[serde(default)]
    pub balance: String,
    /// Whose servers they are.
    pub service: OwnerName,
    /// Where clients send, such as `192.0.2.10:80,443/tcp`.
    pub flows_to: Vec<String>,
    /// Why nothing is passed on, or what is not as it should be; absent: all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether there is no such interface on this machine as it needs, so that nothing is passed on.
    #[serde(skip)]
    pub lacks_interface: bool,
    /// What it counted.
    #[serde(flatten)]
    pub figures: Figures,
    /// Its servers.
    pub servers: Vec<BackendReport>,
}

/// One server of an L4 service.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct BackendReport {
    /// Its name.
    pub server: ServerName,
    /// Its address.
    pub address: String,
    /// What it gets: `open`, `draining` or `gone`.
    pub state: String,
    /// What flow maps call it.
    #[serde(skip)]
    pub(super) number: u32,
    /// Its share of new flows.
    pub weight: u16,
    /// Its Ethernet address, where packets are sent to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Why it gets no new flows although it is up; absent: it gets them, or is not up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it counted.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What is counted in the kernel; `None`: cannot be read.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Figures {
    /// Packets since the start.
    pub packets: Option<u64>,
    /// Their octets.
    pub bytes: Option<u64>,
    /// Flows at this time.
    pub flows: Option<u64>,
}

/// The reports of a proxy; the thread that keeps the kernel true writes.
#[derive(Debug, Default)]
pub struct Reports {
    present: ArcSwap<L4Report>,
    /// What was counted.
    pub(super) last: Last,
    applies: AtomicU64,
    failures: AtomicU64,
}

impl Reports {
    /// Replaces what is told.
    pub(crate) fn publish(&self, report: L4Report) {
        self.present.store(Arc::new(report));
    }

    /// Counts one change of the kernel that was made, or not.
    pub(super) fn count(&self, is_done: bool) {
        let count = if is_done { &self.applies } else { &self.failures };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// What is told at this moment, without [`Figures`].
    pub fn load(&self) -> Arc<L4Report> {
        self.present.load_full()
    }

    /// Changes of the kernel that were made, and those that were not.
    pub fn counts(&self) -> [u64; 2] {
        [self.applies.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed)]
    }
}
