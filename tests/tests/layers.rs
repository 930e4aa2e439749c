//! The layers of the programs: imports point down, the core touches no world, `unsafe` stays where it must be.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "layers/source.rs"]
mod source;

use source::{Mention, mentions};

/// Modules of `gslb-dns`, lowest layer first; a module may import those of lower layers, and `shared`. The last layer
/// is the edge, which may import everything, and alone touches the world.
const GSLB_DNS: Layers = &[
    &["wire", "geo"],
    &["zone", "client", "cookie", "limit", "tsig"],
    &["decide", "sign", "transfer", "update"],
    &["answer"],
    &["explain", "simulate"],
    &[
        "serve",
        "probe",
        "reload",
        "admin",
        "store",
        "journal",
        "settings",
        "keys",
        "open_files",
        "secret_file",
        "cli",
        "main",
    ],
];

/// The same of `region-proxy`.
const REGION_PROXY: Layers = &[
    &["http1", "look_alike", "network", "proxy_protocol", "sni"],
    &["route", "routes", "stick", "balance", "forward", "forwarded", "http2", "rate", "clients", "l4", "vrrp"],
    &["standing"],
    &["config", "plan"],
    &["changes", "explain"],
    &["ledger"],
    &[
        "access",
        "admin",
        "cli",
        "clock",
        "control",
        "count",
        "ctl",
        "doctor",
        "guests",
        "health",
        "lane",
        "listen",
        "live",
        "local",
        "main",
        "netlink",
        "once",
        "peering",
        "pipe",
        "relay",
        "reload",
        "serve",
        "socket",
        "status",
        "stick_table",
        "stream",
        "switching",
        "takeover",
        "tally",
        "tcp",
        "tls",
        "upstream",
        "vip",
        "worker",
    ],
];

type Layers = &'static [&'static [&'static str]];

/// The files that may hold `unsafe`, each block with its reason.
const UNSAFE: &[&str] = &["gslb-dns/src/serve/mmsg.rs"];

/// What belongs to the edge: no clock, socket, file, thread, log or chance below it.
const WORLD: &[&str] = &[
    "arc_swap",
    "axum",
    "fastrand",
    "hyper::client",
    "hyper::rt",
    "hyper::server",
    "hyper::upgrade",
    "hyper_util",
    "libc",
    "nix",
    "notify",
    "prometheus_client",
    "quinn",
    "rand",
    "reqwest",
    "rustix",
    "rustls",
    "sd_notify",
    "socket2",
    "std::env",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::sync::Condvar",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
    "tokio_rustls",
    "tracing",
];

/// One source file of a program.
struct Source<'a> {
    /// From the root of the project.
    file: &'a str,
    text: &'a str,
}

/// What the rules say about one crate.
struct Rules {
    /// `gslb_dns`, as paths name it.
    name: &'static str,
    /// Its modules by layer; empty: all of it is core.
    layers: Layers,
    /// Crates that it must not import.
    strangers: &'static [&'static str],
}

const CRATES: [(&str, Rules); 3] = [
    ("shared", Rules { name: "shared", layers: &[], strangers: &["gslb_dns", "region_proxy"] }),
    ("gslb-dns", Rules { name: "gslb_dns", layers: GSLB_DNS, strangers: &["region_proxy"] }),
    ("region-proxy", Rules { name: "region_proxy", layers: REGION_PROXY, strangers: &["gslb_dns"] }),
];

/// Every breach of the rules in `source`.
fn breaches(rules: &Rules, source: &Source<'_>) -> Vec<String> {
    let module_path = module_path(source.file);
    let module = module_path.first().map_or("lib", String::as_str);
    let is_listed = rules.layers.is_empty() || module == "lib" || layer_of(rules, module).is_some();
    let mut found = Vec::new();
    if !is_listed {
        found.push(format!("{}: module {module} is in no layer: expected it in the table of this test", source.file));
    }
    let is_edge = !rules.layers.is_empty() && layer_of(rules, module) == Some(rules.layers.len() - 1);
    for mention in mentions(source.text) {
        let mut breach = |what: String| found.push(format!("{}:{}: {what}", source.file, mention.line));
        let is_in_tests = mention.is_in_tests || is_test_file(source.file);
        let is_path = mention.path.len() > 1 || mention.is_import;
        if is_path && rules.strangers.contains(&mention.path[0].as_str()) {
            breach(format!("{} never imports {}", rules.name, mention.path[0]));
        }
        if mention.path[0] == "unsafe" && !UNSAFE.contains(&source.file) {
            breach("unsafe code belongs into the files named in this test".to_owned());
        }
        if is_path && !is_edge && !is_in_tests && is_of_world(&mention.path) {
            breach(format!("{module} is core and must not name {}", mention.path.join("::")));
        }
        if module != "lib" && !is_in_tests && !rules.layers.is_empty() {
            found.extend(
                upward(rules, &module_path, &mention).map(|what| format!("{}:{}: {what}", source.file, mention.line)),
            );
        }
    }
    found
}

