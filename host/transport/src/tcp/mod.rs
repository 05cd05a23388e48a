//! Streams: who listens, which connections are open, what one connection does.

mod connection;
mod listener;
mod outbox;
mod stream;
mod table;

pub(crate) use connection::over;
pub(crate) use listener::{accept_all, open_listener};
pub(crate) use outbox::{Outbox, Writer};
pub(crate) use table::{Accepted, ConnectionTable, Destination};

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// When a peer that vanished without a word is found out.
struct Patience {
    /// A connection that was quiet for so long is probed.
    quiet: Duration,
    /// So long after a probe that was not answered there is another one.
    between_probes: Duration,
    /// What was written and is not acknowledged for so long ends the connection (RFC 5482 §1 has the word, TCP_USER_TIMEOUT is
    /// the option); the system's own patience is a quarter of an hour, in which all that is sent on it is lost to its
    /// attempts. Linux ends an idle connection by it, too, with the first probe behind it: it is long enough for three.
    unacknowledged: Duration,
}

/// Of connections that we opened: what leads to a next hop is found dead before a transaction on it gives up (Timer B and F,
/// 32 s), so that the next attempt opens another.
const TO_PLACES: Patience = Patience {
    quiet: Duration::from_secs(15),
    between_probes: Duration::from_secs(5),
    unacknowledged: Duration::from_secs(30),
};
/// Of connections that clients opened: a device whose radio sleeps is woken as seldom as middleboxes let it, and not given up
/// for a tunnel.
const TO_CLIENTS: Patience = Patience {
    quiet: Duration::from_secs(45),
    between_probes: Duration::from_secs(5),
    unacknowledged: Duration::from_secs(60),
};

/// Opens a connection.
///
/// # Errors
/// What the system says.
pub(crate) async fn open(remote: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(remote).await?;
    configure(&stream, &TO_PLACES);
    Ok(stream)
}

/// Settings of every stream: small messages leave at once, and a peer that vanished without a word is found out.
fn configure(stream: &TcpStream, patience: &Patience) {
    let keep_alive = TcpKeepalive::new().with_time(patience.quiet).with_interval(patience.between_probes);
    let socket = SockRef::from(stream);
    // A system that knows none of them still carries messages.
    let _ = stream.set_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keep_alive);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_user_timeout(Some(patience.unacknowledged));
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::counters::TransportCounters;
    use crate::permit::{Admission, Sources};

    #[tokio::test]
    async fn either_end_of_a_connection_gives_up_a_peer_that_vanished() {
        let listener = open_listener("127.0.0.1:0".parse().unwrap()).unwrap();
        let place = listener.local_addr().unwrap();
        let (_go_on, stop) = watch::channel(false);
        let (sender, mut accepted) = mpsc::unbounded_channel();
        let hand_over = move |stream, _, permit| _ = sender.send((stream, permit));
        let admission = Admission::new(1, Sources::new(1));
        tokio::spawn(accept_all(listener, admission, TransportCounters::default().into(), stop, hand_over));
        let ours = open(place).await.unwrap();
        let (theirs, _permit) = accepted.recv().await.unwrap();
        for (stream, expected) in [(&ours, TO_PLACES), (&theirs, TO_CLIENTS)] {
            let socket = SockRef::from(stream);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(expected.unacknowledged));
            assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), expected.quiet);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), expected.between_probes);
            assert!(expected.quiet + 3 * expected.between_probes <= expected.unacknowledged);
        }
    }
}
