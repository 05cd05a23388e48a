//! Calls and chats, which are not for keeping.

use restante_sip::message::{Name, SipMessage};
use restante_tests::{RawMsrp, RawSip, World, setting, story};

use crate::{BOB, TRIES, answer, answered, asked, call, cancel_of, device, give_up, refused, registered};

#[test]
fn both_devices_ring_one_answers_and_the_other_is_cancelled() {
    for is_ipv6 in [false, true] {
        setting().on_ipv6(is_ipv6).tell(one_of_two_answers);
    }
}

async fn one_of_two_answers(world: &mut World) {
    let (mut phone, mut tablet) = (device(world, "1.0").await, device(world, "1.0").await);
    let mut alice = world.udp().await;
    let invite = call(&alice).with("X-Odd", "kept,  as it is");
    alice.send(&invite.bytes()).await;
    answered(&mut alice, 100).await;
    let (to_phone, to_tablet) = (asked(&mut phone, "INVITE").await, asked(&mut tablet, "INVITE").await);
    for (device, request) in [(&phone, &to_phone), (&tablet, &to_tablet)] {
        assert_eq!(request.request_uri(), Some(format!("sip:bob@{}", device.local()).as_str()));
        assert_eq!(request.header_by_text("X-Odd"), Some("kept,  as it is"));
        assert_eq!(request.header(Name::MaxForwards), Some("69"));
        assert_eq!(request.count(Name::RecordRoute), 0, "they reach each other without us");
        assert_eq!(request.list(Name::Via).count(), 2);
        assert_eq!(request.body(), invite.body);
    }
    phone.respond(&to_phone, 180).await;
    answered(&mut alice, 180).await;
    answer(&mut tablet, &to_tablet, 200, "tablet").await;
    let taken = answered(&mut alice, 200).await;
    assert_eq!(taken.to().unwrap().tag(), Some("tablet"));
    assert_eq!(taken.list(Name::Via).count(), 1);
    give_up(&mut phone, &to_phone).await;
    // The dialog goes from end to end.
    alice.send(&RawMsrp::ack(&alice, &invite, &taken).bytes()).await;
    // The 2xx is its sender's to repeat, and each repetition passes.
    answer(&mut tablet, &to_tablet, 200, "tablet").await;
    answered(&mut alice, 200).await;
    assert_eq!(world.queue().len(), 0);
}

#[test]
fn devices_ring_in_the_order_of_their_q_and_the_best_refusal_comes_back() {
    story(async |world| {
        let (mut first, mut second) = (device(world, "0.9").await, device(world, "0.2").await);
        let mut alice = world.udp().await;
        let invite = call(&alice);
        alice.send(&invite.bytes()).await;
        let to_first = asked(&mut first, "INVITE").await;
        first.respond(&to_first, 486).await;
        asked(&mut first, "ACK").await;
        let to_second = asked(&mut second, "INVITE").await;
        second.respond(&to_second, 415).await;
        asked(&mut second, "ACK").await;
        let refusal = refused(&mut alice, &invite).await;
        assert_eq!(refusal.status(), Some(415), "the one that tells the caller what to change");
    });
}

#[test]
fn a_caller_has_so_many_calls_and_others_have_theirs() {
    setting().configure(|it| it.limits.max_calls_per_sender = 1).tell(async |world| {
        let mut phone = device(world, "1.0").await;
        let mut proxy = world.udp().await;
        let first = call(&proxy);
        proxy.send(&first.bytes()).await;
        let to_phone = asked(&mut phone, "INVITE").await;
        let second = call(&proxy);
        proxy.send(&second.bytes()).await;
        let refusal = refused(&mut proxy, &second).await;
        assert_eq!((refusal.status(), refusal.header_by_text("Retry-After")), (Some(480), Some("5")));
        assert_eq!(world.metric("restante_sender_limits_total", &["limit=\"calls\""]), 1);
        let others = call(&proxy).with("P-Asserted-Identity", "<sip:carol@example.org>");
        proxy.send(&others.bytes()).await;
        let of_carol = asked(&mut phone, "INVITE").await;
        for request in [&to_phone, &of_carol] {
            phone.respond(request, 486).await;
            asked(&mut phone, "ACK").await;
        }
        assert_eq!(refused(&mut proxy, &first).await.status(), Some(486));
        let again = call(&proxy);
        proxy.send(&again.bytes()).await;
        let to_phone = asked(&mut phone, "INVITE").await;
        phone.respond(&to_phone, 486).await;
        asked(&mut phone, "ACK").await;
        assert_eq!(refused(&mut proxy, &again).await.status(), Some(486));
    });
}

