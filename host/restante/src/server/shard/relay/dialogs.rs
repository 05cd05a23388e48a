//! Requests in dialogs that pass by here, because a client can be reached by us alone.
//!
//! Nothing is remembered of such a dialog: our Record-Route carries where both ends are, under the keyed mark that our
//! Call-IDs have. A request with the caller's From-tag goes to the device, any other to the caller; to the next Route or the
//! Request-URI where those may be connected to, and else where the end was seen. Tokens outlive a restart, connections do
//! not.
//!
//! ACK goes on without state (RFC 3261 §16.11), everything else as any request (§16.6), so that what is lost is repeated
//! from here.

use restante_sip::message::{Name, SipMessage};
use restante_sip::proxy::{Forwarding, without_own_routes};
use restante_sip::transaction::{Flow, ServerTransactionId};
use restante_sip::uri::Uri;

use super::super::{Now, Shard};
use super::{Errand, Target, Way};
use crate::server::flow;

/// Begins what our marks in Record-Route name, so that a Call-ID of ours is none.
const PREFIX: &str = "rr!";

/// Where both ends of a dialog are.
pub(super) struct Pass {
    caller: Flow,
    device: Flow,
    /// Of its From.
    caller_tag: String,
}

impl Shard {
    /// Passes on a request in a dialog that was set up through here. False: it names no Record-Route of ours.
    pub(in crate::server::shard) fn relay_in_dialog(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
        came: Flow,
    ) -> bool {
        let names_us = message.list(Name::Route).next().is_some();
        if !names_us {
            return false;
        }
        let own = without_own_routes(message, |uri| self.is_ours(uri), |uri| self.is_record_route(uri));
        let Some(pass) = own.own.as_ref().and_then(|uri| self.pass_of(uri)) else { return false };
        let passage = match self.passage(message) {
            Ok(passage) => passage,
            Err(refusal) => {
                self.refuse_passage(now, transaction, &refusal);
                return true;
            }
        };
        match self.way_in_dialog(message, &own.request_uri, &own.routes, &pass) {
            Some(way) => {
                tracing::trace!(from = %came.remote, "passed on in its dialog");
                self.relay(now, transaction, passage, vec![(1000, Target::Way(way))], Errand::Pass, None);
            }
            None => self.answer(now, transaction, 404),
        }
        true
    }

    /// Passes an ACK on to a 2xx that passed by here.
    pub(in crate::server::shard) fn relay_ack(&mut self, message: &SipMessage) {
        let own = without_own_routes(message, |uri| self.is_ours(uri), |uri| self.is_record_route(uri));
        let Some(pass) = own.own.as_ref().and_then(|uri| self.pass_of(uri)) else { return };
        let Some(way) = self.way_in_dialog(message, &own.request_uri, &own.routes, &pass) else { return };
        let sent_by = self.sent_by(&way.flow);
        let via = self.endpoint.via(way.flow.transport, &sent_by);
        let forwarding =
            Forwarding { via: &via, request_uri: &way.request_uri, routes: &own.routes, ..Forwarding::default() };
        if let Ok(bytes) = forwarding.write(message) {
            self.endpoint.send_stateless(way.flow, bytes);
        }
    }

    /// The URIs for Record-Route, the caller's side first: one where both sides come over the same transport.
    pub(super) fn record_routes(&self, caller: Flow, device: Flow, caller_tag: &str) -> Vec<String> {
        let plain = caller_tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~*'()".contains(&byte));
        if !plain || caller_tag.len() > 64 {
            return Vec::new();
        }
        let [caller_end, device_end] = [caller, device].map(|flow| written(&flow));
        let run = self.shared.run;
        let name = format!("{PREFIX}{caller_end}!{device_end}!{caller_tag}!{run:08x}");
        let marked = self.shared.own_mark.call_id(&name);
        let user = marked.split('@').next().unwrap_or("");
        let uri = |flow: &Flow| match self.place_of_ours(flow) {
            (place, Some(transport)) => format!("sip:{user}@{place};transport={transport};lr"),
            (place, None) => format!("sip:{user}@{place};lr"),
        };
        let mut uris = vec![uri(&caller), uri(&device)];
        uris.dedup();
        uris
    }

    /// What a Record-Route of ours says.
    pub(super) fn pass_of(&self, uri: &Uri) -> Option<Pass> {
        let name = self.shared.own_mark.name_of(uri.as_sip()?.user.as_deref()?)?.strip_prefix(PREFIX)?;
        let mut parts = name.split('!');
        let (caller, device, caller_tag, run) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // After a restart the number of a connection may be another's.
        let is_of_this_run = u32::from_str_radix(run, 16) == Ok(self.shared.run);
        Some(Pass {
            caller: read(caller, is_of_this_run)?,
            device: read(device, is_of_this_run)?,
            caller_tag: caller_tag.to_owned(),
        })
    }

    fn way_in_dialog(&self, message: &SipMessage, request_uri: &str, routes: &[String], pass: &Pass) -> Option<Way> {
        let is_callers = message.from().is_ok_and(|from| from.tag() == Some(pass.caller_tag.as_str()));
        let seen = if is_callers { pass.device } else { pass.caller };
        let next_hop = routes.first().map_or(request_uri, String::as_str);
        let (flow, _) = self.direct_flow(next_hop, Some(seen), !routes.is_empty())?;
        Some(Way::plain(flow, request_uri))
    }
}

/// A flow with no character that the user part of a URI may not have.
fn written(flow: &Flow) -> String {
    let text = flow::write(flow, false);
    text.replace(' ', "_").replace(':', "-").replace('[', "(").replace(']', ")")
}

fn read(text: &str, is_alive: bool) -> Option<Flow> {
    let text = text.replace('_', " ").replace('-', ":").replace('(', "[").replace(')', "]");
    flow::read(&text, is_alive).map(|(flow, _)| flow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_read_as_it_was_written() {
        for text in
            ["udp 192.0.2.1:5060 0", "tcp [2001:db8::1]:5060 7", "tls 192.0.2.1:40001 8", "wss [2001:db8::1]:9 3"]
        {
            let (flow, _) = flow::read(text, true).unwrap();
            let written = written(&flow);
            assert!(written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte)));
            assert_eq!(read(&written, true), Some(flow));
            assert_eq!(read(&written, false), Some(Flow { connection: None, ..flow }));
        }
    }
}
