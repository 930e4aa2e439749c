//! What secondaries of a signed zone get: all of it validates, the chain is whole, and each change has a serial.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::dnssec::Nsec3HashAlgorithm;

use super::*;
use crate::sign::tests::reader;
use crate::transfer::Transferable;
use crate::wire::parent;
use crate::zone::{Denial, Records};

const NOW: u64 = 1_800_000_000;
const ZONE: &str = r#"$TTL 300
@ SOA ns1 h 7 14400 3600 1209600 60
@ NS ns1
@ MX 10 Mail
ns1 A 192.0.2.1
Mail A 192.0.2.25
*.wild A 192.0.2.3
a.b.c TXT x
alias CNAME www
old DNAME new
kid NS ns.kid
kid DS 12345 13 2 a87f1b687ac0e57d2a081a2f282672334d90ed316d2b818ca9580ea384d92401
ns.kid A 192.0.2.9
plain NS ns.example.net.
www TXT "beside steered addresses"
"#;

/// Steered names with addresses of two regions, of one, and a CNAME.
fn topology() -> Arc<Topology> {
    let text = r#"
        [server]
        listen = ["127.0.0.1:53"]
        [[zones]]
        name = "example.com"
        file = "zone"
        [regions.a]
        coordinates = [0, 0]
        vips = ["198.51.100.1", "2001:db8::1"]
        proxies = { a = "http://192.0.2.11/" }
        [regions.b]
        coordinates = [0, 90]
        vips = ["198.51.100.2", "2001:db8::2"]
        proxies = { b = "http://192.0.2.12/" }
        [services."www.example.com"]
        https = { alpn = ["h2"] }
        [services."one.first.example.com"]
        policy = "ordered"
        regions = ["b", "a"]
        [services."cdn.example.com"]
        cname = { a = "a.example.net", b = "b.example.net" }
    "#;
    crate::settings::Settings::parse("t", text).expect("right").topology
}

fn parsed(text: &str) -> Arc<Zone> {
    parsed_as("example.com", text)
}

fn parsed_as(name: &str, text: &str) -> Arc<Zone> {
    let name = shared::name::OwnerName::parse(name).expect("a name");
    Arc::new(Zone::parse(&name, "zone", text).expect("right"))
}

fn transferred(denial: Denial) -> ZoneKeys {
    let keys = keys();
    ZoneKeys { settings: DnssecSettings { denial, ..keys.settings.clone() }, is_transferred: true, ..keys }
}

/// The zone `text` as it is signed at `now` after `last`.
fn built(text: &str, keys: &ZoneKeys, last: &[SignedZone], now: u64) -> Built {
    build(&[parsed(text)], &[Some(keys.clone())], &topology(), last, now).expect("built")
}

fn content(built: &Built) -> &Arc<Content> {
    built.signed_zones[0].content.as_ref().expect("it has secondaries")
}

/// The RRsets of a zone with their TTLs, by owner and type, and the RRSIG data, by owner and type covered.
#[derive(Default)]
struct Read {
    rrsets: BTreeMap<Place, (u32, Vec<Vec<u8>>)>,
    rrsigs: BTreeMap<Place, Vec<Vec<u8>>>,
}

/// An owner and a type.
type Place = (Vec<u8>, Rtype);

impl Read {
    fn new(content: &Content) -> Self {
        let mut read = Self::default();
        for record in Records::new(content.soa()).chain(Records::new(content.rest())) {
            let &[t0, t1, _, _, a, b, c, d] = record.type_class_ttl() else { panic!("{record:?}") };
            let (rtype, ttl) = (Rtype(u16::from_be_bytes([t0, t1])), u32::from_be_bytes([a, b, c, d]));
            let (head, [first, second], rest) = record.rdata();
            let (owner, rdata) = (record.owner().to_vec(), [head, first, second, rest].concat());
            if rtype == Rtype::RRSIG {
                let covered = Rtype(u16::from_be_bytes([rdata[0], rdata[1]]));
                read.rrsigs.entry((owner, covered)).or_default().push(rdata);
            } else {
                let (known, rdatas) = read.rrsets.entry((owner, rtype)).or_insert((ttl, Vec::new()));
                assert_eq!(*known, ttl, "one TTL for an RRset: RFC 2181, section 5.2");
                rdatas.push(rdata);
            }
        }
        read
    }

    fn rdatas(&self, owner: &str, rtype: Rtype) -> Vec<Vec<u8>> {
        let owner = Name::parse(owner, &apex()).expect("a name").folded();
        self.rrsets.get(&(owner.as_wire().to_vec(), rtype)).map(|(_, rdatas)| rdatas.clone()).unwrap_or_default()
    }

