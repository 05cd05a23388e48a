//! Starts what decides, and loads each tenant's policy.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use restante_deferral::model::TenantName;
use restante_policy::{
    ChildCompiler, CompiledCache, FailurePolicies, Loader, LogLevel, PolicyEngine, PolicyHost, PolicyLimits,
};
use restante_transport::queue::{Lane, QueueSender};

use super::limits::{abilities, size};
use super::shard::{DecisionTicket, ToShard};
use crate::configuration::{Configuration, Limits, Source, Tenant};
use crate::policies::activation::{NotActivated, Signers, Watcher};
use crate::policies::library::Library;
use crate::policies::{Policies, PolicyError, TenantPolicy};

/// Where policies come from that is not always the same.
pub struct PolicyParts {
    /// Compiles in a process of its own; none: in this one, without bounds.
    pub compiler: Option<ChildCompiler>,
    /// Told of each step of an activation.
    pub watcher: Watcher,
}

impl Default for PolicyParts {
    fn default() -> PolicyParts {
        PolicyParts { compiler: None, watcher: Arc::new(|_| {}) }
    }
}

impl PolicyParts {
    /// Compiles by starting this program again.
    ///
    /// # Errors
    /// When it does not know where it is.
    pub fn of_this_program(limits: &Limits) -> std::io::Result<PolicyParts> {
        let compiler = ChildCompiler {
            program: std::env::current_exe()?,
            arguments: vec![crate::cli::COMPILE_POLICY.into()],
            deadline: Duration::from_secs(limits.max_compile_seconds),
            max_memory_bytes: limits.max_compile_memory_bytes,
        };
        Ok(PolicyParts { compiler: Some(compiler), ..PolicyParts::default() })
    }
}

/// What decides, with every tenant's policy active.
///
/// # Errors
/// A policy that cannot be used, with what is wrong and where.
pub async fn start(
    configuration: &Configuration,
    inboxes: Arc<Vec<QueueSender<ToShard>>>,
    clock: restante_store::sqlite::Clock,
    parts: PolicyParts,
) -> Result<Arc<Policies>> {
    let configuration = configuration.clone();
    tokio::task::spawn_blocking(move || {
        let policies = Arc::new(open(&configuration, inboxes, clock, parts)?);
        for (name, tenant) in &configuration.tenants {
            let of_tenant = of_tenant(&configuration, name, tenant).map_err(|text| {
                let place = configuration.source.place(&["tenants", name, "signers"]);
                anyhow::anyhow!("{place}: tenants.{name}.signers: {text}")
            })?;
            let warnings = policies.apply(of_tenant);
            let warnings = warnings.map_err(|error| unusable(&configuration.source, name, &tenant.policy, &error))?;
            for problem in warnings {
                tracing::warn!("{}: {}", place(&configuration.source, name, &problem.pointer), problem.text);
            }
        }
        Ok(policies)
    })
    .await?
}

/// What decides, for no tenant yet.
fn open(
    configuration: &Configuration,
    inboxes: Arc<Vec<QueueSender<ToShard>>>,
    clock: restante_store::sqlite::Clock,
    parts: PolicyParts,
) -> Result<Policies> {
    let limits = &configuration.limits;
    let policy_limits = PolicyLimits {
        deadline: Duration::from_millis(limits.max_decision_milliseconds),
        max_memory_bytes: size(limits.max_policy_memory_bytes),
        max_component_bytes: size(limits.max_policy_bytes),
        max_waiting_per_tenant: size(limits.max_waiting_decisions),
        ..PolicyLimits::default()
    };
    let max_component_bytes = policy_limits.max_component_bytes;
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
    let data = &configuration.data;
    let cache = CompiledCache::open(&data.join("policy-cache"), &data.join("policy-cache.key"))
        .map_err(|error| tracing::warn!(%error, "compiled policies are not kept"))
        .ok();
    let mut loader = Loader::new(engine, cache)?;
    if let Some(compiler) = parts.compiler {
        loader = loader.compiling_in(compiler);
    }
    let library = Library::open(&Path::new(data).join("policies"))?;
    Ok(Policies::new(host, loader, library, max_component_bytes, clock, parts.watcher))
}

/// What a tenant's configuration says of its policy.
///
/// # Errors
/// Keys of signers that are none.
pub fn of_tenant(configuration: &Configuration, name: &str, tenant: &Tenant) -> Result<TenantPolicy, String> {
    let failure =
        tenant.failure.iter().fold(FailurePolicies::default(), |all, (hook, policy)| all.with(*hook, *policy));
    Ok(TenantPolicy {
        name: TenantName(name.into()),
        policy: tenant.policy.clone(),
        settings: serde_json::to_value(&tenant.settings).map_err(|error| error.to_string())?,
        abilities: abilities(configuration, tenant),
        signers: Signers::parse(&tenant.signers)?,
        failure,
        limits: PolicyLimits {
            deadline: Duration::from_millis(configuration.limits.max_decision_milliseconds),
            max_memory_bytes: size(configuration.limits.max_policy_memory_bytes),
            ..PolicyLimits::default()
        }
        .of_a_tenant(),
    })
}

/// Where a JSON pointer into a tenant's settings leads in the configuration.
fn place(source: &Source, tenant: &str, pointer: &str) -> String {
    let keys = ["tenants", tenant, "settings"].into_iter().chain(pointer.split('/').filter(|key| !key.is_empty()));
    format!("{}: tenants.{tenant}.settings{}", source.place(&keys.collect::<Vec<_>>()), pointer.replace('/', "."))
}

fn unusable(source: &Source, tenant: &str, policy: &str, error: &PolicyError) -> anyhow::Error {
    match error {
        PolicyError::NotActivated(NotActivated { problems, .. }) if !problems.is_empty() => {
            let said =
                problems.iter().map(|problem| format!("{}: {}", place(source, tenant, &problem.pointer), problem.text));
            anyhow::anyhow!("{}", said.collect::<Vec<_>>().join("\n"))
        }
        PolicyError::NotActivated(NotActivated { text, .. }) => {
            let place = source.place(&["tenants", tenant, "policy"]);
            anyhow::anyhow!("{place}: tenants.{tenant}: the policy {policy:?} cannot be used: {text}")
        }
        error => anyhow::anyhow!("tenants.{tenant}: {error}"),
    }
}
