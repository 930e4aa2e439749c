//! The status listener: `GET /status` for `gslb-dns`, `GET /metrics`, `GET /stats` and `GET /l4` for people; for operators, who have another
//! on a Unix socket, `POST /drain`, `POST /undrain` and what [`servers`] tells of.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::live::Proxy;
use crate::switching::figures;
use crate::switching::report::L4Report;
use crate::tls::report::Report;
use jiff::Timestamp;
use shared::published::Status;
use shared::token::Token;

mod html;
mod l4;
pub mod local;
mod metrics;
mod page;
pub mod peers;
pub mod serve;
pub mod servers;
mod sheet;
pub mod state;
mod stats;
pub mod stick;
mod tables;
mod vips;

use stats::Stats;

/// What `GET /status` tells: what `gslb-dns` reads, and more for operators.
#[derive(Debug, Serialize)]
struct FullStatus {
    #[serde(flatten)]
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Report>,
    /// Why the settings in the file are not those in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    settings_problems: Vec<String>,
}

impl FullStatus {
    fn of(proxy: &Proxy) -> Self {
        let settings_problems = proxy.reload_counts.last().map(|last| last.problems).unwrap_or_default();
        Self { status: proxy.status(), tls: proxy.tls.report(Timestamp::now()), settings_problems }
    }
}

/// What is asked of the status listener.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    /// The method.
    pub method: &'r str,
    /// The path.
    pub path: &'r str,
    /// The query; empty where there is none.
    pub query: &'r str,
    /// The value of `Authorization`.
    pub authorization: Option<&'r [u8]>,
    /// The body.
    pub body: &'r [u8],
}

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// Somebody at this address.
    Remote(SocketAddr),
    /// The user of this number on this machine, whom the file of the socket let in.
    Local(u32),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(address) => address.fmt(f),
            Self::Local(user) => write!(f, "user {user}"),
        }
    }
}

/// What it answers.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Fields beside those of the length.
    pub fields: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// One line of text.
    fn text(status: u16, text: &str) -> Self {
        let fields = vec![("Content-Type", "text/plain; charset=utf-8")];
        Self { status, fields, body: format!("{text}\n").into_bytes() }
    }

    fn not_allowed(allow: &'static str) -> Self {
        let mut reply = Self::text(405, &format!("expected {allow}"));
        reply.fields.push(("Allow", allow));
        reply
    }

    /// A page that may load nothing and run nothing.
    fn page(text: String) -> Self {
        let fields = vec![
            ("Content-Type", "text/html; charset=utf-8"),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
            ("X-Content-Type-Options", "nosniff"),
        ];
        Self { status: 200, fields, body: text.into_bytes() }
    }

    /// The same text as the error of a JSON.
    fn in_json(mut self) -> Self {
        let json = Self::error(self.status, String::from_utf8_lossy(&self.body).trim_end());
        self.fields.retain(|(name, _)| *name != "Content-Type");
        self.fields.extend(json.fields);
        Self { fields: self.fields, ..json }
    }

    /// One line of JSON that says what is wrong and what would be right.
    fn error(status: u16, what: impl fmt::Display) -> Self {
        Self { status, ..Self::json(&serde_json::json!({ "error": what.to_string() })) }
    }

    fn json_not_allowed(allow: &'static str) -> Self {
        let mut reply = Self::error(405, format_args!("expected one of the methods {allow}"));
        reply.fields.push(("Allow", allow));
        reply
    }

    fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(mut body) => {
                body.push(b'\n');
                let fields = vec![("Content-Type", "application/json"), ("Cache-Control", "no-store")];
                Self { status: 200, fields, body }
            }
            Err(error) => Self::text(500, &error.to_string()),
        }
    }
}

/// Answers one request to the status listener, from `peer`.
pub async fn answer(proxy: Arc<Proxy>, peer: Peer, asked: Asked<'_>) -> Reply {
    match (asked.path, asked.method) {
        ("/status", "GET" | "HEAD") => Reply::json(&FullStatus::of(&proxy)),
        ("/metrics", "GET" | "HEAD") => {
            let fields = vec![("Content-Type", metrics::CONTENT_TYPE)];
            let l4 = l4(&proxy).await;
            Reply { status: 200, fields, body: metrics::encode(&proxy, l4).into_bytes() }
        }
        ("/stats", "GET" | "HEAD") => Reply::page(page::page(&stats(&proxy).await)),
        ("/stats.json", "GET" | "HEAD") => Reply::json(&stats(&proxy).await),
        ("/l4", "GET" | "HEAD") => Reply::json(&l4(&proxy).await),
        ("/status" | "/metrics" | "/stats" | "/stats.json" | "/l4", _) => Reply::not_allowed("GET, HEAD"),
        ("/drain" | "/undrain", "POST") => match allow(&proxy, peer, &asked) {
            Ok(()) => change_draining(Arc::clone(&proxy), asked.path == "/drain", peer).await,
            Err(refusal) => *refusal,
        },
        ("/drain" | "/undrain", _) => Reply::not_allowed("POST"),
        (path, _) if is_of_servers(path) => match allow(&proxy, peer, &asked) {
            Ok(()) => {
                match peers::answer(&proxy, &asked).or_else(|| stick::answer(&proxy, &peer.to_string(), &asked)) {
                    Some(reply) => reply,
                    None => servers::answer(&proxy, &peer.to_string(), &asked).await.unwrap_or_else(no_such_path),
                }
            }
            Err(refusal) => refusal.in_json(),
        },
        _ => no_such_path(),
    }
}

