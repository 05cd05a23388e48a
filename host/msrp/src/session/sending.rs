//! The sending half (RFC 4975 §7.1).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use super::{Connection, EndReason, Event, Outcome, OutgoingId, OutgoingMessage, RejectionOrigin, Session};
use crate::byte_range::ByteRange;
use crate::framing::{
    ContinuationFlag, FailureReport, RequestHead, Response, TransactionId, check_header, check_message_id, check_value,
};
use crate::reassembly::ReceivedRanges;
use crate::status::Status;

/// Unanswered chunks of messages that want only errors; beyond it the oldest are forgotten.
const MAX_SILENT_CHUNKS: usize = 4096;

/// Acknowledged pieces of one message; more can only come from reports that make no sense.
const MAX_ACKNOWLEDGED_RANGES: usize = 1024;

/// Content that a link behind a relay brings in a second, at least: the relay took all of it, and passes it on.
const BYTES_PER_SECOND_BEHIND_RELAYS: u64 = 16 * 1024;

/// Longest time for that.
const MAX_TIME_BEHIND_RELAYS: Duration = Duration::from_secs(600);

/// Why a message is not taken for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// The session is over, or being drained.
    #[error("the session is over")]
    SessionEnded,
    /// The negotiated direction does not let us send.
    #[error("the session does not send")]
    NotSending,
    /// [`super::SessionLimits::max_outgoing_messages`].
    #[error("too many messages wait to be sent")]
    QueueFull,
    /// The peer's `a=max-size`.
    #[error("the message is larger than the peer takes")]
    TooLargeForPeer,
    /// The Message-ID, the Content-Type or another header field cannot be written.
    #[error("a header field cannot be written")]
    InvalidHeader,
    /// A message of this session has that Message-ID.
    #[error("the Message-ID is in use")]
    RepeatedMessageId,
}

/// Why content is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SupplyError {
    /// The message is settled: stop reading its content.
    #[error("the message is settled")]
    Settled,
    /// No content was asked for.
    #[error("no content was asked for")]
    NotAsked,
    /// None, or more than was asked for.
    #[error("the content has another size than was asked for")]
    WrongSize,
}

/// Messages that are going out.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// Unsettled ones in order.
    pub(super) messages: VecDeque<Outgoing>,
    /// Chunks that an answer may still come for, oldest first.
    pub(super) chunks: VecDeque<SentChunk>,
    pub(super) writing: Option<ChunkInWriting>,
    pub(super) next_id: u64,
}

/// | state | on | goes to |
/// |---|---|---|
/// | waiting | its turn: earlier messages are settled (message window) | under way |
/// | under way | content supplied, chunks written | all sent |
/// | all sent | 200 for every byte, or the REPORT that is needed | settled: Acknowledged |
/// | under way, all sent | an error response, a failure REPORT, 30 s without an answer | settled: Rejected |
/// | any | the end of the session | settled: Unsent, Partial |
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) id: OutgoingId,
    pub(super) message: OutgoingMessage,
    /// Supplied content that is not in a chunk yet.
    pub(super) content: VecDeque<Bytes>,
    /// Content asked for and not supplied yet.
    pub(super) asked_bytes: Option<usize>,
    /// Content supplied.
    pub(super) supplied: u64,
    /// Content in chunks, begun ones included.
    pub(super) chunked: u64,
    /// Content written.
    pub(super) written: u64,
    /// A chunk was begun.
    pub(super) is_begun: bool,
    pub(super) acknowledged: ReceivedRanges,
    pub(super) reported: ReceivedRanges,
    /// When its last byte went out, or later the next hop last said that it has some of it.
    pub(super) last_byte_at: Option<Instant>,
}

/// A SEND that went out, or is going.
#[derive(Debug)]
pub(super) struct SentChunk {
    pub(super) transaction_id: TransactionId,
    /// None: the empty SEND that binds the connection.
    pub(super) message: Option<OutgoingId>,
    pub(super) start: u64,
    pub(super) end: u64,
    /// Whether a 200 comes for it.
    pub(super) is_answered: bool,
    /// Set after its last byte.
    pub(super) answer_until: Option<Instant>,
}

