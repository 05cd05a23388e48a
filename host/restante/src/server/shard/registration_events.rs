//! Subscriptions to the registration events of users (RFC 3680), where a tenant names who knows of them.
//!
//! A user is watched while something waits for it, or while a core told of its registration: the first says when it is
//! back, the second when it is gone, which a third-party REGISTER alone cannot say. What a NOTIFY tells goes the way of
//! a REGISTER: it is durable before anybody is told. Subscriptions are not kept over a restart; they begin again, one
//! after the other.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use restante_deferral::model::{RecipientKey, Timestamp};
use restante_sip::dialog::DialogId;
use restante_sip::message::{Method, SipMessage};
use restante_sip::registration::{BindingKind, EmbeddedDevice, ReportedDevices};
use restante_sip::registration_events::{RegistrationTable, ReportedContact, Subscriber, SubscriberSettings, Taken};
use restante_sip::transaction::{Flow, ServerTransactionId};
use restante_sip::uri::Uri;

use super::fields::contact_along;
use super::registrar::Work;
use super::responses::Purpose;
use super::{Now, Shard, size};
use crate::server::Shared;
use crate::server::directory::RegistrationEvents;

/// Milliseconds between the first SUBSCRIBEs of two users: a server that starts again asks about many.
const PACE_MILLISECONDS: u64 = 5;
/// Milliseconds after which a next hop whose name is being looked up is tried again.
const NAME_RETRY_MILLISECONDS: u64 = 500;
/// Milliseconds that what was reported is believed longer than the subscription: its refresh may be late.
const GRACE_MILLISECONDS: u64 = 120_000;
/// Most users of a shard who are remembered while all places are taken.
const MAX_LEFT_OUT: usize = 65_536;

/// Users that are watched, of one shard.
#[derive(Default)]
pub(super) struct Watches {
    of_user: HashMap<RecipientKey, Watch>,
    /// By Call-ID.
    users: HashMap<String, RecipientKey>,
    wakes: BTreeSet<(u64, RecipientKey)>,
    /// When the last one was to begin.
    last_begin: u64,
    /// Who is to be watched when a place is free.
    left_out: BTreeSet<RecipientKey>,
}

struct Watch {
    subscriber: Subscriber,
    table: RegistrationTable,
    scheduled: Option<u64>,
    /// Where the last SUBSCRIBE went.
    flow: Option<Flow>,
    /// It waited for a name already.
    is_postponed: bool,
}

impl Watches {
    /// When something is to be done.
    pub(super) fn next_wake(&self) -> Option<u64> {
        self.wakes.first().map(|(at, _)| *at)
    }

    fn schedule(&mut self, user: &RecipientKey) {
        let Some(watch) = self.of_user.get_mut(user) else { return };
        let wake = watch.subscriber.next_wake();
        let before = std::mem::replace(&mut watch.scheduled, wake);
        if before != wake {
            before.into_iter().for_each(|at| _ = self.wakes.remove(&(at, user.clone())));
            self.wakes.extend(wake.map(|at| (at, user.clone())));
        }
    }

    fn remove(&mut self, user: &RecipientKey) {
        let Some(watch) = self.of_user.remove(user) else { return };
        watch.scheduled.into_iter().for_each(|at| _ = self.wakes.remove(&(at, user.clone())));
        self.users.remove(watch.subscriber.key().0);
    }

    /// What begins anew is known by another Call-ID.
    fn renew(&mut self, user: &RecipientKey, call_id: String, tag: String) {
        let Some(watch) = self.of_user.get_mut(user) else { return };
        self.users.remove(watch.subscriber.key().0);
        self.users.insert(call_id.clone(), user.clone());
        watch.subscriber.renew(call_id, tag);
    }
}

impl Shard {
    /// Watches a user, if its tenant says whom to ask and there is a reason to.
    pub(super) fn watch(&mut self, now: Now, user: &RecipientKey) {
        if !self.watches.of_user.contains_key(user) && self.may_be_watched(user) && self.is_reason_known(user) {
            self.begin_watch(now, user);
        }
    }

    /// The same for one for whom something waits: a message, or a disposition, which no sum counts.
    pub(super) fn watch_waiting(&mut self, now: Now, user: &RecipientKey) {
        if !self.watches.of_user.contains_key(user) && self.may_be_watched(user) {
            self.begin_watch(now, user);
        }
    }

