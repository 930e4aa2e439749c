//! DNS over TLS, HTTPS and QUIC with real clients: the same records as over UDP, silent clients that keep nobody out, and
//! a certificate that changes while it is served.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use gslb_tests::harness::tools::{dig, require};
use gslb_tests::harness::within;
use gslb_tests::harness::world::World;

type Held = Result<(), String>;

/// A world whose node answers over all transports.
fn start() -> Result<World, String> {
    let mut world = World::new(|settings| settings.replacen("[server.tcp]", &format!("{TLS}\n[server.tcp]"), 1))?;
    write_certificate(&world)?;
    world.start_regions()?;
    world.start_node()?;
    world.wait_until_serving(Duration::from_secs(20))?;
    Ok(world)
}

/// Gives `world` a new certificate, made by openssl.
fn write_certificate(world: &World) -> Held {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let [certificate, key] = ["cert.pem", "key.pem"].map(|file| folder.path().join(file));
    let mut command = Command::new(require("openssl")?);
    command.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 7 -batch".split(' '));
    command.args(["-subj", "/CN=ns1.gslb.test", "-addext", "subjectAltName=DNS:ns1.gslb.test"]);
    run(command.arg("-out").arg(&certificate).arg("-keyout").arg(&key))?;
    // The key first: with its own certificate it is taken over at once.
    world.write_secret("key.pem", std::fs::read(key).map_err(|error| error.to_string())?)?;
    world.write("cert.pem", std::fs::read(certificate).map_err(|error| error.to_string())?)
}

/// What `command` prints.
fn run(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}

fn at(world: &World, port: u16) -> SocketAddr {
    SocketAddr::new(world.server().ip(), port)
}

/// The records that `kdig` gets, in order.
fn kdig(server: SocketAddr, transport: &[&str], question: &[&str]) -> Result<Vec<String>, String> {
    let mut command = Command::new(require("kdig")?);
    let (address, port) = (format!("@{}", server.ip()), server.port().to_string());
    command.args([&*address, "-p", &port, "+timeout=3", "+retry=0", "+short"]).args(transport).args(question);
    let text = String::from_utf8_lossy(&run(&mut command)?).into_owned();
    let mut records: Vec<String> = text.lines().map(str::to_owned).collect();
    records.sort();
    Ok(records)
}

const TLS: &str = r#"
[server.tls]
certificate = "cert.pem"
key = "key.pem"
dot = ["127.0.0.1:8853"]
doh = ["127.0.0.1:8443"]
doq = ["127.0.0.1:8853"]
"#;

/// Steered, static, by a wildcard or not at all.
const QUESTIONS: [&[&str]; 9] = [
    &["www.gslb.test", "A"],
    &["www.gslb.test", "AAAA", "+subnet=91.0.0.0/24"],
    &["www.gslb.test", "A", "+subnet=1.208.0.0/24"],
    &["www.gslb.test", "HTTPS"],
    &["all.gslb.test", "A"],
    &["gslb.test", "SOA"],
    &["gslb.test", "NS"],
    &["mail.gslb.test", "A"],
    &["nothing.gslb.test", "A"],
];

#[test]
fn kdig_gets_the_same_records_over_tls_https_and_quic_as_over_udp() -> Held {
    let world = start()?;
    let ca = format!("+tls-ca={}", world.path("cert.pem").display());
    for question in QUESTIONS {
        let plain = kdig(world.server(), &["+notcp"], question)?;
        let tls = kdig(at(&world, 8853), &["+tls", &*ca, "+tls-hostname=ns1.gslb.test", "+padding"], question)?;
        assert_eq!(tls, plain, "over TLS, {question:?}");
        // With +tls-ca the kdig of Debian 12 crashes; the node's own tests check the certificate over QUIC.
        let quic = kdig(at(&world, 8853), &["+quic"], question)?;
        assert_eq!(quic, plain, "over QUIC, {question:?}");
        for method in ["+https", "+https-get"] {
            let https = kdig(at(&world, 8443), &["+https", method, &*ca, "+tls-hostname=ns1.gslb.test"], question)?;
            assert_eq!(https, plain, "{method}, {question:?}");
        }
    }
    Ok(())
}

