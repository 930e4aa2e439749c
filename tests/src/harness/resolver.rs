//! Real resolvers, each with an address, a folder, and settings of its own, and nothing of the system's.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use hickory_proto::rr::RecordType;

use super::dns::DnsClient;
use super::process::Process;
use super::tools::require;
use super::tree::Tree;
use super::within;

/// A resolver that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Resolver {
    process: Process,
    address: SocketAddr,
}

impl Resolver {
    /// unbound at `address` for clients in 127.0.0.0/8; `lines` are the rest of its settings, of which the first ones
    /// belong to `server:`.
    pub fn unbound(folder: &Path, address: SocketAddr, lines: &str) -> Result<Self, String> {
        let settings = format!(
            r#"server:
    interface: {ip}
    port: {port}
    outgoing-interface: {ip}
    access-control: 127.0.0.0/8 allow
    do-daemonize: no
    do-ip6: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    do-not-query-localhost: no
    num-threads: 1
    local-zone: "test." nodefault
{lines}
remote-control:
    control-enable: no
"#,
            ip = address.ip(),
            port = address.port(),
            folder = folder.display(),
        );
        let file = write(folder, "unbound.conf", &settings)?;
        let process = start("unbound", &["-d".as_ref(), "-c".as_ref(), file.as_os_str()])?;
        process.wait_for_line("start of service", 0, START)?;
        Ok(Self { process, address })
    }

    /// unbound, named, Knot Resolver and PowerDNS Recursor, all of which validate from the root of `tree` down, at
    /// 127.N.0.53 and following; each has answered once.
    pub fn validating(number: u8, folder: &Path, tree: &Tree) -> Result<Vec<Self>, String> {
        let start: [Start; 4] = [validating_unbound, validating_named, validating_kresd, validating_recursor];
        thread::scope(|scope| {
            let started = start.map(|start| {
                scope.spawn(move || {
                    let resolver = start(number, folder, tree)?;
                    resolver.wait_until_it_validates()?;
                    Ok(resolver)
                })
            });
            started.into_iter().map(|thread| thread.join().map_err(|_| "a start panicked".to_owned())?).collect()
        })
    }

    /// What runs.
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of it, which waits as long as a resolver may need.
    pub fn dns(&self) -> DnsClient {
        DnsClient::new(self.address).limit(Duration::from_secs(5))
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    fn wait_until_it_validates(&self) -> Result<(), String> {
        let client = self.dns().limit(Duration::from_secs(1)).wants_validation();
        let look = || match client.ask("test.", RecordType::SOA, None)? {
            answer if answer.message.metadata.authentic_data => Ok(()),
            answer => Err(format!("test. SOA: {}", answer.message)),
        };
        within(START, look).map(drop).map_err(|why| format!("{} {why}\n{}", self.name(), self.log_tail()))
    }
}

type Start = fn(u8, &Path, &Tree) -> Result<Resolver, String>;

fn validating_unbound(number: u8, folder: &Path, tree: &Tree) -> Result<Resolver, String> {
    let folder = subfolder(folder, "unbound")?;
    let hints = write(&folder, "hints", &tree.hints())?;
    let lines = format!(
        r#"    module-config: "validator iterator"
    root-hints: "{}"
    trust-anchor: ". DS {}"
    val-log-level: 2"#,
        hints.display(),
        tree.anchor().ds
    );
    Resolver::unbound(&folder, address(number, 53), &lines)
}

/// named listens only at addresses that an interface has, so this one shares 127.0.0.1.
fn validating_named(number: u8, folder: &Path, tree: &Tree) -> Result<Resolver, String> {
    let folder = subfolder(folder, "named")?;
    write(&folder, "hints", &tree.hints())?;
    let address = SocketAddr::from(([127, 0, 0, 1], 15_300 + u16::from(number)));
    let (flags, key) = split_key(&tree.anchor().dnskey)?;
    let settings = format!(
        r#"options {{
    directory "{folder}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    query-source address {source};
    pid-file none;
    session-keyfile none;
    recursion yes;
    allow-query {{ 127.0.0.0/8; }};
    dnssec-validation yes;
    empty-zones-enable no;
    max-cache-size 32M;
}};
controls {{ }};
trust-anchors {{ . static-key {flags} "{key}"; }};
zone "." {{ type hint; file "hints"; }};
"#,
        folder = folder.display(),
        port = address.port(),
        source = self::address(number, 54).ip(),
    );
    let file = write(&folder, "named.conf", &settings)?;
    let arguments = ["-g", "-4", "-n", "1", "-c"].map(OsStr::new);
    let process = start("named", &[arguments.as_slice(), &[file.as_os_str()]].concat())?;
    Ok(Resolver { process, address })
}

