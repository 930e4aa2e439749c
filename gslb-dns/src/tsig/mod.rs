//! Messages that are signed by a key which both sides share (TSIG, RFC 8945).
//!
//! ```text
//! message ─► Request::split ─► Request::verify(keys, now) ─► Session ─► sign(answer) … sign(next answer) …
//!                                     └─► Rejection ─► append_to(answer): the error in a TSIG record
//! ```

mod key;
mod record;
#[cfg(test)]
mod tests;

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq as _;

use crate::wire::{HEADER_LEN, LastTsig, Name, Rcode};

pub use key::{Algorithm, BadSecret, Key, KeySet};
use record::{Fields, Variables};

/// A signed message, before anybody has looked whether its signature is right.
#[derive(Debug)]
pub struct Request<'a> {
    /// The message as it was signed: with the id of who signed it, and without the TSIG record.
    signed: Vec<u8>,
    /// The same with its own id.
    unsigned: Vec<u8>,
    key: Name,
    fields: Fields<'a>,
}

/// What answers to a signed message are signed with.
#[derive(Clone, Debug)]
pub struct Session {
    key: Key,
    /// The MAC of the message before: of the request, then of each answer.
    last_mac: Vec<u8>,
    is_first: bool,
}

/// Why a signature does not hold, and what the answer says of it.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// The reason.
    pub error: TsigError,
    key: Name,
    algorithm: Name,
    time_signed: u64,
    original_id: u16,
    /// What the answer is signed with; `None`: it is not.
    session: Option<Session>,
}

/// The code in the TSIG record of an answer (RFC 8945, section 3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TsigError {
    /// The MAC is another one.
    BadSig = 16,
    /// There is no such key, or it is for another algorithm.
    BadKey = 17,
    /// The clocks of the two sides are too far apart.
    BadTime = 18,
    /// The MAC is shortened; we take whole ones alone.
    BadTrunc = 22,
}

impl<'a> Request<'a> {
    /// Takes `message` apart; `None` where it is not signed.
    ///
    /// Fails with FORMERR where the message or its TSIG record is broken, as with a MAC that is longer than its algorithm
    /// gives or too short for any use (RFC 8945, sections 5.1 and 5.2.2.1).
    pub fn split(message: &'a [u8]) -> Result<Option<Self>, Rcode> {
        let Some(LastTsig { start, owner, rdata }) = LastTsig::find(message)? else { return Ok(None) };
        let fields = Fields::parse(rdata).ok_or(Rcode::FORMERR)?;
        let mut unsigned = message[..start].to_vec();
        let [.., high, low] = unsigned.first_chunk_mut::<HEADER_LEN>().ok_or(Rcode::FORMERR)?;
        let additionals = u16::from_be_bytes([*high, *low]).checked_sub(1).ok_or(Rcode::FORMERR)?;
        [*high, *low] = additionals.to_be_bytes();
        let mut signed = unsigned.clone();
        signed[..2].copy_from_slice(&fields.original_id.to_be_bytes());
        if let Some(algorithm) = Algorithm::of_name(&fields.algorithm)
            && !(fields.mac.is_empty() || algorithm.mac_lens().contains(&fields.mac.len()))
        {
            return Err(Rcode::FORMERR);
        }
        Ok(Some(Self { signed, unsigned, key: owner, fields }))
    }

    /// The message without its TSIG record.
    pub fn message(&self) -> &[u8] {
        &self.unsigned
    }

    /// Its MAC, as it came: nobody has looked whether it is right before [`Request::verify`].
    pub fn mac(&self) -> &[u8] {
        self.fields.mac
    }

    /// The last second since 1970 in which its signature holds (RFC 8945, section 5.2.3).
    pub fn end(&self) -> u64 {
        self.fields.time_signed + u64::from(self.fields.fudge)
    }

    /// Whether one of `keys` signed it, not long before or after `now`, in seconds since 1970 (RFC 8945, section 5.2).
    ///
    /// ```text
    /// no such key, or for another algorithm       BADKEY    the answer is not signed
    /// another MAC                                 BADSIG    nor here: who sent it does not hold the key
    /// `now` further away than the fudge           BADTIME   signed, with our time in it
    /// a part of the right MAC                     BADTRUNC  signed
    /// ```
    /// Compares in constant time.
    pub fn verify(&self, keys: &KeySet, now: u64) -> Result<Session, Box<Rejection>> {
        let Some(key) = keys.find(&self.key).filter(|key| *key.algorithm().name() == self.fields.algorithm) else {
            return Err(self.rejected(TsigError::BadKey, None));
        };
        let fields = &self.fields;
        let mut context = key.context();
        context.update(&self.signed);
        Variables::of(&self.key, fields).write(|octets| context.update(octets));
        let tag = context.sign();
        let expected = tag.as_ref();
        let comparable = &expected[..fields.mac.len().min(expected.len())];
        if fields.mac.is_empty() || !bool::from(comparable.ct_eq(fields.mac)) {
            return Err(self.rejected(TsigError::BadSig, None));
        }
        let session = Session { key: key.clone(), last_mac: fields.mac.to_vec(), is_first: true };
        if now.abs_diff(fields.time_signed) > u64::from(fields.fudge) {
            return Err(self.rejected(TsigError::BadTime, Some(session)));
        }
        if comparable.len() < expected.len() {
            return Err(self.rejected(TsigError::BadTrunc, Some(session)));
        }
        Ok(session)
    }

