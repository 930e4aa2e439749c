//! The engine: the octets of a query in, the octets of its answer out.
//!
//! Without allocation, lock, clock, formatting or log, and pure but for the buckets of the [`Gate`] in a [`Turn`]; what
//! the edge counts and logs is in the [`Outcome`].

mod chaos;
mod dname;
mod options;
mod signed;
mod steered;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::snapshot::View;
use shared::topology::{RegionId, ServiceId};

use crate::cookie::{Checked, Secrets, Standing};
use crate::geo::GeoTables;
use crate::limit::{Account, Gate, Verdict};
use crate::wire::{
    CLASS_IN, DropReason, OPCODE_NOTIFY, OPCODE_UPDATE, Query, Rcode, Reply, Rtype, UDP_PAYLOAD_MAX, UDP_PAYLOAD_PLAIN,
};
use crate::zone::{Found, NamePlace, Tail, ZoneSet};

/// Everything that answers need, which all belongs together: immutable, swapped whole.
#[derive(Clone, Debug)]
pub struct Snapshot {
    zones: Arc<ZoneSet>,
    geo: Arc<GeoTables>,
    view: View,
    /// The TTL of each service now, at its [`ServiceId`].
    ttls: Box<[u32]>,
    cookies: Option<Secrets>,
    identity: Arc<Identity>,
}

/// What a node says of itself to who asks. What is not there is not said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// Which of several nodes it is (NSID, RFC 5001); at most [`Identity::NSID_LEN_MAX`] octets.
    pub nsid: Option<Box<str>>,
    /// The TXT records `version.bind` and `version.server` of class CHAOS; at most 255 octets.
    pub version: Option<Box<str>>,
    /// The TXT records `hostname.bind` and `id.server` of class CHAOS (RFC 4892); at most 255 octets.
    pub hostname: Option<Box<str>>,
}

impl Identity {
    /// With it and every other option, an answer of 512 octets still holds the longest question.
    pub const NSID_LEN_MAX: usize = 128;
}

impl Snapshot {
    /// Puts together what was built from one and the same topology, the one in `view`.
    pub fn new(zones: Arc<ZoneSet>, geo: Arc<GeoTables>, view: View) -> Self {
        debug_assert_eq!(zones.steered_count(), view.services.len(), "zones and view of one topology");
        let ttl = |(service, standings): (&shared::topology::Service, &shared::snapshot::ServiceView)| {
            if standings.is_degraded() { service.ttl_degraded } else { service.ttl }
        };
        let ttls = view.topology.services.iter().zip(&view.services).map(ttl).collect();
        Self { zones, geo, view, ttls, cookies: None, identity: Arc::default() }
    }

    /// The same, which gives and takes cookies made with `secrets`; `None`: it takes no notice of any.
    pub fn with_cookies(self, secrets: Option<Secrets>) -> Self {
        Self { cookies: secrets, ..self }
    }

    /// The same, which says `identity` of itself.
    pub fn with_identity(self, identity: Arc<Identity>) -> Self {
        Self { identity, ..self }
    }

    /// The zones.
    pub fn zones(&self) -> &Arc<ZoneSet> {
        &self.zones
    }

    /// The places.
    pub fn geo(&self) -> &Arc<GeoTables> {
        &self.geo
    }

    /// The health.
    pub fn view(&self) -> &View {
        &self.view
    }
}

/// What holds for all queries of one turn of an edge's loop.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// Seconds since 1970, modulo 2^32: the time of cookies.
    pub unix_secs: u32,
    /// What limits the answers; `None`: nothing does.
    pub gate: Option<Gate<'a>>,
    /// How long the connection that the queries came by may wait for the next one; `None`: there is none, or it does not
    /// say (RFC 7828, section 3.3.1).
    pub idle: Option<Duration>,
}

impl Turn<'static> {
    /// One at `unix_secs` without limits.
    pub fn unlimited(unix_secs: u32) -> Self {
        Self { unix_secs, gate: None, idle: None }
    }

    /// The same for queries by a connection that may wait for `idle`.
    pub fn on_connection(self, idle: Duration) -> Self {
        Self { idle: Some(idle), ..self }
    }
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The address of the resolver.
    pub address: IpAddr,
    /// What carries the answer.
    pub transport: Transport,
}

/// What carries an answer, and so how long it may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// One datagram: 512 octets, or what the client takes up to 1232.
    Udp,
    /// A stream: 65535 octets.
    Tcp,
    /// A stream over TLS (RFC 7858), as long.
    Tls,
    /// HTTP over TLS (RFC 8484), as long.
    Https,
    /// A stream over QUIC (RFC 9250), as long.
    Quic,
}

impl Transport {
    /// All there are, each at its number.
    pub const ALL: [Self; 5] = [Self::Udp, Self::Tcp, Self::Tls, Self::Https, Self::Quic];

