//! Dialogs that pass by here, because nobody else reaches a device.

use restante_sip::message::Name;
use restante_tests::{RawSip, setting, story};

use crate::{answer, answered, asked, call, registered};

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
        alice.send(&alice.in_dialog(&invite, &taken, "ACK", 1).bytes()).await;
        let ack = asked(&mut phone, "ACK").await;
        assert_eq!((ack.count(Name::Route), ack.header(Name::MaxForwards)), (0, Some("69")));
        let again = alice.in_dialog(&invite, &taken, "INVITE", 2).body("application/sdp", crate::AUDIO);
        alice.send(&again.bytes()).await;
        let came_again = asked(&mut phone, "INVITE").await;
        assert_eq!(came_again.to().unwrap().tag(), Some("phone"));
        phone.respond(&came_again, 488).await;
        assert_eq!(alice.answer_to(&again).await.status(), Some(488));
        let info = alice.in_dialog(&invite, &taken, "INFO", 3);
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
fn a_caller_who_is_reached_by_its_connection_alone_is_reached_by_it_whatever_its_tag() {
    story(async |world| {
        let mut phone = crate::device(world, "1.0").await;
        let mut alice = world.tcp().await;
        let tag = format!("{}%41+!$", "t".repeat(100));
        let invite = call(&alice).set("From", &format!("<sip:alice@example.org>;tag={tag}"));
        let invite = invite.set("Contact", "<sip:alice@192.0.2.7:5060;transport=tcp>");
        alice.send(&invite.bytes()).await;
        let came = asked(&mut phone, "INVITE").await;
        assert_eq!(came.list(Name::RecordRoute).count(), 2, "{:?}", came.bytes());
        answer(&mut phone, &came, 200, "phone").await;
        let taken = answered(&mut alice, 200).await;
        alice.send(&alice.in_dialog(&invite, &taken, "ACK", 1).bytes()).await;
        asked(&mut phone, "ACK").await;
        let bye = phone
            .request("BYE", "sip:alice@192.0.2.7:5060;transport=tcp")
            .set("From", taken.header_by_text("To").unwrap())
            .set("To", invite.field("From"))
            .set("Call-ID", invite.field("Call-ID"));
        let bye = came.list(Name::RecordRoute).fold(bye, |it, route| it.with("Route", route));
        phone.send(&bye.bytes()).await;
        let came_bye = asked(&mut alice, "BYE").await;
        alice.respond(&came_bye, 200).await;
        assert_eq!(phone.answer_to(&bye).await.status(), Some(200));
    });
}

#[test]
fn an_answer_that_kept_only_our_via_and_no_record_route_gets_to_the_caller_with_them() {
    story(async |world| {
        let tcp = world.tcp().await;
        let mut phone = registered(tcp, "<sip:bob@192.0.2.9:5060;transport=tcp>").await;
        let mut alice = world.udp().await;
        let invite = call(&alice);
        alice.send(&invite.bytes()).await;
        let came = asked(&mut phone, "INVITE").await;
        let field = |name: &str| came.header_by_text(name).unwrap().to_owned();
        let answer = format!(
            "SIP/2.0 200 OK\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=phone\r\nCall-ID: {}\r\nCSeq: {}\r\n\
             Contact: <sip:bob@192.0.2.9:5060;transport=tcp>\r\nContent-Length: 0\r\n\r\n",
            came.list(Name::Via).next().unwrap(),
            field("From"),
            field("To"),
            field("Call-ID"),
            field("CSeq")
        );
        phone.send(answer.as_bytes()).await;
        let taken = answered(&mut alice, 200).await;
        assert_eq!(taken.list(Name::Via).count(), 1);
        assert!(taken.list(Name::RecordRoute).eq(came.list(Name::RecordRoute)), "{:?}", taken.bytes());
        alice.send(&alice.in_dialog(&invite, &taken, "ACK", 1).bytes()).await;
        asked(&mut phone, "ACK").await;
    });
}

#[test]
fn a_large_invite_goes_over_udp_where_nothing_else_leads() {
    story(async |world| {
        let mut phone = registered(world.udp().await, "<sip:bob@192.0.2.9:5060>").await;
        let mut alice = world.udp().await;
        let invite = call(&alice).with("X-Padding", &"x".repeat(1500));
        alice.send(&invite.bytes()).await;
        let came = asked(&mut phone, "INVITE").await;
        assert_eq!(came.header_by_text("X-Padding").map(str::len), Some(1500));
        phone.respond(&came, 486).await;
        assert_eq!(crate::refused(&mut alice, &invite).await.status(), Some(486));
    });
}

