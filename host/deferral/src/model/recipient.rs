//! What is known of a recipient besides its messages.

use super::Timestamp;

/// How a user wants deferred messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Send them when the client becomes available.
    Push,
    /// Announce them.
    Pull,
    /// Keep them until the client asks.
    Hold,
}

/// A recipient's names and preferences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Other names, in canonical form.
    pub aliases: Vec<String>,
    /// The operator's subscriber class.
    pub subscriber_class: Option<String>,
    /// The user's preference.
    pub delivery: Option<Delivery>,
    /// Offset from UTC in minutes, -1440 to 1440.
    pub utc_offset_minutes: Option<i16>,
}

/// What waits for a recipient in all. Dispositions are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueTotals {
    /// Messages.
    pub messages: u32,
    /// Their bytes.
    pub size_bytes: u64,
    /// When the oldest was stored.
    pub oldest_received_at: Option<Timestamp>,
}

/// Stored messages and recent arrivals of one party.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stored now.
    pub stored_messages: u32,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Arrivals in the last minute.
    pub last_minute: u32,
    /// Arrivals in the last hour.
    pub last_hour: u32,
}
