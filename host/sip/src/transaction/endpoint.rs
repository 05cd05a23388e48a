use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::client::{ClientTransaction, State as ClientState};
use super::identifiers::{Identifiers, transaction_of_branch};
use super::server::{ServerTransaction, State as ServerState};
use super::timers::{Side, Timer, TimerQueue};
use super::{
    ClientTransactionId, Event, Flow, MAX_UDP_REQUEST_BYTES, SendError, ServerTransactionId, TimerValues, Transmit,
};
use crate::header::Via;
use crate::message::{MessageLimits, Method, Name, SipMessage};
use crate::writer::{Builder, Edit, WriteError, reason};

/// Bounds and values of an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointConfiguration {
    /// Which shard it is, at most 255.
    pub shard: u8,
    /// Random; branches and tags come from it.
    pub key: [u8; 32],
    /// Timers.
    pub timers: TimerValues,
    /// Server transactions, those that only absorb repetitions included. More requests get a stateless 503.
    pub max_server_transactions: usize,
    /// Client transactions. More: [`SendError::Busy`].
    pub max_client_transactions: usize,
}

/// All transactions of one shard.
#[derive(Debug)]
pub struct Endpoint {
    configuration: EndpointConfiguration,
    identifiers: Identifiers,
    next_id: u64,
    servers: HashMap<u64, ServerTransaction>,
    server_keys: HashMap<Box<str>, u64>,
    merge_keys: HashMap<Box<str>, u64>,
    ack_keys: HashMap<Box<str>, u64>,
    clients: HashMap<u64, ClientTransaction>,
    timers: TimerQueue,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

impl Endpoint {
    /// An empty one.
    #[must_use]
    pub fn new(configuration: EndpointConfiguration) -> Endpoint {
        Endpoint {
            identifiers: Identifiers::new(configuration.shard, configuration.key),
            configuration,
            next_id: 1,
            servers: HashMap::new(),
            server_keys: HashMap::new(),
            merge_keys: HashMap::new(),
            ack_keys: HashMap::new(),
            clients: HashMap::new(),
            timers: TimerQueue::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Makes tags and random numbers of this shard.
    pub fn identifiers(&mut self) -> &mut Identifiers {
        &mut self.identifiers
    }

    /// Transactions held: server, client.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.servers.len(), self.clients.len())
    }

    /// Whether no transaction is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.clients.is_empty()
    }

    /// What to send next.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// What to tell next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Endpoint::handle_wake`].
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Takes a message that passed validation.
    pub fn receive(&mut self, now: Instant, message: SipMessage, flow: Flow) {
        if message.is_request() {
            self.receive_request(now, message, flow)
        } else {
            self.receive_response(now, message)
        }
    }

    /// The response that a transaction would send, to be completed and given to [`Endpoint::respond`]. None once it is
    /// answered for good.
    #[must_use]
    pub fn response(&self, transaction: ServerTransactionId, status: u16, to_tag: Option<&str>) -> Option<Builder> {
        let server = self.servers.get(&transaction.0)?;
        let request = server.request.as_ref()?;
        Some(Builder::response(request, status, reason(status), Some(&server.via), to_tag))
    }

    /// The same with a reason phrase of one's own.
    #[must_use]
    pub fn response_with_reason(
        &self,
        transaction: ServerTransactionId,
        status: u16,
        reason: &str,
        to_tag: Option<&str>,
    ) -> Option<Builder> {
        let server = self.servers.get(&transaction.0)?;
        Some(Builder::response(server.request.as_ref()?, status, reason, Some(&server.via), to_tag))
    }

    /// The request of a transaction that has no final answer yet.
    #[must_use]
    pub fn request(&self, transaction: ServerTransactionId) -> Option<&SipMessage> {
        self.servers.get(&transaction.0)?.request.as_ref()
    }

