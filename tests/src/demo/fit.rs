//! Lines that fit the width of a terminal, in columns; every character is taken for one column wide.

/// `line` itself, or its beginning and `…` where it is wider than `width`.
pub(super) fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { kept } else { kept.trim_end().to_owned() + "…" }
}

/// `line` in pieces no wider than `width`, broken between words where there are any. Later pieces begin with the spaces
/// that the line begins with, and two more.
pub(super) fn wrap(line: &str, width: usize) -> Vec<String> {
    let spaces = line.chars().take_while(|character| *character == ' ').count();
    let indent = " ".repeat((spaces + 2).min(width / 2));
    let mut pieces = Vec::new();
    let mut rest = line.to_owned();
    while width > 0 && rest.chars().count() > width {
        let end = rest.char_indices().nth(width).map_or(rest.len(), |(at, _)| at);
        let first_word = rest.len() - rest.trim_start().len();
        let space = rest[..end].rfind(' ').filter(|at| *at > first_word);
        // A blank just past the end is as good a place.
        let at = if rest[end..].starts_with(' ') { end } else { space.unwrap_or(end) };
        let next = rest[at..].trim_start();
        let next = if next.is_empty() { String::new() } else { format!("{indent}{next}") };
        pieces.push(rest[..at].trim_end().to_owned());
        rest = next;
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(rest);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_line_says_so() {
        assert_eq!(cut("serving, 2 of 2", 20), "serving, 2 of 2");
        assert_eq!(cut("serving, 2 of 2", 10), "serving,…");
        assert_eq!(cut("é", 0), "");
    }

    #[test]
    fn lines_are_wrapped_between_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "  three"]);
        assert_eq!(wrap("  one two", 6), ["  one", "   two"]);
        assert_eq!(wrap("", 8), [""]);
        assert_eq!(wrap("abcdefgh", 4), ["abcd", "  ef", "  gh"]);
    }

    #[test]
    fn every_line_fits_every_width() {
        let line = "   frankfurt: “draining” … for 12 s, two-of-two-servers-that-have-a-long-name are up  ";
        for width in 1..100 {
            assert!(wrap(line, width).iter().all(|piece| piece.chars().count() <= width), "{width}");
            assert!(cut(line, width).chars().count() <= width, "{width}");
        }
    }
}
