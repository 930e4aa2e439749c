//! What a run measures: proxies, cases, rounds.

use std::path::PathBuf;
use std::time::Duration;

use super::case::Case;
use super::peers::{PROXIES, Proxy};
use crate::bench::options::{number, unknown};

/// What the command line asks for.
#[derive(Debug)]
pub struct Options {
    /// Proxies, in the order of the first round.
    pub proxies: Vec<&'static Proxy>,
    /// Cases.
    pub cases: Vec<Case>,
    /// How often all is measured.
    pub rounds: u32,
    /// How long one measurement takes.
    pub span: Duration,
    /// File that gets every result as a line of JSON.
    pub out: Option<PathBuf>,
    /// Another build of `region-proxy`.
    pub region_proxy: Option<PathBuf>,
    /// What becomes of a proxy that does less than the others.
    pub less: Less,
}

/// What becomes of a proxy that does less than the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Less {
    /// It is refused.
    Refused,
    /// It is measured, and the tables say what it does not do.
    Noted,
}

impl Options {
    /// Reads the arguments of the command line; fails with what is wrong, or with [`USAGE`].
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            proxies: PROXIES.iter().filter(|proxy| proxy.is_usual).collect(),
            cases: Case::ALL.to_vec(),
            rounds: 3,
            span: Duration::from_millis(1500),
            out: None,
            region_proxy: None,
            less: Less::Refused,
        };
        let mut arguments = arguments.iter().map(String::as_str);
        while let Some(argument) = arguments.next() {
            match argument {
                "--quick" => (options.rounds, options.span) = (1, Duration::from_millis(500)),
                "--allow-less" => options.less = Less::Noted,
                _ => {
                    let value = arguments.next().ok_or_else(|| format!("{argument}: {USAGE}"))?;
                    options.set(argument, value)?;
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), String> {
        match option {
            "--proxies" => {
                let known = || PROXIES.iter().map(|proxy| proxy.name);
                let named = |name| Proxy::named(name).ok_or_else(|| unknown(name, known()));
                self.proxies = value.split(',').map(named).collect::<Result<_, _>>()?;
            }
            "--cases" => {
                let names = || Case::ALL.into_iter().map(Case::name);
                let wanted: Vec<&str> = value.split(',').collect();
                if let Some(name) = wanted.iter().find(|name| !names().any(|known| known == **name)) {
                    return Err(unknown(name, names()));
                }
                self.cases.retain(|case| wanted.contains(&case.name()));
            }
            "--rounds" => self.rounds = number(option, value, 1, 100)? as u32,
            "--seconds" => self.span = Duration::from_secs_f64(number(option, value, 0.1, 60.0)?),
            "--out" => self.out = Some(PathBuf::from(value)),
            "--region-proxy" => self.region_proxy = Some(PathBuf::from(value)),
            _ => return Err(format!("{option}: {USAGE}")),
        }
        Ok(())
    }
}

/// How the program is called.
pub const USAGE: &str = "usage: tests/bench/proxy [--proxies NAME,…] [--cases NAME,…] [--rounds N] [--seconds N] \
                         [--quick] [--out FILE] [--region-proxy PROGRAM] [--allow-less]";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_say_what_is_run() {
        let options = parse("--quick --allow-less --proxies nginx,haproxy --cases idle10k,ka1k").expect("options");
        let names: Vec<&str> = options.proxies.iter().map(|proxy| proxy.name).collect();
        assert_eq!((names, options.rounds, options.less), (vec!["nginx", "haproxy"], 1, Less::Noted));
        assert_eq!(options.cases, [Case::KeepAlive1k, Case::Idle10k]);
    }

    #[test]
    fn mistakes_are_named() {
        for line in ["--proxies squid", "--cases all", "--rounds 0", "--seconds", "--fast"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
