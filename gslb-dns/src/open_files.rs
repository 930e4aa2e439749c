//! How many files, and so how many connections, the process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one: how many files may be open from here on.
///
/// The soft limit is low for programs that use `select`, of which this is none.
pub(crate) fn raise() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// How many files may be open once the limit is raised, where the system says.
pub(crate) fn most() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard)
}

/// TCP connections for which there is room among `files`: the rest of the node needs some too.
pub(crate) fn connections(files: u64) -> usize {
    let connections = files.saturating_sub(OTHERS).max(files / 2);
    usize::try_from(connections).unwrap_or(usize::MAX)
}

/// Files for anything but connections: sockets, probes of some hundred proxies, the admin listener, zones, databases.
const OTHERS: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_raised_as_far_as_it_goes() {
        let files = raise();
        assert_eq!(Some(files), most());
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((files, files)));
    }

    #[test]
    fn connections_leave_files_for_the_rest() {
        assert_eq!([256, 1024, 4096, 524_288].map(connections), [128, 512, 3072, 523_264]);
        assert_eq!(connections(u64::MAX), usize::MAX - OTHERS as usize);
    }
}
