//! How long something may last (RFC 4976 §4.6, §6.3, §7): Expires, Min-Expires, Max-Expires.

use std::time::Duration;

use crate::framing::Header;

/// What a 423 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lasting {
    min_seconds: u32,
    max_seconds: u32,
}

impl Lasting {
    /// None: it says neither, or what cannot be.
    pub(super) fn offered_by(headers: &[Header]) -> Option<Lasting> {
        let value = |name: &str| {
            let found = headers.iter().find(|it| it.name.eq_ignore_ascii_case(name))?;
            number(&found.value).filter(|seconds| *seconds > 0)
        };
        let (min, max) = (value("Min-Expires"), value("Max-Expires"));
        let lasting = Lasting { min_seconds: min.unwrap_or(1), max_seconds: max.unwrap_or(u32::MAX) };
        ((min.is_some() || max.is_some()) && lasting.min_seconds <= lasting.max_seconds).then_some(lasting)
    }

    /// What lies nearest to what we wanted.
    pub(super) fn nearest(self, seconds: u32) -> u32 {
        seconds.clamp(self.min_seconds, self.max_seconds)
    }
}

/// Decimal digits and nothing else.
pub(super) fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// How much of its time is left when something is renewed: a tenth, and at least a minute where it lasts for more than two.
pub(super) fn rest_of(lasts: Duration) -> Duration {
    let tenth = lasts / 10;
    if lasts > Duration::from_secs(120) { tenth.max(Duration::from_secs(60)) } else { tenth }
}
