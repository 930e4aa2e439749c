//! DNS cookies (RFC 7873) as all servers of a name make them (RFC 9018): who brings one that we gave is who he says.
//!
//! ```text
//! server cookie   version 1 | 3 reserved octets | time, 32 bits | SipHash-2-4 of client cookie, all that, client address
//! ```
//! Pure and without state for each client: the secret and the time are arguments.

use std::fmt;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;
use subtle::ConstantTimeEq;

use crate::wire::{Cookie, ReplyCookie, ServerPart};

/// What server cookies are made with, 128 bits. Nodes that share an address or a name need the same.
#[derive(Clone, Copy)]
pub struct Secret([u8; Secret::LEN]);

/// The secret that cookies are made with, and another one whose cookies hold too, while nodes change from one to the next.
#[derive(Clone, Copy, Debug)]
pub struct Secrets {
    /// For new cookies.
    pub current: Secret,
    /// The one before, or the one to come.
    pub also_accepted: Option<Secret>,
}

/// Why a text holds no secrets.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadSecrets {
    /// A line is no secret.
    #[error("is no secret: expected 32 hexadecimal digits, such as `openssl rand -hex 16` prints")]
    NotHex {
        /// From 1.
        line: usize,
    },
    /// There is no line.
    #[error("holds no secret: expected a line of 32 hexadecimal digits, such as `openssl rand -hex 16` prints")]
    Missing,
    /// There are more than two.
    #[error("is one too many: expected the secret, and at most one more below it that is accepted too")]
    TooMany {
        /// From 1.
        line: usize,
    },
}

/// What the cookie of a query shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// There is none, or we take none.
    Absent,
    /// The client does not know us yet.
    New,
    /// We gave it to this address, less than an hour ago.
    Valid,
    /// Of another server, of another client, too old, or made up.
    Bad,
}

/// A cookie after the check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checked {
    /// What it shows; never [`Standing::Absent`].
    pub standing: Standing,
    /// What goes into the reply: the same again while it is young, else a new one.
    pub reply: ReplyCookie,
}

impl Secret {
    /// Octets of a secret.
    pub const LEN: usize = 16;

    /// Takes octets that nobody can guess.
    pub fn new(octets: [u8; Self::LEN]) -> Self {
        Self(octets)
    }

    /// Reads 32 hexadecimal digits.
    fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes().as_chunks::<2>();
        let (pairs, []) = digits else { return None };
        let mut octets = [0; Self::LEN];
        if pairs.len() != octets.len() {
            return None;
        }
        for (octet, &[high, low]) in octets.iter_mut().zip(pairs) {
            let value = |digit: u8| char::from(digit).to_digit(16);
            *octet = (value(high)? << 4 | value(low)?) as u8;
        }
        Some(Self(octets))
    }

    /// The server cookie of `client` at `address`, made at `unix_secs`.
    fn make(&self, client: [u8; Cookie::CLIENT_LEN], address: IpAddr, unix_secs: u32) -> [u8; Cookie::SERVER_LEN] {
        let [t0, t1, t2, t3] = unix_secs.to_be_bytes();
        let head = [VERSION, 0, 0, 0, t0, t1, t2, t3];
        let mut cookie = [0; Cookie::SERVER_LEN];
        let (start, end) = cookie.split_at_mut(head.len());
        start.copy_from_slice(&head);
        end.copy_from_slice(&self.hash(client, head, address));
        cookie
    }

    /// Whether `server` was made with it for `client` at `address`, at whatever time. Takes equally long for all.
    fn has_made(&self, client: [u8; Cookie::CLIENT_LEN], server: [u8; Cookie::SERVER_LEN], address: IpAddr) -> bool {
        let [h0, h1, h2, h3, h4, h5, h6, h7, hash @ ..] = server;
        let expected = self.hash(client, [h0, h1, h2, h3, h4, h5, h6, h7], address);
        bool::from(hash.ct_eq(&expected))
    }

    /// The last eight octets of the server cookie that begins with `head` (RFC 9018, section 4.4).
    fn hash(&self, client: [u8; Cookie::CLIENT_LEN], head: [u8; 8], address: IpAddr) -> [u8; 8] {
        let mut input = [0; 32];
        input[..8].copy_from_slice(&client);
        input[8..16].copy_from_slice(&head);
        let len = match address.to_canonical() {
            IpAddr::V4(v4) => {
                input[16..20].copy_from_slice(&v4.octets());
                20
            }
            IpAddr::V6(v6) => {
                input[16..].copy_from_slice(&v6.octets());
                32
            }
        };
        SipHasher24::new_with_key(&self.0).hash(&input[..len]).to_le_bytes()
    }
}

