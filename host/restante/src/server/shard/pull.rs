//! A client asks for its messages: INVITE to the deferred messaging URI, or to its own address with the CPM deferred
//! feature tag.

use restante_cpim::resource_lists;
use restante_deferral::decision::{Field, MediaDirection, Selection};
use restante_deferral::model::{ContactId, MessageId, RecipientKey, StoredMessage};
use restante_deferral::participating_function::{AttemptId, Input, PullRequest, Reply, ReplyToken};
use restante_sip::header::{ICSI_DEFERRED, icsi_values};
use restante_sip::identity::same_user;
use restante_sip::message::{Name, SipMessage, unfold};
use restante_sip::transaction::{Flow, ServerTransactionId};
use restante_sip::uri::Uri;

use super::incoming::OVERLOAD_RETRY_SECONDS;
use super::session::{Asked, Delivery, MediaKind, Offer};
use super::{Now, Shard, Waiting};
use crate::server::media::MediaId;

/// Longest User-Agent that a policy is told.
const MAX_USER_AGENT_BYTES: usize = 512;

impl Shard {
    /// Whether an INVITE fetches.
    pub(super) fn is_pull(&self, message: &SipMessage, uri: &Uri) -> bool {
        let Some(tenant) = self.shared.directory.tenant_of(uri) else { return false };
        let user = uri.as_sip().and_then(|uri| uri.user.as_deref());
        if user == Some(&*tenant.deferred_user) {
            return true;
        }
        let deferred =
            message.headers(Name::AcceptContact).flat_map(icsi_values).any(|service| service == ICSI_DEFERRED);
        deferred && message.from().is_ok_and(|from| same_user(&from.uri, uri))
    }

    pub(super) fn pull(&mut self, now: Now, transaction: ServerTransactionId, message: &SipMessage, came: Flow) {
        let Some(Ok(uri)) = message.request_uri().map(Uri::parse) else { return self.answer(now, transaction, 400) };
        let Some(tenant) = self.shared.directory.tenant_of(&uri) else {
            return self.answer(now, transaction, 404);
        };
        let asker = match self.sender(now, &tenant, message, came) {
            Ok(asker) => asker,
            Err(refusal) => return self.refuse_because(now, transaction, refusal),
        };
        let Some((of, key)) = Uri::parse(&asker.uri).ok().and_then(|uri| self.shared.directory.served(&uri)) else {
            return self.answer(now, transaction, 404);
        };
        // Whom one tenant believes says nothing about the users of another one.
        if of.name != tenant.name {
            return self.refuse(now, transaction, 403, "Not Your Messages", None);
        }
        // The shard was found by what INVITE and CANCEL have in common: From, or the user's own address as Request-URI.
        let named = message.from().ok().and_then(|from| self.shared.directory.served(&from.uri)).map(|(_, key)| key);
        if named.as_ref() != Some(&key) {
            return self.refuse(now, transaction, 403, "Not Your Messages", None);
        }
        let offer = match Offer::read(message, self.shared.takes_msrp(true)) {
            Ok(offer) => offer,
            Err(status) => return self.refuse_offer(now, transaction, status),
        };
        if !offer.media.direction.receives() {
            return self.answer(now, transaction, 488);
        }
        let selection = match offer.selection.as_deref().map(resource_lists::parse) {
            None => Selection::All,
            Some(Ok(uris)) => Selection::Listed(
                uris.iter().filter_map(|uri| resource_lists::message_id_of(uri)?.parse().ok()).map(MessageId).collect(),
            ),
            Some(Err(_)) => return self.answer(now, transaction, 400),
        };
        let asked = Asked { key: &key, peer: &asker, came, is_encrypted: offer.media.secure, stores: None };
        let parts = match self.admit_session(&asked) {
            Ok(parts) => parts,
            Err(refusal) => return self.refuse_session(now, transaction, refusal),
        };
        let (contact, device) = self.device_of(&key, message);
        let types = |list: Option<String>| {
            list.map(|list| list.split_ascii_whitespace().map(str::to_owned).collect()).unwrap_or_default()
        };
        let user_agent = message.header(Name::UserAgent).filter(|value| value.len() <= MAX_USER_AGENT_BYTES);
        let user_agent = user_agent.map(|value| Field { name: "sip.user-agent".to_owned(), value: unfold(value) });
        let request = PullRequest {
            reply: ReplyToken(self.token()),
            contact,
            device,
            verification: asker.verification,
            selection,
            accept_types: types(Some(offer.media.accept_types.to_string())),
            accept_wrapped_types: types(offer.media.accept_wrapped_types.as_ref().map(ToString::to_string)),
            max_size_bytes: offer.media.max_size_bytes,
            direction: if offer.media.direction.sends() {
                MediaDirection::SendAndReceive
            } else {
                MediaDirection::ReceiveOnly
            },
            fields: user_agent.into_iter().collect(),
        };
        let delivery = Delivery::new(key.clone(), None, contact.is_some());
        let media = self.new_media(transaction, offer, MediaKind::Pull(delivery), came, parts);
        self.waiting.insert(request.reply, Waiting::Pull(media));
        self.tell(now, &key, Input::Pull(Box::new(request)));
    }

