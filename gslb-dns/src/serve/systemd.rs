//! Telling systemd how things stand, where it started the process and wants to know.

use sd_notify::NotifyState;
use tracing::warn;

/// Sends `state`; does nothing elsewhere.
pub(crate) fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot tell systemd");
    }
}

/// Says that a reload has begun; [`NotifyState::Ready`] ends it.
pub(super) fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell_systemd(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "no monotonic clock to tell systemd"),
    }
}
