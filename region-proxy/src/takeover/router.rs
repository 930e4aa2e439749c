//! One virtual router at its interface: does what its machine says.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shared::moment::Moment;
use shared::published::{VirtualRouterState, VirtualRouterStatus};

use super::gateways::Gateways;
use super::macvlan;
use super::netlink::{Link, Netlink, is_link_local};
use super::notes::Notes;
use super::report::{Figures, RouterReport, TrackedReport};
use super::tracking::Watched;
use super::wire::{self, Packet, Wire};
use crate::config::{VipMac, VirtualRouter};
use crate::vrrp::frame::{self, Mac};
use crate::vrrp::gateway::Gateway;
use crate::vrrp::machine::{Action, Heard, Machine, Note, Standing, State};
use crate::vrrp::packet::{self, Advertisement, Path};

/// A virtual router with its sockets.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) settings: VirtualRouter,
    /// Those of all virtual routers: none of them stays on this machine, so none is advertised from.
    all_vips: Arc<[IpAddr]>,
    link: Option<Link>,
    /// What it advertises from.
    pub(super) source: Option<IpAddr>,
    /// Why it has nothing to advertise from.
    trouble: Option<String>,
    pub(super) wire: Option<Wire>,
    pub(super) gateways: Gateways,
    /// All that it tracks, as it was at the last look.
    tracked: Vec<Watched>,
    holds: bool,
    /// Until when it takes no part, since it could not take its VIPs.
    pub(super) barred_until: Option<Moment>,
    /// Who was last heard to hold the VIPs.
    holder: Option<IpAddr>,
    /// Whose VIPs were found to be others.
    differs: Option<IpAddr>,
    last_takeover: Option<u64>,
    figures: Figures,
}

impl Router {
    /// Each gateway that it tracks begins as `gateway`.
    pub(super) fn new(settings: VirtualRouter, all_vips: Arc<[IpAddr]>, gateway: Gateway) -> Self {
        let mut gateways = Gateways::default();
        gateways.follow(settings.track.gateways.keys(), gateway);
        Self {
            settings,
            all_vips,
            link: None,
            source: None,
            trouble: None,
            wire: None,
            gateways,
            tracked: Vec::new(),
            holds: false,
            barred_until: None,
            holder: None,
            differs: None,
            last_takeover: None,
            figures: Figures::default(),
        }
    }

    /// The interfaces that it tracks, none of which has been looked at.
    pub(super) fn tracked_interfaces(&self) -> impl Iterator<Item = (String, bool)> {
        self.settings.track.interfaces.keys().map(|name| (name.clone(), false))
    }

    /// Whether its VIPs are on the machine.
    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// Goes on by `settings`, which differ in nothing that makes it another router.
    pub(super) fn follow(&mut self, settings: VirtualRouter, all_vips: Arc<[IpAddr]>, now: Moment) {
        // What it holds is not let go for an answer that is under way.
        self.gateways.follow(settings.track.gateways.keys(), Gateway::believed(now));
        (self.settings, self.all_vips) = (settings, all_vips);
        self.differs = None;
    }

    /// The name of the interface that has its VIPs, where it holds them.
    pub(super) fn station_name(&self) -> String {
        self.settings.macvlan().unwrap_or_else(|| self.settings.interface.clone())
    }

    /// Whether its VIPs are where it would put them.
    pub(super) fn finds_vips(&self, netlink: &mut Netlink) -> bool {
        let name = self.station_name();
        let Ok(Some(link)) = netlink.link(&name) else { return false };
        let there = netlink.addresses(link.index, self.settings.is_v4()).unwrap_or_default();
        self.settings.vips.iter().all(|vip| there.contains(vip))
    }

    /// Looks at its interface again: something changed. VIPs that it holds and that somebody removed are put back.
    pub(super) fn look(&mut self, netlink: &mut Netlink, notes: &Notes) {
        let looked = self.look_at_link(netlink);
        if let Err(error) = looked {
            self.source = None;
            notes.failure(&self.settings.name, "cannot use the interface", &error);
        }
        let trouble = self.look_for_trouble();
        if trouble != self.trouble {
            notes.trouble(&self.settings.name, trouble.as_deref());
            self.trouble = trouble;
        }
        if self.holds {
            match self.complete(netlink) {
                Ok(missing) if missing.is_empty() => {}
                Ok(missing) => notes.put_back(&self.settings.name, &missing),
                Err(error) => notes.failure(&self.settings.name, "cannot put a VIP back", &error),
            }
        }
    }

