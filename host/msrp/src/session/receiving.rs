//! The receiving half (RFC 4975 §7.3).
//!
//! Deviation: a last chunk that is two bytes shorter than its Byte-Range says, or than the total where it does not say its end,
//! and with that the message, is whole. The RFC's own examples (§4, §11) count the CRLF before the end-line; by the letter they
//! would never be. A last chunk that leaves more than that missing for ever is answered 400.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use thiserror::Error;

use super::{AbortReason, EndReason, Event, IncomingId, Session};
use crate::byte_range::ByteRange;
use crate::framing::{
    BadRequest, ContinuationFlag, FailureReport, Method, ReportStatus, RequestHead, TransactionId, end_line,
};
use crate::reassembly::Reassembly;
use crate::status::Status;
use crate::uri::MsrpPath;

/// What the RFC's own examples count too many.
const CRLF_BYTES: u64 = 2;

/// Why a verdict on a message has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VerdictError {
    /// The session is over; the sender does not learn the verdict and will send again.
    #[error("the session is over")]
    SessionEnded,
    /// No such message, or it has had its verdict.
    #[error("no such message")]
    UnknownMessage,
    /// Bytes are missing.
    #[error("the message is not complete")]
    Incomplete,
}

/// Messages that are coming in.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    messages: Vec<Incoming>,
    /// The latest settled ones, oldest first.
    remembered: VecDeque<(String, Status)>,
    current: Option<CurrentChunk>,
    next_id: u64,
    /// Bytes of messages that came for the first time.
    new_bytes: u64,
}

/// | state | on | goes to |
/// |---|---|---|
/// | coming | the last missing byte of a known total | complete; the answer is held |
/// | coming | `#`, a contradiction, `$` before the total, `reject` | gone |
/// | complete | `accept`, `reject` | gone; the held answers are given |
#[derive(Debug)]
struct Incoming {
    id: IncomingId,
    message_id: String,
    to_path: MsrpPath,
    from_path: MsrpPath,
    success_report: bool,
    failure_report: FailureReport,
    reassembly: Reassembly,
    is_complete: bool,
    /// Answered by the verdict.
    held: Vec<Transaction>,
}

/// What is needed to answer a request.
#[derive(Clone, Debug)]
struct Transaction {
    id: TransactionId,
    is_send: bool,
    to_path: MsrpPath,
    from_path: MsrpPath,
    failure_report: FailureReport,
}

/// The request whose content is being read.
#[derive(Debug)]
struct CurrentChunk {
    transaction: Transaction,
    start: u64,
    next: u64,
    /// The offset after its last byte, where its Byte-Range says so.
    stated_end: Option<u64>,
    destination: Destination,
}

#[derive(Debug)]
enum Destination {
    /// A SEND of a message not known so far. Without content it is one that binds or keeps the connection.
    Announced(Box<RequestHead>),
    /// A chunk of a message that is coming.
    Message(IncomingId),
    /// A chunk of a message that is settled or complete; its content is not wanted.
    Late(String),
    /// Answered already or never to be; content is not wanted.
    Nothing,
}

impl Session {
    /// The message is committed: gives the answers that were held, and the success REPORT where one was asked for.
    ///
    /// # Errors
    /// [`VerdictError`].
    pub fn accept(&mut self, now: Instant, message: IncomingId) -> Result<(), VerdictError> {
        if self.is_ended() {
            return Err(VerdictError::SessionEnded);
        }
        let found = self.receiving.messages.iter().find(|known| known.id == message);
        if !found.ok_or(VerdictError::UnknownMessage)?.is_complete {
            return Err(VerdictError::Incomplete);
        }
        let Some(incoming) = self.take_incoming(message, Some(Status::OK)) else {
            return Err(VerdictError::UnknownMessage);
        };
        for transaction in &incoming.held {
            self.answer(transaction, Status::OK);
        }
        if incoming.success_report {
            let total = incoming.reassembly.total().unwrap_or_default();
            self.report(&incoming, ByteRange::whole(total), Status::OK);
        }
        self.advance(now);
        Ok(())
    }

    /// The message is refused, complete or not: 413, 415, 403, ... What else comes of it is answered the same.
    ///
    /// # Errors
    /// [`VerdictError`], never [`VerdictError::Incomplete`].
    pub fn reject(&mut self, now: Instant, message: IncomingId, status: Status) -> Result<(), VerdictError> {
        if self.is_ended() {
            return Err(VerdictError::SessionEnded);
        }
        if !self.refuse(message, status, None) {
            return Err(VerdictError::UnknownMessage);
        }
        self.advance(now);
        Ok(())
    }

    /// Complete messages that wait for their verdict. The host stops reading the connection while there are more than it wants
    /// to have under way: nothing else bounds them.
    #[must_use]
    pub fn awaiting_verdict(&self) -> usize {
        self.receiving.messages.iter().filter(|known| known.is_complete).count()
    }

