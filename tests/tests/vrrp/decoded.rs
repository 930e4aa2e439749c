//! What tshark reads in what proxies send.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use gslb_tests::net::{Net, run};
use region_proxy::config::VipMac;
use region_proxy::vrrp::packet::ChecksumForm;
use socket2::{Domain, Protocol, Socket, Type};

use crate::peers::Peer;
use crate::way::{Family, To, Way};
use crate::{beside_others, in_each};

#[test]
fn tshark_reads_what_a_proxy_sends_without_complaint() {
    let Some(_turn) = beside_others() else { return };
    in_each(Way::all(), |way| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("frames.pcap");
        std::fs::write(&file, pcap(&sent(way))).expect("it can be written");
        let read = |filter: &str, fields: &Fields| read(&file, way.checksum, filter, fields);

        let advertisements = read(ADVERTISEMENTS, &advertisement(way, 250));
        let (last, others) = advertisements.split_last().expect("there are some");
        assert!(others.len() > 5, "{others:?}");
        others.iter().for_each(|line| assert_eq!(*line, line_of(&advertisement(way, 250))));
        assert_eq!(*last, line_of(&advertisement(way, 0)), "it says that it leaves");
        for vip in way.vips() {
            let (filter, fields) = announcement(way, vip);
            let announcements = read(&filter, &fields);
            assert!(announcements.len() > 1, "they are repeated: {announcements:?}");
            announcements.iter().for_each(|line| assert_eq!(*line, line_of(&fields)));
        }
        assert_eq!(read("_ws.expert && !icmp && !icmpv6.type == 4", &complaint()), [""; 0]);
    });
}

#[test]
fn tshark_tells_the_forms_of_the_checksum_apart() {
    let Some(_turn) = beside_others() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("frames.pcap");
    std::fs::write(&file, pcap(&sent(Way::plain(Family::V4)))).expect("it can be written");
    let complaints = read(&file, ChecksumForm::PseudoHeader, "vrrp.checksum_bad.expert", &complaint());
    assert_eq!(complaints.len(), read(&file, ChecksumForm::Message, ADVERTISEMENTS, &complaint()).len());
}

/// Names of fields, and what tshark is to read in them.
type Fields = Vec<(&'static str, String)>;

/// Not those that are quoted where nobody listens.
const ADVERTISEMENTS: &str = "vrrp && !icmp && !icmpv6";

fn advertisement(way: Way, priority: u8) -> Fields {
    let (own, vips) = (way.address("a").to_owned(), way.vips().join(","));
    let (destination, mac) = match (way.to, way.family) {
        (To::Peer, _) => (way.address("b"), None),
        (To::Group, Family::V4) => ("224.0.0.18", Some("01:00:5e:00:00:12")),
        (To::Group, Family::V6) => ("ff02::12", Some("33:33:00:00:00:12")),
    };
    let mut fields = vec![
        ("vrrp.version", "3".to_owned()),
        ("vrrp.type", "1".to_owned()),
        ("vrrp.virt_rtr_id", "51".to_owned()),
        ("vrrp.prio", priority.to_string()),
        ("vrrp.addr_count", way.vips().len().to_string()),
        ("vrrp.short_adver_int", "10".to_owned()),
        ("vrrp.checksum.status", GOOD.to_owned()),
    ];
    let [source_field, destination_field, limit_field, vips_field] = match way.family {
        Family::V4 => ["ip.src", "ip.dst", "ip.ttl", "vrrp.ip_addr"],
        Family::V6 => ["ipv6.src", "ipv6.dst", "ipv6.hlim", "vrrp.ipv6_addr"],
    };
    fields.extend([(source_field, own), (destination_field, destination.to_owned())]);
    fields.extend([(limit_field, "255".to_owned()), (vips_field, vips)]);
    if let Some(mac) = mac {
        fields.push(("eth.dst", mac.to_owned()));
        fields.extend(virtual_source(way));
    }
    fields
}

/// What finds the announcements of `vip`, and what they say.
fn announcement(way: Way, vip: &str) -> (String, Fields) {
    let (filter, mut fields) = match way.family {
        Family::V4 => (
            format!("arp.isannouncement && arp.src.proto_ipv4 == {vip}"),
            vec![("eth.dst", "ff:ff:ff:ff:ff:ff".to_owned()), ("arp.dst.proto_ipv4", vip.to_owned())],
        ),
        Family::V6 => (
            format!("icmpv6.nd.na.flag.s == 0 && icmpv6.nd.na.target_address == {vip}"),
            vec![
                ("ipv6.hlim", "255".to_owned()),
                ("icmpv6.nd.na.flag.o", "1".to_owned()),
                ("icmpv6.checksum.status", GOOD.to_owned()),
            ],
        ),
    };
    fields.extend(virtual_source(way));
    (filter, fields)
}

fn virtual_source(way: Way) -> Option<(&'static str, String)> {
    (way.mac == VipMac::Virtual).then(|| ("eth.src", way.virtual_mac().to_owned()))
}

fn complaint() -> Fields {
    vec![("_ws.expert.message", String::new())]
}

fn line_of(fields: &Fields) -> String {
    fields.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ")
}

/// How tshark calls a checksum that is right.
const GOOD: &str = "1";

/// The frames that a proxy sends between its start and its end, as the other host gets them.
fn sent(way: Way) -> Vec<Vec<u8>> {
    let net = Net::new(&["a", "b"]).with_ipv6();
    let every_protocol = Protocol::from(i32::from(3_u16.to_be()));
    let opening = net.within("b", move || Socket::new(Domain::PACKET, Type::RAW, Some(every_protocol)));
    let mut socket = opening.join().expect("it ends well").expect("root may");
    let proxy = Peer::proxy(&net, "a", &way.proxy("a", 250, "100ms"));
    proxy.until_state(&net, "active");
    std::thread::sleep(Duration::from_millis(900));
    proxy.stop();

    socket.set_nonblocking(true).expect("it can be set");
    let mut frames = Vec::new();
    let mut octets = [0; 2048];
    loop {
        match socket.read(&mut octets) {
            Ok(len) => frames.push(octets[..len].to_vec()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return frames,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A file of Ethernet frames, a second apart.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let numbers = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    // Version 2.4, times in UTC, whole frames, Ethernet.
    let mut file = numbers(&[0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65_535, 1]);
    for (number, frame) in (0..).zip(frames) {
        let len = u32::try_from(frame.len()).expect("a frame is short");
        file.extend(numbers(&[number, 0, len, len]));
        file.extend(frame);
    }
    file
}

/// A line with these fields of each packet of `file` that passes `filter`.
fn read(file: &Path, form: ChecksumForm, filter: &str, fields: &Fields) -> Vec<String> {
    let form = format!("vrrp.v3_checksum_as_in_v2:{}", form == ChecksumForm::Message);
    let file = file.to_str().expect("it is UTF-8");
    let mut words = vec!["tshark", "-n", "-r", file, "-o", &form, "-o", "ip.check_checksum:TRUE", "-Y", filter];
    words.extend(["-T", "fields", "-E", "separator=/s"]);
    words.extend(fields.iter().flat_map(|(field, _)| ["-e", field]));
    String::from_utf8_lossy(&run(&words).stdout).lines().map(str::to_owned).collect()
}