#[test]
fn there_is_a_limit_to_what_is_passed_on_at_once() {
    setting().configure(|it| it.limits.max_relays = 1).tell(async |world| {
        let mut phone = device(world, "1.0").await;
        let (mut alice, mut carol) = (world.udp().await, world.udp().await);
        let (first, second) = (call(&alice), call(&carol));
        alice.send(&first.bytes()).await;
        let to_phone = asked(&mut phone, "INVITE").await;
        carol.send(&second.bytes()).await;
        let refusal = refused(&mut carol, &second).await;
        assert_eq!((refusal.status(), refusal.header_by_text("Retry-After")), (Some(503), Some("5")));
        phone.respond(&to_phone, 486).await;
        asked(&mut phone, "ACK").await;
        assert_eq!(refused(&mut alice, &first).await.status(), Some(486));
        // What all refused is over: there is room again.
        let third = call(&carol);
        carol.send(&third.bytes()).await;
        let to_phone = asked(&mut phone, "INVITE").await;
        phone.respond(&to_phone, 486).await;
        asked(&mut phone, "ACK").await;
        assert_eq!(refused(&mut carol, &third).await.status(), Some(486));
    });
}

#[test]
fn who_declines_for_everybody_ends_it_for_everybody() {
    story(async |world| {
        let (mut phone, mut tablet) = (device(world, "1.0").await, device(world, "1.0").await);
        let mut waiting = device(world, "0.1").await;
        let mut alice = world.udp().await;
        let invite = call(&alice);
        alice.send(&invite.bytes()).await;
        let (to_phone, to_tablet) = (asked(&mut phone, "INVITE").await, asked(&mut tablet, "INVITE").await);
        tablet.respond(&to_tablet, 180).await;
        answered(&mut alice, 180).await;
        phone.respond(&to_phone, 603).await;
        give_up(&mut tablet, &to_tablet).await;
        assert_eq!(refused(&mut alice, &invite).await.status(), Some(603));
        // The one of less q was never asked: the next that it hears is the next call.
        let next = call(&alice);
        alice.send(&next.bytes()).await;
        for device in [&mut phone, &mut tablet] {
            let request = asked(device, "INVITE").await;
            device.respond(&request, 486).await;
        }
        assert_eq!(asked(&mut waiting, "INVITE").await.call_id(), Some(next.field("Call-ID")));
    });
}

#[test]
fn the_callers_cancel_reaches_every_device_and_487_comes_back() {
    story(async |world| {
        let (mut phone, mut tablet) = (device(world, "1.0").await, device(world, "1.0").await);
        let mut alice = world.udp().await;
        let invite = call(&alice);
        alice.send(&invite.bytes()).await;
        let (to_phone, to_tablet) = (asked(&mut phone, "INVITE").await, asked(&mut tablet, "INVITE").await);
        phone.respond(&to_phone, 180).await;
        tablet.respond(&to_tablet, 180).await;
        answered(&mut alice, 180).await;
        assert_eq!(alice.ask(&cancel_of(&invite)).await.status(), Some(200));
        give_up(&mut phone, &to_phone).await;
        give_up(&mut tablet, &to_tablet).await;
        assert_eq!(refused(&mut alice, &invite).await.status(), Some(487));
    });
}

#[test]
fn what_rings_too_long_is_ended() {
    setting().configure(|it| it.limits.max_ringing_milliseconds = 2_000).tell(async |world| {
        let mut phone = device(world, "1.0").await;
        let mut alice = world.udp().await;
        for number in 1.. {
            let invite = call(&alice);
            alice.send(&invite.bytes()).await;
            let to_phone = asked(&mut phone, "INVITE").await;
            phone.respond(&to_phone, 180).await;
            give_up(&mut phone, &to_phone).await;
            let status = refused(&mut alice, &invite).await.status();
            if status == Some(487) {
                break;
            }
            // Its time was over before it rang: a machine stood still.
            assert!(status == Some(408) && number < TRIES, "{status:?}");
        }
        // Without a word it is as if nobody had been there (RFC 3261 §16.8).
        let invite = call(&alice);
        alice.send(&invite.bytes()).await;
        asked(&mut phone, "INVITE").await;
        assert_eq!(refused(&mut alice, &invite).await.status(), Some(408));
    });
}

