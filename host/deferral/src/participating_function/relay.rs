//! A MESSAGE that is passed on so that the sender gets the device's own answer.
//!
//! | state | input | what happens |
//! |---|---|---|
//! | relaying | 2xx | the sender gets it; nothing is stored |
//! | relaying | the device itself refuses for good (403, 404, 410, 6xx) | the sender gets it; nothing is stored |
//! | relaying | any other end | kept, and then as any attempt that failed |
//! | relaying | deadline | kept; 202 after the commit; the branch lives on |
//! | relaying, `Expires: 0` | deadline, any other end | 480; the branch is cancelled |
//! | being kept, branch alive | it cannot be stored | 503 or 500; the branch is cancelled |
//! | kept, branch alive | 2xx | delivered: the message goes |
//! | kept, branch alive | any other end | as any attempt that failed |
//!
//! It goes to one contact of every device that is free and takes it, those of equal q at once: one that has it is enough.
//! While a branch lives its message is leased: no second attempt of it begins. A message is passed on only when nothing before it waits
//! to be delivered, or it would overtake.
//!
//! An INVITE with a large message is passed on without an attempt: nothing of the message is here before the INVITE was
//! answered, so there is nothing to be kept, leased or reported yet. The machine says whether and how long
//! ([`Reply::PassOn`]); whoever carries that out takes the session over when nobody else did.

use super::arrival::{Keeping, State, Waiting};
use super::attempt::{By, Kind, Running};
use super::clock::SetBack;
use super::contacts::Reach;
use super::window::{Moment, Readiness};
use super::{Arrival, Attempt, AttemptEnd, AttemptId, AttemptTask, Event, Output, Recipient, Reply};
use crate::decision::{AttemptKind, Keep, Relay, validate};
use crate::model::{Body, ContactId, Duration, Envelope, MessageId, Mode, Timestamp};

/// Answer to a message that was not to be stored and could not be delivered.
const NOT_AVAILABLE: u16 = 480;

/// A message that was passed on and is not stored.
#[derive(Debug)]
pub(super) struct Relaying {
    attempt: AttemptId,
    deadline: Timestamp,
    /// How it is kept when there is no answer; none: not at all.
    otherwise: Option<Keep>,
    end: Option<AttemptEnd>,
}

/// A relayed request whose message is being stored.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) attempt: AttemptId,
    pub(super) end: Option<AttemptEnd>,
}

impl Relaying {
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.end.is_some() || self.deadline <= now
    }
}

impl Branch {
    /// The status with which a device took the message.
    pub(super) fn success(&self) -> Option<u16> {
        self.end.as_ref().and_then(|end| end.status).filter(|status| matches!(status, 200..=299))
    }
}

impl super::arrival::Arrivals {
    pub(super) fn relay_deadline(&self) -> Option<Timestamp> {
        match self.front() {
            Some(Waiting { state: State::Relaying(relaying), .. }) => Some(relaying.deadline),
            _ => None,
        }
    }

    pub(super) fn clock_was_set_back(&mut self, set_back: SetBack) {
        if let Some(Waiting { state: State::Relaying(relaying), .. }) = self.front_mut() {
            set_back.correct([&mut relaying.deadline]);
        }
    }
}

impl Recipient {
    pub(super) fn relay(&mut self, arrival: Box<Arrival>, relay: Relay, stores: bool) {
        if !stores {
            return self.relay_or_refuse(arrival, &relay.contacts);
        }
        let overtakes = self.may_overtake();
        let mut contacts = self.relay_contacts(&arrival.envelope, &arrival.body, &relay.contacts);
        contacts.retain(|_| overtakes);
        if contacts.is_empty() {
            return self.commit_arrival(arrival, Keeping::plain(relay.otherwise));
        }
        let deadline = Duration(u64::from(relay.deadline_milliseconds)).min(self.limits.max_relay);
        self.start_relay(arrival, contacts, deadline, Some(relay.otherwise));
    }

    /// How long the INVITE of a large message is passed on before it is taken over; none: it is not passed on.
    pub(super) fn relay_of_invitation(&self, relay: &Relay) -> Option<Duration> {
        let takes = self
            .contacts
            .iter()
            .filter(|reach| is_named(&relay.contacts, reach.contact.id))
            .any(|reach| reach.contact.abilities.large_message_mode && reach.contact.expires_at > self.now);
        let deadline = Duration(u64::from(relay.deadline_milliseconds)).min(self.limits.max_relay_of_invitation);
        (takes && self.may_overtake()).then_some(deadline)
    }

    /// `Expires: 0`: now or not at all, and to nobody else than the policy names.
    pub(super) fn relay_or_refuse(&mut self, arrival: Box<Arrival>, named: &[ContactId]) {
        match self.relay_contacts(&arrival.envelope, &arrival.body, named) {
            contacts if contacts.is_empty() => self.refuse_unavailable(arrival),
            contacts => self.start_relay(arrival, contacts, self.limits.max_relay, None),
        }
    }

    fn refuse_unavailable(&mut self, arrival: Box<Arrival>) {
        self.event(Event::Refused(NOT_AVAILABLE));
        let reason = String::from("Temporarily Unavailable");
        let reply = Reply::Refused { status: NOT_AVAILABLE, reason, retry_after_seconds: None };
        self.answer_arrival(*arrival, reply);
    }

