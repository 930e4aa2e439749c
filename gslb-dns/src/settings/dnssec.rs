//! The key `dnssec` of a zone.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use shared::settings::Table;

use crate::sign::{Csync, Sync, Timing};
use crate::zone::Denial;

/// How a zone is signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DnssecSettings {
    /// The folder of its key files.
    pub keys: PathBuf,
    /// How it proves that something does not exist.
    pub denial: Denial,
    /// What CDS and CDNSKEY ask of the parent.
    pub sync: Sync,
    /// What CSYNC asks the parent to copy; `None`: there is no such record.
    pub csync: Option<Csync>,
    /// How long signatures hold.
    pub validity: Duration,
    /// TTL of DNSKEY, CDS and CDNSKEY.
    pub dnskey_ttl: Duration,
    /// From a change until every node and secondary serves it.
    pub propagation: Duration,
    /// TTL of the DS records at the parent.
    pub parent_ds_ttl: Duration,
}

impl DnssecSettings {
    /// With the key files in `keys`, and all else as by default.
    pub fn with_keys(keys: PathBuf) -> Self {
        Self {
            keys,
            denial: Denial::default(),
            sync: Sync::default(),
            csync: None,
            validity: Duration::from_hours(14 * 24),
            dnskey_ttl: Duration::from_hours(1),
            propagation: Duration::from_hours(1),
            parent_ds_ttl: Duration::from_hours(24),
        }
    }

    /// How long what a zone with this longest TTL published before may be seen.
    pub fn timing(&self, max_ttl: u32) -> Timing {
        Timing {
            dnskey_ttl: whole_secs(self.dnskey_ttl),
            max_ttl,
            propagation: whole_secs(self.propagation),
            parent_ds_ttl: self.parent_ds_secs(),
        }
    }

    /// The validity in seconds.
    pub fn validity_secs(&self) -> u32 {
        whole_secs(self.validity)
    }

    /// TTL of the DS records at the parent, in seconds.
    pub fn parent_ds_secs(&self) -> u32 {
        whole_secs(self.parent_ds_ttl)
    }

    /// Reads the table of a zone, which may have secondaries. `None`: without the folder it is of no use, and that is reported.
    pub(super) fn read(table: &Table<'_>, has_secondaries: bool) -> Option<Self> {
        let keys = table.required("keys", "the path of the folder with its key files");
        let keys = keys.and_then(|value| super::read_path(&value));
        let default = Self::with_keys(PathBuf::new());
        let denials = [("nsec", Denial::Nsec), ("nsec3", Denial::Nsec3), ("compact", Denial::Compact)];
        let denial = table.value("denial").and_then(|value| {
            let denial = value.choice(&denials);
            if denial == Some(Denial::Compact) && has_secondaries {
                value.problem(COMPACT_ALONE);
            }
            denial
        });
        let syncs = [("publish", Sync::Publish), ("none", Sync::Absent), ("delete", Sync::Delete)];
        let sync = table.value("cds").and_then(|value| value.choice(&syncs));
        let time = |key, range: RangeInclusive<Duration>, default| {
            table.value(key).and_then(|value| value.duration(range)).unwrap_or(default)
        };
        let settings = Self {
            keys: PathBuf::new(),
            denial: denial.unwrap_or_default(),
            sync: sync.unwrap_or_default(),
            csync: read_csync(table),
            validity: time("validity", VALIDITIES, default.validity),
            dnskey_ttl: time("dnskey_ttl", SPANS, default.dnskey_ttl),
            propagation: time("propagation", SPANS, default.propagation),
            parent_ds_ttl: time("parent_ds_ttl", SPANS, default.parent_ds_ttl),
        };
        keys.map(|keys| Self { keys, ..settings })
    }
}

