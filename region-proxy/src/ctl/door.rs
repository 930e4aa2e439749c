//! The way to a running proxy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::{Ask, Ctl};
use crate::config::Contact;
use crate::once::{self, Answer, Once};

/// Where the proxy is reached.
#[derive(Debug)]
pub enum Door {
    /// Its socket.
    Socket(PathBuf),
    /// Its status, with the secret that is shown there; who only looks may have none.
    Status(SocketAddr, Option<String>),
}

impl Door {
    /// The one for `ctl` that `contact`, read from `file`, says; `reachable` gives where a listener is reached.
    pub fn of(
        ctl: &Ctl,
        file: &Path,
        contact: Contact,
        reachable: impl Fn(SocketAddr) -> SocketAddr,
    ) -> Result<Self, String> {
        let Contact { admin_socket, status, token } = contact;
        if let Some(socket) = admin_socket {
            return Ok(Self::Socket(socket));
        }
        let file = file.display();
        match status.filter(|_| token.is_some() || ctl.order.only_looks()) {
            None => Err(format!("{file}: neither admin_socket nor admin_token_file is there: expected one of them")),
            Some(status) if status.port() == 0 => {
                Err(format!("{file}: status: port 0 does not tell where the proxy listens: expected admin_socket"))
            }
            Some(status) => Ok(Self::Status(reachable(status), token.map(|token| token.reveal().to_owned()))),
        }
    }
    /// The answer to `ask`.
    pub(super) async fn send(&self, ask: &Ask) -> Result<Answer, String> {
        match self {
            Door::Socket(path) => {
                let stream = UnixStream::connect(path).await;
                let mut stream = stream.map_err(|error| {
                    format!("{}: {}: does the proxy run, by these settings?", path.display(), once::in_words(&error))
                })?;
                let answer = send_over(&mut stream, ask, &[]).await;
                answer.map_err(|error| format!("{}: {error}", path.display()))
            }
            Door::Status(address, token) => {
                let authorization = token.as_ref().map(|token| format!("Bearer {token}"));
                let fields: Vec<_> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
                let answer = async {
                    let mut stream = once::connect(*address).await?;
                    send_over(&mut stream, ask, &fields).await
                };
                answer.await.map_err(|error| format!("{address}: {error}"))
            }
        }
    }
}

async fn send_over(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ask: &Ask,
    fields: &[(&str, &str)],
) -> Result<Answer, String> {
    let Ask { method, path, body } = ask;
    let request = Once { method, path, host: "region-proxy", preface: b"", fields, body: body.as_bytes() };
    let answer = once::fetch_over(stream, request, ANSWER_OCTETS_MAX).await?;
    if answer.is_cut { Err(format!("an answer longer than {ANSWER_OCTETS_MAX} octets")) } else { Ok(answer) }
}

/// Thousands of servers are told of in less.
const ANSWER_OCTETS_MAX: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_looks_gets_in_without_a_token() {
        let file = Path::new("p.toml");
        let door = |ctl: &Ctl| {
            let contact = Contact { admin_socket: None, status: Some(([192, 0, 2, 1], 8081).into()), token: None };
            Door::of(ctl, file, contact, |status| status)
        };
        assert!(matches!(door(&Ctl::l4(None, None, false)), Ok(Door::Status(_, None))));
        assert!(door(&Ctl::drain(file.to_owned(), true)).is_err_and(|error| error.contains("admin_token_file")));
    }
}
