//! The states of one virtual router (RFC 9568, section 6.4): time and what is heard in, what is to be done out.
//!
//! ```text
//! Initialize ──able──► Backup ──nothing heard for 3 intervals and the skew──► Active
//!     ▲                  ▲  └─ each advertisement of a holder starts the wait anew ─┘ │
//!     └──── unable ──────┴───────────── a better one is heard ────────────────────────┘
//! ```

use std::net::IpAddr;
use std::time::Duration;

use shared::moment::Moment;

use super::packet::Interval;

mod announcements;

use announcements::Announcements;

/// The priority of who owns the addresses: it never waits (RFC 9568, section 5.2.4).
pub const OWNER: u8 = 255;

/// What an operator says of a virtual router.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Rules {
    /// How long after one advertisement comes the next, while it is active.
    pub interval: Interval,
    /// Whether it takes over from one with a lower priority.
    pub preempt: Preempt,
}

/// Whether a router takes over from an active one with a lower priority; an owner always does.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Preempt {
    /// It waits until that one leaves or falls silent.
    Never,
    /// It does, once it has heard nothing better for so long.
    After(Duration),
}

/// Whether this machine can hold the VIPs now.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Standing {
    /// Something that it needs is missing.
    Unable,
    /// It can.
    Able {
        /// What it advertises from.
        address: IpAddr,
        /// 1 to 255.
        priority: u8,
    },
}

/// RFC 9568, section 6.4.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// It takes no part.
    Initialize,
    /// Another holds the VIPs, or is about to be missed.
    Backup,
    /// It holds them.
    Active,
}

/// What counts of an advertisement.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Heard {
    /// Who sent it: never this machine itself.
    pub from: IpAddr,
    /// Its priority; 0: it lets go.
    pub priority: u8,
    /// When the next may be expected.
    pub interval: Interval,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Action {
    /// Send an advertisement with this priority.
    Advertise(u8),
    /// Put the VIPs on the interface and announce them.
    Take,
    /// Take them off it.
    LetGo,
    /// Announce them again.
    Announce,
    /// Tell whom it may concern.
    Note(Note),
}

/// What operators should know.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Note {
    /// It changed.
    Became(State, Why),
    /// This one advertises too, while this machine is active.
    TwoActives(IpAddr),
    /// No other was heard any more for as long as one may be silent.
    OneActive,
}

/// Why a state changed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Why {
    /// It can take part from now on.
    Able,
    /// It cannot any more.
    Unable,
    /// Nobody advertised in time.
    Silence,
    /// The one before let go.
    LetGo,
    /// This one has the better right.
    Better(IpAddr),
    /// Another of its group fell.
    Group,
    /// The program ends.
    Stop,
}

/// One virtual router of one family.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Machine {
    rules: Rules,
    /// Whether others must rise and fall with it: then it waits for [`Machine::rise`].
    is_grouped: bool,
    standing: Standing,
    state: State,
    /// The end of the wait for an advertisement in `Backup`, the next one of its own in `Active`.
    deadline: Option<Moment>,
    /// The interval of who is active: that one's, once heard.
    adopted: Interval,
    /// Since when a lower priority is active and nothing better was heard.
    lower_since: Option<Moment>,
    /// Its wait is over; the group's is not.
    wants: bool,
    /// Whether who was active let go.
    was_left: bool,
    announcements: Announcements,
    /// When it last became active.
    risen: Moment,
    /// When another active one was last heard.
    other_heard: Option<Moment>,
}

