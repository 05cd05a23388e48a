//! What configurations name, and what that comes to: the first part of a change finds all that can be refused, the
//! second makes it durable, the third has it decide.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use restante_deferral::model::TenantName;
use restante_policy::standard::NAME;
use restante_policy::{Problem, Shadow};

use super::activation::{NotActivated, Step};
use super::library::{self, Kept, KeptCandidate, Origin, TenantState};
use super::preparing::Prepared;
use super::{Current, Managed, Policies, PolicyError, TenantPolicy, standard};
use crate::signatures::{Signers, signature_from_file};

/// When a configuration is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The server starts. Where what is configured cannot be used, what decided yesterday decides: that is better than
    /// nobody.
    Start,
    /// Somebody changed it and is told what is wrong.
    Change,
}

/// What a tenant's configuration comes to, see [`Policies::ready`].
pub struct Ready {
    managed: Option<Arc<Managed>>,
    /// What it was made from.
    base: Option<TenantState>,
    /// None: nothing changes.
    next: Option<Current>,
    /// A component that is to be kept with the state of `next`, which names it; empty: the state alone. None: both are
    /// kept.
    bytes: Option<Cow<'static, [u8]>>,
    /// Why what is kept of it cannot be read: it gives way.
    unreadable: Option<io::Error>,
    /// What the policy found odd about its settings.
    pub warnings: Vec<Problem>,
}

