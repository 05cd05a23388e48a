//! What guests write to the log, made harmless and bounded.

use std::sync::Mutex;
use std::time::Instant;

use restante_deferral::model::TenantName;

/// How important a guest's line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// For the policy's author.
    Debug,
    /// For the operator.
    Info,
    /// For the operator, soon.
    Warning,
}

/// A line of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestLog<'a> {
    /// Whose policy wrote it.
    pub tenant: &'a TenantName,
    /// How important the policy takes it to be.
    pub level: LogLevel,
    /// The text, cut and with its control characters escaped.
    pub text: &'a str,
}

/// Cuts a guest's text to so many bytes and escapes what could act on a terminal or break a line.
pub(crate) fn harmless(text: &str, max_bytes: usize) -> String {
    let cut = &text[..text.floor_char_boundary(max_bytes)];
    let mut result = String::with_capacity(cut.len());
    for character in cut.chars() {
        if character.is_control() || acts_on_layout(character) {
            result.extend(character.escape_unicode());
        } else {
            result.push(character);
        }
    }
    result
}

/// Line and paragraph separators, and what turns the direction of text.
fn acts_on_layout(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bounds the lines of one tenant per second.
#[derive(Default)]
pub(crate) struct LineBudget {
    window: Mutex<(Option<Instant>, u32)>,
}

impl LineBudget {
    /// Whether one more line may be written now, of so many in a second.
    pub(crate) fn take(&self, now: Instant, per_second: u32) -> bool {
        let mut window = self.window.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_over = window.0.is_none_or(|start| now.saturating_duration_since(start).as_secs() >= 1);
        if is_over {
            *window = (Some(now), 0);
        }
        window.1 = window.1.saturating_add(1);
        window.1 <= per_second
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn text_is_cut_between_characters_and_made_harmless() {
        assert_eq!(harmless("plain", 512), "plain");
        assert_eq!(harmless("aäb", 2), "a");
        assert_eq!(harmless("a\u{1b}[31m\r\n\0\u{202e}", 512), "a\\u{1b}[31m\\u{d}\\u{a}\\u{0}\\u{202e}");
    }

    #[test]
    fn lines_are_bounded_per_second() {
        let budget = LineBudget::default();
        let start = Instant::now();
        assert_eq!([budget.take(start, 2), budget.take(start, 2), budget.take(start, 2)], [true, true, false]);
        assert!(budget.take(start, 4), "more are allowed from now on");
        assert!(budget.take(start + Duration::from_secs(1), 1));
    }
}
