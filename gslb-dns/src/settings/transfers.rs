//! The tables `[tsig_keys]`, and the key `secondaries` of zones.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use shared::name::OwnerName;
use shared::settings::{Table, Value};

use super::{read_address, read_path};
use crate::tsig::Algorithm;

/// One `[tsig_keys.NAME]`: a key that messages are signed with (RFC 8945).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TsigKeySettings {
    /// What both sides call it.
    pub name: OwnerName,
    /// What it is used with.
    pub algorithm: Algorithm,
    /// The file with the secret.
    pub secret_file: PathBuf,
}

/// One of `secondaries`: who may transfer a zone, and is told when it has changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecondarySettings {
    /// Where it takes notifications.
    pub address: SocketAddr,
    /// The key by which it is known; `None`: by its address alone.
    pub key: Option<OwnerName>,
}

/// The keys, as far as they could be read, and the names of all.
pub(super) fn read_keys(root: &Table<'_>) -> (Vec<TsigKeySettings>, BTreeSet<OwnerName>) {
    let (mut keys, mut names) = (Vec::new(), BTreeSet::new());
    for (key, table) in root.tables("tsig_keys") {
        let name = OwnerName::parse(key).map_err(|error| table.problem("", error)).ok();
        let algorithm = match table.value("algorithm") {
            Some(value) => value.choice(&Algorithm::ALL),
            None => Some(Algorithm::Sha256),
        };
        let secret_file = table.required("secret_file", "the path of a file with the secret in base64");
        let secret_file = secret_file.and_then(|value| read_path(&value));
        let Some(name) = name else { continue };
        if !names.insert(name.clone()) {
            table.problem("", format_args!("key {name} stands twice: expected each key once"));
        } else if name.as_str() == NO_KEY {
            table.problem("", "the name none is for secondaries without a key: expected another one");
        }
        if let (Some(algorithm), Some(secret_file)) = (algorithm, secret_file) {
            keys.push(TsigKeySettings { name, algorithm, secret_file });
        }
    }
    (keys, names)
}

/// The secondaries of the zone in `table`, whose keys are among `keys`.
pub(super) fn read_secondaries(table: &Table<'_>, keys: &BTreeSet<OwnerName>) -> Vec<SecondarySettings> {
    let items = table.value("secondaries").and_then(|value| value.items(SECONDARIES_EXPECTED));
    let mut seen = BTreeSet::new();
    let mut secondaries = Vec::new();
    for table in items.unwrap_or_default().iter().filter_map(|item| item.table()) {
        let address = table.required("address", "its address and port, such as \"192.0.2.54:53\"");
        let address = address.and_then(|value| read_address(&value).map(|address| (value, address)));
        let key = table.required("key", KEY_EXPECTED).and_then(|value| read_key_or_none(&value, keys));
        let Some((value, address)) = address else { continue };
        if address.port() == 0 || address.ip().is_unspecified() {
            value.problem(format_args!("{address} cannot be reached: expected an address and a port"));
        } else if !seen.insert(address) {
            value.problem(format_args!("{address} stands twice: expected each secondary once"));
        }
        secondaries.extend(key.map(|key| SecondarySettings { address, key }));
    }
    secondaries
}

/// `None` in it stands for no key; `None`: it is a mistake.
fn read_key_or_none(value: &Value<'_>, keys: &BTreeSet<OwnerName>) -> Option<Option<OwnerName>> {
    match value.parsed(OwnerName::parse)? {
        name if name.as_str() == NO_KEY => Some(None),
        _ => read_key(value, keys, KEY_EXPECTED).map(Some),
    }
}

/// The name of one of `keys`; `None`: it is a mistake, for `expected` should stand there.
pub(super) fn read_key(value: &Value<'_>, keys: &BTreeSet<OwnerName>, expected: &str) -> Option<OwnerName> {
    let name = value.parsed(OwnerName::parse)?;
    if !keys.contains(&name) {
        value.problem(format_args!("there is no key {name}: expected {expected}"));
        return None;
    }
    Some(name)
}

