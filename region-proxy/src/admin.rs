//! The status listener: `GET /status` for `gslb-dns`, `POST /drain` and `POST /undrain` for operators.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::body::Body;
use crate::live::Proxy;
use crate::relay::own;
use shared::token::Token;

/// What survives a restart.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SavedState {
    /// Whether an operator drains the proxy.
    pub is_draining: bool,
}

/// Answers one request to the status listener.
pub async fn answer(proxy: Arc<Proxy>, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let (method, path) = (request.method(), request.uri().path());
    match (path, method) {
        ("/status", &Method::GET | &Method::HEAD) => json(&proxy.status()),
        ("/status", _) => not_allowed("GET, HEAD"),
        ("/drain" | "/undrain", &Method::POST) => {
            let token = proxy.live.load().config.token.clone();
            match authorize(request.headers(), token.as_ref()) {
                Ok(()) => change_draining(Arc::clone(&proxy), path == "/drain", peer).await,
                Err(refusal) => *refusal,
            }
        }
        ("/drain" | "/undrain", _) => not_allowed("POST"),
        _ => own(StatusCode::NOT_FOUND, "no such path: expected /status, /drain or /undrain"),
    }
}

/// Whether the request shows the token; else the answer that refuses it.
fn authorize(headers: &HeaderMap, token: Option<&Token>) -> Result<(), Box<Response<Body>>> {
    let Some(token) = token else {
        let text = "refused: set admin_token_file in the settings of this proxy to allow changes";
        return Err(Box::new(own(StatusCode::FORBIDDEN, text)));
    };
    match headers.get(AUTHORIZATION) {
        Some(authorization) if token.is_in(authorization.as_bytes()) => Ok(()),
        _ => {
            let mut refusal = own(StatusCode::UNAUTHORIZED, "refused: the token is missing or wrong");
            refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            Err(Box::new(refusal))
        }
    }
}

/// Changes and saves to the end, even when the client does not wait for it: two savings at a time would mix.
async fn change_draining(proxy: Arc<Proxy>, is_draining: bool, peer: SocketAddr) -> Response<Body> {
    let changing = tokio::spawn(async move { set_draining(&proxy, is_draining, peer).await });
    changing.await.unwrap_or_else(|error| own(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))
}

async fn set_draining(proxy: &Proxy, is_draining: bool, peer: SocketAddr) -> Response<Body> {
    // Taken before the change and held until it is saved, so that the file ends as the last change did.
    let _saving = proxy.saving.lock().await;
    let was_draining = proxy.is_draining.swap(is_draining, Ordering::Relaxed);
    if was_draining != is_draining {
        tracing::warn!(%peer, from = was_draining, to = is_draining, "draining changed");
    }
    let state = SavedState { is_draining };
    let Some(file) = proxy.live.load().config.state_file.clone() else { return json(&state) };
    let saved = tokio::task::spawn_blocking(move || save(&file, state)).await.unwrap_or_else(|error| Err(error.into()));
    match saved {
        Ok(()) => json(&state),
        Err(error) => {
            tracing::error!(%error, "cannot save the state");
            let text =
                format!("is_draining is {is_draining} now, but would not survive a restart: state_file: {error}");
            own(StatusCode::INTERNAL_SERVER_ERROR, &text)
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

fn not_allowed(allow: &'static str) -> Response<Body> {
    let mut response = own(StatusCode::METHOD_NOT_ALLOWED, &format!("expected {allow}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

fn json(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            let mut response = Response::new(Body::text(text));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => own(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(authorization: Option<&'static str>, token: Option<&str>) -> Result<(), StatusCode> {
        let token = token.map(|token| Token::parse(token).expect("a token"));
        let value = authorization.map(|value| (AUTHORIZATION, HeaderValue::from_static(value)));
        authorize(&value.into_iter().collect(), token.as_ref()).map_err(|refusal| refusal.status())
    }

    #[test]
    fn changes_need_the_token() {
        let token = Some("0123456789abcdef");
        assert_eq!(status_of(Some("Bearer 0123456789abcdef"), token), Ok(()));
        assert_eq!(status_of(Some("bearer 0123456789abcdef"), token), Ok(()));
        for wrong in
            [None, Some("Bearer"), Some("Bearer "), Some("Bearer 0123456789abcdeg"), Some("Basic 0123456789abcdef")]
        {
            assert_eq!(status_of(wrong, token), Err(StatusCode::UNAUTHORIZED), "{wrong:?}");
        }
    }

    #[test]
    fn without_a_token_every_change_is_refused() {
        assert_eq!(status_of(Some("Bearer 0123456789abcdef"), None), Err(StatusCode::FORBIDDEN));
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
        let proxy = Arc::new(Proxy::new(config, false));
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
