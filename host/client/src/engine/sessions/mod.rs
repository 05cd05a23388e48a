//! Sessions: INVITE to BYE, with MSRP in between.
//!
//! * [`mod@self`]: what a session is, and its task from start to end.
//! * `inviting`: sessions that we ask for, to send a large message or to fetch.
//! * `invited`: sessions that somebody else asks for.
//! * `ending`: BYE, and whatever else ends them.

mod ending;
mod invited;
mod inviting;

use std::net::SocketAddr;
use std::time::Instant;

use restante_msrp::framing::PeekedRequest;
use restante_msrp::sdp::{ConnectionPlace, Direction, LocalMedia, MsrpDescription};
use restante_msrp::session::{Outcome, RejectionOrigin, Role, SessionConfiguration};
use restante_msrp::status::Status;
use restante_sip::dialog::Dialog;
use restante_sip::message::SipMessage;
use restante_sip::transaction::ServerTransactionId;
use restante_transport::Protocol;
use restante_transport::msrp::HandedOver;
use tokio::sync::mpsc;

use super::incoming::Context;
use super::{Engine, Reply, tell};
use crate::compose;
use crate::configuration::Storage;
use crate::error::ClientError;
use crate::event::{Mode, ReceivedMessage};
use crate::msrp_session::{MsrpPlace, Notice, Order, OutgoingContent, SessionTask};
use crate::outgoing::{Answer, FetchOutcome, LargeOutcome};
use crate::strict;

/// Orders that wait for a session's task; there are never more than a few.
const MAX_ORDERS: usize = 16;

/// One session, from its INVITE on.
pub(super) struct InviteSession {
    purpose: Purpose,
    local: LocalMedia,
    /// Our INVITE.
    request: Option<SipMessage>,
    dialog: Option<Dialog>,
    /// Where requests in the dialog go when its URIs do not say it.
    place: (Protocol, SocketAddr),
    orders: Option<mpsc::Sender<Order>>,
    /// A connection that came before the session was ready.
    early: Option<Box<HandedOver<Box<PeekedRequest>>>>,
    /// To connect to once the ACK has come.
    connect_to: Option<MsrpPlace>,
    context: Context,
    received: Vec<ReceivedMessage>,
    acknowledged: usize,
    bye: Bye,
    pub(super) deadline: Instant,
}

/// What a session is for.
enum Purpose {
    Large { outcome: Box<LargeOutcome>, content: Option<Box<OutgoingContent>>, reply: Option<Reply<LargeOutcome>> },
    Fetch { answer: Answer, reply: Option<Reply<FetchOutcome>> },
    Push { transaction: ServerTransactionId },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bye {
    None,
    Sent,
    Answered,
    Received,
}

impl InviteSession {
    /// Ends its connection.
    pub(super) fn close(&mut self) {
        self.order(Order::Close);
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // A task that takes no more orders has ended.
            let _ = orders.try_send(order);
        }
    }
}

impl Purpose {
    /// Tells whoever asked for the session why there is none.
    fn fail(&mut self, error: ClientError) {
        match self {
            Purpose::Large { reply, .. } => tell(reply.take(), Err(error)),
            Purpose::Fetch { reply, .. } => tell(reply.take(), Err(error)),
            Purpose::Push { .. } => {}
        }
    }
}

impl Engine {
    /// A connection that a peer opened.
    pub(super) fn connection(&mut self, handed: HandedOver<Box<PeekedRequest>>) {
        let key = handed.session.session_id().and_then(|id| self.state.msrp_sessions.get(id).copied());
        let Some(session) = key.and_then(|key| self.state.sessions.get_mut(&key)) else {
            if let Some(refusal) = handed.session.refusal(Status::NO_SUCH_SESSION) {
                handed.stream.refuse(refusal, handed.permit);
            }
            return;
        };
        if self.state.behaviour.withhold_connection {
            return;
        }
        if session.orders.is_some() {
            session.order(Order::Accepted(Box::new(handed)));
        } else {
            session.early = Some(Box::new(handed));
        }
    }

    pub(super) fn notice(&mut self, key: u64, notice: Notice) {
        match notice {
            Notice::Violation(text) => self.violation(text),
            Notice::Received(stored) => {
                let Some(session) = self.state.sessions.get_mut(&key) else { return };
                session.acknowledged = session.acknowledged.saturating_add(1);
                let context = session.context.clone();
                let mut objections = Vec::new();
                strict::cpim_headers(&stored.cpim, &mut objections);
                self.object(objections);
                let received = self.stored(*stored, &context);
                if let (Some(received), Mode::Fetch) = (received, context.mode) {
                    self.with_session(key, |session| session.received.push(received));
                }
            }
            Notice::Settled(result) => {
                self.with_session(key, |session| {
                    if let Purpose::Large { outcome, .. } = &mut session.purpose {
                        outcome.accepted = result == Outcome::Acknowledged;
                        outcome.detail = words_for(result);
                    }
                });
                self.send_bye(key);
            }
            Notice::Ended => {
                self.with_session(key, |session| session.orders = None);
                self.send_bye(key);
            }
        }
    }

