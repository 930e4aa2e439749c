//! The proofs that a proxy does the work that all of them do.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::case::{Ability, COOKIE, HOST, PAGES, WHO, pattern};
use super::client::own_cookie;
use super::origins::{Origins, SERVERS};
use super::peers::{Ports, local};
use crate::bench::Stop;
use crate::harness::tools::find;

/// One part of the work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proof {
    /// Every page comes whole.
    Pages,
    /// Clients without the cookie come to both servers in turn, and get a cookie.
    CookieIsSet,
    /// A client with the cookie comes to its server, and gets no other.
    CookieIsFollowed,
    /// The servers do not see the cookie, but the others.
    CookieIsStripped,
    /// The address of the client is the last of X-Forwarded-For.
    ForwardedFor,
    /// Keep-Alive and what else is for one connection does not reach the servers.
    HopByHopFields,
    /// Nor does what the field Connection names (RFC 9110, section 7.6.1).
    NominatedFields,
    /// Clients with a connection each share connections to the servers.
    Reuse,
    /// Servers are checked; one that fails gets no clients, not even its own, which get another cookie.
    HealthChecks,
    /// What goes through TCP comes whole.
    Tcp,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pages => "pages",
            Self::CookieIsSet => "round robin, with a sticky cookie",
            Self::CookieIsFollowed => "a sticky cookie that is followed",
            Self::CookieIsStripped => "the sticky cookie hidden from the servers",
            Self::ForwardedFor => "X-Forwarded-For",
            Self::HopByHopFields => "removal of hop-by-hop fields",
            Self::NominatedFields => "removal of the fields that Connection names",
            Self::Reuse => "server connections that are used again",
            Self::HealthChecks => "health checks",
            Self::Tcp => "TCP as it is",
        })
    }
}

/// How much is proved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    /// What takes no waiting.
    Quick,
    /// Health checks as well, which takes some seconds.
    Whole,
}

/// What a proxy could not prove, each with what came instead.
pub fn shortcomings(
    ports: &Ports,
    ability: Ability,
    origins: &Origins,
    depth: Depth,
    stop: &Stop,
) -> Result<Vec<(Proof, String)>, String> {
    let mut found = Vec::new();
    let mut prove = |proof, proved: Result<(), String>| found.extend(proved.err().map(|why| (proof, why)));
    if ability == Ability::Tcp {
        prove(Proof::Tcp, prove_tcp(ports));
        return Ok(found);
    }
    let door = Door { address: local(ports.of(ability)), ability };
    prove(Proof::Pages, door.prove_pages());
    let clients = door.prove_cookie_is_set();
    match &clients {
        Err(why) => prove(Proof::CookieIsSet, Err(why.clone())),
        Ok(clients) => {
            prove(Proof::CookieIsFollowed, clients.iter().try_for_each(|client| door.prove_followed(client)));
            prove(Proof::CookieIsStripped, door.prove_stripped(&clients[0]));
        }
    }
    prove(Proof::ForwardedFor, door.prove_forwarded_for());
    // HTTP/2 has no such fields.
    if matches!(ability, Ability::Http | Ability::Tls) {
        prove(Proof::HopByHopFields, door.prove_removed("Keep-Alive: timeout=5", "Connection: keep-alive"));
        prove(Proof::NominatedFields, door.prove_removed("X-Hop: 1", "Connection: keep-alive, X-Hop"));
    }
    prove(Proof::Reuse, door.prove_reuse(origins));
    if depth == Depth::Whole {
        let client = clients.as_ref().ok().and_then(|clients| clients.first());
        let proved = door.prove_health_checks(client, origins, stop);
        origins.seen[0].is_sick.store(false, Ordering::Relaxed);
        stop.check()?;
        prove(Proof::HealthChecks, proved);
    }
    Ok(found)
}

/// Fails unless clients of the proxy at `address` come to both servers.
pub fn comes_to_both_servers(address: SocketAddrV4, ability: Ability) -> Result<(), String> {
    Door { address, ability }.prove_round_robin().map(|_| ())
}

/// Where and how a proxy is asked.
struct Door {
    address: SocketAddrV4,
    ability: Ability,
}

