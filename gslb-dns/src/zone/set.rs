//! All zones in one table.

use std::borrow::Borrow;

use shared::problem::Problem;
use shared::topology::{Service, ServiceOutline, Topology};

use super::compile::{Compiler, Drafted, Kind};
use super::node::{ArenaBuilder, Dname, Node};
use super::overlay::{Overlay, deepest, lay_over, leading_to_aliases, problem_of_alpn, problems_of};
use super::signed::{self, Signed, SignedSet, SignedSteered, Signing};
use super::steered::{Offer, SteeredName};
use super::table::Table;
use super::tail::{Chain, Tail};
use super::{Content, Zone};
use crate::wire::{Name, Rtype, is_at_or_below, label_count, parent};

/// All zones with the steered names laid over them, ready to answer: immutable.
#[derive(Debug)]
pub struct ZoneSet {
    /// Names in lower case, and where their nodes lie in the arena.
    table: Table,
    /// Nodes and tails.
    arena: Box<[u8]>,
    zones: Vec<ServedZone>,
    steered: Vec<SteeredName>,
    /// The same zones once more, when one of them is signed.
    signed: Option<Box<SignedSet>>,
}

#[derive(Debug)]
struct ServedZone {
    apex: Name,
    serial: u32,
    content_hash: u64,
    /// Where its answers lie in the arena.
    nodata: u32,
    nxdomain: u32,
    /// The answer to DS at the apex, when the parent zone is served here too.
    parent_side: Option<u32>,
}

