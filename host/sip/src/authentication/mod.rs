//! Digest (RFC 7616, for SIP RFC 3261 §22 and RFC 8760). No sockets, no clock: time and randomness are arguments.
//!
//! * [`Challenge`]: WWW-Authenticate and Proxy-Authenticate. [`Credentials`]: Authorization and Proxy-Authorization.
//! * [`AuthenticationInfo`]: what a server says and shows in return.
//! * [`Algorithm`], [`Variant`], [`HashOfA1`], [`response`]: what is computed from them.
//! * [`NonceKey`], [`Nonce`]: nonces that need no memory. [`NonceCounts`]: the memory that refuses a repeated one.
//!
//! It lies in this crate because it is header fields and hashes, as pure as the rest; its hash functions are the only
//! dependencies that it adds.

mod challenge;
mod credentials;
mod digest;
mod info;
mod nonce;
mod nonce_counts;
mod parameters;

pub use challenge::Challenge;
pub use credentials::{Credentials, Protection, QualityOfProtection};
pub use digest::{Algorithm, HashOfA1, Subject, Variant, is_response, response, user_hash};
pub use info::AuthenticationInfo;
pub use nonce::{Nonce, NonceError, NonceKey, Origin};
pub use nonce_counts::{CountError, NonceCounts};

/// Longest value of a header field that is read; a longer one is malformed.
pub const MAX_VALUE_BYTES: usize = 4 * 1024;
/// Most parameters of one challenge or of credentials, unknown ones included.
pub const MAX_PARAMETERS: usize = 32;
/// Most challenges that are read of one header field.
pub const MAX_CHALLENGES: usize = 16;
