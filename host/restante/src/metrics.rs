//! What is counted, in Prometheus' form.

use std::fmt::Write as _;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use restante_deferral::decision::{AttemptKind, Undecided};
use restante_deferral::model::{Origin, TenantName};
use restante_deferral::participating_function::Event;

/// An attempt's labels.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct AttemptLabels {
    attempt: &'static str,
}

/// A failed attempt's labels.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct FailureLabels {
    attempt: &'static str,
    origin: &'static str,
    status: u16,
}

/// A fallback's labels.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct FallbackLabels {
    tenant: String,
    hook: &'static str,
    reason: &'static str,
}

/// A tenant's limit that was reached.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct TenantLimitLabels {
    tenant: String,
    limit: &'static str,
}

/// What a sender has too many of.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct SenderLimitLabels {
    tenant: String,
    limit: &'static str,
}

/// What something came to.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// A status.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StatusLabels {
    status: u16,
}

/// A request that was refused.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RefusalLabels {
    method: &'static str,
    status: u16,
}

/// Something dropped.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DropLabels {
    reason: &'static str,
}

/// A request that had to show who it is from.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct AuthenticationLabels {
    tenant: String,
    outcome: &'static str,
}

/// All counters of a server; shared, without locks on the hot path.
pub struct Metrics {
    registry: Registry,
    stored: Counter,
    duplicates: Counter,
    delivered: Counter,
    expired: Counter,
    given_up: Counter,
    discarded: Counter,
    handed_over: Counter,
    reported: Counter,
    refused: Family<StatusLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    attempts_failed: Family<FailureLabels, Counter>,
    fallbacks: Family<FallbackLabels, Counter>,
    requests_refused: Family<RefusalLabels, Counter>,
    dropped: Family<DropLabels, Counter>,
    tenant_limits: Family<TenantLimitLabels, Counter>,
    sender_limits: Family<SenderLimitLabels, Counter>,
    authentications: Family<AuthenticationLabels, Counter>,
    reloads: Family<OutcomeLabels, Counter>,
    /// Messages that wait, all tenants.
    pub waiting_messages: Gauge,
    /// Dispositions that wait, all tenants.
    pub waiting_dispositions: Gauge,
    /// Recipients in memory.
    pub recipients: Gauge,
    /// Next hops whose refusals for good are not believed.
    pub disbelieved_hops: Gauge,
    /// MSRP sessions.
    pub sessions: Gauge,
    /// Large messages that nobody took and that came here.
    pub take_overs: Counter,
    /// SIP transactions.
    pub transactions: Gauge,
    /// Requests that are passed on.
    pub relays: Gauge,
    /// Subscriptions of clients.
    pub subscriptions: Gauge,
    /// Seconds between a MESSAGE's arrival and its 202.
    pub accept_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("restante"),
            stored: Counter::default(),
            duplicates: Counter::default(),
            delivered: Counter::default(),
            expired: Counter::default(),
            given_up: Counter::default(),
            discarded: Counter::default(),
            handed_over: Counter::default(),
            reported: Counter::default(),
            refused: Family::default(),
            attempts: Family::default(),
            attempts_failed: Family::default(),
            fallbacks: Family::default(),
            requests_refused: Family::default(),
            dropped: Family::default(),
            tenant_limits: Family::default(),
            sender_limits: Family::default(),
            authentications: Family::default(),
            reloads: Family::default(),
            waiting_messages: Gauge::default(),
            waiting_dispositions: Gauge::default(),
            recipients: Gauge::default(),
            disbelieved_hops: Gauge::default(),
            sessions: Gauge::default(),
            take_overs: Counter::default(),
            transactions: Gauge::default(),
            relays: Gauge::default(),
            subscriptions: Gauge::default(),
            accept_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("messages_stored", "Messages made durable", self.stored.clone());
        registry.register("messages_repeated", "Repetitions answered and not stored again", self.duplicates.clone());
        registry.register("messages_delivered", "Messages acknowledged by a device", self.delivered.clone());
        registry.register("messages_expired", "Messages dropped at their expiry", self.expired.clone());
        registry.register("messages_given_up", "Messages a device refused for good", self.given_up.clone());
        registry.register("messages_discarded", "Messages dropped by policy or operator", self.discarded.clone());
        registry.register("messages_handed_over", "Messages given to a named target", self.handed_over.clone());
        registry.register("reports", "Disposition notifications made", self.reported.clone());
        registry.register("messages_refused", "Messages refused, by status", self.refused.clone());
        registry.register("attempts", "Delivery attempts", self.attempts.clone());
        registry.register("attempts_failed", "Delivery attempts that failed", self.attempts_failed.clone());
        registry.register("policy_fallbacks", "Decisions taken by the fallback", self.fallbacks.clone());
        registry.register(
            "requests_refused",
            "SIP requests answered with 400 or more, by method and status",
            self.requests_refused.clone(),
        );
        registry.register("dropped", "Input that was dropped", self.dropped.clone());
        registry.register("tenant_limits", "Times a tenant's limit was reached", self.tenant_limits.clone());
        registry.register(
            "sender_limits",
            "Requests refused because their sender, or its address, had too much open",
            self.sender_limits.clone(),
        );
        registry.register(
            "authentications",
            "Requests that had to show who they are from, by tenant and outcome",
            self.authentications.clone(),
        );
        registry.register("reloads", "Readings of the configuration file, by outcome", self.reloads.clone());
        registry.register("messages_waiting", "Messages that wait", self.waiting_messages.clone());
        registry.register("dispositions_waiting", "Dispositions that wait", self.waiting_dispositions.clone());
        registry.register("recipients_in_memory", "Recipients in memory", self.recipients.clone());
        registry.register(
            "next_hops_disbelieved",
            "Next hops whose refusals for good are not believed",
            self.disbelieved_hops.clone(),
        );
        registry.register("msrp_sessions", "MSRP sessions", self.sessions.clone());
        registry.register("take_overs", "Large messages that were passed on and taken over", self.take_overs.clone());
        registry.register("sip_transactions", "SIP transactions", self.transactions.clone());
        registry.register("relays", "Requests that are passed on", self.relays.clone());
        registry.register("subscriptions", "Subscriptions of clients", self.subscriptions.clone());
        registry.register_with_unit(
            "accept",
            "Time from a MESSAGE to its 202",
            Unit::Seconds,
            self.accept_seconds.clone(),
        );
    }

    /// Counts a reading of the configuration file.
    pub fn count_reload(&self, is_taken: bool) {
        let outcome = if is_taken { "taken" } else { "refused" };
        self.reloads.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts what a machine reports.
    pub fn count(&self, tenant: &TenantName, event: &Event) {
        match event {
            Event::Stored(_) => _ = self.stored.inc(),
            Event::Duplicate => _ = self.duplicates.inc(),
            Event::Delivered(_) => _ = self.delivered.inc(),
            Event::Expired(_) => _ = self.expired.inc(),
            Event::GivenUp(_) => _ = self.given_up.inc(),
            Event::Discarded(..) => _ = self.discarded.inc(),
            Event::HandedOver(_) => _ = self.handed_over.inc(),
            Event::Reported => _ = self.reported.inc(),
            Event::Refused(status) => _ = self.refused.get_or_create(&StatusLabels { status: *status }).inc(),
            Event::AttemptStarted(kind) => {
                _ = self.attempts.get_or_create(&AttemptLabels { attempt: attempt_label(*kind) }).inc();
            }
            Event::AttemptFailed(kind, status, origin) => {
                let labels = FailureLabels {
                    attempt: attempt_label(*kind),
                    origin: origin_label(*origin),
                    status: status.unwrap_or(0),
                };
                _ = self.attempts_failed.get_or_create(&labels).inc();
            }
            // Counted by the policies themselves.
            Event::Unusable(..) => {}
            Event::FellBack(reason, hook) => {
                let labels = FallbackLabels { tenant: tenant.to_string(), hook, reason: undecided_label(*reason) };
                _ = self.fallbacks.get_or_create(&labels).inc();
            }
        }
    }

    /// Counts a request that was refused.
    pub fn count_refusal(&self, method: &'static str, status: u16) {
        self.requests_refused.get_or_create(&RefusalLabels { method, status }).inc();
    }

    /// Counts something that a tenant's limit refused or let wait.
    pub fn count_tenant_limit(&self, tenant: &TenantName, limit: &'static str) {
        self.tenant_limits.get_or_create(&TenantLimitLabels { tenant: tenant.to_string(), limit }).inc();
    }

    /// Counts a request that was refused because its sender, or the sender's address, had too much open.
    pub fn count_sender_limit(&self, tenant: &TenantName, limit: &'static str) {
        self.sender_limits.get_or_create(&SenderLimitLabels { tenant: tenant.to_string(), limit }).inc();
    }

    /// Counts a request that had to show who it is from.
    pub fn count_authentication(&self, tenant: &TenantName, outcome: &'static str) {
        self.authentications.get_or_create(&AuthenticationLabels { tenant: tenant.to_string(), outcome }).inc();
    }

    /// Counts input that was dropped.
    pub fn count_dropped(&self, reason: &'static str) {
        self.dropped.get_or_create(&DropLabels { reason }).inc();
    }

    /// The text form, with whatever `further` appends by [`write_family`]; nothing when that fails, which it does not on a
    /// string.
    #[must_use]
    pub fn encode(&self, further: impl FnOnce(&mut String)) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            return String::new();
        }
        let end = "# EOF\n";
        if text.ends_with(end) {
            text.truncate(text.len() - end.len());
        }
        further(&mut text);
        text.push_str(end);
        text
    }
}

