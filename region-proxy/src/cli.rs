//! The command line.

use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::ctl::{self, Ctl, Door};
use crate::once::{self, Once};
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
}

#[derive(Args, Debug)]
struct Settings {
    /// The settings file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
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
            serve::run(settings.config.clone(), config, certificates).map_err(|error| error.to_string())
        }),
        Command::Check(settings) => with_certificates(&settings, |config, certificates| {
            for warning in certificates.front.iter().flat_map(|front| front.warnings(Timestamp::now())) {
                eprintln!("warning: {warning}");
            }
            if let Some(user) = &config.user {
                serve::rights::look_up(user).map_err(|error| error.to_string())?;
            }
            let servers: usize = config.services.values().map(|service| service.servers.len()).sum();
            println!("{}: right: {} services, {servers} servers", settings.config.display(), config.services.len());
            Ok(())
        }),
        Command::Drain(settings) => with(&settings, |config| post(&settings.config, &config, "/drain")),
        Command::Ctl(ctl) => run_ctl(&ctl),
        Command::Undrain(settings) => with(&settings, |config| post(&settings.config, &config, "/undrain")),
    }
}

fn run_ctl(ctl: &Ctl) -> ExitCode {
    match (&ctl.socket, &ctl.config) {
        (Some(socket), _) => exit(ctl::run(ctl, &Door::Socket(socket.clone()))),
        (None, Some(file)) => {
            with(&Settings { config: file.clone() }, |config| ctl::run(ctl, &Door::of(file, &config, reachable)?))
        }
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

/// Reads the settings and goes on with them.
fn with(settings: &Settings, then: impl FnOnce(Config) -> Result<(), String>) -> ExitCode {
    let config = match reload::read(&settings.config) {
        Ok(config) => config,
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            return ExitCode::from(2);
        }
    };
    exit(then(config))
}

/// Does the same with the certificates, which are read too.
fn with_certificates(settings: &Settings, then: impl FnOnce(Config, Certificates) -> Result<(), String>) -> ExitCode {
    let mut mistakes = Vec::new();
    let code = with(settings, |config| match Certificates::read(&config, None) {
        Ok(certificates) => then(config, certificates),
        Err(problems) => {
            mistakes = problems;
            Ok(())
        }
    });
    for problem in &mistakes {
        eprintln!("{problem}");
    }
    if mistakes.is_empty() { code } else { ExitCode::from(2) }
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => log.json().flatten_event(true).with_target(false).init(),
    }
}

/// Asks the running proxy of `config` for a change and prints its answer.
fn post(file: &Path, config: &Config, path: &str) -> Result<(), String> {
    let Some(token) = &config.token else {
        return Err(format!(
            "{}: admin_token_file is missing: without it drain and undrain are refused",
            file.display()
        ));
    };
    if config.status.port() == 0 {
        return Err(format!("{}: status: port 0 does not tell where the proxy listens", file.display()));
    }
    let address = reachable(config.status);
    let (host, authorization) = (address.to_string(), format!("Bearer {}", token.reveal()));
    let fields = [("Authorization", authorization.as_str())];
    let request = Once { method: "POST", path, host: &host, preface: b"", fields: &fields, body: b"" };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let answer =
        runtime.block_on(async { tokio::time::timeout(ANSWER_LIMIT, once::fetch(address, request, 64 * 1024)).await });
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_LIMIT:?}")));
    let once::Answer { status, body, .. } = answer.map_err(|error| format!("{address}: {error}"))?;
    let text = String::from_utf8_lossy(&body);
    if (200..300).contains(&status) {
        print!("{text}");
        Ok(())
    } else {
        Err(format!("{address}: {status}: {}", text.trim_end()))
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

/// A proxy that takes longer is not well.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