    /// Whether part of a request or a message has come and the rest has not.
    pub(super) fn is_amid_message(&self) -> bool {
        self.receiving.current.is_some() || self.has_incomplete_message()
    }

    pub(super) fn has_incomplete_message(&self) -> bool {
        self.receiving.messages.iter().any(|known| !known.is_complete)
    }

    /// Bytes of messages that have come so far; what comes again is none.
    pub(super) fn new_bytes(&self) -> u64 {
        self.receiving.new_bytes
    }

    pub(super) fn request(&mut self, head: RequestHead) {
        let transaction = Transaction::of(&head);
        let is_ours = head.to_path.first().session_id == self.configuration.local_uri.session_id;
        let start = head.byte_range.unwrap_or(ByteRange::UNSTATED).offset();
        let stated_end = head.byte_range.and_then(|range| range.end);
        let destination = if head.method == Method::Report {
            if is_ours {
                self.bind();
                self.incoming_report(head);
            }
            Destination::Nothing
        } else if !is_ours {
            // Deviation: only the session id is compared, not the whole URI (RFC 4975 §7.3): middleboxes rewrite hosts in SDP
            // and not in paths, and 80 random bits name the session well enough.
            self.answer(&transaction, Status::NO_SUCH_SESSION);
            Destination::Nothing
        } else {
            self.bind();
            match head.method {
                Method::Send => self.destination(head, &transaction),
                _ => {
                    self.answer(&transaction, Status::UNKNOWN_METHOD);
                    Destination::Nothing
                }
            }
        };
        self.receiving.current = Some(CurrentChunk { transaction, start, next: start, stated_end, destination });
    }

    pub(super) fn content(&mut self, bytes: Bytes) {
        let Some(mut current) = self.receiving.current.take() else { return };
        if let Destination::Announced(head) = current.destination {
            current.destination = match self.begin(*head) {
                Ok(message) => Destination::Message(message),
                Err(status) => {
                    self.answer(&current.transaction, status);
                    Destination::Nothing
                }
            };
        }
        if let Destination::Message(id) = current.destination {
            match self.check_content(id, current.next, bytes.len()) {
                Ok(end) => {
                    let offset = std::mem::replace(&mut current.next, end);
                    self.receiving.came(id, offset, end);
                    self.events.push_back(Event::IncomingData { message: id, offset, bytes });
                }
                Err(status) => {
                    self.receiving.current = Some(current);
                    self.refuse_by_session(id, status, None);
                    return;
                }
            }
        }
        self.receiving.current = Some(current);
    }

    pub(super) fn request_end(&mut self, flag: ContinuationFlag) {
        let Some(current) = self.receiving.current.take() else { return };
        let CurrentChunk { transaction, start, next, stated_end, destination } = current;
        match destination {
            Destination::Nothing => {}
            // Nothing but a head: it binds the connection, also where no messages are taken (RFC 4975 §5.4).
            Destination::Announced(_) => self.answer(&transaction, Status::OK),
            Destination::Late(message_id) => self.answer_late(transaction, &message_id),
            Destination::Message(id) => {
                let counts_end_line = stated_end.is_none_or(|end| Some(end) == next.checked_add(CRLF_BYTES));
                if flag == ContinuationFlag::Complete && counts_end_line {
                    self.total_counts_end_line(id, next);
                }
                self.chunk_end(id, transaction, start, next, flag);
            }
        }
    }

    pub(super) fn bad_request(&mut self, request: BadRequest) {
        let BadRequest { transaction_id, method, to_path, from_path, failure_report, error } = request;
        if method == Method::Report {
            return;
        }
        // Where To-Path cannot be read, the answer comes from our own URI.
        let to_path = to_path.unwrap_or_else(|| MsrpPath::from(self.configuration.local_uri.clone()));
        let Some(from_path) = from_path else { return self.end(EndReason::Unanswerable(error)) };
        let is_send = method == Method::Send;
        let transaction = Transaction { id: transaction_id, is_send, to_path, from_path, failure_report };
        self.answer(&transaction, error.status());
    }

    /// The session is over: what is not complete never will be. What awaits its verdict is the host's already.
    pub(super) fn abort_incoming(&mut self) {
        self.receiving.current = None;
        for incoming in std::mem::take(&mut self.receiving.messages) {
            if !incoming.is_complete {
                let reason = AbortReason::SessionEnded;
                self.events.push_back(Event::IncomingAborted { message: incoming.id, reason });
            }
        }
    }

