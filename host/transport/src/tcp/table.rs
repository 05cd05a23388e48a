use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::outbox::{Everybodys, Outbox, Writer};
use super::stream::Stream;
use crate::address::{ConnectionId, Flow, ListenerId, NameId, Protocol};
use crate::counters::{TransportCounters, count};
use crate::event::{CloseReason, Handler, SendFailure, SendToken, TransportEvent};
use crate::limits::TransportLimits;
use crate::permit::{ConnectionPermit, Network, first_bits, lock, networks_of, source_of};
use crate::tls::{Handshakes, PeerNames, Tls};
use crate::transport::Layers;
use crate::web_socket::{self, WebSockets};

/// Every SIP connection of this process, accepted or opened; for any thread.
///
/// Requests to an address reuse the connection that we opened to it. An accepted connection is used only by who names
/// its flow: that its peer's address is also where requests for it go is not known without authentication (RFC 5923
/// §8).
pub(crate) struct ConnectionTable {
    runtime: runtime::Handle,
    pub(crate) limits: TransportLimits,
    pub(crate) counters: Arc<TransportCounters>,
    pub(crate) handler: Handler,
    tls: Arc<Tls>,
    handshakes: Handshakes,
    web: WebSockets,
    pub(crate) stop: watch::Receiver<bool>,
    /// What waits for the peers of all connections.
    waiting: Arc<Everybodys>,
    state: Mutex<State>,
}

struct State {
    next_id: u64,
    open: HashMap<ConnectionId, Open>,
    /// Those that we opened, by where they lead.
    by_destination: HashMap<Destination, ConnectionId>,
    /// Those whose other end TLS has shown, by where that is.
    named: HashMap<IpAddr, HashMap<ConnectionId, PeerNames>>,
    /// Held by every connection's task; none once no new ones may begin.
    alive: Option<mpsc::Sender<Infallible>>,
    drained: Option<mpsc::Receiver<Infallible>>,
}

/// A connection that is open or being opened.
struct Open {
    outbox: Arc<Outbox>,
    /// Where it leads, when we opened it.
    destination: Option<Destination>,
    /// Who is at its other end, as far as TLS has shown that.
    names: PeerNames,
    /// It was said that it is closed; answers may still leave.
    is_closing: bool,
}

/// Of all connections that we may open, the part to one source: who has many ports, or addresses, is to leave some for
/// others.
const SOURCE_SHARE: usize = 16;
/// But at least so many.
const LEAST_SHARE: usize = 16;

/// Where a connection of ours leads. One that was made for another name at the same address is another one: only that
/// name was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    pub(crate) protocol: Protocol,
    pub(crate) remote: SocketAddr,
    pub(crate) name: Option<NameId>,
}

/// What a connection that was accepted is served as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    pub(crate) protocol: Protocol,
    pub(crate) listener: ListenerId,
    pub(crate) remote: SocketAddr,
}

impl ConnectionTable {
    /// An empty one, whose connections live on the current runtime.
    pub(crate) fn new(
        limits: TransportLimits,
        counters: Arc<TransportCounters>,
        handler: Handler,
        Layers { tls, web_sockets: web }: Layers,
        handshakes: Handshakes,
        stop: watch::Receiver<bool>,
    ) -> Arc<ConnectionTable> {
        let (alive, drained) = mpsc::channel(1);
        let state = State {
            next_id: 1,
            open: HashMap::new(),
            by_destination: HashMap::new(),
            named: HashMap::new(),
            alive: Some(alive),
            drained: Some(drained),
        };
        let runtime = runtime::Handle::current();
        let waiting = Everybodys::new(&limits);
        Arc::new(ConnectionTable {
            runtime,
            limits,
            counters,
            handler,
            tls,
            handshakes,
            web,
            stop,
            waiting,
            state: Mutex::new(state),
        })
    }

