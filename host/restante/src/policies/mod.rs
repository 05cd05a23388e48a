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
pub mod library;
mod status;
pub mod watch;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use restante_deferral::decision::HostAbilities;
use restante_deferral::model::{TenantName, Timestamp};
use restante_policy::{
    Compiled, FailurePolicies, FailurePolicy, Generation, Hook, Loader, LogLine, Observation, PolicyHost, Problem,
    Shadow, TenantPolicyLimits,
};
use restante_store::sqlite::Clock;
use serde_json::Value;

use self::activation::{NotActivated, Signers, Step, Watcher};
use self::library::{Kept, KeptCandidate, Library, Origin, TenantState};
use crate::server::shard::DecisionTicket;

pub use self::status::{CandidateStatus, GenerationStatus, HookStatus, TenantPolicyStatus};

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

/// See the module.
pub struct Policies {
    host: PolicyHost<DecisionTicket>,
    loader: Loader,
    library: Library,
    max_component_bytes: usize,
    clock: Clock,
    watcher: Watcher,
    tenants: Mutex<HashMap<TenantName, Arc<Managed>>>,
}

/// One tenant's.
struct Managed {
    /// Held while something changes.
    changing: Mutex<()>,
    current: Mutex<Current>,
}

#[derive(Clone)]
struct Current {
    configured: TenantPolicy,
    state: TenantState,
    active: Arc<Generation>,
    candidate: Option<Arc<Shadow>>,
}

/// A generation that passed all steps before it is kept.
struct Prepared {
    generation: Arc<Generation>,
    bytes: Vec<u8>,
    kept: Kept,
    warnings: Vec<Problem>,
}

impl Policies {
    /// With what decides, what loads, and where things are kept.
    #[must_use]
    pub fn new(
        host: PolicyHost<DecisionTicket>,
        loader: Loader,
        library: Library,
        max_component_bytes: usize,
        clock: Clock,
        watcher: Watcher,
    ) -> Policies {
        Policies { host, loader, library, max_component_bytes, clock, watcher, tenants: Mutex::default() }
    }

    /// What decides.
    #[must_use]
    pub fn host(&self) -> &PolicyHost<DecisionTicket> {
        &self.host
    }

    /// A tenant is new, or its configuration may have changed, or the file that it names. What was active stays active
    /// unless the configuration names something else than it did before.
    ///
    /// # Errors
    /// [`PolicyError`]: what was active is so still. A tenant that has nothing else is not added.
    pub fn apply(&self, configured: TenantPolicy) -> Result<Vec<Problem>, PolicyError> {
        let known = self.lock().get(&configured.name).cloned();
        match known {
            Some(managed) => self.reconfigure(&managed, configured),
            None => self.add(configured),
        }
    }

    /// A tenant is gone. What is kept of it stays on disk, for its return.
    pub fn remove(&self, tenant: &TenantName) {
        self.lock().remove(tenant);
        self.host.remove(tenant);
    }

    /// Keeps an uploaded component; returns its digest.
    ///
    /// # Errors
    /// It is too large, or the operating system says no.
    pub fn upload(&self, bytes: &[u8]) -> Result<String, PolicyError> {
        if bytes.len() > self.max_component_bytes {
            let text = format!("{} bytes; at most {} are allowed", bytes.len(), self.max_component_bytes);
            return Err(NotActivated::at(Step::Component, text).into());
        }
        let _only_one = self.lock();
        self.library.sweep()?;
        Ok(self.library.keep_component(bytes)?)
    }

