//! Whether a server could do what a policy says, as far as a question tells.

use restante_deferral::decision::validate::{self, Impossible, Offered, Situation};
use restante_deferral::decision::{Answer, ContactView, HostAbilities, PullAnswer, Question, WaitingMessage};
use restante_deferral::model::{CanonicalAddress, ContactId, MessageId, Mode};

/// Checks an answer against its question.
///
/// # Errors
/// Why a server would fall back instead. An answer that is none of the asked hook is never carried out.
pub fn feasible(question: &Question, answer: &Answer, host: &HostAbilities) -> Result<(), Impossible> {
    let targets = host.hand_over_targets.as_slice();
    match (question, answer) {
        (Question::Incoming(context, incoming), Answer::Incoming(answer)) => {
            let stores = incoming.expires_at.is_none_or(|expires_at| expires_at > context.now);
            validate::incoming(answer, context.now, stores, targets)
        }
        (Question::Available(context, availability), Answer::Available(plan)) => {
            let contacts: Vec<ContactId> = availability.contacts.iter().map(|contact| contact.id).collect();
            let messages: Vec<Offered> =
                availability.messages.iter().map(|message| offered(message, &availability.contacts)).collect();
            let (messages, contacts) = (messages.as_slice(), contacts.as_slice());
            validate::plan(plan, Situation { now: context.now, messages, contacts, hand_over_targets: targets })
        }
        (Question::Pull(_, pull), Answer::Pull(PullAnswer::Send(delivery))) => {
            let ids: Vec<MessageId> = pull.messages.iter().map(|message| message.id).collect();
            let takes_page = pull.contact.as_ref().is_some_and(|contact| contact.abilities.page_mode);
            let fits = |id| {
                let message = pull.messages.iter().find(|message| message.id == id);
                delivery.mode == Mode::Large || takes_page && message.is_some_and(|it| it.page_bytes.is_some())
            };
            validate::pull(delivery, &ids, fits)
        }
        (Question::Pull(..), Answer::Pull(PullAnswer::Refuse(rejection))) => validate::rejection(rejection),
        (Question::Failure(context, failure), Answer::Failure(answers)) => {
            let ids: Vec<MessageId> = failure.messages.iter().map(|failed| failed.message.id).collect();
            validate::failure(answers, &ids, context.now, targets)
        }
        (Question::Expiry(context, messages), Answer::Expiry(answers)) => {
            let expired: Vec<_> = messages.iter().map(|expiring| (expiring.message.id, expiring.source)).collect();
            validate::expiry(answers, &expired, context.now, targets)
        }
        _ => Err(Impossible::UnknownMessage),
    }
}

/// A message that was shown, with the contacts that take it.
fn offered(message: &WaitingMessage, contacts: &[ContactView]) -> Offered {
    let that = |takes: &dyn Fn(&ContactView) -> bool| {
        contacts.iter().filter(|contact| takes(contact)).map(|contact| contact.id).collect::<Vec<_>>()
    };
    Offered {
        id: message.id,
        kind: message.kind,
        sender: CanonicalAddress(message.sender.as_str().into()),
        page_refused: message.page_refused,
        large_refused: message.large_refused,
        waits: false,
        page_contacts: that(&|contact| message.page_bytes.is_some() && contact.abilities.page_mode),
        large_contacts: that(&|contact| contact.abilities.large_message_mode),
    }
}
