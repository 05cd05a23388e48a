//! Requests that are made from another request.

use bytes::Bytes;

use crate::message::{MessageLimits, Method, Name, SipMessage};
use crate::writer::{Builder, Edit, WriteError};

/// A request as a proxy forwards it (RFC 3261 §16.6): with `via` on top and one hop less.
///
/// # Errors
/// [`WriteError`]
pub fn forwarded(message: &SipMessage, via: &str) -> Result<Bytes, WriteError> {
    let hops = message.number(Name::MaxForwards).ok().flatten().unwrap_or(70).saturating_sub(1);
    Ok(Edit::new(message).push(Name::Via, via)?.set(Name::MaxForwards, &hops.to_string())?.finish())
}

/// The ACK for a final answer other than 2xx (RFC 3261 §17.1.1.3).
pub(super) fn non_2xx_ack(invite: &Bytes, response: &SipMessage) -> Result<Bytes, WriteError> {
    like(invite, &Method::Ack, response.header(Name::To))
}

/// A CANCEL has the Request-URI, Call-ID, To, From, CSeq number, Route and topmost Via of its INVITE (RFC 3261 §9.1).
pub(super) fn cancel(invite: &Bytes) -> Result<Bytes, WriteError> {
    like(invite, &Method::Cancel, None)
}

fn like(invite: &Bytes, method: &Method, to: Option<&str>) -> Result<Bytes, WriteError> {
    let invite = SipMessage::parse(invite.clone(), &MessageLimits::UNBOUNDED).map_err(|_| WriteError::Missing)?;
    let field = |name: Name| invite.header(name).ok_or(WriteError::Missing);
    let cseq = invite.cseq().map_err(|_| WriteError::Missing)?;
    let mut builder = Builder::request(method, invite.request_uri().ok_or(WriteError::Missing)?)
        .unfolded("Via", invite.list(Name::Via).next().ok_or(WriteError::Missing)?)
        .field("Max-Forwards", "70");
    for route in invite.headers(Name::Route) {
        builder = builder.unfolded("Route", route);
    }
    builder
        .unfolded("From", field(Name::From)?)
        .unfolded("To", to.map_or_else(|| field(Name::To), Ok)?)
        .unfolded("Call-ID", field(Name::CallId)?)
        .field("CSeq", &format!("{} {method}", cseq.number))
        .finish()
}
