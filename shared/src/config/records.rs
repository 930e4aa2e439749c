//! The records of a service beside its addresses: TXT, and the CNAME in place of everything else.

use crate::name::OwnerName;
use crate::settings::{Table, Value};
use crate::topology::Policy;

use super::names::Members;

/// The TXT records of each member; empty where the key is absent.
pub(super) fn read_txt(table: &Table<'_>, members: Members<'_>, policy: Policy) -> Vec<Vec<String>> {
    let txt = read_each(table, "txt", "TXT records", members, read_texts);
    let octets = txt.iter().flatten().map(|text| TXT_RECORD_LEN_MIN + text.len() + text.len() / 255).sum::<usize>();
    if policy == Policy::All && octets > TXT_OF_ALL_MAX {
        let what =
            format_args!("{octets} octets in all regions: policy \"all\" gives at most {TXT_OF_ALL_MAX} at once");
        table.problem("txt", what);
    }
    txt
}

/// The CNAME target of each member; empty where the key is absent. A name with a CNAME has no other data (RFC 1034,
/// section 3.6.2; RFC 2181, section 10.1), so that what else is given for it is a mistake.
pub(super) fn read_cname(table: &Table<'_>, members: Members<'_>, policy: Policy) -> Vec<OwnerName> {
    let cname = read_each(table, "cname", "a name", members, |value| value.parsed(OwnerName::parse));
    if table.value("cname").is_none() {
        return cname;
    }
    for key in ["vips", "txt", "https"] {
        if let Some(other) = table.value(key) {
            other.problem("given beside `cname`: a name with a CNAME has no other data, expected one of the two");
        }
    }
    if policy == Policy::All {
        table.problem("cname", "given with policy \"all\": a client can get one CNAME only, expected another policy");
    }
    cname
}

/// What the table `key` gives each member, at the member's position; empty where it is absent, or where a region lacks its
/// part: clients that fail over there would lose the record.
fn read_each<T>(
    table: &Table<'_>,
    key: &str,
    thing: &str,
    members: Members<'_>,
    read: impl Fn(&Value<'_>) -> Option<T>,
) -> Vec<T> {
    let Some(given) = table.table(key) else { return Vec::new() };
    let mut found: Vec<Option<T>> = members.list.iter().map(|_| None).collect();
    let mut is_named = vec![false; found.len()];
    for (name, value) in given.entries() {
        let part = read(&value);
        match members.find(name) {
            Ok(member) => {
                is_named[usize::from(member.0)] = true;
                found[usize::from(member.0)] = part;
            }
            Err(what) => value.problem(what),
        }
    }
    for (member, _) in members.list.iter().zip(&is_named).filter(|(_, is_named)| !**is_named) {
        let lacking = members.name_of(member);
        table.problem(key, format_args!("{lacking} has none: expected {thing} for every region of the service"));
    }
    found.into_iter().collect::<Option<Vec<T>>>().unwrap_or_default()
}

/// The texts of the records in the list `value`; mistakes are reported and left out.
fn read_texts(value: &Value<'_>) -> Option<Vec<String>> {
    let items = value.items("a list of texts, one for each TXT record")?;
    match items.len() {
        0 => value.problem("empty: expected at least one text"),
        count if count > TXT_RECORDS_MAX => {
            value.problem(format_args!("{count} texts: expected at most {TXT_RECORDS_MAX}"));
        }
        _ => {}
    }
    let mut texts: Vec<String> = Vec::new();
    for item in items.into_iter().take(TXT_RECORDS_MAX) {
        let Some(text) = item.text() else { continue };
        if text.len() > TXT_LEN_MAX {
            item.problem(format_args!("{} octets: expected at most {TXT_LEN_MAX}", text.len()));
        } else if texts.iter().any(|known| known == text) {
            item.problem(format_args!("{text:?} is listed twice"));
        } else {
            texts.push(text.to_owned());
        }
    }
    Some(texts)
}

/// With the next number, the records of one region still fit any message.
const TXT_RECORDS_MAX: usize = 16;
/// Longer than any verification text or key.
const TXT_LEN_MAX: usize = 2048;
/// Octets of a TXT record beside its text: a compressed owner name, the fixed part, and the length of a string.
const TXT_RECORD_LEN_MIN: usize = 13;
/// Leaves room in the longest message for a question, a chain of CNAMEs and an OPT record.
const TXT_OF_ALL_MAX: usize = 60_000;
