//! The handshake of WebSocket with servers of HTTP/1.1, which clients of HTTP/2 have no part in (RFC 8441, section 5).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;

/// The key of 16 octets, as Sec-WebSocket-Key has it.
pub fn key(octets: [u8; 16]) -> String {
    BASE64.encode(&octets)
}

/// What a server must answer to `key` as Sec-WebSocket-Accept, so that one that knows nothing of WebSocket is found out.
///
/// Source: RFC 6455, section 4.2.2.
pub fn accept(key: &str) -> String {
    BASE64.encode(
        digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes()).as_ref(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_6455_is_accepted() {
        assert_eq!(key(*b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
