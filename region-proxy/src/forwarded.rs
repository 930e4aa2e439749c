//! Where a request comes from: what peers say of it, and what servers are told.
//!
//! Two families of fields tell the same: `X-Forwarded-For`, `-Proto` and `-Host`, and `Forwarded` (RFC 7239). Any client
//! can send either, so both count only from peers that are trusted, and only the family that these are known to write:
//! a trusted peer that writes one may pass the other on as its own client sent it.
//! ```text
//! peer        field of the family read    other fields
//! trusted     kept, the peer's appended   as of one that is not trusted
//! not         dropped, or kept for the    the same; what stands for scheme and host is always replaced by what was
//!             list of addresses alone     seen here
//! ```

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use httparse::Header;

use crate::http1::Edits;
use crate::look_alike::reads_as;
use crate::network::Network;

/// What is read and written of where requests come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forwarded {
    /// Peers whose word counts.
    pub trusted: Vec<Network>,
    /// The family that they write.
    pub read: Family,
    /// Whether servers get `X-Forwarded-For`, `-Proto` and `-Host`.
    pub writes_x_forwarded: bool,
    /// Whether servers get `Forwarded`.
    pub writes_forwarded: bool,
    /// What becomes of the addresses that others send.
    pub untrusted: Untrusted,
}

impl Default for Forwarded {
    fn default() -> Self {
        Self {
            trusted: Vec::new(),
            read: Family::XForwarded,
            writes_x_forwarded: true,
            writes_forwarded: false,
            untrusted: Untrusted::Dropped,
        }
    }
}

/// A family of fields.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// What becomes of addresses that peers send who are not trusted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Untrusted {
    /// Servers do not see them.
    #[default]
    Dropped,
    /// Servers see them before the peer's, and must not believe them.
    Kept,
}

/// What this proxy sees of a request.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'r> {
    /// Who is connected: by the socket, or by the PROXY protocol.
    pub peer: IpAddr,
    /// How: `http` or `https`.
    pub scheme: &'r str,
    /// What it asks for: host with optional port; `None` when it named none.
    pub authority: Option<&'r str>,
}

/// Whom a request is from, and how it was sent, as far as can be trusted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Origin<'r> {
    /// The address nearest to the client that a trusted peer tells of; that of the peer, where there is none.
    pub client: IpAddr,
    /// How the client sent it: `http` or `https`.
    pub scheme: &'r str,
    /// What the client asked for.
    pub authority: Option<&'r str>,
}

impl Forwarded {
    /// Whether `peer` is a proxy whose word counts.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(peer))
    }

    /// Whether `peer` is believed.
    pub fn is_trusted(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(peer))
    }

    /// Whom a request with `fields` is from; `edits` gets what its server is told.
    ///
    /// Allocates nothing but in `edits`.
    pub fn trace<'r>(&self, seen: Seen<'r>, fields: &[Header<'r>], edits: &mut Edits) -> Origin<'r> {
        for (at, _) in fields.iter().enumerate().filter(|(_, field)| is_disguised(field.name)) {
            edits.leave_out(at);
        }
        let is_trusted = self.is_trusted(seen.peer);
        let origin = if is_trusted { self.origin(seen, fields) } else { seen.origin() };
        let lines = |family| Lines {
            // Of the family that is not read, nothing is known to be a trusted peer's.
            keeps: is_trusted && self.read == family || self.untrusted == Untrusted::Kept,
            fields,
        };
        if self.writes_x_forwarded {
            let list = lines(Family::XForwarded);
            list.append(X_FOR, edits, |out| write_address(seen.peer, out));
            list.set(X_PROTO, Some(origin.scheme), edits);
            list.set(X_HOST, origin.authority, edits);
        } else {
            let list = lines(Family::XForwarded);
            list.drop_unless_kept(X_FOR, edits);
            let is_believed = is_trusted && self.read == Family::XForwarded;
            for name in [X_PROTO, X_HOST] {
                Lines { keeps: is_believed, fields }.drop_unless_kept(name, edits);
            }
        }
        let list = lines(Family::Forwarded);
        if self.writes_forwarded {
            list.append(FORWARDED, edits, |out| write_element(seen, out));
        } else {
            list.drop_unless_kept(FORWARDED, edits);
        }
        origin
    }

    /// What the trusted peer of `seen` says, and its own peers as long as they are trusted.
    fn origin<'r>(&self, seen: Seen<'r>, fields: &[Header<'r>]) -> Origin<'r> {
        let mut origin = seen.origin();
        match self.read {
            Family::XForwarded => {
                for item in items_from_last(fields, X_FOR) {
                    // An address that is none is nobody's: the one before it was still told by a trusted peer.
                    let Some(address) = read_node(item) else { break };
                    origin.client = address;
                    if !self.is_trusted(address) {
                        break;
                    }
                }
                // These are replaced by each proxy on the way, so the last value is that of the last one that sets it.
                if let Some(scheme) = last_item(fields, X_PROTO).and_then(read_scheme) {
                    origin.scheme = scheme;
                }
                if let Some(host) = last_item(fields, X_HOST).and_then(read_host) {
                    origin.authority = Some(host);
                }
            }
            Family::Forwarded => {
                for item in items_from_last(fields, FORWARDED) {
                    let Some(element) = read_element(item) else { break };
                    // What an element says of the request is what its client sent, as far as that is still told.
                    origin.scheme = element.proto.and_then(read_scheme).unwrap_or(origin.scheme);
                    origin.authority = element.host.and_then(read_host).or(origin.authority);
                    let Some(address) = element.node.and_then(read_node) else { break };
                    origin.client = address;
                    if !self.is_trusted(address) {
                        break;
                    }
                }
            }
        }
        origin
    }
}

impl<'r> Seen<'r> {
    fn origin(self) -> Origin<'r> {
        Origin { client: self.peer.to_canonical(), scheme: self.scheme, authority: self.authority }
    }
}

