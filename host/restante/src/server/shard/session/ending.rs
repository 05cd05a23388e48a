//! How messages of a session are settled, and sessions end.

use restante_deferral::decision::Progress;
use restante_deferral::model::{MessageId, Origin};
use restante_deferral::participating_function::{AttemptEnd, Input, Outcome as MessageOutcome};
use restante_msrp::session::{EndReason, Outcome, RejectionOrigin};
use restante_msrp::status::Status;
use restante_sip::dialog::{Dialog, DialogId};
use restante_sip::message::{Method, SipMessage};
use restante_sip::transaction::{Flow, ServerTransactionId};

use super::super::responses::Purpose;
use super::super::{Now, Shard};
use super::{Delivery, MediaKind, Phase};
use crate::server::media::{Command, MediaId};

impl Shard {
    pub(super) fn message_settled(&mut self, now: Now, media: MediaId, message: MessageId, outcome: &Outcome) {
        let counts_unreported = self.shared.count_unreported_as_delivered;
        let Some(delivery) = self.media.get_mut(&media).and_then(|session| session.delivery_mut()) else { return };
        let Some(attempt) = delivery.attempt else { return };
        if let Some((progress, status)) = failure_of(outcome, counts_unreported) {
            if is_timeout(outcome) {
                delivery.broken_by = Some(Origin::Timeout);
            }
            return delivery.failed(message, progress, status);
        }
        delivery.open = delivery.open.saturating_sub(1);
        let key = delivery.key.clone();
        self.tell(now, &key, Input::Delivered(attempt, message));
    }

    /// Tells the machine how the whole attempt ended, once.
    pub(in crate::server::shard) fn finish_delivery(&mut self, now: Now, media: MediaId) {
        let Some(delivery) = self.media.get_mut(&media).and_then(|session| session.delivery_mut()) else { return };
        let Some(attempt) = delivery.attempt.take() else { return };
        let (status, origin) = end_of(delivery);
        let end = AttemptEnd {
            status,
            origin,
            retry_after_seconds: delivery.retry_after_seconds,
            is_ours: false,
            outcomes: std::mem::take(&mut delivery.settled),
        };
        let key = delivery.key.clone();
        self.attempt_ended(now, &key, attempt, end);
    }

    /// Everything was sent and something said of it: the delivery is over, whatever becomes of the session.
    pub(super) fn all_settled(&mut self, now: Now, media: MediaId) {
        if let Some(session) = self.media.get_mut(&media) {
            session.all_settled = true;
        }
        self.end_session(now, media);
        self.finish_delivery(now, media);
    }

    /// Ends the dialog from our side, now or as soon as it may be ended.
    pub(in crate::server::shard) fn end_session(&mut self, now: Now, media: MediaId) {
        let Some(session) = self.media.get_mut(&media) else { return };
        session.phase.want_end();
        let dialog = match &session.phase {
            Phase::Invited { .. } => {
                // Should the answer be a 2xx all the same, the session ends at once.
                return session.client.into_iter().for_each(|client| self.endpoint.cancel(now.monotonic, client));
            }
            Phase::Answered { .. } | Phase::Over(_) => return,
            Phase::Confirmed(dialog) => dialog.clone(),
        };
        session.phase.over();
        // A connection that closes before the BYE came looks like one that broke: clients answer it with a BYE of their
        // own.
        let waits = session.all_settled;
        let flow = session.flow;
        self.send_bye(now, &dialog, flow, waits.then_some(media));
        if !waits {
            self.command(media, Command::Drain);
        }
        self.without_task(now, media);
    }

    /// Sends a BYE, for whose answer a session may wait.
    pub(in crate::server::shard) fn send_bye(&mut self, now: Now, dialog: &Dialog, flow: Flow, media: Option<MediaId>) {
        let flow = self.in_dialog_flow(dialog, flow);
        let sent = self.send_request(now, &Method::Bye, flow, |via, _| {
            // The last request of the dialog: the copy's numbers are of no further use.
            dialog.clone().request(&Method::Bye, via).finish()
        });
        match sent {
            Ok((client, _)) => _ = self.purposes.insert(client, Purpose::Bye { media }),
            Err(_) => self.bye_answered(media),
        }
    }

    /// Our BYE was answered, or never will be.
    pub(in crate::server::shard) fn bye_answered(&mut self, media: Option<MediaId>) {
        if let Some(media) = media {
            self.command(media, Command::Drain);
        }
    }

    /// They ended the dialog.
    pub(in crate::server::shard) fn dialog_ended(&mut self, now: Now, media: MediaId) {
        if let Some(session) = self.media.get_mut(&media) {
            session.phase.over();
            if let Some(delivery) = session.delivery_mut() {
                delivery.broken_by.get_or_insert(Origin::Device);
            }
        }
        self.command(media, Command::Drain);
        self.without_task(now, media);
    }

    pub(super) fn task_ended(&mut self, now: Now, media: MediaId, reason: Option<&EndReason>) {
        if let Some(reason) = reason {
            tracing::debug!(%reason, "session over");
            if *reason == EndReason::TooSlow {
                self.shared.metrics.count_dropped("slow-msrp");
            }
        }
        let Some(session) = self.media.get_mut(&media) else { return };
        session.commands = None;
        if let Some(delivery) = session.delivery_mut() {
            delivery.broken_by.get_or_insert(match reason {
                Some(
                    EndReason::ConnectionNeverCame
                    | EndReason::NeverBound
                    | EndReason::Idle
                    | EndReason::Stalled
                    | EndReason::TooSlow
                    | EndReason::Refused(Status::TIMED_OUT),
                ) => Origin::Timeout,
                _ => Origin::Transport,
            });
        }
        self.end_session(now, media);
        self.finish_delivery(now, media);
        // Without the ACK there is no BYE yet: the dialog stays for it.
        if self.media.get(&media).is_some_and(|session| matches!(session.phase, Phase::Invited { .. } | Phase::Over(_)))
        {
            self.forget_media(media);
        }
    }

