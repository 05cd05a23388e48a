use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::connection;
use super::outbox::{Outbox, Writer};
use super::table::ConnectionTable;
use crate::address::Flow;
use crate::tls::{PeerNames, SecureStream, peer_names};
use crate::web_socket::{self, WebSocket};

/// A connection that can carry messages.
pub(super) enum Stream {
    Plain(TcpStream),
    Encrypted(Box<SecureStream>),
    Web(Box<WebSocket<TcpStream>>),
    EncryptedWeb(Box<WebSocket<Box<SecureStream>>>),
}

impl Stream {
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Plain(stream) => stream.local_addr(),
            Stream::Encrypted(stream) => stream.get_ref().0.local_addr(),
            Stream::Web(socket) => socket.get_ref().inner().local_addr(),
            Stream::EncryptedWeb(socket) => socket.get_ref().inner().get_ref().0.local_addr(),
        }
    }

    pub(super) fn peer_names(&self) -> PeerNames {
        match self {
            Stream::Plain(_) | Stream::Web(_) => PeerNames::default(),
            Stream::Encrypted(stream) => peer_names(stream),
            Stream::EncryptedWeb(socket) => peer_names(socket.get_ref().inner()),
        }
    }

    pub(super) async fn serve(self, flow: Flow, outbox: &Outbox, writer: Writer, table: &Arc<ConnectionTable>) {
        match self {
            Stream::Plain(mut stream) => {
                let (from, to) = stream.split();
                connection::serve(from, to, flow, outbox, writer, table).await;
            }
            Stream::Encrypted(stream) => {
                let (from, to) = tokio::io::split(stream);
                connection::serve(from, to, flow, outbox, writer, table).await;
            }
            Stream::Web(socket) => web_socket::serve(*socket, flow, outbox, writer, table).await,
            Stream::EncryptedWeb(socket) => web_socket::serve(*socket, flow, outbox, writer, table).await,
        }
    }
}
