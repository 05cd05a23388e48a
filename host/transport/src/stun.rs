//! STUN as a keep-alive of UDP flows (RFC 5626 §4.4.2 and §8, RFC 5389): a Binding request beside SIP on the same port is
//! answered with the address that it came from, and nothing else is. The source of a datagram may be forged, so that nobody is
//! sent more answers than flows that are kept alive need.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::permit::source_of;

const HEADER_BYTES: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// Attributes from here on may be passed over (RFC 5389 §15).
const FIRST_OPTIONAL: u16 = 0x8000;
/// Longest request that is looked at: one that keeps a flow alive has no attributes, or a name of its software.
const MAX_REQUEST_BYTES: usize = 548;
/// The shortest time between two keep-alives of a flow (RFC 5626 §4.4.2).
const WINDOW: Duration = Duration::from_secs(24);
/// Of a flow within it: one, and once more where it was lost.
const ANSWERS_PER_FLOW: u32 = 2;
/// Counts of sources. Two sources that share one share its answers, too.
const COUNTS: usize = 1 << 16;

/// How many answers sources had within [`WINDOW`].
///
/// Counts are found by a hash under a key that nobody knows: whoever forges all sources that there are fills no table that others
/// need a place in, and whoever wants somebody in particular to get no answers does not know whose count is shared.
#[derive(Debug)]
pub(crate) struct StunAnswers {
    most: u32,
    hasher: RandomState,
    began: Instant,
    counts: Box<[u32]>,
}

impl StunAnswers {
    /// For sources of at most so many flows each.
    pub(crate) fn new(flows_per_source: usize, now: Instant) -> StunAnswers {
        let flows = u32::try_from(flows_per_source).unwrap_or(u32::MAX);
        StunAnswers {
            most: flows.saturating_mul(ANSWERS_PER_FLOW),
            hasher: RandomState::new(),
            began: now,
            counts: vec![0; COUNTS].into(),
        }
    }

    /// Counts an answer; false: it is one too many.
    pub(crate) fn may_answer(&mut self, address: IpAddr, now: Instant) -> bool {
        if now.saturating_duration_since(self.began) >= WINDOW {
            self.began = now;
            self.counts.fill(0);
        }
        let place = self.hasher.hash_one(source_of(address)) % COUNTS as u64;
        let Some(count) = usize::try_from(place).ok().and_then(|place| self.counts.get_mut(place)) else {
            return false;
        };
        let is_one_too_many = *count >= self.most;
        *count = count.saturating_add(1);
        !is_one_too_many
    }
}

/// Whether a datagram is STUN and no SIP: no SIP begins with these bits, and the cookie stands where it must.
pub(crate) fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0xC0 == 0) && datagram.get(4..8) == Some(&MAGIC_COOKIE)
}

/// The answer to a Binding request; none to everything else, and to what cannot be read.
///
/// Deviation: attributes that must be understood (RFC 5389 §7.3.1: 420) get no answer. None of them stands in a keep-alive.
pub(crate) fn answer(datagram: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    let number = |at: usize| Some(u16::from_be_bytes(datagram.get(at..at.checked_add(2)?)?.try_into().ok()?));
    let is_whole = usize::from(number(2)?).checked_add(HEADER_BYTES) == Some(datagram.len());
    let is_request = is_stun(datagram) && number(0)? == BINDING_REQUEST && datagram.len() <= MAX_REQUEST_BYTES;
    if !is_request || !is_whole || !can_be_answered(datagram.get(HEADER_BYTES..)?) {
        return None;
    }
    let transaction = datagram.get(8..HEADER_BYTES)?;
    let mut value = vec![0, if source.is_ipv4() { 1 } else { 2 }];
    let key = [&MAGIC_COOKIE, transaction].concat();
    let hidden = |bytes: &[u8]| bytes.iter().zip(&key).map(|(byte, key)| byte ^ key).collect::<Vec<u8>>();
    value.extend(hidden(&source.port().to_be_bytes()));
    value.extend(match source.ip() {
        IpAddr::V4(address) => hidden(&address.octets()),
        IpAddr::V6(address) => hidden(&address.octets()),
    });
    let length = u16::try_from(value.len()).ok()?;
    let mut answer = Vec::with_capacity(HEADER_BYTES + 4 + value.len());
    answer.extend(BINDING_SUCCESS.to_be_bytes());
    answer.extend(length.checked_add(4)?.to_be_bytes());
    answer.extend(MAGIC_COOKIE);
    answer.extend(transaction);
    answer.extend(XOR_MAPPED_ADDRESS.to_be_bytes());
    answer.extend(length.to_be_bytes());
    answer.extend(value);
    Some(answer)
}

