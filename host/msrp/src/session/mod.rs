//! One MSRP session on one connection, in either role: bytes in, bytes out, events, a time to wake up.
//!
//! | state | on | goes to |
//! |---|---|---|
//! | Awaited | [`Session::connected`], active | Bound, with an empty SEND when there is nothing to send (RFC 4975 §5.4) |
//! | Awaited | [`Session::connected`], passive | Unbound |
//! | Unbound | a request whose To-Path is ours | Bound |
//! | Awaited, Unbound | [`SessionLimits::connection_timeout`] | Ended |
//! | Bound | 481 or 506 to a request of ours (§10.8, §10.10), 408 from behind a relay, or no answer in time | Ended |
//! | any | lost, closed, drained, unreadable, stalled, idle, too slow | Ended |
//!
//! The host calls any method, then takes [`Session::poll_event`] until it gives nothing, writes [`Session::poll_transmit`] as
//! long as the connection takes bytes, and calls [`Session::handle_wake`] at [`Session::next_wake`]. Memory is bounded by
//! what the host does: it stops reading the connection while events wait for it, and content to be sent is asked for piece
//! by piece.
//!
//! Deviation: a connection carries one session (§5.4 lets several share one); another session's To-Path on it is answered 481.

mod configuration;
mod event;
mod pace;
mod receiving;
mod sending;
mod writing;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::configuration::{Role, SessionConfiguration, SessionLimits};
pub use self::event::{
    AbortReason, EndReason, Event, IncomingId, Outcome, OutgoingId, OutgoingMessage, RejectionOrigin,
};
pub use self::receiving::VerdictError;
pub use self::sending::{SendError, SupplyError};

use self::pace::Pace;
use self::receiving::Receiving;
use self::sending::Sending;
use crate::framing::{Frame, Framer};
use crate::status::Status;
use crate::transaction_ids::TransactionIds;

/// One session. See the module for how to drive it.
#[derive(Debug)]
pub struct Session {
    configuration: SessionConfiguration,
    transaction_ids: TransactionIds,
    connection: Connection,
    /// Set by [`Session::drain`].
    draining: Option<Draining>,
    framer: Framer,
    events: VecDeque<Event>,
    /// Responses and REPORTs, in order.
    control: VecDeque<Bytes>,
    control_bytes: usize,
    receiving: Receiving,
    sending: Sending,
    /// The last byte in either direction.
    active_at: Instant,
    pace: Pace,
    /// Since when bytes wait to be written.
    output_waits_since: Option<Instant>,
}

/// The signalling is over: until when what is still on its way is waited for.
#[derive(Clone, Copy, Debug)]
struct Draining {
    until: Instant,
    bound: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Awaited { until: Instant },
    Unbound { until: Instant },
    Bound,
    Ended,
}

impl Session {
    /// A session whose connection is still to come. `random` must be fresh and unpredictable.
    #[must_use]
    pub fn new(now: Instant, configuration: SessionConfiguration, random: [u8; 16]) -> Session {
        Session {
            transaction_ids: TransactionIds::new(random),
            connection: Connection::Awaited { until: now + configuration.limits.connection_timeout },
            draining: None,
            framer: Framer::new(configuration.limits.framing.clone()),
            events: VecDeque::new(),
            control: VecDeque::new(),
            control_bytes: 0,
            receiving: Receiving::default(),
            sending: Sending::default(),
            active_at: now,
            pace: Pace::default(),
            output_waits_since: None,
            configuration,
        }
    }

    /// The session has its connection: active, the host connected (after the ACK, or the peer may answer 481); passive, the
    /// host accepted one and found this session's id in its first request.
    ///
    /// # Errors
    /// The status to refuse the connection with: 506 when there is one already, 481 when the session is over.
    pub fn connected(&mut self, now: Instant) -> Result<(), Status> {
        match self.connection {
            Connection::Awaited { .. } => {}
            Connection::Ended => return Err(Status::NO_SUCH_SESSION),
            Connection::Unbound { .. } | Connection::Bound => return Err(Status::BOUND_TO_ANOTHER_CONNECTION),
        }
        self.active_at = now;
        match self.configuration.role {
            Role::Active => {
                self.bind();
                self.send_binding_request(now);
            }
            Role::Passive => {
                self.connection = Connection::Unbound { until: now + self.configuration.limits.connection_timeout };
            }
        }
        self.advance(now);
        Ok(())
    }

