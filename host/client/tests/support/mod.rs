//! Clients on loopback, and what they see on the wire.

#![allow(dead_code, missing_docs)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use restante_client::{
    Client, ClientConfiguration, ClientEvent, ClientEvents, Observer, ReceivedMessage, WireProtocol, WireRecord,
};
use tokio::time::timeout;

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const ALICE: &str = "sip:alice@example.org";
pub const BOB: &str = "sip:bob@example.org";

/// Nobody listens there.
pub fn nowhere() -> SocketAddr {
    "127.0.0.1:9".parse().unwrap()
}

/// Keeps every record.
#[derive(Default)]
pub struct Recorder {
    records: Mutex<Vec<WireRecord>>,
}

impl Observer for Recorder {
    fn record(&self, record: WireRecord) {
        self.records.lock().unwrap().push(record);
    }
}

impl Recorder {
    pub fn lines(&self, protocol: WireProtocol) -> Vec<String> {
        let records = self.records.lock().unwrap();
        let of_protocol = records.iter().filter(|record| record.protocol == protocol);
        of_protocol.map(|record| format!("{:?} {}", record.direction, record.line)).collect()
    }

    pub fn records(&self) -> Vec<WireRecord> {
        self.records.lock().unwrap().clone()
    }
}

/// Alice and Bob, each the other's server.
pub struct Pair {
    pub alice: Client,
    pub alice_events: ClientEvents,
    pub bob: Client,
    pub bob_events: ClientEvents,
    pub wire: Arc<Recorder>,
}

pub async fn pair(change: impl Fn(&mut ClientConfiguration, &mut ClientConfiguration)) -> Pair {
    let wire = Arc::<Recorder>::default();
    let mut bob = ClientConfiguration::new(BOB, nowhere());
    let mut alice = ClientConfiguration::new(ALICE, nowhere());
    alice.observer = Some(wire.clone());
    change(&mut alice, &mut bob);
    let (bob, bob_events) = Client::start(bob).await.unwrap();
    let (alice, alice_events) = Client::start(alice).await.unwrap();
    alice.set_server(bob.sip_address()).await.unwrap();
    bob.set_server(alice.sip_address()).await.unwrap();
    Pair { alice, alice_events, bob, bob_events, wire }
}

pub async fn next(events: &mut ClientEvents) -> ClientEvent {
    timeout(PATIENCE, events.next()).await.expect("an event in time").expect("a client")
}

pub async fn received(events: &mut ClientEvents) -> ReceivedMessage {
    match next(events).await {
        ClientEvent::Received(message) => *message,
        other => panic!("{other:?}"),
    }
}
