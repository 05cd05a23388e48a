//! Offers and answers for MSRP (RFC 4975 §8, RFC 4145 and RFC 6135 for `a=setup`, RFC 6714 for `a=msrp-cema`, RFC 8122 for
//! `a=fingerprint`).
//!
//! * [`MsrpDescription::parse`] reads an offer or answer, tolerant of what clients write.
//! * [`make_offer`], [`answer`] write ours; [`answer_again`], [`describe_again`] in a session that stands.
//! * [`role_after_answer`] says what the offerer is, [`MsrpDescription::connection_places`] where the active side connects to.

mod accept_types;
mod description;
mod fingerprint;
mod negotiation;
mod place;

use thiserror::Error;

pub use self::accept_types::AcceptTypes;
pub use self::description::{ConnectionAttribute, Direction, MAX_SDP_BYTES, MsrpDescription, Setup};
pub use self::fingerprint::{Fingerprint, HashFunction};
pub use self::negotiation::{Answer, LocalMedia, answer, answer_again, describe_again, make_offer, role_after_answer};
pub use self::place::ConnectionPlace;

use crate::uri::UriError;

/// Why there can be no session. An offer is answered with [`SdpError::sip_status`]; after such an answer: ACK, BYE.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SdpError {
    /// More than [`MAX_SDP_BYTES`].
    #[error("the session description is too large")]
    TooLarge,
    /// No session description.
    #[error("the session description is malformed: {0}")]
    Malformed(String),
    /// No `m=message` over MSRP with a port.
    #[error("no MSRP media is offered")]
    NoMsrpMedia,
    /// Only MSRP over TLS, which is not turned on.
    #[error("MSRP over TLS is not supported")]
    TlsUnsupported,
    /// `a=path` is missing.
    #[error("a=path is missing")]
    MissingPath,
    /// `a=path` is malformed.
    #[error("a=path: {0}")]
    Path(#[from] UriError),
    /// `msrps` without TLS in the media's protocol, or the other way round.
    #[error("the scheme of a=path contradicts the protocol of the media")]
    SchemeMismatch,
    /// `a=setup`, `a=max-size` or `a=fingerprint` is malformed.
    #[error("a={0} is malformed")]
    Attribute(&'static str),
    /// `a=setup:holdconn`.
    #[error("the peer wants no connection for now")]
    HoldConnection,
    /// Each wants to send only, or to receive only.
    #[error("the directions have nothing in common")]
    NoCommonDirection,
}

impl SdpError {
    /// 488 Not Acceptable Here.
    #[must_use]
    pub fn sip_status(&self) -> u16 {
        488
    }
}
