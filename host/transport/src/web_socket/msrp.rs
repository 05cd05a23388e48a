//! MSRP over WebSocket (RFC 7977): one request or response a message, under the sub-protocol `msrp`. Whoever serves such a
//! client gets its bytes through bounded channels and gives it whole frames.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use restante_sip::message::MessageLimits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::keep_alive::{KeepAlive, Quiet};
use super::{MSRP, WebSocket, WebSockets, accept};
use crate::counters::{TransportCounters, count};
use crate::limits::TransportLimits;
use crate::permit::ConnectionPermit;
use crate::tls::{Handshakes, Tls};

/// Messages that wait, each way; more, and the one who sends has to wait.
const MAX_WAITING: usize = 8;
/// Largest message: a chunk, which clients have to cut so that others get their turn.
const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// Time for the closing handshake.
const CLOSING: Duration = Duration::from_secs(1);

/// A client that agreed on MSRP over WebSocket.
#[derive(Debug)]
pub struct MsrpWebSocket {
    /// Its end.
    pub remote: SocketAddr,
    /// What it sends; none more once it is gone.
    pub incoming: mpsc::Receiver<Bytes>,
    /// Whole frames for it. It is closed when this is dropped.
    pub outgoing: mpsc::Sender<Bytes>,
}

/// What every connection of a listener needs.
pub(crate) struct WebReception<H> {
    pub(crate) limits: TransportLimits,
    pub(crate) counters: Arc<TransportCounters>,
    pub(crate) handshakes: Handshakes,
    /// Where it is encrypted.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) allowed: WebSockets,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) hand_over: H,
}

impl<H: Fn(MsrpWebSocket)> WebReception<H> {
    /// Serves a connection from its handshakes to its end.
    pub(crate) async fn receive(&self, stream: TcpStream, remote: SocketAddr, permit: ConnectionPermit) {
        let Some(under_way) = self.handshakes.admit(remote.ip()) else {
            return count(&self.counters.handshakes_refused);
        };
        let limits = MessageLimits { max_body_bytes: MAX_MESSAGE_BYTES, ..self.limits.message };
        let handshake = async {
            let Some(tls) = &self.tls else {
                return accept(stream, &self.allowed, &limits, MSRP)
                    .await
                    .map(|socket| Either::Plain(Box::new(socket)));
            };
            let config = tls.msrp_web_server().ok_or(std::io::ErrorKind::InvalidInput)?;
            let stream = self.handshakes.accept(config, stream).await?;
            accept(stream, &self.allowed, &limits, MSRP).await.map(|socket| Either::Encrypted(Box::new(socket)))
        };
        let agreed = timeout(self.handshakes.within(), handshake).await;
        drop(under_way);
        let socket = match agreed.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
            Ok(socket) => socket,
            Err(error) => return tracing::debug!(%remote, %error, "no WebSocket for MSRP with a peer that connected"),
        };
        count(&self.counters.web_sockets);
        let (to_host, incoming) = mpsc::channel(MAX_WAITING);
        let (outgoing, from_host) = mpsc::channel(MAX_WAITING);
        (self.hand_over)(MsrpWebSocket { remote, incoming, outgoing });
        match socket {
            Either::Plain(socket) => self.serve(*socket, to_host, from_host).await,
            Either::Encrypted(socket) => self.serve(*socket, to_host, from_host).await,
        }
        drop(permit);
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut socket: WebSocket<S>,
        to_host: mpsc::Sender<Bytes>,
        mut from_host: mpsc::Receiver<Bytes>,
    ) {
        let mut stop = self.stop.clone();
        let idle = self.limits.idle_timeout;
        let mut last = Instant::now();
        let mut keep_alive = KeepAlive::new(self.limits.web_socket_ping, last);
        loop {
            keep_alive.received(Instant::now(), socket.get_ref().received());
            // No more is read than the host has room for.
            let has_room = to_host.capacity() > 0;
            tokio::select! {
                came = socket.next(), if has_room => {
                    let Some(Ok(message)) = came else { break };
                    // That we ask whether somebody is there makes nobody less idle.
                    let is_answer = message.is_pong() && keep_alive.is_owed();
                    keep_alive.came(Instant::now());
                    if is_answer {
                        continue;
                    }
                    let is_ping = message.is_ping();
                    let sent = match message {
                        Message::Text(text) => to_host.try_send(Bytes::from(text)).is_ok(),
                        Message::Binary(bytes) => to_host.try_send(bytes).is_ok(),
                        Message::Close(_) => false,
                        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => true,
                    };
                    if !sent || (is_ping && !self.flush(&mut socket).await) {
                        break;
                    }
                }
                room = to_host.reserve(), if !has_room => {
                    if room.is_err() {
                        break;
                    }
                }
                next = from_host.recv() => {
                    let Some(bytes) = next else { break };
                    if !self.send(&mut socket, bytes).await {
                        break;
                    }
                    keep_alive.went(Instant::now());
                }
                () = tokio::time::sleep_until(keep_alive.due()) => {
                    keep_alive.received(Instant::now(), socket.get_ref().received());
                    if !has_room {
                        keep_alive.came(Instant::now());
                    }
                    match keep_alive.quiet(Instant::now()) {
                        Quiet::No => {}
                        Quiet::Ping if self.ping(&mut socket).await => {}
                        Quiet::Ping | Quiet::Gone => break,
                    }
                    continue;
                }
                () = tokio::time::sleep_until(last + idle) => break,
                () = async { drop(stop.wait_for(|stop| *stop).await) } => break,
            }
            last = Instant::now();
        }
        // What the host said last is written, in its time.
        let rest = async {
            from_host.close();
            while let Some(bytes) = from_host.recv().await {
                if !self.send(&mut socket, bytes).await {
                    return;
                }
            }
        };
        let _ = timeout(self.limits.drain_timeout, rest).await;
        let _ = timeout(CLOSING, socket.close(None)).await;
    }

    /// One frame in one message, text where it is text. False: the client does not take it.
    async fn send<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: &mut WebSocket<S>, bytes: Bytes) -> bool {
        let message = match Utf8Bytes::try_from(bytes.clone()) {
            Ok(text) => Message::Text(text),
            Err(_) => Message::Binary(bytes),
        };
        matches!(timeout(self.limits.write_timeout, socket.send(message)).await, Ok(Ok(())))
    }

    async fn ping<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: &mut WebSocket<S>) -> bool {
        matches!(timeout(self.limits.write_timeout, socket.send(Message::Ping(Bytes::new()))).await, Ok(Ok(())))
    }

    async fn flush<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: &mut WebSocket<S>) -> bool {
        matches!(timeout(self.limits.write_timeout, socket.flush()).await, Ok(Ok(())))
    }
}

enum Either {
    Plain(Box<WebSocket<TcpStream>>),
    Encrypted(Box<WebSocket<crate::tls::SecureStream>>),
}
