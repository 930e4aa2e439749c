//! What a certificate says of itself, read in its DER (RFC 5280).

/// The names of a certificate and the time in which it may be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// Whether it is of version 1, which has no extensions and so no names that clients take (RFC 5280, section 4.1.2.1;
    /// RFC 9525, section 6).
    pub is_version_1: bool,
    /// The first second of it, since 1970.
    pub not_before: i64,
    /// The last.
    pub not_after: i64,
    /// The DNS names of `subjectAltName`, in lower case; those of version 1 and 2 have none.
    pub names: Vec<String>,
}

impl Certificate {
    /// Reads `der`; `None` where it is no X.509 certificate.
    ///
    /// ```text
    /// Certificate     SEQUENCE { tbsCertificate, … }
    /// TBSCertificate  SEQUENCE { [0] version, serialNumber, signature, issuer, validity, subject, …, [3] extensions }
    /// Validity        SEQUENCE { notBefore, notAfter }, each a UTCTime or a GeneralizedTime
    /// Extension       SEQUENCE { extnID, critical?, extnValue OCTET STRING }
    /// ```
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let mut outer = Der(der);
        let mut whole = Der(outer.expect(SEQUENCE)?);
        let mut fields = Der(whole.expect(SEQUENCE)?);
        let (tag, _) = fields.next()?;
        let is_version_1 = tag != VERSION;
        if !is_version_1 {
            fields.expect(INTEGER)?;
        }
        fields.expect(SEQUENCE)?;
        fields.expect(SEQUENCE)?;
        let mut validity = Der(fields.expect(SEQUENCE)?);
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        let names = loop {
            match fields.next() {
                Some((EXTENSIONS, extensions)) => break names(extensions)?,
                Some(_) => {}
                None => break Vec::new(),
            }
        };
        Some(Self { is_version_1, not_before, not_after, names })
    }
}

/// The DNS names among `extensions`; `None` where they cannot be read.
fn names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut extensions = Der(Der(extensions).expect(SEQUENCE)?);
    let mut names = Vec::new();
    while !extensions.0.is_empty() {
        let mut extension = Der(extensions.expect(SEQUENCE)?);
        if extension.expect(OBJECT)? != SUBJECT_ALT_NAME {
            continue;
        }
        let (mut tag, mut value) = extension.next()?;
        if tag == BOOLEAN {
            (tag, value) = extension.next()?;
        }
        let mut found = Der(Der(Some(value).filter(|_| tag == OCTETS)?).expect(SEQUENCE)?);
        while !found.0.is_empty() {
            let (tag, name) = found.next()?;
            if tag == DNS_NAME {
                names.push(std::str::from_utf8(name).ok()?.to_ascii_lowercase());
            }
        }
    }
    Some(names)
}

/// Whether `der` is an OCSP response that gives a status, rather than a reason why there is none.
///
/// Source: RFC 6960, section 4.2.1.
pub fn is_ocsp_response(der: &[u8]) -> bool {
    let mut outer = Der(der);
    let Some(content) = outer.expect(SEQUENCE) else { return false };
    let mut fields = Der(content);
    outer.0.is_empty() && fields.expect(ENUMERATED) == Some(&[0]) && fields.next().is_some()
}

/// What is left to read of DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Tag and content of the next value.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // No certificate is longer than three octets say.
            0x81..=0x83 => {
                let (octets, rest) = rest.split_at_checked(usize::from(first & 3))?;
                (octets.iter().fold(0, |len, octet| len << 8 | usize::from(*octet)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, which must have `tag`.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

/// YYMMDDhhmmssZ of 1950 to 2049, or YYYYMMDDhhmmssZ, in seconds since 1970.
fn time((tag, content): (u8, &[u8])) -> Option<i64> {
    let digits = content.strip_suffix(b"Z")?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(&digits[..2])?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4])?, &digits[4..]),
        _ => return None,
    };
    let mut parts = rest.chunks(2).map(number);
    let mut part = |least: i64, most: i64| parts.next()?.filter(|part| (least..=most).contains(part));
    let (month, day) = (part(1, 12)?, part(1, 31)?);
    let (hour, minute, second) = (part(0, 23)?, part(0, 59)?, part(0, 59)?);
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    let digit = |number: Option<i64>, octet: &u8| {
        octet.is_ascii_digit().then(|| number.map(|number| number * 10 + i64::from(octet - b'0')))?
    };
    digits.iter().fold(Some(0), digit)
}

/// Days from 1970 to a date, in years that begin in March so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month < 3 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const DNS_NAME: u8 = 0x82;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.17 (RFC 5280, section 4.2.1.6).
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(last_year: i32) -> Vec<u8> {
        let names = ["Www.example.com", "*.example.com"].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("names");
        (params.not_before, params.not_after) = (date_time_ymd(1999, 12, 31), date_time_ymd(last_year, 6, 15));
        params.self_signed(&KeyPair::generate().expect("a key")).expect("signed").der().to_vec()
    }

    #[test]
    fn times_of_both_kinds_are_read() {
        for (last_year, not_after) in [(2049, 2_507_328_000), (2050, 2_538_864_000), (9999, 253_385_020_800)] {
            let read = Certificate::from_der(&certificate(last_year)).expect("a certificate");
            assert_eq!((read.not_before, read.not_after), (946_598_400, not_after));
        }
    }

    #[test]
    fn names_are_read_in_lower_case() {
        let read = Certificate::from_der(&certificate(2040)).expect("a certificate");
        assert_eq!(
            (read.is_version_1, read.names.as_slice()),
            (false, &["www.example.com".into(), "*.example.com".into()][..])
        );
    }

    #[test]
    fn an_ocsp_response_without_status_is_none() {
        assert!(is_ocsp_response(&[0x30, 5, 0x0a, 1, 0, 0xa0, 0]));
        for wrong in [&[][..], &[0x30, 3, 0x0a, 1, 6], &[0x30, 3, 0x0a, 1, 0], b"-----BEGIN"] {
            assert!(!is_ocsp_response(wrong));
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_a_certificate_or_none(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Certificate::from_der(&octets);
            let _ = is_ocsp_response(&octets);
        }

        #[test]
        fn any_cut_certificate_is_one_or_none(at in 0..500_usize, octet: u8) {
            let mut octets = CERTIFICATE.with(Clone::clone);
            let _ = Certificate::from_der(&octets[..at.min(octets.len())]);
            if let Some(place) = octets.get_mut(at) {
                *place = octet;
            }
            let _ = Certificate::from_der(&octets);
        }
    }

    thread_local! {
        static CERTIFICATE: Vec<u8> = certificate(2040);
    }
}
