//! Carrying out a plan, step by step.
//!
//! Steps are done in order, one attempt at a time; what a plan does not reach because nobody was there stays as it was.
//!
//! | step | what is done | next step |
//! |---|---|---|
//! | page | one MESSAGE to the best free contact that takes it | after its final answer |
//! | session | one session with all that still waits | after its end |
//! | page or session, to each | see [`super::copies`] | when a device has each message, or after the last one's answer |
//! | notify | see [`super::notification`] | after the last answer |
//! | hold, discard, hand over | made durable | at once |

use std::collections::VecDeque;

use super::attempt::Kind;
use super::commits::{Draft, Removal};
use super::notification::Announcement;
use super::window::Lease;
use super::{AttemptId, AttemptTask, Event, Recipient};
use crate::decision::validate::Offered;
use crate::decision::{AfterDeadline, DeliveryStep, Step, Target, fallback};
use crate::model::{ContactId, MessageId, Mode, StoredMessage, Timestamp};

/// A plan being carried out.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) steps: VecDeque<RunStep>,
    /// Attempts of the step that is being done.
    pub(super) current: Vec<AttemptId>,
    /// Failures that `on-failure` is being asked about.
    pub(super) open: usize,
    pub(super) ask_again_at: Option<Timestamp>,
    /// The notification being sent.
    pub(super) announcement: Option<Announcement>,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub(super) enum RunStep {
    Page {
        message: MessageId,
        target: Target,
        /// A copy stays for other devices in any case.
        keeps: bool,
    },
    Session {
        messages: Vec<MessageId>,
        target: Target,
    },
    Notify {
        messages: Vec<MessageId>,
        fetch_deadline: Timestamp,
        push_after: bool,
    },
    Hold {
        messages: Vec<MessageId>,
        until: Option<Timestamp>,
    },
    Discard {
        messages: Vec<MessageId>,
        report: bool,
    },
    HandOver {
        messages: Vec<MessageId>,
        target: String,
    },
    /// To each device.
    Each {
        messages: Vec<MessageId>,
        mode: Mode,
    },
    /// Until a device has each of them, or none is left to be tried.
    Copies {
        messages: Vec<MessageId>,
    },
}

impl Run {
    pub(super) fn new(steps: VecDeque<RunStep>, ask_again_at: Option<Timestamp>) -> Run {
        Run { steps, current: Vec::new(), open: 0, ask_again_at, announcement: None }
    }
}

impl RunStep {
    /// A policy's step; messages in page mode go one by one.
    pub(super) fn from_plan(step: Step) -> Vec<RunStep> {
        match step {
            Step::Page(DeliveryStep { messages, target: Target::Each }) => {
                vec![RunStep::Each { messages, mode: Mode::Page }]
            }
            Step::Session(DeliveryStep { messages, target: Target::Each }) => {
                vec![RunStep::Each { messages, mode: Mode::Large }]
            }
            Step::Page(DeliveryStep { messages, target }) => {
                messages.into_iter().map(|message| RunStep::Page { message, target, keeps: false }).collect()
            }
            Step::Session(DeliveryStep { messages, target }) => vec![RunStep::Session { messages, target }],
            Step::Notify(step) => vec![RunStep::Notify {
                messages: step.messages,
                fetch_deadline: step.fetch_deadline,
                push_after: step.afterwards == AfterDeadline::Push,
            }],
            Step::Hold(step) => vec![RunStep::Hold { messages: step.messages, until: step.until }],
            Step::Discard(step) => vec![RunStep::Discard { messages: step.messages, report: step.report }],
            Step::HandOver(step) => vec![RunStep::HandOver { messages: step.messages, target: step.target }],
        }
    }
}

/// What became of a step.
pub(super) enum Carried {
    /// Done; the next one.
    Done,
    /// An attempt began.
    Begun,
    /// Every contact that could take it is busy.
    Busy(RunStep),
}

impl Recipient {
    /// True when the plan came to its end.
    pub(super) fn run_plan(&mut self) -> bool {
        loop {
            let Some(run) = self.push.run_mut() else { return true };
            if !run.current.is_empty() {
                return false;
            }
            let Some(step) = run.steps.pop_front() else {
                if run.open > 0 {
                    return false;
                }
                self.plan_is_done();
                return true;
            };
            match self.carry_out(step) {
                Carried::Done => {}
                Carried::Begun => return false,
                Carried::Busy(step) => {
                    if let Some(run) = self.push.run_mut() {
                        run.steps.push_front(step);
                    }
                    return false;
                }
            }
        }
    }

