//! What becomes of a tenant's policy when the tenant goes.
//!
//! What decided is kept for its return, under its name: that is what decides when a tenant of this name comes back. Who looked
//! on does not come back by itself: whoever has the name then may be somebody else, who knows of no record.

use std::io;

use restante_deferral::model::TenantName;

use super::{Managed, Policies};

impl Policies {
    /// A tenant is gone. What decided stays on disk, for its return, and so do its cases and what was recorded; the candidate
    /// goes, and nothing is recorded any more.
    pub fn remove(&self, tenant: &TenantName) {
        let managed = self.lock().remove(tenant);
        // Whoever is changing it tells what decides of it before.
        let _turn = managed.as_deref().map(Managed::changing);
        self.host.remove(tenant);
        if let Err(error) = self.dismiss_observers(tenant) {
            tracing::error!(%tenant, %error, "cannot remove the candidate and recording of a removed tenant from disk");
        }
    }

    /// Removes everything that is kept of a tenant's policy, where there is no such tenant any more.
    ///
    /// # Errors
    /// The operating system's.
    pub fn forget(&self, tenant: &TenantName) -> io::Result<()> {
        // Components that only this state named are swept with the next upload.
        self.parts.library.forget(&tenant.0)
    }

    fn dismiss_observers(&self, tenant: &TenantName) -> io::Result<()> {
        let Some(mut state) = self.parts.library.state(&tenant.0)? else { return Ok(()) };
        if state.dismiss_observers() { self.parts.library.keep_state(&tenant.0, &state) } else { Ok(()) }
    }
}
