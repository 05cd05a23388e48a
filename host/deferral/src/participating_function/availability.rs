//! When `on-available` is asked, and about what.
//!
//! A *pass* goes through the waiting messages once: window by window the policy is asked about those that are ready, its
//! plan is carried out, and each message is asked about at most once. A plan that does nothing therefore ends, whatever
//! the policy says.
//!
//! | state | input | goes to |
//! |---|---|---|
//! | idle | a trigger, contacts, and the registration delay is over | preparing, or asking |
//! | idle | no contacts, and a message may wait to be handed over ([`super::hand_over`]) | preparing |
//! | preparing | part of the queue was read | asking, or preparing the next part, or crowded, or idle |
//! | crowded | somebody is done with a message | asking, or preparing the next part |
//! | preparing, crowded | a registration, and there were no contacts | idle: what is read from now on is for them |
//! | asking | a plan, or the fallback's | running |
//! | running | a step's attempt ends | running the next step |
//! | running | the last step is done, and every failure decided | asking about the next messages, or preparing, or crowded, or idle |
//! | running | nobody was there | the remaining deliveries are left; idle when every failure is decided |
//! | idle | nothing stops any more what waited for a message, see [`super::held_back`] | preparing, or asking |
//!
//! | trigger | what is shown |
//! |---|---|
//! | registered | everything, after the registration delay; attempts count from nought |
//! | refreshed | everything, but at most once in [`super::Limits::min_refresh_interval`] |
//! | operator | everything |
//! | timer, fetch deadline | what is ready, see [`super::window::Entry::readiness`], paced by [`super::Limits::min_ask_interval`] |
//! | message arrived, plan done | what is ready |

use super::loading::Purpose;
use super::plan::{Run, RunStep};
use super::push::{Pass, State};
use super::window::{Entry, Moment, Place, Readiness};
use super::{Asked, Recipient};
use crate::commit::Select;
use crate::decision::validate::{Offered, Situation};
use crate::decision::{Answer, Availability, Plan, Question, Trigger, Undecided, fallback, validate};
use crate::model::{Contact, MessageId, MessageKind, Timestamp};

impl Recipient {
    pub(super) fn on_contacts(&mut self, contacts: Vec<Contact>, trigger: Trigger) {
        let was_empty = self.contacts.is_empty();
        self.contacts.replace(contacts, &self.attempts);
        if self.contacts.is_empty() {
            self.push.wanted = None;
            self.push.extra.clear();
            self.push.refresh_at = None;
            self.push.held_back_from = None;
            self.push.look_again_at = None;
            self.push.stop();
            return;
        }
        self.note_earlier_reopening();
        match trigger {
            Trigger::Registered | Trigger::Reported => {
                if was_empty {
                    // The queue is read through for who was there then, who is there now.
                    self.push.stop();
                }
                self.push.gate = self.push.gate.max(self.now.after(self.limits.registration_delay));
                self.reopen(trigger);
                self.push.available_since = Some(self.push.reopened_at);
            }
            Trigger::Operator => self.reopen(trigger),
            Trigger::Refreshed => {
                let earliest = self.push.last_reopening.map(|last| last.after(self.limits.min_refresh_interval));
                match earliest {
                    Some(earliest) if earliest > self.now => {
                        self.push.refresh_at = Some(earliest);
                        self.push.refresh_came_at = self.now;
                    }
                    _ => self.reopen(trigger),
                }
            }
            // Not a registration: the machine learns where the recipient is.
            Trigger::Timer | Trigger::MessageArrived | Trigger::FetchDeadline | Trigger::PlanDone => {}
        }
    }

    /// A machine that nobody registered with or refreshed learns what was reopened before it was made. What failed
    /// since then says that it was tried.
    fn note_earlier_reopening(&mut self) {
        if self.push.last_reopening.is_none() {
            let latest = self.contacts.latest_refresh().unwrap_or_default().min(self.now);
            self.push.reopened_at = self.push.reopened_at.max(latest);
        }
    }

