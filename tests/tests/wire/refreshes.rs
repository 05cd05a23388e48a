//! Sessions that are changed while they stand: re-INVITE, UPDATE, session timers.

use restante_sip::message::{Name, SipMessage};
use restante_tests::raw_device::{
    accept_with, carried, connected, connecting, in_dialog as of_device, invited, register,
};
use restante_tests::{Chunk, MsrpReply, RawMsrp, RawSip, Request, guest, setting, story};

const BOB: &str = "sip:bob@example.org";

/// A request in the dialog of a session's answer.
fn in_dialog(sip: &RawSip, invite: &Request, answer: &SipMessage, method: &str, cseq: u32) -> Request {
    sip.in_dialog(invite, answer, method, cseq).with("Contact", invite.field("Contact"))
}

fn text(answer: &SipMessage) -> String {
    String::from_utf8_lossy(&answer.body()).into_owned()
}

#[test]
fn the_media_may_be_offered_again_and_held_but_not_be_others() {
    story(async |world| {
        let mut sip = world.udp().await;
        let (mut msrp, invite, answer) = RawMsrp::establish(&mut sip, BOB).await;
        let offer = String::from_utf8(invite.body.to_vec()).expect("text");
        let held = offer.replace("o=- 1 1", "o=- 1 2").replace("a=sendonly", "a=inactive");
        let elsewhere = offer.replace("o=- 1 1", "o=- 1 3").replace("storyteller", "somebody");
        let anew = held.replace("o=- 1 2", "o=- 1 4").replace("a=setup:active", "a=setup:active\r\na=connection:new");
        let audio =
            "v=0\r\no=- 1 4 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
        let path = format!("a=path:{}", msrp.to_path);
        let cases = [
            ("INVITE", offer.as_str(), 200, "a=recvonly"),
            ("UPDATE", offer.as_str(), 200, "a=recvonly"),
            ("INVITE", "", 200, "a=recvonly"),
            ("INVITE", held.as_str(), 200, "a=inactive"),
            ("UPDATE", held.as_str(), 200, "a=inactive"),
            ("INVITE", offer.as_str(), 200, "a=recvonly"),
            ("INVITE", elsewhere.as_str(), 488, ""),
            ("UPDATE", anew.as_str(), 488, ""),
            ("UPDATE", audio, 488, ""),
            ("UPDATE", "", 200, ""),
        ];
        for (number, (method, body, status, direction)) in (2..).zip(cases) {
            let request = in_dialog(&sip, &invite, &answer, method, number);
            let request =
                if body.is_empty() { request } else { request.body("application/sdp", body.as_bytes().to_vec()) };
            let changed = sip.ask(&request).await;
            assert_eq!(changed.status(), Some(status), "{number}: {method} {body}");
            if method == "INVITE" {
                sip.send(&in_dialog(&sip, &invite, &answer, "ACK", number).bytes()).await;
            }
            assert_eq!(changed.body().is_empty(), direction.is_empty(), "{number}");
            if !direction.is_empty() {
                let description = text(&changed);
                assert!(description.contains(direction) && description.contains(&path), "{number}: {description}");
                assert!(description.contains("a=connection:existing"), "{number}: {description}");
            }
        }
        // The session is as it was.
        let message = format!(
            "From: <sip:alice@example.org>\r\nTo: <{BOB}>\r\nDateTime: 2024-01-01T00:00:00Z\r\n\r\nContent-Type: text/plain\r\n\r\nx"
        );
        let transaction = msrp.send_chunk(Chunk::whole("m", message.as_bytes())).await;
        assert_eq!(msrp.next().await, MsrpReply::Response(transaction, 200));
        let bye = in_dialog(&sip, &invite, &answer, "BYE", 20);
        assert_eq!(sip.ask(&bye).await.status(), Some(200));
        world.until_waiting(1).await;
        world.until_no_session().await;
    });
}

