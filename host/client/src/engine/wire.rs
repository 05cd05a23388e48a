//! SIP on the wire: from the sockets to the transactions and back, and what requests of ours begin with.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use restante_sip::message::{MessageLimits, Method, SipMessage, validate_request, validate_response};
use restante_sip::transaction::{ClientTransactionId, Endpoint, Flow, SendError, Transmit, Transport as SipTransport};
use restante_sip::uri::{Uri, host_address};
use restante_sip::writer::{Builder, WriteError};
use restante_transport::{Protocol, SendToken, Target, TransportEvent};

use super::Engine;
use super::authentication::{AnsweredChallenge, Sent};
use crate::error::ClientError;
use crate::observer::{self, Direction};
use crate::outgoing::Answer;

/// What tells a request of ours from others.
pub(super) struct Outline<'a> {
    pub(super) from: &'a str,
    pub(super) from_tag: &'a str,
    pub(super) to: &'a str,
    pub(super) call_id: &'a str,
    pub(super) cseq: u32,
}

impl Engine {
    pub(super) fn transport_event(&mut self, event: TransportEvent) {
        match event {
            TransportEvent::Received { message, flow } => {
                observer::sip(
                    self.configuration.observer.as_ref(),
                    Direction::Received,
                    flow.local,
                    flow.remote,
                    &message,
                );
                let flow = Flow {
                    transport: sip_transport(flow.protocol),
                    local: flow.local,
                    remote: flow.remote,
                    connection: flow.connection.map(|id| restante_sip::transaction::ConnectionId(id.0)),
                    name: None,
                };
                self.received(message, flow);
            }
            TransportEvent::Unreadable { reason, .. } => self.violation(format!("unreadable SIP: {reason}")),
            TransportEvent::SendFailed { token, .. } => self.endpoint.transport_failed(ClientTransactionId(token.key)),
            TransportEvent::Closed { .. } => {}
        }
    }

    pub(super) fn transmit(&mut self, transmit: Transmit) {
        let Transmit { flow, bytes, client } = transmit;
        observer::sip_bytes(self.configuration.observer.as_ref(), Direction::Sent, self.local, flow.remote, &bytes);
        let token = client.map(|client| SendToken { shard: 0, key: client.0 });
        let protocol = protocol(flow.transport);
        let name = flow.name.map(|name| restante_transport::NameId(name.0));
        let address = Target::Address { protocol, remote: flow.remote, listener: None, name };
        let target = match flow.connection {
            Some(connection) => Target::Flow(restante_transport::Flow {
                protocol,
                listener: None,
                local: flow.local,
                remote: flow.remote,
                connection: Some(restante_transport::ConnectionId(connection.0)),
            }),
            None => address,
        };
        let result = self.sender.send(&target, bytes.clone(), token);
        // An answer whose connection is gone may still find its way (RFC 3261 §18.2.2).
        let result = result.or_else(|failure| match flow.connection {
            Some(_) => self.sender.send(&address, bytes, token),
            None => Err(failure),
        });
        if let (Err(_), Some(client)) = (result, client) {
            self.endpoint.transport_failed(client);
        }
    }

    /// Sends a request; what is too large for UDP goes over TCP. Gives the request as it was sent.
    pub(super) fn send_request(
        &mut self,
        method: &Method,
        (protocol, remote): (Protocol, SocketAddr),
        mut build: impl FnMut(&str) -> Result<Bytes, WriteError>,
    ) -> Result<(ClientTransactionId, SipMessage), ClientError> {
        let sent_by = self.local.to_string();
        let mut sent = Bytes::new();
        let mut challenge = self.state.challenge.take();
        let answers = challenge.as_ref().map_or(0, AnsweredChallenge::answers_before);
        let flows = [sip_transport(protocol), SipTransport::Tcp].map(|transport| self.flow_to(transport, remote));
        let mut attempt = |endpoint: &mut Endpoint, flow: Flow| {
            endpoint.send_request(Instant::now(), method.clone(), flow, &sent_by, |via| {
                sent = match (&mut challenge, &self.configuration.credentials) {
                    (Some(challenge), Some(credentials)) => challenge.answer(credentials, build(via)?)?,
                    _ => build(via)?,
                };
                Ok(sent.clone())
            })
        };
        let transaction = match attempt(&mut self.endpoint, flows[0]) {
            Err(SendError::TooLargeForUdp) => attempt(&mut self.endpoint, flows[1]),
            other => other,
        };
        self.state.challenge = challenge;
        let transaction = transaction?;
        let limits = MessageLimits::default();
        let request = SipMessage::parse(sent, &limits).map_err(|_| ClientError::Write(WriteError::Missing))?;
        if self.configuration.credentials.is_some() {
            let sent = Sent { request: request.clone(), to: (protocol, remote), answers };
            self.state.sent.insert(transaction, sent);
        }
        Ok((transaction, request))
    }

