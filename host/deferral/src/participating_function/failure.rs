//! Attempts that failed: `on-failure`, and what it may answer.
//!
//! | action | what happens | durable |
//! |---|---|---|
//! | retry | again then, at the earliest when the peer's Retry-After is over | `not_before`, attempts, failure |
//! | notify | announced as the next step, or when the plan that it stopped is over | attempts, failure, `not_before`: at once, until it is announced |
//! | notify, no contact can be notified, or a notification failed | pushed by the built-in schedule | as retry |
//! | wait | until the recipient registers, refreshes or asks | attempts, failure |
//! | wait, where nobody ever registers (a report for somebody elsewhere) | again after an hour | as retry |
//! | hand over | to the target, from now on | the target |
//! | give up, the device itself refused one page-mode message for good | it goes; a report, if it was asked for | removal |
//! | give up, otherwise | as wait, and counted | |
//! | nothing said of it | as wait | |

use super::commits::{Draft, Removal};
use super::plan::RunStep;
use super::window::{Direct, Lease};
use super::{Asked, AttemptEnd, Event, QuestionToken, Recipient};
use crate::decision::{
    Answer, AttemptKind, FailedMessage, Failure, FailureAction, Progress, Question, Retry, Undecided, fallback,
    validate,
};
use crate::model::{ContactId, Duration, MessageId, Mode, Origin};

/// A target that did not take a message is tried again after this where the policy names no time.
const HAND_OVER_AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// Who registers elsewhere is tried again after this: the end of a wait for it would never come.
const WITHOUT_REGISTRATION_AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// So often the other mode is tried without a pause.
const SWIFT_RETRIES: u16 = 4;

/// Messages that failed together.
#[derive(Debug)]
pub(super) struct Batch {
    kind: AttemptKind,
    contact: Option<ContactId>,
    status: Option<u16>,
    origin: Origin,
    retry_after_seconds: Option<u32>,
    messages: Vec<(MessageId, Progress, Option<u16>)>,
    /// The running plan waits for the answer.
    of_plan: bool,
}

impl Batch {
    pub(super) fn of(
        kind: AttemptKind,
        contact: Option<ContactId>,
        end: &AttemptEnd,
        messages: Vec<(MessageId, Progress, Option<u16>)>,
    ) -> Batch {
        let of_plan = matches!(kind, AttemptKind::Page | AttemptKind::Session | AttemptKind::Notification);
        let AttemptEnd { status, origin, retry_after_seconds, .. } = *end;
        Batch { kind, contact, status, origin, retry_after_seconds, messages, of_plan }
    }

    pub(super) fn is_of_hand_over(&self) -> bool {
        self.kind == AttemptKind::HandOver
    }
}

impl Recipient {
    /// These were not delivered: what now?
    pub(super) fn fail(&mut self, mut batch: Batch) {
        self.event(Event::AttemptFailed(batch.kind, batch.status, batch.origin));
        let of_notification = batch.kind == AttemptKind::Notification;
        batch.messages.retain(|(id, ..)| {
            // What a notification was about may be with a pull by now.
            self.queue.get(*id).is_some_and(|entry| !of_notification || entry.lease.is_none())
        });
        let mut stops = false;
        let mut failed = Vec::with_capacity(batch.messages.len());
        for (id, progress, status) in &batch.messages {
            // A client that breaks off its own session says nothing of the ways to reach it.
            if batch.kind != AttemptKind::Pull {
                stops |= self.note_failure(*id, batch.kind, status.or(batch.status), batch.origin);
            }
            if let Some(entry) = self.queue.get(*id) {
                failed.push(FailedMessage { message: self.waiting_view(entry), progress: *progress, status: *status });
            }
        }
        if batch.of_plan && stops {
            self.push.stop();
            self.contacts.clear_lanes(None);
        }
        if failed.is_empty() {
            return;
        }
        let failure = Failure {
            attempt: batch.kind,
            contact: batch.contact.filter(|contact| self.contacts.get(*contact).is_some()),
            status: batch.status,
            origin: batch.origin,
            retry_after_seconds: batch.retry_after_seconds,
            messages: failed,
            other_contacts: self.contacts.views(batch.contact),
        };
        let ids: Vec<MessageId> = batch.messages.iter().map(|(id, ..)| *id).collect();
        if batch.of_plan {
            self.push.expect_answer();
        }
        let question = Question::Failure(self.context(), failure);
        let token = self.ask(question, Asked::Failure(Box::new(batch)));
        for id in ids {
            self.end_copies(id);
            if let Some(entry) = self.queue.get_mut(id) {
                entry.lease = Some(Lease::Failure(token));
            }
        }
    }

    pub(super) fn on_failure_answer(&mut self, token: QuestionToken, batch: Batch, answer: Result<Answer, Undecided>) {
        let ids: Vec<MessageId> = batch.messages.iter().map(|(id, ..)| *id).collect();
        let decided = match answer {
            Ok(Answer::Failure(answers)) => {
                match validate::failure(&answers, &ids, self.asked_at, &self.limits.hand_over_targets) {
                    Ok(()) => Ok(answers),
                    Err(why) => Err(self.unusable(why, "on-failure")),
                }
            }
            Ok(_) => Err(Undecided::Impossible),
            Err(why) => Err(why),
        };
        if let Err(why) = &decided {
            self.fell_back(*why, "on-failure");
        }
        let mut draft = Draft::default();
        let mut released = Vec::with_capacity(ids.len());
        for id in ids {
            if self.queue.get(id).is_none_or(|entry| entry.lease != Some(Lease::Failure(token))) {
                continue;
            }
            let action = match &decided {
                Ok(answers) => answers
                    .iter()
                    .find(|answer| answer.message == id)
                    .map_or(FailureAction::Wait, |answer| answer.action.clone()),
                Err(_) => self.built_in_action(&batch, id),
            };
            if !self.act_on_failure(&mut draft, &batch, id, action) {
                released.push(id);
            }
        }
        if !draft.is_empty() {
            self.submit(draft);
        }
        for id in released {
            self.release(id);
        }
        if batch.of_plan {
            self.push.answer_came();
        }
    }