/// The chunk whose content is being written. It has at least one byte left.
#[derive(Debug)]
pub(super) struct ChunkInWriting {
    pub(super) message: OutgoingId,
    pub(super) transaction_id: TransactionId,
    /// To be written before the content.
    pub(super) head: String,
    pub(super) content: Bytes,
    pub(super) is_interruptible: bool,
    /// The message is settled: end it with `#`.
    pub(super) is_abandoned: bool,
}

impl Outgoing {
    fn is_all_supplied(&self) -> bool {
        self.supplied == self.message.total_bytes
    }

    pub(super) fn is_all_sent(&self) -> bool {
        self.last_byte_at.is_some()
    }

    /// A 200 counts only from the endpoint itself, and only where one is given.
    fn needs_report(&self, has_relays: bool) -> bool {
        self.message.failure_report != FailureReport::Yes || (self.message.success_report && has_relays)
    }

    fn held_bytes(&self) -> usize {
        self.content.iter().map(Bytes::len).sum()
    }

    fn outcome_of_session_end(&self) -> Outcome {
        if !self.is_begun {
            return Outcome::Unsent;
        }
        let acknowledged_bytes = self.acknowledged.contiguous_bytes().max(self.reported.contiguous_bytes());
        Outcome::Partial { sent_bytes: self.written, acknowledged_bytes }
    }
}

impl Session {
    /// Queues a message. Its content is asked for with [`Event::NeedBody`] when its turn comes; how it ends is said once with
    /// [`Event::MessageSettled`].
    ///
    /// # Errors
    /// [`SendError`]; nothing is queued.
    pub fn send_message(&mut self, now: Instant, message: OutgoingMessage) -> Result<OutgoingId, SendError> {
        if self.is_ended() || self.draining.is_some() {
            return Err(SendError::SessionEnded);
        }
        self.check_message(&message)?;
        let id = OutgoingId(self.sending.next_id);
        self.sending.next_id = self.sending.next_id.wrapping_add(1);
        self.sending.messages.push_back(Outgoing {
            id,
            message,
            content: VecDeque::new(),
            asked_bytes: None,
            supplied: 0,
            chunked: 0,
            written: 0,
            is_begun: false,
            acknowledged: ReceivedRanges::default(),
            reported: ReceivedRanges::default(),
            last_byte_at: None,
        });
        self.advance(now);
        Ok(id)
    }

    /// Gives content that [`Event::NeedBody`] asked for: from one byte to as many as were asked for.
    ///
    /// # Errors
    /// [`SupplyError`]; nothing is taken.
    pub fn supply(&mut self, now: Instant, message: OutgoingId, bytes: Bytes) -> Result<(), SupplyError> {
        let outgoing = self.sending.find(message).ok_or(SupplyError::Settled)?;
        let asked = outgoing.asked_bytes.ok_or(SupplyError::NotAsked)?;
        if bytes.is_empty() || bytes.len() > asked {
            return Err(SupplyError::WrongSize);
        }
        outgoing.asked_bytes = None;
        outgoing.supplied = outgoing.supplied.saturating_add(bytes.len() as u64);
        outgoing.content.push_back(bytes);
        self.advance(now);
        Ok(())
    }

    /// Gives a message up; the peer is told with `#` when it has part of it. Nothing happens when it is settled already.
    pub fn abort_message(&mut self, now: Instant, message: OutgoingId) {
        self.give_up(message, Outcome::Aborted);
        self.advance(now);
    }

    /// Settles what only the host could complete: nothing more is asked of it.
    pub(super) fn give_up_unsupplied(&mut self) {
        let unsupplied = self.sending.messages.iter().filter(|outgoing| !outgoing.is_all_supplied());
        for (id, outcome) in
            unsupplied.map(|outgoing| (outgoing.id, outgoing.outcome_of_session_end())).collect::<Vec<_>>()
        {
            self.give_up(id, outcome);
        }
    }

