//! The tenants' policies as the configuration says: loaded at start, all of them at once, and for one tenant when it is
//! added or changed. What becomes of them while the server runs is [`crate::policies`].

use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use restante_deferral::decision::{Answer, HostAbilities, Undecided};
use restante_deferral::model::TenantName;
use restante_policy::record::Meter;
use restante_policy::{
    ChildCompiler, CompiledCache, FailurePolicies, Loader, LogLevel, PolicyEngine, PolicyHost, PolicyLimits,
    TenantPolicyLimits,
};
use restante_store::sqlite::Clock;
use restante_transport::queue::Lane;
use thiserror::Error;

use super::limits::{abilities, size};
use super::secrets::pseudonym_secret;
use super::shard::ToShard;
use super::usage::Inboxes;
use crate::configuration::{Configuration, Limits, Source, Tenant};
use crate::policies::activation::{NotActivated, Watcher};
use crate::policies::library::Library;
use crate::policies::{Asker, Occasion, Parts, Policies, PolicyError, Ready, TenantPolicy};
use crate::signatures::Signers;

/// Why a tenant's policy cannot be used; with its place where there is one.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct UnusablePolicy(String);

/// A tenant's policy that was loaded and decides as soon as it is activated.
pub struct Prepared {
    tenant: TenantName,
    ready: Ready,
}

/// Where policies come from that is not always the same.
pub struct PolicyParts {
    /// Compiles in a process of its own; none: in this one, without bounds.
    pub compiler: Option<ChildCompiler>,
    /// Told of each step of an activation.
    pub watcher: Watcher,
    /// A data directory whose compiled policies are used and not changed; none: those of the configuration's, kept
    /// there.
    pub compiled_in: Option<PathBuf>,
}

/// What is loaded, and what loads.
pub struct ConfiguredPolicies {
    platform: Arc<Policies>,
    server: Limits,
    /// What a tenant's policy may use where nothing else is said.
    usual: TenantPolicyLimits,
    /// Without a tenant's hand-over targets.
    abilities: HostAbilities,
}

