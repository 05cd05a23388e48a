//! Where a recipient is and how to get there.

use std::net::{IpAddr, SocketAddr};

use restante_deferral::model::{Abilities, Contact, ContactId, RecipientKey, Timestamp};
use restante_sip::header::{ICSI_DEFERRED, ICSI_LARGE_MESSAGE, ICSI_MESSAGE, NameAddr, icsi_values};
use restante_sip::registration::{Binding, BindingKind};
use restante_sip::transaction::{Flow, Transport};
use restante_sip::uri::Uri;
use restante_transport::destination::RefusedTarget;

use super::resolution::is_numeric;
use super::{Now, Shard};
use crate::configuration::Protocol;
use crate::server::Shared;
use crate::server::flow;

/// Largest MESSAGE unless every hop is congestion-safe (RFC 3428 §8).
const MAX_PAGE_BYTES: u32 = 1300;
/// Largest MESSAGE where they are.
const MAX_SAFE_PAGE_BYTES: u32 = 64 * 1024;

/// The way of one request.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) request_uri: String,
    pub(super) routes: Vec<String>,
    pub(super) flow: Flow,
    /// What answers is the device itself.
    pub(super) is_device: bool,
    /// Where the signalling comes from, for what it may make us connect to.
    pub(super) signalled_from: IpAddr,
    /// The next hop, as a breaker knows it.
    pub(super) hop: SocketAddr,
    /// The next hop is one that we trust with asserted identities (RFC 3325).
    pub(super) is_trusted: bool,
    /// It leads to where a client was seen, and not to what its Contact names: nobody else gets there.
    pub(super) is_where_seen: bool,
}

impl Route {
    /// What the request names: its target, and where it goes next.
    pub(super) fn next_hops(&self) -> impl Iterator<Item = &str> {
        self.routes.first().into_iter().chain([&self.request_uri]).map(String::as_str)
    }
}

impl Shard {
    /// A recipient's contacts as its machine sees them.
    pub(super) fn contacts_of(&self, key: &RecipientKey) -> Vec<Contact> {
        // A tenant that was removed delivers nothing, to nobody.
        if !self.shared.directory.serves(&key.tenant) {
            return Vec::new();
        }
        let now = (self.shared.clock)();
        match self.registrations.get(key) {
            Some(bindings) => bindings
                .bindings
                .iter()
                .filter(|binding| binding.expires_at > now.0 && !is_flow_dead(binding))
                .map(|binding| self.contact(key, &bindings.bindings, binding))
                .collect(),
            None => self.foreign_contact(key).into_iter().collect(),
        }
    }

    /// Somebody who is not served here, a sender who gets a report, is reached through the outbound proxy. So is a user
    /// of another tenant: its message came through a proxy, and what a tenant keeps stays that tenant's.
    fn foreign_contact(&self, key: &RecipientKey) -> Option<Contact> {
        let uri = Uri::parse(&key.address.0).ok()?;
        if self.shared.directory.served(&uri).is_some_and(|(_, user)| user.tenant == key.tenant) {
            return None;
        }
        let outbound = self.shared.outbound.as_ref()?;
        Some(Contact {
            id: ContactId(0),
            instance: None,
            device: key.address.0.to_string(),
            q_permille: 1000,
            abilities: Abilities {
                page_mode: true,
                large_message_mode: false,
                reliable_transport: outbound.protocol != Protocol::Udp,
                through_proxy: true,
                ..Abilities::default()
            },
            tags: Vec::new(),
            route_bytes: u32::try_from(key.address.0.len()).unwrap_or(u32::MAX),
            max_page_bytes: self.max_page_bytes(outbound.protocol != Protocol::Udp),
            subscribed: false,
            accepts_summary: false,
            expires_at: Timestamp::NEVER,
            refreshed_at: None,
        })
    }

