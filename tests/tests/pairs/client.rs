//! Clients of a pair, on a host of their own.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use gslb_tests::harness::process::Folder;
use gslb_tests::net::Net;
use serde_json::Value;

/// A client that keeps its cookies.
pub(crate) struct Visitor<'n> {
    net: &'n Net,
    jar: Folder,
    service: &'static str,
    vip: IpAddr,
    /// Where it was served first, and how often it has been since.
    first: RefCell<Option<(String, u64)>>,
}

impl<'n> Visitor<'n> {
    pub(crate) fn new(net: &'n Net, service: &'static str, vip: IpAddr) -> Self {
        Self { net, jar: Folder::new("gslb-jar-").expect("a folder"), service, vip, first: RefCell::new(None) }
    }

    /// Goes on with its session, over a connection of its own: fails unless the server is the same, and knows the session.
    pub(crate) fn go_on(&self) {
        let jar = self.jar.path().join("jar");
        let mut curl = self.net.command("client", "curl");
        let place = format!("{}:80:{}", self.service, SocketAddr::new(self.vip, 80));
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", "--noproxy", "*", "--connect-to", &place]);
        curl.arg("--cookie").arg(&jar).arg("--cookie-jar").arg(&jar).stdin(Stdio::null());
        let answer = curl.arg(format!("http://{}/session/cart", self.service)).output().expect("curl is there");
        assert!(answer.status.success(), "{}: {}", self.service, String::from_utf8_lossy(&answer.stderr));
        let seen: Value = serde_json::from_slice(&answer.stdout).expect("what the servlet was asked");
        let (server, visits) = (seen["server"].as_str().expect("a name"), seen["visits"].as_u64().expect("a number"));
        let own = self.net.address("client").to_string();
        assert_eq!(seen["fields"]["x-forwarded-for"], serde_json::json!([own]), "its address is known: {seen}");
        let mut first = self.first.borrow_mut();
        let (at, before) = first.get_or_insert_with(|| (server.to_owned(), 0));
        assert_eq!((server, visits), (at.as_str(), *before + 1), "the session goes on where it was: {seen}");
        *before = visits;
    }

    /// Where its session is.
    pub(crate) fn server(&self) -> String {
        self.first.borrow().as_ref().map(|(server, _)| server.clone()).unwrap_or_default()
    }
}

/// The server that a client without cookies gets, who comes from `address`.
pub(crate) fn server_by(net: &Net, service: &str, vip: IpAddr, address: IpAddr) -> String {
    let place = format!("{service}:80:{}", SocketAddr::new(vip, 80));
    let mut curl = net.command("client", "curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", "--noproxy", "*", "--connect-to", &place]);
    curl.arg("--interface").arg(address.to_string()).arg(format!("http://{service}/")).stdin(Stdio::null());
    let answer = curl.output().expect("curl is there");
    assert!(answer.status.success(), "{address}: {}", String::from_utf8_lossy(&answer.stderr));
    let seen: Value = serde_json::from_slice(&answer.stdout).expect("what the servlet was asked");
    seen["server"].as_str().expect("a name").to_owned()
}

/// A connection that is kept.
pub(crate) struct Connection {
    service: &'static str,
    stream: TcpStream,
}

impl Connection {
    /// One that has had an answer.
    pub(crate) fn open(net: &Net, service: &'static str, vip: IpAddr) -> Self {
        let opening = net.within("client", move || TcpStream::connect_timeout(&SocketAddr::new(vip, 80), LIMIT));
        let stream = opening.join().expect("it ends well").expect("it connects");
        stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
        let connection = Self { service, stream };
        connection.ask().expect("an answer");
        connection
    }

    /// Asks again.
    pub(crate) fn ask(&self) -> Result<(), String> {
        let failed = |error: std::io::Error| error.to_string();
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", self.service);
        (&self.stream).write_all(request.as_bytes()).map_err(failed)?;
        let mut reader = BufReader::new(&self.stream);
        let (mut head, mut line) = (String::new(), String::new());
        while reader.read_line(&mut line).map_err(failed)? > 2 {
            head += &line.to_ascii_lowercase();
            line.clear();
        }
        let len = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; len.ok_or_else(|| format!("no length: {head:?}"))?];
        reader.read_exact(&mut body).map_err(failed)?;
        if head.starts_with("http/1.1 200") { Ok(()) } else { Err(head) }
    }
}

/// Longer than a takeover takes.
const LIMIT: Duration = Duration::from_secs(3);
