//! Attempts in flight, and what their ends mean.
//!
//! | input | a page-mode attempt | a session, a pull |
//! |---|---|---|
//! | one message acknowledged | – | it goes (or stays as a copy); the rest goes on |
//! | ended, 2xx | it goes | what was not acknowledged goes back: `on-failure` |
//! | ended otherwise | goes back: `on-failure` | goes back: `on-failure` |
//! | ended otherwise, one of several devices ([`super::copies`]) | waits for that device | waits for that device |
//! | ended, nobody there, to any contact, another may take it | the other one is tried | the rest goes to the other one |

use super::commits::{Draft, Removal};
use super::copies::MAX_DEVICES;
use super::failure::Batch;
use super::window::{Lease, stops_the_rest};
use super::{Attempt, AttemptEnd, AttemptId, AttemptTask, Event, Outcome, Output, Recipient};
use crate::decision::{AttemptKind, Progress, Target};
use crate::model::{ContactId, DeviceState, LastResult, MessageId, Mode, Origin, StoredMessage, Timestamp};

/// An attempt in flight.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) contact: Option<ContactId>,
    /// The contact's device.
    pub(super) device: Option<String>,
    /// Until when its binding was to last: it is another time once the device registered anew.
    pub(super) registered_until: Option<Timestamp>,
    pub(super) kind: Kind,
    /// When it began.
    pub(super) since: Timestamp,
}

impl Running {
    /// Whether it occupies this contact.
    pub(super) fn is_with(&self, contact: ContactId) -> bool {
        let others = match &self.kind {
            Kind::Relay { others } => others.as_slice(),
            _ => &[],
        };
        self.contact == Some(contact) || others.contains(&contact)
    }
}

/// What it does.
#[derive(Debug)]
pub(super) enum Kind {
    /// A plan's MESSAGE.
    Page { message: MessageId, target: Target },
    /// A plan's session, with what is not acknowledged yet.
    Session { messages: Vec<MessageId>, target: Target },
    /// A plan's notification.
    Notify,
    /// A client's session, with what is not acknowledged yet.
    Pull { messages: Vec<MessageId>, mode: Mode, by: By },
    /// A message that is not stored, or was not when it began: with these contacts, too.
    Relay { others: Vec<ContactId> },
    /// A message for a named target.
    HandOver { message: MessageId },
}

/// Who acknowledges a message.
#[derive(Clone, Debug, Default)]
pub(super) struct By {
    /// None: nobody who is told from other devices; the message goes.
    pub(super) device: Option<String>,
    /// A copy stays in any case.
    pub(super) keep_copy: bool,
}

impl By {
    pub(super) fn device(device: Option<String>) -> By {
        By { device, keep_copy: false }
    }
}

impl Kind {
    /// Whether it brings a device its copies.
    pub(super) fn is_copies(&self) -> bool {
        matches!(self, Kind::Page { target: Target::Each, .. } | Kind::Session { target: Target::Each, .. })
    }

    /// What a plan sends with it, and is not acknowledged yet.
    pub(super) fn messages(&self) -> &[MessageId] {
        match self {
            Kind::Page { message, .. } => std::slice::from_ref(message),
            Kind::Session { messages, .. } => messages,
            _ => &[],
        }
    }

    fn attempt_kind(&self) -> AttemptKind {
        match self {
            Kind::Page { .. } => AttemptKind::Page,
            Kind::Session { .. } => AttemptKind::Session,
            Kind::Notify => AttemptKind::Notification,
            Kind::Pull { .. } => AttemptKind::Pull,
            Kind::Relay { .. } => AttemptKind::Relay,
            Kind::HandOver { .. } => AttemptKind::HandOver,
        }
    }
}

/// An attempt succeeded as far as its status tells.
pub(super) fn is_success(status: Option<u16>) -> bool {
    matches!(status, Some(200..=299))
}

impl Recipient {
    /// Begins an attempt.
    pub(super) fn start(&mut self, id: AttemptId, contact: Option<ContactId>, task: AttemptTask, kind: Kind) {
        if let Some(contact) = contact {
            self.contacts.occupy(contact, id);
        }
        self.event(Event::AttemptStarted(kind.attempt_kind()));
        let reach = contact.and_then(|contact| self.contacts.get(contact));
        let device = reach.map(|reach| reach.contact.device.clone());
        let registered_until = reach.map(|reach| reach.contact.expires_at);
        self.attempts.insert(id, Running { contact, device, registered_until, kind, since: self.now });
        self.emit(Output::Start(Box::new(Attempt { id, contact, task })));
    }

