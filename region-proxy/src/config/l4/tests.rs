use std::time::Duration;

use super::*;
use crate::config::Config;

const TEXT: &str = "region = \"seoul\"\nproxy = \"seoul-1\"\nlisten = [\"127.0.0.1:80\"]\nstatus = \"127.0.0.1:81\"\n\
                    [services.\"www.example.com\".servers]\na = \"192.0.2.21:8080\"\nb = \"[2001:db8::21]:8080\"\n\
                    [services.v4.servers]\na = \"192.0.2.21:8080\"\nb = \"192.0.2.21:8081\"\n";

/// The line of its header.
const FIRST: usize = 11;

const NAT: &str = "[l4.web]\nmode = \"nat\"\nservice = \"www.example.com\"\nvips = [\"192.0.2.10\"]\nports = [80]\n\
                   protocols = [\"tcp\"]\n";

fn parse(l4: &str) -> Result<Config, Vec<String>> {
    let text = format!("{TEXT}{l4}");
    Config::parse("p.toml".as_ref(), &text, &|_| Err("no file".to_owned()))
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn problems(l4: &str) -> Vec<String> {
    parse(l4).expect_err("there is a mistake")
}

#[test]
fn little_has_to_be_said() {
    let config = parse(NAT).expect("it is right");
    let web = &config.l4[0];
    assert_eq!((web.name.as_str(), web.mode, web.balance), ("web", Mode::Nat, Balance::Maglev));
    assert_eq!((&web.ports[..], &web.protocols[..]), (&[Ports { first: 80, last: 80 }][..], &[Protocol::Tcp][..]));
    assert_eq!(web.flows, Flows { most: 65_536, idle: Duration::from_secs(300) });
}

#[test]
fn each_mode_makes_its_part_of_a_plan() {
    let dsr = NAT.replace("\"nat\"", "\"dsr\"\ninterface = \"eth0\"");
    let dsr = parse(&dsr).expect("it is right");
    assert!(dsr.l4[0].plan(Vec::new(), None, 1500).is_none(), "without the address of its interface");
    let service = dsr.l4[0].plan(Vec::new(), Some(Mac([2, 0, 0, 0, 0, 1])), 1500).expect("with it");
    assert!(matches!(service.way, Way::Dsr { .. }));
    let one_arm = NAT.replace("\"nat\"", "\"one-arm\"\nsnat = [\"192.0.2.200-192.0.2.203\"]");
    let service = parse(&one_arm).expect("it is right").l4[0].plan(Vec::new(), None, 1500);
    assert!(matches!(service.map(|service| service.way), Some(Way::OneArm { pools, .. }) if pools.len() == 1));
    let tunnel = NAT.replace("\"nat\"", "\"tunnel\"\ntunnel = { kind = \"ipip\", local = \"192.0.2.2\" }");
    let tunnel = tunnel.replace("www.example.com", "v4").replace("8081", "8080");
    let text = TEXT.replace("\nb = \"192.0.2.21:8081\"", "");
    let config = Config::parse("p.toml".as_ref(), &format!("{text}{tunnel}"), &|_| Err("no file".to_owned()));
    let service = config.expect("it is right").l4[0].plan(Vec::new(), None, 1480).expect("it needs no address");
    assert!(matches!(service.way, Way::Tunnel { mtu: 1480, .. }));
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(
        problems("[l4.web]\n"),
        [
            "p.toml:11: l4.web.mode: missing: expected \"nat\", \"one-arm\", \"dsr\" or \"tunnel\"",
            "p.toml:11: l4.web.service: missing: expected the name of a service",
            "p.toml:11: l4.web.vips: missing: expected a list of IP addresses",
            "p.toml:11: l4.web.ports: missing: expected a list of ports and ranges of them, such as [80, \"8000-8099\"]",
            "p.toml:11: l4.web.protocols: missing: expected a list of \"tcp\" and \"udp\"",
        ]
    );
}

#[test]
fn mistakes_name_their_line_and_what_would_be_right() {
    for (right, wrong, line, problem) in [
        ("\"nat\"", "\"one_arm\"", 1, "mode: \"one_arm\" is not \"nat\" or \"one-arm\" or \"dsr\" or \"tunnel\""),
        (
            "\"nat\"",
            "\"dsr\"",
            0,
            "interface: missing: expected the name of the interface where clients' packets come in",
        ),
        ("\"nat\"", "\"one-arm\"", 0, "snat: missing: expected a list of addresses that servers see"),
        ("\"nat\"", "\"nat\"\nflows = 2048", 2, "flows: of no use in this mode: expected none"),
        ("\"nat\"", "\"nat\"\nsnat = [\"192.0.2.9\"]", 2, "snat: of no use in this mode: expected none"),
        (
            "\"nat\"",
            "\"one-arm\"\nsnat = [\"2001:db8::9\"]",
            2,
            "snat: 0 of IPv4: expected one for each family of `vips`",
        ),
        ("\"nat\"", "\"nat\"\ninterface = \"eth\\\"0\"", 2, "interface: \"eth\\\"0\" is not the name of an interface"),
        ("[80]", "[]", 4, "ports: empty: expected a list of ports"),
        ("[80]", "[80, \"70-90\"]", 4, "ports[1]: is there already"),
        ("[80]", "[\"90-80\"]", 4, "ports[0]: \"90-80\" is not a range of ports, such as \"8000-8099\""),
        ("[80]", "[0]", 4, "ports[0]: 0 is not a whole number from 1 to 65535"),
        ("[\"tcp\"]", "[\"sctp\"]", 5, "protocols[0]: \"sctp\" is not \"tcp\" or \"udp\""),
        ("[\"tcp\"]", "[\"tcp\", \"tcp\"]", 5, "protocols[1]: is there already"),
        ("www.example.com", "x", 2, "service: x is not a service: expected one of v4, www.example.com"),
        ("192.0.2.10", "224.0.0.1", 3, "vips[0]: 224.0.0.1 is not an address that a machine can hold"),
        ("192.0.2.10", "127.0.0.1", 4, "ports: 127.0.0.1:80 is listened on by the proxy: expected it in one of both"),
        (
            "192.0.2.10\"]\nports = [80]",
            "127.0.0.1\"]\nports = [81]",
            4,
            "ports: 127.0.0.1:81 is listened on by the proxy",
        ),
        (
            "www.example.com\"\nvips = [\"192.0.2.10\"]",
            "v4\"\nvips = [\"2001:db8::1\"]",
            3,
            "vips: v4 has no server with an IPv6 address",
        ),
        (
            "www.example.com\"\nvips = [\"192.0.2.10\"]\nports = [80]",
            "v4\"\nvips = [\"192.0.2.10\"]\nports = [80, 81]",
            2,
            "service: a and b of v4 have one address",
        ),
        ("\"nat\"", "\"tunnel\"\ntunnel = { kind = \"vxlan\", local = \"192.0.2.2\" }", 2, "tunnel.id: missing"),
        (
            "\"nat\"",
            "\"tunnel\"\ntunnel = { kind = \"ipip\", id = 1, local = \"192.0.2.2\" }",
            2,
            "tunnel.id: of VXLAN alone",
        ),
        (
            "\"nat\"",
            "\"tunnel\"\ntunnel = { kind = \"ipip\", local = \"192.0.2.2\" }",
            2,
            "tunnel: b of www.example.com is not of the family",
        ),
    ] {
        let found = problems(&NAT.replace(right, wrong));
        let expected = format!("p.toml:{}: l4.web.{problem}", FIRST + line);
        assert!(found.iter().any(|found| found.starts_with(&expected)), "{expected}: {found:#?}");
    }
}

#[test]
fn a_name_can_be_written_into_rules() {
    for name in ["\"\"", "\"a b\"", "\"a.b\"", "\"a;b\"", "\"aaaaaaaaaaaaaaaaaaaaaaaaa\""] {
        let found = problems(&NAT.replace("l4.web", &format!("l4.{name}")));
        assert!(found[0].contains("is not a name: expected 1 to 24 letters, digits, - and _"), "{found:?}");
    }
}

#[test]
fn two_services_share_no_port_of_a_vip_by_one_protocol() {
    let other = NAT.replace("l4.web", "l4.app");
    let found = problems(&format!("{NAT}{}", other.replace("[80]", "[\"70-90\"]")));
    assert_eq!(found, ["p.toml:21: l4.app.ports: 70-90 of 192.0.2.10 by tcp: [l4.web] has it already"]);
    for (right, different) in [("[80]", "[81]"), ("192.0.2.10", "192.0.2.11"), ("\"tcp\"", "\"udp\"")] {
        assert!(parse(&format!("{NAT}{}", other.replace(right, different))).is_ok(), "{different}");
    }
}

#[test]
fn a_user_that_may_not_change_rules_is_a_mistake() {
    let text = format!("user = \"gslb\"\n{TEXT}{NAT}");
    let problems = Config::parse("p.toml".as_ref(), &text, &|_| Err("no file".to_owned())).expect_err("a mistake");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().starts_with("p.toml:1: user: [l4.web] needs CAP_NET_ADMIN"), "{}", problems[0]);
}

