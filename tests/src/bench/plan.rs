//! What a run measures: servers, scenarios, rounds.

use std::path::PathBuf;
use std::time::Duration;

use super::geodb::GeoDatabase;
use super::load::{Pace, Shape, Sources};
use super::options::{number, unknown};
use super::peers::{PEERS, Peer};
use super::questions::Questions;
use super::zone::{Host, Size};

/// One kind of work.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scenario {
    /// One name, asked by 24 sockets in bursts of 8.
    Static,
    /// The same with 100,000 random names that do not exist.
    Nx,
    /// A steered name, the region by the address of the client.
    GeoSrc,
    /// The same, the region by client subnet: 50,000 random /24.
    GeoEcs,
    /// As `Static` with DO set, from a zone that is signed.
    Signed,
    /// As `GeoEcs` with DO set, from a zone that is signed.
    GeoSigned,
    /// 200,000 more names in the zone, all asked in random order.
    Big,
    /// As `Static`, but one question at a time from each of 192 sockets: resolvers that ask from random ports. As many are
    /// under way as elsewhere, and they fit the receive buffer that every server has by default.
    Spread,
    /// One name over 20 TCP connections, 10 questions under way on each.
    Tcp,
    /// As `Static`: the highest steady rate at which less than 0.1 % is lost.
    Open,
    /// As `Static`, 20,000 questions a second: latency.
    Steady,
    /// As `Static` with a client cookie in each question.
    Cookies,
}

/// What the command line asks for.
#[derive(Debug)]
pub struct Options {
    /// Servers, in the order of the first round.
    pub servers: Vec<&'static Peer>,
    /// Scenarios.
    pub scenarios: Vec<Scenario>,
    /// Rounds; each runs every server once.
    pub rounds: u32,
    /// How long one measurement lasts.
    pub span: Duration,
    /// A file to which every result is added as a line of JSON.
    pub out: Option<PathBuf>,
    /// Another `gslb-dns` than that beside this program.
    pub gslb_dns: Option<PathBuf>,
}

/// The questions of all scenarios.
#[derive(Debug)]
pub struct Library {
    fixed: Questions,
    absent: Questions,
    by_source: Questions,
    by_subnet: Questions,
    hosts: Questions,
    with_cookie: Questions,
    fixed_signed: Questions,
    by_subnet_signed: Questions,
}

impl Scenario {
    /// All, in the order in which they are measured.
    pub const ALL: [Self; 12] = [
        Self::Static,
        Self::Nx,
        Self::GeoSrc,
        Self::GeoEcs,
        Self::Spread,
        Self::Cookies,
        Self::Tcp,
        Self::Open,
        Self::Steady,
        Self::Signed,
        Self::GeoSigned,
        Self::Big,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Nx => "nx",
            Self::GeoSrc => "geosrc",
            Self::GeoEcs => "geoecs",
            Self::Signed => "signed",
            Self::GeoSigned => "geosigned",
            Self::Big => "big",
            Self::Spread => "spread",
            Self::Tcp => "tcp",
            Self::Open => "open",
            Self::Steady => "steady",
            Self::Cookies => "cookies",
        }
    }

    /// The zone it needs.
    pub fn size(self) -> Size {
        match self {
            Self::Big => Size::Big,
            Self::Signed | Self::GeoSigned => Size::Signed,
            _ => Size::Small,
        }
    }

    /// How it asks as fast as answers come.
    pub fn shape(self) -> Shape {
        let (lanes, burst) = if self == Self::Spread { (192, 1) } else { (24, 8) };
        let sources = if self == Self::GeoSrc { Sources::Regions } else { Sources::Local };
        Shape { lanes, burst, pace: Pace::Closed, sources, check_every: CHECK_EVERY }
    }
}

impl Options {
    /// Reads the arguments of the command line; fails with what is wrong, or with [`USAGE`].
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let usual = PEERS.iter().filter(|peer| peer.is_usual).collect();
        let mut options = Self {
            servers: usual,
            scenarios: Scenario::ALL.to_vec(),
            rounds: 3,
            span: Duration::from_millis(1500),
            out: None,
            gslb_dns: None,
        };
        let mut arguments = arguments.iter().map(String::as_str);
        while let Some(argument) = arguments.next() {
            if argument == "--quick" {
                (options.rounds, options.span) = (1, Duration::from_millis(500));
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{argument}: {USAGE}"))?;
            options.set(argument, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), String> {
        match option {
            "--servers" => {
                let named = |name| Peer::named(name).ok_or_else(|| unknown(name, PEERS.iter().map(|peer| peer.name)));
                self.servers = value.split(',').map(named).collect::<Result<_, _>>()?;
            }
            "--scenarios" => {
                let names = || Scenario::ALL.into_iter().map(Scenario::name);
                let wanted: Vec<&str> = value.split(',').collect();
                if let Some(name) = wanted.iter().find(|name| !names().any(|known| known == **name)) {
                    return Err(unknown(name, names()));
                }
                self.scenarios.retain(|scenario| wanted.contains(&scenario.name()));
            }
            "--rounds" => self.rounds = number(option, value, 1, 100)? as u32,
            "--seconds" => self.span = Duration::from_secs_f64(number(option, value, 0.1, 60.0)?),
            "--out" => self.out = Some(PathBuf::from(value)),
            "--gslb-dns" => self.gslb_dns = Some(PathBuf::from(value)),
            _ => return Err(format!("{option}: {USAGE}")),
        }
        Ok(())
    }
}

impl Library {
    /// All questions.
    pub fn new(geo: &GeoDatabase, hosts: &[Host]) -> Result<Self, String> {
        Ok(Self {
            fixed: Questions::fixed()?,
            absent: Questions::absent()?,
            by_source: Questions::by_source()?,
            by_subnet: Questions::by_subnet(geo)?,
            hosts: Questions::hosts(hosts)?,
            with_cookie: Questions::with_cookie()?,
            fixed_signed: Questions::fixed()?.with_do(),
            by_subnet_signed: Questions::by_subnet(geo)?.with_do(),
        })
    }

    /// Those of one scenario.
    pub fn of(&self, scenario: Scenario) -> &Questions {
        match scenario {
            Scenario::Static | Scenario::Spread | Scenario::Tcp | Scenario::Open | Scenario::Steady => &self.fixed,
            Scenario::Nx => &self.absent,
            Scenario::GeoSrc => &self.by_source,
            Scenario::GeoEcs => &self.by_subnet,
            Scenario::Big => &self.hosts,
            Scenario::Cookies => &self.with_cookie,
            Scenario::Signed => &self.fixed_signed,
            Scenario::GeoSigned => &self.by_subnet_signed,
        }
    }
}

/// How the program is called.
pub const USAGE: &str = "usage: tests/bench/run [--servers NAME,…] [--scenarios NAME,…] [--rounds N] [--seconds N] \
                         [--quick] [--out FILE] [--gslb-dns PROGRAM]";
/// Of how many answers one is checked in whole while measuring.
const CHECK_EVERY: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_say_what_is_run() {
        let options = parse("--quick --servers gdnsd,nsd --scenarios big,static --out x.jsonl").expect("options");
        let names: Vec<&str> = options.servers.iter().map(|peer| peer.name).collect();
        assert_eq!((names, options.rounds), (vec!["gdnsd", "nsd"], 1));
        assert_eq!(options.scenarios, [Scenario::Static, Scenario::Big]);
    }

    #[test]
    fn mistakes_are_named() {
        for line in ["--servers bind", "--scenarios all", "--rounds 0", "--rounds x", "--seconds", "--fast"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
