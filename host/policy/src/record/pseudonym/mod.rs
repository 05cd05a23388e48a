//! Names that are nobody's, instead of identities.
//!
//! A pseudonym is made of the identity and a tenant's key. It is the same wherever the identity stands, so that a
//! policy that compares addresses decides as before; without the key nobody can say whose it is, nor try names until
//! one fits. What a policy may look at stays: the scheme, that two addresses are of one domain, that a user is a
//! number.
//!
//! | place | becomes |
//! |---|---|
//! | addresses, aliases, senders, instances, devices | a pseudonym, whatever they are |
//! | feature tags | as they are, but for values in angle brackets and what looks like an identity |
//! | fields, classes, types, settings | as they are, but for what looks like an identity |
//!
//! A lone address, or a list of them, becomes pseudonyms; another text with an identity in it becomes one opaque word,
//! for there may be a name beside the address.

mod looks;

use std::fmt;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use restante_deferral::decision::{
    Answer, Availability, ContactView, Context, ExpiringMessage, FailedMessage, Failure, Incoming, IncomingAnswer,
    Pull, PullAnswer, Question, RecipientView, SenderView, WaitingMessage,
};
use restante_deferral::model::{CanonicalAddress, TenantName};
use serde_json::Value;
use sha2::Sha256;

use looks::{is_identity, is_like_identity, tokens};

/// Replaces identities by pseudonyms under one tenant's key.
#[derive(Clone)]
pub struct Pseudonymiser {
    keyed: Hmac<Sha256>,
}

impl fmt::Debug for Pseudonymiser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pseudonymiser").finish_non_exhaustive()
    }
}

impl Pseudonymiser {
    /// With the key that a host's secret and a tenant's name make: what is the same in two tenants' records has two
    /// pseudonyms.
    #[must_use]
    pub fn for_tenant(secret: &[u8; 64], tenant: &TenantName) -> Pseudonymiser {
        let mut keyed = <Hmac<Sha256> as KeyInit>::new(secret.into());
        keyed.update(b"pseudonyms\0");
        keyed.update(tenant.0.as_bytes());
        let mut key = [0; 64];
        key[..32].copy_from_slice(&keyed.finalize().into_bytes());
        Pseudonymiser { keyed: <Hmac<Sha256> as KeyInit>::new((&key).into()) }
    }

    /// A question without identities.
    #[must_use]
    pub fn question(&self, question: &Question) -> Question {
        let mut question = question.clone();
        match &mut question {
            Question::Incoming(context, incoming) => {
                self.context(context);
                self.incoming(incoming);
            }
            Question::Available(context, availability) => {
                self.context(context);
                self.availability(availability);
            }
            Question::Pull(context, pull) => {
                self.context(context);
                self.pull(pull);
            }
            Question::Failure(context, failure) => {
                self.context(context);
                self.failure(failure);
            }
            Question::Expiry(context, messages) => {
                self.context(context);
                for ExpiringMessage { message, source: _, dispositions: _ } in messages {
                    self.waiting(message);
                }
            }
        }
        question
    }

    /// Settings without identities, in values and in keys.
    #[must_use]
    pub fn settings(&self, settings: &Value) -> Value {
        match settings {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(values) => values.iter().map(|value| self.settings(value)).collect(),
            Value::Object(entries) => {
                entries.iter().map(|(key, value)| (self.text(key), self.settings(value))).collect()
            }
            // Numbers are sizes and times.
            Value::Null | Value::Bool(_) | Value::Number(_) => settings.clone(),
        }
    }

    /// An answer whose texts name pseudonyms where they named identities.
    #[must_use]
    pub fn answer(&self, answer: &Answer) -> Answer {
        let mut answer = answer.clone();
        match &mut answer {
            Answer::Incoming(IncomingAnswer::Reject(rejection)) | Answer::Pull(PullAnswer::Refuse(rejection)) => {
                rejection.reason = self.said(&rejection.reason);
            }
            Answer::Incoming(IncomingAnswer::Discard(why)) => *why = self.said(why),
            // The others have numbers and the names of targets.
            Answer::Incoming(_) | Answer::Pull(_) | Answer::Available(_) | Answer::Failure(_) | Answer::Expiry(_) => {}
        }
        answer
    }

