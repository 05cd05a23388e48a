//! Messages that come: MESSAGE, and INVITE for a large one.

use std::sync::Arc;

use restante_cpim::media_type::essence;
use restante_deferral::commit::CommitError;
use restante_deferral::model::{Body, Counts, Envelope, MessageKind, Mode, RecipientKey, Sender, Verification};
use restante_deferral::participating_function::{Arrival, Input, Invitation, Reply, ReplyToken};
use restante_msrp::session::IncomingId;
use restante_sip::header::{ICSI_DEFERRED, ICSI_LARGE_MESSAGE, icsi_values};
use restante_sip::message::{Name, SipMessage};
use restante_sip::transaction::{Flow, ServerTransactionId};
use restante_sip::uri::Uri;

use super::authentication::Refusal;
use super::session::{Asked, MediaKind, Offer};
use super::{Now, Shard, Waiting};
use crate::server::directory::TenantEntry;
use crate::server::facts::{self, BodyForm};
use crate::server::media::{Command, MediaId, Received};
use crate::server::rates::Party;
use crate::server::served::Served;
use crate::server::usage::{Coming, Room};

/// Seconds for Retry-After where the server itself is overloaded.
pub(super) const OVERLOAD_RETRY_SECONDS: u32 = 5;
/// What a relay needs to take us again.
pub(super) const RELAY_RETRY_SECONDS: u32 = 10;
/// The same where the tenant has no room: it comes when messages are delivered or expire.
pub(super) const ROOM_RETRY_SECONDS: u32 = 60;
/// Services of large messages; a chat has another.
const LARGE_MESSAGE_SERVICES: [&str; 3] =
    [ICSI_LARGE_MESSAGE, ICSI_DEFERRED, "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.filetransfer"];

/// A tenant has no room for a message.
struct NoRoom;

/// How much there is of those whom an arrival concerns, for the policy.
struct ArrivalCounts {
    sender: Counts,
    tenant: Counts,
    recipient: Counts,
}

/// What an arrival is in the rates.
#[derive(Clone, Copy)]
enum CountedAs {
    Message,
    /// A disposition, or an INVITE, whose message is counted when it comes.
    Nothing,
}

impl CountedAs {
    fn of(kind: MessageKind) -> CountedAs {
        if kind == MessageKind::Message { CountedAs::Message } else { CountedAs::Nothing }
    }
}

impl Shard {
    pub(super) fn message(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
        served: &Served,
        came: Flow,
    ) {
        let (tenant, key, sender) = match self.addressed(now, message, &served.uri, came) {
            Ok(addressed) => addressed,
            Err(refusal) => return self.refuse_because(now, transaction, refusal),
        };
        let body = message.body();
        if body.len() as u64 > self.shared.limits.max_page_body_bytes {
            return self.answer(now, transaction, 413);
        }
        let content_type = message.header(Name::ContentType).unwrap_or("text/plain").to_owned();
        let facts = match facts::read_page(&content_type, message.header(Name::ContentEncoding), &body) {
            Ok(facts) => facts,
            Err(unkeepable) => {
                let accept = (unkeepable.status() == 415).then_some("message/cpim, message/imdn+xml, text/*, */*");
                return self.answer_with(now, transaction, unkeepable.status(), |it| it.optional("Accept", accept));
            }
        };
        let (deduplication, deduplication_as_written) = facts::deduplication(&key, &sender, &facts, message, None);
        let counts = self.counts(now, &key, &sender, CountedAs::of(facts.kind));
        let room = self.room_for(Some(&tenant), facts.kind, body.len() as u64, None);
        let reply = ReplyToken(self.token());
        let request = facts::beside(message, served, sender.verification == Verification::TrustedPeer);
        let arrival = Arrival {
            reply,
            request,
            deduplication,
            deduplication_as_written,
            envelope: facts::envelope(
                message,
                sender,
                &BodyForm::page(message, &content_type, body.len() as u64),
                facts,
                &self.shared.keep_headers,
            ),
            // The datagram's own buffer is not kept alive for a small body.
            body: Body::Inline(bytes::Bytes::copy_from_slice(&body)),
            expires_at: facts::expires_at(message, now.wall),
            sender_counts: counts.sender,
            tenant_counts: counts.tenant,
            recipient_rates: counts.recipient,
            upstream_failure: self.upstream_failure(message),
            has_room: room.is_ok(),
        };
        self.waiting
            .insert(reply, Waiting::Message { transaction, arrived: now.monotonic, _room: room.ok().flatten() });
        self.tell(now, &key, Input::Arrival(Box::new(arrival)));
    }