/// Clients refresh a session with the description that began it.
#[test]
fn who_repeats_its_description_asks_for_no_other_connection() {
    story(async |world| {
        let mut sip = world.udp().await;
        let invite = RawMsrp::invitation(&sip, BOB);
        let offer = String::from_utf8(invite.body.to_vec()).expect("text");
        let offer = offer.replace("a=setup:active", "a=setup:active\r\na=connection:new");
        let invite = invite.body("application/sdp", offer.clone().into_bytes());
        let answer = sip.ask(&invite).await;
        assert!(text(&answer).contains("a=connection:new"), "{}", text(&answer));
        sip.send(&RawMsrp::ack(&sip, &invite, &answer).bytes()).await;
        let mut msrp = RawMsrp::connect(&answer).await;
        msrp.nothing_but_an_answer().await;
        let again = in_dialog(&sip, &invite, &answer, "UPDATE", 2).body("application/sdp", offer.into_bytes());
        assert_eq!(sip.ask(&again).await.status(), Some(200));
        msrp.nothing_but_an_answer().await;
        assert_eq!(sip.ask(&in_dialog(&sip, &invite, &answer, "BYE", 3)).await.status(), Some(200));
        world.until_no_session().await;
    });
}

#[test]
fn session_timers_are_agreed_on() {
    story(async |world| {
        let mut sip = world.udp().await;
        let too_small = RawMsrp::invitation(&sip, BOB).with("Supported", "timer").with("Session-Expires", "60");
        let refusal = sip.ask(&too_small).await;
        assert_eq!((refusal.status(), refusal.header(Name::MinSe)), (Some(422), Some("90")));
        let invite = RawMsrp::invitation(&sip, BOB).with("k", "timer").with("x", "1800").with("Require", "timer");
        let answer = sip.ask(&invite).await;
        assert_eq!((answer.status(), answer.header(Name::SessionExpires)), (Some(200), Some("1800;refresher=uac")));
        assert_eq!((answer.header(Name::Require), answer.header(Name::Supported)), (Some("timer"), Some("timer")));
        sip.send(&RawMsrp::ack(&sip, &invite, &answer).bytes()).await;
        let update = in_dialog(&sip, &invite, &answer, "UPDATE", 2);
        let update = update.with("Supported", "timer").with("Session-Expires", "900;refresher=uac");
        assert_eq!(sip.ask(&update).await.header(Name::SessionExpires), Some("900;refresher=uac"));
        let bye = in_dialog(&sip, &invite, &answer, "BYE", 3);
        assert_eq!(sip.ask(&bye).await.status(), Some(200));
        world.until_no_session().await;
    });
}

/// What a device takes in a session.
const TAKES: &str = "a=accept-types:message/cpim\r\na=accept-wrapped-types:*\r\n";

/// Changes, holds and refreshes a session that we send in, and sees that it stays what it was. `request` makes a request in
/// its dialog.
async fn changed_and_refreshed(sip: &mut RawSip, request: impl Fn(&RawSip, &str, u32) -> Request, path: &str) {
    let (offer, path) = (connecting(TAKES).replace("o=- 1 1", "o=- 1 2"), format!("a=path:{path}"));
    let held = offer.replace("o=- 1 2", "o=- 1 3").replace("a=recvonly", "a=inactive");
    let resumed = offer.replace("o=- 1 2", "o=- 1 4");
    let elsewhere = resumed.replace("storyteller", "somebody");
    let held_back = resumed.replace("a=setup:active", "a=setup:holdconn");
    let cases = [
        ("INVITE", offer.as_str(), 200, "a=sendonly"),
        ("UPDATE", "", 200, ""),
        ("UPDATE", held.as_str(), 200, "a=inactive"),
        ("INVITE", elsewhere.as_str(), 488, ""),
        ("INVITE", held_back.as_str(), 488, ""),
        ("INVITE", resumed.as_str(), 200, "a=sendonly"),
        ("INVITE", "", 200, "a=sendonly"),
    ];
    for (number, (method, body, status, direction)) in (12..).zip(cases) {
        let asked = request(sip, method, number).with("Supported", "timer");
        let asked = asked.with("Session-Expires", "900;refresher=uac");
        let asked = if body.is_empty() { asked } else { asked.body("application/sdp", body.as_bytes().to_vec()) };
        let answer = sip.ask(&asked).await;
        assert_eq!(answer.status(), Some(status), "{method} {body}");
        if method == "INVITE" {
            sip.send(&request(sip, "ACK", number).bytes()).await;
        }
        let refreshed = (status == 200).then_some("900;refresher=uac");
        assert_eq!(answer.header(Name::SessionExpires), refreshed, "{method} {body}");
        let description = text(&answer);
        assert!(description.contains(direction), "{method}: {description}");
        assert!(direction.is_empty() || description.contains(&path), "{method}: {description}");
    }
}

