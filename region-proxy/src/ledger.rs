//! Which word about a server counts, where operators speak to several proxies: the last, by the stamp that each word gets.
//!
//! Stamps follow the time of day, but never go back: what is said after another word was heard is later than that, whatever
//! the clocks say. Of words that were said at the same time that of the proxy counts whose name comes last: so all proxies
//! come to the same, in whatever order words reach them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::name::{OwnerName, ProxyName, ServerName};

use crate::changes::Change;

/// When a word was said, and to whom: no two words have the same.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Milliseconds since 1970, or one more than those of a word before.
    pub at: u64,
    /// The proxy whose operator said it.
    pub by: ProxyName,
}

impl Stamp {
    /// Whether it is from before a time that no clock shows: words after it can still be told from it.
    pub fn is_sound(&self) -> bool {
        self.at < AT_MAX
    }
}

/// All that is to be known of one server of a service: the whole of what is changed of it; nothing: it is as in the settings.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// The service.
    pub service: OwnerName,
    /// The server.
    pub server: ServerName,
    /// When it was said.
    pub stamp: Stamp,
    /// What is changed.
    pub change: Change,
}

/// The stamps of the words that count, those among them that took changes back.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Ledger(BTreeMap<OwnerName, BTreeMap<ServerName, Stamp>>);

impl Ledger {
    /// Whether nothing was ever said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The servers of which something was said, by service and name.
    pub fn iter(&self) -> impl Iterator<Item = (&OwnerName, &ServerName, &Stamp)> {
        let services = self.0.iter();
        services.flat_map(|(service, servers)| servers.iter().map(move |(server, stamp)| (service, server, stamp)))
    }

    /// The stamp of the word about a server that counts.
    pub fn of(&self, service: &OwnerName, server: &ServerName) -> Option<&Stamp> {
        self.0.get(service)?.get(server)
    }

    /// Whether a word with `stamp` counts rather than what was said before; not where it is the same word.
    pub fn is_news(&self, service: &OwnerName, server: &ServerName, stamp: &Stamp) -> bool {
        self.of(service, server).is_none_or(|ours| ours < stamp)
    }

    /// Enters what an operator says to the proxy `by` at `now`, in milliseconds since 1970.
    pub fn say(&mut self, service: &OwnerName, server: &ServerName, by: &ProxyName, now: u64) {
        let last = self.iter().map(|(_, _, stamp)| stamp.at).max().unwrap_or_default();
        let stamp = Stamp { at: now.max(last + 1).min(AT_MAX), by: by.clone() };
        self.enter(service, server, stamp);
    }

    /// Enters a word with this stamp.
    pub fn enter(&mut self, service: &OwnerName, server: &ServerName, stamp: Stamp) {
        self.0.entry(service.clone()).or_default().insert(server.clone(), stamp);
    }

    /// Forgets that something was said of a server: any word about it will be news.
    pub fn forget(&mut self, service: &OwnerName, server: &ServerName) {
        if let Some(servers) = self.0.get_mut(service) {
            servers.remove(server);
            if servers.is_empty() {
                self.0.remove(service);
            }
        }
    }

    /// Forgets the oldest of the words that changed nothing for good, where there are too many; `changes` is whether
    /// something of a server is changed.
    pub fn prune(&mut self, changes: impl Fn(&OwnerName, &ServerName) -> bool) {
        let over = self.0.values().map(BTreeMap::len).sum::<usize>().saturating_sub(WORDS_MAX);
        if over == 0 {
            return;
        }
        let idle = self.iter().filter(|(service, server, _)| !changes(service, server));
        let mut idle: Vec<_> =
            idle.map(|(service, server, stamp)| (stamp.at, service.clone(), server.clone())).collect();
        idle.sort_unstable();
        for (_, service, server) in idle.into_iter().take(over) {
            self.forget(&service, &server);
        }
    }
}

/// Words that are remembered; above it those that took something back go first.
const WORDS_MAX: usize = 16_384;

/// Some time in the year 36812.
const AT_MAX: u64 = 1 << 50;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service() -> OwnerName {
        OwnerName::parse("www.gslb.test").expect("a name")
    }

    fn server(name: &str) -> ServerName {
        ServerName::parse(name).expect("a name")
    }

    fn proxy(name: &str) -> ProxyName {
        ProxyName::parse(name).expect("a name")
    }

    #[test]
    fn what_is_said_later_counts_even_where_the_clock_went_back() {
        let mut ledger = Ledger::default();
        ledger.say(&service(), &server("app-1"), &proxy("a"), 1000);
        ledger.say(&service(), &server("app-2"), &proxy("a"), 10);
        let of = |name| ledger.of(&service(), &server(name)).map(|stamp| stamp.at);
        assert_eq!((of("app-1"), of("app-2")), (Some(1000), Some(1001)));
        assert!(
            !ledger.is_news(&service(), &server("app-1"), &Stamp { at: 1000, by: proxy("a") }),
            "it is the same word"
        );
        assert!(ledger.is_news(&service(), &server("app-1"), &Stamp { at: 1000, by: proxy("b") }));
        assert!(ledger.is_news(&service(), &server("app-3"), &Stamp { at: 0, by: proxy("a") }));
    }

    #[test]
    fn a_clock_that_is_far_ahead_leaves_stamps_sound_or_tells_that_they_are_not() {
        let mut ledger = Ledger::default();
        ledger.say(&service(), &server("app-1"), &proxy("a"), u64::MAX);
        ledger.say(&service(), &server("app-1"), &proxy("a"), 1);
        assert!(ledger.iter().all(|(_, _, stamp)| !stamp.is_sound()));
    }

    #[test]
    fn the_oldest_words_that_took_something_back_make_room() {
        let mut ledger = Ledger::default();
        for number in 0..WORDS_MAX + 10 {
            ledger.say(&service(), &server(&format!("app-{number}")), &proxy("a"), 0);
        }
        ledger.prune(|_, name| name.as_str() == "app-3");
        assert_eq!(ledger.iter().count(), WORDS_MAX);
        assert!(
            ledger.of(&service(), &server("app-3")).is_some() && ledger.of(&service(), &server("app-10")).is_none()
        );
        assert!(ledger.of(&service(), &server("app-11")).is_some());
    }

    proptest! {
        #[test]
        fn proxies_come_to_the_same_in_whatever_order_they_hear(
            words in proptest::collection::vec((0..3_usize, 0..50_u64, 0..2_usize), 1..20),
            order in any::<proptest::sample::Index>(),
        ) {
            let words: Vec<_> = words.into_iter().map(|(name, at, by)| {
                (server(&format!("app-{name}")), Stamp { at, by: proxy(["a", "b"][by]) })
            }).collect();
            let hear = |words: &[(ServerName, Stamp)]| {
                let mut ledger = Ledger::default();
                for (name, stamp) in words {
                    if ledger.is_news(&service(), name, stamp) {
                        ledger.enter(&service(), name, stamp.clone());
                    }
                }
                ledger
            };
            let mut other = words.clone();
            other.rotate_left(order.index(words.len()));
            other.reverse();
            prop_assert_eq!(hear(&words), hear(&other));
        }
    }
}
