//! A subscription to registration events, from its first SUBSCRIBE to its end.

use restante_sip::message::{MessageLimits, Name, SipMessage};
use restante_sip::registration_events::{
    NotifyError, RegistrationInfo, ReportedContact, ReportedRegistration, Subscriber, SubscriberSettings,
};

const SECOND: u64 = 1000;
const VIA: &str = "SIP/2.0/UDP h;branch=z9hG4bK1";

fn subscriber() -> Subscriber {
    let settings = SubscriberSettings {
        user: "sip:bob@example.org".to_owned(),
        identity: "sip:example.org".to_owned(),
        expires_seconds: 7200,
    };
    Subscriber::new(settings, "c1".to_owned(), "r00t".to_owned(), 0)
}

fn parse(text: impl AsRef<[u8]>) -> SipMessage {
    SipMessage::parse(text.as_ref().to_vec().into(), &MessageLimits::default()).unwrap()
}

/// Its next SUBSCRIBE.
fn asks(subscriber: &mut Subscriber, now: u64) -> SipMessage {
    assert!(subscriber.wake(now), "due at {:?}", subscriber.next_wake());
    if subscriber.is_spent() {
        subscriber.renew("c1".to_owned(), "r00t".to_owned());
    }
    parse(subscriber.subscribe(VIA, "sip:us", "<sip:core.example.org;lr>").unwrap())
}

fn answer(request: &SipMessage, status: u16, fields: &str) -> SipMessage {
    let cseq = request.header(Name::CSeq).unwrap();
    parse(format!(
        "SIP/2.0 {status} X\r\nVia: {VIA}\r\nFrom: <sip:example.org>;tag=r00t\r\nTo: <sip:bob@example.org>;tag=core\r\n\
         Call-ID: c1\r\nCSeq: {cseq}\r\nContact: <sip:core@192.0.2.1>\r\nRecord-Route: <sip:b;lr>, <sip:a;lr>\r\n{fields}Content-Length: 0\r\n\r\n"
    ))
}

