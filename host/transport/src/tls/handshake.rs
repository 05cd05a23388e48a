use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::identity::identities;
use super::{PeerNames, Tls, TlsError};
use crate::address::NameId;
use crate::limits::TransportLimits;

/// An encrypted connection.
pub(crate) type SecureStream = TlsStream<TcpStream>;

/// How many handshakes may be under way, and for how long one.
#[derive(Clone, Debug)]
pub(crate) struct Handshakes {
    permits: Arc<Semaphore>,
    within: Duration,
}

impl Handshakes {
    pub(crate) fn new(limits: &TransportLimits) -> Handshakes {
        let permits = Arc::new(Semaphore::new(limits.max_handshakes.min(Semaphore::MAX_PERMITS)));
        Handshakes { permits, within: limits.handshake_timeout }
    }

    /// The right to begin one with a peer that connected; none when too many are under way.
    pub(crate) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// How long one may take.
    pub(crate) fn within(&self) -> Duration {
        self.within
    }

    /// As the side that was connected to.
    ///
    /// # Errors
    /// What is wrong with the peer; [`io::ErrorKind::TimedOut`] when it took too long.
    pub(crate) async fn accept(&self, config: Arc<ServerConfig>, stream: TcpStream) -> io::Result<SecureStream> {
        let accepted = timeout(self.within, TlsAcceptor::from(config).accept(stream)).await;
        accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(TlsStream::from)
    }

    /// As the side that connected.
    ///
    /// # Errors
    /// What is wrong with the peer or with our own files; [`io::ErrorKind::TimedOut`] when it took too long.
    pub(crate) async fn connect(
        &self,
        tls: &Tls,
        stream: TcpStream,
        remote: SocketAddr,
        name: Option<NameId>,
    ) -> io::Result<(SecureStream, PeerNames)> {
        let (connector, server_name) = tls.connector(remote, name).await.map_err(TlsError::into_io)?;
        let verified: PeerNames = Arc::from([server_name.to_str().into_owned().into_boxed_str()]);
        let connected = timeout(self.within, connector.connect(server_name, stream)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        Ok((TlsStream::from(connected), verified))
    }
}

/// Whom the peer's certificate names; nobody where it showed none.
pub(crate) fn peer_names(stream: &SecureStream) -> PeerNames {
    peer_certificate(stream).map(identities).unwrap_or_default().into()
}

/// The peer's certificate, where it showed one.
pub(crate) fn peer_certificate(stream: &SecureStream) -> Option<&CertificateDer<'static>> {
    stream.get_ref().1.peer_certificates()?.first()
}
