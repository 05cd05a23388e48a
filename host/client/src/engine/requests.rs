//! Requests that need no session: REGISTER, SUBSCRIBE, MESSAGE.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use restante_cpim::imdn::{Disposition, Report};
use restante_sip::dialog::Dialog;
use restante_sip::header::{ICSI_MESSAGE, write_date};
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::transaction::Transport;
use restante_sip::uri::Uri;
use restante_sip::writer::WriteError;

use super::wire::{Outline, answer_of, begin, no_answer};
use super::{Engine, Pending, Registration, Reply, Subscription, tell};
use crate::compose::{self, ACCEPT, ALLOW, CpimHead};
use crate::content;
use crate::error::ClientError;
use crate::event::{ClientEvent, ReceivedMessage};
use crate::outgoing::{Answer, PageMessage, PageOutcome};
use crate::random::token;
use crate::strict;

impl Engine {
    pub(super) fn register(&mut self, expires_seconds: u32, reply: Option<Reply<Answer>>) {
        let identity = self.configuration.identity.clone();
        let registration = self.state.registration.get_or_insert_with(|| Registration {
            call_id: token(),
            from_tag: token(),
            cseq: 0,
            refresh: None,
        });
        registration.cseq = registration.cseq.saturating_add(1);
        registration.refresh = None;
        let (call_id, from_tag, cseq) =
            (registration.call_id.clone(), registration.from_tag.clone(), registration.cseq);
        let contact = compose::registered_contact(&self.configuration, &self.contact_uri(), expires_seconds);
        let registrar = registrar_uri(&identity, self.configuration.server);
        let outline = Outline { from: &identity, from_tag: &from_tag, to: &identity, call_id: &call_id, cseq };
        let sent = self.send_request(&Method::Register, self.server(), |via| {
            begin(&Method::Register, &registrar, via, &outline)
                .field("Contact", &contact)
                .field("Expires", &expires_seconds.to_string())
                .field("Supported", "path, gruu")
                .field("Allow", ALLOW)
                .field("Accept", ACCEPT)
                .finish()
        });
        self.await_answer(sent, reply, |_, reply| Pending::Register { expires_seconds, third_party: false, reply });
    }

    pub(super) fn register_third_party(
        &mut self,
        address_of_record: &str,
        contact_uri: &str,
        expires_seconds: u32,
        reply: Reply<Answer>,
    ) {
        let identity = self.configuration.identity.clone();
        let (call_id, from_tag) = (token(), token());
        let registrar = format!("sip:{}", self.configuration.server);
        let outline =
            Outline { from: &identity, from_tag: &from_tag, to: address_of_record, call_id: &call_id, cseq: 1 };
        let sent = self.send_request(&Method::Register, self.server(), |via| {
            begin(&Method::Register, &registrar, via, &outline)
                .field("Contact", &format!("<{contact_uri}>"))
                .field("Expires", &expires_seconds.to_string())
                .field("Event", "registration")
                .finish()
        });
        let pending = |_, reply| Pending::Register { expires_seconds, third_party: true, reply };
        self.await_answer(sent, Some(reply), pending);
    }

    pub(super) fn registered(
        &mut self,
        expires_seconds: u32,
        third_party: bool,
        message: &SipMessage,
        reply: Option<Reply<Answer>>,
    ) {
        let answer = answer_of(message);
        if answer.is_success() && !third_party && expires_seconds > 0 {
            let contact_uri = self.contact_uri();
            self.object(strict::registration(message, &contact_uri));
            let granted = message.contacts().ok().and_then(|contacts| {
                let ours = contacts.into_iter().find(|contact| contact.address.uri.to_string() == contact_uri)?;
                ours.expires_seconds()
            });
            let granted = u64::from(granted.unwrap_or(expires_seconds).max(2));
            if let Some(registration) = &mut self.state.registration {
                let at = Instant::now() + Duration::from_secs(granted * 4 / 5);
                registration.refresh = Some((at, expires_seconds));
            }
        }
        tell(reply, Ok(answer));
    }

