//! One MSRP session on its connection: a task of its own.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use restante_msrp::framing::PeekedRequest;
use restante_msrp::sdp::Fingerprint;
use restante_msrp::session::{
    EndReason, Event, IncomingId, Outcome, OutgoingId, OutgoingMessage, Session, SessionConfiguration,
};
use restante_msrp::status::Status;
use restante_transport::msrp::{Believed, HandedOver, MsrpStream, connect, connect_encrypted};
use restante_transport::{ConnectionPermit, SendFailure, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::behaviour::Behaviour;
use crate::configuration::{ClientLimits, Storage};
use crate::content::{Incoming, Reader, Refusal, Stored};
use crate::observer::{Direction, MsrpTap, Observer};
use crate::outgoing::Progress;

const READ_BUFFER_BYTES: usize = 64 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the engine tells a session.
pub(crate) enum Order {
    /// Connect there: the session is active and the ACK is out.
    Connect(MsrpPlace),
    /// The peer's connection.
    Accepted(Box<HandedOver<Box<PeekedRequest>>>),
    /// The signalling ended.
    Drain,
    /// End now.
    Close,
}

/// Where a session's connection leads.
#[derive(Clone, Debug)]
pub(crate) struct MsrpPlace {
    pub(crate) remote: SocketAddr,
    /// Over TLS: the certificates that may be shown there; none named: one that an authority signed for the address.
    pub(crate) encrypted: Option<Vec<Fingerprint>>,
}

/// What a session tells the engine.
pub(crate) enum Notice {
    /// A message came whole and was acknowledged.
    Received(Box<Stored>),
    /// What was to be sent is settled.
    Settled(Outcome),
    /// Something a strict client objects to.
    Violation(String),
    /// Over; the last notice.
    Ended,
}

/// A notice with the number of its session.
pub(crate) type Notices = mpsc::Sender<(u64, Notice)>;

/// The message that a session sends.
pub(crate) struct OutgoingContent {
    /// CPIM headers.
    pub(crate) head: Bytes,
    pub(crate) content: Reader,
    pub(crate) success_report: bool,
    pub(crate) break_after_bytes: Option<u64>,
    pub(crate) progress: Option<Progress>,
}

/// Everything that a session's task needs.
pub(crate) struct SessionTask {
    pub(crate) key: u64,
    pub(crate) configuration: SessionConfiguration,
    pub(crate) storage: Storage,
    pub(crate) limits: ClientLimits,
    pub(crate) acknowledge_only: Option<usize>,
    pub(crate) break_after_bytes: Option<u64>,
    pub(crate) message_verdicts: VecDeque<u16>,
    pub(crate) outgoing: Option<OutgoingContent>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) notices: Notices,
    pub(crate) orders: mpsc::Receiver<Order>,
}

impl SessionTask {
    /// Takes what a script says of sessions; a broken connection is for one session only.
    pub(crate) fn take_script(&mut self, behaviour: &mut Behaviour) {
        self.acknowledge_only = behaviour.acknowledge_only;
        self.break_after_bytes = behaviour.break_after_bytes.take();
        self.message_verdicts = std::mem::take(&mut behaviour.message_verdicts);
    }

    /// Runs until the session is over.
    pub(crate) async fn run(self) {
        let session = Session::new(Instant::now(), self.configuration.clone(), crate::random::bytes());
        let key = self.key;
        let notices = self.notices.clone();
        let mut running = Running {
            task: self,
            session,
            connection: None,
            unwritten: Bytes::new(),
            incoming: HashMap::new(),
            accepted: 0,
            received_bytes: 0,
            written_bytes: 0,
            sending: None,
        };
        running.begin_sending().await;
        running.run().await;
        for incoming in running.incoming.into_values() {
            incoming.discard();
        }
        let _ = notices.send((key, Notice::Ended)).await;
    }
}

struct Connection {
    reader: ReadHalf<MsrpStream>,
    writer: WriteHalf<MsrpStream>,
    /// An encrypted stream may hold back what it took.
    is_flushed: bool,
    sent: Option<MsrpTap>,
    received: Option<MsrpTap>,
    /// Counts an accepted connection until it ends.
    _permit: Option<ConnectionPermit>,
}

struct Running {
    task: SessionTask,
    session: Session,
    connection: Option<Connection>,
    unwritten: Bytes,
    incoming: HashMap<IncomingId, Incoming>,
    /// Messages acknowledged so far.
    accepted: usize,
    received_bytes: u64,
    written_bytes: u64,
    sending: Option<OutgoingId>,
}

impl Running {
    async fn run(&mut self) {
        loop {
            self.settle().await;
            if self.session.is_ended() && (self.unwritten.is_empty() || self.connection.is_none()) {
                break;
            }
            let wake = self.session.next_wake();
            tokio::select! {
                order = self.task.orders.recv() => self.order(order.unwrap_or(Order::Close)).await,
                moved = moved(self.connection.as_mut(), &self.unwritten) => self.transferred(moved),
                () = until(wake) => self.session.handle_wake(Instant::now()),
            }
        }
        if let Some(mut connection) = self.connection.take() {
            let _ = connection.writer.shutdown().await;
        }
    }

