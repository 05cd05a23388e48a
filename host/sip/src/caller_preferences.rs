//! Which devices a caller wants, and in which order (RFC 3841 §7.2): Accept-Contact and Reject-Contact against the feature tags
//! that devices registered (RFC 3840); and how it wants its request handled (Request-Disposition, RFC 3841 §9.1).
//!
//! What a request's method implies (RFC 3841 §7.2.2) is not read here: whoever passes a request on asks only devices that take it.

use crate::header::{Parameters, parse_parameters, percent_decoded};
use crate::message::{Name, SipMessage};

/// Values of Accept-Contact and of Reject-Contact that are read of one request.
const MAX_PREFERENCES: usize = 16;
/// Feature tags of one value, or one device, that are read.
const MAX_TAGS: usize = 64;
/// Feature tags that may be written without a plus (RFC 3840 §9).
const BASE_TAGS: [&str; 20] = [
    "audio",
    "automata",
    "class",
    "duplex",
    "data",
    "control",
    "mobility",
    "description",
    "events",
    "priority",
    "methods",
    "extensions",
    "schemes",
    "application",
    "video",
    "language",
    "type",
    "isfocus",
    "actor",
    "text",
];

/// What a request says of the devices that are to get it.
#[derive(Clone, Debug, Default)]
pub struct CallerPreferences {
    accepted: Vec<Wish>,
    rejected: Vec<Features>,
    /// `no-fork`: the best device alone.
    pub is_for_one: bool,
    /// `sequential`: one device after the other.
    pub is_sequential: bool,
}

/// One value of Accept-Contact.
#[derive(Clone, Debug)]
struct Wish {
    features: Features,
    is_required: bool,
    is_explicit: bool,
}

/// Feature tags, each once, and what each may be.
#[derive(Clone, Debug, Default, PartialEq)]
struct Features(Vec<(String, Vec<Filter>)>);

/// One value of a feature tag.
#[derive(Clone, Debug, PartialEq)]
struct Filter {
    value: Value,
    is_not: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    /// In lower case.
    Token(String),
    /// Between angle brackets: as it is written.
    Text(String),
    /// From, to.
    Number(f64, f64),
}

impl CallerPreferences {
    /// Of a request. What cannot be read is passed over.
    #[must_use]
    pub fn of(request: &SipMessage) -> CallerPreferences {
        let values = |name| request.list(name).take(MAX_PREFERENCES).filter_map(parameters_of);
        let wish = |parameters: Parameters| {
            let has = |flag: &str| parameters.iter().any(|(name, _)| name.eq_ignore_ascii_case(flag));
            Wish { features: Features::of(&parameters), is_required: has("require"), is_explicit: has("explicit") }
        };
        let has = |directive: &str| request.list(Name::RequestDisposition).any(|it| it.eq_ignore_ascii_case(directive));
        CallerPreferences {
            accepted: values(Name::AcceptContact).map(wish).collect(),
            rejected: values(Name::RejectContact).map(|parameters| Features::of(&parameters)).collect(),
            is_for_one: has("no-fork"),
            is_sequential: has("sequential"),
        }
    }

    /// How much a device is wanted, 0 to 1000: what RFC 3841 §7.2.4 calls Qa. None: it is not to get the request. A device
    /// that said nothing of its features is wanted as any other (the RFC: it is immune).
    #[must_use]
    pub fn preference_permille(&self, feature_tags: &Parameters) -> Option<u16> {
        let device = Features::of(feature_tags);
        if device.0.is_empty() || (self.accepted.is_empty() && self.rejected.is_empty()) {
            return Some(1000);
        }
        if self.rejected.iter().any(|unwanted| unwanted.is_all_known_of(&device) && unwanted.matches(&device)) {
            return None;
        }
        let mut scores: Vec<usize> = Vec::new();
        for wish in &self.accepted {
            if !wish.features.matches(&device) {
                if wish.is_required {
                    return None;
                }
                continue;
            }
            match wish.features.known_permille(&device) {
                score @ 1000.. => scores.push(score),
                _ if wish.is_explicit && wish.is_required => return None,
                _ if wish.is_explicit => scores.push(0),
                score => scores.push(score),
            }
        }
        let mean = match scores.len() {
            // Something was wanted, and it has nothing of that.
            0 if !self.accepted.is_empty() => 0,
            0 => 1000,
            count => scores.iter().sum::<usize>() / count,
        };
        Some(u16::try_from(mean).unwrap_or(1000))
    }
}

