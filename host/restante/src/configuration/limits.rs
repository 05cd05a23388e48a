//! `[limits]`: every bound of the server, with the answer that reaching it leads to.

use serde::Deserialize;

/// Bounds. Each is a whole number of at least 1.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest SIP message with its headers; larger: 513, or a stream is closed.
    pub max_sip_message_bytes: u64,
    /// Header part of a SIP message; larger: 400 (413 where it can be told).
    pub max_sip_header_bytes: u64,
    /// Header fields of a SIP message; more: 400.
    pub max_sip_header_fields: u64,
    /// Body of a page-mode message; larger: 413.
    pub max_page_body_bytes: u64,
    /// Body of a large message; larger: `a=max-size` says so, and 413.
    pub max_large_body_bytes: u64,
    /// Server transactions per shard; more: 503.
    pub max_server_transactions: u64,
    /// Client transactions per shard; more: deliveries wait.
    pub max_client_transactions: u64,
    /// MSRP sessions per shard; more: 503 to an INVITE, deliveries wait.
    pub max_sessions: u64,
    /// SIP connections per listener; more are not accepted.
    pub max_connections: u64,
    /// SIP and MSRP connections of one source address; more are closed at once.
    pub max_connections_per_source: u64,
    /// Messages in the queue between a receiver and a shard; more: a stateless 503.
    pub max_receive_queue: u64,
    /// Bytes of it.
    pub max_receive_queue_bytes: u64,
    /// Transactions that wait to be written; more: 503 with Retry-After.
    pub max_waiting_commits: u64,
    /// Bytes of them.
    pub max_waiting_commit_bytes: u64,
    /// When the oldest waits longer than this the receiver answers a stateless 503.
    pub max_commit_wait_milliseconds: u64,
    /// Decisions that wait per tenant; more: the fallback decides.
    pub max_waiting_decisions: u64,
    /// Time of one decision.
    pub max_decision_milliseconds: u64,
    /// Messages of one recipient that are in memory at once.
    pub max_window_messages: u64,
    /// Arrivals of one recipient that wait for decision or commit; more: 503.
    pub max_waiting_arrivals: u64,
    /// Contacts of one user; more: 403.
    pub max_contacts: u64,
    /// Recipients in memory per shard; idle ones are put away.
    pub max_recipients: u64,
    /// Seconds that a registration may last.
    pub max_registration_seconds: u64,
    /// Shorter registrations are refused with 423.
    pub min_registration_seconds: u64,
    /// Seconds that a subscription may last.
    pub max_subscription_seconds: u64,
    /// Seconds that a session may wait for its connection.
    pub max_session_setup_seconds: u64,
    /// Seconds without a byte after which a session ends.
    pub max_session_idle_seconds: u64,
    /// Least wait between a registration and the first push, in milliseconds.
    pub registration_delay_milliseconds: u64,
    /// Seconds a stop may take to finish what is in flight.
    pub max_drain_seconds: u64,
    /// Longest keeping of a message in seconds, whatever sender and policy say.
    pub max_keep_seconds: u64,
    /// Hours for which repetitions of a message are recognised.
    pub deduplication_hours: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_sip_message_bytes: 256 * 1024,
            max_sip_header_bytes: 32 * 1024,
            max_sip_header_fields: 256,
            max_page_body_bytes: 64 * 1024,
            max_large_body_bytes: 100 * 1024 * 1024,
            max_server_transactions: 50_000,
            max_client_transactions: 50_000,
            max_sessions: 2_000,
            max_connections: 10_000,
            max_connections_per_source: 1_000,
            max_receive_queue: 8_192,
            max_receive_queue_bytes: 32 * 1024 * 1024,
            max_waiting_commits: 16_384,
            max_waiting_commit_bytes: 128 * 1024 * 1024,
            max_commit_wait_milliseconds: 200,
            max_waiting_decisions: 4_096,
            max_decision_milliseconds: 20,
            max_window_messages: 100,
            max_waiting_arrivals: 256,
            max_contacts: 10,
            max_recipients: 200_000,
            max_registration_seconds: 86_400,
            min_registration_seconds: 30,
            max_subscription_seconds: 3_600,
            max_session_setup_seconds: 30,
            max_session_idle_seconds: 60,
            registration_delay_milliseconds: 1_000,
            max_drain_seconds: 10,
            max_keep_seconds: 30 * 86_400,
            deduplication_hours: 24,
        }
    }
}

impl Limits {
    /// # Errors
    /// Names the key and what was expected.
    pub(super) fn check(&self) -> Result<(), String> {
        let numbers = [
            ("max_sip_message_bytes", self.max_sip_message_bytes),
            ("max_sip_header_bytes", self.max_sip_header_bytes),
            ("max_sip_header_fields", self.max_sip_header_fields),
            ("max_page_body_bytes", self.max_page_body_bytes),
            ("max_large_body_bytes", self.max_large_body_bytes),
            ("max_server_transactions", self.max_server_transactions),
            ("max_client_transactions", self.max_client_transactions),
            ("max_sessions", self.max_sessions),
            ("max_connections", self.max_connections),
            ("max_connections_per_source", self.max_connections_per_source),
            ("max_receive_queue", self.max_receive_queue),
            ("max_receive_queue_bytes", self.max_receive_queue_bytes),
            ("max_waiting_commits", self.max_waiting_commits),
            ("max_waiting_commit_bytes", self.max_waiting_commit_bytes),
            ("max_commit_wait_milliseconds", self.max_commit_wait_milliseconds),
            ("max_waiting_decisions", self.max_waiting_decisions),
            ("max_decision_milliseconds", self.max_decision_milliseconds),
            ("max_window_messages", self.max_window_messages),
            ("max_waiting_arrivals", self.max_waiting_arrivals),
            ("max_contacts", self.max_contacts),
            ("max_recipients", self.max_recipients),
            ("max_registration_seconds", self.max_registration_seconds),
            ("min_registration_seconds", self.min_registration_seconds),
            ("max_subscription_seconds", self.max_subscription_seconds),
            ("max_session_setup_seconds", self.max_session_setup_seconds),
            ("max_session_idle_seconds", self.max_session_idle_seconds),
            ("registration_delay_milliseconds", self.registration_delay_milliseconds),
            ("max_drain_seconds", self.max_drain_seconds),
            ("max_keep_seconds", self.max_keep_seconds),
            ("deduplication_hours", self.deduplication_hours),
        ];
        match numbers.into_iter().find(|(_, value)| *value == 0 || *value > i64::MAX as u64 / 1000) {
            Some((name, value)) => Err(format!("limits.{name} = {value}: expected a whole number of at least 1")),
            None if self.min_registration_seconds > self.max_registration_seconds => {
                Err("limits.min_registration_seconds is larger than max_registration_seconds".to_owned())
            }
            None => Ok(()),
        }
    }
}
