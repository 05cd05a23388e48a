//! Datagrams.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use restante_sip::message::SipMessage;
use rustix::io::Errno;
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};

use crate::address::{Flow, ListenerId, Protocol};
use crate::counters::{TransportCounters, count};
use crate::event::{Handler, SendFailure, SendToken, TransportEvent, Unreadable};
use crate::limits::TransportLimits;
use crate::permit::lock;
use crate::stun::{self, StunAnswers};

/// Sends from one listener's socket; for any thread.
#[derive(Clone, Debug)]
pub(crate) struct UdpSender {
    /// The same socket as the receiver's, outside of its runtime: the usual send is one system call on the caller's
    /// thread.
    socket: Arc<StdUdpSocket>,
    waiting: mpsc::Sender<Waiting>,
    counters: Arc<TransportCounters>,
}

/// A datagram that the socket's buffer had no room for.
#[derive(Debug)]
struct Waiting {
    remote: SocketAddr,
    bytes: Bytes,
    token: Option<SendToken>,
}

/// What a listener's tasks share.
struct UdpListener {
    socket: UdpSocket,
    id: ListenerId,
    local: SocketAddr,
    limits: TransportLimits,
    counters: Arc<TransportCounters>,
    handler: Handler,
    stun_answers: Mutex<StunAnswers>,
}

impl UdpSender {
    /// Sends now, or as soon as the socket has room.
    ///
    /// # Errors
    /// [`SendFailure`]
    pub(crate) fn send(&self, remote: SocketAddr, bytes: Bytes, token: Option<SendToken>) -> Result<(), SendFailure> {
        let failure = match self.socket.send_to(&bytes, remote) {
            Ok(_) => {
                count(&self.counters.datagrams_sent);
                return Ok(());
            }
            Err(error) if has_no_room(&error) => match self.waiting.try_send(Waiting { remote, bytes, token }) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(_)) => SendFailure::QueueFull,
                Err(mpsc::error::TrySendError::Closed(_)) => SendFailure::ShuttingDown,
            },
            Err(error) => failure_of(&error),
        };
        count(&self.counters.datagrams_not_sent);
        Err(failure)
    }
}

/// Opens the socket and starts its tasks on the current runtime; they end when `stop` says so.
///
/// # Errors
/// Whatever the system says.
pub(crate) fn start(
    bind: SocketAddr,
    id: ListenerId,
    limits: TransportLimits,
    counters: Arc<TransportCounters>,
    handler: Handler,
    stop: watch::Receiver<bool>,
) -> io::Result<(SocketAddr, UdpSender)> {
    let socket = open(bind, limits.udp_socket_buffer_bytes)?;
    let local = socket.local_addr()?;
    let (waiting, waiting_receiver) = mpsc::channel(limits.max_waiting_datagrams.max(1));
    let sender = UdpSender { socket: Arc::new(socket.try_clone()?), waiting, counters: Arc::clone(&counters) };
    let socket = UdpSocket::from_std(socket)?;
    let stun_answers = Mutex::new(StunAnswers::new(limits.max_connections_per_source, Instant::now()));
    let listener = Arc::new(UdpListener { socket, id, local, limits, counters, handler, stun_answers });
    tokio::spawn(receive_all(Arc::clone(&listener), stop.clone()));
    tokio::spawn(send_waiting(listener, waiting_receiver, stop));
    Ok((local, sender))
}

fn open(bind: SocketAddr, buffer_bytes: usize) -> io::Result<StdUdpSocket> {
    let socket = Socket::new(Domain::for_address(bind), Type::DGRAM, Some(SocketProtocol::UDP))?;
    if bind.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The system cuts what is too much, or refuses; either way a smaller buffer is no reason not to start.
    let _ = socket.set_recv_buffer_size(buffer_bytes);
    let _ = socket.set_send_buffer_size(buffer_bytes);
    socket.set_nonblocking(true)?;
    socket.bind(&bind.into())?;
    Ok(socket.into())
}

