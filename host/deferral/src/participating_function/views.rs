//! What a policy is shown.

use super::Recipient;
use super::window::Entry;
use crate::decision::validate::Offered;
use crate::decision::{Context, Field, RecipientView, WaitingMessage};
use crate::model::{Counts, LastResult, Mode, Timestamp};

impl Recipient {
    /// What every hook is given, with what the request says beside.
    pub(super) fn context_with(&mut self, fields: Vec<Field>) -> Context {
        Context { fields, ..self.context() }
    }

    /// What every hook is given.
    pub(super) fn context(&mut self) -> Context {
        if std::mem::take(&mut self.oldest_is_stale) {
            // Exact when the whole queue is in memory; otherwise the oldest that is known.
            self.totals.oldest_received_at = self.queue.oldest().filter(|_| self.totals.messages > 0);
        }
        Context {
            now: self.now,
            tenant: self.key.tenant.clone(),
            recipient: RecipientView {
                address: self.key.address.clone(),
                aliases: self.profile.aliases.clone(),
                subscriber_class: self.profile.subscriber_class.clone(),
                delivery: self.profile.delivery,
                utc_offset_minutes: self.profile.utc_offset_minutes,
            },
            queue: self.totals,
            fields: Vec::new(),
        }
    }

    /// The recipient's counts, with what came lately as the edge counted it.
    pub(super) fn recipient_counts(&self, rates: Counts) -> Counts {
        Counts { stored_messages: self.totals.messages, stored_bytes: self.totals.size_bytes, ..rates }
    }

    /// Attempts since the recipient last became available.
    pub(super) fn attempts_of(&self, entry: &Entry) -> u16 {
        let before = |failure: LastResult| failure.at <= self.push.available_since();
        if entry.stored.last_failure.is_none_or(before) && entry.stored.attempts > 0 && self.push.was_available() {
            0
        } else {
            entry.stored.attempts
        }
    }

    pub(super) fn waiting_view(&self, entry: &Entry) -> WaitingMessage {
        let stored = &entry.stored;
        let message = &stored.message;
        let sender = &message.envelope.sender;
        WaitingMessage {
            id: stored.id,
            sender: if sender.private { String::new() } else { sender.address.0.as_ref().to_owned() },
            kind: message.envelope.kind,
            page_bytes: self.contacts.page_bytes(stored),
            size_bytes: message.body.size_bytes(),
            content_type: media_type(&message.envelope.content_type),
            received_at: message.received_at,
            expires_at: message.expires_at,
            priority: message.priority,
            attempts: self.attempts_of(entry),
            not_before: stored.not_before,
            last_failure: stored.last_failure,
            page_refused: stored.page_refused,
            large_refused: stored.large_refused,
            notified_at: stored.notified_at,
            fetch_deadline: stored.fetch_deadline,
            devices: stored.devices.clone(),
        }
    }

    /// What an answer about this message is checked against.
    pub(super) fn offered(&self, entry: &Entry) -> Offered {
        let stored = &entry.stored;
        let later = |at: Option<Timestamp>| at.is_some_and(|at| at > self.now);
        let contacts = |mode| {
            self.contacts.iter().filter(|reach| reach.takes(stored, mode)).map(|reach| reach.contact.id).collect()
        };
        Offered {
            id: stored.id,
            kind: stored.message.envelope.kind,
            sender: stored.message.envelope.sender.address.clone(),
            page_refused: stored.page_refused,
            large_refused: stored.large_refused,
            waits: later(stored.fetch_deadline) || (later(stored.not_before) && stored.last_failure.is_none()),
            page_contacts: contacts(Mode::Page),
            large_contacts: contacts(Mode::Large),
        }
    }
}

/// The media type alone, in lower case (RFC 2045 §5.1).
pub(super) fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
