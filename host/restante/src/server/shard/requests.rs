//! Requests that come, sent to where they belong.

use std::time::Duration;

use bytes::Bytes;
use restante_deferral::participating_function::{AttemptEnd, AttemptId};
use restante_sip::dialog::{Dialog, DialogId};
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::transaction::{ClientTransactionId, Flow, Passing, SendError, ServerTransactionId, Transport};
use restante_sip::uri::Uri;
use restante_sip::writer::{Builder, WriteError};

use super::recipients::Carrier;
use super::{Now, Shard};
use crate::server::flow;

/// Methods that are answered.
pub(super) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, MESSAGE, REGISTER, SUBSCRIBE, UPDATE, INFO";
/// Option tags that a peer may require.
pub(super) const SUPPORTED: [&str; 3] = ["path", "outbound", restante_sip::session_timer::TIMER];

impl Shard {
    pub(super) fn request(&mut self, now: Now, transaction: ServerTransactionId, message: &SipMessage, flow: Flow) {
        let Some(method) = message.method() else { return };
        if method == Method::Invite && self.is_trusted(flow) {
            self.endpoint.repeat_refusals(transaction);
        }
        let Some(Ok(uri)) = message.request_uri().map(Uri::parse) else { return self.answer(now, transaction, 400) };
        if matches!(uri, Uri::Other(..)) {
            return self.answer(now, transaction, 416);
        }
        let has_to_tag = message.to().is_ok_and(|to| to.tag().is_some());
        let is_in_dialog = has_to_tag && DialogId::of_request(message).is_some_and(|id| self.dialogs.contains_key(&id));
        if !is_in_dialog && self.is_own(message) {
            return self.forward(now, transaction, message, &method, &uri, flow);
        }
        if has_to_tag && !is_in_dialog && self.relay_in_dialog(now, transaction, message, flow) {
            return;
        }
        let served = self.shared.served(message, &uri, &flow);
        // Clients fetch from a URI of ours, whichever side of a session a core takes that for.
        let is_fetched_from = self.shared.is_deferred_uri(&uri);
        if !has_to_tag && served.is_originating() && method != Method::Register && !is_fetched_from {
            return self.pass_originating(now, transaction, message, &uri, flow);
        }
        // What an INVITE requires of who answers it is asked by whoever that is: see `invite`.
        if (method != Method::Invite || is_in_dialog) && self.requires_too_much(now, transaction, message) {
            return;
        }
        if has_to_tag {
            return self.request_in_dialog(now, transaction, message, &method, flow);
        }
        let is_late = || {
            let limit = Duration::from_millis(self.shared.limits.max_commit_wait_milliseconds);
            self.shared.store.oldest_write_age() > limit
        };
        if self.draining || (matches!(method, Method::Message | Method::Invite) && is_late()) {
            return self.answer_with(now, transaction, 503, |builder| builder.field("Retry-After", "5"));
        }
        match method {
            Method::Register => self.register(now, transaction, message, flow),
            Method::Message => self.message(now, transaction, message, &served, flow),
            Method::Invite => self.invite(now, transaction, message, (&uri, &served), flow),
            Method::Subscribe => self.subscribe(now, transaction, message, &served.uri, flow),
            Method::Options => self.answer_with(now, transaction, 200, |builder| {
                builder
                    .field("Allow", ALLOW)
                    .field("Accept", "*/*")
                    .field("Allow-Events", restante_sip::subscription::MESSAGE_SUMMARY)
                    .field("Supported", &SUPPORTED.join(", "))
            }),
            Method::Bye => self.answer(now, transaction, 481),
            Method::Notify => self.answer(now, transaction, 481),
            Method::Other(_) => self.answer_with(now, transaction, 501, |builder| builder.field("Allow", ALLOW)),
            _ => self.answer_with(now, transaction, 405, |builder| builder.field("Allow", ALLOW)),
        }
    }

    /// Answers 420 where a request requires what is not supported.
    pub(super) fn requires_too_much(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
    ) -> bool {
        let unsupported: Vec<&str> = message
            .list(Name::Require)
            .chain(message.list(Name::ProxyRequire))
            .filter(|tag| !SUPPORTED.iter().any(|known| known.eq_ignore_ascii_case(tag)))
            .collect();
        if unsupported.is_empty() || matches!(message.method(), Some(Method::Cancel | Method::Ack)) {
            return false;
        }
        let list = unsupported.join(", ");
        self.answer_with(now, transaction, 420, |builder| builder.field("Unsupported", &list));
        true
    }

