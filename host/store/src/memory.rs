//! A store in memory for tests. It keeps the promise of [`Store`] but for durability, and lets a test hold commits back,
//! refuse them, and lose what was not committed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use restante_deferral::commit::{Applied, Change, CommitError, LoadRequest, Select, Transaction, Window};
use restante_deferral::model::{
    Body, DeduplicationKey, MessageId, MessageKind, NewMessage, Profile, ProfileChange, QueueTotals, RecipientKey,
    StoredMessage, TenantName, Timestamp,
};

use crate::{
    Adopted, Adoption, Completion, Filter, Outcome, Record, Saved, SavedRegistration, Sink, Store, StoreError, Ticket,
    Totals, UserCredentials, apply_state,
};

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
    /// Somebody is committing what waits; whoever else comes leaves it to them, so that completions keep their order.
    committing: bool,
    /// Where [`Store::due`] goes on.
    due_after: Option<(Timestamp, RecipientKey)>,
    refuse: Option<CommitError>,
    is_full: bool,
    waiting: VecDeque<(Ticket, Order)>,
}

#[derive(Clone, Default)]
struct User {
    wake_at: Option<Timestamp>,
    profile: Option<Profile>,
    registration: Option<SavedRegistration>,
    credentials: Option<UserCredentials>,
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

    /// Of transactions only those that settle something have room from now on; or all have again.
    pub fn fill(&self, is_full: bool) {
        self.lock().is_full = is_full;
    }

    /// Forgets what is not committed, as a crash does, and is opened again: whoever has messages and is registered is
    /// due, and whoever has messages and nothing to wait for.
    pub fn crash(&self, now: Timestamp) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.waiting.clear();
        inner.held = false;
        inner.due_after = None;
        for message in inner.messages.values() {
            let user = inner.users.entry(message.message.recipient.clone()).or_default();
            let is_registered = user.registration.as_ref().is_some_and(|it| it.expires_at > now);
            if is_registered || user.wake_at.is_none() {
                user.wake_at = Some(now);
            }
        }
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
        if std::mem::replace(&mut self.lock().committing, true) {
            return;
        }
        loop {
            let mut inner = self.lock();
            let next = if inner.held { None } else { inner.waiting.pop_front() };
            let Some((ticket, order)) = next else {
                inner.committing = false;
                return;
            };
            let outcome = inner.carry_out(order);
            drop(inner);
            (self.sink)(ticket.shard, vec![Completion { token: ticket.token, outcome }]);
        }
    }
}

impl Inner {
    fn carry_out(&mut self, order: Order) -> Outcome {
        match (order, self.refuse) {
            (Order::Write(_), Some(error)) => Outcome::Written(Err(error)),
            (Order::Save(..), Some(error)) => Outcome::Saved(Err(error)),
            (Order::Write(transaction), None) if self.is_full && !transaction.settles => {
                Outcome::Written(Err(CommitError::Full))
            }
            (Order::Write(transaction), None) => {
                Outcome::Written(Ok(transaction.changes.into_iter().map(|change| self.apply(change)).collect()))
            }
            (Order::Save(user, record), None) => Outcome::Saved(Ok(self.save(user, record))),
        }
    }

    fn apply(&mut self, change: Change) -> Applied {
        match change {
            Change::Insert(message) => {
                let keys = [Some(message.deduplication), message.deduplication_as_written];
                if let Some(id) = keys.iter().flatten().find_map(|key| self.seen.get(key)) {
                    return Applied::Duplicate(self.messages.contains_key(id).then_some(*id));
                }
                self.next += 1;
                let id = MessageId(self.next);
                self.seen.extend(keys.into_iter().flatten().map(|key| (key, id)));
                let stored = NewMessage { deduplication_as_written: None, ..*message };
                self.messages.insert(id, StoredMessage::new(id, stored));
                Applied::Inserted(id)
            }
            Change::Remove { recipient, id } => {
                if self.messages.get(&id).is_some_and(|message| message.message.recipient == recipient) {
                    self.messages.remove(&id);
                }
                Applied::Done
            }
            Change::Update { recipient, id, state } => {
                let message = self.messages.get_mut(&id).filter(|message| message.message.recipient == recipient);
                if let Some(message) = message {
                    apply_state(message, *state);
                }
                Applied::Done
            }
            Change::WakeAt { recipient, at } => {
                self.users.entry(recipient).or_default().wake_at = at;
                Applied::Done
            }
        }
    }

