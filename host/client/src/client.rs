//! The handle to a client.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use restante_msrp::framing::{FramingLimits, Peek as MsrpPeek, peek_to_path};
use restante_sip::transaction::{Endpoint, EndpointConfiguration, MAX_UDP_REQUEST_BYTES, TimerValues};
use restante_transport::msrp::Peek;
use restante_transport::queue::{self, Lane, QueueLimits, QueueReceiver};
use restante_transport::{
    Handler, Intake, Layers, Listener, ListenerId, Protocol, Tls, Transport, TransportEvent, TransportLimits,
    WebSockets,
};
use tokio::sync::{mpsc, oneshot};

use crate::behaviour::Behaviour;
use crate::configuration::ClientConfiguration;
use crate::content::Reader;
use crate::engine::{Command, Engine, Inputs, PreparedLarge, Reply, State};
use crate::error::ClientError;
use crate::event::ClientEvent;
use crate::outgoing::{Answer, FetchOutcome, LargeMessage, LargeOutcome, PageMessage, PageOutcome, Selection};

/// Commands that wait for the client's task.
const MAX_COMMANDS: usize = 1_024;
/// Messages from the sockets that wait for it before streams are read no further.
const MAX_WAITING_MESSAGES: usize = 4_096;
/// The fraction of a second in a CPIM DateTime, which may be written or not.
const FRACTION_BYTES: usize = 4;
/// How often another port is tried when one is free for TCP and taken for UDP.
const PORT_ATTEMPTS: usize = 50;

/// A running client. Clones are the same client; it ends with the last of them, or when it is stopped.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    violations: Arc<Mutex<Vec<String>>>,
    identity: String,
    local: SocketAddr,
    msrp_local: SocketAddr,
}

/// What happens to a client, in order.
pub struct ClientEvents {
    events: mpsc::Receiver<ClientEvent>,
}

impl ClientEvents {
    /// The next event; none once the client is gone.
    pub async fn next(&mut self) -> Option<ClientEvent> {
        self.events.recv().await
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<ClientEvent> {
        self.events.try_recv().ok()
    }
}

impl Client {
    /// Opens the sockets and starts the client's task on the current runtime.
    ///
    /// # Errors
    /// [`ClientError::Socket`]
    pub async fn start(configuration: ClientConfiguration) -> Result<(Client, ClientEvents), ClientError> {
        let (sockets, transport_events) =
            queue::channel(QueueLimits { max_ordinary_items: 2 * MAX_WAITING_MESSAGES, ..QueueLimits::default() });
        let handler: Handler = Arc::new(move |event| {
            let bytes = event_bytes(&event);
            let is_full = sockets.try_push(Lane::Ordinary, event, bytes).is_err();
            if is_full || sockets.len(Lane::Ordinary) > MAX_WAITING_MESSAGES { Intake::Congested } else { Intake::Open }
        });
        let transport = open(&configuration, &handler).await?;
        let local = transport.listeners().first().map(|bound| bound.local).ok_or_else(no_socket)?;
        let (handed, connections) = mpsc::channel(64);
        let msrp = transport.listen_msrp(
            &Listener::new(Protocol::Tcp, SocketAddr::new(configuration.bind, 0)),
            ListenerId(2),
            |bytes| match peek_to_path(bytes, &FramingLimits::default()) {
                MsrpPeek::NeedMore => Peek::Incomplete,
                MsrpPeek::Found(request) => Peek::Session(request),
                MsrpPeek::Invalid => Peek::Refused,
            },
            // A connection more than the task can take now is closed by being dropped.
            move |connection| drop(handed.try_send(connection)),
            Box::new(|_| ()),
        )?;
        Ok(Client::spawn(configuration, transport, local, msrp.local, transport_events, connections))
    }

    fn spawn(
        configuration: ClientConfiguration,
        transport: Transport,
        local: SocketAddr,
        msrp_local: SocketAddr,
        transport_events: QueueReceiver<TransportEvent>,
        connections: mpsc::Receiver<restante_transport::msrp::HandedOver<Box<restante_msrp::framing::PeekedRequest>>>,
    ) -> (Client, ClientEvents) {
        let (commands, command_receiver) = mpsc::channel(MAX_COMMANDS);
        let (events, event_receiver) = mpsc::channel(configuration.limits.max_waiting_events.max(1));
        let (notices, notice_receiver) = mpsc::channel(256);
        let violations = Arc::<Mutex<Vec<String>>>::default();
        let endpoint = Endpoint::new(EndpointConfiguration {
            shard: 0,
            key: crate::random::bytes(),
            timers: TimerValues::default(),
            max_server_transactions: 100_000,
            max_client_transactions: 100_000,
            usual_transactions: 0,
        });
        let client = Client {
            commands,
            violations: Arc::clone(&violations),
            identity: configuration.identity.clone(),
            local,
            msrp_local,
        };
        let engine = Engine {
            sender: transport.sender(),
            transport: Some(transport),
            configuration,
            local,
            msrp_local,
            endpoint,
            notices,
            events,
            violations,
            state: State::default(),
        };
        let inputs =
            Inputs { commands: command_receiver, transport: transport_events, connections, notices: notice_receiver };
        tokio::spawn(engine.run(inputs));
        (client, ClientEvents { events: event_receiver })
    }

    /// Registers, and again before it expires, until [`Client::unregister`].
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is an answer.
    pub async fn register(&self, expires_seconds: u32) -> Result<Answer, ClientError> {
        self.ask(|reply| Command::Register { expires_seconds, reply }).await
    }

