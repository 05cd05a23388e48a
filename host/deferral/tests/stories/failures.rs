//! Deliveries that do not succeed: nothing is lost by a wrong verdict.

use restante_deferral::decision::{
    AfterDeadline, Answer, AttemptKind, FailureAction, FailureAnswer, NotifyStep, Question, Retry, Step, Trigger,
    Undecided,
};
use restante_deferral::model::{ContactId, Duration, Mode, Origin};
use restante_deferral::participating_function::{AttemptEnd, AttemptTask, Event};

use super::simulator::build::*;
use super::simulator::{Deed, World, takes_all};

/// On failure, this for every message.
fn acting(action: impl Fn() -> FailureAction + 'static) -> super::simulator::Policy {
    Box::new(move |question| match question {
        Question::Failure(_, failure) => Ok(Answer::Failure(
            failure
                .messages
                .iter()
                .map(|failed| FailureAnswer { message: failed.message.id, action: action() })
                .collect(),
        )),
        question => pages_all(question),
    })
}

#[test]
fn a_day_of_retries_keeps_the_schedule_and_then_waits() {
    let mut world = with_messages(&["m1"]);
    world.devices = Box::new(|_, _| vec![(1000, Deed::Ends(timeout()))]);
    world.registers(&[phone()]);
    let began = world.now.after(Duration::from_secs(2));
    world.seconds(24 * 3600);
    // Each attempt takes a second; then 30 s, 2 min, 10 min, 1 h.
    assert_eq!(world.attempt_seconds(began), [0, 31, 152, 753, 4354]);
    assert_eq!(world.waiting(), ["m1"]);
    // A refresh reopens, and a client that lives again gets everything.
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.arrives(message("m2"));
    world.seconds(10);
    assert!(world.delivered.is_empty(), "m2 must not overtake m1");
    world.refreshes();
    world.seconds(10);
    assert_eq!(world.delivered, ["m1", "m2"]);
}

#[test]
fn a_repetition_counts_up_so_that_call_id_and_cseq_are_never_used_twice() {
    let mut world = with_messages(&["m1"]);
    world.devices = Box::new(|_, _| vec![(1000, Deed::Ends(timeout()))]);
    world.registers(&[phone()]);
    world.seconds(200);
    world.registers(&[contact(2, 500)]);
    world.seconds(20);
    assert_eq!(world.log()[..4], ["page m1 #0 to 1", "page m1 #1 to 1", "page m1 #2 to 1", "page m1 #3 to 2"]);
}

#[test]
fn a_core_that_answers_404_for_ten_minutes_loses_nothing() {
    for status in [403, 404, 410, 480, 503, 600, 604] {
        let mut world = with_messages(&["m1", "m2", "m3"]);
        world.policy = acting(|| FailureAction::GiveUp(true));
        let fault_clears_at = world.now.after(Duration::from_secs(600));
        world.devices = Box::new(move |now, attempt| {
            if now >= fault_clears_at {
                return takes_all(attempt);
            }
            vec![(10, Deed::Ends(end(Some(status), Origin::Core)))]
        });
        world.registers(&[phone()]);
        // A policy that gives up on a core's word is not obeyed; the client's refreshes reopen the queue.
        for _ in 0..14 {
            world.seconds(60);
            world.refreshes();
        }
        world.seconds(10);
        assert_eq!(world.delivered, ["m1", "m2", "m3"], "{status}");
        assert!(world.count(|event| *event == Event::FellBack(Undecided::Impossible, "on-failure")) > 0);
        assert_eq!(world.count(|event| matches!(event, Event::GivenUp(_))), 0);
    }
}

#[test]
fn a_core_that_answers_404_for_ten_minutes_delays_by_the_schedule() {
    let mut world = with_messages(&["m1", "m2", "m3"]);
    let fault_clears_at = world.now.after(Duration::from_secs(600));
    world.devices = Box::new(move |now, attempt| match now >= fault_clears_at {
        true => takes_all(attempt),
        false => vec![(10, Deed::Ends(end(Some(404), Origin::Core)))],
    });
    world.registers(&[phone()]);
    world.seconds(800);
    assert_eq!(world.delivered, ["m1", "m2", "m3"]);
    // Only the first was tried meanwhile.
    let first = ["page m1 #0 to 1", "page m1 #1 to 1", "page m1 #2 to 1", "page m1 #3 to 1"];
    assert_eq!(world.log(), [&first[..], &["page m2 #0 to 1", "page m3 #0 to 1"]].concat());
}

