//! What the kernel must be set to for the modes that are in use.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use super::L4Error;
use super::sysctl::Sysctls;
use crate::config::{Config, L4, L4Mode};
use crate::netlink::Netlink;

/// Sets what the L4 services of `config` need; returns the keys.
pub(super) fn set(sysctls: &mut Sysctls, config: &Config, netlink: &mut Netlink) -> Result<Vec<String>, L4Error> {
    let wanted = wanted(&config.l4, netlink)?;
    for (key, value) in &wanted {
        sysctls.set(key, value).map_err(|error| failed(key, value, error))?;
    }
    Ok(wanted.into_iter().map(|(key, _)| key).collect())
}

/// Whether what the L4 services of `config` need is there to be set.
pub(super) fn check(config: &Config) -> Result<(), L4Error> {
    for l4 in &config.l4 {
        for (key, value) in forwarding(l4).into_iter().chain(bridged(l4)) {
            let path: &Path = &Path::new("/proc/sys").join(&key);
            std::fs::metadata(path).map_err(|error| failed(&key, &value, error))?;
        }
    }
    Ok(())
}

type Setting = (String, String);

fn wanted(services: &[L4], netlink: &mut Netlink) -> Result<Vec<Setting>, L4Error> {
    // Forwarding first: the kernel sets others anew when it changes.
    let mut wanted: Vec<Setting> = services.iter().flat_map(forwarding).collect();
    for l4 in services {
        wanted.extend(bridged(l4));
        if l4.mode == L4Mode::OneArm {
            let failed = |error| L4Error::Kernel { what: "interfaces".to_owned(), error };
            wanted.extend(unredirected(l4, netlink).map_err(failed)?);
        }
    }
    wanted.sort_by_key(|(key, _)| !key.ends_with("forward") && !key.ends_with("forwarding"));
    wanted.dedup();
    Ok(wanted)
}

/// Packets for others are passed on; by DSR they never come so far.
fn forwarding(l4: &L4) -> Vec<Setting> {
    let has = |is_v4: bool| l4.mode != L4Mode::Dsr && l4.vips.iter().any(|vip| vip.is_ipv4() == is_v4);
    let keys = [("net/ipv4/ip_forward", has(true)), ("net/ipv6/conf/all/forwarding", has(false))];
    keys.into_iter().filter(|(_, is_needed)| *is_needed).map(|(key, _)| setting(key, "1")).collect()
}

/// Packets that a bridge passes on are seen by rules of IP only where it is told so.
fn bridged(l4: &L4) -> Vec<Setting> {
    let Some(interface) = &l4.interface else { return Vec::new() };
    let is_bridge = Path::new("/sys/class/net").join(interface.as_str()).join("bridge").exists();
    if l4.mode != L4Mode::Nat || !is_bridge {
        return Vec::new();
    }
    let has = |is_v4: bool| l4.vips.iter().any(|vip| vip.is_ipv4() == is_v4);
    let keys = [("net/bridge/bridge-nf-call-iptables", has(true)), ("net/bridge/bridge-nf-call-ip6tables", has(false))];
    keys.into_iter().filter(|(_, is_needed)| *is_needed).map(|(key, _)| setting(key, "1")).collect()
}

/// Clients on the link would be told to go to a server straight.
fn unredirected(l4: &L4, netlink: &mut Netlink) -> io::Result<Vec<Setting>> {
    let pools: Vec<IpAddr> = l4.snat.iter().map(|pool| pool.first).filter(IpAddr::is_ipv4).collect();
    if pools.is_empty() {
        return Ok(Vec::new());
    }
    let mut wanted = vec![setting("net/ipv4/conf/all/send_redirects", "0")];
    for name in netlink.link_names()? {
        let Some(link) = netlink.link(&name)? else { continue };
        if netlink.addresses(link.index, true)?.iter().any(|address| pools.contains(address)) {
            wanted.push(setting(&format!("net/ipv4/conf/{name}/send_redirects"), "0"));
        }
    }
    Ok(wanted)
}

fn setting(key: &str, value: &str) -> Setting {
    (key.to_owned(), value.to_owned())
}

fn failed(key: &str, value: &str, error: io::Error) -> L4Error {
    let name = key.replace('/', ".");
    let what = if key.starts_with("net/bridge") && error.kind() == io::ErrorKind::NotFound {
        format!("{name} is not there: expected the module br_netfilter (modprobe br_netfilter)")
    } else {
        format!("{name} is not {value} and cannot be set: expected `sysctl -w {name}={value}`, or the right to do so")
    };
    L4Error::Kernel { what, error }
}
