//! What is left on a machine after a proxy with virtual MACs.

use gslb_tests::net::{Net, until};
use nix::sys::signal::{Signal, kill};

use crate::peers::Peer;
use crate::{beside_others, in_each, web};

const VIRTUAL: &str = "mac = \"virtual\"\n";

/// Two routers with virtual MACs on one interface, which both need the same of it.
fn two() -> String {
    let one = format!("{}{VIRTUAL}", web(250, "100ms"));
    format!("{one}[vrrp.app]\ninterface = \"eth0\"\nid = 52\n{}", one.replace("192.0.2.10", "192.0.2.11"))
}

fn start(net: &Net) -> Peer {
    let a = Peer::proxy(net, "a", &two());
    until("both are active", || {
        let states = a.routers(net).unwrap_or_default().into_iter().map(|router| router["state"].clone());
        states.collect::<Vec<_>>() == ["active"; 2]
    });
    assert_eq!(arp_ignore(net), "1");
    a
}

fn arp_ignore(net: &Net) -> String {
    let mut command = net.command("a", "sysctl");
    let output = command.args(["-n", "net.ipv4.conf.eth0.arp_ignore"]).output().expect("it can be started");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn is_as_before(net: &Net) -> bool {
    arp_ignore(net) == "0" && !net.ip("a", "link show").contains("vrrp")
}

#[test]
fn the_interface_of_virtual_macs_is_as_before_once_they_are_gone() {
    let Some(_turn) = beside_others() else { return };
    let ends: [fn(&Net, Peer); 5] = [stopped, changed, upgraded, killed, killed_with_its_watchdog];
    in_each(ends, |end| {
        let net = Net::new(&["a"]);
        end(&net, start(&net));
    });
}

fn stopped(net: &Net, a: Peer) {
    a.stop();
    assert!(is_as_before(net));
}

fn changed(net: &Net, a: Peer) {
    assert!(a.reload_to(&format!("{}{VIRTUAL}", web(250, "100ms"))));
    until("one is gone", || !net.ip("a", "link show").contains("vrrp4.52"));
    assert_eq!(arp_ignore(net), "1", "the other needs it");
    assert!(a.reload_to(&web(250, "100ms")));
    until("no virtual MAC is left", || is_as_before(net));
}

fn upgraded(net: &Net, a: Peer) {
    a.signal(Signal::SIGUSR2);
    until("the new process goes on", || a.log().matches("vrrp: active").count() == 4);
    assert_eq!(arp_ignore(net), "1");
    // A watchdog does not end by this.
    net.processes("a").into_iter().for_each(|pid| kill(pid, Signal::SIGTERM).expect("it runs"));
    until("the new one cleans up", || is_as_before(net));
}

fn killed(net: &Net, a: Peer) {
    a.end(Signal::SIGKILL);
    until("the watchdog cleans up", || is_as_before(net));
}

fn killed_with_its_watchdog(net: &Net, a: Peer) {
    let watchdogs = a.children();
    watchdogs.iter().for_each(|watchdog| kill(*watchdog, Signal::SIGSTOP).expect("it runs"));
    a.end(Signal::SIGKILL);
    watchdogs.iter().for_each(|watchdog| kill(*watchdog, Signal::SIGKILL).expect("it hangs"));
    assert!(!watchdogs.is_empty() && !is_as_before(net), "nobody cleans up");
    start(net).stop();
    assert!(is_as_before(net));
}
