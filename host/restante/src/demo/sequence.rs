//! From what clients and core saw on the wire to the steps of a diagram.
//!
//! Every message is drawn once: one between two observers is drawn as the client saw it. The chunks of a large MSRP message
//! are folded: the first and the last are drawn, those between them are one arrow of dots.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use restante_client::{Direction, WireProtocol, WireRecord};
use restante_msrp::byte_range::ByteRange;

use super::diagram::{Arrow, Step};

/// An MSRP message of more chunks than this is folded.
const MAX_CHUNKS: usize = 4;

/// Who takes part.
#[derive(Clone, Debug, Default)]
pub struct Cast {
    /// The server's column.
    pub server: usize,
    /// The column of a SIP address, where it is known.
    pub places: HashMap<SocketAddr, usize>,
    /// Whom an observer's SIP from an unknown address comes from; else the server. Connections have addresses of their own.
    pub upstream: HashMap<usize, usize>,
    /// Observers whose own view is drawn first: a message between one of them and another observer is theirs.
    pub clients: HashSet<usize>,
}

/// A record and the column that saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who.
    pub by: usize,
    /// What.
    pub record: WireRecord,
}

/// One side of one MSRP connection, and a message in it.
type MsrpMessage<'a> = (usize, SocketAddr, SocketAddr, Direction, &'a str);

/// The steps since `began`, in order of time.
#[must_use]
pub fn steps(cast: &Cast, began: SystemTime, seen: &[Seen]) -> Vec<Step> {
    let folded = Folded::of(seen);
    let mut steps: Vec<Step> = Vec::new();
    for (at, it) in seen.iter().enumerate() {
        if folded.left_out.contains(&at) || cast.is_theirs(it) {
            continue;
        }
        let (from, to) = cast.ends(it);
        let (label, bytes, messages) = match folded.sums.get(&at) {
            Some(sum) => (sum.label(), sum.bytes, sum.requests),
            None => (label(&it.record), size(it.record.bytes), 1),
        };
        let since = it.record.at.duration_since(began).unwrap_or(Duration::ZERO);
        steps.push(Step::Arrow(Arrow { at: since, from, to, label, bytes, messages }));
    }
    steps.sort_by_key(Step::at);
    steps
}

impl Cast {
    fn peer(&self, seen: &Seen) -> usize {
        if seen.record.protocol == WireProtocol::Msrp {
            return self.server;
        }
        let known = self.places.get(&seen.record.remote);
        known.or_else(|| self.upstream.get(&seen.by)).copied().unwrap_or(self.server)
    }

    /// Whether the other end, a client, draws it.
    fn is_theirs(&self, seen: &Seen) -> bool {
        !self.clients.contains(&seen.by) && self.clients.contains(&self.peer(seen))
    }

    fn ends(&self, seen: &Seen) -> (usize, usize) {
        match seen.record.direction {
            Direction::Sent => (seen.by, self.peer(seen)),
            Direction::Received => (self.peer(seen), seen.by),
        }
    }
}

/// Which records are drawn together.
#[derive(Debug, Default)]
struct Folded {
    left_out: HashSet<usize>,
    /// Drawn in the place of this record.
    sums: HashMap<usize, Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    requests: usize,
    answers: usize,
    bytes: u64,
}

impl Sum {
    fn label(&self) -> String {
        let answered = if self.answers > 0 { "/200s" } else { "" };
        format!("{} more SENDs{answered}, {} bytes", self.requests, grouped(self.bytes))
    }
}

