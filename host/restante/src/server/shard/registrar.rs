//! REGISTER: who can be reached, and where. The 200 follows the commit.
//!
//! What is in memory is what is durable. One change of a user's bindings is written at a time; what comes meanwhile, a
//! repetition too, waits and then builds on what became of it. So a change that fails leaves nothing behind, and nobody
//! is told 200 of something that is not on the disk. A user whose last binding went is forgotten: see
//! [`Bindings::new`].

use std::collections::VecDeque;

use restante_deferral::commit::CommitError;
use restante_deferral::decision::Trigger;
use restante_deferral::model::{RecipientKey, Timestamp};
use restante_deferral::participating_function::Input;
use restante_sip::header::NameAddr;
use restante_sip::message::{Name, SipMessage};
use restante_sip::registration::{
    Binding, BindingChange, Bindings, ChangeKind, RegisterError, RegisterRequest, Registrant, RegistrarLimits,
    ReportedDevices,
};
use restante_sip::transaction::{Flow, ServerTransactionId};
use restante_sip::uri::Uri;
use restante_store::{Record, SavedRegistration};

use super::resolution;
use super::route::is_flow_dead;
use super::saved_bindings::SavedBindings;
use super::{Now, Order, Shard, ToShard};
use crate::logging::Shortened;
use crate::server::flow;

/// REGISTERs of one user that wait for another one; more: 503.
const MAX_WAITING: usize = 16;
/// Seconds for Retry-After of a registration that could not be written.
const RETRY_SECONDS: u32 = 5;
/// Flow-Timer (RFC 5626 §4.4): clients keep their connections alive at least so often. Address translations forget
/// those of TCP after some minutes.
const FLOW_TIMER_SECONDS: u32 = 120;
/// Wait before bindings that ended are tried to be removed again, in milliseconds.
const EXPIRE_AGAIN_AFTER_MILLISECONDS: u64 = 1_000;

/// Changes of one user's bindings that wait for the one before.
pub(super) type WaitingChanges = VecDeque<Work>;

/// A change of a user's bindings.
pub(super) enum Work {
    /// A REGISTER.
    Register(Box<Register>),
    /// The time of some is up.
    Expire,
    /// All devices behind a core, as it was reported.
    Report(Box<ReportedDevices>),
    /// Those of another name of the user.
    Inherit {
        /// The name.
        from: RecipientKey,
        /// Its bindings.
        bindings: Vec<Binding>,
    },
}

/// A REGISTER from somebody who may register.
pub(super) struct Register {
    transaction: ServerTransactionId,
    request: RegisterRequest,
    registrant: Registrant,
}

/// A change that is being written.
pub(super) struct PendingRegistration {
    key: RecipientKey,
    bindings: Bindings,
    effect: Effect,
}

/// What follows from a change.
enum Effect {
    Registered {
        transaction: ServerTransactionId,
        answer: Vec<rsip::Header>,
        trigger: Option<Trigger>,
        /// P-Associated-URI of a core.
        names: Vec<String>,
    },
    Expired,
    Reported(Option<Trigger>),
    Inherited(RecipientKey),
}

/// Whether a proxy of a Path is an address.
fn is_numeric(path: &str) -> bool {
    NameAddr::parse(path).is_ok_and(|proxy| resolution::is_numeric(&proxy.uri))
}

impl Effect {
    fn text(&self) -> &'static str {
        match self {
            Effect::Registered { .. } => "registered",
            Effect::Expired => "a registration ended",
            Effect::Reported(_) => "registrations reported by a core",
            Effect::Inherited(_) => "took over another name's registration",
        }
    }
}

