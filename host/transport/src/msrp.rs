//! MSRP connections that peers open (RFC 4975 §5.4): whose one is stands in the To-Path of its first request.
//!
//! The first bytes are read here and handed on together with the stream, so that the shard which has the session serves it:
//! a bare one as a socket that belongs to no runtime; an encrypted one stays with the runtime that accepted it, which wakes
//! whoever reads it.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::address::ListenerId;
use crate::counters::{TransportCounters, count};
use crate::event::SendFailure;
use crate::limits::TransportLimits;
use crate::permit::ConnectionPermit;
use crate::tls::{Handshakes, SecureStream, Tls, peer_certificate};

/// Time to write the answer to a connection that is refused.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the first bytes of a connection say.
#[derive(Debug, PartialEq, Eq)]
pub enum Peek<T> {
    /// More is needed.
    Incomplete,
    /// It belongs to this session.
    Session(T),
    /// It is no MSRP, or of no session that could be ours.
    Refused,
}

/// An accepted connection whose session is known.
#[derive(Debug)]
pub struct HandedOver<T> {
    /// What the peek found.
    pub session: T,
    /// The connection.
    pub stream: HandedStream,
    /// What was read from it already.
    pub received: Bytes,
    /// The listener it came to.
    pub listener: ListenerId,
    /// Our end.
    pub local: SocketAddr,
    /// Their end.
    pub remote: SocketAddr,
    /// To be kept as long as the stream is: it is counted until then.
    pub permit: ConnectionPermit,
}

/// A stream on its way to whoever serves it.
#[derive(Debug)]
pub enum HandedStream {
    /// Non-blocking and registered with no runtime.
    Plain(std::net::TcpStream),
    /// Encrypted.
    Encrypted(EncryptedStream),
    /// In this process: what our relay passes on for the client that has this session URI's id.
    Here(DuplexStream, String),
}

/// Encrypted, after its handshake.
#[derive(Debug)]
pub struct EncryptedStream(Box<SecureStream>);

/// A stream that can be read and written.
#[derive(Debug)]
pub enum MsrpStream {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted.
    Encrypted(EncryptedStream),
    /// In this process: to whoever shares a connection among sessions, or to a relay of our own.
    Here(DuplexStream),
}

/// By what the peer that we connect to over TLS is believed (RFC 4975 §14.4).
#[derive(Clone, Copy)]
pub enum Believed<'a> {
    /// By its certificate in DER, which its signalling named.
    ByCertificate(&'a (dyn Fn(&[u8]) -> bool + Send + Sync)),
    /// By this name or address, under which an authority signed its certificate.
    ByName(&'a str),
}

impl HandedStream {
    /// For use on the current runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn attach(self) -> std::io::Result<MsrpStream> {
        match self {
            HandedStream::Plain(stream) => TcpStream::from_std(stream).map(MsrpStream::Plain),
            HandedStream::Encrypted(stream) => Ok(MsrpStream::Encrypted(stream)),
            HandedStream::Here(stream, _) => Ok(MsrpStream::Here(stream)),
        }
    }

    /// Whether it is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        matches!(self, HandedStream::Encrypted(_))
    }

    /// The session of the client of our own relay that it is of, where it never leaves this process.
    #[must_use]
    pub fn relayed_for(&self) -> Option<&str> {
        match self {
            HandedStream::Here(_, client) => Some(client),
            HandedStream::Plain(_) | HandedStream::Encrypted(_) => None,
        }
    }

    /// The certificate that the peer showed, in DER.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        match self {
            HandedStream::Plain(_) | HandedStream::Here(..) => None,
            HandedStream::Encrypted(stream) => peer_certificate(&stream.0).map(|certificate| certificate.as_ref()),
        }
    }

    /// Writes a short answer and closes. Must be called on a runtime.
    pub fn refuse(self, answer: Bytes, permit: ConnectionPermit) {
        match self {
            HandedStream::Plain(stream) => {
                // A fresh socket's buffer takes these few bytes at once.
                use std::io::Write;
                let _ = (&stream).write(&answer);
            }
            HandedStream::Here(mut stream, _) => drop(tokio::spawn(async move {
                let _ = timeout(LAST_WORDS, stream.write_all(&answer)).await;
            })),
            // Counted as long as it lasts, which is short.
            HandedStream::Encrypted(mut stream) => drop(tokio::spawn(async move {
                let last = async {
                    stream.0.write_all(&answer).await?;
                    stream.0.shutdown().await
                };
                let _ = timeout(LAST_WORDS, last).await;
                drop(permit);
            })),
        }
    }
}