#[test]
fn a_call_that_nobody_says_a_word_to_is_over_before_the_core_goes_on_and_one_that_rings_is_not() {
    let hurried = setting().configure(|it| {
        it.limits.max_relay_invite_milliseconds = 300;
        it.limits.max_ringing_milliseconds = 900;
    });
    hurried.tell(async |world| {
        let (mut phone, mut silent) = (device(world, "1.0").await, device(world, "1.0").await);
        let mut alice = world.udp().await;
        let invite = call(&alice);
        alice.send(&invite.bytes()).await;
        answered(&mut alice, 100).await;
        let (to_phone, to_silent) = (asked(&mut phone, "INVITE").await, asked(&mut silent, "INVITE").await);
        // That somebody works on it is no word of a device.
        phone.respond(&to_phone, 100).await;
        assert_eq!(refused(&mut alice, &invite).await.status(), Some(408));
        give_up(&mut phone, &to_phone).await;
        // Who wakes up now is let go.
        answer(&mut silent, &to_silent, 200, "late").await;
        assert_eq!(asked(&mut silent, "ACK").await.to().unwrap().tag(), Some("late"));
        let bye = asked(&mut silent, "BYE").await;
        silent.respond(&bye, 200).await;
        // Who rings has Timer C: it is that which ends it. Anew where a machine stood still and the word came too late.
        for number in 1.. {
            let invite = call(&alice);
            alice.send(&invite.bytes()).await;
            let to_phone = asked(&mut phone, "INVITE").await;
            phone.respond(&to_phone, 180).await;
            let to_silent = asked(&mut silent, "INVITE").await;
            silent.respond(&to_silent, 480).await;
            give_up(&mut phone, &to_phone).await;
            if refused(&mut alice, &invite).await.status() != Some(408) {
                break;
            }
            assert!(number < TRIES, "given up each time");
        }
    });
}

#[test]
fn what_outsiders_ask_in_their_dialogs_is_counted_as_their_calls() {
    setting().demands_passwords().configure(|it| it.limits.max_calls_per_source = 1).tell(async |world| {
        let mut phone = registered(world.tcp().await, "<sip:bob@192.0.2.9:5060;transport=tcp>").await;
        let mut alice = world.udp().await;
        let invite = call(&alice);
        alice.send(&invite.bytes()).await;
        let came = asked(&mut phone, "INVITE").await;
        answer(&mut phone, &came, 200, "phone").await;
        let taken = answered(&mut alice, 200).await;
        let mut outside = world.outside().await;
        let again = |socket: &RawSip, cseq| socket.in_dialog(&invite, &taken, "INFO", cseq);
        let first = again(&outside, 2);
        outside.send(&first.bytes()).await;
        let first_came = asked(&mut phone, "INFO").await;
        let second = outside.ask(&again(&outside, 3)).await;
        assert_eq!((second.status(), second.header_by_text("Retry-After")), (Some(480), Some("5")));
        assert_eq!(world.metric("restante_sender_limits_total", &["limit=\"source-calls\""]), 1);
        phone.respond(&first_came, 200).await;
        assert_eq!(outside.answer_to(&first).await.status(), Some(200));
        // A trusted peer speaks for many, and what was answered is over.
        for (socket, cseq) in [(&mut alice, 4), (&mut outside, 5)] {
            let request = socket.in_dialog(&invite, &taken, "INFO", cseq);
            socket.send(&request.bytes()).await;
            let came = asked(&mut phone, "INFO").await;
            phone.respond(&came, 200).await;
            assert_eq!(socket.answer_to(&request).await.status(), Some(200));
        }
    });
}

#[test]
fn challenges_of_all_devices_come_back_together_and_503_does_not() {
    story(async |world| {
        let (mut phone, mut tablet) = (device(world, "1.0").await, device(world, "1.0").await);
        let mut alice = world.udp().await;
        let invite = call(&alice);
        alice.send(&invite.bytes()).await;
        for (device, realm) in [(&mut phone, "phone"), (&mut tablet, "tablet")] {
            let request = asked(device, "INVITE").await;
            let challenge = format!("Digest realm=\"{realm}\", nonce=\"n\"");
            let answer = restante_sip::writer::Builder::response(&request, 401, "Unauthorized", None, Some(realm));
            device.send(&answer.field("WWW-Authenticate", &challenge).finish().unwrap()).await;
        }
        let refusal = refused(&mut alice, &invite).await;
        let realms: Vec<bool> = ["phone", "tablet"]
            .iter()
            .map(|realm| refusal.headers(Name::WwwAuthenticate).any(|value| value.contains(realm)))
            .collect();
        assert_eq!((refusal.status(), realms), (Some(401), vec![true, true]));
        let invite = call(&alice);
        alice.send(&invite.bytes()).await;
        for device in [&mut phone, &mut tablet] {
            let request = asked(device, "INVITE").await;
            device.respond(&request, 503).await;
        }
        assert_eq!(refused(&mut alice, &invite).await.status(), Some(500));
    });
}

