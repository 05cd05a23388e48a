//! The tenants' policies: loaded at start, all of them at once, and for one tenant when it is added or changed.

use std::collections::HashMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use restante_deferral::decision::HostAbilities;
use restante_deferral::model::TenantName;
use restante_policy::{
    Compiled, CompiledCache, Generation, LoadError, Loader, LogLevel, PolicyEngine, PolicyHost, PolicyLimits,
    TenantPolicyLimits,
};
use restante_transport::queue::Lane;
use thiserror::Error;

use super::limits::{abilities, size};
use super::shard::{DecisionTicket, ToShard};
use super::usage::Inboxes;
use crate::configuration::{Configuration, Limits, Source, Tenant};

/// Why a tenant's policy cannot be used; with its place where there is one.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct UnusablePolicy(String);

/// A tenant's policy that was loaded and decides as soon as it is activated.
pub struct Prepared {
    tenant: TenantName,
    generation: Arc<Generation>,
    limits: TenantPolicyLimits,
}

/// What is loaded, and what loads.
pub struct Policies {
    host: PolicyHost<DecisionTicket>,
    loader: Loader,
    server: Limits,
    /// Without a tenant's hand-over targets.
    abilities: HostAbilities,
}

/// Component files by what the configuration calls them.
type Compilations = HashMap<String, Result<Compiled, String>>;