/// Without a minimum of 5 seconds for each TTL: keys that live for less are rolled in the tests.
fn validating_kresd(number: u8, folder: &Path, tree: &Tree) -> Result<Resolver, String> {
    let folder = subfolder(folder, "kresd")?;
    let address = address(number, 55);
    let settings = format!(
        r"net.listen('{ip}', {port}, {{ kind = 'dns' }})
net.ipv6 = false
net.outgoing_v4('{ip}')
cache.size = 10 * MB
cache.min_ttl(0)
modules = {{ 'hints > iterate' }}
hints.root({{ ['ns.'] = '{root}' }})
trust_anchors.remove('.')
trust_anchors.add('. DS {ds}')
option('ALLOW_LOCAL', true)
policy.add(policy.suffix(policy.PASS, policy.todnames({{ 'test.' }})))
",
        ip = address.ip(),
        port = address.port(),
        root = tree.root(),
        ds = tree.anchor().ds
    );
    write(&folder, "kresd.conf", &settings)?;
    let process = start("kresd", &["-n".as_ref(), "-c".as_ref(), "kresd.conf".as_ref(), folder.as_os_str()])?;
    Ok(Resolver { process, address })
}

fn validating_recursor(number: u8, folder: &Path, tree: &Tree) -> Result<Resolver, String> {
    let folder = subfolder(folder, "pdns_recursor")?;
    let address = address(number, 56);
    let hints = write(&folder, "hints", &tree.hints())?;
    let anchor = write(&folder, "anchor.lua", &format!("clearTA()\naddTA('.', '{}')\n", tree.anchor().ds))?;
    let settings = format!(
        "local-address={ip}\nlocal-port={port}\nquery-local-address={ip}\nhint-file={hints}\ndont-query=\n\
         socket-dir={folder}\ndnssec=validate\nlua-config-file={anchor}\ndaemon=no\nthreads=1\n\
         security-poll-suffix=\nserve-rfc1918=no\nexport-etc-hosts=no\nallow-from=127.0.0.0/8\ndisable-syslog=yes\n",
        ip = address.ip(),
        port = address.port(),
        hints = hints.display(),
        folder = folder.display(),
        anchor = anchor.display(),
    );
    write(&folder, "recursor.conf", &settings)?;
    let process = start("pdns_recursor", &[format!("--config-dir={}", folder.display()).as_ref()])?;
    Ok(Resolver { process, address })
}

/// Flags, protocol and algorithm, and the key itself without spaces.
fn split_key(dnskey: &str) -> Result<(String, String), String> {
    let words: Vec<_> = dnskey.split_whitespace().collect();
    let (flags, key) = words.split_at_checked(3).ok_or_else(|| format!("not a DNSKEY: {dnskey}"))?;
    Ok((flags.join(" "), key.concat()))
}

fn address(number: u8, host: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::from([127, number, 0, host]), 53)
}

fn start(name: &str, arguments: &[&OsStr]) -> Result<Process, String> {
    Process::start(name, &require(name)?, arguments).map_err(|error| format!("{name}: {error}"))
}

fn subfolder(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let path = folder.join(name);
    fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

fn write(folder: &Path, file: &str, text: &str) -> Result<PathBuf, String> {
    let path = folder.join(file);
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

const START: Duration = Duration::from_secs(20);
