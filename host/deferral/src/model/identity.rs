//! Time and the names of things.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z, passed in from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The end of time.
    pub const NEVER: Timestamp = Timestamp(u64::MAX);

    /// This much later, at most [`Timestamp::NEVER`].
    #[must_use]
    pub fn after(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(duration.0))
    }

    /// The time that passed since `earlier`, nothing when that is later.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

/// A span of milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub u64);

impl Duration {
    /// So many milliseconds.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Duration {
        Duration(milliseconds)
    }

    /// So many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Duration {
        Duration(seconds.saturating_mul(1000))
    }
}

/// The name of a tenant, as configured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantName(#[serde(with = "super::json::shared_text")] pub Arc<str>);

/// An address in canonical form: one text per served user whatever name was used, for example `sip:bob@example.org` or
/// `tel:+15551234567`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CanonicalAddress(#[serde(with = "super::json::shared_text")] pub Arc<str>);

/// One served user of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecipientKey {
    /// Whose user.
    pub tenant: TenantName,
    /// Which.
    pub address: CanonicalAddress,
}

impl fmt::Display for TenantName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for CanonicalAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The server's number of a stored message: the store's partition in the top eight bits, its row below. Rows grow in
/// the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub u64);

/// The server's number of a contact of one recipient; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContactId(pub u64);

/// What makes two arrivals the same message: the first 16 bytes of a SHA-256 over tenant, sender, recipient and
/// imdn.Message-ID; without one over Call-ID, From-tag, CSeq and Request-URI; for a disposition without an id of its
/// own over the id it reports on and its disposition.
///
/// Sender and recipient are who the names belong to, so that a repetition under another name of either is recognised. A
/// name may come to belong to somebody between a message and its repetition; for that, a message that was addressed or
/// asserted by a further name has a second key over the names as they were written, which never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeduplicationKey(pub [u8; 16]);
