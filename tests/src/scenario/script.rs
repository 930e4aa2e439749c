//! The script of a scenario: who asks, what happens when.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use shared::moment::Moment;
use shared::name::{OwnerName, RegionName};
use shared::place::{Continent, Coordinates, Country, Place};
use shared::state::Action as Order;

/// A script, read.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Who asks, in the order of the script.
    pub askers: Vec<Asker>,
    /// What happens, in the order of time.
    pub actions: Vec<(Moment, Action)>,
    /// When the scenario ends.
    pub end: Moment,
}

/// Somebody whose answers are watched.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The name in the timeline.
    pub name: String,
    /// Where.
    pub place: Place,
    /// The addresses: one for a client, one of each block for a crowd.
    pub addresses: Vec<IpAddr>,
}

/// What proxies an action is about.
#[derive(Clone, Debug)]
pub enum Target {
    /// Every proxy.
    All,
    /// Those of a region of this name, or else the proxy of this name.
    Named(String),
}

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Action {
    /// Proxies answer (again).
    Live(Target),
    /// Proxies are gone; connections to them are refused at once.
    Die(Target),
    /// Proxies hang; connections to them get no answer.
    Freeze(Target),
    /// How many servers of a service proxies see up.
    Servers(Target, OwnerName, u32, u32),
    /// Whether proxies hold the VIP.
    Vip(Target, bool),
    /// What part proxies take in the virtual router that has the VIPs of their region (VRRP).
    Router(Target, RouterPart),
    /// Whether proxies say that they drain.
    Drain(Target, bool),
    /// An operator decides.
    Override {
        /// What.
        order: Order,
        /// Where.
        region: RegionName,
        /// For one service, or all.
        service: Option<OwnerName>,
        /// For how long.
        span: Duration,
        /// By whom.
        who: String,
        /// Why.
        why: String,
    },
    /// An operator takes an override back.
    Clear(RegionName, Option<OwnerName>),
    /// New settings, from a file in the folder of the scenario.
    Reload(String),
    /// The process is down for a time and finds its verdicts again.
    Restart(Duration),
    /// Whether the node itself has a network.
    Network(bool),
}

/// What a proxy says of its virtual router.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RouterPart {
    /// It holds the VIPs.
    Active,
    /// It waits for the active one to fall silent.
    Backup,
    /// It holds the VIPs and hears another one that does.
    Rivalled,
}

impl RouterPart {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Active, "active"), (Self::Backup, "backup"), (Self::Rivalled, "hears another")];

    fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, word)| *word == text).map(|(part, _)| *part);
        found.ok_or_else(|| format!("{text}: expected active, backup or hears another"))
    }

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(part, _)| *part == self).map_or("", |(_, word)| word)
    }
}

impl Script {
    /// Reads `text`; fails with every mistake, a line each.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut script = Self::default();
        let mut mistakes = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let words = line.split('#').next().unwrap_or_default();
            if let Err(mistake) = script.read_line(words.trim()) {
                mistakes.push(format!("line {}: {mistake}", at + 1));
            }
        }
        if script.end == Moment::START {
            mistakes.push("no line such as `60s end`".to_owned());
        }
        script.actions.sort_by_key(|(at, _)| *at);
        if mistakes.is_empty() { Ok(script) } else { Err(mistakes.join("\n")) }
    }

    fn read_line(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["client", name, address, rest @ ..] => {
                let address = address.parse().map_err(|_| format!("{address} is not an address"))?;
                self.askers.push(Asker { name: (*name).to_owned(), place: place(rest)?, addresses: vec![address] });
            }
            ["crowd", name, network, rest @ ..] => {
                let network = network.parse().map_err(|_| format!("{network} is not a network"))?;
                self.askers.push(Asker { name: (*name).to_owned(), place: place(rest)?, addresses: blocks(network)? });
            }
            [at, "end"] => self.end = moment(at)?,
            [at, rest @ ..] => self.actions.push((moment(at)?, action(rest)?)),
        }
        Ok(())
    }
}

