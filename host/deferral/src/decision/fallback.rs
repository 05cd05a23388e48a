//! What happens when a policy does not decide: it said `err`, trapped, took too long or too much memory, was not asked
//! because too much waits, or gave an answer that cannot be carried out. This is the one place where that is written
//! down. It loses nothing, and every use is counted ([`crate::participating_function::Event::FellBack`]).
//!
//! | hook | without an answer |
//! |---|---|
//! | `on-incoming`, invitation | let it come |
//! | `on-incoming`, complete | keep until the sender's expiry, else the default; priority 100; deliver at once when possible |
//! | `on-available` | what is announced or held until a time stays so; dispositions, and up to [`FEW`] messages that fit, in MESSAGEs; the rest in one session per sender; what fits neither is held |
//! | `on-pull` | everything asked for, in the session, keeping no copy |
//! | `on-failure` | again after 30 s, 2 min, 10 min, 1 h, in the other mode when this one was refused; then wait for a registration or refresh |
//! | `on-failure` of a pull | wait: the client asks again |
//! | `on-expiry` | drop, and tell the sender if it asked |

use super::answer::{
    DeliveryStep, ExpiryAction, FailureAction, IncomingAnswer, Keep, Plan, PullDelivery, Retry, Step, Target,
};
use super::question::AttemptKind;
use super::validate::Offered;
use crate::model::{Duration, MessageId, MessageKind, Mode, Timestamp};

/// Up to so many messages go in MESSAGEs.
pub const FEW: usize = 3;
/// Priority of what is kept.
pub const PRIORITY: u8 = 100;

/// Waits between attempts; after the last the recipient has to show up.
const SCHEDULE: [Duration; 4] =
    [Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600), Duration::from_secs(3600)];

/// `on-incoming`: keep.
#[must_use]
pub fn incoming(now: Timestamp, senders_expiry: Option<Timestamp>, default_keep: Duration) -> IncomingAnswer {
    let expires_at = senders_expiry.unwrap_or(now.after(default_keep));
    IncomingAnswer::Keep(Keep { expires_at, priority: PRIORITY, deliver_now: true })
}

/// `on-available`: push.
#[must_use]
pub fn available(offered: &[Offered]) -> Plan {
    let ready: Vec<&Offered> = offered.iter().filter(|message| !message.waits).collect();
    Plan { steps: deliveries(&ready), ask_again_at: None }
}

/// Steps that push these messages, whatever mode each needs. Order is kept among what goes the same way.
#[must_use]
pub fn deliveries(messages: &[&Offered]) -> Vec<Step> {
    let few = messages.iter().filter(|message| message.kind == MessageKind::Message).count() <= FEW;
    let mut steps: Vec<Step> = Vec::new();
    // Per sender, and per contact that can take a session of this sender's messages.
    let mut sessions: Vec<(&Offered, usize)> = Vec::new();
    for message in messages {
        let page = !message.page_refused && !message.page_contacts.is_empty();
        let large = !message.large_refused && !message.large_contacts.is_empty();
        let mode = match (page, large) {
            (true, false) => Mode::Page,
            (false, true) => Mode::Large,
            (true, true) if few || message.kind == MessageKind::Disposition => Mode::Page,
            (true, true) => Mode::Large,
            // Refused both ways: whatever the contacts can do at all, once per availability.
            (false, false) if !message.page_contacts.is_empty() => Mode::Page,
            (false, false) if !message.large_contacts.is_empty() => Mode::Large,
            (false, false) => continue,
        };
        if mode == Mode::Page {
            match steps.last_mut() {
                Some(Step::Page(step)) => step.messages.push(message.id),
                _ => steps.push(Step::Page(any(message.id))),
            }
            continue;
        }
        let known = sessions.iter().find(|(first, _)| {
            first.sender == message.sender
                && first.kind == message.kind
                && first.large_contacts == message.large_contacts
        });
        match known.and_then(|(_, index)| steps.get_mut(*index)) {
            Some(Step::Session(step)) => step.messages.push(message.id),
            _ => {
                sessions.push((message, steps.len()));
                steps.push(Step::Session(any(message.id)));
            }
        }
    }
    steps
}

/// `on-pull`: everything.
#[must_use]
pub fn pull(offered: &[MessageId]) -> PullDelivery {
    PullDelivery { messages: offered.to_vec(), mode: Mode::Large, keep_copy: false }
}

/// One failed message, as far as the schedule needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What was attempted.
    pub attempt: AttemptKind,
    /// Attempts since the recipient last became available, this one included.
    pub attempts: u16,
    /// A device refused it in page mode.
    pub page_refused: bool,
    /// A device refused it in large message mode.
    pub large_refused: bool,
    /// Some contact takes it in page mode.
    pub fits_page: bool,
    /// Some contact takes it in large message mode.
    pub fits_large: bool,
}

/// `on-failure`: the built-in schedule.
#[must_use]
pub fn failure(failed: Failed) -> FailureAction {
    if failed.attempt == AttemptKind::Pull {
        return FailureAction::Wait;
    }
    let Some(after) = SCHEDULE.get(usize::from(failed.attempts.saturating_sub(1))) else {
        return FailureAction::Wait;
    };
    let again = |mode| FailureAction::Retry(Retry { after_milliseconds: after.0, mode, contact: None });
    match failed.attempt {
        AttemptKind::HandOver => again(None),
        // Announcing did not work, so they are pushed.
        AttemptKind::Notification if failed.fits_page => again(Some(Mode::Page)),
        AttemptKind::Notification if failed.fits_large => again(Some(Mode::Large)),
        _ if failed.page_refused && !failed.large_refused && failed.fits_large => again(Some(Mode::Large)),
        _ if failed.large_refused && !failed.page_refused && failed.fits_page => again(Some(Mode::Page)),
        _ if failed.page_refused && failed.large_refused => FailureAction::Wait,
        _ => again(None),
    }
}

/// `on-expiry`: let it go, with a report.
#[must_use]
pub fn expiry() -> ExpiryAction {
    ExpiryAction::Drop(true)
}

fn any(message: MessageId) -> DeliveryStep {
    DeliveryStep { messages: vec![message], target: Target::Any }
}
