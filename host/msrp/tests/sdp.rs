//! Offers and answers.

use proptest::prelude::*;
use restante_msrp::sdp::{
    AcceptTypes, ConnectionAttribute, Direction, Fingerprint, HashFunction, LocalMedia, MAX_SDP_BYTES, MsrpDescription,
    SdpError, Setup, answer, answer_again, make_offer, role_after_answer,
};
use restante_msrp::session::Role;
use restante_msrp::uri::UriError;

fn local(uri: &str) -> LocalMedia {
    LocalMedia {
        uri: uri.parse().unwrap(),
        relays: Vec::new(),
        accept_types: AcceptTypes::parse("message/cpim"),
        accept_wrapped_types: Some(AcceptTypes::parse("text/plain message/imdn+xml")),
        max_size_bytes: Some(1000),
        direction: Direction::SendReceive,
        fingerprints: Vec::new(),
        origin_session_id: 77,
        origin_version: 2,
    }
}

fn plain_local() -> LocalMedia {
    local("msrp://192.0.2.1:2855/ours;tcp")
}

/// An offer with these lines besides the usual ones.
fn offer_with(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("{}\r\n", line.trim())).collect();
    format!(
        "v=0\r\no=alice 2890844526 2890844527 IN IP4 198.51.100.7\r\ns= -\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n\
         m=message 7654 TCP/MSRP *\r\na=accept-types:text/plain\r\n\
         a=path:msrp://198.51.100.7:7654/jshA7weztas;tcp\r\n{lines}"
    )
}

