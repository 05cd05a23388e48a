//! A client fetches.

use restante_deferral::decision::{
    AfterDeadline, Answer, NotifyStep, PullAnswer, PullDelivery, Question, Rejection, Selection, Step, Undecided,
};
use restante_deferral::model::{ContactId, Duration, MessageId, Mode, Origin};
use restante_deferral::participating_function::{AttemptTask, Event, Input, Limits, PullRequest, Reply, ReplyToken};

use super::simulator::build::*;
use super::simulator::{Deed, World, takes_all};

const PHONE: Option<ContactId> = Some(ContactId(1));

/// Keeps, holds, and gives a pull what it asks for.
fn on_demand(mode: Mode, keep_copy: bool) -> super::simulator::Policy {
    Box::new(move |question| match question {
        Question::Available(..) => planned(Vec::new()),
        Question::Pull(_, pull) => {
            Ok(Answer::Pull(PullAnswer::Send(PullDelivery { messages: ids(&pull.messages), mode, keep_copy })))
        }
        question => pages_all(question),
    })
}

fn with_messages(names: &[&str]) -> World {
    messages_under(on_demand(Mode::Large, false), names)
}

fn pulls(world: &mut World, request: PullRequest) -> ReplyToken {
    let reply = world.token();
    world.tell(Input::Pull(Box::new(PullRequest { reply, ..request })));
    reply
}

#[test]
fn a_client_gets_all_that_waits_or_what_it_names() {
    let mut world = with_messages(&["m1", "m2", "m3"]);
    pulls(&mut world, pull(PHONE, Selection::Listed(vec![MessageId(1), MessageId(3), MessageId(77)])));
    world.seconds(1);
    assert_eq!(world.log(), ["pull Large m1 m3"]);
    assert_eq!(world.waiting(), ["m2"]);
    pulls(&mut world, pull(None, Selection::All));
    world.seconds(1);
    assert_eq!(world.log()[1], "pull Large m2");
    assert_eq!(world.delivered, ["m1", "m3", "m2"]);
    assert!(world.everybody_is_answered());
}

#[test]
fn nothing_waiting_is_said_so() {
    let mut world = with_messages(&[]);
    let token = pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(1);
    assert_eq!(world.reply(token), Some(&Reply::NothingWaiting));
    world.arrives(message("m1"));
    world.seconds(1);
    let token = pulls(&mut world, pull(PHONE, Selection::Listed(vec![MessageId(9)])));
    world.seconds(1);
    assert_eq!(world.reply(token), Some(&Reply::NothingWaiting));
}

#[test]
fn a_policy_refuses_and_nonsense_is_replaced() {
    let mut world = with_messages(&["m1"]);
    world.policy = Box::new(|_| {
        let reason = String::from("Not You");
        Ok(Answer::Pull(PullAnswer::Refuse(Rejection { status: 403, reason, retry_after_seconds: None })))
    });
    let token = pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(1);
    assert!(matches!(world.reply(token), Some(Reply::Refused { status: 403, .. })));
    world.policy = Box::new(|_| {
        let delivery = PullDelivery { messages: vec![MessageId(5)], mode: Mode::Large, keep_copy: false };
        Ok(Answer::Pull(PullAnswer::Send(delivery)))
    });
    pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(1);
    assert_eq!(world.count(|event| *event == Event::FellBack(Undecided::Impossible, "on-pull")), 1);
    assert_eq!(world.delivered, ["m1"]);
}

#[test]
fn a_policy_that_gives_nothing_is_asked_once() {
    let mut world = with_messages(&["m1"]);
    world.policy = Box::new(|question| match question {
        Question::Pull(..) => {
            let delivery = PullDelivery { messages: Vec::new(), mode: Mode::Large, keep_copy: false };
            Ok(Answer::Pull(PullAnswer::Send(delivery)))
        }
        question => pages_all(question),
    });
    let token = pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(1);
    assert_eq!(world.reply(token), Some(&Reply::NothingWaiting));
    assert_eq!(world.questions.iter().filter(|question| matches!(question, Question::Pull(..))).count(), 1);
    assert_eq!(world.waiting(), ["m1"]);
}