/// What is known about a question.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// The name lies in no zone.
    Outside,
    /// The answer is the same for everybody.
    Static(Tail<'a>),
    /// The answer depends on who asks.
    Steered {
        /// The steered name.
        steered: &'a SteeredName,
        /// What of it is asked.
        offer: Offer,
        /// The CNAMEs that lead to it from the name asked.
        chain: Option<Chain<'a>>,
        /// The answer when nobody serves it.
        empty: Tail<'a>,
    },
    /// The name lies below a DNAME.
    Redirected(Dname<'a>),
}

/// What is known about a question of who asks for signatures.
#[derive(Clone, Copy, Debug)]
pub enum FoundSigned<'a> {
    /// The zone is not signed, or there is none: what [`ZoneSet::find`] gives holds.
    Unsigned,
    /// The answer is the same for everybody.
    Static(Signed<'a>),
    /// The answer depends on who asks.
    Steered {
        /// The steered name.
        steered: &'a SteeredName,
        /// What of it is asked.
        offer: Offer,
        /// Its signatures, and what leads to it from the name asked.
        signed: SignedSteered<'a>,
    },
    /// The name lies below a DNAME.
    Redirected(Dname<'a>),
}

impl ZoneSet {
    /// Puts `zones` together and lays the services of `topology` over them.
    ///
    /// Each service must lie in a zone, not at or below a delegation, and its name must have no A, AAAA, HTTPS or CNAME
    /// records of its own, no TXT where the service gives them, and nothing at all where it gives CNAMEs. A zone must not
    /// hold what lies in another one, but for the delegation to it. Fails with every mistake; where no zone file is to blame,
    /// [`Problem::file`] is empty and its key is in the settings.
    pub fn build(zones: Vec<Zone>, topology: &Topology) -> Result<Self, Vec<Problem>> {
        Self::build_signed(zones.into_iter().map(|zone| (zone, None)).collect(), topology)
    }

    /// The same with some of the zones signed: their DNSKEY records, and whatever else the keys need, must be in them.
    ///
    /// A zone that is signed must have no RRSIG, NSEC, NSEC3 and NSEC3PARAM records of its own.
    pub fn build_signed(zones: Vec<(Zone, Option<Signing>)>, topology: &Topology) -> Result<Self, Vec<Problem>> {
        let (mut zones, signings): (Vec<_>, Vec<_>) = zones.into_iter().unzip();
        let outlines: Vec<ServiceOutline> = topology.services.iter().map(Service::outline).collect();
        let mut found = Self::check(&zones, &outlines);
        found.extend(topology.services.iter().filter_map(problem_of_alpn));
        let signed_zones = zones.iter().zip(&signings).filter(|(_, signing)| signing.is_some());
        found.extend(signed_zones.flat_map(|(zone, _)| signed::problems_of(zone)));
        if !found.is_empty() {
            return Err(found);
        }
        let overlay = lay_over(&mut zones, topology);
        signed::prepare(&mut zones, &signings);
        Self::compile(&zones, &signings, overlay, topology, ArenaBuilder::ROOM_MAX).map_err(|problem| vec![problem])
    }

    /// What does not go together between `zones`, of which some may not be whole, and the steered names `services`.
    pub fn check(zones: &[Zone], services: &[ServiceOutline]) -> Vec<Problem> {
        let mut found = duplicates(zones);
        found.extend(hidden(zones));
        found.extend(services.iter().flat_map(|service| problems_of(service, zones)));
        found.extend(leading_to_aliases(services, zones));
        found
    }

    /// The names of the zones and their serials.
    pub fn zones(&self) -> impl Iterator<Item = (&Name, u32)> {
        self.zones.iter().map(|zone| (&zone.apex, zone.serial))
    }

    /// Where the zone `apex`, in lower case, stands among those that it was built of.
    pub fn position_of(&self, apex: &Name) -> Option<usize> {
        self.zones.iter().position(|zone| zone.apex == *apex)
    }

    /// The serial of the zone `apex`, in lower case, and a hash of all that its file says, for comparing within this
    /// process.
    pub(super) fn version_of(&self, apex: &Name) -> Option<(u32, u64)> {
        let zone = self.zones.iter().find(|zone| zone.apex == *apex)?;
        Some((zone.serial, zone.content_hash))
    }

    /// The zone that answers for `qname`, in lower case, and `qtype`: the labels of its name and its serial.
    pub fn version_for(&self, qname: &[u8], qtype: Rtype) -> Option<(usize, u32)> {
        let is_at = |at, name: &[u8]| Node::at(&self.arena, at).name() == name;
        let zone = self.zone(Node::at(&self.arena, self.table.closest(qname, is_at)?.at));
        let apex = zone.apex.as_wire();
        match parent(apex).filter(|_| qtype == Rtype::DS && qname == apex && zone.parent_side.is_some()) {
            Some(above) => self.version_for(above, Rtype::SOA),
            None => Some((label_count(apex), zone.serial)),
        }
    }

    /// How many steered names there are: as many as the topology has services.
    pub fn steered_count(&self) -> usize {
        self.steered.len()
    }

    /// Finds the answer for `qname`, in lower case, and `qtype`.
    pub fn find(&self, qname: &[u8], qtype: Rtype) -> Found<'_> {
        let is_at = |at, name: &[u8]| Node::at(&self.arena, at).name() == name;
        let Some(closest) = self.table.closest(qname, is_at) else { return Found::Outside };
        let node = Node::at(&self.arena, closest.at);
        let is_exact = closest.len == qname.len();
        match (node.kind(), is_exact) {
            (Kind::Cut, _) => self.at_cut(node, qtype, is_exact),
            (Kind::BelowCut, _) => self.at_cut(node.link().unwrap_or(node), qtype, false),
            (_, true) => self.at(node, qtype, qname),
            (Kind::Dname, false) if let Some(dname) = node.dname() => Found::Redirected(dname),
            (Kind::Plain | Kind::Dname, false) => match node.link() {
                Some(wildcard) => self.at(wildcard, qtype, &[]),
                None => Found::Static(self.tail(self.zone(node).nxdomain)),
            },
        }
    }

    /// Whether a zone is signed.
    pub fn is_signed(&self) -> bool {
        self.signed.is_some()
    }

    /// What secondaries get of each signed zone that is transferred, by position, and of others `None`; there may be fewer
    /// than zones. It is given once.
    pub fn take_contents(&mut self) -> Vec<Option<Content>> {
        self.signed.as_mut().map(|signed| signed.take_contents()).unwrap_or_default()
    }

    /// Finds the answer with signatures for `qname`, in lower case, and `qtype`.
    pub fn find_signed(&self, qname: &[u8], qtype: Rtype) -> FoundSigned<'_> {
        let signed = self.signed.as_ref().and_then(|signed| signed.find(&self.steered, qname, qtype));
        signed.unwrap_or(FoundSigned::Unsigned)
    }

    fn tail(&self, at: u32) -> Tail<'_> {
        Tail::at(&self.arena[at as usize..])
    }

    fn zone(&self, node: Node<'_>) -> &ServedZone {
        &self.zones[node.zone()]
    }

    fn at_cut<'a>(&'a self, node: Node<'a>, qtype: Rtype, is_owner: bool) -> Found<'a> {
        let ds = if is_owner && qtype == Rtype::DS { node.answer(Rtype::DS) } else { None };
        Found::Static(ds.or_else(|| node.otherwise()).unwrap_or_else(|| self.tail(self.zone(node).nodata)))
    }

    /// The answer of `node`, which `name` is the owner of unless it is a wildcard that stands in.
    fn at<'a>(&'a self, node: Node<'a>, qtype: Rtype, name: &[u8]) -> Found<'a> {
        let qtype = if qtype == Rtype::ANY { node.any().unwrap_or(qtype) } else { qtype };
        if let Some(found) = self.steered(node, qtype) {
            return found;
        }
        if qtype == Rtype::DS {
            let zone = self.zone(node);
            if let Some(tail) = zone.parent_side.filter(|_| name == zone.apex.as_wire()) {
                return Found::Static(self.tail(tail));
            }
        }
        let answer = node.answer(qtype).or_else(|| node.otherwise());
        Found::Static(answer.unwrap_or_else(|| self.tail(self.zone(node).nodata)))
    }

    fn steered<'a>(&'a self, node: Node<'a>, qtype: Rtype) -> Option<Found<'a>> {
        let part = node.steered()?;
        let steered = &self.steered[part.steered];
        let offer = steered.offer(qtype)?;
        // Who asks for CNAME at a name that leads here asks for no more than that one.
        if offer == Offer::Cname && qtype == Rtype::CNAME && part.chain.is_some() {
            return None;
        }
        let (chain, empty) = match part.chain {
            Some((chain, empty)) => (Some(chain), empty),
            None => (None, self.tail(self.zone(node).nodata)),
        };
        Some(Found::Steered { steered, offer, chain, empty })
    }

    /// Fails where the answers take more than `room` octets.
    fn compile(
        zones: &[Zone],
        signings: &[Option<Signing>],
        overlay: Overlay,
        topology: &Topology,
        room: u32,
    ) -> Result<Self, Problem> {
        let Overlay { steered, names } = overlay;
        let compilers: Vec<Compiler<'_>> = (0..zones.len())
            .map(|at| Compiler {
                zone: &zones[at],
                children: children_of(zones, at),
                names: &names[at],
                steered: &steered,
            })
            .collect();
        let mut table = Table::new(zones.iter().map(|zone| zone.nodes.len()).sum());
        let mut arena = ArenaBuilder::new(room);
        let mut served = Vec::with_capacity(zones.len());
        for (at, own) in compilers.iter().enumerate() {
            add_zone(own, at as u32, &mut table, &mut arena).map_err(|TooLarge| too_large(own.zone))?;
            let apex = own.zone.apex.as_wire();
            let above = above(zones, at).map(|above| compilers[above].parent_side(apex));
            served.push(ServedZone {
                apex: own.zone.apex.clone(),
                serial: own.zone.serial(),
                content_hash: own.zone.content_hash(),
                nodata: arena.tail(&own.nodata()),
                nxdomain: arena.tail(&own.nxdomain()),
                parent_side: above.map(|answer| arena.tail(&answer)),
            });
            if arena.is_overfull() {
                return Err(too_large(own.zone));
            }
        }
        let is_signed = signings.iter().any(Option::is_some);
        let signed = is_signed.then(|| compile_signed(&compilers, signings, topology)).transpose()?;
        Ok(Self { table, arena: arena.finish(), zones: served, signed: signed.map(Box::new), steered })
    }
}

