//! What proxies tell each other, as octets: the length of a text in four octets, the most significant first, and the text,
//! which is JSON.
//!
//! ```text
//! who tells                                  who hears
//! Hello ───────────────────────────────────►
//!       ◄─────────────────────────────────── Hello
//! Words, Clients, … all that there is ─────►
//! Whole ───────────────────────────────────►
//! Words, Clients, … what is new ───────────►
//! Ping, once a second ─────────────────────► Pong
//!       ◄─────────────────────────────────── Again: the settings are others, tell all once more
//! ```

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::name::{OwnerName, ProxyName, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::ledger::Word;
use crate::stick_table::Named;

/// The version of all of this.
pub const VERSION: u32 = 1;

/// One piece of what is told.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Frame {
    /// Who speaks; the first from both sides.
    Hello {
        /// What it speaks.
        version: u32,
        /// Its name.
        proxy: ProxyName,
    },
    /// What operators said of servers.
    Words(Vec<Word>),
    /// Clients of a service and their servers.
    Clients(Clients),
    /// All that there was has been told.
    Whole,
    /// Nothing new; expects [`Self::Pong`].
    Ping,
    /// The answer to [`Self::Ping`].
    Pong,
    /// What was told may mean more now than before: all of it is to be told again.
    Again,
}

/// Some clients of one service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// The service.
    pub service: OwnerName,
    /// The servers that they have.
    servers: Vec<ServerName>,
    /// Each client, the index of its server, how many milliseconds ago its last use was, how often its server has changed.
    clients: Vec<(IpAddr, u16, u64, u32)>,
}

/// What came is not what is told here.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is too long.
    #[error("a piece of {0} octets: expected {LEN_MAX} at most")]
    TooLong(usize),
    /// It is something else.
    #[error("a piece that cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

impl Clients {
    /// Those of `named`, fewer than 65,536, who are clients of `service`.
    pub fn new(service: OwnerName, named: Vec<Named>) -> Self {
        let mut servers: Vec<ServerName> = Vec::new();
        let clients = named.into_iter().map(|one| {
            let at = servers.iter().position(|server| *server == one.server).unwrap_or_else(|| {
                servers.push(one.server);
                servers.len() - 1
            });
            let age = u64::try_from(one.age.as_millis()).unwrap_or(u64::MAX);
            (one.client, at as u16, age, one.changes)
        });
        let clients = clients.collect();
        Self { service, servers, clients }
    }

    /// Each of them; without those whose server is not told.
    pub fn named(&self) -> impl Iterator<Item = Named> {
        self.clients.iter().filter_map(|&(client, server, age, changes)| {
            let server = self.servers.get(usize::from(server))?.clone();
            Some(Named { client, server, age: Duration::from_millis(age), changes })
        })
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.clients.len()
    }
}

impl Frame {
    /// Its octets.
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = vec![0; 4];
        // Neither names nor numbers fail to be written.
        let _ = serde_json::to_writer(&mut octets, self);
        let len = (octets.len() - 4) as u32;
        octets[..4].copy_from_slice(&len.to_be_bytes());
        octets
    }

    /// Takes one from the start of `octets`; `None`: not all of it is there.
    pub fn take(octets: &mut Vec<u8>) -> Result<Option<Self>, Unreadable> {
        let Some(len) = octets.first_chunk().map(|len| u32::from_be_bytes(*len) as usize) else { return Ok(None) };
        if len > LEN_MAX {
            return Err(Unreadable::TooLong(len));
        }
        let Some(text) = octets.get(4..4 + len) else { return Ok(None) };
        let frame = serde_json::from_slice(text)?;
        octets.drain(..4 + len);
        Ok(Some(frame))
    }
}

