//! What the process may do: as whom it runs, and how many files it may open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{self, Uid, User};

use crate::config::Limits;

/// Why the process did not become another user.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// The user's entry cannot be read.
    #[error("user: cannot look up {user}: {errno}")]
    Lookup {
        /// The user in the settings.
        user: String,
        /// What the system says.
        errno: nix::Error,
    },
    /// There is none of this name.
    #[error("user: there is no user {user} on this machine: expected one, as made by `useradd --system {user}`")]
    Unknown {
        /// The user in the settings.
        user: String,
    },
    /// The system refuses.
    #[error("user: cannot become {user}: {errno} (start as root or as that user, or leave `user` out)")]
    Refused {
        /// The user in the settings.
        user: String,
        /// What the system says.
        errno: nix::Error,
    },
    /// The way back is open, so nothing was gained.
    #[error("user: {user} can become root again: expected a user without privileges")]
    Regained {
        /// The user in the settings.
        user: String,
    },
}

/// The entry of `user`.
pub fn look_up(user: &str) -> Result<User, RightsError> {
    let name = || user.to_owned();
    let entry = User::from_name(user).map_err(|errno| RightsError::Lookup { user: name(), errno })?;
    entry.ok_or_else(|| RightsError::Unknown { user: name() })
}

/// Becomes `user` for good; nothing to do for who is that user already.
pub fn become_user(user: &str) -> Result<(), RightsError> {
    let entry = look_up(user)?;
    let name = || user.to_owned();
    if unistd::getresuid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [entry.uid; 3]) {
        return Ok(());
    }
    // Groups first: afterwards there is no right to change them.
    unistd::setgroups(&[entry.gid])
        .and_then(|()| unistd::setresgid(entry.gid, entry.gid, entry.gid))
        .and_then(|()| unistd::setresuid(entry.uid, entry.uid, entry.uid))
        .map_err(|errno| RightsError::Refused { user: name(), errno })?;
    let root = Uid::from_raw(0);
    if entry.uid != root && unistd::setresuid(root, root, root).is_ok() {
        return Err(RightsError::Regained { user: name() });
    }
    tracing::info!(user, "dropped privileges");
    Ok(())
}

/// Raises the number of files that may be open as far as it goes, and warns where `limits` may need more.
pub fn raise_files(limits: &Limits) {
    let needed = files_for(limits.connections);
    let files = raise(needed);
    if files < needed {
        tracing::warn!(
            files,
            needed,
            connections = limits.connections,
            "too few files may be open for limits.connections: raise the limit (LimitNOFILE in systemd, ulimit -Hn) or \
             lower that"
        );
    }
}

/// A connection of a client has one to a server, as a rule; the rest is for listeners, checks and files.
fn files_for(connections: usize) -> u64 {
    connections as u64 * 2 + RESERVE
}

/// Raises the soft limit to the hard one, and that to `needed` where this process may; how many it is then.
fn raise(needed: u64) -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    if hard < needed && setrlimit(Resource::RLIMIT_NOFILE, needed, needed).is_ok() {
        return needed;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

const RESERVE: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_is_a_mistake() {
        assert!(matches!(become_user("no-such-user-here"), Err(RightsError::Unknown { .. })));
    }

    #[test]
    fn the_limit_of_files_is_raised_as_far_as_it_goes() {
        let files = raise(0);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((files, files)));
    }
}
