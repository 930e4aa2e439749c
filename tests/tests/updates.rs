//! Dynamic updates (RFC 2136) from end to end: with `nsupdate`, and against SIGKILL.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gslb_tests::harness::dns::DnsClient;
use gslb_tests::harness::tools::{dig, require};
use gslb_tests::harness::world::{PLAIN_SETTINGS, World};
use hickory_proto::op::update_message::{append, delete_rrset};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, RecordSet, RecordType, TSigner};

type Held = Result<(), String>;

const ANY_SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const ACME_SECRET: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

/// A node without regions, whose zone two keys may update: `any` all of it, `acme` what certificates need.
fn world() -> Result<World, String> {
    let updates = r#"
journal = "gslb.test.journal"
updates = [
    { key = "any", names = ["@", "*"], types = ["ANY"] },
    { key = "acme", names = ["_acme-challenge.*"], types = ["TXT"] },
]
[tsig_keys.any]
secret_file = "any.key"
[tsig_keys.acme]
algorithm = "hmac-sha512"
secret_file = "acme.key"
"#;
    let mut world = World::new(|_| [PLAIN_SETTINGS, updates].concat())?;
    for (file, secret) in [("any.key", ANY_SECRET), ("acme.key", ACME_SECRET)] {
        world.write_secret(file, secret)?;
    }
    world.start_node()?;
    Ok(world)
}

