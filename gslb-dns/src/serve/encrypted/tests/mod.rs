//! Encrypted transports from the client's side.

mod dot;
mod https;
mod quic;
mod slow;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::serve::Node;
use crate::serve::sample::{Site, http, tls_pair};

/// A node with all transports, and the certificate that it shows.
struct Shop {
    site: Site,
    node: Node,
    certificate: String,
}

impl Shop {
    fn open() -> Self {
        Self::open_with("")
    }

    /// One with more lines in `[server]`.
    fn open_with(lines: &str) -> Self {
        Self::open_at(Site::new(), lines)
    }

    /// The same at `site`.
    fn open_at(site: Site, lines: &str) -> Self {
        let tls = "tls = { certificate = \"cert.pem\", key = \"key.pem\", dot = [\"127.0.0.1:0\"], \
                   doh = [\"127.0.0.1:0\"], doq = [\"127.0.0.1:0\"] }";
        let settings = std::fs::read_to_string(site.config()).expect("settings");
        let settings = settings.replace("threads = 1\n", &format!("threads = 1\n{tls}\n{lines}\n"));
        site.write("topology.toml", &settings);
        let (certificate, key) = tls_pair();
        site.write_tls(&(certificate.clone(), key));
        let node = Node::start(&site.config()).expect("started");
        Self { site, node, certificate }
    }

    fn udp(&self) -> SocketAddr {
        self.node.addresses()[0]
    }

    /// What a client needs to trust the node, and asks for.
    fn client_config(&self, alpn: &[u8]) -> ClientConfig {
        client_config(&self.certificate, alpn)
    }

    /// The line of `/metrics` that starts so.
    fn metric(&self, start: &str) -> Option<u64> {
        let admin = self.node.admin_address().expect("there is one");
        let (_, text) = http(admin, "GET", "/metrics", "", "");
        let line = text.lines().find(|line| line.starts_with(start))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

/// A client that trusts `certificate` alone.
fn client_config(certificate: &str, alpn: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// The octets of a query that is padded itself.
fn padded_query(id: u16, name: &str) -> Vec<u8> {
    use hickory_proto::op::{Edns, Message};
    use hickory_proto::rr::RecordType;
    use hickory_proto::rr::rdata::opt::EdnsOption;
    let mut message = Message::from_vec(&crate::serve::sample::query(id, name, RecordType::A)).expect("readable");
    let mut edns = Edns::new();
    edns.options_mut().insert(EdnsOption::Unknown(12, vec![0; 20]));
    message.set_edns(edns);
    message.to_vec().expect("encoded")
}