    /// Sends a response. A second final one is ignored.
    pub fn respond(&mut self, now: Instant, transaction: ServerTransactionId, status: u16, bytes: Bytes) {
        let timers = self.configuration.timers;
        let Some(server) = self.servers.get_mut(&transaction.0) else { return };
        if server.state != ServerState::Proceeding {
            return;
        }
        server.last = Some(bytes.clone());
        self.transmits.push_back(Transmit { flow: server.reply, bytes: bytes.clone(), client: None });
        if status < 200 {
            return;
        }
        server.request = None;
        if let Some(key) = server.merge_key.take() {
            self.merge_keys.remove(&key);
        }
        let id = transaction.0;
        let reliable = server.reply.transport.is_reliable();
        match (server.is_invite, status) {
            (true, 200..300) => {
                server.state = ServerState::Accepted { acknowledged: false };
                // Even over a reliable transport: the loss may be on a later hop (RFC 3261 §13.3.1.4).
                server.retransmit = Some((now + timers.t1, timers.t1));
                self.timers.set(now + timers.t1, Side::Server, id, Timer::Retransmit);
                self.timers.set(now + timers.timeout(), Side::Server, id, Timer::End);
                if let Some(key) = ack_key_of_response(&bytes) {
                    server.ack_key = Some(key.clone());
                    self.ack_keys.insert(key, id);
                }
            }
            (true, _) => {
                server.state = ServerState::Completed;
                if !reliable {
                    server.retransmit = Some((now + timers.t1, timers.t1));
                    self.timers.set(now + timers.t1, Side::Server, id, Timer::Retransmit);
                }
                self.timers.set(now + timers.timeout(), Side::Server, id, Timer::End);
            }
            (false, _) => {
                server.state = ServerState::Completed;
                let linger = if reliable { Duration::ZERO } else { timers.timeout() };
                self.timers.set(now + linger, Side::Server, id, Timer::End);
            }
        }
    }

    /// Sends a request in a transaction of its own. `build` is given the Via value to put first.
    ///
    /// # Errors
    /// [`SendError`]
    pub fn send_request(
        &mut self,
        now: Instant,
        method: Method,
        flow: Flow,
        sent_by: &str,
        build: impl FnOnce(&str) -> Result<Bytes, WriteError>,
    ) -> Result<ClientTransactionId, SendError> {
        if self.clients.len() >= self.configuration.max_client_transactions {
            return Err(SendError::Busy);
        }
        let id = self.next_id();
        let branch = self.identifiers.branch(id);
        let via = format!("SIP/2.0/{} {sent_by};branch={branch};rport", flow.transport.as_str());
        let request = build(&via)?;
        if !flow.transport.is_reliable() && request.len() > MAX_UDP_REQUEST_BYTES {
            return Err(SendError::TooLargeForUdp);
        }
        let timers = self.configuration.timers;
        let retransmit = (!flow.transport.is_reliable()).then_some((now + timers.t1, timers.t1));
        if retransmit.is_some() {
            self.timers.set(now + timers.t1, Side::Client, id, Timer::Retransmit);
        }
        self.timers.set(now + timers.timeout(), Side::Client, id, Timer::Timeout);
        self.transmits.push_back(Transmit { flow, bytes: request.clone(), client: Some(ClientTransactionId(id)) });
        let client = ClientTransaction {
            state: ClientState::Calling,
            method,
            branch: branch.into(),
            flow,
            request,
            retransmit,
            ack: None,
            cancel_wanted: false,
        };
        self.clients.insert(id, client);
        Ok(ClientTransactionId(id))
    }

    /// Sends bytes outside of any transaction: an ACK to a 2xx, a stateless answer.
    pub fn send_stateless(&mut self, flow: Flow, bytes: Bytes) {
        self.transmits.push_back(Transmit { flow, bytes, client: None });
    }

