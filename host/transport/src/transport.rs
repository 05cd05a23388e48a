//! All sockets of a server behind one handle.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::address::{ConnectionId, Flow, HostPort, Listener, ListenerId, NameId, Protocol};
use crate::counters::TransportCounters;
use crate::event::{Handler, SendFailure, SendToken};
use crate::limits::TransportLimits;
use crate::msrp::{HandedOver, Peek, Reception, Unclaimed};
use crate::permit::{Admission, Sources};
use crate::tcp::{Accepted, ConnectionTable, Destination, accept_all, open_listener};
use crate::tls::{Handshakes, PeerNames, Tls};
use crate::udp::{self, UdpSender};
use crate::web_socket::{MsrpWebSocket, WebReception, WebSockets};

/// A listener whose socket is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundListener {
    /// Its number.
    pub id: ListenerId,
    /// Over what.
    pub protocol: Protocol,
    /// Where, with the port that the system chose.
    pub local: SocketAddr,
    /// What peers are told; the port is always there.
    pub advertise: HostPort,
}

/// Where something is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Back where something came from: where there are connections on that very one or not at all, over UDP from the
    /// listener that it came to, or where that is not known any more (or was none) from one that fits.
    Flow(Flow),
    /// To an address: over TCP and TLS on the connection that we opened to it, or a new one.
    Address {
        /// Over what.
        protocol: Protocol,
        /// Where.
        remote: SocketAddr,
        /// From which UDP listener; one that fits is chosen otherwise.
        listener: Option<ListenerId>,
        /// The host that was asked for: over TLS the peer must show it. None: it must show the address.
        name: Option<NameId>,
    },
}

/// What a shutdown left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that did not end in time; they end with their runtime.
    pub connections_left: usize,
}

/// Every SIP listener and connection, and the MSRP listeners. Its tasks run on the runtime that started it.
pub struct Transport {
    shared: Arc<Shared>,
    limits: TransportLimits,
    sources: Arc<Sources>,
    handshakes: Handshakes,
    stop_accepting: watch::Sender<bool>,
    stop: watch::Sender<bool>,
}

/// Sends; for any thread.
#[derive(Clone)]
pub struct Sender {
    shared: Arc<Shared>,
}

struct Shared {
    listeners: Vec<BoundListener>,
    udp: Vec<(ListenerId, SocketAddr, UdpSender)>,
    connections: Arc<ConnectionTable>,
    counters: Arc<TransportCounters>,
    tls: Arc<Tls>,
    sources: Arc<Sources>,
}

/// What lies between TCP and SIP.
#[derive(Clone)]
pub struct Layers {
    /// What is shown and believed over TLS.
    pub tls: Arc<Tls>,
    /// Who may speak over WebSocket.
    pub web_sockets: WebSockets,
}

impl Transport {
    /// The same as [`Transport::start_with`] without a certificate, taking WebSockets from every page.
    ///
    /// # Errors
    /// As [`Transport::start_with`].
    pub async fn start(listeners: &[Listener], limits: TransportLimits, handler: Handler) -> io::Result<Transport> {
        let layers = Layers { tls: Tls::without_files(), web_sockets: WebSockets::default() };
        Transport::start_with(listeners, limits, layers, handler).await
    }

