//! Randomness of this process.

/// Random bytes. Without a source of them nothing here can be made safely, so that its absence ends the process.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap_or_else(|error| panic!("the system has no random numbers: {error}"));
    bytes
}

/// 128 random bits in hexadecimal.
pub(crate) fn token() -> String {
    format!("{:032x}", u128::from_be_bytes(bytes()))
}

/// A random UUID (RFC 9562 §5.4).
pub(crate) fn uuid() -> String {
    let bits = (u128::from_be_bytes(bytes()) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let text = format!("{bits:032x}");
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_uuid_says_that_it_is_random() {
        let uuid = super::uuid();
        let shape: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(shape, [8, 4, 4, 4, 12]);
        assert_eq!(&uuid[14..15], "4");
        assert!("89ab".contains(&uuid[19..20]));
        assert_ne!(uuid, super::uuid());
    }
}
