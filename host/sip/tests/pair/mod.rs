//! Two endpoints, queues in memory, a clock that jumps to whatever is next, and settable loss.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use restante_sip::dialog::{Dialog, establish};
use restante_sip::message::{MessageLimits, Method, SipMessage};
use restante_sip::transaction::{
    ClientTransactionId, ConnectionId, Endpoint, EndpointConfiguration, Event, Flow, SendError, ServerTransactionId,
    TimerValues, Transport,
};
use restante_sip::writer::Builder;

pub const ALICE: usize = 0;
pub const BOB: usize = 1;

/// How long anything is on its way.
const LATENCY: Duration = Duration::from_millis(20);

pub struct Pair {
    endpoints: [Endpoint; 2],
    start: Instant,
    now: Instant,
    /// When to whom; latency is constant, so they are in order.
    wire: VecDeque<(Instant, usize, Bytes)>,
    random: u64,
    pub loss_percent: u8,
    pub use_tcp: bool,
    /// Messages that each side sent, the lost ones too.
    pub sent: [usize; 2],
    /// The last request of a user, without its repetitions.
    pub last_request: SipMessage,
}

impl Pair {
    pub fn new(seed: u64) -> Pair {
        Pair::with_limits(seed, 1000)
    }

    pub fn with_limits(seed: u64, max_transactions: usize) -> Pair {
        let start = Instant::now();
        let endpoint = |shard: u8| {
            Endpoint::new(EndpointConfiguration {
                shard,
                key: [shard; 32],
                timers: TimerValues::default(),
                max_server_transactions: max_transactions,
                max_client_transactions: max_transactions,
                usual_transactions: 0,
            })
        };
        Pair {
            endpoints: [endpoint(1), endpoint(2)],
            start,
            now: start,
            wire: VecDeque::new(),
            random: seed,
            loss_percent: 0,
            use_tcp: false,
            sent: [0, 0],
            last_request: message_of(&Bytes::from_static(b"INVITE sip:x SIP/2.0\r\n\r\n")),
        }
    }

    pub fn endpoint(&mut self, side: usize) -> &mut Endpoint {
        &mut self.endpoints[side]
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.endpoints.iter().all(Endpoint::is_empty)
    }

    /// From this side to the other.
    pub fn flow(&self, side: usize) -> Flow {
        let udp = Flow {
            transport: Transport::Udp,
            local: address(side),
            remote: address(1 - side),
            connection: None,
            name: None,
        };
        if self.use_tcp { tcp(udp) } else { udp }
    }

    pub fn try_send(&mut self, side: usize, method: Method, name: &str) -> Result<ClientTransactionId, SendError> {
        let flow = self.flow(side);
        let tag = self.endpoints[side].identifiers().tag();
        let mut request = Bytes::new();
        let id = self.endpoints[side].send_request(self.now, method.clone(), flow, &flow.local.to_string(), |via| {
            request = Builder::request(&method, "sip:you@example.org")
                .field("Via", via)
                .field("From", &format!("<sip:me@example.org>;tag={tag}"))
                .field("To", "<sip:you@example.org>")
                .field("Call-ID", name)
                .field("CSeq", &format!("1 {method}"))
                .field("Contact", &format!("<sip:me@{}>", flow.local))
                .finish()?;
            Ok(request.clone())
        })?;
        self.last_request = message_of(&request);
        Ok(id)
    }

    pub fn send(&mut self, side: usize, method: Method, name: &str) -> ClientTransactionId {
        self.try_send(side, method, name).unwrap()
    }

    pub fn send_in_dialog(&mut self, side: usize, dialog: &mut Dialog, method: &Method) -> ClientTransactionId {
        let flow = self.flow(side);
        let build = |via: &str| dialog.request(method, via).finish();
        self.endpoints[side].send_request(self.now, method.clone(), flow, &flow.local.to_string(), build).unwrap()
    }

