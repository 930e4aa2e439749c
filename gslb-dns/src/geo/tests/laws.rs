//! What holds for every address of every world.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use proptest::prelude::*;
use shared::failover::rank;
use shared::place::{ClientBlock, Country};
use shared::topology::{Policy, SteeringId, Topology};

use super::world::{World, ip, map, mmdb, net, source, steering, topology, worlds};
use crate::geo::{ClassId, Depth, GeoData, GeoSources, GeoTables, Leaf, Origin};

const DEPTHS: [Depth; 2] = [Depth::Resolver, Depth::Subnet];

fn network_of(address: IpAddr, leaf: Leaf) -> IpNet {
    IpNet::new(address.to_canonical(), leaf.prefix_len).expect("length").trunc()
}

fn assert_ranked_alike(world: &World, data: &GeoData, tables: &GeoTables, class: ClassId, at: IpAddr) {
    let place = data.place(at).place;
    for (id, steering) in world.topology.steerings.iter().enumerate() {
        let order = tables.order(class, SteeringId(id as u32));
        assert_eq!(order, &rank(&world.topology, steering, &place, at).order(), "{at} is at {place:?}");
    }
}

/// Whether one of `cuts` that lies in `within` has another class at `depth` than `class`.
fn has_other_class(tables: &GeoTables, cuts: &[IpAddr], within: IpNet, depth: Depth, class: ClassId) -> bool {
    let mut inside = cuts.iter().copied().chain([within.network()]).filter(|cut| within.contains(cut));
    inside.any(|cut| tables.locate(cut, depth).class != class)
}

/// The first addresses of the blocks in which the `cuts` are, and of the blocks that follow.
fn block_cuts(cuts: &[IpAddr]) -> Vec<IpAddr> {
    let starts = cuts.iter().flat_map(|&cut| {
        let len = if cut.is_ipv4() { ClientBlock::V4_LEN } else { ClientBlock::V6_LEN };
        let block = IpNet::new(cut, len).expect("length").trunc();
        let next = match block.broadcast() {
            IpAddr::V4(last) => u32::from(last).checked_add(1).map(|next| Ipv4Addr::from(next).into()),
            IpAddr::V6(last) => u128::from(last).checked_add(1).map(|next| std::net::Ipv6Addr::from(next).into()),
        };
        [Some(block.network()), next]
    });
    starts.flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn table_orders_regions_as_the_place_ranks_them(world in worlds()) {
        let (data, tables) = (world.data(), world.tables());
        for at in world.cuts() {
            assert_ranked_alike(&world, &data, &tables, tables.locate(at, Depth::Resolver).class, at);
        }
    }

    #[test]
    fn witness_is_in_the_leaf_and_block_and_ranks_as_the_leaf_says(world in worlds()) {
        let (data, tables) = (world.data(), world.tables());
        for (at, depth) in world.cuts().into_iter().flat_map(|at| DEPTHS.map(|depth| (at, depth))) {
            let (leaf, witness) = (tables.locate(at, depth), tables.witness(at, depth));
            prop_assert!(network_of(at, leaf).contains(&witness));
            prop_assert_eq!(ClientBlock::of(witness), ClientBlock::of(at));
            assert_ranked_alike(&world, &data, &tables, leaf.class, witness);
            prop_assert!(witness == at || tables.locate(at, Depth::Resolver).class != leaf.class);
        }
    }

    #[test]
    fn leaf_is_the_leaf_of_every_address_in_it(world in worlds()) {
        let (tables, cuts) = (world.tables(), world.cuts());
        for (&at, depth) in cuts.iter().flat_map(|at| DEPTHS.map(|depth| (at, depth))) {
            let leaf = tables.locate(at, depth);
            let network = network_of(at, leaf);
            let ends = [network.network(), network.broadcast()];
            for inside in cuts.iter().copied().chain(ends).filter(|cut| network.contains(cut)) {
                prop_assert_eq!(tables.locate(inside, depth), leaf, "{} and {}", at, inside);
            }
        }
    }

    #[test]
    fn leaf_is_as_large_as_it_can_be(world in worlds()) {
        let (tables, cuts) = (world.tables(), world.cuts());
        let block_cuts = block_cuts(&cuts);
        for (depth, cuts) in [(Depth::Resolver, &cuts), (Depth::Subnet, &block_cuts)] {
            for &at in cuts {
                let leaf = tables.locate(at, depth);
                let Some(larger) = network_of(at, leaf).supernet() else { continue };
                prop_assert!(has_other_class(&tables, cuts, larger, depth, leaf.class), "{} in {}", at, larger);
            }
        }
    }

    #[test]
    fn subnet_leaf_is_never_smaller_than_a_block(world in worlds()) {
        let tables = world.tables();
        for at in world.cuts() {
            let len_max = if at.is_ipv4() { ClientBlock::V4_LEN } else { ClientBlock::V6_LEN };
            prop_assert!(tables.locate(at, Depth::Subnet).prefix_len <= len_max);
        }
    }

    #[test]
    fn block_counts_to_the_class_of_most_of_its_addresses(world in worlds()) {
        let tables = world.tables();
        for at in world.cuts() {
            let IpAddr::V4(v4) = at else { continue };
            let block = Ipv4Net::new(v4, ClientBlock::V4_LEN).expect("length").trunc();
            let mut counts: BTreeMap<ClassId, u32> = BTreeMap::new();
            let first = u32::from(block.network());
            for address in first..=first + 255 {
                *counts.entry(tables.locate(Ipv4Addr::from(address).into(), Depth::Resolver).class).or_default() += 1;
            }
            let most = counts.into_iter().max_by_key(|&(class, count)| (count, Reverse(class)));
            prop_assert_eq!(Some(tables.locate(at, Depth::Subnet).class), most.map(|(class, _)| class));
        }
    }

    #[test]
    fn longest_override_wins_over_the_longest_record(world in worlds()) {
        let data = world.data();
        for at in world.cuts() {
            let holds = |network: &IpNet| network.contains(&at);
            let longest_override = world.overrides.iter().enumerate().filter(|(_, (network, _))| holds(network));
            let line = longest_override.max_by_key(|(_, (network, _))| network.prefix_len()).map(|(line, _)| line + 1);
            let is_recorded = world.records.iter().any(|(network, _)| holds(network));
            let expected = match line {
                Some(line) => Origin::Override { line },
                None if is_recorded => Origin::Database,
                None => Origin::Nothing,
            };
            let found = data.place(at);
            prop_assert_eq!(found.from, expected);
            let asns = world.asns.iter().filter(|(network, _)| holds(network));
            prop_assert_eq!(found.place.asn, asns.max_by_key(|(network, _)| network.prefix_len()).map(|&(_, asn)| asn));
        }
    }

    #[test]
    fn place_holds_for_its_whole_network(world in worlds()) {
        let (data, cuts) = (world.data(), world.cuts());
        for &at in &cuts {
            let found = data.place(at);
            for inside in cuts.iter().filter(|cut| found.network.contains(*cut)) {
                prop_assert_eq!(data.place(*inside).place, found.place);
            }
        }
    }

    #[test]
    fn uniform_steering_has_one_order(world in worlds()) {
        let tables = world.tables();
        for steering in (0..world.topology.steerings.len() as u32).map(SteeringId) {
            let order = |at: &IpAddr| tables.order(tables.locate(*at, Depth::Resolver).class, steering);
            let cuts = world.cuts();
            let is_one = cuts.iter().all(|at| order(at) == order(&cuts[0]));
            prop_assert_eq!(tables.is_uniform(steering), is_one);
        }
    }
}

