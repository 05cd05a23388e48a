//! Dispositions in sessions: in sessions of their own, and to who takes their type.

use restante_deferral::model::MessageKind;
use restante_sip::message::SipMessage;
use restante_tests::raw_device::{BOB, accept, carried, connected, connecting, invited_after, register};
use restante_tests::{RawMsrp, RawSip, World, setting};

/// A line that takes what comes wrapped.
const WRAPPED: &str = "a=accept-types:message/cpim\r\n";

/// A message and a disposition that is too long for a MESSAGE.
async fn queued(world: &World) {
    let mut alice = world.tcp().await;
    let message = alice.request("MESSAGE", BOB).text("hello");
    assert_eq!(alice.ask(&message).await.status(), Some(202));
    let report = format!(
        "<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\"><message-id>7</message-id><subject>{}</subject>\
         <delivery-notification><status><delivered/></status></delivery-notification></imdn>",
        "x".repeat(1_300)
    );
    let report = alice.request("MESSAGE", BOB).body("message/imdn+xml", report);
    assert_eq!(alice.ask(&report).await.status(), Some(202));
}

/// Takes the next session with lines that say what the device takes; gives its INVITE, and what it brought.
async fn session(bob: &mut RawSip, earlier: Option<&SipMessage>, takes: &str) -> (SipMessage, Vec<String>) {
    let (invite, offer) = invited_after(bob, earlier).await;
    accept(bob, &invite, &connecting(takes)).await;
    let mut msrp = connected(&offer).await;
    let came = carried(bob, &mut msrp).await;
    (invite, came)
}

#[test]
fn dispositions_have_a_session_of_their_own_and_none_where_their_type_is_not_taken() {
    for (takes, are_taken) in [
        ("a=accept-types:message/cpim\r\na=accept-wrapped-types:text/plain message/imdn+xml\r\n", true),
        ("a=accept-types:message/cpim\r\na=accept-wrapped-types:*\r\n", true),
        // What may be the outermost may be inside, too.
        ("a=accept-types:message/cpim text/plain\r\na=accept-wrapped-types:message/imdn+xml\r\n", true),
        ("a=accept-types:message/cpim\r\na=accept-wrapped-types:text/plain\r\n", false),
        // Who does not say what it takes wrapped takes what it names beside, and messages in any case.
        ("a=accept-types:message/cpim message/imdn+xml\r\n", true),
        (WRAPPED, false),
    ] {
        setting().settings("few = 0\nretry_seconds = [3600]").tell(async |world| {
            queued(world).await;
            let mut bob = world.udp().await;
            register(&mut bob).await;
            let (first, messages) = session(&mut bob, None, takes).await;
            let (_, dispositions) = session(&mut bob, Some(&first), takes).await;
            assert!(matches!(messages.as_slice(), [message] if message.ends_with("hello")), "{takes}: {messages:?}");
            let has_disposition = |all: &[String]| all.iter().any(|it| it.contains("Content-Type: message/imdn+xml"));
            assert_eq!(
                (dispositions.len(), has_disposition(&dispositions)),
                (usize::from(are_taken), are_taken),
                "{takes}"
            );
            if !are_taken {
                kept_until_it_is_fetched(world).await;
            }
            world.until_settled().await;
        });
    }
}

/// What the client did not take waits, and is there for one that asks and takes it.
async fn kept_until_it_is_fetched(world: &World) {
    world.until_waiting(1).await;
    assert_eq!(world.queue()[0].message.envelope.kind, MessageKind::Disposition);
    let mut tablet = world.udp().await;
    let invite = tablet.request("INVITE", "sip:deferred@example.org").set("From", &format!("<{BOB}>;tag=tablet"));
    let invite = invite.with("Contact", &format!("<sip:bob@{}>", tablet.local()));
    let invite = invite.body("application/sdp", connecting(&format!("{WRAPPED}a=accept-wrapped-types:*\r\n")));
    // What is to become of it is still being decided, perhaps: that is waited for.
    let answer = tablet.ask(&invite).await;
    assert_eq!(answer.status(), Some(200));
    tablet.send(&RawMsrp::ack(&tablet, &invite, &answer).bytes()).await;
    let mut msrp = RawMsrp::connect(&answer).await;
    msrp.send_empty().await;
    let came = carried(&mut tablet, &mut msrp).await;
    assert!(matches!(came.as_slice(), [one] if one.contains("Content-Type: message/imdn+xml")), "{came:?}");
}

/// A client may lose what comes while it is busy with what came before.
#[test]
fn the_next_message_leaves_when_the_one_before_was_answered() {
    setting().settings("few = 0").tell(async |world| {
        let mut alice = world.tcp().await;
        let texts = ["one", "two", "three"];
        for text in texts {
            assert_eq!(alice.ask(&alice.request("MESSAGE", BOB).text(text)).await.status(), Some(202));
        }
        let mut bob = world.udp().await;
        register(&mut bob).await;
        let (invite, offer) = invited_after(&mut bob, None).await;
        accept(&mut bob, &invite, &connecting(WRAPPED)).await;
        let mut msrp = connected(&offer).await;
        for text in texts {
            let (requests, content) = msrp.next_message().await.expect("a message");
            assert!(content.ends_with(text.as_bytes()), "{}", String::from_utf8_lossy(&content));
            // What was sent at once with it would be here before the answer to this.
            for _ in 0..3 {
                msrp.nothing_but_an_answer().await;
            }
            msrp.accept_all(&requests).await;
        }
        assert_eq!(carried(&mut bob, &mut msrp).await, [""; 0]);
        world.until_settled().await;
    });
}
