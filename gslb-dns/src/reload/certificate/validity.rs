//! From when to when a certificate is valid, read in its DER (RFC 5280, section 4.1.2.5).

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The time in which a certificate may be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Validity {
    /// That of `certificate`, in DER; `None` where it is no X.509 certificate.
    ///
    /// ```text
    /// Certificate     SEQUENCE { tbsCertificate, … }
    /// TBSCertificate  SEQUENCE { [0] version, serialNumber, signature, issuer, validity, … }
    /// Validity        SEQUENCE { notBefore, notAfter }, each a UTCTime or a GeneralizedTime
    /// ```
    pub(super) fn of_certificate(certificate: &[u8]) -> Option<Self> {
        let mut outer = Der(certificate);
        let mut whole = Der(outer.expect(SEQUENCE)?);
        let mut fields = Der(whole.expect(SEQUENCE)?);
        let (tag, _) = fields.next()?;
        if tag == VERSION {
            fields.expect(INTEGER)?;
        }
        fields.expect(SEQUENCE)?;
        fields.expect(SEQUENCE)?;
        let mut validity = Der(fields.expect(SEQUENCE)?);
        Some(Self { not_before: time(validity.next()?)?, not_after: time(validity.next()?)? })
    }
}

/// Whether `certificate`, in DER, is of X.509 version 1, which has no extensions and so no names that clients take
/// (RFC 5280, section 4.1.2.1; RFC 9525, section 6).
pub(super) fn is_version_1(certificate: &[u8]) -> bool {
    let mut outer = Der(certificate);
    let first =
        outer.expect(SEQUENCE).and_then(|whole| Der(whole).expect(SEQUENCE)).and_then(|fields| Der(fields).next());
    first.is_some_and(|(tag, _)| tag != VERSION)
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

/// YYMMDDhhmmssZ of 1950 to 2049, or YYYYMMDDhhmmssZ.
fn time((tag, content): (u8, &[u8])) -> Option<Timestamp> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let text = match tag {
        UTC_TIME if text.len() == 12 => format!("{}{text}", if text < "50" { "20" } else { "19" }),
        GENERALIZED_TIME if text.len() == 14 => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    Some(TimeZone::UTC.to_ambiguous_zoned(time).unambiguous().ok()?.timestamp())
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(last_year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["ns1.example.com".to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(1999, 12, 31), date_time_ymd(last_year, 6, 15));
        params.self_signed(&KeyPair::generate().expect("a key")).expect("signed").der().to_vec()
    }

    #[test]
    fn times_of_both_kinds_are_read() {
        for last_year in [2049, 2050, 9999] {
            let validity = Validity::of_certificate(&certificate(last_year)).expect("a certificate");
            assert_eq!(validity.not_before.to_string(), "1999-12-31T00:00:00Z");
            assert_eq!(validity.not_after.to_string(), format!("{last_year}-06-15T00:00:00Z"));
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_a_validity_or_none(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Validity::of_certificate(&octets);
        }

        #[test]
        fn any_cut_certificate_is_a_validity_or_none(at in 0..300_usize, octet: u8) {
            let mut octets = CERTIFICATE.with(Clone::clone);
            let _ = Validity::of_certificate(&octets[..at.min(octets.len())]);
            if let Some(place) = octets.get_mut(at) {
                *place = octet;
            }
            let _ = Validity::of_certificate(&octets);
        }
    }

    thread_local! {
        static CERTIFICATE: Vec<u8> = certificate(2040);
    }
}