    fn rejected(&self, error: TsigError, session: Option<Session>) -> Box<Rejection> {
        let fields = &self.fields;
        Box::new(Rejection {
            error,
            key: self.key.clone(),
            algorithm: fields.algorithm.clone(),
            time_signed: fields.time_signed,
            original_id: fields.original_id,
            session,
        })
    }
}

impl Session {
    /// For a message that we send first, as a NOTIFY.
    pub fn begin(key: Key) -> Self {
        Self { key, last_mac: Vec::new(), is_first: true }
    }

    /// The key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Octets that [`Session::sign`] adds to a message.
    pub fn record_len(&self) -> usize {
        let (name, algorithm) = (self.key.name().as_wire().len(), self.key.algorithm());
        name + record::FIXED_LEN + algorithm.name().as_wire().len() + algorithm.mac_len()
    }

    /// Signs `message`, the next answer, with the time `now`: adds the TSIG record (RFC 8945, section 5.3).
    ///
    /// The first answer is bound to the request, each further one of a transfer to the one before.
    pub fn sign(&mut self, message: &mut Vec<u8>, now: u64) {
        self.sign_with(message, now, 0, &[]);
    }

    /// Whether `message`, the answer to what this session signed, is signed with its key, at about `now` (RFC 8945,
    /// section 5.4). Only for a first answer.
    pub fn accepts(&self, message: &[u8], now: u64) -> bool {
        let Ok(Some(answer)) = Request::split(message) else { return false };
        let (key, fields) = (&self.key, &answer.fields);
        if answer.key != *key.name() || fields.algorithm != *key.algorithm().name() || fields.error != 0 {
            return false;
        }
        let mut context = key.context();
        add_mac(&mut context, &self.last_mac);
        context.update(&answer.signed);
        Variables::of(&answer.key, fields).write(|octets| context.update(octets));
        let is_right = bool::from(context.sign().as_ref().ct_eq(fields.mac));
        is_right && now.abs_diff(fields.time_signed) <= u64::from(fields.fudge)
    }

    fn sign_with(&mut self, message: &mut Vec<u8>, time_signed: u64, error: u16, other: &[u8]) {
        // That of the message itself, which is in its digest: who forwarded the request may have given it another one.
        let original_id = message.first_chunk().map_or(0, |&id| u16::from_be_bytes(id));
        let mut context = self.key.context();
        add_mac(&mut context, &self.last_mac);
        context.update(message);
        let fields = Fields {
            algorithm: self.key.algorithm().name().clone(),
            time_signed,
            fudge: FUDGE_SECS,
            mac: &[],
            original_id,
            error,
            other,
        };
        let variables = Variables::of(self.key.name(), &fields);
        match self.is_first {
            true => variables.write(|octets| context.update(octets)),
            false => variables.write_timers(|octets| context.update(octets)),
        }
        self.is_first = false;
        self.last_mac = context.sign().as_ref().to_vec();
        Fields { mac: &self.last_mac, ..fields }.append_to(message, self.key.name());
    }
}

impl Rejection {
    /// The key that the message names.
    pub fn key(&self) -> &Name {
        &self.key
    }

    /// Octets that [`Rejection::append_to`] adds to a message.
    pub fn record_len(&self) -> usize {
        let other_len = if self.error == TsigError::BadTime { TIME_LEN } else { 0 };
        let unsigned_len = self.key.as_wire().len() + record::FIXED_LEN + self.algorithm.as_wire().len();
        other_len + self.session.as_ref().map_or(unsigned_len, Session::record_len)
    }

    /// Adds the TSIG record that says so to `message`, the answer; `now` in seconds since 1970 (RFC 8945, section 5.3.2).
    pub fn append_to(self, message: &mut Vec<u8>, now: u64) {
        let Self { error, key, algorithm, time_signed, original_id, session } = self;
        let [.., a, b, c, d, e, f] = now.to_be_bytes();
        let our_time = [a, b, c, d, e, f];
        // The client's time, so that the client takes the answer for one to its message.
        let other: &[u8] = if error == TsigError::BadTime { &our_time } else { &[] };
        match session {
            Some(mut session) => session.sign_with(message, time_signed, error as u16, other),
            None => {
                let fields = Fields {
                    algorithm,
                    time_signed,
                    fudge: FUDGE_SECS,
                    mac: &[],
                    original_id,
                    error: error as u16,
                    other,
                };
                fields.append_to(message, &key);
            }
        }
    }
}

/// The MAC of the message before, where there is one (RFC 8945, section 4.3.1).
fn add_mac(context: &mut hmac::Context, mac: &[u8]) {
    if !mac.is_empty() {
        context.update(&(mac.len() as u16).to_be_bytes());
        context.update(mac);
    }
}

/// Octets of our time in a TSIG record (RFC 8945, section 5.2.3).
const TIME_LEN: usize = 6;
/// What RFC 8945, section 10, recommends.
const FUDGE_SECS: u16 = 300;