    pub(super) fn invite(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
        (uri, served): (&Uri, &Served),
        came: Flow,
    ) {
        if self.is_pull(message, uri) {
            if self.requires_too_much(now, transaction, message) {
                return;
            }
            return self.pull(now, transaction, message, came);
        }
        let (tenant, key, sender) = match self.addressed(now, message, &served.uri, came) {
            Ok(addressed) => addressed,
            Err(refusal) => return self.refuse_because(now, transaction, refusal),
        };
        let offer = Offer::read(message, self.shared.takes_msrp(true));
        // Ours is what one sends to another as a whole: a large message service, or MSRP alone that only the sender
        // sends on. A chat or a call is not for keeping: it is passed on.
        let services = services(message, sender.verification == Verification::TrustedPeer);
        let is_large_message = services.iter().any(|service| LARGE_MESSAGE_SERVICES.contains(&service.as_str()));
        let is_for_keeping = match &offer {
            Ok(offer) => {
                let is_one_way = services.is_empty() && !offer.media.direction.receives();
                let only_messages = offer.media.direction.sends() && offer.media.other_media() == 0;
                only_messages && (is_large_message || is_one_way)
            }
            Err(_) => is_large_message,
        };
        // Also where another would answer it: the answer would be one that the caller does not take.
        if !matches!(offer, Err(400 | 415)) && !accepts_sdp_answer(message) {
            return self.answer(now, transaction, 406);
        }
        if !is_for_keeping {
            return self.relay_call(now, transaction, message, &key, (&sender, came), offer.err());
        }
        if self.requires_too_much(now, transaction, message) {
            return;
        }
        let offer = match offer {
            Ok(offer) => offer,
            Err(status) => return self.refuse_offer(now, transaction, status),
        };
        let size_bytes = offer.file_size_bytes();
        // Whatever a policy says of a large message, but a refusal, stores it.
        let stores = Some((&*tenant, size_bytes.unwrap_or(0)));
        let asked = Asked { key: &key, peer: &sender, came, is_encrypted: offer.media.secure, stores };
        let parts = match self.admit_session(&asked) {
            Ok(parts) => parts,
            Err(refusal) => return self.refuse_session(now, transaction, refusal),
        };
        let counts = self.counts(now, &key, &sender, CountedAs::Nothing);
        let reply = ReplyToken(self.token());
        let envelope = Envelope {
            kind: MessageKind::Message,
            mode: Mode::Large,
            request_uri: message.request_uri().unwrap_or("").to_owned(),
            headers: Vec::new(),
            content_type: "message/cpim".to_owned(),
            wrapped_type: None,
            imdn: None,
            page_base_bytes: None,
            sender: sender.clone(),
        };
        let request = facts::beside(message, served, sender.verification == Verification::TrustedPeer);
        let kind = MediaKind::Incoming {
            key: key.clone(),
            sender,
            request: Box::new(message.clone()),
            beside: Box::new(request.clone()),
        };
        let media = self.new_media(transaction, offer, kind, came, parts);
        let invitation = Invitation {
            reply,
            request,
            envelope,
            size_bytes,
            sender_counts: counts.sender,
            tenant_counts: counts.tenant,
            recipient_rates: counts.recipient,
            upstream_failure: self.upstream_failure(message),
        };
        self.waiting.insert(reply, Waiting::Invitation(media));
        self.tell(now, &key, Input::Invitation(Box::new(invitation)));
    }

    /// A large message is here, durable as far as it is a file.
    pub(super) fn large_message_came(&mut self, now: Now, media: MediaId, received: Received) {
        let Received { incoming, message_id, content_type, fields, prefix, body, coming } = received;
        let Some(session) = self.media.get(&media) else { return };
        let MediaKind::Incoming { key, sender, request, beside } = &session.kind else { return };
        let (key, sender, request, beside) = (key.clone(), sender.clone(), request.clone(), beside.clone());
        let form = BodyForm {
            mode: Mode::Large,
            content_type: &content_type,
            fields: fields.iter().map(|field| (field.name.as_str(), field.value.as_str())).collect(),
            size_bytes: body.size_bytes(),
        };
        let facts = match facts::read_body(&content_type, &prefix) {
            Ok(facts) => facts,
            Err(unkeepable) => {
                self.drop_body(&body);
                return self.command(media, Command::Reject(incoming, unkeepable.status()));
            }
        };
        let (deduplication, deduplication_as_written) =
            facts::deduplication(&key, &sender, &facts, &request, Some(&message_id));
        let counts = self.counts(now, &key, &sender, CountedAs::of(facts.kind));
        let tenant = self.shared.directory.tenant(&key.tenant);
        let room = self.room_for(tenant.as_deref(), facts.kind, body.size_bytes(), coming);
        let reply = ReplyToken(self.token());
        let arrival = Arrival {
            reply,
            request: *beside,
            deduplication,
            deduplication_as_written,
            envelope: facts::envelope(&request, sender, &form, facts, &self.shared.keep_headers),
            body,
            // An INVITE's Expires limits the invitation, not the keeping (RFC 3261 §13.2.1).
            expires_at: None,
            sender_counts: counts.sender,
            tenant_counts: counts.tenant,
            recipient_rates: counts.recipient,
            upstream_failure: self.upstream_failure(&request),
            has_room: room.is_ok(),
        };
        self.waiting.insert(reply, Waiting::Received { media, incoming, _room: room.ok().flatten() });
        self.tell(now, &key, Input::Arrival(Box::new(arrival)));
    }