    pub(super) fn settle_all(&mut self) {
        self.sending.writing = None;
        self.sending.chunks.clear();
        self.events.retain(|event| !matches!(event, Event::NeedBody { .. }));
        for outgoing in std::mem::take(&mut self.sending.messages) {
            let outcome = outgoing.outcome_of_session_end();
            self.events.push_back(Event::MessageSettled { message: outgoing.id, outcome });
        }
    }

    /// Asks for content when the message under way has none left and may send more.
    pub(super) fn request_content(&mut self) {
        if self.connection != Connection::Bound || self.draining.is_some() {
            return;
        }
        let Some(outgoing) = self.sending.next_unsupplied(self.configuration.limits.message_window) else { return };
        let id = outgoing.id;
        if outgoing.asked_bytes.is_some() || !outgoing.content.is_empty() || !self.window_is_open(id) {
            return;
        }
        let max_chunk_bytes = self.configuration.limits.max_chunk_bytes.max(1);
        let Some(outgoing) = self.sending.find(id) else { return };
        let left = outgoing.message.total_bytes.saturating_sub(outgoing.supplied);
        let max_bytes = usize::try_from(left).unwrap_or(usize::MAX).min(max_chunk_bytes);
        outgoing.asked_bytes = Some(max_bytes);
        let offset = outgoing.supplied;
        self.events.push_back(Event::NeedBody { message: id, offset, max_bytes });
    }

    pub(super) fn response(&mut self, now: Instant, response: &Response) {
        let known = self.sending.chunks.iter().position(|chunk| chunk.transaction_id == response.transaction_id);
        // Matched by transaction id alone; what matches nothing is dropped (RFC 4975 §7.2).
        let Some(at) = known else { return };
        let is_written =
            self.sending.chunks.get(at).is_some_and(|chunk| chunk.answer_until.is_some() || !chunk.is_answered);
        if response.status.is_success() && !is_written {
            return;
        }
        let Some(chunk) = self.sending.chunks.remove(at) else { return };
        let status = response.status;
        match chunk.message {
            Some(id) if status.is_success() => {
                if let Some(outgoing) = self.sending.find(id) {
                    // Only a sender of nonsense could exceed the number of ranges; the message then times out.
                    let _ = outgoing.acknowledged.insert(chunk.start, chunk.end, MAX_ACKNOWLEDGED_RANGES);
                }
                self.await_the_rest(now, id);
                self.settle_if_done(id);
            }
            Some(id) => self.reject_outgoing(id, status, RejectionOrigin::Response),
            None => {}
        }
        if status.ends_session() {
            self.end(EndReason::Refused(status));
        }
    }

    /// What is answered shows that what is behind it gets on: a slow link may have minutes of it in its buffers, which count as
    /// written here.
    fn await_the_rest(&mut self, now: Instant, id: OutgoingId) {
        let until = now + self.configuration.limits.transaction_timeout;
        for chunk in self.sending.chunks.iter_mut().filter(|chunk| chunk.message == Some(id)) {
            chunk.answer_until = chunk.answer_until.map(|at| at.max(until));
        }
        if let Some(outgoing) = self.sending.find(id) {
            outgoing.last_byte_at = outgoing.last_byte_at.map(|at| at.max(now));
        }
    }

    pub(super) fn incoming_report(&mut self, head: RequestHead) {
        let (Some(message_id), Some(report)) = (head.message_id, head.status) else { return };
        let found = self.sending.messages.iter_mut().find(|outgoing| outgoing.message.message_id == message_id);
        let Some(outgoing) = found.filter(|outgoing| outgoing.is_begun && report.namespace == 0) else {
            let byte_range = head.byte_range;
            self.events.push_back(Event::UnmatchedReport { message_id, status: report, byte_range });
            return;
        };
        let id = outgoing.id;
        if !report.status.is_success() {
            self.reject_outgoing(id, report.status, RejectionOrigin::Report);
            if report.status.ends_session() {
                self.end(EndReason::Refused(report.status));
            }
            return;
        }
        let range = head.byte_range.unwrap_or(ByteRange::UNSTATED);
        // A report without an end speaks of all that was sent, and none can speak of more.
        let end = range.end.unwrap_or(outgoing.written).min(outgoing.written);
        let _ = outgoing.reported.insert(range.offset(), end, MAX_ACKNOWLEDGED_RANGES);
        self.settle_if_done(id);
    }

