//! What looks like an identity. In doubt it does: a pseudonym too many costs less than one too few.

use std::net::IpAddr;

/// Schemes of addresses of people and devices.
const SCHEMES: [&str; 7] = ["sip", "sips", "tel", "im", "pres", "mailto", "urn"];
/// The same, found within a text.
const WITHIN: [&str; 6] = ["sip:", "sips:", "tel:", "mailto:", "urn:uuid:", "imei"];
/// Shorter rows of digits are numbers of something else.
const LEAST_DIGITS: usize = 7;
/// With separators between the digits: a date has eight.
const LEAST_SEPARATED_DIGITS: usize = 10;

/// The parts of a text between white space, commas, quotes and brackets, each with what follows it.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split_inclusive(is_separator).map(|part| {
        let token = part.trim_end_matches(is_separator);
        (token, part.get(token.len()..).unwrap_or_default())
    })
}

fn is_separator(character: char) -> bool {
    character.is_whitespace() || matches!(character, ',' | '<' | '>' | '"')
}

/// Whether this whole token is an address or a number.
pub(super) fn is_identity(token: &str) -> bool {
    if scheme(token).is_some() || is_number(token) {
        return true;
    }
    let is_plain = |text: &str| text.chars().all(|it| it.is_alphanumeric() || ".-_+".contains(it)) && !text.is_empty();
    token.split_once('@').is_some_and(|(user, host)| is_plain(user) && is_plain(host))
}

/// Whether there is an identity in this text.
pub(super) fn is_like_identity(text: &str) -> bool {
    let decoded = percent_decoded(&text.to_lowercase());
    decoded.contains('@')
        || WITHIN.iter().any(|mark| decoded.contains(mark))
        || tokens(&decoded).any(|(token, _)| is_identity_token(token))
        || has_number(&decoded)
        || has_uuid(&decoded)
}

fn is_identity_token(token: &str) -> bool {
    let is_address = scheme(token).is_some_and(|(scheme, _)| scheme != "urn");
    let host = host_and_port(token).0;
    let is_dotted = token.matches('.').count() == 3 || token.matches(':').count() >= 2;
    is_address || is_dotted && [token, host].iter().any(|text| text.parse::<IpAddr>().is_ok())
}

/// A known scheme and the rest.
pub(super) fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    (SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)) && !rest.is_empty()).then_some((scheme, rest))
}

/// Host and port, of which the latter begins with its colon or is empty; brackets around an IPv6 address go.
pub(super) fn host_and_port(text: &str) -> (&str, &str) {
    if let Some((host, port)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return (host, port);
    }
    match text.find(':') {
        Some(at) if text.matches(':').count() == 1 => text.split_at(at),
        _ => (text, ""),
    }
}

/// Whether the whole is a telephone number.
pub(super) fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let count = digits.chars().filter(char::is_ascii_digit).count();
    let is_clean = digits.chars().all(|it| it.is_ascii_digit() || is_visual_separator(it));
    let has_separators = digits.chars().count() > count;
    let least = if has_separators && digits.len() == text.len() { LEAST_SEPARATED_DIGITS } else { LEAST_DIGITS };
    // What a number of a store or a clock looks like, too: 13 digits are milliseconds since 1970.
    is_clean && count >= least && digits.starts_with(|it: char| it.is_ascii_digit() || it == '(')
}

fn is_visual_separator(character: char) -> bool {
    matches!(character, '-' | '.' | '(' | ')')
}

/// Whether a telephone number is somewhere in it.
fn has_number(text: &str) -> bool {
    let (mut digits, mut in_a_row, mut after_plus) = (0_usize, 0_usize, false);
    for character in text.chars() {
        if character.is_ascii_digit() {
            digits = digits.saturating_add(1);
            in_a_row = in_a_row.saturating_add(1);
        } else if is_visual_separator(character) || after_plus && character == ' ' {
            in_a_row = 0;
        } else {
            (digits, in_a_row, after_plus) = (0, 0, character == '+');
        }
        let least = if after_plus { LEAST_DIGITS } else { LEAST_SEPARATED_DIGITS };
        if in_a_row >= LEAST_DIGITS || digits >= least {
            return true;
        }
    }
    false
}

/// Whether a UUID is somewhere in it.
fn has_uuid(text: &str) -> bool {
    text.as_bytes().windows(36).any(|window| {
        window.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    })
}

/// `%40` is `@` to whoever reads it.
fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes {
        let digit = |at: usize| rest.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                bytes = rest.get(2..).unwrap_or_default();
            }
            _ => {
                decoded.push(*first);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_seen() {
        for text in [
            "sip:bob@example.org",
            "SIPS:bob@example.org;transport=tcp",
            "\"Bob\" <sip:bob@example.org>;tag=1",
            "tel:+1555",
            "bob@example.org",
            "bob%40example.org",
            "sip%3a10.0.0.1",
            "+1 555 123 4567",
            "555-123-4567",
            "5551234567",
            "10.20.30.40",
            "10.20.30.40:5060",
            "2001:db8::1",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "urn:gsma:imei:35465804-419952-0",
            "im:bob",
        ] {
            assert!(is_like_identity(text), "{text}");
        }
    }

    #[test]
    fn other_texts_are_left_alone() {
        for text in [
            "",
            "gold",
            "text/plain",
            "message/cpim",
            "Client/2.4.1 (beta)",
            "urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg",
            "audio",
            "2026-11-26",
            "12:30",
            "example.org",
            "+g.3gpp.smsip",
            "100%",
        ] {
            assert!(!is_like_identity(text), "{text}");
        }
    }
}