/// What is wrong with where `mention` leads inside its own crate.
fn upward(rules: &Rules, module_path: &[String], mention: &Mention) -> Option<String> {
    let own = module_path.first()?;
    let target = resolve(rules, module_path, mention)?;
    let Some(target) = target.first().filter(|target| *target != "*") else {
        return Some("imports all of its crate: expected the modules by name".to_owned());
    };
    let is_edge = layer_of(rules, own) == Some(rules.layers.len() - 1);
    match (layer_of(rules, own), layer_of(rules, target)) {
        _ if own == target => None,
        (_, None) => {
            Some(format!("{own} imports {target}, which is in no layer: expected a module in the table of this test"))
        }
        (Some(_), Some(_)) if is_edge => None,
        (Some(low), Some(high)) if high >= low => {
            Some(format!("{own} (layer {}) imports {target} (layer {})", low + 1, high + 1))
        }
        _ => None,
    }
}

/// The path from the root of the crate to what `mention` names; `None` when it leads elsewhere or nowhere.
fn resolve(rules: &Rules, module_path: &[String], mention: &Mention) -> Option<Vec<String>> {
    let (first, rest) = mention.path.split_first()?;
    let here: Vec<String> = module_path.iter().chain(&mention.within).cloned().collect();
    match first.as_str() {
        _ if rest.is_empty() => None,
        "crate" => Some(rest.to_vec()),
        name if name == rules.name => Some(rest.to_vec()),
        "self" => Some([here.as_slice(), rest].concat()),
        "super" => {
            let ups = mention.path.iter().take_while(|segment| *segment == "super").count();
            let base = &here[..here.len().saturating_sub(ups)];
            Some([base, &mention.path[ups..]].concat())
        }
        _ => None,
    }
}

fn layer_of(rules: &Rules, module: &str) -> Option<usize> {
    rules.layers.iter().position(|layer| layer.contains(&module))
}

/// Whether `path` names something of [`WORLD`], or a module around it as a whole.
fn is_of_world(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).filter(|segment| *segment != "self").collect();
    WORLD.iter().map(|world| world.split("::").collect::<Vec<_>>()).any(|world| match path.split_last() {
        Some((&"*", module)) => world.starts_with(module) || module.starts_with(&world),
        _ => path.starts_with(&world) || (path.len() > 1 && world.starts_with(&path)),
    })
}

/// The modules from the root of its crate to `file`: `gslb-dns/src/zone/set.rs` is `zone`, `set`.
fn module_path(file: &str) -> Vec<String> {
    let inside = file.split_once("/src/").map_or(file, |(_, inside)| inside);
    let inside = inside.strip_suffix(".rs").unwrap_or(inside);
    let segments = inside.split('/').filter(|segment| *segment != "mod" && *segment != "lib");
    segments.map(str::to_owned).collect()
}

fn is_test_file(file: &str) -> bool {
    file.split('/').skip(1).any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder that can be read").path());
    let nested = |path: PathBuf| if path.is_dir() { sources(&path) } else { vec![path] };
    let mut found: Vec<PathBuf> =
        paths.flat_map(nested).filter(|path| path.extension().is_some_and(|e| e == "rs")).collect();
    found.sort();
    found
}

