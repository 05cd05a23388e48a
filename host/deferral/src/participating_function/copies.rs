//! A message for each of its recipient's devices.
//!
//! *Known* devices are those whose bindings are there when a step says `each`, or any later step about the message: all
//! that were seen while it waited, [`MAX_DEVICES`] of them at most. They are durable with the message, and so is which of
//! them acknowledged it; a device is its +sip.instance, else its contact address, so that it is known again after it
//! registered anew.
//!
//! | what happens | a message's copy for a device | the message |
//! |---|---|---|
//! | the step begins | wanted | waits |
//! | the device acknowledges it | had | goes when no device wants one any more |
//! | nobody is there | wanted; the device is left out until it registers or refreshes | waits |
//! | the device refuses it | wanted; tried again, after the others, when something arrives or it registers or refreshes | waits |
//! | the device refuses its shape | wanted; tried at once in the other mode, in the same again when it registers or refreshes | waits |
//! | no device has it and none is left to be tried | – | `on-failure` is asked |
//! | its time is up | – | `on-expiry` is asked |
//!
//! The devices get their copies side by side: what each is to get is lined up for it, and goes out one after the other, so
//! that each gets its messages in order and has one request or session in flight. The plan waits until some device has each
//! message, or none is left to be tried; what the others get follows beside it. So a device that is silent holds up no other.
//! One that answers slowly does, but only when a quarter of the window is lined up for it: what is lined up stays in memory.
//! A device that is reached in several ways gets each copy along one of them at a time.
//!
//! What was lined up for a device that nobody was at, or that had no room, is left: it follows, as what a device could not
//! get for another reason, in a further pass, when the attempt with it is over, when something arrives, or when it registers
//! or refreshes. A device that we were too busy for is tried again after a rest.

use super::attempt::{Kind, Running, is_a_refusal_of_the_shape};
use super::contacts::Reach;
use super::plan::{Carried, RunStep};
use super::window::{Entry, Lease, is_about_the_message};
use super::{AttemptEnd, AttemptId, AttemptTask, Event, Recipient};
use crate::decision::{AttemptKind, Progress, Target, Trigger};
use crate::model::{ContactId, DeviceState, Duration, MessageId, Mode, Origin, StoredMessage, Timestamp};

/// Devices that a message is kept for.
pub(super) const MAX_DEVICES: usize = 16;
/// A device that has not answered for so long is waited for no more: it may be dead.
const SILENT_AFTER: Duration = Duration::from_secs(5);

impl Recipient {
    /// A device wants a copy of it that it does not have.
    pub(super) fn is_for_each(&self, id: MessageId) -> bool {
        let stored = self.queue.get(id).map(|entry| &entry.stored);
        stored.is_some_and(|stored| stored.devices.iter().any(|state| state.delivered_at.is_none()))
    }

    /// Notes who is known, lines the copies up for them, and lets the plan wait for the first ones.
    pub(super) fn give_each(&mut self, messages: &[MessageId], mode: Mode) -> Carried {
        if self.paced_until().is_some() {
            return Carried::Busy(RunStep::Each { messages: messages.to_vec(), mode });
        }
        let messages: Vec<MessageId> = messages.iter().copied().filter(|id| self.may_be_copied(*id)).collect();
        for id in &messages {
            self.note_known_devices(*id);
            if let Some(entry) = self.queue.get_mut(*id) {
                entry.each = Some(mode);
            }
        }
        self.save_marked();
        let now = self.now;
        let alive = self.contacts.iter().filter(|reach| reach.contact.expires_at > now);
        let (doubtful, sure): (Vec<_>, Vec<_>) = alive.partition(|reach| reach.is_doubtful() || reach.rests(now));
        let of = |reaches: Vec<&Reach>| reaches.into_iter().map(|reach| reach.contact.id).collect::<Vec<_>>();
        let (doubtful, sure) = (of(doubtful), of(sure));
        for contact in sure {
            self.line_up_earlier(contact, &messages);
            for id in &messages {
                self.line_up(contact, *id, mode);
            }
        }
        // Those who were away are tried where nobody else could have it: as a step to any would.
        let for_nobody: Vec<MessageId> =
            messages.iter().copied().filter(|id| !self.some_device_has(*id) && !self.is_to_be_tried(*id)).collect();
        for contact in doubtful {
            for id in &for_nobody {
                self.line_up(contact, *id, mode);
            }
        }
        self.advance_copies();
        if let Some(run) = self.push.run_mut() {
            run.steps.push_front(RunStep::Copies { messages });
        }
        Carried::Done
    }

