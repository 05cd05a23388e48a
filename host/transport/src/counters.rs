//! What was turned away, and why.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Its name.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub meaning: &'static str,
    /// So many.
    pub count: u64,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident),* $(,)?) => {
        /// Counts since the start. Shared by reference; reading never stops a writer.
        #[derive(Debug, Default)]
        pub struct TransportCounters {
            $($(#[doc = $doc])+ pub $name: AtomicU64,)*
        }

        impl TransportCounters {
            /// Every counter.
            #[must_use]
            pub fn snapshot(&self) -> Vec<Count> {
                vec![$(Count {
                    name: stringify!($name),
                    meaning: concat!($($doc),+).trim(),
                    count: self.$name.load(Ordering::Relaxed),
                },)*]
            }
        }
    };
}

counters! {
    /// Datagrams read.
    datagrams_received,
    /// Datagrams that are no SIP message.
    datagrams_unreadable,
    /// Datagrams larger than is read.
    datagrams_truncated,
    /// Datagrams of CR and LF alone: keep-alives of clients that send over UDP what RFC 5626 §4.4.1 has for streams.
    datagrams_keep_alive,
    /// STUN keep-alives that were answered (RFC 5626 §4.4.2).
    datagrams_stun,
    /// STUN keep-alives that were not, because their source asked more often than its flows need.
    datagrams_stun_refused,
    /// Datagrams handed to the system.
    datagrams_sent,
    /// Datagrams that the system refused, or that found no room to wait.
    datagrams_not_sent,
    /// Errors of receiving sockets.
    receive_errors,
    /// Messages read from streams.
    stream_messages_received,
    /// Messages written to streams.
    stream_messages_sent,
    /// Messages whose stream could not take them.
    stream_messages_not_sent,
    /// Streams closed because what came is no SIP.
    streams_unreadable,
    /// Streams closed because the peer reads too slowly.
    streams_too_slow,
    /// Streams closed because nothing, or no whole message, came in time.
    streams_timed_out,
    /// Times that a stream was not read because the handler was congested.
    streams_paused,
    /// Connections accepted, SIP and MSRP.
    connections_accepted,
    /// Connections closed at once because the listener or the source had too many.
    connections_refused,
    /// Connections that we opened.
    connections_opened,
    /// Connections that could not be opened.
    connections_failed,
    /// TLS handshakes that came to their end, of either side.
    tls_handshakes,
    /// TLS handshakes that failed: the peer is not believed, does not believe us, speaks something else, or took too long.
    tls_handshakes_failed,
    /// Connections closed at once because too many handshakes, of TLS or WebSocket, were under way, or too many of their
    /// source.
    handshakes_refused,
    /// WebSockets that were agreed on, of either side.
    web_sockets,
    /// WebSockets that were not: another sub-protocol, a page that is not allowed, something else, or too late.
    web_sockets_refused,
    /// Errors of accepting sockets.
    accept_errors,
    /// MSRP connections closed before their session was known.
    msrp_unclaimed,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