    fn context(&self, context: &mut Context) {
        let Context { now: _, tenant: _, recipient, queue: _, fields } = context;
        let RecipientView { address, aliases, subscriber_class, delivery: _, utc_offset_minutes: _ } = recipient;
        *address = CanonicalAddress(self.identity(&address.0).into());
        self.identities(aliases);
        self.optional_text(subscriber_class);
        for field in fields {
            field.name = self.text(&field.name);
            field.value = self.text(&field.value);
        }
    }

    fn incoming(&self, incoming: &mut Incoming) {
        let Incoming {
            phase: _,
            kind: _,
            mode: _,
            service,
            sender: SenderView { address, verification: _, private: _ },
            size_bytes: _,
            content_type,
            wrapped_type,
            dispositions: _,
            expires_at: _,
            registration: _,
            contacts,
            recipient_counts: _,
            sender_counts: _,
            tenant_counts: _,
            upstream_failure: _,
        } = incoming;
        *address = self.identity(address);
        *content_type = self.text(content_type);
        self.optional_text(wrapped_type);
        self.optional_text(service);
        contacts.iter_mut().for_each(|contact| self.contact(contact));
    }

    fn availability(&self, availability: &mut Availability) {
        let Availability { trigger: _, contacts, messages, not_shown: _, can_notify: _ } = availability;
        contacts.iter_mut().for_each(|contact| self.contact(contact));
        messages.iter_mut().for_each(|message| self.waiting(message));
    }

    fn pull(&self, pull: &mut Pull) {
        let Pull {
            contact,
            verification: _,
            selection: _,
            accept_types,
            accept_wrapped_types,
            max_size_bytes: _,
            direction: _,
            messages,
            not_shown: _,
        } = pull;
        contact.iter_mut().for_each(|contact| self.contact(contact));
        for text in accept_types.iter_mut().chain(accept_wrapped_types) {
            *text = self.text(text);
        }
        messages.iter_mut().for_each(|message| self.waiting(message));
    }

    fn failure(&self, failure: &mut Failure) {
        let Failure { attempt: _, contact: _, status: _, origin: _, retry_after_seconds: _, messages, other_contacts } =
            failure;
        for FailedMessage { message, progress: _, status: _ } in messages {
            self.waiting(message);
        }
        other_contacts.iter_mut().for_each(|contact| self.contact(contact));
    }

    fn contact(&self, contact: &mut ContactView) {
        let ContactView { id: _, instance, q_permille: _, abilities: _, tags, last_failure: _ } = contact;
        if let Some(instance) = instance {
            *instance = self.identity(instance);
        }
        for tag in tags {
            *tag = self.tag(tag);
        }
    }

    fn waiting(&self, message: &mut WaitingMessage) {
        let WaitingMessage {
            id: _,
            sender,
            kind: _,
            page_bytes: _,
            size_bytes: _,
            content_type,
            received_at: _,
            expires_at: _,
            priority: _,
            attempts: _,
            not_before: _,
            last_failure: _,
            page_refused: _,
            large_refused: _,
            notified_at: _,
            fetch_deadline: _,
            devices,
        } = message;
        *sender = self.identity(sender);
        *content_type = self.text(content_type);
        for state in devices {
            state.device = self.identity(&state.device);
        }
    }

    fn identities(&self, texts: &mut [String]) {
        for text in texts {
            *text = self.identity(text);
        }
    }

    fn optional_text(&self, text: &mut Option<String>) {
        if let Some(text) = text {
            *text = self.text(text);
        }
    }

    /// A text that may have an identity in it.
    fn text(&self, text: &str) -> String {
        if !is_like_identity(text) {
            return text.to_owned();
        }
        let is_list = tokens(text).all(|(token, _)| token.is_empty() || is_identity(token));
        if is_list { self.said(text) } else { self.opaque(text) }
    }