    /// Cancels an INVITE: at once if a provisional answer came, else as soon as one comes (RFC 3261 §9.1). Its final
    /// answer, usually 487, still comes as an event.
    pub fn cancel(&mut self, now: Instant, transaction: ClientTransactionId) {
        let Some(client) = self.clients.get_mut(&transaction.0) else { return };
        match client.state {
            ClientState::Calling => client.cancel_wanted = true,
            ClientState::Proceeding => self.send_cancel(now, transaction.0),
            ClientState::Accepted | ClientState::Completed => {}
        }
    }

    /// What was to be sent could not be.
    pub fn transport_failed(&mut self, transaction: ClientTransactionId) {
        let waiting =
            |client: &ClientTransaction| matches!(client.state, ClientState::Calling | ClientState::Proceeding);
        if self.clients.get(&transaction.0).is_some_and(waiting) {
            self.clients.remove(&transaction.0);
            self.events.push_back(Event::NotSent { transaction });
        }
    }

    /// Does what is due.
    pub fn handle_wake(&mut self, now: Instant) {
        while let Some((at, side, id, timer)) = self.timers.pop_due(now) {
            match side {
                Side::Client => self.client_timer(at, id, timer),
                Side::Server => self.server_timer(at, id, timer),
            }
        }
    }

    fn next_id(&mut self) -> u64 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    fn receive_request(&mut self, now: Instant, message: SipMessage, flow: Flow) {
        let Ok(mut via) = message.top_via() else { return };
        let Some(method) = message.method() else { return };
        let reply = Flow {
            remote: if flow.transport.is_reliable() { flow.remote } else { via.response_destination(flow.remote) },
            ..flow
        };
        match method {
            Method::Ack => return self.receive_ack(now, &message, &via),
            Method::Cancel => return self.receive_cancel(&message, via, reply, flow),
            _ => {}
        }
        let key = server_key(&message, &via, method.as_str());
        if let Some(id) = self.server_keys.get(&key) {
            if let Some(server) = self.servers.get(id)
                && let Some(last) = &server.last
            {
                self.transmits.push_back(Transmit { flow: server.reply, bytes: last.clone(), client: None });
            }
            return;
        }
        via.stamp(flow.remote);
        let via_text = via.to_string();
        let merge_key = merge_key(&message);
        if merge_key.as_ref().is_some_and(|key| self.merge_keys.contains_key(key)) {
            return self.answer_stateless(&message, &via_text, reply, 482);
        }
        if self.servers.len() >= self.configuration.max_server_transactions {
            return self.answer_stateless(&message, &via_text, reply, 503);
        }
        let id = self.next_id();
        let is_invite = method == Method::Invite;
        let server = ServerTransaction {
            state: ServerState::Proceeding,
            is_invite,
            key: key.clone(),
            reply,
            via: via_text.into(),
            last: None,
            retransmit: None,
            ack_key: None,
            merge_key: merge_key.clone(),
            request: Some(message.clone()),
        };
        self.servers.insert(id, server);
        self.server_keys.insert(key, id);
        if let Some(key) = merge_key {
            self.merge_keys.insert(key, id);
        }
        let transaction = ServerTransactionId(id);
        if is_invite && let Some(Ok(trying)) = self.response(transaction, 100, None).map(Builder::finish) {
            self.respond(now, transaction, 100, trying);
        }
        self.events.push_back(Event::Request { transaction, message, flow });
    }

    fn receive_ack(&mut self, now: Instant, message: &SipMessage, via: &Via) {
        let key = server_key(message, via, "INVITE");
        let by_branch = self.server_keys.get(&key).copied();
        if let Some(id) = by_branch
            && let Some(server) = self.servers.get_mut(&id)
            && matches!(server.state, ServerState::Completed | ServerState::Confirmed)
        {
            if server.state == ServerState::Completed {
                server.state = ServerState::Confirmed;
                server.retransmit = None;
                let linger =
                    if server.reply.transport.is_reliable() { Duration::ZERO } else { self.configuration.timers.t4 };
                self.timers.set(now + linger, Side::Server, id, Timer::End);
            }
            return;
        }
        let transaction = ack_key(message).and_then(|key| self.ack_keys.get(&key).copied());
        if let Some(server) = transaction.and_then(|id| self.servers.get_mut(&id)) {
            let first = server.state == ServerState::Accepted { acknowledged: false };
            server.state = ServerState::Accepted { acknowledged: true };
            server.retransmit = None;
            if !first {
                return;
            }
        }
        self.events
            .push_back(Event::Ack { transaction: transaction.map(ServerTransactionId), message: message.clone() });
    }