    pub fn acknowledge(&mut self, side: usize, dialog: &Dialog, response: &SipMessage) {
        let flow = self.flow(side);
        let via = self.endpoints[side].via(flow.transport, &flow.local.to_string());
        let ack = dialog.ack(response, &via).unwrap().finish().unwrap();
        self.endpoints[side].send_stateless(flow, ack);
    }

    /// Ignored when the transaction is answered or gone.
    pub fn answer(&mut self, side: usize, transaction: ServerTransactionId, status: u16) {
        if let Some(response) = self.endpoints[side].response(transaction, status, Some("t")) {
            // What lacks a mandatory field cannot be answered; real users validate first.
            if let Ok(bytes) = response.finish() {
                self.endpoints[side].respond(self.now, transaction, status, bytes);
            }
        }
    }

    pub fn accept(&mut self, side: usize, transaction: ServerTransactionId, request: &SipMessage) -> Dialog {
        let tag = self.endpoints[side].identifiers().tag();
        let response = self.endpoints[side].response(transaction, 200, Some(&tag)).unwrap();
        let response = establish(response, request, &format!("sip:us@{}", address(side))).finish().unwrap();
        self.endpoints[side].respond(self.now, transaction, 200, response);
        Dialog::as_server(request, &tag).unwrap()
    }

    pub fn cancel(&mut self, side: usize, transaction: ClientTransactionId) {
        self.endpoints[side].cancel(self.now, transaction);
    }

    /// A message as if the other side had sent it.
    pub fn inject(&mut self, side: usize, text: &str) {
        let flow = Flow { remote: SocketAddr::new(address(1 - side).ip(), 5061), ..self.flow(side) };
        let message = message_of(&Bytes::copy_from_slice(text.as_bytes()));
        self.endpoints[side].receive(self.now, message, flow);
    }

    /// What a side wants to send, taken off before it reaches the wire.
    pub fn taken(&mut self, side: usize) -> Vec<Bytes> {
        std::iter::from_fn(|| self.endpoints[side].poll_transmit()).map(|transmit| transmit.bytes).collect()
    }

    pub fn events(&mut self, side: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.endpoints[side].poll_event()).collect()
    }

    /// Moves on to the next thing that happens. False: nothing will.
    pub fn step(&mut self) -> bool {
        self.flush();
        let wakes = self.endpoints.iter().filter_map(Endpoint::next_wake).min();
        let arrival = self.wire.front().map(|(at, ..)| *at);
        let Some(next) = wakes.into_iter().chain(arrival).min() else { return false };
        self.now = self.now.max(next);
        while self.wire.front().is_some_and(|(at, ..)| *at <= self.now) {
            let Some((_, to, bytes)) = self.wire.pop_front() else { break };
            let flow = self.flow(to);
            self.endpoints[to].receive(self.now, message_of(&bytes), flow);
        }
        for endpoint in &mut self.endpoints {
            endpoint.handle_wake(self.now);
        }
        self.flush();
        true
    }

    /// Until nothing is on its way; no timer is due meanwhile.
    pub fn deliver(&mut self) {
        self.flush();
        while !self.wire.is_empty() {
            self.step();
        }
    }

    /// Until nothing happens any more.
    pub fn run(&mut self) {
        while self.step() {}
    }

    fn flush(&mut self) {
        for side in [ALICE, BOB] {
            while let Some(transmit) = self.endpoints[side].poll_transmit() {
                self.sent[side] += 1;
                if self.percent() >= self.loss_percent {
                    self.wire.push_back((self.now + LATENCY, 1 - side, transmit.bytes));
                }
            }
        }
    }

    /// A linear congruential generator: all that a lossy wire needs.
    fn percent(&mut self) -> u8 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.random >> 33) % 100) as u8
    }
}

pub fn tcp(flow: Flow) -> Flow {
    Flow { transport: Transport::Tcp, connection: Some(ConnectionId(1)), ..flow }
}

pub fn message_of(bytes: &Bytes) -> SipMessage {
    SipMessage::from_datagram(bytes.clone(), &MessageLimits::default()).unwrap()
}

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + side as u8], 5060))
}
