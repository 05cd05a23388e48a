//! Session timers (RFC 4028), and a fetch that is given up, with time that is made up.

use std::time::Duration;

use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::writer::Builder;

use super::{House, Now, PEER, flow, message_of, receiver};

const BOB: &str = "sip:bob@example.org";
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
                     a=path:msrp://127.0.0.1:9/alice;tcp\r\na=accept-types:message/cpim\r\na=setup:active\r\na=sendonly\r\n";

/// Tells a story in which a session of Alice's stands whose INVITE had these fields.
fn with_session(fields: &str, tale: impl FnOnce(&mut House, &SipMessage)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut house = House::new();
        let fields = format!(
            "From: <sip:alice@example.org>;tag=1\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@{PEER}>\r\n\
             Content-Type: application/sdp\r\n{fields}"
        );
        let call_id = house.send("INVITE", BOB, None, &fields, OFFER);
        let answer = house.answer(&call_id).clone();
        if answer.status() == Some(200) {
            house.in_dialog(&answer, "ACK", 1, "");
        }
        house.sent.clear();
        tale(&mut house, &answer);
    });
}

impl House {
    fn in_dialog(&mut self, answer: &SipMessage, method: &str, cseq: u32, fields: &str) {
        let text = format!(
            "{method} {BOB} SIP/2.0\r\nVia: SIP/2.0/UDP {PEER};branch=z9hG4bKdialog{method}{cseq}\r\n\
             From: <sip:alice@example.org>;tag=1\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\nMax-Forwards: 70\r\n\
             {fields}Content-Length: 0\r\n\r\n",
            answer.header(Name::To).unwrap(),
            answer.call_id().unwrap()
        );
        receiver::received(&self.shared, message_of(text.as_bytes()), &flow());
        self.run();
    }

    /// Looks at everything as if so many seconds had passed; gives the requests that were sent.
    fn requests_after(&mut self, seconds: u64) -> Vec<SipMessage> {
        let now = Now { monotonic: self.began + Duration::from_secs(seconds), ..self.now() };
        for shard in &mut self.shards {
            shard.wake_sessions(now);
            while let Some(transmit) = shard.endpoint.poll_transmit() {
                self.sent.push(message_of(&transmit.bytes));
            }
        }
        let (requests, rest): (Vec<_>, Vec<_>) = self.sent.drain(..).partition(SipMessage::is_request);
        self.sent = rest;
        requests
    }

    pub(super) fn respond_to(&mut self, request: &SipMessage, status: u16, fields: &[(&str, &str)], body: &str) {
        let builder = Builder::response(request, status, "Said So", request.header(Name::Via), None);
        let builder = fields.iter().fold(builder, |builder, (name, value)| builder.field(name, value));
        let bytes = builder.finish_with_body(body.as_bytes()).unwrap();
        receiver::received(&self.shared, message_of(&bytes), &flow());
        self.run();
    }
}

fn methods(requests: &[SipMessage]) -> Vec<Method> {
    requests.iter().filter_map(SipMessage::method).collect()
}

#[test]
fn a_peer_that_does_not_refresh_is_gone() {
    with_session("Supported: timer\r\nSession-Expires: 90\r\n", |house, answer| {
        assert_eq!(answer.header(Name::SessionExpires), Some("90;refresher=uac"));
        assert_eq!(answer.header(Name::Require), Some("timer"));
        assert_eq!(methods(&house.requests_after(59)), []);
        assert_eq!(methods(&house.requests_after(61)), [Method::Bye]);
    });
}

#[test]
fn a_refresh_of_the_peers_begins_the_interval_anew_and_one_without_the_field_ends_the_timer() {
    with_session("Supported: timer\r\nSession-Expires: 90\r\n", |house, answer| {
        house.in_dialog(answer, "UPDATE", 2, "Supported: timer\r\nSession-Expires: 1800\r\n");
        let refreshed = house.answer(answer.call_id().unwrap());
        assert_eq!(
            (refreshed.status(), refreshed.header(Name::SessionExpires)),
            (Some(200), Some("1800;refresher=uac"))
        );
        assert_eq!(methods(&house.requests_after(61)), []);
        house.in_dialog(answer, "UPDATE", 3, "Supported: timer\r\nSession-Expires: 60\r\n");
        let refused = house.answer(answer.call_id().unwrap());
        assert_eq!((refused.status(), refused.header(Name::MinSe)), (Some(422), Some("90")));
        house.in_dialog(answer, "UPDATE", 4, "Supported: timer\r\n");
        assert_eq!(methods(&house.requests_after(100_000)), []);
    });
}

