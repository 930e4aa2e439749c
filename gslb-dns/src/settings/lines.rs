//! Where keys stand in the settings file: for what is found only later, when the files that it names are read too.

use std::collections::BTreeMap;
use std::fmt::Display;

use shared::name::OwnerName;
use shared::problem::Problem;
use shared::settings::Table;
use shared::topology::ServiceOutline;

/// The line of each key by its path, such as `regions.seoul.vips`, `services."www.example.com".ttl` or
/// `zones."example.com".file`.
///
/// Names of services and zones in it are in lower case and without a final dot, however the file has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyLines {
    file: String,
    lines: BTreeMap<String, usize>,
}

impl KeyLines {
    /// The problem `what` at `key`, in the line of the first of `places` that there is.
    pub fn problem(&self, key: &str, places: &[&str], what: impl Display) -> Problem {
        let line = places.iter().find_map(|place| self.lines.get(*place)).copied();
        Problem { file: self.file.clone(), line, key: key.to_owned(), what: what.to_string() }
    }

    /// `problem` with file and line where it says only the key.
    pub fn located(&self, problem: Problem) -> Problem {
        if problem.file.is_empty() { self.problem(&problem.key, &[&problem.key], problem.what) } else { problem }
    }
}

/// The path of a service.
pub(crate) fn service_key(name: &OwnerName) -> String {
    format!("services.\"{name}\"")
}

/// The path of `key` of the zone `name`, such as `zones."example.com".journal`.
pub(crate) fn zone_key(name: &OwnerName, key: &str) -> String {
    format!("zones.\"{name}\".{key}")
}

/// All services in `root`, sorted by name, and where keys stand in `file`.
pub(super) fn read(file: &str, root: &Table<'_>) -> (Vec<ServiceOutline>, KeyLines) {
    let mut found = KeyLines { file: file.to_owned(), lines: BTreeMap::new() };
    let mut services = Vec::new();
    for (outer, value) in root.entries() {
        found.lines.insert(outer.to_owned(), value.line());
        for (key, value) in value.table().map(|table| table.entries()).unwrap_or_default() {
            let service = (outer == "services").then(|| OwnerName::parse(key).ok()).flatten();
            let path = service.as_ref().map_or_else(|| format!("{outer}.{key}"), service_key);
            // Only tables are services; of two by the same name, which is a mistake, one will do.
            let is_table = value.is_table();
            let inner = value.table().map(|table| table.entries()).unwrap_or_default();
            let has = |wanted: &str| inner.iter().any(|(key, _)| *key == wanted);
            let (has_txt, has_cname) = (has("txt"), has("cname"));
            for (key, value) in inner {
                found.lines.insert(format!("{path}.{key}"), value.line());
            }
            if found.lines.insert(path, value.line()).is_none() && is_table {
                services.extend(service.map(|name| ServiceOutline { name, has_txt, has_cname }));
            }
        }
    }
    for zone in root.table_list("zones") {
        let Some(name) = zone.value("name").and_then(|value| value.parsed(OwnerName::parse)) else { continue };
        for (key, value) in zone.entries() {
            let inner = value.table().map(|table| table.entries()).unwrap_or_default();
            let inner = inner.iter().map(|(inner, value)| (zone_key(&name, &format!("{key}.{inner}")), value.line()));
            found.lines.extend(inner);
            found.lines.insert(zone_key(&name, key), value.line());
        }
    }
    services.sort_by(|a, b| a.name.cmp(&b.name));
    (services, found)
}
