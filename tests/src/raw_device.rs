//! A device on a bare socket: it is pushed to, and says where its media are.

use restante_msrp::sdp::MsrpDescription;
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::writer::Builder;

use crate::raw_msrp::{OUR_PATH, RawMsrp};
use crate::raw_sip::{RawSip, Request};

/// Whose device it is.
pub const BOB: &str = "sip:bob@example.org";
/// Its tag in the dialogs of what it accepts.
const TAG: &str = "bob";

/// Registers Bob at this socket.
///
/// # Panics
/// It is not taken.
pub async fn register(bob: &mut RawSip) {
    register_for(bob, 3_600).await;
}

/// The same for so many seconds; 0 takes it back.
///
/// # Panics
/// It is not taken.
pub async fn register_for(bob: &mut RawSip, seconds: u32) {
    let request = bob.request("REGISTER", "sip:example.org").set("From", &format!("<{BOB}>;tag=b"));
    let request = request.set("To", &format!("<{BOB}>")).with("Contact", &contact(bob));
    let answer = bob.ask(&request.with("Expires", &seconds.to_string())).await;
    assert_eq!(answer.status(), Some(200));
}

/// Waits for the server's INVITE.
///
/// # Panics
/// None comes, or one without an offer.
pub async fn invited(bob: &mut RawSip) -> (SipMessage, MsrpDescription) {
    invited_after(bob, None).await
}

/// Waits for the INVITE after that one, which may be repeated.
///
/// # Panics
/// None comes, or one without an offer.
pub async fn invited_after(bob: &mut RawSip, earlier: Option<&SipMessage>) -> (SipMessage, MsrpDescription) {
    let is_repeated = |it: &SipMessage| earlier.is_some_and(|earlier| earlier.call_id() == it.call_id());
    let is_it = |it: &SipMessage| it.is_request() && it.method() == Some(Method::Invite) && !is_repeated(it);
    let invite = bob.expect("an INVITE", is_it).await;
    let offer = MsrpDescription::parse(&invite.body(), true).expect("an offer");
    (invite, offer)
}

/// A description of somebody who waits for the connection: what `c=`, `m=` and the path name, and further lines.
#[must_use]
pub fn waiting(protocol: &str, (host, port): (&str, u16), path: &str, lines: &str) -> String {
    let family = if host.contains(':') { "IP6" } else { "IP4" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\nm=message {port} {protocol} *\r\n\
         a=path:{path}\r\na=accept-types:message/cpim\r\na=accept-wrapped-types:*\r\na=setup:passive\r\n{lines}a=recvonly\r\n"
    )
}

/// A description of somebody who connects, with lines that say what it takes.
#[must_use]
pub fn connecting(takes: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
         a=path:{OUR_PATH}\r\n{takes}a=setup:active\r\na=recvonly\r\n"
    )
}

/// Answers it with a description.
///
/// # Panics
/// No ACK comes.
pub async fn accept(bob: &mut RawSip, invite: &SipMessage, description: &str) {
    accept_with(bob, invite, description, &[]).await;
}

/// The same with further header fields.
///
/// # Panics
/// No ACK comes.
pub async fn accept_with(bob: &mut RawSip, invite: &SipMessage, description: &str, fields: &[(&str, &str)]) {
    answer_with(bob, invite, description, fields).await;
    acknowledged(bob, invite).await;
}

/// Says 200 with a description and further header fields.
///
/// # Panics
/// The INVITE cannot be answered.
pub async fn answer_with(bob: &mut RawSip, invite: &SipMessage, description: &str, fields: &[(&str, &str)]) {
    let response = Builder::response(invite, 200, "OK", None, Some(TAG)).field("Contact", &contact(bob));
    let recorded = invite.headers(Name::RecordRoute);
    let response = recorded.fold(response, |response, route| response.field("Record-Route", route));
    let response = fields.iter().fold(response, |response, (name, value)| response.field(name, value));
    let response = response.field("Content-Type", "application/sdp").finish_with_body(description.as_bytes());
    bob.send(&response.expect("an answer")).await;
}

/// Waits for the ACK.
///
/// # Panics
/// None comes.
pub async fn acknowledged(bob: &mut RawSip, invite: &SipMessage) {
    let is_it =
        |it: &SipMessage| it.is_request() && it.method() == Some(Method::Ack) && it.call_id() == invite.call_id();
    bob.expect("an ACK", is_it).await;
}

/// Connects to where an offer says, and binds the connection.
///
/// # Panics
/// Nobody is there.
pub async fn connected(offer: &MsrpDescription) -> RawMsrp {
    let place = offer.connection_places()[0].socket_address().expect("a numeric host");
    let mut msrp = RawMsrp::connect_to(place, &offer.path.to_string()).await;
    msrp.send_empty().await;
    msrp
}

/// Takes the messages that a session brings until the server ends it.
///
/// # Panics
/// It does not end.
pub async fn carried(bob: &mut RawSip, msrp: &mut RawMsrp) -> Vec<String> {
    let mut came = Vec::new();
    let mut is_open = true;
    loop {
        tokio::select! {
            message = msrp.next_message(), if is_open => match message {
                Some((requests, message)) => {
                    msrp.accept_all(&requests).await;
                    came.push(String::from_utf8_lossy(&message).into_owned());
                }
                None => is_open = false,
            },
            bye = bob.expect("a BYE", |it| it.is_request() && it.method() == Some(Method::Bye)) => {
                bob.respond(&bye, 200).await;
                return came;
            }
        }
    }
}

/// A request of the device's in the dialog of an INVITE that it accepted.
///
/// # Panics
/// The INVITE has no Contact.
#[must_use]
pub fn in_dialog(bob: &RawSip, invite: &SipMessage, method: &str, cseq: u32) -> Request {
    let field = |name: &str| invite.header_by_text(name).expect("a field of every request");
    let target = invite.contacts().expect("a Contact").remove(0).address.uri.to_string();
    let request = bob
        .request(method, &target)
        .set("From", &format!("{};tag={TAG}", field("To")))
        .set("To", field("From"))
        .set("Call-ID", field("Call-ID"))
        .set("CSeq", &format!("{cseq} {method}"))
        .with("Contact", &contact(bob));
    invite.list(Name::RecordRoute).fold(request, |request, route| request.with("Route", route))
}

fn contact(bob: &RawSip) -> String {
    format!("<sip:bob@{};transport={}>", bob.local(), bob.transport().to_ascii_lowercase())
}
