//! How it ends, and what it says while it runs.

use std::sync::Arc;

use restante_client::{Client, ClientConfiguration, PageMessage};
use restante_sip::message::Method;
use restante_tests::{Person, Program, Recorder, guest, setting, until_equal};

#[tokio::test]
async fn it_ends_well_when_it_is_asked_to() {
    let program = Program::new("");
    let mut served = program.serve().await;
    assert!(program.data().join("admin.sock").exists());
    served.terminate();
    served.line_with("stopping").await;
    served.line_with("stopped").await;
    assert_eq!(served.ended().await.code(), Some(0));
    assert!(!program.data().join("admin.sock").exists());
    // And again, on what it left.
    let mut served = program.serve().await;
    served.terminate();
    assert_eq!(served.ended().await.code(), Some(0));
}

#[test]
fn what_is_in_flight_is_finished_before_it_ends() {
    setting().held().configure(|it| it.limits.max_drain_seconds = 60).tell(async |world| {
        let mut alice = world.udp().await;
        world.held().hold();
        let message = alice.request("MESSAGE", "sip:bob@example.org").text("in flight");
        alice.send(&message.bytes()).await;
        let held = world.held_store();
        until_equal("orders that are held back", 1, || held.waiting()).await;
        let mut carol = world.udp().await;
        let release = async {
            // What comes while it stops is told to come again, and elsewhere.
            loop {
                let options = carol.request("OPTIONS", "sip:bob@example.org");
                if carol.ask(&options).await.status() == Some(503) {
                    break;
                }
            }
            let late = carol.request("MESSAGE", "sip:bob@example.org").text("too late");
            let answer = carol.ask(&late).await;
            assert_eq!((answer.status(), answer.header_by_text("Retry-After").is_some()), (Some(503), true));
            held.release();
            alice.answer_to(&message).await.status()
        };
        let ((), status) = tokio::join!(world.stop_server(), release);
        assert_eq!(status, Some(202));
        drop(held);
        world.restart().await;
        assert_eq!(world.queue().len(), 1);
    });
}

#[test]
fn what_was_passed_on_and_nobody_answers_is_kept_before_it_ends() {
    let place = setting().tenant(|tenant| tenant.policy = guest("scripted")).settings("incoming = \"relay:500\"");
    place.configure(|it| it.limits.max_drain_seconds = 60).tell(async |world| {
        let mut phone = world.udp().await;
        let register = phone.request("REGISTER", "sip:example.org").set("From", "<sip:bob@example.org>;tag=device");
        let register =
            register.set("To", "<sip:bob@example.org>").set("Contact", &format!("<sip:bob@{}>", phone.local()));
        assert_eq!(phone.ask(&register.set("Expires", "600")).await.status(), Some(200));
        let mut alice = world.udp().await;
        let message = alice.request("MESSAGE", "sip:bob@example.org").text("for a silent device");
        alice.send(&message.bytes()).await;
        let came = phone.expect("the message", |it| it.method() == Some(Method::Message)).await;
        let answered = async {
            let status = alice.answer_to(&message).await.status();
            phone.respond(&came, 480).await;
            status
        };
        let ((), status) = tokio::join!(world.stop_server(), answered);
        assert_eq!(status, Some(202));
        world.restart().await;
        assert_eq!(world.queue().len(), 1);
    });
}

#[tokio::test]
async fn the_log_tells_no_secrets() {
    for format in ["human", "json"] {
        let program = Program::patient(&format!("[log]\nformat = {format:?}\n"));
        let mut served = program.serve().await;
        let person = async |name: &str| {
            let wire = Arc::<Recorder>::default();
            let configuration = ClientConfiguration::new(&format!("sip:{name}@example.org"), program.sip());
            let (client, events) = Client::start(configuration).await.expect("sockets");
            Person::new(client, events, wire)
        };
        let (alice, mut bob) = (person("alice-the-sender").await, person("bob-the-recipient").await);
        bob.register().await;
        let secret =
            PageMessage { subject: Some("unmentionable".into()), ..PageMessage::text(bob.address(), "unspeakable") };
        alice.send_message(secret).await;
        assert_eq!(bob.texts(1).await, ["unspeakable"]);
        served.terminate();
        served.line_with("stopped").await;
        let log = served.log().join("\n");
        assert!(log.contains("registered"), "{log}");
        for word in ["alice-the-sender", "bob-the-recipient", "unspeakable", "unmentionable"] {
            assert!(!log.contains(word), "{word} is in the log: {log}");
        }
        if format == "json" {
            for line in served.log() {
                serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            }
        }
    }
}
