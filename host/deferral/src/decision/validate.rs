//! Whether an answer can be carried out. What cannot counts as no answer: [`super::fallback`] decides instead.

use std::collections::BTreeSet;

use super::answer::{
    DeliveryStep, ExpiryAction, ExpiryAnswer, FailureAction, FailureAnswer, IncomingAnswer, Keep, Plan, PullDelivery,
    Rejection, Step, Target,
};
use crate::model::{ContactId, Duration, ExpirySource, MessageId, MessageKind, Mode, Timestamp};

/// Longest reason phrase, in bytes.
pub const MAX_REASON_BYTES: usize = 80;
/// A client is given at least this long to fetch.
pub const MIN_FETCH_TIME: Duration = Duration::from_secs(1);

/// Why an answer cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// Not among those that were shown.
    #[error("unknown message")]
    UnknownMessage,
    /// A message is named twice.
    #[error("a message is named twice")]
    NamedTwice,
    /// Not among those that were shown.
    #[error("unknown contact")]
    UnknownContact,
    /// The message is too large, or no MESSAGE, or the contact takes none.
    #[error("page mode is not possible")]
    NotPage,
    /// The contact takes no INVITE with MSRP.
    #[error("large message mode is not possible")]
    NotLarge,
    /// Status, reason or Retry-After.
    #[error("not a refusal")]
    NotARefusal,
    /// A time that has passed.
    #[error("a time in the past")]
    Past,
    /// More steps than messages could need.
    #[error("too many steps")]
    TooManySteps,
    /// Not configured.
    #[error("unknown hand-over target")]
    UnknownTarget,
    /// The sender set it.
    #[error("the expiry is the sender's")]
    SendersExpiry,
    /// Only a device that refuses a page-mode message for good ends it.
    #[error("giving up, though no device refused it for good")]
    NotForGood,
}

/// What is known of a message that a policy was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Its number.
    pub id: MessageId,
    /// What it is.
    pub kind: MessageKind,
    /// Groups messages of one sender: its canonical address.
    pub sender: crate::model::CanonicalAddress,
    /// A device refused it in page mode.
    pub page_refused: bool,
    /// A device refused it in large message mode.
    pub large_refused: bool,
    /// It is announced, or held until a time, and that time has not come.
    pub waits: bool,
    /// Contacts that it can go to in page mode.
    pub page_contacts: Vec<ContactId>,
    /// Contacts that it can go to in large message mode.
    pub large_contacts: Vec<ContactId>,
}

impl Offered {
    fn contacts(&self, mode: Mode) -> &[ContactId] {
        match mode {
            Mode::Page => &self.page_contacts,
            Mode::Large => &self.large_contacts,
        }
    }
}

/// What an answer to `on-available` is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The time.
    pub now: Timestamp,
    /// What was shown.
    pub messages: &'a [Offered],
    /// The contacts, best first.
    pub contacts: &'a [ContactId],
    /// Configured targets.
    pub hand_over_targets: &'a [String],
}

/// Checks a refusal.
///
/// # Errors
/// [`Impossible::NotARefusal`]
pub fn rejection(rejection: &Rejection) -> Result<(), Impossible> {
    let status_is_ours_to_give = matches!(rejection.status, 400..=699) && !matches!(rejection.status, 401 | 407 | 503);
    let printable = !rejection.reason.chars().any(char::is_control);
    if status_is_ours_to_give && printable && rejection.reason.len() <= MAX_REASON_BYTES {
        Ok(())
    } else {
        Err(Impossible::NotARefusal)
    }
}

/// Checks an answer to `on-incoming`. `stores` is false for a message that is never stored (`Expires: 0`).
///
/// # Errors
/// [`Impossible`]
pub fn incoming(answer: &IncomingAnswer, now: Timestamp, stores: bool, targets: &[String]) -> Result<(), Impossible> {
    let in_time = |keep: &Keep| if stores && keep.expires_at <= now { Err(Impossible::Past) } else { Ok(()) };
    match answer {
        IncomingAnswer::Relay(relay) => in_time(&relay.otherwise),
        IncomingAnswer::Keep(keep) => in_time(keep),
        IncomingAnswer::Reject(refusal) => rejection(refusal),
        IncomingAnswer::HandOver(target) => known_target(target, targets),
        IncomingAnswer::Discard(_) => Ok(()),
    }
}

