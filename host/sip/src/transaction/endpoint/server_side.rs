//! Requests that come in, and our answers.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Endpoint;
use crate::header::Via;
use crate::message::{Method, SipMessage, unfold};
use crate::transaction::key::{ack_key, ack_key_of_response, merge_key, server_key};
use crate::transaction::server_invite::ServerInviteTransaction;
use crate::transaction::server_non_invite::ServerNonInviteTransaction;
use crate::transaction::step::{Step, Tell};
use crate::transaction::timers::Side;
use crate::transaction::{Event, Flow, ServerTransactionId, TimerValues, Transmit};
use crate::writer::{Builder, reason};

/// A server transaction with what surrounds its machine.
#[derive(Debug)]
pub(super) struct Server {
    machine: Machine,
    key: Arc<str>,
    ack_key: Option<Arc<str>>,
    merge_key: Option<Arc<str>>,
    /// Where its answers go.
    pub(super) reply: Flow,
    /// The topmost Via with what was added on receipt.
    pub(super) via: Box<str>,
    /// Until it has a final answer, which is built from it.
    pub(super) request: Option<SipMessage>,
    /// The user was told of a CANCEL.
    is_cancelled: bool,
    /// The entry of the timer queue that counts.
    scheduled: Option<Instant>,
}

#[derive(Debug)]
enum Machine {
    Invite(ServerInviteTransaction),
    NonInvite(ServerNonInviteTransaction),
}

impl Endpoint {
    /// Sends a response. A second final one is ignored.
    pub fn respond(&mut self, now: Instant, transaction: ServerTransactionId, status: u16, bytes: Bytes) {
        let id = transaction.0;
        let timers = &self.configuration.timers;
        let Some(server) = self.servers.get_mut(&id).filter(|server| server.machine.is_unanswered()) else { return };
        let is_invite = matches!(server.machine, Machine::Invite(_));
        let step = match &mut server.machine {
            Machine::Invite(machine) => machine.respond(now, status, bytes.clone(), timers),
            Machine::NonInvite(machine) => machine.respond(now, status, bytes.clone(), timers),
        };
        if status >= 200 {
            server.request = None;
            // After a refusal a proxy may well try the same request again on another way, as its failure route says.
            if status >= 300
                && let Some(key) = server.merge_key.take()
            {
                self.merge_keys.remove(&key);
            }
        }
        if is_invite
            && (200..300).contains(&status)
            && let Some(key) = ack_key_of_response(&bytes)
        {
            server.ack_key = Some(key.clone());
            self.ack_keys.insert(key, id);
        }
        self.after_server(now, id, step, None);
    }

    /// A request that is passed on may come here again by another way, to serve another of its users, and is none that came
    /// twice: merged requests are for who answers them (RFC 3261 §8.2.2.2), spirals are a proxy's to pass on (§16.3).
    pub fn pass_on_is_begun(&mut self, transaction: ServerTransactionId) {
        if let Some(key) = self.servers.get_mut(&transaction.0).and_then(|server| server.merge_key.take()) {
            self.merge_keys.remove(&key);
        }
    }

    /// Passes back a 2xx to an INVITE that somebody else answers: it is sent once, whoever answers repeats it and hears of
    /// its ACK. More of them may follow.
    pub fn pass_success(&mut self, now: Instant, transaction: ServerTransactionId, bytes: Bytes) {
        let id = transaction.0;
        let timers = &self.configuration.timers;
        let Some(server) = self.servers.get_mut(&id) else { return };
        let Machine::Invite(machine) = &mut server.machine else { return };
        let step = machine.pass(now, bytes, timers);
        server.request = None;
        self.after_server(now, id, step, None);
    }

    /// Where an INVITE came from is known to be its sender's: what refuses it at once is repeated there, too.
    pub fn repeat_refusals(&mut self, transaction: ServerTransactionId) {
        if let Some(Server { machine: Machine::Invite(machine), .. }) =
            self.servers.get_mut(&transaction.0).map(Box::as_mut)
        {
            machine.is_from_who_is_known();
        }
    }

    /// Gives the user until then to answer an INVITE, instead of [`TimerValues::unanswered_invite`].
    pub fn answer_until(&mut self, now: Instant, transaction: ServerTransactionId, until: Instant) {
        if let Some(Server { machine: Machine::Invite(machine), .. }) =
            self.servers.get_mut(&transaction.0).map(Box::as_mut)
        {
            machine.answer_until(until);
            self.after_server(now, transaction.0, Step::nothing(), None);
        }
    }

