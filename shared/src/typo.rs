//! What somebody meant who mistyped a name.

/// The one of `names` that is hardly different from `name`, and nearest to it.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let (steps, known) = names.map(|known| (distance(name, known), known)).min()?;
    (steps <= TYPOS_MAX && steps < known.len()).then_some(known)
}

/// Characters to insert, remove or replace to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    // Names are short; what is longer is no typing mistake.
    if a.len() > 2 * NAME_LEN_MAX {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, from) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = at + 1;
        for (column, to) in b.iter().enumerate() {
            let replaced = corner + usize::from(from != *to);
            corner = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

const TYPOS_MAX: usize = 2;
const NAME_LEN_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_changes() {
        for (a, b, steps) in
            [("", "", 0), ("seoul", "seoul", 0), ("seul", "seoul", 1), ("soeul", "seoul", 2), ("", "ab", 2)]
        {
            assert_eq!(distance(a, b), steps, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_is_meant_and_nothing_that_is_far() {
        let names = ["listen", "tls", "id"];
        assert_eq!(nearest("lisen", names.into_iter()), Some("listen"));
        assert_eq!(nearest("tll", names.into_iter()), Some("tls"));
        assert_eq!(nearest("zzz", names.into_iter()), None);
        assert_eq!(nearest("xy", names.into_iter()), None, "all of it would have to change");
        assert_eq!(nearest("a", [].into_iter()), None);
    }
}
