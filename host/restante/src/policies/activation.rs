//! From bytes to a generation that may decide: the steps, in order, and what says no at each.
//!
//! | step | does | refuses |
//! |---|---|---|
//! | `component` | finds the bytes | a file that cannot be read, an unknown digest, too many bytes |
//! | `signature` | checks a detached ed25519 signature, where the tenant's configuration names signers | none, or one of nobody's |
//! | `compile` | compiles, in a process of its own, or takes the host's own compiled form | what is broken, too slow or too large |
//! | `world` | checks imports, exports and the contract's version | what is not of the world, by name |
//! | `check-settings` | has the policy check the tenant's settings | problems by JSON pointer |
//! | `cases` | decides the tenant's cases | cases with another answer |
//! | `write` | writes the component to disk | the operating system |
//! | `keep` | writes the tenant's state, which names it: from here on a restart finds the new generation | the operating system |
//! | `switch` | puts it in the place of the old one, at once for all decisions that begin after | – |
//!
//! Whatever fails, the old generation lives on, in memory and on disk.

use std::fmt;

use restante_policy::{LoadError, Problem};
use serde::Serialize;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The bytes are found.
    Component,
    /// Their signature is checked.
    Signature,
    /// They are compiled.
    Compile,
    /// Their world is checked.
    World,
    /// The settings are checked.
    CheckSettings,
    /// The tenant's cases are decided.
    Cases,
    /// The component is written to disk.
    Write,
    /// The tenant's state names it.
    Keep,
    /// The generation decides.
    Switch,
}

impl Step {
    /// All, in order.
    pub const ALL: [Step; 9] = [
        Step::Component,
        Step::Signature,
        Step::Compile,
        Step::World,
        Step::CheckSettings,
        Step::Cases,
        Step::Write,
        Step::Keep,
        Step::Switch,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Step::Component => "component",
            Step::Signature => "signature",
            Step::Compile => "compile",
            Step::World => "world",
            Step::CheckSettings => "check-settings",
            Step::Cases => "cases",
            Step::Write => "write",
            Step::Keep => "keep",
            Step::Switch => "switch",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Told of each step that was passed. Nothing in a server; a test ends the process there.
pub type Watcher = std::sync::Arc<dyn Fn(Step) + Send + Sync>;

/// Why an activation ended; the old generation lives on.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {text}")]
pub struct NotActivated {
    /// At which step.
    pub step: Step,
    /// What is wrong and what was expected.
    pub text: String,
    /// What the policy found wrong with the settings.
    pub problems: Vec<Problem>,
}

impl NotActivated {
    /// At this step.
    pub fn at(step: Step, text: impl Into<String>) -> NotActivated {
        NotActivated { step, text: text.into(), problems: Vec::new() }
    }
}

impl From<LoadError> for NotActivated {
    fn from(error: LoadError) -> NotActivated {
        let step = match &error {
            LoadError::TooLarge { .. } => Step::Component,
            LoadError::NotWebAssembly
            | LoadError::CoreModule
            | LoadError::Invalid(_)
            | LoadError::CompilerStopped(_) => Step::Compile,
            LoadError::UnknownImport(_)
            | LoadError::OtherVersion(_)
            | LoadError::MissingExports(_)
            | LoadError::OtherWorld(_)
            | LoadError::Description(_) => Step::World,
            LoadError::SettingsTooLarge { .. } | LoadError::Settings(_) | LoadError::CheckFailed(_) => {
                Step::CheckSettings
            }
        };
        let text = error.to_string();
        let problems = if let LoadError::Settings(problems) = error { problems } else { Vec::new() };
        NotActivated { step, text, problems }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_in_the_order_of_their_table() {
        assert!(Step::ALL.is_sorted());
    }
}
