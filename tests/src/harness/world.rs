//! A whole world: regions with proxies and origins, and a node in front of them, on loopback addresses of its own.
//!
//! Everything is as in the shipped `zones/` and `geo/`, but that `127.0.` becomes `127.N.` with a number of this world's
//! own, so that worlds run side by side with fixed ports: VIPs at 127.N.R.10:8080, status at 127.N.R.11:8081 and
//! 127.N.R.12:8081, origins at 127.N.R.21:9000 and 127.N.R.22:9000, DNS at 127.N.0.1:5300, admin at 127.N.0.1:5380.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::dns::DnsClient;
use super::http::{Request, get_json};
use super::process::{Folder, Process, program, repository};
use super::within;

/// The regions of the shipped topology, each with its number R.
pub const REGIONS: [(&str, u8); 3] = [("seoul", 1), ("frankfurt", 2), ("virginia", 3)];
/// The token for changes, in every program of a world.
pub const TOKEN: &str = "a-token-for-tests-and-demo";
/// The steered names of the shipped topology.
pub const SERVICES: [&str; 5] = ["www.gslb.test", "api.gslb.test", "static.gslb.test", "all.gslb.test", "eu.gslb.test"];

/// Settings of a node without regions. They end in the table of its zone, to which more keys may be added.
pub const PLAIN_SETTINGS: &str = r#"
[server]
listen = ["127.0.0.1:5300"]
admin = "127.0.0.1:5380"
threads = 1
[[zones]]
name = "gslb.test"
file = "gslb.test.zone"
"#;

/// A world that runs; everything in it ends when this is dropped.
#[derive(Debug)]
pub struct World {
    number: u8,
    /// Held as long as the world lives, so that no other takes its number.
    _claim: Option<TcpListener>,
    folder: Folder,
    topology: PathBuf,
    node: Option<Process>,
    regions: Vec<Region>,
}

/// The processes of one region.
#[derive(Debug)]
pub struct Region {
    /// Its name.
    pub name: String,
    number: u8,
    proxies: Vec<Option<Process>>,
    origins: Vec<Option<Process>>,
}

impl World {
    /// Files as shipped, in a folder of their own, and no process yet. `edit` may change the text of `topology.toml`,
    /// which it gets with the addresses `127.0.` as they are shipped.
    pub fn new(edit: impl FnOnce(String) -> String) -> Result<Self, String> {
        let (number, claim) = claim()?;
        let folder = Folder::new("gslb-")?;
        let shipped = repository();
        for (from, to) in SHIPPED {
            let to = folder.path().join(to);
            fs::copy(shipped.join(from), &to).map_err(|error| format!("{from}: {error}"))?;
        }
        let topology = folder.path().join("topology.toml");
        let world = Self { number, _claim: Some(claim), folder, topology, node: None, regions: regions() };
        let text = fs::read_to_string(&world.topology).map_err(|error| error.to_string())?;
        let text = text.replace(", \"[::1]:5300\"", "").replace("\"../geo/", "\"");
        let text = text.replace("# admin_token_file = \"token\"", "admin_token_file = \"token\"");
        world.write_topology(&edit(text))?;
        world.write("token", TOKEN)?;
        Ok(world)
    }

    /// The world of the demo: shipped addresses, ports and files, whose node reads `zones/topology.toml` itself, or a
    /// copy of it where this machine has no IPv6.
    pub fn shipped(has_ipv6: bool) -> Result<Self, String> {
        let folder = Folder::new("gslb-demo-")?;
        let mut topology = repository().join("zones/topology.toml");
        if !has_ipv6 {
            let text = fs::read_to_string(&topology).map_err(|error| error.to_string())?;
            let shipped = repository();
            let text = text.replace(", \"[::1]:5300\"", "").replace("\"../", &format!("\"{}/", shipped.display()));
            let zone = format!("\"{}/zones/gslb.test.zone\"", shipped.display());
            topology = folder.path().join("topology.toml");
            fs::write(&topology, text.replace("\"gslb.test.zone\"", &zone)).map_err(|error| error.to_string())?;
        }
        let world = Self { number: 0, _claim: None, folder, topology, node: None, regions: regions() };
        world.write("token", TOKEN)?;
        Ok(world)
    }

    /// A world as shipped in which everything runs and serves.
    pub fn start(edit: impl FnOnce(String) -> String) -> Result<Self, String> {
        let mut world = Self::new(edit)?;
        world.start_regions()?;
        world.start_node()?;
        world.wait_until_serving(Duration::from_secs(20))?;
        Ok(world)
    }