    /// Whether `name` is delegated, or lies below one that is.
    fn cut_of<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        let above = std::iter::successors(Some(name), |name| parent(name));
        let own = above.take_while(|name| name.len() > apex().as_wire().len());
        own.filter(|name| self.rrsets.contains_key(&(name.to_vec(), Rtype::NS))).last()
    }

    /// The names of the zone that denials are about, with their types; those below delegations are none.
    fn names(&self) -> BTreeMap<Vec<u8>, BTreeSet<u16>> {
        let mut names: BTreeMap<Vec<u8>, BTreeSet<u16>> = BTreeMap::new();
        for (owner, rtype) in self.rrsets.keys().filter(|(_, rtype)| !matches!(*rtype, Rtype::NSEC | Rtype::NSEC3)) {
            match self.cut_of(owner) {
                Some(cut) if cut.len() < owner.len() => {}
                Some(_) if !matches!(*rtype, Rtype::NS | Rtype::DS) => {}
                _ => _ = names.entry(owner.clone()).or_default().insert(rtype.0),
            }
        }
        names
    }
}

/// The types in a bitmap (RFC 4034, section 4.1.2).
fn types(bitmap: &[u8]) -> BTreeSet<u16> {
    let (mut found, mut rest) = (BTreeSet::new(), bitmap);
    while let [window, len, after @ ..] = rest {
        let (bits, next) = after.split_at(usize::from(*len));
        let of_octet = |(at, octet): (usize, &u8)| {
            let octet = *octet;
            (0..8).filter(move |bit| octet & 0x80 >> bit != 0).map(move |bit| (at * 8 + bit) as u16)
        };
        found.extend(bits.iter().enumerate().flat_map(of_octet).map(|low| u16::from(*window) << 8 | low));
        rest = next;
    }
    found
}

/// The labels of a name from the root down: in that order they sort as RFC 4034, section 6.1, has it.
fn labels(name: &[u8]) -> Vec<Vec<u8>> {
    let above = std::iter::successors(Some(name), |name| parent(name));
    let mut labels: Vec<_> = above.map(|name| name[1..=usize::from(name[0])].to_vec()).collect();
    labels.reverse();
    labels
}

/// RFC 4035, section 2.2.
#[test]
fn every_rrset_that_is_the_zones_own_is_signed_by_its_keys_and_no_other_is() {
    for denial in [Denial::Nsec, Denial::Nsec3] {
        let built = built(ZONE, &transferred(denial), &[], NOW);
        let read = Read::new(content(&built));
        let dnskeys = read.rdatas("example.com.", Rtype::DNSKEY);
        assert_eq!(
            (
                dnskeys.len(),
                read.rdatas("example.com.", Rtype::CDS).len(),
                read.rdatas("example.com.", Rtype::CDNSKEY).len()
            ),
            (1, 1, 1)
        );
        let mut signed = 0;
        for ((owner, rtype), (ttl, rdatas)) in &read.rrsets {
            let is_own = match read.cut_of(owner) {
                Some(cut) => cut.len() == owner.len() && matches!(*rtype, Rtype::DS | Rtype::NSEC),
                None => true,
            };
            let rrsigs = read.rrsigs.get(&(owner.clone(), *rtype)).map_or(&[][..], |rrsigs| rrsigs);
            assert_eq!(rrsigs.len(), usize::from(is_own), "{} {rtype}", Name::from_wire(owner));
            let rdatas: Vec<&[u8]> = rdatas.iter().map(|rdata| &**rdata).collect();
            let is_valid = |rrsig: &Vec<u8>| reader::is_signed(&dnskeys[0], rrsig, owner, *rtype, *ttl, &rdatas);
            assert!(rrsigs.iter().all(is_valid), "{} {rtype}", Name::from_wire(owner));
            signed += rrsigs.len();
        }
        assert_eq!(signed, read.rrsigs.values().map(Vec::len).sum::<usize>(), "no signature is of nothing");
        assert_eq!(read.rdatas("example.com.", Rtype::NSEC3PARAM).len(), usize::from(denial == Denial::Nsec3));
    }
}

#[test]
fn steered_names_are_transferred_as_their_default_answer() {
    let built = built(ZONE, &transferred(Denial::Nsec), &[], NOW);
    let read = Read::new(content(&built));
    assert_eq!(read.rdatas("www", Rtype::A), [[198, 51, 100, 1], [198, 51, 100, 2]]);
    assert_eq!((read.rdatas("www", Rtype::HTTPS).len(), read.rdatas("www", Rtype::TXT).len()), (1, 1));
    assert_eq!(read.rdatas("one.first", Rtype::A), [[198, 51, 100, 2]]);
    assert_eq!(read.rdatas("cdn", Rtype::CNAME).len(), 1);
}