#[test]
fn a_session_that_we_began_goes_on_while_its_peer_changes_and_refreshes_it() {
    for is_hand_over in [false, true] {
        setting().settings("few = 0").tell(async |world| {
            let mut bob = world.udp().await;
            if is_hand_over {
                let target = format!("sip:{}", bob.local());
                world
                    .restart_with(|it| {
                        let tenant = it.tenants.get_mut("example").expect("the tenant of every story");
                        tenant.policy = guest("scripted");
                        tenant.settings = "incoming = \"hand-over:elsewhere\"".parse().expect("settings");
                        tenant.hand_over.insert("elsewhere".to_owned(), target);
                    })
                    .await;
            }
            // A target gets one message at a time.
            let texts: Vec<String> =
                (1..=if is_hand_over { 1 } else { 2 }).map(|it| it.to_string().repeat(1_400)).collect();
            let mut alice = world.tcp().await;
            for text in &texts {
                assert_eq!(alice.ask(&alice.request("MESSAGE", BOB).text(text)).await.status(), Some(202));
            }
            if !is_hand_over {
                register(&mut bob).await;
            }
            let (invite, offer) = invited(&mut bob).await;
            assert_eq!(invite.header(Name::Supported), Some("timer"));
            let timer =
                [("Session-Expires", "1800;refresher=uas"), ("Supported", "timer"), ("Allow", "INVITE, UPDATE")];
            accept_with(&mut bob, &invite, &connecting(TAKES), &timer).await;
            let mut msrp = connected(&offer).await;
            let (first, content) = msrp.next_message().await.expect("a message");
            assert!(content.ends_with(texts[0].as_bytes()));
            let request = |bob: &RawSip, method: &str, cseq: u32| of_device(bob, &invite, method, cseq);
            changed_and_refreshed(&mut bob, request, &msrp.to_path).await;
            msrp.accept_all(&first).await;
            let rest = carried(&mut bob, &mut msrp).await;
            assert!(
                rest.iter().map(|it| it.split("\r\n\r\n").last()).eq(texts[1..].iter().map(|it| Some(it.as_str())))
            );
            world.until_settled().await;
            world.until_no_session().await;
        });
    }
}

#[test]
fn a_session_that_fetches_goes_on_while_its_client_changes_and_refreshes_it() {
    setting().settings("delivery = \"hold\"").tell(async |world| {
        let mut alice = world.udp().await;
        for text in ["one", "two"] {
            assert_eq!(alice.ask(&alice.request("MESSAGE", BOB).text(text)).await.status(), Some(202));
        }
        let mut bob = world.udp().await;
        let contact = format!("<sip:bob@{}>", bob.local());
        let invite = bob.request("INVITE", "sip:deferred@example.org").set("From", &format!("<{BOB}>;tag=b"));
        let invite = invite.with("Contact", &contact).with("Supported", "timer").with("Session-Expires", "1800");
        let invite = invite.body("application/sdp", connecting(TAKES).into_bytes());
        let answer = bob.ask(&invite).await;
        assert_eq!((answer.status(), answer.header(Name::SessionExpires)), (Some(200), Some("1800;refresher=uac")));
        bob.send(&RawMsrp::ack(&bob, &invite, &answer).bytes()).await;
        let mut msrp = RawMsrp::connect(&answer).await;
        msrp.send_empty().await;
        let (first, content) = msrp.next_message().await.expect("a message");
        assert!(content.ends_with(b"one"));
        let request = |bob: &RawSip, method: &str, cseq: u32| in_dialog(bob, &invite, &answer, method, cseq);
        changed_and_refreshed(&mut bob, request, &msrp.to_path).await;
        msrp.accept_all(&first).await;
        let rest = carried(&mut bob, &mut msrp).await;
        assert!(matches!(rest.as_slice(), [second] if second.ends_with("two")), "{rest:?}");
        world.until_settled().await;
        world.until_no_session().await;
    });
}
