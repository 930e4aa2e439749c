//! What can be typed, or stand in a script.

use std::net::IpAddr;
use std::time::Duration;

use crate::scenario::parse_span;

/// Something to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Command {
    /// Kill both proxies of a region.
    Down(String),
    /// Let both proxies of a region hang.
    Freeze(String),
    /// Bring both proxies of a region back, killed or frozen.
    Up(String),
    /// Both proxies of a region say that they drain, or no more.
    Drain(String, bool),
    /// Print why a client gets the answer that it gets.
    Explain(String, IpAddr),
    /// Ask all the time from now on, and remember what is not answered.
    Watch(String, IpAddr),
    /// Something must be so: now, or within a time.
    Expect(Expectation, Duration),
    /// Print what can be typed.
    Help,
    /// End.
    Quit,
}

/// Something that must be so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Expectation {
    /// The VIP of one of these regions is answered.
    Answer { name: String, client: IpAddr, regions: Vec<String> },
    /// The TTL of the answer.
    Ttl { name: String, client: IpAddr, secs: u32 },
    /// Every address of the scope gets the same answer.
    Scope { name: String, client: IpAddr },
    /// A server of the region answers a request to the VIP that the client is given.
    Page { name: String, client: IpAddr, region: String },
    /// The verdict on a region.
    Verdict { region: String, name: String, verdict: String },
    /// The share of its clients that a region takes, in percent.
    Share { region: String, name: String, percent: u64 },
    /// What is explained is what is answered.
    Explained { name: String, client: IpAddr },
    /// Nothing that was watched went unanswered.
    AllAnswered,
}

impl Command {
    /// Reads one line, in any case; `None` when it is empty, a comment or only keys that move the cursor. Names without
    /// a dot are those of the shipped zone.
    pub(super) fn parse(line: &str) -> Result<Option<Self>, String> {
        let line = without_keys(line).to_ascii_lowercase();
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let region = |name: &&str| (*name).to_owned();
        Ok(Some(match words.as_slice() {
            [] => return Ok(None),
            ["down", name] => Self::Down(region(name)),
            ["freeze", name] => Self::Freeze(region(name)),
            ["up", name] => Self::Up(region(name)),
            ["drain", name] => Self::Drain(region(name), true),
            ["undrain", name] => Self::Drain(region(name), false),
            ["explain", name, client] => Self::Explain(full_name(name), address(client)?),
            ["watch", name, "from", client] => Self::Watch(full_name(name), address(client)?),
            ["expect", rest @ .., "within", span] => Self::Expect(Expectation::parse(rest)?, parse_span(span)?),
            ["expect", rest @ ..] => Self::Expect(Expectation::parse(rest)?, Duration::ZERO),
            ["help"] => Self::Help,
            ["quit" | "exit"] => Self::Quit,
            [verb, ..] => return Err(usage(verb, &words)),
        }))
    }
}

/// What is missing from a command that is none as it stands.
fn usage(verb: &str, words: &[&str]) -> String {
    match verb {
        "down" | "freeze" | "up" | "drain" | "undrain" => format!("{verb} needs one region, such as: {verb} seoul"),
        "explain" => "explain needs a name and the address of a client, such as: explain www 1.208.0.1".to_owned(),
        "watch" => "watch needs a name and the address of a client, such as: watch www from 1.208.0.1".to_owned(),
        "help" | "quit" | "exit" => format!("{verb} stands alone"),
        _ => format!("{:?} is no command; help lists them", words.join(" ")),
    }
}

/// `www` is short for `www.gslb.test`.
fn full_name(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.contains('.') { name.to_owned() } else { format!("{name}.{ZONE}") }
}

/// `line` without what arrows and other such keys leave in it: escape sequences, and single control characters.
fn without_keys(line: &str) -> String {
    let mut kept = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => skip_sequence(&mut characters),
            '\t' => kept.push(' '),
            _ if character.is_control() => {}
            _ => kept.push(character),
        }
    }
    kept
}

/// Skips what follows an ESC: `[` with parameters up to a letter or `~`, or `O` and one character, or one character.
fn skip_sequence(characters: &mut std::str::Chars<'_>) {
    match characters.next() {
        Some('[') => drop(characters.find(|character| ('@'..='~').contains(character))),
        Some('O') => drop(characters.next()),
        _ => {}
    }
}

