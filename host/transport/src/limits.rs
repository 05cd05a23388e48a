//! Bounds of everything that peers can make grow.

use std::time::Duration;

use restante_sip::message::MessageLimits;

/// Bounds of the transport, each with what reaching it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportLimits {
    /// Header fields and body of one SIP message; over them a datagram is [`crate::Unreadable`] and a stream is closed.
    pub message: MessageLimits,
    /// Largest datagram that is read; the rest of a larger one is gone and it is [`crate::Unreadable::Truncated`].
    pub max_datagram_bytes: usize,
    /// Datagrams read from one socket before others get their turn.
    pub max_datagrams_per_turn: usize,
    /// Send and receive buffer asked for at the system, in bytes; it grants what it allows.
    pub udp_socket_buffer_bytes: usize,
    /// Datagrams of one listener that wait because the socket's buffer is full; more fail with
    /// [`crate::SendFailure::QueueFull`].
    pub max_waiting_datagrams: usize,
    /// Accepted SIP connections of one listener; more are closed at once, and so are those of one source or site beyond a
    /// quarter of them.
    pub max_connections: usize,
    /// Accepted connections of one source address, over all listeners; more are closed at once. The /48 network of IPv6 that
    /// sources are of has four times as many. STUN over UDP is answered as if each of so many flows asked twice in 24 s.
    pub max_connections_per_source: usize,
    /// Connections that we opened; further sends that need a new one fail with
    /// [`crate::SendFailure::TooManyConnections`].
    pub max_outgoing_connections: usize,
    /// Messages that wait to be written to one connection; more close it, the reader is too slow to be served.
    pub max_waiting_messages: usize,
    /// Bytes of them.
    pub max_waiting_bytes: usize,
    /// With more bytes that wait the peer is behind: nothing more is read on a connection that it opened.
    pub behind_bytes: usize,
    /// Bytes that wait to be written to all connections together; while there are more, another message closes a connection
    /// whose peer is behind.
    pub max_waiting_bytes_of_all: usize,
    /// Time for a connection of ours to be established.
    pub connect_timeout: Duration,
    /// Handshakes of TLS and WebSocket with peers that connected, under way over all listeners; a connection more is closed at
    /// once.
    pub max_handshakes: usize,
    /// Of those the most of one source address; a connection more is closed at once.
    pub max_handshakes_per_source: usize,
    /// Time for a handshake of TLS, and for one of WebSocket.
    pub handshake_timeout: Duration,
    /// Time until the first byte of the first message on an accepted connection; keep-alives do not count.
    pub first_byte_timeout: Duration,
    /// Time from the first byte of a message on a stream to its last.
    pub message_timeout: Duration,
    /// Time without a message in either direction after which a connection is closed.
    pub idle_timeout: Duration,
    /// The same of a connection that we opened for an answer alone: its peer has another one, or none.
    pub idle_timeout_of_answers: Duration,
    /// A WebSocket that a client opened is pinged when it was quiet for so long, and closed when that is not answered.
    pub web_socket_ping: Duration,
    /// Time in which the peer must take some bytes when there are any to write.
    pub write_timeout: Duration,
    /// Time for which a connection that the peer closed for its own direction stays open for our answers.
    pub half_closed_timeout: Duration,
    /// How long a stream is not read after the handler said [`crate::Intake::Congested`].
    pub congested_pause: Duration,
    /// Accepted MSRP connections of one listener; the same holds for them.
    pub max_msrp_connections: usize,
    /// Bytes read from an MSRP connection in search of the session that it belongs to; more close it.
    pub max_msrp_first_bytes: usize,
    /// Time in which they must come.
    pub msrp_first_bytes_timeout: Duration,
    /// Time that a shutdown may take to write what waits.
    pub drain_timeout: Duration,
}

impl Default for TransportLimits {
    fn default() -> Self {
        TransportLimits {
            message: MessageLimits::default(),
            max_datagram_bytes: 65_535,
            max_datagrams_per_turn: 64,
            udp_socket_buffer_bytes: 8 * 1024 * 1024,
            max_waiting_datagrams: 4_096,
            max_connections: 10_000,
            max_connections_per_source: 1_000,
            max_outgoing_connections: 10_000,
            max_waiting_messages: 1_024,
            max_waiting_bytes: 2 * 1024 * 1024,
            behind_bytes: 64 * 1024,
            max_waiting_bytes_of_all: 256 * 1024 * 1024,
            connect_timeout: Duration::from_secs(5),
            max_handshakes: 1_000,
            max_handshakes_per_source: 64,
            handshake_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(10),
            message_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(3_600),
            idle_timeout_of_answers: Duration::from_secs(32),
            web_socket_ping: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
            half_closed_timeout: Duration::from_secs(5),
            congested_pause: Duration::from_millis(10),
            max_msrp_connections: 4_096,
            max_msrp_first_bytes: 8 * 1024,
            msrp_first_bytes_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(5),
        }
    }
}
