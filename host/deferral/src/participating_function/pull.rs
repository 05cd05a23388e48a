//! A client fetches its messages.
//!
//! | state | input | goes to |
//! |---|---|---|
//! | – | a pull; what it names is in memory | asking |
//! | – | a pull; otherwise | loading |
//! | loading | loaded; some of it is for it | asking |
//! | loading | loaded; none of it is for it, and there is more | loading the next part |
//! | asking, loading | all that there is for it is in other hands, and fewer than [`MAX_STANDING_BY`] wait | standing by |
//! | standing by | some of it was let go | asking |
//! | asking, loading, standing by | nothing is there for it, or [`MAX_STAND_BY`] is over | – (answered so) |
//! | asking | send, or the fallback's | sending: the messages are leased |
//! | asking | send, of what others took meanwhile | asking, standing by, or as when [`MAX_STAND_BY`] is over |
//! | asking | send, of nothing | – (answered so) |
//! | asking | refuse | – (refused) |
//! | asking, loading, standing by | withdrawn | – |
//! | sending, large | one acknowledged | it goes, or a copy stays for other devices |
//! | sending, large | ended | what was not acknowledged goes back |
//! | sending, page | ended | MESSAGEs follow, as a plan's next steps; of those a copy stays where it is to |
//!
//! What is being delivered is not offered, nor what the client cannot take: too large, a type it does not accept, or a
//! copy that it has. What was read for a pull and is not for it is let go at once, and what is offered stays in memory.
//! A push that just ends, or the question what to do after one that failed, is waited for: else a client would hear that
//! nothing waits for it while everything does.

use std::collections::HashSet;

use super::attempt::{By, Kind};
use super::failure::Batch;
use super::loading::Purpose;
use super::plan::RunStep;
use super::window::{Entry, Lease};
use super::{Asked, AttemptEnd, AttemptTask, PullRequest, QuestionToken, Recipient, Reply, ReplyToken};
use crate::commit::{CommitError, Select};
use crate::decision::{
    Answer, AttemptKind, Pull, PullAnswer, PullDelivery, Question, Selection, Target, Trigger, Undecided, fallback,
    validate,
};
use crate::model::{ContactId, Duration, MessageId, MessageKind, Mode, StoredMessage, Timestamp};

/// How long after it came a pull waits for messages in other hands: longer than an answer takes, and short enough for
/// whoever looks at the screen.
const MAX_STAND_BY: Duration = Duration::from_secs(5);
/// So many pulls of one recipient wait for others; further ones hear at once that nothing is there.
const MAX_STANDING_BY: usize = 8;

/// A pull that is not being answered yet.
#[derive(Debug)]
pub(super) struct PendingPull {
    request: PullRequest,
    /// It waits for nobody any more after this.
    pub(super) until: Timestamp,
    /// The part of what it asks for that is durable and was not read for it; none: all was.
    unread: Option<Select>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The first of what was not read is being read.
    Loading,
    /// All that there is for it is in other hands.
    StandingBy,
    /// `on-pull` is being asked about these.
    Asking { question: QuestionToken, offered: Vec<MessageId> },
}

impl Recipient {
    pub(super) fn on_pull(&mut self, mut request: PullRequest) {
        if !self.expect_reply(request.reply) {
            return;
        }
        let unread = match &mut request.selection {
            Selection::Listed(ids) => {
                ids.truncate(self.limits.max_decision_messages);
                let missing: Vec<MessageId> = ids.iter().copied().filter(|id| self.queue.get(*id).is_none()).collect();
                (!missing.is_empty() && !self.queue.is_whole()).then_some(Select::Listed(missing))
            }
            Selection::All => (!self.queue.is_whole()).then_some(Select::After(None)),
        };
        let pull = PendingPull { request, until: self.now.after(MAX_STAND_BY), unread, stage: Stage::Loading };
        match pull.unread.is_some() {
            true => self.read_for_pull(pull),
            false => self.ask_pull(pull),
        }
    }

