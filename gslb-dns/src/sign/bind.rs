//! The text of BIND's key files: `K<zone>.+<algorithm>+<tag>.key` with the DNSKEY record, and `.private` with the secret
//! and the times (private-key-format v1.3).

use std::fmt::Write as _;

use data_encoding::BASE64;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::key::{Algorithm, BadKey, PublicKey, Role, SigningKey};
use super::times::{KeyTimes, ZoneKey};
use crate::wire::Name;

/// The text of the two files of a key. What is secret in it never shows.
pub struct KeyTexts {
    /// Of the `.key` file.
    pub public: String,
    /// Of the `.private` file.
    pub private: String,
}

/// What a `.key` file says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicText {
    /// The key.
    pub key: PublicKey,
    /// What it is for, where a comment of ours says so; BIND's own files tell a KSK from a CSK by the other keys.
    pub role: Option<Role>,
    /// [`KeyTimes::ds_cached_until`], where a comment of ours says so: in `.private` files BIND refuses names it does not know.
    pub ds_cached_until: Option<u64>,
}

/// What is wrong in a key file; never shows what stands there.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what}")]
pub struct BadText {
    /// From 1; `None`: the file as a whole.
    pub line: Option<usize>,
    /// What, and what would be right.
    pub what: String,
}

impl BadText {
    fn at(line: usize, what: impl Into<String>) -> Self {
        Self { line: Some(line), what: what.into() }
    }

    fn whole(what: impl Into<String>) -> Self {
        Self { line: None, what: what.into() }
    }
}

/// The name of the two files of `key` of the zone `apex`, without what follows the last dot.
pub fn file_stem(apex: &Name, key: &PublicKey) -> String {
    format!("{}{:03}+{:05}", stem_start(apex), key.algorithm().number(), key.tag())
}

/// How the names of all key files of the zone `apex` begin.
pub fn stem_start(apex: &Name) -> String {
    format!("K{}+", apex.folded())
}

/// The files of `key`; `None` when the library does not give the secret.
pub fn write(apex: &Name, key: &ZoneKey, dnskey_ttl: u32) -> Option<KeyTexts> {
    let public_key = key.key.public();
    let (number, tag) = (public_key.algorithm().number(), public_key.tag());
    let kind = if key.role.is_entry_point() { "key" } else { "zone" };
    let mut public = format!("; This is a {kind}-signing key, keyid {tag}, for {apex}\n");
    let secret = BASE64.encode(&key.key.secret()?);
    let algorithm = format!("{number} ({})", public_key.algorithm().as_str());
    let mut private = format!("{FORMAT} v1.3\n{ALGORITHM} {algorithm}\n{SECRET} {secret}\n");
    for (name, time) in fields(&key.times) {
        // Writing to a text does not fail.
        if let Some(time) = time.map(show_time) {
            let _ = writeln!(private, "{name}: {time}");
            let _ = writeln!(public, "; {name}: {time}");
        }
    }
    if let Some(until) = key.times.ds_cached_until {
        let _ = writeln!(public, "{DS_CACHED_UNTIL} {}", show_time(until));
    }
    let _ = writeln!(public, "{ROLE} {}", key.role.as_str());
    let encoded = BASE64.encode(public_key.key());
    let _ = writeln!(public, "{apex} {dnskey_ttl} IN DNSKEY {} 3 {number} {encoded}", key.role.flags());
    Some(KeyTexts { public, private })
}

/// Reads a `.key` file of the zone `apex`.
pub fn read_public(apex: &Name, text: &str) -> Result<PublicText, BadText> {
    let (mut role, mut ds_cached_until) = (None, None);
    let mut found = None;
    for (line, content) in (1..).zip(text.lines()) {
        if let Some(word) = content.strip_prefix(ROLE) {
            role = Some(role_of(word).ok_or_else(|| BadText::at(line, "expected csk, ksk or zsk"))?);
        }
        if let Some(time) = content.strip_prefix(DS_CACHED_UNTIL) {
            ds_cached_until = Some(read_time(time.trim()).ok_or_else(|| BadText::at(line, EXPECTED_TIME))?);
        }
        let record = content.split(';').next().unwrap_or_default();
        if !record.trim().is_empty() {
            if found.is_some() {
                return Err(BadText::at(line, "a second record: expected one DNSKEY in one line"));
            }
            found = Some((line, read_dnskey(apex, record).map_err(|what| BadText::at(line, what))?));
        }
    }
    let (line, key) = found.ok_or_else(|| BadText::whole("holds no DNSKEY record"))?;
    if role.is_some_and(|role| role.is_entry_point() != key.is_entry_point()) {
        return Err(BadText::at(line, "the flags do not fit the role: expected 257 for csk and ksk, 256 for zsk"));
    }
    Ok(PublicText { key, role, ds_cached_until })
}

/// `owner [TTL] [IN] DNSKEY flags protocol algorithm key`
fn read_dnskey(apex: &Name, record: &str) -> Result<PublicKey, String> {
    const EXPECTED: &str = "expected: zone [TTL] [IN] DNSKEY flags 3 algorithm key";
    let mut words = record.split_whitespace();
    let owner = words.next().ok_or(EXPECTED)?;
    let owner = Name::parse(owner, &Name::root()).map_err(|fault| format!("{owner:?} is no name: {fault}"))?;
    if owner.folded() != apex.folded() {
        return Err(format!("a key of {owner}: expected one of {apex}"));
    }
    words.by_ref().find(|word| word.eq_ignore_ascii_case("DNSKEY")).ok_or(EXPECTED)?;
    let [flags, protocol, algorithm] = [(); 3].map(|()| words.next().and_then(|word| word.parse::<u16>().ok()));
    let (flags, protocol) = (flags.ok_or(EXPECTED)?, protocol.ok_or(EXPECTED)?);
    let algorithm = algorithm.and_then(|number| u8::try_from(number).ok()).ok_or(EXPECTED)?;
    let key = BASE64.decode(words.collect::<String>().as_bytes()).map_err(|_| "the key is not base64")?;
    let protocol = u8::try_from(protocol).map_err(|_| EXPECTED)?;
    let dnskey = [&flags.to_be_bytes()[..], &[protocol, algorithm], &key].concat();
    PublicKey::from_dnskey(&dnskey).map_err(|bad| bad.to_string())
}

