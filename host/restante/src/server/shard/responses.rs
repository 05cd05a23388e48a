//! What becomes of requests of ours.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use restante_deferral::decision::Progress;
use restante_deferral::model::{MessageId, Origin, RecipientKey};
use restante_deferral::participating_function::{AttemptEnd, AttemptId, Outcome};
use restante_msrp::sdp::{self, MsrpDescription};
use restante_sip::dialog::{Dialog, DialogId};
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::proxy::BranchId;
use restante_sip::transaction::{ClientTransactionId, Flow};
use restante_sip::writer::{Builder, WriteError};

use super::relay::RelayId;
use super::session::answers_until;
use super::{Now, Shard};
use crate::server::media::{MediaId, NoPlace};

/// Answers of different devices to one INVITE that are looked after.
const MAX_FORKS: usize = 16;

/// What a client transaction is for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// A delivery, a relayed or handed over message.
    Attempt { key: RecipientKey, attempt: AttemptId, messages: Vec<MessageId>, is_device: bool, hop: SocketAddr },
    /// NOTIFY in a subscription; where it announces messages, for this attempt.
    Notify { dialog: DialogId, announces: Option<Announcement> },
    /// INVITE for a session.
    Invite { media: MediaId, hop: SocketAddr },
    /// A request of others that is passed on.
    Relayed { relay: RelayId, branch: BranchId },
    /// A refresh of a session; where it is an INVITE, what was sent and where.
    Refresh { media: MediaId, invite: Option<(Bytes, Flow)> },
    /// SUBSCRIBE to a user's registration events: what was sent.
    Watch { user: RecipientKey, subscribe: Bytes },
    /// BYE, of a session that waits for its answer.
    Bye { media: Option<MediaId> },
}

/// An attempt that announces messages.
#[derive(Clone, Debug)]
pub(super) struct Announcement {
    pub(super) key: RecipientKey,
    pub(super) attempt: AttemptId,
    pub(super) messages: Vec<MessageId>,
    pub(super) is_device: bool,
    pub(super) hop: SocketAddr,
}

/// No response came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    TimedOut,
    NotSent,
}

/// An INVITE of ours that was answered 2xx: more such answers may come, repeated or of other devices, and each wants
/// its ACK (RFC 3261 §13.2.2.4).
pub(super) struct Accepted {
    until: Instant,
    invite: Bytes,
    flow: Flow,
    /// By To-tag.
    acks: Vec<(String, Flow, Bytes)>,
}

impl Accepted {
    /// None of its answers is acknowledged yet.
    pub(super) fn new(until: Instant, invite: Bytes, flow: Flow) -> Accepted {
        Accepted { until, invite, flow, acks: Vec::new() }
    }
}

impl Shard {
    pub(super) fn response(&mut self, now: Now, client: ClientTransactionId, message: &SipMessage, came: Flow) {
        let Some(status) = message.status() else { return };
        // 100 is said before anybody knows, and 503 asks for another place (RFC 3263 §4.3).
        if !matches!(status, 100 | 503) {
            self.shared.names.note_answer(came.remote);
        }
        if status >= 200 {
            self.too_large.forget(client);
        }
        match self.purposes.get(&client).cloned() {
            Some(Purpose::Invite { media, hop }) => {
                return self.invite_answered(now, client, media, hop, message, came);
            }
            Some(Purpose::Relayed { relay, branch }) => return self.relay_answered(now, relay, branch, message),
            None if (200..300).contains(&status) => return self.accepted_again(now, client, message),
            _ => {}
        }
        if status < 200 {
            return;
        }
        if self.goes_unwrapped(now, client, message) {
            self.purposes.remove(&client);
            return;
        }
        let retry_after_seconds = message.number(Name::RetryAfter).ok().flatten();
        match self.purposes.remove(&client) {
            Some(Purpose::Attempt { key, attempt, messages, is_device, hop }) => {
                let origin = self.origin(is_device, hop, status, now);
                self.attempt_ended(
                    now,
                    &key,
                    attempt,
                    attempt_end(&messages, Some(status), origin, retry_after_seconds),
                );
            }
            Some(Purpose::Notify { dialog, announces }) => {
                self.notify_answered(now, &dialog, status, retry_after_seconds.is_some());
                if let Some(Announcement { key, attempt, messages, is_device, hop }) = announces {
                    let origin = self.origin(is_device, hop, status, now);
                    let end = attempt_end(&messages, Some(status), origin, retry_after_seconds);
                    self.attempt_ended(now, &key, attempt, end);
                }
            }
            Some(Purpose::Refresh { media, invite }) => {
                self.refresh_answered(now, client, media, invite, Some(message));
            }
            Some(Purpose::Watch { user, subscribe }) => self.watch_answered(now, &user, &subscribe, Some(message)),
            Some(Purpose::Bye { media }) => self.bye_answered(media),
            _ => {}
        }
    }

