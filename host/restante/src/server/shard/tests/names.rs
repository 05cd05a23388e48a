//! All names of a user reach one queue, whenever it is learnt that they are the user's.

use restante_deferral::commit::CommitError;
use restante_deferral::model::{AliasChange, Delivery, Profile, ProfileChange};
use restante_deferral::participating_function::{Arrival, Input, ReplyToken};
use restante_store::{Record, Ticket};
use tokio::sync::oneshot;

use super::super::ProfileOrder;
use super::*;
use crate::server::recovery::release_names;

const BOB: &str = "sip:bob@example.org";
const CAROL: &str = "sip:carol@example.org";
const PHONE: &str = "<sip:bob@127.0.0.1:6000>;expires=600";

/// The operator changes a user; what came of it.
fn change(house: &mut House, whose: &str, change: ProfileChange) -> Result<Profile, String> {
    let reservation = match &change.aliases {
        AliasChange::Set(names) => {
            Some(house.shared.directory.reserve(&user(whose), names).map_err(|taken| taken.to_string())?)
        }
        _ => None,
    };
    let (done, mut changed) = oneshot::channel();
    let order = ProfileOrder { user: user(whose), change, reservation, done: Some(done) };
    house.shared.to_recipient(&user(whose), ToShard::ChangeProfile(Box::new(order)));
    house.run();
    changed.try_recv().expect("an answer").map_err(|error| error.to_string())
}

fn set_aliases(house: &mut House, whose: &str, names: &[&str]) -> Result<Profile, String> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    change(house, whose, ProfileChange { aliases: AliasChange::Set(names), ..ProfileChange::default() })
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// What comes out in this order when everything is answered with 200.
fn all_delivered(house: &mut House) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..20 {
        house.pass(500);
        all.extend(house.delivered(200));
    }
    all
}

#[test]
fn what_waited_under_a_name_is_delivered_when_a_core_says_whose_it_is() {
    for at in [0, 1] {
        let mut house = House::new();
        let number = house.numbers(BOB)[at].clone();
        for (to, text) in [(number.as_str(), "one"), (BOB, "two"), (number.as_str(), "three")] {
            let sent = house.message(to, text);
            assert_eq!(house.statuses(&sent), [202]);
        }
        let registered = house.register_by_core(BOB, &[BOB, &number]);
        assert_eq!(house.statuses(&registered), [200]);
        assert_eq!(house.owners(), [BOB], "one queue");
        assert_eq!(house.store.totals(&user(BOB)).0.messages, 3);
        assert_eq!(all_delivered(&mut house), ["one", "two", "three"], "in the order in which they came");
        house.message(&number, "four");
        assert_eq!(house.owners(), [BOB]);
        assert_eq!(all_delivered(&mut house), ["four"]);
        assert!(house.stored().is_empty());
        let profile = house.store.profile(&user(BOB)).unwrap();
        assert_eq!((profile.aliases, profile.registered), (vec![number.clone()], vec![number]));
    }
}

#[test]
fn what_waited_under_a_name_is_the_users_when_an_operator_says_so() {
    let mut house = House::new();
    let [near, far] = house.numbers(BOB);
    house.message(&near, "one");
    house.message(&far, "two");
    house.register(BOB, PHONE);
    house.pass(1_000);
    assert!(house.delivered(200).is_empty());
    set_aliases(&mut house, BOB, &[&near, &far]).unwrap();
    assert_eq!(house.owners(), [BOB]);
    // The user is there: it is not waited for another registration.
    assert_eq!(all_delivered(&mut house), ["one", "two"]);
}