    /// Where the content of a SEND goes.
    fn destination(&mut self, head: RequestHead, transaction: &Transaction) -> Destination {
        let Some(message_id) = &head.message_id else {
            self.answer(transaction, Status::BAD_REQUEST);
            return Destination::Nothing;
        };
        if let Some(incoming) = self.receiving.messages.iter_mut().find(|known| known.message_id == *message_id) {
            let id = incoming.id;
            if incoming.is_complete {
                return Destination::Late(message_id.clone());
            }
            let noted = match head.byte_range.and_then(|range| range.total) {
                Some(total) => incoming.reassembly.note_total(total),
                None => Ok(()),
            };
            if let Err(error) = noted {
                self.refuse_by_session(id, error.status(), Some(transaction));
                return Destination::Nothing;
            }
            return Destination::Message(id);
        }
        if let Some(status) = self.receiving.verdict(message_id) {
            if status.is_success() {
                return Destination::Late(message_id.clone());
            }
            self.answer(transaction, status);
            return Destination::Nothing;
        }
        Destination::Announced(Box::new(head))
    }

    /// The first content of a message not known so far. An error is remembered, so that its other chunks are answered the same.
    fn begin(&mut self, head: RequestHead) -> Result<IncomingId, Status> {
        let message_id = head.message_id.clone().unwrap_or_default();
        let result = self.try_begin(head);
        if let Err(status) = result {
            self.remember(message_id, status);
        }
        result
    }

    fn try_begin(&mut self, head: RequestHead) -> Result<IncomingId, Status> {
        let limits = &self.configuration.limits;
        if !self.configuration.receives {
            return Err(Status::FORBIDDEN);
        }
        let content_type = head.content_type.ok_or(Status::BAD_REQUEST)?;
        if self.configuration.accept_types.as_ref().is_some_and(|types| !types.accepts(&content_type)) {
            return Err(Status::UNSUPPORTED_MEDIA_TYPE);
        }
        let incomplete = self.receiving.messages.iter().filter(|known| !known.is_complete).count();
        if incomplete >= limits.max_incoming_messages {
            return Err(Status::STOP_SENDING);
        }
        let total_bytes = head.byte_range.and_then(|range| range.total);
        let mut reassembly = Reassembly::new(limits.max_incoming_message_bytes, limits.max_ranges_per_message);
        if let Some(total) = total_bytes {
            reassembly.note_total(total).map_err(|error| error.status())?;
        }
        let id = IncomingId(self.receiving.next_id);
        self.receiving.next_id = self.receiving.next_id.wrapping_add(1);
        let message_id = head.message_id.unwrap_or_default();
        self.receiving.messages.push(Incoming {
            id,
            message_id: message_id.clone(),
            to_path: head.to_path,
            from_path: head.from_path,
            success_report: head.success_report,
            failure_report: head.failure_report,
            reassembly,
            is_complete: false,
            held: Vec::new(),
        });
        self.events.push_back(Event::IncomingMessage {
            message: id,
            message_id,
            content_type,
            other_headers: head.other_headers,
            total_bytes,
            success_report: head.success_report,
            failure_report: head.failure_report,
        });
        Ok(id)
    }

    /// Whether so much content may follow `next`; gives the offset after it.
    fn check_content(&self, id: IncomingId, next: u64, length: usize) -> Result<u64, Status> {
        let incoming = self.receiving.messages.iter().find(|known| known.id == id).ok_or(Status::STOP_SENDING)?;
        let end = next.checked_add(length as u64).ok_or(Status::OUT_OF_BOUNDS)?;
        incoming.reassembly.check_end(end).map_err(|error| error.status())?;
        Ok(end)
    }

    fn chunk_end(&mut self, id: IncomingId, transaction: Transaction, start: u64, next: u64, flag: ContinuationFlag) {
        let Some(incoming) = self.receiving.messages.iter_mut().find(|known| known.id == id) else { return };
        if flag == ContinuationFlag::Abort {
            self.take_incoming(id, None);
            self.answer(&transaction, Status::OK);
            self.events.push_back(Event::IncomingAborted { message: id, reason: AbortReason::BySender });
            return;
        }
        // Whoever says that there is no more cannot have meant a total behind it.
        let is_short = incoming.reassembly.total().is_some_and(|total| next < total);
        if flag == ContinuationFlag::Complete && is_short {
            return self.refuse_by_session(id, Status::BAD_REQUEST, Some(&transaction));
        }
        let mut noted = incoming.reassembly.insert(start, next);
        if flag == ContinuationFlag::Complete && incoming.reassembly.total().is_none() {
            // Only the end of the last chunk says how large the message is.
            noted = noted.and_then(|()| incoming.reassembly.note_total(next));
        }
        if let Err(error) = noted {
            self.refuse_by_session(id, error.status(), Some(&transaction));
        } else if incoming.reassembly.is_complete() {
            incoming.is_complete = true;
            incoming.held.push(transaction);
            let total_bytes = incoming.reassembly.total().unwrap_or_default();
            self.events.push_back(Event::IncomingComplete { message: id, total_bytes });
        } else {
            self.answer(&transaction, Status::OK);
        }
    }

