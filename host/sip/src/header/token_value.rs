use std::fmt;

use super::{HeaderError, Parameters, parse_parameters, write_parameters};
use crate::uri::find_parameter;

/// A token with parameters: Event (RFC 6665 §8.2.1), Subscription-State (§8.2.3), Content-Disposition (RFC 3261 §20.11),
/// an element of Request-Disposition or Accept-Encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenValue {
    /// What stands first: an event package, a state, a disposition. Case does not matter but in event packages.
    pub token: String,
    /// Parameters.
    pub parameters: Parameters,
}

impl TokenValue {
    /// Parses one value.
    ///
    /// # Errors
    /// [`HeaderError::Syntax`]
    pub fn parse(value: &str) -> Result<TokenValue, HeaderError> {
        let (token, parameters) = value.split_at(value.find(';').unwrap_or(value.len()));
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(crate::message_token) {
            return Err(HeaderError::Syntax);
        }
        Ok(TokenValue { token: token.to_owned(), parameters: parse_parameters(parameters)? })
    }

    /// Whether the token is this, in any case.
    #[must_use]
    pub fn is(&self, token: &str) -> bool {
        self.token.eq_ignore_ascii_case(token)
    }

    /// A parameter's value, empty for a flag.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find_parameter(&self.parameters, name)
    }

    /// A parameter that is a number of seconds: `expires` and `retry-after` of Subscription-State.
    #[must_use]
    pub fn seconds(&self, name: &str) -> Option<u32> {
        self.parameter(name).and_then(|text| text.parse().ok())
    }
}

impl fmt::Display for TokenValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.token.clone();
        write_parameters(&mut text, &self.parameters);
        formatter.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn states_and_packages_are_read() {
        let state = TokenValue::parse("Terminated ;reason=noresource; retry-after=30").unwrap();
        assert!(state.is("terminated") && !state.is("active"));
        assert_eq!((state.parameter("Reason"), state.seconds("retry-after")), (Some("noresource"), Some(30)));
        assert_eq!(state.seconds("expires"), None);
        for wrong in ["", ";x", "a b", "active;", "active;=1", "a,b"] {
            assert!(TokenValue::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_writes_back_and_arbitrary_text_never_panics(text in "[a-z. ,]{0,6}(;[a-z=\"\\\\ 0-9]{0,8}){0,3}") {
            if let Ok(parsed) = TokenValue::parse(&text) {
                prop_assert_eq!(TokenValue::parse(&parsed.to_string()).unwrap(), parsed);
            }
        }
    }
}
