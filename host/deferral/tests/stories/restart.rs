//! The process ends, or a machine is dropped, and another one goes on with what is durable.

use restante_deferral::commit::CommitError;
use restante_deferral::decision::{
    Answer, FailureAction, FailureAnswer, PullAnswer, PullDelivery, Question, Retry, Selection, Trigger,
};
use restante_deferral::model::{ContactId, Duration, MessageId, Mode, Origin};
use restante_deferral::participating_function::{AttemptTask, Input, PullRequest, Reply};

use super::simulator::build::*;
use super::simulator::{Deed, World, takes_all};

#[test]
fn a_crash_between_202_and_delivery_is_followed_by_delivery() {
    let mut world = World::new();
    world.policy = Box::new(pages_all);
    world.registers(&[phone()]);
    world.seconds(10);
    world.devices = Box::new(|_, _| Vec::new());
    let token = world.arrives(message("m1"));
    world.seconds(1);
    assert!(world.reply(token).is_some());
    world.crashes();
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(5);
    assert_eq!(world.delivered, ["m1"]);
    assert!(world.waiting().is_empty());
}

#[test]
fn what_is_long_on_its_way_into_the_store_is_looked_at_after_a_crash() {
    let mut world = with_messages(&[]);
    world.registers(&[phone()]);
    world.seconds(10);
    world.devices = Box::new(|_, _| Vec::new());
    world.hold_commits = true;
    world.arrives(message("m1"));
    world.seconds(5);
    // It is stored, and nothing that was asked for later is before the process ends.
    world.let_commits_through();
    world.hold_commits = true;
    world.seconds(5);
    assert_eq!(world.log(), ["page m1 #0 to 1"]);
    world.crashes();
    world.hold_commits = false;
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(10);
    assert_eq!(world.delivered, ["m1"]);
}

#[test]
fn a_crash_in_the_middle_of_a_plan_is_followed_by_the_rest_of_it() {
    let mut world = with_messages(&["m1", "m2", "m3"]);
    world.devices = Box::new(|_, attempt| match &attempt.task {
        AttemptTask::Page { message, .. } if message.id.0 == 2 => Vec::new(),
        _ => takes_all(attempt),
    });
    world.registers(&[phone()]);
    world.seconds(5);
    assert_eq!(world.log(), ["page m1 #0 to 1", "page m2 #0 to 1"]);
    world.crashes();
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(5);
    // Under the same imdn.Message-ID, so that the client can tell.
    assert_eq!(world.delivered, ["m1", "m2", "m3"]);
}

#[test]
fn a_crash_during_the_registration_delay_is_followed_by_delivery() {
    let mut world = with_messages(&["m1"]);
    world.registers(&[phone()]);
    world.seconds(1);
    world.crashes();
    world.seconds(10);
    assert_eq!(world.delivered, ["m1"]);
}

#[test]
fn retries_go_on_after_eviction() {
    let mut world = with_messages(&["m1", "m2"]);
    world.devices = Box::new(|_, _| vec![(1000, Deed::Ends(timeout()))]);
    world.registers(&[phone()]);
    let began = world.now.after(Duration::from_secs(2));
    for _ in 0..6000 {
        world.seconds(1);
        world.evicts();
    }
    assert_eq!(world.attempt_seconds(began), [0, 31, 152, 753, 4354]);
    // Now m1 waits for the client; a new message must not overtake it, whatever was forgotten.
    world.evicts();
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.arrives(message("m3"));
    world.seconds(100);
    assert_eq!(world.log().len(), 5);
    assert!(world.evicts());
    world.refreshes();
    world.seconds(10);
    assert_eq!(world.delivered, ["m1", "m2", "m3"]);
}

#[test]
fn a_crash_mid_retry_keeps_the_schedule() {
    let mut world = with_messages(&["m1"]);
    world.devices = Box::new(|_, _| vec![(1000, Deed::Ends(timeout()))]);
    world.registers(&[phone()]);
    let began = world.now.after(Duration::from_secs(2));
    world.seconds(200);
    world.crashes();
    world.seconds(6000);
    assert_eq!(world.attempt_seconds(began), [0, 31, 152, 753, 4354]);
}

