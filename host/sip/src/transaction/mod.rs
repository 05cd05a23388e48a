//! Transactions (RFC 3261 §17, RFC 6026) and the endpoint that holds them.
//!
//! [`Endpoint`] is driven from outside: [`Endpoint::receive`] takes messages, [`Endpoint::poll_transmit`] and
//! [`Endpoint::poll_event`] give what is to be sent and told, [`Endpoint::next_wake`] says when to call
//! [`Endpoint::handle_wake`].
//!
//! The four machines are `client_invite`, `client_non_invite`, `server_invite` and `server_non_invite`, each with its
//! table; they know neither each other nor the endpoint, which finds the one a message is for (`key`), sends and tells
//! what the machine's `step` says, and wakes it.

mod client_invite;
mod client_non_invite;
mod derived;
mod endpoint;
mod identifiers;
mod key;
mod server_invite;
mod server_non_invite;
mod step;
mod timers;

use std::net::SocketAddr;

use bytes::Bytes;
use thiserror::Error;

use crate::message::SipMessage;
use crate::writer::WriteError;

pub use derived::forwarded;
pub use endpoint::{Endpoint, EndpointConfiguration, OVERLOAD_RETRY_AFTER_SECONDS};
pub use identifiers::{Identifiers, OwnMark, shard_of_branch, shard_of_tag};
pub use timers::TimerValues;

/// What carries SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket (RFC 7118).
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// Retransmissions are the transport's business.
    #[must_use]
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// As Via writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }

    /// As the `transport` parameter of a URI writes it, where it is not the one that goes without saying. For TLS it is what
    /// is deployed, which RFC 3261 §26.2.2 deprecates: without it nobody would know that `sip:` means TLS here.
    #[must_use]
    pub fn uri_parameter(self) -> Option<&'static str> {
        match self {
            Transport::Udp => None,
            Transport::Tcp => Some("tcp"),
            Transport::Tls => Some("tls"),
            // The same for both (RFC 7118 §5.2).
            Transport::Ws | Transport::Wss => Some("ws"),
        }
    }
}

/// Names a connection of a stream transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// Names a host that was asked for, in the numbering of whoever looked it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NameId(pub u64);

/// Where something came from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Over what.
    pub transport: Transport,
    /// Our end; unspecified where any will do.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The connection to use while it lives; a new one to `remote` else.
    pub connection: Option<ConnectionId>,
    /// The host that `remote` was looked up for: a new connection with TLS must be to it (RFC 5922 §7.2).
    pub name: Option<NameId>,
}

/// Bytes to send.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// Where to.
    pub flow: Flow,
    /// One whole message.
    pub bytes: Bytes,
    /// The client transaction that wants to know when this fails.
    pub client: Option<ClientTransactionId>,
}

/// A transaction in which we answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerTransactionId(pub u64);

/// A transaction in which we ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientTransactionId(pub u64);

/// How a request of others is passed on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passing<'a> {
    /// What its branch ends with, by which a proxy knows a request that it had before (RFC 3261 §16.6 step 8).
    pub mark: &'a str,
    /// Nothing but UDP leads there, to a client behind an address translator. Deviation: what is larger than 1300 octets goes
    /// over UDP at once, where RFC 3261 §18.1.1 wants TCP tried first: through a translator no connection can be made, and
    /// then that section falls back to UDP, too.
    pub is_by_udp_alone: bool,
}

/// What the endpoint tells its user.
#[derive(Debug)]
pub enum Event {
    /// A new request; answer with [`Endpoint::respond`].
    Request {
        /// Its transaction.
        transaction: ServerTransactionId,
        /// The request.
        message: SipMessage,
        /// Where it came from.
        flow: Flow,
    },
    /// An ACK to a 2xx.
    Ack {
        /// The INVITE's transaction, while it is known.
        transaction: Option<ServerTransactionId>,
        /// The ACK.
        message: SipMessage,
    },
    /// The caller cancelled an INVITE that has no final answer yet: answer it with 487.
    Cancelled {
        /// The INVITE's transaction.
        transaction: ServerTransactionId,
    },
    /// The user has not answered a request in time; it was answered 500 if it was an INVITE, else not at all.
    Abandoned {
        /// Its transaction.
        transaction: ServerTransactionId,
    },
    /// No ACK came for a 2xx: end the session (RFC 3261 §13.3.1.4).
    AckMissing {
        /// The INVITE's transaction.
        transaction: ServerTransactionId,
    },
    /// A response. Of an INVITE several 2xx may come.
    Response {
        /// Its transaction.
        transaction: ClientTransactionId,
        /// The response.
        message: SipMessage,
        /// Where it came from.
        flow: Flow,
    },
    /// No final answer in time (Timer B or F): as a 408.
    TimedOut {
        /// Its transaction.
        transaction: ClientTransactionId,
    },
    /// The request could not be sent: as a 503.
    NotSent {
        /// Its transaction.
        transaction: ClientTransactionId,
    },
}

/// Why a request was not taken for sending. Temporary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// Too many client transactions.
    #[error("too many client transactions")]
    Busy,
    /// The request cannot be written.
    #[error("request cannot be written: {0}")]
    Write(#[from] WriteError),
    /// Above 1300 bytes no request goes over UDP (RFC 3261 §18.1.1).
    #[error("request too large for an unreliable transport")]
    TooLargeForUdp,
}

/// Largest request over an unreliable transport (RFC 3261 §18.1.1, RFC 3428 §8).
pub const MAX_UDP_REQUEST_BYTES: usize = 1300;

/// Largest request that goes over UDP in any case: what fits into a datagram (RFC 3261 §18.1.1), less the headers below.
pub const MAX_DATAGRAM_BYTES: usize = 65_000;
