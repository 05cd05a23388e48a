//! Requests that come, sent to where they belong.

use restante_deferral::participating_function::{AttemptEnd, AttemptId};
use restante_sip::dialog::DialogId;
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::transaction::{Flow, ServerTransactionId, Transport};
use restante_sip::uri::Uri;
use restante_sip::writer::{Builder, Edit};

use super::recipients::Carrier;
use super::responses::Purpose;
use super::{Now, Shard};
use crate::server::flow;

/// Methods that are answered.
const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, MESSAGE, REGISTER, SUBSCRIBE";
/// Option tags that a peer may require.
const SUPPORTED: [&str; 3] = ["path", "outbound", "gruu"];

impl Shard {
    pub(super) fn request(&mut self, now: Now, transaction: ServerTransactionId, message: &SipMessage, flow: Flow) {
        let Some(method) = message.method() else { return };
        let unsupported: Vec<&str> = message
            .list(Name::Require)
            .chain(message.list(Name::ProxyRequire))
            .filter(|tag| !SUPPORTED.iter().any(|known| known.eq_ignore_ascii_case(tag)))
            .collect();
        if !unsupported.is_empty() && !matches!(method, Method::Cancel | Method::Ack) {
            let list = unsupported.join(", ");
            return self.answer_with(now, transaction, 420, |builder| builder.field("Unsupported", &list));
        }
        let Some(Ok(uri)) = message.request_uri().map(Uri::parse) else { return self.answer(now, transaction, 400) };
        if matches!(uri, Uri::Other(..)) {
            return self.answer(now, transaction, 416);
        }
        if message.call_id().is_some_and(|call_id| self.shared.own_mark.name_of(call_id).is_some())
            && method != Method::Bye
        {
            return self.forward(now, transaction, message, &uri, flow);
        }
        if message.to().is_ok_and(|to| to.tag().is_some()) {
            return self.request_in_dialog(now, transaction, message, &method);
        }
        if self.draining {
            return self.answer_with(now, transaction, 503, |builder| builder.field("Retry-After", "5"));
        }
        match method {
            Method::Register => self.register(now, transaction, message, flow),
            Method::Message => self.message(now, transaction, message, &uri, flow),
            Method::Invite => self.invite(now, transaction, message, &uri, flow),
            Method::Subscribe => self.subscribe(now, transaction, message, &uri, flow),
            Method::Options => self.answer_with(now, transaction, 200, |builder| {
                builder.field("Allow", ALLOW).field("Accept", "*/*").field("Supported", &SUPPORTED.join(", "))
            }),
            Method::Bye => self.answer(now, transaction, 481),
            Method::Notify => self.answer(now, transaction, 481),
            Method::Other(_) => self.answer_with(now, transaction, 501, |builder| builder.field("Allow", ALLOW)),
            _ => self.answer_with(now, transaction, 405, |builder| builder.field("Allow", ALLOW)),
        }
    }

    fn request_in_dialog(&mut self, now: Now, transaction: ServerTransactionId, message: &SipMessage, method: &Method) {
        let Some(id) = DialogId::of_request(message) else { return self.answer(now, transaction, 481) };
        if let Some(media) = self.dialogs.get(&id).copied() {
            let received = match self.media.get_mut(&media).and_then(|session| session.dialog.as_mut()) {
                Some(dialog) => dialog.receive(message).map_err(|error| error.status()),
                None => Err(481),
            };
            return match (received, method) {
                (Err(status), _) => self.answer(now, transaction, status),
                (Ok(()), Method::Bye) => {
                    self.answer(now, transaction, 200);
                    self.dialog_ended(now, media);
                }
                // A session refresh changes nothing here.
                (Ok(()), Method::Update | Method::Options | Method::Info) => self.answer(now, transaction, 200),
                (Ok(()), Method::Invite) => self.answer(now, transaction, 488),
                (Ok(()), _) => self.answer_with(now, transaction, 405, |builder| builder.field("Allow", ALLOW)),
            };
        }
        match method {
            Method::Subscribe => self.subscribe_in_dialog(now, transaction, message, &id),
            _ => self.answer(now, transaction, 481),
        }
    }

