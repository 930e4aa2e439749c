//! Master files cut into entries and their tokens (RFC 1035, section 5.1).

use shared::problem::Problems;

/// One entry: a line, or several held together by parentheses.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Line of its first token, from 1.
    pub(super) line: usize,
    /// Whether it starts with a blank, so that its owner is the last one stated.
    pub(super) is_owner_omitted: bool,
    /// Never empty.
    pub(super) tokens: Vec<Token<'a>>,
}

/// One token as it stands in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    /// Without the quotes; escapes are still in it.
    pub(super) text: &'a str,
    /// Whether it stood in quotes.
    pub(super) is_quoted: bool,
    /// Where it starts in the file.
    pub(super) offset: usize,
}

/// The entries of one file, in order. Mistakes go to the problems and the entry they are in is left out.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    problems: &'a Problems,
}

impl<'a> Entries<'a> {
    pub(super) fn new(text: &'a str, problems: &'a Problems) -> Self {
        Self { text, at: 0, line: 1, problems }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes over the rest of the line; its end is not taken.
    fn skip_line(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.find('\n').unwrap_or(rest.len());
    }

    fn take_newline(&mut self) {
        self.at += 1;
        self.line += 1;
    }

    /// Reads one entry; `Err` when it was broken and reported.
    fn entry(&mut self) -> Result<Entry<'a>, Broken> {
        let mut entry = Entry { line: self.line, is_owner_omitted: self.peek() == Some(b' '), tokens: Vec::new() };
        entry.is_owner_omitted |= self.peek() == Some(b'\t');
        let mut open_at = None;
        while let Some(octet) = self.peek() {
            match octet {
                b'\n' if open_at.is_none() => {
                    self.take_newline();
                    break;
                }
                b'\n' => self.take_newline(),
                b' ' | b'\t' | b'\r' => self.at += 1,
                b';' => self.skip_line(),
                b'(' if open_at.is_some() => return self.broken(self.at, "parentheses cannot be nested"),
                b'(' => {
                    open_at = Some(self.at);
                    self.at += 1;
                }
                b')' if open_at.take().is_none() => return self.broken(self.at, "\")\" without \"(\""),
                b')' => self.at += 1,
                _ => {
                    if entry.tokens.is_empty() {
                        entry.line = self.line;
                    }
                    entry.tokens.push(self.token()?);
                }
            }
        }
        match open_at {
            Some(at) => self.broken(at, "\"(\" is never closed"),
            None => Ok(entry),
        }
    }

    fn token(&mut self) -> Result<Token<'a>, Broken> {
        let is_quoted = self.peek() == Some(b'"');
        let offset = self.at;
        self.at += usize::from(is_quoted);
        let start = self.at;
        while let Some(octet) = self.peek() {
            match octet {
                b'"' if is_quoted => {
                    self.at += 1;
                    return Ok(Token { text: &self.text[start..self.at - 1], is_quoted, offset });
                }
                b'\n' => break,
                b'"' | b' ' | b'\t' | b'\r' | b';' | b'(' | b')' if !is_quoted => break,
                // The escaped character is part of the token, whatever it is.
                b'\\' => {
                    self.at += 1;
                    let escaped = self.text[self.at..].chars().next().filter(|&escaped| escaped != '\n');
                    self.at += escaped.map_or(0, char::len_utf8);
                }
                _ => self.at += self.text[self.at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        if is_quoted {
            return self.broken(offset, "the quote is not closed on its line");
        }
        Ok(Token { text: &self.text[start..self.at], is_quoted, offset })
    }

    fn broken<T>(&mut self, offset: usize, what: &str) -> Result<T, Broken> {
        self.problems.add(Some(offset), "", what);
        self.skip_line();
        Err(Broken)
    }
}

struct Broken;

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        while self.at < self.text.len() {
            if let Ok(entry) = self.entry()
                && !entry.tokens.is_empty()
            {
                return Some(entry);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The entries as `line`, then `-` where the owner is omitted, then the tokens; and the problems.
    fn entries(text: &str) -> (Vec<String>, Vec<String>) {
        let problems = Problems::new("z", text);
        let simple = |entry: Entry<'_>| {
            let tokens: Vec<&str> = entry.tokens.iter().map(|token| token.text).collect();
            let owner = if entry.is_owner_omitted { "- " } else { "" };
            format!("{} {owner}{}", entry.line, tokens.join("|"))
        };
        let found = Entries::new(text, &problems).map(simple).collect();
        (found, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn parentheses_join_lines_and_comments_end_them() {
        let (found, problems) = entries("a b ( c ; d )\r\n \"e ; f\" )g\n\n\th i\\ j ; k\nl");
        assert_eq!(found, ["1 a|b|c|e ; f|g", "4 - h|i\\ j", "5 l"]);
        assert!(problems.is_empty());
    }

    #[test]
    fn every_broken_entry_is_reported_and_the_next_one_read() {
        let (found, problems) = entries("a \"b\nc )\nd\ne (");
        assert_eq!(found, ["3 d"]);
        assert_eq!(
            problems,
            ["z:1: the quote is not closed on its line", "z:2: \")\" without \"(\"", "z:4: \"(\" is never closed"]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "[a\\\\\"();\n\r\té ]{0,40}") {
            entries(&text);
        }
    }
}
