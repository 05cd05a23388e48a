//! Messages whose time is up.

use restante_deferral::decision::{Answer, ExpiryAction, ExpiryAnswer, IncomingAnswer, Keep, Question, Undecided};
use restante_deferral::model::{Body, Dispositions, Duration, Origin, Timestamp};
use restante_deferral::participating_function::{Event, Limits, ReportKey};

use super::simulator::build::*;
use super::simulator::{Deed, World};

const HOUR: Duration = Duration::from_secs(3600);

fn expiring(world: &World, name: &str, after: Duration) -> restante_deferral::participating_function::Arrival {
    let mut arrival = message(name);
    arrival.expires_at = Some(world.now.after(after));
    arrival
}

/// On expiry, this for every message.
fn acting(action: impl Fn(Timestamp) -> ExpiryAction + 'static) -> super::simulator::Policy {
    Box::new(move |question| match question {
        Question::Expiry(context, messages) => Ok(Answer::Expiry(
            messages
                .iter()
                .map(|expiring| ExpiryAnswer { message: expiring.message.id, action: action(context.now) })
                .collect(),
        )),
        question => pages_all(question),
    })
}

#[test]
fn an_expired_message_goes_and_its_sender_hears_of_it_if_it_asked() {
    let mut world = World::new();
    let arrivals = [
        asking(expiring(&world, "m1", HOUR), negative()),
        expiring(&world, "m2", HOUR),
        expiring(&world, "m3", Duration::from_secs(7200)),
    ];
    for arrival in arrivals {
        world.arrives(arrival);
    }
    world.seconds(5);
    // Nobody keeps the machine: the durable alarm wakes it.
    assert!(world.evicts());
    world.seconds(3590);
    assert_eq!(world.waiting(), ["m1", "m2", "m3"]);
    world.seconds(10);
    assert_eq!(world.waiting(), ["m3"]);
    let alice = key("sip:alice@example.org");
    assert_eq!(world.grew, std::slice::from_ref(&alice));
    let report = world.store.queue(&alice)[0];
    let Body::Inline(body) = &report.message.body else { panic!("inline") };
    let text = String::from_utf8_lossy(body);
    assert!(text.contains("<failed/>") && text.contains("<message-id>m1</message-id>"), "{text}");
    assert_eq!(report.message.envelope.sender.uri, world.limits.reporter);
    assert_eq!(world.count(|event| matches!(event, Event::Expired(_))), 2);
    world.seconds(4000);
    assert!(world.waiting().is_empty());
    world.seconds(10);
    assert!(world.evicts());
    assert_eq!(world.store.wake_at(&world.key), None);
}

#[test]
fn the_id_of_a_report_follows_from_its_message_for_who_has_the_key_alone() {
    let id_with = |report_key: ReportKey| {
        let mut world = World::with(Limits { report_key, ..Limits::default() });
        world.arrives(asking(expiring(&world, "m1", HOUR), negative()));
        world.seconds(3610);
        let report = world.store.queue(&key("sip:alice@example.org"))[0].clone();
        let id = report.message.envelope.imdn.as_ref().unwrap().message_id.clone();
        (id, report.message.deduplication)
    };
    let (one, again, other) =
        (id_with(ReportKey::new([1; 32])), id_with(ReportKey::new([1; 32])), id_with(ReportKey::new([2; 32])));
    assert_eq!(one, again, "a report that is made again is the same");
    assert_ne!(one.0, other.0);
    assert_eq!(one.1, other.1, "and stored once, whatever its id");
    assert_eq!(one.0.len(), 32);
}

#[test]
fn a_policy_drops_without_a_report() {
    let mut world = World::new();
    world.policy = acting(|_| ExpiryAction::Drop(false));
    world.arrives(asking(message("m1"), negative()));
    world.seconds(8 * 24 * 3600);
    assert!(world.waiting().is_empty());
    assert!(world.grew.is_empty());
}

#[test]
fn only_the_operators_expiry_is_extended_and_only_so_far() {
    let mut world = World::new();
    world.policy = acting(|now| ExpiryAction::Extend(now.after(Duration::from_secs(365 * 24 * 3600))));
    world.arrives(message("m1"));
    world.arrives(expiring(&world, "m2", HOUR));
    let began = world.now;
    world.seconds(7 * 24 * 3600 + 10);
    assert_eq!(world.waiting(), ["m1"]);
    assert_eq!(world.count(|event| *event == Event::FellBack(Undecided::Impossible, "on-expiry")), 1);
    let expires_at = world.store.queue(&world.key)[0].message.expires_at;
    let max_keep = world.limits.max_keep;
    assert!((began..=began.after(HOUR)).contains(&Timestamp(expires_at.0 - max_keep.0)), "from when it came");
    world.seconds(23 * 24 * 3600 + 10);
    assert!(world.waiting().is_empty(), "extending comes to an end");
    assert_eq!(world.count(|event| matches!(event, Event::Expired(_))), 2);
}

