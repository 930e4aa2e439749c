//! Small topologies for the tests of this crate.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::moment::Moment;
use crate::name::{OwnerName, ProxyName, RegionName};
use crate::place::{Coordinates, Place};
use crate::published::{ServiceStatus, Status};
use crate::snapshot::{ServiceView, Share, Standing, Verdict};
use crate::topology::{
    Failback, FailbackMode, FlapSettings, LastResort, Member, Policy, ProbeSettings, Proxy, Region, RegionId, Service,
    ServiceId, Steering, SteeringId, Topology,
};

pub(crate) const WEB: ServiceId = ServiceId(0);

/// Regions in the order of their names, so that region, member and name agree.
pub(crate) const REGIONS: [(&str, f64, f64); 3] =
    [("frankfurt", 50.11, 8.68), ("seoul", 37.57, 126.98), ("virginia", 39.04, -77.49)];

pub(crate) fn region(name: &str) -> RegionName {
    RegionName::parse(name).expect("a label")
}

pub(crate) fn at(secs_tenths: u64) -> Moment {
    Moment::from_start(Duration::from_millis(secs_tenths * 100))
}

pub(crate) fn tokyo() -> Place {
    place(35.7, 139.7)
}

pub(crate) fn place(latitude: f64, longitude: f64) -> Place {
    Place { coordinates: Coordinates::from_degrees(latitude, longitude).ok(), ..Place::default() }
}

/// One service over the three regions, two proxies each, all in one tier.
pub(crate) fn topology() -> Topology {
    let proxy = |name: &str, n: u8| Proxy {
        name: ProxyName::parse(&format!("{name}-{n}")).expect("a label"),
        status_url: "http://192.0.2.1/status".to_owned(),
    };
    let region = |(id, (name, latitude, longitude)): (usize, &(&str, f64, f64))| Region {
        name: region(name),
        coordinates: Coordinates::from_degrees(*latitude, *longitude).ok(),
        bias_km: 0,
        vips: vec![vip(id as u8)],
        min_proxies: 1,
        proxies: vec![proxy(name, 1), proxy(name, 2)],
    };
    let members = (0..3).map(|id| Member { region: RegionId(id), tier: 0, weight: 100 }).collect();
    let steering = Steering { policy: Policy::Nearest, members, prefer: Vec::new(), keep_within: Vec::new() };
    let service = Service {
        name: OwnerName::parse("www.example.com").expect("a name"),
        steering: SteeringId(0),
        vips: (0..3).map(|id| vec![vip(id)]).collect(),
        min_servers: 1,
        last_resort: LastResort::All,
        ttl: 20,
        ttl_degraded: 5,
        failback: Failback {
            mode: FailbackMode::Auto,
            delay: Duration::from_secs(60),
            ramp_step_percent: 25,
            flap: FlapSettings { half_life: Duration::from_secs(600), suppress: 2500, reuse: 1000 },
        },
        https: None,
        txt: Vec::new(),
        cname: Vec::new(),
    };
    Topology {
        regions: REGIONS.iter().enumerate().map(region).collect(),
        services: vec![service],
        steerings: vec![steering],
        probe: ProbeSettings::default(),
    }
}

fn vip(id: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, id + 1).into()
}

/// The sample, changed.
pub(crate) fn topology_with(change: impl FnOnce(&mut Topology)) -> Arc<Topology> {
    let mut topology = topology();
    change(&mut topology);
    Arc::new(topology)
}

/// A sheet with these verdicts, in the order of [`REGIONS`]; ramping means a share of 50 %.
pub(crate) fn standings(verdicts: &[Verdict]) -> ServiceView {
    let standing = |&verdict: &Verdict| Standing {
        verdict,
        share: match verdict {
            Verdict::Serving => Share::ALL,
            Verdict::Ramping => Share::from_percent(50),
            _ => Share::NONE,
        },
        is_taken_out: verdict == Verdict::Draining,
        ..Standing::default()
    };
    ServiceView { standings: verdicts.iter().map(standing).collect() }
}

/// A healthy answer of proxy `n` of `name`, both origin servers up.
pub(crate) fn healthy(topology: &Topology, name: &str, n: u8) -> Status {
    let up = ServiceStatus { servers_up: 2, servers_total: 2, ..ServiceStatus::default() };
    Status {
        region: region(name),
        proxy: ProxyName::parse(&format!("{name}-{n}")).expect("a label"),
        holds_vip: true,
        is_draining: false,
        services: topology.services.iter().map(|service| (service.name.clone(), up)).collect(),
        virtual_routers: Vec::new(),
    }
}
