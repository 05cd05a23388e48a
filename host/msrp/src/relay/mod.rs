//! The relay's side of AUTH for one client (RFC 4976 §6, RFC 7977): what comes from the client goes on to the next
//! hop of its To-Path, what comes to the client's session URI goes to the client. Bytes in, whole frames out.
//!
//! A client has one connection (a WebSocket, since a browser cannot be connected to), one session URI, and a *leg* to each
//! peer. The host carries out [`Output`]s, and answers [`Output::Authenticate`].
//!
//! | from | what | to | with |
//! |---|---|---|---|
//! | client | AUTH to this relay | host | [`RelayedClient::challenge`], [`RelayedClient::refuse`], [`RelayedClient::grant`] (§6.3) |
//! | client | AUTH through this relay to another | – | 403: see the deviation |
//! | client | SEND, REPORT whose first URI is the client's session | the leg of the next URI, made where there is none | our URI moves from To-Path to From-Path (§6.4.1, §6.4.2) |
//! | leg | the same | client | the same |
//! | any | first URI is no session that lives, or the last one | – | SEND: 481 |
//! | any | another method | – | 501 |
//! | any | the end of a SEND | back | 200 where Failure-Report is `yes`: this hop has it (§6.4.1) |
//! | any | a response | – | it ends this hop: see below |
//!
//! | a chunk that was passed on | then |
//! |---|---|
//! | 2xx | it is forgotten |
//! | another status, and Failure-Report is not `no` | REPORT with it, back along From-Path (§6.4.3) |
//! | nothing for 30 s after it was written, and Failure-Report is `yes` | REPORT 408 |
//! | its leg is lost, and Failure-Report is not `no` | REPORT with the reason of the host; what still comes of it is dropped |
//!
//! Chunks are passed on in pieces of at most 10 KiB, each a chunk of its own with its Byte-Range: so nothing is held but one
//! piece a leg, a large chunk is interrupted wherever something else is to be written (RFC 4975 §7.1.1), and what several
//! peers send never mixes.
//!
//! | a leg that a peer made, and nothing of which went on to the client | then |
//! |---|---|
//! | one of its requests, or a piece of 10 KiB, goes on | it stays as long as nobody needs its place |
//! | [`RelayLimits::first_request_within`] passes | it is closed |
//! | another leg is to be made and there is no room: peers have half of `max_legs`, or all of them are taken | the oldest such leg is closed; where there is none, the one on which nothing came or went for longest, for 30 s at least and with nothing under way; else the new one is refused |
//!
//! A leg has the names of those who speak on it. A peer that connects again takes its name along: the newest of the
//! connections that peers made has it. What we connected to a host keeps its name, as nobody else can be there.
//!
//! Deviation: requests of other methods are not passed on, and AUTH not through this relay to another one (§5.1, §6.4.2): there is
//! nothing behind this server that a browser needs a further relay for.
//!
//! Deviation: a request whose To-Path begins with no URI of this relay is answered 481, and its connection stays, where §6.2 ends
//! it: a client whose session has just run out asks again on the connection that it has.
//!
//! Deviation: a client has one session URI, which a further AUTH renews, where §3.1 has one for each session: so sessions of one
//! client are told apart by the rest of their paths alone, and whoever was told the URI for one session can send to the client
//! until it runs out.
//!
//! Deviation: a response is known by its transaction on the leg that it comes from; its To-Path is not compared (§6.4.3 drops
//! one whose To-Path is not ours). Ids are unguessable, and a leg is one peer's.

mod legs;
mod passing;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::legs::Leg;
use self::passing::{Passing, Sent};
use crate::byte_range::ByteRange;
use crate::framing::{
    ContinuationFlag, Frame, FramingError, FramingLimits, Header, Method, ReportStatus, RequestHead, Response,
    answer_to, end_line,
};
use crate::status::Status;
use crate::transaction_ids::TransactionIds;
use crate::uri::{MAX_PATH_URIS, MsrpPath, MsrpUri};

/// Names a connection of a client, within that client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegId(pub u64);

impl LegId {
    /// The client's own.
    pub const CLIENT: LegId = LegId(0);
}

