//! Log lines: human or JSON, and what may stand in them.

use std::fmt;
use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::configuration::{Log, LogFormat};

/// Starts logging to standard error. `RESTANTE_LOG` wins over the configured filter.
///
/// # Errors
/// The filter cannot be read.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let filter = match std::env::var("RESTANTE_LOG") {
        Ok(filter) => EnvFilter::try_new(filter).context("RESTANTE_LOG")?,
        Err(_) => EnvFilter::try_new(log.filter.as_deref().unwrap_or("info")).context("log.filter")?,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Human => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// An address as it may stand in a log at info level: scheme, first character and domain, `sip:b…@example.org`;
/// of a number the first four characters, `tel:+155…`.
pub struct Shortened<'a>(pub &'a str);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once(':').unwrap_or(("", self.0));
        let shown =
            |text: &str, most: usize| -> String { text.chars().take(most).flat_map(char::escape_default).collect() };
        match rest.rsplit_once('@') {
            Some((user, host)) => write!(formatter, "{}:{}…@{}", shown(scheme, 8), shown(user, 1), shown(host, 64)),
            None => write!(formatter, "{}:{}…", shown(scheme, 8), shown(rest, 4)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Shortened;

    #[test]
    fn an_address_is_recognised_by_its_owner_only() {
        for (address, shown) in [
            ("sip:bob@example.org", "sip:b…@example.org"),
            ("tel:+15551234567", "tel:+155…"),
            ("sip:\r\n@x", "sip:\\r…@x"),
            ("nonsense", ":nons…"),
        ] {
            assert_eq!(Shortened(address).to_string(), shown);
        }
    }
}
