//! What the project wants of `region-proxy`, and whether it holds.

use super::case::Case;
use super::measure::Results;
use super::peers::{BASE, BASE_SPLICE, OURS};
use super::report::{cpu_ratio, idle_ratio};
use crate::bench::goal::{Goal, Limit};

/// The goals for `cases`; those without figures are there as well.
pub fn goals(results: &Results, cases: &[Case]) -> Vec<Goal> {
    let goal = |case: &Case| {
        let (base, most) = limit(*case);
        let (what, found) = match case {
            Case::Idle10k => ("memory", idle_ratio(results, OURS)),
            _ => ("CPU", cpu_ratio(results, OURS, base, *case)),
        };
        Goal { what: format!("{}: {what}, ratio to {base}", case.name()), found, limit: Limit::AtMost(most) }
    };
    cases.iter().map(goal).collect()
}

/// The greatest ratio of a case, and to which proxy.
fn limit(case: Case) -> (&'static str, f64) {
    match case {
        Case::KeepAlive1k | Case::Close1k => (BASE, 0.85),
        Case::TlsHandshake => (BASE, 0.5),
        Case::TlsKeepAlive1k => (BASE, 0.75),
        Case::H2c1k | Case::H2Tls1k | Case::Idle10k => (BASE, 1.0),
        Case::KeepAlive64k => (BASE, 0.8),
        Case::KeepAlive1m => (BASE_SPLICE, 0.95),
        Case::TcpEcho => (BASE, 0.95),
        Case::TcpBulk => (BASE_SPLICE, 1.05),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{idle_row, row};
    use super::*;

    #[test]
    fn each_goal_is_judged_by_its_own_base() {
        let large = Case::KeepAlive1m;
        let rows = vec![
            row(OURS, large, 0, 220.0),
            row(BASE, large, 0, 500.0),
            row(BASE_SPLICE, large, 0, 200.0),
            idle_row(OURS, 0, 2048.0),
            idle_row(BASE, 0, 10240.0),
        ];
        let results = Results { rows, ..Results::default() };
        let goals = goals(&results, &[Case::KeepAlive1k, large, Case::Idle10k]);
        let found: Vec<Option<bool>> = goals.iter().map(Goal::holds).collect();
        assert_eq!(found, [None, Some(false), Some(true)]);
    }
}
