//! Queues that are longer than the window.

use restante_deferral::commit::{Change, MessageState, Transaction};
use restante_deferral::decision::{Answer, FailureAction, FailureAnswer, HoldStep, Question, Retry, Step};
use restante_deferral::model::{Duration, ExpirySource, LastResult, NewMessage, Origin};
use restante_deferral::participating_function::{AttemptTask, Input, Limits};

use super::simulator::build::*;
use super::simulator::{Deed, World, takes_all};

fn small() -> World {
    World::with(Limits { max_window_messages: 6, max_decision_messages: 4, ..Limits::default() })
}

#[test]
fn a_long_queue_is_delivered_through_a_small_window() {
    let mut world = small();
    world.policy = Box::new(pages_all);
    for number in 0..40 {
        world.arrives(message(&format!("m{number:02}")));
    }
    world.seconds(10);
    world.registers(&[phone()]);
    world.seconds(60);
    assert_eq!(world.delivered.len(), 40);
    assert!(world.delivered.is_sorted());
}

/// On a slow disk a whole window is delivered before the first removal is durable. What lies behind it goes on when there is
/// room, and not only at the next registration.
#[test]
fn a_window_full_of_removals_that_are_not_durable_yet_does_not_end_the_delivery() {
    let mut world = small();
    world.policy = Box::new(pages_all);
    for number in 0..20 {
        world.arrives(message(&format!("m{number:02}")));
    }
    world.seconds(10);
    world.registers(&[phone()]);
    world.run_for(Duration::from_millis(1990));
    world.hold_commits = true;
    world.seconds(10);
    assert_eq!(world.delivered.len(), 6, "no more than the window");
    world.let_commits_through();
    world.seconds(60);
    assert_eq!(world.delivered.len(), 20);
    assert!(world.delivered.is_sorted());
}

#[test]
fn held_messages_do_not_starve_those_behind_them() {
    let mut world = small();
    world.policy = Box::new(|question| match question {
        Question::Available(_, availability) => {
            let (held, rest): (Vec<_>, Vec<_>) =
                availability.messages.iter().partition(|message| message.sender.contains("spam"));
            let held = held.into_iter().map(|message| message.id).collect();
            let rest = rest.into_iter().map(|message| message.id).collect();
            planned(vec![Step::Hold(HoldStep { messages: held, until: None }), Step::Page(any(rest))])
        }
        question => pages_all(question),
    });
    for number in 0..20 {
        world.arrives(from(message(&format!("s{number:02}")), "sip:spam@example.org"));
    }
    world.arrives(message("m1"));
    world.arrives(message("m2"));
    world.seconds(1);
    world.registers(&[phone()]);
    world.seconds(10);
    assert_eq!(world.delivered, ["m1", "m2"]);
    // And again with what comes later, evicted or not.
    world.arrives(message("m3"));
    world.seconds(10);
    assert_eq!(world.delivered, ["m1", "m2", "m3"]);
    assert!(world.evicts());
    world.arrives(message("m4"));
    world.seconds(10);
    assert_eq!(world.delivered.last().map(String::as_str), Some("m4"));
    assert_eq!(world.waiting().len(), 20);
}

#[test]
fn a_hold_beyond_the_window_ends_at_its_time() {
    let mut world = small();
    world.policy = Box::new(|question| match question {
        Question::Available(context, availability) if availability.messages[0].not_before.is_none() => {
            let steps = availability.messages.iter().map(|message| {
                let until = Some(context.now.after(Duration::from_secs(100 * message.id.0)));
                Step::Hold(HoldStep { messages: vec![message.id], until })
            });
            planned(steps.collect())
        }
        question => pages_all(question),
    });
    for number in 1..=9 {
        world.arrives(message(&format!("m{number:02}")));
    }
    world.seconds(1);
    world.registers(&[phone()]);
    world.seconds(10);
    assert!(world.attempts.is_empty());
    world.evicts();
    for number in 1..=9 {
        world.seconds(100);
        assert_eq!(world.delivered.len(), number, "after {number} hundred seconds");
        world.evicts();
    }
    assert!(world.delivered.is_sorted());
}

