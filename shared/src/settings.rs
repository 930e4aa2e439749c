//! Reading TOML settings so that every mistake is found at once, with its key, its line and what would be right.
//!
//! A [`Table`] is asked for its keys one by one; a value of the wrong kind is reported and read as absent. Keys that
//! nobody asked for are reported when the table is dropped.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::Problems;
use crate::typo::nearest;

/// A parsed TOML text.
#[derive(Debug)]
pub struct Document<'a> {
    root: Spanned<DeTable<'a>>,
}

/// One table of the settings, with the keys that were asked for.
#[derive(Debug)]
pub struct Table<'a> {
    table: &'a DeTable<'a>,
    span: Range<usize>,
    path: String,
    problems: &'a Problems,
    asked: RefCell<BTreeSet<String>>,
}

/// One value of the settings and where it stands.
#[derive(Clone, Debug)]
pub struct Value<'a> {
    value: &'a Spanned<DeValue<'a>>,
    path: String,
    problems: &'a Problems,
}

impl<'a> Document<'a> {
    /// Parses `text`; the first syntax errors go to `problems`, and what could be read around them is kept.
    pub fn parse(text: &'a str, problems: &Problems) -> Self {
        let (root, mut errors) = DeTable::parse_recoverable(text);
        errors.sort_by_key(|error| error.span().map(|span| span.start));
        for error in errors.iter().take(SYNTAX_ERRORS_MAX) {
            problems.add(error.span().map(|span| span.start), "", format_args!("not TOML: {}", error.message()));
        }
        if let Some(more @ 1..) = errors.len().checked_sub(SYNTAX_ERRORS_MAX) {
            let what =
                "perhaps for what is not closed at the first, or in the line before: expected that to be right first";
            problems.add(None, "", format_args!("not TOML: {more} more lines or parts, {what}"));
        }
        Self { root }
    }

    /// The outermost table.
    pub fn root(&'a self, problems: &'a Problems) -> Table<'a> {
        Table::new(self.root.get_ref(), self.root.span(), String::new(), problems)
    }
}

impl<'a> Table<'a> {
    fn new(table: &'a DeTable<'a>, span: Range<usize>, path: String, problems: &'a Problems) -> Self {
        Self { table, span, path, problems, asked: RefCell::default() }
    }

    /// The value of `key`.
    pub fn value(&self, key: &str) -> Option<Value<'a>> {
        self.asked.borrow_mut().insert(key.to_owned());
        let value = self.table.get(key)?;
        Some(Value { value, path: self.path_of(key), problems: self.problems })
    }

    /// The value of `key`, which must be there; `expected` says what would be right.
    pub fn required(&self, key: &str, expected: &str) -> Option<Value<'a>> {
        let value = self.value(key);
        if value.is_none() {
            self.problem(key, format_args!("missing: expected {expected}"));
        }
        value
    }

    /// The table under `key`.
    pub fn table(&self, key: &str) -> Option<Table<'a>> {
        self.value(key)?.table()
    }

    /// The tables under `key`, each with its own key, in the order of the file; empty when `key` is absent.
    pub fn tables(&self, key: &str) -> Vec<(&'a str, Table<'a>)> {
        let Some(outer) = self.table(key) else { return Vec::new() };
        outer.entries().into_iter().filter_map(|(key, value)| Some((key, value.table()?))).collect()
    }

    /// The tables of the array under `key` (`[[key]]`); empty when `key` is absent.
    pub fn table_list(&self, key: &str) -> Vec<Table<'a>> {
        let items = self.value(key).and_then(|value| value.items("a list of tables"));
        items.unwrap_or_default().into_iter().filter_map(|item| item.table()).collect()
    }

    /// Every key with its value, in the order of the file; all count as asked for.
    pub fn entries(&self) -> Vec<(&'a str, Value<'a>)> {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries.iter().filter_map(|(key, _)| Some((key.get_ref().as_ref(), self.value(key.get_ref())?))).collect()
    }

    /// Reports a mistake at `key` of this table; at the table itself when `key` is empty.
    pub fn problem(&self, key: &str, what: impl fmt::Display) {
        let at = self.table.get(key).map_or(self.span.start, |value| value.span().start);
        self.problems.add(Some(at), &self.path_of(key), what);
    }

    /// Where its mistakes go.
    pub fn problems(&self) -> &'a Problems {
        self.problems
    }

    /// Its path from the root, such as `regions.seoul`.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn path_of(&self, key: &str) -> String {
        let is_bare = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        let key = if is_bare { key.to_owned() } else { format!("{key:?}") };
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key,
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{key}", self.path),
        }
    }
}