fn notify(cseq: u32, tag: &str, state: &str, info: Option<&RegistrationInfo>) -> SipMessage {
    let body = info.map(RegistrationInfo::to_xml).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/reginfo+xml\r\n" };
    parse(format!(
        "NOTIFY sip:us SIP/2.0\r\nVia: {VIA}\r\nFrom: <sip:bob@example.org>;tag={tag}\r\nTo: <sip:example.org>;tag=r00t\r\n\
         Call-ID: c1\r\nCSeq: {cseq} NOTIFY\r\nContact: <sip:core@192.0.2.1>\r\nRecord-Route: <sip:a;lr>, <sip:b;lr>\r\n\
         Event: reg\r\nSubscription-State: {state}\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn info(version: u32) -> RegistrationInfo {
    let contact = ReportedContact { id: "1".into(), is_active: true, uri: "sip:bob@ue".into(), ..Default::default() };
    let registration = ReportedRegistration {
        address_of_record: "sip:bob@example.org".into(),
        id: "r".into(),
        is_active: true,
        contacts: vec![contact],
    };
    RegistrationInfo { version, is_full: true, registrations: vec![registration] }
}

#[test]
fn it_is_subscribed_notified_and_refreshed_in_its_dialog_before_its_end() {
    let mut bob = subscriber();
    let first = asks(&mut bob, 0);
    assert_eq!(first.request_uri(), Some("sip:bob@example.org"));
    for (name, value) in [("Event", "reg"), ("Accept", "application/reginfo+xml"), ("Expires", "7200")] {
        assert_eq!(first.header_by_text(name), Some(value));
    }
    assert_eq!(first.header(Name::Route), Some("<sip:core.example.org;lr>"));
    bob.answered(0, Some((&first, &answer(&first, 200, "Expires: 3600\r\n"))));
    assert_eq!(bob.next_wake(), Some(32 * SECOND), "Timer N");
    let notified = bob.notified(1, &notify(1, "core", "active;expires=3600", Some(&info(0)))).unwrap();
    assert_eq!(notified.info, Some(Ok(info(0))));
    assert_eq!(bob.next_wake(), Some(1 + 3000 * SECOND));
    let second = asks(&mut bob, 3001 * SECOND);
    assert_eq!(second.request_uri(), Some("sip:core@192.0.2.1"));
    assert_eq!(second.list(Name::Route).collect::<Vec<_>>(), ["<sip:a;lr>", "<sip:b;lr>"]);
    assert_eq!(second.header(Name::CSeq), Some("2 SUBSCRIBE"));
    assert!(second.to().unwrap().tag() == Some("core"));
    bob.answered(3001 * SECOND, Some((&second, &answer(&second, 200, "Expires: 60\r\n"))));
    assert_eq!(bob.next_wake(), Some(3031 * SECOND), "half of a short time");
}

#[test]
fn a_notify_may_come_before_the_answer_and_another_dialog_is_none() {
    let mut bob = subscriber();
    assert!(matches!(bob.notified(0, &notify(1, "core", "active", None)), Err(NotifyError::Dialog(_))), "not asked");
    let first = asks(&mut bob, 0);
    bob.notified(1, &notify(5, "core", "active;expires=3600", None)).unwrap();
    bob.answered(2, Some((&first, &answer(&first, 202, "Expires: 7200\r\n"))));
    let forked = bob.notified(3, &notify(1, "fork", "active", None));
    assert_eq!(forked.map_err(NotifyError::status), Err(481));
    let late = bob.notified(3, &notify(4, "core", "active", None));
    assert_eq!(late.map_err(NotifyError::status), Err(500));
    let second = asks(&mut bob, 7000 * SECOND);
    assert_eq!(second.header(Name::CSeq), Some("2 SUBSCRIBE"));
    assert_eq!(second.list(Name::Route).collect::<Vec<_>>(), ["<sip:a;lr>", "<sip:b;lr>"]);
}

#[test]
fn what_no_subscription_can_be_is_refused() {
    let mut bob = subscriber();
    asks(&mut bob, 0);
    let text = |from: &str, to: &str| {
        let text = String::from_utf8(notify(1, "core", "active", None).bytes().to_vec()).unwrap();
        parse(text.replace(from, to))
    };
    for (from, to, status) in [
        ("Event: reg", "Event: presence", 489),
        ("Event: reg\r\n", "", 489),
        ("Subscription-State: active\r\n", "", 400),
        ("Contact: <sip:core@192.0.2.1>\r\n", "", 400),
        ("From: <sip:bob@example.org>;tag=core", "From: <sip:bob@example.org>", 400),
    ] {
        assert_eq!(bob.notified(1, &text(from, to)).map_err(NotifyError::status), Err(status), "{from}");
    }
}

#[test]
fn a_longer_time_is_asked_for_where_ours_is_too_brief() {
    let mut bob = subscriber();
    let first = asks(&mut bob, 0);
    bob.answered(0, Some((&first, &answer(&first, 423, "Min-Expires: 9000\r\n"))));
    assert_eq!(asks(&mut bob, 0).header(Name::Expires), Some("9000"));
}

#[test]
fn what_fails_is_tried_less_and_less_often_and_a_dialog_that_is_gone_is_made_anew() {
    let mut bob = subscriber();
    let mut now = 0;
    for wait in [5, 10, 20, 40] {
        asks(&mut bob, now);
        bob.answered(now, None);
        assert_eq!(bob.next_wake(), Some(now + wait * SECOND));
        now += wait * SECOND;
    }
    let request = asks(&mut bob, now);
    bob.answered(now, Some((&request, &answer(&request, 503, "Retry-After: 7\r\n"))));
    now += 7 * SECOND;
    let request = asks(&mut bob, now);
    bob.answered(now, Some((&request, &answer(&request, 200, "Expires: 3600\r\n"))));
    bob.notified(now, &notify(1, "core", "active;expires=3600", None)).unwrap();
    now += 60 * SECOND;
    bob.ask_again(now);
    let request = asks(&mut bob, now);
    bob.answered(now, Some((&request, &answer(&request, 481, ""))));
    let anew = asks(&mut bob, now);
    assert_eq!(anew.to().unwrap().tag(), None, "a new dialog, at once");
}

#[test]
fn the_reason_says_when_to_subscribe_again() {
    for (reason, wait) in [
        ("deactivated", 0),
        ("timeout", 0),
        ("probation;retry-after=30", 30),
        ("giveup", 10),
        ("rejected", 3600),
        ("noresource", 3600),
    ] {
        let mut bob = subscriber();
        let first = asks(&mut bob, 0);
        bob.answered(0, Some((&first, &answer(&first, 200, ""))));
        bob.notified(0, &notify(1, "core", "active;expires=3600", None)).unwrap();
        let last = bob.notified(1, &notify(2, "core", &format!("terminated;reason={reason}"), Some(&info(1)))).unwrap();
        assert!(last.is_last && last.info.is_some(), "what it says counts still");
        assert_eq!(bob.next_wake(), Some(1 + wait * SECOND), "{reason}");
        assert!(bob.notified(2, &notify(3, "core", "active", None)).is_err(), "it is over");
    }
}

#[test]
fn silence_after_the_answer_and_an_end_without_refresh_begin_anew() {
    let mut bob = subscriber();
    let first = asks(&mut bob, 0);
    bob.answered(0, Some((&first, &answer(&first, 200, ""))));
    assert!(!bob.wake(32 * SECOND), "not at once");
    assert_eq!(bob.next_wake(), Some(37 * SECOND));
    let again = asks(&mut bob, 37 * SECOND);
    bob.answered(37 * SECOND, Some((&again, &answer(&again, 200, ""))));
    bob.notified(37 * SECOND, &notify(1, "core", "active;expires=100", None)).unwrap();
    let refresh = asks(&mut bob, 90 * SECOND);
    bob.answered(90 * SECOND, Some((&refresh, &answer(&refresh, 500, ""))));
    assert_eq!(bob.ends_at(), Some(137 * SECOND), "it stands until then");
}

#[test]
fn what_cannot_be_sent_is_tried_later_and_not_at_once() {
    let mut bob = subscriber();
    assert!(bob.wake(0));
    // Nothing was made of it.
    bob.not_sent(0);
    assert_eq!(bob.next_wake(), Some(5 * SECOND));
    asks(&mut bob, 5 * SECOND);
    // It was written, and then the transaction could not begin.
    bob.not_sent(5 * SECOND);
    assert_eq!(bob.next_wake(), Some(15 * SECOND));
}

#[test]
fn a_tag_that_cannot_stand_in_our_requests_makes_no_dialog() {
    let quoted = "\"a\r\n b\"";
    let mut bob = subscriber();
    let first = asks(&mut bob, 0);
    let forged = notify(1, quoted, "active;expires=3600", None);
    assert_eq!(bob.notified(0, &forged).map_err(NotifyError::status), Err(400));
    let text = String::from_utf8(answer(&first, 200, "").bytes().to_vec()).unwrap();
    bob.answered(0, Some((&first, &parse(text.replace("tag=core", &format!("tag={quoted}"))))));
    assert!(bob.dialog().is_none());
    assert_eq!(bob.next_wake(), Some(5 * SECOND));
}

#[test]
fn a_notifier_is_asked_no_faster_than_one_that_fails_whatever_it_says() {
    // Ended as soon as it began, again and again.
    let (mut bob, mut now, mut asked) = (subscriber(), 0, 0);
    while now < 600 * SECOND && asked < 100 {
        let request = asks(&mut bob, now);
        asked += 1;
        bob.answered(now, Some((&request, &answer(&request, 200, ""))));
        bob.notified(now, &notify(1, "core", "active;expires=3600", None)).unwrap();
        bob.notified(now, &notify(2, "core", "terminated;reason=deactivated", None)).unwrap();
        now = bob.next_wake().unwrap();
    }
    assert!(asked <= 8, "{asked} in ten minutes");
    // Granted for no time.
    let (mut bob, mut now, mut asked) = (subscriber(), 0, 0);
    while now < 600 * SECOND && asked < 100 {
        if bob.wake(now) {
            let request = asks(&mut bob, now);
            asked += 1;
            bob.answered(now, Some((&request, &answer(&request, 200, ""))));
            bob.notified(now, &notify(asked, "core", "active;expires=0", None)).unwrap();
        }
        now = bob.next_wake().unwrap().max(now + 1);
    }
    assert!(asked <= 8, "{asked} in ten minutes");
}

#[test]
fn documents_that_are_always_missing_something_are_asked_for_at_once_and_then_at_an_interval() {
    let mut bob = subscriber();
    let first = asks(&mut bob, 0);
    // Before the answer, which must not make it forget.
    bob.notified(0, &notify(1, "core", "active;expires=3600", None)).unwrap();
    bob.ask_again(0);
    bob.answered(0, Some((&first, &answer(&first, 200, ""))));
    let second = asks(&mut bob, 0);
    bob.answered(0, Some((&second, &answer(&second, 200, ""))));
    bob.notified(0, &notify(2, "core", "active;expires=3600", None)).unwrap();
    bob.ask_again(0);
    assert_eq!(bob.next_wake(), Some(5 * SECOND));
    let third = asks(&mut bob, 5 * SECOND);
    bob.answered(5 * SECOND, Some((&third, &answer(&third, 200, ""))));
    bob.notified(5 * SECOND, &notify(3, "core", "active;expires=1", None)).unwrap();
    assert!(bob.next_wake() >= Some(6 * SECOND), "not refreshed in the half of a second");
}

#[test]
fn what_begins_anew_has_other_names_and_nothing_late_is_taken_for_its_own() {
    let mut bob = subscriber();
    let first = asks(&mut bob, 0);
    bob.answered(0, Some((&first, &answer(&first, 200, ""))));
    bob.notified(0, &notify(1, "core", "active;expires=3600", None)).unwrap();
    let refresh = asks(&mut bob, 3000 * SECOND);
    bob.notified(3000 * SECOND, &notify(2, "core", "terminated;reason=deactivated", None)).unwrap();
    assert!(bob.wake(3000 * SECOND) && bob.is_spent());
    bob.renew("c2".to_owned(), "other".to_owned());
    let anew = parse(bob.subscribe(VIA, "sip:us", "<sip:core.example.org;lr>").unwrap());
    assert_eq!((anew.call_id(), anew.from().unwrap().tag()), (Some("c2"), Some("other")));
    assert_eq!(bob.key(), ("c2", "other"));
    let late = bob.notified(3000 * SECOND, &notify(3, "core", "active;expires=3600", None));
    assert_eq!(late.map_err(NotifyError::status), Err(481));
    bob.answered(3000 * SECOND, Some((&refresh, &answer(&refresh, 200, ""))));
    assert!(bob.dialog().is_none(), "the answer to the refresh makes no dialog");
}

#[test]
fn an_answer_after_the_last_word_does_not_revive_it() {
    for reason in ["rejected", "noresource"] {
        let mut bob = subscriber();
        let first = asks(&mut bob, 0);
        bob.notified(1, &notify(1, "core", &format!("terminated;reason={reason}"), None)).unwrap();
        bob.answered(2, Some((&first, &answer(&first, 200, "Expires: 3600\r\n"))));
        assert!(bob.dialog().is_none(), "{reason}");
        assert_eq!(bob.next_wake(), Some(1 + 3600 * SECOND), "{reason}");
    }
}

#[test]
fn a_notify_that_says_nothing_of_the_end_leaves_it_as_it_was() {
    let mut bob = subscriber();
    let first = asks(&mut bob, 0);
    bob.answered(0, Some((&first, &answer(&first, 200, "Expires: 3600\r\n"))));
    bob.notified(0, &notify(1, "core", "active", None)).unwrap();
    assert_eq!(bob.ends_at(), Some(3600 * SECOND), "as the answer has it");
    bob.notified(1000 * SECOND, &notify(2, "core", "active", None)).unwrap();
    assert_eq!(bob.ends_at(), Some(3600 * SECOND));
    assert_eq!(bob.next_wake(), Some(3000 * SECOND));
}
