//! The operator drops messages. What is in flight goes when its attempt ends; that is not waited for, and not durable: if
//! the process ends before the attempt does, it waits again as if nobody had dropped it.
//!
//! | state | input | goes to |
//! |---|---|---|
//! | – | a request | loading what it names |
//! | loading | loaded, more to come | committing, loading the next part |
//! | loading | loaded, all | committing; answered when what was not in flight is gone for good |

use std::collections::BTreeSet;

use super::commits::{Draft, Removal};
use super::loading::Purpose;
use super::window::Lease;
use super::{Event, Recipient, Reply, ReplyToken};
use crate::commit::{CommitError, Select};
use crate::model::MessageId;

/// A request that is not done.
#[derive(Debug)]
pub(super) struct PendingDiscard {
    reply: ReplyToken,
    /// None: all.
    named: Option<Vec<MessageId>>,
    report: bool,
    dropped: usize,
    /// Everything that it names was read.
    read: bool,
    /// Removals that are not durable yet, but for what is in flight.
    outstanding: BTreeSet<MessageId>,
}

impl Recipient {
    pub(super) fn on_discard(&mut self, reply: ReplyToken, messages: Option<Vec<MessageId>>, report: bool) {
        if !self.expect_reply(reply) {
            return;
        }
        let select = messages.clone().map_or(Select::After(None), Select::Listed);
        let max = messages.as_ref().map_or(self.limits.max_window_messages as usize, Vec::len);
        self.discards.push(PendingDiscard {
            reply,
            named: messages,
            report,
            dropped: 0,
            read: false,
            outstanding: BTreeSet::new(),
        });
        self.load(select, max, Purpose::Discard(reply));
    }

    pub(super) fn on_discard_loaded(
        &mut self,
        reply: ReplyToken,
        mut ids: Vec<MessageId>,
        next: Option<(u8, MessageId)>,
    ) {
        let Some(index) = self.discards.iter().position(|discard| discard.reply == reply) else { return };
        let mut discard = self.discards.remove(index);
        // What memory knows and the store's answer did not hold yet.
        match &discard.named {
            Some(named) => ids.extend(named.iter().filter(|id| !ids.contains(id)).copied().collect::<Vec<_>>()),
            None if next.is_none() => {
                let known: Vec<MessageId> = self.queue.iter().map(|entry| entry.stored.id).collect();
                ids.extend(known.into_iter().filter(|id| !ids.contains(id)).collect::<Vec<_>>());
            }
            None => {}
        }
        let (dropped, outstanding) = self.drop_messages(&ids, discard.report);
        discard.dropped = discard.dropped.saturating_add(dropped);
        discard.outstanding.extend(outstanding);
        let next = next.filter(|_| discard.named.is_none());
        discard.read = next.is_none();
        self.discards.push(discard);
        if let Some(cursor) = next {
            self.load(Select::After(Some(cursor)), self.limits.max_window_messages as usize, Purpose::Discard(reply));
        }
        self.answer_discards();
    }

    /// A removal is durable.
    pub(super) fn note_removed_for_discards(&mut self, id: MessageId) {
        if self.discards.is_empty() {
            return;
        }
        for discard in &mut self.discards {
            discard.outstanding.remove(&id);
        }
        self.answer_discards();
    }

    fn answer_discards(&mut self) {
        while let Some(index) = self.discards.iter().position(|discard| discard.read && discard.outstanding.is_empty())
        {
            let discard = self.discards.remove(index);
            self.reply(discard.reply, Reply::Done(discard.dropped));
        }
    }

    pub(super) fn on_discard_load_failed(&mut self, reply: ReplyToken, error: CommitError) {
        let before = self.discards.len();
        self.discards.retain(|discard| discard.reply != reply);
        if self.discards.len() < before {
            self.reply(reply, Reply::Unavailable(error));
        }
    }

    /// How many were dropped, and which of them at once; the others go when their attempts end.
    fn drop_messages(&mut self, ids: &[MessageId], report: bool) -> (usize, Vec<MessageId>) {
        let mut draft = Draft::default();
        let mut dropped = 0_usize;
        let mut at_once = Vec::new();
        for id in ids {
            let Some(entry) = self.queue.get_mut(*id) else { continue };
            if entry.lease == Some(Lease::Removal) || entry.discard.is_some() {
                continue;
            }
            dropped = dropped.saturating_add(1);
            if entry.lease.is_some() {
                entry.discard = Some(report);
                continue;
            }
            at_once.push(*id);
            let event = Event::Discarded(Some(*id), String::from("operator"));
            self.draft_removal(&mut draft, Removal { id: *id, event, report });
        }
        self.submit(draft);
        (dropped, at_once)
    }
}
