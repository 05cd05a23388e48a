//! The clock was ahead and was set back.
//!
//! Time runs on for a machine as long as the clock is behind by no more than [`MAX_BEHIND`]: an earlier `now` counts as the
//! latest one. Behind by more than that it is believed, or nobody would be served before it is as late as it was.
//!
//! | what was noted while the clock was ahead | then |
//! |---|---|
//! | in memory: pauses, retries, when something happened | earlier by as much as the clock is |
//! | in memory: when a policy wants something | left: it named a time of day |
//! | in a row that is read: its last failure | happened now; its retry follows as much later as it was to |
//! | the durable alarm | not known any more: written anew |
//!
//! What waits without being in memory is found at its own alarm, and whenever its recipient registers.

use super::Recipient;
use super::window::Entry;
use crate::model::{Duration, MessageId, Timestamp};

/// A clock that is behind by more was set back.
pub const MAX_BEHIND: Duration = Duration::from_secs(5);

/// A clock that was set back: to when, and by how much.
#[derive(Clone, Copy, Debug)]
pub(super) struct SetBack {
    now: Timestamp,
    by: Duration,
}

impl SetBack {
    /// The same moment on the clock as it is now, unless it is past there anyhow.
    pub(super) fn correct<'a>(self, times: impl IntoIterator<Item = &'a mut Timestamp>) {
        for at in times {
            if *at > self.now {
                *at = Timestamp(at.0.saturating_sub(self.by.0));
            }
        }
    }

    fn correct_entry(self, entry: &mut Entry) {
        let Some(failure) = entry.stored.last_failure.as_mut().filter(|failure| failure.at > self.now) else { return };
        self.correct([&mut failure.at]);
        self.correct(&mut entry.stored.not_before);
    }
}

impl Recipient {
    /// It is as late as the edge says, which may be earlier than it was.
    pub(super) fn note_time(&mut self, now: Timestamp) {
        if now.after(MAX_BEHIND) < self.now {
            let set_back = SetBack { now, by: self.now.since(now) };
            self.now = now;
            self.clock_was_set_back(set_back);
        }
        self.now = self.now.max(now);
    }

    /// A row was written while the clock was ahead: it failed now, or when the recipient was last available.
    pub(super) fn note_failed_in_the_future(&mut self, id: MessageId) {
        let (now, push) = (self.now, &self.push);
        let failed_at = if push.last_reopening.is_some() { push.reopened_at().min(now) } else { now };
        let Some(entry) = self.queue.get_mut(id) else { return };
        let Some(failure) = entry.stored.last_failure.as_mut().filter(|failure| failure.at > now) else { return };
        let set_back = SetBack { now, by: failure.at.since(now) };
        failure.at = failed_at;
        set_back.correct(&mut entry.stored.not_before);
        let due = entry.due();
        self.note_due(due);
    }

    fn clock_was_set_back(&mut self, set_back: SetBack) {
        let now = self.now;
        self.queue.iter_mut().for_each(|entry| set_back.correct_entry(entry));
        self.push.clock_was_set_back(set_back);
        self.contacts.clock_was_set_back(set_back);
        self.arrivals.clock_was_set_back(set_back);
        self.hand_overs.clock_was_set_back(set_back);
        self.recount.clock_was_set_back(set_back);
        self.hydration.clock_was_set_back(set_back);
        self.unsettled.clock_was_set_back(set_back);
        set_back.correct(self.pulls.iter_mut().map(|pull| &mut pull.until));
        set_back.correct(self.attempts.values_mut().map(|running| &mut running.since));
        self.wake.forget_durable(now);
        // What else is due is looked for again.
        self.note_due(Some(now));
        self.expiry.look_at(now);
        self.hand_overs.note_retry(Some(now));
    }
}
