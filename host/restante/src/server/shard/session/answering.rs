//! INVITEs of theirs: what the machine replied, and the 200 that agrees on a session.

use restante_deferral::participating_function::Reply;
use restante_msrp::sdp;
use restante_msrp::session::Role;
use restante_sip::dialog::{Dialog, establish};
use restante_sip::session_timer;
use restante_sip::transaction::ServerTransactionId;

use super::ALLOW_IN_SESSION;
use crate::server::media::{MediaId, NoPlace};
use crate::server::shard::fields::contact_along;
use crate::server::shard::incoming::OVERLOAD_RETRY_SECONDS;
use crate::server::shard::{Now, Shard};

impl Shard {
    pub(in crate::server::shard) fn reply_to_invitation(&mut self, now: Now, media: MediaId, reply: Reply) {
        let Some(transaction) = self.media.get(&media).and_then(|session| session.transaction) else { return };
        match reply {
            Reply::Invite | Reply::Accepted => self.accept_invitation(now, media),
            Reply::PassOn { deadline, contacts } => self.pass_invitation_on(now, media, deadline, &contacts),
            Reply::Refused { status, reason, retry_after_seconds } => {
                self.refuse(now, transaction, status, &reason, retry_after_seconds);
                self.forget_media(media);
            }
            _ => {
                self.refuse(now, transaction, 503, "Not Now", Some(OVERLOAD_RETRY_SECONDS));
                self.forget_media(media);
            }
        }
    }

    /// Answers an INVITE of theirs with 200 and waits for the ACK.
    pub(in crate::server::shard) fn accept_invitation(&mut self, now: Now, media: MediaId) {
        let Some(session) = self.media.get_mut(&media) else { return };
        let (Some(offer), Some(transaction)) = (session.offer.take(), session.transaction) else { return };
        let flow = session.flow;
        let answer = match sdp::answer(&offer, &session.local) {
            Ok(answer) => answer,
            Err(error) => return self.give_invitation_up(now, media, transaction, error.sip_status()),
        };
        let (sends, receives) = (answer.direction.sends(), answer.direction.receives());
        let role = answer.role;
        let start = match self.prepare(media, role, &offer, sends, receives) {
            Ok(start) => start,
            Err(NoPlace::Unusable) => return self.give_invitation_up(now, media, transaction, 488),
            Err(NoPlace::Forbidden) => return self.give_invitation_up(now, media, transaction, 403),
            Err(NoPlace::RelayBusy) => return self.give_invitation_up(now, media, transaction, 480),
        };
        let tag = self.endpoint.identifiers().tag();
        let contact = self.contact_uri(&flow);
        let request = self.endpoint.request(transaction).cloned();
        let dialog = request.as_ref().and_then(|request| Dialog::as_server(request, &tag).ok());
        let (Some(request), Some(dialog)) = (request, dialog) else {
            return self.give_invitation_up(now, media, transaction, 400);
        };
        let contact = contact_along(&contact, request.request_uri().into_iter().chain([dialog.next_hop()]));
        let timer = match session_timer::answer(&request) {
            Ok(timer) => timer,
            Err(refusal) => {
                self.refuse_interval(now, transaction, refusal);
                self.finish_delivery(now, media);
                return self.forget_media(media);
            }
        };
        let info = self.authentication_info(now, transaction, 200);
        let response = self.endpoint.response(transaction, 200, Some(&tag)).and_then(|builder| {
            let builder = builder.optional("Authentication-Info", info.as_deref());
            let builder = establish(builder, &request, &contact).field("Allow", ALLOW_IN_SESSION);
            let builder = builder.field("Supported", session_timer::TIMER);
            let builder = match timer {
                Some(timer) => timer.write(builder),
                None => builder,
            };
            builder.field("Content-Type", "application/sdp").finish_with_body(&answer.sdp).ok()
        });
        let Some(bytes) = response else { return self.give_invitation_up(now, media, transaction, 500) };
        if let Some(session) = self.media.get_mut(&media) {
            self.session_ids.insert(session.session_id.clone(), media);
            self.dialogs.insert(dialog.id(), media);
            session.phase.answered(dialog);
            session.start = Some(start);
            session.refreshing.agreed(offer.clone(), role, &request);
            if let Some(delivery) = session.delivery_mut() {
                delivery.established = true;
            }
        }
        self.set_session_timer(now, media, timer.map(|timer| timer.terms));
        self.note_least_interval(media, &request);
        self.endpoint.respond(now.monotonic, transaction, 200, bytes);
        self.leave_out_unacceptable(media, &offer);
        // A passive side may be connected to before the ACK is here.
        if role == Role::Passive {
            self.begin_media(now, media);
        }
    }

    fn give_invitation_up(&mut self, now: Now, media: MediaId, transaction: ServerTransactionId, status: u16) {
        self.answer(now, transaction, status);
        self.finish_delivery(now, media);
        self.forget_media(media);
    }
}
