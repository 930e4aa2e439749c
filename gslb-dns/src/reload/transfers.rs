//! Keys that are shared with others, and the zones that these may transfer.

use std::borrow::Borrow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use shared::problem::Problem;
use shared::topology::Topology;

use super::{Reader, SignedZone, Stamp, World};
use crate::settings::{KeyLines, NamedFiles, TsigKeySettings, ZoneSettings};
use crate::transfer::Transferable;
use crate::tsig::{Key, KeySet};
use crate::wire::Name;
use crate::zone::{Content, Zone, wire_name};

/// A zone with secondaries.
#[derive(Clone, Debug)]
pub struct TransferZone {
    /// What they get.
    pub zone: Transferable,
    /// Who they are; never empty.
    pub secondaries: Arc<[Secondary]>,
}

/// Who may transfer a zone, and is told when it has changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Secondary {
    /// Where it takes notifications.
    pub address: SocketAddr,
    /// The key that it is known by; `None`: by its address alone.
    pub key: Option<Name>,
}

impl TransferZone {
    /// Whether who asks from `address` and has signed with `key` may transfer it.
    ///
    /// A key is enough, wherever it is used: a secondary may have more addresses than the one for notifications. Where a
    /// secondary has none, its address is enough.
    pub fn admits(&self, address: IpAddr, key: Option<&Name>) -> bool {
        self.secondaries.iter().any(|secondary| match &secondary.key {
            Some(expected) => key == Some(expected),
            None => key.is_none() && secondary.address.ip().to_canonical() == address.to_canonical(),
        })
    }
}

impl World {
    /// The zone `apex`, in lower case, when it has secondaries.
    pub fn transfer_zone(&self, apex: &[u8]) -> Option<&TransferZone> {
        self.transfers.iter().find(|transfer| transfer.zone.content().apex().as_wire() == apex)
    }
}

impl Reader {
    /// The keys in the files that the settings name.
    pub(super) fn read_keys(&mut self, named: &NamedFiles) -> KeySet {
        named.tsig_keys.iter().filter_map(|key| self.read_key(key)).collect()
    }

    fn read_key(&mut self, settings: &TsigKeySettings) -> Option<Key> {
        let path = self.folder.join(&settings.secret_file);
        self.files.stamps.push((path.clone(), Stamp::of(&path)));
        let text = self.read_private(&path)?;
        let key = Key::parse(&wire_name(&settings.name), settings.algorithm, &text);
        key.map_err(|error| self.problem(&path, error.to_string())).ok()
    }
}

/// What those of `zones` that have secondaries say, which are in the order of `settings`, of those that are signed with
/// what `signed` has of them; each goes on from what it was in `last`.
pub(super) fn transfers<Z: Borrow<Zone>>(
    zones: &[Z],
    signed: &[SignedZone],
    settings: &[ZoneSettings],
    topology: &Topology,
    last: Option<&World>,
) -> Vec<TransferZone> {
    let with_secondaries = settings.iter().enumerate().filter(|(_, settings)| !settings.secondaries.is_empty());
    let transfers = with_secondaries.map(|(at, settings)| {
        let signed = signed.iter().find(|signed| signed.apex == *zones[at].borrow().apex());
        let content = signed.and_then(|signed| signed.content.clone());
        let content = content.unwrap_or_else(|| Arc::new(Content::of(zones, at, topology)));
        let before = last.and_then(|last| last.transfer_zone(content.apex().as_wire()));
        let zone = match before {
            Some(before) => before.zone.next(content),
            None => Transferable::new(content),
        };
        let secondary = |settings: &crate::settings::SecondarySettings| Secondary {
            address: settings.address,
            key: settings.key.as_ref().map(wire_name),
        };
        TransferZone { zone, secondaries: settings.secondaries.iter().map(secondary).collect() }
    });
    transfers.collect()
}

/// Zones of which secondaries never hear that they have changed since `last`.
pub(super) fn warnings(transfers: &[TransferZone], last: Option<&World>, lines: &KeyLines) -> Vec<Problem> {
    let is_hidden = |content: &Content| {
        let before = last.and_then(|last| last.transfer_zone(content.apex().as_wire()));
        before.is_some_and(|before| {
            let before = before.zone.content();
            // Of one that fell the zone itself is warned of.
            **before != *content && content.serial() == before.serial()
        })
    };
    let hidden = transfers.iter().map(|transfer| transfer.zone.content()).filter(|content| is_hidden(content));
    let warning = |content: &Arc<Content>| {
        let (apex, serial) = (content.apex(), content.serial());
        let what = format!(
            "what secondaries of {apex} get has changed, as by the VIPs of a region, but its serial {serial} is no newer: \
             they keep what they have; raise it in the zone file"
        );
        lines.problem("zones", &["zones"], what)
    };
    hidden.map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(secondaries: &[(&str, Option<&str>)]) -> TransferZone {
        let name = |text: &str| Name::parse(text, &Name::root()).expect("a name");
        let secondaries = secondaries
            .iter()
            .map(|(address, key)| Secondary { address: address.parse().expect("an address"), key: key.map(name) });
        let content = Content::collect(name("example.com"), []);
        TransferZone { zone: Transferable::new(content), secondaries: secondaries.collect() }
    }

    #[test]
    fn key_admits_from_everywhere_and_an_address_only_without_one() {
        let key = |text: &str| Name::parse(text, &Name::root()).expect("a name");
        let (home, elsewhere) = (IpAddr::from([192, 0, 2, 54]), IpAddr::from([198, 51, 100, 1]));
        let with_key = zone(&[("192.0.2.54:53", Some("xfr"))]);
        assert!(with_key.admits(elsewhere, Some(&key("xfr"))));
        assert!(!with_key.admits(home, None) && !with_key.admits(home, Some(&key("other"))));
        let without = zone(&[("192.0.2.54:53", None)]);
        assert!(without.admits(home, None) && without.admits("::ffff:192.0.2.54".parse().expect("an address"), None));
        assert!(!without.admits(elsewhere, None) && !without.admits(home, Some(&key("other"))));
    }
}
