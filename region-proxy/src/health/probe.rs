//! One check of a server.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::config::{Probe, ProxyHeader, Question, ServerProtocol};
use crate::live::{Server, Service};
use crate::once::{self, Once};
use crate::proxy_protocol;
use crate::tls::back::Equipment;
use crate::upstream::alone::Alone;

/// Whether `server` is well; else why not, in words.
pub(super) async fn check(service: &Service, server: &Server) -> Result<(), String> {
    let check = &service.config.check;
    let own = service.config.servers.get(&server.name).and_then(|server| server.check);
    let address = own.unwrap_or_else(|| check.place.of(server.address));
    // What answers elsewhere for the server need not speak TLS.
    let tls = server.tls.as_ref().filter(|_| address == server.address);
    let probe = async {
        match &check.probe {
            Probe::Connect => connect(address, tls).await,
            Probe::Http(question) => ask(service, address, tls, question).await,
        }
    };
    timeout(check.time_limit, probe).await.unwrap_or_else(|_| Err(format!("no answer within {:?}", check.time_limit)))
}

async fn connect(address: SocketAddr, tls: Option<&Equipment>) -> Result<(), String> {
    let stream = once::connect(address).await?;
    match tls {
        None => Ok(()),
        Some(tls) => tls.greet(stream, false).await.map(drop),
    }
}

async fn ask(
    service: &Service,
    address: SocketAddr,
    tls: Option<&Equipment>,
    question: &Question,
) -> Result<(), String> {
    let mut fields: Vec<(&str, &str)> = question.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
        fields.push(("User-Agent", concat!("region-proxy/", env!("CARGO_PKG_VERSION"))));
    }
    let mut preface = Vec::new();
    match service.config.send_proxy {
        None => {}
        Some(ProxyHeader::V1) => proxy_protocol::write_v1(None, &mut preface),
        Some(ProxyHeader::V2) => proxy_protocol::write_v2(None, &mut preface),
    }
    let request = Once {
        method: &question.method,
        path: &question.path,
        host: question.host.as_deref().unwrap_or(service.name.as_str()),
        preface: &preface,
        fields: &fields,
        body: b"",
    };
    let body_max = if question.body.is_some() { question.body_octets } else { 0 };
    let answer = match tls {
        _ if service.config.protocol == ServerProtocol::Http2 => {
            let stream = once::connect(address).await?;
            match tls {
                None => once::fetch_over(&mut Alone::new(stream, false), request, body_max).await?,
                Some(tls) => {
                    let stream = tls.greet(stream, false).await?;
                    once::fetch_over(&mut Alone::new(stream, true), request, body_max).await?
                }
            }
        }
        None => once::fetch(address, request, body_max).await?,
        Some(tls) => {
            let mut stream = once::connect(address).await?;
            // TLS begins behind the PROXY header.
            stream.write_all(&preface).await.map_err(|error| format!("request: {}", once::in_words(&error)))?;
            once::fetch_over(&mut tls.greet(stream, true).await?, Once { preface: b"", ..request }, body_max).await?
        }
    };
    judge(question, &answer)
}

/// Whether `answer` is one of those that are right.
fn judge(question: &Question, answer: &once::Answer) -> Result<(), String> {
    let status = answer.status;
    if !question.statuses.has(status) {
        return Err(format!("status {status}, expected {}", question.statuses));
    }
    match &question.body {
        Some(wanted) if !wanted.is_in(&answer.body) => {
            let where_ =
                if answer.is_cut { format!("first {} octets of its ", answer.body.len()) } else { String::new() };
            Err(format!("status {status}, but {wanted} is not in the {where_}body"))
        }
        _ => Ok(()),
    }
}
