//! The sending half of a session: what is written, when a message counts as delivered, what ends it otherwise.

mod common;
#[path = "sending/endings.rs"]
mod endings;
#[path = "sending/outcomes.rs"]
mod outcomes;
#[path = "sending/written.rs"]
mod written;

use std::time::Duration;

use bytes::Bytes;
use common::{Harness, OURS, THEIRS, message, report, response, response_to, send};
use restante_msrp::framing::{FailureReport, Frame, Framer, FramingLimits, Header, RequestHead};
use restante_msrp::session::{
    EndReason, Event, Outcome, OutgoingId, OutgoingMessage, RejectionOrigin, Role, SendError, SupplyError,
};
use restante_msrp::status::Status;

const SECOND: Duration = Duration::from_secs(1);

/// Answers every request for content with zeros; gives the other events.
fn feed(harness: &mut Harness) -> Vec<Event> {
    let mut others = Vec::new();
    while let Some(event) = harness.session.poll_event() {
        match event {
            Event::NeedBody { message, max_bytes, .. } => {
                harness.session.supply(harness.now, message, Bytes::from(vec![b'0'; max_bytes])).unwrap();
            }
            other => others.push(other),
        }
    }
    others
}

/// Lets the session send all it can, content supplied, nothing answered.
fn send_all(harness: &mut Harness) -> String {
    let mut written = String::new();
    loop {
        let events = feed(harness);
        assert_eq!(events, []);
        let more = harness.written();
        if more.is_empty() {
            return written;
        }
        written += &more;
    }
}

/// Heads of all requests in a stream, with the content's length and how each ended.
fn chunks(written: &str) -> Vec<(RequestHead, usize, u8)> {
    let mut framer = Framer::new(FramingLimits::default());
    framer.push(Bytes::copy_from_slice(written.as_bytes()));
    let mut chunks: Vec<(RequestHead, usize, u8)> = Vec::new();
    while let Some(frame) = framer.next_frame().unwrap() {
        match frame {
            Frame::Request(head) => chunks.push((*head, 0, b'?')),
            Frame::Content(bytes) => chunks.last_mut().unwrap().1 += bytes.len(),
            Frame::End(flag) => chunks.last_mut().unwrap().2 = flag.as_byte(),
            other => panic!("{other:?}"),
        }
    }
    chunks
}

fn ranges(written: &str) -> Vec<String> {
    let tell = |(head, length, flag): &(RequestHead, usize, u8)| {
        format!("{} {length}{}", head.byte_range.unwrap(), char::from(*flag))
    };
    chunks(written).iter().map(tell).collect()
}

fn settled(message: OutgoingId, outcome: Outcome) -> Event {
    Event::MessageSettled { message, outcome }
}

fn rejected(status: Status, origin: RejectionOrigin) -> Outcome {
    Outcome::Rejected { status, origin }
}
