use super::*;
use crate::testing::{NOW, SECOND, contact, context, disposition, failed, message, message_of, page_and_large};
use crate::types::WaitingMessage;

const FETCH: u64 = NOW + 600 * SECOND;

fn failure(attempt: AttemptKind, origin: Origin, status: Option<u16>, message: WaitingMessage) -> Failure {
    Failure {
        attempt,
        contact: Some(1),
        status,
        origin,
        retry_after_seconds: None,
        messages: vec![FailedMessage { message, progress: Progress::Refused, status: None }],
        other_contacts: Vec::new(),
    }
}

/// A message at its n-th attempt.
fn tried(attempts: u16) -> WaitingMessage {
    WaitingMessage { attempts, ..message(1) }
}

fn action_for(context: &Context, failure: &Failure) -> FailureAction {
    let answers = decide(&Usual::of(&context.recipient), context, failure);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].message, 1);
    answers[0].action.clone()
}

fn action(failure: &Failure) -> FailureAction {
    action_for(&context(), failure)
}

fn pulls() -> Context {
    let mut context = context();
    context.recipient.delivery = Some(Delivery::Pull);
    context
}

fn after(seconds: u64) -> FailureAction {
    FailureAction::Retry(Retry { after_milliseconds: seconds * SECOND, mode: None, contact: None })
}

fn at_once(mode: Mode) -> FailureAction {
    FailureAction::Retry(Retry { after_milliseconds: 0, mode: Some(mode), contact: None })
}

#[test]
fn retries_come_further_apart_and_end_with_waiting() {
    let expected = [(1, after(30)), (2, after(120)), (3, after(600)), (4, after(3_600)), (5, FailureAction::Wait)];
    for (attempts, expected) in expected {
        for (origin, status) in
            [(Origin::Timeout, None), (Origin::Transport, None), (Origin::Core, Some(480)), (Origin::Device, Some(486))]
        {
            let failure = failure(AttemptKind::Page, origin, status, tried(attempts));
            assert_eq!(action(&failure), expected, "{attempts} {origin:?}");
        }
    }
}

#[test]
fn a_retry_after_is_respected_and_never_shortens() {
    let asked = |seconds| Failure {
        retry_after_seconds: Some(seconds),
        ..failure(AttemptKind::Session, Origin::Core, Some(503), tried(1))
    };
    assert_eq!(action(&asked(300)), after(300));
    assert_eq!(action(&asked(5)), after(30));
    assert_eq!(action(&asked(u32::MAX)), after(u64::from(u32::MAX)));
}

#[test]
fn only_the_device_refuses_a_message_for_good() {
    for status in [403, 404, 410, 600, 603, 604, 699] {
        let by = |attempt, origin| failure(attempt, origin, Some(status), tried(1));
        assert_eq!(action(&by(AttemptKind::Page, Origin::Device)), FailureAction::GiveUp(true), "{status}");
        assert_eq!(action(&by(AttemptKind::Page, Origin::Core)), after(30), "{status} by the core");
        for attempt in [AttemptKind::Session, AttemptKind::Notification, AttemptKind::Pull, AttemptKind::Relay] {
            assert!(!matches!(action(&by(attempt, Origin::Device)), FailureAction::GiveUp(_)), "{attempt:?} {status}");
        }
        let mut not_reached = by(AttemptKind::Page, Origin::Device);
        not_reached.messages[0].progress = Progress::Unsent;
        assert_eq!(action(&not_reached), after(30));
    }
    let report = WaitingMessage { attempts: 1, ..disposition(1) };
    let refused = failure(AttemptKind::Page, Origin::Device, Some(404), report);
    assert_eq!(action(&refused), FailureAction::GiveUp(false));
}

#[test]
fn a_declined_session_leaves_the_messages_alone() {
    for status in [600, 603, 607] {
        for origin in [Origin::Device, Origin::Core] {
            let declined = failure(AttemptKind::Session, origin, Some(status), tried(1));
            assert_eq!(action(&declined), FailureAction::Wait);
            assert_eq!(action_for(&pulls(), &declined), FailureAction::Notify(FETCH));
        }
    }
}

#[test]
fn a_refused_form_leads_to_the_other_one() {
    for status in [405, 415, 488, 501, 400, 500] {
        let page = failure(AttemptKind::Page, Origin::Device, Some(status), tried(1));
        assert_eq!(action(&page), at_once(Mode::Large), "{status}");
        let session = failure(AttemptKind::Session, Origin::Device, Some(status), tried(1));
        assert_eq!(action(&session), at_once(Mode::Page), "{status}");
    }
    for status in [400, 500] {
        assert_eq!(action(&failure(AttemptKind::Page, Origin::Core, Some(status), tried(1))), after(30));
    }
    let msrp = Failure {
        messages: vec![FailedMessage { message: tried(1), progress: Progress::Refused, status: Some(415) }],
        ..failure(AttemptKind::Session, Origin::Device, Some(200), tried(1))
    };
    assert_eq!(action(&msrp), at_once(Mode::Page));
}

