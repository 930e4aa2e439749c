//! `stick` of a service: how clients are kept on their servers.

use std::time::Duration;

use shared::name::OwnerName;
use shared::settings::{Table, Value};

use super::balance::prefixes;
use crate::http1::is_token;
use crate::stick::table::Bounds;
use crate::stick::{Attributes, Cookie, Mode, SameSite, Stick};

/// Reads `stick` of `table`, a service: `"source"`, or a table with `cookie` or `by`.
pub(super) fn stick(table: &Table<'_>) -> Option<Stick> {
    let value = table.value("stick")?;
    if value.is_table() {
        let how = value.table()?;
        return match how.value("by") {
            Some(by) => remembered(&how, &by).map(|bounds| Stick::Table(prefixes(table), bounds)),
            None => cookie(&how).map(Stick::Cookie),
        };
    }
    let is_source = |text: &str| (text == "source").then_some(());
    let is_source = value.parsed_as(EXPECTED, is_source);
    let prefixes = prefixes(table);
    is_source.map(|()| Stick::Source(prefixes))
}

/// `None` only after a problem was reported.
fn remembered(table: &Table<'_>, by: &Value<'_>) -> Option<Bounds> {
    let by = by.choice(&[("source", ())]);
    let default = Bounds::default();
    let lifetimes = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
    let lifetime = table.value("lifetime").and_then(|value| value.duration(lifetimes));
    let entries = table.value("entries").and_then(|value| value.integer(1000..=10_000_000));
    by.map(|()| Bounds {
        lifetime: lifetime.unwrap_or(default.lifetime),
        entries: entries.map_or(default.entries, |entries| entries as usize),
    })
}

/// `None` only after a problem was reported.
fn cookie(table: &Table<'_>) -> Option<Cookie> {
    let name = table.required("cookie", "the name of the cookie").and_then(|value| {
        value.parsed_as("the name of a cookie: letters, digits and some signs", |text| {
            is_token(text.as_bytes()).then(|| text.into())
        })
    });
    let mode = table.required("mode", "\"insert\", \"prefix\", \"rewrite\" or \"passive\"");
    let mode = mode.and_then(|value| value.choice(&MODES));
    let flag = |key: &str| table.value(key).and_then(|value| value.flag()).unwrap_or_default();
    let limit = |key: &str| {
        let range = Duration::from_secs(1)..=Duration::from_secs(400 * 24 * 3600);
        table.value(key).and_then(|value| value.duration(range))
    };
    // All are read whatever the others say: a key that nobody asks for is reported as one that there is not.
    let [indirect, nocache, preserve] = ["indirect", "nocache", "preserve"].map(flag);
    let [max_idle, max_life] = ["maxidle", "maxlife"].map(limit);
    let attributes = attributes(table);
    let cookie = Cookie { name: name?, mode: mode?, indirect, nocache, preserve, attributes, max_idle, max_life };
    check_options(table, &cookie);
    check_attributes(table, &cookie);
    Some(cookie)
}

fn attributes(table: &Table<'_>) -> Attributes {
    let flag = |key: &str| table.value(key).and_then(|value| value.flag()).unwrap_or_default();
    let same_site = [("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)];
    let domain = table.value("domain").and_then(|value| domain(&value));
    let path = table.value("path").and_then(|value| {
        // RFC 6265, section 4.1.1: path-value.
        let is_allowed = |text: &str| text.bytes().all(|octet| (b' '..0x7f).contains(&octet) && octet != b';');
        value.parsed_as("a path from its first slash, without semicolons", |text| {
            (text.starts_with('/') && is_allowed(text)).then(|| text.into())
        })
    });
    Attributes {
        http_only: flag("httponly"),
        secure: flag("secure"),
        same_site: table.value("samesite").and_then(|value| value.choice(&same_site)),
        domain,
        path: path.unwrap_or_else(|| "/".into()),
    }
}

fn domain(value: &Value<'_>) -> Option<Box<str>> {
    // User agents ignore a leading dot (RFC 6265, section 5.2.3).
    let name = value.parsed(|text| OwnerName::parse(text.strip_prefix('.').unwrap_or(text)))?;
    Some(name.as_str().into())
}

/// Options that mean nothing in the mode of `cookie`, or break it.
fn check_options(table: &Table<'_>, cookie: &Cookie) {
    let is_there = |key: &&str| table.value(key).is_some();
    if cookie.mode != Mode::Insert {
        for key in INSERT_ONLY.into_iter().filter(is_there) {
            table.problem(key, "means nothing in this mode: expected `mode = \"insert\"`, or no such key");
        }
    }
    if cookie.mode == Mode::Prefix && cookie.indirect {
        let what = "with `mode = \"prefix\"` new values of the server's cookie would be lost: expected no `indirect`";
        table.problem("indirect", what);
    }
    if cookie.preserve && cookie.mode != Mode::Insert && !cookie.indirect {
        table.problem("preserve", "means nothing here: expected `mode = \"insert\"` or `indirect = true` with it");
    }
}

/// What user agents would refuse (RFC 6265bis, sections 4.1.3 and 5.7).
fn check_attributes(table: &Table<'_>, cookie: &Cookie) {
    let Attributes { secure, same_site, domain, path, .. } = &cookie.attributes;
    if cookie.mode != Mode::Insert {
        return;
    }
    if *same_site == Some(SameSite::None) && !secure {
        table.problem("samesite", "browsers refuse \"none\" without `secure = true`");
    }
    let begins = |prefix: &str| cookie.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if (begins("__Secure-") || begins("__Host-")) && !secure {
        table.problem("cookie", "browsers refuse this name without `secure = true`");
    }
    if begins("__Host-") && (domain.is_some() || &**path != "/") {
        table.problem("cookie", "browsers refuse this name with `domain`, or with a `path` that is not \"/\"");
    }
}

const EXPECTED: &str =
    "\"source\", or a table such as { cookie = \"SRV\", mode = \"insert\" } or { by = \"source\", lifetime = \"30m\" }";

const MODES: [(&str, Mode); 4] =
    [("insert", Mode::Insert), ("prefix", Mode::Prefix), ("rewrite", Mode::Rewrite), ("passive", Mode::Passive)];

const INSERT_ONLY: [&str; 8] = ["nocache", "httponly", "secure", "samesite", "domain", "path", "maxidle", "maxlife"];
