//! The operator's settings: a type of the policy's own, which is written down three ways.
//!
//! - As JSON by the operator. A setting that is not a field is a problem, and so is a value that the schema does not
//!   allow; every problem is found, and says by JSON pointer where it is and what was expected.
//! - As a JSON Schema (`describe`), made of the type and of its doc comments by [`schemars`].
//! - As a few bytes, which every later call reads (postcard).
//!
//! Have `#[serde(default)]` on the type, or the operator must name every setting. Bounds are
//! `#[schemars(range(min = 1, max = 100))]` and `#[schemars(length(max = 10))]`. `flatten`, `untagged` and
//! `skip_serializing_if` cannot be written as bytes; [`check`] says so.

mod problems;
mod schema;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use problems::{Problems, pointer};

use crate::policy::Policy;
use crate::types::{CheckedSettings, HostAbilities, Problem};

/// What settings have to be. Whatever derives these four has it.
pub trait Settings: Serialize + DeserializeOwned + JsonSchema + Default {}

impl<T: Serialize + DeserializeOwned + JsonSchema + Default> Settings for T {}

/// The settings of a policy that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NoSettings {}

/// JSON Schema of settings.
#[must_use]
pub fn schema<S: Settings>() -> Value {
    let close = RecursiveTransform(|schema: &mut schemars::Schema| {
        if let Some(object) = schema.as_object_mut()
            && (object.contains_key("properties") || object.get("title").is_some())
            && object.get("type").is_some_and(|kind| kind == "object")
        {
            object.entry("additionalProperties").or_insert(Value::Bool(false));
        }
    });
    SchemaSettings::draft2020_12().with_transform(close).into_generator().into_root_schema_for::<S>().to_value()
}

/// Reads the operator's settings and has the policy check them: the settings, and what the host is given.
///
/// # Errors
/// All that is wrong with them.
pub fn check<P: Policy>(text: &str, host: &HostAbilities) -> Result<(P::Settings, CheckedSettings), Vec<Problem>> {
    let mut problems = Problems::default();
    let settings = from_json::<P::Settings>(text, &mut problems);
    if let Some(settings) = &settings {
        P::check(settings, host, &mut problems);
    }
    let normalised = settings.as_ref().and_then(|settings| write(settings, &mut problems));
    match (settings, normalised) {
        (Some(settings), Some(normalised)) if !problems.has_errors() => {
            Ok((settings, CheckedSettings { normalised, problems: problems.into_list() }))
        }
        _ => Err(problems.into_list()),
    }
}

/// Reads what [`check`] wrote.
///
/// # Errors
/// When these bytes are not from [`check`] of this policy.
pub fn read<S: Settings>(normalised: &[u8]) -> Result<S, String> {
    postcard::from_bytes(normalised).map_err(|error| format!("settings are not of this policy: {error}"))
}

fn from_json<S: Settings>(text: &str, problems: &mut Problems) -> Option<S> {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            problems.error("", format!("expected JSON: {error}"));
            return None;
        }
    };
    schema::check(&schema::<S>(), &value, problems);
    if problems.has_errors() {
        return None;
    }
    match serde_path_to_error::deserialize(&value) {
        Ok(settings) => Some(settings),
        Err(error) => {
            problems.error(&pointer_of(error.path()), error.inner().to_string());
            None
        }
    }
}

/// The bytes, if they can be read again.
fn write<S: Settings>(settings: &S, problems: &mut Problems) -> Option<Vec<u8>> {
    let written = postcard::to_allocvec(settings).ok();
    let again = |bytes: &Vec<u8>| read::<S>(bytes).ok().and_then(|settings| postcard::to_allocvec(&settings).ok());
    let result = written.filter(|bytes| again(bytes).as_ref() == Some(bytes));
    if result.is_none() {
        let text = "a fault of the policy: its type for settings uses flatten, untagged or skip_serializing_if, and \
                    cannot be written as bytes";
        problems.error("", text);
    }
    result
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => problems::push(&mut pointer, &index.to_string()),
            Segment::Map { key } => problems::push(&mut pointer, key),
            Segment::Enum { variant } => problems::push(&mut pointer, variant),
            Segment::Unknown => {}
        }
    }
    pointer
}

#[cfg(test)]
mod tests;
