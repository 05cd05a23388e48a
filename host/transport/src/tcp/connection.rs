//! What one connection does from its first byte to its last.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use restante_sip::framing::{Frame, StreamFramer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::outbox::{Outbox, Writer};
use super::table::ConnectionTable;
use crate::address::{ConnectionId, Flow};
use crate::counters::count;
use crate::event::{CloseReason, Intake, SendFailure, TransportEvent};
use crate::limits::TransportLimits;
use crate::permit::lock;

const READ_BUFFER_BYTES: usize = 16 * 1024;
/// What a peer asked before it sent what cannot be read may still be answered so long.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// Reads from one half and writes to the other until the connection is over.
pub(super) async fn serve(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    flow: Flow,
    outbox: &Outbox,
    mut writer: Writer,
    table: &Arc<ConnectionTable>,
) {
    let mut stop = table.stop.clone();
    let close = writer.close_signal();
    let clock = Clock::start();
    let has_asked = AtomicBool::new(false);
    let reading = Reader { flow, outbox, table, clock: &clock, has_asked: &has_asked };
    let reason = tokio::select! {
        reason = reading.read_all(&mut from) => reason,
        end = writer.write_all(&mut to, &table.limits, &table.counters, || clock.tick()) => end.err().unwrap_or(CloseReason::Local),
        reason = Writer::closing(close) => reason,
        _ = stop.wait_for(|stop| *stop) => CloseReason::ShuttingDown,
    };
    // At once, also when answers may still leave: requests must not be put on it any more.
    table.closes(flow, reason);
    let owes_answers = has_asked.load(Ordering::Relaxed);
    let linger = match reason {
        // What the peer asked before it closed its direction may still be answered.
        CloseReason::Peer => table.limits.half_closed_timeout,
        // So is what came before a message that could not be delimited.
        CloseReason::Unreadable if owes_answers => LAST_ANSWERS_WITHIN,
        // That one was answered at once.
        CloseReason::ShuttingDown | CloseReason::Local | CloseReason::Unreadable => table.limits.drain_timeout,
        _ => Duration::ZERO,
    };
    if linger > Duration::ZERO {
        if reason != CloseReason::Peer && !(reason == CloseReason::Unreadable && owes_answers) {
            writer.refuse_more();
        }
        // Whatever remains unsent is reported below. What still comes is read away: a peer that is sending would lose the last
        // answers with the reset of a connection that nobody reads from.
        let last = async {
            tokio::select! {
                _ = write_last(&mut writer, &mut to, table) => {}
                () = read_away(&mut from), if reason == CloseReason::Unreadable => {}
            }
        };
        let _ = timeout(linger, last).await;
        let _ = timeout(Duration::from_secs(1), to.shutdown()).await;
    }
    over(table, flow, writer, reason);
}

/// For ever.
async fn read_away(from: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 1024];
    while from.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
    std::future::pending().await
}

/// Says that it is over, why, and what was not sent.
pub(crate) fn over(table: &ConnectionTable, flow: Flow, writer: Writer, reason: CloseReason) {
    tracing::debug!(connection = flow.connection.map(|id| id.0), ?reason, "connection closed");
    match reason {
        CloseReason::TooSlow => count(&table.counters.streams_too_slow),
        CloseReason::Unreadable => count(&table.counters.streams_unreadable),
        CloseReason::FirstByteTimeout | CloseReason::MessageTimeout | CloseReason::Idle => {
            count(&table.counters.streams_timed_out);
        }
        _ => {}
    }
    table.ended(flow.connection.unwrap_or(ConnectionId(0)), flow.remote, writer, failure_of(reason));
}

/// Until nothing more can come, or the transport shuts down and nothing more waits.
async fn write_last(
    writer: &mut Writer,
    to: &mut (impl AsyncWrite + Unpin),
    table: &ConnectionTable,
) -> Result<(), CloseReason> {
    let mut stop = table.stop.clone();
    tokio::select! {
        end = writer.write_all(to, &table.limits, &table.counters, || {}) => return end,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    writer.refuse_more();
    writer.write_all(to, &table.limits, &table.counters, || {}).await
}

fn failure_of(reason: CloseReason) -> SendFailure {
    match reason {
        CloseReason::TooSlow => SendFailure::QueueFull,
        CloseReason::ShuttingDown => SendFailure::ShuttingDown,
        CloseReason::Error(kind) => SendFailure::Write(kind),
        _ => SendFailure::NoConnection,
    }
}

/// When the connection last carried something, in either direction.
struct Clock {
    last: Mutex<Instant>,
}

impl Clock {
    fn start() -> Clock {
        Clock { last: Mutex::new(Instant::now()) }
    }

    fn tick(&self) {
        *lock(&self.last) = Instant::now();
    }

    fn last(&self) -> Instant {
        *lock(&self.last)
    }
}

/// Which wait is on. A keep-alive is no message, and ends none of them.
enum Waiting {
    First,
    Rest,
    Next,
}

struct Reader<'a> {
    flow: Flow,
    outbox: &'a Outbox,
    table: &'a ConnectionTable,
    clock: &'a Clock,
    /// Something came whole.
    has_asked: &'a AtomicBool,
}