    /// Reads the next part of what it asks for.
    fn read_for_pull(&mut self, pull: PendingPull) {
        let Some(select) = pull.unread.clone() else { return self.reply(pull.request.reply, Reply::NothingWaiting) };
        self.load(select, self.limits.max_decision_messages, Purpose::Pull(pull.request.reply));
        self.pulls.push(PendingPull { stage: Stage::Loading, ..pull });
    }

    /// A part is read: these rows, some of which were not in memory before. There are more behind them, or not.
    pub(super) fn on_pull_loaded(
        &mut self,
        reply: ReplyToken,
        read: &[(u8, MessageId)],
        admitted: &[MessageId],
        more: bool,
    ) {
        let pull = self.take_pull(reply);
        for id in admitted {
            let is_wanted = pull.as_ref().is_some_and(|pull| {
                self.queue.get(*id).is_some_and(|entry| self.may_go(*id) && is_for_pull(entry, &pull.request))
            });
            if !is_wanted {
                // It was not in memory a moment ago, and nobody has touched it.
                self.queue.remove(*id, false);
            }
        }
        let Some(mut pull) = pull else { return };
        pull.unread = match (pull.unread.take(), read.last()) {
            (Some(Select::Listed(mut ids)), Some(_)) if more => {
                ids.retain(|id| read.iter().all(|(_, known)| known != id));
                (!ids.is_empty()).then_some(Select::Listed(ids))
            }
            (Some(Select::After(_)), Some(last)) if more => Some(Select::After(Some(*last))),
            _ => None,
        };
        self.ask_pull(pull);
    }

    /// What pulls were offered or name: it stays in memory.
    pub(super) fn all_wanted_by_pulls(&self) -> HashSet<MessageId> {
        let mut wanted: HashSet<MessageId> = HashSet::new();
        for pull in &self.pulls {
            if let Stage::Asking { offered, .. } = &pull.stage {
                wanted.extend(offered);
            }
            if let Selection::Listed(ids) = &pull.request.selection {
                wanted.extend(ids);
            }
        }
        wanted
    }

    /// When a pull has waited long enough for others.
    pub(super) fn pull_wake(&self) -> Option<Timestamp> {
        let standing_by = |pull: &&PendingPull| matches!(pull.stage, Stage::StandingBy);
        self.pulls.iter().filter(standing_by).map(|pull| pull.until).min()
    }

    /// What pulls wait for may have been let go.
    pub(super) fn advance_pulls(&mut self) {
        for pull in std::mem::take(&mut self.pulls) {
            match pull.stage {
                Stage::StandingBy => self.ask_pull(pull),
                _ => self.pulls.push(pull),
            }
        }
    }

    pub(super) fn on_pull_load_failed(&mut self, reply: ReplyToken, error: CommitError) {
        if self.take_pull(reply).is_some() {
            self.reply(reply, Reply::Unavailable(error));
        }
    }

    /// The client gave up before it was answered.
    pub(super) fn on_pull_withdrawn(&mut self, reply: ReplyToken) {
        if self.take_pull(reply).is_some() {
            self.waiting_replies = self.waiting_replies.saturating_sub(1);
        }
    }

    fn take_pull(&mut self, reply: ReplyToken) -> Option<PendingPull> {
        let index = self.pulls.iter().position(|pull| pull.request.reply == reply)?;
        Some(self.pulls.remove(index))
    }

