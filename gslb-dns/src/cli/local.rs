//! Commands that need no running node.

use std::io::{IsTerminal as _, stderr};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use shared::moment::Moment;
use shared::name::{OwnerName, RegionName};
use shared::published::{ServiceStatus, Status};
use shared::state::{Action, Event, Override, Refused, State};
use shared::topology::{Proxy, Region, Topology};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

use super::{ExplainArgs, Failure, LogFormat, ServeArgs, output};
use crate::admin::with_expected;
use crate::answer::Snapshot;
use crate::explain::{Explained, Question, explain as explain_question};
use crate::reload::{World, load};
use crate::serve::{Node, PrivilegeError, StartError, rights, tell_systemd};
use crate::wire::Name;
use crate::zone::wire_name;

/// Serves until a signal ends it.
pub(super) fn serve(args: &ServeArgs) -> Result<(), Failure> {
    start_log(args.log_format, args.log_filter.as_deref())?;
    let failed = |error: std::io::Error| Failure::Impossible(format!("cannot handle signals: {error}"));
    // Before anything else, so that a signal that comes during the start is not lost.
    let runtime = runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let mut signals = runtime.block_on(async { Signals::new() }).map_err(failed)?;
    let node = Node::start(&args.config.config).map_err(not_started)?;
    info!(version = env!("CARGO_PKG_VERSION"), "ready");
    tell_systemd(&[NotifyState::Ready]);
    runtime.block_on(async {
        while signals.next().await == Asked::Reload {
            info!("SIGHUP: reading all files again");
            node.reload();
        }
    });
    info!("stopping");
    tell_systemd(&[NotifyState::Stopping]);
    node.stop();
    info!("stopped");
    Ok(())
}

/// An address in use or a right that is missing is no mistake in the files: the same files may do in a moment.
fn not_started(error: StartError) -> Failure {
    match error {
        StartError::Problems(_) => Failure::Mistakes(error.to_string()),
        StartError::Bind(_) | StartError::Privileges(_) | StartError::System(_) => {
            Failure::Impossible(error.to_string())
        }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    Reload,
    Stop,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
        }
    }
}

