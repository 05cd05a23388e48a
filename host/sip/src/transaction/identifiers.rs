//! Branches, tags and Call-IDs of our own: unique, and telling which shard they belong to.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::key::MAGIC_COOKIE;

/// Makes branches and tags. Pure: the key is random, passed in, and used for nothing else.
#[derive(Debug)]
pub struct Identifiers {
    shard: u8,
    key: [u8; 32],
    counter: u64,
}

impl Identifiers {
    /// Of one shard.
    #[must_use]
    pub fn new(shard: u8, key: [u8; 32]) -> Identifiers {
        Identifiers { shard, key, counter: 0 }
    }

    /// A branch that carries the transaction's number.
    pub(super) fn branch(&mut self, transaction: u64) -> String {
        let random = self.random() >> 96;
        format!("{MAGIC_COOKIE}r{:02x}{transaction:016x}{random:08x}", self.shard)
    }

    /// A tag for From or To, unguessable.
    pub fn tag(&mut self) -> String {
        let random = self.random() >> 48;
        format!("r{:02x}{random:020x}", self.shard)
    }

    /// The tag of an answer that is given without state: the same for every repetition of a request (RFC 3261 §8.2.7).
    pub(super) fn tag_for(&self, request: &str) -> String {
        let mark = u128::from_be_bytes(keyed(&self.key, request.as_bytes())) >> 48;
        format!("r{:02x}{mark:020x}", self.shard)
    }

    /// What a branch ends with, so that the same request is known when it comes back: keyed, since anybody may read it.
    #[must_use]
    pub fn loop_mark(&self, key: &str) -> String {
        format!(".l{:016x}", u128::from_be_bytes(keyed(&self.key, key.as_bytes())) >> 64)
    }

    /// 128 bits that nobody can guess.
    pub fn random(&mut self) -> u128 {
        self.counter = self.counter.wrapping_add(1);
        let digest = keyed(&self.key, &self.counter.to_be_bytes());
        u128::from_be_bytes(digest)
    }
}

/// The transaction's number in a branch of ours.
pub(super) fn transaction_of_branch(branch: &str) -> Option<u64> {
    let rest = branch.strip_prefix(MAGIC_COOKIE)?.strip_prefix('r')?;
    u64::from_str_radix(rest.get(2..18)?, 16).ok()
}

/// The shard in a branch of ours.
#[must_use]
pub fn shard_of_branch(branch: &str) -> Option<u8> {
    shard_of_tag(branch.strip_prefix(MAGIC_COOKIE)?)
}

/// The shard in a tag of ours.
#[must_use]
pub fn shard_of_tag(tag: &str) -> Option<u8> {
    u8::from_str_radix(tag.strip_prefix('r')?.get(..2)?, 16).ok()
}

/// Marks our own requests, so that one that comes back is known for what it is: a keyed digest in the Call-ID, which
/// nobody else can write. It holds across restarts as long as the key does.
#[derive(Clone)]
pub struct OwnMark {
    key: [u8; 32],
    host: String,
}

impl OwnMark {
    /// With a secret key, and the host that Call-IDs name.
    #[must_use]
    pub fn new(key: [u8; 32], host: &str) -> OwnMark {
        OwnMark { key, host: host.to_owned() }
    }

    /// The Call-ID for a name: always the same for the same name, so that repetitions of a delivery share it.
    #[must_use]
    pub fn call_id(&self, name: &str) -> String {
        format!("{name}.{}@{}", self.mark(&[name]), self.host)
    }