const X_FOR: &str = "X-Forwarded-For";
const X_PROTO: &str = "X-Forwarded-Proto";
const X_HOST: &str = "X-Forwarded-Host";
const FORWARDED: &str = "Forwarded";

/// Whether `name` is none of those that are written here, but reads as one: no proxy sends such a field, but who wants to
/// get past this one does.
fn is_disguised(name: &str) -> bool {
    (X_FOR.len()..=X_PROTO.len()).contains(&name.len())
        && name.contains('_')
        && [X_FOR, X_PROTO, X_HOST].iter().any(|own| reads_as(name, own))
}

/// The fields of a request, and whether what they say of addresses stays.
struct Lines<'f, 'r> {
    keeps: bool,
    fields: &'f [Header<'r>],
}

impl Lines<'_, '_> {
    fn of(&self, name: &str) -> impl DoubleEndedIterator<Item = (usize, &[u8])> {
        let fields = self.fields.iter().enumerate();
        fields.filter(move |(_, field)| field.name.eq_ignore_ascii_case(name)).map(|(at, field)| (at, field.value))
    }

    /// Makes one line of all lines of `name`, where they stay, with an item last; many servers read but one.
    fn append(&self, name: &str, edits: &mut Edits, write: impl FnOnce(&mut Vec<u8>)) {
        let Some((last, _)) = self.of(name).next_back() else { return edits.append_with(name, write) };
        for (at, _) in self.of(name).filter(|(at, _)| *at != last) {
            edits.leave_out(at);
        }
        edits.replace_with(last, |out| {
            for (_, value) in self.of(name).filter(|(_, value)| self.keeps && !value.trim_ascii().is_empty()) {
                out.extend_from_slice(value);
                out.extend_from_slice(b", ");
            }
            write(out);
        });
    }

    /// Makes `value` the only one of `name`.
    fn set(&self, name: &str, value: Option<&str>, edits: &mut Edits) {
        let mut value = value;
        for (at, _) in self.of(name) {
            match value.take() {
                Some(value) => edits.replace(at, &[value.as_bytes()]),
                None => edits.leave_out(at),
            }
        }
        if let Some(value) = value {
            edits.append(name, &[value.as_bytes()]);
        }
    }

    fn drop_unless_kept(&self, name: &str, edits: &mut Edits) {
        if !self.keeps {
            self.of(name).for_each(|(at, _)| edits.leave_out(at));
        }
    }
}

fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{}", address.to_canonical());
}