#[test]
fn what_may_not_be_passed_on_is_refused() {
    story(async |world| {
        let mut alice = world.udp().await;
        let nobody_there = call(&alice);
        assert_eq!(refused_at_once(&mut alice, nobody_there).await.status(), Some(480));
        let mut phone = device(world, "1.0").await;
        for (change, expected) in [(("Max-Forwards", "0"), 483), (("Max-Breadth", "0"), 440)] {
            let request = call(&alice).set(change.0, change.1);
            assert_eq!(refused_at_once(&mut alice, request).await.status(), Some(expected));
        }
        let request = call(&alice).with("Proxy-Require", "frob, path");
        let refusal = refused_at_once(&mut alice, request).await;
        assert_eq!((refusal.status(), refusal.header(Name::Unsupported)), (Some(420), Some("frob")));
        // What is required of the callee is the callee's to refuse.
        let request = call(&alice).with("Require", "100rel").without("Max-Forwards");
        alice.send(&request.bytes()).await;
        let came = asked(&mut phone, "INVITE").await;
        assert_eq!((came.header(Name::Require), came.header(Name::MaxForwards)), (Some("100rel"), Some("70")));
        phone.respond(&came, 420).await;
        assert_eq!(refused(&mut alice, &request).await.status(), Some(420));
    });
}

async fn refused_at_once(socket: &mut restante_tests::RawSip, request: restante_tests::Request) -> SipMessage {
    socket.send(&request.bytes()).await;
    refused(socket, &request).await
}

#[test]
fn what_comes_back_to_us_unchanged_is_a_loop() {
    story(async |world| {
        let mut phone = device(world, "1.0").await;
        let mut alice = world.udp().await;
        let invite = call(&alice);
        alice.send(&invite.bytes()).await;
        let came = asked(&mut phone, "INVITE").await;
        // A device that sends it back to the address that was dialled, as a call diversion gone wrong does.
        let text = String::from_utf8(came.bytes().to_vec()).unwrap();
        let line = format!("INVITE {BOB} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKdiverts;rport", phone.local());
        let back = text.replacen(text.split("\r\n").next().unwrap(), &line, 1);
        phone.send(back.as_bytes()).await;
        let refusal = phone.expect("482", |it| it.status() == Some(482)).await;
        assert_eq!(refusal.top_via().unwrap().branch(), Some("z9hG4bKdiverts"));
        phone.respond(&came, 482).await;
        assert_eq!(refused(&mut alice, &invite).await.status(), Some(482));
        // The first one is over: only the mark in our branch tells that it was here.
        let line = format!("INVITE {BOB} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKagain;rport", phone.local());
        phone.send(text.replacen(text.split("\r\n").next().unwrap(), &line, 1).as_bytes()).await;
        let is_it = |it: &SipMessage| it.top_via().is_ok_and(|via| via.branch() == Some("z9hG4bKagain"));
        let refusal =
            phone.expect("the second answer", |it| it.status().is_some_and(|it| it >= 200) && is_it(it)).await;
        assert_eq!(refusal.status(), Some(482));
    });
}

#[test]
fn a_devices_other_flow_is_tried_only_where_the_first_did_not_reach_it() {
    for (status, expected) in [(486, None), (503, Some(486))] {
        story(async |world| {
            let (mut first, mut second) = (world.tcp().await, world.tcp().await);
            register_flows(&mut first, &mut second).await;
            let mut alice = world.udp().await;
            let invite = call(&alice);
            alice.send(&invite.bytes()).await;
            let to_first = asked(&mut first, "INVITE").await;
            first.respond(&to_first, status).await;
            if let Some(answer) = expected {
                let to_second = asked(&mut second, "INVITE").await;
                second.respond(&to_second, answer).await;
            }
            assert_eq!(refused(&mut alice, &invite).await.status(), Some(486));
            // The one that was not asked hears of the next call only.
            if expected.is_none() {
                let unread = second.unread_by_now().await;
                assert!(!unread.iter().any(|line| line.starts_with("INVITE")), "{unread:?}");
            }
        });
    }
}

