//! Mistakes in what an operator wrote: collected, so that all are reported at once.

use std::cell::RefCell;
use std::fmt;

/// One mistake: where it is, what is wrong and what would be right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The file, as the operator named it.
    pub file: String,
    /// Line in the file, from 1, where one is known.
    pub line: Option<usize>,
    /// The key in the settings, such as `regions.seoul.vips`, or what else names the place; may be empty.
    pub key: String,
    /// What is wrong and what would be right.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.what)
    }
}

/// All mistakes found so far in one file, and where its lines end.
#[derive(Debug)]
pub struct Problems {
    file: String,
    line_starts: Vec<usize>,
    found: RefCell<Vec<Problem>>,
}

impl Problems {
    /// None yet, for `file` whose text is `text`.
    pub fn new(file: &str, text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(newlines).collect();
        Self { file: file.to_owned(), line_starts, found: RefCell::default() }
    }

    /// Adds the mistake `what` at `key`, which stands `offset` octets into the text where that is known.
    pub fn add(&self, offset: Option<usize>, key: &str, what: impl fmt::Display) {
        let line = offset.map(|offset| self.line_of(offset));
        let problem = Problem { file: self.file.clone(), line, key: key.to_owned(), what: what.to_string() };
        self.found.borrow_mut().push(problem);
    }

    /// The line, from 1, in which the octet at `offset` of the text stands.
    pub fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.found.borrow().len()
    }

    /// All of them, by line; those without a line last.
    pub fn into_vec(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        found
    }
}
