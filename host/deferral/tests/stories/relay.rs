//! Messages that are passed on.

use std::cell::RefCell;
use std::rc::Rc;

use restante_deferral::decision::{Answer, AttemptKind, IncomingAnswer, Question, Relay};
use restante_deferral::model::{ContactId, Counts, Duration, Origin};
use restante_deferral::participating_function::{Arrival, AttemptTask, Event, Input, Invitation, Reply};

use super::simulator::build::*;
use super::simulator::{Deed, World, takes_all};

/// Relays everything, with this deadline.
fn relays(deadline_milliseconds: u32) -> super::simulator::Policy {
    Box::new(move |question| match question {
        Question::Incoming(context, _) => Ok(Answer::Incoming(IncomingAnswer::Relay(Relay {
            deadline_milliseconds,
            contacts: Vec::new(),
            otherwise: keep(context.now),
        }))),
        question => pages_all(question),
    })
}

fn available(deadline_milliseconds: u32) -> World {
    let mut world = World::new();
    world.policy = relays(deadline_milliseconds);
    world.registers(&[phone()]);
    world.seconds(10);
    world
}

/// The relayed request ends like this; everything else goes well.
fn relay_ends(world: &mut World, after: u64, status: Option<u16>, origin: Origin) {
    world.devices = Box::new(move |_, attempt| match &attempt.task {
        AttemptTask::Relay { .. } => vec![(after, Deed::Ends(end(status, origin)))],
        _ => takes_all(attempt),
    });
}

#[test]
fn the_sender_gets_the_devices_own_answer() {
    for (status, origin) in [(200, Origin::Device), (403, Origin::Device), (404, Origin::Device), (603, Origin::Device)]
    {
        let mut world = available(5000);
        relay_ends(&mut world, 100, Some(status), origin);
        let token = world.arrives(message("m1"));
        world.seconds(1);
        assert_eq!(world.reply(token), Some(&Reply::Relayed { status }));
        assert_eq!(world.commits, 0, "nothing is stored");
    }
}

#[test]
fn what_there_is_no_room_for_is_passed_on_and_refused_only_when_that_fails() {
    for (end, expected) in [(Some(200), 200), (Some(486), 480), (None, 480)] {
        let mut world = available(5000);
        relay_ends(&mut world, 100, end, Origin::Device);
        let token = world.arrives(Arrival { has_room: false, ..message("m1") });
        world.seconds(1);
        let status = match world.reply(token) {
            Some(Reply::Relayed { status } | Reply::Refused { status, .. }) => *status,
            other => panic!("{other:?}"),
        };
        assert_eq!((status, world.commits), (expected, 0), "{end:?}");
    }
    // The deadline passes while the request is under way.
    let mut world = available(200);
    relay_ends(&mut world, 100_000, Some(200), Origin::Device);
    let token = world.arrives(Arrival { has_room: false, ..message("m1") });
    world.seconds(1);
    let Some(Reply::Refused { status: 480, .. }) = world.reply(token) else { panic!("{:?}", world.reply(token)) };
    assert_eq!(world.commits, 0);
}

#[test]
fn anything_else_is_kept_and_tried_again() {
    let table = [
        (Some(404), Origin::Core),
        (Some(480), Origin::Core),
        (Some(603), Origin::Core),
        (Some(486), Origin::Device),
        (None, Origin::Timeout),
        (None, Origin::Transport),
    ];
    for (status, origin) in table {
        let mut world = available(5000);
        relay_ends(&mut world, 100, status, origin);
        let token = world.arrives(message("m1"));
        world.seconds(1);
        assert_eq!(world.reply(token), Some(&Reply::Accepted), "{status:?} {origin:?}");
        assert_eq!(world.waiting(), ["m1"]);
        let asked = world.questions.iter().filter(
            |question| matches!(question, Question::Failure(_, failure) if failure.attempt == AttemptKind::Relay),
        );
        assert_eq!(asked.count(), 1);
        world.seconds(60);
        assert!(world.waiting().is_empty());
        assert_eq!(world.delivered, ["m1"]);
    }
}

