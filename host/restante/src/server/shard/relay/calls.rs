//! INVITEs that are passed on (RFC 3261 §16), and what is taken over.
//!
//! Whether a Record-Route of ours goes into an INVITE: only where one of the two sides is reached where it was seen, by
//! its connection or the address behind a translator that its REGISTER or its INVITE came from, and nobody but us can
//! reach it. Every other dialog goes from end to end, or through the proxies that named themselves. Behind a core
//! nothing is recorded: the core does it.
//!
//! An INVITE to which nobody says more than 100 within `limits.max_relay_invite_milliseconds` gets 408, before a core that
//! gave it here goes on without an answer. What rings has Timer C. A MESSAGE that only passes by has no such time:
//! RFC 4320 §4.2 forbids to answer 408 to it.

use std::time::Duration;

use super::super::openings::{Kind, RETRY_SECONDS};
use super::super::responses::Accepted;
use super::super::session::answers_until;
use super::super::{Now, Shard};
use super::answers::{ASSERTED, hidden_from, hidden_outside};
use super::{Came, Errand, RelayId, Target, Way};
use crate::server::flow;
use crate::server::media::MediaId;
use restante_deferral::model::{Contact, ContactId, Duration as Milliseconds, RecipientKey, Sender, Verification};
use restante_sip::dialog::Dialog;
use restante_sip::message::{Name, SipMessage};
use restante_sip::proxy::{BranchId, OwnRoutes, TakeOver};
use restante_sip::registration::BindingKind;
use restante_sip::transaction::{Flow, ServerTransactionId};

/// How long branches that were cancelled for a take-over have to say so.
const PATIENCE: Duration = Duration::from_millis(500);
/// Answer to a call for somebody who is not there.
const NOT_AVAILABLE: u16 = 480;

impl Shard {
    /// Passes an INVITE on that is not for keeping. `unreadable` is what its body would have been refused with.
    pub(in crate::server::shard) fn relay_call(
        &mut self,
        now: Now,
        transaction: ServerTransactionId,
        message: &SipMessage,
        key: &RecipientKey,
        (sender, came): (&Sender, Flow),
        unreadable: Option<u16>,
    ) {
        let is_vouched_for = sender.verification == Verification::TrustedPeer;
        let passage = match self.passage(message, is_vouched_for) {
            Ok(passage) => passage,
            Err(refusal) => return self.refuse_passage(now, transaction, &refusal),
        };
        let targets = if passage.own.routes.is_empty() {
            self.invite_targets(key, message, sender, came, &[])
        } else {
            match self.way_along_routes(message, &passage.own, Came { flow: came, is_vouched_for }) {
                Ok(way) => vec![(1000, Target::Way(way))],
                Err(status) => return self.answer(now, transaction, status),
            }
        };
        if targets.is_empty() {
            return match unreadable {
                Some(status @ (400 | 415)) => self.refuse_offer(now, transaction, status),
                _ => self.answer(now, transaction, NOT_AVAILABLE),
            };
        }
        let opening = match self.open(Kind::Call, &key.tenant, sender, came) {
            Ok(opening) => opening,
            Err(reason) => return self.refuse(now, transaction, 480, reason, Some(RETRY_SECONDS)),
        };
        if let Some(id) = self.relay(now, transaction, passage, targets, Errand::Pass, None)
            && let Some(relay) = self.relays.get_mut(&id)
        {
            relay.opening = Some(opening);
        }
    }

    /// Passes the INVITE of a large message on; takes it over when nobody takes it in time.
    pub(in crate::server::shard) fn pass_invitation_on(
        &mut self,
        now: Now,
        media: MediaId,
        deadline: Milliseconds,
        contacts: &[ContactId],
    ) {
        let Some(session) = self.media.get(&media) else { return };
        let (Some(transaction), came) = (session.transaction, session.flow) else { return };
        let super::super::session::MediaKind::Incoming { key, sender, .. } = &session.kind else { return };
        let (key, sender) = (key.clone(), sender.clone());
        let Some(message) = self.endpoint.request(transaction).cloned() else { return self.forget_media(media) };
        let targets = self.invite_targets(&key, &message, &sender, came, contacts);
        // It may be kept where it may not be passed on.
        let is_vouched_for = sender.verification == Verification::TrustedPeer;
        let Some(passage) = self.passage(&message, is_vouched_for).ok().filter(|_| !targets.is_empty()) else {
            return self.accept_invitation(now, media);
        };
        let after = Duration::from_millis(deadline.0).min(self.most_without_a_word());
        let take_over = Some(TakeOver { after, patience: PATIENCE });
        if self.relay(now, transaction, passage, targets, Errand::Invitation(media), take_over).is_none() {
            self.accept_invitation(now, media);
        }
    }

    /// Every contact that takes INVITE and that the caller wants, of `named` where that names some; a further flow of a
    /// device after its better one.
    fn invite_targets(
        &self,
        key: &RecipientKey,
        request: &SipMessage,
        sender: &Sender,
        came: Flow,
        named: &[ContactId],
    ) -> Vec<(u16, Target)> {
        let mut contacts = self.contacts_of(key);
        let is_named = |contact: &Contact| named.is_empty() || named.contains(&contact.id);
        contacts.retain(|contact| contact.abilities.large_message_mode && is_named(contact));
        let contacts = self.as_the_caller_wants(key, contacts, request);
        let target = |(index, contact): (usize, &Contact)| {
            let better = contacts.iter().take(index).rposition(|other| other.device == contact.device);
            let target = Target::Contact {
                key: key.clone(),
                contact: contact.id,
                follows: better.map(BranchId),
                is_private: sender.private,
                is_user: sender.verification == Verification::Authenticated,
                record: Some(came),
            };
            (contact.q_permille, target)
        };
        contacts.iter().enumerate().map(target).collect()
    }

