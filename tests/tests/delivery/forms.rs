//! Bodies whose form matters: what is wrapped in CPIM and goes to who takes none, and what was compressed on the way.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use restante_client::Mode;
use restante_sip::message::{Name, SipMessage};
use restante_tests::{RawSip, World, setting, story};

const BOB: &str = "sip:bob@example.org";
const CPIM: &str = "From: <sip:alice@example.org>\r\nTo: <sip:bob@example.org>\r\n\
                    DateTime: 2026-11-26T10:00:00Z\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
                    imdn.Message-ID: 34jk324j\r\nimdn.Disposition-Notification: display\r\n\r\n\
                    Content-Type: text/plain;charset=UTF-8\r\n\r\nHello";

/// Bob's device, which a test answers for.
async fn device(world: &World) -> RawSip {
    let mut device = world.udp().await;
    let register = device
        .request("REGISTER", "sip:example.org")
        .set("To", "<sip:bob@example.org>")
        .set("From", "<sip:bob@example.org>;tag=1")
        .with("Contact", &format!("<sip:bob@{}>;expires=600", device.local()));
    assert_eq!(device.ask(&register).await.status(), Some(200));
    device
}

async fn message(device: &mut RawSip) -> SipMessage {
    device.expect("a MESSAGE", |message| message.status().is_none()).await
}

async fn store(world: &World, content_type: &str, encoding: Option<&str>, body: &[u8]) {
    let mut alice = world.udp().await;
    let request = alice.request("MESSAGE", BOB).body(content_type, body.to_vec());
    let request = encoding.into_iter().fold(request, |request, it| request.with("Content-Encoding", it));
    assert_eq!(alice.ask(&request).await.status(), Some(202));
}

fn deflated(text: &str) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn a_device_that_takes_no_cpim_gets_what_is_inside() {
    // Accept of its 415; none: text/plain is what everybody takes.
    for accept in [Some("text/plain"), Some("application/sdp, text/*"), None] {
        story(async |world| {
            store(world, "message/cpim", None, CPIM.as_bytes()).await;
            let mut device = device(world).await;
            let wrapped = message(&mut device).await;
            assert_eq!(wrapped.header(Name::ContentType), Some("message/cpim"));
            let accept: Vec<_> = accept.iter().map(|accept| ("Accept", *accept)).collect();
            device.respond_with(&wrapped, 415, &accept).await;
            let bare = message(&mut device).await;
            assert_eq!(bare.header(Name::ContentType), Some("text/plain;charset=UTF-8"));
            assert_eq!(bare.body(), "Hello");
            assert_ne!(bare.call_id(), wrapped.call_id(), "another form is not a repetition");
            assert_eq!(bare.from().unwrap().uri.to_string(), "sip:alice@example.org");
            device.respond(&bare, 200).await;
            world.until_settled().await;
        });
    }
}

#[test]
fn what_it_does_not_take_either_waits_for_another_device() {
    for (accept, content_type) in [("image/png", "text/plain"), ("text/plain", "image/png")] {
        story(async |world| {
            let body = format!("From: <sip:alice@example.org>\r\n\r\nContent-Type: {content_type}\r\n\r\nHello");
            store(world, "message/cpim", None, body.as_bytes()).await;
            let mut device = device(world).await;
            let wrapped = message(&mut device).await;
            device.respond_with(&wrapped, 415, &[("Accept", accept)]).await;
            let invite = message(&mut device).await;
            assert_eq!(invite.bytes().get(..6), Some(&b"INVITE"[..]), "the other mode");
            device.respond(&invite, 488).await;
            world.until_waiting(1).await;
        });
    }
}

