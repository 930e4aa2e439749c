//! A goal, what was measured for it, and whether it holds.

/// One goal and what was measured.
#[derive(Clone, Debug)]
pub struct Goal {
    /// In words.
    pub what: String,
    /// What was measured; `None`: nothing.
    pub found: Option<f64>,
    /// The limit, and on which side of it the goal is.
    pub limit: Limit,
}

/// A limit that is kept by what equals it.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// Not more.
    AtMost(f64),
    /// Not less.
    AtLeast(f64),
}

impl Goal {
    /// Whether it holds; `None`: that was not measured.
    pub fn holds(&self) -> Option<bool> {
        self.found.map(|found| match self.limit {
            Limit::AtMost(most) => found <= most,
            Limit::AtLeast(least) => found >= least,
        })
    }
}

/// Goals as a table; nothing for none.
pub fn table(goals: &[Goal]) -> String {
    if goals.is_empty() {
        return String::new();
    }
    let line = |goal: &Goal| {
        let limit = match goal.limit {
            Limit::AtMost(most) => format!("≤ {most:.2}"),
            Limit::AtLeast(least) => format!("≥ {least:.2}"),
        };
        let found = goal.found.map_or("–".to_owned(), |found| format!("{found:.2}"));
        let verdict = match goal.holds() {
            Some(true) => "pass",
            Some(false) => "FAIL",
            None => "not measured",
        };
        format!("| {} | {limit} | {found} | {verdict} |\n", goal.what)
    };
    let head = "\n| goal | limit | found | |\n|---|---|---|---|\n".to_owned();
    head + &goals.iter().map(line).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_kept_by_its_limit_and_not_judged_without_figures() {
        let goal = |found| Goal { what: "cost".to_owned(), found, limit: Limit::AtMost(0.85) };
        let found = [Some(0.85), Some(0.86), None].map(|found| goal(found).holds());
        assert_eq!(found, [Some(true), Some(false), None]);
        let text = table(&[goal(Some(0.86)), goal(None)]);
        assert!(text.contains("| cost | ≤ 0.85 | 0.86 | FAIL |") && text.contains("| – | not measured |"), "{text}");
    }
}
