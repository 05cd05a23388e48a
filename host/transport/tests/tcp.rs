//! Streams over real sockets on loopback: well-behaved peers and the others.

mod support;

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use restante_transport::{
    CloseReason, Protocol, SendFailure, SendToken, Target, TransportEvent, TransportLimits, Unreadable,
};
use support::{PATIENCE, request, start, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const TCP: &[&str] = &["tcp:127.0.0.1:0"];

fn to(remote: SocketAddr) -> Target {
    Target::Address { protocol: Protocol::Tcp, remote, listener: None, name: None }
}

async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset in place of an end is an end, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("the stream ends in time");
    all
}

#[tokio::test]
async fn messages_come_whole_however_they_are_cut_and_the_flow_leads_back() {
    for listen in ["tcp:127.0.0.1:0", "tcp:[::1]:0"] {
        let limits = TransportLimits { half_closed_timeout: Duration::from_millis(10), ..TransportLimits::default() };
        let mut fixture = start(&[listen], limits).await;
        let mut peer = TcpStream::connect(fixture.address(0)).await.unwrap();
        let both = [request("one", &[7; 3_000]), request("two", b"")].concat();
        for piece in both.chunks(700) {
            peer.write_all(piece).await.unwrap();
        }
        let (one, flow) = fixture.message().await;
        let (two, same) = fixture.message().await;
        assert_eq!((one.call_id(), one.body().len(), two.call_id()), (Some("one"), 3_000, Some("two")));
        assert_eq!((flow, flow.remote), (same, peer.local_addr().unwrap()));
        fixture.transport.sender().send(&Target::Flow(flow), Bytes::from_static(b"back"), None).unwrap();
        let mut buffer = [0; 4];
        peer.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"back");
        drop(peer);
        assert_eq!(fixture.closed().await, (flow, CloseReason::Peer));
        fixture.until_open(0).await;
        assert_eq!(
            fixture.transport.sender().send(&Target::Flow(flow), Bytes::from_static(b"x"), None),
            Err(SendFailure::NoConnection)
        );
    }
}

#[tokio::test]
async fn a_keep_alive_is_answered() {
    let fixture = start(TCP, TransportLimits::default()).await;
    let mut peer = TcpStream::connect(fixture.address(0)).await.unwrap();
    peer.write_all(b"\r\n\r\n").await.unwrap();
    let mut pong = [0; 2];
    timeout(PATIENCE, peer.read_exact(&mut pong)).await.unwrap().unwrap();
    assert_eq!(&pong, b"\r\n");
}

#[tokio::test]
async fn a_stream_of_garbage_is_closed_without_an_answer() {
    let mut fixture = start(TCP, TransportLimits::default()).await;
    for garbage in [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), vec![b'x'; 1 << 20]] {
        let mut peer = TcpStream::connect(fixture.address(0)).await.unwrap();
        let _ = peer.write_all(&garbage).await;
        assert!(matches!(fixture.unreadable().await.1, Unreadable::Stream(_)));
        assert_eq!(fixture.closed().await.1, CloseReason::Unreadable);
        assert!(read_all(&mut peer).await.is_empty());
    }
    assert_eq!(fixture.count("streams_unreadable"), 2);
}

#[tokio::test]
async fn what_cannot_be_delimited_is_handed_over_before_its_stream_ends() {
    let mut fixture = start(TCP, TransportLimits::default()).await;
    let mut peer = TcpStream::connect(fixture.address(0)).await.unwrap();
    peer.write_all(b"OPTIONS sip:a SIP/2.0\r\n\r\n").await.unwrap();
    let (message, _) = fixture.message().await;
    assert!(restante_sip::message::validate_request(&message).is_err());
    assert!(matches!(fixture.unreadable().await.1, Unreadable::Stream(_)));
    assert_eq!(fixture.closed().await.1, CloseReason::Unreadable);
    assert!(read_all(&mut peer).await.is_empty());
}

