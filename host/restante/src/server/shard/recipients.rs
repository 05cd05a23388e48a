//! The machines of this shard's recipients: made when something concerns them, put away when idle.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use restante_deferral::commit::{Change, CommitError, Transaction};
use restante_deferral::decision::Trigger;
use restante_deferral::model::{RecipientKey, Timestamp};
use restante_deferral::participating_function::{
    AttemptId, Event, Input, MAX_BEHIND, Output, Recipient, Reply, ReplyToken,
};
use restante_sip::transaction::ClientTransactionId;

use super::super::media::MediaId;
use super::super::receiver::shard_of;
use super::{Now, Order, Shard, ToShard, Waiting};
use crate::logging::Shortened;
use crate::server::usage::Permit;

/// Between two looks for machines that can be put away.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);

/// One recipient in memory.
pub(super) struct Slot {
    /// Boxed, since the table of them has room for more than it holds.
    pub(super) machine: Box<Recipient>,
    /// Its entry in the shard's wake-ups.
    pub(super) scheduled: Option<Timestamp>,
    /// What carries each running attempt.
    pub(super) attempts: HashMap<AttemptId, Carrier>,
    /// Their parts of what the tenant may have in flight.
    pub(super) permits: HashMap<AttemptId, Permit>,
    /// It is of a name that belongs to somebody, or of a tenant that was removed, and goes when it is done: see
    /// [`super::names`] and [`super::tenants`].
    pub(super) is_leaving: bool,
    last_used: Instant,
}

impl Slot {
    /// Nothing is in flight: it may be put away.
    pub(super) fn is_idle(&self) -> bool {
        self.machine.is_idle() && self.attempts.is_empty()
    }
}

/// What carries an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Carrier {
    Transaction(ClientTransactionId),
    Session(MediaId),
    Relay,
}

impl Shard {
    /// Tells a machine something and does what it wants done.
    pub(super) fn tell(&mut self, now: Now, key: &RecipientKey, input: Input) {
        let mut inputs = VecDeque::from([(key.clone(), input)]);
        while let Some((key, input)) = inputs.pop_front() {
            let Some(input) = self.find_machine(now, &key, input) else { continue };
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            slot.last_used = now.monotonic;
            slot.machine.handle(now.wall, input);
            let mut outputs = Vec::new();
            while let Some(output) = slot.machine.poll_output() {
                outputs.push(output);
            }
            for output in outputs {
                self.carry_out(now, &key, output, &mut inputs);
            }
            self.schedule(&key);
            self.leave_if_idle(now, &key);
        }
    }

    /// Machines that wait for a time that the clock has left again are told.
    pub(super) fn note_clock(&mut self, now: Now) {
        let was_set_back = now.wall.after(MAX_BEHIND) < self.latest;
        self.latest = if was_set_back { now.wall } else { self.latest.max(now.wall) };
        if was_set_back && !self.draining {
            let in_memory: Vec<RecipientKey> = self.slots.keys().cloned().collect();
            tracing::warn!(recipients = in_memory.len(), "the clock was set back");
            in_memory.iter().for_each(|key| self.tell(now, key, Input::Wake));
        }
    }

    /// Sees to it that the recipient has a machine in memory. None: it is not to have one here, and the input went
    /// where it belongs.
    fn find_machine(&mut self, now: Now, key: &RecipientKey, input: Input) -> Option<Input> {
        if self.slots.contains_key(key) {
            return Some(input);
        }
        if self.adopting.contains_key(key) {
            if let Err(input) = self.hold_for_adoption(key, input) {
                self.turn_away(now, input, "name-changes-hands");
            }
            return None;
        }
        let owner = self.shared.directory.owner_of(key);
        let somebody_waits =
            matches!(input, Input::Arrival(_) | Input::Invitation(_) | Input::Pull(_) | Input::Discard { .. });
        // Nothing of a tenant that was removed is looked at, but for who waits for an answer.
        if !somebody_waits && !self.shared.directory.serves(&key.tenant) {
            return None;
        }
        match owner {
            // Something under the name wants to be looked at: by its owner.
            Some(_) if matches!(input, Input::Wake | Input::QueueGrew) => {
                self.release(now, key);
                None
            }
            Some(_) if !somebody_waits => None,
            Some(owner) if matches!(input, Input::Discard { messages: Some(_), .. }) => {
                self.pass_discard_on(owner, input);
                None
            }
            // The name came to belong to somebody between two looks: a machine of the owner is the owner's shard's.
            _ if !self.is_here(key) => {
                self.turn_away(now, input, "name-changes-hands");
                None
            }
            owner if self.hydrate(now, key, owner.is_some()) => Some(input),
            _ => {
                self.turn_away(now, input, "too-many-recipients");
                None
            }
        }
    }

