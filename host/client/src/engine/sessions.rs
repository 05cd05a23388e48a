//! Sessions: INVITE to BYE, with MSRP in between.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use restante_msrp::framing::PeekedRequest;
use restante_msrp::sdp::{self, Direction, LocalMedia, MsrpDescription, Setup};
use restante_msrp::session::{Outcome, RejectionOrigin, Role, SessionConfiguration};
use restante_msrp::status::Status;
use restante_sip::dialog::{Dialog, DialogId, establish};
use restante_sip::header::{ICSI_DEFERRED, ICSI_LARGE_MESSAGE};
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::transaction::{Flow, ServerTransactionId};
use restante_transport::Protocol;
use restante_transport::msrp::HandedOver;
use tokio::sync::mpsc;

use super::incoming::{Context, asserted_sender};
use super::{
    Engine, Outline, Pending, PreparedLarge, Reply, answer_of, begin, fields_of, place_of, protocol, sip_transport,
};
use crate::compose::{self, ACCEPT, ALLOW, CpimHead};
use crate::configuration::{SetupChoice, Storage};
use crate::error::ClientError;
use crate::event::{ClientEvent, Mode, ReceivedMessage, SessionSummary};
use crate::msrp_session::{Notice, Order, OutgoingContent, SessionTask};
use crate::outgoing::{Answer, FetchOutcome, LargeOutcome, Selection};
use crate::random::token;
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
    place: (Protocol, std::net::SocketAddr),
    orders: Option<mpsc::Sender<Order>>,
    /// A connection that came before the session was ready.
    early: Option<Box<HandedOver<Box<PeekedRequest>>>>,
    /// To connect to once the ACK has come.
    connect_to: Option<std::net::SocketAddr>,
    context: Context,
    received: Vec<ReceivedMessage>,
    acknowledged: usize,
    bye: Bye,
    pub(super) deadline: Instant,
}

/// What a session is for.
enum Purpose {
    Large {
        outcome: Box<LargeOutcome>,
        content: Option<Box<OutgoingContent>>,
        settled: bool,
        reply: Option<Reply<LargeOutcome>>,
    },
    Fetch {
        answer: Answer,
        reply: Option<Reply<FetchOutcome>>,
    },
    Push {
        transaction: ServerTransactionId,
    },
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

impl Engine {
    pub(super) fn send_large(&mut self, prepared: PreparedLarge, reply: Reply<LargeOutcome>) {
        let PreparedLarge { message, reader, sha256 } = prepared;
        let message_id = message.message_id.clone().unwrap_or_else(token);
        let head = CpimHead {
            from: &self.configuration.identity,
            to: &message.to,
            message_id: &message_id,
            notifications: message.notifications,
            subject: message.subject.as_deref(),
            content_type: &message.content_type,
            content_bytes: reader.len(),
        };
        let outcome = LargeOutcome {
            answer: no_answer(),
            accepted: false,
            detail: "no session".to_owned(),
            message_id: message_id.clone(),
            call_id: token(),
            sha256,
            size: reader.len(),
        };
        let content = OutgoingContent {
            head: head.write(),
            content: reader,
            success_report: message.success_report,
            break_after_bytes: message.break_after_bytes,
            progress: message.progress.clone(),
        };
        let call_id = outcome.call_id.clone();
        let purpose = Purpose::Large {
            outcome: Box::new(outcome),
            content: Some(Box::new(content)),
            settled: false,
            reply: Some(reply),
        };
        let local = self.local_media(Direction::SendOnly);
        let invitation = Invitation {
            uri: message.to.clone(),
            call_id,
            service: ICSI_LARGE_MESSAGE,
            content_type: "application/sdp".to_owned(),
            body: self.offer(&local),
            fields: message.fields.clone(),
        };
        self.invite(invitation, purpose, local, Mode::Push);
    }

