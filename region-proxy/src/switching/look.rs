//! What is so at one moment: the plan of all L4 services, and what to say of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use super::keeper::Macs;
use super::nft::{self, NftError};
use super::plan::{self, Known, Numbers};
use super::report::{BackendReport, Figures, ServiceReport};
use super::tunnel::{self, Ways};
use crate::config::{L4, L4Mode};
use crate::l4::listing::Listing;
use crate::l4::{Backend, Fate, Mac, Object, Service};
use crate::live::Live;
use crate::netlink::{Link, Netlink};

/// All L4 services at one moment.
#[derive(Debug)]
pub(super) struct View {
    /// What rules are made of.
    pub(super) services: Vec<Service>,
    /// The ways into their tunnels.
    pub(super) ways: Ways,
    /// The numbers of the interfaces that rules name: a new one of the same name needs them anew.
    pub(super) interfaces: BTreeSet<u32>,
    /// What is said of them.
    pub(super) reports: Vec<ServiceReport>,
}

impl View {
    /// That of `live`; with `resolve` the kernel is asked to make sure of who is at the addresses of servers.
    pub(super) fn of(live: &Live, netlink: &mut Netlink, numbers: &mut Numbers, resolve: bool) -> io::Result<Self> {
        let mut view =
            Self { services: Vec::new(), ways: Ways::default(), interfaces: BTreeSet::new(), reports: Vec::new() };
        let mut used = BTreeSet::new();
        for l4 in &live.config.l4 {
            let servers = servers(live, l4);
            used.extend(servers.iter().map(|server| (l4.name.clone(), server.name.clone(), server.address)));
            view.add(l4, &servers, netlink, numbers, resolve)?;
        }
        numbers.keep(&used);
        Ok(view)
    }

    fn add(
        &mut self,
        l4: &L4,
        servers: &[Known],
        netlink: &mut Netlink,
        numbers: &mut Numbers,
        resolve: bool,
    ) -> io::Result<()> {
        let link = match &l4.interface {
            Some(interface) => netlink.link(interface.as_str())?,
            None => None,
        };
        let macs = match &link {
            Some(link) if l4.mode == L4Mode::Dsr => macs(netlink, link, servers, resolve)?,
            _ => Macs::new(),
        };
        let (mtu, local) = mtu(l4, netlink)?;
        let backends = plan::backends(l4, servers, &macs, numbers);
        let mac = link.as_ref().and_then(|link| link.mac).map(|mac| Mac(mac.0));
        let problem = problem(l4, link.as_ref(), &backends, netlink)?.or(local);
        let lacks_interface = !has_interface(l4, link.as_ref());
        self.reports.push(ServiceReport { lacks_interface, ..report(l4, &backends, problem) });
        let Some(service) = l4.plan(backends, mac, mtu) else { return Ok(()) };
        self.interfaces.extend(link.map(|link| link.index));
        if let Some(tunnel) = &l4.tunnel {
            self.ways.add(tunnel, mtu, &service);
        }
        self.services.push(service);
        Ok(())
    }
}

fn servers(live: &Live, l4: &L4) -> Vec<Known> {
    let service = live.find(&l4.service).and_then(|index| live.services().nth(index));
    let Some(service) = service else { return Vec::new() };
    let known = |server: &std::sync::Arc<crate::live::Server>| Known {
        name: server.name.clone(),
        address: server.address,
        standing: server.standing(),
        has_answered: server.account().last_check.is_some_and(|told| told.is_ok),
        is_backup: service.config.servers.get(&server.name).is_some_and(|config| config.is_backup),
    };
    service.servers.iter().map(known).collect()
}

fn macs(netlink: &mut Netlink, link: &Link, servers: &[Known], resolve: bool) -> io::Result<Macs> {
    if resolve {
        for server in servers {
            // Without an address of that family on the link there is nobody to ask; it is said of the server.
            let _ = netlink.resolve(link.index, server.address.ip());
        }
    }
    let known: BTreeMap<IpAddr, _> = netlink.neighbours(link.index)?;
    Ok(known.into_iter().map(|(address, mac)| (address, Mac(mac.0))).collect())
}

