//! Dialogs (RFC 3261 §12) and subscriptions (RFC 6665, RFC 3842).

use bytes::Bytes;
use proptest::prelude::*;
use restante_sip::dialog::{Dialog, DialogError, DialogId, DialogState, MAX_ROUTES};
use restante_sip::message::{MessageLimits, Method, Name, SipMessage};
use restante_sip::subscription::{
    SubscribeError, Subscription, SubscriptionLimits, SubscriptionState, TerminationReason,
};
use restante_sip::writer::Builder;

fn message(text: &str) -> SipMessage {
    SipMessage::from_datagram(Bytes::copy_from_slice(text.as_bytes()), &MessageLimits::default()).unwrap()
}

fn written(builder: Builder) -> SipMessage {
    message(std::str::from_utf8(&builder.finish().unwrap()).unwrap())
}

fn request(method: &str, cseq: u32, to_tag: &str, more: &str) -> SipMessage {
    message(&format!(
        "{method} sip:us@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK{cseq}\r\nFrom: \"A, B\" <sip:a@a;x=1>;tag=theirs\r\nTo: <sip:bob@b>{to_tag}\r\nCall-ID: c\r\nCSeq: {cseq} {method}\r\n{more}\r\n"
    ))
}

fn invite(more: &str) -> SipMessage {
    request("INVITE", 5, "", &format!("Contact: <sip:a@10.0.0.1:5070>\r\n{more}"))
}

fn answer(status: u16, cseq: &str, more: &str) -> SipMessage {
    message(&format!(
        "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=theirs\r\nTo: <sip:bob@b>;tag=ours\r\nCall-ID: c\r\nCSeq: {cseq}\r\n{more}\r\n"
    ))
}

fn routes(message: &SipMessage) -> Vec<String> {
    message.list(Name::Route).map(str::to_owned).collect()
}

#[test]
fn the_called_side_sends_to_the_contact_through_the_proxies_in_order() {
    let mut dialog = Dialog::as_server(&invite("Record-Route: <sip:p2;lr>,<sip:p1;lr>\r\n"), "ours").unwrap();
    let bye = written(dialog.request(&Method::Bye, "SIP/2.0/UDP us;branch=z9hG4bK1"));
    assert_eq!(bye.request_uri(), Some("sip:a@10.0.0.1:5070"));
    assert_eq!(routes(&bye), ["<sip:p2;lr>", "<sip:p1;lr>"]);
    assert_eq!(bye.header(Name::From), Some("<sip:bob@b>;tag=ours"));
    assert_eq!(bye.header(Name::To), Some("\"A, B\" <sip:a@a;x=1>;tag=theirs"));
    assert_eq!((bye.call_id(), bye.header(Name::CSeq)), (Some("c"), Some("1 BYE")));
    assert_eq!((dialog.next_hop(), dialog.state), ("sip:p2;lr", DialogState::Terminated));
    restante_sip::message::validate_request(&bye).unwrap();
}

#[test]
fn the_calling_side_acknowledges_and_counts_on() {
    let sent = request("INVITE", 5, "", "Contact: <sip:us@b>\r\n");
    let accepted = answer(200, "5 INVITE", "Record-Route: <sip:p2;lr>,<sip:p1;lr>\r\nContact: <sip:bob@10.0.0.2>\r\n");
    let mut dialog = Dialog::as_client(&sent, &accepted).unwrap();
    let ack = written(dialog.ack(&accepted, "SIP/2.0/UDP us;branch=z9hG4bK2").unwrap());
    assert_eq!((ack.request_uri(), ack.header(Name::CSeq)), (Some("sip:bob@10.0.0.2"), Some("5 ACK")));
    assert_eq!(routes(&ack), ["<sip:p1;lr>", "<sip:p2;lr>"]);
    assert_eq!(ack.header(Name::To), Some("<sip:bob@b>;tag=ours"));
    let bye = written(dialog.request(&Method::Bye, "SIP/2.0/UDP us;branch=z9hG4bK3"));
    assert_eq!(bye.header(Name::CSeq), Some("6 BYE"));
    assert_eq!(dialog.id(), DialogId { call_id: "c".into(), local_tag: "theirs".into(), remote_tag: "ours".into() });
}

