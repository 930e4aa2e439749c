//! Random worlds: zones, steered names, places and health, for the engine and for the reference.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use fastrand::Rng;
use gslb_dns::answer::Snapshot;
use gslb_dns::geo::{GeoData, GeoSources, GeoTables, Source};
use gslb_dns::zone::ZoneSet;
use ipnet::IpNet;
use shared::config::parse_topology;
use shared::moment::Moment;
use shared::place::{Coordinates, Country, Place};
use shared::snapshot::{ServiceView, Share, Standing, Verdict, View};
use shared::topology::{ServiceId, Topology};

use super::places::Places;
use super::zones::{File, below, name};
use super::{Reference, ReferenceZone};

/// Everything but the health.
#[derive(Debug)]
pub struct World {
    /// For the reference.
    pub zones: Vec<ReferenceZone>,
    /// For the reference.
    pub places: Places,
    files: Vec<File>,
    settings: String,
    overrides: String,
    topology: Arc<Topology>,
    engine_zones: Arc<ZoneSet>,
    engine_geo: Arc<GeoTables>,
}

impl World {
    /// The world of `seed`: always the same for the same seed.
    pub fn random(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let apexes = random_apexes(&mut rng);
        let settings = random_settings(&mut rng, &apexes);
        let topology = parse_topology("topology.toml", &settings).unwrap_or_else(|problems| {
            panic!("settings here are right: {problems:?}\n{settings}");
        });
        let mut files: Vec<File> = apexes.iter().map(|apex| File::random(&mut rng, apex)).collect();
        let engine_zones = loop {
            match ZoneSet::build(files.iter_mut().map(File::load).collect(), &topology) {
                Ok(set) => break set,
                Err(problems) => files.iter_mut().for_each(|file| file.mend(&problems)),
            }
        };
        let networks = random_networks(&mut rng);
        let overrides = networks.iter().map(override_line).collect::<String>();
        let source = Source { file: "overrides.csv", bytes: overrides.as_bytes() };
        let data = GeoData::parse(GeoSources { overrides: Some(source), ..GeoSources::default() });
        let data = data.unwrap_or_else(|problems| panic!("overrides here are right: {problems:?}\n{overrides}"));
        Self {
            zones: files.iter().map(|file| reference_zone(file, &files, &topology)).collect(),
            places: Places::new(&topology, &networks),
            engine_geo: Arc::new(GeoTables::build(&data, &topology)),
            engine_zones: Arc::new(engine_zones),
            topology: Arc::new(topology),
            files,
            settings,
            overrides,
        }
    }

    /// A view of random health.
    pub fn random_view(&self, rng: &mut Rng) -> View {
        // Mostly well, partly well, or as it comes.
        let illness = *rng.choice(&[0, 0, 1, 4, 8, 10]).unwrap_or(&0);
        let services = self.topology.services.iter().map(|service| {
            let members = &self.topology.steering(service).members;
            let standings = members.iter().map(|_| random_standing(rng, illness)).collect();
            ServiceView { standings }
        });
        View {
            topology: Arc::clone(&self.topology),
            services: services.collect(),
            vips: Vec::new(),
            doubts_itself_since: None,
        }
    }

    /// What the engine answers from.
    pub fn snapshot(&self, view: View) -> Snapshot {
        Snapshot::new(Arc::clone(&self.engine_zones), Arc::clone(&self.engine_geo), view)
    }

    /// What the reference answers from.
    pub fn reference<'a>(&'a self, view: &'a View) -> Reference<'a> {
        Reference { zones: &self.zones, places: &self.places, view }
    }
}

impl fmt::Display for World {
    /// Every file, so that a failure can be repeated by hand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "; zone {}\n{}", file.apex, file.text())?;
        }
        writeln!(f, "# topology.toml\n{}\n# overrides.csv\n{}", self.settings, self.overrides)
    }
}

/// One to three zones, some inside others.
fn random_apexes(rng: &mut Rng) -> Vec<String> {
    let mut apexes = vec!["z.test.".to_owned()];
    for apex in ["a.z.test.", "b.a.z.test.", "other.example."] {
        if rng.u8(0..3) == 0 {
            apexes.push(apex.to_owned());
        }
    }
    apexes
}

