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
//! One device after the other gets all its copies, those that answered last time first. What some device has already goes
//! to the next one beside the plan, which does not wait for it: a dead tablet does not hold up the phone. What a device
//! could not get meanwhile, because it was busy or the message was on its way to yet another one, follows when that is over;
//! until then nothing that comes after it goes to that device, so that each gets its messages in order.

use super::attempt::{Kind, is_a_refusal_of_the_shape};
use super::contacts::Reach;
use super::plan::{Carried, RunStep};
use super::window::Lease;
use super::{AttemptEnd, AttemptId, AttemptTask, Event, Recipient};
use crate::decision::{AttemptKind, Progress, Target, Trigger};
use crate::model::{ContactId, DeviceState, MessageId, Mode, Origin, StoredMessage};

/// Devices that a message is kept for.
pub(super) const MAX_DEVICES: usize = 16;

impl Recipient {
    /// A device wants a copy of it that it does not have.
    pub(super) fn is_for_each(&self, id: MessageId) -> bool {
        let stored = self.queue.get(id).map(|entry| &entry.stored);
        stored.is_some_and(|stored| stored.devices.iter().any(|state| state.delivered_at.is_none()))
    }

    /// Notes who is known, and puts a step for each device in front of the others.
    pub(super) fn give_each(&mut self, messages: &[MessageId], mode: Mode) -> Carried {
        let messages: Vec<MessageId> = messages.iter().copied().filter(|id| self.may_go(*id)).collect();
        for id in &messages {
            self.note_known_devices(*id);
        }
        self.save_marked();
        let now = self.now;
        let of = |contact: ContactId, mode: Mode| -> Vec<MessageId> {
            let Some(reach) = self.contacts.get(contact) else { return Vec::new() };
            let takes = |id: &&MessageId| {
                let stored = self.queue.get(**id).map(|entry| &entry.stored);
                stored.is_some_and(|stored| reach.takes_copy(stored, mode))
            };
            messages.iter().filter(takes).copied().collect()
        };
        let alive = self.contacts.iter().filter(|reach| reach.contact.expires_at > now);
        let (doubtful, sure): (Vec<_>, Vec<_>) = alive.partition(|reach| reach.is_doubtful());
        // Who refused the last one would hold up those who did not.
        let (willing, refusing): (Vec<_>, Vec<_>) = sure.into_iter().partition(|reach| is_willing(reach));
        let mut steps: Vec<(ContactId, Mode, Vec<MessageId>)> = Vec::new();
        for reach in willing.into_iter().chain(refusing) {
            let contact = reach.contact.id;
            steps.push((contact, mode, of(contact, mode)));
            // Whoever does not take its shape gets it in the other one, while others get it as the policy said.
            let mut others = of(contact, mode.other());
            others.retain(|id| reach.has_refused(*id, mode));
            steps.push((contact, mode.other(), others));
        }
        // Those who were away are tried where nobody else could have it: as a step to any would.
        for reach in doubtful {
            let ids = of(reach.contact.id, mode).into_iter().filter(|id| !self.some_device_has(*id));
            let ids: Vec<MessageId> = ids.filter(|id| !steps.iter().any(|(.., ids)| ids.contains(id))).collect();
            steps.push((reach.contact.id, mode, ids));
        }
        steps.retain(|(.., ids)| !ids.is_empty());
        let Some(run) = self.push.run_mut() else { return Carried::Done };
        for (contact, mode, messages) in steps.into_iter().rev() {
            if mode == Mode::Large {
                run.steps.push_front(RunStep::Copies { messages, mode, contact });
                continue;
            }
            for message in messages.into_iter().rev() {
                run.steps.push_front(RunStep::Copies { messages: vec![message], mode, contact });
            }
        }
        Carried::Done
    }

