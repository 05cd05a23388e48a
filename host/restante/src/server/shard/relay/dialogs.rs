//! Requests in dialogs that pass by here, because a client can be reached by us alone.
//!
//! Nothing is remembered of such a dialog: our Record-Route carries where both ends are and a digest of the caller's
//! tag, under a keyed mark that holds for the dialog's Call-ID alone. A request with the caller's tag in From goes to
//! the device, one with it in To to the caller; to the next Route or the Request-URI where those may be connected to,
//! and else where the end was seen. Tokens outlive a restart, connections do not.
//!
//! Whoever saw a Record-Route of ours can write it into other requests. What comes of that:
//!
//! | request | answer |
//! |---|---|
//! | of another Call-ID, or with the caller's tag nowhere | 481 |
//! | MESSAGE, REGISTER, SUBSCRIBE, PUBLISH: not in need of a dialog, and ours to see themselves | 405 |
//! | from whom the tenant does not trust, with a further Route to elsewhere than where the end was seen | 403 |
//! | from whom the tenant does not trust, with a Request-URI elsewhere | goes to where the end was seen |
//! | any, from whom the tenant does not trust | loses what it asserts or prefers of identities and services (RFC 3325 §5) |
//!
//! The tenant is the device's, and is in the mark: From and To are written anew in every request. Where a request came
//! from is not asked otherwise: clients move.
//!
//! ACK goes on without state (RFC 3261 §16.11), everything else as any request (§16.6), so that what is lost is
//! repeated from here.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use restante_deferral::model::TenantName;
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::proxy::{Forwarding, OwnRoutes, without_own_routes};
use restante_sip::transaction::{Flow, ServerTransactionId};
use restante_sip::uri::Uri;

use super::super::openings::RETRY_SECONDS;
use super::super::route::is_sips;
use super::super::{Now, Shard};
use super::answers::{ASSERTED, hidden_outside};
use super::{Errand, Target, Way};
use crate::server::flow;

/// Begins what our marks in Record-Route name.
const PREFIX: &str = "rr!";
/// What passes in a dialog.
const PASSED: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY";