#[test]
fn nothing_else_need_be_listened_on() {
    let text = format!("{TEXT}{NAT}").replace("listen = [\"127.0.0.1:80\"]\n", "");
    assert!(Config::parse("p.toml".as_ref(), &text, &|_| Err("no file".to_owned())).is_ok());
}

#[test]
fn the_example_names_every_key_and_is_right() {
    let example = include_str!("../../../example.toml").lines();
    let block = example.skip_while(|line| *line != "#   [l4.web]").take_while(|line| line.starts_with('#'));
    let lines: Vec<&str> = block.filter_map(|line| line.strip_prefix("#   ")).collect();
    let text = lines.join("\n").replace("www.gslb.test", "www.example.com");
    let plain: Vec<&str> =
        text.lines().filter(|line| !line.starts_with("snat") && !line.starts_with("tunnel")).collect();
    let config = parse(&plain.join("\n")).expect("it is right");
    assert_eq!(config.l4.len(), 1);
    let known = problems(&format!("{text}\nzzz = 1\n"));
    let known = known.iter().find_map(|problem| problem.split_once("zzz: unknown key: expected one of "));
    let is_named = |key: &str| lines.iter().any(|line| line.starts_with(&format!("{key} = ")));
    let missing: Vec<&str> = known.expect("an unknown key").1.split(", ").filter(|key| !is_named(key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let tunnel = problems(&text.replace("tunnel = { ", "tunnel = { zzz = 1, "));
    let known = tunnel.iter().find_map(|problem| problem.split_once("tunnel.zzz: unknown key: expected one of "));
    let shown = lines.iter().find(|line| line.starts_with("tunnel = ")).expect("it is there");
    assert!(known.expect("an unknown key").1.split(", ").all(|key| shown.contains(&format!("{key} = "))), "{shown}");
}
