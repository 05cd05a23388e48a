//! The relay's side of AUTH, and what it passes on.

#[path = "relaying/legs.rs"]
mod legs;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use restante_msrp::framing::{ContinuationFlag, Frame, Framer, FramingLimits, RequestHead, Response};
use restante_msrp::relay::{LegId, Output, RelayLimits, RelayedClient};
use restante_msrp::status::Status;
use restante_msrp::uri::{MAX_PATH_URIS, MsrpUri};

const RELAY: &str = "msrps://relay.example.org:443;ws";
const SESSION: &str = "msrp://relay.example.org:2855/r00;tcp";
const CLIENT: &str = "msrps://df7jal23ls0d.invalid:2855/98cjs;ws";
const PEER: &str = "msrp://192.0.2.9:2855/peer;tcp";

struct Story {
    relay: RelayedClient,
    now: Instant,
    /// Frames that were written to each leg; none is written while the peers take nothing.
    frames: BTreeMap<LegId, u64>,
    is_stuck: bool,
}

/// A frame that was written, with its content.
#[derive(Debug)]
enum Written {
    Request(LegId, Box<RequestHead>, Vec<u8>, ContinuationFlag),
    Response(LegId, Box<Response>),
    Connect(LegId, MsrpUri),
    Close(LegId),
    Authenticate,
    Expired,
}

fn story() -> Story {
    let relay = RelayedClient::new(RelayLimits::default(), [9; 16]);
    Story { relay, now: Instant::now(), frames: BTreeMap::new(), is_stuck: false }
}

/// One that has a session.
fn granted() -> Story {
    let mut story = story();
    story.says(LegId::CLIENT, &auth("Expires: 600\r\n"));
    let Some(Output::Authenticate(request)) = story.relay.poll_output() else { panic!("no question") };
    assert!(story.relay.grant(story.now, &request, SESSION.parse().unwrap(), None));
    let [Written::Response(LegId::CLIENT, said)] = &story.written()[..] else { panic!("no answer") };
    assert_eq!((said.status, said.to_path.to_string().as_str()), (Status::OK, CLIENT));
    let fields: Vec<_> = said.other_headers.iter().map(|it| format!("{}: {}", it.name, it.value)).collect();
    assert_eq!(fields, [format!("Use-Path: {SESSION}"), "Expires: 600".to_owned()]);
    story
}

fn auth(fields: &str) -> String {
    format!("MSRP auth1 AUTH\r\nTo-Path: {RELAY}\r\nFrom-Path: {CLIENT}\r\n{fields}-------auth1$\r\n")
}

fn send(id: &str, to: &str, from: &str, fields: &str, content: &str, flag: char) -> String {
    let body =
        if content.is_empty() { String::new() } else { format!("Content-Type: text/plain\r\n\r\n{content}\r\n") };
    format!(
        "MSRP {id} SEND\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\nMessage-ID: m1\r\n{fields}{body}-------{id}{flag}\r\n"
    )
}

impl Story {
    fn says(&mut self, leg: LegId, text: &str) {
        self.relay.receive(self.now, leg, Bytes::from(text.as_bytes().to_vec())).expect("MSRP");
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.relay.handle_wake(self.now);
    }

    fn written(&mut self) -> Vec<Written> {
        let mut all = Vec::new();
        while let Some(output) = self.relay.poll_output() {
            match output {
                Output::Write(leg, bytes) => {
                    *self.frames.entry(leg).or_default() += 1;
                    all.push(read(leg, bytes));
                }
                Output::Connect(leg, uri) => all.push(Written::Connect(leg, uri)),
                Output::Close(leg) => all.push(Written::Close(leg)),
                Output::Authenticate(_) => all.push(Written::Authenticate),
                Output::Expired => all.push(Written::Expired),
            }
        }
        if !self.is_stuck {
            self.frames.iter().for_each(|(leg, frames)| self.relay.written(self.now, *leg, *frames));
        }
        all
    }