    /// Takes the registration back.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is an answer.
    pub async fn unregister(&self) -> Result<Answer, ClientError> {
        self.ask(|reply| Command::Register { expires_seconds: 0, reply }).await
    }

    /// Registers somebody else, as a core does for the users it serves (TS 24.229 §5.4.1.7): From is this client,
    /// Contact leads to `contact_uri`.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is an answer.
    pub async fn register_third_party(
        &self,
        address_of_record: &str,
        contact_uri: &str,
        expires_seconds: u32,
    ) -> Result<Answer, ClientError> {
        let (address_of_record, contact_uri) = (address_of_record.to_owned(), contact_uri.to_owned());
        self.ask(|reply| Command::RegisterThirdParty { address_of_record, contact_uri, expires_seconds, reply }).await
    }

    /// Subscribes to its message summary (RFC 3842), and again before that expires; 0 seconds ends it.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is an answer.
    pub async fn subscribe_message_summary(&self, expires_seconds: u32) -> Result<Answer, ClientError> {
        self.ask(|reply| Command::Subscribe { expires_seconds, reply }).await
    }

    /// Sends a message in page mode.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is an answer.
    pub async fn send(&self, message: PageMessage) -> Result<PageOutcome, ClientError> {
        self.ask(|reply| Command::Send { message: Box::new(message), reply }).await
    }

    /// Whether a message fits page mode: its request may have no more bytes than UDP may carry, whatever it goes over
    /// (RFC 3428 §8).
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn fits_page_mode(&self, message: &PageMessage) -> Result<bool, ClientError> {
        let message = Box::new(message.clone());
        let bytes = self.ask(|reply| Command::Measure { message, reply }).await?;
        Ok(bytes.saturating_add(FRACTION_BYTES) <= MAX_UDP_REQUEST_BYTES)
    }

    /// Sends a message in large message mode and waits until every byte is acknowledged, or the session is over.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is an answer.
    pub async fn send_large(&self, message: LargeMessage) -> Result<LargeOutcome, ClientError> {
        let source = message.source.clone();
        let opened = tokio::task::spawn_blocking(move || Reader::open(&source)).await;
        let (reader, sha256) = opened.map_err(|_| ClientError::Stopped)?.map_err(ClientError::Source)?;
        let prepared = Box::new(PreparedLarge { message, reader, sha256 });
        self.ask(|reply| Command::SendLarge { prepared, reply }).await
    }

    /// Fetches deferred messages; they also come as [`ClientEvent::Received`].
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is an answer.
    pub async fn fetch(&self, selection: Selection) -> Result<FetchOutcome, ClientError> {
        self.ask(|reply| Command::Fetch { selection, reply }).await
    }

    /// Replaces the script.
    ///
    /// # Errors
    /// [`ClientError::Stopped`]
    pub async fn set_behaviour(&self, behaviour: Behaviour) -> Result<(), ClientError> {
        let command = Command::SetBehaviour(Box::new(behaviour));
        self.commands.send(command).await.map_err(|_| ClientError::Stopped)
    }

    /// Sends to another place from now on.
    ///
    /// # Errors
    /// [`ClientError::Stopped`]
    pub async fn set_server(&self, server: SocketAddr) -> Result<(), ClientError> {
        self.commands.send(Command::SetServer(server)).await.map_err(|_| ClientError::Stopped)
    }

    /// What a strict client objected to so far.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its address-of-record.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Its SIP place, the same for UDP and TCP.
    #[must_use]
    pub fn sip_address(&self) -> SocketAddr {
        self.local
    }

    /// Where it takes MSRP connections.
    #[must_use]
    pub fn msrp_address(&self) -> SocketAddr {
        self.msrp_local
    }

    /// Closes its sockets and ends, without taking its registration back.
    pub async fn stop(&self) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Stop { done }).await.is_ok() {
            let _ = wait.await;
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, ClientError> {
        let (reply, wait) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| ClientError::Stopped)?;
        wait.await.unwrap_or(Err(ClientError::Stopped))
    }
}

/// UDP and TCP on one port: a request too large for UDP comes over TCP to the same Contact.
pub(crate) async fn open(configuration: &ClientConfiguration, handler: &Handler) -> io::Result<Transport> {
    let mut last = no_socket();
    let tls = Tls::read(configuration.tls.files.clone()).map_err(io::Error::other)?;
    for _ in 0..PORT_ATTEMPTS {
        // The system chooses a port that is free for TCP; for UDP it may be taken.
        let free = std::net::TcpListener::bind((configuration.bind, 0))?.local_addr()?;
        let listeners = [Listener::new(Protocol::Udp, free), Listener::new(Protocol::Tcp, free)];
        let layers = Layers { tls: Arc::clone(&tls), web_sockets: WebSockets { origins: None, may_connect: true } };
        match Transport::start_with(&listeners, TransportLimits::default(), layers, Arc::clone(handler)).await {
            Ok(transport) => return Ok(transport),
            Err(error) if error.kind() == ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn no_socket() -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, "no port is free for UDP and TCP")
}

pub(crate) fn event_bytes(event: &TransportEvent) -> usize {
    match event {
        TransportEvent::Received { message, .. } => message.bytes().len(),
        TransportEvent::Unreadable { bytes, .. } => bytes.len(),
        TransportEvent::SendFailed { .. } | TransportEvent::Closed { .. } => 64,
    }
}
