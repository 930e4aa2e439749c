//! Lists of names in messages.

/// The names in one line, at most [`NAMES_SHOWN`] of them and the number of the others.
pub(crate) fn listed<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let mut names = names.into_iter();
    let shown: Vec<T> = names.by_ref().take(NAMES_SHOWN).collect();
    let line = shown.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.count() {
        0 if line.is_empty() => "nothing, for there is none".to_owned(),
        0 => line,
        others => format!("{line} and {others} more"),
    }
}

/// As many as a line holds.
const NAMES_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(["a", "b"]), "a, b");
        let many: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        assert_eq!(listed(&many), "0, 1, 2, 3, 4, 5, 6, 7 and 992 more");
        assert!(listed([""; 0]).contains("none"));
    }
}