    /// Whether a request belongs to a transaction here: it repeats its request, or it is its ACK or CANCEL.
    #[must_use]
    pub fn knows(&self, request: &SipMessage) -> bool {
        let (Ok(via), Some(method)) = (request.top_via(), request.method()) else { return false };
        let method = if matches!(method, Method::Ack | Method::Cancel) { Method::Invite } else { method };
        self.server_keys.contains_key(&server_key(request, &via, method.as_str()))
    }

    pub(super) fn receive_request(&mut self, now: Instant, message: SipMessage, flow: Flow) {
        let (Ok(via), Some(method)) = (message.top_via(), message.method()) else { return };
        match method {
            Method::Ack => return self.receive_ack(now, message, &via),
            Method::Cancel => return self.receive_cancel(&message, &via, flow),
            _ => {}
        }
        let key = server_key(&message, &via, method.as_str());
        if let Some(&id) = self.server_keys.get(&key) {
            let step = self.servers.get(&id).map_or_else(Step::nothing, |server| server.machine.request_again());
            return self.after_server(now, id, step, None);
        }
        let merge_key = merge_key(&message);
        if merge_key.as_ref().is_some_and(|key| self.merge_keys.contains_key(key)) {
            return self.refuse(&message, flow, 482, reason(482));
        }
        if self.servers.len() >= self.configuration.max_server_transactions {
            return self.refuse(&message, flow, 503, reason(503));
        }
        self.begin(now, message, via, flow, key, merge_key);
    }

    fn begin(
        &mut self,
        now: Instant,
        message: SipMessage,
        mut via: Via,
        flow: Flow,
        key: Arc<str>,
        merge_key: Option<Arc<str>>,
    ) {
        let id = self.next_id();
        let transaction = ServerTransactionId(id);
        let timers = &self.configuration.timers;
        let is_invite = message.method() == Some(Method::Invite);
        let is_reliable = flow.transport.is_reliable();
        let reply = reply_flow(&via, flow);
        via.stamp(flow.remote);
        let machine = if is_invite {
            Machine::Invite(ServerInviteTransaction::new(now, is_reliable, timers))
        } else {
            Machine::NonInvite(ServerNonInviteTransaction::new(now, is_reliable, timers))
        };
        self.server_keys.insert(key.clone(), id);
        if let Some(key) = &merge_key {
            self.merge_keys.insert(key.clone(), id);
        }
        let server = Server {
            machine,
            key,
            ack_key: None,
            merge_key,
            reply,
            via: text(&via),
            request: Some(message.clone()),
            is_cancelled: false,
            scheduled: None,
        };
        self.servers.insert(id, Box::new(server));
        self.after_server(now, id, Step::nothing(), None);
        if is_invite {
            self.unspoken.push((id, now));
        }
        self.events.push_back(Event::Request { transaction, message, flow });
    }

    /// A 100 to each INVITE that came and to which nothing was said at once.
    pub(super) fn say_trying(&mut self) {
        for (id, now) in std::mem::take(&mut self.unspoken) {
            let is_silent = |server: &Server| match &server.machine {
                Machine::Invite(machine) => machine.is_unanswered() && !machine.has_spoken(),
                Machine::NonInvite(_) => false,
            };
            let transaction = ServerTransactionId(id);
            let Some(server) = self.servers.get(&id).filter(|server| is_silent(server)) else { continue };
            // RFC 3261 §8.2.6.1.
            let timestamp = server.request.as_ref().and_then(|it| it.header_by_text("Timestamp")).map(unfold);
            let trying = self.response(transaction, 100, None);
            let trying = trying.map(|builder| builder.optional("Timestamp", timestamp.as_deref()).finish());
            if let Some(Ok(trying)) = trying {
                self.respond(now, transaction, 100, trying);
            }
        }
    }

    /// An ACK with the branch of an INVITE that we refused is the transaction's, any other acknowledges a 2xx. An ACK is
    /// never answered.
    fn receive_ack(&mut self, now: Instant, message: SipMessage, via: &Via) {
        let timers = &self.configuration.timers;
        let by_branch = self.server_keys.get(&server_key(&message, via, "INVITE")).copied();
        if let Some(id) = by_branch
            && let Some(Server { machine: Machine::Invite(machine), .. }) = self.servers.get_mut(&id).map(Box::as_mut)
            && machine.acknowledge_failure(now, timers)
        {
            return self.after_server(now, id, Step::nothing(), None);
        }
        let by_dialog = ack_key(&message).and_then(|key| self.ack_keys.get(&key).copied());
        match by_dialog.and_then(|id| Some((id, self.servers.get_mut(&id)?.as_mut()))) {
            Some((id, Server { machine: Machine::Invite(machine), .. })) => {
                let step = machine.acknowledge_success();
                self.after_server(now, id, step, Some(message));
            }
            _ => self.events.push_back(Event::Ack { transaction: None, message }),
        }
    }