    pub(super) fn subscribe(&mut self, expires_seconds: u32, reply: Option<Reply<Answer>>) {
        let contact = format!("<{}>", self.contact_uri());
        let identity = self.configuration.identity.clone();
        let expires = expires_seconds.to_string();
        let finish = |builder: restante_sip::writer::Builder| {
            builder
                .field("Contact", &contact)
                .field("Event", "message-summary")
                .field("Accept", "application/simple-message-summary")
                .field("Expires", &expires)
                .finish()
        };
        let target = self.server();
        let sent = match self.state.subscription.take() {
            Some(mut subscription) => {
                let cseq = subscription.dialog.local_cseq;
                let sent = self.send_request(&Method::Subscribe, target, |via| {
                    // Once over UDP and then over TCP is still one request.
                    subscription.dialog.local_cseq = cseq;
                    finish(subscription.dialog.request(&Method::Subscribe, via))
                });
                subscription.refresh = None;
                self.state.subscription = Some(subscription);
                sent
            }
            None => {
                let (call_id, from_tag) = (token(), token());
                let outline =
                    Outline { from: &identity, from_tag: &from_tag, to: &identity, call_id: &call_id, cseq: 1 };
                let build = |via: &str| finish(begin(&Method::Subscribe, &identity, via, &outline));
                self.send_request(&Method::Subscribe, target, build)
            }
        };
        self.await_answer(sent, reply, |request, reply| Pending::Subscribe { request, expires_seconds, reply });
    }

    pub(super) fn subscribed(
        &mut self,
        request: &SipMessage,
        expires_seconds: u32,
        message: &SipMessage,
        reply: Option<Reply<Answer>>,
    ) {
        let answer = answer_of(message);
        if !answer.is_success() {
            self.state.subscription = None;
        } else {
            match message.number(Name::Expires) {
                Ok(Some(granted)) => self.keep_subscription(request, message, expires_seconds, granted),
                _ => self.violation("200 to SUBSCRIBE: no Expires (RFC 6665 §4.2.1.1)".to_owned()),
            }
        }
        tell(reply, Ok(answer));
    }

    fn keep_subscription(&mut self, request: &SipMessage, message: &SipMessage, asked: u32, granted: u32) {
        if message.count(Name::Contact) != 1 {
            self.violation("200 to SUBSCRIBE: no Contact".to_owned());
        }
        let refresh = (granted > 0 && asked > 0)
            .then(|| (Instant::now() + Duration::from_secs(u64::from(granted.max(2)) * 4 / 5), asked));
        match (&mut self.state.subscription, Dialog::as_client(request, message)) {
            (Some(subscription), _) => subscription.refresh = refresh,
            (none, Ok(dialog)) => *none = Some(Subscription { dialog, refresh }),
            (None, Err(error)) => self.violation(format!("200 to SUBSCRIBE: {error}")),
        }
    }

    pub(super) fn send_page(&mut self, message: &PageMessage, reply: Reply<PageOutcome>) {
        let draft = self.draft_page(message);
        let outcome = PageOutcome {
            answer: no_answer(),
            message_id: draft.message_id.clone(),
            call_id: draft.call_id.clone(),
            sha256: content::sha256(&message.content),
        };
        match self.send_request(&Method::Message, self.server(), |via| draft.write(message, via)) {
            Ok((transaction, _)) => _ = self.state.pending.insert(transaction, Pending::Page { outcome, reply }),
            Err(error) => _ = reply.send(Err(error)),
        }
    }

    /// The size of the request that a message would be sent as.
    pub(super) fn page_bytes(&mut self, message: &PageMessage) -> Result<usize, ClientError> {
        let via = self.endpoint.via(Transport::Udp, &self.local.to_string());
        let request = self.draft_page(message).write(message, &via)?;
        Ok(match (self.state.challenge.clone(), &self.configuration.credentials) {
            (Some(mut challenge), Some(credentials)) => challenge.answer(credentials, request)?.len(),
            _ => request.len(),
        })
    }

    fn draft_page(&self, message: &PageMessage) -> PageDraft {
        let message_id = message.message_id.clone().unwrap_or_else(token);
        let (content_type, body) = self.page_body(message, &message_id);
        PageDraft {
            from: message.from.clone().unwrap_or_else(|| self.configuration.identity.clone()),
            from_tag: token(),
            call_id: message.call_id.clone().unwrap_or_else(token),
            conversation_id: token(),
            contribution_id: token(),
            date: write_date(unix_seconds()),
            message_id,
            content_type,
            body,
        }
    }

