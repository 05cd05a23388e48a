//! How fast content goes through the framer, and through two sessions: `cargo bench -p restante-msrp`.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use restante_msrp::framing::FailureReport;
use restante_msrp::framing::{Framer, FramingLimits};
use restante_msrp::session::{Event, OutgoingMessage, Role, Session, SessionConfiguration, SessionLimits};

const ONE: &str = "msrp://192.0.2.1:2855/one;tcp";
const TWO: &str = "msrp://192.0.2.2:2855/two;tcp";
const TOTAL_BYTES: u64 = 1 << 30;

fn main() {
    let text = Bytes::from("All work and no play makes Jack a dull boy.\r\n".repeat(1500));
    println!("framer, text lines, 64 KiB reads: {:.0} MB/s", framer(&text, 64 * 1024));
    println!("framer, text lines, 4 KiB reads: {:.0} MB/s", framer(&text, 4 * 1024));
    println!("framer, line ends only: {:.0} MB/s", framer(&Bytes::from("\r\n".repeat(32 * 1024)), 64 * 1024));
    println!("two sessions, 64 KiB chunks: {:.0} MB/s", sessions());
}

fn framer(content: &Bytes, read_bytes: usize) -> f64 {
    let head = format!(
        "MSRP abcd1234 SEND\r\nTo-Path: {ONE}\r\nFrom-Path: {TWO}\r\nMessage-ID: m\r\nContent-Type: a/b\r\n\r\n"
    );
    let stream = Bytes::from([head.as_bytes(), content, b"\r\n-------abcd1234$\r\n"].concat());
    let mut framer = Framer::new(FramingLimits::default());
    let (start, mut done, mut frames) = (Instant::now(), 0_u64, 0_u64);
    while done < TOTAL_BYTES {
        let mut rest = stream.clone();
        while !rest.is_empty() {
            framer.push(rest.split_to(read_bytes.min(rest.len())));
            while let Ok(Some(_)) = framer.next_frame() {
                frames += 1;
            }
        }
        done += stream.len() as u64;
    }
    assert!(frames > 0);
    done as f64 / 1e6 / start.elapsed().as_secs_f64()
}

fn sessions() -> f64 {
    let start = Instant::now();
    let limits = SessionLimits { max_incoming_message_bytes: TOTAL_BYTES, ..SessionLimits::default() };
    let session = |role, local: &str, remote: &str| {
        let remote: restante_msrp::uri::MsrpPath = remote.parse().expect("a path");
        let mut configuration = SessionConfiguration::new(role, local.parse().expect("a URI"), remote);
        configuration.limits = limits.clone();
        let mut session = Session::new(start, configuration, [1; 16]);
        session.connected(start).expect("not connected before");
        session
    };
    let (mut sender, mut receiver) = (session(Role::Active, ONE, TWO), session(Role::Passive, TWO, ONE));
    let content = BytesMut::zeroed(64 * 1024).freeze();
    let message = OutgoingMessage {
        message_id: "m1".to_owned(),
        content_type: "a/b".to_owned(),
        other_headers: Vec::new(),
        total_bytes: TOTAL_BYTES,
        success_report: false,
        failure_report: FailureReport::Yes,
    };
    sender.send_message(start, message).expect("a message");
    loop {
        while let Some(event) = sender.poll_event() {
            match event {
                Event::NeedBody { message, max_bytes, .. } => {
                    sender.supply(start, message, content.slice(..max_bytes)).expect("asked for");
                }
                Event::MessageSettled { .. } => return TOTAL_BYTES as f64 / 1e6 / start.elapsed().as_secs_f64(),
                _ => {}
            }
        }
        while let Some(bytes) = sender.poll_transmit(start) {
            receiver.receive(start, bytes);
        }
        while let Some(event) = receiver.poll_event() {
            if let Event::IncomingComplete { message, .. } = event {
                receiver.accept(start, message).expect("complete");
            }
        }
        while let Some(bytes) = receiver.poll_transmit(start) {
            sender.receive(start, bytes);
        }
    }
}
