//! `[[routes]]`.

use std::collections::BTreeMap;

use shared::name::OwnerName;
use shared::settings::{Table, Value};

use super::service::ServiceConfig;
use crate::http1::is_token;
use crate::look_alike::reads_as;
use crate::routes::{Action, FieldPattern, FieldRules, HostPattern, PathPrefix, Route, Routes};

/// The routes of `root`, each to one of `services`.
pub(super) fn routes(root: &Table<'_>, services: &BTreeMap<OwnerName, ServiceConfig>) -> Routes {
    Routes { routes: root.table_list("routes").iter().filter_map(|table| route(table, services)).collect() }
}

/// `None` only after a problem was reported.
fn route(table: &Table<'_>, services: &BTreeMap<OwnerName, ServiceConfig>) -> Option<Route> {
    let path = table.value("path").map(|value| {
        value.parsed_as("a path from its first slash, without query, such as \"/api\"", PathPrefix::parse)
    });
    let hosts = table.value("host").map(|value| list(&value, "a host", host)).unwrap_or_default();
    let methods = table.value("method").map(|value| list(&value, "a method", method)).unwrap_or_default();
    let fields = table.table("header").map(|table| patterns(&table)).unwrap_or_default();
    let action = action(table, services);
    let body_octets = super::limits::body_octets(table);
    let rules = |key: &str| table.table(key).map(|table| field_rules(&table)).unwrap_or_default();
    let (request, response) = (rules("request"), rules("response"));
    // Only once all keys were asked for: the others would be unknown.
    let path = path.unwrap_or_else(|| Some(PathPrefix::default()))?;
    Some(Route { hosts, path, methods, fields, action: action?, body_octets, request, response })
}

/// One text or several.
fn list<T>(value: &Value<'_>, what: &str, read: impl Fn(&Value<'_>) -> Option<T>) -> Vec<T> {
    if value.is_text() {
        return read(value).into_iter().collect();
    }
    let items = value.items(&format!("{what}, or a list of them")).unwrap_or_default();
    if items.is_empty() {
        value.problem(format_args!("empty: expected at least {what}; without the key, all fit"));
    }
    items.iter().filter_map(read).collect()
}

fn host(value: &Value<'_>) -> Option<HostPattern> {
    let is_below = value.text()?.starts_with("*.");
    let name = value.parsed(|text| OwnerName::parse(text.strip_prefix("*.").unwrap_or(text)))?;
    Some(if is_below { HostPattern::IsBelow(name) } else { HostPattern::Is(name) })
}

fn method(value: &Value<'_>) -> Option<Box<str>> {
    value.parsed_as("a method, such as \"GET\"", |text| is_token(text.as_bytes()).then(|| text.into()))
}

fn patterns(table: &Table<'_>) -> Vec<FieldPattern> {
    let pattern = |(name, value): (&str, Value<'_>)| {
        // `true`: whatever it says.
        let wanted = if value.is_text() {
            Some(field_value(&value)?)
        } else {
            let expected = "a text, or true for any";
            value.flag().filter(|flag| *flag).or_else(|| {
                value.problem(format_args!("expected {expected}"));
                None
            })?;
            None
        };
        Some(FieldPattern { name: field_name(name, &value)?, value: wanted })
    };
    table.entries().into_iter().filter_map(pattern).collect()
}

fn action(table: &Table<'_>, services: &BTreeMap<OwnerName, ServiceConfig>) -> Option<Action> {
    let service = table.value("service").map(|value| super::known_service(&value, services));
    let redirect = table.value("redirect").map(|value| value.choice(&[("https", ())]));
    let status = table.value("status").map(|value| {
        let status = value.integer(300..=399)? as u16;
        if ![301, 302, 307, 308].contains(&status) {
            value.problem(format_args!("{status} redirects nobody: expected 301, 302, 307 or 308"));
        }
        Some(status)
    });
    let port = table.value("port").map(|value| value.integer(1..=65_535).map(|port| port as u16));
    match (service, redirect) {
        (Some(_), Some(_)) => {
            table.problem("redirect", "a request is either redirected or served: expected no `service` beside it");
            None
        }
        (None, Some(redirect)) => {
            redirect?;
            Some(Action::RedirectToHttps { status: status.unwrap_or(Some(308))?, port: port.unwrap_or(Some(443))? })
        }
        (service, None) => {
            for key in ["status", "port"].into_iter().filter(|key| table.value(key).is_some()) {
                table.problem(key, "nothing is redirected: expected `redirect = \"https\"` too");
            }
            service.map_or(Some(Action::ByHost), |service| service.map(Action::Service))
        }
    }
}

fn field_rules(table: &Table<'_>) -> FieldRules {
    let pairs = |key: &str| {
        let entries = table.table(key).map(|table| table.entries()).unwrap_or_default();
        let pair = |(name, value): (&str, Value<'_>)| Some((own_field(name, &value)?, field_value(&value)?));
        entries.into_iter().filter_map(pair).collect()
    };
    let remove =
        table.value("remove").map(|value| list(&value, "the name of a field", |item| own_field(item.text()?, item)));
    FieldRules { remove: remove.unwrap_or_default(), set: pairs("set"), add: pairs("add") }
}

/// The name of a field that is the operator's to change.
pub(super) fn own_field(name: &str, value: &Value<'_>) -> Option<Box<str>> {
    if RESERVED.iter().any(|reserved| reads_as(name, reserved)) {
        value.problem(format_args!("{name} is the proxy's own: expected another field"));
        return None;
    }
    field_name(name, value)
}

fn field_name(name: &str, value: &Value<'_>) -> Option<Box<str>> {
    if !is_token(name.as_bytes()) {
        value.problem(format_args!("{name:?} is not the name of a field: expected letters, digits, hyphens"));
        return None;
    }
    Some(name.into())
}

/// RFC 9110, section 5.5, without what only confuses: white space around it, and what is not ASCII.
pub(super) fn field_value(value: &Value<'_>) -> Option<Box<str>> {
    let is_value = |text: &str| text.trim() == text && text.bytes().all(|octet| matches!(octet, b' '..=b'~'));
    value.parsed_as("the value of a field: printable ASCII, without blanks around it", |text| {
        is_value(text).then(|| text.into())
    })
}

/// Fields that frame a message, belong to one connection or are written by the proxy.
const RESERVED: [&str; 16] = [
    "Connection",
    "Content-Length",
    "Expect",
    "Forwarded",
    "Host",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "HTTP2-Settings",
];
