//! Requests that we send, and the answers to them.

use std::time::Instant;

use bytes::Bytes;

use super::Endpoint;
use crate::message::{Method, SipMessage};
use crate::transaction::client_invite::ClientInviteTransaction;
use crate::transaction::client_non_invite::ClientNonInviteTransaction;
use crate::transaction::derived;
use crate::transaction::identifiers::transaction_of_branch;
use crate::transaction::step::{Step, Tell};
use crate::transaction::timers::Side;
use crate::transaction::{
    ClientTransactionId, Event, Flow, MAX_DATAGRAM_BYTES, MAX_UDP_REQUEST_BYTES, Passing, SendError, TimerValues,
    Transmit,
};
use crate::writer::WriteError;

/// A client transaction with what surrounds its machine.
#[derive(Debug)]
pub(super) struct Client {
    machine: Machine,
    method: Method,
    branch: Box<str>,
    flow: Flow,
    /// The entry of the timer queue that counts.
    scheduled: Option<Instant>,
}

#[derive(Debug)]
enum Machine {
    Invite {
        invite: ClientInviteTransaction,
        /// A transaction of its own with the INVITE's branch; whatever its answer, the INVITE's counts.
        cancel: Option<Box<ClientNonInviteTransaction>>,
    },
    NonInvite(ClientNonInviteTransaction),
}

