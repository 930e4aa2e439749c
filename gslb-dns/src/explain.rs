//! Why a client gets the answer it gets: every region with its distance, verdict and reason, and the answer itself.
//!
//! The answer is made by the engine from a real query with the client's subnet, and read back; the reasons come from the
//! same rules over the same snapshot. So an explanation cannot say anything else than what is served.

mod chosen;
mod listed;
mod svcb;
mod text;

use std::net::IpAddr;
use std::str::FromStr;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use ipnet::IpNet;
use serde::Serialize;
use shared::failover::{self, Because, ExplainedRegion};
use shared::moment::Moment;
use shared::name::OwnerName;
use shared::place::{ClientBlock, Place};
use shared::snapshot::{TwoActives, Verdict, View, VipStanding};
use shared::topology::{Policy, RegionId, Service, ServiceId};

use crate::answer::{Outcome, Peer, Snapshot, Transport, Turn, answer};
use crate::geo::{Depth, GeoData, Located, Origin};
use crate::wire::Rtype;
use crate::zone::Found;

use chosen::Choice;
pub(crate) use listed::listed;

/// What is to be explained.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    name: Name,
    client: IpAddr,
    qtype: RecordType,
}

/// Why a question cannot be asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum QuestionError {
    /// The name is none.
    #[error("{0:?} is not a domain name: expected one such as www.example.com")]
    Name(String),
    /// The client is none.
    #[error("{0:?} is not an IP address: expected one such as 192.0.2.1 or 2001:db8::1")]
    Client(String),
    /// The type is none.
    #[error("{0:?} is not a record type: expected one such as A, AAAA or HTTPS")]
    Type(String),
}

/// The name asked for lies in no zone of the server, so that there is nothing to explain: every answer is REFUSED.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{name} lies in no zone served here: expected a name in {zones}{meant}")]
pub struct NotServed {
    /// The name, without the final dot.
    name: String,
    /// The zones, a few of them.
    zones: String,
    /// Services whose names start with it, a few of them, after ", such as "; empty where there is none.
    meant: String,
}

/// The explanation of one question.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// What an operator must know before anything else: that this node doubts itself, that two proxies hold a VIP.
    pub alarm: Option<String>,
    /// The name asked for.
    pub name: String,
    /// The type asked for.
    #[serde(rename = "type")]
    pub qtype: String,
    /// The client.
    pub client: IpAddr,
    /// Where the client is.
    pub located: ExplainedPlace,
    /// How it was decided; `None`: the name is not steered, so that everybody gets the same.
    pub service: Option<ExplainedService>,
    /// What the client gets.
    pub answer: ExplainedAnswer,
}

/// Where a client is, and what says so.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedPlace {
    /// The place; every part may be unknown.
    #[serde(flatten)]
    pub place: Place,
    /// The network around the client that has this place.
    pub network: String,
    /// `override`, `database` or `nothing`.
    pub from: &'static str,
    /// Line in the overrides.
    pub line: Option<usize>,
    /// The client whose place decides in place of this one: the place of most of its block, which is as finely as
    /// resolvers tell clients apart. `None`: its own place decides.
    pub decided_as: Option<IpAddr>,
}

/// How it was decided for a service.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedService {
    /// The service.
    pub name: OwnerName,
    /// Its policy.
    pub policy: &'static str,
    /// The regions that answer, best first.
    pub chosen: Vec<String>,
    /// Why they do, in a few words.
    pub chosen_by: String,
    /// Whether nobody was fit to serve and the last resort answers.
    pub is_last_resort: bool,
    /// Whether this node doubts itself, so that verdicts are frozen.
    pub doubts_itself: bool,
    /// Its regions, best first.
    pub regions: Vec<RegionLine>,
}

/// What became of one region.
#[derive(Clone, Debug, Serialize)]
pub struct RegionLine {
    /// The region.
    pub region: String,
    /// Kilometres from the client, where both places are known.
    pub distance_km: Option<u32>,
    /// What put it at its place in the order.
    pub because: Because,
    /// What it may do.
    pub verdict: Verdict,
    /// Share of its clients that it takes, in percent.
    pub share_percent: u8,
    /// Its weight, where the policy goes by weight.
    pub weight: Option<u32>,
    /// What the decision made of it.
    pub outcome: &'static str,
    /// Why it has its verdict.
    pub reason: String,
    /// Its VIPs for this service.
    pub vips: Vec<IpAddr>,
    /// Its TXT records; `None`: the service has none.
    pub txt: Option<Vec<String>>,
    /// The proxies that hold these VIPs; where they do so in turn, the one that counts.
    pub vip_holders: Vec<String>,
    /// Where its clients are sent in place of VIPs.
    pub cname: Option<OwnerName>,
}

/// What a client gets.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedAnswer {
    /// The response code.
    pub rcode: String,
    /// The records of the answer section, as in a master file.
    pub records: Vec<AnswerRecord>,
    /// For whom the answer holds: the ECS scope prefix length.
    pub scope: Option<u8>,
}

