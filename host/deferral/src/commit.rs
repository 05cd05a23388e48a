//! What is made durable, as values: a [`Transaction`] is carried out whole or not at all, in the order given out.

use thiserror::Error;

use crate::model::{
    DeviceState, LastResult, MessageId, NewMessage, Profile, QueueTotals, RecipientKey, StoredMessage, Timestamp,
};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Store a message, unless one with a deduplication key of its own was stored within the deduplication window.
    Insert(Box<NewMessage>),
    /// The message is delivered, dropped or refused for good: row, quota and (after the commit) body file go. Its
    /// deduplication key stays for the window.
    Remove {
        /// Whose.
        recipient: RecipientKey,
        /// Which.
        id: MessageId,
    },
    /// What became of a message that stays.
    Update {
        /// Whose.
        recipient: RecipientKey,
        /// Which.
        id: MessageId,
        /// Its new state.
        state: Box<MessageState>,
    },
    /// When this recipient wants to be looked at although nothing arrives for it; none: never. Replaces what was said
    /// before.
    WakeAt {
        /// Whose.
        recipient: RecipientKey,
        /// When.
        at: Option<Timestamp>,
    },
}

/// The part of a stored message that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageState {
    /// See [`StoredMessage`].
    pub attempts: u16,
    /// See [`StoredMessage`].
    pub not_before: Option<Timestamp>,
    /// See [`StoredMessage`].
    pub last_failure: Option<LastResult>,
    /// See [`StoredMessage`].
    pub page_refused: bool,
    /// See [`StoredMessage`].
    pub large_refused: bool,
    /// See [`StoredMessage`].
    pub notified_at: Option<Timestamp>,
    /// See [`StoredMessage`].
    pub fetch_deadline: Option<Timestamp>,
    /// See [`StoredMessage`].
    pub push_after_deadline: bool,
    /// See [`NewMessage`].
    pub expires_at: Timestamp,
    /// See [`NewMessage`].
    pub hand_over_to: Option<String>,
    /// See [`StoredMessage`].
    pub devices: Vec<DeviceState>,
}

/// Changes that become durable together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// In this order.
    pub changes: Vec<Change>,
    /// It settles a delivery (removes or updates only): it may use the room that a store reserves so that full queues
    /// cannot stop the deliveries that would empty them.
    pub settles: bool,
}

/// A report for a sender among the changes of a [`Transaction`]. Whoever has it carried out may leave the report out where there
/// is no room for it, and says [`Applied::Done`] of it: what it tells of happens all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportMade {
    /// Which of the changes stores it.
    pub change: usize,
    /// The size of the message that goes in the same transaction, whose place it takes. None: its message stays.
    pub replaced_bytes: Option<u64>,
}

/// What became of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The message was stored under this number.
    Inserted(MessageId),
    /// A message with its deduplication key was stored before; nothing was changed. Its number, while it still waits.
    Duplicate(Option<MessageId>),
    /// Done, or there was nothing to do: the message is gone already.
    Done,
}

/// Why a transaction was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CommitError {
    /// More is waiting to be written than the store takes.
    #[error("the store is overloaded")]
    Overloaded,
    /// No room on the disk.
    #[error("the disk is full")]
    Full,
    /// Anything else.
    #[error("the store failed")]
    Failed,
}

/// Which part of a recipient's queue is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Select {
    /// In delivery order, after this place (priority, number), or from the beginning.
    After(Option<(u8, MessageId)>),
    /// What expires at this time or before.
    ExpiredAt(Timestamp),
    /// What has a `fetch_deadline` or `not_before` at this time or before.
    DueAt(Timestamp),
    /// These, as far as they wait.
    Listed(Vec<MessageId>),
}

/// What a recipient's machine asks for when it begins or has room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadRequest {
    /// Which messages.
    pub select: Select,
    /// At most this many. Zero: only what is known of the queue as a whole is wanted.
    pub max_messages: u32,
    /// And, after the first, at most so many bytes of inline bodies.
    pub max_body_bytes: u64,
}

/// The answer: a window of a recipient's queue in delivery order (priority falling, number rising) and what is known of
/// the recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Messages.
    pub messages: Vec<StoredMessage>,
    /// There are more after these.
    pub more: bool,
    /// Of the whole queue.
    pub totals: QueueTotals,
    /// Earliest `expires_at` of the whole queue.
    pub earliest_expiry: Option<Timestamp>,
    /// Earliest `not_before` or `fetch_deadline` of the whole queue, past ones included.
    pub earliest_due: Option<Timestamp>,
    /// The recipient's profile.
    pub profile: Profile,
    /// What [`Change::WakeAt`] said last.
    pub wake_at: Option<Timestamp>,
}