    /// A text with the identities in it replaced where they stand.
    fn said(&self, text: &str) -> String {
        tokens(text).fold(String::with_capacity(text.len()), |mut said, (token, separator)| {
            said.push_str(&if is_like_identity(token) { self.identity(token) } else { token.to_owned() });
            said.push_str(separator);
            said
        })
    }

    /// A feature tag: `name`, `name="value"` or `name="<text>"`.
    fn tag(&self, tag: &str) -> String {
        let Some((name, value)) = tag.split_once('=') else { return self.text(tag) };
        let quote = if value.len() >= 2 && value.starts_with('"') && value.ends_with('"') { "\"" } else { "" };
        let inner = value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote)).unwrap_or(value);
        let value = match inner.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')) {
            // A text for people (RFC 3840 §9).
            Some(text) => format!("<{}>", self.identity(text)),
            None if is_like_identity(inner) => self.identity(inner),
            None => inner.to_owned(),
        };
        format!("{}={quote}{value}{quote}", self.text(name))
    }

    /// The pseudonym of an identity of any form.
    fn identity(&self, identity: &str) -> String {
        if identity.is_empty() {
            return String::new();
        }
        let Some((scheme, rest)) = looks::scheme(identity) else {
            return if looks::is_number(identity) {
                self.number_like(identity)
            } else if identity.contains('@') && is_identity(identity) {
                self.mailbox(identity)
            } else {
                self.opaque(identity)
            };
        };
        match scheme.to_ascii_lowercase().as_str() {
            "tel" if looks::is_number(rest) => format!("{scheme}:{}", self.number_like(rest)),
            "sip" | "sips" | "im" | "pres" | "mailto" => format!("{scheme}:{}", self.mailbox(rest)),
            "urn" if rest.get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case("uuid:")) => {
                format!("{scheme}:uuid:{}", self.uuid(rest))
            }
            _ => format!("{scheme}:{}", self.opaque(rest)),
        }
    }

    /// `user@host:port;parameters`: each part has a pseudonym of its own.
    fn mailbox(&self, text: &str) -> String {
        let (main, parameters) = text.split_at(text.find([';', '?']).unwrap_or(text.len()));
        let (user, place) = main.rsplit_once('@').map_or((None, main), |(user, place)| (Some(user), place));
        let (host, port) = looks::host_and_port(place);
        let host = host.to_ascii_lowercase();
        let mut pseudonym = match user {
            Some(user) if looks::is_number(user) => format!("{}@", self.number_like(user)),
            Some(user) => format!("u{}@", self.hex(8, "user", &format!("{user}@{host}"))),
            None => String::new(),
        };
        pseudonym.push_str(&format!("d{}.invalid", self.hex(6, "domain", &host)));
        if !port.is_empty() || !parameters.is_empty() {
            pseudonym.push_str(&format!(";x={}", self.hex(4, "parameters", &format!("{port}{parameters}"))));
        }
        pseudonym
    }

    /// A telephone number for a telephone number, with `+` where it had one.
    fn number_like(&self, number: &str) -> String {
        format!("{}{}", if number.starts_with('+') { "+" } else { "" }, self.number(number))
    }

    /// Fifteen digits; the first is a 9.
    fn number(&self, number: &str) -> String {
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        let bytes = self.mac("number", &digits);
        let value = bytes.iter().take(8).fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        format!("9{:014}", value % 100_000_000_000_000)
    }

    fn uuid(&self, text: &str) -> String {
        let hex = self.hex(16, "uuid", &text.to_ascii_lowercase());
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
    }

    fn opaque(&self, text: &str) -> String {
        format!("x-{}", self.hex(8, "opaque", text))
    }

    fn hex(&self, bytes: usize, kind: &str, text: &str) -> String {
        HEXLOWER.encode(self.mac(kind, text).get(..bytes).unwrap_or_default())
    }

    fn mac(&self, kind: &str, text: &str) -> [u8; 32] {
        let mut keyed = self.keyed.clone();
        keyed.update(kind.as_bytes());
        keyed.update(b"\0");
        keyed.update(text.as_bytes());
        keyed.finalize().into_bytes().into()
    }
}
