//! Sessions to test with, and a peer that is only text.
#![allow(dead_code)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use restante_msrp::framing::FailureReport;
use restante_msrp::session::{Event, OutgoingMessage, Role, Session, SessionConfiguration};

pub const OURS: &str = "msrp://192.0.2.1:2855/s0001-ours;tcp";
pub const THEIRS: &str = "msrp://198.51.100.7:9000/theirs;tcp";

/// One session, the time, and nothing else.
pub struct Harness {
    pub session: Session,
    pub now: Instant,
}

pub fn configuration(role: Role) -> SessionConfiguration {
    SessionConfiguration::new(role, OURS.parse().unwrap(), THEIRS.parse::<restante_msrp::uri::MsrpPath>().unwrap())
}

impl Harness {
    pub fn new(configuration: SessionConfiguration) -> Harness {
        let now = Instant::now();
        Harness { session: Session::new(now, configuration, [3; 16]), now }
    }

    /// Passive and connected, not bound.
    pub fn passive(change: impl FnOnce(&mut SessionConfiguration)) -> Harness {
        let mut configuration = configuration(Role::Passive);
        change(&mut configuration);
        let mut harness = Harness::new(configuration);
        harness.session.connected(harness.now).unwrap();
        harness
    }

    /// Active and bound, the binding SEND answered and forgotten.
    pub fn active(change: impl FnOnce(&mut SessionConfiguration)) -> Harness {
        let mut configuration = configuration(Role::Active);
        change(&mut configuration);
        let mut harness = Harness::new(configuration);
        harness.session.connected(harness.now).unwrap();
        let binding = harness.written();
        harness.receive(&response_to(&binding, 200));
        assert_eq!(harness.events(), [Event::Bound]);
        harness
    }

    pub fn receive(&mut self, text: &str) {
        self.session.receive(self.now, Bytes::copy_from_slice(text.as_bytes()));
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    /// All that is to be written now.
    pub fn written(&mut self) -> String {
        let pieces: Vec<Bytes> = std::iter::from_fn(|| self.session.poll_transmit(self.now)).collect();
        String::from_utf8(pieces.concat()).unwrap()
    }

    /// The start lines of all that is to be written now, without the transaction ids of requests.
    pub fn answers(&mut self) -> Vec<String> {
        let written = self.written();
        written.lines().filter_map(start_line).collect()
    }

    pub fn wait(&mut self, duration: Duration) {
        self.now += duration;
        self.session.handle_wake(self.now);
    }
}

fn start_line(line: &str) -> Option<String> {
    let (id, rest) = line.strip_prefix("MSRP ")?.split_once(' ')?;
    let is_response = rest.starts_with(|first: char| first.is_ascii_digit());
    Some(if is_response { format!("{id} {}", &rest[..3]) } else { rest.to_owned() })
}

/// A request of the peer's.
pub struct Request<'a> {
    pub id: &'a str,
    pub method: &'a str,
    pub to: &'a str,
    pub headers: &'a str,
    pub body: Option<&'a str>,
    pub flag: char,
}

impl Request<'_> {
    pub fn text(&self) -> String {
        let Request { id, method, to, headers, body, flag } = self;
        let headers: String = headers.lines().map(|line| format!("{}\r\n", line.trim())).collect();
        let body = body.map(|body| format!("\r\n{body}\r\n")).unwrap_or_default();
        format!("MSRP {id} {method}\r\nTo-Path: {to}\r\nFrom-Path: {THEIRS}\r\n{headers}{body}-------{id}{flag}\r\n")
    }
}

/// A SEND to our session: `headers` beside Message-ID `message` and Content-Type text/plain.
pub fn send(id: &str, message: &str, headers: &str, body: &str, flag: char) -> String {
    let headers = format!("Message-ID: {message}\n{headers}\nContent-Type: text/plain");
    let headers = headers.replace("\n\n", "\n");
    Request { id, method: "SEND", to: OURS, headers: &headers, body: Some(body), flag }.text()
}

/// A response to every SEND in what was written.
pub fn response_to(written: &str, status: u16) -> String {
    let sends = written.lines().filter_map(|line| line.strip_prefix("MSRP ")?.strip_suffix(" SEND"));
    sends.map(|id| response(id, status)).collect()
}

pub fn response(id: &str, status: u16) -> String {
    format!("MSRP {id} {status} x\r\nTo-Path: {OURS}\r\nFrom-Path: {THEIRS}\r\n-------{id}$\r\n")
}

pub fn report(message: &str, range: &str, status: &str) -> String {
    let headers = format!("Message-ID: {message}\nByte-Range: {range}\nStatus: {status}");
    Request { id: "reprt", method: "REPORT", to: OURS, headers: &headers, body: None, flag: '$' }.text()
}

pub fn message(message_id: &str, total_bytes: u64) -> OutgoingMessage {
    OutgoingMessage {
        message_id: message_id.to_owned(),
        content_type: "message/cpim".to_owned(),
        other_headers: Vec::new(),
        total_bytes,
        success_report: false,
        failure_report: FailureReport::Yes,
    }
}
