//! What a tenant uses of the server at this moment, over all shards, so that none takes another's share.
//!
//! A delivery or a session that does not fit waits in its shard. The tenant's [`Share`] remembers which shards wait, in
//! what order; whoever gives something back hands it to the first of them. So nobody has to look again and again, and no
//! shard gets ahead of another.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use restante_deferral::model::{MessageKind, TenantName};
use restante_store::Totals;
use restante_transport::queue::{Lane, QueueSender};

use super::shard::ToShard;
use crate::configuration::TenantBounds;

/// The queues of all shards.
pub type Inboxes = Vec<QueueSender<ToShard>>;

/// One tenant's use of the server.
pub struct Usage {
    /// MSRP sessions.
    pub sessions: Arc<Share>,
    /// Deliveries in flight.
    pub deliveries: Arc<Share>,
    max_stored_messages: AtomicU64,
    max_stored_bytes: AtomicU64,
    /// Of messages that arrived and are not answered yet, and of reports that are not durable yet.
    arriving: Arriving,
    /// Of dispositions among them.
    arriving_dispositions: Arriving,
}

/// What is stored of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Messages.
    pub messages: Totals,
    /// Dispositions, of users and of ours.
    pub dispositions: Totals,
}

/// What is on its way into the store.
#[derive(Default)]
struct Arriving {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// Of what a tenant may store, dispositions have at most this part, so that reports crowd out no messages.
const PART_OF_DISPOSITIONS: u64 = 2;

/// What a share is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// MSRP sessions.
    Sessions,
    /// Deliveries in flight.
    Deliveries,
}

/// So many of something at a time.
pub struct Share {
    tenant: TenantName,
    resource: Resource,
    shards: Weak<Inboxes>,
    state: Mutex<State>,
}

struct State {
    most: u64,
    in_use: u64,
    /// Shards that wait, once for everything of theirs that does.
    line: VecDeque<usize>,
}

/// One of a share, given back when this is dropped.
pub struct Permit {
    share: Arc<Share>,
    /// It came to nobody, and was counted as given back already.
    is_void: bool,
}

/// Room for what has come of a body that is still coming, given back when this is dropped.
pub struct Coming {
    usage: Arc<Usage>,
    bytes: u64,
}

/// Room for one message, given back when this is dropped: when it is stored, and counted there, or refused.
pub struct Room {
    usage: Arc<Usage>,
    /// None, where it takes the place of one.
    messages: u64,
    bytes: u64,
    /// The size of the disposition that it is for.
    of_disposition: Option<u64>,
}

impl Usage {
    /// Of a tenant with these bounds.
    #[must_use]
    pub fn new(tenant: &TenantName, bounds: &TenantBounds, shards: &Weak<Inboxes>) -> Usage {
        let share = |resource, most| {
            Arc::new(Share {
                tenant: tenant.clone(),
                resource,
                shards: shards.clone(),
                state: Mutex::new(State { most, in_use: 0, line: VecDeque::new() }),
            })
        };
        Usage {
            sessions: share(Resource::Sessions, bounds.max_sessions),
            deliveries: share(Resource::Deliveries, bounds.max_deliveries_in_flight),
            max_stored_messages: AtomicU64::new(bounds.max_stored_messages),
            max_stored_bytes: AtomicU64::new(bounds.max_stored_bytes),
            arriving: Arriving::default(),
            arriving_dispositions: Arriving::default(),
        }
    }

    /// The tenant has other bounds from now on. What is in use beyond them is not taken away.
    pub fn set_bounds(&self, bounds: &TenantBounds) {
        self.sessions.set_most(bounds.max_sessions);
        self.deliveries.set_most(bounds.max_deliveries_in_flight);
        self.max_stored_messages.store(bounds.max_stored_messages, Ordering::Relaxed);
        self.max_stored_bytes.store(bounds.max_stored_bytes, Ordering::Relaxed);
    }

    /// Whether one more message of this size fits beside what is stored.
    #[must_use]
    pub fn has_room(&self, stored: Stored, bytes: u64) -> bool {
        self.fits(stored.all(), (self.arriving.messages.load(Ordering::Relaxed).saturating_add(1), bytes), 1)
    }

    /// Room for one more message of this kind and size beside what is stored and what is arriving; none: there is none.
    #[must_use]
    pub fn reserve(self: &Arc<Self>, stored: Stored, kind: MessageKind, bytes: u64) -> Option<Room> {
        self.reserve_for(stored, kind, bytes, self.coming())
    }

