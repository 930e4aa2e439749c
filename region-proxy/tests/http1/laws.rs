//! Laws that hold for any octets; each check panics where one does not. Shared with the fuzz target.

use std::mem::MaybeUninit;

use region_proxy::http1::{
    Asked, ChunkLimits, Chunked, Edits, HeadLimits, Header, Hop, Refusal, Target, Version, is_named, is_worth_reading,
    read_request, read_response, write_chunk, write_last_chunk, write_request, write_response,
};

fn slots<'b, const COUNT: usize>() -> [MaybeUninit<Header<'b>>; COUNT] {
    [MaybeUninit::uninit(); COUNT]
}

const FIELDS_MAX: usize = 100;
/// What is written may have the framing, Connection and Upgrade more.
const WRITTEN_MAX: usize = FIELDS_MAX + 3;
/// No limit to what is written.
const ANY: HeadLimits = HeadLimits { head: usize::MAX, target: usize::MAX };

/// The octets of a head alone decide about it, all lines of one that is read are by the grammar, and written anew it
/// says the same.
pub(crate) fn check_request(octets: &[u8]) {
    let mut whole_slots = slots::<FIELDS_MAX>();
    let whole = read_request(octets, &mut whole_slots, HeadLimits::DEFAULT);
    for at in points(octets) {
        let mut front_slots = slots::<FIELDS_MAX>();
        let front = read_request(&octets[..at], &mut front_slots, HeadLimits::DEFAULT);
        assert!(is_consistent(
            front.map(|front| front.map(|head| head.len)),
            whole.map(|whole| whole.map(|head| head.len))
        ));
    }
    let Ok(Some(request)) = whole else { return };
    let skipped = if octets.starts_with(b"\r\n") { 2 } else { 0 };
    check_lines(&octets[skipped..request.len]);
    check_scan(octets, request.len);
    let mut out = Vec::new();
    write_request(&mut out, &request, &Edits::new(), request.body, hop(request.upgrade));
    let mut again_slots = slots::<WRITTEN_MAX>();
    let again = match read_request(&out, &mut again_slots, ANY) {
        Ok(Some(again)) => again,
        other => panic!("{other:?} of {}", out.escape_ascii()),
    };
    assert_eq!(again.len, out.len());
    assert_eq!((again.method, again.body, again.upgrade), (request.method, request.body, request.upgrade));
    assert_eq!(again.host, request.host);
    check_target(request.method, request.target, again.target);
    assert_eq!(end_to_end(again.fields), end_to_end(request.fields));
}

/// A server is asked for the path, and for the asterisk by OPTIONS of a URI without a path.
fn check_target(method: &str, read: Target<'_>, written: Target<'_>) {
    match (read, written) {
        (Target::Absolute { path_and_query: "", .. }, Target::Asterisk) => assert_eq!(method, "OPTIONS"),
        (Target::Absolute { path_and_query: from, .. }, Target::Origin { path_and_query: to }) => {
            assert!(to == from || to.strip_prefix('/') == Some(from));
        }
        (read, written) => assert_eq!(read, written),
    }
}

/// The same for responses.
pub(crate) fn check_response(octets: &[u8]) {
    for asked in [
        Asked { method: "GET", upgrade: false },
        Asked { method: "HEAD", upgrade: false },
        Asked { method: "GET", upgrade: true },
    ] {
        check_response_to(octets, asked);
    }
}

fn check_response_to(octets: &[u8], asked: Asked<'_>) {
    let mut whole_slots = slots::<FIELDS_MAX>();
    let whole = read_response(octets, &mut whole_slots, asked, HeadLimits::DEFAULT);
    for at in points(octets) {
        let mut front_slots = slots::<FIELDS_MAX>();
        let front = read_response(&octets[..at], &mut front_slots, asked, HeadLimits::DEFAULT);
        assert!(is_consistent(
            front.map(|front| front.map(|head| head.len)),
            whole.map(|whole| whole.map(|head| head.len))
        ));
    }
    let Ok(Some(response)) = whole else { return };
    check_lines(&octets[..response.len]);
    check_scan(octets, response.len);
    let body = response.body.for_client(Version::V11);
    let mut out = Vec::new();
    write_response(&mut out, &response, &Edits::new(), body, hop(response.upgrade));
    let mut again_slots = slots::<WRITTEN_MAX>();
    let again = match read_response(&out, &mut again_slots, asked, ANY) {
        Ok(Some(again)) => again,
        other => panic!("{other:?} of {}", out.escape_ascii()),
    };
    assert_eq!(again.len, out.len());
    assert_eq!((again.status, again.reason, again.body), (response.status, response.reason, body));
    assert_eq!(again.upgrade, response.upgrade);
    assert_eq!(end_to_end(again.fields), end_to_end(response.fields));
}

