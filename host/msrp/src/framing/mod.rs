//! The MSRP byte stream (RFC 4975 §5.1, §7, §9): requests, their content piece by piece, responses.
//!
//! * [`Framer`] takes bytes as they come and gives [`Frame`]s; it never keeps the content of a chunk.
//! * [`RequestHead`] and [`Response`] are read from and written to the wire.
//! * [`peek_to_path`] tells whose a new connection is from its first bytes.

mod framer;
mod head;
mod limits;
mod peek;
mod write;

use bytes::Bytes;
use thiserror::Error;

pub use self::framer::Framer;
pub use self::limits::FramingLimits;
pub use self::peek::{Peek, PeekedRequest, peek_to_path};
pub use self::write::{FrameWriter, InvalidHeader, answer_to, answer_to_bad, check_header, check_message_id, end_line};

pub(crate) use self::write::{check_value, join, response};
use crate::byte_range::{ByteRange, ByteRangeError};
use crate::status::Status;
use crate::uri::{MsrpPath, UriError};

/// Hyphens before the transaction id in an end-line.
pub(crate) const END_LINE_HYPHENS: &str = "-------";

/// Names a transaction on its connection (RFC 4975 §7.1); also what ends a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub(crate) String);

impl TransactionId {
    /// An id of up to 64 `ident` characters.
    ///
    /// Deviation: RFC 4975 §9 wants 4 to 32, the first alphanumeric; others are taken from peers all the same.
    #[must_use]
    pub fn new(text: &str) -> Option<TransactionId> {
        let is_ident = |byte: u8| byte.is_ascii_alphanumeric() || b".-+%=_".contains(&byte);
        ((1..=64).contains(&text.len()) && text.bytes().all(is_ident)).then(|| TransactionId(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Request methods.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// SEND (§7.1).
    Send,
    /// REPORT (§7.1.2): never answered.
    Report,
    /// Any other, such as AUTH (RFC 4976) or NICKNAME (RFC 7701): answered 501.
    Other(String),
}

impl Method {
    /// As on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Method::Send => "SEND",
            Method::Report => "REPORT",
            Method::Other(name) => name,
        }
    }
}

/// Which answers a sender wants (RFC 4975 §7.1.1, Failure-Report).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FailureReport {
    /// Every response.
    #[default]
    Yes,
    /// Only responses that say something failed.
    Partial,
    /// None.
    No,
}

impl FailureReport {
    /// Whether a SEND that asks for this gets a response of this status (§7.2).
    #[must_use]
    pub fn wants(self, status: Status) -> bool {
        match self {
            FailureReport::Yes => true,
            FailureReport::Partial => !status.is_success(),
            FailureReport::No => false,
        }
    }

    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FailureReport::Yes => "yes",
            FailureReport::Partial => "partial",
            FailureReport::No => "no",
        }
    }
}

/// What the end-line says of the message (§5.1, §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContinuationFlag {
    /// `$`: this chunk holds the last byte of the message.
    Complete,
    /// `+`: more chunks follow.
    More,
    /// `#`: the sender gave the message up.
    Abort,
}

impl ContinuationFlag {
    /// As on the wire.
    #[must_use]
    pub fn as_byte(self) -> u8 {
        match self {
            ContinuationFlag::Complete => b'$',
            ContinuationFlag::More => b'+',
            ContinuationFlag::Abort => b'#',
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<ContinuationFlag> {
        match byte {
            b'$' => Some(ContinuationFlag::Complete),
            b'+' => Some(ContinuationFlag::More),
            b'#' => Some(ContinuationFlag::Abort),
            _ => None,
        }
    }
}

/// A header field without a meaning of its own here: MIME headers and extensions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Name as written; its case does not matter.
    pub name: String,
    /// Value without surrounding blanks.
    pub value: String,
}

/// The Status header field of a REPORT (§7.1.2, §9).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReportStatus {
    /// Namespace; 0 is RFC 4975's own.
    pub namespace: u16,
    /// Status.
    pub status: Status,
}

