//! REGISTER: who can be reached, and where. The 200 follows the commit.

use std::cmp::Reverse;

use restante_deferral::commit::CommitError;
use restante_deferral::decision::Trigger;
use restante_deferral::model::{CanonicalAddress, Profile, RecipientKey, Timestamp};
use restante_deferral::participating_function::Input;
use restante_sip::message::{Name, SipMessage};
use restante_sip::registration::{Bindings, ChangeKind, RegisterRequest, Registrant, RegistrarLimits};
use restante_sip::transaction::{Flow, ServerTransactionId};
use restante_sip::uri::Uri;
use restante_store::{Record, SavedRegistration};

use super::route::SavedBindings;
use super::{Now, Order, Shard};
use crate::logging::Shortened;
use crate::server::flow;

/// A REGISTER whose effect is being written.
pub(super) struct PendingRegistration {
    transaction: Option<ServerTransactionId>,
    key: RecipientKey,
    bindings: Bindings,
    answer: Vec<rsip::Header>,
    trigger: Option<Trigger>,
    aliases: Vec<String>,
}

impl Shard {
    pub(super) fn register(&mut self, now: Now, transaction: ServerTransactionId, message: &SipMessage, came: Flow) {
        let mut request = match RegisterRequest::parse(message) {
            Ok(request) => request,
            Err(error) => return self.refuse_registration(now, transaction, error),
        };
        let Some((tenant, key)) = Uri::parse(&request.address_of_record).ok().and_then(|uri| {
            let (tenant, key) = self.shared.directory.served(&uri)?;
            Some((tenant.clone(), key))
        }) else {
            return self.answer(now, transaction, 404);
        };
        let trusted = tenant.trusts(came.remote.ip());
        if !trusted {
            return self.refuse(now, transaction, 403, "Sender Not Authenticated", None);
        }
        request.flow = Some(flow::write(&came, message.list(Name::Via).count() > 1));
        self.note_connection(&key, came);
        let registrant = self.registrant(&request, &key);
        if registrant == Registrant::Device && !tenant.registrar {
            return self.refuse(now, transaction, 403, "Not A Registrar", None);
        }
        let mut bindings = self.registrations.get(&key).cloned().unwrap_or_default();
        let limits = self.registrar_limits();
        let outcome = match bindings.apply(now.wall.0, &request, registrant, &limits) {
            Ok(outcome) => outcome,
            Err(error) => return self.refuse_registration(now, transaction, error),
        };
        let new = outcome
            .changes
            .iter()
            .any(|change| matches!(change.kind, ChangeKind::Added | ChangeKind::Refreshed { moved: true }));
        let trigger = outcome.makes_available().then_some(if new { Trigger::Registered } else { Trigger::Refreshed });
        let aliases = if registrant == Registrant::Core { request.associated_addresses.clone() } else { Vec::new() };
        let associated = self.associated_uris(&key, &aliases);
        let answer = bindings.answer(now.wall.0, &request, registrant, &associated);
        tracing::info!(tenant = %key.tenant, user = %Shortened(&key.address.0), contacts = bindings.bindings.len(), ?registrant, "registered");
        let pending = PendingRegistration { transaction: Some(transaction), key, bindings, answer, trigger, aliases };
        if outcome.changes.is_empty() {
            return self.registration_saved(now, pending, Ok(()));
        }
        self.save_registration(now, pending);
    }

    /// Ends what is over by now.
    pub(super) fn end_registrations(&mut self, now: Now) {
        while let Some(Reverse((at, _))) = self.registration_ends.peek()
            && *at <= now.wall.0
            && let Some(Reverse((_, key))) = self.registration_ends.pop()
        {
            let Some(bindings) = self.registrations.get(&key) else { continue };
            let mut bindings = bindings.clone();
            if bindings.expire(now.wall.0).is_empty() {
                continue;
            }
            let pending = PendingRegistration {
                transaction: None,
                key,
                bindings,
                answer: Vec::new(),
                trigger: None,
                aliases: Vec::new(),
            };
            self.save_registration(now, pending);
        }
    }

    fn save_registration(&mut self, now: Now, pending: PendingRegistration) {
        let ends = pending.bindings.bindings.iter().map(|binding| binding.expires_at).max();
        let registration = ends.map(|expires_at| SavedRegistration {
            bytes: SavedBindings::write(&pending.bindings),
            expires_at: Timestamp(expires_at),
        });
        // Numbers of contacts must never be used again, also after the last one went: an empty set is kept as well.
        let registration = registration.or_else(|| {
            Some(SavedRegistration { bytes: SavedBindings::write(&pending.bindings), expires_at: Timestamp(0) })
        });
        // Taken over at once: a second REGISTER that comes before the commit builds on it, and is written after it.
        self.registrations.insert(pending.key.clone(), pending.bindings.clone());
        if let Some(next) = pending.bindings.next_expiry() {
            self.registration_ends.push(Reverse((next, pending.key.clone())));
        }
        let key = pending.key.clone();
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
        let PendingRegistration { transaction, key, answer, trigger, aliases, .. } = pending;
        if let Err(error) = result {
            tracing::error!(%error, "a registration could not be kept");
            if let Some(transaction) = transaction {
                self.answer_with(now, transaction, 503, |builder| builder.field("Retry-After", "5"));
            }
            return;
        }
        if let Some(transaction) = transaction {
            self.answer_with(now, transaction, 200, |builder| {
                answer.iter().fold(builder, |builder, header| builder.header(header))
            });
        }
        self.learn_aliases(&key, aliases);
        self.contacts_changed(now, &key, trigger);
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

    /// For P-Associated-URI: every name of the user.
    fn associated_uris(&self, key: &RecipientKey, learnt: &[String]) -> Vec<String> {
        let mut uris = vec![key.address.0.to_string()];
        uris.extend(learnt.iter().filter(|alias| **alias != *key.address.0).cloned());
        uris
    }

    /// The core says under which names the user is registered (RFC 7315 §4.1): they all reach this queue from now on.
    fn learn_aliases(&mut self, key: &RecipientKey, aliases: Vec<String>) {
        let foreign = |alias: &String| {
            **alias != *key.address.0
                && Uri::parse(alias)
                    .ok()
                    .and_then(|uri| self.shared.directory.served(&uri))
                    .is_some_and(|(tenant, _)| tenant.name == key.tenant)
        };
        let aliases: Vec<String> = aliases.into_iter().filter(foreign).collect();
        if aliases.is_empty() {
            return;
        }
        let names: Vec<(String, CanonicalAddress)> =
            aliases.iter().map(|alias| (alias.clone(), key.address.clone())).collect();
        self.shared.directory.learn(&names);
        let mut profile: Profile = self.shared.store.profile(key).unwrap_or_default();
        let before = profile.aliases.len();
        for alias in aliases {
            if !profile.aliases.contains(&alias) {
                profile.aliases.push(alias);
            }
        }
        if profile.aliases.len() > before {
            let ticket = self.ticket();
            self.orders.insert(ticket.token, Order::Ignored);
            if self.shared.store.save(ticket, key.clone(), Record::Profile(profile)).is_err() {
                self.orders.remove(&ticket.token);
            }
        }
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

    fn refuse_registration(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        error: restante_sip::registration::RegisterError,
    ) {
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
