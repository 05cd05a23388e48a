//! JsSIP in Chromium: SIP over WebSocket, from a page.

use std::path::{Path, PathBuf};

use restante::configuration::{DigestAlgorithm, ListenAddress, Tenant};
use restante_client::{LargeMessage, Source};
use restante_sip::authentication::Algorithm;
use restante_sip::message::Method;
use restante_sip::writer::Builder;
use restante_tests::{RawSip, World, free_tcp_port, pattern, setting, until_equal};
use restante_transport::Protocol;

use crate::foreign::{Foreign, command, skipped, unpacked};

/// Where `tests/clients/browser.sh` put everything; none, loudly, where it could not.
fn browser() -> Option<PathBuf> {
    let place = unpacked("browser");
    if place.is_none() {
        skipped("see tests/clients/browser.sh");
    }
    place
}

fn start(place: &Path, world: &World, directory: &Path, further: &str) -> Foreign {
    let root = place.join("root");
    let mut command = command(&root, root.join("usr/lib/chromium/chromium"));
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]);
    // The console goes to standard error.
    command.args(["--enable-logging=stderr", "--remote-debugging-port=0"]);
    command.arg(format!("--user-data-dir={}", directory.display())).env("HOME", directory);
    command.arg(format!(
        "file://{}#server=ws://{}&uri=sip:dave@example.org&password=evad{further}",
        place.join("page/page.html").display(),
        world.listener(Protocol::Ws)
    ));
    Foreign::start(command)
}

#[test]
fn a_page_shows_what_waited_for_its_user_and_answers() {
    let Some(place) = browser() else { return };
    // JsSIP knows MD5 alone.
    let md5 = |tenant: &mut Tenant| {
        tenant.trust = vec!["127.0.0.3".parse().expect("an address")];
        tenant.digest.algorithms = vec![DigestAlgorithm(Algorithm::Md5.into())];
    };
    setting().web().demands_passwords().tenant(md5).settings("few = 100").tell(async |world| {
        world.give_password("dave").await;
        let trusted = "127.0.0.3".parse().expect("an address");
        let mut alice = RawSip::udp(trusted, world.sip()).await;
        let plain = alice.request("MESSAGE", "sip:dave@example.org").text("plain");
        assert_eq!(alice.ask(&plain).await.status(), Some(202));
        let directory = tempfile::tempdir().expect("a directory");
        let mut page = start(&place, world, directory.path(), "");
        page.line_with("registered").await;
        page.line_with("message from sip:alice@example.org: plain").await;
        // Alice is away: the answer waits for her.
        until_equal("an answer waits", 1, || world.queue().len()).await;
        let register = alice
            .request("REGISTER", "sip:example.org")
            .set("To", "<sip:alice@example.org>")
            .with("Contact", &format!("<sip:alice@{}>;expires=600", alice.local()));
        assert_eq!(alice.ask(&register).await.status(), Some(200));
        let answer = alice.expect("the answer", |message| message.status().is_none()).await;
        assert_eq!(answer.body(), "answer to plain");
        alice.respond(&answer, 200).await;
        world.until_settled().await;
    });
}

#[test]
fn a_page_receives_a_deferred_large_message_over_a_web_socket() {
    let Some(place) = browser() else { return };
    let md5 = |tenant: &mut Tenant| tenant.digest.algorithms = vec![DigestAlgorithm(Algorithm::Md5.into())];
    let few = "few = 0\nretry_seconds = [3600]";
    setting().web().demands_passwords().tenant(md5).settings(few).tell(async |world| {
        let socket = free_tcp_port();
        world.restart_with(|it| it.msrp.web_socket_listen = vec![ListenAddress { protocol: Protocol::Ws, socket }]).await;
        world.give_password("dave").await;
        let alice = world.person("alice").await;
        let dave = "sip:dave@example.org";
        let message = LargeMessage::new(dave, "application/octet-stream", Source::Bytes(pattern(2_000_000)));
        assert!(alice.client.send_large(message).await.expect("an answer").accepted);
        world.until_waiting(1).await;
        let directory = tempfile::tempdir().expect("a directory");
        let mut page = start(&place, world, directory.path(), &format!("&msrp=ws://{socket}"));
        let line = page.line_with("msrp path ").await;
        let path = line.split("msrp path ").nth(1).and_then(|rest| rest.split('"').next()).expect("a path").to_owned();
        // SIP is told here: JsSIP takes sessions of WebRTC alone.
        let mut sip = world.udp().await;
        let register = sip.request("REGISTER", "sip:example.org").set("From", &format!("<{dave}>;tag=d"));
        let contact = format!("<sip:dave@{}>", sip.local());
        assert_eq!(sip.ask(&register.set("To", &format!("<{dave}>")).with("Contact", &contact)).await.status(), Some(200));
        let invite = sip.expect("an INVITE", |it| it.method() == Some(Method::Invite)).await;
        let description = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 2855 TCP/MSRP *\r\n\
             a=path:{path}\r\na=accept-types:message/cpim\r\na=accept-wrapped-types:*\r\na=setup:passive\r\na=recvonly\r\n"
        );
        let answer = Builder::response(&invite, 200, "OK", None, Some("page")).field("Contact", &contact);
        let answer = answer.field("Content-Type", "application/sdp").finish_with_body(description.as_bytes());
        sip.send(&answer.expect("an answer")).await;
        sip.expect("the ACK", |it| it.method() == Some(Method::Ack)).await;
        let line = page.line_with("msrp received ").await;
        assert!(line.contains("bytes of message/cpim"), "{line}");
        world.until_waiting(0).await;
        let bye = sip.expect("the BYE", |it| it.method() == Some(Method::Bye)).await;
        sip.respond(&bye, 200).await;
        world.until_settled().await;
    });
}
