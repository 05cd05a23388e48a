//! Finds the parts of a message in its bytes (RFC 3261 §7).

use std::ops::Range;

use super::start_line::{Method, StartLine};
use super::{Defect, HeaderField, MessageLimits, Name, ParseError};

/// Where the parts of a message are.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(super) start: StartLine,
    pub(super) fields: Vec<HeaderField>,
    pub(super) body: Range<u32>,
    pub(super) defect: Option<Defect>,
}

impl Parts {
    pub(crate) fn is_header_too_large(&self) -> bool {
        self.defect == Some(Defect::HeaderTooLarge)
    }

    /// Content-Length, if it is there once and a number.
    pub(crate) fn only_content_length(&self, data: &[u8]) -> Option<usize> {
        let mut fields = self.fields.iter().filter(|field| field.name == Name::ContentLength);
        let (field, None) = (fields.next()?, fields.next()) else { return None };
        let value = data.get(field.value_range.start as usize..field.value_range.end as usize)?;
        super::digits(std::str::from_utf8(value).ok()?).ok()
    }
}

/// Finds the parts. What can be read of a message with a defect is there, so that it can be answered.
pub(crate) fn parse(data: &[u8], limits: &MessageLimits) -> Result<Parts, ParseError> {
    let mut at = 0;
    // Empty lines before the start line are to be ignored (RFC 3261 §7.5).
    while let Some(b'\r' | b'\n') = data.get(at) {
        at += 1;
    }
    let (line, mut at) = next_line(data, at).ok_or(ParseError::Unfinished)?;
    let (start, has_version) = start_line(data, line)?;
    let mut fields = Vec::with_capacity(16);
    let mut defect = None;
    loop {
        let Some((line, next)) = next_line(data, at) else {
            defect.get_or_insert(Defect::HeaderLine);
            at = data.len();
            break;
        };
        let (end, next, folded) =
            if line.is_empty() { (line.end, next, false) } else { folded_end(data, line.end, next) };
        if next > limits.max_header_bytes || fields.len() > limits.max_header_fields {
            defect = Some(Defect::HeaderTooLarge);
            at = data.len();
            break;
        }
        at = next;
        if line.is_empty() {
            break;
        }
        match field(data, line.start..end, folded) {
            Some(field) => fields.push(field),
            None => defect = Some(Defect::HeaderLine),
        }
    }
    if !has_version && defect != Some(Defect::HeaderTooLarge) {
        defect = Some(Defect::NoVersion);
    }
    if data.len().saturating_sub(at) > limits.max_body_bytes {
        defect.get_or_insert(Defect::BodyTooLarge);
    }
    Ok(Parts { start, fields, body: range(at..data.len()), defect })
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
    if has_stray_carriage_return(value.get(value_start..value_end)?, folded) {
        return None;
    }
    Some(HeaderField {
        name: Name::from_bytes(name),
        name_range: range(line.start..line.start + name_length),
        value_range: range(value_at + value_start..value_at + value_end),
        folded,
    })
}

/// A CR that ends no line: it is read in different ways, and may not even be escaped (RFC 3261 §25.1 quoted-pair).
fn has_stray_carriage_return(value: &[u8], folded: bool) -> bool {
    let ends_line = |at: usize| folded && value.get(at + 1) == Some(&b'\n');
    value.iter().enumerate().any(|(at, byte)| *byte == b'\r' && !ends_line(at))
}

/// Also whether it names a version: a request line that does not is read as far as it goes, so that it can be answered.
fn start_line(data: &[u8], line: Range<usize>) -> Result<(StartLine, bool), ParseError> {
    let text = data.get(line.clone()).ok_or(ParseError::StartLine)?;
    if text.get(..8).is_some_and(|version| version.eq_ignore_ascii_case(b"SIP/2.0 ")) {
        return status_line(text, line).map(|start| (start, true));
    }
    let text = std::str::from_utf8(text).map_err(|_| ParseError::StartLine)?;
    let (method, rest) = text.split_once(' ').ok_or(ParseError::StartLine)?;
    if method.is_empty() || !method.bytes().all(crate::message_token) {
        return Err(ParseError::StartLine);
    }
    let trimmed = rest.trim_end_matches(' ');
    // Blanks inside the Request-URI cannot be told from those behind it: everything between the first and the last is
    // taken for the URI, whose own grammar refuses them.
    let uri_start = line.start + method.len() + 1;
    let Some((uri, version)) = trimmed.rsplit_once(' ') else {
        let is_sip =
            ["sip:", "sips:"].iter().any(|it| trimmed.get(..it.len()).is_some_and(|of| of.eq_ignore_ascii_case(it)));
        let uri = range(uri_start..uri_start + trimmed.len());
        let start =
            StartLine::Request { method: Method::from_text(method), uri, other_version: false, stray_blanks: false };
        return if is_sip { Ok((start, false)) } else { Err(ParseError::StartLine) };
    };
    if !version.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("SIP/")) {
        return Err(ParseError::StartLine);
    }
    let start = StartLine::Request {
        method: Method::from_text(method),
        uri: range(uri_start..uri_start + uri.len()),
        other_version: !version.eq_ignore_ascii_case("SIP/2.0"),
        stray_blanks: uri.starts_with(' ') || uri.ends_with(' ') || trimmed.len() != rest.len(),
    };
    Ok((start, true))
}

/// `text` begins with the version. The reason may be anything, in any encoding, or missing.
fn status_line(text: &[u8], line: Range<usize>) -> Result<StartLine, ParseError> {
    let digits = text.get(8..11).filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let status = digits.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| digits.parse().ok());
    let status = status.filter(|status| (100..700).contains(status)).ok_or(ParseError::StartLine)?;
    match text.get(11) {
        None => Ok(StartLine::Response { status, reason: range(line.end..line.end) }),
        Some(b' ') => Ok(StartLine::Response { status, reason: range(line.start + 12..line.end) }),
        Some(_) => Err(ParseError::StartLine),
    }
}

/// Messages are far smaller than 4 GiB: the limits are checked against `usize` before.
fn range(range: Range<usize>) -> Range<u32> {
    u32::try_from(range.start).unwrap_or(u32::MAX)..u32::try_from(range.end).unwrap_or(u32::MAX)
}