/// RFC 4034, section 4.1.1; RFC 4035, section 2.3.
#[test]
fn nsec_records_lead_through_all_names_and_back_and_tell_their_types() {
    let built = built(ZONE, &transferred(Denial::Nsec), &[], NOW);
    let read = Read::new(content(&built));
    let mut names: Vec<_> = read.names().into_iter().collect();
    names.sort_by_key(|(name, _)| labels(name));
    let nsecs: Vec<_> = read.rrsets.keys().filter(|(_, rtype)| *rtype == Rtype::NSEC).collect();
    assert_eq!((nsecs.len(), names.len()), (names.len(), 12));
    for (at, (name, own)) in names.iter().enumerate() {
        let (_, rdatas) = &read.rrsets[&(name.clone(), Rtype::NSEC)];
        let (next, bitmap) = Name::split_from(&rdatas[0]).expect("a name");
        assert_eq!(next, names[(at + 1) % names.len()].0, "behind {}", Name::from_wire(name));
        let expected = own.iter().copied().chain([Rtype::RRSIG.0, Rtype::NSEC.0]).collect();
        assert_eq!(types(bitmap), expected, "{}", Name::from_wire(name));
    }
}

/// RFC 5155, section 7.1.
#[test]
fn nsec3_records_lead_through_the_hashes_of_all_names_and_back_and_tell_their_types() {
    let built = built(ZONE, &transferred(Denial::Nsec3), &[], NOW);
    let read = Read::new(content(&built));
    let mut names = read.names();
    let above = |name: &[u8]| std::iter::successors(parent(name), |name| parent(name)).map(<[u8]>::to_vec).collect();
    let empty: Vec<Vec<Vec<u8>>> = names.keys().map(|name| above(name)).collect();
    let own = empty.into_iter().flatten().filter(|name| name.len() > apex().as_wire().len());
    own.for_each(|name| _ = names.entry(name).or_default());
    let hash = |name: &[u8]| {
        let name = reader::record(name, Rtype::A, 0, &[192, 0, 2, 1]).name;
        Nsec3HashAlgorithm::SHA1.hash(&[], &name, 0).expect("a hash").as_ref().to_vec()
    };
    let mut hashes: Vec<_> = names.iter().map(|(name, own)| (hash(name), own)).collect();
    hashes.sort();
    let nsec3s = read.rrsets.keys().filter(|(_, rtype)| *rtype == Rtype::NSEC3).count();
    // The empty ones are wild, b.c, c and first.
    assert_eq!((nsec3s, hashes.len()), (hashes.len(), 12 + 4));
    for (at, (hash, own)) in hashes.iter().enumerate() {
        let label = data_encoding::BASE32_DNSSEC.encode(hash);
        let rdata = read.rdatas(&label, Rtype::NSEC3).concat();
        // Algorithm, flags, iterations, no salt, and the length of the hash.
        assert_eq!((&rdata[..6], &rdata[6..26]), (&[1, 0, 0, 0, 0, 20][..], &*hashes[(at + 1) % hashes.len()].0));
        let is_signed = own.iter().any(|&rtype| rtype != Rtype::NS.0);
        let expected = own.iter().copied().chain(is_signed.then_some(Rtype::RRSIG.0)).collect();
        assert_eq!(types(&rdata[26..]), expected);
    }
}

#[test]
fn zone_below_that_is_served_here_too_is_delegated_as_the_chain_says() {
    let child =
        parsed_as("sub.example.com", "$TTL 9\n@ SOA ns h 1 2 3 4 5\n@ NS NS\nns A 192.0.2.7\nother A 192.0.2.8\n");
    let keys = [Some(transferred(Denial::Nsec)), None];
    let built = build(&[parsed(ZONE), child], &keys, &topology(), &[], NOW).expect("built");
    let read = Read::new(content(&built));
    let all: Vec<_> = read.rrsets.keys().filter(|(owner, _)| owner.ends_with(b"\x03sub\x07example\x03com\0")).collect();
    let types: Vec<_> = all.iter().map(|(_, rtype)| *rtype).collect();
    assert_eq!(types, [Rtype::A, Rtype::NS, Rtype::NSEC], "{all:?}");
    let covered: Vec<_> = read.rrsigs.keys().filter(|(owner, _)| owner.starts_with(b"\x03sub")).collect();
    assert!(matches!(covered[..], [(_, Rtype::NSEC)]), "{covered:?}");
}

#[test]
fn content_is_put_together_for_zones_with_secondaries_alone() {
    let keys = ZoneKeys { is_transferred: false, ..transferred(Denial::Nsec) };
    assert!(built(ZONE, &keys, &[], NOW).signed_zones[0].content.is_none());
}

