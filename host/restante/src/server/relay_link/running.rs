//! The task of the link.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use restante_msrp::authorization::{AuthorizationClient, AuthorizationConfiguration, AuthorizationEvent};
use restante_msrp::framing::{Frame, FrameWriter, Framer, FramingLimits, Method, answer_to};
use restante_msrp::session_id::new_session_id;
use restante_msrp::status::Status;
use restante_msrp::uri::{Host, MsrpUri};
use restante_transport::msrp::{Believed, MsrpStream, connect, connect_encrypted};
use restante_transport::resolution::{Names, Wanted};
use restante_transport::{Protocol, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::credentials::Password;
use super::{Attached, Grant, SESSION_STALL, STALL};

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// First rest after a connection that was lost or not made, and the longest.
const RESTS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Frames of all sessions that wait for the connection.
const MAX_WAITING_FRAMES: usize = 32;
/// Most of one frame of a session: its chunks are small where relays stand in between.
const MAX_FRAME_BYTES: usize = 256 * 1024;
/// Read at a time.
const READ_BYTES: usize = 64 * 1024;

type Known = Arc<Mutex<Option<Grant>>>;

/// The link.
pub(super) struct Link {
    relay: MsrpUri,
    password: Password,
    tls: Arc<Tls>,
    names: Arc<Names>,
    known: Known,
}

impl Link {
    pub(super) fn new(relay: MsrpUri, password: Password, (tls, names): (Arc<Tls>, Arc<Names>), known: Known) -> Link {
        Link { relay, password, tls, names, known }
    }

    /// Connects, and again when the connection is lost.
    pub(super) async fn run(self, mut attached: mpsc::Receiver<Attached>) {
        let mut rest = RESTS.0;
        loop {
            if let Some(stream) = self.connect().await {
                let was_granted = self.converse(stream, &mut attached).await;
                self.set(None);
                tracing::warn!(relay = %self.relay, "the connection to the MSRP relay is lost");
                if was_granted {
                    rest = RESTS.0;
                }
            }
            // Whoever asked for a stream meanwhile has none.
            while attached.try_recv().is_ok() {}
            sleep(rest).await;
            rest = (rest * 2).min(RESTS.1);
        }
    }

    async fn connect(&self) -> Option<MsrpStream> {
        let host = match &self.relay.host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        };
        let wanted = Wanted::new(&host, Some(self.relay.port_or_default()), Some(Protocol::Tcp))?;
        for place in self.names.places(&wanted).await {
            let connected = if self.relay.secure {
                connect_encrypted(&self.tls, place.socket, Believed::ByName(&host), CONNECT_TIMEOUT).await
            } else {
                connect(place.socket, CONNECT_TIMEOUT).await.map(MsrpStream::Plain)
            };
            match connected {
                Ok(stream) => return Some(stream),
                Err(error) => {
                    tracing::warn!(relay = %self.relay, %error, "no connection to the MSRP relay");
                    self.names.note_failure(place.socket, Instant::now());
                }
            }
        }
        None
    }

    /// Until the connection is lost. Whether the relay took us meanwhile.
    async fn converse(&self, stream: MsrpStream, attached: &mut mpsc::Receiver<Attached>) -> bool {
        let mut random = [0; 32];
        if getrandom::fill(&mut random).is_err() {
            return false;
        }
        let (ours, of_client) = random.split_at(16);
        let local = self.local_uri(&stream, ours.try_into().unwrap_or_default());
        let link_session = local.session_id.clone().unwrap_or_default();
        let (mut reader, writer) = tokio::io::split(stream);
        let (frames, waiting) = mpsc::channel(MAX_WAITING_FRAMES);
        let mut writing = tokio::spawn(write_all(writer, waiting));
        let configuration = AuthorizationConfiguration { relay: self.relay.clone(), local };
        let mut authorization = AuthorizationClient::new(configuration, of_client.try_into().unwrap_or_default());
        authorization.connected(Instant::now());
        let (over, mut ended) = mpsc::channel(MAX_WAITING_FRAMES);
        let mut sorted = Sorted { link_session, sessions: HashMap::new(), current: Current::Nobody, frames, over };
        let mut framer = Framer::new(FramingLimits::default());
        let mut input = BytesMut::new();
        let mut was_granted = false;
        loop {
            match self.settle(&mut authorization, &sorted.frames).await {
                Settled::Granted => was_granted = true,
                Settled::Nothing => {}
                // Another connection may find it alive.
                Settled::Silent => break,
            }
            let wake = authorization.next_wake().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            input.reserve(READ_BYTES);
            tokio::select! {
                read = reader.read_buf(&mut input) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {
                        // Who is told of a session is told after it was attached: what is sent to it finds it.
                        while let Ok(next) = attached.try_recv() {
                            sorted.attach(next);
                        }
                        framer.push(input.split().freeze());
                        if !sorted.take_all(&mut framer, &mut authorization).await {
                            break;
                        }
                    }
                },
                next = attached.recv() => match next {
                    Some(next) => sorted.attach(next),
                    None => break,
                },
                Some(session) = ended.recv() => drop(sorted.sessions.remove(&session)),
                () = tokio::time::sleep_until(wake.into()) => authorization.handle_wake(Instant::now()),
                _ = &mut writing => return was_granted,
            }
        }
        writing.abort();
        was_granted
    }

    /// Carries out what the client says.
    async fn settle(&self, authorization: &mut AuthorizationClient, frames: &mpsc::Sender<Bytes>) -> Settled {
        let mut settled = Settled::Nothing;
        while let Some(event) = authorization.poll_event() {
            match event {
                AuthorizationEvent::Challenged { challenges } => {
                    let answer = self.password.answer(&challenges, &self.relay);
                    authorization.answer(Instant::now(), answer.as_deref());
                }
                AuthorizationEvent::Granted => {
                    settled = Settled::Granted;
                    let until = authorization.granted_until();
                    let use_path = authorization.use_path(Instant::now()).map(<[MsrpUri]>::to_vec);
                    self.set(use_path.zip(until).map(|(use_path, until)| Grant { use_path, until }));
                    tracing::info!(relay = %self.relay, "the MSRP relay takes our sessions");
                }
                AuthorizationEvent::Refused { status } => {
                    tracing::warn!(relay = %self.relay, ?status, "the MSRP relay does not take us for now");
                    if status.is_none() {
                        settled = Settled::Silent;
                    }
                }
                AuthorizationEvent::Expired => self.set(None),
            }
        }
        while let Some(bytes) = authorization.poll_transmit() {
            let _ = timeout(STALL, frames.send(bytes)).await;
        }
        settled
    }

    fn set(&self, grant: Option<Grant>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = grant;
    }

    /// Our URI on this connection. Nobody connects to it.
    fn local_uri(&self, stream: &MsrpStream, random: [u8; 16]) -> MsrpUri {
        let local = stream.addresses().map(|(local, _)| local);
        let (host, port) =
            local.map_or((IpAddr::from([127, 0, 0, 1]), 9), |local| (local.ip().to_canonical(), local.port()));
        MsrpUri::new(self.relay.secure, Host::Address(host), port, new_session_id(u16::MAX, random))
    }
}