impl Features {
    /// Those among parameters of Contact, Accept-Contact or Reject-Contact.
    fn of(parameters: &Parameters) -> Features {
        let mut features: Vec<(String, Vec<Filter>)> = Vec::new();
        for (name, value) in parameters.iter().take(MAX_TAGS) {
            let Some(tag) = tag_of(name) else { continue };
            let value = value.as_deref().unwrap_or("TRUE");
            let filters = if value.starts_with('<') && !tag.ends_with("icsi-ref") {
                vec![Filter::of(&tag, value)]
            } else {
                value.split(',').map(|value| Filter::of(&tag, value.trim())).collect()
            };
            match features.iter_mut().find(|(known, _)| *known == tag) {
                Some((_, known)) => known.extend(filters),
                None => features.push((tag, filters)),
            }
        }
        Features(features)
    }

    fn get(&self, tag: &str) -> Option<&[Filter]> {
        self.0.iter().find(|(known, _)| known == tag).map(|(_, filters)| filters.as_slice())
    }

    /// RFC 2533 §4: of every tag that both name there is a value that suits both.
    fn matches(&self, device: &Features) -> bool {
        self.0.iter().all(|(tag, wanted)| {
            device.get(tag).is_none_or(|had| wanted.iter().any(|wanted| had.iter().any(|had| wanted.suits(had))))
        })
    }

    /// The device says something of each of these tags.
    fn is_all_known_of(&self, device: &Features) -> bool {
        self.0.iter().all(|(tag, _)| device.get(tag).is_some())
    }

    /// Of how many of these tags the device says something, in thousandths of them all.
    fn known_permille(&self, device: &Features) -> usize {
        let known = self.0.iter().filter(|(tag, _)| device.get(tag).is_some()).count();
        known.saturating_mul(1000).checked_div(self.0.len()).unwrap_or(1000)
    }
}

impl Filter {
    fn of(tag: &str, text: &str) -> Filter {
        let (is_not, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let value = match text.strip_prefix('#') {
            Some(number) => range(number).map(|(from, to)| Value::Number(from, to)),
            None => None,
        };
        let inner = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
        let value = value.unwrap_or_else(|| match inner {
            _ if tag.ends_with("icsi-ref") => Value::Token(service(inner.unwrap_or(text))),
            Some(inner) => Value::Text(inner.to_owned()),
            None => Value::Token(text.to_ascii_lowercase()),
        });
        Filter { value, is_not }
    }

    /// Whether something can be both.
    fn suits(&self, other: &Filter) -> bool {
        match (self.is_not, other.is_not) {
            (false, false) => self.value.meets(&other.value),
            (true, false) => !other.value.is_within(&self.value),
            (false, true) => !self.value.is_within(&other.value),
            // There is always something else.
            (true, true) => true,
        }
    }
}

impl Value {
    fn meets(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Number(from, to), Value::Number(other_from, other_to)) => from <= other_to && other_from <= to,
            (one, other) => one == other,
        }
    }

    /// All that this can be is the other one.
    fn is_within(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Number(from, to), Value::Number(other_from, other_to)) => other_from <= from && to <= other_to,
            (one, other) => one == other,
        }
    }
}

/// Those of one value of Accept-Contact or Reject-Contact: `*;name=value…`.
fn parameters_of(value: &str) -> Option<Parameters> {
    parse_parameters(value.trim().strip_prefix('*')?).ok()
}

/// A feature tag as both ways of writing it have it (RFC 3841 §7.2.3, §8). None: another parameter.
fn tag_of(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let tag = match name.strip_prefix('+') {
        Some(tag) => tag.to_owned(),
        None if ["language", "type"].contains(&name.as_str()) => name,
        None if BASE_TAGS.contains(&name.as_str()) => format!("sip.{name}"),
        None => return None,
    };
    Some(tag.replace('!', ":").replace('\'', "/"))
}

/// A service identifier, however clients write it.
fn service(text: &str) -> String {
    percent_decoded(text).to_ascii_lowercase().replace("3gppservice", "3gpp-service")
}

