//! A Bloom filter whose probes for one key lie in one cache line, so that asking costs one look into memory.

/// Bits in a block: a cache line.
const BLOCK_BITS: u64 = 512;
/// Bits per key at capacity: below one wrong "maybe" in a hundred.
const BITS_PER_KEY: u64 = 12;
/// Bits set per key, each found by nine bits of the key.
const PROBES: u32 = 7;

/// The filter. Keys are digests already, so that their own bits serve as hashes.
#[derive(Debug)]
pub(super) struct Filter {
    blocks: Vec<[u64; 8]>,
}

impl Filter {
    /// For so many keys.
    pub(super) fn new(capacity: usize) -> Filter {
        let blocks = (capacity as u64).saturating_mul(BITS_PER_KEY).div_ceil(BLOCK_BITS).max(1);
        Filter { blocks: vec![[0; 8]; usize::try_from(blocks).unwrap_or(usize::MAX)] }
    }

    /// Forgets every key.
    pub(super) fn clear(&mut self) {
        self.blocks.fill([0; 8]);
    }

    pub(super) fn insert(&mut self, key: u128) {
        let index = self.block(key);
        if let Some(block) = self.blocks.get_mut(index) {
            for bit in probes(key) {
                if let Some(word) = block.get_mut(bit / 64) {
                    *word |= 1 << (bit % 64);
                }
            }
        }
    }

    /// False: certainly not inserted.
    pub(super) fn may_contain(&self, key: u128) -> bool {
        self.blocks.get(self.block(key)).is_some_and(|block| {
            probes(key).all(|bit| block.get(bit / 64).is_some_and(|word| word & (1 << (bit % 64)) != 0))
        })
    }

    /// The upper half of the key, scaled to the number of blocks.
    fn block(&self, key: u128) -> usize {
        let scaled = (key >> 64).wrapping_mul(self.blocks.len() as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }
}

fn probes(key: u128) -> impl Iterator<Item = usize> {
    let low = key as u64;
    (0..PROBES).map(move |probe| ((low >> (probe * 9)) % BLOCK_BITS) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> u128 {
        // Any good mixer: the finalizer of SplitMix64, twice.
        let mix = |seed: u64| {
            let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^ (mixed >> 31)
        };
        u128::from(mix(number.wrapping_mul(2) + 1)) << 64 | u128::from(mix(number.wrapping_mul(3) + 7))
    }

    #[test]
    fn the_filter_forgets_nothing_and_is_seldom_wrong() {
        for capacity in [100, 200_000] {
            let mut filter = Filter::new(capacity);
            let count = capacity as u64;
            (0..count).for_each(|number| filter.insert(key(number)));
            assert!((0..count).all(|number| filter.may_contain(key(number))));
            let wrong = (1_000_000..1_100_000).filter(|number| filter.may_contain(key(*number))).count();
            assert!(wrong < 1_500, "{wrong} of 100000 with {capacity}");
            filter.clear();
            assert!(!(0..count).any(|number| filter.may_contain(key(number))));
        }
    }
}
