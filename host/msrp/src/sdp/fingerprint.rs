//! `a=fingerprint` (RFC 8122 §5): which certificate the writer shows.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256, Sha384, Sha512};

use super::SdpError;

/// Longest digest that is read, in bytes.
const MAX_DIGEST_BYTES: usize = 64;

/// What was hashed with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HashFunction {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// One that nothing is believed by: unknown, or broken (MD5, SHA-1). In lower case.
    Other(String),
}

/// A hash of a certificate in DER.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// With what.
    pub hash: HashFunction,
    /// The digest.
    pub digest: Vec<u8>,
}

impl Fingerprint {
    /// Of a certificate in DER, with SHA-256.
    #[must_use]
    pub fn sha256(certificate: &[u8]) -> Fingerprint {
        Fingerprint { hash: HashFunction::Sha256, digest: Sha256::digest(certificate).to_vec() }
    }

    /// Whether it is this certificate's.
    #[must_use]
    pub fn matches(&self, certificate: &[u8]) -> bool {
        match &self.hash {
            HashFunction::Sha256 => self.digest == Sha256::digest(certificate).as_slice(),
            HashFunction::Sha384 => self.digest == Sha384::digest(certificate).as_slice(),
            HashFunction::Sha512 => self.digest == Sha512::digest(certificate).as_slice(),
            HashFunction::Other(_) => false,
        }
    }
}

impl HashFunction {
    fn named(name: &str) -> HashFunction {
        match name.to_ascii_lowercase() {
            name if name == "sha-256" => HashFunction::Sha256,
            name if name == "sha-384" => HashFunction::Sha384,
            name if name == "sha-512" => HashFunction::Sha512,
            name => HashFunction::Other(name),
        }
    }

    fn name(&self) -> &str {
        match self {
            HashFunction::Sha256 => "sha-256",
            HashFunction::Sha384 => "sha-384",
            HashFunction::Sha512 => "sha-512",
            HashFunction::Other(name) => name,
        }
    }

    fn digest_bytes(&self) -> Option<usize> {
        match self {
            HashFunction::Sha256 => Some(32),
            HashFunction::Sha384 => Some(48),
            HashFunction::Sha512 => Some(64),
            HashFunction::Other(_) => None,
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ", self.hash.name())?;
        for (index, byte) in self.digest.iter().enumerate() {
            write!(formatter, "{}{byte:02X}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl FromStr for Fingerprint {
    type Err = SdpError;

    fn from_str(text: &str) -> Result<Fingerprint, SdpError> {
        let malformed = || SdpError::Attribute("fingerprint");
        let (name, digest) = text.trim().split_once(' ').ok_or_else(malformed)?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(malformed());
        }
        let byte = |pair: &str| {
            let is_pair = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_pair.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        };
        let digest: Option<Vec<u8>> = digest.trim().split(':').map(byte).take(MAX_DIGEST_BYTES + 1).collect();
        let (hash, digest) = (HashFunction::named(name), digest.ok_or_else(malformed)?);
        let fits = hash.digest_bytes().unwrap_or(digest.len()) == digest.len() && digest.len() <= MAX_DIGEST_BYTES;
        if fits { Ok(Fingerprint { hash, digest }) } else { Err(malformed()) }
    }
}