impl Drop for Table<'_> {
    /// Reports the keys that nobody asked for.
    fn drop(&mut self) {
        let asked = self.asked.take();
        for key in self.table.keys().filter(|key| !asked.contains(key.get_ref().as_ref())) {
            let known: Vec<&str> = asked.iter().map(String::as_str).collect();
            let what = match nearest(key.get_ref(), known.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("expected one of {}", known.join(", ")),
            };
            self.problems.add(
                Some(key.span().start),
                &self.path_of(key.get_ref()),
                format_args!("unknown key: {what}"),
            );
        }
    }
}

impl<'a> Value<'a> {
    /// A text.
    pub fn text(&self) -> Option<&'a str> {
        self.expect("a text in quotes", self.value.get_ref().as_str())
    }

    /// Yes or no.
    pub fn flag(&self) -> Option<bool> {
        self.expect("true or false", self.value.get_ref().as_bool())
    }

    /// A whole number within `range`.
    pub fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let number = self.value.get_ref().as_integer();
        let number = number.and_then(|integer| i64::from_str_radix(integer.as_str(), integer.radix()).ok());
        let number = number.filter(|number| range.contains(number));
        let has_unit = self.value.get_ref().as_str().is_some_and(|text| text.starts_with(|c: char| c.is_ascii_digit()));
        let hint = if has_unit { ", without quotes and unit" } else { "" };
        self.expect(&format!("a whole number from {} to {}{hint}", range.start(), range.end()), number)
    }

    /// A number, whole or not.
    pub fn number(&self) -> Option<f64> {
        let number = match self.value.get_ref() {
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|n| n as f64),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => None,
        };
        self.expect("a number", number)
    }

    /// A span of time within `range`, written with its unit: `200ms`, `5s`, `2m`, `1h`, `1d`.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let span = self.value.get_ref().as_str().and_then(parse_duration).filter(|span| range.contains(span));
        let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
        self.expect(&format!("a time with its unit (ms, s, m, h, d), such as \"10s\", from {least} to {most}"), span)
    }

    /// A text that `parse` accepts; its error is reported as it is.
    pub fn parsed<T, E: fmt::Display>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let parsed = parse(self.text()?);
        parsed.map_err(|error| self.problem(error)).ok()
    }

    /// A text that `parse` accepts; otherwise `expected` says what would be right.
    pub fn parsed_as<T>(&self, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.expect(expected, self.value.get_ref().as_str().and_then(parse))
    }

    /// One of the words in `choices`.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let chosen = self.value.get_ref().as_str().and_then(|word| choices.iter().find(|(name, _)| *name == word));
        let words: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
        self.expect(&words.join(" or "), chosen.map(|(_, value)| *value))
    }

    /// The items of a list.
    pub fn items(&self, expected: &str) -> Option<Vec<Value<'a>>> {
        let items = self.expect(expected, self.value.get_ref().as_array())?;
        let item = |(at, value)| Value { value, path: format!("{}[{at}]", self.path), problems: self.problems };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// A table.
    pub fn table(&self) -> Option<Table<'a>> {
        let table = self.expect("a table", self.value.get_ref().as_table())?;
        Some(Table::new(table, self.value.span(), self.path.clone(), self.problems))
    }

    /// The line, from 1, where it starts; that of its header for a table with one.
    pub fn line(&self) -> usize {
        self.problems.line_of(self.value.span().start)
    }

    /// Whether it is a text (for settings that take a word or something else).
    pub fn is_text(&self) -> bool {
        self.value.get_ref().is_str()
    }

    /// Whether it is a list (the same).
    pub fn is_list(&self) -> bool {
        self.value.get_ref().is_array()
    }

    /// Whether it is a table (the same).
    pub fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// Reports a mistake here.
    pub fn problem(&self, what: impl fmt::Display) {
        self.problems.add(Some(self.value.span().start), &self.path, what);
    }

    fn expect<T>(&self, expected: &str, read: Option<T>) -> Option<T> {
        if read.is_none() {
            self.problem(format_args!("{} is not {expected}", show(self.value.get_ref())));
        }
        read
    }
}