    /// RFC 3261 §9.2.
    fn receive_cancel(&mut self, message: &SipMessage, mut via: Via, reply: Flow, flow: Flow) {
        let invite = self.server_keys.get(&server_key(message, &via, "INVITE")).copied();
        via.stamp(flow.remote);
        // A CANCEL is answered without state: every repetition gets the same answer.
        self.answer_stateless(message, &via.to_string(), reply, if invite.is_some() { 200 } else { 481 });
        if let Some(id) = invite
            && self.servers.get(&id).is_some_and(|server| server.state == ServerState::Proceeding)
        {
            self.events.push_back(Event::Cancelled { transaction: ServerTransactionId(id) });
        }
    }

    /// Answers without a transaction.
    pub fn answer_stateless(&mut self, request: &SipMessage, via: &str, flow: Flow, status: u16) {
        let tag = self.identifiers.tag();
        let mut response = Builder::response(request, status, reason(status), Some(via), Some(&tag));
        if status == 503 {
            response = response.field("Retry-After", "5");
        }
        if let Ok(bytes) = response.finish() {
            self.transmits.push_back(Transmit { flow, bytes, client: None });
        }
    }

    fn receive_response(&mut self, now: Instant, message: SipMessage) {
        let (Ok(via), Ok(cseq), Some(status)) = (message.top_via(), message.cseq(), message.status()) else { return };
        let Some(branch) = via.branch() else { return };
        let Some(id) = transaction_of_branch(branch) else { return };
        let timers = self.configuration.timers;
        let Some(client) = self.clients.get_mut(&id) else { return };
        if *client.branch != *branch || client.method != cseq.method {
            return;
        }
        let is_invite = client.method == Method::Invite;
        let transaction = ClientTransactionId(id);
        match (client.state, status) {
            (ClientState::Calling | ClientState::Proceeding, 100..200) => {
                client.state = ClientState::Proceeding;
                if is_invite {
                    client.retransmit = None;
                }
                if std::mem::take(&mut client.cancel_wanted) {
                    self.send_cancel(now, id);
                }
                self.events.push_back(Event::Response { transaction, message });
            }
            (ClientState::Calling | ClientState::Proceeding, 200..300) if is_invite => {
                client.state = ClientState::Accepted;
                client.retransmit = None;
                self.timers.set(now + timers.timeout(), Side::Client, id, Timer::End);
                self.events.push_back(Event::Response { transaction, message });
            }
            (ClientState::Accepted, 200..300) => self.events.push_back(Event::Response { transaction, message }),
            (ClientState::Calling | ClientState::Proceeding, 200..) => {
                client.state = ClientState::Completed;
                client.retransmit = None;
                let linger = match (client.flow.transport.is_reliable(), is_invite) {
                    (true, _) => Duration::ZERO,
                    (false, true) => timers.timeout(),
                    (false, false) => timers.t4,
                };
                self.timers.set(now + linger, Side::Client, id, Timer::End);
                if is_invite && let Ok(ack) = non_2xx_ack(&client.request, &message) {
                    client.ack = Some(ack.clone());
                    self.transmits.push_back(Transmit { flow: client.flow, bytes: ack, client: None });
                }
                self.events.push_back(Event::Response { transaction, message });
            }
            (ClientState::Completed, 300..) => {
                if let Some(ack) = &client.ack {
                    self.transmits.push_back(Transmit { flow: client.flow, bytes: ack.clone(), client: None });
                }
            }
            _ => {}
        }
    }