    /// Opens every listener, or none. Must be called on a runtime with networking and time; the tasks stay there.
    ///
    /// # Errors
    /// What the system says about the first socket that cannot be opened, with its address in the text; a listener for
    /// TLS without a certificate.
    pub async fn start_with(
        listeners: &[Listener],
        limits: TransportLimits,
        layers: Layers,
        handler: Handler,
    ) -> io::Result<Transport> {
        let tls = Arc::clone(&layers.tls);
        if let Some(listener) = listeners.iter().find(|it| it.protocol.is_encrypted() && !tls.has_certificate()) {
            let text = format!("cannot listen on {listener}: there is no certificate");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let counters = Arc::new(TransportCounters::default());
        let (stop, stopped) = watch::channel(false);
        let (stop_accepting, stopped_accepting) = watch::channel(false);
        let sources = Sources::new(limits.max_connections_per_source);
        let handshakes = Handshakes::new(&limits);
        let (counted, handled) = (Arc::clone(&counters), Arc::clone(&handler));
        let connections =
            ConnectionTable::new(limits.clone(), counted, handled, layers, handshakes.clone(), stopped.clone());
        let mut bound = Vec::new();
        let mut senders = Vec::new();
        let mut accepting = Vec::new();
        for (listener, number) in listeners.iter().zip(0u16..) {
            let id = ListenerId(number);
            let named =
                |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {listener}: {error}"));
            let local = match listener.protocol {
                Protocol::Udp => {
                    let (limits, counters, handler) = (limits.clone(), Arc::clone(&counters), Arc::clone(&handler));
                    let (local, sender) =
                        udp::start(listener.bind, id, limits, counters, handler, stopped.clone()).map_err(named)?;
                    senders.push((id, local, sender));
                    local
                }
                Protocol::Tcp | Protocol::Tls | Protocol::Ws | Protocol::Wss => {
                    let socket = open_listener(listener.bind).map_err(named)?;
                    let local = socket.local_addr()?;
                    accepting.push((id, listener.protocol, socket));
                    local
                }
            };
            let advertise = listener.advertised(local);
            bound.push(BoundListener { id, protocol: listener.protocol, local, advertise });
        }
        for (listener, protocol, socket) in accepting {
            let admission = Admission::new(limits.max_connections, Arc::clone(&sources));
            let connections = Arc::clone(&connections);
            let accepted = move |stream, remote, permit| {
                connections.accepted(stream, Accepted { protocol, listener, remote }, permit);
            };
            tokio::spawn(accept_all(socket, admission, Arc::clone(&counters), stopped_accepting.clone(), accepted));
        }
        let kept_out = Arc::clone(&sources);
        let shared = Arc::new(Shared { listeners: bound, udp: senders, connections, counters, tls, sources: kept_out });
        Ok(Transport { shared, limits, sources, handshakes, stop_accepting, stop })
    }

    /// Accepts MSRP connections. `peek` looks at all bytes that came so far; `hand_over` takes the connection; `unclaimed`
    /// is told of who does not say in time for which session it is, or says what is no MSRP. None may block.
    ///
    /// # Errors
    /// What the system says, with the address in the text.
    pub fn listen_msrp<T: Send + 'static>(
        &self,
        listener: &Listener,
        id: ListenerId,
        peek: impl Fn(&[u8]) -> Peek<T> + Send + Sync + 'static,
        hand_over: impl Fn(HandedOver<T>) + Send + Sync + 'static,
        unclaimed: Unclaimed,
    ) -> io::Result<BoundListener> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {listener}: {error}"));
        let tls = &self.shared.tls;
        let secure = listener.protocol.is_encrypted().then(|| (Arc::clone(tls), self.handshakes.clone()));
        if secure.is_some() && !tls.has_certificate() {
            return Err(named(io::Error::new(io::ErrorKind::InvalidInput, "there is no certificate")));
        }
        let socket = open_listener(listener.bind).map_err(named)?;
        let local = socket.local_addr()?;
        let admission = Admission::new(self.limits.max_msrp_connections, Arc::clone(&self.sources));
        let counters = Arc::clone(&self.shared.counters);
        let (limits, counted) = (self.limits.clone(), Arc::clone(&counters));
        let reception =
            Arc::new(Reception { listener: id, limits, counters: counted, secure, peek, hand_over, unclaimed });
        let accepted = move |stream, remote, permit| {
            let reception = Arc::clone(&reception);
            tokio::spawn(async move { reception.receive(stream, remote, permit).await });
        };
        tokio::spawn(accept_all(socket, admission, counters, self.stop_accepting.subscribe(), accepted));
        Ok(BoundListener { id, protocol: listener.protocol, local, advertise: listener.advertised(local) })
    }

    /// Accepts MSRP over WebSocket (RFC 7977) from the pages that are allowed. `hand_over` takes each client; it may
    /// not block.
    ///
    /// # Errors
    /// What the system says, with the address in the text.
    pub fn listen_msrp_web(
        &self,
        listener: &Listener,
        id: ListenerId,
        allowed: WebSockets,
        hand_over: impl Fn(MsrpWebSocket) + Send + Sync + 'static,
    ) -> io::Result<BoundListener> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {listener}: {error}"));
        let tls = listener.protocol.is_encrypted().then(|| Arc::clone(&self.shared.tls));
        if tls.as_ref().is_some_and(|tls| !tls.has_certificate()) {
            return Err(named(io::Error::new(io::ErrorKind::InvalidInput, "there is no certificate")));
        }
        let socket = open_listener(listener.bind).map_err(named)?;
        let local = socket.local_addr()?;
        let admission = Admission::new(self.limits.max_msrp_connections, Arc::clone(&self.sources));
        let counters = Arc::clone(&self.shared.counters);
        let reception = Arc::new(WebReception {
            limits: self.limits.clone(),
            counters: Arc::clone(&counters),
            handshakes: self.handshakes.clone(),
            tls,
            allowed,
            stop: self.stop.subscribe(),
            hand_over,
        });
        let accepted = move |stream, remote, permit| {
            let reception = Arc::clone(&reception);
            tokio::spawn(async move { reception.receive(stream, remote, permit).await });
        };
        tokio::spawn(accept_all(socket, admission, counters, self.stop_accepting.subscribe(), accepted));
        Ok(BoundListener { id, protocol: listener.protocol, local, advertise: listener.advertised(local) })
    }

    /// The SIP listeners, in the order given.
    #[must_use]
    pub fn listeners(&self) -> &[BoundListener] {
        &self.shared.listeners
    }

    /// A handle to send with.
    #[must_use]
    pub fn sender(&self) -> Sender {
        Sender { shared: Arc::clone(&self.shared) }
    }

    /// What was turned away.
    #[must_use]
    pub fn counters(&self) -> Arc<TransportCounters> {
        Arc::clone(&self.shared.counters)
    }

    /// SIP connections that are open or being opened.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.connections.len()
    }

    /// Accepts no further connection, SIP or MSRP. What is open goes on, datagrams too.
    pub fn stop_accepting(&self) {
        self.stop_accepting.send_replace(true);
    }

    /// Stops receiving, writes what waits and closes every connection, within
    /// [`TransportLimits::drain_timeout`] and a second.
    pub async fn shutdown(self) -> Drained {
        self.stop_accepting();
        self.stop.send_replace(true);
        let within = self.limits.drain_timeout + Duration::from_secs(1);
        let _ = timeout(within, self.shared.connections.drained()).await;
        Drained { connections_left: self.shared.connections.len() }
    }
}

