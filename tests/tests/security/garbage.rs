//! Sources that send what nobody can read, or guess, are slowed, and then shut out for a while.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use restante::configuration::ListenAddress;
use restante_tests::{
    MsrpReply, OUTSIDE, PATIENCE, RawSip, Setting, WebMsrp, World, free_tcp_port, in_time, setting, until_equal,
};
use restante_transport::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

const MOST: u64 = 20;
/// For how long the connection is kept of who is answered no more.
const SLOWED: Duration = Duration::from_secs(5);

fn strict(seconds: u64) -> Setting {
    setting().tenant(|tenant| tenant.trust = vec!["127.0.0.1".parse().expect("an address")]).configure(move |it| {
        it.limits.max_garbage = MOST;
        it.limits.garbage_seconds = seconds;
    })
}

async fn connect(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(from, 0)).expect("an address");
    socket.connect(to).await.expect("the system accepts")
}

/// What comes back until the other end closes; nothing: it was closed at once.
async fn said_to(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    // One that is closed already may say so here.
    if stream.write_all(bytes).await.is_ok() {
        let _ = stream.read_to_end(&mut said).await;
    }
    said
}

/// A request without what it needs: whoever is heard gets a 400.
fn malformed(socket: &RawSip) -> restante_tests::Request {
    socket.request("OPTIONS", "sip:bob@example.org").set("CSeq", "1 MESSAGE")
}

async fn is_heard(world: &World, from: IpAddr) -> bool {
    let mut stream = connect(from, world.sip()).await;
    let request = format!(
        "OPTIONS sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/TCP {};branch=z9hG4bKheard\r\nMax-Forwards: 70\r\n\
         From: <sip:a@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: heard\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n",
        stream.local_addr().expect("an address")
    );
    let mut answer = [0; 12];
    let heard = stream.write_all(request.as_bytes()).await.is_ok() && stream.read_exact(&mut answer).await.is_ok();
    assert!(!heard || answer == *b"SIP/2.0 200 ");
    heard
}

#[test]
fn a_source_whose_streams_are_no_sip_is_shut_out_for_a_while_and_nobody_else() {
    strict(2).tell(async |world| {
        let is_shut_out = async || {
            let began = Instant::now();
            for _ in 0..MOST {
                let mut stream = connect(OUTSIDE, world.sip()).await;
                said_to(&mut stream, b"no SIP at all\r\n\r\n").await;
            }
            let is_shut_out = !is_heard(world, OUTSIDE).await;
            assert!(is_shut_out || began.elapsed().as_secs() >= 2, "shut out, unless it took so long that it is over");
            is_shut_out
        };
        let shutting_out = async { while !is_shut_out().await {} };
        in_time("it is shut out", shutting_out).await;
        assert!(is_heard(world, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9))).await, "and nobody else");
        let refused = world.metric("restante_dropped_total", &["reason=\"source-shut-out\""]);
        assert!(refused > 0);
        let deadline = Instant::now() + PATIENCE;
        while !is_heard(world, OUTSIDE).await {
            assert!(Instant::now() < deadline, "it is never heard again");
            sleep(Duration::from_millis(50)).await;
        }
    });
}

#[test]
fn requests_that_cannot_be_processed_are_answered_for_a_while_and_over_udp_others_go_on() {
    strict(3600).tell(async |world| {
        let mut socket = RawSip::udp(OUTSIDE, world.sip()).await;
        for _ in 0..3 * MOST {
            socket.send(&malformed(&socket).bytes()).await;
        }
        // A source of datagrams may be forged: what it sends rightly is answered still.
        let options = socket.request("OPTIONS", "sip:bob@example.org");
        assert_eq!(socket.ask(&options).await.status(), Some(200));
        assert_eq!(socket.unread().len() as u64, MOST / 10);
        assert_eq!(world.metric("restante_dropped_total", &["reason=\"unanswered-garbage\""]), 3 * MOST - MOST / 10);
        assert!(is_heard(world, OUTSIDE).await, "and its connections are not its datagrams");
        // A peer that is trusted may be wrong as often as it likes.
        let mut peer = world.udp().await;
        for _ in 0..3 * MOST {
            let request = malformed(&peer);
            assert_eq!(peer.ask(&request).await.status(), Some(400));
        }
    });
}

