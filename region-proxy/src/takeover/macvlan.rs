//! The interface with a virtual MAC.

use std::io;
use std::path::PathBuf;

use super::netlink::{Link, Netlink};
use crate::config::VirtualRouter;
use crate::vrrp::frame::Mac;

/// Has the interface `name` of `router` upon `parent`, up; returns its number.
pub(super) fn up(netlink: &mut Netlink, name: &str, router: &VirtualRouter, parent: &Link) -> io::Result<u32> {
    let link = prepare(netlink, name, router, parent)?;
    if !link.is_running {
        netlink.set_up(link.index, true)?;
    }
    Ok(link.index)
}

/// Has it, up or down: where it is there before it is needed, a takeover is done sooner.
pub(super) fn prepare(netlink: &mut Netlink, name: &str, router: &VirtualRouter, parent: &Link) -> io::Result<Link> {
    if let Some(link) = netlink.link(name)? {
        return Ok(link);
    }
    netlink.add_macvlan(parent.index, name, Mac::virtual_of(router.id, router.is_v4()))?;
    if router.is_v4() {
        // The way back to a client leads over the parent, which a strict look at the way would not allow.
        set("ipv4", name, "rp_filter", "2");
        // Else the parent answers for the VIP too, with its own MAC.
        set("ipv4", &router.interface, "arp_ignore", "1");
        set("ipv6", name, "disable_ipv6", "1");
    } else {
        set("ipv6", name, "accept_ra", "0");
        set("ipv6", name, "autoconf", "0");
    }
    netlink.link(name)?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// What cannot be set stays as it is: without IPv6 there is nothing to set.
fn set(family: &str, interface: &str, key: &str, value: &str) {
    let path: PathBuf = ["/proc/sys/net", family, "conf", interface, key].iter().collect();
    let is_set = std::fs::read_to_string(&path).is_ok_and(|present| present.trim() == value);
    if !is_set && let Err(error) = std::fs::write(&path, value) {
        tracing::warn!(path = %path.display(), value, %error, "cannot set");
    }
}