impl Shard {
    pub(super) fn register(&mut self, now: Now, transaction: ServerTransactionId, message: &SipMessage, came: Flow) {
        let mut request = match RegisterRequest::parse(message) {
            Ok(request) => request,
            Err(error) => return self.refuse_registration(now, transaction, error),
        };
        let user = Uri::parse(&request.address_of_record).ok();
        let Some((tenant, key)) = user.and_then(|uri| self.shared.directory.served(&uri)) else {
            return self.answer(now, transaction, 404);
        };
        if let Err(refusal) = self.may_register(now, &tenant, message, came, &key) {
            return self.refuse_because(now, transaction, refusal);
        }
        let is_relayed = message.list(Name::Via).count() > 1;
        request.flow = Some(flow::write(&came, is_relayed));
        // Where a proxy stands between, the flow is its affair (RFC 5626 §5.4).
        request.flow_timer_seconds = came.connection.filter(|_| !is_relayed).map(|_| FLOW_TIMER_SECONDS);
        self.note_connection(&key, came);
        let registrant = self.registrant(&request, &key);
        if registrant == Registrant::Device && !tenant.registrar {
            return self.refuse(now, transaction, 403, "Not A Registrar", None);
        }
        // Looking for a name costs questions that all tenants share.
        if request.path.iter().any(|path| !is_numeric(path)) && !tenant.trusts(&self.shared.peer(&came)) {
            return self.refuse(now, transaction, 403, "Path Names A Host", None);
        }
        if !self.is_here(&key) {
            return self.refuse(now, transaction, 503, "Try Again", Some(RETRY_SECONDS));
        }
        let register = Register { transaction, request, registrant };
        self.change_bindings(now, key, Work::Register(Box::new(register)));
    }

    /// Changes a user's bindings, now or when the change before is done.
    pub(super) fn change_bindings(&mut self, now: Now, key: RecipientKey, work: Work) {
        match (self.registering.get_mut(&key), work) {
            (None, work) => {
                if let Some(pending) = self.begin_change(now, &key, work) {
                    self.save_registration(now, pending);
                }
            }
            (Some(waiting), Work::Expire) if waiting.iter().any(|work| matches!(work, Work::Expire)) => {}
            (Some(waiting), Work::Register(register)) if waiting.len() >= MAX_WAITING => {
                self.refuse(now, register.transaction, 503, "Too Many Registrations", Some(RETRY_SECONDS));
            }
            // Each report is the whole truth: the last one is enough.
            (Some(waiting), Work::Report(mut report)) => {
                let was_news = |work: &Work| matches!(work, Work::Report(earlier) if earlier.is_news);
                report.is_news |= waiting.iter().any(was_news);
                waiting.retain(|work| !matches!(work, Work::Report(_)));
                waiting.push_back(Work::Report(report));
            }
            (Some(waiting), work) => waiting.push_back(work),
        }
    }

    /// Ends what is over by now.
    pub(super) fn end_registrations(&mut self, now: Now) {
        while self.registration_ends.first().is_some_and(|(at, _)| *at <= now.wall.0)
            && let Some((_, key)) = self.registration_ends.pop_first()
        {
            self.change_bindings(now, key, Work::Expire);
        }
    }

    /// What is to be written; none: nothing changes, and whoever waited was answered.
    fn begin_change(&mut self, now: Now, key: &RecipientKey, work: Work) -> Option<PendingRegistration> {
        let known = self.registrations.get(key).cloned();
        let mut bindings = known.unwrap_or_else(|| Bindings::new(now.wall.0));
        let effect = match work {
            Work::Register(register) => self.apply_register(now, key, &mut bindings, *register)?,
            Work::Expire if bindings.expire(now.wall.0).is_empty() => return None,
            Work::Expire => Effect::Expired,
            Work::Report(reported) => {
                let limits = self.registrar_limits();
                let outcome = bindings.report(now.wall.0, &reported, limits.max_contacts);
                if outcome.changes.is_empty() {
                    return None;
                }
                let is_new = |change: &BindingChange| {
                    matches!(change.kind, ChangeKind::Added | ChangeKind::Refreshed { moved: true })
                };
                let trigger = if outcome.changes.iter().any(is_new) { Trigger::Reported } else { Trigger::Refreshed };
                Effect::Reported(outcome.makes_available().then_some(trigger))
            }
            Work::Inherit { from, bindings: others } => {
                // Whose connection was closed on the way here is found by `take_over_bindings`.
                let connections = others.iter().filter_map(|it| flow::read(it.flow.as_deref()?, true));
                connections.for_each(|(came, _)| self.note_connection(key, came));
                let alive = others.into_iter().filter(|binding| binding.expires_at > now.wall.0).collect();
                if !bindings.inherit(alive, self.registrar_limits().max_contacts) {
                    self.forget_bindings(from);
                    return None;
                }
                Effect::Inherited(from)
            }
        };
        Some(PendingRegistration { key: key.clone(), bindings, effect })
    }

