//! From a component's bytes and a tenant's settings to a generation that can be asked.

use std::collections::HashMap;
use std::fmt;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use restante_deferral::decision::HostAbilities;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use wasmtime::component::Component;

use crate::cache::CompiledCache;
use crate::compile::{ChildCompiler, deserialize};
use crate::contract;
use crate::description::{Description, DescriptionError};
use crate::engine::PolicyEngine;
use crate::generation::{CompiledPolicy, Digest, Generation, check_settings};
use crate::limits::PolicyLimits;

/// The first bytes of WebAssembly, and what follows them in a component and in a core module.
const MAGIC: &[u8; 4] = b"\0asm";
const COMPONENT_LAYER: [u8; 4] = [0x0d, 0, 1, 0];
const MODULE_LAYER: [u8; 4] = [1, 0, 0, 0];

/// Why a policy cannot be used.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file is larger than a policy may be.
    #[error("the component has {size_bytes} bytes; at most {max_bytes} are allowed")]
    TooLarge {
        /// Its size.
        size_bytes: usize,
        /// [`PolicyLimits::max_component_bytes`](crate::PolicyLimits).
        max_bytes: usize,
    },
    /// The bytes are no WebAssembly.
    #[error("this is not WebAssembly: expected a component, which begins with \\0asm")]
    NotWebAssembly,
    /// A module that was not made a component.
    #[error("this is a core module; expected a component (`wasm-tools component new` makes one of it)")]
    CoreModule,
    /// It is broken, or uses what this engine does not offer, or begins with more than a policy may have.
    #[error("the component cannot be compiled: {0}")]
    Invalid(String),
    /// Compiling it takes too much time or memory.
    #[error("the component was not compiled: {0}")]
    CompilerStopped(String),
    /// It imports something that no policy gets.
    #[error("the component imports `{0}`; a policy may import nothing but restante:policy/log@0.1.0")]
    UnknownImport(String),
    /// It was built for another version of the contract.
    #[error("the component was built for `{0}`; this host speaks restante:policy@0.1.0")]
    OtherVersion(String),
    /// It is no policy, or not all of one.
    #[error("the component does not export {}; expected the world restante:policy/policy@0.1.0", .0.join(", "))]
    MissingExports(Vec<&'static str>),
    /// Something has the right name and another type.
    #[error("the component is not of the world restante:policy/policy@0.1.0: {0}")]
    OtherWorld(String),
    /// What the policy says of itself cannot be used.
    #[error("the policy's description of itself cannot be used: {0}")]
    Description(#[from] DescriptionError),
    /// The settings are longer than they may be.
    #[error("the settings have {size_bytes} bytes; at most {max_bytes} are allowed")]
    SettingsTooLarge {
        /// Their size, or that of what the policy made of them.
        size_bytes: usize,
        /// [`PolicyLimits::max_settings_bytes`](crate::PolicyLimits).
        max_bytes: usize,
    },
    /// The policy refused the settings.
    #[error("the policy refuses its settings: {}", Problems(.0))]
    Settings(Vec<Problem>),
    /// `check-settings` came to no end.
    #[error("the policy failed while it checked its settings: {0}")]
    CheckFailed(String),
}

/// How bad a problem with settings is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// They cannot be used.
    Error,
    /// They can, but probably do not mean what was meant.
    Warning,
}

/// Something about a tenant's settings, as the policy sees it. The texts are bounded and harmless to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// JSON pointer (RFC 6901) to the value, empty for the whole.
    pub pointer: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and what was expected.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "settings" } else { self.pointer.as_str() };
        write!(formatter, "{place}: {}", self.text)
    }
}

/// Problems in one line.
struct Problems<'a>(&'a [Problem]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_char(';')?;
                formatter.write_char(' ')?;
            }
            problem.fmt(formatter)?;
        }
        Ok(())
    }
}

/// A policy that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// It, with its settings.
    pub generation: Arc<Generation>,
    /// What it found odd about them.
    pub warnings: Vec<Problem>,
}

/// A component that was compiled and linked, without a tenant's settings.
#[derive(Clone)]
pub struct Compiled(Arc<CompiledPolicy>);

impl Compiled {
    /// What the policy says of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.0.description
    }
}

/// Loads policies. Compiling takes some hundred milliseconds of a core: call it from a thread that serves nobody.
pub struct Loader {
    engine: PolicyEngine,
    cache: Option<CompiledCache>,
    compiler: Option<ChildCompiler>,
    compiling: Mutex<()>,
    /// What is in use: tenants with the same component share its code.
    compiled: Mutex<HashMap<Digest, Weak<CompiledPolicy>>>,
}

impl Loader {
    /// A loader; without a cache every start compiles.
    ///
    /// # Errors
    /// [`LoadError::OtherWorld`] when this program's own half of a contract is broken.
    pub fn new(engine: PolicyEngine, cache: Option<CompiledCache>) -> Result<Loader, LoadError> {
        contract::check(engine.engine()).map_err(|error| LoadError::OtherWorld(format!("{error:#}")))?;
        Ok(Loader { engine, cache, compiler: None, compiling: Mutex::default(), compiled: Mutex::new(HashMap::new()) })
    }

    /// Compiles in a process of its own from now on. Without it compiling is done where a policy is loaded, without bounds.
    #[must_use]
    pub fn compiling_in(mut self, compiler: ChildCompiler) -> Loader {
        self.compiler = Some(compiler);
        self
    }