/// `=5`, `>=5`, `<=5` or `4:5.125` (RFC 3840 §9).
fn range(text: &str) -> Option<(f64, f64)> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    if let Some(least) = text.strip_prefix(">=") {
        return Some((number(least)?, f64::INFINITY));
    }
    if let Some(most) = text.strip_prefix("<=") {
        return Some((f64::NEG_INFINITY, number(most)?));
    }
    if let Some(exact) = text.strip_prefix('=') {
        return number(exact).map(|exact| (exact, exact));
    }
    let (from, to) = text.split_once(':')?;
    Some((number(from)?, number(to)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::NameAddr;
    use crate::message::MessageLimits;

    fn preferences(fields: &str) -> CallerPreferences {
        let text = format!("INVITE sip:user@example.com SIP/2.0\r\n{fields}\r\n\r\n");
        CallerPreferences::of(
            &SipMessage::parse(text.into_bytes().into(), &MessageLimits::default()).expect("a request"),
        )
    }

    fn permille(preferences: &CallerPreferences, parameters: &str) -> Option<u16> {
        let contact = NameAddr::parse(&format!("<sip:u@h.example.com>{parameters}")).expect("a contact");
        preferences.preference_permille(&contact.parameters)
    }

    /// RFC 3841 §7.2.5.
    #[test]
    fn the_example_of_the_rfc_comes_out_as_it_says() {
        let preferences = preferences(
            "Reject-Contact: *;actor=\"msg-taker\";video\r\nAccept-Contact: *;audio;require\r\n\
             Accept-Contact: *;video;explicit\r\nAccept-Contact: *;methods=\"BYE\";class=\"business\";q=1.0",
        );
        let rows = [
            (";audio;video;methods=\"INVITE,BYE\";q=0.2", Some(833)),
            (";audio=\"FALSE\";methods=\"INVITE\";actor=\"msg-taker\";q=0.2", None),
            (";audio;actor=\"msg-taker\";methods=\"INVITE\";video;q=0.3", None),
            (";audio;methods=\"INVITE,OPTIONS\";q=0.2", Some(500)),
            (";q=0.5", Some(1000)),
        ];
        for (contact, expected) in rows {
            assert_eq!(permille(&preferences, contact), expected, "{contact}");
        }
    }

    #[test]
    fn a_device_gets_what_suits_it() {
        let service = "+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\"";
        let both = "+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.session,\
                    urn:urn-7:3gppService.ims.icsi.oma.cpm.msg\"";
        let other = "+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel\"";
        let rows = [
            // (preference, device, what comes of it)
            (format!("a: *;{service};require;explicit"), format!(";{both}"), Some(1000)),
            (format!("a: *;{service};require;explicit"), format!(";{other}"), None),
            (format!("a: *;{service};require;explicit"), ";audio".to_owned(), None),
            (format!("a: *;{service};require"), ";audio".to_owned(), Some(0)),
            (format!("a: *;{service}"), format!(";{other}"), Some(0)),
            (format!("a: *;{service};explicit"), ";audio".to_owned(), Some(0)),
            (format!("j: *;{service}"), format!(";{both}"), None),
            (format!("j: *;{service}"), ";audio".to_owned(), Some(1000)),
            (format!("j: *;{service};video"), format!(";{both}"), Some(1000)),
            // Who says nothing of itself is never left out.
            (format!("a: *;{service};require;explicit"), String::new(), Some(1000)),
            ("j: *;audio".to_owned(), ";transport=tcp;other=1".to_owned(), Some(1000)),
            // Neither way of writing a base tag makes it another one.
            ("a: *;+sip.audio;require;explicit".to_owned(), ";audio".to_owned(), Some(1000)),
            ("a: *;mobility=\"!fixed\";require".to_owned(), ";mobility=\"fixed\"".to_owned(), None),
            ("a: *;mobility=\"!fixed\";require".to_owned(), ";mobility=\"Mobile\"".to_owned(), Some(1000)),
            ("a: *;language=\"en,de\";require".to_owned(), ";language=\"!en\"".to_owned(), Some(1000)),
            ("a: *;language=\"en\";require".to_owned(), ";language=\"!en,!en\"".to_owned(), None),
            ("a: *;description=\"<PC>\";require".to_owned(), ";description=\"<pc>\"".to_owned(), None),
            ("a: *;class=\"BUSINESS\";require".to_owned(), ";class=\"business\"".to_owned(), Some(1000)),
            ("a: *;priority=\"#>=20\";require".to_owned(), ";priority=\"#10:30\"".to_owned(), Some(1000)),
            ("a: *;priority=\"#>=31\";require".to_owned(), ";priority=\"#10:30\"".to_owned(), None),
            ("a: *;priority=\"#<=9.5\";require".to_owned(), ";priority=\"#=9.5\"".to_owned(), Some(1000)),
            ("a: *;priority=\"!#5:40\";require".to_owned(), ";priority=\"#10:30\"".to_owned(), None),
            // What cannot be read asks for nothing.
            ("a: audio;require".to_owned(), ";video".to_owned(), Some(1000)),
            ("a: *;require".to_owned(), ";video".to_owned(), Some(1000)),
        ];
        for (fields, device, expected) in rows {
            assert_eq!(permille(&preferences(&fields), &device), expected, "{fields} {device}");
        }
    }

    #[test]
    fn how_a_request_is_to_be_handled() {
        let rows = [
            ("Subject: x", (false, false)),
            ("d: proxy, No-Fork", (true, false)),
            ("Request-Disposition: sequential\r\nd: queue", (false, true)),
            ("d: fork, parallel", (false, false)),
        ];
        for (fields, expected) in rows {
            let preferences = preferences(fields);
            assert_eq!((preferences.is_for_one, preferences.is_sequential), expected, "{fields}");
        }
    }
}
