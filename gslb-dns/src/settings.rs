//! The settings file of a node: how it serves, its zones, its geo files and its topology.
//!
//! Pure: a text comes in, settings or every mistake in it come out. [`crate::reload`] reads the files that it names.

mod dnssec;
mod identity;
mod limits;
mod lines;
mod tcp;
mod tls;
mod transfers;
mod updates;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::config::read_topology;
use shared::name::OwnerName;
use shared::problem::{Problem, Problems};
use shared::settings::{Document, Table, Value};
use shared::topology::{ServiceOutline, Topology};

use crate::answer::Identity;
use crate::limit::Limits;
use crate::update::Policy;

pub use dnssec::DnssecSettings;
pub use limits::CookieSettings;
pub use lines::KeyLines;
pub(crate) use lines::{service_key, zone_key};
pub use tcp::TcpSettings;
pub use tls::TlsSettings;
pub use transfers::{SecondarySettings, TsigKeySettings};

/// Everything in the settings file, checked. Paths are as written: relative ones start at the folder of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How the node serves.
    pub server: ServerSettings,
    /// Its zones; never empty, each name once.
    pub zones: Vec<ZoneSettings>,
    /// The keys that messages are signed with.
    pub tsig_keys: Vec<TsigKeySettings>,
    /// Its files of places.
    pub geo: GeoSettings,
    /// Its regions and services.
    pub topology: Arc<Topology>,
}

/// The table `[server]`. All but the token, the cookies, the certificate and what it says of itself takes a restart to
/// change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerSettings {
    /// Where DNS queries are answered, by UDP and TCP; never empty.
    pub listen: Vec<SocketAddr>,
    /// Where the admin listener is; `None`: there is none.
    pub admin: Option<SocketAddr>,
    /// The file with the token that changes by the admin listener need; `None`: all changes are refused.
    pub admin_token_file: Option<PathBuf>,
    /// Where verdicts and overrides are kept over a restart.
    pub state_file: Option<PathBuf>,
    /// The user to become once the sockets are bound.
    pub user: Option<String>,
    /// UDP threads an address, and TCP threads in all; `None`: one a core, where those for UDP stay.
    pub threads: Option<NonZeroUsize>,
    /// What it says of itself.
    pub identity: Arc<Identity>,
    /// Cookies.
    pub cookies: CookieSettings,
    /// How much is answered over UDP; `None`: everything.
    pub rate_limit: Option<Limits>,
    /// What TCP connections may use, and those over TLS, HTTPS and QUIC with them.
    pub tcp: TcpSettings,
    /// Encrypted transports; `None`: there are none.
    pub tls: Option<TlsSettings>,
}

/// One `[[zones]]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ZoneSettings {
    /// The apex.
    pub name: OwnerName,
    /// The master file.
    pub file: PathBuf,
    /// Who may transfer it, and is told when it has changed.
    pub secondaries: Vec<SecondarySettings>,
    /// Who may update it; by default nobody.
    pub updates: Policy,
    /// Where updates are kept. There may be one without `updates`, so that what was updated before is still served.
    pub journal: Option<PathBuf>,
    /// How it is signed; `None`: it is not.
    pub dnssec: Option<DnssecSettings>,
}

/// The table `[geo]`: files that tell where clients are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GeoSettings {
    /// An mmdb of countries or cities.
    pub database: Option<PathBuf>,
    /// An mmdb of autonomous systems.
    pub asn_database: Option<PathBuf>,
    /// The operator's own places (RFC 8805).
    pub overrides: Option<PathBuf>,
    /// Where countries are.
    pub countries: Option<PathBuf>,
}

/// What could be read of settings, whatever mistakes there are elsewhere: so that those in the files that they name, and
/// in what does not go together, are found in the same go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outline {
    /// The files that they name.
    pub files: NamedFiles,
    /// All services, sorted by name.
    pub services: Vec<ServiceOutline>,
    /// Where keys stand.
    pub lines: KeyLines,
}

