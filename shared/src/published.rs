//! What a `region-proxy` tells `gslb-dns`: the JSON of its status endpoint.
//!
//! Readers ignore fields they do not know, so that either side may be newer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{OwnerName, ProxyName, RegionName};

/// The longest status answer that is read, in octets.
pub const STATUS_SIZE_MAX: usize = 1 << 20;

/// The status of one proxy.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Status {
    /// The region it says it serves.
    pub region: RegionName,
    /// Its own name.
    pub proxy: ProxyName,
    /// Whether the region's VIP is on its machine.
    pub holds_vip: bool,
    /// Whether an operator drains it: it serves, but wants no new clients.
    pub is_draining: bool,
    /// Each service that it forwards, by owner name.
    pub services: BTreeMap<OwnerName, ServiceStatus>,
}

/// What a proxy says of one service.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ServiceStatus {
    /// Origin servers that are up and take new clients.
    pub servers_up: u32,
    /// Origin servers it knows.
    pub servers_total: u32,
    /// Requests per second, over the last seconds.
    #[serde(default)]
    pub requests_per_sec: f64,
    /// Requests being answered now.
    #[serde(default)]
    pub connections: u64,
    /// Requests per second that it can bear; `None`: not known.
    #[serde(default)]
    pub capacity: Option<u64>,
}