impl MsrpStream {
    /// Our end and theirs.
    ///
    /// # Errors
    /// What the system says.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        let socket = match self {
            MsrpStream::Plain(stream) => stream,
            MsrpStream::Encrypted(EncryptedStream(stream)) => stream.get_ref().0,
            MsrpStream::Here(_) => return Err(std::io::ErrorKind::Unsupported.into()),
        };
        Ok((socket.local_addr()?, socket.peer_addr()?))
    }
}

macro_rules! either {
    ($self:expr, $stream:ident => $what:expr) => {
        match $self.get_mut() {
            MsrpStream::Plain($stream) => $what,
            MsrpStream::Encrypted(EncryptedStream($stream)) => $what,
            MsrpStream::Here($stream) => $what,
        }
    };
}

impl AsyncRead for MsrpStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(context, into))
    }
}

impl AsyncWrite for MsrpStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}

/// Connects to where a path leads. The caller has asked [`crate::destination::DestinationPolicy`] before.
///
/// # Errors
/// [`SendFailure::ConnectTimeout`], [`SendFailure::Connect`]
pub async fn connect(remote: SocketAddr, within: Duration) -> Result<TcpStream, SendFailure> {
    match timeout(within, crate::tcp::open(remote)).await {
        Err(_) => Err(SendFailure::ConnectTimeout),
        Ok(Err(error)) => Err(SendFailure::Connect(error.kind())),
        Ok(Ok(stream)) => Ok(stream),
    }
}

/// The same over TLS, connecting and handshake within the one time. A certificate that signed itself is taken where the
/// signalling named it, and nowhere else.
///
/// # Errors
/// As [`connect`]; [`SendFailure::Handshake`] when the peer is not believed, or says nothing.
pub async fn connect_encrypted(
    tls: &Tls,
    remote: SocketAddr,
    believed: Believed<'_>,
    within: Duration,
) -> Result<MsrpStream, SendFailure> {
    let deadline = Instant::now() + within;
    let stream = connect(remote, within).await?;
    let agreed = async {
        match believed {
            Believed::ByName(name) => {
                // An address is believed as a name is: whoever is connected to, which may be a middlebox, has to show it.
                let (believed, name) = match name.parse::<IpAddr>() {
                    Ok(address) => (SocketAddr::new(address, remote.port()), None),
                    Err(_) => (remote, Some(tls.name(name))),
                };
                let (connector, server_name) = tls.connector(believed, name).await.map_err(std::io::Error::other)?;
                connector.connect(server_name, stream).await
            }
            Believed::ByCertificate(is_it) => {
                let connector = tls.connector_to_anybody().map_err(std::io::Error::other)?;
                let stream = connector.connect(ServerName::from(remote.ip()), stream).await?;
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let is_it = shown.is_some_and(|certificate| is_it(certificate));
                is_it.then_some(stream).ok_or_else(|| std::io::Error::other("not the certificate that was named"))
            }
        }
    };
    match timeout_at(deadline, agreed).await {
        Ok(Ok(stream)) => Ok(MsrpStream::Encrypted(EncryptedStream(Box::new(stream.into())))),
        Ok(Err(error)) => {
            tracing::warn!(%remote, %error, "the TLS handshake with the host of an MSRP path failed");
            Err(SendFailure::Handshake)
        }
        Err(_) => Err(SendFailure::Handshake),
    }
}

/// Told where somebody connected from who did not say in time for which session, or said what is no MSRP.
pub type Unclaimed = Box<dyn Fn(SocketAddr) + Send + Sync>;

