//! What goes back into the core, and how soon the core is answered.

use std::time::Duration;

use restante_sip::message::{Name, SipMessage};
use restante_tests::{setting, story};

use crate::scscf::{BOB, Body, PATIENCE_OF_CORE, Scscf, TRIES, routes};
use crate::served_users::relaying;

const SERVED: &str = "<sip:bob@example.org>;sescase=term;regstate=reg";
const ASSERTED_SERVICE: &str = "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg";
/// A core waits so long for an INVITE by default.
const PATIENCE_WITH_INVITES: Duration = Duration::from_secs(20);
/// At once, with what a busy machine adds.
const AT_ONCE: Duration = Duration::from_secs(5);
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
                     a=path:msrp://127.0.0.1:9/x;tcp\r\na=accept-types:message/cpim\r\na=sendonly\r\na=setup:active\r\n";

/// A message as a core brings it.
fn brought(core: &Scscf, text: &str) -> restante_tests::Request {
    core.serves("MESSAGE", BOB, SERVED)
        .with("P-Asserted-Service", ASSERTED_SERVICE)
        .with("P-Called-Party-ID", "<sip:bobby@example.org>")
        .with("P-Charging-Vector", "icid-value=\"came-1\";orig-ioi=home1.net;icid-generated-at=192.0.2.3")
        .with("P-Charging-Function-Addresses", "ccf=192.0.2.4")
        .with("Conversation-ID", "conversation")
        .with("Contribution-ID", "contribution")
        .with("InReplyTo-Contribution-ID", "question")
        .text(text)
}

#[test]
fn a_message_is_answered_in_time_though_the_device_is_silent_and_delivered_as_a_new_request_without_the_mark() {
    story(async |world| {
        let mut core = Scscf::new(world).await;
        assert_eq!(core.registers(BOB, 600, Body::Register).await.status(), Some(200));
        let request = brought(&core, "hello");
        let answer = core.answered_in_time(&request, PATIENCE_OF_CORE).await;
        assert_eq!(answer.status(), Some(202));
        let first = core.asked("MESSAGE").await;
        assert_eq!(first.request_uri(), Some(BOB));
        assert_eq!(routes(&first), [format!("<{};lr>", core.uri())], "through the S-CSCF, and without its mark");
        let field = |name: &str| first.header_by_text(name);
        assert_eq!(field("P-Asserted-Identity"), Some("<sip:alice@example.org>"));
        assert_eq!(field("P-Asserted-Service"), Some(ASSERTED_SERVICE));
        assert_eq!(field("P-Called-Party-ID"), Some("<sip:bobby@example.org>"));
        assert_eq!(field("P-Charging-Function-Addresses"), None, "those of today are the core's");
        assert_eq!(field("P-Served-User"), None);
        assert_eq!(field("Conversation-ID"), Some("conversation"));
        assert_eq!(field("Contribution-ID"), Some("contribution"));
        assert_eq!(field("InReplyTo-Contribution-ID"), Some("question"));
        let charged = field("P-Charging-Vector").unwrap();
        assert!(
            charged.ends_with(";related-icid=\"came-1\"") && !charged.contains("icid-value=\"came-1\""),
            "{charged}"
        );
        assert!(field("Accept-Contact").unwrap().contains("3gpp-service.ims.icsi.oma.cpm.msg"));
        // It meets the same filter on its way, and is not deferred again.
        let back = on_its_way(&first, &core);
        core.socket.send(&back).await;
        let again = core.socket.expect("what came back", |it| {
            it.is_request() && it.call_id() == first.call_id() && routes(it) == [core_mark(&first)]
        });
        let again = again.await;
        core.socket.respond(&again, 200).await;
        let passed = |it: &SipMessage| it.status() == Some(200) && it.call_id() == first.call_id();
        core.socket.expect("its answer", passed).await;
        core.socket.respond(&first, 200).await;
        world.until_settled().await;
        assert_eq!(world.metric("restante_messages_stored_total", &[]), 1);
    });
}

/// The mark that the core puts into our own request.
fn core_mark(first: &SipMessage) -> String {
    let route = first.list(Name::Route).next().expect("a Route").to_owned();
    route.replace("<sip:", "<sip:iscmark@").replace(";lr>", ";lr;s=0>")
}

/// A request of the server as the core brings it to the server: with both Routes and a Via of its own.
fn on_its_way(first: &SipMessage, core: &Scscf) -> Vec<u8> {
    let text = String::from_utf8(first.bytes().to_vec()).expect("text");
    let old = format!("Route: {}\r\n", routes(first)[0]);
    let new = format!("Route: <sip:{};lr>, {}\r\nP-Served-User: {SERVED}\r\n", core.server(), core_mark(first));
    let via = format!("Via: SIP/2.0/UDP {};branch=z9hG4bKcore1\r\nVia: ", core.socket.local());
    text.replacen(&old, &new, 1).replacen("Via: ", &via, 1).into_bytes()
}