    /// Until a device has each message, or nobody is left to be tried.
    pub(super) fn wait_for_copies(&mut self, messages: Vec<MessageId>) -> Carried {
        match messages.iter().any(|id| !self.some_device_has(*id) && self.is_to_be_tried(*id)) {
            true => Carried::Busy(RunStep::Copies { messages }),
            false => Carried::Done,
        }
    }

    /// A copy for this contact's device, if it wants one: in this mode, or where it said that it does not take that, in the
    /// other one.
    fn line_up(&mut self, contact: ContactId, id: MessageId, mode: Mode) {
        let (Some(reach), Some(entry)) = (self.contacts.get(contact), self.queue.get(id)) else { return };
        if !wants(&entry.stored, reach) || reach.is_to_get(id) || self.is_on_its_way_to(id, &reach.contact.device) {
            return;
        }
        let takes = |mode| reach.takes_copy(&entry.stored, mode);
        let other = Some(mode.other()).filter(|other| reach.has_refused(id, mode) && takes(*other));
        if let Some(mode) = Some(mode).filter(|mode| takes(*mode)).or(other) {
            let most = self.lane_limit().saturating_add(self.limits.max_decision_messages);
            self.contacts.line_up(contact, id, mode, most);
        }
    }

    /// Copies that are lined up for a device before others wait for it. Those that are lined up stay in memory.
    fn lane_limit(&self) -> usize {
        (self.limits.max_window_messages as usize / 4).max(1)
    }

    /// Until when the plan waits for devices that are behind: each as long as it is not silent.
    fn paced_until(&self) -> Option<Timestamp> {
        let is_behind = |reach: &&Reach| reach.lined_up().len() >= self.lane_limit();
        let until = |reach: &Reach| {
            let of_it = |running: &&Running| {
                running.contact == Some(reach.contact.id) || running.device.as_ref() == Some(&reach.contact.device)
            };
            self.attempts.values().filter(of_it).map(|running| running.since.after(SILENT_AFTER)).max()
        };
        self.contacts.iter().filter(is_behind).filter_map(until).filter(|until| *until > self.now).max()
    }

    /// When the plan goes on without whoever is behind.
    pub(super) fn pace_wake(&self) -> Option<Timestamp> {
        (!self.push.is_idle()).then(|| self.paced_until()).flatten()
    }

    /// What the device wants that comes before these messages: on its way to others, so that no policy was asked about it
    /// in this pass, or let go meanwhile.
    fn line_up_earlier(&mut self, contact: ContactId, messages: &[MessageId]) {
        let first = messages.iter().filter_map(|id| self.queue.get(*id)).map(Entry::place).min();
        let Some(first) = first else { return };
        let now = self.now;
        let before = self.queue.iter().take_while(|entry| entry.place() < first);
        let begun: Vec<(MessageId, Mode)> = before
            .filter(|entry| entry.is_pending(now))
            .filter_map(|entry| Some((entry.stored.id, entry.each?)))
            .collect();
        for (id, mode) in begun {
            if self.may_be_copied(id) {
                self.line_up(contact, id, mode);
            }
        }
    }

    /// Begins what is lined up for whoever is free.
    pub(super) fn advance_copies(&mut self) {
        let is_any_on_its_way = self.attempts.values().any(|running| running.kind.is_copies());
        if !is_any_on_its_way && !self.contacts.is_anything_lined_up() {
            return;
        }
        let free = self.contacts.iter().filter(|reach| reach.is_free());
        for contact in free.map(|reach| reach.contact.id).collect::<Vec<_>>() {
            if is_any_on_its_way {
                self.line_up_with_others(contact);
            }
            self.begin_copies(contact);
        }
    }

    /// What is on its way to others goes to whoever wants it, too, and has become free or was never in doubt.
    fn line_up_with_others(&mut self, contact: ContactId) {
        let now = self.now;
        if now < self.push.gate || self.contacts.get(contact).filter(|reach| is_asked(reach, now)).is_none() {
            return;
        }
        let on_their_way = self.queue.iter().filter(|entry| entry.lease == Some(Lease::Copies));
        let begun: Vec<(MessageId, Mode)> =
            on_their_way.filter_map(|entry| Some((entry.stored.id, entry.each?))).collect();
        for (id, mode) in begun {
            self.line_up(contact, id, mode);
        }
    }

