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

/// Settings of every stream: small messages leave at once, and a peer that vanished without a word is found out.
pub(crate) fn configure(stream: &tokio::net::TcpStream) {
    let keep_alive = socket2::TcpKeepalive::new()
        .with_time(std::time::Duration::from_secs(60))
        .with_interval(std::time::Duration::from_secs(15));
    // A system that knows neither still carries messages.
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keep_alive);
}
