//! Requests of others.

use std::time::{Instant, SystemTime};

use restante_cpim::cpim::{CpimMessage, address_uri};
use restante_cpim::imdn::{self, Imdn};
use restante_cpim::media_type::essence;
use restante_cpim::message_summary::{self, MessageSummary};
use restante_sip::dialog::DialogId;
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::transaction::{Flow, ServerTransactionId};

use super::Engine;
use super::wire::fields_of;
use crate::behaviour::Scripted;
use crate::compose::{ACCEPT, ALLOW};
use crate::content::{Stored, sha256};
use crate::event::{ClientEvent, Content, Mode, ReceivedMessage};
use crate::strict;

impl Engine {
    pub(super) fn request(&mut self, transaction: ServerTransactionId, message: &SipMessage, flow: Flow) {
        self.object(strict::request(message));
        match message.method() {
            Some(Method::Message) => self.page_received(transaction, message, flow),
            Some(Method::Notify) => self.notify_received(transaction, message),
            Some(Method::Invite) => self.invited(transaction, message, flow),
            Some(Method::Bye) => self.bye_received(transaction, message),
            Some(Method::Options) => self.answer(transaction, 200),
            _ => self.answer(transaction, 405),
        }
    }

    /// Answers without anything further to say.
    pub(super) fn answer(&mut self, transaction: ServerTransactionId, status: u16) {
        let tag = self.endpoint.identifiers().tag();
        let Some(mut response) = self.endpoint.response(transaction, status, Some(&tag)) else { return };
        let allows = self.endpoint.request(transaction).and_then(SipMessage::method);
        if status == 405 || allows == Some(Method::Options) {
            response = response.field("Allow", ALLOW).field("Accept", ACCEPT);
        }
        match response.finish() {
            Ok(bytes) => self.endpoint.respond(Instant::now(), transaction, status, bytes),
            Err(error) => self.violation(format!("a request that cannot be answered: {error}")),
        }
    }

    /// Does what the script says; whether it said anything.
    pub(super) fn play(
        &mut self,
        scripted: Option<Scripted>,
        transaction: ServerTransactionId,
        message: &SipMessage,
    ) -> bool {
        let status = match scripted {
            None | Some(Scripted::Status(200)) => return false,
            Some(Scripted::Status(status)) => {
                self.answer(transaction, status);
                Some(status)
            }
            Some(Scripted::Silence) => None,
        };
        let method = message.method().map_or_else(String::new, |method| method.to_string());
        let message_id = CpimMessage::parse(message.body()).ok().and_then(|cpim| cpim.imdn().message_id);
        self.event(ClientEvent::Scripted { at: SystemTime::now(), method, status, message_id });
        true
    }

    fn page_received(&mut self, transaction: ServerTransactionId, message: &SipMessage, flow: Flow) {
        self.object(strict::page(message, flow.transport.is_reliable()));
        let scripted = self.state.behaviour.next_message_answer();
        if self.play(scripted, transaction, message) {
            return;
        }
        let content_type = message.header(Name::ContentType).unwrap_or("text/plain").to_owned();
        match essence(&content_type).as_str() {
            message_summary::CONTENT_TYPE => {
                self.summary(message, false, false);
                self.answer(transaction, 200);
            }
            restante_cpim::cpim::CONTENT_TYPE => match crate::content::stored_in_memory(message.body()) {
                Ok(stored) => self.cpim_received(transaction, message, stored),
                Err(_) => self.answer(transaction, 400),
            },
            _ => {
                let body = message.body();
                let sender = asserted_sender(message).unwrap_or_default();
                self.answer(transaction, 200);
                self.event(ClientEvent::Received(Box::new(ReceivedMessage {
                    at: SystemTime::now(),
                    mode: Mode::Page,
                    sender,
                    message_id: None,
                    repeated: false,
                    content_type,
                    content_encoding: message.header(Name::ContentEncoding).map(str::to_owned),
                    size: body.len() as u64,
                    sha256: sha256(&body),
                    content: Content::Memory(body),
                    subject: message.header(Name::Subject).map(str::to_owned),
                    date_time: message.header(Name::Date).map(str::to_owned),
                    call_id: message.call_id().unwrap_or("").to_owned(),
                    conversation_id: message.header(Name::ConversationId).map(str::to_owned),
                    sip_fields: fields_of(message),
                })));
            }
        }
    }

    fn cpim_received(&mut self, transaction: ServerTransactionId, message: &SipMessage, stored: Stored) {
        let context = Context {
            mode: Mode::Page,
            asserted: asserted_sender(message),
            referred_by: None,
            call_id: message.call_id().unwrap_or("").to_owned(),
            conversation_id: message.header(Name::ConversationId).map(str::to_owned),
            fields: fields_of(message),
        };
        self.answer(transaction, 200);
        self.stored(stored, &context);
    }

