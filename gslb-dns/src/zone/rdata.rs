//! Record data: from the text of a master file to octets, and where the names in it are.
//!
//! hickory-proto reads the types that it knows. It gives up at `@`, DNAME, DS, DNSKEY and `\#`, and takes `\DDD` in names
//! and quoted strings for octal or worse, so those are read here.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::RecordType;
use hickory_proto::serialize::binary::BinEncodable;
use hickory_proto::serialize::txt::{Parser, parse_ttl};

use super::entry::Token;
use crate::wire::{Name, Rtype, parent};

/// Names inside record data: `skip` octets, then `count` names; `is_compressible` in messages (RFC 3597, section 4).
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) skip: usize,
    pub(super) count: usize,
    pub(super) is_compressible: bool,
}

/// Record data taken apart; names that the type does not have are empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    pub(super) head: &'a [u8],
    pub(super) names: [&'a [u8]; 2],
    pub(super) rest: &'a [u8],
}

impl Layout {
    pub(super) fn of(rtype: Rtype) -> Self {
        let layout = |skip, count, is_compressible| Self { skip, count, is_compressible };
        match rtype {
            Rtype::NS | Rtype::CNAME | Rtype::PTR => layout(0, 1, true),
            Rtype::MX => layout(2, 1, true),
            Rtype::SOA => layout(0, 2, true),
            Rtype::SRV => layout(6, 1, false),
            Rtype::DNAME => layout(0, 1, false),
            _ => layout(0, 0, false),
        }
    }

    /// The octets before the names, the names, and what follows. `None`: not as the type has it.
    pub(super) fn split(self, rdata: &[u8]) -> Option<Parts<'_>> {
        let (head, mut rest) = rdata.split_at_checked(self.skip)?;
        let mut names: [&[u8]; 2] = [&[], &[]];
        for name in names.iter_mut().take(self.count) {
            (*name, rest) = Name::split_from(rest)?;
        }
        Some(Parts { head, names, rest })
    }
}

/// The name that `rdata` of this type leads to; `None` for types that lead nowhere.
pub(super) fn target_of(rtype: Rtype, rdata: &[u8]) -> Option<Name> {
    let layout = Layout::of(rtype);
    let [target, _] = layout.split(rdata)?.names;
    (layout.count == 1).then(|| Name::from_wire(target))
}

/// `rdata` with the names in it in lower case, for comparing.
pub(super) fn folded(rtype: Rtype, rdata: &[u8]) -> Vec<u8> {
    let mut folded = rdata.to_vec();
    if let Some(Parts { head, names, .. }) = Layout::of(rtype).split(rdata) {
        let names_len = names.iter().map(|name| name.len()).sum::<usize>();
        folded[head.len()..head.len() + names_len].make_ascii_lowercase();
    }
    folded
}

/// The type that `mnemonic` names, in any case.
pub(crate) fn parse_type(mnemonic: &str) -> Option<Rtype> {
    let upper = mnemonic.to_ascii_uppercase();
    let number = upper.strip_prefix("TYPE").and_then(|number| number.parse().ok()).map(Rtype);
    let spf = (upper == "SPF").then_some(Rtype::SPF);
    number.or(spf).or_else(|| upper.parse::<RecordType>().ok().map(|known| Rtype(known.into())))
}

