//! The choice of a region: who comes first for a client, and who of them may serve.
//!
//! ```text
//! rank(topology, steering, place) ─► Ranking ─► Order    for each place, when geo tables are compiled
//! decide(topology, service, view, order, block) ─► Decision    for each query
//! explain(…) ─► Explanation    both, with the reasons
//! ```

mod decide;
mod explain;
mod rank;
#[cfg(test)]
mod tests;

pub use decide::{Decision, decide};
pub use explain::{ExplainedRegion, Explanation, Outcome, explain};
pub use rank::{Because, Order, Placed, Ranked, Ranking, rank};
