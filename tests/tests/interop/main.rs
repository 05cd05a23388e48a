//! Large messages through an MSRP implementation that is not ours (tests/interop/README.md), in both setup roles and
//! both directions. The SIP half is told here, on a bare socket.

mod peer;
mod relayed;

use restante_sip::message::{Method, SipMessage};
use restante_sip::writer::Builder;
use restante_tests::{Chunk, Cpim, RawMsrp, RawSip, World, pattern, story};
use sha2::{Digest, Sha256};

use crate::peer::{Peer, Setup, sha256};

const BOB: &str = "sip:bob@example.org";
/// A message of one chunk, of a few, and of many.
const SIZES: [usize; 3] = [5_000, 100_000, 5_000_000];

#[test]
fn large_messages_are_taken_from_a_foreign_implementation_in_both_roles() {
    for setup in [Setup::Active, Setup::Passive] {
        let Some(mut peer) = Peer::start(setup) else { return };
        story(async move |world| {
            let mut alice = world.udp().await;
            let invite = alice.request("INVITE", BOB).with("Contact", &format!("<sip:alice@{}>", alice.local()));
            let invite = invite.body("application/sdp", peer.description("sendonly"));
            let answer = alice.ask(&invite).await;
            assert_eq!(answer.status(), Some(200));
            acknowledge(&mut alice, invite.field("Call-ID"), &answer).await;
            peer.connect(&answer).await;
            for size in SIZES {
                let body = cpim(size);
                peer.send(&body).await;
            }
            let stored: Vec<u64> = sizes(world);
            assert_eq!(stored, SIZES.map(|size| cpim(size).len() as u64), "{setup:?}");
        });
    }
}

#[test]
fn large_messages_are_given_to_a_foreign_implementation_in_both_roles() {
    for setup in [Setup::Active, Setup::Passive] {
        let Some(mut peer) = Peer::start(setup) else { return };
        story(async move |world| {
            // Stored by bare MSRP, so that every byte is known.
            let mut alice = world.udp().await;
            let (mut msrp, invite, answer) = RawMsrp::establish(&mut alice, BOB).await;
            for size in SIZES {
                msrp.send_chunk(Chunk::whole(&format!("m{size}"), &cpim(size))).await;
            }
            world.until_waiting(SIZES.len()).await;
            alice.ask(&RawMsrp::bye(&alice, &invite, &answer)).await;
            let mut bob = register_bob(world).await;
            let invite = bob.expect("an INVITE", |message| message.method() == Some(Method::Invite)).await;
            let contact = format!("<sip:bob@{}>", bob.local());
            let answer = Builder::response(&invite, 200, "OK", None, Some("device"))
                .field("Contact", &contact)
                .field("Content-Type", "application/sdp")
                .finish_with_body(&peer.description("recvonly"))
                .expect("an answer");
            bob.send(&answer).await;
            bob.expect("the ACK", |message| message.method() == Some(Method::Ack)).await;
            peer.connect(&invite).await;
            for size in SIZES {
                let expected = cpim(size);
                let (length, content_type, hash) = peer.received().await;
                assert_eq!((length, content_type.as_str()), (expected.len() as u64, "message/cpim"), "{setup:?}");
                assert_eq!(hash, sha256(&expected), "{setup:?}");
            }
            let bye = bob.expect("the BYE", |message| message.method() == Some(Method::Bye)).await;
            let answer = Builder::response(&bye, 200, "OK", None, None).finish().expect("an answer");
            bob.send(&answer).await;
            world.until_settled().await;
        });
    }
}

/// A message as clients wrap it, its content so large.
fn cpim(size: usize) -> Vec<u8> {
    let content = pattern(size);
    let id = Sha256::digest(&content).iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    Cpim { id: Some(&id), ..Cpim::default() }.with(content)
}

fn sizes(world: &World) -> Vec<u64> {
    let found = world.shared().store.list(&Default::default(), 100).expect("a queue that can be read");
    found.into_iter().map(|(_, size)| size).collect()
}

async fn register_bob(world: &World) -> RawSip {
    let mut bob = world.udp().await;
    let contact = format!("<sip:bob@{}>", bob.local());
    let register = bob.request("REGISTER", "sip:example.org");
    let register = register.set("From", &format!("<{BOB}>;tag=device")).set("To", &format!("<{BOB}>"));
    assert_eq!(bob.ask(&register.set("Contact", &contact).set("Expires", "600")).await.status(), Some(200));
    bob
}

async fn acknowledge(socket: &mut RawSip, call_id: &str, answer: &SipMessage) {
    let to = answer.header_by_text("To").expect("To").to_owned();
    let contact = answer.contacts().expect("Contact")[0].address.uri.to_string();
    let ack = socket.request("ACK", &contact).set("Call-ID", call_id).set("To", &to).set("CSeq", "1 ACK");
    let from = answer.header_by_text("From").expect("From").to_owned();
    socket.send(&ack.set("From", &from).bytes()).await;
}
