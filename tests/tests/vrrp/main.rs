//! VRRP with real sockets: pairs of region-proxies, and of one with keepalived, on links of their own.
//!
//! Needs root, iproute2, keepalived and tshark; says so where it is left out.

mod decoded;
mod gaps;
mod groups;
mod holding;
mod keepalived;
mod left;
mod peers;
mod reload;
mod tracking;
mod walk;
mod way;

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use gslb_tests::net::{self, Net, until};
use peers::Peer;

const VIP: &str = "192.0.2.10";

fn vip() -> IpAddr {
    VIP.parse().expect("an address")
}

/// What a proxy is told, with this priority and interval.
fn web(priority: u8, interval: &str) -> String {
    format!("priority = {priority}\ninterval = \"{interval}\"\nvips = [\"{VIP}\"]\n")
}

/// Who measures how long something takes has the machine, as far as other tests are concerned.
static MACHINE: RwLock<()> = RwLock::new(());

/// A turn of a test that measures; `None` where it is left out.
fn alone() -> Option<RwLockWriteGuard<'static, ()>> {
    (!is_left_out()).then(|| MACHINE.write().unwrap_or_else(PoisonError::into_inner))
}

/// A turn of a test that others may run beside; `None` where it is left out.
fn beside_others() -> Option<RwLockReadGuard<'static, ()>> {
    (!is_left_out()).then(|| MACHINE.read().unwrap_or_else(PoisonError::into_inner))
}

fn is_left_out() -> bool {
    net::left_out("virtual routers", &["bridge", "keepalived", "tshark"]).is_some()
}

/// `law` holds in each of `cases`, all at once; a thread that fails has the name of its case.
fn in_each<T: Debug + Send>(cases: impl IntoIterator<Item = T>, law: impl Fn(T) + Sync) {
    let law = &law;
    std::thread::scope(|scope| {
        for case in cases {
            let thread = std::thread::Builder::new().name(format!("{case:?}"));
            thread.spawn_scoped(scope, move || law(case)).expect("a thread");
        }
    });
}

fn pair_net() -> Net {
    let net = Net::new(&["a", "b", "client"]).with_ipv6();
    for host in ["a", "b"] {
        net.echo(host);
        net.origin(host, 9);
    }
    net
}

/// Proxies on hosts a and b, told this, of which the first is active and the other its backup.
fn pair(net: &Net, a: &str, b: &str) -> (Peer, Peer) {
    let a = Peer::proxy(net, "a", a);
    a.until_state(net, "active");
    let b = Peer::proxy(net, "b", b);
    b.until_state(net, "backup");
    (a, b)
}

/// Waits until just these hosts have `vip`.
fn until_held(net: &Net, vip: IpAddr, hosts: &[&str]) {
    until(&format!("{vip} is on {hosts:?}"), || net.holders(&vip.to_string()) == hosts);
}
