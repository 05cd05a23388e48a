//! Attempts: the requests that carry messages to devices.

use restante_cpim::cpim::{Builder as CpimBuilder, CONTENT_TYPE as CPIM};
use restante_cpim::media_type::essence;
use restante_cpim::message_summary::{self, Counts, ListedMessage, MAX_LISTED, MessageSummary};
use restante_deferral::decision::Progress;
use restante_deferral::model::{Body, ContactId, MessageId, Mode, Origin, RecipientKey, StoredMessage};
use restante_deferral::participating_function::{Attempt, AttemptEnd, AttemptId, AttemptTask, Outcome, ReplyToken};
use restante_sip::header::{ICSI_DEFERRED, ICSI_LARGE_MESSAGE, ICSI_MESSAGE, write_date};
use restante_sip::message::Method;
use restante_sip::transaction::{Flow, SendError};
use restante_sip::uri::Uri;
use restante_sip::writer::{Builder, WriteError};

use super::recipients::Carrier;
use super::responses::{Purpose, Relaying};
use super::route::Route;
use super::session::Delivery;
use super::{Now, Shard, Waiting};
use crate::server::media::Outgoing;

/// An attempt that could not even begin, and its end.
pub(super) type NotStarted = Box<(AttemptId, AttemptEnd)>;