/// The frames that come from `stream`.
#[derive(Debug)]
pub struct Frames<S> {
    stream: S,
    octets: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Frames<S> {
    /// From its next octet on.
    pub fn new(stream: S) -> Self {
        Self { stream, octets: Vec::new() }
    }

    /// The next; an error at the end. Nothing is lost where it is not waited for to the end.
    pub async fn next(&mut self) -> io::Result<Frame> {
        loop {
            let frame = Frame::take(&mut self.octets);
            if let Some(frame) = frame.map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))? {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.octets).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
            }
        }
    }
}

/// What one piece may be long: a thousand clients, or a hundred servers that were added, and more.
const LEN_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::Stamp;

    fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().expect("a name")
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let client = (any::<IpAddr>(), 0..3_usize, 0..u64::from(u32::MAX), any::<u32>());
        let clients = proptest::collection::vec(client, 0..20).prop_map(|clients| {
            let named = clients.into_iter().map(|(client, server, age, changes)| Named {
                client,
                server: name(["app-1", "app-2", "b"][server]),
                age: Duration::from_millis(age),
                changes,
            });
            Frame::Clients(Clients::new(name("www.gslb.test"), named.collect()))
        });
        let word = (any::<u32>(), 0..=256_u16, any::<bool>()).prop_map(|(at, weight, is_removed)| Word {
            service: name("www.gslb.test"),
            server: name("app-1"),
            stamp: Stamp { at: at.into(), by: name("seoul-1") },
            change: crate::changes::Change { weight: Some(weight), is_removed, ..Default::default() },
        });
        prop_oneof![
            clients,
            proptest::collection::vec(word, 0..5).prop_map(Frame::Words),
            any::<u32>().prop_map(|version| Frame::Hello { version, proxy: name("seoul-1") }),
            proptest::sample::select(vec![Frame::Whole, Frame::Ping, Frame::Pong, Frame::Again]),
        ]
    }

    proptest! {
        #[test]
        fn what_is_told_is_what_is_heard_however_it_is_cut(
            frames in proptest::collection::vec(any_frame(), 1..6),
            cut in 1..200_usize,
        ) {
            let octets = frames.iter().flat_map(Frame::encode).collect::<Vec<_>>();
            let (mut waiting, mut heard) = (Vec::new(), Vec::new());
            for part in octets.chunks(cut) {
                waiting.extend_from_slice(part);
                while let Some(frame) = Frame::take(&mut waiting).expect("readable") {
                    heard.push(frame);
                }
            }
            prop_assert_eq!(heard, frames);
        }

        #[test]
        fn whatever_comes_is_read_or_refused(mut octets in proptest::collection::vec(any::<u8>(), 0..100)) {
            while let Ok(Some(_)) = Frame::take(&mut octets) {}
        }

        #[test]
        fn clients_are_told_with_their_servers(clients in proptest::collection::vec((any::<IpAddr>(), 0..3_usize), 0..50)) {
            let named: Vec<_> = clients.into_iter().map(|(client, server)| Named {
                client,
                server: name(["app-1", "app-2", "b"][server]),
                age: Duration::from_secs(1),
                changes: 1,
            }).collect();
            let told = Clients::new(name("www.gslb.test"), named.clone());
            prop_assert_eq!(told.named().collect::<Vec<_>>(), named);
        }
    }

    #[test]
    fn no_memory_is_kept_for_a_length_that_nobody_sends() {
        let mut octets = (LEN_MAX as u32 + 1).to_be_bytes().to_vec();
        assert!(matches!(Frame::take(&mut octets), Err(Unreadable::TooLong(_))));
    }

    #[test]
    fn clients_of_servers_that_are_not_told_are_left_out() {
        let text = r#"{"service":"www.gslb.test","servers":["a"],"clients":[["192.0.2.1",0,1,1],["192.0.2.2",7,1,1]]}"#;
        let clients: Clients = serde_json::from_str(text).expect("readable");
        assert_eq!(clients.named().map(|one| one.client.to_string()).collect::<Vec<_>>(), ["192.0.2.1"]);
    }
}
