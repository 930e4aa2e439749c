//! Finding the region that a setting names, and saying which was meant when there is none.

use crate::name::RegionName;
use crate::settings::Value;
use crate::topology::{Member, MemberId, Region, RegionId};
use crate::typo::nearest;

/// The regions of the topology, sorted by name, to look names up in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regions<'r>(pub(super) &'r [Region]);

/// The regions of one service, to look names up in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Members<'r> {
    pub(super) regions: Regions<'r>,
    /// Empty when the list of them held nothing but mistakes.
    pub(super) list: &'r [Member],
}

impl Regions<'_> {
    /// The region called `name`; fails with what to report.
    pub(super) fn find(self, name: &str) -> Result<RegionId, String> {
        let found = self.0.binary_search_by(|region| region.name.as_str().cmp(name)).ok();
        let found = found.and_then(|at| u16::try_from(at).ok()).map(RegionId);
        found.ok_or_else(|| format!("{name:?} is not a region: {}", hint(name, self.names())))
    }

    /// All names, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &RegionName> + Clone {
        self.0.iter().map(|region| &region.name)
    }
}

impl Members<'_> {
    /// The member called `name`; fails with what to report.
    pub(super) fn find(self, name: &str) -> Result<MemberId, String> {
        let region = self.regions.find(name)?;
        let at = self.list.iter().position(|member| member.region == region).and_then(|at| u8::try_from(at).ok());
        at.map(MemberId).ok_or_else(|| {
            format!(
                "{name:?} is not a region of this service: {}",
                hint(name, self.list.iter().map(|m| self.name_of(m)))
            )
        })
    }

    /// The members that the list `value` names, each once; mistakes are reported and left out.
    pub(super) fn listed(self, value: &Value<'_>) -> Vec<MemberId> {
        let items = value.items("a list of regions");
        if items.as_ref().is_some_and(Vec::is_empty) {
            value.problem("empty: expected at least one region");
        }
        let mut found = Vec::new();
        for item in items.unwrap_or_default() {
            let Some(name) = item.text() else { continue };
            match self.find(name) {
                Ok(member) if found.contains(&member) => item.problem(format_args!("{name:?} is listed twice")),
                Ok(member) => found.push(member),
                Err(what) => item.problem(what),
            }
        }
        found
    }

    /// The name of `member`.
    pub(super) fn name_of(&self, member: &Member) -> &RegionName {
        &self.regions.0[usize::from(member.region.0)].name
    }
}

/// What would be right instead of `name`.
fn hint<'n>(name: &str, names: impl Iterator<Item = &'n RegionName> + Clone) -> String {
    match nearest(name, names.clone().map(RegionName::as_str)) {
        Some(known) => format!("did you mean {known:?}?"),
        None if names.clone().next().is_none() => "there is none".to_owned(),
        None => {
            let listed: Vec<&str> = names.clone().take(LISTED_MAX).map(RegionName::as_str).collect();
            let rest = if names.count() > LISTED_MAX { ", …" } else { "" };
            format!("expected one of {}{rest}", listed.join(", "))
        }
    }
}

/// More names than this in one message help nobody.
const LISTED_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered_and_others_listed() {
        let names = ["frankfurt", "seoul"].map(|name| RegionName::parse(name).expect("a label"));
        assert_eq!(hint("seul", names.iter()), "did you mean \"seoul\"?");
        assert_eq!(hint("Frankfort", names.iter()), "did you mean \"frankfurt\"?");
        assert_eq!(hint("virginia", names.iter()), "expected one of frankfurt, seoul");
        assert_eq!(hint("virginia", [].iter()), "there is none");
    }
}