    fn page_body(&self, message: &PageMessage, message_id: &str) -> (String, Bytes) {
        if !message.wrap {
            return (message.content_type.clone(), message.content.clone());
        }
        let head = CpimHead {
            from: message.from.as_deref().unwrap_or(&self.configuration.identity),
            to: &message.to,
            message_id,
            notifications: message.notifications,
            subject: message.subject.as_deref(),
            content_type: &message.content_type,
            content_bytes: message.content.len() as u64,
        };
        let body = [head.write(), message.content.clone()].concat();
        (restante_cpim::cpim::CONTENT_TYPE.to_owned(), body.into())
    }

    /// Tells the sender of a message that it was delivered.
    pub(super) fn notify_delivered(&mut self, received: &ReceivedMessage, record_route: &[String]) {
        let Some(message_id) = received.message_id.as_deref() else { return };
        let identity = self.configuration.identity.clone();
        let date_time = compose::date_time();
        let body = Report {
            message_id,
            date_time: received.date_time.as_deref().unwrap_or(&date_time),
            recipient_uri: Some(&identity),
            original_recipient_uri: None,
            disposition: Disposition::Delivered,
            from: &identity,
            to: &received.sender,
            own_message_id: &token(),
            now: &date_time,
            route: record_route,
        }
        .to_cpim();
        let target = received.sender.clone();
        let (call_id, from_tag) = (token(), token());
        let outline = Outline { from: &identity, from_tag: &from_tag, to: &target, call_id: &call_id, cseq: 1 };
        let build = |via: &str| {
            begin(&Method::Message, &target, via, &outline)
                .field("Accept-Contact", &compose::accept_contact(ICSI_MESSAGE))
                .field("P-Preferred-Service", ICSI_MESSAGE)
                .optional("Conversation-ID", received.conversation_id.as_deref().filter(|id| !id.is_empty()))
                .field("Contribution-ID", &token())
                .field("Content-Type", restante_cpim::cpim::CONTENT_TYPE)
                .finish_with_body(&body)
        };
        match self.send_request(&Method::Message, self.server(), build) {
            Ok((transaction, _)) => _ = self.state.pending.insert(transaction, Pending::Notification),
            Err(_) => self.notification_answered(None),
        }
    }

    pub(super) fn notification_answered(&mut self, status: Option<u16>) {
        if !matches!(status, Some(200..300)) {
            self.event(ClientEvent::NotificationRefused { at: SystemTime::now(), status });
        }
    }
}

/// Everything that is made up for one MESSAGE.
struct PageDraft {
    message_id: String,
    from: String,
    from_tag: String,
    call_id: String,
    conversation_id: String,
    contribution_id: String,
    date: String,
    content_type: String,
    body: Bytes,
}

impl PageDraft {
    fn write(&self, message: &PageMessage, via: &str) -> Result<Bytes, WriteError> {
        let outline =
            Outline { from: &self.from, from_tag: &self.from_tag, to: &message.to, call_id: &self.call_id, cseq: 1 };
        let has = |name: &str| message.fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name));
        let mut builder = begin(&Method::Message, &message.to, via, &outline);
        for (name, value) in [
            ("Accept-Contact", compose::accept_contact(ICSI_MESSAGE).as_str()),
            ("P-Preferred-Service", ICSI_MESSAGE),
            ("Conversation-ID", &self.conversation_id),
            ("Contribution-ID", &self.contribution_id),
        ] {
            if !has(name) {
                builder = builder.field(name, value);
            }
        }
        if let Some(expires_seconds) = message.expires_seconds {
            builder = builder.field("Expires", &expires_seconds.to_string()).field("Date", &self.date);
        }
        for (name, value) in &message.fields {
            builder = builder.field(name, value);
        }
        builder.field("Content-Type", &self.content_type).finish_with_body(&self.body)
    }
}

fn registrar_uri(identity: &str, server: std::net::SocketAddr) -> String {
    match Uri::parse(identity) {
        Ok(Uri::Sip(uri)) => format!("sip:{}", uri.host),
        _ => format!("sip:{server}"),
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
