//! Tenants that are added, changed and removed while the server runs.
//!
//! A tenant that was removed is served no more: the directory does not know it, so its users' requests find nobody. What is
//! stored stays. Its machines learn that their recipients are nowhere: what is in flight ends as ever, nothing new begins,
//! and a machine that is idle is put away. Registrations stay too, in memory and in the store; they end in their time. When
//! the tenant comes back, those of its users who have messages are looked at again: who is registered at once, the others
//! by their alarms, which were put off meanwhile ([`crate::server::scheduler`]).

use std::collections::HashSet;

use restante_deferral::commit::{Change, Transaction};
use restante_deferral::decision::Trigger;
use restante_deferral::model::{RecipientKey, TenantName};

use super::{Now, Order, Shard};

impl Shard {
    pub(super) fn tenants_changed(&mut self, now: Now, names: &HashSet<TenantName>) {
        let in_memory: Vec<RecipientKey> =
            self.slots.keys().filter(|key| names.contains(&key.tenant)).cloned().collect();
        for key in in_memory {
            let tenant = self.shared.directory.tenant(&key.tenant);
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            let Some(tenant) = tenant else {
                slot.is_leaving = true;
                self.contacts_changed(now, &key, None);
                self.leave_if_idle(now, &key);
                continue;
            };
            slot.machine.set_limits(tenant.deferral.clone());
            let was_removed = std::mem::take(&mut slot.is_leaving);
            if self.shared.directory.owner_of(&key).is_some() {
                self.release(now, &key);
            } else {
                self.contacts_changed(now, &key, was_removed.then_some(Trigger::Operator));
            }
        }
        for name in names {
            if !self.shared.directory.serves(name) {
                self.end_line(now, name);
            }
        }
        let registered: Vec<RecipientKey> =
            self.registrations.keys().filter(|key| names.contains(&key.tenant)).cloned().collect();
        registered.iter().for_each(|key| self.watch(now, key));
        for key in self.subscribed_users(names) {
            if !self.shared.directory.serves(&key.tenant) {
                self.deactivate_subscriptions_of(now, &key);
            }
        }
    }

    /// Messages wait for these, and the tenant was away: whoever is registered gets them now. Something may be due for the
    /// others, too: their targets may take it, or its time may be up.
    pub(super) fn served_again(&mut self, now: Now, recipients: Vec<RecipientKey>) {
        recipients.iter().for_each(|key| self.watch_waiting(now, key));
        let (reachable, others): (Vec<_>, Vec<_>) =
            recipients.into_iter().partition(|key| !self.contacts_of(key).is_empty());
        reachable.iter().for_each(|key| self.contacts_changed(now, key, Some(Trigger::Operator)));
        if others.is_empty() {
            return;
        }
        let wake_at = |recipient| Change::WakeAt { recipient, at: Some(now.wall) };
        let transaction = Transaction { changes: others.into_iter().map(wake_at).collect(), settles: true };
        let ticket = self.ticket();
        self.orders.insert(ticket.token, Order::Ignored);
        if let Err(error) = self.shared.store.write(ticket, transaction) {
            self.orders.remove(&ticket.token);
            tracing::warn!(%error, "work that is due for users of a tenant that came back is delayed");
        }
    }
}
