//! What a strict client objects to in what it receives. Each check gives texts; no text means no objection.

use bytes::Bytes;
use restante_cpim::cpim::CpimMessage;
use restante_msrp::sdp::{Direction, MsrpDescription, Setup};
use restante_msrp::uri::Host;
use restante_sip::header::{ICSI_DEFERRED, ICSI_LARGE_MESSAGE, ICSI_MESSAGE, icsi_values};
use restante_sip::message::{Method, Name, SipMessage, validate_request};

/// Largest MESSAGE over a network that is not known to be congestion-safe (RFC 3428 §8).
const MAX_PAGE_BYTES: usize = 1300;

type Objections = Vec<String>;

/// Any request: what RFC 3261 §8.1.1 demands, and the forms that deployed clients can take.
pub(crate) fn request(message: &SipMessage) -> Objections {
    let mut out = Vec::new();
    if let Err(error) = validate_request(message) {
        out.push(format!("malformed request: {error}"));
    }
    forms(message, &mut out);
    let mut must = |name: Name| {
        if message.count(name) != 1 {
            out.push(format!("{} occurs {} times, expected once", name.as_str(), message.count(name)));
        }
    };
    [Name::From, Name::To, Name::CallId, Name::CSeq, Name::MaxForwards].into_iter().for_each(&mut must);
    let branch = message.top_via().ok().and_then(|via| via.branch().map(str::to_owned)).unwrap_or_default();
    if !branch.starts_with("z9hG4bK") {
        out.push(format!("branch {branch:?} without the magic cookie"));
    }
    if message.from().is_ok_and(|from| from.tag().is_none()) {
        out.push("From without a tag".to_owned());
    }
    named(message, out)
}

/// The answer to a request of ours, which had one Via.
pub(crate) fn response(message: &SipMessage) -> Objections {
    let mut out = Vec::new();
    forms(message, &mut out);
    if message.list(Name::Via).count() != 1 {
        out.push("an answer with another number of Via than the request had".to_owned());
    }
    let is_final = message.status().is_some_and(|status| status >= 200);
    if is_final && message.to().is_ok_and(|to| to.tag().is_none()) {
        out.push("final answer without a To tag".to_owned());
    }
    let method = message.method();
    if method == Some(Method::Message) && matches!(message.status(), Some(200..300)) {
        if message.count(Name::Contact) > 0 {
            out.push("Contact in a 2xx to MESSAGE (RFC 3428 §7)".to_owned());
        }
        if !message.body().is_empty() {
            out.push("body in a 2xx to MESSAGE (RFC 3428 §7)".to_owned());
        }
    }
    named(message, out)
}

/// A 2xx to REGISTER that binds `contact_uri`.
pub(crate) fn registration(message: &SipMessage, contact_uri: &str) -> Objections {
    let mut out = Vec::new();
    if message.count(Name::PAssociatedUri) == 0 {
        out.push("no P-Associated-URI".to_owned());
    }
    match message.contacts() {
        Ok(contacts) => {
            if contacts.iter().any(|contact| contact.expires_seconds().is_none()) {
                out.push("a Contact without expires".to_owned());
            }
            if !contacts.iter().any(|contact| contact.address.uri.to_string() == contact_uri) {
                out.push("the binding that was asked for is not listed".to_owned());
            }
        }
        Err(error) => out.push(format!("malformed Contact: {error}")),
    }
    // Some clients read the first line only.
    let first = message.header(Name::Contact).unwrap_or("");
    if !first.contains("expires=") {
        out.push("no expires in the first Contact line".to_owned());
    }
    named(message, out)
}

/// A MESSAGE.
pub(crate) fn page(message: &SipMessage, reliable: bool) -> Objections {
    let mut out = Vec::new();
    if message.count(Name::Contact) > 0 {
        out.push("Contact in a MESSAGE (RFC 3428 §4)".to_owned());
    }
    if message.count(Name::RecordRoute) > 0 {
        out.push("Record-Route in a MESSAGE".to_owned());
    }
    if message.bytes().len() > MAX_PAGE_BYTES && !reliable {
        out.push(format!("{} bytes over UDP, expected at most {MAX_PAGE_BYTES}", message.bytes().len()));
    }
    let content_type = restante_cpim::media_type::essence(message.header(Name::ContentType).unwrap_or(""));
    if content_type == restante_cpim::cpim::CONTENT_TYPE {
        let services = services(message);
        if !is_one_mode(&services, ICSI_MESSAGE) {
            out.push(format!("Accept-Contact with {services:?}, expected the CPM message service and no other of CPM"));
        }
        out.extend(cpim(&message.body()));
    }
    for name in [Name::ConversationId, Name::ContributionId] {
        if message.header(name) == Some("") {
            out.push(format!("{} is empty", name.as_str()));
        }
    }
    named(message, out)
}

