//! What a client gets that asks for a name (RFC 6066, section 3): a certificate, or the servers of a service.

use std::collections::HashMap;

pub mod hello;

/// The names of many certificates or services, which are numbered in the order of the settings.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Names {
    exact: HashMap<String, usize>,
    /// By what follows `*.`.
    wildcard: HashMap<String, usize>,
}

impl Names {
    /// Gives `name`, such as `www.example.com` or `*.example.com`, to what is numbered `number`.
    ///
    /// Returns the number of what has it already, which keeps it.
    pub fn insert(&mut self, name: &str, number: usize) -> Option<usize> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let (names, name) = match name.strip_prefix("*.") {
            Some(parent) => (&mut self.wildcard, parent.to_owned()),
            None => (&mut self.exact, name),
        };
        let holder = *names.entry(name).or_insert(number);
        (holder != number).then_some(holder)
    }

    /// What has the name `asked`, or a wildcard for it.
    ///
    /// A wildcard stands for one label, the leftmost (RFC 9525, section 6.3).
    pub fn find(&self, asked: &str) -> Option<usize> {
        let asked = asked.strip_suffix('.').unwrap_or(asked).to_ascii_lowercase();
        let parent = || asked.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(&asked).or_else(parent).copied()
    }

    /// The certificate for `asked`: the one with that name, or with a wildcard for it, or the first.
    pub fn choose(&self, asked: Option<&str>) -> usize {
        asked.and_then(|asked| self.find(asked)).unwrap_or(DEFAULT)
    }
}

/// The certificate of those who ask for no name that is known.
pub const DEFAULT: usize = 0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        for (index, name) in
            ["default.test", "*.Example.com", "www.example.com", "*.deep.example.com"].iter().enumerate()
        {
            assert_eq!(names.insert(name, index), None);
        }
        names
    }

    #[test]
    fn an_exact_name_comes_before_a_wildcard_and_that_before_the_default() {
        let names = names();
        for (asked, expected) in [
            ("www.example.com", 2),
            ("WWW.example.COM.", 2),
            ("api.example.com", 1),
            ("a.deep.example.com", 3),
            ("deep.example.com", 1),
            ("a.b.example.com", 0),
            ("example.com", 0),
            ("other.test", 0),
            ("", 0),
        ] {
            assert_eq!(names.choose(Some(asked)), expected, "{asked}");
        }
        assert_eq!(names.choose(None), 0);
    }

    #[test]
    fn the_first_certificate_with_a_name_keeps_it() {
        let mut names = names();
        assert_eq!(names.insert("WWW.EXAMPLE.COM", 7), Some(2));
        assert_eq!(names.insert("*.example.com.", 7), Some(1));
        assert_eq!((names.choose(Some("www.example.com")), names.choose(Some("a.example.com"))), (2, 1));
    }

    proptest! {
        #[test]
        fn any_name_gets_a_certificate_that_is_there(asked in "[a-z.*]{0,20}") {
            prop_assert!(names().choose(Some(&asked)) < 4);
        }
    }
}
