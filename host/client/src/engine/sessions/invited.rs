//! Sessions that somebody else asks for.

use std::time::Instant;

use bytes::Bytes;
use restante_msrp::sdp::{self, Direction, MsrpDescription, Setup};
use restante_msrp::session::Role;
use restante_sip::dialog::{Dialog, DialogId, establish};
use restante_sip::message::{Name, SipMessage};
use restante_sip::transaction::{Flow, ServerTransactionId};

use super::{InviteSession, Purpose, msrp_place};
use crate::compose::ALLOW;
use crate::configuration::SetupChoice;
use crate::engine::Engine;
use crate::engine::incoming::{Context, asserted_sender};
use crate::engine::wire::{fields_of, place_of, protocol};
use crate::event::Mode;
use crate::msrp_session::Order;
use crate::strict;

impl Engine {
    /// An INVITE of somebody else.
    pub(in crate::engine) fn invited(&mut self, transaction: ServerTransactionId, message: &SipMessage, flow: Flow) {
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
        // Without a certificate of its own it can connect, and not be connected to.
        let takes_tls = self.configuration.setup == SetupChoice::Active;
        let offer = match offer_in(message).map(|body| MsrpDescription::parse(&body, takes_tls)) {
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

    /// The ACK to our 2xx.
    pub(in crate::engine) fn acknowledged(&mut self, transaction: Option<ServerTransactionId>) {
        let withheld = self.state.behaviour.withhold_connection;
        let Some(key) = transaction.and_then(|transaction| self.state.invitations.remove(&transaction)) else { return };
        self.with_session(key, |session| {
            if let (Some(place), false) = (session.connect_to.take(), withheld) {
                session.order(Order::Connect(place));
            }
        });
    }

    pub(in crate::engine) fn cancelled(&mut self, transaction: ServerTransactionId) {
        self.answer(transaction, 487);
    }

    pub(in crate::engine) fn ack_missing(&mut self, transaction: ServerTransactionId) {
        if let Some(key) = self.state.invitations.remove(&transaction) {
            self.violation("no ACK to a 200 to INVITE".to_owned());
            self.send_bye(key);
            self.with_session(key, |session| session.close());
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
        let local = self.local_media(Direction::ReceiveOnly, offer.secure);
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