#[test]
fn a_strict_router_gets_its_own_uri_and_the_target_last() {
    let routed = "Record-Route: <sip:strict:5070;method=X?h=1>,<sip:p1;lr>\r\n";
    let mut dialog = Dialog::as_server(&invite(routed), "ours").unwrap();
    let notify = written(dialog.request(&Method::Notify, "SIP/2.0/UDP us;branch=z9hG4bK1"));
    assert_eq!(notify.request_uri(), Some("sip:strict:5070"));
    assert_eq!(routes(&notify), ["<sip:p1;lr>", "<sip:a@10.0.0.1:5070>"]);
}

#[test]
fn what_is_not_of_the_dialog_is_481_and_what_is_late_500() {
    let mut dialog = Dialog::as_server(&invite(""), "ours").unwrap();
    assert_eq!(dialog.receive(&request("BYE", 6, "", "")), Err(DialogError::Unknown));
    assert_eq!(dialog.receive(&request("BYE", 6, ";tag=other", "")), Err(DialogError::Unknown));
    assert_eq!(dialog.receive(&request("INFO", 4, ";tag=ours", "")), Err(DialogError::OutOfOrder));
    assert_eq!(dialog.receive(&request("ACK", 5, ";tag=ours", "")), Ok(()));
    assert_eq!(dialog.receive(&request("INFO", 9, ";tag=ours", "")), Ok(()));
    assert_eq!(dialog.receive(&request("BYE", 8, ";tag=ours", "")), Err(DialogError::OutOfOrder));
    assert_eq!(dialog.state, DialogState::Confirmed);
    assert_eq!(dialog.receive(&request("BYE", 10, ";tag=ours", "")), Ok(()));
    assert_eq!(dialog.state, DialogState::Terminated);
    assert_eq!(dialog.receive(&request("BYE", 11, ";tag=ours", "")), Err(DialogError::Unknown));
    assert_eq!((DialogError::Unknown.status(), DialogError::OutOfOrder.status()), (481, 500));
}

#[test]
fn a_target_refresh_moves_the_target_and_nothing_else_does() {
    let mut dialog = Dialog::as_server(&invite(""), "ours").unwrap();
    let moved = "Contact: <sip:a@10.0.0.9>\r\nRecord-Route: <sip:late;lr>\r\n";
    dialog.receive(&request("INFO", 6, ";tag=ours", moved)).unwrap();
    assert_eq!(dialog.remote_target, "sip:a@10.0.0.1:5070");
    assert!(dialog.receive(&request("UPDATE", 7, ";tag=ours", "Contact: <tel:+1>\r\n")).is_err());
    assert_eq!(dialog.remote_cseq, Some(6), "as before");
    dialog.receive(&request("INVITE", 7, ";tag=ours", moved)).unwrap();
    assert_eq!((dialog.remote_target.as_str(), dialog.route_set.len()), ("sip:a@10.0.0.9", 0));
}

#[test]
fn an_early_dialog_takes_the_route_set_of_the_2xx() {
    let sent = request("INVITE", 5, "", "");
    assert!(Dialog::as_client(&sent, &answer(100, "5 INVITE", "")).is_err());
    assert!(Dialog::as_client(&sent, &answer(486, "5 INVITE", "")).is_err());
    let mut dialog = Dialog::as_client(&sent, &answer(180, "5 INVITE", "Contact: <sip:x>\r\n")).unwrap();
    assert_eq!(dialog.state, DialogState::Early);
    let accepted = answer(200, "5 INVITE", "Record-Route: <sip:p;lr>\r\nContact: <sip:y>\r\n");
    dialog.update(&accepted).unwrap();
    assert_eq!(
        (dialog.state, dialog.next_hop(), dialog.remote_target.as_str()),
        (DialogState::Confirmed, "sip:p;lr", "sip:y")
    );
    dialog.update(&answer(200, "6 INVITE", "Record-Route: <sip:q;lr>\r\nContact: <sip:z>\r\n")).unwrap();
    assert_eq!((dialog.next_hop(), dialog.remote_target.as_str()), ("sip:p;lr", "sip:z"));
}

#[test]
fn an_answer_without_contact_can_still_be_acknowledged() {
    let dialog = Dialog::as_client(&request("INVITE", 5, "", ""), &answer(200, "5 INVITE", "")).unwrap();
    assert_eq!(dialog.remote_target, "sip:us@b");
}

