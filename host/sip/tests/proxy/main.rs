//! The response context (RFC 3261 §16.7 to §16.10) and what a proxy sends on (§16.4, §16.6).

mod contexts;
mod messages;

use bytes::Bytes;
use restante_sip::message::{MessageLimits, SipMessage};

fn message(text: &str) -> SipMessage {
    SipMessage::from_datagram(Bytes::copy_from_slice(text.as_bytes()), &MessageLimits::default()).unwrap()
}

fn answer(status: u16) -> SipMessage {
    message(&format!(
        "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK0\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>;tag=2\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n\r\n"
    ))
}
