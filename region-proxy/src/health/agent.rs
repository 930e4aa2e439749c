//! One question to the agent of a server.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::config::AgentCheck;
use crate::once::{connect, in_words};
use crate::standing::agent::Line;

/// What the agent of the server at `address` says; else why it says nothing that counts.
pub(super) async fn ask(check: &AgentCheck, address: SocketAddr) -> Result<Line, String> {
    let limit = check.time_limit;
    timeout(limit, say(check, address)).await.unwrap_or_else(|_| Err(format!("no line within {limit:?}")))
}

async fn say(check: &AgentCheck, address: SocketAddr) -> Result<Line, String> {
    let mut stream = connect(check.place.of(address)).await?;
    stream.write_all(check.send.as_bytes()).await.map_err(|error| format!("question: {}", in_words(&error)))?;
    let mut octets = Vec::with_capacity(Line::LEN_MAX);
    loop {
        if let Some(end) = octets.iter().position(|octet| matches!(octet, b'\n' | b'\r')) {
            return Line::parse(&octets[..end]).map_err(|error| error.to_string());
        }
        if octets.len() > Line::LEN_MAX {
            return Err(format!("a line longer than {} octets", Line::LEN_MAX));
        }
        let mut part = [0; 256];
        let count = stream.read(&mut part).await.map_err(|error| format!("answer: {}", in_words(&error)))?;
        if count == 0 {
            // As HAProxy has it: the end of the connection ends a line too.
            return Line::parse(&octets).map_err(|error| error.to_string());
        }
        octets.extend_from_slice(&part[..count]);
    }
}
