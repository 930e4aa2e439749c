//! Wakes the thread that keeps the kernel true.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, eventfd};

/// Rung by whoever changes something of servers; costs nothing where nobody listens.
#[derive(Debug, Default)]
pub struct Bell(OnceLock<OwnedFd>);

impl Bell {
    /// Wakes who listens.
    pub fn ring(&self) {
        if let Some(fd) = self.0.get() {
            // It fails only when it has been rung 2^64 times unheard.
            let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
        }
    }

    /// What is readable once it was rung; all who listen share it.
    pub(super) fn listen(&self) -> std::io::Result<&OwnedFd> {
        if let Some(fd) = self.0.get() {
            return Ok(fd);
        }
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(self.0.get_or_init(|| fd))
    }
}

/// Forgets that it was rung.
pub(super) fn hear(fd: &OwnedFd) {
    // Not rung is what it shall be.
    let _ = rustix::io::read(fd, &mut [0; 8]);
}
