//! What the project wants of `gslb-dns`, and whether it holds.

use super::goal::{Goal, Limit};
use super::measure::Results;
use super::plan::Scenario;
use super::report::{BASE, median, median_cost, ratio};
use super::rounds::mib;

/// The goals for which there are figures.
pub fn goals(results: &Results) -> Vec<Goal> {
    let (mut goals, us) = (Vec::new(), "gslb-dns");
    let mut add = |what: &str, found: Option<f64>, limit| {
        goals.extend(found.map(|found| Goal { what: what.to_owned(), found: Some(found), limit }));
    };
    let cpu = |scenario: Scenario| median(results, us, scenario.name(), |row| row.cpu_us);
    for scenario in [Scenario::Static, Scenario::Nx, Scenario::GeoSrc, Scenario::GeoEcs] {
        let name = scenario.name();
        for (other, most) in [(BASE, 1.0), ("knot", 0.8)] {
            let found = ratio(results, us, other, name, |row| row.cpu_us);
            add(&format!("{name}: CPU, ratio to {other}"), found, Limit::AtMost(most));
        }
        let user = median(results, us, name, |row| row.user_us);
        add(&format!("{name}: own user time, µs"), user, Limit::AtMost(0.35));
    }
    for (signed, plain) in [(Scenario::Signed, Scenario::Static), (Scenario::GeoSigned, Scenario::GeoEcs)] {
        let found = cpu(signed).zip(cpu(plain)).map(|(signed, plain)| signed / plain);
        add(&format!("{}: CPU, ratio to {}", signed.name(), plain.name()), found, Limit::AtMost(1.3));
        let found = ratio(results, us, "knot", signed.name(), |row| row.cpu_us);
        add(&format!("{}: CPU, ratio to knot", signed.name()), found, Limit::AtMost(0.9));
    }
    let more = cpu(Scenario::GeoEcs).zip(cpu(Scenario::Static)).map(|(geo, fixed)| geo - fixed);
    add("geoecs costs more than static, µs", more, Limit::AtMost(0.15));
    let big = ratio(results, us, BASE, "big", |row| row.cpu_us);
    add(&format!("big: CPU, ratio to {BASE}"), big, Limit::AtMost(1.0));
    let open = ratio(results, us, BASE, "open", |row| row.per_second);
    add(&format!("open: highest rate, ratio to {BASE}"), open, Limit::AtLeast(1.0));
    let p99 = ratio(results, us, BASE, "steady", |row| row.p99_us);
    add(&format!("steady: p99, ratio to {BASE}"), p99, Limit::AtMost(1.0));
    let rss = median_cost(results, us, false, |cost| mib(cost.rss_kib));
    add("small zone: RSS, MiB", rss, Limit::AtMost(40.0));
    let cold = median_cost(results, us, false, |cost| cost.cold_start_ms);
    add("small zone: cold start with the first probe round, ms", cold, Limit::AtMost(200.0));
    goals
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::row;
    use super::*;

    #[test]
    fn a_goal_without_figures_is_not_judged_and_one_with_them_is() {
        let of = |ours: f64| {
            let rows = vec![row("gslb-dns", Scenario::Static, 0, ours), row(BASE, Scenario::Static, 0, 3.0)];
            goals(&Results { rows, refused: Vec::new() })
        };
        let verdicts: Vec<Option<bool>> = of(3.0).iter().map(Goal::holds).collect();
        assert_eq!(verdicts, [Some(true), Some(true)], "the ratio to gdnsd and the user time, and nothing else");
        let verdicts: Vec<Option<bool>> = of(3.6).iter().map(Goal::holds).collect();
        assert_eq!(verdicts, [Some(false), Some(false)]);
    }
}
