//! The order of regions for every address, compiled from the places of all networks and the topology.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shared::failover::Order;
use shared::place::ClientBlock;
use shared::topology::{SteeringId, Topology};

use super::GeoData;
use super::coded::CodedRuns;
use super::compile::{Classifier, coarsen, rule_networks, sweep, uses_asns};
use super::partition::{Bits, Partitions, Runs};

/// In which order the regions come, for every address and every steering.
///
/// Addresses whose orders are alike for every steering are of one class. The leaf of an address is the largest prefix
/// around it whose addresses are all of its class, so at one depth leaves never overlap and their length is a true ECS
/// scope (RFC 7871, section 7.2.1).
#[derive(Debug)]
pub struct GeoTables {
    resolver: Partitions,
    subnet: Partitions,
    orders: Box<[Order]>,
    /// Positions in `orders`: one for each steering, class after class.
    order_ids: Box<[u32]>,
    /// At each [`SteeringId`], whether it has one order for everybody.
    uniform: Box<[bool]>,
}

/// Addresses whose orders are alike.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClassId(u32);

/// What the table knows of an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Leaf {
    /// The class of all addresses in the leaf.
    pub class: ClassId,
    /// Length of the prefix that is the leaf, in bits of the address family: of IPv4 for `::ffff:192.0.2.1`.
    pub prefix_len: u8,
}

/// How finely addresses are told apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    /// As finely as the data does: for addresses that asked themselves.
    Resolver,
    /// By /24 and /56 at most: for ECS. A block of several classes counts to the one with the most addresses.
    Subnet,
}

impl GeoTables {
    /// Ranks the regions for every place. Takes about as long as reading the database; see the cost of
    /// [`shared::failover::rank`], which is asked once for each distinct place and steering.
    pub fn build(data: &GeoData, topology: &Topology) -> Self {
        let mut classifier = Classifier::new(data, topology);
        let mut resolver = Partitions::default();
        let (networks, nobody) = (rule_networks(topology), CodedRuns::default());
        let asns = if uses_asns(topology) { &data.asns } else { &nobody };
        let (records, lines) = (&data.database.runs, &data.overrides.runs);
        sweep([&records.v4, &asns.v4, &lines.v4, &networks.v4], |start, values| {
            resolver.v4.push(start, classifier.class(to_v4(start), values));
        });
        sweep([&records.v6, &asns.v6, &lines.v6, &networks.v6], |start, values| {
            resolver.v6.push(start, classifier.class(to_v6(start), values));
        });
        let (orders, order_ids) = classifier.into_orders();
        let mut subnet = Partitions {
            v4: coarsen(&resolver.v4, ClientBlock::V4_LEN),
            v6: coarsen(&resolver.v6, ClientBlock::V6_LEN),
        };
        resolver.index();
        subnet.index();
        let steerings = topology.steerings.len();
        let is_uniform = |steering| {
            let mut of_classes = order_ids.iter().skip(steering).step_by(steerings);
            let first = of_classes.next();
            of_classes.all(|order| Some(order) == first)
        };
        let uniform = (0..steerings).map(is_uniform).collect();
        Self { resolver, subnet, orders, order_ids, uniform }
    }

    /// The leaf of `address`. Allocates nothing. Leaves of IPv6 say nothing of `::ffff:0:0/96`, which is IPv4.
    #[inline]
    pub fn locate(&self, address: IpAddr, depth: Depth) -> Leaf {
        let (class, prefix_len) = self.partitions(depth).locate(address.to_canonical());
        Leaf { class: ClassId(class), prefix_len }
    }

    /// The order of regions for the addresses of `class`. Both ids are of this table and of the topology it is built from.
    #[inline]
    pub fn order(&self, class: ClassId, steering: SteeringId) -> &Order {
        let id = self.order_ids[class.0 as usize * self.uniform.len() + steering.0 as usize];
        &self.orders[id as usize]
    }

    /// Whether `steering` has one order for everybody, so that the scope of its answers is 0.
    #[inline]
    pub fn is_uniform(&self, steering: SteeringId) -> bool {
        self.uniform[steering.0 as usize]
    }

    /// An address in the leaf and the [`ClientBlock`] of `address` whose own place has the order of the leaf: `address`
    /// itself unless its block counts to another class.
    pub fn witness(&self, address: IpAddr, depth: Depth) -> IpAddr {
        let address = address.to_canonical();
        let (class, _) = self.partitions(depth).locate(address);
        if self.resolver.locate(address).0 == class {
            return address;
        }
        let found = match address {
            IpAddr::V4(v4) => find_in_block(&self.resolver.v4, v4.into(), ClientBlock::V4_LEN, class).map(to_v4),
            IpAddr::V6(v6) => find_in_block(&self.resolver.v6, v6.into(), ClientBlock::V6_LEN, class).map(to_v6),
        };
        // A block counts to a class that some of its addresses are of, so there always is one.
        found.unwrap_or(address)
    }

    /// Octets held by the tables.
    pub fn size(&self) -> usize {
        let orders: usize = self.orders.iter().map(|order| size_of_val(order.members()) + size_of::<Order>()).sum();
        self.resolver.size() + self.subnet.size() + self.order_ids.len() * 4 + orders
    }

    #[inline]
    fn partitions(&self, depth: Depth) -> &Partitions {
        match depth {
            Depth::Resolver => &self.resolver,
            Depth::Subnet => &self.subnet,
        }
    }
}

fn find_in_block<A: Bits>(runs: &impl Runs<A>, address: A, block_len: u8, class: u32) -> Option<A> {
    let host_len = A::LEN - block_len;
    runs.find(address.floor(host_len), address.ceil(host_len), class)
}

fn to_v4(address: u32) -> IpAddr {
    Ipv4Addr::from(address).into()
}

fn to_v6(address: u128) -> IpAddr {
    Ipv6Addr::from(address).into()
}