    fn begin_watch(&mut self, now: Now, user: &RecipientKey) {
        let Some(settings) = self.watch_settings(user).filter(|_| !self.draining) else { return };
        let most = size(self.shared.limits.max_registration_subscriptions) / self.shared.shards().max(1);
        if self.watches.of_user.len() >= most.max(1) {
            if self.watches.left_out.len() < MAX_LEFT_OUT {
                self.watches.left_out.insert(user.clone());
            }
            return self.shared.metrics.count_dropped("too-many-registration-subscriptions");
        }
        self.watches.left_out.remove(user);
        let (call_id, tag) = self.names_of_watch(user);
        let domain = self.shared.domain_of(&user.tenant);
        let begin = now.wall.0.max(self.watches.last_begin.saturating_add(PACE_MILLISECONDS));
        self.watches.last_begin = begin;
        let settings = SubscriberSettings {
            user: user.address.to_string(),
            identity: settings.identity.clone().unwrap_or_else(|| format!("sip:{domain}")),
            expires_seconds: settings.expires_seconds,
        };
        let subscriber = Subscriber::new(settings, call_id, tag, begin);
        self.watches.users.insert(subscriber.key().0.to_owned(), user.clone());
        let watch =
            Watch { subscriber, table: RegistrationTable::default(), scheduled: None, flow: None, is_postponed: false };
        self.watches.of_user.insert(user.clone(), watch);
        self.watches.schedule(user);
    }

    /// Those whose registration with a core an earlier run knew.
    pub(super) fn watch_registered(&mut self, now: Now) {
        let users: Vec<RecipientKey> = self.registrations.keys().cloned().collect();
        users.iter().for_each(|user| self.watch(now, user));
    }

    /// Call-ID and tag of a subscription that begins.
    fn names_of_watch(&mut self, user: &RecipientKey) -> (String, String) {
        let domain = self.shared.domain_of(&user.tenant);
        let identifiers = self.endpoint.identifiers();
        (format!("{:032x}@{domain}", identifiers.random()), identifiers.tag())
    }

    /// Does what is due: of each user one thing, so that this ends whatever comes of it.
    pub(super) fn wake_watches(&mut self, now: Now) {
        for _ in 0..self.watches.wakes.len() {
            if self.watches.next_wake().is_none_or(|at| at > now.wall.0) {
                break;
            }
            let Some((_, user)) = self.watches.wakes.pop_first() else { break };
            let Some(watch) = self.watches.of_user.get_mut(&user) else { continue };
            watch.scheduled = None;
            let is_due = watch.subscriber.wake(now.wall.0);
            if watch.subscriber.dialog().is_none() {
                watch.table.clear();
            }
            if is_due {
                // Without a reason it is let go: it ends by itself, and nobody is told of what nobody asked.
                match self.watch_settings(&user).filter(|_| self.is_watch_wanted(&user) && !self.draining) {
                    Some(settings) => self.send_subscribe(now, &user, &settings),
                    None => self.end_watch(now, &user),
                }
            }
            self.watches.schedule(&user);
        }
    }

    /// Its place is another's. Whether there is a reason still is looked at when its time comes, one after the other:
    /// that can take a look into the store.
    fn end_watch(&mut self, now: Now, user: &RecipientKey) {
        self.watches.remove(user);
        while let Some(next) = self.watches.left_out.pop_first() {
            if self.may_be_watched(&next) {
                return self.begin_watch(now, &next);
            }
        }
    }