    /// Where the Route that is left leads, for whom the tenant trusts.
    fn way_along_routes(&self, message: &SipMessage, own: &OwnRoutes, came: Came) -> Result<Way, u16> {
        if !came.is_vouched_for {
            return Err(403);
        }
        let next =
            own.routes.first().and_then(|route| restante_sip::header::NameAddr::parse(route).ok()).ok_or(400u16)?;
        let way =
            Way { routes: own.routes.clone(), ..Way::plain(self.flow_along(&next.uri, came.flow)?, &own.request_uri) };
        Ok(self.keeping_secrets(message, came.flow, way))
    }

    /// A way to a next hop that may be outside of what we trust (RFC 3325 §5, §7). It is not where a peer that we trust
    /// named itself otherwise than a tenant knows it, and TLS sees to it that it is there.
    pub(in crate::server::shard) fn keeping_secrets(&self, message: &SipMessage, came: Flow, way: Way) -> Way {
        let is_encrypted = flow::protocol_of(way.flow.transport).is_encrypted();
        let is_back = way.flow.remote.ip() == came.remote.ip() && is_encrypted;
        if self.is_trusted(way.flow) || self.is_outbound(way.flow) || (is_back && self.is_trusted(came)) {
            return way;
        }
        let mut hidden = vec![Name::PPreferredIdentity, Name::PPreferredService];
        hidden.extend(hidden_outside(message));
        Way { hidden, is_trusted: false, ..way }
    }

    /// Whether it is the outbound proxy, which is trusted whatever tenants say.
    pub(super) fn is_outbound(&self, flow: Flow) -> bool {
        self.outbound_flow().is_some_and(|core| core.remote == flow.remote)
    }

    /// The way to a contact as it is reached now. A request that a core sent here goes on along its Route where the
    /// contact is that core: the mark in it is what the core goes on by. To begin anew at the core is for requests of
    /// our own.
    pub(super) fn way_to_contact(
        &mut self,
        key: &RecipientKey,
        contact: ContactId,
        (is_private, is_user): (bool, bool),
        record: Option<Flow>,
        relay: RelayId,
    ) -> Option<Way> {
        let route = self.route_to(key, contact)?;
        let relay = self.relays.get(&relay)?;
        if self.is_core(key, contact) && !is_user && !relay.own.routes.is_empty() {
            return self.way_along_routes(&relay.request, &relay.own, relay.came).ok();
        }
        let mut hidden = hidden_from(&route, is_private);
        if is_user {
            hidden.push(Name::Authorization);
            hidden.extend(ASSERTED);
        }
        let record_routes = match record {
            Some(caller) if route.is_where_seen || self.is_caller_hidden(&relay.request, caller) => {
                self.record_routes(&relay.request, &key.tenant, caller, route.flow)
            }
            _ => Vec::new(),
        };
        // Whoever is not trusted does not choose ways beyond a contact. Deviation: their further Route is left out (RFC
        // 3261 §16.6 step 6 keeps it) and not refused: clients put the name of their outbound proxy there that is not
        // ours.
        let further = relay.own.routes.iter().filter(|_| !is_user).cloned();
        Some(Way {
            flow: route.flow,
            request_uri: route.request_uri,
            routes: route.routes.into_iter().chain(further).collect(),
            record_routes,
            hidden,
            is_device: route.is_device,
            is_where_seen: route.is_where_seen,
            is_trusted: route.is_trusted,
        })
    }

    /// Whether a contact is known by a core's registration.
    fn is_core(&self, key: &RecipientKey, contact: ContactId) -> bool {
        let known = self.registrations.get(key).and_then(|it| it.bindings.iter().find(|it| it.id.0 == contact.0));
        known.is_some_and(|binding| binding.kind == BindingKind::Core)
    }

    /// Whether a caller who came without a proxy can be reached only where it came from: its Contact is no place to
    /// connect to, or another one than that.
    fn is_caller_hidden(&self, invite: &SipMessage, came: Flow) -> bool {
        if self.shared.outbound.is_some() || invite.list(Name::Via).count() > 1 {
            return false;
        }
        let contact = invite.contacts().ok().and_then(|contacts| contacts.into_iter().next());
        let Some(contact) = contact.map(|contact| contact.address.uri.to_string()) else { return false };
        let way = self.direct_flow(&contact, Some(came), false);
        way.is_none_or(|(flow, is_named)| !is_named || flow.remote.ip() != came.remote.ip())
    }

    /// A 2xx that nobody waits for any more: acknowledged, and its dialog ended.
    pub(super) fn let_go(&mut self, now: Now, id: RelayId, branch: BranchId, response: &SipMessage) {
        let branch = self.relays.get(&id).and_then(|relay| relay.branches.get(branch.0));
        let Some((Some(client), Some((invite, flow)))) = branch.map(|it| (it.client, it.sent.clone())) else { return };
        self.purposes.remove(&client);
        self.accepted_order.push_back(client);
        self.accepted.insert(client, Accepted::new(answers_until(now.monotonic), invite, flow));
        let dialog: Option<Dialog> = self.acknowledge(client, response);
        if let Some(dialog) = dialog {
            self.send_bye(now, &dialog, flow, None);
        }
    }
}

impl Way {
    /// Without anything of its own, to a peer.
    pub(in crate::server::shard) fn plain(flow: Flow, request_uri: &str) -> Way {
        Way {
            flow,
            request_uri: request_uri.to_owned(),
            routes: Vec::new(),
            record_routes: Vec::new(),
            hidden: Vec::new(),
            is_device: false,
            is_where_seen: false,
            is_trusted: true,
        }
    }
}
