//! Messages that arrive.
//!
//! `on-incoming` is asked for each at once; what comes of it is carried out in the order of arrival, so a slow decision
//! holds up those behind it. How many may wait is bounded ([`super::Limits::max_waiting_arrivals`]).
//!
//! | state | input | reply | goes to |
//! |---|---|---|---|
//! | – | arrival | – | deciding |
//! | – | arrival, the same is in flight | that one's | – |
//! | – | arrival, the same was accepted lately | 202 | – |
//! | – | arrival, a device took the same lately when it was passed on | that one's | – |
//! | deciding | keep, hand over, nothing | – | committing |
//! | deciding | relay | – | relaying; committing when it cannot be relayed |
//! | deciding | reject | its status | – |
//! | deciding | discard | 202 | – |
//! | relaying | see [`super::relay`] | | |
//! | committing | committed, or a duplicate | 202 | – |
//! | committing | failed | 503 or 500 | –; a relayed branch that lives is cancelled |
//!
//! What would be committed is refused with 480 where the tenant has no room for it.

use std::collections::{HashMap, VecDeque};

use super::attempt::is_success;
use super::commits::{Draft, Effect};
use super::relay::{Branch, Relaying};
use super::views::media_type;
use super::window::{Lease, Place};
use super::{
    Arrival, Asked, Event, Invitation, Output, ROOM_AFTER_SECONDS, Recipient, Reply, ReplyToken, RequestFacts, report,
};
use crate::commit::{Applied, CommitError};
use crate::decision::validate::Impossible;
use crate::decision::{
    Answer, Incoming, IncomingAnswer, IncomingPhase, Keep, Question, Rejection, SenderView, Trigger, Undecided,
    fallback, validate,
};
use crate::model::{
    Body, DeduplicationKey, Envelope, ExpirySource, MessageId, MessageKind, NewMessage, StoredMessage, Timestamp,
};

/// Repetitions are recognised without asking anybody for so many messages; of older ones the store knows. It is held for
/// every recipient in memory, and there are many.
const RECENT_ARRIVALS: usize = 16;

/// Answer to a message that the tenant has no room for.
const NO_ROOM: u16 = 480;

/// Messages that arrived and are not committed yet.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    waiting: VecDeque<Waiting>,
    /// The number of the first of them; the others follow without a gap.
    first: u64,
    /// What is in flight, committing included, and who else waits for the same.
    repetitions: HashMap<DeduplicationKey, Vec<ReplyToken>>,
    /// What was accepted lately, or passed on: the status with which a device took it.
    recent: VecDeque<(DeduplicationKey, Option<u16>)>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) arrival: Box<Arrival>,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    /// `on-incoming` is being asked.
    Deciding,
    /// It said this; those before are not done yet.
    Decided(IncomingAnswer),
    /// Passed on.
    Relaying(Relaying),
}

/// A message on its way into the store.
#[derive(Debug)]
pub(super) struct Committing {
    reply: ReplyToken,
    deduplication: DeduplicationKey,
    /// For the window, when it is to be delivered soon.
    message: Option<Box<NewMessage>>,
    kind: MessageKind,
    size_bytes: u64,
    priority: u8,
    received_at: Timestamp,
    expires_at: Timestamp,
    deliver_now: bool,
    is_hand_over: bool,
    /// The file that nobody needs when the message is not stored.
    spooled: Option<Body>,
    /// The relayed request that lives on.
    pub(super) branch: Option<Branch>,
}

/// How a message is to be kept.
#[derive(Debug)]
pub(super) struct Keeping {
    pub(super) keep: Keep,
    pub(super) hand_over_to: Option<String>,
    pub(super) branch: Option<Branch>,
}

impl Keeping {
    pub(super) fn plain(keep: Keep) -> Keeping {
        Keeping { keep, hand_over_to: None, branch: None }
    }
}

impl Arrivals {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn front(&self) -> Option<&Waiting> {
        self.waiting.front()
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Waiting> {
        self.waiting.front_mut()
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.first = self.first.wrapping_add(1);
        Some(waiting)
    }