/// One record of the answer.
#[derive(Clone, Debug, Serialize)]
pub struct AnswerRecord {
    /// The owner name.
    pub name: String,
    /// Seconds.
    pub ttl: u32,
    /// The type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// The data.
    pub data: String,
}

impl Question {
    /// Reads `name`, `client` and `qtype` as people write them.
    pub fn parse(name: &str, client: &str, qtype: &str) -> Result<Self, QuestionError> {
        let mut parsed = Name::from_ascii(name).map_err(|_| QuestionError::Name(name.to_owned()))?;
        if name.is_empty() {
            return Err(QuestionError::Name(name.to_owned()));
        }
        parsed.set_fqdn(true);
        let client: IpAddr = client.parse().map_err(|_| QuestionError::Client(client.to_owned()))?;
        let upper = qtype.to_ascii_uppercase();
        let known = RecordType::from_str(&upper).ok().filter(|known| !matches!(known, RecordType::OPT));
        let numbered =
            || upper.strip_prefix("TYPE").and_then(|number| number.parse::<u16>().ok()).map(RecordType::from);
        let qtype = known.or_else(numbered).ok_or_else(|| QuestionError::Type(qtype.to_owned()))?;
        Ok(Self { name: parsed, client: client.to_canonical(), qtype })
    }

    /// Whether its name lies in a zone of `snapshot`.
    fn is_served(&self, snapshot: &Snapshot) -> bool {
        let qname = self.name.to_lowercase().to_bytes().unwrap_or_default();
        // Which type is asked makes no difference to that.
        !matches!(snapshot.zones().find(&qname, Rtype::A), Found::Outside)
    }

    /// The query that a resolver sends for the client, with the client's subnet in it (RFC 7871).
    fn query(&self) -> Option<Vec<u8>> {
        let block_len = if self.client.is_ipv4() { ClientBlock::V4_LEN } else { ClientBlock::V6_LEN };
        let block = IpNet::new(self.client, block_len).ok()?.trunc();
        let mut edns = Edns::new();
        edns.set_max_payload(u16::MAX).set_version(0);
        edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(block.addr(), block_len, 0)));
        let mut message = Message::query();
        message.add_query(Query::query(self.name.clone(), self.qtype)).set_edns(edns);
        message.to_vec().ok()
    }
}

/// Explains what `snapshot` answers to `question`; `geo_data` is what the places of the snapshot were compiled from.
///
/// Fails when the name lies in no zone.
pub fn explain(snapshot: &Snapshot, geo_data: &GeoData, question: &Question) -> Result<Explained, NotServed> {
    if !question.is_served(snapshot) {
        return Err(NotServed::new(snapshot, question));
    }
    let (answer, service) = asked(snapshot, question);
    let witness = snapshot.geo().witness(question.client, Depth::Subnet);
    let place = geo_data.place(witness).place;
    Ok(Explained {
        alarm: alarms(snapshot.view()).into_iter().map(|(_, what)| what).reduce(|all, next| format!("{all}; {next}")),
        name: question.name.to_ascii(),
        qtype: question.qtype.to_string(),
        client: question.client,
        located: ExplainedPlace::new(geo_data.place(question.client), (witness != question.client).then_some(witness)),
        service: service.map(|service| explain_service(snapshot, service, &place, witness)),
        answer,
    })
}

/// Asks the engine, and reads what it says.
fn asked(snapshot: &Snapshot, question: &Question) -> (ExplainedAnswer, Option<ServiceId>) {
    let Some(query) = question.query() else { return (ExplainedAnswer::failed("not a query"), None) };
    let mut room = vec![0; usize::from(u16::MAX)];
    let peer = Peer { address: question.client, transport: Transport::Tcp };
    // The query brings no cookie, so that the time does not matter.
    let Outcome::Sent { len, steered, .. } = answer(snapshot, &Turn::unlimited(0), &peer, &query, &mut room) else {
        return (ExplainedAnswer::failed("dropped"), None);
    };
    let service = steered.map(|decided| decided.service);
    match Message::from_vec(&room[..len]) {
        Ok(message) => (ExplainedAnswer::new(&message), service),
        Err(error) => (ExplainedAnswer::failed(&format!("unreadable: {error}")), service),
    }
}

fn explain_service(snapshot: &Snapshot, id: ServiceId, place: &Place, address: IpAddr) -> ExplainedService {
    let view = snapshot.view();
    let service = view.topology.service(id);
    let steering = view.topology.steering(service);
    let explanation = failover::explain(view, id, place, address);
    let choice = Choice::new(&view.topology, steering, &explanation, place, address);
    let line = |region: &ExplainedRegion| {
        let weight = (steering.policy == Policy::Weighted).then(|| steering.member(region.member).weight);
        let standings = view.vips(steering.member(region.member).region);
        RegionLine::new(region, weight, service, standings)
    };
    ExplainedService {
        name: service.name.clone(),
        policy: steering.policy.as_str(),
        chosen: choice.regions,
        chosen_by: choice.by,
        is_last_resort: explanation.decision.is_last_resort,
        doubts_itself: view.doubts_itself_since.is_some(),
        regions: explanation.regions.iter().map(line).collect(),
    }
}

