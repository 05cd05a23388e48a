//! A store in memory for tests. It keeps the promise of [`Store`] but for durability, and lets a test hold commits back,
//! refuse them, and lose what was not committed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use restante_deferral::commit::{Applied, Change, CommitError, LoadRequest, MessageState, Select, Transaction, Window};
use restante_deferral::model::{
    Body, DeduplicationKey, MessageId, MessageKind, NewMessage, Profile, QueueTotals, RecipientKey, StoredMessage,
    TenantName, Timestamp,
};

use crate::{Completion, Filter, Outcome, Record, SavedRegistration, Sink, Store, StoreError, Ticket, Totals};

/// The store.
pub struct MemoryStore {
    sink: Sink,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    messages: BTreeMap<MessageId, StoredMessage>,
    seen: HashMap<DeduplicationKey, MessageId>,
    users: BTreeMap<RecipientKey, User>,
    next: u64,
    held: bool,
    refuse: Option<CommitError>,
    waiting: VecDeque<(Ticket, Order)>,
}

#[derive(Clone, Default)]
struct User {
    wake_at: Option<Timestamp>,
    profile: Option<Profile>,
    registration: Option<SavedRegistration>,
}

enum Order {
    Write(Transaction),
    Save(RecipientKey, Record),
}

impl MemoryStore {
    /// An empty one.
    #[must_use]
    pub fn new(sink: Sink) -> MemoryStore {
        MemoryStore { sink, inner: Mutex::default() }
    }

    /// From now on nothing is committed until [`MemoryStore::release`].
    pub fn hold(&self) {
        self.lock().held = true;
    }

    /// Commits what was held back and goes on committing at once.
    pub fn release(&self) {
        self.lock().held = false;
        self.commit_waiting();
    }

    /// Every commit fails so from now on; none: they succeed again.
    pub fn refuse(&self, error: Option<CommitError>) {
        self.lock().refuse = error;
    }

    /// Forgets what is not committed, as a crash does.
    pub fn crash(&self) {
        let mut inner = self.lock();
        inner.waiting.clear();
        inner.held = false;
    }

    /// Messages that are committed.
    #[must_use]
    pub fn messages(&self) -> Vec<StoredMessage> {
        self.lock().messages.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, ticket: Ticket, order: Order) {
        self.lock().waiting.push_back((ticket, order));
        self.commit_waiting();
    }

    fn commit_waiting(&self) {
        loop {
            let mut inner = self.lock();
            if inner.held {
                return;
            }
            let Some((ticket, order)) = inner.waiting.pop_front() else { return };
            let refused = inner.refuse;
            let outcome = match order {
                Order::Write(transaction) => Outcome::Written(match refused {
                    Some(error) => Err(error),
                    None => Ok(transaction.changes.into_iter().map(|change| inner.apply(change)).collect()),
                }),
                Order::Save(user, record) => Outcome::Saved(match refused {
                    Some(error) => Err(error),
                    None => {
                        inner.save(user, record);
                        Ok(())
                    }
                }),
            };
            drop(inner);
            (self.sink)(ticket.shard, vec![Completion { token: ticket.token, outcome }]);
        }
    }
}

impl Inner {
    fn apply(&mut self, change: Change) -> Applied {
        match change {
            Change::Insert(message) => {
                if let Some(id) = self.seen.get(&message.deduplication) {
                    return Applied::Duplicate(self.messages.contains_key(id).then_some(*id));
                }
                self.next += 1;
                let id = MessageId(self.next);
                self.seen.insert(message.deduplication, id);
                self.messages.insert(id, fresh(id, *message));
                Applied::Inserted(id)
            }
            Change::Remove { id, .. } => {
                self.messages.remove(&id);
                Applied::Done
            }
            Change::Update { id, state, .. } => {
                if let Some(message) = self.messages.get_mut(&id) {
                    update(message, *state);
                }
                Applied::Done
            }
            Change::WakeAt { recipient, at } => {
                self.users.entry(recipient).or_default().wake_at = at;
                Applied::Done
            }
        }
    }

    fn save(&mut self, user: RecipientKey, record: Record) {
        let user = self.users.entry(user).or_default();
        match record {
            Record::Registration(registration) => user.registration = registration,
            Record::Profile(profile) => user.profile = Some(profile),
        }
    }

    fn queue(&self, recipient: &RecipientKey) -> Vec<&StoredMessage> {
        let mut queue: Vec<&StoredMessage> =
            self.messages.values().filter(|message| message.message.recipient == *recipient).collect();
        queue.sort_by_key(|message| (std::cmp::Reverse(message.message.priority), message.id));
        queue
    }

    fn window(&self, recipient: &RecipientKey, request: &LoadRequest) -> Window {
        let queue = self.queue(recipient);
        let wanted = |message: &&&StoredMessage| match &request.select {
            Select::After(None) => true,
            Select::After(Some((priority, id))) => {
                (std::cmp::Reverse(message.message.priority), message.id) > (std::cmp::Reverse(*priority), *id)
            }
            Select::ExpiredAt(at) => message.message.expires_at <= *at,
            Select::DueAt(at) => {
                [message.not_before, message.fetch_deadline].into_iter().flatten().any(|due| due <= *at)
            }
            Select::Listed(ids) => ids.contains(&message.id),
        };
        let selected: Vec<&StoredMessage> = queue.iter().filter(wanted).copied().collect();
        let counted = || queue.iter().filter(|message| message.message.envelope.kind == MessageKind::Message);
        let user = self.users.get(recipient).cloned().unwrap_or_default();
        let limit = request.max_messages as usize;
        Window {
            more: selected.len() > limit,
            messages: selected.into_iter().take(limit).cloned().collect(),
            totals: QueueTotals {
                messages: u32::try_from(counted().count()).unwrap_or(u32::MAX),
                size_bytes: counted().map(|message| message.message.body.size_bytes()).sum(),
                oldest_received_at: queue.iter().map(|message| message.message.received_at).min(),
            },
            earliest_expiry: queue.iter().map(|message| message.message.expires_at).min(),
            earliest_due: queue.iter().flat_map(|message| [message.not_before, message.fetch_deadline]).flatten().min(),
            profile: user.profile.unwrap_or_default(),
            wake_at: user.wake_at,
        }
    }