/// The files that settings name, as far as they could be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedFiles {
    /// The master files.
    pub zones: Vec<ZoneSettings>,
    /// Whether these are all zones: none was left out for a mistake.
    pub are_zones_whole: bool,
    /// The files of places.
    pub geo: GeoSettings,
    /// The file with the token.
    pub admin_token_file: Option<PathBuf>,
    /// Where verdicts and overrides are kept.
    pub state_file: Option<PathBuf>,
    /// The file with the secrets of cookies.
    pub cookie_secret_file: Option<PathBuf>,
    /// The keys, each with its file.
    pub tsig_keys: Vec<TsigKeySettings>,
    /// The files with the certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl Settings {
    /// Reads `text`; `file` names it in problems. Fails with every mistake, by line.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        Self::parse_with_outline(file, text).1
    }

    /// The same, and what could be read even when there are mistakes elsewhere.
    pub fn parse_with_outline(file: &str, text: &str) -> (Outline, Result<Self, Vec<Problem>>) {
        let problems = Problems::new(file, text);
        let document = Document::parse(text, &problems);
        let is_toml = problems.is_empty();
        let unheard = Problems::new(file, text);
        // Where it is not, keys and tables may seem to be missing that the text has.
        let (mut files, settings) = read_settings(&document.root(if is_toml { &problems } else { &unheard }));
        files.are_zones_whole &= is_toml;
        // What is wrong in the text is reported by now, and need not be again.
        let (services, lines) = lines::read(file, &document.root(&unheard));
        drop(document);
        let settings = settings.filter(|_| problems.is_empty()).ok_or_else(|| problems.into_vec());
        (Outline { files, services, lines }, settings)
    }
}

impl NamedFiles {
    /// Every file, and the path of the key that names it.
    pub fn places(&self) -> Vec<(&Path, String)> {
        let server = [
            ("server.admin_token_file", &self.admin_token_file),
            ("server.cookies.secret_file", &self.cookie_secret_file),
            ("geo.database", &self.geo.database),
            ("geo.asn_database", &self.geo.asn_database),
            ("geo.overrides", &self.geo.overrides),
            ("geo.countries", &self.geo.countries),
        ];
        let named = server.into_iter().filter_map(|(key, path)| Some((path.as_deref()?, key.to_owned())));
        let certificate = self.certificate.iter().flat_map(|(certificate, key)| {
            [(&**certificate, "server.tls.certificate".to_owned()), (&**key, "server.tls.key".to_owned())]
        });
        let secret = |key: &'_ TsigKeySettings| format!("tsig_keys.{}.secret_file", key.name);
        let secrets = self.tsig_keys.iter().map(|key| (&*key.secret_file, secret(key)));
        let zones = self.zones.iter().map(|zone| (&*zone.file, zone_key(&zone.name, "file")));
        named.chain(certificate).chain(secrets).chain(zones).collect()
    }
}

