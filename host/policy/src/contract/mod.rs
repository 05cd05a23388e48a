//! The versions of the contract that this host serves.
//!
//! A policy is built against one version of the WIT package. Each version has a folder here with its bindings and the
//! conversions between its types and the deferral machine's; what decides knows them only as [`Contract`] and [`Linked`].
//! A version that was released stays as it is, under `wit/released`, and is served beside the newer ones.
//!
//! To serve another version: freeze the released package, put the next one beside it, add a folder here, and name it in
//! [`served`]. The tests of this module do that with a version that exists only for them.

#[cfg(test)]
mod next;
pub(crate) mod v0_1;

use restante_deferral::decision::{Answer, HostAbilities, Question};
use wasmtime::component::{Component, Linker, types};
use wasmtime::{Engine, Store};

use crate::decide::Guest;
use crate::generation::Generation;
use crate::load::{LoadError, Problem};
use crate::log::harmless;

/// The package of the contract, whatever its version.
pub(crate) const PACKAGE: &str = "restante:policy/";

/// One version.
pub(crate) trait Contract: Send + Sync {
    /// Its number, as in the package's name.
    fn version(&self) -> &'static str;

    /// What a policy may import.
    fn imports(&self) -> &'static [&'static str];

    /// What it must export.
    fn exports(&self) -> &'static [&'static str];

    /// What a policy may call.
    fn linker(&self, engine: &Engine) -> wasmtime::Result<Linker<Guest>>;

    /// Ties a component of this world to its imports.
    fn link(&self, engine: &Engine, component: &Component) -> wasmtime::Result<Box<dyn Linked>>;
}

/// What a policy makes of settings, before anybody looked at it.
pub(crate) struct Checked {
    /// The form that it reads.
    pub(crate) normalised: Vec<u8>,
    /// Warnings.
    pub(crate) problems: Vec<Problem>,
}

/// What a policy says of itself, before anybody looked at it.
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) settings_schema: Option<String>,
}

/// A component of one version of the contract. Every call is in an instance of its own, which is made in the store that is
/// given.
pub(crate) trait Linked: Send + Sync {
    /// What it says of itself.
    fn describe(&self, store: &mut Store<Guest>) -> wasmtime::Result<Described>;

    /// What it makes of settings.
    fn check_settings(
        &self,
        store: &mut Store<Guest>,
        settings: &str,
        host: &HostAbilities,
    ) -> wasmtime::Result<Result<Checked, Vec<Problem>>>;

    /// Its answer, or why it gives none.
    fn decide(
        &self,
        store: &mut Store<Guest>,
        generation: &Generation,
        question: Question,
    ) -> wasmtime::Result<Result<Answer, String>>;
}

/// All versions that are served, the newest first.
fn served() -> Vec<Box<dyn Contract>> {
    vec![
        #[cfg(test)]
        Box::new(next::Next),
        Box::new(v0_1::V0_1),
    ]
}

/// Whether this host's half of every version is whole.
///
/// # Errors
/// The engine's.
pub(crate) fn check(engine: &Engine) -> wasmtime::Result<()> {
    served().iter().try_for_each(|contract| contract.linker(engine).map(drop))
}

/// The newest version that this component is of.
///
/// # Errors
/// What is too much or missing, by name, against the version that it comes closest to.
pub(crate) fn of(component: &types::Component, engine: &Engine) -> Result<Box<dyn Contract>, LoadError> {
    let imports: Vec<&str> = component.imports(engine).map(|(name, _)| name).collect();
    let exports: Vec<&str> = component.exports(engine).map(|(name, _)| name).collect();
    let mut refusal = None;
    for contract in served() {
        match fits(contract.as_ref(), &imports, &exports) {
            Ok(()) => return Ok(contract),
            // The oldest version has the last word: newer ones only ask for more.
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or_else(|| LoadError::OtherWorld("no version of the contract is served".to_owned())))
}

fn fits(contract: &dyn Contract, imports: &[&str], exports: &[&str]) -> Result<(), LoadError> {
    for name in imports {
        if !contract.imports().contains(name) {
            let is_ours = name.starts_with(PACKAGE)
                && contract.imports().iter().any(|import| import.split('@').next() == name.split('@').next());
            let name = harmless(name, 200);
            return Err(if is_ours { LoadError::OtherVersion(name) } else { LoadError::UnknownImport(name) });
        }
    }
    let missing: Vec<_> = contract.exports().iter().copied().filter(|name| !exports.contains(name)).collect();
    if missing.is_empty() { Ok(()) } else { Err(LoadError::MissingExports(missing)) }
}