    /// Loads a component and has it check a tenant's settings.
    ///
    /// # Errors
    /// [`LoadError`] says what is wrong and what was expected. Nothing is in use then.
    pub fn load(&self, component: &[u8], settings_json: &str, host: &HostAbilities) -> Result<Loaded, LoadError> {
        self.settle(&self.compile(component)?, settings_json, host)
    }

    /// The compiled form of a component, for [`Loader::settle`]. Tenants with the same component share it.
    ///
    /// # Errors
    /// [`LoadError`], none that is about settings.
    pub fn compile(&self, component: &[u8]) -> Result<Compiled, LoadError> {
        self.compiled(component).map(Compiled)
    }

    /// The compiled form of a component with this SHA-256, in hexadecimal, if it is in use or in the cache: nothing is read
    /// but that, and nothing compiled.
    #[must_use]
    pub fn known(&self, digest: &str) -> Option<Compiled> {
        let digest = Digest::parse(digest)?;
        let in_use = self.compiled.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).and_then(Weak::upgrade);
        if let Some(policy) = in_use {
            return Some(Compiled(policy));
        }
        let component = self.cache.as_ref()?.component(self.engine.engine(), &digest)?;
        let policy = Arc::new(self.link(&component, digest).ok()?);
        Some(Compiled(self.remember(policy)))
    }

    /// Has a compiled policy check a tenant's settings.
    ///
    /// # Errors
    /// [`LoadError`], one that is about settings.
    pub fn settle(&self, policy: &Compiled, settings_json: &str, host: &HostAbilities) -> Result<Loaded, LoadError> {
        let policy = Arc::clone(&policy.0);
        let (settings, warnings) = check_settings(&policy, settings_json, host)?;
        Ok(Loaded { generation: Arc::new(Generation::new(policy, settings, host.clone())), warnings })
    }

    /// The bounds of its engine.
    #[must_use]
    pub fn limits(&self) -> &PolicyLimits {
        self.engine.limits()
    }

    /// What the cache did so far.
    #[must_use]
    pub fn cache(&self) -> Option<&CompiledCache> {
        self.cache.as_ref()
    }

    fn compiled(&self, bytes: &[u8]) -> Result<Arc<CompiledPolicy>, LoadError> {
        let max_bytes = self.engine.limits().max_component_bytes;
        if bytes.len() > max_bytes {
            return Err(LoadError::TooLarge { size_bytes: bytes.len(), max_bytes });
        }
        check_preamble(bytes)?;
        let digest = Digest(Sha256::digest(bytes).into());
        let in_use = self.compiled.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).and_then(Weak::upgrade);
        if let Some(policy) = in_use {
            return Ok(policy);
        }
        let component = self.component(bytes, &digest)?;
        Ok(self.remember(Arc::new(self.link(&component, digest)?)))
    }

    /// It is in use from now on, unless somebody else loaded it meanwhile: it is wanted once.
    fn remember(&self, policy: Arc<CompiledPolicy>) -> Arc<CompiledPolicy> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(policy) = compiled.get(&policy.digest).and_then(Weak::upgrade) {
            return policy;
        }
        // Looking at all of them with each new one would make a start with many slow.
        if compiled.len() >= compiled.capacity() {
            compiled.retain(|_, policy| policy.strong_count() > 0);
        }
        compiled.insert(policy.digest, Arc::downgrade(&policy));
        policy
    }

    /// From the cache, or compiled and put there.
    fn component(&self, bytes: &[u8], digest: &Digest) -> Result<Component, LoadError> {
        let engine = self.engine.engine();
        if let Some(component) = self.cache.as_ref().and_then(|cache| cache.component(engine, digest)) {
            return Ok(component);
        }
        let invalid = |error: wasmtime::Error| LoadError::Invalid(format!("{error:#}"));
        let Some(compiler) = &self.compiler else {
            let component = Component::from_binary(engine, bytes).map_err(invalid)?;
            if let Some(cache) = &self.cache {
                cache.keep(engine, digest, &component);
            }
            return Ok(component);
        };
        // One at a time: each may take all that a compiler may have.
        let turn = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        let code = compiler.compile(bytes, &self.engine)?;
        drop(turn);
        // Before it is kept: what cannot be used is not to be found again.
        let copied = deserialize(engine, &code).map_err(invalid)?;
        let mapped = self.cache.as_ref().and_then(|cache| {
            cache.keep_code(engine, digest, &code);
            cache.component(engine, digest)
        });
        Ok(mapped.unwrap_or(copied))
    }

    fn link(&self, component: &Component, digest: Digest) -> Result<CompiledPolicy, LoadError> {
        let contract = contract::of(&component.component_type(), self.engine.engine())?;
        let other_world = |error: wasmtime::Error| LoadError::OtherWorld(format!("{error:#}"));
        let policy = contract.link(self.engine.engine(), component).map_err(other_world)?;
        let description = Description::ask(policy.as_ref(), &self.engine)?;
        let contract = contract.version();
        Ok(CompiledPolicy { policy, contract, digest, description, engine: self.engine.clone() })
    }
}

fn check_preamble(bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.get(..4) != Some(MAGIC.as_slice()) {
        return Err(LoadError::NotWebAssembly);
    }
    match bytes.get(4..8) {
        Some(layer) if layer == COMPONENT_LAYER => Ok(()),
        Some(layer) if layer == MODULE_LAYER => Err(LoadError::CoreModule),
        _ => Err(LoadError::Invalid("unknown version of WebAssembly".to_owned())),
    }
}
