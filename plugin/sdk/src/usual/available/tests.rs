use super::*;
use crate::testing::{
    DAY, NOW, SECOND, contact, context, disposition, failed, message, message_from, message_of, page_and_large,
};
use crate::types::{Abilities, Contact, DeliveryStep, HoldStep, NotifyStep, Origin, Step, Target, Trigger};

const FETCH: u64 = NOW + 600 * SECOND;

fn available(messages: Vec<WaitingMessage>) -> Availability {
    Availability {
        trigger: Trigger::Registered,
        contacts: vec![contact(1, page_and_large())],
        messages,
        not_shown: 0,
        can_notify: true,
    }
}

fn wants(delivery: Delivery) -> Context {
    let mut context = context();
    context.recipient.delivery = Some(delivery);
    context
}

fn decide_as(context: &Context, availability: &Availability) -> Plan {
    decide(&Usual::of(&context.recipient), context, availability)
}

fn steps(context: &Context, availability: &Availability) -> Vec<Step> {
    decide_as(context, availability).steps
}

fn page(messages: &[u64]) -> Step {
    Step::Page(DeliveryStep { messages: messages.to_vec(), target: Target::Any })
}

fn session(messages: &[u64]) -> Step {
    Step::Session(DeliveryStep { messages: messages.to_vec(), target: Target::Any })
}

fn notify(messages: &[u64], afterwards: AfterDeadline) -> Step {
    Step::Notify(NotifyStep { messages: messages.to_vec(), fetch_deadline: FETCH, afterwards })
}

fn hold(messages: &[u64], until: Option<u64>) -> Step {
    Step::Hold(HoldStep { messages: messages.to_vec(), until })
}

fn many(count: u64) -> Vec<WaitingMessage> {
    (1..=count).map(message).collect()
}

#[test]
fn up_to_few_go_as_messages_in_push_and_in_pull() {
    for delivery in [Delivery::Push, Delivery::Pull] {
        assert_eq!(steps(&wants(delivery), &available(many(1))), [page(&[1])]);
        assert_eq!(steps(&wants(delivery), &available(many(3))), [page(&[1, 2, 3])]);
    }
}

#[test]
fn more_or_a_large_one_go_by_session_in_push() {
    assert_eq!(steps(&context(), &available(many(4))), [session(&[1, 2, 3, 4])]);
    let with_large = vec![message(1), message_of(2, 20_000_000)];
    assert_eq!(steps(&context(), &available(with_large)), [session(&[1, 2])]);
    let more_to_come = Availability { not_shown: 1, ..available(many(3)) };
    assert_eq!(steps(&context(), &more_to_come), [session(&[1, 2, 3])]);
    let too_long = WaitingMessage { page_bytes: Some(1_301), ..message(1) };
    assert_eq!(steps(&context(), &available(vec![too_long])), [session(&[1])]);
}

#[test]
fn more_or_a_large_one_are_announced_in_pull() {
    let plan = decide_as(&wants(Delivery::Pull), &available(many(4)));
    assert_eq!(plan.steps, [notify(&[1, 2, 3, 4], AfterDeadline::Push)]);
    let with_large = vec![message(1), message_of(2, 20_000_000)];
    assert_eq!(steps(&wants(Delivery::Pull), &available(with_large)), [notify(&[1, 2], AfterDeadline::Push)]);
}

#[test]
fn a_recipient_who_cannot_be_told_is_sent_what_it_would_fetch() {
    let deaf = Availability { can_notify: false, ..available(many(4)) };
    assert_eq!(steps(&wants(Delivery::Pull), &deaf), [session(&[1, 2, 3, 4])]);
}

#[test]
fn what_is_announced_waits_for_its_deadline_and_is_pushed_after_it() {
    let announced = |id, deadline| WaitingMessage {
        notified_at: Some(NOW - SECOND),
        fetch_deadline: Some(deadline),
        ..message(id)
    };
    let waiting = Availability {
        trigger: Trigger::MessageArrived,
        ..available(vec![announced(1, NOW + 5), announced(2, NOW + 5), message(3), message(4)])
    };
    let plan = decide_as(&wants(Delivery::Pull), &waiting);
    assert_eq!(plan.steps, [hold(&[1, 2], Some(NOW + 5)), notify(&[3, 4], AfterDeadline::Push)]);
    assert_eq!(plan.ask_again_at, Some(NOW + 5));
    let due = available((1..=4).map(|id| announced(id, NOW)).collect());
    assert_eq!(steps(&wants(Delivery::Pull), &due), [session(&[1, 2, 3, 4])]);
    let few_due = available((1..=2).map(|id| announced(id, NOW)).collect());
    assert_eq!(steps(&wants(Delivery::Pull), &few_due), [page(&[1, 2])]);
}