    /// One device's copies: one in page mode, or all of them in a session.
    pub(super) fn copies(&mut self, messages: Vec<MessageId>, mode: Mode, contact: ContactId) -> Carried {
        let is_away = self.push.run_mut().is_some_and(|run| run.away.contains(&contact));
        let Some(reach) = self.contacts.get(contact).filter(|reach| reach.contact.expires_at > self.now && !is_away)
        else {
            return Carried::Done;
        };
        let takes = |id: &MessageId| {
            self.may_go(*id) && self.queue.get(*id).is_some_and(|entry| reach.takes_copy(&entry.stored, mode))
        };
        let for_it: Vec<MessageId> = messages.iter().copied().filter(takes).collect();
        if for_it.is_empty() {
            return Carried::Done;
        }
        let is_further = for_it.iter().all(|id| self.some_device_has(*id));
        if is_further && for_it.iter().any(|id| self.is_behind_a_copy(*id, reach)) {
            return Carried::Done;
        }
        if !reach.is_free() {
            return if is_further { Carried::Done } else { Carried::Busy(RunStep::Copies { messages, mode, contact }) };
        }
        let id = self.next_attempt_id();
        let lease = if is_further { Lease::Copy(id) } else { Lease::Push(id) };
        let leased: Vec<(StoredMessage, u16)> =
            for_it.into_iter().filter_map(|message| self.lease(message, lease)).collect();
        let ids: Vec<MessageId> = leased.iter().map(|(stored, _)| stored.id).collect();
        let repetition = leased.first().map_or(0, |(_, repetition)| *repetition);
        let mut messages: Vec<StoredMessage> = leased.into_iter().map(|(stored, _)| stored).collect();
        let target = Target::Each;
        if mode == Mode::Large {
            let task = AttemptTask::Session { messages, repetition };
            return self.begin_copies(id, contact, task, Kind::Session { messages: ids, target }, is_further);
        }
        let (Some(message), Some(stored)) = (ids.first().copied(), messages.pop()) else { return Carried::Done };
        let task = AttemptTask::Page { message: Box::new(stored), repetition };
        self.begin_copies(id, contact, task, Kind::Page { message, target }, is_further)
    }

    fn begin_copies(
        &mut self,
        id: AttemptId,
        contact: ContactId,
        task: AttemptTask,
        kind: Kind,
        is_further: bool,
    ) -> Carried {
        if !is_further {
            return self.begin_step(id, contact, task, kind);
        }
        self.start(id, Some(contact), task, kind);
        Carried::Done
    }

    /// Something that the device wants comes before this message, and is just on its way to another device, or goes out in
    /// the pass that follows.
    fn is_behind_a_copy(&self, id: MessageId, reach: &Reach) -> bool {
        let comes_soon = self.push.wanted.is_some();
        let mut before = self.queue.iter().take_while(|entry| entry.stored.id != id);
        before.any(|entry| {
            let is_on_its_way = match entry.lease {
                Some(Lease::Push(_) | Lease::Copy(_)) => true,
                _ => comes_soon && self.may_go(entry.stored.id),
            };
            is_on_its_way && wants(&entry.stored, reach)
        })
    }

    /// An attempt at copies is over. A message has one lease: what was on its way to one device did not go to others
    /// meanwhile, nor anything else to this one. A further pass, if there is something for somebody who did not refuse
    /// the last one.
    pub(super) fn copies_are_over(&mut self, contact: Option<ContactId>, is_over_well: bool) {
        let is_willing = |reach: &Reach| {
            let is_another = Some(reach.contact.id) != contact;
            is_willing(reach) && (is_over_well || is_another || reach.last_failure.is_some())
        };
        let waits = |reach: &Reach| {
            let is_there = reach.is_free() && reach.contact.expires_at > self.now;
            is_there
                && is_willing(reach)
                && self.queue.iter().any(|entry| self.may_go(entry.stored.id) && wants(&entry.stored, reach))
        };
        if self.contacts.iter().any(waits) {
            self.want(Trigger::MessageArrived);
        }
    }

    /// A device did not get its copies. Where nobody was there it is left out of the rest of the plan. What a device refused
    /// in a session that went well otherwise it refused by its shape: it is not asked for that again.
    pub(super) fn copies_failed(
        &mut self,
        kind: AttemptKind,
        contact: Option<ContactId>,
        end: &AttemptEnd,
        messages: &[(MessageId, Progress)],
    ) {
        if let (Some(contact), Some(run)) = (contact, self.push.run_mut())
            && end.origin != Origin::Device
        {
            run.away.push(contact);
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

    fn may_wait_for_its_device(&mut self, id: MessageId) -> bool {
        self.some_device_has(id) || self.others_are_to_be_tried(id)
    }

    fn others_are_to_be_tried(&mut self, id: MessageId) -> bool {
        let Some(run) = self.push.run_mut() else { return false };
        let away = &run.away;
        run.steps.iter().any(|step| match step {
            RunStep::Copies { messages, contact, .. } => messages.contains(&id) && !away.contains(contact),
            _ => false,
        })
    }

    fn some_device_has(&self, id: MessageId) -> bool {
        let stored = self.queue.get(id).map(|entry| &entry.stored);
        stored.is_some_and(|stored| stored.devices.iter().any(|state| state.delivered_at.is_some()))
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

/// Whether it took the last one, or refused its shape: then it may take it in the other mode, and refuses each once.
fn is_willing(reach: &Reach) -> bool {
    reach
        .last_failure
        .is_none_or(|failure| failure.origin == Origin::Device && failure.status.is_some_and(is_a_refusal_of_the_shape))
}
