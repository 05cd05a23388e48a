//! Announcing what waits: NOTIFY in the device's subscription; else a MESSAGE with a summary where it takes that; else
//! NOTIFY without a subscription where the operator turned that on (it is outside RFC 6665).

use restante_cpim::message_summary::{self, Counts, ListedMessage, MAX_LISTED, MessageSummary};
use restante_deferral::model::{ContactId, MessageId, RecipientKey, StoredMessage};
use restante_deferral::participating_function::AttemptId;
use restante_sip::header::write_date;
use restante_sip::message::Method;
use restante_sip::transaction::Transport;

use super::delivery::NoAttempt;
use super::recipients::Carrier;
use super::responses::{Announcement, Purpose};
use super::route::Route;
use super::{Now, Shard, fields};

/// Bytes that a summary may have where it goes over UDP, so that the request around it stays below 1300.
const MAX_UDP_SUMMARY_BYTES: usize = 700;

impl Shard {
    pub(super) fn announce(
        &mut self,
        now: Now,
        key: &RecipientKey,
        attempt: AttemptId,
        contact: Option<ContactId>,
        messages: &[StoredMessage],
        not_shown: u32,
    ) -> Result<Option<Carrier>, NoAttempt> {
        let contact = contact.ok_or(NoAttempt::NoWay)?;
        let route = self.route_to(key, contact).ok_or(NoAttempt::NoWay)?;
        let is_reliable = route.flow.transport != Transport::Udp;
        let summary = self.summary(key, messages, not_shown, is_reliable);
        let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
        let bindings = self.registrations.get(key).map(|known| known.bindings.as_slice()).unwrap_or_default();
        let binding = bindings.iter().find(|binding| binding.id.0 == contact.0);
        let subscription = binding.and_then(|binding| self.subscriptions.of_contact(key, bindings, binding));
        let takes_summary = binding.is_some_and(super::route::accepts_summary);
        if let Some(dialog) = subscription {
            let announcement =
                Announcement { key: key.clone(), attempt, messages: ids, is_device: route.is_device, hop: route.hop };
            let sent = self.send_notify(now, &dialog, &summary, Some(announcement));
            return if sent { Ok(None) } else { Err(NoAttempt::Busy) };
        }
        let unsolicited = self.shared.directory.tenant(&key.tenant).is_some_and(|tenant| tenant.unsolicited_notify);
        let method = match (takes_summary, unsolicited) {
            (true, _) => Method::Message,
            (false, true) => Method::Notify,
            (false, false) => return Err(NoAttempt::WrongForm),
        };
        let client = self.send_summary(now, key, &route, &method, &summary)?;
        let purpose =
            Purpose::Attempt { key: key.clone(), attempt, messages: ids, is_device: route.is_device, hop: route.hop };
        self.purposes.insert(client, purpose);
        Ok(Some(Carrier::Transaction(client)))
    }

    fn send_summary(
        &mut self,
        now: Now,
        key: &RecipientKey,
        route: &Route,
        method: &Method,
        summary: &MessageSummary,
    ) -> Result<restante_sip::transaction::ClientTransactionId, NoAttempt> {
        let name = format!("n{:032x}", self.endpoint.identifiers().random());
        let call_id = self.shared.own_mark.call_id(&name);
        let tag = self.endpoint.identifiers().tag();
        let domain = self.shared.domain_of(&key.tenant);
        let body = summary.write();
        let to = self.shared.called(key);
        let (client, _) = self.send_request(now, method, route.flow, |via, contact| {
            let builder = fields::begin(method, route, via)
                .field("From", &format!("<sip:{domain}>;tag={tag}"))
                .field("To", &format!("<{to}>"))
                .field("Call-ID", &call_id)
                .field("CSeq", &format!("1 {method}"));
            let builder = if *method == Method::Notify {
                builder
                    .field("Contact", &format!("<{contact}>"))
                    .field("Event", restante_sip::subscription::MESSAGE_SUMMARY)
                    .field("Subscription-State", "active")
            } else {
                builder
            };
            builder.field("Content-Type", message_summary::CONTENT_TYPE).finish_with_body(body.as_bytes())
        })?;
        Ok(client)
    }

    /// What waits, with a header block for each message as far as there is room.
    fn summary(
        &self,
        key: &RecipientKey,
        messages: &[StoredMessage],
        not_shown: u32,
        is_reliable: bool,
    ) -> MessageSummary {
        let shown = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        let listed = messages.iter().take(MAX_LISTED).map(|message| {
            let envelope = &message.message.envelope;
            let subject = envelope.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("Subject"));
            ListedMessage {
                message_id: message.id.0.to_string(),
                from: if envelope.sender.private { String::new() } else { format!("<{}>", envelope.sender.uri) },
                date: write_date(message.message.received_at.0 / 1000),
                subject: subject.map(|(_, value)| value.clone()).unwrap_or_default(),
                content_length: message.message.body.size_bytes(),
            }
        });
        let mut summary = MessageSummary {
            messages_waiting: shown > 0,
            account: Some(self.shared.called(key)),
            classes: vec![(
                "Text-Message".to_owned(),
                Counts { new: shown.saturating_add(not_shown), ..Counts::default() },
            )],
            messages: listed.collect(),
        };
        while !is_reliable && summary.messages.len() > 1 && summary.write().len() > MAX_UDP_SUMMARY_BYTES {
            summary.messages.pop();
        }
        summary
    }
}