    /// A CANCEL has the Request-URI, Call-ID, To, From, CSeq number, Route and topmost Via of its INVITE (RFC 3261 §9.1).
    fn send_cancel(&mut self, now: Instant, id: u64) {
        let Some(client) = self.clients.get(&id) else { return };
        let Ok(invite) = SipMessage::parse(client.request.clone(), &MessageLimits::default()) else { return };
        let Ok(cancel) = like_request(&invite, Method::Cancel, None) else { return };
        let flow = client.flow;
        self.timers.set(now + self.configuration.timers.timeout(), Side::Client, id, Timer::Timeout);
        // Sent without a transaction of its own: the INVITE's final answer says what became of it, and the timeout set
        // above ends an INVITE that nobody answers any more.
        self.transmits.push_back(Transmit { flow, bytes: cancel, client: None });
    }

    fn client_timer(&mut self, at: Instant, id: u64, timer: Timer) {
        let timers = self.configuration.timers;
        let Some(client) = self.clients.get_mut(&id) else { return };
        match timer {
            Timer::Retransmit => {
                let Some((due, interval)) = client.retransmit.filter(|(due, _)| *due == at) else { return };
                let longer = interval.saturating_mul(2);
                let interval = match (client.method == Method::Invite, client.state) {
                    (true, _) => longer,
                    (false, ClientState::Proceeding) => timers.t2,
                    (false, _) => longer.min(timers.t2),
                };
                client.retransmit = Some((due + interval, interval));
                self.timers.set(due + interval, Side::Client, id, Timer::Retransmit);
                let bytes = client.request.clone();
                self.transmits.push_back(Transmit { flow: client.flow, bytes, client: Some(ClientTransactionId(id)) });
            }
            Timer::Timeout => {
                // Deviation: Timer B goes on in Proceeding too: a client that rings for longer than 32 s is not there, and
                // nothing of ours waits for an INVITE without a bound (§17.1.1.2 leaves that to the user).
                if matches!(client.state, ClientState::Accepted | ClientState::Completed) {
                    return;
                }
                self.clients.remove(&id);
                self.events.push_back(Event::TimedOut { transaction: ClientTransactionId(id) });
            }
            Timer::End => {
                if matches!(client.state, ClientState::Accepted | ClientState::Completed) {
                    self.clients.remove(&id);
                }
            }
        }
    }

    fn server_timer(&mut self, at: Instant, id: u64, timer: Timer) {
        let timers = self.configuration.timers;
        let Some(server) = self.servers.get_mut(&id) else { return };
        match timer {
            Timer::Retransmit => {
                let Some((due, interval)) = server.retransmit.filter(|(due, _)| *due == at) else { return };
                let interval = interval.saturating_mul(2).min(timers.t2);
                server.retransmit = Some((due + interval, interval));
                self.timers.set(due + interval, Side::Server, id, Timer::Retransmit);
                if let Some(last) = &server.last {
                    self.transmits.push_back(Transmit { flow: server.reply, bytes: last.clone(), client: None });
                }
            }
            Timer::Timeout | Timer::End => {
                // A transaction that is not answered yet has no such timer running.
                if server.state == ServerState::Proceeding {
                    return;
                }
                if server.state == (ServerState::Accepted { acknowledged: false }) {
                    self.events.push_back(Event::AckMissing { transaction: ServerTransactionId(id) });
                }
                self.remove_server(id);
            }
        }
    }