    /// A whole CPIM message, however it came: a disposition notification, or a message for the user.
    pub(super) fn stored(&mut self, stored: Stored, context: &Context) -> Option<ReceivedMessage> {
        let Stored { cpim, content, size, sha256 } = stored;
        if essence(cpim.content_type()) == imdn::CONTENT_TYPE {
            self.disposition(&cpim, &content, context);
            return None;
        }
        let headers = cpim.imdn();
        let sender = context.sender(&cpim);
        let received = ReceivedMessage {
            at: SystemTime::now(),
            mode: context.mode,
            repeated: self.is_repeated(&sender, headers.message_id.as_deref()),
            sender,
            message_id: headers.message_id,
            content_type: cpim.content_type().to_owned(),
            content_encoding: cpim.content_header("Content-Encoding").map(str::to_owned),
            size,
            sha256,
            content,
            subject: cpim.subject().map(str::to_owned),
            date_time: cpim.date_time().map(str::to_owned),
            call_id: context.call_id.clone(),
            conversation_id: context.conversation_id.clone(),
            sip_fields: context.fields.clone(),
        };
        let asked = headers.disposition_notification.positive_delivery;
        if asked && !received.repeated && self.configuration.automatic_delivery_notification {
            self.notify_delivered(&received, &headers.record_route);
        }
        self.event(ClientEvent::Received(Box::new(received.clone())));
        Some(received)
    }

    fn disposition(&mut self, cpim: &CpimMessage, content: &Content, context: &Context) {
        let xml = match content {
            Content::Memory(bytes) => Ok(bytes.to_vec()),
            Content::File(path) => std::fs::read(path),
        };
        let imdn = match xml.map(|xml| Imdn::parse(&xml)) {
            Ok(Ok(imdn)) => imdn,
            Ok(Err(error)) => return self.violation(format!("a disposition notification that is none: {error}")),
            Err(error) => return self.violation(format!("a disposition notification cannot be read: {error}")),
        };
        let from = context.sender(cpim);
        let (message_id, disposition) = (imdn.message_id, imdn.disposition);
        self.event(ClientEvent::Disposition { at: SystemTime::now(), from, message_id, disposition });
    }

    fn notify_received(&mut self, transaction: ServerTransactionId, message: &SipMessage) {
        self.object(strict::notify(message));
        let scripted = self.state.behaviour.notify_answers.pop_front();
        if self.play(scripted, transaction, message) {
            return;
        }
        let mut subscribed = false;
        if DialogId::of_request(message).is_some()
            && let Some(subscription) = &mut self.state.subscription
        {
            match subscription.dialog.receive(message) {
                Ok(()) => subscribed = true,
                Err(error) => {
                    self.violation(format!("NOTIFY: {error}"));
                    return self.answer(transaction, error.status());
                }
            }
        }
        // Before the 200 to SUBSCRIBE is known, and outside of RFC 6665 altogether, there is no dialog to check against.
        self.answer(transaction, 200);
        if !message.body().is_empty() {
            self.summary(message, true, subscribed);
        }
        let state = message.header(Name::SubscriptionState).unwrap_or("");
        if subscribed && state.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("terminated") {
            self.state.subscription = None;
            self.event(ClientEvent::SubscriptionEnded { at: SystemTime::now() });
        }
    }

    fn summary(&mut self, message: &SipMessage, by_notify: bool, subscribed: bool) {
        let summary = MessageSummary::parse(&String::from_utf8_lossy(&message.body()));
        self.event(ClientEvent::Summary { at: SystemTime::now(), by_notify, subscribed, summary });
    }
}

/// What the signalling says of the messages that come with it.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) mode: Mode,
    /// P-Asserted-Identity, else From.
    pub(super) asserted: Option<String>,
    pub(super) referred_by: Option<String>,
    pub(super) call_id: String,
    pub(super) conversation_id: Option<String>,
    pub(super) fields: Vec<(String, String)>,
}

impl Context {
    /// In page mode whom the network asserts. In a session that is the service at times: Referred-By then, or what the
    /// message says itself unless it is anonymous.
    fn sender(&self, cpim: &CpimMessage) -> String {
        let inner = cpim.from().map(address_uri).filter(|from| !from.contains("anonymous")).map(str::to_owned);
        let by_trust = match self.mode {
            Mode::Page => [self.asserted.clone(), inner, None],
            Mode::Push | Mode::Fetch => [inner, self.referred_by.clone(), self.asserted.clone()],
        };
        by_trust.into_iter().flatten().next().unwrap_or_default()
    }
}

/// P-Asserted-Identity, else From.
pub(super) fn asserted_sender(message: &SipMessage) -> Option<String> {
    asserted_identity(message).or_else(|| message.from().ok().map(|address| address.uri.to_string()))
}

/// P-Asserted-Identity.
pub(super) fn asserted_identity(message: &SipMessage) -> Option<String> {
    let asserted = message.name_addrs(Name::PAssertedIdentity).ok()?;
    asserted.into_iter().next().map(|address| address.uri.to_string())
}
