//! A compiled policy together with one tenant's settings.

use std::fmt;
use std::sync::Arc;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use restante_deferral::decision::HostAbilities;
use wasmtime::Store;

use crate::contract::{Checked, Linked};
use crate::decide::{Guest, failure_text};
use crate::description::Description;
use crate::engine::PolicyEngine;
use crate::load::{LoadError, Problem};
use crate::log::harmless;

/// More problems than this are not shown.
const MAX_PROBLEMS: usize = 100;
/// The longest pointer or text of a problem.
const MAX_PROBLEM_BYTES: usize = 500;

/// The SHA-256 of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub(crate) [u8; 32]);

impl Digest {
    /// From hexadecimal.
    pub(crate) fn parse(text: &str) -> Option<Digest> {
        HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok().map(Digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// A component, compiled and linked: what tenants with the same policy share.
pub(crate) struct CompiledPolicy {
    pub(crate) policy: Box<dyn Linked>,
    pub(crate) contract: &'static str,
    pub(crate) digest: Digest,
    pub(crate) description: Description,
    pub(crate) engine: PolicyEngine,
}

/// A policy with its settings: what decides for a tenant from one change to the next.
pub struct Generation {
    policy: Arc<CompiledPolicy>,
    settings: Vec<u8>,
    host: HostAbilities,
}

impl Generation {
    pub(crate) fn new(policy: Arc<CompiledPolicy>, settings: Vec<u8>, host: HostAbilities) -> Self {
        Generation { policy, settings, host }
    }

    /// The SHA-256 of the component, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        self.policy.digest.to_string()
    }

    /// The version of the contract that it speaks.
    #[must_use]
    pub fn contract(&self) -> &'static str {
        self.policy.contract
    }

    /// What the policy says of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.policy.description
    }

    pub(crate) fn policy(&self) -> &CompiledPolicy {
        &self.policy
    }

    pub(crate) fn settings(&self) -> &[u8] {
        &self.settings
    }

    pub(crate) fn host(&self) -> &HostAbilities {
        &self.host
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Generation").field("digest", &self.digest()).finish_non_exhaustive()
    }
}

/// Asks a policy about settings: what it made of them, and its warnings.
pub(crate) fn check_settings(
    policy: &CompiledPolicy,
    settings: &str,
    host: &HostAbilities,
) -> Result<(Vec<u8>, Vec<Problem>), LoadError> {
    let limits = policy.engine.limits();
    let max_bytes = limits.max_settings_bytes;
    let check_size = |size_bytes| {
        if size_bytes > max_bytes { Err(LoadError::SettingsTooLarge { size_bytes, max_bytes }) } else { Ok(()) }
    };
    check_size(settings.len())?;
    let failed = |error: &wasmtime::Error| LoadError::CheckFailed(failure_text(error));
    let _turn = policy.engine.turn();
    let mut store = Store::new(policy.engine.engine(), Guest::silent(limits));
    store.limiter(|guest| guest);
    policy.engine.grant(&mut store, limits.check_deadline);
    store.set_hostcall_fuel(limits.answer_bytes.saturating_add(max_bytes.saturating_mul(2)));
    match policy.policy.check_settings(&mut store, settings, host).map_err(|error| failed(&error))? {
        Ok(Checked { normalised, problems: warnings }) => {
            check_size(normalised.len())?;
            Ok((normalised, problems(warnings)))
        }
        Err(refused) => Err(LoadError::Settings(problems(refused))),
    }
}

/// Bounded, and harmless to show.
fn problems(problems: Vec<Problem>) -> Vec<Problem> {
    let problem = |problem: Problem| Problem {
        pointer: harmless(&problem.pointer, MAX_PROBLEM_BYTES),
        text: harmless(&problem.text, MAX_PROBLEM_BYTES),
        ..problem
    };
    problems.into_iter().take(MAX_PROBLEMS).map(problem).collect()
}