    fn request_in_dialog(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
        method: &Method,
        came: Flow,
    ) {
        let Some(id) = DialogId::of_request(message) else { return self.answer(now, transaction, 481) };
        if let Some(media) = self.dialogs.get(&id).copied() {
            let received = match self.media.get_mut(&media).and_then(|session| session.phase.dialog_mut()) {
                Some(dialog) => dialog.receive(message).map_err(|error| error.status()),
                None => Err(481),
            };
            return match (received, method) {
                (Err(status), _) => self.answer(now, transaction, status),
                (Ok(()), Method::Bye) => {
                    self.answer(now, transaction, 200);
                    self.dialog_ended(now, media);
                }
                (Ok(()), Method::Update | Method::Invite) => {
                    self.session_changed(now, transaction, message, media, &came);
                }
                (Ok(()), Method::Options | Method::Info) => self.answer(now, transaction, 200),
                (Ok(()), _) => self.answer_with(now, transaction, 405, |builder| builder.field("Allow", ALLOW)),
            };
        }
        match method {
            Method::Subscribe => self.subscribe_in_dialog(now, transaction, message, &id, came),
            Method::Notify => self.registration_notified(now, transaction, message, &id, came),
            _ => self.answer(now, transaction, 481),
        }
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
        self.answer_with_body(now, transaction, status, None, further);
    }