#[test]
fn a_queue_under_a_name_that_only_the_configuration_gives_away_is_taken_over_at_start() {
    let before = House::new();
    let [near, far] = before.numbers(BOB);
    let mut house = House::with_aliases(&[(&near, BOB), (&far, BOB)]);
    for (number, key) in [near, far].iter().map(|name| user(name)).enumerate() {
        // As an earlier run left it.
        let message = arrival(&format!("m{number}"));
        let stored = restante_deferral::model::NewMessage {
            recipient: key.clone(),
            deduplication: message.deduplication,
            deduplication_as_written: None,
            envelope: message.envelope,
            body: message.body,
            received_at: Timestamp(1),
            expires_at: Timestamp::NEVER,
            expiry_source: restante_deferral::model::ExpirySource::Operator,
            priority: 100,
            hand_over_to: None,
        };
        let changes = vec![restante_deferral::commit::Change::Insert(Box::new(stored))];
        let transaction = restante_deferral::commit::Transaction { changes, settles: false };
        house.store.write(Ticket { shard: 0, token: 0 }, transaction).unwrap();
    }
    release_names(&house.shared);
    house.run();
    assert_eq!(house.owners(), [BOB]);
    assert!(house.store.profile(&user(BOB)).unwrap().aliases.is_empty(), "the configuration's names are its own");
    house.register(BOB, PHONE);
    assert_eq!(all_delivered(&mut house).len(), 2);
}

#[test]
fn a_name_that_is_being_delivered_to_is_taken_over_when_that_is_done() {
    for at in [0, 1] {
        let mut house = House::new();
        let number = house.numbers(BOB)[at].clone();
        house.register(&number, PHONE);
        house.message(&number, "one");
        house.message(&number, "two");
        house.pass(1_000);
        set_aliases(&mut house, BOB, &[&number]).unwrap();
        house.pass(5_000);
        assert_eq!(house.owners(), [number.as_str()], "a device has it in hand");
        assert_eq!(house.shard(&number).registrations.len(), usize::from(at == 0), "its registration is bob's");
        assert_eq!(house.shard(BOB).registrations.len(), 1);
        // What comes meanwhile is bob's at once.
        house.message(&number, "three");
        assert_eq!(house.stored().last().unwrap().0, BOB);
        let deliveries = all_delivered(&mut house);
        assert_eq!(deliveries.iter().filter(|text| *text == "one").count(), 1, "{deliveries:?}");
        let mut sorted = deliveries.clone();
        sorted.sort();
        assert_eq!(sorted, ["one", "three", "two"]);
        assert!(house.stored().is_empty());
        assert!(!house.shard(&number).slots.contains_key(&user(&number)), "put away");
    }
}

#[test]
fn what_is_on_its_way_into_the_store_is_answered_and_taken_over() {
    for at in [0, 1] {
        let mut house = House::new();
        let number = house.numbers(BOB)[at].clone();
        set_aliases(&mut house, BOB, &[]).unwrap();
        house.store.hold();
        let under_way = house.message(&number, "one");
        let names = vec![number.clone()];
        let reservation = house.shared.directory.reserve(&user(BOB), &names).unwrap();
        let profile = Profile { aliases: names, ..Profile::default() };
        // Known before the message is durable.
        house.shared.directory.settle(&user(BOB), &profile, Some(reservation));
        let order = Record::Profile(profile);
        house.store.save(Ticket { shard: 0, token: 0 }, user(BOB), order).unwrap();
        house.shared.to_recipient(&user(&number), ToShard::Release(user(&number)));
        house.run();
        assert!(house.statuses(&under_way).is_empty(), "not before it is durable");
        assert!(house.shard(&number).slots.contains_key(&user(&number)), "not before its machine is done");
        house.store.release();
        house.run();
        assert_eq!(house.statuses(&under_way), [202]);
        assert_eq!(house.owners(), [BOB]);
        house.register(BOB, PHONE);
        assert_eq!(all_delivered(&mut house), ["one"]);
    }
}