    /// What failed, was held or announced is looked at again.
    fn reopen(&mut self, trigger: Trigger) {
        let last_failure = self.queue.iter().filter_map(|entry| entry.stored.last_failure).map(|last| last.at).max();
        self.push.reopened_at = self.now.max(last_failure.unwrap_or_default());
        self.note_reopened(trigger);
    }

    /// A refresh that came too soon does this when it came, and not now: what failed since then waits for the next one.
    /// It is also all that a machine made after a crash would know of it.
    fn reopen_late(&mut self) {
        self.push.reopened_at = self.push.reopened_at.max(self.push.refresh_came_at);
        self.note_reopened(Trigger::Refreshed);
    }

    fn note_reopened(&mut self, trigger: Trigger) {
        self.push.last_reopening = Some(self.now);
        self.push.refresh_at = None;
        self.want(trigger);
    }

    /// The durable alarm rang before this machine was made, or what is not in memory may be handed over: something is due,
    /// was asked for, or was interrupted.
    pub(super) fn note_woken(&mut self) {
        self.hand_overs.note_unseen(Timestamp::default());
        self.push.surveyed = false;
        self.want(Trigger::Timer);
    }

    pub(super) fn on_queue_grew(&mut self) {
        self.note_alarm_rung();
        self.recount.want();
        self.queue.forget_extent();
        self.push.note_unseen();
        self.expiry.look_at(self.now);
        self.want(Trigger::MessageArrived);
    }

    /// Something has a `not_before` or a fetch deadline then.
    pub(super) fn note_due(&mut self, at: Option<Timestamp>) {
        self.push.due = [self.push.due, at].into_iter().flatten().min();
    }

    /// When the pushing side wants to be looked at.
    pub(super) fn push_wake(&self) -> Option<Timestamp> {
        if !self.push.is_idle() {
            return None;
        }
        let gate = self.push.gate;
        let begun = (!self.push.is_quiet()).then_some(gate);
        if self.contacts.is_empty() {
            return begun;
        }
        let due = self.push.due.map(|due| due.max(self.push.timer_gate).max(gate));
        let asked = self.push.ask_again_at.map(|at| at.max(self.push.timer_gate).max(gate));
        let rested = self.contacts.next_rested().map(|at| at.max(self.push.timer_gate).max(gate));
        let let_go = self.push.look_again_at.map(|at| at.max(self.push.timer_gate).max(gate));
        [begun, due, asked, rested, let_go, self.push.refresh_at].into_iter().flatten().min()
    }

    pub(super) fn advance_push(&mut self) {
        loop {
            let goes_on = match &self.push.state {
                State::Idle => self.begin_pass(),
                State::Preparing(_) | State::Asking(..) => false,
                State::Crowded(pass) => self.go_on_with_room(*pass),
                State::Running(..) => self.run_plan(),
            };
            if !goes_on {
                return;
            }
        }
    }

    /// True when something began.
    fn begin_pass(&mut self) -> bool {
        self.look_behind();
        let by_timer = self.take_timers();
        if self.contacts.is_empty() {
            return self.begin_survey_without_contacts();
        }
        if self.now < self.push.gate || self.push.is_quiet() {
            return false;
        }
        if !self.push.extra.is_empty() {
            // What is due waits for the pass after this one.
            self.note_due(by_timer.then_some(self.now));
            let pass = self.new_pass(Trigger::PlanDone, false);
            let steps = std::mem::take(&mut self.push.extra);
            self.push.state = State::Running(Pass { asked: true, ..pass }, Run::new(steps, None));
            return true;
        }
        let Some(trigger) = self.push.wanted.take() else { return false };
        let pass = self.new_pass(trigger, by_timer);
        self.push.look_again_at = None;
        if self.queue.is_whole() {
            if self.queue.len() == 0 {
                return false;
            }
            self.go_on(pass);
            return true;
        }
        if !self.push.surveyed {
            self.rewind();
        }
        if by_timer && !pass.opening {
            self.push.state = State::Preparing(pass);
            self.load(Select::DueAt(self.now), self.limits.max_window_messages as usize, Purpose::Due);
        } else {
            self.go_on(pass);
        }
        true
    }