    /// Starts the origins and proxies of every region.
    pub fn start_regions(&mut self) -> Result<(), String> {
        for (name, _) in REGIONS {
            self.start_origins(name)?;
            self.start_proxies(name)?;
        }
        Ok(())
    }

    /// Starts the origins of `region` that do not run.
    pub fn start_origins(&mut self, region: &str) -> Result<(), String> {
        let program = program("origin")?;
        let number = self.number;
        let region = self.region_mut(region)?;
        for at in 0..2_u8 {
            let address = region.address(number, 21 + at, 9000);
            let slot = &mut region.origins[usize::from(at)];
            if slot.is_none() {
                let name = format!("{}-app-{}", region.name, at + 1);
                let arguments = [name.clone(), address.to_string()];
                let process = Process::start(&name, &program, &arguments).map_err(|error| error.to_string())?;
                process.wait_for_line("listening on", 0, START)?;
                *slot = Some(process);
            }
        }
        Ok(())
    }

    /// Starts the proxies of `region` that do not run, and waits until they answer.
    pub fn start_proxies(&mut self, region: &str) -> Result<(), String> {
        let program = program("region-proxy")?;
        let (number, folder) = (self.number, self.folder.path().to_path_buf());
        let region = self.region_mut(region)?;
        for at in 0..2_u8 {
            if region.proxies[usize::from(at)].is_some() {
                continue;
            }
            let name = format!("{}-{}", region.name, at + 1);
            let file = folder.join(format!("{name}.toml"));
            fs::write(&file, region.proxy_settings(number, at)).map_err(|error| error.to_string())?;
            let arguments = ["serve".as_ref(), "--config".as_ref(), file.as_os_str()];
            let mut process = Process::start(&name, &program, &arguments).map_err(|error| error.to_string())?;
            let status = region.status_address(number, at);
            wait_for_answer(&mut process, status, "/status")?;
            region.proxies[usize::from(at)] = Some(process);
        }
        Ok(())
    }

    /// Starts the node and waits until it answers queries.
    pub fn start_node(&mut self) -> Result<(), String> {
        let mut node = self.spawn_node()?;
        wait_for_answer(&mut node, self.admin(), "/ready")?;
        self.node = Some(node);
        Ok(())
    }

    /// Starts the node and waits for nothing.
    pub fn spawn_node(&self) -> Result<Process, String> {
        let arguments = ["serve".as_ref(), "--config".as_ref(), self.topology.as_os_str()];
        Process::start("gslb-dns", &program("gslb-dns")?, &arguments).map_err(|error| error.to_string())
    }

    /// Waits until every region serves every service.
    pub fn wait_until_serving(&self, limit: Duration) -> Result<(), String> {
        let serving = || {
            let status = self.status()?;
            let services = status["services"].as_array().map_or(&[][..], Vec::as_slice);
            let regions = services.iter().flat_map(|service| service["regions"].as_array().into_iter().flatten());
            let other = regions.clone().find(|region| region["verdict"] != "serving");
            match other {
                None if regions.count() > 0 => Ok(()),
                other => Err(format!("a region does not serve: {other:?}")),
            }
        };
        within(limit, serving).map(drop)
    }

    /// Kills both proxies of `region` (SIGKILL).
    pub fn kill_proxies(&mut self, region: &str) -> Result<(), String> {
        for slot in &mut self.region_mut(region)?.proxies {
            if let Some(mut process) = slot.take() {
                process.kill();
            }
        }
        Ok(())
    }

    /// Freezes both proxies of `region` (SIGSTOP).
    pub fn freeze_proxies(&mut self, region: &str) -> Result<(), String> {
        self.region_mut(region)?.proxies.iter().flatten().try_for_each(Process::freeze)
    }

    /// Lets both proxies of `region` go on (SIGCONT).
    pub fn thaw_proxies(&mut self, region: &str) -> Result<(), String> {
        self.region_mut(region)?.proxies.iter().flatten().try_for_each(Process::thaw)
    }

    /// Tells both proxies of `region` to drain, or to drain no more.
    pub fn drain_proxies(&mut self, region: &str, is_draining: bool) -> Result<(), String> {
        let number = self.number;
        let path = if is_draining { "/drain" } else { "/undrain" };
        let region = self.region_mut(region)?;
        for at in 0..2 {
            let response = Request::post(path, TOKEN).send(region.status_address(number, at))?;
            if response.status != 200 {
                return Err(format!("{path}: status {}: {}", response.status, response.body));
            }
        }
        Ok(())
    }

