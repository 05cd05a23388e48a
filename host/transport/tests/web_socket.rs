//! What a WebSocket may keep waiting, over real sockets on loopback.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use restante_transport::{CloseReason, ListenerId, TransportLimits, WebSockets};
use support::{Fixture, PATIENCE, request, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

const TEXT: OpCode = OpCode::Data(Data::Text);
const MORE: OpCode = OpCode::Data(Data::Continue);
const PING: OpCode = OpCode::Control(Control::Ping);
const PONG: OpCode = OpCode::Control(Control::Pong);

/// A WebSocket that was agreed on, and what carries it.
async fn agreed(fixture: &Fixture) -> TcpStream {
    agreed_at(fixture.address(0), "sip").await
}

async fn agreed_at(place: SocketAddr, sub_protocol: &str) -> TcpStream {
    let stream = TcpStream::connect(place).await.unwrap();
    let request = ClientRequestBuilder::new(format!("ws://{place}/").parse().unwrap()).with_sub_protocol(sub_protocol);
    client_async(request, stream).await.unwrap().0.into_inner()
}

/// A frame of a client.
fn frame(kind: OpCode, payload: &[u8], is_final: bool) -> Vec<u8> {
    let mut frame = Frame::message(payload.to_vec(), kind, is_final);
    // A mask that changes nothing.
    frame.header_mut().mask = Some([0; 4]);
    let mut bytes = Vec::new();
    frame.header().format(payload.len() as u64, &mut bytes).unwrap();
    bytes.extend_from_slice(payload);
    bytes
}

#[tokio::test]
async fn a_message_that_does_not_come_to_its_end_ends_the_connection_whatever_comes_between() {
    let limits = TransportLimits { message_timeout: Duration::from_millis(400), ..TransportLimits::default() };
    let mut fixture = start(&["ws:127.0.0.1:0"], limits).await;
    let message = request("one", b"");
    let (first, rest) = message.split_at(20);
    // In time, with a ping between its parts.
    let mut honest = agreed(&fixture).await;
    for bytes in [frame(TEXT, first, false), frame(PING, b"", true), frame(MORE, rest, true)] {
        honest.write_all(&bytes).await.unwrap();
    }
    assert_eq!(fixture.message().await.0.call_id(), Some("one"));
    for beginning in [frame(TEXT, first, false), frame(TEXT, first, true)[..9].to_vec(), vec![0x81]] {
        let mut slow = agreed(&fixture).await;
        slow.write_all(&beginning).await.unwrap();
        let is_between_frames = beginning.len() > 20;
        let pinging = async {
            let (mut reader, mut writer) = slow.split();
            let mut rest = Vec::new();
            let reading = reader.read_to_end(&mut rest);
            tokio::pin!(reading);
            loop {
                tokio::select! {
                    _ = &mut reading => return,
                    () = tokio::time::sleep(Duration::from_millis(50)) => if is_between_frames {
                        let _ = writer.write_all(&frame(PING, b"", true)).await;
                    },
                }
            }
        };
        timeout(PATIENCE, pinging).await.expect("the connection is closed in time");
    }
    fixture.until_count("streams_timed_out", 3).await;
}

#[tokio::test]
async fn keep_alives_of_any_kind_make_up_for_no_message() {
    let short = Duration::from_secs(1);
    let limits = TransportLimits { first_byte_timeout: short, message_timeout: short, ..TransportLimits::default() };
    let mut fixture = start(&["ws:127.0.0.1:0"], limits).await;
    // The last one is never between messages: another keep-alive has always begun.
    let overlapping = [&frame(TEXT, b"\r\n", true)[1..], &frame(TEXT, b"\r\n", true)[..1]].concat();
    for (first, keep_alive) in [
        (Vec::new(), frame(TEXT, b"\r\n", true)),
        (Vec::new(), frame(TEXT, b"\r\n\r\n", true)),
        (Vec::new(), frame(TEXT, b"", true)),
        (Vec::new(), frame(PING, b"", true)),
        (frame(TEXT, b"", true)[..1].to_vec(), overlapping),
    ] {
        let mut idle = agreed(&fixture).await;
        idle.write_all(&first).await.unwrap();
        let (mut reader, mut writer) = idle.split();
        let mut rest = Vec::new();
        let pinging = async {
            let reading = reader.read_to_end(&mut rest);
            tokio::pin!(reading);
            loop {
                tokio::select! {
                    _ = &mut reading => return,
                    () = tokio::time::sleep(Duration::from_millis(20)) => {
                        let _ = writer.write_all(&keep_alive).await;
                    }
                }
            }
        };
        timeout(PATIENCE, pinging).await.expect("the connection is closed in time");
        assert!(matches!(fixture.closed().await.1, CloseReason::FirstByteTimeout | CloseReason::MessageTimeout));
    }
    let mut honest = agreed(&fixture).await;
    honest.write_all(&frame(TEXT, b"\r\n\r\n", true)).await.unwrap();
    honest.write_all(&frame(TEXT, &request("first", b""), true)).await.unwrap();
    assert_eq!(fixture.message().await.0.call_id(), Some("first"));
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        honest.write_all(&frame(TEXT, b"\r\n\r\n", true)).await.unwrap();
    }
    assert!(fixture.events.try_recv().is_err(), "it is open");
}