    /// One message of a session is acknowledged. An acknowledgement that is not ours to hear is dropped.
    pub(super) fn on_delivered(&mut self, attempt: AttemptId, message: MessageId) {
        let Some(running) = self.attempts.get_mut(&attempt) else { return };
        let (messages, by) = match &mut running.kind {
            Kind::Session { messages, .. } => (messages, By::device(running.device.clone())),
            Kind::Pull { messages, by, .. } => (messages, by.clone()),
            _ => return,
        };
        let Some(index) = messages.iter().position(|id| *id == message) else { return };
        messages.remove(index);
        self.take_copies_from(attempt, &[message]);
        self.acknowledged(message, by);
    }

    /// A device has it: the message goes, or a copy stays for other devices: those that are known and do not have it, and
    /// whoever a policy kept it for.
    pub(super) fn acknowledged(&mut self, message: MessageId, by: By) {
        let now = self.now;
        let mut draft = Draft::default();
        let others_want_it = |stored: &StoredMessage, device: &str| {
            stored.devices.iter().any(|state| state.delivered_at.is_none() && state.device != device)
        };
        let keeps = self.queue.get_mut(message).is_some_and(|entry| std::mem::take(&mut entry.keep));
        // Kept or not: a device has it.
        self.let_others_go(message);
        match (by.device, self.queue.get_mut(message)) {
            (Some(device), Some(entry))
                if !entry.copies.is_empty()
                    || (entry.discard.is_none()
                        && (by.keep_copy || keeps || others_want_it(&entry.stored, &device))) =>
            {
                entry.lease = (!entry.copies.is_empty()).then_some(Lease::Copies);
                note_device(&mut entry.stored.devices, device, now);
                entry.stored.fetch_deadline = None;
                self.draft_save(&mut draft, message);
                self.event(Event::Delivered(message));
            }
            _ => {
                let removal = Removal { id: message, event: Event::Delivered(message), report: false };
                self.draft_removal(&mut draft, removal);
            }
        }
        self.submit(draft);
    }

    pub(super) fn on_attempt_ended(&mut self, id: AttemptId, end: AttemptEnd) {
        // 1xx ends nothing.
        if end.status.is_some_and(|status| status < 200) {
            return;
        }
        let Some(Running { contact, device, registered_until, kind, .. }) = self.attempts.remove(&id) else { return };
        let by = By::device(device);
        let known = contact.and_then(|contact| self.contacts.get(contact)).map(|reach| reach.contact.expires_at);
        // What is known of the way that was tried says nothing of the one that was registered meanwhile.
        let is_anew = registered_until.is_some() && known.is_some() && known != registered_until;
        let (is_copies, is_ours) = (kind.is_copies(), end.is_ours);
        if let Some(contact) = contact.filter(|_| end.is_ours) {
            self.contacts.release(contact, id);
            // Whoever decides about other failures says when they are tried again.
            if is_copies && !is_anew {
                self.contacts.note_our_own_fault(contact, self.now);
            }
        } else if let Some(contact) = contact {
            self.contacts.release(contact, id);
            let last = (!is_success(end.status)).then_some(LastResult {
                at: self.now,
                status: end.status,
                origin: end.origin,
            });
            // A client that did not take what it asked for says nothing of the way to it.
            let says_nothing = matches!(kind, Kind::Pull { .. }) && end.status.is_none();
            if last.is_none() || !(is_anew || says_nothing) {
                self.contacts.note(contact, last);
            }
        }
        if is_copies {
            self.take_copies_from(id, kind.messages());
        }
        let mut is_over_well = is_success(end.status) || is_anew;
        self.push.attempt_is_over(id);
        match kind {
            Kind::Page { message, target } => self.end_of_page(message, target, contact, by, end),
            Kind::Session { messages, target } => {
                is_over_well &= self.end_of_session(messages, target, contact, by, end);
            }
            Kind::Notify => self.on_notification_ended(contact, end),
            Kind::Pull { messages, mode, by } => self.end_of_pull(messages, mode, by, contact, end),
            Kind::Relay { others } => {
                // What each of several came to is not known one by one; of one it was noted above.
                others.iter().for_each(|contact| self.contacts.release(*contact, id));
                self.on_relay_ended(id, end);
                self.want(crate::decision::Trigger::MessageArrived);
            }
            Kind::HandOver { message } => {
                self.hand_overs.attempt_is_over();
                self.end_of_single(AttemptKind::HandOver, message, None, By::default(), end);
            }
        }
        if is_copies {
            self.copies_are_over(contact, is_over_well || is_ours);
        }
    }