    /// One device's next copy: one in page mode, or all that come next in a session.
    fn begin_copies(&mut self, contact: ContactId) {
        let Some(reach) = self.contacts.get(contact) else { return };
        if reach.contact.expires_at <= self.now {
            return self.contacts.retain_in_lane(contact, |_| false);
        }
        let device = reach.contact.device.clone();
        let is_with_it = |running: &Running| running.kind.is_copies() && running.device.as_ref() == Some(&device);
        if !reach.is_free() || self.attempts.values().any(is_with_it) {
            return;
        }
        let (mut next, mut mode) = (Vec::new(), None);
        while let Some((id, of_this)) = self.contacts.next_in_lane(contact) {
            if mode.is_some_and(|mode| mode == Mode::Page || mode != of_this) {
                break;
            }
            self.contacts.leave_lane(contact);
            let takes = |reach: &Reach| {
                self.queue
                    .get(id)
                    .is_some_and(|entry| wants(&entry.stored, reach) && reach.takes_copy(&entry.stored, of_this))
            };
            if self.may_be_copied(id) && self.contacts.get(contact).is_some_and(takes) {
                next.push(id);
                mode = Some(of_this);
            } else if self.queue.get(id).is_none() && !self.queue.is_whole() {
                self.contacts.note_missed(contact);
            }
        }
        match mode {
            Some(mode) => self.start_copies(contact, &next, mode),
            // Who refused the last one gets it when it registers or refreshes.
            None if self.contacts.wants_a_pass(contact)
                && self.contacts.get(contact).is_some_and(|reach| is_asked(reach, self.now)) =>
            {
                self.want(Trigger::MessageArrived);
            }
            None => {}
        }
    }

    fn start_copies(&mut self, contact: ContactId, messages: &[MessageId], mode: Mode) {
        let id = self.next_attempt_id();
        let mut leased: Vec<(StoredMessage, u16)> = Vec::with_capacity(messages.len());
        for message in messages {
            leased.extend(self.lease(*message, Lease::Copies));
            if let Some(entry) = self.queue.get_mut(*message) {
                entry.copies.push(id);
            }
        }
        let repetition = leased.first().map_or(0, |(_, repetition)| *repetition);
        let mut stored: Vec<StoredMessage> = leased.into_iter().map(|(stored, _)| stored).collect();
        let target = Target::Each;
        if mode == Mode::Large {
            let kind = Kind::Session { messages: messages.to_vec(), target };
            return self.start(id, Some(contact), AttemptTask::Session { messages: stored, repetition }, kind);
        }
        if let (Some(message), Some(stored)) = (messages.first().copied(), stored.pop()) {
            let task = AttemptTask::Page { message: Box::new(stored), repetition };
            self.start(id, Some(contact), task, Kind::Page { message, target });
        }
    }

    /// This attempt works on these no more.
    pub(super) fn take_copies_from(&mut self, attempt: AttemptId, messages: &[MessageId]) {
        for id in messages {
            if let Some(entry) = self.queue.get_mut(*id) {
                entry.copies.retain(|other| *other != attempt);
            }
        }
    }

    /// What a plan said of it for each device holds no more; what is on its way goes on.
    pub(super) fn end_copies(&mut self, id: MessageId) {
        self.contacts.clear_lanes(Some(id));
        if let Some(entry) = self.queue.get_mut(id) {
            entry.each = None;
        }
    }

    /// It still waits, nobody works on it but for other devices, and its time is not up.
    fn may_be_copied(&self, id: MessageId) -> bool {
        self.queue.get(id).is_some_and(|entry| {
            matches!(entry.lease, None | Some(Lease::Copies))
                && entry.discard.is_none()
                && !entry.is_expired(self.now)
                && entry.stored.message.hand_over_to.is_none()
        })
    }

    fn is_on_its_way_to(&self, id: MessageId, device: &str) -> bool {
        self.attempts.values().any(|running| {
            running.kind.is_copies()
                && running.device.as_deref() == Some(device)
                && running.kind.messages().contains(&id)
        })
    }

    /// An attempt at copies is over. A further pass, if there is something for somebody who did not refuse the last one and
    /// that is not lined up: a pull had it meanwhile, or the attempt left it unsaid.
    pub(super) fn copies_are_over(&mut self, contact: Option<ContactId>, is_over_well: bool) {
        if let Some(contact) = contact {
            let is_in_doubt = self.contacts.get(contact).is_some_and(|reach| reach.last_failure.is_some());
            self.contacts.note_hesitation(contact, !is_over_well && !is_in_doubt);
        }
        let now = self.now;
        let waits = |reach: &Reach| {
            is_asked(reach, now)
                && self.queue.iter().any(|entry| {
                    self.may_go(entry.stored.id) && wants(&entry.stored, reach) && !reach.is_to_get(entry.stored.id)
                })
        };
        if self.contacts.iter().any(waits) {
            self.want(Trigger::MessageArrived);
        }
    }

