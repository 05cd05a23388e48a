//! Tenants' policies while the server runs: which generation decides, how another takes its place, and what is known of
//! both.
//!
//! ```text
//! configuration ─┐                                        ┌─▶ PolicyHost: decides
//! upload ────────┼─▶ activation, step by step ─▶ library ─┤
//! rollback ──────┘   (see `activation`)      (see `library`)└─▶ a restart finds it
//! ```
//!
//! Everything here blocks, for seconds where it compiles: it is called from threads that serve nobody. Changes of one
//! tenant follow each other; those of different tenants do not wait for each other, but for the one compiler.

pub mod activation;
mod asking;
mod configured;
pub mod library;
mod preparing;
pub mod recording;
mod records;
mod removal;
mod standard;
mod status;
pub mod watch;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use restante_deferral::decision::HostAbilities;
use restante_deferral::model::{TenantName, Timestamp};
use restante_policy::record::Meter;
use restante_policy::{
    FailurePolicies, FailurePolicy, Generation, Hook, Loader, LogLine, Observation, PolicyHost, Problem, Recorder,
    Shadow, TenantPolicyLimits,
};
use restante_store::sqlite::Clock;
use serde_json::Value;

use self::activation::{NotActivated, Step, Watcher};
use self::library::{Kept, KeptCandidate, Library, TenantState};
use self::preparing::{Prepared, parse_cases};
use self::recording::FileRecorder;
use crate::signatures::Signers;

pub use self::asking::Asker;
pub use self::configured::{Occasion, Ready};
pub use self::status::{
    Activations, CandidateStatus, GenerationStatus, HookStatus, RecordingSettings, RecordingStatus, TenantPolicyStatus,
};

/// What a tenant's configuration says of its policy.
#[derive(Clone, Debug, PartialEq)]
pub struct TenantPolicy {
    /// Whose.
    pub name: TenantName,
    /// `standard`, or a path to a component.
    pub policy: String,
    /// The policy's settings.
    pub settings: Value,
    /// What the policy is told of the host.
    pub abilities: HostAbilities,
    /// Who has to sign.
    pub signers: Signers,
    /// What happens when it does not decide.
    pub failure: FailurePolicies,
    /// What it may use.
    pub limits: TenantPolicyLimits,
}

/// A component that is to become a generation.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// SHA-256 of a component that was uploaded.
    pub digest: String,
    /// Settings; none: as the configuration says.
    pub settings: Option<Value>,
    /// Detached ed25519 signature, in base64.
    pub signature: Option<String>,
}