#[test]
fn after_the_deadline_the_message_is_kept_while_the_branch_lives_on() {
    let mut world = available(60_000);
    relay_ends(&mut world, 20_000, Some(200), Origin::Device);
    let token = world.arrives(message("m1"));
    world.run_for(Duration::from_millis(2900));
    assert_eq!(world.reply(token), None);
    world.run_for(Duration::from_millis(200));
    assert_eq!(world.reply(token), Some(&Reply::Accepted), "no later than the host's own deadline");
    assert_eq!(world.waiting(), ["m1"]);
    // No second attempt begins while the branch lives, not even at a registration.
    world.registers(&[phone()]);
    world.seconds(10);
    assert_eq!(world.log(), ["relay m1 to 1"]);
    world.seconds(10);
    assert!(world.waiting().is_empty(), "the late 2xx marks it delivered");
    world.seconds(3600);
    assert_eq!(world.log(), ["relay m1 to 1"]);
}

#[test]
fn a_branch_that_ends_late_without_success_leaves_the_message_to_be_tried_again() {
    let mut world = available(1000);
    relay_ends(&mut world, 20_000, None, Origin::Timeout);
    world.arrives(message("m1"));
    world.seconds(2);
    world.arrives(message("m2"));
    world.seconds(10);
    assert_eq!(world.log(), ["relay m1 to 1"], "m2 must not overtake m1");
    world.seconds(60);
    assert_eq!(world.delivered, ["m1", "m2"]);
}

#[test]
fn accepted_only_after_the_commit_here_too() {
    let mut world = available(1000);
    relay_ends(&mut world, 20_000, Some(200), Origin::Device);
    world.hold_commits = true;
    let token = world.arrives(message("m1"));
    world.seconds(10);
    assert_eq!(world.reply(token), None);
    world.seconds(15);
    world.let_commits_through();
    world.seconds(1);
    assert_eq!(world.reply(token), Some(&Reply::Accepted));
    world.seconds(1);
    assert!(world.waiting().is_empty(), "the device had it before the store");
}

#[test]
fn a_message_that_cannot_be_kept_but_was_delivered_is_answered_so() {
    let mut world = available(1000);
    relay_ends(&mut world, 1500, Some(200), Origin::Device);
    world.commit_delay = 2000;
    world.fail_commits = Some(restante_deferral::commit::CommitError::Full);
    let token = world.arrives(message("m1"));
    world.seconds(10);
    assert_eq!(world.reply(token), Some(&Reply::Relayed { status: 200 }));
}

#[test]
fn a_branch_is_cancelled_when_its_message_cannot_be_kept() {
    let mut world = available(1000);
    relay_ends(&mut world, 20_000, Some(200), Origin::Device);
    world.fail_commits = Some(restante_deferral::commit::CommitError::Full);
    let token = world.arrives(message("m1"));
    world.seconds(5);
    assert_eq!(world.reply(token), Some(&Reply::Unavailable(restante_deferral::commit::CommitError::Full)));
    assert_eq!(world.cancelled, [world.attempts[0].1.id]);
    // The sender sends it again.
    world.fail_commits = None;
    world.policy = Box::new(pages_all);
    world.arrives(message("m1"));
    world.seconds(60);
    assert_eq!(world.log(), ["relay m1 to 1", "page m1 #0 to 1"]);
    assert!(world.evicts());
}

#[test]
fn without_contacts_it_is_kept_at_once() {
    let mut world = World::new();
    world.policy = relays(3000);
    let token = world.arrives(message("m1"));
    world.seconds(1);
    assert_eq!(world.reply(token), Some(&Reply::Accepted));
    assert!(world.attempts.is_empty());
}

#[test]
fn a_message_is_not_relayed_past_those_that_wait() {
    let mut world = World::new();
    world.policy = relays(3000);
    world.arrives(message("m1"));
    world.seconds(1);
    world.registers(&[phone()]);
    world.arrives(message("m2"));
    world.seconds(10);
    assert_eq!(world.log(), ["page m1 #0 to 1", "page m2 #0 to 1"]);
}

#[test]
fn a_large_message_is_not_relayed() {
    let mut world = available(3000);
    let token = world.arrives(large("m1"));
    world.seconds(1);
    assert_eq!(world.reply(token), Some(&Reply::Accepted));
    assert!(world.log().iter().all(|line| !line.starts_with("relay")));
}