impl ServerSettings {
    /// The keys of `[server]` in which `self` differs from `other` and that take a restart to change.
    pub fn differing_keys(&self, other: &Self) -> Vec<&'static str> {
        let differs = [
            ("listen", self.listen != other.listen),
            ("admin", self.admin != other.admin),
            ("state_file", self.state_file != other.state_file),
            ("user", self.user != other.user),
            ("threads", self.threads != other.threads),
            ("rate_limit", self.rate_limit != other.rate_limit),
            ("tcp", self.tcp != other.tcp),
            ("tls", self.tls_addresses() != other.tls_addresses()),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// Where encrypted transports are answered: over TLS, HTTPS, QUIC.
    fn tls_addresses(&self) -> Option<[&[SocketAddr]; 3]> {
        self.tls.as_ref().map(|tls| [&*tls.dot, &*tls.doh, &*tls.doq])
    }
}

fn read_settings(root: &Table<'_>) -> (NamedFiles, Option<Settings>) {
    let mut files = NamedFiles::default();
    let server = root.required("server", "a table [server]").and_then(|value| read_server(&value.table()?, &mut files));
    let (tsig_keys, key_names) = transfers::read_keys(root);
    files.tsig_keys = tsig_keys;
    (files.zones, files.are_zones_whole) = read_zones(root, &key_names);
    files.geo = root.table("geo").map(|table| read_geo(&table)).unwrap_or_default();
    let topology = read_topology(root);
    let (zones, tsig_keys, geo) = (files.zones.clone(), files.tsig_keys.clone(), files.geo.clone());
    let together = |(server, topology)| Settings { server, zones, tsig_keys, geo, topology: Arc::new(topology) };
    (files, server.zip(topology).map(together))
}

fn read_server(table: &Table<'_>, files: &mut NamedFiles) -> Option<ServerSettings> {
    let listen = table.required("listen", LISTEN_EXPECTED).and_then(|value| read_listen(&value));
    let admin_token_file = table.value("admin_token_file").and_then(|value| read_path(&value));
    files.admin_token_file.clone_from(&admin_token_file);
    let admin = table.value("admin").and_then(|value| read_admin(&value, admin_token_file.is_some()));
    let state_file = table.value("state_file").and_then(|value| read_path(&value));
    files.state_file.clone_from(&state_file);
    let user = table.value("user").and_then(|value| value.parsed_as("the name of a user", non_empty));
    let threads = table.value("threads").and_then(|value| value.integer(1..=THREADS_MAX));
    let threads = threads.and_then(|count| NonZeroUsize::new(usize::try_from(count).ok()?));
    let identity = Arc::new(identity::read_identity(table));
    let cookies = limits::read_cookies(table);
    files.cookie_secret_file.clone_from(&cookies.secret_file);
    let rate_limit = limits::read_rate_limit(table);
    let tcp = table.table("tcp").map(|table| TcpSettings::read(&table)).unwrap_or_default();
    let tls = table.table("tls").and_then(|table| TlsSettings::read(&table, listen.as_deref().unwrap_or_default()));
    files.certificate = tls.as_ref().map(|tls| (tls.certificate.clone(), tls.key.clone()));
    let listen = listen?;
    Some(ServerSettings {
        listen,
        admin,
        admin_token_file,
        state_file,
        user,
        threads,
        identity,
        cookies,
        rate_limit,
        tcp,
        tls,
    })
}

fn read_admin(value: &Value<'_>, has_token: bool) -> Option<SocketAddr> {
    let address = read_address(value)?;
    if !has_token && !address.ip().to_canonical().is_loopback() {
        value.problem(format_args!(
            "{address} can be reached from outside: expected a loopback address, or an admin_token_file beside it"
        ));
    }
    Some(address)
}

fn read_listen(value: &Value<'_>) -> Option<Vec<SocketAddr>> {
    let items = value.items(LISTEN_EXPECTED)?;
    if items.is_empty() {
        value.problem(format_args!("the list is empty: expected {LISTEN_EXPECTED}"));
    }
    let mut seen = BTreeSet::new();
    let mut read = |item: &Value<'_>| {
        let address = read_address(item)?;
        // Port 0 asks for any free port, so that the same text twice means two of them.
        if address.port() != 0 && !seen.insert(address) {
            item.problem(format_args!("{address} stands twice: expected each address once"));
        }
        Some(address)
    };
    Some(items.iter().filter_map(&mut read).collect())
}

