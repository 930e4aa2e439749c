//! The interface with a virtual MAC.

use std::io;
use std::path::PathBuf;

use super::netlink::{Link, Listed, Netlink};
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
        hush(netlink, name, &router.interface, parent)?;
        set("ipv6", name, "disable_ipv6", "1");
    } else {
        set("ipv6", name, "accept_ra", "0");
        set("ipv6", name, "autoconf", "0");
    }
    netlink.link(name)?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Takes the interface `name` away; whether it was there. What was set at its parent for its sake is put back.
pub(super) fn remove(netlink: &mut Netlink, name: &str) -> io::Result<bool> {
    let all = netlink.links()?;
    let Some(own) = all.iter().find(|link| link.name == name) else { return Ok(false) };
    netlink.remove_link(own.index)?;
    let is_needed = others_upon(&all, own.parent, name).any(|other| was(other).is_some());
    let parent = all.iter().find(|link| Some(link.index) == own.parent);
    if let (Some(was), Some(parent)) = (was(own), parent)
        && !is_needed
        && present("ipv4", &parent.name, ARP_IGNORE).as_deref() == Some(HUSHED)
    {
        set("ipv4", &parent.name, ARP_IGNORE, was);
    }
    Ok(true)
}

/// Keeps `parent` from answering for the VIPs of `name` too, with its own MAC; notes at that what to put back.
fn hush(netlink: &mut Netlink, name: &str, interface: &str, parent: &Link) -> io::Result<()> {
    let all = netlink.links()?;
    let Some(own) = all.iter().find(|link| link.name == name) else { return Ok(()) };
    // Another router may have changed it already.
    let before = others_upon(&all, Some(parent.index), name).find_map(was).map(str::to_owned);
    if let Some(before) = before.or_else(|| present("ipv4", interface, ARP_IGNORE)) {
        netlink.note(own.index, &format!("{NOTE}{before}"))?;
    }
    set("ipv4", interface, ARP_IGNORE, HUSHED);
    Ok(())
}

fn others_upon<'a>(all: &'a [Listed], parent: Option<u32>, name: &str) -> impl Iterator<Item = &'a Listed> {
    all.iter().filter(move |other| other.parent == parent && parent.is_some() && other.name != name)
}

/// What was set at the parent of `link` before, as noted.
fn was(link: &Listed) -> Option<&str> {
    link.note.as_deref()?.strip_prefix(NOTE)
}

/// What cannot be set stays as it is: without IPv6 there is nothing to set.
fn set(family: &str, interface: &str, key: &str, value: &str) {
    let is_set = present(family, interface, key).as_deref() == Some(value);
    let path = path(family, interface, key);
    if !is_set && let Err(error) = std::fs::write(&path, value) {
        tracing::warn!(path = %path.display(), value, %error, "cannot set");
    }
}

fn present(family: &str, interface: &str, key: &str) -> Option<String> {
    std::fs::read_to_string(path(family, interface, key)).ok().map(|value| value.trim().to_owned())
}

fn path(family: &str, interface: &str, key: &str) -> PathBuf {
    ["/proc/sys/net", family, "conf", interface, key].iter().collect()
}

const ARP_IGNORE: &str = "arp_ignore";

/// An interface answers for its own addresses alone.
const HUSHED: &str = "1";

/// The alias of an interface begins so.
const NOTE: &str = "region-proxy: arp_ignore below was ";
