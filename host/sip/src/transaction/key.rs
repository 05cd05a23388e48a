//! What messages are matched by.

use std::sync::Arc;

use bytes::Bytes;

use crate::header::Via;
use crate::message::{MessageLimits, SipMessage};

/// Begins every branch of RFC 3261.
pub(super) const MAGIC_COOKIE: &str = "z9hG4bK";

/// Matches repetitions, and the CANCEL and ACK of an INVITE when `method` is that (RFC 3261 §17.2.3): by branch, sent-by
/// and method; without the magic cookie by what RFC 2543 had.
pub(super) fn server_key(message: &SipMessage, via: &Via, method: &str) -> Arc<str> {
    let host = via.host.to_ascii_lowercase();
    let port = via.port.unwrap_or(0);
    match via.branch() {
        Some(branch) if branch.len() > MAGIC_COOKIE.len() && branch.starts_with(MAGIC_COOKIE) => {
            format!("{branch}\n{host}:{port}\n{method}").into()
        }
        branch => {
            let cseq = message.cseq().map(|cseq| cseq.number).unwrap_or(0);
            let from_tag = message.from().ok().and_then(|from| from.tag().map(str::to_owned)).unwrap_or_default();
            let uri = message.request_uri().unwrap_or("");
            let call_id = message.call_id().unwrap_or("");
            let branch = branch.unwrap_or("");
            format!("{branch}\n{host}:{port}\n{method}\n{uri}\n{call_id}\n{cseq}\n{from_tag}").into()
        }
    }
}

/// What two copies of one request share that came by different ways (RFC 3261 §8.2.2.2). None for requests inside a
/// dialog, which do not fork.
///
/// Deviation: the Request-URI belongs to it: a proxy that forks to two users of ours sends two messages, not one twice.
pub(super) fn merge_key(message: &SipMessage) -> Option<Arc<str>> {
    if message.to().ok()?.tag().is_some() {
        return None;
    }
    let from = message.from().ok()?;
    let cseq = message.cseq().ok()?;
    let uri = message.request_uri()?;
    Some(format!("{}\n{}\n{} {}\n{uri}", from.tag().unwrap_or(""), message.call_id()?, cseq.number, cseq.method).into())
}

/// What an ACK to a 2xx shares with it: Call-ID, CSeq number, our tag.
pub(super) fn ack_key(message: &SipMessage) -> Option<Arc<str>> {
    let to = message.to().ok()?;
    Some(format!("{}\n{}\n{}", message.call_id()?, message.cseq().ok()?.number, to.tag()?).into())
}

/// The same of a 2xx that is about to be sent.
pub(super) fn ack_key_of_response(bytes: &Bytes) -> Option<Arc<str>> {
    ack_key(&SipMessage::parse(bytes.clone(), &MessageLimits::default()).ok()?)
}