    /// Answers with further fields and a session description, if there is one.
    pub(super) fn answer_with_body(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        status: u16,
        description: Option<Bytes>,
        further: impl FnOnce(Builder) -> Builder,
    ) {
        self.count_refusal(transaction, status);
        let tag = self.endpoint.identifiers().tag();
        let info = self.authentication_info(now, transaction, status);
        let Some(builder) = self.endpoint.response(transaction, status, Some(&tag)) else { return };
        let builder = further(builder)
            .optional("Authentication-Info", info.as_deref())
            .optional("Content-Type", description.is_some().then_some("application/sdp"));
        match builder.finish_with_body(&description.unwrap_or_default()) {
            Ok(bytes) => self.endpoint.respond(now.monotonic, transaction, status, bytes),
            // Whoever asked is not left without an answer, or the transaction would stay.
            Err(error) => {
                tracing::debug!(%error, status, "a response cannot be written as it should be");
                let bare = self.endpoint.response(transaction, status, Some(&tag)).and_then(|it| it.finish().ok());
                bare.into_iter().for_each(|bytes| self.endpoint.respond(now.monotonic, transaction, status, bytes));
            }
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
        self.count_refusal(transaction, status);
        let tag = self.endpoint.identifiers().tag();
        let clean: String = reason.chars().filter(|character| !character.is_control()).take(80).collect();
        let Some(builder) = self.endpoint.response_with_reason(transaction, status, &clean, Some(&tag)) else { return };
        let retry_after = retry_after_seconds.map(|seconds| seconds.to_string());
        if let Ok(bytes) = builder.optional("Retry-After", retry_after.as_deref()).finish() {
            self.endpoint.respond(now.monotonic, transaction, status, bytes);
        }
    }

    fn count_refusal(&self, transaction: ServerTransactionId, status: u16) {
        let Some(method) = self.endpoint.request(transaction).filter(|_| status >= 400).and_then(SipMessage::method)
        else {
            return;
        };
        let method = match method {
            Method::Message => "MESSAGE",
            Method::Invite => "INVITE",
            Method::Register => "REGISTER",
            Method::Subscribe => "SUBSCRIBE",
            _ => "other",
        };
        self.shared.metrics.count_refusal(method, status);
        tracing::debug!(method, status, "refused");
    }

    /// Sends a request in a transaction of its own; one that is too large for UDP goes over TCP to the same place
    /// (RFC 3261 §18.1.1), unless that is known to take none. `build` is given Via and the URI of our Contact. Tells
    /// also how it went.
    ///
    /// # Errors
    /// [`SendError`]
    pub(super) fn send_request(
        &mut self,
        now: Now,
        method: &Method,
        flow: Flow,
        build: impl FnMut(&str, &str) -> Result<Bytes, WriteError>,
    ) -> Result<(ClientTransactionId, Flow), SendError> {
        self.send_passing(now, method, flow, Passing::default(), build)
    }

    /// The same for a request of others.
    ///
    /// # Errors
    /// [`SendError`]
    pub(super) fn send_passing(
        &mut self,
        now: Now,
        method: &Method,
        flow: Flow,
        passing: Passing<'_>,
        mut build: impl FnMut(&str, &str) -> Result<Bytes, WriteError>,
    ) -> Result<(ClientTransactionId, Flow), SendError> {
        let over_tcp = Flow { transport: Transport::Tcp, connection: None, name: None, ..flow };
        let takes_no_tcp = self.too_large.takes_no_tcp(now.monotonic, flow.remote);
        let passing = Passing { is_by_udp_alone: passing.is_by_udp_alone || takes_no_tcp, ..passing };
        let mut is_too_large = false;
        for flow in [flow, over_tcp] {
            let (sent_by, contact) = (self.sent_by(&flow), self.contact_uri(&flow));
            let sent = self
                .endpoint
                .pass_on(now.monotonic, method.clone(), flow, &sent_by, passing, |via| build(via, &contact));
            match sent {
                Ok(client) => {
                    if is_too_large {
                        self.too_large.note_sent(now.monotonic, client, flow.remote);
                    }
                    return Ok((client, flow));
                }
                Err(SendError::TooLargeForUdp) => is_too_large = true,
                Err(error) => return Err(error),
            }
        }
        Err(SendError::TooLargeForUdp)
    }

    /// What Via and Contact name on the way to a target.
    pub(super) fn sent_by(&self, target: &Flow) -> String {
        self.place_of_ours(target).0
    }

    /// The URI of our Contact towards a target.
    pub(super) fn contact_uri(&self, target: &Flow) -> String {
        match self.place_of_ours(target) {
            (place, Some(transport)) => format!("sip:{place};transport={transport}"),
            (place, None) => format!("sip:{place}"),
        }
    }

    /// Where we listen for what answers what goes to a target, and the transport of that as a URI names it.
    pub(super) fn place_of_ours(&self, target: &Flow) -> (String, Option<&'static str>) {
        let of = |transport: Transport| {
            let towards = Flow { transport, connection: None, ..*target };
            let towards = if transport == target.transport { *target } else { towards };
            let bound = self.shared.sender()?.listener_towards(&flow::to_target(&towards))?;
            let place = match bound.advertise.port {
                Some(port) => format!("{}:{port}", bound.advertise.host),
                None => bound.advertise.host.clone(),
            };
            Some((place, transport.uri_parameter()))
        };
        // Over connections answers come back on them: without a listener of that kind another one is named.
        let any = [target.transport, Transport::Udp, Transport::Tcp, Transport::Tls];
        any.into_iter().find_map(of).unwrap_or_else(|| ("localhost".to_owned(), None))
    }

    /// Where a request inside of a dialog goes: to its first route or its remote target where those may be connected
    /// to, else the way that the dialog began. What goes through the outbound proxy keeps to it, by a connection of
    /// ours where the one that the proxy opened is gone.
    pub(super) fn in_dialog_flow(&self, dialog: &Dialog, began: Flow) -> Flow {
        if self.shared.outbound.is_some() {
            let is_gone = self.as_it_is_now(began).connection != began.connection;
            return self.outbound_flow().filter(|_| is_gone).unwrap_or(began);
        }
        let next_hop = dialog.next_hop();
        let is_proxy = !dialog.route_set.is_empty() && self.may_name_hops(next_hop, began);
        self.direct_flow(next_hop, Some(began), is_proxy).map_or(began, |(flow, _)| flow)
    }

    pub(super) fn cancel_attempt(
        &mut self,
        now: Now,
        key: &restante_deferral::model::RecipientKey,
        attempt: AttemptId,
    ) {
        self.leave_line(key, attempt);
        self.forget_resolving(key, attempt);
        let carrier = self.slots.get(key).and_then(|slot| slot.attempts.get(&attempt)).copied();
        match carrier {
            Some(Carrier::Transaction(client)) => self.endpoint.cancel(now.monotonic, client),
            Some(Carrier::Session(media)) => self.end_session(now, media),
            // Nothing of a MESSAGE can be cancelled: its end comes by itself.
            Some(Carrier::Relay) => {}
            None => {
                let end = AttemptEnd {
                    status: None,
                    origin: restante_deferral::model::Origin::Transport,
                    retry_after_seconds: None,
                    is_ours: true,
                    outcomes: Vec::new(),
                };
                self.attempt_ended(now, key, attempt, end);
            }
        }
    }
}
