//! The files of TLS while the server runs: read again when they change, or when the operator says so.
//!
//! | the files are | what holds | what is said |
//! |---|---|---|
//! | as they were | that | nothing |
//! | others, and usable | they, for every handshake from now on | a line in the log with the end of the certificate |
//! | not usable, or a key and a certificate that do not fit yet | what held before | why: in the log, in `/health` and as a metric |

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use restante_transport::{Reloaded, Tls, TlsError, TlsStatus};

use crate::watch::{self, Watched};

/// Of a file's mode: whoever is neither its owner nor in its group may read it.
const OTHERS_READ: u32 = 0o004;

/// The certificates of this server.
pub struct Certificates {
    tls: Arc<Tls>,
}

impl Certificates {
    /// Watches the files as long as this is kept. Without inotify they are read again on SIGHUP alone.
    #[must_use]
    pub fn watch(tls: Arc<Tls>) -> Arc<Certificates> {
        let certificates = Arc::new(Certificates { tls });
        certificates.warn_of_open_key();
        if certificates.tls.files().paths().next().is_some()
            && let Err(error) = watch::start("tls-watch", &certificates)
        {
            tracing::warn!(%error, "the files of [tls] are not watched for changes; send SIGHUP after a change");
        }
        certificates
    }

    /// Reads the files now, and says in the log what came of it.
    ///
    /// # Errors
    /// [`TlsError`]: what held before holds.
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        let reloaded = self.tls.reload();
        tell(&self.tls, &reloaded);
        reloaded
    }

    fn warn_of_open_key(&self) {
        let Some(key) = &self.tls.files().key else { return };
        if std::fs::metadata(key).is_ok_and(|it| it.permissions().mode() & OTHERS_READ != 0) {
            tracing::warn!(
                key = %key.display(),
                "the private key is readable by every local user; restrict it (chmod 600)"
            );
        }
    }

    /// What is shown, and how reading it went.
    #[must_use]
    pub fn status(&self) -> TlsStatus {
        self.tls.status()
    }
}

impl Watched for Certificates {
    fn files(&self) -> Vec<PathBuf> {
        self.tls.files().paths().map(PathBuf::from).collect()
    }

    fn changed(&self) {
        let known = self.status().problem;
        let reloaded = self.tls.reload();
        // What was said is not said again because somebody touched a file.
        if reloaded.as_ref().err().map(TlsError::to_string) != known || known.is_none() {
            tell(&self.tls, &reloaded);
        }
    }
}

fn tell(tls: &Tls, reloaded: &Result<Reloaded, TlsError>) {
    match reloaded {
        Ok(Reloaded::Taken) => {
            let certificate = tls.status().certificate;
            let ends = certificate.and_then(|it| it.expires_at_seconds).and_then(time_text).unwrap_or_default();
            tracing::info!(%ends, "the files of [tls] were reloaded");
        }
        Ok(Reloaded::Unchanged) => {}
        Err(error) => {
            tracing::error!(%error, "the changed files of [tls] cannot be used; the previous ones stay in use")
        }
    }
}

/// Seconds since 1970 as a date.
#[must_use]
pub fn time_text(seconds: u64) -> Option<String> {
    Some(jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?.to_string())
}
