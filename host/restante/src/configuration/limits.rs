//! `[limits]`: every bound of the server, with the answer that reaching it leads to.

use serde::Deserialize;

use super::number::{can_be_limit, expected_limit};

/// Makes the struct, its defaults and the list of its values of one table.
macro_rules! limits {
    ($($(#[$doc:meta])+ $name:ident = $default:expr;)+) => {
        /// Bounds. Each is a whole number of at least 1.
        #[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
        #[serde(deny_unknown_fields, default)]
        pub struct Limits {
            $($(#[$doc])+ #[serde(deserialize_with = "super::number::whole")] pub $name: u64,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Limits { $($name: $default,)+ }
            }
        }

        impl Limits {
            /// Names and values.
            pub(super) fn all(&self) -> [(&'static str, u64); [$(stringify!($name)),+].len()] {
                [$((stringify!($name), self.$name)),+]
            }
        }
    };
}

limits! {
    /// Largest SIP message with its headers; larger: 513, and a stream is closed.
    max_sip_message_bytes = 256 * 1024;
    /// Header part of a SIP message; larger: 513 over UDP, and a stream is closed.
    max_sip_header_bytes = 32 * 1024;
    /// Header fields of a SIP message; more: 513 over UDP, and a stream is closed.
    max_sip_header_fields = 256;
    /// Body of a page-mode message; larger: 413.
    max_page_body_bytes = 64 * 1024;
    /// Body of a large message; larger: `a=max-size` says so, and 413.
    max_large_body_bytes = 100 * 1024 * 1024;
    /// Server transactions per shard; more: 503.
    max_server_transactions = 50_000;
    /// Client transactions per shard; more: deliveries wait.
    max_client_transactions = 50_000;
    /// MSRP sessions per shard; more: 503 to an INVITE, deliveries wait.
    max_sessions = 2_000;
    /// MSRP sessions that one sender, or one who fetches, may have open, all shards together; more: 480 to an INVITE.
    max_sessions_per_sender = 50;
    /// The same of one source address that no tenant trusts, whoever is there.
    max_sessions_per_source = 500;
    /// Start line and header fields of one MSRP request; larger: the connection is closed.
    max_msrp_header_bytes = 32 * 1024;
    /// Header fields of one; more: the connection is closed.
    max_msrp_header_fields = 64;
    /// Content of one chunk, which is passed on and not held; larger: the connection is closed.
    max_chunk_bytes = 4 * 1024 * 1024 * 1024;
    /// Pieces with gaps between them that a message may come in; more: 413.
    max_pieces_per_message = 256;
    /// Messages that may come interleaved in one session; more: 413.
    max_incoming_messages_per_session = 16;
    /// SIP connections per listener; more are closed at once.
    max_connections = 10_000;
    /// SIP and MSRP connections of one source address; more are closed at once.
    max_connections_per_source = 1_000;
    /// A WebSocket that is quiet for so many seconds is pinged, and closed when two pings remain unanswered.
    web_socket_ping_seconds = 30;
    /// Handshakes of TLS and WebSocket under way, a sixteenth of them of one source address; more: closed at once.
    max_handshakes = 1_000;
    /// SIP connections that we opened; more: what needs a new one fails and is tried again.
    max_outgoing_connections = 10_000;
    /// MSRP connections per listener; more are closed at once.
    max_msrp_connections = 4_096;
    /// Messages in the queue between a receiver and a shard; more: a stateless 503.
    max_receive_queue = 8_192;
    /// Bytes of it.
    max_receive_queue_bytes = 32 * 1024 * 1024;
    /// Transactions that wait to be written; more: 503 with Retry-After.
    max_waiting_commits = 16_384;
    /// Bytes of them.
    max_waiting_commit_bytes = 128 * 1024 * 1024;
    /// Size of the database, bodies in files apart; what does not fit is refused with 503 as on a full disk.
    max_database_bytes = 1 << 40;
    /// Age of the oldest waiting commit; beyond it the receiver answers a stateless 503.
    max_commit_wait_milliseconds = 200;
    /// Decisions that wait per tenant; more: the fallback decides.
    max_waiting_decisions = 4_096;
    /// Time of one decision.
    max_decision_milliseconds = 20;
    /// Memory of one decision; more: the fallback decides.
    max_policy_memory_bytes = 16 * 1024 * 1024;
    /// Size of a policy's component; more: it is refused.
    max_policy_bytes = 10 * 1024 * 1024;
    /// Time that compiling a policy may take; more: it is refused.
    max_compile_seconds = 30;
    /// Memory that compiling a policy may take; more: it is refused.
    max_compile_memory_bytes = 2 * 1024 * 1024 * 1024;
    /// Messages of one recipient that are in memory at once.
    max_window_messages = 100;
    /// Arrivals of one recipient that wait for decision or commit; more: 503.
    max_waiting_arrivals = 256;
    /// Contacts of one user; more: 403.
    max_contacts = 10;
    /// Recipients in memory per shard; idle ones are put away.
    max_recipients = 200_000;
    /// Seconds that a registration may last.
    max_registration_seconds = 86_400;
    /// Subscriptions to registration events of users; more: what waits for the others waits for their REGISTER.
    max_registration_subscriptions = 100_000;
    /// Shorter registrations are refused with 423.
    min_registration_seconds = 30;
    /// Seconds that a subscription may last.
    max_subscription_seconds = 3_600;
    /// Seconds that a nonce of Digest may be used; older: 401 with `stale`.
    max_nonce_seconds = 300;
    /// Nonces whose counts are remembered; more: the oldest are stale.
    max_nonces = 100_000;
    /// Failed authentications of one source in `failed_authentication_seconds`; more: 480 until they are over.
    max_failed_authentications = 20;
    /// Seconds in which they are counted.
    failed_authentication_seconds = 300;
    /// What cannot be read, and guesses, of one source in `garbage_seconds`; a tenth is answered, and at all of them its
    /// connections are closed and refused.
    max_garbage = 100;
    /// Seconds in which they are counted, and for which it is shut out.
    garbage_seconds = 60;
    /// Seconds that a session may wait for its connection.
    max_session_setup_seconds = 30;
    /// Seconds without a byte after which a session ends.
    max_session_idle_seconds = 60;
    /// Bytes a second that a peer has to bring while part of a message has come, over `slow_msrp_seconds`; fewer: the session
    /// ends.
    min_msrp_bytes_per_second = 1_024;
    /// Seconds over which that rate is taken.
    slow_msrp_seconds = 60;
    /// Clients of the MSRP relay that one user may have at a time; more: 403.
    max_relay_clients_per_user = 8;
    /// Seconds that a session URI of the MSRP relay lives without being asked for again.
    max_relay_seconds = 3_600;
    /// Least wait between a registration and the first push, in milliseconds.
    registration_delay_milliseconds = 1_000;
    /// Requests that one shard passes on at once, those that are over and may still be answered included; more: calls get
    /// 503, messages are kept.
    max_relays = 10_000;
    /// Calls of one sender that are passed on at once, all shards together, counted like `max_relays`; more: 480.
    max_calls_per_sender = 200;
    /// The same of one source address that no tenant trusts, whoever is there.
    max_calls_per_source = 2_000;
    /// Milliseconds that a call which is passed on may ring without a word of its callee (Timer C of RFC 3261 §16.6).
    max_ringing_milliseconds = 185_000;
    /// Milliseconds that the INVITE of a large message is passed on before it is taken over, and that any other one may
    /// be passed on without a word of a device before it gets 408; cores give up after 20 s.
    max_relay_invite_milliseconds = 15_000;
    /// Seconds a stop may take to finish what is in flight.
    max_drain_seconds = 10;
    /// Longest hold of a message in seconds; then the policy is asked again, which may be another by then.
    max_hold_seconds = 86_400;
    /// Longest keeping of a message in seconds, whatever sender and policy say.
    max_keep_seconds = 30 * 86_400;
    /// Hours for which repetitions of a message are recognised.
    deduplication_hours = 24;
}

/// No component is larger: it is held in memory while it is uploaded, and more than once while it is compiled.
const MOST_POLICY_BYTES: u64 = 256 << 20;

impl Limits {
    /// # Errors
    /// The key, and what was expected.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        match self.all().into_iter().find(|(_, value)| !can_be_limit(*value)) {
            Some((name, value)) => Err((name, format!("limits.{name} = {value}: {}", expected_limit()))),
            None if self.max_policy_bytes > MOST_POLICY_BYTES => {
                let text = format!(
                    "limits.max_policy_bytes = {}: expected at most {MOST_POLICY_BYTES}, since components are held in \
                     memory",
                    self.max_policy_bytes
                );
                Err(("max_policy_bytes", text))
            }
            None if self.max_sip_header_bytes >= self.max_sip_message_bytes => {
                let text = format!(
                    "limits.max_sip_header_bytes = {}: expected less than max_sip_message_bytes, which is {}: \
                     without room for a body no message could be taken",
                    self.max_sip_header_bytes, self.max_sip_message_bytes
                );
                Err(("max_sip_header_bytes", text))
            }
            None if self.min_registration_seconds > self.max_registration_seconds => {
                let text = "limits.min_registration_seconds is larger than max_registration_seconds";
                Err(("min_registration_seconds", text.to_owned()))
            }
            None => Ok(()),
        }
    }
}