    pub(super) fn reply_to_message(&mut self, now: Now, transaction: ServerTransactionId, reply: &Reply) {
        match reply {
            Reply::Accepted => self.answer(now, transaction, 202),
            Reply::Relayed { status } => self.answer(now, transaction, *status),
            Reply::Refused { status, reason, retry_after_seconds } => {
                self.refuse(now, transaction, *status, reason, *retry_after_seconds);
            }
            Reply::Unavailable(CommitError::Overloaded | CommitError::Full) => {
                self.refuse(now, transaction, 503, "Store Overloaded", Some(OVERLOAD_RETRY_SECONDS));
            }
            _ => self.answer(now, transaction, 500),
        }
    }

    pub(super) fn reply_to_received(&mut self, media: MediaId, incoming: IncomingId, reply: &Reply) {
        let command = match reply {
            Reply::Accepted => Command::Accept(incoming),
            // MSRP has no status for "not now": 413 makes the sender stop, and it still has the message.
            Reply::Refused { status: 403, .. } => Command::Reject(incoming, 403),
            _ => Command::Reject(incoming, 413),
        };
        self.command(media, command);
    }

    /// Room for a message or a disposition in what its tenant may store, held until its sender is answered. What a
    /// session brings whose tenant was removed meanwhile is kept, and counts nowhere.
    fn room_for(
        &self,
        tenant: Option<&TenantEntry>,
        kind: MessageKind,
        bytes: u64,
        coming: Option<Coming>,
    ) -> Result<Option<Room>, NoRoom> {
        let Some(tenant) = tenant else { return Ok(None) };
        let coming = coming.unwrap_or_else(|| tenant.usage.coming());
        let room = tenant.usage.reserve_for(self.shared.stored_of(&tenant.name), kind, bytes, coming);
        if room.is_none() {
            self.shared.metrics.count_tenant_limit(&tenant.name, "stored");
        }
        room.map(Some).ok_or(NoRoom)
    }

    /// Whose queue a request is for, and who sent it.
    fn addressed(
        &self,
        now: Now,
        message: &SipMessage,
        uri: &Uri,
        came: Flow,
    ) -> Result<(Arc<TenantEntry>, RecipientKey, Sender), Refusal> {
        let (tenant, key) = self.shared.directory.served(uri).ok_or((404, "Not Found"))?;
        let sender = self.sender(now, &tenant, message, came)?;
        Ok((tenant, key, sender))
    }

    /// What is stored of the sender and in the tenant, and how much came lately: with this arrival where it is counted.
    fn counts(&self, now: Now, key: &RecipientKey, sender: &Sender, arrival: CountedAs) -> ArrivalCounts {
        let shared = &self.shared;
        let sender_key = RecipientKey { tenant: key.tenant.clone(), address: sender.address.clone() };
        let (_, sent) = shared.store.totals(&sender_key);
        let whole = shared.store.tenant_totals(&key.tenant);
        let rate = |party: Party<'_>| match arrival {
            CountedAs::Message => shared.rates.count(party, now.wall),
            CountedAs::Nothing => shared.rates.look(party, now.wall),
        };
        let (sender_minute, sender_hour) = rate(Party::Sender(&key.tenant, &sender.address));
        let (tenant_minute, tenant_hour) = rate(Party::Tenant(&key.tenant));
        let (recipient_minute, recipient_hour) = rate(Party::Recipient(&key.tenant, &key.address));
        ArrivalCounts {
            sender: Counts {
                stored_messages: sent.messages,
                stored_bytes: sent.size_bytes,
                last_minute: sender_minute,
                last_hour: sender_hour,
            },
            tenant: Counts {
                stored_messages: whole.messages,
                stored_bytes: whole.size_bytes,
                last_minute: tenant_minute,
                last_hour: tenant_hour,
            },
            recipient: Counts { last_minute: recipient_minute, last_hour: recipient_hour, ..Counts::default() },
        }
    }

    fn upstream_failure(&self, message: &SipMessage) -> Option<u16> {
        message.header_by_text(&self.shared.upstream_failure_header)?.trim().parse().ok()
    }
}

/// The services that an INVITE names, as [`facts::beside`] believes them.
fn services(message: &SipMessage, is_trusted: bool) -> Vec<String> {
    let asserted = message.headers(Name::PAssertedService).filter(|_| is_trusted);
    let asserted = asserted.chain(message.headers(Name::PPreferredService));
    let named = message.headers(Name::AcceptContact).flat_map(icsi_values);
    named.chain(asserted.map(|value| value.trim().to_ascii_lowercase())).collect()
}

/// Whether the caller takes the only kind of answer there is (RFC 4475 §3.3.15).
fn accepts_sdp_answer(message: &SipMessage) -> bool {
    let mut types = message.list(Name::Accept).peekable();
    types.peek().is_none()
        || types.any(|entry| matches!(essence(entry).as_str(), "application/sdp" | "application/*" | "*/*"))
}
