//! Answers that depend on who asks.

use std::net::IpAddr;

use ipnet::IpNet;
use shared::failover::{Decision, decide};
use shared::place::ClientBlock;
use shared::topology::{MemberSet, ServiceId};

use super::{Answered, Decided, Peer, Snapshot};
use crate::geo::{Depth, Leaf};
use crate::limit::Account;
use crate::wire::{Query, Rcode, Reply, Rtype};
use crate::zone::{Chain, NamePlace, Offer, SteeredName, Tail};

/// A query for a steered name.
pub(super) struct Asked<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) peer: &'a Peer,
    pub(super) query: &'a Query,
    /// The name asked for, or the one that it was redirected to.
    pub(super) name: NamePlace,
    pub(super) steered: &'a SteeredName,
    pub(super) offer: Offer,
}

/// Who is taken for the client.
#[derive(Clone, Copy)]
struct Client {
    address: IpAddr,
    depth: Depth,
}

impl Asked<'_> {
    /// Answers by the region that is decided for the client.
    pub(super) fn answer(&self, chain: Option<Chain<'_>>, empty: Tail<'_>, reply: &mut Reply<'_>) -> Answered {
        let client = self.client();
        let leaf = self.snapshot.geo.locate(client.address, client.depth);
        let decision = self.decide(client, leaf);
        let scope_len = self.scope_len(client, leaf, &decision);
        let topology = &self.snapshot.view.topology;
        let service = self.steered.service;
        let region = decision.first.map(|first| topology.steering(topology.service(service)).member(first).region);
        let decided = Decided { service, region, is_last_resort: decision.is_last_resort };
        let counts = if self.is_empty(decision.members) {
            empty.write_capped(self.name, reply, self.steered.empty_ttl_max)
        } else {
            let owner = chain.map_or(self.name.pointer(), |chain| chain.target(self.name, reply.position()));
            let [cnames, ..] = chain.map_or([0; 3], |chain| chain.tail.write(self.name, reply));
            [cnames + self.write_records(owner, decision.members, reply), 0, 0]
        };
        // Nobody serves this client, but another may be served: the scope says for whom the answer holds even then.
        let (steered, account) = (Some(decided), Account::of(self.steered));
        Answered { rcode: Rcode::NOERROR, is_authoritative: true, counts, scope_len, steered, account }
    }

    /// The client's network where the resolver tells it, else the resolver.
    fn client(&self) -> Client {
        let ecs = self.query.edns.and_then(|edns| edns.ecs);
        match ecs.and_then(|ecs| ecs.subnet()) {
            Some((address, _)) => Client { address: block_of(address), depth: Depth::Subnet },
            None => Client { address: self.peer.address.to_canonical(), depth: Depth::Resolver },
        }
    }

    fn decide(&self, client: Client, leaf: Leaf) -> Decision {
        let view = &self.snapshot.view;
        let order = self.snapshot.geo.order(leaf.class, self.steered.steering);
        let service = self.steered.service;
        decide(&view.topology, service, view.service(service), order, ClientBlock::of(client.address))
    }

    /// For whom the answer holds, in bits of the client's network.
    ///
    /// ```text
    /// the client is not told by the resolver    0
    /// clients of one order are split by block   the block: /24 or /56
    /// everybody has the same order              0
    /// else                                      the leaf of the geo tables
    /// ```
    fn scope_len(&self, client: Client, leaf: Leaf, decision: &Decision) -> u8 {
        if client.depth == Depth::Resolver {
            0
        } else if decision.is_split {
            block_len(client.address)
        } else if self.snapshot.geo.is_uniform(self.steered.steering) {
            0
        } else {
            leaf.prefix_len
        }
    }

    fn is_empty(&self, members: MemberSet) -> bool {
        members.iter().all(|member| match self.offer {
            Offer::A => self.steered.v4(member).is_empty(),
            Offer::Aaaa => self.steered.v6(member).is_empty(),
            Offer::Https => false,
        })
    }

    /// Adds the records of `members`; gives how many.
    fn write_records(&self, owner: u16, members: MemberSet, reply: &mut Reply<'_>) -> u16 {
        let head = Head { owner, rtype: self.offer.rtype(), ttl: self.ttl() };
        let mut count = 0;
        match self.offer {
            Offer::A => self.each_v4(members, |octets| {
                count += 1;
                head.write(4, reply);
                reply.push(octets);
            }),
            Offer::Aaaa => self.each_v6(members, |octets| {
                count += 1;
                head.write(16, reply);
                reply.push(octets);
            }),
            Offer::Https => {
                count = 1;
                self.write_https(head, members, reply);
            }
        }
        count
    }

    fn write_https(&self, head: Head, members: MemberSet, reply: &mut Reply<'_>) {
        let (mut v4_len, mut v6_len) = (0, 0);
        self.each_v4(members, |octets| v4_len += octets.len());
        self.each_v6(members, |octets| v6_len += octets.len());
        let hint_len = |len: usize| if len > 0 { 4 + len } else { 0 };
        let start = self.steered.https_head();
        head.write((start.len() + hint_len(v4_len) + hint_len(v6_len)) as u16, reply);
        reply.push(start);
        if v4_len > 0 {
            write_parameter(KEY_IPV4HINT, v4_len, reply);
            self.each_v4(members, |octets| _ = reply.push(octets));
        }
        if v6_len > 0 {
            write_parameter(KEY_IPV6HINT, v6_len, reply);
            self.each_v6(members, |octets| _ = reply.push(octets));
        }
    }

    /// Gives the IPv4 VIPs of `members`, those that regions share once.
    fn each_v4(&self, members: MemberSet, mut each: impl FnMut(&[u8])) {
        let is_alone = members.len() == 1;
        for member in members.iter() {
            let earlier = if is_alone { &[] } else { self.steered.v4_earlier(member) };
            for (at, vip) in self.steered.v4(member).iter().enumerate() {
                if earlier.get(at).is_none_or(|earlier| !earlier.intersects(members)) {
                    each(&vip.octets());
                }
            }
        }
    }

    /// The same for IPv6.
    fn each_v6(&self, members: MemberSet, mut each: impl FnMut(&[u8])) {
        let is_alone = members.len() == 1;
        for member in members.iter() {
            let earlier = if is_alone { &[] } else { self.steered.v6_earlier(member) };
            for (at, vip) in self.steered.v6(member).iter().enumerate() {
                if earlier.get(at).is_none_or(|earlier| !earlier.intersects(members)) {
                    each(&vip.octets());
                }
            }
        }
    }

    fn ttl(&self) -> u32 {
        let ServiceId(service) = self.steered.service;
        self.snapshot.ttls.get(service as usize).copied().unwrap_or_default()
    }
}

