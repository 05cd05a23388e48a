//! What the operator configures: one TOML file, every key with a default.
//!
//! Unknown keys and values that cannot be are errors with line and column: each value is parsed into the type that the
//! server uses while the file is read, so that the place is known.

mod address;
mod authentication;
mod check;
mod limits;
mod msrp_relay;
mod number;
mod source;
mod tables;
mod tenant;
mod tenant_limits;
#[cfg(test)]
mod tests;
mod tls;
mod trust;
mod warnings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

pub use address::{AddressRange, HostPort, ListenAddress, NextHop, Protocol, Target};
pub use authentication::{AuthenticationMethod, Digest, DigestAlgorithm, DigestQuality};
pub(crate) use check::{Wrong, check_claims, wrong};
pub use limits::Limits;
pub use msrp_relay::{MsrpRelay, RelayUri};
pub use source::Source;
pub use tables::{Admin, Log, LogFormat, Msrp, MsrpOffer, Sip};
pub use tenant::{RegistrationEvents, Tenant};
pub use tenant_limits::{TenantBounds, TenantLimits};
pub use tls::{AskedCertificates, Tls};
pub use trust::TrustedPeer;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {reason}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The file does not say what it should; line and column are in the message.
    #[error("{path}: {reason}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        reason: Box<toml::de::Error>,
    },
    /// The parts do not fit together.
    #[error("{place}: {text}")]
    Inconsistent {
        /// File, line and column.
        place: String,
        /// What is wrong and what was expected.
        text: String,
    },
}

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Configuration {
    /// Directory of everything that survives.
    pub data: PathBuf,
    /// SIP.
    pub sip: Sip,
    /// MSRP.
    pub msrp: Msrp,
    /// Encryption.
    pub tls: Tls,
    /// Administration.
    pub admin: Admin,
    /// Logging.
    pub log: Log,
    /// Bounds of the whole server.
    pub limits: Limits,
    /// Tenants by name.
    pub tenants: BTreeMap<String, Tenant>,
    /// Where this was read from.
    #[serde(skip)]
    pub source: Source,
}

impl Default for Configuration {
    fn default() -> Self {
        Configuration {
            data: PathBuf::from("restante-data"),
            sip: Sip::default(),
            msrp: Msrp::default(),
            tls: Tls::default(),
            admin: Admin::default(),
            log: Log::default(),
            limits: Limits::default(),
            tenants: BTreeMap::from([("example".to_owned(), Tenant::example())]),
            source: Source::default(),
        }
    }
}

impl Configuration {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigurationError`]: the message names the place and what was expected.
    pub fn read(path: &Path) -> Result<Configuration, ConfigurationError> {
        let text = std::fs::read_to_string(path)
            .map_err(|reason| ConfigurationError::Unreadable { path: path.to_owned(), reason })?;
        Configuration::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Configuration, ConfigurationError> {
        let mut configuration: Configuration = toml::from_str(text)
            .map_err(|error| ConfigurationError::Invalid { path: path.to_owned(), reason: Box::new(error) })?;
        configuration.source = Source::new(path, text);
        configuration.check().map_err(|Wrong { keys, text }| {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            ConfigurationError::Inconsistent { place: configuration.source.place(&keys), text }
        })?;
        Ok(configuration)
    }

    /// The tables that another configuration has otherwise and that take effect only when the server is started again.
    #[must_use]
    pub fn fixed_tables_changed(&self, other: &Configuration) -> Vec<&'static str> {
        let tables = [
            ("data", self.data != other.data),
            ("[sip]", self.sip != other.sip),
            ("[msrp]", self.msrp != other.msrp),
            ("[tls]", self.tls != other.tls),
            ("[admin]", self.admin != other.admin),
            ("[log]", self.log != other.log),
            ("[limits]", self.limits != other.limits),
        ];
        tables.into_iter().filter_map(|(table, is_changed)| is_changed.then_some(table)).collect()
    }
}
