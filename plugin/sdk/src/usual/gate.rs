//! Which of the waiting messages may go now.

use crate::types::{Availability, Context, LastResult, Origin, Trigger, WaitingMessage};

/// Answers of a device that refuse the form of a message and not the message. 400 and 500 are what clients say to
/// whatever they do not know.
const REFUSALS_OF_FORM_BY_DEVICE: [u16; 10] = [400, 405, 406, 413, 415, 420, 488, 500, 501, 606];
/// The same from anybody on the way.
const REFUSALS_OF_FORM: [u16; 4] = [405, 415, 488, 501];

/// Whether this answer is about how the message came, so that another way may do.
pub fn refuses_form(origin: Origin, status: Option<u16>) -> bool {
    let Some(status) = status else { return false };
    match origin {
        Origin::Device => REFUSALS_OF_FORM_BY_DEVICE.contains(&status),
        Origin::Core => REFUSALS_OF_FORM.contains(&status),
        Origin::Timeout | Origin::Transport => false,
    }
}

/// Whether a message may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It may.
    Ready,
    /// It waits until then; none: until the recipient registers or refreshes.
    Waits(Option<u64>),
}

/// Says for one message after the other, in delivery order, whether it may go.
///
/// A message that waits because the recipient could not be reached holds those behind it: they would overtake it, and
/// meet the same. One whose form was refused holds nobody.
///
/// A registration, or the operator's word, is a new beginning: nothing waits for a time that was set before. A refresh
/// only ends the waiting that had no end.
pub struct Gate {
    now: u64,
    most_attempts: usize,
    /// Nothing waits for a time.
    begins_anew: bool,
    /// The recipient was just heard of: what was given up until then is tried again.
    reopened: bool,
    /// What those behind wait for.
    closed: Option<Option<u64>>,
}

impl Gate {
    /// For one question. What failed more often than `most_attempts` waits for the recipient to be heard of.
    #[must_use]
    pub fn new(most_attempts: usize, context: &Context, availability: &Availability) -> Gate {
        let begins_anew = matches!(availability.trigger, Trigger::Registered | Trigger::Reported | Trigger::Operator);
        let reopened = begins_anew || availability.trigger == Trigger::Refreshed;
        Gate { now: context.now, most_attempts, begins_anew, reopened, closed: None }
    }

    /// Whether this message, the next in order, may go.
    pub fn pass(&mut self, message: &WaitingMessage) -> Readiness {
        if let Some(until) = self.closed {
            return Readiness::Waits(later(until, message.not_before));
        }
        let Some(until) = self.waits_for(message) else { return Readiness::Ready };
        let LastResult { status, origin, .. } = match message.last_failure {
            Some(result) => result,
            None => LastResult { at: 0, status: None, origin: Origin::Timeout },
        };
        if !refuses_form(origin, status) {
            self.closed = Some(until);
        }
        Readiness::Waits(until)
    }

    /// None when it does not wait.
    fn waits_for(&self, message: &WaitingMessage) -> Option<Option<u64>> {
        let unreachable = message.last_failure.is_some_and(|result| !refuses_form(result.origin, result.status));
        if unreachable && !self.reopened && usize::from(message.attempts) > self.most_attempts {
            return Some(None);
        }
        message.not_before.filter(|not_before| !self.begins_anew && *not_before > self.now).map(Some)
    }
}

/// The later of two times; none is "until the recipient is heard of".
fn later(until: Option<u64>, not_before: Option<u64>) -> Option<u64> {
    until.map(|until| until.max(not_before.unwrap_or(0)))
}
