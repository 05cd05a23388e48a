//! IMDN-Record-Route: what intermediaries wrote into a message, its report follows (RFC 5438 §7 and §8).

use bytes::Bytes;
use restante_cpim::cpim::CpimMessage;
use restante_cpim::imdn::{Disposition, Imdn};
use restante_sip::message::Method;
use restante_tests::{Digest, RawSip, Request, setting, until_equal};

const BOB: &str = "sip:bob@example.org";
const HOPS: [&str; 2] = ["<sip:first@hop.example.net>", "<sip:second@hop.example.com>"];

/// A message that both hops wrote themselves into.
fn message(socket: &RawSip, message_id: &str) -> Request {
    let cpim = format!(
        "From: Alice <sip:alice@example.org>\r\nTo: Bob <{BOB}>\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
         imdn.Message-ID: {message_id}\r\nDateTime: 2006-04-04T12:16:49-05:00\r\n\
         imdn.Disposition-Notification: positive-delivery, negative-delivery\r\nimdn.IMDN-Record-Route: {}\r\n\
         imdn.IMDN-Record-Route: {}\r\n\r\nContent-type: text/plain\r\nContent-length: 12\r\n\r\nHello World\r\n",
        HOPS[0], HOPS[1]
    );
    socket.request("MESSAGE", BOB).body("message/cpim", cpim.into_bytes())
}

#[test]
fn what_a_client_records_is_no_way_for_its_report() {
    setting().demands_passwords().tell(async |world| {
        world.give_password("alice").await;
        let (mut core, mut alice) = (world.udp().await, world.outside().await);
        assert_eq!(core.ask(&message(&core, "a")).await.status(), Some(202));
        let theirs = message(&alice, "b");
        let challenge = alice.ask(&theirs).await;
        let theirs = Digest::of(&challenge, "alice").authorize(&theirs, 1).set("CSeq", "2 MESSAGE");
        assert_eq!(alice.ask(&theirs.set("Call-ID", "theirs")).await.status(), Some(202));
        let queue = world.queue();
        let recorded = queue.iter().map(|it| it.message.envelope.imdn.as_ref().map_or(0, |it| it.record_route.len()));
        assert_eq!(recorded.collect::<Vec<_>>(), [2, 0]);
    });
}

#[test]
fn the_report_of_a_message_that_expires_goes_to_the_first_hop_that_it_recorded() {
    setting().tell(async |world| {
        let mut core = world.udp().await;
        let place = core.local();
        world.restart_with(|it| it.sip.outbound = Some(format!("udp:{place}").parse().expect("a next hop"))).await;
        // Alice is there, and yet it goes to those who wrote themselves into her message.
        let register = core.request("REGISTER", "sip:example.org").set("To", "<sip:alice@example.org>");
        let register = register.with("Contact", &format!("<sip:alice@{place}>"));
        assert_eq!(core.ask(&register).await.status(), Some(200));
        for number in 1.. {
            let message = message(&core, "34jk324j").with("Expires", "1");
            let status = core.ask(&message).await.status();
            if status == Some(202) {
                break;
            }
            // Its time was over before it was decided on: a machine stood still.
            assert!(status == Some(480) && number < 5, "{status:?}");
        }
        let report = core.expect("the report", |it| it.method() == Some(Method::Message) && it.is_request()).await;
        core.respond(&report, 200).await;
        assert_eq!(report.request_uri(), Some("sip:first@hop.example.net"));
        let wrapped = CpimMessage::parse(Bytes::copy_from_slice(&report.body())).expect("CPIM");
        let routes: Vec<&str> =
            wrapped.headers().iter().filter(|it| it.name == "IMDN-Route").map(|it| it.value.as_str()).collect();
        assert_eq!(routes, HOPS, "{wrapped:?}");
        assert_eq!(wrapped.to().map(restante_cpim::cpim::address_uri), Some("sip:alice@example.org"));
        let notification = Imdn::parse(&wrapped.content()).expect("a notification");
        assert_eq!(
            (notification.message_id.as_str(), notification.disposition),
            ("34jk324j", Disposition::DeliveryFailed)
        );
        assert_eq!(notification.date_time, "2006-04-04T12:16:49-05:00");
        until_equal("what waits", 0, || world.queue().len()).await;
    });
}
