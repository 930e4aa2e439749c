//! The secret that changes by an admin listener need.

use std::fmt;

use subtle::ConstantTimeEq;

/// A secret text, compared in a time that tells nothing about it.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(String);

/// The text is not a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "holds no token: expected one line of 16 to 1024 printable characters without blanks, such as \
     `openssl rand -hex 32` prints"
)]
pub struct BadToken;

impl Token {
    /// Takes `text` without white space around it; fails unless 16 to 1024 printable ASCII characters without blanks are left.
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let token = text.trim();
        let is_valid = (16..=1024).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
        if is_valid { Ok(Self(token.to_owned())) } else { Err(BadToken) }
    }

    /// Whether an `Authorization` header with this value carries it (RFC 6750, section 2.1).
    ///
    /// Takes equally long for every text of its length.
    pub fn is_in(&self, authorization: &[u8]) -> bool {
        let (scheme, shown) = authorization.split_at_checked(BEARER.len()).unwrap_or_default();
        scheme.eq_ignore_ascii_case(BEARER) && bool::from(shown.trim_ascii().ct_eq(self.0.as_bytes()))
    }

    /// The secret itself, to be sent.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    /// Never shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

const BEARER: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0123456789abcdef";

    #[test]
    fn only_the_whole_token_passes() {
        let token = Token::parse(TEXT).expect("valid");
        assert!(token.is_in(format!("Bearer {TEXT}").as_bytes()));
        assert!(token.is_in(format!("bearer  {TEXT}").as_bytes()));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            TEXT,
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Basic 0123456789abcdef",
        ] {
            assert!(!token.is_in(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn tokens_are_long_printable_and_not_shown() {
        assert!(Token::parse(" 0123456789abcdef\n").is_ok_and(|token| token.reveal() == TEXT));
        let long = "x".repeat(1025);
        for bad in ["", "short", "0123456789 abcdef", "0123456789abcdeé", "0123456789abcdef\nsecond", &long] {
            assert_eq!(Token::parse(bad), Err(BadToken), "{bad:?}");
        }
        assert_eq!(format!("{:?}", Token::parse(TEXT)), "Ok(Token(…))");
    }
}