    /// Messages that an operator drops came to their owner's queue meanwhile.
    fn pass_discard_on(&mut self, owner: RecipientKey, input: Input) {
        if let Input::Discard { reply, messages, report } = input
            && let Some(Waiting::Operator(done)) = self.waiting.remove(&reply)
        {
            let discard = ToShard::Discard { recipient: owner.clone(), messages, report, done };
            self.shared.to_recipient(&owner, discard);
        }
    }

    /// Whether a recipient is this shard's.
    pub(super) fn is_here(&self, key: &RecipientKey) -> bool {
        shard_of(key, self.shared.shards()) == self.index
    }

    /// Makes the machine of a recipient that has none in memory. False: there is no room for one more.
    fn hydrate(&mut self, now: Now, key: &RecipientKey, is_leaving: bool) -> bool {
        if !self.make_room(now) {
            return false;
        }
        let tenant = self.shared.directory.tenant(&key.tenant);
        let is_leaving = is_leaving || tenant.is_none();
        let limits = tenant.map(|tenant| tenant.deferral.clone()).unwrap_or_default();
        let mut machine = Box::new(Recipient::new(key.clone(), limits));
        let contacts = self.contacts_of(key);
        if !contacts.is_empty() {
            machine.handle(now.wall, Input::Contacts(contacts, Trigger::Timer));
        }
        let slot = Slot {
            machine,
            scheduled: None,
            attempts: HashMap::new(),
            permits: HashMap::new(),
            is_leaving,
            last_used: now.monotonic,
        };
        self.slots.insert(key.clone(), slot);
        self.shared.metrics.recipients.inc();
        true
    }

    /// Puts idle machines away when there are too many: everything about them is in the store. Looked for at most once
    /// a second, since it looks at all of them.
    fn make_room(&mut self, now: Now) -> bool {
        let most = super::size(self.shared.limits.max_recipients);
        if self.slots.len() < most {
            return true;
        }
        if self.room_made_at.is_some_and(|at| now.monotonic < at + ROOM_INTERVAL) {
            return false;
        }
        self.room_made_at = Some(now.monotonic);
        let mut ages: Vec<Instant> = self.slots.values().map(|slot| slot.last_used).collect();
        let middle = ages.len() / 2;
        let (_, median, _) = ages.select_nth_unstable(middle);
        let old = *median;
        let before = self.slots.len();
        let wakes = &mut self.wakes;
        self.slots.retain(|key, slot| {
            let stays = slot.last_used > old || !slot.is_idle();
            if let (false, Some(at)) = (stays, slot.scheduled) {
                wakes.remove(&(at, key.clone()));
            }
            stays
        });
        let removed = i64::try_from(before - self.slots.len()).unwrap_or(i64::MAX);
        self.shared.metrics.recipients.dec_by(removed);
        self.slots.len() < most
    }

    /// Whoever waits is told to try again; anything else is durable and comes again.
    fn turn_away(&mut self, now: Now, input: Input, why: &'static str) {
        self.shared.metrics.count_dropped(why);
        let unavailable = Reply::Unavailable(CommitError::Overloaded);
        match input {
            Input::Arrival(arrival) => {
                self.drop_body(&arrival.body);
                self.reply(now, arrival.reply, unavailable);
            }
            Input::Invitation(invitation) => self.reply(now, invitation.reply, unavailable),
            Input::Pull(request) => self.reply(now, request.reply, unavailable),
            Input::Discard { reply, .. } => self.reply(now, reply, Reply::Done(0)),
            _ => {}
        }
    }

