//! CPIM messages (RFC 3862): a header block, an empty line, a MIME part.
//!
//! Tolerated in what comes from others: LF line ends, `Content-type` in any case, one empty line too many between the
//! blocks.

mod build;
mod parse;

use std::ops::Range;

use thiserror::Error;

pub use build::{Builder, escape};
pub use parse::{CpimMessage, Prefix};

use crate::imdn::DispositionNotification;

/// Namespace of IMDN headers (RFC 5438 §6).
pub const IMDN_NAMESPACE: &str = "urn:ietf:params:imdn";
/// Media type of a CPIM message.
pub const CONTENT_TYPE: &str = "message/cpim";
/// Largest header part, both blocks together.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Most headers, both blocks together.
pub const MAX_HEADERS: usize = 128;

/// Why bytes are no CPIM message. A request gets 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CpimError {
    /// The header blocks do not end.
    #[error("CPIM header blocks without an end")]
    Unfinished,
    /// A line that is no header.
    #[error("malformed CPIM header")]
    Syntax,
    /// Over [`MAX_HEADER_BYTES`] or [`MAX_HEADERS`].
    #[error("CPIM header blocks too large")]
    TooLarge,
    /// The MIME part has no Content-Type.
    #[error("CPIM content without a type")]
    NoContentType,
}

/// A message header: its namespace, name and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The namespace bound to the prefix; empty for CPIM's own headers.
    pub namespace: String,
    /// Name without prefix.
    pub name: String,
    /// Value with `\` escapes undone.
    pub value: String,
    /// Where the value stands.
    pub value_range: Range<usize>,
}

/// The IMDN headers of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImdnHeaders {
    /// Message-ID.
    pub message_id: Option<String>,
    /// Disposition-Notification.
    pub disposition_notification: DispositionNotification,
    /// IMDN-Record-Route, in order.
    pub record_route: Vec<String>,
    /// IMDN-Route, in order.
    pub route: Vec<String>,
    /// Original-To.
    pub original_to: Option<String>,
}

/// The URI in a CPIM address such as `Bob <sip:bob@example.org>`; a bare URI is taken as it is.
#[must_use]
pub fn address_uri(value: &str) -> &str {
    match (value.rfind('<'), value.rfind('>')) {
        (Some(open), Some(close)) if open < close => value.get(open + 1..close).unwrap_or(value),
        _ => value.trim(),
    }
}