    /// The first of them again: it is being relayed.
    pub(super) fn put_back(&mut self, waiting: Waiting) {
        self.waiting.push_front(waiting);
        self.first = self.first.wrapping_sub(1);
    }

    fn push(&mut self, arrival: Box<Arrival>) -> u64 {
        self.repetitions.insert(arrival.deduplication, Vec::new());
        self.waiting.push_back(Waiting { arrival, state: State::Deciding });
        self.first.wrapping_add(self.waiting.len() as u64).wrapping_sub(1)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Waiting> {
        self.waiting.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// `taken_with`: the status with which a device took what was passed on.
    fn remember(&mut self, key: DeduplicationKey, taken_with: Option<u16>) {
        if self.recent.len() >= RECENT_ARRIVALS {
            self.recent.pop_front();
        }
        self.recent.push_back((key, taken_with));
    }
}

impl Recipient {
    pub(super) fn on_arrival(&mut self, arrival: Box<Arrival>) {
        if !self.expect_reply(arrival.reply) {
            self.drop_body(arrival.body);
            return;
        }
        if let Some(repetitions) = self.arrivals.repetitions.get_mut(&arrival.deduplication) {
            repetitions.push(arrival.reply);
            self.event(Event::Duplicate);
            self.drop_body(arrival.body);
            return;
        }
        let recent = self.arrivals.recent.iter().find(|(key, _)| *key == arrival.deduplication);
        if let Some(taken_with) = recent.map(|(_, taken_with)| *taken_with) {
            self.event(Event::Duplicate);
            self.reply(arrival.reply, taken_with.map_or(Reply::Accepted, |status| Reply::Relayed { status }));
            self.drop_body(arrival.body);
            return;
        }
        let incoming = Incoming {
            size_bytes: Some(arrival.body.size_bytes()),
            dispositions: arrival.envelope.imdn.as_ref().map(|imdn| imdn.dispositions).unwrap_or_default(),
            expires_at: arrival.expires_at,
            recipient_counts: self.recipient_counts(arrival.recipient_rates),
            sender_counts: arrival.sender_counts,
            tenant_counts: arrival.tenant_counts,
            upstream_failure: arrival.upstream_failure,
            ..self.incoming_of(&arrival.envelope, &arrival.request, IncomingPhase::Complete)
        };
        let context = self.context_with(arrival.request.fields.clone());
        let number = self.arrivals.push(arrival);
        let question = Question::Incoming(context, Box::new(incoming));
        self.ask(question, Asked::Arrival(number));
    }

    pub(super) fn on_invitation(&mut self, invitation: Invitation) {
        if !self.expect_reply(invitation.reply) {
            return;
        }
        let incoming = Incoming {
            size_bytes: invitation.size_bytes,
            recipient_counts: self.recipient_counts(invitation.recipient_rates),
            sender_counts: invitation.sender_counts,
            tenant_counts: invitation.tenant_counts,
            upstream_failure: invitation.upstream_failure,
            ..self.incoming_of(&invitation.envelope, &invitation.request, IncomingPhase::Invitation)
        };
        let question = Question::Incoming(self.context_with(invitation.request.fields), Box::new(incoming));
        self.ask(question, Asked::Invitation(invitation.reply));
    }

    fn incoming_of(&self, envelope: &Envelope, request: &RequestFacts, phase: IncomingPhase) -> Incoming {
        Incoming {
            phase,
            kind: envelope.kind,
            mode: envelope.mode,
            service: request.service.clone(),
            sender: SenderView {
                address: envelope.sender.address.0.as_ref().to_owned(),
                verification: envelope.sender.verification,
                private: envelope.sender.private,
            },
            size_bytes: None,
            content_type: media_type(&envelope.content_type),
            wrapped_type: envelope.wrapped_type.clone(),
            dispositions: Default::default(),
            expires_at: None,
            registration: request.registration,
            contacts: self.contacts.views(None),
            recipient_counts: Default::default(),
            sender_counts: Default::default(),
            tenant_counts: Default::default(),
            upstream_failure: None,
        }
    }

    /// Anything but a refusal lets it come, if nobody else takes it before: what happens to it is decided when it is
    /// complete.
    pub(super) fn on_invitation_answer(&mut self, reply: ReplyToken, answer: Result<Answer, Undecided>) {
        let decided = match answer {
            Ok(Answer::Incoming(IncomingAnswer::Relay(relay))) if relay.otherwise.expires_at <= self.asked_at => {
                Err(self.unusable(Impossible::Past, "on-incoming"))
            }
            Ok(Answer::Incoming(IncomingAnswer::Relay(relay))) => match self.relay_of_invitation(&relay) {
                Some(deadline) => {
                    return self.reply(reply, Reply::PassOn { deadline, contacts: relay.contacts });
                }
                None => Ok(()),
            },
            Ok(Answer::Incoming(IncomingAnswer::Reject(refusal))) => match validate::rejection(&refusal) {
                Ok(()) => return self.refuse(reply, refusal),
                Err(why) => Err(self.unusable(why, "on-incoming")),
            },
            Ok(Answer::Incoming(_)) => Ok(()),
            Ok(_) => Err(Undecided::Impossible),
            Err(why) => Err(why),
        };
        if let Err(why) = decided {
            self.fell_back(why, "on-incoming");
        }
        self.reply(reply, Reply::Invite);
    }

    pub(super) fn on_incoming_answer(&mut self, number: u64, answer: Result<Answer, Undecided>) {
        let Some(waiting) = self.arrivals.get_mut(number) else { return };
        let senders_expiry = waiting.arrival.expires_at;
        let stores = senders_expiry.is_none_or(|at| at > self.now);
        let decided = match answer {
            Ok(Answer::Incoming(answer)) => {
                validate::incoming(&answer, self.asked_at, stores, &self.limits.hand_over_targets)
                    .map(|()| answer)
                    .map_err(|why| self.unusable(why, "on-incoming"))
            }
            Ok(_) => Err(Undecided::Impossible),
            Err(why) => Err(why),
        };
        let answer = decided.unwrap_or_else(|why| {
            self.fell_back(why, "on-incoming");
            fallback::incoming(self.now, senders_expiry, self.limits.default_keep)
        });
        if let Some(waiting) = self.arrivals.get_mut(number) {
            waiting.state = State::Decided(answer);
        }
    }

    /// Carries out, in order of arrival, what can be carried out.
    pub(super) fn advance_arrivals(&mut self) {
        loop {
            match self.arrivals.front().map(|waiting| &waiting.state) {
                Some(State::Decided(_)) => self.carry_out_front(),
                Some(State::Relaying(relaying)) if relaying.is_over(self.now) => self.end_relay_of_front(),
                _ => return,
            }
        }
    }

    fn carry_out_front(&mut self) {
        let Some(Waiting { arrival, state: State::Decided(answer) }) = self.arrivals.pop() else { return };
        let stores = arrival.expires_at.is_none_or(|at| at > self.now);
        match answer {
            IncomingAnswer::Reject(refusal) => {
                self.event(Event::Refused(refusal.status));
                let Rejection { status, reason, retry_after_seconds } = refusal;
                self.answer_arrival(*arrival, Reply::Refused { status, reason, retry_after_seconds });
            }
            IncomingAnswer::Discard(why) => {
                self.event(Event::Discarded(None, why));
                self.arrivals.remember(arrival.deduplication, None);
                self.answer_arrival(*arrival, Reply::Accepted);
            }
            IncomingAnswer::Keep(_) | IncomingAnswer::HandOver(_) if !stores => self.relay_or_refuse(arrival, &[]),
            IncomingAnswer::Relay(relay) => self.relay(arrival, relay, stores),
            IncomingAnswer::Keep(keep) => self.commit_arrival(arrival, Keeping::plain(keep)),
            IncomingAnswer::HandOver(target) => {
                let expires_at = self.now.after(self.limits.default_keep);
                let keep = Keep { expires_at, priority: fallback::PRIORITY, deliver_now: false };
                self.commit_arrival(arrival, Keeping { keep, hand_over_to: Some(target), branch: None });
            }
        }
    }

    /// The message goes into the store; whoever waits hears of it when it is there.
    pub(super) fn commit_arrival(&mut self, arrival: Box<Arrival>, keeping: Keeping) {
        if !arrival.has_room {
            return self.refuse_for_want_of_room(*arrival, keeping.branch);
        }
        let Keeping { keep, hand_over_to, branch } = keeping;
        let Arrival {
            reply, deduplication, deduplication_as_written, envelope, body, expires_at: senders_expiry, ..
        } = *arrival;
        let (expires_at, expiry_source) = self.expiry_of(senders_expiry, keep.expires_at);
        let spooled = matches!(body, Body::Spooled { .. }).then(|| body.clone());
        let is_hand_over = hand_over_to.is_some();
        let message = NewMessage {
            recipient: self.key.clone(),
            deduplication,
            deduplication_as_written,
            envelope,
            body,
            received_at: self.now,
            expires_at,
            expiry_source,
            priority: keep.priority,
            hand_over_to,
        };
        let reports = report::stored(&message, self.now, &self.limits);
        let soon = is_hand_over || branch.is_some() || (keep.deliver_now && !self.contacts.is_empty());
        let committing = Committing {
            reply,
            deduplication,
            message: soon.then(|| Box::new(message.clone())),
            kind: message.envelope.kind,
            size_bytes: message.body.size_bytes(),
            priority: keep.priority,
            received_at: self.now,
            expires_at,
            deliver_now: keep.deliver_now,
            is_hand_over,
            spooled,
            branch,
        };
        let mut draft = Draft::new(soon);
        draft.insert(Box::new(message), Box::new(committing));
        if let Some(report) = reports {
            draft.report(report, None, self.now);
        }
        self.note_expiry(Some(expires_at));
        self.submit(draft);
    }

    /// A message is on its way into the store that is to be delivered soon.
    pub(super) fn is_any_arriving(&self) -> bool {
        let is_soon = |effect: &Effect| matches!(effect, Effect::Arrival(committing) if committing.message.is_some());
        self.commits.values().flatten().any(is_soon)
    }

    /// Nothing is stored. A relayed request that is under way still says what became of it.
    fn refuse_for_want_of_room(&mut self, arrival: Arrival, branch: Option<Branch>) {
        if let Some(status) = branch.as_ref().and_then(Branch::success) {
            return self.answer_relayed(arrival, status);
        }
        if let Some(Branch { attempt, end: None }) = branch {
            self.emit(Output::Cancel(attempt));
        }
        self.event(Event::Refused(NO_ROOM));
        let reason = String::from("No Room To Store It");
        let reply = Reply::Refused { status: NO_ROOM, reason, retry_after_seconds: Some(ROOM_AFTER_SECONDS) };
        self.answer_arrival(arrival, reply);
    }

    /// The sender's expiry is only ever shortened (RFC 3428 §7), and nothing is kept longer than the operator allows.
    fn expiry_of(&self, senders: Option<Timestamp>, policys: Timestamp) -> (Timestamp, ExpirySource) {
        let operators = policys.min(self.now.after(self.limits.max_keep));
        match senders {
            Some(senders) => (senders.min(operators), ExpirySource::Sender),
            None => (operators, ExpirySource::Operator),
        }
    }

    /// The commit succeeded: now, and not earlier, the sender is told.
    pub(super) fn on_stored(&mut self, committing: Committing, applied: Applied) {
        self.arrivals.remember(committing.deduplication, None);
        let id = match applied {
            Applied::Inserted(id) => Some(id),
            Applied::Duplicate(_) | Applied::Done => None,
        };
        self.event(id.map_or(Event::Duplicate, Event::Stored));
        self.answer_all(committing.reply, committing.deduplication, Reply::Accepted);
        match id {
            Some(id) => self.take_in(id, committing),
            None => {
                if let Some(body) = committing.spooled {
                    self.drop_body(body);
                }
            }
        }
    }

    fn take_in(&mut self, id: MessageId, committing: Committing) {
        // It may have been looked for before it was there.
        self.note_expiry(Some(committing.expires_at));
        if committing.kind == MessageKind::Message {
            self.totals.messages = self.totals.messages.saturating_add(1);
            self.totals.size_bytes = self.totals.size_bytes.saturating_add(committing.size_bytes);
            self.totals.oldest_received_at.get_or_insert(committing.received_at);
        }
        let place = Place::new(committing.priority, id);
        let has_room = self.queue.len() < self.limits.max_window_messages as usize
            && self.queue.body_bytes() < self.limits.max_window_bytes;
        let must_be_here = committing.is_hand_over || committing.branch.is_some();
        match committing.message.filter(|_| has_room || must_be_here) {
            Some(message) => {
                if self.queue.admit(StoredMessage::new(id, *message)) && committing.is_hand_over {
                    self.hand_overs.note_waiting();
                }
                self.queue.note_stored(place);
                if let Some(entry) = self.queue.get_mut(id) {
                    entry.held = !committing.deliver_now;
                }
            }
            None => {
                self.queue.note_elsewhere(place);
                if committing.deliver_now && !self.contacts.is_empty() {
                    self.push.note_unseen();
                }
            }
        }
        if let Some(branch) = committing.branch {
            if let Some(entry) = self.queue.get_mut(id) {
                entry.lease = Some(Lease::Relay(branch.attempt));
            }
            if let Some(end) = branch.end {
                self.on_kept_relay_ended(id, end);
            }
        } else if committing.deliver_now && !committing.is_hand_over {
            self.want(Trigger::MessageArrived);
        }
    }

    /// The commit failed: nothing is promised and nothing stays.
    pub(super) fn on_not_stored(&mut self, committing: Committing, error: CommitError) {
        let reached_the_device = committing.branch.as_ref().and_then(Branch::success);
        let reply = match reached_the_device {
            Some(status) => {
                self.arrivals.remember(committing.deduplication, Some(status));
                Reply::Relayed { status }
            }
            None => Reply::Unavailable(error),
        };
        // The sender sends it again: no device is to have it twice.
        if let Some(Branch { attempt, end: None }) = committing.branch {
            self.emit(Output::Cancel(attempt));
        }
        self.answer_all(committing.reply, committing.deduplication, reply);
        if let Some(body) = committing.spooled {
            self.drop_body(body);
        }
    }

    /// Answers an arrival with what came back where it was passed on. A sender who does not get the answer sends it
    /// again: who took it is not to have it twice. One that was refused may be offered again.
    pub(super) fn answer_relayed(&mut self, arrival: Arrival, status: u16) {
        if is_success(Some(status)) {
            self.arrivals.remember(arrival.deduplication, Some(status));
        }
        self.answer_arrival(arrival, Reply::Relayed { status });
    }

    /// Answers an arrival that is not stored.
    pub(super) fn answer_arrival(&mut self, arrival: Arrival, reply: Reply) {
        self.answer_all(arrival.reply, arrival.deduplication, reply);
        self.drop_body(arrival.body);
    }

    fn answer_all(&mut self, reply: ReplyToken, key: DeduplicationKey, answer: Reply) {
        for repetition in self.arrivals.repetitions.remove(&key).unwrap_or_default() {
            self.reply(repetition, answer.clone());
        }
        self.reply(reply, answer);
    }

    pub(super) fn refuse(&mut self, reply: ReplyToken, refusal: Rejection) {
        let Rejection { status, reason, retry_after_seconds } = refusal;
        self.event(Event::Refused(status));
        self.reply(reply, Reply::Refused { status, reason, retry_after_seconds });
    }
}
