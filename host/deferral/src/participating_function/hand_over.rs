//! Messages for a named target instead of the recipient's devices: one after the other, whether the recipient is there
//! or not.
//!
//! | state | input | goes to |
//! |---|---|---|
//! | idle | a message waits and may be tried | handing over |
//! | handing over | the target took it | idle; the message goes |
//! | handing over | it did not | idle; `on-failure` decides when again, an hour later otherwise |

use super::attempt::Kind;
use super::window::Lease;
use super::{AttemptTask, Recipient};
use crate::model::{MessageId, Timestamp};

/// The handing-over side of a machine.
#[derive(Debug, Default)]
pub(super) struct HandOvers {
    /// When to look for a message that may be tried; nought: now.
    retry_at: Option<Timestamp>,
    in_flight: bool,
}

impl HandOvers {
    /// A message may be tried.
    pub(super) fn note_waiting(&mut self) {
        self.retry_at = Some(Timestamp::default());
    }

    pub(super) fn note_retry(&mut self, at: Option<Timestamp>) {
        self.retry_at = [self.retry_at, at].into_iter().flatten().min();
    }

    pub(super) fn wake(&self) -> Option<Timestamp> {
        self.retry_at.filter(|_| !self.in_flight)
    }

    /// Something is being handed over, or is to be now.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight || self.retry_at == Some(Timestamp::default())
    }

    /// The attempt is over; there may be another message.
    pub(super) fn attempt_is_over(&mut self) {
        self.in_flight = false;
        self.note_waiting();
    }
}

impl Recipient {
    pub(super) fn advance_hand_overs(&mut self) {
        if self.hand_overs.in_flight || self.hand_overs.retry_at.is_none_or(|at| at > self.now) {
            return;
        }
        let mut later: Option<Timestamp> = None;
        let mut next: Option<MessageId> = None;
        for entry in self.queue.iter() {
            if entry.stored.message.hand_over_to.is_none() || entry.lease.is_some() || entry.is_expired(self.now) {
                continue;
            }
            match entry.stored.not_before.filter(|at| *at > self.now) {
                Some(at) => later = Some(later.map_or(at, |later| later.min(at))),
                None => next = next.or(Some(entry.stored.id)),
            }
        }
        let Some(message) = next else {
            self.hand_overs.retry_at = later;
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
}
