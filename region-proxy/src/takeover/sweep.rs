//! What must not be left on a machine: who removes it, and how only one process does.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use serde::{Deserialize, Serialize};

use super::macvlan;
use super::netlink::Netlink;
use crate::config::VirtualRouter;

/// All that the virtual routers of one process may have put on the machine.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Traces {
    /// One name for each virtual router.
    pub(super) routers: Vec<String>,
    /// Interfaces, and VIPs upon them.
    pub(super) addresses: Vec<(String, IpAddr)>,
    /// Interfaces with a virtual MAC.
    pub(super) macvlans: Vec<String>,
}

impl Traces {
    /// What `routers` may leave.
    pub fn of(routers: &[VirtualRouter]) -> Self {
        let mut traces = Self::default();
        for router in routers {
            traces.routers.push(name_of(router));
            // Settings may have said otherwise before: VIPs are looked for where they would be without a macvlan too.
            traces.addresses.extend(router.vips.iter().map(|vip| (router.interface.clone(), *vip)));
            traces.macvlans.extend(router.macvlan());
        }
        traces
    }

    /// Removes all of it that is there; returns what was, for the log, and goes on after an error.
    pub(super) fn sweep(&self, netlink: &mut Netlink) -> (Vec<String>, Option<io::Error>) {
        let (mut removed, mut failure) = (Vec::new(), None);
        for name in &self.macvlans {
            match macvlan::remove(netlink, name) {
                Ok(false) => {}
                Ok(true) => removed.push(name.clone()),
                Err(error) => failure = Some(error),
            }
        }
        for (interface, vip) in &self.addresses {
            match remove(netlink, interface, *vip) {
                Ok(false) => {}
                Ok(true) => removed.push(format!("{vip} on {interface}")),
                Err(error) => failure = Some(error),
            }
        }
        (removed, failure)
    }
}

/// What tells a virtual router from all others of the machine.
pub(super) fn name_of(router: &VirtualRouter) -> String {
    let family = if router.is_v4() { 4 } else { 6 };
    format!("region-proxy/vrrp/{}/{family}/{}", router.interface, router.id)
}

/// Takes `vip` off `interface`; whether it was there.
pub(super) fn remove(netlink: &mut Netlink, interface: &str, vip: IpAddr) -> io::Result<bool> {
    let Some(link) = netlink.link(interface)? else { return Ok(false) };
    let is_there = netlink.addresses(link.index, vip.is_ipv4())?.contains(&vip);
    if is_there {
        netlink.remove_address(link.index, vip)?;
        netlink.expect_none_of(link.index, &[vip])?;
    }
    Ok(is_there)
}

/// Held while a process runs some virtual routers, so that no two processes of one machine (one network namespace)
/// run the same; given back by its end, whatever that is.
#[derive(Debug, Default)]
pub struct Lock {
    names: BTreeMap<String, UnixDatagram>,
}

impl Lock {
    /// Takes one name for each of `routers`, all or none; `role` tells the two locks of a process and its watchdog apart.
    ///
    /// Fails with [`io::ErrorKind::AddrInUse`] while another has one of them.
    pub fn take(routers: &[String], role: &str) -> io::Result<Self> {
        let bind = |router: &String| {
            let name = SocketAddr::from_abstract_name(format!("{router}/{role}").as_bytes())?;
            Ok((router.clone(), UnixDatagram::bind_addr(&name)?))
        };
        Ok(Self { names: routers.iter().map(bind).collect::<io::Result<_>>()? })
    }

    /// Those of `routers` that it does not have.
    pub(super) fn missing(&self, routers: &[String]) -> Vec<String> {
        routers.iter().filter(|name| !self.names.contains_key(*name)).cloned().collect()
    }

    /// Has what `other` has too.
    pub(super) fn absorb(&mut self, other: Self) {
        self.names.extend(other.names);
    }

    /// Gives back all but `routers`.
    pub(super) fn keep(&mut self, routers: &[String]) {
        self.names.retain(|name, _| routers.contains(name));
    }
}

/// The lock of the process that runs the routers.
pub(super) const ROLE: &str = "proxy";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_router_is_run_by_one_process_at_a_time() {
        let routers = [format!("test/{}/4/51", std::process::id()), format!("test/{}/6/51", std::process::id())];
        let lock = Lock::take(&routers, "proxy").expect("nobody has it");
        let other = Lock::take(&routers[1..], "proxy").expect_err("it is held");
        assert_eq!(other.kind(), io::ErrorKind::AddrInUse);
        Lock::take(&routers, "watchdog").expect("that is another one");
        drop(lock);
        Lock::take(&routers, "proxy").expect("it was given back");
    }

    #[test]
    fn a_lock_grows_and_gives_back_what_is_needed_no_more() {
        let [a, b] = ["a", "b"].map(|name| vec![format!("test/{}/{name}", std::process::id())]);
        let mut lock = Lock::take(&a, "proxy").expect("nobody has it");
        lock.absorb(Lock::take(&b, "proxy").expect("nobody has it"));
        lock.keep(&b);
        Lock::take(&a, "proxy").expect("it was given back");
        Lock::take(&b, "proxy").expect_err("it is held");
    }
}