    fn save(&mut self, key: RecipientKey, record: Record) -> Saved {
        match record {
            Record::Registration(registration) => self.users.entry(key).or_default().registration = registration,
            Record::Credentials(credentials) => self.users.entry(key).or_default().credentials = credentials,
            Record::Profile(profile) => self.users.entry(key).or_default().profile = Some(profile),
            Record::ProfileChange(change) => return Saved::Profile(self.change_profile(key, &change)),
            Record::Takeover(takeover) => {
                for (other, loss) in takeover.losses() {
                    self.change_profile(other.clone(), &loss);
                }
                return Saved::Profile(self.change_profile(key, &takeover.change));
            }
            Record::Adoption(adoption) => return Saved::Adopted(self.adopt(&key, &adoption)),
        }
        Saved::Kept
    }

    fn change_profile(&mut self, key: RecipientKey, change: &ProfileChange) -> Profile {
        let profile = self.users.entry(key).or_default().profile.get_or_insert_default();
        profile.change(change);
        profile.clone()
    }

    fn adopt(&mut self, owner: &RecipientKey, adoption: &Adoption) -> Adopted {
        let alias = RecipientKey { tenant: owner.tenant.clone(), address: adoption.alias.clone() };
        let before = self.users.get(owner).and_then(|user| user.profile.clone()).unwrap_or_default();
        let is_alias = adoption.is_configured || before.aliases.iter().any(|known| **known == *adoption.alias.0);
        if alias == *owner || !is_alias {
            return Adopted::default();
        }
        let all: Vec<MessageId> = self.queue(&alias).iter().map(|message| message.id).collect();
        let moved = all.len().min(Adoption::MAX_MESSAGES);
        for id in all.iter().take(moved) {
            if let Some(message) = self.messages.get_mut(id) {
                message.message.recipient = owner.clone();
            }
        }
        let wake_at = Some(adoption.wake_at).filter(|_| moved > 0);
        if let Some(at) = wake_at {
            let wake = &mut self.users.entry(owner.clone()).or_default().wake_at;
            *wake = Some(wake.map_or(at, |known| known.min(at)));
        }
        let more = all.len() > moved;
        let Some(user) = self.users.get_mut(&alias).filter(|_| !more) else {
            return Adopted { messages: moved, more, changes_profile: false };
        };
        user.wake_at = None;
        let other = user.profile.take_if(|other| *other != Profile::default()).unwrap_or_default();
        if other == Profile::default() {
            return Adopted { messages: moved, more, changes_profile: false };
        }
        let mut profile = before.clone();
        profile.merge(&other);
        profile.aliases.retain(|alias| **alias != *owner.address.0);
        profile.registered.retain(|alias| **alias != *owner.address.0);
        let changes_profile = profile != before;
        if changes_profile {
            self.users.entry(owner.clone()).or_default().profile = Some(profile);
        }
        Adopted { messages: moved, more, changes_profile }
    }

    fn queue(&self, recipient: &RecipientKey) -> Vec<&StoredMessage> {
        let mut queue: Vec<&StoredMessage> =
            self.messages.values().filter(|message| message.message.recipient == *recipient).collect();
        queue.sort_by_key(|message| place(message));
        queue
    }

    fn window(&self, recipient: &RecipientKey, request: &LoadRequest) -> Window {
        let queue = self.queue(recipient);
        let user = self.users.get(recipient).cloned().unwrap_or_default();
        let counted = || queue.iter().filter(|message| message.message.envelope.kind == MessageKind::Message);
        let mut window = Window {
            messages: Vec::new(),
            more: false,
            totals: QueueTotals {
                messages: u32::try_from(counted().count()).unwrap_or(u32::MAX),
                size_bytes: counted().map(|message| message.message.body.size_bytes()).sum(),
                oldest_received_at: counted().min_by_key(|message| message.id).map(|it| it.message.received_at),
            },
            earliest_expiry: queue.iter().map(|message| message.message.expires_at).min(),
            earliest_due: queue.iter().filter_map(|message| due(message)).min(),
            profile: user.profile.unwrap_or_default(),
            wake_at: user.wake_at,
        };
        let mut body_bytes = 0;
        for message in select(queue, &request.select) {
            if let Body::Inline(bytes) = &message.message.body {
                body_bytes += bytes.len() as u64;
            }
            let is_first = window.messages.is_empty();
            if window.messages.len() >= request.max_messages as usize
                || (!is_first && body_bytes > request.max_body_bytes)
            {
                window.more = true;
                break;
            }
            window.messages.push(message.clone());
        }
        window.messages.sort_by_key(place);
        window
    }

