//! The tables `[server.cookies]` and `[server.rate_limit]`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use ipnet::IpNet;
use shared::config::parse_network;
use shared::settings::{Table, Value};

use super::read_path;
use crate::limit::Limits;

/// The table `[server.cookies]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CookieSettings {
    /// Whether cookies are given and taken.
    pub is_enabled: bool,
    /// The file with the secrets; `None`: one by chance for the life of the process.
    pub secret_file: Option<PathBuf>,
}

impl Default for CookieSettings {
    fn default() -> Self {
        Self { is_enabled: true, secret_file: None }
    }
}

/// The cookies of `server`.
pub(super) fn read_cookies(server: &Table<'_>) -> CookieSettings {
    let Some(table) = server.table("cookies") else { return CookieSettings::default() };
    CookieSettings {
        is_enabled: table.value("enabled").and_then(|value| value.flag()).unwrap_or(true),
        secret_file: table.value("secret_file").and_then(|value| read_path(&value)),
    }
}

/// The limits of `server`; `None` when there are none.
pub(super) fn read_rate_limit(server: &Table<'_>) -> Option<Limits> {
    let table = server.table("rate_limit");
    let integer = |key, range, default: u32| {
        let read = table.as_ref().and_then(|table| table.value(key)?.integer(range));
        read.and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
    };
    let rate = integer("responses_per_second", 0..=i64::from(Limits::RATE_MAX), RATE);
    let slip = integer("slip", 0..=i64::from(Limits::SLIP_MAX), SLIP);
    let buckets = integer("buckets", BUCKETS_MIN..=BUCKETS_MAX, BUCKETS);
    let exempt = table.as_ref().and_then(|table| table.value("exempt"));
    let exempt = exempt.and_then(|value| read_networks(&value)).unwrap_or_else(loopback);
    let in_all = integer("responses_per_second_in_all", 0..=i64::from(Limits::RATE_MAX), RATE_IN_ALL);
    let (responses_per_second, responses_per_second_in_all) = (NonZeroU32::new(rate)?, NonZeroU32::new(in_all));
    Some(Limits {
        responses_per_second,
        responses_per_second_in_all,
        slip: slip as u8,
        exempt,
        buckets: buckets as usize,
    })
}

fn read_networks(value: &Value<'_>) -> Option<Vec<IpNet>> {
    let items = value.items("a list of networks, such as [\"192.0.2.0/24\", \"2001:db8::/32\"]")?;
    Some(items.iter().filter_map(|item| item.parsed(parse_network)).collect())
}

/// Who is on this machine needs no foreign address to flood it.
fn loopback() -> Vec<IpNet> {
    let (v4, v6) = (std::net::Ipv4Addr::new(127, 0, 0, 0), std::net::Ipv6Addr::LOCALHOST);
    [IpNet::new(v4.into(), 8), IpNet::new(v6.into(), 128)].into_iter().flatten().collect()
}