/// Bounds of one client.
#[derive(Clone, Debug)]
pub struct RelayLimits {
    /// Of each stream.
    pub framing: FramingLimits,
    /// Peers at a time, of whom half at most connected to us; a SEND to one more is answered 403. Default 32.
    pub max_legs: usize,
    /// Time for the first request of a peer that connected. Default 30 s.
    pub first_request_within: Duration,
    /// Chunks whose answers are awaited; of more the oldest is forgotten, and no REPORT comes of it. Default 256.
    pub max_transactions: usize,
    /// Seconds that a session URI may live, and has to.
    pub lifetime_seconds: (u32, u32),
}

impl Default for RelayLimits {
    fn default() -> RelayLimits {
        RelayLimits {
            framing: FramingLimits::default(),
            max_legs: 32,
            first_request_within: Duration::from_secs(30),
            max_transactions: 256,
            lifetime_seconds: (60, 3_600),
        }
    }
}

/// What the host is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write this whole frame there.
    Write(LegId, Bytes),
    /// Connect this leg to the host of the URI; what is written to it meanwhile waits. Where that cannot be:
    /// [`RelayedClient::leg_lost`].
    Connect(LegId, MsrpUri),
    /// Close this leg: nothing came of it in time, or others have its place.
    Close(LegId),
    /// Say who this is.
    Authenticate(Box<AuthRequest>),
    /// The session URI is not ours any more.
    Expired,
}

/// An AUTH to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthRequest {
    head: RequestHead,
}

impl AuthRequest {
    /// Values of Authorization.
    pub fn authorizations(&self) -> impl Iterator<Item = &str> {
        let is_it = |header: &&Header| header.name.eq_ignore_ascii_case("Authorization");
        self.head.other_headers.iter().filter(is_it).map(|header| header.value.as_str())
    }

    /// The relay as the client calls it, which its credentials name too (§9.1).
    #[must_use]
    pub fn uri(&self) -> &MsrpUri {
        self.head.to_path.last()
    }

    /// How long it asks for, in seconds.
    fn expires(&self) -> Option<u32> {
        let header = self.head.other_headers.iter().find(|header| header.name.eq_ignore_ascii_case("Expires"))?;
        header.value.parse().ok()
    }
}

/// One client of the relay.
#[derive(Debug)]
pub struct RelayedClient {
    limits: RelayLimits,
    transaction_ids: TransactionIds,
    session: Option<Session>,
    legs: BTreeMap<LegId, Leg>,
    next_leg: u64,
    sent: VecDeque<Sent>,
    output: VecDeque<Output>,
}

/// What was granted.
#[derive(Debug)]
struct Session {
    uri: MsrpUri,
    until: Instant,
}

impl RelayedClient {
    /// A client that has not authenticated. `random` must be fresh and unpredictable.
    #[must_use]
    pub fn new(limits: RelayLimits, random: [u8; 16]) -> RelayedClient {
        let client = Leg::of_client(&limits.framing);
        RelayedClient {
            transaction_ids: TransactionIds::new(random),
            session: None,
            legs: BTreeMap::from([(LegId::CLIENT, client)]),
            next_leg: 1,
            sent: VecDeque::new(),
            output: VecDeque::new(),
            limits,
        }
    }

    /// Takes bytes of a leg.
    ///
    /// # Errors
    /// The stream cannot be read any more: it is to be closed.
    pub fn receive(&mut self, now: Instant, leg: LegId, bytes: Bytes) -> Result<(), FramingError> {
        let Some(known) = self.legs.get_mut(&leg) else { return Ok(()) };
        known.last = Some(now);
        known.framer.push(bytes);
        while let Some(frame) = self.legs.get_mut(&leg).map(|leg| leg.framer.next_frame()).transpose()?.flatten() {
            match frame {
                Frame::Request(head) => self.request(now, leg, *head),
                Frame::Content(bytes) => self.content(leg, &bytes),
                Frame::End(flag) => self.end(leg, flag),
                Frame::Response(response) => self.response(leg, &response),
                Frame::BadRequest(bad) => {
                    let is_answerable = bad.method != Method::Report && bad.failure_report.wants(bad.error.status());
                    if let (Some(from), Some(to), true) = (bad.from_path, bad.to_path, is_answerable) {
                        let whole = bad.method != Method::Send;
                        let answer =
                            crate::framing::response(&bad.transaction_id, bad.error.status(), &to, &from, whole);
                        self.write(leg, answer);
                    }
                }
            }
        }
        Ok(())
    }

