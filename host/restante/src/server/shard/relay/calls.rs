//! INVITEs that are passed on (RFC 3261 §16), and what is taken over.
//!
//! Whether a Record-Route of ours goes into an INVITE: only where a contact is reached where it was seen, by the connection
//! or the address behind a translator that its REGISTER came from, and nobody but us can reach it. Every other dialog goes
//! from end to end, or through the proxies that named themselves. Behind a core nothing is recorded: the core does it.

use std::time::Duration;

use restante_deferral::model::{ContactId, Duration as Milliseconds, RecipientKey, Sender, Verification};
use restante_sip::dialog::Dialog;
use restante_sip::message::{Name, SipMessage};
use restante_sip::proxy::{BranchId, TakeOver};
use restante_sip::transaction::{Flow, ServerTransactionId};
use restante_sip::uri::Uri;

use super::super::responses::Accepted;
use super::super::session::answers_until;
use super::super::{Now, Shard};
use super::{Errand, RelayId, Target, Way};
use crate::server::media::MediaId;

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
        let passage = match self.passage(message) {
            Ok(passage) => passage,
            Err(refusal) => return self.refuse_passage(now, transaction, &refusal),
        };
        let targets = if passage.own.routes.is_empty() {
            self.invite_targets(key, sender, came)
        } else {
            match self.way_along_routes(message, &passage.own.routes, came) {
                Ok(way) => vec![(1000, Target::Way(way))],
                Err(status) => return self.answer(now, transaction, status),
            }
        };
        if targets.is_empty() {
            return match unreadable {
                Some(415) => self.answer_with(now, transaction, 415, |builder| {
                    builder.field("Accept", super::super::incoming::ACCEPT_OFFER)
                }),
                Some(400) => self.answer(now, transaction, 400),
                _ => self.answer(now, transaction, NOT_AVAILABLE),
            };
        }
        self.relay(now, transaction, passage, targets, Errand::Pass, None);
    }

    /// Passes the INVITE of a large message on; takes it over when nobody takes it in time.
    pub(in crate::server::shard) fn pass_invitation_on(&mut self, now: Now, media: MediaId, deadline: Milliseconds) {
        let Some(session) = self.media.get(&media) else { return };
        let (Some(transaction), came) = (session.transaction, session.flow) else { return };
        let super::super::session::MediaKind::Incoming { key, sender, .. } = &session.kind else { return };
        let (key, sender) = (key.clone(), sender.clone());
        let Some(message) = self.endpoint.request(transaction).cloned() else { return };
        let targets = self.invite_targets(&key, &sender, came);
        // It may be kept where it may not be passed on.
        let Some(passage) = self.passage(&message).ok().filter(|_| !targets.is_empty()) else {
            return self.accept_invitation(now, media);
        };
        let most = Duration::from_millis(self.shared.limits.max_relay_invite_milliseconds);
        let after = Duration::from_millis(deadline.0).min(most);
        let take_over = Some(TakeOver { after, patience: PATIENCE });
        self.relay(now, transaction, passage, targets, Errand::Invitation(media), take_over);
    }

    /// Every contact that takes INVITE.
    fn invite_targets(&self, key: &RecipientKey, sender: &Sender, came: Flow) -> Vec<(u16, Target)> {
        let contacts = self.contacts_of(key).into_iter().filter(|contact| contact.abilities.large_message_mode);
        let target = |contact: ContactId| Target::Contact {
            key: key.clone(),
            contact,
            is_private: sender.private,
            is_user: sender.verification == Verification::Authenticated,
            record: Some(came),
        };
        contacts.map(|contact| (contact.q_permille, target(contact.id))).collect()
    }

    /// Where the Route that is left leads, for whom we trust.
    fn way_along_routes(&self, message: &SipMessage, routes: &[String], came: Flow) -> Result<Way, u16> {
        if !self.is_trusted(came) {
            return Err(403);
        }
        let next = routes.first().and_then(|route| restante_sip::header::NameAddr::parse(route).ok()).ok_or(400u16)?;
        Ok(Way::plain(self.flow_to(&next.uri, came)?, message.request_uri().unwrap_or("")))
    }

    /// The way to a contact as it is reached now.
    pub(super) fn way_to_contact(
        &mut self,
        key: &RecipientKey,
        contact: ContactId,
        (is_private, is_user): (bool, bool),
        record: Option<Flow>,
        relay: RelayId,
    ) -> Option<Way> {
        let route = self.route_to(key, contact)?;
        let mut hidden = Vec::new();
        if is_user {
            hidden.extend([Name::Authorization, Name::PAssertedIdentity, Name::PAssertedService]);
        }
        // RFC 3325 §7: who is not trusted does not learn who asked not to be named.
        if is_private && !route.is_trusted && !is_user {
            hidden.push(Name::PAssertedIdentity);
        }
        if !route.is_trusted && !is_user {
            hidden.push(Name::PAssertedService);
        }
        let caller_tag = self.relays.get(&relay).and_then(|relay| relay.request.from().ok()?.tag().map(str::to_owned));
        let record_routes = match (record, caller_tag) {
            (Some(caller), Some(tag)) if route.is_where_seen => self.record_routes(caller, route.flow, &tag),
            _ => Vec::new(),
        };
        Some(Way {
            flow: route.flow,
            request_uri: route.request_uri,
            routes: route.routes,
            record_routes,
            hidden,
            is_device: route.is_device,
        })
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

    /// Whether a URI is one that we put into Record-Route.
    pub(super) fn is_record_route(&self, uri: &Uri) -> bool {
        self.is_ours(uri) && self.pass_of(uri).is_some()
    }
}

impl Way {
    /// Without anything of its own.
    pub(in crate::server::shard) fn plain(flow: Flow, request_uri: &str) -> Way {
        Way {
            flow,
            request_uri: request_uri.to_owned(),
            routes: Vec::new(),
            record_routes: Vec::new(),
            hidden: Vec::new(),
            is_device: false,
        }
    }
}
