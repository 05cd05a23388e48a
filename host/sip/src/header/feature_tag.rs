//! Service identifiers in feature tags and Accept-Contact: `+g.3gpp.icsi-ref="urn%3Aurn-7%3A…,…"`.

use std::fmt;

use super::{HeaderError, Parameters, parse_parameters, position_outside, quote};

/// CPM standalone messaging, page mode.
pub const ICSI_MESSAGE: &str = "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg";
/// CPM standalone messaging, large message mode.
pub const ICSI_LARGE_MESSAGE: &str = "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.largemsg";
/// CPM deferred messaging.
pub const ICSI_DEFERRED: &str = "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.deferred";

/// The service identifiers of `+g.3gpp.icsi-ref` in an Accept-Contact value or a list of parameters, decoded, in lower
/// case. `3gppservice`, which some clients write for `3gpp-service`, is read as that.
#[must_use]
pub fn icsi_values(value: &str) -> Vec<String> {
    let parameters = position_outside(value, b';').and_then(|at| value.get(at..)).unwrap_or("");
    parse_parameters(parameters).map(|parameters| icsi_of(&parameters)).unwrap_or_default()
}

fn icsi_of(parameters: &Parameters) -> Vec<String> {
    parameters
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("+g.3gpp.icsi-ref"))
        .flat_map(|(_, value)| value.as_deref().unwrap_or("").split(','))
        .map(|element| {
            let element = element.trim().trim_start_matches('<').trim_end_matches('>');
            percent_decoded(element).to_ascii_lowercase().replace("3gppservice", "3gpp-service")
        })
        .collect()
}

/// One element of Accept-Contact (RFC 3841 §9.2): what a device has to have registered to get the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptContact {
    /// Feature tags that are wanted: names in lower case, and values without their quotes.
    pub feature_tags: Vec<(String, Option<String>)>,
    /// `require`: a device without them does not get it.
    pub is_required: bool,
    /// `explicit`: a device that says nothing of them counts as one without.
    pub is_explicit: bool,
}

impl AcceptContact {
    /// Parses one element.
    ///
    /// # Errors
    /// [`HeaderError::Syntax`]
    pub fn parse(value: &str) -> Result<AcceptContact, HeaderError> {
        let rest = value.trim().strip_prefix('*').ok_or(HeaderError::Syntax)?;
        let mut found = AcceptContact::default();
        for (name, value) in parse_parameters(rest)? {
            match name.to_ascii_lowercase().as_str() {
                "require" => found.is_required = true,
                "explicit" => found.is_explicit = true,
                name => found.feature_tags.push((name.to_owned(), value)),
            }
        }
        Ok(found)
    }

    /// That asks for a service, as deployed clients expect it: percent-encoded in `+g.3gpp.icsi-ref`.
    #[must_use]
    pub fn for_service(icsi: &str) -> AcceptContact {
        let value = icsi.replace(':', "%3A");
        AcceptContact { feature_tags: vec![("+g.3gpp.icsi-ref".to_owned(), Some(value))], ..AcceptContact::default() }
    }

    /// The service identifiers that it asks for, decoded as by [`icsi_values`].
    #[must_use]
    pub fn services(&self) -> Vec<String> {
        icsi_of(&self.feature_tags)
    }
}

impl fmt::Display for AcceptContact {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("*")?;
        for (name, value) in &self.feature_tags {
            match value {
                // Values of feature tags are quoted strings always (RFC 3840 §9).
                Some(value) => write!(formatter, ";{name}={}", quote(value))?,
                None => write!(formatter, ";{name}")?,
            }
        }
        let flag = |is_set: bool, text: &'static str| if is_set { text } else { "" };
        write!(formatter, "{}{}", flag(self.is_required, ";require"), flag(self.is_explicit, ";explicit"))
    }
}

/// `%XX` undone; what is no UTF-8 then is replaced.
#[must_use]
pub fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let pair = (byte == b'%').then(|| Some((hex(ahead.next()?)?, hex(ahead.next()?)?))).flatten();
        match pair {
            Some((high, low)) => {
                out.push(high << 4 | low);
                bytes = ahead;
            }
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_found_in_a_comma_list_inside_a_quoted_tag() {
        let value = "*;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gppservice.ims.icsi.oma.cpm.msg,urn%3aurn-7%3A3gpp-service.ims.icsi.oma.cpm.deferred\";require";
        assert_eq!(icsi_values(value), [ICSI_MESSAGE, ICSI_DEFERRED]);
        assert!(icsi_values("*;+g.oma.sip-im").is_empty());
    }

    #[test]
    fn accept_contact_is_read_and_written() {
        let parsed = AcceptContact::parse("* ; +g.oma.SIP-im;audio=\"TRUE,FALSE\";require; Explicit").unwrap();
        assert_eq!(parsed.to_string(), "*;+g.oma.sip-im;audio=\"TRUE,FALSE\";require;explicit");
        assert_eq!(AcceptContact::parse(&parsed.to_string()).unwrap(), parsed);
        let service = AcceptContact::for_service(ICSI_MESSAGE);
        let text = "*;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\"";
        assert_eq!(service.to_string(), text);
        assert_eq!(AcceptContact::parse(text).unwrap().services(), [ICSI_MESSAGE]);
        for wrong in ["", "x;y", "*;", "*;=\"a\"", "*y"] {
            assert!(AcceptContact::parse(wrong).is_err(), "{wrong}");
        }
    }
}
