//! WebSockets through region-proxy: client and server are those of the Python package `websockets`.

use std::path::Path;
use std::time::{Duration, Instant};

use gslb_tests::harness::certificates::Authority;
use gslb_tests::harness::process::Process;
use gslb_tests::harness::site::{ROOT, SERVICE, SERVICES, Site, TLS};
use gslb_tests::harness::tools::require_module;
use nix::sys::signal::Signal;

type Held = Result<(), String>;

/// What is below `/socket` goes to servers that speak WebSocket.
const SOCKETS: &str = r#"
[[routes]]
path = "/socket"
service = "socket.gslb.test"
[services."socket.gslb.test"]
servers = { ws-1 = "127.0.1.31:9000", ws-2 = { address = "127.0.1.32:9000", backup = true } }
check = { interval = "50ms", rise = 1, fall = 1 }
"#;

/// A site with two WebSocket servers beside the others; the second is there for the death of the first.
struct Sockets {
    site: Site,
    servers: Vec<Process>,
}

impl Sockets {
    fn start(limits: &str) -> Result<Self, String> {
        let (mut site, authority) = (Site::new()?, Authority::new()?);
        site.write_certificate(&authority, SERVICE)?;
        let servers = [31, 32].into_iter().map(|host| serve(&site, host)).collect::<Result<_, _>>()?;
        site.run(&settings(limits))?;
        Ok(Self { site, servers })
    }

    /// Starts the client with `scenario` over TCP.
    fn client(&self, scenario: &str) -> Result<Process, String> {
        let address = self.site.http();
        let url = format!("ws://{SERVICE}:{}/socket/one?two", address.port());
        python("client", &["client.py", scenario, &url, &address.ip().to_string(), &address.port().to_string()])
    }

    fn secure_client(&self, scenario: &str) -> Result<Process, String> {
        let address = self.site.https();
        let url = format!("wss://{SERVICE}:{}/socket", address.port());
        let (ip, port, authority) = (address.ip().to_string(), address.port().to_string(), self.site.path("ca.pem"));
        python("client", &["client.py", scenario, &url, &ip, &port, &authority.display().to_string()])
    }
}

fn settings(limits: &str) -> String {
    format!("{ROOT}[limits]\n{limits}\n{TLS}{SERVICES}{SOCKETS}")
}

/// Starts a WebSocket server, which calls itself by the last number of its address.
fn serve(site: &Site, host: u8) -> Result<Process, String> {
    let address = site.address(host, 9000);
    let server = python("server", &["server.py", &host.to_string(), &address.ip().to_string(), "9000"])?;
    server.wait_for_line("listening", 0, LIMIT).map(|_| server)
}

fn python(name: &str, arguments: &[&str]) -> Result<Process, String> {
    let python = require_module("websockets")?;
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/websockets").join(arguments[0]).display().to_string();
    Process::start(name, &python, &[&[&*script], &arguments[1..]].concat()).map_err(|error| error.to_string())
}

/// Waits until `client` has said that all was as it should be.
fn hold(mut client: Process) -> Held {
    let status = client.wait(LIMIT)?;
    match status.success() {
        true => client.wait_for_line("held", 0, LIMIT).map(drop),
        false => Err(format!("{status}: {}", client.log_tail())),
    }
}

#[test]
fn messages_of_all_sizes_are_echoed_with_compression_and_without() -> Held {
    let sockets = Sockets::start("")?;
    hold(sockets.client("echo")?)?;
    hold(sockets.secure_client("echo")?)
}

#[test]
fn messages_both_ways_at_once_keep_their_order() -> Held {
    let sockets = Sockets::start("")?;
    hold(sockets.client("many")?)?;
    hold(sockets.secure_client("many")?)
}

#[test]
fn pings_are_answered_from_either_side() -> Held {
    hold(Sockets::start("")?.client("ping")?)
}

#[test]
fn codes_and_reasons_of_a_close_arrive_at_the_other_side() -> Held {
    let sockets = Sockets::start("")?;
    hold(sockets.client("codes")?)?;
    sockets.servers[0].wait_for_line("closed 4002 bye", 0, LIMIT).map(drop)
}

#[test]
fn death_of_a_server_ends_its_sockets_and_the_next_is_with_another() -> Held {
    let mut sockets = Sockets::start("")?;
    let client = sockets.client("chat")?;
    client.wait_for_line("with 31 127.0.0.1", 0, LIMIT)?;
    client.wait_for_line("echo 3", 0, LIMIT)?;
    sockets.servers[0].kill();
    client.wait_for_line("closed 1006", 0, LIMIT)?;
    hold(client)?;
    sockets.client("chat")?.wait_for_line("with 32 127.0.0.1", 0, LIMIT).map(drop)
}

#[test]
fn an_idle_tunnel_is_cut_at_its_limit_and_a_ping_is_enough_to_keep_it() -> Held {
    let sockets = Sockets::start("tunnel = \"2s\"")?;
    let client = sockets.client("idle")?;
    // It pings for longer than the limit.
    client.wait_for_line("silent", 0, LIMIT)?;
    let silent = Instant::now();
    client.wait_for_line("closed 1006", 0, LIMIT)?;
    // The clock of a thread is coarse, and the line was here later than the last pong.
    assert!(silent.elapsed() > Duration::from_millis(1500), "after {:?}", silent.elapsed());
    hold(client)?;
    sockets.servers[0].wait_for_line("closed 1006", 0, LIMIT).map(drop)
}

#[test]
fn a_socket_outlives_a_reload_and_ends_with_the_stop_limit() -> Held {
    let mut sockets = Sockets::start("stop = \"300ms\"")?;
    let client = sockets.client("chat")?;
    client.wait_for_line("echo 1", 0, LIMIT)?;
    // What is new has the tunnels of the old settings go on, though their service is gone.
    let without = settings("stop = \"300ms\"").replace(SOCKETS, "");
    sockets.site.write("proxy.toml", sockets.site.at_home(&without))?;
    sockets.site.proxy()?.signal(Signal::SIGHUP)?;
    sockets.site.proxy()?.wait_for_line("settings reloaded", 0, LIMIT)?;
    let echoed = client.log().len();
    client.wait_for_line("echo", echoed + 3, LIMIT)?;
    sockets.site.proxy()?.terminate(LIMIT)?;
    client.wait_for_line("closed 1006", 0, LIMIT)?;
    hold(client)
}

/// A machine with two cores runs many of these at once.
const LIMIT: Duration = Duration::from_secs(60);
