//! A node with eight regions all over the world, on loopback addresses of its own, whose proxies are this process.
//!
//! It takes its number N as a [`World`](super::world::World) does, and uses 127.N.0.0/16: the node answers at 127.N.0.1
//! and 127.N.0.2, its admin listener is 127.N.0.1:5380, the proxies tell their status at 127.N.0.3:8081.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use super::dns::DnsClient;
use super::http::get_json;
use super::process::{Folder, Process, program};
use super::proxies::Proxies;
use super::within;
use super::world::{START, claim, wait_for_answer};

/// The regions with their latitudes and longitudes. The VIPs of the one at index I are 198.51.100.(I+1) and
/// 2001:db8:(I+1)::10.
pub const REGIONS: [(&str, f64, f64); 8] = [
    ("seoul", 37.57, 126.98),
    ("frankfurt", 50.11, 8.68),
    ("virginia", 39.04, -77.49),
    ("sydney", -33.87, 151.21),
    ("sao-paulo", -23.55, -46.63),
    ("mumbai", 19.08, 72.88),
    ("singapore", 1.35, 103.82),
    ("johannesburg", -26.2, 28.05),
];

/// A node, its proxies and its folder; everything ends when this is dropped.
#[derive(Debug)]
pub struct Globe {
    number: u8,
    port: u16,
    /// Held as long as this lives, so that no other takes its number.
    _claim: TcpListener,
    folder: Folder,
    proxies: Proxies,
    node: Option<Process>,
}

impl Globe {
    /// A node that is to answer at `port`, in an empty folder, and proxies that serve `services`.
    pub fn new(port: u16, services: &[&str]) -> Result<Self, String> {
        let (number, claim) = claim()?;
        let proxies = Proxies::start(SocketAddr::from(([127, number, 0, 3], 8081)), services)?;
        Ok(Self { number, port, _claim: claim, folder: Folder::new("gslb-globe-")?, proxies, node: None })
    }

    /// Settings of the node for `[server]`, `[geo]` with the file `overrides.csv`, and the regions.
    pub fn settings(&self) -> String {
        let [first, second] = self.servers();
        let mut text = format!("[server]\nlisten = [\"{first}\", \"{second}\"]\nadmin = \"{}\"\n", self.admin());
        text += "[geo]\noverrides = \"overrides.csv\"\n";
        for (name, latitude, longitude) in REGIONS {
            let [four, six] = vips(name);
            text += &format!("[regions.{name}]\ncoordinates = [{latitude:?}, {longitude:?}]\n");
            text += &format!("vips = [\"{four}\", \"{six}\"]\nproxies = {{ p = \"{}\" }}\n", self.proxies.url(name));
        }
        text
    }

    /// Starts the node with `topology.toml` in the folder, and waits until every region serves.
    pub fn start_node(&mut self) -> Result<(), String> {
        let topology = self.path("topology.toml");
        let arguments = ["serve".as_ref(), "--config".as_ref(), topology.as_os_str()];
        let mut node =
            Process::start("gslb-dns", &program("gslb-dns")?, &arguments).map_err(|error| error.to_string())?;
        wait_for_answer(&mut node, self.admin(), "/ready")?;
        self.node = Some(node);
        for (region, ..) in REGIONS {
            self.wait_for_verdict(region, "serving")?;
        }
        Ok(())
    }

    /// Takes the proxy of `region` down and waits until the node knows.
    pub fn take_down(&self, region: &str) -> Result<(), String> {
        self.proxies.take_down(region);
        self.wait_for_verdict(region, "down")
    }

    /// Waits until the verdict on `region` is `verdict` for every service.
    pub fn wait_for_verdict(&self, region: &str, verdict: &str) -> Result<(), String> {
        let look = || {
            let status = get_json(self.admin(), "/status")?;
            let services = status["services"].as_array().map_or(&[][..], Vec::as_slice);
            let regions = services.iter().flat_map(|service| service["regions"].as_array().into_iter().flatten());
            let other = regions.filter(|standing| standing["region"] == region).find(|own| own["verdict"] != verdict);
            other.map_or(Ok(()), |other| Err(format!("{region} is not {verdict}: {other}")))
        };
        within(START, look).map(drop)
    }

    /// The number of this world, which stands for N.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Where the node answers queries.
    pub fn servers(&self) -> [SocketAddr; 2] {
        [1, 2].map(|host| SocketAddr::from(([127, self.number, 0, host], self.port)))
    }

    /// The node's admin listener.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::from(([127, self.number, 0, 1], 5380))
    }

    /// A client of the node.
    pub fn dns(&self) -> DnsClient {
        DnsClient::new(self.servers()[0])
    }

    /// Replaces `file` in the folder, whole.
    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) -> Result<(), String> {
        let (path, new) = (self.path(file), self.path(&format!(".{file}.new")));
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        written.map_err(|error| format!("{file}: {error}"))
    }

    /// The path of `file` in the folder.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The running node.
    pub fn node(&mut self) -> Result<&mut Process, String> {
        self.node.as_mut().ok_or_else(|| "the node does not run".to_owned())
    }

    /// Ends the node as its operator would (SIGTERM).
    pub fn stop_node(&mut self) -> Result<(), String> {
        let mut node = self.node.take().ok_or("the node does not run")?;
        node.terminate(Duration::from_secs(10)).map(drop)
    }
}

/// The VIPs of `region`, IPv4 and IPv6.
pub fn vips(region: &str) -> [IpAddr; 2] {
    let number = 1 + REGIONS.iter().position(|(name, ..)| *name == region).unwrap_or(REGIONS.len()) as u8;
    let six = [0x2001, 0xDB8, number.into(), 0, 0, 0, 0, 0x10];
    [IpAddr::from([198, 51, 100, number]), IpAddr::from(six)]
}

/// The region whose VIP is `address`.
pub fn region_at(address: IpAddr) -> Option<&'static str> {
    REGIONS.iter().map(|(name, ..)| *name).find(|name| vips(name).contains(&address))
}
