//! Zone transfers to secondaries: whole zones (AXFR, RFC 5936), what has changed (IXFR, RFC 1995), and the word that
//! something has (NOTIFY, RFC 1996).
//!
//! ```text
//! Content ─► Transferable ─► Transfer ─► message, message, …
//!   └─► next Content: Delta ─► History
//! ```

mod history;
mod notification;
mod stream;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::zone::{Content, is_newer};

pub use history::{Delta, History};
pub use notification::{Acknowledgement, NotAcknowledged, notification, pause_after, read_acknowledgement};
pub use stream::{Asked, OPT, Opt, Transfer};

/// A zone as it may be transferred: all of it, and what led to it.
#[derive(Clone, Debug)]
pub struct Transferable {
    content: Arc<Content>,
    history: History,
}

impl Transferable {
    /// One without a past.
    pub fn new(content: impl Into<Arc<Content>>) -> Self {
        Self { content: content.into(), history: History::default() }
    }

    /// The same zone when it says `content`.
    ///
    /// Its past goes on where the serial grows (RFC 1982). Where it does not, though something has changed, secondaries
    /// that have the old one would never know: there is no past then, so that who asks gets the whole zone.
    pub fn next(&self, content: impl Into<Arc<Content>>) -> Self {
        let content = content.into();
        if Arc::ptr_eq(&content, &self.content) || content == self.content {
            return self.clone();
        }
        let history = match is_newer(content.serial(), self.content.serial()) {
            true => self.history.with(Delta::between(&self.content, &content)),
            false => History::default(),
        };
        Self { content, history }
    }

    /// All that it says.
    pub fn content(&self) -> &Arc<Content> {
        &self.content
    }

    /// What led to it.
    pub fn history(&self) -> &History {
        &self.history
    }
}