    /// Whether nobody between can read what it carries.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Https | Self::Quic)
    }

    /// The word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::Quic => "quic",
        }
    }
}

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// An answer was written.
    Sent {
        /// Its octets.
        len: usize,
        /// The response code, the EDNS part included.
        rcode: Rcode,
        /// The type asked for; 0 when the question could not be read.
        qtype: Rtype,
        /// Whether it did not fit, so that the client must come back over TCP.
        is_truncated: bool,
        /// What was decided, when the name is steered.
        steered: Option<Decided>,
        /// What the cookie showed.
        cookie: Standing,
        /// Whether the records were left out because the client's network has had its share of them: so the answer is
        /// truncated, or BADCOOKIE for who can come again with the cookie in it.
        is_limited: bool,
    },
    /// No answer is due.
    Dropped(DropReason),
    /// Nothing is decided: what is asked (an update, a notification, a transfer, anything that is signed by a key) is
    /// rare, and the edge answers it beside the line of queries.
    Slow,
}

/// What was decided for one query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decided {
    /// The service asked for.
    pub service: ServiceId,
    /// The region that answers; `None`: nobody does, and the answer is empty.
    pub region: Option<RegionId>,
    /// Whether nobody was fit to serve and the last resort answers.
    pub is_last_resort: bool,
}

impl Decided {
    /// Whether no region was fit to serve the client.
    fn is_poor(self) -> bool {
        self.is_last_resort || self.region.is_none()
    }
}

/// What a finished answer says beside its records.
struct Answered {
    rcode: Rcode,
    is_authoritative: bool,
    counts: [u16; 3],
    /// ECS scope.
    scope_len: u8,
    steered: Option<Decided>,
    account: Account,
}

/// Answers the message `query` from `peer` into `out`, which takes 1232 octets over UDP and 65535 over all else.
///
/// Everything but a response, less than a header, what is limited and what is left to the edge is answered. Costs no
/// allocation.
pub fn answer(snapshot: &Snapshot, turn: &Turn<'_>, peer: &Peer, query: &[u8], out: &mut [u8]) -> Outcome {
    let packet = query;
    let mut query = match Query::parse(packet) {
        Ok(query) => query,
        Err(reason) => return Outcome::Dropped(reason),
    };
    let mut limit = limit(&query, peer.transport);
    if !query.extras.is_empty() {
        limit -= options::prepare(snapshot, turn, &mut query);
    }
    let checked = snapshot.check_cookie(&query, peer, turn);
    let Some(mut reply) = Reply::new(&query, packet, out, limit, checked.as_ref().map(|checked| &checked.reply)) else {
        return Outcome::Dropped(DropReason::NoRoom);
    };
    let cookie = checked.as_ref().map_or(Standing::Absent, |checked| checked.standing);
    let mut answered = match refusal(&query, checked.as_ref().map(|checked| checked.standing)) {
        Some(rcode) if is_slow(&query, rcode) => return set_aside(turn, peer, &query, cookie, reply),
        Some(rcode) => chaos::answer(snapshot, &query, rcode, &mut reply),
        None => records(snapshot, peer, &query, &mut reply),
    };
    let verdict = turn.judge(peer, cookie, answered.account);
    match verdict {
        Verdict::Pass => {}
        Verdict::Slip => answered = answered.curtailed(cookie, &mut reply),
        Verdict::Drop => return Outcome::Dropped(DropReason::Limited),
    }
    let Answered { rcode, is_authoritative, counts, scope_len, steered, .. } = answered;
    let (mut len, is_truncated) = reply.finish(rcode, is_authoritative, counts, scope_len);
    let is_limited = verdict == Verdict::Slip;
    if rcode == Rcode::REFUSED || steered.is_some_and(Decided::is_poor) || !query.extras.is_empty() {
        let said = options::Said { snapshot, turn, peer, query: &query, rcode, steered, is_limited };
        len = said.append(out, len);
    }
    Outcome::Sent { len, rcode, qtype: query.qtype, is_truncated, steered, cookie, is_limited }
}

impl Snapshot {
    fn check_cookie(&self, query: &Query, peer: &Peer, turn: &Turn<'_>) -> Option<Checked> {
        let cookie = query.cookie()?;
        Some(self.cookies.as_ref()?.check(cookie, peer.address, turn.unix_secs))
    }
}

impl Turn<'_> {
    /// Who shows by a cookie, or by a connection, that the address is his own gets all that he asks for.
    fn judge(&self, peer: &Peer, cookie: Standing, account: Account) -> Verdict {
        match self.gate {
            Some(gate) if peer.transport == Transport::Udp && cookie != Standing::Valid => {
                gate.judge(peer.address, account)
            }
            _ => Verdict::Pass,
        }
    }
}

/// The longest reply in octets.
fn limit(query: &Query, transport: Transport) -> usize {
    let limit = match (transport, &query.edns) {
        (Transport::Udp, None) => UDP_PAYLOAD_PLAIN,
        (Transport::Udp, Some(edns)) => edns.udp_payload.clamp(UDP_PAYLOAD_PLAIN, UDP_PAYLOAD_MAX),
        _ => u16::MAX,
    };
    usize::from(limit)
}