#[tokio::test]
async fn who_says_nothing_or_half_of_something_is_closed() {
    let short = Duration::from_millis(300);
    let limits = TransportLimits {
        first_byte_timeout: short,
        message_timeout: short,
        idle_timeout: short,
        ..TransportLimits::default()
    };
    let mut fixture = start(TCP, limits).await;
    let whole = request("whole", b"");
    for (said, reason) in [
        (&b""[..], CloseReason::FirstByteTimeout),
        (&whole[..40], CloseReason::MessageTimeout),
        // A keep-alive is no message, nor is half of one a part.
        (&b"\r"[..], CloseReason::FirstByteTimeout),
        (&b"\r\n"[..], CloseReason::FirstByteTimeout),
        (&whole[..], CloseReason::Idle),
    ] {
        let mut peer = TcpStream::connect(fixture.address(0)).await.unwrap();
        peer.write_all(said).await.unwrap();
        if said.len() == whole.len() {
            fixture.message().await;
        }
        assert_eq!(fixture.closed().await.1, reason);
        assert!(read_all(&mut peer).await.is_empty());
    }
    assert_eq!(fixture.count("streams_timed_out"), 5);
}

#[tokio::test]
async fn keep_alives_are_answered_and_make_up_for_no_message() {
    let limits = TransportLimits { first_byte_timeout: Duration::from_secs(1), ..TransportLimits::default() };
    let mut fixture = start(TCP, limits).await;
    let mut idle = TcpStream::connect(fixture.address(0)).await.unwrap();
    let mut pong = [0; 2];
    let pinging = async {
        let mut answered = 0;
        while idle.write_all(b"\r\n\r\n").await.is_ok() && idle.read_exact(&mut pong).await.is_ok() {
            answered += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        answered
    };
    let (answered, closed) = timeout(PATIENCE, async { tokio::join!(pinging, fixture.closed()) }).await.unwrap();
    assert_eq!(closed.1, CloseReason::FirstByteTimeout);
    assert!(answered > 1, "{answered}");
    // After a message they are all that it needs.
    let mut peer = TcpStream::connect(fixture.address(0)).await.unwrap();
    peer.write_all(b"\r\n\r\n").await.unwrap();
    peer.write_all(&request("first", b"")).await.unwrap();
    assert_eq!(fixture.message().await.0.call_id(), Some("first"));
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        peer.write_all(b"\r\n\r\n").await.unwrap();
        timeout(PATIENCE, peer.read_exact(&mut pong)).await.unwrap().unwrap();
    }
    assert!(fixture.events.try_recv().is_err(), "it is open");
}

