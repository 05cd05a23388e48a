//! What the machine knows of the recipient's contacts.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::AttemptId;
use super::attempt::Running;
use super::clock::SetBack;
use super::copies::is_asked;
use crate::decision::ContactView;
use crate::model::{
    Abilities, Contact, ContactId, Duration, LastResult, MessageId, Mode, Origin, StoredMessage, Timestamp,
};

/// Refusals of a shape that are remembered for each contact. Who refuses more gets no copies before it registers anew.
const MAX_REFUSED_SHAPES: usize = 256;

/// Rest of a contact with which we were too busy, and the longest: each is twice the one before.
const RESTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(64));

/// A contact and how attempts with it ended.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) contact: Contact,
    /// The last attempt's failure; none when it went well.
    pub(super) last_failure: Option<LastResult>,
    /// It refused a notification: no form of notification is usable for it.
    pub(super) refused_notification: bool,
    /// Copies that it refused by their shape, while others took them.
    refused_shapes: Vec<(MessageId, Mode)>,
    /// And more of them than can be remembered.
    refuses_shapes: bool,
    /// Copies that it is to get, in order.
    lane: VecDeque<(MessageId, Mode)>,
    /// Copies were left out of its lane: until the next pass none is lined up behind them.
    missed: bool,
    /// It left something unsaid in an attempt that went well otherwise: nothing goes there by itself.
    pub(super) hesitates: bool,
    /// We were too busy for it: not before this again.
    rests_until: Option<Timestamp>,
    last_rest: Duration,
    /// What is in flight with it: one request or session of ours at a time, besides the sessions that it began.
    busy: Vec<AttemptId>,
}

impl Reach {
    /// Nothing is known of it.
    fn new(contact: Contact) -> Reach {
        Reach {
            contact,
            last_failure: None,
            refused_notification: false,
            refused_shapes: Vec::new(),
            refuses_shapes: false,
            lane: VecDeque::new(),
            missed: false,
            hesitates: false,
            rests_until: None,
            last_rest: Duration::default(),
            busy: Vec::new(),
        }
    }

    /// The last attempt met nobody: others come first.
    pub(super) fn is_doubtful(&self) -> bool {
        self.last_failure.is_some_and(|failure| failure.origin != Origin::Device)
    }

    pub(super) fn is_free(&self) -> bool {
        self.busy.is_empty()
    }

    /// We were too busy for it a moment ago.
    pub(super) fn rests(&self, now: Timestamp) -> bool {
        self.rests_until.is_some_and(|until| until > now)
    }

    /// The message is lined up for it.
    pub(super) fn is_to_get(&self, id: MessageId) -> bool {
        self.lane.iter().any(|(lined_up, _)| *lined_up == id)
    }

    /// What is lined up for it.
    pub(super) fn lined_up(&self) -> impl ExactSizeIterator<Item = MessageId> {
        self.lane.iter().map(|(id, _)| *id)
    }

    pub(super) fn can_be_notified(&self) -> bool {
        (self.contact.subscribed || self.contact.accepts_summary) && !self.refused_notification
    }

    /// Size of the MESSAGE that would bring a message there; none when it cannot.
    pub(super) fn fits(&self, page_base_bytes: Option<u32>) -> Option<u32> {
        let bytes = page_base_bytes?.checked_add(self.contact.route_bytes)?;
        (self.contact.abilities.page_mode && bytes <= self.contact.max_page_bytes).then_some(bytes)
    }

    /// Whether the message can go there in this mode, and the device does not have it yet.
    pub(super) fn takes(&self, stored: &StoredMessage, mode: Mode) -> bool {
        let able = match mode {
            Mode::Page => self.fits(stored.message.envelope.page_base_bytes).is_some(),
            Mode::Large => self.contact.abilities.large_message_mode,
        };
        able && !has_it(stored, &self.contact.device)
    }

    /// The same for a copy, while others take it: also not if it said that it does not take this message in this mode.
    pub(super) fn takes_copy(&self, stored: &StoredMessage, mode: Mode) -> bool {
        self.takes(stored, mode) && !self.refuses_shapes && !self.has_refused(stored.id, mode)
    }

    /// Whether it said of this message that it does not take it in this mode.
    pub(super) fn has_refused(&self, message: MessageId, mode: Mode) -> bool {
        self.refused_shapes.contains(&(message, mode))
    }

    fn view(&self) -> ContactView {
        ContactView {
            id: self.contact.id,
            instance: self.contact.instance.clone(),
            q_permille: self.contact.q_permille,
            abilities: Abilities {
                subscribed: self.contact.subscribed,
                takes_summaries: self.contact.accepts_summary,
                ..self.contact.abilities
            },
            tags: self.contact.tags.clone(),
            last_failure: self.last_failure,
        }
    }
}

