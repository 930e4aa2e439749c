//! The table `[server.tls]`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use shared::settings::{Table, Value};

use super::{read_address, read_path};

/// Encrypted transports: what shows who we are, and where they are answered. At least one address in all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsSettings {
    /// The certificate of this node and those that lead to its root, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// Where DNS over TLS is answered (RFC 7858), by TCP.
    pub dot: Vec<SocketAddr>,
    /// Where DNS over HTTPS is answered (RFC 8484), by TCP.
    pub doh: Vec<SocketAddr>,
    /// Where DNS over QUIC is answered (RFC 9250), by UDP.
    pub doq: Vec<SocketAddr>,
}

impl TlsSettings {
    /// Reads the table; `listen` is taken already, for UDP and TCP.
    pub(super) fn read(table: &Table<'_>, listen: &[SocketAddr]) -> Option<Self> {
        let path = |key, expected| table.required(key, expected).and_then(|value| read_path(&value));
        let certificate = path("certificate", "the path of a certificate chain in PEM");
        let key = path("key", "the path of its private key in PEM");
        let taken = || listen.iter().copied().filter(|address| address.port() != 0).collect::<BTreeSet<_>>();
        let (mut by_tcp, mut by_udp) = (taken(), taken());
        let [dot, doh] = ["dot", "doh"]
            .map(|key| table.value(key).map(|value| read_addresses(&value, &mut by_tcp)).unwrap_or_default());
        let doq = table.value("doq").map(|value| read_addresses(&value, &mut by_udp)).unwrap_or_default();
        if ["dot", "doh", "doq"].iter().all(|key| table.value(key).is_none()) {
            table.problem(
                "dot",
                format_args!("missing, as are doh and doq: expected in one of them {ADDRESSES_EXPECTED}"),
            );
        }
        Some(Self { certificate: certificate?, key: key?, dot, doh, doq })
    }
}

fn read_addresses(value: &Value<'_>, taken: &mut BTreeSet<SocketAddr>) -> Vec<SocketAddr> {
    let items = value.items(ADDRESSES_EXPECTED).unwrap_or_default();
    let mut read = |item: &Value<'_>| {
        let address = read_address(item)?;
        // Port 0 asks for any free port.
        if address.port() != 0 && !taken.insert(address) {
            item.problem(format_args!(
                "{address} is taken above or by server.listen: expected another port or address"
            ));
        }
        Some(address)
    };
    items.iter().filter_map(&mut read).collect()
}

const ADDRESSES_EXPECTED: &str = "a list of addresses, such as [\"192.0.2.1:853\", \"[2001:db8::1]:853\"]";

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    fn parse(tls: &str) -> Result<Settings, Vec<String>> {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:53\"]\n{tls}\n[[zones]]\nname = \"example.com\"\nfile = \"zone\"\n\
             [regions.seoul]\ncoordinates = [37.57, 126.98]\nvips = [\"192.0.2.1\"]\n\
             proxies = {{ seoul-1 = \"http://192.0.2.11:8081/status\" }}\n[services.\"www.example.com\"]\n"
        );
        Settings::parse("t", &text).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_key_is_read_and_addresses_take_a_restart_to_change() {
        assert_eq!(parse("").expect("right").server.tls, None);
        let text = "tls = { certificate = \"c\", key = \"k\", dot = [\"127.0.0.1:853\"], doh = [\"127.0.0.1:443\"], \
                    doq = [\"127.0.0.1:853\", \"[::1]:853\"] }";
        let server = parse(text).expect("right").server;
        let tls = server.tls.clone().expect("there");
        assert_eq!((tls.certificate.to_str(), tls.key.to_str()), (Some("c"), Some("k")));
        assert_eq!((tls.dot.len(), tls.doh.len(), tls.doq.len()), (1, 1, 2));
        assert_eq!(server.differing_keys(&parse("").expect("right").server), ["tls"]);
        let other = parse(&text.replace(r#""c""#, r#""d""#)).expect("right").server;
        assert!(server.differing_keys(&other).is_empty(), "another file is read at once");
    }

    #[test]
    fn every_mistake_is_reported_with_what_would_be_right() {
        let text = "[server.tls]\ncertificate = \"\"\ndot = [\"127.0.0.1:53\", \"127.0.0.1\"]\ndoh = [\"127.0.0.1:443\", \"127.0.0.1:443\"]\n\
                    doq = \"127.0.0.1:853\"\nport = 853";
        let found = parse(text).expect_err("wrong");
        for expected in [
            "t:4: server.tls.certificate: \"\" is not the path of a file",
            "t:3: server.tls.key: missing",
            "t:5: server.tls.dot[0]: 127.0.0.1:53 is taken",
            "t:5: server.tls.dot[1]: \"127.0.0.1\" is not an address and a port",
            "t:6: server.tls.doh[1]: 127.0.0.1:443 is taken",
            "t:7: server.tls.doq: ",
            "t:8: server.tls.port: unknown key",
        ] {
            assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected} is not in {found:#?}");
        }
        let found = parse("tls = { certificate = \"c\", key = \"k\" }").expect_err("no address");
        assert!(found[0].starts_with("t:3: server.tls.dot: missing, as are doh and doq"), "{found:?}");
    }
}
