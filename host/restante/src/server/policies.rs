//! Loads each tenant's policy at start.

use std::sync::Arc;

use anyhow::{Context, Result};
use restante_deferral::model::TenantName;
use restante_policy::{CompiledCache, LoadError, Loader, LogLevel, PolicyEngine, PolicyHost, PolicyLimits};
use restante_transport::queue::{Lane, QueueSender};

use super::limits::{abilities, size};
use super::shard::{DecisionTicket, ToShard};
use crate::configuration::{Configuration, Source};

/// The engine with every tenant's policy active.
///
/// # Errors
/// A policy that cannot be used, with what is wrong and where.
pub async fn start(
    configuration: &Configuration,
    inboxes: Arc<Vec<QueueSender<ToShard>>>,
) -> Result<PolicyHost<DecisionTicket>> {
    let limits = &configuration.limits;
    let policy_limits = PolicyLimits {
        deadline: std::time::Duration::from_millis(limits.max_decision_milliseconds),
        max_memory_bytes: size(limits.max_policy_memory_bytes),
        max_waiting_per_tenant: size(limits.max_waiting_decisions),
        ..PolicyLimits::default()
    };
    let engine = PolicyEngine::new(policy_limits)?;
    let sink = move |ticket: DecisionTicket, answer| {
        if let Some(inbox) = inboxes.get(ticket.0) {
            let _ = inbox.try_push(Lane::Ordered, ToShard::Decided(ticket, answer), 256);
        }
    };
    let log = |line: restante_policy::GuestLog<'_>| {
        let (tenant, text) = (line.tenant, line.text);
        match line.level {
            LogLevel::Debug => tracing::debug!(target: "restante::policy", %tenant, "{text}"),
            LogLevel::Info => tracing::info!(target: "restante::policy", %tenant, "{text}"),
            LogLevel::Warning => tracing::warn!(target: "restante::policy", %tenant, "{text}"),
        }
    };
    let host = PolicyHost::start(&engine, sink, log)?;
    let (data, source) = (configuration.data.clone(), configuration.source.clone());
    let tenants: Vec<_> = configuration
        .tenants
        .iter()
        .map(|(name, tenant)| {
            (name.clone(), tenant.policy.clone(), tenant.settings.clone(), abilities(configuration, tenant))
        })
        .collect();
    let loaded = tokio::task::spawn_blocking(move || -> Result<_> {
        let cache = CompiledCache::open(&data.join("policy-cache"), &data.join("policy-cache.key"))
            .map_err(|error| tracing::warn!(%error, "compiled policies are not kept"))
            .ok();
        let loader = Loader::new(engine, cache)?;
        let mut generations = Vec::new();
        for (name, policy, settings, abilities) in tenants {
            let component = match policy.as_str() {
                "standard" => restante_policy::standard::COMPONENT.to_vec(),
                path => std::fs::read(path).with_context(|| format!("tenants.{name}.policy: cannot read {path}"))?,
            };
            let settings = serde_json::to_string(&settings)?;
            let loaded = loader.load(&component, &settings, &abilities);
            let loaded = loaded.map_err(|error| unusable(&source, &name, &policy, &error))?;
            for problem in &loaded.warnings {
                tracing::warn!("{}: {}", place(&source, &name, &problem.pointer), problem.text);
            }
            generations.push((TenantName(name.as_str().into()), loaded.generation));
        }
        Ok(generations)
    })
    .await??;
    for (tenant, generation) in loaded {
        host.set_generation(&tenant, generation);
    }
    Ok(host)
}

/// Where a JSON pointer into a tenant's settings leads in the configuration.
fn place(source: &Source, tenant: &str, pointer: &str) -> String {
    let keys = ["tenants", tenant, "settings"].into_iter().chain(pointer.split('/').filter(|key| !key.is_empty()));
    format!("{}: tenants.{tenant}.settings{}", source.place(&keys.collect::<Vec<_>>()), pointer.replace('/', "."))
}

fn unusable(source: &Source, tenant: &str, policy: &str, error: &LoadError) -> anyhow::Error {
    match error {
        LoadError::Settings(problems) => {
            let said =
                problems.iter().map(|problem| format!("{}: {}", place(source, tenant, &problem.pointer), problem.text));
            anyhow::anyhow!("{}", said.collect::<Vec<_>>().join("\n"))
        }
        error => {
            let place = source.place(&["tenants", tenant, "policy"]);
            anyhow::anyhow!("{place}: tenants.{tenant}: the policy {policy:?} cannot be used: {error}")
        }
    }
}