/// The code for queries that are answered without looking at the zones.
fn refusal(query: &Query, cookie: Option<Standing>) -> Option<Rcode> {
    if query.fault.is_some() {
        return query.fault;
    }
    if query.question_len == 0 {
        // Only a cookie was asked for, or whether it is still good (RFC 7873, section 5.4).
        return Some(match cookie {
            None => Rcode::FORMERR,
            Some(Standing::Bad) => Rcode::BADCOOKIE,
            Some(_) => Rcode::NOERROR,
        });
    }
    if query.qtype == Rtype::NXNAME {
        // It is only ever in bitmaps (RFC 9824, section 3.5).
        return Some(Rcode::FORMERR);
    }
    let is_refused = query.qclass != CLASS_IN || matches!(query.qtype, Rtype::AXFR | Rtype::IXFR);
    is_refused.then_some(Rcode::REFUSED)
}

/// Whether a query that would be answered by `refusal` alone is one for [`Outcome::Slow`].
///
/// ```text
/// opcode UPDATE, NOTIFY     whatever stands in it (RFC 2136, RFC 1996)
/// type AXFR, IXFR           class IN (RFC 5936, RFC 1995)
/// TSIG as the last record   every type and class (RFC 8945)
/// ```
#[cold]
fn is_slow(query: &Query, refusal: Rcode) -> bool {
    match refusal {
        Rcode::NOTIMP => matches!(query.opcode(), OPCODE_NOTIFY | OPCODE_UPDATE),
        Rcode::REFUSED => query.qclass == CLASS_IN && matches!(query.qtype, Rtype::AXFR | Rtype::IXFR),
        Rcode::NOTAUTH => true,
        _ => false,
    }
}

/// Leaves `query` to the edge, unless its network has had its share: then the answer is a truncated one, so that who
/// really asks comes again over TCP.
#[cold]
fn set_aside(turn: &Turn<'_>, peer: &Peer, query: &Query, cookie: Standing, mut reply: Reply<'_>) -> Outcome {
    match turn.judge(peer, cookie, Account::ERROR) {
        Verdict::Pass => Outcome::Slow,
        Verdict::Drop => Outcome::Dropped(DropReason::Limited),
        Verdict::Slip => {
            let answered = Answered::without_records(Rcode::NOERROR).curtailed(cookie, &mut reply);
            let (rcode, qtype) = (answered.rcode, query.qtype);
            let (len, is_truncated) = reply.finish(rcode, false, answered.counts, 0);
            Outcome::Sent { len, rcode, qtype, is_truncated, steered: None, cookie, is_limited: true }
        }
    }
}

fn records(snapshot: &Snapshot, peer: &Peer, query: &Query, reply: &mut Reply<'_>) -> Answered {
    let wants_signatures = query.edns.as_ref().is_some_and(|edns| edns.is_dnssec_ok);
    if wants_signatures && snapshot.zones.is_signed() {
        return signed::records(snapshot, peer, query, reply);
    }
    if matches!(query.qtype, Rtype::RRSIG | Rtype::NSEC)
        && let Some(answered) = signed::asked_for(snapshot, query, reply)
    {
        return answered;
    }
    plain_records(snapshot, peer, query, reply)
}

/// The records of an answer without signatures.
#[inline]
fn plain_records(snapshot: &Snapshot, peer: &Peer, query: &Query, reply: &mut Reply<'_>) -> Answered {
    let name = NamePlace::question(query.qname().len());
    match snapshot.zones.find(query.qname(), query.qtype) {
        Found::Outside => Answered::without_records(Rcode::REFUSED),
        Found::Static(tail) => Answered::untailored(tail, tail.write(name, reply)),
        Found::Redirected(dname) => dname::answer(dname, snapshot, peer, query, reply),
        Found::Steered { steered, offer, chain, empty } => {
            steered::Asked { snapshot, peer, query, name, steered, offer }.answer(chain, empty, reply)
        }
    }
}

impl Answered {
    fn without_records(rcode: Rcode) -> Self {
        let account = Account::ERROR;
        Self { rcode, is_authoritative: false, counts: [0; 3], scope_len: 0, steered: None, account }
    }

    fn untailored(tail: Tail<'_>, counts: [u16; 3]) -> Self {
        let (rcode, is_authoritative) = (tail.rcode(), tail.is_authoritative());
        Self { rcode, is_authoritative, counts, scope_len: 0, steered: None, account: Account::of(tail.start()) }
    }

    /// The answer without its records: a client that can show its cookie next time is asked to (RFC 7873, sections 5.2.3
    /// and 5.2.4), others must come back over TCP.
    #[cold]
    fn curtailed(self, cookie: Standing, reply: &mut Reply<'_>) -> Self {
        if cookie == Standing::Absent {
            reply.truncate();
            return Self { steered: None, ..self };
        }
        reply.clear();
        Self::without_records(Rcode::BADCOOKIE)
    }
}
