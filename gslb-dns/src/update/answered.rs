//! What was answered to the last updates, so that a copy of one is not done again.
//!
//! Within the fudge of its signature a message holds whoever sends it: a client that has lost the answer, or somebody who has
//! seen it pass (RFC 8945, section 10.2, leaves that to the server).

use std::collections::{BTreeSet, HashMap};

use crate::wire::{Name, Rcode};

/// The updates that were answered of late, by key and MAC.
///
/// Only holders of a key can fill it. After a restart it is empty.
#[derive(Debug, Default)]
pub struct Answered {
    by_mac: HashMap<Signature, (Rcode, u64)>,
    /// The same by the second in which they end.
    by_end: BTreeSet<(u64, Signature)>,
}

/// What tells a signed message from all others.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Signature {
    key: Box<[u8]>,
    mac: Box<[u8]>,
}

impl Answered {
    /// What was answered to the message that `key` signed with `mac`; `None`: it was not answered, or its signature does not
    /// hold any more at `now`, in seconds since 1970.
    pub fn recall(&self, key: &Name, mac: &[u8], now: u64) -> Option<Rcode> {
        let (rcode, end) = self.by_mac.get(&Signature::new(key, mac))?;
        (*end >= now).then_some(*rcode)
    }

    /// Takes note that it was answered with `rcode`, at `now`; its signature holds up to `end`. SERVFAIL is forgotten, for who
    /// asks again may have more luck.
    ///
    /// Of more than `ANSWERED_MAX` those that end first are forgotten.
    pub fn remember(&mut self, key: &Name, mac: &[u8], rcode: Rcode, end: u64, now: u64) {
        if rcode == Rcode::SERVFAIL {
            return;
        }
        let signature = Signature::new(key, mac);
        if let Some((_, end)) = self.by_mac.insert(signature.clone(), (rcode, end)) {
            self.by_end.remove(&(end, signature.clone()));
        }
        self.by_end.insert((end, signature));
        while self.by_end.first().is_some_and(|(end, _)| *end < now || self.by_end.len() > ANSWERED_MAX) {
            if let Some((_, signature)) = self.by_end.pop_first() {
                self.by_mac.remove(&signature);
            }
        }
    }
}

impl Signature {
    fn new(key: &Name, mac: &[u8]) -> Self {
        Self { key: key.as_wire().into(), mac: mac.into() }
    }
}

/// A hundred updates a second for as long as signatures usually hold, ten minutes: some 20 MiB.
const ANSWERED_MAX: usize = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Name {
        Name::parse(text, &Name::root()).expect("a name")
    }

    #[test]
    fn copy_is_answered_alike_as_long_as_its_signature_holds() {
        let mut answered = Answered::default();
        answered.remember(&key("k"), b"mac", Rcode::NOERROR, 1300, 1000);
        answered.remember(&key("k"), b"other", Rcode::REFUSED, 1300, 1000);
        let recall = |key_name: &str, mac: &[u8], now| answered.recall(&key(key_name), mac, now);
        assert_eq!(recall("k", b"mac", 1000), Some(Rcode::NOERROR));
        assert_eq!(recall("k", b"mac", 1300), Some(Rcode::NOERROR));
        assert_eq!(recall("k", b"mac", 1301), None);
        assert_eq!(recall("k", b"other", 1000), Some(Rcode::REFUSED));
        assert_eq!((recall("k", b"third", 1000), recall("l", b"mac", 1000)), (None, None));
    }

    #[test]
    fn what_could_not_be_done_is_tried_again() {
        let mut answered = Answered::default();
        answered.remember(&key("k"), b"mac", Rcode::SERVFAIL, 1300, 1000);
        assert_eq!(answered.recall(&key("k"), b"mac", 1000), None);
    }

    #[test]
    fn table_keeps_no_more_than_it_may_and_nothing_that_has_ended() {
        let mut answered = Answered::default();
        for at in 0..ANSWERED_MAX as u64 + 5 {
            answered.remember(&key("k"), &at.to_be_bytes(), Rcode::NOERROR, 2000 + at, 1000);
        }
        assert_eq!((answered.by_mac.len(), answered.by_end.len()), (ANSWERED_MAX, ANSWERED_MAX));
        assert_eq!(answered.recall(&key("k"), &4_u64.to_be_bytes(), 1000), None);
        assert_eq!(answered.recall(&key("k"), &5_u64.to_be_bytes(), 1000), Some(Rcode::NOERROR));
        let late = 3_000_000;
        answered.remember(&key("k"), b"last", Rcode::NOERROR, late, late);
        assert_eq!((answered.by_mac.len(), answered.by_end.len()), (1, 1));
    }
}