    /// A session without a running task has nobody to report its end.
    fn without_task(&mut self, now: Now, media: MediaId) {
        if self.media.get(&media).is_some_and(|session| session.commands.is_none()) {
            self.finish_delivery(now, media);
            self.forget_media(media);
        }
    }

    pub(in crate::server::shard) fn forget_media(&mut self, media: MediaId) {
        let Some(session) = self.media.remove(&media) else { return };
        self.forget_session_timer(media, &session.refreshing);
        self.session_ids.remove(&session.session_id);
        if let Some(transaction) = session.transaction {
            self.media_of_invites.remove(&transaction);
        }
        if let Some(dialog) = session.phase.dialog() {
            self.dialogs.remove(&dialog.id());
        }
        self.shared.metrics.sessions.dec();
        if let (MediaKind::Pull(delivery), Some(_)) = (&session.kind, &session.offer) {
            self.withdraw_pull(media, &delivery.key);
        }
    }

    pub(in crate::server::shard) fn acknowledged(&mut self, now: Now, message: &SipMessage) {
        let media = DialogId::of_request(message).and_then(|id| self.dialogs.get(&id).copied());
        match media {
            Some(media) => self.confirm(now, media),
            None => self.relay_ack(message),
        }
    }

    /// The session stands: the media may begin, and end.
    pub(in crate::server::shard) fn confirm(&mut self, now: Now, media: MediaId) {
        let Some(session) = self.media.get_mut(&media) else { return };
        if session.phase.confirm() {
            return self.end_session(now, media);
        }
        self.begin_media(now, media);
    }

    /// The caller gave up before we answered: whatever the machine says later finds nobody.
    pub(in crate::server::shard) fn cancelled(&mut self, now: Now, transaction: ServerTransactionId) {
        if self.relay_cancelled(now, transaction) {
            return;
        }
        self.answer(now, transaction, 487);
        if let Some(media) = self.media_of_invite(transaction) {
            self.finish_delivery(now, media);
            self.forget_media(media);
        }
    }

    pub(in crate::server::shard) fn ack_missing(&mut self, now: Now, transaction: ServerTransactionId) {
        let of_change = || {
            let mut all = self.media.iter();
            all.find(|(_, session)| session.refreshing.asked_by == Some(transaction)).map(|(media, _)| *media)
        };
        // Of a re-INVITE, too (RFC 3261 §14.2).
        if let Some(media) = self.media_of_invite(transaction).or_else(of_change) {
            if let Some(session) = self.media.get_mut(&media) {
                session.phase.confirm();
                if let Some(delivery) = session.delivery_mut() {
                    delivery.broken_by.get_or_insert(Origin::Timeout);
                }
            }
            self.end_session(now, media);
        }
    }
}

/// Nobody said anything in time: the peer, or a next hop further on, which a relay reports (RFC 4976 §6.4.1).
fn is_timeout(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Rejected { status, origin } => *origin == RejectionOrigin::Timeout || *status == Status::TIMED_OUT,
        _ => false,
    }
}

/// How far a message came that was not taken, and what its receiver said of it. None: it was taken.
fn failure_of(outcome: &Outcome, counts_unreported: bool) -> Option<(Progress, Option<u16>)> {
    match outcome {
        Outcome::Acknowledged => None,
        Outcome::Unreported if counts_unreported => None,
        Outcome::Rejected { .. } if is_timeout(outcome) => Some((Progress::Partial, None)),
        // Of the session, not of the message.
        Outcome::Rejected { status: Status::NO_SUCH_SESSION | Status::BOUND_TO_ANOTHER_CONNECTION, .. } => {
            Some((Progress::Partial, None))
        }
        Outcome::Rejected { status, .. } => Some((Progress::Refused, Some(status.code()))),
        Outcome::Unsent => Some((Progress::Unsent, None)),
        Outcome::Unreported | Outcome::Partial { .. } | Outcome::Aborted => Some((Progress::Partial, None)),
    }
}

/// What a session as a whole came to. One that stood is a success when something was said of every message; what was
/// said of each stands with it.
fn end_of(delivery: &Delivery) -> (Option<u16>, Origin) {
    if !delivery.established {
        return (delivery.status, delivery.origin);
    }
    let refusal = delivery.settled.iter().find_map(|(_, outcome)| match outcome {
        MessageOutcome::Failed { progress: Progress::Refused, status } => *status,
        _ => None,
    });
    match (delivery.open, refusal) {
        // A target's word on its one message is the end of the attempt.
        (0, Some(status)) if delivery.is_hand_over => (Some(status), Origin::Core),
        (0, _) => (Some(200), Origin::Device),
        _ => (None, delivery.broken_by.unwrap_or(Origin::Transport)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_its_receiver_says_is_a_refusal() {
        for (status, origin, expected) in [
            (Status::TIMED_OUT, RejectionOrigin::Timeout, (Progress::Partial, None)),
            (Status::TIMED_OUT, RejectionOrigin::Report, (Progress::Partial, None)),
            (Status::NO_SUCH_SESSION, RejectionOrigin::Report, (Progress::Partial, None)),
            (Status::STOP_SENDING, RejectionOrigin::Report, (Progress::Refused, Some(413))),
            (Status::UNSUPPORTED_MEDIA_TYPE, RejectionOrigin::Response, (Progress::Refused, Some(415))),
        ] {
            let outcome = Outcome::Rejected { status, origin };
            assert_eq!(failure_of(&outcome, false), Some(expected), "{outcome:?}");
        }
    }
}
