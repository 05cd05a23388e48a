//! Sessions that are changed or refreshed: re-INVITE (RFC 3261 §14), UPDATE (RFC 3311) and session timers (RFC 4028).
//!
//! | what the peer asks | answer |
//! |---|---|
//! | re-INVITE or UPDATE with the media as they are | 200 with our description |
//! | the same in another direction, a hold for example | 200 with what is left of ours; what is under way goes on |
//! | re-INVITE without an offer | 200 with our description as the offer |
//! | UPDATE without one | 200 |
//! | other media: another path or port, `a=setup:holdconn`, or none | 488; the session stays as it is |
//! | `a=connection:new`, and not the description that stands once more (RFC 4145 §5.2) | the same: a session has one connection |
//! | any of them while our own re-INVITE is not answered | 491 |
//! | an interval below 90 s | 422 with Min-SE |

use std::time::Instant;

use bytes::Bytes;
use restante_deferral::model::Origin;
use restante_msrp::sdp::{self, ConnectionAttribute, MsrpDescription, Setup};
use restante_msrp::session::Role;
use restante_sip::dialog::Dialog;
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::session_timer::{self, Due, MIN_SE_SECONDS, SessionTimer, TIMER, Terms};
use restante_sip::transaction::{ClientTransactionId, Flow, ServerTransactionId};

use super::super::fields::contact_along;
use super::super::responses::{Accepted, Purpose};
use super::super::{Now, Shard};
use super::{Offer, Phase, answers_until};
use crate::server::media::MediaId;

/// Methods of requests that a session takes.
pub(in crate::server::shard) const ALLOW_IN_SESSION: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO";

/// What a session remembers for that.
#[derive(Default)]
pub(super) struct Refreshing {
    /// Their media as they were agreed on.
    theirs: Option<MsrpDescription>,
    role: Option<Role>,
    /// Our last description said that the connection is there.
    says_existing: bool,
    /// The other side takes UPDATE.
    takes_update: bool,
    timer: Option<SessionTimer>,
    /// Its entry among the shard's wake-ups.
    scheduled: Option<Instant>,
    /// Our refresh that is not answered.
    asked: Option<ClientTransactionId>,
    /// The last re-INVITE of theirs: it is to be acknowledged, too.
    pub(super) asked_by: Option<ServerTransactionId>,
}

impl Refreshing {
    /// The session stands on this description of theirs.
    pub(super) fn agreed(&mut self, theirs: MsrpDescription, role: Role, message: &SipMessage) {
        self.theirs = Some(theirs);
        self.role = Some(role);
        self.takes_update = message.list(Name::Allow).any(|method| method.eq_ignore_ascii_case("UPDATE"));
    }
}

impl Shard {
    /// A re-INVITE or an UPDATE in a session's dialog.
    pub(in crate::server::shard) fn session_changed(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
        media: MediaId,
        came: &Flow,
    ) {
        let timer = match session_timer::answer(message) {
            Ok(timer) => timer,
            Err(refusal) => return self.refuse_interval(now, transaction, refusal),
        };
        let Some(session) = self.media.get(&media) else { return self.answer(now, transaction, 481) };
        if session.refreshing.asked.is_some() {
            return self.answer(now, transaction, 491);
        }
        let is_invite = message.method() == Some(Method::Invite);
        let offer = match message.body().is_empty() {
            true => None,
            false => match Offer::read(message, self.shared.takes_msrp(true)) {
                Ok(offer) => Some(offer.media),
                Err(status) => return self.answer(now, transaction, status),
            },
        };
        let description = match (&offer, is_invite) {
            (Some(offer), _) => match self.described_again(media, offer) {
                Some(description) => Some(description),
                None => return self.answer(now, transaction, 488),
            },
            (None, true) => self.described(media),
            (None, false) => None,
        };
        let dialog = self.media.get(&media).and_then(|session| session.phase.dialog());
        let contact = contact_along(&self.contact_uri(came), dialog.map(Dialog::next_hop));
        self.answer_with_body(now, transaction, 200, description, |builder| {
            let builder = builder.field("Contact", &format!("<{contact}>")).field("Allow", ALLOW_IN_SESSION);
            let builder = builder.field("Supported", TIMER);
            match timer {
                Some(timer) => timer.write(builder),
                None => builder,
            }
        });
        if let (true, Some(session)) = (is_invite, self.media.get_mut(&media)) {
            session.refreshing.asked_by = Some(transaction);
        }
        // Each of them sets the timer anew, or ends it (RFC 4028 §9).
        self.set_session_timer(now, media, timer.map(|timer| timer.terms));
        self.note_least_interval(media, message);
    }

