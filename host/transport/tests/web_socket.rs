//! What a WebSocket may keep waiting, over real sockets on loopback.

mod support;

use std::time::Duration;

use restante_transport::{CloseReason, TransportLimits};
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

/// A WebSocket that was agreed on, and what carries it.
async fn agreed(fixture: &Fixture) -> TcpStream {
    let stream = TcpStream::connect(fixture.address(0)).await.unwrap();
    let uri = format!("ws://{}/", fixture.address(0)).parse().unwrap();
    let request = ClientRequestBuilder::new(uri).with_sub_protocol("sip");
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
    let short = Duration::from_millis(300);
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
    for _ in 0..10 {
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
