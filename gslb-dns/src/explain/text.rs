//! Explanations for people.

use std::fmt::{self, Write as _};

use shared::failover::Because;
use shared::place::Place;

use super::{AnswerRecord, Explained, ExplainedAnswer, ExplainedPlace, ExplainedService, RegionLine};

impl fmt::Display for Explained {
    /// For people: the client, a table of regions, the answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(alarm) = &self.alarm {
            writeln!(f, "ALARM   {alarm}")?;
        }
        writeln!(f, "{} {} for {}", self.name, self.qtype, self.client)?;
        writeln!(f, "client  {}", self.located)?;
        match &self.service {
            Some(service) => write!(f, "{service}")?,
            None => writeln!(f, "not a steered name: everybody gets the same answer")?,
        }
        write!(f, "{}", self.answer)
    }
}

impl fmt::Display for ExplainedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { coordinates, country, continent, asn } = self.place;
        let mut parts = Vec::new();
        parts.extend(country.map(|country| country.to_string()));
        parts.extend(continent.map(|continent| continent.as_str().to_owned()));
        parts.extend(coordinates.map(|point| format!("at {:.2}, {:.2}", point.latitude(), point.longitude())));
        parts.extend(asn.map(|asn| format!("AS{asn}")));
        let place = if parts.is_empty() { "place not known".to_owned() } else { parts.join(", ") };
        write!(f, "{place} ({} by ", self.network)?;
        match self.line {
            Some(line) => write!(f, "line {line} of the overrides)")?,
            None => write!(f, "{})", self.from)?,
        }
        match self.decided_as {
            Some(other) => write!(f, "; its block counts to the place of {other}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ExplainedService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "service {}, policy {}", self.name, self.policy)?;
        let chosen = if self.chosen.is_empty() { "nobody".to_owned() } else { self.chosen.join(", ") };
        writeln!(f, "chosen  {chosen}: {}\n", self.chosen_by)?;
        let width = self.regions.iter().map(|line| line.region.len()).max().unwrap_or_default().max(6);
        let is_weighted = self.regions.iter().any(|line| line.weight.is_some());
        let weight_column = |text: &str| if is_weighted { format!("  {text:>6}") } else { String::new() };
        let weight = weight_column("weight");
        writeln!(
            f,
            "  {:width$}  {:>9}{weight}  {:10}  {:>5}  {:13}  why",
            "region", "distance", "verdict", "share", "outcome"
        )?;
        for line in &self.regions {
            let distance = line.distance_km.map_or_else(|| "unknown".to_owned(), |km| format!("{km} km"));
            let share = format!("{}%", line.share_percent);
            let weight = weight_column(&line.weight.map(|weight| weight.to_string()).unwrap_or_default());
            let mark = if self.chosen.contains(&line.region) { '>' } else { ' ' };
            let RegionLine { region, verdict, outcome, .. } = line;
            writeln!(
                f,
                "{mark} {region:width$}  {distance:>9}{weight}  {verdict:10}  {share:>5}  {outcome:13}  {}",
                line.why()
            )?;
        }
        writeln!(f)
    }
}

impl RegionLine {
    /// Its reason, and what put it at its place where that is not its tier.
    fn why(&self) -> String {
        let mut why = self.reason.clone();
        let place = match self.because {
            Because::Tier => return why,
            Because::Preferred => "preferred for this client",
            Because::BeyondSoftFence => "beyond the client's fence",
            Because::OutsideFence => "outside the client's fence",
        };
        // Writing to a text does not fail.
        let _ = write!(why, "; {place}");
        why
    }
}

impl fmt::Display for ExplainedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answer  {}", self.rcode)?;
        match self.scope {
            Some(scope) => writeln!(f, ", scope /{scope}")?,
            None => writeln!(f)?,
        }
        if self.records.is_empty() {
            writeln!(f, "        no records")?;
        }
        for AnswerRecord { name, ttl, rtype, data } in &self.records {
            writeln!(f, "        {name} {ttl} IN {rtype} {data}")?;
        }
        Ok(())
    }
}
