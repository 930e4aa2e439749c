//! How what virtual routers track is at this moment.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use shared::moment::Moment;

use super::notes::Notes;
use super::router::Router;
use crate::balance::{Health, Mode};
use crate::live::{Proxy, Service};
use crate::vrrp::machine::Standing;
use crate::vrrp::track::{Loss, Tracked, shared, standing};

/// One thing that a router tracks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Watched {
    pub(super) what: Tracked,
    /// What it costs when it fails.
    pub(super) loss: Loss,
    pub(super) is_well: bool,
}

/// What all routers look at.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) proxy: &'a Proxy,
    /// Which interfaces have a carrier.
    pub(super) carriers: &'a BTreeMap<String, bool>,
    /// Whether clients can connect.
    pub(super) listens: bool,
}

impl Surroundings<'_> {
    /// All that `router` tracks. A service that a reload took away has nothing left to fail.
    pub(super) fn of(&self, router: &Router, now: Moment) -> Vec<Watched> {
        let track = &router.settings.track;
        let is_fit = router.barred_until.is_none_or(|until| until <= now);
        let always = [(Tracked::Listeners, Loss::LetGo, self.listens), (Tracked::Vips, Loss::LetGo, is_fit)];
        let has_carrier = |name: &String| self.carriers.get(name).copied().unwrap_or(false);
        let interfaces = track.interfaces.iter();
        let interfaces = interfaces.map(|(name, loss)| (Tracked::Interface(name.clone()), *loss, has_carrier(name)));
        let gateways = track.gateways.iter();
        let gateways = gateways.map(|(at, loss)| (Tracked::Gateway(*at), *loss, router.gateways.is_reached(*at)));
        let live = self.proxy.live.load();
        let services = track.services.iter().filter_map(|(name, tracked)| {
            let service = live.services().find(|service| service.name == *name)?;
            Some((Tracked::Service(name.clone()), tracked.loss, has_servers(service, tracked.servers_min)))
        });
        let is_undrained = !self.proxy.is_draining.load(Ordering::Relaxed);
        let drain = track.drain.map(|loss| (Tracked::Drain, loss, is_undrained));
        let reports = self.proxy.l4.load();
        let l4 = live.config.l4.iter().filter(|l4| l4.vips.iter().any(|vip| router.settings.vips.contains(vip)));
        let l4 = l4.map(|l4| {
            let is_idle =
                reports.services.iter().any(|report| report.name == l4.name.as_str() && report.lacks_interface);
            (Tracked::L4(l4.name.to_string()), Loss::LetGo, !is_idle)
        });
        let all = always.into_iter().chain(interfaces).chain(gateways).chain(services).chain(l4).chain(drain);
        all.map(|(what, loss, is_well)| Watched { what, loss, is_well }).collect()
    }
}

/// How the routers of a group stand now, in their order.
pub(super) fn standings(
    routers: &mut [Router],
    around: &Surroundings<'_>,
    now: Moment,
    notes: &Notes,
) -> Vec<Standing> {
    routers.iter_mut().for_each(|router| router.track(around.of(router, now), notes));
    let losses = shared(routers.iter().flat_map(Router::failing).map(|watched| (&watched.what, watched.loss)));
    routers.iter().map(|router| standing(router.settings.priority, router.source, losses.iter().copied())).collect()
}

/// Whether so many servers are up; one that a reload has just added and that was not checked yet has not failed.
fn has_servers(service: &Service, servers_min: u32) -> bool {
    let standings = service.servers.iter().map(|server| server.standing());
    let serves = standings.filter(|it| it.health != Health::Down && it.mode == Mode::Ready && it.weight > 0);
    serves.count() >= servers_min as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::switching::report::{L4Report, ServiceReport};
    use crate::takeover::house::groups;
    use crate::tls::Certificates;
    use crate::vrrp::gateway::Gateway;

    /// What fails of what a router tracks, after `prepare`.
    fn failing(track: &str, listens: bool, prepare: impl FnOnce(&Proxy, &mut Router)) -> Vec<(String, Loss)> {
        let text = format!(
            "region = \"r\"\nproxy = \"p\"\nlisten = [\"127.0.0.1:0\"]\nstatus = \"127.0.0.1:0\"\n\
             services.s.servers.a = \"192.0.2.1:80\"\n\
             [vrrp.a]\ninterface = \"eth0\"\nid = 51\npriority = 250\nvips = [\"192.0.2.10\"]\n{track}"
        );
        let config = Config::parse("p.toml".as_ref(), &text, &|_| Err(String::new())).expect("right");
        let mut groups = groups(config.vrrp.clone(), Gateway::unknown(Moment::START));
        let proxy = Proxy::new(config, Certificates::default(), false, 1);
        let router = &mut groups[0].1[0];
        prepare(&proxy, router);
        let around = Surroundings { proxy: &proxy, carriers: &BTreeMap::new(), listens };
        let failing = around.of(router, Moment::START).into_iter().filter(|watched| !watched.is_well);
        failing.map(|watched| (watched.what.to_string(), watched.loss)).collect()
    }

    #[test]
    fn a_thread_that_serves_no_more_takes_the_vips_off() {
        assert_eq!(failing("", true, |_, _| ()), []);
        assert_eq!(failing("", false, |_, _| ()), [("listeners".to_owned(), Loss::LetGo)]);
    }

    #[test]
    fn vips_that_could_not_be_taken_are_left_to_others_for_a_moment() {
        assert_eq!(failing("", true, |_, router| router.bar(Moment::START)), [("vips".to_owned(), Loss::LetGo)]);
    }

    #[test]
    fn vips_of_an_l4_service_that_passes_nothing_on_are_left_to_others() {
        let l4 = "[l4.web]\nmode = \"dsr\"\ninterface = \"eth9\"\nservice = \"s\"\nports = [80]\nprotocols = [\"tcp\"]\nvips = [\"192.0.2.10\"]\n";
        let report = |lacks_interface| {
            let report = r#"{"name": "web", "mode": "dsr", "service": "s", "flows_to": [], "servers": []}"#;
            let report: ServiceReport = serde_json::from_str(report).expect("a report");
            L4Report { services: vec![ServiceReport { lacks_interface, ..report }], ..L4Report::default() }
        };
        assert_eq!(failing(l4, true, |_, _| ()), [], "nobody has looked yet");
        assert_eq!(failing(l4, true, |proxy, _| proxy.l4.publish(report(false))), []);
        let found = failing(l4, true, |proxy, _| proxy.l4.publish(report(true)));
        assert_eq!(found, [("l4 web".to_owned(), Loss::LetGo)]);
        let elsewhere = l4.replace("192.0.2.10", "192.0.2.13");
        assert_eq!(failing(&elsewhere, true, |proxy, _| proxy.l4.publish(report(true))), []);
    }

    #[test]
    fn what_is_not_known_to_be_well_fails_but_for_servers_that_were_not_checked_yet() {
        let track = "track = { interfaces = { eth1 = 1 }, gateways = { \"192.0.2.1\" = 2 }, drain = 3, \
                     services = { s = { loss = 4 } } }\n";
        let found = failing(track, true, |proxy, _| proxy.is_draining.store(true, Ordering::Relaxed));
        let expected = [("interface eth1", 1), ("gateway 192.0.2.1", 2), ("drain", 3)];
        assert_eq!(found, expected.map(|(what, lost)| (what.to_owned(), Loss::Priority(lost))));
    }
}
