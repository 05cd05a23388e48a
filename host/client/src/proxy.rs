//! An outbound proxy for tests and demonstrations: what stands between a server and its users in a real network.
//!
//! Stateless (RFC 3261 §16.11). Requests of the server go to the user that their Request-URI names, those of users to
//! the server. On the way to a user it can loop a request back to the server once, as a core does whose filter criteria
//! match the server's own delivery, and it can answer in the core's place.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use restante_sip::header::Via;
use restante_sip::identity::canonical;
use restante_sip::message::{Method, Name, SipMessage, validate_request, validate_response};
use restante_sip::transaction::MAX_UDP_REQUEST_BYTES;
use restante_sip::uri::{Uri, host_address};
use restante_sip::writer::{Builder, Edit, WriteError, reason};
use restante_transport::queue::{self, Lane, QueueLimits};
use restante_transport::{Flow, Handler, Intake, Protocol, Sender, Target, TransportEvent};
use tokio::sync::oneshot;

use crate::client::{event_bytes, open};
use crate::configuration::ClientConfiguration;
use crate::content::sha256;
use crate::error::ClientError;
use crate::observer::{self, Direction, Observer};
use crate::outgoing::Answer;
use crate::{Client, ClientEvents};

/// Requests whose way back is remembered.
const MAX_REMEMBERED: usize = 10_000;
/// Requests noted in [`Proxy::passed`].
const MAX_PASSED: usize = 100_000;
const MAX_FORWARDS: &str = "70";

/// Everything about one proxy.
#[derive(Clone)]
pub struct ProxyConfiguration {
    /// The server that it stands in front of.
    pub server: SocketAddr,
    /// Over what it talks to the server; what is too large for UDP goes over TCP.
    pub transport: Protocol,
    /// Its own name in third-party registrations.
    pub identity: String,
    /// Address of its sockets.
    pub bind: std::net::IpAddr,
    /// Sees the wire.
    pub observer: Option<Arc<dyn Observer>>,
}

/// What became of a request that came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It went to a user.
    ToUser,
    /// It went from a user to the server.
    ToServer,
    /// It went back to the server that it came from.
    LoopedBack,
    /// It was answered here.
    Answered(u16),
}

/// A request that came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Its method.
    pub method: String,
    /// Its Request-URI.
    pub request_uri: String,
    /// Its Call-ID.
    pub call_id: String,
    /// What became of it.
    pub passage: Passage,
    /// Its body.
    pub body: Bytes,
}

/// A running proxy. It ends when it is dropped or stopped.
pub struct Proxy {
    core: Arc<Core>,
    registrant: Client,
    _registrant_events: ClientEvents,
    local: SocketAddr,
    stop: Option<oneshot::Sender<oneshot::Sender<()>>>,
}

struct Core {
    configuration: ProxyConfiguration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Canonical address to Contact URI.
    users: HashMap<String, String>,
    /// Requests of the server that are still to be looped back.
    loops_left: usize,
    /// Answers in the core's place, one a request.
    answers: VecDeque<u16>,
    /// Answers every request so.
    every_answer: Option<u16>,
    /// Where the request with this branch of ours came from, and what became of it.
    ways_back: HashMap<String, (Flow, Passage)>,
    ways_in_order: VecDeque<String>,
    passed: Vec<Passed>,
}

impl ProxyConfiguration {
    /// A proxy on loopback in front of a server.
    #[must_use]
    pub fn new(server: SocketAddr) -> ProxyConfiguration {
        ProxyConfiguration {
            server,
            transport: Protocol::Udp,
            identity: "sip:scscf.example.org".to_owned(),
            bind: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            observer: None,
        }
    }
}