impl Policies {
    /// The first part of [`Self::apply`]: all that can be refused. Nothing is changed, in memory or on disk.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn ready(&self, configured: TenantPolicy, occasion: Occasion) -> Result<Ready, PolicyError> {
        let known = self.lock().get(&configured.name).cloned();
        match known {
            Some(managed) => managed.clone().counting(|_| self.ready_to_change(managed, configured)),
            None => self.ready_to_add(configured, occasion),
        }
    }

    /// The second part: what was made ready is what the next start finds.
    ///
    /// # Errors
    /// The disk does not take it. What decides is not changed.
    pub fn keep_ready(&self, ready: &Ready) -> Result<(), PolicyError> {
        let (Some(next), Some(bytes)) = (&ready.next, &ready.bytes) else { return Ok(()) };
        let _turn = ready.managed.as_deref().map(Managed::changing);
        if ready.is_overtaken() {
            // What is kept is newer, and `take` makes this anew from it.
            return Ok(());
        }
        if let Some(error) = &ready.unreadable {
            let tenant = &next.configured.name;
            let aside = self.parts.library.set_aside(&tenant.0)?;
            tracing::error!(
                %tenant,
                %error,
                aside = %aside.display(),
                "the stored state of the tenant's policy cannot be read and was set aside: the configured policy is \
                 active as a new first generation; what was activated by command must be activated again, or put a \
                 whole copy in its place while the server is stopped"
            );
        }
        Ok(self.keep(&next.configured.name, bytes, &next.state)?)
    }

    /// The third part: what was made ready, and kept, decides.
    ///
    /// # Errors
    /// As [`Self::apply`], and only where the tenant's policy changed meanwhile.
    pub fn take(&self, ready: Ready) -> Result<(), PolicyError> {
        let is_known = ready.managed.is_some();
        let Some(next) = ready.next.clone() else { return Ok(()) };
        let name = next.configured.name.clone();
        let new = || Arc::new(Managed::new(next.clone()));
        let managed = ready.managed.clone().unwrap_or_else(new);
        let turn = if is_known { self.turn(&name, &managed)? } else { managed.changing() };
        if ready.is_overtaken() {
            drop(turn);
            return self.apply(next.configured).map(drop);
        }
        if !is_known && ready.bytes.is_some() {
            next.tell("the configuration names it");
        }
        self.take_effect(&managed, next, "the configuration names it");
        drop(turn);
        if !is_known {
            self.lock().insert(name, managed);
        }
        Ok(())
    }

    /// The file that a tenant's configuration names, or its signature, may have changed.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn file_changed(&self, tenant: &TenantName) -> Result<Vec<Problem>, PolicyError> {
        let managed = self.managed(tenant)?;
        // A configuration that comes meanwhile waits: it would be undone by the one that is looked at here.
        let _turn = self.turn(tenant, &managed)?;
        managed.counting(|current| {
            let Ready { next, bytes, warnings, .. } = self.ready_to_change(Arc::clone(&managed), current.configured)?;
            if let Some(next) = next {
                if let Some(bytes) = bytes {
                    self.keep(tenant, &bytes, &next.state)?;
                }
                self.take_effect(&managed, next, "the file that the configuration names is another one");
            }
            Ok(warnings)
        })
    }

    /// A tenant that this process does not know yet.
    fn ready_to_add(&self, configured: TenantPolicy, occasion: Occasion) -> Result<Ready, PolicyError> {
        let name = configured.name.clone();
        let (kept, unreadable) = match self.parts.library.state(&name.0) {
            Ok(kept) => (kept, None),
            // Better what is configured than nobody.
            Err(error) if occasion == Occasion::Start && error.kind() == io::ErrorKind::InvalidData => {
                (None, Some(error))
            }
            Err(error) => return Err(error.into()),
        };
        let named = self.read_configured(&configured);
        let is_other_program = configured.policy == NAME
            && kept.as_ref().is_some_and(|state| standard::is_of_another_program(state, standard_digest()));
        let Some(mut state) = kept else {
            let ready = self.ready_to_activate(None, configured, None, named)?;
            return Ok(Ready { unreadable, ..ready });
        };
        let before = state.clone();
        if occasion == Occasion::Change {
            // It comes back: see `removal`.
            state.dismiss_observers();
        }
        let unusable = if names_the_same(&state, &named, &configured) {
            if is_other_program {
                tracing::info!(tenant = %name, "this version of the program has a different standard policy: what was \
                    activated by command stays active; `restante policy activate {name} standard` switches to it");
            }
            if let (Ok(named), Some((identity, _))) = (&named, &mut state.configured) {
                identity.clone_from(&named.identity);
            }
            named.err().map(PolicyError::from)
        } else {
            if is_other_program {
                tracing::info!(tenant = %name, "this version of the program has a different standard policy");
            }
            match self.ready_to_activate(None, configured.clone(), Some(state.clone()), named) {
                Ok(ready) => return Ok(ready),
                Err(error) => Some(error),
            }
        };
        match unusable {
            Some(error) if occasion == Occasion::Change => return Err(error),
            Some(error) => {
                tracing::error!(
                    tenant = %name,
                    %error,
                    "the configured policy cannot be activated; the last one stays active"
                );
            }
            None => {}
        }
        let next = self.resume(configured, state, occasion)?;
        let bytes = (next.state != before).then(Cow::default);
        Ok(Ready { managed: None, base: None, next: Some(next), bytes, unreadable: None, warnings: Vec::new() })
    }

    /// A tenant that decides already.
    fn ready_to_change(&self, managed: Arc<Managed>, configured: TenantPolicy) -> Result<Ready, PolicyError> {
        let current = managed.current();
        let named = self.read_configured(&configured);
        if !names_the_same(&current.state, &named, &configured) {
            let mut ready = self.ready_to_activate(Some(managed), configured, Some(current.state), named)?;
            if let Some(next) = &mut ready.next {
                next.candidate = current.candidate;
            }
            return Ok(ready);
        }
        if let Err(error) = named {
            if current.configured.policy != configured.policy {
                return Err(error.into());
            }
            // It decides already, and may be being replaced at this moment.
            tracing::error!(
                tenant = %configured.name,
                %error,
                "the configured policy cannot be read; nothing changes"
            );
        }
        let base = Some(current.state.clone());
        let mut next = None;
        if current.configured != configured {
            // What the policy is told of the host is part of a generation.
            let resumed = self.resume(configured, current.state, Occasion::Change)?;
            next = Some(Current { candidate: resumed.candidate.or(current.candidate), ..resumed });
        }
        Ok(Ready { managed: Some(managed), base, next, bytes: None, unreadable: None, warnings: Vec::new() })
    }

    /// What the configuration names is to decide.
    fn ready_to_activate(
        &self,
        managed: Option<Arc<Managed>>,
        configured: TenantPolicy,
        base: Option<TenantState>,
        named: Result<Named, NotActivated>,
    ) -> Result<Ready, PolicyError> {
        let Named { bytes, identity, signature, .. } = named?;
        let number = base.as_ref().map_or(1, TenantState::next_number);
        let origin = Origin::Configuration;
        let settings = configured.settings.clone();
        let prepared = self.prepare(&configured, bytes, settings, signature, origin, number)?;
        let Prepared { generation, bytes, kept, warnings } = prepared;
        let mut state = match base.clone() {
            Some(mut state) => {
                state.activate(kept);
                state
            }
            None => TenantState::new(kept),
        };
        state.configured = Some((identity, configured.settings.clone()));
        let next = Some(Current { configured, state, active: generation, candidate: None, recorder: None });
        // One that is new has no state that could have changed meanwhile.
        let base = base.filter(|_| managed.is_some());
        Ok(Ready { managed, base, next, bytes: Some(bytes), unreadable: None, warnings })
    }

    /// What was active decides again; where the server starts, at least what was before that. Nothing is kept yet.
    fn resume(
        &self,
        configured: TenantPolicy,
        mut state: TenantState,
        occasion: Occasion,
    ) -> Result<Current, PolicyError> {
        let before = state.previous.iter().filter(|_| occasion == Occasion::Start);
        let choices: Vec<Kept> = std::iter::once(&state.active).chain(before).cloned().collect();
        let mut first_error = None;
        for kept in choices {
            match self.restore(&configured, &kept) {
                Ok(prepared) => {
                    if kept.number != state.active.number {
                        if state.active.origin == Origin::Configuration {
                            // As soon as what is configured can be used it decides.
                            state.configured = None;
                        }
                        state.activate(kept);
                    }
                    let candidate = state.candidate.as_ref().and_then(|it| self.resume_candidate(&configured, it));
                    return Ok(Current { configured, state, active: prepared.generation, candidate, recorder: None });
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

    /// The component that a configuration names, and the signature beside it.
    fn read_configured(&self, configured: &TenantPolicy) -> Result<Named, NotActivated> {
        if configured.policy == NAME {
            let digest = standard_digest().to_owned();
            let (bytes, identity) = (Cow::Borrowed(restante_policy::standard::COMPONENT), standard::identity(&digest));
            return Ok(Named { bytes, digest, identity, signature: None });
        }
        let path = Path::new(&configured.policy);
        let unreadable =
            |error: io::Error| NotActivated::at(Step::Component, format!("cannot read {}: {error}", path.display()));
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        if length > self.parts.max_component_bytes as u64 {
            let text =
                format!("{}: {length} bytes; at most {} are allowed", path.display(), self.parts.max_component_bytes);
            return Err(NotActivated::at(Step::Component, text));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let signature = match std::fs::read(signature_beside(path)) {
            Ok(signature) => Some(
                signature_from_file(&signature)
                    .map_err(|text| NotActivated::at(Step::Signature, format!("{}.sig: {text}", path.display())))?,
            ),
            Err(_) => None,
        };
        let digest = library::digest_of(&bytes);
        Ok(Named { identity: digest.clone(), digest, bytes: Cow::Owned(bytes), signature })
    }
}

impl Ready {
    /// Whether the tenant's policy is not what this was made from any more. Its turn is the caller's.
    fn is_overtaken(&self) -> bool {
        let (Some(managed), Some(base)) = (&self.managed, &self.base) else { return false };
        managed.current().state != *base
    }
}

/// Where the signature of a component lies that a configuration names.
pub(super) fn signature_beside(component: &Path) -> PathBuf {
    let mut beside = component.as_os_str().to_owned();
    beside.push(".sig");
    beside.into()
}

/// Whether the configuration still names what it named when it was last activated. A file that cannot be read now is no
/// change.
fn names_the_same(state: &TenantState, named: &Result<Named, NotActivated>, configured: &TenantPolicy) -> bool {
    match (named, &state.configured) {
        (Ok(named), Some((identity, settings))) => {
            let is_it = if configured.policy == NAME {
                standard::stays(state, identity, &named.digest)
            } else {
                named.identity == *identity
            };
            *settings == configured.settings && is_it && !is_signed_anew(&state.active, named, configured)
        }
        (Err(_), Some((_, settings))) => *settings == configured.settings,
        (_, None) => false,
    }
}

/// Whether what decides is what the configuration names, and another signature lies beside it now, where there has to
/// be one: a generation is kept with the one that it was activated with.
fn is_signed_anew(active: &Kept, named: &Named, configured: &TenantPolicy) -> bool {
    configured.signers != Signers::default()
        && active.origin == Origin::Configuration
        && active.digest == named.digest
        && active.settings == configured.settings
        && named.signature.is_some()
        && named.signature != active.signature
}

/// What a configuration names.
struct Named {
    bytes: Cow<'static, [u8]>,
    digest: String,
    /// What a state says of it: the digest, or that it is the policy in this program and which.
    identity: String,
    signature: Option<String>,
}

/// That of the policy in this program.
fn standard_digest() -> &'static str {
    static DIGEST: LazyLock<String> = LazyLock::new(|| library::digest_of(restante_policy::standard::COMPONENT));
    &DIGEST
}
