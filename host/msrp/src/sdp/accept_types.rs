//! `a=accept-types` and `a=accept-wrapped-types` (RFC 4975 §8.6).

use std::fmt;

/// Media types that somebody takes: `*`, `type/*`, `type/subtype`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptTypes {
    entries: Vec<String>,
}

impl AcceptTypes {
    /// `*`
    #[must_use]
    pub fn any() -> AcceptTypes {
        AcceptTypes::parse("*")
    }

    /// Types with blanks in between. What is no type matches nothing.
    #[must_use]
    pub fn parse(text: &str) -> AcceptTypes {
        AcceptTypes { entries: text.split_ascii_whitespace().map(str::to_owned).collect() }
    }

    /// Whether a Content-Type is among them; case and parameters do not count.
    #[must_use]
    pub fn accepts(&self, content_type: &str) -> bool {
        let wanted = without_parameters(content_type);
        self.entries.iter().any(|entry| {
            let entry = without_parameters(entry);
            match entry.strip_suffix("/*") {
                _ if entry == "*" => true,
                Some(main_type) => {
                    wanted.split_once('/').is_some_and(|(wanted, _)| wanted.eq_ignore_ascii_case(main_type))
                }
                None => entry.eq_ignore_ascii_case(wanted),
            }
        })
    }

    /// Whether nothing is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl fmt::Display for AcceptTypes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.entries.join(" "))
    }
}

fn without_parameters(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}
