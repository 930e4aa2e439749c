//! What one of our tables shall hold, and the text that makes the kernel hold it.

use std::collections::BTreeSet;

use super::{Kind, Object, TABLE, TableFamily};

/// The content of one table, in the order of the text.
#[derive(Debug)]
pub(super) struct Draft {
    family: TableFamily,
    counters: BTreeSet<String>,
    /// Names with sizes.
    maps: Vec<(String, u32)>,
    chains: Vec<Chain>,
}

#[derive(Debug)]
struct Chain {
    name: String,
    /// Where packets come into it; `None`: from other chains.
    hook: Option<String>,
    rules: Vec<String>,
}

impl Draft {
    /// A table of nothing.
    pub(super) fn new(family: TableFamily) -> Self {
        Self { family, counters: BTreeSet::new(), maps: Vec::new(), chains: Vec::new() }
    }

    /// Has a counter; what it has counted already stays.
    pub(super) fn counter(&mut self, name: String) {
        self.counters.insert(name);
    }

    /// Has a map of flows; what is in it stays. `name` ends with `size`, since the kernel changes no map's size.
    pub(super) fn flows(&mut self, name: String, size: u32) {
        self.maps.push((name, size));
    }

    /// Has a chain that others lead to.
    pub(super) fn chain(&mut self, name: String, rules: Vec<String>) {
        self.chains.push(Chain { name, hook: None, rules });
    }

    /// Has `rule` in the chain `name`, into which packets come at `hook`.
    pub(super) fn hooked(&mut self, name: &str, hook: &str, rule: String) {
        match self.chains.iter_mut().find(|chain| chain.name == name) {
            Some(chain) => chain.rules.push(rule),
            None => {
                self.chains.push(Chain { name: name.to_owned(), hook: Some(hook.to_owned()), rules: vec![rule] });
            }
        }
    }

    /// Has the kernel put parts of datagrams together before they come to any chain, as it does wherever a rule could hand
    /// packets to a socket, though nothing ever comes to that rule.
    pub(super) fn defragmented(&mut self) {
        let name = "unused.defrag";
        if !self.has(name) {
            self.chain(name.to_owned(), vec!["meta l4proto udp tproxy to :1".to_owned()]);
        }
    }

    /// Whether it has a chain of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.chains.iter().any(|chain| chain.name == name)
    }

    /// Whether there is no chain in it.
    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// All that has a name in it.
    pub(super) fn objects(&self) -> impl Iterator<Item = Object> + '_ {
        let object = |kind, name: &String| Object { table: self.family, kind, name: name.clone() };
        let chains = self.chains.iter().map(move |chain| object(Kind::Chain, &chain.name));
        let maps = self.maps.iter().map(move |(name, _)| object(Kind::Map, name));
        chains.chain(maps).chain(self.counters.iter().map(move |name| object(Kind::Counter, name)))
    }

    /// The part of a transaction that makes the table hold this and, of `present`, nothing else.
    ///
    /// Whatever is deleted is added first, so that it makes no difference whether it is still there.
    pub(super) fn text(&self, present: &BTreeSet<Object>) -> String {
        let family = self.family;
        if self.is_empty() {
            return removal(family);
        }
        let kept: BTreeSet<Object> = self.objects().collect();
        let gone = present.iter().filter(|object| object.table == family && !kept.contains(object));
        let gone: String = gone.map(deletion).collect();
        let counters: String = self.counters.iter().map(|name| format!("\tcounter {name} {{ }}\n")).collect();
        let maps: String = self.maps.iter().map(|(name, size)| format!("\tmap {name} {}\n", map(*size))).collect();
        // The kernel must know a chain before a rule leads to it, and the one that leads to all comes last.
        let heads: String = self.chains.iter().map(Chain::head).collect();
        let chains: String = self.chains.iter().map(Chain::body).collect();
        format!(
            "add table {family} {TABLE}\nflush table {family} {TABLE}\n{gone}\
             table {family} {TABLE} {{\n{counters}{maps}{heads}}}\ntable {family} {TABLE} {{\n{chains}}}\n"
        )
    }
}

impl Chain {
    fn head(&self) -> String {
        match &self.hook {
            Some(hook) => format!("\tchain {} {{ type {hook}; policy accept; }}\n", self.name),
            None => format!("\tchain {} {{ }}\n", self.name),
        }
    }

    fn body(&self) -> String {
        let rules: String = self.rules.iter().map(|rule| format!("\t\t{rule}\n")).collect();
        format!("\tchain {} {{\n{rules}\t}}\n", self.name)
    }
}

/// The text that removes our table of `family`, if there is one.
pub(super) fn removal(family: TableFamily) -> String {
    format!("add table {family} {TABLE}\ndelete table {family} {TABLE}\n")
}

fn deletion(object: &Object) -> String {
    let (kind, form) = match object.kind {
        Kind::Chain => ("chain", String::new()),
        Kind::Counter => ("counter", String::new()),
        Kind::Map => ("map", object.map_size().map(|size| format!(" {}", map(size))).unwrap_or_default()),
    };
    let what = format!("{kind} {} {TABLE} {}", object.table, object.name);
    format!("add {what}{form}\ndelete {what}\n")
}

/// A map from the hash of a flow to the number of its server.
///
/// Its key is of the type of `numgen`, to which a hash may be compared: of maps of the type of `jhash` the listing of nft
/// 1.0.6 dies, and so do its updates of maps with keys of more than 16 octets, as IPv6 addresses and ports are.
fn map(size: u32) -> String {
    format!("{{ typeof numgen inc mod 4294967295 : meta mark; size {size}; flags dynamic,timeout; }}")
}
