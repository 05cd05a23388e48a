//! A transport on loopback whose events can be awaited.

#![allow(dead_code, missing_docs)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use restante_sip::message::SipMessage;
use restante_transport::{
    CloseReason, Flow, Intake, Listener, SendFailure, SendToken, Transport, TransportEvent, TransportLimits, Unreadable,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Fixture {
    pub transport: Transport,
    pub events: mpsc::UnboundedReceiver<TransportEvent>,
    pub congested: Arc<AtomicBool>,
}

pub async fn start(listeners: &[&str], limits: TransportLimits) -> Fixture {
    let listeners: Vec<Listener> = listeners.iter().map(|text| text.parse().unwrap()).collect();
    let (sender, events) = mpsc::unbounded_channel();
    let congested = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&congested);
    let handler = move |event| {
        sender.send(event).ok();
        if says.load(Ordering::Relaxed) { Intake::Congested } else { Intake::Open }
    };
    let transport = Transport::start(&listeners, limits, Arc::new(handler)).await.unwrap();
    Fixture { transport, events, congested }
}

impl Fixture {
    pub fn address(&self, index: usize) -> SocketAddr {
        self.transport.listeners()[index].local
    }

    pub async fn next(&mut self) -> TransportEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("a transport")
    }

    pub async fn message(&mut self) -> (SipMessage, Flow) {
        match self.next().await {
            TransportEvent::Received { message, flow } => (message, flow),
            other => panic!("{other:?}"),
        }
    }

    pub async fn unreadable(&mut self) -> (Bytes, Unreadable) {
        match self.next().await {
            TransportEvent::Unreadable { bytes, reason, .. } => (bytes, reason),
            other => panic!("{other:?}"),
        }
    }

    pub async fn closed(&mut self) -> (Flow, CloseReason) {
        match self.next().await {
            TransportEvent::Closed { flow, reason } => (flow, reason),
            other => panic!("{other:?}"),
        }
    }

    pub async fn send_failed(&mut self) -> (SendToken, SendFailure, SocketAddr) {
        match self.next().await {
            TransportEvent::SendFailed { token, failure, remote } => (token, failure, remote),
            other => panic!("{other:?}"),
        }
    }

    pub fn count(&self, name: &str) -> u64 {
        self.transport.counters().snapshot().into_iter().find(|it| it.name == name).unwrap().count
    }

    /// Waits until so many connections are left.
    pub async fn until_open(&self, connections: usize) {
        let reached = async {
            while self.transport.open_connections() != connections {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{} open", self.transport.open_connections()));
    }

    /// Waits until a counter has come to a value; there is nothing else to await where something is left out.
    pub async fn until_count(&self, name: &str, value: u64) {
        let reached = async {
            while self.count(name) < value {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{name} = {} instead of {value}", self.count(name)));
    }
}

/// A request that says `name` in its Call-ID and carries `body`.
pub fn request(name: &str, body: &[u8]) -> Bytes {
    let mut text = format!(
        "MESSAGE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/TCP a.example;branch=z9hG4bK{name}\r\n\
         From: <sip:a@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: {name}\r\nCSeq: 1 MESSAGE\r\n\
         Max-Forwards: 70\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    text.extend_from_slice(body);
    text.into()
}

pub fn token(key: u64) -> Option<SendToken> {
    Some(SendToken { shard: 3, key })
}
