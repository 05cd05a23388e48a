//! A shard: one thread that owns its recipients' machines, its transactions, dialogs, sessions and timers. Nothing of
//! it is shared; whatever concerns it comes through its queue.
//!
//! * [`mod@self`]: the loop, and what the parts have in common. `inbox`: what comes. `sending`: what goes to the
//!   sockets.
//! * `requests`, `registrar`, `incoming`, `pull`, `subscriptions`, `forward`: requests that come.
//! * `authentication`: who a request is from. `credentials`: what users authenticate with changes.
//! * `saved_bindings`: registrations as the store keeps them.
//! * `registration_events`: what cores tell of registrations to whom they ask.
//! * `recipients`: machines, what they are told and what they want done.
//! * `tenants`: tenants that come, change and go. `line`: deliveries that wait until their tenant may have one more.
//! * `names`: other names of users, and taking in what waits under them.
//! * `openings`: how much each sender may have open.
//! * `resolution`: next hops that have names.
//! * `reports`: room for reports.
//! * `relay`: requests that are passed on.
//! * `delivery`, `announce`, `fields`, `route`, `session`, `responses`: requests of ours and what becomes of them.

mod announce;
mod authentication;
mod credentials;
mod delivery;
mod fields;
mod forward;
mod inbox;
mod incoming;
mod line;
mod names;
mod openings;
mod pull;
mod recipients;
mod registrar;
mod registration_events;
mod relay;
mod reports;
mod requests;
mod resolution;
mod responses;
mod route;
mod saved_bindings;
mod sending;
mod session;
mod subscriptions;
mod tenants;
#[cfg(test)]
mod tests;
mod too_large;
mod unwrapping;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use restante_deferral::model::{RecipientKey, TenantName, Timestamp};
use restante_deferral::participating_function::{Attempt, CommitToken, Input, LoadToken, ReplyToken};
use restante_sip::dialog::DialogId;
use restante_sip::message::SipMessage;
use restante_sip::proxy::BranchId;
use restante_sip::registration::Bindings;
use restante_sip::transaction::{
    ClientTransactionId, Endpoint, EndpointConfiguration, Event, Flow, ServerTransactionId, TimerValues,
};
use restante_store::{Completion, Outcome, Ticket};
use restante_transport::SendFailure;
use restante_transport::queue::QueueReceiver;
use restante_transport::resolution::Wanted;
use tokio::sync::{mpsc, oneshot};

use self::recipients::Slot;
use self::reports::ReportRoom;
use self::session::MediaSession;
use super::Shared;
use super::limits::size;
use super::media::{MediaEvent, MediaId};
use super::receiver;
use super::usage::{Resource, Room};

pub use self::credentials::CredentialsOrder;
pub use self::inbox::{DecisionTicket, ToShard};
pub use self::names::ProfileOrder;
pub use self::saved_bindings::SavedBindings;

/// Items taken from the queue before timers and sockets get their turn.
const BATCH: usize = 256;
/// A wall clock may be set while nobody looks.
const MAX_SLEEP_MILLISECONDS: u64 = 60_000;
/// Twice what some fifty requests in a second leave behind, for as long as they may be repeated: a table that loses as
/// much as it gains grows once more than half of it is in use.
const USUAL_TRANSACTIONS: usize = 3_584;

/// What a token given to the store stands for.
enum Order {
    Commit(RecipientKey, CommitToken, ReportRoom),
    Load(RecipientKey, LoadToken),
    Registration(Box<registrar::PendingRegistration>),
    Profile(Box<ProfileOrder>),
    Credentials(Box<CredentialsOrder>),
    Adoption { name: RecipientKey, owner: RecipientKey },
    Ignored,
}

/// Who waits for a machine's reply.
enum Waiting {
    Message { transaction: ServerTransactionId, arrived: Instant, _room: Option<Room> },
    Invitation(MediaId),
    Received { media: MediaId, incoming: restante_msrp::session::IncomingId, _room: Option<Room> },
    Pull(MediaId),
    Operator(oneshot::Sender<usize>),
}