/// The zones, whose secondaries and updates have keys among `keys`, and whether these are all.
fn read_zones(root: &Table<'_>, keys: &BTreeSet<OwnerName>) -> (Vec<ZoneSettings>, bool) {
    let mut seen = BTreeSet::new();
    let mut zones = Vec::new();
    let tables = root.table_list("zones");
    if tables.is_empty() {
        root.problem("zones", "none: expected at least one [[zones]] with a name and a file");
    }
    let count = tables.len();
    for table in tables {
        let name = table.required("name", "the name of the zone, such as \"example.com\"");
        let file = table.required("file", "the path of its master file").and_then(|value| read_path(&value));
        let secondaries = transfers::read_secondaries(&table, keys);
        let dnssec = table.table("dnssec").and_then(|table| DnssecSettings::read(&table, !secondaries.is_empty()));
        let parsed = name.as_ref().and_then(|value| value.parsed(OwnerName::parse));
        let (updates, journal) = updates::read_updates(&table, parsed.as_ref(), keys);
        if dnssec.is_some() && !secondaries.is_empty() && table.value("journal").is_none() {
            table.problem("secondaries", JOURNAL_EXPECTED);
        }
        if let (Some(value), Some(parsed)) = (&name, &parsed)
            && !seen.insert(parsed.clone())
        {
            value.problem(format_args!("zone {parsed} stands twice: expected each zone once"));
        }
        zones.extend(parsed.zip(file).map(|(name, file)| ZoneSettings {
            name,
            file,
            secondaries,
            updates,
            journal,
            dnssec,
        }));
    }
    let are_all = count > 0 && zones.len() == count;
    (zones, are_all)
}

fn read_geo(table: &Table<'_>) -> GeoSettings {
    let path = |key| table.value(key).and_then(|value| read_path(&value));
    GeoSettings {
        database: path("database"),
        asn_database: path("asn_database"),
        overrides: path("overrides"),
        countries: path("countries"),
    }
}

fn read_address(value: &Value<'_>) -> Option<SocketAddr> {
    value.parsed_as("an address and a port, such as \"192.0.2.1:53\" or \"[2001:db8::1]:53\"", |text| text.parse().ok())
}

