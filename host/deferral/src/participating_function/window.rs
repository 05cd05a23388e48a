//! The part of a recipient's queue that is in memory.
//!
//! A queue can hold a million rows, so a machine sees it through a window that slides. What is in memory is a run of the
//! queue from its head (or from where the window slid to) up to [`Queue::through`], and strays: messages that were read
//! for a reason of their own (expiry, a retry that is due, a pull that names them) or that arrived just now.
//!
//! A store is read while commits are on their way, so a row that is read may be older than what memory knows. Memory
//! wins over a row; a row whose removal became durable while a load was on its way is remembered and ignored.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::{AttemptId, QuestionToken};
use crate::commit::MessageState;
use crate::model::{Body, ContactId, LastResult, MessageId, MessageKind, Mode, Origin, StoredMessage, Timestamp};

/// A message's place in delivery order: priority falling, number rising.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    priority: Reverse<u8>,
    id: MessageId,
}

impl Place {
    pub(super) fn new(priority: u8, id: MessageId) -> Place {
        Place { priority: Reverse(priority), id }
    }

    pub(super) fn of(stored: &StoredMessage) -> Place {
        Place::new(stored.message.priority, stored.id)
    }

    /// As a store's cursor.
    pub(super) fn cursor(self) -> (u8, MessageId) {
        (self.priority.0, self.id)
    }
}

/// Who works on a message. At most one does, so that a pull cannot race a push; copies for several devices are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// A plan's attempt.
    Push(AttemptId),
    /// Copies for devices: with each of them one of [`Entry::copies`].
    Copies,
    /// A relayed request that was kept meanwhile.
    Relay(AttemptId),
    /// A client's session.
    Pull(AttemptId),
    /// An attempt with a named target.
    HandOver(AttemptId),
    /// `on-failure` is being asked about it.
    Failure(QuestionToken),
    /// `on-expiry` is being asked about it.
    Expiry(QuestionToken),
    /// Its removal is being made durable.
    Removal,
}

/// What is to be done with a message without asking `on-available`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Direct {
    /// In this mode; none: whichever fits.
    pub(super) mode: Option<Mode>,
    /// With this contact; none: any.
    pub(super) contact: Option<ContactId>,
}

/// A message in memory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stored: StoredMessage,
    pub(super) lease: Option<Lease>,
    /// A policy held it without saying until when, or kept it for the next registration.
    pub(super) held: bool,
    /// `on-failure` said how to try again.
    pub(super) direct: Option<Direct>,
    /// Attempts that bring devices their copies.
    pub(super) copies: Vec<AttemptId>,
    /// A plan wanted it for each device, in this mode.
    pub(super) each: Option<Mode>,
    /// It is being sent after a pull in page mode that is to keep a copy: who takes it now leaves it for the others.
    pub(super) keep: bool,
    /// The pass that dealt with it last.
    pub(super) pass: u64,
    /// What memory says of it is not durable yet.
    pub(super) unsaved: bool,
    /// Updates of it on their way to the store.
    pub(super) saving: u32,
    /// Attempts that this machine made, and those that were durable when it began. Never reset, so that no CSeq is used
    /// twice in a machine's life; what is durable is, so that a later machine may use one again.
    pub(super) sent: u16,
    /// The operator dropped it while somebody worked on it; whether to tell the sender.
    pub(super) discard: Option<bool>,
}

/// What follows from looking at a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It may be offered to the policy.
    Ready,
    /// Not now; others may overtake it.
    Aside,
    /// Not now, and nothing behind it either, or the order would be lost.
    Barrier,
}

/// The recipient's side of [`Entry::readiness`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    /// When a registration, a refresh or the operator last reopened the queue.
    pub(super) reopened_at: Timestamp,
    /// This is that reopening: what was held or announced is shown too.
    pub(super) opening: bool,
}

/// A refusal that is about one message's shape or about that message alone. Anything else a device says (busy,
/// temporarily unavailable) is true of the next message too.
pub(super) fn is_about_the_message(status: u16) -> bool {
    matches!(
        status,
        400 | 403
            | 404
            | 405
            | 406
            | 410
            | 413
            | 414
            | 415
            | 416
            | 420
            | 421
            | 423
            | 488
            | 493
            | 500
            | 501
            | 505
            | 513
            | 600..=699
    )
}

/// Whether messages behind one that failed like this have to wait for it.
pub(super) fn stops_the_rest(failure: &LastResult) -> bool {
    failure.origin != Origin::Device || !failure.status.is_some_and(is_about_the_message)
}