    fn send_subscribe(&mut self, now: Now, user: &RecipientKey, settings: &RegistrationEvents) {
        if self.watches.of_user.get(user).is_some_and(|watch| watch.subscriber.is_spent()) {
            let (call_id, tag) = self.names_of_watch(user);
            self.watches.renew(user, call_id, tag);
        }
        let Some(watch) = self.watches.of_user.get(user) else { return };
        let way = match (watch.subscriber.dialog(), watch.flow) {
            (Some(dialog), Some(began)) => Some((self.in_dialog_flow(dialog, began), String::new())),
            _ => self.way_to_registrations(user, settings),
        };
        let Some(watch) = self.watches.of_user.get_mut(user) else { return };
        let Some((flow, route)) = way else {
            // The name is being looked up; one that leads nowhere is a try that failed.
            watch.is_postponed = !watch.is_postponed;
            return match watch.is_postponed {
                true => watch.subscriber.postpone(now.wall.0.saturating_add(NAME_RETRY_MILLISECONDS)),
                false => watch.subscriber.not_sent(now.wall.0),
            };
        };
        watch.is_postponed = false;
        let (before, mut subscriber) = (watch.subscriber.clone(), watch.subscriber.clone());
        let mut subscribe = Bytes::new();
        let sent = self.send_request(now, &Method::Subscribe, flow, |via, contact| {
            // A request that is too large for UDP is built twice, and must be the same one.
            let mut next = before.clone();
            subscribe = next.subscribe(via, &contact_along(contact, [route.as_str()]), &route)?;
            subscriber = next;
            Ok(subscribe.clone())
        });
        let Some(watch) = self.watches.of_user.get_mut(user) else { return };
        match sent {
            Ok((client, flow)) => {
                watch.subscriber = subscriber;
                watch.flow = Some(flow);
                self.purposes.insert(client, Purpose::Watch { user: user.clone(), subscribe });
            }
            Err(error) => {
                tracing::debug!(%error, "a SUBSCRIBE cannot be sent");
                watch.subscriber.not_sent(now.wall.0);
            }
        }
    }

    /// Through the core of the user's registration where that is known by its REGISTER, else through whom the tenant
    /// names.
    fn way_to_registrations(&self, user: &RecipientKey, settings: &RegistrationEvents) -> Option<(Flow, String)> {
        let known = self.registrations.get(user);
        let core =
            known.and_then(|it| it.bindings.iter().find(|it| it.kind == BindingKind::Core && !it.call_id.is_empty()));
        if let Some(core) = core
            && let Some(way) = self.route_to(user, restante_deferral::model::ContactId(core.id.0))
        {
            return Some((way.flow, way.routes.into_iter().next()?));
        }
        let uri = Uri::parse(&settings.via).ok()?;
        let loose = if uri.parameter("lr").is_some() { "" } else { ";lr" };
        let route = format!("<{}{loose}>", settings.via);
        let flow = match &self.shared.outbound {
            Some(_) => self.outbound_flow(),
            None => self.target_flow(&uri),
        };
        Some((flow?, route))
    }

    /// The final answer to a SUBSCRIBE; none: nothing came.
    pub(super) fn watch_answered(
        &mut self,
        now: Now,
        user: &RecipientKey,
        subscribe: &Bytes,
        answer: Option<&SipMessage>,
    ) {
        let Some(watch) = self.watches.of_user.get_mut(user) else { return };
        let request = SipMessage::parse(subscribe.clone(), &self.shared.message_limits()).ok();
        // An earlier subscription of the same user says nothing of this one.
        if request.as_ref().and_then(SipMessage::call_id) != Some(watch.subscriber.key().0) {
            return;
        }
        if let Some(status) = answer.and_then(SipMessage::status).filter(|status| *status >= 300) {
            tracing::debug!(tenant = %user.tenant, status, "no registration events");
        }
        watch.subscriber.answered(now.wall.0, request.as_ref().zip(answer));
        if watch.subscriber.dialog().is_none() {
            watch.table.clear();
        }
        self.watches.schedule(user);
    }

