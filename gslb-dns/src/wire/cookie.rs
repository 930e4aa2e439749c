//! The COOKIE option (RFC 7873), as it stands in messages; [`crate::cookie`] makes and checks what is in it.

/// A cookie as a query gives it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cookie {
    /// What the client chose, for its eyes only.
    pub client: [u8; Cookie::CLIENT_LEN],
    /// What it says that it got from us.
    pub server: ServerPart,
}

/// The part of a cookie that a server made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServerPart {
    /// There is none: the client does not know us yet.
    Absent,
    /// One of the length that ours have (RFC 9018, section 4).
    Interoperable([u8; Cookie::SERVER_LEN]),
    /// One of another length, which cannot be ours.
    Foreign,
}

/// The whole cookie of a reply: the client's part, repeated, and ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReplyCookie {
    /// What the client chose.
    pub client: [u8; Cookie::CLIENT_LEN],
    /// What it should bring from now on.
    pub server: [u8; Cookie::SERVER_LEN],
}

impl Cookie {
    /// The option's code.
    pub const CODE: u16 = 10;
    /// Octets of the client's part.
    pub const CLIENT_LEN: usize = 8;
    /// Octets of the server's part, when we made it.
    pub const SERVER_LEN: usize = 16;

    /// Reads the option of a query: 8 octets, or 16 to 40. `None` for other lengths, which get FORMERR (RFC 7873,
    /// section 5.2.2).
    pub fn parse(option: &[u8]) -> Option<Self> {
        let (&client, server) = option.split_first_chunk()?;
        let server = match server.len() {
            0 => ServerPart::Absent,
            Self::SERVER_LEN => ServerPart::Interoperable(*server.first_chunk()?),
            8..=32 => ServerPart::Foreign,
            _ => return None,
        };
        Some(Self { client, server })
    }
}

impl ReplyCookie {
    /// Octets of the option, code and length included.
    pub const ENCODED_LEN: usize = 4 + Cookie::CLIENT_LEN + Cookie::SERVER_LEN;

    /// Writes the option into `out`, which holds [`ReplyCookie::ENCODED_LEN`] octets.
    pub fn write(&self, out: &mut [u8]) {
        let data_len = (Self::ENCODED_LEN - 4) as u16;
        out[..2].copy_from_slice(&Cookie::CODE.to_be_bytes());
        out[2..4].copy_from_slice(&data_len.to_be_bytes());
        out[4..12].copy_from_slice(&self.client);
        out[12..Self::ENCODED_LEN].copy_from_slice(&self.server);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_lengths_of_the_rfc_are_read() {
        let lengths = (0..60).filter(|&len| Cookie::parse(&vec![7; len]).is_some());
        assert_eq!(lengths.collect::<Vec<_>>(), [8].into_iter().chain(16..=40).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn what_a_reply_says_is_read_by_the_next_query(client: [u8; 8], server: [u8; 16]) {
            let mut out = [0; ReplyCookie::ENCODED_LEN];
            ReplyCookie { client, server }.write(&mut out);
            prop_assert_eq!(&out[..4], &[0, 10, 0, 24][..]);
            let expected = Cookie { client, server: ServerPart::Interoperable(server) };
            prop_assert_eq!(Cookie::parse(&out[4..]), Some(expected));
        }
    }
}