/// One moment on both clocks.
#[derive(Clone, Copy)]
struct Now {
    monotonic: Instant,
    wall: Timestamp,
}

/// The shard.
pub struct Shard {
    index: usize,
    shared: Arc<Shared>,
    endpoint: Endpoint,
    slots: HashMap<RecipientKey, Slot>,
    /// Those that are durable. Results of attempts per contact live in the machines.
    registrations: HashMap<RecipientKey, Bindings>,
    /// When the first binding of each user ends.
    registration_ends: BTreeSet<(u64, RecipientKey)>,
    /// Users whose bindings are being written, and what waits for that.
    registering: HashMap<RecipientKey, registrar::WaitingChanges>,
    /// Names whose queues are being moved, and what waits for that.
    adopting: HashMap<RecipientKey, VecDeque<Input>>,
    adoption_retries: BTreeSet<(Timestamp, RecipientKey)>,
    /// Attempts that wait until their tenant may have one more.
    attempts_in_line: HashMap<(TenantName, Resource), VecDeque<line::InLine>>,
    /// Attempts that wait until it is known where the name of their next hop leads.
    resolving: HashMap<Wanted, Vec<(RecipientKey, Attempt)>>,
    /// When each machine in memory wants to be woken.
    wakes: BTreeSet<(Timestamp, RecipientKey)>,
    /// The latest that the clock said, since it was last set back.
    latest: Timestamp,
    /// When machines were last put away for want of room.
    room_made_at: Option<Instant>,
    orders: HashMap<u64, Order>,
    waiting: HashMap<ReplyToken, Waiting>,
    purposes: HashMap<ClientTransactionId, responses::Purpose>,
    wrapped: HashMap<ClientTransactionId, unwrapping::Wrapped>,
    media: HashMap<MediaId, MediaSession>,
    media_of_invites: HashMap<ServerTransactionId, MediaId>,
    session_ids: HashMap<String, MediaId>,
    dialogs: HashMap<DialogId, MediaId>,
    /// INVITEs of ours with a 2xx, as long as more of them may come; and their order.
    accepted: HashMap<ClientTransactionId, responses::Accepted>,
    accepted_order: VecDeque<ClientTransactionId>,
    too_large: too_large::TooLarge,
    /// Branches of what is passed on that wait for the same.
    branches_resolving: HashMap<Wanted, Vec<(relay::RelayId, BranchId)>>,
    /// Requests that are passed on; INVITEs that are answered, too, as long as more answers may come.
    relays: HashMap<relay::RelayId, Box<relay::Relay>>,
    relay_of_server: HashMap<ServerTransactionId, relay::RelayId>,
    relay_wakes: BTreeSet<(Instant, relay::RelayId)>,
    /// When sessions are to be refreshed, or were to be.
    session_wakes: BTreeSet<(Instant, MediaId)>,
    subscriptions: subscriptions::Subscriptions,
    watches: registration_events::Watches,
    /// Whose registrations came over a connection that is open.
    connections: HashMap<restante_sip::transaction::ConnectionId, HashSet<RecipientKey>>,
    media_events: mpsc::Sender<MediaEvent>,
    next_token: u64,
    /// What the gauges have of it: see `count_held`.
    counted: [i64; 3],
    draining: bool,
    drain_deadline: Option<Instant>,
}