#[test]
fn what_a_registration_or_a_refresh_reopened_is_tried_once_after_a_crash() {
    for refreshes in [false, true] {
        let mut world = with_messages(&["m1", "m2"]);
        world.policy = Box::new(|question| match question {
            Question::Failure(..) => Ok(Answer::Failure(Vec::new())),
            question => pages_all(question),
        });
        world.devices = Box::new(|_, _| vec![(1000, Deed::Ends(timeout()))]);
        world.registers(&[phone()]);
        world.seconds(3000);
        assert_eq!(world.log(), ["page m1 #0 to 1"]);
        if refreshes {
            world.devices = Box::new(|_, _| Vec::new());
            world.refreshes();
        } else {
            world.registers(&[phone()]);
        }
        world.seconds(1);
        world.crashes();
        world.devices = Box::new(|_, _| vec![(1000, Deed::Ends(timeout()))]);
        world.seconds(60);
        let attempts = world.log().len();
        assert_eq!(attempts, if refreshes { 3 } else { 2 }, "{:?}", world.log());
        // It failed since: another start changes nothing, nor does what arrives.
        world.crashes();
        world.arrives(message("m3"));
        world.seconds(3000);
        assert_eq!(world.log().len(), attempts, "{:?}", world.log());
        world.devices = Box::new(|_, attempt| takes_all(attempt));
        world.refreshes();
        world.seconds(10);
        assert_eq!(world.delivered, ["m1", "m2", "m3"]);
    }
}

#[test]
fn a_refresh_that_comes_soon_after_another_is_not_forgotten() {
    for crashes in [false, true] {
        let mut world = with_messages(&["m1"]);
        world.policy = Box::new(|question| match question {
            Question::Failure(..) => Ok(Answer::Failure(Vec::new())),
            question => pages_all(question),
        });
        world.devices = Box::new(|_, _| vec![(1000, Deed::Ends(timeout()))]);
        world.registers(&[phone()]);
        world.seconds(20);
        assert_eq!(world.log().len(), 1);
        world.refreshes();
        world.seconds(5);
        assert!(!world.evicts());
        assert_eq!(world.log().len(), 1, "too soon");
        if crashes {
            world.crashes();
        }
        world.seconds(60);
        assert_eq!(world.log().len(), 2, "{crashes}");
    }
}

#[test]
fn a_delivered_message_whose_removal_was_lost_comes_again_under_the_same_id() {
    let mut world = with_messages(&["m1"]);
    world.registers(&[phone()]);
    world.run_for(Duration::from_millis(1990));
    world.hold_commits = true;
    world.seconds(5);
    assert_eq!(world.delivered, ["m1"]);
    world.crashes();
    world.hold_commits = false;
    world.registers(&[phone()]);
    world.seconds(5);
    assert_eq!(world.delivered, ["m1", "m1"]);
    assert!(world.waiting().is_empty());
}

#[test]
fn what_is_accepted_soon_after_the_store_failed_is_looked_at_after_a_crash() {
    let mut world = World::new();
    world.policy = Box::new(pages_all);
    world.registers(&[phone()]);
    world.seconds(10);
    world.fail_commits = Some(CommitError::Failed);
    let refused = world.arrives(message("m1"));
    world.run_for(Duration::from_millis(50));
    assert_eq!(world.reply(refused), Some(&Reply::Unavailable(CommitError::Failed)));
    world.fail_commits = None;
    world.devices = Box::new(|_, _| Vec::new());
    let accepted = world.arrives(message("m2"));
    world.run_for(Duration::from_millis(50));
    assert_eq!(world.reply(accepted), Some(&Reply::Accepted));
    world.crashes();
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(10);
    assert_eq!(world.delivered, ["m2"]);
}

#[test]
fn what_a_client_was_fetching_when_the_process_ended_is_tried_again() {
    let mut world = World::new();
    world.policy = Box::new(|question| match question {
        Question::Pull(_, pull) => {
            let messages = ids(&pull.messages);
            Ok(Answer::Pull(PullAnswer::Send(PullDelivery { messages, mode: Mode::Large, keep_copy: false })))
        }
        question => pages_all(question),
    });
    world.registers(&[phone()]);
    world.arrives(message("m1"));
    world.run_for(Duration::from_millis(100));
    world.devices = Box::new(|_, _| Vec::new());
    let reply = world.token();
    world.tell(Input::Pull(Box::new(PullRequest { reply, ..pull(Some(ContactId(1)), Selection::All) })));
    world.seconds(20);
    assert_eq!(world.log(), ["pull Large m1 to 1"]);
    world.crashes();
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(10);
    assert_eq!(world.delivered, ["m1"]);
}

#[test]
fn what_failed_after_a_refresh_that_came_too_soon_waits_for_the_next_one() {
    for crashes in [false, true] {
        let mut failures = 0;
        let mut world = with_messages(&["m1"]);
        world.policy = Box::new(move |question| match question {
            Question::Failure(_, failure) => {
                failures += 1;
                let action = match failures {
                    1 => FailureAction::Retry(Retry { after_milliseconds: 40_000, mode: None, contact: None }),
                    _ => FailureAction::Wait,
                };
                Ok(Answer::Failure(vec![FailureAnswer { message: failure.messages[0].message.id, action }]))
            }
            question => pages_all(question),
        });
        world.devices = Box::new(|_, _| vec![(1000, Deed::Ends(timeout()))]);
        world.registers(&[phone()]);
        world.seconds(20);
        world.refreshes();
        world.seconds(30);
        assert_eq!(world.log().len(), 2, "the retry came after the refresh, and it waits for its recipient");
        if crashes {
            world.crashes();
        }
        world.seconds(100);
        assert_eq!(world.log().len(), 2, "{crashes}");
        world.refreshes();
        world.seconds(10);
        assert_eq!(world.log().len(), 3, "{crashes}");
    }
}