    /// A NOTIFY of registration events. It must be of a subscription of ours, whose Call-ID and tag are known to those
    /// on its way alone, and come from where that leads or from a peer that the tenant trusts.
    pub(super) fn registration_notified(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
        id: &DialogId,
        came: Flow,
    ) {
        let Some(user) = self.watches.users.get(&id.call_id).cloned() else {
            return self.answer(now, transaction, 481);
        };
        let Some(watch) = self.watches.of_user.get_mut(&user).filter(|it| it.subscriber.key().1 == id.local_tag) else {
            return self.answer(now, transaction, 481);
        };
        let is_from_there = watch.flow.is_some_and(|flow| flow.remote.ip() == came.remote.ip());
        let tenant = self.shared.directory.tenant(&user.tenant);
        if !is_from_there && !tenant.is_some_and(|tenant| tenant.trusts(&self.shared.peer(&came))) {
            return self.answer(now, transaction, 403);
        }
        let notified = match watch.subscriber.notified(now.wall.0, message) {
            Ok(notified) => notified,
            Err(error) => return self.refuse(now, transaction, error.status(), &error.to_string(), None),
        };
        let mut is_news = false;
        let taken = match notified.info {
            Some(Ok(info)) => {
                is_news = watch.table.is_news(&info, is_name_of(&self.shared, &user));
                watch.table.apply(info)
            }
            Some(Err(error)) => {
                tracing::debug!(tenant = %user.tenant, %error, "a registration document cannot be used");
                Taken::Known
            }
            None => Taken::Known,
        };
        if taken == Taken::Gap && !notified.is_last {
            watch.subscriber.ask_again(now.wall.0);
        }
        let ends_at = watch.subscriber.ends_at();
        self.answer(now, transaction, 200);
        if taken == Taken::Applied {
            let reported = self.reported(&user, now.wall, ends_at, is_news);
            if let Some(reported) = reported {
                self.change_bindings(now, user.clone(), Work::Report(Box::new(reported)));
            }
        }
        // A new dialog begins with everything.
        if notified.is_last
            && let Some(watch) = self.watches.of_user.get_mut(&user)
        {
            watch.table.clear();
        }
        self.watches.schedule(&user);
    }

    /// What the documents say of a user, under any of its names. None: nothing, which proves nothing.
    fn reported(
        &self,
        user: &RecipientKey,
        now: Timestamp,
        ends_at: Option<u64>,
        is_news: bool,
    ) -> Option<ReportedDevices> {
        let settings = self.watch_settings(user)?;
        let watch = self.watches.of_user.get(user)?;
        if !watch.table.speaks_of(is_name_of(&self.shared, user)) {
            return None;
        }
        let contacts = watch.table.contacts(is_name_of(&self.shared, user));
        // Somebody is there, whatever is said of the device.
        let device = |contact: &&ReportedContact| {
            contact.device().or_else(|| EmbeddedDevice::read(&format!("<{}>", user.address)))
        };
        let lasts = contacts.iter().filter_map(|contact| contact.expires_seconds).max().unwrap_or(0);
        let expires_at =
            now.0.saturating_add(u64::from(lasts) * 1000).max(ends_at.unwrap_or(0)).saturating_add(GRACE_MILLISECONDS);
        let most = now.0.saturating_add(self.shared.limits.max_registration_seconds.saturating_mul(1000));
        Some(ReportedDevices {
            core_uri: settings.via.clone(),
            devices: contacts.iter().filter_map(device).collect(),
            expires_at: expires_at.min(most.saturating_add(GRACE_MILLISECONDS)),
            is_news,
        })
    }

    fn watch_settings(&self, user: &RecipientKey) -> Option<RegistrationEvents> {
        self.shared.directory.tenant(&user.tenant)?.registration_events.clone()
    }

    /// Something waits for the user, or a core told of it; and it may be watched.
    fn is_watch_wanted(&self, user: &RecipientKey) -> bool {
        self.may_be_watched(user) && (self.is_reason_known(user) || self.shared.store.has_messages(user))
    }

    /// Its tenant says whom to ask; it is a user, and of this shard.
    fn may_be_watched(&self, user: &RecipientKey) -> bool {
        let is_served = || Uri::parse(&user.address.0).is_ok_and(|uri| self.shared.directory.served(&uri).is_some());
        self.watch_settings(user).is_some()
            && self.is_here(user)
            && is_served()
            && self.shared.directory.owner_of(user).is_none()
    }

    /// Of what is in memory.
    fn is_reason_known(&self, user: &RecipientKey) -> bool {
        let known = self.registrations.get(user);
        known.is_some_and(|it| it.bindings.iter().any(|it| it.kind == BindingKind::Core))
            || self.shared.store.totals(user).0.messages > 0
    }
}

/// Whether an address is one of the user's names.
fn is_name_of<'a>(shared: &'a Shared, user: &'a RecipientKey) -> impl Fn(&str) -> bool + use<'a> {
    move |address| {
        let uri = Uri::parse(address).ok();
        uri.and_then(|uri| shared.directory.served(&uri)).is_some_and(|(_, key)| key == *user)
    }
}
