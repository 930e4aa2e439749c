//! The steps that compile [`super::GeoTables`]: sweep all sources, class what they say, make blocks of it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use foldhash::fast::FixedState;
use ipnet::IpNet;
use shared::failover::{Order, rank};
use shared::topology::{Clients, Policy, Steering, Topology};

use super::GeoData;
use super::coded::{Coded, CodedRuns};
use super::nested::prefixes;
use super::numbering::Numbering;
use super::partition::{Bits, Runs};
use super::room;

/// The values of the four sources at one address: record, autonomous system, override line, longest network of a rule.
pub(super) type Values = [u32; 4];

/// Calls `emit` with the start of every run in which no source changes, in order.
pub(super) fn sweep<A: Bits>(sources: [&Coded<A>; 4], mut emit: impl FnMut(A, Values)) {
    let mut streams = sources.map(|runs| runs.iter().peekable());
    let mut values = Values::default();
    while let Some(at) = streams.iter_mut().filter_map(|runs| runs.peek().map(|&(start, _)| start)).min() {
        for (value, runs) in values.iter_mut().zip(&mut streams) {
            if let Some((_, next)) = runs.next_if(|&(start, _)| start == at) {
                *value = next;
            }
        }
        emit(at, values);
    }
}

/// Runs of whole blocks of prefix length `len`: a block with several values counts to the one with the most addresses,
/// of equal ones to the lowest.
pub(super) fn coarsen<A: Bits, R: Runs<A>>(runs: &R, len: u8) -> R {
    let host_len = A::LEN - len;
    let mut coarse = R::default();
    let mut tally = Tally { block: A::ZERO, counts: Vec::new() };
    let mut ahead = runs.iter().peekable();
    while let Some((first, value)) = ahead.next() {
        let last = ahead.peek().and_then(|&(next, _)| next.before()).unwrap_or(A::ZERO.ceil(A::LEN));
        let (first_block, last_block) = (first.floor(host_len), last.floor(host_len));
        tally.count(&mut coarse, first_block, value, first.count_to(last.min(first.ceil(host_len))));
        if first_block == last_block {
            continue;
        }
        if let Some(second) = first.ceil(host_len).after().filter(|&second| second < last_block) {
            tally.flush(&mut coarse);
            coarse.push(second, value);
        }
        tally.count(&mut coarse, last_block, value, last_block.count_to(last));
    }
    tally.flush(&mut coarse);
    coarse
}

/// Who has how many addresses of one block.
struct Tally<A> {
    block: A,
    counts: Vec<(u32, u128)>,
}

impl<A: Bits> Tally<A> {
    fn count<R: Runs<A>>(&mut self, coarse: &mut R, block: A, value: u32, addresses: u128) {
        if block != self.block {
            self.flush(coarse);
            self.block = block;
        }
        match self.counts.iter_mut().find(|(counted, _)| *counted == value) {
            Some((_, count)) => *count += addresses,
            None => self.counts.push((value, addresses)),
        }
    }

    fn flush<R: Runs<A>>(&mut self, coarse: &mut R) {
        let most = self.counts.drain(..).max_by_key(|&(value, count)| (count, std::cmp::Reverse(value)));
        if let Some((value, _)) = most {
            coarse.push(self.block, value);
        }
    }
}

/// Gives each address the number of its class: the orders of the regions, one for each steering.
pub(super) struct Classifier<'a> {
    data: &'a GeoData,
    topology: &'a Topology,
    asns: Asns,
    /// Classes of values met, [`UNRANKED`] where they are not: by record where there is nothing else, for speed …
    by_record: Vec<u32>,
    /// … and by the numbers of all values elsewhere.
    by_values: Vec<u32>,
    values: Numbering<Values>,
    /// At each steering the order that everybody has; none where places or networks matter.
    fixed: Vec<Option<u32>>,
    classes: HashMap<Box<[u32]>, u32, FixedState>,
    orders: HashMap<Order, u32, FixedState>,
}

impl<'a> Classifier<'a> {
    pub(super) fn new(data: &'a GeoData, topology: &'a Topology) -> Self {
        Self {
            data,
            topology,
            asns: Asns::of(topology),
            by_record: room::filled(data.database.places.len(), UNRANKED),
            by_values: Vec::new(),
            values: Numbering::default(),
            fixed: vec![None; topology.steerings.len()],
            classes: HashMap::default(),
            orders: HashMap::default(),
        }
    }