    /// The last chunk, and with it the total, counts the CRLF before its end-line.
    fn total_counts_end_line(&mut self, id: IncomingId, end: u64) {
        if let Some(incoming) = self.receiving.messages.iter_mut().find(|known| known.id == id)
            && incoming.reassembly.total() == end.checked_add(CRLF_BYTES)
        {
            incoming.reassembly.shorten(end);
        }
    }

    /// A chunk too many: answered as its message is, now or when the verdict comes.
    fn answer_late(&mut self, transaction: Transaction, message_id: &str) {
        let max_held = self.configuration.limits.max_held_transactions;
        match self.receiving.messages.iter_mut().find(|known| known.message_id == message_id) {
            Some(incoming) if incoming.held.len() < max_held => incoming.held.push(transaction),
            Some(_) => {}
            None => {
                if let Some(status) = self.receiving.verdict(message_id) {
                    self.answer(&transaction, status);
                }
            }
        }
    }

    fn refuse_by_session(&mut self, id: IncomingId, status: Status, transaction: Option<&Transaction>) {
        if self.refuse(id, status, transaction) {
            let reason = AbortReason::Refused(status);
            self.events.push_back(Event::IncomingAborted { message: id, reason });
        }
    }

    /// Refuses a message; says whether there was one. Open transactions are answered, `transaction` among them; where there
    /// is none, a REPORT says it.
    fn refuse(&mut self, id: IncomingId, status: Status, transaction: Option<&Transaction>) -> bool {
        let Some(incoming) = self.take_incoming(id, Some(status)) else { return false };
        let mut open = incoming.held.clone();
        open.extend(transaction.cloned());
        if let Some(current) = &mut self.receiving.current
            && matches!(current.destination, Destination::Message(message) if message == id)
        {
            current.destination = Destination::Nothing;
            open.push(current.transaction.clone());
        }
        for transaction in &open {
            self.answer(transaction, status);
        }
        if open.is_empty() && incoming.failure_report.wants(status) {
            let received = incoming.reassembly.ranges().contiguous_bytes();
            let total = incoming.reassembly.total();
            self.report(&incoming, ByteRange { start: 1, end: Some(received), total }, status);
        }
        true
    }

    fn take_incoming(&mut self, id: IncomingId, verdict: Option<Status>) -> Option<Incoming> {
        let at = self.receiving.messages.iter().position(|known| known.id == id)?;
        let incoming = self.receiving.messages.remove(at);
        if let Some(status) = verdict {
            self.remember(incoming.message_id.clone(), status);
        }
        Some(incoming)
    }

    fn remember(&mut self, message_id: String, status: Status) {
        let max_remembered = self.configuration.limits.max_remembered_messages;
        let remembered = &mut self.receiving.remembered;
        remembered.push_back((message_id, status));
        while remembered.len() > max_remembered {
            remembered.pop_front();
        }
    }

    /// Answers, if the sender wants that answer (RFC 4975 §7.2).
    fn answer(&mut self, transaction: &Transaction, status: Status) {
        if transaction.failure_report.wants(status) {
            let Transaction { id, is_send, to_path, from_path, .. } = transaction;
            self.push_control(crate::framing::response(id, status, to_path, from_path, !is_send));
        }
    }

    /// Sends a REPORT along the whole path back (§7.1.2).
    fn report(&mut self, incoming: &Incoming, byte_range: ByteRange, status: Status) {
        let mut head = RequestHead::of_ours(
            self.transaction_ids.next(),
            Method::Report,
            incoming.from_path.clone(),
            MsrpPath::from(incoming.to_path.first().clone()),
            incoming.message_id.clone(),
            byte_range,
        );
        head.status = Some(ReportStatus { namespace: 0, status });
        let end = end_line(&head.transaction_id, ContinuationFlag::Complete);
        self.push_control(Bytes::from(head.to_wire() + &end));
    }
}

impl Receiving {
    /// Content of a message came. What a chunk brought is noted with its message at its end.
    fn came(&mut self, id: IncomingId, offset: u64, end: u64) {
        if let Some(incoming) = self.messages.iter().find(|known| known.id == id) {
            let missing = incoming.reassembly.ranges().missing(offset, end);
            self.new_bytes = self.new_bytes.saturating_add(missing);
        }
    }

    fn verdict(&self, message_id: &str) -> Option<Status> {
        self.remembered.iter().rev().find(|(known, _)| known == message_id).map(|&(_, status)| status)
    }
}

impl Transaction {
    fn of(head: &RequestHead) -> Transaction {
        Transaction {
            id: head.transaction_id.clone(),
            is_send: head.method == Method::Send,
            to_path: head.to_path.clone(),
            from_path: head.from_path.clone(),
            failure_report: head.failure_report,
        }
    }
}
