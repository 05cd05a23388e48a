//! The client's own task: everything that happens to it goes through here, one thing at a time.
//!
//! * [`mod@self`]: the loop, and who waits for which answer.
//! * `wire`: SIP from and to the sockets.
//! * `authentication`: challenges, and what answers them.
//! * `requests`: requests of ours that need no session.
//! * `incoming`: requests of others.
//! * `sessions`: INVITE to BYE, with MSRP in between.

mod authentication;
mod incoming;
mod requests;
mod sessions;
mod wire;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use restante_msrp::framing::PeekedRequest;
use restante_sip::dialog::{Dialog, DialogId};
use restante_sip::message::SipMessage;
use restante_sip::transaction::{ClientTransactionId, Endpoint, Event, ServerTransactionId};
use restante_transport::msrp::HandedOver;
use restante_transport::queue::QueueReceiver;
use restante_transport::{Sender, Transport, TransportEvent};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use crate::behaviour::Behaviour;
use crate::configuration::ClientConfiguration;
use crate::content::Reader;
use crate::error::ClientError;
use crate::event::ClientEvent;
use crate::msrp_session::{Notice, Notices};
use crate::outgoing::{Answer, FetchOutcome, LargeMessage, LargeOutcome, PageMessage, PageOutcome, Selection};
use crate::strict;

use sessions::InviteSession;
use wire::answer_of;

pub(crate) use wire::place_of;

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
    /// The challenge that was answered last; what is sent next answers it, too.
    challenge: Option<authentication::AnsweredChallenge>,
    /// Requests that may be challenged.
    sent: HashMap<ClientTransactionId, authentication::Sent>,
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
        let due =
            |refresh: &mut Option<(Instant, u32)>| refresh.take_if(|(at, _)| *at <= now).map(|(_, seconds)| seconds);
        if let Some(seconds) = self.state.registration.as_mut().and_then(|it| due(&mut it.refresh)) {
            self.register(seconds, None);
        }
        if let Some(seconds) = self.state.subscription.as_mut().and_then(|it| due(&mut it.refresh)) {
            self.subscribe(seconds, None);
        }
        self.end_overdue_sessions(now);
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
        let sent = self.state.sent.remove(&transaction);
        if let Some(sent) = sent {
            self.take_authentication_info(&sent, &message);
            if self.answer_challenge(transaction, sent, &message) {
                return;
            }
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
        self.state.sent.remove(&transaction);
        let Some(pending) = self.state.pending.remove(&transaction) else { return };
        match pending {
            Pending::Register { reply, .. } | Pending::Subscribe { reply, .. } => tell(reply, Err(error)),
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

/// Tells who asked for something what came of it. Refreshes of our own are asked for by nobody.
fn tell<T>(reply: Option<Reply<T>>, result: Result<T, ClientError>) {
    if let Some(reply) = reply {
        let _ = reply.send(result);
    }
}
