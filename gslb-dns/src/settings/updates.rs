//! The keys `updates` and `journal` of `[[zones]]`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use shared::name::OwnerName;
use shared::settings::{Table, Value};

use super::read_path;
use super::transfers::read_key;
use crate::update::{NamePattern, Policy, Rule};
use crate::wire::{Name, Rtype};
use crate::zone::{is_meta, parse_type, wire_name};

/// Who may update the zone of `table`, whose keys are among `keys`, and where that is kept; `name` is the zone's.
pub(super) fn read_updates(
    table: &Table<'_>,
    name: Option<&OwnerName>,
    keys: &BTreeSet<OwnerName>,
) -> (Policy, Option<PathBuf>) {
    let journal = table.value("journal").and_then(|value| read_path(&value));
    let Some(value) = table.value("updates") else { return (Policy::default(), journal) };
    let apex = name.map(wire_name);
    let items = value.items(UPDATES_EXPECTED).unwrap_or_default();
    let rules = items.iter().filter_map(|item| read_rule(&item.table()?, apex.as_ref(), keys)).collect();
    if journal.is_none() && table.value("journal").is_none() {
        value.problem("updates need a journal beside them: expected such as journal = \"example.com.journal\"");
    }
    (Policy { rules }, journal)
}

fn read_rule(table: &Table<'_>, apex: Option<&Name>, keys: &BTreeSet<OwnerName>) -> Option<Rule> {
    let key = table.required("key", KEY_EXPECTED);
    let names = table.required("names", NAMES_EXPECTED);
    let types = table.required("types", TYPES_EXPECTED);
    let key = key.and_then(|value| read_key(&value, keys, KEY_EXPECTED)).map(|name| wire_name(&name));
    let names = names.and_then(|value| read_list(&value, NAMES_EXPECTED, |item| read_pattern(item, apex)));
    let types = types.and_then(|value| read_list(&value, TYPES_EXPECTED, read_type));
    Some(Rule { key: key?, names: names?, types: types? })
}

fn read_pattern(value: &Value<'_>, apex: Option<&Name>) -> Option<NamePattern> {
    let pattern = value.parsed(NamePattern::parse)?;
    if let Some(apex) = apex.filter(|apex| !pattern.fits(apex)) {
        value.problem(format_args!(
            "no name of the zone {apex} can be this: expected one relative to the zone, without a final dot"
        ));
    }
    Some(pattern)
}

fn read_type(value: &Value<'_>) -> Option<Rtype> {
    let known = |text: &str| parse_type(text).filter(|&rtype| rtype == Rtype::ANY || !is_meta(rtype));
    value.parsed_as("a type that a zone can hold, or \"ANY\" for all", known)
}

fn read_list<T>(value: &Value<'_>, expected: &str, read: impl Fn(&Value<'_>) -> Option<T>) -> Option<Vec<T>> {
    let items = value.items(expected)?;
    if items.is_empty() {
        value.problem(format_args!("the list is empty: expected {expected}"));
    }
    Some(items.iter().filter_map(read).collect())
}

const UPDATES_EXPECTED: &str =
    "a list such as [{ key = \"certbot\", names = [\"_acme-challenge.*\"], types = [\"TXT\"] }]";
const KEY_EXPECTED: &str = "the name of a table in [tsig_keys]";
const NAMES_EXPECTED: &str = "a list of names, such as [\"_acme-challenge.*\", \"*.dyn\", \"host\"]";
const TYPES_EXPECTED: &str = "a list of record types, such as [\"TXT\"]";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    /// Settings whose zone has `lines`.
    fn parse(lines: &str) -> Result<Settings, Vec<String>> {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n[tsig_keys.certbot]\nsecret_file = \"k\"\n\
             [[zones]]\nname = \"example.com\"\nfile = \"z\"\n{lines}\n\
             [regions.a]\ncoordinates = [1, 1]\nvips = [\"192.0.2.1\"]\nproxies = {{ p = \"http://192.0.2.2/status\" }}\n\
             [services.\"www.example.com\"]\npolicy = \"ordered\"\nregions = [\"a\"]\n"
        );
        Settings::parse("t", &text).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_a_word_nobody_updates() {
        let settings = parse("").expect("right");
        assert_eq!((&settings.zones[0].updates, &settings.zones[0].journal), (&Policy::default(), &None));
    }

    #[test]
    fn rules_are_read() {
        let settings = parse(
            "journal = \"j\"\nupdates = [{ key = \"certbot\", names = [\"_acme-challenge.*\"], types = [\"txt\", \"TYPE65280\"] }]",
        )
        .expect("right");
        let rule = &settings.zones[0].updates.rules[0];
        assert_eq!(rule.key.to_string(), "certbot.");
        assert_eq!(rule.names, [NamePattern::parse("_acme-challenge.*").expect("a pattern")]);
        assert_eq!(rule.types, [Rtype::TXT, Rtype(65280)]);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let cases = [
            ("updates = []", "t:8: zones[0].updates: updates need a journal beside them"),
            (
                "journal = \"j\"\nupdates = [{ key = \"x\", names = [\"a\"], types = [\"A\"] }]",
                "t:9: zones[0].updates[0].key: there is no key x",
            ),
            (
                "journal = \"j\"\nupdates = [{ key = \"certbot\", names = [\"a.*.b\"], types = [\"A\"] }]",
                "t:9: zones[0].updates[0].names[0]: `*` may stand",
            ),
            (
                "journal = \"j\"\nupdates = [{ key = \"certbot\", names = [\"a.net.\"], types = [\"A\"] }]",
                "t:9: zones[0].updates[0].names[0]: no name of the zone example.com.",
            ),
            (
                "journal = \"j\"\nupdates = [{ key = \"certbot\", names = [], types = [\"A\"] }]",
                "t:9: zones[0].updates[0].names: the list is empty",
            ),
            (
                "journal = \"j\"\nupdates = [{ key = \"certbot\", names = [\"a\"], types = [\"AXFR\"] }]",
                "t:9: zones[0].updates[0].types[0]: \"AXFR\" is not a type",
            ),
            (
                "journal = \"j\"\nupdates = [{ names = [\"a\"], types = [\"A\"] }]",
                "t:9: zones[0].updates[0].key: missing",
            ),
        ];
        for (lines, expected) in cases {
            let found = parse(lines).expect_err("a mistake");
            assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected}: {found:?}");
        }
    }
}