#[test]
fn curl_gets_over_https_what_kdig_gets_over_udp() -> Held {
    let world = start()?;
    // The query of RFC 8484, section 4.1.1, for www.gslb.test.
    let query = [&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x03www\x04gslb\x04test\0\0\x01\0\x01"].concat();
    let file = world.path("query");
    std::fs::write(&file, query).map_err(|error| error.to_string())?;
    let server = at(&world, 8443);
    let mut command = Command::new(require("curl")?);
    command.args(["--silent", "--show-error", "--fail", "--max-time", "3", "--noproxy", "*", "--http2"]);
    command.arg("--cacert").arg(world.path("cert.pem"));
    command.args(["--resolve", &format!("ns1.gslb.test:8443:{}", server.ip())]);
    command.args(["-H", "content-type: application/dns-message", "--dump-header", "-"]);
    command.arg("--data-binary").arg(format!("@{}", file.display())).arg("https://ns1.gslb.test:8443/dns-query");
    let output = run(&mut command)?;
    let text = String::from_utf8_lossy(&output);
    assert!(text.starts_with("HTTP/2 200") && text.contains("cache-control: private, max-age=20"), "{text}");
    let [address] = &*kdig(world.server(), &["+notcp"], &["www.gslb.test", "A"])? else {
        return Err("one address was expected".to_owned());
    };
    let address: std::net::Ipv4Addr = address.parse().map_err(|_| format!("{address} is no address"))?;
    assert!(output.ends_with(&address.octets()), "{address} is not at the end of {output:?}");
    Ok(())
}

#[test]
fn two_hundred_silent_clients_of_each_transport_keep_nobody_out() -> Held {
    let world = start()?;
    let connect = |port| {
        let address = at(&world, port);
        (0..200).map(|_| TcpStream::connect(address).map_err(|error| error.to_string())).collect::<Result<Vec<_>, _>>()
    };
    let silent = [connect(world.server().port())?, connect(8853)?, connect(8443)?];
    let noise = UdpSocket::bind((world.server().ip(), 0)).map_err(|error| error.to_string())?;
    for _ in 0..200 {
        // What begins like a handshake and is none.
        noise.send_to(&[0xc3; 1200], at(&world, 8853)).map_err(|error| error.to_string())?;
    }
    let plain = kdig(world.server(), &["+notcp"], QUESTIONS[0])?;
    assert_eq!(plain.len(), 1);
    assert_eq!(kdig(world.server(), &["+tcp"], QUESTIONS[0])?, plain);
    assert_eq!(kdig(at(&world, 8853), &["+tls"], QUESTIONS[0])?, plain);
    assert_eq!(kdig(at(&world, 8853), &["+quic"], QUESTIONS[0])?, plain);
    assert_eq!(kdig(at(&world, 8443), &["+https"], QUESTIONS[0])?, plain);
    drop(silent);
    Ok(())
}

#[test]
fn new_certificate_is_served_and_a_broken_one_leaves_the_old() -> Held {
    let world = start()?;
    let hello = |ca: &str| {
        let ca = format!("+tls-ca={}", world.path(ca).display());
        kdig(at(&world, 8853), &["+tls", &*ca, "+tls-hostname=ns1.gslb.test"], QUESTIONS[0])
    };
    hello("cert.pem")?;
    let old = std::fs::read(world.path("cert.pem")).map_err(|error| error.to_string())?;
    world.write("old.pem", old)?;
    world.write("cert.pem", "nothing")?;
    within(Duration::from_secs(10), || {
        let status = world.status()?["certificate"]["problems"].to_string();
        if status.contains("cert.pem: no certificate in it") { Ok(()) } else { Err(status) }
    })?;
    hello("old.pem")?;
    write_certificate(&world)?;
    within(Duration::from_secs(10), || hello("cert.pem"))?;
    assert!(hello("old.pem").is_err(), "the old one is shown no more");
    // The node serves on for who asks without encryption.
    dig(world.server(), &["www.gslb.test"]).map(drop)
}
