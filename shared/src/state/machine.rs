//! The verdict on one region for one service, moved by its fitness, the operator and time.

use std::sync::Arc;
use std::time::Duration;

use crate::moment::Moment;
use crate::name::{OwnerName, RegionName};
use crate::settings::show_duration;
use crate::snapshot::{Share, Standing, Verdict};
use crate::topology::{Failback, FailbackMode};

use super::event::{Action, Override};
use super::penalty::Penalty;
use super::saved::SavedVerdict;

/// ```text
/// unknown ──fit──► serving ──fall──► down ──fit──► recovering ──delay over, or resume──► ramping ──ramp over──► serving
///    └──unfit──► down        ▲ drain/undrain ▼            ▲ held while the flap penalty is high, or for an operator
///                            draining ──undrain──► ramping
/// ```
/// An override goes on top: `up` shows serving, `down` keeps the phase down, `drain` shows draining.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    phase: Phase,
    reason: Arc<str>,
    penalty: Penalty,
    /// Since when it is reported unfit without having fallen yet, and how long that is borne.
    unfit: Option<(Moment, Duration)>,
    /// Whether too little is known of its fitness: nothing rises then.
    is_undecided: bool,
    /// The phase before the last fall, for a node that finds out that it was wrong.
    fell: Option<(Moment, Box<Machine>)>,
    shown: Standing,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Phase {
    #[default]
    Unknown,
    Serving,
    Ramping {
        share: Share,
        next_step: Moment,
    },
    Draining,
    /// `ends` is `None` while only an operator can end it.
    Recovering {
        ends: Option<Moment>,
    },
    Down,
}

/// What moves a machine, besides time.
pub(super) struct Inputs<'a> {
    pub(super) fitness: Fitness,
    pub(super) order: Order<'a>,
    pub(super) failback: &'a Failback,
    /// How long one step of a ramp lasts.
    pub(super) ramp_step: Duration,
    /// How long it may be unfit by its proxies' word before it falls.
    pub(super) patience: Duration,
    /// Whether health counts for nothing at present.
    pub(super) is_frozen: bool,
}

/// Whether a region is fit to serve a service, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Fitness {
    Fit(String),
    /// Counted by the probes: it falls at once.
    Unfit(String),
    /// By its proxies' own word, which may be a short moment such as a takeover: it falls when that lasts.
    ReportedUnfit(String),
    /// Too little is known yet.
    Undecided,
}

/// What somebody decided about taking clients.
#[derive(Clone, Copy)]
pub(super) enum Order<'a> {
    None,
    /// The proxies with the VIP drain.
    ProxiesDrain,
    Operator(&'a Override),
}

impl Order<'_> {
    fn action(self) -> Option<Action> {
        match self {
            Self::None => None,
            Self::ProxiesDrain => Some(Action::Drain),
            Self::Operator(order) => Some(order.action),
        }
    }

    fn reason(self) -> Arc<str> {
        match self {
            Self::None => "".into(),
            Self::ProxiesDrain => "its proxies drain".into(),
            Self::Operator(order) => format!("{} by {}: {}", order.action.as_str(), order.who, order.why).into(),
        }
    }
}

impl Machine {
    pub(super) fn new(now: Moment) -> Self {
        let shown = Standing { since: now, ..Standing::default() };
        Self { reason: "not probed yet".into(), shown, ..Self::default() }
    }

    /// What it shows to the world since the last step.
    pub(super) fn shown(&self) -> &Standing {
        &self.shown
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.phase == Phase::Unknown
    }

    /// Whether it may fall soon by its proxies' word.
    pub(super) fn is_unfit(&self) -> bool {
        self.unfit.is_some()
    }