impl Policies {
    /// The engine, without a tenant.
    ///
    /// # Errors
    /// The machine does not give what the engine needs.
    pub fn start(configuration: &Configuration, inboxes: Arc<Inboxes>) -> Result<Policies> {
        let limits = &configuration.limits;
        let policy_limits = PolicyLimits {
            deadline: Duration::from_millis(limits.max_decision_milliseconds),
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
        let place = |name: &str| -> PathBuf { configuration.data.join(name) };
        let cache = CompiledCache::open(&place("policy-cache"), &place("policy-cache.key"))
            .map_err(|error| tracing::warn!(%error, "compiled policies are not kept"))
            .ok();
        let loader = Loader::new(engine, cache)?;
        Ok(Policies { host, loader, server: limits.clone(), abilities: abilities(configuration) })
    }

    /// What decides.
    #[must_use]
    pub fn host(&self) -> &PolicyHost<DecisionTicket> {
        &self.host
    }

    /// Loads the policies of many tenants, each component once, on all cores. Blocks.
    ///
    /// # Errors
    /// The first that cannot be used, in the order of the tenants.
    pub fn prepare_all(&self, tenants: &[(&str, &Tenant, &Source)]) -> Result<Vec<Prepared>, UnusablePolicy> {
        let mut names: Vec<&str> = tenants.iter().map(|(_, tenant, _)| tenant.policy.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let compiled: Compilations =
            in_parallel(&names, |name| ((*name).to_owned(), self.compile(name))).into_iter().collect();
        let prepared = in_parallel(tenants, |(name, tenant, source)| {
            let compiled = match compiled.get(&tenant.policy) {
                Some(Ok(compiled)) => compiled,
                Some(Err(problem)) => return Err(unusable(source, name, tenant, problem)),
                None => return Err(unusable(source, name, tenant, "it was not looked for")),
            };
            self.settle(name, tenant, source, compiled)
        });
        prepared.into_iter().collect()
    }

    /// Loads the policy of one tenant and has it check its settings. Blocks, for some hundred milliseconds where the
    /// policy was not compiled before. Nothing is in use then.
    ///
    /// # Errors
    /// It cannot be used; what decided before still does.
    pub fn prepare(&self, name: &str, tenant: &Tenant, source: &Source) -> Result<Prepared, UnusablePolicy> {
        let compiled = self.compile(&tenant.policy).map_err(|problem| unusable(source, name, tenant, &problem))?;
        self.settle(name, tenant, source, &compiled)
    }

    /// From the next decision on this policy decides.
    pub fn activate(&self, prepared: Prepared) {
        self.host.configure(&prepared.tenant, prepared.limits);
        self.host.set_generation(&prepared.tenant, prepared.generation);
    }

    /// The tenant has no policy any more; what was asked before is still decided.
    pub fn remove(&self, tenant: &TenantName) {
        self.host.remove(tenant);
    }

    fn compile(&self, policy: &str) -> Result<Compiled, String> {
        let compiled = match policy {
            Tenant::STANDARD_POLICY => self.loader.compile(restante_policy::standard::COMPONENT),
            path => {
                let bytes = std::fs::read(path).map_err(|error| format!("it cannot be read: {error}"))?;
                self.loader.compile(&bytes)
            }
        };
        compiled.map_err(|error| error.to_string())
    }

    fn settle(
        &self,
        name: &str,
        tenant: &Tenant,
        source: &Source,
        compiled: &Compiled,
    ) -> Result<Prepared, UnusablePolicy> {
        let settings = serde_json::to_string(&tenant.settings)
            .map_err(|error| unusable(source, name, tenant, &error.to_string()))?;
        let abilities =
            HostAbilities { hand_over_targets: tenant.hand_over.keys().cloned().collect(), ..self.abilities.clone() };
        let loaded = match self.loader.settle(compiled, &settings, &abilities) {
            Ok(loaded) => loaded,
            Err(LoadError::Settings(problems)) => {
                let said = problems.iter().map(|it| format!("{}: {}", place(source, name, &it.pointer), it.text));
                return Err(UnusablePolicy(said.collect::<Vec<_>>().join("\n")));
            }
            Err(error) => return Err(unusable(source, name, tenant, &error.to_string())),
        };
        for problem in &loaded.warnings {
            tracing::warn!("{}: {}", place(source, name, &problem.pointer), problem.text);
        }
        let limits = self.limits_of(tenant);
        Ok(Prepared { tenant: TenantName(name.into()), generation: loaded.generation, limits })
    }

    fn limits_of(&self, tenant: &Tenant) -> TenantPolicyLimits {
        let bounds = tenant.limits.bounds(&self.server);
        let usual = self.loader.limits().of_a_tenant();
        TenantPolicyLimits {
            deadline: Duration::from_millis(bounds.max_decision_milliseconds),
            max_memory_bytes: size(bounds.max_policy_memory_bytes),
            max_decisions_at_once: bounds.max_decisions_at_once.map_or(usual.max_decisions_at_once, size),
            max_log_lines_per_second: u32::try_from(bounds.max_log_lines_per_second).unwrap_or(u32::MAX),
        }
    }
}

/// Does the same with all of these on all cores; what comes of it, in their order.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(items.len());
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let run = || {
            let mut done = Vec::new();
            while let Some((index, item)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                items.get(index).map(|item| (index, item))
            } {
                done.push((index, work(item)));
            }
            done
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Where a JSON pointer into a tenant's settings leads in the configuration.
fn place(source: &Source, tenant: &str, pointer: &str) -> String {
    let keys = ["tenants", tenant, "settings"].into_iter().chain(pointer.split('/').filter(|key| !key.is_empty()));
    format!("{}: tenants.{tenant}.settings{}", source.place(&keys.collect::<Vec<_>>()), pointer.replace('/', "."))
}

fn unusable(source: &Source, name: &str, tenant: &Tenant, problem: &str) -> UnusablePolicy {
    let place = source.place(&["tenants", name, "policy"]);
    UnusablePolicy(format!("{place}: tenants.{name}: the policy {:?} cannot be used: {problem}", tenant.policy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_done_in_their_order_whatever_their_number() {
        for count in [0, 1, 2, 1_000] {
            let items: Vec<usize> = (0..count).collect();
            let done = in_parallel(&items, |item| item * 2);
            assert!(done.iter().copied().eq((0..count).map(|item| item * 2)), "{count}");
        }
    }
}