#[test]
fn a_request_that_was_given_to_the_wrong_shard_goes_on_to_the_right_one() {
    let mut house = House::new();
    let number = house.numbers(BOB)[1].clone();
    let version = house.shared.directory.version();
    set_aliases(&mut house, BOB, &[&number]).unwrap();
    let text = format!(
        "MESSAGE {number} SIP/2.0\r\nVia: SIP/2.0/UDP {PEER};branch=z9hG4bKx\r\nTo: <{number}>\r\nCall-ID: x\r\n\
         From: <sip:alice@example.org>;tag=1\r\nCSeq: 1 MESSAGE\r\nMax-Forwards: 70\r\nContent-Length: 2\r\n\r\nhi"
    );
    let item = ToShard::Sip { message: message_of(text.as_bytes()), flow: flow(), directory_version: version };
    house.shared.to_recipient(&user(&number), item);
    house.run();
    assert_eq!(house.statuses("x"), [202]);
    assert_eq!(house.owners(), [BOB]);
    assert!(house.shard(&number).slots.is_empty() && !house.shard(BOB).slots.is_empty());
    // A machine on the wrong shard is never made, whatever goes wrong: who waits is told to try again.
    let wrong = 1 - house.shard_of(BOB);
    let now = house.now();
    house.shards[wrong].tell(now, &user(BOB), Input::Arrival(Box::new(arrival("y"))));
    assert!(house.shards[wrong].slots.is_empty());
}

#[test]
fn a_large_message_that_was_begun_under_a_name_is_taken_over_too() {
    let mut house = House::new();
    let number = house.numbers(BOB)[1].clone();
    set_aliases(&mut house, BOB, &[&number]).unwrap();
    let now = house.now();
    // While the name is being adopted, and after it.
    house.store.hold();
    house.shared.to_recipient(&user(&number), ToShard::Release(user(&number)));
    house.run();
    house.shard(&number).tell(now, &user(&number), Input::Arrival(Box::new(arrival("one"))));
    assert!(house.shard(&number).slots.is_empty(), "nobody works on a queue that is being moved");
    house.store.release();
    house.run();
    house.shard(&number).tell(now, &user(&number), Input::Arrival(Box::new(arrival("two"))));
    house.run();
    assert_eq!((house.stored().len(), house.owners()), (2, texts(&[BOB])));
    assert!(house.shard(&number).slots.is_empty() && house.shard(&number).adopting.is_empty());
    house.register(BOB, PHONE);
    assert_eq!(all_delivered(&mut house), ["one", "two"]);
}

#[test]
fn an_operator_who_drops_a_message_while_it_changes_queues_drops_it() {
    let mut house = House::new();
    let number = house.numbers(BOB)[1].clone();
    house.message(&number, "one");
    house.message(&number, "two");
    let first = house.stored()[0].1;
    set_aliases(&mut house, BOB, &[&number]).unwrap();
    let (done, mut dropped) = oneshot::channel();
    let discard = ToShard::Discard { recipient: user(&number), messages: Some(vec![first]), report: false, done };
    house.shared.to_recipient(&user(&number), discard);
    house.run();
    assert_eq!(dropped.try_recv(), Ok(1));
    assert_eq!(house.stored().len(), 1);
}

#[test]
fn a_repetition_is_known_after_its_name_was_taken_over() {
    let mut house = House::new();
    let number = house.numbers(BOB)[1].clone();
    house.message(&number, "one");
    house.register_by_core(BOB, &[&number]);
    assert_eq!(all_delivered(&mut house), ["one"]);
    let again = house.message(&number, "one");
    assert_eq!(house.statuses(&again), [202]);
    assert!(house.stored().is_empty() && all_delivered(&mut house).is_empty());
    // And by its other name.
    house.message(&number, "two");
    house.message(BOB, "two");
    assert_eq!(all_delivered(&mut house), ["two"]);
}

