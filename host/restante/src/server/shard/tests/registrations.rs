//! What a REGISTER leaves behind, and when it is answered.

use restante_deferral::commit::CommitError;
use restante_store::Store;

use super::*;

const BOB: &str = "sip:bob@example.org";
const PHONE: &str = "<sip:bob@127.0.0.1:6000>;expires=600";

fn contacts(house: &mut House) -> Vec<u64> {
    let known = house.shard(BOB).registrations.get(&user(BOB));
    known.map(|known| known.bindings.iter().map(|binding| binding.id.0).collect()).unwrap_or_default()
}

/// The same REGISTER, but for From's tag, in a transaction of its own.
fn register_again(house: &mut House) -> String {
    let tag = house.requests;
    let fields = format!("From: <{BOB}>;tag={tag}\r\nCSeq: 7 REGISTER\r\nContact: {PHONE}\r\n");
    house.send("REGISTER", BOB, Some("same"), &fields, "")
}

#[test]
fn a_registration_that_could_not_be_kept_leaves_nothing_behind() {
    let mut house = House::new();
    house.message(BOB, "one");
    house.store.refuse(Some(CommitError::Full));
    let refused = register_again(&mut house);
    assert_eq!(house.statuses(&refused), [503]);
    assert!(contacts(&mut house).is_empty());
    house.pass(1_000);
    assert!(house.delivered(200).is_empty());
    house.store.refuse(None);
    register_again(&mut house);
    assert_eq!(house.statuses(&refused), [503, 200], "the same request is a new one");
    house.pass(1_000);
    assert_eq!(house.delivered(200), ["one"]);
}

#[test]
fn a_repetition_is_not_answered_before_the_first_is_durable() {
    for refused in [false, true] {
        let mut house = House::new();
        house.store.hold();
        let first = register_again(&mut house);
        register_again(&mut house);
        assert!(house.statuses(&first).is_empty());
        assert!(contacts(&mut house).is_empty(), "not known either");
        house.store.refuse(refused.then_some(CommitError::Failed));
        house.store.release();
        house.run();
        let status = if refused { 503 } else { 200 };
        assert_eq!(house.statuses(&first), [status; 2]);
        assert_eq!(contacts(&mut house).len(), usize::from(!refused));
        assert!(house.shard(BOB).registering.is_empty());
    }
}

#[test]
fn registrations_that_wait_for_a_slow_store_are_bounded() {
    let mut house = House::new();
    house.store.hold();
    let sent: Vec<String> = (0..20).map(|_| house.register(BOB, PHONE)).collect();
    let refused = |house: &House| sent.iter().filter(|call| house.statuses(call) == [503]).count();
    assert_eq!(refused(&house), 3, "one is written, sixteen wait");
    house.store.release();
    house.run();
    let accepted = sent.iter().filter(|call| house.statuses(call) == [200]).count();
    assert_eq!((accepted, refused(&house)), (17, 3));
}

#[test]
fn nothing_is_kept_of_who_went_and_numbers_are_not_used_again() {
    let mut house = House::new();
    house.register(BOB, PHONE);
    let first = contacts(&mut house);
    house.pass(1_000);
    house.register(BOB, "*\r\nExpires: 0");
    assert!(house.shard(BOB).registrations.is_empty() && house.shard(BOB).registration_ends.is_empty());
    assert_eq!(house.store.registration(&user(BOB)).unwrap(), None);
    house.register(BOB, PHONE);
    let second = contacts(&mut house);
    assert!(first < second, "{first:?} {second:?}");
    // The same when it ends by itself.
    house.pass(601_000);
    assert!(house.shard(BOB).registrations.is_empty() && house.shard(BOB).registration_ends.is_empty());
    assert_eq!(house.store.registration(&user(BOB)).unwrap(), None);
}

#[test]
fn refreshes_leave_one_end_each_user() {
    let mut house = House::new();
    for _ in 0..50 {
        house.register(BOB, PHONE);
        house.pass(100);
    }
    assert_eq!(house.shard(BOB).registration_ends.len(), 1);
    house.register(BOB, "<sip:bob@127.0.0.1:6001>;expires=60");
    assert_eq!((contacts(&mut house).len(), house.shard(BOB).registration_ends.len()), (2, 1));
    house.pass(61_000);
    assert_eq!((contacts(&mut house).len(), house.shard(BOB).registration_ends.len()), (1, 1));
}

#[test]
fn an_end_that_could_not_be_written_is_written_later() {
    let mut house = House::new();
    house.register(BOB, PHONE);
    house.store.refuse(Some(CommitError::Full));
    house.pass(602_000);
    assert_eq!(contacts(&mut house).len(), 1, "what is durable is known");
    house.message(BOB, "one");
    house.store.refuse(None);
    house.pass(2_000);
    assert!(contacts(&mut house).is_empty() && house.shard(BOB).registration_ends.is_empty());
    assert!(house.delivered(200).is_empty(), "nobody is there");
}