/// What a record starts with.
#[derive(Clone, Copy)]
struct Head {
    owner: u16,
    rtype: Rtype,
    ttl: u32,
}

impl Head {
    fn write(self, rdata_len: u16, reply: &mut Reply<'_>) {
        let mut octets = [0; 12];
        octets[..2].copy_from_slice(&self.owner.to_be_bytes());
        octets[2..4].copy_from_slice(&self.rtype.0.to_be_bytes());
        octets[5] = 1;
        octets[6..10].copy_from_slice(&self.ttl.to_be_bytes());
        octets[10..].copy_from_slice(&rdata_len.to_be_bytes());
        reply.push(&octets);
    }
}

fn write_parameter(key: u16, value_len: usize, reply: &mut Reply<'_>) {
    reply.push(&key.to_be_bytes());
    reply.push(&(value_len as u16).to_be_bytes());
}

/// The first address of the block that `address` is in: what finer bits say would not be in the scope.
fn block_of(address: IpAddr) -> IpAddr {
    IpNet::new(address, block_len(address)).map_or(address, |block| block.network())
}

fn block_len(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => ClientBlock::V4_LEN,
        IpAddr::V6(_) => ClientBlock::V6_LEN,
    }
}

const KEY_IPV4HINT: u16 = 4;
const KEY_IPV6HINT: u16 = 6;
