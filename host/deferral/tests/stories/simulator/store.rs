//! A store in memory that keeps the promise of `commit`.

use std::collections::{BTreeMap, HashMap};

use restante_deferral::commit::{Applied, Change, LoadRequest, Select, Transaction, Window};
use restante_deferral::model::{
    DeduplicationKey, MessageId, MessageKind, Profile, QueueTotals, RecipientKey, StoredMessage, Timestamp,
};
use restante_deferral::participating_function::CommitToken;

#[derive(Default)]
pub struct MemoryStore {
    queues: BTreeMap<RecipientKey, BTreeMap<MessageId, StoredMessage>>,
    seen: HashMap<DeduplicationKey, MessageId>,
    alarms: BTreeMap<RecipientKey, Timestamp>,
    pending: BTreeMap<CommitToken, Transaction>,
    last: u64,
    pub profile: Profile,
    /// How often an alarm was written.
    pub alarms_written: usize,
    pub rows_read: usize,
    pub fail_loads: bool,
    /// imdn ids in the order in which they were stored.
    pub history: Vec<String>,
}

impl MemoryStore {
    pub fn pend(&mut self, token: CommitToken, transaction: Transaction) {
        self.pending.insert(token, transaction);
    }

    pub fn take_pending(&mut self, token: CommitToken) -> Option<Transaction> {
        self.pending.remove(&token)
    }

    pub fn forget_pending(&mut self) {
        self.pending.clear();
    }

    pub fn has_seen(&self, key: &DeduplicationKey) -> bool {
        self.seen.contains_key(key)
    }

    pub fn wake_at(&self, key: &RecipientKey) -> Option<Timestamp> {
        self.alarms.get(key).copied()
    }

    pub fn queue(&self, key: &RecipientKey) -> Vec<&StoredMessage> {
        let mut rows: Vec<&StoredMessage> =
            self.queues.get(key).map(|queue| queue.values().collect()).unwrap_or_default();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.message.priority), row.id));
        rows
    }

    pub fn names(&self, key: &RecipientKey) -> Vec<String> {
        self.queue(key)
            .into_iter()
            .map(|row| row.message.envelope.imdn.as_ref().map(|imdn| imdn.message_id.clone()).unwrap_or_default())
            .collect()
    }

    pub fn apply(&mut self, _now: Timestamp, transaction: Transaction) -> Vec<Applied> {
        let inserts = transaction.changes.iter().any(|change| matches!(change, Change::Insert(_)));
        assert!(!(transaction.settles && inserts), "reserved room is for what makes room");
        transaction.changes.into_iter().map(|change| self.change(change)).collect()
    }

    fn change(&mut self, change: Change) -> Applied {
        match change {
            Change::Insert(message) => {
                if let Some(id) = self.seen.get(&message.deduplication) {
                    let waits = self.queues.get(&message.recipient).is_some_and(|queue| queue.contains_key(id));
                    return Applied::Duplicate(waits.then_some(*id));
                }
                self.last += 1;
                let id = MessageId(self.last);
                self.seen.insert(message.deduplication, id);
                self.history
                    .push(message.envelope.imdn.as_ref().map(|imdn| imdn.message_id.clone()).unwrap_or_default());
                let queue = self.queues.entry(message.recipient.clone()).or_default();
                queue.insert(id, StoredMessage::new(id, *message));
                Applied::Inserted(id)
            }
            Change::Remove { recipient, id } => {
                if let Some(queue) = self.queues.get_mut(&recipient) {
                    queue.remove(&id);
                }
                Applied::Done
            }
            Change::Update { recipient, id, state } => {
                if let Some(row) = self.queues.get_mut(&recipient).and_then(|queue| queue.get_mut(&id)) {
                    row.attempts = state.attempts;
                    row.not_before = state.not_before;
                    row.last_failure = state.last_failure;
                    row.page_refused = state.page_refused;
                    row.large_refused = state.large_refused;
                    row.notified_at = state.notified_at;
                    row.fetch_deadline = state.fetch_deadline;
                    row.push_after_deadline = state.push_after_deadline;
                    row.message.expires_at = state.expires_at;
                    row.message.hand_over_to = state.hand_over_to;
                    row.devices = state.devices;
                }
                Applied::Done
            }
            Change::WakeAt { recipient, at } => {
                self.alarms_written += 1;
                match at {
                    Some(at) => _ = self.alarms.insert(recipient, at),
                    None => _ = self.alarms.remove(&recipient),
                }
                Applied::Done
            }
        }
    }

    pub fn load(&mut self, key: &RecipientKey, request: &LoadRequest) -> Window {
        let rows: Vec<StoredMessage> = self.queue(key).into_iter().cloned().collect();
        let place = |row: &StoredMessage| (std::cmp::Reverse(row.message.priority), row.id);
        let due = |row: &StoredMessage| [row.not_before, row.fetch_deadline].into_iter().flatten().min();
        let selected: Vec<StoredMessage> = rows
            .iter()
            .filter(|row| match &request.select {
                Select::After(None) => true,
                Select::After(Some((priority, id))) => place(row) > (std::cmp::Reverse(*priority), *id),
                Select::ExpiredAt(at) => row.message.expires_at <= *at,
                Select::DueAt(at) => due(row).is_some_and(|due| due <= *at),
                Select::Listed(ids) => ids.contains(&row.id),
            })
            .cloned()
            .collect();
        let max = request.max_messages as usize;
        let mut bytes = 0_u64;
        let mut messages = Vec::new();
        for row in selected.iter().take(max) {
            bytes += row.message.body.size_bytes();
            if !messages.is_empty() && bytes > request.max_body_bytes {
                break;
            }
            messages.push(row.clone());
        }
        self.rows_read += messages.len();
        let counted = rows.iter().filter(|row| row.message.envelope.kind == MessageKind::Message);
        Window {
            more: messages.len() < selected.len(),
            messages,
            totals: QueueTotals {
                messages: counted.clone().count() as u32,
                size_bytes: counted.clone().map(|row| row.message.body.size_bytes()).sum(),
                oldest_received_at: counted.map(|row| row.message.received_at).min(),
            },
            earliest_expiry: rows.iter().map(|row| row.message.expires_at).min(),
            earliest_due: rows.iter().filter_map(due).min(),
            profile: self.profile.clone(),
            wake_at: self.wake_at(key),
        }
    }
}