    /// The same for a message whose body has come: the room that it took meanwhile is its own.
    #[must_use]
    pub fn reserve_for(
        self: &Arc<Self>,
        stored: Stored,
        kind: MessageKind,
        bytes: u64,
        mut coming: Coming,
    ) -> Option<Room> {
        let room = Room { usage: self.clone(), messages: 1, bytes, of_disposition: of_disposition(kind, bytes) };
        // A tenant that went and came back counts anew.
        let held = if Arc::ptr_eq(self, &coming.usage) { coming.bytes.min(bytes) } else { 0 };
        coming.bytes = coming.bytes.saturating_sub(held);
        self.take(stored, room, held)
    }

    /// For a body of which nothing has come yet.
    #[must_use]
    pub fn coming(self: &Arc<Self>) -> Coming {
        Coming { usage: self.clone(), bytes: 0 }
    }

    /// Room for a disposition of this size in place of a message that goes; none: there is none. Nothing but what it is
    /// larger needs more than there is.
    #[must_use]
    pub fn replace(self: &Arc<Self>, stored: Stored, bytes: u64, replaced_bytes: u64) -> Option<Room> {
        let more = bytes.saturating_sub(replaced_bytes);
        self.take(stored, Room { usage: self.clone(), messages: 0, bytes: more, of_disposition: Some(bytes) }, 0)
    }

    /// Counts a room of which so many bytes are counted already.
    fn take(&self, stored: Stored, room: Room, held: u64) -> Option<Room> {
        // Counted first and looked at then: of two that come at the same moment the last place goes to one at most.
        let all = self.arriving.add(room.messages, room.bytes.saturating_sub(held));
        let dispositions = room.of_disposition.map(|bytes| self.arriving_dispositions.add(1, bytes));
        let needs_nothing = room.messages == 0 && room.bytes == 0;
        let fits = (needs_nothing || self.fits(stored.all(), all, 1))
            && dispositions.is_none_or(|it| self.fits(stored.dispositions, it, PART_OF_DISPOSITIONS));
        fits.then_some(room)
    }

    fn fits(&self, stored: Totals, (messages, bytes): (u64, u64), part: u64) -> bool {
        let most = |limit: &AtomicU64| (limit.load(Ordering::Relaxed) / part).max(1);
        u64::from(stored.messages).saturating_add(messages) <= most(&self.max_stored_messages)
            && stored.size_bytes.saturating_add(bytes) <= most(&self.max_stored_bytes)
    }
}

fn of_disposition(kind: MessageKind, bytes: u64) -> Option<u64> {
    (kind == MessageKind::Disposition).then_some(bytes)
}

impl Stored {
    fn all(&self) -> Totals {
        Totals {
            messages: self.messages.messages.saturating_add(self.dispositions.messages),
            size_bytes: self.messages.size_bytes.saturating_add(self.dispositions.size_bytes),
        }
    }
}