/// RFC 7239, section 4: what is not a token is quoted, and IPv6 addresses are in brackets.
fn write_element(seen: Seen<'_>, out: &mut Vec<u8>) {
    let _ = match seen.peer.to_canonical() {
        IpAddr::V4(address) => write!(out, "for={address}"),
        IpAddr::V6(address) => write!(out, "for=\"[{address}]\""),
    };
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(seen.scheme.as_bytes());
    if let Some(host) = seen.authority {
        out.extend_from_slice(b";host=\"");
        for octet in host.bytes() {
            if matches!(octet, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(octet);
        }
        out.push(b'"');
    }
}

/// The items of all lines of `name`, from the last.
fn items_from_last<'r>(fields: &[Header<'r>], name: &str) -> impl Iterator<Item = &'r [u8]> {
    let lines = fields.iter().rev().filter(move |field| field.name.eq_ignore_ascii_case(name));
    let items = lines.flat_map(|field| FromLast { rest: Some(field.value) });
    items.take(ITEMS_MAX).filter(|item| !item.is_empty())
}

/// More proxies than any request passes; a list of thousands must not cost more.
const ITEMS_MAX: usize = 64;

fn last_item<'r>(fields: &[Header<'r>], name: &str) -> Option<&'r [u8]> {
    items_from_last(fields, name).next()
}

/// The parts of a list between commas that stand in no quotes, from the last.
struct FromLast<'r> {
    rest: Option<&'r [u8]>,
}

impl<'r> Iterator for FromLast<'r> {
    type Item = &'r [u8];

    fn next(&mut self) -> Option<&'r [u8]> {
        let list = self.rest?;
        let start = last_start(list);
        self.rest = start.checked_sub(1).map(|comma| &list[..comma]);
        Some(list[start..].trim_ascii())
    }
}

/// Where the last item of `list` starts. Quotes can only be told from the front; without any, the last comma is it.
fn last_start(list: &[u8]) -> usize {
    if !list.contains(&b'"') {
        return list.iter().rposition(|octet| *octet == b',').map_or(0, |comma| comma + 1);
    }
    let (mut start, mut is_quoted, mut is_escaped) = (0, false, false);
    for (at, octet) in list.iter().enumerate() {
        match octet {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => start = at + 1,
            _ => {}
        }
    }
    start
}

/// One element of `Forwarded`.
#[derive(Default)]
struct Element<'r> {
    node: Option<&'r [u8]>,
    proto: Option<&'r [u8]>,
    host: Option<&'r [u8]>,
}

/// `None` when it is malformed: then nothing in it counts, nor what was written before it.
fn read_element(item: &[u8]) -> Option<Element<'_>> {
    let mut element = Element::default();
    for pair in item.split(|octet| *octet == b';') {
        // No value that counts holds a semicolon; quotes that do become malformed pairs here.
        let pair = pair.trim_ascii();
        if pair.is_empty() {
            continue;
        }
        let equal = pair.iter().position(|octet| *octet == b'=')?;
        let (name, value) = (&pair[..equal], unquoted(&pair[equal + 1..])?);
        let place = match name {
            _ if name.eq_ignore_ascii_case(b"for") => &mut element.node,
            _ if name.eq_ignore_ascii_case(b"proto") => &mut element.proto,
            _ if name.eq_ignore_ascii_case(b"host") => &mut element.host,
            _ => continue,
        };
        // RFC 7239, section 4: each parameter at most once.
        if place.replace(value).is_some() {
            return None;
        }
    }
    Some(element)
}

/// What stands in quotes, or `value` without any. `None` when they do not match, or with an escape, which no address, scheme
/// or host needs.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    let inner = match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    };
    (!inner.contains(&b'"') && !inner.contains(&b'\\')).then_some(inner)
}

/// The address of a node: with or without port, IPv6 with or without brackets. `None` for `unknown` and names.
fn read_node(node: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(node).ok()?;
    let bracketed = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        Some(IpAddr::V6(inner.parse::<Ipv6Addr>().ok()?))
    };
    let address = text.parse::<IpAddr>().ok().or_else(bracketed);
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address| address.to_canonical())
}

fn read_scheme(value: &[u8]) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|scheme| value.eq_ignore_ascii_case(scheme.as_bytes()))
}

/// A host with an optional port, as far as its characters tell.
fn read_host(value: &[u8]) -> Option<&str> {
    let is_allowed = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%:[]".contains(octet);
    let is_host = !value.is_empty() && value.len() <= HOST_LEN_MAX && value.iter().all(is_allowed);
    if is_host { str::from_utf8(value).ok() } else { None }
}

/// A name of 255 octets with brackets and port has room in it.
const HOST_LEN_MAX: usize = 300;

#[cfg(test)]
mod tests;