    pub(super) fn fetch(&mut self, selection: &Selection, reply: Reply<FetchOutcome>) {
        let local = self.local_media(Direction::ReceiveOnly);
        let ids = match selection {
            Selection::All => None,
            Selection::Ids(ids) => Some(ids.as_slice()),
        };
        let (content_type, body) = compose::fetch_body(self.offer(&local), ids);
        let invitation = Invitation {
            uri: self.configuration.deferred_uri(),
            call_id: token(),
            service: ICSI_DEFERRED,
            content_type,
            body,
            fields: Vec::new(),
        };
        let purpose = Purpose::Fetch { answer: no_answer(), reply: Some(reply) };
        self.invite(invitation, purpose, local, Mode::Fetch);
    }

    fn invite(&mut self, invitation: Invitation, purpose: Purpose, local: LocalMedia, mode: Mode) {
        let identity = self.configuration.identity.clone();
        let (from_tag, conversation_id, contribution_id) = (token(), token(), token());
        let contact = format!("<{}>", self.contact_uri());
        let Invitation { uri, call_id, service, content_type, body, fields } = invitation;
        let outline = Outline { from: &identity, from_tag: &from_tag, to: &uri, call_id: &call_id, cseq: 1 };
        let sent = self.send_request(&Method::Invite, self.server(), |via| {
            let mut builder = begin(&Method::Invite, &uri, via, &outline)
                .field("Contact", &contact)
                .field("Accept-Contact", &compose::accept_contact(service))
                .field("P-Preferred-Service", service)
                .field("Conversation-ID", &conversation_id)
                .field("Contribution-ID", &contribution_id)
                .field("Allow", ALLOW)
                .field("Accept", ACCEPT);
            for (name, value) in &fields {
                builder = builder.field(name, value);
            }
            builder.field("Content-Type", &content_type).finish_with_body(&body)
        });
        let context = Context {
            mode,
            asserted: None,
            referred_by: None,
            call_id,
            conversation_id: Some(conversation_id),
            fields: Vec::new(),
        };
        let session = self.session(purpose, local, context);
        match sent {
            Ok((transaction, request)) => {
                let key = self.keep_session(InviteSession { request: Some(request), ..session });
                self.state.pending.insert(transaction, Pending::Invite { session: key });
                self.state.invites.insert(transaction, key);
            }
            Err(error) => fail(session.purpose, error),
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

    /// A final answer to an INVITE of ours; a 2xx may come more than once.
    pub(super) fn invite_answered(&mut self, key: u64, message: &SipMessage) {
        let status = message.status().unwrap_or(0);
        let Some(session) = self.state.sessions.get_mut(&key) else { return };
        if !(200..300).contains(&status) {
            let answer = answer_of(message);
            return self.end_with_answer(key, answer);
        }
        let request = session.request.clone();
        let dialog = request.as_ref().and_then(|request| Dialog::as_client(request, message).ok());
        let Some(dialog) = dialog else { return };
        let is_first = session.dialog.is_none();
        let is_ours = is_first || session.dialog.as_ref().is_some_and(|known| known.id() == dialog.id());
        let place = place_of(dialog.next_hop()).unwrap_or(session.place);
        self.acknowledge(&dialog, message, place);
        if !is_ours {
            // Another branch of a fork: one session is enough (RFC 3261 §13.2.2.4).
            let mut dialog = dialog;
            return self.send_bye_in(&mut dialog, place, None);
        }
        if !is_first {
            return;
        }
        let id = dialog.id();
        session_of(&mut self.state.sessions, key, |session| {
            session.dialog = Some(dialog);
            session.place = place;
            session.context.asserted = asserted_of_answer(message);
            session.context.fields = fields_of(message);
            match &mut session.purpose {
                Purpose::Large { outcome, .. } => outcome.answer = answer_of(message),
                Purpose::Fetch { answer, .. } => *answer = answer_of(message),
                Purpose::Push { .. } => {}
            }
        });
        self.state.dialogs.insert(id, key);
        self.start_after_answer(key, message);
    }

    fn start_after_answer(&mut self, key: u64, message: &SipMessage) {
        let Some(session) = self.state.sessions.get(&key) else { return };
        let sends = matches!(session.purpose, Purpose::Large { .. });
        let answer = match MsrpDescription::parse(&message.body(), false) {
            Ok(answer) => answer,
            Err(error) => return self.give_up(key, &format!("the answer has no usable description: {error}")),
        };
        self.object(if sends {
            strict::large_answer(message, &answer)
        } else {
            strict::fetch_answer(message, &answer)
        });
        let role = match (self.configuration.setup, sdp::role_after_answer(&answer)) {
            // Our offer said passive: there is nothing to choose.
            (SetupChoice::Passive, Ok(_)) => Role::Passive,
            (SetupChoice::Active, Ok(role)) => role,
            (_, Err(error)) => return self.give_up(key, &error.to_string()),
        };
        self.start(key, role, &answer);
        if role == Role::Active {
            match msrp_place(&answer) {
                Some(place) => {
                    session_of(&mut self.state.sessions, key, |session| session.order(Order::Connect(place)))
                }
                None => self.give_up(key, "the path has no numeric address"),
            }
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

    /// An INVITE of somebody else.
    pub(super) fn invited(&mut self, transaction: ServerTransactionId, message: &SipMessage, flow: Flow) {
        let scripted = self.state.behaviour.next_invite_answer();
        if self.play(scripted, transaction, message) {
            return;
        }
        if let Some(id) = DialogId::of_request(message) {
            // Nothing about a running session is open to change.
            return self.answer(transaction, if self.state.dialogs.contains_key(&id) { 488 } else { 481 });
        }
        if self.state.sessions.len() >= self.configuration.limits.max_sessions {
            return self.answer(transaction, 486);
        }
        let offer = match offer_in(message).map(|body| MsrpDescription::parse(&body, false)) {
            Some(Ok(offer)) => offer,
            Some(Err(error)) => {
                self.violation(format!("INVITE: {error}"));
                return self.answer(transaction, error.sip_status());
            }
            None => {
                self.violation("INVITE without a session description".to_owned());
                return self.answer(transaction, 488);
            }
        };
        self.object(strict::invitation(message, &offer));
        let tag = self.endpoint.identifiers().tag();
        match Dialog::as_server(message, &tag) {
            Ok(dialog) => self.accept_invitation(transaction, message, flow, offer, dialog),
            Err(error) => self.answer(transaction, error.status()),
        }
    }

    fn accept_invitation(
        &mut self,
        transaction: ServerTransactionId,
        message: &SipMessage,
        flow: Flow,
        mut offer: MsrpDescription,
        dialog: Dialog,
    ) {
        let local = self.local_media(Direction::ReceiveOnly);
        let place = place_of(dialog.next_hop()).unwrap_or((protocol(flow.transport), flow.remote));
        if self.configuration.setup == SetupChoice::Active && offer.setup == Some(Setup::ActPass) {
            // The choice is ours; asked this way the answer says active.
            offer.setup = Some(Setup::Passive);
        }
        let answer = match sdp::answer(&offer, &local) {
            Ok(answer) => answer,
            Err(error) => return self.answer(transaction, error.sip_status()),
        };
        let Some(response) = self.endpoint.response(transaction, 200, Some(&dialog.local_tag)) else { return };
        let response = establish(response, message, &self.contact_uri()).field("Allow", ALLOW);
        let without_description = self.state.behaviour.answer_without_sdp;
        let bytes = if without_description {
            response.finish()
        } else {
            response.field("Content-Type", "application/sdp").finish_with_body(&answer.sdp)
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => return self.violation(format!("an INVITE that cannot be answered: {error}")),
        };
        let context = Context {
            mode: Mode::Push,
            asserted: asserted_sender(message),
            referred_by: referred_by(message),
            call_id: dialog.call_id.clone(),
            conversation_id: message.header(Name::ConversationId).map(str::to_owned),
            fields: fields_of(message),
        };
        let connect_to = if answer.role == Role::Active { msrp_place(&offer) } else { None };
        let id = dialog.id();
        let session = self.session(Purpose::Push { transaction }, local, context);
        let session = InviteSession { dialog: Some(dialog), place, connect_to, ..session };
        let key = self.keep_session(session);
        self.state.dialogs.insert(id, key);
        self.state.invitations.insert(transaction, key);
        if !without_description {
            self.start(key, answer.role, &offer);
        }
        self.endpoint.respond(Instant::now(), transaction, 200, bytes);
    }

    /// The ACK to our 2xx.
    pub(super) fn acknowledged(&mut self, transaction: Option<ServerTransactionId>) {
        let withheld = self.state.behaviour.withhold_connection;
        let Some(key) = transaction.and_then(|transaction| self.state.invitations.remove(&transaction)) else { return };
        session_of(&mut self.state.sessions, key, |session| {
            if let (Some(place), false) = (session.connect_to.take(), withheld) {
                session.order(Order::Connect(place));
            }
        });
    }

    pub(super) fn cancelled(&mut self, transaction: ServerTransactionId) {
        self.answer(transaction, 487);
    }

    pub(super) fn ack_missing(&mut self, transaction: ServerTransactionId) {
        if let Some(key) = self.state.invitations.remove(&transaction) {
            self.violation("no ACK to a 200 to INVITE".to_owned());
            self.send_bye(key);
            session_of(&mut self.state.sessions, key, |session| session.close());
        }
    }

    pub(super) fn bye_received(&mut self, transaction: ServerTransactionId, message: &SipMessage) {
        let key = DialogId::of_request(message).and_then(|id| self.state.dialogs.get(&id).copied());
        let Some(session) = key.and_then(|key| self.state.sessions.get_mut(&key)) else {
            self.violation("BYE of no dialog".to_owned());
            return self.answer(transaction, 481);
        };
        // Both sides may end a session at once: ours is over then, and theirs is answered all the same (RFC 5407 §3.2.1).
        let crosses = matches!(session.bye, Bye::Sent | Bye::Answered);
        if let (Some(Err(error)), false) = (session.dialog.as_mut().map(|dialog| dialog.receive(message)), crosses) {
            self.violation(format!("BYE: {error}"));
            return self.answer(transaction, error.status());
        }
        session.bye = Bye::Received;
        let runs = session.orders.is_some();
        session.order(Order::Drain);
        self.answer(transaction, 200);
        if let (false, Some(key)) = (runs, key) {
            self.session_over(key);
        }
    }

    /// A connection that a peer opened.
    pub(super) fn connection(&mut self, handed: HandedOver<Box<PeekedRequest>>) {
        let key = handed.session.session_id().and_then(|id| self.state.msrp_sessions.get(id).copied());
        let Some(session) = key.and_then(|key| self.state.sessions.get_mut(&key)) else {
            if let Some(refusal) = handed.session.refusal(Status::NO_SUCH_SESSION) {
                use std::io::Write;
                // The socket is fresh and the answer short: it fits, or the peer never reads.
                let _ = (&handed.stream).write(&refusal);
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
                    session_of(&mut self.state.sessions, key, |session| session.received.push(received));
                }
            }
            Notice::Settled(result) => {
                session_of(&mut self.state.sessions, key, |session| {
                    if let Purpose::Large { outcome, settled, .. } = &mut session.purpose {
                        outcome.accepted = result == Outcome::Acknowledged;
                        outcome.detail = words_for(result);
                        *settled = true;
                    }
                });
                self.send_bye(key);
            }
            Notice::Ended => {
                let has_bye = self.state.sessions.get(&key).is_none_or(|session| session.bye != Bye::None);
                if has_bye {
                    session_of(&mut self.state.sessions, key, |session| session.orders = None);
                    self.finish_if_over(key);
                } else {
                    session_of(&mut self.state.sessions, key, |session| session.orders = None);
                    self.send_bye(key);
                }
            }
        }
    }

    /// Our BYE was answered, or never will be.
    pub(super) fn bye_done(&mut self, key: u64) {
        session_of(&mut self.state.sessions, key, |session| {
            session.bye = Bye::Answered;
            session.close();
        });
        self.finish_if_over(key);
    }

    pub(super) fn end_overdue_sessions(&mut self, now: Instant) {
        let overdue: Vec<u64> =
            self.state.sessions.iter().filter(|(_, session)| session.deadline <= now).map(|(key, _)| *key).collect();
        for key in overdue {
            session_of(&mut self.state.sessions, key, |session| {
                session.deadline = now + Duration::from_secs(60);
                session.close();
            });
            self.send_bye(key);
        }
    }

    /// No final answer to our INVITE.
    pub(super) fn fail_session(&mut self, key: u64, error: ClientError) {
        if let Some(session) = self.remove_session(key) {
            fail(session.purpose, error);
        }
    }

    fn end_with_answer(&mut self, key: u64, answer: Answer) {
        let Some(session) = self.remove_session(key) else { return };
        match session.purpose {
            Purpose::Large { mut outcome, reply: Some(reply), .. } => {
                outcome.detail = format!("refused with {}", answer.status);
                outcome.answer = answer;
                let _ = reply.send(Ok(*outcome));
            }
            Purpose::Fetch { reply: Some(reply), .. } => {
                let _ = reply.send(Ok(FetchOutcome { answer, messages: Vec::new(), orderly: true }));
            }
            Purpose::Large { reply: None, .. } | Purpose::Fetch { reply: None, .. } | Purpose::Push { .. } => {}
        }
    }

    /// The session cannot be used: BYE, and whoever asked for it is told why.
    fn give_up(&mut self, key: u64, why: &str) {
        session_of(&mut self.state.sessions, key, |session| match &mut session.purpose {
            Purpose::Large { reply, .. } => refuse(reply.take(), why),
            Purpose::Fetch { reply, .. } => refuse(reply.take(), why),
            Purpose::Push { .. } => {}
        });
        self.violation(format!("a session that cannot be used: {why}"));
        self.send_bye(key);
    }

    fn acknowledge(
        &mut self,
        dialog: &Dialog,
        message: &SipMessage,
        (protocol, remote): (Protocol, std::net::SocketAddr),
    ) {
        if self.state.behaviour.withhold_ack {
            return;
        }
        let transport = sip_transport(protocol);
        let via = self.endpoint.via(transport, &self.local.to_string());
        let flow = Flow { transport, local: self.local, remote, connection: None };
        match dialog.ack(message, &via).and_then(restante_sip::writer::Builder::finish) {
            Ok(bytes) => self.endpoint.send_stateless(flow, bytes),
            Err(error) => self.violation(format!("a 2xx that cannot be acknowledged: {error}")),
        }
    }

    fn send_bye(&mut self, key: u64) {
        let Some(session) = self.state.sessions.get_mut(&key) else { return };
        if session.bye != Bye::None {
            return self.finish_if_over(key);
        }
        session.bye = Bye::Sent;
        let place = session.place;
        match session.dialog.take() {
            Some(mut dialog) => {
                self.send_bye_in(&mut dialog, place, Some(key));
                session_of(&mut self.state.sessions, key, |session| session.dialog = Some(dialog));
            }
            None => self.bye_done(key),
        }
    }

    fn send_bye_in(&mut self, dialog: &mut Dialog, place: (Protocol, std::net::SocketAddr), key: Option<u64>) {
        let cseq = dialog.local_cseq;
        let sent = self.send_request(&Method::Bye, place, |via| {
            dialog.local_cseq = cseq;
            dialog.request(&Method::Bye, via).finish()
        });
        match (sent, key) {
            (Ok((transaction, _)), Some(session)) => {
                self.state.pending.insert(transaction, Pending::Bye { session });
            }
            (Err(_), Some(session)) => self.bye_done(session),
            (_, None) => {}
        }
    }

    /// A session is over when its signalling and its connection are.
    fn finish_if_over(&mut self, key: u64) {
        let Some(session) = self.state.sessions.get(&key) else { return };
        if session.orders.is_none() && matches!(session.bye, Bye::Answered | Bye::Received) {
            self.session_over(key);
        }
    }

    fn session_over(&mut self, key: u64) {
        let Some(session) = self.remove_session(key) else { return };
        let orderly = session.bye == Bye::Received;
        let fetched = matches!(session.purpose, Purpose::Fetch { .. });
        let call_id = session.context.call_id.clone();
        match session.purpose {
            Purpose::Large { outcome, reply, .. } => {
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(*outcome));
                }
                return;
            }
            Purpose::Fetch { answer, reply } => {
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(FetchOutcome { answer, messages: session.received, orderly }));
                }
            }
            Purpose::Push { .. } => {}
        }
        let summary = SessionSummary { call_id, fetched, messages: session.acknowledged, orderly };
        self.event(ClientEvent::SessionEnded { at: SystemTime::now(), summary });
    }