    /// To an address. What is encrypted on the way to the server must be so by whom the server was called.
    pub(super) fn flow_to(&self, transport: SipTransport, remote: SocketAddr) -> Flow {
        let is_server = remote == self.configuration.server;
        let name = self.configuration.tls.server_name.as_deref().filter(|_| is_server);
        let name = name.map(|name| restante_sip::transaction::NameId(self.sender.tls().name(name).0));
        Flow { transport, local: self.local, remote, connection: None, name }
    }

    pub(super) fn server(&self) -> (Protocol, SocketAddr) {
        (self.configuration.transport, self.configuration.server)
    }

    pub(super) fn contact_uri(&self) -> String {
        let user = crate::compose::contact_user(&self.configuration.identity);
        match sip_transport(self.configuration.transport).uri_parameter() {
            Some(transport) => format!("sip:{user}@{};transport={transport}", self.local),
            None => format!("sip:{user}@{}", self.local),
        }
    }

    fn received(&mut self, message: SipMessage, flow: Flow) {
        if message.is_request() {
            if let Err(error) = validate_request(&message) {
                self.violation(format!("malformed request: {error}"));
                if let Some(status) = error.status() {
                    self.endpoint.refuse(&message, flow, status, &error.to_string());
                }
                return;
            }
        } else if !validate_response(&message) {
            return self.violation("malformed response".to_owned());
        }
        self.endpoint.receive(Instant::now(), message, flow);
    }
}

/// Where a URI with a numeric host leads.
pub(crate) fn place_of(uri: &str) -> Option<(Protocol, SocketAddr)> {
    let uri = Uri::parse(uri).ok()?;
    let sip = uri.as_sip()?;
    let host = host_address(&sip.host)?;
    let protocol = match uri.parameter("transport") {
        Some(transport) => transport.to_ascii_lowercase().parse().unwrap_or(Protocol::Udp),
        None if sip.secure => Protocol::Tls,
        None => Protocol::Udp,
    };
    Some((protocol, SocketAddr::new(host, sip.port_or_default())))
}

/// The fields that every request of ours outside of a dialog begins with.
pub(super) fn begin(method: &Method, uri: &str, via: &str, outline: &Outline<'_>) -> Builder {
    Builder::request(method, uri)
        .field("Via", via)
        .field("Max-Forwards", "70")
        .field("From", &format!("<{}>;tag={}", outline.from, outline.from_tag))
        .field("To", &format!("<{}>", outline.to))
        .field("Call-ID", outline.call_id)
        .field("CSeq", &format!("{} {method}", outline.cseq))
        .field("User-Agent", "restante-client")
}

pub(super) fn sip_transport(protocol: Protocol) -> SipTransport {
    match protocol {
        Protocol::Udp => SipTransport::Udp,
        Protocol::Tcp => SipTransport::Tcp,
        Protocol::Tls => SipTransport::Tls,
        Protocol::Ws => SipTransport::Ws,
        Protocol::Wss => SipTransport::Wss,
    }
}

pub(super) fn protocol(transport: SipTransport) -> Protocol {
    match transport {
        SipTransport::Udp => Protocol::Udp,
        SipTransport::Tcp => Protocol::Tcp,
        SipTransport::Tls => Protocol::Tls,
        SipTransport::Ws => Protocol::Ws,
        SipTransport::Wss => Protocol::Wss,
    }
}

/// A message's header fields, in order.
pub(super) fn fields_of(message: &SipMessage) -> Vec<(String, String)> {
    let field =
        |field| (message.field_name(field).to_owned(), restante_sip::message::unfold(message.field_value(field)));
    message.fields().iter().map(field).collect()
}

/// What was answered.
pub(super) fn answer_of(message: &SipMessage) -> Answer {
    let line =
        String::from_utf8_lossy(message.bytes().split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let reason = line.splitn(3, ' ').nth(2).unwrap_or("").to_owned();
    Answer { status: message.status().unwrap_or(0), reason, fields: fields_of(message) }
}

/// What stands where no answer came yet.
pub(super) fn no_answer() -> Answer {
    Answer { status: 0, reason: String::new(), fields: Vec::new() }
}
