//! What the configuration bounds, in the terms of those who keep to it.

use restante_deferral::decision::HostAbilities;
use restante_deferral::model::Duration;
use restante_deferral::participating_function::{Limits as DeferralLimits, ReportKey};
use restante_msrp::framing::FramingLimits;
use restante_sip::message::MessageLimits;
use restante_store::sqlite::WriteLimits;
use restante_transport::TransportLimits;
use restante_transport::queue::QueueLimits;

use crate::configuration::{Configuration, Limits, Tenant};

/// Responses, ACK, BYE, CANCEL and REGISTER that wait for a shard; more are dropped and come again.
const MAX_PRIORITY_ITEMS: usize = 65_536;
/// Bytes of them.
const MAX_PRIORITY_BYTES: usize = 64 * 1024 * 1024;
/// One source has at most one of so many shares of the handshakes under way.
const HANDSHAKE_SHARES: u64 = 16;

/// Limits of the machines of a tenant that speaks itself in this domain.
pub(super) fn deferral_limits(
    limits: &Limits,
    tenant: &Tenant,
    domain: &str,
    report_key: &ReportKey,
) -> DeferralLimits {
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    DeferralLimits {
        max_window_messages: small(limits.max_window_messages),
        max_waiting_arrivals: size(limits.max_waiting_arrivals),
        registration_delay: Duration::from_millis(limits.registration_delay_milliseconds),
        max_relay_of_invitation: Duration::from_millis(limits.max_relay_invite_milliseconds),
        max_hold: Duration::from_secs(limits.max_hold_seconds),
        max_keep: Duration::from_secs(limits.max_keep_seconds),
        reporter: format!("sip:{domain}"),
        report_key: report_key.clone(),
        hand_over_targets: tenant.hand_over.keys().cloned().collect(),
        ..DeferralLimits::default()
    }
}

/// What policies are told of this host, without what each tenant adds.
pub(super) fn abilities(configuration: &Configuration) -> HostAbilities {
    HostAbilities {
        max_page_bytes: if configuration.sip.congestion_safe { 64 * 1024 } else { 1300 },
        max_message_bytes: configuration.limits.max_large_body_bytes,
        hand_over_targets: Vec::new(),
    }
}

/// Limits of the queue before each shard.
pub(super) fn queue_limits(limits: &Limits) -> QueueLimits {
    QueueLimits {
        max_ordinary_items: size(limits.max_receive_queue),
        max_ordinary_bytes: size(limits.max_receive_queue_bytes),
        max_priority_items: MAX_PRIORITY_ITEMS,
        max_priority_bytes: MAX_PRIORITY_BYTES,
    }
}

/// Limits of the store, and of what waits for it.
pub(super) fn write_limits(limits: &Limits) -> WriteLimits {
    WriteLimits {
        max_waiting: size(limits.max_waiting_commits),
        max_waiting_bytes: size(limits.max_waiting_commit_bytes),
        max_database_bytes: limits.max_database_bytes,
        ..WriteLimits::default()
    }
}

/// Limits of SIP messages and of connections.
pub(super) fn transport_limits(limits: &Limits) -> TransportLimits {
    TransportLimits {
        message: MessageLimits {
            max_header_bytes: size(limits.max_sip_header_bytes),
            max_header_fields: size(limits.max_sip_header_fields),
            max_body_bytes: size(limits.max_sip_message_bytes.saturating_sub(limits.max_sip_header_bytes)),
        },
        max_handshakes: size(limits.max_handshakes),
        max_handshakes_per_source: size((limits.max_handshakes / HANDSHAKE_SHARES).max(1)),
        max_connections: size(limits.max_connections),
        max_connections_per_source: size(limits.max_connections_per_source),
        max_outgoing_connections: size(limits.max_outgoing_connections),
        max_msrp_connections: size(limits.max_msrp_connections),
        web_socket_ping: std::time::Duration::from_secs(limits.web_socket_ping_seconds),
        ..TransportLimits::default()
    }
}

/// Limits of MSRP requests.
pub(super) fn framing_limits(limits: &Limits) -> FramingLimits {
    FramingLimits {
        max_headers: size(limits.max_msrp_header_fields),
        max_head_bytes: size(limits.max_msrp_header_bytes),
        max_chunk_bytes: limits.max_chunk_bytes,
        ..FramingLimits::default()
    }
}

/// A configured number as a size in memory.
pub(super) fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
