//! `on-failure`: what becomes of messages that were not delivered. Nothing is lost by a wrong verdict:
//!
//! | what happened | what follows |
//! |---|---|
//! | the device itself refused a MESSAGE with 403, 404, 410 or 6xx | given up, the sender is told |
//! | the form was refused (405, 415, 488, 501; 400 and 500 by the device) | the other mode, then an announcement, then the next registration |
//! | a session was declined (6xx) | announced to a user who pulls, otherwise the next registration |
//! | no answer, or the connection broke, and there is another contact | that contact, at once |
//! | the client broke off a fetch before its deadline | nothing: it may fetch until then |
//! | anything else: the core's refusals, timeouts, breaks, overload | 30 s, 2 min, 10 min, 1 h, then the next registration or refresh; never before a Retry-After |
//!
//! A user who wants messages held is left in peace.

use super::Usual;
use super::gate::refuses_form;
use crate::types::{
    Abilities, AttemptKind, Contact, Context, Delivery, FailedMessage, Failure, FailureAction, FailureAnswer,
    MessageKind, Mode, Origin, Progress, Retry,
};

/// Decides on every message of the attempt.
pub(super) fn decide(usual: &Usual<'_>, context: &Context, failure: &Failure) -> Vec<FailureAnswer> {
    let verdict = Verdict { usual, context, failure };
    failure.answer_each(|failed| verdict.on(failed))
}

/// All that the verdict on one message of an attempt needs.
struct Verdict<'a> {
    usual: &'a Usual<'a>,
    context: &'a Context,
    failure: &'a Failure,
}

impl Verdict<'_> {
    fn on(&self, failed: &FailedMessage) -> FailureAction {
        let status = failed.status.or(self.failure.status);
        if self.is_permanent(failed, status) {
            return FailureAction::GiveUp(failed.message.kind == MessageKind::Message);
        }
        if self.usual.delivery == Delivery::Hold || self.may_still_be_fetched(failed) {
            return FailureAction::Wait;
        }
        if is_declined_session(self.failure.attempt, status) {
            return if self.usual.delivery == Delivery::Pull { self.announce(failed) } else { FailureAction::Wait };
        }
        if refuses_form(self.failure.origin, status) {
            return self.another_form(failed);
        }
        if let Some(contact) = self.other_contact(failed) {
            return FailureAction::Retry(Retry { after_milliseconds: 0, mode: None, contact: Some(contact) });
        }
        self.again(failed, None)
    }

    /// Only the device can refuse a message for good, and only one that came alone.
    fn is_permanent(&self, failed: &FailedMessage, status: Option<u16>) -> bool {
        self.failure.attempt == AttemptKind::Page
            && self.failure.origin == Origin::Device
            && failed.progress == Progress::Refused
            && matches!(status, Some(403 | 404 | 410 | 600..=605 | 607..=699))
    }

    /// The client asked on its own, and the time it was given is not over.
    fn may_still_be_fetched(&self, failed: &FailedMessage) -> bool {
        self.failure.attempt == AttemptKind::Pull
            && failed.message.fetch_deadline.is_some_and(|deadline| deadline > self.context.now)
    }

    /// The other mode where it is open, an announcement where it is not.
    fn another_form(&self, failed: &FailedMessage) -> FailureAction {
        let message = &failed.message;
        let fits_page = message.page_bytes.is_some_and(|bytes| bytes <= self.context.host.max_page_bytes);
        let may_page = fits_page && !message.page_refused;
        let mode = match self.failure.attempt {
            AttemptKind::Page | AttemptKind::Relay => (!message.large_refused).then_some(Mode::Large),
            AttemptKind::Session | AttemptKind::Pull => may_page.then_some(Mode::Page),
            // The client knows no announcements: it is sent the message instead.
            AttemptKind::Notification if may_page => Some(Mode::Page),
            AttemptKind::Notification => (!message.large_refused).then_some(Mode::Large),
            AttemptKind::HandOver => return self.again(failed, None),
        };
        match mode {
            // A client that refuses every form is not asked in a circle without pause.
            Some(mode) if message.attempts <= 2 => {
                FailureAction::Retry(Retry { after_milliseconds: 0, mode: Some(mode), contact: None })
            }
            Some(mode) => self.again(failed, Some(mode)),
            None => self.announce(failed),
        }
    }

    /// Announces a message once.
    fn announce(&self, failed: &FailedMessage) -> FailureAction {
        let can_be_announced = failed.message.kind == MessageKind::Message
            && failed.message.notified_at.is_none()
            && self.failure.attempt != AttemptKind::Notification;
        if can_be_announced {
            FailureAction::Notify(self.usual.fetch_deadline(self.context))
        } else {
            FailureAction::Wait
        }
    }

    /// Another contact of the recipient, when this one cannot be reached and that one did not fail yet.
    fn other_contact(&self, failed: &FailedMessage) -> Option<u64> {
        let unreachable = matches!(self.failure.origin, Origin::Timeout | Origin::Transport);
        let needed = match self.failure.attempt {
            AttemptKind::Page => Abilities::PAGE_MODE,
            AttemptKind::Session => Abilities::LARGE_MESSAGE_MODE,
            _ => return None,
        };
        if !unreachable || usize::from(failed.message.attempts) > self.usual.retry_milliseconds.len() {
            return None;
        }
        let usable = |contact: &&Contact| contact.last_failure.is_none() && contact.abilities.contains(needed);
        self.failure.other_contacts.iter().find(usable).map(|contact| contact.id)
    }

    /// The next of the operator's waits, or the next registration when they are used up.
    fn again(&self, failed: &FailedMessage, mode: Option<Mode>) -> FailureAction {
        let earlier = usize::from(failed.message.attempts).saturating_sub(1);
        let Some(wait) = self.usual.retry_milliseconds.get(earlier) else { return FailureAction::Wait };
        let asked_for = u64::from(self.failure.retry_after_seconds.unwrap_or(0)).saturating_mul(1_000);
        FailureAction::Retry(Retry { after_milliseconds: asked_for.max(*wait), mode, contact: None })
    }
}

/// A 6xx to a session is about the session, not about the messages in it.
fn is_declined_session(attempt: AttemptKind, status: Option<u16>) -> bool {
    attempt == AttemptKind::Session && matches!(status, Some(600..=605 | 607..=699))
}

#[cfg(test)]
mod tests;
