//! Policies that mean harm, each live for a tenant of its own, while another tenant works: all that came for theirs is
//! kept and delivered, and the other one does not notice.

use std::time::{Duration, Instant};

use crate::commands::{done, settings};
use restante::configuration::{Configuration, Tenant};
use restante_client::{Behaviour, PageMessage, Scripted, Selection};
use restante_tests::{Person, Setting, World, guest, in_time, setting, until, until_equal};

/// One policy: a component of `plugin/hostile`, or of its text by hand, and how it is told to behave.
#[derive(Clone, Copy, Debug)]
struct Guest {
    component: &'static str,
    behaviour: &'static str,
    /// In which hook; empty: in all.
    when: &'static str,
}

const fn hostile(behaviour: &'static str, when: &'static str) -> Guest {
    Guest { component: "hostile", behaviour, when }
}

const fn by_hand(component: &'static str) -> Guest {
    Guest { component, behaviour: "", when: "" }
}

/// What ends in the fallback, or in a plan that delivers.
const DELIVERED: [Guest; 38] = [
    hostile("endless-loop", "on-incoming"),
    hostile("endless-loop", "on-available"),
    hostile("endless-loop", ""),
    hostile("memory-bomb", ""),
    hostile("memory-touch", ""),
    hostile("recursion", ""),
    hostile("trap", ""),
    hostile("err", ""),
    hostile("long-err", ""),
    hostile("log-flood", ""),
    hostile("log-long", ""),
    hostile("aliased-strings", ""),
    hostile("giant-list", ""),
    hostile("ten-thousand-steps", ""),
    hostile("hundreds-of-steps", ""),
    hostile("impossible", ""),
    hostile("unknown-message", ""),
    hostile("unknown-contact", ""),
    hostile("unknown-target", ""),
    hostile("others-messages", ""),
    hostile("same-twice", ""),
    hostile("same-in-two-steps", ""),
    hostile("same-many-times", ""),
    hostile("not-a-number", ""),
    hostile("negative", ""),
    hostile("lowest-deadline", ""),
    hostile("highest-refusal", ""),
    hostile("smuggled-header", ""),
    hostile("highest-relay", ""),
    hostile("lowest-relay", ""),
    by_hand("loop-in-late-allocation"),
    by_hand("loop-after-answer"),
    by_hand("endless-log"),
    by_hand("table-bomb"),
    by_hand("not-a-number"),
    by_hand("wild-allocation"),
    by_hand("answer-outside"),
    by_hand("answer-unknown-case"),
];
/// What is carried out, and so is the policy's own wish: it waits, for a day at the most, or until another policy decides
/// when the recipient comes.
const HELD: [Guest; 3] = [hostile("highest", ""), hostile("lowest", ""), hostile("highest-deadline", "")];

/// Longer than a loop of the hostile one and all that a busy machine adds; shorter than a loop that nobody stops.
const NOTICED: Duration = Duration::from_secs(10);
/// Of what never ends of itself.
const LOOP_MILLISECONDS: u64 = 200;
/// Of what ends some other way, which a busy machine may give no time.
const DECISION_MILLISECONDS: u64 = 10_000;

impl Guest {
    fn tenant(&self) -> String {
        let parts = [self.component, self.behaviour, self.when];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
    }

    fn is_endless(&self) -> bool {
        [self.behaviour, self.component].iter().any(|name| name.contains("loop") || name.contains("endless"))
    }

    fn address(&self) -> String {
        format!("sip:bob@{}.example.com", self.tenant())
    }

    fn settings(&self) -> toml::Table {
        let mut settings = toml::Table::new();
        for (key, value) in [("behaviour", self.behaviour), ("when", self.when)] {
            if !value.is_empty() {
                settings.insert(key.to_owned(), value.into());
            }
        }
        settings
    }

    fn add_to(&self, configuration: &mut Configuration) {
        let mut tenant = Tenant::example();
        tenant.domains = vec![format!("{}.example.com", self.tenant())];
        tenant.policy = guest(self.component);
        tenant.settings = self.settings();
        let milliseconds = if self.is_endless() { LOOP_MILLISECONDS } else { DECISION_MILLISECONDS };
        tenant.limits.max_decision_milliseconds = Some(milliseconds);
        configuration.tenants.insert(self.tenant(), tenant);
    }
}

