//! What becomes of requests of ours.

use std::net::SocketAddr;

use restante_deferral::decision::Progress;
use restante_deferral::model::{MessageId, Origin, RecipientKey};
use restante_deferral::participating_function::{AttemptEnd, AttemptId, Outcome};
use restante_msrp::sdp::{self, MsrpDescription};
use restante_sip::dialog::Dialog;
use restante_sip::message::{MessageLimits, Name, SipMessage};
use restante_sip::transaction::{ClientTransactionId, Flow, ServerTransactionId};

use super::session::MediaKind;
use super::{Now, Shard};
use crate::server::media::MediaId;

/// What a client transaction is for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// A delivery, an announcement, a relayed or handed over message.
    Attempt {
        key: RecipientKey,
        attempt: AttemptId,
        messages: Vec<MessageId>,
        is_device: bool,
        hop: SocketAddr,
        relaying: Option<Relaying>,
    },
    /// NOTIFY that tells a subscriber the state.
    SubscriptionNotify(RecipientKey),
    /// INVITE for a session.
    Invite {
        media: MediaId,
        hop: SocketAddr,
    },
    /// What we sent came back and was passed on.
    Forwarded {
        server: ServerTransactionId,
    },
    Bye,
}

/// Marks an attempt that relays: a final answer of the device is the sender's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relaying;

/// No response came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    TimedOut,
    NotSent,
}

impl Shard {
    pub(super) fn response(&mut self, now: Now, client: ClientTransactionId, message: &SipMessage, came: Flow) {
        let Some(status) = message.status() else { return };
        if let Some(Purpose::Invite { media, hop }) = self.purposes.get(&client).cloned() {
            return self.invite_answered(now, client, media, hop, status, message, came);
        }
        if status < 200 {
            return;
        }
        let Some(purpose) = self.purposes.remove(&client) else { return };
        match purpose {
            Purpose::Attempt { key, attempt, messages, is_device, hop, .. } => {
                let retry_after_seconds = message.number(Name::RetryAfter).ok().flatten();
                if self.subscriptions.contains_key(&key)
                    && message.cseq().is_ok_and(|cseq| cseq.method.as_str() == "NOTIFY")
                {
                    self.notify_answered(now, &key, status, retry_after_seconds.is_some());
                }
                let origin = self.origin(is_device, hop, status, now);
                let end = attempt_end(&messages, Some(status), origin, retry_after_seconds);
                self.attempt_ended(now, &key, attempt, end);
            }
            Purpose::SubscriptionNotify(key) => {
                let has_retry_after = message.header(Name::RetryAfter).is_some();
                self.notify_answered(now, &key, status, has_retry_after);
            }
            Purpose::Forwarded { server } => self.answer(now, server, status),
            Purpose::Invite { .. } | Purpose::Bye => {}
        }
    }

    pub(super) fn no_response(&mut self, now: Now, client: ClientTransactionId, silence: Silence) {
        let Some(purpose) = self.purposes.remove(&client) else { return };
        let origin = if silence == Silence::TimedOut { Origin::Timeout } else { Origin::Transport };
        match purpose {
            Purpose::Attempt { key, attempt, messages, .. } => {
                let end = attempt_end(&messages, None, origin, None);
                self.attempt_ended(now, &key, attempt, end);
            }
            Purpose::SubscriptionNotify(key) => {
                let status = if silence == Silence::TimedOut { 408 } else { 503 };
                self.notify_answered(now, &key, status, false);
            }
            Purpose::Invite { media, .. } => self.invite_failed(now, media, None, origin, None),
            Purpose::Forwarded { server } => {
                self.answer(now, server, if silence == Silence::TimedOut { 408 } else { 503 });
            }
            Purpose::Bye => {}
        }
    }

    fn invite_answered(
        &mut self,
        now: Now,
        client: ClientTransactionId,
        media: MediaId,
        hop: SocketAddr,
        status: u16,
        message: &SipMessage,
        came: Flow,
    ) {
        match status {
            100..200 => {}
            200..300 => self.invite_accepted(now, media, message, came),
            _ => {
                self.purposes.remove(&client);
                let is_device = self.media.get(&media).is_some_and(|session| match &session.kind {
                    MediaKind::Push(delivery) | MediaKind::Pull(delivery) => delivery.is_device,
                    MediaKind::Incoming { .. } => false,
                });
                let origin = self.origin(is_device, hop, status, now);
                let retry_after = message.number(Name::RetryAfter).ok().flatten();
                self.invite_failed(now, media, Some(status), origin, retry_after);
            }
        }
    }

    /// 200: ACK it, whatever it says; then the media, or BYE.
    fn invite_accepted(&mut self, now: Now, media: MediaId, message: &SipMessage, came: Flow) {
        let Some(sent) = self.media.get(&media).map(|session| session.invite.clone()) else { return };
        let Ok(invite) = SipMessage::parse(sent, &MessageLimits::default()) else { return };
        let Ok(dialog) = Dialog::as_client(&invite, message) else { return };
        let flow = self.media.get(&media).map_or(came, |session| session.flow);
        let sent_by = self.sent_by(&flow);
        let via = self.endpoint.via(flow.transport, &sent_by);
        if let Ok(ack) = dialog.ack(message, &via).and_then(restante_sip::writer::Builder::finish) {
            self.endpoint.send_stateless(flow, ack);
        }
        let Some(session) = self.media.get_mut(&media) else { return };
        if session.dialog.is_some() {
            // A repetition: its ACK is all it wants.
            return;
        }
        self.dialogs.insert(dialog.id(), media);
        session.dialog = Some(dialog);
        session.acknowledged = true;
        let answer = MsrpDescription::parse(&message.body(), false);
        let prepared = answer.ok().and_then(|answer| {
            let role = sdp::role_after_answer(&answer).ok()?;
            answer.direction.receives().then(|| self.prepare(media, role, &answer, true, false)).flatten()
        });
        match prepared {
            Some(start) => {
                self.set_start(media, start);
                self.confirm(now, media);
            }
            None => {
                // A 200 that nothing can be sent through: BYE, and another way.
                if let Some(session) = self.media.get_mut(&media)
                    && let MediaKind::Push(delivery) = &mut session.kind
                {
                    delivery.status = Some(488);
                    delivery.origin = Origin::Device;
                }
                self.end_session(now, media);
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
        if let Some(session) = self.media.get_mut(&media)
            && let MediaKind::Push(delivery) = &mut session.kind
        {
            delivery.status = status;
            delivery.origin = origin;
            delivery.retry_after_seconds = retry_after_seconds;
        }
        self.finish_delivery(now, media);
        self.forget_media(media);
    }

    /// Who a final answer comes from. 408 and 503 mean the way, not the device, whoever wrote them; a row of refusals for
    /// good behind one hop means the hop.
    fn origin(&mut self, is_device: bool, hop: SocketAddr, status: u16, now: Now) -> Origin {
        let permanent = matches!(status, 403 | 404 | 410 | 600..=699);
        let open = self.shared.hop_refused(now.wall, hop, permanent);
        match status {
            408 => Origin::Timeout,
            503 => Origin::Transport,
            _ if is_device && !(permanent && open) => Origin::Device,
            _ => Origin::Core,
        }
    }
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
        Outcome::Failed { progress: if status.is_some() { Progress::Refused } else { Progress::Partial }, status: None }
    };
    AttemptEnd { status, origin, retry_after_seconds, outcomes: messages.iter().map(|id| (*id, outcome)).collect() }
}