#[test]
fn the_policys_own_time_to_ask_again_survives() {
    // Also where something else makes a machine before that time has come.
    for (crashes, drops_another) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut world = with_messages(&["m1"]);
        world.policy = Box::new(|question| match question {
            Question::Available(context, availability) if availability.trigger == Trigger::Registered => {
                let ask_again_at = Some(context.now.after(Duration::from_secs(3600)));
                Ok(Answer::Available(restante_deferral::decision::Plan { steps: Vec::new(), ask_again_at }))
            }
            question => pages_all(question),
        });
        world.registers(&[phone()]);
        world.seconds(10);
        match crashes {
            true => world.crashes(),
            false => assert!(world.evicts()),
        }
        if drops_another {
            let reply = world.token();
            world.tell(Input::Discard { reply, messages: Some(vec![MessageId(7)]), report: false });
        }
        world.seconds(3500);
        assert!(world.delivered.is_empty());
        world.seconds(200);
        assert_eq!(world.delivered, ["m1"], "{crashes} {drops_another}");
        assert_eq!(world.triggers(), [Trigger::Registered, Trigger::Timer]);
    }
}

#[test]
fn a_machine_is_evicted_when_there_is_nothing_to_do_and_the_alarm_is_right() {
    let mut world = with_messages(&["m1"]);
    assert!(world.evicts());
    let expires_at = world.store.queue(&world.key)[0].message.expires_at;
    assert_eq!(world.store.wake_at(&world.key), Some(expires_at));
    world.devices = Box::new(|_, _| vec![(20_000, Deed::Ends(end(Some(200), Origin::Device)))]);
    world.registers(&[phone()]);
    world.seconds(5);
    assert!(!world.evicts());
    assert!(
        world.store.wake_at(&world.key).is_some_and(|at| at <= world.now),
        "a crash now must be followed by a look"
    );
    world.seconds(30);
    assert!(world.evicts());
    assert!(world.store.wake_at(&world.key).is_none_or(|at| at > world.now));
}

#[test]
fn what_was_to_be_announced_after_a_failure_is_tried_again_after_a_crash() {
    let mut world = with_messages(&["m1", "m2"]);
    let deadline = world.now.after(Duration::from_secs(3000));
    world.policy = Box::new(move |question| match question {
        Question::Failure(_, failure) => {
            let notify = |message| FailureAnswer { message, action: FailureAction::Notify(deadline) };
            Ok(Answer::Failure(failure.messages.iter().map(|failed| notify(failed.message.id)).collect()))
        }
        question => pages_all(question),
    });
    world.devices = Box::new(|_, attempt| match &attempt.task {
        AttemptTask::Page { .. } => vec![(0, Deed::Ends(end(Some(480), Origin::Core)))],
        _ => Vec::new(),
    });
    world.registers(&[subscribed(phone())]);
    world.seconds(20);
    assert_eq!(world.log(), ["page m1 #0 to 1", "notify m1 to 1"]);
    world.crashes();
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(10);
    assert_eq!(world.delivered, ["m1", "m2"]);
}

#[test]
fn a_stale_answer_is_dropped() {
    let mut world = with_messages(&["m1"]);
    let token = restante_deferral::participating_function::QuestionToken(4711);
    world.tell(Input::Answered(token, kept(world.now)));
    let end = end(Some(200), Origin::Device);
    world.tell(Input::AttemptEnded(restante_deferral::participating_function::AttemptId(4711), end));
    world.seconds(1);
    assert_eq!(world.waiting(), ["m1"]);
}

#[test]
fn a_report_stored_for_a_sleeping_sender_wakes_it() {
    let mut world = World::new();
    // Alice and Bob are the same here: a message to oneself.
    world.key = key("sip:alice@example.org");
    world.policy = Box::new(|question| match question {
        Question::Available(..) => planned(Vec::new()),
        question => pages_all(question),
    });
    let mut arrival = asking(message("m1"), negative());
    arrival.expires_at = Some(world.now.after(Duration::from_secs(100)));
    world.registers(&[phone()]);
    world.arrives(arrival);
    world.seconds(50);
    world.policy = Box::new(pages_all);
    world.seconds(60);
    assert_eq!(world.delivered.len(), 1, "the report");
    assert!(world.waiting().is_empty());
}