    fn apply_register(
        &mut self,
        now: Now,
        key: &RecipientKey,
        bindings: &mut Bindings,
        register: Register,
    ) -> Option<Effect> {
        let Register { transaction, request, registrant } = register;
        let unreachable: Vec<_> = bindings.bindings.iter().filter(|it| is_flow_dead(it)).map(|it| it.id).collect();
        let outcome = match bindings.apply(now.wall.0, &request, registrant, &self.registrar_limits()) {
            Ok(outcome) => outcome,
            Err(error) => {
                self.refuse_registration(now, transaction, error);
                return None;
            }
        };
        // A client whose only way broke is back under the same address.
        let is_back = |change: &BindingChange| unreachable.contains(&change.binding.id);
        let is_new = outcome.changes.iter().any(|change| match change.kind {
            ChangeKind::Added => true,
            ChangeKind::Refreshed { moved } => moved || is_back(change),
            _ => false,
        });
        let trigger = if is_new { Trigger::Registered } else { Trigger::Refreshed };
        let trigger = outcome.makes_available().then_some(trigger);
        let names = if registrant == Registrant::Core { request.associated_addresses.clone() } else { Vec::new() };
        let associated = self.associated_uris(key, &names);
        let answer = bindings.answer(now.wall.0, &request, registrant, &associated);
        let effect = Effect::Registered { transaction, answer, trigger, names };
        if outcome.changes.is_empty() {
            self.bindings_changed(now, key, effect);
            return None;
        }
        Some(effect)
    }

    fn save_registration(&mut self, now: Now, pending: PendingRegistration) {
        let ends = pending.bindings.bindings.iter().map(|binding| binding.expires_at).max();
        let registration = ends.map(|expires_at| SavedRegistration {
            bytes: SavedBindings::write(&pending.bindings),
            expires_at: Timestamp(expires_at),
        });
        let key = pending.key.clone();
        self.registering.entry(key.clone()).or_default();
        let ticket = self.ticket();
        self.orders.insert(ticket.token, Order::Registration(Box::new(pending)));
        if let Err(error) = self.shared.store.save(ticket, key, Record::Registration(registration))
            && let Some(Order::Registration(pending)) = self.orders.remove(&ticket.token)
        {
            self.registration_saved(now, *pending, Err(error));
        }
    }

    pub(super) fn registration_saved(
        &mut self,
        now: Now,
        pending: PendingRegistration,
        result: Result<(), CommitError>,
    ) {
        let PendingRegistration { key, bindings, effect } = pending;
        match result {
            Ok(()) => {
                let (text, contacts) = (effect.text(), bindings.bindings.len());
                tracing::info!(tenant = %key.tenant, user = %Shortened(&key.address.0), contacts, "{text}");
                self.take_over_bindings(&key, bindings);
                self.bindings_changed(now, &key, effect);
            }
            Err(error) => self.bindings_not_changed(now, &key, effect, error),
        }
        self.go_on_registering(now, &key);
    }

    /// The next change of a user's bindings.
    fn go_on_registering(&mut self, now: Now, key: &RecipientKey) {
        let mut waiting = self.registering.remove(key).unwrap_or_default();
        while let Some(work) = waiting.pop_front() {
            if let Some(pending) = self.begin_change(now, key, work) {
                self.registering.insert(key.clone(), waiting);
                return self.save_registration(now, pending);
            }
        }
        // It may have become another name of somebody meanwhile.
        self.release(now, key);
    }

    /// These are durable: they are what is known from now on. What was written is older than that: connections may have
    /// been closed meanwhile.
    fn take_over_bindings(&mut self, key: &RecipientKey, mut bindings: Bindings) {
        bindings.bindings.iter_mut().for_each(|binding| self.leave_closed_connection(binding));
        let end = bindings.next_expiry();
        let before = match bindings.is_empty() {
            true => self.registrations.remove(key),
            false => self.registrations.insert(key.clone(), bindings),
        };
        if let Some(at) = before.and_then(|before| before.next_expiry()) {
            self.registration_ends.remove(&(at, key.clone()));
        }
        if let Some(at) = end {
            self.registration_ends.insert((at, key.clone()));
        }
    }

    fn bindings_changed(&mut self, now: Now, key: &RecipientKey, effect: Effect) {
        let trigger = match effect {
            Effect::Registered { transaction, answer, trigger, names } => {
                self.answer_with(now, transaction, 200, |builder| {
                    answer.iter().fold(builder, |builder, header| builder.header(header))
                });
                self.learn_names(now, key, &names);
                trigger
            }
            Effect::Expired => None,
            Effect::Reported(trigger) => trigger,
            Effect::Inherited(from) => {
                self.forget_bindings(from);
                Some(Trigger::Registered)
            }
        };
        self.contacts_changed(now, key, trigger);
        self.watch(now, key);
    }

