//! Chunks on their way out (RFC 4975 §5.1, §7.1.1): begun, interrupted, ended.

use std::time::Instant;

use bytes::Bytes;

use super::sending::{ChunkInWriting, SentChunk};
use super::{Connection, OutgoingId, Session};
use crate::byte_range::ByteRange;
use crate::framing::{ContinuationFlag, FailureReport, Method, RequestHead, TransactionId, end_line, join};
use crate::uri::MsrpPath;

/// A chunk with more content than this must be interruptible (RFC 4975 §7.1.1).
const MAX_UNINTERRUPTIBLE_BYTES: usize = 2048;

impl Session {
    /// Whether content, or what ends a chunk, could be written now.
    pub(super) fn can_write_content(&self) -> bool {
        self.sending.writing.is_some() || self.next_to_write().is_some()
    }

    /// The next bytes: an answer if one waits and the chunk being written can be interrupted, else content.
    pub(super) fn next_write(&mut self, now: Instant) -> Option<Bytes> {
        match self.sending.writing.take() {
            Some(chunk) if chunk.is_abandoned => Some(self.end_chunk(now, chunk, ContinuationFlag::Abort)),
            Some(chunk) if chunk.is_interruptible && !self.control.is_empty() => {
                Some(self.end_chunk(now, chunk, ContinuationFlag::More))
            }
            Some(chunk) => Some(self.write_content(now, chunk)),
            None => self.next_control().or_else(|| self.begin_chunk(now)),
        }
    }

    /// The active side's first SEND, when it has no message to send (RFC 4975 §5.4).
    pub(super) fn send_binding_request(&mut self, now: Instant) {
        if !self.sending.messages.is_empty() {
            return;
        }
        let message_id = self.transaction_ids.next().0;
        let transaction_id = self.send_empty(message_id, ByteRange::whole(0), ContinuationFlag::Complete);
        let answer_until = Some(now + self.configuration.limits.transaction_timeout);
        self.sending.chunks.push_back(SentChunk {
            transaction_id,
            message: None,
            start: 0,
            end: 0,
            is_answered: true,
            answer_until,
        });
    }

    /// Queues a SEND without content.
    pub(super) fn send_empty(
        &mut self,
        message_id: String,
        byte_range: ByteRange,
        flag: ContinuationFlag,
    ) -> TransactionId {
        let transaction_id = self.transaction_ids.next();
        let head = RequestHead::of_ours(
            transaction_id.clone(),
            Method::Send,
            self.configuration.remote_path.clone(),
            MsrpPath::from(self.configuration.local_uri.clone()),
            message_id,
            byte_range,
        );
        self.push_control(Bytes::from(head.to_wire() + &end_line(&transaction_id, flag)));
        transaction_id
    }

    /// The message that a chunk can be made of now.
    fn next_to_write(&self) -> Option<OutgoingId> {
        if self.connection != Connection::Bound {
            return None;
        }
        let window = self.configuration.limits.message_window;
        let outgoing = self.sending.messages.iter().take(window).find(|outgoing| !outgoing.is_all_sent())?;
        let has_content = !outgoing.content.is_empty() || outgoing.message.total_bytes == 0;
        (has_content && self.window_is_open(outgoing.id)).then_some(outgoing.id)
    }

    pub(super) fn window_is_open(&self, id: OutgoingId) -> bool {
        let unanswered = self.sending.chunks.iter().filter(|chunk| chunk.is_answered && chunk.message == Some(id));
        unanswered.count() < self.configuration.limits.chunk_window.max(1)
    }

    fn begin_chunk(&mut self, now: Instant) -> Option<Bytes> {
        let id = self.next_to_write()?;
        let outgoing = self.sending.messages.iter_mut().find(|outgoing| outgoing.id == id)?;
        let content = outgoing.content.pop_front().unwrap_or_default();
        outgoing.is_begun = true;
        let start = outgoing.chunked;
        outgoing.chunked = start.saturating_add(content.len() as u64);
        let (end, total) = (outgoing.chunked, outgoing.message.total_bytes);
        let is_interruptible = content.len() > MAX_UNINTERRUPTIBLE_BYTES;
        let byte_range =
            ByteRange { start: start.saturating_add(1), end: (!is_interruptible).then_some(end), total: Some(total) };
        let message = &outgoing.message;
        let transaction_id = self.transaction_ids.next_absent_from(&content);
        let mut head = RequestHead::of_ours(
            transaction_id.clone(),
            Method::Send,
            self.configuration.remote_path.clone(),
            MsrpPath::from(self.configuration.local_uri.clone()),
            message.message_id.clone(),
            byte_range,
        );
        head.success_report = message.success_report;
        head.failure_report = message.failure_report;
        head.content_type = Some(message.content_type.clone());
        head.other_headers.clone_from(&message.other_headers);
        let is_answered = message.failure_report == FailureReport::Yes;
        if message.failure_report != FailureReport::No {
            let chunk = SentChunk {
                transaction_id: transaction_id.clone(),
                message: Some(id),
                start,
                end,
                is_answered,
                answer_until: None,
            };
            self.sending.push_chunk(chunk);
        }
        let head = head.to_wire();
        let chunk =
            ChunkInWriting { message: id, transaction_id, head, content, is_interruptible, is_abandoned: false };
        Some(self.write_content(now, chunk))
    }

    /// Writes the next piece of a chunk, with the head before the first and the end-line after the last.
    fn write_content(&mut self, now: Instant, mut chunk: ChunkInWriting) -> Bytes {
        let max_write_bytes = self.configuration.limits.max_write_bytes.max(1);
        let piece = chunk.content.split_to(chunk.content.len().min(max_write_bytes));
        let head = std::mem::take(&mut chunk.head);
        if let Some(outgoing) = self.sending.find(chunk.message) {
            outgoing.written = outgoing.written.saturating_add(piece.len() as u64);
        }
        if !chunk.content.is_empty() {
            self.sending.writing = Some(chunk);
            return join([head.as_bytes(), &piece, &[]]);
        }
        let is_last =
            self.sending.find(chunk.message).is_some_and(|outgoing| outgoing.written == outgoing.message.total_bytes);
        let flag = if is_last { ContinuationFlag::Complete } else { ContinuationFlag::More };
        let end = self.end_chunk(now, chunk, flag);
        join([head.as_bytes(), &piece, &end])
    }

    /// Ends a chunk, perhaps before its content is all written: what is left goes into the next one.
    fn end_chunk(&mut self, now: Instant, chunk: ChunkInWriting, flag: ContinuationFlag) -> Bytes {
        let ChunkInWriting { message, transaction_id, content, .. } = chunk;
        let mut written = None;
        if let Some(outgoing) = self.sending.messages.iter_mut().find(|outgoing| outgoing.id == message) {
            outgoing.chunked = outgoing.written;
            written = Some(outgoing.written);
            if !content.is_empty() {
                outgoing.content.push_front(content);
            }
            if flag == ContinuationFlag::Complete {
                outgoing.last_byte_at = Some(now);
            }
        }
        let answer_until = now + self.configuration.limits.transaction_timeout;
        let sent = self.sending.chunks.iter_mut().rev().find(|sent| sent.transaction_id == transaction_id);
        if let (Some(sent), Some(written)) = (sent, written) {
            sent.end = written;
            sent.answer_until = sent.is_answered.then_some(answer_until);
        }
        if flag == ContinuationFlag::Complete {
            self.settle_if_done(message);
        }
        Bytes::from(format!("\r\n{}", end_line(&transaction_id, flag)))
    }
}