async fn receive_all(listener: Arc<UdpListener>, mut stop: watch::Receiver<bool>) {
    // One byte more than allowed tells a datagram that was cut from one that just fits.
    let mut buffer = vec![0; listener.limits.max_datagram_bytes.saturating_add(1)];
    loop {
        tokio::select! {
            ready = listener.socket.readable() => match ready {
                Ok(()) => listener.receive_batch(&mut buffer),
                Err(_) => count(&listener.counters.receive_errors),
            },
            _ = stop.wait_for(|stop| *stop) => return,
        }
        tokio::task::yield_now().await;
    }
}

impl UdpListener {
    fn receive_batch(&self, buffer: &mut [u8]) {
        for _ in 0..self.limits.max_datagrams_per_turn {
            match self.socket.try_recv_from(buffer) {
                Ok((length, remote)) => self.received(buffer.get(..length).unwrap_or_default(), remote),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Errors of earlier sends can surface here; they say nothing about this socket.
                Err(_) => count(&self.counters.receive_errors),
            }
        }
    }

    fn received(&self, datagram: &[u8], remote: SocketAddr) {
        count(&self.counters.datagrams_received);
        let flow =
            Flow { protocol: Protocol::Udp, listener: Some(self.id), local: self.local, remote, connection: None };
        if datagram.len() > self.limits.max_datagram_bytes {
            count(&self.counters.datagrams_truncated);
            let bytes = Bytes::copy_from_slice(datagram);
            (self.handler)(TransportEvent::Unreadable { bytes, flow, reason: Unreadable::Truncated });
            return;
        }
        if datagram.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            count(&self.counters.datagrams_keep_alive);
            return;
        }
        if stun::is_stun(datagram) {
            self.answer_stun(datagram, remote);
            return;
        }
        let bytes = Bytes::copy_from_slice(datagram);
        match SipMessage::from_datagram(bytes.clone(), &self.limits.message) {
            Ok(message) => (self.handler)(TransportEvent::Received { message, flow }),
            Err(error) => {
                count(&self.counters.datagrams_unreadable);
                (self.handler)(TransportEvent::Unreadable { bytes, flow, reason: error.into() })
            }
        };
    }

    fn answer_stun(&self, datagram: &[u8], remote: SocketAddr) {
        let Some(answer) = stun::answer(datagram, remote) else { return };
        if !lock(&self.stun_answers).may_answer(remote.ip(), Instant::now()) {
            count(&self.counters.datagrams_stun_refused);
            return;
        }
        // A keep-alive whose answer finds no room comes again.
        if self.socket.try_send_to(&answer, remote).is_ok() {
            count(&self.counters.datagrams_stun);
        }
    }
}

/// Sends what the socket's buffer had no room for, in order.
async fn send_waiting(
    listener: Arc<UdpListener>,
    mut waiting: mpsc::Receiver<Waiting>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let next = tokio::select! {
            next = waiting.recv() => next,
            _ = stop.wait_for(|stop| *stop), if !waiting.is_closed() => {
                // What waits already is still sent.
                waiting.close();
                continue;
            }
        };
        let Some(Waiting { remote, bytes, token }) = next else { return };
        match listener.socket.send_to(&bytes, remote).await {
            Ok(_) => count(&listener.counters.datagrams_sent),
            Err(error) => {
                count(&listener.counters.datagrams_not_sent);
                if let Some(token) = token {
                    (listener.handler)(TransportEvent::SendFailed { token, failure: failure_of(&error), remote });
                }
            }
        }
    }
}

fn has_no_room(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || Errno::from_io_error(error) == Some(Errno::NOBUFS)
}

fn failure_of(error: &io::Error) -> SendFailure {
    if Errno::from_io_error(error) == Some(Errno::MSGSIZE) {
        SendFailure::TooLarge
    } else {
        SendFailure::Write(error.kind())
    }
}
