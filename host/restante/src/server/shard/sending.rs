//! What the transactions want sent goes to the sockets.

use std::net::SocketAddr;

use restante_sip::message::{MessageLimits, SipMessage};
use restante_sip::transaction::{Flow, Transmit};
use restante_transport::{SendToken, Sender};

use super::{Now, Shard};
use crate::server::flow;

impl Shard {
    /// Hands what the transactions want sent to the sockets.
    pub(super) fn flush(&mut self, now: Now) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let token =
                transmit.client.map(|id| SendToken { shard: u16::try_from(self.index).unwrap_or(0), key: id.0 });
            let target = flow::to_target(&transmit.flow);
            let sent = self.shared.sender().map(|sender| sender.send(&target, transmit.bytes.clone(), token));
            let failed = match sent {
                Some(Err(_)) if transmit.flow.connection.is_some() => match self.without_connection(&transmit) {
                    Some(flow) => {
                        let target = flow::to_target(&flow);
                        let sent = |sender: &Sender| match token {
                            Some(_) => sender.send(&target, transmit.bytes, token),
                            None => sender.answer(&target, transmit.bytes),
                        };
                        self.shared.sender().is_none_or(|sender| sent(sender).is_err())
                    }
                    None => true,
                },
                Some(result) => result.is_err(),
                None => true,
            };
            if failed && let Some(client) = transmit.client {
                self.endpoint.transport_failed(client);
                self.handle_events(now);
            }
        }
    }

    /// Where something goes whose connection is gone: a request to the same place, a response to the port that the sender of
    /// the request named (RFC 3261 §18.2.2), as far as we would connect there at all.
    fn without_connection(&self, transmit: &Transmit) -> Option<Flow> {
        let flow = Flow { connection: None, ..transmit.flow };
        if transmit.client.is_some() {
            return Some(flow);
        }
        let response = SipMessage::parse(transmit.bytes.clone(), &MessageLimits::UNBOUNDED).ok()?;
        // An ACK or a CANCEL of ours.
        if response.is_request() {
            return Some(flow);
        }
        let usual = if flow::protocol_of(flow.transport).is_encrypted() { 5061 } else { 5060 };
        let port = response.top_via().ok()?.port.unwrap_or(usual);
        let remote = SocketAddr::new(flow.remote.ip(), port);
        // Whoever sent the request wrote that port itself.
        self.shared.destinations.check(remote, remote).ok()?;
        Some(Flow { remote, ..flow })
    }
}