    fn ask_pull(&mut self, pull: PendingPull) {
        let PendingPull { request, until, unread, .. } = pull;
        let (offered, is_any_in_other_hands) = self.all_for_pull(&request);
        if offered.is_empty() {
            if unread.is_some() {
                return self.read_for_pull(PendingPull { request, until, unread, stage: Stage::Loading });
            }
            let standing_by = self.pulls.iter().filter(|pull| matches!(pull.stage, Stage::StandingBy)).count();
            if is_any_in_other_hands && self.now < until && standing_by < MAX_STANDING_BY {
                return self.pulls.push(PendingPull { request, until, unread, stage: Stage::StandingBy });
            }
            return self.reply(request.reply, Reply::NothingWaiting);
        }
        let entries = offered.iter().filter_map(|id| self.queue.get(*id));
        let messages: Vec<_> = entries.map(|entry| self.waiting_view(entry)).collect();
        let counted = messages.iter().filter(|message| message.kind == MessageKind::Message).count();
        let hidden = self.totals.messages.saturating_sub(u32::try_from(counted).unwrap_or(u32::MAX));
        let question = Pull {
            contact: request.contact.and_then(|contact| self.contacts.view(contact)),
            verification: request.verification,
            selection: request.selection.clone(),
            accept_types: request.accept_types.clone(),
            accept_wrapped_types: request.accept_wrapped_types.clone(),
            max_size_bytes: request.max_size_bytes,
            direction: request.direction,
            messages,
            not_shown: hidden.max(u32::from(unread.is_some())),
        };
        let question = Question::Pull(self.context_with(request.fields.clone()), Box::new(question));
        let question = self.ask(question, Asked::Pull);
        self.pulls.push(PendingPull { request, until, unread, stage: Stage::Asking { question, offered } });
    }

    /// What it may be offered; and, where that is nothing, whether something for it may be let go by who works on it. What
    /// costs less is asked first: a pull that stands by is looked at whenever something happens.
    fn all_for_pull(&self, request: &PullRequest) -> (Vec<MessageId>, bool) {
        let mut offered = Vec::new();
        let mut is_any_in_other_hands = false;
        for entry in self.queue.iter() {
            let may_go = entry.may_go(self.now);
            let is_of_interest = may_go || (!is_any_in_other_hands && offered.is_empty() && self.may_be_let_go(entry));
            if !is_of_interest || !is_for_pull(entry, request) {
                continue;
            }
            if !may_go {
                is_any_in_other_hands = true;
                continue;
            }
            offered.push(entry.stored.id);
            if offered.len() >= self.limits.max_decision_messages {
                break;
            }
        }
        (offered, is_any_in_other_hands)
    }

    /// Somebody works on it who may not come to an end with it.
    fn may_be_let_go(&self, entry: &Entry) -> bool {
        !matches!(entry.lease, None | Some(Lease::Removal))
            && entry.discard.is_none()
            && !entry.is_expired(self.now)
            && entry.stored.message.hand_over_to.is_none()
    }

    pub(super) fn on_pull_answer(&mut self, token: QuestionToken, answer: Result<Answer, Undecided>) {
        let is_asked = |pull: &PendingPull| matches!(pull.stage, Stage::Asking { question, .. } if question == token);
        let Some(index) = self.pulls.iter().position(is_asked) else { return };
        let PendingPull { request, until, unread, stage } = self.pulls.remove(index);
        let Stage::Asking { offered, .. } = stage else { return };
        let contact = request.contact.filter(|contact| self.contacts.get(*contact).is_some());
        let fits = |id| self.fits_page_of(id, contact);
        let decided = match answer {
            Ok(Answer::Pull(PullAnswer::Send(delivery))) => match validate::pull(&delivery, &offered, fits) {
                Ok(()) => Ok(PullAnswer::Send(delivery)),
                Err(why) => Err(self.unusable(why, "on-pull")),
            },
            Ok(Answer::Pull(PullAnswer::Refuse(refusal))) => match validate::rejection(&refusal) {
                Ok(()) => Ok(PullAnswer::Refuse(refusal)),
                Err(why) => Err(self.unusable(why, "on-pull")),
            },
            Ok(_) => Err(Undecided::Impossible),
            Err(why) => Err(why),
        };
        let decided = decided.unwrap_or_else(|why| {
            self.fell_back(why, "on-pull");
            PullAnswer::Send(fallback::pull(&offered))
        });
        match decided {
            PullAnswer::Send(mut delivery) => {
                let is_nothing_wanted = delivery.messages.is_empty();
                delivery.messages.retain(|message| self.may_go(*message));
                if !delivery.messages.is_empty() {
                    return self.send_pull(request, contact, delivery);
                }
                if is_nothing_wanted || self.now >= until {
                    return self.reply(request.reply, Reply::NothingWaiting);
                }
                // Others were faster, while the policy was asked.
                self.ask_pull(PendingPull { request, until, unread, stage: Stage::Loading });
            }
            PullAnswer::Refuse(refusal) => self.refuse(request.reply, refusal),
        }
    }

