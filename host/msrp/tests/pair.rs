//! Two sessions joined by queues: both roles, any segmentation, large bodies, broken connections.

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use common::{OURS, THEIRS, message};
use proptest::prelude::*;
use restante_msrp::framing::FailureReport;
use restante_msrp::session::{
    EndReason, Event, IncomingId, Outcome, OutgoingId, OutgoingMessage, Role, Session, SessionConfiguration,
    SessionLimits,
};

/// Where content comes from: a function of message and offset, so that 100 MB need no memory.
fn byte_at(message: u64, offset: u64) -> u8 {
    // Full of hyphens and line ends.
    b"-\r\n-------$+#0123456789abcdefghijkl"[((offset.wrapping_mul(7) ^ (offset >> 9) ^ message) % 35) as usize]
}

/// What a side received of one message.
#[derive(Default)]
struct Received {
    message_id: String,
    bytes: Vec<u8>,
    count: u64,
    is_wrong: bool,
}

/// One side with its host: supplies content, keeps what it receives, accepts what is complete.
struct Side {
    session: Session,
    keeps: bool,
    sent: HashMap<OutgoingId, u64>,
    outcomes: Vec<Outcome>,
    coming: HashMap<IncomingId, Received>,
    complete: Vec<Received>,
    ended: Option<EndReason>,
    most_held: usize,
}

impl Side {
    fn new(now: Instant, role: Role, limits: &SessionLimits) -> Side {
        let (local, remote) = if role == Role::Active { (OURS, THEIRS) } else { (THEIRS, OURS) };
        let remote: restante_msrp::uri::MsrpPath = remote.parse().unwrap();
        let mut configuration = SessionConfiguration::new(role, local.parse().unwrap(), remote);
        configuration.limits = limits.clone();
        Side {
            session: Session::new(now, configuration, [role as u8 + 1; 16]),
            keeps: true,
            sent: HashMap::new(),
            outcomes: Vec::new(),
            coming: HashMap::new(),
            complete: Vec::new(),
            ended: None,
            most_held: 0,
        }
    }

    fn send(&mut self, now: Instant, number: u64, message: OutgoingMessage) {
        let id = self.session.send_message(now, message).unwrap();
        self.sent.insert(id, number);
    }

    fn host(&mut self, now: Instant) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::NeedBody { message, offset, max_bytes } => {
                    let number = self.sent[&message];
                    let bytes: BytesMut = (offset..offset + max_bytes as u64).map(|at| byte_at(number, at)).collect();
                    self.session.supply(now, message, bytes.freeze()).unwrap();
                }
                Event::MessageSettled { outcome, .. } => self.outcomes.push(outcome),
                Event::IncomingMessage { message, message_id, .. } => {
                    self.coming.insert(message, Received { message_id, ..Received::default() });
                }
                Event::IncomingData { message, offset, bytes } => {
                    let received = self.coming.get_mut(&message).unwrap();
                    let number = received.message_id.strip_prefix('m').unwrap().parse().unwrap();
                    received.is_wrong |= (offset..).zip(&bytes).any(|(at, &byte)| byte != byte_at(number, at));
                    received.count += bytes.len() as u64;
                    if self.keeps {
                        assert_eq!(offset, received.bytes.len() as u64);
                        received.bytes.extend_from_slice(&bytes);
                    }
                }
                Event::IncomingComplete { message, total_bytes } => {
                    let received = self.coming.remove(&message).unwrap();
                    assert_eq!(received.count, total_bytes);
                    self.complete.push(received);
                    self.session.accept(now, message).unwrap();
                }
                Event::IncomingAborted { message, .. } => drop(self.coming.remove(&message)),
                Event::Ended { reason } => self.ended = Some(reason),
                Event::Bound | Event::UnmatchedReport { .. } => {}
            }
            self.most_held = self.most_held.max(self.session.held_bytes());
        }
    }
}

/// Both sides and the bytes between them.
struct Pair {
    now: Instant,
    sides: [Side; 2],
    /// Bytes on their way to each side.
    wires: [BytesMut; 2],
    most_on_wire: usize,
}

impl Pair {
    fn new(limits: &SessionLimits) -> Pair {
        let now = Instant::now();
        let sides = [Side::new(now, Role::Active, limits), Side::new(now, Role::Passive, limits)];
        Pair { now, sides, wires: [BytesMut::new(), BytesMut::new()], most_on_wire: 0 }
    }

    fn connect(&mut self) {
        for side in &mut self.sides {
            side.session.connected(self.now).unwrap();
        }
    }