#[test]
fn expires_nought_is_now_or_never() {
    // The device's answer after so long; what the sender gets.
    type Row = (Option<(u64, Option<u16>, Origin)>, Option<u16>);
    let table: [Row; 5] = [
        (None, None),
        (Some((100, Some(200), Origin::Device)), Some(200)),
        (Some((100, Some(404), Origin::Device)), Some(404)),
        (Some((100, Some(480), Origin::Core)), None),
        (Some((20_000, Some(200), Origin::Device)), None),
    ];
    for policy in [relays(5000), Box::new(pages_all)] {
        let mut policy = Some(policy);
        for (answer, relayed) in table {
            let mut world = World::new();
            if let Some(policy) = policy.take() {
                world.policy = policy;
            }
            if let Some((after, status, origin)) = answer {
                world.registers(&[phone()]);
                world.seconds(10);
                relay_ends(&mut world, after, status, origin);
            }
            let mut arrival = message("m1");
            arrival.expires_at = Some(world.now);
            let token = world.arrives(arrival);
            world.seconds(30);
            match relayed {
                Some(status) => assert_eq!(world.reply(token), Some(&Reply::Relayed { status })),
                None => assert!(matches!(world.reply(token), Some(Reply::Refused { status: 480, .. }))),
            }
            assert_eq!(world.count(|event| matches!(event, Event::Stored(_))), 0);
            assert!(world.waiting().is_empty());
        }
    }
}

#[test]
fn it_goes_to_every_contact_that_is_free_and_takes_it() {
    let mut world = World::new();
    world.policy = relays(3000);
    let mut deaf = contact(3, 900);
    deaf.abilities.page_mode = false;
    world.registers(&[phone(), contact(2, 500), deaf]);
    world.seconds(10);
    relay_ends(&mut world, 20_000, Some(200), Origin::Device);
    world.arrives(message("m1"));
    world.seconds(10);
    assert_eq!(world.log(), ["relay m1 to 1 to 2"]);
    // They stay busy with it, also when they register again.
    world.registers(&[phone(), contact(2, 500)]);
    world.arrives(message("m2"));
    world.seconds(5);
    assert_eq!(world.log(), ["relay m1 to 1 to 2"]);
    world.seconds(60);
    assert!(world.waiting().is_empty());
    assert_eq!(world.log().len(), 2);
}

#[test]
fn of_a_devices_flows_one_gets_it() {
    let mut world = World::new();
    world.policy = relays(3000);
    let other_flow = restante_deferral::model::Contact { device: phone().device, ..contact(2, 500) };
    world.registers(&[phone(), other_flow, contact(3, 200)]);
    world.seconds(10);
    world.arrives(message("m1"));
    world.seconds(1);
    assert_eq!(world.log(), ["relay m1 to 1 to 3"]);
}

#[test]
fn after_a_crash_what_was_kept_while_it_was_passed_on_goes_out_without_a_registration() {
    let mut world = available(1000);
    relay_ends(&mut world, 60_000, None, Origin::Timeout);
    world.arrives(message("m1"));
    world.seconds(20);
    assert_eq!((world.log(), world.waiting()), (vec!["relay m1 to 1".to_owned()], vec!["m1".to_owned()]));
    world.crashes();
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(30);
    assert!(world.waiting().is_empty(), "{:?}", world.log());
}

#[test]
fn a_late_time_out_says_nothing_of_a_contact_that_registered_anew() {
    let mut world = available(1000);
    relay_ends(&mut world, 20_000, None, Origin::Timeout);
    world.arrives(message("m1"));
    world.seconds(5);
    world.refreshes();
    world.seconds(30);
    world.arrives(message("m2"));
    world.seconds(1);
    let seen = world.questions.iter().rev().find_map(|question| match question {
        Question::Incoming(_, incoming) => Some(incoming.contacts.clone()),
        _ => None,
    });
    let seen = seen.expect("a question");
    assert!(seen.iter().all(|contact| contact.last_failure.is_none()), "{seen:?}");
}