    async fn begin_sending(&mut self) {
        let Some(outgoing) = &self.task.outgoing else { return };
        let message = OutgoingMessage {
            message_id: crate::random::token(),
            content_type: restante_cpim::cpim::CONTENT_TYPE.to_owned(),
            other_headers: Vec::new(),
            total_bytes: (outgoing.head.len() as u64).saturating_add(outgoing.content.len()),
            success_report: outgoing.success_report,
            failure_report: restante_msrp::framing::FailureReport::default(),
        };
        match self.session.send_message(Instant::now(), message) {
            Ok(id) => self.sending = Some(id),
            Err(error) => {
                self.violation(&format!("a message cannot be sent in the session: {error}")).await;
                self.notice(Notice::Settled(Outcome::Unsent)).await;
                self.session.close();
            }
        }
    }

    /// Until nothing happens without the network or the clock.
    async fn settle(&mut self) {
        loop {
            while let Some(event) = self.session.poll_event() {
                self.event(event).await;
            }
            if self.unwritten.is_empty()
                && let Some(connection) = &mut self.connection
                && let Some(bytes) = self.session.poll_transmit(Instant::now())
            {
                if let Some(tap) = &mut connection.sent {
                    tap.see(&bytes);
                }
                self.unwritten = bytes;
                continue;
            }
            return;
        }
    }