    /// Answers AUTH with 401 and these values of WWW-Authenticate.
    pub fn challenge(&mut self, request: &AuthRequest, challenges: Vec<String>) {
        let headers = challenges.into_iter().map(|value| header("WWW-Authenticate", value)).collect();
        self.answer_auth(request, Status::UNAUTHORIZED, headers);
    }

    /// Answers AUTH with a status that ends it.
    pub fn refuse(&mut self, request: &AuthRequest, status: Status) {
        self.answer_auth(request, status, Vec::new());
    }

    /// Answers AUTH of whoever may use the relay: with 200 and Use-Path, or with 423 where it asks for too short a time
    /// (§4.6, §6.3). A client that has a session already keeps its URI. `uri` is a new one, for peers to connect to. Whether the
    /// client has a session that it had not. `info` is the value of Authentication-Info, which shows that the password is known
    /// here (§9.1).
    pub fn grant(&mut self, now: Instant, request: &AuthRequest, uri: MsrpUri, info: Option<String>) -> bool {
        let (least, most) = self.limits.lifetime_seconds;
        let asked = request.expires().unwrap_or(most).min(most);
        if asked < least {
            self.answer_auth(request, Status::OUT_OF_BOUNDS, vec![header("Min-Expires", least.to_string())]);
            return false;
        }
        let is_new = self.session.is_none();
        let session = self.session.get_or_insert(Session { uri, until: now });
        // What was promised before holds.
        session.until = session.until.max(now + Duration::from_secs(asked.into()));
        let mut headers = vec![header("Use-Path", session.uri.to_string()), header("Expires", asked.to_string())];
        headers.extend(info.map(|value| header("Authentication-Info", value)));
        self.answer_auth(request, Status::OK, headers);
        is_new
    }

    /// Until when the session lives.
    #[must_use]
    pub fn granted_until(&self) -> Option<Instant> {
        self.session.as_ref().map(|session| session.until)
    }

    /// When [`RelayedClient::handle_wake`] is to be called.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let of_sent = self.sent.iter().filter_map(|sent| sent.until).min();
        [of_sent, self.granted_until(), self.next_silence()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_wake(&mut self, now: Instant) {
        let (over, left): (VecDeque<Sent>, VecDeque<Sent>) =
            std::mem::take(&mut self.sent).into_iter().partition(|sent| sent.until.is_some_and(|until| until <= now));
        self.sent = left;
        for sent in over.iter().filter(|sent| sent.is_answered()) {
            self.report(sent, Status::TIMED_OUT);
        }
        self.close_silent(now);
        if self.granted_until().is_some_and(|until| until <= now) {
            self.session = None;
            self.output.push_back(Output::Expired);
        }
    }

    /// What is to be done, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    fn request(&mut self, now: Instant, leg: LegId, head: RequestHead) {
        match self.next_hop(now, leg, &head) {
            Ok(Some((target, uri))) => {
                if let Some(known) = self.legs.get_mut(&leg) {
                    known.passing = Passing::new(head, target, uri);
                }
            }
            Ok(None) => {}
            Err(status) if head.method != Method::Report && head.failure_report.wants(status) => {
                self.write(leg, answer_to(&head, status));
            }
            Err(_) => {}
        }
    }

    /// Where a request goes and under which URI of ours. None: it was for us.
    fn next_hop(&mut self, now: Instant, leg: LegId, head: &RequestHead) -> Result<Option<(LegId, MsrpUri)>, Status> {
        let is_auth = matches!(&head.method, Method::Other(name) if name == "AUTH");
        if is_auth && leg == LegId::CLIENT {
            if head.to_path.has_relays() {
                return Err(Status::FORBIDDEN);
            }
            self.output.push_back(Output::Authenticate(Box::new(AuthRequest { head: head.clone() })));
            return Ok(None);
        }
        if matches!(head.method, Method::Other(_)) {
            return Err(Status::UNKNOWN_METHOD);
        }
        let named = head.to_path.first().session_id.as_deref();
        let session = self.session.as_ref().filter(|it| named.is_some() && it.uri.session_id.as_deref() == named);
        let (Some(session), Some(next)) = (session, head.to_path.iter().nth(1)) else {
            return Err(Status::NO_SUCH_SESSION);
        };
        // Ours would be one too many in it.
        if head.from_path.iter().count() >= MAX_PATH_URIS {
            return Err(Status::BAD_REQUEST);
        }
        let uri = session.uri.clone();
        if leg != LegId::CLIENT {
            self.name_leg(leg, head.from_path.first());
            return Ok(Some((LegId::CLIENT, uri)));
        }
        let known = self.legs.iter().find(|(_, leg)| leg.uris.iter().any(|uri| uri.same_as(next)));
        if let Some((target, _)) = known {
            return Ok(Some((*target, uri)));
        }
        let target = self.connect_leg(now, next).ok_or(Status::FORBIDDEN)?;
        Ok(Some((target, uri)))
    }