impl Sender {
    /// Sends a whole message. An error means that it failed at once; with a token a later failure comes as
    /// [`crate::TransportEvent::SendFailed`]. Nothing waits in here.
    ///
    /// # Errors
    /// [`SendFailure`]
    pub fn send(&self, target: &Target, bytes: Bytes, token: Option<SendToken>) -> Result<(), SendFailure> {
        self.send_as(target, bytes, token, false)
    }

    /// The same of an answer whose connection is gone (RFC 3261 §18.2.2): one that is opened for it alone ends soon.
    ///
    /// # Errors
    /// [`SendFailure`]
    pub fn answer(&self, target: &Target, bytes: Bytes) -> Result<(), SendFailure> {
        self.send_as(target, bytes, None, true)
    }

    fn send_as(
        &self,
        target: &Target,
        bytes: Bytes,
        token: Option<SendToken>,
        is_answer: bool,
    ) -> Result<(), SendFailure> {
        let shared = &self.shared;
        match *target {
            Target::Flow(Flow { protocol: Protocol::Udp, remote, .. })
            | Target::Address { protocol: Protocol::Udp, remote, .. } => {
                shared.udp_sender(target).ok_or(SendFailure::NoListener)?.send(remote, bytes, token)
            }
            Target::Flow(Flow { connection: Some(id), .. }) => shared.connections.send_on(id, bytes, token),
            Target::Flow(Flow { connection: None, .. }) => Err(SendFailure::NoConnection),
            Target::Address { protocol, remote, name, .. } => {
                let name = name.filter(|_| protocol != Protocol::Tcp);
                shared.connections.send_to(Destination { protocol, remote, name }, bytes, token, is_answer)
            }
        }
    }

