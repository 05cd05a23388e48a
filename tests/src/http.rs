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

/// GET over a Unix socket.
///
/// # Panics
/// No answer comes.
pub async fn http_over_socket(socket: &Path, path: &str) -> HttpAnswer {
    let stream = UnixStream::connect(socket).await.expect("an HTTP connection");
    in_time("an HTTP answer", exchange(stream, path, "Host: localhost\r\n")).await
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, headers: &str) -> HttpAnswer {
    let request = format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request leaves");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    HttpAnswer { status, head: head.to_owned(), body: body.to_owned() }
}
