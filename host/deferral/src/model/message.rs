//! Messages, as they arrive and as they wait.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::json::flags;
use super::{CanonicalAddress, DeduplicationKey, LastResult, MessageId, RecipientKey, Timestamp};

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageKind {
    /// From one person to another.
    Message,
    /// A disposition notification (RFC 5438). Counts neither in quotas nor in "few".
    Disposition,
}

/// The two modes of CPM standalone messaging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// SIP MESSAGE.
    Page,
    /// SIP INVITE with an MSRP session.
    Large,
}

impl Mode {
    /// The one that this is not.
    #[must_use]
    pub fn other(self) -> Mode {
        match self {
            Mode::Page => Mode::Large,
            Mode::Large => Mode::Page,
        }
    }
}

/// Who set a message's expiry. The sender's is never lengthened (RFC 3428 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpirySource {
    /// The sender.
    Sender,
    /// The operator's policy.
    Operator,
}

/// How the sender's identity was established.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verification {
    /// Not at all.
    None,
    /// By a peer that the tenant trusts.
    TrustedPeer,
    /// By the sender's own credentials.
    Authenticated,
}

/// What a core says of a recipient's registration (RFC 5502).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistrationState {
    /// Nothing.
    #[default]
    Unknown,
    /// Registered.
    Registered,
    /// Not registered.
    Unregistered,
}

/// Who sent a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The asserted address in canonical form.
    pub address: CanonicalAddress,
    /// The asserted URI as it came.
    pub uri: String,
    /// How it was established.
    pub verification: Verification,
    /// `Privacy: id` (RFC 3325 §7): the address goes to nobody untrusted.
    pub private: bool,
}

/// Dispositions that the sender asked for (RFC 5438 §6.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dispositions {
    /// `positive-delivery`
    pub positive_delivery: bool,
    /// `negative-delivery`
    pub negative_delivery: bool,
    /// `processing`
    pub processing: bool,
    /// `display`
    pub display: bool,
}

flags!(Dispositions {
    positive_delivery: PositiveDelivery,
    negative_delivery: NegativeDelivery,
    processing: Processing,
    display: Display,
});

/// The IMDN headers of a CPIM message that reports need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImdnHeaders {
    /// imdn.Message-ID.
    pub message_id: String,
    /// CPIM DateTime, as it came: reports repeat it.
    pub date_time: Option<String>,
    /// CPIM To, as it came: reports name it as the recipient.
    pub to: Option<String>,
    /// CPIM From, as it came.
    pub from: Option<String>,
    /// imdn.Original-To: the recipient as the sender wrote it, where an intermediary changed CPIM To. Reports repeat it.
    pub original_to: Option<String>,
    /// Dispositions asked for.
    pub dispositions: Dispositions,
    /// imdn.IMDN-Record-Route, first first: reports travel along it.
    pub record_route: Vec<String>,
}

/// Name of a body file, made by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyId(pub u128);

/// The body of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// In memory, and in the message's row.
    Inline(Bytes),
    /// In a file of its own, durable before the row is.
    Spooled {
        /// Which file.
        id: BodyId,
        /// Its size.
        size_bytes: u64,
    },
}

impl Body {
    /// Its size.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        match self {
            Body::Inline(bytes) => bytes.len() as u64,
            Body::Spooled { size_bytes, .. } => *size_bytes,
        }
    }
}

/// Everything about a message but its body and its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What it is.
    pub kind: MessageKind,
    /// The mode it came in.
    pub mode: Mode,
    /// Who sent it.
    pub sender: Sender,
    /// The Request-URI that it came with: what the sender called the recipient.
    pub request_uri: String,
    /// Header fields to deliver it with, as they came: Conversation-ID, Contribution-ID, Subject and the like.
    pub headers: Vec<(String, String)>,
    /// Content-Type of the body as it came, parameters included.
    pub content_type: String,
    /// Media type inside CPIM without parameters; none when the body is not CPIM.
    pub wrapped_type: Option<String>,
    /// The IMDN headers, when the body is CPIM and has a Message-ID.
    pub imdn: Option<ImdnHeaders>,
    /// Size of the MESSAGE that would deliver it, with a Request-URI and a route of no length and the body included;
    /// none when that cannot be a MESSAGE at all.
    pub page_base_bytes: Option<u32>,
}

/// A message to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// Whose queue.
    pub recipient: RecipientKey,
    /// What makes a repetition recognisable.
    pub deduplication: DeduplicationKey,
    /// The same over the names as they were written, where those are others. A store knows both, and gives back none here.
    pub deduplication_as_written: Option<DeduplicationKey>,
    /// What it says of itself.
    pub envelope: Envelope,
    /// Its body.
    pub body: Body,
    /// When it arrived.
    pub received_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Who said so.
    pub expiry_source: ExpirySource,
    /// Higher goes first.
    pub priority: u8,
    /// It is to go to this named target instead of the recipient's devices.
    pub hand_over_to: Option<String>,
}

/// What one device did with a message that is kept for others too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeviceState {
    /// +sip.instance, or the contact's address.
    pub device: String,
    /// When it acknowledged the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
}

/// A message that waits: what was stored and what became of it since. This is also what a store gives back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// The server's number.
    pub id: MessageId,
    /// As it was stored. `expires_at` and `hand_over_to` follow later decisions.
    pub message: NewMessage,
    /// Attempts since the recipient last became available.
    pub attempts: u16,
    /// Not to be tried before this.
    pub not_before: Option<Timestamp>,
    /// How its last attempt ended.
    pub last_failure: Option<LastResult>,
    /// A device refused it in page mode with 405, 415, 488, 501 or the like.
    pub page_refused: bool,
    /// The same in large message mode.
    pub large_refused: bool,
    /// When it was last announced.
    pub notified_at: Option<Timestamp>,
    /// Until when the client was given to fetch it.
    pub fetch_deadline: Option<Timestamp>,
    /// After the deadline: push without asking.
    pub push_after_deadline: bool,
    /// Per device; empty while no device took it.
    pub devices: Vec<DeviceState>,
}

impl StoredMessage {
    /// A message that was just stored: nothing became of it yet.
    #[must_use]
    pub fn new(id: MessageId, message: NewMessage) -> StoredMessage {
        StoredMessage {
            id,
            message,
            attempts: 0,
            not_before: None,
            last_failure: None,
            page_refused: false,
            large_refused: false,
            notified_at: None,
            fetch_deadline: None,
            push_after_deadline: false,
            devices: Vec::new(),
        }
    }
}
