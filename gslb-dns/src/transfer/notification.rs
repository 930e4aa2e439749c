//! Telling secondaries that a zone has changed (RFC 1996).

use std::time::Duration;

use crate::tsig::Session;
use crate::wire::{CLASS_IN, HEADER_LEN, Name, OPCODE_NOTIFY, Rtype};
use crate::zone::Content;

/// A secondary has understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Acknowledgement;

/// Why an answer is no acknowledgement.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAcknowledged {
    /// It is none to this notification: to be passed over.
    #[error("not an answer to it")]
    Foreign,
    /// It is not signed, or not rightly.
    #[error("the answer is not signed with the key, or not rightly")]
    BadSignature,
    /// The secondary says no.
    #[error("the secondary answered with rcode {rcode}")]
    Refused {
        /// The low four bits of the code.
        rcode: u8,
    },
}

/// The notification with `id` that the zone says `content`, signed with `session` at `now`, in seconds since 1970.
///
/// It carries the new SOA record as a hint (RFC 1996, section 3.7).
pub fn notification(content: &Content, id: u16, session: Option<&mut Session>, now: u64) -> Vec<u8> {
    let mut message = Vec::with_capacity(512);
    for word in [id, u16::from(OPCODE_NOTIFY) << 11 | FLAG_AA, 1, 1, 0, 0] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    message.extend_from_slice(content.apex().as_wire());
    message.extend_from_slice(&Rtype::SOA.0.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    message.extend_from_slice(content.soa());
    if let Some(session) = session {
        session.sign(&mut message, now);
    }
    message
}

/// Whether `answer` acknowledges the notification with `id` for `apex`, which was signed with `session`.
pub fn read_acknowledgement(
    answer: &[u8],
    id: u16,
    apex: &Name,
    session: Option<&Session>,
    now: u64,
) -> Result<Acknowledgement, NotAcknowledged> {
    let header = answer.first_chunk::<HEADER_LEN>().ok_or(NotAcknowledged::Foreign)?;
    let is_answer = header[..2] == id.to_be_bytes() && header[2] & 0xF8 == 0x80 | OPCODE_NOTIFY << 3;
    // Some leave the question out.
    let is_of_zone = header[4..6] == [0, 0]
        || Name::split_from(&answer[HEADER_LEN..]).is_some_and(|(name, _)| name.eq_ignore_ascii_case(apex.as_wire()));
    if !is_answer || !is_of_zone {
        return Err(NotAcknowledged::Foreign);
    }
    let rcode = header[3] & 0x0F;
    if session.is_some_and(|session| !session.accepts(answer, now)) {
        // What is wrong with our key is said without a signature.
        return Err(if rcode == 0 { NotAcknowledged::BadSignature } else { NotAcknowledged::Refused { rcode } });
    }
    if rcode == 0 { Ok(Acknowledgement) } else { Err(NotAcknowledged::Refused { rcode }) }
}

/// How long to wait after so many `failures` in a row before the next try: from 2 s to 10 minutes, each twice as long as
/// the one before.
pub fn pause_after(failures: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX)
}

const FLAG_AA: u16 = 0x0400;
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(600);
