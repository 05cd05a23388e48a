//! `on-incoming`: a quota that is full refuses, with the status that the operator chose. Everything else is the SDK's
//! usual way. Dispositions count in no quota.

use restante_policy_sdk::usual::is_composing;
use restante_policy_sdk::{Context, Counts, Incoming, IncomingAnswer, MessageKind, Rejection};

use crate::settings::{Quota, Settings};

/// Decides on one arrival.
pub fn decide(settings: &Settings, context: &Context, incoming: &Incoming) -> IncomingAnswer {
    if incoming.kind == MessageKind::Message
        && !is_composing(incoming)
        && let Some(full) = exhausted_quota(settings, incoming)
    {
        return Rejection::new(settings.quota_status, full).into();
    }
    settings.usual(context).on_incoming(context, incoming)
}

/// Whose quota leaves no room for this message, in words for its sender.
fn exhausted_quota(settings: &Settings, incoming: &Incoming) -> Option<&'static str> {
    let size_bytes = incoming.size_bytes.unwrap_or(0);
    if !has_room(&settings.recipient_quota, &incoming.recipient_counts, size_bytes) {
        Some("Recipient's message store is full")
    } else if !has_room(&settings.sender_quota, &incoming.sender_counts, size_bytes) {
        Some("Too many of your messages are waiting")
    } else {
        None
    }
}

/// Whether one more message of this size fits.
fn has_room(quota: &Quota, counts: &Counts, size_bytes: u64) -> bool {
    quota.messages.is_none_or(|most| counts.stored_messages < most)
        && quota.bytes.is_none_or(|most| counts.stored_bytes.saturating_add(size_bytes) <= most)
}

#[cfg(test)]
mod tests {
    use restante_policy_sdk::testing::{context, incoming};

    use super::*;

    fn refused_with(answer: IncomingAnswer) -> u16 {
        match answer {
            IncomingAnswer::Reject(rejection) => rejection.status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn quotas_count_messages_and_bytes_of_recipient_and_sender() {
        let quota = Quota { messages: Some(10), bytes: Some(1_000) };
        let settings = Settings { recipient_quota: quota, sender_quota: quota, ..Settings::default() };
        let counts =
            |stored_messages, stored_bytes| Counts { stored_messages, stored_bytes, last_minute: 0, last_hour: 0 };
        let cases = [
            (counts(9, 900), Some(100), true),
            (counts(10, 0), Some(1), false),
            (counts(1, 901), Some(100), false),
            (counts(1, 1_000), None, true),
            (counts(1, 1_001), None, false),
        ];
        for (full, size_bytes, fits) in cases {
            for arrival in [
                Incoming { recipient_counts: full, size_bytes, ..incoming() },
                Incoming { sender_counts: full, size_bytes, ..incoming() },
            ] {
                let answer = decide(&settings, &context(), &arrival);
                assert_eq!(matches!(answer, IncomingAnswer::Keep(_)), fits, "{full:?} {size_bytes:?}");
                if !fits {
                    assert_eq!(refused_with(answer), 403);
                }
            }
            let disposition = Incoming { kind: MessageKind::Disposition, recipient_counts: full, ..incoming() };
            assert!(matches!(decide(&settings, &context(), &disposition), IncomingAnswer::Keep(_)));
        }
        let other_status = Settings { quota_status: 413, ..settings };
        let full = Incoming { recipient_counts: counts(10, 0), ..incoming() };
        assert_eq!(refused_with(decide(&other_status, &context(), &full)), 413);
    }

    #[test]
    fn is_composing_is_dropped_whatever_the_quota() {
        let full = Quota { messages: Some(0), bytes: None };
        let settings = Settings { recipient_quota: full, ..Settings::default() };
        let composing = Incoming { content_type: "application/im-iscomposing+xml".to_owned(), ..incoming() };
        assert!(matches!(decide(&settings, &context(), &composing), IncomingAnswer::Discard(_)));
        assert_eq!(refused_with(decide(&settings, &context(), &incoming())), 403);
    }
}
