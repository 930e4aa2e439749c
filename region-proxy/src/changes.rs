//! What operators changed at run time, laid over what the settings say.
//!
//! A reload keeps what still has a meaning: changes of servers that stay, servers that were added to services that stay.
//! All else is dropped, and told.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use shared::name::{OwnerName, ServerName};

use crate::balance::Mode;
use crate::config::{Config, ServerConfig, ServiceConfig, unfit_address};
use crate::standing::{Order, WEIGHT_MAX};
use crate::stick::key::{Key, Keys};
use crate::stick::{self, Stick};

/// The changes of servers, by service and name.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Changes(BTreeMap<OwnerName, BTreeMap<ServerName, Change>>);

/// What was changed of one server.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    /// Whether it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Its share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// It is not in the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added: Option<Added>,
    /// It is, and is to be treated as if it were not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_removed: bool,
}

/// A server that is not in the settings: what these could say of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Added {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share.
    #[serde(default = "one")]
    pub weight: u16,
    /// Whether it serves only when the others cannot.
    #[serde(default)]
    pub backup: bool,
    /// Requests at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// What cookies call it; derived where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where its checks go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<SocketAddr>,
}

fn one() -> u16 {
    1
}

/// Why a change cannot be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unfit {
    /// There is no such service.
    #[error("{service} is not a service: expected one of {known}")]
    NoService {
        /// Its name.
        service: OwnerName,
        /// Those that there are.
        known: String,
    },
    /// There is no such server.
    #[error("{server} is not a server of {service}: expected one of {known}")]
    NoServer {
        /// The service.
        service: OwnerName,
        /// The server's name.
        server: ServerName,
        /// Those that there are.
        known: String,
    },
    /// It is there already.
    #[error("{server} is in the settings of {service} already: expected another name")]
    IsThere {
        /// The service.
        service: OwnerName,
        /// The server's name.
        server: ServerName,
    },
    /// Something of it cannot be.
    #[error("{server}: {what}")]
    Wrong {
        /// The server's name.
        server: ServerName,
        /// What is wrong, and what would be right.
        what: String,
    },
}

impl Unfit {
    /// Whether what was named is not there.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::NoService { .. } | Self::NoServer { .. })
    }
}

/// Settings with what operators changed of them.
#[derive(Debug)]
pub struct Laid {
    /// What counts.
    pub config: Config,
    /// What of the changes has a meaning.
    pub changes: Changes,
    /// What has none, and why.
    pub dropped: Vec<Unfit>,
}