    /// Who is at the other end of a connection, as far as TLS has shown that: the domains that the certificate of a
    /// peer names who connected and was verified (RFC 5922 §7), the name that we verified where we connected. None:
    /// there is no such connection.
    #[must_use]
    pub fn peer_names(&self, connection: ConnectionId) -> Option<PeerNames> {
        self.shared.connections.peer_names(connection)
    }

    /// Who is at the other ends of all connections with a source (of IPv6 with its first 64 bits), as far as TLS has
    /// shown it.
    #[must_use]
    pub fn names_at(&self, source: IpAddr) -> Vec<PeerNames> {
        self.shared.connections.names_at(source)
    }

    /// Whether a connection is there and has not been said to be [`crate::TransportEvent::Closed`].
    #[must_use]
    pub fn is_open(&self, connection: ConnectionId) -> bool {
        self.shared.connections.is_open(connection)
    }

    /// What is shown and asked for on encrypted connections.
    #[must_use]
    pub fn tls(&self) -> &Arc<Tls> {
        &self.shared.tls
    }

    /// Takes no connection of a source, over any listener, for so long. Whether it was taken up to now.
    pub fn shut_out(&self, source: IpAddr, duration: Duration) -> bool {
        let now = Instant::now();
        self.shared.sources.shut_out(source, now, now.checked_add(duration).unwrap_or(now))
    }

    /// Ends a connection after what waits for it was written.
    pub fn close(&self, connection: ConnectionId) {
        self.shared.connections.close(connection);
    }

    /// The listeners, as [`Transport::listeners`].
    #[must_use]
    pub fn listeners(&self) -> &[BoundListener] {
        &self.shared.listeners
    }

    /// The listener whose advertised name belongs into Via and Contact of what goes to `target`: the one it is sent
    /// from, or over TCP the one that takes connections in the same address family.
    #[must_use]
    pub fn listener_towards(&self, target: &Target) -> Option<&BoundListener> {
        let (Target::Flow(Flow { protocol, .. }) | Target::Address { protocol, .. }) = *target;
        let places = self.shared.listeners.iter().filter(|bound| bound.protocol == protocol);
        choose(places.map(|bound| (bound.id, bound.local, bound)), target)
    }
}

impl Shared {
    fn udp_sender(&self, target: &Target) -> Option<&UdpSender> {
        choose(self.udp.iter().map(|(id, local, sender)| (*id, *local, sender)), target)
    }
}

/// The listener that is named, or that the other end sent to: an address translation lets nothing else through, and an
/// answer over UDP has to come from there (RFC 3581 §4). Else of those of the remote's family one that can reach it: a
/// socket bound to loopback reaches nothing else.
fn choose<T>(places: impl Iterator<Item = (ListenerId, SocketAddr, T)> + Clone, target: &Target) -> Option<T> {
    let (named, own_end, remote) = match *target {
        Target::Flow(Flow { listener, local, remote, .. }) => (listener, Some(local), remote),
        Target::Address { listener, remote, .. } => (listener, None, remote),
    };
    let of_family = places.clone().filter(|(_, local, _)| local.is_ipv4() == remote.is_ipv4());
    let fits =
        |local: &SocketAddr| local.ip().is_unspecified() || local.ip().is_loopback() == remote.ip().is_loopback();
    let is_open_at = |local: &SocketAddr| {
        let is_it =
            |own: SocketAddr| own.port() == local.port() && (own.ip() == local.ip() || local.ip().is_unspecified());
        own_end.is_some_and(is_it)
    };
    let by_name = places.clone().find(|(id, ..)| Some(*id) == named);
    by_name
        .or_else(|| of_family.clone().find(|(_, local, _)| is_open_at(local)))
        .or_else(|| of_family.clone().find(|(_, local, _)| fits(local)))
        .or_else(|| of_family.clone().next())
        .map(|(.., place)| place)
}
