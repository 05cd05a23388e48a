//! Transaction ids and Message-IDs that we make.

use crate::framing::TransactionId;

/// Makes ids that never repeat in a session and that nobody outside can tell beforehand.
///
/// Every id is 64 bits mixed from secret random bits and a counter, and the counter itself. That content never holds our
/// end-line does not rest on it: content is searched for the id before it is sent (RFC 4975 §7.1).
#[derive(Debug)]
pub(crate) struct TransactionIds {
    secret: [u64; 2],
    counter: u64,
}

impl TransactionIds {
    pub(crate) fn new(random: [u8; 16]) -> TransactionIds {
        let random = u128::from_be_bytes(random);
        TransactionIds { secret: [(random >> 64) as u64, random as u64], counter: 0 }
    }

    /// 14 to 26 characters of `ident`, the first alphanumeric.
    pub(crate) fn next(&mut self) -> TransactionId {
        self.counter = self.counter.wrapping_add(1);
        let mixed = mix(self.secret[0] ^ mix(self.counter ^ self.secret[1]));
        let mut text = String::with_capacity(26);
        push_base32(&mut text, mixed, 13);
        push_base32(&mut text, self.counter, 1);
        TransactionId(text)
    }

    /// One that does not occur in `content` after seven hyphens, with or without a line before it.
    pub(crate) fn next_absent_from(&mut self, content: &[u8]) -> TransactionId {
        loop {
            let transaction_id = self.next();
            let end_line = format!("{}{}", crate::framing::END_LINE_HYPHENS, transaction_id.as_str());
            // Ends: the ids differ from each other and the content is finite.
            if memchr::memmem::find(content, end_line.as_bytes()).is_none() {
                return transaction_id;
            }
        }
    }
}

/// The finalizer of SplitMix64, a bijection.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Five bits a character, lowest first, at least `min_digits` of them.
fn push_base32(text: &mut String, mut value: u64, min_digits: usize) {
    let mut digits = 0;
    while digits < min_digits || value > 0 {
        let digit = u32::try_from(value % 32).unwrap_or_default();
        text.push(char::from_digit(digit, 32).unwrap_or('0'));
        value /= 32;
        digits += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_idents_and_never_repeat() {
        let mut ids = TransactionIds::new([7; 16]);
        let mut seen = HashSet::new();
        for _ in 0..100_000 {
            let id = ids.next();
            assert!((14..=32).contains(&id.as_str().len()));
            assert!(id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric()));
            assert!(seen.insert(id));
        }
    }

    #[test]
    fn an_id_that_the_content_holds_is_passed_over() {
        let mut told = TransactionIds::new([9; 16]);
        let (first, second) = (told.next(), told.next());
        let content = format!("foo-------{}$bar", first.as_str());
        assert_eq!(TransactionIds::new([9; 16]).next_absent_from(content.as_bytes()), second);
        assert_eq!(TransactionIds::new([9; 16]).next_absent_from(b"foo"), first);
    }
}
