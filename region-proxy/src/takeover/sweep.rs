//! What must not be left on a machine: who removes it, and how only one process does.

use std::io;
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use serde::{Deserialize, Serialize};

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
            let family = if router.is_v4() { 4 } else { 6 };
            traces.routers.push(format!("region-proxy/vrrp/{}/{family}/{}", router.interface, router.id));
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
            let gone = netlink.link(name).and_then(|link| link.map(|link| netlink.remove_link(link.index)).transpose());
            match gone {
                Ok(None) => {}
                Ok(Some(())) => removed.push(name.clone()),
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

fn remove(netlink: &mut Netlink, interface: &str, vip: IpAddr) -> io::Result<bool> {
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
#[derive(Debug)]
pub struct Lock {
    _names: Vec<UnixDatagram>,
}

impl Lock {
    /// Takes one name for each of `routers`, all or none; `role` tells the two locks of a process and its watchdog apart.
    ///
    /// Fails with [`io::ErrorKind::AddrInUse`] while another has one of them.
    pub fn take(routers: &[String], role: &str) -> io::Result<Self> {
        let bind = |router: &String| {
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(format!("{router}/{role}").as_bytes())?)
        };
        Ok(Self { _names: routers.iter().map(bind).collect::<io::Result<_>>()? })
    }
}

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
}