fn nearest() -> Topology {
    topology(vec![steering(Policy::Nearest, Vec::new(), Vec::new())])
}

fn korea_in(network: &str) -> GeoData {
    let overrides = format!("{network},KR,,,,36,128\n");
    GeoData::parse(GeoSources { overrides: source(overrides.as_bytes()), ..GeoSources::default() }).expect("sound")
}

#[test]
fn without_sources_everybody_is_alike() {
    let tables = GeoTables::build(&GeoData::default(), &nearest());
    assert!(tables.is_uniform(SteeringId(0)));
    for at in [ip("192.0.2.1"), ip("2001:db8::1"), ip("255.255.255.255")] {
        assert_eq!(tables.locate(at, Depth::Subnet).prefix_len, 0);
    }
}

#[test]
fn mapped_address_is_the_ipv4_address() {
    let (data, topology) = (korea_in("192.0.2.0/24"), nearest());
    let tables = GeoTables::build(&data, &topology);
    let (mapped, plain) = (ip("::ffff:192.0.2.7"), ip("192.0.2.7"));
    assert_eq!(tables.locate(mapped, Depth::Resolver), tables.locate(plain, Depth::Resolver));
    assert_eq!(data.place(mapped), data.place(plain));
    assert_eq!(data.place(mapped).network, net("192.0.2.0/24"));
    assert_eq!(tables.witness(mapped, Depth::Subnet), plain);
}

#[test]
fn ends_of_the_address_space_have_their_leaves() {
    for (network, inside, outside) in [
        ("0.0.0.0/8", "0.0.0.0", "1.0.0.0"),
        ("255.255.255.255/32", "255.255.255.255", "255.255.255.254"),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff::"),
        ("::/128", "::", "::1"),
    ] {
        let tables = GeoTables::build(&korea_in(network), &nearest());
        let leaf = tables.locate(ip(inside), Depth::Resolver);
        assert_eq!(network_of(ip(inside), leaf), net(network));
        assert_ne!(tables.locate(ip(outside), Depth::Resolver).class, leaf.class);
    }
}

#[test]
fn neighbours_of_one_order_share_a_leaf() {
    let overrides = "192.0.2.0/25,KR,,,,36,128\n192.0.2.128/25,JP,,,,36,138\n";
    let sources = GeoSources { overrides: source(overrides.as_bytes()), ..GeoSources::default() };
    let tables = GeoTables::build(&GeoData::parse(sources).expect("sound"), &nearest());
    assert_eq!(tables.locate(ip("192.0.2.1"), Depth::Resolver).prefix_len, 24);
}

#[test]
fn aliases_of_ipv4_are_not_read() {
    let networks = [(net("192.0.2.0/24"), map([("country_code", "KR".into())])), (net("2002::/16"), map([]))];
    let mut database = mmdb(&networks);
    let ipv4 = node_at(&database, &[false; 96]);
    let bits: Vec<bool> = (0..16).map(|bit| 0x2002 >> (15 - bit) & 1 == 1).collect();
    let parent = node_at(&database, &bits[..15]);
    let record = parent * 6 + usize::from(bits[15]) * 3;
    database[record..record + 3].copy_from_slice(&(ipv4 as u32).to_be_bytes()[1..]);
    let data = GeoData::parse(GeoSources { database: source(&database), ..GeoSources::default() }).expect("sound");
    assert_eq!(data.place(ip("192.0.2.1")).place.country, Country::parse("KR"));
    assert_eq!(data.place(ip("2002:c000:0201::1")).from, Origin::Nothing);
}

/// The node of a tree of 24-bit records to which `bits` lead.
fn node_at(database: &[u8], bits: &[bool]) -> usize {
    bits.iter().fold(0, |node, &bit| {
        let record = node * 6 + usize::from(bit) * 3;
        database[record..record + 3].iter().fold(0, |value, &byte| value << 8 | usize::from(byte))
    })
}