    /// Settles what has waited for an answer too long.
    pub(super) fn settle_overdue(&mut self, now: Instant) {
        let is_overdue = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        while let Some(at) = self.sending.chunks.iter().position(|chunk| is_overdue(chunk.answer_until)) {
            if let Some(id) = self.sending.chunks.remove(at).and_then(|chunk| chunk.message) {
                self.reject_outgoing(id, Status::TIMED_OUT, RejectionOrigin::Timeout);
            }
            // Who answers nothing is gone: each further message would be waited for as long.
            self.end(EndReason::Refused(Status::TIMED_OUT));
        }
        let overdue = self.sending.messages.iter().filter(|outgoing| is_overdue(self.report_due(outgoing)));
        for id in overdue.map(|outgoing| outgoing.id).collect::<Vec<_>>() {
            self.settle(id, self.unreported_outcome());
            self.active_at = now;
        }
    }

    fn check_message(&self, message: &OutgoingMessage) -> Result<(), SendError> {
        if !self.configuration.sends {
            return Err(SendError::NotSending);
        }
        if self.sending.messages.len() >= self.configuration.limits.max_outgoing_messages {
            return Err(SendError::QueueFull);
        }
        if self.configuration.remote_max_bytes.is_some_and(|max| message.total_bytes > max) {
            return Err(SendError::TooLargeForPeer);
        }
        let checked = message.other_headers.iter().try_for_each(check_header);
        let checked = checked.and_then(|()| check_message_id(&message.message_id));
        let checked = checked.and_then(|()| check_value(&message.content_type));
        if checked.is_err() || message.content_type.is_empty() {
            return Err(SendError::InvalidHeader);
        }
        if self.sending.messages.iter().any(|outgoing| outgoing.message.message_id == message.message_id) {
            return Err(SendError::RepeatedMessageId);
        }
        Ok(())
    }

    /// Settles a message that is not sent to its end; a peer that has part of it is told with `#`.
    fn give_up(&mut self, id: OutgoingId, outcome: Outcome) {
        let Some(outgoing) = self.sending.find(id) else { return };
        let (written, total) = (outgoing.written, outgoing.message.total_bytes);
        let is_between_chunks = outgoing.is_begun && !outgoing.is_all_sent();
        let message_id = outgoing.message.message_id.clone();
        let is_writing = self.sending.writing.as_ref().is_some_and(|chunk| chunk.message == id);
        self.settle(id, outcome);
        if is_between_chunks && !is_writing && self.connection == Connection::Bound {
            let byte_range = ByteRange { start: written.saturating_add(1), end: Some(written), total: Some(total) };
            self.send_empty(message_id, byte_range, ContinuationFlag::Abort);
        }
    }

    fn reject_outgoing(&mut self, id: OutgoingId, status: Status, origin: RejectionOrigin) {
        self.settle(id, Outcome::Rejected { status, origin });
    }

    /// When the report that a message needs is overdue. None: it needs none, or the next hop does not have all of it yet, and
    /// the clock of what it has not answered runs.
    fn report_due(&self, outgoing: &Outgoing) -> Option<Instant> {
        let needs_report = outgoing.needs_report(self.configuration.remote_path.has_relays());
        let is_due = needs_report && !self.sending.is_unanswered(outgoing.id);
        let on_the_way = match self.configuration.count_unreported_as_delivered {
            // What the relay has counts: the report says no more than that.
            true => Duration::ZERO,
            false => Duration::from_secs(outgoing.message.total_bytes / BYTES_PER_SECOND_BEHIND_RELAYS),
        };
        let report_timeout = self.configuration.limits.report_timeout + on_the_way.min(MAX_TIME_BEHIND_RELAYS);
        outgoing.last_byte_at.filter(|_| is_due).map(|at| at + report_timeout)
    }

