//! Reading the queue: at the beginning, and part by part when it is needed.
//!
//! | state | input | goes to |
//! |---|---|---|
//! | unloaded | anything | loading; the input waits |
//! | loading | loaded | loaded; what waits is handled in order |
//! | loading | failed | failed; whoever waits for an answer gets 503 or 500 |
//! | failed | a second later and something waits, or anything | loading |
//! | failed | nothing waits | – (the machine may be dropped) |

use std::collections::VecDeque;

use super::clock::SetBack;
use super::{AttemptId, Input, LoadToken, Output, Recipient, Reply, ReplyToken};
use crate::commit::{CommitError, LoadRequest, Select, Window};
use crate::model::{Body, Duration, MessageId, StoredMessage, Timestamp};

/// Wait before a queue that could not be read is read again.
const RELOAD_AFTER: Duration = Duration::from_secs(1);

/// How much of the recipient is known.
#[derive(Debug, Default)]
pub(super) struct Hydration {
    state: State,
    waiting: VecDeque<Input>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Unloaded,
    Loading(LoadToken),
    Failed(Timestamp),
    Loaded,
}

/// Why part of the queue is read.
#[derive(Debug)]
pub(super) enum Purpose {
    /// To go on with a pass: the window's next part.
    Slide,
    /// To go on with a pass: what is due.
    Due,
    /// To learn when something is due next.
    NextDue,
    /// What is expired.
    Expired,
    /// For a pull.
    Pull(ReplyToken),
    /// For an operator.
    Discard(ReplyToken),
    /// Only to count it.
    Count,
}

/// Counting the queue again after somebody else added to it. A count is exact when no commit of this machine was on its
/// way from when it was asked for to when it came; what is not exact is taken and asked for again when all is quiet.
#[derive(Debug, Default)]
pub(super) struct Recount {
    is_wanted: bool,
    /// The load whose count is taken.
    under_way: Option<Counting>,
    /// Not before this: a count failed.
    not_before: Option<Timestamp>,
    /// The last one was not exact.
    is_again: bool,
}

#[derive(Clone, Copy, Debug)]
struct Counting {
    load: LoadToken,
    /// The last commit given out before it; none: some were on their way.
    quiet_since: Option<u64>,
}

impl Recount {
    /// Somebody else added to the queue.
    pub(super) fn want(&mut self) {
        *self = Recount { is_wanted: true, ..Recount::default() };
    }

    pub(super) fn clock_was_set_back(&mut self, set_back: SetBack) {
        set_back.correct(&mut self.not_before);
    }
}

impl Hydration {
    pub(super) fn clock_was_set_back(&mut self, set_back: SetBack) {
        if let State::Failed(at) = &mut self.state {
            set_back.correct([at]);
        }
    }
}

impl Recipient {
    pub(super) fn is_hydrated(&self) -> bool {
        matches!(self.hydration.state, State::Loaded)
    }

    /// Nothing of the recipient is known, being read or to be read.
    pub(super) fn waits_for_nothing(&self) -> bool {
        matches!(self.hydration.state, State::Unloaded | State::Failed(_)) && self.hydration.waiting.is_empty()
    }

    pub(super) fn hydration_retry(&self) -> Option<Timestamp> {
        match self.hydration.state {
            State::Failed(at) if !self.hydration.waiting.is_empty() => Some(at),
            _ => None,
        }
    }

    /// Keeps an input until the recipient is known.
    pub(super) fn defer(&mut self, input: Input) {
        match &input {
            Input::Arrival(arrival) if !self.expect_reply(arrival.reply) => self.drop_body(arrival.body.clone()),
            Input::Invitation(invitation) if !self.expect_reply(invitation.reply) => {}
            Input::Pull(pull) if !self.expect_reply(pull.reply) => {}
            Input::Discard { reply, .. } if !self.expect_reply(*reply) => {}
            Input::PullWithdrawn(reply) => {
                let before = self.hydration.waiting.len();
                let is_it = |waiting: &Input| matches!(waiting, Input::Pull(pull) if pull.reply == *reply);
                self.hydration.waiting.retain(|waiting| !is_it(waiting));
                let withdrawn = before.saturating_sub(self.hydration.waiting.len());
                self.waiting_replies = self.waiting_replies.saturating_sub(withdrawn);
            }
            // Each replaces the one before.
            Input::Contacts(..) => {
                let trigger_seen = super::push::strongest_registration(&self.hydration.waiting, &input);
                self.hydration.waiting.retain(|waiting| !matches!(waiting, Input::Contacts(..)));
                let Input::Contacts(contacts, _) = input else { return };
                // Contacts come first: what waits is decided knowing them.
                self.hydration.waiting.push_front(Input::Contacts(contacts, trigger_seen));
            }
            Input::Profile(_) => {
                self.hydration.waiting.retain(|waiting| !matches!(waiting, Input::Profile(_)));
                self.hydration.waiting.push_back(input);
            }
            Input::Wake | Input::QueueGrew => {
                if !self.hydration.waiting.contains(&input) {
                    self.hydration.waiting.push_back(input);
                }
            }
            // Meant for a machine that is gone.
            Input::Loaded(..)
            | Input::Answered(..)
            | Input::Committed(..)
            | Input::Delivered(..)
            | Input::AttemptEnded(..) => {}
            _ => self.hydration.waiting.push_back(input),
        }
    }

