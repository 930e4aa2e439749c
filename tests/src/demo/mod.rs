//! The demo: the shipped zone and topology, three regions on this machine, and somebody who breaks them.

mod command;
mod expect;
mod fit;
mod live;
mod screen;
mod script;
mod stage;
mod table;
mod watch;

pub use live::run_live;
pub use script::run_script;

/// Clients to show, one of each of five countries.
pub const CLIENTS: [(&str, &str); 5] = [
    ("Korea", "1.208.0.1"),
    ("Japan", "133.11.0.1"),
    ("Germany", "91.0.0.1"),
    ("Britain", "2.24.0.1"),
    ("America", "12.0.0.1"),
];