    fn bindings_not_changed(&mut self, now: Now, key: &RecipientKey, effect: Effect, error: CommitError) {
        tracing::error!(tenant = %key.tenant, %error, "a registration could not be stored");
        match effect {
            Effect::Registered { transaction, .. } => {
                self.answer_with(now, transaction, 503, |builder| {
                    builder.field("Retry-After", &RETRY_SECONDS.to_string())
                });
            }
            Effect::Expired => {
                self.registration_ends
                    .insert((now.wall.0.saturating_add(EXPIRE_AGAIN_AFTER_MILLISECONDS), key.clone()));
            }
            // What is reported is reported again when the subscription is refreshed.
            Effect::Reported(_) => {}
            // They are in the store under the name still, and taken over at the next start; most clients refresh
            // earlier.
            Effect::Inherited(_) => {}
        }
    }

    /// The bindings of a name that is somebody's go to their owner.
    pub(super) fn give_bindings_away(&mut self, now: Now, name: &RecipientKey, owner: &RecipientKey) {
        let Some(known) = self.registrations.get(name).cloned() else { return };
        self.take_over_bindings(name, Bindings::default());
        let inherited = ToShard::Inherit { owner: owner.clone(), from: name.clone(), bindings: known.bindings };
        self.shared.to_recipient(owner, inherited);
        self.contacts_changed(now, name, None);
    }

    /// Bindings under another name are the owner's by now.
    fn forget_bindings(&mut self, from: RecipientKey) {
        let ticket = self.ticket();
        self.orders.insert(ticket.token, Order::Ignored);
        if self.shared.store.save(ticket, from, Record::Registration(None)).is_err() {
            // They end by themselves.
            self.orders.remove(&ticket.token);
        }
    }

    /// Tells a machine that is in memory, or has messages to deliver, where its recipient is now.
    pub(super) fn contacts_changed(&mut self, now: Now, key: &RecipientKey, trigger: Option<Trigger>) {
        let contacts = self.contacts_of(key);
        match trigger {
            Some(trigger) => self.tell(now, key, Input::Contacts(contacts, trigger)),
            // Fewer contacts are no reason to ask anything; a machine that is away learns it when it comes.
            None if self.slots.contains_key(key) => self.tell(now, key, Input::Contacts(contacts, Trigger::Timer)),
            None => {}
        }
    }

    fn registrant(&self, request: &RegisterRequest, key: &RecipientKey) -> Registrant {
        let same = Uri::parse(&request.registrant_uri)
            .ok()
            .and_then(|uri| self.shared.directory.served(&uri))
            .is_some_and(|(_, registrant)| registrant == *key);
        if same { Registrant::Device } else { request.likely_registrant() }
    }

    /// For P-Associated-URI (RFC 7315 §4.1): every name of the user, those that this request tells of included.
    fn associated_uris(&self, key: &RecipientKey, told: &[String]) -> Vec<String> {
        let mut uris = vec![key.address.0.to_string()];
        uris.extend(self.shared.directory.names(key));
        for name in told {
            let owner = Uri::parse(name).ok().and_then(|uri| self.shared.directory.served(&uri));
            let is_free = owner.is_some_and(|(_, owner)| owner.tenant == key.tenant && *owner.address.0 == **name);
            if is_free && !uris.contains(name) {
                uris.push(name.clone());
            }
        }
        uris
    }

    fn registrar_limits(&self) -> RegistrarLimits {
        let limits = &self.shared.limits;
        let seconds = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        RegistrarLimits {
            max_contacts: super::size(limits.max_contacts),
            min_expires_seconds: seconds(limits.min_registration_seconds),
            max_expires_seconds: seconds(limits.max_registration_seconds),
            ..RegistrarLimits::default()
        }
    }

    fn refuse_registration(&mut self, now: Now, transaction: ServerTransactionId, error: RegisterError) {
        let tag = self.endpoint.identifiers().tag();
        let text = error.to_string();
        let Some(builder) = self.endpoint.response_with_reason(transaction, error.status(), &text, Some(&tag)) else {
            return;
        };
        let builder = error.fields().iter().fold(builder, restante_sip::writer::Builder::header);
        if let Ok(bytes) = builder.finish() {
            self.endpoint.respond(now.monotonic, transaction, error.status(), bytes);
        }
    }
}
