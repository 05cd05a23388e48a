//! Messages whose time is up.
//!
//! | state | input | goes to |
//! |---|---|---|
//! | idle | the earliest expiry has come; the queue is in memory | asking |
//! | idle | the earliest expiry has come | loading what expired |
//! | loading | some that nobody works on | asking |
//! | loading | none | idle until the next expiry |
//! | asking | drop | the message goes, with a report when it was asked for and the policy says so |
//! | asking | extend, where the operator set the expiry | it stays, at least [`super::Limits::min_ask_interval`] from now and at most [`super::Limits::max_keep`] from when it came |
//! | asking | hand over | it stays until the target took it, at most [`super::Limits::default_keep`] |
//! | asking | anything else; the same where that time has passed | dropped, with a report |
//!
//! Nothing stays for ever, however often a policy says so: extending ends [`super::Limits::max_keep`] after a message came, and
//! handing over, for which the target has some time even then, [`super::Limits::default_keep`] later.
//!
//! What is in flight does not expire before its attempt ends, and what is expired is never sent.

use super::commits::{Draft, Removal};
use super::loading::Purpose;
use super::window::Lease;
use super::{Asked, Event, QuestionToken, Recipient};
use crate::commit::Select;
use crate::decision::{Answer, ExpiringMessage, ExpiryAction, Question, Undecided, fallback, validate};
use crate::model::{Duration, ExpirySource, MessageId, Timestamp};

/// Pause after a look that found nothing it could deal with.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The expiring side of a machine.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// Nothing expires before this.
    next: Option<Timestamp>,
    busy: bool,
}

impl Expiry {
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.next
    }

    /// What expired is being read, or it is being asked what follows.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Something may be expired.
    pub(super) fn look_at(&mut self, at: Timestamp) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// The look failed.
    pub(super) fn postpone(&mut self, at: Timestamp) {
        self.busy = false;
        self.next = Some(at);
    }
}

impl Recipient {
    /// Something expires then.
    pub(super) fn note_expiry(&mut self, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.expiry.look_at(at);
        }
    }

    pub(super) fn expiry_wake(&self) -> Option<Timestamp> {
        self.expiry.next.filter(|_| !self.expiry.busy)
    }

    pub(super) fn advance_expiry(&mut self) {
        if self.expiry.busy || self.expiry.next.is_none_or(|next| next > self.now) {
            return;
        }
        self.expiry.next = None;
        if self.queue.is_whole() {
            let earliest = self.queue.iter().map(|entry| entry.stored.message.expires_at).min();
            self.ask_expiry(earliest);
        } else {
            self.expiry.busy = true;
            self.load(Select::ExpiredAt(self.now), self.limits.max_decision_messages, Purpose::Expired);
        }
    }

    pub(super) fn on_expired_loaded(&mut self, earliest: Option<Timestamp>) {
        self.expiry.busy = false;
        self.ask_expiry(earliest);
    }

    /// `earliest`: of the whole queue. What cannot be dealt with yet is looked at again later.
    fn ask_expiry(&mut self, earliest: Option<Timestamp>) {
        let expired: Vec<MessageId> = self
            .queue
            .iter()
            .filter(|entry| entry.is_expired(self.now) && entry.lease.is_none())
            .map(|entry| entry.stored.id)
            .take(self.limits.max_decision_messages)
            .collect();
        if expired.is_empty() {
            self.note_expiry(earliest.map(|at| if at <= self.now { self.now.after(LOOK_AGAIN_AFTER) } else { at }));
            return;
        }
        let mut messages = Vec::with_capacity(expired.len());
        for entry in expired.iter().filter_map(|id| self.queue.get(*id)) {
            messages.push(ExpiringMessage {
                message: self.waiting_view(entry),
                source: entry.stored.message.expiry_source,
                dispositions: super::report::asked(&entry.stored.message),
            });
        }
        self.expiry.busy = true;
        let question = Question::Expiry(self.context(), messages);
        let token = self.ask(question, Asked::Expiry(expired.clone()));
        for id in expired {
            if let Some(entry) = self.queue.get_mut(id) {
                entry.lease = Some(Lease::Expiry(token));
            }
        }
    }

    pub(super) fn on_expiry_answer(
        &mut self,
        token: QuestionToken,
        messages: Vec<MessageId>,
        answer: Result<Answer, Undecided>,
    ) {
        self.expiry.busy = false;
        let waiting: Vec<(MessageId, ExpirySource)> = messages
            .into_iter()
            .filter_map(|id| {
                let entry = self.queue.get(id).filter(|entry| entry.lease == Some(Lease::Expiry(token)))?;
                Some((id, entry.stored.message.expiry_source))
            })
            .collect();
        let decided = match answer {
            Ok(Answer::Expiry(answers)) => {
                match validate::expiry(&answers, &waiting, self.asked_at, &self.limits.hand_over_targets) {
                    Ok(()) => Ok(answers),
                    Err(why) => Err(self.unusable(why, "on-expiry")),
                }
            }
            Ok(_) => Err(Undecided::Impossible),
            Err(why) => Err(why),
        };
        if let Err(why) = &decided {
            self.fell_back(*why, "on-expiry");
        }
        let answers = decided.unwrap_or_default();
        let mut draft = Draft::default();
        for (id, _) in waiting {
            let named = answers.iter().find(|answer| answer.message == id);
            let action = named.map_or_else(fallback::expiry, |answer| answer.action.clone());
            self.act_on_expiry(&mut draft, id, action);
        }
        // More may be expired than one question holds: after a crash, too.
        self.expiry.look_at(self.now.after(Duration::from_millis(1)));
        self.submit(draft);
    }

    fn act_on_expiry(&mut self, draft: &mut Draft, id: MessageId, action: ExpiryAction) {
        let now = self.now;
        if matches!(action, ExpiryAction::HandOver(_)) {
            self.let_others_go(id);
        }
        let Some(entry) = self.queue.get_mut(id) else { return };
        let discarded = entry.discard;
        let kept_until = entry.stored.message.received_at.after(self.limits.max_keep);
        let action = match action {
            ExpiryAction::Extend(_) if kept_until <= now => fallback::expiry(),
            ExpiryAction::HandOver(_) if kept_until.after(self.limits.default_keep) <= now => fallback::expiry(),
            action => action,
        };
        match action {
            _ if discarded.is_some() => {
                let event = Event::Discarded(Some(id), String::from("operator"));
                let report = discarded.unwrap_or_default();
                self.draft_removal(draft, Removal { id, event, report });
            }
            ExpiryAction::Drop(report) => {
                self.draft_removal(draft, Removal { id, event: Event::Expired(id), report });
            }
            ExpiryAction::Extend(until) => {
                entry.lease = None;
                let earliest = now.after(self.limits.min_ask_interval);
                entry.stored.message.expires_at = until.max(earliest).min(kept_until);
                self.draft_save(draft, id);
                self.hand_overs.note_waiting();
                self.want(crate::decision::Trigger::MessageArrived);
            }
            ExpiryAction::HandOver(target) => {
                entry.lease = None;
                let latest = kept_until.after(self.limits.default_keep);
                entry.stored.message.expires_at = now.after(self.limits.default_keep).min(latest);
                entry.stored.not_before = None;
                entry.stored.message.hand_over_to = Some(target);
                self.hand_overs.note_waiting();
                self.draft_save(draft, id);
            }
        }
    }
}
