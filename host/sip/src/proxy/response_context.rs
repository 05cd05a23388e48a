//! The response context (RFC 3261 §16.7 to §16.10): the branches of one request that is passed on.
//!
//! Branches of equal q are begun together, the next q when nobody of the one before took it. A branch that follows another
//! one, by a further flow of the same device, takes its place as soon as that has failed (RFC 5626 §7).
//!
//! | state | input | does | next |
//! |---|---|---|---|
//! | Trying | 100 | – | Trying |
//! | Trying, Ending | 1xx to an INVITE (§16.7 step 4; §16.8) | pass it back; the branch's Timer C anew | the same |
//! | any but Finished, TakenOver | 2xx | pass it back; cancel what is pending (§16.7 steps 5, 10) | Answered |
//! | Answered | 2xx of an INVITE | pass it back (§16.7 step 5) | Answered |
//! | Trying | 3xx to 5xx, and a branch follows this one | begin that | Trying |
//! | Trying | 6xx | cancel what is pending, begin nothing more (§16.7 step 5) | Ending |
//! | Trying | last final answer of this q, and there is another q | begin that | Trying |
//! | Trying, Ending | last final answer | pass the best back (§16.7 step 6), or take over | Finished or TakenOver |
//! | Trying, Ending | the caller's CANCEL (§16.10) | cancel what is pending | Cancelled |
//! | Cancelled | last final answer | pass 487 back | Finished |
//! | Trying, Ending | the time to say more than 100 is over, and nobody did | give up what is pending: each as a 408; pass the best back | Finished |
//! | Trying, Ending | the time to take over | cancel what is pending | Withdrawing |
//! | Withdrawing | last final answer, or the patience with the silent is over | take over | TakenOver |
//! | Withdrawing | the caller's CANCEL | – | Cancelled |
//! | Cancelled, Withdrawing | 1xx | – | the same |
//! | Finished, TakenOver | 2xx of an INVITE | let it go: ACK and BYE are ours | the same |
//!
//! A branch's own states:
//!
//! | state | input | does | next |
//! |---|---|---|---|
//! | Waiting | its turn | begin | Calling |
//! | Calling | 1xx | Timer C anew | Proceeding |
//! | Calling | Timer C (§16.8: as a 408) | give up: cancel, should it still be heard of | Final |
//! | Proceeding | Timer C | cancel | Cancelling |
//! | Calling, Proceeding | nobody wants it any more | cancel | Cancelling |
//! | all begun | final answer; time-out as 408; not sent as 503 (§16.9) | – | Final |
//!
//! A branch that is being cancelled ends by its final answer or its transaction's time-out: 408. Other requests than
//! INVITE have no Timer C, and nothing of them can be cancelled.
//!
//! Deviation: contacts in 3xx are not tried (§16.5 leaves that open): they go back to the caller, who decides.
//! Deviation: the caller who cancelled gets 487 whatever the branches said (but 2xx).
//! Deviation: what nobody said a word to is answered before its transactions are over (§16.7 step 6 waits for them): Timer
//! B is longer than the time that a core gives an application server.
//! Deviation: after the take-over, which no RFC knows, a late 2xx is not passed back: the caller has a 200 of another
//! dialog, whose sender would have to end both.

use std::time::{Duration, Instant};

use super::best::{Best, Candidates};
use crate::message::SipMessage;

/// Most branches of one request.
pub const MAX_BRANCHES: usize = 32;

/// Names a branch within its context: the place of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BranchId(pub usize);

/// Times of a context.
#[derive(Clone, Copy, Debug)]
pub struct ContextSettings {
    /// The request is an INVITE.
    pub is_invite: bool,
    /// Timer C (§16.6 step 11): how long a branch of an INVITE may go without a provisional answer.
    pub timer_c: Duration,
    /// How long it may take until somebody says more than 100 to an INVITE, however many are asked: then it is over. As
    /// soon as somebody did, Timer C alone counts. Not for what is taken over.
    pub first_word: Option<Duration>,
    /// Instead of a failure its user answers.
    pub take_over: Option<TakeOver>,
}

