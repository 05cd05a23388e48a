//! What a client can be asked to send or fetch, and what comes of it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use restante_cpim::imdn::DispositionNotification;

use crate::event::ReceivedMessage;

/// A message in page mode.
#[derive(Clone, Debug)]
pub struct PageMessage {
    /// Recipient: a `sip:` or `tel:` URI.
    pub to: String,
    /// Type of the content.
    pub content_type: String,
    /// The content.
    pub content: Bytes,
    /// Wrap it into CPIM; else it is the body as it is.
    pub wrap: bool,
    /// imdn.Message-ID; made up when absent.
    pub message_id: Option<String>,
    /// Which notifications to ask for.
    pub notifications: DispositionNotification,
    /// `Expires`, in seconds, with a Date.
    pub expires_seconds: Option<u32>,
    /// CPIM Subject.
    pub subject: Option<String>,
    /// Call-ID; made up when absent.
    pub call_id: Option<String>,
    /// From instead of the client's identity.
    pub from: Option<String>,
    /// Further header fields.
    pub fields: Vec<(String, String)>,
}

impl PageMessage {
    /// Text for a recipient.
    #[must_use]
    pub fn text(to: &str, text: &str) -> PageMessage {
        PageMessage::new(to, "text/plain;charset=UTF-8", Bytes::copy_from_slice(text.as_bytes()))
    }

    /// Any content for a recipient.
    #[must_use]
    pub fn new(to: &str, content_type: &str, content: Bytes) -> PageMessage {
        PageMessage {
            to: to.to_owned(),
            content_type: content_type.to_owned(),
            content,
            wrap: true,
            message_id: None,
            notifications: DispositionNotification::default(),
            expires_seconds: None,
            subject: None,
            call_id: None,
            from: None,
            fields: Vec::new(),
        }
    }
}

/// Where the content of a large message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Here.
    Bytes(Bytes),
    /// In a file, which is read while it is sent.
    File(PathBuf),
}

/// Told the bytes sent so far and the bytes in all, CPIM included.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// A message in large message mode.
#[derive(Clone)]
pub struct LargeMessage {
    /// Recipient: a `sip:` or `tel:` URI.
    pub to: String,
    /// Type of the content.
    pub content_type: String,
    /// The content.
    pub source: Source,
    /// imdn.Message-ID; made up when absent.
    pub message_id: Option<String>,
    /// Which notifications to ask for.
    pub notifications: DispositionNotification,
    /// CPIM Subject.
    pub subject: Option<String>,
    /// Ask for a success REPORT.
    pub success_report: bool,
    /// Bytes after which the connection is broken, for a test.
    pub break_after_bytes: Option<u64>,
    /// Called while it is sent.
    pub progress: Option<Progress>,
    /// Further header fields of the INVITE.
    pub fields: Vec<(String, String)>,
}

impl LargeMessage {
    /// Content for a recipient.
    #[must_use]
    pub fn new(to: &str, content_type: &str, source: Source) -> LargeMessage {
        LargeMessage {
            to: to.to_owned(),
            content_type: content_type.to_owned(),
            source,
            message_id: None,
            notifications: DispositionNotification::default(),
            subject: None,
            success_report: true,
            break_after_bytes: None,
            progress: None,
            fields: Vec::new(),
        }
    }
}

impl fmt::Debug for LargeMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LargeMessage").field("to", &self.to).finish_non_exhaustive()
    }
}

/// Which deferred messages to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// Those with these ids, as a summary lists them.
    Ids(Vec<String>),
}

/// A final answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// Header fields: names as written, values.
    pub fields: Vec<(String, String)>,
}

impl Answer {
    /// Whether it is a 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first header field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What came of a message in page mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOutcome {
    /// The answer: 202 when it was accepted for later, 200 when a device has it.
    pub answer: Answer,
    /// imdn.Message-ID.
    pub message_id: String,
    /// Call-ID.
    pub call_id: String,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
}

/// What came of a message in large message mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeOutcome {
    /// The answer to the INVITE.
    pub answer: Answer,
    /// Every byte was acknowledged.
    pub accepted: bool,
    /// What became of the message in the session.
    pub detail: String,
    /// imdn.Message-ID.
    pub message_id: String,
    /// Call-ID.
    pub call_id: String,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// Size of the content in bytes.
    pub size: u64,
}

/// What came of a fetch.
#[derive(Clone, Debug)]
pub struct FetchOutcome {
    /// The answer to the INVITE.
    pub answer: Answer,
    /// Messages received in the session.
    pub messages: Vec<ReceivedMessage>,
    /// Ended by BYE, not by a broken connection or a timeout.
    pub orderly: bool,
}
