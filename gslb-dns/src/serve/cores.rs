//! Which core each UDP thread stays on.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The cores that this process may run on, in their order; empty where the system does not say.
pub(super) fn allowed() -> Vec<usize> {
    // 0 is the calling thread.
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect()
}

/// The core of each of `threads` threads: one each when there are as many cores, so that what a thread touches stays in
/// its core's cache; nothing otherwise, for then the system knows better which core is free.
pub(super) fn assign(threads: usize, allowed: &[usize]) -> Vec<Option<usize>> {
    (0..threads).map(|at| allowed.get(at).copied().filter(|_| threads == allowed.len())).collect()
}

/// Keeps the calling thread on `core`.
pub(super) fn stay_on(core: usize) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn each_core_gets_one_thread_or_none_is_bound_to_any() {
        assert_eq!(assign(2, &[3, 7]), [Some(3), Some(7)]);
        assert_eq!(assign(1, &[3, 7]), [None]);
        assert_eq!(assign(3, &[3, 7]), [None; 3]);
        assert_eq!(assign(1, &[]), [None]);
    }

    #[test]
    fn thread_stays_on_its_core() {
        let cores = allowed();
        let last = *cores.last().expect("a test runs somewhere");
        let found = thread::spawn(move || stay_on(last).map(|()| allowed())).join().expect("no panic");
        assert_eq!(found, Ok(vec![last]));
        assert_eq!(allowed(), cores, "other threads stay where they were");
    }
}