    fn write(&mut self, leg: LegId, bytes: Bytes) {
        if let Some(known) = self.legs.get_mut(&leg) {
            known.queued += 1;
        }
        self.output.push_back(Output::Write(leg, bytes));
    }

    fn content(&mut self, leg: LegId, bytes: &[u8]) {
        let Some(known) = self.legs.get_mut(&leg) else { return };
        let Some(mut passing) = known.passing.take() else { return };
        passing.hold(bytes);
        while let Some(piece) = passing.next_piece() {
            self.pass_on(leg, &mut passing, piece, ContinuationFlag::More);
        }
        if let Some(known) = self.legs.get_mut(&leg) {
            known.passing = Some(passing);
        }
    }

    fn end(&mut self, leg: LegId, flag: ContinuationFlag) {
        let Some(mut passing) = self.legs.get_mut(&leg).and_then(|known| known.passing.take()) else { return };
        let last = passing.last_piece();
        if !passing.is_lost() {
            self.pass_on(leg, &mut passing, last, flag);
        }
        if let Some(answer) = passing.answer() {
            self.write(leg, answer);
        }
    }

    /// Writes a piece as a chunk of its own.
    fn pass_on(&mut self, from: LegId, passing: &mut Passing, piece: Bytes, flag: ContinuationFlag) {
        let transaction_id = self.transaction_ids.next_absent_from(&piece);
        let (bytes, sent) = passing.write(transaction_id, piece, flag, from);
        self.write(passing.target, bytes);
        if let Some(known) = self.legs.get_mut(&from) {
            known.has_begun();
        }
        if let Some(mut sent) = sent {
            sent.frame = self.legs.get(&passing.target).map_or(0, |target| target.queued);
            self.sent.push_back(sent);
            if self.sent.len() > self.limits.max_transactions {
                self.sent.pop_front();
            }
        }
    }

    fn response(&mut self, leg: LegId, response: &Response) {
        let is_it = |sent: &Sent| sent.leg == leg && sent.transaction_id == response.transaction_id;
        let Some(sent) = self.sent.iter().position(is_it).and_then(|at| self.sent.remove(at)) else { return };
        if !response.status.is_success() {
            self.report(&sent, response.status);
        }
    }

    /// Tells whoever sent a chunk what became of it further on (§6.4.3).
    fn report(&mut self, sent: &Sent, status: Status) {
        let Some(message_id) = sent.message_id.clone().filter(|_| self.legs.contains_key(&sent.from)) else { return };
        let mut head = RequestHead::of_ours(
            self.transaction_ids.next(),
            Method::Report,
            sent.back.clone(),
            MsrpPath::from(sent.uri.clone()),
            message_id,
            sent.byte_range.unwrap_or(ByteRange::UNSTATED),
        );
        head.status = Some(ReportStatus { namespace: 0, status });
        let end = end_line(&head.transaction_id, ContinuationFlag::Complete);
        self.write(sent.from, Bytes::from(head.to_wire() + &end));
    }

    fn answer_auth(&mut self, request: &AuthRequest, status: Status, other_headers: Vec<Header>) {
        let head = &request.head;
        let response = Response {
            transaction_id: head.transaction_id.clone(),
            status,
            comment: status.comment().to_owned(),
            to_path: head.from_path.clone(),
            from_path: MsrpPath::from(head.to_path.first().clone()),
            other_headers,
        };
        self.write(LegId::CLIENT, response.to_wire());
    }
}

fn header(name: &str, value: String) -> Header {
    Header { name: name.to_owned(), value }
}
