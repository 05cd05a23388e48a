//! JsSIP in Chromium: SIP over WebSocket, from a page.

use std::path::{Path, PathBuf};

use restante::configuration::{DigestAlgorithm, Tenant};
use restante_sip::authentication::Algorithm;
use restante_tests::{RawSip, World, setting, until_equal};
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

fn start(place: &Path, world: &World, directory: &Path) -> Foreign {
    let root = place.join("root");
    let mut command = command(&root, root.join("usr/lib/chromium/chromium"));
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]);
    // The console goes to standard error.
    command.args(["--enable-logging=stderr", "--remote-debugging-port=0"]);
    command.arg(format!("--user-data-dir={}", directory.display())).env("HOME", directory);
    command.arg(format!(
        "file://{}#server=ws://{}&uri=sip:dave@example.org&password=evad",
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
        let mut page = start(&place, world, directory.path());
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