    pub(super) fn no_response(&mut self, now: Now, client: ClientTransactionId, silence: Silence) {
        let (origin, status) = match silence {
            Silence::TimedOut => (Origin::Timeout, 408),
            Silence::NotSent => (Origin::Transport, 503),
        };
        self.wrapped.remove(&client);
        let goes_by_udp = match silence {
            Silence::NotSent => self.too_large.note_not_sent(now.monotonic, client),
            Silence::TimedOut => {
                self.too_large.forget(client);
                false
            }
        };
        match self.purposes.remove(&client) {
            Some(Purpose::Attempt { key, attempt, messages, hop, .. }) => {
                self.shared.names.note_failure(hop, now.monotonic);
                self.attempt_ended(now, &key, attempt, attempt_end(&messages, None, origin, None));
            }
            Some(Purpose::Notify { dialog, announces }) => {
                self.notify_answered(now, &dialog, status, false);
                if let Some(Announcement { key, attempt, messages, .. }) = announces {
                    self.attempt_ended(now, &key, attempt, attempt_end(&messages, None, origin, None));
                }
            }
            Some(Purpose::Invite { media, hop }) => {
                self.shared.names.note_failure(hop, now.monotonic);
                self.invite_failed(now, media, None, origin, None);
            }
            Some(Purpose::Relayed { relay, branch }) if goes_by_udp => self.relay_again(now, relay, branch),
            Some(Purpose::Relayed { relay, branch }) => self.relay_silent(now, relay, branch, silence),
            Some(Purpose::Refresh { media, invite }) => self.refresh_answered(now, client, media, invite, None),
            Some(Purpose::Watch { user, subscribe }) => self.watch_answered(now, &user, &subscribe, None),
            Some(Purpose::Bye { media }) => self.bye_answered(media),
            None => {}
        }
    }

    fn invite_answered(
        &mut self,
        now: Now,
        client: ClientTransactionId,
        media: MediaId,
        hop: SocketAddr,
        message: &SipMessage,
        came: Flow,
    ) {
        let status = message.status().unwrap_or(0);
        match status {
            ..200 => {}
            200..300 => {
                self.purposes.remove(&client);
                self.shared.hop_refused(now.wall, hop, false);
                self.invite_accepted(now, client, media, message, came);
            }
            _ => {
                self.purposes.remove(&client);
                let delivery = self.media.get_mut(&media).and_then(|session| session.delivery_mut());
                let is_device = delivery.is_some_and(|delivery| delivery.is_device);
                let origin = self.origin(is_device, hop, status, now);
                let retry_after = message.number(Name::RetryAfter).ok().flatten();
                self.invite_failed(now, media, Some(status), origin, retry_after);
            }
        }
    }