impl ExplainedPlace {
    fn new(located: Located, decided_as: Option<IpAddr>) -> Self {
        let (from, line) = match located.from {
            Origin::Override { line } => ("override", Some(line)),
            Origin::Database => ("database", None),
            Origin::Nothing => ("nothing", None),
        };
        Self { place: located.place, network: located.network.to_string(), from, line, decided_as }
    }
}

impl RegionLine {
    fn new(region: &ExplainedRegion, weight: Option<u32>, service: &Service, standings: &[VipStanding]) -> Self {
        let vips = service.vips_of(region.member);
        let mut holders: Vec<String> = Vec::new();
        for standing in standings.iter().filter(|standing| vips.contains(&standing.vip)) {
            let count = if standing.is_in_turn { 1 } else { usize::MAX };
            let names = standing.holders.iter().take(count).map(ToString::to_string);
            for name in names {
                if !holders.contains(&name) {
                    holders.push(name);
                }
            }
        }
        Self {
            region: region.region.to_string(),
            distance_km: region.distance_km,
            because: region.because,
            verdict: region.verdict,
            share_percent: region.share.percent(),
            weight,
            outcome: region.outcome.as_str(),
            reason: region.reason.clone(),
            vips: vips.to_vec(),
            vip_holders: holders,
            txt: service.txt_of(region.member).map(<[String]>::to_vec),
            cname: service.cname_of(region.member).cloned(),
        }
    }
}

impl ExplainedAnswer {
    fn new(message: &Message) -> Self {
        let subnet = message.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Subnet));
        let scope = subnet.and_then(|option| match option {
            EdnsOption::Subnet(subnet) => Some(subnet.scope_prefix()),
            _ => None,
        });
        Self {
            rcode: rcode_word(message.metadata.response_code),
            records: message.answers.iter().map(AnswerRecord::new).collect(),
            scope,
        }
    }

    fn failed(why: &str) -> Self {
        Self { rcode: why.to_owned(), records: Vec::new(), scope: None }
    }
}

impl AnswerRecord {
    fn new(record: &Record<RData>) -> Self {
        Self {
            name: record.name.to_ascii(),
            ttl: record.ttl,
            rtype: record.record_type().to_string(),
            data: presented(&record.data),
        }
    }
}

/// As in a master file.
fn presented(data: &RData) -> String {
    if let RData::TXT(texts) = data {
        let strings = texts.txt_data.iter().map(|string| svcb::character_string(string));
        return strings.collect::<Vec<_>>().join(" ");
    }
    let octets = matches!(data, RData::HTTPS(_) | RData::SVCB(_)).then(|| data.to_bytes().ok()).flatten();
    octets.and_then(|octets| svcb::presented(&octets)).unwrap_or_else(|| data.to_string())
}

fn rcode_word(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => other.to_string(),
    }
}

impl NotServed {
    fn new(snapshot: &Snapshot, question: &Question) -> Self {
        let name = without_dot(&question.name.to_ascii()).to_owned();
        let start = format!("{}.", name.to_ascii_lowercase());
        let services = snapshot.view().topology.services.iter().map(|service| service.name.as_str());
        let meant: Vec<&str> = services.filter(|service| service.starts_with(&start)).collect();
        let zones = listed(snapshot.zones().zones().map(|(zone, _)| without_dot(&zone.to_string()).to_owned()));
        let meant = if meant.is_empty() { String::new() } else { format!(", such as {}", listed(meant)) };
        Self { name, zones, meant }
    }
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(name)
}

/// What must not be overlooked, each with since when.
pub(crate) fn alarms(view: &View) -> Vec<(Moment, String)> {
    let doubt = view.doubts_itself_since.map(|since| (since, DOUBT.to_owned()));
    doubt.into_iter().chain(view.topology.region_ids().flat_map(|id| two_actives(view, id))).collect()
}

/// Of the VIPs of a region; those of which the same is to be told stand together.
fn two_actives(view: &View, id: RegionId) -> Vec<(Moment, String)> {
    let region = &view.topology.region(id).name;
    let mut told: Vec<(&TwoActives, String)> = Vec::new();
    for standing in view.vips(id) {
        let Some(alarm) = &standing.two_actives else { continue };
        match told.iter_mut().find(|(other, _)| *other == alarm) {
            Some((_, vips)) => *vips += &format!(", {}", standing.vip),
            None => told.push((alarm, standing.vip.to_string())),
        }
    }
    told.into_iter().map(|(alarm, vips)| (alarm.since, format!("{region}: {vips}: {alarm}"))).collect()
}

/// What is said first while a node doubts itself.
const DOUBT: &str = "this node doubts itself: all regions are unreachable, so verdicts are frozen as they were";

#[cfg(test)]
mod tests;