/// An INVITE that offers messages, with its session description.
pub(crate) fn invitation(message: &SipMessage, offer: &MsrpDescription) -> Objections {
    let mut out = Vec::new();
    for name in [Name::Contact, Name::ConversationId, Name::ContributionId] {
        if message.header(name).is_none_or(str::is_empty) {
            out.push(format!("{} is missing or empty", name.as_str()));
        }
    }
    let services = services(message);
    if !is_one_mode(&services, ICSI_LARGE_MESSAGE) {
        out.push(format!(
            "Accept-Contact with {services:?}, expected the CPM large message or deferred service and no other of CPM"
        ));
    }
    if offer.direction != Direction::SendOnly {
        out.push(format!("direction {:?}, expected sendonly", offer.direction));
    }
    if !matches!(offer.setup, Some(Setup::Passive | Setup::ActPass)) {
        out.push(format!("a=setup {:?}, expected passive or actpass", offer.setup));
    }
    description(offer, &mut out);
    named(message, out)
}

/// A 2xx to an INVITE of ours that fetches, with its session description.
pub(crate) fn fetch_answer(message: &SipMessage, answer: &MsrpDescription) -> Objections {
    let mut out = Vec::new();
    if message.count(Name::Contact) != 1 {
        out.push("no Contact in the answer".to_owned());
    }
    if answer.direction != Direction::SendOnly {
        out.push(format!("direction {:?} to recvonly, expected sendonly", answer.direction));
    }
    setup_of_answer(answer, &mut out);
    description(answer, &mut out);
    named(message, out)
}

/// A 2xx to an INVITE of ours that sends, with its session description.
pub(crate) fn large_answer(message: &SipMessage, answer: &MsrpDescription) -> Objections {
    let mut out = Vec::new();
    if message.count(Name::Contact) != 1 {
        out.push("no Contact in the answer".to_owned());
    }
    if answer.direction != Direction::ReceiveOnly {
        out.push(format!("direction {:?} to sendonly, expected recvonly", answer.direction));
    }
    setup_of_answer(answer, &mut out);
    description(answer, &mut out);
    named(message, out)
}

/// A NOTIFY.
pub(crate) fn notify(message: &SipMessage) -> Objections {
    let mut out = Vec::new();
    let event = message.header(Name::Event).unwrap_or("");
    if event.split(';').next().unwrap_or("").trim() != "message-summary" {
        out.push(format!("Event {event:?}, expected message-summary"));
    }
    if message.count(Name::SubscriptionState) != 1 {
        out.push("no Subscription-State".to_owned());
    }
    if message.count(Name::Contact) != 1 {
        out.push("no Contact in a NOTIFY".to_owned());
    }
    named(message, out)
}

/// A CPIM message as clients parse it.
pub(crate) fn cpim(body: &Bytes) -> Objections {
    let mut out = Vec::new();
    let Ok(message) = CpimMessage::parse(body.clone()) else { return vec!["malformed CPIM".to_owned()] };
    cpim_headers(&message, &mut out);
    if let Some(length) = message.content_header("Content-Length")
        && length.parse() != Ok(message.content().len())
    {
        out.push(format!("CPIM content of {} bytes, its Content-Length says {length}", message.content().len()));
    }
    out
}

/// The headers of a CPIM message whose content may be elsewhere.
pub(crate) fn cpim_headers(message: &CpimMessage, out: &mut Objections) {
    for name in ["From", "To", "DateTime"] {
        if message.header(name).is_none_or(str::is_empty) {
            out.push(format!("CPIM without {name}"));
        }
    }
    if message.imdn().message_id.is_none() {
        out.push("CPIM without imdn.Message-ID, or its prefix not bound before its use".to_owned());
    }
    if let Some(header) = message.headers().iter().find(|header| header.namespace.starts_with("unbound:")) {
        out.push(format!("CPIM header {:?} with a prefix that is not bound", header.name));
    }
}

fn forms(message: &SipMessage, out: &mut Objections) {
    for field in message.fields() {
        let name = message.field_name(field);
        if name.len() == 1 {
            out.push(format!("compact header field name {name:?}"));
        }
        if message.field_value(field).contains(['\r', '\n']) {
            out.push(format!("folded {name}"));
        }
    }
    if message.count(Name::ContentLength) != 1 {
        out.push("no Content-Length".to_owned());
    }
    if !message.body().is_empty() && message.count(Name::ContentType) != 1 {
        out.push("body without Content-Type".to_owned());
    }
}

