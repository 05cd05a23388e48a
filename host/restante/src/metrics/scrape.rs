//! What others count, as it is when it is asked for.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;
use restante_policy::{HookStatistics, TenantStatistics};
use restante_store::Totals;
use restante_transport::{Count, TlsStatus};

use crate::memory::Heap;
use crate::policies::Activations;

/// The figures of one moment.
#[derive(Debug)]
pub struct Scrape {
    /// Of the sockets.
    pub transport: Vec<Count>,
    /// Messages that wait, of all tenants.
    pub messages: Totals,
    /// Dispositions that wait, of all tenants.
    pub dispositions: Totals,
    /// Messages are refused for want of room.
    pub is_disk_full: bool,
    /// How long the oldest write waits already.
    pub oldest_write_age: Duration,
    /// Next hops whose refusals for good are not believed.
    pub disbelieved_hops: usize,
    /// Of the allocator, where it counts.
    pub heap: Option<Heap>,
    /// Of the certificate and its files.
    pub tls: TlsStatus,
    /// Of the policies.
    pub policies: Vec<TenantStatistics>,
    /// Of what decides.
    pub activations: Vec<Activations>,
}

type Labels = Vec<(&'static str, String)>;

/// A family: its name without its unit, what it counts, and the unit.
struct Family<'a>(&'a str, &'a str, Option<Unit>);

/// Writes families one by one; one without a row is left out.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn counters<V: EncodeCounterValue>(
        &mut self,
        Family(name, meaning, unit): Family<'_>,
        rows: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut encoder = self.0.encode_descriptor(name, meaning, unit.as_ref(), MetricType::Counter)?;
        rows.try_for_each(|(labels, value)| {
            encoder.encode_family(&labels)?.encode_counter(&value, None::<&Exemplar<Labels, u64>>)
        })
    }

    fn gauges<V: EncodeGaugeValue>(
        &mut self,
        Family(name, meaning, unit): Family<'_>,
        rows: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut encoder = self.0.encode_descriptor(name, meaning, unit.as_ref(), MetricType::Gauge)?;
        rows.try_for_each(|(labels, value)| encoder.encode_family(&labels)?.encode_gauge(&value))
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        for Count { name, meaning, count } in &self.transport {
            writer.counters(Family(&format!("transport_{name}"), meaning, None), [(Vec::new(), *count)])?;
        }
        self.write_store(&mut writer)?;
        self.write_memory(&mut writer)?;
        self.write_certificates(&mut writer)?;
        self.write_decisions(&mut writer)?;
        self.write_policies(&mut writer)
    }
}

impl Scrape {
    fn write_store(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let one = |value: u64| [(Vec::new(), value)];
        writer.gauges(
            Family(
                "messages_waiting",
                "Messages stored and not gone yet, without disposition notifications, of all tenants on the disk, \
                 those that are not served now included.",
                None,
            ),
            one(u64::from(self.messages.messages)),
        )?;
        writer.gauges(
            Family(
                "dispositions_waiting",
                "Disposition notifications stored and not gone yet, the server's own reports among them, of all \
                 tenants on the disk.",
                None,
            ),
            one(u64::from(self.dispositions.messages)),
        )?;
        writer.gauges(
            Family("disk_full", "1 while messages are refused because the disk, or the database, is full.", None),
            one(u64::from(self.is_disk_full)),
        )?;
        writer.gauges(
            Family(
                "oldest_write_age",
                "How long the oldest write that is not durable yet waits already; 0 when none waits.",
                Some(Unit::Seconds),
            ),
            [(Vec::new(), self.oldest_write_age.as_secs_f64())],
        )?;
        writer.gauges(
            Family("next_hops_disbelieved", "Next hops whose permanent refusals count as the hop's.", None),
            one(u64::try_from(self.disbelieved_hops).unwrap_or(u64::MAX)),
        )
    }

    /// What the allocator counts, where it does.
    fn write_memory(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let rows = |of: fn(Heap) -> u64| self.heap.map(|heap| (Vec::new(), of(heap)));
        writer.gauges(
            Family("heap_in_use", "Bytes allocated, by the allocator's count.", Some(Unit::Bytes)),
            rows(|heap| heap.in_use_bytes),
        )?;
        writer.gauges(
            Family(
                "heap_held",
                "Bytes that the allocator has from the kernel, those in use included.",
                Some(Unit::Bytes),
            ),
            rows(|heap| heap.held_bytes),
        )
    }

