//! JsSIP in Chromium: SIP over WebSocket, from a page.

use std::path::{Path, PathBuf};

use restante::configuration::{AskedCertificates, DigestAlgorithm, ListenAddress, Tenant};
use restante_client::{LargeMessage, Source};
use restante_sip::authentication::Algorithm;
use restante_sip::message::Method;
use restante_sip::writer::Builder;
use restante_tests::{RawSip, Setting, World, free_tcp_port, pattern, setting, until_equal};
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

/// A server for pages, which asks whoever connects over TLS for a certificate. JsSIP knows MD5 alone.
fn for_pages() -> Setting {
    let md5 = |tenant: &mut Tenant| tenant.digest.algorithms = vec![DigestAlgorithm(Algorithm::Md5.into())];
    let place = setting().web().encrypted().demands_passwords().tenant(md5);
    place.configure(|it| it.tls.client_certificates = AskedCertificates::Request)
}

fn start(place: &Path, world: &World, protocol: Protocol, directory: &Path, further: &str) -> Foreign {
    let root = place.join("root");
    let mut command = command(&root, root.join("usr/lib/chromium/chromium"));
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]);
    // The server's certificate is signed by an authority of this story alone.
    command.arg("--ignore-certificate-errors");
    // The console goes to standard error.
    command.args(["--enable-logging=stderr", "--remote-debugging-port=0"]);
    command.arg(format!("--user-data-dir={}", directory.display())).env("HOME", directory);
    command.arg(format!(
        "file://{}#server={protocol}://{}&uri=sip:dave@example.org&password=evad{further}",
        place.join("page/page.html").display(),
        world.listener(protocol)
    ));
    Foreign::start(command)
}

#[test]
fn a_page_shows_what_waited_for_its_user_and_answers() {
    let Some(place) = browser() else { return };
    for protocol in [Protocol::Ws, Protocol::Wss] {
        let trusting = |tenant: &mut Tenant| tenant.trust = vec!["127.0.0.3".parse().expect("an address")];
        for_pages().tenant(trusting).settings("few = 100").tell(async |world| {
            world.give_password("dave").await;
            let trusted = "127.0.0.3".parse().expect("an address");
            let mut alice = RawSip::udp(trusted, world.sip()).await;
            let plain = alice.request("MESSAGE", "sip:dave@example.org").text("plain");
            assert_eq!(alice.ask(&plain).await.status(), Some(202));
            let directory = tempfile::tempdir().expect("a directory");
            let mut page = start(&place, world, protocol, directory.path(), "");
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
}

#[test]
fn a_page_receives_a_deferred_large_message_over_a_web_socket() {
    let Some(place) = browser() else { return };
    for protocol in [Protocol::Ws, Protocol::Wss] {
        let (is_encrypted, few) = (protocol == Protocol::Wss, "few = 0\nretry_seconds = [3600]");
        let setting = if is_encrypted { for_pages().encrypted_media() } else { for_pages() };
        setting.settings(few).tell(async |world| {
            let socket = free_tcp_port();
            world.restart_with(|it| it.msrp.web_socket_listen = vec![ListenAddress { protocol, socket }]).await;
            world.give_password("dave").await;
            let alice = if is_encrypted { world.person_over_tls("alice").await } else { world.person("alice").await };
            let dave = "sip:dave@example.org";
            let message = LargeMessage::new(dave, "application/octet-stream", Source::Bytes(pattern(2_000_000)));
            assert!(alice.client.send_large(message).await.expect("an answer").accepted);
            world.until_waiting(1).await;
            let directory = tempfile::tempdir().expect("a directory");
            let mut page = start(&place, world, protocol, directory.path(), &format!("&msrp={protocol}://{socket}"));
            let line = page.line_with("msrp path ").await;
            let path = line.split("msrp path ").nth(1).and_then(|rest| rest.split('"').next()).expect("a path").to_owned();
            // SIP is told here: JsSIP takes sessions of WebRTC alone.
            let mut sip = if is_encrypted { world.raw_tls(None).await } else { world.udp().await };
            let register = sip.request("REGISTER", "sip:example.org").set("From", &format!("<{dave}>;tag=d"));
            let (parameter, media) = if is_encrypted { (";transport=tls", "TCP/TLS/MSRP") } else { ("", "TCP/MSRP") };
            let contact = format!("<sip:dave@{}{parameter}>", sip.local());
            assert_eq!(sip.ask(&register.set("To", &format!("<{dave}>")).with("Contact", &contact)).await.status(), Some(200));
            let invite = sip.expect("an INVITE", |it| it.method() == Some(Method::Invite)).await;
            let description = format!(
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 2855 {media} *\r\n\
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
}
