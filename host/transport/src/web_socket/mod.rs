//! SIP over WebSocket (RFC 7118): one message a frame, under the sub-protocol `sip`; and MSRP (RFC 7977), see [`msrp`].
//!
//! Browsers cannot be connected to: what such a client is sent goes on the connection that it opened (RFC 7118 §5).

mod connection;
mod followed;
mod keep_alive;
mod msrp;

use std::io;
use std::net::SocketAddr;

use restante_sip::message::MessageLimits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{accept_hdr_async_with_config, client_async_with_config};

use self::followed::Followed;

pub(crate) use self::connection::serve;
pub use self::msrp::MsrpWebSocket;
pub(crate) use self::msrp::WebReception;

/// A WebSocket that is agreed on.
pub(crate) type WebSocket<S> = WebSocketStream<Followed<S>>;

/// The sub-protocol of SIP (RFC 7118 §4).
pub(crate) const SIP: &str = "sip";
/// The sub-protocol of MSRP (RFC 7977 §4).
pub(crate) const MSRP: &str = "msrp";
/// Read at a time, for each connection.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// What WebSockets are taken, and whether they are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebSockets {
    /// Pages whose scripts may connect, as browsers name them in Origin: `https://phone.example.org`. None: all, and whoever
    /// names no page.
    pub origins: Option<Vec<String>>,
    /// Whether this side may connect to others: a client does, a server does not (RFC 7118 §5).
    pub may_connect: bool,
}

/// Agrees with a peer that connected on a sub-protocol over WebSocket.
///
/// # Errors
/// It asks for something else, or comes from a page that is not allowed: it was told so.
pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    allowed: &WebSockets,
    limits: &MessageLimits,
    sub_protocol: &'static str,
) -> io::Result<WebSocket<S>> {
    // The answer is the library's type.
    #[allow(clippy::result_large_err)]
    let decide = |request: &Request, mut response: Response| {
        if !speaks(request, sub_protocol) {
            return Err(refusal(StatusCode::BAD_REQUEST, &format!("expected the sub-protocol {sub_protocol}")));
        }
        if !is_allowed(request, allowed.origins.as_deref()) {
            return Err(refusal(StatusCode::FORBIDDEN, "this page may not connect"));
        }
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(sub_protocol));
        // So it is wanted for MSRP (RFC 7977 §7); no browser looks at it.
        if sub_protocol == MSRP
            && let Some(origin) = request.headers().get(header::ORIGIN)
        {
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        Ok(response)
    };
    let configuration = Some(configuration(limits));
    let accepted = accept_hdr_async_with_config(Followed::new(stream), decide, configuration).await;
    let mut socket = accepted.map_err(io::Error::other)?;
    // Whoever sends anything behind its request before it is answered is refused by the library.
    socket.get_mut().follow();
    Ok(socket)
}

/// Agrees with a server, called `host`, on SIP over WebSocket.
///
/// # Errors
/// It does not speak that.
pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: Option<&str>,
    remote: SocketAddr,
    limits: &MessageLimits,
) -> io::Result<WebSocket<S>> {
    let place = host.map_or_else(|| remote.to_string(), |host| format!("{host}:{}", remote.port()));
    let uri = format!("ws://{place}/").parse().map_err(io::Error::other)?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(SIP);
    let connected = client_async_with_config(request, Followed::new(stream), Some(configuration(limits))).await;
    connected.map(|(socket, _)| socket).map_err(io::Error::other)
}

fn configuration(limits: &MessageLimits) -> WebSocketConfig {
    let most = limits.max_header_bytes.saturating_add(limits.max_body_bytes);
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        // A message that is being written, and an answer to a ping behind it.
        .max_write_buffer_size(most.saturating_add(READ_BUFFER_BYTES))
        .max_message_size(Some(most))
        .max_frame_size(Some(most))
}

/// Sub-protocols are compared as they are (RFC 6455 §11.3.4), in one header field or several.
fn speaks(request: &Request, sub_protocol: &str) -> bool {
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|it| it.trim() == sub_protocol)
}

fn is_allowed(request: &Request, origins: Option<&[String]>) -> bool {
    let Some(origins) = origins else { return true };
    let mut named = request.headers().get_all(header::ORIGIN).iter();
    match (named.next().and_then(|value| value.to_str().ok()), named.next()) {
        (Some(origin), None) => origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)),
        _ => false,
    }
}

fn refusal(status: StatusCode, text: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(text.to_owned()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> Request {
        let builder = fields.iter().fold(Request::builder(), |builder, (name, value)| builder.header(*name, *value));
        builder.body(()).unwrap()
    }

    #[test]
    fn the_sub_protocol_is_demanded() {
        let field = "Sec-WebSocket-Protocol";
        for (fields, speaks) in [
            (&[(field, "sip")][..], true),
            (&[(field, "chat, sip")], true),
            (&[(field, "chat"), (field, "sip")], true),
            (&[(field, "SIP")], false),
            (&[(field, "sips, msrp")], false),
            (&[], false),
        ] {
            assert_eq!(super::speaks(&request(fields), SIP), speaks, "{fields:?}");
        }
    }

    #[test]
    fn pages_are_allowed_by_their_whole_origin() {
        let origins = ["https://phone.example.org".to_owned(), "http://localhost:8080".to_owned()];
        for (fields, allowed) in [
            (&[("Origin", "https://phone.example.org")][..], true),
            (&[("Origin", "HTTPS://Phone.example.org")], true),
            (&[("Origin", "http://localhost:8080")], true),
            (&[("Origin", "https://phone.example.org.evil.example")], false),
            (&[("Origin", "https://phone.example.org:444")], false),
            (&[("Origin", "http://phone.example.org")], false),
            (&[("Origin", "null")], false),
            (&[("Origin", "https://phone.example.org"), ("Origin", "https://evil.example")], false),
            (&[], false),
        ] {
            assert_eq!(is_allowed(&request(fields), Some(&origins)), allowed, "{fields:?}");
            assert!(is_allowed(&request(fields), None));
        }
    }
}