    /// 2xx: ACK it, whatever it says; then the media, or BYE.
    fn invite_accepted(
        &mut self,
        now: Now,
        client: ClientTransactionId,
        media: MediaId,
        message: &SipMessage,
        came: Flow,
    ) {
        let session = self.media.get(&media);
        let (invite, flow) = session.map_or((Bytes::new(), came), |session| (session.invite.clone(), session.flow));
        self.accepted_order.push_back(client);
        let until = answers_until(now.monotonic);
        self.accepted.insert(client, Accepted::new(until, invite, flow));
        let Some(dialog) = self.acknowledge(client, message) else {
            // An answer that no dialog can be made of cannot be gone on with.
            return self.invite_failed(now, media, Some(488), Origin::Device, None);
        };
        let Some(session) = self.media.get_mut(&media) else { return self.send_bye(now, &dialog, flow, None) };
        self.dialogs.insert(dialog.id(), media);
        session.phase.answered(dialog);
        let takes_tls = self.shared.offers_tls();
        let fits = |answer: &MsrpDescription| answer.direction.receives() && answer.secure == takes_tls;
        let answer = MsrpDescription::parse(&message.body(), takes_tls).ok().filter(fits);
        let prepared = match &answer {
            Some(answer) => sdp::role_after_answer(answer)
                .map_err(|_| NoPlace::Unusable)
                .and_then(|role| self.prepare(media, role, answer, true, false)),
            None => Err(NoPlace::Unusable),
        };
        let delivery = self.media.get_mut(&media).and_then(|session| session.delivery_mut());
        match (prepared, answer, delivery) {
            (Ok(start), Some(answer), Some(delivery)) => {
                delivery.established = true;
                self.session_agreed(now, media, start, &answer, message);
                self.leave_out_unacceptable(media, &answer);
            }
            // A 200 that nothing can be sent through: BYE, and another way.
            (refused, _, Some(delivery)) => {
                (delivery.status, delivery.origin) = match refused {
                    Err(NoPlace::Forbidden | NoPlace::RelayBusy) => (None, Origin::Transport),
                    _ => (Some(488), Origin::Device),
                };
                if let Some(session) = self.media.get_mut(&media) {
                    session.outgoing.clear();
                    session.phase.want_end();
                }
            }
            _ => {}
        }
        self.confirm(now, media);
    }

    /// Sends the ACK for a 2xx and remembers it. The dialog, if one can be made of the answer.
    pub(super) fn acknowledge(&mut self, client: ClientTransactionId, message: &SipMessage) -> Option<Dialog> {
        let accepted = self.accepted.get(&client)?;
        let invite = SipMessage::parse(accepted.invite.clone(), &self.shared.message_limits()).ok()?;
        let dialog = Dialog::as_client(&invite, message).ok();
        self.acknowledge_in(client, &invite, message, dialog.as_ref());
        dialog
    }

    /// The same in a dialog that is known: a 2xx to a re-INVITE says nothing of its route set (RFC 3261 §12.2.1.2).
    pub(super) fn acknowledge_again(&mut self, client: ClientTransactionId, message: &SipMessage, dialog: &Dialog) {
        let Some(accepted) = self.accepted.get(&client) else { return };
        if let Ok(invite) = SipMessage::parse(accepted.invite.clone(), &self.shared.message_limits()) {
            self.acknowledge_in(client, &invite, message, Some(dialog));
        }
    }

    fn acknowledge_in(
        &mut self,
        client: ClientTransactionId,
        invite: &SipMessage,
        message: &SipMessage,
        dialog: Option<&Dialog>,
    ) {
        let Some(flow) = self.accepted.get(&client).map(|accepted| accepted.flow) else { return };
        let target = dialog.map_or(flow, |dialog| self.in_dialog_flow(dialog, flow));
        let sent_by = self.sent_by(&target);
        let via = self.endpoint.via(target.transport, &sent_by);
        let ack = match dialog {
            Some(dialog) => dialog.ack(message, &via).and_then(Builder::finish),
            None => plain_ack(invite, message, &via),
        };
        if let Ok(ack) = ack {
            self.endpoint.send_stateless(target, ack.clone());
            let tag = to_tag(message);
            if let Some(accepted) = self.accepted.get_mut(&client)
                && accepted.acks.len() < MAX_FORKS
            {
                accepted.acks.push((tag, target, ack));
            }
        }
    }