impl Shard {
    /// A shard, with the registrations that it takes over from an earlier run.
    #[must_use]
    pub fn new(
        index: usize,
        shared: Arc<Shared>,
        key: [u8; 32],
        registrations: HashMap<RecipientKey, Bindings>,
        media_events: mpsc::Sender<MediaEvent>,
    ) -> Shard {
        let limits = &shared.limits;
        let configuration = EndpointConfiguration {
            shard: u8::try_from(index).unwrap_or(u8::MAX),
            key,
            // What is passed on has bounds of its own: see `relay`.
            timers: TimerValues::default(),
            max_server_transactions: size(limits.max_server_transactions),
            max_client_transactions: size(limits.max_client_transactions),
            usual_transactions: USUAL_TRANSACTIONS,
        };
        let registration_ends =
            registrations.iter().filter_map(|(key, bindings)| Some((bindings.next_expiry()?, key.clone()))).collect();
        Shard {
            index,
            endpoint: Endpoint::new(configuration),
            shared,
            slots: HashMap::new(),
            registrations,
            registration_ends,
            registering: HashMap::new(),
            adopting: HashMap::new(),
            adoption_retries: BTreeSet::new(),
            attempts_in_line: HashMap::new(),
            resolving: HashMap::new(),
            wakes: BTreeSet::new(),
            latest: Timestamp::default(),
            room_made_at: None,
            orders: HashMap::new(),
            waiting: HashMap::new(),
            purposes: HashMap::with_capacity(USUAL_TRANSACTIONS / 4),
            wrapped: HashMap::new(),
            media: HashMap::new(),
            media_of_invites: HashMap::new(),
            session_ids: HashMap::new(),
            dialogs: HashMap::new(),
            accepted: HashMap::new(),
            accepted_order: VecDeque::new(),
            too_large: too_large::TooLarge::default(),
            branches_resolving: HashMap::new(),
            relays: HashMap::with_capacity(USUAL_TRANSACTIONS / 4),
            relay_of_server: HashMap::with_capacity(USUAL_TRANSACTIONS / 4),
            relay_wakes: BTreeSet::new(),
            session_wakes: BTreeSet::new(),
            subscriptions: subscriptions::Subscriptions::default(),
            watches: registration_events::Watches::default(),
            connections: HashMap::new(),
            media_events,
            next_token: 1,
            counted: [0; 3],
            draining: false,
            drain_deadline: None,
        }
    }