/// What `nsupdate` says of `commands`, signed with `key`, as in "hmac-sha256:name secret": nothing, or why not.
fn nsupdate(server: SocketAddr, key: &str, commands: &str) -> Result<String, String> {
    let mut command = Command::new(require("nsupdate")?);
    command.args(["-v", "-t", "10"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("nsupdate: {error}"))?;
    let script = format!("server {} {}\nzone gslb.test\nkey {key}\n{commands}\nsend\n", server.ip(), server.port());
    let mut input = child.stdin.take().ok_or("nsupdate: no input")?;
    input.write_all(script.as_bytes()).map_err(|error| format!("nsupdate: {error}"))?;
    drop(input);
    let output = child.wait_with_output().map_err(|error| format!("nsupdate: {error}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

fn any_key() -> String {
    format!("hmac-sha256:any {ANY_SECRET}")
}

fn short(world: &World, name: &str, rtype: &str) -> Result<Vec<String>, String> {
    let text = dig(world.server(), &[name, rtype, "+short", "+norec"])?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

#[test]
fn nsupdate_adds_replaces_and_deletes_and_every_answer_shows_it_at_once() -> Held {
    let world = world()?;
    let update = |commands: &str| nsupdate(world.server(), &any_key(), commands);
    let serial =
        || Ok::<_, String>(short(&world, "gslb.test", "SOA")?.concat().split(' ').nth(2).unwrap_or("").to_owned());
    assert_eq!(serial()?, "2026010101");
    assert_eq!(update("update add new.gslb.test 60 A 192.0.2.1\nupdate add new.gslb.test 60 A 192.0.2.2")?, "");
    assert_eq!(short(&world, "new.gslb.test", "A")?, ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(update("update add \\*.wild.gslb.test 60 TXT \"a b\" \"c\"")?, "");
    assert_eq!(short(&world, "x.wild.gslb.test", "TXT")?, ["\"a b\" \"c\""]);
    assert_eq!(update("update delete new.gslb.test A 192.0.2.1")?, "");
    assert_eq!(short(&world, "new.gslb.test", "A")?, ["192.0.2.2"]);
    let replace = "prereq yxrrset new.gslb.test A 192.0.2.2\nupdate delete new.gslb.test A\nupdate add new.gslb.test 60 A 192.0.2.3";
    assert_eq!(update(replace)?, "");
    assert_eq!(short(&world, "new.gslb.test", "A")?, ["192.0.2.3"]);
    assert_eq!(update(replace)?, "update failed: NXRRSET");
    assert_eq!(update("prereq nxdomain new.gslb.test\nupdate add new.gslb.test 60 TXT x")?, "update failed: YXDOMAIN");
    assert_eq!(update("prereq yxdomain none.gslb.test\nupdate add new.gslb.test 60 TXT x")?, "update failed: NXDOMAIN");
    assert_eq!(update("prereq nxrrset new.gslb.test A\nupdate add new.gslb.test 60 TXT x")?, "update failed: YXRRSET");
    assert_eq!(update("update delete new.gslb.test")?, "");
    assert!(dig(world.server(), &["new.gslb.test", "A"])?.contains("status: NXDOMAIN"));
    assert_eq!(serial()?, "2026010106");
    assert_eq!(
        update("update add gslb.test 3600 SOA ns1.gslb.test. h.gslb.test. 2027000000 14400 3600 1209600 300")?,
        ""
    );
    assert_eq!(serial()?, "2027000000");
    Ok(())
}

#[test]
fn nsupdate_with_the_wrong_key_or_without_permission_changes_nothing() -> Held {
    let world = world()?;
    let acme = format!("hmac-sha512:acme {ACME_SECRET}");
    let update = |key: &str, commands: &str| nsupdate(world.server(), key, commands);
    let add = "update add www.gslb.test 60 TXT x";
    assert!(update(&format!("hmac-sha256:any {ACME_SECRET}"), add)?.contains("NOTAUTH(BADSIG)"));
    assert!(update(&format!("hmac-sha256:nobody {ANY_SECRET}"), add)?.contains("NOTAUTH(BADKEY)"));
    assert!(update(&format!("hmac-sha512:any {ANY_SECRET}"), add)?.contains("NOTAUTH(BADKEY)"));
    assert_eq!(update(&acme, add)?, "update failed: REFUSED");
    assert_eq!(
        update(&acme, "update add _acme-challenge.www.gslb.test 60 CNAME x.gslb.test.")?,
        "update failed: REFUSED"
    );
    assert_eq!(update(&any_key(), "update add gslb.test 60 NSEC a.gslb.test. A")?, "update failed: REFUSED");
    assert_eq!(short(&world, "gslb.test", "SOA")?.concat().split(' ').nth(2), Some("2026010101"));
    assert_eq!(update(&acme, "update add _acme-challenge.www.gslb.test 60 TXT x")?, "");
    assert_eq!(short(&world, "_acme-challenge.www.gslb.test", "TXT")?, ["\"x\""]);
    assert_eq!(update(&acme, "update delete _acme-challenge.www.gslb.test TXT x")?, "");
    assert_eq!(short(&world, "_acme-challenge.www.gslb.test", "TXT")?, [""; 0]);
    Ok(())
}

#[test]
fn check_shows_the_zone_with_its_updates_while_it_is_served() -> Held {
    let world = world()?;
    assert_eq!(nsupdate(world.server(), &any_key(), "update add new.gslb.test 60 TXT x")?, "");
    let program = gslb_tests::harness::process::program("gslb-dns")?;
    let check = || {
        let mut command = Command::new(&program);
        command.args(["check", "--config"]).arg(world.topology_path());
        command.output().map_err(|error| error.to_string())
    };
    assert!(check()?.status.success());
    assert_eq!(nsupdate(world.server(), &any_key(), "update add new.gslb.test 60 TXT y")?, "");
    assert_eq!(short(&world, "new.gslb.test", "TXT")?, ["\"x\"", "\"y\""]);
    Ok(())
}

/// What the last acknowledged update of each name left: the record, or nothing. Names whose update was not acknowledged
/// may be either, and are not in it.
type Known = BTreeMap<String, bool>;

fn txt(owner: &Name) -> Record {
    Record::from_rdata(owner.clone(), 60, RData::TXT(TXT::new(vec!["x".to_owned()])))
}

/// Adds names, and takes each third one away again, until the node is gone; tells what is known then.
fn storm(server: SocketAddr, prefix: &str) -> Known {
    let mut known = Known::new();
    let zone = Name::from_ascii("gslb.test.").expect("a name");
    let key_name = Name::from_ascii("any.").expect("a name");
    let key = TSigner::new(ANY_SECRET_OCTETS.to_vec(), TsigAlgorithm::HmacSha256, key_name, 300).expect("a key");
    let Ok(mut stream) = TcpStream::connect(server) else { return known };
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    for at in 0.. {
        let is_deletion = at % 3 == 1;
        let name = format!("{prefix}-{}.gslb.test.", if is_deletion { at - 1 } else { at });
        let owner = Name::from_ascii(&name).expect("a name");
        let mut message = match is_deletion {
            false => append(RecordSet::from(txt(&owner)), zone.clone(), false, false),
            true => delete_rrset(Record::update0(owner, 0, RecordType::TXT), zone.clone(), false),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        message.finalize(&key, now).expect("signed");
        known.remove(&name);
        let Ok(answer) = exchange(&mut stream, &message.to_vec().expect("encoded")) else { break };
        let answer = Message::from_vec(&answer).expect("readable");
        assert_eq!(answer.response_code, ResponseCode::NoError, "{answer}");
        known.insert(name, !is_deletion);
    }
    known
}

fn exchange(stream: &mut TcpStream, message: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(&[&(message.len() as u16).to_be_bytes(), message].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[test]
fn kill_at_random_points_of_a_storm_loses_no_acknowledged_update() -> Held {
    let mut world = world()?;
    let server = world.server();
    let mut all = Known::new();
    let mut acknowledged = 0;
    for round in 0..KILLS {
        let after = Duration::from_micros(fastrand::u64(1_000..120_000));
        let found: Vec<Known> = thread::scope(|scope| {
            let storm = |thread| scope.spawn(move || storm(server, &format!("r{round}-{thread}")));
            let storms: Vec<_> = (0..3).map(storm).collect();
            thread::sleep(after);
            world.node().expect("a node that runs").kill();
            storms.into_iter().map(|storm| storm.join().expect("no panic")).collect()
        });
        world.start_node()?;
        let known: Known = found.into_iter().flatten().collect();
        acknowledged += known.len();
        verify(&world, &known)?;
        all.extend(known);
    }
    verify(&world, &all)?;
    assert!(acknowledged > KILLS, "only {acknowledged} names in {KILLS} storms: too few to show anything");
    println!("{acknowledged} names known over {KILLS} kills");
    Ok(())
}

fn verify(world: &World, known: &Known) -> Held {
    let client = DnsClient::new(world.server());
    for (name, is_there) in known {
        let answer = client.ask(name, RecordType::TXT, None)?;
        assert_eq!(!answer.message.answers.is_empty(), *is_there, "{name}");
    }
    Ok(())
}

const ANY_SECRET_OCTETS: &[u8] = b"0123456789abcdef0123456789abcdef";
const KILLS: usize = 50;