/// A connection that is heard no more: nothing comes, and it is not closed at once.
async fn waits(stream: &mut TcpStream, since: Instant) {
    let mut said = Vec::new();
    in_time("its end", stream.read_to_end(&mut said)).await.expect("an end");
    assert_eq!(said, b"");
    assert!(since.elapsed() >= SLOWED, "after {:?}", since.elapsed());
}

#[test]
fn whoever_guesses_sessions_of_msrp_has_to_wait_and_is_shut_out() {
    strict(3600).tell(async |world| {
        let (_, place) = world.server().msrp()[0];
        let guess = |number: u64| {
            format!(
                "MSRP a{number}bc SEND\r\nTo-Path: msrp://{place}/r00{number};tcp\r\nFrom-Path: msrp://192.0.2.1:9/x;tcp\r\n\
                 Message-ID: {number}\r\nByte-Range: 1-0/0\r\n-------a{number}bc$\r\n"
            )
        };
        for number in 0..MOST / 10 {
            let mut stream = connect(OUTSIDE, place).await;
            let said = said_to(&mut stream, guess(number).as_bytes()).await;
            assert!(String::from_utf8_lossy(&said).contains(" 481"), "{number}");
        }
        let (since, mut waiting) = (Instant::now(), Vec::new());
        for number in MOST / 10 + 1..MOST {
            let mut stream = connect(OUTSIDE, place).await;
            stream.write_all(guess(number).as_bytes()).await.expect("it is read");
            waiting.push(stream);
        }
        let ignored = || world.metric("restante_dropped_total", &["reason=\"unanswered-garbage\""]);
        until_equal("guesses without an answer", MOST - MOST / 10 - 1, ignored).await;
        let mut stream = connect(OUTSIDE, place).await;
        assert_eq!(said_to(&mut stream, guess(MOST).as_bytes()).await, b"");
        assert!(!is_heard(world, OUTSIDE).await, "over any listener");
        for stream in &mut waiting {
            waits(stream, since).await;
        }
        assert_eq!(world.metric("restante_dropped_total", &["reason=\"no-such-session\""]), MOST);
    });
}

#[test]
fn a_source_whose_connections_for_msrp_say_what_is_none_is_shut_out() {
    strict(3600).tell(async |world| {
        let (_, place) = world.server().msrp()[0];
        for _ in 0..MOST {
            let mut stream = connect(OUTSIDE, place).await;
            assert_eq!(said_to(&mut stream, b"GET / HTTP/1.1\r\n\r\n").await, b"");
        }
        assert!(!is_heard(world, OUTSIDE).await);
    });
}

#[test]
fn a_client_of_the_relay_that_sends_no_msrp_again_and_again_has_to_wait_and_is_shut_out() {
    let socket = free_tcp_port();
    let place = strict(3600).demands_passwords().tenant(|tenant| tenant.trust.clear()).configure(move |it| {
        it.msrp.web_socket_listen = vec![ListenAddress { protocol: Protocol::Ws, socket }];
    });
    place.tell(async |world| {
        let client = async || {
            let mut client = WebMsrp::open(socket, Some("msrp"), "bob").await.expect("a WebSocket for MSRP");
            client.connection.send(b"GET / HTTP/1.1\r\n\r\n").await;
            client.connection
        };
        let of = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let ignored = || world.metric("restante_dropped_total", &["reason=\"unanswered-garbage\""]);
        let (mut took, mut waiting) = (Vec::new(), Vec::new());
        for _ in 0..MOST / 10 {
            let mut connection = client().await;
            let since = Instant::now();
            assert_eq!(connection.next().await, MsrpReply::Closed);
            took.push(since.elapsed());
        }
        // A busy machine may take its time for one of them.
        assert!(took.iter().any(|took| *took < SLOWED), "at once: {took:?}");
        assert_eq!(ignored(), 0);
        let since = Instant::now();
        for _ in MOST / 10 + 1..MOST {
            waiting.push(client().await);
        }
        until_equal("clients without an answer", MOST - MOST / 10 - 1, ignored).await;
        assert_eq!(client().await.next().await, MsrpReply::Closed);
        assert!(!is_heard(world, of).await);
        for mut connection in waiting {
            assert_eq!(connection.next().await, MsrpReply::Closed);
            assert!(since.elapsed() >= SLOWED, "after {:?}", since.elapsed());
        }
    });
}
