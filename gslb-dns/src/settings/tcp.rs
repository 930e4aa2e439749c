//! The table `[server.tcp]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use shared::settings::Table;

/// What TCP connections may use (RFC 7766, section 6.2; RFC 9210, section 4.3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TcpSettings {
    /// How many there may be in all; fewer where the process may not open so many files.
    pub connections: usize,
    /// How many one client may have: an IPv4 address, or an IPv6 /56.
    pub connections_per_client: usize,
    /// Time that may pass between two queries.
    pub idle: Duration,
    /// Time for one query to arrive whole, counted from its first octet or from the start of the connection, and for
    /// the answers to it to be taken.
    pub message: Duration,
    /// Octets of queries that are not whole and of answers that are not taken, of all connections together.
    pub bytes_in_flight: usize,
}

impl Default for TcpSettings {
    fn default() -> Self {
        Self {
            // Far more than resolvers open; an idle one costs about a KiB here, and more in the kernel.
            connections: 10_000,
            // A busy resolver opens a handful; many may share an address.
            connections_per_client: 100,
            // RFC 7766, section 6.2.3, asks for a few seconds.
            idle: Duration::from_secs(10),
            message: Duration::from_secs(5),
            bytes_in_flight: 64 << 20,
        }
    }
}

impl TcpSettings {
    /// Reads the table; what is missing or mistaken has its default.
    pub(super) fn read(table: &Table<'_>) -> Self {
        let count = |key, range: RangeInclusive<i64>, default: usize| {
            let count = table.value(key).and_then(|value| value.integer(range));
            count.and_then(|count| usize::try_from(count).ok()).unwrap_or(default)
        };
        let time = |key, default| table.value(key).and_then(|value| value.duration(TIMES)).unwrap_or(default);
        let default = Self::default();
        Self {
            connections: count("connections", CONNECTIONS, default.connections),
            connections_per_client: count("connections_per_client", CONNECTIONS, default.connections_per_client),
            idle: time("idle", default.idle),
            message: time("message", default.message),
            bytes_in_flight: count("bytes_in_flight", BYTES_IN_FLIGHT, default.bytes_in_flight),
        }
    }
}

/// More than a million of connections is more than the ports of an address.
const CONNECTIONS: RangeInclusive<i64> = 1..=1_000_000;
/// With less, round trips of honest clients would be taken for silence; with more, a connection is never taken back.
const TIMES: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(3600);
/// One connection alone may need a quarter of a MiB.
const BYTES_IN_FLIGHT: RangeInclusive<i64> = (1 << 20)..=(1 << 40);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn read(tcp: &str) -> Result<TcpSettings, Vec<String>> {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:53\"]\n{tcp}\n[[zones]]\nname = \"example.com\"\nfile = \"zone\"\n\
             [regions.seoul]\ncoordinates = [37.57, 126.98]\nvips = [\"192.0.2.1\"]\n\
             proxies = {{ seoul-1 = \"http://192.0.2.11:8081/status\" }}\n[services.\"www.example.com\"]\n"
        );
        let settings = Settings::parse("t", &text);
        settings
            .map(|settings| settings.server.tcp)
            .map_err(|problems| problems.iter().map(|problem| format!("{}: {}", problem.key, problem.what)).collect())
    }

    #[test]
    fn every_limit_is_read_and_has_a_default() {
        assert_eq!(read("").as_ref(), Ok(&TcpSettings::default()));
        let text = "tcp = { connections = 500, connections_per_client = 5, idle = \"2s\", message = \"500ms\", \
                    bytes_in_flight = 1048576 }";
        let expected = TcpSettings {
            connections: 500,
            connections_per_client: 5,
            idle: Duration::from_secs(2),
            message: Duration::from_millis(500),
            bytes_in_flight: 1 << 20,
        };
        assert_eq!(read(text), Ok(expected));
    }

    #[test]
    fn limits_out_of_range_are_all_reported() {
        let text = "[server.tcp]\nconnections = 0\nconnections_per_client = 1000001\nidle = \"0s\"\nmessage = 5\n\
                    bytes_in_flight = 1000\nbuffer = 1";
        let found = read(text).expect_err("it has mistakes");
        for expected in [
            "server.tcp.connections: 0 is not a whole number from 1 to 1000000",
            "server.tcp.connections_per_client: 1000001 is not",
            "server.tcp.idle: \"0s\" is not a time",
            "server.tcp.message: 5 is not a time",
            "server.tcp.bytes_in_flight: 1000 is not a whole number from 1048576",
            "server.tcp.buffer: unknown key",
        ] {
            assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected} is not in {found:#?}");
        }
    }
}
