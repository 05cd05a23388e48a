//! RFC 4975's own examples, word for word, read and told to a session. Where they count other bytes than they hold, that
//! is said.

use std::time::Instant;

use bytes::Bytes;
use restante_msrp::framing::{FailureReport, Frame, Framer, FramingLimits, ReportStatus};
use restante_msrp::sdp::{AcceptTypes, Direction, MsrpDescription, role_after_answer};
use restante_msrp::session::{Event, IncomingId, Role, Session, SessionConfiguration};
use restante_msrp::status::Status;

const ALICE: &str = "msrp://atlanta.example.com:7654/jshA7weztas;tcp";
const BOB: &str = "msrp://biloxi.example.com:12763/kjhd37s2s20w2a;tcp";

/// §4: what Alice says, and what Bob answers.
const SEND: &str = "\
MSRP a786hjs2 SEND
To-Path: msrp://biloxi.example.com:12763/kjhd37s2s20w2a;tcp
From-Path: msrp://atlanta.example.com:7654/jshA7weztas;tcp
Message-ID: 87652491
Byte-Range: 1-25/25
Content-Type: text/plain

Hey Bob, are you there?
-------a786hjs2$
";
const OK: &str = "\
MSRP a786hjs2 200 OK
To-Path: msrp://atlanta.example.com:7654/jshA7weztas;tcp
From-Path: msrp://biloxi.example.com:12763/kjhd37s2s20w2a;tcp
-------a786hjs2$
";

/// §5.1: a message in two chunks, the first of which was interrupted. The RFC leaves the paths out.
const CHUNKS: [(&str, &str); 2] = [
    (
        "MSRP dkei38sd SEND\n",
        "Message-ID: 4564dpWd
Byte-Range: 1-*/8
Content-Type: text/plain

abcd
-------dkei38sd+
",
    ),
    (
        "MSRP dkei38ia SEND\n",
        "Message-ID: 4564dpWd
Byte-Range: 5-8/8
Content-Type: text/plain

EFGH
-------dkei38ia$
",
    ),
];

/// §11.1: the descriptions of a session's two sides.
const OFFER: &str = "\
v=0
o=alice 2890844557 2890844559 IN IP4 alicepc.example.com
s= -
c=IN IP4 alicepc.example.com
t=0 0
m=message 7777 TCP/MSRP *
a=accept-types:text/plain
a=path:msrp://alicepc.example.com:7777/iau39soe2843z;tcp
";
const ANSWER: &str = "\
v=0
o=bob 2890844612 2890844616 IN IP4 bob.example.com
s= -
c=IN IP4 bob.example.com
t=0 0
m=message 8888 TCP/MSRP *
a=accept-types:text/plain
a=path:msrp://bob.example.com:8888/9di4eae923wzd;tcp
";

/// §11.1: what they say to each other.
const HI_BOB: [&str; 2] = [
    "\
MSRP d93kswow SEND
To-Path: msrp://bob.example.com:8888/9di4eae923wzd;tcp
From-Path: msrp://alicepc.example.com:7777/iau39soe2843z;tcp
Message-ID: 12339sdqwer
Byte-Range: 1-16/16
Content-Type: text/plain

Hi, I'm Alice!
-------d93kswow$
",
    "\
MSRP d93kswow 200 OK
To-Path: msrp://alicepc.example.com:7777/iau39soe2843z;tcp
From-Path: msrp://bob.example.com:8888/9di4eae923wzd;tcp
-------d93kswow$
",
];
const HI_ALICE: [&str; 2] = [
    "\
MSRP dkei38sd SEND
To-Path: msrp://alicepc.example.com:7777/iau39soe2843z;tcp
From-Path: msrp://bob.example.com:8888/9di4eae923wzd;tcp
Message-ID: 456s9wlk3
Byte-Range: 1-21/21
Content-Type: text/plain

Hi, Alice!  I'm Bob!
-------dkei38sd$
",
    "\
MSRP dkei38sd 200 OK
To-Path: msrp://bob.example.com:8888/9di4eae923wzd;tcp
From-Path: msrp://alicepc.example.com:7777/iau39soe2843z;tcp
-------dkei38sd$
",
];

/// §11.2
const XHTML: &str = "\
MSRP dsdfoe38sd SEND
To-Path: msrp://alice.example.com:7777/iau39soe2843z;tcp
From-Path: msrp://bob.example.com:8888/9di4eae923wzd;tcp
Message-ID: 456so39s
Byte-Range: 1-374/374
Content-Type: application/xhtml+xml

