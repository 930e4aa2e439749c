//! Tools that this machine may have: `dig`, `curl`, and other name servers and resolvers.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the program `name` is; `None`: nowhere.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The same; fails with the package that holds it.
pub fn require(name: &str) -> Result<PathBuf, String> {
    let package = match name {
        "dig" | "delv" | "nsupdate" => "bind9-dnsutils",
        "named" => "bind9",
        "dnssec-dsfromkey" | "dnssec-keygen" | "dnssec-signzone" => "bind9-utils",
        "kdig" => "knot-dnsutils",
        "kresd" => "knot-resolver",
        "pdns_recursor" => "pdns-recursor",
        "ldns-verify-zone" => "ldnsutils",
        "knotd" => "knot",
        "chromedriver" => "chromium-driver",
        "h2load" => "nghttp2-client",
        other => other,
    };
    find(name).ok_or_else(|| format!("{name} is missing: install the Debian package {package}, or run tests/run"))
}

/// The Python of Debian, which has `module`; fails with the package that holds it.
pub fn require_module(module: &str) -> Result<PathBuf, String> {
    let python = PathBuf::from("/usr/bin/python3");
    let found = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    let message = format!("{module} is missing: install the Debian package python3-{module}, or run tests/run");
    if found.is_ok_and(|output| output.status.success()) { Ok(python) } else { Err(message) }
}

/// Asks `server` with `dig` and gives all that it prints.
pub fn dig(server: SocketAddr, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(require("dig")?);
    let (address, port) = (format!("@{}", server.ip()), server.port().to_string());
    command.args([address.as_str(), "-p", &port, "+time=2", "+tries=1"]).args(arguments);
    let output = command.output().map_err(|error| format!("dig: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(text) } else { Err(format!("dig {arguments:?}: {}\n{text}", output.status)) }
}

/// The addresses that `dig +short` prints.
pub fn dig_short(server: SocketAddr, arguments: &[&str]) -> Result<Vec<IpAddr>, String> {
    let text = dig(server, &[arguments, &["+short"]].concat())?;
    Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
}

/// Has `delv` ask `server` and validate from the keys of the zone `top` in the file `anchor`: what it says of that, and the
/// records.
pub fn delv(server: SocketAddr, top: &str, anchor: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(require("delv")?);
    let (address, port) = (format!("@{}", server.ip()), server.port().to_string());
    command.args([&address, "-p", &port, &format!("+root={top}"), "-a"]).arg(anchor).args(arguments);
    let output = command.output().map_err(|error| format!("delv: {error}"))?;
    Ok(String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).into_owned())
}

/// What `curl` gets from `url` when it takes `address` for the host in it.
pub fn curl(url: &str, host: &str, address: SocketAddr) -> Result<String, String> {
    let mut command = Command::new(require("curl")?);
    command.args(["--silent", "--show-error", "--fail", "--max-time", "3", "--noproxy", "*"]);
    let connect_to = format!("{host}:{}:{}:{}", address.port(), address.ip(), address.port());
    let output = command.args(["--connect-to", &connect_to, url]).output().map_err(|error| format!("curl: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(text) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}
