//! In which order the regions come for an address, and for how large a network around it, by trying every network.

use std::net::IpAddr;

use ipnet::IpNet;
use shared::failover::{Order, rank};
use shared::place::Place;
use shared::topology::{SteeringId, Topology};

/// How finely addresses are told apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    /// Every address by itself.
    Resolver,
    /// By blocks: /24 and /56.
    Subnet,
}

/// Where clients are: networks with places, the longest one that holds an address counts.
///
/// A network finer than a block must be the only one in it, hold less than half of it, and not its first address: so
/// that a block always counts to what holds its first address.
#[derive(Clone, Debug)]
pub struct Places {
    /// For each family and depth: the first address from which on the orders are these, ascending.
    runs: [Vec<Run>; 4],
    uniform: Vec<bool>,
}

#[derive(Clone, Debug)]
struct Run {
    start: u128,
    /// One for each steering.
    orders: Vec<Order>,
}

impl Places {
    /// `networks` and those in the rules of `topology` cut the address space into runs.
    pub fn new(topology: &Topology, networks: &[(IpNet, Place)]) -> Self {
        let rules = topology.steerings.iter().flat_map(|steering| {
            let fences = steering.keep_within.iter().map(|fence| &fence.rule);
            steering.prefer.iter().chain(fences).flat_map(|rule| &rule.clients.networks).copied()
        });
        let cuts: Vec<IpNet> = networks.iter().map(|(network, _)| *network).chain(rules).collect();
        let runs = [(false, Depth::Resolver), (false, Depth::Subnet), (true, Depth::Resolver), (true, Depth::Subnet)]
            .map(|(is_v6, depth)| {
                let is_meant = |network: &&IpNet| {
                    network.addr().is_ipv6() == is_v6
                        && (depth == Depth::Resolver || network.prefix_len() <= block_len(is_v6))
                };
                let mut starts: Vec<u128> = cuts.iter().filter(is_meant).flat_map(|network| edges(*network)).collect();
                starts.push(0);
                starts.sort_unstable();
                starts.dedup();
                // The edge behind the last address of a family is none.
                starts.retain(|&start| is_v6 || start <= u128::from(u32::MAX));
                let orders = |&start: &u128| orders_at(topology, networks, address(start, is_v6));
                starts.iter().map(|start| Run { start: *start, orders: orders(start) }).collect()
            });
        let is_uniform = |steering: usize| {
            let mut orders = runs.iter().flatten().map(|run: &Run| &run.orders[steering]);
            let first = orders.next();
            orders.all(|order| Some(order) == first)
        };
        let uniform = (0..topology.steerings.len()).map(is_uniform).collect();
        Self { runs, uniform }
    }

    /// The order of the regions of `steering` for `address`.
    pub fn order(&self, address: IpAddr, depth: Depth, steering: SteeringId) -> &Order {
        let runs = self.runs(address, depth);
        let at = number(address);
        let run = runs.iter().rev().find(|run| run.start <= at).unwrap_or(&runs[0]);
        &run.orders[steering.0 as usize]
    }

    /// Whether `steering` has one order for everybody.
    pub fn is_uniform(&self, steering: SteeringId) -> bool {
        self.uniform[steering.0 as usize]
    }

    /// The length of the largest prefix around `address` all of whose blocks have the same orders for every steering.
    pub fn leaf_len(&self, address: IpAddr) -> u8 {
        let runs = self.runs(address, Depth::Subnet);
        let block_len = block_len(address.is_ipv6());
        let is_alike = |len: &u8| {
            let Ok(prefix) = IpNet::new(address, *len) else { return false };
            let (first, last) = (number(prefix.network()), number(prefix.broadcast()));
            let before = runs.iter().rposition(|run| run.start <= first).unwrap_or(0);
            let mut inside = runs[before..].iter().take_while(|run| run.start <= last);
            inside.all(|run| run.orders == runs[before].orders)
        };
        (0..block_len).find(is_alike).unwrap_or(block_len)
    }

    fn runs(&self, address: IpAddr, depth: Depth) -> &[Run] {
        &self.runs[usize::from(address.is_ipv6()) * 2 + usize::from(depth == Depth::Subnet)]
    }
}

fn orders_at(topology: &Topology, networks: &[(IpNet, Place)], address: IpAddr) -> Vec<Order> {
    let holding = networks.iter().filter(|(network, _)| network.contains(&address));
    let place = holding.max_by_key(|(network, _)| network.prefix_len()).map(|(_, place)| *place).unwrap_or_default();
    topology.steerings.iter().map(|steering| rank(topology, steering, &place, address).order()).collect()
}

/// The first address of `network`, and the one behind its last.
fn edges(network: IpNet) -> impl Iterator<Item = u128> {
    let behind = number(network.broadcast()).checked_add(1);
    std::iter::once(number(network.network())).chain(behind)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(number: u128, is_v6: bool) -> IpAddr {
    if is_v6 { IpAddr::from(number.to_be_bytes()) } else { IpAddr::from((number as u32).to_be_bytes()) }
}

fn block_len(is_v6: bool) -> u8 {
    if is_v6 { 56 } else { 24 }
}