fn start_log(format: LogFormat, filter: Option<&str>) -> Result<(), Failure> {
    let filter = log_filter(filter, std::env::var(LOG_VARIABLE).ok().as_deref())?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(stderr().is_terminal());
    // The complaint about a log that nobody reads would go the same way, and end the thread that wrote.
    let log = log.log_internal_errors(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

/// What `option` says, else what the `variable` of the environment says, else info.
fn log_filter(option: Option<&str>, variable: Option<&str>) -> Result<EnvFilter, Failure> {
    let variable = variable.filter(|filter| !filter.trim().is_empty()).map(|filter| (LOG_VARIABLE, filter));
    let (source, filter) = option.map(|filter| ("--log-filter", filter)).or(variable).unwrap_or(("", "info"));
    EnvFilter::try_new(filter).map_err(|error| {
        Failure::Mistakes(format!("{source} {filter:?}: {error}: expected a level, or levels by module"))
    })
}

/// Prints every mistake, or what the files come to and what is seldom meant. Becomes `server.user`, as a node does.
pub(super) fn check(config: &Path) -> Result<(), Failure> {
    let world = read(config)?;
    let warnings: String = world.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    let unjudged = match rights::take(&world) {
        Ok(()) => String::new(),
        Err(StartError::Privileges(error @ PrivilegeError::Refused { .. })) => {
            format!("warning: server.user: {error}: whether it may write the journals is not known\n")
        }
        Err(error) => {
            output::print(&warnings)?;
            return Err(not_started(error));
        }
    };
    output::print(&format!("{unjudged}{warnings}{}", summary(config, &world)))
}

/// Prints the zone `name` with its updates.
pub(super) fn zone(name: &OwnerName, config: &Path) -> Result<(), Failure> {
    let world = read(config)?;
    let apex = wire_name(name);
    let at = world.zones.position_of(&apex).ok_or_else(|| {
        let zones: Vec<String> = world.zones.zones().map(|(name, _)| name.to_string()).collect();
        Failure::Mistakes(format!("{name} is not a zone: expected one of {}", zones.join(", ")))
    })?;
    match world.kept.get(at).filter(|_| world.journals.iter().any(|zone| zone.apex == apex)) {
        Some(zone) => output::print(&zone.to_master().to_string()),
        None => {
            let file = world.settings.zones[at].file.display();
            Err(Failure::Mistakes(format!("{name} has no journal: all of it stands in {file}")))
        }
    }
}

pub(super) fn read(config: &Path) -> Result<World, Failure> {
    load(config, None).world.map_err(|problems| Failure::Mistakes(StartError::Problems(problems).to_string()))
}

fn summary(config: &Path, world: &World) -> String {
    let server = &world.settings.server;
    let topology = &world.settings.topology;
    let listed = |items: Vec<String>| items.join(", ");
    let addresses = |addresses: &[SocketAddr]| listed(addresses.iter().map(ToString::to_string).collect());
    let listen = addresses(&server.listen);
    let encrypted = server.tls.iter().flat_map(|tls| [("dot", &tls.dot), ("doh", &tls.doh), ("doq", &tls.doq)]);
    let encrypted = encrypted.filter(|(_, at)| !at.is_empty());
    let encrypted: String = encrypted.map(|(name, at)| format!("{name:<10}{}\n", addresses(at))).collect();
    let admin = server.admin.map_or_else(|| "none".to_owned(), |address| address.to_string());
    let zone = |(name, serial): (&Name, u32)| match world.signed_zones.iter().any(|zone| zone.apex == *name) {
        true => format!("{name} (serial {serial}, signed)"),
        false => format!("{name} (serial {serial})"),
    };
    let zones = listed(world.zones.zones().map(zone).collect());
    let region = |region: &Region| format!("{} ({} proxies)", region.name, region.proxies.len());
    let regions = listed(topology.regions.iter().map(region).collect());
    let service = |service: &shared::topology::Service| {
        let steering = topology.steering(service);
        format!("{} ({}, {} regions)", service.name, steering.policy.as_str(), steering.members.len())
    };
    let mut services: Vec<String> = topology.services.iter().take(SERVICES_SHOWN).map(service).collect();
    if topology.services.len() > SERVICES_SHOWN {
        services.push(format!("{} more", topology.services.len() - SERVICES_SHOWN));
    }
    let warnings = match world.warnings.len() {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        count => format!(", {count} warnings"),
    };
    format!(
        "{}: no mistakes{warnings}\nlisten    {listen}\n{encrypted}admin     {admin}\nzones     {zones}\nregions   {regions}\n\
         services  {}\ngeo       {} KiB of tables\nhash      {:016x}\n",
        config.display(),
        listed(services),
        world.geo.size() / 1024,
        world.hash,
    )
}

/// Explains by the settings file alone.
pub(super) fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let world = read(&args.config.config)?;
    let question = Question::parse(&args.name, &args.client.to_string(), &args.qtype);
    let question = question.map_err(|error| Failure::Mistakes(error.to_string()))?;
    let explained = suppose(&world, &args.down, &args.drain, &question)?;
    if args.json {
        let json = serde_json::to_string_pretty(&explained);
        return output::print(&(json.map_err(|error| Failure::Impossible(error.to_string()))? + "\n"));
    }
    output::print(&format!("supposed: every region is healthy{}\n{explained}", exceptions(&args.down, &args.drain)))
}

/// What `world` would answer if every region were healthy, save those that are taken out.
pub(crate) fn suppose(
    world: &World,
    down: &[RegionName],
    drain: &[RegionName],
    question: &Question,
) -> Result<Explained, Failure> {
    let topology = &world.settings.topology;
    let refused = |refused: Refused| Failure::Mistakes(with_expected(&refused, topology));
    let mut state = State::new(Arc::clone(topology), Moment::START);
    for region in &topology.regions {
        for proxy in &region.proxies {
            state.apply(healthy(topology, region, proxy), Moment::START).map_err(refused)?;
        }
    }
    let taken_out = down.iter().map(|region| (region, Action::Down)).chain(drain.iter().map(|r| (r, Action::Drain)));
    for (region, action) in taken_out {
        state.apply(supposed(region, action), Moment::START).map_err(refused)?;
    }
    let snapshot = Snapshot::new(Arc::clone(&world.zones), Arc::clone(&world.geo), state.view());
    explain_question(&snapshot, &world.geo_data, question).map_err(|error| Failure::Mistakes(error.to_string()))
}

fn healthy(topology: &Topology, region: &Region, proxy: &Proxy) -> Event {
    let enough = |service: &shared::topology::Service| {
        let servers = service.min_servers.max(1);
        (
            service.name.clone(),
            ServiceStatus { servers_up: servers, servers_total: servers, ..ServiceStatus::default() },
        )
    };
    let status = Status {
        region: region.name.clone(),
        proxy: proxy.name.clone(),
        holds_vip: true,
        is_draining: false,
        services: topology.services.iter().map(enough).collect(),
        virtual_routers: Vec::new(),
    };
    Event::Probed { region: region.name.clone(), proxy: proxy.name.clone(), outcome: Ok(status) }
}

fn supposed(region: &RegionName, action: Action) -> Event {
    Event::Override(Override {
        region: region.clone(),
        service: None,
        action,
        who: "explain".to_owned(),
        why: "supposed".to_owned(),
        expires: Moment::START + Duration::from_secs(1),
    })
}

fn exceptions(down: &[RegionName], drain: &[RegionName]) -> String {
    let named = |regions: &[RegionName], word: &str| match regions {
        [] => String::new(),
        _ => format!(", {word}: {}", regions.iter().map(RegionName::as_str).collect::<Vec<_>>().join(" ")),
    };
    named(down, "down") + &named(drain, "drained")
}

const SERVICES_SHOWN: usize = 10;
/// Names the log filter where the command line does not.
const LOG_VARIABLE: &str = "RUST_LOG";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::sample::{Site, tls_pair};

    #[test]
    fn summary_names_the_addresses_of_every_transport_there_is() {
        let site = Site::new();
        let shown = || summary(&site.config(), &read(&site.config()).expect("no mistakes"));
        assert!(!shown().contains("\ndot"), "{}", shown());
        site.write_tls(&tls_pair());
        let tls = "threads = 1\ntls = { certificate = \"cert.pem\", key = \"key.pem\", dot = [\"127.0.0.1:853\"], \
                   doq = [\"127.0.0.1:853\", \"[::1]:853\"] }\n";
        site.write("topology.toml", &site.settings().replace("threads = 1\n", tls));
        assert!(
            shown().contains("\ndot       127.0.0.1:853\ndoq       127.0.0.1:853, [::1]:853\nadmin "),
            "{}",
            shown()
        );
    }

    #[test]
    fn log_filter_is_the_option_else_the_variable_else_info() {
        for (option, variable, expected) in [
            (Some("warn"), Some("debug"), "warn"),
            (None, Some("gslb_dns::probe=debug"), "gslb_dns::probe=debug"),
            (None, Some(" "), "info"),
            (None, None, "info"),
        ] {
            let filter = log_filter(option, variable).expect("valid");
            assert_eq!(filter.to_string(), expected, "{option:?} {variable:?}");
        }
    }

    #[test]
    fn only_mistakes_in_the_files_count_as_such() {
        let user = || "nobody-here".to_owned();
        for (error, is_mistake) in [
            (StartError::Problems(Vec::new()), true),
            (StartError::Privileges(PrivilegeError::Regained { user: user() }), false),
            (StartError::Bind(Vec::new()), false),
            (StartError::System(String::new()), false),
        ] {
            let what = format!("{error:?}");
            assert_eq!(matches!(not_started(error), Failure::Mistakes(_)), is_mistake, "{what}");
        }
    }

    #[test]
    fn wrong_log_filter_is_refused_with_where_it_stands() {
        let wrong = |option, variable| log_filter(option, variable).expect_err("wrong").to_string();
        assert!(wrong(Some("gslb_dns=loud"), None).contains("--log-filter"));
        assert!(wrong(None, Some("gslb_dns=loud")).contains(LOG_VARIABLE));
    }
}