<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE html
PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\"
\"_http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd_\">
<html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">
  <head>
    <title>FY2005 Results</title>
</head>
  <body>
   <p>See the results at <a
href=\"http://example.org/\">example.org</a>.</p>
  </body>
</html>
-------dsdfoe38sd$
";

/// §11.4: a message/cpim in two chunks. Between its two blocks of header fields the RFC leaves out the empty line that
/// RFC 3862 §2 wants, and counts as it stands there.
const CPIM: [&str; 2] = [
    "\
MSRP d93kswow SEND
To-Path: msrp://bobpc.example.com:8888/9di4eae923wzd;tcp
From-Path: msrp://alicepc.example.com:7654/iau39soe2843z;tcp
Message-ID: 12339sdqwer
Byte-Range: 1-137/148
Content-Type: message/cpim

To: Bob <sip:bob@example.com>
From: Alice <sip:alice@example.com>
DateTime: 2006-05-15T15:02:31-03:00
Content-Type: text/plain

ABCD
-------d93kswow+
",
    "\
MSRP op2nc9a SEND
To-Path: msrp://bobpc.example.com:8888/9di4eae923wzd;tcp
From-Path: msrp://alicepc.example.com:7654/iau39soe2843z;tcp
Message-ID: 12339sdqwer
Byte-Range: 138-148/148
Content-Type: message/cpim

1234567890
-------op2nc9a$
",
];

/// §11.5
const SYSTEM: &str = "\
MSRP d93kswow SEND
To-Path: msrp://alicepc.example.com:8888/9di4eae923wzd;tcp
From-Path: msrp://example.com:7777/iau39soe2843z;tcp
Message-ID: 12339sdqwer
Byte-Range: 1-38/38
Failure-Report: no
Success-Report: no
Content-Type: text/plain

This conference will end in 5 minutes
-------d93kswow$
";

/// §11.6: a message that asks for a report, and the report.
const LINK: &str = "\
MSRP d93kswow SEND
To-Path: msrp://bob.example.com:8888/9di4eae923wzd;tcp
From-Path: msrp://alicepc.example.com:7777/iau39soe2843z;tcp
Message-ID: 12339sdqwer
Byte-Range: 1-106/106
Success-Report: yes
Failure-Report: no
Content-Type: text/html

<html><body>
<p>Here is that important link...
<a href=\"http://www.example.com/foobar\">foobar</a>
</p>
</body></html>
-------d93kswow$
";
const REPORT: &str = "\
MSRP dkei38sd REPORT
To-Path: msrp://alicepc.example.com:7777/iau39soe2843z;tcp
From-Path: msrp://bob.example.com:8888/9di4eae923wzd;tcp
Message-ID: 12339sdqwer
Byte-Range: 1-106/106
Status: 000 200 OK
-------dkei38sd$
";

