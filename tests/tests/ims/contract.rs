//! What a policy sees of a core, and what it may say of it.

use restante_tests::{Digest, Setting, guest, http_request, in_time, setting};

use crate::scscf::{BOB, Scscf, TRIES};

fn scripted(settings: &str) -> Setting {
    setting().tenant(|tenant| tenant.policy = guest("scripted")).settings(settings)
}

/// The reason of a refusal.
fn reason(answer: &restante_sip::message::SipMessage) -> String {
    let line = answer.bytes().split(|byte| *byte == b'\r').next().unwrap_or_default().to_vec();
    String::from_utf8(line).expect("text").split_once("403 ").expect("a refusal").1.to_owned()
}

#[test]
fn a_policy_sees_service_registration_and_what_the_core_says_beside() {
    scripted("incoming = \"tell\"").tell(async |world| {
        let mut core = Scscf::new(world).await;
        let served = |state: &str| format!("<{BOB}>;sescase=term;regstate={state}");
        let service = |name: &str| format!("urn:urn-7:3gpp-service.ims.icsi.oma.cpm.{name}");
        let accepts = |name: &str| format!("*;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.{name}\"");
        let plain = core.invokes("MESSAGE", BOB).text("x");
        let named = core.serves("MESSAGE", BOB, &served("reg")).with("Accept-Contact", &accepts("msg")).text("x");
        let asserted = core
            .serves("MESSAGE", BOB, &served("unreg"))
            .with("Accept-Contact", &accepts("msg"))
            .with("P-Asserted-Service", &service("largemsg"))
            .with("P-Charging-Vector", "icid-value=i7;orig-ioi=a")
            .with("P-Called-Party-ID", "\"B\" <sip:b@h>")
            .with("User-Agent", "ua")
            .text("x");
        for (request, expected) in [
            (plain, "none unknown"),
            (named, "msg registered term"),
            (asserted, "largemsg unregistered ua term i7 sip:b@h"),
        ] {
            let answer = core.socket.ask(&request).await;
            assert_eq!(reason(&answer), expected);
        }
    });
}

#[test]
fn a_policy_believes_no_outsider() {
    scripted("incoming = \"tell\"").demands_passwords().tell(async |world| {
        world.give_password("eve").await;
        let mut eve = restante_tests::RawSip::udp(restante_tests::OUTSIDE, world.sip()).await;
        let request = eve.request("MESSAGE", BOB).set("From", "<sip:eve@example.org>;tag=e");
        let request = request.with("P-Served-User", &format!("<{BOB}>;sescase=term;regstate=reg"));
        let request = request.with("P-Asserted-Service", "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg");
        let request = request.with("P-Charging-Vector", "icid-value=i7").with("User-Agent", "ua").text("x");
        let challenge = eve.ask(&request).await;
        let request = Digest::of(&challenge, "eve").authorize(&request, 1).set("CSeq", "2 MESSAGE").new_transaction();
        assert_eq!(reason(&eve.ask(&request).await), "none unknown ua");
    });
}

#[test]
fn a_policy_sees_which_way_a_session_may_go() {
    for (direction, expected) in [("recvonly", "receive-only ua"), ("sendrecv", "send-and-receive ua")] {
        scripted("pull = \"tell\"").tell(async |world| {
            let mut core = Scscf::new(world).await;
            let request = core.invokes("MESSAGE", BOB).text("waits");
            assert_eq!(core.socket.ask(&request).await.status(), Some(202));
            let mut bob = world.udp().await;
            let offer = format!(
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
                 a=path:msrp://127.0.0.1:9/x;tcp\r\na=accept-types:*\r\na=setup:active\r\na={direction}\r\n"
            );
            let invite = bob.request("INVITE", "sip:deferred@example.org").set("From", &format!("<{BOB}>;tag=b"));
            let invite = invite.with("Contact", &format!("<sip:bob@{}>", bob.local())).with("User-Agent", "ua");
            let answer = bob.ask(&invite.body("application/sdp", offer)).await;
            assert_eq!(reason(&answer), expected);
        });
    }
}

#[test]
fn a_policy_may_name_the_contacts_that_a_message_is_passed_on_to() {
    scripted("incoming = \"relay-to-worst:3000\"").tell(async |world| {
        let mut sender = world.udp().await;
        let mut devices = Vec::new();
        for q in ["1.0", "0.1"] {
            let mut device = world.udp().await;
            let register = device.request("REGISTER", "sip:example.org").set("From", &format!("<{BOB}>;tag=d"));
            let contact = format!("<sip:bob@{}>;q={q}", device.local());
            let register = register.set("To", &format!("<{BOB}>")).with("Contact", &contact);
            assert_eq!(device.ask(&register).await.status(), Some(200));
            devices.push(device);
        }
        let mut kept = 0;
        loop {
            let request = sender.request("MESSAGE", BOB).text("for the tablet");
            sender.send(&request.bytes()).await;
            let worst = devices.last_mut().expect("two devices");
            let came = worst.expect("MESSAGE", |it| it.is_request()).await;
            worst.respond(&came, 200).await;
            let status = sender.answer_to(&request).await.status();
            if status == Some(200) {
                break;
            }
            kept += 1;
            assert!(status == Some(202) && kept < TRIES, "{status:?}");
            world.until_settled().await;
        }
        assert_eq!(devices[0].unread_by_now().await, [""; 0]);
        assert_eq!((world.queue().len(), world.metric("restante_messages_stored_total", &[])), (0, kept));
    });
}

#[test]
fn an_operators_system_may_say_who_is_registered_elsewhere() {
    scripted("available = \"page-if:reported\"").administered().tell(async |world| {
        let mut core = Scscf::new(world).await;
        let request = core.invokes("MESSAGE", BOB).text("waits");
        assert_eq!(core.socket.ask(&request).await.status(), Some(202));
        let socket = world.configuration().data.join("admin.sock");
        let tell = async |body: String| {
            let path = format!("/users/{BOB}/registration");
            http_request(&socket, "PUT", &path, Some(("application/json", &body))).await.status
        };
        for wrong in [
            "{}",
            "{\"expires_seconds\":60}",
            "{\"via\":\"x\",\"expires_seconds\":60}",
            "{\"via\":\"sip:h\",\"expires_seconds\":0}",
        ] {
            assert!((400..500).contains(&tell(wrong.to_owned()).await), "{wrong}");
        }
        let via = core.uri();
        assert_eq!(tell(format!("{{\"via\":\"{via}\",\"expires_seconds\":600}}")).await, 202);
        let delivery = core.asked("MESSAGE").await;
        assert_eq!(crate::scscf::routes(&delivery), [format!("<{via};lr>")]);
        core.socket.respond(&delivery, 200).await;
        world.until_settled().await;
        assert_eq!(tell(format!("{{\"via\":\"{via}\",\"expires_seconds\":600,\"contacts\":[]}}")).await, 202);
        let answer = async || world.administration(&format!("/users/{BOB}")).await.body;
        let looking = async {
            while !answer().await.contains("\"contacts\":[]") {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        in_time("nobody is there", looking).await;
    });
}
