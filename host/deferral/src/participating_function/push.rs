//! What the pushing side of a machine remembers; [`super::availability`] tells what it does.

use std::collections::VecDeque;

use super::clock::SetBack;
use super::plan::{Run, RunStep};
use super::window::{Moment, Place};
use super::{AttemptId, Input};
use crate::decision::Trigger;
use crate::decision::validate::Offered;
use crate::model::{ContactId, MessageId, Mode, Timestamp};

/// The pushing side of a machine.
#[derive(Debug, Default)]
pub(super) struct Push {
    pub(super) state: State,
    /// The strongest trigger since the last pass began.
    pub(super) wanted: Option<Trigger>,
    /// Steps that a failure's answer or a pull asked for while no plan ran, or one that delivers no more.
    pub(super) extra: VecDeque<RunStep>,
    pub(super) passes: u64,
    /// A registration, a refresh or the operator.
    pub(super) reopened_at: Timestamp,
    /// A registration; none since this machine began.
    pub(super) available_since: Option<Timestamp>,
    /// No pass before this: the registration delay.
    pub(super) gate: Timestamp,
    /// When a refresh that came too soon after the last reopening reopens the queue.
    pub(super) refresh_at: Option<Timestamp>,
    /// When that refresh came.
    pub(super) refresh_came_at: Timestamp,
    /// When a refresh last reopened the queue, or a registration did.
    pub(super) last_reopening: Option<Timestamp>,
    /// Nothing is due before this.
    pub(super) due: Option<Timestamp>,
    /// No timer's pass before this.
    pub(super) timer_gate: Timestamp,
    pub(super) ask_again_at: Option<Timestamp>,
    /// Every message was looked at since the queue was last reopened: what is not in memory is not ready.
    pub(super) surveyed: bool,
    /// What is behind this place waited for a message up to there that failed or is in flight, when a pass ended or
    /// that message went.
    pub(super) held_back_from: Option<Place>,
    /// A further pass then, for what was held back and is not any more.
    pub(super) look_again_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
pub(super) enum State {
    #[default]
    Idle,
    Preparing(Pass),
    /// The window is full of messages that somebody works on.
    Crowded(Pass),
    Asking(Pass, Vec<Offered>, Vec<ContactId>),
    Running(Pass, Run),
}

/// One look at everything that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub(super) number: u64,
    pub(super) began_at: Timestamp,
    pub(super) trigger: Trigger,
    /// What was held or announced is shown, too.
    pub(super) opening: bool,
    /// Nobody was there: no more deliveries.
    pub(super) stopped: bool,
    /// The policy was asked already.
    pub(super) asked: bool,
    /// A message at this place stops the rest. From then on the pass only reads on, for what is to be handed over, and
    /// lets go of what it read: when nothing stops the rest any more, it is a further pass that looks at it.
    pub(super) reads_past: Option<Place>,
    /// Something due began it: when it ends, what is due next is looked up.
    pub(super) by_timer: bool,
}