/// A request up to its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Transaction.
    pub transaction_id: TransactionId,
    /// Method.
    pub method: Method,
    /// Where it goes.
    pub to_path: MsrpPath,
    /// Where it comes from; answers go there.
    pub from_path: MsrpPath,
    /// The message that this is a chunk of, or that is reported on.
    pub message_id: Option<String>,
    /// Which bytes of the message follow.
    pub byte_range: Option<ByteRange>,
    /// `Success-Report: yes`.
    pub success_report: bool,
    /// Failure-Report.
    pub failure_report: FailureReport,
    /// Status of a REPORT.
    pub status: Option<ReportStatus>,
    /// Content-Type; a request with content has one.
    pub content_type: Option<String>,
    /// All else in order.
    pub other_headers: Vec<Header>,
}

/// A response (§7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The transaction that is answered.
    pub transaction_id: TransactionId,
    /// Status.
    pub status: Status,
    /// Text after the status.
    pub comment: String,
    /// Where it goes.
    pub to_path: MsrpPath,
    /// Where it comes from.
    pub from_path: MsrpPath,
    /// All else in order: what answers AUTH (RFC 4976).
    pub other_headers: Vec<Header>,
}

/// A request whose end can be found but whose head is wrong. Its content is skipped; nothing more is given of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// Transaction.
    pub transaction_id: TransactionId,
    /// Method; a bad REPORT is not answered either.
    pub method: Method,
    /// Where it went, if that could be read.
    pub to_path: Option<MsrpPath>,
    /// Where it came from; without it no answer is possible.
    pub from_path: Option<MsrpPath>,
    /// Whether an answer is wanted.
    pub failure_report: FailureReport,
    /// What is wrong.
    pub error: HeadError,
}

/// What is wrong with a request's head.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// A header field that is needed.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A header field that may stand there once.
    #[error("{0} is given twice")]
    Repeated(&'static str),
    /// To-Path or From-Path.
    #[error("{0}: {1}")]
    Path(&'static str, UriError),
    /// Byte-Range.
    #[error(transparent)]
    ByteRange(#[from] ByteRangeError),
    /// A header field with another value than it can have.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// A line that is no header field.
    #[error("a line is no header field")]
    NotAHeader,
}

impl HeadError {
    /// What the request is answered.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            HeadError::ByteRange(error) => error.status(),
            _ => Status::BAD_REQUEST,
        }
    }
}

/// Why a stream cannot go on: where the next request begins is not known any more. The connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FramingError {
    /// The bytes are no start line of MSRP.
    #[error("not an MSRP start line")]
    StartLine,
    /// A line that does not end in CRLF, or has control bytes inside.
    #[error("a line is malformed")]
    Line,
    /// [`FramingLimits::max_line_bytes`].
    #[error("a line is too long")]
    LineTooLong,
    /// [`FramingLimits::max_headers`].
    #[error("too many header fields")]
    TooManyHeaders,
    /// [`FramingLimits::max_head_bytes`].
    #[error("the header fields are too large")]
    HeadTooLarge,
    /// [`FramingLimits::max_chunk_bytes`].
    #[error("the chunk is too large")]
    ChunkTooLarge,
    /// An end-line that names another transaction.
    #[error("the end-line names another transaction")]
    EndLine,
    /// A response that is incomplete or has content.
    #[error("a response is malformed")]
    Response,
}

/// What a [`Framer`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A request begins. Its content follows as [`Frame::Content`], its end as [`Frame::End`].
    Request(Box<RequestHead>),
    /// Some of the content, never empty; the CRLF before the end-line is no part of it.
    Content(Bytes),
    /// The request ends.
    End(ContinuationFlag),
    /// A whole response.
    Response(Box<Response>),
    /// A request to be refused; no content and no end follow.
    BadRequest(Box<BadRequest>),
}
