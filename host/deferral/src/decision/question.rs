//! Questions. Every item means what the item of the same name in `wit/policy.wit` means.

use serde::{Deserialize, Serialize};

use crate::model::{
    Abilities, CanonicalAddress, ContactId, Counts, Delivery, DeviceState, Dispositions, ExpirySource, LastResult,
    MessageId, MessageKind, Mode, Origin, QueueTotals, RegistrationState, TenantName, Timestamp, Verification,
};

/// What this host can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostAbilities {
    /// Largest final MESSAGE request.
    pub max_page_bytes: u32,
    /// Largest message that is accepted at all.
    pub max_message_bytes: u64,
    /// Names of the configured targets.
    #[serde(default)]
    pub hand_over_targets: Vec<String>,
}

/// What every hook is given, but for tenant settings and host abilities: those belong to the policy's generation and are
/// added where the component is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Context {
    /// The time of the decision.
    pub now: Timestamp,
    /// Whose policy is asked.
    pub tenant: TenantName,
    /// The recipient.
    pub recipient: RecipientView,
    /// What waits for it.
    #[serde(default)]
    pub queue: QueueTotals,
    /// Further values.
    #[serde(default)]
    pub fields: Vec<Field>,
}

/// The served user that a decision is about, as a policy sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RecipientView {
    /// Its address.
    pub address: CanonicalAddress,
    /// Its other names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The operator's subscriber class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriber_class: Option<String>,
    /// The user's preference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Offset from UTC in minutes, -1440 to 1440.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utc_offset_minutes: Option<i16>,
}

/// A named value that not every policy needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Field {
    /// Dotted lower-case name.
    pub name: String,
    /// The value as text.
    pub value: String,
}

/// A contact as a policy sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ContactView {
    /// Its number.
    pub id: ContactId,
    /// +sip.instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// 0 to 1000.
    pub q_permille: u16,
    /// What it can do.
    #[serde(default)]
    pub abilities: Abilities,
    /// Other feature tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// How the last attempt there ended; none when well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastResult>,
}

/// When `on-incoming` is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncomingPhase {
    /// At an INVITE.
    Invitation,
    /// The whole message is here.
    Complete,
}

/// Who sent a message, as a policy sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SenderView {
    /// The asserted address.
    pub address: String,
    /// How it was established.
    pub verification: Verification,
    /// Privacy was asked for.
    pub private: bool,
}

/// A message that arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Incoming {
    /// Whether it is complete.
    pub phase: IncomingPhase,
    /// What it is.
    pub kind: MessageKind,
    /// The mode it came in.
    pub mode: Mode,
    /// The service that its request names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Who sent it.
    pub sender: SenderView,
    /// Size of the body, when known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Media type without parameters.
    pub content_type: String,
    /// Inside CPIM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrapped_type: Option<String>,
    /// Asked for.
    #[serde(default)]
    pub dispositions: Dispositions,
    /// The sender's expiry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What the core says of the recipient's registration.
    #[serde(default)]
    pub registration: RegistrationState,
    /// Where the recipient is.
    #[serde(default)]
    pub contacts: Vec<ContactView>,
    /// Of the recipient.
    #[serde(default)]
    pub recipient_counts: Counts,
    /// Of the sender.
    #[serde(default)]
    pub sender_counts: Counts,
    /// Of the tenant.
    #[serde(default)]
    pub tenant_counts: Counts,
    /// What upstream met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_failure: Option<u16>,
}

/// A message that waits, as a policy sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WaitingMessage {
    /// Its number.
    pub id: MessageId,
    /// Empty when private.
    pub sender: String,
    /// What it is.
    pub kind: MessageKind,
    /// Size of the final MESSAGE; none when it cannot go in page mode to any contact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_bytes: Option<u32>,
    /// Size of the body.
    pub size_bytes: u64,
    /// Media type without parameters.
    pub content_type: String,
    /// When it was stored.
    pub received_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Priority.
    pub priority: u8,
    /// Since the recipient last became available.
    pub attempts: u16,
    /// Not before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// How its last attempt ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastResult>,
    /// Refused in page mode.
    pub page_refused: bool,
    /// Refused in large message mode.
    pub large_refused: bool,
    /// Announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notified_at: Option<Timestamp>,
    /// Until when the client may fetch it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetch_deadline: Option<Timestamp>,
    /// Per device.
    #[serde(default)]
    pub devices: Vec<DeviceState>,
}

