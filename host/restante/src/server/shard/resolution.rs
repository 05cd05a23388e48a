//! Next hops that have names: where they lead, and attempts that wait until that is known.
//!
//! A client is where it was seen, whatever its Contact says: many write names there that nobody else knows. A proxy (Path,
//! Route), a target of the operator's and `sip.outbound` are where their names say (RFC 3263).

use std::net::SocketAddr;
use std::sync::Arc;

use restante_deferral::model::{ContactId, RecipientKey};
use restante_deferral::participating_function::{Attempt, AttemptId, AttemptTask};
use restante_sip::header::NameAddr;
use restante_sip::proxy::BranchId;
use restante_sip::transaction::{Flow, NameId, Transport};
use restante_sip::uri::{Uri, host_address};
use restante_transport::Protocol;
use restante_transport::queue::Lane;
use restante_transport::resolution::{Known, Place, Wanted};

use super::relay::RelayId;
use super::route::next_hop_uri;
use super::{Now, Shard, ToShard};
use crate::server::directory::Peer;
use crate::server::flow;

impl Shard {
    /// Keeps an attempt until it is known where the name of its next hop leads. It comes back where there is nothing to
    /// wait for.
    pub(super) fn wait_for_name(&mut self, now: Now, key: &RecipientKey, attempt: Attempt) -> Option<Attempt> {
        let Some(wanted) = self.name_on_the_way(key, &attempt) else { return Some(attempt) };
        if self.is_known(now, &wanted) {
            return Some(attempt);
        }
        self.resolving.entry(wanted).or_default().push((key.clone(), attempt));
        None
    }

    /// Whether a branch of what is passed on waits until it is known where the name of its next hop leads.
    pub(super) fn branch_waits_for_name(
        &mut self,
        now: Now,
        key: &RecipientKey,
        contact: ContactId,
        branch: (RelayId, BranchId),
    ) -> bool {
        let wanted = match &self.shared.outbound {
            Some(hop) => hop.wanted(),
            None => self.proxy_before(key, contact),
        };
        let Some(wanted) = wanted.filter(|wanted| wanted.place().is_none()) else { return false };
        if self.is_known(now, &wanted) {
            return false;
        }
        self.branches_resolving.entry(wanted).or_default().push(branch);
        true
    }

    /// A branch is not to begin any more.
    pub(super) fn forget_waiting_branch(&mut self, relay: RelayId, branch: BranchId) {
        self.branches_resolving.retain(|_, waiting| {
            waiting.retain(|it| *it != (relay, branch));
            !waiting.is_empty()
        });
    }

    /// Whether something is known of a name; if not it is asked about.
    fn is_known(&self, now: Now, wanted: &Wanted) -> bool {
        // A question may outlive the server that asked it, and must not keep its store open.
        let (shared, shard, name) = (Arc::downgrade(&self.shared), self.index, wanted.clone());
        let told = move || {
            if let Some(shared) = shared.upgrade() {
                drop(shared.push(shard, Lane::Ordered, ToShard::Resolved(name), 64));
            }
        };
        self.shared.names.look_up(wanted, now.monotonic, told) != Known::Not
    }

    /// A name was asked about: attempts that waited for that begin, or end where it leads nowhere.
    pub(super) fn resolved(&mut self, now: Now, wanted: &Wanted) {
        let branches = self.branches_resolving.remove(wanted).unwrap_or_default();
        self.branches_resolved(now, branches);
        for (key, attempt) in self.resolving.remove(wanted).unwrap_or_default() {
            if let Err(end) = self.start_attempt(now, &key, attempt) {
                let (id, end) = *end;
                self.attempt_ended(now, &key, id, end);
            }
        }
    }

    /// An attempt that waits for a name is not to begin any more.
    pub(super) fn forget_resolving(&mut self, key: &RecipientKey, attempt: AttemptId) {
        self.resolving.retain(|_, waiting| {
            waiting.retain(|(of, it)| it.id != attempt || of != key);
            !waiting.is_empty()
        });
    }

    /// The way to the outbound proxy; none where there is none, or its name leads nowhere.
    pub(super) fn outbound_flow(&self) -> Option<Flow> {
        let wanted = self.shared.outbound.as_ref()?.wanted()?;
        self.places(&wanted).first().map(|place| self.towards(*place, &wanted))
    }

    /// The way to a target that the operator named.
    pub(super) fn target_flow(&self, uri: &Uri) -> Option<Flow> {
        let wanted = wanted_of(uri)?.of_operator();
        self.places(&wanted).first().map(|place| self.towards(*place, &wanted))
    }

    /// A flow to one of the places that the host of a URI was looked up for: over TLS the peer must be that host.
    pub(super) fn named(&self, uri: &Uri, flow: Flow) -> Flow {
        if !flow::protocol_of(flow.transport).is_encrypted() {
            return flow;
        }
        wanted_of(uri).map_or(flow, |wanted| Flow { name: self.name_of(&wanted), ..flow })
    }

