use super::{HeaderError, Parameters, parse_parameters};
use crate::uri::find_parameter;

/// Content-Type or one element of Accept (RFC 3261 §20.15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType {
    /// `text`, or `*` in Accept.
    pub kind: String,
    /// `plain`, or `*` in Accept.
    pub subtype: String,
    /// Parameters.
    pub parameters: Parameters,
}

impl MediaType {
    /// Parses one value.
    ///
    /// # Errors
    /// [`HeaderError::Syntax`]
    pub fn parse(value: &str) -> Result<MediaType, HeaderError> {
        let (essence, parameters) = value.split_at(value.find(';').unwrap_or(value.len()));
        let (kind, subtype) = essence.split_once('/').ok_or(HeaderError::Syntax)?;
        let (kind, subtype) = (kind.trim(), subtype.trim());
        let token = |text: &str| !text.is_empty() && text.bytes().all(crate::message_token);
        if !token(kind) || !token(subtype) {
            return Err(HeaderError::Syntax);
        }
        let parameters = parse_parameters(parameters)?;
        Ok(MediaType { kind: kind.to_owned(), subtype: subtype.to_owned(), parameters })
    }

    /// Whether it is this type, in any case.
    #[must_use]
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind) && self.subtype.eq_ignore_ascii_case(subtype)
    }

    /// Whether, as an element of Accept, it covers a type.
    #[must_use]
    pub fn covers(&self, other: &MediaType) -> bool {
        let fits = |mine: &str, theirs: &str| mine == "*" || mine.eq_ignore_ascii_case(theirs);
        fits(&self.kind, &other.kind) && fits(&self.subtype, &other.subtype)
    }

    /// A parameter's value, empty for a flag.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find_parameter(&self.parameters, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_ranges() {
        let media_type = MediaType::parse("Multipart/Mixed ; boundary=\"a;b\"").unwrap();
        assert!(media_type.is("multipart", "mixed"));
        assert_eq!(media_type.parameter("Boundary"), Some("a;b"));
        assert!(MediaType::parse("*/*").unwrap().covers(&media_type));
        assert!(MediaType::parse("multipart/*;q=0.1").unwrap().covers(&media_type));
        assert!(!MediaType::parse("text/*").unwrap().covers(&media_type));
        for wrong in ["", "text", "text/", "/plain", "te xt/plain", "text/plain;"] {
            assert!(MediaType::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
