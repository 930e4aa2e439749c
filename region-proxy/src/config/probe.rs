//! What a check of a server asks, and what answers are right.

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::RangeInclusive;

use regex::bytes::{Regex, RegexBuilder};
use shared::settings::{Table, Value};

use super::routes::{field_value, own_field};
use crate::http1::{HeadLimits, Target, is_token, read_request};

/// What one check does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Probe {
    /// Connects and closes.
    Connect,
    /// Asks, and looks at the answer.
    Http(Box<Question>),
}

/// A request, and which answers are right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// The method.
    pub method: Box<str>,
    /// Path and query.
    pub path: Box<str>,
    /// The value of Host; `None`: the name of the service.
    pub host: Option<Box<str>>,
    /// Further fields.
    pub fields: Box<[(Box<str>, Box<str>)]>,
    /// The statuses that are right.
    pub statuses: Statuses,
    /// What must be in the body.
    pub body: Option<BodyMatch>,
    /// So many octets of the body are looked at.
    pub body_octets: usize,
}

/// A set of statuses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Statuses(Box<[RangeInclusive<u16>]>);

impl Statuses {
    /// One alone.
    pub fn one(status: u16) -> Self {
        Self([status..=status].into())
    }

    /// Whether `status` is one of them.
    pub fn has(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            f.write_str(if at > 0 { " or " } else { "" })?;
            match range.start() == range.end() {
                true => write!(f, "{}", range.start())?,
                false => write!(f, "{}-{}", range.start(), range.end())?,
            }
        }
        Ok(())
    }
}

/// What must be in a body.
#[derive(Clone, Debug)]
pub enum BodyMatch {
    /// This text.
    Text(Box<str>),
    /// What this expression describes; it takes time in proportion to the body alone.
    Pattern(Regex),
}

impl BodyMatch {
    /// Whether `body` is right.
    pub fn is_in(&self, body: &[u8]) -> bool {
        match self {
            Self::Text(text) => memchr::memmem::find(body, text.as_bytes()).is_some(),
            Self::Pattern(pattern) => pattern.is_match(body),
        }
    }

    fn as_str(&self) -> (bool, &str) {
        match self {
            Self::Text(text) => (false, text),
            Self::Pattern(pattern) => (true, pattern.as_str()),
        }
    }
}

impl PartialEq for BodyMatch {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for BodyMatch {}

impl fmt::Display for BodyMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Pattern(pattern) => write!(f, "/{pattern}/"),
        }
    }
}

/// What `table`, the check of a service, asks.
pub(super) fn probe(table: &Table<'_>) -> Probe {
    let path = table.value("path").map(|value| value.parsed_as(PATH, |text| is_path(text).then(|| text.into())));
    let method = table.value("method").and_then(|value| method(&value));
    let host = table.value("host").and_then(|value| {
        value.parsed_as("the value of a Host field, such as \"www.example.com\"", |text| {
            is_host(text).then(|| text.into())
        })
    });
    let fields = table.table("fields").map(|table| fields(&table)).unwrap_or_default();
    let statuses = table.value("status").and_then(|value| statuses(&value));
    let body = body_match(table);
    let range = 1..=BODY_OCTETS_MAX;
    let body_octets = table.value("body_octets").and_then(|value| value.integer(range)).map(|octets| octets as usize);
    let Some(path) = path else {
        for key in ["method", "host", "fields", "status", "body", "body_matches", "body_octets"] {
            if table.value(key).is_some() {
                table.problem(key, "without `path` a check only connects: expected `path` too");
            }
        }
        return Probe::Connect;
    };
    if body.is_some() && method.as_deref() == Some("HEAD") {
        table.problem("method", "an answer to HEAD has no body to look at: expected another method");
    }
    Probe::Http(Box::new(Question {
        method: method.unwrap_or_else(|| "GET".into()),
        // A path that is wrong was reported.
        path: path.unwrap_or_default(),
        host,
        fields,
        statuses: statuses.unwrap_or_else(|| Statuses::one(200)),
        body,
        body_octets: body_octets.unwrap_or(BODY_OCTETS),
    }))
}

