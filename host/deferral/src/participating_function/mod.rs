//! One recipient's Participating Function.
//!
//! A [`Recipient`] is the whole state of one served user's deferral. It is told what happens ([`Input`]) and says what is
//! to be done ([`Output`]); it has no clock: every input carries `now`, and [`Recipient::next_wake`] tells when it wants
//! to be told [`Input::Wake`].
//!
//! # A message's life
//!
//! | where it is | what happens | where it goes |
//! |---|---|---|
//! | – | arrives; `on-incoming` is asked | deciding |
//! | deciding | keep (or no answer) | committing, in order of arrival |
//! | deciding | relay | relaying |
//! | deciding | reject, discard | – (answered) |
//! | relaying | 2xx, or the device's own refusal for good | – (answered with it) |
//! | relaying | deadline, any other end | committing; the branch lives on |
//! | committing | commit succeeded, or it was stored before | waiting; **202 goes out now, not earlier** |
//! | committing | commit failed | – (503 or 500) |
//! | waiting | `on-available`, `on-pull`, a retry that is due | in flight (leased) |
//! | in flight | acknowledged | removing |
//! | in flight | not acknowledged | failed; `on-failure` is asked |
//! | failed | retry, notify, wait | waiting |
//! | failed | give up, and the device itself refused it for good | removing, with a report |
//! | failed | hand over | handing over |
//! | waiting | its time is up; `on-expiry` says drop | removing, with a report |
//! | handing over | the target took it | removing |
//! | removing | commit succeeded | – |
//! | removing | commit failed | removing, again in a while |
//!
//! The files are named for what they deal with; each has its own table where it has states.

mod arrival;
mod attempt;
mod availability;
mod clock;
mod commits;
mod contacts;
mod copies;
mod discard;
mod expiry;
mod failure;
mod hand_over;
mod held_back;
mod interface;
mod loading;
mod notification;
mod plan;
mod pull;
mod push;
mod relay;
mod report;
mod views;
mod wake;
mod window;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use clock::MAX_BEHIND;
pub use interface::{
    Arrival, Attempt, AttemptEnd, AttemptId, AttemptTask, CommitToken, Event, Input, Invitation, Limits, LoadToken,
    Outcome, Output, PullRequest, QuestionToken, Reply, ReplyToken, RequestFacts,
};
pub use report::ReportKey;

use crate::decision::validate::Impossible;
use crate::decision::{Answer, Trigger, Undecided};
use crate::model::{Profile, QueueTotals, RecipientKey, Timestamp};

/// One served user's machine.
#[derive(Debug)]
pub struct Recipient {
    key: RecipientKey,
    limits: Arc<Limits>,
    now: Timestamp,
    /// The last number given to a token or an attempt.
    number: u64,
    outputs: VecDeque<Output>,
    hydration: loading::Hydration,
    profile: Profile,
    totals: QueueTotals,
    /// `totals.oldest_received_at` has to be looked up again.
    oldest_is_stale: bool,
    recount: loading::Recount,
    queue: window::Queue,
    contacts: contacts::Contacts,
    /// Whoever waits for a reply, counted.
    waiting_replies: usize,
    arrivals: arrival::Arrivals,
    pulls: Vec<pull::PendingPull>,
    discards: Vec<discard::PendingDiscard>,
    /// What was asked, and when.
    questions: BTreeMap<QuestionToken, (Asked, Timestamp)>,
    /// When the question was asked that is being answered: an answer is judged by the time its policy was told.
    asked_at: Timestamp,
    commits: BTreeMap<CommitToken, Vec<commits::Effect>>,
    /// How many were given out.
    commits_given: u64,
    loads: BTreeMap<LoadToken, loading::Purpose>,
    attempts: BTreeMap<AttemptId, attempt::Running>,
    push: push::Push,
    hand_overs: hand_over::HandOvers,
    expiry: expiry::Expiry,
    wake: wake::Wake,
    unsettled: commits::Unsettled,
}