    fn remove_server(&mut self, id: u64) {
        let Some(server) = self.servers.remove(&id) else { return };
        self.server_keys.remove(&server.key);
        if let Some(key) = server.ack_key {
            self.ack_keys.remove(&key);
        }
        if let Some(key) = server.merge_key {
            self.merge_keys.remove(&key);
        }
    }
}

/// Matches repetitions (RFC 3261 §17.2.3): by branch, sent-by and method; without the magic cookie by what RFC 2543 had.
fn server_key(message: &SipMessage, via: &Via, method: &str) -> Box<str> {
    let sent_by = format!("{}:{}", via.host, via.port.unwrap_or(0));
    match via.branch() {
        Some(branch) if branch.len() > "z9hG4bK".len() && branch.starts_with("z9hG4bK") => {
            format!("{branch}\n{sent_by}\n{method}").into()
        }
        branch => {
            let cseq = message.cseq().map(|cseq| cseq.number).unwrap_or(0);
            let from_tag = message.from().ok().and_then(|from| from.tag().map(str::to_owned)).unwrap_or_default();
            let uri = message.request_uri().unwrap_or("");
            let call_id = message.call_id().unwrap_or("");
            let branch = branch.unwrap_or("");
            format!("{branch}\n{sent_by}\n{method}\n{uri}\n{call_id}\n{cseq}\n{from_tag}").into()
        }
    }
}

/// RFC 3261 §8.2.2.2; requests inside a dialog are not merged.
fn merge_key(message: &SipMessage) -> Option<Box<str>> {
    if message.to().ok()?.tag().is_some() {
        return None;
    }
    let from = message.from().ok()?;
    let cseq = message.cseq().ok()?;
    // The Request-URI belongs to it here: a proxy that forks to two users of ours sends two messages, not one twice.
    let uri = message.request_uri()?;
    Some(format!("{}\n{}\n{} {}\n{uri}", from.tag().unwrap_or(""), message.call_id()?, cseq.number, cseq.method).into())
}

fn ack_key(message: &SipMessage) -> Option<Box<str>> {
    let to = message.to().ok()?;
    Some(format!("{}\n{}\n{}", message.call_id()?, message.cseq().ok()?.number, to.tag()?).into())
}

fn ack_key_of_response(bytes: &Bytes) -> Option<Box<str>> {
    ack_key(&SipMessage::parse(bytes.clone(), &MessageLimits::default()).ok()?)
}

/// The ACK for a final answer other than 2xx (RFC 3261 §17.1.1.3).
fn non_2xx_ack(invite: &Bytes, response: &SipMessage) -> Result<Bytes, WriteError> {
    let invite = SipMessage::parse(invite.clone(), &MessageLimits::default()).map_err(|_| WriteError::Missing)?;
    like_request(&invite, Method::Ack, response.header(Name::To))
}

fn like_request(invite: &SipMessage, method: Method, to: Option<&str>) -> Result<Bytes, WriteError> {
    let field = |name: Name| invite.header(name).ok_or(WriteError::Missing);
    let cseq = invite.cseq().map_err(|_| WriteError::Missing)?;
    let mut builder = Builder::request(&method, invite.request_uri().ok_or(WriteError::Missing)?)
        .unfolded("Via", invite.list(Name::Via).next().ok_or(WriteError::Missing)?)
        .field("Max-Forwards", "70")
        .unfolded("From", field(Name::From)?)
        .unfolded("To", to.map_or_else(|| field(Name::To), Ok)?)
        .unfolded("Call-ID", field(Name::CallId)?)
        .field("CSeq", &format!("{} {method}", cseq.number));
    for route in invite.headers(Name::Route) {
        builder = builder.unfolded("Route", route);
    }
    builder.finish()
}

/// A request as a proxy forwards it: with `via` on top and one hop less.
///
/// # Errors
/// [`WriteError`]
pub fn forwarded(message: &SipMessage, via: &str) -> Result<Bytes, WriteError> {
    let hops = message.number(Name::MaxForwards).ok().flatten().unwrap_or(70).saturating_sub(1);
    Ok(Edit::new(message).push(Name::Via, via)?.set(Name::MaxForwards, &hops.to_string())?.finish())
}
