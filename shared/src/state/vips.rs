//! Who holds the VIPs of a region, by what its proxies say: of those that hold one in turn (VRRP) one counts.

use std::net::IpAddr;
use std::time::Duration;

use crate::moment::Moment;
use crate::name::ProxyName;
use crate::published::Status;
use crate::snapshot::{TwoActives, VipStanding};

use super::event::VipNews;
use super::facts::ProxyFacts;

/// How long a proxy has said without a break that it holds a VIP in turn with others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Claim {
    vip: IpAddr,
    since: Moment,
    /// When it said so last.
    said: Moment,
}

impl Claim {
    /// The claims of a proxy that answered `status` at `now`, after what it had claimed until its answer `before`; that is
    /// empty where it was not reached meanwhile, since nobody knows what it held then.
    pub(super) fn follow(before: &[Self], status: &Status, now: Moment) -> Vec<Self> {
        let held = status.virtual_routers.iter().filter(|router| router.holds_vips);
        let claim = |vip: &IpAddr| {
            let since = before.iter().find(|claim| claim.vip == *vip).map_or(now, |claim| claim.since);
            Self { vip: *vip, since, said: now }
        };
        held.flat_map(|router| &router.vips).map(claim).collect()
    }
}

/// What is known of one VIP.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VipFacts {
    standing: VipStanding,
    /// Who held it last, if nobody does now.
    last_holder: Option<ProxyName>,
    /// When two were last seen to hold it.
    last_two: Moment,
}

impl VipFacts {
    /// Nobody has said anything of `vip`.
    pub(super) fn new(vip: IpAddr) -> Self {
        Self { standing: VipStanding::unknown(vip), last_holder: None, last_two: Moment::START }
    }

    pub(super) fn standing(&self) -> &VipStanding {
        &self.standing
    }

    /// Follows what `proxies` say now, and gives what is to be told of it. Two that hold it in turn hold it at the same time
    /// when both have said so for `patience` and nobody has broken off: probes of a takeover may cross, and who died does
    /// not say that it let go. Nor is it over before nobody has said anything of it for as long: who hears another says so a
    /// little later.
    pub(super) fn follow(&mut self, proxies: &[ProxyFacts], patience: Duration, now: Moment) -> Vec<VipNews> {
        let mut news = Vec::new();
        let holders = Holders::of(self.standing.vip, proxies);
        self.standing.is_in_turn = holders.is_in_turn;
        self.standing.holders = holders.names();
        if holders.is_in_turn
            && let Some(holder) =
                self.standing.holders.first().filter(|holder| self.last_holder.as_ref() != Some(holder))
        {
            let from = self.last_holder.replace(holder.clone());
            self.standing.changed_hands = from.is_some().then_some(now).or(self.standing.changed_hands);
            news.push(VipNews::ChangedHands { from, to: holder.clone() });
        }
        if let Some(taken) = holders.last_takeover() {
            self.standing.last_takeover = Some(taken);
        }
        news.extend(self.follow_alarm(&holders, patience, now));
        news
    }

    fn follow_alarm(&mut self, holders: &Holders<'_>, patience: Duration, now: Moment) -> Option<VipNews> {
        let since = self.standing.two_actives.as_ref().map(|alarm| alarm.since);
        match (holders.two_actives(since.is_some(), patience), since) {
            (Some((holders, hearers)), _) => {
                self.last_two = now;
                let alarm = TwoActives { since: since.unwrap_or(now), holders, hearers };
                let alarm = self.standing.two_actives.insert(alarm);
                let news = || VipNews::TwoActives { holders: alarm.holders.clone(), hearers: alarm.hearers.clone() };
                since.is_none().then(news)
            }
            (None, Some(since)) if now >= self.last_two + patience => {
                self.standing.two_actives = None;
                Some(VipNews::OneActive { holder: self.last_holder.clone(), since })
            }
            (None, _) => None,
        }
    }

    /// Whether two say that they hold it in turn, which may be a moment of a takeover.
    pub(super) fn is_suspect(&self, proxies: &[ProxyFacts]) -> bool {
        self.standing.two_actives.is_none() && Holders::of(self.standing.vip, proxies).claimants().count() > 1
    }
}