    /// The client sends to the peer; the leg, the chunk that went there, and the rest.
    fn sends_to_peer(&mut self, fields: &str, content: &str) -> (LegId, RequestHead) {
        self.says(LegId::CLIENT, &send("a1", &format!("{SESSION} {PEER}"), CLIENT, fields, content, '$'));
        let written = self.written();
        let found = written.iter().find_map(|it| match it {
            Written::Request(leg, head, ..) => Some((*leg, (**head).clone())),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("nothing was passed on: {written:?}"))
    }

    fn answers(&mut self, leg: LegId, to: &RequestHead, status: u16) {
        let id = to.transaction_id.as_str();
        let (back, from) = (to.from_path.first(), to.to_path.first());
        self.says(leg, &format!("MSRP {id} {status}\r\nTo-Path: {back}\r\nFrom-Path: {from}\r\n-------{id}$\r\n"));
    }
}

fn read(leg: LegId, bytes: Bytes) -> Written {
    let mut framer = Framer::new(FramingLimits::default());
    framer.push(bytes);
    match framer.next_frame().unwrap() {
        Some(Frame::Response(response)) => Written::Response(leg, response),
        Some(Frame::Request(head)) => {
            let mut content = Vec::new();
            loop {
                match framer.next_frame().unwrap() {
                    Some(Frame::Content(bytes)) => content.extend_from_slice(&bytes),
                    Some(Frame::End(flag)) => return Written::Request(leg, head, content, flag),
                    other => panic!("not a whole frame: {other:?}"),
                }
            }
        }
        other => panic!("no frame: {other:?}"),
    }
}

#[test]
fn auth_is_answered_as_the_host_says() {
    let mut story = story();
    story.says(LegId::CLIENT, &auth("Authorization: Digest it\r\n"));
    let Some(Output::Authenticate(request)) = story.relay.poll_output() else { panic!("no question") };
    assert_eq!(request.authorizations().collect::<Vec<_>>(), ["Digest it"]);
    assert_eq!(request.uri().to_string(), RELAY);
    story.relay.challenge(&request, vec!["Digest a".to_owned(), "Digest b".to_owned()]);
    let [Written::Response(_, said)] = &story.written()[..] else { panic!("no answer") };
    assert_eq!((said.status.code(), said.other_headers.len()), (401, 2));
    story.relay.refuse(&request, Status::FORBIDDEN);
    let [Written::Response(_, said)] = &story.written()[..] else { panic!("no answer") };
    assert_eq!(said.status.code(), 403);
    story.says(LegId::CLIENT, &auth("Expires: 5\r\n"));
    let Some(Output::Authenticate(request)) = story.relay.poll_output() else { panic!("no question") };
    assert!(!story.relay.grant(story.now, &request, SESSION.parse().unwrap(), None));
    let [Written::Response(_, said)] = &story.written()[..] else { panic!("no answer") };
    assert_eq!((said.status.code(), said.other_headers[0].value.as_str()), (423, "60"));
}

#[test]
fn a_session_is_renewed_under_its_uri_and_ends() {
    let mut story = granted();
    story.pass(500);
    story.says(LegId::CLIENT, &auth("Expires: 600\r\n"));
    let Some(Output::Authenticate(request)) = story.relay.poll_output() else { panic!("no question") };
    assert!(!story.relay.grant(story.now, &request, PEER.parse().unwrap(), None), "it is the one it had");
    let [Written::Response(_, said)] = &story.written()[..] else { panic!("no answer") };
    assert_eq!(said.other_headers[0].value, SESSION);
    story.pass(599);
    assert!(story.written().is_empty());
    story.pass(1);
    assert!(matches!(&story.written()[..], [Written::Expired]));
    story.says(LegId::CLIENT, &send("a1", &format!("{SESSION} {PEER}"), CLIENT, "", "late", '$'));
    let [Written::Response(_, said)] = &story.written()[..] else { panic!("no answer") };
    assert_eq!(said.status, Status::NO_SUCH_SESSION);
}

#[test]
fn a_shorter_renewal_takes_nothing_of_what_was_promised() {
    let mut story = granted();
    story.says(LegId::CLIENT, &auth("Expires: 60\r\n"));
    let Some(Output::Authenticate(request)) = story.relay.poll_output() else { panic!("no question") };
    let info = "qop=auth, rspauth=\"1\"";
    story.relay.grant(story.now, &request, SESSION.parse().unwrap(), Some(info.to_owned()));
    let [Written::Response(_, said)] = &story.written()[..] else { panic!("no answer") };
    let shown = said.other_headers.iter().find(|it| it.name == "Authentication-Info");
    assert_eq!(shown.map(|it| it.value.as_str()), Some(info));
    story.pass(61);
    assert!(story.written().is_empty());
    story.sends_to_peer("", "still here");
    story.pass(539);
    assert!(story.written().iter().any(|it| matches!(it, Written::Expired)));
}

#[test]
fn what_the_client_sends_goes_on_with_our_uri_in_from_path() {
    let mut story = granted();
    story.says(LegId::CLIENT, &send("a1", &format!("{SESSION} {PEER}"), CLIENT, "Byte-Range: 1-5/5\r\n", "hello", '$'));
    let written = story.written();
    let [Written::Connect(leg, uri), Written::Request(to, head, content, flag), Written::Response(back, said)] =
        &written[..]
    else {
        panic!("{written:?}")
    };
    assert_eq!((uri.to_string().as_str(), to), (PEER, leg));
    assert_eq!(
        (head.to_path.to_string(), head.from_path.to_string()),
        (PEER.to_owned(), format!("{SESSION} {CLIENT}"))
    );
    assert_eq!((&content[..], *flag), (&b"hello"[..], ContinuationFlag::Complete));
    assert_eq!(head.byte_range.unwrap().to_string(), "1-5/5");
    assert_ne!(head.transaction_id.as_str(), "a1", "each hop has its own");
    assert_eq!((*back, said.transaction_id.as_str(), said.status), (LegId::CLIENT, "a1", Status::OK));
    assert_eq!((said.to_path.to_string(), said.from_path.to_string()), (CLIENT.to_owned(), SESSION.to_owned()));
    // The next one takes the same leg, and the peer's goes back on it.
    let leg = *leg;
    assert_eq!(story.sends_to_peer("", "again").0, leg);
    story.says(leg, &send("p1", &format!("{SESSION} {CLIENT}"), PEER, "", "hi", '$'));
    let written = story.written();
    let [Written::Request(LegId::CLIENT, head, ..), Written::Response(back, _)] = &written[..] else {
        panic!("{written:?}")
    };
    assert_eq!(
        (head.to_path.to_string(), head.from_path.to_string()),
        (CLIENT.to_owned(), format!("{SESSION} {PEER}"))
    );
    assert_eq!(*back, leg);
}

#[test]
fn who_connects_for_the_session_is_answered_on_that_connection() {
    let mut story = granted();
    let leg = story.relay.accept_leg(story.now).unwrap();
    story.says(leg, &send("p1", &format!("{SESSION} {CLIENT}"), PEER, "", "", '$'));
    let written = story.written();
    let [Written::Request(LegId::CLIENT, head, content, _), Written::Response(..)] = &written[..] else {
        panic!("{written:?}")
    };
    assert!(content.is_empty() && head.content_type.is_none(), "what binds has no content");
    assert_eq!(story.sends_to_peer("", "answer").0, leg);
    // A second peer behind the same connection.
    let second = PEER.replace("/peer", "/second");
    story.says(leg, &send("p2", &format!("{SESSION} {CLIENT}"), &second, "", "hi", '$'));
    story.written();
    let (to_peer, to_second) = (format!("{SESSION} {PEER}"), format!("{SESSION} {second}"));
    let reported = |story: &mut Story, to: &str| {
        story.says(LegId::CLIENT, &send("r1", to, CLIENT, "Status: 000 200 OK\r\n", "", '$').replace("SEND", "REPORT"));
        match &story.written()[..] {
            [Written::Request(leg, head, ..)] if head.method.as_str() == "REPORT" => *leg,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((reported(&mut story, &to_peer), reported(&mut story, &to_second)), (leg, leg));
    // The peer connects again, while its old connection is not known to be lost.
    let again = story.relay.accept_leg(story.now).unwrap();
    story.says(again, &send("p3", &format!("{SESSION} {CLIENT}"), PEER, "", "", '$'));
    story.written();
    assert_eq!((reported(&mut story, &to_peer), reported(&mut story, &to_second)), (again, leg));
    assert_eq!(story.sends_to_peer("", "answer").0, again);
}

#[test]
fn nobody_takes_the_name_of_a_host_that_we_connected_to() {
    let mut story = granted();
    let (ours, _) = story.sends_to_peer("", "hello");
    let stranger = story.relay.accept_leg(story.now).unwrap();
    story.says(stranger, &send("p1", &format!("{SESSION} {CLIENT}"), PEER, "", "", '$'));
    story.written();
    assert_eq!(story.sends_to_peer("", "answer").0, ours);
}

#[test]
fn a_report_for_a_peer_that_is_gone_goes_to_a_connection_of_its_own() {
    let mut story = granted();
    let report = send("r1", &format!("{SESSION} {PEER}"), CLIENT, "Status: 000 200 OK\r\n", "", '$');
    story.says(LegId::CLIENT, &report.replace("SEND", "REPORT"));
    let written = story.written();
    let [Written::Connect(leg, uri), Written::Request(to, head, ..)] = &written[..] else { panic!("{written:?}") };
    assert_eq!((uri.to_string().as_str(), to, head.method.as_str()), (PEER, leg, "REPORT"));
}

#[test]
fn an_answer_is_awaited_from_when_its_chunk_was_written() {
    let mut story = granted();
    story.is_stuck = true;
    let (leg, _) = story.sends_to_peer("", "hello");
    story.pass(60);
    assert!(story.written().is_empty(), "it waits for a peer that is slow, and is not lost");
    story.relay.written(story.now, leg, 1);
    story.pass(29);
    assert!(story.written().is_empty());
    story.pass(1);
    let [Written::Request(_, head, ..)] = &story.written()[..] else { panic!("no report") };
    assert_eq!(head.status.as_ref().unwrap().status, Status::TIMED_OUT);
}

#[test]
fn a_leg_that_is_lost_in_the_middle_of_a_chunk_is_reported_at_once() {
    for (fields, is_reported) in [("", true), ("Failure-Report: partial\r\n", true), ("Failure-Report: no\r\n", false)]
    {
        let mut story = granted();
        let range = format!("{fields}Byte-Range: 1-*/90000\r\n");
        let text = send("a1", &format!("{SESSION} {PEER}"), CLIENT, &range, &"x".repeat(60_000), '+');
        let (begun, rest) = text.split_at(35_000);
        story.says(LegId::CLIENT, begun);
        let written = story.written();
        let mut passed = written.iter().filter_map(|it| match it {
            Written::Request(leg, head, ..) => Some((*leg, (**head).clone())),
            _ => None,
        });
        let passed: Vec<(LegId, RequestHead)> = passed.by_ref().collect();
        let leg = passed[0].0;
        // Whatever went there is answered: only what did not go yet is left.
        passed.iter().for_each(|(leg, head)| story.answers(*leg, head, 200));
        story.relay.leg_lost(leg, Status::TIMED_OUT);
        let written = story.written();
        let reported: Vec<_> = written
            .iter()
            .map(|it| match it {
                Written::Request(LegId::CLIENT, head, ..) => head.byte_range.unwrap().start,
                other => panic!("{other:?}"),
            })
            .collect();
        let begins_at = passed.last().unwrap().1.byte_range.unwrap().end.unwrap() + 1;
        assert_eq!(reported, if is_reported { vec![begins_at] } else { Vec::new() }, "{fields:?}");
        story.says(LegId::CLIENT, rest);
        let to_the_lost = |it: &Written| matches!(it, Written::Request(..) | Written::Connect(..));
        assert!(!story.written().iter().any(to_the_lost), "nothing more goes there");
    }
}

#[test]
fn a_large_chunk_goes_on_in_pieces_that_make_the_same_message() {
    let mut story = granted();
    let content: String = (0..50_000).map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap())).collect();
    let text = send("a1", &format!("{SESSION} {PEER}"), CLIENT, "Byte-Range: 101-*/90000\r\n", &content, '+');
    for piece in text.as_bytes().chunks(7_000) {
        story.relay.receive(story.now, LegId::CLIENT, Bytes::copy_from_slice(piece)).unwrap();
    }
    let mut next = 101;
    let mut all = Vec::new();
    for it in story.written() {
        let Written::Request(_, head, content, flag) = it else { continue };
        let range = head.byte_range.unwrap();
        assert_eq!((range.start, range.total), (next, Some(90_000)));
        assert!(content.len() <= 16 * 1024 && flag == ContinuationFlag::More);
        next += content.len() as u64;
        assert_eq!(range.end, Some(next - 1));
        all.extend(content);
    }
    assert_eq!(all, content.as_bytes());
}

#[test]
fn what_becomes_of_a_chunk_further_on_is_reported_where_it_is_wanted() {
    for (fields, status, expected) in [
        ("", 200, None),
        ("", 413, Some(413)),
        ("Failure-Report: partial\r\n", 413, Some(413)),
        ("Failure-Report: no\r\n", 413, None),
    ] {
        let mut story = granted();
        let (leg, head) = story.sends_to_peer(fields, "hello");
        story.answers(leg, &head, status);
        let written = story.written();
        let reported = match &written[..] {
            [] => None,
            [Written::Request(LegId::CLIENT, head, ..)] => {
                assert_eq!((head.method.as_str(), head.message_id.as_deref()), ("REPORT", Some("m1")));
                assert_eq!(head.to_path.to_string(), CLIENT);
                head.status.as_ref().map(|it| it.status.code())
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(reported, expected, "{fields:?} {status}");
        story.pass(30);
        assert!(story.written().is_empty(), "each once");
    }
    for (fields, expected) in [("", Some(408)), ("Failure-Report: partial\r\n", None), ("Failure-Report: no\r\n", None)]
    {
        let mut story = granted();
        story.sends_to_peer(fields, "hello");
        story.pass(29);
        assert!(story.written().is_empty());
        story.pass(1);
        let written = story.written();
        let status = written.iter().find_map(|it| match it {
            Written::Request(_, head, ..) => head.status.as_ref().map(|it| it.status.code()),
            _ => None,
        });
        assert_eq!(status, expected, "{fields:?}");
    }
    let mut story = granted();
    let (leg, _) = story.sends_to_peer("", "hello");
    story.relay.leg_lost(leg, Status::FORBIDDEN);
    let [Written::Request(_, head, ..)] = &story.written()[..] else { panic!("no report") };
    assert_eq!(head.status.as_ref().unwrap().status, Status::FORBIDDEN);
}

#[test]
fn nobody_is_relayed_for_without_a_session_of_the_client() {
    let refused = |story: &mut Story, leg: LegId, text: &str| {
        story.says(leg, text);
        let written = story.written();
        match &written[..] {
            [Written::Response(_, said)] => said.status.code(),
            other => panic!("{other:?}"),
        }
    };
    let onward = format!("{SESSION} {PEER}");
    assert_eq!(refused(&mut story(), LegId::CLIENT, &send("a1", &onward, CLIENT, "", "x", '$')), 481);
    let mut story = granted();
    let other = SESSION.replace("r00", "r01");
    for (text, expected) in [
        (send("a1", &format!("{other} {PEER}"), CLIENT, "", "x", '$'), 481),
        (send("a1", &format!("{RELAY} {PEER}"), CLIENT, "", "x", '$'), 481),
        (send("a1", SESSION, CLIENT, "", "x", '$'), 481),
        (send("a1", &onward, CLIENT, "", "", '$').replace("SEND", "NICKNAME"), 501),
        (auth("").replace(&format!("To-Path: {RELAY}"), &format!("To-Path: {RELAY} {PEER}")), 403),
        (auth("").replace("From-Path", "Frob-Path"), 0),
    ] {
        if expected == 0 {
            story.says(LegId::CLIENT, &text);
            assert!(story.written().is_empty(), "nobody to be answered");
        } else {
            assert_eq!(refused(&mut story, LegId::CLIENT, &text), expected, "{text}");
        }
    }
    // Whoever wants to hear nothing hears nothing.
    for (fields, is_answered) in [("Failure-Report: partial\r\n", true), ("Failure-Report: no\r\n", false)] {
        for text in [
            send("a1", &format!("{other} {PEER}"), CLIENT, fields, "x", '$'),
            send("a1", &onward, CLIENT, &format!("{fields}Byte-Range: a\r\n"), "x", '$'),
        ] {
            story.says(LegId::CLIENT, &text);
            assert_eq!(story.written().len(), usize::from(is_answered), "{text}");
        }
    }
    // AUTH is for clients.
    let leg = story.relay.accept_leg(story.now).unwrap();
    assert_eq!(refused(&mut story, leg, &auth("")), 501);
    story.says(leg, &send("p1", &format!("{other} {CLIENT}"), PEER, "", "", '$').replace("SEND", "REPORT"));
    assert!(story.written().is_empty(), "a REPORT is never answered");
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_written_is_whole(inputs in prop::collection::vec((any::<bool>(), 0..8u8, "\\PC{0,20}"), 0..20)) {
        let mut story = granted();
        let leg = story.relay.accept_leg(story.now).unwrap();
        for (from_client, kind, text) in inputs {
            let (from, to, own) = if from_client { (LegId::CLIENT, PEER, CLIENT) } else { (leg, CLIENT, PEER) };
            let both = format!("{SESSION} {to}");
            let wire = match kind {
                0 => send("x1", &both, own, "", &text, '$'),
                1 => send("x2", &both, own, "Byte-Range: 5-*/*\r\n", &text, '+'),
                2 => send("x3", &both, own, "Failure-Report: no\r\n", "", '#'),
                3 => send("x4", &both, own, "", &text, '$').replace("SEND", "REPORT"),
                4 => auth(&format!("Authorization: {text}\r\n")),
                5 => format!("MSRP x5 200\r\nTo-Path: {to}\r\nFrom-Path: {own}\r\n-------x5$\r\n"),
                6 => send("x6", &text, own, "", "", '$'),
                _ => text,
            };
            if story.relay.receive(story.now, from, Bytes::from(wire.into_bytes())).is_err() {
                break;
            }
            story.written();
            story.pass(7);
        }
    }
}

#[test]
fn a_path_that_has_no_room_for_us_is_refused() {
    for (uris, refused) in [(MAX_PATH_URIS, true), (MAX_PATH_URIS - 1, false)] {
        let mut story = granted();
        let path: Vec<String> =
            (1..uris).map(|it| format!("msrp://192.0.2.{it}:2855/r;tcp")).chain([CLIENT.to_owned()]).collect();
        let to = format!("{SESSION} {PEER}");
        story.says(LegId::CLIENT, &send("long", &to, &path.join(" "), "Byte-Range: 1-2/2\r\n", "hi", '$'));
        let is_refused = story
            .written()
            .iter()
            .any(|it| matches!(it, Written::Response(LegId::CLIENT, said) if said.status == Status::BAD_REQUEST));
        assert_eq!(is_refused, refused, "{uris}");
    }
}
