//! Dates in a cookie's value: five characters, as HAProxy writes them.

/// A point in Unix time, to four seconds; from 1970 to 2106.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Date(u32);

impl Date {
    /// Length of its text.
    pub const LEN: usize = 5;

    /// The date that is not before `unix_secs`, so that a limit is never cut short.
    pub fn at(unix_secs: u64) -> Self {
        Self((unix_secs.div_ceil(4)).min(u64::from(MAX)) as u32)
    }

    /// Reads the five characters; `None` for any others and for the date 0, which nobody writes.
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let octets: &[u8; Self::LEN] = octets.try_into().ok()?;
        let number = octets.iter().try_fold(0, |number, octet| Some(number << 6 | digit_of(*octet)?))?;
        (number > 0).then_some(Self(number))
    }

    /// Appends its five characters.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend([24, 18, 12, 6, 0].map(|shift| DIGITS[(self.0 >> shift) as usize % DIGITS.len()]));
    }

    /// Whether more than `secs_max` have passed at `unix_secs`, or the date is more than a day ahead.
    ///
    /// Nobody but who forges it, or whose clock was far off, has a date so far ahead; it would keep its bearer for longer
    /// than the limit says.
    pub fn is_beyond(self, secs_max: u64, unix_secs: u64) -> bool {
        let own = u64::from(self.0) * 4;
        unix_secs.saturating_sub(own) > secs_max || own.saturating_sub(unix_secs) > DAY_SECS
    }
}

/// Thirty bits.
const MAX: u32 = (1 << 30) - 1;

const DAY_SECS: u64 = 24 * 60 * 60;

/// Base 64 of RFC 4648, section 4.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn digit_of(octet: u8) -> Option<u32> {
    Some(match octet {
        b'A'..=b'Z' => u32::from(octet - b'A'),
        b'a'..=b'z' => u32::from(octet - b'a') + 26,
        b'0'..=b'9' => u32::from(octet - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_and_never_early(unix_secs in 1..4_200_000_000_u64) {
            let date = Date::at(unix_secs);
            let mut text = Vec::new();
            date.write(&mut text);
            prop_assert_eq!(text.len(), Date::LEN);
            prop_assert_eq!(Date::parse(&text), Some(date));
            prop_assert!(!date.is_beyond(0, unix_secs));
            prop_assert!(date.is_beyond(10, unix_secs + 15));
        }

        #[test]
        fn any_octets_are_a_date_or_none(octets in proptest::collection::vec(any::<u8>(), 0..8)) {
            if let Some(date) = Date::parse(&octets) {
                let mut text = Vec::new();
                date.write(&mut text);
                prop_assert_eq!(text, octets);
            }
        }
    }

    #[test]
    fn a_date_more_than_a_day_ahead_does_not_count() {
        let date = Date::at(1_000_000);
        assert!(!date.is_beyond(60, 1_000_000 - DAY_SECS));
        assert!(date.is_beyond(60, 1_000_000 - DAY_SECS - 1));
        assert!(date.is_beyond(u64::MAX, 0));
    }

    #[test]
    fn the_end_of_its_time_is_written() {
        assert_eq!(Date::at(u64::MAX), Date(MAX));
    }
}
