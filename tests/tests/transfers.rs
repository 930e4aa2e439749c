//! Real secondaries: Knot and NSD transfer the sample zone, signed with a key, and follow its changes by NOTIFY and IXFR.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use gslb_tests::harness::http::Request;
use gslb_tests::harness::process::Process;
use gslb_tests::harness::tools::require;
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

/// A world whose zone has secondaries at two addresses, which have a key, and whose node runs.
fn world() -> Result<World, String> {
    let secondaries = "file = \"gslb.test.zone\"\nsecondaries = [\n  { address = \"127.0.0.54:5353\", key = \"xfr\" },\n  \
                       { address = \"127.0.0.55:5353\", key = \"xfr\" },\n]";
    let keys = format!("[tsig_keys.xfr]\nalgorithm = \"{ALGORITHM}\"\nsecret_file = \"xfr.key\"\n\n[geo]\n");
    let edit = |text: String| text.replacen("file = \"gslb.test.zone\"", secondaries, 1).replacen("[geo]\n", &keys, 1);
    let mut world = World::new(edit)?;
    world.write("xfr.key", SECRET)?;
    let private = Permissions::from_mode(0o600);
    fs::set_permissions(world.path("xfr.key"), private).map_err(|error| error.to_string())?;
    world.start_node()?;
    Ok(world)
}

fn secondary(world: &World, host: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::from([127, world.number(), 0, host]), 5353)
}

fn start_knot(world: &World) -> Result<(Process, SocketAddr), String> {
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
    let secondaries = [start_knot(&world)?, start_nsd(&world)?];
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
    let (knot, server) = start_knot(&world)?;
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
