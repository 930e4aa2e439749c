//! Real secondaries: Knot and NSD transfer the sample zone, signed with a key, and follow its changes by NOTIFY and IXFR;
//! and they and named a zone that is signed by DNSSEC, through new keys, new signatures and a restart.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use gslb_tests::harness::http::Request;
use gslb_tests::harness::process::{Process, program};
use gslb_tests::harness::tools::{delv, require};
use gslb_tests::harness::within;
use gslb_tests::harness::world::World;
use nix::sys::signal::Signal;

type Held = Result<(), String>;

/// In base64.
const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER_SECRET: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
const ALGORITHM: &str = "hmac-sha512";
const CHANGES: u32 = 100;
const SOON: Duration = Duration::from_secs(30);
/// With the times in the settings a few seconds.
const KEYS: Duration = Duration::from_secs(30);
/// As in the settings.
const VALIDITY: Duration = Duration::from_secs(60);

/// A zone of the shipped settings with two secondaries, which have a key.
const SECONDARIES: &str = r#"file = "gslb.test.zone"
secondaries = [
    { address = "127.0.0.54:5353", key = "xfr" },
    { address = "127.0.0.55:5353", key = "xfr" },
]
"#;

/// What is needed to sign it, with times in which it can be waited for all, and to update it.
const SIGNED: &str = r#"journal = "gslb.test.journal"
updates = [{ key = "xfr", names = ["*"], types = ["ANY"] }]
dnssec = { keys = "keys", denial = "DENIAL", validity = "1m", dnskey_ttl = "2s", propagation = "1s", parent_ds_ttl = "1s" }
"#;

/// A world whose zone has secondaries and `more` in its table, and whose node does not run yet.
fn prepared(more: &str) -> Result<World, String> {
    let zone = format!("{SECONDARIES}{more}");
    let keys = format!("[tsig_keys.xfr]\nalgorithm = \"{ALGORITHM}\"\nsecret_file = \"xfr.key\"\n\n[geo]\n");
    let edit = |text: String| text.replacen("file = \"gslb.test.zone\"", &zone, 1).replacen("[geo]\n", &keys, 1);
    let world = World::new(edit)?;
    world.write_secret("xfr.key", SECRET)?;
    Ok(world)
}

/// The same, and the node runs.
fn world() -> Result<World, String> {
    let mut world = prepared("")?;
    world.start_node()?;
    Ok(world)
}

/// A world whose zone is signed in the way of `denial` by a key of each of `roles`, and whose TTLs are of seconds.
fn signed_world(denial: &str, roles: &[&str]) -> Result<World, String> {
    let mut world = prepared(&SIGNED.replace("DENIAL", denial))?;
    let with_short_ttl = |line: &str| match line {
        line if line.starts_with("ttl") => String::new(),
        line if line.starts_with("[services.") => format!("{line}\nttl = 2\n"),
        line => format!("{line}\n"),
    };
    let named = format!("secondaries = [\n    {{ address = \"{}\", key = \"xfr\" }},\n", named_address(&world));
    let settings: String = world.topology()?.lines().map(with_short_ttl).collect();
    world.write("topology.toml", settings.replace("secondaries = [\n", &named))?;
    let zone = world.read("gslb.test.zone")?.replace("$TTL 3600", "$TTL 2").replace(" 300 ", " 2 ");
    world.write("gslb.test.zone", zone + MORE)?;
    roles.iter().try_for_each(|role| keys_of(&world, "new", &["--role", role]).map(drop))?;
    world.start_node()?;
    Ok(world)
}

/// What a chain of denials must lead through, too.
const MORE: &str = r#"
*.wild A 192.0.2.3
a.b.c TXT "below empty names"
alias CNAME www
old DNAME new
kid NS ns.kid
kid DS 12345 13 2 a87f1b687ac0e57d2a081a2f282672334d90ed316d2b818ca9580ea384d92401
ns.kid A 192.0.2.9
plain NS ns.example.net.
"#;

/// `gslb-dns keys ACTION gslb.test`: what it prints.
fn keys(world: &World, action: &str) -> Result<String, String> {
    keys_of(world, action, &[])
}

/// The same with more arguments.
fn keys_of(world: &World, action: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program("gslb-dns")?);
    command.args(["keys", action, "gslb.test"]).args(arguments).arg("--config").arg(world.topology_path());
    let output = command.output().map_err(|error| error.to_string())?;
    let [out, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if output.status.success() { Ok(out) } else { Err(format!("keys {action}: {out}{errors}")) }
}

