//! What a `region-proxy` tells `gslb-dns`: the JSON of its status endpoint.
//!
//! Readers ignore fields they do not know, so that either side may be newer.

use std::collections::BTreeMap;
use std::net::IpAddr;

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
    /// Each virtual router that it is part of, where it holds VIPs in turn with others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub virtual_routers: Vec<VirtualRouterStatus>,
}

impl Status {
    /// The virtual router that has `vip`; `None`: it does not hold that in turn with others.
    pub fn router_of(&self, vip: IpAddr) -> Option<&VirtualRouterStatus> {
        self.virtual_routers.iter().find(|router| router.vips.contains(&vip))
    }
}

/// What a proxy says of one virtual router (VRRP, RFC 9568).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct VirtualRouterStatus {
    /// What its settings call it.
    pub name: String,
    /// Its VIPs.
    pub vips: Vec<IpAddr>,
    /// What part it takes.
    pub state: VirtualRouterState,
    /// Whether its VIPs are on this machine.
    pub holds_vips: bool,
    /// The address of who holds them: its own, or that of who was last heard to; `None`: nobody.
    pub holder: Option<IpAddr>,
    /// Its priority now; 0 where it takes no part.
    pub priority: u8,
    /// When it last took them, in seconds since 1970.
    pub last_takeover: Option<u64>,
    /// Alarm: another one that says that it holds them too was heard lately.
    pub hears_other_active: bool,
    /// What its priority hangs on and fails now, such as `gateway 192.0.2.1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<String>,
}

/// RFC 9568, section 6.4.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VirtualRouterState {
    /// It takes no part.
    Initialize,
    /// It waits for who is active to fall silent.
    Backup,
    /// It holds the VIPs.
    Active,
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
