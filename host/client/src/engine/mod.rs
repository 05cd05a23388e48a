//! The client's own task: everything that happens to it goes through here, one thing at a time.

mod incoming;
mod requests;
mod sessions;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use restante_msrp::framing::PeekedRequest;
use restante_sip::dialog::{Dialog, DialogId};
use restante_sip::message::{MessageLimits, Method, SipMessage, validate_request, validate_response};
use restante_sip::transaction::{
    ClientTransactionId, Endpoint, Event, Flow, SendError, ServerTransactionId, Transmit, Transport as SipTransport,
};
use restante_sip::uri::Uri;
use restante_sip::writer::{Builder, WriteError};
use restante_transport::msrp::HandedOver;
use restante_transport::queue::QueueReceiver;
use restante_transport::{Protocol, SendToken, Sender, Target, Transport, TransportEvent};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use crate::behaviour::Behaviour;
use crate::configuration::ClientConfiguration;
use crate::content::Reader;
use crate::error::ClientError;
use crate::event::ClientEvent;
use crate::msrp_session::{Notice, Notices};
use crate::observer::{self, Direction};
use crate::outgoing::{Answer, FetchOutcome, LargeMessage, LargeOutcome, PageMessage, PageOutcome, Selection};
use crate::strict;

use sessions::InviteSession;

/// Events taken from the sockets at a time.
const BATCH: usize = 64;

/// How the client is told what came of what it asked for.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, ClientError>>;

/// A large message whose content is open and hashed.
pub(crate) struct PreparedLarge {
    pub(crate) message: LargeMessage,
    pub(crate) reader: Reader,
    pub(crate) sha256: String,
}

/// What the client is asked for.
pub(crate) enum Command {
    Register { expires_seconds: u32, reply: Reply<Answer> },
    RegisterThirdParty { address_of_record: String, contact_uri: String, expires_seconds: u32, reply: Reply<Answer> },
    Subscribe { expires_seconds: u32, reply: Reply<Answer> },
    Send { message: Box<PageMessage>, reply: Reply<PageOutcome> },
    Measure { message: Box<PageMessage>, reply: Reply<usize> },
    SendLarge { prepared: Box<PreparedLarge>, reply: Reply<LargeOutcome> },
    Fetch { selection: Selection, reply: Reply<FetchOutcome> },
    SetBehaviour(Box<Behaviour>),
    SetServer(SocketAddr),
    Stop { done: oneshot::Sender<()> },
}

/// What waits for the answer to a request of ours.
enum Pending {
    Register { expires_seconds: u32, third_party: bool, reply: Option<Reply<Answer>> },
    Subscribe { request: SipMessage, expires_seconds: u32, reply: Option<Reply<Answer>> },
    Page { outcome: PageOutcome, reply: Reply<PageOutcome> },
    Notification,
    Invite { session: u64 },
    Bye { session: u64 },
}

/// Where things come in from.
pub(crate) struct Inputs {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) transport: QueueReceiver<TransportEvent>,
    pub(crate) connections: mpsc::Receiver<HandedOver<Box<PeekedRequest>>>,
    pub(crate) notices: mpsc::Receiver<(u64, Notice)>,
}

/// What lasts as long as the client does.
pub(crate) struct Engine {
    pub(crate) configuration: ClientConfiguration,
    pub(crate) transport: Option<Transport>,
    pub(crate) sender: Sender,
    /// Its SIP place: UDP and TCP.
    pub(crate) local: SocketAddr,
    pub(crate) msrp_local: SocketAddr,
    pub(crate) endpoint: Endpoint,
    pub(crate) notices: Notices,
    pub(crate) events: mpsc::Sender<ClientEvent>,
    pub(crate) violations: Arc<Mutex<Vec<String>>>,
    pub(crate) state: State,
}

/// What changes.
#[derive(Default)]
pub(crate) struct State {
    behaviour: Behaviour,
    pending: HashMap<ClientTransactionId, Pending>,
    registration: Option<Registration>,
    subscription: Option<Subscription>,
    sessions: HashMap<u64, InviteSession>,
    next_session: u64,
    dialogs: HashMap<DialogId, u64>,
    msrp_sessions: HashMap<String, u64>,
    invitations: HashMap<ServerTransactionId, u64>,
    /// INVITEs of ours, until their transaction is surely over: a 2xx can come again.
    invites: HashMap<ClientTransactionId, u64>,
    seen: HashSet<(String, String)>,
    seen_order: VecDeque<(String, String)>,
}

struct Registration {
    call_id: String,
    from_tag: String,
    cseq: u32,
    /// When to register again.
    refresh: Option<(Instant, u32)>,
}

