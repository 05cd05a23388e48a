//! SUBSCRIBE to message-summary (RFC 3842, RFC 6665).
//!
//! A user may have several subscriptions, one a device; each is a dialog of its own. What waits is told at once, in
//! announcements, and when messages go.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Instant;

use restante_cpim::message_summary::{Counts, MessageSummary};
use restante_deferral::model::{RecipientKey, TenantName};
use restante_sip::dialog::DialogId;
use restante_sip::message::{Method, SipMessage};
use restante_sip::registration::Binding;
use restante_sip::subscription::{SubscribeError, Subscription, SubscriptionLimits, TerminationReason};
use restante_sip::transaction::{Flow, ServerTransactionId};
use restante_sip::uri::Uri;
use restante_sip::writer::Builder;

use super::authentication::Refusal;
use super::fields::contact_along;
use super::responses::{Announcement, Purpose};
use super::{Now, Shard};

/// Subscriptions of one user; one more ends the oldest.
const MAX_PER_USER: usize = 10;
/// Changes within this time are told together.
const SUMMARY_DELAY: std::time::Duration = std::time::Duration::from_secs(1);

/// A client's subscription.
pub(super) struct Subscribed {
    key: RecipientKey,
    subscription: Subscription,
    flow: Flow,
    /// Contact of its SUBSCRIBE, by which its registration is found.
    contact_uri: Option<String>,
    instance: Option<String>,
    /// When it ends, in [`Subscriptions::ends`].
    end: (u64, u64),
}

/// All subscriptions of a shard's users.
#[derive(Default)]
pub(super) struct Subscriptions {
    by_dialog: HashMap<DialogId, Subscribed>,
    /// Oldest first.
    of_user: HashMap<RecipientKey, Vec<DialogId>>,
    /// When each ends, and its number.
    ends: BTreeSet<(u64, u64)>,
    dialogs_by_number: HashMap<u64, DialogId>,
    next_number: u64,
    /// Users whose summary changed, in order of when they are told.
    changed: VecDeque<(Instant, RecipientKey)>,
    is_changed: HashSet<RecipientKey>,
}

impl Subscriptions {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_dialog.len()
    }

    fn insert(&mut self, id: DialogId, mut subscribed: Subscribed) {
        self.of_user.entry(subscribed.key.clone()).or_default().push(id.clone());
        self.next_number = self.next_number.wrapping_add(1);
        subscribed.end = (subscribed.subscription.expires_at, self.next_number);
        self.dialogs_by_number.insert(self.next_number, id.clone());
        self.ends.insert(subscribed.end);
        self.by_dialog.insert(id, subscribed);
    }

    /// It was refreshed.
    fn schedule(&mut self, id: &DialogId) {
        let Some(subscribed) = self.by_dialog.get_mut(id) else { return };
        self.ends.remove(&subscribed.end);
        subscribed.end.0 = subscribed.subscription.expires_at;
        self.ends.insert(subscribed.end);
    }

    fn remove(&mut self, id: &DialogId) -> Option<Subscribed> {
        let subscribed = self.by_dialog.remove(id)?;
        self.ends.remove(&subscribed.end);
        self.dialogs_by_number.remove(&subscribed.end.1);
        if let Some(ids) = self.of_user.get_mut(&subscribed.key) {
            ids.retain(|known| known != id);
            if ids.is_empty() {
                self.of_user.remove(&subscribed.key);
            }
        }
        Some(subscribed)
    }

    fn of(&self, key: &RecipientKey) -> impl Iterator<Item = (&DialogId, &Subscribed)> {
        self.of_user.get(key).into_iter().flatten().filter_map(|id| Some((id, self.by_dialog.get(id)?)))
    }

    /// The subscription of a registered device. One that names no registered contact is anybody's of its user.
    pub(super) fn of_contact(&self, key: &RecipientKey, all: &[Binding], binding: &Binding) -> Option<DialogId> {
        let is_of = |it: &Subscribed, binding: &Binding| {
            (it.instance.is_some() && it.instance == binding.instance)
                || it.contact_uri.as_deref() == Some(binding.contact_uri.as_str())
        };
        let active = || self.of(key).filter(|(_, it)| it.subscription.is_active());
        let own = active().filter(|(_, it)| is_of(it, binding)).last();
        let anybodys = || active().filter(|(_, it)| !all.iter().any(|binding| is_of(it, binding))).last();
        own.or_else(anybodys).map(|(id, _)| id.clone())
    }

    /// When something is to be done.
    pub(super) fn next_end(&self) -> Option<u64> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// When a change is to be told.
    pub(super) fn next_change(&self) -> Option<Instant> {
        self.changed.front().map(|(at, _)| *at)
    }
}

