//! When this recipient wants attention: in memory, and durable for when its machine is gone.
//!
//! The durable alarm ([`crate::commit::Change::WakeAt`]) is never later than what is known to be due. It may be earlier:
//! a wake-up for nothing costs one look, and not every removal is worth a write. While deliveries are under way it lies
//! in the past, so that a crash in between is followed by another attempt.
//!
//! | alarm | what is due | then |
//! |---|---|---|
//! | later than what is due | – | written now, in the transaction that makes it so |
//! | earlier, but to come | – | left |
//! | past | something now | left |
//! | past | nothing now | written a moment later, or with the next transaction |
//!
//! A machine that is made before the alarm rings, by whatever else happens, adopts it: when it rings, the queue is looked
//! at as by a machine that it made, unless it was looked at meanwhile. The one before may have waited, then or later, for
//! something that it alone knew.

use super::attempt::Kind;
use super::commits::Draft;
use super::{Asked, AttemptId, Recipient};
use crate::model::{Duration, Timestamp};

/// How long a past alarm is left before it is written anew: under load it would be set again at once.
const QUIET: Duration = Duration::from_secs(1);

/// The machine's alarms.
#[derive(Debug)]
pub(super) struct Wake {
    /// What the store knows, or will when the commits on their way are done. `NEVER`: no alarm.
    durable: Timestamp,
    /// Writing it failed: not before this again.
    not_before: Timestamp,
    /// When a past alarm is written anew.
    rewrite_at: Option<Timestamp>,
}

impl Default for Wake {
    fn default() -> Wake {
        Wake { durable: Timestamp::NEVER, not_before: Timestamp::default(), rewrite_at: None }
    }
}

impl Wake {
    /// What the store knows is not known any more.
    pub(super) fn forget_durable(&mut self, retry_at: Timestamp) {
        self.durable = Timestamp::NEVER;
        self.not_before = retry_at;
        self.rewrite_at = Some(retry_at);
    }
}

impl Recipient {
    /// `earliest_due`: of the whole queue.
    pub(super) fn adopt_durable_wake(&mut self, at: Option<Timestamp>, earliest_due: Option<Timestamp>) {
        self.wake.durable = at.unwrap_or(Timestamp::NEVER);
        if self.wake.durable <= self.now {
            return self.note_woken();
        }
        let Some(at) = at else { return };
        // What is to be tried later may be for a target. Neither time is later than what is due.
        if let Some(due) = earliest_due {
            self.hand_overs.note_unseen(at.max(due));
        }
        self.push.look_again_at = Some(at);
    }

    /// Somebody else set this recipient's alarm to some time that has passed.
    pub(super) fn note_alarm_rung(&mut self) {
        self.wake.durable = self.now;
    }

    /// What the durable alarm has to say.
    fn desired_wake(&self) -> Timestamp {
        if self.has_work() {
            return self.now;
        }
        let due = self.push.next_due(!self.contacts.is_empty());
        [self.expiry.next(), due, self.contacts.next_rested(), self.hand_overs.alarm()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Timestamp::NEVER)
    }

    /// Deliveries are under way that a crash would interrupt: also those that nobody waits for, copies for further devices
    /// and what was passed on and is kept. Or it is being decided what follows a hand-over that failed, or an expiry. Or a
    /// message is being stored that is to go at once, or what became of one could not be made durable yet.
    fn has_work(&self) -> bool {
        (!self.contacts.is_empty() && !self.push.is_quiet())
            || self.hand_overs.is_busy(self.now)
            || self.expiry.is_busy()
            || self.is_any_decided_of()
            || self.is_any_under_way()
            || self.is_any_arriving()
            || !self.unsettled.is_empty()
    }

    /// What no registration looks at again, and what is durable only when the answer is.
    fn is_any_decided_of(&self) -> bool {
        self.questions.values().any(|(asked, _)| matches!(asked, Asked::Failure(batch) if batch.is_of_hand_over()))
    }

    fn is_any_under_way(&self) -> bool {
        let is_kept =
            |id: &AttemptId| self.queue.iter().any(|entry| entry.lease == Some(super::window::Lease::Relay(*id)));
        self.attempts.iter().any(|(id, running)| match &running.kind {
            Kind::Page { .. } | Kind::Session { .. } | Kind::Pull { .. } => true,
            Kind::Relay { .. } => is_kept(id),
            Kind::Notify | Kind::HandOver { .. } => false,
        })
    }

    /// The alarm that goes into a transaction; none: it is right as it is.
    pub(super) fn wake_to_write(&mut self, urgent: bool, has_company: bool) -> Option<Option<Timestamp>> {
        let desired = if urgent { self.now } else { self.desired_wake() };
        let too_late = desired < self.wake.durable;
        let rung = self.wake.durable <= self.now && desired > self.now;
        let worth_it = too_late || (rung && (has_company || self.wake.rewrite_at.is_some_and(|at| at <= self.now)));
        // What was just refused is not asked for alone; whatever else becomes durable takes its alarm with it.
        if !worth_it || (!has_company && self.now < self.wake.not_before) {
            return None;
        }
        self.wake.durable = desired;
        self.wake.rewrite_at = None;
        Some((desired < Timestamp::NEVER).then_some(desired))
    }

    pub(super) fn advance_wake(&mut self) {
        let desired = self.desired_wake();
        if desired < self.wake.durable {
            self.submit(Draft::default());
        } else if self.wake.durable <= self.now && desired > self.now {
            if self.wake.rewrite_at.is_none() {
                self.wake.rewrite_at = Some(self.now.after(QUIET));
            }
            self.submit(Draft::default());
        } else {
            self.wake.rewrite_at = self.wake.rewrite_at.filter(|_| self.now < self.wake.not_before);
        }
    }

    /// When the alarm itself wants to be written.
    pub(super) fn alarm_wake(&self) -> Option<Timestamp> {
        self.wake.rewrite_at
    }

    pub(super) fn durable_wake_is_right(&self) -> bool {
        self.wake.rewrite_at.is_none() && self.wake.durable <= self.desired_wake()
    }
}