/// RFC 1982; RFC 1995, section 2.
#[test]
fn serial_rises_once_for_new_signatures_and_never_without_a_change() {
    let keys = transferred(Denial::Nsec);
    let first = built(ZONE, &keys, &[], NOW);
    assert_eq!((content(&first).serial(), first.kept[0].serial()), (7, 7));
    let mut last = first;
    let mut raised = Vec::new();
    // Six weeks of looking every three hours, while signatures hold for two.
    for look in 1..=6 * 7 * 8 {
        let now = NOW + look * 3 * 3600;
        let is_due = last.signed_zones[0].due().is_some_and(|due| due <= now);
        let next = build(&last.kept, &[Some(keys.clone())], &topology(), &last.signed_zones, now).expect("built");
        let (before, after) = (content(&last), content(&next));
        let is_raised = after.serial() == before.serial() + 1;
        assert!(is_raised || Arc::ptr_eq(before, after), "another serial for another content, and for no other");
        assert_eq!((next.kept[0].serial(), next.zones.zones().next().map(|(_, serial)| serial)), {
            (after.serial(), Some(after.serial()))
        });
        assert!(is_raised || !is_due, "what is due is signed");
        raised.extend(is_raised.then_some(look));
        last = next;
    }
    assert!((3..=60).contains(&raised.len()), "{raised:?}");
}

#[test]
fn serial_rises_once_when_a_key_comes() {
    let keys = transferred(Denial::Nsec3);
    let first = built(ZONE, &keys, &[], NOW);
    let key = SigningKey::generate(Algorithm::EcdsaP256Sha256, Role::Csk).expect("a key");
    let times = KeyTimes { publish: Some(NOW + 100), activate: Some(NOW + 9999), ..KeyTimes::default() };
    let coming = ZoneKey { key: Arc::new(key), role: Role::Csk, times };
    let keys = ZoneKeys { keys: keys.keys.iter().cloned().chain([coming]).collect(), ..keys };
    let after = |last: &Built, secs: u64| {
        build(&last.kept, &[Some(keys.clone())], &topology(), &last.signed_zones, NOW + secs).expect("built")
    };
    let waiting = after(&first, 50);
    assert!(Arc::ptr_eq(content(&first), content(&waiting)));
    let published = after(&waiting, 100);
    assert_eq!(
        (content(&published).serial(), Read::new(content(&published)).rdatas("example.com.", Rtype::DNSKEY).len()),
        (8, 2)
    );
    assert!(Arc::ptr_eq(content(&after(&published, 101)), content(&published)));
}

/// RFC 1995, section 4.
#[test]
fn edit_takes_its_own_serial_and_its_difference_is_small() {
    let keys = transferred(Denial::Nsec);
    let first = built(ZONE, &keys, &[], NOW);
    let edited = ZONE.replace(" h 7 ", " h 20 ").replace("192.0.2.25", "192.0.2.26");
    let second = built(&edited, &keys, &first.signed_zones, NOW + 5);
    assert_eq!(content(&second).serial(), 20);
    let zone = Transferable::new(Arc::clone(content(&first))).next(Arc::clone(content(&second)));
    let deltas = zone.history().since(7).expect("known");
    // The SOA and the A record, each with its signature.
    let count = |octets| Records::new(octets).count();
    assert_eq!((deltas.len(), count(deltas[0].removed()), count(deltas[0].added())), (1, 4, 4));
}

#[test]
fn change_that_forgets_the_serial_gets_the_next_one() {
    let keys = transferred(Denial::Nsec);
    let first = built(ZONE, &keys, &[], NOW);
    let second = built(&ZONE.replace("192.0.2.25", "192.0.2.26"), &keys, &first.signed_zones, NOW + 5);
    assert_eq!((content(&second).serial(), second.kept[0].serial()), (8, 8));
}

#[test]
fn zone_whose_last_content_is_unknown_gets_the_next_serial_where_it_was_served() {
    let keys = [Some(transferred(Denial::Nsec))];
    let serial = |keys: &[Option<ZoneKeys>], last: &[SignedZone], is_served: bool| {
        let mut zones = [Zone::clone(&parsed(ZONE))];
        raise_unknown(&mut zones, keys, last, |_| is_served);
        zones[0].serial()
    };
    assert_eq!((serial(&keys, &[], true), serial(&keys, &[], false)), (8, 7));
    let first = built(ZONE, keys[0].as_ref().expect("keys"), &[], NOW);
    assert_eq!(serial(&keys, &first.signed_zones, true), 7);
    let alone = [Some(ZoneKeys { is_transferred: false, ..transferred(Denial::Nsec) })];
    assert_eq!((serial(&alone, &[], true), serial(&[None], &[], true)), (7, 7));
}
