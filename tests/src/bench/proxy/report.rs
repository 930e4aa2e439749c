//! The tables: medians over rounds, and ratios to HAProxy.

use super::case::{Case, Maker};
use super::measure::{Idle, Measured, Results, Row};
use super::peers::{BASE, PROXIES};
use super::plan::Options;
use crate::bench::rounds::{FOREIGN_MAX, middle, show};

/// All results as Markdown.
pub fn tables(results: &Results, options: &Options) -> String {
    let is_load = |case: &&Case| !matches!(case.maker(), Maker::Crowd(_));
    let cases: Vec<Case> = options.cases.iter().filter(is_load).copied().collect();
    let mut text = String::new();
    if !cases.is_empty() {
        let rounds = options.rounds;
        let title = format!(
            "CPU µs a request, one proxy thread (ratio to {BASE}; share of user mode): medians of {rounds} rounds; of \
             tcp-bulk, a MiB"
        );
        text += &table(&title, options, &cases, |proxy, case| cpu_cell(results, proxy, case));
        let title = "\nRequests a second (p50 / p99 µs); of tcp-bulk, MiB a second and downloads of 8 MiB";
        text += &table(title, options, &cases, |proxy, case| rate_cell(results, proxy, case));
    }
    text += &idle_table(results, options);
    text + &notes(results)
}

/// A line for each proxy, a column for each case.
fn table(title: &str, options: &Options, cases: &[Case], cell: impl Fn(&str, Case) -> String) -> String {
    let names: Vec<&str> = cases.iter().map(|case| case.name()).collect();
    let mut text = format!("{title}\n\n| proxy | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for proxy in &options.proxies {
        let cells: Vec<String> = cases.iter().map(|case| cell(proxy.name, *case)).collect();
        text += &format!("| {} | {} |\n", proxy.name, cells.join(" | "));
    }
    text
}

fn cpu_cell(results: &Results, proxy: &str, case: Case) -> String {
    let median = |value: fn(&Measured) -> f64| median(results, proxy, case, value);
    let Some((cpu, user)) = median(|row| row.cpu_us).zip(median(|row| row.user)) else { return "–".to_owned() };
    let ratio = cpu_ratio(results, proxy, BASE, case).map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
    let digits = if cpu < 100.0 { 1 } else { 0 };
    format!("{cpu:.digits$} ({ratio}; {:.0} %)", user * 100.0)
}

fn rate_cell(results: &Results, proxy: &str, case: Case) -> String {
    let median = |value: fn(&Measured) -> f64| median(results, proxy, case, value);
    match median(|row| row.per_second) {
        None => "–".to_owned(),
        rate => format!("{} ({} / {})", show(rate), show(median(|row| row.p50_us)), show(median(|row| row.p99_us))),
    }
}

fn idle_table(results: &Results, options: &Options) -> String {
    if !options.cases.contains(&Case::Idle10k) {
        return String::new();
    }
    let mut text = format!("\n| proxy | MiB for 10,000 idle connections (ratio to {BASE}) | RSS MiB at the start |\n");
    text += "|---|---|---|\n";
    for proxy in &options.proxies {
        let median = |value: fn(&Idle) -> f64| middle(idle(results, proxy.name).map(value).collect());
        let mib = |kib: Option<f64>| kib.map_or("–".to_owned(), |kib| format!("{:.1}", kib / 1024.0));
        let ratio = idle_ratio(results, proxy.name).map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let (crowd, start) = (mib(median(|row| row.kib)), mib(median(|row| row.start_rss_kib as f64)));
        text += &format!("| {} | {crowd} ({ratio}) | {start} |\n", proxy.name);
    }
    text
}

/// What must be known to read the tables.
fn notes(results: &Results) -> String {
    let mut text = String::new();
    for (proxy, less) in &results.less {
        let less: Vec<&str> = less.iter().map(String::as_str).collect();
        text += &format!("\n{proxy} does less, for it did not prove: {}\n", less.join(", "));
    }
    let found = shares(results, |row| row.busy, |busy| busy < BUSY_MIN);
    if !found.is_empty() {
        text += &format!(
            "\nNot the proxy but the generator was the limit (share of time in which the proxy ran), so look at CPU, not \
             at rates: {found}\n"
        );
    }
    let found = shares(results, |row| row.foreign, |foreign| foreign >= FOREIGN_MAX);
    if !found.is_empty() {
        text += &format!("\nDisturbed (share of foreign work on a core), measure again: {found}\n");
    }
    for refused in &results.refused {
        text += &format!("\nNot measured: {refused}\n");
    }
    text
}

/// The medians of a share that are worth telling, by proxy and case.
fn shares(results: &Results, share: impl Fn(&Measured) -> f64, is_told: impl Fn(f64) -> bool) -> String {
    let mut found = Vec::new();
    for case in Case::ALL {
        for proxy in &PROXIES {
            if let Some(share) = median(results, proxy.name, case, &share).filter(|share| is_told(*share)) {
                found.push(format!("{} {} ({:.0} %)", proxy.name, case.name(), share * 100.0));
            }
        }
    }
    found.join(", ")
}

