//! Policies from files, and policies that misbehave: nothing is lost, and it is counted.

use std::time::SystemTime;

use restante_client::{LargeMessage, PageMessage, Selection, Source};
use restante_tests::{Setting, guest, in_time, pattern, setting};

const BOB: &str = "sip:bob@example.org";

fn hostile(behaviour: &str) -> Setting {
    let settings = format!("behaviour = {behaviour:?}");
    setting().settings(&settings).tenant(|tenant| tenant.policy = restante_policy::hostile::PATH.to_owned())
}

#[test]
fn a_policy_that_cannot_decide_loses_nothing_and_is_counted() {
    for (behaviour, reason) in [
        ("endless-loop", "timed-out"),
        ("trap", "trapped"),
        ("recursion", "trapped"),
        ("memory-bomb", "out-of-memory"),
        ("err", "declined"),
        ("impossible", "impossible"),
        ("long-err", "impossible"),
    ] {
        let patience_milliseconds = if behaviour == "endless-loop" { 200 } else { 10_000 };
        let place = hostile(behaviour).configure(move |it| it.limits.max_decision_milliseconds = patience_milliseconds);
        place.tell(async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            for text in ["one", "two"] {
                alice.send(bob.address(), text).await;
            }
            let counted = |hook: &str| {
                let labels = [format!("hook=\"{hook}\""), format!("reason=\"{reason}\"")];
                world.metric("restante_policy_fallbacks_total", &labels.each_ref().map(String::as_str))
            };
            assert_eq!((world.queue().len(), counted("on-incoming")), (2, 2), "{behaviour}");
            bob.register().await;
            assert_eq!(bob.texts(2).await, ["one", "two"], "{behaviour}");
            assert!(counted("on-available") >= 1, "{behaviour}");
            world.until_settled().await;
        });
    }
}

#[test]
fn a_policy_that_fails_over_failures_and_pulls_loses_nothing() {
    hostile("err").tell(async |world| {
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(bob.address(), "fetched").await;
        let fetched = bob.client.fetch(Selection::All).await.unwrap();
        assert_eq!((fetched.answer.status, fetched.messages.len(), fetched.orderly), (200, 1, true));
        assert_eq!(world.metric("restante_policy_fallbacks_total", &["hook=\"on-pull\"", "reason=\"declined\""]), 1);
        world.until_settled().await;
    });
}

#[test]
fn one_tenant_with_a_policy_that_burns_its_time_does_not_hold_up_another() {
    let place = setting().configure(|it| {
        let mut slow = restante::configuration::Tenant::example();
        // One after the other, however many cores there are: three of four end when all go first.
        slow.limits.max_decisions_at_once = Some(1);
        slow.limits.max_decision_milliseconds = Some(2_000);
        slow.domains = vec!["slow.example.com".to_owned()];
        slow.policy = restante_policy::hostile::PATH.to_owned();
        slow.settings = "behaviour = \"endless-loop\"".parse().expect("settings");
        it.tenants.insert("slow".to_owned(), slow);
    });
    place.tell(async |world| {
        let alice = world.person("alice").await;
        let mut waiting = Vec::new();
        for number in 0..4 {
            let message = restante_client::PageMessage::text(&format!("sip:{number}@slow.example.com"), "slowly");
            waiting.push(tokio::spawn({
                let client = alice.client.clone();
                async move { client.send(message).await }
            }));
        }
        let timed_out = || world.metric("restante_policy_fallbacks_total", &["tenant=\"slow\"", "timed-out"]);
        restante_tests::until("the slow policy is busy", || timed_out() > 0).await;
        let answered = timed_out();
        alice.send("sip:bob@example.org", "swiftly").await;
        let meanwhile = timed_out() - answered;
        assert!(meanwhile <= 2, "the other tenant's {meanwhile} decisions came first");
        for sent in waiting {
            assert_eq!(sent.await.unwrap().unwrap().answer.status, 202);
        }
    });
}

#[test]
fn a_policy_is_a_file_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.wasm");
    std::fs::write(&path, restante_policy::standard::COMPONENT).unwrap();
    let policy = path.display().to_string();
    setting().settings("few = 0").tenant(|tenant| tenant.policy = policy).tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(bob.address(), "decided by a file").await;
        bob.register().await;
        assert_eq!(bob.received().await.mode, restante_client::Mode::Push);
        world.until_settled().await;
    });
}

/// With what the example leaves to a sender: fewer than this in a minute.
#[test]
fn a_policy_that_brakes_fast_senders_is_told_of_messages_and_of_each_once() {
    let place = setting().tenant(|tenant| tenant.policy = guest("spam-brake")).settings("per_minute = 3");
    place.tell(async |world| {
        let mut device = world.udp().await;
        let report = "<imdn><message-id>7</message-id><display-notification><status><displayed/></status>\
                      </display-notification></imdn>";
        // When a minute of the clock ends, what was sent in it counts for less: then another sender tries.
        for name in ["alice", "amy", "ann"] {
            let minute = minute_of_the_clock();
            let sender = world.person(name).await;
            for _ in 0..4 {
                let disposition = device.request("MESSAGE", BOB).body("message/imdn+xml", report);
                let disposition = disposition.set("From", &format!("<{}>;tag=device", sender.address()));
                assert_eq!(device.ask(&disposition).await.status(), Some(202), "dispositions do not count");
            }
            // An INVITE does not count, its message does.
            let large = || LargeMessage::new(BOB, "text/plain", Source::Bytes(pattern(100_000)));
            let first = in_time("an answer", sender.client.send_large(large())).await.expect("an answer");
            assert!(first.accepted, "{first:?}");
            sender.send(BOB, "the second").await;
            let third = sender.try_send(PageMessage::text(BOB, "the third")).await.answer;
            let fourth = in_time("an answer", sender.client.send_large(large())).await.expect("an answer").answer;
            if minute_of_the_clock() != minute {
                continue;
            }
            for refused in [third, fourth] {
                assert_eq!((refused.status, refused.field("Retry-After")), (480, Some("60")));
            }
            let carol = world.person("carol").await;
            carol.send(BOB, "of somebody else").await;
            return;
        }
        panic!("no minute was long enough");
    });
}

fn minute_of_the_clock() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock that is right").as_secs() / 60
}