#[test]
fn a_client_that_registers_is_told_again_with_the_same_deadline() {
    let announced =
        |id, deadline| WaitingMessage { notified_at: Some(NOW), fetch_deadline: Some(deadline), ..message(id) };
    let known = || vec![announced(1, NOW + 5_000), announced(2, NOW + 5_000), announced(3, NOW + 999), message(4)];
    let again = NotifyStep { messages: vec![1, 2], fetch_deadline: NOW + 5_000, afterwards: AfterDeadline::Push };
    let expected = [Step::Notify(again), hold(&[3], Some(NOW + 999)), notify(&[4], AfterDeadline::Push)];
    assert_eq!(steps(&wants(Delivery::Pull), &available(known())), expected);
    let refreshed = Availability { trigger: Trigger::Refreshed, ..available(known()) };
    assert_eq!(steps(&wants(Delivery::Pull), &refreshed)[0], hold(&[1, 2], Some(NOW + 5_000)));
}

#[test]
fn a_registration_is_a_new_beginning() {
    let waiting = WaitingMessage {
        not_before: Some(NOW + 10),
        last_failure: failed(Origin::Timeout, None),
        attempts: 3,
        ..message(1)
    };
    let refused = WaitingMessage { last_failure: failed(Origin::Device, Some(500)), ..waiting.clone() };
    for first in [waiting, refused] {
        for (trigger, goes) in [
            (Trigger::Registered, true),
            (Trigger::Operator, true),
            (Trigger::Refreshed, false),
            (Trigger::Timer, false),
        ] {
            let asked = Availability { trigger, ..available(vec![first.clone()]) };
            let expected = if goes { page(&[1]) } else { hold(&[1], Some(NOW + 10)) };
            assert_eq!(steps(&context(), &asked), [expected], "{trigger:?}");
        }
    }
}

#[test]
fn sessions_are_grouped_by_original_sender_in_the_order_of_the_oldest() {
    let mixed = available(vec![
        message_from(1, "sip:a@x"),
        message_from(2, "sip:b@x"),
        message_from(3, "sip:a@x"),
        message_from(4, "sip:c@x"),
        message_from(5, "sip:b@x"),
    ]);
    assert_eq!(steps(&context(), &mixed), [session(&[1, 3]), session(&[2, 5]), session(&[4])]);
}

#[test]
fn a_contact_with_the_deferred_tag_gets_all_in_one_session() {
    let senders =
        vec![message_from(1, "sip:a@x"), message_from(2, "sip:b@x"), message_from(3, ""), message_of(4, 9_999)];
    let deferred = |id| contact(id, page_and_large() | Abilities::CPM_DEFERRED);
    let one = Availability { contacts: vec![deferred(7)], ..available(senders.clone()) };
    let expected = Step::Session(DeliveryStep { messages: vec![1, 2, 3, 4], target: Target::Contact(7) });
    assert_eq!(steps(&context(), &one), [expected]);
    let second_best =
        Availability { contacts: vec![contact(1, page_and_large()), deferred(7)], ..available(senders.clone()) };
    assert_eq!(steps(&context(), &second_best).len(), 4);
    let broken = Contact { last_failure: failed(Origin::Timeout, None), ..contact(1, page_and_large()) };
    let first_failed = Availability { contacts: vec![broken, deferred(7)], ..available(senders) };
    assert_eq!(steps(&context(), &first_failed).len(), 1);
}

#[test]
fn senders_who_hide_are_not_taken_for_one_another() {
    let hidden = available((1..=4).map(|id| message_from(id, "")).collect());
    assert_eq!(steps(&context(), &hidden), [session(&[1]), session(&[2]), session(&[3]), session(&[4])]);
}

#[test]
fn dispositions_are_not_counted_and_never_share_a_session_with_messages() {
    let few = available(vec![message(1), disposition(2), message(3), disposition(4), message(5)]);
    for delivery in [Delivery::Push, Delivery::Pull] {
        assert_eq!(steps(&wants(delivery), &few), [page(&[1, 2, 3, 4, 5])]);
    }
    let long = |id| WaitingMessage { page_bytes: None, ..disposition(id) };
    let more = available(vec![message(1), long(2), message(3), disposition(4), message(5), message(6), long(7)]);
    assert_eq!(steps(&context(), &more), [session(&[1, 3, 5, 6]), session(&[2, 7]), page(&[4])]);
    let pulled = steps(&wants(Delivery::Pull), &more);
    assert_eq!(pulled, [notify(&[1, 3, 5, 6], AfterDeadline::Push), session(&[2, 7]), page(&[4])]);
}

#[test]
fn what_was_refused_in_one_mode_goes_in_the_other_and_then_is_announced_once() {
    let page_refused = |id| WaitingMessage { page_refused: true, ..message(id) };
    let large_refused = |id| WaitingMessage { large_refused: true, ..message(id) };
    let both = |id| WaitingMessage { page_refused: true, large_refused: true, ..message(id) };
    assert_eq!(steps(&context(), &available(vec![page_refused(1), message(2)])), [session(&[1]), page(&[2])]);
    let many_with_refusal = available(vec![message(1), large_refused(2), message(3), message(4)]);
    assert_eq!(steps(&context(), &many_with_refusal), [session(&[1, 3, 4]), page(&[2])]);
    assert_eq!(
        steps(&context(), &available(vec![both(1), message(2)])),
        [notify(&[1], AfterDeadline::Ask), page(&[2])]
    );
    let told = WaitingMessage { notified_at: Some(NOW), fetch_deadline: Some(FETCH), ..both(1) };
    assert_eq!(steps(&context(), &available(vec![told.clone()])), [hold(&[1], Some(FETCH))]);
    let told_long_ago = WaitingMessage { fetch_deadline: Some(NOW), ..told };
    assert_eq!(steps(&context(), &available(vec![told_long_ago])), [hold(&[1], None)]);
    let deaf = Availability { can_notify: false, ..available(vec![both(1)]) };
    assert_eq!(steps(&context(), &deaf), [hold(&[1], None)]);
}