impl Folded {
    fn of(seen: &[Seen]) -> Folded {
        let mut chunks: HashMap<MsrpMessage<'_>, Vec<usize>> = HashMap::new();
        let mut answers: HashMap<(MsrpMessage<'_>, &str), usize> = HashMap::new();
        for (at, it) in seen.iter().enumerate().filter(|(_, it)| it.record.protocol == WireProtocol::Msrp) {
            match what(&it.record) {
                Msrp::Send(message_id) => {
                    chunks.entry(message_of(it, it.record.direction, message_id)).or_default().push(at);
                }
                Msrp::Answer(transaction_id) => {
                    let asked = opposite(it.record.direction);
                    answers.insert((message_of(it, asked, ""), transaction_id), at);
                }
                Msrp::Other => {}
            }
        }
        let mut folded = Folded::default();
        for (message, places) in chunks {
            folded.fold(seen, message, &places, &answers);
        }
        folded
    }

    fn fold(
        &mut self,
        seen: &[Seen],
        message: MsrpMessage<'_>,
        chunks: &[usize],
        answers: &HashMap<(MsrpMessage<'_>, &str), usize>,
    ) {
        let [_, between @ .., _] = chunks else { return };
        let (Some(last), true) = (between.last(), chunks.len() > MAX_CHUNKS) else { return };
        let (by, local, remote, direction, _) = message;
        let mut sum = Sum::default();
        for at in between {
            let Some(record) = seen.get(*at).map(|it| &it.record) else { continue };
            sum.requests = sum.requests.saturating_add(1);
            sum.bytes = sum.bytes.saturating_add(size(record.bytes));
            let asked = (by, local, remote, direction, "");
            if let Some(answer) = answers.get(&(asked, transaction_id(record))) {
                sum.answers = sum.answers.saturating_add(1);
                self.left_out.insert(*answer);
            }
            if at != last {
                self.left_out.insert(*at);
            }
        }
        self.sums.insert(*last, sum);
    }
}

fn message_of<'a>(seen: &Seen, direction: Direction, message_id: &'a str) -> MsrpMessage<'a> {
    (seen.by, seen.record.local, seen.record.remote, direction, message_id)
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Sent => Direction::Received,
        Direction::Received => Direction::Sent,
    }
}

enum Msrp<'a> {
    /// Of this message.
    Send(&'a str),
    /// To this transaction.
    Answer(&'a str),
    Other,
}

/// A record's line is `MSRP transaction-id SEND`, or `MSRP transaction-id 200`.
fn what(record: &WireRecord) -> Msrp<'_> {
    let last = record.line.rsplit(' ').next().unwrap_or("");
    if last == "SEND" {
        return Msrp::Send(record.detail.split(' ').next().unwrap_or(""));
    }
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Msrp::Answer(transaction_id(record));
    }
    Msrp::Other
}

fn transaction_id(record: &WireRecord) -> &str {
    record.line.split(' ').nth(1).unwrap_or("")
}

/// What an arrow says of a message.
fn label(record: &WireRecord) -> String {
    match record.protocol {
        WireProtocol::Sip => sip_label(record),
        WireProtocol::Msrp => msrp_label(record),
    }
}

fn msrp_label(record: &WireRecord) -> String {
    let what = record.line.rsplit(' ').next().unwrap_or("");
    let range: Option<ByteRange> = record.detail.rsplit(' ').next().and_then(|range| range.parse().ok());
    let sent = size(record.bytes);
    match (what, range) {
        ("SEND", _) if record.bytes == 0 => "MSRP SEND (empty)".to_owned(),
        ("SEND", Some(ByteRange { start, total: Some(total), .. })) if start > 1 || sent < total => {
            let end = start.saturating_add(sent).saturating_sub(1);
            format!("MSRP SEND {start}-{end}/{total}")
        }
        ("SEND", _) => format!("MSRP SEND ({} bytes)", grouped(sent)),
        (what, _) => format!("MSRP {what}"),
    }
}

/// `202 Accepted (MESSAGE)`, `NOTIFY (message-summary)`, `MESSAGE sip:bob@example.org`. Addresses that are numbers are left
/// out: the columns tell where a message goes.
fn sip_label(record: &WireRecord) -> String {
    let mut detail = record.detail.splitn(3, ' ').skip(1);
    let (method, content_type) = (detail.next().unwrap_or(""), detail.next().unwrap_or(""));
    if let Some(status) = record.line.strip_prefix("SIP/2.0 ") {
        return format!("{status} ({method})");
    }
    let uri = record.line.split(' ').nth(1).unwrap_or("");
    let mut text = method.to_owned();
    if names_somebody(uri) {
        text.push_str(&format!(" {uri}"));
    }
    if let Some(kind) = kind(content_type) {
        text.push_str(&format!(" ({kind})"));
    }
    text
}

