//! What comes from the relay, by session.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use restante_msrp::authorization::AuthorizationClient;
use restante_msrp::framing::{Frame, FrameWriter, Framer, FramingLimits, Method, answer_to, answer_to_bad};
use restante_msrp::status::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::Attached;
use super::patience::{self, OfLink, OfSession};

/// Most of one frame of a session: its chunks are small where relays stand in between.
const MAX_FRAME_BYTES: usize = 256 * 1024;
/// Read at a time.
const READ_BYTES: usize = 64 * 1024;

/// Sorts what comes by session.
pub(super) struct Sorted {
    link_session: String,
    sessions: HashMap<String, Attachment>,
    current: Current,
    patience: OfLink,
    frames: mpsc::Sender<Bytes>,
    /// Told by sessions that are over.
    over: mpsc::Sender<String>,
}

/// A session's stream: what is written to it until it is over, and the task that passes on what it writes, to its last word.
/// The session sees its end when both are gone.
struct Attachment {
    writer: Option<WriteHalf<DuplexStream>>,
    has_begun: Arc<AtomicBool>,
    patience: OfSession,
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
    /// Without sessions.
    pub(super) fn new(link_session: String, frames: mpsc::Sender<Bytes>, over: mpsc::Sender<String>) -> Sorted {
        let patience = OfLink::new(Instant::now());
        Sorted { link_session, sessions: HashMap::new(), current: Current::Nobody, patience, frames, over }
    }

    /// What goes to the relay.
    pub(super) fn frames(&self) -> &mpsc::Sender<Bytes> {
        &self.frames
    }

    /// A session is over.
    pub(super) fn detach(&mut self, session: &str) {
        self.sessions.remove(session);
    }

    pub(super) fn attach(&mut self, Attached { session_id, stream, has_begun }: Attached) {
        let (reader, writer) = tokio::io::split(stream);
        let (frames, over, name) = (self.frames.clone(), self.over.clone(), session_id.clone());
        let task = tokio::spawn(async move {
            pass_on(reader, frames).await;
            let _ = over.send(name).await;
        });
        let (patience, task) = (OfSession::default(), task.abort_handle());
        self.sessions.insert(session_id, Attachment { writer: Some(writer), has_begun, patience, task });
    }

    /// False: the stream cannot be read any more.
    pub(super) async fn take_all(&mut self, framer: &mut Framer, authorization: &mut AuthorizationClient) -> bool {
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => self.take(frame, authorization).await,
                Ok(None) => return true,
                Err(error) => {
                    tracing::warn!(%error, "the MSRP relay sent malformed data");
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
            Frame::BadRequest(request) => {
                self.current = Current::Nobody;
                answer_to_bad(&request).into_iter().for_each(|answer| _ = self.frames.try_send(answer));
            }
        }
    }

    async fn give(&mut self, frame: &Frame) {
        let Current::Session(session, writer) = &mut self.current else { return };
        let (session, bytes) = (session.clone(), writer.write(frame));
        self.write(&session, bytes).await;
    }

    /// A session that does not read is forgotten when nobody can wait for it any longer.
    async fn write(&mut self, session: &str, bytes: Bytes) {
        let Some(attachment) = self.sessions.get_mut(session) else { return };
        let Some(writer) = &mut attachment.writer else { return };
        let began = Instant::now();
        // Where it did not begin, nobody reads for who knows how long.
        let has_begun = attachment.has_begun.load(Ordering::Acquire);
        let free = patience::free(bytes.len());
        let patience = if has_begun {
            free.saturating_add(self.patience.with(&attachment.patience, began))
        } else {
            Duration::ZERO
        };
        let written = timeout(patience, writer.write_all(&bytes)).await;
        self.patience.spend(&mut attachment.patience, began.elapsed().saturating_sub(free));
        match written {
            Ok(Ok(())) => attachment.patience.earn(bytes.len()),
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
