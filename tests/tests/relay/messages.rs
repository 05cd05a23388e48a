//! MESSAGEs that are passed on to several devices.

use restante_sip::message::{Method, Name};
use restante_tests::until_equal;

use crate::{BOB, asked, device, is, scripted, told_in_time};

#[test]
fn every_device_is_asked_and_the_first_that_has_it_is_enough() {
    let place = || scripted("incoming = \"relay:3000\"");
    told_in_time(place, async |world| {
        let (mut phone, mut tablet) = (device(world, "1.0").await, device(world, "1.0").await);
        let mut alice = world.udp().await;
        let message = alice.request("MESSAGE", BOB).text("hello");
        alice.send(&message.bytes()).await;
        let (to_phone, to_tablet) = (asked(&mut phone, "MESSAGE").await, asked(&mut tablet, "MESSAGE").await);
        assert_eq!(to_phone.body(), to_tablet.body());
        assert_eq!(to_phone.header_by_text("Max-Breadth"), Some("30"));
        phone.respond(&to_phone, 603).await;
        tablet.respond(&to_tablet, 200).await;
        let status = alice.answer_to(&message).await.status();
        if status == Some(202) {
            return false;
        }
        assert_eq!(status, Some(200));
        assert_eq!(world.metric("restante_messages_stored_total", &[]), 0);
        true
    });
}

#[test]
fn a_refusal_for_good_counts_when_all_give_one() {
    for (answers, expected) in [([404, 603], 603), ([404, 480], 202), ([603, 486], 202), ([403, 404], 403)] {
        let place = || scripted("incoming = \"relay:3000\"\nfailure = \"wait\"");
        told_in_time(place, async |world| {
            let (mut phone, mut tablet) = (device(world, "1.0").await, device(world, "1.0").await);
            let mut alice = world.udp().await;
            let message = alice.request("MESSAGE", BOB).text("hello");
            alice.send(&message.bytes()).await;
            for (device, status) in [(&mut phone, answers[0]), (&mut tablet, answers[1])] {
                let request = asked(device, "MESSAGE").await;
                device.respond(&request, status).await;
            }
            let status = alice.answer_to(&message).await.status();
            if status == Some(202) && expected != 202 {
                return false;
            }
            assert_eq!(status, Some(expected), "{answers:?}");
            until_equal("kept", usize::from(expected == 202), || world.queue().len()).await;
            true
        });
    }
}

#[test]
fn who_declines_for_everybody_does_not_decline_for_a_device_that_was_not_asked() {
    scripted("incoming = \"relay:3000\"\nfailure = \"wait\"").tell(async |world| {
        let (mut phone, mut tablet) = (device(world, "0.8").await, device(world, "0.3").await);
        let mut alice = world.udp().await;
        let message = alice.request("MESSAGE", BOB).text("hello");
        alice.send(&message.bytes()).await;
        let request = asked(&mut phone, "MESSAGE").await;
        phone.respond(&request, 603).await;
        assert_eq!(alice.answer_to(&message).await.status(), Some(202), "it is kept");
        until_equal("kept", 1, || world.queue().len()).await;
        assert_eq!(tablet.unread_by_now().await, [""; 0]);
    });
}

#[test]
fn a_device_of_less_q_has_its_turn_when_the_other_refused() {
    let place = || scripted("incoming = \"relay:3000\"");
    told_in_time(place, async |world| {
        let (mut phone, mut tablet) = (device(world, "0.8").await, device(world, "0.3").await);
        let mut alice = world.udp().await;
        let message = alice.request("MESSAGE", BOB).text("hello");
        alice.send(&message.bytes()).await;
        let request = asked(&mut phone, "MESSAGE").await;
        phone.respond(&request, 486).await;
        let request = tablet.expect("MESSAGE", is(Method::Message)).await;
        assert_eq!(request.list(Name::Via).count(), 2);
        tablet.respond(&request, 200).await;
        let status = alice.answer_to(&message).await.status();
        assert!(matches!(status, Some(200 | 202)), "{status:?}");
        status == Some(200)
    });
}
