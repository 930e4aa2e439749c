//! `region-proxy l4 doctor` on servers: what is taken away it names, and what it prints mends it.

use std::process::Output;

use gslb_tests::harness::process::program;
use gslb_tests::net;

use crate::bed::{Bed, Mode, PORT};

/// What is done to a server, and what the doctor says of it.
type Ill = (&'static str, &'static str);

/// Each of `ills` is named, and mended by the commands that are printed.
fn heals(mode: Mode, is_v4: bool, ills: &[Ill]) {
    if net::left_out("L4 load balancing", &["nft", "bridge"]).is_some() {
        return;
    }
    let bed = Bed::new(mode);
    let vip = bed.vips()[usize::from(!is_v4)].to_string();
    let client = bed.client(is_v4);
    let family = if is_v4 { "-4" } else { "-6" };
    bed.net.ip(SERVER, &format!("{family} route add default via {client} dev eth0 metric 100"));
    if mode == Mode::Tunnel {
        // Nothing on this network makes packets of clients smaller.
        assert!(text(&ask(&bed, &vip)).contains("advmss"));
    }
    until_well(&bed, &vip, "as it was set up");
    for (ill, named) in ills {
        shell(&bed, &ill.replace("VIP", &vip));
        let said = ask(&bed, &vip);
        let said_text = text(&said);
        assert!(!said.status.success() && said_text.contains("WRONG"), "{mode:?}: {ill}: {said_text}");
        assert!(said_text.contains(named), "{mode:?}: {ill}: expected {named}: {said_text}");
        until_well(&bed, &vip, ill);
    }
    bed_without_program(bed, &vip);
}

/// No command mends that no program listens; it is said.
fn bed_without_program(mut bed: Bed, vip: &str) {
    bed.kill(SERVER);
    let said = ask(&bed, vip);
    assert!(!said.status.success() && text(&said).contains("none does"), "{}", text(&said));
}

/// Runs what the doctor prints until it says that all is well: what was put back may lack something in its turn.
fn until_well(bed: &Bed, vip: &str, after: &str) {
    for _ in 0..3 {
        let said = ask(bed, vip);
        if said.status.success() {
            return;
        }
        let said = text(&said);
        let commands: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("         ")).collect();
        assert!(!commands.is_empty(), "{after}: nothing mends it: {said}");
        commands.into_iter().for_each(|command| shell(bed, command));
    }
    panic!("{after}: not mended: {}", text(&ask(bed, vip)));
}

fn ask(bed: &Bed, vip: &str) -> Output {
    let mode = if bed.mode == Mode::Tunnel { "tunnel" } else { "dsr" };
    let mut command = bed.net.command(SERVER, program("region-proxy").expect("it is built"));
    command.args(["l4", "doctor", "--mode", mode, "--vip", vip, "--interface", "eth0", "--id", "100"]);
    command.args(["--port", &PORT.to_string()]).output().expect("it starts")
}

fn text(said: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
}

fn shell(bed: &Bed, command: &str) {
    let done = bed.net.command(SERVER, "sh").args(["-c", command]).output().expect("it starts");
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn the_doctor_heals_servers_of_direct_server_return() {
    let ills = [
        ("ip addr del VIP/32 dev lo", "it is nowhere here"),
        ("ip addr add VIP/24 dev eth0", "it is on eth0"),
        ("sysctl -qw net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.eth0.arp_ignore=0", "arp_ignore"),
        ("sysctl -qw net.ipv4.conf.all.arp_announce=0 net.ipv4.conf.eth0.arp_announce=0", "arp_announce"),
    ];
    heals(Mode::Dsr, true, &ills);
}

#[test]
fn the_doctor_heals_servers_of_direct_server_return_over_ipv6() {
    heals(Mode::Dsr, false, &[("ip addr del VIP/128 dev lo", "it is nowhere here")]);
}

/// What ends a tunnel wrongly, whatever goes through it.
const TUNNEL: [Ill; 6] = [
    ("ip link del rp-vx", "there is none"),
    ("ip link set rp-vx down", "it is down"),
    ("ip link del rp-vx && ip link add rp-vx type vxlan id 7 dstport 4789 nolearning", "rp-vx is another"),
    ("ip link del rp-vx && ip link add rp-vx type vxlan id 100 dstport 4790 nolearning", "rp-vx is another"),
    ("ip link set rp-vx address 02:00:00:00:00:09", "its address is 02:00:00:00:00:09"),
    ("ip link del rp-vx && ip link add rp-vy type vxlan id 7 dstport 4789 nolearning", "there is none"),
];

#[test]
fn the_doctor_heals_servers_at_the_end_of_a_tunnel() {
    let route = "ip route change default via 192.0.2.6 dev eth0 metric 100 advmss 9000";
    let ills = [
        ("ip addr del VIP/32 dev lo", "it is nowhere here"),
        ("sysctl -qw net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.eth0.arp_ignore=0", "arp_ignore"),
        ("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.rp-vx.rp_filter=1", "packets of clients are dropped"),
        (route, "it says 9000"),
    ];
    heals(Mode::Tunnel, true, &[&ills[..], &TUNNEL[..]].concat());
}

#[test]
fn the_doctor_heals_servers_at_the_end_of_a_tunnel_over_ipv6() {
    let ills = [("ip addr del VIP/128 dev lo", "it is nowhere here")];
    heals(Mode::Tunnel, false, &[&ills[..], &TUNNEL[..]].concat());
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    if net::left_out("L4 load balancing", &["nft", "bridge"]).is_some() {
        return;
    }
    let bed = Bed::new(Mode::Dsr);
    let mut command = bed.net.command(SERVER, program("region-proxy").expect("it is built"));
    command.args(["l4", "doctor", "--mode", "dsr", "--vip", "192.0.2.10", "--interface", "eth9"]);
    let said = text(&command.output().expect("it starts"));
    assert!(said.contains("there is no interface eth9: expected one of lo, eth0"), "{said}");
}

const SERVER: &str = "s1";
