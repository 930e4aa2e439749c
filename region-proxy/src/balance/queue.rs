//! Requests that wait for a place at a server, oldest first, bounded.

use std::collections::VecDeque;

use super::Ticket;

#[derive(Clone, Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    most: usize,
    next: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    ticket: Ticket,
    /// `None`: any will do.
    server: Option<usize>,
    tried: Box<[usize]>,
}

impl Queue {
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: VecDeque::new(), most, next: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// `None` when it is full.
    pub(super) fn join(&mut self, server: Option<usize>, tried: &[usize]) -> Option<Ticket> {
        if self.waiting.len() >= self.most {
            return None;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.push_back(Waiting { ticket, server, tried: tried.into() });
        Some(ticket)
    }

    /// `false` when it is not there.
    pub(super) fn leave(&mut self, ticket: Ticket) -> bool {
        // Tickets are in order.
        let found = self.waiting.binary_search_by_key(&ticket.0, |waiting| waiting.ticket.0);
        found.is_ok_and(|at| self.waiting.remove(at).is_some())
    }

    /// Takes the oldest for which `place` has a server out.
    pub(super) fn take(&mut self, place: impl Fn(Option<usize>, &[usize]) -> Option<usize>) -> Option<(Ticket, usize)> {
        let found =
            self.waiting.iter().enumerate().find_map(|(at, waiting)| {
                place(waiting.server, &waiting.tried).map(|server| (at, waiting.ticket, server))
            });
        let (at, ticket, server) = found?;
        self.waiting.remove(at);
        Some((ticket, server))
    }
}