    /// Makes the health checks of both origins of `region` fail, or succeed again.
    pub fn fail_origins(&mut self, region: &str, is_failing: bool) -> Result<(), String> {
        let number = self.number;
        let path = if is_failing { "/fail" } else { "/heal" };
        let region = self.region_mut(region)?;
        (0..2).try_for_each(|at| Request::post(path, "").send(region.address(number, 21 + at, 9000)).map(drop))
    }

    /// An operator's override by the admin listener of the node; `span` such as `1h`.
    pub fn override_region(&self, action: &str, region: &str, service: Option<&str>, span: &str) -> Result<(), String> {
        let mut body =
            serde_json::json!({ "region": region, "action": action, "who": "test", "why": "test", "for": span });
        if let Some(service) = service {
            body["service"] = service.into();
        }
        let body = body.to_string();
        let response = Request { body: &body, ..Request::post("/overrides", TOKEN) }.send(self.admin())?;
        if response.status == 200 { Ok(()) } else { Err(format!("{body}: {} {}", response.status, response.body)) }
    }

    /// Takes back the override of a whole region.
    pub fn clear_override(&self, region: &str) -> Result<(), String> {
        let path = format!("/overrides?region={region}");
        let response = Request { method: "DELETE", ..Request::post(&path, TOKEN) }.send(self.admin())?;
        if response.status == 200 { Ok(()) } else { Err(format!("{path}: {} {}", response.status, response.body)) }
    }

    /// The node's `/status`.
    pub fn status(&self) -> Result<Value, String> {
        get_json(self.admin(), "/status")
    }

    /// The verdict and share of `region` for `service`, as the node shows them.
    pub fn verdict(&self, service: &str, region: &str) -> Result<(String, u64), String> {
        let status = self.status()?;
        let find = |list: &Value, key: &str, name: &str| {
            list.as_array().and_then(|list| list.iter().find(|item| item[key] == name)).cloned().unwrap_or_default()
        };
        let standing = find(&find(&status["services"], "name", service)["regions"], "region", region);
        let verdict = standing["verdict"].as_str().ok_or_else(|| format!("no verdict of {region} for {service}"))?;
        Ok((verdict.to_owned(), standing["share_percent"].as_u64().unwrap_or_default()))
    }

    /// The node's explanation of the A records of `name` for `client`.
    pub fn explain(&self, name: &str, client: IpAddr) -> Result<Value, String> {
        get_json(self.admin(), &format!("/explain?name={name}&client={client}"))
    }

    /// A client of the node.
    pub fn dns(&self) -> DnsClient {
        DnsClient::new(self.server())
    }

    /// Where the node answers queries.
    pub fn server(&self) -> SocketAddr {
        SocketAddr::from(([127, self.number, 0, 1], 5300))
    }

    /// The node's admin listener.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::from(([127, self.number, 0, 1], 5380))
    }

    /// The VIP of `region`.
    pub fn vip(&self, region: &str) -> IpAddr {
        let number = REGIONS.iter().find(|(name, _)| *name == region).map_or(0, |(_, number)| *number);
        IpAddr::from([127, self.number, number, 10])
    }

    /// The region whose VIP is `address`.
    pub fn region_at(&self, address: IpAddr) -> Option<&'static str> {
        REGIONS.iter().map(|(name, _)| *name).find(|name| self.vip(name) == address)
    }

    /// The running node.
    pub fn node(&mut self) -> Result<&mut Process, String> {
        self.node.as_mut().ok_or_else(|| "the node does not run".to_owned())
    }

    /// Ends the node as its operator would (SIGTERM).
    pub fn stop_node(&mut self) -> Result<(), String> {
        let mut node = self.node.take().ok_or("the node does not run")?;
        node.terminate(START).map(drop)
    }

    /// Every process of `region`.
    pub fn region_mut(&mut self, name: &str) -> Result<&mut Region, String> {
        let known = self.regions.iter_mut().find(|region| region.name == name);
        known.ok_or_else(|| format!("{name} is not a region: expected one of seoul, frankfurt, virginia"))
    }

    /// Writes `topology.toml`, given with the addresses `127.0.` as they are shipped.
    pub fn write_topology(&self, text: &str) -> Result<(), String> {
        let base = format!("127.{}.", self.number);
        let text = text.replace("\"127.0.", &format!("\"{base}")).replace("//127.0.", &format!("//{base}"));
        // The network of all of them stays.
        let text = text.replace(&format!("\"{base}0.0/8\""), "\"127.0.0.0/8\"");
        self.write("topology.toml", text)
    }

    /// The text of `topology.toml`, with the addresses of this world.
    pub fn topology(&self) -> Result<String, String> {
        self.read("topology.toml")
    }

    /// The text of `file` in the folder of this world.
    pub fn read(&self, file: &str) -> Result<String, String> {
        fs::read_to_string(self.path(file)).map_err(|error| format!("{file}: {error}"))
    }

    /// Replaces `file` in the folder of this world, whole.
    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) -> Result<(), String> {
        let (path, new) = (self.path(file), self.path(&format!(".{file}.new")));
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        written.map_err(|error| format!("{file}: {error}"))
    }

    /// Writes `file` so that nobody else may read it.
    pub fn write_secret(&self, file: &str, text: impl AsRef<[u8]>) -> Result<(), String> {
        use std::os::unix::fs::PermissionsExt as _;
        let (path, new) = (self.path(file), self.path(&format!(".{file}.new")));
        let only_owner = || fs::set_permissions(&new, fs::Permissions::from_mode(0o600));
        let written = fs::write(&new, text).and_then(|()| only_owner()).and_then(|()| fs::rename(&new, &path));
        written.map_err(|error| format!("{file}: {error}"))
    }

    /// The path of `file` in the folder of this world.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The settings file of the node.
    pub fn topology_path(&self) -> &Path {
        &self.topology
    }

    /// The number of this world, which stands for the 0 in `127.0.`.
    pub fn number(&self) -> u8 {
        self.number
    }
}

