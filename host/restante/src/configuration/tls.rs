//! `[tls]`: what is shown and believed on encrypted connections.

use std::path::PathBuf;
use std::time::Duration;

use restante_transport::{ClientCertificates, TlsFiles};
use serde::Deserialize;

use super::{ListenAddress, Wrong, wrong};

/// `[tls]`
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Our certificate, with the chain behind it.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Who signs those that we connect to; default: whom the system believes.
    pub authorities: Option<PathBuf>,
    /// Who signs those that connect to us.
    pub client_authorities: Option<PathBuf>,
    /// What is asked of those that connect to us.
    pub client_certificates: AskedCertificates,
}

/// What is asked of peers that connect.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AskedCertificates {
    /// Nothing.
    #[default]
    None,
    /// A certificate, if there is one.
    Request,
    /// A certificate.
    Require,
}

impl Tls {
    /// The files, for the transport; a session that is being set up may take so long.
    #[must_use]
    pub fn files(&self, session_setup: Duration) -> TlsFiles {
        TlsFiles {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            authorities: self.authorities.clone(),
            client_authorities: self.client_authorities.clone(),
            client_certificates: match self.client_certificates {
                AskedCertificates::None => ClientCertificates::None,
                AskedCertificates::Request => ClientCertificates::Request,
                AskedCertificates::Require => ClientCertificates::Require,
            },
            replaced_media_for: session_setup,
        }
    }

    /// Whether the values can be, with these listeners. What the files hold is looked at when they are read.
    pub(super) fn check(&self, table: &str, listeners: &[ListenAddress]) -> Result<(), Wrong> {
        let (certificate, key) = (self.certificate.is_some(), self.key.is_some());
        if certificate != key {
            let (there, missing) = if certificate { ("certificate", "key") } else { ("key", "certificate") };
            return Err(wrong(&["tls", there], format!("tls.{there} needs tls.{missing}, too")));
        }
        let asks = self.client_certificates != AskedCertificates::None;
        if asks && self.client_authorities.is_none() {
            let text =
                "tls.client_certificates needs tls.client_authorities, the file with the authorities that sign them";
            return Err(wrong(&["tls", "client_certificates"], text));
        }
        if !asks && self.client_authorities.is_some() {
            let text = "tls.client_authorities: clients are not asked for a certificate: expected \
                        tls.client_certificates = \"request\" or \"require\"";
            return Err(wrong(&["tls", "client_authorities"], text));
        }
        match listeners.iter().find(|listen| listen.protocol.is_encrypted()) {
            Some(listen) if !certificate => {
                let text = format!("{table}.listen: {listen} needs tls.certificate and tls.key");
                Err(wrong(&[table, "listen"], text))
            }
            _ => Ok(()),
        }
    }
}
