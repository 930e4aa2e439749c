//! A topology, zones and places to ask about.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::moment::Moment;
use shared::name::{OwnerName, ProxyName, RegionName};
use shared::place::Coordinates;
use shared::snapshot::{ServiceView, Share, Standing, Verdict, View};
use shared::topology::{
    Failback, FailbackMode, FlapSettings, HttpsSettings, LastResort, Member, Policy, Proxy, Region, RegionId, Service,
    Steering, SteeringId, Topology,
};

use crate::answer::Snapshot;
use crate::geo::{GeoData, GeoSources, GeoTables, Source};
use crate::zone::{Signing, Zone, ZoneSet};

/// Everything that a snapshot is made of.
#[derive(Debug)]
pub(super) struct World {
    pub(super) topology: Topology,
    pub(super) zones: Vec<(String, String)>,
    pub(super) overrides: String,
    /// Regions that do not fully serve: service, region, verdict and share in percent.
    pub(super) standings: Vec<(&'static str, &'static str, Verdict, u8)>,
}

/// Frankfurt, Seoul and Virginia; www is nearest with HTTPS, all gives everybody, none has no last resort, half is
/// split by weight, one has the same order for all, and four has IPv4 only.
pub(super) fn sample() -> World {
    let mut topology = Topology {
        regions: vec![
            region("frankfurt", 50.11, 8.68, &["192.0.2.20", "2001:db8::20"]),
            region("seoul", 37.57, 126.98, &["192.0.2.10", "192.0.2.11", "2001:db8::10"]),
            region("virginia", 39.04, -77.49, &["192.0.2.30", "2001:db8::30"]),
        ],
        ..Topology::default()
    };
    for (name, policy) in [
        ("all.gslb.test", Policy::All),
        ("four.gslb.test", Policy::Nearest),
        ("half.gslb.test", Policy::Weighted),
        ("none.gslb.test", Policy::Nearest),
        ("one.gslb.test", Policy::Ordered),
        ("www.gslb.test", Policy::Nearest),
    ] {
        add_service(&mut topology, name, policy);
    }
    topology.services[1].vips.iter_mut().for_each(|vips| vips.retain(IpAddr::is_ipv4));
    topology.services[1].https = None;
    topology.services[3].last_resort = LastResort::None;
    World {
        topology,
        zones: vec![("gslb.test".to_owned(), ZONE.to_owned())],
        overrides: OVERRIDES.to_owned(),
        standings: Vec::new(),
    }
}

pub(super) fn add_service(topology: &mut Topology, name: &str, policy: Policy) {
    let member = |at: usize| Member { region: RegionId(at as u16), tier: 0, weight: 100 };
    let members = (0..topology.regions.len()).map(member).collect();
    let steering = SteeringId(topology.steerings.len() as u32);
    topology.steerings.push(Steering { policy, members, prefer: Vec::new(), keep_within: Vec::new() });
    topology.services.push(Service {
        name: OwnerName::parse(name).expect("a name"),
        steering,
        vips: topology.regions.iter().map(|region| region.vips.clone()).collect(),
        min_servers: 0,
        last_resort: LastResort::All,
        ttl: 30,
        ttl_degraded: 5,
        failback: Failback {
            mode: FailbackMode::Auto,
            delay: Duration::from_secs(60),
            ramp_step_percent: 25,
            flap: FlapSettings { half_life: Duration::from_secs(600), suppress: 2500, reuse: 1000 },
        },
        txt: Vec::new(),
        cname: Vec::new(),
        https: Some(HttpsSettings { alpn: vec!["h2".to_owned(), "http/1.1".to_owned()], port: Some(8443) }),
    });
}

/// Sends the clients of each region to a name of its own: `0.cdn.example.net` and so on.
pub(super) fn to_alias(service: &mut Service) {
    let targets = (0..service.vips.len()).map(|at| OwnerName::parse(&format!("{at}.cdn.example.net")).expect("a name"));
    service.cname = targets.collect();
    service.vips.iter_mut().for_each(Vec::clear);
    service.https = None;
}

