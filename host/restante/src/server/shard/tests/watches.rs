//! Who is watched, and how often a core is asked.

use restante_deferral::model::{AliasChange, ProfileChange};
use tokio::sync::oneshot;

use super::super::ProfileOrder;
use super::*;
use crate::configuration::RegistrationEvents;

const BOB: &str = "sip:bob@example.org";

/// Whose tenant asks through `via` about registrations.
fn watching(via: &str, change: impl FnOnce(&mut Configuration)) -> House {
    House::configured(|it| {
        let tenant = it.tenants.get_mut("example").unwrap();
        tenant.numbers = vec!["+1555".to_owned()];
        tenant.registration_events =
            Some(RegistrationEvents { via: via.to_owned(), identity: None, expires_seconds: 7_200 });
        change(it);
    })
}

fn here(change: impl FnOnce(&mut Configuration)) -> House {
    watching(&format!("sip:{PEER}"), change)
}

/// What was asked and not looked at.
fn asked(house: &mut House) -> Vec<SipMessage> {
    let is_it = |it: &SipMessage| it.is_request() && it.method() == Some(Method::Subscribe);
    let (found, rest) = house.sent.drain(..).partition(is_it);
    house.sent = rest;
    found
}

/// About whom.
fn users(asked: &[SipMessage]) -> Vec<&str> {
    asked.iter().filter_map(SipMessage::request_uri).collect()
}

fn refuse(house: &mut House, request: &SipMessage, status: u16) {
    let answer = Builder::response(request, status, "Said So", request.header(Name::Via), Some("t")).finish().unwrap();
    receiver::received(&house.shared, message_of(&answer), &flow());
    house.run();
}

#[test]
fn a_subscribe_that_cannot_be_sent_holds_nobody_up() {
    let mut house = here(|it| it.limits.max_client_transactions = 0);
    house.message(BOB, "one");
    house.pass(100);
    let second = house.message(BOB, "two");
    assert_eq!(house.statuses(&second), [202]);
    let (now, wake) = (house.now().wall.0, house.shard(BOB).watches.next_wake().expect("another try"));
    assert!(wake >= now + 4_000, "not at once: {}", wake - now);
}

#[test]
fn a_name_that_leads_nowhere_is_tried_more_and_more_seldom() {
    let mut house = watching("sip:core.nowhere.example", |_| {});
    house.message(BOB, "one");
    house.pass(600);
    let wait = |house: &mut House| {
        let now = house.now().wall.0;
        house.shard(BOB).watches.next_wake().expect("another try").saturating_sub(now)
    };
    assert!(wait(&mut house) >= 4_000, "{}", wait(&mut house));
    house.pass(5_600);
    assert!(wait(&mut house) >= 9_000, "{}", wait(&mut house));
}

#[test]
fn a_disposition_that_waits_is_a_reason_to_ask() {
    let mut house = here(|_| {});
    let report = "<imdn><message-id>7</message-id><delivery-notification><status><delivered/></status>\
                  </delivery-notification></imdn>";
    let fields = "From: <sip:alice@example.org>;tag=1\r\nCSeq: 1 MESSAGE\r\nContent-Type: message/imdn+xml\r\n";
    let call = house.send("MESSAGE", BOB, None, fields, report);
    assert_eq!(house.statuses(&call), [202]);
    assert_eq!(house.store.totals(&user(BOB)).0.messages, 0, "no sum counts it");
    house.pass(100);
    let first = asked(&mut house);
    assert_eq!(users(&first), [BOB]);
    // And it is one still when the next try is due.
    refuse(&mut house, &first[0], 500);
    house.pass(6_000);
    assert_eq!(users(&asked(&mut house)), [BOB]);
}

#[test]
fn who_gets_another_name_with_what_waits_under_it_is_asked_about() {
    let mut house = here(|_| {});
    for number in house.numbers(BOB) {
        house.message(&number, "under a number");
        house.pass(100);
        asked(&mut house);
        let reservation =
            house.shared.directory.reserve(&user(BOB), std::slice::from_ref(&number)).expect("a free name");
        let aliases = AliasChange::Set(vec![number]);
        let (done, _) = oneshot::channel();
        let order = ProfileOrder {
            user: user(BOB),
            change: ProfileChange { aliases, ..ProfileChange::default() },
            reservation: Some(reservation),
            done: Some(done),
        };
        house.shared.to_recipient(&user(BOB), ToShard::ChangeProfile(Box::new(order)));
        house.run();
        house.pass(200);
        assert_eq!(users(&asked(&mut house)), [BOB]);
        house = here(|_| {});
    }
}

#[test]
fn who_found_no_place_is_asked_about_when_one_is_free() {
    let mut house = here(|it| it.limits.max_registration_subscriptions = 1);
    let shard = house.shard_of(BOB);
    let other = (0..99).map(|index| format!("sip:user{index}@example.org"));
    let other = other.into_iter().find(|it| house.shard_of(it) == shard).expect("one of the same shard");
    house.message(BOB, "one");
    house.message(&other, "two");
    house.pass(100);
    let first = asked(&mut house);
    assert_eq!(users(&first), [BOB]);
    let (done, _) = oneshot::channel();
    let discard = ToShard::Discard { recipient: user(BOB), messages: None, report: false, done };
    house.shared.to_recipient(&user(BOB), discard);
    house.run();
    refuse(&mut house, &first[0], 404);
    house.pass(6_000);
    assert_eq!(users(&asked(&mut house)), [&*other]);
}
