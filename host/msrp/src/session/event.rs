//! What a session tells its host.

use bytes::Bytes;
use thiserror::Error;

use crate::byte_range::ByteRange;
use crate::framing::{FailureReport, FramingError, HeadError, Header, ReportStatus};
use crate::status::Status;

/// A message coming in, within its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncomingId(pub(super) u64);

/// A message going out, within its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutgoingId(pub(super) u64);

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// Message-ID, unique in the session.
    pub message_id: String,
    /// Content-Type.
    pub content_type: String,
    /// Further header fields, such as Content-Disposition.
    pub other_headers: Vec<Header>,
    /// Bytes of the content.
    pub total_bytes: u64,
    /// Ask for a success REPORT.
    pub success_report: bool,
    /// Which responses to ask for.
    pub failure_report: FailureReport,
}

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer has it: a 200 for every byte, or a success REPORT where there is no 200 or relays stand in between.
    Acknowledged,
    /// It was refused, or no answer came.
    Rejected {
        /// Why.
        status: Status,
        /// Who said so.
        origin: RejectionOrigin,
    },
    /// All was sent, nothing bad was heard, and nothing good either: no 200 and no success REPORT was to be had.
    Unreported,
    /// The session ended before a byte of it was sent.
    Unsent,
    /// The session ended in the middle.
    Partial {
        /// Content given to the connection.
        sent_bytes: u64,
        /// Content acknowledged from the first byte on.
        acknowledged_bytes: u64,
    },
    /// The host gave it up.
    Aborted,
}

/// Who refused a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionOrigin {
    /// A response.
    Response,
    /// A REPORT, perhaps from behind a relay.
    Report,
    /// Nobody: no answer came in time.
    Timeout,
}

/// Why a message that was coming in is not complete and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortReason {
    /// The sender ended a chunk with `#`.
    BySender,
    /// The session refused it.
    Refused(Status),
    /// The session ended first.
    SessionEnded,
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndReason {
    /// No connection within [`super::SessionLimits::connection_timeout`].
    #[error("the connection never came")]
    ConnectionNeverCame,
    /// A connection, but no request for this session within the same time.
    #[error("the connection was never bound to the session")]
    NeverBound,
    /// The connection is gone.
    #[error("the connection was lost")]
    Disconnected,
    /// [`super::Session::drain`] is done.
    #[error("the session was drained")]
    Drained,
    /// [`super::Session::close`].
    #[error("the session was closed")]
    Closed,
    /// The peer says that it knows no such session (481), that the session lives on another connection (506), or nothing at
    /// all to a SEND (408), as a relay reports of the next hop, too.
    #[error("the peer refused the session with {0}")]
    Refused(Status),
    /// The stream cannot be read on.
    #[error(transparent)]
    ProtocolError(#[from] FramingError),
    /// A request so malformed that it cannot be answered.
    #[error("a request cannot be answered: {0}")]
    Unanswerable(HeadError),
    /// The peer sends requests and does not read the answers.
    #[error("too many answers wait to be written")]
    TransmitQueueFull,
    /// The peer does not read.
    #[error("the peer stopped reading")]
    Stalled,
    /// Nothing happened for [`super::SessionLimits::idle_timeout`].
    #[error("the session was idle for too long")]
    Idle,
    /// What the peer began to send comes slower than [`super::SessionLimits::min_bytes_per_second`].
    #[error("what was coming came too slowly")]
    TooSlow,
}

/// What the host has to know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection belongs to the session now.
    Bound,
    /// A message begins.
    IncomingMessage {
        /// The message.
        message: IncomingId,
        /// Its Message-ID.
        message_id: String,
        /// Its Content-Type.
        content_type: String,
        /// Further header fields of its first chunk.
        other_headers: Vec<Header>,
        /// Its size, where the sender says so.
        total_bytes: Option<u64>,
        /// Whether a success REPORT will be sent on [`super::Session::accept`].
        success_report: bool,
        /// Which responses the sender wants.
        failure_report: FailureReport,
    },
    /// Content, to be written at an offset. Chunks come in any order and may overlap; the later writes over.
    IncomingData {
        /// The message.
        message: IncomingId,
        /// Offset of the first byte.
        offset: u64,
        /// Content.
        bytes: Bytes,
    },
    /// Every byte has come. Commit, then call [`super::Session::accept`], or [`super::Session::reject`]: the answer to the
    /// chunk that completed the message waits for it.
    IncomingComplete {
        /// The message.
        message: IncomingId,
        /// Its size.
        total_bytes: u64,
    },
    /// What has come of the message is to be thrown away.
    IncomingAborted {
        /// The message.
        message: IncomingId,
        /// Why.
        reason: AbortReason,
    },
    /// Content is wanted: answer with [`super::Session::supply`].
    NeedBody {
        /// The message.
        message: OutgoingId,
        /// Offset of the first byte wanted.
        offset: u64,
        /// At most so many bytes, at least one.
        max_bytes: usize,
    },
    /// A message that was to be sent is done with, one way or the other. Exactly one for each.
    MessageSettled {
        /// The message.
        message: OutgoingId,
        /// How it ended.
        outcome: Outcome,
    },
    /// A REPORT on a message that is settled already or was never sent here.
    UnmatchedReport {
        /// What it reports on.
        message_id: String,
        /// What it says.
        status: ReportStatus,
        /// Of which bytes.
        byte_range: Option<ByteRange>,
    },
    /// The session is over: the last event. Write what [`super::Session::poll_transmit`] still gives, then close the
    /// connection.
    Ended {
        /// Why.
        reason: EndReason,
    },
}
