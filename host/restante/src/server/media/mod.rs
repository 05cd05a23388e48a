//! One MSRP session on its socket: a task that moves bytes between the connection, the session's state machine and the
//! bodies on disk, and tells its shard what came of it. It decides nothing.

mod body;
mod place;
mod room;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use restante_deferral::model::{Body, MessageId};
use restante_msrp::framing::{FailureReport, Header};
use restante_msrp::sdp::Fingerprint;
use restante_msrp::session::{
    EndReason, Event, IncomingId, Outcome, OutgoingId, OutgoingMessage, RejectionOrigin, SendError, Session,
    SessionConfiguration,
};
use restante_msrp::status::Status;
use restante_store::spool::Spool;
use restante_transport::ConnectionPermit;
use restante_transport::msrp::{HandedOver, MsrpStream};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use self::body::{BLOCK_BYTES, NotTaken, ReadAhead, Sink};
pub use self::place::{Encryption, FailedPlaces, NoPlace, Place};
pub use self::room::Quota;
use crate::server::facts;
use crate::server::usage::Coming;

/// Bytes waiting for the socket above which no more are made.
const MAX_PENDING_BYTES: usize = 64 * 1024;
/// Work on what came that took longer than this is ours to answer for.
const LONG: Duration = Duration::from_secs(1);
/// Time to write what is left after a session ended.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Time in which what a BYE overtook may still come: the connection, bytes, and more bytes of a message.
const DRAIN: Duration = Duration::from_secs(2);
/// Messages that wait for the shard's word; no more is read from the connection meanwhile, so that the orders of one
/// session are never more than its queue holds.
const MAX_WITHOUT_VERDICT: usize = 16;
/// Orders that can wait for a session: a verdict for each of those, and each of the others once.
pub const MAX_COMMANDS: usize = MAX_WITHOUT_VERDICT + 8;

/// Names a session within its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaId(pub u64);

/// What the shard tells a session.
pub enum Command {
    /// The peer's connection came.
    Connected(HandedOver<String>),
    /// The message is durable: answer its last chunk.
    Accept(IncomingId),
    /// It is not taken.
    Reject(IncomingId, u16),
    /// Send these, in this order, then say [`MediaEventKind::AllSettled`].
    Send(Vec<Outgoing>),
    /// The dialog is over: take what still comes, for a moment.
    Drain,
}

/// A message to send: what comes before the stored body, and the body.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The stored message.
    pub id: MessageId,
    /// Message-ID of the MSRP message.
    pub message_id: String,
    /// Content-Type of the MSRP message.
    pub content_type: String,
    /// Media type inside it.
    pub wrapped_type: String,
    /// CPIM headers of ours, empty where the body has its own.
    pub head: Bytes,
    /// The body.
    pub body: Body,
}

/// What a session tells its shard.
pub struct MediaEvent {
    /// Which session.
    pub media: MediaId,
    /// What.
    pub kind: MediaEventKind,
}

/// What happened.
pub enum MediaEventKind {
    /// A whole message came. Answer with [`Command::Accept`] or [`Command::Reject`].
    Received(Received),
    /// One message that was to be sent is done with.
    Settled(MessageId, Outcome),
    /// All are.
    AllSettled,
    /// The session is over.
    Ended(Option<EndReason>),
}

/// A message that came whole; a large one is durable as a file already.
pub struct Received {
    /// The message.
    pub incoming: IncomingId,
    /// Its Message-ID.
    pub message_id: String,
    /// Its Content-Type.
    pub content_type: String,
    /// Further fields of its first chunk, those that say how it is to be read.
    pub fields: Vec<Header>,
    /// Its beginning, as far as CPIM headers may reach.
    pub prefix: Bytes,
    /// Its body.
    pub body: Body,
    /// The room that it took while it came.
    pub coming: Option<Coming>,
}

/// Where the connection comes from.
pub enum Connection {
    /// We make it.
    To(Box<Place>),
    /// The peer makes it; it comes as [`Command::Connected`].
    FromPeer,
    /// It is there: in this process, to what leads to a relay.
    Here(DuplexStream),
}

