//! Whom a core says that it serves.

use restante_client::PageMessage;
use restante_sip::message::{Method, Name};
use restante_tests::{Setting, guest, setting, story};

use crate::scscf::{BOB, Scscf, TRIES, is, routes};

const AUDIO: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

pub fn relaying() -> Setting {
    setting().tenant(|tenant| tenant.policy = guest("scripted")).settings("incoming = \"relay:3000\"")
}

#[test]
fn a_message_is_for_the_served_user_where_the_core_names_one_and_else_for_the_request_uri() {
    story(async |world| {
        let mut core = Scscf::new(world).await;
        for served in [
            "<sip:bob@example.org>;sescase=term;regstate=unreg",
            "<sip:bob@example.org>;sescase=term;regstate=reg",
            "<sip:bob@example.org>",
        ] {
            let request = core.serves("MESSAGE", "sip:tgruu.7hs@example.org;gr", served).text(served);
            assert_eq!(core.socket.ask(&request).await.status(), Some(202), "{served}");
        }
        let request = core.invokes("MESSAGE", BOB).text("without");
        assert_eq!(core.socket.ask(&request).await.status(), Some(202));
        let nonsense = core.serves("MESSAGE", BOB, "<nobody;sescase=orig").text("unreadable");
        assert_eq!(core.socket.ask(&nonsense).await.status(), Some(202));
        let whose: Vec<String> = world.queue().iter().map(|it| it.message.recipient.address.to_string()).collect();
        assert_eq!(whose, [BOB; 5]);
        let elsewhere = core.serves("MESSAGE", BOB, "<sip:carol@elsewhere.example>;sescase=term").text("x");
        assert_eq!(core.socket.ask(&elsewhere).await.status(), Some(404));
    });
}

#[test]
fn what_an_outsider_says_of_the_served_user_and_of_charging_counts_for_nothing_and_goes_nowhere() {
    relaying().demands_passwords().tell(async |world| {
        let (eve, mut bob) = (world.outsider("eve").await, world.person("bob").await);
        bob.register().await;
        let fields = [
            ("P-Served-User", "<sip:carol@example.org>;sescase=orig"),
            ("P-Charging-Vector", "icid-value=\"forged\""),
            ("P-Charging-Function-Addresses", "ccf=192.0.2.1"),
            ("P-Called-Party-ID", "<sip:carol@example.org>"),
        ];
        // One at a time: a larger request would go over TCP, from another address.
        let said = |index: usize| {
            let (name, value): (&str, &str) = fields[index];
            let fields = vec![(name.to_owned(), value.to_owned())];
            PageMessage { fields, ..PageMessage::text(BOB, name) }
        };
        for (index, (name, _)) in fields.iter().enumerate() {
            for number in 1.. {
                let status = eve.try_send(said(index)).await.answer.status;
                assert_eq!(bob.received().await.sip_field(name), None, "{name}");
                if status == 200 {
                    break;
                }
                assert!(status == 202 && number < TRIES, "{name}: {status}");
                world.until_settled().await;
            }
        }
        bob.unregister().await;
        for (index, (name, _)) in fields.iter().enumerate() {
            eve.send_message(said(index)).await;
            let kept = world.queue().pop().expect("a message").message;
            assert_eq!(&*kept.recipient.address.0, BOB, "{name}");
            assert!(!kept.envelope.headers.iter().any(|(kept, _)| kept == name), "{name}");
        }
    });
}

#[test]
fn what_a_user_sends_is_passed_on_along_the_route_and_never_deferred() {
    story(async |world| {
        let mut core = Scscf::new(world).await;
        let served = |case: &str| format!("<sip:alice@example.org>;{case};regstate=reg");
        let marked = core.invokes("MESSAGE", BOB).without("Route");
        let marked = marked.with("Route", &format!("<sip:{};lr;orig>", world.sip())).with("Route", &core.mark());
        for request in [
            core.serves("MESSAGE", BOB, &served("sescase=orig")).text("one"),
            core.serves("MESSAGE", BOB, &served("orig-cdiv")).text("two"),
            core.serves("INVITE", BOB, &served("sescase=orig"))
                .with("Contact", "<sip:a@h>")
                .body("application/sdp", AUDIO),
            marked.text("three"),
        ] {
            core.socket.send(&request.bytes()).await;
            let method = request.line.split(' ').next().unwrap().to_owned();
            let back = core.asked(&method).await;
            assert_eq!(routes(&back), [core.mark()], "{method}");
            assert_eq!(back.request_uri(), Some(BOB));
            let said = request.fields.iter().find(|(name, _)| name == "P-Served-User").map(|(_, value)| value.as_str());
            assert_eq!(back.header_by_text("P-Served-User"), said);
            core.socket.respond(&back, 404).await;
            let answer = core.socket.answer_to(&request).await;
            assert_eq!(answer.status(), Some(404), "the answer of whoever it is for");
            if method == "INVITE" {
                core.acknowledges(&request, &answer).await;
            }
        }
        assert_eq!(world.queue().len(), 0);
    });
}