#[test]
fn a_pull_does_not_race_a_push() {
    let mut world = World::new();
    world.policy = Box::new(|question| match question {
        Question::Pull(..) => Err(Undecided::Declined),
        question => pages_all(question),
    });
    for name in ["m1", "m2"] {
        world.arrives(message(name));
    }
    world.seconds(1);
    world.devices = Box::new(|_, attempt| match &attempt.task {
        AttemptTask::Page { .. } => vec![(5000, Deed::Ends(end(Some(200), Origin::Device)))],
        _ => takes_all(attempt),
    });
    world.registers(&[phone()]);
    world.seconds(3);
    assert_eq!(world.log(), ["page m1 #0 to 1"]);
    // m1 is on its way; the pull gets the rest, and the push finds nothing more to do.
    pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(20);
    assert_eq!(world.log(), ["page m1 #0 to 1", "pull Large m2 to 1"]);
    let mut delivered = world.delivered.clone();
    delivered.sort();
    assert_eq!(delivered, ["m1", "m2"]);
}

#[test]
fn a_pull_waits_a_while_for_what_is_in_other_hands() {
    let nothing = Some(Reply::NothingWaiting);
    // After so long the push of the only message ends like this; so the pull is answered, so long after it came.
    for (name, ends_after, with, log, reply, reply_after) in [
        ("it failed", 3000, end(Some(480), Origin::Device), vec!["page m1 #0 to 1", "pull Large m1 to 1"], None, 2000),
        (
            "nobody answers",
            3000,
            end(None, Origin::Transport),
            vec!["page m1 #0 to 1", "pull Large m1 to 1"],
            None,
            2000,
        ),
        ("it went", 3000, end(Some(200), Origin::Device), vec!["page m1 #0 to 1"], nothing.clone(), 2000),
        ("it takes long", 30_000, end(Some(200), Origin::Device), vec!["page m1 #0 to 1"], nothing.clone(), 5000),
    ] {
        let mut world = World::new();
        world.policy = Box::new(|question| match question {
            Question::Pull(..) => Err(Undecided::Declined),
            Question::Failure(..) => Ok(Answer::Failure(Vec::new())),
            question => pages_all(question),
        });
        world.arrives(message("m1"));
        world.seconds(1);
        world.devices = Box::new(move |_, attempt| match &attempt.task {
            AttemptTask::Page { .. } => vec![(ends_after, Deed::Ends(with.clone()))],
            _ => takes_all(attempt),
        });
        world.registers(&[phone()]);
        world.seconds(3);
        assert_eq!(world.log(), ["page m1 #0 to 1"], "{name}");
        let token = pulls(&mut world, pull(PHONE, Selection::All));
        world.run_for(Duration::from_millis(reply_after - 100));
        assert_eq!((world.reply(token), world.log().len()), (None, 1), "{name}");
        world.run_for(Duration::from_millis(200));
        assert_eq!(world.log(), log, "{name}");
        assert_eq!(world.reply(token), reply.as_ref(), "{name}");
        world.seconds(40);
        assert_eq!(world.delivered, ["m1"], "{name}");
        assert!(world.everybody_is_answered(), "{name}");
    }
}

#[test]
fn a_pull_waits_until_is_decided_what_to_do_after_a_failure() {
    let mut world = World::new();
    world.policy = Box::new(|question| match question {
        Question::Pull(..) => Err(Undecided::Declined),
        Question::Failure(..) => Ok(Answer::Failure(Vec::new())),
        question => pages_all(question),
    });
    world.arrives(message("m1"));
    world.seconds(1);
    world.devices = Box::new(|_, attempt| match &attempt.task {
        AttemptTask::Page { .. } => vec![(10, Deed::Ends(end(Some(404), Origin::Core)))],
        _ => takes_all(attempt),
    });
    world.policy_delay = 1000;
    world.registers(&[phone()]);
    // Two seconds of registration delay, one for the plan; then `on-failure` is being asked.
    world.run_for(Duration::from_millis(3500));
    assert_eq!(world.log(), ["page m1 #0 to 1"]);
    pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(4);
    assert_eq!(world.log(), ["page m1 #0 to 1", "pull Large m1 to 1"]);
    assert_eq!(world.delivered, ["m1"]);
}