/// What people are told.
async fn stats(proxy: &Arc<Proxy>) -> Stats {
    let l4 = l4(proxy).await;
    Stats::of(proxy, l4, Timestamp::now())
}

/// What is told of L4 services, read aside: the kernel may take its time.
async fn l4(proxy: &Arc<Proxy>) -> L4Report {
    let of = Arc::clone(proxy);
    tokio::task::spawn_blocking(move || figures::report(&of)).await.unwrap_or_default()
}

fn is_of_servers(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next();
    matches!(first, Some("servers" | "services" | "stick" | "peers" | "reset" | "reload" | "upgrade"))
}

fn no_such_path() -> Reply {
    let pages = "/status, /stats, /stats.json, /metrics, /l4";
    let changes = "/drain, /undrain, /servers, /services, /stick, /peers, /reset, /reload or /upgrade";
    Reply::text(404, &format!("no such path: expected {pages}, {changes}"))
}

/// Whether `peer` may change what it asks to be changed; else the answer that refuses it.
fn allow(proxy: &Proxy, peer: Peer, asked: &Asked<'_>) -> Result<(), Box<Reply>> {
    match peer {
        Peer::Local(_) => Ok(()),
        Peer::Remote(_) => authorize(asked.authorization, proxy.live.load().config.token.as_ref()),
    }
}

/// Whether the request shows the token; else the answer that refuses it.
fn authorize(authorization: Option<&[u8]>, token: Option<&Token>) -> Result<(), Box<Reply>> {
    let Some(token) = token else {
        let text = "refused: set admin_token_file in the settings of this proxy to allow changes";
        return Err(Box::new(Reply::text(403, text)));
    };
    match authorization {
        Some(authorization) if token.is_in(authorization) => Ok(()),
        _ => {
            let mut refusal =
                Reply::text(401, "refused: the token is missing or wrong: expected `Authorization: Bearer TOKEN`");
            refusal.fields.push(("WWW-Authenticate", "Bearer"));
            Err(Box::new(refusal))
        }
    }
}

/// Changes and saves to the end, even when the client does not wait for it: two savings at a time would mix.
async fn change_draining(proxy: Arc<Proxy>, is_draining: bool, peer: Peer) -> Reply {
    let changing = tokio::spawn(async move { set_draining(&proxy, is_draining, peer).await });
    changing.await.unwrap_or_else(|error| Reply::text(500, &error.to_string()))
}

async fn set_draining(proxy: &Proxy, is_draining: bool, peer: Peer) -> Reply {
    // Taken before the change and held until it is saved, so that the file ends as the last change did.
    let _saving = proxy.saving.lock().await;
    if proxy.is_upgrading.load(Ordering::Relaxed) {
        return Reply::text(503, UPGRADING);
    }
    let was_draining = proxy.is_draining.swap(is_draining, Ordering::Relaxed);
    if was_draining != is_draining {
        tracing::warn!(%peer, from = was_draining, to = is_draining, "draining changed");
    }
    match servers::save(proxy).await {
        Ok(()) => Reply::json(&serde_json::json!({ "is_draining": is_draining })),
        Err(error) => {
            let text =
                format!("is_draining is {is_draining} now, but would not survive a restart: state_file: {error}");
            Reply::text(500, &text)
        }
    }
}

/// What would be changed now would be lost.
const UPGRADING: &str =
    "an upgrade is under way, and the new program would not know: expected it to be asked again soon";

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(authorization: Option<&'static str>, token: Option<&str>) -> Result<(), u16> {
        let token = token.map(|token| Token::parse(token).expect("a token"));
        authorize(authorization.map(str::as_bytes), token.as_ref()).map_err(|refusal| refusal.status)
    }

    #[test]
    fn changes_need_the_token() {
        let token = Some("0123456789abcdef");
        assert_eq!(status_of(Some("Bearer 0123456789abcdef"), token), Ok(()));
        assert_eq!(status_of(Some("bearer 0123456789abcdef"), token), Ok(()));
        for wrong in
            [None, Some("Bearer"), Some("Bearer "), Some("Bearer 0123456789abcdeg"), Some("Basic 0123456789abcdef")]
        {
            assert_eq!(status_of(wrong, token), Err(401), "{wrong:?}");
        }
    }

    #[test]
    fn without_a_token_every_change_is_refused() {
        assert_eq!(status_of(Some("Bearer 0123456789abcdef"), None), Err(403));
    }

    #[tokio::test]
    async fn no_other_change_begins_before_one_is_saved_even_when_its_client_leaves() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(
            "region = \"r\"\nproxy = \"p\"\nlisten = [\"127.0.0.1:0\"]\nstatus = \"127.0.0.1:0\"\nstate_file = \"{}\"\n\
             services.s.servers.a = \"192.0.2.1:80\"\n",
            folder.path().join("state.json").display()
        );
        let config = crate::config::Config::parse(std::path::Path::new("p.toml"), &text, &|_| Err(String::new()))
            .expect("right");
        let proxy = Arc::new(Proxy::new(config, crate::tls::Certificates::default(), false, 1));
        // Opening a pipe to write to waits for a reader, so the saving stands still.
        let pipe = folder.path().join("state.json.new");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()));
        let peer = Peer::Local(0);
        let change = change_draining(Arc::clone(&proxy), true, peer);
        let left = tokio::time::timeout(std::time::Duration::from_millis(50), change).await;
        let is_saving = proxy.saving.try_lock().is_err();
        std::fs::read(&pipe).expect("read");
        assert!(left.is_err() && is_saving);
    }
}