/// Reads the data of a record; an error says what is wrong and what would be right.
pub(super) fn parse(rtype: Rtype, tokens: &[Token<'_>], origin: &Name) -> Result<Vec<u8>, String> {
    let mut fields = Fields { rtype, tokens, origin };
    let mut out = Vec::new();
    if tokens.first().is_some_and(|token| !token.is_quoted && token.text == "\\#") {
        return generic(rtype, &tokens[1..]);
    }
    match rtype {
        Rtype::A => out.extend(fields.parsed::<Ipv4Addr>("an IPv4 address")?.octets()),
        Rtype::AAAA => out.extend(fields.parsed::<Ipv6Addr>("an IPv6 address")?.octets()),
        Rtype::NS | Rtype::CNAME | Rtype::PTR | Rtype::DNAME => out.extend(fields.name("a domain name")?),
        Rtype::MX => {
            out.extend(fields.parsed::<u16>("a preference of 0 to 65535")?.to_be_bytes());
            out.extend(fields.name("a mail host")?);
        }
        Rtype::SRV => {
            for what in ["a priority of 0 to 65535", "a weight of 0 to 65535", "a port of 0 to 65535"] {
                out.extend(fields.parsed::<u16>(what)?.to_be_bytes());
            }
            out.extend(fields.name("a target host")?);
        }
        Rtype::SOA => soa(&mut fields, &mut out)?,
        Rtype::TXT | Rtype::SPF => return character_strings(tokens),
        Rtype::DS | Rtype::CDS => {
            out.extend(fields.parsed::<u16>("a key tag of 0 to 65535")?.to_be_bytes());
            out.push(fields.parsed("an algorithm number")?);
            out.push(fields.parsed("a digest type number")?);
            out.extend(hex(&fields.rest())?);
        }
        Rtype::DNSKEY | Rtype::CDNSKEY => {
            out.extend(fields.parsed::<u16>("flags of 0 to 65535")?.to_be_bytes());
            out.push(fields.parsed("protocol 3")?);
            out.push(fields.parsed("an algorithm number")?);
            out.extend(base64(&fields.rest())?);
        }
        _ => return by_hickory(rtype, tokens, origin),
    }
    fields.end()?;
    Ok(out)
}

fn soa(fields: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    out.extend(fields.name("the primary name server")?);
    out.extend(fields.name("the mailbox of the one responsible, with a dot for the @")?);
    out.extend(fields.parsed::<u32>("a serial of 0 to 4294967295")?.to_be_bytes());
    for what in ["the refresh time", "the retry time", "the expiry time", "the minimum (negative) TTL"] {
        let text = fields.text(what)?;
        let secs =
            parse_ttl(text).map_err(|_| format!("{text:?} is not {what}: expected seconds, or such as 1h30m"))?;
        out.extend(secs.to_be_bytes());
    }
    Ok(())
}

struct Fields<'a> {
    rtype: Rtype,
    tokens: &'a [Token<'a>],
    origin: &'a Name,
}

impl<'a> Fields<'a> {
    fn text(&mut self, expected: &str) -> Result<&'a str, String> {
        let (token, rest) = self.tokens.split_first().ok_or_else(|| format!("{}: expected {expected}", self.rtype))?;
        self.tokens = rest;
        Ok(token.text)
    }

    fn parsed<T: std::str::FromStr>(&mut self, expected: &str) -> Result<T, String> {
        let text = self.text(expected)?;
        text.parse().map_err(|_| format!("{}: {text:?} is not {expected}", self.rtype))
    }

    fn name(&mut self, expected: &str) -> Result<Vec<u8>, String> {
        let text = self.text(expected)?;
        parse_name(text, self.origin).map(|name| name.as_wire().to_vec())
    }

    fn rest(&mut self) -> String {
        std::mem::take(&mut self.tokens).iter().map(|token| token.text).collect()
    }

    fn end(&self) -> Result<(), String> {
        match self.tokens.first() {
            Some(token) => Err(format!("{}: {:?} is too much", self.rtype, token.text)),
            None => Ok(()),
        }
    }
}

/// A name as it stands in a file: `@` is the origin.
pub(super) fn parse_name(text: &str, origin: &Name) -> Result<Name, String> {
    match text {
        "@" => Ok(origin.clone()),
        _ => Name::parse(text, origin).map_err(|fault| format!("{text:?} is not a domain name: {fault}")),
    }
}

