//! Which key may change what.

use crate::wire::{Name, NameFault, Rtype, is_at_or_below, label_count, parent};

/// All rules for one zone; without any nobody may change anything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    /// One of them must cover a change.
    pub rules: Vec<Rule>,
}

/// What one key may change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// The name of the key, in lower case.
    pub key: Name,
    /// Owner names.
    pub names: Vec<NamePattern>,
    /// Types; [`Rtype::ANY`] stands for all.
    pub types: Vec<Rtype>,
}

/// Owner names that belong together.
///
/// ```text
/// _acme-challenge      this name, here of the zone's name; "@" is the zone's name itself
/// *.dyn                every name below this one, however deep, but not this name
/// *                    every name below the zone's name
/// _acme-challenge.*    every name that starts with these labels, be it right below the zone's name or deeper
/// ```
/// Names are relative to the zone's name, unless they end in a dot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NamePattern {
    /// This name.
    Exact(Relative),
    /// All below this one.
    Below(Relative),
    /// All that start with these labels; uncompressed, without the root label, in lower case.
    StartsWith(Box<[u8]>),
}

/// A name that the name of its zone may follow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Relative {
    /// In lower case.
    Absolute(Name),
    /// The labels before the zone's name, without the root label, in lower case.
    ToZone(Box<[u8]>),
}

/// Why a text is no [`NamePattern`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadPattern {
    /// More than one, or in the middle.
    #[error(
        "`*` may stand as the first label or as the last, once: expected such as \"*.dyn\" or \"_acme-challenge.*\""
    )]
    Star,
    /// Not a name.
    #[error("not a domain name: {0}")]
    Name(#[from] NameFault),
}

impl Policy {
    /// Whether `key` may change anything.
    pub fn knows(&self, key: &Name) -> bool {
        self.rules.iter().any(|rule| rule.key == *key)
    }

    /// Whether `key` may change records of this owner and type in the zone `apex`; all names in lower case.
    pub fn allows(&self, key: &Name, owner: &Name, rtype: Rtype, apex: &Name) -> bool {
        let covers_type = |rule: &&Rule| rule.types.contains(&rtype) || rule.types.contains(&Rtype::ANY);
        self.rules_for(key, owner, apex).any(|rule| covers_type(&rule))
    }

    /// Whether `key` may change records of any type of this owner.
    pub fn allows_name(&self, key: &Name, owner: &Name, apex: &Name) -> bool {
        self.rules_for(key, owner, apex).next().is_some()
    }

    fn rules_for(&self, key: &Name, owner: &Name, apex: &Name) -> impl Iterator<Item = &Rule> {
        let covers = move |rule: &&Rule| rule.key == *key && rule.names.iter().any(|name| name.covers(owner, apex));
        self.rules.iter().filter(covers)
    }
}

impl NamePattern {
    /// Reads `text`, as it stands in settings.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let (is_below, rest) = match text.strip_prefix("*.") {
            _ if text == "*" => return Ok(Self::Below(Relative::ToZone([].into()))),
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (starts_with, rest) = rest.strip_suffix(".*").map_or((false, rest), |rest| (true, rest));
        if (is_below && starts_with) || rest.split('.').any(|label| label == "*") {
            return Err(BadPattern::Star);
        }
        if starts_with {
            return Ok(Self::StartsWith(labels(rest)?));
        }
        let relative = match rest {
            "@" => Relative::ToZone([].into()),
            _ if ends_absolute(rest)? => Relative::Absolute(Name::parse(rest, &Name::root())?.folded()),
            _ => Relative::ToZone(labels(rest)?),
        };
        Ok(if is_below { Self::Below(relative) } else { Self::Exact(relative) })
    }

    /// Whether `owner` of the zone `apex` is meant; both in lower case.
    pub fn covers(&self, owner: &Name, apex: &Name) -> bool {
        let (owner_wire, apex_wire) = (owner.as_wire(), apex.as_wire());
        match self {
            Self::Exact(name) => name.within(apex) == owner_wire,
            Self::Below(name) => {
                let name = name.within(apex);
                owner_wire.len() > name.len() && is_at_or_below(owner_wire, &name)
            }
            Self::StartsWith(first) => {
                let rest = owner_wire.strip_prefix(&**first);
                rest.is_some_and(|rest| is_at_or_below(rest, apex_wire))
            }
        }
    }

    /// Whether it can cover a name of the zone `apex`, in lower case.
    pub fn fits(&self, apex: &Name) -> bool {
        match self {
            Self::Exact(Relative::Absolute(name)) | Self::Below(Relative::Absolute(name)) => {
                is_at_or_below(name.as_wire(), apex.as_wire())
            }
            Self::Exact(Relative::ToZone(labels))
            | Self::Below(Relative::ToZone(labels))
            | Self::StartsWith(labels) => labels.len() + apex.as_wire().len() <= crate::wire::NAME_LEN_MAX,
        }
    }
}