    fn start_relay(
        &mut self,
        arrival: Box<Arrival>,
        contacts: Vec<ContactId>,
        deadline: Duration,
        otherwise: Option<Keep>,
    ) {
        let id = self.next_attempt_id();
        let task = AttemptTask::Relay {
            reply: arrival.reply,
            envelope: Box::new(arrival.envelope.clone()),
            body: arrival.body.clone(),
            contacts: contacts.clone(),
        };
        contacts.iter().for_each(|contact| self.contacts.occupy(*contact, id));
        // With several, who failed is not known, only that nobody took it.
        let (contact, others) = match contacts.as_slice() {
            [contact] => (Some(*contact), Vec::new()),
            _ => (None, contacts.clone()),
        };
        let reach = contact.and_then(|contact| self.contacts.get(contact));
        let registered_until = reach.map(|reach| reach.contact.expires_at);
        self.attempts.insert(
            id,
            Running { contact, device: None, registered_until, kind: Kind::Relay { others }, since: self.now },
        );
        self.event(Event::AttemptStarted(AttemptKind::Relay));
        self.emit(Output::Start(Box::new(Attempt { id, contact: contacts.first().copied(), task })));
        let relaying = Relaying { attempt: id, deadline: self.now.after(deadline), otherwise, end: None };
        self.arrivals.put_back(Waiting { arrival, state: State::Relaying(relaying) });
    }

    /// The free contacts that take it as a MESSAGE, of those named where some are.
    fn relay_contacts(&self, envelope: &Envelope, body: &Body, named: &[ContactId]) -> Vec<ContactId> {
        if envelope.mode != Mode::Page || !matches!(body, Body::Inline(_)) {
            return Vec::new();
        }
        let takes = |reach: &&Reach| {
            is_named(named, reach.contact.id)
                && reach.is_free()
                && reach.fits(envelope.page_base_bytes).is_some()
                && reach.contact.expires_at > self.now
        };
        let mut devices: Vec<&str> = Vec::new();
        let mut contacts = Vec::new();
        // One flow of each device (RFC 5626 §7): it would get it twice.
        for reach in self.contacts.iter().filter(takes) {
            if !devices.contains(&reach.contact.device.as_str()) {
                devices.push(&reach.contact.device);
                contacts.push(reach.contact.id);
            }
        }
        contacts
    }

    /// Nothing waits that would have to go first.
    fn may_overtake(&self) -> bool {
        let moment: Moment = self.push.moment(self.now);
        self.queue.is_whole()
            && self.push.is_quiet()
            && self.commits.is_empty()
            && self.queue.iter().all(|entry| entry.readiness(moment) == Readiness::Aside)
    }

    /// The front of the arrivals was passed on, and its answer or its deadline came.
    pub(super) fn end_relay_of_front(&mut self) {
        let Some(Waiting { arrival, state: State::Relaying(relaying) }) = self.arrivals.pop() else { return };
        let Relaying { attempt, otherwise, end, .. } = relaying;
        if let Some(end) = &end
            && let Some(status) = final_for_the_sender(end)
        {
            return self.answer_relayed(*arrival, status);
        }
        let expired = arrival.expires_at.is_some_and(|at| at <= self.now);
        match otherwise {
            Some(keep) if !expired => {
                let branch = Some(Branch { attempt, end });
                self.commit_arrival(arrival, Keeping { keep, hand_over_to: None, branch });
            }
            _ => {
                if end.is_none() {
                    self.emit(Output::Cancel(attempt));
                }
                self.refuse_unavailable(arrival);
            }
        }
    }

    /// The end of a relayed request, wherever its message is by now.
    pub(super) fn on_relay_ended(&mut self, attempt: AttemptId, end: AttemptEnd) {
        if let Some(Waiting { state: State::Relaying(relaying), .. }) = self.arrivals.front_mut()
            && relaying.attempt == attempt
        {
            relaying.end = Some(end);
            return;
        }
        let committing = self.commits.values_mut().flatten().find_map(|effect| match effect {
            super::commits::Effect::Arrival(committing) => {
                committing.branch.as_mut().filter(|branch| branch.attempt == attempt)
            }
            _ => None,
        });
        if let Some(branch) = committing {
            branch.end = Some(end);
            return;
        }
        let kept = self.queue.iter().find(|entry| entry.lease == Some(super::window::Lease::Relay(attempt)));
        if let Some(id) = kept.map(|entry| entry.stored.id) {
            self.on_kept_relay_ended(id, end);
        }
    }

    /// The message was stored meanwhile: what the branch brought counts like any attempt.
    pub(super) fn on_kept_relay_ended(&mut self, id: MessageId, end: AttemptEnd) {
        self.end_of_single(AttemptKind::Relay, id, None, By::default(), end);
    }
}

/// Whether a policy that names these contacts means this one.
fn is_named(named: &[ContactId], contact: ContactId) -> bool {
    named.is_empty() || named.contains(&contact)
}

/// What the sender is told as it is: success, and the device's own refusal for good.
fn final_for_the_sender(end: &AttemptEnd) -> Option<u16> {
    let status = end.status?;
    let final_refusal = validate::is_permanent(end.origin, true, Some(status));
    (matches!(status, 200..=299) || final_refusal).then_some(status)
}