    /// Answers a request for a session whose interval cannot be.
    pub(super) fn refuse_interval(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        refusal: session_timer::Refusal,
    ) {
        match refusal {
            session_timer::Refusal::TooSmall => self.answer_with(now, transaction, 422, |builder| {
                builder.field(Name::MinSe.as_str(), &MIN_SE_SECONDS.to_string())
            }),
            session_timer::Refusal::Malformed => self.answer(now, transaction, 400),
        }
    }

    /// A request of the peer's that set the session's timer.
    pub(in crate::server::shard) fn note_least_interval(&mut self, media: MediaId, request: &SipMessage) {
        let timer = self.media.get_mut(&media).and_then(|session| session.refreshing.timer.as_mut());
        timer.into_iter().for_each(|timer| timer.note_least(request));
    }

    /// These terms hold from now on; none: the session has no timer.
    pub(in crate::server::shard) fn set_session_timer(&mut self, now: Now, media: MediaId, terms: Option<Terms>) {
        if let Some(session) = self.media.get_mut(&media) {
            let before = session.refreshing.timer;
            session.refreshing.timer = terms.map(|terms| match before {
                Some(before) => before.renewed(now.monotonic, terms),
                None => SessionTimer::new(now.monotonic, terms),
            });
            self.schedule_session(media);
        }
    }

    fn schedule_session(&mut self, media: MediaId) {
        let Some(session) = self.media.get_mut(&media) else { return };
        let next = session.refreshing.timer.map(|timer| timer.next_wake());
        let before = std::mem::replace(&mut session.refreshing.scheduled, next);
        before.into_iter().for_each(|at| _ = self.session_wakes.remove(&(at, media)));
        self.session_wakes.extend(next.map(|at| (at, media)));
    }

    /// The session goes: its timer does, too.
    pub(super) fn forget_session_timer(&mut self, media: MediaId, refreshing: &Refreshing) {
        refreshing.scheduled.into_iter().for_each(|at| _ = self.session_wakes.remove(&(at, media)));
    }

    /// Refreshes what is to be refreshed, and ends what was not.
    pub(in crate::server::shard) fn wake_sessions(&mut self, now: Now) {
        while self.session_wakes.first().is_some_and(|(at, _)| *at <= now.monotonic)
            && let Some((_, media)) = self.session_wakes.pop_first()
        {
            let Some(session) = self.media.get_mut(&media) else { continue };
            session.refreshing.scheduled = None;
            let due = session.refreshing.timer.as_mut().and_then(|timer| timer.handle_wake(now.monotonic));
            self.schedule_session(media);
            self.do_due(now, media, due);
        }
    }

    fn do_due(&mut self, now: Now, media: MediaId, due: Option<Due>) {
        match due {
            Some(Due::Refresh) => self.refresh_session(now, media),
            Some(Due::End) => self.end_silent_session(now, media),
            None => {}
        }
    }

    /// Nothing was heard of the other side for too long (RFC 4028 §10).
    fn end_silent_session(&mut self, now: Now, media: MediaId) {
        tracing::debug!("a session was not refreshed");
        if let Some(session) = self.media.get_mut(&media) {
            session.refreshing.timer = None;
            if let Some(delivery) = session.delivery_mut() {
                delivery.broken_by.get_or_insert(Origin::Timeout);
            }
        }
        self.schedule_session(media);
        self.end_session(now, media);
    }

    /// By UPDATE where the other side takes it: nobody has to acknowledge that. Else by a re-INVITE that changes
    /// nothing.
    fn refresh_session(&mut self, now: Now, media: MediaId) {
        let description = self.described(media);
        let Some(session) = self.media.get(&media) else { return };
        let refreshing = &session.refreshing;
        let (Phase::Confirmed(dialog), Some(timer)) = (&session.phase, refreshing.timer) else { return };
        let dialog = dialog.clone();
        let is_update = refreshing.takes_update;
        let method = if is_update { Method::Update } else { Method::Invite };
        let flow = self.in_dialog_flow(&dialog, session.flow);
        let mut used: Dialog = dialog.clone();
        let mut request = Bytes::new();
        let sent = self.send_request(now, &method, flow, |via, contact| {
            used = dialog.clone();
            let contact = contact_along(contact, [dialog.next_hop()]);
            let builder = used
                .request(&method, via)
                .field("Contact", &format!("<{contact}>"))
                .field("Allow", ALLOW_IN_SESSION)
                .field("Supported", TIMER)
                .field(Name::SessionExpires.as_str(), &timer.asks().write())
                .optional(Name::MinSe.as_str(), timer.min_se().map(|it| it.to_string()).as_deref());
            request = match &description {
                Some(description) if !is_update => {
                    builder.field("Content-Type", "application/sdp").finish_with_body(description)?
                }
                _ => builder.finish()?,
            };
            Ok(request.clone())
        });
        // What cannot be sent now is like a refresh that nobody answers: the interval goes on.
        let Ok((client, flow)) = sent else { return };
        let invite = (!is_update).then_some((request, flow));
        self.purposes.insert(client, Purpose::Refresh { media, invite });
        if let Some(session) = self.media.get_mut(&media) {
            session.phase.dialog_mut().into_iter().for_each(|dialog| dialog.clone_from(&used));
            session.refreshing.asked = Some(client);
        }
    }