    fn contact(&self, key: &RecipientKey, all: &[Binding], binding: &Binding) -> Contact {
        let tags = binding.feature_tags();
        let services: Vec<String> = tags
            .iter()
            .filter(|(name, _)| name == "+g.3gpp.icsi-ref")
            .flat_map(|(name, value)| icsi_values(&format!("*;{name}=\"{}\"", value.as_deref().unwrap_or(""))))
            .collect();
        let serves = |service: &str| services.iter().any(|known| known == service);
        let methods = binding.methods();
        let takes = |method: &str| methods.is_empty() || methods.iter().any(|known| known.eq_ignore_ascii_case(method));
        let reliable = match &self.shared.outbound {
            Some(outbound) => outbound.protocol != Protocol::Udp,
            None => binding
                .flow
                .as_deref()
                .and_then(|text| flow::read(text, true))
                .is_some_and(|(flow, _)| flow.transport != Transport::Udp),
        };
        let target = binding.target(&key.address.0);
        let route_bytes = target.request_uri.len() + target.routes.iter().map(|route| route.len() + 9).sum::<usize>();
        let unsolicited = self.shared.directory.tenant(&key.tenant).is_some_and(|tenant| tenant.unsolicited_notify);
        Contact {
            id: ContactId(binding.id.0),
            instance: binding.instance.clone(),
            device: binding.instance.clone().unwrap_or_else(|| binding.contact_uri.clone()),
            q_permille: binding.q_permille(),
            abilities: Abilities {
                page_mode: takes("MESSAGE"),
                large_message_mode: takes("INVITE"),
                cpm_deferred: serves(ICSI_DEFERRED),
                cpm_messaging: serves(ICSI_MESSAGE)
                    || serves(ICSI_LARGE_MESSAGE)
                    || tags.iter().any(|(name, _)| name == "+g.gsma.rcs.cpm.pager-large"),
                reliable_transport: reliable,
                through_proxy: binding.kind == BindingKind::Core,
                ..Abilities::default()
            },
            tags: tags
                .into_iter()
                .map(|(name, value)| value.map_or(name.clone(), |value| format!("{name}={value}")))
                .collect(),
            route_bytes: u32::try_from(route_bytes).unwrap_or(u32::MAX),
            max_page_bytes: self.max_page_bytes(reliable),
            subscribed: self.subscriptions.of_contact(key, all, binding).is_some(),
            accepts_summary: accepts_summary(binding) || unsolicited,
            expires_at: Timestamp(binding.expires_at),
            refreshed_at: Some(Timestamp(binding.refreshed_at)),
        }
    }

    pub(super) fn max_page_bytes(&self, reliable: bool) -> u32 {
        if reliable && self.shared.congestion_safe { MAX_SAFE_PAGE_BYTES } else { MAX_PAGE_BYTES }
    }

    /// The way to a contact; none when it is gone or nothing allowed leads there.
    pub(super) fn route_to(&self, key: &RecipientKey, contact: ContactId) -> Option<Route> {
        let outbound = match &self.shared.outbound {
            Some(_) => Some(self.outbound_flow()?),
            None => None,
        };
        let binding =
            self.registrations.get(key).and_then(|known| known.bindings.iter().find(|it| it.id.0 == contact.0));
        let Some(binding) = binding else {
            let flow = outbound.filter(|_| contact == ContactId(0))?;
            return Some(Route {
                request_uri: key.address.0.to_string(),
                routes: Vec::new(),
                flow,
                is_device: false,
                signalled_from: flow.remote.ip(),
                hop: flow.remote,
                is_trusted: true,
                is_where_seen: false,
            });
        };
        let target = binding.target(&self.shared.called(key));
        let came = binding.flow.as_deref().and_then(|text| flow::read(text, true));
        let seen = came.map(|(flow, _)| flow);
        let next_hop = target.routes.first().map_or(target.request_uri.as_str(), String::as_str);
        // What a client agreed on to be reached over is not what its Contact says (RFC 5626 §7).
        let own_flow =
            seen.filter(|seen| binding.reg_id.is_some() && target.routes.is_empty() && seen.connection.is_some());
        let own_flow = own_flow.filter(|seen| !is_sips(next_hop) || flow::protocol_of(seen.transport).is_encrypted());
        let (flow, is_named) = match outbound.or(own_flow) {
            Some(flow) => (flow, false),
            None => self.direct_flow(next_hop, seen, !target.routes.is_empty())?,
        };
        // The device itself answers only where nobody stands in between: a proxy without Path is known by the REGISTER
        // that it passed on.
        let was_relayed = came.is_some_and(|(_, relayed)| relayed);
        let is_device = binding.kind == BindingKind::Device
            && target.routes.is_empty()
            && outbound.is_none()
            && (is_named || !was_relayed);
        // Whoever registers writes its own Path, and Vias before ours: trusted is who is known to be. A core's binding is made by
        // a trusted peer alone; a peer that is known by its certificate is known on its own connection.
        // Whom another tenant trusts is told and believed no more than anybody.
        let is_of_peer = |seen: Flow| seen.remote.ip() == flow.remote.ip() && self.trusts(&key.tenant, seen);
        let is_trusted = !is_device
            && (outbound.is_some()
                || binding.kind == BindingKind::Core
                || self.trusts(&key.tenant, flow)
                || seen.is_some_and(is_of_peer));
        Some(Route {
            is_where_seen: outbound.is_none() && target.routes.is_empty() && !is_named,
            request_uri: target.request_uri,
            routes: target.routes,
            signalled_from: seen.map_or(flow.remote.ip(), |seen| seen.remote.ip()),
            hop: flow.remote,
            flow,
            is_device,
            is_trusted,
        })
    }

