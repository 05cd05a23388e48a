//! Notices that a policy's file was replaced.

use std::path::PathBuf;

use super::Policies;
use super::configured::signature_beside;
use crate::watch::Watched;

impl Watched for Policies {
    fn files(&self) -> Vec<PathBuf> {
        self.configured_files().into_iter().flat_map(|(path, _)| [signature_beside(&path), path]).collect()
    }

    fn changed(&self) {
        for (path, tenant) in self.configured_files() {
            match self.file_changed(&tenant) {
                Ok(warnings) => {
                    warnings.iter().for_each(|problem| tracing::warn!(%tenant, "{problem}"));
                }
                Err(error) => {
                    tracing::error!(%tenant, path = %path.display(), %error, "the changed policy is not activated");
                }
            }
        }
    }
}