/// `\# length hex` (RFC 3597, section 5), which any type may be written as.
fn generic(rtype: Rtype, tokens: &[Token<'_>]) -> Result<Vec<u8>, String> {
    let (length, digits) = tokens.split_first().ok_or("\\#: expected a length in octets")?;
    let length: u16 = length.text.parse().map_err(|_| format!("{:?} is not a length in octets", length.text))?;
    let rdata = hex(&digits.iter().map(|token| token.text).collect::<String>())?;
    if rdata.len() != usize::from(length) {
        return Err(format!("the length says {length} octets, but {} follow", rdata.len()));
    }
    let layout = Layout::of(rtype);
    let is_sound = match rtype {
        Rtype::A => rdata.len() == 4,
        Rtype::AAAA => rdata.len() == 16,
        _ => layout.split(&rdata).is_some_and(|Parts { rest, .. }| match rtype {
            Rtype::SOA => rest.len() == 20,
            _ => layout.count == 0 || rest.is_empty(),
        }),
    };
    if is_sound { Ok(rdata) } else { Err(format!("these octets are no {rtype} record")) }
}

/// One or more strings of at most 255 octets.
fn character_strings(tokens: &[Token<'_>]) -> Result<Vec<u8>, String> {
    if tokens.is_empty() {
        return Err("expected at least one string".to_owned());
    }
    let mut out = Vec::new();
    for token in tokens {
        let string = unescape(token.text)?;
        let len = u8::try_from(string.len())
            .map_err(|_| format!("a string of {} octets: expected at most 255, split it in two", string.len()))?;
        out.push(len);
        out.extend(string);
    }
    Ok(out)
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut rest = text.as_bytes();
    let mut out = Vec::with_capacity(rest.len());
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        out.push(match octet {
            b'\\' => crate::wire::read_escape(&mut rest).map_err(|fault| fault.to_string())?,
            _ => octet,
        });
    }
    Ok(out)
}

/// Every other type: one record at a time through hickory's parser.
fn by_hickory(rtype: Rtype, tokens: &[Token<'_>], origin: &Name) -> Result<Vec<u8>, String> {
    let is_service = matches!(rtype, Rtype::SVCB | Rtype::HTTPS);
    let mut line = format!(". 0 IN {rtype}");
    let mut before = None;
    for (at, token) in tokens.iter().enumerate() {
        // `key="value"` is one parameter (RFC 9460, section 2.1), though the quotes begin a token.
        if is_service && token.is_quoted && before.is_some_and(|before| is_joined(before, token)) {
            push_value(token.text, &mut line)?;
        } else {
            line.push(' ');
            // hickory reads the target of SVCB and HTTPS without the origin.
            let is_bare_name = is_service && at == 1;
            match token.text {
                text if token.is_quoted => quote(text, &mut line)?,
                text if text.contains('\\') => return Err(NOT_PLAIN.to_owned()),
                text if text == "@" || is_bare_name => {
                    write!(line, "{}", parse_name(text, origin)?).map_err(|e| e.to_string())?
                }
                text => line.push_str(text),
            }
        }
        before = Some(token);
    }
    line.push('\n');
    let origin = origin.to_string().parse().map_err(|fault| format!("{origin}: {fault}"))?;
    let not_understood = || format!("this is no {rtype} record; any type may be written as \\# length hex");
    let (_, sets) = Parser::new(line, None, Some(origin)).parse().map_err(|fault| format!("{rtype}: {fault}"))?;
    let set = sets.into_values().next().ok_or_else(not_understood)?;
    let record = set.record().ok_or_else(not_understood)?;
    record.data.to_bytes().map_err(|fault| format!("{rtype}: {fault}"))
}

/// Whether `token` goes on where `before`, a key and its equals sign, ends.
fn is_joined(before: &Token<'_>, token: &Token<'_>) -> bool {
    !before.is_quoted && before.text.ends_with('=') && before.offset + before.text.len() == token.offset
}

/// Writes the quoted value of a parameter without its quotes.
fn push_value(text: &str, line: &mut String) -> Result<(), String> {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.,:/+=".contains(&octet);
    if !text.bytes().all(is_plain) {
        return Err(NOT_PLAIN.to_owned());
    }
    line.push_str(text);
    Ok(())
}

/// Writes a quoted string so that hickory reads it right: it understands `\X` but not `\DDD`.
fn quote(text: &str, line: &mut String) -> Result<(), String> {
    line.push('"');
    for octet in unescape(text)? {
        match octet {
            b'"' | b'\\' => line.extend(['\\', char::from(octet)]),
            b' '..=b'~' => line.push(char::from(octet)),
            _ => return Err(NOT_PLAIN.to_owned()),
        }
    }
    line.push('"');
    Ok(())
}

fn hex(digits: &str) -> Result<Vec<u8>, String> {
    let fault = || "expected pairs of hexadecimal digits".to_owned();
    let value = |digit: u8| char::from(digit).to_digit(16).ok_or_else(fault);
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| if let &[high, low] = pair { Ok((value(high)? << 4 | value(low)?) as u8) } else { Err(fault()) })
        .collect()
}

fn base64(digits: &str) -> Result<Vec<u8>, String> {
    let fault = || "expected base64".to_owned();
    let significant = digits.trim_end_matches('=');
    if digits.is_empty() || !digits.len().is_multiple_of(4) || digits.len() - significant.len() > 2 {
        return Err(fault());
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3);
    for chunk in significant.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for &digit in chunk {
            let value = BASE64.iter().position(|&known| known == digit).ok_or_else(fault)?;
            bits = bits << 6 | value as u32;
        }
        bits <<= 6 * (4 - chunk.len());
        out.extend(&bits.to_be_bytes()[1..chunk.len()]);
    }
    Ok(out)
}