    pub(super) fn hydrate(&mut self) {
        let begin = match self.hydration.state {
            State::Unloaded => true,
            State::Failed(at) => self.now >= at,
            State::Loading(_) | State::Loaded => false,
        };
        if begin && !self.hydration.waiting.is_empty() {
            let token = LoadToken(self.next_number());
            self.hydration.state = State::Loading(token);
            let request = LoadRequest { select: Select::After(None), max_messages: 0, max_body_bytes: 0 };
            self.emit(Output::Load(token, request));
        }
    }

    pub(super) fn on_loaded(&mut self, token: LoadToken, result: Result<Box<Window>, CommitError>) {
        match self.hydration.state {
            State::Loading(expected) if expected == token => match result {
                Ok(window) => self.on_hydrated(*window),
                Err(error) => self.on_hydration_failed(error),
            },
            State::Loaded => self.on_part_loaded(token, result),
            _ => {}
        }
    }

    fn on_hydrated(&mut self, window: Window) {
        self.hydration.state = State::Loaded;
        self.profile = window.profile;
        self.totals = window.totals;
        let is_empty = window.earliest_expiry.is_none();
        self.queue.head = is_empty;
        self.queue.end = is_empty;
        self.note_expiry(window.earliest_expiry);
        self.note_due(window.earliest_due);
        self.adopt_durable_wake(window.wake_at, window.earliest_due);
        for input in std::mem::take(&mut self.hydration.waiting) {
            // They were counted when they began to wait; handling counts them again.
            if matches!(input, Input::Arrival(_) | Input::Invitation(_) | Input::Pull(_) | Input::Discard { .. }) {
                self.waiting_replies = self.waiting_replies.saturating_sub(1);
            }
            self.on_input(input);
        }
    }

    fn on_hydration_failed(&mut self, error: CommitError) {
        self.hydration.state = State::Failed(self.now.after(RELOAD_AFTER));
        for input in std::mem::take(&mut self.hydration.waiting) {
            match input {
                Input::Arrival(arrival) => {
                    self.reply(arrival.reply, Reply::Unavailable(error));
                    self.drop_body(arrival.body);
                }
                Input::Invitation(invitation) => self.reply(invitation.reply, Reply::Unavailable(error)),
                Input::Pull(pull) => self.reply(pull.reply, Reply::Unavailable(error)),
                Input::Discard { reply, .. } => self.reply(reply, Reply::Unavailable(error)),
                input => self.hydration.waiting.push_back(input),
            }
        }
    }

    /// Asks for part of the queue.
    pub(super) fn load(&mut self, select: Select, max_messages: usize, purpose: Purpose) -> LoadToken {
        let token = LoadToken(self.next_number());
        self.loads.insert(token, purpose);
        if self.recount.is_wanted && self.recount.under_way.is_none() {
            let quiet_since = self.commits.is_empty().then_some(self.commits_given);
            self.recount.under_way = Some(Counting { load: token, quiet_since });
        }
        let max_messages = u32::try_from(max_messages).unwrap_or(u32::MAX);
        let max_body_bytes = self.limits.max_window_bytes.saturating_sub(self.queue.body_bytes());
        self.emit(Output::Load(token, LoadRequest { select, max_messages, max_body_bytes }));
        token
    }

    fn on_part_loaded(&mut self, token: LoadToken, result: Result<Box<Window>, CommitError>) {
        let Some(purpose) = self.loads.remove(&token) else { return };
        if let Some(counting) = self.recount.under_way.filter(|counting| counting.load == token) {
            self.on_counted(counting, result.as_deref().ok());
        }
        match result {
            Ok(window) => self.take_part(purpose, *window),
            Err(error) => self.part_failed(purpose, error),
        }
        if self.loads.is_empty() {
            self.queue.settle_loads();
        }
    }