/// Where both ends of a dialog are.
pub(super) struct Pass {
    caller: Flow,
    device: Flow,
    /// Of its tag.
    caller_digest: String,
    /// The device's.
    tenant: TenantName,
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
        let own = self.without_own_routes(message);
        let Some(pass) = own.own.as_ref().and_then(|uri| self.pass_of(uri, message)) else { return false };
        let needs_none = [Method::Message, Method::Register, Method::Subscribe, Method::Publish];
        if message.method().is_some_and(|method| needs_none.contains(&method)) {
            self.answer_with(now, transaction, 405, |builder| builder.field("Allow", PASSED));
            return true;
        }
        let is_vouched_for = self.trusts(&pass.tenant, came);
        let passage = match self.passage(message, is_vouched_for) {
            Ok(passage) => passage,
            Err(refusal) => {
                self.refuse_passage(now, transaction, &refusal);
                return true;
            }
        };
        let way = match self.way_in_dialog(message, &own, &pass, is_vouched_for) {
            Ok(way) => way,
            Err(status) => {
                self.answer(now, transaction, status);
                return true;
            }
        };
        match self.open_in_dialog(&pass.tenant, came) {
            Ok(opening) => {
                tracing::trace!(from = %came.remote, "passed on in its dialog");
                let id = self.relay(now, transaction, passage, vec![(1000, Target::Way(way))], Errand::Pass, None);
                if let Some(relay) = id.and_then(|id| self.relays.get_mut(&id)) {
                    relay.opening = opening;
                }
            }
            Err(reason) => self.refuse(now, transaction, 480, reason, Some(RETRY_SECONDS)),
        }
        true
    }

    /// Passes an ACK on to a 2xx that passed by here: as from whom we do not trust, since nobody is named in it.
    pub(in crate::server::shard) fn relay_ack(&mut self, message: &SipMessage) {
        let own = self.without_own_routes(message);
        let Some(pass) = own.own.as_ref().and_then(|uri| self.pass_of(uri, message)) else { return };
        let Ok(way) = self.way_in_dialog(message, &own, &pass, false) else { return };
        let sent_by = self.sent_by(&way.flow);
        let via = self.endpoint.via(way.flow.transport, &sent_by);
        let forwarding = Forwarding {
            via: &via,
            request_uri: &way.request_uri,
            routes: &way.routes,
            hidden: &way.hidden,
            ..Forwarding::default()
        };
        if let Ok(bytes) = forwarding.write(message) {
            self.endpoint.send_stateless(way.flow, bytes);
        }
    }

    /// What is left of a request's Route.
    pub(in crate::server::shard) fn without_own_routes(&self, message: &SipMessage) -> OwnRoutes {
        let is_record_route = |uri: &Uri| self.shared.is_ours(uri) && self.pass_of(uri, message).is_some();
        without_own_routes(message, |uri| self.shared.is_ours(uri), is_record_route)
    }

    /// The URIs for the Record-Route of an INVITE, the caller's side first: one where both sides come over the same
    /// transport.
    pub(super) fn record_routes(
        &self,
        invite: &SipMessage,
        tenant: &TenantName,
        caller: Flow,
        device: Flow,
    ) -> Vec<String> {
        let from = invite.from().ok();
        let (Some(tag), Some(call_id)) = (from.as_ref().and_then(|from| from.tag()), invite.call_id()) else {
            return Vec::new();
        };
        let [caller_end, device_end] = [caller, device].map(|flow| written(&flow));
        let digest = self.shared.own_mark.digest(tag);
        let (run, tenant) = (self.shared.run, hexadecimal(&tenant.0));
        let name = format!("{PREFIX}{caller_end}!{device_end}!{digest}!{run:08x}!{tenant}");
        let user = self.shared.own_mark.bound(&name, call_id);
        // Where `sips:` was dialled it is on both sides (RFC 3261 §16.6 step 4), without a transport (§26.2.2).
        let is_secure = invite.request_uri().is_some_and(is_sips);
        let uri = |flow: &Flow| match self.place_of_ours(flow) {
            (place, Some("tls")) if is_secure => format!("sips:{user}@{place};lr"),
            (place, Some(transport)) => format!("sip:{user}@{place};transport={transport};lr"),
            (place, None) => format!("sip:{user}@{place};lr"),
        };
        let mut uris = vec![uri(&caller), uri(&device)];
        uris.dedup();
        uris
    }

    /// What a Record-Route of ours says, in a request of its dialog.
    fn pass_of(&self, uri: &Uri, message: &SipMessage) -> Option<Pass> {
        let user = uri.as_sip()?.user.as_deref()?;
        let name = self.shared.own_mark.bound_name_of(user, message.call_id()?)?.strip_prefix(PREFIX)?;
        let mut parts = name.split('!');
        let (caller, device, caller_digest, run) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // After a restart the number of a connection may be another's.
        let is_of_this_run = u32::from_str_radix(run, 16) == Ok(self.shared.run);
        Some(Pass {
            caller: read(caller, is_of_this_run)?,
            device: read(device, is_of_this_run)?,
            caller_digest: caller_digest.to_owned(),
            // A mark of an earlier version has none: nobody is trusted then.
            tenant: TenantName(text_of(parts.next().unwrap_or_default())?.into()),
        })
    }

    /// # Errors
    /// The status that says why there is no way.
    fn way_in_dialog(
        &self,
        message: &SipMessage,
        own: &OwnRoutes,
        pass: &Pass,
        is_vouched_for: bool,
    ) -> Result<Way, u16> {
        let is_callers =
            |tag: Option<&str>| tag.is_some_and(|tag| self.shared.own_mark.digest(tag) == pass.caller_digest);
        let seen = if message.from().is_ok_and(|from| is_callers(from.tag())) {
            pass.device
        } else if message.to().is_ok_and(|to| is_callers(to.tag())) {
            pass.caller
        } else {
            return Err(481);
        };
        let next_hop = own.routes.first().map_or(own.request_uri.as_str(), String::as_str);
        // What somebody else names is not looked for: it goes to where the other end was seen.
        let is_proxy = is_vouched_for && !own.routes.is_empty();
        let (mut flow, mut is_named) = self.direct_flow(next_hop, Some(seen), is_proxy).ok_or(404u16)?;
        if !is_vouched_for && flow.remote.ip() != seen.remote.ip() {
            if !own.routes.is_empty() {
                return Err(403);
            }
            (flow, is_named) = (seen, false);
        }
        let mut hidden = Vec::new();
        let is_trusted = self.trusts(&pass.tenant, flow);
        if !is_vouched_for {
            hidden.extend(ASSERTED);
            // An ACK carries what its INVITE did (RFC 3261 §22.1), and that was for us.
            hidden.push(Name::Authorization);
        } else if !is_trusted && !self.is_outbound(flow) {
            hidden.extend(hidden_outside(message));
        }
        let way = Way::plain(flow, &own.request_uri);
        Ok(Way { hidden, is_trusted, is_where_seen: !is_named, routes: own.routes.clone(), ..way })
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

/// A text, whatever is in it, with no character that the user part of a URI may not have.
fn hexadecimal(text: &str) -> String {
    HEXLOWER.encode(text.as_bytes())
}

fn text_of(hexadecimal: &str) -> Option<String> {
    String::from_utf8(HEXLOWER_PERMISSIVE.decode(hexadecimal.as_bytes()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_read_as_it_was_written() {
        for text in [
            "udp 192.0.2.1:5060 0",
            "udp [2001:db8::1]:5060 0 at [2001:db8::9]:5060",
            "tcp [2001:db8::1]:5060 7",
            "tls 192.0.2.1:40001 8",
            "wss [2001:db8::1]:9 3",
        ] {
            let (flow, _) = flow::read(text, true).unwrap();
            let written = written(&flow);
            assert!(written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte)));
            assert_eq!(read(&written, true), Some(flow));
            assert_eq!(read(&written, false), Some(Flow { connection: None, ..flow }));
        }
    }

    #[test]
    fn the_name_of_a_tenant_is_read_as_it_was_written() {
        for name in ["example", "a tenant!", "café", ""] {
            assert!(hexadecimal(name).bytes().all(|byte| byte.is_ascii_hexdigit()));
            assert_eq!(text_of(&hexadecimal(name)).as_deref(), Some(name));
        }
        assert_eq!((text_of("zz"), text_of("ff")), (None, None));
    }
}