    fn fits_page_of(&self, id: MessageId, contact: Option<ContactId>) -> bool {
        let reach = contact.and_then(|contact| self.contacts.get(contact));
        let stored = self.queue.get(id).map(|entry| &entry.stored);
        // A message that went meanwhile is no fault of the policy's.
        reach.is_some_and(|reach| stored.is_none_or(|stored| reach.takes(stored, Mode::Page)))
    }

    fn send_pull(&mut self, request: PullRequest, contact: Option<ContactId>, delivery: PullDelivery) {
        let PullDelivery { messages: ids, mode, keep_copy } = delivery;
        let id = self.next_attempt_id();
        let messages: Vec<StoredMessage> =
            ids.iter().filter_map(|message| self.lease(*message, Lease::Pull(id)).map(|(stored, _)| stored)).collect();
        // The attempt answers; nobody waits for a reply any more.
        self.waiting_replies = self.waiting_replies.saturating_sub(1);
        let task = AttemptTask::Pull { reply: request.reply, messages, mode };
        let by = By { device: Some(request.device), keep_copy };
        self.start(id, contact, task, Kind::Pull { messages: ids, mode, by });
    }

    pub(super) fn end_of_pull(
        &mut self,
        messages: Vec<MessageId>,
        mode: Mode,
        by: By,
        contact: Option<ContactId>,
        end: AttemptEnd,
    ) {
        if mode == Mode::Page {
            let target = contact.map_or(Target::Any, Target::Contact);
            for id in &messages {
                self.release(*id);
            }
            for message in messages.into_iter().rev() {
                self.push.do_next(RunStep::Page { message, target, keeps: by.keep_copy });
            }
            return;
        }
        let rest = self.settle_outcomes(messages, &by, &end);
        if !rest.is_empty() {
            self.fail(Batch::of(AttemptKind::Pull, contact, &end, rest));
        }
        // What a push had to leave alone meanwhile.
        self.want(Trigger::MessageArrived);
    }
}

/// This client asked for it, does not have it and can take it.
fn is_for_pull(entry: &Entry, request: &PullRequest) -> bool {
    let stored = &entry.stored;
    let selected = match &request.selection {
        Selection::All => true,
        Selection::Listed(ids) => ids.contains(&stored.id),
    };
    selected
        && !super::contacts::has_it(stored, &request.device)
        && request.max_size_bytes.is_none_or(|max| stored.message.body.size_bytes() <= max)
        && accepts(request, stored)
}

/// Whether the client takes this message in its session, where everything goes as CPIM (RFC 4975 §8.6). A client that
/// names no types takes all.
fn accepts(request: &PullRequest, stored: &StoredMessage) -> bool {
    let envelope = &stored.message.envelope;
    let outer = super::views::media_type(&envelope.content_type);
    let wrapped = envelope.wrapped_type.clone().unwrap_or(outer);
    let named = |list: &[String], media_type: &str| list.iter().any(|accepted| matches_type(accepted, media_type));
    let takes_cpim = request.accept_types.is_empty() || named(&request.accept_types, "message/cpim");
    let takes_content = request.accept_wrapped_types.is_empty()
        || named(&request.accept_wrapped_types, &wrapped)
        || named(&request.accept_types, &wrapped);
    takes_cpim && takes_content
}

/// `*`, `text/*`, `text/plain`.
fn matches_type(accepted: &str, media_type: &str) -> bool {
    let accepted = super::views::media_type(accepted);
    let is_range = accepted
        .strip_suffix("/*")
        .is_some_and(|range| media_type.split_once('/').is_some_and(|(kind, _)| kind.eq_ignore_ascii_case(range)));
    accepted == "*" || accepted == "*/*" || is_range || accepted.eq_ignore_ascii_case(media_type)
}