    fn totals(&self, counts: impl Fn(&StoredMessage) -> bool) -> Totals {
        let counted = self
            .messages
            .values()
            .filter(|message| message.message.envelope.kind == MessageKind::Message && counts(message));
        counted.fold(Totals::default(), |sum, message| Totals {
            messages: sum.messages + 1,
            size_bytes: sum.size_bytes + message.message.body.size_bytes(),
        })
    }
}

/// As it is right after it was stored.
#[must_use]
pub fn fresh(id: MessageId, message: NewMessage) -> StoredMessage {
    StoredMessage {
        id,
        message,
        attempts: 0,
        not_before: None,
        last_failure: None,
        page_refused: false,
        large_refused: false,
        notified_at: None,
        fetch_deadline: None,
        push_after_deadline: false,
        devices: Vec::new(),
    }
}

fn update(message: &mut StoredMessage, state: MessageState) {
    message.attempts = state.attempts;
    message.not_before = state.not_before;
    message.last_failure = state.last_failure;
    message.page_refused = state.page_refused;
    message.large_refused = state.large_refused;
    message.notified_at = state.notified_at;
    message.fetch_deadline = state.fetch_deadline;
    message.push_after_deadline = state.push_after_deadline;
    message.message.expires_at = state.expires_at;
    message.message.hand_over_to = state.hand_over_to;
    message.devices = state.devices;
}

impl Store for MemoryStore {
    fn write(&self, ticket: Ticket, transaction: Transaction) -> Result<(), CommitError> {
        self.order(ticket, Order::Write(transaction));
        Ok(())
    }

    fn save(&self, ticket: Ticket, user: RecipientKey, record: Record) -> Result<(), CommitError> {
        self.order(ticket, Order::Save(user, record));
        Ok(())
    }

    fn load(&self, ticket: Ticket, recipient: RecipientKey, request: LoadRequest) -> Result<(), CommitError> {
        let window = self.lock().window(&recipient, &request);
        (self.sink)(
            ticket.shard,
            vec![Completion { token: ticket.token, outcome: Outcome::Loaded(Ok(Box::new(window))) }],
        );
        Ok(())
    }

    fn oldest_write_age(&self) -> Duration {
        Duration::ZERO
    }

    fn totals(&self, user: &RecipientKey) -> (Totals, Totals) {
        let inner = self.lock();
        let sent = |message: &StoredMessage| {
            message.message.recipient.tenant == user.tenant && message.message.envelope.sender.address == user.address
        };
        (inner.totals(|message| message.message.recipient == *user), inner.totals(sent))
    }

    fn tenant_totals(&self, tenant: &TenantName) -> Totals {
        self.lock().totals(|message| message.message.recipient.tenant == *tenant)
    }

    fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<RecipientKey>, StoreError> {
        let inner = self.lock();
        let due = inner.users.iter().filter(|(_, user)| user.wake_at.is_some_and(|at| at <= now));
        Ok(due.map(|(key, _)| key.clone()).take(limit).collect())
    }

    fn registrations(
        &self,
        now: Timestamp,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, RecipientKey, SavedRegistration)>, StoreError> {
        let inner = self.lock();
        let all = inner.users.iter().enumerate().filter_map(|(index, (key, user))| {
            let registration = user.registration.clone().filter(|registration| registration.expires_at > now)?;
            Some((index as u64, key.clone(), registration))
        });
        Ok(all.filter(|(index, ..)| after.is_none_or(|after| *index > after)).take(limit).collect())
    }

    fn profiles(&self) -> Result<Vec<(RecipientKey, Profile)>, StoreError> {
        let inner = self.lock();
        Ok(inner.users.iter().filter_map(|(key, user)| Some((key.clone(), user.profile.clone()?))).collect())
    }

    fn profile(&self, user: &RecipientKey) -> Result<Profile, StoreError> {
        Ok(self.lock().users.get(user).and_then(|user| user.profile.clone()).unwrap_or_default())
    }

    fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<(StoredMessage, u64)>, StoreError> {
        let inner = self.lock();
        let wanted = |message: &&StoredMessage| {
            filter.after.is_none_or(|after| message.id > after)
                && filter.tenant.as_ref().is_none_or(|tenant| message.message.recipient.tenant == *tenant)
                && filter.recipient.as_ref().is_none_or(|key| message.message.recipient == *key)
        };
        let without_body = |message: &StoredMessage| {
            let size = message.message.body.size_bytes();
            let mut message = message.clone();
            if let Body::Inline(bytes) = &mut message.message.body {
                bytes.clear();
            }
            (message, size)
        };
        Ok(inner.messages.values().filter(wanted).take(limit).map(without_body).collect())
    }

    fn show(&self, id: MessageId) -> Result<Option<(StoredMessage, u64)>, StoreError> {
        let before = Filter { after: id.0.checked_sub(1).map(MessageId), ..Filter::default() };
        Ok(self.list(&before, 1)?.into_iter().find(|(message, _)| message.id == id))
    }
}
