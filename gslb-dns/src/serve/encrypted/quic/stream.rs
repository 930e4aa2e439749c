//! One query and its answer, on a stream of their own (RFC 9250, section 4.2).

use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::time::timeout;

use crate::serve::encrypted::requests::Request;
use crate::serve::encrypted::respond::respond;
use crate::serve::tcp::Lane;
use crate::wire::{HEADER_LEN, has_option};

/// What is said when something ends (RFC 9250, section 8.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Code {
    NoError = 0,
    InternalError = 1,
    ProtocolError = 2,
    RequestCancelled = 3,
    ExcessiveLoad = 4,
}

impl From<Code> for VarInt {
    fn from(code: Code) -> Self {
        Self::from_u32(code as u32)
    }
}

/// Reads the query, answers it and waits until the answer is taken, within `message`. What breaks the protocol ends the
/// whole connection (RFC 9250, section 4.3.3).
pub(super) async fn answer(
    lane: Arc<Lane>,
    connection: Connection,
    (mut send, mut receive): (SendStream, RecvStream),
    mut request: Request,
    unix_secs: u32,
    message: Duration,
) {
    let exchange = async {
        let octets = content_of(&mut receive, &mut request).await?;
        let query = query_in(&octets).ok_or(Code::ProtocolError)?;
        let peer = connection.remote_address().ip();
        let answer = respond(&lane, peer, unix_secs, query).await.ok_or(Code::InternalError)?;
        request.hold(answer.len());
        let length = u16::try_from(answer.len()).map_err(|_| Code::InternalError)?;
        send.write_all(&[&length.to_be_bytes(), &*answer].concat()).await.map_err(|_| Code::RequestCancelled)?;
        send.finish().map_err(|_| Code::RequestCancelled)?;
        // Until then it is held here.
        send.stopped().await.map(drop).map_err(|_| Code::RequestCancelled)
    };
    match timeout(message, exchange).await.unwrap_or(Err(Code::ExcessiveLoad)) {
        Ok(()) => {}
        Err(Code::ProtocolError) => connection.close(Code::ProtocolError.into(), b""),
        // Both fail where the client has ended it already.
        Err(code) => _ = (send.reset(code.into()), receive.stop(code.into())),
    }
}

/// All that a stream brings, unless that is longer than any message.
async fn content_of(receive: &mut RecvStream, request: &mut Request) -> Result<Vec<u8>, Code> {
    let mut content = Vec::new();
    while let Some(chunk) = receive.read_chunk(CONTENT_MAX, true).await.map_err(|_| Code::RequestCancelled)? {
        if content.len() + chunk.bytes.len() > CONTENT_MAX {
            return Err(Code::ProtocolError);
        }
        content.extend_from_slice(&chunk.bytes);
        request.grow(chunk.bytes.len());
    }
    Ok(content)
}

/// The query that a whole stream brings; `None` where it breaks a rule.
///
/// ```text
/// length in front of the message             that of all that follows, so that there is one message
/// message id                                 0 (section 4.2.1)
/// QR                                         0
/// edns-tcp-keepalive                         not there (section 5.5.2)
/// ```
fn query_in(octets: &[u8]) -> Option<&[u8]> {
    let (length, query) = octets.split_first_chunk::<LENGTH>()?;
    let is_whole = usize::from(u16::from_be_bytes(*length)) == query.len();
    let header = query.first_chunk::<HEADER_LEN>()?;
    let is_query = header[..2] == [0, 0] && header[2] & FLAG_QR == 0;
    (is_whole && is_query && !has_option(query, KEEPALIVE)).then_some(query)
}

/// The octets of the length in front of a message.
const LENGTH: usize = 2;
const CONTENT_MAX: usize = LENGTH + u16::MAX as usize;
/// In the first octet of the flags.
const FLAG_QR: u8 = 0x80;
/// The option of RFC 7828.
const KEEPALIVE: u16 = 11;

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Edns, Message};
    use hickory_proto::rr::RecordType;
    use hickory_proto::rr::rdata::opt::EdnsOption;
    use proptest::prelude::*;

    use super::*;
    use crate::serve::sample::query;

    fn framed(message: &[u8]) -> Vec<u8> {
        [&(message.len() as u16).to_be_bytes(), message].concat()
    }

    #[test]
    fn what_breaks_a_rule_is_no_query() {
        let right = query(0, "www.example.com", RecordType::A);
        assert_eq!(query_in(&framed(&right)), Some(&*right));
        let mut kept = Message::from_vec(&right).expect("readable");
        let mut edns = Edns::new();
        edns.options_mut().insert(EdnsOption::Unknown(KEEPALIVE, vec![]));
        kept.set_edns(edns);
        let mut response = right.clone();
        response[2] |= FLAG_QR;
        for (wrong, octets) in [
            ("id", framed(&query(7, "www.example.com", RecordType::A))),
            ("response", framed(&response)),
            ("keepalive", framed(&kept.to_vec().expect("encoded"))),
            ("two", framed(&right).repeat(2)),
            ("cut", framed(&right)[..20].to_vec()),
            ("empty", vec![]),
        ] {
            assert_eq!(query_in(&octets), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_a_query_or_none(octets: Vec<u8>) {
            let _ = (query_in(&octets), query_in(&framed(&octets)));
        }
    }
}
