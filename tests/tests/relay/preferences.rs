//! Which devices get what is passed on, as its caller wants it (RFC 3841).

use restante_tests::{RawSip, World, story, until_equal};

use crate::{BOB, answered, asked, call, refused, registered, scripted};

/// A device of Bob's that registered this of itself.
async fn device_that(world: &World, features: &str) -> RawSip {
    let socket = world.udp().await;
    let contact = format!("<sip:bob@{}>{features}", socket.local());
    registered(socket, &contact).await
}

/// The next request with this method, refused.
async fn refuse(socket: &mut RawSip, method: &str, status: u16) {
    let request = asked(socket, method).await;
    socket.respond(&request, status).await;
    if method == "INVITE" {
        asked(socket, "ACK").await;
    }
}

#[test]
fn a_call_goes_to_devices_that_suit_it() {
    story(async |world| {
        let mut phone = device_that(world, ";audio;mobility=\"mobile\"").await;
        let mut desk = device_that(world, ";audio;video;mobility=\"fixed\"").await;
        // Nothing is known of it, so that nothing speaks against it.
        let mut plain = device_that(world, "").await;
        let mut alice = world.udp().await;
        let rows: [(&str, &str, [bool; 3]); 4] = [
            ("Accept-Contact", "*;video;require;explicit", [false, true, true]),
            ("Accept-Contact", "*;mobility=\"mobile\";require", [true, false, true]),
            ("Reject-Contact", "*;video", [true, false, true]),
            ("Accept-Contact", "*;video;explicit", [true, true, true]),
        ];
        for (name, value, rings) in rows {
            let invite = call(&alice).with(name, value);
            alice.send(&invite.bytes()).await;
            for (device, _) in [&mut phone, &mut desk, &mut plain].into_iter().zip(rings).filter(|(_, rings)| *rings) {
                refuse(device, "INVITE", 486).await;
            }
            assert_eq!(refused(&mut alice, &invite).await.status(), Some(486), "{value}");
            for device in [&mut phone, &mut desk, &mut plain] {
                assert_eq!(device.unread_by_now().await, [""; 0], "{value}");
            }
        }
    });
}

#[test]
fn where_no_device_suits_a_call_nobody_is_there_and_a_message_is_kept() {
    scripted("incoming = \"relay:3000\"\nfailure = \"wait\"").tell(async |world| {
        let mut phone = device_that(world, ";audio").await;
        let mut alice = world.udp().await;
        let invite = call(&alice).with("Accept-Contact", "*;video;require;explicit");
        alice.send(&invite.bytes()).await;
        assert_eq!(refused(&mut alice, &invite).await.status(), Some(480));
        let message = alice.request("MESSAGE", BOB).with("Accept-Contact", "*;video;require;explicit");
        assert_eq!(alice.ask(&message.text("hello")).await.status(), Some(202));
        until_equal("kept", 1, || world.queue().len()).await;
        assert_eq!(phone.unread_by_now().await, [""; 0]);
    });
}

#[test]
fn a_caller_says_whether_devices_ring_together_one_after_the_other_or_one_alone() {
    story(async |world| {
        let mut first = device_that(world, ";audio;video").await;
        let mut second = device_that(world, ";audio").await;
        let mut alice = world.udp().await;
        let wish = |invite: restante_tests::Request| invite.with("Accept-Contact", "*;video;explicit");
        // The one that suits better begins, and the other one is not asked before it answered.
        let invite = wish(call(&alice)).with("Request-Disposition", "sequential");
        alice.send(&invite.bytes()).await;
        answered(&mut alice, 100).await;
        let request = asked(&mut first, "INVITE").await;
        assert_eq!(second.unread_by_now().await, [""; 0]);
        first.respond(&request, 486).await;
        asked(&mut first, "ACK").await;
        refuse(&mut second, "INVITE", 486).await;
        assert_eq!(refused(&mut alice, &invite).await.status(), Some(486));
        let invite = wish(call(&alice)).with("Request-Disposition", "no-fork");
        alice.send(&invite.bytes()).await;
        refuse(&mut first, "INVITE", 486).await;
        assert_eq!(refused(&mut alice, &invite).await.status(), Some(486));
        assert_eq!(second.unread_by_now().await, [""; 0]);
    });
}
