//! Messages that we make, and the changes that a proxy makes to those of others.
//!
//! What deployed clients can take: Content-Length always and in its long form, no compact names, no folding. No value
//! with CR, LF or NUL is ever written.

mod edit;

use bytes::Bytes;
use thiserror::Error;

pub use edit::Edit;

use crate::message::{Method, Name, SipMessage};

/// Why a message cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WriteError {
    /// CR, LF or NUL in a value: what would follow could be taken for another header field.
    #[error("control character in a header field")]
    ControlCharacter,
    /// A name that is no token.
    #[error("bad header field name")]
    Name,
    /// Max-Forwards is used up: 483.
    #[error("too many hops")]
    TooManyHops,
    /// A field that the message to be answered lacks.
    #[error("mandatory header field missing")]
    Missing,
}

/// Builds a message: start line, header fields in order, body.
#[derive(Clone, Debug)]
pub struct Builder {
    text: Vec<u8>,
    error: Option<WriteError>,
}

impl Builder {
    /// Begins a request.
    #[must_use]
    pub fn request(method: &Method, uri: &str) -> Builder {
        let mut builder = Builder { text: Vec::with_capacity(1024), error: None };
        builder.check(uri);
        for part in [method.as_str(), " ", uri, " SIP/2.0\r\n"] {
            builder.text.extend_from_slice(part.as_bytes());
        }
        builder
    }

    /// Begins the response to a request, also to one that [`crate::message::validate_request`] refused: Via as received with `stamped` as the topmost one, From, To with `to_tag`
    /// unless it has one, Call-ID, CSeq (RFC 3261 §8.2.6.2).
    #[must_use]
    pub fn response(
        request: &SipMessage,
        status: u16,
        reason: &str,
        stamped: Option<&str>,
        to_tag: Option<&str>,
    ) -> Builder {
        let mut builder = Builder { text: Vec::with_capacity(512), error: None };
        builder.check(reason);
        builder.text.extend_from_slice(format!("SIP/2.0 {status} {reason}\r\n").as_bytes());
        for (index, via) in request.list(Name::Via).enumerate() {
            let via = if index == 0 { stamped.unwrap_or(via) } else { via };
            builder.copy("Via", via.as_bytes(), None);
        }
        for name in [Name::From, Name::To, Name::CallId, Name::CSeq] {
            let Some(value) = request.header_bytes(name) else {
                builder.error.get_or_insert(WriteError::Missing);
                continue;
            };
            let tag = to_tag.filter(|_| name == Name::To && !has_tag(request, value));
            builder.copy(name.as_str(), value, tag);
        }
        builder
    }

    /// Begins the response to what is hardly a request: with those of the fields that it has.
    #[must_use]
    pub fn response_to_part(request: &SipMessage, status: u16, reason: &str) -> Builder {
        let mut builder = Builder { text: Vec::with_capacity(512), error: None };
        builder.check(reason);
        builder.text.extend_from_slice(format!("SIP/2.0 {status} {reason}\r\n").as_bytes());
        for name in [Name::From, Name::To, Name::CallId, Name::CSeq] {
            if let Some(value) = request.header_bytes(name) {
                builder.copy(name.as_str(), value, None);
            }
        }
        builder
    }