    /// Turns times that have come into triggers. True when a retry or a fetch deadline was among them.
    fn take_timers(&mut self) -> bool {
        if self.push.refresh_at.is_some_and(|at| at <= self.now) {
            self.reopen_late();
        }
        if self.contacts.is_empty() || self.now < self.push.timer_gate.max(self.push.gate) {
            return false;
        }
        if self.push.ask_again_at.is_some_and(|at| at <= self.now) {
            self.push.ask_again_at = None;
            self.want(Trigger::Timer);
        }
        if self.push.look_again_at.is_some_and(|at| at <= self.now) {
            self.push.look_again_at = None;
            self.want(Trigger::Timer);
        }
        if self.contacts.take_rested(self.now) {
            self.push.note_unseen();
            self.want(Trigger::Timer);
        }
        let due = self.push.due.is_some_and(|at| at <= self.now);
        if due {
            self.push.due = None;
            let is_deadline = |entry: &Entry| entry.stored.fetch_deadline.is_some_and(|deadline| deadline <= self.now);
            let deadline = self.queue.iter().any(is_deadline);
            self.want(if deadline { Trigger::FetchDeadline } else { Trigger::Timer });
        }
        due
    }

    /// A message that is not in memory may wait to be handed over though nobody is registered: the queue is read through.
    fn begin_survey_without_contacts(&mut self) -> bool {
        if self.now < self.push.gate {
            return false;
        }
        self.push.extra.clear();
        let trigger = self.push.wanted.take();
        if trigger != Some(Trigger::Timer) || self.push.surveyed || self.queue.is_whole() {
            return false;
        }
        let pass = self.new_pass(Trigger::Timer, false);
        self.rewind();
        self.slide(pass, false);
        true
    }

    fn rewind(&mut self) {
        self.queue.rewind();
        self.hand_overs.reading_begins();
    }

    fn new_pass(&mut self, trigger: Trigger, by_timer: bool) -> Pass {
        self.push.passes = self.push.passes.wrapping_add(1);
        let opening =
            matches!(trigger, Trigger::Registered | Trigger::Reported | Trigger::Refreshed | Trigger::Operator);
        if matches!(trigger, Trigger::Timer | Trigger::FetchDeadline) {
            self.push.timer_gate = self.now.after(self.limits.min_ask_interval);
        }
        if self.contacts.reopen_lanes(self.now, opening) {
            self.push.surveyed = false;
        }
        if opening {
            self.push.surveyed = false;
            for entry in self.queue.iter_mut() {
                entry.direct = None;
            }
        }
        let (number, began_at) = (self.push.passes, self.now);
        Pass { number, began_at, trigger, opening, stopped: false, asked: false, reads_past: None, by_timer }
    }

    pub(super) fn on_due_loaded(&mut self) {
        if let State::Preparing(pass) = self.push.state {
            let now = self.now;
            let deadline = self.queue.iter().any(|entry| entry.stored.fetch_deadline.is_some_and(|at| at <= now));
            let trigger = if deadline { Trigger::FetchDeadline } else { pass.trigger };
            self.go_on(Pass { trigger, ..pass });
        }
    }

    pub(super) fn on_slid(&mut self) {
        if let State::Preparing(pass) = self.push.state {
            self.go_on(pass);
        }
    }

    /// The trigger is kept for another try.
    pub(super) fn on_pass_load_failed(&mut self) {
        if let State::Preparing(pass) = self.push.state {
            self.push.state = State::Idle;
            self.push.gate = self.now.after(self.limits.min_ask_interval);
            self.want(pass.trigger);
            if pass.by_timer {
                self.note_due(Some(self.now));
            }
        }
    }

