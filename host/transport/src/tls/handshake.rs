use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::identity::identities;
use super::{PeerNames, Tls, TlsError};
use crate::address::NameId;
use crate::limits::TransportLimits;
use crate::permit::{Admission, ConnectionPermit, Sources};

/// What an encrypted connection may hold back of what is written: a record. Whoever takes that in time is not too slow.
const MAX_HELD_BYTES: usize = 16 * 1024;

/// An encrypted connection.
pub(crate) type SecureStream = TlsStream<TcpStream>;

/// How many handshakes may be under way, and for how long one.
#[derive(Clone, Debug)]
pub(crate) struct Handshakes {
    admission: Admission,
    within: Duration,
}

impl Handshakes {
    pub(crate) fn new(limits: &TransportLimits) -> Handshakes {
        let sources = Sources::new(limits.max_handshakes_per_source);
        Handshakes { admission: Admission::new(limits.max_handshakes, sources), within: limits.handshake_timeout }
    }

    /// The right to begin one with a peer that connected from there; none when too many are under way, or too many of one
    /// source, which must not keep everybody else out by going on with none.
    pub(crate) fn admit(&self, source: IpAddr) -> Option<ConnectionPermit> {
        self.admission.admit(source)
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
        let mut stream = accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        stream.get_mut().1.set_buffer_limit(Some(MAX_HELD_BYTES));
        Ok(stream.into())
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
        let mut connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        connected.get_mut().1.set_buffer_limit(Some(MAX_HELD_BYTES));
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
