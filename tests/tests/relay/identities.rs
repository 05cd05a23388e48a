//! Who is named to whom in what is passed on, and who may say where it goes.

use restante_sip::message::{Name, SipMessage};
use restante_tests::{Digest, RawSip, Request, World, story};

use crate::{BOB, answered, asked, call, device, scripted};

/// What says something of identities and services.
const SAYING: [(&str, &str); 5] = [
    ("P-Asserted-Identity", "<sip:alice@example.org>"),
    ("P-Preferred-Identity", "<sip:alice@example.org>"),
    ("P-Asserted-Service", "urn:urn-7:3gpp-service.ims.icsi.mmtel"),
    ("P-Preferred-Service", "urn:urn-7:3gpp-service.ims.icsi.mmtel"),
    ("Referred-By", "<sip:alice@example.org>"),
];

fn saying(request: Request) -> Request {
    SAYING.iter().fold(request, |it, (name, value)| it.with(name, value))
}

/// Which of them a request says.
fn said(message: &SipMessage) -> Vec<&'static str> {
    SAYING.iter().map(|(name, _)| *name).filter(|name| message.header_by_text(name).is_some()).collect()
}

/// Sends a request with what answers its challenge.
async fn send_as_alice(world: &World, socket: &mut RawSip, request: &Request) -> Request {
    world.give_password("alice").await;
    let challenge = socket.ask(request).await;
    assert_eq!(challenge.status(), Some(401), "{:?}", challenge.bytes());
    let cseq = request.field("CSeq").replacen('1', "2", 1);
    let request = Digest::of(&challenge, "alice").authorize(request, 1).set("CSeq", &cseq);
    socket.send(&request.bytes()).await;
    request
}

#[test]
fn a_device_learns_what_a_trusted_peer_asserts_unless_privacy_is_asked_for_and_never_what_is_preferred() {
    for (privacy, expected) in [("none", &["P-Asserted-Identity", "Referred-By"][..]), ("id", &[]), ("header; id", &[])]
    {
        scripted("incoming = \"relay:3000\"").tell(async |world| {
            let mut phone = device(world, "1.0").await;
            let mut alice = world.udp().await;
            for request in [call(&alice), alice.request("MESSAGE", BOB).text("hello")] {
                let request = saying(request).with("Privacy", privacy);
                let method = request.line.split(' ').next().unwrap().to_owned();
                alice.send(&request.bytes()).await;
                let came = asked(&mut phone, &method).await;
                assert_eq!(said(&came), expected, "{method}, {privacy}");
                phone.respond(&came, 603).await;
                assert_eq!(alice.answer_to(&request).await.status(), Some(603));
            }
        });
    }
}

#[test]
fn a_devices_word_about_itself_does_not_go_back() {
    story(async |world| {
        let mut phone = device(world, "1.0").await;
        let mut alice = world.udp().await;
        for status in [180, 486] {
            let invite = call(&alice);
            alice.send(&invite.bytes()).await;
            let came = asked(&mut phone, "INVITE").await;
            phone.respond_with(&came, status, &[("P-Asserted-Identity", "<sip:police@example.org>")]).await;
            let answer = answered(&mut alice, status).await;
            assert_eq!(answer.count(Name::PAssertedIdentity), 0, "{status}");
            phone.respond(&came, 486).await;
        }
    });
}

#[test]
fn who_is_not_trusted_says_neither_who_it_is_nor_where_a_message_goes_beyond_a_contact() {
    scripted("incoming = \"relay:3000\"").demands_passwords().tell(async |world| {
        let mut phone = device(world, "1.0").await;
        let mut alice = world.outside().await;
        let elsewhere = world.udp().await;
        let message = saying(alice.request("MESSAGE", BOB).text("hello"));
        let message = message
            .with("Route", &format!("<sip:{};lr>", world.sip()))
            .with("Route", &format!("<sip:{};lr>", elsewhere.local()));
        let sent = send_as_alice(world, &mut alice, &message).await;
        let came = asked(&mut phone, "MESSAGE").await;
        assert_eq!((came.count(Name::Route), came.count(Name::Authorization)), (0, 0), "{:?}", came.bytes());
        assert_eq!(said(&came), ["Referred-By"]);
        phone.respond(&came, 200).await;
        assert_eq!(alice.answer_to(&sent).await.status(), Some(200));
        // A trusted peer's goes on.
        let mut peer = world.udp().await;
        let message = peer.request("MESSAGE", BOB).text("hello");
        let message = message.with("Route", &format!("<sip:{};lr>", world.sip()));
        peer.send(&message.with("Route", &format!("<sip:{};lr>", elsewhere.local())).bytes()).await;
        let came = asked(&mut phone, "MESSAGE").await;
        assert_eq!(came.count(Name::Route), 1);
        phone.respond(&came, 200).await;
    });
}