#[test]
fn two_pulls_do_not_get_the_same_message() {
    let mut world = with_messages(&["m1", "m2"]);
    world.policy_delay = 10;
    let first = pulls(&mut world, pull(PHONE, Selection::All));
    let second = pulls(&mut world, pull(Some(ContactId(2)), Selection::All));
    world.seconds(1);
    assert_eq!(world.log(), ["pull Large m1 m2"]);
    assert_eq!((world.reply(first), world.reply(second)), (None, Some(&Reply::NothingWaiting)));
}

#[test]
fn what_a_client_breaks_off_goes_back_and_can_be_fetched_again() {
    let mut world = with_messages(&["m1", "m2", "m3"]);
    let mut first = true;
    world.devices = Box::new(move |_, attempt| {
        if std::mem::take(&mut first) {
            return vec![(10, Deed::Takes(MessageId(1))), (20, Deed::Ends(end(Some(200), Origin::Transport)))];
        }
        takes_all(attempt)
    });
    pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(1);
    assert_eq!(world.waiting(), ["m2", "m3"]);
    assert!(world.store.queue(&world.key).iter().all(|row| row.attempts == 0 && row.last_failure.is_none()));
    pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(1);
    assert_eq!(world.delivered, ["m1", "m2", "m3"]);
}

#[test]
fn a_kept_copy_waits_for_other_devices_only() {
    let mut world = with_messages(&["m1"]);
    world.policy = on_demand(Mode::Large, true);
    world.registers(&[contact(1, 100)]);
    world.seconds(10);
    pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(1);
    assert_eq!(world.waiting(), ["m1"]);
    let again = pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(1);
    assert_eq!(world.reply(again), Some(&Reply::NothingWaiting));
    // Not pushed to that device either, but to another one.
    world.policy = Box::new(pages_all);
    world.registers(&[contact(1, 100)]);
    world.seconds(10);
    assert_eq!(world.log().len(), 1);
    world.registers(&[contact(1, 100), contact(2, 10)]);
    world.seconds(10);
    assert_eq!(world.log()[1..], ["page m1 #1 to 2"]);
    assert!(world.waiting().is_empty());
}

#[test]
fn nobody_is_told_of_a_failure_when_the_copy_of_a_message_that_was_delivered_expires() {
    for keep_copy in [true, false] {
        let mut world = World::new();
        world.policy = on_demand(Mode::Large, keep_copy);
        world.arrives(asking(message("m1"), negative()));
        world.arrives(asking(message("m2"), negative()));
        world.seconds(1);
        world.registers(&[contact(1, 100)]);
        world.seconds(10);
        pulls(&mut world, pull(PHONE, Selection::Listed(vec![MessageId(1)])));
        world.seconds(1);
        assert_eq!(world.delivered, ["m1"]);
        world.seconds(8 * 24 * 3600);
        assert!(world.waiting().is_empty());
        let alice = key("sip:alice@example.org");
        let reports: Vec<_> = world.store.queue(&alice).iter().map(|it| format!("{:?}", it.message.body)).collect();
        assert_eq!(reports.len(), 1, "{keep_copy}: {reports:?}");
        assert!(reports[0].contains("<message-id>m2</message-id>"), "{keep_copy}: {reports:?}");
    }
}

#[test]
fn page_mode_ends_the_session_and_messages_follow() {
    let mut world = with_messages(&["m1", "m2"]);
    world.policy = on_demand(Mode::Page, false);
    world.registers(&[phone()]);
    world.seconds(10);
    pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(10);
    assert_eq!(world.log(), ["pull Page m1 m2 to 1", "page m1 #1 to 1", "page m2 #1 to 1"]);
    assert!(world.waiting().is_empty());
}

