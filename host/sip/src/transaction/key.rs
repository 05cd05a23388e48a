//! What messages are matched by.

use std::sync::Arc;

use bytes::Bytes;

use crate::header::{Via, position_outside, split_outside};
use crate::message::{MessageLimits, Name, SipMessage};

/// Begins every branch of RFC 3261.
pub(super) const MAGIC_COOKIE: &str = "z9hG4bK";

/// Matches repetitions, and the CANCEL and ACK of an INVITE when `method` is that (RFC 3261 §17.2.3): by branch, sent-by
/// and method; without the magic cookie by what RFC 2543 had.
pub(super) fn server_key(message: &SipMessage, via: &Via, method: &str) -> Arc<str> {
    let host = via.host.to_ascii_lowercase();
    let port = via.port.unwrap_or(0).to_string();
    match via.branch() {
        Some(branch) if branch.len() > MAGIC_COOKIE.len() && branch.starts_with(MAGIC_COOKIE) => {
            key(&[branch, &host, &port, method])
        }
        branch => {
            let cseq = message.cseq().map(|cseq| cseq.number).unwrap_or(0).to_string();
            let from_tag = tag(message, Name::From).unwrap_or("");
            let uri = message.request_uri().unwrap_or("");
            let call_id = message.call_id().unwrap_or("");
            key(&[branch.unwrap_or(""), &host, &port, method, uri, call_id, &cseq, from_tag])
        }
    }
}

/// What two copies of one request share that came by different ways (RFC 3261 §8.2.2.2). None for requests inside a
/// dialog, which do not fork.
///
/// Deviation: the Request-URI belongs to it: a proxy that forks to two users of ours sends two messages, not one twice.
pub(super) fn merge_key(message: &SipMessage) -> Option<Arc<str>> {
    if tag(message, Name::To).is_some() {
        return None;
    }
    let from_tag = tag(message, Name::From).unwrap_or("");
    let cseq = message.cseq().ok()?;
    let uri = message.request_uri()?;
    Some(key(&[from_tag, message.call_id()?, &cseq.number.to_string(), cseq.method.as_str(), uri]))
}

/// What an ACK to a 2xx shares with it: Call-ID, CSeq number, our tag.
pub(super) fn ack_key(message: &SipMessage) -> Option<Arc<str>> {
    let to_tag = tag(message, Name::To)?;
    Some(key(&[message.call_id()?, &message.cseq().ok()?.number.to_string(), to_tag]))
}

/// The same of a 2xx that is about to be sent.
pub(super) fn ack_key_of_response(bytes: &Bytes) -> Option<Arc<str>> {
    ack_key(&SipMessage::parse(bytes.clone(), &MessageLimits::UNBOUNDED).ok()?)
}

/// No part can hold a line end, but a folded Call-ID, which no two messages share by chance.
fn key(parts: &[&str]) -> Arc<str> {
    parts.join("\n").into()
}

/// The tag in From or To: what parsing the whole value would give, without taking it apart. This is done for every
/// request that comes in.
fn tag(message: &SipMessage, name: Name) -> Option<&str> {
    let value = message.header(name)?;
    let parameters = match position_outside(value, b'<') {
        Some(open) => value.get(open..)?.split_once('>')?.1,
        None => value,
    };
    let tag = split_outside(parameters, b';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("tag").then(|| value.trim().trim_matches('"'))
    });
    tag.filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_tag_is_what_parsing_gives(value in "(\"[a-z<>;=\\\\]{0,5}\" ?|[a-z]{0,3})?<?sip:[a-z;=]{1,6}(;tag=[a-z]{1,2})?>?( ?; ?[a-z]{1,3}(=[a-z]{1,2})?){0,2}( ?; ?tag ?= ?[a-z0-9]{0,4}){0,2}") {
            let text = format!("MESSAGE sip:b SIP/2.0\r\nFrom: {value}\r\n\r\n");
            let message = SipMessage::parse(text.into(), &MessageLimits::default()).unwrap();
            if let Ok(from) = message.from() {
                prop_assert_eq!(tag(&message, Name::From), from.tag());
            }
        }
    }
}