    /// Serves an accepted connection, after its handshakes where it begins with some.
    pub(crate) fn accepted(self: &Arc<Self>, stream: TcpStream, accepted: Accepted, permit: ConnectionPermit) {
        let table = Arc::clone(self);
        if accepted.protocol == Protocol::Tcp {
            self.runtime.spawn(async move { table.serve_accepted(Stream::Plain(stream), accepted, permit).await });
            return;
        }
        let Some(under_way) = self.handshakes.admit(accepted.remote.ip()) else {
            return count(&self.counters.handshakes_refused);
        };
        let mut stop = self.stop.clone();
        self.runtime.spawn(async move {
            let agreed = tokio::select! {
                agreed = table.agree(stream, accepted) => agreed,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            drop(under_way);
            if let Some(stream) = agreed {
                table.serve_accepted(stream, accepted, permit).await;
            }
        });
    }

    /// The handshakes with a peer that connected; none when they fail, which is counted.
    async fn agree(&self, stream: TcpStream, accepted: Accepted) -> Option<Stream> {
        let Accepted { protocol, remote, .. } = accepted;
        let stream = if protocol.is_encrypted() {
            let config = if protocol.is_web_socket() { self.tls.sip_web_server() } else { self.tls.sip_server() };
            match self.handshakes.accept(config?, stream).await {
                Ok(stream) => {
                    count(&self.counters.tls_handshakes);
                    Stream::Encrypted(Box::new(stream))
                }
                Err(error) => {
                    tracing::debug!(%remote, %error, "no TLS with a peer that connected");
                    count(&self.counters.tls_handshakes_failed);
                    return None;
                }
            }
        } else {
            Stream::Plain(stream)
        };
        if !protocol.is_web_socket() {
            return Some(stream);
        }
        let (web, limits) = (&self.web, &self.limits.message);
        let upgraded = async {
            Ok(match stream {
                Stream::Plain(stream) => {
                    Stream::Web(Box::new(web_socket::accept(stream, web, limits, web_socket::SIP).await?))
                }
                Stream::Encrypted(stream) => {
                    Stream::EncryptedWeb(Box::new(web_socket::accept(stream, web, limits, web_socket::SIP).await?))
                }
                web => web,
            })
        };
        self.upgraded(remote, upgraded).await
    }

    /// The outcome of a handshake of WebSocket.
    async fn upgraded(
        &self,
        remote: SocketAddr,
        handshake: impl Future<Output = io::Result<Stream>>,
    ) -> Option<Stream> {
        let upgraded = timeout(self.handshakes.within(), handshake).await;
        match upgraded.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                count(&self.counters.web_sockets);
                Some(stream)
            }
            Err(error) => {
                tracing::debug!(%remote, %error, "no WebSocket with a peer");
                count(&self.counters.web_sockets_refused);
                None
            }
        }
    }

    async fn serve_accepted(self: &Arc<Self>, stream: Stream, accepted: Accepted, permit: ConnectionPermit) {
        let Accepted { protocol, listener, remote } = accepted;
        let (outbox, writer) = Outbox::new(&self.limits, &self.waiting);
        let outbox = Arc::new(outbox);
        let Ok(local) = stream.local_addr() else { return };
        let Ok((id, alive)) = self.register(&outbox, None) else { return };
        self.know(id, remote, stream.peer_names());
        let flow = Flow { protocol, listener: Some(listener), local, remote, connection: Some(id) };
        stream.serve(flow, &outbox, writer, self).await;
        drop((permit, alive));
    }

    /// Who is at the other end of a connection, as far as TLS has shown that: the domains in the certificate of a peer
    /// that connected, the name that we verified where we did.
    pub(crate) fn peer_names(&self, id: ConnectionId) -> Option<PeerNames> {
        lock(&self.state).open.get(&id).map(|open| Arc::clone(&open.names))
    }

    /// The same of all connections with a source, of IPv6 its first 64 bits.
    pub(crate) fn names_at(&self, source: IpAddr) -> Vec<PeerNames> {
        let state = lock(&self.state);
        state.named.get(&source_of(source)).map(|named| named.values().cloned().collect()).unwrap_or_default()
    }

    /// Whether it is there and was not said to be closed.
    pub(crate) fn is_open(&self, id: ConnectionId) -> bool {
        lock(&self.state).open.get(&id).is_some_and(|open| !open.is_closing)
    }

    /// Sends on that very connection.
    ///
    /// # Errors
    /// [`SendFailure`]
    pub(crate) fn send_on(&self, id: ConnectionId, bytes: Bytes, token: Option<SendToken>) -> Result<(), SendFailure> {
        let outbox = lock(&self.state).open.get(&id).map(|open| Arc::clone(&open.outbox));
        let result = outbox.ok_or(SendFailure::NoConnection).and_then(|outbox| outbox.push(bytes, token));
        if result.is_err() {
            count(&self.counters.stream_messages_not_sent);
        }
        result
    }

    /// Sends on the connection that we opened there, or on a new one, which ends soon where all that is sent is an
    /// answer.
    ///
    /// # Errors
    /// [`SendFailure`]
    pub(crate) fn send_to(
        self: &Arc<Self>,
        destination: Destination,
        bytes: Bytes,
        token: Option<SendToken>,
        is_answer: bool,
    ) -> Result<(), SendFailure> {
        let known = {
            let state = lock(&self.state);
            let id = state.by_destination.get(&destination);
            id.and_then(|id| state.open.get(id)).map(|open| Arc::clone(&open.outbox))
        };
        let result = match known.map(|outbox| outbox.push(bytes.clone(), token)) {
            // It ended a moment ago and is not forgotten yet.
            None | Some(Err(SendFailure::NoConnection)) => self.open(destination, bytes, token, is_answer),
            Some(result) => result,
        };
        if result.is_err() {
            count(&self.counters.stream_messages_not_sent);
        }
        result
    }

    /// Ends a connection, if it is still there.
    pub(crate) fn close(&self, id: ConnectionId) {
        if let Some(open) = lock(&self.state).open.get(&id) {
            open.outbox.close(CloseReason::Local);
        }
    }

    /// Connections that are open or being opened.
    pub(crate) fn len(&self) -> usize {
        lock(&self.state).open.len()
    }

    /// Lets no new connection begin and waits until the last has ended; `stop` must have been given before.
    pub(crate) async fn drained(&self) {
        let drained = {
            let mut state = lock(&self.state);
            state.alive = None;
            state.drained.take()
        };
        if let Some(mut drained) = drained {
            while drained.recv().await.is_some() {}
        }
    }

    /// The peer takes no requests on it any more: whoever asks is told so, and whoever listens next.
    pub(crate) fn closes(&self, flow: Flow, reason: CloseReason) {
        self.forget_destination(flow.connection);
        if let Some(id) = flow.connection
            && let Some(open) = lock(&self.state).open.get_mut(&id)
        {
            open.is_closing = true;
        }
        (self.handler)(TransportEvent::Closed { flow, reason });
    }

    /// Requests for where it leads take another one.
    fn forget_destination(&self, id: Option<ConnectionId>) {
        let mut state = lock(&self.state);
        let destination = id.and_then(|id| state.open.get(&id)).and_then(|open| open.destination);
        if let Some(destination) = destination
            && state.by_destination.get(&destination).copied() == id
        {
            state.by_destination.remove(&destination);
        }
    }

    /// It is over: nothing finds it any more, and whoever waits for something unsent is told.
    pub(super) fn ended(&self, id: ConnectionId, remote: SocketAddr, writer: Writer, failure: SendFailure) {
        self.forget_destination(Some(id));
        let mut state = lock(&self.state);
        state.open.remove(&id);
        let source = source_of(remote.ip());
        if let Some(named) = state.named.get_mut(&source) {
            named.remove(&id);
            if named.is_empty() {
                state.named.remove(&source);
            }
        }
        drop(state);
        for token in writer.unsent() {
            count(&self.counters.stream_messages_not_sent);
            if let Some(token) = token {
                (self.handler)(TransportEvent::SendFailed { token, failure, remote });
            }
        }
    }

    fn open(
        self: &Arc<Self>,
        destination: Destination,
        bytes: Bytes,
        token: Option<SendToken>,
        is_answer: bool,
    ) -> Result<(), SendFailure> {
        // Nobody listens at the other end of a browser's connection (RFC 7118 §5).
        if destination.protocol.is_web_socket() && !self.web.may_connect {
            return Err(SendFailure::NoConnection);
        }
        let (mut outbox, writer) = Outbox::new(&self.limits, &self.waiting);
        if is_answer {
            outbox.idle_timeout = outbox.idle_timeout.min(self.limits.idle_timeout_of_answers);
        }
        let outbox = Arc::new(outbox);
        outbox.push(bytes, token)?;
        let (id, alive) = self.register(&outbox, Some(destination))?;
        let table = Arc::clone(self);
        self.runtime.spawn(async move {
            table.connect_and_serve(id, destination, &outbox, writer).await;
            drop(alive);
        });
        Ok(())
    }

    async fn connect_and_serve(
        self: &Arc<Self>,
        id: ConnectionId,
        destination: Destination,
        outbox: &Outbox,
        writer: Writer,
    ) {
        let mut stop = self.stop.clone();
        let connected = tokio::select! {
            connected = self.connect(destination) => connected,
            _ = stop.wait_for(|stop| *stop) => Err(SendFailure::ShuttingDown),
        };
        let Destination { protocol, remote, .. } = destination;
        match connected {
            Ok((stream, local, names)) => {
                count(&self.counters.connections_opened);
                self.know(id, remote, names);
                let flow = Flow { protocol, listener: None, local, remote, connection: Some(id) };
                stream.serve(flow, outbox, writer, self).await;
            }
            Err(failure) => {
                count(&self.counters.connections_failed);
                self.ended(id, remote, writer, failure);
            }
        }
    }

    async fn connect(&self, destination: Destination) -> Result<(Stream, SocketAddr, PeerNames), SendFailure> {
        let Destination { protocol, remote, name } = destination;
        let connected = timeout(self.limits.connect_timeout, super::open(remote)).await;
        let connected = connected.map_err(|_| SendFailure::ConnectTimeout)?;
        let stream = connected.map_err(|error| SendFailure::Connect(error.kind()))?;
        let local = stream.local_addr().map_err(|error| SendFailure::Connect(error.kind()))?;
        let (stream, names) = if protocol.is_encrypted() {
            match self.handshakes.connect(&self.tls, stream, remote, name).await {
                Ok((stream, names)) => {
                    count(&self.counters.tls_handshakes);
                    (Stream::Encrypted(Box::new(stream)), names)
                }
                Err(error) => {
                    tracing::warn!(%remote, %error, "the TLS handshake with a peer that we connected to failed");
                    count(&self.counters.tls_handshakes_failed);
                    return Err(SendFailure::Handshake);
                }
            }
        } else {
            (Stream::Plain(stream), PeerNames::default())
        };
        if !protocol.is_web_socket() {
            return Ok((stream, local, names));
        }
        let (host, limits) = (name.and_then(|name| self.tls.host(name)), &self.limits.message);
        let upgraded = async {
            let host = host.as_deref();
            Ok(match stream {
                Stream::Plain(stream) => {
                    Stream::Web(Box::new(web_socket::connect(stream, host, remote, limits).await?))
                }
                Stream::Encrypted(stream) => {
                    Stream::EncryptedWeb(Box::new(web_socket::connect(stream, host, remote, limits).await?))
                }
                web => web,
            })
        };
        let stream = self.upgraded(remote, upgraded).await.ok_or(SendFailure::Handshake)?;
        Ok((stream, local, names))
    }

    /// Notes who is at the other end.
    fn know(&self, id: ConnectionId, remote: SocketAddr, names: PeerNames) {
        let mut state = lock(&self.state);
        let Some(open) = state.open.get_mut(&id) else { return };
        open.names = Arc::clone(&names);
        if !names.is_empty() {
            state.named.entry(source_of(remote.ip())).or_default().insert(id, names);
        }
    }

    fn register(
        &self,
        outbox: &Arc<Outbox>,
        destination: Option<Destination>,
    ) -> Result<(ConnectionId, mpsc::Sender<Infallible>), SendFailure> {
        let mut state = lock(&self.state);
        let alive = state.alive.clone().ok_or(SendFailure::ShuttingDown)?;
        if let Some(Destination { remote, .. }) = destination {
            let most = self.limits.max_outgoing_connections;
            let share = most.div_ceil(SOURCE_SHARE).max(LEAST_SHARE);
            let has_all = |(network, times): (Network, usize)| {
                let leads_there = |it: &&Destination| first_bits(it.remote.ip().to_canonical(), network.1) == network.0;
                state.by_destination.keys().filter(leads_there).count() >= share.saturating_mul(times)
            };
            let open = state.by_destination.len();
            if open >= most || (open >= share && networks_of(source_of(remote.ip())).any(has_all)) {
                return Err(SendFailure::TooManyConnections);
            }
        }
        let id = ConnectionId(state.next_id);
        state.next_id = state.next_id.wrapping_add(1);
        let (outbox, names) = (Arc::clone(outbox), PeerNames::default());
        state.open.insert(id, Open { outbox, destination, names, is_closing: false });
        if let Some(destination) = destination {
            state.by_destination.insert(destination, id);
        }
        Ok((id, alive))
    }
}