#[tokio::test]
async fn whoever_pings_and_reads_nothing_is_closed() {
    let limits = TransportLimits { write_timeout: Duration::from_millis(300), ..TransportLimits::default() };
    let fixture = start(&["ws:127.0.0.1:0"], limits).await;
    let mut deaf = agreed(&fixture).await;
    let pings = frame(PING, &[7; 125], true).repeat(500);
    let pinging = async { while deaf.write_all(&pings).await.is_ok() {} };
    timeout(PATIENCE, pinging).await.expect("the connection is closed in time");
    fixture.until_count("streams_too_slow", 1).await;
}

#[tokio::test]
async fn a_quiet_connection_is_pinged_and_closed_when_nobody_answers() {
    let limits = TransportLimits { web_socket_ping: Duration::from_secs(1), ..TransportLimits::default() };
    let mut fixture = start(&["ws:127.0.0.1:0"], limits).await;
    let (mut alive, mut gone) = (agreed(&fixture).await, agreed(&fixture).await);
    for stream in [&mut alive, &mut gone] {
        stream.write_all(&frame(TEXT, &request("first", b""), true)).await.unwrap();
        fixture.message().await;
    }
    let answering = async {
        for _ in 0..5 {
            // Of a server, without a mask.
            let mut ping = [0; 2];
            alive.read_exact(&mut ping).await.unwrap();
            assert_eq!(ping, [0x89, 0]);
            alive.write_all(&frame(PONG, b"", true)).await.unwrap();
        }
    };
    let mut pings = Vec::new();
    timeout(PATIENCE, async { tokio::join!(answering, gone.read_to_end(&mut pings)) }).await.unwrap().1.unwrap();
    assert_eq!(pings[..4], [0x89, 0, 0x89, 0], "two pings, and then it is closed");
    assert_eq!(fixture.closed().await.1, CloseReason::Idle);
    assert!(fixture.events.try_recv().is_err(), "who answers stays");
}

#[tokio::test]
async fn whoever_answers_pings_alone_is_idle() {
    let (ping, idle) = (Duration::from_millis(50), Duration::from_millis(400));
    let limits = TransportLimits { web_socket_ping: ping, idle_timeout: idle, ..TransportLimits::default() };
    let mut fixture = start(&["ws:127.0.0.1:0"], limits).await;
    let mut stream = agreed(&fixture).await;
    stream.write_all(&frame(TEXT, &request("first", b""), true)).await.unwrap();
    fixture.message().await;
    let answering = async {
        let mut ping = [0; 2];
        while stream.read_exact(&mut ping).await.is_ok() && stream.write_all(&frame(PONG, b"", true)).await.is_ok() {}
    };
    timeout(PATIENCE, answering).await.expect("the connection is closed in time");
    assert_eq!(fixture.closed().await.1, CloseReason::Idle);
}

#[tokio::test]
async fn a_quiet_client_of_the_msrp_relay_is_pinged_and_closed_when_it_does_not_answer() {
    // Four of them take four intervals; eight where every other ping is left out.
    let interval = Duration::from_millis(1_600);
    let limits = TransportLimits { web_socket_ping: interval, ..TransportLimits::default() };
    let fixture = start(&[], limits).await;
    let (clients, mut accepted) = tokio::sync::mpsc::unbounded_channel();
    let listener = "ws:127.0.0.1:0".parse().unwrap();
    let hand_over = move |client| _ = clients.send(client);
    let bound = fixture.transport.listen_msrp_web(&listener, ListenerId(0), WebSockets::default(), hand_over).unwrap();
    let mut stream = agreed_at(bound.local, "msrp").await;
    let mut client = timeout(PATIENCE, accepted.recv()).await.unwrap().unwrap();
    let began = std::time::Instant::now();
    for _ in 0..4 {
        let mut ping = [0; 2];
        timeout(PATIENCE, stream.read_exact(&mut ping)).await.unwrap().unwrap();
        assert_eq!(ping, [0x89, 0]);
        stream.write_all(&frame(PONG, b"", true)).await.unwrap();
    }
    assert!(
        began.elapsed() < interval * 7,
        "what came before is no sign of life of now, so that every other ping is left out"
    );
    // What comes now is not answered any more.
    let gone = timeout(PATIENCE, client.incoming.recv()).await.expect("it is told in time");
    assert_eq!(gone, None);
}
