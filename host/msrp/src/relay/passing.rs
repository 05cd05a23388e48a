//! A request on its way through.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::LegId;
use crate::byte_range::ByteRange;
use crate::framing::{ContinuationFlag, FailureReport, Method, RequestHead, TransactionId, answer_to, end_line, join};
use crate::status::Status;
use crate::uri::{MsrpPath, MsrpUri};

/// Content that is passed on at a time: what further relays have room for.
const PIECE_BYTES: usize = 10 * 1024;
/// Time for a response of the next hop (RFC 4975 §7.1.1).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A request whose content comes.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) target: LegId,
    /// As it came.
    head: RequestHead,
    /// As it goes on: without our URI in To-Path and with it in From-Path (RFC 4976 §6.1).
    onward: RequestHead,
    uri: MsrpUri,
    /// Offset of what is held.
    offset: u64,
    held: BytesMut,
}

/// A chunk that was passed on, and whose answer is awaited.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) leg: LegId,
    pub(super) transaction_id: TransactionId,
    /// Where it came from, and the way back there.
    pub(super) from: LegId,
    pub(super) back: MsrpPath,
    /// Ours.
    pub(super) uri: MsrpUri,
    pub(super) message_id: Option<String>,
    pub(super) byte_range: Option<ByteRange>,
    pub(super) until: Instant,
    failure_report: FailureReport,
}

impl Sent {
    /// Whether silence is a failure.
    pub(super) fn is_answered(&self) -> bool {
        self.failure_report == FailureReport::Yes
    }
}

impl Passing {
    /// None: the path that it would have is too long.
    pub(super) fn new(head: RequestHead, target: LegId, uri: MsrpUri) -> Option<Passing> {
        let mut onward = head.clone();
        onward.to_path = MsrpPath::new(head.to_path.iter().skip(1).cloned())?;
        onward.from_path = MsrpPath::new([&uri].into_iter().chain(head.from_path.iter()).cloned())?;
        let offset = head.byte_range.unwrap_or(ByteRange::UNSTATED).offset();
        Some(Passing { target, head, onward, uri, offset, held: BytesMut::new() })
    }

    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// A piece that is certainly not the last.
    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        (self.held.len() > PIECE_BYTES).then(|| self.held.split_to(PIECE_BYTES).freeze())
    }

    /// What is left.
    pub(super) fn last_piece(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    /// A piece as a chunk, and what its answer is awaited with.
    pub(super) fn write(
        &mut self,
        transaction_id: TransactionId,
        piece: Bytes,
        flag: ContinuationFlag,
        (now, from): (Instant, LegId),
    ) -> (Bytes, Option<Sent>) {
        let is_report = self.head.method == Method::Report;
        let begins_at = self.offset;
        self.offset = begins_at.saturating_add(piece.len() as u64);
        let has_content = !piece.is_empty();
        if has_content {
            let total = self.head.byte_range.and_then(|range| range.total);
            let start = begins_at.saturating_add(1);
            self.onward.byte_range = Some(ByteRange { start, end: Some(self.offset), total });
        }
        self.onward.transaction_id = transaction_id.clone();
        // What had no content goes on without any, as what binds a connection does.
        let mut head = self.onward.to_wire();
        let is_separated = self.onward.content_type.is_some();
        if has_content && !is_separated {
            head.push_str("\r\n");
        }
        let line_end = if has_content || is_separated { "\r\n" } else { "" };
        let end = format!("{line_end}{}", end_line(&transaction_id, flag));
        let sent = (!is_report && self.head.failure_report != FailureReport::No).then(|| Sent {
            leg: self.target,
            transaction_id,
            from,
            back: self.head.from_path.clone(),
            uri: self.uri.clone(),
            message_id: self.head.message_id.clone(),
            byte_range: self.onward.byte_range,
            until: now + ANSWER_TIMEOUT,
            failure_report: self.head.failure_report,
        });
        (join([head.as_bytes(), &piece, end.as_bytes()]), sent)
    }

    /// What the previous hop gets once all of it came.
    pub(super) fn answer(&self) -> Option<Bytes> {
        let is_answered = self.head.method == Method::Send && self.head.failure_report == FailureReport::Yes;
        is_answered.then(|| answer_to(&self.head, Status::OK))
    }
}