/// One that needs no body and changes nothing about the connection.
fn method(value: &Value<'_>) -> Option<Box<str>> {
    value.parsed_as("a method, such as \"GET\" or \"HEAD\"; CONNECT is none of an origin server", |text| {
        (is_token(text.as_bytes()) && text != "CONNECT").then(|| text.into())
    })
}

fn fields(table: &Table<'_>) -> Box<[(Box<str>, Box<str>)]> {
    let field = |(name, value): (&str, Value<'_>)| Some((own_field(name, &value)?, field_value(&value)?));
    table.entries().into_iter().filter_map(field).collect()
}

/// One status, a range such as `"200-399"`, or a list of these.
fn statuses(value: &Value<'_>) -> Option<Statuses> {
    let items = if value.is_list() { value.items(STATUS)? } else { vec![value.clone()] };
    if items.is_empty() {
        value.problem(format_args!("empty: expected {STATUS}"));
    }
    let statuses: Vec<_> = items.iter().filter_map(status).collect();
    (!statuses.is_empty()).then(|| Statuses(statuses.into()))
}

fn status(value: &Value<'_>) -> Option<RangeInclusive<u16>> {
    if !value.is_text() {
        return value.integer(200..=599).map(|status| status as u16..=status as u16);
    }
    let one = |text: &str| text.parse::<u16>().ok().filter(|status| text.len() == 3 && (200..=599).contains(status));
    value.parsed_as(STATUS, |text| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = one(first)?..=one(last)?;
        (!range.is_empty()).then_some(range)
    })
}

fn body_match(table: &Table<'_>) -> Option<BodyMatch> {
    let text = table.value("body").and_then(|value| super::not_empty(&value, "a text that the body must have"));
    let pattern = table.value("body_matches").and_then(|value| value.parsed(pattern));
    if text.is_some() && pattern.is_some() {
        table.problem("body", "beside `body_matches`: expected one of them");
    }
    text.map(|text| BodyMatch::Text(text.into())).or(pattern.map(BodyMatch::Pattern))
}

fn pattern(text: &str) -> Result<Regex, String> {
    if text.is_empty() || text.len() > PATTERN_LEN_MAX {
        return Err(format!("{} octets: expected a regular expression of 1 to {PATTERN_LEN_MAX}", text.len()));
    }
    let built =
        RegexBuilder::new(text).unicode(false).size_limit(PATTERN_SIZE_MAX).dfa_size_limit(PATTERN_SIZE_MAX).build();
    built.map_err(|error| {
        let error = error.to_string();
        // Its last line says what is wrong, those before it draw where.
        let what = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("not a regular expression: {what}: expected one such as \"^ok\"")
    })
}

fn is_path(text: &str) -> bool {
    let head = format!("GET {text} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut slots = [const { MaybeUninit::uninit() }; 2];
    let request = read_request(head.as_bytes(), &mut slots, HeadLimits::DEFAULT);
    request
        .is_ok_and(|request| request.is_some_and(|request| request.target == Target::Origin { path_and_query: text }))
}

fn is_host(text: &str) -> bool {
    let head = format!("GET / HTTP/1.1\r\nHost: {text}\r\n\r\n");
    let mut slots = [const { MaybeUninit::uninit() }; 2];
    let request = read_request(head.as_bytes(), &mut slots, HeadLimits::DEFAULT);
    request.is_ok_and(|request| request.is_some_and(|request| request.host.is_some_and(|host| host.as_str() == text)))
}

const PATH: &str = "a path from its first slash, such as \"/health\"";

const STATUS: &str = "a status from 200 to 599, a range such as \"200-399\", or a list of these";

/// What is looked at of a body: pages that say how a server is are short.
const BODY_OCTETS: usize = 64 * 1024;

/// More would make a check a load.
const BODY_OCTETS_MAX: i64 = 1024 * 1024;

/// An expression longer than this is nobody's.
const PATTERN_LEN_MAX: usize = 1024;

/// What one may take of memory, in octets.
const PATTERN_SIZE_MAX: usize = 256 * 1024;
