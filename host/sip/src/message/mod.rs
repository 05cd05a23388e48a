//! A received message: its bytes, and where its parts are.
//!
//! Relaying and storing stay byte-exact because nothing is rewritten, and reading is cheap because nothing is copied.
//! [`SipMessage::parse`] finds the parts; [`validate`] says whether a request may be processed.

mod lexer;
mod name;
mod start_line;
mod validate;

use std::ops::Range;

use bytes::Bytes;
use thiserror::Error;

pub use lexer::header_value_end;
pub(crate) use lexer::{Parts, parse as find_parts};
pub use name::Name;
pub use start_line::{Method, StartLine};
pub use validate::{MalformedRequest, validate_request, validate_response};

use crate::header::{CSeq, ContactValue, HeaderError, NameAddr, Via, split_list};

/// Bounds of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLimits {
    /// Start line and header fields.
    pub max_header_bytes: usize,
    /// Header fields.
    pub max_header_fields: usize,
    /// Body.
    pub max_body_bytes: usize,
}

impl MessageLimits {
    /// For what was written here: it may have more than what is taken from others, by what we add to that.
    pub const UNBOUNDED: MessageLimits =
        MessageLimits { max_header_bytes: usize::MAX, max_header_fields: usize::MAX, max_body_bytes: usize::MAX };
}

impl Default for MessageLimits {
    fn default() -> Self {
        MessageLimits { max_header_bytes: 32 * 1024, max_header_fields: 256, max_body_bytes: 256 * 1024 }
    }
}

/// Why bytes are no message at all: there is nothing to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// No start line of SIP.
    #[error("not a SIP start line")]
    StartLine,
    /// Not one whole line.
    #[error("no whole line")]
    Unfinished,
    /// More than [`MessageLimits`] allow.
    #[error("message over the limits")]
    TooLarge,
}

/// What is wrong with a message that can be read far enough to be answered. [`validate_request`] refuses such a request,
/// [`validate_response`] such a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The request line names no version: 400.
    NoVersion,
    /// A line of the header part is no header field or holds a lone CR, or the header part does not end: 400.
    HeaderLine,
    /// More header fields or bytes than [`MessageLimits`] allow: 513. What comes after them was not read.
    HeaderTooLarge,
    /// More body than [`MessageLimits`] allow: 413. On a stream it was not read.
    BodyTooLarge,
    /// On a stream, without the one Content-Length that would tell its end: 400. Its body was not read.
    Undelimited,
}

/// One header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderField {
    /// Its name.
    pub name: Name,
    name_range: Range<u32>,
    value_range: Range<u32>,
    /// The value holds a line fold.
    folded: bool,
}

/// A received message.
#[derive(Clone, Debug)]
pub struct SipMessage {
    bytes: Bytes,
    parts: Parts,
}

impl SipMessage {
    /// Finds the parts of a message whose body goes to the end of `bytes`; what Content-Length says is checked by
    /// [`SipMessage::delimit`].
    ///
    /// # Errors
    /// [`ParseError`]
    pub fn parse(bytes: Bytes, limits: &MessageLimits) -> Result<SipMessage, ParseError> {
        lexer::parse(&bytes, limits).map(|parts| SipMessage { parts, bytes })
    }

    /// Puts parts and the bytes they were found in together; the body goes to the end.
    pub(crate) fn from_parts(mut parts: Parts, bytes: Bytes) -> SipMessage {
        parts.body.end = u32::try_from(bytes.len()).unwrap_or(u32::MAX).max(parts.body.start);
        SipMessage { parts, bytes }
    }

    /// Notes what is wrong with it.
    pub(crate) fn set_defect(&mut self, defect: Defect) {
        self.parts.defect = Some(defect);
    }

    /// Parses a datagram: a Content-Length cuts the body, one that is larger than the datagram stays wrong and
    /// [`validate_request`] refuses it (RFC 3261 §18.3).
    ///
    /// # Errors
    /// [`ParseError`]
    pub fn from_datagram(bytes: Bytes, limits: &MessageLimits) -> Result<SipMessage, ParseError> {
        let mut message = SipMessage::parse(bytes, limits)?;
        if let Ok(Some(length)) = message.content_length() {
            message.delimit(length);
        }
        Ok(message)
    }

    /// Cuts the body to `length` bytes, if it has as many.
    pub fn delimit(&mut self, length: usize) {
        if length < self.body().len() {
            self.parts.body.end = self.parts.body.start.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        }
    }