fn action(words: &[&str]) -> Result<Action, String> {
    Ok(match words {
        ["live", target] => Action::Live(Target::new(target)),
        ["die", target] => Action::Die(Target::new(target)),
        ["freeze", target] => Action::Freeze(Target::new(target)),
        ["servers", target, service, count] => {
            let (up, total) = count.split_once('/').ok_or_else(|| format!("{count} is not UP/TOTAL"))?;
            let number = |text: &str| text.parse().map_err(|_| format!("{text} is not a number"));
            Action::Servers(Target::new(target), owner(service)?, number(up)?, number(total)?)
        }
        ["vip", target, "lost"] => Action::Vip(Target::new(target), false),
        ["vip", target, "held"] => Action::Vip(Target::new(target), true),
        ["router", target, part @ ..] => Action::Router(Target::new(target), RouterPart::parse(&part.join(" "))?),
        ["drain", target] => Action::Drain(Target::new(target), true),
        ["undrain", target] => Action::Drain(Target::new(target), false),
        ["override", order, rest @ ..] => override_action(order, rest)?,
        ["resume", region, "by", rest @ ..] => resume(region, None, rest)?,
        ["resume", region, service, "by", rest @ ..] => resume(region, Some(owner(service)?), rest)?,
        ["clear", name] => Action::Clear(region(name)?, None),
        ["clear", name, service] => Action::Clear(region(name)?, Some(owner(service)?)),
        ["reload", file] => Action::Reload((*file).to_owned()),
        ["restart", "after", span] => Action::Restart(parse_span(span)?),
        ["node", "cut", "off"] => Action::Network(false),
        ["node", "connected"] => Action::Network(true),
        _ => return Err(format!("no such action: {}", words.join(" "))),
    })
}

fn override_action(order: &str, words: &[&str]) -> Result<Action, String> {
    let orders = [Order::Drain, Order::Down, Order::Up];
    let order = orders.into_iter().find(|known| known.as_str() == order);
    let order = order.ok_or("expected drain, down or up after override")?;
    let (name, service, span, rest) = match words {
        [name, "for", span, "by", rest @ ..] => (name, None, span, rest),
        [name, service, "for", span, "by", rest @ ..] => (name, Some(owner(service)?), span, rest),
        _ => return Err("expected override ORDER REGION [SERVICE] for TIME by WHO: WHY".to_owned()),
    };
    let (who, why) = signed(rest)?;
    Ok(Action::Override { order, region: region(name)?, service, span: parse_span(span)?, who, why })
}

fn resume(name: &str, service: Option<OwnerName>, rest: &[&str]) -> Result<Action, String> {
    let (who, why) = signed(rest)?;
    // It happens once; the span says no more than that it has not expired.
    Ok(Action::Override {
        order: Order::Resume,
        region: region(name)?,
        service,
        span: Duration::from_secs(1),
        who,
        why,
    })
}

fn signed(words: &[&str]) -> Result<(String, String), String> {
    let text = words.join(" ");
    let (who, why) = text.split_once(':').ok_or("expected WHO: WHY")?;
    Ok((who.trim().to_owned(), why.trim().to_owned()))
}

fn region(name: &str) -> Result<RegionName, String> {
    RegionName::parse(name).map_err(|error| error.to_string())
}

fn owner(name: &str) -> Result<OwnerName, String> {
    OwnerName::parse(name).map_err(|error| error.to_string())
}

/// `at LAT LON`, then any of a country (two letters), a continent (`in` and two letters) and an AS (`as64500`).
fn place(words: &[&str]) -> Result<Place, String> {
    let (coordinates, rest) = match words {
        ["nowhere", rest @ ..] => (None, rest),
        ["at", latitude, longitude, rest @ ..] => {
            let degrees = |text: &str| text.parse::<f64>().map_err(|_| format!("{text} is not a number"));
            let found = Coordinates::from_degrees(degrees(latitude)?, degrees(longitude)?);
            (Some(found.map_err(|error| error.to_string())?), rest)
        }
        _ => return Err("expected `at LATITUDE LONGITUDE` or `nowhere`".to_owned()),
    };
    let mut place = Place { coordinates, ..Place::default() };
    let mut words = rest.iter();
    while let Some(&word) = words.next() {
        let is_known = match word.strip_prefix("as") {
            _ if word == "in" => {
                place.continent = words.next().and_then(|code| Continent::parse(code));
                place.continent.is_some()
            }
            Some(number) if !number.is_empty() => {
                place.asn = number.parse().ok();
                place.asn.is_some()
            }
            _ => {
                place.country = Country::parse(word);
                place.country.is_some()
            }
        };
        if !is_known {
            return Err(format!("{word}: expected a country such as KR, `in AS` for a continent, or as64500"));
        }
    }
    Ok(place)
}