    /// Reads the next part of the queue; what was dealt with makes room. `looks`: what is ready is still to be looked at in
    /// this pass.
    fn slide(&mut self, pass: Pass, looks: bool) {
        let moment = self.push.moment(self.now);
        let max = self.limits.max_window_messages as usize;
        let deeper = self.queue.through.is_some();
        // A row that is being read may be older than what memory knows: while that lasts nothing is let go.
        if self.loads.is_empty() && (deeper || self.queue.len() > max / 2) {
            let is_looked_at = looks && deeper;
            let unseen = |entry: &Entry| {
                is_looked_at && entry.pass != pass.number && entry.readiness(moment) == Readiness::Ready
            };
            let mut stays = self.all_wanted_by_pulls();
            stays.extend(self.contacts.all_lined_up());
            let mut hand_overs = self.keep_hand_overs();
            self.queue
                .evict(moment, |entry| unseen(entry) || stays.contains(&entry.stored.id) || hand_overs.stays(entry));
            if let Some(from) = hand_overs.let_go_from {
                self.hand_overs.note_let_go(from);
            }
        }
        if !deeper {
            self.queue.head = true;
        }
        let room = max.saturating_sub(self.queue.len()).max(1);
        let cursor = self.queue.through.map(super::window::Place::cursor);
        self.push.state = State::Preparing(pass);
        self.queue.begin_part();
        self.load(Select::After(cursor), room, Purpose::Slide);
    }

    /// The pass's next question, its next part of the queue, or its end.
    fn go_on(&mut self, pass: Pass) {
        let expired = self.contacts.expire(self.now);
        let moment = Moment { opening: pass.opening, ..self.push.moment(self.now) };
        if pass.stopped || (self.contacts.is_empty() && expired) {
            self.push.surveyed = false;
            return self.end_pass(pass);
        }
        let (found, barrier) = match pass.reads_past {
            Some(barrier) => (Vec::new(), Some(barrier)),
            None => self.look_for_ready(pass, moment),
        };
        if !found.is_empty() && !self.contacts.is_empty() {
            let direct = found.iter().take_while(|id| self.is_direct(**id, pass.opening)).count();
            return match direct {
                0 => self.ask_available(pass, &found),
                direct => self.run_direct(pass, found.get(..direct).unwrap_or(&[])),
            };
        }
        // What stops the rest stops no hand-over.
        let reads_on = barrier.is_none() || self.hand_overs.is_unseen(self.now);
        let looks = barrier.is_none() && !self.contacts.is_empty();
        if reads_on && !self.queue.end && !self.push.surveyed {
            if self.is_crowded() {
                self.push.state = State::Crowded(pass);
                return;
            }
            return self.slide(Pass { reads_past: barrier, ..pass }, looks);
        }
        if self.queue.end {
            self.hand_overs.reading_is_over();
        }
        self.push.surveyed |= self.queue.end && looks;
        self.end_pass(pass);
    }

    /// Somebody works on every message that there is room for: delivered ones whose removal is not durable yet, pulled ones.
    /// Or hand-overs have to make room.
    fn is_crowded(&self) -> bool {
        let leased = self.queue.iter().filter(|entry| entry.lease.is_some()).count();
        leased >= self.limits.max_window_messages as usize || self.is_crowded_by_hand_overs()
    }

    /// True when the pass goes on, or ends.
    fn go_on_with_room(&mut self, pass: Pass) -> bool {
        let goes_on = pass.stopped || !self.is_crowded();
        if goes_on {
            self.go_on(pass);
        }
        goes_on
    }

    /// What is ready and was not dealt with in this pass, in order; and where something stops the rest. What lies
    /// behind messages that were not looked at has to wait for them.
    fn look_for_ready(&self, pass: Pass, moment: Moment) -> (Vec<MessageId>, Option<Place>) {
        let mut found = Vec::new();
        for entry in self.queue.iter() {
            if !self.push.surveyed && !self.queue.covers(entry.place()) {
                break;
            }
            match entry.readiness(moment) {
                Readiness::Barrier => return (found, Some(entry.place())),
                Readiness::Aside => {}
                Readiness::Ready if entry.pass == pass.number || self.contacts.all_have(&entry.stored) => {}
                Readiness::Ready => found.push(entry.stored.id),
            }
            if found.len() >= self.limits.max_decision_messages {
                break;
            }
        }
        (found, None)
    }

