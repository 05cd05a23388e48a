//! What RFC 5118 has to say about IPv6 references: its messages, section by section, for a user who is served here.

use std::net::{IpAddr, Ipv6Addr};

use restante_tests::{RawSip, Request, setting};
use restante_transport::Protocol;

/// RFC 5118 §4: what is sent, and what may be answered.
struct Case {
    section: &'static str,
    line: &'static str,
    /// Instead of the usual ones.
    fields: &'static [(&'static str, &'static str)],
    body: Option<&'static str>,
    expected: &'static [u16],
}

const USER: &str = "<sip:user@example.org>";
const IN_A_DIALOG: (&str, &str) = ("To", "<sip:user@example.org>;tag=bd76ya");
const ANY_CALLER: (&str, &str) = ("Contact", "\"Caller\" <sip:caller@[2001:db8::1]>");
/// A call is passed on and not for keeping, and nobody is there to take it.
const NO_CALL: &[u16] = &[480];

const CASES: &[Case] = &[
    Case { section: "4.1", line: "REGISTER sip:[2001:db8::10]", fields: &[ANY_CALLER], body: None, expected: &[200] },
    Case { section: "4.2", line: "REGISTER sip:2001:db8::10", fields: &[ANY_CALLER], body: None, expected: &[400] },
    Case {
        section: "4.3",
        line: "REGISTER sip:[2001:db8::10:5070]",
        fields: &[ANY_CALLER],
        body: None,
        expected: &[200],
    },
    Case {
        section: "4.4",
        line: "REGISTER sip:[2001:db8::10]:5070",
        fields: &[ANY_CALLER],
        body: None,
        expected: &[200],
    },
    Case {
        section: "4.5, with delimiters",
        line: "BYE sip:[2001:db8::10]",
        fields: &[IN_A_DIALOG, ("Via", "SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKd;rport")],
        body: None,
        expected: &[481],
    },
    Case {
        section: "4.5, without",
        line: "OPTIONS sip:user@example.org",
        fields: &[("Via", "SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKe;rport")],
        body: None,
        expected: &[200],
    },
    Case {
        section: "4.6",
        line: "INVITE sip:callee@example.org",
        fields: &[ANY_CALLER],
        body: Some(
            "o=assistant 971731711378798081 0 IN IP6 2001:db8::20\r\ns=Live video feed\r\nc=IN IP6 2001:db8::20\r\n\
                    t=0 0\r\nm=audio 6000 RTP/AVP 2\r\na=rtpmap:2 G726-32/8000\r\nm=video 6024 RTP/AVP 107\r\n\
                    a=rtpmap:107 H263-1998/90000\r\n",
        ),
        expected: NO_CALL,
    },
    Case {
        section: "4.7",
        line: "BYE sip:user@example.org",
        fields: &[
            IN_A_DIALOG,
            (
                "Via",
                "SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKf;rport, SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKg, \
                     SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bKh;received=192.0.2.200",
            ),
        ],
        body: None,
        expected: &[481],
    },
    Case {
        section: "4.8",
        line: "INVITE sip:callee@example.org",
        fields: &[ANY_CALLER],
        body: Some(
            "o=bob 280744730 28977631 IN IP4 host.example.com\r\ns=\r\nt=0 0\r\nm=audio 22334 RTP/AVP 0\r\n\
                    c=IN IP4 192.0.2.1\r\nm=video 6024 RTP/AVP 107\r\nc=IN IP6 2001:db8::1\r\na=rtpmap:107 H263-1998/90000\r\n",
        ),
        expected: NO_CALL,
    },
    Case {
        section: "4.9",
        line: "INVITE sip:callee@example.org",
        fields: &[
            ("Contact", "\"T. desk phone\" <sip:ted@[::ffff:192.0.2.2]>"),
            (
                "Via",
                "SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bKi;rport, SIP/2.0/UDP [::ffff:192.0.2.2];branch=z9hG4bKj",
            ),
        ],
        body: Some(
            "o=- 1 1 IN IP6 ::ffff:192.0.2.2\r\ns=-\r\nc=IN IP6 ::ffff:192.0.2.2\r\nt=0 0\r\nm=audio 3456 RTP/AVP 0\r\n",
        ),
        expected: NO_CALL,
    },
    // Three colons are an error of RFC 3261's grammar; who wrote them is answered, one way or the other.
    Case {
        section: "4.10, wrong",
        line: "OPTIONS sip:user@[2001:db8:::192.0.2.1]",
        fields: &[],
        body: None,
        expected: &[200, 400],
    },
    Case {
        section: "4.10, right",
        line: "OPTIONS sip:user@[2001:db8::192.0.2.1]",
        fields: &[],
        body: None,
        expected: &[200],
    },
];

fn request(socket: &RawSip, case: &Case) -> Request {
    let (method, uri) = case.line.split_once(' ').expect("a method and a URI");
    let request = socket.request(method, uri).set("To", USER).set("From", "<sip:user@example.org>;tag=81x2");
    let request = case.fields.iter().fold(request, |request, (name, value)| request.set(name, value));
    match case.body {
        Some(body) => request.body("application/sdp", format!("v=0\r\n{body}").into_bytes()),
        None => request,
    }
}

#[test]
fn each_message_of_rfc_5118_gets_what_it_deserves() {
    setting().ipv6().tell(async |world| {
        let mut wrong = Vec::new();
        for case in CASES {
            let mut socket = RawSip::udp(IpAddr::V6(Ipv6Addr::LOCALHOST), world.sip()).await;
            let request = request(&socket, case);
            let answer = socket.ask(&request).await;
            if !answer.status().is_some_and(|status| case.expected.contains(&status)) {
                wrong.push(format!("{}: {:?} instead of {:?}", case.section, answer.status(), case.expected));
            }
            let text = String::from_utf8_lossy(answer.bytes()).into_owned();
            match case.section {
                "4.1" => assert!(text.contains("<sip:caller@[2001:db8::1]>"), "{text}"),
                "4.7" => {
                    let places =
                        ["[2001:db8::9:1]:6050", "192.0.2.1;branch=z9hG4bKg", "[2001:db8::9:255];branch=z9hG4bKh"];
                    let places = places.map(|part| text.find(part).expect("every Via comes back"));
                    assert!(places.is_sorted(), "in their order: {text}");
                }
                _ => {}
            }
            // An answer goes to where the request came from, whatever `received` it had.
            if case.section.starts_with("4.5") {
                assert!(text.contains("received=::1") && !text.contains("9:255"), "{text}");
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        world.until_no_session().await;
    });
}

#[test]
fn a_message_comes_and_goes_over_tcp() {
    setting().ipv6().tell(async |world| {
        let mut alice = world.tcp().await;
        let mut bob = world.person_with("bob", |it| it.transport = Protocol::Tcp).await;
        let message = alice.request("MESSAGE", bob.address()).text("over TCP on ::1");
        let answer = alice.ask(&message).await;
        assert_eq!(answer.status(), Some(202));
        let via = answer.header_by_text("Via").expect("a Via");
        assert!(via.contains("received=::1"), "{via}");
        bob.register().await;
        let received = bob.received().await;
        assert_eq!(received.text(), Some("over TCP on ::1"));
        let via = received.sip_field("Via").expect("a Via").to_owned();
        assert!(via.starts_with("SIP/2.0/TCP [::1]:"), "{via}");
        world.until_settled().await;
    });
}
