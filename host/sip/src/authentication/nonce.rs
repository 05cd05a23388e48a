use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::digest::{from_hexadecimal, hexadecimal};

/// Bytes of the code that a nonce ends with.
const CODE_BYTES: usize = 16;
/// Bytes of what it is over: three numbers.
const NUMBER_BYTES: usize = 24;
/// Bits of an [`Origin`] that are of the network, and those of the network and the site.
const NETWORK_BITS: u32 = 24;
const SITE_BITS: u32 = 44;

/// What a nonce says. It is issued and forgotten: whoever brings it back brings everything that is to be known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce {
    /// When it was issued, in milliseconds of a clock that is not set back while the key is used: nonces that were used are
    /// forgotten in its order.
    pub issued_at: u64,
    /// To whom.
    pub origin: Origin,
    /// Random: which of those of this moment.
    pub number: u64,
}

/// Who asked for a nonce, without saying it: a keyed hash of the source address, of IPv6 the first 64 bits. A failure is
/// charged to whoever got the nonce, so that a forged source address charges nobody else. It begins with a hash of the
/// address's network, and one of its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(pub u64);

impl Origin {
    /// The network that it is in: of IPv4 the first 16 bits, of IPv6 the first 32.
    #[must_use]
    pub fn network(self) -> u32 {
        u32::try_from(self.0 >> (u64::BITS - NETWORK_BITS)).unwrap_or(u32::MAX)
    }

    /// The site that it is in: of IPv6 the first 48 bits, of IPv4 the address.
    #[must_use]
    pub fn site(self) -> u64 {
        self.0 >> (u64::BITS - SITE_BITS)
    }
}

/// Why a nonce is not taken. Both are answered with a new challenge that says `stale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NonceError {
    /// Not of this key and realm.
    #[error("not a nonce of this realm")]
    Foreign,
    /// Too old.
    #[error("the nonce is too old")]
    Expired,
}

/// Makes and knows nonces (RFC 7616 §3.3 has the idea). A key must not outlive the [`NonceCounts`](super::NonceCounts) that
/// are kept for its nonces.
#[derive(Clone)]
pub struct NonceKey(Hmac<Sha256>);

impl NonceKey {
    /// With a random key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> NonceKey {
        // As long as a block of the hash (RFC 2104 §2).
        let mut block = [0; 64];
        block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        NonceKey(Hmac::new(&block.into()))
    }

    /// Who an address is.
    #[must_use]
    pub fn origin(&self, address: IpAddr) -> Origin {
        let (octets, of_network, of_site): (Vec<u8>, usize, usize) = match address.to_canonical() {
            IpAddr::V4(address) => (address.octets().to_vec(), 2, 4),
            IpAddr::V6(address) => (address.octets().into_iter().take(8).collect(), 4, 6),
        };
        let network = octets.get(..of_network).unwrap_or_default();
        let site = octets.get(..of_site).unwrap_or_default();
        let hash = |parts: &[&[u8]]| {
            let mut first = [0; 8];
            first.iter_mut().zip(self.code(parts)).for_each(|(to, from)| *to = from);
            u64::from_be_bytes(first)
        };
        let first = |bits: u32| u64::MAX << (u64::BITS - bits);
        let (network, site) = (hash(&[b"network", network]), hash(&[b"site", site]));
        let of_site = network & first(NETWORK_BITS) | site & !first(NETWORK_BITS);
        Origin(of_site & first(SITE_BITS) | hash(&[b"origin", &octets]) & !first(SITE_BITS))
    }

    /// The text of a nonce.
    #[must_use]
    pub fn write(&self, realm: &str, nonce: &Nonce) -> String {
        let numbers = numbers(nonce);
        let code = self.code(&[b"nonce", realm.as_bytes(), &numbers]);
        hexadecimal(&numbers) + &hexadecimal(&code)
    }

    /// Reads a nonce that came back.
    ///
    /// # Errors
    /// [`NonceError`]
    pub fn read(&self, realm: &str, text: &str, now: u64, lifetime_milliseconds: u64) -> Result<Nonce, NonceError> {
        let bytes = from_hexadecimal(text).filter(|bytes| bytes.len() == NUMBER_BYTES + CODE_BYTES);
        let bytes = bytes.ok_or(NonceError::Foreign)?;
        let (numbers, given) = bytes.split_at_checked(NUMBER_BYTES).ok_or(NonceError::Foreign)?;
        let code = self.code(&[b"nonce", realm.as_bytes(), numbers]);
        if !bool::from(code.ct_eq(given)) {
            return Err(NonceError::Foreign);
        }
        let mut each = numbers.chunks(8).map(|number| number.try_into().map_or(0, u64::from_be_bytes));
        let mut next = || each.next().unwrap_or(0);
        let nonce = Nonce { issued_at: next(), origin: Origin(next()), number: next() };
        // Another thread may have looked at the clock a moment later.
        if nonce.issued_at.abs_diff(now) > lifetime_milliseconds {
            return Err(NonceError::Expired);
        }
        Ok(nonce)
    }

    fn code(&self, parts: &[&[u8]]) -> [u8; CODE_BYTES] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let mut code = [0; CODE_BYTES];
        code.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(to, from)| *to = from);
        code
    }
}

fn numbers(nonce: &Nonce) -> [u8; NUMBER_BYTES] {
    let all = [nonce.issued_at, nonce.origin.0, nonce.number];
    let mut bytes = [0; NUMBER_BYTES];
    bytes.iter_mut().zip(all.into_iter().flat_map(u64::to_be_bytes)).for_each(|(to, from)| *to = from);
    bytes
}