/// What a session is made with.
pub struct Start {
    /// Its name.
    pub media: MediaId,
    /// As negotiated.
    pub configuration: SessionConfiguration,
    /// Randomness for transaction ids.
    pub random: [u8; 16],
    /// Where the connection comes from.
    pub connection: Connection,
    /// Of the certificates that the peer may show on it.
    pub fingerprints: Vec<Fingerprint>,
    /// Whose room is taken by what the peer sends.
    pub quota: Option<Quota>,
}

/// Runs a session to its end.
pub async fn run(start: Start, mut commands: mpsc::Receiver<Command>, events: mpsc::Sender<MediaEvent>, spool: Spool) {
    let connect_timeout = start.configuration.limits.connection_timeout;
    // A relay's 200 says that the relay has it (RFC 4976 §6.4.1); what the far end has is known from REPORT alone.
    // Where silence counts as success bad news still counts as what it is.
    let asks_for_success_report = start.configuration.remote_path.has_relays();
    let mut media = Media {
        id: start.media,
        session: Session::new(Instant::now(), start.configuration, start.random),
        events,
        spool,
        quota: start.quota.map(Arc::new),
        incoming: HashMap::new(),
        queue: VecDeque::new(),
        sending: None,
        sent_any: false,
        without_verdict: 0,
        asks_for_success_report,
        drains: false,
        ended: None,
    };
    let stream = match start.connection {
        Connection::To(place) => place.connect(connect_timeout).await.map(|stream| (stream, Bytes::new(), None)),
        Connection::Here(stream) => Some((MsrpStream::Here(stream), Bytes::new(), None)),
        Connection::FromPeer => media.await_connection(&mut commands, connect_timeout).await,
    };
    let reason = match stream {
        Some((stream, first, permit)) => media.converse(stream, first, permit, &mut commands).await,
        None => Some(EndReason::ConnectionNeverCame),
    };
    media.settle_rest().await;
    media.tell(MediaEventKind::Ended(reason)).await;
}

/// Writes, or where nothing is left to be written pushes out what the stream holds back. True: it holds nothing back.
async fn push(writer: &mut (impl AsyncWrite + Unpin), output: &mut BytesMut) -> io::Result<bool> {
    if output.is_empty() { writer.flush().await.map(|()| true) } else { writer.write_buf(output).await.map(|_| false) }
}

struct Media {
    id: MediaId,
    session: Session,
    events: mpsc::Sender<MediaEvent>,
    spool: Spool,
    quota: Option<Arc<Quota>>,
    incoming: HashMap<IncomingId, Incoming>,
    queue: VecDeque<Outgoing>,
    sending: Option<(OutgoingId, Outgoing, ReadAhead)>,
    sent_any: bool,
    without_verdict: usize,
    asks_for_success_report: bool,
    /// The dialog was over before the connection came.
    drains: bool,
    ended: Option<EndReason>,
}

struct Incoming {
    message_id: String,
    content_type: String,
    fields: Vec<Header>,
    sink: Sink,
}

impl Media {
    async fn tell(&self, kind: MediaEventKind) {
        // The shard is gone only when the process ends.
        let _ = self.events.send(MediaEvent { media: self.id, kind }).await;
    }

    async fn await_connection(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        within: Duration,
    ) -> Option<(MsrpStream, Bytes, Option<ConnectionPermit>)> {
        let mut deadline = tokio::time::Instant::now() + within;
        loop {
            match tokio::time::timeout_at(deadline, commands.recv()).await.ok()?? {
                Command::Connected(handed) => {
                    let stream = handed.stream.attach().ok()?;
                    return Some((stream, handed.received, Some(handed.permit)));
                }
                Command::Send(messages) => self.queue.extend(messages),
                // A BYE may overtake the connection, too.
                Command::Drain => {
                    deadline = deadline.min(tokio::time::Instant::now() + DRAIN);
                    self.drains = true;
                }
                Command::Accept(_) | Command::Reject(..) => {}
            }
        }
    }

    fn may_take_more(&self) -> bool {
        self.without_verdict < MAX_WITHOUT_VERDICT
    }

