//! Sessions that we ask for: to send a large message, or to fetch.

use std::net::SocketAddr;

use bytes::Bytes;
use restante_msrp::sdp::{self, Direction, LocalMedia, MsrpDescription};
use restante_msrp::session::Role;
use restante_sip::dialog::Dialog;
use restante_sip::header::{ICSI_DEFERRED, ICSI_LARGE_MESSAGE};
use restante_sip::message::{Method, SipMessage};
use restante_transport::Protocol;

use super::{InviteSession, Purpose, msrp_place};
use crate::compose::{self, ACCEPT, ALLOW, CpimHead};
use crate::configuration::SetupChoice;
use crate::engine::incoming::{Context, asserted_identity};
use crate::engine::wire::{Outline, answer_of, begin, fields_of, no_answer, place_of, sip_transport};
use crate::engine::{Engine, Pending, PreparedLarge, Reply};
use crate::event::Mode;
use crate::msrp_session::{Order, OutgoingContent};
use crate::outgoing::{FetchOutcome, LargeOutcome, Selection};
use crate::random::token;
use crate::strict;

impl Engine {
    pub(in crate::engine) fn send_large(&mut self, prepared: PreparedLarge, reply: Reply<LargeOutcome>) {
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
        let purpose =
            Purpose::Large { outcome: Box::new(outcome), content: Some(Box::new(content)), reply: Some(reply) };
        let local = self.local_media(Direction::SendOnly, self.configuration.tls.media);
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

    pub(in crate::engine) fn fetch(&mut self, selection: &Selection, reply: Reply<FetchOutcome>) {
        let local = self.local_media(Direction::ReceiveOnly, self.configuration.tls.media);
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

    /// A final answer to an INVITE of ours; a 2xx may come more than once.
    pub(in crate::engine) fn invite_answered(&mut self, key: u64, message: &SipMessage) {
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
        self.with_session(key, |session| {
            session.dialog = Some(dialog);
            session.place = place;
            session.context.asserted = asserted_identity(message);
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
        let mut session = self.session(purpose, local, context);
        match sent {
            Ok((transaction, request)) => {
                let key = self.keep_session(InviteSession { request: Some(request), ..session });
                self.state.pending.insert(transaction, Pending::Invite { session: key });
                self.state.invites.insert(transaction, key);
            }
            Err(error) => session.purpose.fail(error),
        }
    }

    fn offer(&self, local: &LocalMedia) -> Bytes {
        let offer = sdp::make_offer(local);
        match (self.configuration.setup, std::str::from_utf8(&offer)) {
            (SetupChoice::Passive, Ok(text)) => Bytes::from(text.replace("a=setup:actpass", "a=setup:passive")),
            _ => offer,
        }
    }

    fn acknowledge(&mut self, dialog: &Dialog, message: &SipMessage, (protocol, remote): (Protocol, SocketAddr)) {
        if self.state.behaviour.withhold_ack {
            return;
        }
        let transport = sip_transport(protocol);
        let via = self.endpoint.via(transport, &self.local.to_string());
        let flow = self.flow_to(transport, remote);
        match dialog.ack(message, &via).and_then(restante_sip::writer::Builder::finish) {
            Ok(bytes) => self.endpoint.send_stateless(flow, bytes),
            Err(error) => self.violation(format!("a 2xx that cannot be acknowledged: {error}")),
        }
    }

    fn start_after_answer(&mut self, key: u64, message: &SipMessage) {
        let Some(session) = self.state.sessions.get(&key) else { return };
        let sends = matches!(session.purpose, Purpose::Large { .. });
        let answer = match MsrpDescription::parse(&message.body(), session.local.uri.secure) {
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
                Some(place) => self.with_session(key, |session| session.order(Order::Connect(place))),
                None => self.give_up(key, "the path has no numeric address"),
            }
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
