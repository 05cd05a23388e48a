//! The endpoint: all transactions of one shard, and what finds and wakes them.

mod client_side;
mod server_side;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use self::client_side::Client;
use self::server_side::Server;
use super::identifiers::Identifiers;
use super::key::server_key;
use super::timers::{Side, TimerQueue};
use super::{Event, Flow, ServerTransactionId, TimerValues, Transmit, Transport};
use crate::message::{Method, SipMessage};
use crate::writer::{Builder, reason};

/// What a stateless 503 says in Retry-After.
pub const OVERLOAD_RETRY_AFTER_SECONDS: u32 = 5;

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
    /// Client transactions, those that only absorb repetitions included. More: [`super::SendError::Busy`].
    pub max_client_transactions: usize,
    /// For so many of each kind there is room from the beginning, 180 bytes for each: until there are more, no table is copied
    /// into a larger one while requests wait.
    pub usual_transactions: usize,
}

/// All transactions of one shard. After each call that takes `now`, drain [`Endpoint::poll_event`] and, once that was dealt
/// with, [`Endpoint::poll_transmit`]: what waits there is bounded by what one call can cause.
#[derive(Debug)]
pub struct Endpoint {
    configuration: EndpointConfiguration,
    identifiers: Identifiers,
    next_id: u64,
    /// Boxed, as the next: these tables have room for more than they hold, and twice of it when they grow.
    servers: HashMap<u64, Box<Server>>,
    server_keys: HashMap<Arc<str>, u64>,
    merge_keys: HashMap<Arc<str>, u64>,
    ack_keys: HashMap<Arc<str>, u64>,
    clients: HashMap<u64, Box<Client>>,
    /// INVITEs that came, and nothing was said to them yet.
    unspoken: Vec<(u64, Instant)>,
    timers: TimerQueue,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

impl Endpoint {
    /// An empty one.
    #[must_use]
    pub fn new(configuration: EndpointConfiguration) -> Endpoint {
        let usual = configuration.usual_transactions;
        Endpoint {
            identifiers: Identifiers::new(configuration.shard, configuration.key),
            configuration,
            next_id: 0,
            servers: HashMap::with_capacity(usual),
            server_keys: HashMap::with_capacity(usual),
            merge_keys: HashMap::with_capacity(usual),
            ack_keys: HashMap::with_capacity(usual),
            clients: HashMap::with_capacity(usual),
            unspoken: Vec::new(),
            timers: TimerQueue::with_capacity(usual.saturating_mul(2)),
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

    /// What to send next. An INVITE that came since the last time and was not answered gets its 100 with that.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.say_trying();
        self.transmits.pop_front()
    }

    /// What to tell next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Endpoint::handle_wake`]. It may be earlier than anything is due, never later.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Does what is due.
    pub fn handle_wake(&mut self, now: Instant) {
        while let Some((at, side, id)) = self.timers.pop_due(now) {
            match side {
                Side::Client => self.wake_client(now, at, id),
                Side::Server => self.wake_server(now, at, id),
            }
        }
    }

    /// Takes a message that passed [`crate::message::validate_request`] or [`crate::message::validate_response`].
    pub fn receive(&mut self, now: Instant, message: SipMessage, flow: Flow) {
        if message.is_request() {
            self.receive_request(now, message, flow)
        } else {
            self.receive_response(now, message, flow)
        }
    }

    /// Answers a request without a transaction, with the same tag each time it comes: one that did not pass validation,
    /// or that is not to cost anything. An ACK is never answered.
    pub fn refuse(&mut self, request: &SipMessage, flow: Flow, status: u16, reason: &str) {
        let Ok(mut via) = request.top_via() else { return };
        if !request.is_request() || request.method() == Some(Method::Ack) {
            return;
        }
        let reply = server_side::reply_flow(&via, flow);
        let tag = self.identifiers.tag_for(&server_key(request, &via, ""));
        via.stamp(flow.remote);
        let mut response = Builder::response(request, status, reason, Some(&via.to_string()), Some(&tag));
        if status == 503 {
            response = response.field("Retry-After", &OVERLOAD_RETRY_AFTER_SECONDS.to_string());
        }
        if let Ok(bytes) = response.finish() {
            self.transmits.push_back(Transmit { flow: reply, bytes, client: None });
        }
    }

    /// Sends bytes outside of any transaction: an ACK to a 2xx.
    pub fn send_stateless(&mut self, flow: Flow, bytes: Bytes) {
        self.transmits.push_back(Transmit { flow, bytes, client: None });
    }

    /// A Via with a branch of its own, for what goes by [`Endpoint::send_stateless`].
    pub fn via(&mut self, transport: Transport, sent_by: &str) -> String {
        let id = self.next_id();
        let branch = self.identifiers.branch(id);
        via(transport, sent_by, &branch)
    }

    /// The response that a transaction would send, to be completed and given to [`Endpoint::respond`]. None once it is
    /// answered for good.
    #[must_use]
    pub fn response(&self, transaction: ServerTransactionId, status: u16, to_tag: Option<&str>) -> Option<Builder> {
        self.response_with_reason(transaction, status, reason(status), to_tag)
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

    /// The topmost Via of a transaction's request with what was added on receipt.
    #[must_use]
    pub fn stamped_via(&self, transaction: ServerTransactionId) -> Option<&str> {
        self.servers.get(&transaction.0).map(|server| &*server.via)
    }

    /// Where a transaction's request came from, or where its answers go.
    #[must_use]
    pub fn came_from(&self, transaction: ServerTransactionId) -> Option<Flow> {
        self.servers.get(&transaction.0).map(|server| server.reply)
    }

    fn next_id(&mut self) -> u64 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }
}

fn via(transport: Transport, sent_by: &str, branch: &str) -> String {
    format!("SIP/2.0/{} {sent_by};branch={branch};rport", transport.as_str())
}
