//! Transactions: how they are put together, and what follows when they are durable or could not be.
//!
//! A removal or an update that failed is tried again until it succeeds: the message stays leased (or marked) until then.
//! An arrival whose commit failed is refused; nothing of it stays.

use super::arrival::Committing;
use super::clock::SetBack;
use super::window::Lease;
use super::{CommitToken, Event, Output, Recipient};
use crate::commit::{Applied, Change, CommitError, ReportMade, Transaction};
use crate::model::{Duration, MessageId, MessageKind, NewMessage, RecipientKey, Timestamp};

/// Wait before what could not be made durable is tried again.
const SETTLE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a change means to the machine.
#[derive(Debug)]
pub(super) enum Effect {
    /// A message arrived.
    Arrival(Box<Committing>),
    /// A message goes.
    Removed(Removal),
    /// A message stays, changed.
    Saved(MessageId),
    /// A report for this queue.
    Reported(RecipientKey),
    /// This machine's own wake-up.
    Wake,
    /// Another machine's.
    OthersWake,
}

/// Why a message goes.
#[derive(Clone, Debug)]
pub(super) struct Removal {
    pub(super) id: MessageId,
    /// What is counted when it is gone.
    pub(super) event: Event,
    /// Tell the sender, if it asked.
    pub(super) report: bool,
}

/// Changes being put together.
#[derive(Debug, Default)]
pub(super) struct Draft {
    changes: Vec<Change>,
    effects: Vec<Effect>,
    reports: Vec<ReportMade>,
    /// After a crash this recipient has to be looked at at once.
    urgent: bool,
}

/// What failed to become durable.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    removals: Vec<Removal>,
    saves: Vec<MessageId>,
    retry_at: Option<Timestamp>,
}

impl Unsettled {
    pub(super) fn retry_at(&self) -> Option<Timestamp> {
        self.retry_at
    }

    pub(super) fn clock_was_set_back(&mut self, set_back: SetBack) {
        set_back.correct(&mut self.retry_at);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.removals.is_empty() && self.saves.is_empty()
    }
}

