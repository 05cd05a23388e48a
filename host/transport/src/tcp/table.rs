use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::connection;
use super::outbox::{Outbox, Writer};
use crate::address::{ConnectionId, Flow, ListenerId, Protocol};
use crate::counters::{TransportCounters, count};
use crate::event::{CloseReason, Handler, SendFailure, SendToken, TransportEvent};
use crate::limits::TransportLimits;
use crate::permit::{ConnectionPermit, lock};

/// Every SIP connection of this process, accepted or opened; for any thread.
///
/// Requests to an address reuse the connection that we opened to it. An accepted connection is used only by who names its
/// flow: that its peer's address is also where requests for it go is not known without authentication (RFC 5923 §8).
pub(crate) struct ConnectionTable {
    runtime: runtime::Handle,
    pub(super) limits: TransportLimits,
    pub(super) counters: Arc<TransportCounters>,
    pub(super) handler: Handler,
    pub(super) stop: watch::Receiver<bool>,
    state: Mutex<State>,
}

struct State {
    next_id: u64,
    open: HashMap<ConnectionId, Arc<Outbox>>,
    /// Those that we opened, by where they lead.
    by_remote: HashMap<SocketAddr, ConnectionId>,
    /// Held by every connection's task; none once no new ones may begin.
    alive: Option<mpsc::Sender<Infallible>>,
    drained: Option<mpsc::Receiver<Infallible>>,
}

impl ConnectionTable {
    /// An empty one, whose connections live on the current runtime.
    pub(crate) fn new(
        limits: TransportLimits,
        counters: Arc<TransportCounters>,
        handler: Handler,
        stop: watch::Receiver<bool>,
    ) -> Arc<ConnectionTable> {
        let (alive, drained) = mpsc::channel(1);
        let state = State {
            next_id: 1,
            open: HashMap::new(),
            by_remote: HashMap::new(),
            alive: Some(alive),
            drained: Some(drained),
        };
        let runtime = runtime::Handle::current();
        Arc::new(ConnectionTable { runtime, limits, counters, handler, stop, state: Mutex::new(state) })
    }

    /// Serves an accepted connection.
    pub(crate) fn accepted(
        self: &Arc<Self>,
        stream: TcpStream,
        listener: ListenerId,
        remote: SocketAddr,
        permit: ConnectionPermit,
    ) {
        let (outbox, writer) = Outbox::new(&self.limits);
        let outbox = Arc::new(outbox);
        let Ok(local) = stream.local_addr() else { return };
        let Ok((id, alive)) = self.register(&outbox, None) else { return };
        let flow = Flow { protocol: Protocol::Tcp, listener: Some(listener), local, remote, connection: Some(id) };
        let table = Arc::clone(self);
        self.runtime.spawn(async move {
            connection::serve(stream, flow, &outbox, writer, &table).await;
            drop((permit, alive));
        });
    }

    /// Sends on that very connection.
    ///
    /// # Errors
    /// [`SendFailure`]
    pub(crate) fn send_on(&self, id: ConnectionId, bytes: Bytes, token: Option<SendToken>) -> Result<(), SendFailure> {
        let outbox = lock(&self.state).open.get(&id).map(Arc::clone);
        let result = outbox.ok_or(SendFailure::NoConnection).and_then(|outbox| outbox.push(bytes, token));
        if result.is_err() {
            count(&self.counters.stream_messages_not_sent);
        }
        result
    }

    /// Sends on the connection that we opened to `remote`, or on a new one.
    ///
    /// # Errors
    /// [`SendFailure`]
    pub(crate) fn send_to(
        self: &Arc<Self>,
        remote: SocketAddr,
        bytes: Bytes,
        token: Option<SendToken>,
    ) -> Result<(), SendFailure> {
        let known = {
            let state = lock(&self.state);
            state.by_remote.get(&remote).and_then(|id| state.open.get(id)).map(Arc::clone)
        };
        let result = match known.map(|outbox| outbox.push(bytes.clone(), token)) {
            // It ended a moment ago and is not forgotten yet.
            None | Some(Err(SendFailure::NoConnection)) => self.open(remote, bytes, token),
            Some(result) => result,
        };
        if result.is_err() {
            count(&self.counters.stream_messages_not_sent);
        }
        result
    }

