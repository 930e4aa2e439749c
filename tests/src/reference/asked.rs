//! What a query asks, read octet by octet (RFC 1035, section 4.1; RFC 6891; RFC 7871, section 6).

use std::net::IpAddr;

use hickory_proto::rr::{Name, RecordType};

use super::{BADVERS, FORMERR, NOTAUTH, NOTIMP};

/// A query.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The message id.
    pub id: u16,
    /// The second pair of header octets.
    pub flags: u16,
    /// The question; `None` when there is none that can be repeated.
    pub question: Option<Question>,
    /// The OPT record.
    pub opt: Option<Opt>,
    /// The response code of a query that is answered without looking at any zone.
    pub fault: Option<u16>,
}

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// As they were asked.
    pub octets: Vec<u8>,
    /// The name.
    pub name: Name,
    /// The type.
    pub rtype: RecordType,
    class: u16,
}

/// What an OPT record says.
#[derive(Clone, Debug)]
pub struct Opt {
    /// The longest UDP answer that the client takes.
    pub udp_payload: u16,
    /// DO.
    pub is_dnssec_ok: bool,
    /// The client subnet.
    pub subnet: Option<Subnet>,
    /// Whether the version of the zone is asked for.
    pub wants_zone_version: bool,
    version: u8,
}

/// A client subnet option.
#[derive(Clone, Debug)]
pub struct Subnet {
    data: Vec<u8>,
}

/// A record in a message; names in it are not read.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// Whether the owner is the root.
    pub is_root: bool,
    /// The type.
    pub rtype: u16,
    /// The class.
    pub class: u16,
    /// The TTL.
    pub ttl: u32,
    /// The data.
    pub data: &'a [u8],
}

/// Reads a message from its start.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    /// The message.
    pub message: &'a [u8],
    /// Where the next octet is.
    pub at: usize,
}

impl Asked {
    /// `None`: the message gets no answer.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let mut cursor = Cursor { message: packet, at: 0 };
        let (id, flags) = (cursor.word()?, cursor.word()?);
        let counts = [cursor.word()?, cursor.word()?, cursor.word()?, cursor.word()?];
        if flags & 0x8000 != 0 {
            return None;
        }
        let mut asked = Self { id, flags, question: None, opt: None, fault: None };
        asked.fault = if flags & 0x7800 != 0 { Some(NOTIMP) } else { asked.read_body(&mut cursor, counts).err() };
        Some(asked)
    }

    /// Whether it is left to the edge: an update, a notification, a transfer, or a message signed by a key.
    pub fn is_slow(&self) -> bool {
        let opcode = self.flags >> 11 & 0x0F;
        let is_transfer =
            |question: &Question| question.class == 1 && [RecordType::AXFR, RecordType::IXFR].contains(&question.rtype);
        match self.fault {
            Some(NOTIMP) => [4, 5].contains(&opcode),
            Some(fault) => fault == NOTAUTH,
            None => self.question.as_ref().is_some_and(is_transfer),
        }
    }

    fn read_body(&mut self, cursor: &mut Cursor<'_>, counts: [u16; 4]) -> Result<(), u16> {
        let [questions, answers, authorities, additionals] = counts;
        if questions > 1 {
            return Err(FORMERR);
        }
        if questions == 1 {
            self.question = Some(cursor.question().ok_or(FORMERR)?);
        }
        for _ in 0..usize::from(answers) + usize::from(authorities) {
            let record = cursor.record().ok_or(FORMERR)?;
            // Pseudo-records have their place (RFC 6891, section 6.1.1; RFC 8945, section 5.1).
            if [OPT, TSIG].contains(&record.rtype) {
                return Err(FORMERR);
            }
        }
        let mut is_signed = false;
        for at in 1..=additionals {
            let record = cursor.record().ok_or(FORMERR)?;
            if record.rtype == OPT {
                if self.opt.is_some() || !record.is_root {
                    return Err(FORMERR);
                }
                self.opt = Some(Opt::new(record));
                if record.ttl >> 16 & 0xFF == 0 {
                    let (subnet, wants_zone_version) = read_options(record.data)?;
                    self.opt = self.opt.take().map(|opt| Opt { subnet, wants_zone_version, ..opt });
                }
            }
            if record.rtype == TSIG {
                is_signed = true;
                if at < additionals {
                    return Err(FORMERR);
                }
            }
        }
        if cursor.at < cursor.message.len() {
            Err(FORMERR)
        } else if self.opt.as_ref().is_some_and(|opt| opt.version > 0) {
            Err(BADVERS)
        } else if questions == 0 {
            Err(FORMERR)
        } else if is_signed {
            Err(NOTAUTH)
        } else {
            Ok(())
        }
    }
}

impl Question {
    /// Whether it is for another class than IN.
    pub fn is_refused(&self) -> bool {
        self.class != 1
    }

