//! The SIP wire: grammar, transactions, dialogs and registrations. No sockets, no clock.
//!
//! * [`message`]: a received message is its bytes and a list of where its parts are; everything else is read from
//!   there.
//! * [`uri`], [`header`]: what stands in header fields.
//! * [`identity`]: when two names are the same user.
//! * [`writer`]: messages that we make, and the in-place changes a proxy makes.
//! * [`framing`]: messages out of a byte stream.
//! * [`transaction`]: RFC 3261 §17 and RFC 6026.
//! * [`proxy`]: RFC 3261 §16; [`caller_preferences`]: which devices a caller wants (RFC 3841).
//! * [`dialog`], [`subscription`], [`registration`], [`registration_events`]: what lasts longer than a transaction.
//! * [`session_timer`]: RFC 4028.
//! * [`authentication`]: Digest (RFC 7616, RFC 8760).

pub mod authentication;
pub mod caller_preferences;
pub mod dialog;
pub mod framing;
pub mod header;
pub mod identity;
pub mod message;
pub mod proxy;
pub mod registration;
pub mod registration_events;
pub mod session_timer;
pub mod subscription;
pub mod transaction;
pub mod uri;
pub mod writer;

/// A time on the wall clock: milliseconds since 1970.
pub type UnixMilliseconds = u64;

/// RFC 3261 §25.1 token, for the modules of this crate.
pub(crate) fn message_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}