    fn remove_session(&mut self, key: u64) -> Option<InviteSession> {
        let session = self.state.sessions.remove(&key)?;
        session.order(Order::Close);
        if let Some(id) = &session.local.uri.session_id {
            self.state.msrp_sessions.remove(id);
        }
        if let Some(dialog) = &session.dialog {
            self.state.dialogs.remove(&dialog.id());
        }
        if let Purpose::Push { transaction } = session.purpose {
            self.state.invitations.remove(&transaction);
        }
        self.state.invites.retain(|_, session| *session != key);
        Some(session)
    }

    fn local_media(&self, direction: Direction) -> LocalMedia {
        let session_id = restante_msrp::session_id::new_session_id(0, crate::random::bytes());
        let most = match self.configuration.storage {
            Storage::Memory => self.configuration.limits.max_memory_bytes,
            Storage::Directory(_) => self.configuration.limits.max_file_bytes,
        };
        compose::local_media(self.msrp_local, session_id, direction, most)
    }

    fn offer(&self, local: &LocalMedia) -> Bytes {
        let offer = sdp::make_offer(local);
        match (self.configuration.setup, std::str::from_utf8(&offer)) {
            (SetupChoice::Passive, Ok(text)) => Bytes::from(text.replace("a=setup:actpass", "a=setup:passive")),
            _ => offer,
        }
    }
}