/// What became active, or a candidate.
#[derive(Debug)]
pub struct Activated {
    /// It.
    pub generation: Kept,
    /// What it found odd about its settings.
    pub warnings: Vec<Problem>,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// No such tenant.
    #[error("there is no tenant {0:?}")]
    UnknownTenant(String),
    /// There is nothing to do it with.
    #[error("{0}")]
    Nothing(&'static str),
    /// A step said no.
    #[error(transparent)]
    NotActivated(#[from] NotActivated),
    /// The operating system said no.
    #[error("{0}")]
    Disk(#[from] io::Error),
}

/// What policies are loaded, measured and kept with.
pub struct Parts {
    /// Loads them.
    pub loader: Loader,
    /// Decides again, for cases and records.
    pub meter: Meter,
    /// Keeps them.
    pub library: Library,
    /// Makes pseudonyms.
    pub pseudonym_secret: [u8; 64],
    /// The largest component, in bytes.
    pub max_component_bytes: usize,
    /// The time.
    pub clock: Clock,
    /// Told of each step of an activation.
    pub watcher: Watcher,
}

/// See the module.
pub struct Policies {
    host: PolicyHost<Asker>,
    parts: Parts,
    /// Held for a look alone: who serves looks here, too.
    tenants: Mutex<HashMap<TenantName, Arc<Managed>>>,
    /// Held while components are swept, and from keeping one until a state names it: nothing that is about to be named
    /// is swept.
    components: Mutex<()>,
}

/// One tenant's.
struct Managed {
    /// Held while something changes.
    changing: Mutex<()>,
    current: Mutex<Current>,
    activated: AtomicU64,
    refused: AtomicU64,
}

#[derive(Clone)]
struct Current {
    configured: TenantPolicy,
    state: TenantState,
    active: Arc<Generation>,
    candidate: Option<Arc<Shadow>>,
    recorder: Option<Arc<FileRecorder>>,
}

impl Policies {
    /// With what decides and all that it needs.
    #[must_use]
    pub fn new(host: PolicyHost<Asker>, parts: Parts) -> Policies {
        Policies { host, parts, tenants: Mutex::default(), components: Mutex::default() }
    }

    /// What decides.
    #[must_use]
    pub fn host(&self) -> &PolicyHost<Asker> {
        &self.host
    }

    /// A tenant is new, or its configuration may have changed, or the file that it names. What was active stays active
    /// unless the configuration names something else than it did before.
    ///
    /// # Errors
    /// [`PolicyError`]: what was active is so still. A tenant that has nothing else is not added.
    pub fn apply(&self, configured: TenantPolicy) -> Result<Vec<Problem>, PolicyError> {
        let ready = self.ready(configured, Occasion::Change)?;
        self.keep_ready(&ready)?;
        let warnings = ready.warnings.clone();
        self.take(ready)?;
        Ok(warnings)
    }

    /// Keeps an uploaded component; returns its digest.
    ///
    /// # Errors
    /// It is too large, or the operating system says no.
    pub fn upload(&self, bytes: &[u8]) -> Result<String, PolicyError> {
        if bytes.len() > self.parts.max_component_bytes {
            let text = format!("{} bytes; at most {} are allowed", bytes.len(), self.parts.max_component_bytes);
            return Err(NotActivated::at(Step::Component, text).into());
        }
        let _components = self.components();
        if let Err(error) = self.parts.library.sweep() {
            // Nothing was: what cannot be read may name it. That is no reason to take nothing.
            tracing::warn!(%error, "cannot remove unused components");
        }
        Ok(self.parts.library.keep_component(bytes)?)
    }

    /// Makes an uploaded component what decides.
    ///
    /// # Errors
    /// [`PolicyError`]: what was active is so still.
    pub fn activate(&self, tenant: &TenantName, proposal: Proposal) -> Result<Activated, PolicyError> {
        let managed = self.managed(tenant)?;
        let _turn = self.turn(tenant, &managed)?;
        managed.counting(|current| {
            let prepared = self.prepare_proposal(&current, proposal)?;
            self.switch(&managed, current, prepared, "activated by command")
        })
    }

    /// Makes an uploaded component a candidate that sees so many of a thousand decisions.
    ///
    /// # Errors
    /// [`PolicyError`]: the candidate before it is so still.
    pub fn try_out(
        &self,
        tenant: &TenantName,
        proposal: Proposal,
        sample_permille: u32,
    ) -> Result<Activated, PolicyError> {
        let managed = self.managed(tenant)?;
        let _turn = self.turn(tenant, &managed)?;
        let mut current = managed.current();
        let Prepared { generation, bytes, kept, warnings } = self.prepare_proposal(&current, proposal)?;
        current.state.candidate = Some(KeptCandidate { generation: kept.clone(), sample_permille });
        let components = self.components();
        self.parts.library.keep_component(&bytes)?;
        self.parts.library.keep_state(&tenant.0, &current.state)?;
        drop(components);
        current.candidate = Some(Arc::new(Shadow::new(generation, sample_permille)));
        tracing::info!(%tenant, number = kept.number, digest = kept.digest, sample_permille, "a candidate is running");
        self.take_effect(&managed, current, "");
        Ok(Activated { generation: kept, warnings })
    }

    /// Makes the candidate what decides.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn activate_candidate(&self, tenant: &TenantName) -> Result<Activated, PolicyError> {
        let managed = self.managed(tenant)?;
        let _turn = self.turn(tenant, &managed)?;
        managed.counting(|mut current| {
            let candidate = current.state.candidate.take().ok_or(PolicyError::Nothing("there is no candidate"))?;
            current.candidate = None;
            // Signers, cases and the host may have changed since it was tried.
            let prepared = self.prepare_kept(&current, &candidate.generation)?;
            self.switch(&managed, current, prepared, "the candidate was activated by command")
        })
    }

    /// Drops the candidate.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn drop_candidate(&self, tenant: &TenantName) -> Result<(), PolicyError> {
        let managed = self.managed(tenant)?;
        let _turn = self.turn(tenant, &managed)?;
        let mut current = managed.current();
        current.state.candidate.take().ok_or(PolicyError::Nothing("there is no candidate"))?;
        self.parts.library.keep_state(&tenant.0, &current.state)?;
        current.candidate = None;
        tracing::info!(%tenant, "the candidate was dropped");
        self.take_effect(&managed, current, "");
        Ok(())
    }

    /// Makes a generation that was active before active again: the last one, or the one of this number.
    ///
    /// # Errors
    /// [`PolicyError`]: what was active is so still.
    pub fn roll_back(&self, tenant: &TenantName, number: Option<u64>) -> Result<Activated, PolicyError> {
        let managed = self.managed(tenant)?;
        let _turn = self.turn(tenant, &managed)?;
        managed.counting(|current| {
            let wanted = |kept: &&Kept| number.is_none_or(|number| kept.number == number);
            let kept = current.state.previous.iter().find(wanted).cloned();
            let kept = kept.ok_or(PolicyError::Nothing("no such generation to roll back to"))?;
            // It decided before: what refuses it now must not stand in the way of getting back to it, but for signers.
            let prepared = self.restore(&current.configured, &kept)?;
            self.switch(&managed, current, prepared, "gone back to by command")
        })
    }

    /// Replaces the cases that a policy of this tenant has to pass; none removes them.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn set_cases(&self, tenant: &TenantName, cases: Option<&[u8]>) -> Result<(), PolicyError> {
        if let Some(cases) = cases {
            parse_cases(cases).map_err(|text| NotActivated::at(Step::Cases, text))?;
        }
        let managed = self.managed(tenant)?;
        let _turn = self.turn(tenant, &managed)?;
        Ok(self.parts.library.keep_cases(&tenant.0, cases)?)
    }

