//! How needles begin.

use zeroize::Zeroizing;

use crate::forms::SHORT;

/// Bits for each needle: of the places where none begins, one of so many is searched all the same.
const SPARSE: usize = 16;

/// Tells of most places of a text that no needle begins there, for one access to memory instead of a search.
#[derive(Default)]
pub(crate) struct Beginnings {
    /// A Bloom filter of their first [`SHORT`] bytes.
    bits: Zeroizing<Vec<u64>>,
    /// How many bits of a hash are used.
    used: u32,
    /// The first bytes of shorter ones.
    short: Zeroizing<Vec<u8>>,
}

impl Beginnings {
    pub(crate) fn of<'a>(needles: impl ExactSizeIterator<Item = &'a [u8]>) -> Self {
        let used = (needles.len() * SPARSE)
            .max(64)
            .next_power_of_two()
            .ilog2()
            .min(u32::BITS);
        let mut this = Self {
            bits: Zeroizing::new(vec![0; 1 << (used - 6)]),
            used,
            short: Zeroizing::default(),
        };
        for needle in needles {
            match needle.first_chunk() {
                Some(&first) => {
                    let (word, bit) = this.place(first);
                    this.bits[word] |= bit;
                }
                None => this.short.extend(needle.first()),
            }
        }
        this
    }

    /// False: none does.
    pub(crate) fn may_begin(&self, text: &[u8]) -> bool {
        let begins = text.first_chunk().is_some_and(|&first| {
            let (word, bit) = self.place(first);
            self.bits.get(word).is_some_and(|word| word & bit != 0)
        });
        begins || text.first().is_some_and(|first| self.short.contains(first))
    }

    fn place(&self, first: [u8; SHORT]) -> (usize, u64) {
        // Fibonacci hashing: its first bits are the best.
        let hash = u32::from_le_bytes(first).wrapping_mul(0x9e37_79b1);
        let place = u64::from(hash) >> (u32::BITS - self.used);
        (usize::try_from(place >> 6).expect("at most 26 bits"), 1 << (place & 63))
    }
}
