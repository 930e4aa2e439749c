//! Stick tables, in JSON.
//!
//! ```text
//! GET    /stick                   the tables that there are, and how full they are
//! GET    /stick/SERVICE           who is in one, up to 10,000 clients
//! DELETE /stick/SERVICE[/CLIENT]  forgets all of it, or one client, by its address or what of it the table goes by
//! ```

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use shared::name::OwnerName;

use super::{Asked, Reply};
use crate::live::{Proxy, Service};
use crate::stick::Stick;
use crate::stick_table::{Named, Stuck};

/// A stick table.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TableReport {
    /// Its service.
    pub service: OwnerName,
    /// Clients that it holds.
    pub entries: u64,
    /// Clients that it may hold.
    pub entries_max: u64,
    /// How long it remembers one, in seconds.
    pub lifetime_secs: u64,
    /// Clients that made room for others before their time.
    pub evicted: u64,
}

/// All tables.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Tables {
    /// Each of them.
    pub tables: Vec<TableReport>,
}

/// A client and its server.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClientReport {
    /// Its address, or what its addresses have in common.
    pub client: IpAddr,
    /// Its server.
    pub server: String,
    /// How long ago its last use was, in seconds.
    pub age_secs: u64,
}

/// Who is in a table.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Clients {
    /// Each of them, up to a bound.
    pub clients: Vec<ClientReport>,
}

/// Answers what is asked about stick tables by one who may; `None`: it is about something else.
pub(super) fn answer(proxy: &Proxy, who: &str, asked: &Asked<'_>) -> Option<Reply> {
    let mut parts = asked.path.strip_prefix("/stick")?.split('/').skip(1);
    let (service, client) = (parts.next(), parts.next());
    if parts.next().is_some() {
        return None;
    }
    Some(match (service, client, asked.method) {
        (None, _, "GET" | "HEAD") => Reply::json(&Tables { tables: tables(proxy) }),
        (None, _, _) => Reply::json_not_allowed("GET, HEAD"),
        (Some(name), client, method) => {
            let live = proxy.live.load();
            let found = live.service_named(&name.to_ascii_lowercase()).and_then(|at| live.services().nth(at));
            let Some((service, stuck)) = found.and_then(|service| Some((service, service.stuck.as_ref()?))) else {
                return Some(Reply::error(404, format_args!("{name} has no stick table: expected {}", known(proxy))));
            };
            match (client, method) {
                (None, "GET" | "HEAD") => Reply::json(&clients(stuck)),
                (client, "DELETE") => forget(service, stuck, client, who),
                _ => Reply::json_not_allowed("GET, HEAD, DELETE"),
            }
        }
    })
}

/// Those that there are.
pub(super) fn tables(proxy: &Proxy) -> Vec<TableReport> {
    let live = proxy.live.load();
    live.services().filter_map(|service| Some(table(service, service.stuck.as_ref()?))).collect()
}

fn table(service: &Service, stuck: &Stuck) -> TableReport {
    let counts = stuck.table.counts();
    TableReport {
        service: service.name.clone(),
        entries: counts.entries,
        entries_max: stuck.bounds.entries as u64,
        lifetime_secs: stuck.bounds.lifetime.as_secs(),
        evicted: counts.evicted,
    }
}

fn clients(stuck: &Stuck) -> Clients {
    let report = |named: Named| ClientReport {
        client: named.client,
        server: named.server.to_string(),
        age_secs: named.age.as_secs(),
    };
    Clients { clients: stuck.table.entries(stuck.bounds.lifetime, SHOWN_MAX).into_iter().map(report).collect() }
}

fn forget(service: &Service, stuck: &Stuck, client: Option<&str>, who: &str) -> Reply {
    let client = match client.map(str::parse::<IpAddr>) {
        Some(Err(_)) => return Reply::error(400, "not a client: expected an IP address"),
        Some(Ok(address)) => match service.config.stick {
            Some(Stick::Table(prefixes, _)) => Some(prefixes.of(address)),
            _ => Some(address),
        },
        None => None,
    };
    let forgotten = stuck.table.clear(client);
    tracing::warn!(service = %service.name, ?client, forgotten, who, "stick table cleared");
    Reply::json(&serde_json::json!({ "forgotten": forgotten }))
}

fn known(proxy: &Proxy) -> String {
    let known: Vec<String> = tables(proxy).into_iter().map(|table| table.service.to_string()).collect();
    match known.is_empty() {
        true => "a service with stick = { by = \"source\" }, and there is none".to_owned(),
        false => format!("one of {}", known.join(", ")),
    }
}

/// More than people read.
const SHOWN_MAX: usize = 10_000;