    /// Ends a connection, if it is still there.
    pub(crate) fn close(&self, id: ConnectionId) {
        if let Some(outbox) = lock(&self.state).open.get(&id) {
            outbox.close(CloseReason::Local);
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

    /// The peer takes no requests on it any more.
    pub(super) fn forget_remote(&self, flow: &Flow) {
        let mut state = lock(&self.state);
        if state.by_remote.get(&flow.remote).copied() == flow.connection {
            state.by_remote.remove(&flow.remote);
        }
    }

    /// It is over: nothing finds it any more, and whoever waits for something unsent is told.
    pub(super) fn ended(&self, id: ConnectionId, remote: SocketAddr, writer: Writer, failure: SendFailure) {
        {
            let mut state = lock(&self.state);
            state.open.remove(&id);
            if state.by_remote.get(&remote) == Some(&id) {
                state.by_remote.remove(&remote);
            }
        }
        for token in writer.unsent() {
            count(&self.counters.stream_messages_not_sent);
            if let Some(token) = token {
                (self.handler)(TransportEvent::SendFailed { token, failure, remote });
            }
        }
    }

    fn open(self: &Arc<Self>, remote: SocketAddr, bytes: Bytes, token: Option<SendToken>) -> Result<(), SendFailure> {
        let (outbox, writer) = Outbox::new(&self.limits);
        let outbox = Arc::new(outbox);
        outbox.push(bytes, token)?;
        let (id, alive) = self.register(&outbox, Some(remote))?;
        let table = Arc::clone(self);
        self.runtime.spawn(async move {
            table.connect_and_serve(id, remote, &outbox, writer).await;
            drop(alive);
        });
        Ok(())
    }

    async fn connect_and_serve(
        self: &Arc<Self>,
        id: ConnectionId,
        remote: SocketAddr,
        outbox: &Outbox,
        writer: Writer,
    ) {
        let mut stop = self.stop.clone();
        let connected = tokio::select! {
            connected = timeout(self.limits.connect_timeout, TcpStream::connect(remote)) => match connected {
                Err(_) => Err(SendFailure::ConnectTimeout),
                Ok(Err(error)) => Err(SendFailure::Connect(error.kind())),
                Ok(Ok(stream)) => stream.local_addr().map(|local| (stream, local)).map_err(|error| SendFailure::Connect(error.kind())),
            },
            _ = stop.wait_for(|stop| *stop) => Err(SendFailure::ShuttingDown),
        };
        match connected {
            Ok((stream, local)) => {
                count(&self.counters.connections_opened);
                super::configure(&stream);
                let flow = Flow { protocol: Protocol::Tcp, listener: None, local, remote, connection: Some(id) };
                connection::serve(stream, flow, outbox, writer, self).await;
            }
            Err(failure) => {
                count(&self.counters.connections_failed);
                self.ended(id, remote, writer, failure);
            }
        }
    }

    fn register(
        &self,
        outbox: &Arc<Outbox>,
        remote: Option<SocketAddr>,
    ) -> Result<(ConnectionId, mpsc::Sender<Infallible>), SendFailure> {
        let mut state = lock(&self.state);
        let alive = state.alive.clone().ok_or(SendFailure::ShuttingDown)?;
        if remote.is_some() && state.by_remote.len() >= self.limits.max_outgoing_connections {
            return Err(SendFailure::TooManyConnections);
        }
        let id = ConnectionId(state.next_id);
        state.next_id = state.next_id.wrapping_add(1);
        state.open.insert(id, Arc::clone(outbox));
        if let Some(remote) = remote {
            state.by_remote.insert(remote, id);
        }
        Ok((id, alive))
    }
}