/// Registers two flows of one device of Bob's.
async fn register_flows(first: &mut RawSip, second: &mut RawSip) {
    for (socket, reg_id) in [(first, 1), (second, 2)] {
        let instance = "+sip.instance=\"<urn:uuid:00000000-0000-4000-8000-000000000009>\"";
        let contact = format!("<sip:bob@{};transport=tcp>;reg-id={reg_id};{instance}", socket.local());
        let register = socket.request("REGISTER", "sip:example.org").set("From", "<sip:bob@example.org>;tag=device");
        let register = register.set("To", "<sip:bob@example.org>").with("Contact", &contact);
        assert_eq!(socket.ask(&register.with("Supported", "path, outbound")).await.status(), Some(200));
    }
}

#[test]
fn a_devices_other_flow_does_not_wait_for_who_else_rings() {
    story(async |world| {
        let (mut first, mut second) = (world.tcp().await, world.tcp().await);
        register_flows(&mut first, &mut second).await;
        let mut other = device(world, "1.0").await;
        let mut alice = world.udp().await;
        let invite = call(&alice);
        alice.send(&invite.bytes()).await;
        let to_other = asked(&mut other, "INVITE").await;
        other.respond(&to_other, 180).await;
        let to_first = asked(&mut first, "INVITE").await;
        first.respond(&to_first, 430).await;
        let to_second = asked(&mut second, "INVITE").await;
        answer(&mut second, &to_second, 200, "second").await;
        assert_eq!(answered(&mut alice, 200).await.to().unwrap().tag(), Some("second"));
        give_up(&mut other, &to_other).await;
    });
}

#[test]
fn a_chat_is_passed_on_like_a_call() {
    story(async |world| {
        let mut phone = device(world, "1.0").await;
        let mut alice = world.udp().await;
        let chat = "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.session";
        let invite = RawMsrp::invitation(&alice, BOB).with("P-Preferred-Service", chat);
        alice.send(&invite.bytes()).await;
        let came = asked(&mut phone, "INVITE").await;
        assert_eq!(came.body(), invite.body);
        phone.respond(&came, 486).await;
        assert_eq!(refused(&mut alice, &invite).await.status(), Some(486));
        assert_eq!(world.queue().len(), 0);
    });
}

#[test]
fn a_call_that_is_too_large_for_udp_goes_over_tcp_and_after_all_over_udp_where_nobody_takes_that() {
    story(async |world| {
        let mut phone = device(world, "1.0").await;
        let mut alice = world.udp().await;
        let large = |socket: &restante_tests::RawSip| call(socket).with("X-Large", &"x".repeat(1_300));
        for _ in 0..2 {
            let invite = large(&alice);
            alice.send(&invite.bytes()).await;
            let came = asked(&mut phone, "INVITE").await;
            assert!(came.bytes().len() > 1_300);
            assert!(came.header(Name::Via).unwrap().starts_with("SIP/2.0/UDP"), "{:?}", came.header(Name::Via));
            phone.respond(&came, 486).await;
            asked(&mut phone, "ACK").await;
            assert_eq!(refused(&mut alice, &invite).await.status(), Some(486));
        }
        assert_eq!(world.transport_count("connections_failed"), 1, "what is known is not tried again");
        // Where somebody does, it stays with TCP.
        let (place, listener) = loop {
            let place = world.udp().await;
            // Somebody else may have this port of TCP.
            if let Ok(listener) = tokio::net::TcpListener::bind(place.local()).await {
                break (place, listener);
            }
        };
        let mut desk = registered(place, &format!("<sip:bob@{}>;q=1.0", listener.local_addr().unwrap())).await;
        let invite = large(&alice);
        alice.send(&invite.bytes()).await;
        let (mut stream, _) = restante_tests::in_time("a connection", listener.accept()).await.expect("a connection");
        let mut buffer = vec![0; 4_096];
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer);
        let length = restante_tests::in_time("an INVITE", read).await.expect("bytes");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(text.starts_with("INVITE ") && text.contains("Via: SIP/2.0/TCP"), "{text}");
        assert_eq!(desk.unread_by_now().await, [""; 0]);
    });
}

#[test]
fn what_no_datagram_holds_is_given_up_where_nobody_takes_tcp() {
    story(async |world| {
        let mut phone = device(world, "1.0").await;
        let mut alice = world.tcp().await;
        // The first time it is not known of the phone; later it is, and there is no other way.
        for connections in [2, 3] {
            let invite = call(&alice);
            let description = format!("{}a={}\r\n", String::from_utf8_lossy(&invite.body), "x".repeat(70_000));
            let invite = invite.body("application/sdp", description);
            alice.send(&invite.bytes()).await;
            assert_eq!(refused(&mut alice, &invite).await.status(), Some(500));
            assert_eq!(world.transport_count("connections_failed"), connections);
        }
        assert_eq!(phone.unread_by_now().await, [""; 0]);
    });
}
