//! Finds the parts of a message in its bytes (RFC 3261 §7).

use std::ops::Range;

use bytes::Bytes;

use super::start_line::{Method, StartLine};
use super::{HeaderField, MessageLimits, Name, ParseError, SipMessage};

pub(super) fn parse(bytes: Bytes, limits: &MessageLimits) -> Result<SipMessage, ParseError> {
    let data: &[u8] = &bytes;
    let mut at = 0;
    // Empty lines before the start line are to be ignored (RFC 3261 §7.5).
    while let Some(b'\r' | b'\n') = data.get(at) {
        at += 1;
    }
    let (line, mut at) = next_line(data, at).ok_or(ParseError::Unfinished)?;
    let start = start_line(data, line)?;
    let mut fields = Vec::with_capacity(16);
    let mut broken_line = false;
    loop {
        if at > limits.max_header_bytes {
            return Err(ParseError::TooLarge);
        }
        let (line, next) = next_line(data, at).ok_or(ParseError::Unfinished)?;
        if line.is_empty() {
            at = next;
            break;
        }
        let (end, next, folded) = folded_end(data, line.end, next);
        match field(data, line.start..end, folded) {
            Some(field) => fields.push(field),
            None => broken_line = true,
        }
        if fields.len() > limits.max_header_fields {
            return Err(ParseError::TooLarge);
        }
        at = next;
    }
    if at > limits.max_header_bytes || data.len() - at > limits.max_body_bytes {
        return Err(ParseError::TooLarge);
    }
    let body = range(at..data.len());
    Ok(SipMessage { start, fields, body, broken_line, bytes })
}

/// Where the value that begins at `start` ends, folds included: at its last line's end, without the CRLF.
#[must_use]
pub fn header_value_end(data: &[u8], start: usize) -> usize {
    match next_line(data, start) {
        Some((line, next)) => folded_end(data, line.end, next).0,
        None => data.len(),
    }
}

/// A line without its end, and where the next one begins. Ends with CRLF or LF.
fn next_line(data: &[u8], start: usize) -> Option<(Range<usize>, usize)> {
    let rest = data.get(start..)?;
    let length = rest.iter().position(|byte| *byte == b'\n')?;
    let end = if length > 0 && rest.get(length - 1) == Some(&b'\r') { start + length - 1 } else { start + length };
    Some((start..end, start + length + 1))
}

/// Takes continuation lines, those that begin with a blank, to the field.
fn folded_end(data: &[u8], mut end: usize, mut next: usize) -> (usize, usize, bool) {
    let mut folded = false;
    while let Some(b' ' | b'\t') = data.get(next) {
        let Some((line, after)) = next_line(data, next) else { break };
        folded = true;
        end = line.end;
        next = after;
    }
    (end, next, folded)
}

fn field(data: &[u8], line: Range<usize>, folded: bool) -> Option<HeaderField> {
    let text = data.get(line.clone())?;
    let colon = text.iter().position(|byte| *byte == b':')?;
    let name = text.get(..colon)?;
    let name_length = name.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |last| last + 1);
    let name = name.get(..name_length)?;
    if name.is_empty() || !name.iter().all(|byte| crate::message_token(*byte)) {
        return None;
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let value = text.get(colon + 1..)?;
    let value_start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let value_end = value.iter().rposition(|byte| !blank(byte)).map_or(value_start, |last| last + 1);
    let value_at = line.start + colon + 1;
    Some(HeaderField {
        name: Name::from_bytes(name),
        name_range: range(line.start..line.start + name_length),
        value_range: range(value_at + value_start..value_at + value_end),
        folded,
    })
}

fn start_line(data: &[u8], line: Range<usize>) -> Result<StartLine, ParseError> {
    let text = data.get(line.clone()).ok_or(ParseError::StartLine)?;
    let text = std::str::from_utf8(text).map_err(|_| ParseError::StartLine)?;
    if let Some(rest) = text.strip_prefix("SIP/2.0 ") {
        let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let valid = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
        let status = status.parse().ok().filter(|status| valid && (100..700).contains(status));
        let status = status.ok_or(ParseError::StartLine)?;
        return Ok(StartLine::Response { status, reason: range(line.end - reason.len()..line.end) });
    }
    let (method, rest) = text.split_once(' ').ok_or(ParseError::StartLine)?;
    if method.is_empty() || !method.bytes().all(crate::message_token) {
        return Err(ParseError::StartLine);
    }
    let trimmed = rest.trim_end_matches(' ');
    // Blanks inside the Request-URI cannot be told from those behind it: everything between the first and the last is
    // taken for the URI, whose own grammar refuses them.
    let (uri, version) = trimmed.rsplit_once(' ').ok_or(ParseError::StartLine)?;
    if !version.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("SIP/")) {
        return Err(ParseError::StartLine);
    }
    let uri_start = line.start + method.len() + 1;
    Ok(StartLine::Request {
        method: Method::from_text(method),
        uri: range(uri_start..uri_start + uri.len()),
        other_version: !version.eq_ignore_ascii_case("SIP/2.0"),
        stray_blanks: uri.starts_with(' ') || uri.ends_with(' ') || trimmed.len() != rest.len(),
    })
}

/// Messages are far smaller than 4 GiB: the limits are checked against `usize` before.
fn range(range: Range<usize>) -> Range<u32> {
    u32::try_from(range.start).unwrap_or(u32::MAX)..u32::try_from(range.end).unwrap_or(u32::MAX)
}
