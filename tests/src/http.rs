//! HTTP, as little of it as the administration interface needs.

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::patience::in_time;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Status.
    pub status: u16,
    /// Header lines.
    pub head: String,
    /// Body.
    pub body: String,
}

/// GET over TCP with these header lines, each with its line end.
///
/// # Panics
/// No answer comes.
pub async fn http(place: SocketAddr, path: &str, headers: &str) -> HttpAnswer {
    let stream = in_time("an HTTP connection", TcpStream::connect(place)).await.expect("an HTTP connection");
    in_time("an HTTP answer", exchange(stream, path, headers)).await
}

/// The same without a word that the connection is to be closed: everything that comes until the server closes it.
///
/// # Panics
/// No answer comes, or the connection stays.
pub async fn http_that_stays(place: SocketAddr, path: &str, headers: &str) -> HttpAnswer {
    let stream = in_time("an HTTP connection", TcpStream::connect(place)).await.expect("an HTTP connection");
    in_time("an HTTP answer", send(stream, &format!("GET {path} HTTP/1.1\r\n{headers}\r\n"))).await
}

/// GET over a Unix socket.
///
/// # Panics
/// No answer comes.
pub async fn http_over_socket(socket: &Path, path: &str) -> HttpAnswer {
    let stream = UnixStream::connect(socket).await.expect("an HTTP connection");
    in_time("an HTTP answer", exchange(stream, path, "Host: localhost\r\n")).await
}

/// Any request over a Unix socket, with a body of this type where there is one.
///
/// # Panics
/// No answer comes.
pub async fn http_request(socket: &Path, method: &str, path: &str, body: Option<(&str, &str)>) -> HttpAnswer {
    let stream = UnixStream::connect(socket).await.expect("an HTTP connection");
    let (headers, body) = match body {
        Some((kind, body)) => (format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len()), body),
        None => ("Content-Length: 0\r\n".to_owned(), ""),
    };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n{body}");
    in_time("an HTTP answer", send(stream, &request)).await
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, headers: &str) -> HttpAnswer {
    send(stream, &format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")).await
}

async fn send(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> HttpAnswer {
    stream.write_all(request.as_bytes()).await.expect("a request leaves");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    HttpAnswer { status, head: head.to_owned(), body: body.to_owned() }
}