pub(super) fn region(name: &str, latitude: f64, longitude: f64, vips: &[&str]) -> Region {
    Region {
        name: RegionName::parse(name).expect("a name"),
        coordinates: Coordinates::from_degrees(latitude, longitude).ok(),
        bias_km: 0,
        vips: vips.iter().map(|vip| vip.parse().expect("an address")).collect(),
        min_proxies: 1,
        proxies: vec![Proxy {
            name: ProxyName::parse("p").expect("a name"),
            status_url: "http://127.0.0.1/status".to_owned(),
        }],
    }
}

impl World {
    /// The same with one more zone, or another text for the first.
    pub(super) fn zone(mut self, apex: &str, text: &str) -> Self {
        self.zones.retain(|(known, _)| known != apex);
        self.zones.push((apex.to_owned(), text.to_owned()));
        self
    }

    pub(super) fn standing(mut self, service: &'static str, region: &'static str, verdict: Verdict, share: u8) -> Self {
        self.standings.push((service, region, verdict, share));
        self
    }

    pub(super) fn down(mut self, service: &'static str, regions: &[&'static str]) -> Self {
        self.standings.extend(regions.iter().map(|&region| (service, region, Verdict::Down, 0)));
        self
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.signed_snapshot(&vec![None; self.zones.len()])
    }

    /// The same with its zones signed as `signings` say.
    pub(super) fn signed_snapshot(&self, signings: &[Option<Signing>]) -> Snapshot {
        let parse = |(apex, text): &(String, String)| {
            Zone::parse(&OwnerName::parse(apex).expect("a name"), apex, text).expect("a zone")
        };
        let zones = self.zones.iter().map(parse).zip(signings.iter().cloned()).collect();
        let zones = ZoneSet::build_signed(zones, &self.topology).expect("zones");
        let source = Source { file: "overrides.csv", bytes: self.overrides.as_bytes() };
        let data =
            GeoData::parse(GeoSources { database: None, asn_database: None, overrides: Some(source), countries: None });
        let geo = GeoTables::build(&data.expect("places"), &self.topology);
        Snapshot::new(Arc::new(zones), Arc::new(geo), self.view())
    }

    pub(super) fn view(&self) -> View {
        let services = self.topology.services.iter().map(|service| {
            let steering = self.topology.steering(service);
            let standings = steering.members.iter().map(|member| {
                let region = self.topology.region(member.region).name.as_str();
                let found =
                    self.standings.iter().find(|(of, name, ..)| *of == service.name.as_str() && *name == region);
                let (verdict, share) =
                    found.map_or((Verdict::Serving, 100), |&(_, _, verdict, share)| (verdict, share));
                let share = Share::from_percent(share);
                Standing { verdict, share, is_taken_out: false, reason: "".into(), since: Moment::START }
            });
            ServiceView { standings: standings.collect() }
        });
        View {
            topology: Arc::new(self.topology.clone()),
            services: services.collect(),
            vips: Vec::new(),
            doubts_itself_since: None,
        }
    }
}

/// 198.51.100.0/24 and 2001:db8:a::/48 in Korea, 203.0.113.0/24 in Germany; others nowhere.
const OVERRIDES: &str = "\
198.51.100.0/24,KR,,,,37.5,127.0
198.51.0.0/16,DE,,,,52.5,13.4
203.0.113.0/24,DE,,,,52.5,13.4
2001:db8:a::/48,KR,,,,37.5,127.0
2001:db8:b::/48,US,,,,40.7,-74.0
";

pub(super) const ZONE: &str = r#"
$TTL 3600
@ SOA ns1 hostmaster 7 14400 3600 1209600 300
@ NS ns1
@ NS ns2.example.net.
ns1 A 192.0.2.53
ns1 AAAA 2001:db8::53
@ MX 10 Mail
mail A 192.0.2.25
www TXT "steered"
odd TYPE65280 \# 3 010203
cdn CNAME www
far CNAME cdn
blog CNAME blog.example.com.
text CNAME notes
notes TXT "a" "b"
loop CNAME pool
pool CNAME loop
dead CNAME nothing
gone CNAME x.kid
*.wild A 192.0.2.80
*.wild MX 5 mail
a.b.wild TXT "blocks"
*.alias CNAME www
deep.ent.down A 192.0.2.81
kid NS ns.kid
kid NS ns.example.net.
kid DS 1 13 2 00112233
ns.kid A 192.0.2.54
bare NS ns.example.net.
old DNAME new
new TXT "new"
"#;
