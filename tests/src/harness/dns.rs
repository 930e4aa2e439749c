//! A small DNS client: one question, one answer, over UDP or TCP.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};
use ipnet::IpNet;

/// Asks one server.
#[derive(Clone, Copy, Debug)]
pub struct DnsClient {
    server: SocketAddr,
    local: Option<IpAddr>,
    limit: Duration,
    wants_validation: bool,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Everything in it.
    pub message: Message,
    /// The octets as they came.
    pub bytes: Vec<u8>,
}

impl DnsClient {
    /// Asks `server` from any address and waits two seconds at most.
    pub fn new(server: SocketAddr) -> Self {
        Self { server, local: None, limit: Duration::from_secs(2), wants_validation: false }
    }

    /// Asks from `local`.
    #[must_use]
    pub fn from(self, local: IpAddr) -> Self {
        Self { local: Some(local), ..self }
    }

    /// Waits for `limit` at most.
    #[must_use]
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Asks with AD set: to know whether a resolver has validated the answer (RFC 6840, section 5.7).
    #[must_use]
    pub fn wants_validation(self) -> Self {
        Self { wants_validation: true, ..self }
    }

    /// Asks by UDP.
    pub fn ask(&self, name: &str, rtype: RecordType, subnet: Option<IpNet>) -> Result<Answer, String> {
        let query = self.query(name, rtype, subnet)?;
        let bytes = self.exchange(&query)?;
        Answer::parse(bytes)
    }

    /// Asks for A records on behalf of `client`: its /24 or /56 is told.
    pub fn ask_for(&self, name: &str, client: IpAddr) -> Result<Answer, String> {
        self.ask(name, RecordType::A, Some(subnet_of(client)?))
    }

    /// Asks by TCP.
    pub fn ask_tcp(&self, name: &str, rtype: RecordType, subnet: Option<IpNet>) -> Result<Answer, String> {
        let context = |error: std::io::Error| format!("TCP to {}: {error}", self.server);
        let query = self.query(name, rtype, subnet)?;
        let mut stream = TcpStream::connect_timeout(&self.server, self.limit).map_err(context)?;
        stream.set_read_timeout(Some(self.limit)).map_err(context)?;
        let len = u16::try_from(query.len()).map_err(|error| error.to_string())?;
        stream.write_all(&[&len.to_be_bytes(), query.as_slice()].concat()).map_err(context)?;
        let mut len = [0; 2];
        stream.read_exact(&mut len).map_err(context)?;
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut bytes).map_err(context)?;
        Answer::parse(bytes)
    }

    fn query(&self, name: &str, rtype: RecordType, subnet: Option<IpNet>) -> Result<Vec<u8>, String> {
        let mut octets = query(name, rtype, subnet)?;
        octets[3] |= if self.wants_validation { AD } else { 0 };
        Ok(octets)
    }

    /// Sends the octets of a query by UDP and gives those of the answer with the same id.
    pub fn exchange(&self, query: &[u8]) -> Result<Vec<u8>, String> {
        let context = |error: std::io::Error| format!("UDP to {}: {error}", self.server);
        let any = if self.server.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        let socket = UdpSocket::bind((self.local.unwrap_or(any), 0)).map_err(context)?;
        socket.connect(self.server).map_err(context)?;
        socket.set_read_timeout(Some(self.limit)).map_err(context)?;
        socket.send(query).map_err(context)?;
        let mut buffer = vec![0; 65_535];
        loop {
            let len = socket.recv(&mut buffer).map_err(context)?;
            if buffer.get(..2) == query.get(..2) {
                return Ok(buffer[..len].to_vec());
            }
        }
    }
}

impl Answer {
    fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let message = Message::from_vec(&bytes).map_err(|error| format!("not a DNS message: {error}"))?;
        Ok(Self { message, bytes })
    }

    /// The response code.
    pub fn rcode(&self) -> ResponseCode {
        self.message.metadata.response_code
    }

    /// The addresses in the answer section, sorted.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let address = |data: &RData| match data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        };
        let mut addresses: Vec<_> = self.message.answers.iter().filter_map(|record| address(&record.data)).collect();
        addresses.sort();
        addresses
    }

    /// The only address; fails when there is another number of them.
    pub fn address(&self) -> Result<IpAddr, String> {
        match self.addresses().as_slice() {
            [address] => Ok(*address),
            other => Err(format!("{} with addresses {other:?}", self.rcode())),
        }
    }

    /// The TTL of the first answer.
    pub fn ttl(&self) -> Option<u32> {
        self.message.answers.first().map(|record| record.ttl)
    }

    /// The client subnet option.
    pub fn subnet(&self) -> Option<&ClientSubnet> {
        match self.message.edns.as_ref()?.option(EdnsCode::Subnet)? {
            EdnsOption::Subnet(subnet) => Some(subnet),
            _ => None,
        }
    }

    /// The scope prefix length; `None` without a client subnet option.
    pub fn scope(&self) -> Option<u8> {
        self.subnet().map(ClientSubnet::scope_prefix)
    }
}

/// The octets of a query with EDNS and, if asked for, a client subnet.
pub fn query(name: &str, rtype: RecordType, subnet: Option<IpNet>) -> Result<Vec<u8>, String> {
    let mut parsed = Name::from_ascii(name).map_err(|error| format!("{name}: {error}"))?;
    parsed.set_fqdn(true);
    let mut message = Message::query();
    // As stub resolvers do; a server that does not recurse takes no notice.
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(parsed, rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    if let Some(subnet) = subnet {
        edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(subnet.network(), subnet.prefix_len(), 0)));
    }
    message.set_edns(edns);
    message.to_vec().map_err(|error| error.to_string())
}

/// The /24 or /56 of `client`.
pub fn subnet_of(client: IpAddr) -> Result<IpNet, String> {
    let net = IpNet::new(client, if client.is_ipv4() { 24 } else { 56 });
    net.map(|net| net.trunc()).map_err(|error| error.to_string())
}

/// In the fourth octet of the header (RFC 4035, section 3.2.3).
const AD: u8 = 0x20;