#[test]
fn a_policy_that_extends_by_a_moment_again_and_again_is_paced() {
    let mut world = World::new();
    world.policy = acting(|now| ExpiryAction::Extend(now.after(Duration::from_millis(5))));
    world.arrives(message("m1"));
    world.seconds(7 * 24 * 3600);
    let before = world.commits;
    world.seconds(60);
    assert_eq!(world.waiting(), ["m1"]);
    let asked = world.questions.iter().filter(|question| matches!(question, Question::Expiry(..))).count();
    assert!((30..=62).contains(&asked), "{asked}");
    assert!(world.commits - before <= 130, "{}", world.commits - before);
}

#[test]
fn an_expired_message_is_never_sent() {
    let mut world = World::new();
    world.policy = acting(|_| ExpiryAction::Drop(true));
    world.arrives(expiring(&world, "m1", HOUR));
    world.seconds(1);
    // The policy is slow; meanwhile the client comes.
    world.policy_delay = 60_000;
    world.seconds(3600);
    world.registers(&[phone()]);
    world.seconds(300);
    assert!(world.attempts.is_empty());
    assert!(world.waiting().is_empty());
}

#[test]
fn a_message_in_flight_does_not_expire_before_its_attempt_ends() {
    for delivered in [true, false] {
        let mut world = World::new();
        world.policy = Box::new(pages_all);
        world.arrives(asking(expiring(&world, "m1", Duration::from_secs(10)), negative()));
        world.seconds(1);
        world.devices = Box::new(move |_, _| {
            let ends = if delivered { end(Some(200), Origin::Device) } else { timeout() };
            vec![(20_000, Deed::Ends(ends))]
        });
        world.registers(&[phone()]);
        world.seconds(15);
        assert_eq!(world.waiting(), ["m1"]);
        world.seconds(10);
        assert!(world.waiting().is_empty());
        assert_eq!(world.grew.len(), usize::from(!delivered));
        assert_eq!(world.attempts.len(), 1);
    }
}

#[test]
fn what_lies_beyond_the_window_expires_too() {
    let mut world = World::with(restante_deferral::participating_function::Limits {
        max_window_messages: 4,
        max_decision_messages: 4,
        ..Default::default()
    });
    for number in 0..20 {
        let after = if number < 10 { Duration::from_secs(50_000) } else { HOUR };
        world.arrives(expiring(&world, &format!("m{number:02}"), after));
    }
    world.seconds(3500);
    assert_eq!(world.waiting().len(), 20);
    world.seconds(200);
    assert_eq!(world.waiting().len(), 10);
    assert_eq!(world.count(|event| matches!(event, Event::Expired(_))), 10);
}

#[test]
fn a_report_follows_its_recorded_route() {
    let mut world = World::new();
    let mut arrival = asking(expiring(&world, "m1", HOUR), negative());
    if let Some(imdn) = &mut arrival.envelope.imdn {
        imdn.record_route = vec![String::from("<sip:list@example.org>"), String::from("<sip:two@example.org>")];
    }
    world.arrives(arrival);
    world.seconds(4000);
    let report = world.store.queue(&key("sip:alice@example.org"))[0];
    assert_eq!(report.message.envelope.request_uri, "sip:list@example.org");
}

#[test]
fn a_report_names_the_recipient_as_its_sender_wrote_it() {
    let mut world = World::new();
    let mut arrival = asking(expiring(&world, "m1", HOUR), negative());
    if let Some(imdn) = &mut arrival.envelope.imdn {
        imdn.original_to = Some(String::from("<im:team@example.com>"));
    }
    world.arrives(arrival);
    world.seconds(4000);
    let Body::Inline(body) = &world.store.queue(&key("sip:alice@example.org"))[0].message.body else {
        panic!("inline")
    };
    let text = String::from_utf8_lossy(body);
    assert!(text.contains("<recipient-uri>sip:bob@example.org</recipient-uri>"), "{text}");
    assert!(text.contains("<original-recipient-uri>im:team@example.com</original-recipient-uri>"), "{text}");
}