/// What the client said.
enum Settled {
    Nothing,
    /// The relay took us.
    Granted,
    /// The relay did not answer.
    Silent,
}

/// Sorts what comes by session.
struct Sorted {
    link_session: String,
    sessions: HashMap<String, Attachment>,
    current: Current,
    frames: mpsc::Sender<Bytes>,
    /// Told by sessions that are over.
    over: mpsc::Sender<String>,
}

/// A session's stream: what is written to it until it is over, and the task that passes on what it writes, to its last word.
/// The session sees its end when both are gone.
struct Attachment {
    writer: Option<WriteHalf<DuplexStream>>,
    has_begun: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whose the request is whose content comes.
enum Current {
    Nobody,
    Session(String, FrameWriter),
}

impl Sorted {
    fn attach(&mut self, Attached { session_id, stream, has_begun }: Attached) {
        let (reader, writer) = tokio::io::split(stream);
        let (frames, over, name) = (self.frames.clone(), self.over.clone(), session_id.clone());
        let task = tokio::spawn(async move {
            pass_on(reader, frames).await;
            let _ = over.send(name).await;
        });
        self.sessions.insert(session_id, Attachment { writer: Some(writer), has_begun, task: task.abort_handle() });
    }

    /// False: the stream cannot be read any more.
    async fn take_all(&mut self, framer: &mut Framer, authorization: &mut AuthorizationClient) -> bool {
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => self.take(frame, authorization).await,
                Ok(None) => return true,
                Err(error) => {
                    tracing::warn!(%error, "the MSRP relay sends what cannot be read");
                    return false;
                }
            }
        }
    }

    async fn take(&mut self, frame: Frame, authorization: &mut AuthorizationClient) {
        match frame {
            Frame::Request(head) => {
                let session = head.to_path.first().session_id.clone().unwrap_or_default();
                if self.sessions.contains_key(&session) {
                    self.current = Current::Session(session, FrameWriter::default());
                    return self.give(&Frame::Request(head)).await;
                }
                self.current = Current::Nobody;
                if head.method == Method::Send && head.failure_report.wants(Status::NO_SUCH_SESSION) {
                    let _ = self.frames.try_send(answer_to(&head, Status::NO_SUCH_SESSION));
                }
            }
            Frame::Content(_) => self.give(&frame).await,
            Frame::End(_) => {
                self.give(&frame).await;
                self.current = Current::Nobody;
            }
            Frame::Response(response) => {
                let session = response.to_path.first().session_id.clone().unwrap_or_default();
                if session == self.link_session {
                    authorization.response(Instant::now(), &response);
                } else {
                    self.write(&session, response.to_wire()).await;
                }
            }
            Frame::BadRequest(_) => {}
        }
    }

    async fn give(&mut self, frame: &Frame) {
        let Current::Session(session, writer) = &mut self.current else { return };
        let (session, bytes) = (session.clone(), writer.write(frame));
        self.write(&session, bytes).await;
    }

    /// A session that does not read is forgotten: where it did not begin to, whoever sends to it holds up nobody else.
    async fn write(&mut self, session: &str, bytes: Bytes) {
        let Some(attachment) = self.sessions.get_mut(session) else { return };
        let Some(writer) = &mut attachment.writer else { return };
        let has_begun = attachment.has_begun.load(Ordering::Acquire);
        let patience = if has_begun { SESSION_STALL } else { Duration::ZERO };
        match timeout(patience, writer.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            // It is over; what it wrote last is still passed on.
            Ok(Err(_)) => attachment.writer = None,
            Err(_) => {
                tracing::debug!(has_begun, "a session behind the MSRP relay does not read");
                self.sessions.remove(session);
            }
        }
    }
}

/// Passes on what a session writes, a frame at a time.
async fn pass_on(mut reader: ReadHalf<DuplexStream>, frames: mpsc::Sender<Bytes>) {
    let (mut framer, mut writer) = (Framer::new(FramingLimits::default()), FrameWriter::default());
    let (mut input, mut frame_bytes) = (BytesMut::new(), BytesMut::new());
    loop {
        input.reserve(READ_BYTES);
        match reader.read_buf(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => framer.push(input.split().freeze()),
        }
        while let Ok(Some(frame)) = framer.next_frame() {
            frame_bytes.extend_from_slice(&writer.write(&frame));
            if frame_bytes.len() > MAX_FRAME_BYTES {
                return;
            }
            let is_whole = matches!(frame, Frame::End(_) | Frame::Response(_));
            if is_whole && frames.send(frame_bytes.split().freeze()).await.is_err() {
                return;
            }
        }
    }
}

/// Writes whole frames until nobody has any more, or the peer takes none.
async fn write_all(mut writer: WriteHalf<MsrpStream>, mut waiting: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = waiting.recv().await {
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        if !matches!(timeout(STALL, written).await, Ok(Ok(()))) {
            return;
        }
    }
}
