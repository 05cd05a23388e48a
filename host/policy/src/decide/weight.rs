//! What a question takes in memory while it waits, about: its records and the texts that peers and users chose.

use restante_deferral::decision::{ContactView, Context, Question, WaitingMessage};

/// In bytes. Allocators' own needs are left out.
pub(super) fn bytes(question: &Question) -> usize {
    let about = match question {
        Question::Incoming(context, incoming) => {
            let texts = [&incoming.sender.address, &incoming.content_type].map(String::len).iter().sum::<usize>();
            let wrapped = incoming.wrapped_type.as_ref().map_or(0, String::len);
            of(context) + size_of_val(incoming.as_ref()) + texts + wrapped + all(&incoming.contacts, contact)
        }
        Question::Available(context, availability) => {
            of(context) + all(&availability.contacts, contact) + all(&availability.messages, message)
        }
        Question::Pull(context, pull) => {
            let types = pull.accept_types.iter().chain(&pull.accept_wrapped_types);
            let types: usize = types.map(|it| size_of::<String>() + it.len()).sum();
            let contact = pull.contact.as_ref().map_or(0, contact);
            of(context) + size_of_val(pull.as_ref()) + types + contact + all(&pull.messages, message)
        }
        Question::Failure(context, failure) => {
            let messages: usize = failure.messages.iter().map(|it| message(&it.message)).sum();
            of(context) + messages + all(&failure.other_contacts, contact)
        }
        Question::Expiry(context, messages) => {
            of(context) + messages.iter().map(|it| message(&it.message)).sum::<usize>()
        }
    };
    about + size_of::<Question>()
}

fn of(context: &Context) -> usize {
    let recipient = &context.recipient;
    let aliases: usize = recipient.aliases.iter().map(|alias| size_of::<String>() + alias.len()).sum();
    let fields: usize = context.fields.iter().map(|it| size_of_val(it) + it.name.len() + it.value.len()).sum();
    recipient.address.0.len() + aliases + recipient.subscriber_class.as_ref().map_or(0, String::len) + fields
}

fn contact(contact: &ContactView) -> usize {
    let tags: usize = contact.tags.iter().map(|tag| size_of::<String>() + tag.len()).sum();
    size_of_val(contact) + contact.instance.as_ref().map_or(0, String::len) + tags
}

fn message(message: &WaitingMessage) -> usize {
    let devices: usize = message.devices.iter().map(|it| size_of_val(it) + it.device.len()).sum();
    size_of_val(message) + message.sender.len() + message.content_type.len() + devices
}

fn all<T>(items: &[T], one: impl Fn(&T) -> usize) -> usize {
    items.iter().map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hook;
    use crate::record::typical_question_about;

    #[test]
    fn a_question_weighs_what_its_parts_do() {
        for hook in Hook::ALL {
            let of = |messages| bytes(&typical_question_about(hook, messages).expect("a question"));
            let (one, two, fifty) = (of(1), of(2), of(50));
            if hook == Hook::Incoming {
                assert!((200..4_000).contains(&one), "{}: {one}", hook.name());
                continue;
            }
            assert!((100..4_000).contains(&(two - one)), "{}: {one} {two}", hook.name());
            assert!((10_000..100_000).contains(&fifty), "{}: {fifty}", hook.name());
        }
    }

    #[test]
    fn long_texts_count() {
        let mut question = typical_question_about(Hook::Available, 3).expect("a question");
        let before = bytes(&question);
        if let Question::Available(_, availability) = &mut question {
            availability.messages[1].sender = "x".repeat(30_000);
        }
        assert!(bytes(&question) > before + 29_000);
    }
}