impl Changes {
    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many servers were changed.
    pub fn count(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// The servers that were changed, by service and name.
    pub fn names(&self) -> impl Iterator<Item = (OwnerName, ServerName)> {
        let services = self.0.iter();
        services.flat_map(|(service, servers)| servers.keys().map(|server| (service.clone(), server.clone())))
    }

    /// What was changed of a server.
    pub fn of(&self, service: &str, server: &str) -> Option<&Change> {
        self.0.get(service)?.get(server)
    }

    /// The servers of `service` that are in the settings and were removed.
    pub fn removed(&self, service: &str) -> impl Iterator<Item = &ServerName> {
        let servers = self.0.get(service).into_iter().flatten();
        servers.filter(|(_, change)| change.is_removed).map(|(name, _)| name)
    }

    /// What was ordered of a server.
    pub fn order(&self, service: &str, server: &str) -> Order {
        self.of(service, server)
            .map_or_else(Order::default, |change| Order { mode: change.mode, weight: change.weight })
    }

    /// Puts `change` in the place of what was changed of a server before; one that says nothing is none.
    pub fn set(&mut self, service: &OwnerName, server: &ServerName, change: Change) {
        let servers = self.0.entry(service.clone()).or_default();
        if change == Change::default() {
            servers.remove(server);
        } else {
            servers.insert(server.clone(), change);
        }
        if servers.is_empty() {
            self.0.remove(service);
        }
    }

    /// Lays all of it over `file`, what the settings say.
    pub fn over(&self, file: &Config) -> Laid {
        let mut laid = Laid { config: file.clone(), changes: Self::default(), dropped: Vec::new() };
        for (service, changes) in &self.0 {
            // What goes makes room for what comes.
            let (gone, rest): (Vec<_>, Vec<_>) = changes.iter().partition(|(_, change)| change.is_removed);
            for (server, change) in gone.into_iter().chain(rest) {
                let done = change.lay(&mut laid.config, service, server);
                match done {
                    Ok(()) => laid.changes.set(service, server, change.clone()),
                    Err(unfit) => laid.dropped.push(unfit),
                }
            }
        }
        laid
    }
}

impl Change {
    fn lay(&self, config: &mut Config, service: &OwnerName, server: &ServerName) -> Result<(), Unfit> {
        let wrong = |what: String| Unfit::Wrong { server: server.clone(), what };
        if self.weight.is_some_and(|weight| weight > WEIGHT_MAX) {
            return Err(wrong(format!("weight: expected a whole number from 0 to {WEIGHT_MAX}")));
        }
        let listen: Vec<_> = config.entrances().map(|(address, _)| address).collect();
        let secret = config.cookie_secret;
        let known = config.services.keys().map(OwnerName::as_str).collect::<Vec<_>>().join(", ");
        let Some(settings) = config.services.get_mut(service) else {
            return Err(Unfit::NoService { service: service.clone(), known });
        };
        if let Some(added) = &self.added {
            if settings.servers.contains_key(server) {
                return Err(Unfit::IsThere { service: service.clone(), server: server.clone() });
            }
            let key = added.key(settings).map_err(wrong)?;
            let key = key.unwrap_or_else(|| Key::derive(&secret, service.as_str(), server.as_str()));
            let next = added.server(settings, &listen).and_then(|added| with(settings, server, added, key));
            *settings = next.map_err(wrong)?;
            return Ok(());
        }
        if !settings.servers.contains_key(server) {
            let known = settings.servers.keys().map(ServerName::as_str).collect::<Vec<_>>().join(", ");
            return Err(Unfit::NoServer { service: service.clone(), server: server.clone(), known });
        }
        if self.is_removed {
            *settings = without(settings, server).map_err(wrong)?;
        }
        Ok(())
    }
}

impl Added {
    fn server(&self, settings: &ServiceConfig, listen: &[SocketAddr]) -> Result<ServerConfig, String> {
        let servers = settings.servers.iter().map(|(name, server)| (name, server.address));
        if let Some(what) = unfit_address(self.address, listen, servers) {
            return Err(format!("address: {what}"));
        }
        if self.weight > WEIGHT_MAX {
            return Err(format!("weight: {}: expected a whole number from 0 to {WEIGHT_MAX}", self.weight));
        }
        if let Some(connections) = self.connections
            && !(1..=CONNECTIONS_MAX).contains(&connections)
        {
            return Err(format!("connections: {connections}: expected a whole number from 1 to {CONNECTIONS_MAX}"));
        }
        Ok(ServerConfig {
            weight: self.weight,
            is_backup: self.backup,
            connections: self.connections,
            check: self.check,
            ..ServerConfig::new(self.address, settings.tls.clone())
        })
    }

    /// The key that it was given.
    fn key(&self, settings: &ServiceConfig) -> Result<Option<Key>, String> {
        let is_passive = matches!(&settings.stick, Some(Stick::Cookie(cookie)) if cookie.mode == stick::Mode::Passive);
        match &self.key {
            None if is_passive => Err("key: missing: expected what the server sets in its cookie".to_owned()),
            None => Ok(None),
            Some(key) => Key::parse(key).map(Some).map_err(|error| format!("key: {error}")),
        }
    }
}

/// `settings` with one server more.
fn with(settings: &ServiceConfig, name: &ServerName, server: ServerConfig, key: Key) -> Result<ServiceConfig, String> {
    let mut next = settings.clone();
    let mut keys = keys_of(settings);
    keys.insert(name.clone(), key);
    next.servers.insert(name.clone(), server);
    next.keys = Keys::from_keys(keys.into_values().collect()).map_err(|same| {
        let of = |index| next.servers.keys().nth(index).map_or("", ServerName::as_str);
        format!("key: {} and {} have the same: expected one each", of(same.one), of(same.other))
    })?;
    Ok(next)
}

/// `settings` with one server less.
fn without(settings: &ServiceConfig, name: &ServerName) -> Result<ServiceConfig, String> {
    let mut next = settings.clone();
    let mut keys = keys_of(settings);
    keys.remove(name);
    next.servers.remove(name);
    if next.servers.values().all(|server| server.is_backup) {
        return Err(
            "no server but backups would be left: expected one to stay; put it in maintenance instead".to_owned()
        );
    }
    next.keys = Keys::from_keys(keys.into_values().collect()).map_err(|same| same.to_string())?;
    Ok(next)
}

fn keys_of(settings: &ServiceConfig) -> BTreeMap<ServerName, Key> {
    let names = settings.servers.keys().enumerate();
    names.filter_map(|(index, name)| Some((name.clone(), settings.keys.of(index)?.clone()))).collect()
}

const CONNECTIONS_MAX: u32 = 1_000_000;

#[cfg(test)]
mod tests;
