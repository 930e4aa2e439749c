//! The tables: medians over rounds, and ratios to one server.

use std::fmt::Write;

use super::measure::{Cost, Measured, Results, Row};
use super::plan::{Options, Scenario};
use super::rounds::{FOREIGN_MAX, mib, middle, show};

/// The server that ratios are to.
pub const BASE: &str = "gdnsd";

/// All results as Markdown.
pub fn tables(results: &Results, options: &Options) -> String {
    let mut text = cpu_table(results, options);
    text += &rate_table(results, options);
    text += &disturbed(results);
    for refused in &results.refused {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "\nNot measured: {refused}");
    }
    text
}

/// CPU time an answer.
fn cpu_table(results: &Results, options: &Options) -> String {
    let has_cpu = |scenario: &&Scenario| !matches!(scenario, Scenario::Open | Scenario::Steady);
    let scenarios: Vec<&Scenario> = options.scenarios.iter().filter(has_cpu).collect();
    if scenarios.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name()).collect();
    let mut text = format!(
        "CPU µs an answer, one server thread (ratio to {BASE}; user µs): medians of {} rounds\n\n",
        options.rounds
    );
    text += &format!("| server | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for peer in &options.servers {
        let cell = |name: &&str| {
            let of = |server, value: fn(&Measured) -> f64| median(results, server, name, value);
            match (of(peer.name, |row| row.cpu_us), of(peer.name, |row| row.user_us)) {
                (Some(cpu), Some(user)) => {
                    let ratio = ratio(results, peer.name, BASE, name, |row| row.cpu_us);
                    let ratio = ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
                    format!("{cpu:.2} ({ratio}; {user:.2})")
                }
                _ => "–".to_owned(),
            }
        };
        let cells: Vec<String> = names.iter().map(cell).collect();
        text += &format!("| {} | {} |\n", peer.name, cells.join(" | "));
    }
    text
}

/// Rates, latency, memory, start.
fn rate_table(results: &Results, options: &Options) -> String {
    let mut text = "\n| server | closed loop, 1/s | highest rate with < 0.1 % loss, 1/s | p50 / p99 µs at 20,000/s | \
                    RSS MiB small / big | cold start ms small / big |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for peer in &options.servers {
        let load =
            |scenario: Scenario, value: fn(&Measured) -> f64| show(median(results, peer.name, scenario.name(), value));
        let cost = |is_big, value: fn(&Cost) -> f64| show(median_cost(results, peer.name, is_big, value));
        let cells = [
            load(Scenario::Static, |row| row.per_second),
            load(Scenario::Open, |row| row.per_second),
            format!("{} / {}", load(Scenario::Steady, |row| row.p50_us), load(Scenario::Steady, |row| row.p99_us)),
            format!("{} / {}", cost(false, |row| mib(row.rss_kib)), cost(true, |row| mib(row.rss_kib))),
            format!("{} / {}", cost(false, |row| row.cold_start_ms), cost(true, |row| row.cold_start_ms)),
        ];
        text += &format!("| {} | {} |\n", peer.name, cells.join(" | "));
    }
    text
}

/// Which measurements other work disturbed at every try: they are in the tables all the same.
fn disturbed(results: &Results) -> String {
    let is_disturbed = |row: &Row| match row {
        Row::Load(row) if row.foreign >= FOREIGN_MAX => {
            Some(format!("{} {} ({:.0} %)", row.server, row.scenario, row.foreign * 100.0))
        }
        _ => None,
    };
    let found: Vec<String> = results.rows.iter().filter_map(is_disturbed).collect();
    if found.is_empty() {
        return String::new();
    }
    format!("\nDisturbed at every try (share of foreign work on a core), measure again: {}\n", found.join(", "))
}

/// The median of `value` over all rounds; `None` when it was not measured.
pub fn median(results: &Results, server: &str, scenario: &str, value: impl Fn(&Measured) -> f64) -> Option<f64> {
    middle(measured(results, server, scenario).map(value).collect())
}

/// The median over the rounds of the ratio of `server` to `base` in the same round.
pub fn ratio(
    results: &Results,
    server: &str,
    base: &str,
    scenario: &str,
    value: impl Fn(&Measured) -> f64,
) -> Option<f64> {
    let of_base = |round| measured(results, base, scenario).find(|row| row.round == round);
    let ratio = |row: &Measured| Some(value(row) / value(of_base(row.round)?));
    middle(measured(results, server, scenario).filter_map(ratio).collect())
}

/// The median of a cost over all rounds.
pub fn median_cost(results: &Results, server: &str, is_big: bool, value: impl Fn(&Cost) -> f64) -> Option<f64> {
    let costs = results.rows.iter().filter_map(|row| match row {
        Row::Process(cost) if cost.server == server && cost.is_big == is_big => Some(value(cost)),
        _ => None,
    });
    middle(costs.collect())
}

fn measured<'a>(results: &'a Results, server: &'a str, scenario: &'a str) -> impl Iterator<Item = &'a Measured> {
    results.rows.iter().filter_map(move |row| match row {
        Row::Load(row) if row.server == server && row.scenario == scenario => Some(row),
        _ => None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::peers::Peer;
    use super::*;

    /// A measurement in which all that matters is who, what, when and how much.
    pub(in super::super) fn row(server: &'static str, scenario: Scenario, round: u32, cpu_us: f64) -> Row {
        Row::Load(Measured {
            round,
            server,
            scenario: scenario.name(),
            per_second: 1e6 / cpu_us,
            cpu_us,
            user_us: cpu_us / 10.0,
            generator_us: 1.0,
            server_busy: 1.0,
            loss: 0.0,
            p50_us: 10.0,
            p99_us: 20.0,
            wrong: 0,
            foreign: 0.0,
        })
    }

    #[test]
    fn a_ratio_compares_what_was_measured_in_the_same_round() {
        // The machine gets slower by half from round to round.
        let rows = [(0, 2.0), (1, 3.0), (2, 4.5)].into_iter().flat_map(|(round, cpu)| {
            [row("gslb-dns", Scenario::Static, round, cpu * 0.9), row(BASE, Scenario::Static, round, cpu)]
        });
        let results = Results { rows: rows.collect(), refused: Vec::new() };
        let found = ratio(&results, "gslb-dns", BASE, "static", |row| row.cpu_us).expect("a ratio");
        assert!((found - 0.9).abs() < 1e-9, "{found}");
    }

    #[test]
    fn a_disturbed_measurement_is_named() {
        let mut rows = vec![row("gslb-dns", Scenario::Static, 0, 3.0), row(BASE, Scenario::Static, 0, 3.0)];
        if let Row::Load(row) = &mut rows[1] {
            row.foreign = 0.56;
        }
        let text = disturbed(&Results { rows, refused: Vec::new() });
        assert!(text.contains("gdnsd static (56 %)") && !text.contains("gslb-dns"), "{text}");
    }

    #[test]
    fn tables_have_a_line_for_each_server_and_a_dash_for_what_is_missing() {
        let results = Results { rows: vec![row("gslb-dns", Scenario::Static, 0, 3.0)], refused: Vec::new() };
        let mut options = Options::parse(&[]).expect("options");
        options.servers = ["gslb-dns", "nsd"].into_iter().filter_map(Peer::named).collect();
        let text = tables(&results, &options);
        assert!(text.contains("| gslb-dns | 3.00 (–; 0.30) | – |"), "{text}");
        assert!(text.contains("| gslb-dns | 333,333 | – |"), "{text}");
        assert!(text.contains("| nsd | – | – |"), "{text}");
    }
}