impl Proxy {
    /// Opens the sockets and starts the proxy's task on the current runtime.
    ///
    /// # Errors
    /// [`ClientError::Socket`]
    pub async fn start(configuration: ProxyConfiguration) -> Result<Proxy, ClientError> {
        let (sockets, mut events) = queue::channel(QueueLimits::default());
        let handler: Handler = Arc::new(move |event| {
            let bytes = event_bytes(&event);
            if sockets.try_push(Lane::Ordinary, event, bytes).is_err() { Intake::Congested } else { Intake::Open }
        });
        let own = ClientConfiguration {
            bind: configuration.bind,
            transport: configuration.transport,
            observer: configuration.observer.clone(),
            ..ClientConfiguration::new(&configuration.identity, configuration.server)
        };
        let transport = open(&own, &handler).await?;
        let local = transport.listeners().first().map(|bound| bound.local).ok_or(ClientError::Stopped)?;
        let (registrant, registrant_events) = Client::start(own).await?;
        let core = Arc::new(Core { configuration, state: Mutex::default() });
        let (stop, stopped) = oneshot::channel::<oneshot::Sender<()>>();
        let forwarder = Forwarder { core: Arc::clone(&core), sender: transport.sender(), local };
        tokio::spawn(async move {
            let done = tokio::select! {
                done = stopped => done.ok(),
                () = forwarder.run(&mut events) => None,
            };
            transport.shutdown().await;
            if let Some(done) = done {
                let _ = done.send(());
            }
        });
        Ok(Proxy { core, registrant, _registrant_events: registrant_events, local, stop: Some(stop) })
    }

    /// Its SIP place, the same for UDP and TCP.
    #[must_use]
    pub fn sip_address(&self) -> SocketAddr {
        self.local
    }

    /// Its URI: the Contact of third-party registrations.
    #[must_use]
    pub fn uri(&self) -> String {
        match self.core.configuration.transport {
            Protocol::Udp => format!("sip:{}", self.local),
            protocol => format!("sip:{};transport={protocol}", self.local),
        }
    }

    /// Sends requests for a user to this Contact URI, whose host is a number.
    pub fn route(&self, address_of_record: &str, contact_uri: &str) {
        if let Some(key) = canonical_text(address_of_record) {
            self.core.state().users.insert(key, contact_uri.to_owned());
        }
    }

    /// Forgets a user: requests for it are answered 404.
    pub fn forget(&self, address_of_record: &str) {
        if let Some(key) = canonical_text(address_of_record) {
            self.core.state().users.remove(&key);
        }
    }

    /// Tells the server that a user is registered here, by a third-party REGISTER.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is an answer.
    pub async fn register(&self, address_of_record: &str, expires_seconds: u32) -> Result<Answer, ClientError> {
        self.registrant.register_third_party(address_of_record, &self.uri(), expires_seconds).await
    }

    /// Loops the next requests of the server back to it, each once.
    pub fn loop_back(&self, requests: usize) {
        self.core.state().loops_left = requests;
    }

    /// Answers the next requests of the server in the core's place.
    pub fn answer(&self, statuses: &[u16]) {
        self.core.state().answers.extend(statuses);
    }

    /// Answers every request of the server in the core's place, until told otherwise with none.
    pub fn answer_all(&self, status: Option<u16>) {
        self.core.state().every_answer = status;
    }

    /// The requests that came by, ACK included, in order.
    #[must_use]
    pub fn passed(&self) -> Vec<Passed> {
        self.core.state().passed.clone()
    }

    /// Closes its sockets.
    pub async fn stop(mut self) {
        let (done, wait) = oneshot::channel();
        if self.stop.take().is_some_and(|stop| stop.send(done).is_ok()) {
            let _ = wait.await;
        }
        self.registrant.stop().await;
    }
}

impl Core {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Forwarder {
    core: Arc<Core>,
    sender: Sender,
    local: SocketAddr,
}

impl Forwarder {
    async fn run(&self, events: &mut queue::QueueReceiver<TransportEvent>) {
        let mut batch = Vec::new();
        while events.pop_batch(&mut batch, 64).await {
            for event in batch.drain(..) {
                let TransportEvent::Received { message, flow } = event else { continue };
                self.observe(Direction::Received, flow.remote, &message);
                // What cannot be forwarded is dropped: its sender repeats it or gives up.
                let _ = if message.is_request() { self.request(&message, flow) } else { self.response(&message) };
            }
        }
    }