fn names_somebody(uri: &str) -> bool {
    let host = uri.rsplit_once('@').map_or(uri, |(_, host)| host);
    let host = host.split([';', '?']).next().unwrap_or(host).trim_start_matches("sip:");
    host.parse::<SocketAddr>().is_err() && host.parse::<std::net::IpAddr>().is_err()
}

/// A short name for a type; none for those that every MESSAGE and every INVITE has.
fn kind(content_type: &str) -> Option<String> {
    let essence = restante_cpim::media_type::essence(content_type);
    match essence.as_str() {
        "" | "message/cpim" | "application/sdp" => None,
        "multipart/mixed" => Some("list".to_owned()),
        "application/simple-message-summary" => Some("message-summary".to_owned()),
        other => Some(other.to_owned()),
    }
}

/// A number with commas between its thousands.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len().saturating_sub(at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: usize = 0;
    const SERVER: usize = 1;
    const CORE: usize = 2;
    const BOB: usize = 3;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn cast() -> Cast {
        Cast {
            server: SERVER,
            places: HashMap::from([
                (address(10), ALICE),
                (address(20), CORE),
                (address(30), BOB),
                (address(40), SERVER),
            ]),
            upstream: HashMap::from([(BOB, CORE)]),
            clients: HashSet::from([ALICE, BOB]),
        }
    }

    fn record(protocol: WireProtocol, direction: Direction, remote: u16, line: &str, detail: &str) -> WireRecord {
        WireRecord {
            at: SystemTime::UNIX_EPOCH,
            direction,
            protocol,
            local: address(1),
            remote: address(remote),
            line: line.to_owned(),
            exchange: String::new(),
            detail: detail.to_owned(),
            bytes: 100,
        }
    }

    fn sip(by: usize, direction: Direction, remote: u16, line: &str, detail: &str) -> Seen {
        Seen { by, record: record(WireProtocol::Sip, direction, remote, line, detail) }
    }

    fn msrp(by: usize, direction: Direction, line: &str, detail: &str, bytes: usize) -> Seen {
        Seen { by, record: WireRecord { bytes, ..record(WireProtocol::Msrp, direction, 99, line, detail) } }
    }

    fn drawn(seen: &[Seen]) -> Vec<(usize, usize, String)> {
        steps(&cast(), SystemTime::UNIX_EPOCH, seen)
            .into_iter()
            .filter_map(|step| match step {
                Step::Arrow(Arrow { from, to, label, .. }) => Some((from, to, label)),
                Step::Note { .. } => None,
            })
            .collect()
    }

    #[test]
    fn sip_is_named_by_what_it_is_and_ends_where_it_belongs() {
        let cpim = "1 MESSAGE message/cpim;charset=UTF-8";
        let seen = [
            sip(
                ALICE,
                Direction::Received,
                40,
                "NOTIFY sip:a@[::1]:10;x=y SIP/2.0",
                "2 NOTIFY application/simple-message-summary",
            ),
            sip(ALICE, Direction::Sent, 40, "MESSAGE sip:bob@example.org SIP/2.0", cpim),
            sip(ALICE, Direction::Received, 40, "SIP/2.0 202 Accepted", "1 MESSAGE"),
            sip(BOB, Direction::Received, 4_711, "MESSAGE sip:bob@127.0.0.1:30 SIP/2.0", cpim),
            sip(BOB, Direction::Sent, 4_711, "SIP/2.0 200 OK", "1 MESSAGE"),
        ];
        let expected = [
            (SERVER, ALICE, "NOTIFY (message-summary)"),
            (ALICE, SERVER, "MESSAGE sip:bob@example.org"),
            (SERVER, ALICE, "202 Accepted (MESSAGE)"),
            (CORE, BOB, "MESSAGE"),
            (BOB, CORE, "200 OK (MESSAGE)"),
        ];
        assert_eq!(drawn(&seen), expected.map(|(from, to, label)| (from, to, label.to_owned())));
    }

    #[test]
    fn what_core_and_client_both_saw_is_drawn_once() {
        let seen = [
            sip(CORE, Direction::Received, 40, "MESSAGE tel:+15550123 SIP/2.0", "1 MESSAGE"),
            sip(CORE, Direction::Sent, 30, "MESSAGE sip:bob@127.0.0.1:30 SIP/2.0", "1 MESSAGE"),
            sip(BOB, Direction::Received, 20, "MESSAGE sip:bob@127.0.0.1:30 SIP/2.0", "1 MESSAGE"),
        ];
        let expected = [(SERVER, CORE, "MESSAGE tel:+15550123".to_owned()), (CORE, BOB, "MESSAGE".to_owned())];
        assert_eq!(drawn(&seen), expected);
    }

    #[test]
    fn many_chunks_are_folded_and_few_are_not() {
        let chunks = |count: usize| -> Vec<Seen> {
            (0..count)
                .flat_map(|at| {
                    let send = format!("MSRP t{at} SEND");
                    let detail = format!("m1 {}-*/{}", at * 100 + 1, count * 100);
                    [
                        msrp(ALICE, Direction::Sent, &send, &detail, 100),
                        msrp(ALICE, Direction::Received, &format!("MSRP t{at} 200"), "", 0),
                    ]
                })
                .collect()
        };
        assert_eq!(drawn(&chunks(4)).len(), 8);
        let expected = [
            (ALICE, SERVER, "MSRP SEND 1-100/2000"),
            (SERVER, ALICE, "MSRP 200"),
            (ALICE, SERVER, "18 more SENDs/200s, 1,800 bytes"),
            (ALICE, SERVER, "MSRP SEND 1901-2000/2000"),
            (SERVER, ALICE, "MSRP 200"),
        ];
        assert_eq!(drawn(&chunks(20)), expected.map(|(from, to, label)| (from, to, label.to_owned())));
        let counted: usize = steps(&cast(), SystemTime::UNIX_EPOCH, &chunks(20))
            .iter()
            .map(|step| match step {
                Step::Arrow(arrow) => arrow.messages,
                Step::Note { .. } => 0,
            })
            .sum();
        assert_eq!(counted, 22, "20 SENDs and two of their answers");
    }

    #[test]
    fn messages_of_one_session_are_not_folded_together() {
        let seen: Vec<Seen> = (0..10)
            .map(|at| msrp(BOB, Direction::Received, &format!("MSRP t{at} SEND"), &format!("m{at} 1-100/100"), 100))
            .collect();
        assert!(drawn(&seen).iter().all(|(from, _, label)| *from == SERVER && label == "MSRP SEND (100 bytes)"));
        assert_eq!(drawn(&seen).len(), 10);
        let empty = msrp(BOB, Direction::Sent, "MSRP t0 SEND", "m0 1-0/0", 0);
        assert_eq!(drawn(&[empty])[0].2, "MSRP SEND (empty)");
    }

    #[test]
    fn steps_are_in_order_of_time() {
        let late = |mut seen: Seen| {
            seen.record.at = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
            seen
        };
        let seen = [
            late(sip(ALICE, Direction::Received, 40, "SIP/2.0 202 Accepted", "1 MESSAGE")),
            sip(ALICE, Direction::Sent, 40, "MESSAGE sip:bob@example.org SIP/2.0", "1 MESSAGE"),
        ];
        let times: Vec<u64> =
            steps(&cast(), SystemTime::UNIX_EPOCH, &seen).iter().map(|step| step.at().as_secs()).collect();
        assert_eq!(times, [0, 1]);
    }

    #[test]
    fn thousands_are_told_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (20_971_520, "20,971,520")] {
            assert_eq!(grouped(number), text);
        }
    }
}
