//! Dialogs that pass by here, because nobody else reaches a device.

use restante_sip::message::{Name, SipMessage};
use restante_tests::{RawSip, Request, story};

use crate::{answer, answered, asked, call, registered};

/// A request of Alice's in the dialog of an answer, along its Record-Route.
fn in_dialog(alice: &RawSip, invite: &Request, taken: &SipMessage, method: &str, cseq: u32) -> Request {
    let target = taken.contacts().unwrap().remove(0).address.uri.to_string();
    let request = alice
        .request(method, &target)
        .set("From", invite.field("From"))
        .set("To", taken.header_by_text("To").unwrap())
        .set("Call-ID", invite.field("Call-ID"))
        .set("CSeq", &format!("{cseq} {method}"));
    let routes: Vec<String> = taken.list(Name::RecordRoute).map(str::to_owned).collect();
    routes.iter().rev().fold(request, |it, route| it.with("Route", route))
}

#[test]
fn a_device_that_only_its_connection_reaches_is_in_every_request_of_the_dialog_reached_by_it() {
    story(async |world| {
        let tcp = world.tcp().await;
        let mut phone = registered(tcp, "<sip:bob@192.0.2.9:5060;transport=tcp>").await;
        let mut alice = world.udp().await;
        let invite = call(&alice);
        alice.send(&invite.bytes()).await;
        let came = asked(&mut phone, "INVITE").await;
        assert_eq!(came.list(Name::RecordRoute).count(), 2, "one for each side: {:?}", came.bytes());
        answer(&mut phone, &came, 200, "phone").await;
        let taken = answered(&mut alice, 200).await;
        // ACK, re-INVITE and BYE of the caller come through us.
        alice.send(&in_dialog(&alice, &invite, &taken, "ACK", 1).bytes()).await;
        let ack = asked(&mut phone, "ACK").await;
        assert_eq!((ack.count(Name::Route), ack.header(Name::MaxForwards)), (0, Some("69")));
        let again = in_dialog(&alice, &invite, &taken, "INVITE", 2).body("application/sdp", crate::AUDIO);
        alice.send(&again.bytes()).await;
        let came_again = asked(&mut phone, "INVITE").await;
        assert_eq!(came_again.to().unwrap().tag(), Some("phone"));
        phone.respond(&came_again, 488).await;
        assert_eq!(alice.answer_to(&again).await.status(), Some(488));
        let info = in_dialog(&alice, &invite, &taken, "INFO", 3);
        alice.send(&info.bytes()).await;
        let came_info = asked(&mut phone, "INFO").await;
        phone.respond(&came_info, 200).await;
        assert_eq!(alice.answer_to(&info).await.status(), Some(200));
        // The device's BYE goes to the caller.
        let caller = came.contacts().unwrap().remove(0).address.uri.to_string();
        let bye = phone
            .request("BYE", &caller)
            .set("From", taken.header_by_text("To").unwrap())
            .set("To", invite.field("From"))
            .set("Call-ID", invite.field("Call-ID"));
        let bye = came.list(Name::RecordRoute).fold(bye, |it, route| it.with("Route", route));
        phone.send(&bye.bytes()).await;
        let came_bye = asked(&mut alice, "BYE").await;
        assert_eq!(came_bye.count(Name::Route), 0);
        alice.respond(&came_bye, 200).await;
        assert_eq!(phone.answer_to(&bye).await.status(), Some(200));
    });
}

#[test]
fn a_forged_mark_leads_nowhere() {
    story(async |world| {
        let mut alice = world.udp().await;
        let place = world.sip();
        for user in ["rr!udp_127.0.0.1-9_0!udp_127.0.0.1-9_0!raw!00000000.000000000000000000000000", "rr!", "x"] {
            let route = format!("<sip:{user}@{place};lr>");
            let bye = alice
                .request("BYE", "sip:bob@127.0.0.1:9")
                .set("To", "<sip:bob@example.org>;tag=other")
                .with("Route", &route);
            assert_eq!(alice.ask(&bye).await.status(), Some(481));
        }
    });
}
