//! Plain values: time, identities, messages, contacts, recipients.

mod contact;
mod identity;
mod json;
mod message;
mod recipient;

pub use contact::{Abilities, Contact, LastResult, Origin};
pub use identity::{
    CanonicalAddress, ContactId, DeduplicationKey, Duration, MessageId, RecipientKey, TenantName, Timestamp,
};
pub use message::{
    Body, BodyId, DeviceState, Dispositions, Envelope, ExpirySource, ImdnHeaders, MessageKind, Mode, NewMessage,
    RegistrationState, Sender, StoredMessage, Verification,
};
pub use recipient::{AliasChange, Counts, Delivery, Profile, ProfileChange, QueueTotals};