/// When the user answers a request itself that nobody took.
#[derive(Clone, Copy, Debug)]
pub struct TakeOver {
    /// So long the branches have.
    pub after: Duration,
    /// So long after that for the cancelled ones to say that they are. Those who did not say anything cannot even be
    /// cancelled (RFC 3261 §9.1).
    pub patience: Duration,
}

/// What is to be done, in this order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send the request on this branch.
    Begin(BranchId),
    /// Cancel it.
    Cancel(BranchId),
    /// Cancel it, should it still be heard of: nothing came in its time.
    GiveUp(BranchId),
    /// Pass back the answer that just came on this branch: 1xx, or 2xx.
    Pass(BranchId),
    /// Pass this back: the end.
    Finish(Box<Best>),
    /// Nobody took it, and nobody will: answer it.
    TakeOver,
    /// Acknowledge the 2xx that just came on this branch, and end its dialog: nobody waits for it.
    LetGo(BranchId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Trying,
    Ending,
    Cancelled,
    Withdrawing,
    Answered,
    Finished,
    TakenOver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BranchState {
    Waiting,
    Calling,
    Proceeding,
    Cancelling,
    Final,
}

#[derive(Clone, Copy, Debug)]
struct Branch {
    q_permille: u16,
    follows: Option<BranchId>,
    state: BranchState,
    /// It is over for its context, its transaction is not.
    may_answer: bool,
    /// Timer C.
    deadline: Option<Instant>,
}

impl Branch {
    /// Begun and without a final answer.
    fn is_pending(&self) -> bool {
        matches!(self.state, BranchState::Calling | BranchState::Proceeding | BranchState::Cancelling)
    }
}

/// The branches of one request.
#[derive(Debug)]
pub struct ResponseContext {
    settings: ContextSettings,
    state: State,
    branches: Vec<Branch>,
    candidates: Candidates,
    /// When it is taken over, or the patience ends; until when somebody has to say a word.
    deadline: Option<Instant>,
}

impl ResponseContext {
    /// With the q of each target, in thousandths, and the earlier one that it follows, whose q counts for it; at most
    /// [`MAX_BRANCHES`] of them. The first of them are to be begun.
    #[must_use]
    pub fn new(
        now: Instant,
        targets: &[(u16, Option<BranchId>)],
        settings: ContextSettings,
    ) -> (ResponseContext, Vec<Action>) {
        let branch = |(index, (q_permille, follows)): (usize, &(u16, Option<BranchId>))| Branch {
            q_permille: *q_permille,
            follows: follows.filter(|first| first.0 < index),
            state: BranchState::Waiting,
            may_answer: false,
            deadline: None,
        };
        let first_word = settings.first_word.filter(|_| settings.is_invite);
        let mut context = ResponseContext {
            settings,
            state: State::Trying,
            branches: targets.iter().take(MAX_BRANCHES).enumerate().map(branch).collect(),
            candidates: Candidates::default(),
            deadline: settings.take_over.map(|it| it.after).or(first_word).map(|after| now + after),
        };
        let mut actions = Vec::new();
        context.advance(now, &mut actions);
        (context, actions)
    }

    /// A response came on a branch.
    pub fn answered(&mut self, now: Instant, branch: BranchId, response: &SipMessage) -> Vec<Action> {
        let mut actions = Vec::new();
        match response.status().unwrap_or(0) {
            status @ 100..200 => self.provisional(now, branch, status, &mut actions),
            200..300 => self.success(branch, &mut actions),
            status @ 300..700 => self.failed(now, branch, status, Some(response), &mut actions),
            _ => {}
        }
        actions
    }

    /// No final answer came on a branch: as a 408 (§16.7).
    pub fn timed_out(&mut self, now: Instant, branch: BranchId) -> Vec<Action> {
        let mut actions = Vec::new();
        self.failed(now, branch, 408, None, &mut actions);
        actions
    }

    /// A branch could not be sent: as a 503 (§16.9).
    pub fn not_sent(&mut self, now: Instant, branch: BranchId) -> Vec<Action> {
        let mut actions = Vec::new();
        self.failed(now, branch, 503, None, &mut actions);
        actions
    }

    /// The caller gave up (§16.10). Nothing can be cancelled but an INVITE.
    pub fn cancelled(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.settings.is_invite && matches!(self.state, State::Trying | State::Ending | State::Withdrawing) {
            self.state = State::Cancelled;
            self.deadline = None;
            self.cancel_pending(&mut actions);
            self.advance(now, &mut actions);
        }
        actions
    }

    /// When it wants [`ResponseContext::handle_wake`].
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let branches = self.branches.iter().filter_map(|branch| branch.deadline);
        branches.chain(self.deadline).min()
    }

    /// Does what is due.
    pub fn handle_wake(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            match (self.state, self.settings.take_over) {
                (State::Trying | State::Ending, Some(take_over)) => {
                    self.state = State::Withdrawing;
                    self.deadline = Some(now + take_over.patience);
                    self.cancel_pending(&mut actions);
                    self.advance(now, &mut actions);
                }
                (State::Trying | State::Ending, None) => self.give_up(&mut actions),
                (State::Withdrawing, _) => self.take_over(&mut actions),
                _ => {}
            }
        }
        for index in 0..self.branches.len() {
            let Some(branch) = self.branches.get_mut(index) else { continue };
            if branch.deadline.is_none_or(|at| at > now) {
                continue;
            }
            branch.deadline = None;
            match branch.state {
                BranchState::Proceeding => {
                    branch.state = BranchState::Cancelling;
                    actions.push(Action::Cancel(BranchId(index)));
                }
                BranchState::Calling => {
                    branch.may_answer = true;
                    actions.push(Action::GiveUp(BranchId(index)));
                    self.failed(now, BranchId(index), 408, None, &mut actions);
                }
                BranchState::Waiting | BranchState::Cancelling | BranchState::Final => {}
            }
        }
        actions
    }

    /// A final answer went back, or is to be given by its user. Only a 2xx of an INVITE is of interest any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Answered | State::Finished | State::TakenOver)
    }

    /// It failed, and every branch that was begun is over for good: no 2xx can come any more.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_over = |branch: &Branch| match branch.state {
            BranchState::Waiting => true,
            BranchState::Final => !branch.may_answer,
            BranchState::Calling | BranchState::Proceeding | BranchState::Cancelling => false,
        };
        matches!(self.state, State::Finished | State::TakenOver) && self.branches.iter().all(is_over)
    }

    /// Until when a branch's transaction may ring.
    #[must_use]
    pub fn rings_until(&self, branch: BranchId) -> Option<Instant> {
        self.branches.get(branch.0)?.deadline
    }

    fn provisional(&mut self, now: Instant, id: BranchId, status: u16, actions: &mut Vec<Action>) {
        let timer_c = self.timer_c(now);
        let Some(branch) = self.branches.get_mut(id.0).filter(|branch| branch.is_pending()) else { return };
        if branch.state == BranchState::Cancelling || !self.settings.is_invite {
            return;
        }
        branch.state = BranchState::Proceeding;
        if status > 100 {
            branch.deadline = timer_c;
            if matches!(self.state, State::Trying | State::Ending) {
                if self.settings.take_over.is_none() {
                    self.deadline = None;
                }
                actions.push(Action::Pass(id));
            }
        }
    }

    fn success(&mut self, id: BranchId, actions: &mut Vec<Action>) {
        let Some(branch) = self.branches.get_mut(id.0).filter(|branch| branch.state != BranchState::Waiting) else {
            return;
        };
        branch.state = BranchState::Final;
        branch.deadline = None;
        match self.state {
            State::Trying | State::Ending | State::Cancelled | State::Withdrawing => {
                self.state = State::Answered;
                self.deadline = None;
                actions.push(Action::Pass(id));
                self.cancel_pending(actions);
            }
            State::Answered if self.settings.is_invite => actions.push(Action::Pass(id)),
            State::Finished | State::TakenOver if self.settings.is_invite => actions.push(Action::LetGo(id)),
            State::Answered | State::Finished | State::TakenOver => {}
        }
    }

    fn failed(
        &mut self,
        now: Instant,
        id: BranchId,
        status: u16,
        response: Option<&SipMessage>,
        actions: &mut Vec<Action>,
    ) {
        let Some(branch) = self.branches.get_mut(id.0).filter(|branch| branch.is_pending()) else { return };
        branch.state = BranchState::Final;
        branch.deadline = None;
        if self.is_over() {
            return;
        }
        self.candidates.note(status, response.cloned());
        if status >= 600 && self.state == State::Trying {
            self.state = State::Ending;
            self.cancel_pending(actions);
        }
        if self.state == State::Trying {
            self.begin(now, actions, |branch| branch.follows == Some(id));
        }
        self.advance(now, actions);
    }

    fn begin(&mut self, now: Instant, actions: &mut Vec<Action>, is_next: impl Fn(&Branch) -> bool) {
        let timer_c = self.timer_c(now);
        for (index, branch) in self.branches.iter_mut().enumerate() {
            if branch.state == BranchState::Waiting && is_next(branch) {
                branch.state = BranchState::Calling;
                branch.deadline = timer_c;
                actions.push(Action::Begin(BranchId(index)));
            }
        }
    }

    /// Begins the next branches, or ends, where nothing is pending.
    fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.is_over() || self.branches.iter().any(Branch::is_pending) {
            return;
        }
        let is_first = |branch: &Branch| branch.state == BranchState::Waiting && branch.follows.is_none();
        let next = self.branches.iter().filter(|branch| is_first(branch)).map(|branch| branch.q_permille).max();
        match (self.state, next) {
            (State::Trying, Some(q_permille)) => {
                self.begin(now, actions, |branch| is_first(branch) && branch.q_permille == q_permille);
            }
            (State::Withdrawing, _) => self.take_over(actions),
            (State::Trying | State::Ending, _) if self.settings.take_over.is_some() => self.take_over(actions),
            (State::Cancelled, _) => {
                self.finish(Best { status: 487, response: None, challenges: Vec::new() }, actions);
            }
            _ => {
                let best = self.candidates.choose();
                self.finish(best, actions);
            }
        }
    }

    fn finish(&mut self, best: Best, actions: &mut Vec<Action>) {
        self.state = State::Finished;
        self.deadline = None;
        actions.push(Action::Finish(Box::new(best)));
    }

    fn take_over(&mut self, actions: &mut Vec<Action>) {
        self.state = State::TakenOver;
        self.deadline = None;
        actions.push(Action::TakeOver);
    }

    fn cancel_pending(&mut self, actions: &mut Vec<Action>) {
        if !self.settings.is_invite {
            return;
        }
        for (index, branch) in self.branches.iter_mut().enumerate() {
            if matches!(branch.state, BranchState::Calling | BranchState::Proceeding) {
                branch.state = BranchState::Cancelling;
                branch.deadline = None;
                actions.push(Action::Cancel(BranchId(index)));
            }
        }
    }

    /// Nobody said a word, and nobody is waited for any longer.
    fn give_up(&mut self, actions: &mut Vec<Action>) {
        for (index, branch) in self.branches.iter_mut().enumerate().filter(|(_, branch)| branch.is_pending()) {
            match branch.state {
                BranchState::Calling => actions.push(Action::GiveUp(BranchId(index))),
                BranchState::Proceeding => actions.push(Action::Cancel(BranchId(index))),
                BranchState::Waiting | BranchState::Cancelling | BranchState::Final => {}
            }
            branch.state = BranchState::Final;
            branch.may_answer = true;
            branch.deadline = None;
            self.candidates.note(408, None);
        }
        let best = self.candidates.choose();
        self.finish(best, actions);
    }

    fn timer_c(&self, now: Instant) -> Option<Instant> {
        self.settings.is_invite.then(|| now + self.settings.timer_c)
    }
}
