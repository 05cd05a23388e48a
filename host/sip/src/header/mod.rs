//! What stands in header fields.

mod charging_vector;
mod contact;
mod cseq;
mod date;
mod feature_tag;
mod media_type;
mod name_addr;
mod served_user;
mod token_value;
mod via;

use thiserror::Error;

pub use charging_vector::ChargingVector;
pub use contact::ContactValue;
pub use cseq::CSeq;
pub use date::{parse_date, write_date};
pub use feature_tag::{ICSI_DEFERRED, ICSI_LARGE_MESSAGE, ICSI_MESSAGE, accept_contact, icsi_values, percent_decoded};
pub use media_type::MediaType;
pub use name_addr::NameAddr;
pub use served_user::{ServedRegistration, ServedUser, SessionCase};
pub use token_value::TokenValue;
pub use via::Via;

/// What is wrong with a header field. A request gets 400, a response is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// It is not there.
    #[error("header field missing")]
    Missing,
    /// It is not what its grammar says.
    #[error("malformed header field")]
    Syntax,
    /// A number that is none, or too large.
    #[error("malformed number in header field")]
    Number,
    /// A URI that is none.
    #[error("malformed URI in header field")]
    Uri,
}

/// A value's parameters: names and values, quoted values without their quotes.
pub type Parameters = Vec<(String, Option<String>)>;

/// The elements of a comma list; commas in quoted strings and angle brackets do not separate. Empty elements are left
/// out.
pub fn split_list(value: &str) -> impl Iterator<Item = &str> {
    split_outside(value, b',').map(str::trim).filter(|element| !element.is_empty())
}

/// The parts between `separator`s that stand neither in a quoted string nor in angle brackets.
pub(crate) fn split_outside(value: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        match position_outside(text, separator) {
            Some(at) => {
                rest = text.get(at + 1..);
                text.get(..at)
            }
            None => rest.take(),
        }
    })
}

/// Where `wanted` first stands outside of quoted strings and angle brackets.
pub(crate) fn position_outside(text: &str, wanted: u8) -> Option<usize> {
    let mut quoted = false;
    let mut bracketed = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        if escaped {
            escaped = false;
            continue;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' if !bracketed => quoted = !quoted,
            _ if quoted => {}
            _ if byte == wanted && !bracketed => return Some(at),
            b'<' => bracketed = true,
            b'>' => bracketed = false,
            _ => {}
        }
    }
    None
}

/// Whether every quoted string ends.
#[must_use]
pub fn is_quoting_balanced(value: &str) -> bool {
    let mut quoted = false;
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if quoted => _ = bytes.next(),
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    !quoted
}

/// `;name=value;name="quoted";flag`; `text` begins at the first semicolon or is empty.
///
/// # Errors
/// [`HeaderError::Syntax`]
pub(crate) fn parse_parameters(text: &str) -> Result<Parameters, HeaderError> {
    parameters(text)?
        .map(|part| {
            let (name, value) = split_parameter(part)?;
            let value = match value {
                Some(quoted) if quoted.starts_with('"') => Some(unquote(quoted).ok_or(HeaderError::Syntax)?),
                value => value.map(str::to_owned),
            };
            Ok((name.to_owned(), value))
        })
        .collect()
}

/// The same without taking them to pieces.
pub(crate) fn check_parameters(text: &str) -> Result<(), HeaderError> {
    parameters(text)?.try_for_each(|part| match split_parameter(part)? {
        (_, Some(quoted)) if quoted.starts_with('"') && unquote(quoted).is_none() => Err(HeaderError::Syntax),
        _ => Ok(()),
    })
}

fn parameters(text: &str) -> Result<impl Iterator<Item = &str>, HeaderError> {
    let text = text.trim();
    let parameters = match text {
        "" => None,
        text => Some(text.strip_prefix(';').ok_or(HeaderError::Syntax)?),
    };
    Ok(parameters.into_iter().flat_map(|text| split_outside(text, b';')).map(str::trim))
}

/// Name and value, a quoted one with its quotes.
pub(crate) fn split_parameter(part: &str) -> Result<(&str, Option<&str>), HeaderError> {
    let (name, value) = match part.split_once('=') {
        Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
        None => (part, None),
    };
    if name.is_empty() || !name.bytes().all(crate::message_token) {
        return Err(HeaderError::Syntax);
    }
    match value {
        Some(value) if value.starts_with('"') => {}
        Some(value) if value.is_empty() || value.bytes().any(|byte| byte <= b' ' || byte == b'"' || byte == b',') => {
            return Err(HeaderError::Syntax);
        }
        _ => {}
    }
    Ok((name, value))
}

/// A quoted string without its quotes and escapes; none when it is not exactly one.
#[must_use]
pub(crate) fn unquote(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?;
    let mut out = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    loop {
        match characters.next()? {
            '"' => return characters.as_str().is_empty().then_some(out),
            '\\' => out.push(characters.next()?),
            other => out.push(other),
        }
    }
}

/// A value as a quoted string.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars().filter(|character| !character.is_control()) {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
    out
}

pub(crate) fn write_parameters(out: &mut String, parameters: &Parameters) {
    for (name, value) in parameters {
        out.push(';');
        out.push_str(name);
        if let Some(value) = value {
            out.push('=');
            let token =
                !value.is_empty() && value.bytes().all(|byte| crate::message_token(byte) || b":[]".contains(&byte));
            if token { out.push_str(value) } else { out.push_str(&quote(value)) }
        }
    }
}