impl Entry {
    pub(super) fn new(stored: StoredMessage) -> Entry {
        Entry {
            sent: stored.attempts,
            stored,
            lease: None,
            held: false,
            direct: None,
            copies: Vec::new(),
            each: None,
            keep: false,
            pass: 0,
            unsaved: false,
            saving: 0,
            discard: None,
        }
    }

    fn inline_bytes(&self) -> u64 {
        match &self.stored.message.body {
            Body::Inline(bytes) => bytes.len() as u64,
            Body::Spooled { .. } => 0,
        }
    }

    pub(super) fn place(&self) -> Place {
        Place::new(self.stored.message.priority, self.stored.id)
    }

    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.stored.message.expires_at <= now
    }

    /// It waits, nobody works on it and its time is not up.
    pub(super) fn may_go(&self, now: Timestamp) -> bool {
        self.lease.is_none() && !self.is_expired(now) && self.stored.message.hand_over_to.is_none()
    }

    /// A device acknowledged it.
    pub(super) fn some_device_has_it(&self) -> bool {
        self.stored.devices.iter().any(|state| state.delivered_at.is_some())
    }

    /// Nobody waits for what a policy said of it: it is not held, announced or to be tried later.
    pub(super) fn is_pending(&self, now: Timestamp) -> bool {
        !self.held && self.stored.fetch_deadline.is_none() && self.stored.not_before.is_none_or(|at| at <= now)
    }

    /// When it wants to be looked at, its expiry apart.
    pub(super) fn due(&self) -> Option<Timestamp> {
        match (self.stored.not_before, self.stored.fetch_deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Whether it may be delivered now.
    ///
    /// | what is known of it | reopening | otherwise |
    /// |---|---|---|
    /// | pushed, relayed | barrier | barrier |
    /// | copies on their way to devices, and none has it yet | barrier | barrier |
    /// | copies on their way to further devices | aside | aside |
    /// | pulled, expiring, being removed or handed over, expired | aside | aside |
    /// | failed for good or by its shape, since the last reopening, or kept for another device | aside | aside, until its retry is due |
    /// | failed otherwise, since the last reopening | barrier | barrier, until its retry is due |
    /// | failed before the last reopening | ready | ready |
    /// | held until a time, or announced with a deadline | ready | aside, until then |
    /// | held | ready | aside |
    /// | else | ready | ready |
    pub(super) fn readiness(&self, moment: Moment) -> Readiness {
        let stored = &self.stored;
        let failure = stored.last_failure.filter(|failure| failure.at > moment.reopened_at);
        let failed = match failure {
            Some(failure) if stops_the_rest(&failure) && !self.some_device_has_it() => Readiness::Barrier,
            _ => Readiness::Aside,
        };
        match self.lease {
            Some(Lease::Push(_) | Lease::Relay(_)) => return Readiness::Barrier,
            Some(Lease::Copies) if !self.some_device_has_it() => return Readiness::Barrier,
            Some(Lease::Failure(_)) => return failed,
            Some(_) => return Readiness::Aside,
            None => {}
        }
        if self.is_expired(moment.now) || stored.message.hand_over_to.is_some() {
            return Readiness::Aside;
        }
        match stored.not_before {
            None if failure.is_some() => return failed,
            Some(at) if at > moment.now => {
                let superseded = stored.last_failure.is_some() && failure.is_none();
                if failure.is_some() {
                    return failed;
                }
                if !superseded && !moment.opening {
                    return Readiness::Aside;
                }
            }
            _ => {}
        }
        let announced = stored.fetch_deadline.is_some_and(|deadline| deadline > moment.now);
        if (announced || self.held) && !moment.opening { Readiness::Aside } else { Readiness::Ready }
    }

    /// The part that changes, for a commit.
    pub(super) fn state(&self) -> MessageState {
        let stored = &self.stored;
        MessageState {
            attempts: stored.attempts,
            not_before: stored.not_before,
            last_failure: stored.last_failure,
            page_refused: stored.page_refused,
            large_refused: stored.large_refused,
            notified_at: stored.notified_at,
            fetch_deadline: stored.fetch_deadline,
            push_after_deadline: stored.push_after_deadline,
            expires_at: stored.message.expires_at,
            hand_over_to: stored.message.hand_over_to.clone(),
            devices: stored.devices.clone(),
        }
    }
}

/// The messages in memory.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Each apart: a node of the tree has room for eleven, and most recipients have one or two.
    entries: BTreeMap<Place, Box<Entry>>,
    priorities: HashMap<MessageId, u8>,
    /// Bytes of the inline bodies.
    body_bytes: u64,
    /// Everything durable up to `through` is in memory, from the head of the queue on.
    pub(super) head: bool,
    /// How far the window was read; none: nothing yet.
    pub(super) through: Option<Place>,
    /// Nothing durable lies behind `through` that is not in memory.
    pub(super) end: bool,
    /// Removed while a load was on its way.
    buried: HashSet<MessageId>,
    /// The first place at which something was stored outside memory since the window's last part was asked for.
    elsewhere: Option<Place>,
}

