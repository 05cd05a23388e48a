//! All that is done before a generation is kept.

use std::borrow::Cow;
use std::sync::Arc;

use restante_policy::record::{Case, CaseRunner, read_cases};
use restante_policy::{Compiled, Generation, Problem};
use serde_json::Value;

use super::activation::{NotActivated, Step};
use super::library::{Kept, Origin};
use super::{Current, Policies, Proposal, TenantPolicy};
use crate::signatures::Signers;

/// A generation that passed all steps before it is kept.
pub(super) struct Prepared {
    pub(super) generation: Arc<Generation>,
    /// Empty where the component is kept already.
    pub(super) bytes: Cow<'static, [u8]>,
    pub(super) kept: Kept,
    pub(super) warnings: Vec<Problem>,
}

impl Policies {
    /// A generation that was kept, made ready without being judged anew, but for who has to sign. Where its compiled
    /// form is known, its component is not even read.
    pub(super) fn restore(&self, configured: &TenantPolicy, kept: &Kept) -> Result<Prepared, NotActivated> {
        let needs_signature = configured.signers != Signers::default();
        let known = if needs_signature { None } else { self.parts.loader.known(&kept.digest) };
        let compiled = match known {
            Some(compiled) => compiled,
            None => {
                let bytes = self.component_of(&kept.digest)?;
                check_signature(configured, &bytes, kept.signature.as_deref())?;
                self.parts.loader.compile(&bytes)?
            }
        };
        let (generation, warnings) = self.settle(&compiled, &kept.settings, configured)?;
        let kept = Kept { since: self.now(), ..kept.clone() };
        Ok(Prepared { generation, bytes: Cow::Borrowed(&[]), kept, warnings })
    }

    pub(super) fn prepare_proposal(&self, current: &Current, proposal: Proposal) -> Result<Prepared, NotActivated> {
        let Proposal { digest, settings, signature } = proposal;
        let bytes = self.component_of(&digest)?;
        let settings = settings.unwrap_or_else(|| current.configured.settings.clone());
        let number = current.state.next_number();
        self.prepare(&current.configured, Cow::Owned(bytes), settings, signature, Origin::Upload, number)
    }

    pub(super) fn prepare_kept(&self, current: &Current, kept: &Kept) -> Result<Prepared, NotActivated> {
        let bytes = self.component_of(&kept.digest)?;
        let (settings, signature) = (kept.settings.clone(), kept.signature.clone());
        self.prepare(&current.configured, Cow::Owned(bytes), settings, signature, kept.origin, kept.number)
    }

    /// All steps before anything is kept.
    pub(super) fn prepare(
        &self,
        configured: &TenantPolicy,
        bytes: Cow<'static, [u8]>,
        settings: Value,
        signature: Option<String>,
        origin: Origin,
        number: u64,
    ) -> Result<Prepared, NotActivated> {
        let passed = |step| (self.parts.watcher)(step);
        passed(Step::Component);
        check_signature(configured, &bytes, signature.as_deref())?;
        passed(Step::Signature);
        let compiled = self.parts.loader.compile(&bytes)?;
        passed(Step::Compile);
        passed(Step::World);
        let (generation, warnings) = self.settle(&compiled, &settings, configured)?;
        passed(Step::CheckSettings);
        self.pass_cases(configured, &bytes, &settings)?;
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

    pub(super) fn settle(
        &self,
        compiled: &Compiled,
        settings: &Value,
        configured: &TenantPolicy,
    ) -> Result<(Arc<Generation>, Vec<Problem>), NotActivated> {
        let loaded = self.parts.loader.settle(compiled, &settings.to_string(), &configured.abilities)?;
        Ok((loaded.generation, loaded.warnings))
    }

    /// The tenant's cases are decided as they expect.
    pub(super) fn pass_cases(
        &self,
        configured: &TenantPolicy,
        component: &[u8],
        settings: &Value,
    ) -> Result<(), NotActivated> {
        let refused = |text: String| NotActivated::at(Step::Cases, text);
        let cases = self.parts.library.cases(&configured.name.0).map_err(|error| refused(error.to_string()))?;
        let Some(cases) = cases else { return Ok(()) };
        let cases = parse_cases(&cases).map_err(refused)?;
        let host = configured.abilities.clone();
        let mut runner = CaseRunner::new(&self.parts.meter, component, settings.clone(), host);
        let failed: Vec<_> =
            cases.iter().map(|case| runner.run(case)).filter_map(|it| it.failure.map(|why| (it.name, why))).collect();
        match failed.first() {
            None => Ok(()),
            Some((name, why)) => {
                Err(refused(format!("{} of {} failed; the first, {name:?}: {why}", failed.len(), cases.len())))
            }
        }
    }

    pub(super) fn component_of(&self, digest: &str) -> Result<Vec<u8>, NotActivated> {
        self.parts.library.component(digest).map_err(|error| NotActivated::at(Step::Component, error.to_string()))
    }
}

/// Reads a tenant's cases.
///
/// # Errors
/// What is wrong, and in which line.
pub(super) fn parse_cases(text: &[u8]) -> Result<Vec<Case>, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("the cases are not UTF-8: {error}"))?;
    read_cases(text).map_err(|error| error.to_string())
}

/// The policy in this program needs no other signature than the program's.
fn check_signature(configured: &TenantPolicy, bytes: &[u8], signature: Option<&str>) -> Result<(), NotActivated> {
    if bytes == restante_policy::standard::COMPONENT {
        return Ok(());
    }
    configured.signers.check(bytes, signature).map_err(|text| NotActivated::at(Step::Signature, text))
}
