//! Whose a new connection is, from its first bytes.

use bytes::Bytes;

use super::head::{StartLine, parse_start_line, split_header};
use super::{FramingLimits, Method, TransactionId};
use crate::status::Status;
use crate::uri::MsrpPath;

/// The first request on a connection, as far as an acceptor needs it to find the session or to refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeekedRequest {
    /// Transaction.
    pub transaction_id: TransactionId,
    /// Method.
    pub method: Method,
    /// The path whose first URI is ours.
    pub to_path: MsrpPath,
    /// Where an answer goes.
    pub from_path: MsrpPath,
}

impl PeekedRequest {
    /// Names the session; see [`crate::session_id::shard_of_session_id`].
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.to_path.first().session_id.as_deref()
    }

    /// The answer of an acceptor that knows no such session (481) or whose session has a connection already (506); a REPORT
    /// has none. Close the connection after writing it.
    #[must_use]
    pub fn refusal(&self, status: Status) -> Option<Bytes> {
        let whole_path = !matches!(self.method, Method::Send);
        (self.method != Method::Report)
            .then(|| super::write::response(&self.transaction_id, status, &self.to_path, &self.from_path, whole_path))
    }
}

/// What the first bytes of a connection say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Nothing yet; read more.
    NeedMore,
    /// A request with both paths. Hand the connection on together with all bytes read.
    Found(Box<PeekedRequest>),
    /// No request, or beyond the limits: close.
    Invalid,
}

/// Reads as much of the first request as names the session. `bytes` is all that came so far; nothing is consumed.
#[must_use]
pub fn peek_to_path(bytes: &[u8], limits: &FramingLimits) -> Peek {
    read(bytes, limits).unwrap_or(Peek::Invalid)
}

fn read(bytes: &[u8], limits: &FramingLimits) -> Option<Peek> {
    let mut rest = bytes;
    let mut start = None;
    let (mut to_path, mut from_path) = (None::<MsrpPath>, None::<MsrpPath>);
    let mut lines: usize = 0;
    while let Some(found) = memchr::memchr(b'\n', rest) {
        let line = rest.get(..found)?.strip_suffix(b"\r")?;
        rest = rest.get(found.saturating_add(1)..)?;
        let used = bytes.len().saturating_sub(rest.len());
        if line.len().saturating_add(2) > limits.max_line_bytes
            || used > limits.max_head_bytes
            || lines > limits.max_headers
        {
            return None;
        }
        if start.is_none() {
            if !line.is_empty() {
                let StartLine::Request(transaction_id, method) = parse_start_line(line).ok()? else { return None };
                start = Some((transaction_id, method));
            }
            continue;
        }
        lines = lines.saturating_add(1);
        let (name, value) = split_header(line).ok()?;
        if name.eq_ignore_ascii_case("To-Path") {
            to_path = Some(value.parse().ok()?);
        } else if name.eq_ignore_ascii_case("From-Path") {
            from_path = Some(value.parse().ok()?);
        }
        if let (Some(to_path), Some(from_path)) = (&to_path, &from_path) {
            let (transaction_id, method) = start?;
            let (to_path, from_path) = (to_path.clone(), from_path.clone());
            return Some(Peek::Found(Box::new(PeekedRequest { transaction_id, method, to_path, from_path })));
        }
    }
    if start.is_none() && !b"MSRP ".starts_with(rest.get(..rest.len().min(5))?) && !rest.starts_with(b"\r") {
        return None;
    }
    let too_long = rest.len() > limits.max_line_bytes || bytes.len() > limits.max_head_bytes;
    if too_long { None } else { Some(Peek::NeedMore) }
}
