//! Contexts, messages and contacts to try hooks on, natively: `cargo test`.
//!
//! ```
//! use restante_policy_sdk::{NoSettings, Policy, testing};
//!
//! struct Mine;
//! impl Policy for Mine {
//!     type Settings = NoSettings;
//! }
//!
//! let settings = testing::settings::<Mine>("{}");
//! let plan = Mine::on_available(&settings, &testing::context(), &testing::available(vec![testing::message(1)])).unwrap();
//! assert_eq!(plan.steps, [testing::page(&[1])]);
//! ```

use std::cell::RefCell;

use crate::log::Level;
use crate::policy::Policy;
use crate::settings;
use crate::types::{
    Abilities, AfterDeadline, AttemptKind, Availability, Contact, Context, Counts, DeliveryStep, Dispositions,
    ExpiringMessage, ExpirySource, FailedMessage, Failure, HoldStep, HostAbilities, Incoming, IncomingPhase,
    LastResult, MediaDirection, MessageKind, Mode, NotifyStep, Origin, Problem, Progress, Pull, QueueTotals, Recipient,
    RegistrationState, Selection, Sender, Step, Target, Timestamp, Trigger, Verification, WaitingMessage,
};

/// The time of every test: 2023-11-14T22:13:20Z, a Tuesday.
pub const NOW: u64 = 1_700_000_000_000;
/// A second, in milliseconds.
pub const SECOND: u64 = 1_000;
/// An hour, in milliseconds.
pub const HOUR: u64 = 3_600_000;
/// A day, in milliseconds.
pub const DAY: u64 = 86_400_000;

/// The settings of a policy, from JSON.
///
/// # Panics
/// When they cannot be used.
#[must_use]
pub fn settings<P: Policy>(json: &str) -> P::Settings {
    match settings::check::<P>(json, &host()) {
        Ok((settings, _)) => settings,
        Err(problems) => panic!("{json} cannot be used: {problems:?}"),
    }
}

/// What a policy finds wrong or odd about settings.
#[must_use]
pub fn problems<P: Policy>(json: &str) -> Vec<Problem> {
    settings::check::<P>(json, &host()).map_or_else(|problems| problems, |(_, checked)| checked.problems)
}

thread_local! {
    static LOG_LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// What was logged on this thread since the last call.
#[must_use]
pub fn log_lines() -> Vec<(Level, String)> {
    LOG_LINES.take()
}

pub(crate) fn keep_log_line(level: Level, text: &str) {
    LOG_LINES.with_borrow_mut(|lines| lines.push((level, text.to_owned())));
}

/// What the host can do.
#[must_use]
pub fn host() -> HostAbilities {
    HostAbilities { max_page_bytes: 1_300, max_message_bytes: 100_000_000, hand_over_targets: Vec::new() }
}

/// A recipient without preferences, now.
#[must_use]
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
#[must_use]
pub fn page_and_large() -> Abilities {
    Abilities::PAGE_MODE | Abilities::LARGE_MESSAGE_MODE
}

/// A contact.
#[must_use]
pub fn contact(id: u64, abilities: Abilities) -> Contact {
    Contact { id, instance: None, q_permille: 1_000, abilities, tags: Vec::new(), last_failure: None }
}

/// A small page-mode message from Alice.
#[must_use]
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
#[must_use]
pub fn message_from(id: u64, sender: &str) -> WaitingMessage {
    WaitingMessage { sender: sender.to_owned(), ..message(id) }
}

/// One of this size, too large for page mode.
#[must_use]
pub fn message_of(id: u64, size_bytes: u64) -> WaitingMessage {
    WaitingMessage { page_bytes: None, size_bytes, ..message(id) }
}

/// A disposition notification.
#[must_use]
pub fn disposition(id: u64) -> WaitingMessage {
    WaitingMessage { kind: MessageKind::Disposition, ..message(id) }
}

/// A failure just now.
#[must_use]
pub fn failed(origin: Origin, status: Option<u16>) -> Option<LastResult> {
    Some(LastResult { at: NOW, status, origin })
}

/// A small message that arrives for somebody who is not there.
#[must_use]
pub fn incoming() -> Incoming {
    let nothing = Counts { stored_messages: 0, stored_bytes: 0, last_minute: 0, last_hour: 0 };
    Incoming {
        phase: IncomingPhase::Complete,
        kind: MessageKind::Message,
        mode: Mode::Page,
        service: None,
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
        registration: RegistrationState::Unknown,
        contacts: Vec::new(),
        recipient_counts: nothing,
        sender_counts: nothing,
        tenant_counts: nothing,
        upstream_failure: None,
    }
}

/// These wait, and the recipient has registered with a contact for both modes.
#[must_use]
pub fn available(messages: Vec<WaitingMessage>) -> Availability {
    Availability {
        trigger: Trigger::Registered,
        contacts: vec![contact(1, page_and_large())],
        messages,
        not_shown: 0,
        can_notify: true,
    }
}

/// A client asks for all of these.
#[must_use]
pub fn pull(messages: Vec<WaitingMessage>) -> Pull {
    Pull {
        contact: None,
        verification: Verification::TrustedPeer,
        selection: Selection::All,
        accept_types: Vec::new(),
        accept_wrapped_types: Vec::new(),
        max_size_bytes: None,
        direction: MediaDirection::ReceiveOnly,
        messages,
        not_shown: 0,
    }
}

/// An attempt with contact 1 that failed for all of its messages.
#[must_use]
pub fn failure(
    attempt: AttemptKind,
    origin: Origin,
    status: Option<u16>,
    messages: impl IntoIterator<Item = WaitingMessage>,
) -> Failure {
    let failed = |message| FailedMessage { message, progress: Progress::Refused, status: None };
    Failure {
        attempt,
        contact: Some(1),
        status,
        origin,
        retry_after_seconds: None,
        messages: messages.into_iter().map(failed).collect(),
        other_contacts: Vec::new(),
    }
}

/// A message whose time is up; its sender wants to know when it could not be delivered.
#[must_use]
pub fn expiring(message: WaitingMessage, source: ExpirySource) -> ExpiringMessage {
    ExpiringMessage { message, source, dispositions: Dispositions::NEGATIVE_DELIVERY }
}

/// The step that sends these in MESSAGEs.
#[must_use]
pub fn page(messages: &[u64]) -> Step {
    Step::Page(DeliveryStep { messages: messages.to_vec(), target: Target::Any })
}

/// The step that sends these in one session.
#[must_use]
pub fn session(messages: &[u64]) -> Step {
    Step::Session(DeliveryStep { messages: messages.to_vec(), target: Target::Any })
}

/// The step that announces these.
#[must_use]
pub fn notify(messages: &[u64], fetch_deadline: Timestamp, afterwards: AfterDeadline) -> Step {
    Step::Notify(NotifyStep { messages: messages.to_vec(), fetch_deadline, afterwards })
}

/// The step that leaves these alone.
#[must_use]
pub fn hold(messages: &[u64], until: Option<Timestamp>) -> Step {
    Step::Hold(HoldStep { messages: messages.to_vec(), until })
}
