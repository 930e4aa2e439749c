//! The terminal of the demo: the table, what was said, and a prompt, fitted to its size. Without a terminal: lines.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use super::fit::{cut, wrap};
use super::table::{self, Table};

/// What is shown.
#[derive(Debug)]
pub(super) struct Screen {
    /// The size of the terminal when it was last drawn on; `None`: the output is none.
    size: Option<Size>,
    status: Result<Value, String>,
    /// What was shown of `status`.
    table: Table,
    said: VecDeque<String>,
}

/// Where the cursor is after drawing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cursor {
    /// At a new prompt: a line has been read, or the terminal has another size.
    ToPrompt,
    /// Where it was: somebody may be typing.
    Stays,
}

/// Of a terminal, in characters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Size {
    columns: usize,
    rows: usize,
}

impl Screen {
    /// A screen that says `guide` first.
    pub(super) fn new(guide: String) -> Self {
        let size = io::stdout().is_terminal().then(Size::of_terminal);
        match size {
            // What stands there moves out of the way, where the terminal can scroll back.
            Some(_) => print!("\x1b[2J"),
            None => println!("{guide}"),
        }
        Self { size, status: Ok(Value::Null), table: Table::default(), said: VecDeque::from([guide]) }
    }

    /// Shows the node's status if that changes anything: all of it at a terminal, else the lines that changed.
    pub(super) fn show(&mut self, status: Result<Value, String>) {
        self.status = status;
        let size = self.size.map(|_| Size::of_terminal());
        let table = table::draw(&self.status, size.map(|size| size.columns));
        let (old_table, old_size) =
            (std::mem::replace(&mut self.table, table), std::mem::replace(&mut self.size, size));
        if self.size != old_size || (self.size.is_some() && old_table == Table::default()) {
            self.draw(Cursor::ToPrompt);
        } else if self.size.is_some() && self.table != old_table {
            self.draw(Cursor::Stays);
        } else if self.size.is_none() {
            let old: Vec<&str> = old_table.all_lines().collect();
            self.table.all_lines().filter(|line| !old.contains(line)).for_each(|line| println!("{line}"));
        }
    }

    /// Says `text` below the table.
    pub(super) fn say(&mut self, text: &str) {
        if self.size.is_none() {
            println!("{}", text.trim_end());
            return;
        }
        self.said.push_back(text.trim_end().to_owned());
        if self.said.len() > SAID_MAX {
            self.said.pop_front();
        }
        self.draw(Cursor::ToPrompt);
    }

    /// Draws everything, from the top and line by line: nothing scrolls, so that no old copy stays above it.
    pub(super) fn draw(&self, cursor: Cursor) {
        let Some(size) = self.size else { return };
        let mut text = String::from(if cursor == Cursor::Stays { "\x1b7\x1b[H" } else { "\x1b[H" });
        for line in compose(&self.table, &self.said, size) {
            // Cleared before and not after: past the last column that would take a character away.
            text += &format!("\x1b[K{line}\n");
        }
        text += if cursor == Cursor::Stays { "\x1b8" } else { "\x1b[J> " };
        print!("{text}");
        // Nobody to tell when the terminal is gone.
        let _ = io::stdout().flush();
    }
}

impl Size {
    fn of_terminal() -> Self {
        let asked = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let known = |asked: Option<u16>, variable: &str, usual: usize| {
            let told = || std::env::var(variable).ok().and_then(|text| text.parse().ok());
            asked.map(usize::from).filter(|number| *number > 0).or_else(told).unwrap_or(usual)
        };
        Self {
            columns: known(asked.map(|size| size.ws_col), "COLUMNS", 80),
            rows: known(asked.map(|size| size.ws_row), "LINES", 24),
        }
    }
}

/// The lines above the prompt, two fewer than the terminal has: the prompt needs one, and the cursor is below it once
/// a command has been entered.
fn compose(table: &Table, said: &VecDeque<String>, size: Size) -> Vec<String> {
    let above = size.rows.saturating_sub(2);
    let alarm = table.alarm.iter().flat_map(|alarm| wrap(alarm, size.columns));
    let mut lines: Vec<String> =
        alarm.map(|line| format!("\x1b[1;97;41m{line:<width$}\x1b[0m", width = size.columns)).collect();
    lines.extend(table.lines.iter().cloned());
    lines.push(String::new());
    lines.truncate(above.saturating_sub(1));
    lines.extend(tail(said, size.columns, above - lines.len().min(above) - usize::from(above > lines.len())));
    lines.resize(above.saturating_sub(1), String::new());
    lines.extend((above > 0).then(|| cut(COMMANDS, size.columns)));
    lines
}

/// The last `rows` lines of what was said; the first of them where the last text alone is longer.
fn tail(said: &VecDeque<String>, columns: usize, rows: usize) -> Vec<String> {
    let fitted = |text: &String| text.lines().flat_map(|line| wrap(line, columns)).collect::<Vec<_>>();
    let mut last = said.back().map(fitted).unwrap_or_default();
    if last.len() > rows {
        let hidden = last.len() - rows.saturating_sub(1);
        last.truncate(rows.saturating_sub(1));
        last.extend((rows > 0).then(|| cut(&format!("… {hidden} more lines in a higher window"), columns)));
        return last;
    }
    let mut lines: Vec<String> = said.iter().flat_map(fitted).collect();
    lines.split_off(lines.len().saturating_sub(rows))
}

const COMMANDS: &str = "down, freeze, up, drain, undrain REGION | explain NAME IP | help | quit";
/// More than any terminal has lines.
const SAID_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screen_fits_every_terminal() {
        let table = Table { alarm: Some("no region can be reached".to_owned()), lines: vec!["seoul".to_owned(); 4] };
        let said = VecDeque::from(["killed ".repeat(30), "one\ntwo\nthree".to_owned()]);
        for (columns, rows) in [(80, 24), (20, 10), (40, 4), (10, 3), (5, 2), (1, 1), (0, 0)] {
            let lines = compose(&table, &said, Size { columns, rows });
            assert_eq!(lines.len(), rows.saturating_sub(2), "{columns}×{rows}");
        }
    }

    #[test]
    fn long_text_is_shown_from_its_beginning() {
        let said = VecDeque::from(["old".to_owned(), "1\n2\n3\n4".to_owned()]);
        assert_eq!(tail(&said, 80, 3), ["1", "2", "… 2 more lines in a higher window"]);
        assert_eq!(tail(&said, 80, 5), ["old", "1", "2", "3", "4"]);
        assert_eq!(tail(&said, 80, 4), ["1", "2", "3", "4"]);
        assert!(tail(&said, 80, 0).is_empty());
    }
}
