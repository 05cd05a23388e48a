//! The MSRP wire (RFC 4975): framing, sessions, SDP negotiation. No sockets, no clock.
//!
//! * [`uri`], [`byte_range`], [`status`]: the words.
//! * [`framing`]: requests, content and responses out of a byte stream, and whose a new connection is.
//! * [`reassembly`]: which bytes of a message have come.
//! * [`session_id`]: session ids that name the shard they live on.
//! * [`session`]: one session in either role, receiving and sending.
//! * [`authorization`]: AUTH as the client of a relay (RFC 4976).
//! * [`relay`]: the relay's side, for clients that cannot be connected to.
//! * [`sdp`]: offers and answers (RFC 4975 §8, RFC 4145, RFC 6135).

pub mod authorization;
pub mod byte_range;
pub mod framing;
pub mod reassembly;
pub mod relay;
pub mod sdp;
pub mod session;
pub mod session_id;
pub mod status;
mod transaction_ids;
pub mod uri;
