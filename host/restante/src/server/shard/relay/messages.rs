//! MESSAGEs that a machine has passed on: the sender gets the device's own answer, or the message is kept.

use restante_deferral::decision::validate;
use restante_deferral::model::{ContactId, Origin, RecipientKey, Sender, Verification};
use restante_deferral::participating_function::{AttemptEnd, AttemptId, ReplyToken};
use restante_sip::proxy::BranchId;

use super::super::delivery::NoAttempt;
use super::super::recipients::Carrier;
use super::super::{Now, Shard, Waiting};
use super::{BranchEnd, Errand, RelayId, Target};

impl Shard {
    /// Passes a MESSAGE on that is not stored.
    pub(in crate::server::shard) fn relay_message(
        &mut self,
        now: Now,
        key: &RecipientKey,
        attempt: AttemptId,
        contacts: &[ContactId],
        reply: ReplyToken,
        sender: &Sender,
    ) -> Result<Option<Carrier>, NoAttempt> {
        let Some(Waiting::Message { transaction, .. }) = self.waiting.get(&reply) else { return Err(NoAttempt::NoWay) };
        let transaction = *transaction;
        let request = self.endpoint.request(transaction).cloned().ok_or(NoAttempt::NoWay)?;
        let is_vouched_for = sender.verification == Verification::TrustedPeer;
        let passage = self.passage(&request, is_vouched_for).map_err(|_| NoAttempt::NoWay)?;
        let mut known = self.contacts_of(key);
        known.retain(|contact| contacts.contains(&contact.id));
        let targets: Vec<(u16, Target)> = self
            .as_the_caller_wants(key, known, &request)
            .into_iter()
            .map(|it| {
                let target = Target::Contact {
                    key: key.clone(),
                    contact: it.id,
                    follows: None,
                    is_private: sender.private,
                    is_user: sender.verification == Verification::Authenticated,
                    record: None,
                };
                (it.q_permille, target)
            })
            .collect();
        if targets.is_empty() {
            return Err(NoAttempt::NoWay);
        }
        let errand = Errand::Attempt { key: key.clone(), attempt };
        let relay = self.relay(now, transaction, passage, targets, errand, None).ok_or(NoAttempt::NoWay)?;
        // Where nothing could be sent its end was not told: the attempt was not known yet.
        if self.is_relaying(relay) { Ok(Some(Carrier::Relay)) } else { Err(NoAttempt::NoWay) }
    }

    /// A device took it.
    pub(super) fn end_attempt_of(&mut self, now: Now, id: RelayId, branch: BranchId) {
        let end = self.relays.get(&id).and_then(|relay| relay.branches.get(branch.0)).and_then(|branch| branch.end);
        if let Some(end) = end {
            self.tell_end_of(now, id, end);
        }
    }

    /// No device took it. A refusal for good is the recipient's only when every device gave one: another one may have been
    /// switched off, or not be asked.
    pub(super) fn end_failed_attempt_of(&mut self, now: Now, id: RelayId, best: u16) {
        let Some(relay) = self.relays.get(&id) else { return };
        let ends: Vec<BranchEnd> = relay.branches.iter().filter_map(|branch| branch.end).collect();
        let is_permanent = |end: &&BranchEnd| validate::is_permanent(end.origin, true, end.status);
        let passing = ends.iter().filter(|end| !is_permanent(end));
        let first_passing = passing.min_by_key(|end| (end.status.is_none(), end.status));
        // A 6xx keeps the devices of less q from being asked: what they would have said is not known.
        let is_any_unasked = relay.branches.iter().any(|branch| branch.end.is_none());
        let chosen = ends.iter().find(|end| end.status == Some(best) && first_passing.is_none() && !is_any_unasked);
        let nothing = BranchEnd { status: None, origin: Origin::Transport, retry_after_seconds: None };
        let end = first_passing.or(chosen).copied().unwrap_or(nothing);
        self.tell_end_of(now, id, end);
    }

    fn tell_end_of(&mut self, now: Now, id: RelayId, end: BranchEnd) {
        let Some(relay) = self.relays.get(&id) else { return };
        let Errand::Attempt { key, attempt } = relay.errand.clone() else { return };
        let BranchEnd { status, origin, retry_after_seconds } = end;
        if !self.slots.get(&key).is_some_and(|slot| slot.attempts.contains_key(&attempt)) {
            return;
        }
        let end = AttemptEnd { status, origin, retry_after_seconds, is_ours: false, outcomes: Vec::new() };
        self.attempt_ended(now, &key, attempt, end);
    }
}
