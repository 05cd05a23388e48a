//! Messages: read, written, changed.

use bytes::Bytes;
use proptest::prelude::*;
use restante_sip::header::{CSeq, ContactValue, NameAddr, Via, is_quoting_balanced};
use restante_sip::message::{
    Defect, MalformedRequest, MessageLimits, Method, Name, SipMessage, StartLine, validate_request, validate_response,
};
use restante_sip::uri::{SipUri, TelUri, Uri};
use restante_sip::writer::{Builder, Edit, WriteError};

fn parse(text: &str) -> SipMessage {
    SipMessage::from_datagram(Bytes::copy_from_slice(text.as_bytes()), &MessageLimits::default()).expect("a message")
}

fn request(fields: &[&str]) -> SipMessage {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    parse(&format!("MESSAGE sip:bob@example.org SIP/2.0\r\n{fields}\r\nbody"))
}

/// The fields that every request needs.
const FIELDS: [&str; 5] = [
    "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa",
    "From: <sip:alice@example.org>;tag=1",
    "To: <sip:bob@example.org>",
    "Call-ID: c",
    "CSeq: 1 MESSAGE",
];

fn with(extra: &str) -> Result<(), MalformedRequest> {
    let mut fields = FIELDS.to_vec();
    fields.push(extra);
    validate_request(&request(&fields))
}

#[test]
fn compact_names_folds_odd_blanks_and_bare_line_feeds_are_read() {
    let text = "MESSAGE sip:bob@example.org SIP/2.0\nv :  SIP/2.0/UDP a;branch=z9hG4bK1 ,\r\n\tSIP/2.0/TCP b\nF:<sip:a@b>\n \
                ;tag=1\r\nSUBJECT:   two \r\n  lines\r\nX-Empty:\r\nl: 2\n\nhi, cut";
    let message = parse(text);
    assert_eq!(message.list(Name::Via).collect::<Vec<_>>(), ["SIP/2.0/UDP a;branch=z9hG4bK1", "SIP/2.0/TCP b"]);
    assert_eq!(message.from().expect("a From").tag(), Some("1"));
    assert_eq!(message.header_by_text("x-empty"), Some(""));
    assert_eq!((message.body().as_ref(), message.bytes().as_ref()), (&b"hi"[..], text.as_bytes()));
    let rsip = message.to_rsip_headers().to_string();
    assert!(rsip.contains("Subject: two lines\r\n") && rsip.contains("X-Empty: \r\n"), "{rsip}");
    assert_eq!(message.defect(), None);
    let blank_first = parse("MESSAGE sip:bob@example.org SIP/2.0\r\nX: y\r\n\r\n \tbody");
    assert_eq!(blank_first.body().as_ref(), b" \tbody", "a body that begins with a blank is no fold");
}

