//! Queries written octet by octet, and answers read by hickory.

use hickory_proto::op::Message;
use hickory_proto::rr::Record;

use crate::answer::{Outcome, Peer, Snapshot, Transport, Turn, answer};
use crate::wire::{Name, Rtype};

/// A query in the making.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) id: u16,
    pub(super) flags: u16,
    pub(super) name: String,
    pub(super) qtype: Rtype,
    pub(super) class: u16,
    pub(super) opt: Option<Opt>,
    pub(super) peer: &'static str,
    pub(super) transport: Transport,
}

/// An OPT record in the making.
#[derive(Clone, Debug)]
pub(super) struct Opt {
    pub(super) payload: u16,
    pub(super) version: u8,
    pub(super) flags: u16,
    pub(super) options: Vec<u8>,
}

pub(super) fn ask(name: &str, qtype: Rtype) -> Ask {
    let name = name.to_owned();
    Ask { id: 0x1234, flags: 0, name, qtype, class: 1, opt: None, peer: "203.0.113.9", transport: Transport::Udp }
}

impl Ask {
    pub(super) fn tcp(self) -> Self {
        Self { transport: Transport::Tcp, ..self }
    }

    pub(super) fn from(self, peer: &'static str) -> Self {
        Self { peer, ..self }
    }

    pub(super) fn edns(self, payload: u16) -> Self {
        let opt = Opt { payload, version: 0, flags: 0, options: Vec::new() };
        Self { opt: Some(opt), ..self }
    }

    pub(super) fn option(self, code: u16, data: &[u8]) -> Self {
        let mut ask = if self.opt.is_some() { self } else { self.edns(1232) };
        if let Some(opt) = &mut ask.opt {
            opt.options.extend(code.to_be_bytes());
            opt.options.extend((data.len() as u16).to_be_bytes());
            opt.options.extend(data);
        }
        ask
    }

    /// With a client subnet: `192.0.2.0/24`.
    pub(super) fn ecs(self, subnet: &str) -> Self {
        let net: ipnet::IpNet = subnet.parse().expect("a network");
        let (family, octets) = match net.network() {
            std::net::IpAddr::V4(v4) => (1, v4.octets().to_vec()),
            std::net::IpAddr::V6(v6) => (2, v6.octets().to_vec()),
        };
        let len = net.prefix_len();
        let mut data = vec![0, family, len, 0];
        data.extend(&octets[..usize::from(len).div_ceil(8)]);
        self.option(8, &data)
    }

    pub(super) fn packet(&self) -> Vec<u8> {
        let mut packet = Vec::new();
        for word in [self.id, self.flags, 1, 0, 0, u16::from(self.opt.is_some())] {
            packet.extend(word.to_be_bytes());
        }
        packet.extend(Name::parse(&self.name, &Name::root()).expect("a name").as_wire());
        packet.extend(self.qtype.0.to_be_bytes());
        packet.extend(self.class.to_be_bytes());
        if let Some(opt) = &self.opt {
            packet.extend([0, 0, 41]);
            packet.extend(opt.payload.to_be_bytes());
            packet.extend([0, opt.version]);
            packet.extend(opt.flags.to_be_bytes());
            packet.extend((opt.options.len() as u16).to_be_bytes());
            packet.extend(&opt.options);
        }
        packet
    }

    pub(super) fn peer(&self) -> Peer {
        Peer { address: self.peer.parse().expect("an address"), transport: self.transport }
    }

    /// The answer and what the engine says about it.
    pub(super) fn of(&self, snapshot: &Snapshot) -> Reply {
        Reply::to(&self.packet(), &self.peer(), snapshot).expect("an answer")
    }
}

/// The time of turns without another.
pub(super) const NOW_SECS: u32 = 1_800_000_000;

/// A decoded answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) octets: Vec<u8>,
    pub(super) message: Message,
    pub(super) outcome: Outcome,
}

impl Reply {
    /// `None` when the packet was dropped.
    pub(super) fn to(packet: &[u8], peer: &Peer, snapshot: &Snapshot) -> Option<Self> {
        Self::at(&Turn::unlimited(NOW_SECS), packet, peer, snapshot)
    }

    /// The same in `turn`.
    pub(super) fn at(turn: &Turn<'_>, packet: &[u8], peer: &Peer, snapshot: &Snapshot) -> Option<Self> {
        let mut out = vec![0xAA; 65535];
        let outcome = answer(snapshot, turn, peer, packet, &mut out);
        let Outcome::Sent { len, .. } = outcome else { return None };
        let octets = out[..len].to_vec();
        let message = Message::from_vec(&octets).expect("hickory reads the answer");
        Some(Self { octets, message, outcome })
    }

    pub(super) fn rcode(&self) -> &'static str {
        let Outcome::Sent { rcode, .. } = self.outcome else { return "dropped" };
        rcode.as_str()
    }

    pub(super) fn answers(&self) -> Vec<String> {
        texts(&self.message.answers)
    }

    pub(super) fn authorities(&self) -> Vec<String> {
        texts(&self.message.authorities)
    }

    pub(super) fn additionals(&self) -> Vec<String> {
        texts(&self.message.additionals)
    }

    /// The options in the OPT record, which is the last one.
    pub(super) fn options(&self) -> Vec<(u16, Vec<u8>)> {
        let word = |octets: &[u8]| u16::from_be_bytes([octets[0], octets[1]]);
        let is_opt = |&at: &usize| {
            let record = &self.octets[at..];
            record.starts_with(&[0, 0, 41]) && record.len() == 11 + usize::from(word(&record[9..]))
        };
        let opt = (12..=self.octets.len().saturating_sub(11)).find(is_opt);
        let mut rest = opt.map_or(&[][..], |opt| &self.octets[opt + 11..]);
        let mut found = Vec::new();
        while let [c0, c1, l0, l1, after @ ..] = rest {
            let (data, next) = after.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
            found.push((u16::from_be_bytes([*c0, *c1]), data.to_vec()));
            rest = next;
        }
        found
    }

    /// The data of the option `code`.
    pub(super) fn option(&self, code: u16) -> Option<Vec<u8>> {
        self.options().into_iter().find(|(known, _)| *known == code).map(|(_, data)| data)
    }

    /// The scope of the client subnet in the answer.
    pub(super) fn scope(&self) -> Option<u8> {
        self.option(8).map(|data| data[3])
    }
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(ToString::to_string).collect()
}
