//! How users show who they are.

use restante_sip::authentication::Algorithm;
use serde::{Deserialize, Serialize};

/// Longest realm, in bytes.
const MAX_REALM_BYTES: usize = 255;

/// `authentication` of a tenant: what is asked of those who do not come from a trusted address.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthenticationMethod {
    /// Nothing: they are refused.
    #[default]
    Trust,
    /// Digest (RFC 8760).
    Digest,
}

/// `[tenants.NAME.digest]`
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Digest {
    /// Whose passwords are asked for; default: the tenant's first domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// A challenge for each, in this order.
    pub algorithms: Vec<DigestAlgorithm>,
}

impl Default for Digest {
    fn default() -> Digest {
        Digest { realm: None, algorithms: vec![DigestAlgorithm(Algorithm::Sha256), DigestAlgorithm(Algorithm::Md5)] }
    }
}

impl Digest {
    /// # Errors
    /// The key, and what was expected.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let is_writable = |realm: &str| !realm.is_empty() && !realm.contains(|character: char| character.is_control());
        if let Some(realm) = self.realm.as_deref().filter(|realm| !is_writable(realm) || realm.len() > MAX_REALM_BYTES)
        {
            return Err(("realm", format!("{realm:?}: expected 1 to {MAX_REALM_BYTES} bytes of text")));
        }
        let is_repeated =
            |(at, known): (usize, &DigestAlgorithm)| self.algorithms.iter().take(at).any(|it| it == known);
        if self.algorithms.is_empty() || self.algorithms.iter().enumerate().any(is_repeated) {
            return Err(("algorithms", "expected at least one algorithm, and each once".to_owned()));
        }
        Ok(())
    }
}

/// An algorithm by its registered name.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct DigestAlgorithm(pub Algorithm);

impl TryFrom<String> for DigestAlgorithm {
    type Error = String;

    fn try_from(text: String) -> Result<DigestAlgorithm, String> {
        let known = Algorithm::ALL.map(|known| format!("{:?}", known.as_str())).join(", ");
        Algorithm::named(Some(&text))
            .map(DigestAlgorithm)
            .ok_or_else(|| format!("{text:?} is no algorithm: expected one of {known}"))
    }
}

impl From<DigestAlgorithm> for String {
    fn from(algorithm: DigestAlgorithm) -> String {
        algorithm.0.as_str().to_owned()
    }
}
