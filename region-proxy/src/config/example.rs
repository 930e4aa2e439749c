//! example.toml is right, and names every key that there is.

use std::collections::BTreeMap;
use std::path::Path;

use super::Config;

const EXAMPLE: &str = include_str!("../../example.toml");

/// The example with each key that is commented out in force.
fn whole() -> String {
    let uncommented = |line: &'static str| line.strip_prefix("# ").filter(|line| is_setting(line)).unwrap_or(line);
    EXAMPLE.lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

/// Whether a line of the comments is a key with its value, or the header of a table.
fn is_setting(line: &str) -> bool {
    let key = line.split(" = ").next().unwrap_or_default();
    let is_key =
        line.contains(" = ") && key.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"_-.".contains(&octet));
    is_key || line.starts_with('[')
}

fn problems(text: &str) -> Vec<String> {
    let read = Config::parse(Path::new("example.toml"), text, &|_| Ok("0123456789abcdef\n".to_owned()));
    read.err().into_iter().flatten().map(|problem| problem.to_string()).collect()
}

#[test]
fn the_example_has_no_mistake_with_its_comments_and_without() {
    assert_eq!(problems(EXAMPLE), [""; 0]);
    assert_eq!(problems(&whole()), [""; 0]);
}

#[test]
fn the_example_names_every_key_where_it_belongs() {
    let (parts, mut asked, mut missing) = (parts(), 0, Vec::new());
    for part in parts.values() {
        for (table, key) in known_keys(part) {
            asked += 1;
            let has_header = parts.keys().any(|header| header.split(['[', '.', ']']).any(|word| word == key));
            if !has_word(part, &key) && !has_header {
                missing.push(table + &key);
            }
        }
    }
    assert!(asked > 100, "{asked}");
    assert!(missing.is_empty(), "not in example.toml: {missing:#?}");
}

/// The keys of each header, with the comments above it; those of the root have none.
fn parts() -> BTreeMap<String, String> {
    let mut parts = BTreeMap::<String, String>::new();
    let mut header = String::new();
    for paragraph in whole().split("\n\n") {
        // Services have the same keys, whatever their names.
        let named = paragraph.lines().find(|line| line.starts_with('['));
        header = named.map_or(header, |line| line.split('"').step_by(2).collect());
        let part = parts.entry(header.clone()).or_default();
        *part += paragraph;
        *part += "\n\n";
    }
    parts
}

/// Keys that the tables of `part` may have, each after its table: a key that none has brings them out.
fn known_keys(part: &str) -> Vec<(String, String)> {
    let mut text = if part.lines().any(|line| line.starts_with('[')) { String::new() } else { "zzz = 1\n".to_owned() };
    for line in part.lines() {
        text += &line.replace(" = { ", " = { zzz = 1, ");
        text += if line.starts_with('[') { "\nzzz = 1\n" } else { "\n" };
    }
    let found = problems(&text);
    let found = found.iter().filter_map(|problem| problem.split_once("zzz: unknown key: expected one of "));
    found.flat_map(|(table, keys)| keys.split(", ").map(move |key| (table.to_owned(), key.to_owned()))).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.split(|character| !is_part(character)).any(|one| one == word)
}