    /// Passes on what we sent ourselves and the core brought back (RFC 3261 §16.6): it is never deferred again.
    fn forward(&mut self, now: Now, transaction: ServerTransactionId, message: &SipMessage, uri: &Uri, came: Flow) {
        let hops = match message.number(Name::MaxForwards) {
            Ok(hops) => hops.unwrap_or(70),
            Err(_) => return self.answer(now, transaction, 400),
        };
        if hops == 0 {
            return self.answer(now, transaction, 483);
        }
        let route_is_ours = message
            .name_addrs(Name::Route)
            .ok()
            .and_then(|routes| routes.first().and_then(|route| route.uri.as_sip().map(|uri| self.shared.is_ours(uri))))
            .unwrap_or(false);
        let Some(target) = self.forward_target(uri) else { return self.answer(now, transaction, 404) };
        let sent_by = self.sent_by(&target);
        let result = self.endpoint.send_request(now.monotonic, Method::Message, target, &sent_by, |via| {
            let edit = Edit::new(message).push(Name::Via, via)?.set(Name::MaxForwards, &(hops - 1).to_string())?;
            Ok(if route_is_ours { edit.pop(Name::Route).finish() } else { edit.finish() })
        });
        let _ = came;
        match result {
            Ok(client) => _ = self.purposes.insert(client, Purpose::Forwarded { server: transaction }),
            Err(_) => self.answer(now, transaction, 503),
        }
    }

    fn forward_target(&self, uri: &Uri) -> Option<Flow> {
        if let Some(outbound) = self.shared.outbound {
            let transport =
                if outbound.protocol == crate::configuration::Protocol::Udp { Transport::Udp } else { Transport::Tcp };
            return Some(flow::towards(transport, outbound.socket));
        }
        let (_, key) = self.shared.directory.served(uri)?;
        let contact = self.contacts_of(&key).into_iter().max_by_key(|contact| contact.q_permille)?;
        self.route_to(&key, contact.id).map(|route| route.flow)
    }

    /// Answers without a body.
    pub(super) fn answer(&mut self, now: Now, transaction: ServerTransactionId, status: u16) {
        self.answer_with(now, transaction, status, |builder| builder);
    }

    /// Answers with further fields.
    pub(super) fn answer_with(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        status: u16,
        further: impl FnOnce(Builder) -> Builder,
    ) {
        let tag = self.endpoint.identifiers().tag();
        let Some(builder) = self.endpoint.response(transaction, status, Some(&tag)) else { return };
        match further(builder).finish() {
            Ok(bytes) => self.endpoint.respond(now.monotonic, transaction, status, bytes),
            Err(error) => tracing::warn!(%error, status, "a response cannot be written"),
        }
    }

    /// Answers with a reason phrase of one's own.
    pub(super) fn refuse(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        status: u16,
        reason: &str,
        retry_after_seconds: Option<u32>,
    ) {
        let tag = self.endpoint.identifiers().tag();
        let clean: String = reason.chars().filter(|character| !character.is_control()).take(80).collect();
        let Some(builder) = self.endpoint.response_with_reason(transaction, status, &clean, Some(&tag)) else { return };
        let retry_after = retry_after_seconds.map(|seconds| seconds.to_string());
        if let Ok(bytes) = builder.optional("Retry-After", retry_after.as_deref()).finish() {
            self.endpoint.respond(now.monotonic, transaction, status, bytes);
        }
    }

    /// What Via and Contact name on the way to a target.
    pub(super) fn sent_by(&self, target: &Flow) -> String {
        let sender = self.shared.sender();
        let bound = sender.and_then(|sender| sender.listener_towards(&flow::to_target(target)));
        match bound {
            Some(bound) => match bound.advertise.port {
                Some(port) => format!("{}:{port}", bound.advertise.host),
                None => bound.advertise.host.clone(),
            },
            // Nothing listens in that family: the address is never used to reach us, only to be written.
            None => "localhost".to_owned(),
        }
    }

    /// The URI of our Contact towards a target.
    pub(super) fn contact_uri(&self, target: &Flow) -> String {
        let transport = if target.transport == Transport::Tcp { ";transport=tcp" } else { "" };
        format!("sip:{}{transport}", self.sent_by(target))
    }

    pub(super) fn cancel_attempt(
        &mut self,
        now: Now,
        key: &restante_deferral::model::RecipientKey,
        attempt: AttemptId,
    ) {
        let carrier = self.slots.get(key).and_then(|slot| slot.attempts.get(&attempt)).copied();
        match carrier {
            Some(Carrier::Transaction(client)) => self.endpoint.cancel(now.monotonic, client),
            Some(Carrier::Session(media)) => self.end_session(now, media),
            None => {
                let end = AttemptEnd {
                    status: None,
                    origin: restante_deferral::model::Origin::Transport,
                    retry_after_seconds: None,
                    outcomes: Vec::new(),
                };
                self.attempt_ended(now, key, attempt, end);
            }
        }
    }
}
