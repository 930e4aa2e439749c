//! Zones: read from master files, checked, and compiled together with the steered names into ready-made answers.
//!
//! ```text
//! text ─► entries ─► records ─► Zone (checked) ─┐
//!         entry      master     check           ├─► ZoneSet ─► find(qname, qtype) ─► Found
//! Topology (steered names) ─────────────────────┘   compile, compose, node, tail, table
//! ```
//! Zones that are signed are compiled once more, for those who ask for signatures: see `signed`.

mod check;
mod compile;
mod compose;
mod content;
mod delegation;
mod edit;
mod entry;
mod master;
mod node;
mod octets;
#[cfg(test)]
mod oracle;
mod overlay;
mod print;
mod rdata;
mod received;
mod set;
mod signed;
mod steered;
mod table;
mod tail;
#[cfg(test)]
mod tests;
mod warn;

use std::hash::BuildHasher as _;
use std::sync::Arc;

use shared::name::OwnerName;
use shared::problem::{Problem, Problems};

use crate::wire::{Name, Rtype, parent};

#[cfg(test)]
pub(crate) use compile::CHAIN_MAX;
pub use content::{Content, ContentRecord, Records};
pub use edit::ZoneRecord;
pub(crate) use master::{TTL_MAX, is_meta};
pub use node::Dname;
pub use overlay::add_steered_names;
pub use print::MasterFile;
pub(crate) use rdata::parse_type;
pub use received::rdata_of_message;
pub use set::{Found, FoundSigned, ZoneSet};
pub use signed::{Denial, Sign, Signed, SignedSteered, Signing};
pub(crate) use steered::{KEY_IPV4HINT, KEY_IPV6HINT};
pub use steered::{Offer, SteeredName};
pub(crate) use tail::POINTED_MAX;
pub use tail::{Chain, NamePlace, Tail};
pub use warn::warnings;

/// One zone as its file gives it, checked.
#[derive(Clone, Debug)]
pub struct Zone {
    /// In lower case.
    apex: Name,
    file: String,
    /// Whether every record of the file could be read.
    is_whole: bool,
    /// By owner name in lower case; empty non-terminals are in it, with no RRset.
    /// Shared with its copies until one of them is changed, so that an update does not copy the zones beside its own.
    nodes: Arc<Nodes>,
}

type Nodes = Map<Box<[u8]>, Vec<Rrset>>;

/// A hash map whose seed differs from process to process.
type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;

/// The records of one owner name and type.
#[derive(Clone, Debug)]
struct Rrset {
    rtype: Rtype,
    ttl: u32,
    /// In the order of the file.
    records: Vec<Record>,
}

/// The data of one record, and where it stands in the file.
#[derive(Clone, Debug)]
struct Record {
    rdata: Rdata,
    place: FilePlace,
}

/// The data of one record, uncompressed, in the case of the file.
#[derive(Clone, Debug)]
enum Rdata {
    /// Most is this short, and an allocation for each would be most of what a zone takes while it is loaded.
    Short {
        len: u8,
        octets: [u8; RDATA_SHORT_MAX],
    },
    Long(Box<[u8]>),
}

/// A place in a master file.
#[derive(Clone, Copy, Debug)]
struct FilePlace {
    line: u32,
    offset: u32,
}

impl FilePlace {
    /// Of records that stand in no file.
    const NOWHERE: Self = Self { line: 0, offset: 0 };

    /// The line, from 1, where there is one.
    fn line(self) -> Option<usize> {
        (self.line > 0).then_some(self.line as usize)
    }
}

impl Rdata {
    fn new(octets: &[u8]) -> Self {
        let mut short = [0; RDATA_SHORT_MAX];
        match short.get_mut(..octets.len()) {
            Some(room) => {
                room.copy_from_slice(octets);
                Self::Short { len: octets.len() as u8, octets: short }
            }
            None => Self::Long(octets.into()),
        }
    }

