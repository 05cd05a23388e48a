//! `on-pull`: a client that asks gets what it asked for and can take, in one session, in order.
//!
//! What it cannot take (too large, a type it does not list) stays. What a device refused in a session before goes last,
//! so that a second refusal holds nothing up. Whoever did not prove who it is gets nothing.

use crate::types::{Mode, Pull, PullAnswer, PullDelivery, Rejection, Selection, Verification, WaitingMessage};

/// What every message in a session is wrapped in.
const CPIM: &str = "message/cpim";

/// Chooses the messages.
pub(super) fn decide(pull: &Pull) -> PullAnswer {
    if pull.verification == Verification::None {
        return PullAnswer::Refuse(Rejection {
            status: 403,
            reason: "Identity is not established".to_owned(),
            retry_after_seconds: None,
        });
    }
    let chosen = |message: &&WaitingMessage| is_selected(&pull.selection, message) && can_take(pull, message);
    let (refused_before, fresh): (Vec<_>, Vec<_>) =
        pull.messages.iter().filter(chosen).partition(|message| message.large_refused);
    PullAnswer::Send(PullDelivery {
        messages: fresh.iter().chain(&refused_before).map(|message| message.id).collect(),
        mode: Mode::Large,
        keep_copy: false,
    })
}

fn is_selected(selection: &Selection, message: &WaitingMessage) -> bool {
    match selection {
        Selection::All => true,
        Selection::Listed(ids) => ids.contains(&message.id),
    }
}

fn can_take(pull: &Pull, message: &WaitingMessage) -> bool {
    let small_enough = pull.max_size_bytes.is_none_or(|most| message.size_bytes <= most);
    // What is CPIM already has a type inside that is not shown here.
    let is_cpim = message.content_type.eq_ignore_ascii_case(CPIM);
    // Many clients name in the one list what they take in the other way, too; so the host looks into both.
    let content_fits = is_cpim
        || accepts(&pull.accept_wrapped_types, &message.content_type)
        || names(&pull.accept_types, &message.content_type);
    small_enough && accepts(&pull.accept_types, CPIM) && content_fits
}

/// Whether a list of media ranges (RFC 4975 §8.6) covers a type. No list: everything.
fn accepts(ranges: &[String], media_type: &str) -> bool {
    ranges.is_empty() || names(ranges, media_type)
}

/// Whether one of these media ranges, parameters apart, covers a type.
fn names(ranges: &[String], media_type: &str) -> bool {
    let covers = |range: &String| {
        let range = range.split(';').next().unwrap_or_default().trim();
        range == "*"
            || range == "*/*"
            || range.eq_ignore_ascii_case(media_type)
            || match (range.strip_suffix("/*"), media_type.split_once('/')) {
                (Some(family), Some((media_family, _))) => family.eq_ignore_ascii_case(media_family),
                _ => false,
            }
    };
    ranges.iter().any(covers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{message, message_of};
    use crate::types::MediaDirection;

    fn pull(messages: Vec<WaitingMessage>) -> Pull {
        Pull {
            contact: None,
            verification: Verification::TrustedPeer,
            selection: Selection::All,
            accept_types: Vec::new(),
            accept_wrapped_types: Vec::new(),
            max_size_bytes: None,
            direction: MediaDirection::ReceiveOnly,
            messages,
            not_shown: 0,
        }
    }

    fn sent(answer: PullAnswer) -> Vec<u64> {
        match answer {
            PullAnswer::Send(delivery) => {
                assert_eq!((delivery.mode, delivery.keep_copy), (Mode::Large, false));
                delivery.messages
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_or_those_that_were_listed_in_order_of_delivery() {
        let three = || pull(vec![message(4), message(7), message(2)]);
        assert_eq!(sent(decide(&three())), [4, 7, 2]);
        assert_eq!(sent(decide(&Pull { selection: Selection::Listed(vec![2, 4, 99]), ..three() })), [4, 2]);
        assert_eq!(sent(decide(&Pull { selection: Selection::Listed(vec![99]), ..three() })), Vec::<u64>::new());
    }

    #[test]
    fn what_the_client_cannot_take_stays() {
        let of_type = |id, content_type: &str| WaitingMessage { content_type: content_type.to_owned(), ..message(id) };
        let messages =
            vec![of_type(1, "text/plain"), of_type(2, "image/png"), of_type(3, "message/cpim"), message_of(4, 5_000)];
        type Case = (&'static [&'static str], &'static [&'static str], Option<u64>, &'static [u64]);
        let cases: [Case; 9] = [
            (&[], &[], None, &[1, 2, 3, 4]),
            (&["*"], &["*"], Some(4_999), &[1, 2, 3]),
            (&["message/cpim"], &["TEXT/*"], None, &[1, 3, 4]),
            (&["message/CPIM"], &["image/png"], None, &[2, 3]),
            (&["message/cpim", "text/plain"], &[], None, &[1, 2, 3, 4]),
            (&["text/plain"], &["text/plain"], None, &[]),
            // As the host takes them: of either list, and without parameters.
            (&["message/cpim", "text/plain"], &["message/imdn+xml"], None, &[1, 3, 4]),
            (&["message/cpim"], &["text/plain;charset=utf-8"], None, &[1, 3, 4]),
            (&[], &["image/png"], None, &[2, 3]),
        ];
        for (types, wrapped, max_size_bytes, expected) in cases {
            let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
            let asked = Pull {
                accept_types: owned(types),
                accept_wrapped_types: owned(wrapped),
                max_size_bytes,
                ..pull(messages.clone())
            };
            assert_eq!(sent(decide(&asked)), expected, "{types:?} {wrapped:?}");
        }
    }

    #[test]
    fn what_was_refused_in_a_session_goes_last() {
        let refused = WaitingMessage { large_refused: true, ..message(1) };
        assert_eq!(sent(decide(&pull(vec![refused, message(2), message(3)]))), [2, 3, 1]);
    }

    #[test]
    fn an_unknown_client_gets_nothing() {
        let stranger = Pull { verification: Verification::None, ..pull(vec![message(1)]) };
        assert!(matches!(decide(&stranger), PullAnswer::Refuse(rejection) if rejection.status == 403));
    }
}