struct Subscription {
    dialog: Dialog,
    refresh: Option<(Instant, u32)>,
}

impl Engine {
    pub(crate) async fn run(mut self, mut inputs: Inputs) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            self.settle();
            let wake = self.next_wake();
            tokio::select! {
                command = inputs.commands.recv() => match command {
                    Some(Command::Stop { done }) => {
                        self.stop().await;
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.command(command),
                    None => return self.stop().await,
                },
                _ = inputs.transport.pop_batch(&mut batch, BATCH) => {
                    for event in batch.drain(..) {
                        self.transport_event(event);
                        self.settle();
                    }
                }
                Some(handed) = inputs.connections.recv() => self.connection(handed),
                Some((session, notice)) = inputs.notices.recv() => self.notice(session, notice),
                () = sleep_until(wake.into()) => self.wake(),
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Register { expires_seconds, reply } => self.register(expires_seconds, Some(reply)),
            Command::RegisterThirdParty { address_of_record, contact_uri, expires_seconds, reply } => {
                self.register_third_party(&address_of_record, &contact_uri, expires_seconds, reply);
            }
            Command::Subscribe { expires_seconds, reply } => self.subscribe(expires_seconds, Some(reply)),
            Command::Send { message, reply } => self.send_page(&message, reply),
            Command::Measure { message, reply } => _ = reply.send(self.page_bytes(&message)),
            Command::SendLarge { prepared, reply } => self.send_large(*prepared, reply),
            Command::Fetch { selection, reply } => self.fetch(&selection, reply),
            Command::SetBehaviour(behaviour) => self.state.behaviour = *behaviour,
            Command::SetServer(server) => self.configuration.server = server,
            // Taken by the loop.
            Command::Stop { .. } => {}
        }
    }

    async fn stop(&mut self) {
        for session in self.state.sessions.values_mut() {
            session.close();
        }
        self.settle();
        if let Some(transport) = self.transport.take() {
            transport.shutdown().await;
        }
    }

    /// Until nothing happens without the network or the clock.
    fn settle(&mut self) {
        loop {
            if let Some(transmit) = self.endpoint.poll_transmit() {
                self.transmit(transmit);
            } else if let Some(event) = self.endpoint.poll_event() {
                self.sip_event(event);
            } else {
                return;
            }
        }
    }

    fn next_wake(&self) -> Instant {
        let registration = self.state.registration.as_ref().and_then(|it| it.refresh).map(|(at, _)| at);
        let subscription = self.state.subscription.as_ref().and_then(|it| it.refresh).map(|(at, _)| at);
        let sessions = self.state.sessions.values().map(|session| session.deadline).min();
        let far = Instant::now() + Duration::from_secs(3_600);
        [self.endpoint.next_wake(), registration, subscription, sessions].into_iter().flatten().min().unwrap_or(far)
    }

    fn wake(&mut self) {
        let now = Instant::now();
        self.endpoint.handle_wake(now);
        let due = |refresh: Option<(Instant, u32)>| refresh.filter(|(at, _)| *at <= now).map(|(_, seconds)| seconds);
        if let Some(seconds) =
            self.state.registration.as_mut().and_then(|it| due(it.refresh.take_if(|(at, _)| *at <= now)))
        {
            self.register(seconds, None);
        }
        if let Some(seconds) =
            self.state.subscription.as_mut().and_then(|it| due(it.refresh.take_if(|(at, _)| *at <= now)))
        {
            self.subscribe(seconds, None);
        }
        self.end_overdue_sessions(now);
    }

    fn transport_event(&mut self, event: TransportEvent) {
        match event {
            TransportEvent::Received { message, flow } => {
                observer::sip(
                    self.configuration.observer.as_ref(),
                    Direction::Received,
                    flow.local,
                    flow.remote,
                    &message,
                );
                let flow = Flow {
                    transport: sip_transport(flow.protocol),
                    local: flow.local,
                    remote: flow.remote,
                    connection: flow.connection.map(|id| restante_sip::transaction::ConnectionId(id.0)),
                };
                self.received(message, flow);
            }
            TransportEvent::Unreadable { reason, .. } => self.violation(format!("unreadable SIP: {reason}")),
            TransportEvent::SendFailed { token, .. } => self.endpoint.transport_failed(ClientTransactionId(token.key)),
            TransportEvent::Closed { .. } => {}
        }
    }

    fn received(&mut self, message: SipMessage, flow: Flow) {
        if message.is_request() {
            if let Err(error) = validate_request(&message) {
                self.violation(format!("malformed request: {error}"));
                if let Some(status) = error.status() {
                    self.endpoint.refuse(&message, flow, status, &error.to_string());
                }
                return;
            }
        } else if !validate_response(&message) {
            return self.violation("malformed response".to_owned());
        }
        self.endpoint.receive(Instant::now(), message, flow);
    }