    fn request(&self, message: &SipMessage, flow: Flow) -> Result<(), WriteError> {
        if validate_request(message).is_err() {
            return self.answer(message, flow, 400);
        }
        let branch = own_branch(message);
        let passage = self.decide(message, flow, &branch);
        self.remember(&branch, message, flow, &passage);
        let (target, request_uri) = match passage {
            Passage::Answered(status) => return self.answer(message, flow, status),
            Passage::LoopedBack | Passage::ToServer => (self.server(), None),
            Passage::ToUser => match self.user(message) {
                Some((target, contact_uri)) => (target, Some(contact_uri)),
                None => return self.answer(message, flow, 404),
            },
        };
        let hops = message.number(Name::MaxForwards).ok().flatten();
        let hops = hops.map_or_else(|| MAX_FORWARDS.to_owned(), |hops| hops.saturating_sub(1).to_string());
        let forward = |protocol: Protocol| -> Result<Bytes, WriteError> {
            let via = format!("SIP/2.0/{} {};branch={branch};rport", protocol.as_str(), self.local);
            let mut edit = Edit::new(message).push(Name::Via, &via)?.set(Name::MaxForwards, &hops)?;
            if let Some(uri) = &request_uri {
                edit = edit.request_uri(uri)?;
            }
            if self.is_own_route(message) {
                edit = edit.pop(Name::Route);
            }
            Ok(edit.finish())
        };
        let (protocol, remote) = target;
        let bytes = forward(protocol)?;
        let (protocol, bytes) = match protocol {
            Protocol::Udp if bytes.len() > MAX_UDP_REQUEST_BYTES => (Protocol::Tcp, forward(Protocol::Tcp)?),
            protocol => (protocol, bytes),
        };
        self.send(Target::Address { protocol, remote, listener: None, name: None }, remote, bytes);
        Ok(())
    }

    /// The topmost Via is ours: off with it, and back where the request came from.
    fn response(&self, message: &SipMessage) -> Result<(), WriteError> {
        let branch = message.top_via().ok().and_then(|via| via.branch().map(str::to_owned));
        let way_back = branch.and_then(|branch| self.core.state().ways_back.get(&branch).cloned());
        let Some((flow, _)) = way_back.filter(|_| validate_response(message)) else { return Ok(()) };
        let bytes = Edit::new(message).pop(Name::Via).finish();
        self.send(Target::Flow(flow), flow.remote, bytes);
        Ok(())
    }

    fn decide(&self, message: &SipMessage, flow: Flow, branch: &str) -> Passage {
        let mut state = self.core.state();
        if !self.is_from_server(message, flow) {
            return Passage::ToServer;
        }
        // A repetition goes the same way; so does the ACK to an answer other than 2xx.
        if let Some((_, passage)) = state.ways_back.get(branch) {
            return passage.clone();
        }
        if message.method() == Some(Method::Ack) {
            return Passage::ToUser;
        }
        if let Some(status) = state.answers.pop_front().or(state.every_answer) {
            return Passage::Answered(status);
        }
        if state.loops_left > 0 && message.to().is_ok_and(|to| to.tag().is_none()) {
            state.loops_left = state.loops_left.saturating_sub(1);
            return Passage::LoopedBack;
        }
        Passage::ToUser
    }

    /// Requests of the server have its Via on top; over TCP it comes from another port than it listens on.
    fn is_from_server(&self, message: &SipMessage, flow: Flow) -> bool {
        let server = self.core.configuration.server;
        let named = message.top_via().is_ok_and(|via: Via| {
            host_address(&via.host) == Some(server.ip()) && via.port.unwrap_or(5060) == server.port()
        });
        flow.remote == server || named
    }

    fn server(&self) -> (Protocol, SocketAddr) {
        (self.core.configuration.transport, self.core.configuration.server)
    }