    fn session(&self, purpose: Purpose, local: LocalMedia, context: Context) -> InviteSession {
        InviteSession {
            purpose,
            local,
            request: None,
            dialog: None,
            place: self.server(),
            orders: None,
            early: None,
            connect_to: None,
            context,
            received: Vec::new(),
            acknowledged: 0,
            bye: Bye::None,
            deadline: Instant::now() + self.configuration.limits.session_timeout,
        }
    }

    fn keep_session(&mut self, session: InviteSession) -> u64 {
        self.state.next_session = self.state.next_session.wrapping_add(1);
        let key = self.state.next_session;
        if let Some(id) = &session.local.uri.session_id {
            self.state.msrp_sessions.insert(id.clone(), key);
        }
        self.state.sessions.insert(key, session);
        key
    }

    /// The INVITE of a session is another one from now on.
    pub(super) fn request_of_session(&mut self, key: u64, request: SipMessage) {
        self.with_session(key, |session| session.request = Some(request));
    }

    /// Does something to a session, if it is still there.
    fn with_session(&mut self, key: u64, change: impl FnOnce(&mut InviteSession)) {
        if let Some(session) = self.state.sessions.get_mut(&key) {
            change(session);
        }
    }

    /// Starts the session's task.
    fn start(&mut self, key: u64, role: Role, remote: &MsrpDescription) {
        let Some(session) = self.state.sessions.get_mut(&key) else { return };
        let content = match &mut session.purpose {
            Purpose::Large { content, .. } => content.take(),
            Purpose::Fetch { .. } | Purpose::Push { .. } => None,
        };
        let mut configuration = SessionConfiguration::new(role, session.local.uri.clone(), remote.path.clone());
        configuration.sends = content.is_some();
        configuration.receives = content.is_none();
        configuration.remote_max_bytes = remote.max_size_bytes;
        configuration.limits.max_incoming_message_bytes = session.local.max_size_bytes.unwrap_or(u64::MAX);
        let (orders, receiver) = mpsc::channel(MAX_ORDERS);
        let mut task = SessionTask {
            key,
            configuration,
            storage: self.configuration.storage.clone(),
            limits: self.configuration.limits.clone(),
            acknowledge_only: None,
            break_after_bytes: None,
            message_verdicts: Default::default(),
            outgoing: content.map(|content| *content),
            observer: self.configuration.observer.clone(),
            tls: self.sender.tls().clone(),
            notices: self.notices.clone(),
            orders: receiver,
        };
        task.take_script(&mut self.state.behaviour);
        session.orders = Some(orders);
        if let Some(early) = session.early.take() {
            session.order(Order::Accepted(early));
        }
        tokio::spawn(task.run());
    }

    fn local_media(&self, direction: Direction, is_encrypted: bool) -> LocalMedia {
        let session_id = restante_msrp::session_id::new_session_id(0, crate::random::bytes());
        let most = match self.configuration.storage {
            Storage::Memory => self.configuration.limits.max_memory_bytes,
            Storage::Directory(_) => self.configuration.limits.max_file_bytes,
        };
        compose::local_media((is_encrypted, self.msrp_local), session_id, direction, most)
    }
}

/// Where to connect to. Only numeric hosts: nothing here resolves names.
fn msrp_place(description: &MsrpDescription) -> Option<MsrpPlace> {
    let encrypted = description.secure.then(|| description.fingerprints.clone());
    let remote = description.connection_places().iter().find_map(ConnectionPlace::socket_address)?;
    Some(MsrpPlace { remote, encrypted })
}

/// What became of a message that was sent, for people.
fn words_for(outcome: Outcome) -> String {
    match outcome {
        Outcome::Acknowledged => "acknowledged".to_owned(),
        Outcome::Rejected { status, origin: RejectionOrigin::Timeout } => format!("no answer in time ({status})"),
        Outcome::Rejected { status, .. } => format!("refused in the session with {status}"),
        Outcome::Unreported => "sent, and nothing was heard of it".to_owned(),
        Outcome::Unsent => "not sent: the session ended first".to_owned(),
        Outcome::Partial { sent_bytes, acknowledged_bytes } => {
            format!("the session ended after {sent_bytes} bytes, {acknowledged_bytes} of them acknowledged")
        }
        Outcome::Aborted => "given up".to_owned(),
    }
}
