//! A world around one machine: a store in memory, a scripted policy, scripted devices and a clock that jumps.

pub mod build;
mod clock;
pub mod store;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use restante_deferral::commit::{Change, CommitError, Transaction};
use restante_deferral::decision::{Answer, PullAnswer, Question, Trigger, Undecided};
use restante_deferral::model::{
    Contact, ContactId, DeduplicationKey, Duration, MessageId, RecipientKey, StoredMessage, Timestamp,
};
use restante_deferral::participating_function::{
    Arrival, Attempt, AttemptEnd, AttemptId, AttemptTask, CommitToken, Event, Input, Limits, Output, Recipient, Reply,
    ReplyToken,
};

use store::MemoryStore;

/// What a device does with an attempt, each so many milliseconds after it began.
pub type Script = Vec<(u64, Deed)>;

/// One thing that a device does.
#[derive(Clone, Debug)]
pub enum Deed {
    /// Acknowledges a message.
    Takes(MessageId),
    /// Ends the attempt.
    Ends(AttemptEnd),
}

/// A policy.
pub type Policy = Box<dyn FnMut(&Question) -> Result<Answer, Undecided>>;
/// Devices.
pub type Devices = Box<dyn FnMut(Timestamp, &Attempt) -> Script>;

/// Messages that may go; policies and devices add to it.
pub type Pardoned = Rc<RefCell<BTreeSet<MessageId>>>;

/// An attempt that a device is working on.
#[derive(Clone, Debug)]
pub struct InFlight {
    pub contact: Option<ContactId>,
    pub messages: Vec<MessageId>,
    pub occupies: bool,
}

pub struct World {
    pub now: Timestamp,
    pub key: RecipientKey,
    pub limits: Arc<Limits>,
    pub machine: Option<Recipient>,
    pub store: MemoryStore,
    pub policy: Policy,
    pub devices: Devices,
    pub contacts: Vec<Contact>,
    /// Everything that was asked, by hook and trigger.
    pub questions: Vec<Question>,
    pub replies: BTreeMap<ReplyToken, (Timestamp, Reply)>,
    pub events: Vec<Event>,
    pub attempts: Vec<(Timestamp, Attempt)>,
    /// imdn ids, in the order in which devices acknowledged them.
    pub delivered: Vec<String>,
    pub dropped_bodies: usize,
    pub grew: Vec<RecipientKey>,
    pub cancelled: Vec<AttemptId>,
    pub commits: usize,
    /// Commits stay with the store until [`World::let_commits_through`].
    pub hold_commits: bool,
    /// The next commits fail.
    pub fail_commits: Option<CommitError>,
    /// But only those that insert something.
    pub fail_insertions_only: bool,
    pub policy_delay: u64,
    pub load_delay: u64,
    pub commit_delay: u64,
    pub in_flight: BTreeMap<AttemptId, InFlight>,
    /// What devices acknowledged since the last crash.
    pub acknowledged: BTreeSet<MessageId>,
    /// What may go without having been delivered or expired: discarded, or refused for good by a device.
    pub pardoned: Pardoned,
    /// imdn ids of relayed messages that a device took or refused for good.
    pub relayed: BTreeSet<String>,
    /// Pulls, answered or not.
    pub fetches: Vec<ReplyToken>,
    /// What may reach a device again although one has it.
    pub copies: BTreeSet<MessageId>,
    /// Several contacts may be given one message at a time.
    pub side_by_side: bool,
    /// Removals without a reason are errors.
    pub strict: bool,
    keys: BTreeMap<ReplyToken, DeduplicationKey>,
    held: VecDeque<(CommitToken, Transaction)>,
    agenda: BTreeMap<(Timestamp, u64), Input>,
    sequence: u64,
    next_token: u64,
    expected: BTreeSet<ReplyToken>,
    names: BTreeMap<MessageId, String>,
}

impl World {
    pub fn new() -> World {
        World::with(Limits { hand_over_targets: vec![String::from("sms")], ..Limits::default() })
    }

