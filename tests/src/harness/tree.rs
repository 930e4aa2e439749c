//! A DNS of our own: a signed root and a signed `test.`, served by NSD, and whatever zones are delegated below.
//!
//! Referrals carry no ports, so every server is at port 53 of a loopback address: the root at 127.N.0.10, `test.` at
//! 127.N.0.11, others as the test wants.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hickory_proto::rr::{RData, RecordType};
use nix::sys::signal::Signal;

use super::dns::DnsClient;
use super::process::Process;
use super::tools::require;
use super::within;

/// The root and `test.`; their servers end when this is dropped.
#[derive(Debug)]
pub struct Tree {
    number: u8,
    folder: PathBuf,
    serial: u32,
    anchor: SignedZone,
    top: Process,
    _root: Process,
}

/// A zone below `test.`: what the parent tells of it.
#[derive(Clone, Debug)]
pub struct Delegation {
    /// The zone.
    pub zone: String,
    /// Addresses of its servers, which the parent calls `ns1.ZONE`, `ns2.ZONE` and so on.
    pub servers: Vec<IpAddr>,
    /// RDATA of its DS records; none: it is not signed, or not known to be.
    pub ds: Vec<String>,
}

/// A zone in a file, signed with a key of its own.
#[derive(Clone, Debug)]
pub struct SignedZone {
    /// The file.
    pub file: PathBuf,
    /// RDATA of the DNSKEY record.
    pub dnskey: String,
    /// RDATA of the DS record.
    pub ds: String,
}

/// Whether the tree can be here; fails with the reason: another program holds port 53, or we may not.
pub fn is_possible(number: u8) -> Result<(), String> {
    let address = SocketAddr::from((root(number), 53));
    UdpSocket::bind(address).map(drop).map_err(|error| format!("{address} cannot be had: {error}"))
}

impl Tree {
    /// Starts the servers in `folder`.
    pub fn start(number: u8, folder: &Path, delegations: &[Delegation]) -> Result<Self, String> {
        let top = write_top(number, folder, delegations, 1)?;
        let (root, top_address) = (root(number), top_address(number));
        let text = format!(
            "$TTL {TTL}\n. SOA ns. hostmaster. 1 14400 3600 1209600 {TTL}\n. NS ns.\nns. A {root}\n\
             test. NS ns.test.\nns.test. A {top_address}\ntest. DS {}\n",
            top.ds
        );
        let anchor = SignedZone::sign(folder, ".", &text)?;
        let servers = [("root", root, ".", &anchor.file), ("test", top_address, "test.", &top.file)];
        let [root, top] = servers.map(|(name, address, zone, file)| serve(name, folder, &[address], &[(zone, file)]));
        Ok(Self { number, folder: folder.to_path_buf(), serial: 1, anchor, top: top?, _root: root? })
    }

    /// Replaces what `test.` delegates, and waits until it is served. Caches keep the old for [`TTL`] seconds.
    pub fn delegate(&mut self, delegations: &[Delegation]) -> Result<(), String> {
        self.serial += 1;
        write_top(self.number, &self.folder, delegations, self.serial)?;
        self.top.signal(Signal::SIGHUP)?;
        let client = DnsClient::new((top_address(self.number), 53).into());
        let look = || match client.ask("test.", RecordType::SOA, None)?.message.answers.first().map(|soa| &soa.data) {
            Some(RData::SOA(soa)) if soa.serial == self.serial => Ok(()),
            other => Err(format!("NSD serves {other:?}, expected serial {}", self.serial)),
        };
        within(LIMIT, look).map(drop)
    }

    /// The key of the root.
    pub fn anchor(&self) -> &SignedZone {
        &self.anchor
    }

    /// The master file with the servers of the root.
    pub fn hints(&self) -> String {
        format!(". 3600000 NS ns.\nns. 3600000 A {}\n", root(self.number))
    }

    /// The only server of the root, `ns.`.
    pub fn root(&self) -> IpAddr {
        root(self.number)
    }
}

