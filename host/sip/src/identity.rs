//! When two names are the same user: canonical forms of addresses-of-record (RFC 3261 §10.3, §19.1.4; RFC 3966 §4).

use std::net::IpAddr;

use crate::uri::{SipUri, TelUri, Uri, find_parameter, host_address};

/// One text for every way to write the same address-of-record. None for other schemes and for a SIP URI without a user.
///
/// | written | canonical |
/// |---|---|
/// | `sip:`, `sips:` | `sip:user@host`: no password, parameters, port, headers; host in lower case; escapes of unreserved characters undone |
/// | `tel:+…`; `sip:+…@host`, with or without `user=phone` | `tel:+digits` |
/// | `tel:…;phone-context=…`; the same as a user part with `user=phone` | `tel:digits;phone-context=…` |
/// | `tel:…` without a context | `tel:digits` |
/// | `sip:7042@host;user=phone` | `sip:7042@host`: a local number is its domain's own |
///
/// Deviation: a global number as the user part is taken for the number itself, which RFC 3261 §19.1.6 leaves to the
/// owner of the domain. The port is no part of an address-of-record here.
#[must_use]
pub fn canonical(uri: &Uri) -> Option<String> {
    match uri {
        Uri::Tel(tel) => Some(canonical_number(tel)),
        Uri::Sip(sip) => {
            let user = sip.user.as_deref()?;
            Some(match number_of(sip, user) {
                Some(tel) => canonical_number(&tel),
                None => format!("sip:{}@{}", unescape_unreserved(user), canonical_host(&sip.host)),
            })
        }
        Uri::Other(..) => None,
    }
}

/// The telephone number that a user part is, without asking its domain.
fn number_of(sip: &SipUri, user: &str) -> Option<TelUri> {
    let is_phone = find_parameter(&sip.parameters, "user").is_some_and(|it| it.eq_ignore_ascii_case("phone"));
    if !is_phone && !is_global_number(user.split(';').next().unwrap_or(user)) {
        return None;
    }
    match Uri::parse(&format!("tel:{user}")) {
        Ok(Uri::Tel(tel)) if tel.is_global() || tel.context().is_some() => Some(tel),
        _ => None,
    }
}