/// Whether every attribute is whole and may be passed over.
fn can_be_answered(mut attributes: &[u8]) -> bool {
    while let Some((head, rest)) = attributes.split_first_chunk::<4>() {
        let [first, second, third, fourth] = *head;
        let length = usize::from(u16::from_be_bytes([third, fourth])).next_multiple_of(4);
        match rest.get(length..) {
            Some(next) if u16::from_be_bytes([first, second]) >= FIRST_OPTIONAL => attributes = next,
            _ => return false,
        }
    }
    attributes.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSACTION: [u8; 12] = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    fn request(attributes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        [&[0, 1], &length[..], &MAGIC_COOKIE, &TRANSACTION, attributes].concat()
    }

    #[test]
    fn a_request_is_answered_with_where_it_came_from() {
        // The values of RFC 5769 §2.2 and §2.3.
        for (source, value) in [
            ("192.0.2.1:32853", &[0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43][..]),
            (
                "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
                &[
                    0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe,
                    0xd2, 0xb9, 0xd9,
                ],
            ),
        ] {
            let length = u8::try_from(value.len()).unwrap();
            let expected =
                [&[1, 1, 0, length + 4], &MAGIC_COOKIE[..], &TRANSACTION, &[0, 0x20, 0, length], value].concat();
            // With the name of a software, which is padded.
            for attributes in [&[][..], &[0x80, 0x22, 0, 3, b'a', b'b', b'c', 0]] {
                assert_eq!(answer(&request(attributes), source.parse().unwrap()), Some(expected.clone()), "{source}");
            }
        }
    }

    #[test]
    fn a_source_gets_as_many_answers_as_its_flows_need_and_others_get_theirs() {
        let began = Instant::now();
        let mut answers = StunAnswers::new(3, began);
        let [near, same, mapped, far] =
            ["2001:db8::1", "2001:db8::2", "::ffff:192.0.2.1", "192.0.2.1"].map(|text| text.parse::<IpAddr>().unwrap());
        for second in 0..3 {
            let now = began + Duration::from_secs(second * 7);
            assert!(answers.may_answer(near, now) && answers.may_answer(same, now), "{second}");
        }
        let later = began + Duration::from_secs(23);
        assert!(!answers.may_answer(near, later) && !answers.may_answer(same, later), "two for each of three flows");
        assert!((0..3).all(|_| answers.may_answer(mapped, later) && answers.may_answer(far, later)));
        assert!(!answers.may_answer(far, later));
        let next = began + WINDOW;
        assert!((0..6).all(|_| answers.may_answer(near, next)));
        assert!(!answers.may_answer(near, next));
    }

    #[test]
    fn whoever_forges_all_kinds_of_sources_takes_no_answers_from_others() {
        let began = Instant::now();
        let mut answers = StunAnswers::new(1_000, began);
        assert!((0..1_000_000_u32).all(|number| answers.may_answer(IpAddr::V4(number.into()), began)));
        assert!((0..1_000).all(|_| answers.may_answer("203.0.113.1".parse().unwrap(), began)));
    }

    #[test]
    fn nothing_else_is_answered() {
        let source = "192.0.2.1:5060".parse().unwrap();
        let whole = request(&[]);
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end], source), None);
        }
        let changed = |at: usize, byte: u8| {
            let mut request = whole.clone();
            request[at] = byte;
            request
        };
        for (what, datagram) in [
            ("a response", changed(0, 1)),
            ("an indication", changed(1, 0x11)),
            ("another cookie", changed(4, 0x22)),
            ("a length that is not", changed(3, 4)),
            ("an attribute that must be understood", request(&[0, 6, 0, 4, b'n', b'a', b'm', b'e'])),
            ("an attribute that is cut", request(&[0x80, 0x22, 0, 8, 1, 2, 3, 4])),
            ("half an attribute", request(&[0x80, 0x22])),
            ("a long one", request(&[&[0x80, 0x22, 3, 0][..], &[0; 768]].concat())),
            ("SIP", b"OPTIONS sip:example.org SIP/2.0\r\n\r\n".to_vec()),
        ] {
            assert_eq!(answer(&datagram, source), None, "{what}");
        }
    }
}