    /// When the certificate ends, and how reading its files went.
    fn write_certificates(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let ends = self.tls.certificate.as_ref().and_then(|it| it.expires_at_seconds);
        writer.gauges(
            Family(
                "tls_certificate_expires_timestamp",
                "When the server's certificate expires, in seconds since 1970.",
                Some(Unit::Seconds),
            ),
            ends.map(|ends| (Vec::new(), ends)),
        )?;
        if self.tls.certificate.is_none() && self.tls.failed_reloads == 0 {
            return Ok(());
        }
        let outcomes = [("taken", self.tls.reloads), ("failed", self.tls.failed_reloads)];
        writer.counters(
            Family("tls_reloads", "Readings of the files of [tls] after they changed, by outcome.", None),
            outcomes.map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count)),
        )
    }

    /// What the policies did, by tenant and hook.
    fn write_decisions(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let labels = |tenant: &TenantStatistics, hook: &HookStatistics| {
            vec![("tenant", tenant.tenant.to_string()), ("hook", hook.hook.name().to_owned())]
        };
        let hooks = || self.policies.iter().flat_map(|tenant| tenant.hooks.iter().map(move |hook| (tenant, hook)));
        writer.counters(
            Family("policy_decisions", "Questions to policies, those that were not decided included.", None),
            hooks().map(|(tenant, hook)| (labels(tenant, hook), hook.asked)),
        )?;
        writer.counters(
            Family("policy_decision", "Time spent in decisions of policies.", Some(Unit::Seconds)),
            hooks().map(|(tenant, hook)| (labels(tenant, hook), hook.total_micros as f64 / 1e6)),
        )?;
        let undecided = hooks().flat_map(|(tenant, hook)| {
            let labels = labels(tenant, hook);
            failures(hook).into_iter().map(move |(reason, count)| {
                let reason = [("reason", reason.to_owned())];
                (labels.iter().cloned().chain(reason).collect::<Labels>(), count)
            })
        });
        writer.counters(
            Family("policy_undecided", "Questions to policies without a usable answer, by reason.", None),
            undecided,
        )
    }

    /// What waits for policies, and what decides.
    fn write_policies(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let of = |tenant: &dyn fmt::Display| vec![("tenant", tenant.to_string())];
        writer.gauges(
            Family("policy_waiting_decisions", "Questions that wait for a policy.", None),
            self.policies.iter().map(|it| (of(&it.tenant), it.waiting)),
        )?;
        writer.counters(
            Family(
                "policy_dropped_log_lines",
                "Log lines of policies, and of the server about their decisions, dropped because they were too many.",
                None,
            ),
            self.policies.iter().map(|it| (of(&it.tenant), it.dropped_lines)),
        )?;
        writer.gauges(
            Family("policy_generation", "The number of the generation that decides.", None),
            self.activations.iter().map(|it| (of(&it.tenant), it.generation)),
        )?;
        let outcomes = self.activations.iter().flat_map(|it| {
            [("activated", it.activated), ("refused", it.refused)].map(|(outcome, count)| {
                (vec![("tenant", it.tenant.to_string()), ("outcome", outcome.to_owned())], count)
            })
        });
        writer.counters(
            Family("policy_activations", "Generations that came to decide, and those that were refused.", None),
            outcomes,
        )
    }
}

fn failures(hook: &HookStatistics) -> [(&'static str, u64); 7] {
    [
        ("declined", hook.declined),
        ("trapped", hook.trapped),
        ("timed-out", hook.timed_out),
        ("out-of-memory", hook.out_of_memory),
        ("overloaded", hook.overloaded),
        ("impossible", hook.impossible),
        ("suspended", hook.suspended),
    ]
}

#[cfg(test)]
mod tests {
    use restante_deferral::model::TenantName;

    use super::super::Metrics;
    use super::*;

    #[test]
    fn every_family_says_what_it_counts_and_is_known_before_anything_happens() {
        let scrape = Scrape {
            transport: vec![Count { name: "datagrams_sent", meaning: "Datagrams.", count: 3 }],
            messages: Totals { messages: 2, size_bytes: 7 },
            dispositions: Totals::default(),
            is_disk_full: true,
            oldest_write_age: Duration::from_millis(1500),
            disbelieved_hops: 0,
            heap: Some(Heap { in_use_bytes: 5, held_bytes: 6 }),
            tls: TlsStatus { failed_reloads: 1, ..TlsStatus::default() },
            policies: Vec::new(),
            activations: vec![Activations {
                tenant: TenantName("a\"b\\\n".into()),
                generation: 4,
                activated: 1,
                refused: 0,
            }],
        };
        let metrics = Metrics::new();
        metrics.begin_tenant(&TenantName("school".into()), true);
        let text = metrics.encode(Some(scrape));
        for line in [
            "restante_transport_datagrams_sent_total 3",
            "restante_messages_waiting 2",
            "restante_disk_full 1",
            "restante_oldest_write_age_seconds 1.5",
            "# UNIT restante_heap_in_use_bytes bytes",
            "restante_heap_in_use_bytes 5",
            "restante_tls_reloads_total{outcome=\"failed\"} 1",
            "# TYPE restante_policy_activations counter",
            "restante_policy_activations_total{tenant=\"a\\\"b\\\\\\n\",outcome=\"refused\"} 0",
            "restante_reloads_total{outcome=\"refused\"} 0",
            "restante_dropped_total{reason=\"shard-busy\"} 0",
            "restante_tenant_limits_total{tenant=\"school\",limit=\"stored\"} 0",
            "restante_authentications_total{tenant=\"school\",outcome=\"wrong\"} 0",
        ] {
            assert!(text.lines().any(|it| it == line), "no {line:?} in {text}");
        }
        assert!(!text.contains("restante_policy_decisions"), "without a row there is no family: {text}");
        assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
        let helped = text.matches("# HELP ").count();
        assert_eq!((helped, helped), (text.matches("# TYPE ").count(), text.matches(".\n# TYPE ").count()), "{text}");
    }
}