    /// Runs until everybody who could give it work is gone, or it was told to stop and has nothing in flight.
    pub async fn run(mut self, mut inbox: QueueReceiver<ToShard>, mut media_events: mpsc::Receiver<MediaEvent>) {
        let mut batch = Vec::with_capacity(BATCH);
        let now = Now::read(&self.shared);
        self.release_registered_names(now);
        self.watch_registered(now);
        loop {
            let wake = self.next_wake();
            tokio::select! {
                biased;
                event = media_events.recv() => {
                    if let Some(event) = event {
                        let now = Now::read(&self.shared);
                        self.media_event(now, event);
                    }
                }
                open = inbox.pop_batch(&mut batch, BATCH) => {
                    if !open {
                        return;
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            // What the queue gives without waiting would leave the sessions' tasks no turn.
            if !self.media.is_empty() {
                tokio::task::yield_now().await;
            }
            let now = Now::read(&self.shared);
            for item in batch.drain(..) {
                self.take(now, item);
            }
            self.handle_wakes(now);
            self.flush(now);
            if self.draining && self.is_quiet(now) {
                return;
            }
        }
    }

    fn take(&mut self, now: Now, item: ToShard) {
        match item {
            ToShard::Sip { message, flow, directory_version } => {
                if let Some(message) = self.pass_on(message, flow, directory_version) {
                    self.endpoint.receive(now.monotonic, message, flow);
                    self.handle_events(now);
                }
            }
            ToShard::SendFailed(key, failure) => {
                let client = ClientTransactionId(key);
                if matches!(failure, SendFailure::Connect(_) | SendFailure::ConnectTimeout) {
                    self.too_large.note_refused(client);
                }
                self.endpoint.transport_failed(client);
                self.handle_events(now);
            }
            ToShard::Closed(connection) => self.connection_closed(now, connection),
            ToShard::Stored(completions) => completions.into_iter().for_each(|completion| self.stored(now, completion)),
            ToShard::Decided((_, key, token), answer) => self.tell(now, &key, Input::Answered(token, answer)),
            ToShard::Connection(handed) => self.connection_came(handed),
            ToShard::Due(_) if self.draining => {}
            ToShard::Due(recipients) => recipients.iter().for_each(|key| self.tell(now, key, Input::Wake)),
            ToShard::Grew(recipient) => {
                self.tell(now, &recipient, Input::QueueGrew);
                self.watch_waiting(now, &recipient);
            }
            ToShard::ChangeProfile(order) => self.change_profile(now, *order),
            ToShard::ChangeCredentials(order) => self.change_credentials(*order),
            ToShard::Release(name) => self.release(now, &name),
            ToShard::Inherit { owner, from, bindings } => {
                self.change_bindings(now, owner, registrar::Work::Inherit { from, bindings });
            }
            ToShard::Discard { recipient, messages, report, done } => {
                let reply = ReplyToken(self.token());
                self.waiting.insert(reply, Waiting::Operator(done));
                self.tell(now, &recipient, Input::Discard { reply, messages, report });
            }
            ToShard::Resolved(name) => self.resolved(now, &name),
            ToShard::Granted(permit) => self.granted(now, permit),
            ToShard::TenantsChanged(names) => self.tenants_changed(now, &names),
            ToShard::ServedAgain(recipients) => self.served_again(now, recipients),
            ToShard::Watch(recipients) => recipients.iter().for_each(|key| self.watch_waiting(now, key)),
            ToShard::Report(recipient, reported) => {
                self.change_bindings(now, recipient, registrar::Work::Report(reported));
            }
            ToShard::Contacts(recipient, answer) => {
                let bindings =
                    self.registrations.get(&recipient).map(|known| known.bindings.as_slice()).unwrap_or_default();
                let contacts = bindings.iter().map(|it| (it.contact_uri.clone(), Timestamp(it.expires_at))).collect();
                let _ = answer.send(contacts);
            }
            ToShard::Drain => {
                self.draining = true;
                self.attempts_in_line.clear();
                self.resolving.clear();
                self.deactivate_subscriptions(now);
                self.drain_deadline = Some(now.monotonic + Duration::from_secs(self.shared.limits.max_drain_seconds));
            }
        }
    }

    /// A name may have come to belong to somebody since the receiver asked whose it is: a request for it goes on to its
    /// owner's shard, unless its transaction is here.
    fn pass_on(&mut self, message: SipMessage, flow: Flow, directory_version: u64) -> Option<SipMessage> {
        let version = self.shared.directory.version();
        if version == directory_version || !message.is_request() || self.endpoint.knows(&message) {
            return Some(message);
        }
        let (shard, lane) = receiver::destination(&self.shared, &message, &flow);
        if shard == self.index {
            return Some(message);
        }
        let bytes = message.bytes().len();
        match self.shared.push(shard, lane, ToShard::Sip { message, flow, directory_version: version }, bytes) {
            Ok(()) => None,
            // It is full: this shard says so instead.
            Err(refused) => {
                self.shared.metrics.count_dropped("shard-busy");
                if let ToShard::Sip { message, .. } = *refused {
                    self.endpoint.refuse(&message, flow, 503, restante_sip::writer::reason(503));
                }
                None
            }
        }
    }

    fn handle_events(&mut self, now: Now) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Request { transaction, message, flow } => self.request(now, transaction, &message, flow),
                Event::Response { transaction, message, flow, .. } => self.response(now, transaction, &message, flow),
                Event::TimedOut { transaction } => self.no_response(now, transaction, responses::Silence::TimedOut),
                Event::NotSent { transaction } => self.no_response(now, transaction, responses::Silence::NotSent),
                Event::Ack { message, .. } => self.acknowledged(now, &message),
                Event::Cancelled { transaction } => self.cancelled(now, transaction),
                Event::AckMissing { transaction } => self.ack_missing(now, transaction),
                _ => {}
            }
        }
    }