    fn transmit(&mut self, transmit: Transmit) {
        let Transmit { flow, bytes, client } = transmit;
        observer::sip_bytes(self.configuration.observer.as_ref(), Direction::Sent, self.local, flow.remote, &bytes);
        let token = client.map(|client| SendToken { shard: 0, key: client.0 });
        let protocol = protocol(flow.transport);
        let address = Target::Address { protocol, remote: flow.remote, listener: None };
        let target = match flow.connection {
            Some(connection) => Target::Flow(restante_transport::Flow {
                protocol,
                listener: None,
                local: flow.local,
                remote: flow.remote,
                connection: Some(restante_transport::ConnectionId(connection.0)),
            }),
            None => address,
        };
        let result = self.sender.send(&target, bytes.clone(), token);
        // An answer whose connection is gone may still find its way (RFC 3261 §18.2.2).
        let result = result.or_else(|failure| match flow.connection {
            Some(_) => self.sender.send(&address, bytes, token),
            None => Err(failure),
        });
        if let (Err(_), Some(client)) = (result, client) {
            self.endpoint.transport_failed(client);
        }
    }

    fn sip_event(&mut self, event: Event) {
        match event {
            Event::Request { transaction, message, flow, .. } => self.request(transaction, &message, flow),
            Event::Ack { transaction, .. } => self.acknowledged(transaction),
            Event::Cancelled { transaction, .. } => self.cancelled(transaction),
            Event::AckMissing { transaction, .. } => self.ack_missing(transaction),
            Event::Response { transaction, message, .. } => self.response(transaction, message),
            Event::TimedOut { transaction, .. } => self.unanswered(transaction, ClientError::NoAnswer),
            Event::NotSent { transaction, .. } => self.unanswered(transaction, ClientError::Unreachable),
            // A script said so.
            Event::Abandoned { .. } => {}
        }
    }

    /// Sends a request outside of a dialog; what is too large for UDP goes over TCP. Gives the request as it was sent.
    fn send_request(
        &mut self,
        method: &Method,
        (protocol, remote): (Protocol, SocketAddr),
        mut build: impl FnMut(&str) -> Result<Bytes, WriteError>,
    ) -> Result<(ClientTransactionId, SipMessage), ClientError> {
        let sent_by = self.local.to_string();
        let mut sent = Bytes::new();
        let mut attempt = |endpoint: &mut Endpoint, transport: SipTransport| {
            let flow = Flow { transport, local: self.local, remote, connection: None };
            endpoint.send_request(Instant::now(), method.clone(), flow, &sent_by, |via| {
                sent = build(via)?;
                Ok(sent.clone())
            })
        };
        let transaction = match attempt(&mut self.endpoint, sip_transport(protocol)) {
            Err(SendError::TooLargeForUdp) => attempt(&mut self.endpoint, SipTransport::Tcp),
            other => other,
        }?;
        let limits = MessageLimits::default();
        let request = SipMessage::parse(sent, &limits).map_err(|_| ClientError::Write(WriteError::Missing))?;
        Ok((transaction, request))
    }

    /// Notes who waits for the answer to what was sent, or tells them that it was not.
    fn await_answer<T>(
        &mut self,
        sent: Result<(ClientTransactionId, SipMessage), ClientError>,
        reply: Option<Reply<T>>,
        pending: impl FnOnce(SipMessage, Option<Reply<T>>) -> Pending,
    ) {
        match (sent, reply) {
            (Ok((transaction, request)), reply) => {
                self.state.pending.insert(transaction, pending(request, reply));
            }
            (Err(error), Some(reply)) => _ = reply.send(Err(error)),
            (Err(error), None) => self.violation(format!("cannot send: {error}")),
        }
    }

    fn server(&self) -> (Protocol, SocketAddr) {
        (self.configuration.transport, self.configuration.server)
    }

    fn contact_uri(&self) -> String {
        let user = crate::compose::contact_user(&self.configuration.identity);
        let transport = match self.configuration.transport {
            Protocol::Udp => "",
            Protocol::Tcp => ";transport=tcp",
        };
        format!("sip:{user}@{}{transport}", self.local)
    }