fn secondary(world: &World, host: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::from([127, world.number(), 0, host]), 5353)
}

/// Knot with `more` in the table of the zone.
fn start_knot(world: &World, more: &str) -> Result<(Process, SocketAddr), String> {
    let (address, primary, folder) = (secondary(world, 54), world.server(), world.path("").display().to_string());
    let settings = format!(
        r#"server:
    rundir: {folder}
    listen: {ip}@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
key:
  - id: xfr
    algorithm: {ALGORITHM}
    secret: {SECRET}
database:
    storage: {folder}/knot
remote:
  - id: primary
    address: {primary_ip}@{primary_port}
    via: {ip}
    key: xfr
acl:
  - id: told
    address: {primary_ip}
    key: xfr
    action: notify
  - id: shown
    address: 127.0.0.0/8
    action: transfer
zone:
  - domain: gslb.test
    storage: {folder}/knot
    zonefile-sync: -1
    master: primary
    acl: [told, shown]
{more}
"#,
        ip = address.ip(),
        port = address.port(),
        primary_ip = primary.ip(),
        primary_port = primary.port(),
    );
    world.write("knot.conf", settings)?;
    fs::create_dir(world.path("knot")).map_err(|error| error.to_string())?;
    let file = world.path("knot.conf");
    let arguments = ["-c".as_ref(), file.as_os_str()];
    let process = Process::start("knotd", &require("knotd")?, &arguments).map_err(|error| error.to_string())?;
    Ok((process, address))
}

fn start_nsd(world: &World) -> Result<(Process, SocketAddr), String> {
    let (address, primary) = (secondary(world, 55), world.server());
    let folder = world.path("nsd").display().to_string();
    let settings = format!(
        r#"server:
  ip-address: {ip}
  port: {port}
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "{folder}"
  database: ""
  pidfile: "{folder}/pid"
  xfrdfile: "{folder}/xfrd.state"
  zonelistfile: "{folder}/zone.list"
  xfrdir: "{folder}"
  logfile: ""
  verbosity: 2
  xfrd-reload-timeout: 0
remote-control:
  control-enable: no
key:
  name: xfr
  algorithm: {ALGORITHM}
  secret: "{SECRET}"
zone:
  name: gslb.test
  zonefile: gslb.test.zone
  request-xfr: {primary_ip}@{primary_port} xfr
  allow-notify: {primary_ip} xfr
  outgoing-interface: {ip}
  provide-xfr: 127.0.0.0/8 NOKEY
"#,
        ip = address.ip(),
        port = address.port(),
        primary_ip = primary.ip(),
        primary_port = primary.port(),
    );
    fs::create_dir(world.path("nsd")).map_err(|error| error.to_string())?;
    world.write("nsd.conf", settings)?;
    let file = world.path("nsd.conf");
    let arguments = ["-d".as_ref(), "-c".as_ref(), file.as_os_str()];
    let process = Process::start("nsd", &require("nsd")?, &arguments).map_err(|error| error.to_string())?;
    Ok((process, address))
}

/// named listens only at addresses that an interface has, so all worlds share this one.
fn named_address(world: &World) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 16_300 + u16::from(world.number())))
}

fn start_named(world: &World) -> Result<(Process, SocketAddr), String> {
    let (address, primary, folder) = (named_address(world), world.server(), world.path("named").display().to_string());
    let settings = format!(
        r#"options {{
    directory "{folder}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    transfer-source 127.0.0.1;
    pid-file none;
    session-keyfile none;
    recursion no;
    dnssec-validation no;
    notify no;
    allow-transfer {{ 127.0.0.0/8; }};
}};
controls {{ }};
key "xfr" {{ algorithm {ALGORITHM}; secret "{SECRET}"; }};
zone "gslb.test" {{
    type secondary;
    primaries {{ {primary_ip} port {primary_port} key "xfr"; }};
    allow-notify {{ key "xfr"; }};
    file "gslb.test.zone";
}};
"#,
        port = address.port(),
        primary_ip = primary.ip(),
        primary_port = primary.port(),
    );
    fs::create_dir(world.path("named")).map_err(|error| error.to_string())?;
    world.write("named.conf", settings)?;
    let file = world.path("named.conf");
    let arguments = ["-g".as_ref(), "-4".as_ref(), "-n".as_ref(), "1".as_ref(), "-c".as_ref(), file.as_os_str()];
    let process = Process::start("named", &require("named")?, &arguments).map_err(|error| error.to_string())?;
    Ok((process, address))
}

