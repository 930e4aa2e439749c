//! What `nft -j` lists of our tables: what is there, and what was counted.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use shared::name::ServerName;

use super::{Kind, Name, Object, TABLE, TableFamily};

/// What was listed of our tables; of others nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Listing {
    /// All that has a name.
    pub objects: BTreeSet<Object>,
    counters: BTreeMap<(Name, Option<ServerName>), Traffic>,
    flows: BTreeMap<Name, BTreeMap<u32, u64>>,
}

/// What has passed.
///
/// By NAT and one-arm this is both ways; by DSR and tunnels, whose answers do not come by, it is what clients sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Their octets, with their IP headers.
    pub bytes: u64,
}

impl Listing {
    /// What nft must be asked for: `nft -j` with this as its last argument; with `-t` before it without flows.
    pub const REQUEST: &str = "list counters; list chains; list maps";

    /// Reads what nft answers: one JSON text or several. Fails where that is not what it should be.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let mut listing = Self::default();
        for document in serde_json::Deserializer::from_str(text).into_iter::<Document>() {
            for item in document?.nftables {
                listing.add(item)?;
            }
        }
        Ok(listing)
    }

    /// What came to or from the VIPs of `service`; `None`: it has no rules.
    pub fn service(&self, service: &Name) -> Option<Traffic> {
        self.counters.get(&(service.clone(), None)).copied()
    }

    /// What went to or came from one of its servers; `None`: it has no rules.
    pub fn backend(&self, service: &Name, backend: &ServerName) -> Option<Traffic> {
        self.counters.get(&(service.clone(), Some(backend.clone()))).copied()
    }

    /// Flows of `service` that are remembered, by DSR and tunnels: how many by the number of their server.
    pub fn flows(&self, service: &Name) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.flows.get(service).into_iter().flatten().map(|(number, count)| (*number, *count))
    }

    fn add(&mut self, item: BTreeMap<String, Value>) -> Result<(), serde_json::Error> {
        for (word, value) in item {
            let kind = match word.as_str() {
                "chain" => Kind::Chain,
                "map" => Kind::Map,
                "counter" => Kind::Counter,
                _ => continue,
            };
            let item: Item = serde_json::from_value(value)?;
            let family = [TableFamily::Inet, TableFamily::Netdev].into_iter().find(|one| one.as_str() == item.family);
            let Some(table) = family.filter(|_| item.table == TABLE) else { continue };
            match kind {
                Kind::Counter => self.count(&item),
                Kind::Map => self.count_flows(&item),
                Kind::Chain => {}
            }
            self.objects.insert(Object { table, kind, name: item.name });
        }
        Ok(())
    }

    fn count(&mut self, item: &Item) {
        let Some((service, rest)) = of_service(&item.name) else { return };
        let backend = match rest.map(ServerName::parse) {
            Some(Err(_)) => return,
            Some(Ok(name)) => Some(name),
            None => None,
        };
        let traffic = Traffic { packets: item.packets, bytes: item.bytes };
        self.counters.insert((service, backend), traffic);
    }

    fn count_flows(&mut self, item: &Item) {
        let Some((service, _)) = of_service(&item.name) else { return };
        let flows = self.flows.entry(service).or_default();
        // Each is a pair: the key, with its times, and the number.
        let numbers = item.elem.iter().filter_map(|pair| u32::try_from(pair.get(1)?.as_u64()?).ok());
        for number in numbers {
            *flows.entry(number).or_default() += 1;
        }
    }
}

/// The service in the name of something of ours, and what follows it.
fn of_service(name: &str) -> Option<(Name, Option<&str>)> {
    let mut parts = name.strip_prefix("l4.")?.splitn(2, '.');
    Some((Name::parse(parts.next()?)?, parts.next()))
}

#[derive(Deserialize)]
struct Document {
    nftables: Vec<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
struct Item {
    family: String,
    table: String,
    name: String,
    #[serde(default)]
    packets: u64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    elem: Vec<Value>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As nft 1.0.6 has it, shortened.
    const LISTED: &str = r#"
{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
 {"counter": {"family": "netdev", "name": "l4.web", "table": "region_proxy", "handle": 23, "packets": 90, "bytes": 5000}},
 {"counter": {"family": "netdev", "name": "l4.web.app-1", "table": "region_proxy", "handle": 24, "packets": 60, "bytes": 3000}},
 {"counter": {"family": "inet", "name": "l4.web.app-1", "table": "mine", "handle": 24, "packets": 7, "bytes": 7}}]}
{"nftables": [{"metainfo": {"version": "1.0.6"}},
 {"chain": {"family": "netdev", "table": "region_proxy", "name": "hook.eth0", "handle": 1, "dev": "eth0", "type": "filter"}}]}
{"nftables": [{"map": {"family": "netdev", "name": "l4.web.flows.65536", "table": "region_proxy", "type": "integer",
 "handle": 30, "map": "mark", "size": 65536, "flags": ["timeout"], "elem": [
 [{"elem": {"val": 5, "timeout": 300, "expires": 299}}, 102], [{"elem": {"val": 77, "timeout": 300, "expires": 299}}, 103],
 [{"elem": {"val": 78, "timeout": 300, "expires": 299}}, 103]]}}]}"#;

    fn web() -> Name {
        Name::parse("web").expect("a name")
    }

    #[test]
    fn what_was_counted_is_found_by_service_server_and_number() {
        let listing = Listing::parse(LISTED).expect("a listing");
        let app = |number| ServerName::parse(&format!("app-{number}")).expect("a name");
        assert_eq!(listing.service(&web()), Some(Traffic { packets: 90, bytes: 5000 }));
        assert_eq!(listing.backend(&web(), &app(1)), Some(Traffic { packets: 60, bytes: 3000 }));
        assert_eq!(listing.backend(&web(), &app(2)), None);
        assert_eq!(listing.flows(&web()).collect::<Vec<_>>(), [(102, 1), (103, 2)]);
    }

    #[test]
    fn what_is_not_ours_is_not_seen() {
        let listing = Listing::parse(LISTED).expect("a listing");
        let names: Vec<&str> = listing.objects.iter().map(|object| object.name.as_str()).collect();
        assert_eq!(names, ["hook.eth0", "l4.web.flows.65536", "l4.web", "l4.web.app-1"]);
        assert!(listing.objects.iter().all(|object| object.table == TableFamily::Netdev));
    }

    #[test]
    fn nothing_listed_is_nothing_there() {
        assert_eq!(Listing::parse("").expect("an empty listing"), Listing::default());
        assert!(Listing::parse("Error: no such file").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}", cut in 0..LISTED.len()) {
            let _ = Listing::parse(&text);
            let _ = Listing::parse(&LISTED[..cut]);
        }
    }
}
