//! The subscriber's side of registration events: the `reg` package (RFC 3680) over RFC 6665.
//!
//! [`RegistrationInfo`] is one document, [`RegistrationTable`] what the documents of one subscription say together, and
//! [`Subscriber`] the subscription. Times are milliseconds since 1970, passed in.

mod document;
mod subscriber;
mod table;

pub use document::{
    DocumentError, MAX_CONTACTS, MAX_DOCUMENT_BYTES, MAX_REGISTRATIONS, RegistrationInfo, ReportedContact,
    ReportedRegistration,
};
pub use subscriber::{Notified, NotifyError, Subscriber, SubscriberSettings};
pub use table::{RegistrationTable, Taken};

/// The event package.
pub const REG: &str = "reg";
/// Its body (RFC 3680 §5).
pub const REGINFO: &str = "application/reginfo+xml";
