//! All zones in one table.

use shared::name::OwnerName;
use shared::problem::Problem;
use shared::topology::Topology;

use super::compile::{BelowCut, Compiled, Compiler, Dname, Kind, Node};
use super::overlay::{Overlay, deepest, lay_over, problem_of_alpn, problems_of};
use super::rdata::suffixes;
use super::steered::{Offer, SteeredName};
use super::tail::{Chain, Tail};
use super::{Map, Zone};
use crate::wire::{Name, Rtype, is_at_or_below, label_count, parent};

/// All zones with the steered names laid over them, ready to answer: immutable.
#[derive(Debug)]
pub struct ZoneSet {
    /// Names in lower case, and positions of their nodes.
    table: Map<Box<[u8]>, u32>,
    nodes: Vec<Node>,
    zones: Vec<ServedZone>,
    steered: Vec<SteeredName>,
    /// Labels of the deepest name, so that deeper ones are not looked up.
    labels_max: usize,
}

#[derive(Debug)]
struct ServedZone {
    apex: Name,
    serial: u32,
    content_hash: u64,
    nodata: Tail,
    nxdomain: Tail,
    /// The answer to DS at the apex, when the parent zone is served here too.
    parent_side: Option<Tail>,
}

/// What is known about a question.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// The name lies in no zone.
    Outside,
    /// The answer is the same for everybody.
    Static(&'a Tail),
    /// The answer depends on who asks.
    Steered {
        /// The steered name.
        steered: &'a SteeredName,
        /// What of it is asked.
        offer: Offer,
        /// The CNAMEs that lead to it from the name asked.
        chain: Option<&'a Chain>,
        /// The answer when nobody serves it.
        empty: &'a Tail,
    },
    /// The name lies below a DNAME.
    Redirected(&'a Dname),
}

impl ZoneSet {
    /// Puts `zones` together and lays the services of `topology` over them.
    ///
    /// Each service must lie in a zone, not at or below a delegation, and its name must have no A, AAAA, HTTPS or CNAME
    /// records of its own. A zone must not hold what lies in another one, but for the delegation to it. Fails with every
    /// mistake; where no zone file is to blame, [`Problem::file`] is empty and its key is in the settings.
    pub fn build(zones: Vec<Zone>, topology: &Topology) -> Result<Self, Vec<Problem>> {
        let mut zones = zones;
        let mut found = Self::check(&zones, topology.services.iter().map(|service| &service.name));
        found.extend(topology.services.iter().filter_map(problem_of_alpn));
        if !found.is_empty() {
            return Err(found);
        }
        let overlay = lay_over(&mut zones, topology);
        Ok(Self::compile(&zones, overlay))
    }

    /// What does not go together between `zones`, of which some may not be whole, and the steered names `services`.
    pub fn check<'a>(zones: &[Zone], services: impl IntoIterator<Item = &'a OwnerName>) -> Vec<Problem> {
        let mut found = duplicates(zones);
        found.extend(hidden(zones));
        found.extend(services.into_iter().flat_map(|service| problems_of(service, zones)));
        found
    }

    /// The names of the zones and their serials.
    pub fn zones(&self) -> impl Iterator<Item = (&Name, u32)> {
        self.zones.iter().map(|zone| (&zone.apex, zone.serial))
    }

    /// The serial of the zone `apex`, in lower case, and a hash of all that its file says, for comparing within this
    /// process.
    pub(super) fn version_of(&self, apex: &Name) -> Option<(u32, u64)> {
        let zone = self.zones.iter().find(|zone| zone.apex == *apex)?;
        Some((zone.serial, zone.content_hash))
    }

    /// How many steered names there are: as many as the topology has services.
    pub fn steered_count(&self) -> usize {
        self.steered.len()
    }

    /// Finds the answer for `qname`, in lower case, and `qtype`.
    pub fn find(&self, qname: &[u8], qtype: Rtype) -> Found<'_> {
        let surplus = label_count(qname).saturating_sub(self.labels_max);
        let mut names = suffixes(qname).skip(surplus);
        let Some((name, node)) = names.find_map(|name| Some((name, self.node(*self.table.get(name)?)))) else {
            return Found::Outside;
        };
        match (&node.kind, name.len() == qname.len()) {
            (Kind::Cut, is_exact) => self.at_cut(node, qtype, is_exact && qname.len() == usize::from(node.owner_len)),
            (_, true) => self.at(node, qtype, name),
            (Kind::Dname(dname), false) => Found::Redirected(dname),
            (Kind::Plain, false) => match node.wildcard {
                Some(wildcard) => self.at(self.node(wildcard), qtype, &[]),
                None => Found::Static(&self.zones[node.zone as usize].nxdomain),
            },
        }
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    fn at_cut<'a>(&'a self, node: &'a Node, qtype: Rtype, is_owner: bool) -> Found<'a> {
        let ds = node.answers.first().filter(|_| is_owner && qtype == Rtype::DS).map(|(_, tail)| tail);
        Found::Static(ds.or(node.otherwise.as_deref()).unwrap_or(&self.zones[node.zone as usize].nodata))
    }

    /// The answer of `node`, which `name` is the owner of unless it is a wildcard that stands in.
    fn at<'a>(&'a self, node: &'a Node, qtype: Rtype, name: &[u8]) -> Found<'a> {
        let zone = &self.zones[node.zone as usize];
        let qtype = if qtype == Rtype::ANY { node.any.unwrap_or(qtype) } else { qtype };
        if let Some(found) = self.steered(node, zone, qtype) {
            return found;
        }
        if qtype == Rtype::DS
            && let Some(tail) = zone.parent_side.as_ref().filter(|_| name == zone.apex.as_wire())
        {
            return Found::Static(tail);
        }
        let answer = node.answers.iter().find(|(rtype, _)| *rtype == qtype).map(|(_, tail)| tail);
        Found::Static(answer.or(node.otherwise.as_deref()).unwrap_or(&zone.nodata))
    }

    fn steered<'a>(&'a self, node: &'a Node, zone: &'a ServedZone, qtype: Rtype) -> Option<Found<'a>> {
        let steered_node = node.steered.as_ref()?;
        let steered = &self.steered[steered_node.steered as usize];
        let offer = Offer::of(qtype).filter(|&offer| steered.offers(offer))?;
        let (chain, empty) = match &steered_node.chain {
            Some((chain, empty)) => (Some(chain), empty),
            None => (None, &zone.nodata),
        };
        Some(Found::Steered { steered, offer, chain, empty })
    }

    fn compile(zones: &[Zone], overlay: Overlay) -> Self {
        let Overlay { steered, names } = overlay;
        let compiler = |at: usize| Compiler {
            zone: &zones[at],
            index: at as u32,
            children: children_of(zones, at),
            names: &names[at],
            steered: &steered,
        };
        let mut set =
            Self { table: Map::default(), nodes: Vec::new(), zones: Vec::new(), steered: Vec::new(), labels_max: 0 };
        for (at, zone) in zones.iter().enumerate() {
            let Compiled { nodes, below_cuts, nodata, nxdomain } = compiler(at).compile();
            set.add_nodes(nodes, below_cuts);
            let apex = zone.apex.as_wire();
            let above = parent(apex).and_then(|above| deepest(zones, above));
            let parent_side = above.map(|above| compiler(above).parent_side(apex));
            set.zones.push(ServedZone {
                apex: zone.apex.clone(),
                serial: zone.serial(),
                content_hash: zone.content_hash(),
                nodata,
                nxdomain,
                parent_side,
            });
        }
        set.labels_max = set.table.keys().map(|name| label_count(name)).max().unwrap_or(0);
        set.steered = steered;
        set
    }

    fn add_nodes(&mut self, nodes: Vec<(Box<[u8]>, Node)>, below_cuts: Vec<BelowCut>) {
        self.table.reserve(nodes.len() + below_cuts.len());
        let mut wildcards = Vec::new();
        for (owner, node) in nodes {
            let at = self.nodes.len() as u32;
            if super::is_wildcard(&owner) {
                wildcards.push((owner[2..].to_vec(), at));
            }
            self.nodes.push(node);
            self.table.insert(owner, at);
        }
        for (above, wildcard) in wildcards {
            if let Some(&at) = self.table.get(&*above) {
                self.nodes[at as usize].wildcard = Some(wildcard);
            }
        }
        for BelowCut { name, cut } in below_cuts {
            if let Some(&at) = self.table.get(&cut) {
                self.table.insert(name, at);
            }
        }
    }
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
                found.push(Problem { file: zone.file.clone(), line: Some(rrset.line()), key, what });
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
