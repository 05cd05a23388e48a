//! Sessions that are changed while they stand: re-INVITE, UPDATE, session timers.

use restante_sip::message::{Name, SipMessage};
use restante_tests::{Chunk, MsrpReply, RawMsrp, RawSip, Request, story};

const BOB: &str = "sip:bob@example.org";

/// A request in the dialog of a session's answer.
fn in_dialog(sip: &RawSip, invite: &Request, answer: &SipMessage, method: &str, cseq: u32) -> Request {
    let contact = answer.contacts().expect("a Contact").remove(0).address.uri.to_string();
    sip.request(method, &contact)
        .set("From", invite.field("From"))
        .set("To", answer.header_by_text("To").expect("a To"))
        .set("Call-ID", invite.field("Call-ID"))
        .set("CSeq", &format!("{cseq} {method}"))
        .with("Contact", invite.field("Contact"))
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
