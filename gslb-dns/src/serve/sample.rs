//! A small site for tests of the edge: settings, a zone and proxies that answer, all in a folder of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};

use crate::keys::KeyFolder;
use crate::sign::{Algorithm, KeyTimes, Role, SigningKey, ZoneKey};
use crate::wire;

/// Two regions of one proxy each, the services `www` and `api` of `example.com`.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    proxies: [Proxy; 2],
}

/// A proxy's status endpoint.
pub(crate) struct Proxy {
    address: SocketAddr,
    is_up: Arc<AtomicBool>,
    /// What it says of its virtual routers, in JSON.
    routers: Arc<Mutex<String>>,
}

pub(crate) const TOKEN: &str = "0123456789abcdef";

impl Site {
    pub(crate) fn new() -> Self {
        let site =
            Self { folder: tempfile::tempdir().expect("a folder"), proxies: ["seoul", "virginia"].map(Proxy::start) };
        site.write("token", TOKEN);
        site.write("example.com.zone", ZONE);
        site.write("overrides.csv", "192.0.2.0/24,KR,,,,37.5,127.0\n");
        site.write("topology.toml", &site.settings());
        site
    }

    pub(crate) fn settings(&self) -> String {
        let [seoul, virginia] = self.proxies.each_ref().map(|proxy| proxy.address);
        format!(
            r#"
[server]
listen = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
admin_token_file = "token"
state_file = "state.json"
threads = 1
[[zones]]
name = "example.com"
file = "example.com.zone"
[geo]
overrides = "overrides.csv"
[probe]
interval = "100ms"
deciding_interval = "50ms"
time_limit = "300ms"
[regions.seoul]
coordinates = [37.57, 126.98]
vips = ["198.51.100.1"]
proxies = {{ seoul-1 = "http://{seoul}/status" }}
[regions.virginia]
coordinates = [39.04, -77.49]
vips = ["198.51.100.2"]
proxies = {{ virginia-1 = "http://{virginia}/status" }}
[services."www.example.com"]
policy = "ordered"
regions = ["seoul", "virginia"]
[services."api.example.com"]
policy = "ordered"
regions = ["virginia", "seoul"]
"#
        )
    }

    /// The text of its zone.
    pub(crate) fn zone(&self) -> String {
        fs::read_to_string(self.path("example.com.zone")).expect("readable")
    }

    /// The settings of the same site with its zone signed; the keys are in `keys`.
    pub(crate) fn signed_settings(&self) -> String {
        self.settings().replacen("[geo]", "dnssec = { keys = \"keys\" }\n[geo]", 1)
    }

    /// Makes a key in `keys`.
    pub(crate) fn add_key(&self, role: Role, times: KeyTimes) -> ZoneKey {
        let key = Arc::new(SigningKey::generate(Algorithm::Ed25519, role).expect("a key"));
        let key = ZoneKey { key, role, times };
        KeyFolder::new(self.path("keys")).create(&apex(), &key, 60).expect("created");
        key
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("topology.toml")
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let temporary = self.path("new");
        fs::write(&temporary, text).expect("written");
        fs::rename(temporary, self.path(file)).expect("renamed");
    }

    /// Writes a file that nobody else may read.
    pub(crate) fn write_secret(&self, file: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let temporary = self.path("new-secret");
        fs::write(&temporary, text).expect("written");
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600)).expect("set");
        fs::rename(temporary, self.path(file)).expect("renamed");
    }

    /// Writes a certificate and its key.
    pub(crate) fn write_tls(&self, (certificate, key): &(String, String)) {
        self.write("cert.pem", certificate);
        self.write_secret("key.pem", key);
    }

    pub(crate) fn set_up(&self, region: &str, is_up: bool) {
        let at = usize::from(region == "virginia");
        self.proxies[at].is_up.store(is_up, Ordering::Relaxed);
    }

    /// Lets Seoul's proxy hold the VIP in turn with another, which it hears hold it too or not.
    pub(crate) fn set_rival(&self, is_heard: bool) {
        let router = format!(
            r#"{{"name":"web","vips":["198.51.100.1"],"state":"active","holds_vips":true,"holder":"198.51.100.11",
            "priority":250,"last_takeover":1800000000,"hears_other_active":{is_heard}}}"#
        );
        *self.proxies[0].routers.lock().expect("not poisoned") = router;
    }
}

impl Proxy {
    /// Closes connections without an answer while it is not up.
    fn start(region: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let is_up = Arc::new(AtomicBool::new(true));
        let services = r#"{"www.example.com":{"servers_up":1,"servers_total":1},"api.example.com":{"servers_up":1,"servers_total":1}}"#;
        let routers = Arc::new(Mutex::new(String::new()));
        let told = Arc::clone(&routers);
        let body = move || {
            let routers = told.lock().expect("not poisoned").clone();
            format!(
                r#"{{"region":"{region}","proxy":"{region}-1","holds_vip":true,"is_draining":false,"services":{services},
                "virtual_routers":[{routers}]}}"#
            )
        };
        let shared = Arc::clone(&is_up);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                if shared.load(Ordering::Relaxed) {
                    let _ = stream.read(&mut [0; 4096]);
                    let body = body();
                    let len = body.len();
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{body}");
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        });
        Self { address, is_up, routers }
    }
}

/// The name of the zone.
pub(crate) fn apex() -> wire::Name {
    wire::Name::parse("example.com.", &wire::Name::root()).expect("a name")
}

/// A certificate of `ns1.example.com` that is its own root, and its key, in PEM.
pub(crate) fn tls_pair() -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["ns1.example.com".to_owned()]).expect("a name");
    (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
}

/// The octets of a query.
pub(crate) fn query(id: u16, name: &str, rtype: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), rtype));
    message.to_vec().expect("encoded")
}

/// Asks for addresses over UDP; gives the data of the answer section.
pub(crate) fn ask(server: SocketAddr, name: &str) -> Vec<String> {
    ask_for(server, name, RecordType::A)
}

/// Asks over UDP; gives the data of the answer section.
pub(crate) fn ask_for(server: SocketAddr, name: &str, rtype: RecordType) -> Vec<String> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    socket.send_to(&query(1, name, rtype), server).expect("sent");
    let mut buffer = [0; 1500];
    let len = socket.recv(&mut buffer).expect("answered");
    data(&buffer[..len])
}

/// Asks for `rtype` and its signatures over UDP; gives the whole answer.
pub(crate) fn ask_signed(server: SocketAddr, name: &str, rtype: RecordType) -> Message {
    let mut message = Message::from_vec(&query(1, name, rtype)).expect("a query");
    let mut edns = hickory_proto::op::Edns::new();
    edns.set_max_payload(1232).set_dnssec_ok(true);
    message.set_edns(edns);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    socket.send_to(&message.to_vec().expect("encoded"), server).expect("sent");
    let mut buffer = [0; 1500];
    let len = socket.recv(&mut buffer).expect("answered");
    Message::from_vec(&buffer[..len]).expect("readable")
}

/// The data of the answer section.
pub(crate) fn data(message: &[u8]) -> Vec<String> {
    let message = Message::from_vec(message).expect("readable");
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

/// Waits until `holds`, or fails.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(15), "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// One HTTP request to the admin listener: status code and body.
pub(crate) fn http(server: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    let len = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, body.to_owned())
}

const ZONE: &str = "\
$TTL 300
@ IN SOA ns1 hostmaster 1 3600 600 86400 60
@ IN NS ns1
ns1 IN A 192.0.2.53
";
