//! Messages pushed in a session.

use restante_client::{Behaviour, Features, Mode, PageMessage, SetupChoice};
use restante_sip::message::Method;
use restante_tests::raw_device::{
    BOB, accept, carried, connected, connecting, invited, invited_after, register, register_for,
};
use restante_tests::{MsrpReply, RawMsrp, guest, setting};
use restante_transport::Protocol;

#[test]
fn more_than_a_few_messages_come_in_one_session_in_order() {
    let (udp, tcp) = (Protocol::Udp, Protocol::Tcp);
    for (ipv6, transport, setup) in
        [(false, udp, SetupChoice::Active), (false, tcp, SetupChoice::Passive), (true, udp, SetupChoice::Active)]
    {
        let place = if ipv6 { setting().ipv6() } else { setting() };
        place.tell(async |world| {
            let alice = world.person_with("alice", |it| it.transport = transport).await;
            let mut bob = world
                .person_with("bob", |it| {
                    it.transport = transport;
                    it.setup = setup;
                })
                .await;
            let texts = ["one", "two", "three", "four"];
            for text in texts {
                alice.send(bob.address(), text).await;
            }
            bob.register().await;
            let mut calls = Vec::new();
            for text in texts {
                let message = bob.received().await;
                assert_eq!((message.text(), message.mode), (Some(text), Mode::Push));
                assert_eq!(message.sender, alice.address());
                calls.push(message.call_id);
            }
            calls.dedup();
            let ended = bob.session_ended().await;
            assert_eq!((ended.messages, ended.orderly, vec![ended.call_id]), (4, true, calls));
            assert_eq!(bob.wire.received("MESSAGE").len(), 0);
            world.until_settled().await;
        });
    }
}

#[test]
fn how_many_are_a_few_is_the_operators_word() {
    for (few, by_session) in [(2, false), (1, true), (0, true)] {
        setting().settings(&format!("few = {few}")).tell(async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            alice.send(bob.address(), "one").await;
            alice.send(bob.address(), "two").await;
            bob.register().await;
            let expected = if by_session { Mode::Push } else { Mode::Page };
            for _ in 0..2 {
                assert_eq!(bob.received().await.mode, expected, "few = {few}");
            }
            world.until_settled().await;
        });
    }
}

#[test]
fn what_does_not_fit_a_page_goes_by_session_unless_every_hop_is_congestion_safe() {
    for (safe, transport, expected) in [
        (false, Protocol::Udp, Mode::Push),
        (false, Protocol::Tcp, Mode::Push),
        (true, Protocol::Udp, Mode::Push),
        (true, Protocol::Tcp, Mode::Page),
    ] {
        setting().configure(move |it| it.sip.congestion_safe = safe).tell(async |world| {
            let alice = world.person_with("alice", |it| it.transport = Protocol::Tcp).await;
            let mut bob = world.person_with("bob", |it| it.transport = transport).await;
            let text = "x".repeat(1_500);
            alice.send(bob.address(), &text).await;
            bob.register().await;
            let message = bob.received().await;
            assert_eq!((message.text(), message.mode), (Some(text.as_str()), expected), "{safe} {transport:?}");
            world.until_settled().await;
        });
    }
}

#[test]
fn each_sender_has_a_session_unless_the_client_takes_deferred_messages_of_all_in_one() {
    for (cpm_deferred, expected) in [(false, vec!["a1", "a2", "c1", "c2"]), (true, vec!["a1", "c1", "a2", "c2"])] {
        setting().settings("few = 0").tell(async |world| {
            let (alice, carol) = (world.person("alice").await, world.person("carol").await);
            let features = Features { cpm_deferred, ..Features::default() };
            let mut bob = world.person_with("bob", |it| it.features = features).await;
            for (sender, text) in [(&alice, "a1"), (&carol, "c1"), (&alice, "a2"), (&carol, "c2")] {
                sender.send(bob.address(), text).await;
            }
            bob.register().await;
            let mut calls = Vec::new();
            for text in expected {
                let message = bob.received().await;
                assert_eq!(message.text(), Some(text));
                let sender = if text.starts_with('a') { alice.address() } else { carol.address() };
                assert_eq!(message.sender, sender);
                calls.push(message.call_id);
            }
            calls.dedup();
            assert_eq!(calls.len(), if cpm_deferred { 1 } else { 2 });
            world.until_settled().await;
        });
    }
}