/// Reads the `.private` file that belongs to `public`.
pub fn read_private(public: &PublicKey, text: &str) -> Result<(SigningKey, KeyTimes), BadText> {
    let mut secret = None;
    let mut times = KeyTimes::default();
    let mut is_format_known = false;
    for (line, content) in (1..).zip(text.lines()) {
        let Some((name, value)) = content.split_once(':').map(|(name, value)| (name.trim(), value.trim())) else {
            if content.trim().is_empty() {
                continue;
            }
            return Err(BadText::at(line, "expected a name, a colon and a value"));
        };
        match name {
            "Private-key-format" => {
                is_format_known = value.starts_with("v1.");
            }
            "Algorithm" => {
                let number = value.split_whitespace().next().and_then(|word| word.parse().ok());
                let algorithm = number.and_then(Algorithm::from_number);
                if algorithm != Some(public.algorithm()) {
                    let expected = public.algorithm().number();
                    return Err(BadText::at(line, format!("not the algorithm of the .key file: expected {expected}")));
                }
            }
            "PrivateKey" => {
                let decoded = BASE64.decode(value.as_bytes());
                secret = Some(decoded.map_err(|_| BadText::at(line, "the private key is not base64"))?);
            }
            _ => {
                // What we do not know, such as Predecessor, changes nothing.
                let Some(field) = field(&mut times, name) else { continue };
                *field = Some(read_time(value).ok_or_else(|| BadText::at(line, EXPECTED_TIME))?);
            }
        }
    }
    if !is_format_known {
        return Err(BadText::whole("is no private key of BIND: expected the line `Private-key-format: v1.3`"));
    }
    let secret = secret.ok_or_else(|| BadText::whole("holds no line `PrivateKey: …`"))?;
    let key = SigningKey::from_secret(public.clone(), &secret).map_err(|bad| BadText::whole(bad.to_string()))?;
    Ok((key, times))
}

/// Reads a private key in PEM (PKCS#8, RFC 7468, section 10), such as `openssl genpkey` writes.
pub fn read_pem(text: &str, role: Role) -> Result<SigningKey, BadText> {
    const EXPECTED: &str = "expected a PEM text between BEGIN PRIVATE KEY and END PRIVATE KEY (PKCS#8, not encrypted)";
    let (_, rest) = text.split_once("-----BEGIN PRIVATE KEY-----").ok_or_else(|| BadText::whole(EXPECTED))?;
    let (encoded, _) = rest.split_once("-----END PRIVATE KEY-----").ok_or_else(|| BadText::whole(EXPECTED))?;
    let encoded: String = encoded.split_whitespace().collect();
    let pkcs8 = BASE64.decode(encoded.as_bytes()).map_err(|_| BadText::whole(EXPECTED))?;
    SigningKey::from_pkcs8(&pkcs8, role).map_err(|bad| match bad {
        BadKey::Private { .. } => BadText::whole("is no private key of P-256 or Ed25519"),
        bad => BadText::whole(bad.to_string()),
    })
}

/// The times that files have, under their names.
fn fields(times: &KeyTimes) -> [(&'static str, Option<u64>); 8] {
    let mut times = *times;
    NAMES.map(|name| (name, field(&mut times, name).and_then(|field| *field)))
}

fn field<'a>(times: &'a mut KeyTimes, name: &str) -> Option<&'a mut Option<u64>> {
    Some(match name {
        "Created" => &mut times.created,
        "Publish" => &mut times.publish,
        "Activate" => &mut times.activate,
        "Inactive" => &mut times.inactive,
        "Delete" => &mut times.delete,
        "SyncPublish" => &mut times.sync_publish,
        "SyncDelete" => &mut times.sync_delete,
        "DSPublish" => &mut times.ds_publish,
        _ => return None,
    })
}

fn show_time(secs: u64) -> String {
    let time = i64::try_from(secs).ok().and_then(|secs| Timestamp::from_second(secs).ok());
    time.unwrap_or(Timestamp::MAX).strftime(TIME).to_string()
}

fn read_time(text: &str) -> Option<u64> {
    if text.len() != "20260131235959".len() || !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let time = DateTime::strptime(TIME, text).ok()?.to_zoned(TimeZone::UTC).ok()?;
    u64::try_from(time.timestamp().as_second()).ok()
}

fn role_of(word: &str) -> Option<Role> {
    [Role::Csk, Role::Ksk, Role::Zsk].into_iter().find(|role| role.as_str() == word.trim())
}

/// Names of times, in the order of BIND; all are known to it.
const NAMES: [&str; 8] =
    ["Created", "Publish", "Activate", "Inactive", "Delete", "DSPublish", "SyncPublish", "SyncDelete"];
const TIME: &str = "%Y%m%d%H%M%S";
const FORMAT: &str = "Private-key-format:";
const ALGORITHM: &str = "Algorithm:";
const SECRET: &str = "PrivateKey:";
const ROLE: &str = "; Role:";
const DS_CACHED_UNTIL: &str = "; DSCachedUntil:";
const EXPECTED_TIME: &str = "expected a time such as 20260131235959, in UTC";
