//! Random queries for a world: sound ones, odd ones, and ones that were damaged on the way.

use std::net::IpAddr;

use fastrand::Rng;
use hickory_proto::rr::{Name, RecordType};

use super::world::{World, random_v4, random_v6};
use super::zones::{label, name, owner, wire};

/// A query and who sends it.
#[derive(Clone, Debug)]
pub struct Query {
    /// The address of the resolver.
    pub peer: IpAddr,
    /// The octets.
    pub packet: Vec<u8>,
}

impl Query {
    /// A query whose name lies in `world` or near it.
    pub fn random(rng: &mut Rng, world: &World) -> Self {
        let peer = match rng.u8(0..8) {
            0..3 => random_v6(rng),
            3 => mapped(random_v4(rng)),
            _ => random_v4(rng),
        };
        let mut packet = sound(rng, world);
        if rng.u8(0..24) == 0 {
            damage(rng, &mut packet);
        }
        Self { peer, packet }
    }
}

fn mapped(address: IpAddr) -> IpAddr {
    if let IpAddr::V4(v4) = address { v4.to_ipv6_mapped().into() } else { address }
}

fn sound(rng: &mut Rng, world: &World) -> Vec<u8> {
    let opcode = if rng.u8(0..40) == 0 { rng.u16(0..16) << 11 } else { 0 };
    let response = if rng.u8(0..100) == 0 { 0x8000 } else { 0 };
    let flags = if rng.u8(0..8) == 0 { rng.u16(..) & 0x07FF } else { rng.u16(0..2) << 8 };
    let mut packet = Vec::new();
    push(&mut packet, &[rng.u16(..), opcode | response | flags, 1, 0, 0, 0]);
    let (name, rtype) = random_question(rng, world);
    let mut qname = wire(&name);
    // Length octets are below 64, so they are no letters.
    qname.iter_mut().filter(|octet| octet.is_ascii_lowercase() && rng.u8(0..4) == 0).for_each(u8::make_ascii_uppercase);
    packet.extend(qname);
    let class = if rng.u8(0..40) == 0 { *rng.choice(&[0, 3, 254, 255]).unwrap_or(&3) } else { 1 };
    push(&mut packet, &[rtype, class]);
    if rng.u8(0..3) > 0 {
        packet[11] += 1;
        add_opt(rng, &mut packet);
    }
    if rng.u8(0..30) == 0 {
        add_odd_record(rng, &mut packet);
    }
    packet
}

/// A name in a zone or near it, and half of the time a type of which something may stand there.
fn random_question(rng: &mut Rng, world: &World) -> (Name, u16) {
    let zone = &world.zones[rng.usize(..world.zones.len())];
    let record = &zone.records[rng.usize(..zone.records.len())];
    let is_likely = rng.bool();
    let (base, likely) = match rng.u8(0..16) {
        0 => (name(["test.", "example.", ".", "out.example.", "zz.test."][rng.usize(..5)]), 2),
        1..4 => (owner(rng, &zone.apex), 1),
        4..8 if !zone.services.is_empty() => {
            (zone.services[rng.usize(..zone.services.len())].0.clone(), [1, 28, 65, 16, 5][rng.usize(..5)])
        }
        // Whoever asks for an alias asks for what is behind it.
        _ if record.record_type() == RecordType::CNAME => (record.name.clone(), [1, 1, 28, 65, 43][rng.usize(..5)]),
        _ if u16::from(record.record_type()) == DNAME => {
            let count = *rng.choice(&[1, 1, 1, 2, 40, 126]).unwrap_or(&1);
            (extended(rng, &record.name, count), 1)
        }
        _ => (record.name.clone(), record.record_type().into()),
    };
    let name = match rng.u8(0..8) {
        0 => base.base_name(),
        1 => extended(rng, &base, 1),
        2 => {
            let count = *rng.choice(&[1, 2, 2, 3, 60, 126]).unwrap_or(&2);
            extended(rng, &base, count)
        }
        // What a wildcard stands for.
        3..6 if base.is_wildcard() => extended(rng, &base.base_name(), 1),
        _ => base,
    };
    (name, if is_likely { likely } else { random_type(rng) })
}

/// `base` with up to `count` labels before it.
fn extended(rng: &mut Rng, base: &Name, count: usize) -> Name {
    (0..count).fold(base.clone(), |name, _| {
        let label = label(rng);
        Name::from_labels(std::iter::once(label).chain(name.iter())).unwrap_or(name)
    })
}