impl Arriving {
    /// So many more; how many there are with them, and their bytes.
    fn add(&self, messages: u64, bytes: u64) -> (u64, u64) {
        let all = self.messages.fetch_add(messages, Ordering::Relaxed).saturating_add(messages);
        (all, self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes))
    }

    fn take(&self, messages: u64, bytes: u64) {
        self.messages.fetch_sub(messages, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Share {
    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    /// What it is of.
    #[must_use]
    pub fn resource(&self) -> Resource {
        self.resource
    }

    /// So many are in use.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.lock().in_use
    }

    /// One, if one is free and nobody waits for it.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Permit> {
        let mut state = self.lock();
        if state.in_use >= state.most || !state.line.is_empty() {
            return None;
        }
        state.in_use = state.in_use.saturating_add(1);
        Some(Permit::of(self))
    }

    /// One; none: this shard stands in line, and [`ToShard::Granted`] comes when it is its turn.
    #[must_use]
    pub fn take_or_wait(self: &Arc<Self>, shard: usize) -> Option<Permit> {
        let permit = self.take();
        if permit.is_none() {
            self.lock().line.push_back(shard);
            // One may have been given back in between, with nobody in line.
            self.grant();
        }
        permit
    }

    fn set_most(self: &Arc<Self>, most: u64) {
        self.lock().most = most;
        self.grant();
    }

    /// Gives what is free to those who wait.
    fn grant(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            if state.in_use >= state.most {
                return;
            }
            let Some(shard) = state.line.pop_front() else { return };
            state.in_use = state.in_use.saturating_add(1);
            drop(state);
            let granted = ToShard::Granted(Permit::of(self));
            let shards = self.shards.upgrade();
            let refused = match shards.as_ref().and_then(|shards| shards.get(shard)) {
                Some(inbox) => inbox.try_push(Lane::Ordered, granted, 64).err().map(|rejected| rejected.item),
                None => Some(granted),
            };
            // A shard that has ended has nothing that waits. Giving its permit back as any other would grant from within.
            if let Some(ToShard::Granted(mut permit)) = refused {
                permit.is_void = true;
                let mut state = self.lock();
                state.in_use = state.in_use.saturating_sub(1);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    fn of(share: &Arc<Share>) -> Permit {
        Permit { share: share.clone(), is_void: false }
    }

    /// What it is of.
    #[must_use]
    pub fn share(&self) -> &Share {
        &self.share
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_void {
            return;
        }
        let mut state = self.share.lock();
        state.in_use = state.in_use.saturating_sub(1);
        let somebody_waits = !state.line.is_empty();
        drop(state);
        if somebody_waits {
            self.share.grant();
        }
    }
}

impl Coming {
    /// So much has come in all. False: there is no room for it beside what is stored and what is arriving.
    #[must_use]
    pub fn grow(&mut self, stored: Stored, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let all = self.usage.arriving.add(0, more);
        let fits = more == 0 || self.usage.fits(stored.all(), all, 1);
        if fits {
            self.bytes = self.bytes.saturating_add(more);
        } else {
            self.usage.arriving.take(0, more);
        }
        fits
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.usage.arriving.take(0, self.bytes);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.usage.arriving.take(self.messages, self.bytes);
        if let Some(bytes) = self.of_disposition {
            self.usage.arriving_dispositions.take(1, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use restante_transport::queue::{QueueLimits, QueueReceiver, channel};

    use super::*;
    use crate::configuration::{Limits, TenantLimits};

    fn bounds(limits: TenantLimits) -> TenantBounds {
        limits.bounds(&Limits::default())
    }

    fn usage(limits: TenantLimits, shards: &Arc<Inboxes>) -> Arc<Usage> {
        Arc::new(Usage::new(&TenantName("t".into()), &bounds(limits), &Arc::downgrade(shards)))
    }

    fn shards(count: usize) -> (Arc<Inboxes>, Vec<QueueReceiver<ToShard>>) {
        let (inboxes, outboxes) = (0..count).map(|_| channel::<ToShard>(QueueLimits::default())).unzip();
        (Arc::new(inboxes), outboxes)
    }

    fn granted(outbox: &mut QueueReceiver<ToShard>) -> Vec<Permit> {
        let mut items = Vec::new();
        outbox.try_pop_batch(&mut items, 100);
        let permit = |item| if let ToShard::Granted(permit) = item { Some(permit) } else { None };
        items.into_iter().filter_map(permit).collect()
    }

    #[test]
    fn what_does_not_fit_is_granted_in_order_as_soon_as_it_does() {
        let (inboxes, mut outboxes) = shards(2);
        let usage = usage(TenantLimits { max_sessions: Some(2), ..TenantLimits::default() }, &inboxes);
        let sessions = &usage.sessions;
        let (one, two) = (sessions.take().unwrap(), sessions.take().unwrap());
        assert!(sessions.take().is_none());
        assert!(sessions.take_or_wait(1).is_none() && sessions.take_or_wait(0).is_none());
        assert!(granted(&mut outboxes[1]).is_empty());
        drop(one);
        assert!(sessions.take().is_none(), "it is another's");
        assert!(granted(&mut outboxes[0]).is_empty(), "not its turn");
        let first = granted(&mut outboxes[1]);
        assert_eq!((first.len(), sessions.in_use()), (1, 2));
        assert_eq!((first[0].share().resource(), &*first[0].share().tenant().0), (Resource::Sessions, "t"));
        drop(first);
        let second = granted(&mut outboxes[0]);
        assert_eq!(second.len(), 1);
        drop((two, second));
        assert_eq!(sessions.in_use(), 0);
        assert!(sessions.take().is_some());
    }

    #[test]
    fn a_larger_share_lets_those_in_who_wait_and_a_smaller_one_takes_nothing_away() {
        let (inboxes, mut outboxes) = shards(1);
        let with = |most| TenantLimits { max_deliveries_in_flight: Some(most), ..TenantLimits::default() };
        let usage = usage(with(1), &inboxes);
        let first = usage.deliveries.take().unwrap();
        assert!((0..3).all(|_| usage.deliveries.take_or_wait(0).is_none()));
        usage.set_bounds(&bounds(with(3)));
        let more = granted(&mut outboxes[0]);
        assert_eq!((more.len(), usage.deliveries.in_use()), (2, 3));
        usage.set_bounds(&bounds(with(1)));
        drop((first, more));
        let last = granted(&mut outboxes[0]);
        assert_eq!((last.len(), usage.deliveries.in_use()), (1, 1));
    }

    #[test]
    fn what_is_given_back_to_shards_that_are_gone_is_free() {
        let (inboxes, outboxes) = shards(1);
        let usage = usage(TenantLimits { max_deliveries_in_flight: Some(1), ..TenantLimits::default() }, &inboxes);
        let first = usage.deliveries.take().unwrap();
        assert!((0..100_000).all(|_| usage.deliveries.take_or_wait(0).is_none()));
        drop((outboxes, inboxes));
        drop(first);
        assert_eq!(usage.deliveries.in_use(), 0);
    }

    #[test]
    fn room_is_counted_with_what_is_stored_and_what_is_on_its_way() {
        let (inboxes, _outboxes) = shards(1);
        let limits =
            TenantLimits { max_stored_messages: Some(3), max_stored_bytes: Some(1_000), ..TenantLimits::default() };
        let usage = usage(limits, &inboxes);
        let stored = |messages, size_bytes| Stored { messages: Totals { messages, size_bytes }, ..Stored::default() };
        let message = MessageKind::Message;
        let one = usage.reserve(stored(1, 0), message, 400).unwrap();
        let two = usage.reserve(stored(1, 0), message, 400).unwrap();
        assert!(usage.reserve(stored(1, 0), message, 1).is_none(), "a fourth message");
        assert!(usage.reserve(stored(0, 0), message, 300).is_none(), "beyond the bytes");
        assert!(!usage.has_room(stored(1, 0), 1));
        assert!(usage.reserve(stored(0, 0), message, 200).is_some(), "what was refused takes no room");
        drop((one, two));
        assert!(usage.has_room(stored(2, 900), 100));
        assert!(!usage.has_room(stored(2, 900), 101));
        assert!(!usage.has_room(stored(3, 0), 1));
    }

    #[test]
    fn what_comes_of_a_body_has_room_that_its_message_takes_over() {
        let (inboxes, _outboxes) = shards(1);
        let usage = usage(TenantLimits { max_stored_bytes: Some(1_000), ..TenantLimits::default() }, &inboxes);
        let (none, message) = (Stored::default(), MessageKind::Message);
        let (mut one, mut two) = (usage.coming(), usage.coming());
        assert!(one.grow(none, 300) && one.grow(none, 600) && one.grow(none, 600));
        assert!(!two.grow(none, 401) && two.grow(none, 400), "what was refused takes no room");
        assert!(usage.reserve(none, message, 1).is_none());
        let one = usage.reserve_for(none, message, 600, one).expect("its own room");
        assert!(!two.grow(none, 401));
        drop(one);
        assert!(usage.reserve_for(none, message, 1_001, two).is_none());
        assert!(usage.reserve(none, message, 1_000).is_some(), "all is given back");
    }

    #[test]
    fn dispositions_have_a_half_at_most_and_count_for_messages() {
        let (inboxes, _outboxes) = shards(1);
        let limits =
            TenantLimits { max_stored_messages: Some(4), max_stored_bytes: Some(1_000), ..TenantLimits::default() };
        let usage = usage(limits, &inboxes);
        let totals = |messages, size_bytes| Totals { messages, size_bytes };
        let stored = |messages, dispositions| Stored { messages, dispositions };
        let (none, report) = (Totals::default(), MessageKind::Disposition);
        let held = [300, 200].map(|bytes| usage.reserve(Stored::default(), report, bytes).unwrap());
        assert!(usage.reserve(Stored::default(), report, 1).is_none(), "a third");
        drop(held);
        assert!(usage.reserve(Stored::default(), report, 501).is_none(), "more bytes than half");
        assert!(usage.reserve(stored(none, totals(2, 0)), report, 1).is_none());
        assert!(usage.reserve(stored(totals(3, 0), totals(1, 0)), report, 1).is_none(), "full");
        let full = stored(totals(4, 1_000), none);
        let replacing = [usage.replace(full, 100, 100), usage.replace(full, 100, 200)];
        assert!(replacing.iter().all(Option::is_some), "each in place of one");
        assert!(usage.replace(full, 100, 100).is_none(), "half is for messages");
        drop(replacing);
        assert!(usage.replace(full, 101, 100).is_none(), "which is larger");
        assert!(usage.reserve(stored(totals(2, 0), totals(2, 0)), MessageKind::Message, 1).is_none());
        assert!(usage.reserve(stored(totals(1, 400), totals(2, 500)), MessageKind::Message, 100).is_some());
        assert!(!usage.has_room(stored(totals(1, 400), totals(2, 500)), 101));
    }
}
