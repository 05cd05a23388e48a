//! MSRP connections that peers open (RFC 4975 §5.4): whose one is stands in the To-Path of its first request.
//!
//! The first bytes are read here and handed on together with the stream, as a socket that belongs to no runtime, so that
//! the shard which has the session serves it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::address::ListenerId;
use crate::counters::{TransportCounters, count};
use crate::event::SendFailure;
use crate::limits::TransportLimits;
use crate::permit::ConnectionPermit;

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
    /// The connection, non-blocking and registered with no runtime: `tokio::net::TcpStream::from_std` takes it.
    pub stream: std::net::TcpStream,
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

/// Connects to where a path leads. The caller has asked [`crate::destination::DestinationPolicy`] before.
///
/// # Errors
/// [`SendFailure::ConnectTimeout`], [`SendFailure::Connect`]
pub async fn connect(remote: SocketAddr, within: Duration) -> Result<TcpStream, SendFailure> {
    match timeout(within, TcpStream::connect(remote)).await {
        Err(_) => Err(SendFailure::ConnectTimeout),
        Ok(Err(error)) => Err(SendFailure::Connect(error.kind())),
        Ok(Ok(stream)) => {
            crate::tcp::configure(&stream);
            Ok(stream)
        }
    }
}

/// What every connection of a listener needs.
pub(crate) struct Reception<P, H> {
    pub(crate) listener: ListenerId,
    pub(crate) limits: TransportLimits,
    pub(crate) counters: Arc<TransportCounters>,
    pub(crate) peek: P,
    pub(crate) hand_over: H,
}

impl<P, H> Reception<P, H> {
    /// Reads until the session is known and hands the connection over, or closes it.
    pub(crate) async fn receive<T>(&self, mut stream: TcpStream, remote: SocketAddr, permit: ConnectionPermit)
    where
        P: Fn(&[u8]) -> Peek<T>,
        H: Fn(HandedOver<T>),
    {
        let found = timeout(self.limits.msrp_first_bytes_timeout, self.find_session(&mut stream)).await;
        let Ok(Some((session, received))) = found else { return count(&self.counters.msrp_unclaimed) };
        let (Ok(local), Ok(stream)) = (stream.local_addr(), stream.into_std()) else {
            return count(&self.counters.msrp_unclaimed);
        };
        (self.hand_over)(HandedOver { session, stream, received, listener: self.listener, local, remote, permit });
    }

    async fn find_session<T>(&self, stream: &mut TcpStream) -> Option<(T, Bytes)>
    where
        P: Fn(&[u8]) -> Peek<T>,
    {
        let most = self.limits.max_msrp_first_bytes;
        let mut received = BytesMut::with_capacity(most.min(2_048));
        loop {
            let room = most.checked_sub(received.len()).filter(|room| *room > 0)?;
            let length = (&mut *stream).take(room as u64).read_buf(&mut received).await.ok()?;
            match (self.peek)(&received) {
                Peek::Session(session) => return Some((session, received.freeze())),
                Peek::Refused => return None,
                Peek::Incomplete if length == 0 => return None,
                Peek::Incomplete => {}
            }
        }
    }
}
