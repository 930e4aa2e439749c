//! The metrics of stick tables.

use std::fmt;

use super::sheet::Sheet;
use crate::live::Live;
use crate::stick::table::Counts;

/// Those of all services with a table; none where there are none.
pub(super) fn encode(live: &Live, sheet: &mut Sheet<'_>) -> fmt::Result {
    let tables = live.services().filter_map(|service| {
        let stuck = service.stuck.as_ref()?;
        Some((service.name.as_str(), stuck.bounds.entries as u64, stuck.table.counts()))
    });
    let tables: Vec<_> = tables.collect();
    if tables.is_empty() {
        return Ok(());
    }
    let rows = |read: fn(&Counts) -> u64| {
        tables.iter().map(move |(service, _, counts)| (vec![("service", *service)], read(counts)))
    };
    sheet.gauges(
        "region_proxy_stick_entries",
        "Clients that a stick table remembers",
        rows(|counts| counts.entries),
    )?;
    let limits = tables.iter().map(|(service, most, _)| (vec![("service", *service)], *most));
    sheet.gauges("region_proxy_stick_entries_limit", "How many it may remember", limits)?;
    let help = "Clients that a stick table forgot before their time, for it was full";
    sheet.counters("region_proxy_stick_evictions", help, rows(|counts| counts.evicted))?;
    let help = "Clients that a stick table forgot after their time";
    sheet.counters("region_proxy_stick_expired", help, rows(|counts| counts.expired))
}
