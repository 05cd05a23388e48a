//! A plan under construction: steps in the order in which their first message comes.

use crate::bindings::restante::policy::types::{
    AfterDeadline, DeliveryStep, HoldStep, MessageKind, NotifyStep, Plan, Step, Target, WaitingMessage,
};

/// Which messages share a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All of one original sender: what deployed clients expect.
    BySender,
    /// All, with this contact: it registered the CPM deferred delivery feature tag.
    All(u64),
}

/// Collects steps.
pub struct Planner<'a> {
    sharing: Sharing,
    steps: Vec<Step>,
    /// Which step is the session of which group.
    sessions: Vec<(Group<'a>, usize)>,
    ask_again_at: Option<u64>,
}

/// What has a session of its own. Dispositions never travel with messages.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Group<'a> {
    kind: MessageKind,
    /// None: everybody's.
    sender: Option<&'a str>,
}

impl<'a> Planner<'a> {
    /// An empty plan.
    pub fn new(sharing: Sharing) -> Self {
        Planner { sharing, steps: Vec::new(), sessions: Vec::new(), ask_again_at: None }
    }

    /// This message goes in page mode.
    pub fn page(&mut self, message: &WaitingMessage) {
        match self.steps.last_mut() {
            Some(Step::Page(step)) => step.messages.push(message.id),
            _ => self.steps.push(Step::Page(DeliveryStep { messages: vec![message.id], target: Target::Any })),
        }
    }

    /// This message goes in its group's session.
    pub fn session(&mut self, message: &'a WaitingMessage) {
        let (sender, target) = match self.sharing {
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

    /// This message is announced.
    pub fn notify(&mut self, message: &WaitingMessage, fetch_deadline: u64, afterwards: AfterDeadline) {
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
    pub fn hold(&mut self, message: &WaitingMessage, until: Option<u64>) {
        self.ask_again_at = match (self.ask_again_at, until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        match self.steps.last_mut() {
            Some(Step::Hold(step)) if step.until == until => step.messages.push(message.id),
            _ => self.steps.push(Step::Hold(HoldStep { messages: vec![message.id], until })),
        }
    }

    /// The plan. It is asked for again when the first of the held messages may go.
    pub fn finish(self) -> Plan {
        Plan { steps: self.steps, ask_again_at: self.ask_again_at }
    }
}