    fn schedule(&mut self, key: &RecipientKey) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let wake = slot.machine.next_wake();
        if wake == slot.scheduled {
            return;
        }
        if let Some(at) = std::mem::replace(&mut slot.scheduled, wake) {
            self.wakes.remove(&(at, key.clone()));
        }
        if let Some(at) = wake {
            self.wakes.insert((at, key.clone()));
        }
    }

    fn carry_out(
        &mut self,
        now: Now,
        key: &RecipientKey,
        output: Output,
        inputs: &mut VecDeque<(RecipientKey, Input)>,
    ) {
        match output {
            Output::Load(token, request) => {
                let ticket = self.ticket();
                self.orders.insert(ticket.token, Order::Load(key.clone(), token));
                if let Err(error) = self.shared.store.load(ticket, key.clone(), request) {
                    self.orders.remove(&ticket.token);
                    inputs.push_back((key.clone(), Input::Loaded(token, Err::<_, CommitError>(error))));
                }
            }
            Output::Ask(token, question) => {
                if let Err(undecided) = self.shared.ask((self.index, key.clone(), token), *question) {
                    inputs.push_back((key.clone(), Input::Answered(token, Err(undecided))));
                }
            }
            Output::Commit(token, mut transaction, reports) => {
                self.address_to_owners(key, &mut transaction);
                let room = self.make_room_for_reports(key, &mut transaction, &reports);
                let ticket = self.ticket();
                self.orders.insert(ticket.token, Order::Commit(key.clone(), token, room));
                if let Err(error) = self.shared.store.write(ticket, transaction) {
                    self.orders.remove(&ticket.token);
                    inputs.push_back((key.clone(), Input::Committed(token, Err(error))));
                }
            }
            Output::Reply(token, reply) => self.reply(now, token, reply),
            Output::Start(attempt) => {
                if let Err(end) = self.start_attempt(now, key, *attempt) {
                    let (id, end) = *end;
                    inputs.push_back((key.clone(), Input::AttemptEnded(id, end)));
                }
            }
            Output::Cancel(attempt) => self.cancel_attempt(now, key, attempt),
            Output::Grew(other) => {
                let other = self.shared.directory.owner_of(&other).unwrap_or(other);
                self.shared.to_recipient(&other, ToShard::Grew(other.clone()));
            }
            Output::DropBody(body) => self.drop_body(&body),
            Output::Event(event) => self.note(key, &event),
        }
    }

    /// A report goes to who the sender is now, whatever name was asserted when the message came.
    fn address_to_owners(&self, key: &RecipientKey, transaction: &mut Transaction) {
        for change in &mut transaction.changes {
            let recipient = match change {
                Change::Insert(message) => &mut message.recipient,
                Change::WakeAt { recipient, .. } => recipient,
                Change::Remove { .. } | Change::Update { .. } => continue,
            };
            if recipient != key
                && let Some(owner) = self.shared.directory.owner_of(recipient)
            {
                *recipient = owner;
            }
        }
    }

    fn note(&mut self, key: &RecipientKey, event: &Event) {
        self.shared.metrics.count(&key.tenant, event);
        if matches!(
            event,
            Event::Delivered(_) | Event::Expired(_) | Event::GivenUp(_) | Event::Discarded(..) | Event::HandedOver(_)
        ) {
            self.summary_changed(key);
        }
        if matches!(event, Event::Stored(_)) {
            self.watch_waiting(Now::read(&self.shared), key);
        }
        let to = Shortened(&key.address.0);
        let tenant = &key.tenant;
        match event {
            Event::Expired(id) => tracing::info!(%tenant, %to, id = id.0, "expired"),
            Event::GivenUp(id) => {
                tracing::info!(%tenant, %to, id = id.0, "given up: the device refused it for good")
            }
            Event::Discarded(id, why) => {
                if self.shared.may_log(tenant) {
                    tracing::info!(%tenant, %to, id = id.map(|id| id.0), why, "discarded");
                }
            }
            Event::Unusable(why, hook) => self.shared.note_unusable(tenant, hook, &why.to_string()),
            Event::FellBack(reason, hook) => {
                if self.shared.may_log(tenant) {
                    tracing::warn!(%tenant, %to, hook, ?reason, "the fallback decided");
                }
            }
            Event::AttemptFailed(kind, status, origin) => {
                tracing::debug!(%tenant, %to, ?kind, status, ?origin, "attempt failed")
            }
            other => tracing::debug!(%tenant, %to, ?other, "event"),
        }
    }

    /// Ends an attempt for its machine.
    pub(super) fn attempt_ended(
        &mut self,
        now: Now,
        key: &RecipientKey,
        attempt: AttemptId,
        end: restante_deferral::participating_function::AttemptEnd,
    ) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.attempts.remove(&attempt);
            // Whoever waits for it has it from now on.
            slot.permits.remove(&attempt);
            self.tell(now, key, Input::AttemptEnded(attempt, end));
        }
    }

    pub(super) fn reply(&mut self, now: Now, token: ReplyToken, reply: Reply) {
        let Some(waiting) = self.waiting.remove(&token) else { return };
        match waiting {
            Waiting::Message { transaction, arrived, .. } => {
                if reply == Reply::Accepted {
                    self.shared.metrics.accept_seconds.observe(arrived.elapsed().as_secs_f64());
                }
                self.reply_to_message(now, transaction, &reply);
            }
            Waiting::Invitation(media) => self.reply_to_invitation(now, media, reply),
            Waiting::Received { media, incoming, .. } => self.reply_to_received(media, incoming, &reply),
            Waiting::Pull(media) => self.reply_to_pull(now, media, &reply),
            Waiting::Operator(done) => {
                let count = if let Reply::Done(count) = reply { count } else { 0 };
                let _ = done.send(count);
            }
        }
    }
}