#[test]
fn a_report_goes_to_who_the_sender_is_by_now() {
    let mut house = House::new();
    let number = house.numbers(BOB)[1].clone();
    let asks = "imdn.Disposition-Notification: negative-delivery\r\n";
    house.message_from(&number, CAROL, "one", asks);
    set_aliases(&mut house, BOB, &[&number]).unwrap();
    // Nobody fetches it for a week.
    house.clock.fetch_add(8 * 86_400_000, Ordering::Relaxed);
    for _ in 0..10 {
        house.pass(100);
        assert!(!house.owners().contains(&number), "not even for a moment");
    }
    assert_eq!(house.owners(), [BOB]);
    // One that slipped through under the name rings its alarm, and is taken over.
    let message = restante_deferral::model::NewMessage {
        recipient: user(&number),
        deduplication: restante_deferral::model::DeduplicationKey([9; 16]),
        ..house.store.messages()[0].message.clone()
    };
    let changes = vec![
        restante_deferral::commit::Change::Insert(Box::new(message)),
        restante_deferral::commit::Change::WakeAt { recipient: user(&number), at: Some(Timestamp(1)) },
    ];
    let transaction = restante_deferral::commit::Transaction { changes, settles: false };
    house.store.write(Ticket { shard: 0, token: 0 }, transaction).unwrap();
    assert_eq!(house.owners().len(), 2);
    house.pass(1_000);
    assert_eq!((house.stored().len(), house.owners()), (2, texts(&[BOB])));
}

#[test]
fn a_take_over_that_failed_is_tried_again() {
    let mut house = House::new();
    let number = house.numbers(BOB)[1].clone();
    house.message(&number, "one");
    set_aliases(&mut house, CAROL, &[]).unwrap();
    let profile = Profile { aliases: vec![number.clone()], ..Profile::default() };
    house.store.save(Ticket { shard: 0, token: 0 }, user(BOB), Record::Profile(profile.clone())).unwrap();
    house.shared.directory.settle(&user(BOB), &profile, None);
    house.store.refuse(Some(CommitError::Full));
    house.shared.to_recipient(&user(&number), ToShard::Release(user(&number)));
    house.pass(3_000);
    assert_eq!(house.owners(), [number.as_str()]);
    house.store.refuse(None);
    house.pass(2_000);
    assert_eq!(house.owners(), [BOB]);
    assert!(house.shard(&number).adopting.is_empty() && house.shard(&number).adoption_retries.is_empty());
}

#[test]
fn a_name_that_an_operator_takes_away_is_its_own_at_once() {
    let mut house = House::new();
    let number = house.numbers(BOB)[1].clone();
    set_aliases(&mut house, BOB, &[&number]).unwrap();
    house.message(&number, "one");
    assert_eq!(house.owners(), [BOB]);
    assert_eq!(
        set_aliases(&mut house, CAROL, &[&number]),
        Err(format!("{number} is an alias of {BOB}: take it from there first"))
    );
    set_aliases(&mut house, BOB, &[]).unwrap();
    house.message(&number, "two");
    assert_eq!(house.owners(), [BOB, number.as_str()], "what is bob's stays bob's");
    set_aliases(&mut house, CAROL, &[&number]).unwrap();
    assert_eq!(house.owners(), [BOB, CAROL]);
}

#[test]
fn a_name_is_not_known_before_it_is_durable() {
    let mut house = House::new();
    let number = house.numbers(BOB)[1].clone();
    house.store.refuse(Some(CommitError::Full));
    assert!(set_aliases(&mut house, BOB, &[&number]).is_err());
    house.store.refuse(None);
    house.message(&number, "one");
    assert_eq!(house.owners(), [number.as_str()]);
    set_aliases(&mut house, CAROL, &[&number]).expect("nothing is reserved any more");
    assert_eq!(house.owners(), [CAROL]);
}

#[test]
fn a_core_gives_a_number_to_somebody_else_but_not_an_operators() {
    let mut house = House::new();
    let [near, far] = house.numbers(BOB);
    house.register_by_core(BOB, &[&far]);
    set_aliases(&mut house, "sip:dave@example.org", &[&near]).unwrap();
    house.register_by_core(CAROL, &[&far, &near]);
    let aliases = |house: &House, whose: &str| house.store.profile(&user(whose)).unwrap().aliases;
    assert_eq!(aliases(&house, BOB), texts(&[]));
    assert_eq!(aliases(&house, CAROL), [far.as_str()]);
    assert_eq!(aliases(&house, "sip:dave@example.org"), [near.as_str()]);
    house.message(&far, "one");
    house.message(&near, "two");
    assert_eq!(house.owners(), [CAROL, "sip:dave@example.org"]);
}