    /// A device did not get its copies. Where nobody was there it gets no others by itself. What a device refused
    /// in a session that went well otherwise it refused by its shape: it is not asked for that again.
    pub(super) fn copies_failed(
        &mut self,
        kind: AttemptKind,
        contact: Option<ContactId>,
        end: &AttemptEnd,
        messages: &[(MessageId, Progress)],
    ) {
        if let Some(contact) = contact {
            self.leave_lane_of(contact, end);
        }
        let waiting: Vec<(MessageId, Progress)> =
            messages.iter().copied().filter(|(id, _)| self.may_wait_for_its_device(*id)).collect();
        if !waiting.is_empty() {
            self.event(Event::AttemptFailed(kind, end.status, end.origin));
        }
        let Some(contact) = contact else { return };
        let is_its_shape = end.origin == Origin::Device && end.status.is_some_and(is_a_refusal_of_the_shape);
        let mode = if kind == AttemptKind::Page { Mode::Page } else { Mode::Large };
        for (id, progress) in waiting {
            let is_of_one = kind == AttemptKind::Session && progress == Progress::Refused;
            if is_its_shape || is_of_one {
                self.contacts.note_refused_shape(contact, id, mode);
            }
        }
    }

    /// After a failure: it waits for the device where another one has it, or is still to be tried. False: it failed.
    pub(super) fn leave_copy(&mut self, id: MessageId) -> bool {
        let waits = self.may_wait_for_its_device(id);
        if waits {
            self.release(id);
        }
        waits
    }

    /// Where nobody was there, or we were too busy, the other copies for it are left; where it refused this one, those that
    /// can wait.
    fn leave_lane_of(&mut self, contact: ContactId, end: &AttemptEnd) {
        let is_of_the_message = end.status.is_some_and(is_about_the_message);
        let lined_up: Vec<MessageId> = self.contacts.get(contact).into_iter().flat_map(Reach::lined_up).collect();
        if end.origin != Origin::Device {
            return self.contacts.retain_in_lane(contact, |_| false);
        }
        if !is_of_the_message {
            let can_wait = |id: &MessageId| self.some_device_has(*id) || self.is_to_be_tried_elsewhere(*id, contact);
            let stay: Vec<MessageId> = lined_up.into_iter().filter(|id| !can_wait(id)).collect();
            self.contacts.retain_in_lane(contact, |id| stay.contains(&id));
        }
    }

    fn may_wait_for_its_device(&self, id: MessageId) -> bool {
        self.some_device_has(id) || self.is_to_be_tried(id)
    }

    /// It is on its way to a device, or lined up for one.
    fn is_to_be_tried(&self, id: MessageId) -> bool {
        self.queue.get(id).is_some_and(|entry| !entry.copies.is_empty() || self.contacts.is_in_some_lane(id))
    }

    fn is_to_be_tried_elsewhere(&self, id: MessageId, contact: ContactId) -> bool {
        let mut others = self.contacts.iter().filter(|reach| reach.contact.id != contact);
        others.any(|reach| reach.is_to_get(id)) || self.queue.get(id).is_some_and(|entry| !entry.copies.is_empty())
    }

    fn some_device_has(&self, id: MessageId) -> bool {
        self.queue.get(id).is_some_and(Entry::some_device_has_it)
    }

    fn note_known_devices(&mut self, id: MessageId) {
        let Some(entry) = self.queue.get(id) else { return };
        let stored = &entry.stored;
        let known = &stored.devices;
        let mut new: Vec<String> = Vec::new();
        for reach in self.contacts.iter() {
            let device = &reach.contact.device;
            let able = reach.takes(stored, Mode::Page) || reach.takes(stored, Mode::Large);
            if able && !known.iter().any(|state| state.device == *device) && !new.contains(device) {
                new.push(device.clone());
            }
        }
        new.truncate(MAX_DEVICES.saturating_sub(known.len()));
        if let (false, Some(entry)) = (new.is_empty(), self.queue.get_mut(id)) {
            entry.stored.devices.extend(new.into_iter().map(|device| DeviceState { device, delivered_at: None }));
            entry.unsaved = true;
        }
    }
}

/// Whether a contact's device is known to want it, and takes it in some mode.
fn wants(stored: &StoredMessage, reach: &Reach) -> bool {
    let is_known = |state: &DeviceState| state.delivered_at.is_none() && state.device == reach.contact.device;
    stored.devices.iter().any(is_known)
        && (reach.takes_copy(stored, Mode::Page) || reach.takes_copy(stored, Mode::Large))
}

/// Whether something goes there by itself: it is there, took the last one whole, and we were not too busy for it.
pub(super) fn is_asked(reach: &Reach, now: Timestamp) -> bool {
    reach.contact.expires_at > now && is_willing(reach) && !reach.hesitates && !reach.rests(now)
}

/// Whether it took the last one, or refused its shape: then it may take it in the other mode, and refuses each once.
fn is_willing(reach: &Reach) -> bool {
    reach
        .last_failure
        .is_none_or(|failure| failure.origin == Origin::Device && failure.status.is_some_and(is_a_refusal_of_the_shape))
}