#[test]
fn what_cannot_make_a_dialog_is_refused() {
    let many = "Record-Route: <sip:p;lr>\r\n".repeat(MAX_ROUTES + 1);
    for wrong in [
        request("INVITE", 5, "", ""),
        invite("Record-Route: <p\r\n"),
        invite(&many),
        request("INVITE", 5, "", "Contact: <tel:+1>\r\n"),
    ] {
        assert_eq!(Dialog::as_server(&wrong, "ours").unwrap_err().status(), 400);
    }
}

proptest! {
    /// A peer's Contact, Record-Route and From end up in requests of ours: whatever is taken is written well-formed.
    #[test]
    fn what_is_taken_from_a_peer_makes_valid_requests(
        contact in "(sip:|sips:)?[a-z@%:.;=?\\[\\]]{1,20}",
        route in "<?sip:[a-z:.0-9;=?]{1,15}(;lr)?>?",
        from in "(\"[ -~]{0,8}\"|[a-z ]{0,5}) ?<sip:[a-z@]{1,8}>(;[a-z=\"]{1,6})?",
    ) {
        let text = format!("INVITE sip:b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: {from}\r\nTo: <sip:b@b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nContact: <{contact}>\r\nRecord-Route: {route}\r\n\r\n");
        if let Ok(mut dialog) = Dialog::as_server(&message(&text), "ours") {
            let request = written(dialog.request(&Method::Info, "SIP/2.0/UDP us;branch=z9hG4bK1"));
            prop_assert_eq!(restante_sip::message::validate_request(&request), Ok(()));
        }
    }
}

const LIMITS: SubscriptionLimits =
    SubscriptionLimits { min_expires_seconds: 60, max_expires_seconds: 7200, default_expires_seconds: 3600 };
const NOW: u64 = 1_700_000_000_000;
const SUMMARY: &[u8] = b"Messages-Waiting: yes\r\n";

fn subscribe(cseq: u32, to_tag: &str, more: &str) -> SipMessage {
    request("SUBSCRIBE", cseq, to_tag, &format!("Contact: <sip:a@10.0.0.1>\r\n{more}"))
}

fn subscription(more: &str) -> Subscription {
    Subscription::accept(NOW, &subscribe(1, "", &format!("Event: message-summary\r\n{more}")), "ours", &LIMITS).unwrap()
}

fn notify(subscription: &mut Subscription, now: u64) -> SipMessage {
    let bytes = subscription.notify(now, "SIP/2.0/UDP us;branch=z9hG4bK1", "sip:us@b", SUMMARY).unwrap();
    message(std::str::from_utf8(&bytes).unwrap())
}

#[test]
fn a_subscribe_is_judged_by_this_table() {
    let table: &[(&str, Result<u64, u16>)] = &[
        ("Event: message-summary\r\n", Ok(3600)),
        ("o: message-summary;id=7\r\nExpires: 100\r\n", Ok(100)),
        ("Event: message-summary\r\nExpires: 99999\r\n", Ok(7200)),
        ("Event: message-summary\r\nExpires: 0\r\n", Ok(0)),
        ("Event: message-summary\r\nAccept: text/plain, application/*;q=0.5\r\n", Ok(3600)),
        ("Event: message-summary\r\nExpires: 59\r\n", Err(423)),
        ("Event: message-summary\r\nExpires: soon\r\n", Err(400)),
        ("Event: message-summary\r\nAccept: text/plain\r\n", Err(406)),
        ("Event: message-summary;id=\"a b\"\r\n", Err(400)),
        ("Event: message-summary;;\r\n", Err(400)),
        ("Event: presence\r\n", Err(489)),
        ("Event: message-summary.winfo\r\n", Err(489)),
        ("", Err(489)),
    ];
    for (more, expected) in table {
        let judged = Subscription::accept(NOW, &subscribe(1, "", more), "ours", &LIMITS);
        let judged = judged.map(|it| (it.expires_at - NOW) / 1000).map_err(SubscribeError::status);
        assert_eq!(judged, *expected, "{more}");
    }
    let fields = |error: SubscribeError| error.fields().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(fields(SubscribeError::BadEvent), ["Allow-Events: message-summary"]);
    assert_eq!(fields(SubscribeError::TooBrief { min_expires_seconds: 60 }), ["Min-Expires: 60"]);
}