#[test]
fn a_copy_is_kept_of_what_follows_in_page_mode_too() {
    let mut world = with_messages(&["m1", "m2"]);
    world.policy = on_demand(Mode::Page, true);
    world.registers(&[phone()]);
    world.seconds(10);
    pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(10);
    assert_eq!(world.delivered, ["m1", "m2"]);
    assert_eq!(world.waiting(), ["m1", "m2"]);
    // Another device gets it, and with that nobody waits for it any more.
    world.policy = Box::new(pages_all);
    world.registers(&[phone(), contact(2, 10)]);
    world.seconds(10);
    assert_eq!(world.log()[3..], ["page m1 #2 to 2", "page m2 #2 to 2"]);
    assert!(world.waiting().is_empty());
}

#[test]
fn what_follows_a_pull_in_page_mode_follows_a_plan_that_delivers_no_more_too() {
    let mut world = World::new();
    world.policy = Box::new(|question| match question {
        Question::Failure(..) => Ok(Answer::Failure(Vec::new())),
        Question::Pull(..) => on_demand(Mode::Page, false)(question),
        question => pages_all(question),
    });
    for name in ["m1", "m2"] {
        world.arrives(message(name));
    }
    world.seconds(1);
    world.devices = Box::new(|_, attempt| match &attempt.task {
        AttemptTask::Page { message, .. } if message.id.0 == 1 => vec![(1000, Deed::Ends(timeout()))],
        _ => takes_all(attempt),
    });
    world.registers(&[phone()]);
    world.run_for(Duration::from_millis(2500));
    assert_eq!(world.log(), ["page m1 #0 to 1"]);
    // What to do about m1 takes long to decide, and meanwhile the client fetches the rest.
    world.policy_delay = 3000;
    world.seconds(1);
    world.policy_delay = 0;
    pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(10);
    assert_eq!(world.log(), ["page m1 #0 to 1", "pull Page m2 to 1", "page m2 #1 to 1"]);
    assert_eq!(world.waiting(), ["m1"]);
}

#[test]
fn page_mode_for_a_client_that_is_not_registered_is_not_possible() {
    let mut world = with_messages(&["m1"]);
    world.policy = on_demand(Mode::Page, false);
    pulls(&mut world, pull(None, Selection::All));
    world.seconds(1);
    assert_eq!(world.log(), ["pull Large m1"]);
    assert_eq!(world.count(|event| *event == Event::FellBack(Undecided::Impossible, "on-pull")), 1);
}

#[test]
fn what_the_client_cannot_take_is_not_offered() {
    let mut world = with_messages(&["m1"]);
    let mut image = message("m2");
    image.envelope.wrapped_type = Some(String::from("image/png"));
    world.arrives(image);
    let mut big = message("m3");
    big.body = restante_deferral::model::Body::Inline(vec![b'x'; 5000].into());
    world.arrives(big);
    world.seconds(1);
    let mut request = pull(PHONE, Selection::All);
    request.accept_wrapped_types = vec![String::from("text/*")];
    request.max_size_bytes = Some(4000);
    pulls(&mut world, request);
    world.seconds(1);
    assert_eq!(world.delivered, ["m1"]);
    assert_eq!(world.waiting(), ["m2", "m3"]);
}

#[test]
fn a_notified_client_that_fetches_is_not_pushed_to() {
    let mut world = World::new();
    world.policy = Box::new(|question| match question {
        Question::Available(context, availability) => {
            let fetch_deadline = context.now.after(Duration::from_secs(100));
            let messages = ids(&availability.messages);
            planned(vec![Step::Notify(NotifyStep { messages, fetch_deadline, afterwards: AfterDeadline::Push })])
        }
        Question::Pull(..) => Err(Undecided::Declined),
        question => pages_all(question),
    });
    for name in ["m1", "m2", "m3"] {
        world.arrives(message(name));
    }
    world.seconds(1);
    // The client is quick: it fetches before its own 200 to the NOTIFY is here.
    world.devices = Box::new(|_, attempt| match &attempt.task {
        AttemptTask::Notify { .. } => vec![(500, Deed::Ends(end(Some(200), Origin::Device)))],
        _ => takes_all(attempt),
    });
    world.registers(&[subscribed(phone())]);
    world.run_for(Duration::from_millis(2100));
    pulls(&mut world, pull(PHONE, Selection::Listed(vec![MessageId(1), MessageId(2)])));
    world.seconds(50);
    assert_eq!(world.waiting(), ["m3"]);
    world.seconds(100);
    assert_eq!(world.log(), ["notify m1 m2 m3 to 1", "pull Large m1 m2 to 1", "page m3 #0 to 1"]);
}

