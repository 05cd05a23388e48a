//! The branches of what is passed on: begun, sent, cancelled.

use bytes::Bytes;
use restante_sip::proxy::{BranchId, Forwarding};
use restante_sip::transaction::{ClientTransactionId, Flow, Passing, SendError};
use restante_sip::writer::WriteError;

use super::super::responses::{Purpose, Silence};
use super::super::{Now, Shard};
use super::{BranchEnd, LONGER_THAN_CONTEXT, Relay, RelayId, Target, Way};

impl Shard {
    /// A name that a branch waited for was asked about.
    pub(in crate::server::shard) fn branches_resolved(&mut self, now: Now, branches: Vec<(RelayId, BranchId)>) {
        for (id, branch) in branches {
            self.begin_branch(now, id, branch);
        }
    }

    /// A branch could not be sent over TCP, and goes over UDP where it is still wanted.
    pub(in crate::server::shard) fn relay_again(&mut self, now: Now, id: RelayId, branch: BranchId) {
        let known = self.relays.get(&id).filter(|relay| !relay.context.is_over());
        let is_wanted = known.and_then(|relay| relay.branches.get(branch.0)).is_some_and(|branch| !branch.is_cancelled);
        match is_wanted {
            true => self.begin_branch(now, id, branch),
            false => self.relay_silent(now, id, branch, Silence::NotSent),
        }
    }

    pub(super) fn begin_branch(&mut self, now: Now, id: RelayId, branch: BranchId) {
        let Some(relay) = self.relays.get(&id) else { return };
        let Some(target) = relay.branches.get(branch.0).map(|branch| branch.target.clone()) else { return };
        let server = relay.server;
        self.endpoint.answer_until(now.monotonic, server, now.monotonic + self.timer_c() + LONGER_THAN_CONTEXT);
        let way = match target {
            Target::Way(way) => Some(way),
            Target::Contact { follows: Some(first), .. } if self.has_answered(id, first) => {
                return self.relay_silent(now, id, branch, Silence::NotSent);
            }
            Target::Contact { key, contact, is_private, is_user, record, .. } => {
                if self.branch_waits_for_name(now, &key, contact, (id, branch)) {
                    return;
                }
                self.way_to_contact(&key, contact, (is_private, is_user), record, id)
            }
        };
        let sent = way.ok_or(SendError::Busy).and_then(|way| self.send_branch(now, id, &way).map(|sent| (way, sent)));
        match sent {
            Ok((way, (client, flow, bytes))) => {
                self.purposes.insert(client, Purpose::Relayed { relay: id, branch });
                if let Some(branch) = self.relays.get_mut(&id).and_then(|relay| relay.branches.get_mut(branch.0)) {
                    branch.client = Some(client);
                    branch.sent = Some((bytes, flow));
                    branch.hop = Some(way.flow.remote);
                    branch.is_device = way.is_device;
                    branch.is_trusted = way.is_trusted;
                    branch.record_routes = way.record_routes;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a branch cannot be sent");
                self.relay_silent(now, id, branch, Silence::NotSent);
            }
        }
    }

    pub(super) fn cancel_branch(&mut self, now: Now, id: RelayId, branch: BranchId) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        relay.branches.get_mut(branch.0).into_iter().for_each(|branch| branch.is_cancelled = true);
        match known_client(relay, branch) {
            Some(client) => self.endpoint.cancel(now.monotonic, client),
            // It was never sent: its next hop's name is being looked up.
            None => {
                self.forget_waiting_branch(id, branch);
                self.relay_silent(now, id, branch, Silence::TimedOut);
            }
        }
    }

    /// Nothing came on a branch, not even a 100, as long as it was waited for.
    pub(super) fn give_branch_up(&mut self, now: Now, id: RelayId, branch: BranchId) {
        let hop = self.relays.get(&id).and_then(|relay| relay.branches.get(branch.0)).and_then(|branch| branch.hop);
        if let Some(hop) = hop {
            self.shared.names.note_failure(hop, now.monotonic);
        }
        self.cancel_branch(now, id, branch);
    }

    pub(super) fn note_end(&mut self, id: RelayId, branch: BranchId, end: BranchEnd) {
        if let Some(branch) = self.relays.get_mut(&id).and_then(|relay| relay.branches.get_mut(branch.0)) {
            branch.end = Some(end);
        }
    }

    pub(super) fn send_branch(
        &mut self,
        now: Now,
        id: RelayId,
        way: &Way,
    ) -> Result<(ClientTransactionId, Flow, Bytes), SendError> {
        let relay = self.relays.get(&id).ok_or(SendError::Busy)?;
        let (method, mark) = (relay.method.clone(), relay.mark.clone());
        let (request, stamped, max_breadth) = (relay.request.clone(), relay.stamped.clone(), relay.max_breadth);
        let mut bytes = Bytes::new();
        let passing = Passing { mark: &mark, is_by_udp_alone: way.is_where_seen };
        let (client, flow) = self.send_passing(now, &method, way.flow, passing, |via, _| {
            let forwarding = Forwarding {
                via,
                stamped: Some(&stamped),
                request_uri: &way.request_uri,
                routes: &way.routes,
                record_routes: &way.record_routes,
                hidden: &way.hidden,
                max_breadth: Some(max_breadth),
            };
            bytes = forwarding.write(&request)?;
            Ok::<Bytes, WriteError>(bytes.clone())
        })?;
        Ok((client, flow, bytes))
    }

    /// Whether a device itself gave a final answer on this flow, or on one that this one followed: 408, 430 and 503 say that
    /// it was not reached.
    pub(super) fn has_answered(&self, id: RelayId, branch: BranchId) -> bool {
        let Some(relay) = self.relays.get(&id) else { return false };
        let mut next = Some(branch);
        // As many as there are, whatever they say of each other.
        for _ in &relay.branches {
            let Some(branch) = next.and_then(|branch| relay.branches.get(branch.0)) else { return false };
            if branch.status.is_some_and(|status| !matches!(status, 408 | 430 | 503)) {
                return true;
            }
            next = branch.target.follows();
        }
        false
    }
}

pub(super) fn known_client(relay: &Relay, branch: BranchId) -> Option<ClientTransactionId> {
    relay.branches.get(branch.0)?.client
}
