//! The operator drops messages. What is in flight goes when its attempt ends.
//!
//! | state | input | goes to |
//! |---|---|---|
//! | – | a request | loading what it names |
//! | loading | loaded, more to come | committing, loading the next part |
//! | loading | loaded, all | committing; answered when that is durable |

use super::commits::{Draft, Removal};
use super::loading::Purpose;
use super::window::Place;
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
}

impl Recipient {
    pub(super) fn on_discard(&mut self, reply: ReplyToken, messages: Option<Vec<MessageId>>, report: bool) {
        if !self.expect_reply(reply) {
            return;
        }
        let select = messages.clone().map_or(Select::After(None), Select::Listed);
        let max = messages.as_ref().map_or(self.limits.max_window_messages as usize, Vec::len);
        self.discards.push(PendingDiscard { reply, named: messages, report, dropped: 0 });
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
        let dropped = self.drop_messages(&ids, discard.report);
        discard.dropped = discard.dropped.saturating_add(dropped);
        match next.filter(|_| discard.named.is_none()) {
            Some(cursor) => {
                self.discards.push(discard);
                let max = self.limits.max_window_messages as usize;
                self.load(Select::After(Some(Place::new(cursor.0, cursor.1).cursor())), max, Purpose::Discard(reply));
            }
            None => self.reply(reply, Reply::Done(discard.dropped)),
        }
    }

    pub(super) fn on_discard_load_failed(&mut self, reply: ReplyToken, error: CommitError) {
        let before = self.discards.len();
        self.discards.retain(|discard| discard.reply != reply);
        if self.discards.len() < before {
            self.reply(reply, Reply::Unavailable(error));
        }
    }

    fn drop_messages(&mut self, ids: &[MessageId], report: bool) -> usize {
        let mut draft = Draft::default();
        let mut dropped = 0_usize;
        for id in ids {
            let Some(entry) = self.queue.get_mut(*id) else { continue };
            if entry.lease == Some(super::window::Lease::Removal) || entry.discard.is_some() {
                continue;
            }
            dropped = dropped.saturating_add(1);
            if entry.lease.is_some() {
                entry.discard = Some(report);
                continue;
            }
            let event = Event::Discarded(Some(*id), String::from("operator"));
            self.draft_removal(&mut draft, Removal { id: *id, event, report });
        }
        self.submit(draft);
        dropped
    }
}
