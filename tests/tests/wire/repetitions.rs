//! A message that comes more than once is stored once and answered each time.

use restante_sip::message::Method;
use restante_tests::{Cpim, RawSip, Request, setting, story};

const BOB: &str = "sip:bob@example.org";

fn cpim(socket: &RawSip, id: &str) -> Request {
    let body = Cpim { id: Some(id), content_type: "text/plain", ..Cpim::default() }.with(id);
    socket.request("MESSAGE", BOB).body("message/cpim", body)
}

/// Whoever got a session of ours that a restart ended says so, or asks for more.
#[test]
fn a_request_in_a_dialog_of_ours_that_is_gone_gets_481_wherever_it_comes_from() {
    setting().demands_passwords().tell(async |world| {
        let mut phone = world.udp().await;
        let register = phone.request("REGISTER", "sip:example.org").set("From", "<sip:bob@example.org>;tag=b");
        let register = register.set("To", "<sip:bob@example.org>");
        let register = register.with("Contact", &format!("<sip:bob@{}>", phone.local()));
        assert_eq!(phone.ask(&register).await.status(), Some(200));
        world.person("alice").await.send("sip:bob@example.org", "hello").await;
        let came = phone.expect("a message", |it| it.method() == Some(Method::Message)).await;
        phone.respond(&came, 200).await;
        let call_id = came.call_id().expect("a Call-ID").to_owned();
        for mut socket in [world.udp().await, world.outside().await] {
            for method in ["BYE", "INVITE", "UPDATE", "INFO", "NOTIFY"] {
                let request = socket.request(method, &format!("sip:{}", world.sip())).set("Call-ID", &call_id);
                let request = request.set("To", "<sip:alice@example.org>;tag=gone");
                assert_eq!(socket.ask(&request).await.status(), Some(481), "{method} from {}", socket.local());
            }
        }
        world.until_settled().await;
    });
}

#[test]
fn a_retransmission_is_answered_again() {
    story(async |world| {
        let mut alice = world.udp().await;
        let message = alice.request("MESSAGE", BOB).text("again");
        for _ in 0..3 {
            assert_eq!(alice.ask(&message).await.status(), Some(202));
        }
        assert_eq!(world.queue().len(), 1);
    });
}

#[test]
fn the_same_message_id_in_a_new_transaction_is_the_same_message() {
    story(async |world| {
        let (mut udp, mut tcp) = (world.udp().await, world.tcp().await);
        let first = cpim(&udp, "same");
        assert_eq!(udp.ask(&first).await.status(), Some(202));
        for _ in 0..2 {
            let again = cpim(&udp, "same");
            assert_eq!(udp.ask(&again).await.status(), Some(202));
            let over_tcp = cpim(&tcp, "same");
            assert_eq!(tcp.ask(&over_tcp).await.status(), Some(202));
        }
        assert_eq!(world.queue().len(), 1);
        assert_eq!(world.metric("restante_messages_repeated_total", &[]), 4);
    });
}

#[test]
fn another_sender_or_recipient_makes_another_message() {
    story(async |world| {
        let mut socket = world.udp().await;
        let messages = [
            cpim(&socket, "same"),
            cpim(&socket, "same").set("From", "<sip:carol@example.org>;tag=1"),
            cpim(&socket, "same").line_of("MESSAGE", "sip:dave@example.org"),
        ];
        for message in messages {
            assert_eq!(socket.ask(&message).await.status(), Some(202));
        }
        assert_eq!(world.queue().len(), 3);
    });
}

#[test]
fn two_messages_without_an_id_are_two_though_they_say_the_same() {
    story(async |world| {
        let mut alice = world.udp().await;
        for _ in 0..2 {
            let message = alice.request("MESSAGE", BOB).text("hello?");
            assert_eq!(alice.ask(&message).await.status(), Some(202));
        }
        assert_eq!(world.queue().len(), 2);
    });
}

#[test]
fn a_restart_forgets_transactions_and_no_messages() {
    story(async |world| {
        let mut alice = world.udp().await;
        let (with_id, without) = (cpim(&alice, "same"), alice.request("MESSAGE", BOB).text("no id"));
        for message in [&with_id, &without] {
            assert_eq!(alice.ask(message).await.status(), Some(202));
        }
        world.restart().await;
        for message in [&with_id, &without] {
            assert_eq!(alice.ask(message).await.status(), Some(202));
        }
        assert_eq!(world.queue().len(), 2);
    });
}

#[test]
fn what_was_delivered_is_not_delivered_again_when_it_comes_again() {
    story(async |world| {
        let mut bob = world.person("bob").await;
        bob.register().await;
        let mut alice = world.udp().await;
        let message = cpim(&alice, "once");
        assert_eq!(alice.ask(&message).await.status(), Some(202));
        assert_eq!(bob.texts(1).await, ["once"]);
        world.until_settled().await;
        let again = cpim(&alice, "once");
        assert_eq!(alice.ask(&again).await.status(), Some(202));
        let other = cpim(&alice, "other");
        assert_eq!(alice.ask(&other).await.status(), Some(202));
        assert_eq!(bob.texts(1).await, ["other"]);
        world.until_settled().await;
    });
}