/// What `tool`, `dig` or `kdig`, prints about `question` at `server`, signed with `secret`.
fn ask(tool: &str, server: SocketAddr, question: &str, secret: Option<&str>) -> Result<String, String> {
    let mut command = Command::new(require(tool)?);
    command.args([format!("@{}", server.ip()), "-p".to_owned(), server.port().to_string(), "+time=5".to_owned()]);
    command.args(["gslb.test", question]);
    if let Some(secret) = secret {
        command.args(["-y", &format!("{ALGORITHM}:xfr:{secret}")]);
    }
    let output = command.output().map_err(|error| format!("{tool}: {error}"))?;
    Ok([output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
}

/// The records of a transfer in one spelling, the SOA among them.
fn records(printed: &str) -> BTreeSet<String> {
    let lines = printed.lines().filter(|line| !line.is_empty() && !line.starts_with(';') && !line.contains("\tTSIG\t"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn transferred(server: SocketAddr, secret: Option<&str>) -> Result<BTreeSet<String>, String> {
    let printed = ask("dig", server, "AXFR", secret)?;
    let records = records(&printed);
    if records.iter().any(|record| record.contains(" SOA ")) { Ok(records) } else { Err(printed) }
}

/// Waits until the zone at `server` is that of the node.
fn wait_for_same(world: &World, process: &Process, server: SocketAddr) -> Held {
    let same = || {
        let (ours, theirs) = (transferred(world.server(), Some(SECRET))?, transferred(server, None)?);
        let differing: Vec<_> = ours.symmetric_difference(&theirs).take(4).collect();
        if differing.is_empty() { Ok(()) } else { Err(format!("differ in {differing:?}")) }
    };
    within(SOON, same).map(drop).map_err(|why| format!("{}: {why}\n{}", process.name(), process.log_tail()))
}

/// The zone with another serial and a record of its own.
fn changed(zone: &str, change: u32) -> String {
    let zone = zone.replace("2026010101", &format!("{}", 2_026_010_200 + change));
    format!("{zone}\nchange-{} TXT \"this is change {change}\"\n", change / 2)
}

fn metric(world: &World, name: &str) -> Result<u64, String> {
    let text = Request::get("/metrics").send(world.admin())?.body;
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).ok_or_else(|| format!("no metric {name} in\n{text}"))
}

#[test]
fn knot_and_nsd_follow_a_hundred_changes_by_notify_and_ixfr() -> Held {
    let mut world = world()?;
    let secondaries = [start_knot(&world, "")?, start_nsd(&world)?];
    for (process, server) in &secondaries {
        wait_for_same(&world, process, *server)?;
    }
    let zone = world.read("gslb.test.zone")?;
    for change in 1..=CHANGES {
        world.write("gslb.test.zone", changed(&zone, change))?;
        world.node()?.signal(Signal::SIGHUP)?;
        let serial = u64::from(2_026_010_200 + change);
        within(SOON, || match world.status()?["zones"][0]["serial"].as_u64() {
            Some(found) if found == serial => Ok(()),
            found => Err(format!("change {change} is not served: {found:?}")),
        })?;
    }
    for (process, server) in &secondaries {
        wait_for_same(&world, process, *server)?;
    }
    within(SOON, || {
        let status = world.status()?;
        let standings = status["zones"][0]["secondaries"].as_array().cloned().unwrap_or_default();
        let are_told = standings.len() == 2 && standings.iter().all(|standing| standing["is_told"] == true);
        if are_told { Ok(()) } else { Err(format!("not all are told: {standings:?}")) }
    })?;
    let changes = metric(&world, "gslb_slow_answers_total{kind=\"ixfr\",rcode=\"NOERROR\"}")?;
    let whole = metric(&world, "gslb_slow_answers_total{kind=\"axfr\",rcode=\"NOERROR\"}").unwrap_or(0);
    println!("{changes} answers to IXFR, {whole} to AXFR, those of dig among them");
    let knot_log = secondaries[0].0.log();
    assert!(knot_log.iter().any(|line| line.contains("IXFR, incoming") && line.contains("finished")), "{knot_log:#?}");
    Ok(())
}

/// Has `nsupdate` do `commands`, signed with the key of the secondaries.
fn update(world: &World, commands: &str) -> Held {
    let mut command = Command::new(require("nsupdate")?);
    command.args(["-v", "-t", "10"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("nsupdate: {error}"))?;
    let server = world.server();
    let script = format!(
        "server {} {}\nzone gslb.test\nkey {ALGORITHM}:xfr {SECRET}\n{commands}\nsend\n",
        server.ip(),
        server.port()
    );
    let mut input = child.stdin.take().ok_or("nsupdate: no input")?;
    input.write_all(script.as_bytes()).map_err(|error| format!("nsupdate: {error}"))?;
    drop(input);
    let output = child.wait_with_output().map_err(|error| format!("nsupdate: {error}"))?;
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    if output.status.success() && said.is_empty() { Ok(()) } else { Err(format!("nsupdate: {said}")) }
}

fn serial(world: &World) -> Result<u64, String> {
    world.status()?["zones"][0]["serial"].as_u64().ok_or_else(|| "no serial".to_owned())
}

/// Waits until every one of `secondaries` has what the node has, and has it checked by `ldns-verify-zone`, and by `delv`
/// from the keys in it.
fn wait_for_verified(world: &World, secondaries: &[(Process, SocketAddr)]) -> Held {
    for (process, server) in secondaries {
        wait_for_same(world, process, *server)?;
        let records: Vec<_> = transferred(*server, None)?.into_iter().collect();
        world.write("transferred.zone", records.join("\n") + "\n")?;
        let mut command = Command::new(require("ldns-verify-zone")?);
        let output = command.arg(world.path("transferred.zone")).output().map_err(|error| error.to_string())?;
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        if !output.status.success() {
            return Err(format!("{}: ldns-verify-zone: {said}\n{}", process.name(), records.join("\n")));
        }
        let dnskeys = records.iter().filter_map(|record| {
            record.split_once(" IN DNSKEY ")?.1.splitn(4, ' ').collect::<Vec<_>>().try_into().ok()
        });
        let anchors: Vec<_> = dnskeys
            .map(|[flags, protocol, algorithm, key]: [&str; 4]| {
                format!("\"gslb.test\" static-key {flags} {protocol} {algorithm} \"{key}\";")
            })
            .collect();
        world.write("anchors", format!("trust-anchors {{ {} }};", anchors.join("\n")))?;
        for (question, rtype, verdict) in [
            ("www.gslb.test", "A", "; fully validated"),
            ("alias.gslb.test", "AAAA", "; fully validated"),
            ("x.wild.gslb.test", "A", "; fully validated"),
            ("www.gslb.test", "MX", "; negative response, fully validated"),
            ("nothing.gslb.test", "A", "; negative response, fully validated"),
            ("b.c.gslb.test", "A", "; negative response, fully validated"),
        ] {
            let said = delv(*server, "gslb.test", &world.path("anchors"), &[question, rtype])?;
            if !said.contains(verdict) {
                return Err(format!("{}: {question} {rtype}: expected {verdict:?}, got {said}", process.name()));
            }
        }
    }
    Ok(())
}

#[test]
fn signed_zone_stays_whole_at_secondaries_through_updates_new_keys_new_signatures_and_a_restart() -> Held {
    let mut world = signed_world("nsec", &["csk"])?;
    let first = serial(&world)?;
    // With `dnssec-validation` Knot 3.2 takes two CSKs for KSKs, and refuses them both.
    let secondaries = [start_knot(&world, "")?, start_nsd(&world)?, start_named(&world)?];
    wait_for_verified(&world, &secondaries)?;
    for change in 1..=20 {
        update(&world, &format!("update add u{}.gslb.test 2 TXT \"{change}\"", change / 2))?;
    }
    assert!(serial(&world)? >= first + 20);
    wait_for_verified(&world, &secondaries)?;
    within(KEYS, || keys(&world, "confirm"))?;
    let of_keys = serial(&world)?;
    keys(&world, "roll")?;
    within(KEYS, || {
        let listed = keys(&world, "list")?;
        if listed.contains("must come to the parent") { Ok(()) } else { Err(listed) }
    })?;
    wait_for_verified(&world, &secondaries)?;
    keys(&world, "confirm")?;
    within(KEYS, || {
        let records = transferred(secondaries[0].1, None)?;
        let count = records.iter().filter(|record| record.contains(" IN DNSKEY ")).count();
        if count == 1 { Ok(()) } else { Err(format!("{count} keys\n{}", keys(&world, "list")?)) }
    })?;
    wait_for_verified(&world, &secondaries)?;
    let renewed = serial(&world)?;
    assert!(renewed >= of_keys + 2, "a key came and a key went: {of_keys}, {renewed}");
    within(VALIDITY, || if serial(&world)? > renewed { Ok(()) } else { Err("not signed again".to_owned()) })?;
    wait_for_verified(&world, &secondaries)?;
    let before = serial(&world)?;
    world.node()?.kill();
    world.start_node()?;
    assert!(serial(&world)? > before, "signatures are new, and so is the serial");
    wait_for_verified(&world, &secondaries)?;
    let log = secondaries[0].0.log();
    assert!(log.iter().any(|line| line.contains("IXFR, incoming") && line.contains("finished")), "{log:#?}");
    Ok(())
}

#[test]
fn zone_signed_with_nsec3_by_two_keys_validates_at_secondaries_while_one_of_them_rolls() -> Held {
    let world = signed_world("nsec3", &["ksk", "zsk"])?;
    let secondaries = [start_knot(&world, "    dnssec-validation: on")?, start_nsd(&world)?, start_named(&world)?];
    wait_for_verified(&world, &secondaries)?;
    update(&world, "update add new.gslb.test 2 TXT x\nupdate delete a.b.c.gslb.test")?;
    wait_for_verified(&world, &secondaries)?;
    let dnskeys = || {
        let records = transferred(secondaries[0].1, None)?;
        Ok::<_, String>(records.into_iter().filter(|record| record.contains(" IN DNSKEY ")).collect::<BTreeSet<_>>())
    };
    let before = dnskeys()?;
    keys_of(&world, "roll", &["--role", "zsk"])?;
    within(KEYS, || {
        let now = dnskeys()?;
        let is_rolled = now.len() == 2 && now != before;
        if is_rolled { Ok(()) } else { Err(format!("{now:?}\n{}", keys(&world, "list")?)) }
    })?;
    wait_for_verified(&world, &secondaries)?;
    let log = secondaries[0].0.log();
    assert!(log.iter().all(|line| !line.contains("validation failed")), "{log:#?}");
    Ok(())
}

#[test]
fn secondary_that_is_away_is_retried_shown_and_told_when_it_is_back() -> Held {
    let world = world()?;
    let standing = |host: u8| {
        let status = world.status()?;
        let standings = status["zones"][0]["secondaries"].as_array().cloned().unwrap_or_default();
        let address = secondary(&world, host).to_string();
        standings.into_iter().find(|standing| standing["address"] == address).ok_or_else(|| format!("no {address}"))
    };
    within(SOON, || match standing(54)? {
        standing if standing["failures"].as_u64() >= Some(2) && standing["failure"].is_string() => Ok(()),
        standing => Err(format!("no failure is shown: {standing}")),
    })?;
    let (knot, server) = start_knot(&world, "")?;
    wait_for_same(&world, &knot, server)?;
    within(SOON, || match standing(54)? {
        standing if standing["is_told"] == true => Ok(()),
        standing => Err(format!("not told: {standing}")),
    })?;
    assert_eq!(standing(55)?["acknowledged_serial"], serde_json::Value::Null);
    Ok(())
}

#[test]
fn dig_and_kdig_get_the_zone_with_the_key_and_nothing_without_it() -> Held {
    let world = world()?;
    let server = world.server();
    let ours = transferred(server, Some(SECRET))?;
    assert!(
        ours.contains(
            "www.gslb.test. 20 IN A 127.0.1.10".replace("127.0.", &format!("127.{}.", world.number())).as_str()
        ),
        "{ours:#?}"
    );
    assert_eq!(records(&ask("kdig", server, "AXFR", Some(SECRET))?).len(), ours.len());
    // What has changed since the serial that it has: nothing.
    let nothing = records(&ask("kdig", server, "IXFR=2026010101", Some(SECRET))?);
    assert_eq!(nothing.len(), 1, "{nothing:#?}");
    for (tool, secret) in [("dig", None), ("dig", Some(OTHER_SECRET)), ("kdig", None), ("kdig", Some(OTHER_SECRET))] {
        let printed = ask(tool, server, "AXFR", secret)?;
        assert!(records(&printed).iter().all(|line| !line.contains(" IN ")), "{tool} {secret:?}: {printed}");
    }
    // Any other question is answered, and dig finds the signature right.
    let signed = ask("dig", server, "MX", Some(SECRET))?;
    assert!(signed.contains("status: NOERROR") && signed.contains("TSIG PSEUDOSECTION"), "{signed}");
    assert!(!signed.contains("verify failure"), "{signed}");
    let wrong = ask("dig", server, "MX", Some(OTHER_SECRET))?;
    assert!(wrong.contains("status: NOTAUTH") && wrong.contains("BADSIG"), "{wrong}");
    Ok(())
}
