//! Passes on what we sent ourselves and a core brought back, because our own delivery matches the filter criteria that
//! brought its message here (RFC 3261 §16.6). It is never deferred again.
//!
//! Where it goes: to the next Route; to the contact of a user of ours, with its Path; to the outbound proxy; to the address
//! in its Request-URI. It is recognised by the keyed mark in its Call-ID, and passed on only for peers that the user's tenant
//! trusts, or some tenant where it is for nobody of ours: whoever got a message of ours knows its Call-ID.

use std::net::SocketAddr;

use restante_sip::header::NameAddr;
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::proxy::OwnRoutes;
use restante_sip::transaction::{Flow, ServerTransactionId, Transport};
use restante_sip::uri::Uri;

use super::relay::{Errand, Target, Way, hidden_from};
use super::{Now, Shard};
use crate::server::flow;

/// Methods of requests that we send.
const FORWARDED: [Method; 4] = [Method::Message, Method::Invite, Method::Notify, Method::Bye];

impl Shard {
    /// Whether a request is one of ours that came back.
    pub(super) fn is_own(&self, message: &SipMessage) -> bool {
        message.call_id().is_some_and(|call_id| self.shared.own_mark.name_of(call_id).is_some())
    }

    pub(super) fn forward(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
        method: &Method,
        uri: &Uri,
        came: Flow,
    ) {
        // To us as the other end, in a dialog that is over or that a restart ended: none of our deliveries is sent there.
        let is_to_us = |uri: &str| Uri::parse(uri).is_ok_and(|uri| self.shared.is_ours(&uri));
        if message.to().is_ok_and(|to| to.tag().is_some()) && is_to_us(&self.without_own_routes(message).request_uri) {
            return self.answer(now, transaction, 481);
        }
        let is_trusted = match self.shared.directory.served(uri) {
            Some((tenant, _)) => tenant.trusts(&self.shared.peer(&came)),
            None => self.is_trusted(came),
        };
        if !is_trusted {
            return self.answer(now, transaction, 403);
        }
        if !FORWARDED.contains(method) {
            return self.answer(now, transaction, 481);
        }
        let passage = match self.passage(message, true) {
            Ok(passage) => passage,
            Err(refusal) => return self.refuse_passage(now, transaction, &refusal),
        };
        match self.way_on(message, uri, &passage.own, came) {
            Ok(way) => {
                let targets = vec![(1000, Target::Way(way))];
                self.relay(now, transaction, passage, targets, Errand::Pass, None);
            }
            Err(status) => self.answer(now, transaction, status),
        }
    }

    /// Passes on what a core says a user of ours sends (`sescase=orig`): deferring is for who receives. It goes along the
    /// Route that is left, else through the outbound proxy, else to the host in the Request-URI.
    pub(super) fn pass_originating(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
        uri: &Uri,
        came: Flow,
    ) {
        let passage = match self.passage(message, true) {
            Ok(passage) => passage,
            Err(refusal) => return self.refuse_passage(now, transaction, &refusal),
        };
        match self.way_past_users(message, uri, &passage.own, came) {
            Ok(way) if !self.may_vouch(message, uri, came, &way) => self.answer(now, transaction, 403),
            Ok(way) => _ = self.relay(now, transaction, passage, vec![(1000, Target::Way(way))], Errand::Pass, None),
            Err(status) => self.answer(now, transaction, status),
        }
    }

    /// # Errors
    /// The status that says why there is no way: 500 while its name leads nowhere (RFC 3261 §16.7 step 6: a 503 would be said
    /// of this server).
    fn way_past_users(&self, message: &SipMessage, uri: &Uri, own: &OwnRoutes, came: Flow) -> Result<Way, u16> {
        let plain = |flow| {
            let way = Way { routes: own.routes.clone(), ..Way::plain(flow, &own.request_uri) };
            self.keeping_secrets(message, came, way)
        };
        match (own.routes.first(), &self.shared.outbound) {
            (Some(next), _) => {
                let next = NameAddr::parse(next).map_err(|_| 400u16)?;
                self.flow_along(&next.uri, came).map(plain)
            }
            (None, Some(_)) => self.outbound_flow().map(plain).ok_or(500),
            (None, None) => self.flow_to(uri, came).map(plain),
        }
    }

    /// # Errors
    /// The same.
    fn way_on(&self, message: &SipMessage, uri: &Uri, own: &OwnRoutes, came: Flow) -> Result<Way, u16> {
        if own.routes.is_empty()
            && self.shared.outbound.is_none()
            && let Some((_, key)) = self.shared.directory.served(uri)
            && let Some(contact) = self.contacts_of(&key).into_iter().max_by_key(|contact| contact.q_permille)
        {
            let route = self.route_to(&key, contact.id).ok_or(404u16)?;
            let hidden = hidden_from(&route, message.asks_privacy("id"));
            let is_trusted = route.is_trusted;
            let way = Way::plain(route.flow, &route.request_uri);
            return Ok(Way { hidden, is_trusted, routes: route.routes, ..way });
        }
        self.way_past_users(message, uri, own, came)
    }

    /// To the next Route of a request of a trusted peer. While its name is being looked up, back to the peer: mostly it named
    /// itself, and else it goes along the Route as well as we would.
    pub(super) fn flow_along(&self, next: &Uri, came: Flow) -> Result<Flow, u16> {
        if self.is_looked_up(next) { Ok(came) } else { self.flow_to(next, came) }
    }

    /// To the host of a URI, if it may be connected to.
    fn flow_to(&self, uri: &Uri, came: Flow) -> Result<Flow, u16> {
        let is_numeric = uri.as_sip().and_then(flow::socket_of).is_some();
        let places = self.places_of(uri);
        if places.is_empty() && !is_numeric && uri.as_sip().is_some() {
            return Err(500);
        }
        let outbound = self.outbound_flow().map(|flow| flow.remote);
        let mut refused = None;
        let may_go = |(place, _): &(SocketAddr, Option<Transport>)| {
            let checked = self.shared.destinations.check(*place, came.remote);
            refused = checked.err().filter(|_| outbound != Some(*place)).map(|error| (*place, error));
            refused.is_none()
        };
        let found = places.into_iter().find(may_go);
        if let Some((place, error)) = refused {
            self.shared.note_forbidden_target(place, error);
        }
        let (remote, transport) = found.ok_or(404u16)?;
        let usual = if uri.parameter("transport").is_some() { Transport::Udp } else { came.transport };
        Ok(self.named(uri, flow::towards(transport.unwrap_or(usual), remote)))
    }

    /// Whether what a peer says a user of ours sends may go this way as it says so. Back to where it came from: always, we add
    /// nothing. Elsewhere, and there by our word: when the peer may speak for who is named as the sender; where nobody of ours
    /// is named, when it may speak to the recipient.
    fn may_vouch(&self, message: &SipMessage, uri: &Uri, came: Flow, way: &Way) -> bool {
        if way.flow.remote.ip() == came.remote.ip() {
            return true;
        }
        let peer = self.shared.peer(&came);
        let trusting = |uri: &Uri| self.shared.directory.served(uri).map(|(tenant, _)| tenant.trusts(&peer));
        let Ok(asserted) = message.name_addrs(Name::PAssertedIdentity) else { return false };
        let senders: Vec<_> = asserted.iter().filter_map(|asserted| trusting(&asserted.uri)).collect();
        match senders.as_slice() {
            [] => trusting(uri).unwrap_or(true),
            senders => senders.iter().all(|is_trusting| *is_trusting),
        }
    }
}