    /// Adds a field in rsip's vocabulary.
    #[must_use]
    pub fn header(self, header: &rsip::Header) -> Builder {
        let text = header.to_string();
        match text.split_once(':') {
            Some((name, value)) => self.field(name.trim(), value.trim()),
            None => self.failed(WriteError::Name),
        }
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Builder {
        if name.is_empty() || !name.bytes().all(crate::message_token) {
            return self.failed(WriteError::Name);
        }
        self.check(value);
        for part in [name, ": ", value, "\r\n"] {
            self.text.extend_from_slice(part.as_bytes());
        }
        self
    }

    /// Adds a field whose value came from a peer and may be folded.
    #[must_use]
    pub fn unfolded(self, name: &str, value: &str) -> Builder {
        if value.contains(['\r', '\n']) {
            self.field(name, &crate::message::unfold(value))
        } else {
            self.field(name, value)
        }
    }

    /// Adds a field if there is a value.
    #[must_use]
    pub fn optional(self, name: &str, value: Option<&str>) -> Builder {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    /// Ends it without a body.
    ///
    /// # Errors
    /// [`WriteError`], of any earlier call.
    pub fn finish(self) -> Result<Bytes, WriteError> {
        self.finish_with_body(&[])
    }

    /// Ends it with a body, whose Content-Type was added before.
    ///
    /// # Errors
    /// [`WriteError`], of any earlier call.
    pub fn finish_with_body(mut self, body: &[u8]) -> Result<Bytes, WriteError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.text.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        self.text.extend_from_slice(body);
        Ok(self.text.into())
    }

    /// Adds a value of the request to its answer, where it has to stand as it came: in any encoding, and with a NUL that
    /// its sender escaped (RFC 4475 §3.1.1.2).
    fn copy(&mut self, name: &str, value: &[u8], tag: Option<&str>) {
        for part in [name, ": "] {
            self.text.extend_from_slice(part.as_bytes());
        }
        let start = self.text.len();
        // A fold and the blanks around it become one blank (RFC 3261 §7.3.1).
        for line in value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
            if self.text.len() > start {
                self.text.push(b' ');
            }
            self.text.extend_from_slice(line);
        }
        if self.text.get(start..).is_some_and(|value| value.contains(&b'\r')) {
            self.error.get_or_insert(WriteError::ControlCharacter);
        }
        if let Some(tag) = tag {
            self.check(tag);
            for part in [";tag=", tag] {
                self.text.extend_from_slice(part.as_bytes());
            }
        }
        self.text.extend_from_slice(b"\r\n");
    }

    fn check(&mut self, value: &str) {
        if value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            self.error.get_or_insert(WriteError::ControlCharacter);
        }
    }

    fn failed(mut self, error: WriteError) -> Builder {
        self.error.get_or_insert(error);
        self
    }
}

/// Whether To has a tag already; in one that cannot be parsed whatever looks like it counts.
fn has_tag(request: &SipMessage, to: &[u8]) -> bool {
    match request.to() {
        Ok(to) => to.tag().is_some(),
        Err(_) => to.to_ascii_lowercase().windows(5).any(|window| window == b";tag="),
    }
}

/// A field in rsip's vocabulary. The known ones that this server names get their variant, the rest `Other`.
#[must_use]
pub fn rsip_header(name: &str, value: String) -> rsip::Header {
    use rsip::headers::{self as h, UntypedHeader};
    match Name::from_bytes(name.as_bytes()) {
        Name::Via => h::Via::new(value).into(),
        Name::From => h::From::new(value).into(),
        Name::To => h::To::new(value).into(),
        Name::CallId => h::CallId::new(value).into(),
        Name::CSeq => h::CSeq::new(value).into(),
        Name::MaxForwards => h::MaxForwards::new(value).into(),
        Name::Contact => h::Contact::new(value).into(),
        Name::ContentLength => h::ContentLength::new(value).into(),
        Name::ContentType => h::ContentType::new(value).into(),
        Name::ContentDisposition => h::ContentDisposition::new(value).into(),
        Name::Route => h::Route::new(value).into(),
        Name::RecordRoute => h::RecordRoute::new(value).into(),
        Name::Expires => h::Expires::new(value).into(),
        Name::Date => h::Date::new(value).into(),
        Name::Event => h::Event::new(value).into(),
        Name::Subject => h::Subject::new(value).into(),
        Name::UserAgent => h::UserAgent::new(value).into(),
        _ => rsip::Header::Other(name.to_owned(), value),
    }
}

/// The registered reason phrases (IANA, SIP response codes); that of its class for a status that has none (RFC 3261
/// §8.1.3.2).
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        417 => "Unknown Resource-Priority",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        424 => "Bad Location Information",
        428 => "Use Identity Header",
        429 => "Provide Referrer Identity",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        436 => "Bad Identity Info",
        437 => "Unsupported Credential",
        438 => "Invalid Identity Header",
        439 => "First Hop Lacks Outbound Support",
        440 => "Max-Breadth Exceeded",
        469 => "Bad Info Package",
        470 => "Consent Needed",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        555 => "Push Notification Service Not Supported",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        _ => match status / 100 {
            1 => "Session Progress",
            2 => "OK",
            3 => "Multiple Choices",
            4 => "Bad Request",
            5 => "Server Internal Error",
            _ => "Busy Everywhere",
        },
    }
}
