//! Which requests of a connection can go on: each has a waker of its own, so that none is looked at in vain.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// The requests of one connection that can go on. Wakers may be called from anywhere, so that it is locked, though never
/// by two at a time.
#[derive(Clone, Default)]
pub(super) struct Ready(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    slots: Vec<usize>,
    /// The task of the connection.
    task: Option<Waker>,
    /// Whether the task is at work, and looks here before it rests.
    is_at_work: bool,
}

/// The waker of the request in one slot.
pub(super) struct SlotWaker {
    inner: Arc<Inner>,
    waker: Waker,
}

struct Inner {
    ready: Ready,
    slot: usize,
    is_queued: AtomicBool,
}

impl Ready {
    /// The task is at work from here on.
    pub(super) fn begin(&self, task: &Waker) {
        let mut queue = self.lock();
        queue.is_at_work = true;
        if !queue.task.as_ref().is_some_and(|before| before.will_wake(task)) {
            queue.task = Some(task.clone());
        }
    }

    /// Whether no request can go on; then the task rests.
    pub(super) fn is_done(&self) -> bool {
        let mut queue = self.lock();
        queue.is_at_work = !queue.slots.is_empty();
        !queue.is_at_work
    }

    /// Moves all that can go on to `turn`, which is empty.
    pub(super) fn take(&self, turn: &mut Vec<usize>) {
        std::mem::swap(&mut self.lock().slots, turn);
    }

    /// Frees its memory, for a connection that waits.
    pub(super) fn forget(&self) {
        self.lock().slots = Vec::new();
    }

    /// The waker of the request in `slot`.
    pub(super) fn waker(&self, slot: usize) -> SlotWaker {
        let inner = Arc::new(Inner { ready: self.clone(), slot, is_queued: AtomicBool::new(false) });
        SlotWaker { waker: Waker::from(Arc::clone(&inner)), inner }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotWaker {
    /// The request is about to go on: what happens from here on is news again.
    pub(super) fn is_taken(&self) {
        self.inner.is_queued.store(false, Ordering::Release);
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    pub(super) fn wake(&self) {
        self.waker.wake_by_ref();
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut queue = self.ready.lock();
        queue.slots.push(self.slot);
        if !queue.is_at_work
            && let Some(task) = &queue.task
        {
            task.wake_by_ref();
        }
    }
}
