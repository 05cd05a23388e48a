//! What a registrar does with a REGISTER (RFC 3261 §10.3, RFC 3327, RFC 5626 §6) and with the third-party REGISTER of an
//! IMS core (TS 24.229 §5.4.1.7).
//!
//! [`RegisterRequest`] is what the request asks, [`Bindings`] what is known of one address-of-record. Times are
//! milliseconds since 1970, passed in.
//!
//! A third-party REGISTER says that *somebody* can be reached through the core. Its Contact is the core, a route and no
//! device; its `Expires: 0` says that one device left, never that none is left.

mod answer;
mod apply;
mod binding;
mod embedded;
mod reported;
mod request;

use thiserror::Error;

pub use apply::{BindingChange, Bindings, ChangeKind, RegistrationOutcome};
pub use binding::{Binding, BindingId, BindingKind, Target};
pub use embedded::EmbeddedDevice;
pub use reported::ReportedDevices;
pub use request::{RegisterRequest, RequestedContact, RequestedContacts};

/// Bounds of a registrar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistrarLimits {
    /// Bindings per address-of-record, and devices known behind one core. More: 403.
    pub max_contacts: usize,
    /// A binding that asks for less, but not for 0, is refused with 423; not applied above an hour (RFC 3261 §10.3).
    pub min_expires_seconds: u32,
    /// What asks for more gets this.
    pub max_expires_seconds: u32,
    /// For a binding that asks for nothing.
    pub default_expires_seconds: u32,
    /// The same bound for a third-party registration: it lasts as long as the client's own with the core, which takes no
    /// notice of our answer.
    pub max_third_party_expires_seconds: u32,
    /// Added to a third-party registration, whose refresh comes after the client's own.
    pub third_party_grace_seconds: u32,
    /// Bytes of a binding's address, parameters and Path. More: 513.
    pub max_binding_bytes: usize,
}

impl Default for RegistrarLimits {
    fn default() -> Self {
        RegistrarLimits {
            max_contacts: 10,
            min_expires_seconds: 30,
            max_expires_seconds: 86_400,
            default_expires_seconds: 3600,
            max_third_party_expires_seconds: 700_000,
            third_party_grace_seconds: 120,
            max_binding_bytes: 8 * 1024,
        }
    }
}

/// Who registers: decides what its Contact means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Registrant {
    /// The client itself, or its edge proxy on its behalf: Contact is the client.
    Device,
    /// A core that tells us what was registered there: Contact is a route. Only for sources that are trusted with it.
    Core,
}

/// Why a REGISTER is refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RegisterError {
    /// A field that a REGISTER needs is wrong.
    #[error("{0}")]
    Malformed(&'static str),
    /// To names nobody who could be served.
    #[error("Not Found")]
    NoSuchUser,
    /// The expiry asked for is too short.
    #[error("Interval Too Brief")]
    TooBrief {
        /// For Min-Expires.
        min_expires_seconds: u32,
    },
    /// More than [`RegistrarLimits::max_contacts`].
    #[error("Too Many Contacts")]
    TooManyContacts,
    /// More than [`RegistrarLimits::max_binding_bytes`].
    #[error("Contact Too Large")]
    TooLarge,
    /// A request of the same Call-ID with a higher CSeq came before it.
    #[error("CSeq Out Of Order")]
    OutOfOrder,
}

impl RegisterError {
    /// The status to answer with; the reason phrase is the error's text.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            RegisterError::Malformed(_) | RegisterError::OutOfOrder => 400,
            RegisterError::NoSuchUser => 404,
            RegisterError::TooBrief { .. } => 423,
            RegisterError::TooManyContacts => 403,
            RegisterError::TooLarge => 513,
        }
    }

    /// Header fields that the answer needs.
    #[must_use]
    pub fn fields(self) -> Vec<rsip::Header> {
        match self {
            RegisterError::TooBrief { min_expires_seconds } => {
                vec![rsip::Header::MinExpires(min_expires_seconds.to_string().into())]
            }
            _ => Vec::new(),
        }
    }
}
