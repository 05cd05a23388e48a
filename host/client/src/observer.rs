//! Sees what crosses the wire, so that a sequence diagram can be drawn from what really happened.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use restante_msrp::framing::{Frame, Framer, FramingLimits};
use restante_sip::message::{MessageLimits, Name, SipMessage};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Away from whoever observes.
    Sent,
    /// To whoever observes.
    Received,
}

/// What kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireProtocol {
    /// SIP.
    Sip,
    /// MSRP.
    Msrp,
}

/// One SIP message, or one MSRP request or response, that crossed a socket.
#[derive(Clone, Debug)]
pub struct WireRecord {
    /// When.
    pub at: SystemTime,
    /// Which way.
    pub direction: Direction,
    /// What kind.
    pub protocol: WireProtocol,
    /// The observer's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Start line, without control characters.
    pub line: String,
    /// What names the exchange: Call-ID, or the MSRP session.
    pub exchange: String,
    /// What tells it from others: CSeq and Content-Type, or Message-ID and Byte-Range.
    pub detail: String,
    /// Size in bytes; of an MSRP request the size of its content, known when it ends.
    pub bytes: usize,
}

/// Takes records; called from the client's tasks, so it must not block.
pub trait Observer: Send + Sync {
    /// One more.
    fn record(&self, record: WireRecord);
}

/// Tells an observer of a SIP message.
pub(crate) fn sip(
    observer: Option<&Arc<dyn Observer>>,
    direction: Direction,
    local: SocketAddr,
    remote: SocketAddr,
    message: &SipMessage,
) {
    let Some(observer) = observer else { return };
    let line = message.bytes().split(|byte| *byte == b'\n').next().unwrap_or_default();
    let cseq = message.header(Name::CSeq).unwrap_or("");
    let content_type = message.header(Name::ContentType).unwrap_or("");
    observer.record(WireRecord {
        at: SystemTime::now(),
        direction,
        protocol: WireProtocol::Sip,
        local,
        remote,
        line: harmless(line),
        exchange: harmless(message.call_id().unwrap_or("").as_bytes()),
        detail: harmless(format!("{cseq} {content_type}").trim().as_bytes()),
        bytes: message.bytes().len(),
    });
}

/// Tells an observer of a SIP message that was just written.
pub(crate) fn sip_bytes(
    observer: Option<&Arc<dyn Observer>>,
    direction: Direction,
    local: SocketAddr,
    remote: SocketAddr,
    bytes: &Bytes,
) {
    if observer.is_some()
        && let Ok(message) = SipMessage::parse(bytes.clone(), &MessageLimits::default())
    {
        sip(observer, direction, local, remote, &message);
    }
}

/// Reads along one direction of an MSRP connection.
pub(crate) struct MsrpTap {
    observer: Arc<dyn Observer>,
    direction: Direction,
    local: SocketAddr,
    remote: SocketAddr,
    framer: Framer,
    /// A request whose end has not come yet.
    open: Option<WireRecord>,
}

impl MsrpTap {
    pub(crate) fn new(
        observer: &Arc<dyn Observer>,
        direction: Direction,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> MsrpTap {
        let framer = Framer::new(FramingLimits::default());
        MsrpTap { observer: Arc::clone(observer), direction, local, remote, framer, open: None }
    }

    /// Takes what crossed. Nothing is told any more once the stream cannot be read.
    pub(crate) fn see(&mut self, bytes: &Bytes) {
        self.framer.push(bytes.clone());
        while let Ok(Some(frame)) = self.framer.next_frame() {
            match frame {
                Frame::Request(head) => {
                    let session = head.to_path.first().session_id.clone().unwrap_or_default();
                    let range = head.byte_range.map(|range| range.to_string()).unwrap_or_default();
                    let line = format!("MSRP {} {}", head.transaction_id.as_str(), head.method.as_str());
                    let detail = format!("{} {range}", head.message_id.as_deref().unwrap_or(""));
                    self.open = Some(self.begin(&line, &session, detail.trim()));
                }
                Frame::Content(content) => {
                    if let Some(open) = &mut self.open {
                        open.bytes = open.bytes.saturating_add(content.len());
                    }
                }
                Frame::End(_) => {
                    if let Some(record) = self.open.take() {
                        self.observer.record(record);
                    }
                }
                Frame::Response(response) => {
                    let session = response.to_path.first().session_id.clone().unwrap_or_default();
                    let line = format!("MSRP {} {}", response.transaction_id.as_str(), response.status);
                    let record = self.begin(&line, &session, "");
                    self.observer.record(record);
                }
                Frame::BadRequest(_) => {}
            }
        }
    }

    fn begin(&self, line: &str, session: &str, detail: &str) -> WireRecord {
        WireRecord {
            at: SystemTime::now(),
            direction: self.direction,
            protocol: WireProtocol::Msrp,
            local: self.local,
            remote: self.remote,
            line: harmless(line.as_bytes()),
            exchange: harmless(session.as_bytes()),
            detail: harmless(detail.as_bytes()),
            bytes: 0,
        }
    }
}

/// Text of a peer for people's eyes: no control characters, no line ends, of bounded length.
fn harmless(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim().chars().take(300).map(|it| if it.is_control() { '\u{fffd}' } else { it }).collect()
}
