//! `on-incoming`: whether a message is kept, and until when.
//!
//! 1. "Is composing" is worth nothing later: dropped.
//! 2. Dispositions are always kept and count in no quota.
//! 3. A quota that is full refuses, with the status that the operator chose.
//! 4. A message that may not wait is passed on at once, or refused.
//! 5. Everything else is kept until the sender's expiry or the operator's default, at most for the operator's maximum,
//!    and goes out as soon as the recipient can be reached. With `relay_milliseconds` set, a page-mode message for a
//!    recipient who is there is passed on first, so that the sender gets the device's own answer.

use crate::bindings::restante::policy::types::{
    Abilities, Context, Counts, Incoming, IncomingAnswer, IncomingPhase, Keep, MessageKind, Mode, Rejection, Relay,
};
use crate::settings::{Quota, Settings};

/// The usual priority.
const USUAL_PRIORITY: u8 = 100;
/// How long a message that may not wait is tried when the operator named no time.
const LAST_CHANCE_MILLISECONDS: u32 = 3_000;
/// Sent again and again while somebody types (RFC 3994).
const IS_COMPOSING: &str = "application/im-iscomposing+xml";

/// Decides on one arrival.
pub fn decide(settings: &Settings, context: &Context, incoming: &Incoming) -> IncomingAnswer {
    if is_composing(incoming) {
        return IncomingAnswer::Discard("an is-composing indication is not worth keeping".to_owned());
    }
    if incoming.kind == MessageKind::Message
        && let Some(full) = exhausted_quota(settings, incoming)
    {
        return refuse(settings.quota_status, full);
    }
    let keep = Keep { expires_at: expiry(settings, context, incoming), priority: USUAL_PRIORITY, deliver_now: true };
    let relay_possible = incoming.phase == IncomingPhase::Complete
        && incoming.mode == Mode::Page
        && incoming.contacts.iter().any(|contact| contact.abilities.contains(Abilities::PAGE_MODE));
    if keep.expires_at <= context.now {
        if !relay_possible {
            return refuse(480, "Recipient is not there and the message may not wait");
        }
        let deadline_milliseconds = settings.relay_milliseconds.unwrap_or(LAST_CHANCE_MILLISECONDS);
        return IncomingAnswer::Relay(Relay { deadline_milliseconds, otherwise: keep });
    }
    match settings.relay_milliseconds {
        Some(deadline_milliseconds) if relay_possible => {
            IncomingAnswer::Relay(Relay { deadline_milliseconds, otherwise: keep })
        }
        _ => IncomingAnswer::Keep(keep),
    }
}

fn is_composing(incoming: &Incoming) -> bool {
    let wrapped = incoming.wrapped_type.as_deref().unwrap_or_default();
    incoming.content_type.eq_ignore_ascii_case(IS_COMPOSING) || wrapped.eq_ignore_ascii_case(IS_COMPOSING)
}

/// The sender's expiry or the operator's default, neither beyond the operator's maximum.
fn expiry(settings: &Settings, context: &Context, incoming: &Incoming) -> u64 {
    let latest = context.now.saturating_add(settings.max_keep_milliseconds);
    let asked = incoming.expires_at.unwrap_or(context.now.saturating_add(settings.default_keep_milliseconds));
    asked.min(latest)
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

fn refuse(status: u16, reason: &str) -> IncomingAnswer {
    IncomingAnswer::Reject(Rejection { status, reason: reason.to_owned(), retry_after_seconds: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DAY, NOW, contact, context, incoming, page_and_large};

    fn kept_until(answer: IncomingAnswer) -> u64 {
        match answer {
            IncomingAnswer::Keep(keep) => keep.expires_at,
            other => panic!("{other:?}"),
        }
    }

    fn refused_with(answer: IncomingAnswer) -> u16 {
        match answer {
            IncomingAnswer::Reject(rejection) => rejection.status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_senders_expiry_is_kept_or_cut_and_a_missing_one_is_filled() {
        let settings = Settings::default();
        let cases = [
            (None, NOW + 7 * DAY),
            (Some(NOW + 1), NOW + 1),
            (Some(NOW + 3 * DAY), NOW + 3 * DAY),
            (Some(NOW + 300 * DAY), NOW + 30 * DAY),
        ];
        for (expires_at, expected) in cases {
            let arrival = Incoming { expires_at, ..incoming() };
            assert_eq!(kept_until(decide(&settings, &context(), &arrival)), expected, "{expires_at:?}");
        }
        let strict = Settings { max_keep_milliseconds: DAY, ..settings };
        assert_eq!(kept_until(decide(&strict, &context(), &incoming())), NOW + DAY);
    }

    #[test]
    fn a_message_that_may_not_wait_is_tried_now_or_refused() {
        let settings = Settings::default();
        let late = Incoming { expires_at: Some(NOW), ..incoming() };
        assert_eq!(refused_with(decide(&settings, &context(), &late)), 480);
        let there = Incoming { contacts: vec![contact(1, page_and_large())], ..late };
        match decide(&settings, &context(), &there) {
            IncomingAnswer::Relay(relay) => assert_eq!(relay.deadline_milliseconds, 3_000),
            other => panic!("{other:?}"),
        }
        let large = Incoming { mode: Mode::Large, ..there };
        assert_eq!(refused_with(decide(&settings, &context(), &large)), 480);
    }

    #[test]
    fn relay_is_for_page_mode_and_a_recipient_who_is_there() {
        let settings = Settings { relay_milliseconds: Some(2_500), ..Settings::default() };
        let there = || Incoming { contacts: vec![contact(1, page_and_large())], ..incoming() };
        assert!(matches!(decide(&settings, &context(), &there()), IncomingAnswer::Relay(relay)
            if relay.deadline_milliseconds == 2_500 && relay.otherwise.expires_at == NOW + 7 * DAY));
        for kept in [incoming(), Incoming { mode: Mode::Large, ..there() }] {
            assert!(matches!(decide(&settings, &context(), &kept), IncomingAnswer::Keep(_)));
        }
        assert!(matches!(decide(&Settings::default(), &context(), &there()), IncomingAnswer::Keep(_)));
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
    fn is_composing_is_dropped_bare_and_wrapped() {
        let bare = Incoming { content_type: "Application/IM-isComposing+xml".to_owned(), ..incoming() };
        let wrapped = Incoming { wrapped_type: Some(IS_COMPOSING.to_owned()), ..incoming() };
        for arrival in [bare, wrapped] {
            assert!(matches!(decide(&Settings::default(), &context(), &arrival), IncomingAnswer::Discard(_)));
        }
    }
}