impl Machine {
    /// Takes no part until it is told that it can.
    pub fn new(rules: Rules, is_grouped: bool) -> Self {
        Self {
            rules,
            is_grouped,
            standing: Standing::Unable,
            state: State::Initialize,
            deadline: None,
            adopted: rules.interval,
            lower_since: None,
            wants: false,
            was_left: false,
            announcements: Announcements::default(),
            risen: Moment::START,
            other_heard: None,
        }
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// What it was last told that it can do.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether its wait is over and it waits for its group.
    pub fn wants(&self) -> bool {
        self.wants
    }

    /// Whether another active one was heard lately.
    pub fn hears_other_active(&self) -> bool {
        self.other_heard.is_some()
    }

    /// How long who is active may be silent (section 6.1: `Active_Down_Interval`).
    pub fn patience(&self) -> Duration {
        3 * self.adopted.duration() + self.skew()
    }

    /// When [`Self::tick`] is due; `None`: not before something else happens.
    pub fn due(&self) -> Option<Moment> {
        [self.deadline, self.announcements.next, self.other_gone_at()].into_iter().flatten().min()
    }

    /// An operator says otherwise from now on: its state stays.
    pub fn follow(&mut self, now: Moment, rules: Rules, is_grouped: bool) {
        (self.rules, self.is_grouped) = (rules, is_grouped);
        if !is_grouped && std::mem::take(&mut self.wants) {
            // There is nobody to wait for any more.
            self.deadline = Some(now);
        }
    }

    /// Takes `standing` into account.
    pub fn stand(&mut self, now: Moment, standing: Standing) -> Vec<Action> {
        let before = std::mem::replace(&mut self.standing, standing);
        match (self.state, standing) {
            (State::Initialize, Standing::Able { .. }) => self.start(now),
            (State::Initialize, Standing::Unable) => Vec::new(),
            (_, Standing::Unable) => self.fall(now, State::Initialize, Why::Unable),
            // Others learn at once that they may have the better right now.
            (State::Active, _) if before != standing => self.advertise(now),
            _ => Vec::new(),
        }
    }

    /// The program ends: no part is taken any more.
    pub fn stop(&mut self, now: Moment) -> Vec<Action> {
        self.standing = Standing::Unable;
        if self.state == State::Initialize { Vec::new() } else { self.fall(now, State::Initialize, Why::Stop) }
    }

    /// Another of its group fell.
    pub fn fall_with_group(&mut self, now: Moment) -> Vec<Action> {
        if self.state == State::Active { self.fall(now, State::Backup, Why::Group) } else { Vec::new() }
    }

    /// Does what is due.
    ///
    /// What was received before `now` is to be heard first: a busy machine must not take its own lateness for silence.
    pub fn tick(&mut self, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            actions = match self.state {
                State::Initialize => Vec::new(),
                State::Backup if self.is_grouped => {
                    (self.wants, self.deadline) = (true, None);
                    Vec::new()
                }
                State::Backup => self.rise(now),
                State::Active => self.advertise(now),
            };
        }
        if self.announcements.next.is_some_and(|next| next <= now) {
            self.announcements = self.announcements.after(now);
            actions.push(Action::Announce);
        }
        if self.other_gone_at().is_some_and(|gone| gone <= now) {
            self.other_heard = None;
            actions.push(Action::Note(Note::OneActive));
        }
        actions
    }

    /// Takes an advertisement into account.
    pub fn hear(&mut self, now: Moment, heard: Heard) -> Vec<Action> {
        match self.state {
            State::Initialize => Vec::new(),
            State::Backup => {
                self.hear_as_backup(now, heard);
                Vec::new()
            }
            State::Active => self.hear_as_active(now, heard),
        }
    }

    /// Becomes active.
    pub fn rise(&mut self, now: Moment) -> Vec<Action> {
        let why = if self.was_left { Why::LetGo } else { Why::Silence };
        let mut actions = vec![Action::Note(Note::Became(State::Active, why))];
        self.enter(State::Active);
        self.risen = now;
        actions.extend(self.advertise(now));
        actions.push(Action::Take);
        self.announcements = Announcements::default().after(now);
        actions
    }