    /// When time alone moves it.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let falls = self.unfit.map(|(since, patience)| since + patience);
        let moves = match self.phase {
            // Nothing rises while it is unfit or nobody knows.
            _ if self.unfit.is_some() || self.is_undecided => None,
            Phase::Ramping { next_step, .. } => Some(next_step),
            Phase::Recovering { ends } => ends,
            _ => None,
        };
        falls.into_iter().chain(moves).min()
    }

    /// Moves it to `now`.
    pub(super) fn step(&mut self, inputs: &Inputs<'_>, now: Moment) {
        let action = inputs.order.action();
        self.is_undecided = inputs.fitness == Fitness::Undecided;
        if !inputs.is_frozen {
            self.follow_health(inputs, now);
            self.follow_time(inputs, now);
        }
        match (action, self.phase) {
            (Some(Action::Down), _) => {
                self.phase = Phase::Down;
                self.reason = inputs.order.reason();
                (self.unfit, self.fell) = (None, None);
            }
            (Some(Action::Drain), Phase::Serving | Phase::Ramping { .. }) => self.phase = Phase::Draining,
            (Some(Action::Up), Phase::Draining | Phase::Recovering { .. } | Phase::Ramping { .. }) => {
                self.phase = Phase::Serving
            }
            (None, Phase::Draining) if matches!(inputs.fitness, Fitness::Fit(_)) => {
                self.ramp(inputs.failback, inputs.ramp_step, "drained no more".into(), now)
            }
            _ => {}
        }
        self.show(inputs, now);
    }

    /// Ends a recovery at an operator's word; `false` when there is none.
    pub(super) fn resume(&mut self, failback: &Failback, step: Duration, reason: String, now: Moment) -> bool {
        let is_recovering = matches!(self.phase, Phase::Recovering { .. });
        if is_recovering {
            self.ramp(failback, step, reason.into(), now);
        }
        is_recovering
    }

    /// Undoes a fall that happened at `recent` or later.
    pub(super) fn take_back_fall(&mut self, recent: Moment) {
        if let Some((_, before)) = self.fell.take_if(|(at, _)| *at >= recent) {
            let shown = std::mem::take(&mut self.shown);
            *self = Self { shown, ..*before };
        }
    }

    fn follow_health(&mut self, inputs: &Inputs<'_>, now: Moment) {
        match (&inputs.fitness, self.phase) {
            (Fitness::Undecided, _) => self.unfit = None,
            (Fitness::Fit(_), Phase::Down) => self.recover(inputs.failback, now),
            (Fitness::Fit(why), phase) => {
                self.unfit = None;
                match phase {
                    Phase::Unknown | Phase::Serving | Phase::Draining => self.reason = why.as_str().into(),
                    _ => {}
                }
                if phase == Phase::Unknown {
                    self.phase = Phase::Serving;
                }
            }
            (Fitness::Unfit(why) | Fitness::ReportedUnfit(why), Phase::Down) => self.reason = why.as_str().into(),
            (Fitness::Unfit(why), _) => self.fall(why, inputs.failback, now),
            (Fitness::ReportedUnfit(why), _) => {
                let (since, patience) = *self.unfit.get_or_insert((now, inputs.patience));
                if now >= since + patience {
                    self.fall(why, inputs.failback, now);
                }
            }
        }
    }

    fn follow_time(&mut self, inputs: &Inputs<'_>, now: Moment) {
        if self.unfit.is_some() || self.is_undecided {
            return;
        }
        let is_manual = inputs.failback.mode == FailbackMode::Manual;
        if matches!(self.phase, Phase::Recovering { ends } if ends.is_none() != is_manual) {
            // The mode was changed meanwhile.
            self.recover(inputs.failback, now);
        }
        match self.phase {
            Phase::Recovering { ends: Some(ends) } if now >= ends => {
                self.ramp(inputs.failback, inputs.ramp_step, "recovery over".into(), now);
            }
            Phase::Ramping { share, next_step } if now >= next_step => {
                let percent = share.percent() + inputs.failback.ramp_step_percent;
                // One step at most a call, from now on: a late tick must not make a share jump.
                self.phase = Phase::Ramping { share: Share::from_percent(percent), next_step: now + inputs.ramp_step };
                if percent >= 100 {
                    self.phase = Phase::Serving;
                    self.reason = "ramp over".into();
                }
            }
            _ => {}
        }
    }

    fn fall(&mut self, why: &str, failback: &Failback, now: Moment) {
        let before = Self { fell: None, unfit: None, ..self.clone() };
        self.fell = Some((now, Box::new(before)));
        // Who never served, or was drained before it stopped, does not flap.
        if !matches!(self.phase, Phase::Unknown | Phase::Draining) {
            self.penalty = self.penalty.after_fall(failback.flap.half_life, now);
        }
        self.phase = Phase::Down;
        self.reason = why.into();
        self.unfit = None;
    }

    fn recover(&mut self, failback: &Failback, now: Moment) {
        // A region that came back by itself had really fallen.
        self.fell = None;
        let flap = &failback.flap;
        let is_suppressed = self.penalty.at(flap.half_life, now) > flap.suppress;
        let delayed = now + failback.delay;
        (self.phase, self.reason) = match (failback.mode, is_suppressed) {
            (FailbackMode::Manual, _) => {
                (Phase::Recovering { ends: None }, "healthy again, waits for an operator".into())
            }
            (FailbackMode::Auto, false) => {
                let reason = format!("healthy again, waits {}", show_duration(failback.delay));
                (Phase::Recovering { ends: Some(delayed) }, reason.into())
            }
            (FailbackMode::Auto, true) => {
                let ends = delayed.max(self.penalty.below(flap.reuse, flap.half_life));
                let wait = Duration::from_secs(ends.since(now).as_secs());
                let reason = format!("healthy again, fell too often, waits {}", show_duration(wait));
                (Phase::Recovering { ends: Some(ends) }, reason.into())
            }
        };
    }

    fn ramp(&mut self, failback: &Failback, step: Duration, reason: Arc<str>, now: Moment) {
        let share = Share::from_percent(failback.ramp_step_percent);
        self.phase = Phase::Ramping { share, next_step: now + step };
        self.reason = reason;
    }

    fn show(&mut self, inputs: &Inputs<'_>, now: Moment) {
        let (order, action) = (inputs.order, inputs.order.action());
        let is_taken_out = matches!(action, Some(Action::Drain | Action::Down));
        let (verdict, share) = match (action, self.phase) {
            (Some(Action::Up), _) | (_, Phase::Serving) => (Verdict::Serving, Share::ALL),
            (_, Phase::Unknown | Phase::Down) => (Verdict::Down, Share::NONE),
            (Some(Action::Drain), _) | (_, Phase::Draining) => (Verdict::Draining, Share::NONE),
            (_, Phase::Ramping { share, .. }) => (Verdict::Ramping, share),
            (_, Phase::Recovering { .. }) => (Verdict::Recovering, Share::NONE),
        };
        let is_by_order = action == Some(Action::Up) || action.is_some() && verdict == Verdict::Draining;
        let reason = match (is_by_order, inputs.is_frozen) {
            (true, _) => order.reason(),
            (false, true) => format!("frozen, since all regions are unreachable; before: {}", self.reason).into(),
            (false, false) => Arc::clone(&self.reason),
        };
        let since = if verdict == self.shown.verdict { self.shown.since } else { now };
        self.shown = Standing { verdict, share, is_taken_out, reason, since };
    }

    /// What of it is kept over a restart; `None` while nothing is known.
    pub(super) fn save(
        &self,
        names: (OwnerName, RegionName),
        half_life: Duration,
        now: Moment,
    ) -> Option<SavedVerdict> {
        let (verdict, remaining) = match self.phase {
            Phase::Unknown => return None,
            Phase::Serving => (Verdict::Serving, None),
            Phase::Ramping { next_step, .. } => (Verdict::Ramping, Some(next_step.since(now))),
            Phase::Draining => (Verdict::Draining, None),
            Phase::Recovering { ends } => (Verdict::Recovering, ends.map(|ends| ends.since(now))),
            Phase::Down => (Verdict::Down, None),
        };
        let share = match self.phase {
            Phase::Ramping { share, .. } => share,
            _ => Share::NONE,
        };
        Some(SavedVerdict {
            service: names.0,
            region: names.1,
            verdict,
            share,
            remaining_ms: remaining.map(|remaining| remaining.as_millis() as u64),
            reason: self.reason.to_string(),
            penalty: self.penalty.at(half_life, now),
        })
    }

    /// As it was saved `elapsed` ago.
    pub(super) fn restored(saved: &SavedVerdict, half_life: Duration, elapsed: Duration, now: Moment) -> Self {
        let remaining = |ms: u64| now + Duration::from_millis(ms).saturating_sub(elapsed);
        let phase = match saved.verdict {
            Verdict::Serving => Phase::Serving,
            Verdict::Ramping => {
                Phase::Ramping { share: saved.share, next_step: remaining(saved.remaining_ms.unwrap_or(0)) }
            }
            Verdict::Draining => Phase::Draining,
            Verdict::Recovering => Phase::Recovering { ends: saved.remaining_ms.map(remaining) },
            Verdict::Down => Phase::Down,
        };
        let then = Penalty::new(saved.penalty, Moment::START);
        let penalty = Penalty::new(then.at(half_life, Moment::from_start(elapsed)), now);
        Self { phase, reason: saved.reason.as_str().into(), penalty, ..Self::new(now) }
    }
}
