//! The command line.

use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use shared::problem::Problem;
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::ctl::{self, Ctl, Door};
use crate::doctor::Doctor;
use crate::takeover::watchdog;
use crate::tls::Certificates;
use crate::{reload, serve};

/// Reverse proxy of one region: forwards to healthy origin servers and reports its health to gslb-dns.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy until SIGTERM or SIGINT; SIGHUP reads the settings again, SIGUSR2 starts the program anew in its
    /// place, without losing a connection.
    Serve {
        #[command(flatten)]
        settings: Settings,
        /// How log lines look; which ones are written is set by RUST_LOG, such as RUST_LOG=debug.
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
    },
    /// Report every mistake in the settings; exit 2 if there is one.
    Check(Settings),
    /// Tell the running proxy that it wants no new clients: it serves on, and gslb-dns sends clients elsewhere.
    Drain(Settings),
    /// Take the running proxy's drain back.
    Undrain(Settings),
    /// Ask the running proxy about its servers, and change them: drain, weight, add, remove.
    Ctl(Ctl),
    /// What the kernel passes on by itself: [l4] in the settings.
    L4 {
        #[command(subcommand)]
        command: L4Command,
    },
    /// What a proxy with [vrrp] starts beside itself.
    #[command(name = watchdog::COMMAND, hide = true)]
    VrrpWatchdog,
}

#[derive(Args, Debug)]
struct Settings {
    /// The settings file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum L4Command {
    /// Services, servers, packets, octets and flows of the running proxy.
    Show {
        /// The socket of the running proxy.
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
        /// Its settings, which say where the socket or else the status is.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print the answer as it came.
        #[arg(long)]
        json: bool,
    },
    /// Run on a server: what it lacks for what L4 services send it, and what mends it; exit 1 if there is something.
    Doctor(Doctor),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Runs the command of this process's arguments.
///
/// Exits 0 when all went well, 2 for mistakes in the arguments or settings, 1 for all else.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve { settings, log_format } => with_certificates(&settings, |config, certificates| {
            start_log(log_format);
            certificates.front.iter().for_each(reload::log_warnings);
            for problem in serve::permissions::warnings(&settings.config, &config) {
                tracing::warn!(%problem, "settings");
            }
            serve::run(settings.config.clone(), config, certificates).map_err(|error| error.to_string())
        }),
        Command::Check(settings) => with_certificates(&settings, |config, certificates| {
            let of_certificates = certificates.front.iter().flat_map(|front| front.warnings(Timestamp::now()));
            for warning in serve::permissions::warnings(&settings.config, &config).into_iter().chain(of_certificates) {
                eprintln!("warning: {warning}");
            }
            let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
            let servers = config.services.values().map(|service| service.servers.len()).sum();
            let (services, servers) = (count(config.services.len(), "service"), count(servers, "server"));
            println!("{}: right: {services}, {servers}", settings.config.display());
            Ok(())
        }),
        Command::Drain(settings) => run_ctl(&Ctl::drain(settings.config, true)),
        Command::Ctl(ctl) => run_ctl(&ctl),
        Command::Undrain(settings) => run_ctl(&Ctl::drain(settings.config, false)),
        Command::L4 { command: L4Command::Show { socket, config, json } } => run_ctl(&Ctl::l4(socket, config, json)),
        Command::L4 { command: L4Command::Doctor(doctor) } => exit(doctor.run()),
        Command::VrrpWatchdog => {
            start_log(LogFormat::Text);
            match watchdog::run() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!(%error, "watchdog: ended");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn run_ctl(ctl: &Ctl) -> ExitCode {
    match (&ctl.socket, &ctl.config) {
        (Some(socket), _) => exit(ctl::run(ctl, &Door::Socket(socket.clone()))),
        (None, Some(file)) => match reload::read_contact(file) {
            Ok(contact) => exit(Door::of(ctl, file, contact, reachable).and_then(|door| ctl::run(ctl, &door))),
            Err(problems) => mistaken(&problems),
        },
        (None, None) => {
            eprintln!("region-proxy: expected --socket PATH or --config FILE, to find the running proxy by");
            ExitCode::from(2)
        }
    }
}

fn exit(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("region-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn mistaken(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("{problem}");
    }
    ExitCode::from(2)
}

/// Reads the settings and what they name on this machine, and goes on with them: certificates, the user, folders.
fn with_certificates(settings: &Settings, then: impl FnOnce(Config, Certificates) -> Result<(), String>) -> ExitCode {
    let config = match reload::read(&settings.config) {
        Ok(config) => config,
        Err(problems) => return mistaken(&problems),
    };
    let mut mistakes = serve::permissions::mistakes(&settings.config, &config);
    if let Some(error) = config.user.as_deref().and_then(|user| serve::rights::look_up(user).err()) {
        let file = settings.config.display().to_string();
        mistakes.push(Problem { file, line: None, key: String::new(), what: error.to_string() });
    }
    match Certificates::read(&config, None) {
        Ok(certificates) if mistakes.is_empty() => exit(then(config, certificates)),
        certificates => {
            mistakes.extend(certificates.err().into_iter().flatten());
            mistaken(&mistakes)
        }
    }
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => log.json().flatten_event(true).with_target(false).init(),
    }
}

/// Where a listener on `address` is reached from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
