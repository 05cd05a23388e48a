//! A device that is pushed to and says where its media are.

use restante_msrp::sdp::MsrpDescription;
use restante_sip::message::{Method, SipMessage};
use restante_sip::writer::Builder;
use restante_tests::RawSip;

pub const BOB: &str = "sip:bob@example.org";

/// Registers Bob at this socket.
pub async fn register(bob: &mut RawSip) {
    let contact = format!("<sip:bob@{};transport={}>", bob.local(), bob.transport().to_ascii_lowercase());
    let request = bob.request("REGISTER", "sip:example.org").set("From", &format!("<{BOB}>;tag=b"));
    let answer = bob.ask(&request.set("To", &format!("<{BOB}>")).with("Contact", &contact)).await;
    assert_eq!(answer.status(), Some(200));
}

/// Waits for the server's INVITE.
pub async fn invited(bob: &mut RawSip) -> (SipMessage, MsrpDescription) {
    let invite = bob.expect("an INVITE", |it| it.method() == Some(Method::Invite)).await;
    let offer = MsrpDescription::parse(&invite.body(), true).expect("an offer");
    (invite, offer)
}

/// A description of somebody who waits for the connection: what `c=`, `m=` and the path name, and further lines.
pub fn waiting(protocol: &str, (host, port): (&str, u16), path: &str, lines: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=message {port} {protocol} *\r\n\
         a=path:{path}\r\na=accept-types:message/cpim\r\na=accept-wrapped-types:*\r\na=setup:passive\r\n{lines}a=recvonly\r\n"
    )
}

/// Answers it with a description.
pub async fn accept(bob: &mut RawSip, invite: &SipMessage, description: &str) {
    let contact = format!("<sip:bob@{};transport={}>", bob.local(), bob.transport().to_ascii_lowercase());
    let response = Builder::response(invite, 200, "OK", None, Some("bob")).field("Contact", &contact);
    let response = response.field("Content-Type", "application/sdp").finish_with_body(description.as_bytes());
    bob.send(&response.expect("an answer")).await;
    bob.expect("an ACK", |it| it.method() == Some(Method::Ack)).await;
}