    /// How a tenant's policy does.
    ///
    /// # Errors
    /// [`PolicyError::UnknownTenant`]
    pub fn status(&self, tenant: &TenantName) -> Result<TenantPolicyStatus, PolicyError> {
        let current = self.managed(tenant)?.current();
        let statistics = self.host.statistics_of(tenant);
        Ok(TenantPolicyStatus::new(
            tenant,
            &current.state,
            current.candidate.as_deref(),
            current.recorder.as_deref(),
            statistics.as_ref(),
        ))
    }

    /// What decides for a tenant; none: nothing is known of it.
    #[must_use]
    pub fn active(&self, tenant: &TenantName) -> Option<GenerationStatus> {
        let managed = self.managed(tenant).ok()?;
        let current = managed.current.lock().unwrap_or_else(PoisonError::into_inner);
        Some(GenerationStatus::from(&current.state.active))
    }

    /// For each tenant the number of what decides, and how often another generation came to decide and was refused,
    /// since the server started or the tenant was added.
    #[must_use]
    pub fn activations(&self) -> Vec<Activations> {
        let of = |(name, managed): (&TenantName, &Arc<Managed>)| Activations {
            tenant: name.clone(),
            generation: managed.current.lock().unwrap_or_else(PoisonError::into_inner).state.active.number,
            activated: managed.activated.load(Ordering::Relaxed),
            refused: managed.refused.load(Ordering::Relaxed),
        };
        self.lock().iter().map(of).collect()
    }