    /// Remembers whose registration came over a connection.
    pub(super) fn note_connection(&mut self, key: &RecipientKey, came: Flow) {
        if let Some(connection) = came.connection.filter(|connection| self.is_open(*connection)) {
            self.connections.entry(connection).or_default().insert(key.clone());
        }
    }

    /// A connection is gone: what was reached over it is reached by its Contact, if by anything. What can be reached over it
    /// alone cannot be reached now.
    pub(super) fn connection_closed(&mut self, now: Now, connection: restante_transport::ConnectionId) {
        let gone = restante_sip::transaction::ConnectionId(connection.0);
        for key in self.connections.remove(&gone).into_iter().flatten() {
            let Some(known) = self.registrations.get_mut(&key) else { continue };
            let mut is_any_dead = false;
            for binding in &mut known.bindings {
                let came = binding.flow.as_deref().and_then(|text| flow::read(text, true));
                if let Some((flow, relayed)) = came.filter(|(flow, _)| flow.connection == Some(gone)) {
                    binding.flow = Some(flow::write(&Flow { connection: None, ..flow }, relayed));
                    is_any_dead |= is_flow_dead(binding);
                }
            }
            if is_any_dead {
                self.contacts_changed(now, &key, None);
            }
        }
    }

    /// A binding whose connection is gone leads nowhere on it.
    pub(super) fn leave_closed_connection(&self, binding: &mut Binding) {
        let came = binding.flow.as_deref().and_then(|text| flow::read(text, true));
        if let Some((flow, relayed)) = came
            && flow.connection.is_some_and(|connection| !self.is_open(connection))
        {
            binding.flow = Some(flow::write(&Flow { connection: None, ..flow }, relayed));
        }
    }

    /// Whether a connection has not been closed. Whoever listens to nothing is told of no end either.
    fn is_open(&self, connection: restante_sip::transaction::ConnectionId) -> bool {
        let id = restante_transport::ConnectionId(connection.0);
        self.shared.sender().is_none_or(|sender| sender.is_open(id))
    }

    /// A way without a connection that is gone.
    pub(super) fn as_it_is_now(&self, seen: Flow) -> Flow {
        Flow { connection: seen.connection.filter(|connection| self.is_open(*connection)), ..seen }
    }