    /// The class of the addresses in a run that starts at `address`, where the sources have `values`.
    pub(super) fn class(&mut self, address: IpAddr, values: Values) -> u32 {
        let [record, asn, line, network] = values;
        let values = [record, self.asns.representative(asn), line, network];
        let (classes, at) = match values {
            [record, 0, 0, 0] => (&mut self.by_record, record as usize),
            _ => (&mut self.by_values, self.values.number(values) as usize),
        };
        match classes.get(at) {
            Some(&known) if known != UNRANKED => return known,
            Some(_) => {}
            None => room::push(classes, UNRANKED),
        }
        let class = self.rank(address, values);
        let classes = if values[1..] == [0; 3] { &mut self.by_record } else { &mut self.by_values };
        classes[at] = class;
        class
    }

    /// The distinct orders, and for each class the positions of its orders in them.
    pub(super) fn into_orders(self) -> (Box<[Order]>, Box<[u32]>) {
        let mut orders: Vec<(Order, u32)> = self.orders.into_iter().collect();
        orders.sort_unstable_by_key(|&(_, id)| id);
        let mut classes: Vec<(Box<[u32]>, u32)> = self.classes.into_iter().collect();
        classes.sort_unstable_by_key(|&(_, id)| id);
        (orders.into_iter().map(|(order, _)| order).collect(), classes.into_iter().flat_map(|(ids, _)| ids).collect())
    }

    fn rank(&mut self, address: IpAddr, [record, asn, line, _]: Values) -> u32 {
        let place = self.data.combine(record, asn, line);
        let (topology, orders) = (self.topology, &mut self.orders);
        let mut order_id = |(steering, fixed): (&Steering, &mut Option<u32>)| {
            if let Some(id) = *fixed {
                return id;
            }
            let next = orders.len() as u32;
            // Addresses of one run are in the same networks of rules, so one of them stands for all.
            let id = *orders.entry(rank(topology, steering, &place, address).order()).or_insert(next);
            *fixed = is_alike_everywhere(steering).then_some(id);
            id
        };
        let ids: Box<[u32]> = topology.steerings.iter().zip(&mut self.fixed).map(&mut order_id).collect();
        let next = self.classes.len() as u32;
        *self.classes.entry(ids).or_insert(next)
    }
}

/// Whether neither distance nor a rule tells clients apart.
fn is_alike_everywhere(steering: &Steering) -> bool {
    steering.policy != Policy::Nearest && steering.prefer.is_empty() && steering.keep_within.is_empty()
}

/// Stands for no class.
const UNRANKED: u32 = u32::MAX;

/// The autonomous systems that rules tell apart.
struct Asns {
    named: HashSet<u32>,
    /// Stands for all that are in no rule.
    other: u32,
}

impl Asns {
    fn of(topology: &Topology) -> Self {
        let named: HashSet<u32> = clients(topology).flat_map(|clients| &clients.asns).copied().collect();
        let other = (1..=u32::MAX).find(|asn| !named.contains(asn)).unwrap_or(u32::MAX);
        Self { named, other }
    }

    /// A system that every rule treats as it treats `asn`; 0 stays 0, for where none is known.
    fn representative(&self, asn: u32) -> u32 {
        if asn == 0 || self.named.contains(&asn) { asn } else { self.other }
    }
}

/// Whether some rule of `topology` is for autonomous systems.
pub(super) fn uses_asns(topology: &Topology) -> bool {
    clients(topology).any(|clients| !clients.asns.is_empty())
}

/// Runs of equal longest networks of all rules of `topology`: addresses in one are in the same networks.
pub(super) fn rule_networks(topology: &Topology) -> CodedRuns {
    let networks: HashSet<IpNet> = clients(topology).flat_map(|clients| &clients.networks).map(IpNet::trunc).collect();
    prefixes(networks.into_iter().zip(1..))
}

fn clients(topology: &Topology) -> impl Iterator<Item = &Clients> {
    topology.steerings.iter().flat_map(|steering| {
        let fences = steering.keep_within.iter().map(|fence| &fence.rule);
        steering.prefer.iter().chain(fences).map(|rule| &rule.clients)
    })
}
