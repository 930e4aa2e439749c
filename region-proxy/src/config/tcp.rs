//! `[[tcp]]`: what passes as it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use shared::name::OwnerName;
use shared::settings::{Table, Value};

use super::service::ServiceConfig;
use super::{addresses, clash, known};
use crate::sni::Names;

/// Connections whose octets are passed to a server as they are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tcp {
    /// Where they come in; never empty.
    pub listen: Vec<SocketAddr>,
    /// The service of those that ask for no name that is known; `None`: they are closed.
    pub service: Option<OwnerName>,
    /// By the name that a TLS client asks for; `None`: nobody looks.
    pub by_name: Option<ByName>,
    /// From the start of a connection to the whole ClientHello or PROXY header, where there must be one.
    pub hello: Duration,
    /// How long nothing may pass.
    pub idle: Duration,
    /// The same once one side has ended.
    pub half_closed: Duration,
}

/// Services by the names that TLS clients ask for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ByName {
    names: Names,
    services: Vec<OwnerName>,
}

impl Tcp {
    /// The service of a connection whose client asks for the name `asked`.
    pub fn service(&self, asked: Option<&str>) -> Option<&OwnerName> {
        let by_name = self.by_name.as_ref().zip(asked);
        let named = by_name.and_then(|(by_name, asked)| by_name.services.get(by_name.names.find(asked)?));
        named.or(self.service.as_ref())
    }
}

