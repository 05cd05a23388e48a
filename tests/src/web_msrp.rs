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

use crate::authority::{Authority, connect_tls};
use crate::patience::in_time;
use crate::raw_msrp::{Head, RawMsrp};
use crate::raw_sip::Duplex;

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
        WebMsrp::over(Box::new(stream), ("ws", "msrp"), place, sub_protocol, name).await
    }

    /// The same over TLS, believing whom the authority signed.
    ///
    /// # Errors
    /// The status that the relay answers instead.
    ///
    /// # Panics
    /// The relay is not believed.
    pub async fn open_encrypted(
        place: SocketAddr,
        authority: &Authority,
        sub_protocol: Option<&str>,
        name: &str,
    ) -> Result<WebMsrp, u16> {
        let stream = in_time("a handshake", connect_tls(place, authority, None)).await.expect("TLS");
        WebMsrp::over(Box::new(stream), ("wss", "msrps"), place, sub_protocol, name).await
    }

    async fn over(
        stream: Box<dyn Duplex>,
        (scheme, of_relay): (&str, &str),
        place: SocketAddr,
        sub_protocol: Option<&str>,
        name: &str,
    ) -> Result<WebMsrp, u16> {
        let request = ClientRequestBuilder::new(format!("{scheme}://{place}/").parse().expect("a URI"));
        let request = sub_protocol.into_iter().fold(request, ClientRequestBuilder::with_sub_protocol);
        let socket = match in_time("an answer to the WebSocket", client_async(request, stream)).await {
            Ok((socket, _)) => socket,
            Err(Error::Http(response)) => return Err(response.status().as_u16()),
            Err(error) => panic!("no WebSocket: {error}"),
        };
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        tokio::spawn(bridge(socket, far));
        let own = format!("{of_relay}://{name}.invalid:2855/{name}98cjs;ws");
        let mut connection = RawMsrp::over(Box::new(near), "");
        connection.from_path.clone_from(&own);
        Ok(WebMsrp { connection, relay: format!("{of_relay}://{place};ws"), own, session: String::new() })
    }

    /// One that the relay takes, for a user with the usual password.
    ///
    /// # Panics
    /// It does not.
    pub async fn authorized(place: SocketAddr, name: &str) -> WebMsrp {
        WebMsrp::open(place, Some("msrp"), name).await.expect("a WebSocket for MSRP").taken(name).await
    }

    /// The same over TLS.
    ///
    /// # Panics
    /// It does not.
    pub async fn authorized_encrypted(place: SocketAddr, authority: &Authority, name: &str) -> WebMsrp {
        let web = WebMsrp::open_encrypted(place, authority, Some("msrp"), name).await;
        web.expect("a WebSocket for MSRP").taken(name).await
    }

    async fn taken(mut self, name: &str) -> WebMsrp {
        let answer = self.authenticate(name, &name.chars().rev().collect::<String>()).await;
        assert_eq!(answer.status.code(), 200, "{answer:?}");
        self.session = field(&answer, "Use-Path").expect("a Use-Path");
        self
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

/// Every write is a message; every message has one whole request or response. As in a browser, neither waits for the other.
async fn bridge(socket: WebSocketStream<Box<dyn Duplex>>, far: DuplexStream) {
    let (mut outgoing, mut incoming) = socket.split();
    let (mut reader, mut writer) = tokio::io::split(far);
    let mut buffer = vec![0; PIPE_BYTES];
    let write = async {
        while let Some(length) = reader.read(&mut buffer).await.ok().filter(|length| *length > 0) {
            if outgoing.send(Message::binary(buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let read = async {
        loop {
            let bytes: Bytes = match incoming.next().await {
                Some(Ok(message)) if message.is_text() || message.is_binary() => message.into_data(),
                Some(Ok(message)) if !message.is_close() => continue,
                _ => return,
            };
            assert!(bytes.starts_with(b"MSRP ") && bytes.ends_with(b"\r\n"), "not one frame: {bytes:?}");
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
}
