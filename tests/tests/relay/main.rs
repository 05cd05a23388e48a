//! What is passed on, as callers and devices see it.

mod calls;
mod dialogs;
mod identities;
mod large;
mod messages;
mod preferences;

use restante_sip::message::{Method, SipMessage};
use restante_sip::writer::{Builder, reason};
use restante_tests::{RawSip, Request, Setting, World, guest, setting};

const BOB: &str = "sip:bob@example.org";
const AUDIO: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

/// How often something is tried whose moment a machine that stands still lets go by.
const TRIES: u64 = 5;

/// Tells a story in which devices answer what is passed on to them, until they were in time: a MESSAGE is passed on for
/// three seconds at most, and then kept. The tale says whether they were.
fn told_in_time(place: impl Fn() -> Setting, tale: impl AsyncFn(&mut World) -> bool) {
    let told = |_| {
        let mut in_time = false;
        place().tell(async |world| in_time = tale(world).await);
        in_time
    };
    assert!((0..TRIES).any(told), "kept each time");
}

/// A tenant whose policy answers so.
fn scripted(settings: &str) -> Setting {
    setting().tenant(|tenant| tenant.policy = guest("scripted")).settings(settings)
}

/// A device of Bob's as a bare socket, registered with this q.
async fn device(world: &World, q: &str) -> RawSip {
    let socket = world.udp().await;
    let contact = format!("<sip:bob@{}>;q={q}", socket.local());
    registered(socket, &contact).await
}

/// Registers a socket as a device of Bob's.
async fn registered(mut socket: RawSip, contact: &str) -> RawSip {
    let register = socket.request("REGISTER", "sip:example.org");
    let register = register.set("From", "<sip:bob@example.org>;tag=device").set("To", "<sip:bob@example.org>");
    let register = register.set("Contact", contact).set("Expires", "600");
    assert_eq!(socket.ask(&register).await.status(), Some(200));
    socket
}

/// A call of Alice's.
fn call(socket: &RawSip) -> Request {
    let contact = format!("<sip:alice@{};transport={}>", socket.local(), socket.transport().to_ascii_lowercase());
    socket.request("INVITE", BOB).with("Contact", &contact).body("application/sdp", AUDIO)
}

/// The next request with this method.
async fn asked(socket: &mut RawSip, method: &str) -> SipMessage {
    let is_it = |it: &SipMessage| it.is_request() && it.method().is_some_and(|known| known.as_str() == method);
    socket.expect(method, is_it).await
}

/// The next response with this status.
async fn answered(socket: &mut RawSip, status: u16) -> SipMessage {
    socket.expect(&status.to_string(), |it| it.status() == Some(status)).await
}

/// A device's answer that can make a dialog.
async fn answer(socket: &mut RawSip, request: &SipMessage, status: u16, tag: &str) {
    let contact = format!("<sip:bob@{};transport={}>", socket.local(), socket.transport().to_ascii_lowercase());
    let builder = Builder::response(request, status, reason(status), None, Some(tag));
    let builder = request
        .headers(restante_sip::message::Name::RecordRoute)
        .fold(builder, |it, route| it.field("Record-Route", route));
    let builder = builder.field("Contact", &contact).field("Content-Type", "application/sdp");
    socket.send(&builder.finish_with_body(AUDIO.as_bytes()).expect("an answer")).await;
}

/// The answer to a CANCEL, and to what it cancelled.
async fn give_up(socket: &mut RawSip, invite: &SipMessage) {
    let cancel = asked(socket, "CANCEL").await;
    assert_eq!(cancel.top_via().unwrap(), invite.top_via().unwrap(), "the CANCEL of this INVITE");
    socket.respond(&cancel, 200).await;
    socket.respond(invite, 487).await;
    asked(socket, "ACK").await;
}

/// The ACK of a refusal, in the transaction of its INVITE.
fn ack_of_refusal(invite: &Request, refusal: &SipMessage) -> Request {
    let line = invite.line.replacen("INVITE", "ACK", 1);
    let request = Request { line, ..invite.clone().body("x", "").without("Content-Type") };
    request.set("To", refusal.header_by_text("To").expect("a To")).set("CSeq", "1 ACK")
}

/// The CANCEL of an INVITE.
fn cancel_of(invite: &Request) -> Request {
    let line = invite.line.replacen("INVITE", "CANCEL", 1);
    Request { line, ..invite.clone().body("x", "").without("Content-Type") }.set("CSeq", "1 CANCEL")
}

/// Waits for the refusal of an INVITE and acknowledges it.
async fn refused(socket: &mut RawSip, invite: &Request) -> SipMessage {
    let refusal = socket.answer_to(invite).await;
    socket.send(&ack_of_refusal(invite, &refusal).bytes()).await;
    refusal
}

fn is(method: Method) -> impl Fn(&SipMessage) -> bool {
    move |it| it.is_request() && it.method() == Some(method.clone())
}