    /// Whether it is for a transfer.
    pub fn is_transfer(&self) -> bool {
        [RecordType::AXFR, RecordType::IXFR].contains(&self.rtype)
    }
}

impl Opt {
    fn new(record: RawRecord<'_>) -> Self {
        let version = (record.ttl >> 16) as u8;
        let is_dnssec_ok = record.ttl & 0x8000 != 0;
        Self { udp_payload: record.class, is_dnssec_ok, subnet: None, wants_zone_version: false, version }
    }
}

/// The client subnet among the options `data`, and whether the version of the zone is asked for (RFC 9660); unknown options
/// are passed over, and so are cookies where none are given.
fn read_options(data: &[u8]) -> Result<(Option<Subnet>, bool), u16> {
    let mut cursor = Cursor { message: data, at: 0 };
    let (mut subnet, mut wants_zone_version) = (None, false);
    while cursor.at < data.len() {
        let (code, len) = cursor.word().zip(cursor.word()).ok_or(FORMERR)?;
        let option = cursor.octets(usize::from(len)).ok_or(FORMERR)?;
        wants_zone_version |= code == ZONE_VERSION;
        if code != SUBNET {
            continue;
        }
        if subnet.is_some() || !is_subnet(option) {
            return Err(FORMERR);
        }
        subnet = Some(Subnet { data: option.to_vec() });
    }
    Ok((subnet, wants_zone_version))
}

/// Whether RFC 7871, section 6, is kept: as many octets as the source prefix needs, no bit beyond it, no scope.
fn is_subnet(option: &[u8]) -> bool {
    let [0, family @ 0..=2, source_len, 0, address @ ..] = option else { return false };
    let bits_max = [0, 32, 128][usize::from(*family)];
    let bit = |at: usize| address[at / 8] >> (7 - at % 8) & 1 == 1;
    let source_len = usize::from(*source_len);
    source_len <= bits_max && address.len() == source_len.div_ceil(8) && !(source_len..address.len() * 8).any(bit)
}

impl Subnet {
    /// The client's network, by its first address; `None` when the client does not say.
    pub fn address(&self) -> Option<IpAddr> {
        let [_, family, source_len, _, octets @ ..] = self.data.as_slice() else { return None };
        let mut address = [0; 16];
        address[..octets.len()].copy_from_slice(octets);
        match family {
            _ if *source_len == 0 => None,
            1 => Some(IpAddr::from([address[0], address[1], address[2], address[3]])),
            _ => Some(IpAddr::from(address)),
        }
    }

    /// The data of the option in an answer: as asked, but for the scope.
    pub fn repeated(&self, scope_len: u8) -> Vec<u8> {
        let mut data = self.data.clone();
        data[3] = scope_len;
        data
    }
}

impl<'a> Cursor<'a> {
    /// The next `len` octets.
    pub fn octets(&mut self, len: usize) -> Option<&'a [u8]> {
        let octets = self.message.get(self.at..self.at + len)?;
        self.at += len;
        Some(octets)
    }

    /// The next two.
    pub fn word(&mut self) -> Option<u16> {
        let octets = self.octets(2)?;
        Some(u16::from(octets[0]) << 8 | u16::from(octets[1]))
    }

    /// A question whose name is not compressed.
    pub fn question(&mut self) -> Option<Question> {
        let start = self.at;
        let mut labels: Vec<&[u8]> = Vec::new();
        loop {
            match self.octets(1)?[0] {
                0 => break,
                len @ 1..=63 => labels.push(self.octets(usize::from(len))?),
                _ => return None,
            }
        }
        // Names above 255 octets are none.
        let name = Name::from_labels(labels).ok()?;
        let (rtype, class) = (self.word()?, self.word()?);
        let octets = self.message[start..self.at].to_vec();
        Some(Question { octets, name, rtype: RecordType::from(rtype), class })
    }

    /// A record, whose owner may be compressed.
    pub fn record(&mut self) -> Option<RawRecord<'a>> {
        let start = self.at;
        let is_root = self.message.get(start) == Some(&0);
        loop {
            match self.octets(1)?[0] {
                0 => break,
                len @ 1..=63 => self.octets(usize::from(len))?,
                0xC0.. => {
                    self.octets(1)?;
                    break;
                }
                _ => return None,
            };
        }
        if self.at - start > 255 {
            return None;
        }
        let (rtype, class) = (self.word()?, self.word()?);
        let ttl = u32::from(self.word()?) << 16 | u32::from(self.word()?);
        let len = self.word()?;
        Some(RawRecord { is_root, rtype, class, ttl, data: self.octets(usize::from(len))? })
    }
}

pub(super) const OPT: u16 = 41;
const TSIG: u16 = 250;
const SUBNET: u16 = 8;
const ZONE_VERSION: u16 = 19;