    async fn converse(
        &mut self,
        stream: MsrpStream,
        first: Bytes,
        permit: Option<ConnectionPermit>,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Option<EndReason> {
        let _permit = permit;
        let (mut reader, mut writer) = tokio::io::split(stream);
        if self.session.connected(Instant::now()).is_err() {
            return self.ended.take();
        }
        if !first.is_empty() {
            self.session.receive(Instant::now(), first);
        }
        if self.drains {
            self.session.drain(Instant::now(), DRAIN);
        }
        let mut input = BytesMut::with_capacity(BLOCK_BYTES);
        let mut output = BytesMut::new();
        let mut readable = true;
        // An encrypted stream may hold back what it took.
        let mut flushed = true;
        loop {
            let began = Instant::now();
            self.advance(&mut output).await;
            // A peer is not slow while nobody reads what it sends.
            if !self.may_take_more() || began.elapsed() > LONG {
                self.session.reads_again(Instant::now());
            }
            if self.session.is_ended() {
                let last = async {
                    writer.write_all(&output).await?;
                    writer.shutdown().await
                };
                let _ = tokio::time::timeout(LAST_WORDS, last).await;
                return self.ended.take();
            }
            let wake = self.session.next_wake().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => self.session.close(),
                },
                read = reader.read_buf(&mut input), if readable && self.may_take_more() => match read {
                    Ok(0) | Err(_) => {
                        readable = false;
                        self.session.disconnected();
                    }
                    Ok(_) => {
                        self.session.receive(Instant::now(), input.split().freeze());
                        input.reserve(BLOCK_BYTES / 4);
                    }
                },
                pushed = push(&mut writer, &mut output), if !output.is_empty() || !flushed => {
                    flushed = *pushed.as_ref().unwrap_or(&true);
                    if pushed.is_err() {
                        self.session.disconnected();
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    if !self.may_take_more() {
                        self.session.reads_again(Instant::now());
                    }
                    self.session.handle_wake(Instant::now());
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Accept(incoming) => {
                self.without_verdict = self.without_verdict.saturating_sub(1);
                _ = self.session.accept(Instant::now(), incoming);
            }
            Command::Reject(incoming, status) => {
                self.without_verdict = self.without_verdict.saturating_sub(1);
                let status = Status::new(status).unwrap_or(Status::STOP_SENDING);
                _ = self.session.reject(Instant::now(), incoming, status);
            }
            Command::Send(messages) => self.queue.extend(messages),
            Command::Drain => self.session.drain(Instant::now(), DRAIN),
            // A second connection is refused where it is accepted.
            Command::Connected(_) => {}
        }
    }

    /// Handles events and makes output until neither goes on.
    async fn advance(&mut self, output: &mut BytesMut) {
        loop {
            let mut progress = false;
            while self.may_take_more()
                && let Some(event) = self.session.poll_event()
            {
                progress = true;
                self.handle(event).await;
            }
            progress |= self.begin_next().await;
            while output.len() < MAX_PENDING_BYTES
                && let Some(bytes) = self.session.poll_transmit(Instant::now())
            {
                progress = true;
                output.extend_from_slice(&bytes);
            }
            if !progress {
                return;
            }
        }
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::IncomingMessage { message, message_id, content_type, other_headers, .. } => {
                let fields = other_headers.into_iter().filter(|field| facts::is_of_body(&field.name)).collect();
                let sink = Sink::new(self.spool.clone(), self.quota.as_ref());
                self.incoming.insert(message, Incoming { message_id, content_type, fields, sink });
            }
            Event::IncomingData { message, offset, bytes } => {
                // Messages that come at once share what one alone may hold.
                let max_block_bytes = BLOCK_BYTES / self.incoming.len().max(1);
                if let Some(incoming) = self.incoming.get_mut(&message)
                    && let Err(error) = incoming.sink.write(offset, bytes, max_block_bytes).await
                {
                    self.refuse(message, &error);
                }
            }
            Event::IncomingComplete { message, .. } => self.complete(message).await,
            Event::IncomingAborted { message, .. } => _ = self.incoming.remove(&message),
            Event::NeedBody { message, offset, max_bytes } => self.supply(message, offset, max_bytes).await,
            Event::MessageSettled { message, outcome } => {
                if self.sending.as_ref().is_some_and(|(id, ..)| *id == message)
                    && let Some((_, outgoing, _)) = self.sending.take()
                {
                    self.tell(MediaEventKind::Settled(outgoing.id, outcome)).await;
                }
            }
            Event::Ended { reason } => self.ended = Some(reason),
            Event::Bound | Event::UnmatchedReport { .. } => {}
        }
    }

    /// Begins the next message that can be sent; what cannot is settled. True: something was done.
    async fn begin_next(&mut self) -> bool {
        if self.sending.is_some() || self.session.is_ended() {
            return false;
        }
        while let Some(next) = self.queue.pop_front() {
            self.sent_any = true;
            let message = OutgoingMessage {
                message_id: next.message_id.clone(),
                content_type: next.content_type.clone(),
                other_headers: Vec::new(),
                total_bytes: next.body.size_bytes().saturating_add(next.head.len() as u64),
                success_report: self.asks_for_success_report,
                failure_report: FailureReport::Yes,
            };
            match self.session.send_message(Instant::now(), message) {
                Ok(id) => {
                    let body = ReadAhead::new(&self.spool, &next.body);
                    self.sending = Some((id, next, body));
                    return true;
                }
                Err(error) => self.tell(MediaEventKind::Settled(next.id, unsendable(&error))).await,
            }
        }
        let all_settled = std::mem::take(&mut self.sent_any);
        if all_settled {
            self.tell(MediaEventKind::AllSettled).await;
        }
        all_settled
    }

    async fn supply(&mut self, message: OutgoingId, offset: u64, max_bytes: usize) {
        let Some((id, outgoing, body)) = &mut self.sending else { return };
        if *id != message {
            return;
        }
        let bytes = match usize::try_from(offset).ok().filter(|offset| *offset < outgoing.head.len()) {
            Some(offset) => Ok(outgoing.head.slice(offset..outgoing.head.len().min(offset.saturating_add(max_bytes)))),
            None => body.read(offset.saturating_sub(outgoing.head.len() as u64), max_bytes).await,
        };
        let supplied = match bytes {
            Ok(bytes) if !bytes.is_empty() => self.session.supply(Instant::now(), message, bytes).is_ok(),
            Ok(_) => false,
            Err(error) => {
                tracing::error!(%error, "a stored body cannot be read");
                false
            }
        };
        if !supplied {
            self.session.abort_message(Instant::now(), message);
        }
    }

    async fn complete(&mut self, message: IncomingId) {
        let Some(Incoming { message_id, content_type, fields, sink }) = self.incoming.remove(&message) else { return };
        match sink.finish().await {
            Ok((body, prefix, coming)) => {
                self.without_verdict = self.without_verdict.saturating_add(1);
                let received = Received { incoming: message, message_id, content_type, fields, prefix, body, coming };
                self.tell(MediaEventKind::Received(received)).await;
            }
            Err(error) => self.refuse(message, &error),
        }
    }

    /// The tenant has no room for it, or the disk does not take it: the sender keeps it.
    fn refuse(&mut self, message: IncomingId, error: &NotTaken) {
        if let NotTaken::Disk(error) = error {
            tracing::error!(%error, "a body cannot be written");
        }
        self.incoming.remove(&message);
        // RFC 4975 has no status for a full disk; 413 tells the sender to stop sending this message.
        let _ = self.session.reject(Instant::now(), message, Status::STOP_SENDING);
    }

    /// What was not sent when the session ended.
    async fn settle_rest(&mut self) {
        if let Some((_, outgoing, _)) = self.sending.take() {
            self.tell(MediaEventKind::Settled(outgoing.id, Outcome::Partial { sent_bytes: 0, acknowledged_bytes: 0 }))
                .await;
        }
        while let Some(outgoing) = self.queue.pop_front() {
            self.tell(MediaEventKind::Settled(outgoing.id, Outcome::Unsent)).await;
        }
    }
}

/// What became of a message that the session does not begin.
fn unsendable(error: &SendError) -> Outcome {
    match error {
        // The peer said how much it takes.
        SendError::TooLargeForPeer => {
            Outcome::Rejected { status: Status::STOP_SENDING, origin: RejectionOrigin::Response }
        }
        _ => Outcome::Unsent,
    }
}