impl Shard {
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
        uri: &Uri,
        came: Flow,
    ) {
        let Some((tenant, key)) = self.shared.directory.served(uri) else {
            return self.answer(now, transaction, 404);
        };
        let asker = match self.sender(now, &tenant, message, came) {
            Ok(asker) => asker,
            Err(refusal) => return self.refuse_because(now, transaction, refusal),
        };
        // A summary tells who wrote: it is for the user alone.
        if asker.address != key.address {
            return self.refuse(now, transaction, 403, "Not Your Messages", None);
        }
        let tag = self.endpoint.identifiers().tag();
        let subscription = match Subscription::accept(now.wall.0, message, &tag, &self.subscription_limits()) {
            Ok(subscription) => subscription,
            Err(error) => return self.refuse_subscription(now, transaction, error),
        };
        let contact = message.contacts().ok().and_then(|contacts| contacts.into_iter().next());
        let subscribed = Subscribed {
            key: key.clone(),
            subscription,
            flow: came,
            instance: contact.as_ref().and_then(|contact| contact.instance().map(str::to_owned)),
            contact_uri: contact.map(|contact| contact.address.uri.to_string()),
            end: (0, 0),
        };
        if subscribed.subscription.is_active() {
            self.replace_subscription(&subscribed);
        }
        let id = subscribed.subscription.dialog.id();
        self.subscriptions.insert(id.clone(), subscribed);
        self.subscription_answered(now, transaction, message, &id, Some(&tag));
    }

    /// A client that lost its dialog subscribes anew: the subscription before it is nobody's.
    fn replace_subscription(&mut self, new: &Subscribed) {
        let known: Vec<&DialogId> = self.subscriptions.of(&new.key).map(|(id, _)| id).collect();
        let replaced = self.subscriptions.of(&new.key).find(|(_, it)| {
            (it.instance.is_some() && it.instance == new.instance)
                || (it.contact_uri.is_some() && it.contact_uri == new.contact_uri)
        });
        let oldest = known.first().filter(|_| known.len() >= MAX_PER_USER).copied();
        if let Some(id) = replaced.map(|(id, _)| id).or(oldest).cloned() {
            self.subscriptions.remove(&id);
        }
    }

    pub(super) fn subscribe_in_dialog(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
        id: &DialogId,
        came: Flow,
    ) {
        let limits = self.subscription_limits();
        if let Err(refusal) = self.may_move(now, message, id, came) {
            return self.refuse_because(now, transaction, refusal);
        }
        let Some(subscribed) = self.subscriptions.by_dialog.get_mut(id) else {
            return self.answer(now, transaction, 481);
        };
        if let Err(error) = subscribed.subscription.refresh(now.wall.0, message, &limits) {
            return self.refuse_subscription(now, transaction, error);
        }
        // Behind an address translation the way back is the one that the latest request came.
        subscribed.flow = came;
        self.subscriptions.schedule(id);
        self.subscription_answered(now, transaction, message, id, None);
    }

    /// Whether a SUBSCRIBE in its dialog may have notifications go to where it came from: the same address, or its user.
    fn may_move(&self, now: Now, message: &SipMessage, id: &DialogId, came: Flow) -> Result<(), Refusal> {
        let Some(subscribed) = self.subscriptions.by_dialog.get(id) else { return Ok(()) };
        let tenant = self.shared.directory.tenant(&subscribed.key.tenant);
        let Some(tenant) = tenant.filter(|it| it.digest.is_demanded && came.remote.ip() != subscribed.flow.remote.ip())
        else {
            return Ok(());
        };
        let asker = self.sender(now, &tenant, message, came)?;
        if asker.address == subscribed.key.address { Ok(()) } else { Err((403, "Not Your Messages").into()) }
    }

    fn subscription_answered(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
        id: &DialogId,
        tag: Option<&str>,
    ) {
        let Some(subscribed) = self.subscriptions.by_dialog.get(id) else { return };
        let key = subscribed.key.clone();
        let next_hop = subscribed.subscription.dialog.next_hop();
        let contact =
            contact_along(&self.contact_uri(&subscribed.flow), message.request_uri().into_iter().chain([next_hop]));
        let info = self.authentication_info(now, transaction, 200);
        if let Some(builder) = self.endpoint.response(transaction, 200, tag)
            && let builder = builder.optional("Authentication-Info", info.as_deref())
            && let Ok(bytes) = subscribed.subscription.answer(now.wall.0, builder, message, &contact).finish()
        {
            self.endpoint.respond(now.monotonic, transaction, 200, bytes);
        }
        // The state at once (RFC 6665 §4.2.1.2): what waits is not read for it; the counts come from the sums.
        let summary = self.counts_summary(&key);
        self.send_notify(now, id, &summary, None);
        self.forget_ended(id);
        self.contacts_changed(now, &key, None);
    }

    fn counts_summary(&self, key: &RecipientKey) -> MessageSummary {
        let totals = self.shared.store.totals(key).0;
        MessageSummary {
            messages_waiting: totals.messages > 0,
            account: Some(self.shared.called(key)),
            classes: vec![("Text-Message".to_owned(), Counts { new: totals.messages, ..Counts::default() })],
            messages: Vec::new(),
        }
    }

    /// NOTIFY inside a subscription; whether it was sent.
    pub(super) fn send_notify(
        &mut self,
        now: Now,
        id: &DialogId,
        summary: &MessageSummary,
        announces: Option<Announcement>,
    ) -> bool {
        let Some(subscribed) = self.subscriptions.by_dialog.get(id) else { return false };
        let flow = self.in_dialog_flow(&subscribed.subscription.dialog, subscribed.flow);
        let body = summary.write();
        let mut subscription = subscribed.subscription.clone();
        let sent = self.send_request(now, &Method::Notify, flow, |via, contact| {
            let contact = contact_along(contact, [subscription.dialog.next_hop()]);
            subscription.notify(now.wall.0, via, &contact, body.as_bytes())
        });
        let Ok((client, _)) = sent else { return false };
        if let Some(subscribed) = self.subscriptions.by_dialog.get_mut(id) {
            subscribed.subscription = subscription;
        }
        if let Some(Announcement { key, attempt, .. }) = &announces
            && let Some(slot) = self.slots.get_mut(key)
        {
            slot.attempts.insert(*attempt, super::recipients::Carrier::Transaction(client));
        }
        self.purposes.insert(client, Purpose::Notify { dialog: id.clone(), announces });
        true
    }

    /// What a client said to a NOTIFY; 408 for nothing, 503 for one that could not be sent.
    pub(super) fn notify_answered(&mut self, now: Now, id: &DialogId, status: u16, has_retry_after: bool) {
        let Some(subscribed) = self.subscriptions.by_dialog.get_mut(id) else { return };
        if !subscribed.subscription.notify_answered(status, has_retry_after)
            && let Some(gone) = self.subscriptions.remove(id)
        {
            self.contacts_changed(now, &gone.key, None);
        }
    }

    pub(super) fn end_subscriptions(&mut self, now: Now) {
        while let Some((at, number)) = self.subscriptions.ends.first().copied()
            && at <= now.wall.0
        {
            self.subscriptions.ends.pop_first();
            let Some(id) = self.subscriptions.dialogs_by_number.get(&number).cloned() else { continue };
            let Some(subscribed) = self.subscriptions.by_dialog.get_mut(&id) else { continue };
            if !subscribed.subscription.expire(now.wall.0) {
                continue;
            }
            let key = subscribed.key.clone();
            let summary = self.counts_summary(&key);
            self.send_notify(now, &id, &summary, None);
            self.subscriptions.remove(&id);
            self.contacts_changed(now, &key, None);
        }
    }

    /// Something that waited for a user does so no more.
    pub(super) fn summary_changed(&mut self, key: &RecipientKey) {
        if self.subscriptions.of_user.contains_key(key) && self.subscriptions.is_changed.insert(key.clone()) {
            self.subscriptions.changed.push_back((Instant::now() + SUMMARY_DELAY, key.clone()));
        }
    }

    pub(super) fn tell_changes(&mut self, now: Now) {
        while let Some((at, _)) = self.subscriptions.changed.front()
            && *at <= now.monotonic
            && let Some((_, key)) = self.subscriptions.changed.pop_front()
        {
            self.subscriptions.is_changed.remove(&key);
            let summary = self.counts_summary(&key);
            let ids: Vec<DialogId> = self.subscriptions.of(&key).map(|(id, _)| id.clone()).collect();
            for id in ids {
                self.send_notify(now, &id, &summary, None);
            }
        }
    }

    /// The server stops: clients are to subscribe again, here or elsewhere (RFC 6665 §4.1.3).
    pub(super) fn deactivate_subscriptions(&mut self, now: Now) {
        let ids: Vec<DialogId> = self.subscriptions.by_dialog.keys().cloned().collect();
        self.deactivate(now, ids);
    }

    /// The name that these are for belongs to another user now: clients are to subscribe again, to that.
    pub(super) fn deactivate_subscriptions_of(&mut self, now: Now, name: &RecipientKey) {
        let ids: Vec<DialogId> = self.subscriptions.of(name).map(|(id, _)| id.clone()).collect();
        self.deactivate(now, ids);
    }

    /// Users of these tenants that have any.
    pub(super) fn subscribed_users(&self, tenants: &HashSet<TenantName>) -> Vec<RecipientKey> {
        self.subscriptions.of_user.keys().filter(|key| tenants.contains(&key.tenant)).cloned().collect()
    }

    fn deactivate(&mut self, now: Now, ids: Vec<DialogId>) {
        for id in ids {
            let Some(subscribed) = self.subscriptions.by_dialog.get_mut(&id) else { continue };
            subscribed.subscription.terminate(TerminationReason::Deactivated);
            let key = subscribed.key.clone();
            // What it says last is shown until the client subscribed again (RFC 3842 §3.8).
            let summary = self.counts_summary(&key);
            self.send_notify(now, &id, &summary, None);
            self.subscriptions.remove(&id);
        }
    }

    fn forget_ended(&mut self, id: &DialogId) {
        if self.subscriptions.by_dialog.get(id).is_some_and(|it| !it.subscription.is_active()) {
            self.subscriptions.remove(id);
        }
    }

    fn subscription_limits(&self) -> SubscriptionLimits {
        SubscriptionLimits {
            max_expires_seconds: u32::try_from(self.shared.limits.max_subscription_seconds).unwrap_or(u32::MAX),
            ..SubscriptionLimits::default()
        }
    }

    fn refuse_subscription(&mut self, now: Now, transaction: ServerTransactionId, error: SubscribeError) {
        let fields = error.fields();
        self.answer_with(now, transaction, error.status(), |builder| fields.iter().fold(builder, Builder::header));
    }
}