fn read_csync(table: &Table<'_>) -> Option<Csync> {
    let is_immediate = table.value("csync_immediate").and_then(|value| value.flag());
    let Some(value) = table.value("csync") else {
        if is_immediate.is_some() {
            table.problem(
                "csync_immediate",
                "says how CSYNC is meant, which there is none of: expected csync beside it",
            );
        }
        return None;
    };
    let items = value.items(CSYNC_EXPECTED)?;
    let choices = Csync::TYPES.map(|rtype| (rtype.to_string(), rtype));
    let choices = choices.each_ref().map(|(word, rtype)| (word.as_str(), *rtype));
    let types: Vec<_> = items.iter().filter_map(|item| item.choice(&choices)).collect();
    if items.is_empty() {
        value.problem(format_args!("expected {CSYNC_EXPECTED}, or no such key"));
    }
    Some(Csync { types, is_immediate: is_immediate.unwrap_or(true) })
}

/// Part of a second counts as one.
fn whole_secs(span: Duration) -> u32 {
    u32::try_from(span.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

const CSYNC_EXPECTED: &str = "a list such as [\"NS\", \"A\", \"AAAA\"]";
/// With less, signatures would be renewed without end; with more, keys that were stolen would sign for as long.
const VALIDITIES: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_hours(366 * 24);
const COMPACT_ALONE: &str = "\"compact\" beside `secondaries`, which have no key to sign a proof for each question with: \
                             expected \"nsec\" or \"nsec3\"";
const SPANS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(30 * 24);

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;
    use crate::wire::Rtype;

    fn read(dnssec: &str) -> Result<DnssecSettings, Vec<String>> {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:53\"]\n[[zones]]\nname = \"example.com\"\nfile = \"zone\"\n{dnssec}\n\
             [regions.a]\ncoordinates = [0, 0]\nvips = [\"192.0.2.1\"]\nproxies = {{ a = \"http://192.0.2.2/\" }}\n"
        );
        let settings =
            Settings::parse("t", &text).map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok(settings.zones[0].dnssec.clone().expect("the zone is signed"))
    }

    #[test]
    fn every_key_of_dnssec_is_read_and_all_but_the_folder_have_defaults() {
        let settings = read("dnssec = { keys = \"k\" }").expect("it is right");
        assert_eq!(settings, DnssecSettings::with_keys("k".into()));
        let settings = read(
            "dnssec = { keys = \"k\", denial = \"nsec3\", cds = \"delete\", validity = \"7d\", dnskey_ttl = \"5m\",\
             propagation = \"1500ms\", parent_ds_ttl = \"1h\" }",
        );
        let settings = settings.expect("it is right");
        assert_eq!((settings.denial, settings.sync, settings.validity_secs()), (Denial::Nsec3, Sync::Delete, 604_800));
        let csync = read("dnssec = { keys = \"k\", csync = [\"NS\", \"AAAA\"], csync_immediate = false }");
        let types = vec![Rtype::NS, Rtype::AAAA];
        assert_eq!(csync.expect("it is right").csync, Some(Csync { types, is_immediate: false }));
        let timing = Timing { dnskey_ttl: 300, max_ttl: 9, propagation: 2, parent_ds_ttl: 3600 };
        assert_eq!(settings.timing(9), timing);
    }

    #[test]
    fn mistakes_in_dnssec_are_named_by_line() {
        for (dnssec, expected) in [
            ("dnssec = {}", "t:6: zones[0].dnssec.keys: missing"),
            ("dnssec = true", "t:6: zones[0].dnssec: "),
            ("dnssec = { keys = \"\" }", "t:6: zones[0].dnssec.keys: \"\" is not the path"),
            ("dnssec = { keys = \"k\", denial = \"none\" }", "t:6: zones[0].dnssec.denial: "),
            ("dnssec = { keys = \"k\", cds = true }", "t:6: zones[0].dnssec.cds: "),
            ("dnssec = { keys = \"k\", validity = \"1s\" }", "t:6: zones[0].dnssec.validity: "),
            ("dnssec = { keys = \"k\", csync = [] }", "t:6: zones[0].dnssec.csync: expected a list"),
            ("dnssec = { keys = \"k\", csync = [\"MX\"] }", "t:6: zones[0].dnssec.csync[0]: "),
            ("dnssec = { keys = \"k\", csync_immediate = true }", "t:6: zones[0].dnssec.csync_immediate: "),
            ("dnssec = { keys = \"k\", salt = \"x\" }", "t:6: zones[0].dnssec.salt: unknown key"),
        ] {
            let found = read(dnssec).expect_err(dnssec);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{dnssec}: {found:?}");
        }
    }
}
