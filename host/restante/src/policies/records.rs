//! Recording a tenant's decisions, and what was recorded.

use std::sync::Arc;

use restante_deferral::model::TenantName;
use restante_policy::record::{Pseudonymiser, RecordSource};

use super::activation::NotActivated;
use super::library::Recording;
use super::recording::{self, FileRecorder};
use super::{Current, Policies, PolicyError};

impl Policies {
    /// Records a tenant's decisions from now on; none stops that. What was recorded stays.
    ///
    /// # Errors
    /// [`PolicyError`]: what was recorded before still is.
    pub fn set_recording(&self, tenant: &TenantName, recording: Option<Recording>) -> Result<(), PolicyError> {
        let managed = self.managed(tenant)?;
        let _turn = self.turn(tenant, &managed)?;
        let mut current = managed.current();
        current.state.recording = recording;
        // Whoever asked is told why it cannot begin.
        self.recorder(&current)?;
        self.parts.library.keep_state(&tenant.0, &current.state)?;
        let state = if recording.is_some() { "on" } else { "off" };
        tracing::info!(%tenant, plain_addresses = recording.is_some_and(|it| it.plain_addresses), "recording is {state}");
        self.take_effect(&managed, current, "");
        Ok(())
    }

    /// What was recorded of a tenant, a line each.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn records(&self, tenant: &TenantName) -> Result<recording::Records, PolicyError> {
        self.managed(tenant)?;
        Ok(recording::Records::open(&self.parts.library.records(&tenant.0))?)
    }

    /// Removes what was recorded of a tenant. Recording goes on, if it is on.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn delete_records(&self, tenant: &TenantName) -> Result<(), PolicyError> {
        let managed = self.managed(tenant)?;
        let _turn = self.turn(tenant, &managed)?;
        match managed.current().recorder {
            Some(recorder) => Ok(recorder.delete()?),
            None => Ok(recording::delete(&self.parts.library.records(&tenant.0))?),
        }
    }

    /// What records this tenant's decisions, if they are to be recorded and can be.
    pub(super) fn recorder_or_none(&self, current: &Current) -> Option<Arc<FileRecorder>> {
        self.recorder(current).unwrap_or_else(|error| {
            tracing::error!(tenant = %current.configured.name, %error, "decisions cannot be recorded");
            None
        })
    }

    /// What records this tenant's decisions, if they are to be recorded. It belongs to one generation.
    fn recorder(&self, current: &Current) -> Result<Option<Arc<FileRecorder>>, PolicyError> {
        let Some(settings) = current.state.recording else { return Ok(None) };
        let (tenant, active) = (&current.configured.name, &current.state.active);
        let bytes = self.component_of(&active.digest)?;
        let hidden =
            (!settings.plain_addresses).then(|| Pseudonymiser::for_tenant(&self.parts.pseudonym_secret, tenant));
        let host = &current.configured.abilities;
        let source =
            RecordSource::new(&self.parts.meter, &bytes, &active.settings, host, hidden).map_err(NotActivated::from)?;
        let directory = self.parts.library.records(&tenant.0);
        Ok(Some(Arc::new(FileRecorder::new(source, settings, directory, self.parts.clock.clone())?)))
    }
}