impl Shard {
    pub(super) fn start_attempt(&mut self, now: Now, key: &RecipientKey, attempt: Attempt) -> Result<(), NotStarted> {
        let Attempt { id, contact, task } = attempt;
        let ids = ids_of(&task);
        let result = match task {
            AttemptTask::Page { message, repetition } => self.page(now, key, id, contact, &message, repetition),
            AttemptTask::Session { messages } => self.push(now, key, id, contact, &messages),
            AttemptTask::Notify { messages, not_shown } => self.announce(now, key, id, contact, &messages, not_shown),
            AttemptTask::Pull { reply, messages, mode } => self.give(now, key, id, reply, &messages, mode),
            AttemptTask::Relay { reply, envelope, body } => self.relay(now, key, id, contact, reply, &envelope, &body),
            AttemptTask::HandOver { target, message, mode, repetition } => {
                self.hand_over(now, key, id, &target, &message, mode, repetition)
            }
        };
        match result {
            Ok(Some(carrier)) => {
                if let Some(slot) = self.slots.get_mut(key) {
                    slot.attempts.insert(id, carrier);
                }
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(failure) => Err(Box::new((id, failure.end(&ids)))),
        }
    }

    fn page(
        &mut self,
        now: Now,
        key: &RecipientKey,
        attempt: AttemptId,
        contact: Option<ContactId>,
        message: &StoredMessage,
        repetition: u16,
    ) -> Result<Option<Carrier>, NoAttempt> {
        let route = contact.and_then(|contact| self.route_to(key, contact)).ok_or(NoAttempt::NoWay)?;
        let client = self.send_page(now, &route, message, repetition)?;
        let purpose = Purpose::Attempt {
            key: key.clone(),
            attempt,
            messages: vec![message.id],
            is_device: route.is_device,
            hop: route.hop,
            relaying: None,
        };
        self.purposes.insert(client, purpose);
        Ok(Some(Carrier::Transaction(client)))
    }

    /// The MESSAGE of a stored message (RFC 3428). Repetitions keep the Call-ID and raise CSeq.
    fn send_page(
        &mut self,
        now: Now,
        route: &Route,
        message: &StoredMessage,
        repetition: u16,
    ) -> Result<restante_sip::transaction::ClientTransactionId, NoAttempt> {
        let Body::Inline(body) = &message.message.body else { return Err(NoAttempt::WrongMode) };
        let stored = &message.message;
        let call_id = self.shared.own_mark.call_id(&format!("d{:016x}", message.id.0));
        let tag = self.endpoint.identifiers().tag();
        let sent_by = self.sent_by(&route.flow);
        let lifetime = stored.expires_at.since(now.wall).0 / 1000;
        let build = |via: &str| {
            let builder = self_request(&Method::Message, route, via)
                .field("From", &format!("{};tag={tag}", from_of(&stored.envelope.sender)))
                .field("To", &format!("<{}>", to_of(&stored.envelope.request_uri)))
                .field("Call-ID", &call_id)
                .field("CSeq", &format!("{} MESSAGE", u32::from(repetition) + 1))
                // Date and Expires are a pair, made anew: what is left of the message's life, from now.
                .field("Date", &write_date(now.wall.0 / 1000))
                .field("Expires", &lifetime.max(1).to_string());
            let builder = asserted(builder, route, &stored.envelope.sender);
            kept_fields(builder, &stored.envelope.headers, ICSI_MESSAGE)
                .field("Content-Type", &stored.envelope.content_type)
                .finish_with_body(body)
        };
        Ok(self.endpoint.send_request(now.monotonic, Method::Message, route.flow, &sent_by, build)?)
    }

    /// INVITE with a session for several messages, or a large one.
    fn push(
        &mut self,
        now: Now,
        key: &RecipientKey,
        attempt: AttemptId,
        contact: Option<ContactId>,
        messages: &[StoredMessage],
    ) -> Result<Option<Carrier>, NoAttempt> {
        let route = contact.and_then(|contact| self.route_to(key, contact)).ok_or(NoAttempt::NoWay)?;
        if self.media.len() as u64 >= self.shared.limits.max_sessions {
            return Err(NoAttempt::Busy);
        }
        let first = messages.first().ok_or(NoAttempt::WrongMode)?;
        let mixed =
            messages.iter().any(|it| it.message.envelope.sender.address != first.message.envelope.sender.address);
        let outgoing = messages.iter().map(|message| self.outgoing(message)).collect();
        let delivery = Delivery {
            key: key.clone(),
            attempt: Some(attempt),
            is_device: route.is_device,
            settled: Vec::new(),
            status: None,
            origin: Origin::Transport,
            retry_after_seconds: None,
        };
        let flow = Flow { ..route.flow };
        let (media, offer) = self.offer_media(delivery, flow, outgoing);
        let name = format!("s{:016x}{:04x}", first.id.0, self.endpoint.identifiers().random() >> 112);
        let call_id = self.shared.own_mark.call_id(&name);
        let (tag, contact_uri, sent_by) =
            (self.endpoint.identifiers().tag(), self.contact_uri(&flow), self.sent_by(&flow));
        let domain = self.shared.domain_of(&key.tenant);
        let envelope = &first.message.envelope;
        let sender = &envelope.sender;
        let mut invite = bytes::Bytes::new();
        let build = |via: &str| {
            let from = if mixed { format!("<sip:{domain}>") } else { from_of(sender) };
            let builder = self_request(&Method::Invite, &route, via)
                .field("From", &format!("{from};tag={tag}"))
                .field("To", &format!("<{}>", to_of(&envelope.request_uri)))
                .field("Call-ID", &call_id)
                .field("CSeq", "1 INVITE")
                .field("Contact", &format!("<{contact_uri}>"))
                .field("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE");
            let builder = if mixed { builder } else { asserted(builder, &route, sender) };
            let builder = if mixed || sender.private {
                builder
            } else {
                builder.field("Referred-By", &format!("<{}>", sender.uri))
            };
            let service = if mixed { ICSI_DEFERRED } else { ICSI_LARGE_MESSAGE };
            let headers: Vec<(String, String)> = envelope
                .headers
                .iter()
                .filter(|(name, _)| {
                    !name.eq_ignore_ascii_case("Accept-Contact") && !name.eq_ignore_ascii_case("P-Asserted-Service")
                })
                .cloned()
                .collect();
            let builder = kept_fields(builder, &headers, service);
            let builder = identified(builder, &headers, &name);
            let bytes = builder.field("Content-Type", "application/sdp").finish_with_body(&offer)?;
            invite = bytes.clone();
            Ok(bytes)
        };
        match self.endpoint.send_request(now.monotonic, Method::Invite, flow, &sent_by, build) {
            Ok(client) => {
                if let Some(session) = self.media.get_mut(&media) {
                    session.client = Some(client);
                    session.invite = invite;
                }
                self.purposes.insert(client, Purpose::Invite { media, hop: route.hop });
                Ok(Some(Carrier::Session(media)))
            }
            Err(error) => {
                self.forget_media(media);
                Err(error.into())
            }
        }
    }

    /// Tells a client what waits: NOTIFY in its subscription, else a MESSAGE with a summary where it takes that, else
    /// NOTIFY without a subscription where the operator turned that on.
    fn announce(
        &mut self,
        now: Now,
        key: &RecipientKey,
        attempt: AttemptId,
        contact: Option<ContactId>,
        messages: &[StoredMessage],
        not_shown: u32,
    ) -> Result<Option<Carrier>, NoAttempt> {
        let summary = self.summary(key, messages, not_shown);
        let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
        let route = contact.and_then(|contact| self.route_to(key, contact)).ok_or(NoAttempt::NoWay)?;
        let purpose = Purpose::Attempt {
            key: key.clone(),
            attempt,
            messages: ids,
            is_device: route.is_device,
            hop: route.hop,
            relaying: None,
        };
        if self.subscriptions.contains_key(key) {
            return if self.send_notify(now, key, &summary, purpose) { Ok(None) } else { Err(NoAttempt::Busy) };
        }
        let unsolicited = self.shared.directory.tenant(&key.tenant).is_some_and(|tenant| tenant.unsolicited_notify);
        let takes_summary = self.registrations.get(key).is_some_and(|bindings| {
            bindings.bindings.iter().any(|it| it.contact_parameters.contains(message_summary::CONTENT_TYPE))
        });
        let method = if takes_summary || !unsolicited { Method::Message } else { Method::Notify };
        let call_id = self.shared.own_mark.call_id(&format!("n{:032x}", self.endpoint.identifiers().random()));
        let (tag, contact_uri, sent_by) =
            (self.endpoint.identifiers().tag(), self.contact_uri(&route.flow), self.sent_by(&route.flow));
        let domain = self.shared.domain_of(&key.tenant);
        let body = summary.write();
        let to = self.shared.called(key);
        let build = |via: &str| {
            let builder = self_request(&method, &route, via)
                .field("From", &format!("<sip:{domain}>;tag={tag}"))
                .field("To", &format!("<{to}>"))
                .field("Call-ID", &call_id)
                .field("CSeq", &format!("1 {method}"));
            let builder = if method == Method::Notify {
                builder
                    .field("Contact", &format!("<{contact_uri}>"))
                    .field("Event", "message-summary")
                    .field("Subscription-State", "active")
            } else {
                builder
            };
            builder.field("Content-Type", message_summary::CONTENT_TYPE).finish_with_body(body.as_bytes())
        };
        let client = self.endpoint.send_request(now.monotonic, method.clone(), route.flow, &sent_by, build)?;
        self.purposes.insert(client, purpose);
        Ok(Some(Carrier::Transaction(client)))
    }

    fn summary(&self, key: &RecipientKey, messages: &[StoredMessage], not_shown: u32) -> MessageSummary {
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
        MessageSummary {
            messages_waiting: shown > 0,
            account: Some(self.shared.called(key)),
            classes: vec![(
                "Text-Message".to_owned(),
                Counts { new: shown.saturating_add(not_shown), ..Counts::default() },
            )],
            messages: listed.collect(),
        }
    }

    /// Answers a pull with its messages.
    fn give(
        &mut self,
        now: Now,
        _key: &RecipientKey,
        attempt: AttemptId,
        reply: ReplyToken,
        messages: &[StoredMessage],
        mode: Mode,
    ) -> Result<Option<Carrier>, NoAttempt> {
        if mode == Mode::Page {
            if let Some(Waiting::Pull(media)) = self.waiting.remove(&reply) {
                self.reply_to_pull(now, media, &restante_deferral::participating_function::Reply::NothingWaiting);
            }
            return Err(NoAttempt::NoWay);
        }
        self.start_pull(now, reply, attempt, messages)
            .map(|media| Some(Carrier::Session(media)))
            .ok_or(NoAttempt::NoWay)
    }

    /// Passes a MESSAGE on that is not stored: the sender gets the device's own answer.
    fn relay(
        &mut self,
        now: Now,
        key: &RecipientKey,
        attempt: AttemptId,
        contact: Option<ContactId>,
        reply: ReplyToken,
        _envelope: &restante_deferral::model::Envelope,
        _body: &Body,
    ) -> Result<Option<Carrier>, NoAttempt> {
        let route = contact.and_then(|contact| self.route_to(key, contact)).ok_or(NoAttempt::NoWay)?;
        let Some(Waiting::Message { transaction, .. }) = self.waiting.get(&reply) else { return Err(NoAttempt::NoWay) };
        let transaction = *transaction;
        let request = self.endpoint.request(transaction).cloned().ok_or(NoAttempt::NoWay)?;
        let hops = request.number(restante_sip::message::Name::MaxForwards).ok().flatten().unwrap_or(70);
        if hops == 0 {
            return Err(NoAttempt::NoWay);
        }
        let sent_by = self.sent_by(&route.flow);
        let client = self.endpoint.send_request(now.monotonic, Method::Message, route.flow, &sent_by, |via| {
            use restante_sip::message::Name;
            let mut edit = restante_sip::writer::Edit::new(&request)
                .request_uri(&route.request_uri)?
                .push(Name::Via, via)?
                .set(Name::MaxForwards, &(hops - 1).to_string())?;
            for value in route.routes.iter().rev() {
                edit = edit.push(Name::Route, value)?;
            }
            Ok(edit.finish())
        })?;
        let purpose = Purpose::Attempt {
            key: key.clone(),
            attempt,
            messages: Vec::new(),
            is_device: route.is_device,
            hop: route.hop,
            relaying: Some(Relaying),
        };
        self.purposes.insert(client, purpose);
        Ok(Some(Carrier::Transaction(client)))
    }

    /// Sends a message to a named target.
    fn hand_over(
        &mut self,
        now: Now,
        key: &RecipientKey,
        attempt: AttemptId,
        target: &str,
        message: &StoredMessage,
        mode: Mode,
        repetition: u16,
    ) -> Result<Option<Carrier>, NoAttempt> {
        if mode == Mode::Large {
            return Err(NoAttempt::WrongMode);
        }
        let tenant = self.shared.directory.tenant(&key.tenant).ok_or(NoAttempt::NoWay)?;
        let uri = tenant.hand_over.get(target).cloned().ok_or(NoAttempt::NoWay)?;
        let parsed = Uri::parse(&uri).map_err(|_| NoAttempt::NoWay)?;
        let remote = parsed.as_sip().and_then(super::route::socket_of).ok_or(NoAttempt::NoWay)?;
        let transport = match parsed.parameter("transport") {
            Some(name) if name.eq_ignore_ascii_case("tcp") => restante_sip::transaction::Transport::Tcp,
            _ => restante_sip::transaction::Transport::Udp,
        };
        let route = Route {
            request_uri: message.message.envelope.request_uri.clone(),
            routes: vec![format!("<{uri};lr>")],
            flow: crate::server::flow::towards(transport, remote),
            is_device: false,
            signalled_from: remote.ip(),
            hop: remote,
            is_trusted: true,
        };
        let client = self.send_page(now, &route, message, repetition)?;
        let purpose = Purpose::Attempt {
            key: key.clone(),
            attempt,
            messages: vec![message.id],
            is_device: false,
            hop: route.hop,
            relaying: None,
        };
        self.purposes.insert(client, purpose);
        Ok(Some(Carrier::Transaction(client)))
    }

    /// A stored message for a session: CPIM as it came; anything else is wrapped.
    pub(super) fn outgoing(&self, message: &StoredMessage) -> Outgoing {
        let stored = &message.message;
        let envelope = &stored.envelope;
        let is_cpim = essence(&envelope.content_type) == CPIM;
        let head = if is_cpim {
            bytes::Bytes::new()
        } else {
            let from =
                if envelope.sender.private { "sip:anonymous@anonymous.invalid" } else { envelope.sender.uri.as_str() };
            CpimBuilder::new()
                .from(&format!("<{from}>"))
                .to(&format!("<{}>", envelope.request_uri))
                .date_time(&rfc3339(stored.received_at.0))
                .imdn_message_id(&format!("restante-{:016x}", message.id.0))
                .head(&envelope.content_type, &[], Some(stored.body.size_bytes()))
        };
        Outgoing {
            id: message.id,
            message_id: format!("m{:016x}", message.id.0),
            content_type: CPIM.to_owned(),
            head,
            body: stored.body.clone(),
        }
    }
}

/// Why an attempt did not begin.
pub(super) enum NoAttempt {
    /// Nothing leads there.
    NoWay,
    /// Too much is in flight.
    Busy,
    /// It does not fit this mode after all.
    WrongMode,
}

impl NoAttempt {
    fn end(&self, messages: &[MessageId]) -> AttemptEnd {
        let (status, origin) = match self {
            NoAttempt::NoWay | NoAttempt::Busy => (None, Origin::Transport),
            // Found here, but it says what a device would: this shape cannot be.
            NoAttempt::WrongMode => (Some(488), Origin::Device),
        };
        let outcomes =
            messages.iter().map(|id| (*id, Outcome::Failed { progress: Progress::Unsent, status: None })).collect();
        AttemptEnd { status, origin, retry_after_seconds: None, outcomes }
    }
}

impl From<SendError> for NoAttempt {
    fn from(error: SendError) -> NoAttempt {
        match error {
            SendError::Busy => NoAttempt::Busy,
            SendError::TooLargeForUdp => NoAttempt::WrongMode,
            SendError::Write(WriteError::ControlCharacter | WriteError::Name | WriteError::Missing) => {
                NoAttempt::WrongMode
            }
            #[allow(unreachable_patterns)]
            _ => NoAttempt::Busy,
        }
    }
}

fn ids_of(task: &AttemptTask) -> Vec<MessageId> {
    match task {
        AttemptTask::Page { message, .. } | AttemptTask::HandOver { message, .. } => vec![message.id],
        AttemptTask::Session { messages }
        | AttemptTask::Notify { messages, .. }
        | AttemptTask::Pull { messages, .. } => messages.iter().map(|message| message.id).collect(),
        AttemptTask::Relay { .. } => Vec::new(),
    }
}

/// Start line, Via, Max-Forwards, Route.
fn self_request(method: &Method, route: &Route, via: &str) -> Builder {
    let builder = Builder::request(method, &route.request_uri).field("Via", via).field("Max-Forwards", "70");
    route.routes.iter().fold(builder, |builder, value| builder.unfolded("Route", value))
}

fn from_of(sender: &restante_deferral::model::Sender) -> String {
    if sender.private {
        "\"Anonymous\" <sip:anonymous@anonymous.invalid>".to_owned()
    } else {
        format!("<{}>", sender.uri)
    }
}

/// What the sender called the recipient, without header parameters that a URI may have carried.
fn to_of(request_uri: &str) -> &str {
    request_uri.split('?').next().unwrap_or(request_uri)
}

/// P-Asserted-Identity (RFC 3325): to whoever is trusted always, to a device unless the sender asked for privacy.
fn asserted(builder: Builder, route: &Route, sender: &restante_deferral::model::Sender) -> Builder {
    if sender.private && !route.is_trusted {
        return builder;
    }
    let builder = builder.field("P-Asserted-Identity", &format!("<{}>", sender.uri));
    if sender.private { builder.field("Privacy", "id") } else { builder }
}

/// Fields that came with the message, and the service where none did.
fn kept_fields(builder: Builder, headers: &[(String, String)], service: &str) -> Builder {
    let named = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Accept-Contact"));
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.field(name, value));
    if named {
        builder
    } else {
        builder.field("Accept-Contact", &format!("*;+g.3gpp.icsi-ref=\"{}\"", service.replace(':', "%3A")))
    }
}

/// Conversation-ID and Contribution-ID, which some clients refuse a session without.
fn identified(builder: Builder, headers: &[(String, String)], name: &str) -> Builder {
    ["Conversation-ID", "Contribution-ID"].into_iter().fold(builder, |builder, field| {
        if headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(field)) {
            builder
        } else {
            builder.field(field, name)
        }
    })
}

/// Milliseconds since 1970 as CPIM writes a time.
fn rfc3339(milliseconds: u64) -> String {
    i64::try_from(milliseconds)
        .ok()
        .and_then(|milliseconds| jiff::Timestamp::from_millisecond(milliseconds).ok())
        .map_or_else(|| "1970-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}