#[test]
fn a_storm_for_an_available_recipient_is_delivered_in_order() {
    let mut world = small();
    world.policy = Box::new(pages_all);
    world.devices = Box::new(|_, _| vec![(300, Deed::Ends(end(Some(200), restante_deferral::model::Origin::Device)))]);
    world.registers(&[phone()]);
    world.seconds(10);
    for number in 0..60 {
        world.arrives(message(&format!("m{number:02}")));
        world.run_for(Duration::from_millis(50));
    }
    world.seconds(60);
    assert_eq!(world.delivered.len(), 60);
    assert!(world.delivered.is_sorted());
}

#[test]
fn a_dead_client_costs_one_look_not_the_whole_queue() {
    let mut world = World::new();
    world.policy = Box::new(pages_all);
    for number in 0..1000 {
        world.arrives(message(&format!("m{number:04}")));
        if number % 100 == 0 {
            world.seconds(1);
        }
    }
    world.seconds(1);
    world.devices = Box::new(|_, _| vec![(1000, Deed::Ends(timeout()))]);
    world.registers(&[phone()]);
    world.seconds(3600 * 5);
    assert!(world.store.rows_read < 3000, "{}", world.store.rows_read);
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.refreshes();
    world.seconds(60);
    assert_eq!(world.delivered.len(), 1000);
    assert!(world.delivered.is_sorted());
}

/// Somebody else stores a message in the recipient's queue.
fn stores_elsewhere(world: &mut World, name: &str) {
    let arrival = message(name);
    let stored = NewMessage {
        recipient: world.key.clone(),
        deduplication: arrival.deduplication,
        deduplication_as_written: None,
        envelope: arrival.envelope,
        body: arrival.body,
        received_at: world.now,
        expires_at: world.now.after(Duration::from_secs(3600)),
        expiry_source: ExpirySource::Operator,
        priority: 100,
        hand_over_to: None,
    };
    let changes = vec![Change::Insert(Box::new(stored))];
    world.store.apply(world.now, Transaction { changes, settles: false });
}

/// What the policy was last told of the queue.
fn last_count(world: &World) -> Option<u32> {
    world.questions.iter().rev().find_map(|question| match question {
        Question::Incoming(_, incoming) => Some(incoming.recipient_counts.stored_messages),
        _ => None,
    })
}

#[test]
fn what_somebody_else_stored_is_counted_and_delivered() {
    for is_known in [false, true] {
        let mut world = small();
        world.policy = Box::new(pages_all);
        if is_known {
            world.arrives(message("m1"));
            world.seconds(5);
        }
        let own = u32::from(is_known);
        for number in 2..=9 {
            stores_elsewhere(&mut world, &format!("m{number}"));
        }
        world.tell(Input::QueueGrew);
        world.seconds(5);
        world.arrives(message("n1"));
        world.seconds(5);
        assert_eq!(last_count(&world), Some(own + 8));
        world.registers(&[phone()]);
        world.seconds(10);
        assert_eq!(world.delivered.len() as u32, own + 9);
        world.arrives(message("n2"));
        world.seconds(5);
        assert_eq!(last_count(&world), Some(0));
    }
}

#[test]
fn what_somebody_else_stored_is_tried_again_at_its_own_time() {
    let mut world = small();
    world.policy = Box::new(pages_all);
    world.registers(&[phone()]);
    world.seconds(10);
    for number in 1..=9 {
        stores_elsewhere(&mut world, &format!("m{number}"));
    }
    // The first failed under another name, and what is behind it waits for it.
    let first = world.store.queue(&world.key)[0].clone();
    let failure = LastResult { at: world.now, status: None, origin: Origin::Timeout };
    let state = MessageState {
        attempts: 1,
        not_before: Some(world.now.after(Duration::from_secs(60))),
        last_failure: Some(failure),
        page_refused: false,
        large_refused: false,
        notified_at: None,
        fetch_deadline: None,
        push_after_deadline: false,
        expires_at: first.message.expires_at,
        hand_over_to: None,
        devices: Vec::new(),
    };
    let update = Change::Update { recipient: world.key.clone(), id: first.id, state: Box::new(state) };
    world.store.apply(world.now, Transaction { changes: vec![update], settles: true });
    world.tell(Input::QueueGrew);
    world.seconds(50);
    assert!(world.delivered.is_empty());
    world.seconds(30);
    assert_eq!(world.delivered.len(), 9);
    assert!(world.delivered.is_sorted());
}

