//! As much of Rust's grammar as it takes to see which paths a source names, where, and whether only tests do.

/// A path that a source names, such as `crate::zone::Zone`; groups of a `use` are taken apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Mention {
    /// Its segments; `*` for all of a module.
    pub(crate) path: Vec<String>,
    /// Line, from 1.
    pub(crate) line: usize,
    /// The `mod … { }` blocks around it, outermost first.
    pub(crate) within: Vec<String>,
    /// Whether it stands in an item under `#[cfg(test)]`.
    pub(crate) is_in_tests: bool,
    /// Whether it is a whole `use` or `extern crate`: then one segment is a path as well.
    pub(crate) is_import: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Word(String),
    PathSep,
    Mark(char),
}

/// Every path in `source`, in its order. Comments, texts and lifetimes name nothing.
pub(crate) fn mentions(source: &str) -> Vec<Mention> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    let mut blocks = Blocks::default();
    let mut at = 0;
    while at < tokens.len() {
        blocks.enter(&tokens, at);
        let starts_path = matches!(tokens[at].1, Token::Word(_)) && !is_after_segment(&tokens, at);
        if !starts_path {
            at += 1;
            continue;
        }
        let is_import = at > 0 && matches!(&tokens[at - 1].1, Token::Word(word) if word == "use" || word == "crate");
        let (paths, end) = paths_from(&tokens, at, &[]);
        for (path, line) in paths {
            let (within, is_in_tests) = (blocks.names(), blocks.is_in_tests());
            found.push(Mention { path, line, within, is_in_tests, is_import });
        }
        // The braces of a group belong to the path, not to the blocks around.
        at = end;
    }
    found
}

/// Where in the nesting of braces a source is.
#[derive(Default)]
struct Blocks {
    depth: usize,
    /// `mod` blocks: name and the depth inside.
    modules: Vec<(String, usize)>,
    /// Depth outside the item under `#[cfg(test)]`, and whether its block has begun.
    tests: Option<(usize, bool)>,
}

impl Blocks {
    /// Takes note of the token at `at`.
    fn enter(&mut self, tokens: &[(usize, Token)], at: usize) {
        if self.tests.is_none() && is_cfg_test(tokens, at) {
            self.tests = Some((self.depth, false));
        }
        match tokens[at].1 {
            Token::Mark('{') => {
                self.depth += 1;
                if let Some(name) = module_name(tokens, at) {
                    self.modules.push((name, self.depth));
                }
                if let Some((_, has_begun)) = &mut self.tests {
                    *has_begun = true;
                }
            }
            Token::Mark('}') => {
                self.modules.retain(|(_, depth)| *depth < self.depth);
                self.depth = self.depth.saturating_sub(1);
                self.tests = self.tests.filter(|&(depth, _)| depth < self.depth);
            }
            Token::Mark(';') => self.tests = self.tests.filter(|&(depth, has_begun)| has_begun || depth < self.depth),
            _ => {}
        }
    }

    fn names(&self) -> Vec<String> {
        self.modules.iter().map(|(name, _)| name.clone()).collect()
    }

    fn is_in_tests(&self) -> bool {
        self.tests.is_some()
    }
}

fn is_cfg_test(tokens: &[(usize, Token)], at: usize) -> bool {
    let wanted = [
        Token::Mark('#'),
        Token::Mark('['),
        Token::Word("cfg".into()),
        Token::Mark('('),
        Token::Word("test".into()),
        Token::Mark(')'),
    ];
    tokens[at..].iter().map(|(_, token)| token).take(wanted.len()).eq(&wanted)
}

/// The name of the module whose block opens at `at`.
fn module_name(tokens: &[(usize, Token)], at: usize) -> Option<String> {
    match (&tokens.get(at.checked_sub(2)?)?.1, &tokens.get(at - 1)?.1) {
        (Token::Word(word), Token::Word(name)) if word == "mod" => Some(name.clone()),
        _ => None,
    }
}

/// Whether the word at `at` goes on a path that began before it (`::word` at the start of a path does not).
fn is_after_segment(tokens: &[(usize, Token)], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|at| &tokens[at].1);
    before(1) == Some(&Token::PathSep) && matches!(before(2), Some(Token::Word(_) | Token::Mark('>')))
}