    /// Another 2xx to an INVITE that has one: a repetition, or another device that took the call too, which is let go.
    fn accepted_again(&mut self, now: Now, client: ClientTransactionId, message: &SipMessage) {
        let Some(accepted) = self.accepted.get(&client) else { return };
        let tag = to_tag(message);
        if let Some((_, flow, ack)) = accepted.acks.iter().find(|(known, ..)| *known == tag) {
            return self.endpoint.send_stateless(*flow, ack.clone());
        }
        let flow = accepted.flow;
        if accepted.acks.len() < MAX_FORKS
            && let Some(dialog) = self.acknowledge(client, message)
        {
            self.send_bye(now, &dialog, flow, None);
        }
    }

    /// Forgets INVITEs whose answers can come no more.
    pub(super) fn forget_accepted(&mut self, now: Now) {
        while let Some(oldest) = self.accepted_order.front()
            && self.accepted.get(oldest).is_none_or(|accepted| accepted.until <= now.monotonic)
        {
            if let Some(oldest) = self.accepted_order.pop_front() {
                self.accepted.remove(&oldest);
            }
        }
    }

    fn invite_failed(
        &mut self,
        now: Now,
        media: MediaId,
        status: Option<u16>,
        origin: Origin,
        retry_after_seconds: Option<u32>,
    ) {
        if let Some(delivery) = self.media.get_mut(&media).and_then(|session| session.delivery_mut()) {
            delivery.status = status;
            delivery.origin = origin;
            delivery.retry_after_seconds = retry_after_seconds;
        }
        self.finish_delivery(now, media);
        self.forget_media(media);
    }

    /// Who a final answer comes from. 408 and 503 mean the way, not the device, whoever wrote them; a row of refusals
    /// for good behind one hop means the hop.
    pub(super) fn origin(&mut self, is_device: bool, hop: SocketAddr, status: u16, now: Now) -> Origin {
        let permanent = matches!(status, 403 | 404 | 410 | 600..=699);
        let open = self.shared.hop_refused(now.wall, hop, permanent);
        match status {
            408 => Origin::Timeout,
            503 => {
                self.shared.names.note_busy(hop, now.monotonic);
                Origin::Transport
            }
            _ if is_device && !(permanent && open) => Origin::Device,
            _ => Origin::Core,
        }
    }
}

fn to_tag(message: &SipMessage) -> String {
    message.to().ok().and_then(|to| to.tag().map(str::to_owned)).unwrap_or_default()
}

/// The ACK to a 2xx that no dialog can be made of: to where the INVITE went.
fn plain_ack(invite: &SipMessage, response: &SipMessage, via: &str) -> Result<Bytes, WriteError> {
    let field = |message: &SipMessage, name| message.header(name).map(str::to_owned).ok_or(WriteError::Missing);
    let number = invite.cseq().map_err(|_| WriteError::Missing)?.number;
    Builder::request(&Method::Ack, invite.request_uri().unwrap_or(""))
        .field("Via", via)
        .field("Max-Forwards", "70")
        .field("From", &field(invite, Name::From)?)
        .field("To", &field(response, Name::To)?)
        .field("Call-ID", invite.call_id().unwrap_or(""))
        .field("CSeq", &format!("{number} ACK"))
        .finish()
}

fn attempt_end(
    messages: &[MessageId],
    status: Option<u16>,
    origin: Origin,
    retry_after_seconds: Option<u32>,
) -> AttemptEnd {
    let accepted = status.is_some_and(|status| (200..300).contains(&status));
    let outcome = if accepted {
        Outcome::Acknowledged
    } else {
        let progress = if status.is_some() { Progress::Refused } else { Progress::Partial };
        Outcome::Failed { progress, status: None }
    };
    let outcomes = messages.iter().map(|id| (*id, outcome)).collect();
    AttemptEnd { status, origin, retry_after_seconds, is_ours: false, outcomes }
}