/// Names from `name` up to the root, itself first.
pub(super) fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| parent(name))
}

/// hickory takes escapes for other octets than they stand for.
const NOT_PLAIN: &str = "only plain printable ASCII is understood here: write the record as \\# length hex";

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(rtype: &str, words: &[&str]) -> Result<Vec<u8>, String> {
        let token = |&text: &&'static str| match text.strip_prefix('"') {
            Some(text) => Token { text, is_quoted: true, offset: 0 },
            None => Token { text, is_quoted: false, offset: 0 },
        };
        let words: Vec<&'static str> =
            words.iter().map(|word| &*Box::leak(word.to_string().into_boxed_str())).collect();
        let tokens: Vec<_> = words.iter().map(token).collect();
        let origin = Name::parse("example.com", &Name::root()).expect("a name");
        parse(parse_type(rtype).expect("a type"), &tokens, &origin)
    }

    #[test]
    fn data_is_read() {
        let cases: &[(&str, &[&str], &[u8])] = &[
            ("A", &["192.0.2.1"], &[192, 0, 2, 1]),
            ("MX", &["10", "@"], b"\0\x0a\x07example\x03com\0"),
            ("SRV", &["1", "2", "443", "a"], b"\0\x01\0\x02\x01\xbb\x01a\x07example\x03com\0"),
            ("TXT", &["a", "\"b \\195\\169", "\""], b"\x01a\x04b \xc3\xa9\0"),
            ("DS", &["1", "13", "2", "0AfF", "00"], b"\0\x01\x0d\x02\x0a\xff\0"),
            ("DNSKEY", &["257", "3", "13", "QUJD", "RA=="], b"\x01\x01\x03\x0dABCD"),
            ("type65280", &["\\#", "3", "0102", "03"], &[1, 2, 3]),
            ("A", &["\\#", "4", "c0000201"], &[192, 0, 2, 1]),
            ("CAA", &["0", "issue", "\"ca.example; x=\\034"], b"\0\x05issueca.example; x=\""),
            ("HTTPS", &["1", "svc", "alpn=h2"], b"\0\x01\x03svc\x07example\x03com\0\0\x01\0\x03\x02h2"),
            ("CSYNC", &["66", "3", "A", "NS", "AAAA"], b"\0\0\0\x42\0\x03\0\x04\x60\0\0\x08"),
            ("SVCB", &["0", "@"], b"\0\0\x07example\x03com\0"),
        ];
        for (rtype, words, expected) in cases {
            assert_eq!(read(rtype, words).as_deref(), Ok(*expected), "{rtype} {words:?}");
        }
    }

    #[test]
    fn broken_data_is_refused_with_what_would_be_right() {
        let cases: &[(&str, &[&str], &str)] = &[
            ("A", &["192.0.2"], "A: \"192.0.2\" is not an IPv4 address"),
            ("A", &[], "A: expected an IPv4 address"),
            ("A", &["192.0.2.1", "x"], "A: \"x\" is too much"),
            ("MX", &["ten", "a"], "MX: \"ten\" is not a preference of 0 to 65535"),
            ("NS", &["a..b"], "\"a..b\" is not a domain name: a label is empty"),
            ("DS", &["1", "13", "2", "0AF"], "expected pairs of hexadecimal digits"),
            ("DNSKEY", &["257", "3", "13", "QUJ"], "expected base64"),
            ("TYPE65280", &["\\#", "2", "010203"], "the length says 2 octets, but 3 follow"),
            ("MX", &["\\#", "3", "000103"], "these octets are no MX record"),
        ];
        for (rtype, words, expected) in cases {
            assert_eq!(read(rtype, words), Err((*expected).to_owned()), "{rtype} {words:?}");
        }
        assert!(read("RRSIG", &["A"]).is_err() && read("CAA", &["x"]).is_err() && read("TYPE1234", &["x"]).is_err());
    }

    proptest! {
        #[test]
        fn any_tokens_are_safe(rtype in 0..300_u16, words in prop::collection::vec("[ -~é]{0,12}", 0..8)) {
            let tokens: Vec<_> = words.iter().map(|text| Token { text, is_quoted: text.contains(' '), offset: 0 }).collect();
            if let Ok(rdata) = parse(Rtype(rtype), &tokens, &Name::root()) {
                prop_assert!(Layout::of(Rtype(rtype)).split(&rdata).is_some());
            }
        }
    }
}