#[tokio::test]
async fn a_message_that_only_drips_in_is_not_waited_for() {
    let limits = TransportLimits { message_timeout: Duration::from_millis(100), ..TransportLimits::default() };
    let mut fixture = start(TCP, limits).await;
    let mut peer = TcpStream::connect(fixture.address(0)).await.unwrap();
    let drip = async {
        for byte in request("drip", &[b'x'; 60_000]).chunks(1) {
            if peer.write_all(byte).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the whole message was taken");
    };
    let (_, closed) = timeout(PATIENCE, async { tokio::join!(drip, fixture.closed()) }).await.unwrap();
    assert_eq!(closed.1, CloseReason::MessageTimeout);
}

#[tokio::test]
async fn a_slow_reader_is_closed_and_every_sender_is_told() {
    let limits =
        TransportLimits { max_waiting_bytes: 4 << 20, max_waiting_messages: 1_000, ..TransportLimits::default() };
    let mut fixture = start(TCP, limits).await;
    let mut peer = TcpStream::connect(fixture.address(0)).await.unwrap();
    peer.write_all(&request("a", b"")).await.unwrap();
    let (_, flow) = fixture.message().await;
    let sender = fixture.transport.sender();
    let large = Bytes::from(vec![b'x'; 64 * 1024]);
    let mut taken = Vec::new();
    let refused = timeout(PATIENCE, async {
        for key in 0.. {
            if let Err(failure) = sender.send(&Target::Flow(flow), large.clone(), token(key)) {
                return failure;
            }
            taken.push(key);
            tokio::task::yield_now().await;
        }
        unreachable!()
    });
    assert_eq!(refused.await.unwrap(), SendFailure::QueueFull);
    assert_eq!(fixture.closed().await.1, CloseReason::TooSlow);
    fixture.until_count("streams_too_slow", 1).await;
    let mut unsent = Vec::new();
    while fixture.count("stream_messages_sent") + unsent.len() as u64 != taken.len() as u64 {
        let (SendToken { shard: 3, key }, failure, remote) = fixture.send_failed().await else { panic!() };
        assert_eq!((failure, remote), (SendFailure::QueueFull, flow.remote));
        unsent.push(key);
    }
    let sent = fixture.count("stream_messages_sent");
    assert!(!unsent.is_empty());
    assert_eq!(unsent, taken[usize::try_from(sent).unwrap()..], "in order");
    // The peer never sees a part of what comes after a gap.
    assert!(read_all(&mut peer).await.len() as u64 >= sent * large.len() as u64);
}

#[tokio::test]
async fn who_asks_and_reads_no_answers_is_not_read_on_until_it_does() {
    const MOST: usize = 64 << 20;
    let hour = Duration::from_secs(3_600);
    for write_timeout in [hour, Duration::from_millis(500)] {
        let (most, patient) = (1 << 30, write_timeout == hour);
        let limits = TransportLimits {
            max_waiting_bytes: most,
            max_waiting_messages: 1_000_000,
            max_waiting_bytes_of_all: most,
            message_timeout: hour,
            write_timeout,
            ..TransportLimits::default()
        };
        let mut fixture = start(TCP, limits).await;
        let (mut from, mut into) = TcpStream::connect(fixture.address(0)).await.unwrap().into_split();
        let (piece, answer) = (request("again", &[b'x'; 30_000]), Bytes::from(vec![b'y'; 60_000]));
        let (sender, answered) = (fixture.transport.sender(), Cell::new(0));
        let mut answering = pin!(async {
            loop {
                match fixture.next().await {
                    TransportEvent::Received { flow, .. } => {
                        if sender.send(&Target::Flow(flow), answer.clone(), None).is_ok() {
                            answered.set(answered.get() + 1);
                        }
                    }
                    TransportEvent::Closed { reason, .. } => return reason,
                    other => panic!("{other:?}"),
                }
            }
        });
        let mut written = 0;
        // Whoever is closed for it need not find out by himself.
        let blocked_after = if patient { Duration::from_secs(1) } else { PATIENCE };
        let writing = async {
            while written < MOST
                && let Ok(Ok(())) = timeout(blocked_after, into.write_all(&piece)).await
            {
                written += piece.len();
            }
        };
        let closed = tokio::select! {
            () = writing => None,
            reason = &mut answering => Some(reason),
        };
        assert!(written < MOST, "its answers wait without end");
        if !patient {
            let closed = if closed.is_some() { closed } else { Some(answering.await) };
            assert_eq!(closed, Some(CloseReason::TooSlow));
            continue;
        }
        let reading = async {
            let mut buffer = vec![0; 1 << 16];
            while answered.get() < written / piece.len() {
                assert!(from.read(&mut buffer).await.unwrap() > 0);
            }
        };
        tokio::select! {
            () = reading => {}
            reason = answering => panic!("closed: {reason:?}"),
        }
    }
}

#[tokio::test]
async fn a_flood_beyond_what_the_handler_takes_makes_the_stream_wait() {
    let limits = TransportLimits { congested_pause: Duration::from_secs(3_600), ..TransportLimits::default() };
    let mut fixture = start(TCP, limits).await;
    fixture.congested.store(true, Ordering::Relaxed);
    let mut peer = TcpStream::connect(fixture.address(0)).await.unwrap();
    let piece = request("flood", &[b'x'; 60_000]);
    let mut written = 0;
    while let Ok(Ok(())) = timeout(Duration::from_millis(200), peer.write_all(&piece)).await {
        written += piece.len();
        assert!(written < 64 << 20, "the socket is not read, so writing must block");
    }
    fixture.message().await;
    assert!(fixture.events.try_recv().is_err(), "one message was handed over, the next has to wait");
    assert_eq!(fixture.count("streams_paused"), 1);
}

#[tokio::test]
async fn connections_of_one_source_are_bounded_and_freed() {
    let limits = TransportLimits {
        max_connections_per_source: 2,
        half_closed_timeout: Duration::from_millis(10),
        ..TransportLimits::default()
    };
    let mut fixture = start(&["tcp:127.0.0.1:0", "tcp:127.0.0.1:0"], limits).await;
    let first = TcpStream::connect(fixture.address(0)).await.unwrap();
    let _second = TcpStream::connect(fixture.address(1)).await.unwrap();
    fixture.until_count("connections_accepted", 2).await;
    let mut third = TcpStream::connect(fixture.address(0)).await.unwrap();
    assert!(read_all(&mut third).await.is_empty());
    assert_eq!(fixture.count("connections_refused"), 1);
    drop(first);
    fixture.closed().await;
    fixture.until_open(1).await;
    let mut fourth = TcpStream::connect(fixture.address(0)).await.unwrap();
    fourth.write_all(&request("fourth", b"")).await.unwrap();
    assert_eq!(fixture.message().await.0.call_id(), Some("fourth"));
}

#[tokio::test]
async fn who_closed_one_direction_still_gets_its_answer() {
    let mut fixture = start(TCP, TransportLimits::default()).await;
    let mut peer = TcpStream::connect(fixture.address(0)).await.unwrap();
    peer.write_all(&request("question", b"")).await.unwrap();
    peer.shutdown().await.unwrap();
    let (_, flow) = fixture.message().await;
    fixture.transport.sender().send(&Target::Flow(flow), Bytes::from_static(b"answer"), None).unwrap();
    let mut answer = [0; 6];
    timeout(PATIENCE, peer.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"answer");
}

#[tokio::test]
async fn sends_to_one_address_share_a_connection_that_carries_both_directions() {
    let mut fixture = start(&[], TransportLimits::default()).await;
    let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = peer.local_addr().unwrap();
    let sender = fixture.transport.sender();
    // From another thread without a runtime, as a shard does.
    std::thread::spawn(move || {
        for text in ["a", "b", "c"] {
            sender.send(&to(remote), Bytes::from_static(text.as_bytes()), None).unwrap();
        }
    });
    let (mut accepted, _) = timeout(PATIENCE, peer.accept()).await.unwrap().unwrap();
    let mut all = [0; 3];
    accepted.read_exact(&mut all).await.unwrap();
    assert_eq!(&all, b"abc");
    accepted.write_all(&request("reverse", b"")).await.unwrap();
    let (message, flow) = fixture.message().await;
    assert_eq!((message.call_id(), flow.listener, flow.remote), (Some("reverse"), None, remote));
    assert_eq!(fixture.count("connections_opened"), 1);

    drop(accepted);
    assert_eq!(fixture.closed().await.0, flow);
    fixture.transport.sender().send(&to(remote), Bytes::from_static(b"d"), None).unwrap();
    let (mut again, _) = timeout(PATIENCE, peer.accept()).await.unwrap().unwrap();
    assert_eq!(again.read_u8().await.unwrap(), b'd');
}

#[tokio::test]
async fn connections_to_one_network_or_site_leave_some_for_others() {
    let limits = TransportLimits { max_outgoing_connections: 256, ..TransportLimits::default() };
    let fixture = start(&[], limits).await;
    let sender = fixture.transport.sender();
    // Nothing is waited for: all of them are being opened.
    let opens =
        |host: String| sender.send(&to(format!("[{host}]:5060").parse().unwrap()), Bytes::from_static(b"x"), None);
    for site in 7..9 {
        for network in 0..4 {
            for host in 1..=16 {
                assert_eq!(opens(format!("2001:db8:{site}:{network}::{host:x}")), Ok(()), "{site} {network} {host}");
            }
            let one_more = opens(format!("2001:db8:{site}:{network}::77"));
            assert_eq!(one_more, Err(SendFailure::TooManyConnections), "a /64 network is one source");
        }
        let other = opens(format!("2001:db8:{site}:99::1"));
        assert_eq!(other, Err(SendFailure::TooManyConnections), "a site has four times as many");
    }
    assert_eq!(opens("2001:db8:9::1".to_owned()), Ok(()));
}

#[tokio::test]
async fn what_was_opened_for_an_answer_ends_soon() {
    let limits = TransportLimits { idle_timeout_of_answers: Duration::from_millis(50), ..TransportLimits::default() };
    let mut fixture = start(&[], limits).await;
    let peers = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let [answered, asked] = [0, 1].map(|index| peers[index].local_addr().unwrap());
    let sender = fixture.transport.sender();
    sender.send(&to(asked), Bytes::from_static(b"request"), None).unwrap();
    sender.answer(&to(answered), Bytes::from_static(b"answer")).unwrap();
    let (mut peer, _) = timeout(PATIENCE, peers[0].accept()).await.unwrap().unwrap();
    assert_eq!(read_all(&mut peer).await, b"answer");
    let (flow, reason) = fixture.closed().await;
    assert_eq!((flow.remote, reason), (answered, CloseReason::Idle));
    assert_eq!(fixture.transport.open_connections(), 1, "the other one stays");
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_is_reported_for_every_message() {
    // Its port is taken, and nobody listens.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = socket.local_addr().unwrap();
    let limits = TransportLimits {
        max_outgoing_connections: 1,
        connect_timeout: Duration::from_millis(100),
        ..TransportLimits::default()
    };
    let mut fixture = start(&[], limits).await;
    let sender = fixture.transport.sender();
    sender.send(&to(closed), Bytes::from_static(b"a"), token(1)).unwrap();
    sender.send(&to(closed), Bytes::from_static(b"b"), token(2)).unwrap();
    let elsewhere = to("127.0.0.2:9".parse().unwrap());
    assert_eq!(sender.send(&elsewhere, Bytes::from_static(b"x"), None), Err(SendFailure::TooManyConnections));
    for key in [1, 2] {
        let (token, failure, remote) = fixture.send_failed().await;
        assert_eq!(
            (token.key, failure, remote),
            (key, SendFailure::Connect(std::io::ErrorKind::ConnectionRefused), closed)
        );
    }

    // A full backlog answers nothing, as a host that is gone.
    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    deaf.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    deaf.listen(0).unwrap();
    let deaf_address = deaf.local_addr().unwrap().as_socket().unwrap();
    let mut filling = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(100), TcpStream::connect(deaf_address)).await {
        filling.push(stream);
    }
    sender.send(&to(deaf_address), Bytes::from_static(b"c"), token(3)).unwrap();
    assert_eq!(fixture.send_failed().await.1, SendFailure::ConnectTimeout);
    assert_eq!(fixture.count("connections_failed"), 2);
}

#[tokio::test]
async fn a_shutdown_writes_what_waits_and_ends() {
    let mut fixture = start(TCP, TransportLimits::default()).await;
    let mut peer = TcpStream::connect(fixture.address(0)).await.unwrap();
    peer.write_all(&request("a", b"")).await.unwrap();
    let (_, flow) = fixture.message().await;
    let sender = fixture.transport.sender();
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    sender.send(&Target::Flow(flow), large.clone(), None).unwrap();
    let (received, drained) =
        timeout(PATIENCE, async { tokio::join!(read_all(&mut peer), fixture.transport.shutdown()) }).await.unwrap();
    assert_eq!((received.len(), drained.connections_left), (large.len(), 0));
    assert!(TcpStream::connect(flow.local).await.is_err(), "nobody listens any more");
    assert_eq!(sender.send(&to(flow.local), Bytes::from_static(b"x"), None), Err(SendFailure::ShuttingDown));
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_who_does_not_read() {
    let limits = TransportLimits {
        drain_timeout: Duration::from_millis(100),
        max_waiting_bytes: 64 << 20,
        ..TransportLimits::default()
    };
    let mut fixture = start(TCP, limits).await;
    let mut peer = TcpStream::connect(fixture.address(0)).await.unwrap();
    peer.write_all(&request("a", b"")).await.unwrap();
    let (_, flow) = fixture.message().await;
    fixture.transport.sender().send(&Target::Flow(flow), vec![b'x'; 32 << 20].into(), token(1)).unwrap();
    let events = &mut fixture.events;
    let drained = timeout(PATIENCE, fixture.transport.shutdown()).await.unwrap();
    assert_eq!(drained.connections_left, 0);
    assert!(matches!(
        (events.recv().await, events.recv().await).1,
        Some(restante_transport::TransportEvent::SendFailed { failure: SendFailure::ShuttingDown, .. })
    ));
}