    /// The machine gives a pull its messages.
    pub(super) fn start_pull(
        &mut self,
        now: Now,
        reply: ReplyToken,
        attempt: AttemptId,
        messages: &[StoredMessage],
    ) -> Option<MediaId> {
        let Some(Waiting::Pull(media)) = self.waiting.remove(&reply) else { return None };
        let outgoing: Vec<_> = messages.iter().map(|message| self.outgoing(message)).collect();
        let session = self.media.get_mut(&media)?;
        let delivery = session.delivery_mut()?;
        delivery.attempt = Some(attempt);
        delivery.open = outgoing.len();
        session.outgoing = outgoing;
        self.accept_invitation(now, media);
        self.media.contains_key(&media).then_some(media)
    }

    /// The session of a pull is gone before the machine answered it: what it would say finds nobody.
    pub(super) fn withdraw_pull(&mut self, media: MediaId, key: &RecipientKey) {
        let of_it = |waiting: &Waiting| matches!(waiting, Waiting::Pull(of) if *of == media);
        let Some(reply) = self.waiting.iter().find(|(_, waiting)| of_it(waiting)).map(|(reply, _)| *reply) else {
            return;
        };
        self.waiting.remove(&reply);
        if self.slots.contains_key(key) {
            self.tell(Now::read(&self.shared), key, Input::PullWithdrawn(reply));
        } else if let Some(held) = self.adopting.get_mut(key) {
            held.retain(|input| !matches!(input, Input::Pull(request) if request.reply == reply));
        }
    }

    pub(super) fn reply_to_pull(&mut self, now: Now, media: MediaId, reply: &Reply) {
        let Some(transaction) = self.media.get(&media).and_then(|session| session.transaction) else { return };
        match reply {
            // The BYE follows the ACK.
            Reply::NothingWaiting => {
                self.accept_invitation(now, media);
                self.end_session(now, media);
            }
            Reply::Refused { status, reason, retry_after_seconds } => {
                self.refuse(now, transaction, *status, reason, *retry_after_seconds);
                self.forget_media(media);
            }
            _ => {
                self.refuse(now, transaction, 503, "Not Now", Some(OVERLOAD_RETRY_SECONDS));
                self.forget_media(media);
            }
        }
    }

    /// The registered contact that asks, by its instance or address.
    fn device_of(&self, key: &RecipientKey, message: &SipMessage) -> (Option<ContactId>, String) {
        let contact = message.contacts().ok().and_then(|contacts| contacts.into_iter().next());
        let instance = contact.as_ref().and_then(|contact| contact.instance().map(str::to_owned));
        let address = contact.as_ref().map(|contact| contact.address.uri.to_string());
        let known = self.registrations.get(key).and_then(|bindings| {
            bindings.bindings.iter().find(|binding| {
                (instance.is_some() && binding.instance == instance)
                    || address.as_deref() == Some(binding.contact_uri.as_str())
            })
        });
        let device = instance.or(address).unwrap_or_else(|| key.address.0.to_string());
        match known {
            Some(binding) => {
                (Some(ContactId(binding.id.0)), binding.instance.clone().unwrap_or_else(|| binding.contact_uri.clone()))
            }
            None => (None, device),
        }
    }
}