    pub(super) fn settle_if_done(&mut self, id: OutgoingId) {
        let has_relays = self.configuration.remote_path.has_relays();
        let is_unanswered = self.sending.is_unanswered(id);
        let Some(outgoing) = self.sending.messages.iter().find(|outgoing| outgoing.id == id) else { return };
        if !outgoing.is_all_sent() {
            return;
        }
        let total = outgoing.message.total_bytes;
        let is_reported = total > 0 && outgoing.reported.covers(total);
        let needs_report = outgoing.needs_report(has_relays);
        let is_acknowledged = !needs_report && !is_unanswered && outgoing.acknowledged.covers(total);
        let nothing_can_come = outgoing.message.failure_report == FailureReport::No && !outgoing.message.success_report;
        if is_reported || is_acknowledged {
            self.settle(id, Outcome::Acknowledged);
        } else if nothing_can_come {
            self.settle(id, self.unreported_outcome());
        }
    }

    fn unreported_outcome(&self) -> Outcome {
        if self.configuration.count_unreported_as_delivered { Outcome::Acknowledged } else { Outcome::Unreported }
    }

    fn settle(&mut self, id: OutgoingId, outcome: Outcome) {
        let Some(at) = self.sending.messages.iter().position(|outgoing| outgoing.id == id) else { return };
        self.sending.messages.remove(at);
        self.sending.chunks.retain(|chunk| chunk.message != Some(id));
        self.events.retain(|event| !matches!(event, Event::NeedBody { message, .. } if *message == id));
        if let Some(chunk) = self.sending.writing.as_mut().filter(|chunk| chunk.message == id) {
            chunk.is_abandoned = true;
        }
        self.events.push_back(Event::MessageSettled { message: id, outcome });
    }
}

impl Sending {
    pub(super) fn is_settled(&self) -> bool {
        self.messages.is_empty() && self.writing.is_none()
    }

    pub(super) fn held_bytes(&self) -> usize {
        let writing = self.writing.as_ref().map_or(0, |chunk| chunk.content.len());
        self.messages.iter().fold(writing, |sum, outgoing| sum.saturating_add(outgoing.held_bytes()))
    }

    pub(super) fn find(&mut self, id: OutgoingId) -> Option<&mut Outgoing> {
        self.messages.iter_mut().find(|outgoing| outgoing.id == id)
    }

    /// Whether a 200 is still to come for a part of it.
    fn is_unanswered(&self, id: OutgoingId) -> bool {
        self.chunks.iter().any(|chunk| chunk.is_answered && chunk.message == Some(id))
    }

    fn next_unsupplied(&self, message_window: usize) -> Option<&Outgoing> {
        self.messages.iter().take(message_window).find(|outgoing| !outgoing.is_all_supplied())
    }

    /// When the next answer is overdue.
    fn next_answer_overdue(&self) -> Option<Instant> {
        self.chunks.iter().filter_map(|chunk| chunk.answer_until).min()
    }

    pub(super) fn push_chunk(&mut self, chunk: SentChunk) {
        if !chunk.is_answered {
            let silent = self.chunks.iter().filter(|known| !known.is_answered).count();
            if silent >= MAX_SILENT_CHUNKS
                && let Some(at) = self.chunks.iter().position(|known| !known.is_answered)
            {
                self.chunks.remove(at);
            }
        }
        self.chunks.push_back(chunk);
    }
}

impl Session {
    /// When an answer or a report is overdue.
    pub(super) fn next_overdue(&self) -> Option<Instant> {
        [self.sending.next_answer_overdue(), self.reports_due().min()].into_iter().flatten().min()
    }

    /// When the reports that are awaited are overdue.
    pub(super) fn reports_due(&self) -> impl Iterator<Item = Instant> {
        self.sending.messages.iter().filter_map(|outgoing| self.report_due(outgoing))
    }
}