/// A core whose filters match on both sides invokes the server twice for one request: for who sends it and for who gets it.
#[test]
fn what_passes_for_its_sender_comes_again_for_its_recipient_before_it_is_answered() {
    story(async |world| {
        let mut core = Scscf::new(world).await;
        for method in ["MESSAGE", "INVITE"] {
            let sent = core.serves(method, BOB, "<sip:alice@example.org>;sescase=orig;regstate=reg");
            let sent = sent.with("Contact", "<sip:a@h>").body("application/sdp", AUDIO);
            core.socket.send(&sent.bytes()).await;
            let back = core.asked(method).await;
            // The core goes on with it, and the other side's filters bring it here once more.
            let vias = back.list(Name::Via).skip(1).map(str::to_owned).collect::<Vec<_>>();
            let again = core.serves(method, BOB, "<sip:bob@example.org>;sescase=term;regstate=unreg");
            let again = again.set("From", sent.field("From")).set("Call-ID", sent.field("Call-ID"));
            let again = vias.iter().fold(again, |it, via| it.with("Via", via));
            let again = again.with("Contact", "<sip:a@h>").body("application/sdp", AUDIO);
            core.socket.send(&again.bytes()).await;
            if method == "INVITE" {
                // A call is not for keeping, and goes on for its recipient, too.
                let on = core.asked(method).await;
                assert_eq!(on.list(Name::Via).count(), vias.len() + 2, "{:?}", on.bytes());
                core.socket.respond(&on, 480).await;
            }
            let expected = if method == "MESSAGE" { 202 } else { 480 };
            let answer = core.socket.answer_to(&again).await;
            assert_eq!(answer.status(), Some(expected), "{method}");
            core.socket.respond(&back, expected).await;
            assert_eq!(core.socket.answer_to(&sent).await.status(), Some(expected), "{method}");
        }
        assert_eq!(world.queue().len(), 1);
    });
}

#[test]
fn along_a_route_whose_name_nobody_knows_yet_it_goes_back_to_the_core() {
    story(async |world| {
        let mut core = Scscf::new(world).await;
        let mark = "<sip:iscmark@scscf.ims.invalid;lr>";
        let request = core.serves("MESSAGE", BOB, "<sip:alice@example.org>;sescase=orig").without("Route");
        let request = request.with("Route", &format!("<sip:{};lr>", core.server())).with("Route", mark).text("hello");
        core.socket.send(&request.bytes()).await;
        let back = core.asked("MESSAGE").await;
        assert_eq!(routes(&back), [mark]);
        core.socket.respond(&back, 404).await;
        assert_eq!(core.socket.answer_to(&request).await.status(), Some(404));
    });
}

#[test]
fn a_mark_in_a_route_of_somebody_else_says_nothing_about_the_side() {
    story(async |world| {
        let mut core = Scscf::new(world).await;
        let elsewhere = format!("<sip:{};lr;orig>", core.socket.local());
        for own in [Some(format!("<sip:{};lr>", core.server())), None] {
            let request = core.invokes("MESSAGE", BOB).without("Route");
            let request = own.iter().fold(request, |request, own| request.with("Route", own)).with("Route", &elsewhere);
            assert_eq!(core.socket.ask(&request.text("kept")).await.status(), Some(202), "{own:?}");
        }
        assert_eq!(world.queue().len(), 2);
    });
}

#[test]
fn a_call_is_found_by_its_cancel_whoever_its_request_uri_names() {
    story(async |world| {
        let (mut core, mut phone) = (Scscf::new(world).await, world.udp().await);
        let register = phone.request("REGISTER", "sip:example.org").set("From", &format!("<{BOB}>;tag=p"));
        let register = register.set("To", &format!("<{BOB}>")).with("Contact", &format!("<sip:bob@{}>", phone.local()));
        assert_eq!(phone.ask(&register).await.status(), Some(200));
        // Some of these names belong to other shards.
        for number in 0..6 {
            let uri = format!("sip:tgruu.{number}@example.org;gr");
            let invite = core.serves("INVITE", &uri, &format!("<{BOB}>;sescase=term;regstate=reg"));
            let mark = core.mark();
            let invite =
                invite.without("Route").with("Contact", "<sip:alice@192.0.2.1>").body("application/sdp", AUDIO);
            core.socket.send(&invite.bytes()).await;
            let came = phone.expect("INVITE", |it| is(it, Method::Invite)).await;
            assert_eq!(came.header_by_text("P-Served-User"), None, "nothing of that to a device");
            assert!(!routes(&came).contains(&mark));
            phone.respond(&came, 180).await;
            let line = invite.line.replacen("INVITE", "CANCEL", 1);
            let cancel = restante_tests::Request { line, body: Default::default(), ..invite.clone() };
            let cancel = cancel.without("P-Served-User").without("Content-Type").set("CSeq", "1 CANCEL");
            assert_eq!(core.socket.ask(&cancel).await.status(), Some(200), "{uri}");
            let given_up = phone.expect("CANCEL", |it| is(it, Method::Cancel)).await;
            phone.respond(&given_up, 200).await;
            phone.respond(&came, 487).await;
            let answer = core.socket.answer_to(&invite).await;
            assert_eq!(answer.status(), Some(487));
            core.acknowledges(&invite, &answer).await;
            phone.expect("ACK", |it| is(it, Method::Ack)).await;
        }
    });
}