#[test]
fn a_pull_while_the_store_cannot_be_read_is_told() {
    let mut world = with_messages(&["m1"]);
    world.store.fail_loads = true;
    let token = pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(1);
    assert!(matches!(world.reply(token), Some(Reply::Unavailable(_))));
}

/// So many messages that wait and are not in memory.
fn with_many(range: std::ops::Range<usize>) -> World {
    let names: Vec<String> = range.map(|number| format!("m{number}")).collect();
    with_messages(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn what_a_client_cannot_take_hides_nothing_behind_it() {
    let mut world = World::new();
    world.policy = on_demand(Mode::Large, false);
    for number in 100..220 {
        let mut image = message(&format!("i{number}"));
        image.envelope.wrapped_type = Some(String::from("image/png"));
        world.arrives(image);
    }
    for number in 10..20 {
        world.arrives(message(&format!("m{number}")));
    }
    world.seconds(1);
    let of_text = |selection| {
        let accept_wrapped_types = vec![String::from("text/*")];
        PullRequest { accept_wrapped_types, ..pull(None, selection) }
    };
    let images = world.store.queue(&world.key).iter().take(3).map(|row| row.id).collect();
    let token = pulls(&mut world, of_text(Selection::Listed(images)));
    world.seconds(1);
    assert_eq!(world.reply(token), Some(&Reply::NothingWaiting));
    pulls(&mut world, of_text(Selection::All));
    world.seconds(1);
    assert_eq!(world.log(), ["pull Large m10 m11 m12 m13 m14 m15 m16 m17 m18 m19"]);
    let nothing = pulls(&mut world, of_text(Selection::All));
    world.seconds(1);
    assert_eq!(world.reply(nothing), Some(&Reply::NothingWaiting));
    assert_eq!(world.waiting().len(), 120);
    assert!(world.evicts());
}

#[test]
fn a_client_whose_copies_stay_gets_all_of_a_long_queue() {
    let mut world = with_many(100..220);
    world.policy = on_demand(Mode::Large, true);
    for _ in 0..3 {
        pulls(&mut world, pull(PHONE, Selection::All));
        world.seconds(2);
    }
    let all: Vec<String> = (100..220).map(|number| format!("m{number}")).collect();
    assert_eq!(world.delivered, all);
    let nothing = pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(1);
    assert_eq!(world.reply(nothing), Some(&Reply::NothingWaiting));
    assert_eq!(world.waiting().len(), 120);
}

#[test]
fn a_client_that_fetches_in_rounds_waits_for_no_removal() {
    let mut world = with_many(100..220);
    world.hold_commits = true;
    for _ in 0..3 {
        pulls(&mut world, pull(PHONE, Selection::All));
        world.seconds(2);
    }
    let all: Vec<String> = (100..220).map(|number| format!("m{number}")).collect();
    assert_eq!(world.delivered, all);
    world.let_commits_through();
    world.seconds(5);
    assert!(world.waiting().is_empty());
}

#[test]
fn what_a_pull_was_offered_stays_in_memory_until_it_is_decided() {
    let limits = Limits { max_window_messages: 6, max_decision_messages: 4, ..Limits::default() };
    let mut world = World::with(limits);
    world.policy = on_demand(Mode::Large, false);
    for number in 10..30 {
        world.arrives(message(&format!("m{number}")));
    }
    world.seconds(1);
    world.policy_delay = 5000;
    pulls(&mut world, pull(PHONE, Selection::All));
    world.run_for(Duration::from_millis(100));
    // Meanwhile the recipient registers, and the window slides over the whole queue.
    world.policy_delay = 0;
    world.registers(&[phone()]);
    world.seconds(10);
    assert_eq!(world.log(), ["pull Large m10 m11 m12 m13 to 1"]);
}

#[test]
fn what_a_client_gave_up_to_fetch_is_nobodys() {
    // Before the queue is read, while a part of it is, while the policy is asked, and while others have the message.
    for gives_up_after in [0, 15, 100, 4000] {
        let mut world = World::new();
        world.policy = Box::new(|question| match question {
            Question::Pull(..) => Err(Undecided::Declined),
            Question::Failure(..) => Ok(Answer::Failure(Vec::new())),
            question => pages_all(question),
        });
        world.arrives(message("m1"));
        world.seconds(1);
        world.devices = Box::new(|_, attempt| match &attempt.task {
            AttemptTask::Page { .. } => vec![(5000, Deed::Ends(timeout()))],
            _ => takes_all(attempt),
        });
        if gives_up_after == 4000 {
            world.registers(&[phone()]);
            world.seconds(3);
        } else {
            assert!(world.evicts());
        }
        (world.load_delay, world.policy_delay) = (10, 1000);
        let token = pulls(&mut world, pull(PHONE, Selection::All));
        world.run_for(Duration::from_millis(gives_up_after.min(2000)));
        assert_eq!(world.reply(token), None, "{gives_up_after}");
        world.withdraws(token);
        world.seconds(10);
        assert!(world.log().iter().all(|line| line.starts_with("page")), "{gives_up_after}: {:?}", world.log());
        assert!(world.everybody_is_answered(), "{gives_up_after}");
        assert_eq!(world.waiting(), ["m1"], "{gives_up_after}");
        assert!(world.evicts(), "{gives_up_after}");
        // Whoever asks next gets it.
        pulls(&mut world, pull(PHONE, Selection::All));
        world.seconds(5);
        assert_eq!(world.delivered, ["m1"], "{gives_up_after}");
    }
}

#[test]
fn a_client_that_is_gone_when_its_messages_come_is_as_reachable_as_before() {
    let mut world = with_messages(&["m1"]);
    world.registers(&[phone(), contact(2, 500)]);
    world.seconds(10);
    world.devices = Box::new(|_, attempt| match &attempt.task {
        AttemptTask::Pull { .. } => vec![(0, Deed::Ends(end(None, Origin::Transport)))],
        _ => takes_all(attempt),
    });
    pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(1);
    world.policy = Box::new(pages_all);
    world.arrives(message("m2"));
    world.seconds(5);
    // The other one would come first if this one counted as silent.
    assert_eq!(world.log(), ["pull Large m1 to 1", "page m1 #1 to 1", "page m2 #0 to 1"]);
}

/// The only message is on its way to the phone for half a minute.
fn with_one_on_its_way() -> World {
    let mut world = World::new();
    world.policy = Box::new(|question| match question {
        Question::Pull(..) => Err(Undecided::Declined),
        question => pages_all(question),
    });
    world.arrives(message("m1"));
    world.seconds(1);
    world.devices = Box::new(|_, _| vec![(30_000, Deed::Ends(end(Some(200), Origin::Device)))]);
    world.registers(&[phone()]);
    world.seconds(3);
    assert_eq!(world.log(), ["page m1 #0 to 1"]);
    world
}

#[test]
fn nobody_waits_for_what_the_operator_dropped() {
    let mut world = with_one_on_its_way();
    let waits = pulls(&mut world, pull(PHONE, Selection::All));
    world.seconds(1);
    assert_eq!(world.reply(waits), None);
    let reply = world.token();
    world.tell(Input::Discard { reply, messages: None, report: false });
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.reply(waits), Some(&Reply::NothingWaiting));
}

#[test]
fn only_so_many_fetches_of_one_recipient_wait() {
    let mut world = with_one_on_its_way();
    let tokens: Vec<ReplyToken> = (0..20).map(|_| pulls(&mut world, pull(PHONE, Selection::All))).collect();
    world.seconds(1);
    let answered: Vec<bool> = tokens.iter().map(|token| world.reply(*token).is_some()).collect();
    assert_eq!(answered, [vec![false; 8], vec![true; 12]].concat());
    world.seconds(5);
    assert!(tokens.iter().all(|token| world.reply(*token) == Some(&Reply::NothingWaiting)));
}
