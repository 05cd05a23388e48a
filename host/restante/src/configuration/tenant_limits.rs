//! `[tenants.NAME.limits]`: one tenant's share of the server.

use serde::{Deserialize, Serialize};

use super::Limits;
use super::number::{can_be_limit, expected_limit};

/// Makes the struct and the list of its values.
macro_rules! tenant_limits {
    ($($(#[$doc:meta])+ $name:ident;)+) => {
        /// What a tenant may use, where it says so. Each is a whole number of at least 1.
        #[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct TenantLimits {
            $(
                $(#[$doc])+
                #[serde(
                    skip_serializing_if = "Option::is_none",
                    deserialize_with = "super::number::whole_or_none"
                )]
                pub $name: Option<u64>,
            )+
        }

        impl TenantLimits {
            fn all(&self) -> [(&'static str, Option<u64>); [$(stringify!($name)),+].len()] {
                [$((stringify!($name), self.$name)),+]
            }
        }
    };
}

tenant_limits! {
    /// Time of one decision; beyond it the fallback decides. Default: that of the server.
    max_decision_milliseconds;
    /// Memory of one decision; beyond it the fallback decides. Default, and at most: that of the server.
    max_policy_memory_bytes;
    /// Decisions that run at a time; more wait. Default: half of the threads that decide, one at least.
    max_decisions_at_once;
    /// Log lines of the policy; more are dropped and counted. Default: 100.
    max_log_lines_per_second;
    /// Messages that wait; more: 480 with Retry-After. Default: ten million.
    max_stored_messages;
    /// Their bytes; the same. Default: 1 TiB.
    max_stored_bytes;
    /// MSRP sessions, all shards together; more: 480 to an INVITE, deliveries wait. Default: what the server has
    /// for one shard.
    max_sessions;
    /// Deliveries in flight, all shards together; more wait. Default: 10,000.
    max_deliveries_in_flight;
}

/// What holds for a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantBounds {
    /// See [`TenantLimits`].
    pub max_decision_milliseconds: u64,
    /// See [`TenantLimits`].
    pub max_policy_memory_bytes: u64,
    /// None: as the host of policies has it.
    pub max_decisions_at_once: Option<u64>,
    /// See [`TenantLimits`].
    pub max_log_lines_per_second: u64,
    /// See [`TenantLimits`].
    pub max_stored_messages: u64,
    /// See [`TenantLimits`].
    pub max_stored_bytes: u64,
    /// See [`TenantLimits`].
    pub max_sessions: u64,
    /// See [`TenantLimits`].
    pub max_deliveries_in_flight: u64,
}

impl TenantLimits {
    /// With what a server with these limits has where nothing is said.
    #[must_use]
    pub fn bounds(&self, server: &Limits) -> TenantBounds {
        TenantBounds {
            max_decision_milliseconds: self.max_decision_milliseconds.unwrap_or(server.max_decision_milliseconds),
            max_policy_memory_bytes: self.max_policy_memory_bytes.unwrap_or(server.max_policy_memory_bytes),
            max_decisions_at_once: self.max_decisions_at_once,
            max_log_lines_per_second: self.max_log_lines_per_second.unwrap_or(100),
            max_stored_messages: self.max_stored_messages.unwrap_or(10_000_000),
            max_stored_bytes: self.max_stored_bytes.unwrap_or(1 << 40),
            max_sessions: self.max_sessions.unwrap_or(server.max_sessions),
            max_deliveries_in_flight: self.max_deliveries_in_flight.unwrap_or(10_000),
        }
    }

    /// # Errors
    /// The key, and what is wrong with its value.
    pub(super) fn check(&self, server: &Limits) -> Result<(), (&'static str, String)> {
        for (name, value) in self.all() {
            if let Some(value) = value.filter(|value| !can_be_limit(*value)) {
                return Err((name, format!(" = {value}: {}", expected_limit())));
            }
        }
        match self.max_policy_memory_bytes {
            Some(bytes) if bytes > server.max_policy_memory_bytes => Err((
                "max_policy_memory_bytes",
                format!(" = {bytes}: expected at most {}, which is that of [limits]", server.max_policy_memory_bytes),
            )),
            _ => Ok(()),
        }
    }
}
