//! The MSRP wire (RFC 4975): framing, sessions, SDP negotiation. No sockets, no clock.
//!
//! * [`uri`], [`byte_range`], [`status`]: the words.
//! * [`framing`]: requests, content and responses out of a byte stream, and whose a new connection is.
//! * [`reassembly`]: which bytes of a message have come.
//! * [`session_id`]: session ids that name the shard they live on.
//! * [`session`]: one session in either role, receiving and sending.
//! * [`sdp`]: offers and answers (RFC 4975 §8, RFC 4145, RFC 6135).

pub mod byte_range;
pub mod framing;
pub mod reassembly;
pub mod sdp;
pub mod session;
pub mod session_id;
pub mod status;
pub mod uri;
