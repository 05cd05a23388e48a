//! MSRP connections find their session, and move to another runtime with what was read.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use restante_transport::msrp::{HandedOver, Peek, Unclaimed, connect};
use restante_transport::{BoundListener, ListenerId, SendFailure, TransportLimits};
use support::{Fixture, PATIENCE, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A stand-in for MSRP: `session:`, a name and a full stop.
fn peek(bytes: &[u8]) -> Peek<String> {
    match bytes.strip_prefix(b"session:") {
        Some(rest) => match rest.iter().position(|byte| *byte == b'.') {
            Some(end) => Peek::Session(String::from_utf8_lossy(&rest[..end]).into_owned()),
            None => Peek::Incomplete,
        },
        None if b"session:".starts_with(bytes) => Peek::Incomplete,
        None => Peek::Refused,
    }
}

async fn listen(limits: TransportLimits) -> (Fixture, BoundListener, mpsc::UnboundedReceiver<HandedOver<String>>) {
    listen_telling(limits, Box::new(|_| ())).await
}

async fn listen_telling(
    limits: TransportLimits,
    unclaimed: Unclaimed,
) -> (Fixture, BoundListener, mpsc::UnboundedReceiver<HandedOver<String>>) {
    let fixture = start(&[], limits).await;
    let (sender, receiver) = mpsc::unbounded_channel();
    let listener = "tcp:127.0.0.1:0".parse().unwrap();
    let hand_over = move |handed| drop(sender.send(handed));
    let bound = fixture.transport.listen_msrp(&listener, ListenerId(7), peek, hand_over, unclaimed).unwrap();
    (fixture, bound, receiver)
}

#[tokio::test]
async fn a_connection_moves_to_the_runtime_of_its_session_with_what_was_read() {
    let (_fixture, bound, mut handed) = listen(TransportLimits::default()).await;
    let mut peer = connect(bound.local, PATIENCE).await.unwrap();
    for piece in ["ses", "sion:abc", ".and mo", "re"] {
        peer.write_all(piece.as_bytes()).await.unwrap();
        peer.flush().await.unwrap();
    }
    let handed = timeout(PATIENCE, handed.recv()).await.unwrap().unwrap();
    assert_eq!(
        (handed.session.as_str(), handed.listener, handed.remote),
        ("abc", ListenerId(7), peer.local_addr().unwrap())
    );
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let shard = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut all = handed.received.to_vec();
            let mut stream = handed.stream.attach().unwrap();
            stream.read_to_end(&mut all).await.unwrap();
            stream.write_all(b"heard").await.unwrap();
            heard.lock().unwrap().extend(all);
        });
    });
    peer.shutdown().await.unwrap();
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).await.unwrap();
    shard.join().unwrap();
    assert_eq!((said.lock().unwrap().as_slice(), answer.as_slice()), (&b"session:abc.and more"[..], &b"heard"[..]));
}

#[tokio::test]
async fn who_does_not_say_whose_it_is_gets_closed() {
    let limits = TransportLimits {
        max_msrp_first_bytes: 100,
        msrp_first_bytes_timeout: Duration::from_millis(500),
        ..TransportLimits::default()
    };
    let (told, mut unclaimed) = mpsc::unbounded_channel();
    let (fixture, bound, mut handed) = listen_telling(limits, Box::new(move |remote| _ = told.send(remote))).await;
    let mut were_there = Vec::new();
    let endless = [b"session:".as_slice(), &[b'x'; 200]].concat();
    for (number, said) in [b"GET /".as_slice(), b"", b"session:half", &endless].into_iter().enumerate() {
        let mut peer = TcpStream::connect(bound.local).await.unwrap();
        were_there.push(peer.local_addr().unwrap());
        peer.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, peer.read_to_end(&mut answer)).await.expect("closed in time");
        assert!(answer.is_empty());
        fixture.until_count("msrp_unclaimed", number as u64 + 1).await;
    }
    // Who only looks whether somebody is there is told of to nobody.
    drop(TcpStream::connect(bound.local).await.unwrap());
    fixture.until_count("msrp_unclaimed", 5).await;
    assert!(handed.try_recv().is_err());
    let told: Vec<_> = std::iter::from_fn(|| unclaimed.try_recv().ok()).collect();
    assert_eq!(told, were_there);
}

#[tokio::test]
async fn connections_count_until_their_session_lets_go() {
    let limits = TransportLimits { max_msrp_connections: 1, ..TransportLimits::default() };
    let (fixture, bound, mut receiver) = listen(limits).await;
    let mut first = TcpStream::connect(bound.local).await.unwrap();
    first.write_all(b"session:1.").await.unwrap();
    let handed = timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap();
    let mut second = TcpStream::connect(bound.local).await.unwrap();
    assert!(!matches!(timeout(PATIENCE, second.read(&mut [0; 1])).await, Ok(Ok(1))));
    assert_eq!(fixture.count("connections_refused"), 1);
    drop(handed);
    let mut third = TcpStream::connect(bound.local).await.unwrap();
    third.write_all(b"session:3.").await.unwrap();
    assert_eq!(timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap().session, "3");

    fixture.transport.stop_accepting();
    timeout(PATIENCE, async { while TcpStream::connect(bound.local).await.is_ok() {} }).await.unwrap();
}

#[tokio::test]
async fn a_path_that_leads_nowhere_is_told_apart() {
    // Its port is taken, and nobody listens.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let failure = connect(closed.local_addr().unwrap(), PATIENCE).await.unwrap_err();
    assert_eq!(failure, SendFailure::Connect(std::io::ErrorKind::ConnectionRefused));
}
