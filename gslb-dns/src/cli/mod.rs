//! The command line.

mod keys;
mod local;
mod output;
mod proxies;
mod remote;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use shared::name::{OwnerName, RegionName};

#[cfg(test)]
pub(crate) use local::suppose;

/// What the program was asked to do.
#[derive(Debug, Parser)]
#[command(name = "gslb-dns", version, about = "Authoritative DNS server that answers with the nearest healthy region")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answers queries until it is told to stop (SIGTERM); SIGHUP reads all files again.
    Serve(ServeArgs),
    /// Reads all files and prints every mistake in them, or what they come to.
    Check(ConfigArg),
    /// Prints a zone with all updates, as a master file that may take the place of its own; steered names are not in it.
    Zone(ZoneArgs),
    /// Prints who a client is answered with, and why.
    Explain(ExplainArgs),
    /// Takes a region out of service or into it at a running node, or takes that back.
    Override(OverrideArgs),
    /// Prints the state of a running node as JSON.
    Status(NodeArg),
    /// Tells the proxies of a region themselves to drain, or to drain no more.
    #[command(subcommand)]
    Proxies(proxies::ProxiesCommand),
    /// Makes the keys that zones are signed with (DNSSEC), shows them and rolls them over.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
}

#[derive(Args, Debug)]
struct ConfigArg {
    /// The settings file; where it is left out /etc/gslb/topology.toml, and where that does not exist the sample in
    /// zones/ of the folder one is in.
    #[arg(long, value_name = "FILE", default_value_os_t = default_config(), hide_default_value = true)]
    config: PathBuf,
}

#[derive(Args, Debug)]
struct ZoneArgs {
    /// The zone.
    name: OwnerName,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Args, Debug)]
struct ServeArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged: a level, or levels by module, such as info,gslb_dns::probe=debug. Where it is left out RUST_LOG
    /// says it, else it is info.
    #[arg(long, value_name = "FILTER")]
    log_filter: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Args, Debug)]
struct ExplainArgs {
    /// The name that the client asks for.
    name: String,
    /// The address of the client.
    #[arg(long, value_name = "IP")]
    client: IpAddr,
    /// The record type that it asks for.
    #[arg(long = "type", value_name = "TYPE", default_value = "A")]
    qtype: String,
    #[command(flatten)]
    config: ConfigArg,
    /// Takes this region for down; every region that is not named is taken for healthy.
    #[arg(long, value_name = "REGION", conflicts_with = "node")]
    down: Vec<RegionName>,
    /// Takes this region for drained.
    #[arg(long, value_name = "REGION", conflicts_with = "node")]
    drain: Vec<RegionName>,
    /// Asks the running node with this admin listener how things are, in place of the settings file.
    #[arg(long, alias = "from-node", value_name = "URL", num_args = 0..=1, default_missing_value = DEFAULT_NODE)]
    node: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct OverrideArgs {
    /// What shall be.
    #[arg(value_enum)]
    action: OverrideAction,
    /// The region.
    region: RegionName,
    /// Only for this service.
    #[arg(long, value_name = "NAME")]
    service: Option<OwnerName>,
    /// Why, which all but clear need: stands in logs and status.
    #[arg(long, value_name = "TEXT", required_if_eq_any = [("action", "drain"), ("action", "down"), ("action", "up"), ("action", "resume")])]
    why: Option<String>,
    /// Who decides; the name of the user where it is left out.
    #[arg(long, value_name = "USER")]
    who: Option<String>,
    /// How long it holds, such as 30m; an hour where it is left out.
    #[arg(long = "for", value_name = "SPAN")]
    span: Option<String>,
    #[command(flatten)]
    node: NodeArg,
    /// A file with the token of the node.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum OverrideAction {
    /// Takes no new clients, and comes back in steps.
    Drain,
    /// Counts as down.
    Down,
    /// Counts as serving, whatever its health.
    Up,
    /// Ends its recovery.
    Resume,
    /// Takes an override back.
    Clear,
}

#[derive(Args, Debug)]
struct NodeArg {
    /// The admin listener of the node.
    #[arg(long, value_name = "URL", default_value = DEFAULT_NODE)]
    node: String,
}

impl Cli {
    /// Does it. Exit code 0: done; 1: it could not be done; 2: mistakes in the files or the command.
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Serve(args) => local::serve(&args),
            Command::Check(args) => local::check(&args.config),
            Command::Zone(args) => local::zone(&args.name, &args.config.config),
            Command::Explain(args) => match &args.node {
                Some(node) => remote::explain(node, &args),
                None => local::explain(&args),
            },
            Command::Override(args) => remote::change(&args),
            Command::Status(args) => remote::status(&args.node),
            Command::Proxies(command) => proxies::run(&command),
            Command::Keys(command) => keys::run(&command),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                output::complain(&failure);
                failure.exit_code()
            }
        }
    }
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Mistakes in what the operator wrote.
    #[error("{0}")]
    Mistakes(String),
    /// Everything else.
    #[error("{0}")]
    Impossible(String),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Mistakes(_) => ExitCode::from(2),
            Self::Impossible(_) => ExitCode::FAILURE,
        }
    }
}

fn default_config() -> PathBuf {
    let found = DEFAULT_CONFIGS.iter().find(|path| Path::new(path).exists());
    found.unwrap_or(&DEFAULT_CONFIGS[0]).into()
}

const DEFAULT_CONFIGS: [&str; 2] = ["/etc/gslb/topology.toml", "zones/topology.toml"];
const DEFAULT_NODE: &str = "http://127.0.0.1:5380";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_of_the_readme_are_understood() {
        for line in [
            "gslb-dns serve --config zones/topology.toml --log-format json",
            "gslb-dns serve --log-filter info,gslb_dns::probe=debug",
            "gslb-dns check --config zones/topology.toml",
            "gslb-dns explain www.gslb.test --client 1.208.0.1 --down seoul --drain virginia",
            "gslb-dns explain www.gslb.test --client 2001:db8::1 --type AAAA --node http://127.0.0.1:5380",
            "gslb-dns override drain seoul --why maintenance --who kim --for 30m --token-file token",
            "gslb-dns override clear seoul --service www.gslb.test",
            "gslb-dns status",
            "gslb-dns proxies drain seoul --token-file proxies-token",
            "gslb-dns proxies undrain seoul seoul-1 --token-file proxies-token --config zones/topology.toml",
            "gslb-dns zone gslb.test --config zones/topology.toml",
            "gslb-dns keys new gslb.test --config zones/topology.toml",
            "gslb-dns keys new gslb.test --dir keys --algorithm 15 --role zsk",
            "gslb-dns keys import gslb.test key.pem --role csk",
            "gslb-dns keys ds gslb.test",
            "gslb-dns keys list gslb.test",
            "gslb-dns keys roll gslb.test --role ksk",
            "gslb-dns keys roll gslb.test --algorithm 15",
            "gslb-dns keys confirm gslb.test",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }

    #[test]
    fn health_is_either_supposed_or_asked_of_a_node() {
        let line = "gslb-dns explain www.gslb.test --client 192.0.2.1 --down seoul --node http://127.0.0.1:5380";
        assert!(Cli::try_parse_from(line.split(' ')).is_err());
    }
}