    fn take_part(&mut self, purpose: Purpose, window: Window) {
        let Window { messages, more, earliest_expiry, earliest_due, .. } = window;
        match purpose {
            Purpose::Slide => {
                let last = messages.last().map(super::window::Place::of);
                self.admit_all(messages);
                self.queue.extend(last, more);
                self.on_slid();
            }
            Purpose::Due => {
                self.admit_all(messages);
                self.on_due_loaded();
            }
            Purpose::NextDue => {
                self.admit_all(messages);
                self.on_next_due_loaded(earliest_due);
            }
            Purpose::Count => {}
            Purpose::Expired => {
                self.admit_all(messages);
                self.on_expired_loaded(earliest_expiry);
            }
            Purpose::Pull(reply) => {
                let read: Vec<_> = messages.iter().map(|stored| (stored.message.priority, stored.id)).collect();
                let admitted = self.admit_all(messages);
                self.on_pull_loaded(reply, &read, &admitted, more);
            }
            Purpose::Discard(reply) => {
                let cursor = messages.last().map(|stored| (stored.message.priority, stored.id));
                let ids: Vec<MessageId> = messages.iter().map(|stored| stored.id).collect();
                self.admit_all(messages);
                self.on_discard_loaded(reply, ids, cursor.filter(|_| more));
            }
        }
    }

    /// Nothing is lost by a read that failed: whatever wanted it is tried again later.
    fn part_failed(&mut self, purpose: Purpose, error: CommitError) {
        match purpose {
            Purpose::Slide | Purpose::Due => self.on_pass_load_failed(),
            Purpose::Count => {}
            Purpose::NextDue => self.note_due(Some(self.now.after(RELOAD_AFTER))),
            Purpose::Expired => self.expiry.postpone(self.now.after(RELOAD_AFTER)),
            Purpose::Pull(reply) => self.on_pull_load_failed(reply, error),
            Purpose::Discard(reply) => self.on_discard_load_failed(reply, error),
        }
    }

    /// Nothing but time stands in the way of a count.
    fn can_count(&self) -> bool {
        let recount = &self.recount;
        recount.is_wanted && recount.under_way.is_none() && (self.commits.is_empty() || !recount.is_again)
    }

    /// When a count that failed is tried again.
    pub(super) fn recount_wake(&self) -> Option<Timestamp> {
        self.recount.not_before.filter(|_| self.can_count())
    }

    /// The sums come with any part of the queue; when none is being read, they are asked for alone.
    pub(super) fn advance_recount(&mut self) {
        if self.can_count() && self.recount.not_before.is_none_or(|at| at <= self.now) {
            self.load(Select::After(None), 0, Purpose::Count);
        }
    }

    fn on_counted(&mut self, counting: Counting, window: Option<&Window>) {
        self.recount.under_way = None;
        let Some(window) = window else {
            self.recount.not_before = Some(self.now.after(RELOAD_AFTER));
            return;
        };
        self.totals = window.totals;
        let is_exact = counting.quiet_since == Some(self.commits_given);
        if is_exact {
            // What came may have times of its own. Those of rows that a commit on its way will change are long dealt with:
            // noted again they would be looked for again, and counted again, until that commit is done.
            let (earliest_expiry, earliest_due) = (window.earliest_expiry, window.earliest_due);
            self.note_expiry(earliest_expiry);
            self.note_due(earliest_due);
        }
        self.oldest_is_stale = false;
        self.recount.not_before = None;
        self.recount.is_wanted = !is_exact;
        self.recount.is_again = self.recount.is_wanted;
    }

    /// Which of them were not in memory.
    fn admit_all(&mut self, messages: Vec<StoredMessage>) -> Vec<MessageId> {
        let mut admitted = Vec::new();
        for stored in messages {
            let (id, is_hand_over) = (stored.id, stored.message.hand_over_to.is_some());
            if self.queue.admit(stored) {
                admitted.push(id);
                self.note_failed_in_the_future(id);
                if is_hand_over {
                    self.hand_overs.note_waiting();
                }
            }
        }
        admitted
    }

    pub(super) fn drop_body(&mut self, body: Body) {
        if matches!(body, Body::Spooled { .. }) {
            self.emit(Output::DropBody(body));
        }
    }

    pub(super) fn next_attempt_id(&mut self) -> AttemptId {
        AttemptId(self.next_number())
    }
}