/// All of them live, each for its tenant, beside `example.org`.
fn all_live(guests: &[Guest]) -> Setting {
    let guests = guests.to_vec();
    setting().configure(move |it| guests.iter().for_each(|guest| guest.add_to(it)))
}

fn stored_for(world: &World, address: &str) -> usize {
    let recipient = world.recipient(address);
    world.queue().iter().filter(|message| message.message.recipient == recipient).count()
}

/// How often a hook of this tenant's policy was asked.
fn times_asked(world: &World, guest: &Guest, hook: &str) -> u64 {
    let host = world.shared().policies().expect("policies").host();
    let statistics = host.statistics_of(&world.recipient(&guest.address()).tenant).expect("a tenant");
    statistics.hooks.iter().filter(|it| it.hook.name() == hook).map(|it| it.asked).sum()
}

/// A message of the other tenant, from one who is there to one who is there.
async fn other_tenant_works(carol: &Person, dave: &mut Person, text: &str) -> Duration {
    let began = Instant::now();
    carol.send(dave.address(), text).await;
    assert_eq!(dave.texts(1).await, [text]);
    began.elapsed()
}

#[test]
fn everything_is_kept_and_delivered_and_the_other_tenant_does_not_notice() {
    let guests: Vec<Guest> = DELIVERED.into_iter().chain(HELD).collect();
    all_live(&guests).administered().tell(async |world| {
        let alice = world.person("alice").await;
        let (carol, mut dave) = (world.person("carol").await, world.person("dave").await);
        dave.register().await;
        for guest in &guests {
            let (name, address) = (guest.tenant(), guest.address());
            let mut bob = world.person(&address).await;
            let arrivals = async {
                alice.send(&address, "one").await;
                alice.send(&address, "two").await;
            };
            let ((), took) = tokio::join!(arrivals, other_tenant_works(&carol, &mut dave, &name));
            assert!(took < NOTICED, "{name}, when messages came: {took:?}");
            assert_eq!(stored_for(world, &address), 2, "{name}");

            let ((), took) = tokio::join!(bob.register(), other_tenant_works(&carol, &mut dave, &name));
            assert!(took < NOTICED, "{name}, when the recipient came: {took:?}");
            if HELD.iter().any(|held| held.tenant() == name) {
                until("on-available is asked", || times_asked(world, guest, "on-available") >= 1).await;
                assert_eq!((stored_for(world, &address), bob.unread_texts()), (2, Vec::new()), "{name}");
                let defaults = settings(world, "{}");
                done(world, &["policy", "activate", &name, "standard", "--settings", &defaults]).await;
                bob.unregister().await;
                bob.register().await;
            }
            assert_eq!(bob.texts(2).await, ["one", "two"], "{name}");
            until_equal(&name, 0, || stored_for(world, &address)).await;
        }
    });
}

#[test]
fn each_failure_of_a_live_policy_is_counted_for_its_tenant_alone() {
    let guests =
        [hostile("endless-loop", ""), hostile("trap", ""), hostile("memory-bomb", ""), by_hand("wild-allocation")];
    let reasons = ["timed-out", "trapped", "out-of-memory", "impossible"];
    all_live(&guests).tell(async |world| {
        let alice = world.person("alice").await;
        for (guest, reason) in guests.iter().zip(reasons) {
            alice.send(&guest.address(), "one").await;
            let fallbacks = |labels: &[&str]| world.metric("restante_policy_fallbacks_total", labels);
            let tenant = format!("tenant=\"{}\"", guest.tenant());
            let expected = [tenant.as_str(), "hook=\"on-incoming\"", &format!("reason=\"{reason}\"")];
            assert_eq!((fallbacks(&expected), fallbacks(&[&tenant])), (1, 1), "{guest:?}");
        }
    });
}

#[test]
fn what_the_server_says_of_decisions_counts_among_the_policys_own_lines() {
    const MESSAGES: u64 = 40;
    let guest = hostile("long-discard", "on-incoming");
    let with_one_line = move |it: &mut Configuration| {
        guest.add_to(it);
        it.tenants.entry(guest.tenant()).and_modify(|tenant| tenant.limits.max_log_lines_per_second = Some(1));
    };
    setting().configure(with_one_line).tell(async |world| {
        let alice = world.person("alice").await;
        let began = Instant::now();
        for number in 0..MESSAGES {
            alice.send(&guest.address(), &number.to_string()).await;
        }
        until_equal("messages that were discarded", MESSAGES, || {
            world.metric("restante_messages_discarded_total", &[])
        })
        .await;
        // One window more than seconds have passed, and the one that was open when it began.
        let written = began.elapsed().as_secs() + 2;
        let host = world.shared().policies().expect("policies").host();
        let statistics = host.statistics_of(&world.recipient(&guest.address()).tenant).expect("a tenant");
        let dropped = statistics.dropped_lines;
        assert!(dropped >= MESSAGES.saturating_sub(written), "{dropped} lines were left out, {written} may be written");
        assert!(MESSAGES > written, "it took too long to say anything");
    });
}

