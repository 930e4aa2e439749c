//! What the kernel must be set to, and how it was before.
//!
//! What was changed is kept in the kernel too, as names of chains without rules in a table of its own: whoever starts after
//! a process that was killed puts it back in its place.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::nft;

/// What was changed: the value before, by the key.
#[derive(Debug, Default)]
pub(super) struct Sysctls(BTreeMap<String, Changed>);

#[derive(Debug, Eq, PartialEq)]
struct Changed {
    was: String,
    is: String,
}

impl Sysctls {
    /// What a process before has changed and not put back.
    pub(super) fn left() -> Self {
        let listed = nft::ask(&["list", "table", "inet", TABLE]).unwrap_or_default();
        Self(listed.lines().filter_map(read).collect())
    }

    /// Whether nothing is changed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Has `key`, such as `net/ipv4/ip_forward`, at `value`; says whether that was a change.
    pub(super) fn set(&mut self, key: &str, value: &str) -> io::Result<bool> {
        let was = std::fs::read_to_string(path(key))?.trim().to_owned();
        if was == value {
            return Ok(false);
        }
        std::fs::write(path(key), value)?;
        tracing::info!(key, was, is = value, "l4: set in the kernel, until this ends");
        self.0.entry(key.to_owned()).or_insert(Changed { was, is: value.to_owned() });
        self.note();
        Ok(true)
    }

    /// Keeps all in the kernel, where another program has removed it too.
    pub(super) fn note(&self) {
        let chain = |(key, Changed { was, is }): (&String, &Changed)| {
            format!("add chain inet {TABLE} {key}{WAS}{was}{IS}{is}\n")
        };
        let chains: String = self.0.iter().map(chain).collect();
        if chains.is_empty() {
            return;
        }
        if let Err(error) = nft::apply(&format!("add table inet {TABLE}\n{chains}")) {
            tracing::warn!(%error, "l4: what was set would not be put back if this process were killed");
        }
    }

    /// Puts all back but `needed`, and what somebody else has changed since.
    pub(super) fn restore(&mut self, needed: &[String]) {
        let has_any = !self.0.is_empty();
        let keys: Vec<String> = self.0.keys().rev().filter(|key| !needed.contains(key)).cloned().collect();
        for key in keys {
            let Some(Changed { was, is }) = self.0.remove(&key) else { continue };
            let present = std::fs::read_to_string(path(&key)).unwrap_or_default();
            if present.trim() == is {
                match std::fs::write(path(&key), &was) {
                    Ok(()) => tracing::info!(key, was = is, is = was, "l4: put back in the kernel"),
                    Err(error) => tracing::warn!(key, value = was, %error, "l4: cannot be put back in the kernel"),
                }
            }
            let note = format!("delete chain inet {TABLE} {key}{WAS}{was}{IS}{is}\n");
            // A note that is gone needs no removal.
            let _ = nft::apply(&note);
        }
        if has_any && self.0.is_empty() {
            let _ = nft::apply(&format!("add table inet {TABLE}\ndelete table inet {TABLE}\n"));
        }
    }
}

fn path(key: &str) -> PathBuf {
    ["/proc/sys", key].iter().collect()
}

/// A line such as `chain net/ipv4/ip_forward/was/0/is/1 {`.
fn read(line: &str) -> Option<(String, Changed)> {
    let name = line.trim().strip_prefix("chain ")?.trim_end_matches('{').trim();
    let (key, values) = name.split_once(WAS)?;
    let (was, is) = values.split_once(IS)?;
    Some((key.to_owned(), Changed { was: was.to_owned(), is: is.to_owned() }))
}

const TABLE: &str = "region_proxy_kept";
const WAS: &str = "/was/";
const IS: &str = "/is/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_before_is_read_from_the_names_of_chains() {
        let changed = Changed { was: "0".to_owned(), is: "1".to_owned() };
        assert_eq!(read("\tchain net/ipv4/ip_forward/was/0/is/1 {"), Some(("net/ipv4/ip_forward".to_owned(), changed)));
        assert_eq!(read("table inet region_proxy_kept {"), None);
    }
}