    /// The name in a Call-ID of ours; none for anybody else's.
    #[must_use]
    pub fn name_of<'a>(&self, call_id: &'a str) -> Option<&'a str> {
        let local = call_id.split_once('@').map_or(call_id, |(local, _)| local);
        let (name, mark) = local.rsplit_once('.')?;
        is_same(&self.mark(&[name]), mark).then_some(name)
    }

    /// A name that means something together with `context` alone, and is no Call-ID of ours.
    #[must_use]
    pub fn bound(&self, name: &str, context: &str) -> String {
        format!("{name}.{}", self.mark(&[name, context]))
    }

    /// The name that was bound to this context; none for anything else.
    #[must_use]
    pub fn bound_name_of<'a>(&self, text: &'a str, context: &str) -> Option<&'a str> {
        let (name, mark) = text.rsplit_once('.')?;
        is_same(&self.mark(&[name, context]), mark).then_some(name)
    }

    /// A keyed digest, 24 digits, of what is to be known again.
    #[must_use]
    pub fn digest(&self, text: &str) -> String {
        self.mark(&["", text])
    }

    fn mark(&self, parts: &[&str]) -> String {
        // No text has this octet: so many parts are never taken for others.
        let data = parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>().join(&0xff);
        format!("{:024x}", u128::from_be_bytes(keyed(&self.key, &data)) >> 32)
    }
}

/// Compares in a time that does not tell where they differ.
fn is_same(expected: &str, mark: &str) -> bool {
    let differs = expected.bytes().zip(mark.bytes()).fold(0, |differs, (one, other)| differs | (one ^ other));
    differs == 0 && expected.len() == mark.len()
}

/// The first 16 bytes of an HMAC-SHA-256.
fn keyed(key: &[u8; 32], data: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) {
        mac.update(data);
        let digest = mac.finalize().into_bytes();
        for (to, from) in out.iter_mut().zip(digest) {
            *to = from;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_is_read_back() {
        let mut identifiers = Identifiers::new(3, [7; 32]);
        let branch = identifiers.branch(42);
        assert_eq!((shard_of_branch(&branch), transaction_of_branch(&branch)), (Some(3), Some(42)));
        let tag = identifiers.tag();
        assert_eq!(shard_of_tag(&tag), Some(3));
        assert_ne!(tag, identifiers.tag());
        for foreign in ["", "z9hG4bK", "z9hG4bKx", "z9hG4bKré", "r", "rzz"] {
            assert_eq!((shard_of_branch(foreign), shard_of_tag(foreign)), (None, None), "{foreign}");
        }
    }

    #[test]
    fn random_numbers_say_nothing_of_each_other_to_who_does_not_know_the_key() {
        const MANY: usize = 1_000;
        let numbers = |shard: u8, key: u8| -> Vec<u128> {
            let mut identifiers = Identifiers::new(shard, [key; 32]);
            (0..MANY).map(|_| identifiers.random()).collect()
        };
        let (one, other) = (numbers(0, 1), numbers(0, 2));
        for bit in 0..u128::BITS {
            let set = one.iter().filter(|number| *number >> bit & 1 == 1).count();
            assert!((400..600).contains(&set), "bit {bit} is set in {set} of {MANY}");
        }
        // Of two numbers that have nothing to do with each other half of all bits differ; 24 or fewer never do.
        let differ = |one: u128, other: u128| (one ^ other).count_ones() > 24;
        assert!(one.windows(2).all(|two| differ(two[0], two[1])), "of the one before");
        let steps: Vec<u128> = one.windows(2).map(|two| two[1].wrapping_sub(two[0])).collect();
        assert!(steps.windows(2).all(|two| differ(two[0], two[1])), "nor of a step");
        assert!(one.iter().zip(&other).all(|(one, other)| differ(*one, *other)), "of another server's");
        assert_eq!(one, numbers(0, 1), "the key is all that is secret");
    }

    #[test]
    fn only_we_can_mark_a_call_id() {
        let mark = OwnMark::new([1; 32], "example.org");
        let call_id = mark.call_id("d00000000000000a1");
        assert_eq!(mark.name_of(&call_id), Some("d00000000000000a1"));
        assert_eq!(call_id, mark.call_id("d00000000000000a1"));
        assert_eq!(OwnMark::new([2; 32], "example.org").name_of(&call_id), None);
        assert_eq!(mark.name_of(&call_id.replace("a1", "a2")), None);
        assert_eq!(mark.name_of("d1.@x"), None);
        assert_eq!(mark.name_of("x@y"), None);
    }
}