    /// How it is to be delivered was said before.
    fn is_direct(&self, id: MessageId, opening: bool) -> bool {
        self.queue.get(id).is_some_and(|entry| {
            let deadline = entry.stored.fetch_deadline.is_some_and(|deadline| deadline <= self.now);
            entry.direct.is_some() || (!opening && entry.stored.push_after_deadline && deadline)
        })
    }

    fn run_direct(&mut self, pass: Pass, ids: &[MessageId]) {
        let steps = self.direct_steps(ids);
        for id in ids {
            if let Some(entry) = self.queue.get_mut(*id) {
                entry.pass = pass.number;
                entry.direct = None;
            }
        }
        // No question was asked, so the pace of questions is not touched.
        self.push.timer_gate = self.now;
        self.push.state = State::Running(pass, Run::new(steps, None));
    }

    fn ask_available(&mut self, pass: Pass, ids: &[MessageId]) {
        let mut offered = Vec::with_capacity(ids.len());
        let mut messages = Vec::with_capacity(ids.len());
        let mut counted = 0_u32;
        for id in ids {
            if let Some(entry) = self.queue.get_mut(*id) {
                entry.pass = pass.number;
            }
            let Some(entry) = self.queue.get(*id) else { continue };
            offered.push(self.offered(entry));
            messages.push(self.waiting_view(entry));
            counted = counted.saturating_add(u32::from(entry.stored.message.envelope.kind == MessageKind::Message));
        }
        let availability = Availability {
            trigger: if pass.asked { Trigger::PlanDone } else { pass.trigger },
            contacts: self.contacts.views(None),
            messages,
            not_shown: self.totals.messages.saturating_sub(counted),
            can_notify: self.contacts.can_notify(),
        };
        let contacts = availability.contacts.iter().map(|contact| contact.id).collect();
        let question = Question::Available(self.context(), availability);
        self.push.state = State::Asking(Pass { asked: true, ..pass }, offered, contacts);
        self.ask(question, Asked::Available);
    }

    pub(super) fn on_plan(&mut self, answer: Result<Answer, Undecided>) {
        let State::Asking(pass, offered, contacts) = std::mem::take(&mut self.push.state) else { return };
        let situation = Situation {
            now: self.asked_at,
            messages: &offered,
            contacts: &contacts,
            hand_over_targets: &self.limits.hand_over_targets,
        };
        let decided = match answer {
            Ok(Answer::Available(plan)) => match validate::plan(&plan, situation) {
                Ok(()) => Ok(plan),
                Err(why) => Err(self.unusable(why, "on-available")),
            },
            Ok(_) => Err(Undecided::Impossible),
            Err(why) => Err(why),
        };
        let plan = decided.unwrap_or_else(|why| {
            self.fell_back(why, "on-available");
            fallback::available(&offered)
        });
        self.hold_unnamed(&offered, &plan);
        let earliest = self.now.after(self.limits.min_ask_interval);
        let ask_again_at = plan.ask_again_at.map(|at| at.max(earliest));
        let steps = plan.steps.into_iter().flat_map(RunStep::from_plan).collect();
        self.push.state = State::Running(pass, Run::new(steps, ask_again_at));
    }

    /// A message that no step names is held.
    fn hold_unnamed(&mut self, offered: &[Offered], plan: &Plan) {
        for message in offered {
            let named = plan.steps.iter().any(|step| step.messages().contains(&message.id));
            if !named && !message.waits {
                self.end_copies(message.id);
            }
            if let Some(entry) = self.queue.get_mut(message.id) {
                entry.held = !named && !message.waits;
            }
        }
    }

    /// The plan is done.
    pub(super) fn plan_is_done(&mut self) {
        let State::Running(pass, run) = std::mem::take(&mut self.push.state) else { return };
        if let Some(at) = run.ask_again_at {
            self.push.ask_again_at = Some(at);
        }
        self.go_on(pass);
    }
}
