//! Problems with settings, and where they are.

use crate::types::{Problem, Severity};

/// What is wrong with settings, or odd about them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Problems(pub(super) Vec<Problem>);

impl Problems {
    /// The settings cannot be used. `pointer` is a JSON pointer (RFC 6901) to the value, empty for the whole.
    pub fn error(&mut self, pointer: &str, text: impl Into<String>) {
        self.push(pointer, Severity::Error, text.into());
    }

    /// They can be used, but probably do not mean what was meant.
    pub fn warning(&mut self, pointer: &str, text: impl Into<String>) {
        self.push(pointer, Severity::Warning, text.into());
    }

    /// Whether the settings cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_list(self) -> Vec<Problem> {
        self.0
    }

    fn push(&mut self, pointer: &str, severity: Severity, text: String) {
        self.0.push(Problem { pointer: pointer.to_owned(), severity, text });
    }
}

/// The JSON pointer (RFC 6901) to a value, from the names and indexes on the way to it.
#[must_use]
pub fn pointer<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut pointer = String::new();
    for name in names {
        push(&mut pointer, name);
    }
    pointer
}

/// Adds a name to a JSON pointer (RFC 6901 §3).
pub(super) fn push(pointer: &mut String, name: &str) {
    pointer.push('/');
    for character in name.chars() {
        match character {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}
