//! How users show who they are.

use restante_sip::authentication::{Algorithm, QualityOfProtection, Variant};
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
    /// What the hash may be over: one of them is needed.
    pub qop: Vec<DigestQuality>,
    /// A username may come as its hash, and challenges say so.
    pub userhash: bool,
    /// Answers to who authenticated show that the password is known here too, and renew a nonce before it is too old.
    pub authentication_info: bool,
}

impl Default for Digest {
    fn default() -> Digest {
        Digest {
            realm: None,
            algorithms: vec![DigestAlgorithm(Algorithm::Sha256.into()), DigestAlgorithm(Algorithm::Md5.into())],
            qop: vec![DigestQuality(QualityOfProtection::Auth)],
            userhash: false,
            authentication_info: false,
        }
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
        if !is_each_once(&self.algorithms) {
            return Err(("algorithms", "expected at least one algorithm, and each once".to_owned()));
        }
        if !is_each_once(&self.qop) {
            return Err(("qop", "expected \"auth\", \"auth-int\" or both, and each once".to_owned()));
        }
        Ok(())
    }
}

fn is_each_once<T: PartialEq>(values: &[T]) -> bool {
    let is_new = |(at, value): (usize, &T)| !values.iter().take(at).any(|earlier| earlier == value);
    !values.is_empty() && values.iter().enumerate().all(is_new)
}

/// An algorithm by its registered name.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct DigestAlgorithm(pub Variant);

impl TryFrom<String> for DigestAlgorithm {
    type Error = String;

    fn try_from(text: String) -> Result<DigestAlgorithm, String> {
        let known = Algorithm::ALL.map(|known| format!("{:?}", known.as_str())).join(", ");
        Variant::named(Some(&text)).map(DigestAlgorithm).ok_or_else(|| {
            format!("{text:?} is not an algorithm: expected one of {known}, each also with \"-sess\" appended")
        })
    }
}

impl From<DigestAlgorithm> for String {
    fn from(algorithm: DigestAlgorithm) -> String {
        algorithm.0.to_string()
    }
}

/// A value of `qop` by its name.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct DigestQuality(pub QualityOfProtection);

impl TryFrom<String> for DigestQuality {
    type Error = String;

    fn try_from(text: String) -> Result<DigestQuality, String> {
        QualityOfProtection::named(&text)
            .map(DigestQuality)
            .ok_or_else(|| format!("{text:?} is not a quality of protection: expected \"auth\" or \"auth-int\""))
    }
}

impl From<DigestQuality> for String {
    fn from(quality: DigestQuality) -> String {
        quality.0.as_str().to_owned()
    }
}