    fn end_of_page(&mut self, message: MessageId, target: Target, contact: Option<ContactId>, by: By, end: AttemptEnd) {
        if !is_success(end.status) && self.another_may_take(&[message], Mode::Page, target, contact, &end) {
            return;
        }
        if !is_success(end.status) && target == Target::Each {
            self.copies_failed(AttemptKind::Page, contact, &end, &[(message, Progress::Refused)]);
            if self.leave_copy(message) {
                return;
            }
        }
        self.end_of_single(AttemptKind::Page, message, contact, by, end);
    }

    /// The end of an attempt with one message.
    pub(super) fn end_of_single(
        &mut self,
        kind: AttemptKind,
        message: MessageId,
        contact: Option<ContactId>,
        by: By,
        end: AttemptEnd,
    ) {
        if is_success(end.status) {
            if kind == AttemptKind::HandOver {
                let mut draft = Draft::default();
                let removal = Removal { id: message, event: Event::HandedOver(message), report: false };
                self.draft_removal(&mut draft, removal);
                self.submit(draft);
            } else {
                self.acknowledged(message, by);
            }
            return;
        }
        let progress = if end.status.is_some() { Progress::Refused } else { Progress::Partial };
        self.fail(Batch::of(kind, contact, &end, vec![(message, progress, None)]));
    }

    /// Whether the device said something of every message, so that none goes there again as it did.
    fn end_of_session(
        &mut self,
        messages: Vec<MessageId>,
        target: Target,
        contact: Option<ContactId>,
        by: By,
        end: AttemptEnd,
    ) -> bool {
        let mut rest = self.settle_outcomes(messages, &by, &end);
        let all_said = rest.iter().all(|(_, progress, _)| *progress == Progress::Refused);
        if target == Target::Each && !rest.is_empty() {
            let failed: Vec<_> = rest.iter().map(|(id, progress, _)| (*id, *progress)).collect();
            self.copies_failed(AttemptKind::Session, contact, &end, &failed);
            rest.retain(|(id, ..)| !self.leave_copy(*id));
        }
        if rest.is_empty() {
            return all_said;
        }
        let ids: Vec<MessageId> = rest.iter().map(|(id, ..)| *id).collect();
        let nobody_refused = rest.iter().all(|(_, progress, _)| *progress != Progress::Refused);
        if !(nobody_refused && self.another_may_take(&ids, Mode::Large, target, contact, &end)) {
            self.fail(Batch::of(AttemptKind::Session, contact, &end, rest));
        }
        all_said
    }

    /// Takes the acknowledged ones away and tells how far the others came.
    pub(super) fn settle_outcomes(
        &mut self,
        messages: Vec<MessageId>,
        by: &By,
        end: &AttemptEnd,
    ) -> Vec<(MessageId, Progress, Option<u16>)> {
        let mut rest = Vec::new();
        for id in messages {
            match end.outcomes.iter().find(|(named, _)| *named == id).map(|(_, outcome)| *outcome) {
                Some(Outcome::Acknowledged) => self.acknowledged(id, by.clone()),
                Some(Outcome::Failed { progress, status }) => rest.push((id, progress, status)),
                None => rest.push((id, Progress::Unsent, None)),
            }
        }
        rest
    }

