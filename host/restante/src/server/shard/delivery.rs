//! Attempts: the requests that carry messages to devices and named targets.

use restante_cpim::cpim::{Builder as CpimBuilder, CONTENT_TYPE as CPIM};
use restante_cpim::media_type::essence;
use restante_deferral::commit::CommitError;
use restante_deferral::decision::Progress;
use restante_deferral::model::{
    Body, ContactId, Envelope, MessageId, MessageKind, Mode, Origin, RecipientKey, Sender, StoredMessage,
};
use restante_deferral::participating_function::{
    Attempt, AttemptEnd, AttemptId, AttemptTask, Outcome, Reply, ReplyToken,
};
use restante_sip::header::{ICSI_DEFERRED, ICSI_LARGE_MESSAGE, ICSI_MESSAGE, write_date};
use restante_sip::message::Method;
use restante_sip::transaction::{ClientTransactionId, Passing, SendError};
use restante_sip::uri::Uri;
use restante_sip::writer::WriteError;

use super::line::Permits;
use super::recipients::Carrier;
use super::responses::Purpose;
use super::route::Route;
use super::session::{ALLOW_IN_SESSION, Delivery, SessionPermit};
use super::unwrapping::{Content, Wrapped};
use super::{Now, Shard, Waiting, fields};
use crate::server::media::Outgoing;
use crate::server::{content_encoding, facts};

/// An attempt that could not even begin, and its end.
pub(super) type NotStarted = Box<(AttemptId, AttemptEnd)>;

impl Shard {
    pub(super) fn start_attempt(&mut self, now: Now, key: &RecipientKey, attempt: Attempt) -> Result<(), NotStarted> {
        if self.draining {
            return self.leave_to_the_next(now, attempt);
        }
        let Some(attempt) = self.wait_for_name(now, key, attempt) else { return Ok(()) };
        // A sender waits for what is passed on: it is kept where it would have to wait in line.
        if matches!(attempt.task, AttemptTask::Relay { .. }) {
            return match self.permit_now(key) {
                Ok(delivery) => self.begin_attempt(now, key, attempt, Permits { delivery, session: None }),
                Err(busy) => Err(Box::new((attempt.id, busy.end(&[])))),
            };
        }
        match self.permits_for(key, attempt) {
            Some((attempt, permits)) => self.begin_attempt(now, key, attempt, permits),
            // It begins when its turn comes.
            None => Ok(()),
        }
    }

    /// What a server that stops does not begin any more is in the store, and begun by the next one. Whoever waits for
    /// it is answered by this one: what was to be passed on is kept, and who fetches comes again.
    fn leave_to_the_next(&mut self, now: Now, attempt: Attempt) -> Result<(), NotStarted> {
        let ids = ids_of(&attempt.task);
        match attempt.task {
            AttemptTask::Relay { .. } => {}
            AttemptTask::Pull { reply, .. } => self.reply(now, reply, Reply::Unavailable(CommitError::Overloaded)),
            _ => return Ok(()),
        }
        Err(Box::new((attempt.id, NoAttempt::Busy.end(&ids))))
    }

