//! What is counted, in Prometheus' form.

mod labels;
mod scrape;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use restante_deferral::model::TenantName;
use restante_deferral::participating_function::Event;

pub use self::labels::DROP_REASONS;
use self::labels::{
    ATTEMPT_KINDS, AUTHENTICATION_OUTCOMES, AttemptLabels, AuthenticationLabels, DropLabels, FailureLabels,
    FallbackLabels, OutcomeLabels, RELOAD_OUTCOMES, RefusalLabels, SENDER_LIMITS, SenderLimitLabels, StatusLabels,
    TENANT_LIMITS, TenantLimitLabels, attempt_label, origin_label, undecided_label,
};
pub use self::scrape::Scrape;

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
    /// Recipients in memory.
    pub recipients: Gauge,
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
            recipients: Gauge::default(),
            sessions: Gauge::default(),
            take_overs: Counter::default(),
            transactions: Gauge::default(),
            relays: Gauge::default(),
            subscriptions: Gauge::default(),
            accept_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
        };
        metrics.register();
        metrics.begin();
        metrics
    }

    fn register(&mut self) {
        self.register_messages();
        let registry = &mut self.registry;
        registry.register("attempts", "Delivery attempts that began", self.attempts.clone());
        registry.register(
            "attempts_failed",
            "Delivery attempts that failed, by whose failure it was; status 0 means no answer",
            self.attempts_failed.clone(),
        );
        registry.register("policy_fallbacks", "Decisions taken by the fallback", self.fallbacks.clone());
        registry.register(
            "requests_refused",
            "SIP requests answered with 400 or more, by method and status",
            self.requests_refused.clone(),
        );
        registry.register("dropped", "Input that was dropped, by reason", self.dropped.clone());
        registry.register(
            "tenant_limits",
            "Times that a limit of a tenant refused something, let it wait, or left a report out",
            self.tenant_limits.clone(),
        );
        registry.register(
            "sender_limits",
            "INVITEs refused because their sender, or its address, had too much open",
            self.sender_limits.clone(),
        );
        registry.register(
            "authentications",
            "Requests that had to show who they are from, by tenant and outcome",
            self.authentications.clone(),
        );
        registry.register("reloads", "Readings of the configuration file, by outcome", self.reloads.clone());
        registry.register("recipients_in_memory", "Recipients whose state is in memory", self.recipients.clone());
        registry.register("msrp_sessions", "MSRP sessions of the server that are open", self.sessions.clone());
        registry.register(
            "sip_transactions",
            "SIP transactions, those included that only absorb repetitions",
            self.transactions.clone(),
        );
        registry.register(
            "relays",
            "Requests that are passed on, answered INVITEs included as long as more answers may come",
            self.relays.clone(),
        );
        registry.register("subscriptions", "Clients that watch what waits for them", self.subscriptions.clone());
        registry.register_with_unit(
            "accept",
            "Time from a MESSAGE to its 202",
            Unit::Seconds,
            self.accept_seconds.clone(),
        );
    }

    fn register_messages(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "messages_stored",
            "Messages and disposition notifications of senders made durable; the server's own reports are not counted",
            self.stored.clone(),
        );
        registry.register(
            "messages_repeated",
            "Repetitions of messages and disposition notifications that were answered and not stored again",
            self.duplicates.clone(),
        );
        registry.register(
            "messages_delivered",
            "Acknowledgements by a device of messages, disposition notifications and the server's own reports: \
             of a message that every device gets, one for each",
            self.delivered.clone(),
        );
        registry.register(
            "messages_expired",
            "Messages, disposition notifications and reports dropped at their expiry",
            self.expired.clone(),
        );
        registry.register(
            "messages_given_up",
            "Messages, disposition notifications and reports that a device refused for good",
            self.given_up.clone(),
        );
        registry.register(
            "messages_discarded",
            "Messages, disposition notifications and reports dropped by policy or operator",
            self.discarded.clone(),
        );
        registry.register(
            "messages_handed_over",
            "Messages, disposition notifications and reports that a named target took",
            self.handed_over.clone(),
        );
        registry.register(
            "messages_refused",
            "Messages and disposition notifications refused by the policy or for want of room, by status",
            self.refused.clone(),
        );
        registry.register(
            "reports",
            "Disposition notifications that the server itself made for senders and stored",
            self.reported.clone(),
        );
        registry.register(
            "take_overs",
            "Large messages that were passed on, that no device took, and that the server took",
            self.take_overs.clone(),
        );
    }

    /// Counters whose labels are known begin at zero: what has not happened yet is told from what is not counted, and a
    /// first event is a rise.
    fn begin(&self) {
        for outcome in RELOAD_OUTCOMES {
            _ = self.reloads.get_or_create(&OutcomeLabels { outcome });
        }
        for reason in DROP_REASONS {
            _ = self.dropped.get_or_create(&DropLabels { reason });
        }
        for kind in ATTEMPT_KINDS {
            _ = self.attempts.get_or_create(&AttemptLabels { attempt: attempt_label(kind) });
        }
    }

    /// The same for a tenant that is served from now on, and its authentications where it demands any.
    pub fn begin_tenant(&self, tenant: &TenantName, authenticates: bool) {
        for limit in TENANT_LIMITS {
            _ = self.tenant_limits.get_or_create(&TenantLimitLabels { tenant: tenant.to_string(), limit });
        }
        for limit in SENDER_LIMITS {
            _ = self.sender_limits.get_or_create(&SenderLimitLabels { tenant: tenant.to_string(), limit });
        }
        for outcome in AUTHENTICATION_OUTCOMES.into_iter().filter(|_| authenticates) {
            _ = self.authentications.get_or_create(&AuthenticationLabels { tenant: tenant.to_string(), outcome });
        }
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

    /// The text form, with what others count; nothing when that fails, which it does not on a string.
    #[must_use]
    pub fn encode(&self, others: Option<Scrape>) -> String {
        let mut registry = Registry::with_prefix("restante");
        if let Some(scrape) = others {
            registry.register_collector(Box::new(scrape));
        }
        let mut text = String::new();
        let written = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &registry))
            .and_then(|()| encode_eof(&mut text));
        if written.is_ok() { text } else { String::new() }
    }
}
