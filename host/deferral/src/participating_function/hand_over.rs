//! Messages for a named target instead of the recipient's devices: one after the other, whether the recipient is there
//! or not.
//!
//! | state | input | goes to |
//! |---|---|---|
//! | idle | a message waits and may be tried | handing over |
//! | handing over | the target took it | idle; the message goes |
//! | handing over | it did not | idle; `on-failure` decides when again, an hour later otherwise |
//!
//! Those in memory are found there. What may be durable only is looked for by reading the queue through, whoever is
//! registered:
//!
//! | what is known of messages that are not in memory | then |
//! |---|---|
//! | the window let one go that may be tried later | read through at that time, when no message in memory may be tried |
//! | the window let one go that may be tried now, because it held many | read through when none in memory is left |
//! | the durable alarm rang before this machine was made | read through now |
//! | it is to ring, and some message has a time | read through then |
//! | the queue was read to its end | only what was let go meanwhile |
//! | reading ended before, since the contacts went | as before; read through again |

use super::attempt::Kind;
use super::clock::SetBack;
use super::window::{Entry, Lease};
use super::{AttemptTask, Recipient};
use crate::model::{MessageId, Timestamp};

/// The handing-over side of a machine.
#[derive(Debug, Default)]
pub(super) struct HandOvers {
    /// When to look for a message that may be tried; nought: now.
    retry_at: Option<Timestamp>,
    in_flight: bool,
    /// From when on a message may be tried that is not in memory; nought: now.
    unseen_from: Option<Timestamp>,
    /// The same, of those that the window let go since the queue began to be read through.
    let_go_from: Option<Timestamp>,
}

impl HandOvers {
    /// A message may be tried.
    pub(super) fn note_waiting(&mut self) {
        self.retry_at = Some(Timestamp::default());
    }

    pub(super) fn note_retry(&mut self, at: Option<Timestamp>) {
        self.retry_at = [self.retry_at, at].into_iter().flatten().min();
    }

    /// There may be a message that is not in memory and may be tried then.
    pub(super) fn note_unseen(&mut self, from: Timestamp) {
        self.unseen_from = Some(self.unseen_from.map_or(from, |known| known.min(from)));
        self.note_retry(Some(from));
    }

    /// The window lets one go that may be tried then.
    pub(super) fn note_let_go(&mut self, from: Timestamp) {
        self.let_go_from = Some(self.let_go_from.map_or(from, |known| known.min(from)));
        self.note_unseen(from);
    }

    /// A message that is not in memory may be tried.
    pub(super) fn is_unseen(&self, now: Timestamp) -> bool {
        self.unseen_from.is_some_and(|from| from <= now)
    }

    /// The queue begins to be read from its head on.
    pub(super) fn reading_begins(&mut self) {
        self.let_go_from = None;
    }

    /// It was read to its end.
    pub(super) fn reading_is_over(&mut self) {
        self.unseen_from = self.let_go_from;
        self.note_retry(self.unseen_from);
    }

    pub(super) fn clock_was_set_back(&mut self, set_back: SetBack) {
        set_back.correct([&mut self.retry_at, &mut self.unseen_from, &mut self.let_go_from].into_iter().flatten());
    }

    pub(super) fn wake(&self) -> Option<Timestamp> {
        self.retry_at.filter(|_| !self.in_flight)
    }

    /// For the durable alarm: also when what is not in memory may be tried.
    pub(super) fn alarm(&self) -> Option<Timestamp> {
        [self.wake(), self.unseen_from].into_iter().flatten().min()
    }

    /// Something is being handed over, or is to be now.
    pub(super) fn is_busy(&self, now: Timestamp) -> bool {
        self.in_flight || self.retry_at == Some(Timestamp::default()) || self.is_unseen(now)
    }

    /// The attempt is over; there may be another message.
    pub(super) fn attempt_is_over(&mut self) {
        self.in_flight = false;
        self.note_waiting();
    }
}

impl Recipient {
    pub(super) fn advance_hand_overs(&mut self) {
        if self.queue.is_whole() {
            self.hand_overs.unseen_from = None;
        }
        if self.hand_overs.in_flight {
            return;
        }
        if self.hand_overs.retry_at.is_some_and(|at| at <= self.now) {
            self.hand_over_next();
        }
        // Whatever reads the queue now may find it.
        if !self.hand_overs.in_flight && self.hand_overs.is_unseen(self.now) && self.push.is_quiet() {
            self.note_woken();
        }
    }

    /// Begins with the first message in memory that may be tried.
    fn hand_over_next(&mut self) {
        let mut later: Option<Timestamp> = None;
        let mut next: Option<MessageId> = None;
        for entry in self.queue.iter() {
            match handed_over_from(entry, self.now).filter(|_| entry.lease.is_none()) {
                Some(from) if from > self.now => later = Some(later.map_or(from, |later| later.min(from))),
                Some(_) => next = next.or(Some(entry.stored.id)),
                None => {}
            }
        }
        let Some(message) = next else {
            let unseen = self.hand_overs.unseen_from.filter(|from| *from > self.now);
            self.hand_overs.retry_at = [later, unseen].into_iter().flatten().min();
            return;
        };
        let id = self.next_attempt_id();
        let Some((stored, repetition)) = self.lease(message, Lease::HandOver(id)) else { return };
        let target = stored.message.hand_over_to.clone().unwrap_or_default();
        let mode = stored.message.envelope.mode;
        let task = AttemptTask::HandOver { target, message: Box::new(stored), mode, repetition };
        self.hand_overs.in_flight = true;
        self.start(id, None, task, Kind::HandOver { message });
    }

    /// So many messages that may be handed over now stay in the window whatever is read: half of it is for others.
    fn hand_overs_in_window(&self) -> usize {
        (self.limits.max_window_messages as usize / 2).max(1)
    }

    /// As many as may stay wait to be handed over, and nobody else waits for the rest of the queue.
    pub(super) fn is_crowded_by_hand_overs(&self) -> bool {
        let now = self.now;
        let may_be_tried = |entry: &&Entry| handed_over_from(entry, now).is_some_and(|from| from <= now);
        self.contacts.is_empty() && self.queue.iter().filter(may_be_tried).count() >= self.hand_overs_in_window()
    }

    /// Which of the messages that are to be handed over stay in the window, told one after the other in order; and from
    /// when on the first of the others may be tried.
    pub(super) fn keep_hand_overs(&self) -> KeptHandOvers {
        KeptHandOvers { now: self.now, room: self.hand_overs_in_window(), let_go_from: None }
    }
}

/// See [`Recipient::keep_hand_overs`].
pub(super) struct KeptHandOvers {
    now: Timestamp,
    room: usize,
    pub(super) let_go_from: Option<Timestamp>,
}

impl KeptHandOvers {
    pub(super) fn stays(&mut self, entry: &Entry) -> bool {
        let Some(from) = handed_over_from(entry, self.now) else { return false };
        if from <= self.now && self.room > 0 {
            self.room -= 1;
            return true;
        }
        let from = if from <= self.now { Timestamp::default() } else { from };
        self.let_go_from = Some(self.let_go_from.map_or(from, |known| known.min(from)));
        false
    }
}

/// From when on it may be handed over; none: it is not to be, or its time is up.
fn handed_over_from(entry: &Entry, now: Timestamp) -> Option<Timestamp> {
    let is_to_be = entry.stored.message.hand_over_to.is_some() && !entry.is_expired(now);
    is_to_be.then(|| entry.stored.not_before.unwrap_or_default())
}
