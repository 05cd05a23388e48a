//! What a session is told when it is made.

use std::time::Duration;

use crate::framing::FramingLimits;
use crate::sdp::AcceptTypes;
use crate::uri::{MsrpPath, MsrpUri};

/// Who opens the connection (RFC 4145, RFC 6135).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// We connect, and our first SEND binds the connection.
    Active,
    /// The peer connects, and its first SEND binds the connection.
    Passive,
}

/// One session as it was negotiated.
#[derive(Clone, Debug)]
pub struct SessionConfiguration {
    /// Who connects.
    pub role: Role,
    /// Our own URI, as said in our `a=path`.
    pub local_uri: MsrpUri,
    /// The peer's `a=path`.
    pub remote_path: MsrpPath,
    /// Whether we may send messages (direction of the negotiated media).
    pub sends: bool,
    /// Whether we take messages; if not, content is answered 403. Empty SENDs are accepted all the same.
    pub receives: bool,
    /// Types taken; others are answered 415. `None`: all.
    pub accept_types: Option<AcceptTypes>,
    /// The peer's `a=max-size` in bytes; larger messages are not sent.
    pub remote_max_bytes: Option<u64>,
    /// Whether a message that asked for no 200 counts as delivered when nothing bad was heard of it. Default false.
    pub count_unreported_as_delivered: bool,
    /// Bounds.
    pub limits: SessionLimits,
}

impl SessionConfiguration {
    /// A session in both directions that takes all types, with the default bounds.
    #[must_use]
    pub fn new(role: Role, local_uri: MsrpUri, remote_path: MsrpPath) -> SessionConfiguration {
        SessionConfiguration {
            role,
            local_uri,
            remote_path,
            sends: true,
            receives: true,
            accept_types: None,
            remote_max_bytes: None,
            count_unreported_as_delivered: false,
            limits: SessionLimits::default(),
        }
    }
}

/// Bounds of one session in memory and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Of the stream.
    pub framing: FramingLimits,
    /// Bytes of one message that comes in; a larger one is answered 413. Default 100 MiB.
    pub max_incoming_message_bytes: u64,
    /// Incomplete messages coming in interleaved; one more is answered 413. Complete ones are bounded by the host, see
    /// [`super::Session::awaiting_verdict`]. Default 16.
    pub max_incoming_messages: usize,
    /// Pieces one incoming message may be in; more are answered 413. Default 256.
    pub max_ranges_per_message: usize,
    /// Transactions of one message whose answer waits for the host's verdict; more get no answer. Default 16.
    pub max_held_transactions: usize,
    /// Settled incoming messages whose late chunks are still answered as the message was. Default 64.
    pub max_remembered_messages: usize,
    /// Messages waiting to be sent or settled. Default 64.
    pub max_outgoing_messages: usize,
    /// Content of one chunk that we send, and of one piece asked of the host. Default 64 KiB.
    pub max_chunk_bytes: usize,
    /// Content given to one write; between two of them a chunk of more than 2048 bytes is interrupted for answers
    /// (RFC 4975 §7.1.1). Default 16 KiB.
    pub max_write_bytes: usize,
    /// Unanswered chunks of one message. Default 16.
    pub chunk_window: usize,
    /// Unsettled messages under way. Default 1: the next begins when the one before is settled.
    pub message_window: usize,
    /// Answers and reports waiting to be written; more end the session. Default 256 KiB.
    pub max_control_bytes: usize,
    /// Time for the connection to come, and again for it to be bound. Default 30 s.
    pub connection_timeout: Duration,
    /// Time for a response after the last byte of a chunk (RFC 4975 §7.1.1). Default 30 s.
    pub transaction_timeout: Duration,
    /// Time for a success REPORT on a message that needs one, after its last byte and the last 200 for a part of it; behind
    /// relays more for what is large, unless silence counts as success. Default 30 s.
    pub report_timeout: Duration,
    /// Time that bytes may wait to be written because the peer does not read. Default 60 s.
    pub stall_timeout: Duration,
    /// Time without a byte in either direction and without a report that is awaited. Default 5 min.
    pub idle_timeout: Duration,
    /// Bytes a second that the peer has to bring while part of a head, a chunk or a message has come, over each
    /// [`SessionLimits::slow_period`]. Default 1024.
    pub min_bytes_per_second: u64,
    /// Whole seconds over which its rate is taken. Default 60 s.
    pub slow_period: Duration,
}

impl Default for SessionLimits {
    fn default() -> SessionLimits {
        SessionLimits {
            framing: FramingLimits::default(),
            max_incoming_message_bytes: 100 * 1024 * 1024,
            max_incoming_messages: 16,
            max_ranges_per_message: 256,
            max_held_transactions: 16,
            max_remembered_messages: 64,
            max_outgoing_messages: 64,
            max_chunk_bytes: 64 * 1024,
            max_write_bytes: 16 * 1024,
            chunk_window: 16,
            message_window: 1,
            max_control_bytes: 256 * 1024,
            connection_timeout: Duration::from_secs(30),
            transaction_timeout: Duration::from_secs(30),
            report_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(300),
            min_bytes_per_second: 1_024,
            slow_period: Duration::from_secs(60),
        }
    }
}
