//! Who is named to whom in what is passed on, and who may say where it goes.

use restante_sip::message::{Name, SipMessage};
use restante_tests::{Digest, RawSip, Request, Setting, World, story};

use crate::{BOB, answered, asked, call, device, scripted, told_in_time};

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
        let place = || scripted("incoming = \"relay:3000\"");
        told_in_time(place, async |world| {
            let mut phone = device(world, "1.0").await;
            let mut alice = world.udp().await;
            for request in [call(&alice), alice.request("MESSAGE", BOB).text("hello")] {
                let request = saying(request).with("Privacy", privacy);
                let method = request.line.split(' ').next().unwrap().to_owned();
                alice.send(&request.bytes()).await;
                let came = asked(&mut phone, &method).await;
                assert_eq!(said(&came), expected, "{method}, {privacy}");
                phone.respond(&came, 603).await;
                let status = alice.answer_to(&request).await.status();
                if status == Some(202) {
                    return false;
                }
                assert_eq!(status, Some(603));
            }
            true
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
            // Of this call, and not the end of the one before.
            let is_it = |it: &SipMessage| it.status() == Some(status) && it.call_id() == Some(invite.field("Call-ID"));
            let answer = alice.expect(&status.to_string(), is_it).await;
            assert_eq!(answer.count(Name::PAssertedIdentity), 0, "{status}");
            phone.respond(&came, 486).await;
        }
    });
}

#[test]
fn who_is_not_trusted_says_neither_who_it_is_nor_where_a_message_goes_beyond_a_contact() {
    let place = || scripted("incoming = \"relay:3000\"").demands_passwords();
    told_in_time(place, async |world| {
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
        let status = alice.answer_to(&sent).await.status();
        if status == Some(202) {
            return false;
        }
        assert_eq!(status, Some(200));
        // A trusted peer's goes on.
        let mut peer = world.udp().await;
        let message = peer.request("MESSAGE", BOB).text("hello");
        let message = message.with("Route", &format!("<sip:{};lr>", world.sip()));
        peer.send(&message.with("Route", &format!("<sip:{};lr>", elsewhere.local())).bytes()).await;
        let came = asked(&mut phone, "MESSAGE").await;
        assert_eq!(came.count(Name::Route), 1);
        phone.respond(&came, 200).await;
        true
    });
}

/// Registers a socket outside as Bob's device, with a password.
async fn register_as_bob(world: &World, socket: &mut RawSip, change: impl FnOnce(Request) -> Request) {
    world.give_password("bob").await;
    let contact = format!("<sip:bob@{};transport={}>", socket.local(), socket.transport().to_ascii_lowercase());
    let register = socket.request("REGISTER", "sip:example.org").set("From", &format!("<{BOB}>;tag=device"));
    let register = register.set("To", &format!("<{BOB}>")).with("Contact", &contact).with("Expires", "600");
    let register = change(register);
    let challenge = socket.ask(&register).await;
    let register = Digest::of(&challenge, "bob").authorize(&register, 1).new_transaction();
    assert_eq!(socket.ask(&register.set("CSeq", "2 REGISTER")).await.status(), Some(200));
}

#[test]
fn a_device_that_names_itself_as_its_proxy_is_told_no_more_than_any_device_and_believed_no_more() {
    let alone = || scripted("incoming = \"relay:3000\"").demands_passwords();
    let beside = || alone().beside_a_trusting_tenant();
    for (way, is_beside) in [("path", false), ("vias", false), ("path", true), ("vias", true)] {
        let place = || if is_beside { beside() } else { alone() };
        told_in_time(place, async |world| {
            let mut phone = if way == "path" { world.outside().await } else { world.outside_over_tcp().await };
            let itself = format!("<sip:{};lr>", phone.local());
            register_as_bob(world, &mut phone, |register| match way {
                "path" => register.with("Path", &itself).with("Supported", "path"),
                _ => register.with("Via", "SIP/2.0/UDP 192.0.2.77;branch=z9hG4bKmadeup"),
            })
            .await;
            let mut alice = world.udp().await;
            for request in [call(&alice), alice.request("MESSAGE", BOB).text("hello")] {
                let request = saying(request).with("Privacy", "id").with("P-Charging-Vector", "icid-value=\"1\"");
                let method = request.line.split(' ').next().unwrap().to_owned();
                alice.send(&request.bytes()).await;
                let came = asked(&mut phone, &method).await;
                assert_eq!(said(&came), [""; 0], "{way}: {method}");
                assert_eq!(came.count(Name::PChargingVector), 0, "{way}: {method}");
                let forged = ("P-Asserted-Identity", "<sip:police@example.org>");
                // What is behind a proxy may refuse what it does not know: a message waits then.
                let status = if method == "MESSAGE" { 200 } else { 603 };
                phone.respond_with(&came, status, &[forged]).await;
                let answer = alice.answer_to(&request).await;
                if answer.status() == Some(202) {
                    return false;
                }
                let said = (answer.status(), answer.count(Name::PAssertedIdentity));
                assert_eq!(said, (Some(status), 0), "{way}: {method}");
            }
            true
        });
    }
}