    /// The start line.
    #[must_use]
    pub fn start(&self) -> &StartLine {
        &self.parts.start
    }

    /// The method of a request; of a response the one in CSeq.
    #[must_use]
    pub fn method(&self) -> Option<Method> {
        match &self.parts.start {
            StartLine::Request { method, .. } => Some(method.clone()),
            StartLine::Response { .. } => self.cseq().ok().map(|cseq| cseq.method),
        }
    }

    /// Whether it is a request.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.parts.start, StartLine::Request { .. })
    }

    /// The Request-URI as written.
    #[must_use]
    pub fn request_uri(&self) -> Option<&str> {
        match &self.parts.start {
            StartLine::Request { uri, .. } => self.text(uri),
            StartLine::Response { .. } => None,
        }
    }

    /// Where the Request-URI stands.
    #[must_use]
    pub fn request_uri_range(&self) -> Option<Range<usize>> {
        match &self.parts.start {
            StartLine::Request { uri, .. } => Some(uri.start as usize..uri.end as usize),
            StartLine::Response { .. } => None,
        }
    }

    /// The status of a response.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.parts.start {
            StartLine::Response { status, .. } => Some(status),
            StartLine::Request { .. } => None,
        }
    }

    /// All bytes, those behind the body included.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes of the body, shared with the message's.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.bytes.slice(self.parts.body.start as usize..self.parts.body.end as usize)
    }

    /// Where header fields end and the body begins.
    #[must_use]
    pub fn body_start(&self) -> usize {
        self.parts.body.start as usize
    }

    /// Where the line that ends the header part begins: where a further field can be added.
    #[must_use]
    pub fn header_end(&self) -> usize {
        let before = self.bytes.get(..self.body_start()).unwrap_or_default();
        let line = if before.ends_with(b"\r\n") { 2 } else { 1 };
        before.len().saturating_sub(line)
    }

    /// Where the body ends.
    #[must_use]
    pub fn body_end(&self) -> usize {
        self.parts.body.end as usize
    }

    /// All header fields in order.
    #[must_use]
    pub fn fields(&self) -> &[HeaderField] {
        &self.parts.fields
    }

    /// A field's name as written.
    #[must_use]
    pub fn field_name(&self, field: &HeaderField) -> &str {
        self.text(&field.name_range).unwrap_or("")
    }

    /// A field's value as written without surrounding blanks, folds included. Bytes that are no UTF-8 make it empty.
    #[must_use]
    pub fn field_value(&self, field: &HeaderField) -> &str {
        self.text(&field.value_range).unwrap_or("")
    }

    /// The same in whatever encoding it came.
    #[must_use]
    pub fn field_bytes(&self, field: &HeaderField) -> &[u8] {
        self.bytes.get(self.field_value_range(field)).unwrap_or_default()
    }

    /// The first value of a name in whatever encoding it came.
    #[must_use]
    pub fn header_bytes(&self, name: Name) -> Option<&[u8]> {
        self.parts.fields.iter().find(|field| field.name == name).map(|field| self.field_bytes(field))
    }

    /// Where a field's value stands.
    #[must_use]
    pub fn field_value_range(&self, field: &HeaderField) -> Range<usize> {
        field.value_range.start as usize..field.value_range.end as usize
    }

    /// Where a field's whole lines begin: at its name.
    #[must_use]
    pub fn field_start(&self, field: &HeaderField) -> usize {
        field.name_range.start as usize
    }

    /// The first value of a name.
    #[must_use]
    pub fn header(&self, name: Name) -> Option<&str> {
        self.parts.fields.iter().find(|field| field.name == name).map(|field| self.field_value(field))
    }

    /// The first value of a name that [`Name`] does not know.
    #[must_use]
    pub fn header_by_text(&self, name: &str) -> Option<&str> {
        self.parts
            .fields
            .iter()
            .find(|field| self.field_name(field).eq_ignore_ascii_case(name))
            .map(|field| self.field_value(field))
    }

    /// All values of a name, one an occurrence.
    pub fn headers(&self, name: Name) -> impl Iterator<Item = &str> {
        self.parts.fields.iter().filter(move |field| field.name == name).map(|field| self.field_value(field))
    }

    /// All elements of all values of a name whose grammar is a comma list.
    pub fn list(&self, name: Name) -> impl Iterator<Item = &str> {
        self.headers(name).flat_map(split_list)
    }

    /// How often a name occurs.
    #[must_use]
    pub fn count(&self, name: Name) -> usize {
        self.parts.fields.iter().filter(|field| field.name == name).count()
    }

    /// Call-ID.
    #[must_use]
    pub fn call_id(&self) -> Option<&str> {
        self.header(Name::CallId)
    }

    /// CSeq.
    ///
    /// # Errors
    /// [`HeaderError`]
    pub fn cseq(&self) -> Result<CSeq, HeaderError> {
        CSeq::parse(self.header(Name::CSeq).ok_or(HeaderError::Missing)?)
    }

    /// From.
    ///
    /// # Errors
    /// [`HeaderError`]
    pub fn from(&self) -> Result<NameAddr, HeaderError> {
        NameAddr::parse(self.header(Name::From).ok_or(HeaderError::Missing)?)
    }

    /// To.
    ///
    /// # Errors
    /// [`HeaderError`]
    pub fn to(&self) -> Result<NameAddr, HeaderError> {
        NameAddr::parse(self.header(Name::To).ok_or(HeaderError::Missing)?)
    }

    /// The topmost Via.
    ///
    /// # Errors
    /// [`HeaderError`]
    pub fn top_via(&self) -> Result<Via, HeaderError> {
        Via::parse(self.list(Name::Via).next().ok_or(HeaderError::Missing)?)
    }

    /// Name-addrs of a list: Route, Record-Route, Path, P-Asserted-Identity.
    ///
    /// # Errors
    /// [`HeaderError`]
    pub fn name_addrs(&self, name: Name) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(name).map(NameAddr::parse).collect()
    }

    /// Contacts.
    ///
    /// # Errors
    /// [`HeaderError`]
    pub fn contacts(&self) -> Result<Vec<ContactValue>, HeaderError> {
        self.list(Name::Contact).map(ContactValue::parse).collect()
    }

    /// Content-Length; none when absent.
    ///
    /// # Errors
    /// [`HeaderError::Number`]
    pub fn content_length(&self) -> Result<Option<usize>, HeaderError> {
        match self.header(Name::ContentLength) {
            Some(text) => digits(text).map(Some),
            None => Ok(None),
        }
    }

    /// A header field that is a number of seconds or the like, parameters and comments ignored; none when absent.
    ///
    /// # Errors
    /// [`HeaderError::Number`]
    pub fn number(&self, name: Name) -> Result<Option<u32>, HeaderError> {
        let Some(text) = self.header(name) else { return Ok(None) };
        let text = text.split([';', '(']).next().unwrap_or("").trim();
        digits(text).map(Some)
    }

    /// The option tags of Require that are not among `known`: 420 with them in Unsupported (RFC 3261 §8.2.2.3).
    pub fn unknown_extensions<'a>(&'a self, known: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.list(Name::Require).filter(|tag| !known.iter().any(|known| known.eq_ignore_ascii_case(tag)))
    }

    /// Whether the sender asks for privacy of this kind (RFC 3323 §4.2, RFC 3325 §9.3), `id` for example.
    #[must_use]
    pub fn asks_privacy(&self, kind: &str) -> bool {
        self.headers(Name::Privacy)
            .flat_map(|value| value.split([';', ',']))
            .any(|it| it.trim().eq_ignore_ascii_case(kind))
    }

    /// What keeps the message from being processed.
    #[must_use]
    pub fn defect(&self) -> Option<Defect> {
        self.parts.defect
    }

    /// The header fields in rsip's vocabulary, for code that inspects more than it forwards. Folds become blanks.
    #[must_use]
    pub fn to_rsip_headers(&self) -> rsip::Headers {
        let headers: Vec<rsip::Header> = self
            .parts
            .fields
            .iter()
            .map(|field| {
                let name = if field.name == Name::Other { self.field_name(field) } else { field.name.as_str() };
                let value =
                    if field.folded { unfold(self.field_value(field)) } else { self.field_value(field).to_owned() };
                crate::writer::rsip_header(name, value)
            })
            .collect();
        headers.into()
    }

    fn text(&self, range: &Range<u32>) -> Option<&str> {
        self.bytes.get(range.start as usize..range.end as usize).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }
}

fn digits<T: std::str::FromStr>(text: &str) -> Result<T, HeaderError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HeaderError::Number);
    }
    text.parse().map_err(|_| HeaderError::Number)
}

/// Folds and the blanks around them as one blank (RFC 3261 §7.3.1).
#[must_use]
pub fn unfold(value: &str) -> String {
    if !value.contains(['\r', '\n']) {
        return value.to_owned();
    }
    value.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