/// Checks an answer to `on-available`.
///
/// # Errors
/// [`Impossible`]
pub fn plan(plan: &Plan, situation: Situation<'_>) -> Result<(), Impossible> {
    // Each message is in one step at most; a few empty ones are tolerated.
    if plan.steps.len() > situation.messages.len().saturating_add(8) {
        return Err(Impossible::TooManySteps);
    }
    let mut named = BTreeSet::new();
    for step in &plan.steps {
        match step {
            Step::Page(step) => delivery(step, Mode::Page, situation)?,
            Step::Session(step) => delivery(step, Mode::Large, situation)?,
            Step::Notify(step) if step.fetch_deadline < situation.now.after(MIN_FETCH_TIME) => {
                return Err(Impossible::Past);
            }
            Step::HandOver(step) => known_target(&step.target, situation.hand_over_targets)?,
            Step::Notify(_) | Step::Hold(_) | Step::Discard(_) => {}
        }
        for id in step.messages() {
            known_message(situation.messages, *id)?;
            if !named.insert(*id) {
                return Err(Impossible::NamedTwice);
            }
        }
    }
    Ok(())
}

/// Checks the messages of an answer to `on-pull`. `fits` tells whether a message can go in the mode to the client's
/// contact.
///
/// # Errors
/// [`Impossible`]
pub fn pull(
    delivery: &PullDelivery,
    offered: &[MessageId],
    mut fits: impl FnMut(MessageId) -> bool,
) -> Result<(), Impossible> {
    let mut named = BTreeSet::new();
    for id in &delivery.messages {
        if !offered.contains(id) {
            return Err(Impossible::UnknownMessage);
        }
        if !named.insert(*id) {
            return Err(Impossible::NamedTwice);
        }
        if delivery.mode == Mode::Page && !fits(*id) {
            return Err(Impossible::NotPage);
        }
    }
    Ok(())
}

/// Checks an answer to `on-failure`.
///
/// # Errors
/// [`Impossible`]
pub fn failure(
    answers: &[FailureAnswer],
    failed: &[MessageId],
    now: Timestamp,
    targets: &[String],
) -> Result<(), Impossible> {
    each_once(answers.iter().map(|answer| answer.message), failed)?;
    for answer in answers {
        match &answer.action {
            FailureAction::Notify(deadline) if *deadline < now.after(MIN_FETCH_TIME) => return Err(Impossible::Past),
            FailureAction::HandOver(target) => known_target(target, targets)?,
            _ => {}
        }
    }
    Ok(())
}

/// Checks an answer to `on-expiry`.
///
/// # Errors
/// [`Impossible`]
pub fn expiry(
    answers: &[ExpiryAnswer],
    expired: &[(MessageId, ExpirySource)],
    now: Timestamp,
    targets: &[String],
) -> Result<(), Impossible> {
    let ids: Vec<MessageId> = expired.iter().map(|(id, _)| *id).collect();
    each_once(answers.iter().map(|answer| answer.message), &ids)?;
    for answer in answers {
        match &answer.action {
            ExpiryAction::Extend(until) => {
                if *until <= now {
                    return Err(Impossible::Past);
                }
                if expired.contains(&(answer.message, ExpirySource::Sender)) {
                    return Err(Impossible::SendersExpiry);
                }
            }
            ExpiryAction::HandOver(target) => known_target(target, targets)?,
            ExpiryAction::Drop(_) => {}
        }
    }
    Ok(())
}

/// Whether a device's refusal ends a message: the device itself refused one page-mode message for good. The same code
/// from anybody else means unregistered, misrouted or misconfigured; 6xx to a session refuses the session.
#[must_use]
pub fn is_permanent(origin: crate::model::Origin, page_mode: bool, status: Option<u16>) -> bool {
    page_mode && origin == crate::model::Origin::Device && matches!(status, Some(403 | 404 | 410 | 600..=699))
}

fn delivery(step: &DeliveryStep, mode: Mode, situation: Situation<'_>) -> Result<(), Impossible> {
    if let Target::Contact(contact) = step.target
        && !situation.contacts.contains(&contact)
    {
        return Err(Impossible::UnknownContact);
    }
    for id in &step.messages {
        let contacts = known_message(situation.messages, *id)?.contacts(mode);
        let possible = match step.target {
            Target::Any | Target::Each => !contacts.is_empty(),
            Target::Contact(contact) => contacts.contains(&contact),
        };
        if !possible {
            return Err(if mode == Mode::Page { Impossible::NotPage } else { Impossible::NotLarge });
        }
    }
    Ok(())
}

fn known_message(messages: &[Offered], id: MessageId) -> Result<&Offered, Impossible> {
    messages.iter().find(|message| message.id == id).ok_or(Impossible::UnknownMessage)
}

fn known_target(target: &str, targets: &[String]) -> Result<(), Impossible> {
    if targets.iter().any(|known| known == target) { Ok(()) } else { Err(Impossible::UnknownTarget) }
}

fn each_once(named: impl Iterator<Item = MessageId>, shown: &[MessageId]) -> Result<(), Impossible> {
    let mut seen = BTreeSet::new();
    for id in named {
        if !shown.contains(&id) {
            return Err(Impossible::UnknownMessage);
        }
        if !seen.insert(id) {
            return Err(Impossible::NamedTwice);
        }
    }
    Ok(())
}
