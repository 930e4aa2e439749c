//! A certificate by DNS-01: certbot proves by updates (RFC 2136) to pebble, a small ACME server, that the zone is ours.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gslb_tests::harness::process::Process;
use gslb_tests::harness::tools::{dig, require};
use gslb_tests::harness::world::{PLAIN_SETTINGS, World};

const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// The recipe of the README: the key may change nothing but the challenges.
const UPDATES: &str = r#"
journal = "gslb.test.journal"
updates = [{ key = "certbot", names = ["_acme-challenge.*"], types = ["TXT"] }]
[tsig_keys.certbot]
secret_file = "certbot.key"
"#;

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(text) } else { Err(format!("{command:?}: {}\n{text}", output.status)) }
}

/// Starts pebble, which asks the node of `world` for challenges; it is at port 14000 of `address`.
fn start_pebble(world: &World, address: &str) -> Result<Process, String> {
    let (certificate, key) = (world.path("acme.pem"), world.path("acme-key.pem"));
    let mut openssl = Command::new(require("openssl")?);
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]);
    openssl.args(["-subj", "/CN=pebble", "-addext", &format!("subjectAltName=IP:{address}")]);
    run(openssl.arg("-out").arg(&certificate).arg("-keyout").arg(&key))?;
    let settings = serde_json::json!({ "pebble": {
        "listenAddress": format!("{address}:14000"),
        "managementListenAddress": format!("{address}:15000"),
        "certificate": certificate, "privateKey": key, "httpPort": 5002, "tlsPort": 5001,
    }});
    world.write("pebble.json", settings.to_string())?;
    let config = world.path("pebble.json");
    let server = world.server().to_string();
    // Without its pauses, and without the errors that it makes on purpose.
    let program = Path::new("/usr/bin/env");
    let pebble = require("pebble")?;
    let arguments = [
        "PEBBLE_VA_NOSLEEP=1".as_ref(),
        "PEBBLE_WFE_NONCEREJECT=0".as_ref(),
        pebble.as_os_str(),
        "-config".as_ref(),
        config.as_os_str(),
        "-dnsserver".as_ref(),
        server.as_ref(),
    ];
    let process = Process::start("pebble", program, &arguments).map_err(|error| error.to_string())?;
    process.wait_for_line("ACME directory available at", 0, Duration::from_secs(20))?;
    Ok(process)
}

#[test]
fn certbot_gets_a_wildcard_certificate_through_updates() -> Result<(), String> {
    let mut world = World::new(|_| [PLAIN_SETTINGS, UPDATES].concat())?;
    world.write_secret("certbot.key", SECRET)?;
    world.start_node()?;
    let address = format!("127.{}.0.9", world.number());
    let _pebble = start_pebble(&world, &address)?;
    let server = world.server();
    let credentials = format!(
        "dns_rfc2136_server = {}\ndns_rfc2136_port = {}\ndns_rfc2136_name = certbot\ndns_rfc2136_secret = {SECRET}\n\
         dns_rfc2136_algorithm = HMAC-SHA256\n",
        server.ip(),
        server.port()
    );
    world.write_secret("rfc2136.ini", &credentials)?;
    let mut certbot = Command::new(require("certbot")?);
    certbot.args(["certonly", "--non-interactive", "--agree-tos", "--register-unsafely-without-email"]);
    certbot.args(["--server", &format!("https://{address}:14000/dir"), "-d", "*.gslb.test", "-d", "gslb.test"]);
    certbot.args(["--dns-rfc2136", "--dns-rfc2136-propagation-seconds", "0", "--dns-rfc2136-credentials"]);
    certbot.arg(world.path("rfc2136.ini")).env("REQUESTS_CA_BUNDLE", world.path("acme.pem"));
    for folder in ["config", "work", "logs"] {
        certbot.arg(format!("--{folder}-dir")).arg(world.path("certbot").join(folder));
    }
    run(&mut certbot)?;
    let mut openssl = Command::new(require("openssl")?);
    let certificate = world.path("certbot/config/live/gslb.test/cert.pem");
    let shown = run(openssl.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]).arg(certificate))?;
    assert!(shown.contains("DNS:*.gslb.test") && shown.contains("DNS:gslb.test"), "{shown}");
    // What proved it is gone again.
    assert!(dig(server, &["_acme-challenge.gslb.test", "TXT"])?.contains("status: NXDOMAIN"));
    Ok(())
}