    /// Begins an attempt whose tenant may have one more.
    pub(super) fn begin_attempt(
        &mut self,
        now: Now,
        key: &RecipientKey,
        attempt: Attempt,
        permits: Permits,
    ) -> Result<(), NotStarted> {
        let Attempt { id, contact, task } = attempt;
        let ids = ids_of(&task);
        let Permits { delivery, session } = permits;
        if let (Some(slot), Some(permit)) = (self.slots.get_mut(key), delivery) {
            slot.permits.insert(id, permit);
        }
        let result = match task {
            AttemptTask::Page { message, repetition } => self.page(now, key, id, contact, *message, repetition),
            AttemptTask::Session { messages, repetition } => {
                self.push(now, key, contact, &messages, Turn { attempt: id, repetition, session })
            }
            AttemptTask::Notify { messages, not_shown } => self.announce(now, key, id, contact, &messages, not_shown),
            AttemptTask::Pull { reply, messages, mode } => self.give(now, id, reply, &messages, mode),
            AttemptTask::Relay { contacts, reply, envelope, .. } => {
                self.relay_message(now, key, id, &contacts, reply, &envelope.sender)
            }
            AttemptTask::HandOver { target, message, repetition, .. } => {
                self.hand_over(now, key, &target, &message, Turn { attempt: id, repetition, session })
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
            Err(failure) => {
                if let Some(slot) = self.slots.get_mut(key) {
                    slot.permits.remove(&id);
                }
                Err(Box::new((id, failure.end(&ids))))
            }
        }
    }

    fn page(
        &mut self,
        now: Now,
        key: &RecipientKey,
        attempt: AttemptId,
        contact: Option<ContactId>,
        message: StoredMessage,
        repetition: u16,
    ) -> Result<Option<Carrier>, NoAttempt> {
        let route = contact.and_then(|contact| self.route_to(key, contact)).ok_or(NoAttempt::NoWay)?;
        let route = self.along_record_route(key, &message).unwrap_or(route);
        let client = self.send_page(now, &route, &message, repetition, Form::AsItCame)?;
        self.purposes.insert(client, of_one_message(key, attempt, &route, message.id));
        self.note_wrapped(client, Wrapped { key: key.clone(), attempt, route, message, repetition });
        Ok(Some(Carrier::Transaction(client)))
    }

    /// A report follows the IMDN-Record-Route of its message (RFC 5438 §8), which its Request-URI begins, where there
    /// is a core to take it there.
    fn along_record_route(&self, key: &RecipientKey, message: &StoredMessage) -> Option<Route> {
        let envelope = &message.message.envelope;
        let outbound = self.outbound_flow()?;
        let uri = Uri::parse(&envelope.request_uri).ok()?;
        let elsewhere = self.shared.directory.address(&uri).is_none_or(|address| address != key.address);
        (envelope.kind == MessageKind::Disposition && elsewhere).then(|| Route {
            request_uri: envelope.request_uri.clone(),
            routes: Vec::new(),
            flow: outbound,
            is_device: false,
            signalled_from: outbound.remote.ip(),
            hop: outbound.remote,
            is_trusted: true,
            is_where_seen: false,
        })
    }

    /// The MESSAGE of a stored message (RFC 3428). Repetitions keep the Call-ID and raise CSeq.
    pub(super) fn send_page(
        &mut self,
        now: Now,
        route: &Route,
        message: &StoredMessage,
        repetition: u16,
        form: Form<'_>,
    ) -> Result<ClientTransactionId, NoAttempt> {
        let stored = &message.message;
        let (body, content_type, call) = match (&stored.body, form) {
            (_, Form::Content(content)) => (&content.bytes, &content.content_type, 'c'),
            (Body::Inline(body), Form::AsItCame) => (body, &stored.envelope.content_type, 'd'),
            _ => return Err(NoAttempt::WrongForm),
        };
        let call_id = self.shared.own_mark.call_id(&format!("{call}{:016x}", message.id.0));
        let tag = self.endpoint.identifiers().tag();
        let charging_identity = self.charging_identity(message.id);
        let lifetime_seconds = stored.expires_at.since(now.wall).0 / 1000;
        let is_reliable = route.flow.transport != restante_sip::transaction::Transport::Udp;
        let max_bytes = self.max_page_bytes(is_reliable) as usize;
        let mut fits = true;
        let sent = self.send_request(now, &Method::Message, route.flow, |via, _| {
            let builder = fields::begin(&Method::Message, route, via)
                .field("From", &format!("{};tag={tag}", fields::from_of(&stored.envelope.sender)))
                .field("To", &format!("<{}>", fields::to_of(&stored.envelope.request_uri)))
                .field("Call-ID", &call_id)
                .field("CSeq", &format!("{} MESSAGE", u32::from(repetition) + 1))
                // Date and Expires are a pair, made anew: what is left of the message's life, from now.
                .field("Date", &write_date(now.wall.0 / 1000))
                .field("Expires", &lifetime_seconds.max(1).to_string());
            let builder = fields::asserted(builder, route, &stored.envelope.sender);
            let builder = fields::privacy(builder, route, std::iter::once(&stored.envelope));
            let builder = fields::kept(builder, &stored.envelope, route, ICSI_MESSAGE, &charging_identity);
            let builder = match form {
                Form::AsItCame => fields::of_body(builder, &stored.envelope),
                Form::Content(_) => builder,
            };
            let bytes = builder.field("Content-Type", content_type).finish_with_body(body)?;
            // RFC 3428 §8: larger ones go in a session, also where the first hop is TCP.
            fits = bytes.len() <= max_bytes;
            if fits { Ok(bytes) } else { Err(WriteError::Missing) }
        });
        match sent {
            Ok((client, _)) => Ok(client),
            Err(_) if !fits => Err(NoAttempt::WrongForm),
            Err(error) => Err(error.into()),
        }
    }

    fn push(
        &mut self,
        now: Now,
        key: &RecipientKey,
        contact: Option<ContactId>,
        messages: &[StoredMessage],
        turn: Turn,
    ) -> Result<Option<Carrier>, NoAttempt> {
        let route = contact.and_then(|contact| self.route_to(key, contact)).ok_or(NoAttempt::NoWay)?;
        let delivery = Delivery::new(key.clone(), Some(turn.attempt), route.is_device);
        self.invite_for(now, &route, delivery, messages, turn.repetition, turn.session)
    }

    /// INVITE with a session for several messages, or a large one. As a MESSAGE's, its Call-ID is that of the first of
    /// them, and repetitions raise CSeq (RFC 3261 §8.1.3.5).
    fn invite_for(
        &mut self,
        now: Now,
        route: &Route,
        delivery: Delivery,
        messages: &[StoredMessage],
        repetition: u16,
        permit: SessionPermit,
    ) -> Result<Option<Carrier>, NoAttempt> {
        if self.media.len() as u64 >= self.shared.limits.max_sessions {
            return Err(NoAttempt::Busy);
        }
        if self.relay_is_missing(self.shared.offers_tls()) {
            return Err(NoAttempt::Busy);
        }
        let first = messages.first().ok_or(NoAttempt::WrongForm)?;
        let envelope = &first.message.envelope;
        let sender = &envelope.sender;
        // Who asks not to be named is not to be found out by what another message of the session says (RFC 3325 §7).
        let is_of_another = |other: &Sender| (&other.address, other.private) != (&sender.address, sender.private);
        let mixed = messages.iter().any(|it| is_of_another(&it.message.envelope.sender));
        // Nor does what the first one said speak for the others.
        let of_all = Envelope { headers: Vec::new(), ..envelope.clone() };
        let said = if mixed { &of_all } else { envelope };
        let outgoing = messages.iter().map(|message| self.outgoing(message)).collect();
        let domain = self.shared.domain_of(&delivery.key.tenant);
        let (media, offer) = self.offer_media(delivery, route.flow, route.signalled_from, outgoing, permit);
        let call_id = self.shared.own_mark.call_id(&format!("s{:016x}", first.id.0));
        let charging_identity = self.charging_identity(first.id);
        let tag = self.endpoint.identifiers().tag();
        let mut invite = bytes::Bytes::new();
        // Where a client was seen it may not be reached otherwise.
        let passing = Passing { is_by_udp_alone: route.is_where_seen, ..Passing::default() };
        let sent = self.send_passing(now, &Method::Invite, route.flow, passing, |via, contact| {
            let contact = fields::contact_along(contact, route.next_hops());
            let from = if mixed { format!("<sip:{domain}>") } else { fields::from_of(sender) };
            let builder = fields::begin(&Method::Invite, route, via)
                .field("From", &format!("{from};tag={tag}"))
                .field("To", &format!("<{}>", fields::to_of(&envelope.request_uri)))
                .field("Call-ID", &call_id)
                .field("CSeq", &format!("{} INVITE", u32::from(repetition) + 1))
                .field("Contact", &format!("<{contact}>"))
                .field("Allow", ALLOW_IN_SESSION)
                .field("Supported", restante_sip::session_timer::TIMER);
            let builder = if mixed { builder } else { fields::asserted(builder, route, sender) };
            let all = messages.iter().map(|it| &it.message.envelope);
            let builder = if mixed { builder } else { fields::privacy(builder, route, all) };
            let builder = if mixed || sender.private {
                builder
            } else {
                builder.field("Referred-By", &format!("<{}>", sender.uri))
            };
            let service = if mixed { ICSI_DEFERRED } else { ICSI_LARGE_MESSAGE };
            let builder = fields::kept(builder, said, route, service, &charging_identity);
            let builder = fields::identified(builder, said, first.id);
            invite = builder.field("Content-Type", "application/sdp").finish_with_body(&offer)?;
            Ok(invite.clone())
        });
        match sent {
            Ok((client, flow)) => {
                if let Some(session) = self.media.get_mut(&media) {
                    session.client = Some(client);
                    session.invite = invite;
                    session.flow = flow;
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

    /// By what a delivery is charged, the same for every attempt at it (RFC 7315 §4.6: unique worldwide).
    fn charging_identity(&self, message: MessageId) -> String {
        self.shared.own_mark.digest(&format!("icid{:016x}", message.0))
    }

    /// Answers a pull with its messages; in page mode its session ends, and the messages follow by themselves.
    fn give(
        &mut self,
        now: Now,
        attempt: AttemptId,
        reply: ReplyToken,
        messages: &[StoredMessage],
        mode: Mode,
    ) -> Result<Option<Carrier>, NoAttempt> {
        if mode == Mode::Page {
            if let Some(Waiting::Pull(media)) = self.waiting.remove(&reply) {
                self.reply_to_pull(now, media, &Reply::NothingWaiting);
            }
            return Err(NoAttempt::NoWay);
        }
        let media = self.start_pull(now, reply, attempt, messages).ok_or(NoAttempt::NoWay)?;
        Ok(Some(Carrier::Session(media)))
    }

    /// Sends a message to a named target: in a MESSAGE where it fits into one, else in a session.
    fn hand_over(
        &mut self,
        now: Now,
        key: &RecipientKey,
        target: &str,
        message: &StoredMessage,
        turn: Turn,
    ) -> Result<Option<Carrier>, NoAttempt> {
        let Turn { attempt, repetition, session } = turn;
        let tenant = self.shared.directory.tenant(&key.tenant).ok_or(NoAttempt::NoWay)?;
        let uri = tenant.hand_over.get(target).ok_or(NoAttempt::NoWay)?;
        let route = self.route_to_target(uri, &message.message.envelope.request_uri).ok_or(NoAttempt::NoWay)?;
        if matches!(message.message.body, Body::Inline(_)) {
            match self.send_page(now, &route, message, repetition, Form::AsItCame) {
                Ok(client) => {
                    self.purposes.insert(client, of_one_message(key, attempt, &route, message.id));
                    return Ok(Some(Carrier::Transaction(client)));
                }
                Err(NoAttempt::WrongForm) => {}
                Err(other) => return Err(other),
            }
        }
        // One that turned out to be too large for a MESSAGE did not wait for a session.
        let session = match session {
            Some(session) => Some(session),
            None => self.session_permit(key).map_err(|_| NoAttempt::Busy)?,
        };
        let mut delivery = Delivery::new(key.clone(), Some(attempt), false);
        delivery.is_hand_over = true;
        self.invite_for(now, &route, delivery, std::slice::from_ref(message), repetition, session)
    }

    /// To a target that the operator named, as a loose route; the recipient stays the one addressed.
    fn route_to_target(&self, uri: &str, request_uri: &str) -> Option<Route> {
        let parsed = Uri::parse(uri).ok()?;
        let flow = self.target_flow(&parsed)?;
        let lr = if parsed.parameter("lr").is_some() { "" } else { ";lr" };
        Some(Route {
            request_uri: request_uri.to_owned(),
            routes: vec![format!("<{uri}{lr}>")],
            flow,
            is_device: false,
            signalled_from: flow.remote.ip(),
            hop: flow.remote,
            is_trusted: true,
            is_where_seen: false,
        })
    }

    /// A stored message for a session: CPIM as it came; anything else is wrapped, and the part inside the CPIM says how
    /// it is to be read. A chunk has no field for an encoding: CPIM that came compressed goes without.
    pub(super) fn outgoing(&self, message: &StoredMessage) -> Outgoing {
        let stored = &message.message;
        let envelope = &stored.envelope;
        let encoding = content_encoding::of(envelope);
        let opened = match (&stored.body, encoding) {
            (Body::Inline(body), Some(_)) => content_encoding::decoded(body, encoding),
            _ => None,
        };
        let is_cpim = essence(&envelope.content_type) == CPIM && (encoding.is_none() || opened.is_some());
        let of_body = envelope.headers.iter().filter(|(name, _)| facts::is_of_body(name));
        let further: Vec<_> = of_body.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let head = if is_cpim {
            bytes::Bytes::new()
        } else {
            let from =
                if envelope.sender.private { "sip:anonymous@anonymous.invalid" } else { envelope.sender.uri.as_str() };
            CpimBuilder::new()
                .from(&format!("<{from}>"))
                .to(&format!("<{}>", envelope.request_uri))
                .date_time(&fields::rfc3339(stored.received_at.0))
                .imdn_message_id(&format!("restante-{:016x}", message.id.0))
                .head(&envelope.content_type, &further, Some(stored.body.size_bytes()))
        };
        Outgoing {
            id: message.id,
            message_id: format!("m{:016x}", message.id.0),
            content_type: CPIM.to_owned(),
            wrapped_type: envelope.wrapped_type.clone().unwrap_or_else(|| essence(&envelope.content_type)),
            head,
            body: opened.filter(|_| is_cpim).map_or_else(|| stored.body.clone(), Body::Inline),
        }
    }
}

/// What a MESSAGE carries.
#[derive(Clone, Copy)]
pub(super) enum Form<'a> {
    /// The body that came.
    AsItCame,
    /// What was inside of its CPIM.
    Content(&'a Content),
}

/// One attempt at messages that may need a session.
struct Turn {
    attempt: AttemptId,
    /// Earlier attempts.
    repetition: u16,
    session: SessionPermit,
}

/// Why an attempt did not begin.
pub(super) enum NoAttempt {
    /// Nothing leads there.
    NoWay,
    /// Too much is in flight.
    Busy,
    /// It does not fit this form after all.
    WrongForm,
}

impl NoAttempt {
    pub(super) fn end(&self, messages: &[MessageId]) -> AttemptEnd {
        let (status, origin) = match self {
            NoAttempt::NoWay | NoAttempt::Busy => (None, Origin::Transport),
            // Found here, but it says what a device would: this form cannot be.
            NoAttempt::WrongForm => (Some(488), Origin::Device),
        };
        let outcomes =
            messages.iter().map(|id| (*id, Outcome::Failed { progress: Progress::Unsent, status: None })).collect();
        let is_ours = matches!(self, NoAttempt::Busy);
        AttemptEnd { status, origin, retry_after_seconds: None, is_ours, outcomes }
    }
}

impl From<SendError> for NoAttempt {
    fn from(error: SendError) -> NoAttempt {
        match error {
            SendError::TooLargeForUdp
            | SendError::Write(WriteError::ControlCharacter | WriteError::Name | WriteError::Missing) => {
                NoAttempt::WrongForm
            }
            SendError::Write(WriteError::TooManyHops) => NoAttempt::NoWay,
            _ => NoAttempt::Busy,
        }
    }
}

pub(super) fn of_one_message(key: &RecipientKey, attempt: AttemptId, route: &Route, message: MessageId) -> Purpose {
    Purpose::Attempt { key: key.clone(), attempt, messages: vec![message], is_device: route.is_device, hop: route.hop }
}

pub(super) fn ids_of(task: &AttemptTask) -> Vec<MessageId> {
    match task {
        AttemptTask::Page { message, .. } | AttemptTask::HandOver { message, .. } => vec![message.id],
        AttemptTask::Session { messages, .. }
        | AttemptTask::Notify { messages, .. }
        | AttemptTask::Pull { messages, .. } => messages.iter().map(|message| message.id).collect(),
        AttemptTask::Relay { .. } => Vec::new(),
    }
}