/// Why `on-available` is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// A contact registered.
    Registered,
    /// A contact refreshed.
    Refreshed,
    /// News of the recipient other than a REGISTER.
    Reported,
    /// A message arrived for an available recipient.
    MessageArrived,
    /// A time the policy asked for came.
    Timer,
    /// Not fetched in time.
    FetchDeadline,
    /// The operator, or a changed preference.
    Operator,
    /// A plan is done and more waits.
    PlanDone,
}

/// The recipient can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Availability {
    /// Why.
    pub trigger: Trigger,
    /// Never empty, best first.
    #[serde(default)]
    pub contacts: Vec<ContactView>,
    /// In delivery order.
    #[serde(default)]
    pub messages: Vec<WaitingMessage>,
    /// How many more.
    pub not_shown: u32,
    /// Some contact can be notified.
    pub can_notify: bool,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// All.
    All,
    /// These.
    Listed(Vec<MessageId>),
}

/// Which way messages may go in a session that a client began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MediaDirection {
    /// To the client alone.
    #[default]
    ReceiveOnly,
    /// Both.
    SendAndReceive,
}

/// A client asks for its messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pull {
    /// Its contact, when registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<ContactView>,
    /// How it proved who it is.
    pub verification: Verification,
    /// What it asks for.
    pub selection: Selection,
    /// `a=accept-types`.
    #[serde(default)]
    pub accept_types: Vec<String>,
    /// `a=accept-wrapped-types`.
    #[serde(default)]
    pub accept_wrapped_types: Vec<String>,
    /// `a=max-size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size_bytes: Option<u64>,
    /// Which way messages may go.
    #[serde(default)]
    pub direction: MediaDirection,
    /// In delivery order.
    #[serde(default)]
    pub messages: Vec<WaitingMessage>,
    /// How many more.
    pub not_shown: u32,
}

/// What was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptKind {
    /// A MESSAGE.
    Page,
    /// A session of ours.
    Session,
    /// A notification.
    Notification,
    /// A relayed request.
    Relay,
    /// A session of the client's.
    Pull,
    /// A hand-over.
    HandOver,
}

/// How far a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Refused.
    Refused,
    /// Some bytes were sent.
    Partial,
    /// None.
    Unsent,
}

/// A message that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FailedMessage {
    /// The message.
    pub message: WaitingMessage,
    /// How far it came.
    pub progress: Progress,
    /// MSRP status for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Failure {
    /// What was attempted.
    pub attempt: AttemptKind,
    /// With whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<ContactId>,
    /// SIP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Who said so.
    pub origin: Origin,
    /// Retry-After.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
    /// What was not delivered.
    #[serde(default)]
    pub messages: Vec<FailedMessage>,
    /// Where else the recipient is.
    #[serde(default)]
    pub other_contacts: Vec<ContactView>,
}

/// A message whose time is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExpiringMessage {
    /// The message.
    pub message: WaitingMessage,
    /// Who set its expiry.
    pub source: ExpirySource,
    /// Dispositions asked for.
    #[serde(default)]
    pub dispositions: Dispositions,
}

/// A question to a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// `on-incoming`
    Incoming(Context, Box<Incoming>),
    /// `on-available`
    Available(Context, Availability),
    /// `on-pull`
    Pull(Context, Box<Pull>),
    /// `on-failure`
    Failure(Context, Failure),
    /// `on-expiry`
    Expiry(Context, Vec<ExpiringMessage>),
}