    /// Takes bytes from the connection in.
    pub fn receive(&mut self, now: Instant, bytes: Bytes) {
        if !self.is_connected() {
            return;
        }
        self.active_at = now;
        let (length, before) = (bytes.len() as u64, self.new_bytes());
        self.framer.push(bytes);
        while self.is_connected() {
            match self.framer.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => self.frame(now, frame),
                Err(error) => self.end(EndReason::ProtocolError(error)),
            }
        }
        // Who sends what has come already brings no message nearer to its end.
        let counts = if self.has_incomplete_message() { self.new_bytes().saturating_sub(before) } else { length };
        self.pace.came(now, counts, self.framer.is_amid_frame() || self.is_amid_message());
        self.drain_longer(now);
        self.advance(now);
    }

    /// The host did not read the connection until now: what did not come meanwhile was not the peer's doing.
    pub fn reads_again(&mut self, now: Instant) {
        self.pace.begin_anew(now);
        self.drain_longer(now);
    }

    /// Bytes to be written, at most [`SessionLimits::max_write_bytes`] of content and a head; `None` when there are none now.
    /// Call it only when the connection takes bytes: what is asked for is counted as sent.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        let bytes = match self.connection {
            Connection::Awaited { .. } => None,
            Connection::Ended => self.next_control(),
            Connection::Unbound { .. } | Connection::Bound => self.next_write(now),
        }?;
        self.active_at = now;
        self.output_waits_since = None;
        self.advance(now);
        Some(bytes)
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Session::handle_wake`] is to be called, if nothing else happens before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let limits = &self.configuration.limits;
        let connection = match self.connection {
            Connection::Ended => return None,
            Connection::Awaited { until } | Connection::Unbound { until } => Some(until),
            Connection::Bound => Some(self.idle_at()),
        };
        let stalled = self.output_waits_since.map(|since| since + limits.stall_timeout);
        let slow = self.pace.next_wake(limits);
        let drained = self.draining.map(|draining| draining.until);
        [connection, stalled, slow, drained, self.next_overdue()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_wake(&mut self, now: Instant) {
        self.settle_overdue(now);
        let limits = &self.configuration.limits;
        let ends = match self.connection {
            Connection::Ended => return,
            Connection::Awaited { until } => (until <= now).then_some(EndReason::ConnectionNeverCame),
            Connection::Unbound { until } => (until <= now).then_some(EndReason::NeverBound),
            Connection::Bound => (self.idle_at() <= now).then_some(EndReason::Idle),
        };
        let is_stalled = self.output_waits_since.is_some_and(|since| since + limits.stall_timeout <= now);
        let is_too_slow = self.pace.is_too_slow(now, limits);
        let is_drained = self.draining.is_some_and(|draining| draining.until <= now);
        if is_drained {
            self.end(EndReason::Drained);
        } else if is_stalled {
            self.end(EndReason::Stalled);
        } else if let Some(reason) = ends {
            self.end(reason);
        } else if is_too_slow {
            self.end(EndReason::TooSlow);
        }
        self.advance(now);
    }

    /// The signalling ended (BYE), but bytes may still be on their way: a BYE can overtake them. What comes within `bound`,
    /// and within the same time after bytes of a message that is not complete or waits for its verdict, is taken as before;
    /// nothing new is begun. Then, or when nothing more can come, the session ends.
    pub fn drain(&mut self, now: Instant, bound: Duration) {
        if self.connection == Connection::Ended || self.draining.is_some() {
            return;
        }
        self.draining = Some(Draining { until: now + bound, bound });
        self.give_up_unsupplied();
        self.advance(now);
    }

    /// Ends the session at once.
    pub fn close(&mut self) {
        self.end(EndReason::Closed);
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        let reason = if self.draining.is_some() { EndReason::Drained } else { EndReason::Disconnected };
        self.end(reason);
    }

    /// Whether the session is over.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.connection == Connection::Ended
    }

    /// Whether the connection is bound to the session.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.connection == Connection::Bound
    }

    /// Bytes that the session itself holds: an incomplete line, answers, content supplied and not yet written. Events taken
    /// late hold theirs.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.framer.held_bytes().saturating_add(self.control_bytes).saturating_add(self.sending.held_bytes())
    }

    fn is_connected(&self) -> bool {
        matches!(self.connection, Connection::Unbound { .. } | Connection::Bound)
    }

    /// When silence ends the session. While a report is awaited it does not.
    fn idle_at(&self) -> Instant {
        let idle_at = self.active_at + self.configuration.limits.idle_timeout;
        self.reports_due().fold(idle_at, Instant::max)
    }

    /// What comes is waited for while it comes. How slowly it may is [`Pace`]'s to say.
    fn drain_longer(&mut self, now: Instant) {
        let is_awaited = self.is_amid_message() || self.awaiting_verdict() > 0;
        if let Some(draining) = self.draining.as_mut().filter(|_| is_awaited) {
            draining.until = draining.until.max(now + draining.bound);
        }
    }

    fn bind(&mut self) {
        if self.connection != Connection::Bound {
            self.connection = Connection::Bound;
            self.events.push_back(Event::Bound);
        }
    }

    fn frame(&mut self, now: Instant, frame: Frame) {
        match frame {
            Frame::Request(head) => self.request(*head),
            Frame::Content(bytes) => self.content(bytes),
            Frame::End(flag) => self.request_end(flag),
            Frame::Response(response) => self.response(now, &response),
            Frame::BadRequest(request) => self.bad_request(*request),
        }
    }

    /// Queues a response or REPORT.
    fn push_control(&mut self, bytes: Bytes) {
        self.control_bytes = self.control_bytes.saturating_add(bytes.len());
        self.control.push_back(bytes);
        if self.control_bytes > self.configuration.limits.max_control_bytes {
            self.end(EndReason::TransmitQueueFull);
        }
    }

    fn next_control(&mut self) -> Option<Bytes> {
        let bytes = self.control.pop_front()?;
        self.control_bytes = self.control_bytes.saturating_sub(bytes.len());
        Some(bytes)
    }

    /// After every change: asks for content, notes whether output waits, ends a drained session.
    fn advance(&mut self, now: Instant) {
        if !self.is_connected() {
            return;
        }
        self.request_content();
        let waits = !self.control.is_empty() || self.can_write_content();
        self.output_waits_since = if waits { self.output_waits_since.or(Some(now)) } else { None };
        let nothing_can_come = !self.configuration.receives && self.sending.is_settled();
        if self.draining.is_some() && nothing_can_come && !waits {
            self.end(EndReason::Drained);
        }
    }

    fn end(&mut self, reason: EndReason) {
        if self.connection == Connection::Ended {
            return;
        }
        self.connection = Connection::Ended;
        self.output_waits_since = None;
        self.abort_incoming();
        self.settle_all();
        self.events.push_back(Event::Ended { reason });
    }
}
