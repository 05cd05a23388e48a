//! Room for bodies while they come: of what their tenant may store.

use std::sync::Arc;

use restante_deferral::model::TenantName;

use crate::server::Shared;
use crate::server::directory::TenantEntry;
use crate::server::usage::{Coming, Stored};

/// Whose room bodies take that come in a session.
pub struct Quota {
    shared: Arc<Shared>,
    tenant: Arc<TenantEntry>,
}

impl Quota {
    /// This tenant's.
    #[must_use]
    pub fn of(shared: Arc<Shared>, tenant: Arc<TenantEntry>) -> Quota {
        Quota { shared, tenant }
    }

    pub(super) fn coming(&self) -> Coming {
        self.tenant.usage.coming()
    }

    /// So much of a body has come. False: there is no room for it.
    pub(super) fn grow(&self, coming: &mut Coming, bytes: u64) -> bool {
        let has_room = coming.grow(self.shared.stored_of(&self.tenant.name), bytes);
        if !has_room {
            self.shared.metrics.count_tenant_limit(&self.tenant.name, "stored");
        }
        has_room
    }
}

impl Shared {
    /// What is stored of a tenant.
    pub fn stored_of(&self, tenant: &TenantName) -> Stored {
        let store = &self.store;
        Stored { messages: store.tenant_totals(tenant), dispositions: store.tenant_dispositions(tenant) }
    }
}