/// Compiles all zones once more, those that are signed with their signatures.
fn compile_signed(
    compilers: &[Compiler<'_>],
    signings: &[Option<Signing>],
    topology: &Topology,
) -> Result<SignedSet, Problem> {
    let zones: Vec<&Zone> = compilers.iter().map(|compiler| compiler.zone).collect();
    let above: Vec<Option<usize>> = (0..zones.len()).map(|at| above(&zones, at)).collect();
    let steered_count = compilers.first().map_or(0, |compiler| compiler.steered.len());
    let names_max = zones.iter().map(|zone| zone.nodes.len()).sum();
    let mut builder = signed::Builder::new(names_max, steered_count);
    for (at, (compiler, signing)) in compilers.iter().zip(signings).enumerate() {
        let Some(signing) = signing else {
            builder.add_unsigned(compiler.zone.apex.as_wire());
            continue;
        };
        let below = (0..zones.len()).filter(|&below| above[below] == Some(at));
        let children: Vec<&Zone> = below.map(|below| zones[below]).collect();
        builder.add(compiler, &children, signing, topology);
        if builder.is_overfull() {
            return Err(too_large(compiler.zone));
        }
    }
    Ok(builder.finish(|at| above[at].is_some_and(|above| signings[above].is_none())))
}

/// The arena has no more room.
struct TooLarge;

/// Adds every name of one zone, that at position `zone`.
fn add_zone(compiler: &Compiler<'_>, zone: u32, table: &mut Table, arena: &mut ArenaBuilder) -> Result<(), TooLarge> {
    let (mut wildcards, mut below_cuts) = (Vec::new(), Vec::new());
    for (owner, drafted) in compiler.drafts() {
        match drafted {
            Drafted::BelowCut(cut) => below_cuts.push((owner, cut)),
            Drafted::Node(draft) => {
                let at = arena.node(owner, zone, &draft);
                table.insert(owner, at);
                wildcards.extend(parent(owner).filter(|_| super::is_wildcard(owner)).map(|above| (above, at)));
            }
        }
        if arena.is_overfull() {
            return Err(TooLarge);
        }
    }
    for (name, cut) in below_cuts {
        if let Some(cut) = position(table, arena, cut) {
            let at = arena.below_cut(name, zone, cut);
            table.insert(name, at);
        }
    }
    for (above, wildcard) in wildcards {
        if let Some(above) = position(table, arena, above) {
            arena.link(above, wildcard);
        }
    }
    if arena.is_overfull() { Err(TooLarge) } else { Ok(()) }
}

fn position(table: &Table, arena: &ArenaBuilder, name: &[u8]) -> Option<u32> {
    table.position(name, |at, name| Node::at(arena.octets(), at).name() == name)
}

fn too_large(zone: &Zone) -> Problem {
    let what = "all answers up to this zone take more than 4 GiB: expected fewer records on one node";
    Problem { file: zone.file.clone(), line: None, key: zone.apex.to_string(), what: what.to_owned() }
}

/// The zone in which the name of `zones[at]` lies.
fn above<Z: Borrow<Zone>>(zones: &[Z], at: usize) -> Option<usize> {
    deepest(zones, parent(zones[at].borrow().apex.as_wire())?)
}

/// Names of the other zones below `zones[at]`.
fn children_of(zones: &[Zone], at: usize) -> Vec<&[u8]> {
    let apex = zones[at].apex.as_wire();
    let apexes = zones.iter().map(|zone| zone.apex.as_wire());
    apexes.filter(|child| child.len() > apex.len() && is_at_or_below(child, apex)).collect()
}

/// Records that another zone hides: they would never be served.
fn hidden(zones: &[Zone]) -> Vec<Problem> {
    let mut found = Vec::new();
    // In one that is not whole a delegation may be missing.
    for (at, zone) in zones.iter().enumerate().filter(|(_, zone)| zone.is_whole) {
        for child in children_of(zones, at) {
            let below = zone.nodes.iter().filter(|(owner, _)| is_at_or_below(owner, child));
            // What stands at or below a delegation is checked already.
            let undelegated = below.filter(|(owner, _)| zone.cut_of(owner).is_none());
            for (owner, rrset) in undelegated.flat_map(|(owner, node)| node.iter().map(move |rrset| (owner, rrset))) {
                let child = Name::from_wire(child);
                let what =
                    format!("{} belongs into the zone {child}, which is served here too: move it there", rrset.rtype);
                let key = Name::from_wire(owner).to_string();
                found.push(Problem { file: zone.file.clone(), line: rrset.line(), key, what });
            }
        }
    }
    // The tables give them in an order that differs from process to process.
    found.sort_by(|a, b| (&a.file, a.line, &a.what).cmp(&(&b.file, b.line, &b.what)));
    found
}

fn duplicates(zones: &[Zone]) -> Vec<Problem> {
    let mut found = Vec::new();
    for (at, zone) in zones.iter().enumerate() {
        if let Some(first) = zones[..at].iter().find(|first| first.apex == zone.apex) {
            let what = format!("the zone is given twice, {} has it too: expected one file for each zone", first.file);
            found.push(Problem { file: zone.file.clone(), line: None, key: zone.apex.to_string(), what });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use shared::name::OwnerName;

    use super::*;

    #[test]
    fn answers_that_do_not_fit_are_refused_down_to_the_last_octet() {
        let text = "$TTL 60\n@ SOA ns1 admin 1 7200 1800 1209600 60\n@ NS ns1\nns1 A 192.0.2.53\n";
        let apex = OwnerName::parse("example.com").expect("a name");
        let compile = |room| {
            let zone = Zone::parse(&apex, "example.com.zone", text).expect("no mistakes");
            let names = vec![Default::default()];
            ZoneSet::compile(&[zone], &[None], Overlay { steered: Vec::new(), names }, &Topology::default(), room)
        };
        let len = compile(ArenaBuilder::ROOM_MAX).expect("there is room").arena.len() as u32;
        assert!(compile(len).is_ok());
        // What comes last are the zone's answers that there is nothing.
        for room in 0..len {
            let problem = compile(room).expect_err("too large");
            assert_eq!((problem.file.as_str(), problem.key.as_str()), ("example.com.zone", "example.com."));
        }
    }
}
