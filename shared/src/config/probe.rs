//! The table `[probe]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::settings::Table;
use crate::topology::ProbeSettings;

/// How proxies are asked for their status; what is absent has its default.
pub(super) fn read_probe(root: &Table<'_>) -> ProbeSettings {
    let default = ProbeSettings::default();
    let Some(table) = root.table("probe") else { return default };
    let interval = span(&table, "interval", INTERVALS).unwrap_or(default.interval);
    let deciding = span(&table, "deciding_interval", INTERVALS);
    if deciding.is_some_and(|deciding| deciding > interval) {
        table.problem("deciding_interval", "longer than `interval`: expected at most the same");
    }
    let count = |key, default| {
        let count = table.value(key).and_then(|value| value.integer(1..=STREAK_MAX));
        count.map_or(default, |count| count as u32)
    };
    ProbeSettings {
        interval,
        deciding_interval: deciding.unwrap_or(default.deciding_interval.min(interval)),
        time_limit: span(&table, "time_limit", TIME_LIMITS).unwrap_or(default.time_limit),
        rise: count("rise", default.rise),
        fall: count("fall", default.fall),
    }
}

fn span(table: &Table<'_>, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
    table.value(key)?.duration(range)
}

/// Below 10 ms probes would load what they measure; above an hour nobody would call it a check.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// Probes overlap, so a limit may be longer than the interval; each pending one costs a connection.
const TIME_LIMITS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
const STREAK_MAX: i64 = 100;
