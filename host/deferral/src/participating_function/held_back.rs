//! What a pass leaves, and what waits behind a message that stops the rest.
//!
//! Such a message ([`super::window::Readiness::Barrier`]) failed and waits for its retry or for its recipient, or it is
//! in flight. Nothing else tells the pushing side that those behind it may go when it does not go the usual way:
//!
//! | what happens to it | those behind it |
//! |---|---|
//! | delivered in a pass | go in the same pass |
//! | its retry is due, its recipient registers or refreshes | are looked at together with it |
//! | handed over, expired, dropped, fetched; or else it stops nobody any more | are looked at a moment later |

use super::Recipient;
use super::loading::Purpose;
use super::push::{Pass, State};
use super::window::{Entry, Lease, Moment, Readiness, stops_the_rest};
use crate::commit::Select;
use crate::model::{LastResult, MessageId, Timestamp};

impl Recipient {
    /// What waited for a message that went some other way than to its recipient is looked at. Not at once: who answered
    /// nothing to that one is not asked for the next one faster than a policy can ask.
    pub(super) fn look_behind(&mut self) {
        let Some(place) = self.push.held_back_from else { return };
        let moment = Moment { opening: false, ..self.push.moment(self.now) };
        let stops = |entry: &Entry| entry.readiness(moment) == Readiness::Barrier;
        if !self.queue.iter().take_while(|entry| entry.place() <= place).any(stops) {
            self.push.held_back_from = None;
            self.look_again();
        }
    }

    /// This message goes, or is for a target: what waited for it because it had failed does so no more. What was
    /// dropped or expired may be all that this machine ever read, so no pass told it that others wait.
    pub(super) fn let_others_go(&mut self, id: MessageId) {
        let reopened_at = self.push.reopened_at();
        let stops = |failure: LastResult| failure.at > reopened_at && stops_the_rest(&failure);
        let entry = self.queue.get(id).filter(|entry| entry.lease != Some(Lease::Removal));
        if let Some(entry) = entry.filter(|entry| entry.stored.last_failure.is_some_and(stops)) {
            self.push.note_let_go(entry.place());
        }
    }

    fn look_again(&mut self) {
        let soon = self.now.after(self.limits.min_ask_interval);
        self.push.look_again_at = Some(self.push.look_again_at.map_or(soon, |at| at.min(soon)));
    }

    /// What was due and is still here was left alone by the policy, or held: it waits. What came due since the pass
    /// began is for the next one: the policy was asked before. Where nobody was there, so is what was not tried. What
    /// was due behind a message that stops the rest has no time of its own any more: it goes when nothing stops it. A
    /// message that stops the rest waits for its retry, whatever its fetch deadline was. A kept copy that every device has
    /// which is there waits for another one.
    pub(super) fn end_pass(&mut self, pass: Pass) {
        self.push.state = State::Idle;
        let now = self.now;
        let moment = Moment { opening: false, ..self.push.moment(now) };
        let mut barrier = None;
        let mut is_any_passed_over = false;
        for entry in self.queue.iter_mut() {
            let is_behind = barrier.is_some();
            match entry.readiness(moment) {
                Readiness::Barrier if !is_behind => barrier = Some(entry.place()),
                Readiness::Ready => is_any_passed_over |= !is_behind,
                _ => {}
            }
            let nobody_lacks_it = !self.contacts.is_empty() && self.contacts.all_have(&entry.stored);
            let dealt_with_until = match entry.held || barrier.is_some() || nobody_lacks_it {
                true => now,
                false if entry.pass == pass.number && !pass.stopped => pass.began_at,
                false => continue,
            };
            let is_past = |at: Option<Timestamp>| at.is_some_and(|at| at <= dealt_with_until);
            if !is_past(entry.due()) || entry.lease.is_some() || entry.stored.message.hand_over_to.is_some() {
                continue;
            }
            if is_past(entry.stored.fetch_deadline) {
                entry.stored.fetch_deadline = None;
            }
            if is_past(entry.stored.not_before) {
                entry.stored.not_before = None;
                // Else it would wait for its recipient, and stop those behind it, though its retry was due.
                if is_behind || nobody_lacks_it {
                    entry.stored.last_failure = None;
                }
            }
            entry.unsaved = true;
        }
        self.push.held_back_from = pass.reads_past.or(barrier);
        if pass.stopped && (is_any_passed_over || barrier.is_none()) {
            self.look_again();
        }
        self.save_marked();
        if self.queue.is_whole() {
            self.push.due = self.earliest_due_in_memory();
        } else if pass.by_timer {
            self.load(Select::DueAt(now), self.limits.max_window_messages as usize / 2, Purpose::NextDue);
        }
    }
    /// What is due next after a timer's pass. The store answered before it knew what a save on its way says.
    pub(super) fn on_next_due_loaded(&mut self, in_store: Option<Timestamp>) {
        let in_memory = self.earliest_due_in_memory();
        self.note_due(in_store);
        self.note_due(in_memory);
    }

    fn earliest_due_in_memory(&self) -> Option<Timestamp> {
        self.queue.iter().filter(|entry| entry.lease.is_none()).filter_map(Entry::due).min()
    }
}
