//! Calls through Kamailio where every request goes to Restante, which keeps none of them.

use restante_sip::message::{Method, Name, SipMessage};
use restante_tests::raw_device::{BOB, acknowledged, answer_with, in_dialog, register};

use crate::behind::behind;
use crate::kamailio::{Configuration, IN_FRONT};

const AUDIO: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

fn is(method: Method) -> impl Fn(&SipMessage) -> bool {
    move |it| it.is_request() && it.method() == Some(method.clone())
}

#[test]
fn a_call_is_passed_on_to_who_is_there_and_nobody_who_is_not_is_called_later() {
    behind(Configuration::of(IN_FRONT), "", async |world| {
        let (mut alice, mut bob) = (world.udp().await, world.udp().await);
        let contact = format!("<sip:alice@{}>", alice.local());
        let call = alice.request("INVITE", BOB).with("Contact", &contact).body("application/sdp", AUDIO);
        assert_eq!(alice.ask(&call).await.status(), Some(480), "nobody is there");
        register(&mut bob).await;
        let call = alice.request("INVITE", BOB).with("Contact", &contact).body("application/sdp", AUDIO);
        alice.send(&call.bytes()).await;
        let came = bob.expect("the call", is(Method::Invite)).await;
        assert_eq!((came.call_id(), came.body()), (Some(call.field("Call-ID")), call.body.clone()));
        bob.respond(&came, 180).await;
        alice.expect("180", |it| it.status() == Some(180)).await;
        answer_with(&mut bob, &came, AUDIO, &[]).await;
        let taken = alice.answer_to(&call).await;
        assert_eq!((taken.status(), taken.to().expect("a To").tag()), (Some(200), Some("bob")));
        alice.send(&alice.in_dialog(&call, &taken, "ACK", 1).bytes()).await;
        acknowledged(&mut bob, &came).await;
        let again = alice.in_dialog(&call, &taken, "INVITE", 2).with("Contact", &contact);
        alice.send(&again.body("application/sdp", AUDIO).bytes()).await;
        let is_again = |it: &SipMessage| is(Method::Invite)(it) && it.cseq().is_ok_and(|cseq| cseq.number == 2);
        let came_again = bob.expect("a re-INVITE", is_again).await;
        assert_eq!(came_again.to().expect("a To").tag(), Some("bob"));
        answer_with(&mut bob, &came_again, AUDIO, &[]).await;
        let is_agreed = |it: &SipMessage| it.status() == Some(200) && it.cseq().is_ok_and(|cseq| cseq.number == 2);
        let agreed = alice.expect("200", is_agreed).await;
        alice.send(&alice.in_dialog(&call, &taken, "ACK", 2).bytes()).await;
        assert_eq!(agreed.list(Name::Via).count(), 1);
        let bye = in_dialog(&bob, &came, "BYE", 1);
        bob.send(&bye.bytes()).await;
        let came_bye = alice.expect("a BYE", is(Method::Bye)).await;
        alice.respond(&came_bye, 200).await;
        assert_eq!(bob.answer_to(&bye).await.status(), Some(200));
        assert_eq!((world.queue().await.len(), world.metric("restante_messages_stored_total", &[]).await), (0, 0));
    });
}
