use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};
use subtle::ConstantTimeEq;

use super::{Protection, QualityOfProtection};

/// What the name of an algorithm ends with whose H(A1) is of one session.
const SESSION: &str = "-sess";

/// Hash functions (RFC 8760 §2.1).
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
        self.hash_bytes_of(parts.join(":").as_bytes())
    }

    fn hash_bytes_of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Algorithm::Md5 => Md5::digest(bytes).to_vec(),
            Algorithm::Sha256 => Sha256::digest(bytes).to_vec(),
            Algorithm::Sha512Of256 => Sha512_256::digest(bytes).to_vec(),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A value of the parameter `algorithm` (RFC 7616 §3.3): a hash function, as it is or for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Variant {
    /// The hash function.
    pub algorithm: Algorithm,
    /// `-sess`: H(A1) is bound to the nonces of both sides.
    pub is_session: bool,
}

impl Variant {
    /// By what is written; nothing is MD5 (RFC 7616 §3.3). None: unknown.
    #[must_use]
    pub fn named(text: Option<&str>) -> Option<Variant> {
        let text = text.unwrap_or(Algorithm::Md5.as_str());
        let at = text.len().checked_sub(SESSION.len());
        let parts = at.and_then(|at| text.split_at_checked(at));
        match parts.filter(|(_, end)| end.eq_ignore_ascii_case(SESSION)) {
            Some((name, _)) => Algorithm::named(Some(name)).map(|algorithm| Variant { algorithm, is_session: true }),
            None => Algorithm::named(Some(text)).map(Variant::from),
        }
    }
}

impl From<Algorithm> for Variant {
    fn from(algorithm: Algorithm) -> Variant {
        Variant { algorithm, is_session: false }
    }
}

impl PartialEq<Algorithm> for Variant {
    fn eq(&self, algorithm: &Algorithm) -> bool {
        *self == Variant::from(*algorithm)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.algorithm, if self.is_session { SESSION } else { "" })
    }
}

/// What a client that was told `userhash` calls a user (RFC 7616 §3.4.4): who looks on learns no name.
#[must_use]
pub fn user_hash(algorithm: Algorithm, username: &str, realm: &str) -> String {
    hexadecimal(&algorithm.hash(&[username, realm]))
}

/// H(A1) of RFC 7616 §3.4.2: the hash of username, realm and password. Whoever has it can authenticate in the realm, so
/// it is never shown.
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

/// What is hashed together with H(A1).
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The request's method; empty for what a server shows in Authentication-Info (RFC 7616 §3.5).
    pub method: &'a str,
    /// The URI that the credentials name.
    pub uri: &'a str,
    /// The nonce.
    pub nonce: &'a str,
    /// Whether the algorithm is a `-sess` one.
    pub is_session: bool,
    /// The body, for `auth-int`.
    pub body: &'a [u8],
}

/// `response` of RFC 7616 §3.4.1, and `rspauth` of §3.5, in lower-case hexadecimal digits; without a protection that of
/// RFC 2069.
///
/// Deviation: of a session, the client's nonce in A1 is that of the same credentials, and not that of the first after
/// the challenge (RFC 7616 §3.4.2), so that no server has to remember it. For a client that keeps its nonce for the
/// session, as ours does, it is the same.
#[must_use]
pub fn response(hash: &HashOfA1, subject: &Subject<'_>, protection: Option<&Protection>) -> String {
    let Subject { method, uri, nonce, is_session, body } = subject;
    let algorithm = hash.algorithm;
    let of_a1 = match protection.filter(|_| *is_session) {
        Some(Protection { cnonce, .. }) => hexadecimal(&algorithm.hash(&[&hash.to_hexadecimal(), nonce, cnonce])),
        None => hash.to_hexadecimal(),
    };
    let protects_body = protection.is_some_and(|it| it.quality == QualityOfProtection::AuthInt);
    let of_body = protects_body.then(|| hexadecimal(&algorithm.hash_bytes_of(body)));
    let of_a2 = hexadecimal(&match &of_body {
        Some(of_body) => algorithm.hash(&[method, uri, of_body]),
        None => algorithm.hash(&[method, uri]),
    });
    hexadecimal(&match protection {
        Some(Protection { quality, cnonce, nonce_count }) => {
            algorithm.hash(&[&of_a1, nonce, nonce_count, cnonce, quality.as_str(), &of_a2])
        }
        None => algorithm.hash(&[&of_a1, nonce, &of_a2]),
    })
}

/// Whether a response is the expected one, in a time that does not tell where it differs.
#[must_use]
pub fn is_response(expected: &str, given: &str) -> bool {
    expected.as_bytes().ct_eq(given.to_ascii_lowercase().as_bytes()).into()
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

pub(super) fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()
}