/// Whether this device acknowledged the message already.
pub(super) fn has_it(stored: &StoredMessage, device: &str) -> bool {
    stored.devices.iter().any(|state| state.delivered_at.is_some() && state.device == device)
}

/// All contacts, best first: those that answered last time, then by q, then the older binding.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    reaches: Vec<Reach>,
}

impl Contacts {
    /// These are all contacts now. What is known of those that stay is kept, but a refreshed binding begins anew. What is
    /// in flight goes on, also with a contact that was away for a while.
    pub(super) fn replace(&mut self, contacts: Vec<Contact>, in_flight: &BTreeMap<AttemptId, Running>) {
        let mut known: BTreeMap<ContactId, Reach> =
            self.reaches.drain(..).map(|reach| (reach.contact.id, reach)).collect();
        for contact in contacts {
            let reach = match known.remove(&contact.id) {
                Some(reach) if reach.contact.expires_at == contact.expires_at => Reach { contact, ..reach },
                Some(Reach { busy, lane, missed, .. }) => Reach { busy, lane, missed, ..Reach::new(contact) },
                None => Reach::new(contact),
            };
            self.reaches.push(reach);
        }
        for reach in &mut self.reaches {
            let with_it = |running: &Running| running.is_with(reach.contact.id);
            reach.busy = in_flight.iter().filter(|(_, running)| with_it(running)).map(|(id, _)| *id).collect();
        }
        self.sort();
    }

    /// Drops bindings whose time is over. True when one went.
    pub(super) fn expire(&mut self, now: Timestamp) -> bool {
        let before = self.reaches.len();
        self.reaches.retain(|reach| reach.contact.expires_at > now);
        self.reaches.len() < before
    }

    fn sort(&mut self) {
        self.reaches
            .sort_by_key(|reach| (reach.is_doubtful(), std::cmp::Reverse(reach.contact.q_permille), reach.contact.id));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reaches.is_empty()
    }

    /// When any of them registered or refreshed last.
    pub(super) fn latest_refresh(&self) -> Option<Timestamp> {
        self.reaches.iter().filter_map(|reach| reach.contact.refreshed_at).max()
    }