    fn octets(&self) -> &[u8] {
        match self {
            Self::Short { len, octets } => &octets[..usize::from(*len)],
            Self::Long(octets) => octets,
        }
    }
}

impl Rrset {
    /// The data of its records.
    fn rdatas(&self) -> impl Iterator<Item = &[u8]> {
        self.records.iter().map(|record| record.rdata.octets())
    }

    /// The data of its first record.
    fn first(&self) -> Option<&[u8]> {
        self.rdatas().next()
    }

    /// Where its first record stands.
    fn place(&self) -> Option<&FilePlace> {
        self.records.first().map(|record| &record.place)
    }

    /// The line of its first record, where it stands in a file.
    fn line(&self) -> Option<usize> {
        self.place().and_then(|place| place.line())
    }

    /// The same to say it, as in "line 7 has another".
    fn line_word(&self) -> String {
        self.line().map_or_else(|| "an update".to_owned(), |line| format!("line {line}"))
    }
}

impl Zone {
    /// Reads the master file `text` (RFC 1035, section 5) of the zone `name`; `file` is its name in problems.
    ///
    /// Names without a final dot end in the zone's name until `$ORIGIN` says otherwise. `$INCLUDE` and `$GENERATE` are
    /// refused. Fails with every mistake of syntax, and with every mistake in what the records say together, as far as
    /// they could be read.
    pub fn parse(name: &OwnerName, file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let (zone, problems) = Self::read(name, file, text);
        if problems.is_empty() { Ok(zone) } else { Err(problems) }
    }

    /// The same, and what could be read even when there are mistakes: good for [`ZoneSet::check`] and nothing else.
    pub fn read(name: &OwnerName, file: &str, text: &str) -> (Self, Vec<Problem>) {
        let mut zone = Self::unread(name, file);
        let problems = Problems::new(file, text);
        let apex = zone.apex.clone();
        let mut misfits = 0;
        master::read(&apex, text, &problems, |record| {
            let before = problems.len();
            zone.add_record(record, &problems);
            // What does not fit its set was read all the same.
            misfits += before.abs_diff(problems.len());
        });
        zone.is_whole = problems.len() == misfits;
        check::check(&zone, &problems);
        (zone, problems.into_vec())
    }

    /// A zone whose file could not be read: good for [`ZoneSet::check`] and nothing else.
    pub fn unread(name: &OwnerName, file: &str) -> Self {
        Self { apex: wire_name(name), file: file.to_owned(), is_whole: false, nodes: Arc::default() }
    }

    /// The zone's name, in lower case.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// The serial of its SOA record.
    pub fn serial(&self) -> u32 {
        self.soa_numbers().map_or(0, |&[a, b, c, d, ..]| u32::from_be_bytes([a, b, c, d]))
    }

    /// How long secondaries serve the zone without having heard of it, in seconds (RFC 1035, section 3.3.13).
    pub fn expire(&self) -> u32 {
        self.soa_numbers().map_or(0, |&[.., a, b, c, d, _, _, _, _]| u32::from_be_bytes([a, b, c, d]))
    }

    /// The octets of serial, refresh, retry, expire and minimum.
    fn soa_numbers(&self) -> Option<&[u8; 20]> {
        let soa = self.rrset(self.apex.as_wire(), Rtype::SOA)?;
        soa.first()?.last_chunk()
    }

    /// Adds records of type `rtype` at the apex, which keys have there. Fails when the file has some.
    pub fn add_key_records(&mut self, rtype: Rtype, ttl: u32, rdatas: &[Box<[u8]>]) -> Result<(), Problem> {
        if let Some(rrset) = self.rrset(self.apex.as_wire(), rtype) {
            let what = format!("{rtype} records are made here, for the zone is signed: remove them");
            let (line, key) = (rrset.line(), self.apex.to_string());
            return Err(Problem { file: self.file.clone(), line, key, what });
        }
        let place = FilePlace { line: 0, offset: 0 };
        let records: Vec<_> = rdatas.iter().map(|rdata| Record { rdata: Rdata::new(rdata), place }).collect();
        if let Some(node) = Arc::make_mut(&mut self.nodes).get_mut(self.apex.as_wire()).filter(|_| !records.is_empty())
        {
            node.push(Rrset { rtype, ttl, records });
        }
        Ok(())
    }