    fn look_at_link(&mut self, netlink: &mut Netlink) -> io::Result<()> {
        let link = netlink.link(&self.settings.interface)?.filter(|link| link.mac.is_some());
        let index = link.as_ref().map(|link| link.index);
        if self.wire.as_ref().map(|wire| wire.index) != index {
            self.wire = index.map(|index| Wire::open(&self.settings, index)).transpose()?;
        }
        self.source = None;
        self.link = link;
        self.gateways.look(&self.settings.interface, index)?;
        if let (Some(name), Some(link)) = (self.settings.macvlan(), &self.link) {
            macvlan::prepare(netlink, &name, &self.settings, link)?;
        }
        if let Some(link) = self.link.as_ref().filter(|link| link.is_running) {
            let own = netlink.addresses(link.index, self.settings.is_v4())?;
            self.source = own.into_iter().find(|address| self.may_be_source(*address));
        }
        Ok(())
    }

    /// Why it has nothing to advertise from; `None`: it has.
    fn look_for_trouble(&self) -> Option<String> {
        let (name, is_v4) = (&self.settings.interface, self.settings.is_v4());
        let what = match &self.link {
            _ if self.source.is_some() => return None,
            None => "is not there, or is no Ethernet interface",
            Some(link) if !link.is_running => "has no carrier",
            Some(_) if is_v4 => "has no IPv4 address beside VIPs",
            Some(_) => "has no link-local IPv6 address beside VIPs",
        };
        Some(format!("interface {name} {what}"))
    }

    fn may_be_source(&self, address: IpAddr) -> bool {
        let is_fit = match address {
            IpAddr::V4(address) => !address.is_loopback(),
            IpAddr::V6(address) => is_link_local(address),
        };
        is_fit && !self.all_vips.contains(&address)
    }

    /// Puts those of its VIPs on the interface that are not there; returns them.
    pub(super) fn complete(&mut self, netlink: &mut Netlink) -> io::Result<Vec<IpAddr>> {
        let Some(station) = self.station(netlink)? else { return Ok(Vec::new()) };
        let there = netlink.addresses(station, self.settings.is_v4())?;
        let missing: Vec<IpAddr> = self.settings.vips.iter().filter(|vip| !there.contains(vip)).copied().collect();
        if !missing.is_empty() {
            self.take(netlink)?;
        }
        Ok(missing)
    }

    /// Takes into account how what it tracks is; what fails anew or no more is logged.
    pub(super) fn track(&mut self, tracked: Vec<Watched>, notes: &Notes) {
        let before = std::mem::replace(&mut self.tracked, tracked);
        let was_failing = before.iter().filter(|watched| !watched.is_well);
        if !self.failing().eq(was_failing) {
            notes.failing(&self.settings.name, self.failing().map(|watched| watched.what.to_string()));
        }
    }

    /// What fails of what it tracks.
    pub(super) fn failing(&self) -> impl Iterator<Item = &Watched> {
        self.tracked.iter().filter(|watched| !watched.is_well)
    }

    /// Asks the gateways that it tracks, where that is due.
    pub(super) fn ask_gateways(&mut self, now: Moment) {
        let mac = self.link.as_ref().and_then(|link| link.mac);
        self.gateways.ask(now, self.wire.as_ref(), self.source.zip(mac));
    }

    /// What waits to be heard, of those that may speak.
    pub(super) fn receive(&mut self, notes: &Notes) -> Vec<Heard> {
        self.gateways.receive();
        let mut heard = Vec::new();
        // Bounded, so that a flood cannot keep it from all else.
        for _ in 0..RECEIVED_MAX {
            let Some(wire) = &self.wire else { break };
            match wire.receive() {
                Ok(Some(packet)) => heard.extend(self.accept(&packet, notes)),
                Ok(None) => break,
                Err(error) => {
                    notes.failure(&self.settings.name, "cannot receive", &error);
                    break;
                }
            }
        }
        heard
    }