/// Lower case; IPv6 in its one canonical form (RFC 5952).
fn canonical_host(host: &str) -> String {
    match host_address(host) {
        Some(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.to_ascii_lowercase(),
    }
}

/// Whether two URIs name the same user.
#[must_use]
pub fn same_user(one: &Uri, other: &Uri) -> bool {
    matches!((canonical(one), canonical(other)), (Some(one), Some(other)) if one == other)
}

/// Whether two SIP URIs are equivalent (RFC 3261 §19.1.4).
#[must_use]
pub fn equivalent(one: &SipUri, other: &SipUri) -> bool {
    let text = |value: &Option<String>| value.as_deref().map(unescape_unreserved);
    let parameters_agree = |left: &SipUri, right: &SipUri| {
        left.parameters.iter().all(|(name, value)| {
            let theirs = right.parameters.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
            match theirs {
                Some((_, theirs)) => {
                    theirs.as_deref().unwrap_or("").eq_ignore_ascii_case(value.as_deref().unwrap_or(""))
                }
                None => {
                    !["user", "ttl", "method", "maddr", "transport"].iter().any(|must| must.eq_ignore_ascii_case(name))
                }
            }
        })
    };
    one.secure == other.secure
        && text(&one.user) == text(&other.user)
        && text(&one.password) == text(&other.password)
        && canonical_host(&one.host) == canonical_host(&other.host)
        && one.port == other.port
        && parameters_agree(one, other)
        && parameters_agree(other, one)
        && one.headers == other.headers
}

/// RFC 3966 §4: separators do not count, and a context that is a global number is compared as one.
fn canonical_number(tel: &TelUri) -> String {
    let digits = tel.digits();
    match tel.context() {
        Some(context) if !tel.is_global() => {
            let context = context.to_ascii_lowercase();
            let context = if is_global_number(&context) { without_separators(&context) } else { context };
            format!("tel:{digits};phone-context={context}")
        }
        _ => format!("tel:{digits}"),
    }
}

fn without_separators(number: &str) -> String {
    number.chars().filter(|character| !"-.()".contains(*character)).collect()
}

fn is_global_number(user: &str) -> bool {
    user.strip_prefix('+').is_some_and(|rest| {
        rest.bytes().any(|byte| byte.is_ascii_digit())
            && rest.bytes().all(|byte| byte.is_ascii_digit() || b"-.()".contains(&byte))
    })
}

/// Undoes `%XX` of unreserved characters only (RFC 3261 §19.1.2 and §25.1), so that reserved ones stay told apart.
fn unescape_unreserved(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%').then(|| bytes.get(at + 1..at + 3).and_then(hex_pair)).flatten();
        match escaped {
            Some(value) if value.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&value) => {
                out.push(value);
                at += 3;
            }
            Some(_) => {
                out.extend(bytes.get(at..at + 3).unwrap_or_default().iter().map(u8::to_ascii_uppercase));
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(pair).ok()?;
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u8::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_canonical_form_is_its_own_and_arbitrary_text_never_panics(
            text in "(sips?:|tel:)(\\+?[0-9().-]{1,9}|[a-zA-Z%0-9;=]{1,12})(@[a-zA-Z.:0-9\\[\\]]{1,9})?(;user=phone|;phone-context=[+a-z0-9.-]{1,5})?"
        ) {
            if let Ok(uri) = Uri::parse(&text) && let Some(name) = canonical(&uri) {
                let again = Uri::parse(&name).expect("a canonical name is a URI");
                prop_assert_eq!(canonical(&again), Some(name));
                prop_assert!(same_user(&uri, &again));
            }
        }
    }

    #[test]
    fn every_name_of_a_user_has_one_canonical_form() {
        for (name, expected) in [
            ("sip:bob@Example.ORG:5070;transport=tcp", Some("sip:bob@example.org")),
            ("sips:bob@example.org", Some("sip:bob@example.org")),
            ("sip:%62ob@example.org", Some("sip:bob@example.org")),
            ("sip:b%40b@example.org", Some("sip:b%40b@example.org")),
            ("sip:Bob@example.org", Some("sip:Bob@example.org")),
            ("tel:+1-555-123.4567", Some("tel:+15551234567")),
            ("sip:+1(555)1234567@example.org;user=phone", Some("tel:+15551234567")),
            ("sip:+15551234567@example.org", Some("tel:+15551234567")),
            ("tel:7042;phone-context=Example.org", Some("tel:7042;phone-context=example.org")),
            ("tel:7042;phone-context=+1-555", Some("tel:7042;phone-context=+1555")),
            ("sip:7042;phone-context=+1-555@example.org;user=phone", Some("tel:7042;phone-context=+1555")),
            ("tel:+1-555;ext=7", Some("tel:+1555")),
            ("sip:7042@example.org", Some("sip:7042@example.org")),
            ("sip:7042@Example.org;user=phone", Some("sip:7042@example.org")),
            ("sip:a@[2001:DB8:0::1]:5060", Some("sip:a@[2001:db8::1]")),
            ("sip:example.org", None),
            ("mailto:bob@example.org", None),
        ] {
            assert_eq!(canonical(&Uri::parse(name).unwrap()).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn equivalence_follows_the_rfcs_examples() {
        let sip = |text: &str| match Uri::parse(text).unwrap() {
            Uri::Sip(uri) => uri,
            _ => panic!("{text}"),
        };
        for (one, other, same) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp", true),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5", true),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5", true),
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP", false),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060", false),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp", false),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off", false),
        ] {
            assert_eq!(equivalent(&sip(one), &sip(other)), same, "{one} {other}");
        }
    }
}