    /// To a next hop that a registration or a dialog named: on the connection that the client opened, to the address in it
    /// if it may be connected to, else back to where the client was seen. Also whether it goes to the named address. Names
    /// of clients are not looked for where the client was seen, those of proxies that somebody trusted named are. Where a `sips:` URI is next nothing
    /// leads there in the clear (RFC 3261 §26.2.2, RFC 5630 §3.1).
    pub(super) fn direct_flow(&self, next_hop: &str, seen: Option<Flow>, is_proxy: bool) -> Option<(Flow, bool)> {
        let uri = next_hop_uri(next_hop)?;
        let is_secure = uri.as_sip().is_some_and(|uri| uri.secure);
        let fits = |transport: Transport| !is_secure || flow::protocol_of(transport).is_encrypted();
        let signalled_from = seen.map(|seen| seen.remote);
        let seen = seen.map(|seen| self.as_it_is_now(seen)).filter(|seen| fits(seen.transport));
        let places = if is_numeric(&uri) || is_proxy || seen.is_none() { self.places_of(&uri) } else { Vec::new() };
        let says_udp = uri.parameter("transport").is_some_and(|name| name.eq_ignore_ascii_case("udp"));
        // A connection that the client opened is the only way back through its address translation.
        if let Some(seen) = seen.filter(|seen| seen.connection.is_some() && !says_udp) {
            return Some((seen, false));
        }
        let mut refused = None;
        let may_go = |(place, over): &&(SocketAddr, Option<Transport>)| {
            let from = signalled_from.unwrap_or(SocketAddr::new(place.ip(), 0));
            if !over.map_or(!is_secure, fits) {
                return false;
            }
            let checked = self.shared.destinations.check(*place, from);
            refused = checked.err().map(|error| (*place, error));
            refused.is_none()
        };
        let named = places.iter().find(may_go).copied();
        if let Some((place, error)) = refused.filter(|_| named.is_none())
            // A client behind address translation names an address that nobody else knows.
            && (is_proxy || seen.is_none() || error != RefusedTarget::Foreign)
        {
            self.shared.note_forbidden_target(place, error);
        }
        match (named, seen) {
            (Some((place, over)), Some(seen)) => {
                Some((self.named(&uri, flow::beside(&seen, over.unwrap_or(seen.transport), place)), true))
            }
            (None, Some(seen)) => Some((Flow { connection: None, ..seen }, false)),
            (Some((place, over)), None) => {
                Some((self.named(&uri, flow::towards(over.unwrap_or(Transport::Udp), place)), true))
            }
            (None, None) => None,
        }
    }
}

/// Whether a client can be reached over the connection of its REGISTER alone, and that is gone: a flow of RFC 5626 (§7: its
/// Contact is no place to connect to), or a WebSocket (RFC 7118 §5). It comes back with a new REGISTER; until then other flows
/// of its device are used, or its messages wait.
pub(super) fn is_flow_dead(binding: &Binding) -> bool {
    let flow = binding.flow.as_deref().filter(|_| binding.path.is_empty()).and_then(|text| flow::read(text, true));
    flow.is_some_and(|(flow, relayed)| {
        let protocol = flow::protocol_of(flow.transport);
        let is_all = protocol.is_web_socket() || (binding.reg_id.is_some() && !relayed);
        protocol.is_stream() && is_all && flow.connection.is_none()
    })
}

/// A next hop as a Contact or a Route has it.
pub(super) fn next_hop_uri(next_hop: &str) -> Option<Uri> {
    // Of a URI without brackets parameters would be taken for those of the header field.
    Uri::parse(next_hop).or_else(|_| NameAddr::parse(next_hop).map(|it| it.uri).map_err(drop)).ok()
}

/// Whether nothing but an encrypted way leads to a next hop.
pub(super) fn is_sips(next_hop: &str) -> bool {
    let uri = NameAddr::parse(next_hop).map(|it| it.uri).or_else(|_| Uri::parse(next_hop).map_err(drop));
    uri.is_ok_and(|uri| uri.as_sip().is_some_and(|uri| uri.secure))
}

/// Whether a contact said that it takes a message summary in a MESSAGE (rules of RFC 3840: the `type` feature tag).
pub(super) fn accepts_summary(binding: &Binding) -> bool {
    let summary = restante_cpim::message_summary::CONTENT_TYPE;
    binding.feature_tags().iter().any(|(name, value)| {
        name == "+g.oma.message-summary" || value.as_deref().is_some_and(|value| value.contains(summary))
    }) || binding.contact_parameters.contains(summary)
}

impl Shared {
    /// How a recipient is called towards a core: its canonical address.
    pub(super) fn called(&self, key: &restante_deferral::model::RecipientKey) -> String {
        key.address.0.to_string()
    }
}