impl Relative {
    fn within(&self, apex: &Name) -> Vec<u8> {
        match self {
            Self::Absolute(name) => name.as_wire().to_vec(),
            Self::ToZone(labels) => [labels, apex.as_wire()].concat(),
        }
    }
}

/// Whether `text` is a name that ends in a dot, which is no escaped one: then an origin adds nothing.
fn ends_absolute(text: &str) -> Result<bool, NameFault> {
    let origin = Name::parse("x", &Name::root())?;
    let (bare, with_origin) = (Name::parse(text, &Name::root())?, Name::parse(text, &origin)?);
    Ok(label_count(bare.as_wire()) == label_count(with_origin.as_wire()))
}

/// The labels of `text` without the root label, in lower case.
fn labels(text: &str) -> Result<Box<[u8]>, NameFault> {
    let name = Name::parse(text, &Name::root())?.folded();
    let wire = name.as_wire();
    debug_assert!(parent(wire).is_some() || wire.len() == 1);
    Ok(wire[..wire.len() - 1].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text, &Name::root()).expect("a name").folded()
    }

    fn covered<'a>(pattern: &str, owners: &[&'a str]) -> Vec<&'a str> {
        let (pattern, apex) = (NamePattern::parse(pattern).expect("a pattern"), name("example.com"));
        owners.iter().copied().filter(|owner| pattern.covers(&name(owner), &apex)).collect()
    }

    #[test]
    fn patterns_cover_what_they_say() {
        let all = [
            "example.com",
            "a.example.com",
            "b.a.example.com",
            "c.b.a.example.com",
            "*.a.example.com",
            "b.example.com",
            "xa.example.com",
        ];
        assert_eq!(covered("@", &all), ["example.com"]);
        assert_eq!(covered("A", &all), ["a.example.com"]);
        assert_eq!(covered("a.example.com.", &all), ["a.example.com"]);
        assert_eq!(covered("*.a", &all), ["b.a.example.com", "c.b.a.example.com", "*.a.example.com"]);
        assert_eq!(covered("*.a.example.com.", &all), covered("*.a", &all));
        assert_eq!(covered("*", &all), all[1..]);
        assert_eq!(covered("b.*", &all), ["b.a.example.com", "b.example.com"]);
        assert_eq!(covered("c.b.*", &all), ["c.b.a.example.com"]);
    }

    #[test]
    fn stars_elsewhere_are_refused() {
        for text in ["a.*.b", "*.a.*", "*.*", "*.*.a", "a.*.*"] {
            assert_eq!(NamePattern::parse(text), Err(BadPattern::Star), "{text}");
        }
        assert_eq!(NamePattern::parse("a..b"), Err(BadPattern::Name(NameFault::EmptyLabel)));
        assert_eq!(NamePattern::parse(""), Err(BadPattern::Name(NameFault::EmptyLabel)));
    }

    #[test]
    fn rule_covers_its_key_names_and_types_alone() {
        let rule = Rule { key: name("k"), names: vec![NamePattern::parse("a").expect("one")], types: vec![Rtype::TXT] };
        let (policy, apex, a) = (Policy { rules: vec![rule] }, name("example.com"), name("a.example.com"));
        assert!(policy.allows(&name("k"), &a, Rtype::TXT, &apex));
        assert!(!policy.allows(&name("k"), &a, Rtype::A, &apex));
        assert!(!policy.allows(&name("j"), &a, Rtype::TXT, &apex));
        assert!(!policy.allows(&name("k"), &name("b.example.com"), Rtype::TXT, &apex));
        assert!(policy.knows(&name("k")) && !policy.knows(&name("j")));
        assert!(!Policy::default().knows(&name("k")));
    }

    #[test]
    fn absolute_names_of_other_zones_do_not_fit() {
        let fits = |text: &str| NamePattern::parse(text).expect("a pattern").fits(&name("example.com"));
        assert!(fits("a.example.com.") && fits("*.a") && fits("a.*") && fits("@"));
        assert!(!fits("a.example.net.") && !fits("*.com."));
    }
}