    /// How many RRsets it has.
    pub fn rrset_count(&self) -> usize {
        self.nodes.values().map(Vec::len).sum()
    }

    /// The longest TTL of its records; of an empty zone 0.
    pub fn max_ttl(&self) -> u32 {
        self.nodes.values().flatten().map(|rrset| rrset.ttl).max().unwrap_or(0)
    }

    /// A hash of all records, whatever their order in the file; those that keys add do not count.
    fn content_hash(&self) -> u64 {
        let hasher = foldhash::fast::FixedState::default();
        let mut sum = 0_u64;
        for (owner, node) in &*self.nodes {
            let added = [Rtype::DNSKEY, Rtype::CDS, Rtype::CDNSKEY, Rtype::CSYNC, Rtype::NSEC3PARAM];
            for rrset in node.iter().filter(|rrset| !added.contains(&rrset.rtype)) {
                let hash = |rdata| hasher.hash_one((owner, rrset.rtype, rrset.ttl, rdata));
                sum = rrset.rdatas().map(hash).fold(sum, u64::wrapping_add);
            }
        }
        sum
    }

    fn add_record(&mut self, record: master::Record, problems: &Problems) {
        let owner = record.owner.folded();
        self.add_node(owner.as_wire());
        if let Some(node) = self.nodes_mut().get_mut(owner.as_wire()) {
            check::add_record(node, record, problems);
        }
    }

    /// Makes sure that `owner` and all names between it and the apex exist.
    fn add_node(&mut self, owner: &[u8]) {
        let mut owner = owner;
        while !self.nodes.contains_key(owner) {
            self.nodes_mut().insert(owner.into(), Vec::new());
            match parent(owner) {
                Some(above) if owner.len() > self.apex.as_wire().len() => owner = above,
                _ => break,
            }
        }
    }

    fn nodes_mut(&mut self) -> &mut Nodes {
        Arc::make_mut(&mut self.nodes)
    }

    fn rrset(&self, owner: &[u8], rtype: Rtype) -> Option<&Rrset> {
        self.nodes.get(owner)?.iter().find(|rrset| rrset.rtype == rtype)
    }

    /// The delegation at or above `owner`; the topmost, since what is below one is not ours.
    fn cut_of<'a>(&self, owner: &'a [u8]) -> Option<&'a [u8]> {
        self.names_up_to_apex(owner).filter(|name| self.rrset(name, Rtype::NS).is_some()).last()
    }

    /// `owner` and the names above it, the apex left out.
    fn names_up_to_apex<'a>(&self, owner: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let apex_len = self.apex.as_wire().len();
        rdata::suffixes(owner).take_while(move |name| name.len() > apex_len)
    }
}

/// Whether `serial` comes after `than` (RFC 1982, section 3.2); false where that is not defined.
pub fn is_newer(serial: u32, than: u32) -> bool {
    (1..1 << 31).contains(&serial.wrapping_sub(than))
}

/// With its length and the mark that it is short this takes no more than what a longer one takes beside its octets.
const RDATA_SHORT_MAX: usize = 22;

/// The octets of a settings' name.
pub(crate) fn wire_name(name: &OwnerName) -> Name {
    let mut wire = Vec::with_capacity(name.as_str().len() + 2);
    for label in name.labels() {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    Name::from_wire(&wire)
}

/// Whether the first label is `*`.
fn is_wildcard(name: &[u8]) -> bool {
    name.starts_with(b"\x01*")
}