    fn accept(&mut self, packet: &Packet, notes: &Notes) -> Option<Heard> {
        let from = packet.path.source();
        if Some(from) == self.source {
            return None;
        }
        let read = packet::read(&packet.message, packet.path, packet.hop_limit);
        let advertisement = match read {
            Ok(advertisement) => advertisement,
            Err(refusal) => {
                self.figures.refused[refusal.index()] += 1;
                return None;
            }
        };
        if advertisement.router != self.settings.id {
            return None;
        }
        let may_speak = match self.settings.peers.as_slice() {
            [] => packet.path == frame::group_path(from),
            peers => peers.contains(&from),
        };
        if !may_speak {
            self.figures.strangers += 1;
            return None;
        }
        self.figures.received += 1;
        if advertisement.priority > 0 {
            self.holder = Some(from);
        } else if self.holder == Some(from) {
            self.holder = None;
        }
        self.compare(&advertisement, from, notes);
        Some(Heard { from, priority: advertisement.priority, interval: advertisement.interval })
    }

    /// Two that share a number should share the VIPs too.
    fn compare(&mut self, advertisement: &Advertisement, from: IpAddr, notes: &Notes) {
        let is_same = advertisement.addresses.len() == self.settings.vips.len()
            && advertisement.addresses.iter().all(|vip| self.settings.vips.contains(vip));
        if is_same {
            self.differs = None;
        } else if self.differs.replace(from).is_none() {
            notes.other_vips(&self.settings.name, from, &advertisement.addresses);
        }
    }

    /// Does `action`; an error means that it was not done.
    pub(super) fn perform(&mut self, action: Action, netlink: &mut Netlink, notes: &Notes) -> io::Result<()> {
        match action {
            Action::Advertise(priority) => self.advertise(priority),
            Action::Take => {
                self.take(netlink)?;
                self.holds = true;
                self.holder = self.source;
                self.figures.takeovers += 1;
                self.last_takeover = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
                Ok(())
            }
            Action::LetGo => {
                self.holds = false;
                self.let_go(netlink)
            }
            Action::Announce => self.announce(),
            Action::Note(note) => {
                match note {
                    Note::TwoActives(_) => self.figures.two_actives += 1,
                    Note::Became(State::Initialize, _) => self.holder = None,
                    _ => {}
                }
                notes.note(&self.settings.name, note);
                Ok(())
            }
        }
    }