impl Region {
    /// Whether a proxy of it runs.
    pub fn runs(&self) -> bool {
        self.proxies.iter().any(Option::is_some)
    }

    fn address(&self, world: u8, host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([127, world, self.number, host], port))
    }

    fn status_address(&self, world: u8, at: u8) -> SocketAddr {
        self.address(world, 11 + at, 8081)
    }

    fn proxy_settings(&self, world: u8, at: u8) -> String {
        let name = &self.name;
        let [vip, app_1, app_2] =
            [(10, 8080), (21, 9000), (22, 9000)].map(|(host, port)| self.address(world, host, port));
        let mut text = format!("region = \"{name}\"\nproxy = \"{name}-{}\"\nlisten = [\"{vip}\"]\n", at + 1);
        text += &format!("status = \"{}\"\nadmin_token_file = \"token\"\n", self.status_address(world, at));
        text += "default_service = \"www.gslb.test\"\nthreads = 1\n";
        for service in SERVICES {
            text += &format!("[services.\"{service}\"]\nservers = {{ app-1 = \"{app_1}\", app-2 = \"{app_2}\" }}\n");
            text += "check = { path = \"/health\", interval = \"500ms\", time_limit = \"500ms\" }\n";
        }
        text
    }
}

fn regions() -> Vec<Region> {
    let region = |(name, number): (&str, u8)| {
        let [proxies, origins] = [(); 2].map(|()| vec![None, None]);
        Region { name: name.to_owned(), number, proxies, origins }
    };
    REGIONS.into_iter().map(region).collect()
}

/// Waits until `path` answers 200 at `address`; fails at once when the process ends.
pub(super) fn wait_for_answer(process: &mut Process, address: SocketAddr, path: &str) -> Result<(), String> {
    let asked = within(START, || {
        if let Some(status) = process.ended() {
            return Ok(Err(format!("{} has ended ({status}):\n{}", process.name(), process.log_tail())));
        }
        let response = Request::get(path).send(address)?;
        if response.status == 200 { Ok(Ok(())) } else { Err(format!("{path}: {} {}", response.status, response.body)) }
    });
    asked.map_err(|why| format!("{}: {why}\n{}", process.name(), process.log_tail()))?.0
}

/// A number that no other world on this machine has.
pub(super) fn claim() -> Result<(u8, TcpListener), String> {
    for _ in 0..1000 {
        let number = fastrand::u8(1..=250);
        if let Ok(listener) = TcpListener::bind(SocketAddr::from(([127, number, 255, 254], 5399))) {
            return Ok((number, listener));
        }
    }
    Err("no world is free: 250 run already".to_owned())
}

const SHIPPED: [(&str, &str); 5] = [
    ("zones/topology.toml", "topology.toml"),
    ("zones/gslb.test.zone", "gslb.test.zone"),
    ("geo/geo-whois-asn-country.mmdb", "geo-whois-asn-country.mmdb"),
    ("geo/overrides.csv", "overrides.csv"),
    ("geo/countries.csv", "countries.csv"),
];
/// A machine with two cores runs many of these at once.
pub(super) const START: Duration = Duration::from_secs(20);