/// The paths that begin with `prefix` and go on at `at`, with their lines, and where they end.
fn paths_from(tokens: &[(usize, Token)], at: usize, prefix: &[String]) -> (Vec<(Vec<String>, usize)>, usize) {
    let mut path = prefix.to_vec();
    let mut at = at;
    loop {
        let Some((line, token)) = tokens.get(at) else { return (Vec::new(), at) };
        match token {
            Token::Word(word) => path.push(word.clone()),
            Token::Mark('*') => path.push("*".into()),
            Token::Mark('{') => return group_from(tokens, at, &path),
            // A turbofish: the path ends before it.
            _ => return (vec![(path, *line)], at),
        }
        at += 1;
        match tokens.get(at) {
            Some((_, Token::PathSep)) => at += 1,
            _ => return (vec![(path, *line)], at),
        }
    }
}

fn group_from(tokens: &[(usize, Token)], at: usize, prefix: &[String]) -> (Vec<(Vec<String>, usize)>, usize) {
    let mut found = Vec::new();
    let mut at = at + 1;
    while let Some((_, token)) = tokens.get(at) {
        match token {
            Token::Mark('}') => return (found, at + 1),
            // `as name` names nothing else.
            Token::Word(word) if word == "as" => at += 2,
            Token::Word(_) | Token::Mark('*' | '{') => {
                let (paths, end) = paths_from(tokens, at, prefix);
                found.extend(paths);
                at = end;
            }
            _ => at += 1,
        }
    }
    (found, at)
}

fn tokens(source: &str) -> Vec<(usize, Token)> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let len = skipped(rest).unwrap_or_else(|| {
            let (token, len) = token(rest, first);
            found.extend(token.map(|token| (line, token)));
            len
        });
        line += rest[..len].matches('\n').count();
        rest = &rest[len..];
    }
    found
}

fn token(rest: &str, first: char) -> (Option<Token>, usize) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if is_word(first) {
        let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let word = (!first.is_ascii_digit()).then(|| Token::Word(rest[..len].to_owned()));
        return (word, len);
    }
    match first {
        ':' if rest.starts_with("::") => (Some(Token::PathSep), 2),
        _ if first.is_whitespace() => (None, first.len_utf8()),
        _ => (Some(Token::Mark(first)), first.len_utf8()),
    }
}

/// Length of the comment, text, character or lifetime at the start of `rest`.
fn skipped(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if rest.starts_with("r#") && rest[2..].starts_with(|c: char| c.is_alphabetic() || c == '_') {
        // A raw word: the word itself comes next.
        return Some(2);
    }
    let marks = rest.find(|c| !matches!(c, 'b' | 'c' | 'r')).filter(|&len| len <= 2)?;
    let body = &rest[marks..];
    let is_raw = rest[..marks].contains('r');
    match body.chars().next()? {
        '"' if !is_raw => Some(marks + quoted(body, '"')),
        '"' | '#' if is_raw => raw_text(body).map(|len| marks + len),
        '\'' if marks <= 1 && !is_raw => Some(marks + character_or_lifetime(body)),
        _ => None,
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        let Some(next) = rest[at..].find(['/', '*']) else { return rest.len() };
        at += next;
        match rest.get(at..at + 2) {
            Some("/*") => (depth, at) = (depth + 1, at + 2),
            Some("*/") if depth == 1 => return at + 2,
            Some("*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
}

fn quoted(body: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    body.len()
}

fn raw_text(body: &str) -> Option<usize> {
    let hashes = body.find(|c| c != '#')?;
    if !body[hashes..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let close = body[hashes + 1..].find(&end).map(|at| hashes + 1 + at + end.len());
    Some(close.unwrap_or(body.len()))
}

fn character_or_lifetime(body: &str) -> usize {
    let mut inside = body.chars().skip(1);
    match (inside.next(), inside.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(body, '\''),
        // A lifetime: only the tick; its name names nothing alone.
        _ => 1,
    }
}