    /// Makes an uploaded component what decides.
    ///
    /// # Errors
    /// [`PolicyError`]: what was active is so still.
    pub fn activate(&self, tenant: &TenantName, proposal: Proposal) -> Result<Activated, PolicyError> {
        let managed = self.managed(tenant)?;
        let _changing = managed.changing();
        let current = managed.current();
        let prepared = self.prepare_proposal(&current, proposal)?;
        self.switch(&managed, current, prepared)
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
        let _changing = managed.changing();
        let mut current = managed.current();
        let Prepared { generation, bytes, kept, warnings } = self.prepare_proposal(&current, proposal)?;
        self.library.keep_component(&bytes)?;
        current.state.candidate = Some(KeptCandidate { generation: kept.clone(), sample_permille });
        self.library.keep_state(&tenant.0, &current.state)?;
        current.candidate = Some(Arc::new(Shadow::new(generation, sample_permille)));
        self.take_effect(&managed, current);
        Ok(Activated { generation: kept, warnings })
    }

    /// Makes the candidate what decides.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn activate_candidate(&self, tenant: &TenantName) -> Result<Activated, PolicyError> {
        let managed = self.managed(tenant)?;
        let _changing = managed.changing();
        let mut current = managed.current();
        let candidate = current.state.candidate.take().ok_or(PolicyError::Nothing("there is no candidate"))?;
        current.candidate = None;
        // Signers, cases and the host may have changed since it was tried.
        let prepared = self.prepare_kept(&current, &candidate.generation)?;
        self.switch(&managed, current, prepared)
    }

    /// Drops the candidate.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn drop_candidate(&self, tenant: &TenantName) -> Result<(), PolicyError> {
        let managed = self.managed(tenant)?;
        let _changing = managed.changing();
        let mut current = managed.current();
        current.state.candidate.take().ok_or(PolicyError::Nothing("there is no candidate"))?;
        self.library.keep_state(&tenant.0, &current.state)?;
        current.candidate = None;
        self.take_effect(&managed, current);
        Ok(())
    }

    /// Makes a generation that was active before active again: the last one, or the one of this number.
    ///
    /// # Errors
    /// [`PolicyError`]: what was active is so still.
    pub fn roll_back(&self, tenant: &TenantName, number: Option<u64>) -> Result<Activated, PolicyError> {
        let managed = self.managed(tenant)?;
        let _changing = managed.changing();
        let current = managed.current();
        let wanted = |kept: &&Kept| number.is_none_or(|number| kept.number == number);
        let kept = current.state.previous.iter().find(wanted).cloned();
        let kept = kept.ok_or(PolicyError::Nothing("there is no such generation to go back to"))?;
        // It decided before: what refuses it now must not stand in the way of getting back to it, but for signers.
        let prepared = self.restore(&current.configured, &kept)?;
        self.switch(&managed, current, prepared)
    }

    /// Replaces the cases that a policy of this tenant has to pass; none removes them.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn set_cases(&self, tenant: &TenantName, cases: Option<&[u8]>) -> Result<(), PolicyError> {
        let managed = self.managed(tenant)?;
        let _changing = managed.changing();
        Ok(self.library.keep_cases(&tenant.0, cases)?)
    }

    /// How a tenant's policy does.
    ///
    /// # Errors
    /// [`PolicyError::UnknownTenant`]
    pub fn status(&self, tenant: &TenantName) -> Result<TenantPolicyStatus, PolicyError> {
        let current = self.managed(tenant)?.current();
        let statistics = self.host.statistics_of(tenant);
        Ok(TenantPolicyStatus::new(tenant, &current.state, current.candidate.as_deref(), statistics.as_ref()))
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
            (policy != STANDARD).then(|| (PathBuf::from(policy), name))
        };
        tenants.into_iter().filter_map(of).collect()
    }

    /// The file that a tenant's configuration names may have changed.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn file_changed(&self, tenant: &TenantName) -> Result<Vec<Problem>, PolicyError> {
        let configured = self.managed(tenant)?.current().configured;
        self.apply(configured)
    }

    /// A tenant that this process does not know yet.
    fn add(&self, configured: TenantPolicy) -> Result<Vec<Problem>, PolicyError> {
        let name = configured.name.clone();
        let kept = self.library.state(&name.0)?;
        let named = self.read_configured(&configured);
        let (current, warnings) = match kept {
            Some(state) if names_the_same(&state, &named, &configured) => (self.resume(configured, state)?, Vec::new()),
            Some(state) => match self.activate_configured(&configured, Some(state.clone()), named) {
                Ok(activated) => activated,
                // What decided yesterday is better than nobody.
                Err(error) => {
                    tracing::error!(tenant = %name, %error, "the configured policy is not activated; the last one decides");
                    (self.resume(configured, state)?, Vec::new())
                }
            },
            None => self.activate_configured(&configured, None, named)?,
        };
        let managed = Arc::new(Managed { changing: Mutex::default(), current: Mutex::new(current.clone()) });
        self.take_effect(&managed, current);
        self.lock().insert(name, managed);
        Ok(warnings)
    }

    /// A tenant that decides already.
    fn reconfigure(&self, managed: &Managed, configured: TenantPolicy) -> Result<Vec<Problem>, PolicyError> {
        let _changing = managed.changing();
        let current = managed.current();
        let named = self.read_configured(&configured);
        if !names_the_same(&current.state, &named, &configured) {
            let (next, warnings) = self.activate_configured(&configured, Some(current.state), named)?;
            self.take_effect(managed, Current { candidate: current.candidate, ..next });
            return Ok(warnings);
        }
        if current.configured == configured {
            return Ok(Vec::new());
        }
        // What the policy is told of the host is part of a generation.
        let next = self.resume(configured, current.state)?;
        self.take_effect(managed, Current { candidate: next.candidate.or(current.candidate), ..next });
        Ok(Vec::new())
    }

    /// What the configuration names becomes what decides.
    fn activate_configured(
        &self,
        configured: &TenantPolicy,
        state: Option<TenantState>,
        named: Result<(Vec<u8>, Option<String>), NotActivated>,
    ) -> Result<(Current, Vec<Problem>), PolicyError> {
        let (bytes, signature) = named?;
        let number = state.as_ref().map_or(1, TenantState::next_number);
        let origin = Origin::Configuration;
        let prepared = self.prepare(configured, bytes, configured.settings.clone(), signature, origin, number)?;
        let kept = prepared.kept.clone();
        let mut state = match state {
            Some(mut state) => {
                state.activate(kept.clone());
                state
            }
            None => TenantState::new(kept.clone()),
        };
        state.configured = Some((kept.digest, configured.settings.clone()));
        self.keep(&configured.name, &prepared.bytes, &state)?;
        let current = Current { configured: configured.clone(), state, active: prepared.generation, candidate: None };
        Ok((current, prepared.warnings))
    }

    /// What was active when the server ended, or what was before that, decides again.
    fn resume(&self, configured: TenantPolicy, mut state: TenantState) -> Result<Current, PolicyError> {
        let choices: Vec<Kept> = std::iter::once(&state.active).chain(&state.previous).cloned().collect();
        let mut first_error = None;
        for kept in choices {
            match self.restore(&configured, &kept) {
                Ok(prepared) => {
                    if kept.number != state.active.number {
                        state.activate(kept);
                        self.library.keep_state(&configured.name.0, &state)?;
                    }
                    let candidate = state.candidate.as_ref().and_then(|it| self.resume_candidate(&configured, it));
                    return Ok(Current { configured, state, active: prepared.generation, candidate });
                }
                Err(error) => {
                    let tenant = &configured.name;
                    tracing::error!(%tenant, number = kept.number, %error, "a generation cannot be restored");
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.map_or(PolicyError::Nothing("there is no generation"), PolicyError::from))
    }

    fn resume_candidate(&self, configured: &TenantPolicy, candidate: &KeptCandidate) -> Option<Arc<Shadow>> {
        match self.restore(configured, &candidate.generation) {
            Ok(prepared) => Some(Arc::new(Shadow::new(prepared.generation, candidate.sample_permille))),
            Err(error) => {
                tracing::warn!(tenant = %configured.name, %error, "the candidate cannot be restored");
                None
            }
        }
    }

    /// A generation that was kept, made ready without being judged anew, but for who has to sign.
    fn restore(&self, configured: &TenantPolicy, kept: &Kept) -> Result<Prepared, NotActivated> {
        let bytes = self.component_of(&kept.digest)?;
        check_signature(configured, &bytes, kept.signature.as_deref())?;
        let compiled = self.loader.compile(&bytes)?;
        let loaded = self.settle(&compiled, &kept.settings, configured)?;
        let kept = Kept { since: self.now(), ..kept.clone() };
        Ok(Prepared { generation: loaded.0, bytes, kept, warnings: loaded.1 })
    }

    fn prepare_proposal(&self, current: &Current, proposal: Proposal) -> Result<Prepared, NotActivated> {
        let Proposal { digest, settings, signature } = proposal;
        let bytes = self.component_of(&digest)?;
        let settings = settings.unwrap_or_else(|| current.configured.settings.clone());
        let number = current.state.next_number();
        self.prepare(&current.configured, bytes, settings, signature, Origin::Upload, number)
    }

    fn prepare_kept(&self, current: &Current, kept: &Kept) -> Result<Prepared, NotActivated> {
        let bytes = self.component_of(&kept.digest)?;
        let (settings, signature) = (kept.settings.clone(), kept.signature.clone());
        self.prepare(&current.configured, bytes, settings, signature, kept.origin, kept.number)
    }

    /// All steps before anything is kept.
    fn prepare(
        &self,
        configured: &TenantPolicy,
        bytes: Vec<u8>,
        settings: Value,
        signature: Option<String>,
        origin: Origin,
        number: u64,
    ) -> Result<Prepared, NotActivated> {
        let passed = |step| (self.watcher)(step);
        passed(Step::Component);
        check_signature(configured, &bytes, signature.as_deref())?;
        passed(Step::Signature);
        let compiled = self.loader.compile(&bytes)?;
        passed(Step::Compile);
        passed(Step::World);
        let (generation, warnings) = self.settle(&compiled, &settings, configured)?;
        passed(Step::CheckSettings);
        self.pass_cases(configured, &compiled, &generation)?;
        passed(Step::Cases);
        let description = generation.description();
        let kept = Kept {
            number,
            digest: generation.digest(),
            settings,
            name: description.name.clone(),
            version: description.version.clone(),
            contract: generation.contract().to_owned(),
            origin,
            signature,
            since: self.now(),
        };
        Ok(Prepared { generation, bytes, kept, warnings })
    }

    fn settle(
        &self,
        compiled: &Compiled,
        settings: &Value,
        configured: &TenantPolicy,
    ) -> Result<(Arc<Generation>, Vec<Problem>), NotActivated> {
        let loaded = self.loader.settle(compiled, &settings.to_string(), &configured.abilities)?;
        Ok((loaded.generation, loaded.warnings))
    }

    /// The tenant's cases are decided as they expect.
    fn pass_cases(
        &self,
        configured: &TenantPolicy,
        _compiled: &Compiled,
        _generation: &Arc<Generation>,
    ) -> Result<(), NotActivated> {
        let cases = self.library.cases(&configured.name.0);
        let cases = cases.map_err(|error| NotActivated::at(Step::Cases, error.to_string()))?;
        match cases {
            None => Ok(()),
            Some(_) => Ok(()),
        }
    }

    /// Component and state are on disk when it returns: a restart finds the new generation.
    fn keep(&self, tenant: &TenantName, bytes: &[u8], state: &TenantState) -> Result<(), NotActivated> {
        let refused = |step| move |error: io::Error| NotActivated::at(step, error.to_string());
        let only_one = self.lock();
        self.library.keep_component(bytes).map_err(refused(Step::Write))?;
        drop(only_one);
        (self.watcher)(Step::Write);
        self.library.keep_state(&tenant.0, state).map_err(refused(Step::Keep))?;
        (self.watcher)(Step::Keep);
        Ok(())
    }

    /// What was prepared decides from now on.
    fn switch(&self, managed: &Managed, current: Current, prepared: Prepared) -> Result<Activated, PolicyError> {
        let Prepared { generation, bytes, kept, warnings } = prepared;
        let mut next = current;
        next.state.activate(kept.clone());
        self.keep(&next.configured.name, &bytes, &next.state)?;
        next.active = generation;
        self.take_effect(managed, next);
        (self.watcher)(Step::Switch);
        Ok(Activated { generation: kept, warnings })
    }

    /// Tells what decides; from here on it is so.
    fn take_effect(&self, managed: &Managed, current: Current) {
        let tenant = &current.configured.name;
        let wants_previous =
            Hook::ALL.iter().any(|hook| current.configured.failure.of(*hook) == FailurePolicy::Previous);
        let previous = current.state.previous.first().filter(|_| wants_previous);
        let previous = previous.and_then(|kept| self.restore(&current.configured, kept).ok());
        self.host.configure(tenant, current.configured.limits);
        self.host.set_failure_policies(tenant, current.configured.failure);
        self.host.set_generations(tenant, Arc::clone(&current.active), previous.map(|it| it.generation));
        self.host.observe(tenant, Observation { shadow: current.candidate.clone(), recorder: None });
        *managed.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }

    /// The component that a configuration names, and the signature beside it.
    fn read_configured(&self, configured: &TenantPolicy) -> Result<(Vec<u8>, Option<String>), NotActivated> {
        if configured.policy == STANDARD {
            return Ok((restante_policy::standard::COMPONENT.to_vec(), None));
        }
        let path = Path::new(&configured.policy);
        let unreadable =
            |error: io::Error| NotActivated::at(Step::Component, format!("cannot read {}: {error}", path.display()));
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        if length > self.max_component_bytes as u64 {
            let text = format!("{}: {length} bytes; at most {} are allowed", path.display(), self.max_component_bytes);
            return Err(NotActivated::at(Step::Component, text));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".sig");
        let signature = match std::fs::read(&beside) {
            Ok(signature) => Some(
                activation::signature_from_file(&signature)
                    .map_err(|text| NotActivated::at(Step::Signature, format!("{}.sig: {text}", path.display())))?,
            ),
            Err(_) => None,
        };
        Ok((bytes, signature))
    }

    fn component_of(&self, digest: &str) -> Result<Vec<u8>, NotActivated> {
        self.library.component(digest).map_err(|error| NotActivated::at(Step::Component, error.to_string()))
    }

    fn managed(&self, tenant: &TenantName) -> Result<Arc<Managed>, PolicyError> {
        self.lock().get(tenant).cloned().ok_or_else(|| PolicyError::UnknownTenant(tenant.to_string()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantName, Arc<Managed>>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        let Timestamp(now) = (self.clock)();
        now
    }
}

impl Managed {
    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Current {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The policy in this program.
pub const STANDARD: &str = "standard";

/// The policy in this program needs no other signature than the program's.
fn check_signature(configured: &TenantPolicy, bytes: &[u8], signature: Option<&str>) -> Result<(), NotActivated> {
    if bytes == restante_policy::standard::COMPONENT {
        return Ok(());
    }
    configured.signers.check(bytes, signature)
}

/// Whether the configuration still names what it named when it was last activated. A file that cannot be read now is no
/// change.
fn names_the_same(
    state: &TenantState,
    named: &Result<(Vec<u8>, Option<String>), NotActivated>,
    configured: &TenantPolicy,
) -> bool {
    match (named, &state.configured) {
        (Ok((bytes, _)), Some((digest, settings))) => {
            *settings == configured.settings && library::digest_of(bytes) == *digest
        }
        (Err(_), Some((_, settings))) => *settings == configured.settings,
        (_, None) => false,
    }
}