#[test]
fn only_the_devices_own_word_about_one_page_mode_message_ends_it() {
    // Status, origin, in a session, given up.
    let table = [
        (403, Origin::Device, false, true),
        (404, Origin::Device, false, true),
        (410, Origin::Device, false, true),
        (603, Origin::Device, false, true),
        (606, Origin::Device, false, true),
        (486, Origin::Device, false, false),
        (415, Origin::Device, false, false),
        (500, Origin::Device, false, false),
        (404, Origin::Core, false, false),
        (603, Origin::Core, false, false),
        (603, Origin::Device, true, false),
        (404, Origin::Device, true, false),
    ];
    for (status, origin, in_session, given_up) in table {
        let mut world = World::new();
        world.policy = acting(|| FailureAction::GiveUp(true));
        let arrival = if in_session { large("m1") } else { message("m1") };
        world.arrives(asking(arrival, negative()));
        world.seconds(1);
        if in_session {
            world.policy = Box::new(|question| match question {
                Question::Failure(..) => acting(|| FailureAction::GiveUp(true))(question),
                question => one_session(question),
            });
        }
        world.devices = Box::new(move |_, _| vec![(10, Deed::Ends(end(Some(status), origin)))]);
        world.registers(&[phone()]);
        world.seconds(10);
        assert_eq!(world.waiting().is_empty(), given_up, "{status} {origin:?} {in_session}");
        assert_eq!(world.grew.len(), usize::from(given_up));
        assert_eq!(world.count(|event| matches!(event, Event::GivenUp(_))), usize::from(given_up));
    }
}

#[test]
fn a_refused_shape_does_not_stop_the_others_and_the_other_mode_is_tried() {
    for status in [400, 405, 406, 413, 415, 488, 493, 500, 501, 513, 606] {
        let mut world = with_messages(&["m1", "m2"]);
        world.policy = Box::new(move |question| match question {
            Question::Failure(_, failure) => {
                assert!(failure.messages.iter().all(|failed| failed.message.page_refused));
                let retry = Retry { after_milliseconds: 0, mode: Some(Mode::Large), contact: None };
                let answer =
                    FailureAnswer { message: failure.messages[0].message.id, action: FailureAction::Retry(retry) };
                Ok(Answer::Failure(vec![answer]))
            }
            question => pages_all(question),
        });
        world.devices = Box::new(move |_, attempt| match &attempt.task {
            AttemptTask::Page { message, .. } if message.id.0 == 1 => {
                vec![(10, Deed::Ends(end(Some(status), Origin::Device)))]
            }
            _ => takes_all(attempt),
        });
        world.registers(&[phone()]);
        world.seconds(3);
        assert_eq!(world.log(), ["page m1 #0 to 1", "page m2 #0 to 1", "session m1 to 1"], "{status}");
        assert!(world.waiting().is_empty());
    }
}

#[test]
fn the_fallback_changes_the_mode_too() {
    let mut world = with_messages(&["m1"]);
    world.policy = Box::new(|question| match question {
        Question::Incoming(context, _) => kept(context.now),
        _ => Err(Undecided::Trapped),
    });
    world.devices = Box::new(move |_, attempt| match &attempt.task {
        AttemptTask::Page { .. } => vec![(10, Deed::Ends(end(Some(488), Origin::Device)))],
        _ => takes_all(attempt),
    });
    world.registers(&[phone()]);
    world.seconds(40);
    assert_eq!(world.log(), ["page m1 #0 to 1", "session m1 to 1"]);
}

#[test]
fn a_session_refused_for_good_refuses_the_session_only() {
    let mut world = World::new();
    world.policy = Box::new(one_session);
    for name in ["m1", "m2"] {
        world.arrives(large(name));
    }
    world.seconds(1);
    let mut refusals = 1;
    world.devices = Box::new(move |_, attempt| {
        if refusals == 0 {
            return takes_all(attempt);
        }
        refusals -= 1;
        vec![(10, Deed::Ends(end(Some(603), Origin::Device)))]
    });
    world.registers(&[phone()]);
    world.seconds(60);
    assert_eq!(world.delivered, ["m1", "m2"]);
}

