//! SUBSCRIBE to message-summary (RFC 3842, RFC 6665).

use restante_cpim::message_summary::MessageSummary;
use restante_deferral::model::RecipientKey;
use restante_sip::dialog::DialogId;
use restante_sip::message::{Method, SipMessage};
use restante_sip::subscription::{SubscribeError, Subscription, SubscriptionLimits};
use restante_sip::transaction::{Flow, ServerTransactionId};
use restante_sip::uri::Uri;
use restante_sip::writer::Builder;

use super::responses::Purpose;
use super::{Now, Shard};

/// A client's subscription.
pub(super) struct Subscribed {
    pub(super) subscription: Subscription,
    pub(super) flow: Flow,
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
        let Some((tenant, key)) = self.shared.directory.served(uri).map(|(tenant, key)| (tenant.clone(), key)) else {
            return self.answer(now, transaction, 404);
        };
        let asker = match self.sender(&tenant, message, came) {
            Ok(asker) => asker,
            Err((status, reason)) => return self.refuse(now, transaction, status, reason, None),
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
        // One a user: a newer one replaces it, as a client that lost its dialog needs.
        self.subscriptions.insert(key.clone(), Subscribed { subscription, flow: came });
        self.subscription_answered(now, transaction, message, &key, &tag);
    }

    pub(super) fn subscribe_in_dialog(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
        id: &DialogId,
    ) {
        let known = self.subscriptions.iter().find(|(_, it)| it.subscription.dialog.id() == *id);
        let Some(key) = known.map(|(key, _)| key.clone()) else { return self.answer(now, transaction, 481) };
        let limits = self.subscription_limits();
        let Some(subscribed) = self.subscriptions.get_mut(&key) else { return };
        if let Err(error) = subscribed.subscription.refresh(now.wall.0, message, &limits) {
            return self.refuse_subscription(now, transaction, error);
        }
        self.subscription_answered(now, transaction, message, &key, "");
    }

    fn subscription_answered(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
        key: &RecipientKey,
        tag: &str,
    ) {
        let Some(subscribed) = self.subscriptions.get(key) else { return };
        let contact = self.contact_uri(&subscribed.flow);
        let tag = (!tag.is_empty()).then_some(tag);
        if let Some(builder) = self.endpoint.response(transaction, 200, tag)
            && let Ok(bytes) = subscribed.subscription.answer(now.wall.0, builder, message, &contact).finish()
        {
            self.endpoint.respond(now.monotonic, transaction, 200, bytes);
        }
        // The state at once (RFC 6665 §4.2.1.2): what waits is not read for it; the counts come from the sums.
        let totals = self.shared.store.totals(key).0;
        let summary = MessageSummary {
            messages_waiting: totals.messages > 0,
            account: Some(self.shared.called(key)),
            classes: vec![(
                "Text-Message".to_owned(),
                restante_cpim::message_summary::Counts { new: totals.messages, ..Default::default() },
            )],
            messages: Vec::new(),
        };
        self.send_notify(now, key, &summary, Purpose::SubscriptionNotify(key.clone()));
        self.forget_ended(key);
        self.contacts_changed(now, key, None);
    }

    /// NOTIFY inside a subscription; whether it was sent.
    pub(super) fn send_notify(
        &mut self,
        now: Now,
        key: &RecipientKey,
        summary: &MessageSummary,
        purpose: Purpose,
    ) -> bool {
        let Some(subscribed) = self.subscriptions.get(key) else { return false };
        let flow = subscribed.flow;
        let (contact, sent_by) = (self.contact_uri(&flow), self.sent_by(&flow));
        let body = summary.write();
        let Some(subscribed) = self.subscriptions.get_mut(key) else { return false };
        let subscription = &mut subscribed.subscription;
        let sent = self.endpoint.send_request(now.monotonic, Method::Notify, flow, &sent_by, |via| {
            subscription.notify(now.wall.0, via, &contact, body.as_bytes())
        });
        match sent {
            Ok(client) => {
                if let Purpose::Attempt { attempt, .. } = &purpose
                    && let Some(slot) = self.slots.get_mut(key)
                {
                    slot.attempts.insert(*attempt, super::recipients::Carrier::Transaction(client));
                }
                self.purposes.insert(client, purpose);
                true
            }
            Err(_) => false,
        }
    }

    /// What a client said to a NOTIFY.
    pub(super) fn notify_answered(&mut self, now: Now, key: &RecipientKey, status: u16, has_retry_after: bool) {
        let Some(subscribed) = self.subscriptions.get_mut(key) else { return };
        if !subscribed.subscription.notify_answered(status, has_retry_after) {
            self.subscriptions.remove(key);
            self.contacts_changed(now, key, None);
        }
    }

    pub(super) fn end_subscriptions(&mut self, now: Now) {
        let ended: Vec<RecipientKey> = self
            .subscriptions
            .iter_mut()
            .filter_map(|(key, it)| it.subscription.expire(now.wall.0).then(|| key.clone()))
            .collect();
        for key in ended {
            self.send_notify(now, &key, &MessageSummary::default(), Purpose::SubscriptionNotify(key.clone()));
            self.subscriptions.remove(&key);
            self.contacts_changed(now, &key, None);
        }
    }

    fn forget_ended(&mut self, key: &RecipientKey) {
        if self.subscriptions.get(key).is_some_and(|it| !it.subscription.is_active()) {
            self.subscriptions.remove(key);
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