fn read_path(value: &Value<'_>) -> Option<PathBuf> {
    value.parsed_as("the path of a file", |text| non_empty(text).map(PathBuf::from))
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// More threads than any machine has cores; a larger number is a slip.
const THREADS_MAX: i64 = 1024;

const JOURNAL_EXPECTED: &str = "given beside `dnssec` without a journal, which keeps the serial that new signatures raise: \
                                expected such as journal = \"example.com.journal\" too";
const LISTEN_EXPECTED: &str = "a list of addresses, such as [\"192.0.2.1:53\", \"[2001:db8::1]:53\"]";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: &str = r#"
        [server]
        listen = ["127.0.0.1:5300", "[::1]:5300"]
        admin = "127.0.0.1:5380"
        admin_token_file = "token"
        state_file = "state.json"
        user = "gslb"
        threads = 2
        [[zones]]
        name = "Example.com."
        file = "example.com.zone"
        [geo]
        database = "geo.mmdb"
        overrides = "overrides.csv"
        [regions.seoul]
        coordinates = [37.57, 126.98]
        vips = ["192.0.2.1"]
        proxies = { seoul-1 = "http://192.0.2.11:8081/status" }
        [services."www.example.com"]
    "#;

    fn mistakes(text: &str) -> Vec<String> {
        let found = Settings::parse("topology.toml", text).expect_err("it has mistakes");
        found.iter().map(|problem| format!("{}: {}", problem.key, problem.what)).collect()
    }

    proptest! {
        #[test]
        fn any_text_is_settings_or_mistakes(text in "\\PC*") {
            let _ = Settings::parse("a", &text);
        }

        #[test]
        fn any_cut_of_settings_is_settings_or_mistakes(at in 0..WHOLE.len(), cut in 1..40_usize) {
            let end = WHOLE.len().min(at + cut);
            let text = format!("{}{}", &WHOLE[..at], &WHOLE[end..]);
            if let Err(problems) = Settings::parse("a", &text) {
                prop_assert!(!problems.is_empty());
            }
        }
    }

    #[test]
    fn every_key_is_read() {
        let settings = Settings::parse("topology.toml", WHOLE).expect("it is right");
        let server = &settings.server;
        assert_eq!(server.listen.len(), 2);
        assert_eq!(server.admin, Some("127.0.0.1:5380".parse().expect("an address")));
        assert_eq!(server.admin_token_file.as_deref(), Some("token".as_ref()));
        assert_eq!((server.user.as_deref(), server.threads.map(NonZeroUsize::get)), (Some("gslb"), Some(2)));
        assert_eq!(settings.zones[0].name.as_str(), "example.com");
        assert_eq!(settings.geo.database.as_deref(), Some("geo.mmdb".as_ref()));
        assert_eq!(settings.geo.asn_database, None);
        assert_eq!(settings.topology.services.len(), 1);
    }

    #[test]
    fn mistakes_of_all_tables_are_reported_at_once() {
        let text = r#"
            [server]
            listen = ["127.0.0.1", "127.0.0.1:53", "127.0.0.1:53"]
            admin = "0.0.0.0:5380"
            threads = 0
            nonsense = 1
            [[zones]]
            name = "a..b"
            [[zones]]
            name = "example.com"
            file = ""
            [geo]
            data = "x"
            [regions.seoul]
            vips = []
        "#;
        let found = mistakes(text);
        for expected in [
            "server.listen[0]: \"127.0.0.1\" is not an address and a port",
            "server.listen[2]: 127.0.0.1:53 stands twice",
            "server.admin: 0.0.0.0:5380 can be reached from outside",
            "server.threads: 0 is not a whole number from 1",
            "server.nonsense: unknown key",
            "zones[0].name: \"a..b\" is not an owner name",
            "zones[0].file: missing",
            "zones[1].file: \"\" is not the path of a file",
            "geo.data: unknown key",
            "regions.seoul",
        ] {
            assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected} is not in {found:#?}");
        }
    }

    #[test]
    fn settings_without_server_or_zones_say_so() {
        let found = mistakes("");
        assert!(found.iter().any(|problem| problem.starts_with("server: missing")), "{found:?}");
        assert!(found.iter().any(|problem| problem.starts_with("zones: none")), "{found:?}");
    }

    #[test]
    fn files_are_named_even_beside_mistakes() {
        let text = WHOLE.replace("threads = 2", "threads = \"two\"");
        let (Outline { files, .. }, settings) = Settings::parse_with_outline("topology.toml", &text);
        assert!(settings.is_err());
        assert_eq!(files.zones.len(), 1);
        assert_eq!(files.admin_token_file.as_deref(), Some("token".as_ref()));
    }

    #[test]
    fn services_and_their_lines_are_known_even_beside_mistakes() {
        let text =
            "[services.\"B.example.com.\"]\nttl = -1\n[services]\n\"a.example.com\" = {}\n\"a..b\" = {}\nc = 1\n";
        let (Outline { services, lines, .. }, settings) = Settings::parse_with_outline("t", text);
        assert!(settings.is_err());
        let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["a.example.com", "b.example.com"]);
        let problem = |place: &str| lines.problem("key", &["nowhere", place], "what").to_string();
        assert_eq!(problem("services.\"b.example.com\".ttl"), "t:2: key: what");
        assert_eq!(problem("services.\"a.example.com\""), "t:4: key: what");
        assert_eq!(problem("nowhere"), "t: key: what");
    }

    #[test]
    fn keys_that_need_a_restart_are_named() {
        let before = Settings::parse("a", WHOLE).expect("it is right").server;
        let text = WHOLE.replace("threads = 2", "threads = 3\ntcp = { connections = 5 }").replace("5380", "5381");
        let after = Settings::parse("a", &text).expect("it is right").server;
        assert_eq!(after.differing_keys(&before), ["admin", "threads", "tcp"]);
        assert!(before.differing_keys(&before).is_empty());
    }
}
