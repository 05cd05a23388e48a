//! What comes of branches, what goes back to the caller, and what of it nobody outside of those who trust each other
//! sees.

use bytes::Bytes;
use restante_deferral::model::Origin;
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::proxy::{Best, BranchId, Returning};
use restante_sip::writer::WriteError;

use super::super::responses::Silence;
use super::super::route::Route;
use super::super::{Now, Shard};
use super::branches::known_client;
use super::{BranchEnd, Errand, LONGER_THAN_CONTEXT, RelayId};

/// What only a trusted peer may say of identities and services (RFC 3325 §5, RFC 6050 §5), of whom it serves (RFC 5502
/// §6) and of charging (RFC 7315 §4.2, §4.5, §4.6), and what is for us alone.
pub(super) const ASSERTED: [Name; 8] = [
    Name::PAssertedIdentity,
    Name::PAssertedService,
    Name::PPreferredIdentity,
    Name::PPreferredService,
    Name::PServedUser,
    Name::PCalledPartyId,
    Name::PChargingVector,
    Name::PChargingFunctionAddresses,
];
/// What stays among those who trust each other, whoever said it: P-Called-Party-ID is for the device itself (RFC 7315
/// §4.2).
const NOT_FOR_OUTSIDERS: [Name; 4] =
    [Name::PAssertedService, Name::PServedUser, Name::PChargingVector, Name::PChargingFunctionAddresses];

impl Shard {
    /// A response on a branch.
    pub(in crate::server::shard) fn relay_answered(
        &mut self,
        now: Now,
        id: RelayId,
        branch: BranchId,
        response: &SipMessage,
    ) {
        let status = response.status().unwrap_or(0);
        let Some(relay) = self.relays.get_mut(&id) else { return };
        let known = relay.branches.get(branch.0);
        let (hop, is_device) = known.map_or((None, false), |it| (it.hop, it.is_device));
        let actions = relay.context.answered(now.monotonic, branch, response);
        let client = known_client(relay, branch);
        if let (200.., Some(branch)) = (status, relay.branches.get_mut(branch.0)) {
            branch.status = Some(status);
        }
        if status < 200 {
            if let (Some(client), Some(until)) = (client, relay.context.rings_until(branch)) {
                self.endpoint.ring_until(now.monotonic, client, until + LONGER_THAN_CONTEXT);
            }
        } else if let (Some(hop), Errand::Attempt { .. }) = (hop, &relay.errand) {
            // Who declines calls says nothing of the hop, so that only messages are counted.
            let origin = self.origin(is_device, hop, status, now);
            let retry_after_seconds = response.number(Name::RetryAfter).ok().flatten();
            self.note_end(id, branch, BranchEnd { status: Some(status), origin, retry_after_seconds });
        } else if let (503, Some(hop)) = (status, hop) {
            self.shared.names.note_busy(hop, now.monotonic);
        }
        self.act(now, id, actions, Some(response));
    }