#[test]
fn nobody_there_stops_the_plan_so_that_the_order_is_kept() {
    for origin in [Origin::Timeout, Origin::Transport, Origin::Core] {
        let mut world = with_messages(&["m1", "m2", "m3"]);
        let mut first = true;
        world.devices = Box::new(move |_, attempt| {
            if std::mem::take(&mut first) {
                let status = (origin == Origin::Core).then_some(480);
                return vec![(10, Deed::Ends(end(status, origin)))];
            }
            takes_all(attempt)
        });
        world.registers(&[phone()]);
        world.seconds(10);
        assert_eq!(world.log(), ["page m1 #0 to 1"]);
        world.arrives(message("m4"));
        world.seconds(10);
        assert_eq!(world.log().len(), 1, "m4 must not overtake");
        world.seconds(30);
        assert_eq!(world.delivered, ["m1", "m2", "m3", "m4"]);
    }
}

#[test]
fn retry_after_is_the_least() {
    let mut world = with_messages(&["m1"]);
    let mut first = true;
    world.devices = Box::new(move |_, attempt| {
        if std::mem::take(&mut first) {
            let busy = AttemptEnd { retry_after_seconds: Some(300), ..end(Some(503), Origin::Core) };
            return vec![(0, Deed::Ends(busy))];
        }
        takes_all(attempt)
    });
    world.registers(&[phone()]);
    let began = world.now.after(Duration::from_secs(2));
    world.seconds(400);
    assert_eq!(world.attempt_seconds(began), [0, 300]);
}

#[test]
fn a_retry_goes_the_way_the_policy_said_without_asking_again() {
    let mut world = with_messages(&["m1"]);
    world.policy = acting(|| {
        let contact = Some(ContactId(1));
        FailureAction::Retry(Retry { after_milliseconds: 5000, mode: Some(Mode::Large), contact })
    });
    world.devices = Box::new(|_, attempt| match &attempt.task {
        AttemptTask::Page { .. } => vec![(0, Deed::Ends(end(Some(415), Origin::Device)))],
        _ => takes_all(attempt),
    });
    world.registers(&[contact(1, 10), contact(2, 900)]);
    world.seconds(20);
    assert_eq!(world.log(), ["page m1 #0 to 2", "session m1 to 1"]);
    assert_eq!(world.triggers(), [Trigger::Registered]);
}

#[test]
fn a_policy_that_always_says_at_once_is_paced() {
    let mut world = with_messages(&["m1"]);
    world.policy =
        acting(|| FailureAction::Retry(Retry { after_milliseconds: 0, mode: Some(Mode::Page), contact: None }));
    world.devices = Box::new(|_, _| vec![(0, Deed::Ends(end(Some(486), Origin::Device)))]);
    world.registers(&[phone()]);
    world.seconds(62);
    assert!((20..=61).contains(&world.log().len()), "{}", world.log().len());
}

#[test]
fn attempts_are_counted_anew_when_the_recipient_registers() {
    let mut world = with_messages(&["m1"]);
    world.devices = Box::new(|_, _| vec![(0, Deed::Ends(timeout()))]);
    world.registers(&[phone()]);
    world.seconds(3 * 3600);
    world.registers(&[contact(2, 100)]);
    world.seconds(5);
    let attempts: Vec<u16> = world
        .questions
        .iter()
        .filter_map(|question| match question {
            Question::Failure(_, failure) => Some(failure.messages[0].message.attempts),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5, 1]);
}

#[test]
fn a_failure_can_be_answered_with_a_notification() {
    let mut world = with_messages(&["m1", "m2"]);
    let deadline = world.now.after(Duration::from_secs(3000));
    world.policy = acting(move || FailureAction::Notify(deadline));
    world.devices = Box::new(|_, attempt| match &attempt.task {
        AttemptTask::Page { .. } => vec![(0, Deed::Ends(end(Some(488), Origin::Device)))],
        _ => takes_all(attempt),
    });
    world.registers(&[subscribed(phone())]);
    world.seconds(20);
    let log = world.log();
    assert!(log.contains(&String::from("notify m1 to 1")), "{log:?}");
    assert!(world.store.queue(&world.key).iter().all(|row| row.fetch_deadline == Some(deadline)));
}

