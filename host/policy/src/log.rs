//! What guests write to the log, made harmless and bounded.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use restante_deferral::model::{TenantName, Timestamp};

/// Lines of one tenant that are remembered.
const MAX_REMEMBERED_LINES: usize = 200;

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

/// A line that was remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Counts the tenant's lines, from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// How important.
    pub level: LogLevel,
    /// The text, as in [`GuestLog`].
    pub text: String,
}

/// The last lines of one tenant's policy.
#[derive(Default)]
pub(crate) struct TenantLog {
    lines: Mutex<(u64, VecDeque<LogLine>)>,
}

impl TenantLog {
    /// Remembers a line in place of the oldest.
    pub(crate) fn push(&self, level: LogLevel, text: &str) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.0 = lines.0.saturating_add(1);
        if lines.1.len() >= MAX_REMEMBERED_LINES {
            lines.1.pop_front();
        }
        let line = LogLine { number: lines.0, at, level, text: text.to_owned() };
        lines.1.push_back(line);
    }

    /// Those after this number that are remembered still.
    pub(crate) fn after(&self, number: u64) -> Vec<LogLine> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.1.iter().filter(|line| line.number > number).cloned().collect()
    }
}

/// Cuts a guest's text to so many bytes and escapes what could act on a terminal or break a line.
pub(crate) fn harmless(text: &str, max_bytes: usize) -> String {
    let cut = &text[..text.floor_char_boundary(max_bytes)];
    let mut result = String::with_capacity(cut.len());
    for character in cut.chars() {
        if acts_on_display(character) {
            result.extend(character.escape_unicode());
        } else {
            result.push(character);
        }
    }
    result
}

/// Control characters, line and paragraph separators, and what turns the direction of text.
pub(crate) fn acts_on_display(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bounds the lines of one tenant per second.
#[derive(Default)]
pub(crate) struct LineBudget {
    window: Mutex<(Option<Instant>, u32)>,
}

impl LineBudget {
    /// Whether one more line may be written now, of so many in a second.
    pub(crate) fn take(&self, now: Instant, per_second: u32) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
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
    fn the_last_lines_are_remembered_under_their_numbers() {
        let log = TenantLog::default();
        for line in 1..=MAX_REMEMBERED_LINES + 2 {
            log.push(LogLevel::Info, &line.to_string());
        }
        let (all, late) = (log.after(0), log.after(MAX_REMEMBERED_LINES as u64));
        assert_eq!((all.len(), all.first().map(|line| line.text.as_str())), (MAX_REMEMBERED_LINES, Some("3")));
        let late: Vec<_> = late.iter().map(|line| (line.number, line.text.as_str())).collect();
        assert_eq!(late, [(201, "201"), (202, "202")]);
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