/// What fits into its tunnel, and what is wrong with where that begins.
fn mtu(l4: &L4, netlink: &mut Netlink) -> io::Result<(u16, Option<String>)> {
    let Some(tunnel) = &l4.tunnel else { return Ok((0, None)) };
    let found = tunnel::mtu_at(netlink, tunnel.local)?;
    let problem = found.is_none().then(|| format!("tunnel.local {} is not an address of this machine", tunnel.local));
    let inside = found.unwrap_or(ETHERNET_MTU).saturating_sub(tunnel::overhead(tunnel));
    Ok((u16::try_from(inside).unwrap_or(u16::MAX).max(IPV6_MTU_MIN), problem))
}

/// Whether it has the interface that it needs, if any.
fn has_interface(l4: &L4, link: Option<&Link>) -> bool {
    l4.interface.is_none() || link.is_some_and(|link| l4.mode != L4Mode::Dsr || link.mac.is_some())
}

/// What keeps it from passing anything on, or from passing on all.
fn problem(l4: &L4, link: Option<&Link>, backends: &[Backend], netlink: &mut Netlink) -> io::Result<Option<String>> {
    if let Some(interface) = l4.interface.as_ref().filter(|_| !has_interface(l4, link)) {
        return Ok(Some(match link {
            None => format!("there is no interface {interface}: nothing is passed on"),
            Some(_) => format!("{interface} is not Ethernet: nothing is passed on"),
        }));
    }
    if !backends.iter().any(|backend| backend.fate == Fate::Open && plan::hindrance(l4, backend).is_none()) {
        return Ok(Some("no server takes new flows".to_owned()));
    }
    for pool in &l4.snat {
        if tunnel::mtu_at(netlink, pool.first)?.is_none() {
            return Ok(Some(format!(
                "snat: {} is not an address of this machine: answers would not come back",
                pool.first
            )));
        }
    }
    Ok(None)
}

fn report(l4: &L4, backends: &[Backend], problem: Option<String>) -> ServiceReport {
    let ports = l4.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let protocols = l4.protocols.iter().map(|protocol| protocol.as_str()).collect::<Vec<_>>().join(",");
    let to = |vip: &IpAddr| match vip {
        IpAddr::V4(vip) => format!("{vip}:{ports}/{protocols}"),
        IpAddr::V6(vip) => format!("[{vip}]:{ports}/{protocols}"),
    };
    let backend = |backend: &Backend| BackendReport {
        server: backend.name.clone(),
        address: backend.address.to_string(),
        state: state(backend.fate).to_owned(),
        number: backend.number.get(),
        weight: backend.weight,
        mac: backend.mac.map(|mac| mac.to_string()),
        reason: plan::hindrance(l4, backend).filter(|_| backend.fate == Fate::Open),
        figures: Figures::default(),
    };
    ServiceReport {
        name: l4.name.to_string(),
        mode: mode(l4.mode).to_owned(),
        balance: l4.balance.as_str().to_owned(),
        service: l4.service.clone(),
        flows_to: l4.vips.iter().map(to).collect(),
        problem,
        lacks_interface: false,
        figures: Figures::default(),
        servers: backends.iter().map(backend).collect(),
    }
}

fn state(fate: Fate) -> &'static str {
    match fate {
        Fate::Open => "open",
        Fate::Draining => "draining",
        Fate::Gone => "gone",
    }
}

/// As settings have it.
pub(super) fn mode(mode: L4Mode) -> &'static str {
    match mode {
        L4Mode::Nat => "nat",
        L4Mode::OneArm => "one-arm",
        L4Mode::Dsr => "dsr",
        L4Mode::Tunnel => "tunnel",
    }
}

/// What the kernel has of ours.
pub(super) fn present() -> Result<BTreeSet<Object>, NftError> {
    let listed = nft::ask(&["-j", "-t", Listing::REQUEST])?;
    // What cannot be read is not known to be there; where it is, it does no harm.
    Ok(Listing::parse(&listed).unwrap_or_default().objects)
}

const ETHERNET_MTU: u32 = 1500;

/// RFC 8200, section 5.
const IPV6_MTU_MIN: u16 = 1280;