fn random_settings(rng: &mut Rng, apexes: &[String]) -> String {
    let regions = rng.usize(1..=5);
    let (has_v4, has_v6) =
        *rng.choice(&[(true, false), (true, true), (true, true), (false, true)]).unwrap_or(&(true, true));
    let mut text = String::new();
    for region in 0..regions {
        let mut vips = Vec::new();
        if has_v4 {
            vips.extend((0..rng.u8(1..=2)).map(|at| format!("\"203.0.113.{}{at}\"", region + 1)));
            // One that regions share.
            vips.extend((rng.u8(0..4) == 0).then(|| "\"203.0.113.99\"".to_owned()));
        }
        if has_v6 {
            vips.push(format!("\"2001:db8:f::{}\"", region + 1));
        }
        text += &format!("[regions.r{region}]\nvips = [{}]\n", vips.join(", "));
        text += &format!("coordinates = [{}.5, {}.5]\n", rng.i32(-80..80), rng.i32(-170..170));
        text += &format!("proxies = {{ p = \"http://192.0.2.{region}:8081/status\" }}\n");
    }
    let labels = ["", "s", "a", "b", "s.a", "b.a", "d.c.b"];
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..rng.usize(0..5) {
        let (label, apex) = (labels[rng.usize(..labels.len())], &apexes[rng.usize(..apexes.len())]);
        let separator = if label.is_empty() { "" } else { "." };
        names.insert(format!("{label}{separator}{}", apex.trim_end_matches('.')));
    }
    let is_apex = |name: &str| apexes.iter().any(|apex| apex.trim_end_matches('.') == name);
    names.iter().for_each(|name| add_service(rng, name, is_apex(name), regions, &mut text));
    text
}

fn add_service(rng: &mut Rng, name: &str, is_apex: bool, regions: usize, text: &mut String) {
    let mut members: Vec<usize> = (0..regions).collect();
    rng.shuffle(&mut members);
    members.truncate(rng.usize(1..=regions));
    let list = |members: &[usize]| members.iter().map(|at| format!("\"r{at}\"")).collect::<Vec<_>>().join(", ");
    let ttl = rng.u32(1..100);
    let policy = ["nearest", "nearest", "weighted", "ordered", "all"][rng.usize(..5)];
    *text +=
        &format!("[services.\"{name}\"]\npolicy = \"{policy}\"\nttl = {ttl}\nttl_degraded = {}\n", rng.u32(1..=ttl));
    match rng.usize(0..=members.len()) {
        0 => *text += &format!("regions = [{}]\n", list(&members)),
        split if split == members.len() => *text += &format!("tiers = [[{}]]\n", list(&members)),
        split => *text += &format!("tiers = [[{}], [{}]]\n", list(&members[..split]), list(&members[split..])),
    }
    let some = |rng: &mut Rng| list(&members[..rng.usize(1..=members.len())]);
    if rng.bool() {
        let weights: Vec<_> = members.iter().map(|at| format!("r{at} = {}", rng.u32(1..200))).collect();
        *text += &format!("weights = {{ {} }}\n", weights.join(", "));
    }
    match rng.u8(0..6) {
        0 => *text += "last_resort = \"none\"\n",
        1 => *text += &format!("last_resort = [{}]\n", some(rng)),
        _ => {}
    }
    match !is_apex && policy != "all" && rng.u8(0..4) == 0 {
        true => add_cnames(rng, name, &members, text),
        false => add_records(rng, &members, text),
    }
    if rng.u8(0..3) == 0 {
        *text += &format!("prefer = [{{ clients = {{ {} }}, regions = [{}] }}]\n", random_clients(rng), some(rng));
    }
    if rng.u8(0..3) == 0 {
        let fence = ["hard", "soft"][rng.usize(..2)];
        let clients = random_clients(rng);
        *text += &format!(
            "keep_within = [{{ clients = {{ {clients} }}, regions = [{}], fence = \"{fence}\" }}]\n",
            some(rng)
        );
    }
}

/// What a service may have beside addresses.
fn add_records(rng: &mut Rng, members: &[usize], text: &mut String) {
    if rng.u8(0..3) > 0 {
        *text += ["https = { alpn = [\"h2\", \"http/1.1\"], port = 8443 }\n", "https = { alpn = [\"h3\"] }\n"]
            [rng.usize(..2)];
    }
    if rng.u8(0..3) == 0 {
        let long = "t".repeat([1, 254, 255, 256, 600][rng.usize(..5)]);
        let texts = |at: &usize| format!("r{at} = [\"served by r{at}\", \"shared\", \"{long}\"]");
        *text += &format!("txt = {{ {} }}\n", members.iter().map(texts).collect::<Vec<_>>().join(", "));
    }
}

/// What it has in place of addresses; some lead to names of the zones.
fn add_cnames(rng: &mut Rng, name: &str, members: &[usize], text: &mut String) {
    let target = ["cdn.example.net", "r@.cdn.example.net", "R@.z.test.", "a.z.test", "s.a.z.test"][rng.usize(..5)];
    let target = if target == name { "other.example" } else { target };
    let targets = members.iter().map(|at| format!("r{at} = \"{}\"", target.replace('@', &at.to_string())));
    *text += &format!("cname = {{ {} }}\n", targets.collect::<Vec<_>>().join(", "));
}

fn random_clients(rng: &mut Rng) -> &'static str {
    [
        "countries = [\"DE\", \"KR\"]",
        "networks = [\"198.51.0.0/18\"]",
        "networks = [\"2001:db8:a000::/36\", \"198.51.100.0/24\"]",
        "countries = [\"BR\"], networks = [\"10.0.0.0/9\"]",
    ][rng.usize(..4)]
}