/// The median of `value` over all rounds; `None` when it was not measured.
pub fn median(results: &Results, proxy: &str, case: Case, value: impl Fn(&Measured) -> f64) -> Option<f64> {
    middle(measured(results, proxy, case).map(value).collect())
}

/// The median over the rounds of the CPU time of `proxy` by that of `base` in the same round.
pub fn cpu_ratio(results: &Results, proxy: &str, base: &str, case: Case) -> Option<f64> {
    let of_base = |round| measured(results, base, case).find(|row| row.round == round);
    let ratio = |row: &Measured| Some(row.cpu_us / of_base(row.round)?.cpu_us);
    middle(measured(results, proxy, case).filter_map(ratio).collect())
}

/// The same of the memory of idle connections, to [`BASE`].
pub fn idle_ratio(results: &Results, proxy: &str) -> Option<f64> {
    let of_base = |round| idle(results, BASE).find(|row| row.round == round);
    middle(idle(results, proxy).filter_map(|row| Some(row.kib / of_base(row.round)?.kib)).collect())
}

fn measured<'a>(results: &'a Results, proxy: &'a str, case: Case) -> impl Iterator<Item = &'a Measured> {
    results.rows.iter().filter_map(move |row| match row {
        Row::Load(row) if row.proxy == proxy && row.case == case.name() => Some(row),
        _ => None,
    })
}

fn idle<'a>(results: &'a Results, proxy: &'a str) -> impl Iterator<Item = &'a Idle> {
    results.rows.iter().filter_map(move |row| match row {
        Row::Idle(row) if row.proxy == proxy => Some(row),
        _ => None,
    })
}

/// Below this share of the time the proxy waited for the generator.
const BUSY_MIN: f64 = 0.95;

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::peers::OURS;
    use super::*;

    /// A measurement in which all that matters is who, what, when and how much.
    pub(in super::super) fn row(proxy: &'static str, case: Case, round: u32, cpu_us: f64) -> Row {
        Row::Load(Measured {
            round,
            proxy,
            case: case.name(),
            per_second: 1e6 / cpu_us,
            cpu_us,
            user: 0.25,
            busy: 1.0,
            p50_us: 1300.0,
            p99_us: 2000.0,
            foreign: 0.0,
        })
    }

    /// The same for memory.
    pub(in super::super) fn idle_row(proxy: &'static str, round: u32, kib: f64) -> Row {
        Row::Idle(Idle { round, proxy, kib, start_rss_kib: 4096 })
    }

    #[test]
    fn a_ratio_compares_what_was_measured_in_the_same_round() {
        // The machine gets slower by half from round to round.
        let rows = [(0, 20.0), (1, 30.0), (2, 45.0)].into_iter().flat_map(|(round, cpu)| {
            [row(OURS, Case::KeepAlive1k, round, cpu * 0.8), row(BASE, Case::KeepAlive1k, round, cpu)]
        });
        let results = Results { rows: rows.collect(), ..Results::default() };
        let found = cpu_ratio(&results, OURS, BASE, Case::KeepAlive1k).expect("a ratio");
        assert!((found - 0.8).abs() < 1e-9, "{found}");
    }

    #[test]
    fn tables_have_a_dash_for_what_is_missing_and_a_note_for_what_is_less() {
        let rows = vec![row(OURS, Case::KeepAlive1k, 0, 16.0), row(BASE, Case::KeepAlive1k, 0, 20.0)];
        let less = BTreeMap::from([(OURS, BTreeSet::from(["health checks".to_owned()]))]);
        let results = Results { rows: [rows, vec![idle_row(BASE, 0, 11264.0)]].concat(), less, ..Results::default() };
        let options = Options::parse(&[]).expect("options");
        let text = tables(&results, &options);
        assert!(text.contains("| region-proxy | 16.0 (0.80; 25 %) | – |"), "{text}");
        assert!(text.contains("| haproxy | 50,000 (1,300 / 2,000) | – |"), "{text}");
        assert!(text.contains("| haproxy | 11.0 (1.00) | 4.0 |\n| haproxy-splice | – (–) | – |"), "{text}");
        assert!(text.contains("region-proxy does less, for it did not prove: health checks"), "{text}");
    }

    #[test]
    fn a_measurement_that_the_generator_bounds_is_named() {
        let mut rows = vec![row(OURS, Case::Close1k, 0, 44.0), row(BASE, Case::Close1k, 0, 58.0)];
        if let Row::Load(row) = &mut rows[0] {
            row.busy = 0.66;
        }
        let text = notes(&Results { rows, ..Results::default() });
        assert!(text.contains("region-proxy close1k (66 %)") && !text.contains("haproxy close1k"), "{text}");
    }
}