    /// Where the user named in the Request-URI is, and its Contact URI; in To when the Request-URI is that of this
    /// proxy. A URI with a numeric host of no known user is taken at its word.
    fn user(&self, message: &SipMessage) -> Option<((Protocol, SocketAddr), String)> {
        let uri = message.request_uri()?;
        let to = message.to().ok().map(|to| to.uri.to_string());
        let is_ours = crate::engine::place_of(uri).is_some_and(|(_, place)| place == self.local);
        let known = |uri: &str| canonical_text(uri).and_then(|key| self.core.state().users.get(&key).cloned());
        let contact = known(uri).or_else(|| to.filter(|_| is_ours).and_then(|to| known(&to)));
        let contact = contact.unwrap_or_else(|| uri.to_owned());
        let place = crate::engine::place_of(&contact).filter(|(_, place)| *place != self.local)?;
        Some((place, contact))
    }

    fn is_own_route(&self, message: &SipMessage) -> bool {
        let route = message.name_addrs(Name::Route).ok().and_then(|routes| routes.into_iter().next());
        route.is_some_and(|route| {
            crate::engine::place_of(&route.uri.to_string()).is_some_and(|(_, place)| place == self.local)
        })
    }

    fn answer(&self, message: &SipMessage, flow: Flow, status: u16) -> Result<(), WriteError> {
        if message.method() == Some(Method::Ack) {
            return Ok(());
        }
        let Ok(mut via) = message.top_via() else { return Ok(()) };
        let back = Flow { remote: way_back(message, flow), ..flow };
        via.stamp(flow.remote);
        let tag = own_branch(message);
        let bytes = Builder::response(message, status, reason(status), Some(&via.to_string()), Some(&tag)).finish()?;
        self.send(Target::Flow(back), back.remote, bytes);
        Ok(())
    }

    fn send(&self, target: Target, remote: SocketAddr, bytes: Bytes) {
        let observer = self.core.configuration.observer.as_ref();
        observer::sip_bytes(observer, Direction::Sent, self.local, remote, &bytes);
        let _ = self.sender.send(&target, bytes, None);
    }

    fn observe(&self, direction: Direction, remote: SocketAddr, message: &SipMessage) {
        observer::sip(self.core.configuration.observer.as_ref(), direction, self.local, remote, message);
    }

    fn remember(&self, branch: &str, message: &SipMessage, flow: Flow, passage: &Passage) {
        let way_back = Flow { remote: way_back(message, flow), ..flow };
        let mut state = self.core.state();
        if state.ways_back.insert(branch.to_owned(), (way_back, passage.clone())).is_some() {
            return;
        }
        state.ways_in_order.push_back(branch.to_owned());
        if state.ways_in_order.len() > MAX_REMEMBERED
            && let Some(oldest) = state.ways_in_order.pop_front()
        {
            state.ways_back.remove(&oldest);
        }
        if state.passed.len() < MAX_PASSED {
            state.passed.push(Passed {
                method: message.method().map_or_else(String::new, |method| method.to_string()),
                request_uri: message.request_uri().unwrap_or("").to_owned(),
                call_id: message.call_id().unwrap_or("").to_owned(),
                passage: passage.clone(),
                body: message.body(),
            });
        }
    }
}

/// Where answers go (RFC 3261 §18.2.2): over UDP where the Via says, as far as that can be believed.
fn way_back(message: &SipMessage, flow: Flow) -> SocketAddr {
    match (flow.protocol, message.top_via()) {
        (Protocol::Udp, Ok(via)) => via.response_destination(flow.remote),
        _ => flow.remote,
    }
}

/// The same for every repetition of a request, another for every pass of it (RFC 3261 §16.11).
fn own_branch(message: &SipMessage) -> String {
    let via = message.top_via().map(|via| format!("{}:{:?}", via.host, via.port)).unwrap_or_default();
    let branch = message.top_via().ok().and_then(|via| via.branch().map(str::to_owned)).unwrap_or_default();
    let digest = sha256(format!("{via}\n{branch}\n{}", message.call_id().unwrap_or("")).as_bytes());
    format!("z9hG4bKp{}", digest.get(..24).unwrap_or_default())
}

fn canonical_text(uri: &str) -> Option<String> {
    canonical(&Uri::parse(uri).ok()?)
}