impl Secrets {
    /// Reads one or two lines of 32 hexadecimal digits: the secret, and the one that is accepted too. Empty lines are passed over.
    pub fn parse(text: &str) -> Result<Self, BadSecrets> {
        let lines = (1..).zip(text.lines().map(str::trim)).filter(|(_, text)| !text.is_empty());
        let mut secrets = lines.map(|(line, text)| (line, Secret::parse(text).ok_or(BadSecrets::NotHex { line })));
        let current = secrets.next().ok_or(BadSecrets::Missing)?.1?;
        let also_accepted = secrets.next().map(|(_, secret)| secret).transpose()?;
        match secrets.next() {
            Some((line, _)) => Err(BadSecrets::TooMany { line }),
            None => Ok(Self { current, also_accepted }),
        }
    }

    /// Checks what a client at `address` brings at `unix_secs`, seconds since 1970 modulo 2^32.
    ///
    /// ```text
    /// brings                                             is      gets
    /// no server cookie                                   new     a new one
    /// ours, up to 30 minutes old or 5 in the future      valid   the same (the clocks of nodes may differ)
    /// ours, up to 1 hour old                             valid   a new one
    /// any other                                          bad     a new one
    /// ```
    /// Those made with the other secret are valid as long, and replaced at once.
    pub fn check(&self, cookie: &Cookie, address: IpAddr, unix_secs: u32) -> Checked {
        let Cookie { client, server } = *cookie;
        let (standing, kept) = match server {
            ServerPart::Absent => (Standing::New, None),
            ServerPart::Foreign => (Standing::Bad, None),
            ServerPart::Interoperable(server) => self.judge(client, server, address, unix_secs),
        };
        let server = kept.unwrap_or_else(|| self.current.make(client, address, unix_secs));
        Checked { standing, reply: ReplyCookie { client, server } }
    }

    /// What `server` shows, and itself where the client should go on with it.
    fn judge(
        &self,
        client: [u8; Cookie::CLIENT_LEN],
        server: [u8; Cookie::SERVER_LEN],
        address: IpAddr,
        unix_secs: u32,
    ) -> (Standing, Option<[u8; Cookie::SERVER_LEN]>) {
        let [version, _, _, _, t0, t1, t2, t3, ..] = server;
        // Serial number arithmetic (RFC 1982): right beyond the year 2106 too.
        let age_secs = unix_secs.wrapping_sub(u32::from_be_bytes([t0, t1, t2, t3])) as i32;
        if version != VERSION || !(-FUTURE_MAX_SECS..=AGE_MAX_SECS).contains(&age_secs) {
            return (Standing::Bad, None);
        }
        if self.current.has_made(client, server, address) {
            (Standing::Valid, (age_secs <= RENEWAL_SECS).then_some(server))
        } else if self.also_accepted.is_some_and(|secret| secret.has_made(client, server, address)) {
            (Standing::Valid, None)
        } else {
            (Standing::Bad, None)
        }
    }
}

impl fmt::Debug for Secret {
    /// Never shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The version of RFC 9018.
const VERSION: u8 = 1;
/// How long a cookie holds; this and what follows is as RFC 9018, section 4.3, has it.
const AGE_MAX_SECS: i32 = 3600;
/// How far the clock of the node that made it may be ahead of ours.
const FUTURE_MAX_SECS: i32 = 300;
/// From this age on, a client gets a new one.
const RENEWAL_SECS: i32 = 1800;

#[cfg(test)]
mod tests;