/// The first address of each /24 or /56 of `network`.
fn blocks(network: IpNet) -> Result<Vec<IpAddr>, String> {
    let block_len = if network.addr().is_ipv4() { 24 } else { 56 };
    let blocks = network.subnets(block_len).map_err(|_| format!("{network} is smaller than a /{block_len}"))?;
    Ok(blocks.take(BLOCKS_MAX).map(|block| block.network()).collect())
}

/// A span of time: `10s`, `1.5s`, `1m30s`, `250ms`.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    moment(text).map(Moment::elapsed)
}

fn moment(text: &str) -> Result<Moment, String> {
    let wrong = || format!("{text} is not a time such as 10s, 1.5s, 1m30s or 250ms");
    let (mut rest, mut total_ms) = (text, 0.0);
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_len = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let unit_ms = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        let count = number.parse::<f64>().ok().filter(|count| (0.0..1e9).contains(count)).ok_or_else(wrong)?;
        total_ms += count * unit_ms;
        rest = tail;
    }
    let is_empty = text.is_empty();
    if is_empty { Err(wrong()) } else { Ok(Moment::from_start(Duration::from_millis(total_ms.round() as u64))) }
}

impl Target {
    /// What `word` names.
    pub fn new(word: &str) -> Self {
        if word == "all" { Self::All } else { Self::Named(word.to_owned()) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Named(name) => name,
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |service: &Option<OwnerName>| service.as_ref().map_or(String::new(), |name| format!(" {name}"));
        match self {
            Self::Live(target) => write!(f, "live {target}"),
            Self::Die(target) => write!(f, "die {target}"),
            Self::Freeze(target) => write!(f, "freeze {target}"),
            Self::Servers(target, service, up, total) => write!(f, "servers {target} {service} {up}/{total}"),
            Self::Vip(target, is_held) => write!(f, "vip {target} {}", if *is_held { "held" } else { "lost" }),
            Self::Router(target, part) => write!(f, "router {target} {}", part.as_str()),
            Self::Drain(target, is_on) => write!(f, "{} {target}", if *is_on { "drain" } else { "undrain" }),
            Self::Override { order: Order::Resume, region, service, who, why, .. } => {
                write!(f, "resume {region}{} by {who}: {why}", of(service))
            }
            Self::Override { order, region, service, span, who, why } => {
                let span = shared::settings::show_duration(*span);
                write!(f, "override {} {region}{} for {span} by {who}: {why}", order.as_str(), of(service))
            }
            Self::Clear(region, service) => write!(f, "clear {region}{}", of(service)),
            Self::Reload(file) => write!(f, "reload {file}"),
            Self::Restart(span) => write!(f, "restart after {}", shared::settings::show_duration(*span)),
            Self::Network(true) => f.write_str("node connected"),
            Self::Network(false) => f.write_str("node cut off"),
        }
    }
}

const UNITS: [(&str, f64); 4] = [("ms", 1.0), ("s", 1000.0), ("m", 60_000.0), ("h", 3_600_000.0)];
/// More blocks tell no more.
const BLOCKS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        let ms = |text: &str| moment(text).map(|at| at.elapsed().as_millis() as u64).ok();
        let all = ["0s", "10.5s", "1m30s", "250ms", "1h"].map(ms);
        assert_eq!(all, [0, 10_500, 90_000, 250, 3_600_000].map(Some));
        assert!(["", "10", "s", "-1s", "1x"].iter().all(|text| ms(text).is_none()));
    }

    #[test]
    fn every_action_reads_as_it_is_shown() {
        let lines = [
            "live all",
            "die seoul",
            "freeze seoul-1",
            "servers seoul www.example.com 0/2",
            "vip seoul-1 lost",
            "router seoul-1 active",
            "router seoul hears another",
            "drain seoul",
            "override drain frankfurt for 1h by anna: maintenance window",
            "override down frankfurt www.example.com for 90s by anna: broken",
            "resume seoul by anna: checked",
            "clear frankfurt www.example.com",
            "reload topology-2.toml",
            "restart after 3s",
            "node cut off",
        ];
        for line in lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(action(&words).map(|action| action.to_string()), Ok(line.to_owned()));
        }
    }

    #[test]
    fn mistakes_are_reported_with_their_lines() {
        let wrong = Script::parse("client kr 1.2.3 at 1 2\n0s explode seoul\nsoon end");
        let wrong = wrong.expect_err("three mistakes and no end");
        assert_eq!(wrong.lines().count(), 4, "{wrong}");
    }
}