fn random_type(rng: &mut Rng) -> u16 {
    let usual = [1, 1, 1, 1, 28, 28, 65, 65, 2, 5, 6, 12, 15, 16, 33, 39, 43, 255, 64, 65_280];
    let odd = [0, 41, 46, 47, 48, 59, 249, 250, 251, 252, 253, 254, 257, 32_769, 65_535];
    match rng.u8(0..20) {
        0 => odd[rng.usize(..odd.len())],
        1 => rng.u16(..),
        _ => usual[rng.usize(..usual.len())],
    }
}

fn add_opt(rng: &mut Rng, packet: &mut Vec<u8>) {
    let payload = match rng.u8(0..4) {
        0 => rng.u16(..),
        1 => rng.u16(500..1400),
        _ => [0, 511, 512, 513, 1231, 1232, 1233, 4096, 65_535][rng.usize(..9)],
    };
    let version = if rng.u8(0..24) == 0 { rng.u16(0..256) } else { 0 };
    let flags = if rng.u8(0..8) == 0 { rng.u16(..) } else { rng.u16(0..2) << 15 };
    let extended_rcode = if rng.u8(0..24) == 0 { rng.u16(0..256) << 8 } else { 0 };
    let mut options = Vec::new();
    for _ in 0..*rng.choice(&[0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2]).unwrap_or(&1) {
        add_option(rng, &mut options);
    }
    packet.push(0);
    push(packet, &[41, payload, extended_rcode | version, flags, options.len() as u16]);
    packet.extend(options);
}

fn add_option(rng: &mut Rng, options: &mut Vec<u8>) {
    let (code, data) = match rng.u8(0..24) {
        0 => (
            *rng.choice(&[3, 9, 10, 11, 12, 15, 19, 19, 65_001]).unwrap_or(&3),
            (0..rng.usize(0..20)).map(|_| rng.u8(..)).collect(),
        ),
        1 => (8, (0..rng.usize(0..12)).map(|_| rng.u8(0..3)).collect()),
        2 => (8, [&[0, 0, 0, 0][..], &[0, 1, 0, 0], &[0, 2, 0, 0]][rng.usize(..3)].to_vec()),
        3..10 => (8, subnet(rng, random_v6)),
        _ => (8, subnet(rng, random_v4)),
    };
    push(options, &[code, data.len() as u16]);
    options.extend(data);
}

/// The data of a sound client subnet option (RFC 7871, section 6), but for a scope or a bit too many now and then.
fn subnet(rng: &mut Rng, address: fn(&mut Rng) -> IpAddr) -> Vec<u8> {
    let address = address(rng);
    let (family, bits, usual) = if address.is_ipv4() { (1, 32, 24) } else { (2, 128, 56) };
    let len = if rng.bool() { usual } else { rng.u8(0..=bits) };
    let network = ipnet::IpNet::new(address, len).map_or(address, |network| network.trunc().addr());
    let mut octets = match network {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    octets.truncate(usize::from(len).div_ceil(8));
    let mut data = [&[0, family, len, 0], &octets[..]].concat();
    if rng.u8(0..32) == 0 {
        let at = rng.usize(..data.len());
        data[at] ^= 1 << rng.u8(0..8);
    }
    data
}

/// Adds a record that is seldom seen in a query, or that must not be there, to one of the sections.
fn add_odd_record(rng: &mut Rng, packet: &mut Vec<u8>) {
    let section = *rng.choice(&[7, 9, 11, 11, 11]).unwrap_or(&11);
    packet[section] += 1;
    match rng.u8(0..4) {
        0 => packet.extend([0xC0, 12]),
        1 => packet.extend([1, b'a', 0xC0, 12]),
        _ => packet.push(0),
    }
    let data: Vec<u8> = (0..rng.usize(0..8)).map(|_| rng.u8(..)).collect();
    let rtype = [1, 16, 41, 250, 250][rng.usize(..5)];
    push(packet, &[rtype, *rng.choice(&[1, 255, 1232]).unwrap_or(&1), 0, 0, data.len() as u16]);
    packet.extend(data);
}

fn damage(rng: &mut Rng, packet: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..4) {
        match rng.u8(0..5) {
            0 => packet.truncate(rng.usize(..=packet.len())),
            1 => packet.extend((0..rng.usize(1..5)).map(|_| rng.u8(..))),
            _ if packet.is_empty() => {}
            2 => {
                let at = rng.usize(..packet.len());
                packet[at] = rng.u8(..);
            }
            3 => {
                let at = rng.usize(..packet.len().min(12));
                packet[at] = rng.u8(0..3);
            }
            _ => {
                let at = rng.usize(..packet.len());
                packet[at] ^= 1 << rng.u8(0..8);
            }
        }
    }
}

fn push(octets: &mut Vec<u8>, words: &[u16]) {
    octets.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

const DNAME: u16 = 39;