#[test]
fn what_is_relayed_goes_on_along_the_mark_as_it_came() {
    relaying().tell(async |world| {
        let mut core = Scscf::new(world).await;
        core.registers(BOB, 600, Body::None).await;
        let mut kept = 0;
        loop {
            let request = brought(&core, "now");
            core.socket.send(&request.bytes()).await;
            let on = core.asked("MESSAGE").await;
            assert_eq!((on.call_id(), on.request_uri()), (Some(request.field("Call-ID")), Some(BOB)));
            assert_eq!(routes(&on), [core.mark()]);
            for name in ["P-Served-User", "P-Charging-Vector", "P-Charging-Function-Addresses", "P-Asserted-Service"] {
                assert_eq!(on.header_by_text(name), Some(request.field(name)), "{name}");
            }
            core.socket.respond(&on, 200).await;
            let status = core.socket.answer_to(&request).await.status();
            if status == Some(200) {
                break;
            }
            kept += 1;
            assert!(status == Some(202) && kept < TRIES, "not the device's own answer: {status:?}");
            world.until_settled().await;
        }
        assert_eq!((world.queue().len(), world.metric("restante_messages_stored_total", &[])), (0, kept));
        // Silence is no answer: the core has one in time all the same, and what is delivered later begins anew.
        let request = brought(&core, "silence");
        let answer = core.answered_in_time(&request, PATIENCE_OF_CORE).await;
        assert_eq!(answer.status(), Some(202));
    });
}

#[test]
fn an_invite_has_100_at_once_and_a_final_answer_before_the_core_gives_up() {
    let place = setting().settings("relay_invite_milliseconds = 15000");
    place.tell(async |world| {
        let mut core = Scscf::new(world).await;
        core.registers(BOB, 600, Body::None).await;
        let invite = core.serves("INVITE", BOB, SERVED).with("Contact", &format!("<{}>", core.uri()));
        let invite = invite
            .with("Accept-Contact", "*;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.largemsg\"");
        let invite = invite.body("application/sdp", OFFER);
        let asked_at = std::time::Instant::now();
        core.socket.send(&invite.bytes()).await;
        let call_id = invite.field("Call-ID").to_owned();
        core.socket.expect("100", |it| it.status() == Some(100) && it.call_id() == Some(&call_id)).await;
        assert!(asked_at.elapsed() < AT_ONCE, "{:?}", asked_at.elapsed());
        let on = core.asked("INVITE").await;
        assert_eq!(routes(&on), [core.mark()], "passed on along the mark");
        // The device says nothing at all.
        let answer = core.socket.answer_to(&invite).await;
        assert_eq!(answer.status(), Some(200), "taken over");
        assert!(asked_at.elapsed() < PATIENCE_WITH_INVITES, "{:?}", asked_at.elapsed());
    });
}

#[test]
fn a_session_into_the_core_has_what_clients_look_for() {
    setting().settings("few = 0").tell(async |world| {
        let mut core = Scscf::new(world).await;
        for text in ["one", "two"] {
            let request = brought(&core, text);
            assert_eq!(core.socket.ask(&request).await.status(), Some(202));
        }
        core.registers(BOB, 600, Body::Both).await;
        let invite = core.asked("INVITE").await;
        let field = |name: &str| invite.header_by_text(name);
        assert_eq!(routes(&invite), [format!("<{};lr>", core.uri())]);
        assert_eq!(field("Conversation-ID"), Some("conversation"));
        assert_eq!(field("Contribution-ID"), Some("contribution"));
        assert_eq!(field("InReplyTo-Contribution-ID"), Some("question"));
        assert_eq!(field("Referred-By"), Some("<sip:alice@example.org>"));
        assert_eq!(field("P-Asserted-Identity"), Some("<sip:alice@example.org>"));
        assert_eq!(field("P-Asserted-Service"), Some("urn:urn-7:3gpp-service.ims.icsi.oma.cpm.largemsg"));
        assert!(field("Accept-Contact").unwrap().contains("3gpp-service.ims.icsi.oma.cpm.largemsg"));
        let body = String::from_utf8(invite.body().to_vec()).unwrap();
        assert!(body.contains("a=sendonly") && body.contains("a=setup:actpass"), "{body}");
        core.socket.respond(&invite, 486).await;
        // A refused session refuses no message.
        world.until_waiting(2).await;
    });
}
