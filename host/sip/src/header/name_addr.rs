use std::fmt;

use super::{
    HeaderError, Parameters, check_parameters, parse_parameters, position_outside, quote, unquote, write_parameters,
};
use crate::uri::{Uri, find_parameter};

/// From, To, Contact, Route and the like: `"Display" <uri>;parameters` (RFC 3261 §20.10, §25.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr {
    /// Display name without quotes.
    pub display: Option<String>,
    /// The URI.
    pub uri: Uri,
    /// Header parameters.
    pub parameters: Parameters,
    /// It was written without angle brackets, so that what followed a semicolon was taken for header parameters.
    pub unbracketed: bool,
}

impl NameAddr {
    /// Just a URI.
    #[must_use]
    pub fn new(uri: Uri) -> NameAddr {
        NameAddr { display: None, uri, parameters: Vec::new(), unbracketed: false }
    }

    /// Parses one value.
    ///
    /// A display name that is neither tokens nor quoted is tolerated (RFC 4475 §3.1.2.15).
    ///
    /// # Errors
    /// [`HeaderError`]
    pub fn parse(value: &str) -> Result<NameAddr, HeaderError> {
        let parts = Parts::split(value)?;
        let display = match parts.display {
            "" => None,
            quoted if quoted.starts_with('"') => Some(unquote(quoted).ok_or(HeaderError::Syntax)?),
            plain => Some(plain.split_ascii_whitespace().collect::<Vec<_>>().join(" ")),
        };
        Ok(NameAddr {
            display,
            uri: Uri::parse(parts.uri).map_err(|_| HeaderError::Uri)?,
            parameters: parse_parameters(parts.parameters)?,
            unbracketed: parts.unbracketed,
        })
    }

    /// Whether a value is one, without taking it to pieces.
    ///
    /// # Errors
    /// Those of [`NameAddr::parse`].
    pub fn check(value: &str) -> Result<(), HeaderError> {
        let parts = Parts::split(value)?;
        if parts.display.starts_with('"') && unquote(parts.display).is_none() {
            return Err(HeaderError::Syntax);
        }
        Uri::check(parts.uri).map_err(|_| HeaderError::Uri)?;
        check_parameters(parts.parameters)
    }

    /// A header parameter's value, empty for a flag.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find_parameter(&self.parameters, name)
    }

    /// The `tag` parameter.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.parameter("tag").filter(|tag| !tag.is_empty())
    }
}

/// Where the parts are.
struct Parts<'a> {
    display: &'a str,
    uri: &'a str,
    parameters: &'a str,
    unbracketed: bool,
}

impl<'a> Parts<'a> {
    fn split(value: &'a str) -> Result<Parts<'a>, HeaderError> {
        let value = value.trim();
        let Some(open) = position_outside(value, b'<') else {
            let (uri, parameters) = value.split_at(value.find(';').unwrap_or(value.len()));
            return Ok(Parts { display: "", uri: uri.trim_end(), parameters, unbracketed: true });
        };
        let (display, rest) = value.split_at(open);
        let (uri, parameters) = rest.get(1..).and_then(|rest| rest.split_once('>')).ok_or(HeaderError::Syntax)?;
        let display = display.trim();
        if !display.starts_with('"') && display.contains('"') {
            return Err(HeaderError::Syntax);
        }
        Ok(Parts { display, uri, parameters, unbracketed: false })
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            write!(formatter, "{} ", quote(display))?;
        }
        let mut parameters = String::new();
        write_parameters(&mut parameters, &self.parameters);
        write!(formatter, "<{}>{parameters}", self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        for (text, display, uri, tag) in [
            ("sip:bob@h;tag=1", None, "sip:bob@h", Some("1")),
            ("<sip:bob@h;transport=tcp>;tag=2", None, "sip:bob@h;transport=tcp", Some("2")),
            ("caller<sip:bob@h>;tag=3", Some("caller"), "sip:bob@h", Some("3")),
            ("\"J \\\"Q\\\" <x>\" <sip:bob@h> ; tag = 4", Some("J \"Q\" <x>"), "sip:bob@h", Some("4")),
            ("tel:+1-555", None, "tel:+1-555", None),
        ] {
            let parsed = NameAddr::parse(text).unwrap();
            assert_eq!(
                (parsed.display.as_deref(), parsed.uri.to_string().as_str(), parsed.tag()),
                (display, uri, tag),
                "{text}"
            );
        }
        for wrong in ["", "\"Joe <sip:a@b>", "<sip:a@b", "< sip:a@b>", "<sip:a@b>;;", "<sip:a@b> x", "bob"] {
            assert!(NameAddr::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_what_parses_writes_back(text in "(\"[a-z\\\\\" ]{0,6}\" ?)?<?(sip:[a-z@.]{0,9}|[!-~ é]{0,12})>?(;[a-z=\"]{0,8}){0,3}") {
            prop_assert_eq!(NameAddr::check(&text), NameAddr::parse(&text).map(drop));
            if let Ok(parsed) = NameAddr::parse(&text) {
                let again = NameAddr::parse(&parsed.to_string()).unwrap();
                prop_assert_eq!((again.display, again.uri, again.parameters), (parsed.display, parsed.uri, parsed.parameters));
            }
        }
    }
}