#[test]
fn imports_point_down_and_the_core_touches_no_world() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a folder of the project");
    let mut found = Vec::new();
    for (folder, rules) in &CRATES {
        for path in sources(&root.join(folder).join("src")) {
            let text = fs::read_to_string(&path).expect("a source that can be read");
            let file = path.strip_prefix(root).expect("it is under the root").to_string_lossy().into_owned();
            found.extend(breaches(rules, &Source { file: &file, text: &text }));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn what_reads_the_files_knows_nothing_of_what_serves_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a folder of the project");
    let paths = sources(&root.join("gslb-dns/src/reload"));
    for path in paths.into_iter().filter(|path| !is_test_file(&path.to_string_lossy())) {
        let text = fs::read_to_string(&path).expect("a source that can be read");
        let served =
            mentions(&text).into_iter().find(|mention| mention.path.starts_with(&["crate".into(), "serve".into()]));
        assert!(served.is_none(), "{} imports serve, which imports reload", path.display());
    }
}

fn planted(file: &str, text: &str) -> Vec<String> {
    let rules = CRATES.iter().find(|(folder, _)| file.starts_with(&format!("{folder}/"))).map(|(_, rules)| rules);
    breaches(rules.expect("a crate of the project"), &Source { file, text })
}

#[test]
fn an_import_that_points_up_or_sideways_is_found() {
    for text in [
        "use crate::answer::Outcome;",
        "use crate::{wire::Query, answer};",
        "fn f() { crate::answer::answer() }",
        "use crate::client::Client;",
        "use gslb_dns::serve::Server;",
        "mod inner { use super::super::super::answer::Outcome; }",
        "use super::super::answer::Outcome;",
        "use crate::*;",
        "use crate::nowhere::Thing;",
    ] {
        assert_eq!(planted("gslb-dns/src/zone/set.rs", text).len(), 1, "{text}");
    }
    assert_eq!(planted("gslb-dns/src/zone.rs", "use super::answer;").len(), 1);
}

#[test]
fn an_import_that_points_down_or_stays_is_fine() {
    for text in [
        "use crate::wire::{Name, Query};",
        "use crate::zone::Zone; use super::entry::Entry; use self::inner::X;",
        "use shared::topology::Topology; use std::net::{IpAddr, SocketAddr}; use std::time::Duration;",
        "// use crate::answer::Outcome;\n/* use tokio; /* deep */ */ const A: &str = \"crate::answer::x\"; ",
        "const B: &str = r#\"crate::answer::x \"quoted\" \"#; const C: u8 = b'\"'; const D: char = '\\'';",
        "fn f<'a>(tracing: &'a str) -> &'a str { tracing }",
        "mod inner { use super::super::entry::Entry; }",
        "#[cfg(test)] mod tests { use super::*; use crate::answer::answer; use std::fs; }",
    ] {
        assert_eq!(planted("gslb-dns/src/zone/set.rs", text), [""; 0], "{text}");
    }
    let edge = "use crate::answer::answer; use crate::reload::Reload; use tokio::net::UdpSocket; use std::fs;";
    assert_eq!(planted("gslb-dns/src/serve/udp.rs", edge), [""; 0]);
}

#[test]
fn the_world_is_found_in_the_core() {
    for text in [
        "use tokio::net::UdpSocket;",
        "use tokio;",
        "fn f() { tracing::info!(\"x\") }",
        "use std::{collections::HashMap, fs};",
        "use std::fs::{self};",
        "use std::net::{IpAddr, TcpStream};",
        "use std::net::*;",
        "use std::time;",
        "use std::time::{Duration, Instant as Clock};",
        "fn f() { let now = ::std::time::SystemTime::now(); }",
        "fn f() { std::thread::spawn(|| {}); }",
        "#[cfg(test)] mod tests { use std::fs; } use std::fs;",
        "#[cfg(test)] use std::fs; use std::env;",
    ] {
        for file in ["gslb-dns/src/wire/name.rs", "shared/src/state.rs", "region-proxy/src/route.rs"] {
            assert_eq!(planted(file, text).len(), 1, "{file} {text}");
        }
    }
}

#[test]
fn the_programs_never_import_each_other() {
    assert_eq!(planted("gslb-dns/src/cli.rs", "use region_proxy::config::Settings;").len(), 1);
    assert_eq!(planted("region-proxy/src/cli.rs", "fn f() { gslb_dns::wire::x() }").len(), 1);
    assert_eq!(planted("shared/src/name.rs", "use gslb_dns::wire;").len(), 1);
    assert_eq!(planted("gslb-dns/src/cli/tests.rs", "use region_proxy::config::Settings;").len(), 1);
}

#[test]
fn unsafe_code_is_found_outside_its_files() {
    let text = "fn f() { unsafe { g() } }";
    assert_eq!(planted("gslb-dns/src/serve/udp.rs", text).len(), 1);
    assert_eq!(planted("gslb-dns/src/serve/mmsg.rs", text), [""; 0]);
    assert_eq!(planted("gslb-dns/src/serve/udp.rs", "#![deny(unsafe_code)] // unsafe"), [""; 0]);
}

#[test]
fn a_module_in_no_layer_is_found() {
    assert_eq!(planted("gslb-dns/src/misc.rs", "").len(), 1);
}