impl Reader<'_> {
    async fn read_all(&self, from: &mut (impl AsyncRead + Unpin)) -> CloseReason {
        let limits = &self.table.limits;
        let mut framer = StreamFramer::new(limits.message);
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        // A connection of ours was opened to send; the peer owes nothing at first.
        let mut waiting = if self.flow.listener.is_some() { Waiting::First } else { Waiting::Next };
        let mut since = Instant::now();
        loop {
            since += self.until_caught_up().await;
            let deadline = self.deadline(&waiting, since, limits);
            let length = match timeout_at(deadline, from.read(&mut buffer)).await {
                Ok(Ok(0)) => return CloseReason::Peer,
                Ok(Ok(length)) => length,
                // A peer of TLS that closes its socket without a word; what comes over SIP says itself where it ends.
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => return CloseReason::Peer,
                Ok(Err(error)) => return CloseReason::Error(error.kind()),
                Err(_) => match waiting {
                    Waiting::First => return CloseReason::FirstByteTimeout,
                    Waiting::Rest => return CloseReason::MessageTimeout,
                    Waiting::Next if self.clock.last() + self.outbox.idle_timeout <= Instant::now() => {
                        return CloseReason::Idle;
                    }
                    Waiting::Next => continue,
                },
            };
            self.clock.tick();
            framer.push(buffer.get(..length).unwrap_or_default());
            let Some(some_message) = self.take_frames(&mut framer).await else { return CloseReason::Unreadable };
            waiting = match (framer.is_amid_message(), waiting) {
                (false, Waiting::First) if !some_message => {
                    // Whoever never pauses is never waited for.
                    if deadline <= Instant::now() {
                        return CloseReason::FirstByteTimeout;
                    }
                    Waiting::First
                }
                (false, _) => Waiting::Next,
                (true, Waiting::Rest) if !some_message => Waiting::Rest,
                (true, _) => {
                    since = Instant::now();
                    Waiting::Rest
                }
            };
        }
    }

    /// Who sends requests and reads no answers is not read on: it would make more wait than it ever takes. How long that took;
    /// who takes nothing at all is found out by the writer. Two servers that both waited so, each with requests for the other,
    /// would wait for each other: so whoever opened a connection reads on.
    async fn until_caught_up(&self) -> Duration {
        if self.flow.listener.is_none() || !self.outbox.is_behind() {
            return Duration::ZERO;
        }
        let began = Instant::now();
        count(&self.table.counters.streams_paused);
        self.outbox.caught_up().await;
        began.elapsed()
    }

    fn deadline(&self, waiting: &Waiting, since: Instant, limits: &TransportLimits) -> Instant {
        match waiting {
            Waiting::First => since + limits.first_byte_timeout,
            Waiting::Rest => since + limits.message_timeout,
            Waiting::Next => self.clock.last() + self.outbox.idle_timeout,
        }
    }

    /// Hands over what is complete and says whether a message was; none when the stream cannot be read further.
    async fn take_frames(&self, framer: &mut StreamFramer) -> Option<bool> {
        let mut some = false;
        loop {
            match framer.next() {
                Ok(Some(Frame::Message(message))) => {
                    count(&self.table.counters.stream_messages_received);
                    self.has_asked.store(true, Ordering::Relaxed);
                    some = true;
                    let intake = (self.table.handler)(TransportEvent::Received { message, flow: self.flow });
                    if intake == Intake::Congested {
                        count(&self.table.counters.streams_paused);
                        sleep(self.table.limits.congested_pause).await;
                    }
                }
                Ok(Some(Frame::Ping)) => self.outbox.pong(),
                Ok(None) => return Some(some),
                Err(error) => {
                    let (bytes, flow) = (bytes::Bytes::new(), self.flow);
                    (self.table.handler)(TransportEvent::Unreadable { bytes, flow, reason: error.into() });
                    return None;
                }
            }
        }
    }
}