fn hop(upgrade: Option<&[u8]>) -> Hop<'_> {
    upgrade.map_or(Hop::Persistent, Hop::Upgrade)
}

/// Where to cut `octets`: everywhere if they are few.
fn points(octets: &[u8]) -> impl Iterator<Item = usize> {
    (0..octets.len()).step_by(octets.len() / 256 + 1)
}

/// Of fewer octets either nothing is known yet or the same.
fn is_consistent<E: PartialEq>(front: Result<Option<usize>, E>, whole: Result<Option<usize>, E>) -> bool {
    matches!(front, Ok(None)) || front == whole
}

/// A reader that looks only when it is worth while finds the head as soon as it is whole.
fn check_scan(octets: &[u8], len: usize) {
    for seen in [0, len / 2, len - 1] {
        assert!(is_worth_reading(&octets[..len], seen, HeadLimits::DEFAULT));
    }
}

/// Each line of a head ends in CRLF and holds neither CR, LF nor NUL.
fn check_lines(head: &[u8]) {
    let text = head.strip_suffix(b"\r\n\r\n").expect("a head ends in an empty line");
    let mut rest = text;
    while let Some(at) = rest.iter().position(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
        assert!(rest[at..].starts_with(b"\r\n") && !matches!(rest.get(at + 2), None | Some(b' ' | b'\t' | b'\r')));
        rest = &rest[at + 2..];
    }
}

/// The fields that must be passed on.
fn end_to_end<'b>(fields: &[Header<'b>]) -> Vec<(&'b str, &'b [u8])> {
    let is_passed = |field: &&Header<'_>| {
        !HOP_BY_HOP.iter().any(|name| field.name.replace('_', "-").eq_ignore_ascii_case(name))
            && !is_named(fields, field.name)
    };
    fields.iter().filter(is_passed).map(|field| (field.name, field.value)).collect()
}

const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// A body comes out the same in whatever pieces it came, and written anew it says the same.
pub(crate) fn check_body(octets: &[u8], piece_len: usize) {
    let whole = read_body(octets, octets.len().max(1));
    assert_eq!(whole, read_body(octets, piece_len));
    assert_eq!(whole, read_body(octets, 1));
    let Ok(Some((data, trailers, _))) = whole else { return };
    let mut out = Vec::new();
    data.chunks(piece_len).for_each(|piece| write_chunk(&mut out, piece));
    write_last_chunk(&mut out, &trailers);
    let len = out.len();
    assert_eq!(read_body(&out, 1), Ok(Some((data, trailers, len))));
}

/// Data, trailers, and octets of the body; `None` when it is not whole.
type Whole = Option<(Vec<u8>, Vec<u8>, usize)>;

fn read_body(octets: &[u8], piece_len: usize) -> Result<Whole, Refusal> {
    let mut body = Chunked::new(ChunkLimits::DEFAULT);
    let (mut data, mut len) = (Vec::new(), 0);
    for piece in octets.chunks(piece_len) {
        let mut rest = piece;
        while !rest.is_empty() && !body.is_done() {
            let step = body.step(rest)?;
            assert!(step.consumed > 0 && step.data.start <= step.data.end && step.data.end <= step.consumed);
            data.extend_from_slice(&rest[step.data]);
            rest = &rest[step.consumed..];
            len += step.consumed;
        }
    }
    Ok(body.is_done().then(|| (data, body.trailers().to_vec(), len)))
}