/// Networks of several sizes around few places, so that they lie inside each other; the finer than a block as
/// [`Places`] allows them.
fn random_networks(rng: &mut Rng) -> Vec<(IpNet, Place)> {
    let mut networks = std::collections::BTreeMap::new();
    for _ in 0..rng.usize(0..12) {
        let network = random_network(rng);
        networks.insert(network, random_place(rng));
    }
    networks.into_iter().collect()
}

fn random_network(rng: &mut Rng) -> IpNet {
    let fine_v4 = ["198.51.100.192/26", "198.51.101.200/32", "10.1.1.128/27"];
    let fine_v6 = ["2001:db8:a0ff:80::/58", "2001:db8:a1ff:ff::1/128"];
    let (address, len): (IpAddr, u8) = match rng.u8(0..8) {
        0 => return fine_v4[rng.usize(..3)].parse().expect("networks here are written right"),
        1 => return fine_v6[rng.usize(..2)].parse().expect("networks here are written right"),
        2..4 => (random_v6(rng), rng.u8(0..=56)),
        _ => (random_v4(rng), rng.u8(0..=24)),
    };
    IpNet::new(address, len).map(|network| network.trunc()).unwrap_or_else(|_| address.into())
}

fn random_place(rng: &mut Rng) -> Place {
    let country = ["DE", "KR", "BR", "US"][rng.usize(..4)];
    let coordinates = Coordinates::from_degrees(f64::from(rng.i32(-80..80)), f64::from(rng.i32(-170..170)));
    let coordinates = coordinates.ok().filter(|_| rng.u8(..) > 32);
    Place { coordinates, country: Country::parse(country), ..Place::default() }
}

fn override_line((network, place): &(IpNet, Place)) -> String {
    let mut line = format!("{network},{},,,", place.country.map(|country| country.to_string()).unwrap_or_default());
    if let Some(at) = place.coordinates {
        // Writing to a string cannot fail.
        let _ = write!(line, ",{},{}", at.latitude(), at.longitude());
    }
    line + "\n"
}

fn random_standing(rng: &mut Rng, illness: u8) -> Standing {
    let (verdict, share) = if rng.u8(0..10) >= illness {
        (Verdict::Serving, 100)
    } else {
        let ill =
            [Verdict::Down, Verdict::Down, Verdict::Ramping, Verdict::Ramping, Verdict::Draining, Verdict::Recovering];
        let verdict = ill[rng.usize(..ill.len())];
        (verdict, if verdict == Verdict::Ramping { rng.u8(1..100) } else { 0 })
    };
    let is_taken_out = verdict == Verdict::Draining || verdict == Verdict::Down && rng.u8(0..3) == 0;
    Standing { verdict, share: Share::from_percent(share), is_taken_out, reason: "".into(), since: Moment::START }
}

/// An address near the networks of a world, or anywhere.
pub(super) fn random_v4(rng: &mut Rng) -> IpAddr {
    let anywhere = rng.u32(..);
    let near = [0xC633_0000, 0xC633_6400, 0x0A01_0000, 0x0A01_0100][rng.usize(..4)];
    let keep = *rng.choice(&[0_u32, 8, 16, 24, 31]).unwrap_or(&0);
    IpAddr::from((near ^ anywhere & u32::MAX >> keep).to_be_bytes())
}

/// The same for IPv6.
pub(super) fn random_v6(rng: &mut Rng) -> IpAddr {
    let anywhere = rng.u128(..);
    let near = [0x2001_0db8_a000 << 80, 0x2001_0db8_a0ff << 80, 0x2001_0db8_a1ff_00ff << 64, 0][rng.usize(..4)];
    let keep = *rng.choice(&[0_u32, 16, 32, 48, 64, 127]).unwrap_or(&0);
    IpAddr::from((near ^ anywhere & u128::MAX >> keep).to_be_bytes())
}

/// The records of `file`, and those services of which it is the deepest zone.
fn reference_zone(file: &File, files: &[File], topology: &Topology) -> ReferenceZone {
    let apex = name(&format!("{}.", file.apex));
    let is_home = |service: &hickory_proto::rr::Name| {
        let deeper = files.iter().map(|other| name(&format!("{}.", other.apex)));
        let mut deeper = deeper.filter(|other| apex.zone_of(other) && *other != apex);
        apex.zone_of(service) && !deeper.any(|other| other.zone_of(service))
    };
    let services = topology.services.iter().enumerate().map(|(at, service)| {
        let labels = service.name.labels().collect::<Vec<_>>();
        let root = hickory_proto::rr::Name::root();
        (labels.iter().rev().fold(root, |above, label| below(label, &above)), ServiceId(at as u32))
    });
    let services = services.filter(|(service, _)| is_home(service)).collect();
    ReferenceZone { apex, records: file.records(), services }
}
