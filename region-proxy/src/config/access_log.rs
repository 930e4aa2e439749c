//! `[access_log]`.

use std::path::{Path, PathBuf};

use shared::settings::{Table, Value};

use crate::http1::is_token;

/// What is written of each request, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessLog {
    /// Where lines go.
    pub target: LogTarget,
    /// What they look like.
    pub format: LogFormat,
    /// Which requests get one.
    pub only: Only,
    /// Of those that went well, one in so many gets a line.
    pub sample: u32,
    /// Fields of requests whose values are in it, in lower case.
    pub request: Vec<Box<str>>,
    /// Those of responses.
    pub response: Vec<Box<str>>,
}

/// Where lines go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogTarget {
    /// To the end of a file.
    File(PathBuf),
    /// To standard output.
    Stdout,
}

/// What lines look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// An object a line.
    Json,
    /// As HAProxy's `option httplog` has them.
    Httplog,
}

/// Which requests get a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Only {
    /// All.
    All,
    /// Those that did not go well: status 5xx, refused, cut off or tried more than once.
    Errors,
}

/// Reads `[access_log]`; a relative path is relative to `folder`.
pub(super) fn access_log(table: &Table<'_>, folder: &Path) -> Option<AccessLog> {
    let target = table.required("file", "a path, or \"stdout\"").and_then(|value| target(&value, folder));
    let formats = [("json", LogFormat::Json), ("httplog", LogFormat::Httplog)];
    let format = table.value("format").and_then(|value| value.choice(&formats)).unwrap_or(LogFormat::Json);
    let only = [("all", Only::All), ("errors", Only::Errors)];
    let only = table.value("only").and_then(|value| value.choice(&only)).unwrap_or(Only::All);
    let sample = table.value("sample").and_then(|value| value.integer(1..=1_000_000)).map_or(1, |one_in| one_in as u32);
    let names = |key| table.value(key).map(|value| names(&value)).unwrap_or_default();
    let (request, response) = (names("request"), names("response"));
    Some(AccessLog { target: target?, format, only, sample, request, response })
}

fn target(value: &Value<'_>, folder: &Path) -> Option<LogTarget> {
    match super::not_empty(value, "a path, or \"stdout\"")? {
        "stdout" => Some(LogTarget::Stdout),
        path => Some(LogTarget::File(folder.join(path))),
    }
}

fn names(value: &Value<'_>) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    let items = value.items("a list of names of fields").unwrap_or_default();
    if items.len() > FIELDS_MAX {
        value.problem(format_args!("{} names: expected at most {FIELDS_MAX}", items.len()));
    }
    for item in items {
        let expected = "the name of a field: letters, digits, hyphens";
        let name = item
            .parsed_as(expected, |text| is_token(text.as_bytes()).then(|| text.to_ascii_lowercase().into_boxed_str()));
        match name {
            Some(name) if names.contains(&name) => item.problem(format_args!("{name} is there twice")),
            Some(name) => names.push(name),
            None => {}
        }
    }
    names
}

/// Each costs time and room in every line.
const FIELDS_MAX: usize = 32;