#[test]
fn a_report_names_an_original_recipient_where_the_message_named_none() {
    let mut world = World::new();
    world.arrives(asking(expiring(&world, "m1", HOUR), negative()));
    world.seconds(4000);
    let Body::Inline(body) = &world.store.queue(&key("sip:alice@example.org"))[0].message.body else {
        panic!("inline")
    };
    let text = String::from_utf8_lossy(body);
    assert!(text.contains("<original-recipient-uri>sip:bob@example.org</original-recipient-uri>"), "{text}");
}

/// Some clients take nothing but pages, and over UDP these are small (RFC 3428 §8).
#[test]
fn a_report_that_would_be_too_large_for_a_page_names_neither_recipient_unless_it_has_to() {
    for (original_to, names_both) in [(None, false), (Some("<sip:home@example.org>"), true)] {
        let mut world = World::new();
        let mut arrival = asking(expiring(&world, "m1", HOUR), negative());
        arrival.envelope.headers = vec![("Conversation-ID".to_owned(), "c".repeat(120))];
        if let Some(imdn) = arrival.envelope.imdn.as_mut() {
            imdn.original_to = original_to.map(str::to_owned);
        }
        world.arrives(arrival);
        world.seconds(4000);
        let report = world.store.queue(&key("sip:alice@example.org")).remove(0).message.clone();
        let Body::Inline(body) = &report.body else { panic!("inline") };
        let text = String::from_utf8_lossy(body);
        let named = ["<recipient-uri>", "<original-recipient-uri>"].map(|element| text.contains(element));
        assert_eq!(named, [names_both; 2], "{text}");
        let is_of_a_page = report.envelope.page_base_bytes.is_some_and(|bytes| bytes <= 1_200);
        assert_eq!(is_of_a_page, !names_both, "{:?}", report.envelope.page_base_bytes);
    }
}

#[test]
fn nothing_is_told_in_the_clear_of_what_was_encrypted() {
    for wrapped in ["application/pkcs7-mime", "multipart/encrypted"] {
        let mut world = World::new();
        let dispositions = Dispositions { processing: true, ..negative() };
        let mut arrival = asking(expiring(&world, "m1", HOUR), dispositions);
        arrival.envelope.wrapped_type = Some(wrapped.to_owned());
        world.arrives(arrival);
        world.seconds(4000);
        assert!(world.waiting().is_empty(), "{wrapped}");
        assert!(world.store.queue(&key("sip:alice@example.org")).is_empty(), "{wrapped}");
    }
}

#[test]
fn nobody_is_told_of_what_nobody_sent() {
    for nobody in ["sip:anonymous@anonymous.invalid", "sip:unavailable@unknown.invalid"] {
        let mut world = World::new();
        let dispositions = Dispositions { processing: true, ..negative() };
        let mut arrival = from(asking(expiring(&world, "m1", HOUR), dispositions), nobody);
        world.arrives(arrival.clone());
        world.seconds(4000);
        assert_eq!((world.waiting().len(), world.grew.len()), (0, 0), "{nobody}");
        // Whoever recorded a route on the way knows who it was.
        arrival.deduplication.0[15] = 1;
        arrival.expires_at = Some(world.now.after(HOUR));
        if let Some(imdn) = &mut arrival.envelope.imdn {
            imdn.record_route = vec![String::from("<sip:list@example.org>")];
        }
        world.arrives(arrival);
        world.seconds(4000);
        let reports = world.store.queue(&key(nobody));
        assert_eq!(reports.len(), 2, "stored, and failed");
        assert!(reports.iter().all(|report| report.message.envelope.request_uri == "sip:list@example.org"));
    }
}

#[test]
fn an_expiry_can_be_answered_with_a_hand_over() {
    let mut world = World::new();
    world.policy = acting(|_| ExpiryAction::HandOver(String::from("sms")));
    world.arrives(message("m1"));
    world.seconds(7 * 24 * 3600 + 10);
    assert_eq!(world.log(), ["hand over m1 to sms"]);
    assert!(world.waiting().is_empty());
}

