//! The status listener: `GET /status` for `gslb-dns`, `GET /metrics`, `POST /drain` and `POST /undrain` for operators.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::live::Proxy;
use crate::tls::report::Report;
use jiff::Timestamp;
use shared::published::Status;
use shared::token::Token;

pub mod serve;

/// What survives a restart.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SavedState {
    /// Whether an operator drains the proxy.
    pub is_draining: bool,
}

/// What `GET /status` tells: what `gslb-dns` reads, and more for operators.
#[derive(Debug, Serialize)]
struct FullStatus {
    #[serde(flatten)]
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Report>,
}

/// What is asked of the status listener.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    /// The method.
    pub method: &'r str,
    /// The path.
    pub path: &'r str,
    /// The value of `Authorization`.
    pub authorization: Option<&'r [u8]>,
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
pub async fn answer(proxy: Arc<Proxy>, peer: SocketAddr, asked: Asked<'_>) -> Reply {
    match (asked.path, asked.method) {
        ("/status", "GET" | "HEAD") => {
            Reply::json(&FullStatus { status: proxy.status(), tls: proxy.tls.report(Timestamp::now()) })
        }
        ("/metrics", "GET" | "HEAD") => {
            let mut text = String::new();
            proxy.tls.write_metrics(&mut text);
            proxy.vrrp.write_metrics(&mut text);
            let fields = vec![("Content-Type", "text/plain; version=0.0.4; charset=utf-8")];
            Reply { status: 200, fields, body: text.into_bytes() }
        }
        ("/status" | "/metrics", _) => Reply::not_allowed("GET, HEAD"),
        ("/drain" | "/undrain", "POST") => {
            let token = proxy.live.load().config.token.clone();
            match authorize(asked.authorization, token.as_ref()) {
                Ok(()) => change_draining(Arc::clone(&proxy), asked.path == "/drain", peer).await,
                Err(refusal) => *refusal,
            }
        }
        ("/drain" | "/undrain", _) => Reply::not_allowed("POST"),
        _ => Reply::text(404, "no such path: expected /status, /metrics, /drain or /undrain"),
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
            let mut refusal = Reply::text(401, "refused: the token is missing or wrong");
            refusal.fields.push(("WWW-Authenticate", "Bearer"));
            Err(Box::new(refusal))
        }
    }
}

/// Changes and saves to the end, even when the client does not wait for it: two savings at a time would mix.
async fn change_draining(proxy: Arc<Proxy>, is_draining: bool, peer: SocketAddr) -> Reply {
    let changing = tokio::spawn(async move { set_draining(&proxy, is_draining, peer).await });
    changing.await.unwrap_or_else(|error| Reply::text(500, &error.to_string()))
}

async fn set_draining(proxy: &Proxy, is_draining: bool, peer: SocketAddr) -> Reply {
    // Taken before the change and held until it is saved, so that the file ends as the last change did.
    let _saving = proxy.saving.lock().await;
    let was_draining = proxy.is_draining.swap(is_draining, Ordering::Relaxed);
    if was_draining != is_draining {
        tracing::warn!(%peer, from = was_draining, to = is_draining, "draining changed");
    }
    let state = SavedState { is_draining };
    let Some(file) = proxy.live.load().config.state_file.clone() else { return Reply::json(&state) };
    let saved = tokio::task::spawn_blocking(move || save(&file, state)).await.unwrap_or_else(|error| Err(error.into()));
    match saved {
        Ok(()) => Reply::json(&state),
        Err(error) => {
            tracing::error!(%error, "cannot save the state");
            let text =
                format!("is_draining is {is_draining} now, but would not survive a restart: state_file: {error}");
            Reply::text(500, &text)
        }
    }
}

/// Replaces `file` whole: a crash leaves the old state or the new one, and the new one once this returns.
pub fn save(file: &Path, state: SavedState) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let mut new = std::fs::File::create(&name)?;
    serde_json::to_writer(&mut new, &state)?;
    new.write_all(b"\n")?;
    new.sync_all()?;
    std::fs::rename(&name, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

/// The saved state; the default where there is no file yet.
pub fn load(file: &Path) -> io::Result<SavedState> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(SavedState::default()),
        Err(error) => Err(error),
    }
}

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

    #[test]
    fn state_is_read_as_it_was_saved() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("state.json");
        assert_eq!(load(&file).ok(), Some(SavedState::default()));
        save(&file, SavedState { is_draining: true }).expect("saved");
        assert_eq!(load(&file).ok(), Some(SavedState { is_draining: true }));
        std::fs::write(&file, "{").expect("written");
        assert!(load(&file).is_err());
    }

    #[tokio::test]
    async fn no_other_change_begins_before_one_is_saved_even_when_its_client_leaves() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(
            "region = \"r\"\nproxy = \"p\"\nlisten = [\"127.0.0.1:0\"]\nstatus = \"127.0.0.1:0\"\nstate_file = \"{}\"\n\
             services.s.servers.a = \"192.0.2.1:80\"\n",
            folder.path().join("state.json").display()
        );
        let config = crate::config::Config::parse(Path::new("p.toml"), &text, &|_| Err(String::new())).expect("right");
        let proxy = Arc::new(Proxy::new(config, None, false, 1));
        // Opening a pipe to write to waits for a reader, so the saving stands still.
        let pipe = folder.path().join("state.json.new");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()));
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let change = change_draining(Arc::clone(&proxy), true, peer);
        let left = tokio::time::timeout(std::time::Duration::from_millis(50), change).await;
        let is_saving = proxy.saving.try_lock().is_err();
        std::fs::read(&pipe).expect("read");
        assert!(left.is_err() && is_saving);
    }
}