    fn event(&mut self, event: ClientEvent) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            self.keep_violation("an event was dropped: too many wait to be taken".to_owned());
        }
    }

    fn violation(&mut self, text: String) {
        self.keep_violation(text.clone());
        self.event(ClientEvent::Violation(text));
    }

    fn object(&mut self, objections: Vec<String>) {
        for text in objections {
            self.violation(text);
        }
    }

    fn keep_violation(&mut self, text: String) {
        let mut violations = self.violations.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if violations.len() < self.configuration.limits.max_violations {
            violations.push(text);
        }
    }

    /// Remembers a message and says whether it was there before.
    fn is_repeated(&mut self, sender: &str, message_id: Option<&str>) -> bool {
        let Some(message_id) = message_id else { return false };
        let key = (sender.to_owned(), message_id.to_owned());
        if !self.state.seen.insert(key.clone()) {
            return true;
        }
        self.state.seen_order.push_back(key);
        if self.state.seen_order.len() > self.configuration.limits.max_remembered_messages
            && let Some(oldest) = self.state.seen_order.pop_front()
        {
            self.state.seen.remove(&oldest);
        }
        false
    }

    fn response(&mut self, transaction: ClientTransactionId, message: SipMessage) {
        self.object(strict::response(&message));
        if message.status().is_none_or(|status| status < 200) {
            return;
        }
        if let Some(session) = self.state.invites.get(&transaction).copied() {
            self.state.pending.remove(&transaction);
            return self.invite_answered(session, &message);
        }
        let Some(pending) = self.state.pending.remove(&transaction) else { return };
        match pending {
            Pending::Register { expires_seconds, third_party, reply } => {
                self.registered(expires_seconds, third_party, &message, reply);
            }
            Pending::Subscribe { request, expires_seconds, reply } => {
                self.subscribed(&request, expires_seconds, &message, reply);
            }
            Pending::Page { mut outcome, reply } => {
                outcome.answer = answer_of(&message);
                let _ = reply.send(Ok(outcome));
            }
            Pending::Notification => self.notification_answered(message.status()),
            Pending::Bye { session } => self.bye_done(session),
            Pending::Invite { .. } => {}
        }
    }

    fn unanswered(&mut self, transaction: ClientTransactionId, error: ClientError) {
        let Some(pending) = self.state.pending.remove(&transaction) else { return };
        match pending {
            Pending::Register { reply, .. } | Pending::Subscribe { reply, .. } => {
                if let Some(reply) = reply {
                    let _ = reply.send(Err(error));
                }
            }
            Pending::Page { reply, .. } => _ = reply.send(Err(error)),
            Pending::Notification => self.notification_answered(None),
            Pending::Invite { session } => {
                self.state.invites.remove(&transaction);
                self.fail_session(session, error);
            }
            Pending::Bye { session } => self.bye_done(session),
        }
    }
}

/// What tells a request of ours from others.
struct Outline<'a> {
    from: &'a str,
    from_tag: &'a str,
    to: &'a str,
    call_id: &'a str,
    cseq: u32,
}

/// The fields that every request of ours outside of a dialog begins with.
fn begin(method: &Method, uri: &str, via: &str, outline: &Outline<'_>) -> Builder {
    Builder::request(method, uri)
        .field("Via", via)
        .field("Max-Forwards", "70")
        .field("From", &format!("<{}>;tag={}", outline.from, outline.from_tag))
        .field("To", &format!("<{}>", outline.to))
        .field("Call-ID", outline.call_id)
        .field("CSeq", &format!("{} {method}", outline.cseq))
        .field("User-Agent", "restante-client")
}

fn sip_transport(protocol: Protocol) -> SipTransport {
    match protocol {
        Protocol::Udp => SipTransport::Udp,
        Protocol::Tcp => SipTransport::Tcp,
    }
}

fn protocol(transport: SipTransport) -> Protocol {
    match transport {
        SipTransport::Udp => Protocol::Udp,
        SipTransport::Tcp => Protocol::Tcp,
    }
}

/// A message's header fields, in order.
fn fields_of(message: &SipMessage) -> Vec<(String, String)> {
    let field =
        |field| (message.field_name(field).to_owned(), restante_sip::message::unfold(message.field_value(field)));
    message.fields().iter().map(field).collect()
}

fn answer_of(message: &SipMessage) -> Answer {
    let line =
        String::from_utf8_lossy(message.bytes().split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let reason = line.splitn(3, ' ').nth(2).unwrap_or("").to_owned();
    Answer { status: message.status().unwrap_or(0), reason, fields: fields_of(message) }
}

/// Where a URI with a numeric host leads.
pub(crate) fn place_of(uri: &str) -> Option<(Protocol, SocketAddr)> {
    let uri = Uri::parse(uri).ok()?;
    let sip = uri.as_sip()?;
    let host = sip.host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    let protocol = match uri.parameter("transport") {
        Some(transport) if transport.eq_ignore_ascii_case("tcp") => Protocol::Tcp,
        _ => Protocol::Udp,
    };
    Some((protocol, SocketAddr::new(host, sip.port_or_default())))
}