    pub fn with(limits: Limits) -> World {
        World {
            now: Timestamp(1_700_000_000_000),
            key: build::bob(),
            limits: Arc::new(limits),
            machine: None,
            store: MemoryStore::default(),
            policy: Box::new(|_| Err(Undecided::Declined)),
            devices: Box::new(|_, attempt| takes_all(attempt)),
            contacts: Vec::new(),
            questions: Vec::new(),
            replies: BTreeMap::new(),
            events: Vec::new(),
            attempts: Vec::new(),
            delivered: Vec::new(),
            dropped_bodies: 0,
            grew: Vec::new(),
            cancelled: Vec::new(),
            commits: 0,
            hold_commits: false,
            fail_commits: None,
            fail_insertions_only: false,
            policy_delay: 0,
            load_delay: 1,
            commit_delay: 1,
            in_flight: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            pardoned: Pardoned::default(),
            relayed: BTreeSet::new(),
            fetches: Vec::new(),
            copies: BTreeSet::new(),
            side_by_side: false,
            strict: false,
            keys: BTreeMap::new(),
            held: VecDeque::new(),
            agenda: BTreeMap::new(),
            sequence: 0,
            next_token: 0,
            expected: BTreeSet::new(),
            names: BTreeMap::new(),
        }
    }

    // What happens to the recipient.

    pub fn token(&mut self) -> ReplyToken {
        self.next_token += 1;
        let token = ReplyToken(self.next_token);
        self.expected.insert(token);
        token
    }

    pub fn arrives(&mut self, arrival: Arrival) -> ReplyToken {
        let token = self.token();
        self.keys.insert(token, arrival.deduplication);
        self.tell(Input::Arrival(Box::new(Arrival { reply: token, ..arrival })));
        token
    }

    /// Whoever waits for a pull's answer does not any more.
    pub fn withdraws(&mut self, token: ReplyToken) {
        assert!(self.expected.remove(&token), "nobody waits for {token:?}");
        self.tell(Input::PullWithdrawn(token));
    }

    /// The last one who fetches and was not answered gives up.
    pub fn gives_up(&mut self) {
        while let Some(token) = self.fetches.pop() {
            if self.expected.contains(&token) {
                return self.withdraws(token);
            }
        }
    }

    pub fn registers(&mut self, contacts: &[Contact]) {
        self.contacts = contacts.to_vec();
        self.note_refreshed();
        self.tell(Input::Contacts(self.contacts.clone(), Trigger::Registered));
    }

    pub fn refreshes(&mut self) {
        for contact in &mut self.contacts {
            contact.expires_at = self.now.after(Duration::from_secs(3600 * 24 * 30));
        }
        self.note_refreshed();
        self.tell(Input::Contacts(self.contacts.clone(), Trigger::Refreshed));
    }

    fn note_refreshed(&mut self) {
        for contact in &mut self.contacts {
            contact.refreshed_at = contact.refreshed_at.map(|_| self.now);
        }
    }

    pub fn unregisters(&mut self) {
        self.contacts.clear();
        self.tell(Input::Contacts(Vec::new(), Trigger::Timer));
    }

    /// Gives the machine an input, making the machine when there is none, as the edge does.
    pub fn tell(&mut self, input: Input) {
        if self.machine.is_none() {
            let mut machine = Recipient::new(self.key.clone(), Arc::clone(&self.limits));
            if !self.contacts.is_empty() {
                machine.handle(self.now, Input::Contacts(self.contacts.clone(), Trigger::Timer));
            }
            self.machine = Some(machine);
        }
        if let Some(machine) = &mut self.machine {
            machine.handle(self.now, input);
        }
        self.drain();
    }

    /// The process dies; what is durable stays. Held commits are lost.
    pub fn crashes(&mut self) {
        self.machine = None;
        self.agenda.clear();
        self.held.clear();
        self.store.forget_pending();
        self.in_flight.clear();
        self.expected.clear();
        self.acknowledged.clear();
    }

    /// The machine is dropped if it may be. True when it was.
    pub fn evicts(&mut self) -> bool {
        if self.machine.as_ref().is_some_and(Recipient::is_idle) {
            // What a device still does in an attempt that was cancelled is nobody's, and attempts are numbered anew.
            let in_flight = &self.in_flight;
            self.agenda.retain(|_, input| match input {
                Input::AttemptEnded(attempt, _) | Input::Delivered(attempt, _) => in_flight.contains_key(attempt),
                _ => true,
            });
            assert!(self.agenda.is_empty(), "idle, yet something is on its way: {:?}", self.agenda);
            self.machine = None;
            return true;
        }
        false
    }

    pub fn let_commits_through(&mut self) {
        self.hold_commits = false;
        for (token, transaction) in std::mem::take(&mut self.held) {
            self.schedule_commit(token, transaction);
        }
        self.drain();
    }

