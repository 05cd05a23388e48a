//! Things to try the hooks on.

use crate::bindings::restante::policy::types::{
    Abilities, Contact, Context, Counts, Dispositions, HostAbilities, Incoming, IncomingPhase, LastResult, MessageKind,
    Mode, Origin, QueueTotals, Recipient, Sender, Verification, WaitingMessage,
};

/// The time of every test.
pub const NOW: u64 = 1_700_000_000_000;
/// A second.
pub const SECOND: u64 = 1_000;
/// A day.
pub const DAY: u64 = 86_400_000;

/// What the host can do.
pub fn host() -> HostAbilities {
    HostAbilities { max_page_bytes: 1_300, max_message_bytes: 100_000_000, hand_over_targets: Vec::new() }
}

/// A recipient without preferences, now.
pub fn context() -> Context {
    Context {
        now: NOW,
        tenant: "example".to_owned(),
        settings: Vec::new(),
        recipient: Recipient {
            address: "sip:bob@example.org".to_owned(),
            aliases: Vec::new(),
            subscriber_class: None,
            delivery: None,
            utc_offset_minutes: None,
        },
        queue: QueueTotals { messages: 0, size_bytes: 0, oldest_received_at: None },
        host: host(),
        fields: Vec::new(),
    }
}

/// Both modes.
pub fn page_and_large() -> Abilities {
    Abilities::PAGE_MODE | Abilities::LARGE_MESSAGE_MODE
}

/// A contact.
pub fn contact(id: u64, abilities: Abilities) -> Contact {
    Contact { id, instance: None, q_permille: 1_000, abilities, tags: Vec::new(), last_failure: None }
}

/// A small page-mode message from Alice.
pub fn message(id: u64) -> WaitingMessage {
    WaitingMessage {
        id,
        sender: "sip:alice@example.org".to_owned(),
        kind: MessageKind::Message,
        page_bytes: Some(600),
        size_bytes: 100,
        content_type: "text/plain".to_owned(),
        received_at: NOW - 60 * SECOND,
        expires_at: NOW + DAY,
        priority: 100,
        attempts: 0,
        not_before: None,
        last_failure: None,
        page_refused: false,
        large_refused: false,
        notified_at: None,
        fetch_deadline: None,
        devices: Vec::new(),
    }
}

/// One from somebody else.
pub fn message_from(id: u64, sender: &str) -> WaitingMessage {
    WaitingMessage { sender: sender.to_owned(), ..message(id) }
}

/// One of this size, too large for page mode.
pub fn message_of(id: u64, size_bytes: u64) -> WaitingMessage {
    WaitingMessage { page_bytes: None, size_bytes, ..message(id) }
}

/// A disposition notification.
pub fn disposition(id: u64) -> WaitingMessage {
    WaitingMessage { kind: MessageKind::Disposition, ..message(id) }
}

/// A failure just now.
pub fn failed(origin: Origin, status: Option<u16>) -> Option<LastResult> {
    Some(LastResult { at: NOW, status, origin })
}

/// A small message that arrives for somebody who is not there.
pub fn incoming() -> Incoming {
    let nothing = Counts { stored_messages: 0, stored_bytes: 0, last_minute: 0, last_hour: 0 };
    Incoming {
        phase: IncomingPhase::Complete,
        kind: MessageKind::Message,
        mode: Mode::Page,
        sender: Sender {
            address: "sip:alice@example.org".to_owned(),
            verification: Verification::TrustedPeer,
            private: false,
        },
        size_bytes: Some(5),
        content_type: "text/plain".to_owned(),
        wrapped_type: None,
        dispositions: Dispositions::empty(),
        expires_at: None,
        contacts: Vec::new(),
        recipient_counts: nothing,
        sender_counts: nothing,
        tenant_counts: nothing,
        upstream_failure: None,
    }
}