const MODES: [&str; 3] = [ICSI_MESSAGE, ICSI_LARGE_MESSAGE, ICSI_DEFERRED];

fn services(message: &SipMessage) -> Vec<String> {
    message.headers(Name::AcceptContact).flat_map(icsi_values).collect()
}

/// Whether they name one mode of CPM: this one, or that of what was deferred.
fn is_one_mode(services: &[String], expected: &str) -> bool {
    let modes: Vec<&str> = services.iter().map(String::as_str).filter(|it| MODES.contains(it)).collect();
    modes == [expected] || modes == [ICSI_DEFERRED]
}

fn setup_of_answer(answer: &MsrpDescription, out: &mut Objections) {
    if !matches!(answer.setup, Some(Setup::Active | Setup::Passive)) {
        out.push(format!("a=setup {:?} in an answer, expected active or passive", answer.setup));
    }
}

/// `c=` and `m=` name the same place as the last hop of the path.
fn description(description: &MsrpDescription, out: &mut Objections) {
    let last = description.path.last();
    let host = match &last.host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.clone(),
    };
    let connects = description.setup == Some(Setup::Active);
    let same_port = description.port == last.port_or_default() || connects;
    if description.connection_address.as_deref() != Some(host.as_str()) || !same_port {
        let place = (description.connection_address.as_deref().unwrap_or("nowhere"), description.port);
        out.push(format!("c= and m= name {place:?}, the path {last}"));
    }
    if last.session_id.as_deref().is_none_or(|id| id.len() < 14) {
        out.push("an MSRP session id of less than 80 bits".to_owned());
    }
}

/// Says which message the objections are about.
fn named(message: &SipMessage, objections: Objections) -> Objections {
    if objections.is_empty() {
        return objections;
    }
    let what = match message.status() {
        Some(status) => {
            format!("{status} to {}", message.method().map_or_else(String::new, |method| method.to_string()))
        }
        None => message.method().map_or_else(String::new, |method| method.to_string()),
    };
    objections.into_iter().map(|text| format!("{what}: {text}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use restante_sip::message::MessageLimits;

    const PAGE: &str = "MESSAGE sip:bob@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK1;rport\r\n\
        Max-Forwards: 70\r\nFrom: <sip:alice@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\n\
        Accept-Contact: *;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\"\r\n\
        Content-Type: message/cpim\r\nContent-Length: LENGTH\r\n\r\n";
    const CPIM: &str = "From: <sip:alice@example.org>\r\nTo: <sip:bob@example.org>\r\nDateTime: 2024-01-01T00:00:00Z\r\n\
        NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: m1\r\n\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";

    fn page_objections(change: impl Fn(String) -> String) -> Vec<String> {
        let body = change(CPIM.to_owned());
        let text = change(PAGE.to_owned()).replace("LENGTH", &body.len().to_string()) + &body;
        let message = SipMessage::parse(Bytes::from(text.into_bytes()), &MessageLimits::default()).unwrap();
        let mut out = request(&message);
        out.extend(page(&message, false));
        out
    }

    #[test]
    fn a_proper_message_meets_no_objection_and_each_fault_meets_one() {
        assert_eq!(page_objections(|text| text), [""; 0]);
        for (from, to) in [
            ("Max-Forwards: 70\r\n", ""),
            ("z9hG4bK1", "abc"),
            (";tag=1", ""),
            ("Call-ID", "i"),
            ("<sip:alice@example.org>;tag", "<sip:alice@example.org>\r\n ;tag"),
            ("Content-Type: message/cpim\r\n", ""),
            ("Content-Length: LENGTH\r\n", ""),
            ("Max-Forwards", "Contact: <sip:a@b>\r\nMax-Forwards"),
            ("Max-Forwards", "Conversation-ID: \r\nMax-Forwards"),
            ("cpm.msg", "cpm.session"),
            ("DateTime: 2024-01-01T00:00:00Z\r\n", ""),
            (
                "NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: m1\r\n",
                "imdn.Message-ID: m1\r\nNS: imdn <urn:ietf:params:imdn>\r\n",
            ),
            ("imdn.Message-ID", "imdn.message-id"),
            ("\r\n\r\nhi", "\r\n\r\nhi\r\n"),
        ] {
            let changed = page_objections(|text| text.replace(from, to));
            assert!(!changed.is_empty(), "{from:?} to {to:?} passed");
        }
        let long = "x".repeat(1_300);
        assert!(!page_objections(|text| text.replace("hi", &long).replace("Length: 2\r", "Length: 1300\r")).is_empty());
    }
}