    fn totals(&self, counts: impl Fn(&StoredMessage) -> bool) -> Totals {
        self.totals_of(MessageKind::Message, counts)
    }

    fn totals_of(&self, kind: MessageKind, counts: impl Fn(&StoredMessage) -> bool) -> Totals {
        let counted = self.messages.values().filter(|message| message.message.envelope.kind == kind && counts(message));
        counted.fold(Totals::default(), |sum, message| Totals {
            messages: sum.messages + 1,
            size_bytes: sum.size_bytes + message.message.body.size_bytes(),
        })
    }
}

fn place(message: &StoredMessage) -> (Reverse<u8>, MessageId) {
    (Reverse(message.message.priority), message.id)
}

fn due(message: &StoredMessage) -> Option<Timestamp> {
    [message.not_before, message.fetch_deadline].into_iter().flatten().min()
}

/// Those that are wanted, of a queue in delivery order, in the order in which they are counted against the limits.
fn select<'a>(mut queue: Vec<&'a StoredMessage>, select: &Select) -> Vec<&'a StoredMessage> {
    match select {
        Select::After(None) => {}
        Select::After(Some((priority, id))) => queue.retain(|message| place(message) > (Reverse(*priority), *id)),
        Select::ExpiredAt(at) => {
            queue.retain(|message| message.message.expires_at <= *at);
            queue.sort_by_key(|message| (message.message.expires_at, message.id));
        }
        Select::DueAt(at) => {
            queue.retain(|message| due(message).is_some_and(|due| due <= *at));
            queue.sort_by_key(|message| (due(message), message.id));
        }
        Select::Listed(ids) => queue.retain(|message| ids.contains(&message.id)),
    }
    queue
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

    fn is_full(&self) -> bool {
        self.lock().is_full
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

    fn tenant_dispositions(&self, tenant: &TenantName) -> Totals {
        self.lock().totals_of(MessageKind::Disposition, |message| message.message.recipient.tenant == *tenant)
    }

    fn all_totals(&self) -> (Totals, Totals) {
        let inner = self.lock();
        (inner.totals(|_| true), inner.totals_of(MessageKind::Disposition, |_| true))
    }

    fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<RecipientKey>, StoreError> {
        let mut inner = self.lock();
        let after = inner.due_after.take();
        let all = inner.users.iter().filter_map(|(key, user)| Some((user.wake_at?, key.clone())));
        let mut due: Vec<_> = all.filter(|it| it.0 <= now && after.as_ref().is_none_or(|after| it > after)).collect();
        due.sort();
        due.truncate(limit);
        inner.due_after = due.last().filter(|_| due.len() >= limit).cloned();
        Ok(due.into_iter().map(|(_, key)| key).collect())
    }

    fn recipients(&self, after: Option<u64>, limit: usize) -> Result<Vec<(u64, RecipientKey)>, StoreError> {
        let inner = self.lock();
        let mut keys: Vec<&RecipientKey> = inner.messages.values().map(|message| &message.message.recipient).collect();
        keys.sort_unstable();
        keys.dedup();
        let all = keys.into_iter().enumerate().map(|(index, key)| (index as u64, key.clone()));
        Ok(all.filter(|(index, _)| after.is_none_or(|after| *index > after)).take(limit).collect())
    }

    fn has_messages(&self, user: &RecipientKey) -> bool {
        self.lock().messages.values().any(|message| message.message.recipient == *user)
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

    fn registration(&self, user: &RecipientKey) -> Result<Option<SavedRegistration>, StoreError> {
        Ok(self.lock().users.get(user).and_then(|user| user.registration.clone()))
    }

    fn profiles(&self) -> Result<Vec<(RecipientKey, Profile)>, StoreError> {
        let inner = self.lock();
        Ok(inner.users.iter().filter_map(|(key, user)| Some((key.clone(), user.profile.clone()?))).collect())
    }

    fn profile(&self, user: &RecipientKey) -> Result<Profile, StoreError> {
        Ok(self.lock().users.get(user).and_then(|user| user.profile.clone()).unwrap_or_default())
    }

    fn credentials(&self) -> Result<Vec<(RecipientKey, UserCredentials)>, StoreError> {
        let inner = self.lock();
        Ok(inner.users.iter().filter_map(|(key, user)| Some((key.clone(), user.credentials.clone()?))).collect())
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

    fn recipient_of(&self, id: MessageId) -> Result<Option<RecipientKey>, StoreError> {
        Ok(self.show(id)?.map(|(message, _)| message.message.recipient))
    }
}