/// A response.
struct Reply {
    status: u16,
    /// Names in lower case.
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A client that has a server.
struct Settled {
    server: String,
    cookie: String,
}

impl Door {
    /// Asks by curl, over a connection of its own. `fields` are lines of the head.
    fn ask(&self, path: &str, fields: &[&str]) -> Result<Reply, String> {
        let curl = find("curl").ok_or("curl is missing: install the Debian package curl, or run tests/bench/proxy")?;
        let (scheme, version, told) = match self.ability {
            Ability::Http | Ability::Tcp => ("http", "--http1.1", "HTTP/1.1 "),
            Ability::Tls => ("https", "--http1.1", "HTTP/1.1 "),
            Ability::H2c => ("http", "--http2-prior-knowledge", "HTTP/2 "),
            Ability::H2Tls => ("https", "--http2", "HTTP/2 "),
        };
        let mut command = Command::new(curl);
        command.args(["--silent", "--show-error", "--include", "--insecure", "--noproxy", "*", "--max-time", "3"]);
        let port = self.address.port();
        command.args([version, "--connect-to", &format!("{HOST}:{port}:127.0.0.1:{port}")]);
        for field in fields {
            command.args(["--header", field]);
        }
        let output = command.arg(format!("{scheme}://{HOST}:{port}{path}")).output();
        let output = output.map_err(|error| format!("curl: {error}"))?;
        if !output.status.success() {
            return Err(format!("{path}: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        let reply = Reply::read(&output.stdout).ok_or_else(|| format!("{path}: no response"))?;
        if !output.stdout.starts_with(told.as_bytes()) || reply.status != 200 {
            return Err(format!("{path}: expected {told}200, got {}", reply.head()));
        }
        Ok(reply)
    }

    fn prove_pages(&self) -> Result<(), String> {
        for page in PAGES {
            let body = self.ask(page.path, &[])?.body;
            if body.len() != page.octets || body.iter().enumerate().any(|(at, octet)| *octet != pattern(at)) {
                return Err(format!("{}: {} octets, not those of the server", page.path, body.len()));
            }
        }
        Ok(())
    }

    /// Asks as four new clients, which must come to both servers; gives the replies.
    fn prove_round_robin(&self) -> Result<Vec<Reply>, String> {
        let replies: Vec<Reply> = (0..4).map(|_| self.ask("/who", &[])).collect::<Result<_, _>>()?;
        let who: Vec<&str> = replies.iter().filter_map(|reply| reply.field(WHO)).collect();
        if SERVERS.iter().all(|server| who.contains(server)) {
            Ok(replies)
        } else {
            Err(format!("four new clients came to {who:?}"))
        }
    }

    /// A client of each server.
    fn prove_cookie_is_set(&self) -> Result<Vec<Settled>, String> {
        let replies = self.prove_round_robin()?;
        let settle = |server: &&str| {
            let reply = replies.iter().find(|reply| reply.field(WHO) == Some(server));
            let reply = reply.ok_or_else(|| format!("nobody came to {server}"))?;
            reply.settled().ok_or_else(|| format!("no cookie {COOKIE}: {}", reply.head()))
        };
        SERVERS.iter().map(settle).collect()
    }

    fn prove_followed(&self, client: &Settled) -> Result<(), String> {
        for _ in 0..3 {
            let reply = self.ask("/who", &[&format!("Cookie: a=b; {}", client.cookie)])?;
            if reply.field(WHO) != Some(&client.server) || reply.settled().is_some() {
                return Err(format!("{} of {} led to: {}", client.cookie, client.server, reply.head()));
            }
        }
        Ok(())
    }

    fn prove_stripped(&self, client: &Settled) -> Result<(), String> {
        let asked = self.ask("/who", &[&format!("Cookie: a=b; {}; c=d", client.cookie)])?.asked();
        let others = asked.iter().filter(|(name, _)| name == "cookie").map(|(_, value)| value.as_str());
        let others: Vec<&str> = others.flat_map(|value| value.split(';').map(str::trim)).collect();
        if others == ["a=b", "c=d"] { Ok(()) } else { Err(format!("the server saw the cookies {others:?}")) }
    }

    fn prove_forwarded_for(&self) -> Result<(), String> {
        let asked = self.ask("/who", &["X-Forwarded-For: 192.0.2.1"])?.asked();
        let all = asked.iter().filter(|(name, _)| name == "x-forwarded-for").map(|(_, value)| value.as_str());
        let last = all.flat_map(|value| value.split(',').map(str::trim)).next_back();
        if last == Some("127.0.0.1") { Ok(()) } else { Err(format!("the last address is {last:?}")) }
    }

    /// Proves that `field` does not reach the server, where the request has `connection` as well.
    fn prove_removed(&self, field: &str, connection: &str) -> Result<(), String> {
        let name = field.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let asked = self.ask("/who", &[field, connection])?.asked();
        match asked.iter().find(|(found, _)| *found == name) {
            None => Ok(()),
            Some((name, value)) => Err(format!("the server saw {name}: {value}")),
        }
    }

    fn prove_reuse(&self, origins: &Origins) -> Result<(), String> {
        let before = origins.connections();
        for _ in 0..8 {
            self.ask("/who", &[])?;
        }
        match origins.connections() - before {
            0..=2 => Ok(()),
            more => Err(format!("8 clients one after the other led to {more} new connections to the servers")),
        }
    }

    /// `client` is one of the first server, where clients stick.
    fn prove_health_checks(&self, client: Option<&Settled>, origins: &Origins, stop: &Stop) -> Result<(), String> {
        origins.seen[0].is_sick.store(true, Ordering::Relaxed);
        let end = Instant::now() + NOTICED;
        let mut why = String::new();
        while Instant::now() < end {
            stop.check()?;
            match self.shuns_first_server(client) {
                Ok(()) => return Ok(()),
                Err(error) => why = error,
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let checks = origins.seen[0].checks.load(Ordering::Relaxed);
        Err(format!("{why}, more than {NOTICED:?} after a server fell sick, which has seen {checks} checks"))
    }

    /// Whether neither new clients nor `client` come to the first server.
    fn shuns_first_server(&self, client: Option<&Settled>) -> Result<(), String> {
        if let Some(client) = client {
            let reply = self.ask("/who", &[&format!("Cookie: {}", client.cookie)])?;
            if reply.settled().is_none_or(|new| new.server != SERVERS[1]) {
                return Err(format!("{} led to {}", client.cookie, reply.head()));
            }
        }
        for _ in 0..4 {
            let reply = self.ask("/who", &[])?;
            if reply.field(WHO) != Some(SERVERS[1]) {
                return Err(format!("a new client came to {}", reply.head()));
            }
        }
        Ok(())
    }
}

impl Reply {
    fn read(octets: &[u8]) -> Option<Self> {
        let end = octets.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&octets[..end]).into_owned();
        let (first, lines) = head.split_once("\r\n").unwrap_or((&head, ""));
        let status = first.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, fields: fields(lines), body: octets[end + 4..].to_vec() })
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The server and the cookie, where the reply sets one.
    fn settled(&self) -> Option<Settled> {
        let set = self.fields.iter().filter(|(name, _)| name == "set-cookie");
        let cookie = set.filter_map(|(_, value)| own_cookie(value.as_bytes())).next()?;
        let cookie = String::from_utf8(cookie).ok()?;
        Some(Settled { server: self.field(WHO)?.to_owned(), cookie })
    }

    /// The fields of the request as the server saw them.
    fn asked(&self) -> Vec<(String, String)> {
        fields(&String::from_utf8_lossy(&self.body))
    }

    fn head(&self) -> String {
        format!("status {}, {:?}", self.status, self.fields)
    }
}

/// Fields of the lines that are fields, names in lower case.
fn fields(lines: &str) -> Vec<(String, String)> {
    let pair =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    lines.split("\r\n").filter_map(pair).collect()
}

/// An echo, and a download of some MiB.
fn prove_tcp(ports: &Ports) -> Result<(), String> {
    let exchange = |port, sent: &[u8], len: usize| {
        let mut stream = TcpStream::connect_timeout(&local(port).into(), LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(sent)?;
        let mut got = vec![0; len];
        stream.read_exact(&mut got).map(|()| got)
    };
    let failed = |error: std::io::Error| format!("TCP: {error}");
    let octets: Vec<u8> = (0..3000).map(pattern).collect();
    if exchange(ports.echo, &octets, octets.len()).map_err(failed)? != octets {
        return Err("other octets came back".to_owned());
    }
    let len = 1 << 20;
    let got = exchange(ports.download, &(len as u64).to_be_bytes(), len).map_err(failed)?;
    if got.iter().enumerate().all(|(at, octet)| *octet == pattern(at)) {
        Ok(())
    } else {
        Err("a download came changed".to_owned())
    }
}

const LIMIT: Duration = Duration::from_secs(3);
/// Checks are a second apart, and two failures take a server out.
const NOTICED: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_a_proxy_proves_next_to_nothing() {
        if find("curl").is_none() {
            return;
        }
        let origins = Origins::start().expect("started");
        let door = Door { address: origins.http[0], ability: Ability::Http };
        assert_eq!(door.prove_pages(), Ok(()));
        assert!(door.prove_round_robin().is_err(), "there is one server");
        assert!(door.prove_forwarded_for().is_err() && door.prove_reuse(&origins).is_err());
        assert!(door.prove_removed("X-Hop: 1", "Connection: X-Hop").is_err());
        let client = Settled { server: "s1".to_owned(), cookie: "SRV=s1".to_owned() };
        assert_eq!(door.prove_followed(&client), Ok(()));
        assert_eq!(
            door.prove_stripped(&client),
            Err(r#"the server saw the cookies ["a=b", "SRV=s1", "c=d"]"#.to_owned())
        );
    }
}
