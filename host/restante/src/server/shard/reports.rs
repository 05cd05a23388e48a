//! Room for the reports that machines make for senders.
//!
//! A report counts toward what its tenant may store as any disposition does. One that says that a message failed takes
//! that message's place. One for which there is no room is left out, and counted: the message that it is about is
//! stored, or goes, all the same, and no sender keeps a queue from being settled. On a full disk there is room for none
//! that would go with a removal: what is removed makes room, which a report that cannot be stored would keep it from.

use restante_deferral::commit::{Applied, Change, ReportMade, Transaction};
use restante_deferral::model::{MessageKind, RecipientKey, TenantName};

use super::Shard;
use crate::server::usage::{Room, Stored};

/// The room that the reports of one transaction have, and those that found none.
#[derive(Default)]
pub(super) struct ReportRoom {
    /// Held until the store counts them.
    held: Vec<Room>,
    /// The changes that they were, in order.
    left_out: Vec<usize>,
}

impl ReportRoom {
    /// What became of each change, those included that were left out.
    pub(super) fn applied(self, mut applied: Vec<Applied>) -> Vec<Applied> {
        for change in self.left_out {
            applied.insert(change.min(applied.len()), Applied::Done);
        }
        applied
    }
}

impl Shard {
    /// Leaves reports out of a transaction for which their tenant has no room.
    pub(super) fn make_room_for_reports(
        &self,
        key: &RecipientKey,
        transaction: &mut Transaction,
        made: &[ReportMade],
    ) -> ReportRoom {
        let mut room = ReportRoom::default();
        if made.is_empty() {
            return room;
        }
        let tenant = self.shared.directory.tenant(&key.tenant);
        let stored = self.stored_of(&key.tenant);
        let is_full = self.shared.store.is_full();
        for report in made {
            let Some(Change::Insert(message)) = transaction.changes.get(report.change) else { continue };
            let bytes = message.body.size_bytes();
            let found = match (&tenant, report.replaced_bytes) {
                (_, Some(_)) if is_full => None,
                (Some(tenant), Some(replaced)) => tenant.usage.replace(stored, bytes, replaced),
                (Some(tenant), None) => tenant.usage.reserve(stored, MessageKind::Disposition, bytes),
                // What is settled of a tenant that was removed meanwhile is reported still.
                (None, _) => continue,
            };
            match found {
                Some(found) => room.held.push(found),
                None => {
                    self.shared.metrics.count_tenant_limit(&key.tenant, "reports");
                    room.left_out.push(report.change);
                }
            }
        }
        for change in room.left_out.iter().rev() {
            transaction.changes.remove(*change);
        }
        transaction.settles |= !transaction.changes.iter().any(|change| matches!(change, Change::Insert(_)));
        room
    }

    /// What is stored of a tenant.
    pub(super) fn stored_of(&self, tenant: &TenantName) -> Stored {
        self.shared.stored_of(tenant)
    }
}

#[cfg(test)]
mod tests {
    use restante_deferral::model::MessageId;

    use super::*;

    #[test]
    fn what_was_left_out_is_done_and_the_others_keep_their_places() {
        let inserted = |number| Applied::Inserted(MessageId(number));
        let room = ReportRoom { held: Vec::new(), left_out: vec![0, 2] };
        let applied = room.applied(vec![inserted(1), inserted(3), inserted(4)]);
        assert_eq!(applied, [Applied::Done, inserted(1), Applied::Done, inserted(3), inserted(4)]);
    }
}
