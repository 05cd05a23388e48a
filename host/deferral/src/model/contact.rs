//! Ways to reach a recipient.

use serde::{Deserialize, Serialize};

use super::json::flags;
use super::{ContactId, Timestamp};

/// What a contact can do, from the methods and feature tags of its registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Takes MESSAGE.
    pub page_mode: bool,
    /// Takes INVITE with MSRP.
    pub large_message_mode: bool,
    /// Registered the CPM deferred delivery feature tag.
    pub cpm_deferred: bool,
    /// Registered a CPM pager or large message feature tag.
    pub cpm_messaging: bool,
    /// Reached over a reliable transport.
    pub reliable_transport: bool,
    /// Known through a third-party registration: a route to the client, not the client.
    pub through_proxy: bool,
    /// Subscribed to message-summary.
    pub subscribed: bool,
    /// Takes a message summary without having subscribed.
    pub takes_summaries: bool,
}

flags!(Abilities {
    page_mode: PageMode,
    large_message_mode: LargeMessageMode,
    cpm_deferred: CpmDeferred,
    cpm_messaging: CpmMessaging,
    reliable_transport: ReliableTransport,
    through_proxy: ThroughProxy,
    subscribed: Subscribed,
    takes_summaries: TakesSummaries,
});

/// Who a failure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The recipient's device itself.
    Device,
    /// A proxy or the core.
    Core,
    /// Nobody: no answer in time.
    Timeout,
    /// The transport.
    Transport,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LastResult {
    /// When.
    pub at: Timestamp,
    /// SIP or MSRP status, when one came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Who said so.
    pub origin: Origin,
}

/// One way to reach a recipient now. The edge keeps the URI, Path and flow that belong to `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Its number.
    pub id: ContactId,
    /// +sip.instance, without the angle brackets.
    pub instance: Option<String>,
    /// Name of the device: the instance, or the contact's address.
    pub device: String,
    /// Preference, 0 to 1000.
    pub q_permille: u16,
    /// What it can do.
    pub abilities: Abilities,
    /// Its other feature tags.
    pub tags: Vec<String>,
    /// Bytes that Request-URI, Route and Via add to a MESSAGE for this contact.
    pub route_bytes: u32,
    /// Largest MESSAGE that may go there: 1300, or more where the operator says that every hop is congestion-safe.
    pub max_page_bytes: u32,
    /// The client subscribed to message-summary.
    pub subscribed: bool,
    /// A notification can reach it some other way: it accepts summaries in a MESSAGE, or the operator turned
    /// unsolicited NOTIFY on.
    pub accepts_summary: bool,
    /// When the binding ends.
    pub expires_at: Timestamp,
    /// When it registered or refreshed last; none: nobody registers here, and nobody will.
    pub refreshed_at: Option<Timestamp>,
}