/// Where each of `tables` listens, at addresses that are none of `taken`.
pub(super) fn listen(tables: &[Table<'_>], taken: &[SocketAddr]) -> Vec<Vec<SocketAddr>> {
    let mut taken = taken.to_vec();
    let mut all = Vec::with_capacity(tables.len());
    for table in tables {
        let listen = table.required("listen", "a list of addresses with ports").map(|value| addresses(&value));
        let listen = listen.unwrap_or_default();
        for address in listen.iter().filter(|address| taken.iter().any(|taken| clash(*taken, **address))) {
            table.problem("listen", format_args!("{address} is listened on already: expected one of its own"));
        }
        taken.extend(&listen);
        all.push(listen);
    }
    all
}

/// Reads `tables`, each `[[tcp]]`, which listen at `listen` and lead to some of `services`.
pub(super) fn tcp(
    tables: &[Table<'_>],
    listen: Vec<Vec<SocketAddr>>,
    services: &BTreeMap<OwnerName, ServiceConfig>,
) -> Vec<Tcp> {
    tables.iter().zip(listen).map(|(table, listen)| one(table, listen, services)).collect()
}

/// What is not right is left out, and was reported.
fn one(table: &Table<'_>, listen: Vec<SocketAddr>, services: &BTreeMap<OwnerName, ServiceConfig>) -> Tcp {
    let service = table.value("service").and_then(|value| pool(&value, services));
    let by_name = table.table("sni").map(|names| by_name(&names, services));
    if table.value("service").is_none() && table.value("sni").is_none() {
        table.problem("service", "missing: expected the name of a service, or `sni`");
    }
    let span = |key: &str, default: u64, most: u64| {
        let range = Duration::from_millis(100)..=Duration::from_secs(most);
        table.value(key).and_then(|value| value.duration(range)).unwrap_or(Duration::from_secs(default))
    };
    let (hello, idle, half_closed) = (span("hello", 5, 60), span("idle", 3600, WEEK), span("half_closed", 60, WEEK));
    Tcp { listen, service, by_name, hello, idle, half_closed }
}

fn by_name(table: &Table<'_>, services: &BTreeMap<OwnerName, ServiceConfig>) -> ByName {
    let mut by_name = ByName::default();
    let entries = table.entries();
    if entries.is_empty() {
        table.problem("", "no name: expected at least one, such as \"www.example.com\" = \"www.example.com\"");
    }
    for (name, value) in entries {
        let is_name = OwnerName::parse(name.strip_prefix("*.").unwrap_or(name)).map_err(|error| value.problem(error));
        let (Ok(_), Some(service)) = (is_name, pool(&value, services)) else { continue };
        by_name.services.push(service);
        if by_name.names.insert(name, by_name.services.len() - 1).is_some() {
            value.problem("is there twice: names do not differ by case or a final dot");
        }
    }
    by_name
}

/// A service that takes what is not HTTP.
fn pool(value: &Value<'_>, services: &BTreeMap<OwnerName, ServiceConfig>) -> Option<OwnerName> {
    let name = known(value, services)?;
    if !services.get(&name)?.mode.is_tcp() {
        value.problem(format_args!("{name} is for HTTP alone: expected `mode = \"tcp\"` there, or \"both\""));
        return None;
    }
    Some(name)
}

/// In seconds: connections to a database may carry nothing for days.
const WEEK: u64 = 7 * 24 * 3600;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    const GOOD: &str = r#"
region = "seoul"
proxy = "seoul-1"
status = "127.0.1.11:8081"
[[tcp]]
listen = ["127.0.1.10:5432"]
service = "db"
[[tcp]]
listen = ["127.0.1.10:443"]
sni = { "www.example.com" = "both", "*.example.com" = "db" }
hello = "1s"
idle = "2d"
half_closed = "5s"
[services.db]
mode = "tcp"
servers.a = "127.0.1.21:9000"
stick = "source"
[services.both]
mode = "both"
servers.a = "127.0.1.22:9000"
[services.web]
servers.a = "127.0.1.23:9000"
"#;

    fn read(text: &str) -> Result<Config, Vec<String>> {
        let read = Config::parse(Path::new("p.toml"), text, &|_| Err("no such file".to_owned()));
        read.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn names_lead_to_their_services_and_others_to_that_of_the_listener_or_nowhere() {
        let config = read(GOOD).expect("no mistake");
        let [plain, named] = &config.tcp[..] else { panic!("two") };
        let of = |tcp: &Tcp, asked| tcp.service(asked).map(|name| name.as_str().to_owned());
        assert_eq!(of(plain, Some("www.example.com")).as_deref(), Some("db"));
        assert_eq!(of(named, Some("WWW.example.com.")).as_deref(), Some("both"));
        assert_eq!(of(named, Some("api.example.com")).as_deref(), Some("db"));
        assert_eq!([of(named, Some("example.com")), of(named, None)], [None, None]);
        assert_eq!((plain.hello, plain.idle), (Duration::from_secs(5), Duration::from_secs(3600)));
        assert_eq!((named.idle, named.half_closed), (Duration::from_secs(2 * 86_400), Duration::from_secs(5)));
        assert!(config.listen.is_empty());
    }

    #[test]
    fn each_mistake_says_what_would_be_right() {
        for (right, wrong, expected) in [
            (
                "service = \"db\"",
                "service = \"web\"",
                "tcp[0].service: web is for HTTP alone: expected `mode = \"tcp\"`",
            ),
            (
                "service = \"db\"",
                "service = \"no\"",
                "tcp[0].service: no is not a service: expected one of both, db, web",
            ),
            ("service = \"db\"", "", "tcp[0].service: missing: expected the name of a service, or `sni`"),
            ("10:443", "10:5432", "tcp[1].listen: 127.0.1.10:5432 is listened on already"),
            ("10:443", "11:8081", "status: 127.0.1.11:8081 is in `listen` too"),
            ("10:443", "21:9000", "services.db.servers.a: 127.0.1.21:9000 is in `listen`"),
            ("\"*.example.com\"", "\"WWW.EXAMPLE.com.\"", "is there twice"),
            ("\"*.example.com\"", "\"*.*.com\"", "\"*.com\" is not an owner name"),
            ("hello = \"1s\"", "hello = \"2m\"", "tcp[1].hello: \"2m\" is not a time"),
            ("\"source\"", "{ cookie = \"A\", mode = \"insert\" }", "services.db.stick: cookies are of HTTP"),
            ("\"source\"", "\"source\"\nbalance = \"hash\"\nhash = \"uri\"", "services.db.hash: of HTTP"),
            ("status =", "default_service = \"db\"\nstatus =", "default_service: db is for TCP alone"),
        ] {
            let found = read(&GOOD.replace(right, wrong)).expect_err(wrong);
            assert!(found.iter().any(|problem| problem.contains(expected)), "{expected}: {found:#?}");
        }
    }
}
