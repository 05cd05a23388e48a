//! What the transport tells its user.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use restante_sip::framing::FramingError;
use restante_sip::message::{ParseError, SipMessage};
use thiserror::Error;

use crate::address::Flow;

/// Says who sent something: it comes back when the sending fails after [`crate::Sender::send`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SendToken {
    /// The shard that sent.
    pub shard: u16,
    /// What it sent, in the shard's own counting.
    pub key: u64,
}

/// Something happened on a socket.
#[derive(Debug)]
pub enum TransportEvent {
    /// A whole message came.
    Received {
        /// What.
        message: SipMessage,
        /// From where.
        flow: Flow,
    },
    /// Something came that is no message. A stream is closed after it.
    Unreadable {
        /// The datagram; of a stream nothing.
        bytes: Bytes,
        /// From where.
        flow: Flow,
        /// Why.
        reason: Unreadable,
    },
    /// What was sent with a token did not leave, or its connection could not be made.
    SendFailed {
        /// The token given.
        token: SendToken,
        /// Why.
        failure: SendFailure,
        /// Where it was to go.
        remote: SocketAddr,
    },
    /// A connection is over. Comes once for every connection that was established, after its last message; what was not
    /// written follows as [`TransportEvent::SendFailed`]. On a connection that the peer closed
    /// ([`CloseReason::Peer`]) answers may still be sent for [`crate::TransportLimits::half_closed_timeout`].
    Closed {
        /// Which.
        flow: Flow,
        /// Why.
        reason: CloseReason,
    },
}

/// What the handler has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// More.
    Open,
    /// Nothing now: streams are not read for [`crate::TransportLimits::congested_pause`]; datagrams keep coming.
    Congested,
}

/// Takes events; called from the transport's tasks, so it must not block.
pub type Handler = Arc<dyn Fn(TransportEvent) -> Intake + Send + Sync>;

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// A datagram that is no message, or over the limits.
    #[error(transparent)]
    Datagram(#[from] ParseError),
    /// A datagram larger than [`crate::TransportLimits::max_datagram_bytes`].
    #[error("datagram too large to be read whole")]
    Truncated,
    /// Frames that are no WebSocket, or over the limits.
    #[error("no frame of WebSocket, or too large")]
    Frame,
    /// A stream that cannot be divided into messages.
    #[error(transparent)]
    Stream(#[from] FramingError),
}

/// Why something was not sent. None of them says that the peer refused it: all are temporary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendFailure {
    /// The connection is over.
    #[error("the connection is closed")]
    NoConnection,
    /// There is no listener of that protocol and address family to send from.
    #[error("no socket to send from")]
    NoListener,
    /// It is too large for a datagram.
    #[error("too large for a datagram")]
    TooLarge,
    /// Too much waits already; over TCP the connection is closed with it.
    #[error("too much waits to be sent")]
    QueueFull,
    /// Too many connections are open.
    #[error("too many connections")]
    TooManyConnections,
    /// Nobody answered there in time.
    #[error("connecting took too long")]
    ConnectTimeout,
    /// Connecting failed.
    #[error("connecting failed: {0}")]
    Connect(std::io::ErrorKind),
    /// TLS or WebSocket was not agreed on: the peer is not who it should be, or speaks something else. The log says more.
    #[error("no TLS or no WebSocket with the peer")]
    Handshake,
    /// Writing failed.
    #[error("writing failed: {0}")]
    Write(std::io::ErrorKind),
    /// The transport is shutting down.
    #[error("shutting down")]
    ShuttingDown,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed it.
    Peer,
    /// Reading or writing failed.
    Error(std::io::ErrorKind),
    /// What came cannot be divided into messages.
    Unreadable,
    /// Nothing came after it was accepted, or nothing but keep-alives.
    FirstByteTimeout,
    /// A message was not completed.
    MessageTimeout,
    /// No message for long.
    Idle,
    /// The peer does not read what it is sent.
    TooSlow,
    /// It was asked for.
    Local,
    /// The transport shut down.
    ShuttingDown,
}
