//! What happens to a client.

use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;
use restante_cpim::imdn::Disposition;
use restante_cpim::message_summary::MessageSummary;

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// In a MESSAGE.
    Page,
    /// In a session that the other side began.
    Push,
    /// In a session that fetched it.
    Fetch,
}

/// Where the content of a received message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Here.
    Memory(Bytes),
    /// In a file.
    File(PathBuf),
}

/// A message that was received whole.
#[derive(Clone, Debug)]
pub struct ReceivedMessage {
    /// When it was whole.
    pub at: SystemTime,
    /// How it came.
    pub mode: Mode,
    /// Who sent it, as the network asserts or the message itself says.
    pub sender: String,
    /// imdn.Message-ID.
    pub message_id: Option<String>,
    /// A message with this sender and Message-ID was received before.
    pub repeated: bool,
    /// Type of the content.
    pub content_type: String,
    /// How the content is encoded, for example `deflate`; none when it is as it is.
    pub content_encoding: Option<String>,
    /// Size of the content in bytes, without the CPIM around it.
    pub size: u64,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// The content.
    pub content: Content,
    /// CPIM Subject.
    pub subject: Option<String>,
    /// CPIM DateTime.
    pub date_time: Option<String>,
    /// Call-ID of the MESSAGE or of the session.
    pub call_id: String,
    /// Conversation-ID of the MESSAGE or of the session.
    pub conversation_id: Option<String>,
    /// Header fields of the MESSAGE or INVITE that a test may want to look at: names as written, values.
    pub sip_fields: Vec<(String, String)>,
}

impl ReceivedMessage {
    /// The content as text, if it is in memory and is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Memory(bytes) => std::str::from_utf8(bytes).ok(),
            Content::File(_) => None,
        }
    }

    /// The first SIP header field of that name.
    #[must_use]
    pub fn sip_field(&self, name: &str) -> Option<&str> {
        self.sip_fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A session that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSummary {
    /// Its Call-ID.
    pub call_id: String,
    /// Fetched by this client, not pushed by the other side.
    pub fetched: bool,
    /// Messages received whole and acknowledged.
    pub messages: usize,
    /// Ended by BYE, not by a broken connection or a timeout.
    pub orderly: bool,
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum ClientEvent {
    /// A message came.
    Received(Box<ReceivedMessage>),
    /// A summary of waiting messages came.
    Summary {
        /// When.
        at: SystemTime,
        /// In a NOTIFY; else in a MESSAGE.
        by_notify: bool,
        /// Inside a subscription of this client.
        subscribed: bool,
        /// What it says.
        summary: MessageSummary,
    },
    /// A disposition notification came.
    Disposition {
        /// When.
        at: SystemTime,
        /// From whom.
        from: String,
        /// imdn.Message-ID of the message it is about.
        message_id: String,
        /// What became of that message.
        disposition: Disposition,
    },
    /// A request was answered as a script says.
    Scripted {
        /// When.
        at: SystemTime,
        /// Its method.
        method: String,
        /// The status; none for silence.
        status: Option<u16>,
        /// imdn.Message-ID of what was in it.
        message_id: Option<String>,
    },
    /// A session in which messages were received is over.
    SessionEnded {
        /// When.
        at: SystemTime,
        /// What became of it.
        summary: SessionSummary,
    },
    /// The subscription is over, as the server says.
    SubscriptionEnded {
        /// When.
        at: SystemTime,
    },
    /// A disposition notification of this client was not taken.
    NotificationRefused {
        /// When.
        at: SystemTime,
        /// The status; none when there was no answer.
        status: Option<u16>,
    },
    /// Something that a strict client objects to.
    Violation(String),
}
