//! TLS over real sockets on loopback: its bounds, and whom connections are made to.

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use restante_transport::{
    Layers, Listener, Protocol, SendFailure, Target, Tls, TlsFiles, Transport, TransportLimits, WebSockets,
};
use support::{Fixture, PATIENCE, request, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A certificate that signed itself, for these names, in files.
fn files(directory: &Path, names: &[&str]) -> TlsFiles {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let certificate = write("own.pem", made.cert.pem());
    TlsFiles {
        authorities: certificate.clone(),
        certificate,
        key: write("own.key", made.signing_key.serialize_pem()),
        ..TlsFiles::default()
    }
}

async fn start(listen: &[&str], limits: TransportLimits, tls: Arc<Tls>) -> Fixture {
    let listeners: Vec<Listener> = listen.iter().map(|text| text.parse().unwrap()).collect();
    let (sender, events) = mpsc::unbounded_channel();
    let handler = move |event| {
        sender.send(event).ok();
        restante_transport::Intake::Open
    };
    let layers = Layers { tls, web_sockets: WebSockets::default() };
    let transport = Transport::start_with(&listeners, limits, layers, Arc::new(handler)).await.unwrap();
    Fixture { transport, events, congested: Arc::default() }
}

fn to(fixture: &Fixture, remote: SocketAddr, name: Option<&str>) -> Target {
    let name = name.map(|name| fixture.transport.sender().tls().name(name));
    Target::Address { protocol: Protocol::Tls, remote, listener: None, name }
}

#[tokio::test]
async fn messages_go_both_ways_and_whole_however_large() {
    for host in ["127.0.0.1", "[::1]"] {
        let directory = tempfile::tempdir().unwrap();
        let tls = Tls::read(files(directory.path(), &["core.example", host.trim_matches(['[', ']'])])).unwrap();
        let listen = format!("tls:{host}:0");
        let mut ours = start(&[&listen], TransportLimits::default(), Arc::clone(&tls)).await;
        let mut theirs = start(&[&listen], TransportLimits::default(), tls).await;
        let body = vec![7; 60_000];
        let sender = ours.transport.sender();
        for (count, name) in [(1, None), (2, Some("core.example")), (2, Some("CORE.example."))] {
            sender.send(&to(&ours, theirs.address(0), name), request("one", &body), token(1)).unwrap();
            let (message, flow) = theirs.message().await;
            assert_eq!((message.body().len(), flow.protocol), (60_000, Protocol::Tls));
            theirs.transport.sender().send(&Target::Flow(flow), request("back", &body), None).unwrap();
            let (back, on) = ours.message().await;
            assert_eq!((back.call_id(), on.remote), (Some("back"), theirs.address(0)));
            let names = sender.peer_names(on.connection.unwrap()).unwrap();
            let expected = if name.is_some() { "core.example" } else { host.trim_matches(['[', ']']) };
            assert_eq!(names.iter().map(|it| &**it).collect::<Vec<_>>(), [expected]);
            // One name has one connection, and another name has another.
            assert_eq!(ours.transport.open_connections(), count);
        }
    }
}

#[tokio::test]
async fn what_was_to_be_sent_to_somebody_else_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let tls = Tls::read(files(directory.path(), &["core.example"])).unwrap();
    let mut ours = start(&["udp:127.0.0.1:0"], TransportLimits::default(), Arc::clone(&tls)).await;
    let theirs = start(&["tls:127.0.0.1:0"], TransportLimits::default(), tls).await;
    for name in [None, Some("other.example"), Some("no name at all")] {
        let target = to(&ours, theirs.address(0), name);
        ours.transport.sender().send(&target, Bytes::from_static(b"secret"), token(5)).unwrap();
        assert_eq!(ours.send_failed().await, (token(5).unwrap(), SendFailure::Handshake, theirs.address(0)));
    }
    assert_eq!((ours.count("tls_handshakes_failed"), ours.transport.open_connections()), (3, 0));
    assert_eq!(theirs.count("stream_messages_received"), 0);
}

async fn until_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset in place of an end is an end, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the stream ends in time");
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_closed_and_holds_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let tls = Tls::read(files(directory.path(), &["127.0.0.1"])).unwrap();
    let limits = TransportLimits { handshake_timeout: Duration::from_secs(4), ..TransportLimits::default() };
    let mut theirs = start(&["tls:127.0.0.1:0"], limits, Arc::clone(&tls)).await;
    let mut silent = TcpStream::connect(theirs.address(0)).await.unwrap();
    let mut slow = TcpStream::connect(theirs.address(0)).await.unwrap();
    slow.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let ours = start(&["udp:127.0.0.1:0"], TransportLimits::default(), tls).await;
    ours.transport.sender().send(&to(&ours, theirs.address(0), None), request("one", b""), None).unwrap();
    assert_eq!(theirs.message().await.0.call_id(), Some("one"));
    until_closed(&mut silent).await;
    until_closed(&mut slow).await;
    theirs.until_count("tls_handshakes_failed", 2).await;
    assert_eq!(theirs.transport.open_connections(), 1);
}

#[tokio::test]
async fn handshakes_under_way_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let tls = Tls::read(files(directory.path(), &["127.0.0.1"])).unwrap();
    let limits = TransportLimits { max_handshakes: 2, max_handshakes_per_source: 2, ..TransportLimits::default() };
    let theirs = start(&["tls:127.0.0.1:0"], limits, tls).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(theirs.address(0)).await.unwrap());
    }
    until_closed(&mut silent[2]).await;
    assert_eq!(theirs.count("handshakes_refused"), 1);
    drop(silent);
    theirs.until_count("tls_handshakes_failed", 2).await;
}

#[tokio::test]
async fn one_source_that_stalls_keeps_nobody_else_out() {
    let directory = tempfile::tempdir().unwrap();
    let tls = Tls::read(files(directory.path(), &["127.0.0.1"])).unwrap();
    let limits = TransportLimits { max_handshakes: 3, max_handshakes_per_source: 2, ..TransportLimits::default() };
    let mut theirs = start(&["tls:127.0.0.1:0"], limits, Arc::clone(&tls)).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(theirs.address(0)).await.unwrap());
    }
    until_closed(&mut silent[2]).await;
    assert_eq!(theirs.count("handshakes_refused"), 1);
    let ours = start(&["udp:127.0.0.1:0"], TransportLimits::default(), tls).await;
    ours.transport.sender().send(&to(&ours, theirs.address(0), None), request("one", b""), None).unwrap();
    assert_eq!(theirs.message().await.0.call_id(), Some("one"));
}

#[tokio::test]
async fn a_listener_needs_a_certificate() {
    let listener = "tls:127.0.0.1:0".parse().unwrap();
    let handler = Arc::new(|_| restante_transport::Intake::Open);
    let error = Transport::start(&[listener], TransportLimits::default(), handler).await.err().unwrap();
    assert!(error.to_string().contains("no certificate"), "{error}");
}