    fn advertise(&mut self, priority: u8) -> io::Result<()> {
        let (Some(source), Some(link), Some(wire)) = (self.source, &self.link, &self.wire) else { return Ok(()) };
        let (router, interval) = (self.settings.id, self.settings.rules.interval);
        let addresses = self.settings.vips.clone();
        let advertisement = Advertisement { router, priority, interval, addresses };
        let write = |path| packet::write(&advertisement, path, self.settings.checksum);
        self.figures.sent += 1;
        if self.settings.peers.is_empty() {
            let message = write(frame::group_path(source));
            return wire.send_frame(&frame::to_group(&message, source, self.mac(link)));
        }
        let mut sent = Ok(());
        for peer in &self.settings.peers {
            let path = match (source, *peer) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => Path::V4 { source, destination },
                (IpAddr::V6(source), IpAddr::V6(destination)) => Path::V6 { source, destination },
                _ => continue,
            };
            // One that cannot be reached must not keep the others from hearing it.
            sent = sent.and(wire::send_to_peer(&write(path), source, *peer, link.index));
        }
        sent
    }

    fn mac(&self, link: &Link) -> Mac {
        match (self.settings.mac, link.mac) {
            (VipMac::Own, Some(mac)) => mac,
            _ => Mac::virtual_of(self.settings.id, self.settings.is_v4()),
        }
    }

    /// The number of the interface that has the VIPs; `None` while there is none to have them.
    fn station(&self, netlink: &mut Netlink) -> io::Result<Option<u32>> {
        let Some(link) = &self.link else { return Ok(None) };
        match self.settings.macvlan() {
            None => Ok(Some(link.index)),
            Some(name) => macvlan::up(netlink, &name, &self.settings, link).map(Some),
        }
    }

    fn take(&mut self, netlink: &mut Netlink) -> io::Result<()> {
        let station = self.station(netlink)?.ok_or(io::ErrorKind::NotFound)?;
        for vip in &self.settings.vips {
            netlink.add_address(station, *vip)?;
        }
        // They are here now: what the link does not take at this moment is announced again soon.
        let _ = self.announce();
        Ok(())
    }

    fn let_go(&mut self, netlink: &mut Netlink) -> io::Result<()> {
        let name = self.station_name();
        let Some(station) = netlink.link(&name)? else { return Ok(()) };
        let mut done = Ok(());
        for vip in &self.settings.vips {
            done = done.and(netlink.remove_address(station.index, *vip));
        }
        done = done.and_then(|()| netlink.expect_none_of(station.index, &self.settings.vips));
        if self.settings.mac == VipMac::Virtual {
            done = done.and(netlink.set_up(station.index, false));
        }
        done
    }

    fn announce(&self) -> io::Result<()> {
        let (Some(link), Some(wire)) = (&self.link, &self.wire) else { return Ok(()) };
        for vip in &self.settings.vips {
            wire.send_frame(&frame::announcement(*vip, self.mac(link)))?;
        }
        Ok(())
    }

    /// What is told of it while its machine is `machine`.
    pub(super) fn report(&self, machine: &Machine) -> RouterReport {
        let state = match machine.state() {
            State::Initialize => VirtualRouterState::Initialize,
            State::Backup => VirtualRouterState::Backup,
            State::Active => VirtualRouterState::Active,
        };
        let priority = match machine.standing() {
            Standing::Able { priority, .. } => priority,
            Standing::Unable => 0,
        };
        let status = VirtualRouterStatus {
            name: self.settings.name.clone(),
            vips: self.settings.vips.clone(),
            state,
            holds_vips: self.holds,
            holder: if self.holds { self.source } else { self.holder.filter(|_| state == VirtualRouterState::Backup) },
            priority,
            last_takeover: self.last_takeover,
            hears_other_active: machine.hears_other_active(),
            failing: self
                .trouble
                .iter()
                .cloned()
                .chain(self.failing().map(|watched| watched.what.to_string()))
                .collect(),
        };
        let tracked = self.tracked.iter().map(|watched| TrackedReport {
            kind: watched.what.kind(),
            name: watched.what.name(),
            is_well: watched.is_well,
        });
        RouterReport { status, figures: self.figures, tracked: tracked.collect() }
    }

    /// Takes no part for a moment: its VIPs could not be taken.
    pub(super) fn bar(&mut self, now: Moment) {
        self.barred_until = Some(now + BARRED);
    }
}

/// Packets heard in a row.
const RECEIVED_MAX: usize = 64;

/// What cannot be done now is tried again so much later.
const BARRED: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use shared::moment::Moment;

    use crate::config::Config;
    use crate::takeover::house::groups;
    use crate::vrrp::gateway::Gateway;

    #[test]
    fn nothing_is_advertised_from_the_vip_of_another_router() {
        let text = "region = \"r\"\nproxy = \"p\"\nlisten = [\"127.0.0.1:0\"]\nstatus = \"127.0.0.1:0\"\n\
                    services.s.servers.a = \"192.0.2.1:80\"\n\
                    [vrrp.a]\ninterface = \"eth0\"\nid = 51\npriority = 250\nvips = [\"fe80::10\"]\n\
                    [vrrp.b]\ninterface = \"eth0\"\nid = 52\npriority = 250\nvips = [\"fe80::20\"]\n";
        let config = Config::parse("p.toml".as_ref(), text, &|_| Err(String::new())).expect("right");
        let groups = groups(config.vrrp, Gateway::unknown(Moment::START));
        for (_, routers) in &groups {
            let fit = ["fe80::2", "fe80::10", "fe80::20"].map(|text| text.parse().expect("an address"));
            assert_eq!(fit.map(|address| routers[0].may_be_source(address)), [true, false, false]);
        }
    }
}