    /// Nobody was there, the step names no contact, and there is one that may be better: it is tried at once, so that a
    /// dead device does not hold up one that lives.
    fn another_may_take(
        &mut self,
        messages: &[MessageId],
        mode: Mode,
        target: Target,
        contact: Option<ContactId>,
        end: &AttemptEnd,
    ) -> bool {
        if target != Target::Any || end.origin == Origin::Device || end.is_ours {
            return false;
        }
        let other = self.contacts.iter().any(|reach| {
            Some(reach.contact.id) != contact
                && !reach.is_doubtful()
                && reach.contact.expires_at > self.now
                && messages.iter().all(|id| self.queue.get(*id).is_some_and(|entry| reach.takes(&entry.stored, mode)))
        });
        if !other || !self.push.try_again_first(messages, mode) {
            return false;
        }
        self.event(Event::AttemptFailed(
            if mode == Mode::Page { AttemptKind::Page } else { AttemptKind::Session },
            end.status,
            end.origin,
        ));
        for id in messages {
            self.release(*id);
        }
        true
    }

    /// Nobody works on it any more.
    pub(super) fn release(&mut self, id: MessageId) {
        let now = self.now;
        let Some(entry) = self.queue.get_mut(id) else { return };
        if entry.lease == Some(Lease::Removal) {
            return;
        }
        if !entry.copies.is_empty() {
            entry.lease = Some(Lease::Copies);
            return;
        }
        entry.lease = None;
        let due = entry.due();
        let expired = entry.is_expired(now);
        if let Some(report) = entry.discard {
            let event = Event::Discarded(Some(id), String::from("operator"));
            let mut draft = Draft::default();
            self.draft_removal(&mut draft, Removal { id, event, report });
            self.submit(draft);
            return;
        }
        if expired {
            self.expiry.look_at(now);
        }
        self.note_due(due);
    }

    /// Notes in memory how a message's last attempt ended. The policy counts attempts since the recipient last became
    /// available; a failure in the same millisecond as a reopening counts as after it.
    pub(super) fn note_failure(
        &mut self,
        id: MessageId,
        kind: AttemptKind,
        status: Option<u16>,
        origin: Origin,
    ) -> bool {
        let at = self.now.max(Timestamp(self.push.reopened_at().0.saturating_add(1)));
        let Some(entry) = self.queue.get(id) else { return false };
        let attempts = self.attempts_of(entry).saturating_add(1);
        let failure = LastResult { at, status, origin };
        let Some(entry) = self.queue.get_mut(id) else { return false };
        entry.stored.attempts = attempts;
        entry.stored.last_failure = Some(failure);
        if origin == Origin::Device && status.is_some_and(is_a_refusal_of_the_shape) {
            match kind {
                AttemptKind::Page | AttemptKind::Relay => entry.stored.page_refused = true,
                AttemptKind::Session => entry.stored.large_refused = true,
                AttemptKind::Notification | AttemptKind::Pull | AttemptKind::HandOver => {}
            }
        }
        stops_the_rest(&failure)
    }
}

/// It has it. Of too many devices the first that had it is forgotten, else the first that is still to get it: a client may
/// take a new name for every session, but one that has it is not to get it again.
fn note_device(devices: &mut Vec<DeviceState>, device: String, now: Timestamp) {
    devices.retain(|state| state.device != device);
    if devices.len() >= MAX_DEVICES {
        devices.remove(devices.iter().position(|state| state.delivered_at.is_some()).unwrap_or(0));
    }
    devices.push(DeviceState { device, delivered_at: Some(now) });
}

/// What clients answer to a shape that they do not know; some say 500 to all of them.
pub(super) fn is_a_refusal_of_the_shape(status: u16) -> bool {
    matches!(status, 400 | 405 | 406 | 413 | 415 | 488 | 493 | 500 | 501 | 513 | 606)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_has_it_is_noted_however_many_are_still_to_get_it() {
        let state = |number: usize| DeviceState { device: format!("device {number}"), delivered_at: None };
        let mut devices: Vec<DeviceState> = (0..MAX_DEVICES).map(state).collect();
        for number in 0..3 {
            note_device(&mut devices, format!("new {number}"), Timestamp(7));
            assert_eq!(devices.len(), MAX_DEVICES);
            let last = devices.last().map(|it| (it.device.clone(), it.delivered_at));
            assert_eq!(last, Some((format!("new {number}"), Some(Timestamp(7)))));
        }
        let waiting = devices.iter().filter(|it| it.delivered_at.is_none()).count();
        assert_eq!(waiting, MAX_DEVICES - 1, "those that had it make room first");
    }
}
