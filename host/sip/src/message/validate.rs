//! Whether a message may be processed (RFC 3261 §8.1.1, §8.2, §16.3; RFC 4475).

use thiserror::Error;

use super::{Defect, Method, Name, SipMessage, StartLine};
use crate::dialog::is_token;
use crate::header::{ContactValue, NameAddr, Via, is_quoting_balanced};
use crate::uri::Uri;

/// Why a request is refused before anybody looks at what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MalformedRequest {
    /// A field that every request needs is missing, so that no answer can be addressed: drop it.
    #[error("mandatory header field missing")]
    Unanswerable,
    /// Not SIP/2.0.
    #[error("SIP version not supported")]
    Version,
    /// More header than is read.
    #[error("Message Too Large")]
    HeaderTooLarge,
    /// More body than is read.
    #[error("Request Entity Too Large")]
    BodyTooLarge,
    /// 400 with this as its reason.
    #[error("{0}")]
    Syntax(&'static str),
}

impl MalformedRequest {
    /// The status to answer with; none: do not answer.
    #[must_use]
    pub fn status(self) -> Option<u16> {
        match self {
            MalformedRequest::Unanswerable => None,
            MalformedRequest::Version => Some(505),
            MalformedRequest::HeaderTooLarge => Some(513),
            MalformedRequest::BodyTooLarge => Some(413),
            MalformedRequest::Syntax(_) => Some(400),
        }
    }
}

/// Fields that may stand once only.
const SINGLE: [Name; 9] = [
    Name::From,
    Name::To,
    Name::CallId,
    Name::CSeq,
    Name::MaxForwards,
    Name::ContentLength,
    Name::ContentType,
    Name::Expires,
    Name::Date,
];

/// Checks a request.
///
/// # Errors
/// [`MalformedRequest`]
pub fn validate_request(message: &SipMessage) -> Result<(), MalformedRequest> {
    use MalformedRequest::Syntax;
    let StartLine::Request { method, other_version, stray_blanks, .. } = message.start() else {
        return Err(MalformedRequest::Unanswerable);
    };
    if message.defect() == Some(Defect::NoVersion) {
        return Err(Syntax("SIP Version Missing"));
    }
    let mandatory = [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq];
    if message.header(Name::Via).is_none() {
        return Err(MalformedRequest::Unanswerable);
    }
    if *other_version {
        return Err(MalformedRequest::Version);
    }
    if mandatory.iter().any(|name| message.header(*name).is_none_or(str::is_empty)) {
        return Err(Syntax("Mandatory Header Field Missing"));
    }
    match message.defect() {
        Some(Defect::HeaderLine) => return Err(Syntax("Malformed Header Field")),
        Some(Defect::HeaderTooLarge) => return Err(MalformedRequest::HeaderTooLarge),
        Some(Defect::BodyTooLarge) => return Err(MalformedRequest::BodyTooLarge),
        Some(Defect::Undelimited) => return Err(Syntax("Content-Length Missing or Malformed")),
        Some(Defect::NoVersion) | None => {}
    }
    if *stray_blanks {
        return Err(Syntax("Malformed Request Line"));
    }
    if SINGLE.iter().any(|name| message.count(*name) > 1) {
        return Err(Syntax("Repeated Header Field"));
    }
    for via in message.list(Name::Via) {
        Via::check(via).map_err(|_| Syntax("Malformed Via"))?;
    }
    let cseq = message.cseq().map_err(|_| Syntax("Malformed CSeq"))?;
    if cseq.method != *method {
        return Err(Syntax("CSeq Method Mismatch"));
    }
    // What is not supported is named in the answer.
    if message.list(Name::Require).chain(message.list(Name::ProxyRequire)).any(|tag| !is_token(tag)) {
        return Err(Syntax("Malformed Option Tag"));
    }
    check_numbers(message)?;
    check_uris(message, method)
}

fn check_numbers(message: &SipMessage) -> Result<(), MalformedRequest> {
    use MalformedRequest::Syntax;
    match message.content_length() {
        Err(_) => return Err(Syntax("Malformed Content-Length")),
        Ok(Some(length)) if length > message.body().len() => return Err(Syntax("Body Shorter Than Content-Length")),
        Ok(_) => {}
    }
    if message.number(Name::MaxForwards).map_err(|_| Syntax("Malformed Max-Forwards"))?.is_some_and(|hops| hops > 255) {
        return Err(Syntax("Malformed Max-Forwards"));
    }
    // RFC 3261 §20.19 says nothing of an Expires that is no number or too large; it is refused, as the torture test of
    // RFC 4475 §3.1.2.4 allows.
    message.number(Name::Expires).map_err(|_| Syntax("Malformed Expires"))?;
    Ok(())
}

fn check_uris(message: &SipMessage, method: &Method) -> Result<(), MalformedRequest> {
    use MalformedRequest::Syntax;
    let uri = message.request_uri().ok_or(Syntax("Malformed Request-URI"))?;
    if Uri::check(uri).map_err(|_| Syntax("Malformed Request-URI"))? {
        return Err(Syntax("Header Fields in Request-URI"));
    }
    for name in [Name::From, Name::To, Name::Contact, Name::Route, Name::RecordRoute, Name::Path] {
        if !message.headers(name).all(is_quoting_balanced) {
            return Err(Syntax("Unbalanced Quotes"));
        }
    }
    NameAddr::check(message.header(Name::From).unwrap_or("")).map_err(|_| Syntax("Malformed From"))?;
    NameAddr::check(message.header(Name::To).unwrap_or("")).map_err(|_| Syntax("Malformed To"))?;
    for name in [Name::Route, Name::RecordRoute, Name::Path] {
        message.list(name).try_for_each(NameAddr::check).map_err(|_| Syntax("Malformed Route"))?;
    }
    for contact in message.list(Name::Contact) {
        if contact.trim() == "*" && *method == Method::Register {
            continue;
        }
        let contact = ContactValue::parse(contact).map_err(|_| Syntax("Malformed Contact"))?;
        // RFC 3261 §20.10: a URI with a comma, question mark or semicolon stands in angle brackets; a question mark
        // outside of them could be read in two ways that bind different things.
        if contact.address.unbracketed && contact.address.uri.as_sip().is_some_and(|uri| uri.headers.is_some()) {
            return Err(Syntax("Contact With Header Fields Not in Angle Brackets"));
        }
    }
    Ok(())
}

/// Whether a response may be used; if not it is dropped.
#[must_use]
pub fn validate_response(message: &SipMessage) -> bool {
    message.status().is_some()
        && message.defect().is_none()
        && message.top_via().is_ok()
        && message.cseq().is_ok()
        && message.call_id().is_some_and(|call_id| !call_id.is_empty())
        && message.from().is_ok()
        && message.to().is_ok()
        && message.content_length().is_ok_and(|length| length.is_none_or(|length| length <= message.body().len()))
        && message.number(Name::RetryAfter).is_ok()
}
