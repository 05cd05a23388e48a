//! A client of the relay, on a WebSocket as a browser has it.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use restante_msrp::framing::Response;
use restante_sip::authentication::{
    Challenge, Credentials, HashOfA1, Protection, QualityOfProtection, Subject, response,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::patience::in_time;
use crate::raw_msrp::{Head, RawMsrp};

const PIPE_BYTES: usize = 1024 * 1024;

/// A client of the relay at a place.
pub struct WebMsrp {
    /// What it says and hears.
    pub connection: RawMsrp,
    /// The relay as it calls it.
    pub relay: String,
    /// Its own URI, which nobody can connect to.
    pub own: String,
    /// The session URI that it was given.
    pub session: String,
}

impl WebMsrp {
    /// Opens a WebSocket for a sub-protocol.
    ///
    /// # Errors
    /// The status that the relay answers instead.
    pub async fn open(place: SocketAddr, sub_protocol: Option<&str>, name: &str) -> Result<WebMsrp, u16> {
        let stream = in_time("a connection", TcpStream::connect(place)).await.expect("a connection");
        let request = ClientRequestBuilder::new(format!("ws://{place}/").parse().expect("a URI"));
        let request = sub_protocol.into_iter().fold(request, ClientRequestBuilder::with_sub_protocol);
        let socket = match in_time("an answer to the WebSocket", client_async(request, stream)).await {
            Ok((socket, _)) => socket,
            Err(Error::Http(response)) => return Err(response.status().as_u16()),
            Err(error) => panic!("no WebSocket: {error}"),
        };
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        tokio::spawn(bridge(socket, far));
        let own = format!("msrp://{name}.invalid:2855/{name}98cjs;ws");
        let mut connection = RawMsrp::over(Box::new(near), "");
        connection.from_path.clone_from(&own);
        Ok(WebMsrp { connection, relay: format!("msrp://{place};ws"), own, session: String::new() })
    }

    /// One that the relay takes, for a user with the usual password.
    ///
    /// # Panics
    /// It does not.
    pub async fn authorized(place: SocketAddr, name: &str) -> WebMsrp {
        let mut web = WebMsrp::open(place, Some("msrp"), name).await.expect("a WebSocket for MSRP");
        let answer = web.authenticate(name, &name.chars().rev().collect::<String>()).await;
        assert_eq!(answer.status.code(), 200, "{answer:?}");
        web.session = field(&answer, "Use-Path").expect("a Use-Path");
        web
    }

    /// Asks, and answers the challenge. The last answer.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn authenticate(&mut self, name: &str, password: &str) -> Response {
        let answer = self.ask("").await;
        if answer.status.code() != 401 {
            return answer;
        }
        let value = field(&answer, "WWW-Authenticate").expect("a challenge");
        let Challenge { realm, nonce, algorithm, .. } = Challenge::parse_list(&value).expect("a challenge").remove(0);
        let protection = Protection {
            quality: QualityOfProtection::Auth,
            cnonce: "story".to_owned(),
            nonce_count: "00000001".to_owned(),
        };
        let hash = HashOfA1::new(algorithm.algorithm, name, &realm, password);
        let is_session = algorithm.is_session;
        let subject = Subject { method: "AUTH", uri: &self.relay, nonce: &nonce, is_session, body: &[] };
        let credentials = Credentials {
            username: name.to_owned(),
            is_user_hash: false,
            response: response(&hash, &subject, Some(&protection)),
            realm,
            nonce,
            uri: self.relay.clone(),
            algorithm: Some(algorithm.to_string()),
            opaque: None,
            protection: Some(protection),
        };
        self.ask(&format!("Authorization: {credentials}\r\n")).await
    }

    /// One AUTH with these fields, and its answer.
    ///
    /// # Panics
    /// There is none.
    pub async fn ask(&mut self, fields: &str) -> Response {
        let text = format!(
            "MSRP auth1 AUTH\r\nTo-Path: {}\r\nFrom-Path: {}\r\n{fields}-------auth1$\r\n",
            self.relay, self.own
        );
        self.connection.send(text.as_bytes()).await;
        match self.connection.next_head().await {
            Some(Head::Response(response)) => *response,
            other => panic!("no answer to AUTH: {other:?}"),
        }
    }

    /// The path that it tells others.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{} {}", self.session, self.own)
    }
}

fn field(response: &Response, name: &str) -> Option<String> {
    response.other_headers.iter().find(|it| it.name == name).map(|it| it.value.clone())
}

/// Every write is a message; every message has one whole request or response.
async fn bridge(mut socket: WebSocketStream<TcpStream>, far: DuplexStream) {
    let (mut reader, mut writer) = tokio::io::split(far);
    let mut buffer = vec![0; PIPE_BYTES];
    loop {
        tokio::select! {
            read = reader.read(&mut buffer) => {
                let Some(length) = read.ok().filter(|length| *length > 0) else { return };
                if socket.send(Message::binary(buffer[..length].to_vec())).await.is_err() {
                    return;
                }
            }
            came = socket.next() => {
                let bytes: Bytes = match came {
                    Some(Ok(message)) if message.is_text() || message.is_binary() => message.into_data(),
                    Some(Ok(message)) if !message.is_close() => continue,
                    _ => return,
                };
                assert!(bytes.starts_with(b"MSRP ") && bytes.ends_with(b"\r\n"), "not one frame: {bytes:?}");
                if writer.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}