#[test]
fn what_its_cpim_demands_is_not_left_out() {
    for demand in ["Require: Subject", "\r\nContent-Transfer-Encoding: base64", "\r\nContent-Encoding: gzip"] {
        story(async |world| {
            // A line of the message's headers, or one of those of the part inside.
            let (outer, inner) = demand.strip_prefix("\r\n").map_or((demand, "X: y"), |inner| ("X: y", inner));
            let body = format!("{outer}\r\n\r\n{inner}\r\nContent-Type: text/plain\r\n\r\nSGVsbG8=");
            store(world, "message/cpim", None, body.as_bytes()).await;
            let mut device = device(world).await;
            let wrapped = message(&mut device).await;
            device.respond_with(&wrapped, 415, &[("Accept", "text/plain")]).await;
            let next = message(&mut device).await;
            assert_eq!(next.bytes().get(..6), Some(&b"INVITE"[..]), "{demand}");
            device.respond(&next, 488).await;
        });
    }
}

#[test]
fn what_came_compressed_goes_as_it_came() {
    let report = "<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\"><message-id>1</message-id>\
                  <display-notification><status><displayed/></status></display-notification></imdn>";
    for (content_type, text, encoding) in [
        ("message/imdn+xml", report, "deflate"),
        ("message/cpim", CPIM, "deflate"),
        ("text/plain", "cannot be opened here", "br"),
    ] {
        story(async |world| {
            let body = deflated(text);
            store(world, content_type, Some(encoding), &body).await;
            let mut device = device(world).await;
            let came = message(&mut device).await;
            assert_eq!(came.header(Name::ContentType), Some(content_type));
            assert_eq!(came.header(Name::ContentEncoding), Some(encoding));
            assert_eq!(came.body(), body);
            device.respond(&came, 200).await;
            world.until_settled().await;
        });
    }
}

#[test]
fn a_compressed_disposition_is_known_again() {
    story(async |world| {
        let report = "<imdn><message-id>7</message-id><delivery-notification><status><delivered/></status>\
                      </delivery-notification></imdn>";
        store(world, "message/imdn+xml", Some("deflate"), &deflated(report)).await;
        store(world, "message/imdn+xml", None, report.as_bytes()).await;
        assert_eq!(world.queue().len(), 1);
    });
}

#[test]
fn in_a_session_what_came_compressed_is_opened_or_says_how_it_is_encoded() {
    setting().settings("few = 0").tell(async |world| {
        store(world, "message/cpim", Some("deflate"), &deflated(CPIM)).await;
        store(world, "text/plain", Some("deflate"), &deflated("Hello too")).await;
        let mut bob = world.person("bob").await;
        bob.register().await;
        let wrapped = bob.received().await;
        assert_eq!(
            (wrapped.mode, wrapped.text(), wrapped.message_id.as_deref()),
            (Mode::Push, Some("Hello"), Some("34jk324j"))
        );
        let bare = bob.received().await;
        assert_eq!(bare.size, deflated("Hello too").len() as u64);
        assert_eq!(bare.content_encoding.as_deref(), Some("deflate"), "the part inside says how it is encoded");
        assert_eq!(bare.sip_field("Content-Encoding"), None, "in the INVITE it would be said of the SDP");
        world.until_settled().await;
    });
}

#[test]
fn header_fields_of_the_message_and_those_that_the_operator_names_are_kept() {
    setting().configure(|it| it.sip.keep_headers = vec!["X-Campaign".to_owned()]).tell(async |world| {
        let mut alice = world.udp().await;
        let request = alice.request("MESSAGE", BOB).text("Hello");
        let fields =
            [("Reply-To", "<sip:office@example.org>"), ("Priority", "urgent"), ("x-campaign", "7"), ("X-Other", "8")];
        let request = fields.into_iter().fold(request, |request, (name, value)| request.with(name, value));
        assert_eq!(alice.ask(&request).await.status(), Some(202));
        let mut device = device(world).await;
        let came = message(&mut device).await;
        let kept = fields.map(|(name, _)| came.header_by_text(name).map(str::to_owned));
        assert_eq!(
            kept.each_ref().map(Option::as_deref),
            [Some("<sip:office@example.org>"), Some("urgent"), Some("7"), None]
        );
        device.respond(&came, 200).await;
        world.until_settled().await;
    });
}
