//! RFC 5438's own examples, word for word: a request for dispositions, notifications; and the routes that intermediaries
//! add. All of them leave out the empty line between the two blocks of header fields that RFC 3862 §2 wants; here it is
//! there.

use bytes::Bytes;
use restante_cpim::cpim::{CpimMessage, address_uri};
use restante_cpim::imdn::{Disposition, Imdn, Report};

/// §7.1.1.3: Alice asks.
const REQUEST: &str = "\
From: Alice <im:alice@example.com>
To: Bob <im:bob@example.com>
NS: imdn <urn:ietf:params:imdn>
imdn.Message-ID: 34jk324j
DateTime: 2006-04-04T12:16:49-05:00
imdn.Disposition-Notification: positive-delivery, negative-delivery
Content-type: text/plain
Content-length: 12

Hello World
";

/// §7.2.1.1: Bob's client tells that it was delivered.
const DELIVERED: &str = "\
From: Bob <im:bob@example.com>
To: Alice <im:alice@example.com>
NS: imdn <urn:ietf:params:imdn>
imdn.Message-ID: d834jied93rf
Content-type: message/imdn+xml
Content-Disposition: notification
Content-length: ...

<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\">
      <message-id>34jk324j</message-id>
      <datetime>2008-04-04T12:16:49-05:00</datetime>
     <recipient-uri>im:bob@example.com</recipient-uri>
      <original-recipient-uri
        >im:bob@example.com</original-recipient-uri>
      <delivery-notification>
         <status>
            <delivered/>
         </status>
      </delivery-notification>
    </imdn>
";

/// §7.2.1.2: and that it was displayed.
const DISPLAYED: &str = "\
From: Bob <im:bob@example.com>
To: Alice <im:alice@example.com>
NS: imdn <urn:ietf:params:imdn>
imdn.Message-ID: dfjkleriou432333
Content-type: message/imdn+xml
Content-Disposition: notification
Content-length: ...

<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\">
      <message-id>34jk324j</message-id>
      <datetime>2008-04-04T12:16:49-05:00</datetime>
     <recipient-uri>im:bob@example.com</recipient-uri>
      <original-recipient-uri
         >im:bob@example.com</original-recipient-uri>
      <display-notification>
         <status>
            <displayed/>
         </status>
      </display-notification>
    </imdn>
";

/// §8.1: what an intermediary tells. Before it stands the Content-type of the whole.
const PROCESSED: &str = "\
From: Bob <im:bob@example.com>
To: Alice <im:alice@example.com>
Content-type: message/imdn+xml
Content-Disposition: notification
Content-length: ...

<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\">
      <message-id>34jk324j</message-id>
      <datetime>2008-04-04T12:16:49-05:00</datetime>
     <recipient-uri>im:bob@example.com</recipient-uri>
      <original-recipient-uri
         >im:bob@example.com</original-recipient-uri>
      <processing-notification>
         <status>
            <processed/>
         </status>
      </processing-notification>
    </imdn>
";

/// As on the wire, with the empty line that is missing.
fn wire(text: &str) -> String {
    text.replacen("\nContent-type", "\n\nContent-type", 1).replace('\n', "\r\n")
}

fn parse(text: &str) -> CpimMessage {
    CpimMessage::parse(Bytes::copy_from_slice(text.as_bytes())).expect("CPIM")
}

#[test]
fn a_request_for_dispositions_is_read() {
    let message = parse(&wire(REQUEST));
    assert_eq!(message.from().map(address_uri), Some("im:alice@example.com"));
    assert_eq!(message.to().map(address_uri), Some("im:bob@example.com"));
    assert_eq!(message.date_time(), Some("2006-04-04T12:16:49-05:00"));
    assert_eq!((message.content_type(), message.content_header("Content-Length")), ("text/plain", Some("12")));
    assert_eq!(message.content().as_ref(), b"Hello World\r\n");
    let imdn = message.imdn();
    assert_eq!(imdn.message_id.as_deref(), Some("34jk324j"));
    let asked = imdn.disposition_notification;
    assert!(asked.positive_delivery && asked.negative_delivery && !asked.display && !asked.processing);
}

#[test]
fn notifications_are_read() {
    for (text, id, disposition) in [
        (DELIVERED, Some("d834jied93rf"), Disposition::Delivered),
        (DISPLAYED, Some("dfjkleriou432333"), Disposition::Displayed),
        (PROCESSED, None, Disposition::Processed),
    ] {
        let message = parse(&wire(text));
        assert_eq!(message.content_type(), "message/imdn+xml");
        assert_eq!(message.content_header("content-disposition"), Some("notification"));
        assert_eq!(message.imdn().message_id.as_deref(), id);
        let imdn = Imdn::parse(&message.content()).expect("a notification");
        assert_eq!((imdn.message_id.as_str(), imdn.disposition), ("34jk324j", disposition));
        assert_eq!(imdn.recipient_uri.as_deref(), Some("im:bob@example.com"));
        assert_eq!(imdn.original_recipient_uri.as_deref(), Some("im:bob@example.com"));
    }
}

#[test]
fn routes_are_recorded_in_order_and_followed_by_the_report() {
    let hops = ["<im:store.example.com>", "<im:list@example.net>"];
    let recorded = format!(
        "imdn.IMDN-Record-Route: {}\r\nimdn.IMDN-Record-Route: {}\r\nimdn.Original-To: <im:bob@example.org>\r\n\r\nContent-type",
        hops[0], hops[1]
    );
    let imdn = parse(&wire(REQUEST).replacen("\r\nContent-type", &recorded, 1)).imdn();
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
