use std::fmt;

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};
use subtle::ConstantTimeEq;

use super::Protection;
use crate::message::Method;

/// Hash functions (RFC 8760 §2.1). Their `-sess` variants are not offered and not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// Broken for other purposes; what most clients know.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512, cut to 256 bits.
    Sha512Of256,
}

impl Algorithm {
    /// All, weakest first.
    pub const ALL: [Algorithm; 3] = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512Of256];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha512Of256 => "SHA-512-256",
        }
    }

    /// By what is written; nothing is MD5 (RFC 7616 §3.3). None: unknown.
    #[must_use]
    pub fn named(text: Option<&str>) -> Option<Algorithm> {
        let text = text.unwrap_or(Algorithm::Md5.as_str());
        Algorithm::ALL.into_iter().find(|known| text.eq_ignore_ascii_case(known.as_str()))
    }

    /// Bytes of a hash.
    #[must_use]
    pub fn hash_bytes(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha256 | Algorithm::Sha512Of256 => 32,
        }
    }

    /// Of the parts with a colon between them.
    fn hash(self, parts: &[&str]) -> Vec<u8> {
        let text = parts.join(":");
        match self {
            Algorithm::Md5 => Md5::digest(text).to_vec(),
            Algorithm::Sha256 => Sha256::digest(text).to_vec(),
            Algorithm::Sha512Of256 => Sha512_256::digest(text).to_vec(),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// H(A1) of RFC 7616 §3.4.2: the hash of username, realm and password. Whoever has it can authenticate in the realm, so it
/// is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct HashOfA1 {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

impl HashOfA1 {
    /// Of a password.
    #[must_use]
    pub fn new(algorithm: Algorithm, username: &str, realm: &str, password: &str) -> HashOfA1 {
        HashOfA1 { algorithm, bytes: algorithm.hash(&[username, realm, password]) }
    }

    /// Of bytes that were kept; none when they are not as many as the algorithm makes.
    #[must_use]
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<HashOfA1> {
        (bytes.len() == algorithm.hash_bytes()).then(|| HashOfA1 { algorithm, bytes: bytes.to_vec() })
    }

    /// Of hexadecimal digits.
    #[must_use]
    pub fn from_hexadecimal(algorithm: Algorithm, text: &str) -> Option<HashOfA1> {
        HashOfA1::from_bytes(algorithm, &from_hexadecimal(text)?)
    }

    /// How it was made.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// To be kept.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// To be kept, as hexadecimal digits.
    #[must_use]
    pub fn to_hexadecimal(&self) -> String {
        hexadecimal(&self.bytes)
    }
}

impl fmt::Debug for HashOfA1 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "HashOfA1({})", self.algorithm)
    }
}

/// `response` of RFC 7616 §3.4.1, in lower-case hexadecimal digits; without a protection that of RFC 2069. `auth-int` is
/// not computed: it comes out as `auth`, and nobody here accepts or offers it.
#[must_use]
pub fn response(hash: &HashOfA1, method: &Method, uri: &str, nonce: &str, protection: Option<&Protection>) -> String {
    let of_a1 = hash.to_hexadecimal();
    let of_a2 = hexadecimal(&hash.algorithm.hash(&[method.as_str(), uri]));
    hexadecimal(&match protection {
        Some(Protection { quality, cnonce, nonce_count }) => {
            hash.algorithm.hash(&[&of_a1, nonce, nonce_count, cnonce, quality.as_str(), &of_a2])
        }
        None => hash.algorithm.hash(&[&of_a1, nonce, &of_a2]),
    })
}

/// Whether a response is the expected one, in a time that does not tell where it differs.
#[must_use]
pub fn is_response(expected: &str, given: &str) -> bool {
    expected.as_bytes().ct_eq(given.to_ascii_lowercase().as_bytes()).into()
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |text, byte| text + &format!("{byte:02x}"))
}

pub(super) fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}
