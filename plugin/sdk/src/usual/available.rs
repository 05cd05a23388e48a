//! `on-available`: what goes out now, how, and what waits.
//!
//! - Hold: everything waits until the client asks.
//! - Push: up to `few` messages that all fit page mode go as MESSAGEs; more, or any large one, go in sessions, one for
//!   each original sender in the order of each one's oldest message, or a single one for a contact that registered the
//!   CPM deferred delivery feature tag.
//! - Pull: the few go as MESSAGEs too. More are announced, and pushed when they are not fetched in time. A client that
//!   registers is told again of what it was told before, with the same deadline. A recipient who cannot be told is sent
//!   the messages.
//! - Dispositions do not count, go as MESSAGEs, else in sessions of their own, and are never announced.
//! - What was refused in one mode goes in the other; what was refused in both is announced once.

use super::Usual;
use super::gate::{Gate, Readiness};
use crate::plan::Planner;
use crate::types::{AfterDeadline, Availability, Context, Delivery, MessageKind, Plan, Trigger, WaitingMessage};
use crate::ways::Ways;

/// A client is given at least this long to fetch.
const MIN_FETCH_MILLISECONDS: u64 = 1_000;

/// Makes the plan.
pub(super) fn decide(usual: &Usual<'_>, context: &Context, availability: &Availability) -> Plan {
    let mut planner = Planner::new(Ways::of(context, &availability.contacts).sharing());
    place(usual, context, availability, availability.messages.iter(), &mut planner);
    planner.finish()
}

/// Puts some of the messages into a plan.
pub(super) fn place<'m>(
    usual: &Usual<'_>,
    context: &Context,
    availability: &'m Availability,
    messages: impl Iterator<Item = &'m WaitingMessage>,
    planner: &mut Planner<'m>,
) {
    planner.to_each_device(usual.to_each_device);
    let ways = Ways::of(context, &availability.contacts);
    let mut gate = Gate::new(usual.retry_milliseconds.len(), context, availability);
    let mut ready = Vec::with_capacity(availability.messages.len());
    for message in messages {
        if usual.delivery == Delivery::Hold {
            planner.hold(message, None);
            continue;
        }
        match gate.pass(message) {
            Readiness::Ready => ready.push(message),
            Readiness::Waits(until) => planner.hold(message, until),
        }
    }
    let few = are_few(usual, &ways, &ready, availability.not_shown);
    let situation = Situation {
        now: context.now,
        fetch_deadline: usual.fetch_deadline(context),
        registered: matches!(availability.trigger, Trigger::Registered | Trigger::Reported),
        can_notify: availability.can_notify,
        announce: usual.delivery == Delivery::Pull && availability.can_notify,
        few,
        ways,
    };
    for message in ready {
        situation.place(message, planner);
    }
}

/// Whether all that is there are a few messages for page mode.
fn are_few(usual: &Usual<'_>, ways: &Ways<'_>, ready: &[&WaitingMessage], not_shown: u32) -> bool {
    let mut messages = ready.iter().filter(|message| message.kind == MessageKind::Message);
    let count = messages.clone().count().saturating_add(usize::try_from(not_shown).unwrap_or(usize::MAX));
    count <= usize::try_from(usual.few).unwrap_or(usize::MAX) && messages.all(|message| ways.fits_page(message))
}

/// What decides where a message goes.
struct Situation<'a> {
    now: u64,
    fetch_deadline: u64,
    /// The client may have forgotten what it was told.
    registered: bool,
    can_notify: bool,
    /// The recipient wants to be told, and can be.
    announce: bool,
    few: bool,
    ways: Ways<'a>,
}

impl Situation<'_> {
    fn place<'m>(&self, message: &'m WaitingMessage, planner: &mut Planner<'m>) {
        let announce = self.announce && message.kind == MessageKind::Message;
        match message.fetch_deadline {
            Some(deadline) if announce && deadline > self.now => {
                if self.registered && deadline >= self.now.saturating_add(MIN_FETCH_MILLISECONDS) {
                    planner.notify(message, deadline, AfterDeadline::Push);
                } else {
                    planner.hold(message, Some(deadline));
                }
            }
            None if announce && !(self.few && self.ways.can_page(message)) => {
                planner.notify(message, self.fetch_deadline, AfterDeadline::Push);
            }
            _ => self.push(message, planner),
        }
    }

    fn push<'m>(&self, message: &'m WaitingMessage, planner: &mut Planner<'m>) {
        let can_page = self.ways.can_page(message);
        let can_session = self.ways.can_session(message);
        let page_first = self.few || message.kind == MessageKind::Disposition;
        if can_page && (page_first || !can_session) {
            planner.page(message);
        } else if can_session {
            planner.session(message);
        } else {
            self.announce_at_last(message, planner);
        }
    }

    /// Neither mode is left: the user is told once, and may find another way.
    fn announce_at_last(&self, message: &WaitingMessage, planner: &mut Planner<'_>) {
        if self.can_notify && message.notified_at.is_none() && message.kind == MessageKind::Message {
            planner.notify(message, self.fetch_deadline, AfterDeadline::Ask);
        } else {
            planner.hold(message, message.fetch_deadline.filter(|deadline| *deadline > self.now));
        }
    }
}

#[cfg(test)]
mod tests;