impl SignedZone {
    /// Signs `text` as the zone `origin`, which ends in a dot, by NSEC and with the key in `folder`: a new one of
    /// algorithm 13 if there is none yet. The file in `folder` is replaced whole.
    pub fn sign(folder: &Path, origin: &str, text: &str) -> Result<Self, String> {
        let (plain, signed) = (folder.join(format!("{origin}zone")), folder.join(format!("{origin}signed")));
        let name = folder.join(format!("{origin}key"));
        fs::write(&plain, text).map_err(|error| format!("{}: {error}", plain.display()))?;
        let folder = folder.as_os_str();
        if !name.exists() {
            let made = run(
                "dnssec-keygen",
                &["-q".as_ref(), "-a13".as_ref(), "-fKSK".as_ref(), "-K".as_ref(), folder, origin.as_ref()],
            )?;
            fs::write(&name, made.trim()).map_err(|error| format!("{}: {error}", name.display()))?;
        }
        let key = fs::read_to_string(&name).map_err(|error| format!("{}: {error}", name.display()))?;
        let new = signed.with_extension("new");
        let options = ["-q", "-P", "-z", "-S", "-o", origin, "-d"].map(AsRef::as_ref);
        let files = [folder, "-K".as_ref(), folder, "-f".as_ref(), new.as_os_str(), plain.as_os_str()];
        run("dnssec-signzone", &[options.as_slice(), files.as_slice()].concat())?;
        fs::rename(&new, &signed).map_err(|error| format!("{}: {error}", signed.display()))?;
        let key = PathBuf::from(folder).join(key + ".key");
        let dnskey = fs::read_to_string(&key).map_err(|error| format!("{}: {error}", key.display()))?;
        let dnskey = rdata(&dnskey, "DNSKEY").ok_or_else(|| format!("{}: no DNSKEY", key.display()))?;
        let ds = run("dnssec-dsfromkey", &["-2".as_ref(), key.as_os_str()])?;
        let ds = rdata(&ds, "DS").ok_or_else(|| format!("no DS: {ds}"))?;
        Ok(Self { file: signed, dnskey, ds })
    }
}

/// NSD at port 53 of `addresses`, with zones by name and file.
pub fn serve(name: &str, folder: &Path, addresses: &[IpAddr], zones: &[(&str, &Path)]) -> Result<Process, String> {
    let base = folder.display();
    let mut text = format!(
        "server:\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{base}\"\n  xfrdir: \"{base}\"\n\
         \x20 pidfile: \"\"\n  database: \"\"\n  xfrdfile: \"{base}/{name}.xfrd\"\n  zonelistfile: \"{base}/{name}.list\"\n\
         \x20 refuse-any: yes\nremote-control:\n  control-enable: no\n"
    );
    for (zone, file) in zones {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "zone:\n  name: \"{zone}\"\n  zonefile: \"{}\"", file.display());
    }
    for address in addresses {
        let _ = writeln!(text, "server:\n  ip-address: {address}@53");
    }
    let file = folder.join(format!("{name}.nsd"));
    fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    let arguments = ["-d".as_ref(), "-c".as_ref(), file.as_os_str()];
    let server = Process::start(&format!("nsd for {name}"), &require("nsd")?, &arguments);
    let server = server.map_err(|error| format!("nsd: {error}"))?;
    for address in addresses {
        let client = DnsClient::new((*address, 53).into()).limit(Duration::from_millis(500));
        for (zone, _) in zones {
            let look = || match client.ask(zone, RecordType::SOA, None)? {
                answer if answer.message.answers.is_empty() => Err(format!("no SOA: {}", answer.rcode())),
                _ => Ok(()),
            };
            within(LIMIT, look).map_err(|why| format!("{} {zone} {why}\n{}", server.name(), server.log_tail()))?;
        }
    }
    Ok(server)
}

fn write_top(number: u8, folder: &Path, delegations: &[Delegation], serial: u32) -> Result<SignedZone, String> {
    let mut text = format!(
        "$TTL {TTL}\n$ORIGIN test.\n@ SOA ns hostmaster {serial} 14400 3600 1209600 {TTL}\n@ NS ns\nns A {}\n",
        top_address(number)
    );
    for Delegation { zone, servers, ds } in delegations {
        for (at, server) in servers.iter().enumerate() {
            let name = format!("ns{}.{zone}.", at + 1);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{zone}. NS {name}\n{name} A {server}");
        }
        for ds in ds {
            let _ = writeln!(text, "{zone}. DS {ds}");
        }
    }
    SignedZone::sign(folder, "test.", &text)
}

/// Runs a program to its end and gives what it prints.
pub fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> Result<String, String> {
    let output = Command::new(require(program)?).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(format!("{program}: {}\n{text}{errors}", output.status)) }
}

/// What follows the word `rtype` in the line of a master file that has it.
fn rdata(text: &str, rtype: &str) -> Option<String> {
    let line = text.lines().find(|line| !line.starts_with(';') && line.split_whitespace().any(|word| word == rtype))?;
    let words: Vec<_> = line.split_whitespace().skip_while(|word| *word != rtype).skip(1).collect();
    Some(words.join(" "))
}

fn root(number: u8) -> IpAddr {
    IpAddr::from([127, number, 0, 10])
}

fn top_address(number: u8) -> IpAddr {
    IpAddr::from([127, number, 0, 11])
}

/// Of every record in the root and in `test.`, in seconds.
pub const TTL: u32 = 1;
const LIMIT: Duration = Duration::from_secs(10);
