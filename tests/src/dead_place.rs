//! Where nobody is.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A place on loopback that refuses connections: its port is taken by a socket that does not listen, so that nobody else
/// comes to be there while a story is told.
pub struct DeadPlace {
    place: SocketAddr,
    _socket: TcpSocket,
}

impl DeadPlace {
    /// Of the system's choice.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn take() -> DeadPlace {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        DeadPlace { place: socket.local_addr().expect("a bound socket"), _socket: socket }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.place
    }
}
