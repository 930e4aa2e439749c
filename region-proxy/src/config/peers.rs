//! `[peers]`: the proxies beside this one, with which it shares what it learns of clients and servers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use shared::name::ProxyName;
use shared::settings::{Table, Value};
use shared::token::Token;

use super::{address, clash};

/// The proxies that tell each other of clients and servers; the same settings for each of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peers {
    /// Where the others reach this one, and from where it reaches them.
    pub own: SocketAddr,
    /// Where the others are reached; never empty, [`Self::OTHERS_MAX`] at most.
    pub others: BTreeMap<ProxyName, SocketAddr>,
    /// What all of them know and nobody else.
    pub secret: Token,
    /// The file that it was read from.
    pub secret_file: PathBuf,
}

impl Peers {
    /// A stick table keeps one bit for each.
    pub const OTHERS_MAX: usize = 8;
}

/// Reads `[peers]` of the proxy `own`; `taken` is listened on already, and `secret` reads the secret.
pub(super) fn peers(
    root: &Table<'_>,
    own: Option<&ProxyName>,
    taken: &[SocketAddr],
    folder: &Path,
    secret: &dyn Fn(&Value<'_>) -> Option<Token>,
) -> Option<Peers> {
    let table = root.table("peers")?;
    let file = table.required("secret_file", "the path of a file with what all proxies here know and nobody else");
    let secret_file = file.as_ref().filter(|file| file.is_text()).and_then(Value::text).map(|path| folder.join(path));
    let secret = file.and_then(|file| secret(&file));
    let proxies =
        table.required("proxies", "this proxy and those beside it, such as { seoul-1 = \"192.0.2.11:1024\" }");
    let proxies = proxies.as_ref().and_then(Value::table)?;
    let mut others = addresses(&proxies);
    let own_address = others.remove(own?);
    match own_address {
        None => table.problem("proxies", format_args!("{} is not among them: expected all, this one too", own?)),
        Some(address) if taken.iter().any(|&taken| clash(taken, address)) => {
            proxies.problem(own?.as_str(), format_args!("{address} is listened on already: expected one of its own"));
        }
        Some(_) if others.is_empty() => {
            table.problem("proxies", "nobody else: expected at least one proxy beside this")
        }
        Some(_) => {}
    }
    if others.len() > Peers::OTHERS_MAX {
        let (count, most) = (others.len(), Peers::OTHERS_MAX);
        table.problem("proxies", format_args!("{count} beside this one: expected {most} at most"));
    }
    Some(Peers { own: own_address?, others, secret: secret?, secret_file: secret_file? })
}

/// Those that are right; the others were reported.
fn addresses(proxies: &Table<'_>) -> BTreeMap<ProxyName, SocketAddr> {
    let mut all: BTreeMap<ProxyName, SocketAddr> = BTreeMap::new();
    for (name, value) in proxies.entries() {
        let name = ProxyName::parse(name).map_err(|error| value.problem(error));
        let (Ok(name), Some(address)) = (name, address(&value)) else { continue };
        let ip = address.ip();
        if ip.is_unspecified() || ip.is_multicast() || address.port() == 0 {
            value.problem(format_args!("{address}: expected the address of one machine, and a port"));
        } else if all.values().any(|known| *known == address) {
            value.problem(format_args!("{address} is there twice"));
        } else if all.values().any(|known| known.is_ipv4() != address.is_ipv4()) {
            value.problem(format_args!("{address}: expected all of them to be IPv4, or all IPv6"));
        } else {
            all.insert(name, address);
        }
    }
    all
}