/// Whoever sends from a secondary's address may transfer then: that must be said.
const NO_KEY: &str = "none";
const KEY_EXPECTED: &str = "the name of a table in [tsig_keys], or \"none\" to know it by its address alone";
const SECONDARIES_EXPECTED: &str = "a list such as [{ address = \"192.0.2.54:53\", key = \"xfr\" }]";

#[cfg(test)]
mod tests {
    use crate::settings::Settings;
    use crate::tsig::Algorithm;

    fn parse(zone: &str, keys: &str) -> Result<Settings, Vec<String>> {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:53\"]\n[[zones]]\nname = \"example.com\"\nfile = \"zone\"\n{zone}\n{keys}\n\
             [regions.seoul]\ncoordinates = [37.57, 126.98]\nvips = [\"192.0.2.1\"]\n\
             proxies = {{ seoul-1 = \"http://192.0.2.11:8081/status\" }}\n[services.\"www.example.com\"]\n"
        );
        Settings::parse("t", &text).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn keys_and_secondaries_are_read() {
        let secondaries = "secondaries = [{ address = \"192.0.2.54:53\", key = \"XFR\" }, \
                           { address = \"[2001:db8::54]:53\", key = \"none\" }]";
        let keys = "[tsig_keys.xfr]\nsecret_file = \"xfr.key\"\n[tsig_keys.\"cert.bot\"]\nalgorithm = \"hmac-sha512\"\n\
                    secret_file = \"c\"";
        let settings = parse(secondaries, keys).expect("right");
        let [first, second] = &*settings.zones[0].secondaries else { panic!("two") };
        assert_eq!(
            (first.address.to_string().as_str(), first.key.as_ref().map(|key| key.as_str())),
            ("192.0.2.54:53", Some("xfr"))
        );
        assert_eq!(second.key, None);
        let algorithms: Vec<_> = settings.tsig_keys.iter().map(|key| (key.name.as_str(), key.algorithm)).collect();
        assert_eq!(algorithms, [("xfr", Algorithm::Sha256), ("cert.bot", Algorithm::Sha512)]);
        assert!(parse("", "").expect("right").zones[0].secondaries.is_empty());
    }

    #[test]
    fn signed_zone_has_secondaries_only_beside_a_journal_and_with_a_chain() {
        let secondaries = "secondaries = [{ address = \"192.0.2.54:53\", key = \"none\" }]\n";
        let zone = |more: &str| parse(&format!("{secondaries}{more}"), "");
        assert!(zone("journal = \"j\"\ndnssec = { keys = \"k\", denial = \"nsec3\" }").is_ok());
        let found = zone("dnssec = { keys = \"k\", denial = \"compact\" }").expect_err("wrong");
        for expected in [
            "t:6: zones[0].secondaries: given beside `dnssec` without a journal",
            "t:7: zones[0].dnssec.denial: \"compact\" beside `secondaries`",
        ] {
            assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected} is not in {found:#?}");
        }
    }

    #[test]
    fn every_mistake_is_reported_with_what_would_be_right() {
        let secondaries = "secondaries = [{ address = \"192.0.2.54\", key = \"xfr\" }, { address = \"192.0.2.55:53\" }, \
                           { address = \"192.0.2.56:53\", key = \"nobody\", x = 1 }, { address = \"0.0.0.0:53\", key = \"none\" }]";
        let keys = "[tsig_keys.xfr]\nalgorithm = \"hmac-md5\"\n[tsig_keys.none]\nsecret_file = \"a\"";
        let found = parse(secondaries, keys).expect_err("wrong");
        for expected in [
            "t:6: zones[0].secondaries[0].address: \"192.0.2.54\" is not an address and a port",
            "t:6: zones[0].secondaries[1].key: missing: expected the name of a table in [tsig_keys], or \"none\"",
            "t:6: zones[0].secondaries[2].key: there is no key nobody: expected the name of",
            "t:6: zones[0].secondaries[2].x: unknown key",
            "t:6: zones[0].secondaries[3].address: 0.0.0.0:53 cannot be reached",
            "t:8: tsig_keys.xfr.algorithm: \"hmac-md5\" is not",
            "t:7: tsig_keys.xfr.secret_file: missing",
            "t:9: tsig_keys.none: the name none is for",
        ] {
            assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected} is not in {found:#?}");
        }
    }
}