impl Endpoint {
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
        self.pass_on(now, method, flow, sent_by, Passing::default(), build)
    }

    /// The same for a request of others.
    ///
    /// # Errors
    /// [`SendError`]
    pub fn pass_on(
        &mut self,
        now: Instant,
        method: Method,
        flow: Flow,
        sent_by: &str,
        passing: Passing<'_>,
        build: impl FnOnce(&str) -> Result<Bytes, WriteError>,
    ) -> Result<ClientTransactionId, SendError> {
        if self.clients.len() >= self.configuration.max_client_transactions {
            return Err(SendError::Busy);
        }
        let id = self.next_id();
        let branch = self.identifiers.branch(id) + passing.mark;
        let request = build(&super::via(flow.transport, sent_by, &branch))?;
        let is_reliable = flow.transport.is_reliable();
        let most = if passing.is_by_udp_alone { MAX_DATAGRAM_BYTES } else { MAX_UDP_REQUEST_BYTES };
        if !is_reliable && request.len() > most {
            return Err(SendError::TooLargeForUdp);
        }
        let timers = &self.configuration.timers;
        let machine = if method == Method::Invite {
            let invite = ClientInviteTransaction::new(now, is_reliable, request.clone(), timers);
            Machine::Invite { invite, cancel: None }
        } else {
            Machine::NonInvite(ClientNonInviteTransaction::new(now, is_reliable, request.clone(), timers))
        };
        let client = Client { machine, method, branch: branch.into(), flow, scheduled: None };
        self.clients.insert(id, Box::new(client));
        self.after_client(now, id, Step::send(request), None);
        Ok(ClientTransactionId(id))
    }

    /// Cancels an INVITE: at once if a provisional answer came, else as soon as one comes (RFC 3261 §9.1). Its final
    /// answer still comes as an event: usually 487, a 2xx if it was accepted at the same moment, a time-out 64·T1 later
    /// if nobody answers any more.
    pub fn cancel(&mut self, now: Instant, transaction: ClientTransactionId) {
        let timers = &self.configuration.timers;
        if let Some(Client { machine: Machine::Invite { invite, .. }, .. }) =
            self.clients.get_mut(&transaction.0).map(Box::as_mut)
        {
            let step = invite.cancel(now, timers);
            self.after_client(now, transaction.0, step, None);
        }
    }

    /// Until when an INVITE may ring that had a provisional answer, instead of [`TimerValues::ringing`]: a proxy has a
    /// Timer C of its own.
    pub fn ring_until(&mut self, now: Instant, transaction: ClientTransactionId, until: Instant) {
        if let Some(Client { machine: Machine::Invite { invite, .. }, .. }) =
            self.clients.get_mut(&transaction.0).map(Box::as_mut)
        {
            invite.ring_until(until);
            self.after_client(now, transaction.0, Step::nothing(), None);
        }
    }

    /// What was to be sent could not be (RFC 3261 §17.1.4). Ignored once there is a final answer.
    pub fn transport_failed(&mut self, transaction: ClientTransactionId) {
        if self.clients.get(&transaction.0).is_some_and(|client| client.machine.is_waiting()) {
            self.clients.remove(&transaction.0);
            self.events.push_back(Event::NotSent { transaction });
        }
    }

    /// An answer is matched by the topmost Via's branch and the method in CSeq (RFC 3261 §17.1.3), whatever else of the
    /// request it repeats. One that matches nothing is dropped.
    pub(super) fn receive_response(&mut self, now: Instant, message: SipMessage, flow: Flow) {
        let (Ok(via), Ok(cseq), Some(status)) = (message.top_via(), message.cseq(), message.status()) else { return };
        let Some(branch) = via.branch() else { return };
        let Some(id) = transaction_of_branch(branch) else { return };
        let timers = &self.configuration.timers;
        let Some(client) = self.clients.get_mut(&id).filter(|client| *client.branch == *branch) else { return };
        let step = match &mut client.machine {
            Machine::Invite { cancel, .. } if cseq.method == Method::Cancel => {
                if let Some(cancel) = cancel {
                    cancel.response(now, status, timers);
                }
                Step::nothing()
            }
            _ if cseq.method != client.method => return,
            Machine::Invite { invite, cancel } => {
                if status >= 200 {
                    *cancel = None;
                }
                invite.response(now, &message, timers)
            }
            Machine::NonInvite(machine) => machine.response(now, status, timers),
        };
        self.after_client(now, id, step, Some((message, flow)));
    }

    pub(super) fn wake_client(&mut self, now: Instant, at: Instant, id: u64) {
        let timers = &self.configuration.timers;
        let Some(client) = self.clients.get_mut(&id).filter(|client| client.scheduled == Some(at)) else { return };
        client.scheduled = None;
        if let Machine::Invite { cancel: Some(cancel), .. } = &mut client.machine
            && let Some(bytes) = cancel.handle_timer(now, timers).send
        {
            self.transmits.push_back(Transmit { flow: client.flow, bytes, client: None });
        }
        let step = match &mut client.machine {
            Machine::Invite { invite, .. } => invite.handle_timer(now, timers),
            Machine::NonInvite(machine) => machine.handle_timer(now, timers),
        };
        self.after_client(now, id, step, None);
    }

    /// Does what the machine said, sets its timer, and lets it go when it is over.
    fn after_client(&mut self, now: Instant, id: u64, step: Step, message: Option<(SipMessage, Flow)>) {
        let transaction = ClientTransactionId(id);
        let timers = &self.configuration.timers;
        let Some(client) = self.clients.get_mut(&id) else { return };
        if let Some(bytes) = step.send {
            // An ACK that cannot be sent fails nothing: the answer it is for was told.
            let wants_to_know = client.machine.is_waiting().then_some(transaction);
            self.transmits.push_back(Transmit { flow: client.flow, bytes, client: wants_to_know });
        }
        if step.cancel
            && let Some(bytes) = client.machine.begin_cancel(now, client.flow.transport.is_reliable(), timers)
        {
            self.transmits.push_back(Transmit { flow: client.flow, bytes, client: None });
        }
        match (step.tell, message) {
            (Some(Tell::Message), Some((message, flow))) => {
                self.events.push_back(Event::Response { transaction, message, flow });
            }
            (Some(Tell::TimedOut), _) => self.events.push_back(Event::TimedOut { transaction }),
            _ => {}
        }
        if client.machine.is_terminated() {
            self.clients.remove(&id);
        } else {
            let next = client.machine.next_timer();
            self.timers.schedule(&mut client.scheduled, next, Side::Client, id);
        }
    }
}

impl Machine {
    /// The CANCEL to send; none when it cannot be written, which leaves the INVITE to its time-out.
    fn begin_cancel(&mut self, now: Instant, is_reliable: bool, timers: &TimerValues) -> Option<Bytes> {
        let Machine::Invite { invite, cancel } = self else { return None };
        let bytes = derived::cancel(invite.request()).ok()?;
        *cancel = Some(Box::new(ClientNonInviteTransaction::new(now, is_reliable, bytes.clone(), timers)));
        Some(bytes)
    }

    fn is_waiting(&self) -> bool {
        match self {
            Machine::Invite { invite, .. } => invite.is_waiting(),
            Machine::NonInvite(machine) => machine.is_waiting(),
        }
    }

    fn next_timer(&self) -> Instant {
        match self {
            Machine::Invite { invite, cancel } => match cancel.as_ref().filter(|cancel| !cancel.is_terminated()) {
                Some(cancel) => invite.next_timer().min(cancel.next_timer()),
                None => invite.next_timer(),
            },
            Machine::NonInvite(machine) => machine.next_timer(),
        }
    }

    fn is_terminated(&self) -> bool {
        match self {
            Machine::Invite { invite, .. } => invite.is_terminated(),
            Machine::NonInvite(machine) => machine.is_terminated(),
        }
    }
}