#[test]
fn a_client_that_fetches_gets_everything_whatever_the_policy_does() {
    let guests = [
        hostile("endless-loop", "on-pull"),
        hostile("memory-bomb", "on-pull"),
        hostile("giant-list", "on-pull"),
        hostile("others-messages", "on-pull"),
        hostile("same-twice", "on-pull"),
        hostile("highest", "on-pull"),
        hostile("lowest", "on-pull"),
        hostile("smuggled-header", "on-pull"),
        hostile("aliased-strings", "on-pull"),
    ];
    all_live(&guests).tell(async |world| {
        let alice = world.person("alice").await;
        for guest in &guests {
            let deferred = format!("sip:deferred@{}.example.com", guest.tenant());
            let bob = world.person_with(&guest.address(), |it| it.deferred_uri = Some(deferred)).await;
            for text in ["one", "two"] {
                alice.send(bob.address(), text).await;
            }
            let fetched = in_time("a fetch", bob.client.fetch(Selection::All)).await.expect("an answer");
            let texts: Vec<_> = fetched.messages.iter().map(|it| it.text().unwrap_or_default().to_owned()).collect();
            assert_eq!((fetched.answer.status, texts), (200, vec!["one".to_owned(), "two".to_owned()]), "{guest:?}");
            let labels = [format!("tenant=\"{}\"", guest.tenant()), "hook=\"on-pull\"".to_owned()];
            let labels = labels.each_ref().map(String::as_str);
            assert_eq!(world.metric("restante_policy_fallbacks_total", &labels), 1, "{guest:?}");
        }
        world.until_settled().await;
    });
}

#[test]
fn what_was_not_delivered_is_delivered_later_whatever_the_policy_does() {
    let guests = [
        hostile("endless-loop", "on-failure"),
        hostile("memory-bomb", "on-failure"),
        hostile("aliased-strings", "on-failure"),
        hostile("giant-list", "on-failure"),
        hostile("same-twice", "on-failure"),
        hostile("unknown-message", "on-failure"),
        hostile("negative", "on-failure"),
        hostile("highest", "on-failure"),
        hostile("lowest", "on-failure"),
    ];
    all_live(&guests).tell(async |world| {
        let alice = world.person("alice").await;
        for guest in &guests {
            let mut bob = world.person(&guest.address()).await;
            let busy = Behaviour { message_answers: [Scripted::Status(486)].into(), ..Behaviour::default() };
            bob.client.set_behaviour(busy).await.expect("a client that runs");
            alice.send(bob.address(), "one").await;
            bob.register().await;
            assert_eq!(bob.scripted().await, ("MESSAGE".to_owned(), Some(486)), "{guest:?}");
            until("on-failure is asked", || times_asked(world, guest, "on-failure") >= 1).await;
            // A refresh would be heeded once a minute only.
            bob.unregister().await;
            bob.register().await;
            assert_eq!(bob.texts(1).await, ["one"], "{guest:?}");
        }
        world.until_settled().await;
    });
}

#[test]
fn what_expires_goes_and_the_sender_is_told_whatever_the_policy_does() {
    let guests = ["endless-loop", "trap", "same-twice", "others-messages", "highest", "negative"]
        .map(|behaviour| hostile(behaviour, "on-expiry"));
    all_live(&guests).tell(async |world| {
        let alice = world.person("alice").await;
        for guest in &guests {
            let brief = || PageMessage { expires_seconds: Some(2), ..PageMessage::text(&guest.address(), "brief") };
            // On a busy machine it may expire before it is decided: then it is refused, and sent again.
            let keeping = async { while alice.try_send(brief()).await.answer.status != 202 {} };
            in_time("it is kept", keeping).await;
        }
        // The sender's own expiry is nobody's to lengthen.
        world.until_waiting(0).await;
        world.until_counted("restante_messages_expired_total", guests.len() as u64).await;
    });
}