    /// Where a next hop is that a peer named, and over what where something is said of that.
    pub(super) fn places_of(&self, uri: &Uri) -> Vec<(SocketAddr, Option<Transport>)> {
        let Some(wanted) = wanted_of(uri) else { return Vec::new() };
        if let Some(place) = wanted.place() {
            let is_said = wanted.protocol().is_some() || wanted.is_secure();
            return vec![(place.socket, is_said.then(|| flow::transport_of(place.protocol)))];
        }
        self.places(&wanted).iter().map(|place| (place.socket, Some(flow::transport_of(place.protocol)))).collect()
    }

    /// Whether names in the route set of a dialog are looked for: where whoever it began with is trusted, as in a Path, since
    /// questions are everybody's, or is at a name that is. A connection that has closed vouches for nobody any more.
    pub(super) fn may_name_hops(&self, next_hop: &str, began: Flow) -> bool {
        let host = next_hop_uri(next_hop).and_then(|uri| Some(uri.as_sip()?.host.to_ascii_lowercase()));
        let named = host.map(|host| Peer { address: None, names: Arc::from([host.into_boxed_str()]) });
        self.is_trusted(began) || named.is_some_and(|named| self.shared.directory.is_trusted(&named))
    }

    /// Whether nobody said yet where the name of a next hop leads.
    pub(super) fn is_looked_up(&self, uri: &Uri) -> bool {
        let wanted = wanted_of(uri).filter(|wanted| wanted.place().is_none());
        let now = Now::read(&self.shared).monotonic;
        wanted.is_some_and(|wanted| self.shared.names.look_up(&wanted, now, || ()) == Known::Not)
    }

    fn places(&self, wanted: &Wanted) -> Vec<Place> {
        match self.shared.names.look_up(wanted, Now::read(&self.shared).monotonic, || ()) {
            Known::Places(places) => places,
            Known::Nowhere | Known::Not => Vec::new(),
        }
    }

    fn towards(&self, place: Place, wanted: &Wanted) -> Flow {
        let flow = flow::towards(flow::transport_of(place.protocol), place.socket);
        let name = place.protocol.is_encrypted().then(|| self.name_of(wanted)).flatten();
        Flow { name, ..flow }
    }

    /// What the peer must be called; none where an address was asked for.
    fn name_of(&self, wanted: &Wanted) -> Option<NameId> {
        let sender = self.shared.sender().filter(|_| wanted.place().is_none())?;
        Some(NameId(sender.tls().name(wanted.host()).0))
    }

    /// The name that leads to the next hop of an attempt, where it is no address.
    fn name_on_the_way(&self, key: &RecipientKey, attempt: &Attempt) -> Option<Wanted> {
        let wanted = match &attempt.task {
            // Each branch of a relay waits by itself.
            AttemptTask::Pull { .. } | AttemptTask::Relay { .. } => None,
            AttemptTask::HandOver { target, .. } => {
                let tenant = self.shared.directory.tenant(&key.tenant)?;
                tenant.hand_over.get(target).and_then(|uri| Some(wanted_of(&Uri::parse(uri).ok()?)?.of_operator()))
            }
            _ => match &self.shared.outbound {
                Some(hop) => hop.wanted(),
                None => self.proxy_before(key, attempt.contact?),
            },
        };
        wanted.filter(|wanted| wanted.place().is_none())
    }

    /// The proxy that a contact is reached through.
    fn proxy_before(&self, key: &RecipientKey, contact: ContactId) -> Option<Wanted> {
        let binding = self.registrations.get(key)?.bindings.iter().find(|it| it.id.0 == contact.0)?;
        let target = binding.target(&key.address.0);
        let next_hop = match target.routes.first() {
            Some(route) => NameAddr::parse(route).ok()?.uri,
            None if binding.flow.is_none() => Uri::parse(&target.request_uri).ok()?,
            None => return None,
        };
        wanted_of(&next_hop)
    }
}

/// Whether nobody has to be asked where a URI leads: its host is an address, and so is its `maddr` where it has one.
pub(super) fn is_numeric(uri: &Uri) -> bool {
    let is_address = |host: &str| host_address(host).is_some();
    uri.as_sip().is_some_and(|uri| flow::socket_of(uri).is_some()) && uri.parameter("maddr").is_none_or(is_address)
}

/// What is looked for to send something to a URI (RFC 3263 §4).
fn wanted_of(uri: &Uri) -> Option<Wanted> {
    let sip = uri.as_sip()?;
    let protocol = match uri.parameter("transport") {
        Some(name) => name.to_ascii_lowercase().parse::<Protocol>().ok(),
        None => None,
    };
    let wanted = Wanted::new(uri.parameter("maddr").unwrap_or(&sip.host), sip.port, protocol)?;
    // `sips:` is TLS whatever stands below it (RFC 3263 §4.1).
    Some(if sip.secure { wanted.secure() } else { wanted })
}
