//! What the commands work on: a policy's file, its settings, and the engines to try it with.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use restante_deferral::decision::HostAbilities;
use restante_policy::record::{Meter, MeteredPolicy};
use restante_policy::{Generation, Loader, PolicyEngine, PolicyLimits};
use serde_json::Value;

use super::wasm;

/// Larger files are not read: a component may have 10 MiB, and debug information goes when it is made.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A policy that was read.
pub struct Subject {
    /// What it was called.
    pub name: String,
    /// The component.
    pub component: Vec<u8>,
    /// The file was a core module, and the component was made here.
    pub was_module: bool,
}

impl Subject {
    /// Reads a component, or makes one of a core module.
    ///
    /// # Errors
    /// The file cannot be read, is no WebAssembly, or is a core module of something else.
    pub fn read(path: &Path) -> Result<Subject> {
        let name = path.display().to_string();
        let bytes = if name == restante_policy::standard::NAME && !path.exists() {
            restante_policy::standard::COMPONENT.to_vec()
        } else {
            read_bounded(path, MAX_FILE_BYTES)?
        };
        if wasm::is_core_module(&bytes) {
            let component = wasm::component_of(&bytes).with_context(|| name.clone())?;
            return Ok(Subject { name, component, was_module: true });
        }
        Ok(Subject { name, component: bytes, was_module: false })
    }
}

/// A policy in both engines: the one that serves, for its time, and the one that counts.
pub struct Tried {
    /// As a server has it.
    pub serving: Arc<Generation>,
    /// With a count of instructions.
    pub metered: MeteredPolicy,
}

impl Tried {
    /// Loads a policy with settings.
    ///
    /// # Errors
    /// It cannot be used, and why.
    pub fn load(subject: &Subject, settings: &Value, host: &HostAbilities) -> Result<Tried> {
        let loader = Loader::new(PolicyEngine::new(limits())?, None)?;
        let unusable = || format!("the policy {} cannot be used", subject.name);
        let loaded = loader.load(&subject.component, &settings.to_string(), host).with_context(unusable)?;
        let metered = meter()?.load(&subject.component, settings, host).with_context(unusable)?;
        Ok(Tried { serving: loaded.generation, metered })
    }
}

/// The engine that counts.
///
/// # Errors
/// The machine does not give what it needs.
pub fn meter() -> Result<Meter> {
    Ok(Meter::new(limits(), None)?)
}

/// Those of a server, but for the size: an operator may allow more, and who writes a policy may want to try it first.
fn limits() -> PolicyLimits {
    let max_component_bytes = usize::try_from(MAX_FILE_BYTES).unwrap_or(usize::MAX);
    PolicyLimits { max_component_bytes, ..PolicyLimits::default() }
}

/// Settings from a JSON file; none are the defaults.
///
/// # Errors
/// The file cannot be read or is no JSON object.
pub fn settings(path: Option<&Path>) -> Result<Option<Value>> {
    let Some(path) = path else { return Ok(None) };
    let value = read_json(path)?;
    if !value.is_object() {
        bail!("{}: expected the settings as a JSON object", path.display());
    }
    Ok(Some(value))
}

/// A file of JSON.
///
/// # Errors
/// The file cannot be read or is no JSON.
pub fn read_json(path: &Path) -> Result<Value> {
    let bytes = read_bounded(path, MAX_FILE_BYTES)?;
    serde_json::from_slice(&bytes).with_context(|| format!("{}: not JSON", path.display()))
}

/// A file that is not larger than it may be.
///
/// # Errors
/// It cannot be read, or is larger.
pub fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let place = || path.display().to_string();
    let size = std::fs::metadata(path).with_context(place)?.len();
    if size > max_bytes {
        bail!("{}: has {size} bytes; at most {max_bytes} are read", path.display());
    }
    std::fs::read(path).with_context(place)
}

/// Bytes for people.
pub fn bytes(count: u64) -> String {
    match count {
        0..=9_999 => format!("{count} B"),
        10_000..=9_999_999 => format!("{:.0} KiB", count as f64 / 1_024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([17, 20_480, 20_971_520].map(bytes), ["17 B", "20 KiB", "20.0 MiB"]);
    }
}
