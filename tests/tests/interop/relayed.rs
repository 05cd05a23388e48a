//! Sessions of the server that go through a relay that is not ours: Kamailio, which asks for a password
//! (tests/interop/authorizing.cfg). The far end speaks by hand.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use restante::configuration::{MsrpRelay, RelayUri};
use restante_msrp::sdp::MsrpDescription;
use restante_sip::message::{Method, SipMessage};
use restante_sip::writer::Builder;
use restante_tests::{Chunk, MsrpReply, RawMsrp, RawSip, World, free_tcp_port, in_time, setting};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{BOB, cpim, register_bob};

/// What Kamailio passes on.
const CHUNK_BYTES: usize = 10 * 1024;
/// It ends by itself after so many seconds: later than anything that is waited for.
const LIFETIME: &str = "600";
/// How often it is tried whether it is there, and whether it took the server.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Kamailio; it ends with the value.
struct Relay {
    child: Child,
    place: SocketAddr,
}

impl Relay {
    /// None, loudly, where it is not installed.
    async fn start() -> Option<Relay> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let home = tests.join("../target/interop/relay");
        if !home.is_dir() {
            let _ = writeln!(std::io::stderr(), "SKIPPED msrp-interop: see tests/interop/install.sh");
            return None;
        }
        let place = free_tcp_port();
        let child = Command::new("timeout")
            .args(["-k", "1", LIFETIME])
            .arg(home.join("kamailio"))
            .args(["-DD", "-E", "-m", "128", "-M", "16", "-f"])
            .arg(tests.join("interop/authorizing.cfg"))
            .arg("-Y")
            .arg(&home)
            .arg("-L")
            .arg(home.join("lib/modules"))
            .args(["-l", &format!("tcp:{place}")])
            .env("LD_LIBRARY_PATH", home.join("lib"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("timeout");
        let relay = Relay { child, place };
        let listens = async {
            while TcpStream::connect(place).await.is_err() {
                sleep(LOOK_EVERY).await;
            }
        };
        in_time("Kamailio listens", listens).await;
        Some(relay)
    }

    /// The server goes through it from now on.
    async fn serves(&self, world: &mut World) {
        let password_file = world.directory().join("relay.password");
        std::fs::write(&password_file, "of the relay\n").unwrap();
        let uri = RelayUri::try_from(format!("msrp://{};tcp", self.place)).unwrap();
        world
            .restart_with(|it| it.msrp.relay = vec![MsrpRelay { uri, username: "restante".to_owned(), password_file }])
            .await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // `timeout` passes it on.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Alice's session through the relay, once it takes the server.
async fn session(relay: &Relay, sip: &mut RawSip) -> (RawMsrp, restante_tests::Request, SipMessage) {
    let established = async {
        loop {
            let invite = RawMsrp::invitation(sip, BOB);
            let answer = sip.ask(&invite).await;
            if answer.status() == Some(200) {
                return (invite, answer);
            }
            assert_eq!(answer.status(), Some(480), "only for now");
            sleep(LOOK_EVERY).await;
        }
    };
    let (invite, answer) = in_time("the relay takes the server", established).await;
    sip.send(&RawMsrp::ack(sip, &invite, &answer).bytes()).await;
    let described = MsrpDescription::parse(&answer.body(), false).unwrap();
    assert_eq!(described.connection_places()[0].socket_address(), Some(relay.place));
    assert_eq!(described.path.iter().count(), 2);
    (RawMsrp::connect_to(relay.place, &described.path.to_string()).await, invite, answer)
}

#[test]
fn large_messages_come_and_go_through_a_foreign_relay_that_asks_for_a_password() {
    setting().settings("few = 0\nretry_seconds = [1, 1, 1, 1]").tell(async |world| {
        let Some(relay) = Relay::start().await else { return };
        relay.serves(world).await;
        let mut alice = world.udp().await;
        let (mut msrp, invite, answer) = session(&relay, &mut alice).await;
        let message = cpim(200_000);
        for first in (0..message.len()).step_by(CHUNK_BYTES) {
            let last = message.len().min(first + CHUNK_BYTES);
            let flag = if last == message.len() { '$' } else { '+' };
            let (content, total) = (&message[first..last], message.len());
            let chunk = Chunk { message_id: "m", first: first + 1, total, content, flag, fields: "" };
            let transaction = msrp.send_chunk(chunk).await;
            assert_eq!(msrp.next().await, MsrpReply::Response(transaction, 200));
        }
        world.until_waiting(1).await;
        alice.ask(&RawMsrp::bye(&alice, &invite, &answer)).await;

        let mut bob = register_bob(world).await;
        let invite = bob.expect("an INVITE", |it| it.method() == Some(Method::Invite)).await;
        let offer = MsrpDescription::parse(&invite.body(), false).unwrap();
        let mut msrp = RawMsrp::connect_to(relay.place, &offer.path.to_string()).await;
        msrp.from_path = "msrp://127.0.0.1:9/bobs98cjs;tcp".to_owned();
        let description = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
             a=path:{}\r\na=accept-types:message/cpim\r\na=accept-wrapped-types:*\r\na=setup:active\r\na=recvonly\r\n",
            msrp.from_path
        );
        let answer = Builder::response(&invite, 200, "OK", None, Some("device"))
            .field("Contact", &format!("<sip:bob@{}>", bob.local()))
            .field("Content-Type", "application/sdp")
            .finish_with_body(description.as_bytes());
        // The relay sends back to whoever spoke first.
        msrp.send_empty().await;
        bob.send(&answer.expect("an answer")).await;
        bob.expect("the ACK", |it| it.method() == Some(Method::Ack)).await;
        let mut received = Vec::new();
        let last = loop {
            let (head, content) = msrp.next_whole_request().await.expect("the rest of the message");
            msrp.answer(&head, "200 OK", "").await;
            received.extend(content);
            if head
                .byte_range
                .and_then(|range| range.total)
                .is_some_and(|total| total > 0 && total == received.len() as u64)
            {
                break head;
            }
        };
        assert_eq!(received, message);
        let (id, total, back) = (last.message_id.unwrap(), received.len(), last.from_path);
        let report = format!(
            "MSRP rep1 REPORT\r\nTo-Path: {back}\r\nFrom-Path: {}\r\nMessage-ID: {id}\r\n\
             Byte-Range: 1-{total}/{total}\r\nStatus: 000 200 OK\r\n-------rep1$\r\n",
            msrp.from_path
        );
        msrp.send(report.as_bytes()).await;
        world.until_waiting(0).await;
        let bye = bob.expect("the BYE", |it| it.method() == Some(Method::Bye)).await;
        bob.respond(&bye, 200).await;
        world.until_settled().await;
    });
}