#[test]
fn a_notification_follows_a_failure_that_ended_the_plan() {
    let mut world = with_messages(&["m1", "m2"]);
    let deadline = world.now.after(Duration::from_secs(3000));
    world.policy = acting(move || FailureAction::Notify(deadline));
    // A proxy refuses MESSAGEs: nobody was there, as far as can be told.
    world.devices = Box::new(|_, attempt| match &attempt.task {
        AttemptTask::Page { message, .. } if message.id.0 == 1 => {
            vec![(0, Deed::Ends(end(Some(480), Origin::Core)))]
        }
        _ => takes_all(attempt),
    });
    world.registers(&[subscribed(phone())]);
    world.seconds(20);
    assert_eq!(world.log(), ["page m1 #0 to 1", "notify m1 to 1", "page m2 #0 to 1"]);
    assert_eq!(world.waiting(), ["m1"]);
    assert_eq!(world.store.queue(&world.key)[0].fetch_deadline, Some(deadline));
}

#[test]
fn a_notification_that_fails_is_not_followed_by_another_one() {
    let mut world = with_messages(&["m1"]);
    let deadline = world.now.after(Duration::from_secs(30_000));
    world.policy = acting(move || FailureAction::Notify(deadline));
    world.devices = Box::new(|_, _| vec![(0, Deed::Ends(end(Some(480), Origin::Core)))]);
    world.registers(&[subscribed(phone())]);
    let began = world.now.after(Duration::from_secs(2));
    world.seconds(1000);
    let expected = ["page m1 #0 to 1", "notify m1 to 1", "page m1 #1 to 1", "notify m1 to 1"];
    assert_eq!(world.log()[..4], expected);
    // Pushed by the schedule, each time announced when that fails.
    assert_eq!(world.attempt_seconds(began)[..3], [0, 0, 120]);
    assert!(world.log().len() < 10, "{:?}", world.log());
}

#[test]
fn a_fetch_deadline_of_what_waits_after_a_failure_is_looked_at_once() {
    // The client that was told does not fetch, and is not there when its messages are pushed: after the deadline, or before
    // it when it registered anew.
    for registers_before in [false, true] {
        let mut world = with_messages(&["m1", "m2"]);
        let deadline = world.now.after(Duration::from_secs(100));
        world.policy = Box::new(move |question| match question {
            Question::Available(_, availability) if availability.messages[0].notified_at.is_none() => {
                let (messages, afterwards) = (ids(&availability.messages), AfterDeadline::Ask);
                planned(vec![Step::Notify(NotifyStep { messages, fetch_deadline: deadline, afterwards })])
            }
            Question::Failure(..) => Ok(Answer::Failure(Vec::new())),
            question => pages_all(question),
        });
        world.devices = Box::new(|_, attempt| match &attempt.task {
            AttemptTask::Page { .. } => vec![(0, Deed::Ends(end(Some(480), Origin::Core)))],
            _ => takes_all(attempt),
        });
        world.registers(&[subscribed(phone())]);
        world.seconds(10);
        if registers_before {
            world.registers(&[subscribed(contact(2, 500))]);
        }
        world.seconds(100);
        assert_eq!(world.log().len(), 2, "{:?}", world.log());
        assert!(world.log()[1].starts_with("page m1 #0"), "{:?}", world.log());
        assert!(world.store.queue(&world.key)[0].fetch_deadline.is_none_or(|at| at > world.now));
        let wake = world.next_moment();
        assert!(wake.is_some_and(|at| at > world.now.after(Duration::from_secs(3600))), "{registers_before} {wake:?}");
    }
}

#[test]
fn a_retry_that_comes_when_the_message_is_held_is_looked_at_once() {
    let mut world = with_messages(&["m1"]);
    world.policy = Box::new(|question| match question {
        Question::Failure(_, failure) => {
            let retry = Retry { after_milliseconds: 60_000, mode: None, contact: None };
            let message = failure.messages[0].message.id;
            Ok(Answer::Failure(vec![FailureAnswer { message, action: FailureAction::Retry(retry) }]))
        }
        Question::Available(_, availability) if availability.messages[0].last_failure.is_some() => planned(Vec::new()),
        question => pages_all(question),
    });
    world.devices = Box::new(|_, _| vec![(0, Deed::Ends(timeout()))]);
    world.registers(&[phone()]);
    world.seconds(10);
    world.registers(&[phone()]);
    world.seconds(100);
    assert_eq!(world.log().len(), 1);
    let wake = world.next_moment();
    assert!(wake.is_some_and(|at| at > world.now.after(Duration::from_secs(3600))), "{wake:?}");
}