/// Writes what somebody else counts: a family `restante_NAME` of so many rows, each with its labels and value.
pub fn write_family(
    text: &mut String,
    name: &str,
    kind: &str,
    rows: impl IntoIterator<Item = (Vec<(&'static str, String)>, f64)>,
) {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return;
    }
    _ = writeln!(text, "# TYPE restante_{name} {kind}");
    let suffix = if kind == "counter" { "_total" } else { "" };
    for (labels, value) in rows {
        _ = write!(text, "restante_{name}{suffix}");
        let mut separator = '{';
        for (label, value) in &labels {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            _ = write!(text, "{separator}{label}=\"{escaped}\"");
            separator = ',';
        }
        let close = if labels.is_empty() { "" } else { "}" };
        _ = writeln!(text, "{close} {value}");
    }
}

fn attempt_label(kind: AttemptKind) -> &'static str {
    match kind {
        AttemptKind::Page => "page",
        AttemptKind::Session => "session",
        AttemptKind::Notification => "notification",
        AttemptKind::Relay => "relay",
        AttemptKind::Pull => "pull",
        AttemptKind::HandOver => "hand-over",
    }
}

fn origin_label(origin: Origin) -> &'static str {
    match origin {
        Origin::Device => "device",
        Origin::Core => "core",
        Origin::Timeout => "timeout",
        Origin::Transport => "transport",
    }
}

fn undecided_label(reason: Undecided) -> &'static str {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_others_are_appended_with_escaped_labels_before_the_end() {
        let text = Metrics::new().encode(|text| {
            write_family(text, "none", "counter", []);
            write_family(
                text,
                "decisions",
                "counter",
                [(vec![("tenant", "a\"b\\\n".to_owned()), ("hook", "x".to_owned())], 2.0)],
            );
            write_family(text, "age_seconds", "gauge", [(Vec::new(), 0.5)]);
        });
        let expected = "# TYPE restante_decisions counter\n\
                        restante_decisions_total{tenant=\"a\\\"b\\\\\\n\",hook=\"x\"} 2\n\
                        # TYPE restante_age_seconds gauge\nrestante_age_seconds 0.5\n# EOF\n";
        assert!(text.ends_with(expected), "{text}");
        assert!(text.contains("# TYPE restante_messages_stored counter"), "{text}");
    }
}
