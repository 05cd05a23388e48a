//! A store whose commits wait until they are told to go on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use restante_deferral::commit::{CommitError, LoadRequest, Transaction};
use restante_deferral::model::{MessageId, Profile, RecipientKey, StoredMessage, TenantName, Timestamp};
use restante_store::spool::Spool;
use restante_store::sqlite::{OpenOptions, SqliteStore};
use restante_store::{
    Completion, Filter, Outcome, Record, SavedRegistration, Sink, Store, StoreError, Ticket, Totals, UserCredentials,
};

/// The real store behind a gate. While the gate is shut no order for writing reaches it: nothing is on the disk and
/// nobody is told anything. What is read passes.
pub struct HeldStore {
    inner: SqliteStore,
    sink: Sink,
    gate: Mutex<Gate>,
}

#[derive(Default)]
struct Gate {
    is_shut: bool,
    refuses: Option<CommitError>,
    age: Duration,
    waiting: VecDeque<(Ticket, Order)>,
}

enum Order {
    Write(Transaction),
    Save(RecipientKey, Record),
}

impl HeldStore {
    /// Opens the real store.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn open(options: OpenOptions, sink: Sink) -> Result<(Arc<HeldStore>, Spool), StoreError> {
        let inner = SqliteStore::open(options, sink.clone())?;
        let spool = inner.spool().clone();
        Ok((Arc::new(HeldStore { inner, sink, gate: Mutex::default() }), spool))
    }

    /// Shuts the gate.
    pub fn hold(&self) {
        self.gate().is_shut = true;
    }

    /// Orders that wait at the gate.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.gate().waiting.len()
    }

    /// Opens the gate: what waits is carried out, in order.
    pub fn release(&self) {
        self.gate().is_shut = false;
        self.pass();
    }

    /// Lets the order that waits longest pass and keeps the gate shut.
    pub fn release_one(&self) {
        let first = self.gate().waiting.pop_front();
        if let Some((ticket, order)) = first {
            self.carry_out(ticket, order);
        }
    }

    /// Every order fails so from now on, those that wait too; none: they are carried out again.
    pub fn refuse(&self, error: Option<CommitError>) {
        self.gate().refuses = error;
    }

    /// Says that the oldest order waits so long, as a late disk would.
    pub fn pretend_age(&self, age: Duration) {
        self.gate().age = age;
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, ticket: Ticket, order: Order) -> Result<(), CommitError> {
        self.gate().waiting.push_back((ticket, order));
        self.pass();
        Ok(())
    }

    fn pass(&self) {
        loop {
            let mut gate = self.gate();
            let next = if gate.is_shut { None } else { gate.waiting.pop_front() };
            let Some((ticket, order)) = next else { return };
            drop(gate);
            self.carry_out(ticket, order);
        }
    }

    fn carry_out(&self, ticket: Ticket, order: Order) {
        let refuses = self.gate().refuses;
        let is_write = matches!(order, Order::Write(_));
        let result = match (refuses, order) {
            (Some(error), _) => Err(error),
            (None, Order::Write(transaction)) => self.inner.write(ticket, transaction),
            (None, Order::Save(user, record)) => self.inner.save(ticket, user, record),
        };
        if let Err(error) = result {
            let outcome = if is_write { Outcome::Written(Err(error)) } else { Outcome::Saved(Err(error)) };
            (self.sink)(ticket.shard, vec![Completion { token: ticket.token, outcome }]);
        }
    }
}

impl Store for HeldStore {
    fn write(&self, ticket: Ticket, transaction: Transaction) -> Result<(), CommitError> {
        self.order(ticket, Order::Write(transaction))
    }

    fn save(&self, ticket: Ticket, user: RecipientKey, record: Record) -> Result<(), CommitError> {
        self.order(ticket, Order::Save(user, record))
    }

    fn load(&self, ticket: Ticket, recipient: RecipientKey, request: LoadRequest) -> Result<(), CommitError> {
        self.inner.load(ticket, recipient, request)
    }

    fn oldest_write_age(&self) -> Duration {
        self.gate().age
    }

    fn totals(&self, user: &RecipientKey) -> (Totals, Totals) {
        self.inner.totals(user)
    }

    fn tenant_totals(&self, tenant: &TenantName) -> Totals {
        self.inner.tenant_totals(tenant)
    }

    fn tenant_dispositions(&self, tenant: &TenantName) -> Totals {
        self.inner.tenant_dispositions(tenant)
    }

    fn all_totals(&self) -> (Totals, Totals) {
        self.inner.all_totals()
    }

    fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<RecipientKey>, StoreError> {
        self.inner.due(now, limit)
    }

    fn recipients(&self, after: Option<u64>, limit: usize) -> Result<Vec<(u64, RecipientKey)>, StoreError> {
        self.inner.recipients(after, limit)
    }

    fn has_messages(&self, user: &RecipientKey) -> bool {
        self.inner.has_messages(user)
    }

    fn registrations(
        &self,
        now: Timestamp,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, RecipientKey, SavedRegistration)>, StoreError> {
        self.inner.registrations(now, after, limit)
    }

    fn registration(&self, user: &RecipientKey) -> Result<Option<SavedRegistration>, StoreError> {
        self.inner.registration(user)
    }

    fn profiles(&self) -> Result<Vec<(RecipientKey, Profile)>, StoreError> {
        self.inner.profiles()
    }

    fn profile(&self, user: &RecipientKey) -> Result<Profile, StoreError> {
        self.inner.profile(user)
    }

    fn credentials(&self) -> Result<Vec<(RecipientKey, UserCredentials)>, StoreError> {
        self.inner.credentials()
    }

    fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<(StoredMessage, u64)>, StoreError> {
        self.inner.list(filter, limit)
    }

    fn show(&self, id: MessageId) -> Result<Option<(StoredMessage, u64)>, StoreError> {
        self.inner.show(id)
    }

    fn recipient_of(&self, id: MessageId) -> Result<Option<RecipientKey>, StoreError> {
        self.inner.recipient_of(id)
    }
}
