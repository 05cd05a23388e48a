//! What the administration interface speaks: JSON objects of these shapes.

use serde::{Deserialize, Serialize};

use crate::policies::GenerationStatus;

/// One waiting message.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct QueueEntry {
    /// The server's number.
    pub id: u64,
    /// Whose user the recipient is.
    pub tenant: String,
    /// The recipient.
    pub to: String,
    /// The sender.
    pub from: String,
    /// `message` or `disposition`.
    pub kind: String,
    /// `page` or `large`: the mode it came in.
    pub mode: String,
    /// Content-Type.
    pub content_type: String,
    /// Size of the body.
    pub size_bytes: u64,
    /// RFC 3339.
    pub received_at: String,
    /// RFC 3339.
    pub expires_at: String,
    /// Priority.
    pub priority: u8,
    /// Attempts since the recipient last became available.
    pub attempts: u16,
    /// What it waits for.
    pub state: QueueState,
    /// RFC 3339: of [`QueueState::Retry`].
    pub retry_at: Option<String>,
    /// RFC 3339: of [`QueueState::Announced`].
    pub announced_until: Option<String>,
    /// How the last attempt ended.
    pub last_failure: Option<String>,
    /// imdn.Message-ID.
    pub imdn_message_id: Option<String>,
}

/// What a message waits for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueState {
    /// Its recipient, or those before it.
    Waiting,
    /// A time, after a failure or because a policy holds it.
    Retry,
    /// Its client, which was told of it, to fetch it.
    Announced,
}

/// A page of the queue.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct QueuePage {
    /// In order of arrival.
    pub messages: Vec<QueueEntry>,
    /// `after` of the next page; none on the last.
    pub next_after: Option<u64>,
}

/// What to discard: some messages, or all of one recipient.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DiscardRequest {
    /// These.
    #[serde(default)]
    pub ids: Vec<u64>,
    /// All of this recipient's.
    #[serde(default)]
    pub to: Option<String>,
    /// Whose user the recipient is, where that cannot be told: its tenant was removed, or it is served nowhere.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Tell the senders that asked for negative delivery.
    #[serde(default)]
    pub report: bool,
}

/// What was discarded.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Discarded {
    /// So many messages.
    pub messages: usize,
}

/// A user.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct User {
    /// Canonical address.
    pub address: String,
    /// Whose.
    pub tenant: String,
    /// Other names, those of the configuration first.
    pub aliases: Vec<String>,
    /// `push`, `pull`, `hold`; none: as the operator says.
    pub delivery: Option<String>,
    /// Subscriber class.
    pub class: Option<String>,
    /// Offset from UTC.
    pub utc_offset_minutes: Option<i16>,
    /// What waits.
    pub waiting_messages: u32,
    /// Its bytes.
    pub waiting_bytes: u64,
    /// Where the user is.
    pub contacts: Vec<UserContact>,
    /// What the user authenticates with.
    pub authentication: UserAuthentication,
}

/// What a user authenticates with. No hash is ever shown.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct UserAuthentication {
    /// The tenant demands it of those who do not come from a trusted address.
    pub is_demanded: bool,
    /// Of the tenant: what hashes are made with.
    pub realm: String,
    /// Of the tenant, preferred first, without `-sess`: what hashes are made with.
    pub algorithms: Vec<String>,
    /// The user's; none: no credentials for this realm.
    pub username: Option<String>,
    /// For which there is a hash.
    pub hashed: Vec<String>,
}

/// New credentials of a user. The password is hashed by whoever knows it.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsChange {
    /// What the hashes were made with.
    pub username: String,
    /// The same; the tenant's.
    pub realm: String,
    /// H(A1) of RFC 7616 in hexadecimal digits, by algorithm.
    pub hashes: std::collections::BTreeMap<String, String>,
}

/// A registration.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct UserContact {
    /// Contact URI.
    pub uri: String,
    /// RFC 3339.
    pub expires_at: String,
}

/// A change of a user; what is absent stays.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    /// `push`, `pull`, `hold` or `default`.
    pub delivery: Option<String>,
    /// Empty removes it.
    pub class: Option<String>,
    /// -1440 to 1440.
    pub utc_offset_minutes: Option<i16>,
    /// Replaces the earlier ones, but for those of the configuration. One that is somebody else's is refused with 409.
    pub aliases: Option<Vec<String>>,
}

/// What is registered for a user elsewhere, by an operator's system: the whole of it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReportedRegistration {
    /// SIP URI that leads to the user's devices, for example a registrar's; absent: `via` of the tenant's
    /// `registration_events`.
    pub via: Option<String>,
    /// How long it is so, 1 to a week; more is cut to `limits.max_registration_seconds`.
    pub expires_seconds: u32,
    /// Contact values of its devices with their feature tags; absent: not known; empty: nobody is there.
    pub contacts: Option<Vec<String>>,
}

/// All tenants.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TenantList {
    /// In order of their names.
    pub tenants: Vec<TenantSummary>,
}

/// A tenant, and what it uses.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TenantSummary {
    /// Its name.
    pub name: String,
    /// `file`: in the configuration file; `added`: at run time.
    pub source: String,
    /// Its domains.
    pub domains: Vec<String>,
    /// Its number prefixes.
    pub numbers: Vec<String>,
    /// `standard`, or a path: what the configuration says.
    pub policy: String,
    /// What decides.
    pub active: Option<GenerationStatus>,
    /// Messages that wait; dispositions are not counted.
    pub stored_messages: u32,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Dispositions that wait.
    pub stored_dispositions: u32,
    /// Their bytes.
    pub stored_disposition_bytes: u64,
    /// MSRP sessions.
    pub sessions: u64,
    /// Deliveries.
    pub deliveries_in_flight: u64,
}

/// A tenant with everything that is said of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TenantDetails {
    /// In short.
    #[serde(flatten)]
    pub summary: TenantSummary,
    /// As `[tenants.NAME]` has it, defaults included.
    pub configuration: serde_json::Value,
}

/// What stays of a tenant that was removed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RemovedTenant {
    /// Messages.
    pub stored_messages: u32,
    /// Their bytes.
    pub stored_bytes: u64,
}

/// What decides for a tenant since then.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ChangedPolicy {
    /// Whose.
    pub tenant: String,
    /// The number of its generation.
    pub generation: u64,
}

/// What reading the configuration file again led to.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ReloadReport {
    /// Tenants that are new.
    pub added: Vec<String>,
    /// Tenants that are otherwise.
    pub changed: Vec<String>,
    /// Tenants that are gone.
    pub removed: Vec<String>,
    /// Tenants for which another generation of their policy decides than before.
    #[serde(default)]
    pub policies: Vec<ChangedPolicy>,
    /// What needs a restart, and whatever else the operator should know.
    pub warnings: Vec<String>,
}