impl Default for PolicyParts {
    fn default() -> PolicyParts {
        PolicyParts { compiler: None, watcher: Arc::new(|_| {}), compiled_in: None }
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

impl ConfiguredPolicies {
    /// The engine, without a tenant. Blocks.
    ///
    /// # Errors
    /// The machine does not give what the engine needs.
    pub fn start(
        configuration: &Configuration,
        inboxes: Arc<Inboxes>,
        clock: Clock,
        parts: PolicyParts,
    ) -> Result<ConfiguredPolicies> {
        let limits = &configuration.limits;
        let defaults = PolicyLimits::default();
        let deadline = Duration::from_millis(limits.max_decision_milliseconds);
        let policy_limits = PolicyLimits {
            deadline,
            // Who lets a decision run for longer waits for longer, too.
            max_wait: defaults.max_wait.max(deadline),
            max_memory_bytes: size(limits.max_policy_memory_bytes),
            max_component_bytes: size(limits.max_policy_bytes),
            max_waiting_per_tenant: size(limits.max_waiting_decisions),
            ..defaults
        };
        let usual = policy_limits.of_a_tenant();
        let engine = PolicyEngine::new(policy_limits.clone())?;
        let host = PolicyHost::start(&engine, answers_to(inboxes), log)?;
        let place = |name: &str| -> PathBuf { configuration.data.join(name) };
        let PolicyParts { compiler, watcher, compiled_in } = parts;
        let cache = || {
            if let Some(data) = &compiled_in {
                // Where there is none, or none of this user, everything is compiled.
                return CompiledCache::reading(&data.join("policy-cache"), &data.join("policy-cache.key")).ok();
            }
            CompiledCache::open(&place("policy-cache"), &place("policy-cache.key"))
                .map_err(|error| tracing::warn!(%error, "compiled policies are not cached"))
                .ok()
        };
        let mut loader = Loader::new(engine, cache())?;
        let mut meter = Meter::new(PolicyLimits { threads: 1, ..policy_limits.clone() }, cache())?;
        if let Some(compiler) = compiler {
            loader = loader.compiling_in(compiler.clone());
            meter = meter.compiling_in(compiler);
        }
        let library = Library::open(&place("policies"))?;
        let pseudonym_secret = pseudonym_secret(&configuration.data)?;
        let max_component_bytes = policy_limits.max_component_bytes;
        let parts = Parts { loader, meter, library, pseudonym_secret, max_component_bytes, clock, watcher };
        let platform = Arc::new(Policies::new(host, parts));
        Ok(ConfiguredPolicies { platform, server: limits.clone(), usual, abilities: abilities(configuration) })
    }

    /// What decides, and swaps what decides.
    #[must_use]
    pub fn platform(&self) -> &Arc<Policies> {
        &self.platform
    }

    /// Loads the policies of many tenants on all cores. Blocks.
    ///
    /// # Errors
    /// The first that cannot be used, in the order of the tenants.
    pub fn prepare_all(
        &self,
        tenants: &[(&str, &Tenant, &Source)],
        occasion: Occasion,
    ) -> Result<Vec<Prepared>, UnusablePolicy> {
        in_parallel(tenants, |(name, tenant, source)| self.prepare(name, tenant, source, occasion))
            .into_iter()
            .collect()
    }

    /// Loads the policy of one tenant and has it check its settings. Blocks, for some hundred milliseconds where the
    /// policy was not compiled before. Nothing is in use then.
    ///
    /// # Errors
    /// It cannot be used; what decided before still does.
    pub fn prepare(
        &self,
        name: &str,
        tenant: &Tenant,
        source: &Source,
        occasion: Occasion,
    ) -> Result<Prepared, UnusablePolicy> {
        let of_tenant = self.of_tenant(name, tenant).map_err(|problem| unusable(source, name, tenant, &problem))?;
        let ready = self.platform.ready(of_tenant, occasion).map_err(|error| match error {
            PolicyError::NotActivated(NotActivated { problems, .. }) if !problems.is_empty() => {
                let said = problems.iter().map(|it| format!("{}: {}", place(source, name, &it.pointer), it.text));
                UnusablePolicy(said.collect::<Vec<_>>().join("\n"))
            }
            PolicyError::NotActivated(NotActivated { text, .. }) => unusable(source, name, tenant, &text),
            error => unusable(source, name, tenant, &error.to_string()),
        })?;
        for problem in &ready.warnings {
            tracing::warn!("{}: {}", place(source, name, &problem.pointer), problem.text);
        }
        Ok(Prepared { tenant: TenantName(name.into()), ready })
    }

    /// Makes it durable: the next start finds it.
    ///
    /// # Errors
    /// The disk does not take it; what decided before still does.
    pub fn keep(&self, prepared: &Prepared) -> Result<(), (TenantName, io::Error)> {
        let refused = |error| (prepared.tenant.clone(), io::Error::other(error));
        self.platform.keep_ready(&prepared.ready).map_err(refused)
    }

    /// From the next decision on this policy, which was kept, decides.
    pub fn activate(&self, prepared: Prepared) {
        let Prepared { tenant, ready } = prepared;
        if let Err(error) = self.platform.take(ready) {
            tracing::error!(%tenant, %error, "the tenant's policy changed meanwhile; the previous one stays active");
        }
    }

    /// The tenant has no policy any more; what was asked before is still decided.
    pub fn remove(&self, tenant: &TenantName) {
        self.platform.remove(tenant);
    }

    /// What a tenant's configuration says of its policy.
    fn of_tenant(&self, name: &str, tenant: &Tenant) -> Result<TenantPolicy, String> {
        let failure = tenant.failure.iter();
        let hand_over_targets = tenant.hand_over.keys().cloned().collect();
        Ok(TenantPolicy {
            name: TenantName(name.into()),
            policy: tenant.policy.clone(),
            settings: serde_json::to_value(&tenant.settings).map_err(|error| error.to_string())?,
            abilities: HostAbilities { hand_over_targets, ..self.abilities.clone() },
            signers: Signers::parse(&tenant.signers)?,
            failure: failure.fold(FailurePolicies::default(), |all, (hook, policy)| all.with(*hook, *policy)),
            limits: self.limits_of(tenant),
        })
    }

    fn limits_of(&self, tenant: &Tenant) -> TenantPolicyLimits {
        let bounds = tenant.limits.bounds(&self.server);
        TenantPolicyLimits {
            deadline: Duration::from_millis(bounds.max_decision_milliseconds),
            max_memory_bytes: size(bounds.max_policy_memory_bytes),
            max_decisions_at_once: bounds.max_decisions_at_once.map_or(self.usual.max_decisions_at_once, size),
            max_log_lines_per_second: u32::try_from(bounds.max_log_lines_per_second).unwrap_or(u32::MAX),
        }
    }
}

/// Brings answers to who asked.
fn answers_to(inboxes: Arc<Inboxes>) -> impl Fn(Asker, Result<Answer, Undecided>) + Send + Sync + 'static {
    move |asker, answer| match asker {
        Asker::Machine(ticket) => {
            if let Some(inbox) = inboxes.get(ticket.0) {
                let _ = inbox.try_push(Lane::Ordered, ToShard::Decided(ticket, answer), 256);
            }
        }
        // It may have gone without waiting.
        Asker::Outsider(asker) => _ = asker.send(answer),
    }
}

/// Brings guests' lines to the server's log.
fn log(line: restante_policy::GuestLog<'_>) {
    let (tenant, text) = (line.tenant, line.text);
    match line.level {
        LogLevel::Debug => tracing::debug!(target: "restante::policy", %tenant, "{text}"),
        LogLevel::Info => tracing::info!(target: "restante::policy", %tenant, "{text}"),
        LogLevel::Warning => tracing::warn!(target: "restante::policy", %tenant, "{text}"),
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
