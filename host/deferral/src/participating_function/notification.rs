//! Announcing messages that a client may fetch.
//!
//! Every contact that can be notified is. A contact that refuses is not notified again until it registers or refreshes;
//! when none is left the messages are pushed.
//!
//! | what happens | then |
//! |---|---|
//! | no contact can be notified | pushed, as the fallback would |
//! | one contact took it | `notified_at` and the fetch deadline are durable |
//! | the last contact did not take it either | `on-failure` |
//! | the deadline passes | `on-available` with that trigger, or pushed |

use super::attempt::{Kind, is_success};
use super::failure::Batch;
use super::plan::{Carried, RunStep};
use super::{AttemptEnd, AttemptTask, Recipient};
use crate::decision::validate::Offered;
use crate::decision::{AttemptKind, Progress, fallback};
use crate::model::{ContactId, MessageId, MessageKind, Origin, StoredMessage, Timestamp};

/// A notification on its way.
#[derive(Debug)]
pub(super) struct Announcement {
    messages: Vec<MessageId>,
    fetch_deadline: Timestamp,
    push_after: bool,
    outstanding: usize,
    taken: bool,
}

impl Recipient {
    pub(super) fn announce(
        &mut self,
        messages: Vec<MessageId>,
        fetch_deadline: Timestamp,
        push_after: bool,
    ) -> Carried {
        let messages: Vec<MessageId> = messages.into_iter().filter(|id| self.may_go(*id)).collect();
        if messages.is_empty() {
            return Carried::Done;
        }
        if !self.contacts.can_notify() {
            self.push_instead(&messages);
            return Carried::Done;
        }
        let free = |reach: &super::contacts::Reach| reach.can_be_notified() && reach.is_free();
        let contacts: Vec<ContactId> =
            self.contacts.iter().filter(|reach| free(reach)).map(|reach| reach.contact.id).collect();
        if contacts.is_empty() {
            return Carried::Busy(RunStep::Notify { messages, fetch_deadline, push_after });
        }
        let listed: Vec<StoredMessage> =
            messages.iter().filter_map(|id| self.queue.get(*id)).map(|entry| entry.stored.clone()).collect();
        let counted = listed.iter().filter(|stored| stored.message.envelope.kind == MessageKind::Message).count();
        let not_shown = self.totals.messages.saturating_sub(u32::try_from(counted).unwrap_or(u32::MAX));
        if let Some(run) = self.push.run_mut() {
            let outstanding = contacts.len();
            run.announcement = Some(Announcement { messages, fetch_deadline, push_after, outstanding, taken: false });
        }
        for contact in contacts {
            let id = self.next_attempt_id();
            let task = AttemptTask::Notify { messages: listed.clone(), not_shown };
            self.begin_step(id, contact, task, Kind::Notify);
        }
        Carried::Begun
    }

    /// Nobody can be notified: what was to be announced is delivered.
    fn push_instead(&mut self, messages: &[MessageId]) {
        let offered: Vec<Offered> =
            messages.iter().filter_map(|id| self.queue.get(*id)).map(|entry| self.offered(entry)).collect();
        let steps = fallback::deliveries(&offered.iter().collect::<Vec<_>>());
        if let Some(run) = self.push.run_mut() {
            for step in steps.into_iter().flat_map(RunStep::from_plan).rev() {
                run.steps.push_front(step);
            }
        }
    }

    pub(super) fn on_notification_ended(&mut self, contact: Option<ContactId>, end: AttemptEnd) {
        let taken = is_success(end.status);
        if !taken
            && end.origin == Origin::Device
            && let Some(contact) = contact
        {
            self.contacts.note_refused_notification(contact);
        }
        let Some(announcement) = self.push.run_mut().and_then(|run| run.announcement.as_mut()) else { return };
        announcement.outstanding = announcement.outstanding.saturating_sub(1);
        let is_first = taken && !announcement.taken;
        announcement.taken |= taken;
        let failed = announcement.outstanding == 0 && !announcement.taken;
        let (fetch_deadline, push_after) = (announcement.fetch_deadline, announcement.push_after);
        let messages = if is_first || failed { announcement.messages.clone() } else { Vec::new() };
        if is_first {
            self.note_announced(&messages, fetch_deadline, push_after);
        }
        if failed {
            let messages = messages.into_iter().map(|id| (id, Progress::Unsent, None)).collect();
            self.fail(Batch::of(AttemptKind::Notification, contact, &end, messages));
        }
    }

    fn note_announced(&mut self, messages: &[MessageId], fetch_deadline: Timestamp, push_after: bool) {
        let now = self.now;
        for id in messages {
            self.end_copies(*id);
            let Some(entry) = self.queue.get_mut(*id) else { continue };
            if entry.lease == Some(super::window::Lease::Removal) {
                continue;
            }
            let stored = &mut entry.stored;
            stored.notified_at = Some(now);
            stored.fetch_deadline = Some(fetch_deadline);
            stored.push_after_deadline = push_after;
            stored.not_before = None;
            stored.last_failure = None;
            entry.held = false;
            entry.unsaved = true;
        }
        self.save_marked();
    }
}