#[test]
fn a_count_that_commits_overtook_is_taken_again() {
    let mut world = small();
    world.policy = Box::new(pages_all);
    world.arrives(message("m1"));
    world.seconds(5);
    stores_elsewhere(&mut world, "m2");
    world.load_delay = 20;
    world.commit_delay = 5;
    world.tell(Input::QueueGrew);
    // Stored after the queue was counted, and known to be before the count comes.
    world.arrives(message("m3"));
    world.seconds(5);
    world.arrives(message("m4"));
    assert_eq!(last_count(&world), Some(3));
}

#[test]
fn what_was_let_go_behind_a_message_that_stopped_it_is_not_overtaken() {
    let mut world = small();
    world.policy = Box::new(|question| match question {
        Question::Failure(..) => Ok(Answer::Failure(Vec::new())),
        question => pages_all(question),
    });
    world.devices = Box::new(|_, _| vec![(1000, Deed::Ends(timeout()))]);
    for number in 0..9 {
        world.arrives(message(&format!("m{number}")));
    }
    world.seconds(10);
    world.registers(&[phone()]);
    world.seconds(10);
    assert_eq!(world.log(), ["page m0 #0 to 1"]);
    world.crashes();
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    // The alarm rings, so the queue is read through for what may be handed over; the recipient registers in the middle
    // of it.
    let change = Change::WakeAt { recipient: world.key.clone(), at: Some(world.now) };
    world.store.apply(world.now, Transaction { changes: vec![change], settles: false });
    world.load_delay = 20;
    world.run_for(Duration::from_millis(50));
    world.registers(&[phone()]);
    world.seconds(30);
    assert_eq!(world.delivered, (0..9).map(|number| format!("m{number}")).collect::<Vec<_>>());
}

#[test]
fn a_retry_is_not_forgotten_whose_time_is_being_stored_when_another_was_due() {
    let mut world = small();
    world.policy = Box::new(|question| match question {
        Question::Failure(_, failure) => {
            let retry =
                |after_milliseconds| FailureAction::Retry(Retry { after_milliseconds, mode: None, contact: None });
            let answer = |message| FailureAnswer { message, action: retry(100_000) };
            Ok(Answer::Failure(failure.messages.iter().map(|failed| answer(failed.message.id)).collect()))
        }
        question => pages_all(question),
    });
    for number in 1..=20 {
        world.arrives(message(&format!("m{number:02}")));
    }
    world.seconds(10);
    world.commit_delay = 20;
    world.devices = Box::new(|_, _| vec![(1000, Deed::Ends(timeout()))]);
    world.registers(&[phone()]);
    world.seconds(5);
    let was_due = world.store.queue(&world.key)[0].not_before.expect("a retry");
    // It goes before that time, after a registration; the seventh fails a moment before that time.
    world.devices = Box::new(move |now, attempt| match &attempt.task {
        AttemptTask::Page { message, .. } if message.id.0 == 7 && message.attempts == 0 => {
            vec![(was_due.since(now).0 - 10, Deed::Ends(timeout()))]
        }
        _ => takes_all(attempt),
    });
    world.registers(&[phone()]);
    world.seconds(90);
    assert_eq!(world.delivered.len(), 6);
    world.seconds(100);
    assert_eq!(world.delivered.len(), 6);
    world.seconds(20);
    assert_eq!(world.delivered.len(), 20);
    assert!(world.delivered.is_sorted());
}