    fn stored(&mut self, now: Now, completion: Completion) {
        let Some(order) = self.orders.remove(&completion.token) else { return };
        match (order, completion.outcome) {
            (Order::Commit(key, token, room), Outcome::Written(result)) => {
                let result = result.map(|applied| room.applied(applied));
                self.tell(now, &key, Input::Committed(token, result))
            }
            (Order::Load(key, token), Outcome::Loaded(result)) => self.tell(now, &key, Input::Loaded(token, result)),
            (Order::Profile(order), Outcome::Saved(result)) => self.profile_changed(now, *order, result),
            (Order::Credentials(order), Outcome::Saved(result)) => {
                self.credentials_changed(*order, result.map(drop));
            }
            (Order::Adoption { name, owner }, Outcome::Saved(result)) => self.adopted(now, name, owner, result),
            (Order::Registration(pending), Outcome::Saved(result)) => {
                self.registration_saved(now, *pending, result.map(drop))
            }
            _ => {}
        }
    }

    fn next_wake(&self) -> Instant {
        let wall = (self.shared.clock)();
        let after =
            |at: u64| Instant::now() + Duration::from_millis(at.saturating_sub(wall.0).min(MAX_SLEEP_MILLISECONDS));
        let machines = self.wakes.first().map(|(at, _)| after(at.0));
        let registrations = self.registration_ends.first().map(|(at, _)| after(*at));
        let adoptions = self.adoption_retries.first().map(|(at, _)| after(at.0));
        let subscriptions = self.subscriptions.next_end().map(after);
        let changes = self.subscriptions.next_change();
        let transactions = self.endpoint.next_wake();
        let relays = self.next_relay_wake();
        let sessions = self.session_wakes.first().map(|(at, _)| *at);
        let watches = self.watches.next_wake().map(after);
        let first = [transactions, machines, registrations, adoptions, subscriptions, watches];
        let candidates = first.into_iter().chain([changes, relays, sessions, self.drain_deadline]);
        candidates.flatten().min().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }

    fn handle_wakes(&mut self, now: Now) {
        self.endpoint.handle_wake(now.monotonic);
        self.handle_events(now);
        self.note_clock(now);
        while self.wakes.first().is_some_and(|(at, _)| *at <= now.wall)
            && let Some((_, key)) = self.wakes.pop_first()
        {
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            slot.scheduled = None;
            // What a server that stops does not begin any more is in the store; whoever waits for an answer gets it.
            if !self.draining || slot.machine.is_waited_for() {
                self.tell(now, &key, Input::Wake);
            }
        }
        self.end_registrations(now);
        self.retry_adoptions(now);
        self.end_subscriptions(now);
        self.tell_changes(now);
        self.wake_watches(now);
        self.forget_accepted(now);
        self.wake_relays(now);
        self.wake_sessions(now);
        self.count_held();
    }

    /// Every shard adds its own to the gauges.
    fn count_held(&mut self) {
        let (server, client) = self.endpoint.len();
        let held = [server.saturating_add(client), self.relays.len(), self.subscriptions.len()];
        let metrics = &self.shared.metrics;
        let gauges = [&metrics.transactions, &metrics.relays, &metrics.subscriptions];
        for ((gauge, held), counted) in gauges.into_iter().zip(held).zip(&mut self.counted) {
            let held = i64::try_from(held).unwrap_or(i64::MAX);
            gauge.inc_by(held - *counted);
            *counted = held;
        }
    }

    /// Nothing is in flight that is worth waiting for: the answer to a BYE is not.
    fn is_quiet(&self, now: Now) -> bool {
        let late = self.drain_deadline.is_some_and(|deadline| deadline <= now.monotonic);
        let in_flight = |purpose: &responses::Purpose| match purpose {
            responses::Purpose::Bye { .. } | responses::Purpose::Watch { .. } => false,
            responses::Purpose::Relayed { relay, .. } => self.is_relaying(*relay),
            _ => true,
        };
        late || (self.orders.is_empty()
            && self.waiting.is_empty()
            && self.media.is_empty()
            && self.branches_resolving.is_empty()
            && !self.purposes.values().any(in_flight))
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn ticket(&mut self) -> Ticket {
        Ticket { shard: self.index, token: self.token() }
    }
}

impl Now {
    fn read(shared: &Shared) -> Now {
        Now { monotonic: Instant::now(), wall: (shared.clock)() }
    }
}