impl Expectation {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let own = |word: &&str| (*word).to_owned();
        Ok(match words {
            ["every", "query", "answered"] => Self::AllAnswered,
            ["curl", name, "from", client, "says", region] => {
                Self::Page { name: full_name(name), client: address(client)?, region: own(region) }
            }
            ["scope", "of", name, "from", client, "true"] => {
                Self::Scope { name: full_name(name), client: address(client)? }
            }
            ["explain", name, "from", client, "true"] => {
                Self::Explained { name: full_name(name), client: address(client)? }
            }
            ["ttl", "of", name, "from", client, "is", secs] => {
                let secs = secs.parse().map_err(|_| format!("{secs} is not a number of seconds"))?;
                Self::Ttl { name: full_name(name), client: address(client)?, secs }
            }
            ["verdict", "on", region, "for", name, "is", verdict] => {
                Self::Verdict { region: own(region), name: full_name(name), verdict: own(verdict) }
            }
            ["share", "of", region, "for", name, "is", percent] => {
                let percent = percent.parse().map_err(|_| format!("{percent} is not a percentage"))?;
                Self::Share { region: own(region), name: full_name(name), percent }
            }
            [name, "from", client, "is", regions] => {
                let regions = regions.split('|').map(str::to_owned).collect();
                Self::Answer { name: full_name(name), client: address(client)?, regions }
            }
            _ => return Err(format!("{:?} cannot be expected; the shipped script shows what can", words.join(" "))),
        })
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text} is not an address"))
}

/// What help prints, a line for each command.
pub(super) const HELP: [&str; 7] = [
    "down REGION      kill both of its proxies (kill -9)",
    "freeze REGION    let both hang (SIGSTOP)",
    "up REGION        start them again, or let them go on",
    "drain REGION     both say: no new clients",
    "undrain REGION   take that back",
    "explain NAME IP  who is answered with, and why",
    "NAME: www api static all eu; REGION: seoul frankfurt virginia; quit ends it all",
];

/// The zone of the demo.
const ZONE: &str = "gslb.test";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_comments_and_without() {
        assert_eq!(Command::parse("  # nothing"), Ok(None));
        assert_eq!(Command::parse("down seoul # kill -9"), Ok(Some(Command::Down("seoul".to_owned()))));
        assert!(Command::parse("explode seoul").is_err());
        let expected = Expectation::Answer {
            name: "www.gslb.test".to_owned(),
            client: IpAddr::from([1, 208, 0, 1]),
            regions: vec!["seoul".to_owned(), "virginia".to_owned()],
        };
        let line = "expect www.gslb.test from 1.208.0.1 is seoul|virginia within 1500ms";
        assert_eq!(Command::parse(line), Ok(Some(Command::Expect(expected, Duration::from_millis(1500)))));
    }

    #[test]
    fn short_names_and_any_case_are_read() {
        assert_eq!(Command::parse("DOWN Seoul"), Ok(Some(Command::Down("seoul".to_owned()))));
        let client = IpAddr::from([200, 160, 0, 1]);
        for name in ["www", "WWW", "www.gslb.test", "www.GSLB.test."] {
            let line = format!("explain {name} {client}");
            assert_eq!(Command::parse(&line), Ok(Some(Command::Explain("www.gslb.test".to_owned(), client))), "{name}");
        }
    }

    #[test]
    fn command_that_lacks_something_says_what() {
        for (line, part) in
            [("explain www", "address"), ("down", "region"), ("up a b", "region"), ("quit now", "alone")]
        {
            assert!(Command::parse(line).is_err_and(|why| why.contains(part) && !why.contains("no command")), "{line}");
        }
    }

    #[test]
    fn cursor_keys_are_passed_over() {
        for line in ["\u{1b}[B", "\u{1b}OA\u{1b}[1;5C", "\u{1b}[3~", "\u{1b}", "\u{1b}["] {
            assert_eq!(Command::parse(line), Ok(None), "{line:?}");
        }
        assert_eq!(Command::parse("\u{1b}[Aup\u{1b}[D seoul"), Ok(Some(Command::Up("seoul".to_owned()))));
    }

    #[test]
    fn shipped_script_reads() {
        for line in include_str!("../../demo/failover.script").lines() {
            assert_eq!(Command::parse(line).err(), None, "{line}");
        }
    }
}
