//! A plan under construction.

use crate::types::{
    AfterDeadline, DeliveryStep, DiscardStep, HandOverStep, HoldStep, MessageKind, NotifyStep, Plan, Step, Target,
    Timestamp, WaitingMessage,
};
use crate::ways::Sharing;

/// Collects the steps of a plan, in the order in which their first message comes. Give each message to one function; one
/// that is given to none is held by the host.
pub struct Planner<'a> {
    sharing: Sharing,
    to_each_device: bool,
    steps: Vec<Step>,
    /// Which step is the session of which group.
    sessions: Vec<(Group<'a>, usize)>,
    ask_again_at: Option<Timestamp>,
}

/// What has a session of its own. Dispositions never travel with messages.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Group<'a> {
    kind: MessageKind,
    /// None: everybody's.
    sender: Option<&'a str>,
}

impl<'a> Planner<'a> {
    /// An empty plan. [`Ways::sharing`](crate::Ways::sharing) says what contacts share sessions by.
    #[must_use]
    pub fn new(sharing: Sharing) -> Self {
        Planner { sharing, to_each_device: false, steps: Vec::new(), sessions: Vec::new(), ask_again_at: None }
    }

    /// From now on messages go to each device instead of to any one.
    pub fn to_each_device(&mut self, each: bool) {
        self.to_each_device = each;
    }

    /// This message goes in page mode, in a MESSAGE of its own.
    pub fn page(&mut self, message: &WaitingMessage) {
        let each = self.to_each_device;
        let target = if each { Target::Each } else { Target::Any };
        match self.steps.last_mut() {
            Some(Step::Page(step)) if matches!(step.target, Target::Each) == each => step.messages.push(message.id),
            _ => self.steps.push(Step::Page(DeliveryStep { messages: vec![message.id], target })),
        }
    }

    /// This message goes in its group's session.
    pub fn session(&mut self, message: &'a WaitingMessage) {
        let (sender, target) = match self.sharing {
            // What one device takes in one session another may not.
            _ if self.to_each_device => (Some(message.sender.as_str()), Target::Each),
            Sharing::BySender => (Some(message.sender.as_str()), Target::Any),
            Sharing::All(contact) => (None, Target::Contact(contact)),
        };
        let group = Group { kind: message.kind, sender };
        // Senders who hide their address are not known to be the same one.
        let known = self.sessions.iter().find(|(other, _)| *other == group && sender != Some(""));
        match known.and_then(|(_, index)| self.steps.get_mut(*index)) {
            Some(Step::Session(step)) => step.messages.push(message.id),
            _ => {
                self.sessions.push((group, self.steps.len()));
                self.steps.push(Step::Session(DeliveryStep { messages: vec![message.id], target }));
            }
        }
    }

    /// This message is announced, may be fetched until then, and after that `afterwards` is done.
    pub fn notify(&mut self, message: &WaitingMessage, fetch_deadline: Timestamp, afterwards: AfterDeadline) {
        let announcement = self.steps.iter_mut().find_map(|step| match step {
            Step::Notify(step) if (step.fetch_deadline, step.afterwards) == (fetch_deadline, afterwards) => Some(step),
            _ => None,
        });
        match announcement {
            Some(step) => step.messages.push(message.id),
            None => {
                self.steps.push(Step::Notify(NotifyStep { messages: vec![message.id], fetch_deadline, afterwards }));
            }
        }
    }

    /// This message waits, until then or until the recipient does something.
    pub fn hold(&mut self, message: &WaitingMessage, until: Option<Timestamp>) {
        if let Some(until) = until {
            self.ask_again_at(until);
        }
        match self.steps.last_mut() {
            Some(Step::Hold(step)) if step.until == until => step.messages.push(message.id),
            _ => self.steps.push(Step::Hold(HoldStep { messages: vec![message.id], until })),
        }
    }

    /// This message is dropped; `report`: its sender is told, if it asked for negative delivery.
    pub fn discard(&mut self, message: &WaitingMessage, report: bool) {
        match self.steps.last_mut() {
            Some(Step::Discard(step)) if step.report == report => step.messages.push(message.id),
            _ => self.steps.push(Step::Discard(DiscardStep { messages: vec![message.id], report })),
        }
    }

    /// This message is given to a target that the operator named.
    pub fn hand_over(&mut self, message: &WaitingMessage, target: &str) {
        match self.steps.last_mut() {
            Some(Step::HandOver(step)) if step.target == target => step.messages.push(message.id),
            _ => {
                let step = HandOverStep { messages: vec![message.id], target: target.to_owned() };
                self.steps.push(Step::HandOver(step));
            }
        }
    }

    /// The policy is asked again then at the latest, if anything still waits.
    pub fn ask_again_at(&mut self, at: Timestamp) {
        self.ask_again_at = Some(self.ask_again_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// The plan. It is asked for again when the first of the held messages may go.
    #[must_use]
    pub fn finish(self) -> Plan {
        Plan { steps: self.steps, ask_again_at: self.ask_again_at }
    }
}