    /// RFC 3261 §9.2. Deviation: it has no transaction of its own; every repetition gets the same answer without.
    fn receive_cancel(&mut self, message: &SipMessage, via: &Via, flow: Flow) {
        let invite = self.server_keys.get(&server_key(message, via, "INVITE")).copied();
        let status = if invite.is_some() { 200 } else { 481 };
        self.refuse(message, flow, status, reason(status));
        if let Some(id) = invite
            && let Some(server) = self.servers.get_mut(&id)
            && server.machine.is_unanswered()
            && !std::mem::replace(&mut server.is_cancelled, true)
        {
            self.events.push_back(Event::Cancelled { transaction: ServerTransactionId(id) });
        }
    }

    pub(super) fn wake_server(&mut self, now: Instant, at: Instant, id: u64) {
        let timers = &self.configuration.timers;
        let Some(server) = self.servers.get_mut(&id).filter(|server| server.scheduled == Some(at)) else { return };
        server.scheduled = None;
        let step = server.machine.handle_timer(now, timers);
        self.after_server(now, id, step, None);
    }

    /// Does what the machine said, sets its timer, and lets it go when it is over.
    fn after_server(&mut self, now: Instant, id: u64, step: Step, message: Option<SipMessage>) {
        let transaction = ServerTransactionId(id);
        let Some(server) = self.servers.get_mut(&id) else { return };
        if let Some(bytes) = step.send {
            self.transmits.push_back(Transmit { flow: server.reply, bytes, client: None });
        }
        match (step.tell, message) {
            (Some(Tell::Message), Some(message)) => {
                self.events.push_back(Event::Ack { transaction: Some(transaction), message });
            }
            (Some(Tell::AckMissing), _) => self.events.push_back(Event::AckMissing { transaction }),
            (Some(Tell::Abandoned), _) => {
                self.events.push_back(Event::Abandoned { transaction });
                return self.abandon(now, id);
            }
            _ => {}
        }
        if server.machine.is_terminated() {
            self.remove_server(id);
        } else {
            let next = server.machine.next_timer();
            self.timers.schedule(&mut server.scheduled, next, Side::Server, id);
        }
    }

    /// An INVITE must get a final answer; anything else is past caring.
    fn abandon(&mut self, now: Instant, id: u64) {
        let transaction = ServerTransactionId(id);
        let is_invite = |server: &Server| matches!(server.machine, Machine::Invite(_));
        if self.servers.get(&id).is_some_and(|server| is_invite(server)) {
            let tag = self.identifiers.tag();
            if let Some(Ok(bytes)) = self.response(transaction, 500, Some(&tag)).map(Builder::finish) {
                return self.respond(now, transaction, 500, bytes);
            }
        }
        self.remove_server(id);
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

impl Machine {
    fn request_again(&self) -> Step {
        match self {
            Machine::Invite(machine) => machine.request_again(),
            Machine::NonInvite(machine) => machine.request_again(),
        }
    }

    fn handle_timer(&mut self, now: Instant, timers: &TimerValues) -> Step {
        match self {
            Machine::Invite(machine) => machine.handle_timer(now, timers),
            Machine::NonInvite(machine) => machine.handle_timer(now),
        }
    }

    fn next_timer(&self) -> Instant {
        match self {
            Machine::Invite(machine) => machine.next_timer(),
            Machine::NonInvite(machine) => machine.next_timer(),
        }
    }

    fn is_unanswered(&self) -> bool {
        match self {
            Machine::Invite(machine) => machine.is_unanswered(),
            Machine::NonInvite(machine) => machine.is_unanswered(),
        }
    }

    fn is_terminated(&self) -> bool {
        match self {
            Machine::Invite(machine) => machine.is_terminated(),
            Machine::NonInvite(machine) => machine.is_terminated(),
        }
    }
}

/// Written into a buffer that need not grow: every request passes here.
fn text(via: &Via) -> Box<str> {
    let mut text = String::with_capacity(192);
    // Writing to a String cannot fail.
    let _ = write!(text, "{via}");
    text.into()
}

/// Where the answers to a request go (RFC 3261 §18.2.2, RFC 3581 §4).
pub(super) fn reply_flow(via: &Via, flow: Flow) -> Flow {
    if flow.transport.is_reliable() { flow } else { Flow { remote: via.response_destination(flow.remote), ..flow } }
}