    fn carry_out(&mut self, step: RunStep) -> Carried {
        if self.contacts.is_empty() {
            self.push.stop();
        }
        let stopped = self.push.is_stopped();
        match step {
            RunStep::Page { .. } | RunStep::Session { .. } | RunStep::Notify { .. } | RunStep::Each { .. }
                if stopped =>
            {
                Carried::Done
            }
            // What was begun for each device is for each of them, whoever names it now.
            RunStep::Page { message, target: Target::Any, .. } if self.is_for_each(message) => {
                self.give_each(&[message], Mode::Page)
            }
            RunStep::Session { messages, target: Target::Any }
                if messages.iter().any(|message| self.is_for_each(*message)) =>
            {
                self.give_each(&messages, Mode::Large)
            }
            RunStep::Each { messages, mode } => self.give_each(&messages, mode),
            RunStep::Copies { messages } => self.wait_for_copies(messages),
            RunStep::Page { message, target, keeps } => self.page(message, target, keeps),
            RunStep::Session { messages, target } => self.session(messages, target),
            RunStep::Notify { messages, fetch_deadline, push_after } => {
                self.announce(messages, fetch_deadline, push_after)
            }
            RunStep::Hold { messages, until } => self.hold(&messages, until),
            RunStep::Discard { messages, report } => self.discard_by_policy(messages, report),
            RunStep::HandOver { messages, target } => self.hand_over_by_policy(&messages, &target),
        }
    }

    fn page(&mut self, message: MessageId, target: Target, keeps: bool) -> Carried {
        if !self.may_go(message) {
            return Carried::Done;
        }
        let contact = match self.choose(&[message], Mode::Page, target) {
            Choice::Contact(contact) => contact,
            Choice::Busy => return Carried::Busy(RunStep::Page { message, target, keeps }),
            Choice::None => return Carried::Done,
        };
        let id = self.next_attempt_id();
        let Some((stored, repetition)) = self.lease(message, Lease::Push(id)) else { return Carried::Done };
        if let Some(entry) = self.queue.get_mut(message) {
            entry.keep = keeps;
        }
        let task = AttemptTask::Page { message: Box::new(stored), repetition };
        self.begin_step(id, contact, task, Kind::Page { message, target })
    }

    fn session(&mut self, messages: Vec<MessageId>, target: Target) -> Carried {
        let messages: Vec<MessageId> = messages.into_iter().filter(|id| self.may_go(*id)).collect();
        if messages.is_empty() {
            return Carried::Done;
        }
        let contact = match self.choose(&messages, Mode::Large, target) {
            Choice::Contact(contact) => contact,
            Choice::Busy => return Carried::Busy(RunStep::Session { messages, target }),
            Choice::None => return Carried::Done,
        };
        let id = self.next_attempt_id();
        let for_it: Vec<MessageId> = messages.into_iter().filter(|message| self.is_for(*message, contact)).collect();
        let leased: Vec<(StoredMessage, u16)> =
            for_it.into_iter().filter_map(|message| self.lease(message, Lease::Push(id))).collect();
        let repetition = leased.first().map_or(0, |(_, repetition)| *repetition);
        let messages: Vec<StoredMessage> = leased.into_iter().map(|(stored, _)| stored).collect();
        let ids = messages.iter().map(|stored| stored.id).collect();
        let task = AttemptTask::Session { messages, repetition };
        self.begin_step(id, contact, task, Kind::Session { messages: ids, target })
    }

    pub(super) fn begin_step(&mut self, id: AttemptId, contact: ContactId, task: AttemptTask, kind: Kind) -> Carried {
        if let Some(run) = self.push.run_mut() {
            run.current.push(id);
        }
        self.start(id, Some(contact), task, kind);
        Carried::Begun
    }

    /// It still waits, nobody works on it and its time is not up.
    pub(super) fn may_go(&self, id: MessageId) -> bool {
        self.queue.get(id).is_some_and(|entry| entry.may_go(self.now))
    }

    /// The contact's device does not have it yet.
    fn is_for(&self, id: MessageId, contact: ContactId) -> bool {
        let device = self.contacts.get(contact).map(|reach| reach.contact.device.as_str());
        let stored = self.queue.get(id).map(|entry| &entry.stored);
        matches!((device, stored), (Some(device), Some(stored)) if !super::contacts::has_it(stored, device))
    }

    /// From now on this attempt works on it. Returns what is to be sent, and how often it was sent before.
    pub(super) fn lease(&mut self, id: MessageId, lease: Lease) -> Option<(StoredMessage, u16)> {
        let entry = self.queue.get_mut(id)?;
        entry.lease = Some(lease);
        entry.held = false;
        entry.keep = false;
        let repetition = entry.sent;
        entry.sent = entry.sent.saturating_add(1);
        Some((entry.stored.clone(), repetition))
    }