#[test]
fn what_was_acknowledged_is_gone_and_the_rest_comes_later_exactly_once() {
    setting().settings("few = 0\nretry_seconds = [1, 1, 1]").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let mut sent = Vec::new();
        for text in ["one", "two", "three", "four"] {
            sent.push(alice.send(bob.address(), text).await.message_id);
        }
        // The client acknowledges two of four and is gone.
        let part = Behaviour { acknowledge_only: Some(2), ..Behaviour::default() };
        bob.client.set_behaviour(part).await.unwrap();
        bob.register().await;
        assert_eq!(bob.texts(2).await, ["one", "two"]);
        bob.client.stop().await;
        world.until_waiting(2).await;
        assert_eq!(waiting_ids(&world.queue()), sent[2..]);
        let mut bob = world.person("bob").await;
        bob.register().await;
        for (id, text) in sent[2..].iter().zip(["three", "four"]) {
            let message = bob.received().await;
            assert_eq!((message.text(), message.message_id.as_ref()), (Some(text), Some(id)));
        }
        world.until_settled().await;
        assert_eq!(bob.unread_texts(), [""; 0]);
    });
}

#[test]
fn a_connection_that_breaks_in_the_middle_costs_nothing_but_time() {
    setting().settings("few = 0\nretry_seconds = [1, 1, 1]").allow_objections().tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let mut sent = Vec::new();
        let long = |letter: &str| letter.repeat(700);
        for letter in ["a", "b", "c", "d"] {
            sent.push(alice.send(bob.address(), &long(letter)).await.message_id);
        }
        let breaks = Behaviour { break_after_bytes: Some(2_500), ..Behaviour::default() };
        bob.client.set_behaviour(breaks).await.unwrap();
        bob.register().await;
        let mut received = Vec::new();
        while received.len() < sent.len() {
            let message = bob.received().await;
            // What was acknowledged when the connection broke is not known to have been: it may come again, and says so.
            if !message.repeated {
                received.push(message.message_id.expect("a Message-ID"));
            }
        }
        assert_eq!(received, sent, "in order, each under its own Message-ID");
        world.until_settled().await;
    });
}

/// What a device that waits for all its messages in sessions says.
const TAKES: &str = "a=accept-types:message/cpim\r\na=accept-wrapped-types:*\r\n";

/// Each of its messages would be waited for as long as the first.
#[test]
fn a_device_that_says_nothing_any_more_is_waited_for_once() {
    setting().settings("few = 0\nretry_seconds = [1, 1, 1]").tell(async |world| {
        let alice = world.person("alice").await;
        let texts = ["one", "two", "three", "four"];
        for text in texts {
            alice.send(BOB, text).await;
        }
        let mut gone = world.udp().await;
        register(&mut gone).await;
        let (invite, offer) = invited(&mut gone).await;
        accept(&mut gone, &invite, &connecting(TAKES)).await;
        let _says_nothing = connected(&offer).await;
        let bye = gone.expect("a BYE", |it| it.is_request() && it.method() == Some(Method::Bye)).await;
        gone.respond(&bye, 200).await;
        register_for(&mut gone, 0).await;
        let mut bob = world.person("bob").await;
        bob.register().await;
        assert_eq!(bob.texts(4).await, texts);
        world.until_settled().await;
    });
}

#[test]
fn a_client_that_takes_a_session_and_never_connects_gets_its_messages_another_time() {
    let place = setting().settings("few = 0\nretry_seconds = [1, 1, 1, 1, 1, 1, 1, 1]");
    place.configure(|it| it.limits.max_session_setup_seconds = 1).tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let absent = Behaviour { withhold_connection: true, ..Behaviour::default() };
        bob.client.set_behaviour(absent).await.unwrap();
        let sent = alice.send(bob.address(), "are you there").await;
        bob.register().await;
        assert_eq!(bob.session_ended().await.messages, 0);
        world.until_waiting(1).await;
        bob.client.set_behaviour(Behaviour::default()).await.unwrap();
        let message = bob.received().await;
        assert_eq!((message.text(), message.message_id.as_ref()), (Some("are you there"), Some(&sent.message_id)));
        world.until_settled().await;
    });
}