#[test]
fn a_hand_over_that_nobody_takes_comes_to_an_end_too() {
    let mut world = World::new();
    world.policy = acting(|_| ExpiryAction::HandOver(String::from("sms")));
    world.devices = Box::new(|_, _| vec![(100, Deed::Ends(end(Some(503), Origin::Core)))]);
    world.arrives(message("m1"));
    // Kept for as long as may be, and the time of one hand-over.
    world.seconds(36 * 24 * 3600);
    assert_eq!(world.waiting(), ["m1"]);
    world.seconds(24 * 3600 + 60);
    assert!(world.waiting().is_empty());
    assert_eq!(world.count(|event| matches!(event, Event::Expired(_))), 1);
}

#[test]
fn a_message_that_expires_while_the_plan_is_busy_with_another_is_not_sent() {
    let mut world = World::new();
    world.policy = Box::new(|question| match question {
        // The first is held, the others are paged.
        Question::Available(_, availability) => {
            let paged = ids(&availability.messages).split_off(1);
            planned(vec![restante_deferral::decision::Step::Page(any(paged))])
        }
        question => pages_all(question),
    });
    world.arrives(expiring(&world, "m0", Duration::from_secs(10)));
    world.arrives(message("m1"));
    world.arrives(expiring(&world, "m2", Duration::from_secs(20)));
    world.devices = Box::new(|_, _| vec![(30_000, Deed::Ends(end(Some(200), Origin::Device)))]);
    world.seconds(1);
    world.registers(&[phone()]);
    world.seconds(4);
    // What to do about m0 takes long to decide; meanwhile nobody decides about m2.
    world.policy_delay = 60_000;
    world.seconds(40);
    assert_eq!(world.log(), ["page m1 #0 to 1"]);
    world.seconds(200);
    assert!(world.waiting().is_empty());
    assert_eq!(world.delivered, ["m1"]);
}

#[test]
fn a_row_that_was_read_before_an_extension_does_not_undo_it() {
    let mut world = World::with(restante_deferral::participating_function::Limits {
        max_window_messages: 4,
        max_decision_messages: 5,
        ..Default::default()
    });
    let mut extensions = 1;
    world.policy = Box::new(move |question| match question {
        Question::Incoming(context, incoming) => {
            let is_first = context.queue.messages == 0 && incoming.recipient_counts.stored_messages == 0;
            let expires_at = context.now.after(if is_first { HOUR } else { Duration::from_secs(80_000) });
            Ok(Answer::Incoming(IncomingAnswer::Keep(Keep { expires_at, ..keep(context.now) })))
        }
        Question::Expiry(context, messages) => {
            let action = match extensions {
                0 => ExpiryAction::Drop(true),
                _ => ExpiryAction::Extend(context.now.after(Duration::from_secs(80_000))),
            };
            extensions = 0;
            Ok(Answer::Expiry(vec![ExpiryAnswer { message: messages[0].message.id, action }]))
        }
        Question::Available(..) => planned(Vec::new()),
        question => pages_all(question),
    });
    world.arrives(message("m01"));
    world.run_for(Duration::from_millis(500));
    for number in 2..=20 {
        world.arrives(message(&format!("m{number:02}")));
    }
    let expires_at = world.store.queue(&world.key)[0].message.expires_at;
    world.run_for(Duration::from_secs(5));
    assert!(world.evicts());
    // Slow reads and commits: the part of the queue that expired is read again before the extension is durable, and
    // comes back when the window has slid on.
    (world.load_delay, world.commit_delay, world.policy_delay) = (1000, 100, 300);
    world.run_until(Timestamp(expires_at.0 - 3500));
    world.registers(&[phone()]);
    world.seconds(3600);
    assert_eq!(world.waiting().len(), 20);
    assert_eq!(world.count(|event| matches!(event, Event::Expired(_))), 0);
}

#[test]
fn a_crash_while_it_is_asked_what_follows_an_expiry_makes_no_other_expiry_late() {
    let mut world = World::new();
    world.policy = Box::new(pages_all);
    for (name, seconds) in [("m1", 100), ("m2", 105)] {
        let arrival = expiring(&world, name, Duration::from_secs(seconds));
        world.arrives(arrival);
    }
    world.seconds(90);
    world.policy_delay = 30_000;
    world.load_delay = 5_000;
    // While the queue is read, and while the policy is asked.
    for seconds in [13, 10] {
        world.seconds(seconds);
        assert!(world.store.wake_at(&world.key).is_some_and(|at| at <= world.now), "a crash now is followed by a look");
    }
    world.crashes();
    (world.policy_delay, world.load_delay) = (0, 1);
    world.seconds(10);
    assert!(world.waiting().is_empty());
}