/// What a question is about.
#[derive(Debug)]
enum Asked {
    /// `on-incoming` about the arrival with this number.
    Arrival(u64),
    /// `on-incoming` about an INVITE.
    Invitation(ReplyToken),
    /// `on-available`; the plan is in [`push::Push`].
    Available,
    /// `on-pull`.
    Pull,
    /// `on-failure`.
    Failure(Box<failure::Batch>),
    /// `on-expiry`.
    Expiry(Vec<crate::model::MessageId>),
}

impl Recipient {
    /// A machine that knows nothing yet: it reads what it needs at its first input.
    #[must_use]
    pub fn new(key: RecipientKey, limits: Arc<Limits>) -> Recipient {
        Recipient {
            key,
            limits,
            now: Timestamp::default(),
            number: 0,
            outputs: VecDeque::new(),
            hydration: loading::Hydration::default(),
            profile: Profile::default(),
            totals: QueueTotals::default(),
            oldest_is_stale: false,
            recount: loading::Recount::default(),
            queue: window::Queue::default(),
            contacts: contacts::Contacts::default(),
            waiting_replies: 0,
            arrivals: arrival::Arrivals::default(),
            pulls: Vec::new(),
            discards: Vec::new(),
            questions: BTreeMap::new(),
            asked_at: Timestamp::default(),
            commits: BTreeMap::new(),
            commits_given: 0,
            loads: BTreeMap::new(),
            attempts: BTreeMap::new(),
            push: push::Push::default(),
            hand_overs: hand_over::HandOvers::default(),
            expiry: expiry::Expiry::default(),
            wake: wake::Wake::default(),
            unsettled: commits::Unsettled::default(),
        }
    }

    /// Whose machine this is.
    #[must_use]
    pub fn key(&self) -> &RecipientKey {
        &self.key
    }

    /// From now on these hold. What began under others ends as it began.
    pub fn set_limits(&mut self, limits: Arc<Limits>) {
        self.limits = limits;
    }

