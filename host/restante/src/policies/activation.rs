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

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use restante_policy::{LoadError, Problem};
use ring::signature::{ED25519, UnparsedPublicKey};
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

/// Who may sign a tenant's policies: ed25519 public keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signers(Vec<[u8; 32]>);

impl Signers {
    /// From base64, as the configuration writes them.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(keys: &[String]) -> Result<Signers, String> {
        let parse = |key: &String| {
            let bytes = STANDARD.decode(key.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            bytes.ok_or_else(|| format!("{key:?} is not an ed25519 public key: expected 32 bytes in base64"))
        };
        keys.iter().map(parse).collect::<Result<_, _>>().map(Signers)
    }

    /// Checks a component's signature; every component will do where nobody has to sign.
    ///
    /// # Errors
    /// [`Step::Signature`]
    pub fn check(&self, component: &[u8], signature: Option<&str>) -> Result<(), NotActivated> {
        if self.0.is_empty() {
            return Ok(());
        }
        let refused = |text: &str| NotActivated::at(Step::Signature, text);
        let signature = signature.ok_or_else(|| {
            refused("this tenant accepts signed policies only: expected a detached ed25519 signature of the component")
        })?;
        let signature = STANDARD.decode(signature).map_err(|_| refused("the signature is not base64"))?;
        let by = |key: &[u8; 32]| UnparsedPublicKey::new(&ED25519, key).verify(component, &signature).is_ok();
        if self.0.iter().any(by) { Ok(()) } else { Err(refused("none of the tenant's signers made this signature")) }
    }
}

/// A signature as files have it, 64 bytes or their base64, in base64.
///
/// # Errors
/// What was expected.
pub fn signature_from_file(bytes: &[u8]) -> Result<String, String> {
    if bytes.len() == 64 {
        return Ok(STANDARD.encode(bytes));
    }
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
    match STANDARD.decode(text) {
        Ok(decoded) if decoded.len() == 64 => Ok(text.to_owned()),
        _ => Err("expected an ed25519 signature: 64 bytes, or their base64".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    #[test]
    fn a_signature_is_checked_where_somebody_has_to_sign() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
        let signers = Signers::parse(&[STANDARD.encode(pair.public_key())]).unwrap();
        let by = |pair: &Ed25519KeyPair| signature_from_file(pair.sign(b"component").as_ref()).unwrap();
        assert!(signers.check(b"component", Some(&by(&pair))).is_ok());
        for (component, signature) in [
            (b"component", Some(by(&other))),
            (b"c0mponent", Some(by(&pair))),
            (b"component", Some("!".to_owned())),
            (b"component", None),
        ] {
            let refused = signers.check(component, signature.as_deref()).unwrap_err();
            assert_eq!(refused.step, Step::Signature);
        }
        assert!(Signers::default().check(b"component", None).is_ok());
    }

    #[test]
    fn keys_and_signatures_are_read_as_they_are_written() {
        assert!(Signers::parse(&["AAAA".to_owned()]).unwrap_err().contains("32 bytes"));
        let text = STANDARD.encode([1; 64]);
        assert_eq!(signature_from_file(&[1; 64]).unwrap(), text);
        assert_eq!(signature_from_file(format!("{text}\n").as_bytes()).unwrap(), text);
        assert!(signature_from_file(b"short").is_err());
    }

    #[test]
    fn steps_come_in_the_order_of_their_table() {
        assert!(Step::ALL.is_sorted());
    }
}