#[test]
fn responses_are_read_whatever_their_reason() {
    for (line, expected) in [
        (&b"SIP/2.0 200 OK"[..], Some(200)),
        (b"sip/2.0 202 Accepted", Some(202)),
        (b"SIP/2.0 100", Some(100)),
        (b"SIP/2.0 180 \xff\xfe", Some(180)),
        (b"SIP/2.0 099 x", None),
        (b"SIP/2.0 700 x", None),
        (b"SIP/2.0 2000 x", None),
        (b"SIP/2.0 20 x", None),
        (b"SIP/2.0  200 x", None),
        (b"SIP/3.0 200 x", None),
    ] {
        let bytes = Bytes::from([line, b"\r\n\r\n"].concat());
        let status = SipMessage::parse(bytes, &MessageLimits::default()).ok().and_then(|message| message.status());
        assert_eq!(status, expected, "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn what_is_required_is_named_by_tokens() {
    for name in ["Require", "Proxy-Require"] {
        for good in ["path", "path, 100rel", "path,\r\n 100rel", ""] {
            assert_eq!(with(&format!("{name}: {good}")), Ok(()), "{good:?}");
        }
        for bad in ["a\r\n b", "a\0b", "\0", "a b", "\"a\"", "<a>", "path, a\r\n\tb"] {
            let refused = with(&format!("{name}: {bad}")).expect_err(bad);
            assert_eq!(refused.status(), Some(400), "{bad:?}");
        }
    }
}

#[test]
fn what_a_request_needs_is_checked() {
    assert_eq!(validate_request(&request(&FIELDS)), Ok(()));
    for missing in 0..FIELDS.len() {
        let mut fields = FIELDS.to_vec();
        let field = fields.remove(missing);
        let status = validate_request(&request(&fields)).expect_err(field).status();
        assert_eq!(status, if missing == 0 { None } else { Some(400) }, "{field}");
    }
    for wrong in [
        "CSeq: 2 MESSAGE",
        "Content-Length: 99",
        "Content-Length: +4",
        "Content-Length: ",
        "Max-Forwards: 256",
        "Max-Forwards: x",
        "Expires: 4294967296",
        "Expires: -1",
        "Route: sip",
        "Via: SIP/2.0/UDP a:b",
        "Contact: \"x <sip:a@b>",
        "Contact: *",
        "Contact: sip:a@b?c=d",
        "no colon",
        "bad name: x",
        ": x",
        "X: a\rb",
    ] {
        assert_eq!(with(wrong).expect_err(wrong).status(), Some(400), "{wrong}");
    }
    for fine in [
        "Max-Forwards: 0",
        "Expires: 4294967295",
        "Contact: sip:a@b;c=d",
        "X: \"open",
        "Retry-After: 5 (x);y=z",
        "X: é",
    ] {
        assert_eq!(with(fine), Ok(()), "{fine}");
    }
    let end = parse("MESSAGE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nTo: x");
    assert_eq!((end.defect(), end.header(Name::Via)), (Some(Defect::HeaderLine), Some("SIP/2.0/UDP a")));
}

#[test]
fn what_is_over_the_limits_is_refused_and_not_read_further() {
    let limits = MessageLimits { max_header_bytes: 300, max_header_fields: 7, max_body_bytes: 10 };
    let judge = |fields: &[&str], body: &str| {
        let fields: String = FIELDS.iter().chain(fields).map(|field| format!("{field}\r\n")).collect();
        let text = format!("MESSAGE sip:b@h SIP/2.0\r\n{fields}\r\n{body}");
        let message = SipMessage::from_datagram(Bytes::from(text), &limits).expect("a message");
        assert!(message.fields().len() <= 8);
        validate_request(&message).map_err(|malformed| malformed.status())
    };
    let long = format!("X: {}", "x".repeat(100));
    assert_eq!(judge(&["X: y", "X: y"], "0123456789"), Ok(()));
    assert_eq!(judge(&["X: y", "X: y", "X: y"], ""), Err(Some(513)));
    assert_eq!(judge(&[long.as_str()], ""), Ok(()));
    assert_eq!(judge(&[long.as_str(), long.as_str()], ""), Err(Some(513)));
    assert_eq!(judge(&[], "0123456789a"), Err(Some(413)));
    let answer = SipMessage::parse(
        Bytes::from(format!("SIP/2.0 200 OK\r\n{}\r\n\r\n0123456789a", FIELDS.join("\r\n"))),
        &limits,
    );
    assert!(!validate_response(&answer.expect("a message")));
}

#[test]
fn extensions_and_privacy_are_told() {
    let message = request(&["Require: path, Foo", "Require: 100rel", "Privacy: header; ID"]);
    assert_eq!(message.unknown_extensions(&["Path", "outbound"]).collect::<Vec<_>>(), ["Foo", "100rel"]);
    assert!(message.asks_privacy("id") && !message.asks_privacy("none"));
}

#[test]
fn what_would_break_a_header_field_is_not_written() {
    let build = |name, value| Builder::request(&Method::Message, "sip:h").field(name, value).finish();
    for value in ["a\r\nEvil: 1", "a\nb", "a\rb", "a\0b"] {
        assert_eq!(build("X", value), Err(WriteError::ControlCharacter), "{value:?}");
        let header = rsip::Header::Subject(value.to_owned().into());
        assert!(Builder::request(&Method::Message, "sip:h").header(&header).finish().is_err(), "{value:?}");
        assert!(Builder::request(&Method::Message, value).finish().is_err(), "{value:?}");
        assert!(Builder::response(&request(&FIELDS), 200, value, None, None).finish().is_err(), "{value:?}");
        assert!(Builder::response(&request(&FIELDS), 200, "OK", None, Some(value)).finish().is_err(), "{value:?}");
        assert!(Edit::new(&request(&FIELDS)).request_uri(value).is_err(), "{value:?}");
    }
    for name in ["", "a b", "a:b", "a\r\n"] {
        assert_eq!(build(name, "x"), Err(WriteError::Name), "{name:?}");
    }
    assert_eq!(
        Builder::response(&request(&FIELDS[..4]), 200, "OK", None, None).finish(),
        Err(WriteError::Missing),
        "no CSeq"
    );
}

fn token() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9.!%*_+`'~-]{1,8}"
}

fn parameters() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    proptest::collection::vec((token(), proptest::option::of("[ -~é]{0,8}")), 0..3)
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9][a-z0-9.-]{0,9}", any::<std::net::Ipv6Addr>().prop_map(|address| format!("[{address}]"))]
}

fn sip_uri() -> impl Strategy<Value = SipUri> {
    let parameter = ("[a-z-]{1,5}", proptest::option::of("[a-zA-Z0-9%./:-]{1,6}"));
    (
        any::<bool>(),
        proptest::option::of(("[a-zA-Z0-9;=?/%+.-]{1,9}", proptest::option::of("[a-z0-9]{1,4}"))),
        host(),
        any::<Option<u16>>(),
        proptest::collection::vec(parameter, 0..3),
        proptest::option::of("[a-zA-Z]{1,4}=[a-z%0-9]{0,6}"),
    )
        .prop_map(|(secure, user, host, port, parameters, headers)| {
            let (user, password) = user.map_or((None, None), |(user, password)| (Some(user), password));
            SipUri { secure, user, password, host, port, parameters, headers }
        })
}

fn uri() -> impl Strategy<Value = Uri> {
    prop_oneof![
        sip_uri().prop_map(Uri::Sip),
        "\\+?[0-9][0-9().-]{0,9}".prop_map(|number| Uri::Tel(TelUri {
            number,
            parameters: vec![("phone-context".to_owned(), Some("+1".to_owned()))]
        })),
        "[!#-;=?-~]{1,9}".prop_map(|rest| Uri::Other("x-y".to_owned(), rest)),
    ]
}

proptest! {
    #[test]
    fn uris_read_back(uri in uri()) {
        let text = uri.to_string();
        prop_assert_eq!(Uri::check(&text), Ok(uri.as_sip().is_some_and(|uri| uri.headers.is_some())));
        prop_assert_eq!(Uri::parse(&text), Ok(uri));
    }

    #[test]
    fn name_addrs_read_back(display in proptest::option::of("[ -~é]{1,9}"), uri in uri(), parameters in parameters()) {
        let value = NameAddr { display, uri, parameters, unbracketed: false };
        let text = value.to_string();
        prop_assert!(is_quoting_balanced(&text));
        prop_assert_eq!(NameAddr::parse(&text), Ok(value));
    }

    #[test]
    fn vias_read_back(transport in token(), host in host(), port in any::<Option<u16>>(), parameters in parameters()) {
        let value = Via { transport, host, port, parameters };
        prop_assert_eq!(Via::parse(&value.to_string()), Ok(value));
    }

    #[test]
    fn sequence_numbers_read_back(number in 0u32..1 << 31, method in token()) {
        let value = CSeq { number, method: Method::from_text(&method) };
        prop_assert_eq!(CSeq::parse(&format!("{number} {method}")), Ok(value));
        let too_large = format!("{} {method}", u64::from(number) + (1 << 31));
        prop_assert!(CSeq::parse(&too_large).is_err());
    }

    #[test]
    fn what_is_written_reads_back(
        method in token(),
        uri in uri(),
        fields in proptest::collection::vec((token(), "[!-~é]([ -~é]{0,20}[!-~é])?"), 0..9),
        body in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let builder = Builder::request(&Method::from_text(&method), &uri.to_string());
        let builder = fields.iter().fold(builder, |builder, (name, value)| builder.field(name, value));
        let bytes = builder.finish_with_body(&body).expect("written");
        let message = SipMessage::parse(bytes.clone(), &MessageLimits::default()).expect("read");
        prop_assert_eq!(message.defect(), None);
        let is_plain = matches!(message.start(), StartLine::Request { other_version: false, stray_blanks: false, .. });
        prop_assert!(is_plain);
        prop_assert_eq!(message.method().map(|it| it.to_string()), Some(method));
        prop_assert_eq!(message.request_uri().map(str::to_owned), Some(uri.to_string()));
        let read: Vec<(String, String)> = message.fields().iter()
            .map(|field| (message.field_name(field).to_owned(), message.field_value(field).to_owned())).collect();
        let (length, read) = read.split_last().expect("Content-Length");
        prop_assert_eq!(read, fields.as_slice());
        prop_assert_eq!(length, &("Content-Length".to_owned(), body.len().to_string()));
        prop_assert_eq!(message.body().to_vec(), body);
        // Relaying touches nothing that it does not mean.
        prop_assert_eq!(Edit::new(&message).finish(), bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        start in "(MESSAGE sip:a@b SIP/2.0|SIP/2.0 200 OK|REGISTER tel:1 SIP/2.0|[ -~]{0,20})",
        whole in any::<bool>(),
        lines in proptest::collection::vec(prop_oneof![
            "(Via|v|From|To|Call-ID|CSeq|Contact|l|Route|Max-Forwards|Expires|Require|Privacy)[ \t]{0,2}: ?[ -~\r\0é]{0,30}",
            "[ \t]?[ -~]{0,20}",
            "Via: SIP/2.0/UDP [a-z]{1,3}(;branch=z9hG4bK[a-z]?)?",
            "(From|To|Contact): <?sip:a@b>?(;tag=1)?",
            "CSeq: [0-9]{1,12} (MESSAGE|REGISTER)",
        ], 0..9),
        end in prop_oneof!["\r\n", "\n"],
        rest in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let head: Vec<String> = if whole { FIELDS.iter().map(|field| (*field).to_owned()).collect() } else { Vec::new() };
        let mut bytes = [&[start][..], &head, &lines].concat().join(&end).into_bytes();
        bytes.extend_from_slice(end.repeat(2).as_bytes());
        bytes.extend_from_slice(&rest);
        let limits = MessageLimits { max_header_bytes: 400, max_header_fields: 12, max_body_bytes: 15 };
        let Ok(message) = SipMessage::from_datagram(Bytes::from(bytes), &limits) else { return Ok(()) };
        let valid = validate_request(&message).is_ok();
        let _ = validate_response(&message);
        let _ = (message.contacts(), message.name_addrs(Name::Route), message.to_rsip_headers(), message.top_via());
        let _ = (message.asks_privacy("id"), message.unknown_extensions(&[]).count(), message.header_end());
        let answer = Builder::response(&message, 200, "OK", None, Some("t")).finish();
        let edit = Edit::new(&message).pop(Name::Via).remove(Name::Route).push(Name::Via, "SIP/2.0/TCP x").expect("pushed");
        let edited = SipMessage::parse(edit.set(Name::Expires, "5").expect("set").finish(), &MessageLimits::default());
        if valid {
            let answer = SipMessage::parse(answer.expect("written"), &MessageLimits::default()).expect("read");
            prop_assert!(validate_response(&answer));
            let edited = edited.expect("read");
            prop_assert_eq!(edited.number(Name::Expires), Ok(Some(5)));
            prop_assert_eq!(edited.list(Name::Via).next(), Some("SIP/2.0/TCP x"));
            prop_assert_eq!(edited.list(Name::Via).count(), message.list(Name::Via).count());
            prop_assert_eq!(edited.count(Name::Route), 0);
        }
    }

    #[test]
    fn contacts_keep_what_they_say(uri in sip_uri(), q in 0u16..=1000, expires in any::<u32>(), id in "[a-z:0-9-]{1,9}") {
        let text = format!("<{}>;q={}.{:03};Expires={expires};+SIP.instance=\"<{id}>\";+x", Uri::Sip(uri.clone()), q / 1000, q % 1000);
        let contact = ContactValue::parse(&text).expect("a contact");
        prop_assert_eq!(&contact.address.uri, &Uri::Sip(uri));
        prop_assert_eq!((contact.q_permille(), contact.expires_seconds(), contact.instance()), (Ok(q), Some(expires), Some(id.as_str())));
        prop_assert_eq!(contact.feature_tags().collect::<Vec<_>>(), [("+x", None)]);
    }
}
