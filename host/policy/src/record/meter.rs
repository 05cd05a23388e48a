//! Deciding by a count of instructions.

use std::collections::VecDeque;
use std::sync::Arc;

use restante_deferral::decision::{Answer, HostAbilities, Question, Undecided};
use serde_json::Value;

use super::json::settings_digest;
use crate::cache::CompiledCache;
use crate::compile::ChildCompiler;
use crate::decide::{GuestLine, ask_and_measure};
use crate::description::Description;
use crate::engine::{EngineError, PolicyEngine};
use crate::generation::Generation;
use crate::limits::PolicyLimits;
use crate::load::{LoadError, Loader, Problem};

/// A second engine that counts a guest's instructions and stops it by that count, so that a decision and its cost are the
/// same on every machine and under every load. It is slower than the one that serves: for recording, replaying and
/// measuring.
pub struct Meter {
    loader: Loader,
}

/// A policy with its settings, for a meter.
#[derive(Clone, Debug)]
pub struct MeteredPolicy {
    generation: Arc<Generation>,
    settings: Value,
    host: HostAbilities,
    warnings: Vec<Problem>,
}

/// A decision, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The answer. A policy that used up its instructions, which are those of its deadline and some more, timed out.
    pub outcome: Result<Answer, Undecided>,
    /// Why there is no answer, harmless to show.
    pub why: Option<String>,
    /// Instructions, those of reading the question and writing the answer included.
    pub cost: u64,
    /// The most memory that the guest had.
    pub memory_bytes: u64,
    /// Lines that it logged.
    pub lines: Vec<GuestLine>,
}

impl Meter {
    /// A meter. It can have the cache of the engine that serves: their entries have different names.
    ///
    /// # Errors
    /// When the engine cannot be set up.
    pub fn new(limits: PolicyLimits, cache: Option<CompiledCache>) -> Result<Meter, EngineError> {
        let engine = PolicyEngine::metering(limits)?;
        let loader = Loader::new(engine, cache).map_err(|error| EngineError::Configuration(error.to_string()))?;
        Ok(Meter { loader })
    }

    /// Compiles in a process of its own from now on, see [`Loader::compiling_in`].
    #[must_use]
    pub fn compiling_in(mut self, compiler: ChildCompiler) -> Meter {
        self.loader = self.loader.compiling_in(compiler);
        self
    }

    /// Loads a component and has it check settings.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub fn load(&self, component: &[u8], settings: &Value, host: &HostAbilities) -> Result<MeteredPolicy, LoadError> {
        let loaded = self.loader.load(component, &settings.to_string(), host)?;
        Ok(MeteredPolicy {
            generation: loaded.generation,
            settings: settings.clone(),
            host: host.clone(),
            warnings: loaded.warnings,
        })
    }
}

/// One component with the settings and hosts that records and cases have: few different ones, one after the other.
pub(super) struct Shelf<'a> {
    meter: &'a Meter,
    component: &'a [u8],
    policies: VecDeque<Shelved>,
}

struct Shelved {
    settings_digest: String,
    host: HostAbilities,
    policy: Result<MeteredPolicy, LoadError>,
}

impl<'a> Shelf<'a> {
    const MAX_POLICIES: usize = 16;

    pub(super) fn new(meter: &'a Meter, component: &'a [u8]) -> Shelf<'a> {
        Shelf { meter, component, policies: VecDeque::new() }
    }

    /// The component with these settings, loaded or as it was loaded before.
    pub(super) fn policy(&mut self, settings: &Value, host: &HostAbilities) -> &Result<MeteredPolicy, LoadError> {
        let settings_digest = settings_digest(settings);
        let is_it = |known: &Shelved| known.settings_digest == settings_digest && known.host == *host;
        let known = self.policies.iter().position(is_it).and_then(|at| self.policies.remove(at));
        let shelved = known.unwrap_or_else(|| {
            let policy = self.meter.load(self.component, settings, host);
            Shelved { settings_digest, host: host.clone(), policy }
        });
        self.policies.truncate(Shelf::MAX_POLICIES.saturating_sub(1));
        self.policies.push_front(shelved);
        &self.policies[0].policy
    }
}

impl MeteredPolicy {
    /// Puts a question to the policy, on this thread.
    #[must_use]
    pub fn decide(&self, question: Question) -> Measured {
        let called = ask_and_measure(&self.generation, question);
        Measured {
            outcome: called.outcome,
            why: called.why,
            cost: called.instructions,
            memory_bytes: called.memory_bytes as u64,
            lines: called.lines,
        }
    }

    /// The SHA-256 of the component, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        self.generation.digest()
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &Value {
        &self.settings
    }

    /// What it was told of its host.
    #[must_use]
    pub fn host(&self) -> &HostAbilities {
        &self.host
    }

    /// What it says of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        self.generation.description()
    }

    /// What it found odd about its settings.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }
}
