//! Questions. Every item means what the item of the same name in `wit/policy.wit` means.

use crate::model::{
    Abilities, ContactId, Counts, DeviceState, Dispositions, ExpirySource, LastResult, MessageId, MessageKind, Mode,
    Origin, Profile, QueueTotals, RecipientKey, Timestamp, Verification,
};

/// What this host can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAbilities {
    /// Largest final MESSAGE request.
    pub max_page_bytes: u32,
    /// Largest message that is accepted at all.
    pub max_message_bytes: u64,
    /// Names of the configured targets.
    pub hand_over_targets: Vec<String>,
}

/// What every hook is given, but for tenant settings and host abilities: those belong to the policy's generation and are
/// added where the component is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The time of the decision.
    pub now: Timestamp,
    /// The recipient.
    pub recipient: RecipientKey,
    /// Its names and preferences.
    pub profile: Profile,
    /// What waits for it.
    pub queue: QueueTotals,
    /// Further values.
    pub fields: Vec<(String, String)>,
}

/// A contact as a policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactView {
    /// Its number.
    pub id: ContactId,
    /// +sip.instance.
    pub instance: Option<String>,
    /// 0 to 1000.
    pub q_permille: u16,
    /// What it can do.
    pub abilities: Abilities,
    /// Other feature tags.
    pub tags: Vec<String>,
    /// How the last attempt there ended; none when well.
    pub last_failure: Option<LastResult>,
}

/// When `on-incoming` is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IncomingPhase {
    /// At an INVITE.
    Invitation,
    /// The whole message is here.
    Complete,
}

/// A message that arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Whether it is complete.
    pub phase: IncomingPhase,
    /// What it is.
    pub kind: MessageKind,
    /// The mode it came in.
    pub mode: Mode,
    /// The sender's address.
    pub sender: String,
    /// How it was established.
    pub verification: Verification,
    /// Privacy was asked for.
    pub private: bool,
    /// Size of the body, when known.
    pub size_bytes: Option<u64>,
    /// Media type without parameters.
    pub content_type: String,
    /// Inside CPIM.
    pub wrapped_type: Option<String>,
    /// Asked for.
    pub dispositions: Dispositions,
    /// The sender's expiry.
    pub expires_at: Option<Timestamp>,
    /// Where the recipient is.
    pub contacts: Vec<ContactView>,
    /// Of the recipient.
    pub recipient_counts: Counts,
    /// Of the sender.
    pub sender_counts: Counts,
    /// Of the tenant.
    pub tenant_counts: Counts,
    /// What upstream met.
    pub upstream_failure: Option<u16>,
}

/// A message that waits, as a policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingMessage {
    /// Its number.
    pub id: MessageId,
    /// Empty when private.
    pub sender: String,
    /// What it is.
    pub kind: MessageKind,
    /// Size of the final MESSAGE; none when it cannot go in page mode to any contact.
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
    pub not_before: Option<Timestamp>,
    /// How its last attempt ended.
    pub last_failure: Option<LastResult>,
    /// Refused in page mode.
    pub page_refused: bool,
    /// Refused in large message mode.
    pub large_refused: bool,
    /// Announced.
    pub notified_at: Option<Timestamp>,
    /// Until when the client may fetch it.
    pub fetch_deadline: Option<Timestamp>,
    /// Per device.
    pub devices: Vec<DeviceState>,
}

/// Why `on-available` is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// A contact registered.
    Registered,
    /// A contact refreshed.
    Refreshed,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// Why.
    pub trigger: Trigger,
    /// Never empty, best first.
    pub contacts: Vec<ContactView>,
    /// In delivery order.
    pub messages: Vec<WaitingMessage>,
    /// How many more.
    pub not_shown: u32,
    /// Some contact can be notified.
    pub can_notify: bool,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// These.
    Listed(Vec<MessageId>),
}

/// A client asks for its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Its contact, when registered.
    pub contact: Option<ContactView>,
    /// How it proved who it is.
    pub verification: Verification,
    /// What it asks for.
    pub selection: Selection,
    /// `a=accept-types`.
    pub accept_types: Vec<String>,
    /// `a=accept-wrapped-types`.
    pub accept_wrapped_types: Vec<String>,
    /// `a=max-size`.
    pub max_size_bytes: Option<u64>,
    /// In delivery order.
    pub messages: Vec<WaitingMessage>,
    /// How many more.
    pub not_shown: u32,
}

/// What was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Progress {
    /// Refused.
    Refused,
    /// Some bytes were sent.
    Partial,
    /// None.
    Unsent,
}

/// A message that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedMessage {
    /// The message.
    pub message: WaitingMessage,
    /// How far it came.
    pub progress: Progress,
    /// MSRP status for it.
    pub status: Option<u16>,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was attempted.
    pub attempt: AttemptKind,
    /// With whom.
    pub contact: Option<ContactId>,
    /// SIP status.
    pub status: Option<u16>,
    /// Who said so.
    pub origin: Origin,
    /// Retry-After.
    pub retry_after_seconds: Option<u32>,
    /// What was not delivered.
    pub messages: Vec<FailedMessage>,
    /// Where else the recipient is.
    pub other_contacts: Vec<ContactView>,
}

/// A message whose time is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiringMessage {
    /// The message.
    pub message: WaitingMessage,
    /// Who set its expiry.
    pub source: ExpirySource,
    /// Dispositions asked for.
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