    /// Our refresh was answered; none: it was not.
    pub(in crate::server::shard) fn refresh_answered(
        &mut self,
        now: Now,
        client: ClientTransactionId,
        media: MediaId,
        invite: Option<(Bytes, Flow)>,
        response: Option<&SipMessage>,
    ) {
        let is_success = response.and_then(SipMessage::status).is_some_and(|status| (200..300).contains(&status));
        if let (true, Some((invite, flow)), Some(response)) = (is_success, invite, response) {
            self.accepted_order.push_back(client);
            self.accepted.insert(client, Accepted::new(answers_until(now.monotonic), invite, flow));
            let dialog = self.media.get(&media).and_then(|session| session.phase.dialog().cloned());
            match dialog {
                Some(mut dialog) => {
                    let _ = dialog.update(response);
                    self.acknowledge_again(client, response, &dialog);
                }
                None => _ = self.acknowledge(client, response),
            }
        }
        let random = u64::try_from(self.endpoint.identifiers().random() >> 64).unwrap_or(0);
        let Some(session) = self.media.get_mut(&media) else { return };
        session.refreshing.asked = None;
        // Who was invited has the Call-ID of the other side.
        let again_at = now.monotonic + session_timer::wait_after_glare(session.transaction.is_none(), random);
        match response.filter(|_| is_success) {
            Some(response) => {
                if let Some(dialog) = session.phase.dialog_mut() {
                    // One whose Contact cannot be read leaves the dialog as it was.
                    let _ = dialog.update(response);
                }
                self.set_session_timer(now, media, session_timer::answered(response));
            }
            None => {
                let due =
                    session.refreshing.timer.as_mut().and_then(|timer| timer.refresh_answered(response, again_at));
                self.schedule_session(media);
                self.do_due(now, media, due);
            }
        }
    }

    /// Our description for an offer that changes no more than the direction.
    fn described_again(&mut self, media: MediaId, offer: &MsrpDescription) -> Option<Bytes> {
        let session = self.media.get_mut(&media)?;
        let (theirs, role) = (session.refreshing.theirs.as_ref()?, session.refreshing.role?);
        // Nor can what stands be held back as if it were to be set up (RFC 4145 §4.1).
        let is_held_back = offer.setup == Some(Setup::HoldConnection);
        // To `new` nothing but `new` is an answer; who repeats what stands asks for nothing.
        let is_another_connection = offer.connection == Some(ConnectionAttribute::New) && offer != theirs;
        if offer.path != theirs.path || offer.secure != theirs.secure || is_held_back || is_another_connection {
            return None;
        }
        // Each description that is another one than before has another version (RFC 3264 §8): the first that says that
        // the connection is there, too.
        let is_another = offer.direction != theirs.direction || !session.refreshing.says_existing;
        session.refreshing.says_existing = true;
        session.local.origin_version = session.local.origin_version.saturating_add(u64::from(is_another));
        let description = sdp::answer_again(offer, &session.local, role);
        session.refreshing.theirs = Some(offer.clone());
        Some(description)
    }

    /// Our description as it stands.
    fn described(&mut self, media: MediaId) -> Option<Bytes> {
        let session = self.media.get_mut(&media)?;
        let is_another = !std::mem::replace(&mut session.refreshing.says_existing, true);
        session.local.origin_version = session.local.origin_version.saturating_add(u64::from(is_another));
        let (theirs, role) = (session.refreshing.theirs.as_ref()?, session.refreshing.role?);
        Some(sdp::describe_again(&session.local, role, theirs.direction))
    }
}
