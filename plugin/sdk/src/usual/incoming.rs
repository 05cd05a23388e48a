//! `on-incoming`: whether a message is kept, and until when.
//!
//! 1. "Is composing" is worth nothing later: dropped.
//! 2. A message that may not wait is passed on at once, or refused.
//! 3. Everything else is kept until the sender's expiry or the usual time, and goes out as soon as the recipient can be
//!    reached. With `relay_milliseconds` set, a page-mode message for a recipient who is there is passed on first, so that
//!    the sender gets the device's own answer. The same goes for the INVITE of a large message with
//!    `relay_invite_milliseconds`: a device that takes it gets it from the sender itself. What is for each device is kept:
//!    what is passed on is had by whichever takes it first, and by no other.

use super::Usual;
use crate::types::{Context, Incoming, IncomingAnswer, IncomingPhase, Keep, Mode, Rejection, Relay};

/// How long a message that may not wait is tried when nobody named a time.
const LAST_CHANCE_MILLISECONDS: u32 = 3_000;
/// Sent again and again while somebody types (RFC 3994).
const IS_COMPOSING: &str = "application/im-iscomposing+xml";

/// Decides on one arrival.
pub(super) fn decide(usual: &Usual<'_>, context: &Context, incoming: &Incoming) -> IncomingAnswer {
    if is_composing(incoming) {
        return IncomingAnswer::Discard("an is-composing indication is not worth keeping".to_owned());
    }
    let keep = Keep::until(usual.expiry(context, incoming));
    if let (IncomingPhase::Invitation, Some(deadline_milliseconds)) = (incoming.phase, usual.relay_invite_milliseconds)
        && !usual.to_each_device
        && incoming.contacts.iter().any(|contact| contact.takes(Mode::Large))
    {
        return IncomingAnswer::Relay(Relay { deadline_milliseconds, contacts: Vec::new(), otherwise: keep });
    }
    let relay_possible = incoming.phase == IncomingPhase::Complete
        && incoming.mode == Mode::Page
        && incoming.contacts.iter().any(|contact| contact.takes(Mode::Page));
    if keep.expires_at <= context.now {
        if !relay_possible {
            return Rejection::new(480, "Recipient is not there and the message may not wait").into();
        }
        let deadline_milliseconds = usual.relay_milliseconds.unwrap_or(LAST_CHANCE_MILLISECONDS);
        return IncomingAnswer::Relay(Relay { deadline_milliseconds, contacts: Vec::new(), otherwise: keep });
    }
    match usual.relay_milliseconds {
        Some(deadline_milliseconds) if relay_possible && !usual.to_each_device => {
            IncomingAnswer::Relay(Relay { deadline_milliseconds, contacts: Vec::new(), otherwise: keep })
        }
        _ => keep.into(),
    }
}

/// Whether this says that somebody types.
#[must_use]
pub fn is_composing(incoming: &Incoming) -> bool {
    let wrapped = incoming.wrapped_type.as_deref().unwrap_or_default();
    incoming.content_type.eq_ignore_ascii_case(IS_COMPOSING) || wrapped.eq_ignore_ascii_case(IS_COMPOSING)
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
        let usual = Usual::default();
        let cases = [
            (None, NOW + 7 * DAY),
            (Some(NOW + 1), NOW + 1),
            (Some(NOW + 3 * DAY), NOW + 3 * DAY),
            (Some(NOW + 300 * DAY), NOW + 30 * DAY),
        ];
        for (expires_at, expected) in cases {
            let arrival = Incoming { expires_at, ..incoming() };
            assert_eq!(kept_until(decide(&usual, &context(), &arrival)), expected, "{expires_at:?}");
        }
        let strict = Usual { max_keep_milliseconds: DAY, ..usual };
        assert_eq!(kept_until(decide(&strict, &context(), &incoming())), NOW + DAY);
    }

    #[test]
    fn a_message_that_may_not_wait_is_tried_now_or_refused() {
        let usual = Usual::default();
        let late = Incoming { expires_at: Some(NOW), ..incoming() };
        assert_eq!(refused_with(decide(&usual, &context(), &late)), 480);
        let there = Incoming { contacts: vec![contact(1, page_and_large())], ..late };
        match decide(&usual, &context(), &there) {
            IncomingAnswer::Relay(relay) => assert_eq!(relay.deadline_milliseconds, 3_000),
            other => panic!("{other:?}"),
        }
        let large = Incoming { mode: Mode::Large, ..there };
        assert_eq!(refused_with(decide(&usual, &context(), &large)), 480);
    }

    #[test]
    fn relay_is_for_page_mode_and_a_recipient_who_is_there() {
        let usual = Usual { relay_milliseconds: Some(2_500), ..Usual::default() };
        let there = || Incoming { contacts: vec![contact(1, page_and_large())], ..incoming() };
        assert!(matches!(decide(&usual, &context(), &there()), IncomingAnswer::Relay(relay)
            if relay.deadline_milliseconds == 2_500 && relay.otherwise.expires_at == NOW + 7 * DAY));
        for kept in [incoming(), Incoming { mode: Mode::Large, ..there() }] {
            assert!(matches!(decide(&usual, &context(), &kept), IncomingAnswer::Keep(_)));
        }
        assert!(matches!(decide(&Usual::default(), &context(), &there()), IncomingAnswer::Keep(_)));
    }

    #[test]
    fn what_is_for_each_device_is_kept_unless_it_may_not_wait() {
        let usual = Usual {
            relay_milliseconds: Some(2_500),
            relay_invite_milliseconds: Some(10_000),
            to_each_device: true,
            ..Usual::default()
        };
        let there = || Incoming { contacts: vec![contact(1, page_and_large())], ..incoming() };
        let invite = Incoming { phase: IncomingPhase::Invitation, mode: Mode::Large, ..there() };
        for kept in [there(), invite] {
            assert!(matches!(decide(&usual, &context(), &kept), IncomingAnswer::Keep(_)));
        }
        let late = Incoming { expires_at: Some(NOW), ..there() };
        assert!(matches!(decide(&usual, &context(), &late), IncomingAnswer::Relay(_)));
    }

    #[test]
    fn an_invite_is_passed_on_to_a_recipient_who_is_there_and_takes_it() {
        let usual = Usual { relay_invite_milliseconds: Some(10_000), ..Usual::default() };
        let invite = || Incoming { phase: IncomingPhase::Invitation, mode: Mode::Large, ..incoming() };
        let there = || Incoming { contacts: vec![contact(1, page_and_large())], ..invite() };
        assert!(matches!(decide(&usual, &context(), &there()), IncomingAnswer::Relay(relay)
            if relay.deadline_milliseconds == 10_000 && relay.otherwise.expires_at == NOW + 7 * DAY));
        let complete = Incoming { phase: IncomingPhase::Complete, ..there() };
        for kept in [invite(), complete] {
            assert!(matches!(decide(&usual, &context(), &kept), IncomingAnswer::Keep(_)));
        }
        assert!(matches!(decide(&Usual::default(), &context(), &there()), IncomingAnswer::Keep(_)));
    }

    #[test]
    fn is_composing_is_dropped_bare_and_wrapped() {
        let bare = Incoming { content_type: "Application/IM-isComposing+xml".to_owned(), ..incoming() };
        let wrapped = Incoming { wrapped_type: Some(IS_COMPOSING.to_owned()), ..incoming() };
        for arrival in [bare, wrapped] {
            assert!(matches!(decide(&Usual::default(), &context(), &arrival), IncomingAnswer::Discard(_)));
        }
    }
}