/// With line ends as on the wire.
fn wire(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// What the framer makes of it.
fn frames(text: &str) -> Vec<Frame> {
    let mut framer = Framer::new(FramingLimits::default());
    framer.push(Bytes::from(wire(text)));
    std::iter::from_fn(|| framer.next_frame().expect("frames")).collect()
}

/// A session's side that reads.
struct Reader {
    session: Session,
    now: Instant,
    content: Vec<u8>,
}

impl Reader {
    /// Bob, of §4.
    fn bob() -> Reader {
        Reader::between(BOB, ALICE)
    }

    /// Whom a request is for.
    fn of(request: &str) -> Reader {
        let path = |name: &str| request.lines().find_map(|line| line.strip_prefix(name)).expect("a path");
        Reader::between(path("To-Path: "), path("From-Path: "))
    }

    fn between(own: &str, peer: &str) -> Reader {
        let now = Instant::now();
        let path = peer.parse::<restante_msrp::uri::MsrpPath>().unwrap();
        let configuration = SessionConfiguration::new(Role::Passive, own.parse().unwrap(), path);
        let mut session = Session::new(now, configuration, [7; 16]);
        session.connected(now).unwrap();
        Reader { session, now, content: Vec::new() }
    }

    /// The message that is whole after this.
    fn hears(&mut self, text: &str) -> Option<(IncomingId, u64)> {
        self.session.receive(self.now, Bytes::from(wire(text)));
        let mut whole = None;
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::IncomingData { offset, bytes, .. } => {
                    assert_eq!(offset, self.content.len() as u64);
                    self.content.extend_from_slice(&bytes);
                }
                Event::IncomingComplete { message, total_bytes } => whole = Some((message, total_bytes)),
                Event::Bound | Event::IncomingMessage { .. } | Event::IncomingAborted { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        whole
    }

    /// What it says, in lines as the RFC's.
    fn says(&mut self) -> String {
        let pieces: Vec<Bytes> = std::iter::from_fn(|| self.session.poll_transmit(self.now)).collect();
        String::from_utf8(pieces.concat()).unwrap().replace("\r\n", "\n")
    }
}

#[test]
fn all_examples_are_read_one_after_the_other() {
    let said = |frame: Frame| match frame {
        Frame::Request(head) => format!("{} {}", head.transaction_id.as_str(), head.method.as_str()),
        Frame::Content(bytes) => format!("{} bytes", bytes.len()),
        Frame::End(flag) => char::from(flag.as_byte()).to_string(),
        Frame::Response(response) => format!("{} {}", response.status, response.comment),
        Frame::BadRequest(_) => "bad".to_owned(),
    };
    for (name, text, expected) in [
        ("4", [SEND, OK].concat(), &["a786hjs2 SEND", "23 bytes", "$", "200 OK"][..]),
        ("11.1", HI_BOB.concat(), &["d93kswow SEND", "14 bytes", "$", "200 OK"]),
        ("11.1", HI_ALICE.concat(), &["dkei38sd SEND", "20 bytes", "$", "200 OK"]),
        ("11.2", XHTML.to_owned(), &["dsdfoe38sd SEND", "384 bytes", "$"]),
        ("11.4", CPIM.concat(), &["d93kswow SEND", "137 bytes", "+", "op2nc9a SEND", "10 bytes", "$"]),
        ("11.5", SYSTEM.to_owned(), &["d93kswow SEND", "37 bytes", "$"]),
        ("11.6", [LINK, REPORT].concat(), &["d93kswow SEND", "121 bytes", "$", "dkei38sd REPORT", "$"]),
    ] {
        let kinds: Vec<String> = frames(&text).into_iter().map(said).collect();
        assert_eq!(kinds, expected, "{name}");
    }
    let frames = frames(&[LINK, REPORT].concat());
    let (Frame::Request(link), Frame::Request(report)) = (&frames[0], &frames[3]) else { panic!("{frames:?}") };
    assert!(link.success_report);
    assert_eq!((link.failure_report, link.content_type.as_deref()), (FailureReport::No, Some("text/html")));
    assert_eq!(report.status, Some(ReportStatus { namespace: 0, status: Status::OK }));
    assert_eq!(report.byte_range.unwrap().to_string(), "1-106/106");
}

#[test]
fn the_descriptions_of_section_11_1_have_the_offerer_connect() {
    let [offer, answer] = [OFFER, ANSWER].map(|text| MsrpDescription::parse(wire(text).as_bytes(), false).unwrap());
    assert_eq!(offer.path.to_string(), "msrp://alicepc.example.com:7777/iau39soe2843z;tcp");
    assert_eq!(answer.path.to_string(), "msrp://bob.example.com:8888/9di4eae923wzd;tcp");
    for description in [&offer, &answer] {
        assert_eq!(description.accept_types, AcceptTypes::parse("text/plain"));
        assert_eq!((description.setup, description.direction), (None, Direction::SendReceive));
    }
    assert_eq!(role_after_answer(&answer), Ok(Role::Active));
}

#[test]
fn the_exchange_of_section_4_is_answered_as_it_stands_there() {
    let mut bob = Reader::bob();
    // It says 25 bytes and has 23: its CRLF is counted.
    let (message, length) = bob.hears(SEND).expect("a whole message");
    assert_eq!((bob.content.as_slice(), length), (&b"Hey Bob, are you there?"[..], 23));
    assert_eq!(bob.says(), "", "not before the commit");
    bob.session.accept(bob.now, message).unwrap();
    assert_eq!(bob.says(), OK);
}

#[test]
fn alices_message_of_section_11_1_is_answered_as_it_stands_there() {
    let mut bob = Reader::of(HI_BOB[0]);
    // 16 bytes and 14: the same.
    let (message, _) = bob.hears(HI_BOB[0]).expect("a whole message");
    assert_eq!(bob.content, b"Hi, I'm Alice!");
    bob.session.accept(bob.now, message).unwrap();
    assert_eq!(bob.says(), HI_BOB[1]);
}

#[test]
fn examples_that_count_other_bytes_than_they_hold_are_no_whole_messages() {
    // Of the last two no failure is to be told.
    for (chunks, status) in [
        (&HI_ALICE[..1], Some(" 400 ")),
        (&[XHTML], Some(" 423 ")),
        (&CPIM, Some(" 400 ")),
        (&[SYSTEM], None),
        (&[LINK], None),
    ] {
        let mut reader = Reader::of(chunks[0]);
        let whole = chunks.iter().filter_map(|chunk| reader.hears(chunk)).count();
        let said = reader.says();
        assert_eq!(whole, 0, "{chunks:?}");
        match status {
            Some(status) => assert!(said.contains(status), "{chunks:?}: {said:?}"),
            None => assert_eq!(said, "", "{chunks:?}"),
        }
    }
}

#[test]
fn they_are_whole_where_they_count_what_they_hold() {
    let mut alice = Reader::of(HI_ALICE[0]);
    let (message, _) = alice.hears(&HI_ALICE[0].replace("1-21/21", "1-20/20")).expect("a whole message");
    alice.session.accept(alice.now, message).unwrap();
    assert_eq!(alice.says(), HI_ALICE[1]);
    let mut alice = Reader::of(XHTML);
    assert!(alice.hears(&XHTML.replace("374", "384")).is_some());
    assert!(alice.content.ends_with(b"</body>\r\n</html>"));
    let mut bob = Reader::of(CPIM[0]);
    assert!(bob.hears(&CPIM[0].replace("/148", "/147")).is_none());
    assert!(bob.hears(&CPIM[1].replace("138-148/148", "138-147/147")).is_some());
    assert!(bob.content.ends_with(b"Content-Type: text/plain\r\n\r\nABCD1234567890"));
    let mut alice = Reader::of(SYSTEM);
    let (message, _) = alice.hears(&SYSTEM.replace("38/38", "37/37")).expect("a whole message");
    alice.session.accept(alice.now, message).unwrap();
    assert_eq!(alice.says(), "", "nothing is to be told of it");
}

#[test]
fn nothing_else_that_is_missing_is_taken_for_a_crlf() {
    for wrong in [
        SEND.replace("1-25/25", "1-26/26"),
        SEND.replace("1-25/25", "1-24/24"),
        SEND.replace("1-25/25", "1-*/26"),
        SEND.replace("1-25/25", "1-25/50"),
        SEND.replace("1-25/25", "3-27/27"),
        SEND.replace("hjs2$", "hjs2+"),
    ] {
        let mut bob = Reader::bob();
        bob.session.receive(bob.now, Bytes::from(wire(&wrong)));
        let is_whole = |event: Event| matches!(event, Event::IncomingComplete { .. });
        assert!(!std::iter::from_fn(|| bob.session.poll_event()).any(is_whole), "{wrong}");
    }
}

#[test]
fn the_chunks_of_section_5_1_make_their_message() {
    let mut bob = Reader::bob();
    let request = |(start, rest): (&str, &str)| format!("{start}To-Path: {BOB}\nFrom-Path: {ALICE}\n{rest}");
    let answer = |id: &str| OK.replace("a786hjs2", id);
    assert_eq!(bob.hears(&request(CHUNKS[0])), None);
    assert_eq!(bob.says(), answer("dkei38sd"));
    let (message, length) = bob.hears(&request(CHUNKS[1])).expect("a whole message");
    assert_eq!((bob.content.as_slice(), length), (&b"abcdEFGH"[..], 8));
    bob.session.accept(bob.now, message).unwrap();
    assert_eq!(bob.says(), answer("dkei38ia"));
}

#[test]
fn a_message_that_asks_for_a_report_gets_that_of_section_11_6() {
    let mut bob = Reader::of(LINK);
    let (message, _) = bob.hears(&LINK.replace("106", "121")).expect("a whole message");
    bob.session.accept(bob.now, message).unwrap();
    let said = bob.says();
    let id = said.split(' ').nth(1).expect("a transaction").to_owned();
    // But for the number of bytes, and the transaction, which is the session's own.
    assert_eq!(said, REPORT.replace("106", "121").replace("dkei38sd", &id));
}
