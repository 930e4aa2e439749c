//! Heads of requests and responses, read without mercy.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The head of a request or a response.
#[derive(Debug)]
pub(crate) struct Head {
    /// Of a response: its version.
    pub(crate) method: String,
    /// Of a response: its status.
    pub(crate) path: String,
    /// With names in lower case.
    fields: Vec<(String, String)>,
    len: usize,
}

impl Head {
    /// The head at the front of `bytes`, if it is whole.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let len = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&bytes[..len]);
        let mut lines = text.lines();
        let mut words = lines.next()?.split(' ').map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let field =
            |line: &str| Some((line.split_once(": ")?.0.to_ascii_lowercase(), line.split_once(": ")?.1.to_owned()));
        let fields = lines.filter_map(field).collect();
        Some(Self { method, path, fields, len })
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn content_length(&self) -> usize {
        self.field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
    }

    /// What tests call the request.
    pub(crate) fn id(&self) -> String {
        self.field("x-id").unwrap_or_default().to_owned()
    }

    pub(crate) fn is_last(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// The next head; what follows stays in `unread`. `None` at the end.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>) -> io::Result<Option<Head>> {
    loop {
        if let Some(head) = Head::parse(unread) {
            unread.drain(..head.len);
            return Ok(Some(head));
        }
        if stream.read_buf(unread).await? == 0 {
            return Ok(None);
        }
    }
}
