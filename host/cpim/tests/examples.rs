//! Messages as RFC 5438 has them: a request for dispositions, a notification, and the routes that intermediaries add.

use bytes::Bytes;
use restante_cpim::cpim::{CpimMessage, address_uri};
use restante_cpim::imdn::{Disposition, Imdn, Report};

/// Alice asks (§7.1.1.3).
const REQUEST: &str = "From: Alice <im:alice@example.com>\r\n\
    To: Bob <im:bob@example.com>\r\n\
    NS: imdn <urn:ietf:params:imdn>\r\n\
    imdn.Message-ID: 34jk324j\r\n\
    DateTime: 2006-04-04T12:16:49-05:00\r\n\
    imdn.Disposition-Notification: positive-delivery, negative-delivery\r\n\
    \r\n\
    Content-type: text/plain\r\n\
    Content-length: 12\r\n\
    \r\n\
    Hello World\r\n";

/// Bob's client tells (§7.2.1.1).
const NOTIFICATION: &str = "From: Bob <im:bob@example.com>\r\n\
    To: Alice <im:alice@example.com>\r\n\
    NS: imdn <urn:ietf:params:imdn>\r\n\
    imdn.Message-ID: d834jied93rf\r\n\
    \r\n\
    Content-type: message/imdn+xml\r\n\
    Content-Disposition: notification\r\n\
    Content-length: 371\r\n\
    \r\n\
    <?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
    <imdn xmlns=\"urn:ietf:params:xml:ns:imdn\">\r\n\
    <message-id>34jk324j</message-id>\r\n\
    <datetime>2008-04-04T12:16:49-05:00</datetime>\r\n\
    <recipient-uri>im:bob@example.com</recipient-uri>\r\n\
    <original-recipient-uri>im:bob@example.com</original-recipient-uri>\r\n\
    <delivery-notification>\r\n<status>\r\n<delivered/>\r\n</status>\r\n</delivery-notification>\r\n\
    </imdn>\r\n";

fn parse(text: &str) -> CpimMessage {
    CpimMessage::parse(Bytes::copy_from_slice(text.as_bytes())).expect("CPIM")
}

#[test]
fn a_request_for_dispositions_is_read() {
    let message = parse(REQUEST);
    assert_eq!(message.from().map(address_uri), Some("im:alice@example.com"));
    assert_eq!(message.to().map(address_uri), Some("im:bob@example.com"));
    assert_eq!((message.content_type(), message.content_header("Content-Length")), ("text/plain", Some("12")));
    assert_eq!(message.content().as_ref(), b"Hello World\r\n");
    let imdn = message.imdn();
    assert_eq!(imdn.message_id.as_deref(), Some("34jk324j"));
    let asked = imdn.disposition_notification;
    assert!(asked.positive_delivery && asked.negative_delivery && !asked.display && !asked.processing);
}

#[test]
fn a_notification_is_read() {
    let message = parse(NOTIFICATION);
    assert_eq!(message.content_type(), "message/imdn+xml");
    assert_eq!(message.content_header("content-disposition"), Some("notification"));
    assert_eq!(message.imdn().message_id.as_deref(), Some("d834jied93rf"));
    let imdn = Imdn::parse(&message.content()).expect("a notification");
    assert_eq!((imdn.message_id.as_str(), imdn.disposition), ("34jk324j", Disposition::Delivered));
    assert_eq!(imdn.recipient_uri.as_deref(), Some("im:bob@example.com"));
    assert_eq!(imdn.original_recipient_uri.as_deref(), Some("im:bob@example.com"));
}

#[test]
fn routes_are_recorded_in_order_and_followed_by_the_report() {
    let hops = ["<im:store.example.com>", "<im:list@example.net>"];
    let recorded = format!(
        "imdn.IMDN-Record-Route: {}\r\nimdn.IMDN-Record-Route: {}\r\nimdn.Original-To: <im:bob@example.org>\r\n\r\nContent-type",
        hops[0], hops[1]
    );
    let imdn = parse(&REQUEST.replacen("\r\nContent-type", &recorded, 1)).imdn();
    assert_eq!(imdn.record_route, hops);
    let report = Report {
        message_id: "34jk324j",
        date_time: "2006-04-04T12:16:49-05:00",
        recipient_uri: Some("im:bob@example.com"),
        original_recipient_uri: Some("im:bob@example.org"),
        disposition: Disposition::DeliveryFailed,
        from: "im:bob@example.com",
        to: "im:alice@example.com",
        own_message_id: "d834jied93rf",
        now: "2006-04-05T12:16:49-05:00",
        route: &imdn.record_route,
    };
    let report = CpimMessage::parse(report.to_cpim()).expect("CPIM");
    let is_route = |name: &&restante_cpim::cpim::Header| name.name == "IMDN-Route";
    let routes: Vec<&str> = report.headers().iter().filter(is_route).map(|it| it.value.as_str()).collect();
    assert_eq!(routes, hops);
    assert_eq!(Imdn::parse(&report.content()).expect("a notification").disposition, Disposition::DeliveryFailed);
}
