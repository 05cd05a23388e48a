//! RFC 4975's own examples, told to a session as they stand there. What is shown is what others quote of it: §4 and §5.1
//! whole, and of §11 what is in `framing.rs`.

use std::time::Instant;

use bytes::Bytes;
use restante_msrp::session::{Event, IncomingId, Role, Session, SessionConfiguration};

const ALICE: &str = "msrp://atlanta.example.com:7654/jshA7weztas;tcp";
const BOB: &str = "msrp://biloxi.example.com:12763/kjhd37s2s20w2a;tcp";

/// §4: what Alice says, and what Bob answers.
const SEND: &str = "MSRP a786hjs2 SEND\r\n\
    To-Path: msrp://biloxi.example.com:12763/kjhd37s2s20w2a;tcp\r\n\
    From-Path: msrp://atlanta.example.com:7654/jshA7weztas;tcp\r\n\
    Message-ID: 87652491\r\n\
    Byte-Range: 1-25/25\r\n\
    Content-Type: text/plain\r\n\
    \r\n\
    Hey Bob, are you there?\r\n\
    -------a786hjs2$\r\n";
const OK: &str = "MSRP a786hjs2 200 OK\r\n\
    To-Path: msrp://atlanta.example.com:7654/jshA7weztas;tcp\r\n\
    From-Path: msrp://biloxi.example.com:12763/kjhd37s2s20w2a;tcp\r\n\
    -------a786hjs2$\r\n";

/// §5.1: a message in two chunks, the first of which was interrupted. The RFC leaves the paths out.
const CHUNKS: [(&str, &str); 2] = [
    (
        "dkei38sd",
        "Message-ID: 4564dpWd\r\nByte-Range: 1-*/8\r\nContent-Type: text/plain\r\n\r\nabcd\r\n-------dkei38sd+\r\n",
    ),
    (
        "dkei38ia",
        "Message-ID: 4564dpWd\r\nByte-Range: 5-8/8\r\nContent-Type: text/plain\r\n\r\nEFGH\r\n-------dkei38ia$\r\n",
    ),
];

struct Bob {
    session: Session,
    now: Instant,
    content: Vec<u8>,
}

impl Bob {
    fn new() -> Bob {
        let now = Instant::now();
        let path = ALICE.parse::<restante_msrp::uri::MsrpPath>().unwrap();
        let configuration = SessionConfiguration::new(Role::Passive, BOB.parse().unwrap(), path);
        let mut session = Session::new(now, configuration, [7; 16]);
        session.connected(now).unwrap();
        Bob { session, now, content: Vec::new() }
    }

    /// The message that is whole after this.
    fn hears(&mut self, text: &str) -> Option<(IncomingId, u64)> {
        self.session.receive(self.now, Bytes::copy_from_slice(text.as_bytes()));
        let mut whole = None;
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::IncomingData { offset, bytes, .. } => {
                    assert_eq!(offset, self.content.len() as u64);
                    self.content.extend_from_slice(&bytes);
                }
                Event::IncomingComplete { message, total_bytes } => whole = Some((message, total_bytes)),
                Event::Bound | Event::IncomingMessage { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        whole
    }

    fn says(&mut self) -> String {
        let pieces: Vec<Bytes> = std::iter::from_fn(|| self.session.poll_transmit(self.now)).collect();
        String::from_utf8(pieces.concat()).unwrap()
    }
}

#[test]
fn the_exchange_of_section_4_is_answered_as_it_stands_there() {
    let mut bob = Bob::new();
    // It says 25 bytes and has 23: its CRLF is counted.
    let (message, length) = bob.hears(SEND).expect("a whole message");
    assert_eq!((bob.content.as_slice(), length), (&b"Hey Bob, are you there?"[..], 23));
    assert_eq!(bob.says(), "", "not before the commit");
    bob.session.accept(bob.now, message).unwrap();
    assert_eq!(bob.says(), OK);
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
        let mut session = Bob::new();
        session.session.receive(session.now, Bytes::from(wrong.clone()));
        let is_whole = |event: Event| matches!(event, Event::IncomingComplete { .. });
        assert!(!std::iter::from_fn(|| session.session.poll_event()).any(is_whole), "{wrong}");
    }
}

#[test]
fn the_chunks_of_section_5_1_make_their_message() {
    let mut bob = Bob::new();
    let request =
        |(id, rest): (&str, &str)| format!("MSRP {id} SEND\r\nTo-Path: {BOB}\r\nFrom-Path: {ALICE}\r\n{rest}");
    let answer = |id: &str| OK.replace("a786hjs2", id);
    assert_eq!(bob.hears(&request(CHUNKS[0])), None);
    assert_eq!(bob.says(), answer("dkei38sd"));
    let (message, length) = bob.hears(&request(CHUNKS[1])).expect("a whole message");
    assert_eq!((bob.content.as_slice(), length), (&b"abcdEFGH"[..], 8));
    bob.session.accept(bob.now, message).unwrap();
    assert_eq!(bob.says(), answer("dkei38ia"));
}

#[test]
fn a_message_that_asks_for_reports_gets_the_report_of_section_11() {
    let mut bob = Bob::new();
    let html = "<html><body>\r\n<p>Here is that important link...\r\n\
                <a href=\"http://www.example.com/foobar\">foobar</a>\r\n</p>\r\n</body></html>";
    let length = html.len();
    let (message, _) = bob
        .hears(&format!(
            "MSRP d93kswow SEND\r\nTo-Path: {BOB}\r\nFrom-Path: {ALICE}\r\nMessage-ID: 12339sdqwer\r\n\
             Byte-Range: 1-{length}/{length}\r\nSuccess-Report: yes\r\nFailure-Report: no\r\nContent-Type: text/html\r\n\
             \r\n{html}\r\n-------d93kswow$\r\n"
        ))
        .expect("a whole message");
    bob.session.accept(bob.now, message).unwrap();
    let said = bob.says();
    let id = said.split(' ').nth(1).expect("a transaction").to_owned();
    // As in the RFC, but for the names, the number of bytes and the transaction, which are the session's own.
    let expected = format!(
        "MSRP {id} REPORT\r\nTo-Path: {ALICE}\r\nFrom-Path: {BOB}\r\nMessage-ID: 12339sdqwer\r\n\
         Byte-Range: 1-{length}/{length}\r\nStatus: 000 200 OK\r\n-------{id}$\r\n"
    );
    assert_eq!(said, expected);
}