fn parse(text: &str) -> Result<MsrpDescription, SdpError> {
    MsrpDescription::parse(text.as_bytes(), false)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_offer_we_make() {
    let expected = "v=0\r\no=- 77 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                    m=message 2855 TCP/MSRP *\r\na=accept-types:message/cpim\r\n\
                    a=accept-wrapped-types:text/plain message/imdn+xml\r\na=max-size:1000\r\n\
                    a=path:msrp://192.0.2.1:2855/ours;tcp\r\na=setup:actpass\r\na=connection:new\r\na=msrp-cema\r\na=sendonly\r\n";
    let sends = LocalMedia { direction: Direction::SendOnly, ..plain_local() };
    assert_eq!(text(&make_offer(&sends)), expected);
}

#[test]
fn our_offer_names_one_place_in_path_c_and_m() {
    for (uri, address) in [
        ("msrp://[2001:db8::1]:99/a;tcp", "IP6 2001:db8::1"),
        ("msrp://msrp.example.org:99/a;tcp", "IP4 msrp.example.org"),
        ("msrp://192.0.2.9:99/a;tcp", "IP4 192.0.2.9"),
    ] {
        let offer = text(&make_offer(&local(uri)));
        assert!(offer.contains(&format!("c=IN {address}\r\n")), "{offer}");
        assert!(offer.contains("m=message 99 TCP/MSRP *\r\n"));
        let read = parse(&offer).unwrap();
        assert_eq!(read.path.to_string(), uri);
        assert_eq!((read.setup, read.connection), (Some(Setup::ActPass), Some(ConnectionAttribute::New)));
    }
    assert!(text(&make_offer(&local("msrps://h.example:1/a;tcp"))).contains("m=message 1 TCP/TLS/MSRP *"));
}

#[test]
fn everything_in_an_offer_is_read() {
    let lines = "a=accept-wrapped-types:*\na=max-size:1234\na=setup:active\na=connection:existing\na=recvonly\na=msrp-cema\n\
                 a=file-selector:name:\"a b.jpg\" type:image/jpeg size:42\na=fingerprint:SHA-1 4A:AD\na=fingerprint:{SHA256}";
    let read = parse(&offer_with(&lines.replace("{SHA256}", &Fingerprint::sha256(b"it").to_string()))).unwrap();
    assert_eq!((read.port, read.secure, read.media_index), (7654, false, 0));
    assert_eq!(read.connection_address.as_deref(), Some("198.51.100.7"));
    assert_eq!(read.path.first().session_id.as_deref(), Some("jshA7weztas"));
    assert!(read.accept_types.accepts("text/plain;charset=utf-8") && !read.accept_types.accepts("text/html"));
    assert!(read.accept_wrapped_types.unwrap().accepts("image/png"));
    assert_eq!(read.max_size_bytes, Some(1234));
    assert_eq!(read.setup, Some(Setup::Active));
    assert_eq!(read.connection, Some(ConnectionAttribute::Existing));
    assert_eq!(read.direction, Direction::ReceiveOnly);
    assert!(read.msrp_cema);
    assert_eq!(read.file_selector.as_deref(), Some("name:\"a b.jpg\" type:image/jpeg size:42"));
    let texts: Vec<String> = read.fingerprints.iter().map(Fingerprint::to_string).collect();
    assert_eq!(texts, ["sha-1 4A:AD".to_owned(), Fingerprint::sha256(b"it").to_string()]);
    assert!(!read.fingerprints[0].matches(b"it") && read.fingerprints[1].matches(b"it"));
}

#[test]
fn what_clients_write_besides_the_grammar_is_read() {
    let strict = parse(&offer_with("a=setup:actpass\na=sendonly")).unwrap();
    let offer = offer_with("a=setup:actpass\na=sendonly");
    let second = "c=IN IP4 198.51.100.7\r\nc=IN IP4 203.0.113.1\r\n";
    for loose in [
        offer.replace("\r\n", "\n"),
        offer.replace("\r\n", "\r\n\r\n"),
        offer.replace("a=", " a="),
        offer.replace("a=", "\ta="),
        offer.replace("\r\n", "\n\n \n"),
        format!("\r\n{offer}\r\n\r\n"),
        offer.replace("c=IN IP4 198.51.100.7\r\n", second),
        offer.replace("a=path:", "a=path: "),
        offer.replace("a=setup:actpass", "a=setup:ACTPASS "),
    ] {
        assert_eq!(parse(&loose).unwrap(), strict, "{loose}");
    }
}

#[test]
fn attributes_of_the_session_hold_for_the_media() {
    let offer = offer_with("").replace("t=0 0\r\n", "t=0 0\r\na=inactive\r\na=setup:passive\r\n");
    let read = parse(&offer).unwrap();
    assert_eq!((read.direction, read.setup), (Direction::Inactive, Some(Setup::Passive)));
    let read = parse(&(offer + "a=sendonly\r\na=setup:active\r\n")).unwrap();
    assert_eq!((read.direction, read.setup), (Direction::SendOnly, Some(Setup::Active)));
}

#[test]
fn the_answer_to_each_setup() {
    for (line, role, setup, port) in [
        ("a=setup:actpass", Role::Passive, Some(Setup::Passive), 2855),
        ("a=setup:active", Role::Passive, Some(Setup::Passive), 2855),
        ("a=setup:passive", Role::Active, Some(Setup::Active), 9),
        ("", Role::Passive, None, 2855),
    ] {
        let offer = parse(&offer_with(line)).unwrap();
        let ours = answer(&offer, &plain_local()).unwrap();
        assert_eq!(ours.role, role, "{line}");
        let read = MsrpDescription::parse(&ours.sdp, false).unwrap();
        assert_eq!((read.setup, read.port), (setup, port), "{line}");
        // The offerer, had it said actpass or nothing, is the other one.
        if offer.setup != Some(Setup::Active) && offer.setup != Some(Setup::Passive) {
            assert_eq!(role_after_answer(&read), Ok(Role::Active), "{line}");
        }
    }
    let hold = parse(&offer_with("a=setup:holdconn")).unwrap();
    assert_eq!(answer(&hold, &plain_local()), Err(SdpError::HoldConnection));
}

#[test]
fn what_the_offerer_is_after_each_answer() {
    for (line, role) in [
        ("a=setup:active", Ok(Role::Passive)),
        ("a=setup:passive", Ok(Role::Active)),
        ("a=setup:actpass", Ok(Role::Active)),
        ("", Ok(Role::Active)),
        ("a=setup:holdconn", Err(SdpError::HoldConnection)),
    ] {
        assert_eq!(role_after_answer(&parse(&offer_with(line)).unwrap()), role, "{line}");
    }
}

#[test]
fn directions_meet() {
    use Direction::{Inactive, ReceiveOnly, SendOnly, SendReceive};
    let rows = [
        (SendReceive, SendReceive, Ok(SendReceive)),
        (SendOnly, SendReceive, Ok(ReceiveOnly)),
        (ReceiveOnly, SendReceive, Ok(SendOnly)),
        (SendReceive, SendOnly, Ok(SendOnly)),
        (ReceiveOnly, SendOnly, Ok(SendOnly)),
        (SendOnly, ReceiveOnly, Ok(ReceiveOnly)),
        (SendOnly, SendOnly, Err(SdpError::NoCommonDirection)),
        (ReceiveOnly, ReceiveOnly, Err(SdpError::NoCommonDirection)),
        (Inactive, SendReceive, Ok(Inactive)),
    ];
    for (offered, wanted, expected) in rows {
        let offer = parse(&offer_with(&format!("a={}", offered.as_str()))).unwrap();
        let ours = answer(&offer, &LocalMedia { direction: wanted, ..plain_local() });
        assert_eq!(ours.as_ref().map(|ours| ours.direction).map_err(Clone::clone), expected, "{offered:?} {wanted:?}");
        if let Ok(ours) = ours {
            assert!(text(&ours.sdp).ends_with(&format!("a={}\r\n", ours.direction.as_str())));
        }
    }
}

#[test]
fn other_media_are_refused_in_their_place() {
    let offer = offer_with("a=setup:actpass\nm=audio 5000/2 RTP/AVP 0 8\na=rtpmap:0 PCMU/8000\nm=message 1 TCP/MSRP *");
    let offer = offer.replace("m=message 7654", "m=video 7 RTP/AVP 99\r\nm=message 0 TCP/MSRP *\r\nm=message 7654");
    let read = parse(&offer).unwrap();
    assert_eq!((read.media_index, read.other_media()), (2, 4));
    let ours = text(&answer(&read, &plain_local()).unwrap().sdp);
    let media: Vec<_> = ours.lines().filter(|line| line.starts_with("m=")).collect();
    let expected = [
        "m=video 0 RTP/AVP 99",
        "m=message 0 TCP/MSRP *",
        "m=message 2855 TCP/MSRP *",
        "m=audio 0 RTP/AVP 0 8",
        "m=message 0 TCP/MSRP *",
    ];
    assert_eq!(media, expected);
    assert_eq!(ours.matches("c=").count(), 1);
    assert!(!ours.contains("PCMU"));
}

#[test]
fn tls_is_known_and_refused_unless_taken() {
    let offer = offer_with("").replace("TCP/MSRP", "TCP/TLS/MSRP").replace("msrp://", "msrps://");
    assert_eq!(parse(&offer), Err(SdpError::TlsUnsupported));
    let read = MsrpDescription::parse(offer.as_bytes(), true).unwrap();
    assert!(read.secure);
    assert_eq!(answer(&read, &plain_local()), Err(SdpError::TlsUnsupported));
    assert!(answer(&read, &local("msrps://h.example:1/a;tcp")).is_ok());
    // A second media without TLS will do.
    let both = offer.clone() + "m=message 5 TCP/MSRP *\r\na=path:msrp://h.example:5/b;tcp\r\n";
    assert_eq!(parse(&both).unwrap().media_index, 1);
    assert_eq!(parse(&offer.replace("TCP/TLS/MSRP", "TCP/MSRP")), Err(SdpError::SchemeMismatch));
}

/// The places of an offer with these lines, as text.
fn places(offer: &str) -> Vec<String> {
    let places = parse(offer).unwrap().connection_places();
    places.iter().map(|place| format!("{}:{}", place.host, place.port)).collect()
}

#[test]
fn where_to_connect_follows_the_table() {
    let elsewhere = |lines: &str| offer_with(lines).replace("c=IN IP4 198.51.100.7", "c=IN IP4 203.0.113.5");
    let relayed = |offer: String| offer.replace("a=path:", "a=path:msrp://relay.example:1/r;tcp ");
    let (path, described) = ("198.51.100.7:7654", "203.0.113.5:7654");
    for (offer, expected) in [
        (elsewhere("a=msrp-cema"), vec![described]),
        (offer_with("a=msrp-cema"), vec![path]),
        (elsewhere("a=msrp-cema").replace("m=message 7654", "m=message 9"), vec![path]),
        (elsewhere("a=msrp-cema").replace("203.0.113.5", "0.0.0.0"), vec![path]),
        (elsewhere("a=msrp-cema").replace("c=IN IP4 203.0.113.5\r\n", ""), vec![path]),
        (relayed(elsewhere("a=msrp-cema")), vec![described]),
        (relayed(offer_with("a=msrp-cema")), vec!["relay.example:1"]),
        (
            relayed(elsewhere("a=msrp-cema"))
                .replace("203.0.113.5", "relay.example")
                .replace("m=message 7654", "m=message 1"),
            vec!["relay.example:1"],
        ),
        (offer_with(""), vec![path]),
        (elsewhere(""), vec![path, described]),
        (offer_with("").replace("m=message 7654", "m=message 7655"), vec![path, "198.51.100.7:7655"]),
        (relayed(elsewhere("")), vec!["relay.example:1"]),
        (elsewhere("a=msrp-cema").replace("IP4 203.0.113.5", "IP6 2001:db8::9"), vec!["[2001:db8::9]:7654"]),
        (elsewhere("a=msrp-cema").replace("203.0.113.5", "box.example.org"), vec!["box.example.org:7654"]),
    ] {
        assert_eq!(places(&offer), expected, "{offer}");
    }
    let six = offer_with("").replace("msrp://198.51.100.7:7654/", "msrp://[2001:db8::1]/");
    assert_eq!(places(&six)[0], "[2001:db8::1]:2855");
    // Whoever stands in between, the other end is believed by its own name.
    assert_eq!(parse(&elsewhere("a=msrp-cema")).unwrap().believed_host(), "198.51.100.7");
}

#[test]
fn cema_is_offered_and_answered_where_it_applies() {
    let says = |sdp: &[u8]| text(sdp).contains("a=msrp-cema\r\n");
    let behind_relay =
        LocalMedia { relays: vec!["msrps://relay.example:2855/x;tcp".parse().unwrap()], ..plain_local() };
    assert!(says(&make_offer(&plain_local())) && !says(&make_offer(&behind_relay)));
    let (with, without) = (parse(&offer_with("a=msrp-cema")).unwrap(), parse(&offer_with("")).unwrap());
    // Who is behind a relay and connects all the same falls back (RFC 6714 §4.3 criterion 2).
    let relayed = |setup: &str| {
        parse(&offer_with(&format!("a=msrp-cema{setup}")).replace("a=path:", "a=path:msrp://relay.example:1/r;tcp "))
    };
    let [by_default, active, either] = ["", "\r\na=setup:active", "\r\na=setup:actpass"].map(|it| relayed(it).unwrap());
    for (offer, ours, expected) in [
        (&with, plain_local(), true),
        (&without, plain_local(), false),
        (&with, behind_relay, false),
        (&by_default, plain_local(), false),
        (&active, plain_local(), false),
        (&either, plain_local(), true),
    ] {
        assert_eq!(says(&answer(offer, &ours).unwrap().sdp), expected, "{offer:?}");
        assert_eq!(says(&answer_again(offer, &ours, Role::Passive)), expected, "{offer:?}");
    }
}

#[test]
fn who_is_behind_a_relay_names_the_relay_first_everywhere() {
    let relays = ["msrp://192.0.2.77:2857/outer;tcp", "msrp://relay.example:2855/inner;tcp"];
    let ours = LocalMedia { relays: relays.map(|uri| uri.parse().unwrap()).to_vec(), ..plain_local() };
    let offer = text(&make_offer(&ours));
    assert!(
        offer.contains(&format!("a=path:{} {} msrp://192.0.2.1:2855/ours;tcp\r\n", relays[0], relays[1])),
        "{offer}"
    );
    assert!(offer.contains("c=IN IP4 192.0.2.77\r\n") && offer.contains("m=message 2857 "), "{offer}");
}

#[test]
fn what_makes_no_session() {
    let base = offer_with("");
    for (offer, error) in [
        (base.replace("message 7654", "audio 7654"), SdpError::NoMsrpMedia),
        (base.replace("TCP/MSRP", "RTP/AVP"), SdpError::NoMsrpMedia),
        (base.replace("message 7654", "message 0"), SdpError::NoMsrpMedia),
        (base.replace("a=path", "a=pfad"), SdpError::MissingPath),
        (base.replace("a=path:msrp:", "a=path:sip:"), SdpError::Path(UriError::Scheme)),
        (offer_with("a=setup:sometimes"), SdpError::Attribute("setup")),
        (offer_with("a=max-size:many"), SdpError::Attribute("max-size")),
        (format!("{base}a=x:{}\r\n", "x".repeat(MAX_SDP_BYTES)), SdpError::TooLarge),
    ] {
        let got = parse(&offer).unwrap_err();
        assert_eq!(got, error, "{offer}");
        assert_eq!(got.sip_status(), 488);
    }
    assert!(matches!(parse("hello"), Err(SdpError::Malformed(_))));
    assert!(matches!(parse(""), Err(SdpError::Malformed(_))));
}

#[test]
fn types_match_by_rule() {
    for (list, content_type, accepted) in [
        ("*", "image/png", true),
        ("text/* message/cpim", "TEXT/html; charset=utf-8", true),
        ("text/* message/cpim", "Message/CPIM", true),
        ("text/*", "message/cpim", false),
        ("text/plain;charset=utf-8", "text/plain", true),
        ("", "text/plain", false),
        ("text/*", "text", false),
    ] {
        assert_eq!(AcceptTypes::parse(list).accepts(content_type), accepted, "{list} {content_type}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = MsrpDescription::parse(&bytes, true);
    }

    #[test]
    fn no_changed_offer_panics_and_what_is_read_can_be_answered(at in 0..400usize, with in "\\PC{0,6}|\r|\n|=|:|/", cut in 0..20usize) {
        let mut offer = offer_with("a=setup:actpass\na=max-size:5\nm=audio 5000/2 RTP/AVP 0");
        let at = at.min(offer.len());
        offer.replace_range(at..(at + cut).min(offer.len()), &with);
        if let Ok(read) = parse(&offer)
            && let Ok(ours) = answer(&read, &plain_local())
        {
            let again = MsrpDescription::parse(&ours.sdp, false).unwrap();
            prop_assert_eq!(again.media_index, read.media_index);
            prop_assert_eq!(again.other_media(), read.other_media());
        }
    }
}

#[test]
fn fingerprints_are_read_and_checked() {
    let written =
        "sha-256 BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD";
    let read: Fingerprint = written.parse().unwrap();
    assert_eq!((read.clone(), read.to_string().as_str()), (Fingerprint::sha256(b"abc"), written));
    assert_eq!(written.to_ascii_lowercase().parse(), Ok(read.clone()));
    assert!(read.matches(b"abc") && !read.matches(b"abd"));
    let other = Fingerprint { hash: HashFunction::Other("sha-1".to_owned()), ..read };
    assert!(!other.matches(b"abc"), "nothing is believed by a hash that is not known");
    for wrong in ["", "sha-256", "sha-256 ", "sha-256 AB", "sha-256 zz:11", "sha-1 A:BB", "sha-1 +1", "sha 1 AB", " : "]
    {
        assert_eq!(wrong.parse::<Fingerprint>(), Err(SdpError::Attribute("fingerprint")), "{wrong:?}");
    }
    let long = format!("sha-999 {}", vec!["AA"; 65].join(":"));
    assert!(long.parse::<Fingerprint>().is_err());
}

#[test]
fn our_fingerprints_are_told_where_we_encrypt_alone() {
    let fingerprints = vec![Fingerprint::sha256(b"ours"), Fingerprint::sha256(b"our next one")];
    for (uri, told) in [("msrps://192.0.2.1:2856/a;tcp", true), ("msrp://192.0.2.1:2855/a;tcp", false)] {
        let ours = LocalMedia { fingerprints: fingerprints.clone(), ..local(uri) };
        let read = MsrpDescription::parse(&make_offer(&ours), true).unwrap();
        assert_eq!((read.secure, read.fingerprints), (told, fingerprints.iter().filter(|_| told).cloned().collect()));
    }
}

proptest! {
    #[test]
    fn a_fingerprint_is_read_as_it_is_written(
        (hash, digest) in prop_oneof![
            (Just(HashFunction::Sha256), proptest::collection::vec(any::<u8>(), 32)),
            (Just(HashFunction::Sha384), proptest::collection::vec(any::<u8>(), 48)),
            (Just(HashFunction::Sha512), proptest::collection::vec(any::<u8>(), 64)),
            ("x[a-z0-9]{0,8}".prop_map(HashFunction::Other), proptest::collection::vec(any::<u8>(), 1..64)),
        ]
    ) {
        let fingerprint = Fingerprint { hash, digest };
        prop_assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    }

    #[test]
    fn no_fingerprint_panics(text in "\\PC{0,80}") {
        let _ = text.parse::<Fingerprint>();
    }
}
