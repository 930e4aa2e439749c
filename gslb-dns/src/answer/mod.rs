//! The engine: the octets of a query in, the octets of its answer out.
//!
//! Without allocation, lock, clock, formatting or log, and pure but for the buckets of the [`Gate`] in a [`Turn`]; what
//! the edge counts and logs is in the [`Outcome`].

mod dname;
mod steered;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use shared::snapshot::View;
use shared::topology::{RegionId, ServiceId};

use crate::cookie::{Checked, Secrets, Standing};
use crate::geo::GeoTables;
use crate::limit::{Account, Gate, Verdict};
use crate::wire::{CLASS_IN, DropReason, Query, Rcode, Reply, Rtype, UDP_PAYLOAD_MAX, UDP_PAYLOAD_PLAIN};
use crate::zone::{Found, NamePlace, Signed, Tail, ZoneSet};

/// Everything that answers need, which all belongs together: immutable, swapped whole.
#[derive(Clone, Debug)]
pub struct Snapshot {
    zones: Arc<ZoneSet>,
    geo: Arc<GeoTables>,
    view: View,
    /// The TTL of each service now, at its [`ServiceId`].
    ttls: Box<[u32]>,
    cookies: Option<Secrets>,
}

impl Snapshot {
    /// Puts together what was built from one and the same topology, the one in `view`.
    pub fn new(zones: Arc<ZoneSet>, geo: Arc<GeoTables>, view: View) -> Self {
        debug_assert_eq!(zones.steered_count(), view.services.len(), "zones and view of one topology");
        let ttl = |(service, standings): (&shared::topology::Service, &shared::snapshot::ServiceView)| {
            if standings.is_degraded() { service.ttl_degraded } else { service.ttl }
        };
        let ttls = view.topology.services.iter().zip(&view.services).map(ttl).collect();
        Self { zones, geo, view, ttls, cookies: None }
    }

    /// The same, which gives and takes cookies made with `secrets`; `None`: it takes no notice of any.
    pub fn with_cookies(self, secrets: Option<Secrets>) -> Self {
        Self { cookies: secrets, ..self }
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
}

impl Turn<'static> {
    /// One at `unix_secs` without limits.
    pub fn unlimited(unix_secs: u32) -> Self {
        Self { unix_secs, gate: None }
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

/// Answers the message `query` from `peer` into `out`, which takes 65535 octets over TCP and 1232 over UDP.
///
/// Everything but a response, less than a header and what is limited is answered. Costs no allocation.
pub fn answer(snapshot: &Snapshot, turn: &Turn<'_>, peer: &Peer, query: &[u8], out: &mut [u8]) -> Outcome {
    let packet = query;
    let query = match Query::parse(packet) {
        Ok(query) => query,
        Err(reason) => return Outcome::Dropped(reason),
    };
    let checked = snapshot.check_cookie(&query, peer, turn);
    let limit = limit(&query, peer.transport);
    let Some(mut reply) = Reply::new(&query, packet, out, limit, checked.as_ref().map(|checked| &checked.reply)) else {
        return Outcome::Dropped(DropReason::NoRoom);
    };
    let mut answered = match refusal(&query, checked.as_ref().map(|checked| checked.standing)) {
        Some(rcode) => Answered::without_records(rcode),
        None => records(snapshot, peer, &query, &mut reply),
    };
    let cookie = checked.map_or(Standing::Absent, |checked| checked.standing);
    let verdict = turn.judge(peer, cookie, answered.account);
    match verdict {
        Verdict::Pass => {}
        Verdict::Slip => answered = answered.curtailed(cookie, &mut reply),
        Verdict::Drop => return Outcome::Dropped(DropReason::Limited),
    }
    let Answered { rcode, is_authoritative, counts, scope_len, steered, .. } = answered;
    let (len, is_truncated) = reply.finish(rcode, is_authoritative, counts, scope_len);
    let is_limited = verdict == Verdict::Slip;
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
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => UDP_PAYLOAD_PLAIN,
        (Transport::Udp, Some(edns)) => edns.udp_payload.clamp(UDP_PAYLOAD_PLAIN, UDP_PAYLOAD_MAX),
    };
    usize::from(limit)
}

/// The code for queries that are answered without looking at the zones. Transfers come over another path.
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
    let is_refused = query.qclass != CLASS_IN || matches!(query.qtype, Rtype::AXFR | Rtype::IXFR);
    is_refused.then_some(Rcode::REFUSED)
}

fn records(snapshot: &Snapshot, peer: &Peer, query: &Query, reply: &mut Reply<'_>) -> Answered {
    let name = NamePlace::question(query.qname().len());
    match find(snapshot, query, query.qname()) {
        Found::Outside => Answered::without_records(Rcode::REFUSED),
        Found::Static(tail) => Answered::untailored(tail, tail.write(name, reply)),
        Found::Redirected(dname) => dname::answer(dname, snapshot, peer, query, reply),
        Found::Steered { steered, offer, chain, empty, signed } => {
            let qname = query.qname();
            steered::Asked { snapshot, peer, query, qname, name, steered, offer, signed }.answer(chain, empty, reply)
        }
        Found::Signed(signed) => Answered::signed(signed, signed.write(query.qname(), name, reply)),
    }
}

/// Finds the answer for `name`, in lower case; with signatures where these are asked for.
fn find<'a>(snapshot: &'a Snapshot, query: &Query, name: &[u8]) -> Found<'a> {
    let wants_signatures = query.edns.as_ref().is_some_and(|edns| edns.is_dnssec_ok);
    if wants_signatures {
        snapshot.zones.find_signed(name, query.qtype)
    } else {
        snapshot.zones.find(name, query.qtype)
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

    fn signed(signed: Signed<'_>, counts: [u16; 3]) -> Self {
        let (rcode, is_authoritative) = (signed.rcode(), signed.is_authoritative());
        Self { rcode, is_authoritative, counts, scope_len: 0, steered: None, account: Account::of(signed.start()) }
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
