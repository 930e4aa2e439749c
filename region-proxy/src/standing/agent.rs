//! What a server's agent says: one line, as in HAProxy's agent check.
//!
//! ```text
//! words apart by blanks or commas, in any order:
//!   up                                it serves again, where its checks succeed too
//!   down | fail | stopped [#why]      it does not
//!   ready | drain | maint             its mode
//!   75%                               its weight, of the one that it would have
//!   maxconn:30                        requests at one time
//! ```
//! What a line does not speak of stays as it was. A line with anything else in it changes nothing.

use crate::balance::Mode;

/// What an agent has said so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Agent {
    /// Whether its last word on it was that it does not serve.
    pub is_down: bool,
    /// The mode that it asked for.
    pub mode: Option<Mode>,
    /// Its share of the weight, in per cent.
    pub percent: Option<u32>,
    /// Requests at one time.
    pub connections: Option<u32>,
}

/// One line of an agent.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Line {
    /// Whether it serves, and the word for it with what came after `#`.
    pub serves: Option<(bool, String)>,
    /// The mode that it asks for.
    pub mode: Option<Mode>,
    /// Its share of the weight, in per cent.
    pub percent: Option<u32>,
    /// Requests at one time.
    pub connections: Option<u32>,
}

/// No line of an agent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoLine {
    /// Nothing is in it.
    #[error("an empty line: expected one such as \"up 75%\"")]
    Empty,
    /// It holds what is no text.
    #[error("a line with octets that are not printable ASCII: expected one such as \"up 75%\"")]
    NotText,
    /// A word means nothing.
    #[error(
        "{word:?} in its line: expected up, down, fail, stopped, ready, drain, maint, a weight such as 75%, or maxconn:N"
    )]
    UnknownWord {
        /// The word.
        word: String,
    },
    /// A number is out of range.
    #[error("{word:?} in its line: expected a number from {least} to {most}")]
    OutOfRange {
        /// The word with it.
        word: String,
        /// The least that would be right.
        least: u32,
        /// The most.
        most: u32,
    },
}

impl Agent {
    /// Takes over what `line` says.
    pub fn hear(&mut self, line: &Line) {
        self.is_down = line.serves.as_ref().map_or(self.is_down, |(serves, _)| !serves);
        self.mode = line.mode.or(self.mode);
        self.percent = line.percent.or(self.percent);
        self.connections = line.connections.or(self.connections);
    }
}

impl Line {
    /// The longest line, in octets; what is longer is none.
    pub const LEN_MAX: usize = 512;

    /// Reads a line without its end.
    pub fn parse(line: &[u8]) -> Result<Self, NoLine> {
        if !line.iter().all(|octet| matches!(octet, b' '..=b'~' | b'\t')) {
            return Err(NoLine::NotText);
        }
        let text = std::str::from_utf8(line).map_err(|_| NoLine::NotText)?;
        // What comes after the sharp is for people, and goes to its end.
        let (words, why) = text.split_once('#').map_or((text, ""), |(words, why)| (words, why.trim()));
        let mut said = Self::default();
        let mut count = 0;
        for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
            said.word(word, why)?;
            count += 1;
        }
        if count == 0 { Err(NoLine::Empty) } else { Ok(said) }
    }

    fn word(&mut self, word: &str, why: &str) -> Result<(), NoLine> {
        match word {
            "up" => self.serves = Some((true, "up".to_owned())),
            "down" | "fail" | "stopped" => {
                let separator = if why.is_empty() { "" } else { ": " };
                self.serves = Some((false, format!("{word}{separator}{why}")));
            }
            "ready" => self.mode = Some(Mode::Ready),
            "drain" => self.mode = Some(Mode::Drain),
            "maint" => self.mode = Some(Mode::Maintenance),
            _ => match (word.strip_suffix('%'), word.strip_prefix("maxconn:")) {
                (Some(percent), _) => self.percent = Some(number(word, percent, 0, PERCENT_MAX)?),
                (_, Some(most)) => self.connections = Some(number(word, most, 1, CONNECTIONS_MAX)?),
                _ => return Err(NoLine::UnknownWord { word: word.to_owned() }),
            },
        }
        Ok(())
    }
}

fn number(word: &str, digits: &str, least: u32, most: u32) -> Result<u32, NoLine> {
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = digits.parse().ok().filter(|number| is_number && (least..=most).contains(number));
    number.ok_or_else(|| NoLine::OutOfRange { word: word.to_owned(), least, most })
}

/// 256 times a weight of 1.
const PERCENT_MAX: u32 = 25_600;

const CONNECTIONS_MAX: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> Line {
        Line::parse(text.as_bytes()).expect("a line")
    }

    #[test]
    fn words_come_in_any_order_and_apart_by_blanks_or_commas() {
        let expected = Line {
            serves: Some((true, "up".to_owned())),
            mode: Some(Mode::Drain),
            percent: Some(75),
            connections: Some(30),
        };
        for text in ["up drain 75% maxconn:30", "maxconn:30,75%,drain,up", "\tup, drain\t75%  ,, maxconn:30 "] {
            assert_eq!(line(text), expected, "{text}");
        }
    }

    #[test]
    fn a_server_that_is_down_says_why() {
        assert_eq!(line("stopped#for the night").serves, Some((false, "stopped: for the night".to_owned())));
        assert_eq!(
            line("fail # 50% of disks, up no more").serves,
            Some((false, "fail: 50% of disks, up no more".to_owned()))
        );
        assert_eq!(line("down").serves, Some((false, "down".to_owned())));
    }

    #[test]
    fn what_is_not_spoken_of_stays() {
        let mut agent = Agent::default();
        agent.hear(&line("down 50%"));
        agent.hear(&line("maint maxconn:5"));
        let expected = Agent { is_down: true, mode: Some(Mode::Maintenance), percent: Some(50), connections: Some(5) };
        assert_eq!(agent, expected);
        agent.hear(&line("up ready"));
        assert_eq!(agent, Agent { is_down: false, mode: Some(Mode::Ready), ..expected });
    }

    #[test]
    fn a_line_with_anything_else_is_refused_whole() {
        let refused = [
            "",
            "  ",
            "#why",
            "up sideways",
            "UP",
            "75",
            "%",
            "-1%",
            "+5%",
            "25601%",
            "maxconn:",
            "maxconn:0",
            "maxconn:1000001",
            "up\u{7f}",
            "\u{e9}",
        ];
        for text in refused {
            assert!(Line::parse(text.as_bytes()).is_err(), "{text}");
        }
        let error = Line::parse(b"up sideways").expect_err("no line").to_string();
        assert!(error.contains("\"sideways\"") && error.contains("maxconn:N"), "{error}");
    }

    proptest! {
        #[test]
        fn any_octets_are_safe_to_read(octets in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Line::parse(&octets);
        }
    }
}