impl Draft {
    pub(super) fn new(urgent: bool) -> Draft {
        Draft { urgent, ..Draft::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn insert(&mut self, message: Box<NewMessage>, committing: Box<Committing>) {
        self.changes.push(Change::Insert(message));
        self.effects.push(Effect::Arrival(committing));
    }

    /// A report goes to its addressee's queue. That queue's machine may be asleep or gone by the time it could be told,
    /// so it is woken by its durable alarm. `replaced_bytes`: of the message that goes with it.
    pub(super) fn report(&mut self, report: NewMessage, replaced_bytes: Option<u64>, now: Timestamp) {
        let recipient = report.recipient.clone();
        self.reports.push(ReportMade { change: self.changes.len(), replaced_bytes });
        self.changes.push(Change::Insert(Box::new(report)));
        self.effects.push(Effect::Reported(recipient.clone()));
        self.changes.push(Change::WakeAt { recipient, at: Some(now) });
        self.effects.push(Effect::OthersWake);
    }
}

impl Recipient {
    /// The message goes; nobody else touches it from now on.
    pub(super) fn draft_removal(&mut self, draft: &mut Draft, removal: Removal) {
        self.let_others_go(removal.id);
        let Some(entry) = self.queue.get_mut(removal.id) else { return };
        entry.lease = Some(Lease::Removal);
        if removal.report
            && let Some(report) = super::report::failed(&entry.stored, self.now, &self.limits)
        {
            draft.report(report, Some(entry.stored.message.body.size_bytes()), self.now);
        }
        draft.changes.push(Change::Remove { recipient: self.key.clone(), id: removal.id });
        draft.effects.push(Effect::Removed(removal));
    }

    /// The message's state becomes durable as it is in memory.
    pub(super) fn draft_save(&mut self, draft: &mut Draft, id: MessageId) {
        let Some(entry) = self.queue.get_mut(id) else { return };
        entry.unsaved = false;
        entry.saving = entry.saving.saturating_add(1);
        let state = Box::new(entry.state());
        let due = entry.due();
        let expires_at = entry.stored.message.expires_at;
        draft.changes.push(Change::Update { recipient: self.key.clone(), id, state });
        draft.effects.push(Effect::Saved(id));
        self.note_due(due);
        self.note_expiry(Some(expires_at));
    }

    /// Gives the transaction to the store, with this recipient's wake-up when these changes move it.
    pub(super) fn submit(&mut self, mut draft: Draft) {
        if let Some(at) = self.wake_to_write(draft.urgent, !draft.changes.is_empty()) {
            draft.changes.push(Change::WakeAt { recipient: self.key.clone(), at });
            draft.effects.push(Effect::Wake);
        }
        if draft.changes.is_empty() {
            return;
        }
        let settles = !draft.changes.iter().any(|change| matches!(change, Change::Insert(_)));
        let token = CommitToken(self.next_number());
        self.commits.insert(token, draft.effects);
        self.commits_given = self.commits_given.wrapping_add(1);
        self.emit(Output::Commit(token, Transaction { changes: draft.changes, settles }, draft.reports));
    }

    pub(super) fn on_committed(&mut self, token: CommitToken, result: Result<Vec<Applied>, CommitError>) {
        let Some(effects) = self.commits.remove(&token) else { return };
        match result {
            Ok(applied) => {
                let mut applied = applied.into_iter();
                for effect in effects {
                    self.take_effect(effect, applied.next().unwrap_or(Applied::Done));
                }
            }
            Err(error) => {
                for effect in effects {
                    self.undo(effect, error);
                }
            }
        }
    }

    fn take_effect(&mut self, effect: Effect, applied: Applied) {
        match effect {
            Effect::Arrival(committing) => self.on_stored(*committing, applied),
            Effect::Removed(removal) => self.on_removed(removal),
            Effect::Saved(id) => {
                if let Some(entry) = self.queue.get_mut(id) {
                    entry.saving = entry.saving.saturating_sub(1);
                }
            }
            Effect::Reported(recipient) => {
                if matches!(applied, Applied::Inserted(_)) {
                    self.event(Event::Reported);
                }
                // Its alarm was set whatever became of the report.
                self.emit(Output::Grew(recipient));
            }
            Effect::Wake | Effect::OthersWake => {}
        }
    }

    fn on_removed(&mut self, removal: Removal) {
        let loads = !self.loads.is_empty();
        if let Some(entry) = self.queue.remove(removal.id, loads) {
            let message = &entry.stored.message;
            if message.envelope.kind == MessageKind::Message {
                self.totals.messages = self.totals.messages.saturating_sub(1);
                self.totals.size_bytes = self.totals.size_bytes.saturating_sub(message.body.size_bytes());
                self.oldest_is_stale |= self.totals.oldest_received_at == Some(message.received_at);
            }
        }
        self.event(removal.event);
        self.note_removed_for_discards(removal.id);
    }

    fn undo(&mut self, effect: Effect, error: CommitError) {
        match effect {
            Effect::Arrival(committing) => self.on_not_stored(*committing, error),
            Effect::Removed(removal) => {
                self.unsettled.removals.push(removal);
                self.settle_again();
            }
            Effect::Saved(id) => {
                if let Some(entry) = self.queue.get_mut(id) {
                    entry.saving = entry.saving.saturating_sub(1);
                    // Not to be let go before it is durable.
                    entry.unsaved = true;
                    self.unsettled.saves.push(id);
                    self.settle_again();
                }
            }
            Effect::Wake => self.wake.forget_durable(self.now.after(SETTLE_AGAIN_AFTER)),
            // A report goes with its removal; a stored notification goes with its arrival.
            Effect::Reported(_) | Effect::OthersWake => {}
        }
    }

    /// What fails meanwhile postpones nothing.
    fn settle_again(&mut self) {
        self.unsettled.retry_at.get_or_insert(self.now.after(SETTLE_AGAIN_AFTER));
    }

    /// Tries again what failed to become durable.
    pub(super) fn advance_settling(&mut self) {
        if self.unsettled.retry_at.is_none_or(|at| at > self.now) {
            return;
        }
        let Unsettled { removals, saves, .. } = std::mem::take(&mut self.unsettled);
        let mut draft = Draft::default();
        for removal in removals {
            self.draft_removal(&mut draft, removal);
        }
        for id in saves {
            if self.queue.get(id).is_some_and(|entry| entry.lease != Some(Lease::Removal)) {
                self.draft_save(&mut draft, id);
            }
        }
        self.submit(draft);
    }

    /// Makes durable whatever is marked.
    pub(super) fn save_marked(&mut self) {
        let marked: Vec<MessageId> = self
            .queue
            .iter()
            .filter(|entry| entry.unsaved && entry.lease != Some(Lease::Removal))
            .map(|entry| entry.stored.id)
            .collect();
        let mut draft = Draft::default();
        for id in marked {
            self.draft_save(&mut draft, id);
        }
        if !draft.is_empty() {
            self.submit(draft);
        }
    }
}