#[test]
fn we_refresh_by_update_where_the_peer_takes_it() {
    with_session(
        "Supported: timer\r\nSession-Expires: 90;refresher=uas\r\nAllow: INVITE, UPDATE\r\n",
        |house, answer| {
            assert_eq!(answer.header(Name::SessionExpires), Some("90;refresher=uas"));
            let refresh = house.requests_after(46);
            assert_eq!(methods(&refresh), [Method::Update]);
            assert_eq!(refresh[0].header(Name::SessionExpires), Some("90;refresher=uac"));
            assert_eq!(refresh[0].header(Name::MinSe), None);
            assert_eq!(refresh[0].request_uri(), Some(format!("sip:alice@{PEER}").as_str()));
            house.respond_to(&refresh[0], 200, &[("Session-Expires", "90;refresher=uac")], "");
            // And again, with the next CSeq.
            let refresh = house.requests_after(46);
            assert_eq!((methods(&refresh), refresh[0].cseq().unwrap().number), (vec![Method::Update], 2));
            // Too small for somebody on the way.
            house.respond_to(&refresh[0], 422, &[("Min-SE", "300")], "");
            let refresh = house.requests_after(0);
            assert_eq!(refresh[0].header(Name::SessionExpires), Some("300;refresher=uac"));
            assert_eq!(refresh[0].header(Name::MinSe), Some("300"));
            // From then on (RFC 4028 §7.4).
            house.respond_to(&refresh[0], 200, &[("Session-Expires", "300;refresher=uac")], "");
            let refresh = house.requests_after(151);
            // It met one of theirs, whose Call-ID it is (RFC 3261 §14.1).
            house.respond_to(&refresh[0], 491, &[], "");
            let refresh = house.requests_after(3);
            assert_eq!(methods(&refresh), [Method::Update]);
            assert_eq!(refresh[0].header(Name::MinSe), Some("300"));
            house.respond_to(&refresh[0], 481, &[], "");
            assert_eq!(methods(&house.requests_after(0)), [Method::Bye]);
        },
    );
}

#[test]
fn we_refresh_by_an_invite_that_changes_nothing_where_it_does_not() {
    with_session("Supported: timer\r\nSession-Expires: 90;refresher=uas\r\n", |house, answer| {
        let refresh = house.requests_after(46);
        assert_eq!(methods(&refresh), [Method::Invite]);
        let ours = String::from_utf8(refresh[0].body().to_vec()).unwrap();
        assert!(ours.contains("a=connection:existing") && ours.contains("a=recvonly"), "{ours}");
        // A re-INVITE of theirs meets ours.
        house.in_dialog(answer, "INVITE", 2, "Supported: timer\r\n");
        assert!(house.statuses(answer.call_id().unwrap()).contains(&491));
        let fields = [("Contact", "<sip:alice@127.0.0.1:6001>"), ("Session-Expires", "90;refresher=uac")];
        house.respond_to(&refresh[0], 200, &fields, OFFER);
        assert_eq!(methods(&house.requests_after(0)), [Method::Ack]);
        let refresh = house.requests_after(46);
        assert_eq!(refresh[0].request_uri(), Some("sip:alice@127.0.0.1:6001"), "where the answer said");
    });
}

/// What a device answers that will connect.
const TAKEN: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
                     a=path:msrp://127.0.0.1:9/bob;tcp\r\na=accept-types:message/cpim\r\na=setup:active\r\na=recvonly\r\n";

/// Tells a story in which a session stands that was pushed to Bob, whose answer had these fields.
fn with_pushed_session(fields: &[(&str, &str)], tale: impl FnOnce(&mut House, &SipMessage)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut house = House::new();
        // More than a few.
        for text in ["1", "2", "3", "4"] {
            house.message(BOB, text);
        }
        house.register(BOB, &format!("<sip:bob@{PEER}>"));
        house.pass(1_000);
        let is_invite = |it: &SipMessage| it.is_request() && it.method() == Some(Method::Invite);
        let invite = house.sent.iter().find(|it| is_invite(it)).expect("an INVITE").clone();
        house.sent.clear();
        let answer = Builder::response(&invite, 200, "OK", invite.header(Name::Via), Some("bob"));
        let contact = format!("<sip:bob@{PEER}>");
        let answer = answer.field("Contact", &contact).field("Content-Type", "application/sdp");
        let answer = fields.iter().fold(answer, |answer, (name, value)| answer.field(name, value));
        receiver::received(&house.shared, message_of(&answer.finish_with_body(TAKEN.as_bytes()).unwrap()), &flow());
        house.run();
        assert_eq!(methods(&house.requests_after(0)), [Method::Ack]);
        tale(&mut house, &invite);
    });
}