/// What was found at the beginning of a connection.
enum FirstBytes<T> {
    /// Its session, and what was read for that.
    Of(T, Bytes),
    /// Nothing in time, or what is no MSRP.
    OfNoSession,
    /// It was closed before that could be told.
    Gone,
}

/// What every connection of a listener needs.
pub(crate) struct Reception<P, H> {
    pub(crate) listener: ListenerId,
    pub(crate) limits: TransportLimits,
    pub(crate) counters: Arc<TransportCounters>,
    /// Where it is encrypted.
    pub(crate) secure: Option<(Arc<Tls>, Handshakes)>,
    pub(crate) peek: P,
    pub(crate) hand_over: H,
    pub(crate) unclaimed: Unclaimed,
}

impl<P, H> Reception<P, H> {
    /// Reads until the session is known and hands the connection over, or closes it.
    pub(crate) async fn receive<T>(&self, stream: TcpStream, remote: SocketAddr, permit: ConnectionPermit)
    where
        P: Fn(&[u8]) -> Peek<T>,
        H: Fn(HandedOver<T>),
    {
        let Ok(local) = stream.local_addr() else { return };
        let Some(mut stream) = self.agreed(stream, remote).await else { return };
        let found = timeout(self.limits.msrp_first_bytes_timeout, self.find_session(&mut stream)).await;
        let (session, received) = match found.unwrap_or(FirstBytes::OfNoSession) {
            FirstBytes::Of(session, received) => (session, received),
            gone_or_not => {
                if matches!(gone_or_not, FirstBytes::OfNoSession) {
                    (self.unclaimed)(remote);
                }
                return count(&self.counters.msrp_unclaimed);
            }
        };
        let stream = match stream {
            MsrpStream::Plain(stream) => match stream.into_std() {
                Ok(stream) => HandedStream::Plain(stream),
                Err(_) => return count(&self.counters.msrp_unclaimed),
            },
            MsrpStream::Encrypted(stream) => HandedStream::Encrypted(stream),
            // Nobody in this process comes to a listener.
            MsrpStream::Here(_) => return,
        };
        (self.hand_over)(HandedOver { session, stream, received, listener: self.listener, local, remote, permit });
    }

    /// After the handshake, where there is one.
    async fn agreed(&self, stream: TcpStream, remote: SocketAddr) -> Option<MsrpStream> {
        let Some((tls, handshakes)) = &self.secure else { return Some(MsrpStream::Plain(stream)) };
        let (Some(config), Some(_under_way)) = (tls.msrp_server(), handshakes.admit(remote.ip())) else {
            count(&self.counters.handshakes_refused);
            return None;
        };
        match handshakes.accept(config, stream).await {
            Ok(stream) => {
                count(&self.counters.tls_handshakes);
                Some(MsrpStream::Encrypted(EncryptedStream(Box::new(stream))))
            }
            Err(error) => {
                tracing::debug!(%remote, %error, "no TLS with a peer that connected for MSRP");
                count(&self.counters.tls_handshakes_failed);
                None
            }
        }
    }

    async fn find_session<T>(&self, stream: &mut MsrpStream) -> FirstBytes<T>
    where
        P: Fn(&[u8]) -> Peek<T>,
    {
        let most = self.limits.max_msrp_first_bytes;
        let mut received = BytesMut::with_capacity(most.min(2_048));
        loop {
            let Some(room) = most.checked_sub(received.len()).filter(|room| *room > 0) else {
                return FirstBytes::OfNoSession;
            };
            let Ok(length) = (&mut *stream).take(room as u64).read_buf(&mut received).await else {
                return FirstBytes::Gone;
            };
            match (self.peek)(&received) {
                Peek::Session(session) => return FirstBytes::Of(session, received.freeze()),
                Peek::Refused => return FirstBytes::OfNoSession,
                Peek::Incomplete if length == 0 => return FirstBytes::Gone,
                Peek::Incomplete => {}
            }
        }
    }
}
