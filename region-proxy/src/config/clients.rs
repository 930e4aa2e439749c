//! `[clients]`.

use shared::settings::Table;

use super::believed::networks;
use crate::clients::{Rate, Rules};

/// Reads `[clients]`; without it nobody is bound.
pub(super) fn clients(root: &Table<'_>) -> Rules {
    let none = Rules::default();
    let Some(table) = root.table("clients") else { return none };
    let count = |key: &str, most| table.value(key).and_then(|value| value.integer(1..=most)).map(|count| count as u32);
    let per_sec = count("requests_per_second", 1_000_000);
    let burst = count("burst", 1_000_000);
    if per_sec.is_none() && table.value("burst").is_some() {
        table.problem("burst", "there is no rate: expected `requests_per_second` too");
    }
    Rules {
        prefixes: super::balance::prefixes(&table),
        requests: per_sec.map(|per_sec| Rate { per_sec, burst: burst.unwrap_or(per_sec) }),
        connections: count("connections", 1_000_000),
        table: count("table", 1 << 20).map_or(none.table, |most| most as usize),
        exempt: table.value("exempt").map(|value| networks(&value)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::clients::Rate;
    use crate::config::Config;

    fn read(clients: &str) -> Result<Config, Vec<String>> {
        let text = format!(
            "region = \"seoul\"\nproxy = \"seoul-1\"\nlisten = [\"192.0.2.1:80\"]\nstatus = \"192.0.2.1:81\"\n{clients}\n\
             [services.\"www.example.com\"]\nservers = {{ app-1 = \"192.0.2.2:80\" }}\n"
        );
        let nothing = |_: &Path| Err("no such file".to_owned());
        Config::parse(Path::new("p.toml"), &text, &nothing)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_a_burst_a_client_may_ask_at_once_as_often_as_in_a_second() {
        let rules = read("[clients]\nrequests_per_second = 50\nconnections = 7").expect("no mistake").clients;
        assert_eq!((rules.requests, rules.connections), (Some(Rate { per_sec: 50, burst: 50 }), Some(7)));
        assert_eq!(read("").expect("no mistake").clients, crate::clients::Rules::default());
    }

    #[test]
    fn mistakes_in_the_bounds_on_clients_are_reported_by_line() {
        let mistakes =
            read("[clients]\nburst = 5\nconnections = 0\nexempt = [\"192.0.2.1/24\"]").expect_err("mistakes");
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        for part in ["clients.burst", "clients.connections", "192.0.2.0/24"] {
            assert!(mistakes.iter().any(|mistake| mistake.contains(part)), "{part} in {mistakes:?}");
        }
    }
}