#[test]
fn we_refresh_a_session_that_we_began_where_the_peer_leaves_it_to_us() {
    let by_us = ("Session-Expires", "90;refresher=uac");
    with_pushed_session(&[by_us, ("Require", "timer"), ("Allow", "INVITE, UPDATE")], |house, invite| {
        assert_eq!(methods(&house.requests_after(44)), []);
        for number in 2..4 {
            let refresh = house.requests_after(46);
            assert_eq!(methods(&refresh), [Method::Update]);
            assert_eq!(refresh[0].header(Name::SessionExpires), Some(by_us.1));
            assert_eq!((refresh[0].call_id(), refresh[0].cseq().unwrap().number), (invite.call_id(), number));
            assert_eq!(refresh[0].to().unwrap().tag(), Some("bob"));
            house.respond_to(&refresh[0], 200, &[by_us], "");
        }
        assert_eq!(methods(&house.requests_after(44)), []);
    });
    with_pushed_session(&[by_us, ("Require", "timer")], |house, _| {
        let refresh = house.requests_after(46);
        assert_eq!(methods(&refresh), [Method::Invite]);
        let ours = String::from_utf8(refresh[0].body().to_vec()).unwrap();
        assert!(ours.contains("a=connection:existing") && ours.contains("a=sendonly"), "{ours}");
        house.respond_to(&refresh[0], 200, &[("Contact", &format!("<sip:bob@{PEER}>")), by_us], TAKEN);
        assert_eq!(methods(&house.requests_after(0)), [Method::Ack]);
    });
}

#[test]
fn a_session_that_we_began_ends_where_the_peer_was_to_refresh_it_and_does_not() {
    with_pushed_session(&[("Session-Expires", "90;refresher=uas")], |house, _| {
        assert_eq!(methods(&house.requests_after(59)), []);
        assert_eq!(methods(&house.requests_after(61)), [Method::Bye]);
    });
    with_pushed_session(&[], |house, _| {
        assert_eq!(methods(&house.requests_after(100_000)), []);
    });
}

#[test]
fn an_interval_that_is_too_small_makes_no_session() {
    with_session("Supported: timer\r\nSession-Expires: 89\r\n", |house, answer| {
        assert_eq!((answer.status(), answer.header(Name::MinSe)), (Some(422), Some("90")));
        assert_eq!(house.shared.metrics.sessions.get(), 0);
    });
}

#[test]
fn a_fetch_that_its_client_gave_up_gets_nothing_of_what_a_push_lets_go() {
    let mut house = House::new();
    house.message(BOB, "one");
    house.register(BOB, &format!("<sip:bob@{PEER}>"));
    house.pass(300);
    // The MESSAGE is under way: the fetch waits for what becomes of it.
    let request = |method: &str, fields: &str, body: &str| {
        let text = format!(
            "{method} {BOB} SIP/2.0\r\nVia: SIP/2.0/UDP {PEER};branch=z9hG4bKfetch\r\nFrom: <{BOB}>;tag=7\r\nTo: <{BOB}>\r\n\
             Call-ID: fetch\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        message_of(text.as_bytes())
    };
    let fields = format!(
        "Contact: <sip:bob@{PEER}>\r\nContent-Type: application/sdp\r\n\
         Accept-Contact: *;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.deferred\"\r\n"
    );
    let invite = request("INVITE", &fields, &OFFER.replace("sendonly", "recvonly"));
    receiver::received(&house.shared, invite, &flow());
    house.run();
    assert_eq!((house.statuses("fetch"), house.shard(BOB).waiting.len()), (vec![], 1));
    receiver::received(&house.shared, request("CANCEL", "", ""), &flow());
    house.run();
    let mut statuses = house.statuses("fetch");
    statuses.sort_unstable();
    assert_eq!((statuses, house.shard(BOB).waiting.len()), (vec![200, 487], 0));
    assert_eq!(house.delivered(480), ["one"]);
    house.pass(6_000);
    let metrics = house.shared.metrics.encode(None);
    assert!(metrics.contains("restante_attempts_total{attempt=\"pull\"} 0\n"), "no attempt at it began: {metrics}");
    assert_eq!(house.owners(), [BOB]);
}