    fn built_in_action(&self, batch: &Batch, id: MessageId) -> FailureAction {
        let Some(entry) = self.queue.get(id) else { return FailureAction::Wait };
        let stored = &entry.stored;
        let fits = |mode| self.contacts.iter().any(|reach| reach.takes(stored, mode));
        fallback::failure(fallback::Failed {
            attempt: batch.kind,
            attempts: stored.attempts,
            page_refused: stored.page_refused,
            large_refused: stored.large_refused,
            fits_page: fits(Mode::Page),
            fits_large: fits(Mode::Large),
        })
    }

    /// True when the message goes for good.
    fn act_on_failure(&mut self, draft: &mut Draft, batch: &Batch, id: MessageId, action: FailureAction) -> bool {
        let page_mode = matches!(batch.kind, AttemptKind::Page | AttemptKind::Relay);
        let is_hand_over = batch.kind == AttemptKind::HandOver;
        let now = self.now;
        // A client that breaks off its own session changes nothing that has to be durable.
        if batch.kind == AttemptKind::Pull && action == FailureAction::Wait {
            return false;
        }
        let Some(entry) = self.queue.get_mut(id) else { return false };
        entry.direct = None;
        entry.stored.not_before = None;
        // A deadline that passed has done its work; else it would be due for ever.
        entry.stored.fetch_deadline = entry.stored.fetch_deadline.filter(|at| *at > now);
        match action {
            FailureAction::GiveUp(report)
                if validate::is_permanent(batch.origin, page_mode, batch.status) && entry.stored.devices.len() <= 1 =>
            {
                self.draft_removal(draft, Removal { id, event: Event::GivenUp(id), report });
                return true;
            }
            // One device's word is not that of the others.
            FailureAction::GiveUp(_) if entry.stored.devices.len() > 1 => {}
            FailureAction::GiveUp(_) => {
                let why = self.unusable(validate::Impossible::NotForGood, "on-failure");
                self.fell_back(why, "on-failure");
            }
            FailureAction::Retry(retry) => {
                let delay = self.retry_delay(batch, id, retry);
                if let Some(entry) = self.queue.get_mut(id) {
                    entry.stored.not_before = Some(now.after(delay));
                    entry.stored.fetch_deadline = None;
                    // It may come due while the pass still runs.
                    entry.pass = 0;
                    entry.direct = (retry.mode.is_some() || retry.contact.is_some())
                        .then_some(Direct { mode: retry.mode, contact: retry.contact });
                }
            }
            // Another announcement right after one that failed would fail, too, and so on.
            FailureAction::Notify(fetch_deadline)
                if self.contacts.can_notify() && batch.kind != AttemptKind::Notification =>
            {
                // Until that is done it is to be tried at once: the process may end before.
                if !is_hand_over {
                    entry.stored.not_before = Some(now);
                    entry.pass = 0;
                }
                self.push.do_next(RunStep::Notify { messages: vec![id], fetch_deadline, push_after: false });
            }
            FailureAction::Notify(_) => {
                let action = self.built_in_action(batch, id);
                if let FailureAction::Retry(retry) = action {
                    let delay = self.retry_delay(batch, id, retry);
                    if let Some(entry) = self.queue.get_mut(id) {
                        entry.stored.not_before = Some(now.after(delay));
                        entry.direct = Some(Direct { mode: retry.mode, contact: None });
                    }
                }
            }
            FailureAction::HandOver(target) => {
                entry.stored.message.hand_over_to = Some(target);
                entry.stored.last_failure = None;
                if !is_hand_over {
                    self.hand_overs.note_waiting();
                }
            }
            FailureAction::Wait => {}
        }
        if !is_hand_over && self.contacts.never_register() {
            self.wait_no_longer(id);
        }
        if is_hand_over {
            let at = self
                .queue
                .get_mut(id)
                .map(|entry| *entry.stored.not_before.get_or_insert(now.after(HAND_OVER_AGAIN_AFTER)));
            self.hand_overs.note_retry(at);
        }
        self.draft_save(draft, id);
        false
    }

    /// What is to wait for a recipient who never registers gets a time.
    fn wait_no_longer(&mut self, id: MessageId) {
        let again_at = self.now.after(WITHOUT_REGISTRATION_AGAIN_AFTER);
        if let Some(entry) = self.queue.get_mut(id).filter(|entry| entry.stored.message.hand_over_to.is_none()) {
            entry.stored.not_before.get_or_insert(again_at);
        }
    }

    /// Never sooner than the peer asked for, and never so soon that a policy that always says "at once" spins; only the
    /// other mode is tried without a pause.
    fn retry_delay(&self, batch: &Batch, id: MessageId, retry: Retry) -> Duration {
        let asked_by_peer = Duration::from_secs(u64::from(batch.retry_after_seconds.unwrap_or(0)));
        let other_mode = match batch.kind {
            AttemptKind::Page | AttemptKind::Relay => retry.mode == Some(Mode::Large),
            AttemptKind::Session => retry.mode == Some(Mode::Page),
            _ => false,
        };
        let attempts = self.queue.get(id).map_or(0, |entry| entry.stored.attempts);
        let least =
            if other_mode && attempts < SWIFT_RETRIES { Duration::default() } else { self.limits.min_ask_interval };
        Duration(retry.after_milliseconds).max(least).max(asked_by_peer).min(self.limits.max_keep)
    }
}