    /// There are some, and none of them will ever register or refresh.
    pub(super) fn never_register(&self) -> bool {
        !self.is_empty() && self.latest_refresh().is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Reach> {
        self.reaches.iter()
    }

    pub(super) fn get(&self, id: ContactId) -> Option<&Reach> {
        self.reaches.iter().find(|reach| reach.contact.id == id)
    }

    fn get_mut(&mut self, id: ContactId) -> Option<&mut Reach> {
        self.reaches.iter_mut().find(|reach| reach.contact.id == id)
    }

    /// An attempt with this contact begins.
    pub(super) fn occupy(&mut self, id: ContactId, attempt: AttemptId) {
        if let Some(reach) = self.get_mut(id) {
            reach.busy.push(attempt);
        }
    }

    /// It is over.
    pub(super) fn release(&mut self, id: ContactId, attempt: AttemptId) {
        if let Some(reach) = self.get_mut(id) {
            reach.busy.retain(|busy| *busy != attempt);
        }
    }

    /// How the last attempt ended.
    pub(super) fn note(&mut self, id: ContactId, failure: Option<LastResult>) {
        if let Some(reach) = self.get_mut(id) {
            reach.last_failure = failure;
            (reach.rests_until, reach.last_rest) = (None, Duration::default());
            self.sort();
        }
    }

    /// We were too busy for an attempt with it.
    pub(super) fn note_our_own_fault(&mut self, id: ContactId, now: Timestamp) {
        if let Some(reach) = self.get_mut(id) {
            reach.last_rest = Duration(reach.last_rest.0.saturating_mul(2)).clamp(RESTS.0, RESTS.1);
            reach.rests_until = Some(now.after(reach.last_rest));
        }
    }

    /// When the first rest is over.
    pub(super) fn next_rested(&self) -> Option<Timestamp> {
        self.reaches.iter().filter_map(|reach| reach.rests_until).min()
    }

    /// Whether a rest is over, which is so once.
    pub(super) fn take_rested(&mut self, now: Timestamp) -> bool {
        let mut is_any = false;
        for reach in self.reaches.iter_mut().filter(|reach| reach.rests_until.is_some_and(|until| until <= now)) {
            reach.rests_until = None;
            is_any = true;
        }
        is_any
    }

    pub(super) fn clock_was_set_back(&mut self, set_back: SetBack) {
        set_back.correct(self.reaches.iter_mut().filter_map(|reach| reach.rests_until.as_mut()));
    }

    /// Whether an attempt left something unsaid.
    pub(super) fn note_hesitation(&mut self, id: ContactId, hesitates: bool) {
        if let Some(reach) = self.get_mut(id) {
            reach.hesitates = hesitates;
        }
    }

    /// It is to get this copy, after those that it is to get already. Once one does not fit none does until a further pass
    /// begins at the first that it wants, so that the order is kept.
    pub(super) fn line_up(&mut self, id: ContactId, message: MessageId, mode: Mode, max: usize) {
        if let Some(reach) = self.get_mut(id) {
            reach.missed |= reach.lane.len() >= max;
            if !reach.missed {
                reach.lane.push_back((message, mode));
            }
        }
    }

    /// The copy that it is to get next.
    pub(super) fn next_in_lane(&self, id: ContactId) -> Option<(MessageId, Mode)> {
        self.get(id)?.lane.front().copied()
    }

    /// That copy is begun, or not to be given any more.
    pub(super) fn leave_lane(&mut self, id: ContactId) {
        if let Some(reach) = self.get_mut(id) {
            reach.lane.pop_front();
        }
    }

    /// Of the copies that are lined up for it only these stay.
    pub(super) fn retain_in_lane(&mut self, id: ContactId, mut stays: impl FnMut(MessageId) -> bool) {
        if let Some(reach) = self.get_mut(id) {
            reach.lane.retain(|(message, _)| stays(*message));
        }
    }

    /// This message is for nobody any more, or nothing is.
    pub(super) fn clear_lanes(&mut self, of: Option<MessageId>) {
        for reach in &mut self.reaches {
            reach.lane.retain(|(message, _)| of.is_some_and(|id| id != *message));
        }
    }

    pub(super) fn is_in_some_lane(&self, id: MessageId) -> bool {
        self.reaches.iter().any(|reach| reach.is_to_get(id))
    }

    /// Everything that is lined up for somebody.
    pub(super) fn all_lined_up(&self) -> HashSet<MessageId> {
        self.reaches.iter().flat_map(|reach| reach.lane.iter().map(|(id, _)| *id)).collect()
    }

    pub(super) fn is_anything_lined_up(&self) -> bool {
        self.reaches.iter().any(|reach| !reach.lane.is_empty() || reach.missed)
    }

    pub(super) fn note_missed(&mut self, id: ContactId) {
        if let Some(reach) = self.get_mut(id) {
            reach.missed = true;
        }
    }

    /// Whether copies were left out, and all that were lined up before them are gone.
    pub(super) fn wants_a_pass(&self, id: ContactId) -> bool {
        self.get(id).is_some_and(|reach| reach.lane.is_empty() && reach.missed)
    }

    /// A pass begins: what was left out may be lined up where nothing is, for who takes things by itself or is new. True where
    /// that is so: the pass is to begin at the first message.
    pub(super) fn reopen_lanes(&mut self, now: Timestamp, opening: bool) -> bool {
        let mut reopened = false;
        for reach in self.reaches.iter_mut().filter(|reach| reach.missed && reach.lane.is_empty()) {
            if opening || is_asked(reach, now) {
                reach.missed = false;
                reopened = true;
            }
        }
        reopened
    }

    /// It does not take this message in this mode.
    pub(super) fn note_refused_shape(&mut self, id: ContactId, message: MessageId, mode: Mode) {
        if let Some(reach) = self.get_mut(id).filter(|reach| !reach.has_refused(message, mode)) {
            if reach.refused_shapes.len() < MAX_REFUSED_SHAPES {
                reach.refused_shapes.push((message, mode));
            } else {
                reach.refuses_shapes = true;
            }
        }
    }

    pub(super) fn note_refused_notification(&mut self, id: ContactId) {
        if let Some(reach) = self.get_mut(id) {
            reach.refused_notification = true;
        }
    }

    /// As a policy sees them, best first, `except` one.
    pub(super) fn views(&self, except: Option<ContactId>) -> Vec<ContactView> {
        self.reaches.iter().filter(|reach| Some(reach.contact.id) != except).map(Reach::view).collect()
    }

    pub(super) fn view(&self, id: ContactId) -> Option<ContactView> {
        self.get(id).map(Reach::view)
    }

    pub(super) fn can_notify(&self) -> bool {
        self.reaches.iter().any(Reach::can_be_notified)
    }

    /// Size of the MESSAGE for the best contact that can take it.
    pub(super) fn page_bytes(&self, stored: &StoredMessage) -> Option<u32> {
        self.reaches.iter().find_map(|reach| reach.fits(stored.message.envelope.page_base_bytes))
    }

    /// No contact is left that has not acknowledged it: a kept copy.
    pub(super) fn all_have(&self, stored: &StoredMessage) -> bool {
        !stored.devices.is_empty() && self.reaches.iter().all(|reach| has_it(stored, &reach.contact.device))
    }
}