    // heard in Backup        preempts   what is done (section 6.4.2)
    // priority 0             –          wait for the skew alone
    // lower than its own     yes        nothing: the wait runs out
    // lower than its own     no         wait anew, by that one's interval
    // its own or higher      –          wait anew, by that one's interval
    fn hear_as_backup(&mut self, now: Moment, heard: Heard) {
        if heard.priority == 0 {
            self.was_left = true;
            self.deadline = Some(now + self.skew());
            return;
        }
        let is_lower = heard.priority < self.priority();
        if !is_lower {
            self.lower_since = None;
        } else if self.preempts(now) {
            return;
        }
        self.adopted = heard.interval;
        (self.wants, self.was_left) = (false, false);
        self.deadline = Some(now + self.patience());
    }

    // heard in Active                          what is done (section 6.4.3)
    // priority 0                               advertise at once: others may have taken it for ours
    // higher, or its own from a higher address advertise a last time, Backup
    // lower, or its own from a lower address   advertise at once, so that the other steps down
    fn hear_as_active(&mut self, now: Moment, heard: Heard) -> Vec<Action> {
        let Standing::Able { address, priority } = self.standing else { return Vec::new() };
        if heard.priority == 0 {
            return self.advertise(now);
        }
        let is_same = heard.priority == priority;
        if is_same && heard.from == address {
            // Two machines with one address would answer each other for ever.
            return Vec::new();
        }
        if heard.priority > priority || is_same && heard.from > address {
            self.adopted = heard.interval;
            return self.fall(now, State::Backup, Why::Better(heard.from));
        }
        let mut actions = self.advertise(now);
        // One that it has just taken over from had to be heard once more.
        let is_last_word = now.since(self.risen) < self.rules.interval.duration();
        if !is_last_word && self.other_heard.replace(now).is_none() {
            actions.push(Action::Note(Note::TwoActives(heard.from)));
        }
        // Caches believed the other: they are told again, and once more when it has stepped down.
        self.announcements = Announcements::anew(now);
        actions
    }

    fn start(&mut self, now: Moment) -> Vec<Action> {
        self.adopted = self.rules.interval;
        let is_owner = self.priority() == OWNER;
        if is_owner && !self.is_grouped {
            return self.rise(now);
        }
        self.enter(State::Backup);
        self.deadline = Some(if is_owner { now } else { now + self.patience() });
        vec![Action::Note(Note::Became(State::Backup, Why::Able))]
    }

    /// Advertises now, and then at its interval.
    pub(super) fn advertise(&mut self, now: Moment) -> Vec<Action> {
        self.deadline = Some(now + self.rules.interval.duration());
        vec![Action::Advertise(self.priority())]
    }

    /// Leaves `Active` or `Backup`.
    fn fall(&mut self, now: Moment, to: State, why: Why) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.state == State::Active {
            // After a split the better one may not have heard of this one yet, and who believed this one would never
            // hear that one's announcement: a last word makes it announce the VIPs again.
            let is_better = matches!(why, Why::Better(_));
            actions.push(Action::Advertise(if is_better { self.priority() } else { 0 }));
            actions.push(Action::LetGo);
        }
        actions.push(Action::Note(Note::Became(to, why)));
        self.enter(to);
        self.deadline = (to == State::Backup).then(|| now + self.patience());
        actions
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.deadline = None;
        self.lower_since = None;
        (self.wants, self.was_left) = (false, false);
        self.announcements = Announcements::default();
        self.other_heard = None;
    }

    /// Its priority; 1 where it takes no part.
    fn priority(&self) -> u8 {
        match self.standing {
            Standing::Able { priority, .. } => priority,
            Standing::Unable => 1,
        }
    }

    /// The lower the priority, the longer the wait: the best of several is first (section 6.1: `Skew_Time`).
    fn skew(&self) -> Duration {
        self.adopted.duration() * (256 - u32::from(self.priority())) / 256
    }

    fn preempts(&mut self, now: Moment) -> bool {
        match self.rules.preempt {
            _ if self.priority() == OWNER => true,
            Preempt::Never => false,
            Preempt::After(delay) => now.since(*self.lower_since.get_or_insert(now)) >= delay,
        }
    }

    fn other_gone_at(&self) -> Option<Moment> {
        self.other_heard.map(|heard| heard + 3 * self.rules.interval.duration())
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