#[test]
fn when_both_forms_are_refused_the_message_is_announced_once() {
    let both = WaitingMessage { page_refused: true, large_refused: true, ..tried(2) };
    for attempt in [AttemptKind::Page, AttemptKind::Session] {
        let refused = failure(attempt, Origin::Device, Some(488), both.clone());
        assert_eq!(action(&refused), FailureAction::Notify(FETCH));
        let told = WaitingMessage { notified_at: Some(NOW), ..both.clone() };
        assert_eq!(action(&failure(attempt, Origin::Device, Some(488), told)), FailureAction::Wait);
    }
    let large = WaitingMessage { attempts: 1, ..message_of(1, 5_000) };
    let refused = failure(AttemptKind::Session, Origin::Device, Some(488), large);
    assert_eq!(action(&refused), FailureAction::Notify(FETCH));
    let report = WaitingMessage { page_refused: true, large_refused: true, ..disposition(1) };
    assert_eq!(action(&failure(AttemptKind::Page, Origin::Device, Some(488), report)), FailureAction::Wait);
}

#[test]
fn a_client_that_refuses_every_form_is_not_asked_without_pause() {
    let third = failure(AttemptKind::Page, Origin::Device, Some(500), tried(3));
    let later =
        FailureAction::Retry(Retry { after_milliseconds: 600 * SECOND, mode: Some(Mode::Large), contact: None });
    assert_eq!(action(&third), later);
    assert_eq!(action(&failure(AttemptKind::Page, Origin::Device, Some(500), tried(5))), FailureAction::Wait);
}

#[test]
fn a_client_that_knows_no_announcement_is_sent_the_message() {
    let small = failure(AttemptKind::Notification, Origin::Device, Some(405), tried(1));
    assert_eq!(action(&small), at_once(Mode::Page));
    let large = WaitingMessage { attempts: 1, ..message_of(1, 5_000) };
    let large = failure(AttemptKind::Notification, Origin::Device, Some(415), large);
    assert_eq!(action(&large), at_once(Mode::Large));
    assert_eq!(action(&failure(AttemptKind::Notification, Origin::Timeout, None, tried(1))), after(30));
}

#[test]
fn a_fetch_that_broke_off_may_be_repeated_until_its_deadline() {
    let broken = |fetch_deadline| {
        let message = WaitingMessage { fetch_deadline, ..tried(1) };
        failure(AttemptKind::Pull, Origin::Transport, None, message)
    };
    assert_eq!(action_for(&pulls(), &broken(Some(NOW + 1))), FailureAction::Wait);
    assert_eq!(action_for(&pulls(), &broken(Some(NOW))), after(30));
    assert_eq!(action_for(&pulls(), &broken(None)), after(30));
}

#[test]
fn another_contact_is_tried_at_once_when_this_one_is_silent() {
    let mut silent = failure(AttemptKind::Page, Origin::Timeout, None, tried(1));
    let broken = Contact { last_failure: failed(Origin::Timeout, None), ..contact(2, page_and_large()) };
    silent.other_contacts = vec![broken, contact(3, Abilities::LARGE_MESSAGE_MODE), contact(4, page_and_large())];
    let expected = FailureAction::Retry(Retry { after_milliseconds: 0, mode: None, contact: Some(4) });
    assert_eq!(action(&silent), expected);
    silent.origin = Origin::Core;
    assert_eq!(action(&silent), after(30));
}

#[test]
fn a_user_who_wants_messages_held_is_left_in_peace() {
    let mut holds = context();
    holds.recipient.delivery = Some(Delivery::Hold);
    for attempt in [AttemptKind::Pull, AttemptKind::Session, AttemptKind::Page] {
        let broken = failure(attempt, Origin::Transport, None, tried(1));
        assert_eq!(action_for(&holds, &broken), FailureAction::Wait);
    }
}

#[test]
fn every_message_of_the_attempt_gets_its_own_answer() {
    let mut batch = failure(AttemptKind::Session, Origin::Transport, None, tried(1));
    batch.messages = (1..=3_u64)
        .zip([1, 2, 9])
        .map(|(id, attempts)| FailedMessage {
            message: WaitingMessage { attempts, ..message(id) },
            progress: Progress::Partial,
            status: None,
        })
        .collect();
    let actions: Vec<_> =
        decide(&Usual::of(&context().recipient), &context(), &batch).into_iter().map(|answer| answer.action).collect();
    assert_eq!(actions, [after(30), after(120), FailureAction::Wait]);
}