    /// Nothing came on a branch, or it could not be sent.
    pub(in crate::server::shard) fn relay_silent(&mut self, now: Now, id: RelayId, branch: BranchId, silence: Silence) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        // Who was cancelled before it said anything may be there.
        let known = relay.branches.get(branch.0).filter(|branch| !branch.is_cancelled);
        if let Some(hop) = known.and_then(|branch| branch.hop) {
            self.shared.names.note_failure(hop, now.monotonic);
        }
        let (origin, actions) = match silence {
            Silence::TimedOut => (Origin::Timeout, relay.context.timed_out(now.monotonic, branch)),
            Silence::NotSent => (Origin::Transport, relay.context.not_sent(now.monotonic, branch)),
        };
        self.note_end(id, branch, BranchEnd { status: None, origin, retry_after_seconds: None });
        self.act(now, id, actions, None);
    }

    /// 1xx and 2xx go back as they came (RFC 3261 §16.7 steps 4 to 10).
    pub(super) fn pass_back(&mut self, now: Now, id: RelayId, branch: BranchId, response: &SipMessage) {
        let Some(relay) = self.relays.get(&id) else { return };
        let status = response.status().unwrap_or(0);
        let (server, is_invite, errand) = (relay.server, relay.method == Method::Invite, relay.errand.clone());
        if let Errand::Attempt { .. } = errand {
            return self.end_attempt_of(now, id, branch);
        }
        if let (200.., Errand::Invitation(media)) = (status, errand) {
            self.forget_media(media);
        }
        let Ok(bytes) = self.returning(id, branch, response, None) else { return };
        match status {
            ..200 => {
                let until = now.monotonic + self.timer_c() + LONGER_THAN_CONTEXT;
                self.endpoint.answer_until(now.monotonic, server, until);
                self.endpoint.respond(now.monotonic, server, status, bytes);
            }
            _ if is_invite => self.endpoint.pass_success(now.monotonic, server, bytes),
            _ => self.endpoint.respond(now.monotonic, server, status, bytes),
        }
    }

    pub(super) fn finish_relay(&mut self, now: Now, id: RelayId, best: &Best) {
        let Some(relay) = self.relays.get(&id) else { return };
        let server = relay.server;
        // Whose it was is not told: the answer of a device says nothing of identities, one of a peer may.
        let branch = BranchId(relay.branches.iter().position(|branch| !branch.is_trusted).unwrap_or(0));
        match relay.errand.clone() {
            Errand::Attempt { .. } => return self.end_failed_attempt_of(now, id, best.status),
            Errand::Invitation(media) => self.forget_media(media),
            Errand::Pass => {}
        }
        match best.response.as_ref().map(|response| self.returning(id, branch, response, Some(best))) {
            Some(Ok(bytes)) => self.endpoint.respond(now.monotonic, server, best.status, bytes),
            _ => self.answer(now, server, best.status),
        }
    }

    /// Nobody took a large message, and nobody will: it comes here.
    pub(super) fn take_over(&mut self, now: Now, id: RelayId) {
        let errand = self.relays.get(&id).map(|relay| relay.errand.clone());
        if let Some(Errand::Invitation(media)) = errand {
            self.shared.metrics.take_overs.inc();
            self.accept_invitation(now, media);
        }
    }

    /// A response as it goes back.
    pub(super) fn returning(
        &self,
        id: RelayId,
        branch: BranchId,
        response: &SipMessage,
        best: Option<&Best>,
    ) -> Result<Bytes, WriteError> {
        let relay = self.relays.get(&id).ok_or(WriteError::Missing)?;
        let (is_trusted, ours) = match relay.branches.get(branch.0) {
            Some(branch) => (branch.is_trusted, branch.record_routes.as_slice()),
            None => (false, &[][..]),
        };
        let received = relay.request.list(Name::Via).skip(1).map(restante_sip::message::unfold);
        let vias: Vec<String> = std::iter::once(relay.stamped.clone()).chain(received).collect();
        let earlier = relay.request.list(Name::RecordRoute).filter(|_| !ours.is_empty());
        let ours = ours.iter().rev().map(|uri| format!("<{uri}>"));
        let record_routes: Vec<String> = ours.chain(earlier.map(restante_sip::message::unfold)).collect();
        let mut hidden = if is_trusted { Vec::new() } else { ASSERTED.to_vec() };
        if !relay.came.is_vouched_for && !self.is_outbound(relay.came.flow) {
            hidden.extend(hidden_outside(response));
        }
        Returning { best, vias: &vias, record_routes: &record_routes, hidden: &hidden }.write(response)
    }
}

/// What nobody outside of those who trust each other sees of a request or an answer (RFC 3325 §5, §7, RFC 7315 §6).
pub(super) fn hidden_outside(message: &SipMessage) -> Vec<Name> {
    let mut hidden = NOT_FOR_OUTSIDERS.to_vec();
    if message.asks_privacy("id") {
        hidden.extend([Name::PAssertedIdentity, Name::ReferredBy]);
    }
    hidden
}

/// What a contact may not see of who called (RFC 3325 §5 to §7, §9.2): what is preferred is for us alone; who is not
/// trusted learns neither the service, nor who asked not to be named.
pub(in crate::server::shard) fn hidden_from(route: &Route, is_private: bool) -> Vec<Name> {
    let mut hidden = vec![Name::PPreferredIdentity, Name::PPreferredService];
    if !route.is_trusted {
        hidden.extend(NOT_FOR_OUTSIDERS);
        if is_private {
            hidden.extend([Name::PAssertedIdentity, Name::ReferredBy]);
        }
    }
    hidden
}