    fn deliver(&mut self, mut input: Input) {
        match &mut input {
            Input::Committed(token, result) => {
                // Durable at this moment, not when it was asked for.
                if let Some(transaction) = self.store.take_pending(*token) {
                    self.check_removals(&transaction);
                    let applied = self.store.apply(self.now, transaction);
                    *result = Ok(applied);
                }
            }
            Input::Answered(_, Ok(Answer::Pull(PullAnswer::Send(delivery)))) if delivery.keep_copy => {
                self.copies.extend(&delivery.messages);
            }
            Input::Delivered(attempt, id) => {
                let Some(flight) = self.in_flight.get_mut(attempt) else { return };
                flight.messages.retain(|message| message != id);
                self.note_delivered(*id);
            }
            Input::AttemptEnded(attempt, end) => {
                let Some(flight) = self.in_flight.remove(attempt) else { return };
                let relay = self.attempts.iter().rev().find_map(|(_, known)| match &known.task {
                    AttemptTask::Relay { envelope, .. } if known.id == *attempt => envelope.imdn.as_ref(),
                    _ => None,
                });
                if let (Some(imdn), Some(200..=299 | 403 | 404 | 410 | 600..=699)) = (relay, end.status) {
                    self.relayed.insert(imdn.message_id.clone());
                }
                let acknowledged = end.status.is_some_and(|status| (200..300).contains(&status));
                if acknowledged && flight.messages.len() == 1 && flight.occupies {
                    // Attempt numbers begin anew with every machine: the latest one counts.
                    let known = self.attempts.iter().rev().find(|(_, known)| known.id == *attempt);
                    let was_page = known.is_some_and(|(_, known)| {
                        matches!(known.task, AttemptTask::Page { .. } | AttemptTask::HandOver { .. })
                    });
                    if was_page {
                        self.note_delivered(flight.messages[0]);
                    }
                }
            }
            _ => {}
        }
        self.tell(input);
    }

    /// A message goes only when a device has it, its time is up, or somebody said so.
    fn check_removals(&self, transaction: &Transaction) {
        for change in transaction.changes.iter().filter(|_| self.strict) {
            let Change::Remove { recipient, id } = change else { continue };
            let rows = self.store.queue(recipient);
            let Some(row) = rows.iter().find(|row| row.id == *id) else { continue };
            let name = row.message.envelope.imdn.as_ref().map(|imdn| imdn.message_id.as_str());
            let justified = self.acknowledged.contains(id)
                || name.is_some_and(|name| self.relayed.contains(name))
                || self.pardoned.borrow().contains(id)
                || row.message.expires_at <= self.now;
            assert!(justified, "{id:?} is lost: {:?}, {:?}", self.log(), self.events);
        }
    }

    fn note_delivered(&mut self, id: MessageId) {
        self.acknowledged.insert(id);
        let name = self.names.get(&id).cloned().unwrap_or_else(|| format!("{id:?}"));
        self.delivered.push(name);
    }

