//! Messages of one connection that take their time: answered one after the other, beside the line of queries.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::serve::slow::Answers;

/// What a connection has been asked and the engine leaves to the edge.
///
/// One message is under way at a time: who sends many gets no more done at once than who sends one.
#[derive(Default)]
pub(super) struct Aside {
    waiting: VecDeque<Box<[u8]>>,
    /// Of those that wait and of the one that is asked.
    octets: usize,
    under_way: Option<UnderWay>,
}

/// An answer in the making.
pub(super) type Asking = Pin<Box<dyn Future<Output = Answers> + Send>>;

enum UnderWay {
    Asked { asking: Asking, octets: usize },
    Answered { answers: Answers, is_silent: bool },
}

/// What comes next of an answer that is there.
pub(super) enum Next {
    /// One of its messages.
    Message(Vec<u8>),
    /// Nothing more; whether there was nothing at all.
    End { is_silent: bool },
}

impl Aside {
    /// Whether nothing is left to do.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    /// Whether as many wait as may.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    /// Octets that are held here.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    /// Adds `message`, which was left to the edge.
    pub(super) fn put(&mut self, message: &[u8]) {
        self.octets += message.len();
        self.waiting.push_back(message.into());
    }

    /// Ready when there is an answer to go on with; the message whose turn it is then is asked by `ask`.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, ask: impl Fn(Box<[u8]>) -> Asking) -> Poll<()> {
        loop {
            match &mut self.under_way {
                Some(UnderWay::Answered { .. }) => return Poll::Ready(()),
                Some(UnderWay::Asked { asking, octets }) => {
                    let answers = ready!(asking.as_mut().poll(context));
                    self.octets -= *octets;
                    self.under_way = Some(UnderWay::Answered { answers, is_silent: true });
                }
                None => {
                    let Some(message) = self.waiting.pop_front() else { return Poll::Pending };
                    let octets = message.len();
                    self.under_way = Some(UnderWay::Asked { asking: ask(message), octets });
                }
            }
        }
    }

    /// What comes next; `None`: no answer is there yet.
    pub(super) fn next(&mut self) -> Option<Next> {
        let Some(UnderWay::Answered { answers, is_silent }) = &mut self.under_way else { return None };
        if let Some(message) = answers.next() {
            *is_silent = false;
            return Some(Next::Message(message));
        }
        let end = Next::End { is_silent: *is_silent };
        self.under_way = None;
        Some(end)
    }
}

/// Messages that may wait for the one under way: more than any secondary or updater sends at once. Behind so many nothing
/// is read.
const WAITING_MAX: usize = 8;