/// A whole number and its unit: `200ms`, `5s`, `2m`, `1h`, `1d`; `None` for anything else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let count: u64 = text[..digits].parse().ok()?;
    let unit_ms = UNITS.iter().find(|(unit, _)| *unit == text[digits..].trim_start())?.1;
    count.checked_mul(unit_ms).map(Duration::from_millis)
}

/// `span` in the largest unit that holds it whole: what [`parse_duration`] reads. Less than a millisecond is lost.
pub fn show_duration(span: Duration) -> String {
    let ms = span.as_millis();
    let whole = UNITS.iter().find(|(_, unit_ms)| ms >= u128::from(*unit_ms) && ms.is_multiple_of(u128::from(*unit_ms)));
    whole.map_or_else(|| format!("{ms}ms"), |(unit, unit_ms)| format!("{}{unit}", ms / u128::from(*unit_ms)))
}

/// Units of time in milliseconds, largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// One bracket that is missing makes all lines after it wrong.
const SYNTAX_ERRORS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(text: &str, read: impl FnOnce(&Table<'_>)) -> Vec<String> {
        let problems = Problems::new("s.toml", text);
        let document = Document::parse(text, &problems);
        read(&document.root(&problems));
        drop(document);
        problems.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_bracket_that_is_not_closed_is_told_in_few_lines() {
        let text = "[t]\na = [1, 2\n".to_owned() + &"b = \"x\"\n".repeat(50);
        let found = problems_of(&text, |root| _ = root.value("t"));
        assert_eq!(found.len(), SYNTAX_ERRORS_MAX + 1, "{found:#?}");
        assert!(found[0].starts_with("s.toml:3: not TOML"), "{found:#?}");
        assert!(found.last().is_some_and(|last| last.contains("or in the line before")), "{found:#?}");
    }

    #[test]
    fn every_mistake_is_reported_with_line_and_key() {
        let text = "a = 1\nb = \"x\"\n[t]\nc = \"9\"\n";
        let found = problems_of(text, |root| {
            assert_eq!(root.value("a").and_then(|value| value.text()), None);
            assert_eq!(root.required("z", "a word").map(|_| ()), None);
            let table = root.table("t").expect("it is there");
            assert_eq!(
                table.value("c").and_then(|value| value.duration(Duration::ZERO..=Duration::from_secs(1))),
                None
            );
        });
        assert_eq!(
            found,
            [
                "s.toml:1: a: 1 is not a text in quotes",
                "s.toml:1: z: missing: expected a word",
                "s.toml:2: b: unknown key: expected one of a, t, z",
                "s.toml:4: t.c: \"9\" is not a time with its unit (ms, s, m, h, d), such as \"10s\", from 0ms to 1s",
            ]
        );
    }

    #[test]
    fn wrong_values_are_shown_as_they_are_written() {
        let found = problems_of("a = \"20s\"\n", |root| _ = root.value("a").and_then(|value| value.integer(0..=9)));
        assert_eq!(found, ["s.toml:1: a: \"20s\" is not a whole number from 0 to 9, without quotes and unit"]);
        for text in ["0xff", "0o17", "0b11", "-1", "1.5", "true", "\"a\""] {
            let found = problems_of(&format!("a = {text}"), |root| {
                assert_eq!(root.value("a").and_then(|value| value.integer(0..=1)), None);
            });
            assert_eq!(found, [format!("s.toml:1: a: {text} is not a whole number from 0 to 1")]);
        }
    }

    #[test]
    fn syntax_errors_name_their_line() {
        let found = problems_of("a = 1\nb = [\n", |root| {
            root.value("a");
            root.value("b");
        });
        assert!(
            found
                .iter()
                .any(|problem| problem.starts_with("s.toml:2: not TOML") || problem.starts_with("s.toml:3: not TOML")),
            "{found:?}"
        );
    }

    #[test]
    fn durations_are_shown_as_they_are_read() {
        for text in ["200ms", "5s", "2m", "1h", "1d", "0ms", "90s"] {
            assert_eq!(parse_duration(text).map(show_duration).as_deref(), Some(text));
        }
        for bad in ["", "5", "s", "-1s", "1.5s", "1w", "99999999999999999999s"] {
            assert_eq!(parse_duration(bad), None, "{bad:?}");
        }
    }
}
