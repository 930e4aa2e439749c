use proptest::prelude::*;

use super::*;

fn ends(source: &str, destination: &str) -> Ends {
    Ends { source: source.parse().expect("an address"), destination: destination.parse().expect("an address") }
}

fn v4() -> Ends {
    ends("192.0.2.7:4711", "198.51.100.1:443")
}

fn v6() -> Ends {
    ends("[2001:db8::7]:4711", "[2001:db8::1]:443")
}

fn whole(ends: Option<Ends>, len: usize) -> Result<Option<Header>, BadHeader> {
    Ok(Some(Header { ends, len }))
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    [&SIGNATURE[..], &[command, family], &(body.len() as u16).to_be_bytes(), body].concat()
}

const V4_BODY: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 1, 187];

#[test]
fn version_1_is_read() {
    let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nGET / HTTP/1.1\r\n";
    assert_eq!(read(line), whole(Some(v4()), 44));
    let line = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n";
    assert_eq!(read(line), whole(Some(v6()), line.len()));
}

#[test]
fn unknown_keeps_the_addresses_of_the_socket() {
    assert_eq!(read(b"PROXY UNKNOWN\r\n"), whole(None, 15));
    assert_eq!(read(b"PROXY UNKNOWN ffff:f::1 ffff:f::2 65535 65535\r\nx"), whole(None, 47));
}

#[test]
fn what_breaks_the_grammar_of_version_1_is_refused() {
    for line in [
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 x\r\n",
        "PROXY TCP4 192.0.2.7  198.51.100.1 4711 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 04711 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 65536\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n",
        "PROXY TCP4 192.0.2.007 198.51.100.1 1 443\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::1 1 443\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 1 443\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 1 443\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY \r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err(BadHeader::MalformedV1), "{line:?}");
    }
    assert_eq!(read(format!("PROXY UNKNOWN {}\r\n", "x".repeat(200)).as_bytes()), Err(BadHeader::MalformedV1));
}

#[test]
fn a_connection_without_header_is_refused_at_its_first_wrong_octet() {
    for start in ["G", "GET / HTTP/1.1\r\n", "PROXX", "\r\n\r\nG", "\x16\x03\x01", "proxy TCP4"] {
        assert_eq!(read(start.as_bytes()), Err(BadHeader::Missing), "{start:?}");
    }
}

#[test]
fn version_2_is_read() {
    let header = v2(PROXY, TCP4, &V4_BODY);
    assert_eq!(read(&[&header[..], b"GET /"].concat()), whole(Some(v4()), 28));
}

#[test]
fn local_and_foreign_families_keep_the_addresses_of_the_socket() {
    for header in [
        v2(LOCAL, UNSPECIFIED, b""),
        v2(LOCAL, 0x77, b"anything"),
        v2(LOCAL, TCP4, b"short"),
        v2(LOCAL, TCP4, &V4_BODY),
        v2(PROXY, UNSPECIFIED, b""),
        v2(PROXY, UDP4, &V4_BODY),
        v2(PROXY, UNIX_STREAM, &[0; UNIX_LEN]),
    ] {
        assert_eq!(read(&header), whole(None, header.len()), "{header:x?}");
    }
}

#[test]
fn tlvs_are_skipped() {
    let body = [&V4_BODY[..], &[0x02, 0, 3, b'a', b'.', b'b', 0x04, 0, 0]].concat();
    let header = v2(PROXY, TCP4, &body);
    assert_eq!(read(&header), whole(Some(v4()), header.len()));
}

#[test]
fn what_breaks_the_form_of_version_2_is_refused() {
    for header in [
        v2(0x22, TCP4, &V4_BODY),
        v2(0x11, TCP4, &V4_BODY),
        v2(PROXY, 0x41, &V4_BODY),
        v2(PROXY, TCP4, &V4_BODY[..11]),
        v2(PROXY, TCP6, &V4_BODY),
        v2(PROXY, TCP4, &[&V4_BODY[..], &[0x02, 0, 9, 1]].concat()),
        v2(PROXY, TCP4, &[&V4_BODY[..], &[0x02, 0]].concat()),
        v2(PROXY, TCP4, &[&V4_BODY[..], &[TLV_CRC32C, 0, 1, 0]].concat()),
    ] {
        assert_eq!(read(&header), Err(BadHeader::MalformedV2), "{header:x?}");
    }
    assert_eq!(read(&v2(PROXY, TCP4, &[0; 5000])), Err(BadHeader::TooLong(5016)));
    assert_eq!(read(&v2(PROXY, TCP4, &[0; 5000])[..16]), Err(BadHeader::TooLong(5016)), "at once");
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut header = Vec::new();
    write_v2(Some(v4()), &mut header);
    assert_eq!(read(&header), whole(Some(v4()), header.len()));
    for at in V2_HEAD_LEN..V2_HEAD_LEN + TCP4_LEN {
        header[at] ^= 1;
        assert_eq!(read(&header), Err(BadHeader::WrongChecksum));
        header[at] ^= 1;
    }
}

#[test]
fn ends_of_two_families_are_written_as_ipv6() {
    let mut line = Vec::new();
    write_v1(Some(ends("192.0.2.7:1", "[2001:db8::1]:2")), &mut line);
    assert_eq!(line, b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1 2\r\n");
    line.clear();
    write_v1(Some(ends("[::ffff:192.0.2.7]:1", "198.51.100.1:2")), &mut line);
    assert_eq!(line, b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n");
}

fn any_ends() -> impl Strategy<Value = Option<Ends>> {
    let v4 = any::<([u8; 4], [u8; 4])>().prop_map(|(one, other)| (IpAddr::from(one), IpAddr::from(other)));
    let v6 = any::<([u8; 16], [u8; 16])>().prop_map(|(one, other)| (IpAddr::from(one), IpAddr::from(other)));
    let ends = (prop_oneof![v4, v6], any::<(u16, u16)>()).prop_map(|((source, destination), ports)| Ends {
        source: SocketAddr::new(source, ports.0),
        destination: SocketAddr::new(destination, ports.1),
    });
    proptest::option::of(ends)
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_every_beginning_waits_for_more(ends in any_ends(), rest in proptest::collection::vec(any::<u8>(), 0..20)) {
        for write in [write_v1, write_v2] {
            let mut bytes = Vec::new();
            write(ends, &mut bytes);
            let len = bytes.len();
            prop_assert!(len <= V1_LEN_MAX);
            for part in 0..len {
                prop_assert_eq!(read(&bytes[..part]), Ok(None));
            }
            bytes.extend_from_slice(&rest);
            prop_assert_eq!(read(&bytes), whole(ends.map(Ends::of_one_family), len));
        }
    }

    #[test]
    fn any_octets_are_read_within_them_or_refused(
        is_v2: bool,
        octets in proptest::collection::vec(any::<u8>(), 0..120),
        command in prop_oneof![Just(LOCAL), Just(PROXY), any::<u8>()],
        family in prop_oneof![Just(TCP4), Just(TCP6), any::<u8>()],
    ) {
        let bytes = if is_v2 { v2(command, family, &octets) } else { [V1_START, &octets].concat() };
        for bytes in [&bytes[..], &octets] {
            if let Ok(Some(header)) = read(bytes) {
                prop_assert!(header.len <= bytes.len());
            }
        }
    }
}