impl Push {
    pub(super) fn want(&mut self, trigger: Trigger) {
        if self.wanted.is_none_or(|wanted| strength(trigger) > strength(wanted)) {
            self.wanted = Some(trigger);
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Nothing is being delivered or about to be.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_idle() && self.wanted.is_none() && self.extra.is_empty()
    }

    pub(super) fn reopened_at(&self) -> Timestamp {
        self.reopened_at
    }

    pub(super) fn available_since(&self) -> Timestamp {
        self.available_since.unwrap_or_default()
    }

    pub(super) fn was_available(&self) -> bool {
        self.available_since.is_some()
    }

    /// Messages that could be delivered now are durable but not in memory.
    pub(super) fn note_unseen(&mut self) {
        self.surveyed = false;
    }

    /// A message up to this place stops nobody any more.
    pub(super) fn note_let_go(&mut self, place: Place) {
        self.held_back_from = Some(self.held_back_from.map_or(place, |known| known.min(place)));
    }

    /// Nobody is there: what the pass has not delivered is left, and nothing behind it overtakes.
    pub(super) fn stop(&mut self) {
        if let Some(pass) = self.pass_mut() {
            pass.stopped = true;
        }
    }

    pub(super) fn expect_answer(&mut self) {
        if let State::Running(_, run) = &mut self.state {
            run.open = run.open.saturating_add(1);
        }
    }

    pub(super) fn answer_came(&mut self) {
        if let State::Running(_, run) = &mut self.state {
            run.open = run.open.saturating_sub(1);
        }
    }

    pub(super) fn attempt_is_over(&mut self, id: AttemptId) {
        if let State::Running(_, run) = &mut self.state {
            run.current.retain(|current| *current != id);
        }
    }

    pub(super) fn run_mut(&mut self) -> Option<&mut Run> {
        match &mut self.state {
            State::Running(_, run) => Some(run),
            _ => None,
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(&self.state, State::Running(pass, _) if pass.stopped)
    }

    /// The running plan goes on with these again. False: no plan runs.
    pub(super) fn try_again_first(&mut self, messages: &[MessageId], mode: Mode) -> bool {
        let State::Running(_, run) = &mut self.state else { return false };
        let target = crate::decision::Target::Any;
        run.steps.push_front(match (mode, messages) {
            (Mode::Page, [message]) => RunStep::Page { message: *message, target, keeps: false },
            _ => RunStep::Session { messages: messages.to_vec(), target },
        });
        true
    }

    /// A step that comes before everything else that is still to be done; after a running plan that delivers no more.
    pub(super) fn do_next(&mut self, step: RunStep) {
        let steps = match &mut self.state {
            State::Running(pass, run) if !pass.stopped => &mut run.steps,
            _ => &mut self.extra,
        };
        match (steps.front_mut(), step) {
            (
                Some(RunStep::Notify { messages, fetch_deadline, push_after }),
                RunStep::Notify { messages: more, fetch_deadline: same_deadline, push_after: same_push },
            ) if *fetch_deadline == same_deadline && *push_after == same_push => messages.extend(more),
            (_, step) => steps.push_front(step),
        }
    }

    pub(super) fn clock_was_set_back(&mut self, set_back: SetBack) {
        set_back.correct([&mut self.reopened_at, &mut self.refresh_came_at, &mut self.gate, &mut self.timer_gate]);
        let others =
            [&mut self.available_since, &mut self.refresh_at, &mut self.last_reopening, &mut self.look_again_at];
        set_back.correct(others.into_iter().flatten());
        set_back.correct(self.pass_mut().map(|pass| &mut pass.began_at));
    }

    fn pass_mut(&mut self) -> Option<&mut Pass> {
        match &mut self.state {
            State::Idle => None,
            State::Preparing(pass) | State::Crowded(pass) | State::Asking(pass, ..) | State::Running(pass, _) => {
                Some(pass)
            }
        }
    }

    /// What `on-available`'s timers and retries want, for the durable alarm.
    pub(super) fn next_due(&self, has_contacts: bool) -> Option<Timestamp> {
        if !has_contacts {
            return None;
        }
        [self.due, self.ask_again_at, self.refresh_at, self.look_again_at].into_iter().flatten().min()
    }

    pub(super) fn moment(&self, now: Timestamp) -> Moment {
        let opening = match &self.state {
            State::Idle => false,
            State::Preparing(pass) | State::Crowded(pass) | State::Asking(pass, ..) | State::Running(pass, _) => {
                pass.opening
            }
        };
        Moment { now, reopened_at: self.reopened_at, opening }
    }
}

/// Which trigger says more.
fn strength(trigger: Trigger) -> u8 {
    match trigger {
        Trigger::PlanDone => 0,
        Trigger::MessageArrived => 1,
        Trigger::Timer => 2,
        Trigger::FetchDeadline => 3,
        Trigger::Refreshed => 4,
        Trigger::Operator => 5,
        Trigger::Reported => 6,
        Trigger::Registered => 7,
    }
}

/// Of all contacts' inputs that wait, this one included.
pub(super) fn strongest_registration(waiting: &VecDeque<Input>, input: &Input) -> Trigger {
    let triggers = waiting.iter().chain([input]).filter_map(|input| match input {
        Input::Contacts(_, trigger) => Some(*trigger),
        _ => None,
    });
    triggers.max_by_key(|trigger| strength(*trigger)).unwrap_or(Trigger::Timer)
}
