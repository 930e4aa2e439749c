//! Names that settings, status answers and logs share.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// Region, proxy and server names are one label.
    #[error("{name:?} is not a name: expected 1 to 63 of a-z, 0-9 and inner hyphens")]
    NotALabel {
        /// The text that was given.
        name: String,
    },
    /// Owner names are host names (underscores allowed).
    #[error(
        "{name:?} is not an owner name: expected labels of 1 to 63 letters, digits, hyphens or underscores, 253 octets at most in all"
    )]
    NotAnOwnerName {
        /// The text that was given.
        name: String,
    },
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Fails unless `name` is 1 to 63 of `a-z`, `0-9` and inner hyphens.
            pub fn parse(name: &str) -> Result<Self, NameError> {
                if is_label(name) { Ok(Self(name.to_owned())) } else { Err(NameError::NotALabel { name: name.to_owned() }) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        text_name!($name);
    };
}

macro_rules! text_name {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::parse(name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                Self::parse(&name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

label! {
    /// The name of a region (one data centre): `seoul`.
    RegionName
}

label! {
    /// The name of one running `region-proxy`: `seoul-1`.
    ProxyName
}

label! {
    /// The name of an origin server behind a proxy: `app-1`.
    ServerName
}

/// A steered owner name: absolute, lower case, without the final dot.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct OwnerName(String);

impl OwnerName {
    /// Takes any case and an optional final dot.
    ///
    /// Fails unless every label is 1 to 63 letters, digits, hyphens or underscores and the whole is at most 253 octets
    /// (RFC 1035, section 2.3.4). Wildcards are not steered.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let lower = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let is_valid = lower.len() <= 253 && lower.split('.').all(is_owner_label);
        if is_valid { Ok(Self(lower)) } else { Err(NameError::NotAnOwnerName { name: name.to_owned() }) }
    }

    /// The name as text, lower case, without the final dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The labels, leftmost first; none of them empty.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

text_name!(OwnerName);

fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

fn is_owner_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_lower_case_hyphenated_and_short() {
        assert!(RegionName::parse("us-east-1").is_ok());
        for bad in ["", "-a", "a-", "Seoul", "a.b", "a b", &"x".repeat(64)] {
            assert!(RegionName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn owner_names_compare_without_case_and_final_dot() {
        assert_eq!(OwnerName::parse("WWW.Example.COM."), OwnerName::parse("www.example.com"));
        for bad in ["", ".", "a..b", "*.example.com", &format!("{}.com", "x".repeat(64)), &"a.".repeat(130)] {
            assert!(OwnerName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