    /// The candidate, with what is known of it.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn shadow(&self, tenant: &TenantName) -> Result<Arc<Shadow>, PolicyError> {
        let current = self.managed(tenant)?.current();
        current.candidate.ok_or(PolicyError::Nothing("there is no candidate"))
    }

    /// The last lines of a tenant's policy.
    ///
    /// # Errors
    /// [`PolicyError::UnknownTenant`]
    pub fn log_lines(&self, tenant: &TenantName, after: u64) -> Result<Vec<LogLine>, PolicyError> {
        self.managed(tenant)?;
        Ok(self.host.log_lines(tenant, after))
    }

    /// The tenants, by name.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantName> {
        let mut names: Vec<_> = self.lock().keys().cloned().collect();
        names.sort();
        names
    }

    /// The files that configurations name, and whose.
    #[must_use]
    pub fn configured_files(&self) -> Vec<(PathBuf, TenantName)> {
        let tenants: Vec<_> = self.lock().iter().map(|(name, managed)| (name.clone(), Arc::clone(managed))).collect();
        let of = |(name, managed): (TenantName, Arc<Managed>)| {
            let policy = managed.current().configured.policy;
            (policy != restante_policy::standard::NAME).then(|| (PathBuf::from(policy), name))
        };
        tenants.into_iter().filter_map(of).collect()
    }

    /// Component and state are on disk when it returns: a restart finds the new generation.
    fn keep(&self, tenant: &TenantName, bytes: &[u8], state: &TenantState) -> Result<(), NotActivated> {
        let refused = |step| move |error: io::Error| NotActivated::at(step, error.to_string());
        let _components = self.components();
        if !bytes.is_empty() {
            self.parts.library.keep_component(bytes).map_err(refused(Step::Write))?;
        }
        (self.parts.watcher)(Step::Write);
        self.parts.library.keep_state(&tenant.0, state).map_err(refused(Step::Keep))?;
        (self.parts.watcher)(Step::Keep);
        Ok(())
    }

    /// What was prepared decides from now on.
    fn switch(
        &self,
        managed: &Managed,
        current: Current,
        prepared: Prepared,
        why: &'static str,
    ) -> Result<Activated, PolicyError> {
        let Prepared { generation, bytes, kept, warnings } = prepared;
        let mut next = current;
        next.state.activate(kept.clone());
        self.keep(&next.configured.name, &bytes, &next.state)?;
        next.active = generation;
        self.take_effect(managed, next, why);
        (self.parts.watcher)(Step::Switch);
        Ok(Activated { generation: kept, warnings })
    }

    /// Tells what decides, and the log why, where that is another generation than before; from here on it is so.
    fn take_effect(&self, managed: &Managed, current: Current, why: &'static str) {
        if managed.current().state.active.number != current.state.active.number {
            managed.activated.fetch_add(1, Ordering::Relaxed);
            current.tell(why);
        }
        let tenant = &current.configured.name.clone();
        let wants_previous =
            Hook::ALL.iter().any(|hook| current.configured.failure.of(*hook) == FailurePolicy::Previous);
        let previous = current.state.previous.first().filter(|_| wants_previous);
        let previous = previous.and_then(|kept| {
            let restored = self.restore(&current.configured, kept);
            let untold = |error| {
                tracing::warn!(
                    %tenant,
                    number = kept.number,
                    %error,
                    "the generation that `failure = \"previous\"` names cannot be restored; failures use the fallback"
                );
            };
            restored.map_err(untold).ok()
        });
        self.host.configure(tenant, current.configured.limits);
        self.host.set_failure_policies(tenant, current.configured.failure);
        self.host.set_generations(tenant, Arc::clone(&current.active), previous.map(|it| it.generation));
        let recorder = self.recorder_or_none(&current);
        let current = Current { recorder, ..current };
        self.host.observe(
            tenant,
            Observation {
                shadow: current.candidate.clone(),
                recorder: current.recorder.clone().map(|it| it as Arc<dyn Recorder>),
            },
        );
        *managed.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }

    fn managed(&self, tenant: &TenantName) -> Result<Arc<Managed>, PolicyError> {
        self.lock().get(tenant).cloned().ok_or_else(|| PolicyError::UnknownTenant(tenant.to_string()))
    }

    /// Whoever has this is the only one to change the tenant.
    fn turn<'a>(&self, tenant: &TenantName, managed: &'a Arc<Managed>) -> Result<MutexGuard<'a, ()>, PolicyError> {
        let turn = managed.changing();
        // It may have been removed while others changed it.
        let is_there = self.lock().get(tenant).is_some_and(|known| Arc::ptr_eq(known, managed));
        if is_there { Ok(turn) } else { Err(PolicyError::UnknownTenant(tenant.to_string())) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantName, Arc<Managed>>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn components(&self) -> MutexGuard<'_, ()> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        let Timestamp(now) = (self.parts.clock)();
        now
    }
}

impl Current {
    /// What decides, for the log.
    fn tell(&self, why: &'static str) {
        let (tenant, Kept { number, digest, name, version, origin, .. }) = (&self.configured.name, &self.state.active);
        tracing::info!(%tenant, number, name, version, digest, ?origin, why, "policy generation activated");
    }
}

impl Managed {
    fn new(current: Current) -> Managed {
        let (activated, refused) = Default::default();
        Managed { changing: Mutex::default(), current: Mutex::new(current), activated, refused }
    }

    /// Counts it where it comes to nothing.
    fn counting<T>(&self, change: impl FnOnce(Current) -> Result<T, PolicyError>) -> Result<T, PolicyError> {
        change(self.current()).inspect_err(|_| _ = self.refused.fetch_add(1, Ordering::Relaxed))
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Current {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn abilities(&self) -> HostAbilities {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).configured.abilities.clone()
    }
}

#[cfg(test)]
mod tests;