#[test]
fn a_message_that_came_as_plain_text_is_wrapped_for_a_session() {
    setting().settings("few = 0").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let plain = PageMessage { wrap: false, ..PageMessage::text(bob.address(), "plain") };
        alice.send_message(plain).await;
        bob.register().await;
        let message = bob.received().await;
        assert_eq!(
            (message.text(), message.mode, message.sender.as_str()),
            (Some("plain"), Mode::Push, alice.address())
        );
        assert!(message.content_type.starts_with("text/plain"), "{}", message.content_type);
        assert!(message.message_id.is_some());
        world.until_settled().await;
    });
}

#[test]
fn what_says_how_a_body_is_to_be_read_is_inside_of_what_it_is_wrapped_in() {
    setting().settings("few = 0").tell(async |world| {
        let mut alice = world.udp().await;
        let page = alice.request("MESSAGE", BOB).with("Content-Language", "de").with("Content-Disposition", "inline");
        assert_eq!(alice.ask(&page.text("Hallo")).await.status(), Some(202));
        let (mut msrp, invite, answer) = RawMsrp::establish(&mut alice, BOB).await;
        let file = format!(
            "MSRP file0001 SEND\r\nTo-Path: {}\r\nFrom-Path: {}\r\nMessage-ID: m\r\nByte-Range: 1-5/5\r\n\
             Content-Disposition: attachment; filename=\"a.txt\"\r\nContent-Encoding: x-own\r\nX-Own: 1\r\n\
             Content-Type: text/plain\r\n\r\nhello\r\n-------file0001$\r\n",
            msrp.to_path, msrp.from_path
        );
        msrp.send(file.as_bytes()).await;
        assert_eq!(msrp.next().await, MsrpReply::Response("file0001".to_owned(), 200));
        assert_eq!(alice.ask(&RawMsrp::bye(&alice, &invite, &answer)).await.status(), Some(200));
        let mut bob = world.udp().await;
        register(&mut bob).await;
        let (invite, offer) = invited(&mut bob).await;
        accept(&mut bob, &invite, &connecting(TAKES)).await;
        let mut msrp = connected(&offer).await;
        let came = carried(&mut bob, &mut msrp).await;
        let parts: Vec<_> = came.iter().filter_map(|it| it.split_once("\r\n\r\n")).map(|(_, part)| part).collect();
        let page = "Content-Type: text/plain\r\nContent-Disposition: inline\r\nContent-Language: de\r\n\
                    Content-Length: 5\r\n\r\nHallo";
        let file = "Content-Type: text/plain\r\nContent-Disposition: attachment; filename=\"a.txt\"\r\n\
                    Content-Encoding: x-own\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(parts, [page, file]);
        assert_eq!(invite.header_by_text("Content-Disposition"), None, "in the INVITE it would be said of the SDP");
        world.until_settled().await;
    });
}

fn waiting_ids(queue: &[restante_deferral::model::StoredMessage]) -> Vec<String> {
    queue.iter().filter_map(|it| Some(it.message.envelope.imdn.as_ref()?.message_id.clone())).collect()
}

#[test]
fn who_asks_not_to_be_named_is_not_named_by_another_message_in_its_session() {
    let place = setting().tenant(|tenant| tenant.policy = guest("scripted")).settings("available = \"session\"");
    place.tell(async |world| {
        let mut alice = world.udp().await;
        let open = alice.request("MESSAGE", BOB).with("Subject", "for everybody").text("one");
        let private = alice.request("MESSAGE", BOB).with("Privacy", "id").text("two");
        for message in [open, private] {
            assert_eq!(alice.ask(&message).await.status(), Some(202));
        }
        let mut bob = world.udp().await;
        register(&mut bob).await;
        let (invite, _) = invited_after(&mut bob, None).await;
        for field in ["P-Asserted-Identity", "Referred-By", "Subject"] {
            assert_eq!(invite.header_by_text(field), None, "{field}");
        }
        assert!(!invite.header_by_text("From").is_some_and(|from| from.contains("alice")), "{:?}", invite.bytes());
    });
}