/// No resolver asks as often for one name, and no victim's line is filled by as little.
const RATE: u32 = 1000;
/// Many names of one network's resolvers, and a part of what a victim's line takes.
const RATE_IN_ALL: u32 = 10_000;
/// Every limited client is told how to get through.
const SLIP: u32 = 1;
/// 512 KiB.
const BUCKETS: u32 = 65_536;
/// With fewer, honest clients would be limited together with others all the time.
const BUCKETS_MIN: i64 = 1024;
/// 128 MiB.
const BUCKETS_MAX: i64 = 1 << 24;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use crate::settings::Settings;

    /// Settings with `lines` in and below `[server]`.
    fn parse(lines: &str) -> Result<Settings, Vec<String>> {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n{lines}\n[[zones]]\nname = \"example.com\"\nfile = \"z\"\n\
             [regions.a]\ncoordinates = [1, 1]\nvips = [\"192.0.2.1\"]\nproxies = {{ p = \"http://192.0.2.2/status\" }}\n[services.\"www.example.com\"]\n\
             policy = \"ordered\"\nregions = [\"a\"]\n"
        );
        Settings::parse("t", &text).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_a_word_cookies_are_on_and_answers_limited() {
        let server = parse("").expect("right").server;
        assert!(server.cookies.is_enabled && server.cookies.secret_file.is_none());
        let limits = server.rate_limit.expect("on");
        assert_eq!((limits.responses_per_second.get(), limits.slip, limits.buckets), (1000, 1, 65_536));
        assert_eq!(limits.responses_per_second_in_all.map(NonZeroU32::get), Some(10_000));
        let exempt: Vec<String> = limits.exempt.iter().map(ToString::to_string).collect();
        assert_eq!(exempt, ["127.0.0.0/8", "::1/128"]);
    }

    #[test]
    fn every_key_is_read() {
        let text = "cookies = { enabled = false, secret_file = \"s\" }\n[server.rate_limit]\nresponses_per_second = 7\nslip = 2\n\
                    responses_per_second_in_all = 70\n\
                    exempt = [\"192.0.2.0/24\"]\nbuckets = 2000";
        let server = parse(text).expect("right").server;
        assert!(!server.cookies.is_enabled && server.cookies.secret_file.as_deref() == Some("s".as_ref()));
        let limits = server.rate_limit.expect("on");
        assert_eq!((limits.responses_per_second.get(), limits.slip, limits.buckets), (7, 2, 2000));
        assert_eq!(limits.responses_per_second_in_all.map(NonZeroU32::get), Some(70));
        assert_eq!(limits.exempt, ["192.0.2.0/24".parse().expect("a network")]);
    }

    #[test]
    fn sum_of_zero_limits_record_sets_alone() {
        let limits = parse("rate_limit = { responses_per_second_in_all = 0 }").expect("right").server.rate_limit;
        assert_eq!(limits.expect("on").responses_per_second_in_all, None);
        let found = parse("rate_limit = { responses_per_second_in_all = 1000001 }").expect_err("wrong");
        let expected = "t:3: server.rate_limit.responses_per_second_in_all: 1000001 is not a whole number from 0";
        assert!(found[0].starts_with(expected), "{found:?}");
    }

    #[test]
    fn rate_of_zero_turns_limits_off_and_takes_a_restart_to_change() {
        let (on, off) = (parse("").expect("right").server, parse("rate_limit = { responses_per_second = 0 }"));
        let off = off.expect("right").server;
        assert_eq!(off.rate_limit, None);
        assert_eq!(off.differing_keys(&on), ["rate_limit"]);
        let cookies = parse("cookies = { enabled = false }").expect("right").server;
        assert!(cookies.differing_keys(&on).is_empty());
    }

    #[test]
    fn every_mistake_is_reported_with_what_would_be_right() {
        let text = "cookies = { enabled = 1, secret_file = \"\", x = 1 }\n[server.rate_limit]\nresponses_per_second = -1\nslip = 11\n\
                    exempt = [\"192.0.2.1/24\", \"all\"]\nbuckets = 10\ny = 1";
        let found = parse(text).expect_err("wrong");
        for expected in [
            "t:3: server.cookies.enabled: 1 is not true or false",
            "t:3: server.cookies.secret_file: \"\" is not the path of a file",
            "t:3: server.cookies.x: unknown key",
            "t:5: server.rate_limit.responses_per_second: -1 is not a whole number from 0 to 1000000",
            "t:6: server.rate_limit.slip: 11 is not a whole number from 0 to 10",
            "t:7: server.rate_limit.exempt[0]: 192.0.2.1/24 has bits set beyond its prefix length: expected 192.0.2.0/24",
            "t:7: server.rate_limit.exempt[1]: \"all\" is not a network",
            "t:8: server.rate_limit.buckets: 10 is not a whole number from 1024",
            "t:9: server.rate_limit.y: unknown key",
        ] {
            assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected} is not in {found:#?}");
        }
    }
}