impl Queue {
    /// Everything durable is in memory.
    pub(super) fn is_whole(&self) -> bool {
        self.head && self.end
    }

    /// Nothing that goes before this place is unknown, once the window was read from the head on.
    pub(super) fn covers(&self, place: Place) -> bool {
        self.end || self.through.is_some_and(|through| place <= through)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, id: MessageId) -> Option<&Entry> {
        self.entries.get(&Place::new(*self.priorities.get(&id)?, id)).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, id: MessageId) -> Option<&mut Entry> {
        self.entries.get_mut(&Place::new(*self.priorities.get(&id)?, id)).map(Box::as_mut)
    }

    /// In delivery order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(Box::as_ref)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.values_mut().map(Box::as_mut)
    }

    /// Bytes of the inline bodies in memory.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Takes a row, unless memory knows better. True when it was taken.
    pub(super) fn admit(&mut self, stored: StoredMessage) -> bool {
        if self.buried.contains(&stored.id) || self.priorities.contains_key(&stored.id) {
            return false;
        }
        let entry = Box::new(Entry::new(stored));
        self.body_bytes = self.body_bytes.saturating_add(entry.inline_bytes());
        self.priorities.insert(entry.stored.id, entry.stored.message.priority);
        self.entries.insert(entry.place(), entry);
        true
    }

    /// A message became durable that is in memory, too.
    pub(super) fn note_stored(&mut self, place: Place) {
        if self.end && self.through.is_none_or(|through| place > through) {
            self.through = Some(place);
        }
    }

    /// A message became durable that is not in memory.
    pub(super) fn note_elsewhere(&mut self, place: Place) {
        self.elsewhere = Some(self.elsewhere.map_or(place, |known| known.min(place)));
        match self.through {
            Some(through) if place < through => self.head = false,
            _ => self.end = false,
        }
    }

    /// The queue outside memory may have changed in any way.
    pub(super) fn forget_extent(&mut self) {
        self.note_elsewhere(Place::new(u8::MAX, MessageId(0)));
        self.head = false;
        self.end = false;
    }

    /// The window's next part is asked for: what is stored from now on may be missing in it.
    pub(super) fn begin_part(&mut self) {
        self.elsewhere = None;
    }

    /// The window's next part reaches to `last`; none: it is empty.
    pub(super) fn extend(&mut self, last: Option<Place>, more: bool) {
        self.through = last.or(self.through);
        self.end = !more;
        if let Some(place) = self.elsewhere.take() {
            self.note_elsewhere(place);
        }
    }

    /// The row is gone.
    pub(super) fn remove(&mut self, id: MessageId, loads_on_their_way: bool) -> Option<Entry> {
        if loads_on_their_way {
            self.buried.insert(id);
        }
        let priority = self.priorities.remove(&id)?;
        let entry = self.entries.remove(&Place::new(priority, id))?;
        self.body_bytes = self.body_bytes.saturating_sub(entry.inline_bytes());
        Some(*entry)
    }

    /// No load is on its way any more.
    pub(super) fn settle_loads(&mut self) {
        self.buried.clear();
    }

    /// Lets go of what can be read again: what nobody works on, what is durable as it is, and what holds up nobody.
    /// Returns whether anything went.
    pub(super) fn evict(&mut self, moment: Moment, mut keep: impl FnMut(&Entry) -> bool) -> bool {
        let before = self.entries.len();
        let priorities = &mut self.priorities;
        let body_bytes = &mut self.body_bytes;
        self.entries.retain(|_, entry| {
            let stays = entry.lease.is_some()
                || entry.unsaved
                || entry.saving > 0
                || entry.discard.is_some()
                || entry.readiness(moment) == Readiness::Barrier
                || keep(entry);
            if !stays {
                priorities.remove(&entry.stored.id);
                *body_bytes = body_bytes.saturating_sub(entry.inline_bytes());
            }
            stays
        });
        let went = self.entries.len() < before;
        if went {
            self.head = false;
        }
        went
    }

    /// Begins reading at the head again.
    pub(super) fn rewind(&mut self) {
        if !self.head {
            self.through = None;
            self.end = false;
        }
    }

    /// When the first message of kind `Message` in memory was stored.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.iter()
            .filter(|entry| entry.stored.message.envelope.kind == MessageKind::Message)
            .map(|entry| entry.stored.message.received_at)
            .min()
    }
}
