//! The session ids that we make: unguessable, and naming the shard that owns the session.

/// Letter that marks a session id as ours.
const MARK: char = 's';
const SHARD_DIGITS: usize = 4;
const RANDOM_DIGITS: usize = 32;

/// A session id of 128 random bits (RFC 4975 §14.1 asks for 80) that carries the shard's number.
///
/// `random` must be fresh and unpredictable for every session.
#[must_use]
pub fn new_session_id(shard: u16, random: [u8; 16]) -> String {
    format!("{MARK}{shard:04x}-{:032x}", u128::from_be_bytes(random))
}

/// Letter that marks the session id of a client of our relay.
const RELAY_MARK: char = 'r';

/// A session id of 128 random bits for a client of our relay. `random` must be fresh and unpredictable.
#[must_use]
pub fn new_relay_session_id(random: [u8; 16]) -> String {
    format!("{RELAY_MARK}{:032x}", u128::from_be_bytes(random))
}

/// Whether a session id looks like one of those. Anybody can write such an id.
#[must_use]
pub fn is_relay_session_id(session_id: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    session_id.strip_prefix(RELAY_MARK).is_some_and(|random| random.len() == RANDOM_DIGITS && is_hex(random))
}

/// The shard that a session id of ours names; `None` for any other text.
///
/// Anybody can write such an id: the number only says where to look, never that the session exists.
#[must_use]
pub fn shard_of_session_id(session_id: &str) -> Option<u16> {
    let (shard, random) = session_id.strip_prefix(MARK)?.split_once('-')?;
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if shard.len() != SHARD_DIGITS || random.len() != RANDOM_DIGITS || !is_hex(shard) || !is_hex(random) {
        return None;
    }
    u16::from_str_radix(shard, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_is_read_back() {
        for shard in [0, 1, 255, u16::MAX] {
            assert_eq!(shard_of_session_id(&new_session_id(shard, [0xa5; 16])), Some(shard));
        }
    }

    #[test]
    fn the_two_kinds_are_told_apart() {
        let (ours, relayed) = (new_session_id(7, [1; 16]), new_relay_session_id([1; 16]));
        assert!(is_relay_session_id(&relayed) && !is_relay_session_id(&ours));
        assert_eq!(shard_of_session_id(&relayed), None);
        assert!(!is_relay_session_id(&relayed[1..]) && !is_relay_session_id(&relayed.to_uppercase()));
    }

    #[test]
    fn other_ids_name_no_shard() {
        let ours = new_session_id(7, [1; 16]);
        for other in ["", "s", "9di4eae923wzd", "s0007", &ours[1..], &ours[..ours.len() - 1], &format!("{ours}0")] {
            assert_eq!(shard_of_session_id(other), None, "{other}");
        }
        assert_eq!(shard_of_session_id(&ours.to_uppercase()), None);
    }
}
