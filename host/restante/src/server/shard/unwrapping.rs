//! Devices that take no CPIM: a MESSAGE that one refuses with 415 goes again at once with what is inside, when that is of a
//! type that it takes (RFC 3261 §21.4.13). Simple SIP clients take `text/plain` alone.
//!
//! ```text
//! MESSAGE message/cpim ──▶            415, Accept: text/plain ◀──
//! MESSAGE text/plain   ──▶            200 ◀──                         one attempt
//! ```
//!
//! Such a device can tell nobody that the message was displayed. Nothing is said in its place: a disposition is the
//! recipient's own (RFC 5438 §7).

use bytes::Bytes;
use restante_cpim::cpim::{CONTENT_TYPE as CPIM, CpimMessage};
use restante_cpim::media_type::essence;
use restante_deferral::model::{Body, Envelope, RecipientKey, StoredMessage};
use restante_deferral::participating_function::AttemptId;
use restante_sip::message::{Name, SipMessage};
use restante_sip::transaction::ClientTransactionId;

use super::delivery::{Form, of_one_message};
use super::recipients::Carrier;
use super::route::Route;
use super::{Now, Shard};
use crate::server::content_encoding;

/// What a device takes that does not say.
const USUAL: &str = "text/plain";

/// A MESSAGE in flight whose content could go without its CPIM.
#[derive(Debug)]
pub(super) struct Wrapped {
    pub(super) key: RecipientKey,
    pub(super) attempt: AttemptId,
    pub(super) route: Route,
    pub(super) message: StoredMessage,
    pub(super) repetition: u16,
}

/// The content of a CPIM message, as the body of a MESSAGE.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) content_type: String,
    pub(super) bytes: Bytes,
}

impl Shard {
    /// Remembers what may have to go again.
    pub(super) fn note_wrapped(&mut self, client: ClientTransactionId, wrapped: Wrapped) {
        if essence(&wrapped.message.message.envelope.content_type) == CPIM {
            self.wrapped.insert(client, wrapped);
        }
    }

    /// The final answer to a MESSAGE: whether its message went again, without CPIM, in the same attempt.
    pub(super) fn goes_unwrapped(&mut self, now: Now, client: ClientTransactionId, answer: &SipMessage) -> bool {
        let Some(wrapped) = self.wrapped.remove(&client).filter(|_| answer.status() == Some(415)) else { return false };
        let Wrapped { key, attempt, route, message, repetition } = wrapped;
        let Some(content) = content_of(&message).filter(|content| takes(answer, &content.content_type)) else {
            return false;
        };
        let Ok(client) = self.send_page(now, &route, &message, repetition, Form::Content(&content)) else {
            return false;
        };
        self.purposes.insert(client, of_one_message(&key, attempt, &route, message.id));
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.attempts.insert(attempt, Carrier::Transaction(client));
        }
        true
    }
}

/// What is inside, if it can stand alone: nothing that the CPIM demands, and no encoding of its own that a MESSAGE could not
/// name.
fn content_of(message: &StoredMessage) -> Option<Content> {
    let stored = &message.message;
    let Body::Inline(body) = &stored.body else { return None };
    let envelope: &Envelope = &stored.envelope;
    let cpim = CpimMessage::parse(content_encoding::decoded(body, content_encoding::of(envelope))?).ok()?;
    let is_plain = |name: &str, usual: &[&str]| {
        cpim.content_header(name).is_none_or(|value| usual.iter().any(|it| it.eq_ignore_ascii_case(value.trim())))
    };
    let stands_alone = cpim.header("Require").is_none()
        && is_plain("Content-Transfer-Encoding", &["7bit", "8bit", "binary"])
        && is_plain("Content-Encoding", &["identity"]);
    stands_alone.then(|| Content { content_type: cpim.content_type().to_owned(), bytes: cpim.content() })
}

/// Whether who sent an answer takes a type.
fn takes(answer: &SipMessage, content_type: &str) -> bool {
    let wanted = essence(content_type);
    let main = wanted.split('/').next().unwrap_or("");
    let mut accepted = answer.list(Name::Accept).map(essence).peekable();
    if accepted.peek().is_none() {
        return wanted == USUAL;
    }
    accepted.any(|it| it == wanted || it == "*/*" || it.strip_suffix("/*") == Some(main))
}