#[test]
fn preferences_survive_a_registration_that_tells_names() {
    let mut house = House::new();
    let number = house.numbers(BOB)[0].clone();
    let hold = ProfileChange { delivery: Some(Some(Delivery::Hold)), ..ProfileChange::default() };
    // Both were begun before either is durable.
    house.store.hold();
    house.register_by_core(BOB, &[&number]);
    let (done, _) = oneshot::channel();
    let order = ProfileOrder { user: user(BOB), change: hold, reservation: None, done: Some(done) };
    house.shared.to_recipient(&user(BOB), ToShard::ChangeProfile(Box::new(order)));
    house.run();
    house.store.release();
    house.run();
    let profile = house.store.profile(&user(BOB)).unwrap();
    assert_eq!((profile.delivery, profile.aliases), (Some(Delivery::Hold), vec![number]));
}

#[test]
fn a_changed_preference_delivers_at_once_to_who_is_there() {
    let mut house = House::new();
    house.register(BOB, PHONE);
    house.message(BOB, "one");
    house.pass(1_000);
    assert_eq!(house.delivered(480), ["one"]);
    house.pass(5_000);
    assert!(house.delivered(200).is_empty(), "it waits for its retry");
    let push = ProfileChange { delivery: Some(Some(Delivery::Push)), ..ProfileChange::default() };
    change(&mut house, BOB, push).unwrap();
    assert_eq!(house.delivered(200), ["one"]);
    // Names are no preference.
    house.message(BOB, "two");
    house.pass(1_000);
    assert_eq!(house.delivered(480), ["two"]);
    set_aliases(&mut house, BOB, &["tel:+15559999"]).unwrap();
    house.pass(1_000);
    assert!(house.delivered(200).is_empty());
}

#[test]
fn a_registration_is_told_every_name() {
    let mut house = House::with_aliases(&[("tel:+15550001", BOB)]);
    set_aliases(&mut house, BOB, &["sip:robert@example.org"]).unwrap();
    house.register_by_core(BOB, &["tel:+15550002"]);
    let registered = house.register(BOB, PHONE);
    let names: Vec<String> = house.answer(&registered).list(Name::PAssociatedUri).map(str::to_owned).collect();
    assert_eq!(names, ["<sip:bob@example.org>", "<tel:+15550001>", "<sip:robert@example.org>", "<tel:+15550002>"]);
}

/// A message from Alice, as a machine is told of it.
fn arrival(text: &str) -> Arrival {
    let mut key = [0; 16];
    key.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    Arrival {
        reply: ReplyToken(0),
        request: Default::default(),
        deduplication: restante_deferral::model::DeduplicationKey(key),
        deduplication_as_written: None,
        envelope: restante_deferral::model::Envelope {
            kind: restante_deferral::model::MessageKind::Message,
            mode: restante_deferral::model::Mode::Page,
            sender: restante_deferral::model::Sender {
                address: CanonicalAddress("sip:alice@example.org".into()),
                uri: "sip:alice@example.org".to_owned(),
                verification: restante_deferral::model::Verification::TrustedPeer,
                private: false,
            },
            request_uri: BOB.to_owned(),
            headers: Vec::new(),
            content_type: "text/plain".to_owned(),
            wrapped_type: None,
            imdn: None,
            page_base_bytes: Some(600),
        },
        body: restante_deferral::model::Body::Inline(bytes::Bytes::copy_from_slice(text.as_bytes())),
        expires_at: None,
        sender_counts: Default::default(),
        tenant_counts: Default::default(),
        recipient_rates: Default::default(),
        upstream_failure: None,
        has_room: true,
    }
}
