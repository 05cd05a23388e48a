use std::fmt;

use super::parameters::{DIGEST, Parameters, Scheme, ValueWriter, schemes};
use super::{MAX_CHALLENGES, QualityOfProtection, Variant};
use crate::header::HeaderError;

/// A challenge of the scheme Digest: a value of WWW-Authenticate or Proxy-Authenticate (RFC 7616 §3.3). `domain`, `charset`
/// and unknown parameters are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Whose passwords are asked for.
    pub realm: String,
    /// To be repeated in the credentials.
    pub nonce: String,
    /// The same.
    pub opaque: Option<String>,
    /// The nonce before was too old or its count was used; the password may be right.
    pub stale: bool,
    /// How to hash.
    pub algorithm: Variant,
    /// Values of `qop` on offer; none: as in RFC 2069.
    pub quality_of_protection: Vec<String>,
    /// `userhash`: the username may come as its hash.
    pub takes_user_hash: bool,
}

impl Challenge {
    /// The Digest challenges of one value, in order of the server's preference. Those whose scheme or algorithm nobody here
    /// knows are left out, as a client has to (RFC 8760 §2.4).
    ///
    /// # Errors
    /// [`HeaderError::Syntax`], [`HeaderError::Missing`]
    pub fn parse_list(value: &str) -> Result<Vec<Challenge>, HeaderError> {
        let schemes = schemes(value)?;
        if schemes.len() > MAX_CHALLENGES {
            return Err(HeaderError::Syntax);
        }
        let known = schemes.iter().filter(|scheme| scheme.name.eq_ignore_ascii_case(DIGEST));
        known.filter_map(|scheme| Challenge::read(scheme).transpose()).collect()
    }

    /// Whether it can be answered with `qop=auth`.
    #[must_use]
    pub fn offers_auth(&self) -> bool {
        self.offers(QualityOfProtection::Auth)
    }

    /// Whether it can be answered so.
    #[must_use]
    pub fn offers(&self, quality: QualityOfProtection) -> bool {
        self.quality_of_protection.iter().any(|offered| offered.eq_ignore_ascii_case(quality.as_str()))
    }

    fn read(scheme: &Scheme) -> Result<Option<Challenge>, HeaderError> {
        let mut parameters = Parameters::of(scheme)?;
        let Some(algorithm) = Variant::named(parameters.optional("algorithm").as_deref()) else { return Ok(None) };
        let offered = parameters.optional("qop").unwrap_or_default();
        let offered = offered.split(',').map(str::trim).filter(|offered| !offered.is_empty()).map(str::to_owned);
        Ok(Some(Challenge {
            realm: parameters.required("realm")?,
            nonce: parameters.required("nonce")?,
            opaque: parameters.optional("opaque"),
            stale: parameters.is_true("stale"),
            algorithm,
            quality_of_protection: offered.collect(),
            takes_user_hash: parameters.is_true("userhash"),
        }))
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = ValueWriter::new().quoted("realm", &self.realm).quoted("nonce", &self.nonce);
        if let Some(opaque) = &self.opaque {
            writer = writer.quoted("opaque", opaque);
        }
        if self.stale {
            writer = writer.token("stale", "true");
        }
        writer = writer.token("algorithm", &self.algorithm.to_string());
        if !self.quality_of_protection.is_empty() {
            writer = writer.quoted("qop", &self.quality_of_protection.join(","));
        }
        if self.takes_user_hash {
            writer = writer.token("userhash", "true");
        }
        formatter.write_str(&writer.finish())
    }
}