    /// Tells the machine what happened. Time runs backwards for it only when the clock was set back by more than
    /// [`MAX_BEHIND`]; else an earlier `now` counts as the latest one.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        self.note_time(now);
        match input {
            Input::Loaded(token, result) => self.on_loaded(token, result),
            input if self.is_hydrated() => self.on_input(input),
            input => self.defer(input),
        }
        self.advance();
    }

    /// What is to be done next, in this order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When this machine wants [`Input::Wake`]; none: not before something else happens.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        if !self.is_hydrated() {
            return self.hydration_retry();
        }
        [
            self.expiry_wake(),
            self.push_wake(),
            self.pull_wake(),
            self.pace_wake(),
            self.arrivals.relay_deadline(),
            self.hand_overs.wake(),
            self.unsettled.retry_at(),
            self.recount_wake(),
            self.alarm_wake(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Nothing is in flight and nobody waits: the machine may be dropped. What it still has to do later is durable as
    /// [`crate::commit::Change::WakeAt`]. Also one that could not read what it needs, and has nothing to do with it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        if !self.is_hydrated() {
            return self.waits_for_nothing() && self.outputs.is_empty() && self.waiting_replies == 0;
        }
        self.outputs.is_empty()
            && self.waiting_replies == 0
            && self.arrivals.is_empty()
            && self.pulls.is_empty()
            && self.discards.is_empty()
            && self.questions.is_empty()
            && self.commits.is_empty()
            && self.loads.is_empty()
            && self.attempts.is_empty()
            && self.push.is_quiet()
            && self.push.refresh_at.is_none()
            && !self.hand_overs.is_busy(self.now)
            && self.unsettled.is_empty()
            && self.durable_wake_is_right()
    }

    /// Whether somebody waits for a reply.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.waiting_replies > 0
    }

    fn on_input(&mut self, input: Input) {
        match input {
            Input::Loaded(token, result) => self.on_loaded(token, result),
            Input::Contacts(contacts, trigger) => self.on_contacts(contacts, trigger),
            Input::Profile(profile) => self.profile = profile,
            Input::Invitation(invitation) => self.on_invitation(*invitation),
            Input::Arrival(arrival) => self.on_arrival(arrival),
            Input::Pull(request) => self.on_pull(*request),
            Input::PullWithdrawn(reply) => self.on_pull_withdrawn(reply),
            Input::Answered(token, answer) => self.on_answered(token, answer),
            Input::Committed(token, result) => self.on_committed(token, result),
            Input::Delivered(attempt, message) => self.on_delivered(attempt, message),
            Input::AttemptEnded(attempt, end) => self.on_attempt_ended(attempt, end),
            Input::QueueGrew => self.on_queue_grew(),
            Input::Discard { reply, messages, report } => self.on_discard(reply, messages, report),
            Input::Wake => {}
        }
    }

    /// An answer that nobody waits for any more is dropped.
    fn on_answered(&mut self, token: QuestionToken, answer: Result<Answer, Undecided>) {
        let Some((asked, asked_at)) = self.questions.remove(&token) else { return };
        self.asked_at = asked_at;
        match asked {
            Asked::Arrival(number) => self.on_incoming_answer(number, answer),
            Asked::Invitation(reply) => self.on_invitation_answer(reply, answer),
            Asked::Available => self.on_plan(answer),
            Asked::Pull => self.on_pull_answer(token, answer),
            Asked::Failure(batch) => self.on_failure_answer(token, *batch, answer),
            Asked::Expiry(messages) => self.on_expiry_answer(token, messages, answer),
        }
    }

    /// Carries on with whatever can go on now.
    fn advance(&mut self) {
        if !self.is_hydrated() {
            self.hydrate();
            return;
        }
        self.advance_arrivals();
        self.advance_settling();
        self.advance_expiry();
        self.advance_copies();
        self.advance_pulls();
        self.advance_push();
        self.advance_hand_overs();
        self.advance_recount();
        self.advance_wake();
    }

    fn next_number(&mut self) -> u64 {
        self.number = self.number.wrapping_add(1);
        self.number
    }

    fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn event(&mut self, event: Event) {
        self.emit(Output::Event(event));
    }

    fn reply(&mut self, token: ReplyToken, reply: Reply) {
        self.waiting_replies = self.waiting_replies.saturating_sub(1);
        self.emit(Output::Reply(token, reply));
    }

    /// Somebody waits for a reply from now on. False: too many do already, and this one was refused.
    fn expect_reply(&mut self, token: ReplyToken) -> bool {
        self.waiting_replies = self.waiting_replies.saturating_add(1);
        if self.waiting_replies <= self.limits.max_waiting_arrivals {
            return true;
        }
        self.event(Event::Refused(503));
        let reason = String::from("Too Many Messages Waiting");
        self.reply(token, Reply::Refused { status: 503, reason, retry_after_seconds: Some(RETRY_AFTER_SECONDS) });
        false
    }

    /// An answer that cannot be carried out, and why.
    fn unusable(&mut self, why: Impossible, hook: &'static str) -> Undecided {
        self.event(Event::Unusable(why, hook));
        Undecided::Impossible
    }

    fn fell_back(&mut self, why: Undecided, hook: &'static str) {
        self.event(Event::FellBack(why, hook));
    }

    fn ask(&mut self, question: crate::decision::Question, asked: Asked) -> QuestionToken {
        let token = QuestionToken(self.next_number());
        self.questions.insert(token, (asked, self.now));
        self.emit(Output::Ask(token, Box::new(question)));
        token
    }

    /// A trigger that is worth asking `on-available` for: remembered until there is room for it.
    fn want(&mut self, trigger: Trigger) {
        if self.queue.is_whole() && self.queue.len() == 0 {
            return;
        }
        self.push.want(trigger);
    }
}

/// What a sender is told when too much waits for one recipient.
const RETRY_AFTER_SECONDS: u32 = 5;
/// What a sender is told when the tenant has no room: it comes when messages are delivered or expire.
const ROOM_AFTER_SECONDS: u32 = 60;
