//! `scheme name=value, name="value", …` (RFC 7235 §2.1, RFC 3261 §25.1).

use super::{MAX_PARAMETERS, MAX_VALUE_BYTES};
use crate::header::{HeaderError, quote, split_list, split_parameter, unquote};
use crate::message::unfold;

/// The scheme that is understood.
pub(super) const DIGEST: &str = "Digest";

/// A scheme with its parameters as written.
#[derive(Debug)]
pub(super) struct Scheme {
    pub(super) name: String,
    elements: Vec<String>,
}

/// Takes a value to pieces: one challenge or credentials, or several challenges in a comma list.
pub(super) fn schemes(value: &str) -> Result<Vec<Scheme>, HeaderError> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(HeaderError::Syntax);
    }
    let value = unfold(value);
    let mut schemes: Vec<Scheme> = Vec::new();
    for element in split_list(&value) {
        let (scheme, element) = begin(element);
        match (scheme, schemes.last_mut()) {
            (Some(name), _) => {
                let elements = element.map(str::to_owned).into_iter().collect();
                schemes.push(Scheme { name: name.to_owned(), elements });
            }
            (None, Some(scheme)) => scheme.elements.extend(element.map(str::to_owned)),
            (None, None) => return Err(HeaderError::Syntax),
        }
        if schemes.last().is_some_and(|scheme| scheme.elements.len() > MAX_PARAMETERS) {
            return Err(HeaderError::Syntax);
        }
    }
    Ok(schemes)
}

/// A scheme's name, if one begins here, and what follows it.
fn begin(element: &str) -> (Option<&str>, Option<&str>) {
    let end = element.bytes().position(|byte| !crate::message_token(byte)).unwrap_or(element.len());
    let (name, rest) = element.split_at(end);
    let after = rest.trim_start();
    match (name, after) {
        ("", _) => (None, Some(element)),
        (name, "") => (Some(name), None),
        // `name = value` is a parameter, blanks or not.
        (_, after) if after.starts_with('=') => (None, Some(element)),
        (name, after) if after.len() < rest.len() => (Some(name), Some(after)),
        _ => (None, Some(element)),
    }
}

/// The parameters of one scheme, for one look at each.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// A parameter that is there twice has two meanings.
    pub(super) fn of(scheme: &Scheme) -> Result<Parameters, HeaderError> {
        let mut all: Vec<(String, String)> = Vec::with_capacity(scheme.elements.len());
        for element in &scheme.elements {
            let (name, value) = split_parameter(element)?;
            let value = match value.ok_or(HeaderError::Syntax)? {
                quoted if quoted.starts_with('"') => unquote(quoted).ok_or(HeaderError::Syntax)?,
                token => token.to_owned(),
            };
            if all.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                return Err(HeaderError::Syntax);
            }
            all.push((name.to_owned(), value));
        }
        Ok(Parameters(all))
    }

    pub(super) fn optional(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(self.0.swap_remove(at).1)
    }

    pub(super) fn is_true(&mut self, name: &str) -> bool {
        self.optional(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    pub(super) fn required(&mut self, name: &str) -> Result<String, HeaderError> {
        self.optional(name).ok_or(HeaderError::Missing)
    }
}

/// Writes the value of one header field.
pub(super) struct ValueWriter(String);

impl ValueWriter {
    pub(super) fn new() -> ValueWriter {
        ValueWriter(DIGEST.to_owned())
    }

    /// In quotes.
    pub(super) fn quoted(mut self, name: &str, value: &str) -> ValueWriter {
        self.separate(name);
        self.0.push_str(&quote(value));
        self
    }

    /// Without: a token.
    pub(super) fn token(mut self, name: &str, value: &str) -> ValueWriter {
        self.separate(name);
        self.0.push_str(value);
        self
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    /// Without the scheme.
    pub(super) fn finish_parameters(self) -> String {
        self.0.get(DIGEST.len()..).unwrap_or_default().trim_start().to_owned()
    }

    fn separate(&mut self, name: &str) {
        self.0.push_str(if self.0.len() == DIGEST.len() { " " } else { ", " });
        self.0.push_str(name);
        self.0.push('=');
    }
}
