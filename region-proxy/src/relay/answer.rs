//! What the proxy says itself.

use super::client::{After, Client};
use super::record::{By, Cause, Record};
use super::tell::tell;

/// A request that no server sees, with its answer.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) answer: Answer,
    record: Record,
}

impl Own {
    /// `answer` to the request of `record`.
    pub(super) fn new(answer: Answer, mut record: Record) -> Self {
        record.answer_here(answer.status);
        Self { answer, record }
    }

    /// Notes that so many octets of the answer were sent, and tells of the request; what follows.
    pub(super) fn end(&mut self, client: &Client, sent: usize, is_whole: bool) -> After {
        self.record.octets_down = sent as u64;
        if !is_whole {
            self.record.end_last(By::Client, Cause::ClientGone, "");
        }
        tell(&mut self.record, client.teller(), None);
        if is_whole { self.answer.after } else { After::Close }
    }
}

/// An answer of the proxy's own: one line of text.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: u16,
    /// All of it, as it is sent.
    pub(super) octets: Vec<u8>,
    /// What follows on the client's connection.
    pub(super) after: After,
}

/// What an answer says and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Saying<'s> {
    /// Its status.
    pub(super) status: u16,
    /// Its text, without a line end; may be empty.
    pub(super) text: &'s str,
    /// Further field lines, each with its CRLF.
    pub(super) lines: &'s str,
    /// Whether it answers HEAD.
    pub(super) is_head: bool,
    /// What follows.
    pub(super) after: After,
}

impl Answer {
    /// Writes `saying`.
    pub(super) fn new(saying: Saying<'_>) -> Self {
        let Saying { status, text, lines, is_head, after } = saying;
        let text = if text.is_empty() { String::new() } else { format!("{text}\n") };
        let close = if after == After::Next { "" } else { "Connection: close\r\n" };
        let mut octets = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{lines}{close}\r\n",
            phrase(status),
            text.len()
        );
        if !is_head {
            octets += &text;
        }
        Self { status, octets: octets.into_bytes(), after }
    }

    /// Refuses a request, after which nothing is read from its client but to let it read this.
    pub(super) fn refusal(status: u16, text: &str) -> Self {
        Self::new(Saying { status, text, lines: "", is_head: false, after: After::Linger })
    }

    /// Tells a client that the rest of its request did not come in time.
    pub(super) fn late(text: &str) -> Self {
        Self::new(Saying { status: 408, text, lines: "", is_head: false, after: After::Close })
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        // RFC 9112, section 4: the phrase may be empty.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(is_head: bool, after: After) -> String {
        let saying = Saying { status: 503, text: "no", lines: "Retry-After: 2\r\n", is_head, after };
        String::from_utf8(Answer::new(saying).octets).expect("text")
    }

    #[test]
    fn an_answer_tells_its_length_and_only_a_last_one_closes() {
        let text = said(false, After::Next);
        assert!(text.ends_with("Content-Length: 3\r\nRetry-After: 2\r\n\r\nno\n"), "{text}");
        assert!(said(false, After::Close).contains("\r\nConnection: close\r\n"));
    }

    #[test]
    fn the_answer_to_head_has_no_body() {
        assert!(said(true, After::Next).ends_with("\r\n\r\n"));
    }
}