#[test]
fn every_notify_says_how_long_the_subscription_lasts() {
    let mut it = subscription("Expires: 100\r\n");
    let first = notify(&mut it, NOW + 1_500);
    assert_eq!(first.header(Name::SubscriptionState), Some("active;expires=98"));
    assert_eq!((first.header(Name::Event), first.header(Name::CSeq)), (Some("message-summary"), Some("1 NOTIFY")));
    assert_eq!((first.request_uri(), &first.body()[..]), (Some("sip:a@10.0.0.1"), SUMMARY));
    assert_eq!(first.header(Name::ContentType), Some("application/simple-message-summary"));
    let second = notify(&mut it, NOW + 2_000);
    assert_eq!(second.header(Name::CSeq), Some("2 NOTIFY"));
    restante_sip::message::validate_request(&second).unwrap();
}

#[test]
fn the_answer_to_a_subscribe_makes_the_dialog() {
    let asked = subscribe(1, "", "Event: message-summary\r\nExpires: 100\r\nRecord-Route: <sip:p;lr>\r\n");
    let it = Subscription::accept(NOW, &asked, "ours", &LIMITS).unwrap();
    let response = Builder::response(&asked, 200, "OK", None, Some(&it.dialog.local_tag));
    let response = written(it.answer(NOW, response, &asked, "sip:us@b"));
    assert_eq!(response.header(Name::Expires), Some("100"));
    assert_eq!(response.header(Name::RecordRoute), Some("<sip:p;lr>"));
    assert_eq!(response.header(Name::Contact), Some("<sip:us@b>"));
    assert!(it.dialog.is_for(&subscribe(2, ";tag=ours", "")));
}

#[test]
fn a_refresh_lengthens_it_and_expires_0_ends_it() {
    let mut it = subscription("Expires: 100\r\n");
    let refresh = |cseq, more: &str| subscribe(cseq, ";tag=ours", &format!("Event: message-summary{more}\r\n"));
    it.refresh(NOW + 50_000, &refresh(2, "\r\nExpires: 100"), &LIMITS).unwrap();
    assert_eq!(it.expires_at, NOW + 150_000);
    let late = it.refresh(NOW, &refresh(1, ""), &LIMITS);
    assert_eq!(late.unwrap_err().status(), 500);
    assert_eq!(it.refresh(NOW, &refresh(3, "\r\nExpires: 5"), &LIMITS).unwrap_err().status(), 423);
    assert_eq!(it.refresh(NOW, &refresh(3, ";id=other"), &LIMITS).unwrap_err().status(), 481);
    assert_eq!(it.expires_at, NOW + 150_000, "a refused refresh changes nothing");
    it.refresh(NOW + 60_000, &refresh(4, "\r\nExpires: 0"), &LIMITS).unwrap();
    let last = notify(&mut it, NOW + 60_000);
    assert_eq!(last.header(Name::SubscriptionState), Some("terminated;reason=timeout"));
    assert_eq!(it.refresh(NOW + 60_001, &refresh(5, ""), &LIMITS).unwrap_err().status(), 481);
}

#[test]
fn time_ends_it_once() {
    let mut it = subscription("Expires: 100\r\n");
    assert!(!it.expire(NOW + 99_999));
    let refresh = subscribe(2, ";tag=ours", "Event: message-summary\r\n");
    assert_eq!(it.clone().refresh(NOW + 100_000, &refresh, &LIMITS).unwrap_err().status(), 481);
    assert!(it.expire(NOW + 100_000));
    assert!(!it.expire(NOW + 100_001));
    assert_eq!(it.state, SubscriptionState::Terminated(TerminationReason::Timeout));
    let mut fetch = subscription("Expires: 0\r\n");
    assert!(!fetch.is_active());
    assert_eq!(notify(&mut fetch, NOW).header(Name::SubscriptionState), Some("terminated;reason=timeout"));
}

#[test]
fn a_notify_that_fails_ends_it() {
    for (status, has_retry_after, kept) in [
        (200, false, true),
        (202, false, true),
        (401, false, true),
        (503, true, true),
        (481, false, false),
        (481, true, false),
        (404, true, false),
        (480, true, false),
        (501, true, false),
        (604, true, false),
        (486, true, true),
        (408, false, false),
        (503, false, false),
        (500, false, false),
        (603, false, false),
    ] {
        let mut it = subscription("");
        assert_eq!(it.notify_answered(status, has_retry_after), kept, "{status}");
        assert_eq!(it.is_active(), kept);
    }
    let mut ended = subscription("Expires: 0\r\n");
    assert!(!ended.notify_answered(200, false), "the last NOTIFY");
}
