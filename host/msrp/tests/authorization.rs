//! AUTH as a client.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use restante_msrp::authorization::{AuthorizationClient, AuthorizationConfiguration, AuthorizationEvent};
use restante_msrp::framing::{Frame, Framer, FramingLimits, RequestHead, Response};
use restante_msrp::status::Status;

const RELAY: &str = "msrps://relay.example.org:2855;tcp";
const LOCAL: &str = "msrps://192.0.2.1:2855/link;tcp";
const USE_PATH: &str = "msrps://relay.example.org:2855/jui787s2f;tcp";

struct Story {
    client: AuthorizationClient,
    now: Instant,
}

fn story() -> Story {
    let configuration = AuthorizationConfiguration { relay: RELAY.parse().unwrap(), local: LOCAL.parse().unwrap() };
    let now = Instant::now();
    let mut client = AuthorizationClient::new(configuration, [7; 16]);
    client.connected(now);
    Story { client, now }
}

impl Story {
    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.client.handle_wake(self.now);
    }

    /// The one request that waits to be sent.
    fn asked(&mut self) -> RequestHead {
        let bytes = self.client.poll_transmit().expect("a request");
        assert_eq!(self.client.poll_transmit(), None);
        let mut framer = Framer::new(FramingLimits::default());
        framer.push(bytes);
        let Some(Frame::Request(head)) = framer.next_frame().unwrap() else { panic!("no request") };
        assert_eq!((head.method.as_str(), head.to_path.to_string().as_str()), ("AUTH", RELAY));
        *head
    }

    fn header(head: &RequestHead, name: &str) -> Option<String> {
        head.other_headers.iter().find(|it| it.name == name).map(|it| it.value.clone())
    }

    fn says(&mut self, to: &RequestHead, status: u16, fields: &str) -> bool {
        let id = to.transaction_id.as_str();
        let wire = format!("MSRP {id} {status}\r\nTo-Path: {LOCAL}\r\nFrom-Path: {RELAY}\r\n{fields}-------{id}$\r\n");
        let mut framer = Framer::new(FramingLimits::default());
        framer.push(wire.into_bytes().into());
        let Some(Frame::Response(response)) = framer.next_frame().unwrap() else { panic!("no response") };
        self.client.response(self.now, &response)
    }

    fn event(&mut self) -> Option<AuthorizationEvent> {
        self.client.poll_event()
    }

    /// Up to the grant.
    fn granted(&mut self, expires: u32) {
        let first = self.asked();
        assert!(self.says(&first, 401, "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\n"));
        let Some(AuthorizationEvent::Challenged { challenges }) = self.event() else { panic!("no challenge") };
        assert_eq!(challenges, ["Digest realm=\"r\", nonce=\"n\", qop=\"auth\""]);
        self.client.answer(self.now, Some("Digest it"));
        let second = self.asked();
        assert_eq!(Story::header(&second, "Authorization").as_deref(), Some("Digest it"));
        assert_ne!(first.transaction_id, second.transaction_id);
        assert!(self.says(&second, 200, &format!("Use-Path: {USE_PATH}\r\nExpires: {expires}\r\n")));
        assert_eq!(self.event(), Some(AuthorizationEvent::Granted));
    }

    fn path(&self) -> Option<String> {
        Some(self.client.use_path(self.now)?.first()?.to_string())
    }
}

fn refused(status: u16) -> Option<AuthorizationEvent> {
    Some(AuthorizationEvent::Refused { status: Status::new(status) })
}

#[test]
fn a_challenge_is_answered_and_what_is_granted_is_renewed_before_it_is_over() {
    let mut story = story();
    assert_eq!(story.path(), None);
    story.granted(900);
    assert_eq!(story.path().as_deref(), Some(USE_PATH));
    story.pass(809);
    assert_eq!(story.client.poll_transmit(), None);
    story.pass(1);
    // The old grant holds while the new one is asked for.
    assert_eq!(story.path().as_deref(), Some(USE_PATH));
    story.granted(900);
    story.pass(200);
    assert_eq!(story.path().as_deref(), Some(USE_PATH), "beyond the time of the first");
}

#[test]
fn a_use_path_is_in_the_order_of_to_path_and_is_reversed_for_descriptions() {
    let mut story = story();
    let asked = story.asked();
    let (inner, outer) = ("msrps://inner.example.org:2855/i;tcp", "msrps://outer.example.org:2855/o;tcp");
    story.says(&asked, 200, &format!("Use-Path: {inner} {outer}\r\n"));
    let path: Vec<String> = story.client.use_path(story.now).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(path, [outer, inner]);
}

#[test]
fn what_is_not_renewed_is_over() {
    let mut story = story();
    story.granted(900);
    story.pass(810);
    story.asked();
    story.pass(30);
    assert_eq!(story.event(), Some(AuthorizationEvent::Refused { status: None }));
    assert_eq!(story.path().as_deref(), Some(USE_PATH));
    story.pass(60);
    assert_eq!((story.event(), story.path()), (Some(AuthorizationEvent::Expired), None));
}

