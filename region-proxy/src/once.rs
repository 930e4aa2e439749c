//! One request over a connection of its own: for checks of servers and for `drain`.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Status and body of the answer, of which at most `body_max` octets are read: none when it is 0.
///
/// Fails with a text that says at which step. Has no time limit of its own.
pub async fn fetch(
    address: SocketAddr,
    request: Request<Empty<Bytes>>,
    body_max: usize,
) -> Result<(StatusCode, Bytes), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| format!("connect: {error}"))?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|error| crate::upstream::cause(&error))?;
        let status = response.status();
        if body_max == 0 {
            return Ok((status, Bytes::new()));
        }
        let body = Limited::new(response.into_body(), body_max).collect().await;
        Ok((status, body.map_err(|error| format!("body: {error}"))?.to_bytes()))
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The end of the connection is seen by the exchange too, and told better there.
        _ = connection => exchange.await,
    }
}