#[test]
fn what_a_policy_says_nothing_of_waits() {
    let mut world = with_messages(&["m1"]);
    world.policy = Box::new(|question| match question {
        Question::Failure(..) => Ok(Answer::Failure(Vec::new())),
        question => pages_all(question),
    });
    world.devices = Box::new(|_, _| vec![(0, Deed::Ends(timeout()))]);
    world.registers(&[phone()]);
    world.seconds(3600 * 24);
    assert_eq!(world.log().len(), 1);
    assert_eq!(world.waiting(), ["m1"]);
}

#[test]
fn a_settlement_that_cannot_be_written_is_written_later() {
    let mut world = with_messages(&["m1", "m2"]);
    world.registers(&[phone()]);
    world.run_for(Duration::from_millis(1990));
    world.fail_commits = Some(restante_deferral::commit::CommitError::Overloaded);
    world.seconds(10);
    assert_eq!(world.delivered, ["m1", "m2"]);
    assert_eq!(world.waiting(), ["m1", "m2"]);
    world.refreshes();
    world.seconds(100);
    assert_eq!(world.delivered, ["m1", "m2"], "a delivered message is not sent again");
    world.fail_commits = None;
    world.seconds(10);
    assert!(world.waiting().is_empty());
    world.seconds(10);
    assert!(world.evicts());
}

#[test]
fn a_settlement_that_cannot_be_written_waits_for_no_arrival_that_cannot_either() {
    let mut world = with_messages(&["m1"]);
    world.registers(&[phone()]);
    world.run_for(Duration::from_millis(1990));
    world.fail_commits = Some(restante_deferral::commit::CommitError::Full);
    world.run_for(Duration::from_millis(500));
    assert_eq!((world.delivered.as_slice(), world.waiting().len()), (["m1".to_owned()].as_slice(), 1));
    world.fail_insertions_only = true;
    for number in 0..10 {
        world.arrives(message(&format!("refused {number}")));
        world.run_for(Duration::from_millis(500));
    }
    assert!(world.waiting().is_empty());
}

#[test]
fn a_failure_shows_the_other_ways_to_reach_the_recipient() {
    let mut world = with_messages(&["m1"]);
    world.devices = Box::new(|_, _| vec![(0, Deed::Ends(end(Some(415), Origin::Device)))]);
    world.registers(&[contact(1, 10), contact(2, 900)]);
    world.seconds(3);
    let Some(Question::Failure(_, failure)) = world.questions.last() else { panic!("no failure") };
    assert_eq!((failure.attempt, failure.contact, failure.status), (AttemptKind::Page, Some(ContactId(2)), Some(415)));
    assert_eq!(failure.other_contacts.iter().map(|contact| contact.id).collect::<Vec<_>>(), [ContactId(1)]);
}

#[test]
fn who_registers_elsewhere_is_tried_again_each_hour_when_nothing_else_is_left() {
    for evicted in [false, true] {
        let mut world = World::new();
        world.policy = Box::new(pages_all);
        let fault_clears_at = world.now.after(Duration::from_secs(24 * 3600));
        world.devices = Box::new(move |now, attempt| match now >= fault_clears_at {
            true => takes_all(attempt),
            false => vec![(1000, Deed::Ends(end(Some(503), Origin::Core)))],
        });
        world.contacts = vec![foreign(phone())];
        world.arrives(message("m1"));
        world.arrives(message("m2"));
        let (began, mut evictions) = (world.now, 0);
        for _ in 0..26 * 60 {
            world.seconds(60);
            evictions += usize::from(evicted && world.evicts());
        }
        assert_eq!(world.delivered, ["m1", "m2"], "{evicted}");
        assert!(!evicted || evictions > 20, "{evictions}");
        let seconds = world.attempt_seconds(began);
        assert_eq!(seconds[..4], [0, 31, 152, 753]);
        assert!(seconds[4..].windows(2).take(20).all(|two| two[1] - two[0] >= 3600), "{seconds:?}");
    }
}
