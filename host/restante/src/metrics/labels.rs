//! What counters are told apart by.

use prometheus_client::encoding::EncodeLabelSet;
use restante_deferral::decision::{AttemptKind, Undecided};
use restante_deferral::model::Origin;

/// All reasons for which input is dropped. A test holds it to the calls that count them.
pub const DROP_REASONS: [&str; 22] = [
    "unreadable-datagram",
    "truncated-datagram",
    "unreadable-stream",
    "malformed-request",
    "malformed-response",
    "response-to-nothing",
    "shard-busy",
    "answer-not-sent",
    "name-changes-hands",
    "too-many-recipients",
    "too-many-registration-subscriptions",
    "unanswered-garbage",
    "source-shut-out",
    "no-such-session",
    "second-msrp-connection",
    "slow-msrp",
    "forbidden-target",
    "forbidden-msrp-connection",
    "forbidden-msrp-path",
    "relay-client",
    "silent-relay-peer",
    "session-order",
];
/// What reading the configuration file comes to.
pub(super) const RELOAD_OUTCOMES: [&str; 2] = ["taken", "refused"];
/// The limits of a tenant that are counted when they are reached.
pub(super) const TENANT_LIMITS: [&str; 4] = ["stored", "sessions", "deliveries", "reports"];
/// What a sender, or its address, may have too many of.
pub(super) const SENDER_LIMITS: [&str; 4] = ["sessions", "calls", "source-sessions", "source-calls"];
/// What asking a request who it is from comes to.
pub(super) const AUTHENTICATION_OUTCOMES: [&str; 9] = [
    "accepted",
    "challenged",
    "stale",
    "repeated",
    "wrong",
    "unprotected",
    "malformed",
    "slowed-down",
    "other-identity",
];
/// All kinds of attempts.
pub(super) const ATTEMPT_KINDS: [AttemptKind; 6] = [
    AttemptKind::Page,
    AttemptKind::Session,
    AttemptKind::Notification,
    AttemptKind::Relay,
    AttemptKind::Pull,
    AttemptKind::HandOver,
];

/// An attempt's labels.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct AttemptLabels {
    pub(super) attempt: &'static str,
}

/// A failed attempt's labels.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct FailureLabels {
    pub(super) attempt: &'static str,
    pub(super) origin: &'static str,
    pub(super) status: u16,
}

/// A fallback's labels.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct FallbackLabels {
    pub(super) tenant: String,
    pub(super) hook: &'static str,
    pub(super) reason: &'static str,
}

/// A tenant's limit that was reached.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct TenantLimitLabels {
    pub(super) tenant: String,
    pub(super) limit: &'static str,
}

/// What a sender has too many of.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct SenderLimitLabels {
    pub(super) tenant: String,
    pub(super) limit: &'static str,
}

/// What something came to.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct OutcomeLabels {
    pub(super) outcome: &'static str,
}

/// A status.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct StatusLabels {
    pub(super) status: u16,
}

/// A request that was refused.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct RefusalLabels {
    pub(super) method: &'static str,
    pub(super) status: u16,
}

/// Something dropped.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct DropLabels {
    pub(super) reason: &'static str,
}

/// A request that had to show who it is from.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct AuthenticationLabels {
    pub(super) tenant: String,
    pub(super) outcome: &'static str,
}

pub(super) fn attempt_label(kind: AttemptKind) -> &'static str {
    match kind {
        AttemptKind::Page => "page",
        AttemptKind::Session => "session",
        AttemptKind::Notification => "notification",
        AttemptKind::Relay => "relay",
        AttemptKind::Pull => "pull",
        AttemptKind::HandOver => "hand-over",
    }
}

pub(super) fn origin_label(origin: Origin) -> &'static str {
    match origin {
        Origin::Device => "device",
        Origin::Core => "core",
        Origin::Timeout => "timeout",
        Origin::Transport => "transport",
    }
}

pub(super) fn undecided_label(reason: Undecided) -> &'static str {
    match reason {
        Undecided::Declined => "declined",
        Undecided::Trapped => "trapped",
        Undecided::TimedOut => "timed-out",
        Undecided::OutOfMemory => "out-of-memory",
        Undecided::Overloaded => "overloaded",
        Undecided::Impossible => "impossible",
        Undecided::Suspended => "suspended",
    }
}