/// What an INVITE of ours says.
struct Invitation {
    uri: String,
    call_id: String,
    service: &'static str,
    content_type: String,
    body: Bytes,
    fields: Vec<(String, String)>,
}

fn session_of(
    sessions: &mut std::collections::HashMap<u64, InviteSession>,
    key: u64,
    change: impl FnOnce(&mut InviteSession),
) {
    if let Some(session) = sessions.get_mut(&key) {
        change(session);
    }
}

fn no_answer() -> Answer {
    Answer { status: 0, reason: String::new(), fields: Vec::new() }
}

fn refuse<T>(reply: Option<Reply<T>>, why: &str) {
    if let Some(reply) = reply {
        let _ = reply.send(Err(ClientError::Session(why.to_owned())));
    }
}

fn fail(purpose: Purpose, error: ClientError) {
    match purpose {
        Purpose::Large { reply: Some(reply), .. } => _ = reply.send(Err(error)),
        Purpose::Fetch { reply: Some(reply), .. } => _ = reply.send(Err(error)),
        Purpose::Large { reply: None, .. } | Purpose::Fetch { reply: None, .. } | Purpose::Push { .. } => {}
    }
}

/// The session description of an INVITE: its body, or a part of it.
fn offer_in(message: &SipMessage) -> Option<Bytes> {
    let content_type = message.header(Name::ContentType)?;
    let is_sdp = |content_type: &str| restante_cpim::media_type::essence(content_type) == "application/sdp";
    if is_sdp(content_type) {
        return Some(message.body());
    }
    let parts = restante_cpim::multipart::parse(content_type, &message.body())?;
    parts.into_iter().find(|part| is_sdp(part.content_type())).map(|part| part.content)
}

fn referred_by(message: &SipMessage) -> Option<String> {
    let value = message.header(Name::ReferredBy)?;
    restante_sip::header::NameAddr::parse(value).ok().map(|address| address.uri.to_string())
}

fn asserted_of_answer(message: &SipMessage) -> Option<String> {
    let asserted = message.name_addrs(Name::PAssertedIdentity).ok()?;
    asserted.into_iter().next().map(|address| address.uri.to_string())
}

/// Where to connect to. Only numeric hosts: nothing here resolves names.
fn msrp_place(description: &MsrpDescription) -> Option<std::net::SocketAddr> {
    let (host, port) = description.connect_to();
    Some(std::net::SocketAddr::new(host.parse().ok()?, port))
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
