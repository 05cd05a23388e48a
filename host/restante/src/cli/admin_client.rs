//! Asks a running server over its administration interface.

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use super::RunningServer;

/// Longest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Percent-encoded for a query or a path segment.
pub fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    })
}

/// One request and its JSON answer.
///
/// # Errors
/// The server cannot be reached, or refuses: with its own words.
pub fn request<T: DeserializeOwned>(
    server: &RunningServer,
    method: Method,
    path: &str,
    body: Option<serde_json::Value>,
) -> Result<T> {
    let body = body.map(|body| serde_json::to_vec(&body)).transpose()?;
    let answer = blocking(server, method, path, body.map(|body| ("application/json", body)))?;
    serde_json::from_slice(&answer).context("unexpected answer from the server")
}

/// One request whose answer has no content.
///
/// # Errors
/// As [`request`].
pub fn send(server: &RunningServer, method: Method, path: &str, body: Option<serde_json::Value>) -> Result<()> {
    let body = body.map(|body| serde_json::to_vec(&body)).transpose()?;
    blocking(server, method, path, body.map(|body| ("application/json", body))).map(drop)
}

/// One request with a body of this type.
///
/// # Errors
/// As [`request`].
pub fn upload(
    server: &RunningServer,
    method: Method,
    path: &str,
    content_type: &'static str,
    body: Vec<u8>,
) -> Result<Bytes> {
    blocking(server, method, path, Some((content_type, body)))
}

/// Whatever is there, of any length, as it comes.
///
/// # Errors
/// As [`request`], and what the taker says.
pub fn download(server: &RunningServer, path: &str, take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    runtime()?.block_on(exchange(server, Method::GET, path, None, take))
}

fn blocking(
    server: &RunningServer,
    method: Method,
    path: &str,
    body: Option<(&'static str, Vec<u8>)>,
) -> Result<Bytes> {
    let mut answer = Vec::new();
    let take = |bytes: &[u8]| {
        if bytes.len() > MAX_ANSWER_BYTES.saturating_sub(answer.len()) {
            bail!("the answer is longer than {MAX_ANSWER_BYTES} bytes");
        }
        answer.extend_from_slice(bytes);
        Ok(())
    };
    runtime()?.block_on(exchange(server, method, path, body, take))?;
    Ok(answer.into())
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

async fn exchange(
    server: &RunningServer,
    method: Method,
    path: &str,
    body: Option<(&'static str, Vec<u8>)>,
    take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut request = Request::builder().method(method).uri(path);
    let body = match body {
        Some((content_type, body)) => {
            request = request.header("content-type", content_type);
            Full::new(Bytes::from(body))
        }
        None => Full::default(),
    };
    if let (Some(url), Some(token_file)) = (&server.url, &server.token_file) {
        let host = url
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/'))
            .ok_or_else(|| anyhow!("{url}: expected http://HOST:PORT"))?;
        let token =
            std::fs::read_to_string(token_file).with_context(|| format!("cannot read {}", token_file.display()))?;
        let stream =
            tokio::net::TcpStream::connect(host).await.with_context(|| format!("no server answers at {url}"))?;
        let request = request.header("host", host).header("authorization", format!("Bearer {}", token.trim()));
        return over(stream, request.body(body)?, take).await;
    }
    let socket = server.socket();
    let stream = tokio::net::UnixStream::connect(&socket).await.with_context(|| {
        format!("no server answers at {} (see --socket, RESTANTE_SOCKET and --url)", socket.display())
    })?;
    over(stream, request.header("host", "localhost").body(body)?, take).await
}

async fn over<S>(stream: S, request: Request<Full<Bytes>>, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        if status.is_success() {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| anyhow!("the answer was cut short: {error}"))?;
                if let Some(data) = frame.data_ref() {
                    take(data)?;
                }
            }
            return Ok(());
        }
        let body = Limited::new(body, MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| anyhow!("the answer was cut short: {error}"))?
            .to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        match problem.get("error").and_then(serde_json::Value::as_str) {
            Some(text) => {
                // Some say it in several lines, with a mark below what is wrong.
                let lines: Vec<_> = text.trim_end().lines().map(super::table::harmless).collect();
                bail!("{}", lines.join("\n"))
            }
            None => {
                let text = String::from_utf8_lossy(&body);
                let text: String = text.trim().chars().take(300).collect();
                bail!("the server answered {status}: {}", super::table::harmless(&text))
            }
        }
    };
    tokio::select! {
        biased;
        result = exchange => result,
        ended = connection => {
            // Also when it answered before it had read everything, and the answer was lost over that.
            ended.context("the server closed the connection; the request may be too large")?;
            bail!("the server closed the connection")
        }
    }
}