#[test]
fn an_answer_tells_a_caller_whom_nobody_trusts_nothing_that_stays_among_those_who_do() {
    let alone = || scripted("incoming = \"relay:3000\"").demands_passwords();
    for (privacy, told, place) in
        [("none", 1, alone()), ("id", 0, alone()), ("id", 0, alone().beside_a_trusting_tenant())]
    {
        behind_trusted_edge(place, async |world, mut edge| {
            let mut alice = world.outside().await;
            let invite = call(&alice);
            send_as_alice(world, &mut alice, &invite).await;
            let came = asked(&mut edge, "INVITE").await;
            let fields = [
                ("P-Asserted-Identity", "<sip:bob@example.org>"),
                ("Privacy", privacy),
                ("P-Charging-Vector", "icid-value=\"1\""),
                ("P-Charging-Function-Addresses", "ccf=192.0.2.1"),
            ];
            for status in [180, 486] {
                edge.respond_with(&came, status, &fields).await;
                let answer = answered(&mut alice, status).await;
                assert_eq!(answer.count(Name::PAssertedIdentity), told, "{status}, {privacy}");
                assert_eq!(answer.count(Name::PChargingVector), 0, "{status}");
                assert_eq!(answer.count(Name::PChargingFunctionAddresses), 0, "{status}");
            }
        });
    }
}

/// Bob is behind a proxy that the tenant trusts.
fn behind_trusted_edge(place: Setting, tale: impl AsyncFnOnce(&mut World, RawSip)) {
    place.tell(async |world| {
        let socket = world.udp().await;
        let register = socket.request("REGISTER", "sip:example.org").set("From", &format!("<{BOB}>;tag=edge"));
        let register = register.set("To", &format!("<{BOB}>")).with("Contact", "<sip:bob@192.0.2.7>");
        let register = register.with("Path", &format!("<sip:{};lr>", socket.local())).with("Supported", "path");
        let mut edge = socket;
        assert_eq!(edge.ask(&register.with("Expires", "600")).await.status(), Some(200));
        tale(world, edge).await;
    });
}

#[test]
fn who_is_reached_through_itself_as_a_proxy_refuses_no_message_for_good() {
    for way in ["path", "vias", "directly"] {
        let place = || scripted("incoming = \"relay:3000\"\nfailure = \"wait\"").demands_passwords();
        told_in_time(place, async |world| {
            let mut phone = if way == "path" { world.outside().await } else { world.outside_over_tcp().await };
            let itself = format!("<sip:{};lr>", phone.local());
            register_as_bob(world, &mut phone, |register| match way {
                "path" => register.with("Path", &itself).with("Supported", "path"),
                "vias" => register.with("Via", "SIP/2.0/UDP 192.0.2.77;branch=z9hG4bKmadeup"),
                _ => register,
            })
            .await;
            let mut alice = world.udp().await;
            let message = alice.request("MESSAGE", BOB).text("hello");
            alice.send(&message.bytes()).await;
            let came = asked(&mut phone, "MESSAGE").await;
            phone.respond(&came, 404).await;
            let is_device = way == "directly";
            let expected = if is_device { 404 } else { 202 };
            let status = alice.answer_to(&message).await.status();
            if is_device && status == Some(202) {
                return false;
            }
            assert_eq!(status, Some(expected), "{way}");
            world.until_waiting(usize::from(!is_device)).await;
            true
        });
    }
}
