//! The coarse clock of the request path, and one sweep over the time limits of all connections of a thread.

use std::cell::{Cell, RefCell};
use std::task::Waker;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use shared::moment::Moment;

/// A moment of the coarse monotonic clock, in milliseconds; no system call, some milliseconds late.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Tick(u64);

impl Tick {
    /// Later than all others.
    pub const NEVER: Self = Self(u64::MAX);

    /// This moment.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::MonotonicCoarse);
        Self(now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000)
    }

    /// The same for what is pure.
    pub fn moment(self) -> Moment {
        Moment::from_start(Duration::from_millis(self.0))
    }

    /// `span` later.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it was not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The time of day, in seconds since 1970; no system call.
pub fn unix_secs() -> u64 {
    clock_gettime(ClockId::RealtimeCoarse).tv_sec.try_into().unwrap_or_default()
}

/// The time of day, in milliseconds since 1970, as late as a [`Tick`]; no system call.
pub fn unix_ms() -> u64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    u64::try_from(now.tv_sec).unwrap_or_default() * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Waiting {
    /// Something that a request in progress needs.
    #[default]
    Busy,
    /// The next request: it may be closed in favour of a newcomer.
    Idle,
    /// The same, and it was told to close.
    Dismissed,
}

/// The time limits of the connections of one thread, looked at together once a tick instead of one timer for each.
#[derive(Debug, Default)]
pub struct Deadlines {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    hand: Cell<usize>,
}

#[derive(Debug, Default)]
struct Slot {
    at: Option<Tick>,
    waiting: Waiting,
    waker: Option<Waker>,
}

impl Deadlines {
    /// How late a limit may be noticed.
    pub const TICK: Duration = Duration::from_millis(20);

    /// A place for one connection, to be given back.
    pub fn take(&self) -> u32 {
        if let Some(index) = self.free.borrow_mut().pop() {
            return index;
        }
        let mut slots = self.slots.borrow_mut();
        slots.push(Slot::default());
        (slots.len() - 1) as u32
    }

    /// Ends what [`Self::take`] began.
    pub fn give_back(&self, index: u32) {
        let slot = self.slots.borrow_mut().get_mut(index as usize).map(std::mem::take);
        self.free.borrow_mut().push(index);
        drop(slot);
    }

    /// Has `waker` woken at `at`, unless it is armed anew before.
    pub fn arm(&self, index: u32, at: Tick, waiting: Waiting, waker: &Waker) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(index as usize) else { return };
        slot.at = Some(at);
        if slot.waiting != Waiting::Dismissed || waiting == Waiting::Busy {
            slot.waiting = waiting;
        }
        if !slot.waker.as_ref().is_some_and(|before| before.will_wake(waker)) {
            slot.waker = Some(waker.clone());
        }
    }

    /// Notes that the connection is at work: no newcomer may take its place.
    pub fn set_busy(&self, index: u32) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(index as usize) {
            slot.waiting = Waiting::Busy;
        }
    }

    /// Has it look whether it may go on.
    pub fn wake(&self, index: u32) {
        if let Some(slot) = self.slots.borrow().get(index as usize) {
            slot.waker.iter().for_each(Waker::wake_by_ref);
        }
    }

    /// Whether the connection was told to close.
    pub fn is_dismissed(&self, index: u32) -> bool {
        self.slots.borrow().get(index as usize).is_some_and(|slot| slot.waiting == Waiting::Dismissed)
    }

    /// Wakes all whose limit has come.
    pub fn sweep(&self, now: Tick) {
        for slot in self.slots.borrow_mut().iter_mut() {
            if slot.at.is_some_and(|at| at <= now) {
                slot.at = None;
                slot.waker.iter().for_each(Waker::wake_by_ref);
            }
        }
    }

    /// Tells one idle connection to close; `false` when none is idle.
    ///
    /// Goes round, so that each in turn is the one; cheap while idle ones are many.
    pub fn dismiss_one(&self) -> bool {
        let mut slots = self.slots.borrow_mut();
        let count = slots.len();
        for step in 0..count {
            let at = (self.hand.get() + step) % count;
            if dismiss(&mut slots[at]) {
                self.hand.set(at + 1);
                return true;
            }
        }
        false
    }

    /// Has all look whether they may go on.
    pub fn wake_all(&self) {
        self.slots.borrow().iter().filter_map(|slot| slot.waker.as_ref()).for_each(Waker::wake_by_ref);
    }

    /// Tells all idle connections to close.
    pub fn dismiss_all(&self) {
        for slot in self.slots.borrow_mut().iter_mut() {
            dismiss(slot);
        }
    }
}

fn dismiss(slot: &mut Slot) -> bool {
    let is_idle = slot.waiting == Waiting::Idle;
    if is_idle {
        slot.waiting = Waiting::Dismissed;
        slot.waker.iter().for_each(Waker::wake_by_ref);
    }
    is_idle
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counted() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn a_limit_wakes_once_and_only_when_it_has_come() {
        let (deadlines, (count, waker)) = (Deadlines::default(), counted());
        let index = deadlines.take();
        deadlines.arm(index, Tick(5), Waiting::Busy, &waker);
        let after = [4, 5, 6].map(|now| {
            deadlines.sweep(Tick(now));
            count.0.load(Ordering::Relaxed)
        });
        assert_eq!(after, [0, 1, 1]);
    }

    #[test]
    fn only_idle_connections_make_room_and_each_but_once() {
        let (deadlines, (_, waker)) = (Deadlines::default(), counted());
        let [busy, one, two] = [(); 3].map(|()| deadlines.take());
        deadlines.arm(busy, Tick::NEVER, Waiting::Busy, &waker);
        for idle in [one, two] {
            deadlines.arm(idle, Tick::NEVER, Waiting::Idle, &waker);
        }
        assert_eq!([(); 3].map(|()| deadlines.dismiss_one()), [true, true, false]);
        assert_eq!([busy, one, two].map(|index| deadlines.is_dismissed(index)), [false, true, true]);
    }

    #[test]
    fn a_place_that_was_given_back_starts_anew() {
        let (deadlines, (count, waker)) = (Deadlines::default(), counted());
        let index = deadlines.take();
        deadlines.arm(index, Tick(1), Waiting::Idle, &waker);
        deadlines.give_back(index);
        assert_eq!(deadlines.take(), index);
        deadlines.sweep(Tick(9));
        assert!(!deadlines.dismiss_one() && count.0.load(Ordering::Relaxed) == 0);
    }
}