/// The status answers that count for `vip`: of those that hold it in turn one, where others hold it all of them.
pub(super) fn counted<'a>(vip: IpAddr, proxies: &'a [ProxyFacts]) -> impl Iterator<Item = &'a Status> + use<'a> {
    let holders = Holders::of(vip, proxies);
    let count = if holders.is_in_turn { 1 } else { usize::MAX };
    holders.found.into_iter().take(count).filter_map(|facts| facts.status.as_ref())
}

/// Healthy proxies that say that they hold a VIP, and whether they do so in turn.
struct Holders<'a> {
    vip: IpAddr,
    is_in_turn: bool,
    /// The one that counts first, if they do.
    found: Vec<&'a ProxyFacts>,
    healthy: Vec<&'a ProxyFacts>,
}

impl<'a> Holders<'a> {
    fn of(vip: IpAddr, proxies: &'a [ProxyFacts]) -> Self {
        let healthy: Vec<&ProxyFacts> = proxies.iter().filter(|facts| facts.is_healthy()).collect();
        let statuses = || healthy.iter().filter_map(|facts| facts.status.as_ref());
        let is_in_turn = statuses().any(|status| status.router_of(vip).is_some());
        let holds = |facts: &&&ProxyFacts| {
            let status = facts.status.as_ref();
            status.is_some_and(|status| status.router_of(vip).map_or(status.holds_vip, |router| router.holds_vips))
        };
        let mut found: Vec<&ProxyFacts> = healthy.iter().filter(holds).copied().collect();
        if is_in_turn {
            // As they settle it when they hear each other (RFC 9568, section 6.4.3); who answers comes before who does not.
            found.sort_by_key(|facts| {
                let router = facts.status.as_ref().and_then(|status| status.router_of(vip));
                let rank = router.map(|router| (router.priority, router.holder));
                std::cmp::Reverse((facts.failure.is_none(), rank))
            });
        }
        Self { vip, is_in_turn, found, healthy }
    }

    fn names(&self) -> Vec<ProxyName> {
        self.found.iter().map(|facts| facts.proxy.clone()).collect()
    }

    fn last_takeover(&self) -> Option<u64> {
        self.found.first()?.status.as_ref()?.router_of(self.vip)?.last_takeover
    }

    fn claimants(&self) -> impl Iterator<Item = (&'a ProxyFacts, Claim)> {
        let claim = |facts: &&'a ProxyFacts| facts.claims.iter().find(|claim| claim.vip == self.vip).copied();
        self.healthy.iter().filter_map(move |facts| Some((*facts, claim(facts)?)))
    }

    /// Those that hold it at the same time, and those that hear another that does.
    fn two_actives(&self, is_known: bool, patience: Duration) -> Option<(Vec<ProxyName>, Vec<ProxyName>)> {
        let claims: Vec<(&ProxyFacts, Claim)> = self.claimants().collect();
        // Both held it at least from when the later one first said so to when one of them last did.
        let overlaps = |one: &Claim, other: &Claim| one.said.min(other.said) >= one.since.max(other.since) + patience;
        let is_sure = |at: usize| {
            let others = claims.iter().enumerate().filter(|(other, _)| *other != at);
            others.into_iter().any(|(_, (_, other))| is_known || overlaps(&claims[at].1, other))
        };
        let holders = (0..claims.len()).filter(|at| is_sure(*at)).map(|at| claims[at].0.proxy.clone());
        let hears = |facts: &&&ProxyFacts| {
            let router = facts.status.as_ref().and_then(|status| status.router_of(self.vip));
            facts.failure.is_none() && router.is_some_and(|router| router.hears_other_active)
        };
        let (holders, hearers): (Vec<_>, Vec<_>) =
            (holders.collect(), self.healthy.iter().filter(hears).map(|facts| facts.proxy.clone()).collect());
        (!holders.is_empty() || !hearers.is_empty()).then_some((holders, hearers))
    }
}