    /// The contact for a step. One that is gone meanwhile counts as "any".
    fn choose(&self, messages: &[MessageId], mode: Mode, target: Target) -> Choice {
        let named = match target {
            Target::Contact(contact) if self.contacts.get(contact).is_some() => Some(contact),
            _ => None,
        };
        let mut some_are_busy = false;
        for reach in self.contacts.iter() {
            let takes = |id: &MessageId| self.queue.get(*id).is_some_and(|entry| reach.takes(&entry.stored, mode));
            if named.is_some_and(|named| named != reach.contact.id) || reach.contact.expires_at <= self.now {
                continue;
            }
            if !messages.iter().any(takes) {
                continue;
            }
            if reach.is_free() {
                return Choice::Contact(reach.contact.id);
            }
            some_are_busy = true;
        }
        if some_are_busy { Choice::Busy } else { Choice::None }
    }

    fn hold(&mut self, messages: &[MessageId], until: Option<Timestamp>) -> Carried {
        let earliest = self.now.after(self.limits.min_ask_interval);
        let latest = self.now.after(self.limits.max_hold).max(earliest);
        let until = until.map(|until| until.clamp(earliest, latest));
        for id in messages {
            self.end_copies(*id);
            if let Some(entry) = self.queue.get_mut(*id).filter(|entry| entry.lease.is_none()) {
                entry.held = until.is_none();
                if entry.stored.not_before != until {
                    entry.stored.not_before = until;
                    // What was held until a time did not fail; else it would stop those behind it.
                    if until.is_some() {
                        entry.stored.last_failure = None;
                    }
                    entry.unsaved = true;
                }
            }
        }
        self.save_marked();
        Carried::Done
    }

    fn discard_by_policy(&mut self, messages: Vec<MessageId>, report: bool) -> Carried {
        let mut draft = Draft::default();
        for id in messages {
            if self.queue.get(id).is_some_and(|entry| entry.lease.is_none()) {
                let event = Event::Discarded(Some(id), String::from("policy"));
                self.draft_removal(&mut draft, Removal { id, event, report });
            }
        }
        self.submit(draft);
        Carried::Done
    }

    fn hand_over_by_policy(&mut self, messages: &[MessageId], target: &str) -> Carried {
        for id in messages {
            if let Some(entry) = self.queue.get_mut(*id).filter(|entry| entry.lease.is_none()) {
                entry.stored.message.hand_over_to = Some(target.to_owned());
                entry.stored.not_before = None;
                entry.stored.last_failure = None;
                entry.unsaved = true;
                self.hand_overs.note_waiting();
            }
        }
        self.save_marked();
        Carried::Done
    }

    /// Steps for messages of which was said before how they are to go.
    pub(super) fn direct_steps(&self, ids: &[MessageId]) -> VecDeque<RunStep> {
        let mut offered: Vec<(Offered, Option<ContactId>)> = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(entry) = self.queue.get(*id) else { continue };
            let mut message = self.offered(entry);
            message.waits = false;
            match entry.direct.and_then(|direct| direct.mode) {
                Some(Mode::Page) => (message.page_refused, message.large_refused) = (false, true),
                Some(Mode::Large) => (message.page_refused, message.large_refused) = (true, false),
                None => {}
            }
            let named = entry.direct.and_then(|direct| direct.contact);
            offered.push((message, named.filter(|contact| self.contacts.get(*contact).is_some())));
        }
        let mut steps = VecDeque::new();
        // What is for different contacts goes in different steps.
        for group in offered.chunk_by(|(_, one), (_, other)| one == other) {
            let messages: Vec<&Offered> = group.iter().map(|(message, _)| message).collect();
            let contact = group.first().and_then(|(_, contact)| *contact);
            let target = contact.map_or(Target::Any, Target::Contact);
            for step in fallback::deliveries(&messages).into_iter().flat_map(RunStep::from_plan) {
                steps.push_back(step.to(target));
            }
        }
        steps
    }
}

impl RunStep {
    /// The same, for this target.
    fn to(self, target: Target) -> RunStep {
        match self {
            RunStep::Page { message, keeps, .. } => RunStep::Page { message, target, keeps },
            RunStep::Session { messages, .. } => RunStep::Session { messages, target },
            step => step,
        }
    }
}

enum Choice {
    Contact(ContactId),
    Busy,
    None,
}