    async fn order(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Drain => self.session.drain(now, self.task.limits.drain_timeout),
            Order::Close => self.session.close(),
            Order::Connect(MsrpPlace { remote, encrypted }) => match self.connect(remote, encrypted).await {
                Ok(stream) => self.connected(stream, None, Bytes::new()),
                Err(error) => {
                    self.violation(&format!("no MSRP connection to {remote}: {error}")).await;
                    self.session.disconnected();
                }
            },
            Order::Accepted(handed) => {
                let HandedOver { stream, received, permit, .. } = *handed;
                match stream.attach() {
                    Ok(stream) => self.connected(stream, Some(permit), received),
                    Err(_) => self.session.disconnected(),
                }
            }
        }
    }

    async fn connect(
        &self,
        remote: SocketAddr,
        encrypted: Option<Vec<Fingerprint>>,
    ) -> Result<MsrpStream, SendFailure> {
        let Some(fingerprints) = encrypted else {
            return connect(remote, CONNECT_TIMEOUT).await.map(MsrpStream::Plain);
        };
        let (name, is_named) =
            (remote.ip().to_string(), |shown: &[u8]| fingerprints.iter().any(|it| it.matches(shown)));
        let believed =
            if fingerprints.is_empty() { Believed::ByName(&name) } else { Believed::ByCertificate(&is_named) };
        connect_encrypted(&self.task.tls, remote, believed, CONNECT_TIMEOUT).await
    }

    fn connected(&mut self, stream: MsrpStream, permit: Option<ConnectionPermit>, received: Bytes) {
        let now = Instant::now();
        // A second connection is refused by being closed (RFC 4975 §5.4).
        if self.session.connected(now).is_err() {
            return;
        }
        let tap = |direction| {
            let (local, remote) = stream.addresses().ok()?;
            self.task.observer.as_ref().map(|observer| MsrpTap::new(observer, direction, local, remote))
        };
        let (sent, seen) = (tap(Direction::Sent), tap(Direction::Received));
        let (reader, writer) = tokio::io::split(stream);
        self.connection = Some(Connection { reader, writer, is_flushed: true, sent, received: seen, _permit: permit });
        if !received.is_empty() {
            self.receive(received);
        }
    }

    /// The connection moved something.
    fn transferred(&mut self, moved: Moved) {
        match moved {
            Moved::Wrote(written) => {
                let _ = self.unwritten.split_to(written.min(self.unwritten.len()));
                self.written_bytes = self.written_bytes.saturating_add(written as u64);
            }
            Moved::Flushed => {}
            Moved::Received(bytes) => self.receive(bytes),
            Moved::Closed => return self.disconnect(),
        }
        let break_after = self.task.outgoing.as_ref().and_then(|outgoing| outgoing.break_after_bytes);
        if break_after.is_some_and(|bytes| self.written_bytes >= bytes) {
            self.disconnect();
        }
    }

    fn receive(&mut self, bytes: Bytes) {
        self.received_bytes = self.received_bytes.saturating_add(bytes.len() as u64);
        if let Some(tap) = self.connection.as_mut().and_then(|connection| connection.received.as_mut()) {
            tap.see(&bytes);
        }
        self.session.receive(Instant::now(), bytes);
        if self.task.break_after_bytes.is_some_and(|most| self.received_bytes >= most) {
            self.disconnect();
        }
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.unwritten = Bytes::new();
        self.session.disconnected();
    }

    async fn event(&mut self, event: Event) {
        match event {
            Event::IncomingMessage { message, content_type, .. } => {
                if restante_cpim::media_type::essence(&content_type) != restante_cpim::cpim::CONTENT_TYPE {
                    self.violation(&format!("a message of type {content_type:?} in a session, expected CPIM")).await;
                }
                match Incoming::begin(&self.task.storage, &self.task.limits) {
                    Ok(incoming) => _ = self.incoming.insert(message, incoming),
                    Err(error) => {
                        self.violation(&format!("cannot store a message: {error}")).await;
                        self.reject(message, Status::STOP_SENDING);
                    }
                }
            }
            Event::IncomingData { message, offset, bytes } => {
                let Some(incoming) = self.incoming.get_mut(&message) else { return };
                if incoming.write(offset, &bytes).is_err() {
                    self.reject(message, Status::STOP_SENDING);
                }
            }
            Event::IncomingComplete { message, .. } => self.complete(message).await,
            Event::IncomingAborted { message, .. } => {
                if let Some(incoming) = self.incoming.remove(&message) {
                    incoming.discard();
                }
            }
            Event::NeedBody { message, offset, max_bytes } => self.supply(message, offset, max_bytes),
            Event::MessageSettled { outcome, .. } => self.notice(Notice::Settled(outcome)).await,
            Event::Ended { reason } => {
                if let EndReason::ProtocolError(_) | EndReason::Unanswerable(_) = &reason {
                    self.violation(&format!("MSRP that cannot be read: {reason}")).await;
                }
            }
            Event::Bound | Event::UnmatchedReport { .. } => {}
        }
    }

    async fn complete(&mut self, message: IncomingId) {
        let Some(incoming) = self.incoming.remove(&message) else { return };
        if self.task.acknowledge_only.is_some_and(|most| self.accepted >= most) {
            return incoming.discard();
        }
        match self.task.message_verdicts.pop_front() {
            None | Some(200) => {}
            Some(status) => {
                incoming.discard();
                return self.reject(message, Status::new(status).unwrap_or(Status::STOP_SENDING));
            }
        }
        match incoming.finish() {
            Ok(stored) => {
                self.accepted = self.accepted.saturating_add(1);
                // Stored first, acknowledged then.
                let _ = self.session.accept(Instant::now(), message);
                self.notice(Notice::Received(Box::new(stored))).await;
            }
            Err(Refusal::NoCpim(why)) => {
                self.violation(&format!("a message in a session: {why}")).await;
                self.reject(message, Status::BAD_REQUEST);
            }
            Err(Refusal::TooLarge) => self.reject(message, Status::STOP_SENDING),
            Err(Refusal::Storage(error)) => {
                self.violation(&format!("cannot store a message: {error}")).await;
                self.reject(message, Status::STOP_SENDING);
            }
        }
    }

    fn reject(&mut self, message: IncomingId, status: Status) {
        if let Some(incoming) = self.incoming.remove(&message) {
            incoming.discard();
        }
        let _ = self.session.reject(Instant::now(), message, status);
    }

    fn supply(&mut self, message: OutgoingId, offset: u64, max_bytes: usize) {
        let Some(outgoing) = &mut self.task.outgoing else { return };
        let head_bytes = outgoing.head.len() as u64;
        let piece = if offset < head_bytes {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            Ok(outgoing.head.slice(start..start.saturating_add(max_bytes).min(outgoing.head.len())))
        } else {
            outgoing.content.read_at(offset.saturating_sub(head_bytes), max_bytes)
        };
        match piece {
            Ok(piece) if !piece.is_empty() => {
                if let Some(progress) = &outgoing.progress {
                    let total = head_bytes.saturating_add(outgoing.content.len());
                    progress(offset.saturating_add(piece.len() as u64), total);
                }
                let _ = self.session.supply(Instant::now(), message, piece);
            }
            Ok(_) | Err(_) => self.session.abort_message(Instant::now(), message),
        }
    }

    async fn violation(&self, text: &str) {
        self.notice(Notice::Violation(text.to_owned())).await;
    }

    async fn notice(&self, notice: Notice) {
        let _ = self.task.notices.send((self.task.key, notice)).await;
    }
}

/// What a connection did.
enum Moved {
    Wrote(usize),
    Flushed,
    Received(Bytes),
    Closed,
}

/// Reads and writes what the connection lets it, once. May be cancelled.
async fn moved(connection: Option<&mut Connection>, unwritten: &[u8]) -> Moved {
    let Some(Connection { reader, writer, is_flushed, .. }) = connection else { return pending().await };
    let mut buffer = BytesMut::with_capacity(READ_BUFFER_BYTES);
    let has_to_write = !unwritten.is_empty() || !*is_flushed;
    let write =
        async { if unwritten.is_empty() { writer.flush().await.map(|()| 0) } else { writer.write(unwritten).await } };
    tokio::select! {
        read = reader.read_buf(&mut buffer) => match read {
            Ok(0) | Err(_) => Moved::Closed,
            Ok(_) => Moved::Received(buffer.freeze()),
        },
        written = write, if has_to_write => match written {
            Err(_) => Moved::Closed,
            Ok(_) if unwritten.is_empty() => {
                *is_flushed = true;
                Moved::Flushed
            }
            Ok(0) => Moved::Closed,
            Ok(written) => {
                *is_flushed = false;
                Moved::Wrote(written)
            }
        },
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake.into()).await,
        None => pending().await,
    }
}
