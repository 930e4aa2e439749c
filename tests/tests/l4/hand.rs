use crate::bed::*;
use gslb_tests::traffic::Protocol;
use std::io::Write;
use std::process::Stdio;
use std::time::Instant;

fn nft(bed: &Bed, text: &str) {
    let mut child = bed.net.command("lb", "nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
}

fn mac(bed: &Bed, host: &str) -> String {
    let text = bed.net.ip(host, "-o link show dev eth0");
    text.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

fn rules(bed: &Bed) -> String {
    let [v4, v6] = bed.vips();
    let l4 = "meta l4proto { tcp, udp } th dport 80";
    match bed.mode {
        Mode::Router | Mode::Bridge | Mode::OneArm => format!(
            "table inet region_proxy {{
chain pre {{ type nat hook prerouting priority dstnat; policy accept;
 ip daddr {v4} {l4} dnat ip to numgen inc mod 3 map {{ 0 : 192.0.2.3, 1 : 192.0.2.4, 2 : 192.0.2.5 }}
 ip6 daddr {v6} {l4} dnat ip6 to numgen inc mod 3 map {{ 0 : 2001:db8::3, 1 : 2001:db8::4, 2 : 2001:db8::5 }}
}}
{}
}}",
            if bed.mode == Mode::OneArm {
                format!(
                    "chain post {{ type nat hook postrouting priority srcnat; policy accept;
 ct original ip daddr {v4} ct status dnat snat ip to 192.0.2.200-192.0.2.203
 ct original ip6 daddr {v6} ct status dnat snat ip6 to 2001:db8::200-2001:db8::203
}}"
                )
            } else {
                String::new()
            }
        ),
        Mode::Dsr => {
            let m: Vec<_> = SERVERS.iter().map(|s| mac(bed, s)).collect();
            let lb = mac(bed, "lb");
            let to = format!("map {{ 0 : {}, 1 : {}, 2 : {} }} fwd to eth0", m[0], m[1], m[2]);
            format!(
                "table netdev region_proxy {{ chain in {{ type filter hook ingress device eth0 priority filter; policy accept;
 ip daddr {v4} {l4} ether saddr set {lb} ether daddr set jhash ip saddr . th sport mod 3 {to}
 ip6 daddr {v6} {l4} ether saddr set {lb} ether daddr set jhash ip6 saddr . th sport mod 3 {to}
}}
}}"
            )
        }
        Mode::Tunnel => {
            let ip = |text: String| bed.net.ip("lb", &text);
            ip("link add rp-vx4789 type vxlan external dstport 4789 nolearning".into());
            ip("link set rp-vx4789 up".into());
            for (n, s) in SERVERS.iter().enumerate() {
                let n = n + 1;
                let to = bed.address(s, true);
                ip(format!("route add {v4}/32 dev rp-vx4789 table {n}00 encap ip id 100 dst {to}"));
                ip(format!("route add {v6}/128 dev rp-vx4789 table {n}00 encap ip id 100 dst {to}"));
                ip(format!("rule add pref 1 fwmark {n} lookup {n}00"));
                ip(format!("-6 rule add pref 1 fwmark {n} lookup {n}00"));
            }
            ip(format!("neigh add {v4} lladdr 02:52:50:00:00:64 dev rp-vx4789 nud permanent"));
            ip(format!("-6 neigh add {v6} lladdr 02:52:50:00:00:64 dev rp-vx4789 nud permanent"));
            for f in ["-4", "-6"] {
                ip(format!("{f} rule add pref 2 lookup local"));
                ip(format!("{f} rule del pref 0"));
            }
            format!(
                "table inet region_proxy {{ chain pre {{ type filter hook prerouting priority raw; policy accept;
 ip daddr {v4} {l4} notrack meta mark set jhash ip saddr . th sport mod 3 offset 1 accept
 ip6 daddr {v6} {l4} notrack meta mark set jhash ip6 saddr . th sport mod 3 offset 1 accept
}}
}}"
            )
        }
    }
}

#[test]
fn by_hand() {
    let only = std::env::var("MODE").unwrap_or_default();
    for mode in MODES {
        if !format!("{mode:?}").contains(&only) {
            continue;
        }
        let start = Instant::now();
        let bed = Bed::new(mode);
        println!("== {mode:?} bed {:?}", start.elapsed());
        if mode != Mode::Dsr {
            bed.net.sysctl("lb", "net.ipv4.ip_forward=1");
            bed.net.sysctl("lb", "net.ipv6.conf.all.forwarding=1");
        }
        if mode == Mode::Bridge {
            bed.net.sysctl("lb", "net.bridge.bridge-nf-call-iptables=1");
            bed.net.sysctl("lb", "net.bridge.bridge-nf-call-ip6tables=1");
        }
        nft(&bed, &rules(&bed));
        for is_v4 in [true, false] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let start = Instant::now();
                let seen = bed.traffic(protocol, is_v4).flows(&bed.net, 16);
                println!(
                    "{protocol:?} v4 {is_v4}: {:?} {:?} {:?}",
                    seen.servers(),
                    seen.peers(),
                    seen.failures.first()
                );
                if !seen.failures.is_empty() {
                    continue;
                }
                let seen = bed.traffic(protocol, is_v4).flows(&bed.net, 1000);
                println!(
                    "   {:?} {:?} slowest {:?} {:?}",
                    seen.servers(),
                    seen.failures.len(),
                    seen.slowest,
                    start.elapsed()
                );
            }
            let start = Instant::now();
            let seen = bed.traffic(Protocol::Tcp, is_v4).upload(&bed.net, 100_000_000);
            println!("upload {:?} {:?} {:?}", seen.answers.first().map(|a| a.octets), seen.failures, start.elapsed());
        }
    }
}
