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
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A request whose content comes.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) target: LegId,
    /// As it came.
    head: RequestHead,
    /// As it goes on: without our URI in To-Path and with it in From-Path (RFC 4976 §6.4.1).
    onward: RequestHead,
    uri: MsrpUri,
    /// Offset of what is held.
    offset: u64,
    held: BytesMut,
    /// Nobody is there any more: what still comes is dropped.
    is_lost: bool,
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
    /// Which frame of its leg it is, the first being 1.
    pub(super) frame: u64,
    /// Until when an answer is awaited, once it is written.
    pub(super) until: Option<Instant>,
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
        Some(Passing { target, head, onward, uri, offset, held: BytesMut::new(), is_lost: false })
    }

    pub(super) fn hold(&mut self, bytes: &[u8]) {
        if !self.is_lost {
            self.held.extend_from_slice(bytes);
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// A leg is lost. Where this goes there and failures are to be reported: what is to be reported of.
    pub(super) fn lose(&mut self, leg: LegId, from: LegId) -> Option<Sent> {
        if self.target != leg || self.is_lost {
            return None;
        }
        self.is_lost = true;
        self.held.clear();
        let total = self.head.byte_range.and_then(|range| range.total);
        let rest = ByteRange { start: self.offset.saturating_add(1), end: None, total };
        self.awaited(self.head.transaction_id.clone(), from, Some(rest))
    }

    /// What the answer to a chunk is awaited with; none: nothing is said of it.
    fn awaited(&self, transaction_id: TransactionId, from: LegId, byte_range: Option<ByteRange>) -> Option<Sent> {
        let is_report = self.head.method == Method::Report;
        (!is_report && self.head.failure_report != FailureReport::No).then(|| Sent {
            leg: self.target,
            transaction_id,
            from,
            back: self.head.from_path.clone(),
            uri: self.uri.clone(),
            message_id: self.head.message_id.clone(),
            byte_range,
            frame: 0,
            until: None,
            failure_report: self.head.failure_report,
        })
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
        from: LegId,
    ) -> (Bytes, Option<Sent>) {
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
        let sent = self.awaited(transaction_id, from, self.onward.byte_range);
        (join([head.as_bytes(), &piece, end.as_bytes()]), sent)
    }

    /// What the previous hop gets once all of it came.
    pub(super) fn answer(&self) -> Option<Bytes> {
        let is_answered = self.head.method == Method::Send && self.head.failure_report == FailureReport::Yes;
        is_answered.then(|| answer_to(&self.head, Status::OK))
    }
}
