//! Deliveries that wait until their tenant may have one more in flight, or one more session.
//!
//! An attempt that waits has begun as far as its machine knows: nothing else happens to its messages meanwhile, and no time
//! of the policy's runs. It needs a session first, where it needs one, and then its part of what is in flight, always in
//! this order, so that no two wait for each other.

use restante_deferral::model::{Body, RecipientKey, TenantName};
use restante_deferral::participating_function::{Attempt, AttemptId, AttemptTask};

use super::delivery::{NoAttempt, ids_of};
use super::{Now, Shard};
use crate::server::usage::{Permit, Resource};

/// What an attempt holds of its tenant's shares.
#[derive(Default)]
pub(super) struct Permits {
    pub(super) delivery: Option<Permit>,
    pub(super) session: Option<Permit>,
}

/// An attempt that waits.
pub(super) struct InLine {
    key: RecipientKey,
    attempt: Attempt,
    permits: Permits,
}

impl Shard {
    /// What a new attempt needs; none: it waits in line.
    pub(super) fn permits_for(&mut self, key: &RecipientKey, attempt: Attempt) -> Option<(Attempt, Permits)> {
        self.complete(InLine { key: key.clone(), attempt, permits: Permits::default() })
            .map(|InLine { attempt, permits, .. }| (attempt, permits))
    }

    /// A part of what is in flight, without waiting.
    pub(super) fn permit_now(&self, key: &RecipientKey) -> Result<Option<Permit>, NoAttempt> {
        let Some(tenant) = self.shared.directory.tenant(&key.tenant) else { return Ok(None) };
        match tenant.usage.deliveries.take() {
            Some(permit) => Ok(Some(permit)),
            None => {
                self.shared.metrics.count_tenant_limit(&tenant.name, limit_name(Resource::Deliveries));
                Err(NoAttempt::Busy)
            }
        }
    }

    /// Takes what an attempt still needs, or lets it wait for that.
    fn complete(&mut self, mut waiting: InLine) -> Option<InLine> {
        // What is in flight when its tenant is removed ends like any other.
        let Some(tenant) = self.shared.directory.tenant(&waiting.key.tenant) else { return Some(waiting) };
        let permits = &mut waiting.permits;
        for resource in needs(&waiting.attempt.task) {
            let (share, permit) = match resource {
                Resource::Sessions => (&tenant.usage.sessions, &mut permits.session),
                Resource::Deliveries => (&tenant.usage.deliveries, &mut permits.delivery),
            };
            if permit.is_none() {
                *permit = share.take_or_wait(self.index);
                if permit.is_none() {
                    self.shared.metrics.count_tenant_limit(&tenant.name, limit_name(*resource));
                    let line = self.attempts_in_line.entry((tenant.name.clone(), *resource)).or_default();
                    line.push_back(waiting);
                    return None;
                }
            }
        }
        Some(waiting)
    }

    /// It is this shard's turn. Where nothing waits any more, the permit goes on to whoever is next.
    pub(super) fn granted(&mut self, now: Now, permit: Permit) {
        let (tenant, resource) = (permit.share().tenant().clone(), permit.share().resource());
        let place = (tenant, resource);
        let Some(line) = self.attempts_in_line.get_mut(&place) else { return };
        let first = line.pop_front();
        if line.is_empty() {
            self.attempts_in_line.remove(&place);
        }
        let Some(mut waiting) = first else { return };
        match resource {
            Resource::Sessions => waiting.permits.session = Some(permit),
            Resource::Deliveries => waiting.permits.delivery = Some(permit),
        }
        let Some(InLine { key, attempt, permits }) = self.complete(waiting) else { return };
        if let Err(end) = self.begin_attempt(now, &key, attempt, permits) {
            let (id, end) = *end;
            self.attempt_ended(now, &key, id, end);
        }
    }

    /// Nothing of a tenant that was removed begins any more.
    pub(super) fn end_line(&mut self, now: Now, tenant: &TenantName) {
        for resource in [Resource::Sessions, Resource::Deliveries] {
            for waiting in self.attempts_in_line.remove(&(tenant.clone(), resource)).unwrap_or_default() {
                let InLine { key, attempt, permits } = waiting;
                drop(permits);
                let end = NoAttempt::NoWay.end(&ids_of(&attempt.task));
                self.attempt_ended(now, &key, attempt.id, end);
            }
        }
    }

    /// An attempt that waits is not to begin any more.
    pub(super) fn leave_line(&mut self, key: &RecipientKey, attempt: AttemptId) {
        for resource in [Resource::Sessions, Resource::Deliveries] {
            if let Some(line) = self.attempts_in_line.get_mut(&(key.tenant.clone(), resource)) {
                line.retain(|waiting| waiting.attempt.id != attempt || waiting.key != *key);
            }
        }
    }
}

/// What an attempt needs, in the order in which it is taken. A client's own session counts since its INVITE, and what is
/// passed on never waits.
fn needs(task: &AttemptTask) -> &'static [Resource] {
    match task {
        AttemptTask::Page { .. } | AttemptTask::Notify { .. } => &[Resource::Deliveries],
        AttemptTask::Session { .. } => &[Resource::Sessions, Resource::Deliveries],
        AttemptTask::HandOver { message, .. } if matches!(message.message.body, Body::Spooled { .. }) => {
            &[Resource::Sessions, Resource::Deliveries]
        }
        AttemptTask::HandOver { .. } => &[Resource::Deliveries],
        AttemptTask::Pull { .. } | AttemptTask::Relay { .. } => &[],
    }
}

fn limit_name(resource: Resource) -> &'static str {
    match resource {
        Resource::Sessions => "sessions",
        Resource::Deliveries => "deliveries",
    }
}