#[test]
fn a_password_that_is_not_believed_is_tried_again_later_and_later() {
    let mut story = story();
    let mut rests = Vec::new();
    for _ in 0..10 {
        let first = story.asked();
        story.says(&first, 401, "WWW-Authenticate: Digest realm=\"r\"\r\n");
        story.event();
        story.client.answer(story.now, Some("Digest wrong"));
        let second = story.asked();
        story.says(&second, 401, "WWW-Authenticate: Digest realm=\"r\"\r\n");
        assert_eq!(story.event(), refused(401));
        let rest = story.client.next_wake().unwrap() - story.now;
        rests.push(rest.as_secs());
        story.pass(rest.as_secs());
    }
    assert_eq!(rests, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
}

#[test]
fn every_refusal_is_for_now() {
    for (status, fields) in [
        (403, ""),
        (481, ""),
        (501, ""),
        (401, ""),
        (423, ""),
        (423, "Min-Expires: 0\r\n"),
        (423, "Min-Expires: 20\r\nMax-Expires: 10\r\n"),
        (200, ""),
        (200, "Use-Path: nonsense\r\n"),
        (200, "Use-Path: msrp://a:1/b;tcp\r\nExpires: 9\r\n"),
    ] {
        let mut story = story();
        let asked = story.asked();
        assert!(story.says(&asked, status, fields));
        assert_eq!((story.event(), story.path()), (refused(status), None), "{status} {fields}");
        story.pass(2);
        story.granted(60);
    }
}

#[test]
fn an_interval_that_the_relay_does_not_take_is_changed_once() {
    for (fields, expected) in [("Max-Expires: 300\r\n", "300"), ("Min-Expires: 7200\r\n", "7200")] {
        let mut story = story();
        let first = story.asked();
        assert_eq!(Story::header(&first, "Expires"), None, "it is the relay's to say");
        story.says(&first, 423, fields);
        let second = story.asked();
        assert_eq!(Story::header(&second, "Expires").as_deref(), Some(expected));
        story.says(&second, 423, fields);
        assert_eq!(story.event(), refused(423));
    }
}

#[test]
fn nothing_outlives_its_connection_and_other_answers_are_not_ours() {
    let mut story = story();
    story.granted(900);
    story.client.disconnected();
    assert_eq!((story.path(), story.client.next_wake()), (None, None));
    story.client.connected(story.now);
    let asked = story.asked();
    let mut other = asked.clone();
    other.transaction_id = restante_msrp::framing::TransactionId::new("other").unwrap();
    assert!(!story.says(&other, 200, &format!("Use-Path: {USE_PATH}\r\n")));
    assert!(story.says(&asked, 200, &format!("Use-Path: {USE_PATH}\r\n")));
    assert!(!story.says(&asked, 200, ""), "it was answered");
    // Without Expires it lasts as long as is usual.
    assert_eq!(story.client.granted_until(), Some(story.now + Duration::from_secs(600)));
}

proptest! {
    #[test]
    fn no_history_panics_and_a_wake_is_always_in_the_future(steps in prop::collection::vec((0..5u8, 0..9u8, 0..400u64), 1..40)) {
        let mut story = story();
        let mut last: Option<RequestHead> = None;
        for (step, which, seconds) in steps {
            while let Some(bytes) = story.client.poll_transmit() {
                let mut framer = Framer::new(FramingLimits::default());
                framer.push(bytes);
                if let Ok(Some(Frame::Request(head))) = framer.next_frame() {
                    last = Some(*head);
                }
            }
            match (step, &last) {
                (0, Some(head)) => {
                    let head = head.clone();
                    let (status, fields) = [
                        (200, "Use-Path: msrp://a:1/b;tcp\r\nExpires: 90\r\n"), (200, ""), (401, "WWW-Authenticate: x\r\n"),
                        (401, ""), (403, ""), (423, "Min-Expires: 5\r\n"), (423, ""), (481, ""), (408, ""),
                    ][usize::from(which)];
                    story.says(&head, status, fields);
                }
                (1, _) => story.client.answer(story.now, (which > 3).then_some("Digest it")),
                (2, _) if which == 0 => story.client.disconnected(),
                (2, _) if which == 1 => story.client.connected(story.now),
                _ => story.pass(seconds),
            }
            while story.event().is_some() {}
            story.client.handle_wake(story.now);
            prop_assert!(story.client.next_wake().is_none_or(|at| at > story.now));
        }
    }

    #[test]
    fn a_response_with_further_fields_is_read_as_it_is_written(value in "[ -~]{0,40}") {
        let wire = format!("MSRP tid1 200 OK\r\nTo-Path: {LOCAL}\r\nFrom-Path: {RELAY}\r\nUse-Path: x{value}x\r\n-------tid1$\r\n");
        let read = |bytes: bytes::Bytes| -> Response {
            let mut framer = Framer::new(FramingLimits::default());
            framer.push(bytes);
            let Some(Frame::Response(response)) = framer.next_frame().unwrap() else { panic!("no response") };
            *response
        };
        let response = read(wire.into_bytes().into());
        prop_assert_eq!(read(response.to_wire()), response);
    }
}
