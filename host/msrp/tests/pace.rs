//! A peer that brings a byte now and then holds no session for ever.

mod common;

use std::time::Duration;

use restante_msrp::session::{EndReason, Event, IncomingId};

use self::common::{Harness, OURS, Request, send};

fn completed(harness: &mut Harness) -> IncomingId {
    let is_it = |event: Event| match event {
        Event::IncomingComplete { message, .. } => Some(message),
        _ => None,
    };
    harness.events().into_iter().find_map(is_it).expect("a whole message")
}

/// A peer that says something each 59 s, until the session ends; how long that took.
fn drips(harness: &mut Harness, mut next: impl FnMut(u64) -> String) -> Duration {
    let began = harness.now;
    for number in 1..100 {
        harness.receive(&next(number));
        harness.written();
        if let Some(Event::Ended { reason }) = harness.events().pop() {
            assert_eq!(reason, EndReason::TooSlow);
            return harness.now - began;
        }
        // Woken when it is due, as its host does.
        for _ in 0..59 {
            harness.wait(Duration::from_secs(1));
        }
        if harness.session.is_ended() {
            let Some(Event::Ended { reason }) = harness.events().pop() else { panic!("no last event") };
            assert_eq!(reason, EndReason::TooSlow);
            return harness.now - began;
        }
    }
    panic!("for ever");
}

#[test]
fn what_only_drips_in_ends_the_session() {
    let soon = Duration::from_secs(120);
    // The content of a chunk.
    let mut harness = Harness::passive(|_| {});
    let whole = send("tid1", "m", "Byte-Range: 1-*/900", "a", '$');
    harness.receive(whole.split_once("a\r\n---").unwrap().0);
    assert!(drips(&mut harness, |_| "b".to_owned()) <= soon);
    // Whole chunks of a message that gets no further.
    let mut harness = Harness::passive(|_| {});
    let chunk = |number| {
        let range = format!("Byte-Range: {number}-{number}/900");
        send(&format!("tid{number}"), "m", &range, "a", '+')
    };
    assert!(drips(&mut harness, chunk) <= soon);
    // The same chunk again and again, of a message that needs another one.
    let mut harness = Harness::passive(|_| {});
    let content = "x".repeat(100_000);
    let again = |number| send(&format!("tid{number}"), "m", "Byte-Range: 1-100000/200000", &content, '+');
    assert!(drips(&mut harness, again) <= 2 * soon);
    // Chunks that take in one more byte each.
    let mut harness = Harness::passive(|_| {});
    let more = |number: u64| {
        let content = "x".repeat(100_000 + number as usize);
        send(&format!("tid{number}"), "m", &format!("Byte-Range: 1-{}/200000", content.len()), &content, '+')
    };
    assert!(drips(&mut harness, more) <= 2 * soon);
    // A head.
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid0", "m0", "", "binds", '$'));
    harness.receive("MSRP tid1 SEND\r\nTo-Path: ");
    assert!(drips(&mut harness, |_| "x".to_owned()) <= soon);
    // A head, line by line.
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid0", "m0", "", "binds", '$'));
    harness.receive("MSRP tid1 SEND\r\n");
    assert!(drips(&mut harness, |_| "X-A: b\r\n".to_owned()) <= soon);
    // Content of what is refused for its head.
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid0", "m0", "", "binds", '$'));
    harness.receive(send("tid1", "m", "Byte-Range: nonsense", "a", '$').split_once("a\r\n---").unwrap().0);
    assert!(drips(&mut harness, |_| "x".to_owned()) <= soon);
    // Content that is not wanted.
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid0", "m0", "", "binds", '$'));
    harness.receive(
        &Request { id: "tid1", method: "FROB", to: OURS, headers: "Content-Type: a/b", body: Some(""), flag: '$' }
            .text()
            .replace("-------tid1$\r\n", ""),
    );
    assert!(drips(&mut harness, |_| "x".to_owned()) <= soon);
}

#[test]
fn what_comes_fast_enough_or_waits_for_us_is_taken_however_long_it_takes() {
    let mut harness = Harness::passive(|_| {});
    let whole = send("tid1", "m", "Byte-Range: 1-*/9000000", "a", '$');
    let (head, _) = whole.split_once("a\r\n---").unwrap();
    harness.receive(head);
    let piece = "x".repeat(1_100);
    for _ in 0..600 {
        harness.receive(&piece);
        harness.wait(Duration::from_secs(1));
    }
    assert!(!harness.session.is_ended(), "ten minutes");
    // The host does not read for a while.
    for _ in 0..5 {
        harness.now += Duration::from_secs(50);
        harness.session.reads_again(harness.now);
        harness.session.handle_wake(harness.now);
    }
    assert!(!harness.session.is_ended());
    // Messages that are whole, however small and rare.
    let mut harness = Harness::passive(|_| {});
    for number in 0..100 {
        harness.receive(&send("tid1", &format!("m{number}"), "", "a", '$'));
        let message = completed(&mut harness);
        harness.wait(Duration::from_secs(59));
        harness.session.accept(harness.now, message).unwrap();
        harness.written();
    }
    assert!(!harness.session.is_ended());
}