    /// Moves at most so many bytes to a side, after letting the other one write if its wire has room.
    fn step(&mut self, to: usize, bytes: usize, wire_bytes: usize) {
        let [first, second] = &mut self.sides;
        let (from, into) = if to == 1 { (first, second) } else { (second, first) };
        from.host(self.now);
        if self.wires[to].len() < wire_bytes
            && let Some(written) = from.session.poll_transmit(self.now)
        {
            self.wires[to].extend_from_slice(&written);
        }
        self.most_on_wire = self.most_on_wire.max(self.wires[to].len());
        let length = bytes.min(self.wires[to].len());
        let moved: Bytes = self.wires[to].split_to(length).freeze();
        if !moved.is_empty() {
            into.session.receive(self.now, moved);
        }
        into.host(self.now);
    }

    fn is_quiet(&self) -> bool {
        let outstanding = |side: &Side| side.outcomes.len() < side.sent.len();
        self.wires.iter().all(BytesMut::is_empty) && !self.sides.iter().any(outstanding)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn all_messages_arrive_once_in_order_whatever_the_segments(
        sizes in prop::collection::vec(prop::collection::vec(0..9000u64, 0..4), 2),
        segments in prop::collection::vec((0..2usize, 1..5000usize), 1..200),
        max_chunk_bytes in prop_oneof![1..64usize, 2000..5000usize],
        max_write_bytes in 1..5000usize,
        chunk_window in 1..5usize,
        message_window in 1..3usize,
        reports in (any::<bool>(), any::<bool>()),
    ) {
        let limits = SessionLimits { max_chunk_bytes, max_write_bytes, chunk_window, message_window, ..SessionLimits::default() };
        let mut pair = Pair::new(&limits);
        for (side, sizes) in pair.sides.iter_mut().zip(&sizes) {
            for (number, &size) in (0..).zip(sizes) {
                let failure_report = if reports.0 { FailureReport::Yes } else { FailureReport::Partial };
                let success_report = reports.1 || !reports.0;
                let sent = OutgoingMessage { failure_report, success_report, ..message(&format!("m{number}"), size.max(1)) };
                side.send(pair.now, number, sent);
            }
        }
        pair.connect();
        let mut steps = 0;
        for &(to, bytes) in segments.iter().cycle() {
            pair.step(to, bytes, 20_000);
            pair.step(1 - to, bytes, 20_000);
            steps += 1;
            prop_assert!(steps < 400_000, "no progress");
            if pair.is_quiet() {
                break;
            }
        }
        for (side, sizes) in [0, 1].into_iter().zip([&sizes[1], &sizes[0]]) {
            let side = &pair.sides[side];
            prop_assert!(side.outcomes.iter().all(|&outcome| outcome == Outcome::Acknowledged), "{:?}", side.outcomes);
            prop_assert_eq!(&side.ended, &None);
            let got: Vec<_> = side.complete.iter().map(|received| (received.message_id.clone(), received.count)).collect();
            let expected: Vec<_> = (0..).zip(sizes).map(|(number, &size): (u64, _)| (format!("m{number}"), size.max(1))).collect();
            prop_assert_eq!(got, expected);
            prop_assert!(side.complete.iter().all(|received| !received.is_wrong));
        }
    }

    /// A sender may believe less than the truth after a break, never more.
    #[test]
    fn after_a_break_nothing_is_acknowledged_that_was_not_committed(
        sizes in prop::collection::vec(1..6000u64, 1..4),
        bytes in 1..2000usize,
        steps in 0..200usize,
    ) {
        let limits = SessionLimits { max_chunk_bytes: 3000, max_write_bytes: 1000, ..SessionLimits::default() };
        let mut pair = Pair::new(&limits);
        for (number, &size) in (0..).zip(&sizes) {
            pair.sides[0].send(pair.now, number, message(&format!("m{number}"), size));
        }
        pair.connect();
        for _ in 0..steps {
            pair.step(1, bytes, 5000);
            pair.step(0, bytes, 5000);
        }
        for side in &mut pair.sides {
            side.session.disconnected();
            side.host(pair.now);
        }
        let [sender, receiver] = &pair.sides;
        prop_assert_eq!(sender.outcomes.len(), sizes.len());
        let acknowledged = sender.outcomes.iter().filter(|&&outcome| outcome == Outcome::Acknowledged).count();
        prop_assert!(acknowledged <= receiver.complete.len());
        prop_assert!(receiver.complete.len() <= acknowledged + 1);
        prop_assert!(receiver.coming.is_empty());
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_make_it_hold_much(
        pieces in prop::collection::vec(wire_like(), 0..40),
        role in any::<bool>(),
    ) {
        let role = if role { Role::Active } else { Role::Passive };
        let now = Instant::now();
        let mut side = Side::new(now, role, &SessionLimits { max_control_bytes: 5000, ..SessionLimits::default() });
        side.keeps = false;
        if role == Role::Active {
            side.send(now, 1, message("m1", 10_000));
        }
        side.session.connected(now).unwrap();
        for (piece, seconds) in pieces.into_iter().zip(0..) {
            let now = now + Duration::from_secs(seconds * 5);
            side.session.receive(now, Bytes::from(piece));
            while let Some(event) = side.session.poll_event() {
                match event {
                    Event::NeedBody { message, max_bytes, .. } => {
                        side.session.supply(now, message, Bytes::from(vec![b'x'; max_bytes])).unwrap();
                    }
                    Event::IncomingComplete { message, .. } => drop(side.session.accept(now, message)),
                    _ => {}
                }
            }
            side.session.poll_transmit(now);
            side.session.handle_wake(now);
            assert!(side.session.held_bytes() < 100_000);
        }
    }
}

fn wire_like() -> impl Strategy<Value = Vec<u8>> {
    let ids = ["msrp://h/s0001-ours;tcp", "msrp://h/theirs;tcp", "msrp://h/x;tcp"];
    let head = (0..3usize, "(SEND|REPORT|AUTH|200 OK|413)", "m[12]", "(1-\\*|1-[0-9]|[0-9]-[0-9]{1,20})/(\\*|[0-9])")
        .prop_map(move |(to, method, message, range)| {
            format!(
                "MSRP abcd {method}\r\nTo-Path: {}\r\nFrom-Path: msrp://h/p;tcp\r\nMessage-ID: {message}\r\n\
                 Byte-Range: {range}\r\nStatus: 000 200\r\nContent-Type: a/b\r\n",
                ids[to]
            )
            .into_bytes()
        });
    prop_oneof![
        4 => (head, prop::option::of("\\PC{0,8}"), "[$+#]").prop_map(|(head, body, flag)| {
            let body = body.map(|body| format!("\r\n{body}\r\n")).unwrap_or_default();
            [head, format!("{body}-------abcd{flag}\r\n").into_bytes()].concat()
        }),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

#[test]
fn a_hundred_megabytes_stream_through_in_both_directions_with_little_memory() {
    const TOTAL: u64 = 100_000_000;
    let limits = SessionLimits { max_incoming_message_bytes: TOTAL, ..SessionLimits::default() };
    let mut pair = Pair::new(&limits);
    for side in &mut pair.sides {
        side.keeps = false;
        side.send(pair.now, 1, message("m1", TOTAL));
    }
    pair.connect();
    while !pair.is_quiet() {
        pair.step(1, 50_000, 65_536);
        pair.step(0, 50_000, 65_536);
    }
    for side in &pair.sides {
        assert_eq!(side.outcomes, [Outcome::Acknowledged]);
        assert_eq!(side.complete.len(), 1);
        assert!(!side.complete[0].is_wrong);
        assert_eq!(side.complete[0].count, TOTAL);
        // A chunk being written, the next one, and what little waits in the framer.
        assert!(side.most_held <= 2 * limits.max_chunk_bytes + 1024, "{}", side.most_held);
    }
}

#[test]
fn one_chunk_of_a_hundred_megabytes_streams_through() {
    let total = 100_000_000_u64;
    let now = Instant::now();
    let mut side = Side::new(now, Role::Passive, &SessionLimits::default());
    side.keeps = false;
    side.session.connected(now).unwrap();
    let head = format!(
        "MSRP abcd1234 SEND\r\nTo-Path: {THEIRS}\r\nFrom-Path: {OURS}\r\nMessage-ID: m1\r\nByte-Range: 1-{total}/{total}\r\n\
         Content-Type: a/b\r\n\r\n"
    );
    side.session.receive(now, Bytes::from(head));
    let mut sent = 0;
    while sent < total {
        let piece: BytesMut = (sent..total.min(sent + 33_333)).map(|at| byte_at(1, at)).collect();
        sent += piece.len() as u64;
        side.session.receive(now, piece.freeze());
        side.host(now);
    }
    side.session.receive(now, Bytes::from_static(b"\r\n-------abcd1234$\r\n"));
    side.host(now);
    assert_eq!(side.complete.len(), 1);
    assert!(!side.complete[0].is_wrong);
    assert!(side.most_held < 1024, "{}", side.most_held);
    assert!(side.session.poll_transmit(now).unwrap().starts_with(b"MSRP abcd1234 200"));
}