    /// Carries out what the machine wants.
    fn drain(&mut self) {
        while let Some(output) = self.machine.as_mut().and_then(Recipient::poll_output) {
            match output {
                Output::Load(token, request) => {
                    let window = match self.store.fail_loads {
                        true => Err(CommitError::Failed),
                        false => Ok(Box::new(self.store.load(&self.key, &request))),
                    };
                    self.schedule(self.load_delay, Input::Loaded(token, window));
                }
                Output::Ask(token, question) => {
                    let answer = (self.policy)(&question);
                    self.questions.push(*question);
                    self.schedule(self.policy_delay, Input::Answered(token, answer));
                }
                Output::Commit(token, transaction, _) => {
                    self.commits += 1;
                    if self.hold_commits {
                        self.held.push_back((token, transaction));
                    } else {
                        self.schedule_commit(token, transaction);
                    }
                }
                Output::Reply(token, reply) => self.note_reply(token, reply),
                Output::Start(attempt) => self.begin(*attempt),
                Output::Cancel(attempt) => {
                    self.cancelled.push(attempt);
                    let end = build::end(Some(487), restante_deferral::model::Origin::Core);
                    self.schedule(1, Input::AttemptEnded(attempt, end));
                }
                Output::Grew(key) => {
                    if key == self.key {
                        self.schedule(0, Input::QueueGrew);
                    }
                    self.grew.push(key);
                }
                Output::DropBody(_) => self.dropped_bodies += 1,
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn schedule_commit(&mut self, token: CommitToken, transaction: Transaction) {
        let inserts = transaction.changes.iter().any(|change| matches!(change, Change::Insert(_)));
        match self.fail_commits.filter(|_| inserts || !self.fail_insertions_only) {
            Some(error) => self.schedule(self.commit_delay, Input::Committed(token, Err(error))),
            None => {
                self.store.pend(token, transaction);
                self.schedule(self.commit_delay, Input::Committed(token, Ok(Vec::new())));
            }
        }
    }

    fn note_reply(&mut self, token: ReplyToken, reply: Reply) {
        assert!(self.expected.remove(&token), "nobody waits for {token:?}: {reply:?}");
        if let (Reply::Accepted, Some(key), true) = (&reply, self.keys.get(&token), self.strict) {
            assert!(self.store.has_seen(key), "accepted before it was durable");
        }
        self.replies.insert(token, (self.now, reply));
    }

    /// Checks what must hold for every attempt, then lets the devices act.
    fn begin(&mut self, attempt: Attempt) {
        let (messages, occupies): (Vec<StoredMessage>, bool) = match &attempt.task {
            AttemptTask::Page { message, .. } | AttemptTask::HandOver { message, .. } => {
                (vec![(**message).clone()], true)
            }
            AttemptTask::Session { messages, .. } | AttemptTask::Pull { messages, .. } => (messages.clone(), true),
            AttemptTask::Notify { .. } | AttemptTask::Relay { .. } => (Vec::new(), true),
        };
        for stored in &messages {
            assert!(stored.message.expires_at > self.now, "an expired message is sent: {:?}", stored.id);
            let name = stored.message.envelope.imdn.as_ref().map(|imdn| imdn.message_id.clone()).unwrap_or_default();
            self.names.insert(stored.id, name);
            let again = self.strict && self.acknowledged.contains(&stored.id) && !self.copies.contains(&stored.id);
            assert!(!again, "{:?} is sent again", stored.id);
            let with_it = |flight: &&InFlight| flight.messages.contains(&stored.id);
            let is_beside = |flight: &InFlight| self.side_by_side && flight.contact != attempt.contact;
            let leased = self.in_flight.values().filter(with_it).any(|flight| !is_beside(flight));
            assert!(!leased, "two attempts work on {:?}", stored.id);
        }
        if let AttemptTask::Pull { reply, .. } = &attempt.task {
            assert!(self.expected.remove(reply), "this pull was answered before");
        }
        if let Some(contact) = attempt.contact
            && !matches!(attempt.task, AttemptTask::Pull { .. })
        {
            let busy = self.in_flight.values().any(|flight| flight.contact == Some(contact) && flight.occupies);
            assert!(!busy, "two attempts with {contact:?}");
        }
        let flight = InFlight {
            contact: attempt.contact,
            messages: messages.iter().map(|stored| stored.id).collect(),
            occupies,
        };
        self.in_flight.insert(attempt.id, flight);
        for (after, deed) in (self.devices)(self.now, &attempt) {
            let input = match deed {
                Deed::Takes(id) => Input::Delivered(attempt.id, id),
                Deed::Ends(end) => Input::AttemptEnded(attempt.id, end),
            };
            self.schedule(after, input);
        }
        self.attempts.push((self.now, attempt));
    }

    // Looking.

    pub fn reply(&self, token: ReplyToken) -> Option<&Reply> {
        self.replies.get(&token).map(|(_, reply)| reply)
    }

    /// Nobody waits for an answer.
    pub fn everybody_is_answered(&self) -> bool {
        self.expected.is_empty()
    }

    /// imdn ids of what waits in the recipient's queue, in delivery order.
    pub fn waiting(&self) -> Vec<String> {
        self.store.names(&self.key)
    }

    /// What was attempted, shortly.
    pub fn log(&self) -> Vec<String> {
        self.attempts.iter().map(|(_, attempt)| build::describe(attempt)).collect()
    }

    /// When what was attempted began, in seconds since `since`.
    pub fn attempt_seconds(&self, since: Timestamp) -> Vec<u64> {
        self.attempts.iter().map(|(at, _)| at.since(since).0 / 1000).collect()
    }

    pub fn triggers(&self) -> Vec<Trigger> {
        self.questions
            .iter()
            .filter_map(|question| match question {
                Question::Available(_, availability) => Some(availability.trigger),
                _ => None,
            })
            .collect()
    }

    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|event| wanted(event)).count()
    }
}

/// A device that takes everything: a message each 10 ms.
pub fn takes_all(attempt: &Attempt) -> Script {
    let success = build::end(Some(200), restante_deferral::model::Origin::Device);
    let mut script = Script::new();
    if let AttemptTask::Session { messages, .. } | AttemptTask::Pull { messages, .. } = &attempt.task {
        for (index, stored) in messages.iter().enumerate() {
            let is_page = matches!(&attempt.task, AttemptTask::Pull { mode: restante_deferral::model::Mode::Page, .. });
            if !is_page {
                script.push((10 * (index as u64 + 1), Deed::Takes(stored.id)));
            }
        }
    }
    script.push((10 * (script.len() as u64 + 1), Deed::Ends(success)));
    script
}
