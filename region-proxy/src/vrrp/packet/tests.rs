use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const V4: Path = Path::V4 { source: Ipv4Addr::new(192, 0, 2, 2), destination: GROUP_V4 };
const V6: Path = Path::V6 { source: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2), destination: GROUP_V6 };

fn advertisement(addresses: Vec<IpAddr>) -> Advertisement {
    Advertisement {
        router: RouterId::from_number(51).expect("it is not 0"),
        priority: 150,
        interval: Interval::from_centis(20).expect("it is in range"),
        addresses,
    }
}

fn example() -> Vec<u8> {
    write(&advertisement(vec![IpAddr::from([192, 0, 2, 1])]), V4, ChecksumForm::Message)
}

fn any_advertisement(is_v4: bool) -> impl Strategy<Value = Advertisement> {
    let address = any::<u128>().prop_map(move |bits| match is_v4 {
        true => IpAddr::from((bits as u32).to_be_bytes()),
        false => IpAddr::from(bits.to_be_bytes()),
    });
    (1..=255u8, any::<u8>(), 1..=4095u16, vec(address, 1..=255)).prop_map(|(router, priority, centis, addresses)| {
        let (router, interval) = (RouterId::from_number(router), Interval::from_centis(centis));
        let (router, interval) = (router.expect("1 to 255"), interval.expect("1 to 4095"));
        Advertisement { router, priority, interval, addresses }
    })
}

#[test]
fn the_octets_are_those_of_the_rfc() {
    let octets = example();
    assert_eq!(octets[..6], [0x31, 51, 150, 1, 0, 20]);
    assert_eq!(octets[8..], [192, 0, 2, 1]);
    // 0x3133 + 0x9601 + 0x0014 + 0xc000 + 0x0201 = 0x1_8949; folded 0x894a; inverted 0x76b5.
    assert_eq!(octets[6..8], [0x76, 0xb5]);
}

#[test]
fn only_what_comes_from_the_link_counts() {
    for hop_limit in [0, 1, 64, 254] {
        assert_eq!(read(&example(), V4, hop_limit), Err(Refusal::HopLimit(hop_limit)));
    }
    assert!(read(&example(), V4, 255).is_ok());
}

#[test]
fn each_field_that_is_wrong_has_its_refusal() {
    let cases: [(usize, u8, Refusal); 5] = [
        (0, 0x21, Refusal::Version(2)),
        (0, 0x32, Refusal::Type(2)),
        (3, 0, Refusal::NoAddress),
        (3, 2, Refusal::Length),
        (2, 151, Refusal::Checksum),
    ];
    for (at, value, refusal) in cases {
        let mut octets = example();
        octets[at] = value;
        assert_eq!(read(&octets, V4, 255), Err(refusal));
    }
    for (at, range, refusal) in [(1, 1, Refusal::RouterId), (4, 2, Refusal::Interval)] {
        let mut octets = example();
        octets[at..at + range].fill(0);
        octets[6..8].fill(0);
        let checksum = Sum::default().with(&octets).checksum();
        octets[6..8].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(read(&octets, V4, 255), Err(refusal));
    }
}

#[test]
fn every_refusal_has_a_counter_of_its_own() {
    let all = [
        Refusal::Length,
        Refusal::HopLimit(1),
        Refusal::Version(2),
        Refusal::Type(2),
        Refusal::Checksum,
        Refusal::RouterId,
        Refusal::Interval,
        Refusal::NoAddress,
    ];
    let indices: Vec<usize> = all.iter().map(|refusal| refusal.index()).collect();
    assert_eq!(indices, (0..Refusal::NAMES.len()).collect::<Vec<_>>());
}

#[test]
fn an_interval_is_whole_hundredths_of_a_second() {
    let centis = |ms| Interval::from_duration(Duration::from_millis(ms)).map(Interval::centis);
    assert_eq!([centis(10), centis(200), centis(40_950)], [Some(1), Some(20), Some(4095)]);
    assert_eq!([centis(0), centis(5), centis(205), centis(40_960), centis(u64::MAX)], [None; 5]);
}

#[test]
fn a_fragment_or_another_protocol_holds_no_advertisement() {
    let mut packet = vec![0x45, 0xc0, 0, 32, 0, 0, 0, 0, 255, 112, 0, 0, 192, 0, 2, 2, 224, 0, 0, 18];
    packet.extend(example());
    assert_eq!(in_ipv4(&packet), Some((&example()[..], V4, 255)));
    for (at, value) in [(0, 0x65), (0, 0x44), (0, 0x4f), (2, 1), (6, 0x20), (7, 1), (9, 17)] {
        let mut packet = packet.clone();
        packet[at] = value;
        assert_eq!(in_ipv4(&packet), None, "{at}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_both_forms_and_families(
        v4 in any_advertisement(true),
        v6 in any_advertisement(false),
        with_pseudo_header: bool,
    ) {
        let form = if with_pseudo_header { ChecksumForm::PseudoHeader } else { ChecksumForm::Message };
        prop_assert_eq!(read(&write(&v4, V4, form), V4, 255), Ok(v4));
        prop_assert_eq!(read(&write(&v6, V6, form), V6, 255), Ok(v6));
    }

    #[test]
    fn a_bit_that_flips_on_the_way_is_noticed(sent in any_advertisement(false), at: prop::sample::Index, bit in 0..8u32) {
        let mut octets = write(&sent, V6, ChecksumForm::Message);
        let at = at.index(octets.len());
        octets[at] ^= 1 << bit;
        prop_assert!(read(&octets, V6, 255).is_err());
    }

    #[test]
    fn any_octets_are_safe_to_read(octets in vec(any::<u8>(), 0..300), hop_limit in 254..=255u8) {
        let _ = (read(&octets, V4, hop_limit), read(&octets, V6, hop_limit), in_ipv4(&octets));
        let head = [&[0x31, 1, 100, octets.len() as u8 / 4, 0, 20][..], &octets[..]].concat();
        let _ = read(&head, V4, hop_limit);
    }
}