#[test]
fn contacts_get_what_they_can_take() {
    let only = |abilities| Availability { contacts: vec![contact(1, abilities)], ..available(many(4)) };
    assert_eq!(steps(&context(), &only(Abilities::PAGE_MODE)), [page(&[1, 2, 3, 4])]);
    let few = Availability { contacts: vec![contact(1, Abilities::LARGE_MESSAGE_MODE)], ..available(many(2)) };
    assert_eq!(steps(&context(), &few), [session(&[1, 2])]);
    assert_eq!(steps(&context(), &only(Abilities::empty())), [notify(&[1, 2, 3, 4], AfterDeadline::Ask)]);
}

#[test]
fn who_waits_for_the_recipient_holds_those_behind() {
    let waiting = WaitingMessage {
        not_before: Some(NOW + 10),
        last_failure: failed(Origin::Timeout, None),
        attempts: 1,
        ..message(2)
    };
    let later = WaitingMessage { not_before: Some(NOW + 30), ..message(4) };
    let asked = Availability { trigger: Trigger::Timer, ..available(vec![message(1), waiting, message(3), later]) };
    let plan = decide_as(&context(), &asked);
    assert_eq!(plan.steps, [hold(&[2, 3], Some(NOW + 10)), hold(&[4], Some(NOW + 30)), page(&[1])]);
    assert_eq!(plan.ask_again_at, Some(NOW + 10));
    let due = WaitingMessage { not_before: Some(NOW), ..message(1) };
    assert_eq!(steps(&context(), &available(vec![due, message(2)])), [page(&[1, 2])]);
}

#[test]
fn whose_form_was_refused_holds_nobody() {
    for status in [400, 405, 415, 488, 500, 501] {
        let waiting = WaitingMessage {
            not_before: Some(NOW + 10),
            last_failure: failed(Origin::Device, Some(status)),
            ..message(1)
        };
        let asked = Availability { trigger: Trigger::Timer, ..available(vec![waiting, message(2)]) };
        let plan = decide_as(&context(), &asked);
        assert_eq!(plan.steps, [hold(&[1], Some(NOW + 10)), page(&[2])], "{status}");
        assert_eq!(plan.ask_again_at, Some(NOW + 10));
    }
}

#[test]
fn after_the_last_retry_the_recipient_has_to_be_heard_of() {
    let spent = || WaitingMessage { attempts: 5, last_failure: failed(Origin::Core, Some(404)), ..message(1) };
    for (trigger, goes) in [
        (Trigger::MessageArrived, false),
        (Trigger::Timer, false),
        (Trigger::PlanDone, false),
        (Trigger::Registered, true),
        (Trigger::Refreshed, true),
        (Trigger::Operator, true),
    ] {
        let asked = Availability { trigger, ..available(vec![spent(), message(2)]) };
        let expected = if goes { page(&[1, 2]) } else { hold(&[1, 2], None) };
        assert_eq!(steps(&context(), &asked), [expected], "{trigger:?}");
    }
}

#[test]
fn every_message_is_in_exactly_one_step() {
    let mut messages = Vec::new();
    for id in 0..256_u64 {
        let bit = |index: u64| id & (1 << index) != 0;
        let base = if bit(0) { disposition(id) } else { message_from(id, if bit(1) { "sip:a@x" } else { "" }) };
        messages.push(WaitingMessage {
            page_bytes: if bit(2) { None } else { Some(600) },
            page_refused: bit(3),
            large_refused: bit(4),
            notified_at: bit(5).then_some(NOW - DAY),
            fetch_deadline: bit(5).then_some(if bit(6) { NOW + 1 } else { NOW - 1 }),
            not_before: bit(7).then_some(NOW + id),
            last_failure: if bit(7) { failed(Origin::Device, Some(488)) } else { None },
            ..base
        });
    }
    for delivery in [Delivery::Push, Delivery::Pull, Delivery::Hold] {
        for can_notify in [false, true] {
            let asked = Availability { can_notify, ..available(messages.clone()) };
            let mut placed: Vec<u64> = steps(&wants(delivery), &asked)
                .into_iter()
                .flat_map(|step| match step {
                    Step::Page(step) | Step::Session(step) => step.messages,
                    Step::Notify(step) => step.messages,
                    Step::Hold(step) => step.messages,
                    Step::Discard(_) | Step::HandOver(_) => panic!("{step:?}"),
                })
                .collect();
            placed.sort_unstable();
            assert_eq!(placed, (0..256).collect::<Vec<_>>(), "{delivery:?}");
        }
    }
}