#[test]
fn the_invite_of_a_large_message_is_passed_on_while_somebody_is_there_and_nothing_waits() {
    let invites = |world: &mut World| {
        let reply = world.token();
        let invitation = Invitation {
            reply,
            request: Default::default(),
            envelope: large("m1").envelope,
            size_bytes: None,
            sender_counts: Counts::default(),
            tenant_counts: Counts::default(),
            recipient_rates: Counts::default(),
            upstream_failure: None,
        };
        world.tell(Input::Invitation(Box::new(invitation)));
        world.seconds(1);
        world.reply(reply).cloned()
    };
    let mut world = World::new();
    world.policy = relays(60_000);
    assert_eq!(invites(&mut world), Some(Reply::Invite), "nobody is there");
    let mut deaf = phone();
    deaf.abilities.large_message_mode = false;
    world.registers(&[deaf]);
    assert_eq!(invites(&mut world), Some(Reply::Invite), "nobody takes it");
    world.registers(&[phone()]);
    world.seconds(10);
    let longest = Duration::from_secs(15);
    assert_eq!(
        invites(&mut world),
        Some(Reply::PassOn { deadline: longest, contacts: Vec::new() }),
        "no longer than the host's own deadline"
    );
    world.policy = relays(2_000);
    assert_eq!(invites(&mut world), Some(Reply::PassOn { deadline: Duration::from_secs(2), contacts: Vec::new() }));
    world.devices = Box::new(|_, _| Vec::new());
    world.policy = Box::new(pages_all);
    world.arrives(message("m1"));
    world.seconds(5);
    world.policy = relays(2_000);
    assert_eq!(invites(&mut world), Some(Reply::Invite), "it would overtake");
}

#[test]
fn a_message_goes_to_the_contacts_that_the_policy_names_and_is_kept_where_none_of_them_is_left() {
    for (named, expected) in [(vec![2], Some(vec![2])), (vec![1, 2], Some(vec![1, 2])), (vec![7], None)] {
        let mut world = World::new();
        let contacts: Vec<ContactId> = named.iter().copied().map(ContactId).collect();
        world.policy = Box::new(move |question| match question {
            Question::Incoming(context, _) => Ok(Answer::Incoming(IncomingAnswer::Relay(Relay {
                deadline_milliseconds: 2000,
                contacts: contacts.clone(),
                otherwise: keep(context.now),
            }))),
            question => pages_all(question),
        });
        world.registers(&[contact(1, 1000), contact(2, 500)]);
        world.seconds(10);
        let relayed = Rc::new(RefCell::new(None));
        let seen = relayed.clone();
        world.devices = Box::new(move |_, attempt| match &attempt.task {
            AttemptTask::Relay { contacts, .. } => {
                *seen.borrow_mut() = Some(contacts.iter().map(|contact| contact.0).collect::<Vec<_>>());
                vec![(100, Deed::Ends(end(Some(200), Origin::Device)))]
            }
            _ => takes_all(attempt),
        });
        let token = world.arrives(message("m1"));
        world.seconds(1);
        let reply = if expected.is_some() { Reply::Relayed { status: 200 } } else { Reply::Accepted };
        assert_eq!((world.reply(token), relayed.borrow().clone()), (Some(&reply), expected), "{named:?}");
    }
}

#[test]
fn what_is_not_to_be_stored_goes_to_the_contacts_that_the_policy_names_alone() {
    for (named, expected) in [(vec![2], Some("relay m1 to 2")), (vec![], Some("relay m1 to 1 to 2")), (vec![7], None)] {
        let mut world = World::new();
        let contacts: Vec<ContactId> = named.iter().copied().map(ContactId).collect();
        world.policy = Box::new(move |question| match question {
            Question::Incoming(context, _) => Ok(Answer::Incoming(IncomingAnswer::Relay(Relay {
                deadline_milliseconds: 2000,
                contacts: contacts.clone(),
                otherwise: keep(context.now),
            }))),
            question => pages_all(question),
        });
        world.registers(&[contact(1, 1000), contact(2, 500)]);
        world.seconds(10);
        relay_ends(&mut world, 100, Some(200), Origin::Device);
        let mut arrival = message("m1");
        arrival.expires_at = Some(world.now);
        let token = world.arrives(arrival);
        world.seconds(1);
        assert_eq!(world.log(), expected.into_iter().collect::<Vec<_>>(), "{named:?}");
        match expected {
            Some(_) => assert_eq!(world.reply(token), Some(&Reply::Relayed { status: 200 })),
            None => assert!(matches!(world.reply(token), Some(Reply::Refused { status: 480, .. })), "{named:?}"),
        }
    }
}

#[test]
fn a_repetition_of_what_a_device_took_gets_its_answer_and_goes_nowhere() {
    for (status, attempts) in [(200, 1), (404, 2)] {
        let mut world = available(5000);
        relay_ends(&mut world, 100, Some(status), Origin::Device);
        for _ in 0..2 {
            let token = world.arrives(message("m1"));
            world.seconds(1);
            assert_eq!(world.reply(token), Some(&Reply::Relayed { status }));
        }
        // Who refused it may be asked again.
        assert_eq!((world.log().len(), world.commits), (attempts, 0), "{status}");
    }
}