#[test]
fn a_mark_that_was_seen_is_of_no_use_but_in_its_dialog() {
    setting().demands_passwords().tell(async |world| {
        let tcp = world.tcp().await;
        let mut phone = registered(tcp, "<sip:bob@192.0.2.9:5060;transport=tcp>").await;
        let mut alice = world.udp().await;
        let invite = call(&alice);
        alice.send(&invite.bytes()).await;
        let came = asked(&mut phone, "INVITE").await;
        answer(&mut phone, &came, 200, "phone").await;
        let taken = answered(&mut alice, 200).await;
        let (mut mallory, mut victim) = (world.outside().await, RawSip::udp([127, 0, 0, 3].into(), world.sip()).await);
        let theirs = |mallory: &RawSip, method: &str, cseq| mallory.in_dialog(&invite, &taken, method, cseq);
        // Another call, or another's part in this one.
        for method in ["INVITE", "MESSAGE", "BYE", "INFO"] {
            let other_call = theirs(&mallory, method, 2).set("Call-ID", "other");
            assert_eq!(mallory.ask(&other_call).await.status(), Some(481), "{method}");
        }
        let other_tags = theirs(&mallory, "BYE", 2).set("From", "<sip:alice@example.org>;tag=other");
        assert_eq!(mallory.ask(&other_tags).await.status(), Some(481));
        // What needs no dialog does not pass in one.
        for method in ["MESSAGE", "REGISTER", "SUBSCRIBE", "PUBLISH"] {
            let request = theirs(&mallory, method, 3);
            assert_eq!(mallory.ask(&request).await.status(), Some(405), "{method}");
        }
        // It leads to nobody else, by Route or Request-URI, and nobody is named in it.
        let beyond = format!("<sip:{};transport=udp;lr>", victim.local());
        let routed = theirs(&mallory, "INFO", 4).with("Route", &beyond);
        assert_eq!(mallory.ask(&routed).await.status(), Some(403));
        let info = theirs(&mallory, "INFO", 5);
        let uri = format!("sip:victim@{};transport=udp", victim.local());
        let info = info.line_of("INFO", &uri).with("P-Asserted-Identity", "<sip:police@example.org>");
        mallory.send(&info.bytes()).await;
        let came = asked(&mut phone, "INFO").await;
        assert_eq!(came.count(Name::PAssertedIdentity), 0);
        phone.respond(&came, 481).await;
        assert_eq!(mallory.answer_to(&info).await.status(), Some(481));
        assert_eq!([victim.unread_by_now().await, phone.unread_by_now().await].concat(), [""; 0]);
        // A mark is no Call-ID of ours either.
        let route = taken.list(Name::RecordRoute).next().unwrap().to_owned();
        let user = route.trim_start_matches("<sip:").split('@').next().unwrap().to_owned();
        let own = alice.request("BYE", "sip:bob@example.org").set("Call-ID", &format!("{user}@example.org"));
        assert_eq!(alice.ask(&own).await.status(), Some(481));
    });
}

#[test]
fn whom_another_tenant_trusts_says_nothing_of_identities_in_a_dialog_of_this_one_and_leads_it_nowhere() {
    setting().demands_passwords().beside_a_trusting_tenant().tell(async |world| {
        let tcp = world.tcp().await;
        let mut phone = registered(tcp, "<sip:bob@192.0.2.9:5060;transport=tcp>").await;
        let (mut alice, mut core) = (world.udp().await, RawSip::udp([127, 0, 0, 3].into(), world.sip()).await);
        let invite = call(&alice);
        alice.send(&invite.bytes()).await;
        let came = asked(&mut phone, "INVITE").await;
        answer(&mut phone, &came, 200, "phone").await;
        let taken = answered(&mut alice, 200).await;
        let mut mallory = world.outside().await;
        let erin = invite.field("From").replace("alice@example.org", "erin@other.example");
        for from in [invite.field("From"), &erin] {
            let info = mallory.in_dialog(&invite, &taken, "INFO", 2).set("From", from);
            let info = info.with("P-Asserted-Identity", "<sip:carol@example.org>");
            let routed =
                info.clone().with("Route", &format!("<sip:{};transport=udp;lr>", core.local())).new_transaction();
            assert_eq!(mallory.ask(&routed).await.status(), Some(403), "{from}");
            mallory.send(&info.bytes()).await;
            let came = asked(&mut phone, "INFO").await;
            assert_eq!(came.count(Name::PAssertedIdentity), 0, "{from}");
            phone.respond(&came, 481).await;
            assert_eq!(mallory.answer_to(&info).await.status(), Some(481), "{from}");
        }
        assert_eq!(core.unread_by_now().await, [""; 0]);
        // Whom this one trusts leads it on.
        let info = alice
            .in_dialog(&invite, &taken, "INFO", 3)
            .with("Route", &format!("<sip:{};transport=udp;lr>", core.local()));
        alice.send(&info.bytes()).await;
        let came = asked(&mut core, "INFO").await;
        core.respond(&came, 200).await;
        assert_eq!(alice.answer_to(&info).await.status(), Some(200));
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
